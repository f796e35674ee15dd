import { partsOf, textOf } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Gauge, Limits } from "../../contract/limits.ts";
import type { GatewayResult } from "../../contract/result.ts";
import type { TokenUsage } from "../../contract/usage.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { outputLimitHeader } from "../../http/answer_headers.ts";
import { rateLimitHeaders } from "../../http/rate_limit_headers.ts";

/**
 * A result as the native endpoint's JSON.
 * @param more facts that only some answers have
 * @throws GatewayError `content_blocked`, `empty_answer`, `answer_unusable` for what is no answer, with the part of it that there is
 */
export function encodeNative(result: GatewayResult, more: Record<string, unknown> = {}): Response {
  const error = verdictError(result);
  if (error !== null) throw error;
  const body = {
    request_id: result.requestId,
    text: textOf(result.answer),
    parts: partsOf(result.answer),
    ...resultFields(result),
    ...more,
    limits: result.limits === null ? null : limitsJson(result.limits),
  };
  return jsonResponse(200, body, result.requestId, {
    ...rateLimitHeaders(result.limits),
    ...modelHeaders(result),
    ...(result.replayed && { "x-eve-replayed": "true" }),
  });
}

/** The fields of every call that a model answered, usable or not. */
export function resultFields(result: GatewayResult) {
  return {
    model: result.model,
    finish_reason: result.finishReason,
    usage: usageJson(result.usage),
    ...(result.outputLoweredTo != null && { max_output_tokens: result.outputLoweredTo }),
    key_alias: result.keyAlias,
    attempts: result.attempts,
    wait_ms: result.waitMs,
  };
}

/** The error for what is no answer, with the part of it that there is; null for an answer. */
export function verdictError(result: GatewayResult): GatewayError | null {
  if (result.verdict.ok) return null;
  const { code, reason } = result.verdict;
  return new GatewayError(code, {
    // More of the same would be cut off at the same place.
    ...(reason === "MAX_TOKENS" && { retryable: false }),
    details: { reason, text: textOf(result.answer), ...resultFields(result) },
    limits: result.limits,
    headers: modelHeaders(result),
  });
}

/** Says which model served where it is not the one that was asked for, and an answer that could not be as long as was asked for. */
function modelHeaders(result: GatewayResult): Record<string, string> {
  return {
    ...(result.replaced && { "x-eve-model": result.model }),
    ...outputLimitHeader(result.outputLoweredTo),
  };
}

export function usageJson(usage: TokenUsage) {
  return {
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    thoughts_tokens: usage.thoughtsTokens,
    cached_tokens: usage.cachedTokens,
    total_tokens: usage.totalTokens,
    estimated: usage.estimated,
  };
}

export function limitsJson(limits: Limits) {
  return {
    requests: gaugeJson(limits.requests),
    tokens: gaugeJson(limits.tokens),
    requests_day: gaugeJson(limits.requestsDay),
  };
}

function gaugeJson({ limit, remaining, resetMs }: Gauge) {
  return { limit, remaining, reset_ms: resetMs };
}
