/** The sums by hour and by day: exact, the same however often they are made, and corrected by what is settled late. */
import type postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
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
import { begin, runToEnd, step } from "./run_to_end.ts";
import { days, expectExact, forgetSums, hours, numbers } from "./sums.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** Ten in the evening in Los Angeles: the Pacific day turns within the hours of a test. */
const START = Date.parse("2026-11-18T06:00:00Z");

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let consumer: string;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await forgetSums(sql);
  await empty(sql, "public.google_ai_maintenance_log");
  await sql`update eve.operations set run_id = null, lease_until = null`;
  clock = await freezeClock(sql, START);
  await addKey(sql, "one", { project: "p" });
  await addKey(sql, "two", { project: "q" });
  await addModel(sql, "m");
  await addModel(sql, "n");
  await addModel(sql, "zero", { rpm: 0 });
  const [row] = await sql`insert into eve.consumers (name, kind) values ('bot', 'service') returning id`;
  consumer = row!.id;
});

/** Calls of all sorts over some hours; those left open are given back. */
async function calls(times: number, random: () => number) {
  const open = [];
  for (let n = 0; n < times; n++) {
    await clock.advance(Math.floor(random() * 20 * 60_000));
    const model = ["m", "n", "zero"][Math.floor(random() * 3)]!;
    const grant = await reserve(sql, `r${clock.nowMs()}-${n}`, {
      models: [model],
      consumerId: random() < 0.5 ? consumer : null,
      leaseMs: 60_000,
    });
    if (grant.status !== "granted") continue;
    await clock.advance(Math.floor(random() * 30_000));
    const how = random();
    if (how < 0.15) open.push(grant);
    else if (how < 0.3) {
      await settle(sql, grant, { outcome: "failed", final: false, inputTokens: 3 });
      const again = await reserve(sql, `r-none`, { models: ["zero"] });
      expect(again.status).toBe("refused");
      await settle(sql, grant, { outcome: "failed", final: true });
    } else {
      await settle(sql, grant, {
        outcome: how < 0.4 ? "cancelled" : how < 0.5 ? "failed" : "succeeded",
        dispatched: how >= 0.4,
        inputTokens: how < 0.4 ? null : Math.floor(random() * 100),
        outputTokens: how < 0.5 ? null : Math.floor(random() * 100),
      });
    }
  }
  return open;
}

describe("the sums", () => {
  test.each([1, 2])("are those of the audit, after every run (%i)", async (seed) => {
    const random = numbers(seed);
    for (let round = 0; round < 5; round++) {
      await calls(10, random);
      await clock.advance(1);
      expect((await runToEnd(sql, "rollup"))[0].status).toBe("succeeded");
      await expectExact(sql);
    }
    expect((await hours(sql)).length).toBeGreaterThan(10);
    expect(new Set((await days(sql)).map((row) => row.day)).size).toBeGreaterThan(1);
  });

  test("are the same however often they are made", async () => {
    await calls(20, numbers(7));
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    const before = await hours(sql);
    await runToEnd(sql, "rollup");
    await sql`update eve.rollup_progress set looked_until = null, rolled_until = null`;
    await runToEnd(sql, "rollup");
    expect(await hours(sql)).toEqual(before);
    await expectExact(sql);
  });

  test("are made again from the audit when they are thrown away", async () => {
    await calls(20, numbers(8));
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    const before = await hours(sql);
    await sql`update eve.usage_hours set requests = requests + 5`;
    await sql`insert into eve.usage_hours (hour, model, endpoint) values (${new Date(
      START - HOUR,
    )}, 'never', 'd')`;
    await sql`select public.eve_rollup_rebuild()`;
    expect(await hours(sql)).toEqual([]);
    await runToEnd(sql, "rollup");
    expect(await hours(sql)).toEqual(before);
    await expectExact(sql);
  });

  test("say who paid: the project's key is nobody's consumer, endpoints and keys are kept apart", async () => {
    await settle(sql, await reserve(sql, "a"), { inputTokens: 10, outputTokens: 4 });
    await settle(sql, await reserve(sql, "b", { consumerId: consumer }), {
      inputTokens: 20,
      outputTokens: 5,
    });
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    expect((await hours(sql)).map(({ consumer_id, requests, input_tokens, output_tokens, endpoint }) => ({
      consumer_id,
      requests,
      input_tokens,
      output_tokens,
      endpoint,
    }))).toEqual([
      { consumer_id: null, requests: 1, input_tokens: 10, output_tokens: 4, endpoint: "native" },
      { consumer_id: consumer, requests: 1, input_tokens: 20, output_tokens: 5, endpoint: "native" },
    ]);
  });
});

