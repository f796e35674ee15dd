import { traceIdOf } from "../http/trace.ts";
import type { Door } from "./door.ts";
import { encodeNative, refuseNative } from "./native_answer.ts";
import { decodeNative } from "./native_request.ts";
import { streamNative } from "./native_stream.ts";

const METHODS = ["POST"] as const;

export interface NativeDoorOptions {
  /** The most that a caller may ask to wait. */
  maxWaitMs: number;
  /** Milliseconds since the epoch. */
  now?: () => number;
}

/** The gateway's own JSON, at the function's root: whole, or as a stream of events. */
export function nativeDoor({ maxWaitMs, now = Date.now }: NativeDoorOptions): Door {
  return {
    name: "native",
    methodsAt: (path) => path === "/" ? METHODS : null,
    async answer(visit) {
      const { request, stream } = decodeNative(await visit.readJson(), {
        newId: visit.requestId,
        traceId: traceIdOf(visit.request),
        maxWaitMs,
      });
      visit.adoptRequestId(request.id);
      if (stream) return await streamNative(visit.stream(request), { requestId: request.id, now });
      return encodeNative(await visit.invoke(request));
    },
    refuse: refuseNative,
  };
}
