import type { ErrorCode } from "../../contract/errors.ts";
import type { GatewayError } from "../../contract/gateway_error.ts";
import { errorHeaders } from "../../http/error_headers.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { retryAdvice } from "../retry_advice.ts";
import { idHeaders } from "./headers.ts";

/** Codes that existing code looks for, in the place of ours. */
const OPENAI_CODES: Partial<Record<ErrorCode, string>> = {
  credential_missing: "invalid_api_key",
  credential_invalid: "invalid_api_key",
  unknown_model: "model_not_found",
  prompt_too_large: "context_length_exceeded",
  rate_limited: "rate_limit_exceeded",
  lane_blocked: "rate_limit_exceeded",
  too_many_waiting: "rate_limit_exceeded",
  upstream_rate_limited: "rate_limit_exceeded",
  daily_limit: "insufficient_quota",
  upstream_daily_limit: "insufficient_quota",
  budget_exhausted: "insufficient_quota",
  content_blocked: "content_filter",
};

/** An error as OpenAI's clients expect it, our own code beside theirs. */
export function openaiError(error: GatewayError, requestId: string) {
  const code = OPENAI_CODES[error.code] ?? error.code;
  return {
    error: {
      message: error.publicMessage,
      type: code === "insufficient_quota" ? code : typeOf(statusOf(error)),
      param: paramOf(error),
      code,
      eve: {
        code: error.code,
        retryable: error.retryable,
        request_id: requestId,
        ...(error.details !== undefined && { details: error.details }),
      },
    },
  };
}

export function openaiErrorResponse(error: GatewayError, requestId: string): Response {
  return jsonResponse(statusOf(error), openaiError(error, requestId), requestId, {
    ...idHeaders(requestId),
    ...errorHeaders(error),
    ...retryAdvice(error),
  });
}

/** A prompt that is too long is a bad request there, which agents look for before they shorten what they send. */
function statusOf({ code, status }: GatewayError): number {
  return code === "prompt_too_large" ? 400 : status;
}

function typeOf(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

/** The field that is wrong. */
function paramOf({ code, details }: GatewayError): string | null {
  if (code === "unknown_model" || code === "model_not_allowed") return "model";
  const first = Array.isArray(details) ? details[0] as { field?: unknown } | undefined : undefined;
  return typeof first?.field === "string" && first.field !== "" ? first.field : null;
}
