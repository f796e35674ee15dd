import * as fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import {
  JsonCount,
  MAX_JSON_DEPTH,
  MAX_JSON_VALUES,
  parseInnerJson,
  parseJson,
} from "../../../shared/http/json.ts";
import { JsonMeter, jsonSize } from "../../../shared/http/json_size.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const sizeOf = (text: string) => jsonSize(bytes(text), { values: Infinity, depth: Infinity });
const count = (text: string) => sizeOf(text).values;

/** Values and names in what was parsed. */
function valuesIn(value: unknown): number {
  if (typeof value !== "object" || value === null) return 1;
  const inside = Object.values(value).reduce((sum: number, inner) => sum + valuesIn(inner), 0);
  return 1 + inside + (Array.isArray(value) ? 0 : Object.keys(value).length);
}

const depthOf = (value: unknown): number =>
  typeof value !== "object" || value === null ? 0 : 1 + Math.max(0, ...Object.values(value).map(depthOf));

describe("jsonSize", () => {
  test.each([
    ["1", 1],
    ["[]", 2],
    ["[1,2]", 3],
    ['{"a":1,"b":[]}', 6],
    ['"[[[,,,:::{{{"', 1],
    ['"\\"[[[,,,"', 1],
    ['["\\\\",1]', 3],
    ['["\\\\\\",1]', 2],
    ['"[[[', 1],
    ["", 1],
  ])("%s counts as %i", (text, expected) => expect(count(text)).toBe(expected));

  test("never fewer than there are, at most twice as many, however it is written", () => {
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 6, noUnicodeString: false }),
        fc.constantFrom(0, 1, "\t"),
        (text, indent) => {
          const value = JSON.parse(text);
          const written = JSON.stringify(value, null, indent);
          const there = valuesIn(value);
          expect(count(written)).toBeGreaterThanOrEqual(there);
          expect(count(written)).toBeLessThanOrEqual(2 * there);
          expect(sizeOf(written).depth).toBe(depthOf(value));
        },
      ),
      { numRuns: 500 },
    );
  });

  test("texts full of quotes, backslashes and brackets hide nothing and add nothing", () => {
    const tricky = fc.string({ unit: fc.constantFrom('"', "\\", "[", "{", ",", ":", "ы", "\u2028") });
    fc.assert(fc.property(fc.array(tricky, { maxLength: 8 }), (texts) => {
      // One for the list, one for each text but the first, and the first is counted with the list.
      expect(count(JSON.stringify(texts))).toBe(1 + Math.max(texts.length, 1));
    }));
  });

  test("a text in pieces counts as the whole one, wherever it is cut", () => {
    const tricky = fc.string({
      unit: fc.constantFrom('"', "\\", "[", "]", "{", "}", ",", ":", "ы"),
      maxLength: 40,
    });
    const text = fc.oneof(tricky, fc.array(tricky).map((texts) => JSON.stringify(texts)));
    fc.assert(
      fc.property(text, fc.array(fc.nat(60), { maxLength: 6 }), (text, cuts) => {
        const whole = bytes(text);
        const meter = new JsonMeter({ values: Infinity, depth: Infinity });
        const ends = [...cuts, whole.length].sort((a, b) => a - b);
        ends.forEach((end, n) => meter.add(whole.subarray(ends[n - 1] ?? 0, end)));
        expect(meter.size).toEqual(sizeOf(text));
      }),
      { numRuns: 2_000 },
    );
  });

  test("any bytes at all are counted without an error, up to the bound and one more", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(20), (some, most) => {
      expect(jsonSize(some, { values: 1 + most, depth: 9 }).values).toBeLessThanOrEqual(most + 2);
    }));
  });
});

describe("what a body may hold", () => {
  const tooMany = expect.objectContaining({ code: "body_too_large", status: 413 });
  const list = (values: number) => `[${Array(values - 1).fill("1").join(",")}]`;

  test("as many values as there may be, and not one more", () => {
    expect(parseJson(bytes(list(MAX_JSON_VALUES)))).toHaveLength(MAX_JSON_VALUES - 1);
    expect(() => parseJson(bytes(list(MAX_JSON_VALUES + 1)))).toThrow(tooMany);
  });

  test.each([
    ["tiny arrays", `[${"[],".repeat(3_000_000)}[]]`],
    ["many keys", `{${Array.from({ length: 680_000 }, (_, n) => `"k${n}":1`).join(",")}}`],
    ["objects in objects", `[${'{"a":{}},'.repeat(1_000_000)}1]`],
  ])("9 MB of %s are refused and never made", (_, text) => {
    const parse = vi.spyOn(JSON, "parse");
    try {
      expect(() => parseJson(bytes(text))).toThrow(tooMany);
      expect(parse).not.toHaveBeenCalled();
    } finally {
      parse.mockRestore();
    }
  });

  test("as they arrive: no more is looked at than it takes to see that there are too many", () => {
    const piece = bytes("[],".repeat(1_000));
    const count = new JsonCount();
    count.add(bytes("["));
    for (let n = 0; n < MAX_JSON_VALUES / 2_000 - 1; n++) count.add(piece);
    expect(() => count.add(piece)).toThrow(tooMany);
    const deep = bytes("[".repeat(MAX_JSON_DEPTH + 1));
    expect(() => new JsonCount().add(deep)).toThrow(expect.objectContaining({ code: "invalid_json" }));
  });

  test("nine megabytes of one text are fine", () => {
    expect(parseJson(bytes(`"${"[,{:".repeat(2_250_000)}"`))).toHaveLength(9_000_000);
  });

  test("JSON inside of texts is charged to one allowance", () => {
    const allowance = { values: 10 };
    expect(parseInnerJson(list(6), allowance)).toHaveLength(5);
    expect(() => parseInnerJson(list(6), allowance)).toThrow(tooMany);
    expect(parseInnerJson("prose, ".repeat(100), allowance)).toBeUndefined();
    expect(allowance).toEqual({ values: 4 });
    expect(parseInnerJson("[".repeat(500_000) + "]".repeat(500_000), { values: 1_000_000 })).toBeUndefined();
  });
});
