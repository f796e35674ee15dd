/** The local stack applies the migrations by itself; what comes of it has to be what a deployment makes. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { applyMigrations } from "../../local/database.ts";
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
