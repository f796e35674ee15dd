import { expect, test } from "vitest";

/** Beyond this a list of files is searched, not read: some of them have a topic that can be a folder. */
const MOST_FILES = 25;

function* foldersIn(path: string): Generator<{ path: string; files: number }> {
  const entries = [...Deno.readDirSync(new URL(`../../${path}`, import.meta.url))];
  yield { path, files: entries.filter(({ isFile }) => isFile).length };
  for (const { name, isDirectory } of entries) if (isDirectory) yield* foldersIn(`${path}/${name}`);
}

test("no folder of shared/ has more files than one reads", () => {
  const folders = [...foldersIn("shared")];
  expect(folders.length).toBeGreaterThan(30);
  expect(folders.filter(({ files }) => files > MOST_FILES)).toEqual([]);
});
