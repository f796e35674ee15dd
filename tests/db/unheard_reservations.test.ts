/** What is booked for a caller who has gone: nothing after the deadline, and before it what eve_give_back takes back. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Answer, clearLedger } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let database: TestDatabase;
let sql: postgres.Sql;
/** A connection that is free whatever the others wait for. */
let onlooker: postgres.Sql;
let consumer: string;

beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  onlooker = postgres(database.url, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await onlooker?.end();
  await database?.drop();
});

beforeEach(async () => {
  await clearLedger(sql);
  await sql`delete from eve.consumers where name = 'bot'`;
  await sql`delete from public.google_ai_api_keys`;
  await sql`insert into public.google_ai_api_keys (key_alias, env_var_name) values ('one', 'GOOGLE_API_KEY')`;
  await sql`
    insert into public.google_ai_model_limits (model, rpm, tpm, rpd) values ('m', 500, 100000, 10000)
    on conflict (model) do update set rpm = 500, tpm = 100000, rpd = 10000`;
  const [row] = await sql`
    insert into eve.consumers (name, kind, requests_per_day, tokens_per_day) values ('bot', 'service', 100, 100000)
    returning id`;
  consumer = row!.id;
  // Draws up the routes, so that the fast path is taken.
  await reserve("first");
  await sql`select public.eve_settle(request_no, 1::smallint, 'cancelled', dispatched => false) from eve.inflight`;
});

interface Options {
  deadline?: string | null;
  callId?: string;
  consumerId?: string | null;
  attempt?: number;
}

async function reserve(requestId: string, options: Options = {}): Promise<Answer> {
  const [row] = await sql`
    select public.eve_reserve(
      request_id => ${requestId}, models => '{m}', tokens => 10, consumer_id => ${options.consumerId ?? null},
      attempt => ${options.attempt ?? 1}, deadline => ${options.deadline ?? null}::text::timestamptz,
      call_id => ${options.callId ?? crypto.randomUUID()}
    ) as answer`;
  return row!.answer;
}

async function reserveMany(requestIds: string[], options: Options = {}): Promise<Answer[]> {
  const calls = requestIds.map((request_id) => ({
    request_id,
    models: ["m"],
    tokens: 10,
    consumer_id: null,
    class: "interactive",
    max_wait_ms: 0,
    attempt: 1,
    exclude_keys: [],
    avoid_keys: [],
    lease_ms: 180_000,
    token_id: null,
    endpoint: "native",
    trace_id: null,
    metadata: {},
    request_hash: null,
    counted: null,
    deadline: options.deadline ?? null,
    call_id: options.callId ?? crypto.randomUUID(),
  }));
  const [row] = await sql`select public.eve_reserve_many(${sql.json(calls as never)}) as answers`;
  return row!.answers;
}

async function giveBack(requestId: string, callId: string, options: Options = {}): Promise<Answer> {
  const [row] = await sql`
    select public.eve_give_back(
      ${requestId}, ${callId}::uuid, ${options.deadline ?? "2026-01-01"}::text::timestamptz, ${
    options.consumerId ?? null
  }::uuid,
      ${options.attempt ?? 1}
    ) as answer`;
  return row!.answer;
}

/** In so many ms by the database's clock. */
async function soon(ms: number): Promise<string> {
  const [row] = await sql`select (clock_timestamp() + ${ms} * interval '1 ms')::text as at`;
  return row!.at;
}

/** All that a booking leaves behind. */
async function books(): Promise<Answer> {
  const [row] = await sql`
    select (select count(*)::int from eve.inflight) as running,
      (select coalesce(sum(starts), 0)::int from eve.lane_buckets) as starts,
      (select coalesce(sum(tokens), 0)::int from eve.lane_buckets) as tokens,
      (select coalesce(sum(day_starts), 0)::int from eve.lanes) as day_starts,
      (select coalesce(sum(requests), 0)::int from eve.consumer_days) as requests,
      (select coalesce(sum(d.tokens), 0)::int from eve.consumer_days d) as spent`;
  return row!;
}
const NOTHING = { running: 0, starts: 0, tokens: 0, day_starts: 0, requests: 0, spent: 0 };

/**
 * Runs with the lane in somebody else's hands until `waiting` statements wait (or all has been answered, on a slow machine)
 * and `deadline` has passed by the database's clock.
 */
