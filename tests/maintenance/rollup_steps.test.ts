/** Rollup in steps: whatever is killed in between, settled late or cannot be summed, the sums are those of a plain count. */
import fc from "fast-check";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  addKey,
  addModel,
  type Answer,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { begin, lastLogged, runToEnd, step } from "./run_to_end.ts";
import { days, expectExact, forgetSums, hours } from "./sums.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** Half an hour before midnight in Los Angeles. */
const START = Date.parse("2026-11-18T07:30:00Z");

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let consumer: string;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  clock = await freezeClock(sql, START);
});
afterAll(() => database?.drop());

async function startOver(): Promise<void> {
  await clearLedger(sql);
  await forgetSums(sql);
  await empty(sql, "public.google_ai_maintenance_log");
  await sql`update eve.operations set run_id = null, lease_until = null`;
  await clock.set(START);
  await addKey(sql, "one", { project: "p" });
  await addModel(sql, "m");
  await addModel(sql, "zero", { rpm: 0 });
  const [row] = await sql`insert into eve.consumers (name, kind) values ('bot', 'service') returning id`;
  consumer = row!.id;
}
beforeEach(startOver);

/** The function that runs is dead: what it held runs out, and another one may begin. */
const died = () => sql`update eve.operations set lease_until = eve.clock() where name = 'rollup'`;

describe("whatever happens between two steps", () => {
  type Deed =
    | { do: "call"; ms: number; how: "settled" | "open" | "refused" | "retried"; bot: boolean }
    | { do: "late" }
    | { do: "wait"; minutes: number }
    | { do: "steps"; steps: number };

  const deed = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("call" as const),
        ms: fc.integer({ min: 0, max: 4 * MINUTE }),
        how: fc.constantFrom("settled" as const, "open" as const, "refused" as const, "retried" as const),
        bot: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.constant({ do: "late" as const }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("wait" as const), minutes: fc.integer({ min: 1, max: 300 }) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("steps" as const), steps: fc.integer({ min: 0, max: 12 }) }),
    },
  );

  test("the sums are those of a plain count", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(deed, { minLength: 5, maxLength: 40 }), async (deeds: Deed[]) => {
        await startOver();
        const open: Answer[] = [];
        let number = 0;
        for (const one of deeds) {
          if (one.do === "wait") {
            await clock.advance(one.minutes * MINUTE);
            await sql`select public.eve_sweep()`;
          } else if (one.do === "late") {
            const grant = open.shift();
            if (grant) await settle(sql, grant, { inputTokens: 7, outputTokens: 3 });
          } else if (one.do === "steps") {
            const { run_id, status } = await begin(sql, "rollup");
            expect(status).toBe("running");
            for (let n = 0; n < one.steps; n++) if ((await step(sql, run_id)).done) break;
            await died();
          } else {
            await clock.advance(one.ms);
            const grant = await reserve(sql, `r${number++}`, {
              models: [one.how === "refused" ? "zero" : "m"],
              consumerId: one.bot ? consumer : null,
              leaseMs: MINUTE,
            });
            if (grant.status !== "granted") continue;
            if (one.how === "open") open.push(grant);
            else if (one.how === "settled") await settle(sql, grant, { inputTokens: 11, outputTokens: 5 });
            else {
              await settle(sql, grant, { outcome: "failed", final: false, inputTokens: 2 });
              await clock.advance(40_000);
              const again = await reserve(sql, `r${number - 1}`, {
                consumerId: one.bot ? consumer : null,
                attempt: 2,
                requestNo: null,
              });
              if (again.status === "granted") await settle(sql, again, { inputTokens: 11 });
            }
          }
        }
        await clock.advance(1);
        expect((await runToEnd(sql, "rollup"))[0].status).toBe("succeeded");
        await expectExact(sql);
        expect(await sql`select from eve.rollup_due`).toHaveLength(0);
      }),
      { numRuns: 15 },
    );
  });
});

/** An hour of calls, so many in each second, as if they had been made. */
async function busyHour(hour: number, perSecond: number): Promise<void> {
  await sql`
    insert into eve.requests
      (request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, attempts, wait_ms, received_at,
        finished_at, metadata)
    select 1000000 + n, '00000000-0000-0000-0000-000000000000', 'busy' || n, 'batch', 'native', 'm', 'm', 'succeeded', 1, 0, at, at, '{}'
    from (
      select n, to_timestamp(${hour / 1000}::float8 + n / ${perSecond}::float8) as at
      from generate_series(0, ${3600 * perSecond - 1}::int) n
    ) calls`;
  await sql`
    insert into eve.earlier_attempts
      (request_no, attempt, lane_id, key_id, model, class, start_ms, bucket_after_ms, tokens_booked, input_tokens, outcome, dispatched,
        settled_at)
    select r.request_no, 1, 1, k.id, 'm', 'batch', extract(epoch from r.received_at) * 1000, 0, 1, 3, 'succeeded', true,
      r.finished_at
    from eve.requests r, public.google_ai_api_keys k
    where r.request_id like 'busy%'`;
}

