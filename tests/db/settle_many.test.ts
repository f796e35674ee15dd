/** Settling many at once leaves the books as settling each by itself does. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type postgres from "postgres";
import {
  addKey,
  addModel,
  type Answer,
  clearLedger,
  freezeClock,
  reserve,
  type ReserveOptions,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let database: TestDatabase;
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  clock = await freezeClock(database.sql, "2026-03-01T12:00:30Z");
});
afterAll(() => database?.drop());
beforeEach(() => clearLedger(database.sql));

/** As the ledger sends it. */
interface Settlement {
  request_no: number;
  attempt: number;
  outcome: "succeeded" | "failed" | "cancelled";
  final: boolean;
  dispatched: boolean;
  input_tokens: number | null;
  output_tokens: number | null;
  total_tokens: number | null;
  usage_estimated: boolean;
  error_detail: string | null;
  finish_reason: string | null;
  block: unknown;
  result: unknown;
}

const settlementOf = (grant: Answer, more: Partial<Settlement> = {}): Settlement => ({
  request_no: Number(grant.request_no),
  attempt: grant.attempt,
  outcome: "succeeded",
  final: true,
  dispatched: true,
  input_tokens: 12,
  output_tokens: 8,
  total_tokens: null,
  usage_estimated: false,
  error_detail: null,
  finish_reason: "STOP",
  block: null,
  result: null,
  ...more,
});

async function settleMany(
  sql: postgres.Sql,
  settlements: Settlement[],
): Promise<({ status: string } | null)[]> {
  const [row] = await sql`select public.eve_settle_many(${sql.json(settlements as never)}) as answer`;
  return row!.answer;
}

async function settleOne(sql: postgres.Sql, one: Settlement): Promise<void> {
  await sql`
    select public.eve_settle(
      ${one.request_no}, ${one.attempt}, ${one.outcome}, ${one.final}, ${one.dispatched}, ${one.input_tokens},
      ${one.output_tokens}, total_tokens => ${one.total_tokens}, error_detail => ${one.error_detail},
      finish_reason => ${one.finish_reason}, usage_estimated => ${one.usage_estimated},
      result => ${one.result === null ? null : sql.json(one.result as never)}
    )`;
}

/** Everything that settling writes, but for what numbers rows and tells when they were written. */
async function books(sql: postgres.Sql): Promise<Record<string, unknown>> {
  const all: Record<string, unknown> = {};
  for (
    const [table, order] of [
      ["eve.inflight", "request_no"],
      ["eve.attempts", "request_no, attempt"],
      ["eve.requests", "request_no"],
      ["eve.request_keys", "request_no"],
      ["eve.request_results", "request_no"],
      ["eve.lanes", "id"],
      ["eve.lane_buckets", "lane_id, at_ms"],
      ["eve.consumer_days", "consumer_id, day"],
      ["eve.scoped_tokens", "id"],
      ["eve.alerts", "kind, subject"],
      ["public.google_ai_usage_counters", "api_key_id, model, minute_bucket"],
      ["public.google_ai_model_limits", "model"],
      // Attempts of one request share its id.
      ["public.token_usage", "request_id, (meta ->> 'attempt')::integer nulls first"],
    ]
  ) {
    const rows = await sql.unsafe(
      `select to_jsonb(t) - '{id,updated_at,ts,kept_at,ended_at,written_by}'::text[] as row from ${table} t order by ${order}`,
    );
    all[table!] = rows.map(({ row }) => row);
  }
  return all;
}

/** The books after something, which is then undone. */
async function after(what: (sql: postgres.Sql) => Promise<unknown>): Promise<Record<string, unknown>> {
  let found: Record<string, unknown> = {};
  const undo = new Error("undo");
  await database.sql.begin(async (transaction) => {
    const sql = transaction as unknown as postgres.Sql;
    await what(sql);
    found = await books(sql);
    throw undo;
  }).catch((thrown) => {
    if (thrown !== undo) throw thrown;
  });
  return found;
}

/** Two models on two projects, one of them with two keys; a consumer with budgets and a token of its. */
async function world() {
  const { sql } = database;
  for (const [alias, project] of [["a", "one"], ["b", "one"], ["c", "two"]] as const) {
    await addKey(sql, alias, { project });
  }
  await addModel(sql, "m", { rpm: 1_000, tpm: 1_000_000, rpd: 10_000 });
  await addModel(sql, "n", {});
  const [consumer] = await sql`
    insert into eve.consumers (name, kind, requests_per_day, tokens_per_day) values ('bot', 'service', 1000, 100000) returning id`;
  const [token] = await sql`
    insert into eve.scoped_tokens (consumer_id, requests_budget, tokens_budget, expires_at)
    values (${consumer!.id}, 500, 50000, '2026-03-02') returning id`;
  await sql`update eve.settings set value = 1 where name = 'learn_one_in'`;
  return { consumerId: consumer!.id as string, tokenId: token!.id as string };
}

/** A number below `end`, the same in every run. */
function* numbers(seed: number): Generator<number, never, void> {
  for (;;) yield (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) / 2_147_483_648;
}

