import { secretSourceOf } from "../contract/secret_source.ts";
import type { Reading } from "../database/reading.ts";
import { factsOfKey } from "../secrets/key_facts.ts";
import { poolSecret, type SecretSources } from "./pool_secret.ts";

/** The pool's keys and their secrets. */
export interface Pool extends SecretSources {
  reading: Pick<Reading, "keys">;
}

/** A secret of the pool that upstream can be asked with; null: none is on, or none is set. */
export async function poolSecretOf(pool: Pool, provider: string): Promise<string | null> {
  for (const key of await pool.reading.keys()) {
    if (key.provider !== provider || key.state !== "on" || key.env_var_name === null) continue;
    const secret = await poolSecret(secretSourceOf(key.env_var_name), provider, pool);
    if (secret !== null) return secret;
  }
  return null;
}

/**
 * The quota project of the pool's key that is the same as this one, so that the provider's limits are counted once for both;
 * null: the pool does not have it.
 */
export async function quotaProjectOf(
  pool: Pool,
  provider: string,
  fingerprint: string,
): Promise<string | null> {
  for (const key of await pool.reading.keys()) {
    if (key.provider !== provider || key.env_var_name === null) continue;
    const secret = await poolSecret(secretSourceOf(key.env_var_name), provider, pool);
    if (secret !== null && (await factsOfKey(secret)).fingerprint === fingerprint) return key.quota_key;
  }
  return null;
}
