/** What clients' libraries make of the types that people write: all of it is taken, and means what they meant. */
import { zodResponseFormat } from "openai/helpers/zod";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { checkValue } from "../../../shared/schema/check.ts";
import { compileSchema } from "../../../shared/schema/compile.ts";

const outcome = (schema: unknown, value: unknown) =>
  checkValue(compileSchema(schema, "schema"), value).outcome;

const NODE = z.object({
  name: z.string(),
  get children() {
    return z.array(NODE);
  },
});

/** A type, a value of it and one that is not. */
const TYPES: Record<string, [z.ZodType, unknown, unknown]> = {
  "an object": [z.object({ a: z.string(), b: z.number().optional() }), { a: "x" }, { a: 1 }],
  "what may be null": [z.object({ a: z.string().nullable() }), { a: null }, { a: 1 }],
  "an enum": [z.enum(["a", "b"]), "a", "c"],
  "literals": [z.literal(["a", 1]), 1, 2],
  "numbers": [z.number().min(1).lt(5).multipleOf(0.1), 1.2, 5],
  "integers": [z.int().positive(), 1, 1.5],
  "alternatives by a field": [
    z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("a"), x: z.number() }),
      z.object({ kind: z.literal("b"), y: z.string() }),
    ]),
    { kind: "b", y: "x" },
    { kind: "b", x: 1 },
  ],
  "both": [z.intersection(z.object({ a: z.string() }), z.object({ b: z.string() })), { a: "", b: "" }, {
    a: "",
  }],
  "a record": [z.record(z.string(), z.number()), { a: 1 }, { a: "x" }],
  "a record of some names": [z.record(z.enum(["a", "b"]), z.number()), { a: 1, b: 2 }, { a: 1, c: 2 }],
  "what is never there": [z.object({ a: z.never().optional() }), {}, { a: 1 }],
  "a type in itself": [NODE, { name: "a", children: [{ name: "b", children: [] }] }, {
    name: "a",
    children: [{}],
  }],
  "a list": [z.array(z.string()).min(1).max(2), ["a"], []],
  "an expression": [z.string().regex(/^\d{4}-\d{2}$/), "2026-11", "x"],
  "several expressions": [z.string().startsWith("a").endsWith("b"), "acb", "a"],
  "words about it": [z.string().meta({ id: "Name", title: "?", examples: ["x"], deprecated: true }), "a", 1],
  "an address": [z.email(), "a.b@example.com", "x"],
  "a link": [z.url(), "https://example.com/", "x"],
  "an id": [z.uuid(), "0190f3c4-8f3a-7c3e-9b1a-0123456789ab", "x"],
  "an instant": [z.iso.datetime({ offset: true }), "2026-11-22T10:00:00+03:00", "x"],
  "a date": [z.iso.date(), "2026-11-22", "2026-02-30"],
  "a time": [z.iso.time(), "10:00:00", "x"],
  "a duration": [z.iso.duration(), "P1DT2H", "P"],
  "an IPv4 address": [z.ipv4(), "127.0.0.1", "x"],
  "an IPv6 address": [z.ipv6(), "::1", "x"],
  "a name of a host": [z.hostname(), "example.com", "a b"],
  "a telephone number": [z.e164(), "+79991234567", "x"],
  "Base64": [z.base64(), "QUJD", "?"],
};

describe.each(["draft-2020-12", "draft-7", "draft-4", "openapi-3.0"] as const)("zod as %s", (target) => {
  test.each(Object.entries(TYPES))("%s", (_, [type, good, bad]) => {
    const schema = z.toJSONSchema(type, { target });
    expect(outcome(schema, good)).toBe("fits");
    expect(outcome(schema, bad)).toBe("broken");
  });
});

test("OpenAI's strict schemas", () => {
  const type = z.object({ node: NODE, at: z.iso.date().nullable(), kind: z.enum(["a", "b"]) });
  const { schema } = zodResponseFormat(type, "event").json_schema;
  const good = { node: { name: "a", children: [] }, at: null, kind: "a" };
  expect(outcome(schema, good)).toBe("fits");
  expect(outcome(schema, { ...good, more: 1 })).toBe("broken");
});

test("pydantic's", () => {
  const schema = {
    $defs: {
      Cat: {
        properties: {
          kind: { const: "cat", title: "Kind", type: "string" },
          lives: { default: 9, title: "Lives", type: "integer" },
        },
        required: ["kind"],
        title: "Cat",
        type: "object",
      },
      Dog: {
        additionalProperties: false,
        properties: { kind: { const: "dog", title: "Kind", type: "string" } },
        required: ["kind"],
        title: "Dog",
        type: "object",
      },
      Colour: { description: "A colour.", enum: ["red", "green"], title: "Colour", type: "string" },
    },
    properties: {
      pet: {
        discriminator: { mapping: { cat: "#/$defs/Cat", dog: "#/$defs/Dog" }, propertyName: "kind" },
        oneOf: [{ $ref: "#/$defs/Cat" }, { $ref: "#/$defs/Dog" }],
        title: "Pet",
      },
      colour: { anyOf: [{ $ref: "#/$defs/Colour" }, { type: "null" }], default: null },
      tags: { items: { type: "string" }, title: "Tags", type: "array", uniqueItems: true },
      place: {
        maxItems: 2,
        minItems: 2,
        prefixItems: [{ type: "number" }, { type: "number" }],
        title: "Place",
        type: "array",
      },
      price: { exclusiveMinimum: 0, title: "Price", type: "number" },
      seen: { format: "date-time", title: "Seen", type: "string" },
      scores: {
        additionalProperties: { type: "integer" },
        propertyNames: { pattern: "^[a-z]+$" },
        title: "Scores",
        type: "object",
      },
    },
    required: ["pet"],
    title: "Model",
    type: "object",
  };
  expect(
    outcome(schema, { pet: { kind: "cat" }, colour: null, tags: ["a"], place: [1, 2], scores: { a: 1 } }),
  ).toBe("fits");
  expect(outcome(schema, { pet: { kind: "dog", lives: 9 } })).toBe("broken");
});

test("Google's clients', in either spelling", () => {
  const schema = {
    type: "OBJECT",
    properties: {
      when: { type: "STRING", format: "date-time", nullable: true },
      kind: { type: "STRING", format: "enum", enum: ["A", "B"], title: "?" },
      room: { type: "INTEGER", format: "int32", enum: ["101", "201"] },
      tags: { type: "ARRAY", items: { type: "STRING" }, minItems: "1", max_items: "3" },
      either: { any_of: [{ type: "STRING" }, { type: "NUMBER", minimum: 1 }] },
    },
    required: ["kind"],
    property_ordering: ["kind", "when"],
    example: { kind: "A" },
  };
  expect(outcome(schema, { kind: "A", when: null, room: 101, tags: ["a"], either: 2 })).toBe("fits");
  expect(outcome(schema, { kind: "A", tags: [] })).toBe("broken");
  expect(outcome(schema, { kind: "A", either: 0 })).toBe("broken");
});
