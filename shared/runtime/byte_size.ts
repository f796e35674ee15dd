const encoder = new TextEncoder();

/** How many bytes a text has in UTF-8. */
export const bytesOf = (text: string): number => encoder.encode(text).length;

/**
 * How many bytes a JSON value has as PostgreSQL writes jsonb, with a space behind each comma and colon: what tables bound. Of numbers with
 * an exponent (1e300) it is less, since PostgreSQL writes all their digits.
 */
export function jsonbBytes(value: unknown): number {
  return bytesOf(JSON.stringify(value ?? null)) + marksIn(value);
}

/** Commas and colons. */
function marksIn(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const inner = Object.values(value);
  const own = Math.max(0, inner.length - 1) + (Array.isArray(value) ? 0 : inner.length);
  return inner.reduce((sum: number, one) => sum + marksIn(one), own);
}
