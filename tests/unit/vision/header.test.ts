import fc from "fast-check";
import { expect, test } from "vitest";
import { pictureHeader } from "../../../shared/vision/header.ts";

const bytes = (...parts: (string | number[])[]) =>
  Uint8Array.from(
    parts.flatMap((part) => typeof part === "string" ? [...part].map((c) => c.charCodeAt(0)) : part),
  );
const be16 = (n: number) => [n >> 8 & 255, n & 255];
const be32 = (n: number) => [...be16(n >>> 16), ...be16(n & 0xffff)];
const le16 = (n: number) => be16(n).toReversed();
const le32 = (n: number) => be32(n).toReversed();

/** One directory of SHORTs (3) and LONGs (4). */
function tiff(little: boolean, tags: [tag: number, type: 3 | 4, value: number][]): number[] {
  const [s, l] = little ? [le16, le32] : [be16, be32];
  return [
    ...(little ? [0x49, 0x49] : [0x4d, 0x4d]),
    ...s(42),
    ...l(8),
    ...s(tags.length),
    ...tags.flatMap(([tag, type, value]) => [
      ...s(tag),
      ...s(type),
      ...l(1),
      ...(type === 3 ? [...s(value), 0, 0] : l(value)),
    ]),
    ...l(0),
  ];
}

const sof = (
  marker: number,
  width: number,
  height: number,
) => [0xff, marker, ...be16(11), 8, ...be16(height), ...be16(width), 1, 0, 0, 0];
const exif = (orientation: number, little = false) => {
  const body = [...bytes("Exif\0\0"), ...tiff(little, [[274, 3, orientation]])];
  return [0xff, 0xe1, ...be16(body.length + 2), ...body];
};
const PNG = bytes([0x89], "PNG\r\n\x1a\n", be32(13), "IHDR", be32(640), be32(480), [8, 6, 0, 0, 0]);
const JPEG = bytes([0xff, 0xd8], exif(6), [0xff, 0xff, 0xdb, ...be16(4), 1, 2], sof(0xc2, 4000, 3000));

test.each<[string, Uint8Array, unknown[]]>([
  ["png", PNG, ["image/png", 640, 480, 1]],
  ["jpeg, progressive, turned by EXIF", JPEG, ["image/jpeg", 3000, 4000, 6]],
  ["jpeg, mirrored by EXIF", bytes([0xff, 0xd8], exif(2, true), sof(0xc0, 40, 30)), [
    "image/jpeg",
    40,
    30,
    2,
  ]],
  ["jpeg whose EXIF is nonsense", bytes([0xff, 0xd8], exif(99), sof(0xc0, 40, 30)), [
    "image/jpeg",
    40,
    30,
    1,
  ]],
  [
    "jpeg with Huffman tables before its size",
    bytes([0xff, 0xd8, 0xff, 0xc4, ...be16(3), 0], sof(0xc1, 7, 9)),
    ["image/jpeg", 7, 9, 1],
  ],
  ["gif", bytes("GIF89a", le16(320), le16(200), [0, 0, 0]), ["image/gif", 320, 200, 1]],
  [
    "webp with a frame of its own",
    bytes("RIFF", le32(1), "WEBPVP8X", le32(10), [0, 0, 0, 0], [0xff, 0x0f, 0], [0x37, 0x04, 0]),
    ["image/webp", 4096, 1080, 1],
  ],
  [
    "webp without loss",
    bytes("RIFF", le32(1), "WEBPVP8L", le32(10), [0x2f], le32(99 | 49 << 14), [0, 0]),
    ["image/webp", 100, 50, 1],
  ],
  [
    "webp with loss",
    bytes("RIFF", le32(1), "WEBPVP8 ", le32(10), [0, 0, 0, 0x9d, 0x01, 0x2a], le16(550), le16(368)),
    ["image/webp", 550, 368, 1],
  ],
  ["bmp from the top", bytes("BM", le32(0), le32(0), le32(54), le32(40), le32(12), le32(-8 >>> 0)), [
    "image/bmp",
    12,
    8,
    1,
  ]],
  ["tiff", bytes(tiff(false, [[256, 4, 1240], [257, 3, 1754], [274, 3, 8]])), ["image/tiff", 1754, 1240, 8]],
])("%s", (_, file, [mimeType, width, height, orientation]) => {
  expect(pictureHeader(file)).toEqual({ mimeType, width, height, orientation });
});

test("a bomb is known by its header: 30 bytes that announce 4 billion pixels", () => {
  const bomb = PNG.slice();
  bomb.set([...be32(65_535), ...be32(65_535)], 16);
  expect(pictureHeader(bomb)).toMatchObject({ width: 65_535, height: 65_535 });
});

test("what is no picture, or ends before its size, is none; nothing breaks the reader", () => {
  for (
    const wrong of [
      "",
      "hello, world, this is a text and no picture",
      "%PDF-1.7",
      "BM",
      "GIF89a",
      "RIFF0000WEBP",
    ]
  ) {
    expect(pictureHeader(bytes(wrong)), wrong).toBeNull();
  }
  for (const whole of [PNG, JPEG]) {
    for (let n = 0; n < 24; n++) expect(pictureHeader(whole.subarray(0, n))).toBeNull();
  }
  // A directory that points behind the end, and one that points at itself.
  expect(pictureHeader(bytes("II", le16(42), le32(4_000_000_000)))).toBeNull();
  expect(pictureHeader(bytes("II", le16(42), le32(0)))).toBeNull();
  const beginnings = fc.constantFrom(
    PNG,
    JPEG,
    bytes("BM"),
    bytes("II*\0"),
    bytes("MM\0*"),
    bytes([0xff, 0xd8]),
  );
  fc.assert(
    fc.property(beginnings, fc.uint8Array({ maxLength: 80 }), fc.nat(60), (begin, rest, cut) => {
      const found = pictureHeader(Uint8Array.from([...begin.subarray(0, cut), ...rest]));
      if (found !== null) expect(Math.min(found.width, found.height)).toBeGreaterThan(0);
    }),
    { numRuns: 400 },
  );
});
