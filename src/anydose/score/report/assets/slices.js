const WINDOWS = { "soft tissue": [-160, 240], lung: [-1350, 150], bone: [-450, 1050], wide: [-1000, 1000] };
const DASHES = { solid: [], dash: [7, 3], dot: [2, 3], dashdot: [7, 3, 2, 3], longdash: [12, 4] };
const LINES = ["#ffffff", "#ff5ad6", "#ff7a00", "#ffe600", "#7dff5a", "#4de1ff", "#b9a7ff"];
const SHOWN = { dose: "this dose", reference: "reference dose", difference: "difference" };
const state = { shown: "dose", hidden: new Set(), window: "soft tissue" };
const arrays = {};
const washTop = data.rx_max_gy * 1.12;
const washFloor = 0.1 * data.rx_max_gy;
let diffTop = 2;

// Isodoses of the highest prescription, and 95 % of every lower one.
const isodoses = [107, 105, 100, 95, 80, 50, 30].map((percent) => ({ gy: (percent / 100) * data.rx_max_gy, text: `${percent} %`, on: [107, 105, 95, 50].includes(percent) }))
  .concat(data.levels_gy.slice(1).map((gy) => ({ gy: 0.95 * gy, text: `95 % of ${gy.toFixed(1)} Gy`, on: true })))
  .sort((a, b) => b.gy - a.gy);
isodoses.forEach((line, k) => { line.colour = LINES[k % LINES.length]; line.dash = k < LINES.length ? "solid" : "dash"; });

// dark blue - blue - cyan - green - yellow - red - dark red, as dose is usually painted
const WASH = [[0, 0, 143], [0, 64, 255], [0, 220, 255], [40, 255, 120], [255, 240, 0], [255, 120, 0], [230, 0, 0], [128, 0, 0]];
const DIVERGING = [[20, 60, 190], [70, 150, 255], [200, 228, 255], [255, 255, 255], [255, 214, 190], [255, 110, 70], [180, 10, 30]];
function colour(map, t) {
  const at = limited(t, 0, 1) * (map.length - 1), k = Math.min(Math.floor(at), map.length - 2);
  return map[k].map((v, i) => v + (map[k + 1][i] - v) * (at - k));
}
const washTable = Array.from({ length: 256 }, (_, k) => colour(WASH, k / 255));
const diffTable = Array.from({ length: 256 }, (_, k) => colour(DIVERGING, k / 255));
const css = (rgb) => `rgb(${rgb.map(Math.round).join(" ")})`;
const gyAt = (name, index) => (arrays[name][index] === vol.unknown ? NaN : arrays[name][index] * vol.dose_step_gy);
const huAt = (index) => arrays.ct[index] * 8 - 1024;

const views = [];
function addView(name) {
  const figure = make("figure"), caption = make("figcaption", name), where = make("span"), row = make("div", "", "view");
  const canvas = make("canvas"), view = { name, canvas, where };
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  caption.append(where); row.append(canvas); figure.append(caption, row); el("views").append(figure);
  const under = (event) => {
    const { left, top, px, py, width } = view.place, drawn = width / canvas.clientWidth;
    return PLANES[name].voxel(Math.floor((event.offsetY * drawn - top) / py), Math.floor((event.offsetX * drawn - left) / px));
  };
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); step(PLANES[name].normal, event.deltaY > 0 ? -1 : 1); }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { moveTo(under(event)); refresh(); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) { moveTo(under(event)); refresh(); } else probe(under(event)); });
  canvas.addEventListener("keydown", (event) => keys(event, PLANES[name]));
  views.push(view);
}
function step(axis, by) { const to = [...cursor]; to[axis] += by; moveTo(to); refresh(); }
function keys(event, plane) {
  const [r, c] = plane.place(), moves = { ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1] };
  if (moves[event.key]) { moveTo(plane.voxel(...moves[event.key])); refresh(); }
  else if (event.key === "PageUp" || event.key === "PageDown") step(plane.normal, event.key === "PageUp" ? 1 : -1);
  else if (event.key === "d" || event.key === "D") { const there = [...el("shown").children]; there[(there.findIndex((b) => b.dataset.kind === state.shown) + 1) % there.length].click(); }
  else return;
  event.preventDefault();
}

