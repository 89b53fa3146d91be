// Lines where `field` (w x h) crosses `level`: marching squares with linear interpolation, chained. Each line is
// a list of [column, row].
export function lines(field, w, h, level) {
  const at = new Map(), next = new Map();
  const join = (a, b) => { if (next.has(a)) next.get(a).push(b); else next.set(a, [b]); };
  const cut = (a, b) => (level - a) / (b - a);
  for (let r = 0; r < h - 1; r++) for (let c = 0; c < w - 1; c++) {
    const k = r * w + c, a = field[k], b = field[k + 1], d = field[k + w + 1], e = field[k + w];
    const ia = a >= level, ib = b >= level, id = d >= level, ie = e >= level;
    if (ia === ib && ib === id && id === ie) continue;
    const hits = [];
    const hit = (key, x, y) => { at.set(key, [x, y]); hits.push(key); };
    if (ia !== ib) hit(2 * k, c + cut(a, b), r);
    if (ib !== id) hit(2 * (k + 1) + 1, c + 1, r + cut(b, d));
    if (ie !== id) hit(2 * (k + w), c + cut(e, d), r + 1);
    if (ia !== ie) hit(2 * k + 1, c, r + cut(a, e));
    for (let n = 0; n + 1 < hits.length; n += 2) { join(hits[n], hits[n + 1]); join(hits[n + 1], hits[n]); }
  }
  return chained(at, next);
}

function chained(at, next) {
  const found = [], seen = new Set();
  const ends = [...next.keys()].filter((key) => next.get(key).length === 1);
  for (const start of [...ends, ...next.keys()]) {
    if (seen.has(start)) continue;
    const line = [];
    for (let key = start; key !== undefined && !seen.has(key); key = next.get(key).find((other) => !seen.has(other))) {
      seen.add(key);
      line.push(at.get(key));
    }
    if (next.get(start).length > 1) line.push(at.get(start)); // closed
    found.push(line);
  }
  return found;
}
