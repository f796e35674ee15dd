import { bytesToHex } from "@noble/hashes/utils.js";
import { sha256Of } from "../runtime/sha256.ts";

/** What a consumer proves itself with: `eve_<kind>_<id>_<secret>`, its id 16 and its secret 64 hexadecimal digits. */
const CONSUMER_SECRET = /^eve_(service|notebook)_([0-9a-f]{16})_([0-9a-f]{64})$/;

const KEY_ID_BYTES = 8;
/** 256 random bits: they cannot be guessed, however fast they can be tried. */
const SECRET_BYTES = 32;

export type ConsumerKind = "service" | "notebook";

export interface ConsumerSecret {
  kind: ConsumerKind;
  /** By which the consumer is found; no secret. */
  keyId: string;
  /** Sent to the database in the secret's place: 64 hexadecimal digits. */
  proof: string;
}

/** Whether a credential claims to be a consumer's, well-formed or not. */
export function looksLikeConsumerSecret(credential: string): boolean {
  return /^eve_(service|notebook)_/.test(credential);
}

/** A new secret for a consumer. `text` is shown once and stored by its holder alone. */
export async function mintConsumerSecret(
  kind: ConsumerKind,
  keyId = randomHex(KEY_ID_BYTES),
): Promise<ConsumerSecret & { text: string }> {
  const secret = randomHex(SECRET_BYTES);
  return { kind, keyId, proof: await prove(keyId, secret), text: `eve_${kind}_${keyId}_${secret}` };
}

/** Reads a consumer's secret; null for a text of another form. */
export async function readConsumerSecret(text: string): Promise<ConsumerSecret | null> {
  const [, kind, keyId, secret] = CONSUMER_SECRET.exec(text) ?? [];
  if (kind === undefined || keyId === undefined || secret === undefined) return null;
  return { kind: kind as ConsumerKind, keyId, proof: await prove(keyId, secret) };
}

/**
 * SHA-256 over the id and the secret, so that the secret itself stays here: a database writes statements to its log. It is
 * fast on purpose. A slow hash protects what has few bits, a password; this has 256, and every call of a service pays.
 */
function prove(keyId: string, secret: string): Promise<string> {
  return sha256Of(`eve consumer secret v1:${keyId}:${secret}`);
}

function randomHex(bytes: number): string {
  return bytesToHex(crypto.getRandomValues(new Uint8Array(bytes)));
}
