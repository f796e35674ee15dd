import { describe, expect, test } from "vitest";
import { type ErrorCode, ERRORS } from "../../../shared/contract/errors.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { geminiError, geminiErrorResponse } from "../../../shared/endpoints/gemini/error.ts";
import { RESULT } from "./router_fixture.ts";

const detail = (error: GatewayError, type: string) =>
  geminiError(error, "r1").error.details.find((one) => String(one["@type"]).endsWith(`google.rpc.${type}`));

test("every error of the gateway has Google's shape and a name that Google has", () => {
  const names = new Set<string>();
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const { error } = geminiError(new GatewayError(code), "r1");
    expect(error).toMatchObject({ code: ERRORS[code].status, message: ERRORS[code].message });
    names.add(error.status);
  }
  expect([...names].sort()).toEqual([
    "ABORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
  ]);
});

describe("a limit that is reached", () => {
  const refused = new GatewayError("rate_limited", {
    message: "m: the limit of 30 requests a minute is used up.",
    retryAfterMs: 30_500,
    limits: RESULT.limits,
    model: "gemma-4-31b-it",
    details: { limit: "rpm" },
  });

  test("is reported as Google does, with the time to come back", async () => {
    const response = geminiErrorResponse(refused, "r1");
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("31");
    expect(await response.json()).toEqual({
      error: {
        code: 429,
        message: "m: the limit of 30 requests a minute is used up.",
        status: "RESOURCE_EXHAUSTED",
        details: [
          {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            reason: "RATE_LIMIT_EXCEEDED",
            domain: "eve-gateway",
            metadata: { code: "rate_limited", request_id: "r1", model: "gemma-4-31b-it" },
          },
          {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            violations: [{
              quotaMetric: "eve-gateway/requests",
              quotaId: "GenerateRequestsPerMinutePerProjectPerModel",
              quotaDimensions: { location: "global", model: "gemma-4-31b-it" },
              quotaValue: "30",
            }],
          },
          { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "31s" },
        ],
      },
    });
  });

  test.each(
    [
      ["rate_limited", "tpm", "InputTokensPerModelPerMinute"],
      ["daily_limit", "rpd", "PerDay"],
      ["upstream_daily_limit", null, "PerDay"],
      ["upstream_rate_limited", null, "PerMinute"],
      ["lane_blocked", null, "PerMinute"],
    ] as const,
  )("%s (%s) names a quota of %s", (code, limit, part) => {
    expect(detail(new GatewayError(code, { details: { limit } }), "QuotaFailure")).toMatchObject({
      violations: [{ quotaId: expect.stringContaining(part) }],
    });
  });

  test("without a time to come back there is no RetryInfo, and what is no quota names none", () => {
    expect(detail(new GatewayError("budget_exhausted"), "RetryInfo")).toBeUndefined();
    expect(detail(new GatewayError("budget_exhausted"), "QuotaFailure")).toBeUndefined();
    expect(detail(new GatewayError("no_active_key", { retryAfterMs: 1 }), "RetryInfo")).toMatchObject({
      retryDelay: "1s",
    });
  });
});

test("a bad credential is 401 with Google's own reason, and a challenge", () => {
  const error = new GatewayError("credential_invalid");
  expect(detail(error, "ErrorInfo")).toMatchObject({ reason: "API_KEY_INVALID" });
  const response = geminiErrorResponse(error, "r1");
  expect(response.status).toBe(401);
  expect(response.headers.get("www-authenticate")).toContain("Bearer");
});

test("what was wrong with a body is reported field by field", () => {
  const error = new GatewayError("invalid_request", {
    details: [{ field: "contents", problem: "is missing" }],
  });
  expect(detail(error, "BadRequest")).toMatchObject({
    fieldViolations: [{ field: "contents", description: "is missing" }],
  });
});

test("what is for the log does not leave", () => {
  const error = new GatewayError("internal", { detail: "eve.lanes", cause: new Error("eve.lanes") });
  expect(JSON.stringify(geminiError(error, "r1"))).not.toContain("eve.lanes");
});
