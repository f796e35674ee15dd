/** Refusals beyond a rate are counted in place of a row each, and every sum is the same as if they had been kept. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import postgres from "postgres";
import {
  addKey,
  addModel,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { expectExact, forgetSums } from "../maintenance/sums.ts";

const RATE = 30;
const FLOOD = 10_000;
/** Asked for in one transaction, each holding the lock of its request id. */
const AT_ONCE = 1_000;

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  clock = await freezeClock(sql, "2026-11-18T12:00:10Z");
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await forgetSums(sql);
  await empty(sql, "eve.metric_counters", "eve.metric_consumers");
  await sql`update eve.operations set run_id = null, lease_until = null`;
  await addModel(sql, "m", { rpm: 0 });
  await addKey(sql, "one");
  await clock.advance(3_600_000);
  await sql`select public.eve_metrics_count()`;
});

const addConsumer = async (name: string) =>
  (await sql`insert into eve.consumers (name, kind) values (${name}, 'service') returning id`)[0]!
    .id as string;
const kept = async () => (await sql`select from eve.refusals`).length;
/** So many refusals at one instant of the clock, asked for in the database itself. */
async function refuse(
  times: number,
  model: string,
  consumerId: string | null,
  tokenId: string | null = null,
) {
  for (let from = 1; from <= times; from += AT_ONCE) {
    const [row] = await sql`
      select count(*) filter (
        where public.eve_reserve(
          'r' || n, array[replace(${model}::text, '#', n::text)], 10, consumer_id => ${consumerId}, token_id => ${tokenId}
        ) ->> 'status' = 'refused'
      ) as refused
      from generate_series(${from}::int, ${Math.min(times, from + AT_ONCE - 1)}::int) n`;
    expect(Number(row!.refused)).toBe(Math.min(times, from + AT_ONCE - 1) - from + 1);
  }
}

/** What the sums, the metrics, the doctor and the report say was refused. */
async function counted(): Promise<Record<string, number>> {
  await clock.advance(1);
  await sql`select public.eve_rollup()`;
  await sql`select public.eve_metrics_count()`;
  await sql`select public.eve_metrics_count()`;
  const [row] = await sql`
    select
      (public.eve_usage() -> 'totals' ->> 'refused')::integer as usage,
      (
        select sum(value)::integer from eve.metric_counters c where c.metric = 'eve_refusals_total'
      ) as refusals_total,
      (
        select sum(value)::integer from eve.metric_counters c
        where c.metric = 'eve_requests_total' and c.labels ->> 'outcome' = 'refused'
      ) as requests_total,
      (public.eve_doctor() -> 'refused_last_hour' ->> 'kept')::integer
        + (public.eve_doctor() -> 'refused_last_hour' ->> 'counted')::integer as doctor,
      (
        select sum(times::integer)::integer
        from jsonb_each_text(eve.report_of(eve.pacific_day(eve.clock_ms())) -> 'refusals') as r (reason, times)
      ) as report`;
  await expectExact(sql);
  return { ...row } as Record<string, number>;
}
const everywhere = (times: number) => ({
  usage: times,
  refusals_total: times,
  requests_total: times,
  doctor: times,
  report: times,
});

test("[security.refusal-flood] ten thousand in a minute leave as many rows as the rate says, and are in every sum", async () => {
  await refuse(FLOOD, "m", null);
  expect(await kept()).toBe(RATE);
  expect((await sql`select from eve.refusal_counts`).length).toBe(1);
  expect(await counted()).toEqual(everywhere(FLOOD));
});

test("[security.refusal-flood] a revoked token's are counted likewise, and random names are one row of the counts and of the sums", async () => {
  const bot = await addConsumer("bot");
  const [token] = await sql`
    insert into eve.scoped_tokens (consumer_id, expires_at, revoked_at)
    values (${bot}, eve.clock() + interval '1 hour', eve.clock()) returning id`;
  await refuse(500, `model-#-${"x".repeat(180)}`, bot, token!.id);
  expect(await kept()).toBe(RATE);
  expect(await sql`select code, model, times::integer from eve.refusal_counts`).toEqual([
    { code: "token_revoked", model: "(unknown)", times: 500 - RATE },
  ]);
  expect(await counted()).toEqual(everywhere(500));
  expect(await sql`select distinct model from eve.usage_days`).toEqual([{ model: "(unknown)" }]);
  expect(await sql`select distinct labels ->> 'model' as model from eve.metric_counters`).toEqual([
    { model: "unknown" },
  ]);
});

test("names that no model has are one row of the sums, whatever they were refused for", async () => {
  const bot = await addConsumer("bot");
  await sql`update eve.consumers set models = '{m}' where name = 'bot'`;
  await refuse(20, "not-allowed-#", bot);
  expect(await sql`select distinct code from eve.refusals`).toEqual([{ code: "model_not_allowed" }]);
  await counted();
  expect(await sql`select model, refused::integer from eve.usage_days`).toEqual([
    { model: "(unknown)", refused: 20 },
  ]);
});

