import type { Candidate } from "../../../contract/content.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";
import type { AnswerVerdict, GatewayResult } from "../../../contract/result.ts";
import { modelHeaders } from "../headers.ts";

export type FinishReason = "stop" | "length" | "tool_calls" | "function_call" | "content_filter";

/** How one candidate ended, in OpenAI's words, which have none for a failure of the model. */
export function openaiFinishReason(
  candidate: Candidate,
  verdict: AnswerVerdict,
  calls: number,
  legacyFunctions = false,
): FinishReason {
  if (!verdict.ok && verdict.code === "content_blocked") return "content_filter";
  if (candidate.finishReason === "MAX_TOKENS") return "length";
  return calls === 0 ? "stop" : legacyFunctions ? "function_call" : "tool_calls";
}

/**
 * The error for a result that OpenAI's finish reasons cannot express: an empty answer, a broken tool call, JSON that breaks a
 * strict schema. Null for all others: what was filtered is `content_filter`, what did not fit is `length`, even if nothing
 * of it is left.
 */
export function unanswerable(
  { verdict, ...result }: GatewayResult,
  strictSchema: boolean,
): GatewayError | null {
  if (verdict.ok || verdict.code === "content_blocked" || verdict.reason === "MAX_TOKENS") return null;
  if (verdict.code === "answer_truncated") return null;
  const ofSchema = verdict.code === "schema_mismatch" || verdict.code === "schema_too_complex";
  if (ofSchema && !strictSchema) return null;
  return new GatewayError(verdict.code, {
    details: { reason: verdict.reason },
    limits: result.limits,
    headers: modelHeaders(result),
  });
}
