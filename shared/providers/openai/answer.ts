import type { Answer, Candidate, Part } from "../../contract/content.ts";
import { recordsIn } from "../upstream.ts";
import { isObject } from "../../contract/is_object.ts";

/** OpenAI's reasons to end, and those of servers like it, in the contract's words. A call of a tool is an ordinary end there. */
const REASONS: Readonly<Record<string, string>> = {
  stop: "STOP",
  length: "MAX_TOKENS",
  tool_calls: "STOP",
  function_call: "STOP",
  content_filter: "SAFETY",
  // GigaChat's word for it.
  blacklist: "SAFETY",
};

export function finishReasonIn(reason: unknown): string | undefined {
  return typeof reason === "string" ? REASONS[reason] ?? "OTHER" : undefined;
}

/** A `chat.completion` as the contract's answer. */
export function answerOfCompletion(body: Record<string, unknown>): Answer {
  return {
    candidates: recordsIn(body.choices).map((choice, place): Candidate => {
      const message = isObject(choice.message) ? choice.message : {};
      const refused = typeof message.refusal === "string" && message.refusal !== "";
      return {
        index: typeof choice.index === "number" ? choice.index : place,
        content: { role: "model", parts: partsOfMessage(message) },
        finishReason: refused ? "SAFETY" : finishReasonIn(choice.finish_reason),
        ...(refused && { finishMessage: message.refusal as string }),
      };
    }),
    ...usageMetadata(body.usage),
    modelVersion: body.model,
  };
}

function partsOfMessage(message: Record<string, unknown>): Part[] {
  const thought = message.reasoning_content ?? message.reasoning;
  return [
    ...(typeof thought === "string" && thought !== "" ? [{ text: thought, thought: true }] : []),
    ...(typeof message.content === "string" && message.content !== "" ? [{ text: message.content }] : []),
    ...recordsIn(message.tool_calls).map(({ id, function: called }) =>
      callPart(id, isObject(called) ? called : {})
    ),
    ...functionCallPart(message),
  ];
}

/**
 * `function_call`, the form before there were tools, which GigaChat has kept: its arguments are an object, and what it wants to
 * have back with the result travels as the call's signature, which every endpoint passes on.
 */
export function functionCallPart(message: Record<string, unknown>): Part[] {
  if (!isObject(message.function_call)) return [];
  const state = message.functions_state_id;
  const part = callPart(undefined, message.function_call);
  return [typeof state === "string" ? { ...part, thoughtSignature: state } : part];
}

/** Arguments that are no JSON object make the call one that cannot be used; the model's text is kept. */
export function callPart(id: unknown, called: Record<string, unknown>): Part {
  if (isObject(called.arguments)) return { functionCall: { name: called.name, args: called.arguments } };
  const text = String(called.arguments ?? "");
  let args: unknown;
  try {
    args = JSON.parse(text || "{}");
  } catch {
    args = { arguments: text };
  }
  return { functionCall: { name: called.name, args, ...(typeof id === "string" && { id }) } };
}

/** `usage` as the contract's `usageMetadata`; nothing where upstream says nothing. */
export function usageMetadata(usage: unknown): Pick<Answer, "usageMetadata"> {
  if (!isObject(usage) || typeof usage.prompt_tokens !== "number") return {};
  const inside = (name: string, field: string) => {
    const details = usage[name];
    const value = isObject(details) ? details[field] : undefined;
    return typeof value === "number" ? value : undefined;
  };
  const thoughts = inside("completion_tokens_details", "reasoning_tokens");
  const written = typeof usage.completion_tokens === "number" ? usage.completion_tokens : undefined;
  return {
    usageMetadata: {
      promptTokenCount: usage.prompt_tokens,
      // OpenAI counts thoughts among what was written; here they are counted separately.
      candidatesTokenCount: written === undefined ? undefined : Math.max(0, written - (thoughts ?? 0)),
      thoughtsTokenCount: thoughts,
      cachedContentTokenCount: inside("prompt_tokens_details", "cached_tokens"),
      totalTokenCount: usage.total_tokens,
    },
  };
}
