/**
 * `Retry-After` in milliseconds (RFC 9110, 10.2.3): seconds, which some write with a fraction, or a date; 0 for one that is
 * past. Null where it is absent or makes no sense.
 */
export function retryAfterMs(headers: Headers, nowMs: number): number | null {
  const said = headers.get("retry-after")?.trim();
  if (!said) return null;
  if (/^\d{1,7}(\.\d+)?$/.test(said)) return Math.ceil(Number(said) * 1000);
  // Date.parse alone would take "-5" for a year.
  const ms = / GMT$/.test(said) ? Date.parse(said) - nowMs : NaN;
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}
