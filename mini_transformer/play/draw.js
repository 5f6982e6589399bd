// Pictures as HTML: each function writes what it is given, and changes nothing.

/** Write HTML, as {text}. What is put into a template is escaped, unless it is HTML itself. */
function html(strings, ...values) {
  const put = (value) => {
    if (Array.isArray(value)) return value.map(put).join("");
    if (value?.text !== undefined) return value.text;
    if (value === null || value === undefined || value === false) return "";
    return String(value).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
  };
  return { text: strings.reduce((text, next, i) => text + put(values[i - 1]) + next) };
}

/** Write three digits, no more. */
const digits = (value) =>
  String(Math.abs(value) < 1e-3 ? 0 : Number(value.toPrecision(3))).replace("-", "−");

/** List what a select offers, [value, text]. */
function listOptions(options, chosen) {
  const mark = (value) => String(value) === String(chosen ?? "") && "selected";
  const draw = ([value, text]) => html`<option value="${value}" ${mark(value)}>${text}</option>`;
  return options.map(draw);
}

const BOX = { wide: 62, high: 28 };
const PORT = { q: -9, k: 0, v: 9, "": 0 }; // where on a head's side an edge ends

/** Draw a switch. */
function drawBox(does, of, isTicked, text) {
  return html`<label><input type="checkbox" data-do="${does}" data-of="${of}"
    data-key="${does} ${of}" ${isTicked && "checked"}>${text}</label>`;
}

/** Draw nodes {name, place, classes, label, role}, and edges, as wide as there is room. */
function drawGraph(nodes, edges, room) {
  const columns = Math.max(...nodes.map(({ place }) => place[0]));
  const apart = Math.min(150, Math.max(88, (room - 90) / columns));
  const at = {};
  for (const { name, place: [x, y] } of nodes) at[name] = [40 + x * apart, 52 - y * 72];
  const [width, height] = [0, 1].map((i) => 48 + Math.max(...Object.values(at).map((xy) => xy[i])));
  const lines = edges.map(({ name, writer, reader, part, index, classes }) => {
    const [start, from] = [at[writer][0] + BOX.wide / 2, at[writer][1]];
    const [end, to] = [at[reader][0] - BOX.wide / 2, at[reader][1] + PORT[part]];
    // An edge along a row bows over the nodes between.
    const bow = end - start > apart && Math.abs(to - from) < 12 ? 20 + (end - start) / 14 : 0;
    const bend = Math.max(14, (end - start) / 2.5);
    const [up, down] = [`${start + bend},${from - bow}`, `${end - bend},${to - bow}`];
    const d = `M${start},${from} C${up} ${down} ${end},${to}`;
    return html`<g class="edge ${classes}" data-do="toggle" data-of="${index}">
      <title>${name}</title>
      <path class="truth" d="${d}" /><path class="line" d="${d}" /><path class="hit" d="${d}" />
    </g>`;
  });
  const boxes = nodes.map(({ name, classes, label, role }) => {
    const [x, y] = at[name];
    return html`<g class="node ${classes}" role="button" tabindex="0" aria-label="${label}"
      data-do="select" data-of="${name}" data-key="node ${name}">
      <rect x="${x - BOX.wide / 2}" y="${y - BOX.high / 2}" width="${BOX.wide}" rx="6"
        height="${BOX.high}" /><text x="${x}" y="${y + 4.5}">${name}</text>
      <text class="role" x="${x}" y="${y + 27}">${role}</text></g>`;
  });
  return html`<svg role="group" aria-label="the parts of the model, from input to logits"
    viewBox="0 0 ${width} ${height}" style="width:${width}px"
    ><g aria-hidden="true">${lines}</g>${boxes}</svg>`;
}

/** Draw attention: a row per query, a square per key; the darker, the more. */
function drawPattern(pattern, classes = "") {
  const squares = Array(10).fill(""); // by tenths
  pattern.forEach((row, q) =>
    row.forEach((share, k) => (squares[Math.ceil(9 * share - 0.2)] += `M${k},${q}h1v1h-1z`)),
  );
  const paths = squares.map((d, level) => html`<path d="${d}" opacity="${level / 9}" />`);
  const size = pattern.length;
  return html`<svg class="pattern ${classes}" viewBox="0 0 ${size} ${size}" aria-hidden="true"
    >${paths.slice(1)}</svg>`;
}

/** Draw what each row adds, now (bar) and before (mark), from a zero in the middle. */
function drawBars(rows) {
  const most = Math.max(1e-9, ...rows.flatMap(({ now, before }) => [now, before].map(Math.abs)));
  const place = (value) => 50 + (48 * value) / most;
  const lines = rows.map(({ name, now, before }) => {
    const [left, right] = [Math.min(50, place(now)), Math.max(50, place(now))];
    const isChanged = Math.abs(now - before) > 1e-3 * most;
    return html`<tr><th scope="row">${name}</th><td class="track" aria-hidden="true"
      ><i class="${now < 0 ? "less" : "more"}" style="left:${left}%;width:${right - left}%"></i
      >${isChanged && html`<b style="left:${place(before)}%"></b>`}</td><td>${digits(now)}</td
      ><td class="before">${isChanged && digits(before)}</td></tr>`;
  });
  const head = ["part", "adds", "now", "before"].map((name) => html`<th scope="col">${name}</th>`);
  return html`<table class="bars"><tr>${head}</tr>${lines}</table>`;
}

/** Draw a table of cells {text, share, title, isChanged}, a row per name and a column per token. */
function drawTable(columns, rows) {
  const drawCell = ({ text, share, title, isChanged }) => html`<td title="${title}"
    class="${isChanged && "changed"}" style="--share:${share}">${text}</td>`;
  const head = columns.map((name) => html`<th scope="col">${name}</th>`);
  const body = rows.map(({ name, cells }) => html`<tr><th scope="row">${name}</th>${
    cells.map(drawCell)}</tr>`);
  return html`<table class="lens"><tr><td></td>${head}</tr>${body}</table>`;
}
