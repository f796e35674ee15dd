/**
 * Short hashes: to name a key without showing it, and to make choices that look free but repeat.
 */

import { sha256 as sha256OfBytes } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { base64url } from "jose";

/** At once, where the runtime's own would have to be waited for: the texts are short. */
const sha256 = (text: string) => sha256OfBytes(new TextEncoder().encode(text));

/** Twelve hex digits that stand for a key wherever the emulator reports what it saw. */
export function fingerprint(key: string): string {
  return bytesToHex(sha256(key).slice(0, 6));
}

/** A whole number in `0 .. below - 1` that depends on nothing but the text. */
export function pick(text: string, below: number): number {
  const bytes = sha256(text);
  return ((bytes[0]! << 16) | (bytes[1]! << 8) | bytes[2]!) % below;
}

/** `length` letters of base64url that depend on nothing but the text. */
export function opaqueId(text: string, length: number): string {
  return base64url.encode(sha256(text)).slice(0, length);
}
