// The colour scales of the report, as NiiVue takes them.
const WASH = [[0, 0, 143], [0, 64, 255], [0, 220, 255], [40, 255, 120], [255, 240, 0], [255, 120, 0], [230, 0, 0], [128, 0, 0]];
const DIVERGING = [[20, 60, 190], [70, 150, 255], [200, 228, 255], [255, 255, 255], [255, 214, 190], [255, 110, 70], [180, 10, 30]];
const SPREAD = [[40, 20, 80], [120, 40, 130], [210, 70, 110], [255, 140, 80], [255, 235, 160]];

const map = (colours, alpha) => ({
  R: colours.map((c) => c[0]), G: colours.map((c) => c[1]), B: colours.map((c) => c[2]),
  A: colours.map((_, k) => alpha(k / (colours.length - 1))),
  I: colours.map((_, k) => Math.round((255 * k) / (colours.length - 1))),
});
const solid = () => 255;
export const MAPS = {
  "dose-wash": map(WASH, solid),
  "dose-difference": map(DIVERGING, (t) => Math.round(255 * Math.min(1, Math.abs(2 * t - 1) * 3))),
  "dose-spread": map(SPREAD, solid),
};
export const mapOf = (wash) => ({ dose: "dose-wash", reference: "dose-wash", difference: "dose-difference" })[wash] ?? "dose-spread";

// A scale to be read: a gradient with its ends and middle in Gy.
export function drawScale(canvas, scene, wash) {
  const { R, G, B, I } = MAPS[mapOf(wash)], ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || 300;
  canvas.width = width * ratio; canvas.height = 34 * ratio;
  const g = canvas.getContext("2d"), top = scene.tops[wash], low = wash === "difference" ? -top : 0;
  g.scale(ratio, ratio);
  const ramp = g.createLinearGradient(24, 0, width - 24, 0);
  I.forEach((at, k) => ramp.addColorStop(at / 255, `rgb(${R[k]} ${G[k]} ${B[k]})`));
  g.fillStyle = ramp;
  g.fillRect(24, 2, width - 48, 12);
  g.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
  g.font = "12px system-ui, sans-serif"; g.textAlign = "center"; g.textBaseline = "top";
  for (let k = 0; k <= 4; k++) {
    const gy = low + ((top - low) * k) / 4;
    g.fillText(`${gy > 0 && low < 0 ? "+" : ""}${gy.toFixed(top < 8 ? 1 : 0)}${k === 4 ? " Gy" : ""}`, 24 + ((width - 48) * k) / 4, 17);
  }
}
