import { joinBytes } from "../runtime/join_bytes.ts";

export class BodyTooLong extends Error {
  constructor(maxBytes: number) {
    super(`a body of more than ${maxBytes} bytes`);
  }
}

/**
 * A response's body, at most `maxBytes` of it: what is counted is what arrives, unpacked. Of one that is longer, or says that it is,
 * no more is read.
 * @throws BodyTooLong, and what the body's reader throws
 */
export async function bytesOf(response: Response, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const announced = announcedBytes(response);
  if (announced !== null && announced > maxBytes) {
    response.body?.cancel().catch(() => {});
    throw new BodyTooLong(maxBytes);
  }
  // Of a body of known length no more is handed out, and in one piece it costs a third.
  if (announced !== null) return new Uint8Array(await response.arrayBuffer());
  const pieces: Uint8Array[] = [];
  let length = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const { done, value } = await reader?.read() ?? { done: true };
    if (done) break;
    length += value.byteLength;
    if (length > maxBytes) {
      reader?.cancel().catch(() => {});
      throw new BodyTooLong(maxBytes);
    }
    pieces.push(value);
  }
  return joinBytes(pieces);
}

/** Null: unknown, as it is of a body that is unpacked on its way. */
function announcedBytes({ headers }: Response): number | null {
  const length = headers.get("content-length");
  const delimited = length !== null && !headers.has("content-encoding") && !headers.has("transfer-encoding");
  return delimited && /^\d{1,15}$/.test(length) ? Number(length) : null;
}
