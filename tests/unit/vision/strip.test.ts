/** What a provider is sent says nothing of who took a picture, where and when; and HEIC and AVIF tell their sizes. */
import jpeg from "jpeg-js";
import { describe, expect, test } from "vitest";
import { pictureHeader } from "../../../shared/vision/header.ts";
import { NotStripped, withoutMetadata } from "../../../shared/vision/strip.ts";
import { exifTurn, jpegOf, pngChunk, pngOf, scene, withExif } from "../../harness/made_pictures.ts";

const SECRET = "59.9386 N, 30.3141 E";
const text = (words: string) => [...new TextEncoder().encode(words)];
const be16 = (n: number) => [n >> 8 & 255, n & 255];
const be32 = (n: number) => [...be16(n >>> 16), ...be16(n & 0xffff)];
const le32 = (n: number) => be32(n).toReversed();
const holds = (bytes: Uint8Array, words = SECRET) => new TextDecoder("latin1").decode(bytes).includes(words);
const segment = (marker: number, body: number[]) => [0xff, marker, ...be16(body.length + 2), ...body];

/** A directory with a picture's size, a description, and GPS in a directory of its own. */
function tiffWithGps(): Uint8Array<ArrayBuffer> {
  const entry = (tag: number, type: number, count: number, value: number) => [
    ...be16(tag),
    ...be16(type),
    ...be32(count),
    ...be32(value),
  ];
  const secret = text(SECRET);
  const gps = 8 + 2 + 4 * 12 + 4;
  const words = gps + 2 + 12 + 4;
  return Uint8Array.from([
    ...[...text("MM"), 0, 42, ...be32(8), ...be16(4)],
    ...entry(256, 4, 1, 300),
    ...entry(257, 4, 1, 200),
    ...entry(270, 2, secret.length, words),
    ...entry(34_853, 4, 1, gps),
    ...be32(0),
    ...[...be16(1), ...entry(2, 2, secret.length, words + secret.length), ...be32(0)],
    ...secret,
    ...secret,
  ]);
}

const box = (name: string, ...body: number[][]) => {
  const inside = body.flat();
  return [...be32(inside.length + 8), ...text(name), ...inside];
};

/** A primary item of a grid's kind, turned by a quarter, with a thumbnail; and EXIF as an item. */
function heif(brand: string, { turned = false, width = 4032, height = 3024 } = {}): Uint8Array<ArrayBuffer> {
  const ispe = (w: number, h: number) => box("ispe", be32(0), be32(w), be32(h));
  const item = (id: number, type: string) => box("infe", [2, 0, 0, 0], be16(id), be16(0), text(type), [0]);
  const secret = [...be32(0), ...text(SECRET)];
  const begin = (from: number) => {
    const extent = (
      id: number,
      at: number,
      length: number,
    ) => [...be16(id), 0, 0, ...be16(0), ...be16(1), ...be32(at), ...be32(length)];
    return [
      ...box("ftyp", text(brand), be32(0), text("mif1"), text(brand)),
      ...box(
        "meta",
        be32(0),
        box("hdlr", be32(0), be32(0), text("pict")),
        box("pitm", be32(0), be16(2)),
        box("iinf", be32(0), be16(3), item(1, "hvc1"), item(2, "grid"), item(3, "Exif")),
        box(
          "iprp",
          box("ipco", ispe(320, 240), ispe(width, height), box("irot", [turned ? 1 : 0])),
          box("ipma", be32(0), be32(2), be16(1), [1, 0x81], be16(2), [2, 0x82, 0x83]),
        ),
        box("iloc", [1, 0, 0, 0], [0x44, 0], be16(2), extent(1, from, 4), extent(3, from + 4, secret.length)),
      ),
      ...be32(12 + secret.length),
      ...text("mdat"),
    ];
  };
  return Uint8Array.from([...begin(begin(0).length), 1, 2, 3, 4, ...secret]);
}

