/** What the system stands on gives way under load: the disk, upstream, keys, limits, the clock. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { limitsOf, NARROW, NARROW_LIMITS, setLimits, WIDE, WIDE_LIMITS } from "../harness/load/site.ts";
import { moveClock } from "../harness/database_clock.ts";
import { control, TROUBLES } from "../harness/load/troubles.ts";
import { until } from "../harness/patience.ts";
import { answered, type Bench, codesOf, met, refusedWith, startBench, survives } from "./stack_under_load.ts";

let bench: Bench;
beforeAll(async () => {
  // The other file's functions reach the database over the REST API.
  bench = await startBench(2, { EVE_LEDGER_TRANSPORT: "direct" });
});
afterAll(() => bench?.stop());

/** Until nobody's attempt with this key, or with any, is under way. */
const nothingInFlight = (keyAlias: string | null = null) =>
  until(async () => {
    const [row] = await bench.site.sql`
      select count(*)::int as n
      from eve.inflight i
      left join public.google_ai_api_keys k on k.id = i.key_id
      where ${keyAlias}::text is null or k.key_alias = ${keyAlias}`;
    return row!.n === 0;
  }, "calls that began before are still under way");
const emulator = async () => await (await fetch(`${bench.stack.emulatorUrl}/__control/stats?last=0`)).json();

test("[fault.database-stopped] the database hangs with its connections open: callers get errors in time", async () => {
  // In time: while it stands still.
  await survives(bench, (traffic) =>
    TROUBLES.database_silent.run(
      bench.site,
      () => met(traffic, 3, refusedWith("database_unavailable")),
    ));
});

test("[fault.disk-full] the audit's disk is full: answers go out, and the books are written when there is room", async () => {
  await survives(bench, (traffic) => TROUBLES.audit_full.run(bench.site, () => met(traffic, 5, answered)));
});

test("[fault.limits-changed] limits go down and up: the next reservation knows", async () => {
  let startedMeanwhile = -1;
  await survives(bench, async (traffic) => {
    const { sql } = bench.site;
    // What the emptiest lane of the first project holds is the new limit, so all of them are full.
    const [least] = await sql`
      select min(n)::int as rpm
      from (
        select sum(b.starts) as n
        from eve.lanes l
        join eve.lane_buckets b on b.lane_id = l.id and b.at_ms > eve.clock_ms() - 30000
        where l.model in ${sql(WIDE)} and l.quota_project = 'demo-one'
        group by l.id
      ) lanes`;
    expect(least!.rpm).toBeGreaterThan(0);
    const low = { ...WIDE_LIMITS, rpm: least!.rpm };
    await sql`update public.google_ai_model_limits set rpm = ${low.rpm} where model in ${sql(WIDE)}`;
    const [committed] = await sql`select clock_timestamp() as at`;
    await until(async () => {
      const [row] = await sql`
        select count(*)::int as n from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and xact_start < ${committed!.at}`;
      return row!.n === 0;
    }, "a transaction that may have read the old limit goes on");
    const [changed] = await sql`select eve.clock_ms() as ms`;
    // Those that had their reservation have to be through before upstream's limit is lowered.
    await expect.poll(async () => {
      const [row] = await sql`select count(*)::int as n from eve.inflight where start_ms <= ${changed!.ms}`;
      return row!.n;
    }).toBe(0);
    for (const model of WIDE) await setLimits(bench.site, model, low);
    await met(traffic, 5, (answer, who) => who !== "crowd" && refusedWith("rate_limited")(answer));
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
    // Upstream first, or calls that the gateway releases meet the lower limit there.
    for (const model of WIDE) {
      await control(bench.site, "limits", { model, ...WIDE_LIMITS });
      await setLimits(bench.site, model, WIDE_LIMITS);
    }
  }, {
    // A client that leaves has been let through, and upstream may count its call only when its limit is the lower one.
    shape: { bots: 10, pauseMs: 150, leaves: 0 },
  });
  expect(startedMeanwhile).toBe(0);
});

