/**
 * The migrations over databases that people made by hand. Each history in tests/fixtures/adoption is a database as somebody
 * has it: `<name>.sql` makes it, `<name>.statements.sql` is what its programs say to it, which must go on working.
 */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { applyMigrations } from "../../local/database.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { pushMigrations } from "../../local/supabase_cli.ts";
import { moveClock, stopClock } from "../harness/database_clock.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { factsOf, readCatalog } from "./catalog.ts";

const FIVE = [
  "public.google_ai_api_keys",
  "public.google_ai_model_limits",
  "public.google_ai_usage_counters",
  "public.google_ai_maintenance_log",
  "public.token_usage",
];
const KEY = "a0000000-0000-4000-8000-000000000001";

interface History {
  name: string;
  /** All that was true of the owner's schema before and is not afterwards. Nothing else may get lost. */
  changed: (string | RegExp)[];
  /** Copies that eve.adopted_rows must hold, by table. */
  archived?: Record<string, number>;
}

const HISTORIES: History[] = [
  {
    name: "exact",
    changed: [
      // No limit is a limit, too.
      "table public.google_ai_model_limits column rpm not null",
      "table public.google_ai_model_limits column tpm not null",
      "table public.google_ai_model_limits column rpd not null",
    ],
  },
  {
    name: "bare",
    changed: [],
    archived: {
      google_ai_api_keys: 1,
      google_ai_model_limits: 1,
      // Three of them had no day.
      google_ai_usage_counters: 10,
      token_usage: 1,
    },
  },
  { name: "sparse", changed: [] },
  {
    name: "at",
    changed: [
      "table public.token_usage column at default timezone('utc'::text, now())",
    ],
    // Without a day.
    archived: { google_ai_usage_counters: 2 },
  },
  {
    name: "both_times",
    changed: [
      "table public.token_usage column at default now()",
      "table public.token_usage column ts default now()",
    ],
  },
  { name: "uuids", changed: [] },
  {
    name: "computed",
    changed: [
      /^table public.token_usage column total_tokens generated always as /,
      /^table public.google_ai_usage_counters column day_bucket generated always as /,
    ],
    archived: { google_ai_usage_counters: 3 },
  },
  {
    name: "guarded",
    changed: [
      "table public.google_ai_api_keys column notes not null",
      "table public.google_ai_api_keys column owner_email not null",
      "table public.google_ai_model_limits column tier not null",
      "table public.google_ai_model_limits column rpm not null",
      "table public.google_ai_model_limits column tpm not null",
      "table public.google_ai_model_limits column rpd not null",
      "table public.google_ai_usage_counters column tenant_id not null",
      "table public.token_usage column user_id not null",
    ],
    archived: { google_ai_api_keys: 1 },
  },
  {
    name: "doubles",
    changed: [],
    archived: { google_ai_model_limits: 3, google_ai_usage_counters: 3, incidents: 1, prompts: 1 },
  },
];

/** Databases of the histories as their migration left them, by fixture: others begin there. */
const adopted = new Map<string, TestDatabase>();
afterAll(() => Promise.all([...adopted.values()].map((database) => database.drop())));

