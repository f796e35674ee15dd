/** The local stack applies the migrations by itself; what comes of it has to be what a deployment makes. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { sumOf, SUMS_QUERY } from "../../local/migration_sums.ts";
import { applyMigrations } from "../../local/database.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { pushMigrations, supabaseCli } from "../../local/supabase_cli.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { makeTestFolder } from "../harness/folders.ts";
import { readCatalog } from "./catalog.ts";

let pushed: TestDatabase;
let applied: TestDatabase;
beforeAll(async () => {
  pushed = await cloneDatabase("platform");
  applied = await cloneDatabase("platform");
  await pushMigrations(pushed.url);
  await applyMigrations(applied.url);
});
afterAll(() => Promise.all([pushed?.drop(), applied?.drop()]));

const SCHEMAS = ["public", "eve", "supabase_migrations"];

test("the schema, its functions and its rights are those that the Supabase CLI makes", async () => {
  expect(await readCatalog(applied.sql, SCHEMAS)).toEqual(await readCatalog(pushed.sql, SCHEMAS));
  const functions = ({ sql }: TestDatabase) =>
    sql<{ definition: string; owner: string; rights: string | null }[]>`
      select pg_get_functiondef(oid) as definition, proowner::regrole::text as owner, proacl::text as rights
      from pg_proc
      where pronamespace in ('public'::regnamespace, 'eve'::regnamespace) and prokind in ('f', 'p')
      order by oid::regprocedure::text
    `;
  const here = await functions(applied);
  expect(here.length).toBeGreaterThan(100);
  expect([...here]).toEqual([...await functions(pushed)]);
});

test("the CLI goes on where the local stack left off", async () => {
  const history = ({ sql }: TestDatabase) =>
    sql`select version, name from supabase_migrations.schema_migrations order by version`;
  expect([...await history(applied)]).toEqual([...await history(pushed)]);
  const before = await readCatalog(applied.sql, SCHEMAS);
  await pushMigrations(applied.url);
  expect(await readCatalog(applied.sql, SCHEMAS)).toEqual(before);
  const listed = await supabaseCli(["migration", "list", `--db-url=${applied.url}`]);
  expect(listed).toContain("20261122000100");
});

test("the sums of what was applied are those of the files, those who applied them, and doctor's are the same", async () => {
  for (const { sql } of [applied, pushed]) {
    const sums = await sql.unsafe(SUMS_QUERY);
    expect(sums.length).toBeGreaterThan(100);
    for (const { version, sum } of sums) {
      const { name } = [...Deno.readDirSync(`${CHECKOUT}/supabase/migrations`)].find(({ name }) =>
        name.startsWith(version)
      )!;
      expect(sum, name).toBe(await sumOf(await Deno.readTextFile(`${CHECKOUT}/supabase/migrations/${name}`)));
    }
    const [{ facts }] = await sql`select eve.platform_facts() -> 'migration_sums' as facts` as unknown as [
      { facts: unknown },
    ];
    expect(facts).toEqual(Object.fromEntries(sums.map(({ version, sum }) => [version, sum])));
  }
});

test("an edited migration is told from the one that was applied, and the data stays as it is", async () => {
  const folder = await makeTestFolder();
  const database = await cloneDatabase("platform");
  try {
    await Deno.mkdir(`${folder.path}/supabase/migrations`, { recursive: true });
    const write = (name: string, text: string) =>
      Deno.writeTextFile(`${folder.path}/supabase/migrations/${name}.sql`, text);
    await write("1_one", "create table public.one (id int primary key);\n");
    await write("2_two", "create table public.two (id int primary key);\n");
    expect(await applyMigrations(database.url, folder.path)).toBe(2);
    await database.sql`insert into public.one values (7)`;
    await write("3_three", "create table public.three (id int primary key);\n");
    await write("2_two", "create table public.two (id bigint primary key);\n");
    await expect(applyMigrations(database.url, folder.path)).rejects.toThrow(
      /another text of 2_two\.sql than this checkout has.*\n.*npm run reset.*until then they are kept/,
    );
    expect(await database.sql`select o.id, to_regclass('public.three') as three from public.one o`)
      .toEqual([{ id: 7, three: null }]);
    // Only its layout has changed.
    await write("2_two", "create table public.two\n(id int primary key)");
    expect(await applyMigrations(database.url, folder.path)).toBe(1);
    // A history without texts tells nothing.
    await database.sql`update supabase_migrations.schema_migrations set statements = null`;
    await write("2_two", "select 2");
    expect(await applyMigrations(database.url, folder.path)).toBe(0);
  } finally {
    await database.drop();
    await folder.remove();
  }
});

test("a database from before the first release is refused in words, and left as it is", async () => {
  const database = await cloneDatabase("platform");
  try {
    await database.sql.unsafe(`
      create schema supabase_migrations;
      create table supabase_migrations.schema_migrations (version text primary key, name text, statements text[]);
      insert into supabase_migrations.schema_migrations values ('20261121000100', 'foundation', '{}');
    `).simple();
    await expect(applyMigrations(database.url)).rejects.toThrow(
      /before its first release.*\n.*npm run reset/,
    );
    expect(await database.sql`select to_regnamespace('eve') as eve`).toEqual([{ eve: null }]);
  } finally {
    await database.drop();
  }
});

test("a migration that fails is named with PostgreSQL's words, and leaves nothing; those before it stay", async () => {
  const folder = await makeTestFolder();
  const database = await cloneDatabase("platform");
  try {
    await Deno.mkdir(`${folder.path}/supabase/migrations`, { recursive: true });
    const write = (name: string, text: string) =>
      Deno.writeTextFile(`${folder.path}/supabase/migrations/${name}.sql`, text);
    await write("1_good", "set search_path = 'pg_catalog'; create table public.kept (id int primary key);");
    await write("2_bad", "create table half (id int); insert into kept values (1), (1);");
    await expect(applyMigrations(database.url, folder.path)).rejects.toThrow(
      /^Migration 2_bad failed: duplicate key value .*\nKey \(id\)=\(1\) already exists\.$/,
    );
    expect(
      await database
        .sql`select to_regclass('public.kept') is not null as kept, to_regclass('public.half') as half`,
    )
      .toEqual([{ kept: true, half: null }]);
    await write("2_bad", "create table half (id int);");
    expect(await applyMigrations(database.url, folder.path)).toBe(1);
  } finally {
    await database.drop();
    await folder.remove();
  }
});

test("every file can be run again: at once, and over a database that is in use", async () => {
  const database = await cloneDatabase("platform");
  try {
    const folder = `${CHECKOUT}/supabase/migrations`;
    const files = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) =>
      name.endsWith(".sql")
    ).sort();
    const run = async (file: string) => {
      const text = await Deno.readTextFile(`${folder}/${file}`);
      await database.sql.begin((sql) => sql.unsafe(text).simple()).catch((error) => {
        throw new Error(`${file}: ${error.message}`);
      });
    };
    const state = async () => ({
      catalog: await readCatalog(database.sql, ["public", "eve"]),
      functions: [
        ...await database.sql`
        select oid::regprocedure::text as signature, md5(pg_get_functiondef(oid)) as definition, proacl::text as rights
        from pg_proc
        where pronamespace in ('public'::regnamespace, 'eve'::regnamespace) and prokind = 'f'
        order by 1`,
      ],
      triggers: [
        ...await database.sql`
        select tgrelid::regclass::text as table, tgname, pg_get_triggerdef(oid) as definition
        from pg_trigger where not tgisinternal order by 1, 2`,
      ],
      settings: [...await database.sql`select * from eve.settings order by name`],
      retention: [...await database.sql`select * from eve.retention order by table_name`],
      jobs: [...await database.sql`select jobname, schedule, command from cron.job order by jobname`],
    });
    for (const file of files) {
      await run(file);
      await run(file);
    }
    await database.sql.unsafe(`
      update eve.settings set value = 3 where name = 'alert_refusals_min';
      update eve.retention set keep = '60 days' where table_name = 'eve.requests';
      insert into public.google_ai_api_keys (key_alias, env_var_name) values ('one', 'GOOGLE_API_KEY_ONE');
      select public.eve_reserve('running', '{gemma-4-31b-it}', 10);
      select public.eve_reserve('refused', '{no-such-model}', 10);
      select public.eve_rollup();
    `).simple();
    const before = await state();
    for (const file of files) await run(file);
    expect(await state()).toEqual(before);
    expect(await database.sql`select count(*)::integer as n from eve.inflight`).toEqual([{ n: 1 }]);
  } finally {
    await database.drop();
  }
});

test("the owner's default privileges are what they were before", async () => {
  const untouched = await cloneDatabase("platform");
  try {
    const defaults = ({ sql }: TestDatabase) =>
      sql`
        select defaclrole::regrole::text as owner, coalesce(defaclnamespace::regnamespace::text, '') as schema, defaclobjtype as type,
          defaclacl::text as rights
        from pg_default_acl order by 1, 2, 3`;
    expect([...await defaults(applied)]).toEqual([...await defaults(untouched)]);
  } finally {
    await untouched.drop();
  }
});