describe("eve_settle_many", () => {
  test.each([1, 2, 3])("leaves the same books as one after the other (%i)", async (seed) => {
    const { sql } = database;
    const { consumerId, tokenId } = await world();
    const random = numbers(seed);
    const upTo = (end: number) => Math.floor(random.next().value * end);
    const settlements: Settlement[] = [];
    for (let n = 0; n < 40; n++) {
      const scoped = upTo(3);
      const options: ReserveOptions = {
        models: [upTo(2) === 0 ? "m" : "n"],
        tokens: 1 + upTo(60),
        class: upTo(3) === 0 ? "batch" : "interactive",
        maxOutput: upTo(4) === 0 ? 0 : 1 + upTo(200),
        consumerId: scoped > 0 ? consumerId : null,
        tokenId: scoped > 1 ? tokenId : null,
      };
      let grant = await reserve(sql, `r${n}`, options);
      if (upTo(4) === 0) {
        // An answer that was none; the request goes on with its second attempt.
        await settleOne(
          sql,
          settlementOf(grant, { outcome: "failed", final: false, input_tokens: 5 + upTo(40) }),
        );
        grant = await reserve(sql, `r${n}`, { ...options, attempt: 2 });
      }
      expect(grant).toMatchObject({ status: "granted" });
      await clock.advance(upTo(4_000));
      if (upTo(10) === 0) continue; // Still running.
      const input = upTo(4) === 0 ? null : upTo(80);
      settlements.push(settlementOf(grant, {
        outcome: (["succeeded", "succeeded", "failed", "cancelled"] as const)[upTo(4)],
        input_tokens: input,
        output_tokens: input === null || upTo(3) === 0 ? null : upTo(50),
        total_tokens: input !== null && upTo(3) === 0 ? input + 70 : null,
        usage_estimated: upTo(3) === 0,
        error_detail: upTo(5) === 0 ? "x".repeat(3_000) : null,
        result: upTo(3) === 0 ? { answer: n } : null,
      }));
    }
    settlements.sort((one, other) => one.request_no - other.request_no);
    const singly = await after(async (sql) => {
      for (const one of settlements) await settleOne(sql, one);
    });
    const inOneList = await after(async (sql) => {
      expect(await settleMany(sql, settlements)).toEqual(settlements.map(() => ({ status: "settled" })));
    });
    expect(inOneList).toEqual(singly);
    expect(inOneList["eve.requests"]).toHaveLength(settlements.length);
  });

  test("what does not simply end is left to eve_settle, and holds up nobody", async () => {
    const { sql } = database;
    await world();
    const grants = [];
    for (let n = 0; n < 6; n++) grants.push(await reserve(sql, `r${n}`));
    const [good, between, unsent, blocking, settled, another] = grants;
    await settleOne(sql, settlementOf(settled));
    const answers = await settleMany(sql, [
      settlementOf(blocking, { block: { scope: "lane", for_ms: 1_000 } }),
      settlementOf(good),
      settlementOf(between, { final: false }),
      settlementOf(unsent, { dispatched: false }),
      settlementOf(settled),
      settlementOf({ request_no: 999_999_999, attempt: 1 }),
      settlementOf(another, { attempt: 2 }),
    ]);
    expect(answers).toEqual([null, { status: "settled" }, null, null, null, null, null]);
    const running = await sql`select request_id from eve.inflight order by request_no`;
    expect(running.map(({ request_id }) => request_id)).toEqual(["r1", "r2", "r3", "r5"]);
  });

  test.each([["no list", "{}"], ["an empty list", "[]"], [
    "too long a list",
    JSON.stringify(Array(101).fill({})),
  ]])(
    "%s is refused",
    async (_, text) => {
      await expect(database.sql`select public.eve_settle_many(${text}::text::jsonb)`).rejects.toMatchObject({
        code: "EV400",
      });
    },
  );

  test("runs beside reservations on the same lanes without a deadlock", async () => {
    const { sql } = database;
    const { consumerId, tokenId } = await world();
    let undetected = 0;
    const worker = async (name: string) => {
      for (let round = 0; round < 6; round++) {
        const grants = await Promise.all(
          Array.from({ length: 5 }, (_, n) =>
            reserve(sql, `${name}-${round}-${n}`, {
              models: [n % 2 === 0 ? "m" : "n"],
              ...(n > 2 && { consumerId, tokenId, maxOutput: 100 }),
            })),
        );
        const list = grants.map((grant) => settlementOf(grant, { input_tokens: 30 }));
        // In any order: the function has its own.
        if (round % 2 === 0) list.reverse();
        for (const answer of await settleMany(sql, list)) if (answer?.status !== "settled") undetected++;
      }
    };
    await Promise.all(["w", "x", "y", "z"].map(worker));
    expect(undetected).toBe(0);
    expect(await sql`select count(*)::integer as n from eve.requests`).toEqual([{ n: 120 }]);
    expect(await sql`select sum(tokens)::integer as n from eve.lane_buckets`).toEqual([{ n: 120 * 30 }]);
    expect(
      await sql`select sum(rpm_used)::integer as calls, sum(tpm_used)::integer as tokens from public.google_ai_usage_counters`,
    )
      .toEqual([{ calls: 120, tokens: 120 * 30 }]);
  });
});

test("what upstream calls the end of an answer is kept to 100 characters, settled by itself or in a list", async () => {
  const { sql } = database;
  await addModel(sql, "m");
  await addKey(sql, "one");
  const long = "X".repeat(10_000);
  const [one, listed] = [await reserve(sql, "one"), await reserve(sql, "two")];
  await settleOne(sql, settlementOf(one, { finish_reason: long }));
  await settleMany(sql, [settlementOf(listed, { finish_reason: long })]);
  const kept = await sql`select length(finish_reason) as characters from eve.requests`;
  expect(kept.map(({ characters }) => characters)).toEqual([100, 100]);
});
