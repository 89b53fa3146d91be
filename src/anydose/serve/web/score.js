// Hard limits beside the total, the scorecard, the comparison and the notes of one prediction.
import { el, fixed, make, row } from "./dom.js";

const flag = (text) => make("span", text, { class: `flag ${text.split(" ")[0]}` });

export function drawScore(view) {
  el("notes").replaceChildren(...view.notes.map((text) => make("li", text)));
  el("score-part").hidden = !view.score;
  if (view.score) {
    headline(view);
    limits(view.score);
    items(view.score);
  }
  el("comparison-part").hidden = !view.comparison;
  if (view.comparison) {
    const body = el("comparison").tBodies[0];
    body.replaceChildren();
    for (const [name, value] of Object.entries(view.comparison.figures)) row(body, [name, fixed(value, 2)]);
  }
  const body = el("provenance").tBodies[0];
  body.replaceChildren();
  for (const pair of [...view.lines, ...Object.entries(view.provenance)]) row(body, pair);
}

function headline(view) {
  const words = ({ limits: kept, lowest, total, maximum, percent, withheld }) => {
    const parts = Object.entries(kept).filter(([, n]) => n).map(([state, n]) => flag2(`${n} limit${n > 1 ? "s" : ""} ${state}`, state));
    if (lowest) parts.push(make("span", `lowest target V95 ${fixed(lowest[1])} % (${lowest[0]})`));
    parts.push(make("span", withheld ? `total withheld: ${withheld}` : `total ${fixed(total, 2)} of ${fixed(maximum, 0)} (${fixed(percent)} %)`));
    return parts;
  };
  el("headline").replaceChildren(...words(view.headline));
  if (view.reference_score) el("headline").append(make("small", "reference:"), ...words(view.reference_score));
}
const flag2 = (text, state) => make("span", text, { class: `flag ${state.split(" ")[0]}` });

function limits(score) {
  const table = el("limits");
  table.tHead.replaceChildren();
  table.tBodies[0].replaceChildren();
  if (!score.limits.length) return;
  row(table.tHead, ["structure", "metric", "value", "hard limit", "state"], "th");
  for (const limit of score.limits) row(table.tBodies[0], [limit.structure, limit.metric, fixed(limit.value, 2), limit.limit, flag(limit.state)]);
}

function items(score) {
  const table = el("items");
  table.tHead.replaceChildren();
  table.tBodies[0].replaceChildren();
  row(table.tHead, ["structure", "metric", "value", "points", "of", "state", "why"], "th");
  for (const item of score.items) row(table.tBodies[0], [item.structure, item.metric, item.value === null ? "–" : `${fixed(item.value, 2)} ${item.unit ?? ""}`, fixed(item.score, 2), fixed(item.maximum, 2), flag(item.flag), item.why]);
}
