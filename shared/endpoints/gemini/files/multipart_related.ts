import { invalidRequest } from "../../validated.ts";

/** A body of two parts (RFC 2387): what is said of a file, and the file. */
export interface MultipartUpload {
  json: unknown;
  mimeType: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** The boundary itself may have 70 characters (RFC 2046). */
const BOUNDARY = /^multipart\/related\b.*;\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i;
/** Of a part: its type, and little else. */
const MAX_HEAD_BYTES = 8_192;

/** @throws GatewayError `invalid_request` */
export function multipartRelated(
  contentType: string,
  body: Uint8Array<ArrayBuffer>,
): MultipartUpload {
  const [, quoted, plain] = BOUNDARY.exec(contentType) ?? [];
  const boundary = quoted ?? plain;
  if (boundary === undefined) throw broken("content-type must be multipart/related, with a boundary");
  const first = partAfter(body, 0, boundary);
  const second = first && partAfter(body, first.end, boundary);
  if (first === null || second === null) {
    throw broken("must have two parts: the file's metadata as JSON, and the file");
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(first.content));
  } catch {
    throw broken("must begin with a part of JSON");
  }
  return { json, mimeType: second.type, bytes: second.content };
}

/** The part behind the next boundary; `end`: where the boundary after it begins. Null: there is none, or it has no end. */
function partAfter(body: Uint8Array<ArrayBuffer>, from: number, boundary: string) {
  const mark = indexOf(body, `--${boundary}`, from);
  const headEnd = mark < 0 ? -1 : indexOf(body, "\r\n\r\n", mark);
  if (headEnd < 0 || headEnd - mark > MAX_HEAD_BYTES) return null;
  const end = indexOf(body, `\r\n--${boundary}`, headEnd + 2);
  if (end < 0) return null;
  const head = new TextDecoder().decode(body.subarray(mark, headEnd));
  const type = /^content-type:\s*(.+?)\s*$/im.exec(head)?.[1] ?? "";
  return { type, content: body.subarray(Math.min(headEnd + 4, end), end), end };
}

/** Where an ASCII text is in bytes, from `from` on; -1: nowhere. */
function indexOf(bytes: Uint8Array, text: string, from: number): number {
  const wanted = new TextEncoder().encode(text);
  for (let at = bytes.indexOf(wanted[0]!, from); at >= 0; at = bytes.indexOf(wanted[0]!, at + 1)) {
    if (wanted.every((byte, n) => bytes[at + n] === byte)) return at;
  }
  return -1;
}

function broken(problem: string) {
  return invalidRequest([{ field: "body", problem }]);
}
