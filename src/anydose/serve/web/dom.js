// Small words for the page. Text is always set as text, so that no name can become markup.
export const el = (id) => document.getElementById(id);

export function make(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

export function row(table, cells, kind = "td") {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const box = document.createElement(kind);
    if (kind === "th") box.scope = "col";
    if (cell instanceof Node) box.append(cell);
    else box.textContent = cell;
    if (typeof cell === "string" && /^[-−]?[\d.]+$/.test(cell)) box.className = "n";
    line.append(box);
  }
  table.append(line);
  return line;
}

export const fixed = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export function say(text, kind = "") {
  const place = el("said");
  place.className = kind;
  place.textContent = text;
}

// Runs what a person asked for; a refusal becomes a sentence.
export const tried = (action) => async (...given) => {
  try {
    await action(...given);
  } catch (error) {
    say(error.message, "wrong");
  }
};

export function minutes(seconds) {
  if (seconds === null) return "not known yet";
  return seconds < 90 ? `about ${Math.max(1, Math.round(seconds))} s` : `about ${Math.round(seconds / 60)} min`;
}

// A library that the page loads beside everything else, once it is there.
export async function library(name) {
  for (let waited = 0; !(name in window); waited += 50) {
    if (waited > 120_000) throw new Error(`${name} is not there: run "make web", or install a wheel that holds it`);
    await new Promise((done) => setTimeout(done, 50));
  }
  return window[name];
}
