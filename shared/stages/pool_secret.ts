import { asGatewayError } from "../contract/gateway_error.ts";
import type { SecretSource } from "../contract/secret_source.ts";
import type { ResolveSecret } from "../runtime/secrets.ts";
import type { ResolveStoredKey, StoredKey } from "./stored_keys.ts";

/** Where the secrets of the pool's keys are. */
export interface SecretSources {
  /** The environment. */
  secrets: ResolveSecret;
  /** The database. Absent: it holds none. */
  storedKeys?: ResolveStoredKey;
}

/**
 * The secret of a key of the pool. Null: there is none, or none that can be read, since ADMIN_SECRET_KEY is missing or another one:
 * either way it is the key that cannot be used, and no fault of the caller's.
 * @param provider which of the gateway's providers it will be sent to
 * @throws GatewayError `database_unavailable` and the like
 */
export async function poolSecret(
  { kind, name }: SecretSource,
  provider: string,
  { secrets, storedKeys }: SecretSources,
): Promise<string | null> {
  if (kind === "environment") return secrets(name);
  // A stage's is no key of the pool.
  if (kind === "stage") return null;
  try {
    return (await storedKeys?.(name, { provider }))?.secret ?? null;
  } catch (thrown) {
    if (asGatewayError(thrown).code === "gateway_misconfigured") return null;
    throw thrown;
  }
}

/**
 * The secret of any key, and where it is a stage's, with the settings of its calls. Null: there is none.
 * @throws GatewayError `gateway_misconfigured` where a stage's cannot be read, `database_unavailable` and the like
 */
export async function secretOf(
  source: SecretSource,
  provider: string,
  sources: SecretSources,
): Promise<Pick<StoredKey, "secret"> & Partial<StoredKey> | null> {
  if (source.kind === "stage") return await sources.storedKeys?.(source.name, { provider }) ?? null;
  const secret = await poolSecret(source, provider, sources);
  return secret === null ? null : { secret };
}
