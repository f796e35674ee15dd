/** The schedule asks the database first: the function is called when something is due, and an idle month costs few calls. */
import { Cron } from "croner";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, clearLedger, freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const START = Date.parse("2026-11-18T00:00:00Z");

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  clock = await freezeClock(sql, START);
  await sql`select public.eve_connect('https://abc.supabase.co/', 'sb_secret_of_a_test')`;
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await clock.set(START);
  await empty(
    sql,
    "eve.alert_deliveries",
    "eve.alert_channels",
    "eve.key_checks",
    "eve.key_models",
    "public.google_ai_maintenance_log",
  );
  await sql`delete from net.http_request_queue`;
  await sql`
    update eve.operations
    set run_id = null, lease_until = null, last_status = null, last_error = null, started_at = null, last_started_at = null,
      last_completed_at = null, last_succeeded_at = null, last_idle_at = null, idle_runs = 0`;
  // What runs here is what goes over HTTP; the rest is not expected.
  await sql`update eve.maintenance_expected set since = case when operation in (
    select name from eve.operations where runs_in = 'http'
  ) then ${new Date(START)}::timestamptz else 'infinity' end`;
  await addModel(sql, "m");
  for (const alias of ["one", "two"]) await addKey(sql, alias);
  await sql`update public.google_ai_api_keys set created_at = ${new Date(START - DAY)}`;
});

/** What cron runs. */
const job = async (operation: string) =>
  await sql.unsafe(
    (await sql`select command from cron.job where jobname = ${`eve_${operation}`}`)[0]!.command,
  );
/** The calls that cron has asked for since the last look. */
async function asked(): Promise<string[]> {
  const rows = await sql`delete from net.http_request_queue returning id, url`;
  return rows.sort((a, b) => Number(a.id) - Number(b.id)).map(({ url }) => String(url).split("/").at(-1)!);
}

/** What the function does when it is called and finds everything in order. */
async function answer(operation: string, { channels = [] as string[], settled = true } = {}): Promise<void> {
  const [row] = await sql`select public.eve_maintenance_begin(${operation}, source => 'cron') as run`;
  expect(row!.run).toMatchObject({ status: "running" });
  const keys = await sql`select id from public.google_ai_api_keys`;
  if (operation === "key_health") {
    for (const { id } of keys) await sql`select public.eve_key_checked(${id}, 'works')`;
  } else if (operation === "models_sync") {
    for (const { id } of keys) await sql`select public.eve_models_seen(${id}, '{m}')`;
  } else if (operation === "alerts") {
    await sql`select public.eve_alerts_evaluate('{}')`;
    for (const channel of channels) {
      for (;;) {
        const [claimed] = await sql`select public.eve_alert_claim(${channel}) as message`;
        if (claimed!.message === null) break;
        await sql`select public.eve_alert_done(${claimed!.message.delivery_id}, ${settled}, ${
          settled ? null : "no"
        })`;
        if (!settled) break;
      }
    }
  }
  await sql`select public.eve_maintenance_end(${row!.run.run_id}, 'succeeded')`;
}

/** Runs cron's jobs of all that goes over HTTP, minute by minute, and answers their calls; how often each was called. */
async function minutes(times: number): Promise<Record<string, number>> {
  const operations =
    await sql`select name, schedule from eve.operations where runs_in = 'http' and schedule is not null order by name`;
  const crons = operations.map(({ name, schedule }) => ({
    name: name as string,
    cron: new Cron(schedule, { timezone: "UTC", paused: true }),
  }));
  const calls: Record<string, number> = {};
  for (let n = 0; n < times; n++) {
    await clock.advance(MINUTE);
    const now = new Date(clock.nowMs());
    for (const { name, cron } of crons) {
      if (!cron.match(now)) continue;
      await job(name);
      for (const called of await asked()) {
        calls[called] = (calls[called] ?? 0) + 1;
        await answer(called);
      }
    }
  }
  return calls;
}

