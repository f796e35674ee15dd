/** What is scheduled, and what becomes of the schedule where extensions or settings are missing. */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { applyMigrations } from "../../local/database.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

const EXTENSIONS = ["pg_cron", "pg_net"];
const jobs = async (sql: postgres.Sql) =>
  Object.fromEntries(
    (await sql`select jobname, schedule from cron.job`).map((row) => [row.jobname, row.schedule]),
  );

describe("with the extensions", () => {
  let database: TestDatabase;
  let sql: postgres.Sql;
  beforeAll(async () => {
    database = await cloneDatabase();
    sql = database.sql;
  });
  afterAll(() => database?.drop());

  test("every operation has a job of its name, as often as its row says", async () => {
    const wanted =
      await sql`select 'eve_' || name as job, schedule from eve.operations where schedule is not null`;
    expect(await jobs(sql)).toEqual(Object.fromEntries(wanted.map((row) => [row.job, row.schedule])));
  });

  test("a change takes effect with eve_schedule, and nobody else's job is touched", async () => {
    await sql`select cron.schedule('mine', '0 0 * * *', 'select 1')`;
    await sql`update eve.operations set schedule = '1 2 3 4 5' where name = 'report'`;
    await sql`update eve.operations set is_active = false where name = 'models_sync'`;
    await sql`update eve.operations set schedule = null where name = 'key_health'`;
    const [row] = await sql`select public.eve_schedule() as answer`;
    expect(row!.answer.missing).toEqual([]);
    expect(row!.answer.scheduled).not.toContain("eve_models_sync");
    expect(await jobs(sql)).toMatchObject({
      mine: "0 0 * * *",
      eve_report: "1 2 3 4 5",
      eve_sweep: "* * * * *",
    });
    expect(Object.keys(await jobs(sql))).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/models_sync|key_health/)]),
    );
    await sql`update eve.operations set is_active = true where name = 'models_sync'`;
    await sql`select public.eve_schedule()`;
    expect(await jobs(sql)).toHaveProperty("eve_models_sync");
  });

  test("only the database's owner schedules", async () => {
    const asService = sql.begin(async (transaction) => {
      await transaction`set local role service_role`;
      await transaction`select public.eve_schedule()`;
    });
    await expect(asService).rejects.toMatchObject({ code: "42501" });
  });

  test("without a URL and a key in Vault HTTP is not tried, and the log says so once an hour", async () => {
    const ask = async () =>
      (await sql`select eve.request_operation('alerts') as answer`)[0]!.answer as { status: string };
    const logged = async () =>
      (await sql`select status, details from public.google_ai_maintenance_log where operation = 'alerts'`)
        .map((row) => ({
          ...row,
        }));
    await sql`delete from vault.secrets`;
    for (let n = 0; n < 3; n++) expect((await ask()).status).toBe("failed");
    expect(await logged()).toEqual([
      { status: "failed", details: { source: "cron", error: expect.stringContaining("eve_project_url") } },
    ]);
    await sql`update eve.operations set last_completed_at = now() - interval '2 hours' where name = 'alerts'`;
    await ask();
    expect(await logged()).toHaveLength(2);
    expect(await sql`select from net.http_request_queue`).toHaveLength(0);
    await sql`select public.eve_connect('https://abc.supabase.co/', 'sb_secret_of_a_test')`;
    expect((await ask()).status).toBe("asked");
    expect(await sql`select method, url, headers, timeout_milliseconds from net.http_request_queue`).toEqual([
      {
        method: "POST",
        url: "https://abc.supabase.co/functions/v1/maintenance/alerts",
        headers: { "content-type": "application/json", "apikey": "sb_secret_of_a_test" },
        timeout_milliseconds: 70_000,
      },
    ]);
  });
});

describe("without them", () => {
  let database: TestDatabase;
  let superuser: postgres.Sql;
  beforeAll(async () => {
    database = await cloneDatabase("platform");
    superuser = postgres(database.superuserUrl, { max: 1, onnotice: () => {} });
    for (const room of ["cron", "net", "vault"]) await superuser.unsafe(`drop schema ${room} cascade`);
  });
  afterAll(async () => {
    await superuser?.end();
    await database?.drop();
  });

  test("the migrations go on, and what is missing is named", async () => {
    await applyMigrations(database.url);
    const [row] = await database.sql`select public.eve_schedule() as answer`;
    expect(row!.answer.scheduled).toEqual([]);
    expect([...row!.answer.missing].sort()).toEqual(EXTENSIONS);
    // SQL runs by hand all the same, and HTTP says what it lacks.
    const [sweep] = await database.sql`select eve.begin_run('sweep', 'a person') as answer`;
    expect(sweep!.answer.status).toBe("running");
    const [asked] = await database.sql`select eve.request_operation('key_health') as answer`;
    expect(asked!.answer).toMatchObject({ status: "failed", error: expect.stringContaining("vault") });
    await expect(database.sql`select public.eve_connect('https://a.supabase.co', 'sb_secret_1')`).rejects
      .toMatchObject({
        code: "EV503",
      });
  });

  test("enabled later, they are scheduled by one command", async () => {
    for (const room of ["03_cron", "04_net", "05_vault"]) {
      const text = await Deno.readTextFile(new URL(`../../local/platform/${room}.sql`, import.meta.url));
      await superuser.unsafe(text).simple();
    }
    const [row] = await database.sql`select public.eve_schedule() as answer`;
    expect(row!.answer.missing).toEqual([]);
    expect(Object.keys(await jobs(database.sql))).toContain("eve_sweep");
  });
});
