import type { Candidate } from "../../../contract/content.ts";
import type { GatewayEvent } from "../../../contract/events.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";
import type { Limits } from "../../../contract/limits.ts";
import type { AnswerVerdict, GatewayResult } from "../../../contract/result.ts";
import { EVENT_STREAM, streamedResponse } from "../../../http/streamed_response.ts";
import { judgeAnswer } from "../../../contract/answer_verdict.ts";
import { type EventEncoder, eventFrames } from "../../event_frames.ts";
import {
  annotation,
  type AnswerTerms,
  completionId,
  nativeReason,
  resultHeaders,
  startHeaders,
} from "./answer.ts";
import { citationsOf } from "./citations.ts";
import { openaiError } from "../error.ts";
import { openaiFinishReason, unanswerable } from "./finish.ts";
import { asDeclared, extraContent, saidIn } from "./said.ts";
import { usageJson } from "../usage.ts";

export interface StreamTerms extends AnswerTerms {
  requestId: string;
  /** The model that was asked for. */
  model: string;
  /** A chunk with the usage before the end, and a null in all others. */
  includeUsage: boolean;
  /** Whether Google's search was asked for. */
  searches: boolean;
}

/**
 * A stream of `chat.completion.chunk`s, each as soon as there is something to say, ended by `[DONE]`.
 *
 * The response begins with the first thing said, so what fails before it is thrown, and answered as any error is. What
 * fails later is a last frame with `error`, and no `[DONE]`. A client that leaves ends the call, and one that reads
 * slowly slows it down.
 */
export async function encodeCompletionStream(
  events: AsyncIterable<GatewayEvent>,
  terms: StreamTerms,
): Promise<Response> {
  const encoder = new FrameEncoder(terms);
  const body = await eventFrames(events, encoder);
  return streamedResponse(body, EVENT_STREAM, terms.requestId, encoder.headers());
}

const frame = (json: unknown) => `data: ${JSON.stringify(json)}\n\n`;
const DONE = "data: [DONE]\n\n";

/** What has been sent of one choice. */
interface Choice {
  calls: number;
  /** Whether a word of text was said, which is not a thought. */
  spoke: boolean;
  /** What it said, where pages may be cited in it. */
  text: string;
  /** The last that upstream said of it, without its parts. */
  ended: Candidate;
}

/** A call's events as frames. */
class FrameEncoder implements EventEncoder {
  readonly #terms: StreamTerms;
  readonly #choices = new Map<number, Choice>();
  #started: { model: string; limits: Limits | null; outputLoweredTo?: number | null } | null = null;
  #result: GatewayResult | null = null;

  constructor(terms: StreamTerms) {
    this.#terms = terms;
  }

  encode(event: GatewayEvent): string {
    if (event.type === "started") this.#started = event;
    if (event.type === "done") this.#result = event.result;
    return event.type === "delta" ? this.#framesOf(event.chunk.candidates ?? []) : "";
  }

