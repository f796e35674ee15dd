import { AnswerSoFar, finishReasonOf, judgeAnswer, usageOf } from "../contract/answer_verdict.ts";
import type { Answer } from "../contract/content.ts";
import { type ProviderAnswer, type ProviderChunk, type ProviderEnd, ProviderFailure } from "./provider.ts";
import { connectionFailed } from "./upstream.ts";

/** A whole answer, with what it amounts to. */
export function judgedAnswer(answer: Answer): ProviderAnswer {
  return {
    answer,
    verdict: judgeAnswer(answer),
    finishReason: finishReasonOf(answer),
    usage: usageOf(answer),
  };
}

/** How an upstream streams an answer. */
export interface AnswerStream<Piece> {
  /** Makes the call. */
  open(): Promise<AsyncIterable<Piece>>;
  /** What is new in a piece; null: the stream is over. What it throws ends the stream as a failure of the connection. */
  answerIn(piece: Piece): Answer | null;
  /** Whether a piece is of interest to the client. Absent: every one is. */
  says?(answer: Answer): boolean;
}

/**
 * A streamed answer, read no faster than it is pulled, with what it amounts to at its end.
 *
 * A connection that closes in an orderly way looks like the end of the answer; without a finish reason it is not.
 * @throws ProviderFailure, and the signal's reason when it aborts
 */
export async function* judgedStream<Piece>(
  { secret, signal }: { secret: string; signal: AbortSignal },
  stream: AnswerStream<Piece>,
): AsyncGenerator<ProviderChunk, ProviderEnd, void> {
  const pieces = await stream.open();
  const soFar = new AnswerSoFar();
  try {
    for await (const piece of pieces) {
      const answer = stream.answerIn(piece);
      if (answer === null) break;
      soFar.add(answer);
      if (stream.says?.(answer) ?? true) yield { answer, usage: usageOf(answer) };
    }
  } catch (thrown) {
    signal.throwIfAborted();
    throw thrown instanceof ProviderFailure ? thrown : connectionFailed(thrown, secret);
  }
  signal.throwIfAborted();
  if (!soFar.ended) throw connectionFailed("the stream ended before the answer did", secret);
  return { verdict: soFar.verdict(), finishReason: soFar.finishReason, usage: soFar.usage };
}
