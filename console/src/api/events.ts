import { EventSourceParserStream } from "eventsource-parser/stream";
import type { StreamEvents } from "../../../shared/endpoints/native/stream_events.ts";

/** The events of llm-invoke's own stream; other names may be added, and are ignored. */
export type StreamEvent = {
  [Name in keyof StreamEvents]: { type: Name } & StreamEvents[Name];
}[keyof StreamEvents];

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
