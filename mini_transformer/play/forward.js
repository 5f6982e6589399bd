// The forward pass of model.py for one prompt, its readers hearing writers as in edges.py.
//
// A stream is a list of vectors, one per position (t d). Weights are flat, with names and shapes
// of model.py: W[i * columns + j]. A mask has a number per edge and position, 1 for on, 0 for off.

const EPS = 1e-5;

/** Read the weights: whole numbers of 3 bytes, times the step of their matrix. */
function decodeModel({ config, shapes, weights }) {
  const bytes = atob(weights);
  const model = { config, weights: {} };
  let at = 0;
  const read = () => bytes.charCodeAt(at++);
  for (const [name, size, step] of shapes) {
    model.weights[name] = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      const number = read() | (read() << 8) | (read() << 16);
      model.weights[name][i] = ((number << 8) >> 8) * step; // the highest bit is the sign
    }
  }
  return model;
}

/** Add y times a factor to the vector x, in place. */
function add(x, y, factor = 1) {
  for (let i = 0; i < x.length; i++) x[i] += factor * y[i];
}

/** The same for streams. */
function addTo(x, y, factor = 1) {
  x.forEach((row, t) => add(row, y[t], factor));
  return x;
}

const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);

/** Return the i-th of W's rows, `size` long; nothing of nothing. */
const slice = (W, i, size) => W && W.subarray(i * size, (i + 1) * size);
const zerosLike = (x) => x.map((row) => new Float64Array(row.length));

/** Return x W + b at every position; W is (d, width). */
function project(x, W, b, width) {
  return x.map((row) => {
    const y = b ? Float64Array.from(b) : new Float64Array(width);
    for (let i = 0; i < row.length; i++) {
      if (row[i]) for (let j = 0; j < width; j++) y[j] += row[i] * W[i * width + j];
    }
    return y;
  });
}

/** Measure what a norm subtracts from a vector and divides it by. */
function measure(c, x) {
  const mean = c.norm === "layer" ? x.reduce((sum, value) => sum + value, 0) / x.length : 0;
  const square = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  return { mean, scale: Math.sqrt(square + EPS) };
}

/** Compute (x - mean) / scale * w + b, without b if a scale is given; without a norm, x. */
function normalize(model, x, name, scale = null) {
  if (model.config.norm === "none") return x;
  const [w, b] = ["w", "b"].map((letter) => model.weights[`${name}.${letter}`]);
  return x.map((row) => {
    const own = measure(model.config, row);
    const scaled = row.map((value, i) => ((value - own.mean) / (scale ?? own.scale)) * w[i]);
    return b && scale === null ? scaled.map((value, i) => value + b[i]) : scaled;
  });
}

