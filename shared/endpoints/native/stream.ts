import { partsOf, textOf } from "../../contract/content.ts";
import type { GatewayEvent } from "../../contract/events.ts";
import type { GatewayResult } from "../../contract/result.ts";
import { errorJson } from "../../http/error_json.ts";
import { EVENT_STREAM, streamedResponse } from "../../http/streamed_response.ts";
import { eventFrames } from "../event_frames.ts";
import type { StreamEvents } from "./stream_events.ts";
import { limitsJson, resultFields, usageJson, verdictError } from "./answer.ts";

export interface NativeStreamOptions {
  requestId: string;
  /** Milliseconds since the epoch: for the time at which a queued client can expect its start. */
  now: () => number;
  /** Where the question and the answer stand; absent: in no chat. */
  chat?: StreamEvents["chat"];
}

/**
 * A call as server-sent events with names: `queued`, `started`, `delta`, then `usage` and `done`, or `error`.
 *
 * The response begins with the first `queued` or `delta`. What fails before it is thrown, and answered with its own status;
 * what fails later is the `error` event that ends the stream. A client that leaves ends the call, and one that reads
 * slowly slows it down.
 */
export async function streamNative(
  events: AsyncIterable<GatewayEvent>,
  options: NativeStreamOptions,
): Promise<Response> {
  let begun = false;
  /** What was said before the stream has begun. */
  let held = options.chat === undefined ? "" : frame("chat", options.chat);
  const body = await eventFrames(events, {
    encode(event) {
      const frames = held + framesOf(event, options);
      begun ||= event.type !== "started";
      held = begun ? "" : frames;
      return begun ? frames : "";
    },
    end: () => held,
    failed: (error) => frame("error", errorJson(error, options.requestId)),
  });
  return streamedResponse(body, EVENT_STREAM, options.requestId);
}

function framesOf(event: GatewayEvent, { requestId, now }: NativeStreamOptions): string {
  switch (event.type) {
    case "queued":
      return frame("queued", {
        attempt: event.attempt,
        model: event.model,
        wait_ms: event.waitMs,
        expected_start: new Date(now() + event.waitMs).toISOString(),
      });
    case "started":
      return frame("started", {
        attempt: event.attempt,
        model: event.model,
        key_alias: event.keyAlias,
        ...(event.outputLoweredTo != null && { max_output_tokens: event.outputLoweredTo }),
        limits: event.limits === null ? null : limitsJson(event.limits),
      });
    case "delta": {
      const parts = partsOf(event.chunk);
      // The last chunks often carry figures alone.
      return parts.length === 0 ? "" : frame("delta", { text: textOf(event.chunk), parts });
    }
    case "done":
      return frame("usage", usageJson(event.result.usage)) + endOf(event.result, requestId);
  }
}

function endOf(result: GatewayResult, requestId: string): string {
  const error = verdictError(result);
  if (error !== null) return frame("error", errorJson(error, requestId));
  return frame("done", {
    request_id: result.requestId,
    ...resultFields(result),
    limits: result.limits === null ? null : limitsJson(result.limits),
    replayed: result.replayed,
  });
}

function frame<Name extends keyof StreamEvents>(event: Name, data: StreamEvents[Name]): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
