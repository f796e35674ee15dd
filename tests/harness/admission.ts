/** What tests of admission need: keys and models as rows, a clock that stands still, and the two calls. */
import type postgres from "postgres";
import { empty } from "./rows.ts";

export interface ReserveOptions {
  models?: string[];
  tokens?: number;
  consumerId?: string | null;
  class?: "interactive" | "batch";
  maxWaitMs?: number;
  attempt?: number;
  excludeKeys?: string[];
  avoidKeys?: string[];
  leaseMs?: number;
  tokenId?: string | null;
  /** What `tokens` are: true, upstream's count; false, an estimate that could be counted; null, one that cannot. */
  counted?: boolean | null;
  /** Continues an attempt: batch that was told `waiting` asks again, or a start is booked again. */
  requestNo?: number | string | null;
  /** The longest answer; null: the request does not say; 0: it has none. */
  maxOutput?: number | null;
}

// deno-lint-ignore no-explicit-any -- the answers are JSON whose fields the tests look at.
export type Answer = any;

/** A key to avoid that nobody has: such a call goes step by step, and is the same otherwise. */
export const STEP_BY_STEP: ReserveOptions = { avoidKeys: ["00000000-0000-4000-8000-000000000009"] };

/** Of callers who choose their ids, as all of them do here: the same id is the same request. */
const hashOf = (requestId: string) => `hash of ${requestId}`;

export async function reserve(
  sql: postgres.Sql,
  requestId: string,
  options: ReserveOptions = {},
): Promise<Answer> {
  const [row] = await sql`
    select public.eve_reserve(
      request_id => ${requestId}, models => ${options.models ?? ["m"]}, tokens => ${options.tokens ?? 10},
      consumer_id => ${options.consumerId ?? null}, class => ${options.class ?? "interactive"},
      max_wait_ms => ${options.maxWaitMs ?? 0}, attempt => ${options.attempt ?? 1},
      exclude_keys => ${options.excludeKeys ?? []}, avoid_keys => ${options.avoidKeys ?? []},
      lease_ms => ${options.leaseMs ?? 180_000}, token_id => ${options.tokenId ?? null},
      request_hash => ${hashOf(requestId)}, counted => ${options.counted ?? null}, request_no => ${
    options.requestNo ?? null
  },
      max_output_tokens => ${options.maxOutput ?? null}
    ) as answer`;
  return row!.answer;
}

/** Reservations as the ledger sends them together; null: to be asked for one by one. */
export async function reserveMany(
  sql: postgres.Sql,
  calls: ({ requestId: string } & ReserveOptions)[],
): Promise<(Answer | null)[]> {
  const args = calls.map(({ requestId, ...options }) => ({
    request_id: requestId,
    models: options.models ?? ["m"],
    tokens: options.tokens ?? 10,
    consumer_id: options.consumerId ?? null,
    class: options.class ?? "interactive",
    max_wait_ms: options.maxWaitMs ?? 0,
    attempt: options.attempt ?? 1,
    exclude_keys: options.excludeKeys ?? [],
    avoid_keys: options.avoidKeys ?? [],
    lease_ms: options.leaseMs ?? 180_000,
    token_id: options.tokenId ?? null,
    endpoint: "native",
    trace_id: null,
    metadata: {},
    request_hash: hashOf(requestId),
    counted: options.counted ?? null,
  }));
  const [row] = await sql`select public.eve_reserve_many(${sql.json(args as never)}) as answers`;
  return row!.answers;
}

/**
 * `reserve`, for callers who are there at the same moment in lists of up to `most`, each over a connection of its own; what
 * is not granted so is asked for one by one.
 */
export function inLists(most: number): typeof reserve {
  let waiting: { call: { requestId: string } & ReserveOptions; resolve: (answer: Answer) => void }[] = [];
  return async (sql, requestId, options = {}) => {
    const answer = await new Promise<Answer>((resolve, reject) => {
      waiting.push({ call: { requestId, ...options }, resolve });
      if (waiting.length > 1) return;
      queueMicrotask(() => {
        const all = waiting;
        waiting = [];
        for (let from = 0; from < all.length; from += most) {
          const some = all.slice(from, from + most);
          reserveMany(sql, some.map(({ call }) => call)).then(
            (answers) => some.forEach(({ resolve }, place) => resolve(answers[place])),
            reject,
          );
        }
      });
    });
    return answer ?? await reserve(sql, requestId, options);
  };
}

export interface SettleOptions {
  outcome?: "succeeded" | "failed" | "cancelled";
  final?: boolean;
  dispatched?: boolean;
  inputTokens?: number | null;
  outputTokens?: number | null;
  block?: Record<string, string | number> | null;
  errorCode?: string | null;
  upstreamStatus?: number | null;
}

