import { isObject } from "./is_object.ts";

type Schema = Record<string, unknown>;

/** Keywords whose values are schemas: one, a list, or by name. */
const ONE = new Set([
  "items",
  "additionalProperties",
  "not",
  "contains",
  "propertyNames",
  "if",
  "then",
  "else",
]);
const LIST = new Set(["anyOf", "oneOf", "allOf", "prefixItems"]);
const NAMED = new Set(["properties", "$defs", "definitions"]);

/** Left out for providers that refuse a schema with regular expressions in it; the gateway checks them in any case. */
const LEFT_OUT = new Set(["pattern", "patternProperties"]);

/**
 * A schema in Gemini's spelling (types in capitals, `nullable`, numbers as texts) as JSON Schema says it. What is JSON
 * Schema already stays as it is.
 */
export function plainSchema(schema: object): Schema {
  const plain: Schema = {};
  for (const [word, value] of Object.entries(schema)) {
    if (LEFT_OUT.has(word) || word === "nullable") continue;
    if (ONE.has(word)) plain[word] = nested(value);
    else if (LIST.has(word) && Array.isArray(value)) plain[word] = value.map(nested);
    else if (NAMED.has(word) && isObject(value)) {
      plain[word] = Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, nested(inner)]));
    } else if (word === "type" && typeof value === "string") plain.type = value.toLowerCase();
    else if (/^(min|max)(Items|Length|Properties)$/.test(word)) plain[word] = Number(value);
    else plain[word] = value;
  }
  if ((schema as Schema).nullable !== true) return plain;
  return { anyOf: [plain, { type: "null" }] };
}

function nested(value: unknown): unknown {
  return isObject(value) ? plainSchema(value) : value;
}
