/** What looks the same has the same 64 bits, whatever file it is in. */
import { describe, expect, test } from "vitest";
import { type Dhash, dhashOf, MAX_JPEG_BYTES } from "../../../shared/vision/dhash/dhash.ts";
import { pictureHeader } from "../../../shared/vision/header.ts";
import {
  exifTurn,
  jpegOf,
  type Pixels,
  pngOf,
  scene,
  storedFor,
  withExif,
} from "../../harness/made_pictures.ts";

const dhash = (file: Uint8Array<ArrayBuffer>) => dhashOf(file, pictureHeader(file)!);
async function bitsOf(file: Uint8Array<ArrayBuffer>): Promise<bigint> {
  const found: Dhash = await dhash(file);
  if ("none" in found) throw new Error(found.none);
  return found.bits;
}
const distance = (a: bigint, b: bigint) =>
  [...BigInt.asUintN(64, a ^ b).toString(2)].filter((bit) => bit === "1").length;

/** As it is defined: 9 x 8 means of the pixels themselves. */
function expected({ width, height, rgba }: Pixels): bigint {
  const sums = new Float64Array(72);
  const counts = new Float64Array(72);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const cell = Math.floor(y * 8 / height) * 9 + Math.floor(x * 9 / width);
      const [r, g, b] = rgba.subarray((y * width + x) * 4) as unknown as [number, number, number];
      sums[cell]! += 0.299 * r + 0.587 * g + 0.114 * b;
      counts[cell]!++;
    }
  }
  const means = sums.map((sum, n) => sum / counts[n]!);
  let bits = 0n;
  for (let n = 0; n < 72; n++) if (n % 9 < 8) bits = bits << 1n | (means[n + 1]! > means[n]! ? 1n : 0n);
  return BigInt.asIntN(64, bits);
}

describe("the same picture", () => {
  test("has the bits that its pixels have, in every kind of file", async () => {
    const picture = scene(7, 144, 96);
    const bits = expected(picture);
    for (const kind of [0, 2, 3, 4, 6] as const) {
      expect(await bitsOf(pngOf(picture, { kind })), `${kind}`).toBe(bits);
    }
    expect(await bitsOf(pngOf(picture, { kind: 2, depth: 16 }))).toBe(bits);
    for (const quality of [30, 60, 95]) {
      expect(distance(await bitsOf(jpegOf(picture, quality)), bits)).toBeLessThanOrEqual(2);
    }
  });

  test("smaller, packed harder or turned by EXIF differs in two bits at most, another one in many", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const bits = await bitsOf(jpegOf(scene(seed, 400, 300)));
      expect(distance(await bitsOf(jpegOf(scene(seed, 333, 250), 60)), bits), `${seed}`).toBeLessThanOrEqual(
        2,
      );
      expect(distance(await bitsOf(jpegOf(scene(seed + 100, 400, 300))), bits), `${seed}`).toBeGreaterThan(8);
    }
    const shown = scene(3, 320, 240);
    const bits = expected(shown);
    for (let orientation = 1; orientation <= 8; orientation++) {
      const file = withExif(jpegOf(storedFor(shown, orientation), 90), exifTurn(orientation));
      expect(pictureHeader(file)).toMatchObject({ width: 320, height: 240, orientation });
      expect(distance(await bitsOf(file), bits), `${orientation}`).toBeLessThanOrEqual(2);
    }
  });
});

describe("there is none, and it is said why", () => {
  test.each<[string, () => Uint8Array<ArrayBuffer>, string]>([
    [
      "a plain colour",
      () => pngOf({ width: 90, height: 80, rgba: new Uint8Array(90 * 80 * 4).fill(200) }),
      "plain",
    ],
    ["what is transparent all over", () => {
      const picture = scene(1, 90, 80);
      return pngOf({ ...picture, rgba: picture.rgba.map((one, n) => n % 4 === 3 ? 0 : one) });
    }, "plain"],
    ["cut off", () => jpegOf(scene(1, 320, 240)).slice(0, 1500), "not_decoded"],
    ["a PNG that is cut off", () => pngOf(scene(1, 320, 240)).slice(0, 3000), "not_decoded"],
    ["smaller than its cells", () => jpegOf(scene(1, 64, 64)), "not_decoded"],
    ["interlaced", () => pngOf(scene(1, 90, 80)).map((one, n) => n === 28 ? 1 : one), "not_decoded"],
    ["of another type", () => new TextEncoder().encode("GIF89a\x40\x01\x40\x01 and so on"), "type"],
    ["more pixels than there is time for", () => {
      const file = pngOf(scene(1, 90, 80));
      new DataView(file.buffer).setUint32(16, 60_000);
      return file;
    }, "too_large"],
    ["too long", () => {
      const file = new Uint8Array(MAX_JPEG_BYTES + 1);
      file.set(jpegOf(scene(1, 320, 240)));
      return file;
    }, "too_large"],
  ])("%s", async (_, file, none) => {
    expect(await dhash(file())).toEqual({ none });
  });

  test("a row that announces more than is there ends; no bytes break it", async () => {
    const whole = [jpegOf(scene(2, 120, 96)), pngOf(scene(2, 120, 96))];
    let state = 1;
    const random = (
      below: number,
    ) => (state = Math.imul(state, 48_271) % 2_147_483_647, Math.abs(state) % below);
    for (let run = 0; run < 150; run++) {
      const file = whole[run % 2]!.slice();
      for (let n = 0; n < 4; n++) file[24 + random(file.length - 24)] = random(256);
      const header = pictureHeader(file);
      if (header !== null) expect(Object.keys(await dhashOf(file, header))).toHaveLength(1);
    }
  });
});
