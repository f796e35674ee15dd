import { GatewayError } from "../contract/gateway_error.ts";
import { secretSourceOf } from "../contract/secret_source.ts";
import type { ProviderSettings } from "../providers/provider.ts";
import type { Stages } from "../database/stages.ts";
import type { BoundKey, KeyBinding, KeyEncryption } from "../secrets/key_encryption.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import { bindingOf, differenceOf } from "./key_binding.ts";
import { PROVIDER_DEFINITIONS } from "./provider_definitions.ts";

/** A key with what its provider's calls need beside it. */
export interface StoredKey {
  secret: string;
  settings: ProviderSettings;
}

/** What a key is wanted for. */
export interface KeyUse {
  /** Which of the gateway's providers will be called with it. */
  provider: string;
  /** With which settings; absent: with the stage's. */
  settings?: ProviderSettings;
}

/**
 * The key behind an `env_var_name` that is no variable but a stage's (`stage:POEM`) or a secret's that was entered for the pool
 * (`stored:ID`), to be sent where it was entered for; null: there is none.
 */
export type ResolveStoredKey = (name: string, use: KeyUse) => Promise<StoredKey | null>;

/** As many keys as stages and the pool could reasonably have; beyond that the oldest is dropped. */
const MAX_OPENED = 256;

/** A key is there, and was not entered for where it would go. */
export class KeyEnteredForElsewhere extends GatewayError {
  /** For an administrator: callers are not told which addresses are set. */
  readonly problem: string;

  constructor(name: string, problem: string) {
    super("gateway_misconfigured", {
      message:
        `The key of ${name} was entered for another address than it would now be sent to, so it is not sent. The owner should enter the key again.`,
      detail: `key of ${name}: ${problem}`,
    });
    this.problem = problem;
  }
}

/**
 * Keys out of the database. A stage's row is read at every call, so that a key that a person has changed serves at once; that of a
 * key of the pool once, since another secret has another name. What was decrypted once is not decrypted again. Where a key may go was encrypted with it, so a change of the row cannot
 * send it anywhere else.
 * @throws GatewayError `gateway_misconfigured` where ADMIN_SECRET_KEY does not decrypt it, `database_unavailable`
 * @throws KeyEnteredForElsewhere
 */
export function storedKeys(
  stages: Pick<Stages, "credential">,
  encryption: () => KeyEncryption,
  read: ReadVariable,
): ResolveStoredKey {
  const opened = new Map<string, BoundKey>();
  return async (name, use) => {
    const isPools = secretSourceOf(name).kind === "stored";
    let bound = isPools ? opened.get(name) : undefined;
    let settings = use.settings ?? {};
    if (bound === undefined) {
      const kept = await stages.credential(name);
      if (kept === null || kept.api_key_encrypted === null) return null;
      settings = use.settings ?? kept.settings;
      const known = isPools ? name : kept.api_key_encrypted;
      bound = opened.get(known);
      if (bound === undefined) {
        bound = await encryption().decryptBound(kept.api_key_encrypted);
        const [oldest] = opened.keys();
        if (opened.size >= MAX_OPENED && oldest !== undefined) opened.delete(oldest);
        opened.set(known, bound);
      }
    }
    const problem = problemWith(bound.binding, use.provider, settings, read);
    if (problem !== null) throw new KeyEnteredForElsewhere(name, problem);
    return { secret: bound.key, settings };
  };
}

/** Null: none. */
function problemWith(
  binding: KeyBinding | null,
  provider: string,
  settings: ProviderSettings,
  read: ReadVariable,
): string | null {
  if (binding === null) {
    return "is needed again: nothing says for which address the one that is kept was entered";
  }
  const { providerKind } = binding;
  if (PROVIDER_DEFINITIONS[providerKind]?.provider !== provider) {
    return `is needed again: the one that is kept was entered for ${providerKind}, not for ${provider}`;
  }
  const difference = differenceOf(binding, bindingOf(providerKind, settings, read));
  if (difference === null) return null;
  const { name, bound, wanted } = difference;
  return `is needed again: the one that is kept was entered for ${name} ${bound}, and is not sent to ${wanted}`;
}
