import { CORS_HEADERS } from "./cors.ts";

/** The headers of every answer to a call: readable from any origin, the request's id, never cached, since it answers one caller. */
export function answerHeaders(
  contentType: string,
  requestId: string,
  more: Record<string, string> = {},
): Record<string, string> {
  return {
    ...CORS_HEADERS,
    "content-type": contentType,
    "cache-control": "no-store",
    "x-eve-request-id": requestId,
    ...more,
  };
}

/** Says how long the answer could be at most, where the caller's budget allowed less than was asked for. */
export function outputLimitHeader(loweredTo: number | null | undefined): Record<string, string> {
  return loweredTo == null ? {} : { "x-eve-max-output-tokens": String(loweredTo) };
}
