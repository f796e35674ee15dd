import { GatewayError } from "../../contract/gateway_error.ts";
import type { Limits } from "../../contract/limits.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { outputLimitHeader } from "../../http/answer_headers.ts";
import { rateLimitHeaders } from "../../http/rate_limit_headers.ts";
import { encoded, type GeminiEncoding } from "./encoding.ts";

/**
 * A result as `generateContent` answers: the model's own body, whole.
 * @throws GatewayError `empty_answer` where that body would not show that there is no answer
 */
export function encodeGemini(result: GatewayResult, encoding: GeminiEncoding): Response {
  const silent = silentlyEmpty(result);
  if (silent !== null) throw silent;
  return jsonResponse(200, encoded(result.answer, encoding), result.requestId, resultHeaders(result));
}

/**
 * An answer with nothing in it and nothing that says why, as an error; null for every other. A block, a failure or a
 * length that was too short stays status 200: `promptFeedback` and `finishReason` say it, and Google's clients look there.
 */
export function silentlyEmpty({ verdict, limits, model }: GatewayResult): GatewayError | null {
  if (verdict.ok || verdict.code !== "empty_answer" || verdict.reason === "MAX_TOKENS") return null;
  return new GatewayError("empty_answer", {
    message: `The model answered with nothing (${verdict.reason}). Try again, or word the prompt otherwise.`,
    details: { reason: verdict.reason },
    limits,
    model,
  });
}

export function resultHeaders(result: GatewayResult): Record<string, string> {
  return {
    ...servedHeaders(result.limits, result.replaced ? result.model : null, result.outputLoweredTo),
    ...(result.replayed && { "x-eve-replayed": "true" }),
    // What status 200 hides: a block, an answer cut off, JSON that breaks its schema.
    ...(!result.verdict.ok && { "x-eve-verdict": result.verdict.code }),
  };
}

/**
 * @param model the model that served, where it is not the one that was asked for
 * @param loweredTo the most that the answer could have, where it was less than was asked for
 */
export function servedHeaders(
  limits: Limits | null,
  model: string | null,
  loweredTo: number | null = null,
): Record<string, string> {
  return {
    ...rateLimitHeaders(limits),
    ...(model !== null && { "x-eve-model": model }),
    ...outputLimitHeader(loweredTo),
  };
}