describe("an idle day", () => {
  test(
    "costs no more calls than the checks of the keys alone, so a month some 3,000 of 500,000",
    async () => {
      // What an installation does once.
      await answer("providers_sync");
      await answer("neo4j");
      await minutes(60);
      const calls = await minutes(DAY / MINUTE);
      const checks = 24 * 4;
      expect(calls.alerts ?? 0).toBe(0);
      expect(calls.models_sync).toBe(4);
      expect(Object.values(calls).reduce((sum, one) => sum + one, 0)).toBeLessThanOrEqual(checks);
      expect(31 * checks).toBeLessThan(3_000);

      // And yet everything is known to have run, and no row says so every minute.
      expect(await sql`select kind, subject from eve.alerts where closed_at is null`).toEqual([]);
      const ran = await sql`
      select o.name, eve.clock() - o.last_succeeded_at < e.within_s * interval '1 second' as is_recent, o.idle_runs > 0 as counted
      from eve.operations o join eve.maintenance_expected e on e.operation = o.name
      where o.runs_in = 'http' order by 1`;
      expect([...ran]).toEqual(
        [
          "alerts",
          "events",
          "key_health",
          "media",
          "media_reconcile",
          "models_sync",
          "neo4j",
          "providers_sync",
          "traces",
        ].map((
          name,
        ) => ({
          name,
          is_recent: true,
          counted: name !== "models_sync",
        })),
      );
      expect(await sql`select from public.google_ai_maintenance_log where operation = 'alerts'`).toHaveLength(
        0,
      );
    },
    240_000,
  );

  test("without keys costs none", async () => {
    await sql`delete from public.google_ai_api_keys`;
    await answer("providers_sync");
    await answer("neo4j");
    expect(await minutes(60)).toEqual({});
  });
});

test("events are delivered within a minute, and asked about again when the next try is due", async () => {
  await empty(sql, "eve.events", "eve.event_consumers");
  await sql`
    insert into eve.event_consumers (name, kind, types, retry_s) values ('one', 'test', '{eve.x.v1}', '{300}')`;
  await job("events");
  expect(await asked()).toEqual([]);
  await sql`select eve.emit_event('/x', 'eve.x.v1', 'x')`;
  await job("events");
  expect(await asked()).toEqual(["events"]);
  const [claimed] = await sql`select public.eve_events_claim('{test}') #> '{deliveries, 0}' as delivery`;
  const { delivery_id, lease } = claimed!.delivery;
  await sql`select public.eve_event_done(${delivery_id}, ${lease}, 'failed', draw => 1)`;
  const calls: number[] = [];
  for (let minute = 0; minute < 5; minute++) {
    await job("events");
    calls.push((await asked()).length);
    await clock.advance(MINUTE);
  }
  // In the minute in which it falls due.
  expect(calls).toEqual([0, 0, 0, 0, 0]);
  await job("events");
  expect(await asked()).toEqual(["events"]);
  await empty(sql, "eve.events", "eve.event_consumers");
});

