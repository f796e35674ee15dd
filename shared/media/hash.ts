import { md5 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

export { sha256Of } from "../runtime/sha256.ts";

/** SHA-256 of bytes as they come, which the runtime cannot do: some 20 times slower than `sha256Of`. */
export function sha256Stream(): { update(piece: Uint8Array): void; digest(): string } {
  const hash = sha256.create();
  return { update: (piece) => void hash.update(piece), digest: () => bytesToHex(hash.digest()) };
}

/** MD5, which proves nothing against anybody: stores ask for it as a checksum, and give it as an `ETag`. */
export function md5Of(bytes: Uint8Array): Uint8Array {
  return md5(bytes);
}
