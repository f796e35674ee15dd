/**
 * A value that PostgreSQL takes as text or jsonb: without U+0000 and without lone surrogates, both of which it refuses
 * although JSON allows them. They become U+FFFD. Models do emit them, and one such character would lose a settlement.
 */
export function jsonbSafe(value: unknown): unknown {
  // Nearly everything is safe already, and is then given back as it is, not copied.
  return isSafe(value) ? value : madeSafe(value);
}

/** The two, and the halves of pairs that are whole. */
// deno-lint-ignore no-control-regex -- it is what is looked for
const SUSPICIOUS = /[\u0000\ud800-\udfff]/;
/** As JSON escapes them. What only looks like it, a backslash before the letter u, costs a copy and nothing else. */
const ESCAPED = /\\u(0000|d[89a-f])/i;

function isSafe(value: unknown): boolean {
  if (typeof value === "string") {
    return !SUSPICIOUS.test(value) || (value.isWellFormed() && !value.includes("\u0000"));
  }
  return typeof value !== "object" || value === null || !ESCAPED.test(JSON.stringify(value));
}

function madeSafe(value: unknown): unknown {
  if (typeof value === "string") return value.toWellFormed().replaceAll("\u0000", "\uFFFD");
  if (Array.isArray(value)) return value.map(madeSafe);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [madeSafe(key), madeSafe(inner)]));
  }
  return value;
}