function picture(plane) {
  const { w, h } = plane, image = new ImageData(w, h), [low, high] = WINDOWS[state.window], opacity = el("opacity").value / 100;
  for (let r = 0; r < h; r++) for (let c = 0; c < w; c++) {
    const index = flat(plane.voxel(r, c)), out = 4 * (r * w + c);
    const grey = limited(arrays.ct ? (255 * (huAt(index) - low)) / (high - low) : arrays.masks[index] ? 70 : 0, 0, 255);
    let paint = null, strength = opacity;
    if (state.shown === "difference") {
      const delta = gyAt("dose", index) - gyAt("reference", index);
      if (!Number.isNaN(delta)) paint = diffTable[Math.round(255 * limited(delta / (2 * diffTop) + 0.5, 0, 1))];
      strength = Math.min(1, Math.abs(delta) / (0.2 * diffTop)) * Math.min(1, opacity * 1.8);
    } else {
      const gy = gyAt(state.shown, index);
      if (Number.isNaN(gy)) { if ((r + c) % 6 === 0) paint = [150, 150, 150]; }
      else if (gy >= washFloor) paint = washTable[Math.round(255 * Math.min(gy / washTop, 1))];
    }
    for (let k = 0; k < 3; k++) image.data[out + k] = paint ? grey * (1 - strength) + paint[k] * strength : grey;
    image.data[out + 3] = 255;
  }
  const scratch = new OffscreenCanvas(w, h);
  scratch.getContext("2d").putImageData(image, 0, 0);
  return scratch;
}

// Where a picture of length `long` starts in a window of length `free`: centred if it fits, else about `centre`.
const placed = (free, long, centre) => (long <= free ? (free - long) / 2 : limited(free / 2 - centre, free - long, 0));
function paint(view) {
  const plane = PLANES[view.name], { w, h } = plane, ratio = onPaper ? 3 : window.devicePixelRatio || 1;
  const width = onPaper ? PAPER_WIDTH / 3 : Math.max(view.canvas.parentElement.clientWidth, 160);
  const tallest = Math.max(...Object.values(PLANES).map((p) => (p.h * p.sy) / (p.w * p.sx)));
  const height = Math.round(limited(width * (onPaper || innerWidth > 900 ? tallest : (h * plane.sy) / (w * plane.sx)), 0.6 * width, 1.15 * width));
  const fit = Math.min(width / (w * plane.sx), height / (h * plane.sy)) * el("zoom").value; // css pixels per mm
  view.canvas.width = width * ratio; view.canvas.height = height * ratio; view.canvas.style.aspectRatio = `${width} / ${height}`;
  const g = view.canvas.getContext("2d"), px = fit * plane.sx, py = fit * plane.sy, [row, column] = plane.place();
  g.scale(ratio, ratio);
  const left = placed(width, w * px, (column + 0.5) * px), top = placed(height, h * py, (row + 0.5) * py);
  view.place = { left, top, px, py, width };
  g.drawImage(picture(plane), left, top, w * px, h * py);
  outlines(g, plane, view.place);
  if (el("cross").checked) cross(g, left + (column + 0.5) * px, top + (row + 0.5) * py, width, height);
  g.font = "600 14px system-ui, sans-serif"; g.textAlign = "center"; g.textBaseline = "middle";
  const [west, east, north, south] = plane.sides;
  for (const [text, x, y] of [[west, 11, height / 2], [east, width - 11, height / 2], [north, width / 2, 12], [south, width / 2, height - 12]]) haloed(g, text, x, y, "#fff");
  const at = millimetres(cursor)[2 - plane.normal];
  view.where.textContent = `${"zyx"[plane.normal]} = ${at.toFixed(1)} mm, ${cursor[plane.normal] + 1} of ${vol.shape[plane.normal]}`;
  view.canvas.setAttribute("aria-label", `${view.name} slice, ${view.where.textContent}, ${SHOWN[state.shown]}`);
}
function haloed(g, text, x, y, fill) {
  g.lineWidth = 3; g.strokeStyle = "rgb(0 0 0 / 75%)"; g.strokeText(text, x, y); g.fillStyle = fill; g.fillText(text, x, y);
}
function cross(g, x, y, width, height) {
  g.strokeStyle = "rgb(255 255 255 / 55%)"; g.lineWidth = 1; g.beginPath();
  for (const [x0, y0, x1, y1] of [[0, y, x - 9, y], [x + 9, y, width, y], [x, 0, x, y - 9], [x, y + 9, x, height]]) { g.moveTo(x0, y0); g.lineTo(x1, y1); }
  g.stroke();
}

