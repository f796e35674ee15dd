import * as z from "zod";
import { PRODUCES } from "../contract/target.ts";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

export const CONFIG_STATUSES = ["active", "warning", "invalid", "error"] as const;
export type ConfigStatus = (typeof CONFIG_STATUSES)[number];

const settings = z.record(z.string(), z.string()).catch({});

const config = z.object({
  provider_kind: z.string(),
  model: z.string(),
  key_last_four: z.string().nullable(),
  key_fingerprint: z.string().nullable(),
  settings,
  quota_project: z.string().nullable(),
  models: z.array(z.string()),
  models_updated_at: z.string().nullable(),
  checked_at: z.string().nullable(),
  status: z.enum(CONFIG_STATUSES),
  status_reason: z.string().nullable(),
  updated_at: z.string(),
  updated_by: z.string(),
  lane_model: z.string(),
  key: z.object({
    id: z.string(),
    alias: z.string(),
    is_active: z.boolean(),
    blocked_until: z.string().nullable(),
    blocked_reason: z.string().nullable(),
  }).nullable(),
});

const stageRow = z.object({
  stage_type: z.string(),
  produces: z.enum(PRODUCES),
  description: z.string(),
  provider_kinds: z.array(z.object({ kind: z.string(), title: z.string(), shares_keys: z.boolean() }))
    .nullish().transform((kinds) => kinds ?? []),
  config: config.nullable(),
});

/** A stage as the database returns it, without its key; the names are those of its columns. */
export type StageRow = z.output<typeof stageRow>;

const stage = z.discriminatedUnion("status", [
  z.object({ status: z.literal("unknown"), stages: z.array(z.string()) }),
  z.object({
    status: z.literal("not_set_up"),
    stage_type: z.string(),
    produces: z.enum(PRODUCES),
    seeded: z.boolean(),
    provider_kinds: z.array(z.string()),
  }),
  z.object({
    status: z.literal("set_up"),
    stage_type: z.string(),
    produces: z.enum(PRODUCES),
    provider_kind: z.string(),
    model: z.string(),
    config_status: z.enum(CONFIG_STATUSES),
    config_reason: z.string().nullable(),
    exclude_keys: z.array(z.string()),
  }),
]);

/** What a call of a stage needs to know. */
export type Stage = z.output<typeof stage>;

const credential = z.object({
  provider_kind: z.string(),
  api_key_encrypted: z.string().nullable(),
  settings,
}).nullable();

/** A key as it is kept, with what its provider's calls need beside it. */
export type StoredCredential = NonNullable<z.output<typeof credential>>;

const noted = z.discriminatedUnion("status", [
  z.object({ status: z.literal("overtaken") }),
  z.object({
    status: z.literal("noted"),
    config_status: z.enum(CONFIG_STATUSES),
    model: z.string(),
    replaced: z.boolean(),
    models: z.number().nullable(),
  }),
]);

export type Noted = z.output<typeof noted>;

const changeSide = z.looseObject({
  provider_kind: z.string(),
  model: z.string(),
  key_last_four: z.string().nullable(),
  status: z.enum(CONFIG_STATUSES),
  status_reason: z.string().nullable(),
});

const change = z.object({
  id: z.number(),
  at: z.string(),
  stage_type: z.string(),
  event: z.enum(["created", "changed", "status_changed", "model_vanished", "reencrypted", "removed"]),
  actor: z.string(),
  before: changeSide.nullable(),
  after: changeSide.nullable(),
});

const storedKey = z.object({
  id: z.number(),
  stage_type: z.string(),
  provider_kind: z.string(),
  last_four: z.string(),
  fingerprint: z.string(),
  entered_by: z.string(),
  entered_at: z.string(),
  used_until: z.string().nullable(),
});

const ciphertext = z.object({ place: z.string(), id: z.string(), token: z.string() });

/** A key, encrypted, with what is kept of it beside. */
export interface EncryptedKey {
  token: string;
  fingerprint: string;
  lastFour: string;
}

export interface StageToSave {
  stageType: string;
  providerKind: string;
  model: string;
  actor: string;
  /** Null: the one that is there stays, if the provider is the same. */
  key: EncryptedKey | null;
  /** Null: those that are there stay, if the provider is the same. */
  settings: Record<string, string> | null;
  /** Null: as `settings`. */
  quotaProject: string | null;
  /** The models that the provider offers; null: not known. */
  models: string[] | null;
  status: ConfigStatus;
  statusReason: string | null;
  removeKey: boolean;
  /** Fields of the configuration as they were read, each of which must still be so; absent: nobody compares. */
  seen?: Record<string, unknown>;
}

export interface ProbeNote {
  stageType: string;
  /** Of the key that was used: what was learned about another one is not noted. */
  keyFingerprint: string | null;
  actor: string;
  /** Null: the provider gave no list. */
  models: string[] | null;
  /** False: the provider has models that the list does not name. */
  complete: boolean;
  status: ConfigStatus;
  statusReason: string | null;
}

export interface StageFromEnvironment {
  stageType: string;
  providerKind: string;
  model: string;
  /** The variable that holds the key; null: the keys of the pool serve. */
  envVarName: string | null;
}