describe("what is settled late", () => {
  test("corrects the hours and the day it belongs to, days afterwards", async () => {
    const late = await reserve(sql, "late", { models: ["m"], leaseMs: 1_000 });
    await clock.advance(10_000);
    await sql`select public.eve_sweep()`;
    await clock.advance(5 * HOUR);
    await runToEnd(sql, "rollup");
    expect((await hours(sql))[0]).toMatchObject({ expired: 1, succeeded: 0, input_tokens: 0 });
    for (let n = 0; n < 40; n++) {
      await clock.advance(HOUR);
      await runToEnd(sql, "rollup");
    }
    expect(await settle(sql, late, { inputTokens: 42, outputTokens: 8 })).toEqual({ status: "late" });
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    expect(await hours(sql)).toMatchObject([
      { hour: new Date(START), expired: 0, succeeded: 1, input_tokens: 42, output_tokens: 8 },
    ]);
    await expectExact(sql);
  });

  test("corrects the hour a request came in and the one it started in, where it waited past the full hour", async () => {
    await addModel(sql, "slow", { rpm: 1 });
    await sql`update public.google_ai_api_keys set is_active = key_alias = 'one'`;
    await clock.set(START + HOUR - 30_000);
    await settle(sql, await reserve(sql, "first", { models: ["slow"] }), { inputTokens: 1 });
    const late = await reserve(sql, "late", { models: ["slow"], maxWaitMs: 90_000, leaseMs: 1_000 });
    expect(late.status).toBe("granted");
    await clock.advance(5 * 60_000);
    await sql`select public.eve_sweep()`;
    await clock.advance(5 * HOUR);
    await runToEnd(sql, "rollup");
    await settle(sql, late, { inputTokens: 42 });
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    expect((await hours(sql)).map(({ hour, requests, succeeded, input_tokens }) => ({
      hour: hour.getTime() - START,
      requests,
      succeeded,
      input_tokens,
    }))).toEqual([
      { hour: 0, requests: 2, succeeded: 2, input_tokens: 1 },
      { hour: HOUR, requests: 0, succeeded: 0, input_tokens: 42 },
    ]);
    await expectExact(sql);
  });

  test("counts once where it is settled while a rollup is under way", async () => {
    const open = await calls(30, numbers(11));
    await sql`select public.eve_sweep()`;
    await clock.advance(DAY);
    const { run_id } = await begin(sql, "rollup");
    for (const grant of open) {
      await step(sql, run_id);
      await settle(sql, grant, { inputTokens: 7 });
      await clock.advance(1_000);
    }
    while (!(await step(sql, run_id)).done);
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    await expectExact(sql);
  });
});

describe("with retention", () => {
  const keepAudit = (keep: string) =>
    sql`update eve.retention set keep = ${keep}::interval where table_name in ('eve.requests', 'eve.attempts', 'eve.refusals')`;

  test("hours whose audit is partly gone keep their sums, whatever is rolled up or rebuilt", async () => {
    for (const [id, at] of [["gone", 10], ["left", 50], ["next", 70]] as const) {
      await clock.set(START + at * 60_000);
      await settle(sql, await reserve(sql, id), { inputTokens: at });
    }
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    await clock.set(START + 9 * DAY + 30 * 60_000);
    await runToEnd(sql, "rollup");
    const before = await hours(sql);
    const daysBefore = await days(sql);
    await keepAudit("9 days");
    try {
      await runToEnd(sql, "retention");
      expect(await sql`select request_id from eve.requests order by 1`).toEqual([
        { request_id: "left" },
        { request_id: "next" },
      ]);
      await sql`select public.eve_rollup_rebuild()`;
      await runToEnd(sql, "rollup");
      expect(await hours(sql)).toEqual(before);
      expect(await days(sql)).toEqual(daysBefore);
    } finally {
      await keepAudit("30 days");
    }
  });
});

