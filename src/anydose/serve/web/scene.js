// One patient on the screen: volumes, what is shown of them, and the cursor that all planes share.
import { call, get } from "./api.js";
import { unzipped, values } from "./nifti.js";

export const WINDOWS = { "soft tissue": [-160, 240], lung: [-1350, 150], bone: [-450, 1050], wide: [-1000, 1000] };
export const SHOWN = { dose: "predicted dose", reference: "reference dose", difference: "predicted − reference", uncertainty: "half-width of the 80 % interval", spread: "spread over the samples" };
const LINES = ["#ffffff", "#ff5ad6", "#ff7a00", "#ffe600", "#7dff5a", "#4de1ff", "#b9a7ff"];
const PERCENTS = [107, 105, 100, 95, 80, 50, 30], FIRST_SHOWN = [107, 95, 50];
const limited = (value, low, high) => Math.min(Math.max(value, low), high);

const FIRST = ["ct", "dose", "masks"]; // what the first picture needs

// With what the first picture needs; `complete` brings the rest.
export async function loadScene(job) {
  const scene = new Scene(job, await get(`/api/jobs/${job}/view`));
  await scene.load(scene.view.have.filter((name) => FIRST.includes(name)));
  return scene;
}

export class Scene {
  constructor(job, view) {
    Object.assign(this, { job, view, buffers: {}, arrays: {}, washes: [], tops: {} });
    this.volumes = view.volumes;
    [this.D, this.H, this.W] = this.volumes.shape;
    this.cursor = [...this.volumes.start];
    this.window = "soft tissue";
    this.opacity = 0.45;
    this.hidden = new Set(this.volumes.structures.flatMap((s, k) => (s.body ? [k] : [])));
    this.isodoses = PERCENTS.map((percent) => ({ gy: (percent / 100) * view.rx_max_gy, text: `${percent} %`, on: FIRST_SHOWN.includes(percent) }))
      .concat(view.levels_gy.slice(1).map((gy) => ({ gy: 0.95 * gy, text: `95 % of ${gy.toFixed(1)} Gy`, on: false })))
      .sort((a, b) => b.gy - a.gy);
    this.isodoses.forEach((line, k) => { line.colour = LINES[k % LINES.length]; });
    this.watchers = [];
  }

  complete() { return this.load(this.view.have.filter((name) => !(name in this.buffers))); }

  async load(names) {
    await Promise.all(names.map(async (name) => {
      this.buffers[name] = await unzipped(await (await call("GET", `/api/jobs/${this.job}/volumes/${name}`)).blob());
      this.arrays[name] = values(this.buffers[name]);
    }));
    this.washes = Object.keys(SHOWN).filter((name) => (name === "difference" ? "reference" : name) in this.arrays);
    for (const name of this.washes) this.tops[name] ??= this.topOf(name);
  }

  // Where the scale of a wash ends, in Gy.
  topOf(name) {
    if (name === "dose" || name === "reference") return 1.12 * this.view.rx_max_gy;
    return name === "difference" ? Math.max(2, Math.ceil(this.highest(name))) : Math.max(1, this.highest(name));
  }

  // The 98th percentile of what is there: the end of a scale that one voxel does not set.
  highest(name) {
    const sizes = [];
    for (let k = 0; k < this.arrays.dose.length; k += 7) {
      const value = Math.abs(this.at(name, k));
      if (value > 0.05) sizes.push(value);
    }
    sizes.sort((a, b) => a - b);
    return sizes[Math.floor(0.98 * sizes.length)] ?? 1;
  }

  // In Gy (HU for the CT) at a voxel; not a number where nobody knows.
  at(name, k) {
    return name === "difference" ? this.arrays.dose[k] - this.arrays.reference[k] : this.arrays[name][k];
  }

  index([z, y, x]) { return (z * this.H + y) * this.W + x; }
  millimetres(voxel) { return [2, 1, 0].map((axis, k) => this.volumes.origin_mm[k] + voxel[axis] * this.volumes.spacing_mm[k]); }
  voxelOf(mm) { return [2, 1, 0].map((k) => (mm[k] - this.volumes.origin_mm[k]) / this.volumes.spacing_mm[k]); }
  moveTo(voxel) {
    this.cursor = this.volumes.shape.map((size, axis) => limited(Math.round(voxel[axis]), 0, size - 1));
    this.changed("cursor");
  }
  step(axis, by) { const to = [...this.cursor]; to[axis] += by; this.moveTo(to); }

  watch(callback) { this.watchers.push(callback); }
  changed(what) { for (const callback of this.watchers) callback(what); }

  // What lies under the cursor, in words.
  probe() {
    const k = this.index(this.cursor), [x, y, z] = this.millimetres(this.cursor), words = [];
    const gy = (name) => (Number.isNaN(this.at(name, k)) ? "not known" : `${this.at(name, k).toFixed(2)} Gy`);
    words.push(`dose ${gy("dose")} (${((100 * this.arrays.dose[k]) / this.view.rx_max_gy).toFixed(1)} %)`);
    if (this.arrays.reference) words.push(`reference ${gy("reference")}, difference ${gy("difference")}`);
    if (this.arrays.uncertainty) words.push(`80 % interval ± ${gy("uncertainty")}`);
    if (this.arrays.ct) words.push(`CT ${this.arrays.ct[k]} HU`);
    const inside = this.volumes.structures.filter((s, n) => (this.arrays.masks[k] >>> n) & 1 && !s.body).map((s) => s.name);
    words.push(inside.length ? `in ${inside.join(", ")}` : "in no structure");
    return `x ${x.toFixed(1)}, y ${y.toFixed(1)}, z ${z.toFixed(1)} mm (LPS): ${words.join("; ")}`;
  }
}