describe.each(HISTORIES)("$name", ({ name, changed, archived = {} }) => {
  let database: TestDatabase;
  let before: Snapshot;
  let saidBefore: Answer[];

  beforeAll(async () => {
    database = await cloneDatabase("platform");
    await database.sql.unsafe(await fixture(`${name}.sql`)).simple();
    before = await snapshot(database.sql, ["public"]);
    saidBefore = await say(database.sql, await statements(name));
    await migrate(database.sql);
    adopted.set(`${name}.sql`, database);
  });
  // What its tests do they take back.
  afterAll(() => database?.sql.end());

  test("every row is still there, or a copy of it", async () => {
    const after = await snapshot(database.sql, ["public"]);
    const copies = await database.sql<{ source_table: string; original: Row }[]>`
      select source_table, original from eve.adopted_rows
    `;
    for (const [table, rows] of Object.entries(before.rows)) {
      const kept = [
        ...after.rows[table]!,
        ...copies.filter((copy) => `public.${copy.source_table}` === table).map((copy) => copy.original),
      ];
      expect.soft(lostRows(rows, kept), `rows of ${table} that are gone`).toEqual([]);
    }
    const counts = Object.groupBy(copies, (copy) => copy.source_table);
    expect(Object.fromEntries(Object.entries(counts).map(([table, rows]) => [table, rows!.length])))
      .toEqual(archived);
  });

  test("columns, defaults, indexes, triggers, policies, views and comments stay as they are", async () => {
    const after = new Set((await snapshot(database.sql, ["public"])).facts);
    const lost = before.facts.filter((fact) => !after.has(fact));
    const unexpected = lost.filter((fact) => !changed.some((known) => matches(known, fact)));
    expect(unexpected).toEqual([]);
    expect(changed.filter((known) => !lost.some((fact) => matches(known, fact)))).toEqual([]);
  });

  test("its programs get the answers that they got before", async () => {
    expect(saidBefore.length).toBeGreaterThan(3);
    expect(await say(database.sql, await statements(name))).toEqual(saidBefore);
  });

  test("a second time changes nothing", async () => {
    const once = await snapshot(database.sql, ["public", "eve"]);
    await migrate(database.sql);
    const twice = await snapshot(database.sql, ["public", "eve"]);
    expect(twice.rows).toEqual(once.rows);
    expect(twice.facts).toEqual(once.facts);
  });

  test("the gateway reserves, settles and records in it", async () => {
    const requestId = `не uuid, ${"и длиннее двадцати знаков".repeat(3)}`;
    await rolledBack(database.sql, async (transaction) => {
      await transaction`set local role service_role`;
      const [{ granted }] = await transaction<[{ granted: Record<string, unknown> }]>`
        select public.eve_reserve(${requestId}, '{gemma-4-31b-it}', 100) as granted
      `;
      expect(granted).toMatchObject({ status: "granted", key: { provider: "google" } });
      const [{ settled }] = await transaction<[{ settled: unknown }]>`
        select public.eve_settle(
          ${granted.request_no as string}::bigint, 1, 'succeeded', input_tokens => 120, total_tokens => 150
        ) as settled
      `;
      expect(settled).toEqual({ status: "settled" });
      await transaction`reset role`;

      const keyId = (granted.key as { id: string }).id;
      expect(
        await transaction`
          select rpm_used::integer, tpm_used::integer, rpd_used::integer, day_bucket = (now() at time zone 'America/Los_Angeles')::date as today
          from public.google_ai_usage_counters
          where api_key_id = ${keyId} and model = 'gemma-4-31b-it' and minute_bucket > now() - interval '2 minutes'
        `,
      ).toEqual([{ rpm_used: 1, tpm_used: 120, rpd_used: 1, today: true }]);
      expect(
        await transaction`
          select prompt_tokens::integer, coalesce(completion_tokens, 0)::integer as completion_tokens, total_tokens::integer,
            ts > now() - interval '1 minute' as now
          from public.token_usage
          where meta::jsonb ->> 'source' = 'eve'
            and ${requestId} in (request_id::text, meta::jsonb ->> 'request_id')
        `,
      ).toEqual([{ prompt_tokens: 120, completion_tokens: 0, total_tokens: 150, now: true }]);
      expect(await transaction`select message from eve.alerts`).toEqual([]);
    });
  });

  test("the API's anonymous and signed-in callers reach none of the five tables", async () => {
    expect(
      await database.sql`
        select c.oid::regclass as relation, r.role
        from pg_catalog.pg_class c
        cross join unnest(array['anon', 'authenticated']) as r (role)
        where c.oid = any (${FIVE}::regclass[])
            and (has_any_column_privilege(r.role, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
              or has_table_privilege(r.role, c.oid, 'DELETE, TRUNCATE, TRIGGER') or not c.relrowsecurity)
          or exists (
            select
            from pg_catalog.pg_depend d
            where d.objid = c.oid and c.relkind = 'S' and d.refobjid = any (${FIVE}::regclass[])
              and has_sequence_privilege(r.role, c.oid, 'USAGE, SELECT, UPDATE')
          )
      `,
    ).toEqual([]);
  });

  test("an upsert by key, model and minute counts on", async () => {
    await rolledBack(database.sql, async (transaction) => {
      const upsert = () =>
        transaction`
          insert into public.google_ai_usage_counters as c (api_key_id, model, minute_bucket, day_bucket, rpm_used, tpm_used, rpd_used, updated_at)
          values (${KEY}, 'gemma-4-31b-it', '2026-06-01 12:00+00', '2026-06-01', 1, 50, 1, now())
          on conflict (api_key_id, model, minute_bucket) do update
          set rpm_used = c.rpm_used + excluded.rpm_used, tpm_used = c.tpm_used + excluded.tpm_used
          returning rpm_used::integer, tpm_used::integer
        `;
      await upsert();
      expect(await upsert()).toEqual([{ rpm_used: 2, tpm_used: 100 }]);
    });
  });
});

