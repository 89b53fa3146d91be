// From dropped files to a confirmed table of names.
import { call, get, post } from "./api.js";
import { el, fixed, make, row, say } from "./dom.js";

const AT_ONCE = 6;
export const patient = { id: null, survey: null };

export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean), found = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      found.push({ path: path + entry.name, file: await new Promise((done, wrong) => entry.file(done, wrong)) });
    } else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, wrong) => reader.readEntries(done, wrong));
        if (!some.length) break;
        for (const each of some) await walk(each, `${path}${entry.name}/`);
      }
    }
  };
  for (const entry of entries) await walk(entry, "");
  return found;
}

export async function send(files, onReady) {
  const wanted = files.filter(({ path }) => !path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX"));
  if (!wanted.length) throw new Error("no files were found there");
  const { id } = await post("/api/patients", {}), bar = el("sent"), queue = [...wanted];
  Object.assign(bar, { hidden: false, max: wanted.length, value: 0 });
  say(`Sending ${wanted.length} file${wanted.length > 1 ? "s" : ""} …`);
  const sender = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const path = next.path.split("/").map(encodeURIComponent).join("/");
      await call("PUT", `/api/patients/${id}/files/${path}`, next.file);
      bar.value += 1;
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, sender));
  } finally {
    bar.hidden = true;
  }
  await survey(id, onReady);
}

export async function useStored(name, onReady) {
  await survey((await post("/api/patients", { stored: name })).id, onReady);
}

async function survey(id, onReady) {
  say("Reading the patient …");
  const found = await post(`/api/patients/${id}/survey`);
  Object.assign(patient, { id, survey: found });
  show(found);
  say("");
  onReady(found);
  el("names-title").focus();
}

function show(found) {
  const [z, y, x] = found.shape, levels = Object.entries(found.levels_gy).map(([name, gy]) => `${name} ${gy} Gy`).join(", ");
  el("facts").textContent = `${found.case}: ${found.format}, ${x} × ${y} × ${z} voxels of ${found.spacing_mm.map((mm) => fixed(mm, 2)).join(" × ")} mm; prescription ${levels || "not stated"}; ${found.beams.length || "no"} beams; ${found.has.ct ? "CT" : "no CT"}; ${found.has.dose ? "with a reference dose" : "no reference dose"}.`;
  el("case-notes").replaceChildren(...[...found.warnings, ...found.inferred].map((text) => make("li", text)));
  const [head, body] = [el("names").tHead, el("names").tBodies[0]];
  head.replaceChildren();
  row(head, ["structure", "type", "cc", "is", "used as", "why", "say what it is"], "th");
  body.replaceChildren();
  const order = [...found.structures].sort((a, b) => (a.role === "unknown" ? 0 : 1) - (b.role === "unknown" ? 0 : 1));
  for (const structure of order) {
    const input = make("input", "", { list: "known-names", maxlength: "120", "aria-label": `what ${structure.roi} is`, placeholder: structure.role === "unknown" ? "ignored" : "as read" });
    input.dataset.roi = structure.roi;
    const cell = make("div", "", { class: "bar" });
    cell.append(input, ...structure.perhaps.map((name) => {
      const button = make("button", `${name}?`, { type: "button" });
      button.addEventListener("click", () => { input.value = name; input.focus(); });
      return button;
    }));
    const line = row(body, [structure.roi, structure.type || "–", fixed(structure.volume_cc), structure.tg263 || structure.role, structure.channel, structure.why, cell]);
    line.className = structure.role === "unknown" ? "open" : "";
  }
  el("names-section").hidden = false;
  el("options-section").hidden = false;
}

export function names() {
  const found = {};
  for (const input of el("names").querySelectorAll("input")) if (input.value.trim()) found[input.dataset.roi] = input.value.trim();
  return found;
}

export async function knownNames() {
  el("known-names").replaceChildren(...(await get("/api/names")).map((name) => make("option", "", { value: name })));
}
