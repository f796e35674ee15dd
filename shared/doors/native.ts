import { traceIdOf } from "../http/trace.ts";
import type { Door } from "./door.ts";
import { encodeNative, refuseNative } from "./native_answer.ts";
import { decodeNative } from "./native_request.ts";

const METHODS = ["POST"] as const;

/** The gateway's own JSON, at the function's root. @param maxWaitMs the most that a caller may ask to wait */
export function nativeDoor({ maxWaitMs }: { maxWaitMs: number }): Door {
  return {
    name: "native",
    methodsAt: (path) => path === "/" ? METHODS : null,
    async answer(visit) {
      const request = decodeNative(await visit.readJson(), {
        newId: visit.requestId,
        traceId: traceIdOf(visit.request),
        maxWaitMs,
      });
      visit.adoptRequestId(request.id);
      return encodeNative(await visit.invoke(request));
    },
    refuse: refuseNative,
  };
}
