/** Pictures as people have them: screenshots of this checkout, icons and photographs of this machine's programs, and made ones. */
import { CHECKOUT } from "../../local/paths.ts";
import { jpegOf, pngOf, scene } from "./made_pictures.ts";

/** Where Debian's packages have theirs; what is not there is left out. */
const FOLDERS = [
  `${CHECKOUT}/docs/pictures`,
  "/usr/share/icons",
  "/usr/share/pixmaps",
  "/usr/share/backgrounds",
  "/usr/share/matplotlib",
  "/usr/share/doc/nodejs",
];
const NAMES = /\.(png|jpe?g|gif|webp|tiff?|bmp)$/;
/** What the usual policy looks at. */
const LEAST_BYTES = 2_048;
const MOST_BYTES = 2_000_000;
/** Of a hundred so many are found, if there are as many; the others are made, and so on every machine of all types. */
const FOUND_PERCENT = 70;

/** So many different pictures, the same on one machine each time. */
export async function realPictures(count: number): Promise<Uint8Array<ArrayBuffer>[]> {
  const found: Uint8Array<ArrayBuffer>[] = [];
  const paths = (await Promise.all(FOLDERS.map(pathsBelow))).flat();
  // Evenly from all of them: those of one folder look much alike.
  const most = Math.min(paths.length, Math.floor(count * FOUND_PERCENT / 100));
  const seen = new Set<string>();
  for (let n = 0; n < paths.length && found.length < most; n++) {
    const bytes = await Deno.readFile(paths[Math.floor(n * 0.618_034 * paths.length) % paths.length]!);
    const text = `${bytes.length} ${bytes.subarray(-2_000).join()}`;
    if (seen.has(text)) continue;
    seen.add(text);
    found.push(bytes);
  }
  for (let seed = 1; found.length < count; seed++) {
    const [width, height] = [200 + seed % 7 * 40, 160 + seed % 5 * 40];
    const pixels = scene(seed, width, height);
    found.push(seed % 2 === 0 ? pngOf(pixels) : jpegOf(pixels));
  }
  return found;
}

async function pathsBelow(folder: string): Promise<string[]> {
  const paths: string[] = [];
  try {
    for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
      const path = `${folder}/${name}`;
      if (isDirectory) paths.push(...await pathsBelow(path));
      else if (isFile && NAMES.test(name)) {
        const { size } = await Deno.stat(path);
        if (size >= LEAST_BYTES && size <= MOST_BYTES) paths.push(path);
      }
    }
  } catch (thrown) {
    if (!(thrown instanceof Deno.errors.NotFound)) throw thrown;
  }
  return paths.sort();
}
