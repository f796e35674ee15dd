/** Values held against schemas, in counted steps. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkValue, MAX_STEPS } from "../../../shared/schema/check.ts";
import { compileSchema } from "../../../shared/schema/compile.ts";

const check = (schema: unknown, value: unknown, maxSteps?: number) =>
  checkValue(compileSchema(schema, "schema"), value, maxSteps);
const faultOf = (schema: unknown, value: unknown) => {
  const checked = check(schema, value);
  return checked.outcome === "broken" ? checked.fault : checked.outcome;
};

const EVENT = { type: "object", properties: { price: { type: "integer" } }, required: ["price"] };

test.each<[unknown, unknown[], unknown[]]>([
  [true, [1, null], []],
  [false, [], [1, null]],
  [{}, [1, "a", null, []], []],
  [{ type: "integer" }, [1, -0, 1e3], [1.5, "1", null]],
  [{ type: ["string", "null"] }, ["a", null], [1]],
  [{ type: "STRING", nullable: true }, ["a", null], [1]],
  [{ type: "TYPE_UNSPECIFIED" }, ["a", 1], []],
  [{ enum: ["a", 1, null, { a: [1], b: 2 }] }, ["a", 1, null, { b: 2, a: [1] }], ["1", { a: [1] }]],
  [{ type: "INTEGER", enum: ["101", "201"] }, [101], [301]],
  [{ const: null }, [null], [0]],
  [{ const: { a: 1 } }, [{ a: 1 }], [{ a: 2 }]],
  [{ minimum: 1, exclusiveMaximum: 3 }, [1, 2.9, "a"], [0, 3]],
  [{ minimum: 1, exclusiveMinimum: true, maximum: "3" }, [1.1, 3], [1, 4]],
  [{ multipleOf: 0.1 }, [0.3, 7, 1e12], [0.35]],
  [{ minLength: 2, maxLength: 3 }, ["ab", "😀😀😀", 1], ["a", "abcd", "😀"]],
  [{ min_items: "1", max_items: 2 }, [[1]], [[], [1, 2, 3]]],
  [{ items: { type: "string" }, uniqueItems: true }, [["a", "b"]], [["a", 1], ["a", "a"]]],
  [{ uniqueItems: true }, [[{ a: 1 }, { a: 2 }, 1, "1"]], [[{ a: 1, b: 2 }, { b: 2, a: 1 }]]],
  [{ prefixItems: [{ type: "string" }], items: false }, [[], ["a"]], [[1], ["a", 1]]],
  [{ items: [{ type: "string" }], additionalItems: { type: "number" } }, [["a", 1]], [["a", "b"]]],
  [{ contains: { const: 1 }, maxContains: 2 }, [[1], [2, 1, 1]], [[], [2], [1, 1, 1]]],
  [EVENT, [{ price: 1 }, { price: 1, other: 2 }], [{}, { price: "1" }, []]],
  [{ ...EVENT, additionalProperties: false }, [{ price: 1 }], [{ price: 1, other: 2 }]],
  [{ additionalProperties: { type: "string" } }, [{ a: "b" }], [{ a: 1 }]],
  [
    { patternProperties: { "^x_": { type: "number" } }, additionalProperties: false },
    [{ x_a: 1 }],
    [{ x_a: "1" }, { y: 1 }],
  ],
  [{ propertyNames: { enum: ["a", "b"] } }, [{ a: 1 }], [{ c: 1 }]],
  [{ minProperties: 1, maxProperties: 1 }, [{ a: 1 }], [{}, { a: 1, b: 1 }]],
  [{ dependentRequired: { a: ["b"] } }, [{ b: 1 }, { a: 1, b: 1 }], [{ a: 1 }]],
  [{ anyOf: [{ type: "string" }, { type: "null" }] }, ["a", null], [1]],
  [{ any_of: [{ type: "string" }] }, ["a"], [1]],
  [{ oneOf: [{ minimum: 2 }, { maximum: 3 }] }, [1, 4], [2]],
  [{ allOf: [{ minimum: 2 }, { maximum: 3 }] }, [2], [1, 4]],
  [{ not: {} }, [], [1, null]],
  [{ if: { const: 1 }, then: true, else: { type: "string" } }, [1, "a"], [2]],
  [{ $ref: "#/$defs/a", minimum: 2, $defs: { a: { type: "number" } } }, [2], [1, "a"]],
  [
    {
      type: "object",
      properties: { inner: { anyOf: [{ $ref: "#" }, { type: "null" }] } },
      required: ["inner"],
    },
    [{ inner: null }, { inner: { inner: null } }],
    [{}, { inner: { inner: 1 } }],
  ],
  [{ pattern: "^\\d{4}$" }, ["2026", 5], ["20266", "x"]],
  [{ pattern: "б" }, ["абв"], ["abc"]],
])("%j takes %j and not %j", (schema, good, bad) => {
  for (const value of good) expect([value, check(schema, value).outcome]).toEqual([value, "fits"]);
  for (const value of bad) expect([value, check(schema, value).outcome]).toEqual([value, "broken"]);
});

test.each([
  ["date-time", ["2026-11-22T10:00:00Z", "2026-11-22 10:00:00.5+03:00"], [
    "2026-11-22",
    "2026-13-01T10:00:00Z",
    "2026-11-22T10:00:00",
  ]],
  ["date", ["2024-02-29"], ["2026-02-29", "26-01-01"]],
  ["time", ["19:30:00", "19:30:00Z"], ["25:00:00", "19:30"]],
  ["duration", ["P1DT2H", "PT0.5S", "P2W"], ["P", "PT", "1D"]],
  ["email", ["a.b+c@example.com", "почта@пример.рф"], ["a@", "@b", "a b@c", ".a@b.c"]],
  ["hostname", ["example.com", "a-b"], ["-a", "a..b", "a b"]],
  ["ipv4", ["127.0.0.1"], ["256.0.0.1", "1.2.3", "1.2.3.4.", "01.2.3.4"]],
  ["ipv6", ["::1", "2001:db8::1"], [":::", "g::", "127.0.0.1"]],
  ["uuid", ["00000000-0000-4000-8000-000000000000"], ["00000000"]],
  ["uri", ["https://example.com/a?b#c", "urn:isbn:1"], ["example.com", "https://", "https://a b"]],
  ["int32", ["anything"], []],
])("format %s", (format, good, bad) => {
  for (const text of good) expect([text, check({ format }, text).outcome]).toEqual([text, "fits"]);
  for (const text of bad) expect([text, check({ format }, text).outcome]).toEqual([text, "broken"]);
});

describe("a fault", () => {
  test.each([
    [EVENT, {}, 'the whole: lacks "price"'],
    [EVENT, { price: "x" }, "#/price: must be integer, not string"],
    [{ items: EVENT }, [{ price: 1 }, { price: null }], "#/1/price: must be integer, not null"],
    [{ ...EVENT, additionalProperties: false }, { price: 1, where: 1 }, "#/where: is not allowed"],
    [{ enum: ["a", "b"] }, "c", 'the whole: must be one of "a", "b"'],
    [
      { anyOf: [{ type: "null" }, EVENT] },
      { price: "x" },
      "#/price: must be integer, not string",
    ],
    [
      { anyOf: [{ type: "string" }, { type: "null" }] },
      1,
      "the whole: fits none of 2 alternatives; by the first it must be string, not number",
    ],
  ])("of %j in %j is told with its place", (schema, value, fault) => {
    expect(faultOf(schema, value)).toBe(fault);
  });
});

describe("steps", () => {
  const nested = (depth: number, inner: unknown): unknown => depth === 0 ? inner : [nested(depth - 1, inner)];
  const twice = {
    anyOf: [{ type: "array", items: { $ref: "#" } }, { type: "array", items: { $ref: "#" } }],
  };

  test("double with each level of a value that alternatives follow, and are given up at the limit", () => {
    const steps = [4, 5, 6].map((depth) => check(twice, nested(depth, 1)).steps);
    expect(steps[2]! - steps[1]!).toBe(2 * (steps[1]! - steps[0]!));
    expect(check(twice, nested(60, 1))).toEqual({ outcome: "given_up", steps: MAX_STEPS + 1 });
  });

  test("grow in proportion to an ordinary answer", () => {
    const schema = { type: "array", items: EVENT };
    const ofEvents = (count: number) => check(schema, Array(count).fill({ price: 1 })).steps;
    expect(ofEvents(2_000)).toBeLessThan(2.1 * ofEvents(1_000));
    expect(ofEvents(1_000)).toBeLessThan(10_000);
  });

  test.each<[string, unknown, unknown]>([
    [
      "names",
      { allOf: Array(900).fill({ properties: { a: true } }) },
      Object.fromEntries(Array(50_000).fill(0).map((_, i) => [i, i])),
    ],
    ["items", { allOf: Array(900).fill({ items: true }) }, Array(50_000).fill(1)],
    ["characters", { allOf: Array(900).fill({ minLength: 1 }) }, "я".repeat(300_000)],
    [
      "what is compared",
      { allOf: Array(900).fill({ uniqueItems: true }) },
      Array(30_000).fill(0).map((_, i) => ({ i })),
    ],
    ["what is matched", { allOf: Array(9).fill({ pattern: "(.*a){50}b" }) }, "ab".repeat(100_000)],
    [
      "names that are matched",
      { patternProperties: { "(.*a){50}b": true } },
      Object.fromEntries(Array(3_000).fill(0).map((_, i) => [`${i}`.repeat(30), i])),
    ],
  ])("are taken for %s", (_, schema, value) => {
    expect(check(schema, value).outcome).toBe("given_up");
  });

  test("a value too deep for the stack is given up, not walked", () => {
    const deep = JSON.parse("[".repeat(100_000) + "]".repeat(100_000));
    expect(check({ type: "array", items: { $ref: "#" } }, deep).outcome).toBe("given_up");
    expect(check({ enum: [1] }, deep).outcome).toBe("given_up");
  });
});

test("any value and any schema that is taken come to an end within the steps", () => {
  const keyword = fc.constantFrom(
    "type",
    "enum",
    "items",
    "anyOf",
    "allOf",
    "properties",
    "$ref",
    "not",
    "const",
    "pattern",
  );
  const schemas = fc.letrec((tie) => ({
    schema: fc.oneof(
      { maxDepth: 4 },
      fc.boolean(),
      fc.record({
        type: fc.constantFrom("string", "array", "object", "number"),
        anyOf: fc.array(tie("schema"), { maxLength: 3 }),
        items: tie("schema"),
        properties: fc.dictionary(fc.constantFrom("a", "b", "__proto__"), tie("schema"), { maxKeys: 2 }),
        $ref: fc.constantFrom("#", "#/items", "#/anyOf/0"),
        pattern: fc.constantFrom("a", "(a+)+$", "(a", "(?=a)"),
      }, { requiredKeys: [] }),
      fc.dictionary(keyword, fc.jsonValue(), { maxKeys: 2 }),
    ),
  })).schema;
  fc.assert(
    fc.property(schemas, fc.jsonValue(), (schema, value) => {
      let compiled;
      try {
        compiled = compileSchema(schema, "schema");
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: "invalid_request" });
        return;
      }
      expect(checkValue(compiled, value, 10_000).steps).toBeLessThanOrEqual(11_000);
    }),
    { seed: 12, numRuns: 500 },
  );
});
