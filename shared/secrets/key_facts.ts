import { bytesToHex } from "@noble/hashes/utils.js";
import { sha256Of } from "../runtime/sha256.ts";

/** What is stored and shown of a key, which itself is never shown. */
export interface KeyFacts {
  /** The first 32 hexadecimal digits of its SHA-256: tells keys apart, and says nothing about a key that was made at random. */
  fingerprint: string;
  /** Of a key of eight characters or fewer, none: there is nothing to spare. */
  lastFour: string;
}

export async function factsOfKey(key: string): Promise<KeyFacts> {
  return { fingerprint: (await sha256Of(key)).slice(0, 32), lastFour: key.length > 8 ? key.slice(-4) : "" };
}

const utf8 = new TextEncoder();

/**
 * Recognises a key's secret without storing it: HMAC-SHA-256 under the key's id, in hexadecimal. Two keys with the same
 * secret have different hashes. It is not reversible for what a provider makes as a key, which is random; a reader of
 * the hash can check whether a guess is right, as they could by asking the provider.
 */
export async function secretHash(keyId: string, secret: string): Promise<string> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", utf8.encode(keyId), algorithm, false, ["sign"]);
  return bytesToHex(new Uint8Array(await crypto.subtle.sign(algorithm.name, key, utf8.encode(secret))));
}
