function row(body, cells, numeric = []) {
  const line = make("tr");
  cells.forEach((cell, k) => {
    const td = make("td", "", numeric.includes(k) ? "n" : "");
    td.append(cell instanceof Node ? cell : String(cell ?? ""));
    line.append(td);
  });
  el(body).querySelector("tbody").append(line);
  return line;
}
const fixed = (v, digits = 2) => (v === null || v === undefined ? "–" : Number(v).toFixed(digits));

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
  add("line", { x1: pad, x2: w - pad, y1: y(0), y2: y(0), stroke: "#dde2e8" });
  const ends = [[low, points[0][1]], ...points, [high, points[points.length - 1][1]]];
  add("polyline", { points: ends.map((p) => `${x(p[0])},${y(p[1])}`).join(" "), fill: "none", stroke: "#8793a3", "stroke-width": 1.5 });
  for (const [px, s, variation, rgb, label] of points) {
    const fill = rgb.length === 3 ? css(rgb) : "#5c6878";
    add("circle", { cx: x(px), cy: y(s), r: 3.2, fill, stroke: variation ? "#000" : "none" }, `${px} ${unit || ""} → ${s} ${label}${variation ? " (variation)" : ""}`);
  }
  if (value !== null) {
    add("line", { x1: x(value), x2: x(value), y1: 2, y2: h - 2, stroke: "#1c2430", "stroke-dasharray": "2 2" });
    add("rect", { x: x(value) - 3.5, y: y(score) - 3.5, width: 7, height: 7, fill: "#1c2430", transform: `rotate(45 ${x(value)} ${y(score)})` }, `${fixed(value)} ${unit || ""} → ${fixed(score)}`);
  }
  return svg;
}

function tables() {
  el("case").textContent = data.case;
  el("facts").textContent = data.lines.map(([k, v]) => `${k}: ${v}`).join("\n");
  const { score } = data;
  el("points").textContent = score.maximum ? `${fixed(score.total, 1)} of ${fixed(score.maximum, 0)}` : "not scored";
  el("points-note").textContent = `${fixed(score.percent, 1)} % of what could be scored, ${score.items.length - score.missing.length} of ${score.items.length} items`;
  el("card-name").textContent = score.scorecard;
  score.items.forEach((item, k) => {
    const flag = make("span", item.flag, "flag " + item.flag);
    const last = make("span"); last.append(flag, item.why ? " " + item.why : "");
    const value = item.value === null ? "–" : `${fixed(item.value)} ${item.unit || ""}`;
    const curve = sketch(score.curves[k], item.value, item.score, item.unit);
    row("items", [item.structure, item.matched, item.metric, value, curve, fixed(item.score), fixed(item.maximum, 1), last], [3, 5, 6]).title = score.curves[k].comment;
  });
  el("missing").textContent = score.missing.length
    ? `Left out of total and maximum: ${score.missing.join(", ")}. Compare the percentage only with patients who lack the same items.`
    : "Every item was scored.";
  if (data.comparison) {
    el("comparison").hidden = false;
    for (const [name, value] of Object.entries(data.comparison.figures)) row("figures", [name, fixed(value, 3)], [1]);
    for (const [name, [a, b]] of Object.entries(data.comparison.dvh))
      row("differences", [name, fixed(a), fixed(b), (b >= a ? "+" : "") + fixed(b - a)], [1, 2, 3]);
  }
  for (const note of data.notes) el("notes").append(make("li", note));
  if (!data.notes.length) el("notes").append(make("li", "none"));
  for (const [name, value] of Object.entries(data.provenance)) row("provenance", [name, value]);
}

function histogram() {
  const traces = [];
  for (const curve of data.dvh.curves)
    for (const key of ["reference", "dose"]) {
      if (!curve[key]) continue;
      traces.push({
        x: data.dvh.gy, y: curve[key], name: curve.name, legendgroup: curve.name, mode: "lines",
        showlegend: key === "dose", line: { color: curve.colour === "#e8e8e8" ? "#9aa4b0" : curve.colour, width: key === "dose" ? 2.2 : 1.6, dash: key === "dose" ? "solid" : "dash" },
        hovertemplate: `${curve.name}${key === "dose" ? "" : " (reference)"}, ${fixed(curve.cc, 1)} cc<br>%{y:.1f} % receive ≥ %{x:.1f} Gy<extra></extra>`,
      });
    }
  const levels = data.levels_gy.map((gy) => ({ type: "line", x0: gy, x1: gy, y0: 0, y1: 100, line: { color: "#aeb7c2", width: 1, dash: "dot" } }));
  el("dvh-note").textContent = arrays.reference ? "Solid: this dose. Dashed: the reference dose. Dotted: prescriptions. Click a name to hide it." : "Dotted: prescriptions. Click a name to hide it.";
  const axis = { gridcolor: "#edf0f3", zeroline: false, rangemode: "tozero" };
  return Plotly.newPlot("dvh", traces, {
    margin: { l: 60, r: 10, t: 10, b: 48 }, hovermode: "closest", shapes: levels, legend: { font: { size: 12 }, y: 0.94 },
    xaxis: { title: { text: "dose (Gy)" }, ...axis }, yaxis: { title: { text: "volume (%)" }, range: [0, 103], ...axis },
    font: { family: "system-ui, sans-serif", color: "#1c2430" }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
  }, { responsive: true, displaylogo: false });
}

async function start() {
  tables();
  const types = { ct: Uint8Array, dose: Uint16Array, reference: Uint16Array, masks: Uint32Array };
  for (const [name, Type] of Object.entries(types)) {
    const buffer = await unpack(name);
    if (buffer) arrays[name] = new Type(buffer);
  }
  addView("This dose", `wash from ${washFloor.toFixed(0)} Gy`, "dose");
  if (arrays.reference) {
    const sizes = [];
    for (let k = 0; k < arrays.dose.length; k += 7) {
      const delta = Math.abs(gyAt("dose", k) - gyAt("reference", k));
      if (delta > 0.05) sizes.push(delta);
    }
    sizes.sort((a, b) => a - b);
    diffTop = Math.max(2, Math.ceil(sizes[Math.floor(0.98 * sizes.length)] || 2));
    addView("Reference dose", "", "reference");
    addView("Difference", "this dose − reference", "difference");
  }
  controls();
  refresh();
  const script = make("script");
  script.textContent = new TextDecoder().decode(await unpack("plotly"));
  document.head.append(script);
  await histogram();
  document.title = `${data.case} · anydose report`;
  document.body.dataset.ready = "yes";
}
start();
