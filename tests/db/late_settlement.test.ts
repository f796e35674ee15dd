/** A settlement that comes after its lease, at the moment when somebody else wants the same request or clears its lane. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

let database: TestDatabase;
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  clock = await freezeClock(database.sql, Date.now());
  await database
    .sql`insert into public.google_ai_api_keys (key_alias, env_var_name) values ('one', 'GOOGLE_API_KEY')`;
});
afterAll(() => database?.drop());

interface Reserved {
  status: string;
  state?: string;
  request_no: number;
}

const LEASE_MS = 100;

async function reserve(requestId: string, leaseMs = LEASE_MS): Promise<Reserved> {
  const [row] = await database.sql<[{ answer: Reserved }]>`
    select public.eve_reserve(${requestId}, '{gemma-4-31b-it}', 10, lease_ms => ${leaseMs}, request_hash => 'same') as answer
  `;
  return row.answer;
}

const leaseIsOver = () => clock.advance(LEASE_MS + 1);

test("[G6.late] a repeated request waits for it, and learns how the first one ended", async () => {
  const { sql } = database;
  const first = await reserve("twice");
  await leaseIsOver();
  let second: Promise<Reserved>;
  await sql.begin(async (transaction) => {
    await transaction`select public.eve_settle(${first.request_no}, 1, 'succeeded', input_tokens => 9)`;
    second = reserve("twice");
    // It must be waiting by the time this transaction ends.
    await expect.poll(() => waitingFor(database)).toBe(1);
  });
  expect(await second!).toMatchObject({
    status: "duplicate",
    state: "succeeded",
    request_no: first.request_no,
  });
  expect(await sql`select request_no from eve.inflight`).toEqual([]);
});

test("[G6.late] the lane is still served", async () => {
  await leaseIsOver();
  expect(await reserve("another", 600_000)).toMatchObject({ status: "granted" });
  expect(await database.sql`select public.eve_sweep() as swept`).toMatchObject([{ swept: { expired: 0 } }]);
});

test("[G6.late] the counters that other readers know have the real tokens too, once", async () => {
  const { sql } = database;
  await leaseIsOver();
  await sql`select public.eve_sweep()`;
  await sql`delete from public.google_ai_usage_counters`;
  const counters = () => sql`select rpm_used, tpm_used, rpd_used from public.google_ai_usage_counters`;
  const late = await reserve("late");
  await leaseIsOver();
  await sql`select public.eve_sweep()`;
  expect(await counters()).toEqual([{ rpm_used: 1, tpm_used: 10, rpd_used: 1 }]);
  for (let twice = 0; twice < 2; twice++) {
    await sql`select public.eve_settle(${late.request_no}, 1, 'succeeded', input_tokens => 321)`;
    expect(await counters()).toEqual([{ rpm_used: 1, tpm_used: 321, rpd_used: 1 }]);
  }
});

test("[G6.late] a settlement that comes late and knows nothing leaves the counters as they were", async () => {
  const { sql } = database;
  await leaseIsOver();
  await sql`select public.eve_sweep()`;
  await sql`delete from public.google_ai_usage_counters`;
  const late = await reserve("late and empty");
  await leaseIsOver();
  await sql`select public.eve_sweep()`;
  await sql`select public.eve_settle(${late.request_no}, 1, 'cancelled')`;
  expect(await sql`select tpm_used from public.google_ai_usage_counters`).toEqual([{ tpm_used: 10 }]);
});

async function waitingFor({ sql }: TestDatabase): Promise<number> {
  const [row] = await sql<[{ waiting: number }]>`
    select count(*)::integer as waiting from pg_catalog.pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
  `;
  return row.waiting;
}
