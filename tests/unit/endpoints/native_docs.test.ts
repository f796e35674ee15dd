/** The table of docs/native.md names a test for each of its rows, and each of those is there. */
import { expect, test } from "vitest";

const root = new URL("../../../", import.meta.url);
const page = Deno.readTextFileSync(new URL("docs/native.md", root));
const [, supported = ""] = page.split("## What is supported");
const rows = supported.split("\n").filter((line) => /^\| (?!what +\||-)/.test(line));

const FOLDERS: Record<string, string> = {
  native: "tests/endpoints",
  answers: "tests/e2e",
  retries: "tests/e2e",
  slow_readers: "tests/e2e",
  gateway: "tests/e2e",
  output_limit: "tests/unit/gateway",
};

function sourceOf(file: string): string {
  return Deno.readTextFileSync(new URL(`${FOLDERS[file] ?? "tests/unit/endpoints"}/${file}.test.ts`, root));
}

test("there are rows", () => expect(rows.length).toBeGreaterThan(15));

test.each(rows)("%s", (row) => {
  const cells = row.split(" | ");
  const named = [...(cells.at(-1) ?? "").matchAll(/`([a-z_]+): ([^`]+)`/g)];
  expect(cells).toHaveLength(3);
  expect(named.length).toBeGreaterThan(0);
  for (const [, file, title] of named) {
    // With its opening parenthesis, on a line of its own if it is long.
    expect(sourceOf(file!), `${file}: ${title}`).toMatch(new RegExp(`\\(\\s*"${RegExp.escape(title!)}"`));
  }
});

test("every field of the request is in a row", () => {
  const [, section = ""] = page.split("## The request");
  const fields = [...section.split("\n## ")[0]!.matchAll(/^\| `([a-z_]+)`/gm)].map(([, field]) => field!);
  expect(fields.length).toBeGreaterThan(15);
  const elsewhere = ["stage"];
  expect(
    fields.filter((field) => !elsewhere.includes(field) && !rows.some((row) => row.includes(`\`${field}\``))),
  )
    .toEqual([]);
});
