/** The audit's days: partitions made ahead and dropped when they are old, or when there is no room for more of them. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  addKey,
  addModel,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { runToEnd } from "./run_to_end.ts";

const FIRST_DAY = Date.parse("2026-11-18T00:00:00Z");
const DAY_MS = 86_400_000;

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  clock = await freezeClock(sql, FIRST_DAY);
  // The gateway's clock is the test's.
  await sql`alter table public.token_usage alter column ts set default eve.clock()`;
});
afterAll(() => database?.drop());
beforeEach(async () => {
  for (const name of await partitions()) {
    await sql.unsafe(`drop table eve.${name}`);
  }
  await clearLedger(sql);
  await sql`truncate eve.usage_hours, eve.usage_days, public.google_ai_maintenance_log`;
  await sql`update eve.rollup_progress set rolled_until = null, frozen_before = null, hours_frozen_before = null`;
  await sql`update eve.operations set run_id = null, lease_until = null`;
  await sql`update eve.audit_trimmed set trimmed_before = '-infinity', token_usage_before = '-infinity'`;
  await sql`update eve.settings set value = 250 where name = 'audit_max_mb'`;
  await sql`update eve.settings set value = 1 where name = 'token_usage_rows'`;
  await addKey(sql, "one");
  await addModel(sql, "m");
  await clock.set(FIRST_DAY);
});

const cloneConnection = () => postgres(database.url, { max: 1, onnotice: () => {} });
const partitions = async () =>
  (await sql`select name from eve.audit_partitions() order by parent, day`).map(
    (row) => row.name as string,
  );
const places = async () =>
  (await sql`
    select r.request_id, r.tableoid::regclass::text as place from eve.requests r order by r.request_id`)
    .map((row) => [row.request_id, row.place]);

/** One call that is answered, at the clock's time. */
async function call(id: string): Promise<void> {
  await settle(sql, await reserve(sql, id), {
    inputTokens: 9,
    outputTokens: 3,
  });
}

/** The hour of what is now has been summed, and so has the day. */
async function rollUp(): Promise<void> {
  await runToEnd(sql, "rollup");
}

describe("partitions", () => {
  test("of today and three days more are made by retention, and take the rows of their days", async () => {
    await runToEnd(sql, "retention");
    expect(await partitions()).toEqual(
      ["earlier_attempts", "refusals", "requests"].flatMap((parent) =>
        ["18", "19", "20", "21"].map((day) => `${parent}_202611${day}`)
      ),
    );
    await call("a");
    await clock.advance(DAY_MS);
    await settle(sql, await reserve(sql, "b"), {
      outcome: "failed",
      final: false,
    });
    await settle(sql, await reserve(sql, "b", { attempt: 2 }), {
      inputTokens: 9,
    });
    expect(await reserve(sql, "c", { models: ["none"] })).toMatchObject({
      status: "refused",
    });
    expect(await places()).toEqual([["a", "eve.requests_20261118"], [
      "b",
      "eve.requests_20261119",
    ]]);
    expect(
      await sql`select tableoid::regclass::text as place from eve.earlier_attempts`,
    )
      .toEqual([{ place: "eve.earlier_attempts_20261119" }]);
    expect(
      await sql`select tableoid::regclass::text as place from eve.refusals`,
    )
      .toEqual([{ place: "eve.refusals_20261119" }]);
  });

  test("are made by the role of the REST API too, which reads none of them by itself", async () => {
    await sql.begin(async (transaction) => {
      await transaction`set local role service_role`;
      await runToEnd(transaction as unknown as postgres.Sql, "retention");
      await expect(
        transaction.savepoint((inner) => inner`select from eve.requests_20261118`),
      )
        .rejects.toMatchObject({ code: "42501" });
    });
    expect(await partitions()).toHaveLength(12);
    expect(
      await sql`
        select c.relname from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where c.relnamespace = 'eve'::regnamespace and c.relkind = 'r' and not c.relrowsecurity`,
    ).toEqual([]);
  });

  test("that are missing lose no settlement and fail none", async () => {
    await call("a");
    expect(await places()).toEqual([["a", "eve.requests_default"]]);
    // Its day stays where it is; the days after it get theirs.
    await runToEnd(sql, "retention");
    expect(await partitions()).not.toContain("requests_20261118");
    expect(await partitions()).toContain("requests_20261119");
    await call("b");
    expect((await places())[1]).toEqual(["b", "eve.requests_default"]);
    expect(await sql`select outcome from eve.attempts`).toEqual([{
      outcome: "succeeded",
    }, {
      outcome: "succeeded",
    }]);
  });

  test("go when they are old and summed up, and what is too young or not summed stays", async () => {
    await runToEnd(sql, "retention");
    await call("a");
    await rollUp();
    await clock.set(FIRST_DAY + 40 * DAY_MS);
    // Summed until the day itself, so nothing is known to be complete.
    await runToEnd(sql, "retention");
    expect(await places()).toEqual([["a", "eve.requests_20261118"]]);
    await rollUp();
    const [done] = await runToEnd(sql, "retention");
    expect(done.details.deleted).toEqual({ "eve.requests": 1 });
    expect(await partitions()).not.toContain("requests_20261118");
    expect(
      await sql`select requests::int, input_tokens::int from eve.usage_days`,
    )
      .toEqual([{ requests: 1, input_tokens: 9 }]);
  });

  test("cannot be dropped early by those who may ask for it", async () => {
    await runToEnd(sql, "retention");
    await rollUp();
    expect(
      await sql`select eve.drop_partition('eve.requests', 'infinity') as rows`,
    ).toEqual([{
      rows: null,
    }]);
    // Within two days its rows may still count.
    await clock.advance(2.9 * DAY_MS);
    await rollUp();
    expect(
      await sql`select eve.drop_partition('eve.requests', 'infinity') as rows`,
    ).toEqual([{ rows: null }]);
    // Nor while the hour of its end is not in the sums.
    await clock.advance(DAY_MS);
    await sql`update eve.rollup_progress set rolled_until = to_timestamp(${(FIRST_DAY + DAY_MS) / 1000})`;
    expect(
      await sql`select eve.drop_partition('eve.requests', 'infinity') as rows`,
    ).toEqual([{ rows: null }]);
    await rollUp();
    expect(
      await sql`select eve.drop_partition('eve.requests', 'infinity')::int as rows`,
    ).toEqual([{ rows: 0 }]);
  });

  test("that somebody reads are left to the next run, and waited for by nobody", async () => {
    await runToEnd(sql, "retention");
    await call("a");
    await clock.set(FIRST_DAY + 40 * DAY_MS);
    await rollUp();
    await sql.begin(async (reader) => {
      await reader`select from eve.requests`;
      expect((await runToEnd(sql, "retention"))[0].status).toBe("succeeded");
      expect(await partitions()).toContain("requests_20261118");
      await call("b"); // Nor is a settlement held up.
    });
    await runToEnd(sql, "retention");
    expect(await partitions()).not.toContain("requests_20261118");
  });
});

