import { fromBase64Url, toBase64Url } from "./base64url.ts";

/**
 * Fernet, version 0x80, by its specification (github.com/fernet/spec): AES-128-CBC and HMAC-SHA256 over
 * version ‖ timestamp ‖ IV ‖ ciphertext, in base64url with padding. WebCrypto does the cryptography.
 *
 * The one package on npm (`fernet`) brings an AES of its own out of a library that is not maintained any more, so
 * this is written here and tested with the published vectors and with Python's `cryptography` in both directions.
 */
export interface FernetKey {
  signing: CryptoKey;
  encryption: CryptoKey;
}

/** The token is not one, was altered, or is another key's. Which of them is not said, so that nobody can use the answer as an oracle. */
export class InvalidToken extends Error {
  constructor() {
    super("not a valid token of this key");
    this.name = "InvalidToken";
  }
}

export interface Mint {
  /** Milliseconds since 1970. */
  now: number;
  /** 16 bytes that no other token has. */
  iv: Uint8Array<ArrayBuffer>;
}

export interface Age {
  /** Milliseconds since 1970. */
  now: number;
  /** Seconds that a token is good for. */
  ttlSeconds: number;
}

const VERSION = 0x80;
const TIMESTAMP_AT = 1;
const IV_AT = 9;
const CIPHERTEXT_AT = 25;
const BLOCK = 16;
const MAC_BYTES = 32;
/** How far a token may come from the future, where its age matters: the specification's, and Python's. */
const MAX_CLOCK_SKEW_S = 60;

/**
 * A key out of its 32 bytes: 16 to sign, 16 to encrypt.
 * @throws RangeError for another length
 */
export async function importFernetKey(bytes: Uint8Array<ArrayBuffer>): Promise<FernetKey> {
  if (bytes.byteLength !== 32) throw new RangeError("a Fernet key has 32 bytes");
  const [signing, encryption] = await Promise.all([
    crypto.subtle.importKey("raw", bytes.slice(0, 16), { name: "HMAC", hash: "SHA-256" }, false, [
      "sign",
      "verify",
    ]),
    crypto.subtle.importKey("raw", bytes.slice(16), "AES-CBC", false, ["encrypt", "decrypt"]),
  ]);
  return { signing, encryption };
}

/** @param mint given by tests alone: an IV that is used twice shows that two messages begin alike */
export async function fernetEncrypt(
  key: FernetKey,
  message: Uint8Array<ArrayBuffer>,
  mint: Mint = { now: Date.now(), iv: crypto.getRandomValues(new Uint8Array(BLOCK)) },
): Promise<string> {
  const ciphertext = await crypto.subtle.encrypt({ name: "AES-CBC", iv: mint.iv }, key.encryption, message);
  const signed = new Uint8Array(CIPHERTEXT_AT + ciphertext.byteLength);
  signed[0] = VERSION;
  new DataView(signed.buffer).setBigUint64(TIMESTAMP_AT, BigInt(Math.floor(mint.now / 1000)));
  signed.set(mint.iv, IV_AT);
  signed.set(new Uint8Array(ciphertext), CIPHERTEXT_AT);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key.signing, signed));
  const token = new Uint8Array(signed.byteLength + MAC_BYTES);
  token.set(signed);
  token.set(mac, signed.byteLength);
  return toBase64Url(token);
}

/**
 * The message. The signature is verified before anything is decrypted.
 * @param age where given, a token that is older or comes from the future is refused
 * @throws InvalidToken
 */
export async function fernetDecrypt(
  key: FernetKey,
  text: string,
  age?: Age,
): Promise<Uint8Array<ArrayBuffer>> {
  const token = fromBase64Url(text);
  if (token === null || token.byteLength < CIPHERTEXT_AT + BLOCK + MAC_BYTES || token[0] !== VERSION) {
    throw new InvalidToken();
  }
  const signed = token.slice(0, -MAC_BYTES);
  const ciphertext = signed.slice(CIPHERTEXT_AT);
  if (age !== undefined && !isOfAge(signed, age)) throw new InvalidToken();
  // WebCrypto compares in constant time.
  if (!await crypto.subtle.verify("HMAC", key.signing, token.slice(-MAC_BYTES), signed)) {
    throw new InvalidToken();
  }
  if (ciphertext.byteLength % BLOCK !== 0) throw new InvalidToken();
  const iv = signed.slice(IV_AT, CIPHERTEXT_AT);
  try {
    return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-CBC", iv }, key.encryption, ciphertext));
  } catch {
    throw new InvalidToken();
  }
}

function isOfAge(signed: Uint8Array<ArrayBuffer>, { now, ttlSeconds }: Age): boolean {
  const made = Number(new DataView(signed.buffer).getBigUint64(TIMESTAMP_AT));
  const seconds = Math.floor(now / 1000);
  return made + ttlSeconds >= seconds && made <= seconds + MAX_CLOCK_SKEW_S;
}
