// One prediction on the screen, alone or beside another dose.
import { download, get, post } from "./api.js";
import { el, make, say, tried } from "./dom.js";
import { drawDvh, figures } from "./dvh.js";
import { DASHES, Planes } from "./planes.js";
import { SHOWN, WINDOWS, loadScene } from "./scene.js";
import { drawScore } from "./score.js";

const MAIN_FILES = { "dose.dcm": "RTDOSE", "dose.nii.gz": "NIfTI", "report.html": "report" };
const now = { job: null, scene: null, first: null, second: null, other: null, reload: null };

export function close(id) {
  if (now.job?.id !== id) return;
  now.first?.close();
  now.second?.close();
  Object.assign(now, { job: null, scene: null, first: null, second: null, other: null });
  el("viewer").hidden = true;
}

export async function open(job, others, reload) {
  now.first?.close();
  now.second?.close();
  Object.assign(now, { job, reload, first: null, second: null, other: null });
  const scene = now.scene = await loadScene(job.id);
  el("viewer").hidden = false;
  el("viewer-title").textContent = `Dose of ${scene.view.patient}, prediction ${job.number}`;
  now.first = new Planes(el("first"), scene, "dose");
  await now.first.open();
  await new Promise((done) => requestAnimationFrame(done));
  document.body.dataset.firstPictureAt = Date.now(); // for measurements
  await scene.complete();
  choose(el("left"), scene.washes, (name) => SHOWN[name]);
  choose(el("right"), ["", ...scene.washes], (name) => SHOWN[name] ?? "nothing");
  choose(el("other"), ["", ...others.map((each) => each.id)], (id) => (id ? `prediction ${others.find((each) => each.id === id).number}` : "this prediction"));
  choose(el("window"), Object.keys(WINDOWS), (name) => name);
  if (scene.washes.includes("reference")) { el("right").value = "reference"; await beside(); }
  else { el("second").hidden = true; el("pair").className = ""; }
  probe();
  scene.watch((what) => { if (what === "cursor") probe(); });
  boxes();
  drawScore(scene.view);
  figures(scene.view);
  await drawDvh(scene, null);
  await files(job);
  if (scene.volumes.coarser) el("notes").append(make("li", `Shown on a coarser grid than the dose's own: ${scene.volumes.spacing_mm.map((mm) => mm.toFixed(2)).join(" × ")} mm. All figures come from the dose's own grid.`));
  document.body.dataset.shown = job.id;
  el("viewer-title").focus();
}

function choose(select, values, words) {
  select.replaceChildren(...values.map((value) => make("option", words(value), { value })));
}

function probe() { if (now.scene) el("probe").textContent = now.scene.probe(); }

// A line as the planes draw it.
function sample(colour, dash) {
  const canvas = make("canvas", "", { class: "sample", width: "64", height: "26", "aria-hidden": "true" }), g = canvas.getContext("2d");
  Object.assign(g, { strokeStyle: colour, lineWidth: 5 });
  g.setLineDash(dash.map((d) => 2 * d));
  g.moveTo(4, 13); g.lineTo(60, 13); g.stroke();
  return canvas;
}

function boxes() {
  const { scene } = now;
  const box = (text, colour, dash, on, changed) => {
    const label = make("label"), input = make("input", "", { type: "checkbox" });
    input.checked = on;
    input.addEventListener("change", () => { changed(input.checked); scene.changed("lines"); });
    label.append(input, sample(colour, dash), text);
    return label;
  };
  el("isodoses").replaceChildren(...scene.isodoses.map((isodose) => box(`${isodose.text} (${isodose.gy.toFixed(1)} Gy)`, isodose.colour, [], isodose.on, (on) => { isodose.on = on; })));
  el("legend").replaceChildren(...scene.volumes.structures.map((structure, n) => box(structure.name, structure.colour, DASHES[structure.dash], !scene.hidden.has(n), (on) => (on ? scene.hidden.delete(n) : scene.hidden.add(n)))));
}