test("making partitions holds no table while somebody reads another: there is no deadlock", async () => {
  await sql.begin(async (reader) => {
    await reader`select from eve.refusals`;
    const other = cloneConnection();
    try {
      await other.begin(async (maker) => {
        expect((await maker`select eve.make_partitions(eve.clock()) as made`)[0]!.made).toBe(0);
        await reader`set local lock_timeout = '50ms'`;
        await reader`select from eve.requests`;
      });
    } finally {
      await other.end();
    }
  });
  expect((await sql`select eve.make_partitions(eve.clock()) as made`)[0]!.made).toBe(12);
});

describe("no more than audit_max_mb", () => {
  /** A call a day, and another program's row beside it. */
  async function liveFor(days: number): Promise<void> {
    for (let day = 0; day < days; day++) {
      await clock.set(FIRST_DAY + day * DAY_MS + 3_600_000);
      await runToEnd(sql, "retention");
      await call(`day-${day}`);
      await sql`insert into public.token_usage (model, meta) values ('bot', '{"mine": true}')`;
      await rollUp();
    }
    await clock.set(FIRST_DAY + days * DAY_MS);
    await rollUp();
  }
  const ids = async () =>
    (await sql`select request_id from eve.requests order by 1`).map((row) => row.request_id);

  test("the oldest days go first, with their rows of token_usage, and other programs' stay", async () => {
    await liveFor(6);
    const [kept] = await sql`select eve.kept_bytes()::float8 as bytes`;
    expect(kept!.bytes).toBeGreaterThan(8e6);
    // Room for what there is, but for a day or two.
    const [day] = await sql`select sum(eve.relation_bytes(p.name::regclass))::float8 as bytes
      from (select 'eve.' || name as name from eve.audit_partitions() where day = '2026-11-18') p`;
    const room = Math.floor((kept!.bytes - day!.bytes * 0.5) / 0.95 / 1e6 * 1000) / 1000;
    await sql`update eve.settings set value = ${Math.max(1, Math.floor(room))} where name = 'audit_max_mb'`;
    await runToEnd(sql, "retention");
    const left = await ids();
    expect(left).not.toContain("day-0");
    expect(left).toEqual(
      ["day-0", "day-1", "day-2", "day-3", "day-4", "day-5"].slice(
        6 - left.length,
      ),
    );
    expect(
      (await sql`select request_id from public.token_usage where request_id is not null order by 1`)
        .map((row) => row.request_id),
    ).toEqual(left);
    expect(
      await sql`select count(*)::int as rows from public.token_usage where model = 'bot'`,
    ).toEqual([{
      rows: 6,
    }]);
    // Whatever went is in the sums.
    expect(await sql`select sum(requests)::int as requests from eve.usage_days`)
      .toEqual([{ requests: 6 }]);
  });

  test("media and pg_cron's history are counted with it", async () => {
    const kept = async () => (await sql`select eve.kept_bytes()::float8 as bytes`)[0]!.bytes;
    let before = await kept();
    await sql`
      insert into cron.job_run_details (jobid, status, return_message)
      select 1, 'succeeded', repeat('x', 500) from generate_series(1, 2000)`;
    expect(await kept() - before).toBeGreaterThan(1e6);
    await sql`delete from cron.job_run_details where jobid = 1 and return_message like 'xx%'`;
    before = await kept();
    await sql`
      insert into public.media_objects (tenant_id, file_sha256, size_bytes)
      select 'default', encode(sha256(n::text::bytea), 'hex'), 1 from generate_series(1, 2000) n`;
    expect(await kept() - before).toBeGreaterThan(2e5);
    await sql`delete from public.media_objects`;
  });

  test("two days stay, however little room there is", async () => {
    await liveFor(6);
    await sql`update eve.settings set value = 1 where name = 'audit_max_mb'`;
    await runToEnd(sql, "retention");
    expect(await ids()).toEqual(["day-4", "day-5"]);
    expect(await sql`select sum(requests)::int as requests from eve.usage_days`)
      .toEqual([{ requests: 6 }]);
  });

  test("what is not in the sums stays, however little room there is", async () => {
    await liveFor(6);
    await sql`update eve.settings set value = 1 where name = 'audit_max_mb'`;
    await sql`update eve.rollup_progress set rolled_until = to_timestamp(${
      (FIRST_DAY + 2.5 * DAY_MS) / 1000
    })`;
    await runToEnd(sql, "retention");
    expect(await ids()).toEqual(["day-2", "day-3", "day-4", "day-5"]);
  });

  test("where there is room nothing goes before its time", async () => {
    await liveFor(4);
    await runToEnd(sql, "retention");
    expect(await ids()).toHaveLength(4);
  });
});

