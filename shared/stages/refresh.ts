import type { Noted, StageRow, Stages } from "../database/stages.ts";
import type { KeyEncryption } from "../secrets/key_encryption.ts";
import { asGatewayError } from "../contract/gateway_error.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import { environmentKeyMayGo } from "./key_binding.ts";
import { KeyEnteredForElsewhere, storedKeys } from "./stored_keys.ts";
import { PROVIDER_DEFINITIONS } from "./provider_definitions.ts";
import { type Inspectors, probe, type ProbeResult } from "./probe.ts";

export interface RefreshDependencies {
  stages: Pick<Stages, "list" | "credential" | "note">;
  encryption: () => KeyEncryption;
  inspectors: Inspectors;
  read: ReadVariable;
  /** The secret of a key of the pool, for a stage without one of its own; null: none can be used. */
  poolSecret: (provider: string) => Promise<string | null>;
}

/** The result of probing a stage's provider. */
export type Refreshed = { stageType: string } & Noted;

/**
 * Asks a stage's provider about its key and its models, and notes what it says: the list with its time; a model that has
 * gone and what serves in its place; a key that is refused; a provider that does not answer.
 * @throws GatewayError `database_unavailable` and the like; what is wrong with a provider or a key is noted, not thrown
 */
export async function refreshStage(
  dependencies: RefreshDependencies,
  { stage_type, config }: StageRow & { config: NonNullable<StageRow["config"]> },
  actor: string,
  signal: AbortSignal,
): Promise<Refreshed> {
  const probed = await probeStage(dependencies, stage_type, config, signal);
  const noted = await dependencies.stages.note({
    stageType: stage_type,
    keyFingerprint: config.key_fingerprint,
    actor,
    models: probed.models,
    complete: PROVIDER_DEFINITIONS[config.provider_kind]?.listsAll ?? false,
    status: probed.status,
    statusReason: probed.reason,
  });
  return { stageType: stage_type, ...noted };
}

async function probeStage(
  dependencies: RefreshDependencies,
  stageType: string,
  config: NonNullable<StageRow["config"]>,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const kind = config.provider_kind;
  const provider = PROVIDER_DEFINITIONS[kind]?.provider ?? kind;
  if (config.key_fingerprint === null) {
    const secret = environmentKeyMayGo(kind, config.settings, dependencies.read)
      ? await dependencies.poolSecret(provider)
      : null;
    if (secret === null) {
      return { status: "error", reason: "the pool has no key that could be asked with", models: null };
    }
    const probed = await probe(dependencies.inspectors, kind, { secret, settings: config.settings }, signal);
    // The key belongs to the pool, whose health is checked elsewhere.
    return probed.status === "invalid" ? { ...probed, status: "error" } : probed;
  }
  let kept;
  try {
    kept = await storedKeys(dependencies.stages, dependencies.encryption, dependencies.read)(
      `stage:${stageType}`,
      {
        provider,
        settings: config.settings,
      },
    );
  } catch (thrown) {
    if (thrown instanceof KeyEnteredForElsewhere) {
      return { status: "error", reason: `the key ${thrown.problem}`, models: null };
    }
    const error = asGatewayError(thrown);
    if (error.code !== "gateway_misconfigured") throw error;
    return { status: "error", reason: error.publicMessage, models: null };
  }
  if (kept === null) return { status: "error", reason: "the key has just been changed", models: null };
  return await probe(dependencies.inspectors, kind, kept, signal);
}
