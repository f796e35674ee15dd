/** `Type` of google.ai.generativelanguage.v1beta, by number. */
const TYPES = ["TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];

/**
 * A `responseSchema` with its types by name. Clients that want enums as numbers also send them so, and the check of
 * an answer against its schema needs the names.
 */
export function namedTypes(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(namedTypes);
  if (typeof schema !== "object" || schema === null) return schema;
  return Object.fromEntries(Object.entries(schema).map(([word, value]) => [word, named(word, value)]));
}

function named(word: string, value: unknown): unknown {
  switch (word) {
    case "type":
      return typeof value === "number" ? TYPES[value] ?? value : value;
    case "items":
    case "anyOf":
    case "any_of":
      return namedTypes(value);
    case "properties":
      return typeof value === "object" && value !== null
        ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, namedTypes(inner)]))
        : value;
    default:
      return value;
  }
}
