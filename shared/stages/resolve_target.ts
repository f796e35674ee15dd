import { GatewayError } from "../contract/gateway_error.ts";
import type { ResolveTarget, ServedBy } from "../contract/target.ts";
import type { Stage, Stages } from "../database/stages.ts";
import type { KeyEncryption } from "../secrets/key_encryption.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import { fallbackOf } from "./environment.ts";
import { PROVIDER_DEFINITIONS } from "./provider_definitions.ts";
import { seedFromEnvironment } from "./seed.ts";
import { stageName } from "./stage_name.ts";

export interface StageDependencies {
  stages: Pick<Stages, "find" | "fromEnvironment" | "list" | "seed" | "ownKeys">;
  /** @throws GatewayError without ADMIN_SECRET_KEY */
  encryption: () => KeyEncryption;
  read: ReadVariable;
}

/**
 * Says what serves a call, at whichever endpoint it came in. A stage is served by its key alone. And a consumer who names the
 * model of another provider is not served by a stage's key: that is there for its stage, and often paid for.
 *
 * A stage that was never set up is filled out of the environment first, where a key can be kept; without ADMIN_SECRET_KEY, and
 * once a person has removed it, the environment serves it directly.
 */
export function targetResolver({ stages, encryption, read }: StageDependencies): ResolveTarget {
  return async (target, { consumerId }) => {
    if (target.kind === "stage") return await resolveStage(target.stageType);
    const { models } = target;
    const keepsOffStages = consumerId !== null && models.some(isOtherProviders);
    return { models, excludeKeys: keepsOffStages ? await stages.ownKeys() : [], stage: null };
  };

  async function resolveStage(stageType: string): Promise<ServedBy> {
    let stage = await stages.find(stageType);
    if (stage.status === "not_set_up" && !stage.seeded && await hasSeeded(stage.stage_type)) {
      stage = await stages.find(stageType);
    }
    switch (stage.status) {
      case "unknown":
        throw new GatewayError("unknown_stage", {
          message: `There is no stage ${stageType}. The stages are ${stage.stages.join(", ") || "none"}.`,
          details: { stages: stage.stages },
        });
      case "set_up": {
        const { stage_type: stageType, produces, provider_kind: providerKind } = stage;
        return {
          models: [stageName(stageType)],
          excludeKeys: stage.exclude_keys,
          stage: { stageType, produces, source: "configuration", providerKind },
        };
      }
      case "not_set_up":
        return await byEnvironment(stage);
    }
  }

  async function hasSeeded(stageType: string): Promise<boolean> {
    let opened: KeyEncryption;
    try {
      opened = encryption();
    } catch {
      return false;
    }
    return (await seedFromEnvironment(stages, opened, read)).includes(stageType);
  }

  async function byEnvironment(
    { stage_type: stageType, produces, provider_kinds }: Extract<Stage, { status: "not_set_up" }>,
  ): Promise<ServedBy> {
    const fallback = fallbackOf(provider_kinds, read);
    if (fallback === null) {
      throw new GatewayError("stage_not_set_up", {
        message:
          `Nobody has set up stage ${stageType}, and the environment holds no key for it. The owner should save a provider for it in the console.`,
      });
    }
    const { providerKind, model, variable: envVarName } = fallback;
    const { excludeKeys } = await stages.fromEnvironment({ stageType, providerKind, model, envVarName });
    return {
      models: [stageName(stageType)],
      excludeKeys,
      stage: { stageType, produces, source: "environment", providerKind },
    };
  }
}

/** Google's models have no provider before their names; those of the others do. */
function isOtherProviders(model: string): boolean {
  const [kind, ...rest] = model.split("/");
  return rest.length > 0 && kind !== undefined && kind in PROVIDER_DEFINITIONS;
}
