import type { PictureHeader } from "../header.ts";
import { type BrightnessGrid, NotDecoded } from "./grid.ts";
import { jpegGrid } from "./jpeg.ts";
import { pngGrid } from "./png.ts";

/** 9 x 8 cells: each is brighter than its right neighbour, or is not. */
const COLUMNS = 9;
const ROWS = 8;
/**
 * A hosted function has 2 s of CPU, and looks at several pictures in them. A JPEG costs by its bytes (some 20 ms a megabyte), a PNG by its
 * pixels (some 20 ms a million): what is larger goes without.
 */
export const MAX_JPEG_BYTES = 4 * 1024 * 1024;
export const MAX_PNG_PIXELS = 4_000_000;
/** The largest file of which there may be a hash: such a PNG is incompressible. */
export const MAX_HASHED_BYTES = 8 * 1024 * 1024;
/** Of 255. Neighbours that differ by less differ by chance: by how they were packed. */
const LEAST_DIFFERENCE = 1;
/** Of 64 pairs so many must tell: else it is a plain colour, or a text on white, and looks like all such. */
const LEAST_TELLING = 32;

/** The hash, or why there is none: `too_large`, `type` (none that is decoded here), `not_decoded` (broken, interlaced, inks, too small), `plain`. */
export type Dhash = { bits: bigint } | { none: "too_large" | "type" | "not_decoded" | "plain" };

/** Whether a file of that header and size is worth being read as a whole for it. */
export function isHashable({ mimeType, width, height }: PictureHeader, sizeBytes: number): boolean {
  if (mimeType === "image/jpeg") return sizeBytes <= MAX_JPEG_BYTES;
  return mimeType === "image/png" && sizeBytes <= MAX_HASHED_BYTES && width * height <= MAX_PNG_PIXELS;
}

/** What a picture looks like in 64 bits: of the picture as it is shown, turned as EXIF says. @param bytes the whole file */
export async function dhashOf(bytes: Uint8Array<ArrayBuffer>, header: PictureHeader): Promise<Dhash> {
  const { mimeType, orientation } = header;
  if (mimeType !== "image/jpeg" && mimeType !== "image/png") return { none: "type" };
  if (!isHashable(header, bytes.byteLength)) return { none: "too_large" };
  // Lying, its columns are what will be rows.
  const [columns, rows] = orientation >= 5 ? [ROWS, COLUMNS] : [COLUMNS, ROWS];
  let grid: BrightnessGrid;
  try {
    grid = mimeType === "image/jpeg" ? jpegGrid(bytes, columns, rows) : await pngGrid(bytes, columns, rows);
  } catch (thrown) {
    if (thrown instanceof NotDecoded || thrown instanceof RangeError) return { none: "not_decoded" };
    throw thrown;
  }
  const shown = turned(grid, orientation);
  let bits = 0n;
  let telling = 0;
  for (let y = 0; y < ROWS; y++) {
    for (let x = 0; x < COLUMNS - 1; x++) {
      const difference = shown(x + 1, y) - shown(x, y);
      if (Math.abs(difference) >= LEAST_DIFFERENCE) telling++;
      bits = bits << 1n | (difference > 0 ? 1n : 0n);
    }
  }
  return telling < LEAST_TELLING ? { none: "plain" } : { bits: BigInt.asIntN(64, bits) };
}

/** The cell at a place of the picture as it is shown. EXIF 2.3: where row 0 and column 0 of what is stored lie. */
function turned(grid: BrightnessGrid, orientation: number): (x: number, y: number) => number {
  const means = grid.means();
  const at = (column: number, row: number) => means[row * grid.columns + column]!;
  const [right, bottom] = [COLUMNS - 1, ROWS - 1];
  switch (orientation) {
    case 2:
      return (x, y) => at(right - x, y);
    case 3:
      return (x, y) => at(right - x, bottom - y);
    case 4:
      return (x, y) => at(x, bottom - y);
    case 5:
      return (x, y) => at(y, x);
    case 6:
      return (x, y) => at(y, right - x);
    case 7:
      return (x, y) => at(bottom - y, right - x);
    case 8:
      return (x, y) => at(bottom - y, x);
    default:
      return at;
  }
}
