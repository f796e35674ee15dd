import type { GatewayRequest } from "../../contract/request.ts";

/** The longest request id that the database takes. */
export const MAX_REQUEST_ID_CHARS = 200;
/** Of the digest of an id that is too long to be kept whole: enough to tell any two apart. */
const DIGEST_CHARS = 32;

/**
 * The id of one text of a request that has several: the request's own and the text's number. Where that is too long, the
 * request's id is cut and its digest stands for the rest; a repeated request comes to the same ids.
 */
export async function itemId(requestId: string, number: number): Promise<string> {
  const end = `.${number}`;
  if (requestId.length + end.length <= MAX_REQUEST_ID_CHARS) return requestId + end;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(requestId)));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("").slice(
    0,
    DIGEST_CHARS,
  );
  return `${requestId.slice(0, MAX_REQUEST_ID_CHARS - end.length - DIGEST_CHARS - 1)}~${hex}${end}`;
}

/** SHA-256 of what a request asks for, in hexadecimal: equal for repetitions, different for another prompt or model. */
export async function requestHash(request: GatewayRequest): Promise<string> {
  const asked = new TextEncoder().encode(JSON.stringify([request.models, request.prompt]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", asked));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
