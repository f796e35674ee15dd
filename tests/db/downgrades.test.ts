/** The ways down of the new parts' migrations (supabase/downgrades), and `npm run eve -- db`, which goes them. */
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { eve } from "../../cli/eve.ts";
import { rehearse, undo } from "../../cli/eve/db/downgrade.ts";
import { BASE, downgradesFolder, migrationsOf } from "../../cli/eve/db/history.ts";
import { readWayDown } from "../../cli/eve/db/way_down.ts";
import { applyMigrations } from "../../local/database.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { cloneDatabase, databaseBefore, type TestDatabase } from "../harness/database.ts";
import { makeTestFolder } from "../harness/folders.ts";
import { factsOf, readCatalog } from "./catalog.ts";

const migrations = migrationsOf(CHECKOUT);
const undoable = migrations.filter(({ version }) => version > BASE);
const fileOf = ({ version, name }: { version: string; name: string }) => `${version}_${name}.sql`;
const steps = () => undoable.toReversed().map((one) => ({ ...one, way: readWayDown(CHECKOUT, one) }));

let db: TestDatabase | undefined;
const made: TestDatabase[] = [];
afterEach(async () => {
  await db?.drop();
  db = undefined;
});
afterAll(() => Promise.all(made.map((one) => one.drop())));

/** Rows that migrations bring, and what pg_cron runs: no table of them is a catalog's. */
const SEEDED = [
  "eve.settings",
  "eve.operations",
  "eve.maintenance_expected",
  "eve.alert_kinds",
  "eve.metric_counters",
  "eve.retention",
];

/** What is true of a database, in any order: the dump that schema.test.ts compares, and rows that migrations bring. */
async function factsAbout({ sql }: Pick<TestDatabase, "sql">): Promise<string[]> {
  const facts = factsOf(await readCatalog(sql, ["public", "eve"], { bodies: "digests" }));
  for (const table of SEEDED) {
    const rows = await sql.unsafe(`select to_jsonb(t)::text as row from ${table} t`);
    // Run states and times of creation differ from database to database.
    facts.push(
      ...rows.map(({ row }) => `${table} ${row.replace(/"\w+": "\d{4}-\d\d-\d\dT[^"]*"/g, "")}`),
    );
  }
  const jobs = await sql`select jobname, schedule, command from cron.job`;
  return [...facts, ...jobs.map((job) => `cron ${job.jobname} ${job.schedule} ${job.command}`)];
}

async function grantsIn({ sql }: Pick<TestDatabase, "sql">): Promise<string[]> {
  const rows = await sql`
    select format('%s to %s on %s', a.privilege_type, coalesce(nullif(a.grantee, 0)::regrole::text, 'public'), o.name) as fact
    from (
      select c.oid::regclass::text as name, coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)) as acl
      from pg_class c where c.relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and c.relkind in ('r', 'p', 'v', 'S')
      union all
      select p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
      from pg_proc p where p.pronamespace in ('public'::regnamespace, 'eve'::regnamespace)
      union all
      select a.attrelid::regclass::text || '.' || a.attname, a.attacl
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      where c.relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and a.attacl is not null
    ) o
    cross join lateral aclexplode(o.acl) a
  `;
  return rows.map(({ fact }) => fact).sort();
}

/** Row-level security that is on stays on: on the way down rights only get fewer. */
const comparable = (facts: string[]) => facts.filter((fact) => !fact.endsWith(" row level security"));
const onlyIn = (one: string[], other: string[]) => {
  const others = new Set(other);
  return one.filter((fact) => !others.has(fact));
};
const clients = (grants: string[]) =>
  grants.filter((grant) => / to (anon|authenticated|public) on /.test(grant));

test("every migration of the new parts has its way down, and none has one that is not there", () => {
  const there = [...Deno.readDirSync(downgradesFolder(CHECKOUT))].map(({ name }) => name).sort();
  expect(
    there,
    "a migration of a new part needs its way down: `npm run downgrades` writes those that are missing; read them, and say what becomes of rows (docs/contributing.md)",
  ).toEqual(undoable.map(fileOf));
  for (const file of there) {
    expect(Deno.readTextFileSync(`${downgradesFolder(CHECKOUT)}/${file}`), file).not.toContain("TODO");
  }
});

