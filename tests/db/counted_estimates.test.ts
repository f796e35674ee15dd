/** Who is asked to have a prompt counted upstream before it is booked, and what is booked with and without a count. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  addKey,
  addModel,
  cancel,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let db: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
let key: string;

beforeAll(async () => {
  db = await cloneDatabase();
  sql = postgres(db.url, { onnotice: () => {} });
  clock = await freezeClock(sql);
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await db?.drop();
});
beforeEach(async () => {
  await clearLedger(sql);
  await clock.set("2026-11-18T12:00:00Z");
  key = await addKey(sql, "a");
  // An even share of its tokens is 500 a request.
  await addModel(sql, "m", { rpm: 2, tpm: 1000 });
  await sql`update public.google_ai_model_limits set estimate_factor = 1.2, estimate_ceiling = 1.5`;
});

/** Everything that a call may write. */
async function written(): Promise<number> {
  const [row] = await sql`
    select (select count(*) from eve.inflight) + (select count(*) from eve.refusals) + (select count(*) from eve.lane_buckets)
      + (select coalesce(sum(turns), 0) from eve.lanes) as count`;
  return Number(row!.count);
}

describe("what is booked", () => {
  test("a count teaches nothing about estimates", async () => {
    await sql`update eve.settings set value = 1 where name = 'learn_one_in'`;
    const factor = async () =>
      (await sql`select estimate_factor from public.google_ai_model_limits`)[0]!.estimate_factor;
    await settle(sql, await reserve(sql, "counted", { tokens: 400, counted: true }), { inputTokens: 400 });
    expect(await factor()).toBe(1.2);
    await settle(sql, await reserve(sql, "estimated", { tokens: 100 }), { inputTokens: 200 });
    expect(await factor()).toBeGreaterThan(1.2);
    await sql`update eve.settings set value = 8 where name = 'learn_one_in'`;
  });

  test("a count is booked as it is", async () => {
    expect(await reserve(sql, "r", { tokens: 1000, counted: true }))
      .toMatchObject({
        status: "granted",
        tokens: 1000,
      });
  });

  test("an estimate that nobody can count is booked by what such estimates turned out to be", async () => {
    expect(await reserve(sql, "r", { tokens: 100 })).toMatchObject({
      status: "granted",
      tokens: 120,
    });
  });

  test("an estimate that could be counted and need not be is booked at the model's ceiling", async () => {
    expect(await reserve(sql, "r", { tokens: 100, counted: false }))
      .toMatchObject({
        status: "granted",
        tokens: 180,
      });
  });
});

describe("who is asked to count", () => {
  test("batch with a prompt above an even share of the tokens, and nothing is written or taken", async () => {
    await reserve(sql, "before", { tokens: 1 }); // So that the lane is there.
    const before = await written();
    expect(
      await reserve(sql, "r", {
        tokens: 420,
        class: "batch",
        counted: false,
        maxWaitMs: 1_000,
      }),
    ).toEqual({
      status: "count",
      request_id: "r",
      attempt: 1,
      model: "m",
      requested_model: "m",
      key: { id: key, alias: "a", env_var_name: "KEY_a", provider: "google" },
      tokens_if_not_counted: 630,
    });
    expect(await written()).toBe(before);
    expect(
      await reserve(sql, "r", { tokens: 400, class: "batch", counted: true }),
    ).toMatchObject({
      status: "granted",
      tokens: 400,
    });
  });

  test("batch with a small prompt is not", async () => {
    expect(
      await reserve(sql, "r", { tokens: 400, class: "batch", counted: false }),
    ).toMatchObject({
      status: "granted",
    });
  });

  test("a person whose call can start is not, whatever its size", async () => {
    expect(await reserve(sql, "r", { tokens: 500, counted: false }))
      .toMatchObject({ status: "granted" });
  });

  test("a person who would wait for tokens is", async () => {
    await reserve(sql, "first", { tokens: 900, counted: true });
    expect(await reserve(sql, "r", { tokens: 90, counted: false }))
      .toMatchObject({ status: "count" });
    expect(await reserve(sql, "r", { tokens: 90, counted: true }))
      .toMatchObject({
        status: "granted",
        wait_ms: 0,
      });
  });

  test("a caller who waits for requests with a small prompt is not", async () => {
    await reserve(sql, "first", { tokens: 1, counted: true });
    await reserve(sql, "second", { tokens: 1, counted: true });
    expect(
      await reserve(sql, "r", {
        tokens: 90,
        counted: false,
        maxWaitMs: 100_000,
      }),
    ).toMatchObject({
      status: "granted",
      wait_ms: 60_250,
    });
  });

  test("a prompt that is too large by its ceiling only is counted, not refused", async () => {
    expect(await reserve(sql, "r", { tokens: 800, counted: false }))
      .toMatchObject({ status: "count" });
    expect(await reserve(sql, "far", { tokens: 2000, counted: false }))
      .toMatchObject({
        status: "refused",
        code: "prompt_too_large",
      });
  });

  test("when counting fails, the estimate at its ceiling is booked, with the factor", async () => {
    await sql`update public.google_ai_model_limits set estimate_factor = 1`;
    const { tokens_if_not_counted } = await reserve(sql, "r", {
      tokens: 600,
      class: "batch",
      counted: false,
    });
    expect(tokens_if_not_counted).toBe(900);
    const grant = await reserve(sql, "r", {
      tokens: tokens_if_not_counted,
      class: "batch",
    });
    expect(grant).toMatchObject({ status: "granted", tokens: 900 });
    expect(await cancel(sql, grant)).toEqual({ status: "settled" });
  });
});
