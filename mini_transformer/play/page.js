// The page: what is asked and edited (state), and what is shown of it.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const model = decodeModel(data);
const nodes = Object.keys(data.places);
const edges = data.edges.map(([from, to, part], index) => {
  const [writer, reader] = [nodes[from], nodes[to]];
  return { index, writer, reader, part, name: `${writer} → ${reader} ${part}` };
});
const length = data.prompts[0].clean.length;
const isNumber = data.outputs.length === 1; // the model says a number, not a token
const TIE = 1e-4; // logits that differ by less are equal: weights are rounded
const MOST_LINES = 160; // in the picture; of larger models, the edges of what is chosen
const state = { ablation: $("ablation").value, at: null, selected: "input", showTruth: false };
const runs = {}; // clean, other and now

const show = (id, content) => ($(id).innerHTML = content.text);
const readPosition = (text) => (text === "" ? null : Number(text));
const percent = (share) => `${Math.round(100 * share)}%`;
const nameTrue = (is) => Object.keys(is).filter((name) => is[name]).join(" ");
const findMost = (values) => values.indexOf(Math.max(...values));
const listPositions = () => state.clean.map((token, t) => [t, `${t}: ${data.tokens[token]}`]);
/** The mask of one edge, a number per position. */
const maskOf = ({ index }) => state.mask.subarray(index * length, (index + 1) * length);
const isOn = (edge) => maskOf(edge).some(Boolean);

function forgetEdits() {
  state.mask = new Uint8Array(edges.length * length).fill(1);
  state.neurons = new Map(); // from "layer neuron" to the position, or null
  $("amount").value = 0;
}

function choosePrompt(example) {
  const { clean, corrupt, asked } = data.prompts[example];
  const [position, answer, wrong] = asked[0];
  Object.assign(state, { clean: [...clean], other: [...corrupt], position, answer, wrong });
  if (isNumber) Object.assign(state, { answer: 0, wrong: null });
  state.right = isNumber ? digits(answer) : data.outputs[answer];
  preparePrompt();
}

/** Run what stays as it is while only edits change, and offer what can be chosen. */
function preparePrompt() {
  for (const which of ["clean", "other"]) {
    runs[which] = forward(model, state[which]);
    const names = data.tokens.map((name, token) => [token, name]);
    const selects = state[which].map((token, t) => {
      const place = `${which} ${t}`;
      return html`<select data-do="token" data-of="${place}" data-key="${place}"
        aria-label="token ${t} of the ${which} prompt">${listOptions(names, token)}</select>`;
    });
    show(which, html`${selects}`);
  }
  for (const name of ["answer", "wrong"]) $(name).value = state[name] ?? "";
  const everywhere = [["", "every position"], ...listPositions()];
  show("position", html`${listOptions(listPositions(), state.position)}`);
  show("at", html`${listOptions(everywhere, state.at)}`);
  show("steerAt", html`${listOptions(everywhere, $("steerAt").value)}`);
}

function readEdits(other) {
  const neurons = [...state.neurons].map(([name, at]) => {
    const [layer, neuron] = name.split(" ").map(Number);
    return { layer, neuron, at };
  });
  const mask = state.mask.includes(0) ? state.mask : null;
  const off = makeOff(model, state.ablation, other);
  return { neurons, steer: readSteering(), mask, off };
}

function readSteering() {
  const amount = Number($("amount").value);
  const at = readPosition($("steerAt").value);
  const choice = $("direction").value;
  const { W_U, W_E } = model.weights;
  const here = at ?? state.position;
  const read = (i) => {
    const out = (token) => (token === null ? 0 : W_U[i * data.outputs.length + token]);
    const embedded = (token) => W_E[token * model.config.d_model + i];
    if (choice === "answer") return out(state.answer) - out(state.wrong);
    if (choice === "token") return embedded(state.other[here]) - embedded(state.clean[here]);
    return runs.clean.written[nodes.indexOf(choice)][here][i];
  };
  const vector = Float64Array.from({ length: model.config.d_model }, (_, i) => amount * read(i));
  return amount ? [{ layer: Number($("layer").value), at, vector }] : [];
}

