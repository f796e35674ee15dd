/** What people look at: keys, lanes, requests, alerts, limits, and facts for a check. Names are those of the SQL answers. */
import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

const instants = z.object({
  now: z.string(),
  /** `2026-11-21`: the day in America/Los_Angeles, by which Google counts. */
  pacific_day: z.string(),
  pacific_day_begins: z.string(),
  pacific_day_ends: z.string(),
});
export type DatabaseClock = z.output<typeof instants>;

const gauge = z.object({
  /** Null: unlimited, then `remaining` is null too. */
  limit: z.number().nullable(),
  used: z.number(),
  remaining: z.number().nullable(),
});

const lane = z.object({
  quota_project: z.string(),
  model: z.string(),
  keys: z.array(z.string().nullable()),
  state: z.enum(["open", "minute_used_up", "day_used_up", "paused", "no_quota", "no_key"]),
  blocked_until: z.string().nullable(),
  blocked_reason: z.string().nullable(),
  limits_from: z.enum(["model", "override"]),
  requests: gauge,
  tokens: gauge,
  requests_day: gauge.extend({ resets_at: z.string() }),
  /** Booked for later. */
  queued: z.number(),
  running: z.number(),
  /** Starts that it could take now, 0 where it is closed; null: without end. */
  free: z.number().nullable(),
  /** When a closed one opens by itself; null: it is open, or nobody knows. */
  frees_at: z.string().nullable(),
});
export type LaneState = z.output<typeof lane>;

const key = z.object({
  id: z.string(),
  alias: z.string().nullable(),
  provider: z.string(),
  env_var_name: z.string().nullable(),
  quota_project: z.string().nullable(),
  /** The quota project, or `key:` and the key's id where none is named. */
  quota_key: z.string(),
  priority: z.number().nullable(),
  notes: z.string().nullable(),
  is_active: z.boolean(),
  state: z.enum(["on", "off", "blocked", "no_secret_name"]),
  /** `infinity`: until a person switches it on. */
  blocked_until: z.string().nullable(),
  blocked_reason: z.string().nullable(),
  created_at: z.string().nullable(),
  last_used_at: z.string().nullable(),
  today: z.object({ requests: z.number(), input_tokens: z.number() }),
  /** What the last check (operation key_health) found; null: it was never checked. */
  check: z.object({
    checked_at: z.string(),
    /** unclear: upstream could not be asked, or said nothing about the key. */
    outcome: z.enum(["works", "rejected", "secret_missing", "unclear"]),
    reason: z.string().nullable(),
    detail: z.string().nullable(),
    works_since: z.string().nullable(),
  }).nullable(),
  blocked_models: z.array(
    z.object({ model: z.string(), blocked_until: z.string(), reason: z.string() }),
  ),
  lanes: z.array(lane),
});
export type KeyState = z.output<typeof key>;

export const REQUEST_STATES = [
  "succeeded",
  "failed",
  "cancelled",
  "expired",
  "running",
  "refused",
] as const;

const request = z.object({
  /** Null for a refusal, which has `refusal_no` instead. */
  request_no: z.number().nullable(),
  refusal_no: z.number().nullable(),
  request_id: z.string(),
  state: z.enum(REQUEST_STATES),
  at: z.string(),
  finished_at: z.string().nullable(),
  duration_ms: z.number().nullable(),
  wait_ms: z.number(),
  attempts: z.number(),
  consumer: z.string().nullable(),
  consumer_id: z.string().nullable(),
  token_id: z.string().nullable(),
  class: z.enum(["interactive", "batch"]),
  endpoint: z.string(),
  requested_model: z.string(),
  model: z.string(),
  key: z.string().nullable(),
  input_tokens: z.number().nullable(),
  output_tokens: z.number().nullable(),
  total_tokens: z.number().nullable(),
  error_code: z.string().nullable(),
  finish_reason: z.string().nullable(),
  limit: z.string().nullable(),
  retry_after_ms: z.number().nullable(),
  trace_id: z.string().nullable(),
});
export type RequestRow = z.output<typeof request>;

