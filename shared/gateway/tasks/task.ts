import type { Answer, Prompt } from "../../contract/content.ts";
import type { Asked } from "../../contract/request.ts";
import type { AnswerVerdict } from "../../contract/result.ts";
import type { TokenUsage } from "../../contract/usage.ts";
import type { Capability } from "../../contract/block.ts";
import type { Grant } from "../../database/admission/reserve.ts";
import type { Provider, ProviderSettings } from "../../providers/provider.ts";

/** What one call of a model brought. */
export interface Served<Value> {
  value: Value;
  verdict: AnswerVerdict;
  finishReason: string | null;
  usage: TokenUsage;
}

/** Where a call goes. */
export interface Destination {
  model: string;
  secret: string;
  /** What the key's provider needs beside it. Absent: as the environment says. */
  settings?: ProviderSettings;
  /** Ends the call. */
  signal: AbortSignal;
}

/** A piece for the client, with what the call has used so far, should it end here. */
export interface Delta {
  chunk: Answer;
  usageSoFar: () => TokenUsage;
}

/** Makes the call; what it emits goes to the client at once, and it waits until they want more. Throws as providers do. */
export type Call<Value> = (
  provider: Provider,
  to: Destination,
  emit: (delta: Delta) => Promise<void>,
) => Promise<Served<Value>>;

/** An attempt that upstream answered. */
export interface Ended<Value> {
  grant: Grant;
  served: Served<Value>;
  /** Milliseconds spent waiting for booked starts, over all attempts. */
  waitMs: number;
}

/**
 * What is asked of a model: the part of a request that differs between an answer, a stream, an embedding and a job. Its
 * attempts may change what a chat asks; the others ask once, and leave out what is about that.
 */
export interface Task<Value> {
  readonly asked: Asked;
  /** OpenTelemetry's `gen_ai.operation.name`. */
  readonly operation: "chat" | "embeddings" | "generate_content";
  /** Tells repetitions from other requests with the same id; null where ids are ours. */
  readonly hash: string | null;
  /** Estimated input tokens. */
  readonly tokens: number;
  /** What was asked, for capture. */
  readonly question: unknown;
  /** What a model answers in tokens, and upstream can be asked to count; absent: it writes none, and counts no such thing. */
  readonly prompt?: Prompt;
  /** In order of preference, without those that turned out to lack a feature; absent: all that are asked for. */
  readonly models?: string[];
  /**
   * The call, adapted to the model that was granted.
   * @throws GatewayError `unsupported_feature` where the model cannot do what is asked
   */
  prepare(grant: Grant): Call<Value>;
  /** After a model refused a feature: true if it is worth asking again, without the feature or without the model. */
  without?(capability: Capability, model: string): boolean;
  /** After an unusable answer: true if the task has changed its prompt so that asking again makes sense. */
  repair?(served: Served<Value>): boolean;
  /** What to store for a repetition of the request; null, or absent: nothing. */
  resultToStore?(ended: Ended<Value>): unknown;
}

/** The usage of a call that writes no tokens, where upstream reports none: what was booked. */
export function bookedUsage({ tokens }: Grant): TokenUsage {
  return {
    inputTokens: tokens,
    outputTokens: 0,
    thoughtsTokens: null,
    cachedTokens: null,
    totalTokens: tokens,
    estimated: true,
  };
}
