import { bytesToHex } from "@noble/hashes/utils.js";

/** SHA-256 in 64 hexadecimal digits, by the runtime's own code. A text is taken as UTF-8. */
export async function sha256Of(data: string | Uint8Array<ArrayBuffer>): Promise<string> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  return bytesToHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}