describe("a rollup", () => {
  test("that dies between two steps is taken up, and nothing is missing", async () => {
    await calls(40, numbers(21));
    await clock.advance(1);
    // So slow that a step sums up one hour and no more.
    await sql.unsafe(`
      create function public.slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.25); return null; end';
      create trigger slow after insert on eve.usage_hours for each statement execute function public.slow();
    `).simple();
    const { run_id } = await begin(sql, "rollup");
    do expect((await step(sql, run_id)).done).toBe(false); while ((await hours(sql)).length === 0);
    const last =
      await sql`select max(received_at) > (select max(hour) + interval '1 hour' from eve.usage_hours) as is_ahead from eve.requests`;
    expect(last).toEqual([{ is_ahead: true }]);
    await sql.unsafe(`drop trigger slow on eve.usage_hours; drop function public.slow`).simple();
    await clock.advance(10 * 60_000);
    expect((await runToEnd(sql, "rollup"))[0].status).toBe("succeeded");
    await expectExact(sql);
    expect(
      await sql`select status from public.google_ai_maintenance_log where operation = 'rollup' order by id`,
    ).toEqual([{ status: "failed" }, { status: "succeeded" }]);
  });

  test("names that no model has are one row, however many are asked for", async () => {
    for (let n = 0; n < 5; n++) {
      await reserve(sql, `misspelt${n}`, { models: [`gemma-${n}-${"x".repeat(180)}`] });
    }
    await sql`select public.eve_rollup()`;
    expect(await sql`select model, sum(refused)::int as refused from eve.usage_hours group by 1`).toEqual([
      { model: "(unknown)", refused: 5 },
    ]);
    expect((await sql`select distinct model from eve.refusals`).length).toBe(5);
  });

  test("for a reader brings the sums up to now in one call", async () => {
    await calls(10, numbers(31));
    await clock.advance(1);
    const [row] = await sql`select public.eve_rollup() as answer`;
    expect(row!.answer.status).toBe("succeeded");
    expect(Date.parse(row!.answer.rolled_until)).toBe(clock.nowMs());
    await expectExact(sql);
  });

  test("says so while another one is on", async () => {
    await begin(sql, "rollup");
    const [row] = await sql`select public.eve_rollup() as answer`;
    expect(row!.answer.status).toBe("skipped");
  });
});

test("the report has yesterday's numbers", async () => {
  for (const id of ["a", "b"]) {
    await settle(sql, await reserve(sql, id), { inputTokens: 10, outputTokens: 5 });
  }
  await reserve(sql, "c", { models: ["zero"] });
  await clock.advance(DAY);
  await runToEnd(sql, "rollup");
  const [done] = await runToEnd(sql, "report");
  expect(done.details).toMatchObject({
    day: "2026-11-17",
    total: { requests: 2, succeeded: 2, refused: 1, input_tokens: 20, output_tokens: 10 },
    consumers: [{ consumer: "project", requests: 2 }],
    lanes: ["p", "q"].map((quota_project) => ({ model: "m", quota_project, calls: 1, calls_allowed: null })),
    wait_ms: { p50: 0, max: 0 },
    maintenance_failed: 0,
  });
  expect(Object.values(done.details.refusals)).toEqual([1]);
  const [row] = await sql`select public.eve_report('2026-11-10') as answer`;
  expect(row!.answer).toMatchObject({ day: "2026-11-10", total: { requests: 0 }, consumers: [] });
});
