import { type SecretSource, secretSourceOf } from "../../contract/secret_source.ts";
import * as z from "zod";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

/** A run that has begun, or the reason why it has not. */
export type Begun =
  | { status: "running"; runId: number; runsIn: "sql" | "http"; endsInMs: number }
  | { status: "skipped"; reason: string };

export interface Step {
  done: boolean;
  /** `lost`: the run's lease had expired, and another process may have begun it again. */
  status: "running" | "succeeded" | "failed" | "lost";
  /** Of the whole run so far, as are the other facts. */
  count: number;
  tables: string[];
  details: Record<string, unknown>;
  more: boolean;
  error: string | null;
  /** Milliseconds to leave the database to others before the next step. */
  pauseMs: number;
}

export interface OperationEnd {
  runId: number;
  status: "succeeded" | "failed";
  tables: string[];
  count: number;
  details: Record<string, unknown>;
  error: string | null;
  more: boolean;
}

/** A key that is worth asking about. */
export interface KeyToCheck {
  id: string;
  alias: string;
  /** Null: the row names no secret. */
  source: SecretSource | null;
  provider: string;
  isActive: boolean;
  /** Hashes of secrets with which it is not worth asking: upstream has rejected them for good. Null: it is in any case. */
  unless: string[] | null;
}

export interface KeyVerdict {
  keyId: string;
  outcome: "works" | "rejected" | "secret_missing" | "unclear";
  reason: string | null;
  /** What upstream said, without the key. */
  detail: string | null;
  /** Of the secret that upstream was asked with; null: there was none. */
  secretHash: string | null;
}

export interface ModelChanges {
  appeared: string[];
  vanished: string[];
  /** Models that the key had been kept from, because upstream did not find them. */
  unblocked: string[];
}

/** What maintenance asks of the database. */
export interface MaintenanceLedger {
  begin(operation: string, source: string, timeLimitMs: number | null): Promise<Begun>;
  step(runId: number): Promise<Step>;
  end(ending: OperationEnd): Promise<"succeeded" | "failed" | "lost">;
  keysToCheck(): Promise<KeyToCheck[]>;
  keyChecked(verdict: KeyVerdict): Promise<"enabled" | "disabled" | "none">;
  modelsSeen(keyId: string, models: readonly string[]): Promise<ModelChanges>;
  /** Models that should serve: those on no key's list any more, and those that never were on one. */
  modelsCompared(): Promise<{ vanished: string[]; unlisted: string[] }>;
  /** Puts the project's URL and a secret key where the schedule finds them. Answers the names that changed. */
  connect(projectUrl: string, secretKey: string): Promise<string[]>;
}

/** A step takes some hundred milliseconds; the largest, an hour's or a day's sums, some seconds. */
const STEP_TIMEOUT_MS = 30_000;
/** Everything else is a row or a few. */
const TIMEOUT_MS = 15_000;

const names = z.array(z.string());
const begun = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("running"),
    run_id: z.number(),
    runs_in: z.enum(["sql", "http"]),
    ends_in_ms: z.number(),
  }).transform((row) => ({
    status: row.status,
    runId: row.run_id,
    runsIn: row.runs_in,
    endsInMs: row.ends_in_ms,
  })),
  z.object({ status: z.literal("skipped"), reason: z.string() }),
]);
const step = z.object({
  done: z.boolean(),
  status: z.enum(["running", "succeeded", "failed", "lost"]),
  count: z.number().default(0),
  tables: names.default([]),
  details: z.record(z.string(), z.unknown()).default({}),
  more: z.boolean().default(false),
  error: z.string().nullish(),
  pause_ms: z.number().default(0),
}).transform(({ pause_ms, error, ...row }): Step => ({ ...row, error: error ?? null, pauseMs: pause_ms }));
const ended = z.object({ status: z.enum(["succeeded", "failed", "lost"]) });
const keyToCheck = z.object({
  id: z.string(),
  alias: z.string(),
  env_var_name: z.string().nullable(),
  provider: z.string(),
  is_active: z.boolean(),
  unless: z.array(z.string()).nullable(),
}).transform((row): KeyToCheck => ({
  id: row.id,
  alias: row.alias,
  source: row.env_var_name === null ? null : secretSourceOf(row.env_var_name),
  provider: row.provider,
  isActive: row.is_active,
  unless: row.unless,
}));
const keyChanged = z.object({ change: z.enum(["enabled", "disabled", "none"]) });
const news = z.object({ appeared: names, vanished: names, unblocked: names });
const comparison = z.object({ vanished: names, unlisted: names });
const connected = z.object({ changed: names });

/** @throws GatewayError as database_error.ts classifies it */
export function createMaintenanceLedger(transport: Transport): MaintenanceLedger {
  const ask = <Shape extends z.ZodType>(
    sqlFunction: string,
    args: Record<string, unknown>,
    shape: Shape,
    timeoutMs = TIMEOUT_MS,
  ) => call(transport, sqlFunction, args, shape, timeoutMs);
  return {
    begin: (operation, source, timeLimitMs) =>
      ask("eve_maintenance_begin", { operation, source, time_limit_ms: timeLimitMs }, begun),
    step: (runId) => ask("eve_maintenance_step", { run_id: runId }, step, STEP_TIMEOUT_MS),
    end: async ({ runId, ...rest }) =>
      (await ask("eve_maintenance_end", { run_id: runId, ...rest }, ended)).status,
    keysToCheck: () => ask("eve_key_checks", {}, z.array(keyToCheck)),
    keyChecked: async ({ keyId, secretHash, ...rest }) =>
      (await ask("eve_key_checked", { key_id: keyId, secret_hash: secretHash, ...rest }, keyChanged)).change,
    modelsSeen: (keyId, models) => ask("eve_models_seen", { key_id: keyId, models }, news),
    modelsCompared: () => ask("eve_models_compared", {}, comparison),
    connect: async (projectUrl, secretKey) =>
      (await ask("eve_connect", { project_url: projectUrl, secret_key: secretKey }, connected)).changed,
  };
}