test("a settlement that commits after the run that looked through its time is in the next", async () => {
  const grant = await reserve(sql, "slow to commit");
  const other = postgres(database.url, { max: 1, onnotice: () => {} });
  try {
    await other.begin(async (transaction) => {
      await settle(transaction as unknown as postgres.Sql, grant, { inputTokens: 9 });
      await clock.advance(5 * MINUTE);
      await runToEnd(sql, "rollup");
      expect(await hours(sql)).toEqual([]);
    });
  } finally {
    await other.end();
  }
  await clock.advance(5 * MINUTE);
  await runToEnd(sql, "rollup");
  expect(await hours(sql)).toHaveLength(1);
  await expectExact(sql);
});

describe("an hour with more than a step can take", () => {
  test("goes on after a run that was killed, and no step begins it again", async () => {
    await busyHour(START, 10);
    await clock.set(START + 2 * HOUR);
    // So slow that a step sums one piece of the hour.
    await sql.unsafe(`
      create function public.slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.25); return null; end';
      create trigger slow after insert on eve.usage_slices for each statement execute function public.slow();
    `).simple();
    const { run_id } = await begin(sql, "rollup");
    const summed = async () => (await sql`select max(slice) as until from eve.usage_slices`)[0]!.until;
    while (await summed() === null) expect((await step(sql, run_id)).done).toBe(false);
    await step(sql, run_id);
    const done = { until: await summed() };
    expect(done.until.getTime()).toBeLessThan(START + 50 * MINUTE);
    await sql.unsafe("drop trigger slow on eve.usage_slices; drop function public.slow").simple();
    await died();

    // Whatever is summed again would be counted here.
    await sql.unsafe(`
      create table public.summed_again (slice timestamptz);
      create function public.note_summed() returns trigger language plpgsql as
        'begin insert into public.summed_again values (new.slice); return new; end';
      create trigger note_summed before insert on eve.usage_slices for each row execute function public.note_summed();
    `).simple();
    try {
      const next = await begin(sql, "rollup");
      await step(sql, next.run_id);
      const [again] = await sql`select count(*) as n, count(*) filter (where slice <= ${
        done!.until
      }) as again from public.summed_again`;
      expect(Number(again!.n)).toBeGreaterThan(0);
      // One slice, of a key and of none, is on the edge of what had been looked through.
      expect(Number(again!.again)).toBeLessThanOrEqual(2);
      while (!(await step(sql, next.run_id)).done);
    } finally {
      await sql.unsafe(
        "drop trigger note_summed on eve.usage_slices; drop function public.note_summed; drop table public.summed_again",
      )
        .simple();
    }
    await expectExact(sql);
  });

  test("that is settled late long afterwards is made again from all of its slices", async () => {
    const late = await reserve(sql, "late", { leaseMs: 1_000 });
    await busyHour(START, 1);
    await clock.advance(5_000);
    await sql`select public.eve_sweep()`;
    await clock.advance(10 * HOUR);
    await runToEnd(sql, "rollup");
    expect(await sql`select from eve.usage_slices`).toHaveLength(0);
    await settle(sql, late, { inputTokens: 42 });
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    await expectExact(sql);
    expect((await hours(sql))[0]).toMatchObject({ expired: 0 });
  });
});

