/** Runs of maintenance: logged whatever becomes of them, never two at once, bounded in time, taken up after a death. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { moveClock, stopClock } from "../harness/database_clock.ts";
import { holdUp } from "../harness/held_up.ts";
import { begin, lastLogged, runToEnd, step } from "./run_to_end.ts";

let database: TestDatabase;
let sql: postgres.Sql;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await empty(sql, "public.google_ai_maintenance_log", "public.token_usage");
  await sql`update eve.operations set run_id = null, lease_until = null, last_error = null, last_status = null`;
  await sql`update eve.retention set batch_rows = 2000`;
});

const expectedLog = (fields: Record<string, unknown>) => expect.objectContaining(fields);
const oldUsage = (rows: number) =>
  sql`insert into public.token_usage (ts, model) select now() - interval '3 years', 'm' from generate_series(1, ${rows}::int)`;
const usageLeft = async () => Number((await sql`select count(*) as n from public.token_usage`)[0]!.n);
/** As if the run had died and its lease had run out. */
const leaseRunsOut = (operation: string) =>
  sql`update eve.operations set lease_until = now() - interval '1 second' where name = ${operation}`;

describe("the log", () => {
  test("says when a run began and ended, what it changed and how much", async () => {
    await oldUsage(3);
    const [done] = await runToEnd(sql, "retention");
    expect(done).toMatchObject({
      status: "succeeded",
      count: 3,
      more: false,
      tables: ["public.token_usage"],
    });
    const logged = await lastLogged(sql, "retention");
    expect(logged).toEqual(expectedLog({
      status: "succeeded",
      tables_affected: ["public.token_usage"],
      deleted_count: 3,
      started_at: expect.any(Date),
      completed_at: expect.any(Date),
    }));
    expect(logged.details).toMatchObject({ source: "test", deleted: { "public.token_usage": 3 } });
  });

  test("has the row while the run is on", async () => {
    await begin(sql, "sweep");
    expect(await lastLogged(sql, "sweep")).toEqual(
      expectedLog({ status: "running", completed_at: null, started_at: expect.any(Date) }),
    );
  });

  test("has the failure, and what was done before it", async () => {
    await oldUsage(5000);
    const { run_id } = await begin(sql, "retention");
    expect(await step(sql, run_id)).toMatchObject({ done: false, count: 2000 });
    await sql`alter table public.token_usage rename column ts to another`;
    try {
      expect(await step(sql, run_id)).toMatchObject({
        done: true,
        status: "failed",
        error: expect.stringContaining("42703"),
      });
    } finally {
      await sql`alter table public.token_usage rename column another to ts`;
    }
    const logged = await lastLogged(sql, "retention");
    expect(logged).toEqual(
      expectedLog({ status: "failed", deleted_count: 2000, completed_at: expect.any(Date) }),
    );
    expect(logged.details.error).toContain("does not exist");
    // The failure holds nobody up.
    await runToEnd(sql, "retention");
    expect(await usageLeft()).toBe(0);
  });

  test("a statement that is cancelled is a failure like any other", async () => {
    await oldUsage(10);
    const held = await holdUp(database.url, "before delete on public.token_usage");
    try {
      const { run_id } = await begin(sql, "retention");
      const stepping = step(sql, run_id);
      await held.arrived();
      await sql`
        select pg_cancel_backend(pid) from pg_stat_activity
        where datname = current_database() and query like '%eve_maintenance_step%' and pid <> pg_backend_pid()`;
      expect(await stepping).toMatchObject({ status: "failed", error: expect.stringContaining("57014") });
    } finally {
      await held.release();
    }
    expect(await lastLogged(sql, "retention")).toEqual(expectedLog({ status: "failed" }));
    expect(await usageLeft()).toBe(10);
  });

  test("that refuses the row stops nothing, and an alert says so", async () => {
    await sql`alter table public.google_ai_maintenance_log add constraint mine check (operation <> 'sweep')`;
    try {
      expect((await runToEnd(sql, "sweep"))[0]).toMatchObject({ status: "succeeded" });
    } finally {
      await sql`alter table public.google_ai_maintenance_log drop constraint mine`;
    }
    expect(await sql`select kind from eve.alerts where kind = 'maintenance_log_refused'`).toHaveLength(1);
    expect(await sql`select last_status from eve.operations where name = 'sweep'`).toEqual([
      { last_status: "succeeded" },
    ]);
  });
});

