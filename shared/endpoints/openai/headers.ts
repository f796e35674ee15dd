import type { GatewayResult } from "../../contract/result.ts";
import { outputLimitHeader } from "../../http/answer_headers.ts";

/** Says which model served where it is not the one that was asked for, and an answer that could not be as long as was asked for. */
export function modelHeaders(
  { replaced, model, outputLoweredTo }: Pick<GatewayResult, "replaced" | "model" | "outputLoweredTo">,
): Record<string, string> {
  return { ...(replaced && { "x-eve-model": model }), ...outputLimitHeader(outputLoweredTo) };
}

/** The request's id where OpenAI's clients look for it (`_request_id`). */
export function idHeaders(requestId: string): Record<string, string> {
  return { "x-request-id": requestId };
}
