import type { Prompt } from "../../contract/content.ts";
import { readEvents } from "../event_stream.ts";
import { AnswerSoFar, usageOf } from "../../contract/answer_verdict.ts";
import { answerIn } from "./answer_shape.ts";
import { diagnosed, errorIn } from "./failure.ts";
import { fetchGoogle, type GoogleDestination, methodPath } from "./fetch.ts";
import { type ProviderChunk, type ProviderEnd, ProviderFailure } from "../provider.ts";
import { connectionFailed } from "../upstream.ts";

/**
 * `streamGenerateContent` over the wire, read no faster than it is pulled. An error may come in mid-stream.
 */
export async function* streamFromGoogle(
  { model, prompt, ...to }: GoogleDestination & { model: string; prompt: Prompt },
): AsyncGenerator<ProviderChunk, ProviderEnd, void> {
  const { secret, signal } = to;
  const response = await fetchGoogle({
    ...to,
    path: methodPath(model, "streamGenerateContent?alt=sse"),
    body: prompt,
  });
  const soFar = new AnswerSoFar();
  try {
    // A missing body counts as one that ends at once.
    for await (const piece of readEvents(response.body ?? new Blob().stream())) {
      const chunk: unknown = JSON.parse(piece.text);
      const error = errorIn(chunk);
      if (error !== null) throw diagnosed(error, secret);
      if (piece.kind === "stray") throw new Error("the stream lost its framing");
      const answer = answerIn(chunk);
      soFar.add(answer);
      yield { answer, usage: usageOf(answer) };
    }
  } catch (thrown) {
    signal.throwIfAborted();
    throw thrown instanceof ProviderFailure ? thrown : connectionFailed(thrown, secret);
  }
  signal.throwIfAborted();
  // A connection that closes in an orderly way looks like the end; without a finish reason it is not.
  if (!soFar.ended) throw connectionFailed("the stream ended before the answer did", secret);
  return { verdict: soFar.verdict(), finishReason: soFar.finishReason, usage: soFar.usage };
}
