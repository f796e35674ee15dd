/** Retention: what is old goes, in small batches; what counts stays, whatever the settings say. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { applyMigrations } from "../../local/database.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { addKey, addModel, clearLedger, reserve, settle } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { type Answer, begin, runToEnd, step } from "./run_to_end.ts";

let database: TestDatabase;
let sql: postgres.Sql;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  // Above the numbers that the tests give.
  await sql`select setval('eve.request_no', 1000000)`;
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await empty(
    sql,
    "eve.usage_hours",
    "eve.usage_days",
    "eve.refusal_counts",
    "eve.rollup_set_aside",
    "eve.access_log",
    "eve.access_refusals",
    "eve.captures",
    "eve.request_keys",
    "eve.events",
    "eve.event_consumers",
    "eve.batches",
    "eve.responses",
    "eve.uploads",
  );
  await empty(sql, "public.google_ai_maintenance_log", "eve.issue_windows");
  await sql`delete from cron.job_run_details`;
  await sql`update eve.rollup_progress set rolled_until = now(), frozen_before = null, hours_frozen_before = null`;
  await sql`update eve.operations set run_id = null, lease_until = null`;
  await sql`update eve.retention set batch_rows = 2000`;
});

const CONSUMER = "00000000-0000-0000-0000-000000000000";
const left = async (table: string, order = "1") =>
  (await sql.unsafe(`select * from ${table} order by ${order}`)).map((row) => ({ ...row }));

/** Rows of the audit, each so many days old, numbered in this order. */
async function audit(days: number[]): Promise<void> {
  await sql`
    insert into eve.requests
      (request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, attempts, wait_ms, received_at,
        finished_at, metadata)
    select n, ${CONSUMER}, 'r' || n, 'batch', 'native', 'm', 'm', 'succeeded', 2, 0, now() - d * interval '1 day',
      now() - d * interval '1 day', '{}'
    from unnest(${days}::int[]) with ordinality as a (d, n)`;
  await sql`
    insert into eve.earlier_attempts
      (request_no, attempt, lane_id, key_id, model, class, start_ms, bucket_after_ms, tokens_booked, outcome, dispatched, settled_at)
    select r.request_no, n, 1, gen_random_uuid(), 'm', 'batch', 0, 0, 1, 'succeeded', true, r.finished_at
    from eve.requests r, generate_series(1, 2) n`;
  await sql`
    insert into eve.refusals (refused_at, request_id, attempt, class, endpoint, model, code, tokens)
    select now() - d * interval '1 day', 'r', 1, 'batch', 'native', 'm', 'rate_limited', 1
    from unnest(${days}::int[]) with ordinality as a (d, n) order by n`;
}

