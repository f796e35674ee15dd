/**
 * Short hashes: to name a key without showing it, and to make choices that look free but repeat.
 */

import { createHash } from "node:crypto";

function sha256(text: string): Uint8Array {
  return new Uint8Array(createHash("sha256").update(text).digest());
}

/** Twelve hex digits that stand for a key wherever the emulator reports what it saw. */
export function fingerprint(key: string): string {
  return sha256(key).slice(0, 6).reduce((hex, byte) => hex + byte.toString(16).padStart(2, "0"), "");
}

/** A whole number in `0 .. below - 1` that depends on nothing but the text. */
export function pick(text: string, below: number): number {
  const bytes = sha256(text);
  return ((bytes[0]! << 16) | (bytes[1]! << 8) | bytes[2]!) % below;
}

/** `length` letters of base64url that depend on nothing but the text. */
export function opaqueId(text: string, length: number): string {
  return btoa(String.fromCharCode(...sha256(text))).replaceAll("+", "-").replaceAll("/", "_").slice(
    0,
    length,
  );
}