/** Stages, their providers and their keys. Every change is in the history. */
export interface Stages {
  /** All, or one, as an administrator sees them. */
  list(stageType?: string): Promise<StageRow[]>;
  /** What a call needs. */
  find(stageType: string): Promise<Stage>;
  /** The keys that are there for a stage. */
  ownKeys(): Promise<string[]>;
  /** Lets the environment serve a stage that nobody has set up; returns the keys that are not the stage's. */
  fromEnvironment(input: StageFromEnvironment): Promise<{ excludeKeys: string[] }>;
  /** The key behind an `env_var_name` such as `stage:POEM`; null: there is none. */
  credential(name: string): Promise<StoredCredential | null>;
  /** @throws GatewayError `invalid_argument` where the provider may not serve the stage, or lacks a key */
  save(input: StageToSave): Promise<StageRow>;
  note(result: ProbeNote): Promise<Noted>;
  remove(stageType: string, actor: string): Promise<StageRow>;
  /** Fills stages that were never set up; returns which. */
  seed(
    configs: Omit<StageToSave, "actor" | "models" | "status" | "statusReason" | "removeKey" | "seen">[],
  ): Promise<string[]>;
  history(
    filter: { stageType?: string; atMost?: number; before?: number },
  ): Promise<z.output<typeof change>[]>;
  /** Every key that was ever entered, by its last four characters. */
  keys(stageType?: string): Promise<z.output<typeof storedKey>[]>;
  ciphertexts(): Promise<z.output<typeof ciphertext>[]>;
  /** Replaces those tokens that are still the ones that were read; answers how many. */
  reencrypt(
    tokens: (z.output<typeof ciphertext> & { replacement: string })[],
    actor: string,
  ): Promise<number>;
  /** Whether a signed-in user is an administrator at this moment. */
  isAdministrator(userId: string): Promise<boolean>;
}

/** A call of a model waits for it, or a person. */
const STAGES_TIMEOUT_MS = 8_000;

export function createStages(transport: Transport, timeoutMs = STAGES_TIMEOUT_MS): Stages {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  return {
    list: (stageType) => ask("eve_provider_configs", { stage_type: stageType ?? null }, z.array(stageRow)),
    find: (stageType) => ask("eve_stage", { stage_type: stageType }, stage),
    ownKeys: () => ask("eve_stage_keys", {}, z.array(z.string())),
    async fromEnvironment({ stageType, providerKind, model, envVarName }) {
      const { exclude_keys } = await ask("eve_stage_from_environment", {
        stage_type: stageType,
        provider_kind: providerKind,
        model,
        env_var_name: envVarName,
      }, z.object({ exclude_keys: z.array(z.string()) }));
      return { excludeKeys: exclude_keys };
    },
    credential: (name) => ask("eve_stage_credential", { name }, credential),
    save(input) {
      const change = {
        ...savedFields(input),
        actor: input.actor,
        models: input.models,
        status: input.status,
        status_reason: input.statusReason,
        remove_key: input.removeKey,
      };
      return input.seen === undefined
        ? ask("eve_provider_save", change, stageRow)
        : ask("eve_provider_save_seen", { seen: input.seen, change }, stageRow);
    },
    note: (result) =>
      ask("eve_provider_checked", {
        stage_type: result.stageType,
        key_fingerprint: result.keyFingerprint,
        actor: result.actor,
        models: result.models,
        complete: result.complete,
        status: result.status,
        status_reason: result.statusReason,
      }, noted),
    remove: (stageType, actor) => ask("eve_provider_remove", { stage_type: stageType, actor }, stageRow),
    async seed(configs) {
      const args = { configs: configs.map(savedFields) };
      return (await ask("eve_provider_seed", args, z.object({ seeded: z.array(z.string()) }))).seeded;
    },
    history: ({ stageType, atMost = 50, before }) =>
      ask(
        "eve_provider_history",
        { stage_type: stageType ?? null, at_most: atMost, before_id: before ?? null },
        z.array(change),
      ),
    keys: (stageType) => ask("eve_provider_keys", { stage_type: stageType ?? null }, z.array(storedKey)),
    ciphertexts: () => ask("eve_provider_ciphertexts", {}, z.array(ciphertext)),
    reencrypt: async (tokens, actor) =>
      (await ask("eve_provider_reencrypt", { tokens, actor }, z.object({ changed: z.number() }))).changed,
    isAdministrator: async (userId) =>
      (await ask("eve_administrator", { user_id: userId }, z.object({ administrator: z.boolean() })))
        .administrator,
  };
}

function savedFields(
  { stageType, providerKind, model, key, settings, quotaProject }: Pick<
    StageToSave,
    "stageType" | "providerKind" | "model" | "key" | "settings" | "quotaProject"
  >,
): Record<string, unknown> {
  return {
    stage_type: stageType,
    provider_kind: providerKind,
    model,
    api_key_encrypted: key?.token ?? null,
    key_fingerprint: key?.fingerprint ?? null,
    key_last_four: key?.lastFour ?? null,
    settings,
    quota_project: quotaProject,
  };
}
