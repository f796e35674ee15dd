/** The database's clock goes back: nothing too much is granted, and no lane stays mute until the clock has come that far again. */
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

let database: TestDatabase;
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
});
afterAll(() => database?.drop());

const HOUR_MS = 3_600_000;
const NOON = "2026-11-18T20:00:00Z";

beforeEach(async () => {
  const { sql } = database;
  await clearLedger(sql);
  await empty(sql, "eve.consumer_minutes");
  clock = await freezeClock(sql, NOON);
  await addKey(sql, "one");
  await sql`update eve.clock_watch set seen_ms = eve.clock_ms(), jumps = 0, last_jump_at = null,
    ahead_ms = 0, request_no = 0, refusal_id = 0`;
});

const sweep = async (): Promise<void> => {
  await database.sql`select public.eve_sweep()`;
};

async function use(count: number, name = "r"): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (let n = 0; n < count; n++) answers.push(await reserve(database.sql, `${name}${n}`));
  return answers;
}

const granted = (answers: Answer[]) => answers.filter((answer) => answer.status === "granted").length;

describe.each([[HOUR_MS], [90_000], [7 * 24 * HOUR_MS]])("[fault.clock-jumps] back by %i ms", (backMs) => {
  test("the window keeps what is in it, and empties in its time", async () => {
    await addModel(database.sql, "m", { rpm: 5 });
    expect(granted(await use(5))).toBe(5);
    await sweep();
    await clock.advance(-backMs);
    await sweep();
    const refused = await reserve(database.sql, "too early");
    expect(refused).toMatchObject({ status: "refused", code: "rate_limited" });
    expect(refused.retry_after_ms).toBeLessThanOrEqual(60_250 + 30_125);
    await clock.advance(60_100);
    expect(await reserve(database.sql, "still too early")).toMatchObject({ status: "refused" });
    await clock.advance(200);
    expect(granted(await use(6, "later"))).toBe(5);
  });

  test("what is left of the window can be used at once", async () => {
    await addModel(database.sql, "m", { rpm: 5 });
    await use(3);
    await sweep();
    await clock.advance(-backMs);
    await sweep();
    expect(granted(await use(4, "now"))).toBe(2);
  });

  test("a call that runs settles at its own place, and its lease ends in its time", async () => {
    await addModel(database.sql, "m", { tpm: 100 });
    const [dies] = [await reserve(database.sql, "dies", { tokens: 10, leaseMs: 30_000 })];
    const lives = await reserve(database.sql, "lives", { tokens: 60 });
    await sweep();
    await clock.advance(-backMs);
    await sweep();
    await settle(database.sql, lives, { inputTokens: 20 });
    expect(await reserve(database.sql, "fits", { tokens: 70 })).toMatchObject({ status: "granted" });
    expect(await reserve(database.sql, "does not", { tokens: 1 })).toMatchObject({ status: "refused" });
    await clock.advance(31_000);
    await sweep();
    const [row] = await database.sql`select state from eve.requests where request_no = ${dies.request_no}`;
    expect(row).toEqual({ state: "expired" });
  });
});

test("back by more than the sweep saw: at most a minute is lost on top", async () => {
  await addModel(database.sql, "m", { rpm: 5 });
  await sweep();
  await clock.advance(50_000);
  await use(5);
  await clock.advance(-HOUR_MS);
  await sweep();
  await clock.advance(60_250 + 50_000);
  expect(granted(await use(1, "later"))).toBe(1);
});

test("ahead for a moment between two sweeps, and back: what was booked meanwhile is moved, and once only", async () => {
  await addModel(database.sql, "m", { rpm: 5 });
  await sweep();
  await clock.advance(10_000);
  await clock.advance(HOUR_MS);
  const [call, running] = await use(2, "ahead");
  await settle(database.sql, call, { inputTokens: 1 });
  await clock.advance(2_000 - HOUR_MS);
  expect(await reserve(database.sql, "mute")).toMatchObject({ status: "refused" });
  for (let n = 0; n < 3; n++) {
    await sweep();
    await clock.advance(1_000);
  }
  expect(granted(await use(5, "back"))).toBe(3);
  expect(await database.sql`select jumps from eve.clock_watch`).toEqual([{ jumps: 1 }]);
  await settle(database.sql, running, { inputTokens: 1 });
  await clock.advance(61_000);
  await sweep();
  expect(granted(await use(6, "later"))).toBe(5);
  expect(await database.sql`select jumps from eve.clock_watch`).toEqual([{ jumps: 1 }]);
});

test("ahead and back again and again: each time is noticed", async () => {
  await addModel(database.sql, "m", { rpm: 50 });
  for (let n = 1; n <= 3; n++) {
    await clock.advance(HOUR_MS);
    await use(2, `ahead${n}`);
    await clock.advance(2_000 - HOUR_MS);
    await sweep();
    expect(await database.sql`select jumps from eve.clock_watch`).toEqual([{ jumps: n }]);
    expect(granted(await use(2, `back${n}`))).toBe(2);
  }
});

test("a pause that upstream asked for lasts as long as it asked", async () => {
  await addModel(database.sql, "m", {});
  const [call] = await use(1);
  await settle(database.sql, call, {
    outcome: "failed",
    block: { scope: "lane", for_ms: 20_000, reason: "upstream" },
  });
  await sweep();
  await clock.advance(-HOUR_MS);
  await sweep();
  expect(await reserve(database.sql, "early")).toMatchObject({ status: "refused", code: "lane_blocked" });
  await clock.advance(20_100);
  expect(await reserve(database.sql, "late")).toMatchObject({ status: "granted" });
});

test("ahead by two days and back: the day's quota is not given twice", async () => {
  await addModel(database.sql, "m", { rpd: 10 });
  for (const call of await use(6)) await settle(database.sql, call, { inputTokens: 1 });
  await clock.advance(48 * HOUR_MS);
  await sweep();
  for (const call of await use(2, "ahead")) await settle(database.sql, call, { inputTokens: 1 });
  await clock.advance(-48 * HOUR_MS);
  await sweep();
  expect(granted(await use(5, "again"))).toBe(2);
});

test("it is reported, once, and over when the clock has been right for an hour", async () => {
  const { sql } = database;
  await clock.advance(-HOUR_MS);
  await sweep();
  await sweep();
  expect(await sql`select kind, severity from eve.alerts where closed_at is null`).toEqual([
    { kind: "clock_went_back", severity: "warning" },
  ]);
  expect(await sql`select jumps, last_jump_ms::int from eve.clock_watch`).toEqual([
    { jumps: 1, last_jump_ms: HOUR_MS },
  ]);
  await clock.advance(HOUR_MS);
  await sweep();
  expect(await sql`select kind from eve.alerts where closed_at is null`).toEqual([]);
});

test("a clock that is corrected by less than a second is nothing", async () => {
  await clock.advance(-900);
  await sweep();
  expect(await database.sql`select jumps from eve.clock_watch`).toEqual([{ jumps: 0 }]);
});
