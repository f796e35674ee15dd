const utf8 = new TextEncoder();

/**
 * Recognises a key's secret without storing it: HMAC-SHA-256 under the key's id, in hexadecimal. Two keys with the same
 * secret have different hashes. It is not reversible for what a provider makes as a key, which is random; a reader of
 * the hash can check whether a guess is right, as they could by asking the provider.
 */
export async function secretHash(keyId: string, secret: string): Promise<string> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", utf8.encode(keyId), algorithm, false, ["sign"]);
  const digest = new Uint8Array(await crypto.subtle.sign(algorithm.name, key, utf8.encode(secret)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