describe("alerts", () => {
  beforeEach(async () => {
    await answer("key_health");
    await answer("alerts");
    await clock.advance(MINUTE);
    expect((await job("alerts"), await asked())).toEqual([]);
  });
  const openOne = () => sql`select eve.open_alert('model_vanished', 'gone', 'warning', 'gone')`;

  test("are sent within a minute of opening and of closing, and asked about once", async () => {
    await openOne();
    await job("alerts");
    expect(await asked()).toEqual(["alerts"]);
    await clock.advance(1);
    await answer("alerts", { channels: ["webhook"] });
    await clock.advance(MINUTE);
    await job("alerts");
    expect(await asked()).toEqual([]);
    await sql`update eve.alerts set closed_at = eve.clock()`;
    await job("alerts");
    expect(await asked()).toEqual(["alerts"]);
  });

  test("that were not sent are asked about when the next try is due, as long as there is such a channel", async () => {
    await openOne();
    await clock.advance(1);
    await answer("alerts", { channels: ["webhook"], settled: false });
    await job("alerts");
    expect(await asked()).toEqual([]);
    await clock.advance(31_000);
    await job("alerts");
    expect(await asked()).toEqual(["alerts"]);
    // The channel is not set up any more.
    await answer("alerts");
    await clock.advance(MINUTE);
    await job("alerts");
    expect(await asked()).toEqual([]);
  });

  test("that stay open are asked about once an hour, for a channel that is new", async () => {
    await openOne();
    await clock.advance(1);
    await answer("alerts");
    await sql`update eve.maintenance_expected set since = 'infinity'`;
    for (let n = 0; n < 59; n++) {
      await clock.advance(MINUTE);
      await job("alerts");
    }
    expect(await asked()).toEqual([]);
    await clock.advance(MINUTE);
    await job("alerts");
    expect(await asked()).toEqual(["alerts"]);
  });

  test("a new key's secret is looked for at once", async () => {
    const id = await addKey(sql, "three");
    await sql`update public.google_ai_api_keys set created_at = eve.clock() where id = ${id}`;
    await job("alerts");
    expect(await asked()).toEqual(["alerts"]);
    await clock.advance(1);
    await answer("alerts");
    await clock.advance(MINUTE);
    await job("alerts");
    expect(await asked()).toEqual([]);
  });

  test("an operation that does not answer is missed all the same", async () => {
    await openOne();
    for (let n = 0; n < 20; n++) {
      await clock.advance(MINUTE);
      await job("alerts");
    }
    expect(await asked()).toHaveLength(20);
    expect(await sql`select subject from eve.alerts where kind = 'maintenance_missing'`).toContainEqual({
      subject: "alerts",
    });
  });
});

describe("keys", () => {
  test("are asked about every quarter of an hour, but for those whose models were listed just now", async () => {
    await answer("key_health");
    await clock.advance(15 * MINUTE);
    await job("key_health");
    expect(await asked()).toEqual(["key_health"]);
    await answer("key_health");
    await clock.advance(13 * MINUTE);
    await answer("models_sync");
    await clock.advance(2 * MINUTE);
    await job("key_health");
    expect(await asked()).toEqual([]);
  });

  test("a check that failed is tried again when it is due, and the failure stays until one succeeds", async () => {
    await answer("key_health");
    await sql`update eve.operations set last_status = 'failed', last_completed_at = eve.clock() where name = 'key_health'`;
    await answer("models_sync");
    await clock.advance(5 * MINUTE);
    await job("key_health");
    expect(await asked()).toEqual([]);
    expect(await sql`select last_status from eve.operations where name = 'key_health'`).toEqual([
      { last_status: "failed" },
    ]);
    await clock.advance(10 * MINUTE);
    await job("key_health");
    expect(await asked()).toEqual(["key_health"]);
  });
});

describe("what runs in the database", () => {
  test("is counted where it did nothing, and a row of the log where it did something or a person asked", async () => {
    const run = async (source: string) => {
      const [begun] = await sql`select eve.begin_run('sweep', ${source}) as run`;
      await sql`select eve.step_run(${begun!.run.run_id})`;
    };
    const logged = async () =>
      (await sql`select details ->> 'source' as source from public.google_ai_maintenance_log where operation = 'sweep'`)
        .map((row) => row.source);
    await run("cron");
    await run("cron");
    expect(await logged()).toEqual([]);
    expect(
      await sql`select idle_runs::integer, last_status, last_succeeded_at = eve.clock() as now from eve.operations where name = 'sweep'`,
    ).toEqual([{ idle_runs: 2, last_status: "succeeded", now: true }]);
    await run("a person");
    expect(await logged()).toEqual(["a person"]);
    await sql`
      insert into eve.key_model_blocks (key_id, model, blocked_until, reason) values (gen_random_uuid(), 'm', '2020-01-01', 'r')`;
    await run("cron");
    expect(await logged()).toEqual(["a person", "cron"]);
  });
});
