"use strict";
for (const kind of ["error", "unhandledrejection"])
  window.addEventListener(kind, (event) => { document.body.dataset.error = event.message || String(event.reason); });
const data = JSON.parse(document.getElementById("data").textContent);
const vol = data.volumes;
const [D, H, W] = vol.shape;
const [SX, SY, SZ] = vol.spacing_mm;
const el = (id) => document.getElementById(id);
const make = (tag, text = "", className = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
};

async function unpack(name) {
  const node = el("packed-" + name);
  if (!node) return null;
  const bytes = Uint8Array.from(atob(node.textContent), (c) => c.charCodeAt(0));
  node.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// Arrays run (z, y, x) towards superior, posterior and left. Every plane is shown as the reader expects it:
// anterior up and the patient's right on the left in axial slices; superior up in the others.
const PLANES = {
  axial: { size: D, w: W, h: H, sx: SX, sy: SY, axis: "z", sides: ["R", "L", "A", "P"], at: (s, r, c) => (s * H + r) * W + c },
  coronal: { size: H, w: W, h: D, sx: SX, sy: SZ, axis: "y", sides: ["R", "L", "S", "I"], at: (s, r, c) => ((D - 1 - r) * H + s) * W + c },
  sagittal: { size: W, w: H, h: D, sx: SY, sy: SZ, axis: "x", sides: ["A", "P", "S", "I"], at: (s, r, c) => ((D - 1 - r) * H + c) * W + s },
};
const WINDOWS = { "soft tissue": [-160, 240], lung: [-1350, 150], bone: [-450, 1050], wide: [-1000, 1000] };
const ORIGIN = { z: vol.origin_mm[2], y: vol.origin_mm[1], x: vol.origin_mm[0] };
const STEP = { z: SZ, y: SY, x: SX };
PLANES.axial.centre = [vol.start[1], vol.start[2]];
PLANES.coronal.centre = [D - 1 - vol.start[0], vol.start[2]];
PLANES.sagittal.centre = [D - 1 - vol.start[0], vol.start[1]];
const state = { plane: "axial", slice: { axial: vol.start[0], coronal: vol.start[1], sagittal: vol.start[2] }, hidden: new Set(), window: "soft tissue" };
const arrays = {};
const washTop = data.rx_max_gy * 1.12;
const washFloor = 0.1 * data.rx_max_gy;

// dark blue - blue - cyan - green - yellow - red - dark red, as dose is usually painted
const WASH = [[0, 0, 143], [0, 64, 255], [0, 220, 255], [40, 255, 120], [255, 240, 0], [255, 120, 0], [230, 0, 0], [128, 0, 0]];
const DIVERGING = [[20, 60, 190], [70, 150, 255], [200, 228, 255], [255, 255, 255], [255, 214, 190], [255, 110, 70], [180, 10, 30]];
function colour(map, t) {
  const at = Math.min(Math.max(t, 0), 1) * (map.length - 1);
  const k = Math.min(Math.floor(at), map.length - 2);
  return map[k].map((v, i) => v + (map[k + 1][i] - v) * (at - k));
}
const washTable = Array.from({ length: 256 }, (_, k) => colour(WASH, k / 255));
const diffTable = Array.from({ length: 256 }, (_, k) => colour(DIVERGING, k / 255));
const gyAt = (name, index) => arrays[name][index] * vol.dose_step_gy;
const huAt = (index) => arrays.ct[index] * 8 - 1024;

const views = [];
function addView(title, note, kind) {
  const figure = make("figure");
  const caption = make("figcaption", title);
  caption.append(make("span", note));
  const row = make("div", "", "view");
  const canvas = make("canvas"), scale = make("canvas", "", "scale");
  row.append(canvas, scale);
  figure.append(caption, row);
  el("views").append(figure);
  const view = { canvas, scale, kind };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    move(event.deltaY > 0 ? -1 : 1);
  }, { passive: false });
  canvas.addEventListener("mousemove", (event) => probe(view, event));
  views.push(view);
}