function outlines(g, plane, { left, top, px, py }) {
  const { w, h } = plane, field = new Float32Array(w * h);
  const fill = (value) => { for (let r = 0; r < h; r++) for (let c = 0; c < w; c++) field[r * w + c] = value(flat(plane.voxel(r, c))); };
  const to = ([c, r]) => [left + (c + 0.5) * px, top + (r + 0.5) * py];
  const trace = (line, rounded) => {
    const points = line.map(to), n = points.length;
    if (!rounded || n < 4) { points.forEach((p, k) => (k ? g.lineTo(...p) : g.moveTo(...p))); return; }
    const middle = (k) => [(points[k][0] + points[(k + 1) % n][0]) / 2, (points[k][1] + points[(k + 1) % n][1]) / 2];
    g.moveTo(...middle(0)); // a curve through the middles of a mask's edges, with the edges as tangents
    for (let k = 1; k < n - 1; k++) g.quadraticCurveTo(...points[k], ...middle(k));
    g.quadraticCurveTo(...points[0], ...middle(0));
  };
  const stroke = (found, style, width, dash, rounded) => {
    g.beginPath();
    for (const line of found) trace(line, rounded);
    g.setLineDash([]); g.strokeStyle = "rgb(0 0 0 / 45%)"; g.lineWidth = width + 1; g.stroke();
    g.setLineDash(dash); g.strokeStyle = style; g.lineWidth = width; g.stroke(); g.setLineDash([]);
  };
  vol.structures.forEach((structure, number) => {
    if (state.hidden.has(number)) return;
    const part = arrays["part-" + number]; // what the contours cover of each voxel: their line needs no rounding
    fill(part ? (index) => part[index] / 255 : (index) => (arrays.masks[index] >>> number) & 1);
    stroke(lines(field, w, h, 0.5), structure.colour, structure.target ? 2.2 : 1.5, DASHES[structure.dash], !part);
  });
  if (state.shown === "difference") return;
  fill((index) => gyAt(state.shown, index) || 0);
  g.font = "600 11px system-ui, sans-serif"; g.textAlign = "center"; g.textBaseline = "middle";
  let placedLabels = 0; // labels go around the lines, so that neighbours do not cover each other
  for (const isodose of isodoses.filter((line) => line.on)) {
    const found = lines(field, w, h, isodose.gy);
    stroke(found, isodose.colour, 1.2, DASHES[isodose.dash], false);
    const longest = found.reduce((best, line) => (line.length > best.length ? line : best), []);
    if (longest.length < 8) continue;
    const turn = 0.6 + 2.4 * placedLabels++, along = ([c, r]) => c * px * Math.cos(turn) + r * py * Math.sin(turn);
    const [x, y] = to(longest.reduce((best, p) => (along(p) > along(best) ? p : best)));
    haloed(g, isodose.gy.toFixed(1), x + 12 * Math.cos(turn), y + 8 * Math.sin(turn), isodose.colour);
  }
}

function drawScale() {
  const canvas = el("scale"), ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, g = canvas.getContext("2d");
  canvas.width = width * ratio; canvas.height = 34 * ratio;
  g.scale(ratio, ratio);
  const difference = state.shown === "difference", low = difference ? -diffTop : 0, high = difference ? diffTop : washTop;
  const x = (gy) => 8 + ((width - 44) * (gy - low)) / (high - low);
  for (let k = 0; k < 256; k++) {
    const gy = low + ((high - low) * k) / 256;
    g.fillStyle = css((difference ? diffTable : washTable)[k]);
    if (difference || gy >= washFloor) g.fillRect(x(gy), 0, (width - 44) / 256 + 1, 12);
  }
  g.fillStyle = tone("--ink"); g.font = "12px system-ui, sans-serif"; g.textAlign = "center"; g.textBaseline = "top";
  const tick = [1, 2, 5, 10, 20, 25].find((n) => (high - low) / n <= Math.max(width / 70, 4)) || 50;
  for (let gy = Math.ceil(low / tick) * tick; gy <= high; gy += tick) g.fillText((difference && gy > 0 ? "+" : "") + gy, x(gy), 16);
  g.fillText("Gy", width - 16, 16);
}

