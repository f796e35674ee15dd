import type { Stages } from "../database/stages.ts";
import { factsOfKey } from "../secrets/key_facts.ts";
import type { KeyEncryption } from "../secrets/key_encryption.ts";
import { bindingOf } from "./key_binding.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import { providerInEnvironment } from "./environment.ts";

/**
 * Fills stages that were never set up with what the environment holds: the first of their providers whose key is there. Once
 * per stage, whatever becomes of it afterwards; what a person saved is never overwritten.
 * @returns the stages that were filled
 */
export async function seedFromEnvironment(
  stages: Pick<Stages, "list" | "seed">,
  encryption: KeyEncryption,
  read: ReadVariable,
): Promise<string[]> {
  const configs = [];
  for (const { stage_type, provider_kinds, config } of await stages.list()) {
    if (config !== null) continue;
    const found = provider_kinds.map(({ kind }) => providerInEnvironment(kind, read)).find((each) =>
      each !== null
    );
    if (found === undefined || found === null) continue;
    configs.push({
      stageType: stage_type,
      providerKind: found.providerKind,
      model: found.model,
      key: {
        token: await encryption.encrypt(found.secret, bindingOf(found.providerKind, found.settings, read)),
        ...await factsOfKey(found.secret),
      },
      settings: found.settings,
      quotaProject: null,
    });
  }
  return configs.length === 0 ? [] : await stages.seed(configs);
}
