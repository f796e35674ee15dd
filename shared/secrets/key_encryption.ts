import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { fernetDecrypt, fernetEncrypt, type FernetKey, importFernetKey, InvalidToken } from "./fernet.ts";

/** The Edge secret from which the keys of provider_configs are derived. */
export const ADMIN_SECRET_VARIABLE = "ADMIN_SECRET_KEY";

/**
 * HKDF-SHA256 (RFC 5869) makes a Fernet key of 32 bytes out of a secret's UTF-8. Other programs that read the same rows derive
 * it with these very values, so they never change.
 */
export const DERIVATION = { salt: "eve-gateway", info: "fernet:provider-keys:v1", bytes: 32 } as const;

/** 128 bits in base64 have 22 characters; a shorter one was typed by a person. */
const MIN_SECRET_CHARS = 22;

/** What a key was entered for: one kind of provider, and one origin for each setting that is an address. */
export interface KeyBinding {
  providerKind: string;
  /** Such as `{"base_url": "https://api.openai.com"}`. */
  origins: Readonly<Record<string, string>>;
}

export interface BoundKey {
  key: string;
  /** Null: nobody has said. */
  binding: KeyBinding | null;
}

/** Encrypts and decrypts what is stored in the database. */
export interface KeyEncryption {
  /** With the first secret. What a key is bound to is encrypted along with it, so that nobody who writes to the database can change it. */
  encrypt(text: string, binding?: KeyBinding): Promise<string>;
  /**
   * With any of the secrets; the key alone.
   * @throws GatewayError `gateway_misconfigured`: the token was made with a secret that is no longer there
   */
  decrypt(token: string): Promise<string>;
  /** The key and what it is bound to. @throws as `decrypt` */
  decryptBound(token: string): Promise<BoundKey>;
  /** The same content, encrypted with the first secret; null: it is already. @throws as `decrypt` */
  renew(token: string): Promise<string | null>;
}

/**
 * Encryption with ADMIN_SECRET_KEY: one secret, or several with commas between them. The first encrypts and all decrypt
 * (`MultiFernet` of Python's cryptography): rotate by putting a new one in front, encrypting everything again, and dropping
 * the old one.
 * @throws GatewayError `gateway_misconfigured`; it repeats nothing of the value
 */
export function createKeyEncryption(text: string | undefined): KeyEncryption {
  const secrets = (text ?? "").split(",").map((each) => each.trim()).filter((each) => each !== "");
  if (secrets.length === 0) {
    throw misconfigured(
      `${ADMIN_SECRET_VARIABLE} is not set, so keys of providers can be neither stored nor used. Set it as an Edge secret (openssl rand -base64 32).`,
    );
  }
  if (secrets.some((secret) => secret.length < MIN_SECRET_CHARS)) {
    throw misconfigured(
      `${ADMIN_SECRET_VARIABLE} must have at least ${MIN_SECRET_CHARS} characters, each secret of several too. Make one with openssl rand -base64 32.`,
    );
  }
  // Derived once, at the first use.
  let derived: Promise<FernetKey[]> | undefined;
  const keys = () => derived ??= Promise.all(secrets.map(deriveKey));

  /** The message, and which of the secrets it was encrypted with. */
  async function decryptAny(token: string): Promise<{ message: Uint8Array<ArrayBuffer>; place: number }> {
    for (const [place, key] of (await keys()).entries()) {
      try {
        return { message: await fernetDecrypt(key, token), place };
      } catch (thrown) {
        if (!(thrown instanceof InvalidToken)) throw thrown;
      }
    }
    throw misconfigured(
      `A key in the database was encrypted with another ${ADMIN_SECRET_VARIABLE}. Put the secret of that time behind the present one, with a comma between them, or enter the provider's key again.`,
    );
  }
  const first = async () => (await keys())[0]!;
  const decryptBound = async (token: string) =>
    boundKeyIn(new TextDecoder().decode((await decryptAny(token)).message));

  return {
    async encrypt(text, binding) {
      const message = binding === undefined ? text : `${text}\n${JSON.stringify(binding)}`;
      return await fernetEncrypt(await first(), new TextEncoder().encode(message));
    },
    decrypt: async (token) => (await decryptBound(token)).key,
    decryptBound,
    async renew(token) {
      const { message, place } = await decryptAny(token);
      return place === 0 ? null : await fernetEncrypt(await first(), message);
    },
  };
}

const keyBinding = z.object({ providerKind: z.string(), origins: z.record(z.string(), z.string()) });

/** The key, and in a line of its own below it what it is bound to. */
function boundKeyIn(message: string): BoundKey {
  const end = message.lastIndexOf("\n");
  const { data: binding } = keyBinding.safeParse(end < 0 ? null : parsedOrNull(message.slice(end + 1)));
  return binding === undefined ? { key: message, binding: null } : { key: message.slice(0, end), binding };
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function deriveKey(secret: string): Promise<FernetKey> {
  const utf8 = new TextEncoder();
  const material = await crypto.subtle.importKey("raw", utf8.encode(secret), "HKDF", false, ["deriveBits"]);
  const bits = await crypto.subtle.deriveBits(
    {
      name: "HKDF",
      hash: "SHA-256",
      salt: utf8.encode(DERIVATION.salt),
      info: utf8.encode(DERIVATION.info),
    },
    material,
    DERIVATION.bytes * 8,
  );
  return await importFernetKey(new Uint8Array(bits));
}

function misconfigured(message: string): GatewayError {
  return new GatewayError("gateway_misconfigured", { message, detail: message });
}
