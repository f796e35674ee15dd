import { EventSourceParserStream } from "eventsource-parser/stream";

interface Usage {
  input_tokens: number | null;
  output_tokens: number | null;
}

/** The events of llm-invoke's own stream; other names may be added, and clients ignore those that they do not know. */
export type StreamEvent =
  | { type: "queued"; wait_ms: number; expected_start: string }
  | { type: "started"; model: string }
  | { type: "delta"; text: string }
  | ({ type: "usage" } & Usage)
  | { type: "done"; model: string; attempts: number }
  | { type: "error"; code: string; message: string };

/** The events of a response as they arrive; leaving the loop ends the call. */
export async function* readEvents(response: Response): AsyncGenerator<StreamEvent> {
  if (!response.body) return;
  const frames = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(
    new EventSourceParserStream(),
  );
  const reader = frames.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield { ...JSON.parse(value.data), type: value.event } as StreamEvent;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
