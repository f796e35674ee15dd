/** Reserving for many at once books what reserving for each by itself would have booked, and leaves the rest alone. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  addKey,
  addModel,
  clearLedger,
  freezeClock,
  reserve,
  reserveMany,
  type ReserveOptions,
  settle,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let database: TestDatabase;
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  clock = await freezeClock(database.sql, "2026-03-01T12:00:10Z");
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(database.sql);
  await clock.set("2026-03-01T12:00:10Z");
});

type Call = { requestId: string } & ReserveOptions;

/** A key on each project, and a model whose lanes and routes are there. */
async function world(
  projects: number,
  limits: Parameters<typeof addModel>[2] = { rpm: 1_000, tpm: 1_000_000, rpd: 10_000 },
): Promise<void> {
  const { sql } = database;
  for (let n = 0; n < projects; n++) await addKey(sql, `k${n}`, { project: `p${n}` });
  await addModel(sql, "m", limits);
  for (let n = 0; n < projects; n++) await reserve(sql, `warm${n}`);
}

const calls = (number: number, options: ReserveOptions = {}, name = "r"): Call[] =>
  Array.from({ length: number }, (_, n) => ({ requestId: `${name}${n}`, ...options }));

const statuses = async (list: Call[]) =>
  (await reserveMany(database.sql, list)).map((answer) => answer?.status ?? null);

async function books(): Promise<unknown[]> {
  const { sql } = database;
  const all = [];
  for (
    const [table, order] of [["eve.inflight", "request_id"], ["eve.lanes", "id"], [
      "eve.lane_buckets",
      "lane_id, at_ms",
    ]]
  ) {
    // Without what numbers a row.
    const rows = await sql.unsafe(
      `select to_jsonb(t) - '{id,lane_id,key_id,request_no}'::text[] as row from ${table} t order by ${order}`,
    );
    all.push(rows.map(({ row }) => row));
  }
  return all;
}