async function withLaneHeld<Value>(
  deadline: string,
  waiting: number,
  run: () => Promise<Value>,
): Promise<Value> {
  const held = Promise.withResolvers<void>();
  let done = false;
  const holder = sql.begin(async (transaction) => {
    await transaction`select from eve.lanes for update`;
    held.resolve();
    await expect.poll(async () => {
      const [row] = await onlooker`
        select count(*)::int as n from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`;
      return done || row!.n >= waiting;
    }, { interval: 5 }).toBe(true);
    await transaction`
      select pg_sleep(greatest(0, extract(epoch from ${deadline}::text::timestamptz - clock_timestamp())) + 0.005)`;
  });
  await held.promise;
  const answer = run();
  const answered = () => done = true;
  answer.then(answered, answered);
  await holder;
  return await answer;
}

describe("[edge.unheard] the deadline", () => {
  const caught = (promise: Promise<unknown>) => promise.catch(({ code, detail }) => ({ code, detail }));
  const late = { code: "EV503", detail: expect.stringMatching(/^\d{13}$/) };

  test.each<[string, () => Promise<unknown>]>([
    ["by itself", () => reserve("r", { deadline: "2026-01-01" })],
    ["with a budget", () => reserve("r", { deadline: "2026-01-01", consumerId: consumer })],
    ["a retry", () => reserve("r", { deadline: "2026-01-01", attempt: 2 })],
  ])("has passed before it came: nothing is booked, %s", async (_, run) => {
    expect(await caught(run())).toEqual(late);
    expect(await books()).toEqual(NOTHING);
    expect(await sql`select from eve.refusals`).toHaveLength(0);
  });

  test("has passed before a list came: each is left to ask by itself", async () => {
    expect(await reserveMany(["a", "b"], { deadline: "2026-01-01" })).toEqual([null, null]);
    expect(await books()).toEqual(NOTHING);
  });

  test.each<[string, (deadline: string) => Promise<unknown>]>([
    ["by itself", (deadline) => reserve("r", { deadline })],
    ["with a budget", (deadline) => reserve("r", { deadline, consumerId: consumer })],
  ])("passes while the lane is waited for: nothing is booked, %s", async (_, run) => {
    const deadline = await soon(400);
    expect(await withLaneHeld(deadline, 1, () => caught(run(deadline)))).toEqual(late);
    expect(await books()).toEqual(NOTHING);
  });

  test("passes while a list waits for the lane: nothing is booked", async () => {
    const deadline = await soon(400);
    const answer = await withLaneHeld(deadline, 1, () => caught(reserveMany(["a", "b"], { deadline })));
    // Held up for long it books nothing anyway; for a moment, it sees that it is late.
    if (Array.isArray(answer)) expect(answer).toEqual([null, null]);
    else expect(answer).toEqual(late);
    expect(await books()).toEqual(NOTHING);
  });

  test("fifty at once before a lane that is held, with deadlines before and after: those are booked who were told so", async () => {
    const deadlines = await Promise.all(
      Array.from({ length: 50 }, (_, n) => soon(n % 2 === 0 ? 100 : 600_000)),
    );
    const middle = await soon(100);
    const answers = await withLaneHeld(
      middle,
      1,
      () =>
        Promise.all(deadlines.map((deadline, n) =>
          caught(
            n % 5 === 0
              ? reserveMany([`r${n}`], { deadline }).then(([one]) => one ?? reserve(`r${n}`, { deadline }))
              : reserve(`r${n}`, { deadline, consumerId: n % 3 === 0 ? consumer : null }),
          )
        )),
    ) as Answer[];
    const heard = answers.flatMap((answer, n) => answer.status === "granted" ? [`r${n}`] : []).sort();
    expect(heard).toEqual(deadlines.flatMap((_, n) => n % 2 === 0 ? [] : [`r${n}`]).sort());
    const running = await sql`select request_id from eve.inflight order by request_id collate "C"`;
    expect(running.map(({ request_id }) => request_id)).toEqual(heard);
    expect(await books()).toMatchObject({ running: 25, starts: 25, day_starts: 25 });
  });

  test("a statement of the REST API's ends before its caller stops waiting", async () => {
    const rows = await sql`
      select proname::text as name, proconfig @> '{statement_timeout=7500ms}' as ends from pg_proc
      where proname in ('eve_reserve', 'eve_reserve_many') order by 1`;
    expect(rows.map((row) => ({ ...row }))).toEqual([
      { name: "eve_reserve", ends: true },
      { name: "eve_reserve_many", ends: true },
    ]);
  });
});

