import { describe, expect, test } from "vitest";
import { formatDuration, rateLimitHeaders, retryHeaders } from "../../../shared/http/rate_limit_headers.ts";

test.each([
  [0, "0s"],
  [12, "12ms"],
  [999.6, "1s"],
  [1_000, "1s"],
  [8_640, "8.64s"],
  [60_000, "1m0s"],
  [360_000, "6m0s"],
  [3_723_000, "1h2m3s"],
  [86_400_000, "24h0m0s"],
  [-5, "0s"],
])("%d ms is written %s", (ms, text) => expect(formatDuration(ms)).toBe(text));

describe("rateLimitHeaders", () => {
  const free = { limit: null, remaining: null, resetMs: null };

  test("has limit, remaining and reset of requests and tokens", () => {
    const limits = {
      requests: { limit: 30, remaining: 29, resetMs: 60_000 },
      tokens: { limit: 16_000, remaining: -3, resetMs: 1_500 },
      requestsDay: { limit: 14_400, remaining: 1, resetMs: 5 },
    };
    expect(rateLimitHeaders(limits)).toEqual({
      "x-ratelimit-limit-requests": "30",
      "x-ratelimit-remaining-requests": "29",
      "x-ratelimit-reset-requests": "1m0s",
      "x-ratelimit-limit-tokens": "16000",
      "x-ratelimit-remaining-tokens": "0",
      "x-ratelimit-reset-tokens": "1.5s",
    });
  });

  test("says nothing of what is unlimited or unknown", () => {
    expect(rateLimitHeaders({ requests: free, tokens: free, requestsDay: free })).toEqual({});
    expect(rateLimitHeaders(null)).toEqual({});
  });
});

test("a client that keeps to retry-after is never early", () => {
  expect(retryHeaders(1_001)).toEqual({ "retry-after": "2", "retry-after-ms": "1001" });
  expect(retryHeaders(0)).toEqual({ "retry-after": "0", "retry-after-ms": "0" });
  expect(retryHeaders(null)).toEqual({});
});
