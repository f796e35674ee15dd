/** What the system stands on gives way under load: the disk, upstream, keys, limits, the clock. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { limitsOf, NARROW, NARROW_LIMITS, setLimits, WIDE, WIDE_LIMITS } from "../harness/load/site.ts";
import { moveClock, TROUBLES } from "../harness/load/troubles.ts";
import { outcomeOf } from "../harness/load/traffic.ts";
import { type Bench, codesOf, startBench, survives } from "./weathered.ts";

let bench: Bench;
beforeAll(async () => {
  // The other file's functions reach the database over the REST API.
  bench = await startBench(2, { EVE_LEDGER_TRANSPORT: "direct" });
});
afterAll(() => bench?.stop());

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
/** Until it is more than nothing. */
const until = (count: () => Promise<number>) =>
  expect.poll(count, { timeout: 10_000, interval: 50 }).toBeGreaterThan(0);
const emulator = async () => await (await fetch(`${bench.stack.emulatorUrl}/__control/stats?last=0`)).json();

test("the database stands still, connections open: callers are told in time", async () => {
  const records = await survives(bench, () => TROUBLES.database_silent.run(bench.site, 2_500));
  // Nobody waits for it longer than the function does (1.5 s here), and then a little.
  for (const one of records.filter((record) => record.tries.length === 1)) {
    expect(one.endedAt - one.startedAt).toBeLessThan(one.order.maxWaitMs + 6_000);
  }
});

test("the audit's disk is full: answers go out, and the books are written when there is room", async () => {
  const records = await survives(bench, () => TROUBLES.audit_full.run(bench.site, 1_500));
  expect(records.filter((one) => outcomeOf(one).kind === "answered").length).toBeGreaterThan(0);
});

test("limits go down and up: the next reservation knows", async () => {
  let startedMeanwhile = -1;
  await survives(bench, async () => {
    const { sql } = bench.site;
    // What the emptiest lane of the first project holds is the new limit, so all of them are full.
    const [least] = await sql`
      select min(n)::int as rpm
      from (
        select sum(b.starts) as n
        from eve.lanes l
        join eve.lane_buckets b on b.lane_id = l.id and b.at_ms > eve.clock_ms() - 45000
        where l.model in ${sql(WIDE)} and l.quota_project = 'demo-one'
        group by l.id
      ) lanes`;
    expect(least!.rpm).toBeGreaterThan(0);
    const low = { ...WIDE_LIMITS, rpm: least!.rpm };
    await sql`update public.google_ai_model_limits set rpm = ${low.rpm} where model in ${sql(WIDE)}`;
    const [changed] = await sql`select eve.clock_ms() as ms`;
    // Those that had their reservation have to be through before upstream's limit is lowered.
    await expect.poll(async () => {
      const [row] = await sql`select count(*)::int as n from eve.inflight where start_ms <= ${changed!.ms}`;
      return row!.n;
    }, { timeout: 10_000 }).toBe(0);
    for (const model of WIDE) await setLimits(bench.site, model, low);
    await sleep(1_200);
    const [row] = await sql`
      select count(*)::int as n
      from (
        select i.lane_id, i.received_at from eve.inflight i
        union all
        select a.lane_id, r.received_at from eve.attempts a join eve.requests r on r.request_no = a.request_no
      ) came
      join eve.lanes l on l.id = came.lane_id and l.model in ${sql(WIDE)} and l.quota_project = 'demo-one'
      where came.received_at > to_timestamp(${changed!.ms}::float8 / 1000)`;
    startedMeanwhile = row!.n;
    for (const model of WIDE) await setLimits(bench.site, model, WIDE_LIMITS);
  }, { shape: { bots: 10, pauseMs: 150 } });
  expect(startedMeanwhile).toBe(0);
});