describe("[edge.unheard] giving back", () => {
  const callId = crypto.randomUUID();

  test.each<[string, () => Promise<unknown>, () => string | null]>([
    ["one by itself", () => reserve("r", { callId }), () => null],
    ["one with a budget", () => reserve("r", { callId, consumerId: consumer }), () => consumer],
    ["one of a list", () => reserveMany(["r", "s"].slice(0, 1), { callId }), () => null],
  ])("%s: the books are as before, and the same request may come again", async (_, book, consumerId) => {
    await book();
    expect((await books()).running).toBe(1);
    expect(await giveBack("r", callId, { consumerId: consumerId() })).toEqual({ status: "given_back" });
    expect(await books()).toEqual(NOTHING);
    expect(await giveBack("r", callId, { consumerId: consumerId() })).toEqual({ status: "nothing" });
    expect(await books()).toEqual(NOTHING);
    expect(await sql`select request_id, attempt, code from eve.refusals`).toEqual([
      { request_id: "r", attempt: 1, code: "database_unavailable" },
    ]);
    expect(await reserve("r", { consumerId: consumerId() })).toMatchObject({ status: "granted" });
  });

  test("before the deadline it says how long the call may still come", async () => {
    const answer = await giveBack("r", callId, { deadline: await soon(60_000) });
    expect(answer).toEqual({ status: "wait", wait_ms: expect.any(Number) });
    expect(answer.wait_ms).toBeGreaterThan(0);
    expect(answer.wait_ms).toBeLessThanOrEqual(60_000);
  });

  test("a call that is being made at this moment is waited for", async () => {
    // As long as a busy machine needs until both of them wait.
    await sql.unsafe(`
      alter function public.eve_reserve set lock_timeout = '2min';
      alter function public.eve_give_back set lock_timeout = '2min';`).simple();
    const deadline = await soon(60_000);
    const answers = await withLaneHeld("2026-01-01", 2, async () => {
      const booking = reserve("r", { callId, deadline });
      // Before the other one, since the request's lock is the first that it takes.
      await expect.poll(async () => {
        const [row] = await sql`
          select count(*)::int as n from pg_locks
          where locktype = 'advisory' and granted
            and database = (select oid from pg_database where datname = current_database())`;
        return row!.n;
      }, { interval: 5 }).toBeGreaterThan(0);
      return await Promise.all([booking, giveBack("r", callId, { deadline })]);
    });
    const [booked, back] = answers;
    expect(booked).toMatchObject({ status: "granted" });
    expect(back).toEqual({ status: "given_back" });
    expect(await books()).toEqual(NOTHING);
  });

  test("another call's booking of the same request stays", async () => {
    await reserve("r");
    expect(await giveBack("r", callId)).toEqual({ status: "nothing" });
    expect(await books()).toMatchObject({ running: 1, starts: 1 });
  });

  test("what has been settled stays as it is", async () => {
    const { request_no } = await reserve("r", { callId });
    await sql`select public.eve_settle(${request_no}, 1::smallint, 'succeeded', input_tokens => 7)`;
    expect(await giveBack("r", callId)).toEqual({ status: "nothing" });
    expect(await books()).toMatchObject({ starts: 1, tokens: 7 });
  });

  test("a second attempt: the first stays counted, and the request ends as it did", async () => {
    const { request_no } = await reserve("r");
    await sql`
      select public.eve_settle(
        ${request_no}, 1::smallint, 'failed', final => false, error_code => 'upstream_unavailable'
      )`;
    await reserve("r", { attempt: 2, callId });
    expect(await giveBack("r", callId, { attempt: 1 })).toEqual({ status: "nothing" });
    expect(await giveBack("r", callId, { attempt: 2 })).toEqual({ status: "given_back" });
    expect(await books()).toMatchObject({ running: 0, starts: 1, day_starts: 1 });
    expect(await sql`select state, attempts, error_code from eve.requests where request_id = 'r'`).toEqual([
      { state: "failed", attempts: 1, error_code: "upstream_unavailable" },
    ]);
  });
});
