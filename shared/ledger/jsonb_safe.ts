/**
 * A value that PostgreSQL takes as text or jsonb: without U+0000 and without lone surrogates, both of which it refuses
 * although JSON allows them. They become U+FFFD. Models do emit them, and one such character would lose a settlement.
 */
export function jsonbSafe(value: unknown): unknown {
  // Nearly everything is safe already, and is then given back as it is, not copied.
  return isSafe(value) ? value : madeSafe(value);
}

function isSafe(value: unknown): boolean {
  if (typeof value === "string") return value.isWellFormed() && !value.includes("\u0000");
  if (typeof value !== "object" || value === null) return true;
  if (Array.isArray(value)) return value.every(isSafe);
  for (const key in value) {
    if (!isSafe(key) || !isSafe((value as Record<string, unknown>)[key])) return false;
  }
  return true;
}

function madeSafe(value: unknown): unknown {
  if (typeof value === "string") return value.toWellFormed().replaceAll("\u0000", "\uFFFD");
  if (Array.isArray(value)) return value.map(madeSafe);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [madeSafe(key), madeSafe(inner)]));
  }
  return value;
}