  failed(error: GatewayError): string {
    return frame(openaiError(error, this.#terms.requestId));
  }

  /** What is known when the first frame is. */
  headers(): Record<string, string> {
    if (this.#result !== null) return resultHeaders(this.#result);
    return startHeaders(this.#started, this.#terms);
  }

  #framesOf(candidates: Candidate[]): string {
    return candidates.map((candidate, position) => {
      const index = typeof candidate.index === "number" ? candidate.index : position;
      const { content, ...ended } = candidate;
      const { text, reasoning, calls, signature } = saidIn(content?.parts ?? [], this.#terms.newId);
      const known = this.#choices.get(index);
      const before = known?.calls ?? 0;
      const allowed = this.#terms.parallelCalls ? calls : calls.slice(0, before === 0 ? 1 : 0);
      const toolCalls = allowed.map((call, i) => ({
        index: before + i,
        ...asDeclared(call, this.#terms.customTools),
      }));
      const spoke = (known?.spoke ?? false) || text !== "";
      // As OpenAI says it: a message that begins with a call has no content, and that is null.
      const silent = before === 0 && toolCalls.length > 0 && !spoke;
      const says = text !== "" || reasoning !== "" || toolCalls.length > 0;
      if (known === undefined && !says && ended.finishReason === undefined) return "";
      this.#choices.set(index, {
        calls: before + toolCalls.length,
        spoke,
        text: this.#terms.searches ? (known?.text ?? "") + text : "",
        ended: ended.finishReason === undefined ? known?.ended ?? {} : ended,
      });
      if (!says && signature === null) return "";
      const delta = {
        ...(reasoning !== "" && { reasoning_content: reasoning }),
        ...(text !== "" && { content: text }),
        ...(silent && { content: null }),
        ...(toolCalls.length > 0 &&
          (this.#terms.legacyFunctions === true
            ? { function_call: allowed[0]!.function }
            : { tool_calls: toolCalls })),
        ...(signature !== null && { extra_content: extraContent(signature) }),
      };
      if (this.#isOpen(index)) return this.#chunk(index, delta);
      if (silent) return this.#open(index, delta);
      return this.#open(index) + this.#chunk(index, delta);
    }).join("");
  }

  readonly #opened = new Set<number>();

  #isOpen(index: number): boolean {
    return this.#opened.has(index);
  }

  #open(index: number, delta: Record<string, unknown> = {}): string {
    this.#opened.add(index);
    return this.#chunk(index, { role: "assistant", content: "", refusal: null, ...delta });
  }

  end(): string {
    const result = this.#result;
    if (result === null) throw new GatewayError("internal", { detail: "the stream ended without a result" });
    const error = unanswerable(result, this.#terms.strictSchema);
    if (error !== null) throw error;
    // The answer to a request that was answered before comes in one piece, with the result.
    const whole = this.#choices.size === 0 ? this.#framesOf(result.answer.candidates ?? []) : "";
    if (this.#choices.size === 0) this.#choices.set(0, { calls: 0, spoke: false, text: "", ended: {} });
    const ends = [...this.#choices].map(([index, choice]) => this.#close(index, choice, result)).join("");
    const usage = this.#terms.includeUsage
      ? frame({ ...this.#head(), choices: [], usage: usageJson(result.usage) })
      : "";
    return whole + ends + usage + DONE;
  }

  #close(index: number, { calls, ended, text }: Choice, result: GatewayResult): string {
    const verdict: AnswerVerdict = this.#choices.size === 1
      ? result.verdict
      : filtered(judgeAnswer({ candidates: [ended] }));
    const open = this.#isOpen(index) ? "" : this.#open(index);
    const citations = citationsOf(ended.groundingMetadata, text);
    const cited = citations.length === 0
      ? ""
      : this.#chunk(index, { annotations: citations.map(annotation) });
    return open + cited + this.#chunk(index, {}, {
      finish_reason: openaiFinishReason(ended, verdict, calls, this.#terms.legacyFunctions),
      native_finish_reason: nativeReason(ended, verdict),
    });
  }

  #chunk(index: number, delta: unknown, end: Record<string, unknown> = { finish_reason: null }): string {
    const { includeUsage } = this.#terms;
    return frame({
      ...this.#head(),
      choices: [{ index, delta, logprobs: null, ...end }],
      ...(includeUsage && { usage: null }),
    });
  }

  #head() {
    const { requestId, created, model } = this.#terms;
    return {
      id: completionId(requestId),
      object: "chat.completion.chunk",
      created,
      model: this.#result?.model ?? this.#started?.model ?? model,
    };
  }
}

/** Of one choice among several only a filter is reported here: its parts are gone, so it looks empty. */
function filtered(verdict: AnswerVerdict): AnswerVerdict {
  return !verdict.ok && verdict.code === "content_blocked" ? verdict : { ok: true };
}
