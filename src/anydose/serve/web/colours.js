// The colour scales of the report, as NiiVue takes them.
const WASH = [[0, 0, 143], [0, 64, 255], [0, 220, 255], [40, 255, 120], [255, 240, 0], [255, 120, 0], [230, 0, 0], [128, 0, 0]];
const DIVERGING = [[20, 60, 190], [70, 150, 255], [200, 228, 255], [255, 255, 255], [255, 214, 190], [255, 110, 70], [180, 10, 30]];
const SPREAD = [[40, 20, 80], [120, 40, 130], [210, 70, 110], [255, 140, 80], [255, 235, 160]];

// From `floor` (of the whole scale) up; what lies below it is transparent.
function above(colours, floor) {
  const steps = 32, at = (t) => {
    const place = t * (colours.length - 1), k = Math.min(Math.floor(place), colours.length - 2);
    return colours[k].map((v, i) => Math.round(v + (colours[k + 1][i] - v) * (place - k)));
  };
  const found = map(Array.from({ length: steps }, (_, k) => at(floor + ((1 - floor) * k) / (steps - 1))), solid);
  for (const [name, first] of Object.entries({ R: found.R[0], G: found.G[0], B: found.B[0], A: 0, I: 0 })) found[name].unshift(first);
  found.I[1] = 1;
  return found;
}
const map = (colours, alpha) => ({
  R: colours.map((c) => c[0]), G: colours.map((c) => c[1]), B: colours.map((c) => c[2]),
  A: colours.map((_, k) => alpha(k / (colours.length - 1))),
  I: colours.map((_, k) => Math.round((255 * k) / (colours.length - 1))),
});
const solid = () => 255;
export const FLOORS = { dose: 0.1 / 1.12, reference: 0.1 / 1.12, uncertainty: 0.05, spread: 0.05 }; // of the scale's top
export const SCALES = { "dose-wash": WASH, "dose-difference": DIVERGING, "dose-spread": SPREAD };
export const MAPS = {
  "dose-wash": above(WASH, FLOORS.dose),
  "dose-difference": map(DIVERGING, (t) => Math.round(255 * Math.min(1, Math.abs(2 * t - 1) * 3))),
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
