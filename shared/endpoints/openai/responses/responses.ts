import { type Answer, partsOf } from "../../../contract/content.ts";
import type { GatewayEvent } from "../../../contract/events.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";
import type { GatewayResult } from "../../../contract/result.ts";
import { jsonResponse } from "../../../http/json_response.ts";
import { EVENT_STREAM, streamedResponse } from "../../../http/streamed_response.ts";
import { type EventEncoder, eventFrames } from "../../event_frames.ts";
import { type AnswerTerms, resultHeaders, startHeaders } from "../chat/answer.ts";
import { citationsOf, searchesIn } from "../chat/citations.ts";
import { openaiError } from "../error.ts";
import { unanswerable } from "../chat/finish.ts";
import { objectId } from "../objects.ts";
import { outputItemId } from "./response_items.ts";
import { asDeclared, type OpenaiToolCall, saidIn } from "../chat/said.ts";
import { usageJson } from "../usage.ts";

export interface ResponseTerms extends AnswerTerms {
  requestId: string;
  model: string;
  /** A UUID: the response's own id. */
  responseId: string;
  /** True: the model's thoughts are an item of their own. */
  summary: boolean;
  /** Fields that stand in a response as they were asked for. */
  echo: Readonly<Record<string, unknown>>;
  /** Keeps a response that has ended; false: it could not. Null: it is not to be kept. */
  keep: ((response: ResponseJson) => Promise<boolean>) | null;
}

/** A response object. */
export type ResponseJson = Record<string, unknown> & {
  status: "in_progress" | "completed" | "incomplete";
  output: unknown[];
};

/**
 * A result as a response of the Responses API.
 * @throws GatewayError `empty_answer`, `answer_unusable`, `schema_mismatch`
 */
export async function encodeResponse(result: GatewayResult, terms: ResponseTerms): Promise<Response> {
  const writer = new ResponseWriter(terms);
  writer.say(result.answer);
  const { response } = await writer.close(result);
  return jsonResponse(200, response, result.requestId, resultHeaders(result));
}

/**
 * The same as typed events, each as soon as there is something to say. What fails before that is thrown; what fails later
 * is an `error` event.
 */
export async function streamResponse(
  events: AsyncIterable<GatewayEvent>,
  terms: ResponseTerms,
): Promise<Response> {
  const writer = new ResponseWriter(terms);
  const body = await eventFrames(events, writer);
  return streamedResponse(body, EVENT_STREAM, terms.requestId, writer.headers());
}

/** An item of text that is being said. */
interface Spoken {
  at: number;
  id: string;
  text: string;
}

/** A call's events as those of a response. */
class ResponseWriter implements EventEncoder {
  readonly #terms: ResponseTerms;
  readonly #output: unknown[] = [];
  #number = 0;
  #message: Spoken | null = null;
  #thoughts: Spoken | null = null;
  #calls = 0;
  #grounding: unknown;
  #started: Extract<GatewayEvent, { type: "started" }> | null = null;
  #result: GatewayResult | null = null;

  constructor(terms: ResponseTerms) {
    this.#terms = terms;
  }

  async encode(event: GatewayEvent): Promise<string> {
    if (event.type === "started") this.#started = event;
    if (event.type === "delta") return this.say(event.chunk);
    if (event.type !== "done") return "";
    // The answer to a request that was answered before comes in one piece, with the result.
    const whole = this.#output.length === 0 ? this.say(event.result.answer) : "";
    const { frames } = await this.close(event.result);
    return whole + frames;
  }

  end(): string {
    if (this.#result === null) {
      throw new GatewayError("internal", { detail: "the stream ended without a result" });
    }
    return "";
  }

