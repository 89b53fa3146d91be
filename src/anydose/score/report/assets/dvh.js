function traces() {
  const found = [];
  for (const curve of data.dvh.curves) {
    for (const key of ["reference", "dose"]) {
      if (!curve[key]) continue;
      const own = key === "dose";
      found.push({
        x: data.dvh.gy, y: curve[key], name: curve.name, legendgroup: curve.name, mode: "lines", showlegend: own, visible: curve.body ? "legendonly" : true,
        line: { color: curve.colour, width: own ? 2.6 : 1.2, dash: curve.dash },
        hovertemplate: `${own ? "" : "reference, "}${fixed(curve.cc, 1)} cc<br>%{y:.1f} % receive ≥ %{x:.1f} Gy`,
      });
    }
    const points = data.bands.filter((band) => band.structure === curve.name && /^D_\d+$/.test(band.point))
      .map((band) => [Number(band.point.slice(2)), band.low, band.high]).sort((a, b) => a[0] - b[0]);
    if (points.length > 1)
      found.push({
        x: points.map((p) => p[1]).concat(points.map((p) => p[2]).reverse()), y: points.map((p) => p[0]).concat(points.map((p) => p[0]).reverse()),
        legendgroup: curve.name, mode: "lines", showlegend: false, hoverinfo: "skip", fill: "toself", fillcolor: curve.colour + "33", line: { width: 0 },
      });
  }
  return found;
}

const PAPER_HEIGHT = 300;  // so that it stands below the slices; their legend is its own
function layout() {
  const narrow = onPaper || innerWidth < 700;
  const shapes = data.levels_gy.map((gy) => ({ type: "line", x0: gy, x1: gy, y0: 0, y1: 100, line: { color: tone("--soft"), width: 1, dash: "dot" } }));
  const axis = { gridcolor: tone("--rule"), zeroline: false, rangemode: "tozero", linecolor: tone("--line") };
  return {
    margin: { l: 54, r: 10, t: 10, b: 48 }, hovermode: "closest", shapes, height: onPaper ? PAPER_HEIGHT : narrow ? 560 : 460, ...(onPaper ? { width: PAPER_WIDTH } : { width: null, autosize: true }),
    showlegend: !onPaper, legend: narrow ? { orientation: "h", y: -0.2, font: { size: 11 } } : { font: { size: 12 }, y: 0.94 },
    xaxis: { title: { text: "dose (Gy)" }, ...axis }, yaxis: { title: { text: "volume (%)" }, range: [0, 103], ...axis },
    font: { family: "system-ui, sans-serif", color: tone("--ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  };
}

async function histogram() {
  const words = ["Dotted: prescriptions. Click a name to hide or show it."];
  if (arrays.reference) words.unshift("Thick: this dose. Thin: the reference dose.");
  if (data.bands.length) words.unshift("Shaded: calibrated 80 % intervals of the prediction.");
  el("dvh-note").textContent = words.join(" ");
  el("dvh").style.height = "auto";
  await Plotly.newPlot("dvh", traces(), layout(), { responsive: true, displaylogo: false });
  const again = () => { Plotly.relayout("dvh", layout()); if (!onPaper) refresh(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  for (const event of ["resize", "beforeprint", "afterprint"]) window.addEventListener(event, again);
}

async function start() {
  tables();
  const types = { ct: Uint8Array, dose: Uint16Array, reference: Uint16Array, masks: Uint32Array };
  vol.structures.forEach((structure, k) => { if (structure.edge) types["part-" + k] = Uint8Array; });
  for (const [name, Type] of Object.entries(types)) {
    const buffer = await unpack(name);
    if (buffer) arrays[name] = new Type(buffer);
  }
  if (arrays.reference) {
    const sizes = [];
    for (let k = 0; k < arrays.dose.length; k += 7) {
      const delta = Math.abs(gyAt("dose", k) - gyAt("reference", k));
      if (delta > 0.05) sizes.push(delta);
    }
    sizes.sort((a, b) => a - b);
    diffTop = Math.max(2, Math.ceil(sizes[Math.floor(0.98 * sizes.length)] || 2));
  }
  Object.keys(PLANES).forEach(addView);
  controls();
  redraw();
  const script = make("script");
  script.textContent = new TextDecoder().decode(await unpack("plotly"));
  document.head.append(script);
  await histogram();
  document.title = `${data.case} · anydose report`;
  document.body.dataset.ready = "yes";
}
start();
