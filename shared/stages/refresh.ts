import type { Noted, StageRow, Stages } from "../database/stages.ts";
import type { Seal } from "../secrets/key_encryption.ts";
import { asGatewayError } from "../contract/gateway_error.ts";
import type { ReadVariable } from "./environment.ts";
import { environmentKeyMayGo } from "./key_binding.ts";
import { keptKeys, KeyEnteredForElsewhere } from "./stored_keys.ts";
import { PROVIDER_KINDS } from "./provider_definitions.ts";
import { type Inspectors, lookAt, type Looked } from "./probe.ts";

export interface RefreshParts {
  stages: Pick<Stages, "list" | "credential" | "note">;
  seal: () => Seal;
  inspectors: Inspectors;
  read: ReadVariable;
  /** The secret of a key of the pool, for a stage without one of its own; null: none can be used. */
  poolSecret: (provider: string) => Promise<string | null>;
}

/** What a look at a stage's provider came to. */
export type Refreshed = { stageType: string } & Noted;

/**
 * Asks a stage's provider about its key and its models, and notes what it says: the list with its time; a model that has
 * gone and what serves in its place; a key that is refused; a provider that does not answer.
 * @throws GatewayError `database_unavailable` and the like; what is wrong with a provider or a key is noted, not thrown
 */
export async function refreshStage(
  parts: RefreshParts,
  { stage_type, config }: StageRow & { config: NonNullable<StageRow["config"]> },
  actor: string,
  signal: AbortSignal,
): Promise<Refreshed> {
  const looked = await looking(parts, stage_type, config, signal);
  const noted = await parts.stages.note({
    stageType: stage_type,
    keyFingerprint: config.key_fingerprint,
    actor,
    models: looked.models,
    complete: PROVIDER_KINDS[config.provider_kind]?.listsAll ?? false,
    status: looked.status,
    statusReason: looked.reason,
  });
  return { stageType: stage_type, ...noted };
}

async function looking(
  parts: RefreshParts,
  stageType: string,
  config: NonNullable<StageRow["config"]>,
  signal: AbortSignal,
): Promise<Looked> {
  const kind = config.provider_kind;
  const provider = PROVIDER_KINDS[kind]?.provider ?? kind;
  if (config.key_fingerprint === null) {
    const secret = environmentKeyMayGo(kind, config.settings, parts.read)
      ? await parts.poolSecret(provider)
      : null;
    if (secret === null) {
      return { status: "error", reason: "the pool has no key that could be asked with", models: null };
    }
    const looked = await lookAt(parts.inspectors, kind, { secret, settings: config.settings }, signal);
    // The key is the pool's, whose health is watched elsewhere.
    return looked.status === "invalid" ? { ...looked, status: "error" } : looked;
  }
  let kept;
  try {
    kept = await keptKeys(parts.stages, parts.seal, parts.read)(`stage:${stageType}`, {
      provider,
      settings: config.settings,
    });
  } catch (thrown) {
    if (thrown instanceof KeyEnteredForElsewhere) {
      return { status: "error", reason: `the key ${thrown.problem}`, models: null };
    }
    const error = asGatewayError(thrown);
    if (error.code !== "gateway_misconfigured") throw error;
    return { status: "error", reason: error.publicMessage, models: null };
  }
  if (kept === null) return { status: "error", reason: "the key has just been changed", models: null };
  return await lookAt(parts.inspectors, kind, kept, signal);
}
