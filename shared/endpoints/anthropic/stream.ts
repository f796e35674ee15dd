import { usageOf } from "../../contract/answer_verdict.ts";
import { type Answer, partsOf } from "../../contract/content.ts";
import type { GatewayEvent } from "../../contract/events.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { Limits } from "../../contract/limits.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { EVENT_STREAM, streamedResponse } from "../../http/streamed_response.ts";
import { type EventEncoder, eventFrames } from "../event_frames.ts";
import { unanswerable } from "../openai/chat/finish.ts";
import { modelHeaders } from "../openai/headers.ts";
import { type AnswerTerms, messageHead } from "./answer.ts";
import { type Block, sayingOf } from "./blocks.ts";
import { anthropicError } from "./error.ts";
import { stopOf } from "./finish.ts";
import { idHeaders, limitHeaders, resultHeaders } from "./headers.ts";
import { thinkingSignature } from "./signature.ts";
import { usageJson } from "./usage.ts";

export interface StreamTerms extends AnswerTerms {
  requestId: string;
  /** The model that was asked for. */
  model: string;
}

/**
 * A message as events, each as soon as there is something to say: `message_start`, `ping`, blocks one after the other, `message_delta`,
 * `message_stop`.
 *
 * The response begins with the first thing said or thought, so what fails before it is thrown, and answered as any error is. What fails
 * later is a last event, `error`. A client that leaves ends the call, and one that reads slowly slows it down.
 */
export async function streamMessage(
  events: AsyncIterable<GatewayEvent>,
  terms: StreamTerms,
): Promise<Response> {
  const encoder = new MessageEncoder(terms);
  const body = await eventFrames(events, encoder);
  return streamedResponse(body, EVENT_STREAM, terms.requestId, encoder.headers());
}

const event = (json: { type: string } & Record<string, unknown>) =>
  `event: ${json.type}\ndata: ${JSON.stringify(json)}\n\n`;

/** Nobody has been counted yet. */
const NO_USAGE = {
  inputTokens: 0,
  outputTokens: null,
  thoughtsTokens: null,
  cachedTokens: null,
  totalTokens: null,
  estimated: true,
};

/** A call's events as frames. */
class MessageEncoder implements EventEncoder {
  readonly #terms: StreamTerms;
  #started: { model: string; limits: Limits | null; outputLoweredTo?: number | null } | null = null;
  #result: GatewayResult | null = null;
  /** Whether the message has begun. */
  #begun = false;
  /** The block that is open; null: none. */
  #open: Block["type"] | null = null;
  #blocks = 0;
  #calls = 0;

  constructor(terms: StreamTerms) {
    this.#terms = terms;
  }

  encode(event: GatewayEvent): string {
    if (event.type === "started") this.#started = event;
    if (event.type === "done") this.#result = event.result;
    return event.type === "delta" ? this.#framesOf(event.chunk) : "";
  }

  end(): string {
    const result = this.#result;
    if (result === null) throw new GatewayError("internal", { detail: "the stream ended without a result" });
    const error = unanswerable(result, this.#terms.strictSchema);
    if (error !== null) throw error;
    // The answer to a request that was answered before comes in one piece, with the result.
    const whole = this.#begun ? "" : this.#framesOf(result.answer);
    const begin = this.#begun ? "" : this.#begin(result.answer);
    const { stop_reason, stop_sequence, stop_details } = stopOf(result, this.#calls);
    return whole + begin + this.#close(null) + event({
      type: "message_delta",
      delta: { stop_reason, stop_sequence, stop_details, container: null },
      usage: usageJson(result.usage),
    }) + event({ type: "message_stop" });
  }

  failed(error: GatewayError): string {
    return event(anthropicError(error, this.#terms.requestId));
  }

  /** What is known by the first frame. */
  headers(): Record<string, string> {
    const { requestId, model: asked, now } = this.#terms;
    if (this.#result !== null) return resultHeaders(this.#result, now());
    // What was never started is a stored answer.
    if (this.#started === null) return { ...idHeaders(requestId), "x-eve-replayed": "true" };
    const { model, limits, outputLoweredTo } = this.#started;
    return {
      ...idHeaders(requestId),
      ...limitHeaders(limits, now()),
      ...modelHeaders({ model, replaced: model !== asked, outputLoweredTo }),
    };
  }

  #framesOf(chunk: Answer): string {
    const parts = partsOf(chunk);
    if (parts.length === 0) return "";
    const begin = this.#begun ? "" : this.#begin(chunk);
    return begin + parts.map((part) => {
      const saying = sayingOf(part, this.#terms);
      return saying === null ? "" : this.#say(saying.block, saying.signature);
    }).join("");
  }

  #begin(chunk: Answer): string {
    this.#begun = true;
    const { requestId, model } = this.#terms;
    const message = {
      ...messageHead(requestId, this.#result?.model ?? this.#started?.model ?? model),
      usage: usageJson(usageOf(chunk) ?? this.#result?.usage ?? NO_USAGE),
    };
    return event({ type: "message_start", message }) + event({ type: "ping" });
  }

  #say(block: Block, signature: string | null): string {
    switch (block.type) {
      case "tool_use": {
        if (!this.#terms.parallelCalls && this.#calls > 0) return "";
        this.#calls++;
        return this.#close(signature) + this.#start({ ...block, input: {} }) +
          this.#delta({ type: "input_json_delta", partial_json: JSON.stringify(block.input) }) +
          this.#close(null);
      }
      case "text": {
        // Of an empty text only its signature is of use, to the thoughts before it.
        if (block.text === "") return signature === null ? "" : this.#close(signature, "thinking");
        const open = this.#open === "text"
          ? ""
          : this.#close(signature) + this.#start({ ...block, text: "" });
        return open + this.#delta({ type: "text_delta", text: block.text });
      }
      case "thinking": {
        const open = this.#open === "thinking"
          ? ""
          : this.#close(signature) + this.#start({ ...block, thinking: "" });
        return open +
          (block.thinking === "" ? "" : this.#delta({ type: "thinking_delta", thinking: block.thinking }));
      }
    }
  }

  #start(block: Block): string {
    this.#open = block.type;
    return event(
      { type: "content_block_start", index: this.#blocks, content_block: block } as { type: string },
    );
  }

  #delta(delta: Record<string, unknown>): string {
    return event({ type: "content_block_delta", index: this.#blocks, delta });
  }

  /**
   * Ends the block that is open.
   * @param signature of what follows: it signs thoughts
   * @param only a block of this type
   */
  #close(signature: string | null, only: Block["type"] | null = this.#open): string {
    if (this.#open === null || this.#open !== only) return "";
    const signs = this.#open === "thinking"
      ? this.#delta({ type: "signature_delta", signature: thinkingSignature(signature) })
      : "";
    this.#open = null;
    return signs + event({ type: "content_block_stop", index: this.#blocks++ });
  }
}
