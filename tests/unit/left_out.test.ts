import { expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { leftOut, PARTS } from "../harness/left_out.ts";

test("a user who lacks something is told what is left out, and what to do to have it", () => {
  expect(leftOut(PARTS.map((part) => ({ ...part, isHere: () => true })))).toEqual([]);
  const lines = leftOut(PARTS.map((part) => ({ ...part, isHere: () => false })));
  expect(lines).toHaveLength(PARTS.length);
  expect(new Set(lines).size).toBe(PARTS.length);
  for (const line of lines) expect(line).toMatch(/^Left out: .+\. To have it: .+$/);
  expect(lines[0]).toBe(
    "Left out: what needs Python. To have it: install Python 3.10 or newer, as python3",
  );
});

test("whatever a test is skipped for is a part that is told, and each part is one that tests ask for", () => {
  const asked = conditions("tests");
  expect(asked.length).toBeGreaterThan(40);
  const known = PARTS.flatMap(({ conditions }) => conditions);
  expect(asked.filter((one) => !known.some((part) => one.includes(part)))).toEqual([]);
  expect(known.filter((part) => !asked.some((one) => one.includes(part)))).toEqual([]);
});

/** What stands in the brackets of every `skipIf`. */
function conditions(folder: string): string[] {
  return [...Deno.readDirSync(`${CHECKOUT}/${folder}`)].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return name.startsWith(".") || name === "fixtures" ? [] : conditions(path);
    if (
      !name.endsWith(".ts") || ["tests/unit/left_out.test.ts", "tests/harness/test_sources.ts"].includes(path)
    ) return [];
    const text = Deno.readTextFileSync(`${CHECKOUT}/${path}`);
    expect(text, `${path}: say skipIf, whose conditions are told`).not.toMatch(/\.runIf\(/);
    return [...text.matchAll(/\b(?:test|it|describe)\.skipIf\(/g)].map(({ index, 0: { length } }) => {
      let depth = 1;
      let end = index + length;
      for (; depth > 0; end++) depth += { "(": 1, ")": -1 }[text[end]!] ?? 0;
      return text.slice(index + length, end - 1);
    });
  });
}
