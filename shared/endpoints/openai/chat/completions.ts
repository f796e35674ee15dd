import * as z from "zod";
import type { Candidate } from "../../../contract/content.ts";
import type { GatewayEvent } from "../../../contract/events.ts";
import { judgeAnswer } from "../../../contract/answer_verdict.ts";
import { GatewayError } from "../../../contract/gateway_error.ts";
import type { GatewayResult } from "../../../contract/result.ts";
import type { TokenUsage } from "../../../contract/usage.ts";
import { jsonResponse } from "../../../http/json_response.ts";
import { EVENT_STREAM, streamedResponse } from "../../../http/streamed_response.ts";
import { type EventEncoder, eventFrames } from "../../event_frames.ts";
import { knownFields } from "../../fields.ts";
import type { IgnoredFields } from "../../ignored_fields.ts";
import { type Fault, invalidRequest, validated } from "../../validated.ts";
import { type AnswerTerms, resultHeaders, startHeaders } from "./answer.ts";
import { type Chat, decodeChat } from "./chat_request.ts";
import { openaiError } from "../error.ts";
import { openaiFinishReason, unanswerable } from "./finish.ts";
import { usageJson } from "../usage.ts";

const refused = (why: string) => z.undefined({ error: `is not supported here: ${why}` }).optional();

/** Each is a call of its own, and all of them are answered together. */
const MAX_PROMPTS = 20;

const body = knownFields("", {
  model: z.unknown(),
  prompt: z.preprocess(
    (value) => Array.isArray(value) ? value : [value],
    z.array(
      z.string({ error: "must be a text: token numbers mean nothing to these models" }).min(
        1,
        "must not be empty",
      ),
    ).min(1, "must hold a text").max(MAX_PROMPTS, `must hold at most ${MAX_PROMPTS} texts`),
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
  /** Of the first prompt. */
  chat: Chat;
  /** 1 to 20. */
  prompts: string[];
  /** The first prompt, where it is to be repeated. */
  echo: string;
  rename: (thrown: unknown) => unknown;
}

/**
 * A body of the legacy completions: the prompt is what a user says.
 * @param ignored takes the names of fields that an answer does without; null: they are refused
 * @throws GatewayError `invalid_request`
 */
export function decodeCompletion(json: unknown, ignored: IgnoredFields | null): DecodedCompletion {
  const { prompt: prompts, echo, suffix: _, logprobs: __, best_of: best, ...asked } = validated(
    body,
    json,
    ignored,
  );
  if (best !== undefined && best !== (asked.n ?? 1)) {
    throw invalidRequest([{
      field: "best_of",
      problem: "is not supported here: all answers that are made are given",
    }]);
  }
  const [prompt = ""] = prompts;
  try {
    const chat = decodeChat({ ...asked, messages: [{ role: "user", content: prompt }] }, ignored);
    if (chat.stream && prompts.length > 1) {
      throw invalidRequest([{ field: "stream", problem: "is for one prompt: several are answered whole" }]);
    }
    return { chat, prompts, echo: echo === true ? prompt : "", rename: renamed };
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
  return encodeTextCompletions([result], { ...terms, prompts: [terms.echo] });
}

/** The same for several prompts: their choices one after the other, in the order of the prompts. */
export function encodeTextCompletions(
  results: readonly GatewayResult[],
  terms: CompletionTerms & { prompts: readonly string[] },
): Response {
  const choices = results.flatMap((result, n) => {
    const error = unanswerable(result, terms.strictSchema);
    if (error !== null) throw error;
    const { candidates = [] } = result.answer;
    const echo = terms.echo === "" ? "" : terms.prompts[n] ?? "";
    return (candidates.length === 0 ? [{}] : candidates).map((candidate: Candidate) => ({
      text: echo + textIn(candidate),
      end: candidates.length > 1 ? endOf(candidate) : endOf(candidate, result),
    }));
  });
  const last = results.at(-1)!;
  const completion = {
    ...head(terms, last.model),
    choices: choices.map(({ text, end }, index) => choice(index, text, end)),
    usage: usageJson(sumOf(results.map(({ usage }) => usage))),
  };
  return jsonResponse(
    200,
    completion,
    terms.requestId,
    resultHeaders({ ...last, requestId: terms.requestId }),
  );
}

function sumOf(usages: readonly TokenUsage[]): TokenUsage {
  return usages.reduce((one, other) => ({
    inputTokens: one.inputTokens + other.inputTokens,
    outputTokens: sum(one.outputTokens, other.outputTokens),
    thoughtsTokens: sum(one.thoughtsTokens, other.thoughtsTokens),
    cachedTokens: sum(one.cachedTokens, other.cachedTokens),
    totalTokens: sum(one.totalTokens, other.totalTokens),
    estimated: one.estimated || other.estimated,
  }));
}

const sum = (one: number | null, other: number | null) =>
  one === null && other === null ? null : (one ?? 0) + (other ?? 0);

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
