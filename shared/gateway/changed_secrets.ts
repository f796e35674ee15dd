import type { Clock } from "../runtime/clock.ts";
import { asGatewayError } from "../contract/gateway_error.ts";
import type { Log } from "../runtime/log.ts";
import type { KeySecrets } from "../database/maintenance/key_secrets.ts";
import type { Ledger } from "../database/admission/ledger.ts";
import { secretHash } from "../secrets/key_facts.ts";
import type { ResolveSecret } from "../runtime/secrets.ts";

/** One instance asks at most once in this time: requests without a key may come by the hundred, and its own secrets never change. */
const CHECK_EVERY_MS = 5_000;

/**
 * Enables keys again whose secret is now another than those that upstream has rejected.
 * @returns their aliases
 */
export async function useChangedSecrets(keys: KeySecrets, secrets: ResolveSecret): Promise<string[]> {
  const used: string[] = [];
  for (const { id, alias, envVarName, rejected } of await keys.awaiting()) {
    const secret = secrets(envVarName);
    if (secret === null) continue;
    const hash = await secretHash(id, secret);
    if (!rejected.includes(hash) && await keys.changed(id, hash)) used.push(alias);
  }
  return used;
}

interface Parts {
  keys: KeySecrets;
  secrets: ResolveSecret;
  clock: Pick<Clock, "now">;
  log: Log;
}

/** The same ledger, but a reservation that is refused for lack of a key is tried once more if a key has another secret by now. */
export function usingChangedSecrets(ledger: Ledger, { keys, secrets, clock, log }: Parts): Ledger {
  let checkedAt = -Infinity;
  let checking: Promise<boolean> | null = null;

  async function check(): Promise<boolean> {
    try {
      const used = await useChangedSecrets(keys, secrets);
      for (const key of used) log("info", "key_secret_changed", { key });
      return used.length > 0;
    } catch (thrown) {
      const { code, detail } = asGatewayError(thrown);
      log("warn", "key_secrets_unread", { code, detail });
      return false;
    } finally {
      checking = null;
    }
  }

  /** Whether a key can be used again. Requests that come at the same time share one check. */
  function hasChanged(): Promise<boolean> {
    if (checking !== null) return checking;
    if (clock.now() - checkedAt < CHECK_EVERY_MS) return Promise.resolve(false);
    checkedAt = clock.now();
    return checking = check();
  }

  return {
    ...ledger,
    async reserve(input, withinMs) {
      const since = clock.now();
      const first = await ledger.reserve(input, withinMs);
      if (first.status !== "refused" || first.code !== "no_active_key" || !await hasChanged()) return first;
      if (withinMs === undefined) return ledger.reserve(input);
      const left = withinMs - (clock.now() - since);
      return left > 0 ? ledger.reserve(input, left) : first;
    },
  };
}