const requestPage = z.object({
  requests: z.array(request),
  /** Where the next page begins, to be sent as it is; null: there is nothing more. */
  next_before: z.string().nullable(),
});
export type RequestPage = z.output<typeof requestPage>;

export interface RequestFilter {
  requestId?: string;
  consumer?: string;
  model?: string;
  key?: string;
  outcome?: (typeof REQUEST_STATES)[number];
  errorCode?: string;
  since?: string;
  until?: string;
  /** The `next_before` of the page before. */
  before?: string;
  /** 1 to 1,000. */
  atMost?: number;
}

/** Of one list alone: a number in the answer of the database. */
const searchPage = requestPage.extend({ next_before: z.number().nullable() });

const attempt = z.object({
  attempt: z.number(),
  model: z.string(),
  key: z.string(),
  quota_project: z.string().nullable(),
  start_at: z.string(),
  /** From the time it was asked for until its start. */
  wait_ms: z.number(),
  latency_ms: z.number().nullable(),
  settled_at: z.string(),
  outcome: z.string(),
  dispatched: z.boolean(),
  tokens_booked: z.number(),
  input_tokens: z.number().nullable(),
  output_tokens: z.number().nullable(),
  thoughts_tokens: z.number().nullable(),
  cached_tokens: z.number().nullable(),
  total_tokens: z.number().nullable(),
  usage_estimated: z.boolean(),
  upstream_status: z.number().nullable(),
  error_code: z.string().nullable(),
  error_detail: z.string().nullable(),
  /** key, key_model, lane, upstream, region, model, caller or gateway; null: it did not fail. */
  fault: z.string().nullable(),
  finish_reason: z.string().nullable(),
});

const requestDetail = request.extend({
  metadata: z.unknown(),
  tries: z.array(attempt),
  running: z.object({
    attempt: z.number(),
    state: z.string(),
    start_at: z.string(),
    lease_until: z.string(),
    tokens_booked: z.number(),
  }).nullable(),
  refusals: z.array(z.object({
    at: z.string(),
    attempt: z.number(),
    model: z.string(),
    error_code: z.string(),
    limit: z.string().nullable(),
    retry_after_ms: z.number().nullable(),
  })),
  capture: z.object({ prompt: z.unknown(), answer: z.unknown(), captured_at: z.string() }).nullable(),
  /** Whether the answer was kept for a repetition of the same request_id. */
  answer_kept: z.boolean(),
});
export type RequestDetail = z.output<typeof requestDetail>;

const clearedLimits = z.object({ cleared: z.array(z.string()) });

const badRequest = z.object({
  code: z.string(),
  /** Null: nobody had been recognised yet. */
  consumer: z.string().nullable(),
  times: z.number(),
  /** Beginnings of minutes. */
  first_at: z.string(),
  last_at: z.string(),
});
export type BadRequests = z.output<typeof badRequest>;

const cursor = z.object({ request_no: z.number(), refusal_no: z.number(), at: z.string() });
export type TailCursor = z.output<typeof cursor>;
const tail = z.object({ events: z.array(request), cursor });

/** Columns that later versions add are passed on as they are. */
const alert = z.looseObject({
  id: z.number(),
  kind: z.string(),
  subject: z.string(),
  severity: z.enum(["info", "warning", "critical"]),
  message: z.string(),
  opened_at: z.string(),
  last_seen_at: z.string(),
  closed_at: z.string().nullable(),
  /** When somebody said that they look after it. */
  acknowledged_at: z.string().nullable(),
  acknowledged_by: z.string().nullable(),
  title: z.string(),
  /** What to do about it. */
  advice: z.string().nullable(),
});
export type AlertRow = z.output<typeof alert>;

const alertDetail = alert.extend({
  deliveries: z.array(z.object({
    channel: z.string(),
    event: z.string(),
    state: z.string(),
    attempts: z.number(),
    sent_at: z.string().nullable(),
    last_error: z.string().nullable(),
  })),
});
export type AlertDetail = z.output<typeof alertDetail>;

