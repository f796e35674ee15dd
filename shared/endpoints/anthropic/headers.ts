import type { Gauge, Limits } from "../../contract/limits.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { rateLimitHeaders } from "../../http/rate_limit_headers.ts";
import { modelHeaders } from "../openai/headers.ts";

/** The request's id where Anthropic's clients look for it. */
export function idHeaders(requestId: string): Record<string, string> {
  return { "request-id": requestId };
}

/** The state of a lane in the headers of Anthropic's API, beside those of all endpoints. @param now milliseconds since the epoch */
export function limitHeaders(limits: Limits | null, now: number): Record<string, string> {
  if (limits === null) return {};
  return {
    ...rateLimitHeaders(limits),
    ...gaugeHeaders("requests", limits.requests, now),
    ...gaugeHeaders("input-tokens", limits.tokens, now),
  };
}

function gaugeHeaders(
  name: string,
  { limit, remaining, resetMs }: Gauge,
  now: number,
): Record<string, string> {
  if (limit === null) return {};
  return {
    [`anthropic-ratelimit-${name}-limit`]: String(limit),
    [`anthropic-ratelimit-${name}-remaining`]: String(Math.max(0, remaining ?? 0)),
    [`anthropic-ratelimit-${name}-reset`]: new Date(now + (resetMs ?? 0)).toISOString().replace(
      /\.\d+Z$/,
      "Z",
    ),
  };
}

export function resultHeaders(result: GatewayResult, now: number): Record<string, string> {
  return {
    ...idHeaders(result.requestId),
    ...limitHeaders(result.limits, now),
    ...modelHeaders(result),
    ...(result.replayed && { "x-eve-replayed": "true" }),
  };
}
