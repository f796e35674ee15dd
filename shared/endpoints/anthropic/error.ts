import type { ErrorCode } from "../../contract/errors.ts";
import type { GatewayError } from "../../contract/gateway_error.ts";
import { errorHeaders } from "../../http/error_headers.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { retryAdvice } from "../retry_advice.ts";
import { idHeaders, limitHeaders } from "./headers.ts";

/** Statuses that Anthropic's API has for what is another one elsewhere. */
const STATUSES: Readonly<Partial<Record<ErrorCode, number>>> = {
  // Its clients shorten a conversation on this one, and on none that speaks of bytes.
  prompt_too_large: 400,
  upstream_unavailable: 529,
  gateway_busy: 529,
};

/** What its clients look for at the head of a message. */
const HEADS: Readonly<Partial<Record<ErrorCode, string>>> = { prompt_too_large: "prompt is too long: " };

/** An error as Anthropic's clients expect it, our own code beside theirs. */
export function anthropicError(error: GatewayError, requestId: string) {
  return {
    type: "error",
    error: {
      type: typeOf(anthropicStatus(error)),
      message: (HEADS[error.code] ?? "") + error.publicMessage,
      eve: {
        code: error.code,
        retryable: error.retryable,
        ...(error.details !== undefined && { details: error.details }),
      },
    },
    request_id: requestId,
  };
}

/** @param now milliseconds since the epoch */
export function anthropicErrorResponse(error: GatewayError, requestId: string, now: number): Response {
  return jsonResponse(anthropicStatus(error), anthropicError(error, requestId), requestId, {
    ...idHeaders(requestId),
    ...errorHeaders(error),
    ...limitHeaders(error.limits, now),
    ...retryAdvice(error),
  });
}

/** The status of a code at this endpoint. @param status that of the table */
export function anthropicStatus({ code, status }: Pick<GatewayError, "code" | "status">): number {
  // It has no 422: what cannot be served as it was asked is an invalid request.
  return STATUSES[code] ?? (status === 422 ? 400 : status);
}

function typeOf(status: number): string {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 408:
    case 504:
      return "timeout_error";
    case 529:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}