function softmax(scores) {
  const highest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** Compute the error function to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const factors = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
  const sum = factors.reduce((total, factor) => (total + factor) * t, 0);
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const ACTS = {
  relu: (x) => Math.max(x, 0),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
};

/** Return what one head attends to (q k) and writes (t d), of what its q, k and v hear. */
function attend(model, layer, head, q_input, k_input, v_input) {
  const { config: c, weights: w } = model;
  const own = (name, size) => slice(w[`blocks.${layer}.attn.${name}`], head, size);
  const [q, k, v] = [q_input, k_input, v_input].map((input, i) => {
    const W = own(`W_${"QKV"[i]}`, c.d_model * c.d_head);
    return project(input, W, own(`b_${"QKV"[i]}`, c.d_head), c.d_head);
  });
  const isHidden = (t, s) => (c.causal && s > t) || (c.window && s <= t - c.window);
  const scores = q.map((query, t) =>
    k.map((key, s) => (isHidden(t, s) ? -Infinity : dot(query, key) / c.attn_scale)),
  );
  const pattern = scores.map(softmax);
  const z = zerosLike(q);
  pattern.forEach((row, t) => row.forEach((share, s) => add(z[t], v[s], share)));
  return { pattern, result: project(z, own("W_O", c.d_head * c.d_model), null, c.d_model) };
}

/**
 * Run the model on tokens. What is edited, all optional:
 * `mask`: which edges are on; one that is off carries what `off` says (see makeOff).
 * `neurons`: {layer, neuron, at}, which are also set to what `off` says.
 * `steer`: {layer, vector, at}, added to the stream that enters that layer.
 * `at` is a position, or null for all.
 */
function forward(model, tokens, { mask = null, off = null, neurons = [], steer = [] } = {}) {
  const { config: c, weights: w } = model;
  const rows = (W, chosen) => chosen.map((i) => Float64Array.from(slice(W, i, c.d_model)));
  const embed = rows(w.W_E, tokens);
  const pos = c.positions === "none" ? null : rows(w.W_pos, [...tokens.keys()]);
  const nothing = new Float64Array(c.d_model);
  const resid = zerosLike(embed); // the sum of all that was written
  // `stream` is what the logits hear, the sum of `parts`; `lens` are the logits after each layer.
  const run = { written: [], patterns: {}, post: [], parts: [], lens: [] };
  run.stream = zerosLike(embed);
  const nWriters = 1 + c.n_layers * (c.n_heads + Number(c.d_mlp > 0));
  const firstOfLogits = mask && mask.length / tokens.length - nWriters;
  const isOff = (edge, t) => mask !== null && !mask[edge * tokens.length + t];
  const here = (edit, t) => edit.at === null || edit.at === t;
  /** Add something to the stream, of which the logits may hear something else. */
  const tell = (name, value, heard = value) => {
    addTo(resid, value);
    addTo(run.stream, heard);
    run.parts.push({ name, value: heard });
  };
  /** Add what a node writes. */
  const write = (name, value) => {
    const writer = run.written.push(value) - 1;
    const carry = (x, t) => (isOff(firstOfLogits + writer, t) ? off.written[writer][t] : x);
    tell(name, value, value.map(carry));
  };
  const addSteering = (layer) => {
    for (const edit of steer.filter((one) => one.layer === layer)) {
      tell("steering", embed.map((_, t) => (here(edit, t) ? edit.vector : nothing)));
    }
  };
  const look = (name) => run.lens.push({ name, logits: unembed(model, run.stream) });
  let column = 0;
  /** Build what the next reader hears: each writer, or what its edge carries when it is off. */
  const hear = () => {
    const heard = resid.map((x) => x.slice());
    run.written.forEach((written, writer) => {
      heard.forEach((x, t) => {
        if (!isOff(column + writer, t)) return;
        add(x, off.written[writer][t]);
        add(x, written[t], -1);
      });
    });
    column += run.written.length;
    return heard;
  };

  const input = embed.map((x) => x.slice());
  if (pos && c.positions_to === "stream") addTo(input, pos);
  write("input", input);
  look("input");
  for (let layer = 0; layer < c.n_layers; layer++) {
    addSteering(layer);
    const results = [];
    for (let head = 0; head < c.n_heads; head++) {
      const inputs = ["q", "k", "v"].map((part) => {
        const normalized = normalize(model, hear(), `blocks.${layer}.ln1`);
        if (part === "v" || c.positions_to === "stream") return normalized;
        return addTo(normalized.map((x) => x.slice()), pos);
      });
      const { pattern, result } = attend(model, layer, head, ...inputs);
      run.patterns[`a${layer}.h${head}`] = pattern;
      results.push(result);
    }
    results.forEach((result, head) => write(`a${layer}.h${head}`, result));
    const bias = w[`blocks.${layer}.attn.b_O`];
    if (bias) tell(`a${layer}.bias`, tokens.map(() => bias));
    look(`a${layer}`);
    if (c.d_mlp) {
      const own = (name) => w[`blocks.${layer}.mlp.${name}`];
      const normalized = normalize(model, hear(), `blocks.${layer}.ln2`);
      const pre = project(normalized, own("W_in"), own("b_in"), c.d_mlp);
      const post = pre.map((x) => x.map(ACTS[c.act]));
      for (const edit of neurons.filter((neuron) => neuron.layer === layer)) {
        post.forEach((x, t) => here(edit, t) && (x[edit.neuron] = off.post[layer][t][edit.neuron]));
      }
      run.post.push(post);
      write(`m${layer}`, project(post, own("W_out"), own("b_out"), c.d_model));
      look(`m${layer}`);
    }
  }
  addSteering(c.n_layers);
  run.logits = unembed(model, run.stream);
  return run;
}

/** Turn the last stream into logits: the final norm, then W_U. */
function unembed(model, resid) {
  const { config: c, weights: w } = model;
  return project(normalize(model, resid, "ln_final"), w.W_U, w.b_U, c.d_vocab_out);
}

/** Say what is carried by what is off: zeros, means over the task, or what another run wrote. */
function makeOff(model, ablation, run) {
  if (ablation === "resample") return run;
  const replace = (name) => (stream, i) =>
    ablation === "zero" ? zerosLike(stream) : stream.map((x, t) =>
      slice(model.weights[`mean.${name}`], i * stream.length + t, x.length));
  return { written: run.written.map(replace("written")), post: run.post.map(replace("post")) };
}

/** Split logit a less logit b (null: nothing) at one position into what each part adds to it. */
function attribute(model, run, t, a, b = null) {
  const { config: c, weights: w } = model;
  const read = (logits) => logits[a] - (b === null ? 0 : logits[b]);
  const { scale } = measure(c, run.stream[t]); // held as it is: the rest of a norm is linear
  const adds = run.parts.map(({ name, value }) => {
    const normalized = normalize(model, [value[t]], "ln_final", scale);
    return { name, value: read(project(normalized, w.W_U, null, c.d_vocab_out)[0]) };
  });
  const rest = read(run.logits[t]) - adds.reduce((sum, { value }) => sum + value, 0);
  return w.b_U || w["ln_final.b"] ? [...adds, { name: "bias", value: rest }] : adds;
}