export async function settle(
  sql: postgres.Sql,
  grant: { request_no: number | string; attempt: number },
  options: SettleOptions = {},
): Promise<Answer> {
  const [row] = await sql`
    select public.eve_settle(
      request_no => ${grant.request_no}, attempt => ${grant.attempt}, outcome => ${
    options.outcome ?? "succeeded"
  },
      final => ${options.final ?? true}, dispatched => ${options.dispatched ?? true},
      input_tokens => ${options.inputTokens ?? null}, output_tokens => ${options.outputTokens ?? null},
      upstream_status => ${options.upstreamStatus ?? null}, error_code => ${
    options.errorCode ?? null
  }, block => ${options.block ? sql.json(options.block) : null}
    ) as answer`;
  return row!.answer;
}

export const cancel = (sql: postgres.Sql, grant: { request_no: number | string; attempt: number }) =>
  settle(sql, grant, { outcome: "cancelled", dispatched: false });

export async function addKey(
  sql: postgres.Sql,
  alias: string,
  options: { project?: string | null; priority?: number } = {},
): Promise<string> {
  const [row] = await sql`
    insert into public.google_ai_api_keys (key_alias, env_var_name, quota_project, priority)
    values (${alias}, ${"KEY_" + alias}, ${options.project ?? null}, ${options.priority ?? 100})
    returning id`;
  return row!.id;
}

export interface ModelOptions {
  rpm?: number | null;
  tpm?: number | null;
  rpd?: number | null;
  /** Starts a minute that batch leaves unused; 0 by default here, so that a test about limits is about limits. */
  floor?: number;
  reserve?: number;
  reserveDay?: number;
  /** Share of each minute and day that interactive callers leave to batch that waits; 0 by default here. */
  batchFloor?: number;
}

export async function addModel(sql: postgres.Sql, model: string, options: ModelOptions = {}): Promise<void> {
  await sql`
    insert into public.google_ai_model_limits
      (model, rpm, tpm, rpd, interactive_floor, interactive_reserve, interactive_reserve_day, batch_floor)
    values (${model}, ${options.rpm ?? null}, ${options.tpm ?? null}, ${options.rpd ?? null}, ${
    options.floor ?? 0
  },
      ${options.reserve ?? 0}, ${options.reserveDay ?? 0}, ${options.batchFloor ?? 0})`;
}

/** What a run leaves behind, in an order that foreign keys allow. */
const LEDGER = [
  "eve.inflight",
  "eve.earlier_attempts",
  "eve.requests",
  "eve.request_keys",
  "eve.request_results",
  "eve.refusals",
  "eve.refusal_counts",
  "eve.refusal_minutes",
  "eve.lane_buckets",
  "eve.lanes",
  "eve.scoped_tokens",
  "eve.consumer_days",
  "eve.key_model_blocks",
  "eve.quota_overrides",
  "public.google_ai_api_keys",
  "public.google_ai_model_limits",
  "public.google_ai_usage_counters",
  "public.token_usage",
  "eve.alerts",
];

/** Empties the ledger and the model and key rows, so that one database serves many runs. */
export async function clearLedger(sql: postgres.Sql): Promise<void> {
  await empty(sql, ...LEDGER);
  await sql`delete from eve.consumers where kind <> 'project'`;
  // Exact figures need estimates that stay what they are.
  await sql`update eve.settings set value = 0 where name = 'learn_one_in'`;
  // Lines of one consumer are as long as a test needs them; waiting_share.test.ts is about the share.
  await sql`update eve.settings set value = 0 where name = 'waiting_share_percent'`;
  // The next test's clock may stand before this one's: no jump that the sweep should follow.
  await sql`update eve.clock_watch set seen_ms = 0`;
}

export interface TestClock {
  nowMs(): number;
  set(instant: number | string): Promise<void>;
  advance(ms: number): Promise<void>;
}

/** Puts a clock in the place of the database's own: it stands until it is moved. */
export async function freezeClock(
  sql: postgres.Sql,
  start: number | string = "2026-11-18T12:00:00Z",
): Promise<TestClock> {
  let now = typeof start === "number" ? start : Date.parse(start);
  await sql`create table if not exists public.test_clock (ms bigint)`;
  await sql`truncate public.test_clock`;
  await sql`insert into public.test_clock values (${now})`;
  await sql.unsafe(`
    create or replace function eve.clock_ms() returns bigint language sql volatile set search_path = ''
    as $$ select ms from public.test_clock $$`);
  const set = async (instant: number | string) => {
    now = typeof instant === "number" ? instant : Date.parse(instant);
    await sql`update public.test_clock set ms = ${now}`;
  };
  return { nowMs: () => now, set, advance: (ms) => set(now + ms) };
}
