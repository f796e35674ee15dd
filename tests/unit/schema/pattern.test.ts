/** Regular expressions of schemas. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compilePattern, MAX_PATTERN_SIZE, unfoldedSize } from "../../../shared/schema/pattern.ts";

test.each([
  ["^(x+x+)+y$", "x".repeat(50_000)],
  ["^(a|aa)+$", `${"a".repeat(50_000)}b`],
  ["(.*a){20}b", "a".repeat(20_000)],
])("%s, which JavaScript's engine would not be done with, ends", (source, text) => {
  expect(compilePattern(source).matches(text)).toBe(false);
});

test.each([
  ["(?=a)b", "looking around"],
  ["(?<!a)b", "looking around"],
  ["(a)\\1", "referring back"],
  ["(?<n>a)\\k<n>", "refers back"],
  ["(a", "cannot be used"],
  ["a".repeat(2_001), "longer"],
  ["a{1000}b", "repeats too much"],
  ["((a{10}){10}){20}", "repeats too much"],
  ["[^]{1000,}", "repeats too much"],
])("%s is refused", (source, why) => {
  expect(() => compilePattern(source)).toThrow(why);
});

test.each([
  ["^\\d{4}-\\d{2}$", "2026-11", "2026-1"],
  ["^[\\w.\\-]+\\/$", "a-b.c/", "a b/"],
  ["^\\u00e9\\x41$", "éA", "e"],
  ["^(?<year>\\d+)$", "2026", "x"],
  ["\\p{L}", "я", "1"],
])("%s means what it means in JavaScript", (source, good, bad) => {
  expect(compilePattern(source).matches(good)).toBe(true);
  expect(compilePattern(source).matches(bad)).toBe(false);
});

describe("how much a pattern unfolds to", () => {
  test.each([
    ["abc", 3],
    ["[abc]{5}", 5],
    ["(ab){5}", 20],
    ["((ab){5}){2}", 44],
    ["\\p{Letter}{3}", 3],
    ["a{2,4}", 4],
    ["a{3,}", 4],
    ["a{x}", 4],
  ])("%s: %i", (source, size) => {
    expect(unfoldedSize(source)).toBe(size);
  });

  test("is known before it is compiled, so that compiling stays small", () => {
    const piece = fc.letrec((tie) => ({
      piece: fc.oneof(
        { maxDepth: 5 },
        fc.constantFrom("a", "[a-c]", "[]x]", "\\p{L}", ".", "\\]", "[\\]{9}]"),
        fc.tuple(tie("piece"), tie("piece")).map(([a, b]) => `${a}${b}`),
        fc.tuple(tie("piece"), tie("piece")).map(([a, b]) => `(${a}|${b})`),
        fc.tuple(tie("piece"), fc.integer({ min: 0, max: 40 })).map(([a, n]) => `(?:${a}){${n}}`),
        fc.tuple(tie("piece"), fc.integer({ min: 0, max: 9 })).map(([a, n]) => `(${a}){${n},}`),
        fc.tuple(tie("piece"), fc.integer({ min: 0, max: 9 })).map(([a, n]) => `(${a}){0,${n}}`),
      ),
    })).piece as fc.Arbitrary<string>;
    fc.assert(
      fc.property(piece, (source) => {
        let size: number;
        try {
          ({ size } = compilePattern(source));
        } catch {
          return;
        }
        expect(size).toBeLessThanOrEqual(3 * unfoldedSize(source) + 10);
        expect(size).toBeLessThanOrEqual(3 * MAX_PATTERN_SIZE + 10);
      }),
      { seed: 12, numRuns: 500 },
    );
  });
});