describe("every table", () => {
  /** One row that is older than the table keeps, and one that is not. */
  const TABLES: [table: string, statement: string][] = [
    [
      "eve.request_results",
      `insert into eve.request_results (request_no, result, kept_at) values (1, '{}', now() - interval '8 days'), (2, '{}', now())`,
    ],
    [
      "eve.captures",
      `insert into eve.captures (request_no, prompt, captured_at) values (1, '{}', now() - interval '8 days'), (2, '{}', now())`,
    ],
    [
      "eve.access_log",
      `insert into eve.access_log (at, event) values (now() - interval '401 days', 'token_issued'), (now() - interval '300 days', 'token_issued')`,
    ],
    [
      "eve.access_refusals",
      `insert into eve.access_refusals (minute, place, code, address, subject)
       values (now() - interval '31 days', 'p', 'c', 'a', ''), (now() - interval '29 days', 'p', 'c', 'a', '')`,
    ],
    [
      "eve.bad_requests",
      `insert into eve.bad_requests (minute, code, subject, times)
       values (now() - interval '31 days', 'c', '', 1), (now() - interval '29 days', 'c', '', 1)`,
    ],
    [
      "eve.refusal_minutes",
      `insert into eve.refusal_minutes (consumer_id, minute, kept)
       values (gen_random_uuid(), now() - interval '25 hours', 1), (gen_random_uuid(), now(), 1)`,
    ],
    [
      "eve.refusal_counts",
      `insert into eve.refusal_counts (minute, consumer_id, code, limit_name, model, class, endpoint, is_first, times)
       select now() - age, '${CONSUMER}', 'c', '', 'm', 'batch', 'native', true, 1
       from (values (interval '31 days'), (interval '29 days')) v (age)`,
    ],
    [
      "eve.rollup_set_aside",
      `insert into eve.rollup_set_aside (source, number, attempt, slice, error, set_aside_at)
       values ('requests', 1, 0, now(), '', now() - interval '401 days'), ('requests', 2, 0, now(), '', now())`,
    ],
    [
      "eve.request_keys",
      `insert into eve.request_keys
         (consumer_id, request_id, request_no, ended_at, state, attempts, requested_model, class, request_hash)
       select '${CONSUMER}', id, 1, now() - age, 'succeeded', 1, 'm', 'batch', 'h'
       from (values ('old', interval '8 days'), ('young', interval '6 days')) v (id, age)`,
    ],
    [
      "public.crawl_pages",
      `insert into public.crawl_pages (url, canonical_url, used_at) 
       select 'https://a', 'https://a/' || age, now() - age from (values (interval '31 days'), (interval '29 days')) v (age)`,
    ],
    [
      "eve.crawl_hosts",
      `insert into eve.crawl_hosts (origin, updated_at)
       select 'https://' || age, now() - age from (values (interval '31 days'), (interval '29 days')) v (age)`,
    ],
    [
      "eve.vision_decisions",
      `insert into eve.vision_decisions (tenant_id, post_id, file_sha256, action, reason, policy_version, decided_at)
       select 'default', gen_random_uuid(), 's', 'skip', 'r', 0, now() - age from (values (interval '91 days'), (interval '89 days')) v (age)`,
    ],
    [
      "eve.vision_reservations",
      `insert into eve.vision_reservations (id, tenant_id, provider, counts_in_all, day, tokens, pictures, created_at)
       select age::text, 'default', 'p', true, current_date, 1, 1, now() - age from (values (interval '41 days'), (interval '39 days')) v (age)`,
    ],
    [
      "eve.vision_spending",
      `insert into eve.vision_spending (tenant_id, provider, period, began_on)
       values ('default', 'p', 'day', current_date - 402), ('default', 'p', 'day', current_date - 398)`,
    ],
    [
      "eve.telegram_updates",
      `insert into eve.telegram_bots (bot_id, tenant_id, connected_at, updated_at) values (1, 'default', now(), now());
       insert into eve.telegram_updates (bot_id, update_id, kind, state, trace_id, received_at, ended_at)
       select 1, n, 'message', 'done', repeat('a', 32), now() - age, now()
       from (values (1, interval '31 days'), (2, interval '29 days')) v (n, age)`,
    ],
    [
      "eve.telegram_messages",
      `insert into eve.telegram_bots (bot_id, tenant_id, connected_at, updated_at) values (1, 'default', now(), now()) on conflict do nothing;
       insert into eve.telegram_messages (bot_id, chat, message_id, version, update_id, state, updated_at)
       select 1, '7', n, 0, 0, 'deleted', now() - age from (values (1, interval '31 days'), (2, interval '29 days')) v (n, age)`,
    ],
    [
      "eve.issue_windows",
      `insert into eve.issue_windows (subject, minute, used, used_before)
       select s, extract(epoch from now() - age) / 60, 1, 1 from (values ('a', interval '2 hours'), ('b', interval '1 minute')) v (s, age)`,
    ],
    [
      "eve.scoped_tokens",
      `insert into eve.scoped_tokens (consumer_id, expires_at)
       values ('${CONSUMER}', now() - interval '31 days'), ('${CONSUMER}', now() - interval '29 days')`,
    ],
    [
      "eve.consumer_days",
      `insert into eve.consumer_days (consumer_id, day) values ('${CONSUMER}', now() - interval '402 days'), ('${CONSUMER}', now() - interval '300 days')`,
    ],
    [
      "eve.lane_buckets",
      `insert into eve.lanes (quota_project, model) values ('p', 'm');
       insert into eve.lane_buckets (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
       select l.id, extract(epoch from now() - age) * 1000, 1, 1, 0, 0
       from eve.lanes l, (values (interval '11 minutes'), (interval '30 seconds')) v (age)`,
    ],
    [
      "eve.alerts",
      `insert into eve.alerts (kind, subject, severity, message, closed_at)
       values ('key_disabled', 'a', 'info', 'm', now() - interval '181 days'), ('key_disabled', 'b', 'info', 'm', now() - interval '1 day')`,
    ],
    [
      "eve.batches",
      `insert into eve.batches (id, endpoint, input_file_id, job_id, state, created_at, expires_at, ended_at)
       select gen_random_uuid(), '/v1/embeddings', gen_random_uuid(), gen_random_uuid(), 'cancelled', now() - age, now() - age, now() - age
       from (values (interval '31 days'), (interval '29 days')) v (age)`,
    ],
    [
      "eve.responses",
      `insert into eve.responses (id, model, models, state, background, store, created_at, ended_at)
       select gen_random_uuid(), 'm', '{m}', 'cancelled', true, true, now() - age, now() - age
       from (values (interval '31 days'), (interval '29 days')) v (age)`,
    ],
    [
      "eve.cached_answers",
      `insert into eve.cached_answers (owner, key_hash, consumer_id, models, ttl_s, requested_model, model, answer, bytes, created_at, expires_at)
       select 'consumer:c', repeat(digit, 64), gen_random_uuid(), '{m}', 60, 'm', 'm', '{}', 2, now() - age, now() + interval '1 day'
       from (values ('a', interval '31 days'), ('b', interval '29 days')) v (digit, age)`,
    ],
    [
      "eve.cache_hours",
      `insert into eve.cache_hours (hour, consumer_id, model, endpoint)
       select now() - age, gen_random_uuid(), 'm', 'native' from (values (interval '401 days'), (interval '399 days')) v (age)`,
    ],
    [
      "eve.uploads",
      `insert into eve.uploads (id, tenant_id, filename, bytes, created_at, expires_at)
       select gen_random_uuid(), 'default', 'f', 1, now() - age, now() - age from (values (interval '25 hours'), (interval '23 hours')) v (age)`,
    ],
    [
      "eve.events",
      `insert into eve.events (source, type, time, consumer_id)
       select '/a', 'eve.x.v1', now() - age, '${CONSUMER}' from (values (interval '15 days'), (interval '13 days')) v (age)`,
    ],
    [
      "eve.event_deliveries",
      `insert into eve.event_consumers (name, kind, types, retry_s) values ('a', 'test', '{}', '{}'), ('b', 'test', '{}', '{}');
       insert into eve.events (source, type, time, consumer_id) values ('/a', 'eve.x.v1', now(), '${CONSUMER}');
       insert into eve.event_deliveries (event_id, consumer, state, next_try_at, created_at, ended_at)
       select e.id, v.consumer, 'delivered', now(), now(), now() - v.age
       from eve.events e, (values ('a', interval '15 days'), ('b', interval '13 days')) v (consumer, age)`,
    ],
    [
      "eve.dead_letters",
      `insert into eve.event_consumers (name, kind, types, retry_s) values ('a', 'test', '{}', '{}'), ('b', 'test', '{}', '{}');
       insert into eve.events (source, type, time, consumer_id) values ('/a', 'eve.x.v1', now(), '${CONSUMER}');
       insert into eve.event_deliveries (event_id, consumer, state, next_try_at, created_at, ended_at)
       select e.id, v.consumer, 'dead', now(), now(), now() from eve.events e, (values ('a'), ('b')) v (consumer);
       insert into eve.dead_letters (delivery_id, event_id, consumer, attempts, first_failed_at, last_failed_at)
       select d.id, gen_random_uuid(), d.consumer, 1, now() - v.age, now() - v.age
       from eve.event_deliveries d join (values ('a', interval '31 days'), ('b', interval '29 days')) v (consumer, age) using (consumer)`,
    ],
    [
      "eve.usage_hours",
      `insert into eve.usage_hours (hour, model, endpoint) values (now() - interval '401 days', 'm', 'd'), (now(), 'm', 'd')`,
    ],
    [
      "public.google_ai_usage_counters",
      `insert into public.google_ai_usage_counters (api_key_id, model, minute_bucket)
       values (gen_random_uuid(), 'm', now() - interval '181 days'), (gen_random_uuid(), 'm', now())`,
    ],
    [
      "public.token_usage",
      `insert into public.token_usage (ts, model) values (now() - interval '401 days', 'm'), (now(), 'm')`,
    ],
    [
      "public.google_ai_maintenance_log",
      `insert into public.google_ai_maintenance_log (operation, status, started_at, details)
       values ('sweep', 'succeeded', now() - interval '91 days', '{"source": "cron"}'),
         ('sweep', 'succeeded', now() - interval '1 day', '{"source": "cron"}')`,
    ],
    [
      "cron.job_run_details",
      `insert into cron.job_run_details (jobid, username, start_time, end_time)
       select jobid, 'postgres', now() - age, now() - age from cron.job, (values (interval '8 days'), (interval '1 day')) v (age)
       where jobname = 'eve_sweep' order by age desc`,
    ],
  ];

  test.each(TABLES)("%s keeps what is young", async (table, statement) => {
    await sql.unsafe(statement).simple();
    const [done] = await runToEnd(sql, "retention");
    expect(done).toMatchObject({ status: "succeeded", details: { deleted: { [table]: 1 } } });
    // The run's own row in the log is the third of that table.
    expect(await left(table)).toHaveLength(table === "public.google_ai_maintenance_log" ? 2 : 1);
    expect((await runToEnd(sql, "retention"))[0].details.deleted).toEqual({});
  });

  test("the audit's three go together", async () => {
    await audit([40, 31, 29, 1]);
    const [done] = await runToEnd(sql, "retention");
    expect(done.details.deleted).toEqual({ "eve.attempts": 4, "eve.refusals": 2, "eve.requests": 2 });
    expect((await left("eve.requests")).map((row) => row.request_id)).toEqual(["r3", "r4"]);
    expect((await left("eve.attempts")).map((row) => Number(row.request_no))).toEqual([3, 3, 4, 4]);
  });

  test("every table of the settings is one that retention knows", async () => {
    const rules = await sql`select table_name from eve.retention order by 1`;
    const known = [
      ...TABLES.map(([table]) => table),
      "eve.requests",
      "eve.attempts",
      "eve.refusals",
      "eve.usage_days",
      "eve.consumer_minutes",
      // tests/db/chats.test.ts
      "public.chats",
    ];
    expect(rules.map((row) => row.table_name)).toEqual(known.sort());
  });

  test("tables that are kept forever, do not exist or belong to nobody are passed over", async () => {
    await sql`insert into eve.usage_days (day, model, endpoint) values (current_date - 3000, 'm', 'd')`;
    await sql`insert into eve.retention (table_name, keep, at_least, description) values ('eve.later', '1 day', '1 day', '')`;
    const [job] = await sql`select cron.schedule('somebody_elses', '* * * * *', 'select 1') as jobid`;
    await sql`
      insert into cron.job_run_details (jobid, username, start_time) values (${
      job!.jobid
    }, 'postgres', now() - interval '1 year')`;
    expect((await runToEnd(sql, "retention"))[0]).toMatchObject({ status: "succeeded", count: 0 });
    expect(await left("eve.usage_days")).toHaveLength(1);
    expect(await left("cron.job_run_details")).toHaveLength(1);
    await sql`delete from eve.retention where table_name = 'eve.later'`;
    await sql`select cron.unschedule('somebody_elses')`;
  });

  test("over the REST API's role the same, but for cron's own history", async () => {
    await audit([40]);
    await sql.unsafe(TABLES.at(-1)![1]).simple();
    await sql.begin(async (transaction) => {
      await transaction`set local role service_role`;
      const own = transaction as unknown as postgres.Sql;
      expect((await runToEnd(own, "retention"))[0]).toMatchObject({ status: "succeeded", count: 4 });
    });
    expect(await left("cron.job_run_details")).toHaveLength(2);
  });
});

