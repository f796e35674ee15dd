/** What a schema may be, and what is refused with its place when it comes in. */
import { describe, expect, test } from "vitest";
import type { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { checkValue } from "../../../shared/schema/check.ts";
import { ANNOTATIONS, compileSchema, KEYWORDS, SCHEMA_LIMITS } from "../../../shared/schema/compile.ts";

/** The one fault of a schema: its place and what it is. */
function faultOf(schema: unknown): { field: string; problem: string } {
  try {
    compileSchema(schema, "schema");
  } catch (thrown) {
    const { code, details } = thrown as GatewayError;
    expect(code).toBe("invalid_request");
    return (details as { field: string; problem: string }[])[0]!;
  }
  return expect.unreachable("the schema was taken");
}

const many = (count: number, make: (index: number) => unknown) =>
  Array.from({ length: count }, (_, i) => make(i));
const named = (count: number, make: (index: number) => unknown) =>
  Object.fromEntries(many(count, (i) => [`n${i}`, make(i)]) as [string, unknown][]);
const nested = (depth: number): unknown => depth === 0 ? { type: "string" } : { items: nested(depth - 1) };
/** `levels` definitions, each of which offers the next one twice. */
const doubling = (levels: number) => ({
  $ref: "#/$defs/n0",
  $defs: named(
    levels + 1,
    (i) =>
      i === levels
        ? { type: "string" }
        : { anyOf: [{ $ref: `#/$defs/n${i + 1}` }, { $ref: `#/$defs/n${i + 1}` }] },
  ),
});

describe("keywords", () => {
  test("that only describe are passed over, whatever they hold", () => {
    const schema = {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      $id: "Event",
      $comment: "?",
      title: "Event",
      description: "of a city",
      default: { $ref: "#/nowhere" },
      examples: [{ pattern: "(a+)+" }],
      deprecated: true,
      propertyOrdering: ["title"],
      "x-order": 1,
      discriminator: { propertyName: "kind" },
    };
    expect(checkValue(compileSchema(schema, "schema"), 1)).toMatchObject({ outcome: "fits" });
  });

  test.each([
    [
      "unevaluatedProperties",
      { unevaluatedProperties: { pattern: "(x+x+)+y" } },
      "schema.unevaluatedProperties",
    ],
    ["dependentSchemas", { dependentSchemas: { a: { pattern: "(x+x+)+y" } } }, "schema.dependentSchemas"],
    [
      "one that nobody knows",
      { properties: { a: { hidden: { pattern: "x" } } } },
      "schema.properties.a.hidden",
    ],
    ["one that names a way out", { $dynamicRef: "#node" }, "schema.$dynamicRef"],
    ["one of the object's own", { constructor: {} }, "schema.constructor"],
  ])("%s is refused by its place", (_, schema, field) => {
    expect(faultOf(schema)).toEqual({ field, problem: expect.stringContaining("not checked") });
  });

  test.each([
    [5, "schema", "schema"],
    [{ type: "text" }, "schema.type", "string"],
    [{ type: ["string", 5] }, "schema.type", "string"],
    [{ properties: [] }, "schema.properties", "object"],
    [{ properties: { a: "string" } }, "schema.properties.a", "schema"],
    [{ anyOf: { type: "string" } }, "schema.anyOf", "list"],
    [{ anyOf: [{}, 1] }, "schema.anyOf[1]", "schema"],
    [{ required: "title" }, "schema.required", "names"],
    [{ minLength: -1 }, "schema.minLength", "whole number"],
    [{ maxItems: "many" }, "schema.maxItems", "number"],
    [{ multipleOf: 0 }, "schema.multipleOf", "above 0"],
    [{ enum: "a" }, "schema.enum", "list"],
    [{ pattern: 5 }, "schema.pattern", "text"],
    [{ uniqueItems: 1 }, "schema.uniqueItems", "true or false"],
  ])("%j is refused at %s", (schema, field, problem) => {
    expect(faultOf(schema)).toEqual({ field, problem: expect.stringContaining(problem) });
  });

  test("are those that docs/how-it-works.md lists", () => {
    const page = Deno.readTextFileSync(new URL("../../../docs/how-it-works.md", import.meta.url));
    const listed = (head: string) => {
      const item = page.split(`- **${head}**`)[1]?.split("\n- **")[0] ?? "";
      return [...item.matchAll(/`([$\w]+)`/g)].map(([, word]) => word).sort();
    };
    expect(listed("Checked")).toEqual([...KEYWORDS.keys()].sort());
    expect(listed("Passed over")).toEqual([...ANNOTATIONS].sort());
  });

  test("null is a keyword that is not set", () => {
    expect(() => compileSchema({ type: "array", items: null, enum: null, default: null }, "schema")).not
      .toThrow();
  });
});

describe("references", () => {
  test.each([
    ["#", { properties: { inner: { $ref: "#" } } }],
    ["into definitions of either name", {
      $ref: "#/definitions/a",
      definitions: { a: {} },
      $defs: { b: {} },
    }],
    ["to any schema inside", { properties: { a: { items: {} }, b: { $ref: "#/properties/a/items" } } }],
    ["with characters written otherwise", { $ref: "#/$defs/a~1b%20c", $defs: { "a/b c": {} } }],
  ])("%s are followed", (_, schema) => {
    expect(() => compileSchema(schema, "schema")).not.toThrow();
  });

  test.each([
    ["to nowhere", { $ref: "#/$defs/a" }],
    ["into a keyword that describes", { $ref: "#/default", default: { pattern: "(x+x+)+y" } }],
    ["into what is no schema", { $ref: "#/properties", properties: {} }],
    ["to another document", { $ref: "https://example.com/schema.json" }],
    ["by a name", { $ref: "#node", $anchor: "node" }],
    ["that cannot be read", { $ref: "#/%zz" }],
  ])("%s are refused", (_, schema) => {
    expect(faultOf(schema)).toEqual({
      field: "schema.$ref",
      problem: expect.stringContaining("leads to no schema"),
    });
  });

  test.each([
    [{ $ref: "#" }, "schema"],
    [{
      $ref: "#/$defs/a",
      $defs: { a: { anyOf: [{ $ref: "#/$defs/b" }] }, b: { not: { $ref: "#/$defs/a" } } },
    }, "schema.$defs.a"],
  ])("%j refers to itself", (schema, field) => {
    expect(faultOf(schema)).toEqual({ field, problem: expect.stringContaining("itself") });
  });
});

describe("a schema within the limits is taken, and one beyond is refused:", () => {
  const { schemas, depth, references, atOnce, values, chars } = SCHEMA_LIMITS;
  test.each<[string, (more: number) => unknown, string]>([
    [
      "schemas",
      (more) => ({ properties: named(schemas - 1 + more, () => ({})) }),
      `schema.properties.n${schemas - 1}`,
    ],
    ["depth", (more) => nested(depth - 1 + more), `schema${".items".repeat(depth)}`],
    [
      "references",
      (more) => ({ properties: named(references + more, () => ({ $ref: "#" })) }),
      `schema.properties.n${references}.$ref`,
    ],
    ["atOnce", (more) => ({ anyOf: many(atOnce - 1 + more, () => ({})) }), "schema"],
    ["values", (more) => ({ enum: many(values + more, (i) => i) }), "schema.enum"],
    ["chars", (more) => ({ const: "x".repeat(chars - 1 + more) }), "schema.const"],
  ])("%s", (_, make, field) => {
    expect(() => compileSchema(make(0), "schema")).not.toThrow();
    expect(faultOf(make(1))).toEqual({ field, problem: expect.stringMatching(/more|deeper|beyond/) });
  });

  test("alternatives of alternatives, which double with each level", () => {
    expect(() => compileSchema(doubling(6), "schema")).not.toThrow();
    expect(faultOf(doubling(25))).toEqual({
      field: expect.stringMatching(/^schema\.\$defs\.n\d+$/),
      problem: expect.stringContaining("at once"),
    });
  });

  test("a chain of references as long as they may be", () => {
    const chain = named(
      references,
      (i) => i === 0 ? {} : { allOf: [{ allOf: [{ allOf: [{ $ref: `#/$defs/n${i - 1}` }] }] }] },
    );
    expect(faultOf({ $defs: chain })).toMatchObject({ problem: expect.stringContaining("at once") });
  });

  test("regular expressions together", () => {
    const patterns = (count: number) => ({ anyOf: many(count, (i) => ({ pattern: `^${i}[a-z]{900}$` })) });
    expect(() => compileSchema(patterns(5), "schema")).not.toThrow();
    expect(faultOf(patterns(20)).problem).toContain("regular expressions");
    const alike = { anyOf: many(20, () => ({ pattern: "^[a-z]{900}$" })) };
    expect(() => compileSchema(alike, "schema")).not.toThrow();
  });
});