const limitValues = {
  rpm: z.number().nullable(),
  tpm: z.number().nullable(),
  rpd: z.number().nullable(),
};
/** How a model's minute and day are shared between the classes: three shares from 0 to 0.9, and starts a minute. */
export const shares = z.object({
  /** Of each minute and day, what interactive callers leave to batch that waits. */
  batch_floor: z.number(),
  /** Starts of each minute that batch leaves unused. */
  interactive_floor: z.number(),
  /** The share of each minute that batch leaves unused. */
  interactive_reserve: z.number(),
  /** The share of each day that batch leaves to interactive callers. */
  interactive_reserve_day: z.number(),
});
export type Shares = z.output<typeof shares>;
const limits = z.object({
  models: z.array(z.object({
    model: z.string(),
    ...limitValues,
    shares,
    is_active: z.boolean(),
    replaced_by: z.string().nullable(),
    updated_at: z.string().nullable(),
  })),
  overrides: z.array(z.object({
    quota_project: z.string(),
    model: z.string(),
    ...limitValues,
    notes: z.string().nullable(),
    updated_at: z.string(),
  })),
  quota_projects: z.array(z.string()),
});
export type LimitsNow = z.output<typeof limits>;

/** A limit that is absent stays as it is; null is no limit. Shares are of the model, in all quota projects. */
export interface LimitChange extends Partial<Shares> {
  model: string;
  rpm?: number | null;
  tpm?: number | null;
  rpd?: number | null;
}

const changedLimit = z.object({
  quota_project: z.string().nullable(),
  model: z.string(),
  ...limitValues,
  shares,
});
export type ChangedLimit = z.output<typeof changedLimit>;

export const USAGE_BY = ["day", "hour", "consumer", "model", "key", "endpoint"] as const;
export type UsageBy = (typeof USAGE_BY)[number];

const usageFigures = z.object({
  /** Those that came and have ended: succeeded, failed, cancelled and expired together. */
  requests: z.number(),
  succeeded: z.number(),
  failed: z.number(),
  cancelled: z.number(),
  expired: z.number(),
  /** Requests that were refused at their first attempt; they are not among `requests`. */
  refused: z.number(),
  attempts: z.number(),
  /** Attempts that called upstream. */
  dispatched: z.number(),
  /** Attempts that upstream answered with 429. */
  upstream_refused: z.number(),
  input_tokens: z.number(),
  output_tokens: z.number(),
  thoughts_tokens: z.number(),
  cached_tokens: z.number(),
  /** Milliseconds that requests waited, together; latency_ms: that upstream took. */
  wait_ms: z.number(),
  latency_ms: z.number(),
  /** US dollars, by the prices of now; free_usd: what calls in a free tier would have cost. */
  paid_usd: z.number(),
  free_usd: z.number(),
  /** Some of it has no known price: it is more than that. */
  paid_unknown: z.boolean(),
  free_unknown: z.boolean(),
});
export type UsageFigures = z.output<typeof usageFigures>;
/** Their names, in this order. */
export const USAGE_FIGURES = Object.keys(usageFigures.shape) as (keyof UsageFigures)[];

const usage = z.object({
  by: z.array(z.enum(USAGE_BY)),
  /** What the sums cover: whole hours, and whole days where hours are no longer kept. */
  since: z.string(),
  until: z.string().nullable(),
  /** Everything that was written before this time is in it; null: nothing was summed yet. */
  complete_until: z.string().nullable(),
  rows: z.array(usageFigures.extend({
    day: z.string().optional(),
    hour: z.string().optional(),
    consumer: z.string().optional(),
    model: z.string().optional(),
    key: z.string().nullable().optional(),
    endpoint: z.string().optional(),
  })),
  /** How many rows there are, those that were not asked for among them. */
  rows_of: z.number(),
  /** All that are not among the largest, together, and how many they are; null: there are none. */
  others: usageFigures.nullable(),
  others_of: z.number(),
  totals: usageFigures,
  /** Models that were used and have no known price; the first 100. */
  unpriced: z.array(z.string()),
});
export type UsageReport = z.output<typeof usage>;

