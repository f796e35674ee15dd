import type { GatewayRequest } from "../../contract/request.ts";
import { sha256Of } from "../../runtime/sha256.ts";

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
  const hex = (await sha256Of(requestId)).slice(0, DIGEST_CHARS);
  return `${requestId.slice(0, MAX_REQUEST_ID_CHARS - end.length - DIGEST_CHARS - 1)}~${hex}${end}`;
}

/** SHA-256 of what a request asks for, in hexadecimal: equal for repetitions, different for another prompt or model. */
export function requestHash(request: GatewayRequest): Promise<string> {
  return sha256Of(JSON.stringify([request.models, request.prompt]));
}
