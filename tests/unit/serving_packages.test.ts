/** What `npm start` installs before it serves: each package is a newcomer's time, and room on their disk. */
import { expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";

/** 235 MB on Linux, on x64; Deno is 96 of them and PostgreSQL 60. */
const MOST_MB = 240;

interface Entry {
  dev?: boolean;
  peer?: boolean;
  optional?: boolean;
  link?: boolean;
}
const entries: [string, Entry][] = Object.entries(
  JSON.parse(Deno.readTextFileSync(`${CHECKOUT}/package-lock.json`)).packages,
);
const serving = entries.filter(([path, { dev, peer }]) => path !== "" && !dev && !peer);

test("is as listed: run it with -u after a change of packages, and look at what came along", async () => {
  const names = serving.filter(([, { optional }]) => !optional)
    .map(([path]) => path.replace("node_modules/", ""));
  await expect(`${names.join("\n")}\n`).toMatchFileSnapshot("serving_packages.txt");
});

test("is no link, whose packages npm would install for serving too", () => {
  expect(entries.filter(([, { link }]) => link).map(([path]) => path)).toEqual([]);
});

test.skipIf(Deno.build.os !== "linux" || Deno.build.arch !== "x86_64")("has its bound in megabytes", () => {
  const sizes = new Map<number | null, number>();
  for (const [path] of serving) sizesBelow(`${CHECKOUT}/${path}`, sizes);
  const megabytes = [...sizes.values()].reduce((sum, size) => sum + size, 0) / 1e6;
  expect(megabytes).toBeGreaterThan(150);
  expect(megabytes).toBeLessThan(MOST_MB);
});

/** Of each file once: Deno's program stands in two places, as links to the same file. */
function sizesBelow(folder: string, sizes: Map<number | null, number>): void {
  let names: Deno.DirEntry[];
  try {
    names = [...Deno.readDirSync(folder)];
  } catch {
    // It is for another system.
    return;
  }
  for (const { name, isDirectory, isFile } of names) {
    const path = `${folder}/${name}`;
    if (isFile) {
      const { ino, size } = Deno.lstatSync(path);
      sizes.set(ino, size);
    } else if (isDirectory) sizesBelow(path, sizes);
  }
}