describe("adoption in detail", () => {
  let database: TestDatabase;

  async function adopt(...sources: string[]) {
    const done = sources.length === 1 && adopted.get(sources[0]!);
    database = await cloneDatabase(done || "platform");
    if (done) return database.sql;
    for (const source of sources) {
      await database.sql.unsafe(source.endsWith(".sql") ? await fixture(source) : source).simple();
    }
    await migrate(database.sql);
    return database.sql;
  }
  const dropAfter = async (run: () => Promise<void>) => {
    try {
      await run();
    } finally {
      await database.drop();
    }
  };

  test("double counters add up; the day's count so far is the highest", () =>
    dropAfter(async () => {
      const sql = await adopt("bare.sql");
      expect(
        await sql`
          select minute_bucket, day_bucket::text, rpm_used, tpm_used, rpd_used, updated_at
          from public.google_ai_usage_counters
          where api_key_id is not null
          order by minute_bucket
        `,
      ).toEqual([
        {
          minute_bucket: new Date("2026-05-01T06:59Z"),
          day_bucket: "2026-04-30",
          rpm_used: 1,
          tpm_used: 10,
          rpd_used: 1,
          updated_at: null,
        },
        {
          minute_bucket: new Date("2026-05-01T12:00Z"),
          day_bucket: "2026-05-01",
          rpm_used: 3,
          tpm_used: 1400,
          rpd_used: 3,
          updated_at: new Date("2026-05-01T12:00:30Z"),
        },
        {
          minute_bucket: new Date("2026-05-01T12:01Z"),
          day_bucket: "2026-05-01",
          rpm_used: 2147483647,
          tpm_used: 2147483647,
          rpd_used: 9,
          updated_at: null,
        },
      ]);
      expect(
        await sql`select count(distinct id)::integer as ids, count(*)::integer as rows from public.google_ai_api_keys`,
      ).toEqual([{ ids: 3, rows: 3 }]);
    }));

  test("of a model's rows, the one changed last is in force, and what refers to the others follows", () =>
    dropAfter(async () => {
      const sql = await adopt("doubles.sql");
      expect(
        await sql`
          select id, rpm, tpm, rpd from public.google_ai_model_limits
          where model in ('gemma-4-31b-it', 'gemini-2.5-flash') order by model desc
        `,
      ).toEqual([{ id: 2, rpm: 30, tpm: 16000, rpd: 14400 }, { id: 5, rpm: 6, tpm: 250000, rpd: -1 }]);
      expect(await sql`select id, limits_id from public.prompts order by id`)
        .toEqual([{ id: 1, limits_id: 2 }, { id: 2, limits_id: 2 }, { id: 3, limits_id: null }, {
          id: 4,
          limits_id: 6,
        }]);
      expect(await sql`select id, counter_id::integer from public.incidents order by id`)
        .toEqual([{ id: 1, counter_id: 1 }, { id: 2, counter_id: 4 }]);
    }));

  test("two rows of one secret share one quota", () =>
    dropAfter(async () => {
      const sql = await adopt("computed.sql");
      expect(
        await sql`select key_alias, quota_project from public.google_ai_api_keys order by key_alias`,
      ).toEqual([
        { key_alias: "off", quota_project: null },
        { key_alias: "one", quota_project: "GOOGLE_API_KEY" },
        { key_alias: "the same again", quota_project: "GOOGLE_API_KEY" },
      ]);
      expect(await sql`select * from public.history`).toEqual([]);
    }));

  test("the two times stay equal, whichever is written", () =>
    dropAfter(async () => {
      const sql = await adopt("at.sql");
      const insert = (column: string) =>
        sql.unsafe(`
          insert into public.token_usage ("${column}", model, prompt_tokens, completion_tokens, total_tokens)
          values ('2026-05-03 10:00+00', 'm', 1, 2, 3)
          returning id, "at", ts
        `);
      const time = new Date("2026-05-03T10:00Z");
      const [byAt] = await insert("at");
      expect(byAt).toMatchObject({ at: time, ts: time });
      expect((await insert("ts"))[0]).toMatchObject({ at: time, ts: time });
      const later = new Date("2026-05-03T11:00Z");
      expect(await sql`update public.token_usage set ts = ${later} where id = ${byAt!.id} returning "at", ts`)
        .toEqual([{ at: later, ts: later }]);
      expect(
        await sql`select count(*)::integer as unequal from public.token_usage where ts is distinct from "at"`,
      )
        .toEqual([{ unequal: 0 }]);
    }));

  test("a retried request adds to its one row where request ids are unique", () =>
    dropAfter(async () => {
      const sql = await adopt("uuids.sql");
      const requestId = "c0000000-0000-4000-8000-0000000000aa";
      for (const attempt of [1, 2]) {
        const [{ granted }] = await sql<[{ granted: { request_no: string } }]>`
          select public.eve_reserve(${requestId}, '{gemma-4-31b-it}', 100, attempt => ${attempt}) as granted
        `;
        await sql`
          select public.eve_settle(
            ${granted.request_no}::bigint, ${attempt}, 'failed', ${
          attempt === 2
        }, input_tokens => 100, output_tokens => 7
          )
        `;
      }
      expect(await sql`select * from public.token_usage where request_id = ${requestId}`).toMatchObject([
        { prompt_tokens: 200, completion_tokens: 14, total_tokens: 214, request_id: requestId },
      ]);
    }));

  test("a settlement survives what the owner's own rules refuse, and says so", () =>
    dropAfter(async () => {
      const sql = await adopt(
        "exact.sql",
        `alter table public.token_usage add constraint only_gemma check (model like 'gemma-3%') not valid;
         alter table public.google_ai_usage_counters add constraint old_only check (minute_bucket < '2026-06-01');`,
      );
      const [{ granted }] = await sql<[{ granted: { request_no: string } }]>`
        select public.eve_reserve('r', '{gemma-4-31b-it}', 100) as granted
      `;
      expect(
        await sql`select public.eve_settle(${granted.request_no}::bigint, 1, 'succeeded', input_tokens => 9) as settled`,
      ).toEqual([{ settled: { status: "settled" } }]);
      expect(await sql`select input_tokens from eve.attempts`).toEqual([{ input_tokens: 9 }]);
      expect(await sql`select kind, message from eve.alerts order by kind`).toMatchObject([
        { kind: "token_usage_refused", message: expect.stringContaining("only_gemma") },
        { kind: "usage_counters_refused", message: expect.stringContaining("old_only") },
      ]);
    }));

  test("a key that is deleted while it is in use leaves nothing that cannot be closed", () =>
    dropAfter(async () => {
      const sql = await adopt("exact.sql");
      const reserve = (requestId: string) =>
        sql<[{ granted: { status: string; request_no: string } }]>`
          select public.eve_reserve(${requestId}, '{gemma-4-31b-it}', 100, lease_ms => 100) as granted
        `;
      await stopClock(sql);
      const [{ granted }] = await reserve("settled");
      await reserve("abandoned");
      await sql`delete from public.google_ai_api_keys where key_alias = 'events-main'`;
      await moveClock(sql, 1_000);
      expect(
        await sql`select public.eve_settle(${granted.request_no}::bigint, 1, 'succeeded', input_tokens => 9) as settled`,
      ).toEqual([{ settled: { status: "settled" } }]);
      expect(await sql`select public.eve_sweep() as swept`).toMatchObject([{ swept: { expired: 1 } }]);
      expect((await reserve("the next one"))[0].granted.status).toBe("granted");
    }));

  test("a known model's own flags are set on the owner's rows, whose limits stay", () =>
    dropAfter(async () => {
      const sql = await adopt("exact.sql");
      const flags = (connection: postgres.Sql) =>
        connection`
          select model, provider, is_active, replaced_by, supports_system, supports_json, supports_tools, supports_thinking,
            image_tokens
          from public.google_ai_model_limits order by model
        `;
      const fresh = await cloneDatabase();
      try {
        expect(await flags(sql)).toEqual(await flags(fresh.sql));
      } finally {
        await fresh.drop();
      }
      expect(
        await sql`select rpm, tpm, rpd from public.google_ai_model_limits where model = 'gemini-2.5-flash'`,
      ).toEqual([{ rpm: 4, tpm: 240000, rpd: 18 }]);
    }));

  test("20,000 counters, a tenth of them double, and 20,000 usage rows are read a few times each", () =>
    dropAfter(async () => {
      database = await cloneDatabase("platform");
      const { sql } = database;
      await sql.unsafe(await fixture("bare.sql")).simple();
      await sql.unsafe(`
        insert into public.google_ai_usage_counters (api_key_id, model, minute_bucket, rpm_used, tpm_used, rpd_used)
        select '${KEY}', 'gemma-4-31b-it', timestamptz '2026-01-01' + (n % 18000) * interval '1 minute', 1, 100, n
        from generate_series(1, 20000) n;
        insert into public.token_usage (ts, model, prompt_tokens, completion_tokens, total_tokens, request_id)
        select timestamptz '2026-01-01' + n * interval '1 second', 'gemma-4-31b-it', 1, 2, 3, n::text
        from generate_series(1, 20000) n;
      `).simple();
      // One connection, whose figures are complete when it says so.
      const one = postgres(database.url, { max: 1, onnotice: () => {} });
      try {
        await migrate(one);
        await one`select pg_stat_force_next_flush()`;
        const [read] = await one`
          select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::float8 / 40000 as times
          from pg_stat_user_tables where schemaname = 'public'`;
        expect(read!.times).toBeLessThan(25);
      } finally {
        await one.end();
      }
      expect(
        await sql`
          select count(*)::integer as rows, sum(rpm_used)::integer as starts
          from public.google_ai_usage_counters
          where api_key_id = ${KEY} and tpm_used <= 200 and minute_bucket < '2026-04-01'
        `,
      ).toEqual([{ rows: 18_000, starts: 20_000 }]);
    }));

  test("the real CLI pushes them over a hand-made database, once", () =>
    dropAfter(async () => {
      database = await cloneDatabase("platform");
      await database.sql.unsafe(await fixture("exact.sql")).simple();
      await pushMigrations(database.url);
      const [{ pushed }] = await database.sql<[{ pushed: number }]>`
        select count(*)::integer as pushed from supabase_migrations.schema_migrations
      `;
      expect(pushed).toBe((await migrations()).length);
      expect(await applyMigrations(database.url)).toBe(0);
      expect(await database.sql`select count(*)::integer as rows from public.google_ai_usage_counters`)
        .toEqual([{ rows: 5 }]);
    }));
});

