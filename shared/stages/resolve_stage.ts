import { GatewayError } from "../contract/gateway_error.ts";
import type { Produces, Stage, Stages } from "../database/stages.ts";
import type { KeyEncryption } from "../secrets/key_encryption.ts";
import { fallbackOf, type ReadVariable } from "./environment.ts";
import { seedFromEnvironment } from "./seed.ts";
import { stageName } from "./stage_name.ts";

/** What serves a stage, and what a call of it needs to know. */
export interface ServedStage {
  stageType: string;
  produces: Produces;
  /** `environment`: nobody has set it up, and what serves it is what the environment holds. */
  source: "configuration" | "environment";
  providerKind: string;
  /** The name under which admission knows it. */
  model: string;
  /** Keys that are not the stage's. */
  excludeKeys: readonly string[];
}

export type ResolveStage = (stageType: string) => Promise<ServedStage>;

export interface StageDependencies {
  stages: Pick<Stages, "find" | "fromEnvironment" | "list" | "seed">;
  /** @throws GatewayError without ADMIN_SECRET_KEY */
  encryption: () => KeyEncryption;
  read: ReadVariable;
}

/**
 * Looks a stage up, again for every call: what a person saves serves the next one. A stage that was never set up is filled
 * out of the environment first, where a key can be kept; without ADMIN_SECRET_KEY, and once a person has removed it,
 * the environment serves it directly.
 * @throws GatewayError `unknown_stage`, `stage_not_set_up`
 */
export function stageResolver({ stages, encryption, read }: StageDependencies): ResolveStage {
  return async (stageType) => {
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
      case "set_up":
        return {
          stageType: stage.stage_type,
          produces: stage.produces,
          source: "configuration",
          providerKind: stage.provider_kind,
          model: stageName(stage.stage_type),
          excludeKeys: stage.exclude_keys,
        };
      case "not_set_up":
        return await byEnvironment(stage);
    }
  };

  async function hasSeeded(stageType: string): Promise<boolean> {
    let opened: KeyEncryption;
    try {
      opened = encryption();
    } catch {
      return false;
    }
    return (await seedFromEnvironment(stages, opened, read)).includes(stageType);
  }

  async function byEnvironment(stage: Extract<Stage, { status: "not_set_up" }>): Promise<ServedStage> {
    const fallback = fallbackOf(stage.provider_kinds, read);
    if (fallback === null) {
      throw new GatewayError("stage_not_set_up", {
        message:
          `Nobody has set up stage ${stage.stage_type}, and the environment holds no key for it. The owner should save a provider for it in the console.`,
      });
    }
    const { excludeKeys } = await stages.fromEnvironment({
      stageType: stage.stage_type,
      providerKind: fallback.providerKind,
      model: fallback.model,
      envVarName: fallback.variable,
    });
    return {
      stageType: stage.stage_type,
      produces: stage.produces,
      source: "environment",
      providerKind: fallback.providerKind,
      model: stageName(stage.stage_type),
      excludeKeys,
    };
  }
}
