import CachePolicy from "http-cache-semantics";

/** Where the server says nothing: pages change by the day. */
const USUAL_S = 86_400;
/** Those who ask at the same moment get one answer, whatever the server says. */
const LEAST_S = 60;
const MOST_S = 7 * 86_400;
/** Of what is not wanted, or not now: it may change soon. */
export const KEEP_SHORT_S = 300;
export const KEEP_REFUSED_S = 3_600;

export interface Freshness {
  keepS: number;
  /** For the next revalidation; null: too long to keep. */
  policy: Record<string, unknown> | null;
}

/** How long an answer holds, as its server says (RFC 9111, as a cache of one's own), within bounds. */
export function freshnessOf(url: string, status: number, headers: Headers): Freshness {
  const answer = Object.fromEntries([...headers].filter(([name]) => name !== "set-cookie"));
  const policy = new CachePolicy({ method: "GET", url, headers: {} }, { status, headers: answer }, {
    shared: false,
  });
  const isSaid = ["cache-control", "expires", "pragma"].some((name) => headers.has(name)) ||
    headers.has("last-modified");
  const saidS = isSaid ? policy.timeToLive() / 1_000 : USUAL_S;
  const kept = policy.toObject() as unknown as Record<string, unknown>;
  return {
    keepS: Math.round(Math.min(Math.max(saidS, LEAST_S), MOST_S)),
    policy: JSON.stringify(kept).length > 16_000 ? null : kept,
  };
}

export function isForbidden(headers: Headers): boolean {
  return /(^|,)\s*no-store\b/i.test(headers.get("cache-control") ?? "");
}
