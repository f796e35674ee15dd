/** The three ways to book a start write the same, whatever came before: step by step, as a plain call, in a list. */
import fc from "fast-check";
import type postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  addKey,
  addModel,
  clearLedger,
  freezeClock,
  reserve,
  reserveMany,
  type ReserveOptions,
  settle,
  STEP_BY_STEP,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let db: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
  clock = await freezeClock(sql);
});
afterAll(() => db?.drop());

interface Step {
  class: "interactive" | "batch";
  tokens: number;
  /** Until the next one. */
  afterMs: number;
  settle: boolean;
}

/** On a model of its own: what makes a list of two. */
const BESIDE = { models: ["beside"], tokens: 5 };

type Way = "steps" | "plain" | "list";

async function book(way: Way, place: number, call: ReserveOptions) {
  const [one, other] = [`r${place}`, `o${place}`];
  if (way !== "list") {
    const options = way === "steps" ? STEP_BY_STEP : {};
    const answer = await reserve(sql, one, { ...call, ...options });
    await reserve(sql, other, { ...BESIDE, ...options });
    return answer;
  }
  const [answer, beside] = await reserveMany(sql, [{ requestId: one, ...call }, {
    requestId: other,
    ...BESIDE,
  }]);
  if (beside === null) await reserve(sql, other, { ...BESIDE, ...STEP_BY_STEP });
  return answer ?? await reserve(sql, one, { ...call, ...STEP_BY_STEP });
}

const CONCEALED = ["request_no", "call_id", "lane_id", "id", "next_lease_ms"];

async function written(way: Way, projects: number, rpm: number, tpm: number | null, steps: Step[]) {
  await clearLedger(sql);
  await clock.set("2026-11-18T12:00:00Z");
  for (let n = 0; n < projects; n++) await addKey(sql, `key-${n}`, { project: `project-${n}` });
  await addModel(sql, "m", { rpm, tpm });
  await addModel(sql, "beside", { rpm: 600 });
  await sql`update eve.settings set value = 0 where name = 'learn_one_in'`;
  // What both fast ways need: routes, and lanes that were booked today.
  for (let n = 0; n < projects; n++) {
    for (const models of [["m"], ["beside"]]) {
      await reserve(sql, `first-${n}-${models}`, { models, tokens: 1, ...STEP_BY_STEP });
    }
  }
  await clock.advance(61_000);
  const answers: unknown[] = [];
  for (const [place, { class: of, tokens, afterMs, settle: ends }] of steps.entries()) {
    const { start_at, key, status, tokens: booked, limits } = await book(way, place, {
      class: of,
      tokens,
    }) as {
      start_at?: string;
      key?: { alias: string };
      status: string;
      tokens?: number;
      limits?: unknown;
      request_no?: number;
      attempt?: number;
    };
    answers.push({ start_at, key: key?.alias, status, booked, limits });
    if (ends && status === "granted") {
      const [row] = await sql`select request_no, attempt from eve.inflight where request_id = ${`r${place}`}`;
      await settle(sql, { ...row, status } as never, { inputTokens: tokens + 3 });
    }
    await clock.advance(afterMs);
  }
  const rows = async (query: string) =>
    (await sql.unsafe(query)).map(({ row }) =>
      Object.fromEntries(Object.entries(row).filter(([name]) => !CONCEALED.includes(name)))
    );
  return {
    answers,
    lanes: await rows(
      "select to_jsonb(l) as row from eve.lanes l where l.model = 'm' order by l.quota_project",
    ),
    buckets: await rows(
      `select to_jsonb(b) || jsonb_build_object('project', l.quota_project) as row
       from eve.lane_buckets b join eve.lanes l on l.id = b.lane_id where l.model = 'm' order by l.quota_project, b.at_ms`,
    ),
    inflight: await rows(
      `select to_jsonb(i) || jsonb_build_object('project', l.quota_project, 'key_id', k.key_alias) as row
       from eve.inflight i join eve.lanes l on l.id = i.lane_id join public.google_ai_api_keys k on k.id = i.key_id
       where i.model = 'm' and i.request_id like 'r%' order by i.request_id`,
    ),
  };
}

test(
  "a call is written down the same, and answered the same, whichever of the three ways books it",
  async () => {
    const step = fc.record<Step>({
      class: fc.constantFrom("interactive", "batch"),
      tokens: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 200, max: 900 })),
      afterMs: fc.oneof(fc.integer({ min: 0, max: 3_000 }), fc.integer({ min: 3_000, max: 40_000 })),
      settle: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 2 }),
        fc.constantFrom(5, 15, 30, 700),
        fc.constantFrom(null, 4_000, 16_000),
        fc.array(step, { minLength: 1, maxLength: 14 }),
        async (projects, rpm, tpm, steps) => {
          const wanted = await written("steps", projects, rpm, tpm, steps);
          expect(await written("plain", projects, rpm, tpm, steps)).toEqual(wanted);
          expect(await written("list", projects, rpm, tpm, steps)).toEqual(wanted);
        },
      ),
      { numRuns: 25, seed: 13 },
    );
  },
  120_000,
);

test("a pool's pace counts all of its lanes, also where people prefer one: batch has what the others have", async () => {
  await clearLedger(sql);
  await clock.set("2026-11-18T12:00:00Z");
  for (const priority of [10, 30]) {
    const id = await addKey(sql, `key-${priority}`, { project: `project-${priority}` });
    await sql`update public.google_ai_api_keys set priority = ${priority} where id = ${id}`;
  }
  await addModel(sql, "m", { rpm: 30, tpm: 16_000 });
  await reserve(sql, "first", { models: ["m"], ...STEP_BY_STEP });
  await reserve(sql, "second", { models: ["m"], ...STEP_BY_STEP });
  const routes =
    await sql`select interval_ms, round((token_ms * 32000)::numeric)::int as window_ms from eve.routes where model = 'm'`;
  expect([...routes]).toEqual([{ interval_ms: 60_250 / 60, window_ms: 60_250 }]);

  // Interactive callers at half of the pool's capacity; batch asks every second, and is to have the other half.
  let batch = 0;
  for (let second = 0; second < 120; second++) {
    if (second % 2 === 0) {
      expect(await reserve(sql, `i${second}`)).toMatchObject({ status: "granted" });
    }
    const answer = await reserve(sql, `b${second}`, { class: "batch" });
    if (answer.status === "granted" && second >= 60) batch++;
    await clock.advance(1_005);
  }
  expect(batch).toBeGreaterThan(26);
});