test("each way down leads to the schema that was before, functions' earlier bodies and seeded rows among it, and up again", async () => {
  // Up, migration by migration, in one database; then down in another, which had them all at once.
  const up = await cloneDatabase("platform");
  made.push(up);
  const fresh = new Map<string, { facts: string[]; grants: string[] }>();
  const catalogOf = async (at: TestDatabase) => ({ facts: await factsAbout(at), grants: await grantsIn(at) });
  await applyMigrations(up.url, undefined, undefined, async (version) => {
    if (version > BASE) fresh.set(version, await catalogOf(up));
  });
  db = await cloneDatabase();
  const head = await catalogOf(db);
  let above = head;
  for (const step of steps()) {
    expect((await undo(db.sql, step, undefined)).lost, step.name).toEqual([]);
    const below = await catalogOf(db);
    const wanted = fresh.get(step.version)!;
    const [is, was] = [comparable(below.facts), comparable(wanted.facts)];
    expect({ left: onlyIn(is, was), missing: onlyIn(was, is) }, `below ${fileOf(step)}`).toEqual({
      left: [],
      missing: [],
    });
    // What is made again may be as open as it was; nothing else is opened.
    expect(
      onlyIn(clients(below.grants), [...clients(above.grants), ...clients(wanted.grants)]),
      `rights below ${fileOf(step)}`,
    ).toEqual([]);
    above = below;
  }
  const base = fresh.get(undoable[0]!.version)!;
  expect(above.facts.sort()).toEqual(base.facts.sort());
  expect(above.grants).toEqual(base.grants);
  expect(
    (await db.sql`select version from supabase_migrations.schema_migrations order by 1`).map(({ version }) =>
      version
    ),
  ).toEqual(migrations.filter(({ version }) => version <= BASE).map(({ version }) => version));

  await applyMigrations(db.url);
  const again = await catalogOf(db);
  expect({ left: onlyIn(again.facts, head.facts), missing: onlyIn(head.facts, again.facts) }).toEqual({
    left: [],
    missing: [],
  });
  expect(again.grants).toEqual(head.grants);
});

