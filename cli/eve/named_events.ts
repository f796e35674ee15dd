/** Server-sent events with names (HTML Living Standard, 9.2), whose data is one JSON value each. */
import { EventSourceParserStream } from "eventsource-parser/stream";

export interface NamedEvent {
  event: string;
  data: Record<string, unknown>;
}

/** Events as they come. Leaving the iteration cancels the body. @throws SyntaxError for data that is not JSON */
export async function* namedEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<NamedEvent, void, void> {
  const texts = body as ReadableStream<Uint8Array<ArrayBuffer>>;
  const events = texts.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  for await (const { event = "message", data } of events) yield { event, data: JSON.parse(data) };
}
