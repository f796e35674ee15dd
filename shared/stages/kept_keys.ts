import type { ProviderSettings } from "../providers/provider.ts";
import type { Stages } from "../ledger/stages.ts";
import type { Seal } from "../secrets/seal.ts";

/** A key with what its provider's calls need beside it. */
export interface KeptKey {
  secret: string;
  settings: ProviderSettings;
}

/** The key behind an `env_var_name` that is no variable but a stage's (`stage:POEM`); null: there is none. */
export type ResolveKeptKey = (name: string) => Promise<KeptKey | null>;

/** As many keys as stages could reasonably have; beyond that the oldest is forgotten. */
const MAX_OPENED = 64;

/**
 * Keys out of provider_configs. The row is read at every call, so that a key that a person has changed serves at once; what
 * was decrypted once is not decrypted again.
 * @throws GatewayError `gateway_misconfigured` where ADMIN_SECRET_KEY does not open it, `database_unavailable`
 */
export function keptKeys(stages: Pick<Stages, "credential">, seal: () => Seal): ResolveKeptKey {
  const opened = new Map<string, string>();
  return async (name) => {
    const kept = await stages.credential(name);
    if (kept === null || kept.api_key_encrypted === null) return null;
    const token = kept.api_key_encrypted;
    let secret = opened.get(token);
    if (secret === undefined) {
      secret = await seal().open(token);
      const [oldest] = opened.keys();
      if (opened.size >= MAX_OPENED && oldest !== undefined) opened.delete(oldest);
      opened.set(token, secret);
    }
    return { secret, settings: kept.settings };
  };
}