export interface UsageFilter {
  by: readonly UsageBy[];
  since?: string;
  until?: string;
  consumer?: string;
  model?: string;
  key?: string;
  /** 1 to 10,000. */
  atMost?: number;
  /** 1 to 100: of the first of `by` only so many, the largest by requests and refusals. That is no day and no hour. */
  top?: number;
}

const facts = z.object({
  now: z.string(),
  server_version: z.string(),
  /** Versions, in order; null: this database keeps no history. */
  migrations: z.array(z.string()).nullable(),
  /** Of their texts, by version (local/migration_sums.ts); null where the history has no text. */
  migration_sums: z.record(z.string(), z.string().nullable()).default({}),
  extensions: z.array(z.object({
    name: z.string(),
    installed: z.string().nullable(),
    available: z.string().nullable(),
    schema: z.boolean(),
  })),
  /** Null: there is no schedule. */
  jobs: z.array(z.object({
    name: z.string(),
    schedule: z.string(),
    active: z.boolean(),
    last: z.object({
      status: z.string(),
      message: z.string().nullable(),
      started_at: z.string().nullable(),
      ended_at: z.string().nullable(),
    }).nullable(),
    last_ok_at: z.string().nullable(),
  })).nullable(),
  http_last_hour: z.object({
    answered: z.number(),
    refused: z.number(),
    unanswered: z.number(),
    last_error: z.string().nullable(),
  }).nullable(),
  vault_names: z.array(z.string()).nullable(),
  settings: z.record(z.string(), z.number()),
  models: z.number(),
  alerts: z.array(z.object({
    id: z.number(),
    kind: z.string(),
    severity: z.string(),
    message: z.string(),
    opened_at: z.string(),
  })),
  overdue: z.number(),
  /** Refusals of the last hour: with a row of their own, and beyond the rate that is kept, counted. */
  refused_last_hour: z.object({ kept: z.number(), counted: z.number() }),
  operations: z.array(z.object({
    operation: z.string(),
    runs_in: z.enum(["sql", "http"]),
    schedule: z.string().nullable(),
    is_active: z.boolean(),
    /** Seconds from one start to the next that are still normal; null: it is not expected. */
    within_s: z.number().nullable(),
    expected_since: z.string().nullable(),
    is_running: z.boolean(),
    last_status: z.string().nullable(),
    last_error: z.string().nullable(),
    last_started_at: z.string().nullable(),
    last_completed_at: z.string().nullable(),
    last_succeeded_at: z.string().nullable(),
    /** When the schedule last found nothing to do, and how often it has. */
    last_idle_at: z.string().nullable(),
    idle_runs: z.number(),
  })),
  database_bytes: z.number(),
});
export type ProjectFacts = z.output<typeof facts>;

const percentiles = z.object({
  p50: z.number().nullable(),
  p95: z.number().nullable(),
  p99: z.number().nullable(),
});

const overview = z.object({
  since: z.string(),
  requests: z.number(),
  succeeded: z.number(),
  failed: z.number(),
  refused: z.number(),
  /** There were more: these are the newest 10,000. */
  is_sample: z.boolean(),
  wait_ms: percentiles,
  /** Of those that succeeded, what upstream took. */
  latency_ms: percentiles,
  errors: z.array(z.object({ code: z.string(), times: z.number() })),
  /** Those that are not used although nobody switched them off. `until` null: until a person does something about it. */
  bad_keys: z.array(z.object({ name: z.string(), reason: z.string(), until: z.string().nullable() })),
  has_keys: z.boolean(),
  has_consumers: z.boolean(),
  has_requests: z.boolean(),
});
export type Overview = z.output<typeof overview>;

const usageParts = z.object({
  /** The same time as that of `usage`. */
  since: z.string(),
  until: z.string().nullable(),
  /** There were more: percentiles are of the newest 100,000 requests, refusals among the errors of the newest 100,000. */
  is_sample: z.boolean(),
  wait_ms: percentiles,
  /** Of those that succeeded, what upstream took. */
  latency_ms: percentiles,
  errors: z.array(z.object({ code: z.string(), times: z.number() })),
  /** What was asked for by a stage, by the model that served; of refusals the stage itself. */
  stages: z.array(
    usageFigures.omit({ attempts: true, upstream_refused: true }).extend({
      stage: z.string(),
      model: z.string(),
    }),
  ),
});
export type UsageParts = z.output<typeof usageParts>;

