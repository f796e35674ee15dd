import type { Trace } from "../contract/trace.ts";

/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/#traceparent-header): version, trace, parent, flags, all lower case.
 * A later version may have more fields, and is read as far as it is known; version ff and ids of zeros are invalid.
 */
const TRACEPARENT =
  /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** The trace that a request belongs to, from its `traceparent` header; null if it has none or a malformed one. */
export function traceIdOf(request: Request): string | null {
  return received(request)?.traceId ?? null;
}

/** The gateway's part in the client's trace, or the beginning of one. */
export function traceOf(request: Request, newId: () => string = () => crypto.randomUUID()): Trace {
  const client = received(request);
  const spanId = newId().replaceAll("-", "").slice(-16);
  return client === null
    ? { traceId: newId().replaceAll("-", ""), spanId, parentSpanId: null }
    : { ...client, spanId };
}

function received(request: Request): { traceId: string; parentSpanId: string } | null {
  const header = request.headers.get("traceparent");
  if (header === null) return null;
  const [, version, traceId, parentSpanId, , rest] = TRACEPARENT.exec(header.trim()) ?? [];
  if (traceId === undefined || parentSpanId === undefined) return null;
  // Version 00 has these four fields and no more.
  return version === "00" && rest !== undefined ? null : { traceId, parentSpanId };
}

/** The header that tells the client which span was its request's (Trace Context, level 2). */
export function traceResponse({ traceId, spanId }: Trace): string {
  return `00-${traceId}-${spanId}-00`;
}
