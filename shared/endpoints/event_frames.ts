import type { GatewayEvent } from "../contract/events.ts";
import { asGatewayError, type GatewayError } from "../contract/gateway_error.ts";

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
  const bytes = new TextEncoder();
  let over = false;

  /** Null: there is nothing more. */
  async function next(): Promise<string | null> {
    while (!over) {
      const step = await iterator.next();
      over = step.done === true;
      const frames = step.done ? encoder.end() : await encoder.encode(step.value);
      if (frames !== "") return frames;
    }
    return null;
  }

  let first = await next();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const frames = first ?? await next();
        first = null;
        if (frames === null) return controller.close();
        controller.enqueue(bytes.encode(frames));
      } catch (thrown) {
        controller.enqueue(bytes.encode(encoder.failed(asGatewayError(thrown))));
        controller.close();
      }
    },
    async cancel() {
      await iterator.return?.();
    },
  }, { highWaterMark: 0 });
}
