import { GatewayError } from "../contract/gateway_error.ts";
import { invalidRequest } from "../endpoints/validated.ts";
import type { EncryptedKey, StageRow } from "../database/stages.ts";
import { factsOfKey } from "../secrets/key_facts.ts";
import { KeyEnteredForElsewhere, type KeyUse, type StoredKey, storedKeys } from "../stages/stored_keys.ts";
import { bindingOf, environmentKeyMayGo } from "../stages/key_binding.ts";
import { PROVIDER_DEFINITIONS, type ProviderDefinition } from "../stages/provider_definitions.ts";
import { probe, type ProbeResult } from "../stages/probe.ts";
import { poolSecretOf, quotaProjectOf } from "../stages/pool.ts";
import type { AdminDependencies } from "./route.ts";

export interface StageChange {
  stageType: string;
  providerKind: string;
  /** Null: the key that is there stays, if the provider is the same. */
  apiKey: string | null;
  /** Null: the model that is there, or the provider's usual one, or the first that it offers. */
  model: string | null;
  /** Null: as the key. */
  settings: Record<string, string> | null;
  quotaProject: string | null;
  removeKey: boolean;
  /** Fields of the configuration as they were read, each of which must still be so; absent: nobody compares. */
  seen?: Record<string, unknown>;
}

/** How many of the models that a provider offers instead are named: a page would not show more. */
const MAX_OFFERED = 10;

/**
 * Saves a stage as a person wants it, after asking the provider about the key and the model. What is saved serves from the
 * next call on. A key that the provider refuses is saved as `invalid`, and one that could not be asked about as `error`; a
 * model that it does not offer is not saved.
 * @throws GatewayError `not_found`, `invalid_request`, `invalid_argument`, `changed_meanwhile`, `gateway_misconfigured`
 */
export async function saveStage(
  dependencies: AdminDependencies,
  change: StageChange,
  actor: string,
  signal: AbortSignal,
): Promise<StageRow> {
  const [row] = await dependencies.stages.list(change.stageType);
  if (row === undefined) {
    throw new GatewayError("not_found", { message: `There is no stage ${change.stageType}.` });
  }
  const kind = kindFor(row, change.providerKind);
  const before = row.config?.provider_kind === change.providerKind ? row.config : null;
  const settings = checkedSettings(
    kind,
    change.settings ?? before?.settings ?? {},
    dependencies.allowPrivate,
  );
  const key = change.apiKey === null ? null : {
    token: await dependencies.encryption().encrypt(
      change.apiKey,
      bindingOf(change.providerKind, settings, dependencies.read),
    ),
    ...await factsOfKey(change.apiKey),
  };
  const secret = await secretToAskWith(dependencies, change, before !== null, kind, settings);
  const probed: ProbeResult = secret === null
    ? {
      status: "error",
      reason: "the provider could not be asked: there is no key to ask with",
      models: null,
    }
    : await probe(dependencies.inspectors, change.providerKind, { secret: secret.secret, settings }, signal);
  const { status, reason } = secret?.isPools && probed.status === "invalid"
    ? { ...probed, status: "error" as const }
    : probed;
  return await dependencies.stages.save({
    stageType: change.stageType,
    providerKind: change.providerKind,
    model: modelFor(change.model, before?.model ?? null, kind, probed.models),
    actor,
    key,
    settings,
    quotaProject: change.quotaProject ?? await knownQuotaProject(dependencies, kind, key),
    models: probed.models,
    status,
    statusReason: reason,
    removeKey: change.removeKey,
    seen: change.seen,
  });
}

function kindFor(row: StageRow, providerKind: string): ProviderDefinition {
  const kind = PROVIDER_DEFINITIONS[providerKind];
  const allowed = row.provider_kinds.map((each) => each.kind);
  if (kind !== undefined && allowed.includes(providerKind)) return kind;
  throw invalidRequest([{
    field: "provider_kind",
    problem: allowed.length === 0
      ? `no provider may serve ${row.stage_type}`
      : `${providerKind} may not serve ${row.stage_type}: it may be served by ${allowed.join(", ")}`,
  }]);
}

function checkedSettings(
  kind: ProviderDefinition,
  settings: Record<string, string>,
  allowPrivate: boolean,
): Record<string, string> {
  // An empty field of a form is one that nobody has filled in.
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== ""));
  const faults = [];
  for (const [name, value] of Object.entries(given)) {
    const rule = kind.settings[name];
    const problem = rule === undefined
      ? `this provider has no such setting; it has ${Object.keys(kind.settings).join(", ") || "none"}`
      : rule.problem(value, { allowPrivate });
    if (problem !== null) faults.push({ field: `settings.${name}`, problem });
  }
  for (const [name, { required }] of Object.entries(kind.settings)) {
    if (required && given[name] === undefined) {
      faults.push({ field: `settings.${name}`, problem: "is needed" });
    }
  }
  if (faults.length > 0) throw invalidRequest(faults);
  return given;
}

async function secretToAskWith(
  dependencies: AdminDependencies,
  change: StageChange,
  sameKind: boolean,
  kind: ProviderDefinition,
  settings: Record<string, string>,
): Promise<{ secret: string; isPools: boolean } | null> {
  if (change.apiKey !== null) return { secret: change.apiKey, isPools: false };
  if (sameKind && !change.removeKey) {
    const kept = await storedKey(dependencies, change.stageType, { provider: kind.provider, settings });
    if (kept !== null) return { secret: kept.secret, isPools: false };
  }
  if (!environmentKeyMayGo(change.providerKind, settings, dependencies.read)) return null;
  const pools = await poolSecretOf(dependencies, kind.provider);
  return pools === null ? null : { secret: pools, isPools: true };
}

/** @throws GatewayError `invalid_request` where it was entered for another address */
async function storedKey(
  dependencies: AdminDependencies,
  stageType: string,
  use: KeyUse,
): Promise<StoredKey | null> {
  try {
    return await storedKeys(dependencies.stages, dependencies.encryption, dependencies.read)(
      `stage:${stageType}`,
      use,
    );
  } catch (thrown) {
    if (!(thrown instanceof KeyEnteredForElsewhere)) throw thrown;
    throw invalidRequest([{ field: "api_key", problem: thrown.problem }]);
  }
}

function modelFor(
  wanted: string | null,
  before: string | null,
  kind: ProviderDefinition,
  offered: string[] | null,
): string {
  if (offered === null || offered.length === 0) return wanted ?? before ?? kind.defaultModel;
  if (wanted !== null) {
    if (!kind.listsAll || offered.includes(wanted)) return wanted;
    const some = offered.slice(0, MAX_OFFERED).join(", ");
    const more = offered.length > MAX_OFFERED ? `, and ${offered.length - MAX_OFFERED} more` : "";
    throw invalidRequest([{
      field: "model",
      problem: `the provider does not offer ${wanted} to this key; it offers ${some}${more}`,
    }]);
  }
  return [before, kind.defaultModel].find((model) => model !== null && offered.includes(model)) ??
    offered[0]!;
}

/** A key that the pool has too is counted with it. */
async function knownQuotaProject(
  dependencies: AdminDependencies,
  kind: ProviderDefinition,
  key: EncryptedKey | null,
): Promise<string | null> {
  return key === null ? null : await quotaProjectOf(dependencies, kind.provider, key.fingerprint);
}
