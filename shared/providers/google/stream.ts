import type { Prompt } from "../../contract/content.ts";
import { readEvents } from "../event_stream.ts";
import { judgedStream } from "../judged_answer.ts";
import type { ProviderChunk, ProviderEnd } from "../provider.ts";
import { answerIn } from "./answer_shape.ts";
import { diagnosed, errorIn } from "./failure.ts";
import { fetchGoogle, type GoogleDestination, methodPath } from "./fetch.ts";

/**
 * `streamGenerateContent` over the wire, read no faster than it is pulled. An error may come in mid-stream.
 */
export function streamFromGoogle(
  { model, prompt, ...to }: GoogleDestination & { model: string; prompt: Prompt },
): AsyncGenerator<ProviderChunk, ProviderEnd, void> {
  return judgedStream(to, {
    async open() {
      const path = methodPath(model, "streamGenerateContent?alt=sse");
      const { body } = await fetchGoogle({ ...to, path, body: prompt });
      // A missing body counts as one that ends at once.
      return readEvents(body ?? new Blob().stream());
    },
    answerIn(piece) {
      const chunk: unknown = JSON.parse(piece.text);
      const error = errorIn(chunk);
      if (error !== null) throw diagnosed(error, to.secret);
      if (piece.kind === "stray") throw new Error("the stream lost its framing");
      return answerIn(chunk);
    },
  });
}
