"use strict";
for (const kind of ["error", "unhandledrejection"])
  window.addEventListener(kind, (event) => { document.body.dataset.error = event.message || String(event.reason); });
const data = JSON.parse(document.getElementById("data").textContent);
const vol = data.volumes;
const [D, H, W] = vol.shape;
const [SX, SY, SZ] = vol.spacing_mm;
const [OX, OY, OZ] = vol.origin_mm;
const el = (id) => document.getElementById(id);
const make = (tag, text = "", className = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
};
// Colours of the page's text and lines; on paper those of report.css, which a page learns of only after it has drawn.
const PAPER = { "--ink": "#000", "--soft": "#444", "--line": "#ccc", "--rule": "#ddd" };
const PAPER_WIDTH = 680; // css pixels, A4 or Letter upright within its margins
let onPaper = false;
for (const [event, now] of [["beforeprint", true], ["afterprint", false]]) window.addEventListener(event, () => { onPaper = now; });
const tone = (name) => (onPaper ? PAPER[name] : getComputedStyle(document.documentElement).getPropertyValue(name).trim());
const limited = (value, low, high) => Math.min(Math.max(value, low), high);

async function unpack(name) {
  const node = el("packed-" + name);
  if (!node) return null;
  const bytes = Uint8Array.from(atob(node.textContent), (c) => c.charCodeAt(0));
  node.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// The cursor is one voxel (z, y, x); arrays run towards superior, posterior and left. A plane is shown as the
// reader expects it: anterior up and the patient's right on the left in axial slices; superior up in the others.
const cursor = [...vol.start];
const PLANES = {
  axial: { normal: 0, w: W, h: H, sx: SX, sy: SY, sides: ["R", "L", "A", "P"],
    voxel: (r, c) => [cursor[0], r, c], place: () => [cursor[1], cursor[2]] },
  coronal: { normal: 1, w: W, h: D, sx: SX, sy: SZ, sides: ["R", "L", "S", "I"],
    voxel: (r, c) => [D - 1 - r, cursor[1], c], place: () => [D - 1 - cursor[0], cursor[2]] },
  sagittal: { normal: 2, w: H, h: D, sx: SY, sy: SZ, sides: ["A", "P", "S", "I"],
    voxel: (r, c) => [D - 1 - r, c, cursor[2]], place: () => [D - 1 - cursor[0], cursor[1]] },
};
const flat = ([z, y, x]) => (z * H + y) * W + x;
const millimetres = ([z, y, x]) => [OX + x * SX, OY + y * SY, OZ + z * SZ];
function moveTo(voxel) {
  vol.shape.forEach((size, axis) => { cursor[axis] = limited(Math.round(voxel[axis]), 0, size - 1); });
}

// Lines where `field` (w x h) crosses `level`: marching squares with linear interpolation, chained. Each line is
// a list of [column, row]; `fine` rounds the corners of a mask's line.
function lines(field, w, h, level) {
  const at = new Map(), next = new Map();
  const link = (a, b) => { for (const [p, q] of [[a, b], [b, a]]) next.has(p) ? next.get(p).push(q) : next.set(p, [q]); };
  const cut = (a, b) => (level - a) / (b - a);
  for (let r = 0; r < h - 1; r++) for (let c = 0; c < w - 1; c++) {
    const k = r * w + c, a = field[k], b = field[k + 1], d = field[k + w + 1], e = field[k + w];
    const [ia, ib, id, ie] = [a >= level, b >= level, d >= level, e >= level];
    if (ia === ib && ib === id && id === ie) continue;
    const hits = [];
    const hit = (key, x, y) => { at.set(key, [x, y]); hits.push(key); };
    if (ia !== ib) hit(2 * k, c + cut(a, b), r);
    if (ib !== id) hit(2 * (k + 1) + 1, c + 1, r + cut(b, d));
    if (ie !== id) hit(2 * (k + w), c + cut(e, d), r + 1);
    if (ia !== ie) hit(2 * k + 1, c, r + cut(a, e));
    for (let n = 0; n + 1 < hits.length; n += 2) link(hits[n], hits[n + 1]);
  }
  const found = [], used = new Set();
  for (const start of [...next.keys()].sort((p, q) => next.get(p).length - next.get(q).length)) {
    if (used.has(start)) continue;
    const line = [];
    for (let key = start; key !== undefined; key = next.get(key).find((other) => !used.has(other))) {
      used.add(key);
      line.push(at.get(key));
    }
    if (next.get(start).length > 1) line.push(line[0]);
    found.push(line);
  }
  return found;
}