describe("what cannot be summed", () => {
  /** A row of the audit whose waiting time alone fills the sum. */
  const fillsTheSum = (id: string) =>
    sql`update eve.requests set wait_ms = 9223372036854775807 where request_id = ${id}`;
  const alert = () =>
    sql`select message from eve.alerts where kind = 'rollup_set_aside' and closed_at is null`;

  test("is set aside with an alert, and the rest continues, retention too", async () => {
    for (const id of ["a", "b", "c"]) {
      await settle(sql, await reserve(sql, id), { inputTokens: 10 });
    }
    await fillsTheSum("a");
    await fillsTheSum("b");
    await clock.advance(HOUR);
    await settle(sql, await reserve(sql, "later"), { inputTokens: 10 });
    await clock.advance(1);
    expect((await runToEnd(sql, "rollup"))[0]).toMatchObject({ status: "succeeded" });
    // The second row that fills the sum is left out, and its attempt counts.
    expect(await sql`select requests::integer, attempts::integer from eve.usage_hours order by hour, key_id`)
      .toEqual([{ requests: 2, attempts: 3 }, { requests: 1, attempts: 1 }]);
    expect(await sql`select source, error from eve.rollup_set_aside`).toEqual([
      { source: "requests", error: expect.stringContaining("out of range") },
    ]);
    expect((await alert())[0]!.message).toContain("1 rows of the audit");

    await clock.advance(40 * 24 * HOUR);
    expect((await runToEnd(sql, "rollup"))[0]).toMatchObject({ status: "succeeded" });
    expect((await runToEnd(sql, "retention"))[0].details.deleted).toMatchObject({ "eve.requests": 4 });
  });

  test("is summed once it is fixed and the sums are made again, and the alert closes", async () => {
    for (const id of ["a", "b"]) await settle(sql, await reserve(sql, id), { inputTokens: 10 });
    await fillsTheSum("a");
    await fillsTheSum("b");
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    expect(await alert()).toHaveLength(1);
    await sql`update eve.requests set wait_ms = 5`;
    await sql`select public.eve_rollup_rebuild(${new Date(START)})`;
    await runToEnd(sql, "rollup");
    expect(await alert()).toHaveLength(0);
    await expectExact(sql);
  });

  test("as an hour or a day holds up nothing either, and is tried again", async () => {
    await settle(sql, await reserve(sql, "a"), { inputTokens: 10 });
    await clock.advance(2 * HOUR);
    await settle(sql, await reserve(sql, "b"), { inputTokens: 10 });
    await clock.advance(1);
    await sql.unsafe(`
      alter table eve.usage_hours add constraint mine check (hour <> '${
      new Date(Math.floor(START / HOUR) * HOUR).toISOString()
    }')`).simple();
    try {
      expect((await runToEnd(sql, "rollup"))[0]).toMatchObject({ status: "succeeded" });
    } finally {
      await sql`alter table eve.usage_hours drop constraint mine`;
    }
    expect(await hours(sql)).toHaveLength(1);
    expect(await alert()).toHaveLength(1);
    await clock.advance(2 * HOUR);
    await runToEnd(sql, "rollup");
    expect(await hours(sql)).toHaveLength(2);
    expect(await alert()).toHaveLength(0);
    await expectExact(sql);
  });
});

describe("rollup and retention", () => {
  test("retention continues where rollup is stuck, and deletes nothing that is not in the sums", async () => {
    await settle(sql, await reserve(sql, "old"), { inputTokens: 10 });
    await clock.advance(2 * HOUR);
    await runToEnd(sql, "rollup");
    const [{ id }] = await sql`
      insert into public.token_usage (ts, model) values (now() - interval '3 years', 'm') returning id` as [
      { id: string },
    ];
    await clock.advance(40 * 24 * HOUR);
    await settle(sql, await reserve(sql, "young"), { inputTokens: 10 });
    const holder = postgres(database.url, { max: 1, onnotice: () => {} });
    try {
      await holder.begin(async (transaction) => {
        // Rollup in the middle of a step that does not end.
        await transaction`select from eve.rollup_progress for update`;
        const [done] = await runToEnd(sql, "retention");
        expect(done).toMatchObject({ status: "succeeded" });
        expect(await sql`select from public.token_usage where id = ${id}`).toHaveLength(0);
        expect(await sql`select from eve.requests where request_id = 'old'`).toHaveLength(1);
      });
    } finally {
      await holder.end();
    }
    await clock.advance(1);
    await runToEnd(sql, "rollup");
    expect((await runToEnd(sql, "retention"))[0].details.deleted).toMatchObject({ "eve.requests": 1 });
    const sums = await days(sql);
    await runToEnd(sql, "rollup");
    expect(await days(sql)).toEqual(sums);
  });

  test("rollup continues where retention waits for a row that somebody holds", async () => {
    await settle(sql, await reserve(sql, "old"), { inputTokens: 10 });
    await clock.advance(40 * 24 * HOUR);
    await runToEnd(sql, "rollup");
    await settle(sql, await reserve(sql, "young"), { inputTokens: 10 });
    await clock.advance(1);
    const holder = postgres(database.url, { max: 1, onnotice: () => {} });
    const other = postgres(database.url, { max: 1, onnotice: () => {} });
    let retention: Promise<unknown> = Promise.resolve();
    try {
      await holder.begin(async (transaction) => {
        await transaction`select from eve.requests where request_id = 'old' for update`;
        retention = runToEnd(other, "retention");
        await expect.poll(async () =>
          (await sql`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
            .length
        ).toBe(1);
        expect((await runToEnd(sql, "rollup"))[0]).toMatchObject({ status: "succeeded" });
      });
      await retention;
    } finally {
      await holder.end();
      await other.end();
    }
    expect(await lastLogged(sql, "retention")).toMatchObject({ status: "succeeded" });
    expect((await hours(sql)).map(({ requests }) => requests)).toEqual([1, 1]);
  });
});
