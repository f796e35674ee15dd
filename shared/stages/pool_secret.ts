import { asGatewayError } from "../contract/gateway_error.ts";
import type { ResolveSecret } from "../runtime/secrets.ts";
import type { ResolveStoredKey } from "./stored_keys.ts";
import { isStoredKeyName } from "./stored_key_name.ts";

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
  envVarName: string,
  provider: string,
  { secrets, storedKeys }: SecretSources,
): Promise<string | null> {
  if (!isStoredKeyName(envVarName)) return secrets(envVarName);
  try {
    return (await storedKeys?.(envVarName, { provider }))?.secret ?? null;
  } catch (thrown) {
    if (asGatewayError(thrown).code === "gateway_misconfigured") return null;
    throw thrown;
  }
}
