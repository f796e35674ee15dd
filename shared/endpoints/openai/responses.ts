import { type Answer, partsOf } from "../../contract/content.ts";
import type { GatewayEvent } from "../../contract/events.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { EVENT_STREAM, streamedResponse } from "../../http/streamed_response.ts";
import { type EventEncoder, eventFrames } from "../event_frames.ts";
import { type AnswerTerms, resultHeaders } from "./answer.ts";
import { openaiError } from "./error.ts";
import { unanswerable } from "./finish.ts";
import { idHeaders } from "./headers.ts";
import { type OpenaiToolCall, saidIn } from "./said.ts";
import { usageJson } from "./usage.ts";

interface ResponseTerms extends AnswerTerms {
  requestId: string;
  model: string;
}

/**
 * A result as a response of the Responses API; thoughts are not returned here.
 * @throws GatewayError `empty_answer`, `answer_unusable`, `schema_mismatch`
 */
export function encodeResponse(result: GatewayResult, terms: ResponseTerms): Response {
  const error = unanswerable(result, terms.strictSchema);
  if (error !== null) throw error;
  const { text, calls } = saidIn(partsOf(result.answer), terms.newId);
  const output = [
    ...(text !== "" ? [messageItem(terms, text)] : []),
    ...(terms.parallelCalls ? calls : calls.slice(0, 1)).map((call) => callItem(call)),
  ];
  return jsonResponse(200, responseJson(terms, output, result), result.requestId, resultHeaders(result));
}

/**
 * The same as typed events, each as soon as there is something to say. What fails before that is thrown; what fails later
 * is an `error` event.
 */
export async function streamResponse(
  events: AsyncIterable<GatewayEvent>,
  terms: ResponseTerms,
): Promise<Response> {
  const body = await eventFrames(events, responseEncoder(terms));
  return streamedResponse(body, EVENT_STREAM, terms.requestId, idHeaders(terms.requestId));
}

function responseEncoder(terms: ResponseTerms): EventEncoder {
  const output: unknown[] = [];
  let number = 0;
  let text = "";
  let textAt = -1;
  let calls = 0;
  let done = false;
  const event = (type: string, more: Record<string, unknown>) =>
    `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: number++, ...more })}\n\n`;
  const opening = () =>
    number > 0
      ? ""
      : ["response.created", "response.in_progress"].map((type) =>
        event(type, { response: responseJson(terms, [], null) })
      ).join("");
  const say = (answer: Answer): string => {
    const said = saidIn(partsOf(answer), terms.newId);
    let frames = "";
    if (said.text !== "") {
      frames += opening();
      if (textAt < 0) {
        textAt = output.push(null) - 1;
        frames += event("response.output_item.added", {
          output_index: textAt,
          item: messageItem(terms, null),
        });
        frames += event("response.content_part.added", { ...at(terms, textAt), part: textPart("") });
      }
      text += said.text;
      frames += event("response.output_text.delta", { ...at(terms, textAt), delta: said.text, logprobs: [] });
    }
    for (const call of said.calls) {
      if (++calls > 1 && !terms.parallelCalls) break;
      const item = callItem(call);
      const output_index = output.push(item) - 1;
      const place = { item_id: item.id, output_index };
      frames += opening() +
        event("response.output_item.added", {
          output_index,
          item: { ...item, status: "in_progress", arguments: "" },
        }) +
        event("response.function_call_arguments.delta", { ...place, delta: item.arguments }) +
        event("response.function_call_arguments.done", {
          ...place,
          name: item.name,
          arguments: item.arguments,
        }) +
        event("response.output_item.done", { output_index, item });
    }
    return frames;
  };
  const close = (result: GatewayResult): string => {
    const error = unanswerable(result, terms.strictSchema);
    if (error !== null) throw error;
    // The answer to a request that was answered before comes in one piece, with the result.
    let frames = output.length === 0 ? say(result.answer) : "";
    frames = frames === "" ? opening() : frames;
    if (textAt >= 0) {
      output[textAt] = messageItem(terms, text);
      frames += event("response.output_text.done", { ...at(terms, textAt), text, logprobs: [] }) +
        event("response.content_part.done", { ...at(terms, textAt), part: textPart(text) }) +
        event("response.output_item.done", { output_index: textAt, item: output[textAt] });
    }
    const response = responseJson(terms, output, result);
    return frames + event(`response.${response.status}`, { response });
  };
  return {
    encode(one) {
      if (one.type === "delta") return say(one.chunk);
      if (one.type !== "done") return "";
      done = true;
      return close(one.result);
    },
    end() {
      if (!done) throw new GatewayError("internal", { detail: "the stream ended without a result" });
      return "";
    },
    failed: (error) => event("error", openaiError(error, terms.requestId).error),
  };
}

function responseJson(terms: ResponseTerms, output: unknown[], result: GatewayResult | null) {
  const cut = result === null || result.verdict.ok && result.finishReason !== "MAX_TOKENS"
    ? null
    : !result.verdict.ok && result.verdict.code === "content_blocked"
    ? "content_filter"
    : result.finishReason === "MAX_TOKENS"
    ? "max_output_tokens"
    : null;
  return {
    id: `resp_${terms.requestId}`,
    object: "response",
    created_at: terms.created,
    status: result === null ? "in_progress" : cut === null ? "completed" : "incomplete",
    error: null,
    incomplete_details: cut === null ? null : { reason: cut },
    model: result?.model ?? terms.model,
    output,
    parallel_tool_calls: terms.parallelCalls,
    previous_response_id: null,
    store: false,
    usage: result === null ? null : responseUsage(result),
  };
}

function responseUsage({ usage }: GatewayResult) {
  const counted = usageJson(usage);
  return {
    input_tokens: counted.prompt_tokens,
    input_tokens_details: counted.prompt_tokens_details,
    output_tokens: counted.completion_tokens,
    output_tokens_details: counted.completion_tokens_details,
    total_tokens: counted.total_tokens,
    ...(usage.estimated && { estimated: true }),
  };
}

const textPart = (text: string) => ({ type: "output_text", text, annotations: [], logprobs: [] });
const messageId = ({ requestId }: ResponseTerms) => `msg_${requestId}`;
const at = (terms: ResponseTerms, output_index: number) => ({
  item_id: messageId(terms),
  output_index,
  content_index: 0,
});

/** @param text null: nothing has been said yet */
function messageItem(terms: ResponseTerms, text: string | null) {
  return {
    id: messageId(terms),
    type: "message",
    status: text === null ? "in_progress" : "completed",
    role: "assistant",
    content: text === null ? [] : [textPart(text)],
  };
}

function callItem({ id, function: { name, arguments: args } }: OpenaiToolCall) {
  return {
    id: `fc_${id.slice(0, 40)}`,
    type: "function_call",
    status: "completed",
    call_id: id,
    name,
    arguments: args,
  };
}
