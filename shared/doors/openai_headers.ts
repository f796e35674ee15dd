import type { GatewayResult } from "../contract/result.ts";

/** Says which model served where it is not the one that was asked for. */
export function modelHeaders(
  { replaced, model }: Pick<GatewayResult, "replaced" | "model">,
): Record<string, string> {
  return replaced ? { "x-eve-model": model } : {};
}

/** The request's id where OpenAI's clients look for it (`_request_id`). */
export function idHeaders(requestId: string): Record<string, string> {
  return { "x-request-id": requestId };
}