  failed(error: GatewayError): string {
    const { error: said } = openaiError(error, this.#terms.requestId);
    // Some clients read the error beside the type of the event, others inside of it.
    return this.#event("error", { code: said.code, message: said.message, param: said.param, error: said });
  }

  /** What is known when the first frame is. */
  headers(): Record<string, string> {
    const { requestId, model } = this.#terms;
    return this.#result !== null
      ? resultHeaders(this.#result)
      : startHeaders(this.#started, { requestId, model });
  }

  say(answer: Answer): string {
    const { text, reasoning, calls } = saidIn(partsOf(answer), this.#terms.newId);
    this.#grounding = answer.candidates?.[0]?.groundingMetadata ?? this.#grounding;
    let frames = this.#terms.summary && reasoning !== "" ? this.#think(reasoning) : "";
    if (text === "" && calls.length === 0) return frames;
    frames += this.#endThoughts();
    if (text !== "") frames += this.#speak(text);
    for (const call of calls) {
      if (++this.#calls > 1 && !this.#terms.parallelCalls) break;
      frames += this.#call(call);
    }
    return frames;
  }

  async close(result: GatewayResult): Promise<{ frames: string; response: ResponseJson }> {
    const error = unanswerable(result, this.#terms.strictSchema);
    if (error !== null) throw error;
    this.#result = result;
    const frames = this.#opening() + this.#endThoughts() + this.#searches() + this.#endMessage();
    const { keep } = this.#terms;
    const response = responseJson(this.#terms, this.#output, result, keep !== null);
    if (keep !== null) response.store = await keep(response);
    return { frames: frames + this.#event(`response.${response.status}`, { response }), response };
  }

  #event(type: string, more: Record<string, unknown>): string {
    return `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: this.#number++, ...more })}\n\n`;
  }

  #opening(): string {
    if (this.#number > 0) return "";
    const response = responseJson(this.#terms, [], null, this.#terms.keep !== null);
    return this.#event("response.created", { response }) + this.#event("response.in_progress", { response });
  }

  #id(type: string, at: number): string {
    return outputItemId(type, this.#terms.responseId, at);
  }

  /** A place in the output, for an item that is there when it has ended. */
  #place(type: string): Spoken {
    const at = this.#output.push(null) - 1;
    return { at, id: this.#id(type, at), text: "" };
  }

  #think(thoughts: string): string {
    let frames = this.#opening();
    if (this.#thoughts === null) {
      const { id, at } = this.#thoughts = this.#place("reasoning");
      frames += this.#event("response.output_item.added", {
        output_index: at,
        item: { id, type: "reasoning", summary: [] },
      });
      frames += this.#event("response.reasoning_summary_part.added", {
        ...summaryAt(this.#thoughts),
        part: summaryPart(""),
      });
    }
    this.#thoughts.text += thoughts;
    return frames +
      this.#event("response.reasoning_summary_text.delta", { ...summaryAt(this.#thoughts), delta: thoughts });
  }

  #endThoughts(): string {
    const thoughts = this.#thoughts;
    if (thoughts === null || this.#output[thoughts.at] !== null) return "";
    const { id, at, text } = thoughts;
    const item = this.#output[at] = { id, type: "reasoning", summary: [summaryPart(text)] };
    return this.#event("response.reasoning_summary_text.done", { ...summaryAt(thoughts), text }) +
      this.#event("response.reasoning_summary_part.done", {
        ...summaryAt(thoughts),
        part: summaryPart(text),
      }) +
      this.#event("response.output_item.done", { output_index: at, item });
  }

  #speak(text: string): string {
    let frames = this.#opening();
    if (this.#message === null) {
      const { id, at } = this.#message = this.#place("message");
      frames += this.#event("response.output_item.added", { output_index: at, item: messageItem(id, null) });
      frames += this.#event("response.content_part.added", { ...textAt(this.#message), part: textPart("") });
    }
    this.#message.text += text;
    return frames +
      this.#event("response.output_text.delta", { ...textAt(this.#message), delta: text, logprobs: [] });
  }

  #endMessage(): string {
    const message = this.#message;
    if (message === null) return "";
    const { id, at, text } = message;
    const annotations = citationsOf(this.#grounding, text).map((one) => ({ type: "url_citation", ...one }));
    const part = textPart(text, annotations);
    const item = this.#output[at] = messageItem(id, part);
    const notes = annotations.map((annotation, annotation_index) =>
      this.#event("response.output_text.annotation.added", {
        ...textAt(message),
        annotation_index,
        annotation,
      })
    );
    return notes.join("") +
      this.#event("response.output_text.done", { ...textAt(message), text, logprobs: [] }) +
      this.#event("response.content_part.done", { ...textAt(message), part }) +
      this.#event("response.output_item.done", { output_index: at, item });
  }

  #call(call: OpenaiToolCall): string {
    const at = this.#output.length;
    const declared = asDeclared(call, this.#terms.customTools);
    const rest = { status: "completed", call_id: call.id, name: call.function.name };
    const [item, begun, field, written] = declared.type === "custom"
      ? [
        {
          id: this.#id("custom_tool_call", at),
          type: "custom_tool_call",
          ...rest,
          input: declared.custom.input,
        },
        { input: "" },
        "response.custom_tool_call_input",
        { input: declared.custom.input },
      ] as const
      : [
        {
          id: this.#id("function_call", at),
          type: "function_call",
          ...rest,
          arguments: call.function.arguments,
        },
        { arguments: "" },
        "response.function_call_arguments",
        { name: rest.name, arguments: call.function.arguments },
      ] as const;
    this.#output.push(item);
    const place = { item_id: item.id, output_index: at };
    return this.#opening() +
      this.#event("response.output_item.added", {
        output_index: at,
        item: { ...item, status: "in_progress", ...begun },
      }) +
      this.#event(`${field}.delta`, {
        ...place,
        delta: "input" in written ? written.input : written.arguments,
      }) +
      this.#event(`${field}.done`, { ...place, ...written }) +
      this.#event("response.output_item.done", { output_index: at, item });
  }

  /** What Google searched for; it says so at the end. */
  #searches(): string {
    const queries = searchesIn(this.#grounding);
    if (queries.length === 0) return "";
    const at = this.#output.length;
    const action = { type: "search", query: queries[0], queries };
    const item = {
      id: this.#id("web_search_call", at),
      type: "web_search_call",
      status: "completed",
      action,
    };
    this.#output.push(item);
    return this.#event("response.output_item.added", {
      output_index: at,
      item: { ...item, status: "in_progress" },
    }) + this.#event("response.output_item.done", { output_index: at, item });
  }
}