describe("two runs", () => {
  test("of one operation never overlap, however many begin at once", async () => {
    const pool = postgres(database.url, { max: 16, onnotice: () => {} });
    try {
      const begun = await Promise.all(Array.from({ length: 16 }, () => begin(pool, "retention")));
      expect(begun.filter(({ status }) => status === "running")).toHaveLength(1);
      expect(begun.filter(({ status }) => status === "skipped")).toHaveLength(15);
    } finally {
      await pool.end();
    }
    expect(
      await sql`
        select status, count(*)::integer as times, bool_and(details ->> 'reason' is not null) as has_reason
        from public.google_ai_maintenance_log where operation = 'retention' group by 1 order by 1`,
    ).toEqual([
      { status: "running", times: 1, has_reason: false },
      { status: "skipped", times: 15, has_reason: true },
    ]);
  });

  test("the second is refused at once, even while the first is in the middle of a step", async () => {
    await oldUsage(10);
    const held = await holdUp(database.url, "after delete on public.token_usage");
    let stepping: Promise<unknown>;
    try {
      const { run_id } = await begin(sql, "retention");
      stepping = step(sql, run_id);
      await held.arrived();
      expect(await begin(sql, "retention")).toMatchObject({ status: "skipped" });
    } finally {
      await held.release();
    }
    expect(await stepping).toMatchObject({ count: 10 });
  });

  test("two who step the same run take turns, and nothing is counted twice", async () => {
    await oldUsage(3000);
    await sql`update eve.retention set batch_rows = 100 where table_name = 'public.token_usage'`;
    const pool = postgres(database.url, { max: 4, onnotice: () => {} });
    try {
      const { run_id } = await begin(pool, "retention");
      const stepping = async () => {
        while (!(await step(pool, run_id)).done);
      };
      await Promise.all([stepping(), stepping(), stepping(), stepping()]);
    } finally {
      await pool.end();
    }
    expect(await lastLogged(sql, "retention")).toEqual(
      expectedLog({ status: "succeeded", deleted_count: 3000 }),
    );
  });

  test("of different operations are nobody's business", async () => {
    await begin(sql, "retention");
    expect(await begin(sql, "rollup")).toMatchObject({ status: "running" });
  });

  test("one that ended makes room at once", async () => {
    await runToEnd(sql, "report");
    expect(await begin(sql, "report")).toMatchObject({ status: "running" });
  });
});

describe("a run that dies", () => {
  /** What cron sends, on a connection of its own. */
  async function asCron(operation: string) {
    const [job] = await sql`select command from cron.job where jobname = ${`eve_${operation}`}`;
    const connection = postgres(database.url, { max: 1, onnotice: () => {} });
    const [{ pid }] = await connection`select pg_backend_pid() as pid` as [{ pid: number }];
    const ended = connection.unsafe(job!.command).simple().then(() => "ended", () => "killed");
    return { pid, ended, close: () => connection.end({ timeout: 0 }) };
  }

  test("keeps what it had done, holds its lock no longer than its lease, and is continued where it stopped", async () => {
    await oldUsage(20_000);
    await sql`update eve.retention set batch_rows = 100 where table_name = 'public.token_usage'`;
    const held = await holdUp(
      database.url,
      "after delete on public.token_usage",
      "(select count(*) from public.token_usage) < 19000",
    );
    try {
      const cron = await asCron("retention");
      await held.arrived();
      await sql`select pg_terminate_backend(${cron.pid})`;
      expect(await cron.ended).toBe("killed");
      await cron.close();
    } finally {
      await held.release();
    }

    const left = await usageLeft();
    expect(left).toBeGreaterThan(0);
    expect(await begin(sql, "retention")).toMatchObject({ status: "skipped" });
    const dead = await sql`select run_id, log_id from eve.operations where name = 'retention'`;
    await leaseRunsOut("retention");
    await sql`update eve.retention set batch_rows = 5000 where table_name = 'public.token_usage'`;
    const [done] = await runToEnd(sql, "retention");
    expect(done).toMatchObject({ status: "succeeded", count: left });
    expect(await usageLeft()).toBe(0);

    const [closed] = await sql`select * from public.google_ai_maintenance_log where id = ${dead[0]!.log_id}`;
    expect(closed).toEqual(
      expectedLog({ status: "failed", deleted_count: 20_000 - left, completed_at: expect.any(Date) }),
    );
    expect(closed!.details).toMatchObject({
      error: expect.stringContaining("without a word"),
      source: "cron",
    });
  });

  test("and goes on after its lease has expired finds its place taken", async () => {
    const { run_id } = await begin(sql, "retention");
    await leaseRunsOut("retention");
    const next = await begin(sql, "retention");
    expect(next.status).toBe("running");
    expect(await step(sql, run_id)).toMatchObject({ done: true, status: "lost" });
    expect(await sql`select public.eve_maintenance_end(${run_id}, 'succeeded') as answer`).toEqual([
      { answer: { status: "lost" } },
    ]);
    expect(await sql`select run_id::integer from eve.operations where name = 'retention'`).toEqual([
      { run_id: next.run_id },
    ]);
  });

  test("its lease over, steps no more even if nobody took its place", async () => {
    const { run_id } = await begin(sql, "sweep");
    await leaseRunsOut("sweep");
    expect(await step(sql, run_id)).toMatchObject({ done: true, status: "lost" });
  });
});