describe("what cannot be adopted stops the migration before anything has changed", () => {
  test.each([
    [
      "a view in a table's place",
      "create view public.token_usage as select 1 as id",
      /token_usage is not an ordinary table/,
      /Give it another name/,
    ],
    [
      "a table of another role",
      "-- as supabase_admin\ncreate table public.token_usage (id bigint)",
      /token_usage belongs to supabase_admin/,
      /alter table (public\.)?token_usage owner to postgres/,
    ],
    [
      "a column of a type that cannot serve",
      "create table public.google_ai_api_keys (id bigint generated always as identity primary key, key_alias text)",
      /column id of (public\.)?google_ai_api_keys has type bigint/,
      /Convert it/,
    ],
    [
      "a primary key that the gateway cannot fill",
      "create table public.token_usage (tenant text, id bigint, primary key (tenant, id))",
      /column tenant of (public\.)?token_usage belongs to the primary key/,
      /Give it a default/,
    ],
    [
      "doubles that other rows refer to by something else than the id",
      `create table public.google_ai_model_limits (id int primary key, model text, code text unique);
       create table public.uses (code text references public.google_ai_model_limits (code) on delete cascade);
       insert into public.google_ai_model_limits values (1, 'm', 'a'), (2, 'm', 'b');`,
      /uses_code_fkey/,
      /Remove the duplicates/,
    ],
  ])("%s", async (_what, made, message, hint) => {
    const database = await cloneDatabase("platform");
    try {
      if (made.startsWith("-- as supabase_admin")) await asSuperuser(database, made);
      else await database.sql.unsafe(made).simple();
      const before = (await snapshot(database.sql, ["public"])).facts;
      const error = await migrate(database.sql).then(
        () => undefined,
        (error: postgres.PostgresError) => error,
      );
      expect(error?.message).toMatch(message);
      expect(error?.hint).toMatch(hint);
      expect((await snapshot(database.sql, ["public"])).facts).toEqual(before);
    } finally {
      await database.drop();
    }
  });
});