describe("npm run eve -- db", () => {
  /** Runs a command line on a database; gives the exit code, what was said and what was complained. */
  async function run(url: string | undefined, ...args: string[]) {
    const said: string[] = [];
    const complained: string[] = [];
    const code = await eve(["db", ...args], {
      say: (text) => said.push(text),
      complain: (text) => complained.push(text),
      connect: () => {
        throw new Error("migrations go through no API");
      },
      // Without a database of its own, a project elsewhere: never the stack that happens to run here.
      variable: (name) => ({ DATABASE_URL: url, SUPABASE_URL: "https://elsewhere.example" })[name],
      now: () => Date.UTC(2026, 10, 23),
    });
    return { code, said: said.join("\n"), complained: complained.join("\n") };
  }
  async function json(url: string, ...args: string[]) {
    const { code, said, complained } = await run(url, ...args, "--json");
    expect(code, said + complained).toBe(0);
    return JSON.parse(said);
  }

  const head = migrations.at(-1)!;
  const base = migrations.findLast(({ version }) => version <= BASE)!;

  /** Every row of these tables, each column as PostgreSQL writes it. */
  async function rowsOf({ sql }: TestDatabase, tables: readonly string[]): Promise<Record<string, string[]>> {
    const found: Record<string, string[]> = {};
    for (const table of tables) {
      const columns = await sql`
        select attname::text as name, quote_ident(attname) as quoted from pg_attribute
        where attrelid = ${table}::regclass and attnum > 0 and not attisdropped order by attname`;
      const rows = await sql.unsafe(
        `select json_object($1::text[], array[${
          columns.map(({ quoted }) => `t.${quoted}::text`)
        }]::text[])::text as row from ${table} t`,
        [columns.map(({ name }) => name)],
      );
      found[table] = rows.map(({ row }) => row).sort();
    }
    return found;
  }

  const CHAT = "c0000000-0000-4000-8000-000000000001";
  const ROWS = `
    insert into eve.tenants (id, name, storage_limit_bytes) values ('acme', E'Acme "\\\\" \\n Ltd', 5);
    insert into public.media_objects (tenant_id, file_sha256, size_bytes, metadata, expires_at)
    values ('acme', repeat('ab', 32), 12, '{"a": [1.50, null]}', 'infinity');
    insert into eve.media_references (tenant_id, file_sha256, ref_kind, ref_id) values ('acme', repeat('ab', 32), 'chat', '1');
    insert into eve.media_spool (key, body, size_bytes, sha256, content_type) values ('k', '\\x00ff27', 3, repeat('ab', 32), 'image/png');
    insert into public.chats (id, title, metadata) values ('${CHAT}', 'Вентиляция', 'null');
    insert into public.messages (id, chat_id, content, parts, created_at) values
      ('e0000000-0000-4000-8000-000000000001', '${CHAT}', E'line\\none\\t"two" \\\\n 🌬', 'null', '2026-01-01 00:00:00.123456+03'),
      ('e0000000-0000-4000-8000-000000000002', '${CHAT}', '', null, '2026-01-02');
    insert into public.search_results (chat_id, coords_norm) values ('${CHAT}', '[0.1, 1e-7]');
    insert into eve.job_queues (kind, class, owner_id, topic) values ('llm', 'batch', '${CHAT}', '');
    insert into eve.jobs (id, kind, request_id, queue_id, class, run_at, body)
    values ('${CHAT}', 'llm', 'r', (select id from eve.job_queues limit 1), 'batch', now(), '{"model": "m"}');
    insert into eve.jobs (id, kind, request_id, request_no, state, stage_type, provider_kind, model, key_name, upstream_id, models)
    values ('e0000000-0000-4000-8000-000000000009', 'provider_job', 's', 7, 'running', 'SONG', 'suno', 'v', 'K', 'u', '{stage:SONG}');
    insert into eve.events (source, type, time, consumer_id) values ('/jobs', 'job.ended.v1', '2026-01-01', '${CHAT}');
    update eve.settings set value = 5 where name = 'chats_user_max';
  `;

  test("a database with rows is not brought down unless told, and then has each of them in a file first, from which it comes back as it was", async () => {
    db = await cloneDatabase();
    await db.sql.unsafe(ROWS).simple();
    const all = (await db.sql`
      select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('public', 'eve') and c.relkind = 'r' and not c.relispartition`).map(({ name }) =>
      name as string
    );
    const before = await rowsOf(db, all);
    const facts = (await factsAbout(db)).sort();

    const refused = await run(db.url, "downgrade", "base");
    expect(refused.code).toBe(1);
    for (
      const lost of [
        /chats_tables: 1 row of public\.chats$/m,
        /chats_tables: 2 rows of public\.messages$/m,
        /job_tables: 1 row of eve\.jobs$/m,
        /chat_usage: 1 row of eve\.settings$/m,
        /media_tables: 1 row of eve\.media_spool$/m,
        /event_tables: 1 row of eve\.events$/m,
      ]
    ) expect(refused.complained).toMatch(lost);
    expect(refused.complained).toMatch(/Nothing was changed\. .*--drop-data/);
    const tried = await json(db.url, "downgrade", "base", "--dry-run");
    expect(tried).toMatchObject({ dry_run: true, current: head, undone: { length: undoable.length } });
    // Also one by itself, which nothing has looked at before.
    const usage = steps().find(({ name }) => name === "chat_usage")!;
    await expect(undo(db.sql, usage, undefined)).rejects.toThrow(/would lose rows/);
    expect(await rowsOf(db, all)).toEqual(before);
    expect((await factsAbout(db)).sort()).toEqual(facts);

    const folder = await makeTestFolder();
    try {
      const done = await json(db.url, "downgrade", "base", "--drop-data", "--data-folder", folder.path);
      expect(done).toMatchObject({ dry_run: false, current: { version: base.version } });
      const files =
        (done.undone as { lost: { table: string; rows: number; written: number; file: string }[] }[]).flatMap(
          ({ lost }) => lost,
        );
      expect(await db.sql`select to_regclass('public.chats') as chats`).toEqual([{ chats: null }]);
      expect((await db.sql`select request_id, state from eve.jobs`).map((row) => ({ ...row }))).toEqual([{
        request_id: "s",
        state: "running",
      }]);
      // What is left works without what has gone.
      await db.sql`select eve.operation_is_due(o.name) from eve.operations o`;
      await db.sql`select public.eve_jobs_tidy()`;
      expect(await db.sql`select eve.consumer_json(c) ->> 'tenant_id' as tenant from eve.consumers c`)
        .toEqual([{ tenant: "default" }]);
      for (const { file, written, rows } of files) {
        expect(written).toBeGreaterThanOrEqual(rows);
        expect((await Deno.stat(file)).mode! & 0o777).toBe(0o600);
      }
      await json(db.url, "upgrade");
      expect((await rowsOf(db, ["public.chats"]))["public.chats"]).toEqual([]);
      // A row that points at nothing keeps all of them away.
      await db.sql`set session_replication_role = replica`;
      await db.sql`insert into public.messages (chat_id, content) values (gen_random_uuid(), 'of no chat')`;
      await db.sql`set session_replication_role = default`;
      const dangling = await run(db.url, "restore", folder.path);
      expect(dangling.complained).toMatch(
        /Nothing was restored: 1 rows of messages would point at rows of chats/,
      );
      expect((await rowsOf(db, ["public.chats"]))["public.chats"]).toEqual([]);
      await db.sql`delete from public.messages`;

      const { restored } = await json(db.url, "restore", folder.path);
      expect(restored).toEqual(
        expect.arrayContaining(
          files.map(({ table, written, file }) => ({
            table,
            rows: written,
            file: expect.stringContaining(file),
          })),
        ),
      );
      expect(restored).toHaveLength(files.length);
      const tables = [...new Set(files.map(({ table }) => table))];
      expect(tables).toEqual(
        expect.arrayContaining([
          "public.messages",
          "public.media_objects",
          "eve.settings",
          "eve.jobs",
        ]),
      );
      const after = await rowsOf(db, tables);
      for (const table of tables) expect(after[table], table).toEqual(expect.arrayContaining(before[table]!));
      // Numbers go on behind those that came back; and again is the same.
      await json(db.url, "restore", folder.path);
      expect(await rowsOf(db, tables)).toEqual(after);
      await db.sql.unsafe(
        "insert into eve.job_queues (kind, class, owner_id, topic) values ('llm', 'batch', gen_random_uuid(), '')",
      );
      // A second time it has nothing to do.
      expect(await json(db.url, "upgrade")).toMatchObject({ applied: [], current: head, pending: [] });
    } finally {
      await folder.remove();
    }
  });

  test("tables that somebody had before are given back with their rows and what was theirs, and are adopted again", async () => {
    const template = await databaseBefore(undoable[0]!.version);
    made.push(template);
    db = await cloneDatabase(template);
    await db.sql.unsafe(`
      create table public.media_objects (
        file_sha256 text primary key, s3_key text not null, mime text, size bigint, refs_count integer default 1, owner text
      );
      insert into public.media_objects values (repeat('ab', 32), 'old/1.jpg', 'image/jpeg', 100, 2, 'ann');
      create table public.chats (
        id uuid primary key, title varchar(255) not null, is_archived boolean default false, metadata jsonb, note text unique
      );
      create index chats_title on public.chats (title);
      create table public.messages (
        id uuid primary key, chat_id uuid not null references public.chats (id), role varchar(20) default 'bot', content text
      );
      create function public.eve_keep() returns trigger language plpgsql set search_path = '' as 'begin return new; end';
      create trigger mine before update on public.messages for each row execute function public.eve_keep();
      create table public.posts (id uuid primary key, source text, note text);
      insert into public.posts values ('${CHAT}', 'bot', 'mine');
      insert into public.chats values ('${CHAT}', 'Вентиляция', true, null, 'x');
      insert into public.messages values ('e0000000-0000-4000-8000-000000000001', '${CHAT}', 'user', 'Где?');
    `).simple();
    const theirs = ["public.media_objects", "public.chats", "public.messages", "public.posts"];
    const about = async () => {
      const catalog = (await readCatalog(db!.sql, ["public"])).filter(({ name }) =>
        theirs.includes(name.replace("table ", ""))
      );
      // Row-level security stays on, and so do comments on what stays.
      return factsOf(catalog).filter((fact) => !/ row level security$| comment /.test(fact)).sort();
    };
    const [rows, facts] = [await rowsOf(db, theirs), await about()];
    await json(db.url, "init");
    expect((await about()).length).toBeGreaterThan(facts.length);
    const folder = await makeTestFolder();
    try {
      expect(await json(db.url, "downgrade", "base", "--drop-data", "--data-folder", folder.path))
        .toMatchObject({
          current: { version: base.version },
        });
    } finally {
      await folder.remove();
    }
    expect(await about()).toEqual(facts);
    const given = await rowsOf(db, theirs);
    // What adoption filled in a column that was theirs stays.
    expect(given["public.chats"]).toEqual([
      rows["public.chats"]![0]!.replace('"metadata" : null', '"metadata" : "{}"'),
    ]);
    expect(given["public.posts"]).toEqual(rows["public.posts"]);
    expect([given["public.messages"], given["public.media_objects"]]).toEqual([
      rows["public.messages"],
      rows["public.media_objects"],
    ]);
    expect(await db.sql`select to_regclass('public.search_results') as ours`).toEqual([{ ours: null }]);
    expect(await json(db.url, "upgrade")).toMatchObject({ current: head });
    expect(await db.sql`select count(*)::int as n from public.messages`).toEqual([{ n: 1 }]);
  });

  test("goes step by step, and says what stands in the way, having changed nothing", async () => {
    db = await cloneDatabase();
    const [last, second] = undoable.toReversed();
    expect(await json(db.url, "downgrade", "-1")).toMatchObject({
      undone: [{ version: last!.version, lost: [] }],
      current: second,
      pending: [last],
    });
    expect((await run(db.url, "current")).said).toMatch(/1 migration to apply/);
    expect((await run(db.url, "history")).said).toMatch(new RegExp(`${last!.version} +${last!.name} +no`));
    expect(await json(db.url, "upgrade", second!.version)).toMatchObject({ applied: [] });
    expect(await json(db.url, "upgrade", fileOf(last!))).toMatchObject({ applied: [last], current: last });

    const refused = async (message: RegExp, code: number, url: string | undefined, ...args: string[]) => {
      const { complained, code: ended } = await run(url, ...args);
      expect(complained).toMatch(message);
      expect(ended).toBe(code);
    };
    await refused(/There is no migration 2030/, 1, db.url, "upgrade", "2030");
    await refused(/no migration nonsense/, 1, db.url, "downgrade", "nonsense");
    await refused(
      /of the gateway itself, which has no way down/,
      1,
      db.url,
      "downgrade",
      migrations[0]!.version,
    );
    await refused(/^DATABASE_URL не установлена/, 3, undefined, "current");
    await refused(/no address of a database/, 3, "https://x.example", "current");
    await refused(
      /127\.0\.0\.1:1\/postgres does not let us in/,
      3,
      "postgresql://postgres:secret@127.0.0.1:1/postgres",
      "current",
    );
    expect((await run("postgresql://postgres:secret@127.0.0.1:1/postgres", "current")).complained).not
      .toContain("secret");

    const [kept] = await db.sql`
      update supabase_migrations.schema_migrations m set statements = array['select 1']
      from supabase_migrations.schema_migrations was
      where m.version = ${second!.version} and was.version = m.version returning was.statements`;
    await refused(/another text of \d+_\w+\.sql than this checkout has/, 1, db.url, "upgrade");
    await db.sql`
      update supabase_migrations.schema_migrations set statements = ${kept!.statements} where version = ${
      second!.version
    }`;
    await db
      .sql`insert into supabase_migrations.schema_migrations (version, name) values ('20300101000000', 'a_bot')`;
    await refused(/does not have: 20300101000000/, 1, db.url, "downgrade", "-1");
    await refused(/does not have: 20300101000000/, 1, db.url, "upgrade");
    expect(await json(db.url, "current")).toMatchObject({
      unknown: [{ version: "20300101000000", name: "a_bot" }],
    });
    expect((await rehearse(db.sql, steps().slice(0, 1))).map(({ version }) => version)).toEqual([
      last!.version,
    ]);
    expect(await db.sql`select count(*)::int as n from supabase_migrations.schema_migrations`).toEqual([{
      n: migrations.length + 1,
    }]);

    // A table that somebody writes to is not waited for, and what a failing way down has begun does not stay.
    await db.sql`delete from supabase_migrations.schema_migrations where version = '20300101000000'`;
    const broken = {
      ...last!,
      way: { sql: "create table eve.half (id int); select 1 / 0", rows: [], seeds: [] },
    };
    await expect(undo(db.sql, broken, undefined)).rejects.toThrow(
      /failed, and nothing of it was done: division by zero/,
    );
    expect(await db.sql`select to_regclass('eve.half') as half`).toEqual([{ half: null }]);
  });
});