function probe(voxel) {
  if (voxel.some((v, axis) => v < 0 || v >= vol.shape[axis])) return;
  const index = flat(voxel), [x, y, z] = millimetres(voxel), said = (gy) => (Number.isNaN(gy) ? "unknown" : gy.toFixed(1) + " Gy");
  const gy = gyAt("dose", index), percent = Number.isNaN(gy) ? "" : ` (${((100 * gy) / data.rx_max_gy).toFixed(0)} %)`;
  const parts = [`x ${x.toFixed(0)}  y ${y.toFixed(0)}  z ${z.toFixed(0)} mm (LPS)`, `dose ${said(gy)}${percent}`];
  if (arrays.reference) parts.push(`reference ${said(gyAt("reference", index))}`, `difference ${said(gy - gyAt("reference", index))}`);
  if (arrays.ct) parts.push(`CT ${huAt(index)} HU`);
  const inside = vol.structures.filter((_, k) => (arrays.masks[index] >>> k) & 1).map((structure) => structure.name);
  el("probe").textContent = parts.concat(inside.length ? ["in " + inside.join(", ")] : []).join("   ·   ");
}

let asked = false;
function refresh() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; redraw(); });
}
function redraw() {
  for (const button of el("shown").children) button.setAttribute("aria-pressed", button.dataset.kind === state.shown);
  views.forEach(paint);
  drawScale();
  probe(cursor);
}

function swatch(stroke, dash) {
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg"), line = document.createElementNS(space, "line");
  for (const [k, v] of Object.entries({ width: 30, height: 10, "aria-hidden": "true" })) svg.setAttribute(k, v);
  for (const [k, v] of Object.entries({ x1: 1, x2: 29, y1: 5, y2: 5, stroke, "stroke-width": 3, "stroke-dasharray": DASHES[dash].join(" ") })) line.setAttribute(k, v);
  svg.append(line);
  return svg;
}
function tick(into, text, sign, checked, change) {
  const label = make("label"), box = make("input");
  box.type = "checkbox"; box.checked = checked;
  box.addEventListener("input", () => { change(box.checked); refresh(); });
  label.append(box, sign, text);
  el(into).append(label);
}
function controls() {
  for (const [kind, text] of Object.entries(SHOWN)) {
    if (kind !== "dose" && !arrays.reference) continue;
    const button = make("button", text);
    button.dataset.kind = kind;
    button.addEventListener("click", () => { state.shown = kind; refresh(); });
    el("shown").append(button);
  }
  for (const name of Object.keys(WINDOWS)) el("window").append(make("option", name));
  el("window").addEventListener("change", (event) => { state.window = event.target.value; refresh(); });
  el("window").disabled = !arrays.ct;
  for (const id of ["opacity", "zoom", "cross"]) el(id).addEventListener("input", refresh);
  window.addEventListener("resize", refresh);
  for (const event of ["beforeprint", "afterprint"]) window.addEventListener(event, redraw);
  el("isodoses").append(make("span", "isodoses", "note"));
  for (const line of isodoses) tick("isodoses", `${line.text} (${line.gy.toFixed(1)} Gy)`, swatch(line.colour, line.dash), line.on, (on) => { line.on = on; });
  vol.structures.forEach((structure, k) => tick("legend", structure.name, swatch(structure.colour, structure.dash), true, (on) => { state.hidden[on ? "delete" : "add"](k); }));
  const scale = make("canvas", "", "scale");
  scale.id = "scale"; scale.setAttribute("role", "img"); scale.setAttribute("aria-label", "colours of the dose in Gy");
  el("views").after(scale);
}
