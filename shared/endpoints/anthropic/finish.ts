import type { GatewayResult } from "../../contract/result.ts";

export type StopReason = "end_turn" | "max_tokens" | "tool_use" | "refusal";

/** How an answer ended. Which of the stop texts ended one upstream does not say: it is `end_turn`. */
export function stopOf(
  { verdict, finishReason }: Pick<GatewayResult, "verdict" | "finishReason">,
  calls: number,
) {
  const blocked = !verdict.ok && verdict.code === "content_blocked";
  const reason: StopReason = blocked
    ? "refusal"
    : finishReason === "MAX_TOKENS"
    ? "max_tokens"
    : calls > 0
    ? "tool_use"
    : "end_turn";
  return {
    stop_reason: reason,
    stop_sequence: null,
    stop_details: blocked
      ? {
        type: "refusal",
        category: null,
        explanation: `The model's filters ended the answer: ${verdict.reason}.`,
      }
      : null,
  };
}