function paint(view) {
  const plane = PLANES[state.plane], s = state.slice[state.plane];
  const { w, h } = plane;
  const image = new ImageData(w, h);
  const [low, high] = WINDOWS[state.window];
  const opacity = el("opacity").value / 100;
  for (let r = 0; r < h; r++) for (let c = 0; c < w; c++) {
    const index = plane.at(s, r, c), out = 4 * (r * w + c);
    let grey = arrays.ct ? (255 * (huAt(index) - low)) / (high - low) : arrays.masks[index] ? 70 : 0;
    grey = Math.min(Math.max(grey, 0), 255);
    let paintWith = null, strength = opacity;
    if (view.kind === "difference") {
      const delta = gyAt("dose", index) - gyAt("reference", index);
      paintWith = diffTable[Math.round(255 * Math.min(Math.max(delta / (2 * diffTop) + 0.5, 0), 1))];
      strength = Math.min(1, Math.abs(delta) / (0.2 * diffTop)) * Math.min(1, opacity * 1.8);
    } else {
      const gy = gyAt(view.kind, index);
      if (gy >= washFloor) paintWith = washTable[Math.round(255 * Math.min(gy / washTop, 1))];
    }
    for (let k = 0; k < 3; k++) image.data[out + k] = paintWith ? grey * (1 - strength) + paintWith[k] * strength : grey;
    image.data[out + 3] = 255;
  }
  const scratch = new OffscreenCanvas(w, h);
  scratch.getContext("2d").putImageData(image, 0, 0);
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(view.canvas.parentElement.clientWidth - 62, 200);
  const ideal = (width * h * plane.sy) / (w * plane.sx);
  const height = Math.round(Math.min(Math.max(ideal, 0.85 * width), 620));
  const whole = Math.min(width / (w * plane.sx), height / (h * plane.sy)); // css pixels per mm
  const fit = whole * el("zoom").value;
  view.canvas.width = width * ratio; view.canvas.height = height * ratio;
  view.canvas.style.height = height + "px";
  const g = view.canvas.getContext("2d");
  g.scale(ratio, ratio);
  const px = fit * plane.sx, py = fit * plane.sy;
  const [row, column] = plane.centre;
  const left = placed(width, w * px, (column + 0.5) * px), top = placed(height, h * py, (row + 0.5) * py);
  g.imageSmoothingEnabled = true;
  g.drawImage(scratch, left, top, w * px, h * py);
  view.place = { left, top, px, py };
  outlines(g, plane, s, view);
  g.font = "600 14px system-ui, sans-serif"; g.fillStyle = "#fff"; g.textAlign = "center"; g.textBaseline = "middle";
  const [west, east, north, south] = plane.sides;
  g.fillText(west, 12, height / 2); g.fillText(east, width - 12, height / 2);
  g.fillText(north, width / 2, 12); g.fillText(south, width / 2, height - 12);
  drawScale(view, height, ratio);
}

// Where a picture of length `long` starts in a window of length `free`: centred if it fits, else about `centre`.
const placed = (free, long, centre) => (long <= free ? (free - long) / 2 : Math.min(0, Math.max(free - long, free / 2 - centre)));

// Marching squares with linear interpolation: line segments where `field` (w x h) crosses `level`.
function segments(field, w, h, level, draw) {
  const cut = (a, b) => (level - a) / (b - a);
  for (let r = 0; r < h - 1; r++) for (let c = 0; c < w - 1; c++) {
    const a = field[r * w + c], b = field[r * w + c + 1], d = field[(r + 1) * w + c + 1], e = field[(r + 1) * w + c];
    const hits = [];
    if (a >= level !== b >= level) hits.push([c + cut(a, b), r]);
    if (b >= level !== d >= level) hits.push([c + 1, r + cut(b, d)]);
    if (e >= level !== d >= level) hits.push([c + cut(e, d), r + 1]);
    if (a >= level !== e >= level) hits.push([c, r + cut(a, e)]);
    for (let k = 0; k + 1 < hits.length; k += 2) draw(hits[k], hits[k + 1]);
  }
}

function outlines(g, plane, s, view) {
  const { w, h } = plane, { left, top, px, py } = view.place;
  const stroke = (field, level, style, width, dash) => {
    g.beginPath();
    segments(field, w, h, level, (p, q) => {
      g.moveTo(left + (p[0] + 0.5) * px, top + (p[1] + 0.5) * py);
      g.lineTo(left + (q[0] + 0.5) * px, top + (q[1] + 0.5) * py);
    });
    g.strokeStyle = style; g.lineWidth = width; g.setLineDash(dash); g.stroke(); g.setLineDash([]);
  };
  const field = new Float32Array(w * h);
  const fill = (value) => { for (let r = 0; r < h; r++) for (let c = 0; c < w; c++) field[r * w + c] = value(plane.at(s, r, c)); };
  vol.structures.forEach((structure, number) => {
    if (state.hidden.has(structure.name)) return;
    fill((index) => (arrays.masks[index] >>> number) & 1);
    stroke(field, 0.5, structure.colour, structure.target ? 2 : 1.4, []);
  });
  if (el("isodoses").checked && view.kind !== "difference") {
    fill((index) => gyAt(view.kind, index));
    for (const [gy, style] of isodoseLevels) stroke(field, gy, style, 1.1, [5, 3]);
  }
}
const css = (rgb) => `rgb(${rgb.map(Math.round).join(" ")})`;
const isodoseLevels = (data.levels_gy.length ? data.levels_gy.map((gy) => 0.95 * gy) : [0.95 * data.rx_max_gy])
  .concat([0.5 * data.rx_max_gy]).map((gy) => [gy, "#ffffff"]);

