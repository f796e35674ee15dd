/** The keys of a local project, made once per data folder and kept, so that clients go on working after a restart. */
import { base64url } from "jose";

export interface ProjectKeys {
  /** For browsers; has the rights of `anon`. */
  publishable: string;
  /** For servers; has the rights of `service_role`. */
  secret: string;
  /** Signs the sessions of `/auth/v1`. */
  jwtSecret: string;
  /** Signs the tokens of notebooks: 32 bytes in base64url. */
  tokenSigningKey: string;
  /** From it the key is derived that encrypts providers' keys. */
  adminSecretKey: string;
}

const FILE = "keys.json";
/** 192 random bits. */
const KEY_BYTES = 24;
/** What HS256 wants at least. */
const SIGNING_KEY_BYTES = 32;

/** Reads the folder's keys, or makes them. A file that was cut short by a crash is replaced. */
export async function projectKeys(dataDir: string): Promise<ProjectKeys> {
  const path = `${dataDir}/${FILE}`;
  const kept = parse(await Deno.readTextFile(path).catch(() => ""));
  if (kept?.adminSecretKey) return kept;
  // A folder of before there was the last of them keeps the others.
  const keys = kept ? { ...kept, adminSecretKey: random(SIGNING_KEY_BYTES) } : {
    publishable: `sb_publishable_${random()}`,
    secret: `sb_secret_${random()}`,
    jwtSecret: random() + random(),
    tokenSigningKey: random(SIGNING_KEY_BYTES),
    adminSecretKey: random(SIGNING_KEY_BYTES),
  };
  await Deno.writeTextFile(path, `${JSON.stringify(keys, undefined, 2)}\n`, { mode: 0o600 });
  return keys;
}

function parse(text: string): ProjectKeys | undefined {
  try {
    const keys = JSON.parse(text) as Partial<ProjectKeys>;
    const { publishable, secret, jwtSecret, tokenSigningKey, adminSecretKey = "" } = keys;
    return publishable && secret && jwtSecret && tokenSigningKey
      ? { publishable, secret, jwtSecret, tokenSigningKey, adminSecretKey }
      : undefined;
  } catch {
    return undefined;
  }
}

function random(bytes = KEY_BYTES): string {
  return base64url.encode(crypto.getRandomValues(new Uint8Array(bytes)));
}