describe("what counts stays", () => {
  test("the settings take nothing that is shorter", async () => {
    for (const { table_name } of await sql`select table_name from eve.retention`) {
      await expect(
        sql`update eve.retention set keep = at_least - interval '1 second' where table_name = ${table_name}`,
        table_name,
      ).rejects.toMatchObject({ code: "23514" });
    }
  });

  test("a minute window still reaches no bucket that goes", async () => {
    const [rule] = await sql`
      select at_least >= interval '60 seconds' + 5000 * interval '1 millisecond' as is_safe
      from eve.retention where table_name = 'eve.lane_buckets'`;
    expect(rule).toEqual({ is_safe: true });
  });

  test("what has not been summed up", async () => {
    await audit([60, 50, 40]);
    await sql`update eve.rollup_progress set rolled_until = null`;
    expect((await runToEnd(sql, "retention"))[0].count).toBe(0);
    await sql`update eve.rollup_progress set rolled_until = now() - interval '45 days'`;
    expect((await runToEnd(sql, "retention"))[0].details.deleted).toMatchObject({ "eve.requests": 2 });
    expect((await left("eve.requests")).map((row) => row.request_id)).toEqual(["r3"]);
  });

  test("an open request's attempts and its token, however old", async () => {
    await addKey(sql, "one");
    await addModel(sql, "m");
    const grant = await reserve(sql, "long", { leaseMs: 3_600_000 });
    await settle(sql, grant, { outcome: "failed", final: false });
    const [token] = await sql`
      insert into eve.scoped_tokens (consumer_id, expires_at) values (${CONSUMER}, now() - interval '60 days') returning id`;
    await sql`update eve.earlier_attempts set settled_at = now() - interval '60 days'`;
    await sql`update eve.inflight set token_id = ${token!.id}`;
    expect((await runToEnd(sql, "retention"))[0].count).toBe(0);
    await sql`delete from eve.inflight`;
    expect((await runToEnd(sql, "retention"))[0].details.deleted).toEqual({
      "eve.attempts": 1,
      "eve.scoped_tokens": 1,
    });
  });

  test("today's budgets, and the log of a run that is on or of another program", async () => {
    await sql`
      insert into eve.consumer_days (consumer_id, day, requests)
      select ${CONSUMER}, (now() at time zone 'America/Los_Angeles')::date - d, 5 from generate_series(0, 1) d`;
    await sql`update eve.retention set keep = at_least where table_name in ('eve.consumer_days', 'eve.lane_buckets')`;
    await sql`
      insert into public.google_ai_maintenance_log (operation, status, started_at, details) values
        ('sweep', 'running', now() - interval '1 year', '{"source": "cron"}'),
        ('cleanup', 'succeeded', now() - interval '1 year', '{"mine": true}'), ('cleanup', 'success', now() - interval '1 year', null)`;
    expect((await runToEnd(sql, "retention"))[0].count).toBe(0);
  });
});