test("a flood of one consumer hides nobody else's refusal, and every minute starts again", async () => {
  await refuse(200, "m", null);
  const other = await addConsumer("other");
  await reserve(sql, "the-other-one", { consumerId: other });
  expect(await sql`select from eve.refusals where request_id = 'the-other-one'`).toHaveLength(1);
  await clock.advance(60_000);
  await refuse(RATE, "m", null);
  expect(await kept()).toBe(2 * RATE + 1);
  expect(await counted()).toEqual(everywhere(200 + 1 + RATE));
});

test("the rate is a setting: none are kept with 0", async () => {
  await sql`update eve.settings set value = 0 where name = 'refusals_kept_a_minute'`;
  try {
    await refuse(50, "m", null);
    expect(await kept()).toBe(0);
    expect(await counted()).toEqual(everywhere(50));
  } finally {
    await sql`update eve.settings set value = ${RATE} where name = 'refusals_kept_a_minute'`;
  }
});

test("callers at the same time stay within the rate, and none is counted twice", async () => {
  const pool = postgres(database.url, { max: 8, onnotice: () => {} });
  try {
    await Promise.all(Array.from({ length: 200 }, (_, n) => reserve(pool, `r${n}`)));
  } finally {
    await pool.end();
  }
  expect(await kept()).toBe(RATE);
  expect(await counted()).toEqual(everywhere(200));
});

test("a flood opens the alert about refusals as rows would", async () => {
  await refuse(500, "m", null);
  await sql`truncate eve.refusals`;
  await sql`select public.eve_alerts_evaluate()`;
  expect(await sql`select details ->> 'refused' as refused from eve.alerts where kind = 'refusals_high'`)
    .toEqual([
      { refused: String(500 - RATE) },
    ]);
});

test("text of callers is cut to what they may send, though the database is asked past every check", async () => {
  await sql`
    select eve.note_refusal(
      jsonb_populate_record(null::eve.call, jsonb_build_object(
        'request_id', repeat('r', 9000), 'endpoint', repeat('d', 9000), 'trace_id', repeat('t', 9000), 'attempt', 1, 'tokens', 1
      )), 'batch', 'unknown_model', repeat('m', 9000), null, null
    )`;
  expect(
    await sql`
    select length(request_id) as id, length(endpoint) as endpoint, length(trace_id) as trace, length(model) as model from eve.refusals`,
  )
    .toEqual([{ id: 200, endpoint: 40, trace: 200, model: 200 }]);
});

test.each(["endpoint", "trace_id", "request_hash"])(
  "a list takes no %s that is longer than a call by itself may have, and neither writes it down",
  async (name) => {
    await sql`update public.google_ai_model_limits set rpm = null`;
    const call = {
      request_id: "long",
      models: ["m"],
      tokens: 1,
      consumer_id: null,
      class: "interactive",
      max_wait_ms: 0,
      attempt: 1,
      exclude_keys: [],
      avoid_keys: [],
      lease_ms: 1_000,
      token_id: null,
      metadata: {},
      endpoint: "native",
      [name]: "x".repeat(9_000),
    };
    // A route is made by a call that goes by itself.
    await reserve(sql, "first");
    await clock.advance(61_000);
    const [row] = await sql`select public.eve_reserve_many(${sql.json([call])}) as answers`;
    expect(row!.answers).toEqual([null]);
    expect(await sql`select from eve.inflight where request_id = 'long'`).toHaveLength(0);
  },
);

test.each<[string, unknown]>([
  ["numbers", Array.from({ length: 5_461 }, () => 1)],
  ["characters of four bytes", "😀".repeat(16_382)],
  ["keys", Object.fromEntries(Array.from({ length: 1_500 }, (_, n) => [String(n), 0]))],
])(
  "the longest metadata that a caller may send, of %s, are in the audit; longer ones are in no table",
  async (_, metadata) => {
    await sql`update public.google_ai_model_limits set rpm = null`;
    await clock.advance(61_000);
    const long = JSON.stringify(metadata);
    const [grant] = await sql`
    select public.eve_reserve('long', array['m'], 1, metadata => ${long}::text::jsonb) as answer`;
    await settle(sql, grant!.answer);
    const [kept] =
      await sql`select length(metadata::text) as characters from eve.requests where request_id = 'long'`;
    expect(kept!.characters).toBeGreaterThan(15_000);
    await expect(sql`
    select public.eve_reserve('longer', array['m'], 1, metadata => jsonb_build_array(${long}::text::jsonb, repeat('x', 16384)))`)
      .rejects.toMatchObject({ code: "EV400" });
    await expect(sql`
    update eve.requests r set metadata = jsonb_build_array(repeat('x', 140000)) where r.request_id = 'long'`)
      .rejects.toMatchObject({ code: "23514" });
  },
);