const found = z.object({
  kind: z.enum(["request", "refusal", "job", "chat", "post"]),
  /** Of a request its number; of a refused one the id that its caller gave it. */
  id: z.string(),
  name: z.string().nullable(),
  at: z.string().nullable(),
  /** Of a post whose it is; null of all else. */
  tenant_id: z.string().nullable(),
  /** Of a refused request whose it was; null of all else, and where it came with the project's key. */
  consumer: z.string().nullable(),
});
export type Found = z.output<typeof found>;

const realtime = z.object({
  /** Whether the project has Realtime's publication. */
  publication: z.boolean(),
  /** Tables of chats that are not in it. */
  missing: z.array(z.string()),
});
export type RealtimeFacts = z.output<typeof realtime>;

/** @throws GatewayError `invalid_argument` for names that are unknown and values out of bounds, with a message for people */
export interface Reading {
  now(): Promise<DatabaseClock>;
  keys(): Promise<KeyState[]>;
  lanes(filter?: { quotaProject?: string; model?: string }): Promise<LaneState[]>;
  /**
   * The newest first, by when they ended; refusals among them, unless an outcome or an id is asked for. A page may be empty and not
   * the last: a call looks at 100,000 rows at most.
   */
  requests(filter: RequestFilter): Promise<RequestPage>;
  /** What was refused with 400 and the like, by code and consumer, the most frequent first. */
  badRequests(
    filter: { since?: string; until?: string; consumer?: string; atMost?: number },
  ): Promise<BadRequests[]>;
  request(which: { requestNo: number } | { requestId: string; consumer?: string }): Promise<RequestDetail>;
  /** Tells the last two seconds before the cursor again. */
  tail(after: TailCursor | null, atMost: number): Promise<z.output<typeof tail>>;
  alerts(
    filter: { state?: "open" | "closed" | "all"; kind?: string; before?: number; atMost?: number },
  ): Promise<{ alerts: AlertRow[]; next_before: number | null }>;
  alert(id: number): Promise<AlertDetail>;
  closeAlert(id: number): Promise<AlertRow>;
  /** The first who says so stays. */
  acknowledgeAlert(id: number, actor: string): Promise<AlertRow>;
  limits(): Promise<LimitsNow>;
  /** All or none. */
  setLimits(
    changes: readonly LimitChange[],
    where?: { quotaProject?: string; addModels?: boolean; notes?: string },
  ): Promise<ChangedLimit[]>;
  clearLimits(quotaProject: string, model?: string): Promise<string[]>;
  /** @throws GatewayError `changed_meanwhile` where a field that was seen is not as it was */
  clearSeenLimits(quotaProject: string, model: string, seen: Record<string, unknown>): Promise<string[]>;
  usage(filter: UsageFilter): Promise<UsageReport>;
  /** Brings the sums up to now, for 5 s at most or as said. False: there is more to sum, or another process is doing it: try again. */
  rollUp(atMostMs?: number): Promise<boolean>;
  facts(): Promise<ProjectFacts>;
  /** How the last hour went. */
  overview(): Promise<Overview>;
  /** What sums by the hour do not know. */
  usageParts(filter: { since: string; until?: string; consumer?: string }): Promise<UsageParts>;
  /** What has this id; 1 to 200 characters. */
  find(id: string): Promise<Found[]>;
  /** Whether Supabase's Realtime tells other devices of chats. */
  realtime(): Promise<RealtimeFacts>;
}

/** A person waits for it. */
const READING_TIMEOUT_MS = 15_000;

