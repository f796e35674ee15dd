// Pinned: the packages below ask for ranges of these, and the bundler of a function takes what is loaded already.
import "@stablelib/base64";
import "fast-sha256";
import { Webhook } from "standardwebhooks";
import { fromBase64, toBase64 } from "../../runtime/base64.ts";

/** What Standard Webhooks recommends: 24 to 64 bytes at random. */
const SECRET_BYTES = 32;
const MIN_SECRET_BYTES = 24;
const MAX_SECRET_BYTES = 64;

/** A new secret: `whsec_` and base64. */
export function mintWebhookSecret(
  randomBytes: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array = (bytes) => crypto.getRandomValues(bytes),
): string {
  return `whsec_${toBase64(randomBytes(new Uint8Array(SECRET_BYTES)))}`;
}

/** Whether a text is a secret as Standard Webhooks has them: `whsec_` and the base64 of 24 to 64 bytes. */
export function isWebhookSecret(text: string): boolean {
  const encoded = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text)?.[1];
  if (encoded === undefined || encoded.length % 4 !== 0) return false;
  const { byteLength } = fromBase64(encoded);
  return byteLength >= MIN_SECRET_BYTES && byteLength <= MAX_SECRET_BYTES;
}

/** The bytes of a secret; base64 after `whsec_`, where it is base64, and any other text as it is. */
export function keyBytes(secret: string): Uint8Array<ArrayBuffer> {
  const encoded = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret)?.[1];
  if (encoded === undefined) return new TextEncoder().encode(secret);
  try {
    return fromBase64(encoded);
  } catch {
    return new TextEncoder().encode(secret);
  }
}

/**
 * The headers of a message: `webhook-id`, `webhook-timestamp`, and `webhook-signature` with a signature for each secret, of which a
 * receiver needs to know one (https://www.standardwebhooks.com). Without secrets there is no signature.
 * @param id the same at every try
 * @param nowMs of this try, since 1970: receivers refuse what is older than five minutes
 */
export function signedHeaders(
  secrets: readonly string[],
  { id, nowMs, body }: { id: string; nowMs: number; body: string },
): Record<string, string> {
  const signatures = secrets.map((secret) =>
    new Webhook(keyBytes(secret), { format: "raw" }).sign(id, new Date(nowMs), body)
  );
  return {
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(nowMs / 1000)),
    ...(signatures.length > 0 && { "webhook-signature": signatures.join(" ") }),
  };
}
