import { BrightnessGrid, NotDecoded } from "./grid.ts";

/**
 * The brightness of a PNG (W3C, third edition), row by row as it is unpacked: it is never held as a whole. What is transparent stands on
 * white. Not of interlaced ones, whose rows come seven times.
 */
export async function pngGrid(
  bytes: Uint8Array<ArrayBuffer>,
  columns: number,
  rows: number,
): Promise<BrightnessGrid> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [width, height, depth, kind] = [view.getUint32(16), view.getUint32(20), bytes[24]!, bytes[25]!];
  const channels = CHANNELS[kind];
  if (channels === undefined || bytes[26] !== 0 || bytes[27] !== 0) {
    throw new NotDecoded("of an unknown kind");
  }
  if (bytes[28] !== 0) throw new NotDecoded("interlaced");
  const data: Uint8Array<ArrayBuffer>[] = [];
  let palette = new Uint8Array(0);
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const name = view.getUint32(at + 4);
    if (name === IDAT) data.push(bytes.subarray(at + 8, at + 8 + length));
    else if (name === PLTE) palette = bytes.slice(at + 8, at + 8 + length);
    at += 12 + length;
  }
  const grid = new BrightnessGrid(columns, rows, width, height);
  const bits = depth * channels;
  const unit = Math.max(1, bits >> 3);
  const brightness = rowReader(kind, depth, width, palette);
  const size = Math.ceil(width * bits / 8);
  let row = new Uint8Array(size);
  let above = new Uint8Array(size);
  let filter = -1;
  let filled = 0;
  let y = 0;
  const unpacked = new Blob(data).stream().pipeThrough(new DecompressionStream("deflate"));
  try {
    for await (const chunk of unpacked) {
      for (let at = 0; at < chunk.length && y < height;) {
        if (filter < 0) {
          filter = chunk[at++]!;
          filled = 0;
          continue;
        }
        const some = chunk.subarray(at, at + size - filled);
        row.set(some, filled);
        filled += some.length;
        at += some.length;
        if (filled < size) continue;
        unfilter(filter, row, above, unit);
        grid.addRow(y++, brightness(row));
        [row, above] = [above, row];
        filter = -1;
      }
      // What follows belongs to no row.
      if (y === height) break;
    }
  } catch (thrown) {
    if (thrown instanceof NotDecoded) throw thrown;
    throw new NotDecoded("its data is broken");
  }
  if (y < height) throw new NotDecoded("it is cut off");
  return grid;
}

const IDAT = 0x49444154;
const PLTE = 0x504c5445;
/** By colour type: grey, colours, a palette, grey and colours with transparency. */
const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

/** In place. @param above the row before, as it is; zeros before the first one */
function unfilter(filter: number, row: Uint8Array, above: Uint8Array, unit: number): void {
  const { length } = row;
  switch (filter) {
    case 0:
      return;
    case 1:
      for (let n = unit; n < length; n++) row[n] = row[n]! + row[n - unit]!;
      return;
    case 2:
      for (let n = 0; n < length; n++) row[n] = row[n]! + above[n]!;
      return;
    case 3:
      for (let n = 0; n < unit; n++) row[n] = row[n]! + (above[n]! >> 1);
      for (let n = unit; n < length; n++) row[n] = row[n]! + (row[n - unit]! + above[n]! >> 1);
      return;
    case 4:
      for (let n = 0; n < unit; n++) row[n] = row[n]! + above[n]!;
      for (let n = unit; n < length; n++) {
        const a = row[n - unit]!;
        const b = above[n]!;
        const c = above[n - unit]!;
        const p = a + b - c;
        const toA = p > a ? p - a : a - p;
        const toB = p > b ? p - b : b - p;
        const toC = p > c ? p - c : c - p;
        row[n] = row[n]! + (toA <= toB && toA <= toC ? a : toB <= toC ? b : c);
      }
      return;
    default:
      throw new NotDecoded("an unknown filter");
  }
}

/** The brightness of each pixel of a row, 0 to 255. Of 16 bits the upper 8 count. */
function rowReader(
  kind: number,
  depth: number,
  width: number,
  palette: Uint8Array,
): (row: Uint8Array) => Uint8Array {
  const out = new Uint8Array(width);
  if (depth < 8) {
    const most = (1 << depth) - 1;
    const values = Uint8Array.from(
      { length: most + 1 },
      (_, n) => kind === 3 ? inks(palette, n) : n * 255 / most,
    );
    return (row) => {
      for (let x = 0; x < width; x++) {
        const bit = x * depth;
        out[x] = values[row[bit >> 3]! >> 8 - depth - (bit & 7) & most]!;
      }
      return out;
    };
  }
  const step = depth >> 3;
  if (kind === 3) {
    const values = Uint8Array.from({ length: 256 }, (_, n) => inks(palette, n));
    return (row) => {
      for (let x = 0; x < width; x++) out[x] = values[row[x]!]!;
      return out;
    };
  }
  const colours = kind === 2 || kind === 6;
  const alpha = kind === 4 ? step : kind === 6 ? 3 * step : -1;
  const unit = CHANNELS[kind]! * step;
  return (row) => {
    for (let x = 0, at = 0; x < width; x++, at += unit) {
      const value = colours ? luma(row[at]!, row[at + step]!, row[at + 2 * step]!) : row[at]!;
      out[x] = alpha < 0 ? value : 255 - (255 - value) * row[at + alpha]! / 255;
    }
    return out;
  };
}

/** As JPEG weighs them (ITU-R BT.601). */
function luma(red: number, green: number, blue: number): number {
  return (red * 299 + green * 587 + blue * 114) / 1000;
}

function inks(palette: Uint8Array, n: number): number {
  return luma(palette[3 * n] ?? 0, palette[3 * n + 1] ?? 0, palette[3 * n + 2] ?? 0);
}