type Row = Record<string, unknown>;

interface Snapshot {
  rows: Record<string, Row[]>;
  facts: string[];
}

/** All rows of all tables, and all that the catalog says, function bodies included by their digests. */
async function snapshot(sql: postgres.Sql, schemas: string[]): Promise<Snapshot> {
  const catalog = await readCatalog(sql, schemas, { bodies: "digests" });
  const rows: Snapshot["rows"] = {};
  for (const { name } of catalog) {
    if (!name.startsWith("table ")) continue;
    const table = name.replace("table ", "");
    const found = await sql.unsafe(
      `select to_jsonb(t) as row from ${table} t order by to_jsonb(t)::text collate "C"`,
    );
    rows[table] = found.map((each) => each.row as Row);
  }
  return { rows, facts: factsOf(catalog) };
}

/**
 * Rows without a counterpart. Adoption may fill in what was null and add columns; every value that was there must be there.
 * Rows that say most look for theirs first.
 */
function lostRows(original: Row[], kept: Row[]): Row[] {
  const said = (row: Row) => Object.entries(row).filter(([, value]) => value !== null);
  const left = kept.map((row) =>
    Object.fromEntries(said(row).map(([name, value]) => [name, JSON.stringify(value)]))
  );
  left.sort((a, b) => Object.keys(a).length - Object.keys(b).length);
  return original.toSorted((a, b) => said(b).length - said(a).length).filter((row) => {
    const place = left.findIndex((other) =>
      said(row).every(([name, value]) => other[name] === JSON.stringify(value))
    );
    if (place >= 0) left.splice(place, 1);
    return place < 0;
  });
}

