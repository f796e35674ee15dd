import {
  createMaintenanceLedger,
  type KeyToCheck,
  type KeyVerdict,
} from "../database/maintenance/maintenance.ts";
import type { KeyInspector } from "../providers/key_inspector.ts";
import { ProviderFailure } from "../providers/provider.ts";
import { secretHash } from "../secrets/key_facts.ts";
import { poolSecret } from "../stages/pool_secret.ts";
import type { Operation, OperationContext } from "./operation.ts";
import { overKeys } from "./over_keys.ts";

/**
 * Asks upstream about every key. One that upstream rejects is switched off, one whose secret is not set is marked; one that
 * was off for a reason that has passed, or whose secret is another one than upstream rejected, comes back. The database decides which reasons may pass.
 */
export const keyHealth: Operation = {
  name: "key_health",
  async run(context) {
    const ledger = createMaintenanceLedger(context.call);
    const found: Record<string, string> = {};
    const changed: Record<string, string> = {};
    const more = await overKeys(await ledger.keysToCheck(), context, async (key, signal) => {
      const verdict = await check(key, context, signal);
      if (verdict === null) return;
      found[key.alias] = verdict.reason ?? verdict.outcome;
      const change = await ledger.keyChecked(verdict);
      if (change !== "none") {
        changed[key.alias] = change;
        context.log(change === "enabled" ? "info" : "warn", "key_health_changed", {
          key: key.alias,
          change,
          reason: verdict.reason,
        });
      }
    });
    const count = Object.keys(changed).length;
    return {
      tables: ["eve.key_checks", ...(count > 0 ? ["public.google_ai_api_keys"] : [])],
      count,
      details: { keys: found, changed },
      more,
    };
  },
};

/** Null: it is not worth asking. */
async function check(
  key: KeyToCheck,
  context: OperationContext,
  signal: AbortSignal,
): Promise<KeyVerdict | null> {
  let hash: string | null = null;
  const verdict = (
    outcome: KeyVerdict["outcome"],
    reason: string | null = null,
    detail: string | null = null,
  ) => ({
    keyId: key.id,
    outcome,
    reason,
    detail,
    secretHash: hash,
  });
  const inspector: KeyInspector | undefined = context.providers[key.provider];
  if (inspector === undefined) return verdict("unclear", "provider_unknown");
  const secret = key.source === null ? null : await poolSecret(key.source, key.provider, context);
  if (secret === null) return key.unless === null ? verdict("secret_missing", "secret_missing") : null;
  hash = await secretHash(key.id, secret);
  if (key.unless?.includes(hash)) return null;
  try {
    await inspector.checkKey({ secret, signal });
    return verdict("works");
  } catch (thrown) {
    if (!(thrown instanceof ProviderFailure)) return verdict("unclear", "no_answer");
    const { fault, block, code } = thrown.diagnosis;
    if (fault === "key") return verdict("rejected", block?.reason ?? "key_invalid", thrown.message);
    return verdict("unclear", code, thrown.message);
  }
}
