import type { Answer, Candidate, Part } from "../../contract/content.ts";
import { recordsIn } from "../upstream.ts";
import { isObject } from "../../contract/is_object.ts";

/** How an alternative ended. One that is PARTIAL has not. */
const STATUSES: Readonly<Record<string, string>> = {
  ALTERNATIVE_STATUS_FINAL: "STOP",
  ALTERNATIVE_STATUS_TRUNCATED_FINAL: "MAX_TOKENS",
  ALTERNATIVE_STATUS_CONTENT_FILTER: "SAFETY",
  ALTERNATIVE_STATUS_TOOL_CALLS: "STOP",
};

/** The `result` of a completion as the contract's answer. In a stream each has the whole text so far. */
export function answerOfResult(result: Record<string, unknown>): Answer {
  return {
    candidates: recordsIn(result.alternatives).map((alternative, index): Candidate => {
      const finishReason = STATUSES[String(alternative.status)];
      return {
        index,
        content: { role: "model", parts: partsOf(isObject(alternative.message) ? alternative.message : {}) },
        ...(finishReason !== undefined && { finishReason }),
      };
    }),
    ...usageMetadata(result.usage),
    modelVersion: result.modelVersion,
  };
}

function partsOf(message: Record<string, unknown>): Part[] {
  const calls = isObject(message.toolCallList) ? recordsIn(message.toolCallList.toolCalls) : [];
  return [
    ...(typeof message.text === "string" && message.text !== "" ? [{ text: message.text }] : []),
    ...calls.map(({ functionCall }) => {
      const { name, arguments: args } = isObject(functionCall) ? functionCall : {};
      return { functionCall: { name, args: isObject(args) ? args : {} } };
    }),
  ];
}

function usageMetadata(usage: unknown): Pick<Answer, "usageMetadata"> {
  if (!isObject(usage)) return {};
  const details = isObject(usage.completionTokensDetails) ? usage.completionTokensDetails : {};
  const input = count(usage.inputTextTokens);
  if (input === undefined) return {};
  const thoughts = count(details.reasoningTokens);
  const written = count(usage.completionTokens);
  return {
    usageMetadata: {
      promptTokenCount: input,
      candidatesTokenCount: written === undefined ? undefined : Math.max(0, written - (thoughts ?? 0)),
      thoughtsTokenCount: thoughts,
      totalTokenCount: count(usage.totalTokens),
    },
  };
}

/** An int64, which JSON of gRPC writes as a text. */
function count(value: unknown): number | undefined {
  const number = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isInteger(number) && number >= 0 ? number : undefined;
}