describe("the owner's tables", () => {
  test("that keep their rows by rules of their own delay no other, and the run says which", async () => {
    await sql.unsafe(`
      insert into public.google_ai_usage_counters (api_key_id, model, minute_bucket)
      values (gen_random_uuid(), 'm', now() - interval '1 year');
      create table public.incidents (id int primary key, counter_id bigint references public.google_ai_usage_counters (id));
      insert into public.incidents select 1, id from public.google_ai_usage_counters;
      insert into public.token_usage (ts, model) values (now() - interval '2 years', 'm');
    `).simple();
    try {
      const [done] = await runToEnd(sql, "retention");
      expect(done).toMatchObject({
        status: "failed",
        count: 1,
        details: { deleted: { "public.token_usage": 1 } },
        error: expect.stringContaining("public.google_ai_usage_counters keeps its rows: "),
      });
      expect(await left("public.token_usage")).toHaveLength(0);
    } finally {
      await sql`drop table public.incidents`;
    }
    expect((await runToEnd(sql, "retention"))[0]).toMatchObject({ status: "succeeded", count: 1 });
  });

  test("that hold older rows before there is a gateway are kept whole until the owner says otherwise", async () => {
    const made = await cloneDatabase("platform");
    try {
      await made.sql.unsafe(await Deno.readTextFile(`${CHECKOUT}/tests/fixtures/adoption/exact.sql`))
        .simple();
      const count = async () =>
        (await made.sql`
          select (select count(*)::integer from public.google_ai_usage_counters) as counters,
            (select count(*)::integer from public.google_ai_maintenance_log where operation = 'cleanup') as log`)[
          0
        ];
      await made
        .sql`update public.google_ai_usage_counters set minute_bucket = minute_bucket - interval '1 year'`;
      // The fixture's days are of one spring.
      await made.sql`update public.token_usage set ts = now()`;
      const before = await count();
      await applyMigrations(made.url);
      expect(
        await made
          .sql`select table_name, keep is null as for_ever from eve.retention where table_name like 'public.%' order by 1`,
      ).toEqual([
        { table_name: "public.chats", for_ever: false },
        { table_name: "public.crawl_pages", for_ever: false },
        { table_name: "public.google_ai_maintenance_log", for_ever: false },
        { table_name: "public.google_ai_usage_counters", for_ever: true },
        { table_name: "public.token_usage", for_ever: false },
      ]);
      expect((await runToEnd(made.sql, "retention"))[0]).toMatchObject({ status: "succeeded", count: 0 });
      expect(await count()).toEqual(before);
    } finally {
      await made.drop();
    }
  });
});