function drawScale(view, height, ratio) {
  view.scale.width = 62 * ratio; view.scale.height = height * ratio; view.scale.style.height = height + "px";
  const g = view.scale.getContext("2d");
  g.scale(ratio, ratio);
  const difference = view.kind === "difference", table = difference ? diffTable : washTable;
  const low = difference ? -diffTop : 0, high = difference ? diffTop : washTop;
  const y = (gy) => 26 + (height - 40) * (1 - (gy - low) / (high - low));
  for (let k = 0; k < 256; k++) {
    g.fillStyle = !difference && high * (k / 255) < washFloor ? "#000" : css(table[k]);
    g.fillRect(8, y(low + ((high - low) * (k + 1)) / 256), 13, (height - 40) / 256 + 1);
  }
  g.fillStyle = "#fff"; g.font = "12px system-ui, sans-serif"; g.textBaseline = "middle"; g.textAlign = "left";
  g.fillText("Gy", 8, 13);
  const step = [1, 2, 5, 10, 20, 25].find((n) => (high - low) / n <= 9) || 50;
  for (let gy = Math.ceil(low / step) * step; gy <= high; gy += step)
    g.fillText((difference && gy > 0 ? "+" : "") + gy, 25, y(gy));
}

function probe(view, event) {
  const plane = PLANES[state.plane], s = state.slice[state.plane], { left, top, px, py } = view.place;
  const c = Math.floor((event.offsetX - left) / px), r = Math.floor((event.offsetY - top) / py);
  if (c < 0 || r < 0 || c >= plane.w || r >= plane.h) return;
  const index = plane.at(s, r, c);
  const x = index % W, y = Math.floor(index / W) % H, z = Math.floor(index / (W * H));
  const place = `x ${(ORIGIN.x + x * SX).toFixed(0)}  y ${(ORIGIN.y + y * SY).toFixed(0)}  z ${(ORIGIN.z + z * SZ).toFixed(0)} mm (LPS)`;
  const parts = [place, `dose ${gyAt("dose", index).toFixed(1)} Gy`];
  if (arrays.reference) {
    const delta = gyAt("dose", index) - gyAt("reference", index);
    parts.push(`reference ${gyAt("reference", index).toFixed(1)} Gy`, `difference ${delta >= 0 ? "+" : ""}${delta.toFixed(1)} Gy`);
  }
  if (arrays.ct) parts.push(`CT ${huAt(index)} HU`);
  const inside = vol.structures.filter((_, k) => (arrays.masks[index] >>> k) & 1).map((structure) => structure.name);
  el("probe").textContent = parts.concat(inside.length ? ["in " + inside.join(", ")] : []).join("   ·   ");
}

function refresh() {
  const plane = PLANES[state.plane], s = state.slice[state.plane];
  el("slice").max = plane.size - 1;
  el("slice").value = s;
  el("where").textContent = `${s + 1} of ${plane.size}, ${plane.axis} = ${(ORIGIN[plane.axis] + s * STEP[plane.axis]).toFixed(1)} mm`;
  for (const button of el("planes").children) button.setAttribute("aria-pressed", button.textContent === state.plane);
  views.forEach(paint);
}
function move(by) {
  const { size } = PLANES[state.plane];
  state.slice[state.plane] = Math.min(Math.max(state.slice[state.plane] + by, 0), size - 1);
  refresh();
}

let diffTop = 1;
function controls() {
  for (const name of Object.keys(PLANES)) {
    const button = make("button", name);
    button.addEventListener("click", () => { state.plane = name; refresh(); });
    el("planes").append(button);
  }
  for (const name of Object.keys(WINDOWS)) el("window").append(make("option", name));
  el("window").addEventListener("change", (event) => { state.window = event.target.value; refresh(); });
  el("window").disabled = !arrays.ct;
  el("slice").addEventListener("input", (event) => { state.slice[state.plane] = Number(event.target.value); refresh(); });
  for (const id of ["opacity", "isodoses", "zoom"]) el(id).addEventListener("input", refresh);
  window.addEventListener("resize", refresh);
  for (const structure of vol.structures) {
    const label = make("label"), box = make("input"), line = make("i");
    box.type = "checkbox"; box.checked = true; line.style.background = structure.colour;
    box.addEventListener("input", () => { state.hidden[box.checked ? "delete" : "add"](structure.name); refresh(); });
    label.append(box, line, structure.name);
    el("legend").append(label);
  }
  el("legend").append(make("span", `dashed white: ${isodoseLevels.map(([gy]) => gy.toFixed(1)).join(", ")} Gy (95 % of each prescription, 50 % of the highest)`, "note"));
}
