import { partsOf } from "../../contract/content.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { unanswerable } from "../openai/chat/finish.ts";
import { blocksOf, type BlockTerms } from "./blocks.ts";
import { stopOf } from "./finish.ts";
import { resultHeaders } from "./headers.ts";
import { usageJson } from "./usage.ts";

export interface AnswerTerms extends BlockTerms {
  /** True: an answer that breaks its schema is an error. */
  strictSchema: boolean;
  /** Milliseconds since the epoch. */
  now: () => number;
}

/**
 * A result as a message.
 * @throws GatewayError `empty_answer`, `answer_unusable`, `schema_mismatch`
 */
export function encodeMessage(result: GatewayResult, terms: AnswerTerms): Response {
  const error = unanswerable(result, terms.strictSchema);
  if (error !== null) throw error;
  const content = blocksOf(partsOf(result.answer), terms);
  const calls = content.filter(({ type }) => type === "tool_use").length;
  const body = {
    ...messageHead(result.requestId, result.model),
    content,
    ...stopOf(result, calls),
    usage: usageJson(result.usage),
  };
  return jsonResponse(200, body, result.requestId, resultHeaders(result, terms.now()));
}

/** What a message begins with, in a stream too. */
export function messageHead(requestId: string, model: string) {
  return {
    id: `msg_${requestId}`,
    type: "message",
    role: "assistant",
    model,
    content: [] as unknown[],
    stop_reason: null as string | null,
    stop_sequence: null,
    stop_details: null as unknown,
    container: null,
    diagnostics: null,
  };
}
