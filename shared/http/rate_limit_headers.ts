import type { Gauge, Limits } from "../contract/limits.ts";

/**
 * The state of a lane in the headers that OpenAI's clients know: limit, remaining and reset, for requests and for tokens
 * a minute. An unlimited one has no headers.
 */
export function rateLimitHeaders(limits: Limits | null): Record<string, string> {
  if (limits === null) return {};
  return { ...gaugeHeaders("requests", limits.requests), ...gaugeHeaders("tokens", limits.tokens) };
}

function gaugeHeaders(name: string, gauge: Gauge): Record<string, string> {
  if (gauge.limit === null) return {};
  return {
    [`x-ratelimit-limit-${name}`]: String(gauge.limit),
    [`x-ratelimit-remaining-${name}`]: String(Math.max(0, gauge.remaining ?? 0)),
    [`x-ratelimit-reset-${name}`]: formatDuration(gauge.resetMs ?? 0),
  };
}

/**
 * When to come back: `retry-after` in whole seconds, rounded up so that no client is early (RFC 9110, 10.2.3), and
 * `retry-after-ms`, which OpenAI's clients prefer. Nothing where no time is known.
 */
export function retryHeaders(retryAfterMs: number | null): Record<string, string> {
  if (retryAfterMs === null) return {};
  const ms = Math.max(0, Math.ceil(retryAfterMs));
  return { "retry-after": String(Math.ceil(ms / 1000)), "retry-after-ms": String(ms) };
}

/** Milliseconds as OpenAI writes them: `12ms`, `1s`, `8.64s`, `6m0s`, `1h2m3s`. */
export function formatDuration(milliseconds: number): string {
  const ms = Math.max(0, Math.round(milliseconds));
  if (ms > 0 && ms < 1000) return `${ms}ms`;
  const hours = Math.floor(ms / 3_600_000);
  const minutes = Math.floor((ms % 3_600_000) / 60_000);
  const seconds = (ms % 60_000) / 1000;
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`;
  if (minutes > 0) return `${minutes}m${seconds}s`;
  return `${seconds}s`;
}
