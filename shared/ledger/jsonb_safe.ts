/**
 * A value that PostgreSQL takes as text or jsonb: without U+0000 and without lone surrogates, both of which it refuses
 * although JSON allows them. They become U+FFFD. Models do emit them, and one such character would lose a settlement.
 */
export function jsonbSafe(value: unknown): unknown {
  if (typeof value === "string") return value.toWellFormed().replaceAll("\u0000", "\uFFFD");
  if (Array.isArray(value)) return value.map(jsonbSafe);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [jsonbSafe(key), jsonbSafe(inner)]),
    );
  }
  return value;
}
