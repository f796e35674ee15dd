import { heifFacts } from "./heif.ts";

/**
 * What a picture's first bytes say of it: its type and its size, without decoding it. So a decompression bomb is known before anything
 * makes room for its pixels, and a file that only calls itself a picture is found out. Sizes are read as the formats' own specifications
 * have them: PNG (W3C, IHDR), JPEG (ITU-T T.81, SOFn; EXIF 2.3 in APP1), GIF89a, WebP (RFC 9649), BMP (BITMAPINFOHEADER), TIFF 6.0,
 * HEIC and AVIF (ISO/IEC 23008-12).
 */
export interface PictureHeader {
  mimeType: string;
  /** Pixels, as shown: turned as EXIF says. */
  width: number;
  height: number;
  /** As EXIF counts it, 1 to 8; 1: shown as stored. From 5 on width and height are swapped. */
  orientation: number;
}

/** So much of a file's beginning is looked at: EXIF with a thumbnail, colour profiles and comments may stand before a JPEG's size. */
export const HEADER_BYTES = 1024 * 1024;

/** Null: it is none of these formats, or broken before its size. Never throws. */
export function pictureHeader(bytes: Uint8Array): PictureHeader | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, HEADER_BYTES));
  try {
    const found = png(view) ?? jpeg(view) ?? gif(view) ?? webp(view) ?? bmp(view) ?? tiff(view) ?? heif(view);
    return found !== null && found.width > 0 && found.height > 0 ? found : null;
  } catch (thrown) {
    // Cut off in the midst of what it announces.
    if (thrown instanceof RangeError) return null;
    throw thrown;
  }
}

const plain = (mimeType: string, width: number, height: number): PictureHeader => ({
  mimeType,
  width,
  height,
  orientation: 1,
});

function ascii(view: DataView, at: number, text: string): boolean {
  if (at + text.length > view.byteLength) return false;
  for (let n = 0; n < text.length; n++) if (view.getUint8(at + n) !== text.charCodeAt(n)) return false;
  return true;
}

function png(view: DataView): PictureHeader | null {
  if (view.byteLength < 24 || view.getUint32(0) !== 0x89504e47 || !ascii(view, 12, "IHDR")) return null;
  return plain("image/png", view.getUint32(16), view.getUint32(20));
}

function gif(view: DataView): PictureHeader | null {
  if (!ascii(view, 0, "GIF87a") && !ascii(view, 0, "GIF89a")) return null;
  return plain("image/gif", view.getUint16(6, true), view.getUint16(8, true));
}

function bmp(view: DataView): PictureHeader | null {
  if (!ascii(view, 0, "BM")) return null;
  const size = view.getUint32(14, true);
  if (size === 12) return plain("image/bmp", view.getUint16(18, true), view.getUint16(20, true));
  if (size < 40 || size > 256) return null;
  // A negative height: its lines stand from the top to the bottom.
  return plain("image/bmp", view.getInt32(18, true), Math.abs(view.getInt32(22, true)));
}

function webp(view: DataView): PictureHeader | null {
  if (!ascii(view, 0, "RIFF") || !ascii(view, 8, "WEBP")) return null;
  const is = (width: number, height: number) => plain("image/webp", width, height);
  if (ascii(view, 12, "VP8X")) return is(uint24(view, 24) + 1, uint24(view, 27) + 1);
  if (ascii(view, 12, "VP8L") && view.getUint8(20) === 0x2f) {
    const bits = view.getUint32(21, true);
    return is((bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1);
  }
  // A key frame: the lowest bit of its tag is not set, and its start code follows.
  if (ascii(view, 12, "VP8 ") && (view.getUint8(20) & 1) === 0 && uint24(view, 23) === 0x2a019d) {
    return is(view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
  }
  return null;
}

const uint24 = (view: DataView, at: number) => view.getUint16(at, true) | view.getUint8(at + 2) << 16;

function heif(view: DataView): PictureHeader | null {
  const facts = heifFacts(view);
  return facts && plain(facts.mimeType, facts.width, facts.height);
}

function jpeg(view: DataView): PictureHeader | null {
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return null;
  let orientation = 1;
  for (let at = 2;;) {
    if (view.getUint8(at) !== 0xff) return null;
    const marker = view.getUint8(at + 1);
    // Fill bytes, and markers without a length.
    if (marker === 0xff) {
      at++;
      continue;
    }
    if (marker === 0x01 || marker >= 0xd0 && marker <= 0xd7) {
      at += 2;
      continue;
    }
    // The picture itself, or its end, before any size.
    if (marker === 0xda || marker === 0xd9) return null;
    const length = view.getUint16(at + 2);
    if (length < 2) return null;
    // SOF0 to SOF15, but for DHT, JPG and DAC.
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return turned(plain("image/jpeg", view.getUint16(at + 7), view.getUint16(at + 5)), orientation);
    }
    if (marker === 0xe1 && ascii(view, at + 4, "Exif\0\0")) {
      orientation = exifOrientation(view, at + 10, Math.min(length - 8, view.byteLength - at - 10));
    }
    at += 2 + length;
  }
}

/** EXIF that is broken turns nothing: the picture is still one. */
function exifOrientation(view: DataView, at: number, length: number): number {
  try {
    const tags = tiffTags(new DataView(view.buffer, view.byteOffset + at, length));
    return tags?.orientation ?? 1;
  } catch (thrown) {
    if (thrown instanceof RangeError) return 1;
    throw thrown;
  }
}

function tiff(view: DataView): PictureHeader | null {
  const tags = tiffTags(view);
  if (tags === null || tags.width === undefined || tags.height === undefined) return null;
  return turned(plain("image/tiff", tags.width, tags.height), tags.orientation ?? 1);
}

const TIFF_TAGS: Readonly<Record<number, "width" | "height" | "orientation">> = {
  256: "width",
  257: "height",
  274: "orientation",
};

/** Of the first directory. Null: it is no TIFF. */
function tiffTags(view: DataView): { width?: number; height?: number; orientation?: number } | null {
  if (view.byteLength < 8) return null;
  const little = ascii(view, 0, "II");
  if (!little && !ascii(view, 0, "MM") || view.getUint16(2, little) !== 42) return null;
  const directory = view.getUint32(4, little);
  const found: { width?: number; height?: number; orientation?: number } = {};
  for (let n = view.getUint16(directory, little); n > 0; n--) {
    const at = directory + 2 + (n - 1) * 12;
    const name = TIFF_TAGS[view.getUint16(at, little)];
    if (name === undefined) continue;
    // SHORT or LONG, one of it: the value itself stands in the entry.
    const type = view.getUint16(at + 2, little);
    if (type === 3) found[name] = view.getUint16(at + 8, little);
    else if (type === 4) found[name] = view.getUint32(at + 8, little);
  }
  return found;
}

function turned(header: PictureHeader, orientation: number): PictureHeader {
  if (orientation < 1 || orientation > 8) return header;
  const { width, height } = header;
  return orientation < 5
    ? { ...header, orientation }
    : { ...header, width: height, height: width, orientation };
}
