import type { Answer } from "../../contract/content.ts";
import type { GatewayEvent } from "../../contract/events.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Limits } from "../../contract/limits.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { streamedResponse } from "../../http/streamed_response.ts";
import { type EventEncoder, eventFrames } from "../event_frames.ts";
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
  const encoder = new ChunkEncoder(requestId, encoding);
  const body = await eventFrames(events, encoder);
  return streamedResponse(body, encoder.framing.contentType, requestId, encoder.headers(model));
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
class ChunkEncoder implements EventEncoder {
  readonly framing: Framing;
  readonly #requestId: string;
  readonly #encoding: GeminiEncoding;
  #started: { model: string; limits: Limits | null; outputLoweredTo?: number | null } | null = null;
  #result: GatewayResult | null = null;
  #sent = 0;

  constructor(requestId: string, encoding: GeminiEncoding) {
    this.#requestId = requestId;
    this.#encoding = encoding;
    this.framing = encoding.sse ? EVENTS : ARRAY;
  }

  encode(event: GatewayEvent): string {
    if (event.type === "started") this.#started = event;
    if (event.type === "done") this.#result = event.result;
    const chunk = event.type === "delta" ? event.chunk : this.#replay();
    if (chunk === null || isSkipped(chunk, this.#encoding)) return "";
    return this.framing.frame(JSON.stringify(encoded(chunk, this.#encoding)), this.#sent++);
  }

  end(): string {
    if (this.#result === null) {
      throw new GatewayError("internal", { detail: "the stream ended without a result" });
    }
    const silent = silentlyEmpty(this.#result);
    if (silent !== null) throw silent;
    return this.framing.end;
  }

  failed(error: GatewayError): string {
    // google-generativeai ignores an error among the chunks, and would take half an answer for the whole. For an
    // array without an end it raises "Unfinished stream", with this frame.
    const end = this.#encoding.numericEnums ? "" : this.framing.end;
    return this.framing.frame(JSON.stringify(geminiError(error, this.#requestId)), this.#sent) + end;
  }

  /** The answer to a request that was answered before comes in one piece, with the result. */
  #replay(): Answer | null {
    if (this.#sent > 0 || this.#result === null || silentlyEmpty(this.#result) !== null) return null;
    return this.#result.answer;
  }

  /** What is known by the first chunk. */
  headers(asked: string): Record<string, string> {
    if (this.#result !== null) return resultHeaders(this.#result);
    // What was never started is a stored answer.
    if (this.#started === null) return { "x-eve-replayed": "true" };
    const { model, limits, outputLoweredTo } = this.#started;
    return servedHeaders(limits, model === asked ? null : model, outputLoweredTo);
  }
}
