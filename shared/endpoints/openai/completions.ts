import { z } from "zod";
import type { Candidate } from "../../contract/content.ts";
import type { GatewayEvent } from "../../contract/events.ts";
import { judgeAnswer } from "../../contract/answer_verdict.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { EVENT_STREAM, streamedResponse } from "../../http/streamed_response.ts";
import { type EventEncoder, eventFrames } from "../event_frames.ts";
import { knownFields } from "../fields.ts";
import type { IgnoredFields } from "../ignored_fields.ts";
import { type Fault, invalidRequest, validated } from "../validated.ts";
import { type AnswerTerms, resultHeaders, startHeaders } from "./answer.ts";
import { type Chat, decodeChat } from "./chat_request.ts";
import { openaiError } from "./error.ts";
import { openaiFinishReason, unanswerable } from "./finish.ts";
import { usageJson } from "./usage.ts";

const refused = (why: string) => z.undefined({ error: `is not supported here: ${why}` }).optional();

const body = knownFields("", {
  model: z.unknown(),
  prompt: z.preprocess(
    (value) => Array.isArray(value) && value.length === 1 ? value[0] : value,
    z.string({ error: "must be one text: token numbers mean nothing to these models" }).min(
      1,
      "must not be empty",
    ),
  ),
  echo: z.boolean().optional(),
  suffix: z.preprocess((value) => value === "" ? undefined : value, refused("texts are only gone on with")),
  best_of: z.unknown().optional(),
  logprobs: refused("probabilities of tokens are not available"),
  logit_bias: z.unknown().optional(),
  max_tokens: z.unknown().optional(),
  temperature: z.unknown().optional(),
  top_p: z.unknown().optional(),
  n: z.unknown().optional(),
  stream: z.unknown().optional(),
  stream_options: z.unknown().optional(),
  stop: z.unknown().optional(),
  seed: z.unknown().optional(),
  presence_penalty: z.unknown().optional(),
  frequency_penalty: z.unknown().optional(),
  user: z.unknown().optional(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

/** A legacy completion as a chat completion, and what stands before its answer. */
export interface DecodedCompletion {
  chat: Chat;
  /** The prompt, where it is to be repeated. */
  echo: string;
  rename: (thrown: unknown) => unknown;
}

/**
 * A body of the legacy completions: the prompt is what a user says.
 * @param ignored takes the names of fields that an answer does without; null: they are refused
 * @throws GatewayError `invalid_request`
 */
export function decodeCompletion(json: unknown, ignored: IgnoredFields | null): DecodedCompletion {
  const { prompt, echo, suffix: _, logprobs: __, best_of: best, ...asked } = validated(body, json, ignored);
  if (best !== undefined && best !== (asked.n ?? 1)) {
    throw invalidRequest([{
      field: "best_of",
      problem: "is not supported here: all answers that are made are given",
    }]);
  }
  try {
    const chat = decodeChat({ ...asked, messages: [{ role: "user", content: prompt }] }, ignored);
    return { chat, echo: echo === true ? prompt : "", rename: renamed };
  } catch (thrown) {
    throw renamed(thrown);
  }
}

function renamed(thrown: unknown): unknown {
  if (!(thrown instanceof GatewayError) || thrown.code !== "invalid_request") return thrown;
  return invalidRequest(
    (thrown.details as Fault[]).map(({ field, problem }) => ({
      field: field.replace(/^messages.*/, "prompt"),
      problem,
    })),
  );
}

export interface CompletionTerms extends AnswerTerms {
  requestId: string;
  model: string;
  echo: string;
  includeUsage: boolean;
}

/**
 * A result as a legacy completion.
 * @throws GatewayError as `encodeCompletion`
 */
export function encodeTextCompletion(result: GatewayResult, terms: CompletionTerms): Response {
  const error = unanswerable(result, terms.strictSchema);
  if (error !== null) throw error;
  const candidates = result.answer.candidates ?? [];
  const several = candidates.length > 1;
  const choices = (candidates.length === 0 ? [{}] : candidates).map((candidate: Candidate, index) =>
    choice(index, terms.echo + textIn(candidate), several ? endOf(candidate) : endOf(candidate, result))
  );
  const completion = { ...head(terms, result.model), choices, usage: usageJson(result.usage) };
  return jsonResponse(200, completion, result.requestId, resultHeaders(result));
}

/** The same as a stream. */
export async function streamTextCompletion(
  events: AsyncIterable<GatewayEvent>,
  terms: CompletionTerms,
): Promise<Response> {
  const writer = new TextWriter(terms);
  const frames = await eventFrames(events, writer);
  return streamedResponse(frames, EVENT_STREAM, terms.requestId, writer.headers());
}

const frame = (json: unknown) => `data: ${JSON.stringify(json)}\n\n`;

class TextWriter implements EventEncoder {
  readonly #terms: CompletionTerms;
  /** By choice, the last that upstream said of it. */
  readonly #choices = new Map<number, Candidate>();
  #started: Extract<GatewayEvent, { type: "started" }> | null = null;
  #result: GatewayResult | null = null;

  constructor(terms: CompletionTerms) {
    this.#terms = terms;
  }

  encode(event: GatewayEvent): string {
    if (event.type === "started") this.#started = event;
    if (event.type === "done") this.#result = event.result;
    return event.type === "delta" ? this.#say(event.chunk.candidates ?? []) : "";
  }

  end(): string {
    const result = this.#result;
    if (result === null) throw new GatewayError("internal", { detail: "the stream ended without a result" });
    const error = unanswerable(result, this.#terms.strictSchema);
    if (error !== null) throw error;
    // The answer to a request that was answered before comes in one piece, with the result.
    const whole = this.#choices.size === 0 ? this.#say(result.answer.candidates ?? []) : "";
    if (this.#choices.size === 0) this.#choices.set(0, {});
    const ends = [...this.#choices].map(([index, candidate]) =>
      this.#chunk(index, "", this.#choices.size > 1 ? endOf(candidate) : endOf(candidate, result))
    );
    const usage = this.#terms.includeUsage
      ? frame({ ...head(this.#terms, result.model), choices: [], usage: usageJson(result.usage) })
      : "";
    return `${whole}${ends.join("")}${usage}data: [DONE]\n\n`;
  }

  failed(error: GatewayError): string {
    return frame(openaiError(error, this.#terms.requestId));
  }

  /** What is known when the first frame is. */
  headers(): Record<string, string> {
    return this.#result === null ? startHeaders(this.#started, this.#terms) : resultHeaders(this.#result);
  }

  #say(candidates: Candidate[]): string {
    return candidates.map((candidate, place) => {
      const index = typeof candidate.index === "number" ? candidate.index : place;
      const begun = this.#choices.has(index);
      const text = (begun ? "" : this.#terms.echo) + textIn(candidate);
      if (text === "" && candidate.finishReason === undefined) return "";
      this.#choices.set(index, candidate);
      return text === "" ? "" : this.#chunk(index, text, null);
    }).join("");
  }

  #chunk(index: number, text: string, end: string | null): string {
    const model = this.#result?.model ?? this.#started?.model ?? this.#terms.model;
    return frame({
      ...head(this.#terms, model),
      choices: [choice(index, text, end)],
      ...(this.#terms.includeUsage && { usage: null }),
    });
  }
}

const head = ({ requestId, created }: CompletionTerms, model: string) => ({
  id: `cmpl-${requestId}`,
  object: "text_completion",
  created,
  model,
});

const choice = (index: number, text: string, end: string | null) => ({
  text,
  index,
  logprobs: null,
  finish_reason: end,
});

function textIn({ content }: Candidate): string {
  return (content?.parts ?? []).map((part) => part.thought === true ? "" : part.text ?? "").join("");
}

function endOf(candidate: Candidate, result?: GatewayResult): string {
  const verdict = result?.verdict ?? judgeAnswer({ candidates: [candidate] });
  return openaiFinishReason(candidate, verdict, 0);
}
