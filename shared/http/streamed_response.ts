import { answerHeaders } from "./answer_headers.ts";

/** Server-sent events, with the character set that they always have, for clients that look for one. */
export const EVENT_STREAM = "text/event-stream; charset=utf-8";

/** A response that comes piece by piece. */
export function streamedResponse(
  body: ReadableStream<Uint8Array>,
  contentType: string,
  requestId: string,
  headers: Record<string, string> = {},
): Response {
  return new Response(body, { status: 200, headers: answerHeaders(contentType, requestId, headers) });
}
