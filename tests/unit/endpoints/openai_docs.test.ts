/** The table of docs/openai.md names a test for each of its rows, and each of those is there. */
import { expect, test } from "vitest";

const root = new URL("../../../", import.meta.url);
const page = Deno.readTextFileSync(new URL("docs/openai.md", root));
const [, supported = ""] = page.split("## What is supported");
const rows = supported.split("\n## ")[0]!.split("\n").filter((line) => /^\| (?!what +\||-)/.test(line));

const CLIENTS = ["openai_client", "ai_sdk", "scanner"];

function sourceOf(file: string): string {
  const path = CLIENTS.includes(file)
    ? `tests/endpoints/openai/${file}.ts`
    : file === "browser_clients"
    ? "tests/e2e/browser_clients.test.ts"
    : `tests/unit/endpoints/${file}.test.ts`;
  return Deno.readTextFileSync(new URL(path, root));
}

test("there are rows", () => expect(rows.length).toBeGreaterThan(30));

test.each(rows)("%s", (row) => {
  const cells = row.split(" | ");
  const named = [...(cells.at(-1) ?? "").matchAll(/`([a-z_]+): ([^`]+)`/g)];
  expect(cells).toHaveLength(3);
  expect(named.length).toBeGreaterThan(0);
  for (const [, file, title] of named) {
    // With its opening parenthesis: `test("...`, `test.each([...])("...`; on a line of its own if it is long.
    expect(sourceOf(file!), `${file}: ${title}`).toMatch(new RegExp(`\\(\\s*"${RegExp.escape(title!)}"`));
  }
});

test("every test of the clients is behind a row", () => {
  const all = CLIENTS.flatMap((file) =>
    [...sourceOf(file).matchAll(/\btest(?:\.\w+\([^\n]*\))?\("([^"]+)"/g)].map(([, title]) =>
      `${file}: ${title}`
    )
  );
  expect(all.length).toBeGreaterThan(35);
  expect(all.filter((name) => !rows.some((row) => row.includes(`\`${name}\``)))).toEqual([]);
});
