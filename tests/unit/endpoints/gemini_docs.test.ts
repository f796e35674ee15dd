/** The table of docs/gemini.md names a test for each of its rows, and each of those is there. */
import { expect, test } from "vitest";
import { GEMINI_METHODS } from "../../../shared/endpoints/gemini/route.ts";

const root = new URL("../../../", import.meta.url);
const page = Deno.readTextFileSync(new URL("docs/gemini.md", root));
const [, supported = ""] = page.split("## What is supported");
const rows = supported.split("\n## ")[0]!.split("\n").filter((line) => /^\| (?!what +\||-)/.test(line));

const sources = new Map<string, string>();
function sourceOf(file: string): string {
  const path = file === "browser_clients"
    ? "tests/e2e/browser_clients.test.ts"
    : `tests/endpoints/gemini/${file}.ts`;
  const known = sources.get(file) ?? Deno.readTextFileSync(new URL(path, root));
  sources.set(file, known);
  return known;
}

test("there are rows, for every method of the API too", () => {
  expect(rows.length).toBeGreaterThan(20);
  for (const method of GEMINI_METHODS) {
    expect(rows.some((row) => row.startsWith(`| \`${method}`)), method).toBe(true);
  }
});

test.each(rows)("%s", (row) => {
  const cells = row.split(" | ");
  const named = [...(cells.at(-1) ?? "").matchAll(/`([a-z_]+): ([^`]+)`/g)];
  expect(cells).toHaveLength(3);
  expect(named.length).toBeGreaterThan(0);
  for (const [, file, title] of named) {
    // With its opening parenthesis: `test("...`, `test.each([...])("...`, `test.skipIf(...)("...`.
    expect(sourceOf(file!), `${file}: ${title}`).toContain(`("${title}"`);
  }
});

test("every test of the clients is behind a row", () => {
  const all = ["google_genai", "google_generative_ai", "ai_sdk", "rest"].flatMap((file) =>
    [...sourceOf(file).matchAll(/\btest(?:\.\w+\([^\n]*\))?\("([^"]+)"/g)].map(([, title]) =>
      `${file}: ${title}`
    )
  );
  expect(all.length).toBeGreaterThan(50);
  expect(all.filter((name) => !rows.some((row) => row.includes(`\`${name}\``)))).toEqual([]);
});