function update() {
  const key = document.activeElement?.dataset.key;
  runs.now = forward(model, state.clean, readEdits(runs.other));
  const live = listLive();
  const parts = [showSaid, showModel, showHeads, showAdded, showLens, showGuess];
  for (const part of parts) part(live);
  if (key) document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** Split the answer's logit, less that of the wrong one, into what each part adds. */
const split = (run) => attribute(model, run, state.position, state.answer, state.wrong);

const findShare = (logits) => Math.max(...softmax([...logits]));

/** Name the likeliest output, or the number that the model says. */
function nameOutput(logits) {
  if (isNumber) return digits(logits[0]);
  const most = findMost(logits);
  const isTie = logits.some((logit, out) => out !== most && logit > logits[most] - TIE);
  return isTie ? "tie" : data.outputs[most];
}

function showSaid() {
  const say = (run) => {
    const logits = run.logits[state.position];
    return `${nameOutput(logits)}${isNumber ? "" : ` (${percent(findShare(logits))})`}`;
  };
  const off = edges.filter((edge) => maskOf(edge).includes(0)).length;
  const steered = Number($("amount").value);
  const isEdited = off + state.neurons.size > 0 || steered !== 0;
  const where = `After token “${listPositions()[state.position][1]}” the model says`;
  show("says", html`${where} <strong>${say(runs.now)}</strong>${
    state.right && html` <span>right: ${state.right}</span>`}${
    isEdited && html` <span>before your edits: ${say(runs.clean)}</span>`}`);
  $("edited").textContent = `Off: ${off} of ${edges.length} edges, ${state.neurons.size} neurons.`;
  $("amountShown").textContent = steered;
  $("undo").disabled = !isEdited;
}

/** List the edges that are on and lead to the logits by edges that are on. */
function listLive() {
  const heard = new Set(["logits"]);
  return [...edges].reverse().filter((edge) => {
    const isLive = isOn(edge) && heard.has(edge.reader);
    if (isLive) heard.add(edge.writer);
    return isLive;
  });
}

/** Find the minimal circuit that these edges come nearest to, by F1. */
function findCircuit(left) {
  const known = data.circuits[state.ablation]?.edges ?? [];
  const compared = known.map((numbers) => {
    const circuit = numbers.map((i) => edges[i]);
    const common = circuit.filter((edge) => left.includes(edge)).length;
    return { circuit, common, f1: (2 * common) / (circuit.length + left.length) };
  });
  return compared.sort((one, other) => other.f1 - one.f1)[0];
}

function showModel(live) {
  const truth = (state.showTruth && findCircuit(live)?.circuit) || [];
  const isNear = ({ writer, reader }) => [writer, reader].includes(state.selected);
  const all = edges.length <= MOST_LINES ? edges : live;
  const drawn = all.length <= MOST_LINES ? all : [];
  const lines = [...new Set([...drawn, ...truth, ...edges.filter(isNear)])].map((edge) => {
    const is = { live: live.includes(edge), near: isNear(edge), true: truth.includes(edge) };
    return { ...edge, classes: `${edge.part} ${nameTrue(is)}` };
  });
  const heard = new Set(["logits", ...live.map(({ writer }) => writer)]);
  const boxes = nodes.map((name) => {
    const role = state.showTruth ? data.roles[name] ?? "" : "";
    const is = { selected: name === state.selected, off: !heard.has(name) };
    const label = `${name} ${role} ${nameTrue(is)}`;
    return { name, classes: nameTrue(is), role, label, place: data.places[name] };
  });
  const scrolled = $("graph").scrollLeft;
  show("graph", drawGraph(boxes, lines, $("graph").clientWidth));
  $("graph").scrollLeft = scrolled;
  showInspector(state.selected);
}

function showInspector(node) {
  const out = edges.filter(({ writer }) => writer === node);
  const into = edges.filter(({ reader }) => reader === node);
  const parts = [[node, out], [`what ${node} hears`, into]].filter(([, own]) => own.length);
  const list = (own) => own.map(({ index }) => index).join(" ");
  const buttons = parts.map(([what, own]) => html`<button data-do="toggle" data-of="${list(own)}"
    data-key="${what}">Switch ${what} ${own.some(isOn) ? "off" : "on"}</button>`);
  const boxes = parts.map(([what, own]) => html`<fieldset><legend>${what}</legend>${own.map(
    (edge) => drawBox("toggle", edge.index, isOn(edge), edge.name))}</fieldset>`);
  const isOpen = $("inspector").querySelector("details")?.open;
  show("inspector", html`<div class="row"><h3>${node}</h3>${buttons}</div>
    ${node.startsWith("m") && drawNeurons(Number(node.slice(1)))}
    <details ${isOpen && "open"}><summary>its edges, one by one</summary>${boxes}</details>`);
}

function drawNeurons(layer) {
  const fires = runs.now.post[layer][state.position];
  const isOff = (i) => state.neurons.has(`${layer} ${i}`);
  const shown = [...fires.keys()].filter((i) => fires[i] || isOff(i));
  shown.sort((i, j) => isOff(j) - isOff(i) || Math.abs(fires[j]) - Math.abs(fires[i]));
  const boxes = shown.slice(0, 12).map((i) =>
    drawBox("neuron", `${layer} ${i}`, !isOff(i), `${i} (${digits(fires[i])})`));
  return html`<fieldset><legend>its neurons that fire most here</legend>${boxes}</fieldset>`;
}

function showHeads() {
  const t = state.position;
  const heads = Object.entries(runs.now.patterns).map(([name, pattern]) => {
    const before = runs.clean.patterns[name];
    const isOther = pattern.some((row, q) => row.some((x, k) => Math.abs(x - before[q][k]) > 0.01));
    const most = findMost(pattern[t]);
    const looks = `at ${t} looks at ${listPositions()[most][1]} (${percent(pattern[t][most])})`;
    return html`<button class="head" aria-pressed="${name === state.selected}" data-do="select"
      data-of="${name}" data-key="head ${name}"><strong>${name}</strong><span class="pair">${
      drawPattern(pattern)}${isOther && drawPattern(before, "was")}</span>
      <small>${looks}${isOther && "; right: before"}</small></button>`;
  });
  show("heads", html`${heads}`);
}

function showAdded() {
  const before = new Map(split(runs.clean).map(({ name, value }) => [name, value]));
  const bars = split(runs.now).map(({ name, value: now }) => {
    return { name, now, before: before.get(name) ?? 0 };
  });
  const sum = (which) => bars.reduce((total, bar) => total + bar[which], 0);
  show("adds", drawBars([...bars, { name: "together", now: sum("now"), before: sum("before") }]));
}

function showLens() {
  const table = runs.now.lens.map(({ name, logits }, i) => {
    const cells = logits.map((row, t) => {
      const [text, before] = [row, runs.clean.lens[i].logits[t]].map(nameOutput);
      const share = isNumber ? 0 : findShare(row);
      const title = `${percent(share)}; before: ${before}`;
      return { text, share, title, isChanged: text !== before };
    });
    return { name: name.replace("a", "attention ").replace("m", "MLP "), cells };
  });
  show("layers", drawTable(state.clean.map((token) => data.tokens[token]), table));
}

/** Count the examples that are answered, some at a time, so that the page stays awake. */
function showGuess(live) {
  const count = (state.count = { right: 0, done: 0 }); // a later edit starts another
  const work = () => {
    const end = performance.now() + 15;
    while (count.done < data.prompts.length && performance.now() < end) {
      count.right += isRight(data.prompts[count.done++]);
    }
    if (count !== state.count) return;
    const isDone = count.done === data.prompts.length;
    $("score").textContent = `${live.length} of ${edges.length} edges are left; they answer ${
      count.right} of ${count.done}${isDone ? "" : " …"} examples.`;
    if (!isDone) setTimeout(work);
  };
  setTimeout(work, 20);
  const found = findCircuit(live);
  $("compare").hidden = !found;
  const told = found && `The circuit has ${found.circuit.length} edges; you have ${found.common}.`;
  $("truth").textContent = !found ? "Its circuit is not known." : state.showTruth ? told : "";
}

function isRight({ clean, corrupt, asked }) {
  const other = state.ablation === "resample" ? forward(model, corrupt) : runs.other;
  const { logits } = forward(model, clean, readEdits(other));
  return asked.every(([t, answer]) => {
    if (isNumber) return Math.abs(logits[t][0] - answer) < 0.01;
    return logits[t].every((logit, out) => out === answer || logit < logits[t][answer] - TIE);
  });
}

const actions = {
  select: (name) => (state.selected = name),
  /** Switch edges off where edits act, or on if all of them are off there. */
  toggle(list) {
    const chosen = list.split(" ").map((i) => maskOf(edges[i]));
    const places = state.at === null ? [...state.clean.keys()] : [state.at];
    const isOff = chosen.every((mask) => places.every((t) => !mask[t]));
    for (const mask of chosen) for (const t of places) mask[t] = Number(isOff);
  },
  neuron: (name) => state.neurons.delete(name) || state.neurons.set(name, state.at),
  undo: forgetEdits,
  truth: () => $("reveal").setAttribute("aria-pressed", (state.showTruth = !state.showTruth)),
  keep() {
    const { circuit } = findCircuit(listLive());
    for (const edge of edges) maskOf(edge).fill(Number(circuit.includes(edge)));
  },
  steer() {}, // read anew by every update
  example: choosePrompt,
  set: (value, name) => (state[name] = name === "ablation" ? value : readPosition(value)),
  token(value, place) {
    const [which, t] = place.split(" ");
    state[which][t] = Number(value);
    if (which === "clean") state.right = null; // nobody knows of a new prompt
    preparePrompt();
  },
};

/** Do what an element asks for by data-do, of data-of or its own value. */
function act(event) {
  const asked = event.target.closest("[data-do]");
  const isInput = asked && ["SELECT", "INPUT"].includes(asked.tagName);
  if (!asked || isInput !== (event.type === "input")) return;
  if (event.type === "keydown" && (asked.tagName !== "g" || !" Enter".includes(event.key))) return;
  if (event.type === "keydown") event.preventDefault();
  const { do: name, of } = asked.dataset;
  if (asked.tagName === "SELECT") actions[name](asked.value, of);
  else actions[name](of);
  update();
}

for (const type of ["click", "input", "keydown"]) document.addEventListener(type, act);
forgetEdits();
choosePrompt(0);
const own = split(runs.clean).filter(({ name }) => nodes.includes(name));
state.selected = own.sort((one, other) => Math.abs(other.value) - Math.abs(one.value))[0].name;
update();
