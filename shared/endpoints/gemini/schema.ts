/** `Type` of google.ai.generativelanguage.v1beta, by number. */
const TYPES = ["TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];

/**
 * A schema of Google's own form (`responseSchema`, `parameters`) with its types by name, one each. Clients that want enums as
 * numbers also send them so, and the check of an answer against its schema needs the names.
 */
export function namedTypes(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(namedTypes);
  if (typeof schema !== "object" || schema === null) return schema;
  const known = Object.fromEntries(Object.entries(schema).map(([word, value]) => [word, named(word, value)]));
  return Array.isArray(known.type) ? ofOneType(known, known.type) : known;
}

/**
 * Here a schema has one type, and Google refuses a list of them ("Proto field is not repeating"). Clients make schemas of
 * what zod and pydantic write, where null is one type among others.
 */
function ofOneType(
  { type: _, ...schema }: Record<string, unknown>,
  types: unknown[],
): Record<string, unknown> {
  const others = types.map((type) => named("type", type)).filter((type) => !/^null$/i.test(String(type)));
  const nullable = others.length < types.length ? { nullable: true } : {};
  if (others.length === 0) return { ...schema, type: "NULL" };
  if (others.length === 1) return { ...schema, type: others[0], ...nullable };
  if (schema.anyOf !== undefined) return { ...schema, type: types };
  return { ...schema, anyOf: others.map((type) => ({ type })), ...nullable };
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