describe("[G2.lists] eve_reserve_many", () => {
  // Batch goes as it comes for a quarter of the minute; beyond it, one by one.
  test.each([[1, 1_000], [30, 1_000], [30, 200]])(
    "leaves the same books as one after the other (%i calls, %i a minute)",
    async (number, rpm) => {
      const list = calls(number).map((call, n): Call => ({
        ...call,
        tokens: 5 * n,
        class: n % 3 === 0 ? "batch" : "interactive",
        leaseMs: 1_000 + 100 * (n % 7),
      }));
      await world(1, { rpm, tpm: 100_000, rpd: 10_000 });
      for (const { requestId, ...options } of list) await reserve(database.sql, requestId, options);
      const singly = await books();

      await clearLedger(database.sql);
      await world(1, { rpm, tpm: 100_000, rpd: 10_000 });
      expect(new Set(await statuses(list))).toEqual(new Set(["granted"]));
      expect(await books()).toEqual(singly);
    },
  );

  test("answers what eve_reserve answers, in the order asked", async () => {
    await world(1);
    const list = [
      ...calls(1, { tokens: 7, class: "batch" }, "b"),
      ...calls(2, { tokens: 3 }),
      ...calls(1, {}, "c"),
    ];
    const answers = await reserveMany(database.sql, list);
    expect(answers.map(({ class: trafficClass, tokens }) => [trafficClass, tokens])).toEqual([
      ["batch", 7],
      ["interactive", 3],
      ["interactive", 3],
      ["interactive", 10],
    ]);
    const rows = await database.sql`select request_id, request_no::int, lease_until from eve.inflight`;
    for (const [place, { requestId }] of list.entries()) {
      const row = rows.find(({ request_id }) => request_id === requestId)!;
      expect(answers[place].request_no).toBe(row.request_no);
      expect(Date.parse(answers[place].lease_until)).toBe(row.lease_until.getTime());
    }
    const alone = await reserve(database.sql, "alone");
    const { request_no: _, limits, ...rest } = answers[3]!;
    expect(alone).toMatchObject(rest);
    expect(alone.limits).toEqual({
      requests: { ...limits.requests, remaining: limits.requests.remaining - 1 },
      tokens: { ...limits.tokens, remaining: limits.tokens.remaining - 10 },
      requests_day: { ...limits.requests_day, remaining: limits.requests_day.remaining - 1 },
    });
  });

  test.each<[string, () => Partial<Call> | Promise<Partial<Call>>]>([
    ["a second attempt", () => ({ attempt: 2 })],
    ["keys that are of no use", () => ({ excludeKeys: [crypto.randomUUID()] })],
    ["keys to be avoided", () => ({ avoidKeys: [crypto.randomUUID()] })],
    ["a model that nobody knows", () => ({ models: ["nobody"] })],
    ["a prompt that is larger than the room", () => ({ tokens: 5_000_000 })],
    ["a class that is none", () => ({ class: "urgent" as never })],
    ["a request that is running", async () => {
      await reserve(database.sql, "same");
      return { requestId: "same" };
    }],
    ["a request that has ended", async () => {
      await settle(database.sql, await reserve(database.sql, "same"));
      return { requestId: "same" };
    }],
    ["a batch prompt that is to be counted", () => ({ class: "batch", counted: false, tokens: 3_000 })],
    ["a consumer with a budget", async () => ({ consumerId: await consumer({ requests_per_day: 10 }) })],
    [
      "a consumer without leave for the model",
      async () => ({ consumerId: await consumer({ models: ["n"] }) }),
    ],
    ["a consumer who is switched off", async () => ({ consumerId: await consumer({ is_active: false }) })],
    ["a consumer who is not there", () => ({ consumerId: crypto.randomUUID() })],
  ])("%s is left to eve_reserve, and holds up nobody", async (_, more) => {
    await world(1);
    const list = calls(3);
    Object.assign(list[1]!, await more());
    const [before] = await database.sql`select count(*)::int as n from eve.inflight`;
    expect(await statuses(list)).toEqual(["granted", null, "granted"]);
    expect(await database.sql`select count(*)::int as n from eve.inflight`).toEqual([{ n: before!.n + 2 }]);
    expect(await database.sql`select count(*)::int as n from eve.refusals`).toEqual([{ n: 0 }]);
  });

  async function consumer(fields: Record<string, unknown>): Promise<string> {
    const [row] = await database.sql`
      insert into eve.consumers ${database.sql({ name: "bot", kind: "service", ...fields })} returning id`;
    return row!.id;
  }

  test("a consumer's class and capture are its own", async () => {
    await world(1);
    const consumerId = await consumer({ max_class: "batch", capture: true });
    const [mine, projects] = await reserveMany(database.sql, [{ requestId: "a", consumerId }, {
      requestId: "b",
    }]);
    expect(mine).toMatchObject({ class: "batch", capture: true });
    expect(projects).toMatchObject({ class: "interactive", capture: false });
  });

  test("the same request twice in one list books nothing at all", async () => {
    await world(1);
    await expect(reserveMany(database.sql, [...calls(2), ...calls(1)])).rejects.toMatchObject({
      code: "23505",
    });
    expect(await database.sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 1 }]);
  });

  test("as many are begun as fit into the lane, and not one more", async () => {
    await world(1, { rpm: 10 });
    expect(await statuses(calls(12))).toEqual([...Array(9).fill("granted"), null, null, null]);
    expect(await statuses(calls(1, {}, "late"))).toEqual([null]);
    expect(await database.sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 10 }]);
  });

  test("of tokens a lane takes what all of its calls ask for, or nothing", async () => {
    await world(1, { tpm: 1_000 });
    expect(await statuses(calls(4, { tokens: 300 }))).toEqual(Array(4).fill(null));
    expect(await statuses(calls(3, { tokens: 330 }))).toEqual(Array(3).fill("granted"));
    expect(await statuses(calls(1, { tokens: 1 }, "late"))).toEqual([null]);
    expect(await database.sql`select sum(tokens)::int as n from eve.lane_buckets`).toEqual([{ n: 1_000 }]);
  });

  test.each([["a minute", 60_000], ["a span", 65_536], ["both", 70_000]])(
    "goes on from one to the next: %s",
    async (_, ms) => {
      await world(1);
      await clock.advance(ms - 20_000);
      expect(await statuses(calls(5))).toEqual(Array(5).fill("granted"));
      await clock.advance(20_000);
      // Routes are computed again every minute.
      await reserve(database.sql, "again");
      expect(await statuses(calls(5, {}, "next"))).toEqual(Array(5).fill("granted"));
      const [lane] = await database.sql`
        select span_starts + previous_span_starts as used, day_starts from eve.lanes`;
      expect(lane).toEqual({ used: "12", day_starts: 12 });
    },
  );

  test("spreads lists of any size evenly over five equal keys: a thousand calls within 5 %", async () => {
    await world(5, { rpm: 100_000 });
    for (let n = 0, size = 1; n < 1_000; n += size, size = 1 + (size * 7) % 31) {
      const list = calls(Math.min(size, 1_000 - n), {}, `n${n}-`);
      expect(new Set(await statuses(list))).toEqual(new Set(["granted"]));
    }
    const shares = await database.sql`
      select count(*)::int as n from eve.inflight where request_id like 'n%' group by key_id`;
    expect(shares).toHaveLength(5);
    for (const { n } of shares) expect(Math.abs(n - 200)).toBeLessThanOrEqual(10);
  });

  test("keys of one project take turns", async () => {
    await world(1);
    await addKey(database.sql, "second", { project: "p0" });
    await reserve(database.sql, "again");
    await statuses(calls(20));
    expect(
      await database
        .sql`select count(*)::int as n from eve.inflight where request_id like 'r%' group by key_id`,
    ).toEqual([{ n: 10 }, { n: 10 }]);
  });

  test("runs beside single reservations and settlements without a deadlock", async () => {
    const { sql } = database;
    await world(3);
    await addModel(sql, "n", { rpm: 100_000 });
    for (let n = 0; n < 3; n++) await reserve(sql, `warm-n${n}`, { models: ["n"] });
    let granted = 6;
    const worker = async (name: string) => {
      for (let round = 0; round < 8; round++) {
        const list = calls(6, {}, `${name}-${round}-`).map((call, n) => ({
          ...call,
          models: [n % 2 === 0 ? "m" : "n"],
        }));
        const answers = await reserveMany(sql, list);
        const all = await Promise.all(
          list.map(({ requestId, ...options }, place) => answers[place] ?? reserve(sql, requestId, options)),
        );
        granted += all.length;
        for (const answer of all) expect(answer.status).toBe("granted");
        const settlements = all.map(({ request_no, attempt }) => ({
          request_no,
          attempt,
          outcome: "succeeded",
          final: true,
          dispatched: true,
          input_tokens: 30,
        }));
        await sql`select public.eve_settle_many(${sql.json(settlements)})`;
      }
    };
    await Promise.all(["w", "x", "y", "z"].map(worker));
    expect(await sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: granted }]);
  });

  // A plan that was made while few requests ran is kept by a connection, and merging would then read every one that runs now:
  // bench:admission showed it, with lists that took longer than their calls one by one.
  test.each(["eve_reserve_many", "eve_settle_many"])("%s looks for rows one by one", async (name) => {
    const [row] = await database.sql`select proconfig as settings from pg_proc where proname = ${name}`;
    expect(row!.settings).toEqual(
      expect.arrayContaining(["enable_seqscan=off", "enable_hashjoin=off", "enable_mergejoin=off"]),
    );
  });

  test.each([["no list", "{}"], ["an empty list", "[]"], [
    "too long a list",
    JSON.stringify(Array(101).fill({})),
  ]])(
    "%s is refused",
    async (_, text) => {
      await expect(database.sql`select public.eve_reserve_many(${text}::text::jsonb)`).rejects.toMatchObject({
        code: "EV400",
      });
    },
  );
});
