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

/** What is asked of a model: the part of a request that differs between an answer, a stream and an embedding. */
export interface Task<Value> {
  readonly asked: Asked;
  /** OpenTelemetry's `gen_ai.operation.name`. */
  readonly operation: "chat" | "embeddings" | "generate_content";
  /** In order of preference, without those that turned out to lack a feature. */
  models(): string[];
  /** Estimated input tokens. */
  tokens(): number;
  /** The most that the model may write, in tokens; null: the caller leaves it to the model; 0: it writes nothing. */
  maxOutput(): number | null;
  /** What the answer is lowered to by the budget that the grant came from; null: it is not. */
  outputLoweredTo(grant: Grant): number | null;
  /** What upstream can be asked to count; null: it counts no such thing. */
  countable(): Prompt | null;
  /** Tells repetitions from other requests with the same id; null where ids are ours. */
  readonly hash: string | null;
  /**
   * The call, adapted to the model that was granted.
   * @throws GatewayError `unsupported_feature` where the model cannot do what is asked
   */
  prepare(grant: Grant): Call<Value>;
  /** After a model refused a feature: true if it is worth asking again, without the feature or without the model. */
  without(capability: Capability, model: string): boolean;
  /** After an unusable answer: true if the task has changed its prompt so that asking again makes sense. */
  repair(served: Served<Value>): boolean;
  /** What to store for a repetition of the request; null: nothing. */
  resultToStore(ended: Ended<Value>): unknown;
  /** What was asked, for capture. */
  question(): unknown;
}
