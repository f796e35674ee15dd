/** The schedule on the real pg_cron: the same migrations, run by the extension itself. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { until } from "../harness/patience.ts";
import { type CronServer, hasPgCron, startCronServer } from "../harness/cron_server.ts";

const MIGRATIONS = [...Deno.readDirSync(`${CHECKOUT}/supabase/migrations`)].map((entry) => entry.name)
  .filter((name) => name.endsWith(".sql")).sort();
/** The schedule, and what later migrations say of it. */
const SCHEDULE = MIGRATIONS.slice(MIGRATIONS.findIndex((name) => name.endsWith("_schedule.sql")));

describe.skipIf(!hasPgCron())("pg_cron", () => {
  let server: CronServer;
  beforeAll(async () => {
    server = await startCronServer();
    for (const migration of MIGRATIONS) await server.apply(migration);
  });
  afterAll(() => server?.stop());

  const jobs = () =>
    server.sql<{ jobname: string; schedule: string; username: string; active: boolean }[]>`
      select jobname, schedule, username, active from cron.job order by jobname`;

  test("it takes every operation's schedule as it is", async () => {
    const [{ extension }] = await server.sql`
      select extversion as extension from pg_extension where extname = 'pg_cron'` as [
      { extension: string },
    ];
    expect(extension).toMatch(/^1\./);
    const wanted = await server.sql`
      select 'eve_' || name as jobname, schedule, 'postgres' as username, true as active
      from eve.operations where schedule is not null order by 1`;
    expect(wanted.length).toBeGreaterThan(5);
    expect(await jobs()).toEqual([...wanted]);
  });

  test("the migrations again change nothing and say nothing", async () => {
    const before = await server.sql`select * from cron.job order by jobid`;
    const notices: string[] = [];
    for (const migration of SCHEDULE) notices.push(...await server.apply(migration));
    expect(notices.filter((notice) => notice.startsWith("schedule:"))).toEqual([]);
    expect(await server.sql`select * from cron.job order by jobid`).toEqual(before);
  });

  test("it runs them: SQL to its end, step by step, and HTTP as far as the queue", async () => {
    const { sql } = server;
    await sql`select public.eve_connect('http://127.0.0.1:1', 'sb_secret_for_this_test')`;
    // The same commands at the next start of the server, since 1.4 knows no time shorter than a minute.
    await sql`select cron.schedule(jobname::name, '@reboot', command) from cron.job`;
    await eventually(async () => {
      const running = await sql`select from cron.job_run_details where status not in ('succeeded', 'failed')`;
      return running.length === 0 ? true : undefined;
    });
    // A minute may have begun since the migrations, and its jobs have run.
    await sql`delete from cron.job_run_details`;
    await sql`delete from public.google_ai_maintenance_log`;
    await sql`
      update eve.operations set last_started_at = null, last_completed_at = null, last_status = null, last_error = null
      where runs_in = 'http'`;
    await sql`delete from net.http_request_queue`;
    // More than one step's work, so that the block has to commit in between.
    await sql`
      insert into public.token_usage (ts, model) select now() - interval '2 years', 'm' from generate_series(1, 5000)`;
    // Something is due of everything that goes over HTTP.
    await sql`insert into public.google_ai_api_keys (key_alias, env_var_name) values ('one', 'KEY_ONE')`;
    await sql`select eve.open_alert('model_vanished', 'm', 'warning', 'gone')`;
    await server.restart();

    const scheduled = await jobs();
    const http = await sql`select name from eve.operations where runs_in = 'http' order by name`.then((
      rows,
    ) => rows.map((row) => row.name as string));
    expect(http.length).toBeGreaterThan(2);
    const ran = await eventually(async () => {
      const rows = await sql`
        select j.jobname, d.status, d.return_message
        from cron.job_run_details d
        join cron.job j using (jobid)
        where d.status in ('succeeded', 'failed')
        order by j.jobname`;
      return rows.length >= scheduled.length ? [...rows] : undefined;
    });
    expect(ran).toEqual(scheduled.map(({ jobname }) => ({
      jobname,
      status: "succeeded",
      return_message: expect.stringMatching(
        http.includes(jobname.slice("eve_".length)) ? /^SELECT 1/ : /^DO/,
      ),
    })));
    expect(
      await sql`
        select operation, status, deleted_count, completed_at >= started_at as ended, details ->> 'source' as source
        from public.google_ai_maintenance_log order by operation`,
    ).toEqual(
      // What found nothing to do is counted, and no row of the log.
      ["report", "retention"].map((operation) => ({
        operation,
        status: "succeeded",
        deleted_count: operation === "retention" ? 5000 : 0,
        ended: true,
        source: "cron",
      })),
    );
    expect(
      await sql`
        select name, last_status, idle_runs > 0 as counted from eve.operations where name in ('rollup', 'sweep') order by name`,
    ).toEqual(["rollup", "sweep"].map((name) => ({ name, last_status: "succeeded", counted: true })));
    expect(await sql`select count(*)::integer as left from public.token_usage`).toEqual([{ left: 0 }]);
    expect(await sql`select url, headers ->> 'apikey' as apikey from net.http_request_queue order by url`)
      .toEqual(["alerts", "key_health", "models_sync", "neo4j", "providers_sync"].map((operation) => ({
        url: `http://127.0.0.1:1/functions/v1/maintenance/${operation}`,
        apikey: "sb_secret_for_this_test",
      })));
  });

  test("a run that fails fails for cron too, with its reason in the log", async () => {
    const { sql } = server;
    const command = await sql`
      select command from cron.job where jobname = 'eve_rollup'`.then(([job]) => job!.command as string);
    await sql`alter table eve.rollup_progress rename to progress_gone`;
    try {
      await expect(sql.unsafe(command).simple()).rejects.toMatchObject({
        code: "EV500",
        message: expect.stringContaining("rollup_progress"),
      });
    } finally {
      await sql`alter table eve.progress_gone rename to rollup_progress`;
    }
    expect(
      await sql`
        select status, details ->> 'error' as error from public.google_ai_maintenance_log
        where operation = 'rollup' order by id desc limit 1`,
    ).toEqual([{ status: "failed", error: expect.stringContaining("rollup_progress") }]);
    await sql.unsafe(command).simple();
  });
});

async function eventually<T>(probe: () => Promise<T | undefined>): Promise<T> {
  let seen: T | undefined;
  await until(async () => (seen = await probe().catch(() => undefined)) !== undefined, "pg_cron ran nothing");
  return seen!;
}