test("upstream hangs: calls are broken off in time and stay counted", async () => {
  await survives(bench, () => TROUBLES.upstream_hangs.run(bench.site, 600));
  // Most get their answer from another try, with another key.
  const [hung] = await bench.site.sql`
    select count(*)::int as n, bool_and(dispatched) as counted from eve.attempts where error_code = 'upstream_timeout'`;
  expect(hung).toEqual({ n: expect.any(Number), counted: true });
  expect(hung!.n).toBeGreaterThan(0);
});

test("upstream is overloaded, and answers nonsense", async () => {
  const records = await survives(bench, async () => {
    await TROUBLES.upstream_overloaded.run(bench.site, 1_200);
    await TROUBLES.upstream_garbled.run(bench.site, 1_200);
  });
  expect(codesOf(records)).toMatchObject({ upstream_unavailable: expect.any(Number) });
});

test("a key is rejected: it is not asked again, and the others serve", async () => {
  const { sql } = bench.site;
  let disabled: unknown;
  let asked = 0;
  await survives(bench, async () => {
    await sql`update public.google_ai_api_keys set priority = 1 where key_alias = 'demo-c'`;
    const before = (await emulator()).faults.byKind.status ?? 0;
    const trouble = TROUBLES.key_rejected.run(bench.site, 1_500);
    await expect.poll(async () => {
      const [key] = await sql`select is_active from public.google_ai_api_keys where key_alias = 'demo-c'`;
      return key!.is_active;
    }, { timeout: 10_000 }).toBe(false);
    await sleep(500);
    [disabled] = await sql`select is_active from public.google_ai_api_keys where key_alias = 'demo-c'`;
    asked = (await emulator()).faults.byKind.status - before;
    await trouble;
    await sql`update public.google_ai_api_keys set priority = 30 where key_alias = 'demo-c'`;
  });
  expect(disabled).toEqual({ is_active: false });
  // Those that were on their way already; nobody afterwards.
  expect(asked).toBeGreaterThan(0);
  expect(asked).toBeLessThan(12);
});

test("every key is switched off: nothing is sent, and it is said", async () => {
  let sent = -1;
  const records = await survives(bench, async () => {
    const trouble = TROUBLES.keys_off.run(bench.site, 1_500);
    await sleep(500);
    const before = (await emulator()).received.total;
    await sleep(800);
    sent = (await emulator()).received.total - before;
    await trouble;
  });
  expect(sent).toBe(0);
  expect(codesOf(records)).toMatchObject({ no_active_key: expect.any(Number) });
});

test("the notebooks' tokens are revoked: they fetch others", async () => {
  const { sql } = bench.site;
  const count = async (query: string) => Number((await sql.unsafe(query))[0]!.n);
  const before = await count("select count(*) as n from eve.refusals where code = 'token_revoked'");
  await survives(bench, async () => {
    await until(() =>
      count("select count(*) as n from eve.scoped_tokens where revoked_at is null and requests_used > 0")
    );
    await TROUBLES.tokens_revoked.run(bench.site);
    await until(async () =>
      await count("select count(*) as n from eve.refusals where code = 'token_revoked'") - before
    );
    await until(() => count("select count(*) as n from eve.scoped_tokens where revoked_at is null"));
  });
});

test("the database's clock jumps an hour ahead and back again: calls go on, with the schedule's sweep as the only hand", async () => {
  const { sql } = bench.site;
  await survives(bench, async () => {
    await moveClock(sql, 3_600_000);
    await sleep(1_000);
    await sql`select public.eve_sweep()`;
    await moveClock(sql, 0);
    await sql`select public.eve_sweep()`;
  }, {
    // Tokens name instants that the functions' clock does not know; see docs/faults.md.
    shape: { notebooks: 0, bots: 8 },
    // A jump ahead forgets the minute, once each way; only the narrow lanes were full.
    terms: { windows: false, explainedRefusals: 4 * NARROW_LIMITS.rpm! },
  });
  expect(limitsOf(NARROW)).toBe(NARROW_LIMITS);
});
