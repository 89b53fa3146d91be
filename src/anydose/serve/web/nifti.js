// NIfTI-1 as the server writes it: one volume, little endian, along the patient's axes.
const TYPES = { 4: Int16Array, 16: Float32Array, 768: Uint32Array };
export const HEADER = 352;

export async function unzipped(blob) {
  return new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

export function values(buffer) {
  const header = new DataView(buffer);
  if (header.getInt32(0, true) !== 348) throw new Error("no NIfTI volume");
  const Type = TYPES[header.getInt16(70, true)];
  if (!Type) throw new Error("a NIfTI type that the page does not know");
  return new Type(buffer, header.getFloat32(108, true));
}

// A float volume with the header of another one; what is not a number becomes nothing, as NiiVue needs it.
export function withValues(buffer, make) {
  const out = new ArrayBuffer(buffer.byteLength), from = values(buffer);
  if (!(from instanceof Float32Array)) throw new Error("a float volume is needed");
  new Uint8Array(out).set(new Uint8Array(buffer, 0, HEADER));
  const to = new Float32Array(out, HEADER);
  for (let k = 0; k < to.length; k++) {
    const value = make(from[k], k);
    to[k] = Number.isNaN(value) ? 0 : value;
  }
  return out;
}
