import type { Answer } from "../../contract/content.ts";
import type { GatewayEvent } from "../../contract/events.ts";
import { asGatewayError, GatewayError } from "../../contract/gateway_error.ts";
import type { Limits } from "../../contract/limits.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { streamedResponse } from "../../http/streamed_response.ts";
import { resultHeaders, servedHeaders, silentlyEmpty } from "./answer.ts";
import { encoded, type GeminiEncoding, isSkipped } from "./encoding.ts";
import { geminiError } from "./error.ts";

export interface GeminiStreamOptions {
  /** The model that was asked for. */
  model: string;
  requestId: string;
  encoding: GeminiEncoding;
}

/**
 * A stream as `streamGenerateContent` answers: each chunk as soon as it is there, and nothing else. No comments and no
 * heartbeats, because Google's older client takes them for broken data.
 *
 * The response begins with the first chunk, so whatever fails before it is thrown and answered as any error is. What fails
 * later is the stream's last frame. A client that leaves ends the iteration, and one that reads slowly slows it down.
 */
export async function streamGemini(
  events: AsyncIterable<GatewayEvent>,
  { model, requestId, encoding }: GeminiStreamOptions,
): Promise<Response> {
  const chunks = new Chunks(events, encoding);
  const framing = encoding.sse ? EVENTS : ARRAY;
  const bytes = new TextEncoder();
  let sent = 0;
  let ready: Answer | null = await chunks.next();
  const headers = chunks.headers(model);

  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      let text: string;
      try {
        const chunk = sent === 0 ? ready : await chunks.next();
        ready = null;
        if (chunk === null) {
          if (framing.end !== "") controller.enqueue(bytes.encode(framing.end));
          return controller.close();
        }
        text = JSON.stringify(encoded(chunk, encoding));
      } catch (thrown) {
        const error = JSON.stringify(geminiError(asGatewayError(thrown), requestId));
        // google-generativeai ignores an error among the chunks, and would take half an answer for the whole. For an
        // array without an end it raises "Unfinished stream", with this frame.
        const end = encoding.numericEnums ? "" : framing.end;
        controller.enqueue(bytes.encode(framing.frame(error, sent) + end));
        return controller.close();
      }
      controller.enqueue(bytes.encode(framing.frame(text, sent++)));
    },
    cancel: () => chunks.leave(),
  }, { highWaterMark: 0 });

  return streamedResponse(body, framing.contentType, requestId, headers);
}

/** How the chunks of a stream are joined. */
interface Framing {
  contentType: string;
  frame(json: string, index: number): string;
  end: string;
}

/** With Google's own line ends, and no `[DONE]`. */
const EVENTS: Framing = {
  contentType: "text/event-stream",
  frame: (json) => `data: ${json}\r\n\r\n`,
  end: "",
};

const ARRAY: Framing = {
  contentType: "application/json; charset=UTF-8",
  frame: (json, index) => (index === 0 ? "[" : ",\r\n") + json,
  end: "]",
};

/** The answers among a call's events, and what the other events reported. */
class Chunks {
  readonly #events: AsyncIterator<GatewayEvent>;
  readonly #encoding: GeminiEncoding;
  #started: { model: string; limits: Limits | null; outputLoweredTo?: number | null } | null = null;
  #result: GatewayResult | null = null;
  #some = false;

  constructor(events: AsyncIterable<GatewayEvent>, encoding: GeminiEncoding) {
    this.#encoding = encoding;
    this.#events = events[Symbol.asyncIterator]();
  }

  /** The next one; null after the last. Throws what ended the call. */
  async next(): Promise<Answer | null> {
    for (;;) {
      const step = await this.#events.next();
      if (step.done) return this.#ended();
      const event = step.value;
      if (event.type === "started") this.#started = event;
      if (event.type === "done") this.#result = event.result;
      const chunk = event.type === "delta" ? event.chunk : this.#replay();
      if (chunk !== null && !isSkipped(chunk, this.#encoding)) {
        this.#some = true;
        return chunk;
      }
    }
  }

  /** The answer to a request that was answered before comes in one piece, with the result. */
  #replay(): Answer | null {
    if (this.#some || this.#result === null || silentlyEmpty(this.#result) !== null) return null;
    return this.#result.answer;
  }

  #ended(): null {
    if (this.#result === null) {
      throw new GatewayError("internal", { detail: "the stream ended without a result" });
    }
    const silent = silentlyEmpty(this.#result);
    if (silent !== null) throw silent;
    return null;
  }

  /** What is known by the first chunk. */
  headers(asked: string): Record<string, string> {
    if (this.#result !== null) return resultHeaders(this.#result);
    // What was never started is a stored answer.
    if (this.#started === null) return { "x-eve-replayed": "true" };
    const { model, limits, outputLoweredTo } = this.#started;
    return servedHeaders(limits, model === asked ? null : model, outputLoweredTo);
  }

  /** The client has gone: upstream need not go on. */
  async leave(): Promise<void> {
    await this.#events.return?.();
  }
}
