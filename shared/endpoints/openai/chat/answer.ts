import type { Candidate } from "../../../contract/content.ts";
import type { GatewayEvent } from "../../../contract/events.ts";
import type { GatewayResult } from "../../../contract/result.ts";
import { jsonResponse } from "../../../http/json_response.ts";
import { rateLimitHeaders } from "../../../http/rate_limit_headers.ts";
import { judgeAnswer } from "../../../contract/answer_verdict.ts";
import { type Citation, citationsOf } from "./citations.ts";
import { openaiFinishReason, unanswerable } from "./finish.ts";
import { idHeaders, modelHeaders } from "../headers.ts";
import { asDeclared, extraContent, saidIn } from "./said.ts";
import { usageJson } from "../usage.ts";

export interface AnswerTerms {
  /** Seconds since the epoch. */
  created: number;
  /** A fresh id of letters, digits and `-`. */
  newId: () => string;
  /** False: of several calls made together only the first is returned. */
  parallelCalls: boolean;
  /** True: a call is `function_call`, as it was before there were tools; absent: `tool_calls`. */
  legacyFunctions?: boolean;
  /** True: an answer that breaks its schema is an error. */
  strictSchema: boolean;
  /** Tools that take any text. */
  customTools: ReadonlySet<string>;
}

/**
 * A result as a chat completion.
 * @throws GatewayError `empty_answer`, `answer_unusable`, `schema_mismatch`
 */
export function encodeCompletion(result: GatewayResult, terms: AnswerTerms): Response {
  const error = unanswerable(result, terms.strictSchema);
  if (error !== null) throw error;
  const body = {
    id: completionId(result.requestId),
    object: "chat.completion",
    created: terms.created,
    model: result.model,
    choices: choicesOf(result, terms),
    usage: usageJson(result.usage),
  };
  return jsonResponse(200, body, result.requestId, resultHeaders(result));
}

export function completionId(requestId: string): string {
  return `chatcmpl-${requestId}`;
}

export function resultHeaders(result: GatewayResult): Record<string, string> {
  return {
    ...idHeaders(result.requestId),
    ...rateLimitHeaders(result.limits),
    ...modelHeaders(result),
    ...(result.replayed && { "x-eve-replayed": "true" }),
  };
}

/** What is known of an answer when it begins. @param started null: only its request is */
export function startHeaders(
  started: Pick<Extract<GatewayEvent, { type: "started" }>, "model" | "limits" | "outputLoweredTo"> | null,
  asked: { requestId: string; model: string },
): Record<string, string> {
  const { model, limits, outputLoweredTo } = started ?? { model: asked.model, limits: null };
  return {
    ...idHeaders(asked.requestId),
    ...rateLimitHeaders(limits),
    ...modelHeaders({ model, replaced: model !== asked.model, outputLoweredTo }),
  };
}

/** A prompt that was blocked has no candidate, and still one choice: the one that says so. */
function choicesOf(result: GatewayResult, terms: AnswerTerms) {
  const candidates = result.answer.candidates ?? [];
  if (candidates.length <= 1) return [choiceOf(candidates[0] ?? {}, 0, result.verdict, terms)];
  return candidates.flatMap((candidate, index) => {
    const verdict = judgeAnswer({ candidates: [candidate] });
    if (!verdict.ok && verdict.code === "answer_unusable") return [];
    return [choiceOf(candidate, index, verdict, terms)];
  });
}

function choiceOf(
  candidate: Candidate,
  index: number,
  verdict: GatewayResult["verdict"],
  { newId, parallelCalls, customTools, legacyFunctions = false }: AnswerTerms,
) {
  const said = saidIn(candidate.content?.parts ?? [], newId);
  const calls = parallelCalls ? said.calls : said.calls.slice(0, 1);
  const citations = citationsOf(candidate.groundingMetadata, said.text);
  const silent = said.text === "" && (calls.length > 0 || !verdict.ok);
  return {
    index,
    message: {
      role: "assistant",
      content: silent ? null : said.text,
      refusal: null,
      ...(said.reasoning !== "" && { reasoning_content: said.reasoning }),
      ...(citations.length > 0 && { annotations: citations.map(annotation) }),
      ...(calls.length > 0 &&
        (legacyFunctions
          ? { function_call: calls[0]!.function }
          : { tool_calls: calls.map((call) => asDeclared(call, customTools)) })),
      ...(said.signature !== null && { extra_content: extraContent(said.signature) }),
    },
    logprobs: null,
    finish_reason: openaiFinishReason(candidate, verdict, calls.length, legacyFunctions),
    native_finish_reason: nativeReason(candidate, verdict),
  };
}

/** As chat completions name a page. */
export const annotation = (citation: Citation) => ({ type: "url_citation", url_citation: citation });

/** Upstream's own word for the end: OpenAI's does not distinguish one filter from another. */
export function nativeReason(candidate: Candidate, verdict: GatewayResult["verdict"]): string | null {
  return candidate.finishReason ?? (verdict.ok ? null : verdict.reason);
}
