import type { Answer } from "./content.ts";
import type { ErrorCode } from "./errors.ts";
import type { Limits } from "./limits.ts";
import type { TokenUsage } from "./usage.ts";

/**
 * Whether what came back can be called an answer. A safety block, an empty candidate and a broken tool call all arrive
 * with status 200; each endpoint says so in its clients' own way, and none reports them as a success.
 */
export type AnswerVerdict =
  | { ok: true }
  | {
    ok: false;
    code: Extract<
      ErrorCode,
      | "content_blocked"
      | "empty_answer"
      | "answer_unusable"
      | "answer_truncated"
      | "schema_mismatch"
      | "schema_too_complex"
    >;
    /** Upstream's own word: `SAFETY`, `PROHIBITED_CONTENT`, `MAX_TOKENS`, ...; or what breaks the schema, and where. */
    reason: string;
  };

/** How a request ended that reached a model. */
export interface GatewayResult {
  requestId: string;
  /** The model that served. */
  model: string;
  /** The model that was asked for (of a list: the one that was booked), before any successor took its place. */
  requestedModel: string;
  replaced: boolean;
  /** At the end of a stream: the deltas joined, without the parts if they are too much to keep. */
  answer: Answer;
  verdict: AnswerVerdict;
  finishReason: string | null;
  usage: TokenUsage;
  /** Tokens that the caller's budget left for the answer, where that was less than it might have had. Null or absent: it was not. */
  outputLoweredTo?: number | null;
  keyAlias: string;
  attempts: number;
  /** Milliseconds spent waiting for booked starts, over all attempts. */
  waitMs: number;
  /** Null on a replay: what was true then says nothing about now. */
  limits: Limits | null;
  /** True: this request id was answered before, and this is that answer. */
  replayed: boolean;
}
