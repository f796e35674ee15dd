import { answerHeaders } from "./answer_headers.ts";

/** A JSON response that carries the request's id and may be read from any origin. Never cached: it answers one caller. */
export function jsonResponse(
  status: number,
  body: unknown,
  requestId: string,
  headers: Record<string, string> = {},
): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: answerHeaders("application/json; charset=utf-8", requestId, headers),
  });
}