describe("HEIC and AVIF", () => {
  test("tell their type and the size that is shown, by their headers", () => {
    expect(pictureHeader(heif("heic"))).toEqual({
      mimeType: "image/heic",
      width: 4032,
      height: 3024,
      orientation: 1,
    });
    expect(pictureHeader(heif("avif", { turned: true }))).toEqual({
      mimeType: "image/avif",
      width: 3024,
      height: 4032,
      orientation: 1,
    });
    // A bomb, too.
    expect(pictureHeader(heif("heic", { width: 2 ** 31, height: 2 ** 31 }))).toMatchObject({
      width: 2 ** 31,
    });
    expect(pictureHeader(heif("isom"))).toMatchObject({ mimeType: "image/heif" });
    expect(pictureHeader(Uint8Array.from(box("ftyp", text("isom"), be32(0), text("mp42"))))).toBeNull();
  });

  test("that are cut off or broken are none, and break nothing", () => {
    const whole = heif("heic");
    for (let n = 0; n < whole.length - 60; n += 3) {
      expect(() => pictureHeader(whole.subarray(0, n))).not.toThrow();
    }
    for (let n = 0; n < whole.length; n++) {
      for (const value of [0, 255]) {
        const broken = whole.slice();
        broken[n] = value;
        expect(() => pictureHeader(broken)).not.toThrow();
      }
    }
  });

  test("are sent without their EXIF, and else as they are", () => {
    const file = heif("heic");
    const sent = withoutMetadata(file);
    expect([holds(file), holds(sent)]).toEqual([true, false]);
    expect(sent).toHaveLength(file.length);
    expect(sent.subarray(0, -4 - SECRET.length)).toEqual(file.subarray(0, -4 - SECRET.length));
    expect(() => withoutMetadata(file.slice(0, -1))).toThrow(NotStripped);
  });
});

test("a JPEG keeps its pixels, its profile and how it is turned; place, XMP, comments and what stands behind its end go", () => {
  const plain = jpegOf(scene(1, 64, 48));
  const exif = withExif(plain, Uint8Array.from([...exifTurn(6), ...text(SECRET)]));
  const more = [
    ...segment(0xe1, text(`http://ns.adobe.com/xap/1.0/\0${SECRET}`)),
    ...segment(0xed, text(`Photoshop 3.0\0${SECRET}`)),
    ...segment(0xfe, text(SECRET)),
    ...segment(0xe2, text("ICC_PROFILE\0 its colours")),
  ];
  const file = Uint8Array.from([...exif.subarray(0, 2), ...more, ...exif.subarray(2), ...text(SECRET)]);
  const sent = withoutMetadata(file);
  expect([holds(file), holds(sent), holds(sent, "its colours")]).toEqual([true, false, true]);
  expect(pictureHeader(sent)).toEqual({ mimeType: "image/jpeg", width: 48, height: 64, orientation: 6 });
  expect(jpeg.decode(sent).data).toEqual(jpeg.decode(plain).data);
  expect(holds(withoutMetadata(plain), "Exif")).toBe(false);
});

test("a PNG and a WebP lose their words, not their picture", () => {
  const more = [
    pngChunk("tEXt", Uint8Array.from(text(`Comment\0${SECRET}`))),
    pngChunk("eXIf", tiffWithGps()),
  ];
  const file = pngOf(scene(2, 40, 30), { more });
  expect([holds(file), withoutMetadata(file)]).toEqual([true, pngOf(scene(2, 40, 30))]);

  const chunk = (
    name: string,
    body: number[],
  ) => [...text(name), ...le32(body.length), ...body, ...(body.length % 2 ? [0] : [])];
  const riff = (chunks: number[]) =>
    Uint8Array.from([...text("RIFF"), ...le32(chunks.length + 4), ...text("WEBP"), ...chunks]);
  const head = (flags: number) => chunk("VP8X", [flags, 0, 0, 0, 99, 0, 0, 49, 0, 0]);
  const pixels = chunk("VP8L", [0x2f, 1, 2, 3, 4]);
  const webp = riff([
    ...head(0x1c),
    ...pixels,
    ...chunk("EXIF", text(SECRET)),
    ...chunk("XMP ", text(SECRET)),
  ]);
  expect(withoutMetadata(webp)).toEqual(riff([...head(0x10), ...pixels]));
});

test("a TIFF keeps its form, and its place is zeros", () => {
  const file = tiffWithGps();
  const sent = withoutMetadata(file);
  expect([holds(file), holds(sent)]).toEqual([true, false]);
  expect(sent).toHaveLength(file.length);
  expect(pictureHeader(sent)).toEqual(pictureHeader(file));
});

test("what is broken is not sent as it is", () => {
  const file = jpegOf(scene(1, 64, 48));
  // Behind its size no segment begins.
  const at = file.findIndex((one, n) => one === 0xff && file[n + 1] === 0xc0);
  file[at + 2 + 17] = 0;
  expect(pictureHeader(file)).not.toBeNull();
  expect(() => withoutMetadata(file)).toThrow(NotStripped);
  expect(() => withoutMetadata(Uint8Array.from(text("no picture")))).toThrow(NotStripped);
});
