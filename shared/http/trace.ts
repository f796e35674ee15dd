/** W3C Trace Context, version 00: `00-<32 hex trace id>-<16 hex span id>-<2 hex flags>`. */
const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;
const NO_TRACE = "0".repeat(32);

/** The trace that a request belongs to, from its `traceparent` header; null if it has none or a malformed one. */
export function traceIdOf(request: Request): string | null {
  const traceId = TRACEPARENT.exec(request.headers.get("traceparent") ?? "")?.[1];
  return traceId === undefined || traceId === NO_TRACE ? null : traceId;
}