el("left").addEventListener("change", tried(async (event) => now.first.show(event.target.value)));
el("right").addEventListener("change", tried(beside));
el("other").addEventListener("change", tried(async () => { if (el("other").value && !el("right").value) el("right").value = "dose"; await beside(); }));
el("window").addEventListener("change", (event) => { for (const scene of scenes()) { scene.window = event.target.value; scene.changed("window"); } });
el("opacity").addEventListener("input", (event) => { for (const scene of scenes()) { scene.opacity = Number(event.target.value); scene.changed("opacity"); } });
const scenes = () => [...new Set([now.scene, now.other ?? now.scene])];
for (const query of ["(prefers-color-scheme: dark)", "(max-width: 700px)"]) matchMedia(query).addEventListener("change", tried(async () => {
  if (!now.scene) return;
  for (const planes of [now.first, now.second]) planes?.drawScale();
  await drawDvh(now.scene, now.other);
}));

// The right-hand planes: another wash of this prediction, or another prediction at the same place.
async function beside() {
  now.second?.close();
  now.second = null;
  const wash = el("right").value, other = el("other").value;
  el("second").hidden = !wash;
  el("pair").className = wash ? "two" : "";
  now.other = wash && other ? await loadScene(other) : null;
  await now.other?.complete();
  if (wash) {
    const scene = now.other ?? now.scene;
    if (!scene.washes.includes(wash)) throw new Error(`the other prediction has no ${SHOWN[wash]}`);
    if (now.other) link(now.scene, now.other);
    now.second = new Planes(el("second"), scene, wash);
    await now.second.open();
  }
  await drawDvh(now.scene, now.other);
}

function link(one, two) {
  Object.assign(two, { window: one.window, opacity: one.opacity });
  const follow = (from, to) => (what) => {
    const at = to.voxelOf(from.millimetres(from.cursor)).map(Math.round);
    if (what === "cursor" && at.some((v, k) => v !== to.cursor[k]) && now.other === two) to.moveTo(at);
  };
  one.watch(follow(one, two));
  two.watch(follow(two, one));
  follow(one, two)("cursor");
}

async function files(job) {
  const held = job.state === "held";
  el("release-form").hidden = !held;
  el("released").hidden = held;
  el("downloads").hidden = held;
  el("released").textContent = held ? "" : `Released by ${job.released_by || "the DICOM node's rule"}.`;
  if (held) return;
  const names = await get(`/api/jobs/${job.id}/files`), first = Object.keys(MAIN_FILES).filter((name) => names.includes(name));
  el("downloads").replaceChildren(...[...first, ...names.filter((name) => !(name in MAIN_FILES))].map((name) => {
    const button = make("button", MAIN_FILES[name] ? `${MAIN_FILES[name]} (${name})` : name, { type: "button" });
    if (MAIN_FILES[name]) button.className = "main";
    button.addEventListener("click", tried(() => download(`/api/jobs/${job.id}/files/${encodeURIComponent(name)}`, `${now.scene.view.case}-${name}`)));
    return button;
  }));
}

el("release-form").addEventListener("submit", tried(async (event) => {
  event.preventDefault();
  now.job = await post(`/api/jobs/${now.job.id}/release`, { by: el("by").value });
  say("Released.", "right");
  await files(now.job);
  await now.reload();
}));

// For measurements: slices a second that were drawn in so many milliseconds of scrolling through the axial plane.
window.anydoseScroll = async (ms) => {
  const { scene } = now, start = scene.cursor, begin = performance.now();
  let drawn = 0, slice = -1;
  while (performance.now() - begin < ms) {
    scene.moveTo([(scene.cursor[0] + 1) % scene.D, scene.cursor[1], scene.cursor[2]]);
    await new Promise((done) => requestAnimationFrame(done));
    const { painted } = now.first.tiles[0];
    if (painted !== slice) drawn += 1;
    slice = painted;
  }
  const seconds = (performance.now() - begin) / 1000;
  scene.moveTo(start);
  return drawn / seconds;
};
