/** What is counted: everything once, nothing twice, never less than before, and at a cost that the audit's size does not raise. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  addKey,
  addModel,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type TestClock,
} from "../../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../../harness/database.ts";
import { empty } from "../../harness/rows.ts";

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;

beforeAll(async () => {
  database = await cloneDatabase();
  ({ sql } = database);
  clock = await freezeClock(sql, "2026-11-19T21:00:00Z");
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await empty(sql, "eve.metric_counters", "eve.metric_histograms", "eve.metric_consumers");
  await clock.advance(60_000);
  await count();
});

const count = async () => (await sql`select public.eve_metrics_count() as answer`)[0]!.answer;

interface Metrics {
  samples: [name: string, labels: Record<string, string>, value: number][];
  histograms: [
    name: string,
    labels: Record<string, string>,
    bounds: number[],
    counts: number[],
    sum: number,
  ][];
}
const read = async (): Promise<Metrics> => (await sql`select public.eve_metrics() as answer`)[0]!.answer;

async function samples(name: string): Promise<Record<string, number>> {
  const found = (await read()).samples.filter(([metric]) => metric === name);
  return Object.fromEntries(
    found.map(([, labels, value]) => [
      Object.keys(labels).sort().map((label) => labels[label]).join(" "),
      value,
    ]),
  );
}
const total = async (name: string) =>
  Object.values(await samples(name)).reduce((sum, value) => sum + value, 0);

let calls = 0;
const newCall = () => `call-${++calls}`;
async function callOnce(
  options: { model?: string; tokens?: number; input?: number; consumerId?: string } = {},
) {
  const grant = await reserve(sql, newCall(), {
    models: [options.model ?? "m"],
    tokens: options.tokens ?? 10,
    consumerId: options.consumerId ?? null,
  });
  expect(grant).toMatchObject({ status: "granted" });
  await settle(sql, grant, { inputTokens: options.input ?? 12, outputTokens: 5 });
  return grant;
}

async function addConsumer(name: string): Promise<string> {
  const [row] = await sql`insert into eve.consumers (name, kind) values (${name}, 'service') returning id`;
  return row!.id;
}

describe("counters", () => {
  beforeEach(async () => {
    await addModel(sql, "m", { rpm: 3 });
    await addKey(sql, "one", { project: "p" });
  });

  test("tell requests, attempts, tokens and refusals", async () => {
    const bot = await addConsumer("bot");
    await callOnce();
    await callOnce({ consumerId: bot });
    const third = await reserve(sql, newCall(), { class: "batch" });
    await settle(sql, third, {
      outcome: "failed",
      final: false,
      errorCode: "upstream_unavailable",
      inputTokens: 3,
    });
    expect(await reserve(sql, `call-${calls}`, { class: "batch", attempt: 2 })).toMatchObject({
      status: "refused",
    });
    await settle(sql, third, { outcome: "failed", errorCode: "upstream_unavailable", inputTokens: 3 });
    await reserve(sql, newCall(), { consumerId: bot });
    await reserve(sql, newCall(), { models: [`made-up-${calls}`] });

    // consumer endpoint model outcome
    expect(await samples("eve_requests_total")).toEqual({
      "project native m succeeded": 1,
      "bot native m succeeded": 1,
      "project native m failed": 1,
      "bot native m refused": 1,
      "project native unknown refused": 1,
    });
    // code key model outcome
    expect(await samples("eve_attempts_total")).toEqual({
      " one m succeeded": 2,
      "upstream_unavailable one m failed": 1,
    });
    // consumer model type
    expect(await samples("eve_tokens_total")).toEqual({
      "bot m input": 12,
      "bot m output": 5,
      "project m input": 15,
      "project m output": 5,
    });
    // class code limit model
    expect(await samples("eve_refusals_total")).toEqual({
      "batch rate_limited rpm m": 1,
      "interactive rate_limited rpm m": 1,
      "interactive unknown_model  unknown": 1,
    });
  });

  test("are the same when asked again, and stay when retention deletes what they came from", async () => {
    await callOnce();
    const before = (await read()).samples.filter(([name]) => name.endsWith("_total"));
    await clock.advance(5_000);
    await sql`truncate eve.requests, eve.earlier_attempts, eve.refusals`;
    expect((await read()).samples.filter(([name]) => name.endsWith("_total"))).toEqual(before);
    expect(before.length).toBeGreaterThan(2);
  });

  test("miss no call that commits late, and count none twice", async () => {
    await addModel(sql, "n"); // Another lane, whose rows the open transaction does not hold.
    const grant = await reserve(sql, newCall());
    let commit = () => {};
    const held = new Promise<void>((resolve) => commit = resolve);
    const settled = sql.begin(async (transaction) => {
      await settle(transaction as unknown as typeof sql, grant, { inputTokens: 1 });
      await held;
    });
    await callOnce({ model: "n" });
    await clock.advance(5_000);
    expect(await total("eve_requests_total")).toBe(1);
    await clock.advance(5_000);
    expect(await total("eve_requests_total")).toBe(1);
    commit();
    await settled;
    expect(await total("eve_requests_total")).toBe(2);
    await clock.advance(5_000);
    expect(await total("eve_requests_total")).toBe(2);
  });

  test("add up under load, however many count at once", async () => {
    await sql`update public.google_ai_model_limits set rpm = null`;
    const counting = { on: true };
    const counters = Array.from({ length: 3 }, async () => {
      while (counting.on) await count();
    });
    await Promise.all(Array.from({ length: 8 }, async () => {
      for (let time = 0; time < 25; time++) await callOnce();
    }));
    counting.on = false;
    await Promise.all(counters);
    expect(await total("eve_requests_total")).toBe(200);
    expect(await samples("eve_tokens_total")).toEqual({
      "project m input": 2_400,
      "project m output": 1_000,
    });
  });

  test("go on after the clock has gone back, and count nothing again when it comes there again", async () => {
    await callOnce();
    await count();
    await clock.advance(-3_600_000);
    await sql`truncate eve.lanes, eve.lane_buckets`;
    await callOnce();
    await clock.advance(40_000); // Longer than from one scrape to the next.
    expect(await total("eve_requests_total")).toBe(2);
    for (let time = 3; time < 6; time++) {
      await clock.advance(1_400_000);
      await callOnce();
      expect(await total("eve_requests_total")).toBe(time);
    }
  });

  test("get there by and by after a week in which nobody asked", async () => {
    await callOnce();
    await count();
    await clock.advance(7 * 86_400_000);
    await callOnce();
    let asked = 0;
    for (; (await count()).behind === true; asked++) expect(asked).toBeLessThan(30);
    expect(await total("eve_requests_total")).toBe(2);
  });

  test("go on in a database that was restored elsewhere, where transactions are numbered again", async () => {
    await sql`update eve.metric_sources set snapshot = '9000000000:9000000000:'`;
    await callOnce();
    await clock.advance(1_000);
    await count();
    await callOnce();
    await clock.advance(1_000);
    // What ended in the very moment of the restore may be missed.
    expect(await total("eve_requests_total")).toBeGreaterThanOrEqual(1);
    await callOnce();
    await clock.advance(1_000);
    expect(await total("eve_requests_total")).toBeGreaterThanOrEqual(2);
  });

  test("give so many consumers series of their own, and count the rest together", async () => {
    await sql`update public.google_ai_model_limits set rpm = null`;
    await sql`update eve.settings set value = 2 where name = 'metrics_consumers'`;
    try {
      await callOnce({ consumerId: await addConsumer("first") });
      await callOnce({ consumerId: await addConsumer("second") });
      await count();
      const third = await addConsumer("third");
      await callOnce({ consumerId: third });
      await clock.advance(1_000);
      expect(await samples("eve_requests_total")).toEqual({
        "first native m succeeded": 1,
        "second native m succeeded": 1,
        "other native m succeeded": 1,
      });
      // A name that has become free is not given to another's series.
      await sql`delete from eve.consumers where name = 'first'`;
      await callOnce({ consumerId: third });
      await clock.advance(1_000);
      expect((await samples("eve_requests_total"))["other native m succeeded"]).toBe(2);
    } finally {
      await sql`update eve.settings set value = 100 where name = 'metrics_consumers'`;
    }
  });
});

describe("histograms", () => {
  beforeEach(async () => {
    await addModel(sql, "m", { rpm: 1 });
    await addKey(sql, "one");
  });
  const histogram = async (name: string) => {
    const found = (await read()).histograms.filter(([metric]) => metric === name);
    expect(found).toHaveLength(1);
    const [, labels, bounds, counts, sum] = found[0]!;
    expect(counts).toHaveLength(bounds.length + 1);
    const filled = counts.flatMap((times, place) => times > 0 ? [[bounds[place] ?? Infinity, times]] : []);
    return { labels, filled, sum };
  };

  test("tell how long callers waited", async () => {
    await callOnce();
    const waiting = await reserve(sql, newCall(), { maxWaitMs: 120_000 });
    await clock.advance(waiting.wait_ms);
    await settle(sql, waiting, { inputTokens: 10 });
    expect(await histogram("eve_wait_seconds")).toMatchObject({
      labels: { class: "interactive", model: "m" },
      filled: [[0.01, 1], [100, 1]],
      sum: expect.closeTo(waiting.wait_ms / 1000, 6),
    });
  });

  test("tell how far the estimate was from the truth", async () => {
    await callOnce({ tokens: 100, input: 80 });
    expect(await histogram("eve_estimate_ratio")).toEqual({
      labels: { model: "m" },
      filled: [[1.3, 1]],
      sum: 1.25,
    });
  });

  test("a value on a bound belongs below it", async () => {
    await callOnce({ tokens: 100, input: 100 });
    expect((await histogram("eve_estimate_ratio")).filled).toEqual([[1, 1]]);
  });

  test("tell how long upstream took", async () => {
    const grant = await reserve(sql, newCall());
    await sql`select public.eve_settle(request_no => ${grant.request_no}, attempt => 1, outcome => 'succeeded', latency_ms => 1500)`;
    expect(await histogram("eve_upstream_duration_seconds")).toEqual({
      labels: { outcome: "succeeded", model: "m" },
      filled: [[2, 1]],
      sum: 1.5,
    });
  });
});

describe("gauges", () => {
  beforeEach(async () => {
    await addModel(sql, "m", { rpm: 2, tpm: 1_000, rpd: 10 });
    await addKey(sql, "one", { project: "p" });
  });

  test("tell what is left of each lane", async () => {
    await callOnce({ tokens: 100, input: 90 });
    // limit model quota_project
    expect(await samples("eve_lane_limit")).toEqual({ "rpm m p": 2, "tpm m p": 1_000, "rpd m p": 10 });
    expect(await samples("eve_lane_used")).toEqual({ "rpm m p": 1, "tpm m p": 90, "rpd m p": 1 });
    expect(await samples("eve_lane_remaining")).toEqual({ "rpm m p": 1, "tpm m p": 910, "rpd m p": 9 });
    expect(await samples("eve_lane_blocked")).toEqual({ "m p": 0 });
    await clock.advance(61_000);
    expect(await samples("eve_lane_used")).toEqual({ "rpm m p": 0, "tpm m p": 0, "rpd m p": 1 });
    await clock.advance(86_400_000);
    expect((await samples("eve_lane_used"))["rpd m p"]).toBe(0);
  });

  test("tell who waits and who runs", async () => {
    for (let time = 0; time < 2; time++) await reserve(sql, newCall());
    await reserve(sql, newCall(), { maxWaitMs: 120_000, class: "batch" });
    expect(await samples("eve_queue_length")).toEqual({ "batch m": 1, "interactive m": 0 });
    expect(await samples("eve_requests_running")).toEqual({ "batch m": 0, "interactive m": 2 });
  });

  test("tell the state of each key, two of one name apart", async () => {
    await sql`insert into public.google_ai_api_keys (key_alias, env_var_name, is_active) values ('off', 'OFF', false)`;
    await sql`update public.google_ai_api_keys set blocked_until = eve.clock() + interval '1 hour', blocked_reason = 'x' where key_alias = 'one'`;
    expect(await samples("eve_key_state")).toEqual({
      "one p active": 0,
      "one p blocked": 1,
      "one p off": 0,
      "off key:off active": 0,
      "off key:off blocked": 0,
      "off key:off off": 1,
    });
  });

  test("tell alerts, maintenance and what is learned", async () => {
    await sql`select eve.open_alert('upstream_errors', 'a', 'critical', 'x'), eve.open_alert('upstream_errors', 'b', 'critical', 'x')`;
    await sql`update eve.operations set last_status = 'failed', last_succeeded_at = eve.clock() - interval '90 seconds' where name = 'sweep'`;
    const alerts = await samples("eve_alerts_open");
    expect(alerts["upstream_errors critical"]).toBe(2);
    expect(alerts["upstream_errors warning"]).toBe(0);
    expect((await samples("eve_maintenance_age_seconds"))["sweep"]).toBe(90);
    expect((await samples("eve_maintenance_failed"))["sweep"]).toBe(1);
    expect(await samples("eve_estimate_factor")).toEqual({ m: 1 });
    expect(await samples("eve_metrics_behind_seconds")).toEqual({ "": 0 });
    expect(Object.keys(await samples("eve_table_bytes"))).toHaveLength(6);
  });

  test("are returned by a database that cannot be written to, too", async () => {
    await callOnce();
    await count();
    await clock.advance(1_000);
    await sql.begin(async (transaction) => {
      await transaction`set transaction read only`;
      const [row] = await transaction`select public.eve_metrics() as answer`;
      const names = new Set((row!.answer as Metrics).samples.map(([name]) => name));
      expect([...names]).toEqual(expect.arrayContaining(["eve_requests_total", "eve_lane_limit"]));
    });
  });
});

test("no series is shown twice, whatever the keys are called", async () => {
  await addModel(sql, "m");
  await addKey(sql, "same");
  await sql`insert into public.google_ai_api_keys (key_alias, env_var_name) values (null, 'A'), (null, 'B')`;
  await callOnce();
  const { samples } = await read();
  const series = samples.map(([name, labels]) => JSON.stringify([name, labels]));
  expect(new Set(series).size).toBe(series.length);
});

test("a scrape costs no more when the audit is large", async () => {
  await sql`
    insert into eve.requests (request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, attempts, wait_ms,
      received_at, finished_at, metadata)
    select n, '00000000-0000-0000-0000-000000000000', 'old-' || n, 'batch', 'native', 'm', 'm', 'succeeded', 1, 0,
      eve.clock() - interval '2 days', eve.clock() - interval '1 day', '{}'
    from generate_series(1000001, 1100000) n`;
  await count();
  // The whole table has some 1,900 pages. What a scrape reads of the catalogs, because others in this server have changed theirs, is counted
  // with it: the next one does without.
  await expect.poll(async () => {
    await clock.advance(15_000);
    const [plan] = await sql`explain (analyze, buffers, format json) select public.eve_metrics_count()`;
    const { Plan } =
      (plan as unknown as { "QUERY PLAN": [{ Plan: Record<string, number> }] })["QUERY PLAN"][0];
    return (Plan["Shared Hit Blocks"] ?? 0) + (Plan["Shared Read Blocks"] ?? 0);
  }).toBeLessThan(700);
  await sql`truncate eve.requests`;
});