describe("public.token_usage", () => {
  test("gets no rows of ours when the setting says so, and everything is recorded all the same", async () => {
    await sql`update eve.settings set value = 0 where name = 'token_usage_rows'`;
    await call("alone");
    const grant = await reserve(sql, "in a list");
    await sql`
      select public.eve_settle_many(${
      sql.json([{
        request_no: grant.request_no,
        attempt: 1,
        outcome: "succeeded",
        final: true,
        dispatched: true,
        input_tokens: 9,
        output_tokens: 3,
      }])
    })`;
    expect(await sql`select from public.token_usage`).toHaveLength(0);
    expect(
      await sql`select sum(tpm_used)::int as tokens from public.google_ai_usage_counters`,
    )
      .toEqual([{ tokens: 18 }]);
    await sql`update eve.settings set value = 1 where name = 'token_usage_rows'`;
    await call("again");
    expect(
      await sql`select request_id, total_tokens, meta from public.token_usage`,
    ).toEqual([
      {
        request_id: "again",
        total_tokens: 12,
        meta: { source: "eve", consumer: "project" },
      },
    ]);
  });
});

describe("ids", () => {
  test("of the gateway's own making are not kept, since nobody can send them again", async () => {
    const [row] = await sql`select public.eve_reserve('its own', '{m}', 10) as grant`;
    await settle(sql, row!.grant, { inputTokens: 9 });
    await call("the caller's");
    expect(await sql`select request_id from eve.request_keys`).toEqual([{
      request_id: "the caller's",
    }]);
  });

  test("of callers are taken until retention forgets them, whether the audit has them or not", async () => {
    await runToEnd(sql, "retention");
    await call("same");
    await sql`drop table eve.requests_20261118`;
    expect(await reserve(sql, "same")).toMatchObject({
      status: "duplicate",
      state: "succeeded",
    });
    await clock.advance(8 * DAY_MS);
    await runToEnd(sql, "retention");
    expect(await reserve(sql, "same")).toMatchObject({ status: "granted" });
  });
});