describe("batches", () => {
  test("each is bounded, and goes on where the one before it ended", async () => {
    await audit(Array.from({ length: 1050 }, () => 40));
    await sql`update eve.retention set batch_rows = 100`;
    const steps = await runToEnd(sql, "retention");
    const deleted = steps.reverse().map((one, i) => one.count - (steps[i - 1]?.count ?? 0));
    expect(Math.max(...deleted)).toBeLessThanOrEqual(101); // Attempts of one request are not parted.
    expect(steps.at(-1)!.count).toBe(1050 * 4);
  });

  test("young rows among old ones stop nothing", async () => {
    const days = Array.from({ length: 3000 }, (_, n) => n < 2999 && n % 100 < 99 ? 40 : 1);
    await audit(days);
    await sql`update eve.retention set batch_rows = 100`;
    await runToEnd(sql, "retention");
    expect(await left("eve.requests")).toHaveLength(days.filter((each) => each === 1).length);
  });

  test("the rest of a table that is young is not looked at", async () => {
    await audit(Array.from({ length: 14_000 }, () => 1));
    await sql`update eve.retention set batch_rows = 1000`;
    let after: Answer = null;
    for (;;) {
      const [batch] = await sql`
        select b.next_after from eve.retention r, eve.retention_batch(r, now(), ${after && sql.json(after)}) b
        where r.table_name = 'eve.requests'`;
      if (batch!.next_after === null) break;
      after = batch!.next_after;
    }
    expect(after).toMatchObject({ number: 9_000 });
  });

  test("what somebody holds is left to the next run, and waited for by nobody", async () => {
    await sql`insert into public.token_usage (ts, model) select now() - interval '2 years', 'm' from generate_series(1, 10)`;
    const holder = postgres(database.url, { max: 1, onnotice: () => {} });
    try {
      await holder.begin(async (transaction) => {
        await transaction`select from public.token_usage order by id limit 3 for update`;
        // A run that waited for them would wait for the end of this transaction.
        expect((await runToEnd(sql, "retention"))[0].count).toBe(7);
      });
    } finally {
      await holder.end();
    }
    expect((await runToEnd(sql, "retention"))[0].count).toBe(3);
  });
});

