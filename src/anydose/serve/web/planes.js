// Three linked planes of one dose, all of one scale. NiiVue paints CT and wash of a slice where nobody sees it, and only
// when the slice is another one; the tile of the plane has a copy, and over it lines, letters and the cross.
import { lines } from "./contours.js";
import { FLOORS, MAPS, drawScale, mapOf } from "./colours.js";
import { SHOWN, WINDOWS } from "./scene.js";
import { library, make } from "./dom.js";
import { withValues } from "./nifti.js";

export const DASHES = { solid: [], dash: [7, 3], dot: [2, 3], dashdot: [7, 3, 2, 3], longdash: [12, 4] };
// axis: of the voxel that the plane's slices follow; u, v: voxel axes to the right and down; letters: left, right, top, bottom
const PLANES = [
  { name: "axial", type: 0, axis: 0, u: 2, v: 1, letters: "RLAP" },
  { name: "coronal", type: 1, axis: 1, u: 2, v: 0, letters: "RLSI" },
  { name: "sagittal", type: 2, axis: 2, u: 1, v: 0, letters: "APSI" },
];
const NARROW = 620, WIDE = 1000, TALLEST = 640, GAP = 2; // CSS pixels
const OPTIONS = { sliceType: 0, isRadiologicalConvention: true, sagittalNoseLeft: true, crosshairWidth: 0, isOrientationTextVisible: false,
  show3Dcrosshair: false, isColorbar: false, backColor: [0, 0, 0, 1], dragAndDropEnabled: false, loadingText: "", isResizeCanvas: false, logLevel: "error" };

// NiiVue with its shaders, which take a moment: made while a person waits for a dose, if somebody says `warm`.
let spare = null;
export function warm() {
  spare ??= fresh();
  spare.catch(() => {}); // whoever takes it is told
}
async function fresh() {
  const { Niivue } = await library("niivue"), nv = new Niivue(OPTIONS), canvas = make("canvas");
  make("div").append(canvas); // it asks for a parent
  await nv.attachToCanvas(canvas);
  for (const [name, map] of Object.entries(MAPS)) nv.addColormap(name, map);
  return { nv, canvas };
}

export class Planes {
  constructor(host, scene, wash) {
    Object.assign(this, { host, scene, wash });
    this.tiles = PLANES.map((plane) => this.tile(plane));
    this.stage = make("div", "", { class: "stage" });
    this.scale = make("canvas", "", { class: "scale", role: "img" });
    this.stage.append(...this.tiles.map((tile) => tile.box));
    host.replaceChildren(make("h3"), this.stage, this.scale);
    this.observer = new ResizeObserver(() => this.fit());
  }

  async open() {
    const niivue = await library("niivue"), ready = spare ?? fresh();
    spare = null;
    Object.assign(this, await ready);
    const [low, high] = WINDOWS[this.scene.window];
    const behind = this.scene.buffers.ct ?? withValues(this.scene.buffers.dose, (_, k) => (this.scene.arrays.masks[k] ? 0 : -1000));
    this.nv.addVolume(await niivue.NVImage.loadFromUrl({ url: behind.slice(0), name: "ct.nii", colormap: "gray", cal_min: low, cal_max: high }));
    await this.show(this.wash);
    this.scene.watch((what) => this.heard(what));
    this.observer.observe(this.stage);
    this.fit();
  }

