import { joinBytes } from "../runtime/join_bytes.ts";
import { pictureHeader } from "./header.ts";
import { heifFacts } from "./heif.ts";

/** Its metadata cannot be told from its pixels: it is broken, or of a form that nothing here knows. */
export class NotStripped extends Error {
  constructor() {
    super("the metadata of this picture cannot be taken out: its file is broken");
    this.name = "NotStripped";
  }
}

/**
 * A picture without what it says of who took it, where, when and with what: EXIF (but for how it is turned, which is told in an EXIF of its
 * own), XMP, IPTC, comments, and what stands behind its end. Colour profiles stay, and not a pixel changes. Of a HEIC, an AVIF and a TIFF,
 * where all stands at its place, the metadata is overwritten with zeros. The argument is left as it is.
 * @throws NotStripped
 */
export function withoutMetadata(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const header = pictureHeader(bytes);
  if (header === null) throw new NotStripped();
  try {
    switch (header.mimeType) {
      case "image/jpeg":
        return jpeg(bytes, header.orientation);
      case "image/png":
        return png(bytes);
      case "image/webp":
        return webp(bytes);
      case "image/heic":
      case "image/heif":
      case "image/avif":
        return heif(bytes);
      case "image/tiff":
        return tiff(bytes);
      // GIF and BMP have no place for it.
      default:
        return bytes;
    }
  } catch (thrown) {
    if (thrown instanceof RangeError) throw new NotStripped();
    throw thrown;
  }
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const characters = (bytes: Uint8Array, from: number, to: number) =>
  String.fromCharCode(...bytes.subarray(from, to));

/** Tables, frames and scans, JFIF, colour profiles and how Adobe's colours are meant: nothing else. */
function jpeg(bytes: Uint8Array<ArrayBuffer>, orientation: number): Uint8Array<ArrayBuffer> {
  const view = viewOf(bytes);
  const kept: Uint8Array[] = [bytes.subarray(0, 2)];
  const turn = orientation === 1 ? [] : [exifOf(orientation)];
  // JFIF wants to be the first, so EXIF stands before the first of all others.
  let isWritten = false;
  for (let at = 2; at + 4 <= bytes.length;) {
    if (bytes[at] !== 0xff) throw new NotStripped();
    const marker = bytes[at + 1]!;
    if (marker === 0xff) {
      at++;
      continue;
    }
    if (marker === 0xd9) break;
    const end = at + 2 + view.getUint16(at + 2);
    if (marker !== 0xe0 && !isWritten) {
      kept.push(...turn);
      isWritten = true;
    }
    const isProfile = marker === 0xe2 && characters(bytes, at + 4, at + 15) === "ICC_PROFILE";
    const isMetadata = marker === 0xfe || marker >= 0xe1 && marker <= 0xef && marker !== 0xee && !isProfile;
    if (!isMetadata) kept.push(bytes.subarray(at, end));
    at = end;
    if (marker !== 0xda) continue;
    const next = endOfScan(bytes, end);
    kept.push(bytes.subarray(end, next));
    at = next;
  }
  kept.push(Uint8Array.of(0xff, 0xd9));
  return joinBytes(kept);
}

/** Where the next marker stands that is none of a scan's own. */
function endOfScan(bytes: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(0xff, from); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
    const marker = bytes[at + 1];
    if (marker !== undefined && marker !== 0 && marker !== 0xff && (marker < 0xd0 || marker > 0xd7)) {
      return at;
    }
  }
  return bytes.length;
}

/** EXIF that says how the picture is turned, and nothing else. */
function exifOf(orientation: number): Uint8Array {
  return Uint8Array.of(
    ...[0xff, 0xe1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0],
    ...[0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1],
    ...[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0],
  );
}

/** What a decoder needs for the pixels, their colours and their movement. */
const PNG_KEPT = new Set(
  "IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD pHYs acTL fcTL fdAT".split(" "),
);

