import type { ErrorCode } from "../../contract/errors.ts";
import type { GatewayError } from "../../contract/gateway_error.ts";
import type { Limits } from "../../contract/limits.ts";
import { errorHeaders } from "../../http/error_headers.ts";
import { jsonResponse } from "../../http/json_response.ts";

/** Who gives the reasons in `ErrorInfo`; Google's own is `googleapis.com`. */
const DOMAIN = "eve-gateway";

/** The name that `google.rpc.Code` has for an HTTP status. */
const STATUS_NAMES: Readonly<Record<number, string>> = {
  400: "INVALID_ARGUMENT",
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  405: "UNIMPLEMENTED",
  408: "DEADLINE_EXCEEDED",
  409: "ABORTED",
  413: "INVALID_ARGUMENT",
  415: "INVALID_ARGUMENT",
  422: "INVALID_ARGUMENT",
  429: "RESOURCE_EXHAUSTED",
  499: "CANCELLED",
  500: "INTERNAL",
  502: "UNAVAILABLE",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
  507: "RESOURCE_EXHAUSTED",
};

/** Codes whose status says less than `google.rpc.Code` can. */
const NAMES_BY_CODE: Readonly<Partial<Record<ErrorCode, string>>> = {
  batch_ended: "FAILED_PRECONDITION",
  request_finished: "ALREADY_EXISTS",
  request_id_reused: "ALREADY_EXISTS",
  upstream_region: "FAILED_PRECONDITION",
  unsupported_feature: "FAILED_PRECONDITION",
};

/**
 * Reasons that Google's clients know. A bad credential is 401 here and 400 at Google; neither is repeated by any client,
 * 401 is what everything between us and a client understands, and the reason is Google's, for clients that look at it.
 */
const REASONS: Readonly<Partial<Record<ErrorCode, string>>> = {
  credential_missing: "API_KEY_INVALID",
  credential_invalid: "API_KEY_INVALID",
  token_revoked: "API_KEY_INVALID",
  rate_limited: "RATE_LIMIT_EXCEEDED",
  upstream_rate_limited: "RATE_LIMIT_EXCEEDED",
  daily_limit: "RATE_LIMIT_EXCEEDED",
  upstream_daily_limit: "RATE_LIMIT_EXCEEDED",
};

export interface GeminiError {
  error: { code: number; message: string; status: string; details: Record<string, unknown>[] };
}

/** An error as Google writes it: `google.rpc.Status` with its details. */
export function geminiError(error: GatewayError, requestId: string): GeminiError {
  return {
    error: {
      code: error.status,
      message: error.publicMessage,
      status: NAMES_BY_CODE[error.code] ?? STATUS_NAMES[error.status] ?? "UNKNOWN",
      details: [
        errorInfo(error, requestId),
        ...quotaFailure(error),
        ...retryInfo(error.retryAfterMs),
        ...badRequest(error),
      ],
    },
  };
}

export function geminiErrorResponse(error: GatewayError, requestId: string): Response {
  // Never inside an array, although Google does that to streams without `alt=sse`: Python's client breaks on a list
  // ("'list' object has no attribute 'get'") before it has read what was wrong.
  return jsonResponse(error.status, geminiError(error, requestId), requestId, errorHeaders(error));
}

function errorInfo({ code, model }: GatewayError, requestId: string) {
  return {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    reason: REASONS[code] ?? code.toUpperCase(),
    domain: DOMAIN,
    metadata: { code, request_id: requestId, ...(model !== null && { model }) },
  };
}

/** Whole seconds, rounded up: every client reads them, and nobody comes too early. */
function retryInfo(retryAfterMs: number | null) {
  if (retryAfterMs === null) return [];
  const seconds = Math.max(0, Math.ceil(retryAfterMs / 1000));
  return [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: `${seconds}s` }];
}

type LimitName = "rpm" | "tpm" | "rpd";

/** The ids are Google's: clients look in them for `PerMinute` and `PerDay` to tell a pause from an end. */
const QUOTAS: Readonly<Record<LimitName, { metric: string; id: string; gauge: keyof Limits }>> = {
  rpm: { metric: "requests", id: "GenerateRequestsPerMinutePerProjectPerModel", gauge: "requests" },
  tpm: { metric: "input_tokens", id: "GenerateContentInputTokensPerModelPerMinute", gauge: "tokens" },
  rpd: { metric: "requests", id: "GenerateRequestsPerDayPerProjectPerModel", gauge: "requestsDay" },
};

/** The limit that a code is about where its details name none. */
const LIMIT_OF_CODE: Readonly<Partial<Record<ErrorCode, LimitName>>> = {
  daily_limit: "rpd",
  upstream_daily_limit: "rpd",
  rate_limited: "rpm",
  upstream_rate_limited: "rpm",
  lane_blocked: "rpm",
  too_many_waiting: "rpm",
};

function quotaFailure({ code, details, limits, model }: GatewayError) {
  const usual = LIMIT_OF_CODE[code];
  if (usual === undefined) return [];
  const { metric, id, gauge } = QUOTAS[limitIn(details) ?? usual];
  const value = limits?.[gauge].limit ?? null;
  return [{
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    violations: [{
      quotaMetric: `${DOMAIN}/${metric}`,
      quotaId: id,
      quotaDimensions: { location: "global", ...(model !== null && { model }) },
      ...(value !== null && { quotaValue: String(value) }),
    }],
  }];
}

function limitIn(details: unknown): LimitName | null {
  const limit = typeof details === "object" && details !== null && "limit" in details ? details.limit : null;
  return limit === "rpm" || limit === "tpm" || limit === "rpd" ? limit : null;
}

/** The fields that were wrong, where the endpoint's own check found them. */
function badRequest({ code, details }: GatewayError) {
  if (code !== "invalid_request" || !Array.isArray(details)) return [];
  const fieldViolations = details.map(({ field, problem }) => ({ field, description: problem }));
  return [{ "@type": "type.googleapis.com/google.rpc.BadRequest", fieldViolations }];
}