describe("time", () => {
  test("a run whose time is up ends in order, and the next one goes on", async () => {
    await oldUsage(3000);
    await sql`update eve.retention set batch_rows = 100 where table_name = 'public.token_usage'`;
    const { run_id } = await begin(sql, "retention", 1000);
    await step(sql, run_id);
    await sql`update eve.operations set ends_at = now() - interval '1 second' where name = 'retention'`;
    expect(await step(sql, run_id)).toMatchObject({
      done: true,
      status: "succeeded",
      more: true,
      count: 100,
    });
    expect((await lastLogged(sql, "retention")).details).toMatchObject({ more: true });
    expect(await usageLeft()).toBe(2900);
    await runToEnd(sql, "retention");
    expect(await usageLeft()).toBe(0);
  });

  test.each([999, 120_001])("a limit of %i ms is refused", async (ms) => {
    await expect(begin(sql, "sweep", ms)).rejects.toMatchObject({ code: "EV400" });
  });
});

test("an operation that there is not is refused", async () => {
  await expect(begin(sql, "tidy")).rejects.toMatchObject({ code: "EV400" });
});

test("one that needs HTTP is not stepped in SQL", async () => {
  const { run_id } = await begin(sql, "key_health");
  expect(await step(sql, run_id)).toMatchObject({ done: true, status: "failed" });
});

describe("sweep", () => {
  test("closes what died, forgets what has ended, and says how much", async () => {
    await sql`
      insert into public.google_ai_api_keys (key_alias, env_var_name) values ('one', 'GOOGLE_API_KEY_ONE')
      on conflict do nothing`;
    // Who reserves on a lane closes what has died there: none of them before the sweep.
    await stopClock(sql);
    const reserved: { answer: { request_no: number } }[] = await sql`
      select public.eve_reserve('dead-' || n, '{gemma-4-31b-it}', 10, lease_ms => 100) as answer from generate_series(1, 3) n`;
    const alive = await sql`select public.eve_reserve('alive', '{gemma-4-31b-it}', 10) as answer`;
    await sql`
      insert into eve.key_model_blocks (key_id, model, blocked_until, reason) values
        (gen_random_uuid(), 'over', now() - interval '1 minute', 'permission_denied'),
        (gen_random_uuid(), 'on', 'infinity', 'model_not_found')`;
    await sql`
      insert into eve.consumers (name, kind, secret_hash, previous_secret_hash, previous_secret_until) values
        ('rotated', 'service', 'new', 'old', now() - interval '1 minute'), ('rotating', 'service', 'new', 'old', now() + interval '1 hour')`;
    await moveClock(sql, 1_000);
    const [done] = await runToEnd(sql, "sweep");
    expect(done.details).toEqual({ expired: 3, blocks_ended: 1, old_secrets_forgotten: 1 });
    expect(done.tables).toEqual([
      "eve.attempts",
      "eve.consumers",
      "eve.inflight",
      "eve.key_model_blocks",
      "eve.requests",
    ]);
    expect(
      await sql`select request_id, state from eve.requests where request_no = any(${
        reserved.map((row) => row.answer.request_no)
      }) order by 1`,
    ).toEqual(["dead-1", "dead-2", "dead-3"].map((request_id) => ({ request_id, state: "expired" })));
    expect(await sql`select request_no::integer from eve.inflight`).toEqual([
      { request_no: alive[0]!.answer.request_no },
    ]);
    expect(await sql`select model from eve.key_model_blocks`).toEqual([{ model: "on" }]);
    expect(await sql`select name from eve.consumers where previous_secret_hash is not null`).toEqual([
      { name: "rotating" },
    ]);
  });
});