export function createReading(transport: Transport, timeoutMs = READING_TIMEOUT_MS): Reading {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  return {
    now: () => ask("eve_now", {}, instants),
    keys: () => ask("eve_key_states", {}, z.array(key)),
    lanes: ({ quotaProject, model } = {}) =>
      ask("eve_lane_states", { quota_project: quotaProject ?? null, model: model ?? null }, z.array(lane)),
    requests: async (filter) => {
      const args = {
        consumer: filter.consumer ?? null,
        model: filter.model ?? null,
        key: filter.key ?? null,
        error_code: filter.errorCode ?? null,
        since: filter.since ?? null,
        until: filter.until ?? null,
        ...(filter.atMost !== undefined && { at_most: filter.atMost }),
      };
      if (filter.outcome === undefined && filter.requestId === undefined) {
        return await ask("eve_request_log", { ...args, before: filter.before ?? null }, requestPage);
      }
      const before = filter.before === undefined ? null : Number(filter.before);
      if (Number.isNaN(before) || (before ?? 0) % 1 !== 0) {
        throw new GatewayError("invalid_argument", {
          message: "before must be the next_before of this search.",
        });
      }
      const { requests, next_before } = await ask("eve_request_search", {
        ...args,
        request_id: filter.requestId ?? null,
        outcome: filter.outcome ?? null,
        before,
      }, searchPage);
      return { requests, next_before: next_before === null ? null : String(next_before) };
    },
    badRequests: ({ since, until, consumer, atMost }) =>
      ask("eve_bad_requests", {
        since: since ?? null,
        until: until ?? null,
        consumer: consumer ?? null,
        ...(atMost !== undefined && { at_most: atMost }),
      }, z.array(badRequest)),
    request: (which) =>
      ask(
        "eve_request_detail",
        "requestNo" in which
          ? { request_no: which.requestNo }
          : { request_id: which.requestId, consumer: which.consumer ?? null },
        requestDetail,
      ),
    tail: (after, atMost) => ask("eve_tail", { after, at_most: atMost }, tail),
    alerts: ({ state = "open", kind, before, atMost = 100 }) =>
      ask(
        "eve_alert_list",
        { state, kind: kind ?? null, before: before ?? null, at_most: atMost },
        z.object({ alerts: z.array(alert), next_before: z.number().nullable() }),
      ),
    alert: (id) => ask("eve_alert_detail", { id }, alertDetail),
    closeAlert: (id) => ask("eve_alert_close", { id }, alert),
    acknowledgeAlert: (id, actor) => ask("eve_alert_acknowledge", { id, actor }, alert),
    limits: () => ask("eve_limits", {}, limits),
    setLimits: (changes, { quotaProject, addModels = false, notes } = {}) =>
      ask("eve_limits_set", {
        changes,
        quota_project: quotaProject ?? null,
        add_models: addModels,
        notes: notes ?? null,
      }, z.array(changedLimit)),
    clearLimits: async (quotaProject, model) => {
      const args = { quota_project: quotaProject, model: model ?? null };
      return (await ask("eve_limits_clear", args, clearedLimits)).cleared;
    },
    clearSeenLimits: async (quotaProject, model, seen) => {
      const args = { quota_project: quotaProject, model, seen };
      return (await ask("eve_limits_clear_seen", args, clearedLimits)).cleared;
    },
    usage: (filter) =>
      ask("eve_usage", {
        by: filter.by,
        since: filter.since ?? null,
        until: filter.until ?? null,
        consumer: filter.consumer ?? null,
        model: filter.model ?? null,
        key: filter.key ?? null,
        ...(filter.atMost !== undefined && { at_most: filter.atMost }),
        ...(filter.top !== undefined && { top: filter.top }),
      }, usage),
    rollUp: async (atMostMs) => {
      const { status, error } = await ask(
        "eve_rollup",
        atMostMs === undefined ? {} : { at_most_ms: atMostMs },
        z.object({ status: z.string(), error: z.string().optional() }),
      );
      if (status === "failed") throw new GatewayError("internal", { detail: `eve_rollup: ${error}` });
      return status === "succeeded";
    },
    facts: () => ask("eve_doctor", {}, facts),
    overview: () => ask("eve_overview", {}, overview),
    usageParts: ({ since, until, consumer }) =>
      ask("eve_usage_parts", { since, until: until ?? null, consumer: consumer ?? null }, usageParts),
    find: (id) => ask("eve_find", { id }, z.array(found)),
    realtime: () => ask("eve_chat_realtime", {}, realtime),
  };
}