function responseJson(
  terms: ResponseTerms,
  output: unknown[],
  result: GatewayResult | null,
  store: boolean,
): ResponseJson {
  const cut = result === null || result.verdict.ok && result.finishReason !== "MAX_TOKENS"
    ? null
    : !result.verdict.ok && result.verdict.code === "content_blocked"
    ? "content_filter"
    : result.finishReason === "MAX_TOKENS"
    ? "max_output_tokens"
    : null;
  return {
    id: objectId("response", terms.responseId),
    object: "response",
    created_at: terms.created,
    status: result === null ? "in_progress" : cut === null ? "completed" : "incomplete",
    background: false,
    error: null,
    incomplete_details: cut === null ? null : { reason: cut },
    model: result?.model ?? terms.model,
    output,
    parallel_tool_calls: terms.parallelCalls,
    ...terms.echo,
    store,
    usage: result === null ? null : responseUsage(result),
  };
}

function responseUsage({ usage }: GatewayResult) {
  const counted = usageJson(usage);
  return {
    input_tokens: counted.prompt_tokens,
    // Nobody pays for writing to a cache here.
    input_tokens_details: { ...counted.prompt_tokens_details, cache_write_tokens: 0 },
    output_tokens: counted.completion_tokens,
    output_tokens_details: counted.completion_tokens_details,
    total_tokens: counted.total_tokens,
    ...(usage.estimated && { estimated: true }),
  };
}

const summaryPart = (text: string) => ({ type: "summary_text", text });
const summaryAt = ({ id, at }: Spoken) => ({ item_id: id, output_index: at, summary_index: 0 });
const textPart = (text: string, annotations: unknown[] = []) => ({
  type: "output_text",
  text,
  annotations,
  logprobs: [],
});
const textAt = ({ id, at }: Spoken) => ({ item_id: id, output_index: at, content_index: 0 });

/** @param part null: nothing has been said yet */
function messageItem(id: string, part: ReturnType<typeof textPart> | null) {
  return {
    id,
    type: "message",
    status: part === null ? "in_progress" : "completed",
    role: "assistant",
    content: part === null ? [] : [part],
  };
}
