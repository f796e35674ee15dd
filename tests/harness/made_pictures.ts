/** Pictures made for tests: as pixels, and as files that decoders of others read. */
import { crc32, deflateSync } from "node:zlib";
import jpeg from "jpeg-js";
import { joinBytes } from "../../shared/runtime/join_bytes.ts";

export interface Pixels {
  width: number;
  height: number;
  /** Red, green, blue and alpha, row by row. */
  rgba: Uint8Array;
}

/** A picture with forms and colours in it, its own for each seed: blobs of light on a slope. */
export function scene(seed: number, width: number, height: number): Pixels {
  let state = seed * 2_654_435_761 >>> 0 || 1;
  const random = () => (state = Math.imul(state ^ state >>> 15, 2_246_822_519) + 0x9e3779b9 >>> 0) / 2 ** 32;
  const blobs = Array.from({ length: 14 }, () => ({
    x: random(),
    y: random(),
    size: 0.01 + random() * 0.03,
    light: random() * 220 - 110,
    ink: Math.floor(random() * 3),
  }));
  // A blob is as wide as it is tall, so its light is that of its column times that of its row.
  const light = (length: number, middle: (blob: typeof blobs[number]) => number) =>
    blobs.map((blob) =>
      Float64Array.from(
        { length },
        (_, n) => Math.exp(-(((n + 0.5) / length - middle(blob)) ** 2) / blob.size),
      )
    );
  const across = light(width, ({ x }) => x);
  const down = light(height, ({ y }) => y);
  const rgba = new Uint8ClampedArray(width * height * 4);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const ink: [number, number, number] = [110 + 40 * x / width, 120 - 30 * y / height, 100];
      for (let n = 0; n < blobs.length; n++) {
        const own = blobs[n]!.light * across[n]![x]! * down[n]![y]!;
        ink[0] += own * 0.6;
        ink[1] += own * 0.6;
        ink[2] += own * 0.6;
        ink[blobs[n]!.ink]! += own * 0.4;
      }
      rgba[at] = ink[0];
      rgba[at + 1] = ink[1];
      rgba[at + 2] = ink[2];
      rgba[at + 3] = 255;
    }
  }
  return { width, height, rgba: new Uint8Array(rgba.buffer) };
}

/** What is stored so that a viewer that turns it as EXIF says shows `shown`. */
export function storedFor(shown: Pixels, orientation: number): Pixels {
  const swapped = orientation >= 5;
  const [width, height] = swapped ? [shown.height, shown.width] : [shown.width, shown.height];
  const rgba = new Uint8Array(shown.rgba.length);
  const [right, bottom] = [shown.width - 1, shown.height - 1];
  for (let y = 0; y < shown.height; y++) {
    for (let x = 0; x < shown.width; x++) {
      // EXIF 2.3: 1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left bottom.
      const [column, row] = ([
        [x, y],
        [right - x, y],
        [right - x, bottom - y],
        [x, bottom - y],
        [y, x],
        [
          y,
          right - x,
        ],
        [bottom - y, right - x],
        [bottom - y, x],
      ] as const)[orientation - 1]!;
      rgba.set(
        shown.rgba.subarray((y * shown.width + x) * 4, (y * shown.width + x) * 4 + 4),
        (row * width + column) * 4,
      );
    }
  }
  return { width, height, rgba };
}

export function jpegOf({ width, height, rgba }: Pixels, quality = 85): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(jpeg.encode({ width, height, data: rgba }, quality).data);
}

/** With an APP1 of EXIF behind its beginning. */
export function withExif(file: Uint8Array, tiff: Uint8Array): Uint8Array<ArrayBuffer> {
  const body = [...new TextEncoder().encode("Exif\0\0"), ...tiff];
  const length = body.length + 2;
  return Uint8Array.from([
    ...file.subarray(0, 2),
    0xff,
    0xe1,
    length >> 8,
    length & 255,
    ...body,
    ...file.subarray(2),
  ]);
}

/** The smallest EXIF that turns a picture. */
export function exifTurn(orientation: number): Uint8Array {
  return Uint8Array.from([
    ...[0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1],
    ...[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0],
    ...[0, 0, 0, 0],
  ]);
}

/** A chunk of a PNG, with its check. */
export function pngChunk(name: string, data: Uint8Array): Uint8Array {
  const chunk = new Uint8Array(data.length + 12);
  chunk.set(new TextEncoder().encode(name), 4);
  chunk.set(data, 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, data.length);
  view.setUint32(8 + data.length, crc32(chunk.subarray(4, 8 + data.length)));
  return chunk;
}

/** Grey (0), colours (2), a palette of greys (3), each with transparency (4, 6); 8 or 16 bits; every filter in turn. */
export function pngOf(
  { width, height, rgba }: Pixels,
  { kind = 6, depth = 8, more = [] }: { kind?: 0 | 2 | 3 | 4 | 6; depth?: 8 | 16; more?: Uint8Array[] } = {},
): Uint8Array<ArrayBuffer> {
  const channels = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[kind];
  const unit = channels * depth / 8;
  const size = width * unit;
  const rows = new Uint8Array(height * (size + 1));
  let above = new Uint8Array(size);
  for (let y = 0; y < height; y++) {
    const row = new Uint8Array(size);
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * 4;
      const [r, g, b, a] = [rgba[at]!, rgba[at + 1]!, rgba[at + 2]!, rgba[at + 3]!];
      const grey = Math.round(r * 0.299 + g * 0.587 + b * 0.114);
      const samples = kind === 6 ? [r, g, b, a] : kind === 2 ? [r, g, b] : [grey, a];
      for (let n = 0; n < channels; n++) row[x * unit + n * depth / 8] = samples[n]!;
    }
    const filter = y % 5;
    const at = y * (size + 1);
    rows[at] = filter;
    for (let n = 0; n < size; n++) {
      const [left, up, corner] = [row[n - unit] ?? 0, above[n]!, above[n - unit] ?? 0];
      const [toLeft, toUp, toCorner] = [
        Math.abs(up - corner),
        Math.abs(left - corner),
        Math.abs(left + up - 2 * corner),
      ];
      const nearest = toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
      rows[at + 1 + n] = row[n]! -
        (filter === 1
          ? left
          : filter === 2
          ? up
          : filter === 3
          ? left + up >> 1
          : filter === 4
          ? nearest
          : 0);
    }
    above = row;
  }
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([depth, kind], 8);
  const greys = Uint8Array.from({ length: 768 }, (_, n) => Math.floor(n / 3));
  const data = deflateSync(rows);
  const half = Math.ceil(data.length / 2);
  const chunks = [
    Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]),
    pngChunk("IHDR", header),
    ...more,
    ...(kind === 3 ? [pngChunk("PLTE", greys)] : []),
    pngChunk("IDAT", data.subarray(0, half)),
    pngChunk("IDAT", data.subarray(half)),
    pngChunk("IEND", new Uint8Array(0)),
  ];
  return joinBytes(chunks);
}
