// The page as a whole: what is asked, what is waited for, what is shown.
import { call, get, onTokenNeeded, post, remove, setToken } from "./api.js";
import { el, make, minutes, row, say, tried } from "./dom.js";
import { filesOf, knownNames, names, patient, send, useStored } from "./intake.js";
import { warm } from "./planes.js";
import { close, open } from "./viewer.js";

const LOOK_MS = 250, POLL_TURNS = 6; // a look is one row, a poll is all of them
const MODALITIES = { ct: "CT", ptv: "targets", oar: "organs", body: "body", beam: "beam plates", angle: "angle plate" };
const WORDS = { held: "held for review", done: "released" };
let jobs = [], awaited = null;

onTokenNeeded(() => { el("token-section").hidden = false; el("token").focus(); });
el("token-form").addEventListener("submit", tried(async (event) => {
  event.preventDefault();
  setToken(el("token").value);
  el("token-section").hidden = true;
  await begin();
}));

const ready = () => { window.scrollBy(0, 0); };
const chosen = tried(async (event) => send([...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })), ready));
for (const name of ["folder", "files"]) el(name).addEventListener("change", chosen);
el("stored").addEventListener("change", tried(async (event) => { if (event.target.value) await useStored(event.target.value, ready); }));
const drop = el("drop");
for (const kind of ["dragover", "dragleave", "drop"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", kind === "dragover"); });
drop.addEventListener("drop", tried(async (event) => send(await filesOf(event.dataTransfer), ready)));

el("options").addEventListener("submit", tried(async (event) => {
  event.preventDefault();
  const given = [...el("given").querySelectorAll("input")].filter((box) => box.checked).map((box) => box.value);
  const number = (name) => Number(el(name).value);
  const job = await post("/api/jobs", {
    patient: patient.id, model: el("model").value, steps: number("steps"), looks: number("looks"), samples: number("samples"), seed: number("seed"),
    given: given.length === Object.keys(MODALITIES).length ? [] : given, beams: el("beams").value.trim(), names: names(),
    rx: el("rx").value.split(",").map((text) => text.trim()).filter(Boolean), scorecard: el("scorecard").value, uncertainty: el("uncertainty").checked,
  });
  awaited = job.id;
  say(`Prediction ${job.number} is in the queue.`);
  warm();
  await poll();
}));

el("card").addEventListener("change", tried(async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  const { name } = await (await call("PUT", `/api/scorecards/${encodeURIComponent(file.name)}`, file)).json();
  await cards();
  el("scorecard").value = name;
  say(`Scorecard ${name} is there.`, "right");
}));

async function cards() {
  choices(el("scorecard"), ["", ...await get("/api/scorecards")], (name) => name || "the packaged one that fits");
}

function allowUncertainty(models) {
  const model = models.find((row) => row.name === el("model").value);
  el("uncertainty").disabled = !model?.uncertainty;
  if (!model?.uncertainty) el("uncertainty").checked = false;
}

function choices(select, values, words = (value) => value) {
  select.replaceChildren(...values.map((value) => make("option", words(value), { value })));
}

async function begin() {
  const { predicts } = await get("/api/about");
  el("intake").hidden = !predicts;
  if (predicts) await offer();
  await poll();
}

async function offer() {
  const [models, stored] = await Promise.all([get("/api/models"), get("/api/stored"), cards()]);
  choices(el("model"), models.map((model) => model.name), (name) => name);
  el("model").value = models.find((model) => model.default)?.name ?? models[0].name;
  el("model").addEventListener("change", () => allowUncertainty(models));
  allowUncertainty(models);
  el("stored-label").hidden = !stored.length;
  choices(el("stored"), ["", ...stored], (name) => name || "choose …");
  el("given").replaceChildren(...Object.entries(MODALITIES).map(([value, text]) => {
    const label = make("label"), box = make("input", "", { type: "checkbox", value });
    box.checked = true;
    label.append(box, text);
    return label;
  }));
  await knownNames();
}

async function poll() {
  jobs = await get("/api/jobs");
  drawJobs();
}

// The prediction that this page has asked for is shown as soon as it is there.
async function look() {
  if (!awaited) return;
  const mine = await get(`/api/jobs/${awaited}`);
  if (!["held", "done", "failed"].includes(mine.state)) return;
  awaited = null;
  if (mine.state === "failed") say(mine.error, "wrong");
  else await show(mine);
  await poll();
}

function progress(job) {
  const cell = make("div", "", { class: "bar" });
  cell.append(make("span", WORDS[job.state] ?? job.state, { class: `flag ${job.state}` }));
  if (job.state === "running") {
    const done = job.stages.indexOf(job.stage) + 1;
    cell.append(make("progress", "", { max: job.stages.length, value: done, "aria-label": `prediction ${job.number}` }), make("span", `${job.stages[Math.min(done, job.stages.length - 1)]}, ${minutes(job.seconds_left)} left`));
  }
  if (job.state === "waiting") cell.append(make("span", `${job.ahead} before it, ${minutes(job.seconds_left)}`));
  if (job.state === "failed") cell.append(make("span", job.error));
  return cell;
}

let drawn = "";
function drawJobs() {
  const now = JSON.stringify(jobs);
  if (now === drawn) return; // a row that somebody is about to press stays
  drawn = now;
  const [head, body] = [el("jobs").tHead, el("jobs").tBodies[0]], focused = document.activeElement?.dataset?.key;
  head.replaceChildren();
  body.replaceChildren();
  el("no-jobs").hidden = jobs.length > 0;
  if (!jobs.length) return;
  row(head, ["no.", "patient", "model", "state", "actions"], "th");
  for (const job of jobs) {
    const actions = make("div", "", { class: "bar" });
    const button = (text, action) => {
      const made = make("button", text, { type: "button", "aria-label": `${text} prediction ${job.number}` });
      made.dataset.key = `${text}${job.id}`;
      made.addEventListener("click", tried(action));
      actions.append(made);
    };
    if (["held", "done", "released", "delivering"].includes(job.state)) button("view", () => show(job));
    if (job.state !== "running") button("delete", async () => { if (confirm(`Delete prediction ${job.number} and its files?`)) { close(job.id); await remove(`/api/jobs/${job.id}`); await poll(); } });
    row(body, [`${job.number}`, job.case ?? "–", job.model, progress(job), actions]);
  }
  if (focused) body.querySelector(`[data-key="${focused}"]`)?.focus();
}

async function show(job) {
  say("");
  await open(job, jobs.filter((other) => other.id !== job.id && ["held", "done"].includes(other.state)), poll);
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));
await tried(begin)();
document.body.dataset.ready = "yes";
for (let turn = 1; ; turn++) {
  await wait(document.hidden ? 5000 : LOOK_MS);
  if (el("token-section").hidden) await tried(turn % POLL_TURNS ? look : poll)();
}
