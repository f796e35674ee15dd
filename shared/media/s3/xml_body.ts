import { md5Of, sha256Of } from "../hash.ts";
import type { S3Request } from "./transport.ts";
import { toBase64 } from "../../runtime/base64.ts";

/** A body of XML with the checksums that stores ask for: S3 takes some operations with `Content-MD5` only. */
export async function xmlBody(
  body: Uint8Array<ArrayBuffer>,
): Promise<Required<Pick<S3Request, "body" | "sha256" | "headers">>> {
  const sha256 = await sha256Of(body);
  const digest = toBase64(md5Of(body));
  return { body, sha256, headers: { "content-type": "application/xml", "content-md5": digest } };
}