interface Answer {
  statement: string;
  columns: string[];
  rows: Row[];
}

/** Says the statements one after the other and takes it all back. Answers what each returned, with the columns' types. */
async function say(sql: postgres.Sql, said: string[]): Promise<Answer[]> {
  const answers: Answer[] = [];
  await rolledBack(sql, async (transaction) => {
    for (const statement of said) {
      const rows = await transaction.unsafe(statement);
      answers.push({
        statement,
        columns: (rows.columns ?? []).map((column) => `${column.name} ${column.type}`),
        rows: [...rows],
      });
    }
  });
  return answers;
}

test("a day that was missing is filled in, and the row as it was is kept", async () => {
  const database = await cloneDatabase("platform");
  try {
    await database.sql.unsafe(await fixture("exact.sql")).simple();
    await database.sql.unsafe(
      "alter table public.google_ai_usage_counters alter column day_bucket drop not null",
    );
    await database.sql`
      insert into public.google_ai_usage_counters (api_key_id, model, minute_bucket, day_bucket, rpm_used)
      values (${KEY}, 'without a day', '2026-05-02 03:00+00', null, 4)`;
    const [before] = await database.sql`
      select to_jsonb(c) as row from public.google_ai_usage_counters c where model = 'without a day'`;
    await migrate(database.sql);
    const copies = () =>
      database
        .sql`select reason, original from eve.adopted_rows where source_table = 'google_ai_usage_counters'`;
    expect(await copies()).toEqual([{
      reason: "had no day_bucket, and got that of its minute",
      original: before!.row,
    }]);
    expect(
      await database.sql`
        select day_bucket::text from public.google_ai_usage_counters where model = 'without a day'`,
    ).toEqual([{ day_bucket: "2026-05-01" }]);
    await migrate(database.sql);
    expect(await copies()).toHaveLength(1);
  } finally {
    await database.drop();
  }
});