test("[fault.upstream-hangs] upstream hangs: calls are broken off in time and stay counted", async () => {
  const hung = async () => {
    const [row] = await bench.site.sql`
      select count(*)::int as n, bool_and(dispatched) as counted
      from eve.attempts where error_code = 'upstream_timeout'`;
    return row!;
  };
  const { n: before } = await hung();
  // Most get their answer from another try, with another key.
  await survives(
    bench,
    () => TROUBLES.upstream_hangs.run(bench.site, () => until(async () => (await hung()).n > before)),
  );
  expect(await hung()).toEqual({ n: expect.any(Number), counted: true });
});

test("[fault.upstream-overloaded fault.upstream-broken] upstream is overloaded, and answers nonsense", async () => {
  const faults = async () => (await emulator()).faults.total;
  const records = await survives(bench, async (traffic) => {
    await TROUBLES.upstream_overloaded.run(
      bench.site,
      () => met(traffic, 3, refusedWith("upstream_unavailable")),
    );
    const before = await faults();
    // Each kind of nonsense a few times.
    await TROUBLES.upstream_garbled.run(bench.site, () => until(async () => await faults() >= before + 21));
  });
  expect(codesOf(records)).toMatchObject({ upstream_unavailable: expect.any(Number) });
});

test("[fault.key-rejected] a key is rejected: it is not asked again, and the others serve", async () => {
  const { sql } = bench.site;
  const isActive = async () => {
    const [key] = await sql`select is_active from public.google_ai_api_keys where key_alias = 'demo-c'`;
    return key!.is_active as boolean;
  };
  const asked = async (): Promise<number> => (await emulator()).faults.byKind.status ?? 0;
  let disabled = false;
  /** Before it was off, when those that were on their way then were through, and when others had been served. */
  let times: number[] = [];
  await survives(bench, async (traffic) => {
    await sql`update public.google_ai_api_keys set priority = 1 where key_alias = 'demo-c'`;
    times = [await asked()];
    await TROUBLES.key_rejected.run(bench.site, async () => {
      await until(async () => !await isActive(), "the key is still on");
      await nothingInFlight("demo-c");
      times.push(await asked());
      await met(traffic, 10, answered);
      times.push(await asked());
      disabled = !await isActive();
    });
    await sql`update public.google_ai_api_keys set priority = 30 where key_alias = 'demo-c'`;
  });
  expect(disabled).toBe(true);
  const [before, off, later] = times;
  expect(off).toBeGreaterThan(before!);
  expect(later).toBe(off);
});

test("[fault.keys-off] every key is switched off: nothing is sent, and it is said", async () => {
  let sent = -1;
  const records = await survives(bench, (traffic) =>
    TROUBLES.keys_off.run(bench.site, async () => {
      await nothingInFlight();
      const before = (await emulator()).received.total;
      await met(traffic, 8, refusedWith("no_active_key"));
      sent = (await emulator()).received.total - before;
    }));
  expect(sent).toBe(0);
  expect(codesOf(records)).toMatchObject({ no_active_key: expect.any(Number) });
});

test("[fault.tokens-revoked] the notebooks' tokens are revoked: they fetch others", async () => {
  const { sql } = bench.site;
  const count = async (query: string) => Number((await sql.unsafe(query))[0]!.n);
  // Beyond what is kept row by row they are counted.
  const refused = `select (select count(*) from eve.refusals where code = 'token_revoked')
    + (select coalesce(sum(times), 0) from eve.refusal_counts where code = 'token_revoked') as n`;
  const before = await count(refused);
  await survives(bench, async (traffic) => {
    // They hold tokens.
    await met(traffic, 1, (answer, who) => who === "notebook" && answered(answer));
    await TROUBLES.tokens_revoked.run(bench.site);
    await until(async () => await count(refused) - before);
    await until(() => count("select count(*) as n from eve.scoped_tokens where revoked_at is null"));
  });
});

test("[fault.clock-jumps] the database's clock jumps an hour ahead and back again: calls go on, with the schedule's sweep as the only hand", async () => {
  const { sql } = bench.site;
  await survives(bench, async (traffic) => {
    await moveClock(sql, 3_600_000);
    await met(traffic, 5, answered);
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
