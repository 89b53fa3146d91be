function row(body, cells, numeric = [], head = "tbody", cell = "td") {
  const line = make("tr");
  cells.forEach((value, k) => {
    const td = make(cell, "", numeric.includes(k) ? "n" : "");
    td.append(value instanceof Node ? value : String(value ?? ""));
    line.append(td);
  });
  el(body).querySelector(head).append(line);
  return line;
}
const fixed = (v, digits = 2) => (v === null || v === undefined ? "–" : Number(v).toFixed(digits));
const several = (...nodes) => { const span = make("span"); span.append(...nodes); return span; };
const flagged = (text, kind = text) => make("span", text, "flag " + kind);

// The item's curve with its points in their own colours and the patient's value on it.
function sketch(curve, value, score, unit) {
  const points = curve.points;
  if (!points.length) return make("span", "no curve", "note");
  const w = 150, h = 40, pad = 5, space = "http://www.w3.org/2000/svg";
  const xs = points.map((p) => p[0]).concat(value === null ? [] : [value]);
  let low = Math.min(...xs), high = Math.max(...xs);
  const rim = (high - low || 1) * 0.08;
  low -= rim; high += rim;
  const top = Math.max(...points.map((p) => p[1])) || 1;
  const x = (v) => pad + ((w - 2 * pad) * (v - low)) / (high - low), y = (v) => h - pad - ((h - 2 * pad) * v) / top;
  const svg = document.createElementNS(space, "svg");
  const add = (tag, attributes, title) => {
    const node = document.createElementNS(space, tag);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    if (title) { node.append(document.createElementNS(space, "title")); node.firstChild.textContent = title; }
    svg.append(node);
  };
  svg.setAttribute("width", w); svg.setAttribute("height", h);
  svg.setAttribute("role", "img"); svg.setAttribute("aria-label", `${fixed(value)} ${unit || ""} gives ${fixed(score)} points`);
  add("line", { x1: pad, x2: w - pad, y1: y(0), y2: y(0), class: "axis" });
  const ends = [[low, points[0][1]], ...points, [high, points[points.length - 1][1]]];
  add("polyline", { points: ends.map((p) => `${x(p[0])},${y(p[1])}`).join(" "), fill: "none", class: "curve", "stroke-width": 1.5 });
  for (const [px, s, variation, rgb, label] of points) {
    const fill = rgb.length === 3 ? css(rgb) : "#5c6878";
    add("circle", { cx: x(px), cy: y(s), r: 3.2, fill, stroke: variation ? "#888" : "none" }, `${px} ${unit || ""} → ${s} ${label}${variation ? " (variation)" : ""}`);
  }
  if (value !== null) {
    add("line", { x1: x(value), x2: x(value), y1: 2, y2: h - 2, class: "mark", "stroke-dasharray": "2 2" });
    add("rect", { x: x(value) - 3.5, y: y(score) - 3.5, width: 7, height: 7, class: "mark", transform: `rotate(45 ${x(value)} ${y(score)})` }, `${fixed(value)} ${unit || ""} → ${fixed(score)}`);
  }
  return svg;
}

function headline(name, of) {
  const { limits } = of, flags = [["broken", "broken"], ["kept", "kept"], ["not checked", "not"]].filter(([key]) => limits[key]);
  const states = several(...flags.map(([key, kind]) => flagged(`${limits[key]} ${key}`, kind)));
  const points = of.withheld ? `withheld: ${of.withheld}` : `${fixed(of.total, 1)} of ${fixed(of.maximum, 0)} (${fixed(of.percent, 1)} %)`;
  row("headline", [name, states, of.lowest ? `${fixed(of.lowest[1], 1)} % (${of.lowest[0]})` : "not known", points]);
}

function figuresTable() {
  row("figures-table", ["structure", ...data.columns.map(([name, unit]) => name + (unit ? ` (${unit})` : ""))], data.columns.map((_, k) => k + 1), "thead", "th");
  data.columns.forEach(([, , meaning], k) => { el("figures-table").querySelectorAll("th")[k + 1].title = meaning; });
  const digits = data.columns.map(([name]) => (["CI", "HI"].includes(name) ? 3 : name === "volume" || name === "V20" ? 1 : 2));
  const cells = (values) => data.columns.map((_, k) => (values ? fixed(values[k], digits[k]) : "–"));
  for (const line of data.table) {
    const shown = row("figures-table", [line.name, ...cells(line.dose)], data.columns.map((_, k) => k + 1));
    if (line.why) { shown.title = line.why; shown.firstChild.append(make("small", " " + line.why)); }
    if ("reference" in line) row("figures-table", ["reference", ...cells(line.reference)], data.columns.map((_, k) => k + 1)).className = "ref";
  }
}

function scorecard(score) {
  for (const id of ["head", "limits-section", "scorecard-section"]) el(id).hidden = false;
  headline("this dose", data.headline);
  if (data.reference_score) headline("reference dose", data.reference_score);
  for (const note of data.notes.filter((text) => text.startsWith("This dose "))) el("cautions").append(make("li", note));
  for (const line of score.limits)
    row("limits", [line.structure, line.metric, line.limit, fixed(line.value), several(flagged(line.state, line.state.split(" ")[0]), line.why ? " " + line.why : "")], [3]);
  for (const line of score.targets)
    row("limits", [line.structure, "V95%[%], D95%[Gy]", `prescribed ${fixed(line.level_gy, 1)} Gy`, `${fixed(line.v95_percent, 1)} %, ${fixed(line.d95_gy)} Gy`, ""], [3]);
  el("card-name").textContent = score.scorecard;
  score.items.forEach((item, k) => {
    const last = several(flagged(item.flag), item.why ? " " + item.why : "");
    const value = item.value === null ? "–" : `${fixed(item.value)} ${item.unit || ""}`;
    const curve = sketch(score.curves[k], item.value, item.score, item.unit);
    row("items", [item.structure, item.matched, item.metric, value, curve, fixed(item.score), fixed(item.maximum, 1), last], [3, 5, 6]).title = score.curves[k].comment;
  });
  el("missing").textContent = score.missing.length
    ? `Left out of total and maximum: ${score.missing.join(", ")}. Compare the percentage only with patients who lack the same items.`
    : "Every item was scored.";
}

function tables() {
  el("case").textContent = data.case;
  el("facts").textContent = data.lines.map(([k, v]) => `${k}: ${v}`).join("\n");
  if (data.score) scorecard(data.score);
  figuresTable();
  if (data.comparison) {
    el("comparison").hidden = false;
    for (const [name, value] of Object.entries(data.comparison.figures)) row("figures", [name, fixed(value, 3)], [1]);
    for (const [name, [a, b]] of Object.entries(data.comparison.dvh))
      row("differences", [name, fixed(a), fixed(b), (b >= a ? "+" : "") + fixed(b - a)], [1, 2, 3]);
  }
  el("mapping-section").hidden = !data.mapping.length;
  for (const of of data.mapping) if (row("mapping", of) && of[3] === "ignored") el("mapping").querySelector("tbody").lastChild.className = "ignored";
  for (const note of data.notes) el("notes").append(make("li", note));
  if (!data.notes.length) el("notes").append(make("li", "none"));
  for (const [name, value] of Object.entries(data.provenance)) row("provenance", [name, value]);
}
