/** What pg_cron and pg_net do on a hosted project is done on the local stack too. */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isDueInMinute, secondsBetween } from "../../local/cron_jobs.ts";
import { until } from "../harness/patience.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { startReceiver } from "../observability/receiver.ts";

describe("when a job is due", () => {
  const at = (text: string) => new Date(text);
  test.each([
    ["* * * * *", "2026-11-21T07:03:59Z", true],
    ["*/15 * * * *", "2026-11-21T07:45:00Z", true],
    ["*/15 * * * *", "2026-11-21T07:46:00Z", false],
    ["43 */6 * * *", "2026-11-21T18:43:30Z", true],
    ["43 */6 * * *", "2026-11-21T19:43:30Z", false],
    ["20 8 * * *", "2026-11-21T08:20:00Z", true],
    // Either day is enough, as in cron.
    ["0 0 1 * mon", "2026-11-23T00:00:00Z", true],
    ["0 0 1 * mon", "2026-12-01T00:00:00Z", true],
    ["0 0 1 * mon", "2026-11-24T00:00:00Z", false],
    ["@hourly", "2026-11-21T07:00:10Z", true],
    ["@hourly", "2026-11-21T07:01:10Z", false],
    ["61 * * * *", "2026-11-21T07:01:00Z", false],
  ])("%s at %s: %s", (schedule, time, due) => {
    expect(isDueInMinute(schedule, at(time))).toBe(due);
  });

  test("seconds are another form", () => {
    expect(["1 seconds", "30 second", "59 SECONDS", "60 seconds", "* * * * *"].map(secondsBetween)).toEqual([
      1,
      30,
      59,
      null,
      null,
    ]);
  });
});

describe("a stack with its schedule", () => {
  let stack: TestStack;
  let sql: postgres.Sql;
  beforeAll(async () => {
    stack = await startTestStack({ schedule: true });
    sql = postgres(stack.databaseUrl, { onnotice: () => {} });
  });
  afterAll(async () => {
    await sql?.end();
    await stack?.stop();
  });

  test("runs SQL as the role that scheduled it, and says how it went", async () => {
    await sql`select cron.schedule('who', '1 seconds', 'select current_user, 1')`;
    await sql`select cron.schedule('broken', '1 seconds', 'select 1 / 0')`;
    await sql`
      select cron.schedule('eve_sweep', '1 seconds', command) from cron.job where jobname = 'eve_sweep'`;
    const runs = await eventually(async () => {
      const rows = await sql`
        select distinct on (j.jobname) j.jobname, d.status, d.return_message, d.username, d.end_time >= d.start_time as ended
        from cron.job_run_details d join cron.job j using (jobid)
        where d.status <> 'running' and j.jobname in ('who', 'broken', 'eve_sweep') order by j.jobname, d.runid`;
      return rows.length === 3 ? [...rows] : undefined;
    });
    expect(runs).toEqual([
      {
        jobname: "broken",
        status: "failed",
        return_message: "ERROR:  division by zero",
        username: "postgres",
        ended: true,
      },
      { jobname: "eve_sweep", status: "succeeded", return_message: "DO", username: "postgres", ended: true },
      { jobname: "who", status: "succeeded", return_message: "1 row", username: "postgres", ended: true },
    ]);
    await sql`select cron.unschedule(jobname) from cron.job where jobname in ('who', 'broken')`;
    // It found nothing to do, which is counted and no row of the log.
    expect(await sql`select last_status, idle_runs > 0 as counted from eve.operations where name = 'sweep'`)
      .toEqual([{ last_status: "succeeded", counted: true }]);
  });

  test("one job is never run twice at a time", async () => {
    await sql`select cron.schedule('slow', '1 seconds', 'select pg_sleep(1.3)')`;
    await eventually(async () => {
      const [row] = await sql`
        select count(*)::integer as runs from cron.job_run_details d join cron.job j using (jobid)
        where j.jobname = 'slow' and d.status = 'succeeded'`;
      return row!.runs >= 2 ? true : undefined;
    });
    const [row] = await sql`
      select count(*)::integer as overlaps
      from cron.job_run_details a
      join cron.job_run_details b using (jobid)
      join cron.job j using (jobid)
      where j.jobname = 'slow' and a.runid < b.runid and b.start_time < a.end_time`;
    expect(row).toEqual({ overlaps: 0 });
    await sql`select cron.unschedule('slow')`;
  });

  test("delivers an event to a webhook of this machine by itself", async () => {
    const receiver = startReceiver();
    try {
      const { webhook } = await (await stack.invoke("admin/webhooks/add", {
        url: `${receiver.url}/hook`,
        types: ["thing.*"],
      })).json();
      await sql`select eve.emit_event('/things', 'thing.happened.v1', 'x')`;
      await sql`select cron.schedule('eve_events', '1 seconds', command) from cron.job where jobname = 'eve_events'`;
      await eventually(() => Promise.resolve(receiver.received[0]));
      expect(JSON.parse(receiver.received[0]!.body)).toMatchObject({
        type: "thing.happened.v1",
        subject: "x",
      });
      await sql`select cron.unschedule('eve_events')`;
      await (await stack.invoke("admin/webhooks/remove", { id: webhook.id })).body?.cancel();
    } finally {
      await receiver.stop();
    }
  });

  test("asks the function for what needs HTTP, with the URL and the key out of Vault", async () => {
    await sql`truncate eve.key_checks`;
    await sql`
      select cron.schedule('eve_key_health', '1 seconds', command) from cron.job where jobname = 'eve_key_health'`;
    const [answer] = await eventually(async () => {
      const rows = await sql`
        select status_code, content::jsonb ->> 'status' as status, content::jsonb ->> 'operation' as operation, timed_out
        from net._http_response where status_code = 200 and content like '%"key_health"%succeeded%' order by id limit 1`;
      return rows.length > 0 ? [...rows] : undefined;
    });
    await sql`select cron.unschedule('eve_key_health')`;
    expect(answer).toEqual({
      status_code: 200,
      status: "succeeded",
      operation: "key_health",
      timed_out: false,
    });
    expect(
      await sql`
        select status, details -> 'keys' as keys, details ->> 'source' as source
        from public.google_ai_maintenance_log where operation = 'key_health' and status = 'succeeded' order by id limit 1`,
    ).toEqual([
      {
        status: "succeeded",
        keys: { "demo-a": "works", "demo-b": "works", "demo-c": "works" },
        source: "cron",
      },
    ]);
  });

  test("a request that nobody answers leaves a row that says so", async () => {
    await sql`select net.http_post('http://127.0.0.1:9/nobody', timeout_milliseconds => 2000)`;
    const [answer] = await eventually(async () => {
      const rows = await sql`
        select status_code, error_msg from net._http_response where error_msg is not null order by id desc limit 1`;
      return rows.length > 0 ? [...rows] : undefined;
    });
    expect(answer).toEqual({ status_code: null, error_msg: expect.stringMatching(/.+/) });
  });
});

async function eventually<T>(poll: () => Promise<T | undefined>): Promise<T> {
  let seen: T | undefined;
  await until(async () => (seen = await poll()) !== undefined, "nothing came of it");
  return seen!;
}