function png(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const view = viewOf(bytes);
  const kept: Uint8Array[] = [bytes.subarray(0, 8)];
  for (let at = 8; at + 12 <= bytes.length;) {
    const name = characters(bytes, at + 4, at + 8);
    const end = at + 12 + view.getUint32(at);
    if (PNG_KEPT.has(name)) kept.push(bytes.subarray(at, end));
    if (name === "IEND") break;
    at = end;
  }
  return joinBytes(kept);
}

function webp(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const view = viewOf(bytes);
  const kept: Uint8Array[] = [bytes.slice(0, 12)];
  const end = Math.min(bytes.length, 8 + view.getUint32(4, true));
  for (let at = 12; at + 8 <= end;) {
    const name = characters(bytes, at, at + 4);
    const size = view.getUint32(at + 4, true);
    const next = Math.min(at + 8 + size + (size & 1), end);
    const chunk = bytes.slice(at, next);
    // That there is EXIF (bit 3) and XMP (bit 2).
    if (name === "VP8X") chunk[8]! &= ~0x0c;
    if (name !== "EXIF" && name !== "XMP ") kept.push(chunk);
    at = next;
  }
  const joined = joinBytes(kept);
  viewOf(joined).setUint32(4, joined.length - 8, true);
  return joined;
}

function heif(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const facts = heifFacts(viewOf(bytes));
  if (facts === null) throw new NotStripped();
  const copy = bytes.slice();
  for (const { from, length } of facts.metadata) {
    if (length === 0 || from + length > copy.length) throw new NotStripped();
    copy.fill(0, from, from + length);
  }
  return copy;
}

/** Description, make, model, software, date, artist, host; XMP, IPTC, Photoshop's; EXIF and GPS, which are directories of their own. */
const TIFF_METADATA = new Set([
  270,
  271,
  272,
  305,
  306,
  315,
  316,
  700,
  33_432,
  33_723,
  34_377,
  34_665,
  34_853,
]);
const TIFF_DIRECTORIES = new Set([34_665, 34_853]);
const TIFF_SIZES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4];
/** Pages. */
const MOST_DIRECTORIES = 1_000;

function tiff(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const copy = bytes.slice();
  const view = viewOf(copy);
  const little = copy[0] === 0x49;
  let directory = view.getUint32(4, little);
  for (let n = 0; directory !== 0; n++) {
    if (n === MOST_DIRECTORIES) throw new NotStripped();
    const count = view.getUint16(directory, little);
    for (let k = 0; k < count; k++) {
      const at = directory + 2 + 12 * k;
      if (TIFF_METADATA.has(view.getUint16(at, little))) erase(copy, view, at, little);
    }
    directory = view.getUint32(directory + 2 + 12 * count, little);
  }
  return copy;
}

/** An entry keeps its tag, since they stand in order, and says nothing. */
function erase(copy: Uint8Array, view: DataView, at: number, little: boolean): void {
  const [type, count] = [view.getUint16(at + 2, little), view.getUint32(at + 4, little)];
  if (TIFF_DIRECTORIES.has(view.getUint16(at, little))) {
    const inner = view.getUint32(at + 8, little);
    const entries = inner === 0 ? 0 : view.getUint16(inner, little);
    for (let k = 0; k < entries; k++) eraseValue(copy, view, inner + 2 + 12 * k, little);
    if (entries > 0) copy.fill(0, inner + 2, inner + 2 + 12 * entries);
  } else eraseValue(copy, view, at, little);
  view.setUint16(at + 2, type, little);
  view.setUint32(at + 4, Math.min(count, 1), little);
  view.setUint32(at + 8, 0, little);
}

function eraseValue(copy: Uint8Array, view: DataView, at: number, little: boolean): void {
  const length = (TIFF_SIZES[view.getUint16(at + 2, little)] ?? 1) * view.getUint32(at + 4, little);
  if (length <= 4) {
    view.setUint32(at + 8, 0, little);
    return;
  }
  const from = view.getUint32(at + 8, little);
  if (from + length > copy.length) throw new NotStripped();
  copy.fill(0, from, from + length);
}