test("what adoption warns of can be read afterwards, by those who did not see it", async () => {
  const database = await cloneDatabase("platform");
  const notices: string[] = [];
  const sql = postgres(database.url, { max: 1, onnotice: ({ message }) => void notices.push(message!) });
  try {
    await sql.unsafe(await fixture("doubles.sql")).simple();
    await sql.unsafe("alter table public.google_ai_model_limits add column tier text not null default 'x'")
      .simple();
    await sql.unsafe("alter table public.google_ai_model_limits alter column tier drop default").simple();
    await sql.unsafe("update public.google_ai_model_limits set rpm = -1").simple();
    await migrate(sql);
    const kept = (await sql`select message from eve.adoption_warnings order by id`).map((row) => row.message);
    expect(kept.length).toBeGreaterThanOrEqual(4);
    expect(kept).toEqual(notices.filter((notice) => notice.startsWith("adoption:")));
    await migrate(sql);
    expect((await sql`select message from eve.adoption_warnings order by id`).map((row) => row.message))
      .toEqual(kept);
  } finally {
    await sql.end();
    await database.drop();
  }
});

const ROLLED_BACK = new Error("rolled back on purpose");

async function rolledBack(
  sql: postgres.Sql,
  run: (transaction: postgres.TransactionSql) => Promise<void>,
): Promise<void> {
  await sql.begin(async (transaction) => {
    await run(transaction);
    throw ROLLED_BACK;
  }).catch((error) => {
    if (error !== ROLLED_BACK) throw error;
  });
}

/** The migrations as plain files in order, each in a transaction of its own, as the CLI applies them. */
async function migrate(sql: postgres.Sql): Promise<void> {
  for (const text of await migrations()) {
    await sql.begin((transaction) => transaction.unsafe(text).simple());
  }
}

async function migrations(): Promise<string[]> {
  const folder = `${CHECKOUT}/supabase/migrations`;
  const names = [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) =>
    name.endsWith(".sql")
  );
  return await Promise.all(names.sort().map((name) => Deno.readTextFile(`${folder}/${name}`)));
}

function fixture(name: string): Promise<string> {
  return Deno.readTextFile(`${CHECKOUT}/tests/fixtures/adoption/${name}`);
}

async function statements(history: string): Promise<string[]> {
  const text = await fixture(`${history}.statements.sql`);
  return text.split(/;\s*\n/).map((statement) => statement.trim()).filter((statement) => statement !== "");
}

function matches(known: string | RegExp, fact: string): boolean {
  return typeof known === "string" ? known === fact : known.test(fact);
}

async function asSuperuser(database: TestDatabase, text: string): Promise<void> {
  const superuser = postgres(database.superuserUrl, { max: 1, onnotice: () => {} });
  try {
    await superuser.unsafe(text).simple();
  } finally {
    await superuser.end();
  }
}