test("reservations go on beside it, none fails, and no limit is exceeded", async () => {
  await addKey(sql, "one", { project: "p" });
  await addModel(sql, "m", { rpm: 300 });
  await audit(Array.from({ length: 6_000 }, () => 40));
  await sql`update eve.retention set batch_rows = 100`;
  const pool = postgres(database.url, { max: 4, onnotice: () => {} });
  let isOver = false;
  const answers: string[] = [];
  const caller = async (name: string) => {
    for (let n = 0; !isOver; n++) {
      const grant = await reserve(pool, `${name}-${n}`);
      answers.push(grant.status);
      if (grant.status === "granted") {
        await settle(pool, grant, { inputTokens: 5 });
      }
    }
  };
  try {
    const callers = [caller("a"), caller("b"), caller("c")];
    const { run_id } = await begin(sql, "retention");
    let done = await step(sql, run_id);
    while (!done.done) done = await step(sql, run_id);
    isOver = true;
    await Promise.all(callers);
    expect(done).toMatchObject({ status: "succeeded", count: 24_000 });
  } finally {
    isOver = true;
    await pool.end();
  }
  expect(answers.filter((status) => status === "granted").length).toBe(
    Math.min(300, answers.length),
  );
  expect(answers.length).toBeGreaterThan(50);
  expect(await left("eve.requests")).toHaveLength(answers.filter((status) => status === "granted").length);
});
