import type { GatewayEvent } from "../contract/events.ts";
import { asGatewayError, type GatewayError } from "../contract/gateway_error.ts";
import { streamOf } from "../http/stream_of.ts";

/** Writes a call's events as one endpoint's clients read them. An empty text says nothing, and is not sent. */
export interface EventEncoder {
  /** @throws what ends the stream as an error */
  encode(event: GatewayEvent): string | Promise<string>;
  /** What follows the last event. @throws as encode */
  end(): string;
  /** The last thing sent of a stream that failed once it had begun. */
  failed(error: GatewayError): string;
}

/**
 * A call's events as the bytes of a response, each as soon as it is there.
 *
 * Resolves when there is something to say, so that what fails before it is thrown, and answered with a status of its own;
 * what fails later is the last frame. A client that leaves ends the call, and one that reads slowly slows it down.
 */
export async function eventFrames(
  events: AsyncIterable<GatewayEvent>,
  encoder: EventEncoder,
): Promise<ReadableStream<Uint8Array>> {
  const iterator = events[Symbol.asyncIterator]();
  const utf8 = new TextEncoder();
  let over = false;

  // No generator: its `return` would wait for what upstream is being asked for, and a delta would pass one more.
  return await streamOf<Uint8Array>({
    async next() {
      while (!over) {
        const step = await iterator.next();
        over = step.done === true;
        const frames = step.done ? encoder.end() : await encoder.encode(step.value);
        if (frames !== "") return { done: false, value: utf8.encode(frames) };
      }
      return { done: true, value: undefined };
    },
    async return() {
      await iterator.return?.();
      return { done: true, value: undefined };
    },
  }, (thrown) => utf8.encode(encoder.failed(asGatewayError(thrown))));
}