  close() {
    this.observer.disconnect();
    this.closed = true;
    this.nv?.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  async show(wash) {
    this.wash = wash;
    const niivue = await library("niivue"), { scene } = this, top = scene.tops[wash], both = wash === "difference";
    const of = scene.buffers[both ? "dose" : wash];
    const buffer = withValues(of, both ? (gy, k) => Math.min(Math.max(gy - scene.arrays.reference[k], -top), top) : (gy) => Math.min(gy, top));
    if (this.nv.volumes.length > 1) this.nv.removeVolume(this.nv.volumes[1]);
    const low = both ? -top : FLOORS[wash] * top;
    const image = await niivue.NVImage.loadFromUrl({ url: buffer, name: `${wash}.nii`, colormap: mapOf(wash), opacity: scene.opacity, cal_min: low, cal_max: top });
    this.nv.addVolume(image);
    this.host.querySelector("h3").textContent = SHOWN[wash];
    this.repaint();
    this.drawScale();
  }

  drawScale() {
    this.scale.setAttribute("aria-label", `colour scale of the ${SHOWN[this.wash]}, up to ${this.scene.tops[this.wash].toFixed(1)} Gy`);
    drawScale(this.scale, this.scene, this.wash);
  }

  heard(what) {
    if (this.closed) return;
    if (what === "window") {
      const [low, high] = WINDOWS[this.scene.window];
      Object.assign(this.nv.volumes[0], { cal_min: low, cal_max: high });
      this.nv.updateGLVolume();
    }
    if (what === "opacity") this.nv.setOpacity(1, this.scene.opacity);
    if (what === "window" || what === "opacity") this.forget();
    if (this.waiting) return; // many moves of a mouse are one picture
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.redraw(); });
  }

  // Sizes, of one scale: a row of three where there is room, else the axial plane above the other two, else a column.
  fit() {
    const { scene } = this, width = this.stage.clientWidth, ratio = window.devicePixelRatio || 1;
    if (!width || this.closed || this.fitted === `${width} ${ratio}`) return;
    this.fitted = `${width} ${ratio}`;
    const mm = (plane, side) => scene.volumes.shape[plane[side]] * scene.volumes.spacing_mm[2 - plane[side]];
    const across = PLANES.map((plane) => mm(plane, "u")), tallest = Math.max(...PLANES.map((plane) => mm(plane, "v")));
    const fits = width < NARROW ? width / Math.max(...across) : width < WIDE ? (width - GAP) / (across[1] + across[2]) : (width - 2 * GAP) / (across[0] + across[1] + across[2]);
    const scale = Math.min(fits, TALLEST / tallest);
    for (const { plane, box, image, canvas } of this.tiles) {
      const w = Math.floor(mm(plane, "u") * scale), h = Math.floor(mm(plane, "v") * scale);
      Object.assign(box.style, { width: `${w}px`, height: `${h}px` });
      for (const each of [image, canvas]) { each.width = Math.round(w * ratio); each.height = Math.round(h * ratio); }
    }
    this.canvas.width = Math.max(...this.tiles.map((tile) => tile.image.width));
    this.canvas.height = Math.max(...this.tiles.map((tile) => tile.image.height));
    this.nv.uiData.dpr = 1;
    this.repaint();
    this.drawScale();
  }

  forget() { for (const tile of this.tiles) tile.painted = null; }
  repaint() { this.forget(); this.redraw(); }

  redraw() {
    if (this.closed || !this.fitted) return;
    const [x, y, z] = this.scene.millimetres(this.scene.cursor);
    this.nv.scene.crosshairPos = this.nv.mm2frac([-x, -y, z]);
    for (const tile of this.tiles) {
      if (tile.painted !== this.scene.cursor[tile.plane.axis]) this.paint(tile);
      this.over(tile);
    }
  }

  // CT and wash of the plane's slice, from NiiVue.
  paint({ plane, image }) {
    this.nv.customLayout = [{ sliceType: plane.type, position: [0, 0, image.width / this.canvas.width, image.height / this.canvas.height] }];
    this.nv.drawScene();
    const [left, top, w, h] = this.nv.screenSlices[0].leftTopWidthHeight; // from right to left where it is mirrored
    image.getContext("2d").drawImage(this.canvas, Math.min(left, left + w), top, Math.abs(w), h, 0, 0, image.width, image.height);
    this.tiles.find((tile) => tile.plane === plane).painted = this.scene.cursor[plane.axis];
  }

  tile(plane) {
    const image = make("canvas", "", { "aria-hidden": "true" }), box = make("div");
    const canvas = make("canvas", "", { tabindex: "0", role: "application", class: "plane", "aria-roledescription": "slice" });
    const tile = { plane, box, image, canvas, painted: null };
    box.append(image, canvas);
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.scene.step(plane.axis, event.deltaY > 0 ? -1 : 1); }, { passive: false });
    const go = (event) => { canvas.setPointerCapture(event.pointerId); this.scene.moveTo(this.under(tile, event)); };
    canvas.addEventListener("pointerdown", go);
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
    canvas.addEventListener("keydown", (event) => this.key(event, plane));
    return tile;
  }

  key(event, plane) {
    const moves = { ArrowLeft: [plane.u, -1], ArrowRight: [plane.u, 1], ArrowUp: [plane.v, plane.v ? -1 : 1], ArrowDown: [plane.v, plane.v ? 1 : -1], PageUp: [plane.axis, 1], PageDown: [plane.axis, -1] };
    if (!moves[event.key]) return;
    event.preventDefault();
    this.scene.step(...moves[event.key]);
  }

  // How a plane's voxels lie on its canvas: pixel = from + (voxel + 0.5) * step, along u and v.
  place({ plane, canvas }) {
    const { shape } = this.scene.volumes, up = plane.v === 0; // z points up
    const px = canvas.width / shape[plane.u], py = canvas.height / shape[plane.v];
    return { top: up ? canvas.height : 0, px, py: up ? -py : py };
  }

  under(tile, event) {
    const { top, px, py } = this.place(tile), ratio = window.devicePixelRatio || 1, to = [...this.scene.cursor];
    to[tile.plane.u] = Math.floor((event.offsetX * ratio) / px);
    to[tile.plane.v] = Math.floor((event.offsetY * ratio - top) / py);
    return to;
  }

  over(tile) {
    const { plane, canvas } = tile, { scene } = this, g = canvas.getContext("2d"), at = this.place(tile), ratio = window.devicePixelRatio || 1;
    g.clearRect(0, 0, canvas.width, canvas.height);
    const w = scene.volumes.shape[plane.u], h = scene.volumes.shape[plane.v];
    const field = new Float32Array(w * h);
    const stride = [scene.H * scene.W, scene.W, 1], first = scene.cursor[plane.axis] * stride[plane.axis];
    const fill = (value) => { for (let r = 0, k = 0; r < h; r++) for (let c = 0; c < w; c++, k++) field[k] = value(first + r * stride[plane.v] + c * stride[plane.u]); };
    const to = ([c, r]) => [(c + 0.5) * at.px, at.top + (r + 0.5) * at.py];
    const stroke = (found, colour, width, dash) => {
      if (!found.length) return;
      g.beginPath();
      for (const line of found) line.forEach((point, k) => (k ? g.lineTo(...to(point)) : g.moveTo(...to(point))));
      g.setLineDash([]); g.strokeStyle = "rgb(0 0 0 / 50%)"; g.lineWidth = (width + 1) * ratio; g.stroke();
      g.setLineDash(dash.map((d) => d * ratio)); g.strokeStyle = colour; g.lineWidth = width * ratio; g.stroke(); g.setLineDash([]);
    };
    const slice = scene.cursor[plane.axis];
    if (tile.slice !== slice || tile.wash !== this.wash) Object.assign(tile, { slice, wash: this.wash, found: new Map() });
    const once = (key, value, level) => { // a slice's lines are found once, however often it is drawn
      if (!tile.found.has(key)) { fill(value); tile.found.set(key, lines(field, w, h, level)); }
      return tile.found.get(key);
    };
    const { masks } = scene.arrays;
    scene.volumes.structures.forEach((structure, n) => {
      if (scene.hidden.has(n)) return;
      stroke(once(n, (k) => (masks[k] >>> n) & 1, 0.5), structure.colour, structure.target ? 2 : 1.4, DASHES[structure.dash]);
    });
    if (this.wash === "dose" || this.wash === "reference") this.isodoses(g, stroke, to, once);
    this.cross(g, canvas, ...to([scene.cursor[plane.u], scene.cursor[plane.v]]));
    g.font = `600 ${13 * ratio}px system-ui, sans-serif`; g.textAlign = "center"; g.textBaseline = "middle";
    const [L, R, T, B] = plane.letters, edge = 11 * ratio;
    for (const [text, x, y] of [[L, edge, canvas.height / 2], [R, canvas.width - edge, canvas.height / 2], [T, canvas.width / 2, edge], [B, canvas.width / 2, canvas.height - edge]]) haloed(g, text, x, y, "#fff", ratio);
    const mm = scene.millimetres(scene.cursor)[2 - plane.axis];
    const where = `${plane.name}, ${"zyx"[plane.axis]} = ${mm.toFixed(1)} mm`;
    g.textAlign = "left";
    const meets = g.measureText(where).width > canvas.width / 2 - 20 * ratio; // the letter at the top
    haloed(g, where, 8 * ratio, (meets ? 28 : 12) * ratio, "#fff", ratio);
    canvas.setAttribute("aria-label", `${where}, slice ${scene.cursor[plane.axis] + 1} of ${scene.volumes.shape[plane.axis]}, ${SHOWN[this.wash]}. Arrow keys move the cursor, page keys the slice.`);
  }

  isodoses(g, stroke, to, once) {
    const array = this.scene.arrays[this.wash], ratio = window.devicePixelRatio || 1;
    g.font = `600 ${11 * ratio}px system-ui, sans-serif`; g.textAlign = "center"; g.textBaseline = "middle";
    let turn = 0; // labels go around the lines, so that neighbours do not cover each other
    for (const isodose of this.scene.isodoses.filter((line) => line.on)) {
      const found = once(`iso ${isodose.gy}`, (k) => array[k] || 0, isodose.gy);
      if (!found.length) continue;
      stroke(found, isodose.colour, 1.3, []);
      const longest = found.reduce((a, b) => (b.length > a.length ? b : a));
      if (longest.length > 12) haloed(g, isodose.gy.toFixed(1), ...to(longest[Math.floor(longest.length * ((0.12 + 0.29 * turn++) % 1))]), isodose.colour, ratio);
    }
  }

  cross(g, canvas, x, y) {
    const gap = 9 * (window.devicePixelRatio || 1);
    g.strokeStyle = "rgb(255 255 255 / 55%)"; g.lineWidth = 1; g.beginPath();
    for (const [x0, y0, x1, y1] of [[0, y, x - gap, y], [x + gap, y, canvas.width, y], [x, 0, x, y - gap], [x, y + gap, x, canvas.height]]) { g.moveTo(x0, y0); g.lineTo(x1, y1); }
    g.stroke();
  }
}

function haloed(g, text, x, y, fill, ratio) {
  g.lineWidth = 3 * ratio; g.strokeStyle = "rgb(0 0 0 / 75%)"; g.strokeText(text, x, y); g.fillStyle = fill; g.fillText(text, x, y);
}
