// The histogram: the chosen dose thick, the other one thin, calibrated 80 % bands shaded.
import { el, fixed, library, row } from "./dom.js";

export async function drawDvh(scene, other) {
  const { view } = scene, traces = [];
  const add = (gy, volumes, curve, extra, note) => traces.push({
    x: gy, y: volumes, name: curve.name, legendgroup: curve.name, mode: "lines", visible: curve.body ? "legendonly" : true,
    hovertemplate: `${note}${fixed(curve.cc)} cc<br>%{y:.1f} % receive ≥ %{x:.1f} Gy`, ...extra,
  });
  const otherCurves = new Map((other?.view.dvh.curves ?? []).map((curve) => [curve.name, curve]));
  for (const curve of view.dvh.curves) {
    const line = { color: curve.colour, dash: curve.dash };
    if (curve.reference) add(view.dvh.gy, curve.reference, curve, { showlegend: false, line: { ...line, width: 1.2 } }, "reference, ");
    if (other && otherCurves.has(curve.name)) add(other.view.dvh.gy, otherCurves.get(curve.name).dose, curve, { showlegend: false, line: { ...line, width: 1.2 } }, "other prediction, ");
    if (curve.dose) add(view.dvh.gy, curve.dose, curve, { line: { ...line, width: 2.6 } }, "");
    const band = view.bands.filter((b) => b.structure === curve.name && /^D_\d+$/.test(b.point)).map((b) => [Number(b.point.slice(2)), b.low, b.high]).sort((a, b) => a[0] - b[0]);
    if (band.length > 1) traces.push({
      x: band.map((b) => b[1]).concat(band.map((b) => b[2]).reverse()), y: band.map((b) => b[0]).concat(band.map((b) => b[0]).reverse()), name: curve.name,
      legendgroup: curve.name, mode: "lines", showlegend: false, hoverinfo: "skip", fill: "toself", fillcolor: `${curve.colour}33`, line: { width: 0 },
    });
  }
  const words = ["Dotted: prescriptions. A click on a name hides or shows it."];
  if (view.bands.length) words.unshift("Shaded: calibrated 80 % intervals.");
  if (other) words.unshift("Thick: this prediction. Thin: the other one.");
  if (scene.arrays.reference) words.unshift("Thick: predicted. Thin: reference dose.");
  el("dvh-note").textContent = words.join(" ");
  await (await library("Plotly")).react("dvh", traces, layout(view), { responsive: true, displaylogo: false });
  for (const path of el("dvh").querySelectorAll(".modebar-btn")) path.setAttribute("role", "button");
}

function layout(view) {
  const style = getComputedStyle(document.documentElement), at = (name) => style.getPropertyValue(name).trim(), narrow = innerWidth < 700;
  const shapes = view.levels_gy.map((gy) => ({ type: "line", x0: gy, x1: gy, y0: 0, y1: 100, line: { color: at("--soft"), width: 1, dash: "dot" } }));
  const axis = { gridcolor: at("--rule"), zeroline: false, rangemode: "tozero", linecolor: at("--line") };
  return {
    margin: { l: 54, r: 10, t: 10, b: 48 }, hovermode: "closest", shapes, height: narrow ? 560 : 460, autosize: true,
    legend: narrow ? { orientation: "h", y: -0.2, font: { size: 11 } } : { font: { size: 12 }, y: 0.94 },
    xaxis: { title: { text: "dose (Gy)" }, ...axis }, yaxis: { title: { text: "volume (%)" }, range: [0, 103], ...axis },
    font: { family: "system-ui, sans-serif", color: at("--ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  };
}

export function figures(view) {
  const table = el("figures");
  table.tHead.replaceChildren();
  table.tBodies[0].replaceChildren();
  row(table.tHead, ["structure", "dose", ...view.columns.map(([name, unit]) => (unit ? `${name} (${unit})` : name))], "th");
  [...table.tHead.rows[0].cells].slice(2).forEach((cell, k) => { cell.title = view.columns[k][2]; });
  for (const line of view.table) for (const kind of ["dose", "reference"]) {
    if (!(kind in line)) continue;
    const cells = line[kind] ? line[kind].map((value, k) => (value === null ? "–" : fixed(value, k > 8 ? 2 : 1))) : [line.why];
    row(table.tBodies[0], [line.name, kind === "dose" ? "predicted" : "reference", ...cells]);
  }
}
