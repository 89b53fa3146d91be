// The colour scales of the report, as NiiVue takes them.
const WASH = [[0, 0, 143], [0, 64, 255], [0, 220, 255], [40, 255, 120], [255, 240, 0], [255, 120, 0], [230, 0, 0], [128, 0, 0]];
const DIVERGING = [[20, 60, 190], [70, 150, 255], [200, 228, 255], [255, 255, 255], [255, 214, 190], [255, 110, 70], [180, 10, 30]];
const SPREAD = [[40, 20, 80], [120, 40, 130], [210, 70, 110], [255, 140, 80], [255, 235, 160]];

// A scale of 256 steps, painted where `isShown` (0 to 1, of the whole scale) and transparent elsewhere: NiiVue knows no
// more of an overlay's alpha than whether there is any.
const LAST = 255;
function map(colours, from, isShown) {
  const found = { R: [], G: [], B: [], A: [], I: [] };
  for (let k = 0; k <= LAST; k++) {
    const t = from + ((1 - from) * k) / LAST, place = t * (colours.length - 1), n = Math.min(Math.floor(place), colours.length - 2);
    const colour = colours[n].map((v, i) => Math.round(v + (colours[n + 1][i] - v) * (place - n)));
    ["R", "G", "B"].forEach((name, i) => found[name].push(colour[i]));
    found.A.push(isShown(t, k) ? LAST : 0);
    found.I.push(k);
  }
  return found;
}
const above = (colours, floor) => map(colours, floor, (t, k) => k > 0);
export const FLOORS = { dose: 0.1 / 1.12, reference: 0.1 / 1.12, uncertainty: 0.05, spread: 0.05, difference: 0.02 }; // of the scale's top
export const SCALES = { "dose-wash": WASH, "dose-difference": DIVERGING, "dose-spread": SPREAD };
export const MAPS = {
  "dose-wash": above(WASH, FLOORS.dose),
  "dose-difference": map(DIVERGING, 0, (t) => Math.abs(2 * t - 1) > FLOORS.difference),
  "dose-spread": above(SPREAD, FLOORS.spread),
};
export const mapOf = (wash) => ({ dose: "dose-wash", reference: "dose-wash", difference: "dose-difference" })[wash] ?? "dose-spread";

// A scale to be read: a gradient with its ends and middle in Gy.
export function drawScale(canvas, scene, wash) {
  const colours = SCALES[mapOf(wash)], ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || 300;
  canvas.width = width * ratio; canvas.height = 34 * ratio;
  const g = canvas.getContext("2d"), top = scene.tops[wash], low = wash === "difference" ? -top : 0;
  g.scale(ratio, ratio);
  const ramp = g.createLinearGradient(24, 0, width - 24, 0);
  colours.forEach((colour, k) => ramp.addColorStop(k / (colours.length - 1), `rgb(${colour.join(" ")})`));
  g.fillStyle = ramp;
  g.fillRect(24, 2, width - 48, 12);
  g.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
  g.font = "12px system-ui, sans-serif"; g.textAlign = "center"; g.textBaseline = "top";
  const step = nice((top - low) / 8), x = (gy) => 24 + ((width - 48) * (gy - low)) / (top - low), digits = step < 1 ? 1 : 0;
  for (let k = Math.ceil(low / step - 1e-9); k * step <= top + 1e-9; k++) {
    const gy = k * step;
    g.fillRect(x(gy) - 0.5, 14, 1, 3);
    g.fillText(`${gy > 0 && low < 0 ? "+" : ""}${gy.toFixed(digits).replace("-", "−")}`, x(gy), 18);
  }
  g.textAlign = "right";
  g.fillText("Gy", width, 2);
}

// A step of 1, 2 or 5 times a power of ten, at least as wide as asked.
function nice(step) {
  const ten = 10 ** Math.floor(Math.log10(step));
  return ten * [1, 2, 5, 10].find((n) => n * ten >= step - 1e-9);
}
