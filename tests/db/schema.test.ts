/** The schema that the migrations make, and the rules that every object in it keeps (STYLE: SQL). */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { asSql, readCatalog, topicsOf } from "./catalog.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await cloneDatabase();
});
afterAll(() => database?.drop());

const HEADER =
  `-- The whole schema as the migrations make it, in their order; what each part is for is said at the head of its migration.
-- Compared by tests/db/schema.test.ts; written again, on purpose, by: npm test -- tests/db/schema.test.ts -u

`;

/** The migrations in their order. */
const migrations = [...Deno.readDirSync(`${CHECKOUT}/supabase/migrations`)].map(({ name }) => name)
  .filter((name) => name.endsWith(".sql")).sort()
  .map((file) => ({
    file,
    name: file.replace(/^\d+_|\.sql$/g, ""),
    text: Deno.readTextFileSync(`${CHECKOUT}/supabase/migrations/${file}`),
  }));

test("it is the committed one (written again by: npm test -- tests/db/schema.test.ts -u)", async () => {
  const topics = topicsOf(migrations);
  const catalog = await readCatalog(database.sql, ["public", "eve"], { bodies: true });
  await expect(HEADER + asSql(catalog, topics)).toMatchFileSnapshot(`${CHECKOUT}/supabase/schema.sql`);
});

test("a released migration is as it was released", async () => {
  const listed = (await Deno.readTextFile(`${CHECKOUT}/supabase/migrations.sha256`)).split("\n").filter((
    line,
  ) => line !== "");
  const changed: string[] = [];
  for (const line of listed) {
    const [, checksum, file] = /^([0-9a-f]{64}) {2}(migrations\/\d+_\w+\.sql)$/.exec(line)!;
    const bytes = await Deno.readFile(`${CHECKOUT}/supabase/${file}`).catch(() => new Uint8Array());
    if (new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex() !== checksum) {
      changed.push(file!);
    }
  }
  expect(changed, "a released migration is never edited: add another one (docs/contributing.md)").toEqual([]);
});

/** Functions that a landed migration defines and a later one defines again: "name" of each. */
const DEFINED_AGAIN: readonly string[] = [
  "public.eve_dead_letters_replay",
  "public.eve_dead_letters_drop",
  "eve.class_share",
  "eve.spread_ms",
  "eve.share_wait",
  "eve.lanes_for",
  "eve.batch_finish",
  "eve.batches_count",
  "public.eve_crawl_links",
  "public.eve_vision_settle",
  "public.eve_post_add",
  "eve.emit_event",
];

test("every function is defined once, has at most 150 lines, and no migration but adoption's has more than 500", () => {
  const seen = new Map<string, string>();
  const wrong: string[] = [];
  for (const { file, name: topic, text } of migrations) {
    const lines = text.split("\n").length - 1;
    if (lines > 500 && topic !== "adopt_tables") wrong.push(`${file} has ${lines} lines`);
    for (
      const [definition, name, args] of text.matchAll(
        /^create (?:or replace )?function ([\w.]+)\s*\(([^$]*?)\)\s*(?:\n|returns).*?^\$\$;$/gms,
      )
    ) {
      const signature = `${name}(${args!.replace(/\s+/g, " ").trim()})`;
      const before = seen.get(signature);
      if (before !== undefined && !DEFINED_AGAIN.includes(name!)) {
        wrong.push(`${signature} is defined in ${before} and in ${file}`);
      }
      seen.set(signature, file);
      const length = definition.split("\n").length;
      if (length > 150) wrong.push(`${name} has ${length} lines`);
    }
  }
  expect(seen.size).toBeGreaterThan(200);
  expect(wrong).toEqual([]);
});

describe("rules of the schema", () => {
  const violations: [rule: string, query: string][] = [
    [
      "row level security is on for every table",
      `select c.oid::regclass as object from pg_class c
       where c.relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and c.relkind in ('r', 'p')
         and not c.relrowsecurity`,
    ],
    [
      "every table has a primary key",
      `select c.oid::regclass as object from pg_class c
       where c.relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and c.relkind in ('r', 'p')
         and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)`,
    ],
    [
      "every foreign key is indexed",
      `select c.conname as object from pg_constraint c
       where c.contype = 'f' and c.connamespace in ('public'::regnamespace, 'eve'::regnamespace)
         and not exists (
           select from pg_index i
           where i.indrelid = c.conrelid and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] operator(pg_catalog.@>) c.conkey
         )`,
    ],
    [
      "every constraint is valid",
      `select c.conname as object from pg_constraint c
       where c.connamespace in ('public'::regnamespace, 'eve'::regnamespace) and not c.convalidated`,
    ],
    [
      "every check has a name that says what it checks",
      `select c.conname as object from pg_constraint c
       where c.contype = 'c' and c.connamespace in ('public'::regnamespace, 'eve'::regnamespace)
         and c.conname ~ '_check[0-9]*$'`,
    ],
    [
      "every table, view and sequence of eve is commented",
      `select c.oid::regclass as object from pg_class c
       where c.relkind in ('r', 'p', 'v', 'm', 'S')
         and (c.relnamespace = 'eve'::regnamespace or c.relnamespace = 'public'::regnamespace and c.relkind <> 'S')
         and obj_description(c.oid, 'pg_class') is null
         and not exists (select from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i') and c.relkind = 'S')`,
    ],
    [
      "every function that callers reach is commented",
      `select p.oid::regprocedure as object from pg_proc p
       where p.pronamespace = 'public'::regnamespace and obj_description(p.oid, 'pg_proc') is null`,
    ],
    [
      "every function has an empty search path",
      `select p.oid::regprocedure as object from pg_proc p
       where p.pronamespace in ('public'::regnamespace, 'eve'::regnamespace)
         and not coalesce(p.proconfig, '{}') @> array['search_path=""']`,
    ],
    [
      // platform_facts reads what the service role may not, takes no argument, and tells names and times. is_administrator
      // reads auth.users, and tells whether one user is one. drop_routes is a trigger's: who may change a key or a model
      // empties a table that they cannot reach otherwise, and that is made again. member_tenants tells who is signed in
      // which tenants are theirs. place_message and release_image are triggers': who may add a message to their chat moves its
      // end, and who may delete a picture releases its file. forget_stored_key is one: a key's secret goes with its row. chat_goes is
      // one: who deletes their chat locks its files. chat_is_own_locked locks a chat that is the user's own, and tells whether it is.
      "no function runs with its owner's rights, but these",
      `select p.oid::regprocedure as object from pg_proc p
       where p.pronamespace in ('public'::regnamespace, 'eve'::regnamespace) and p.prosecdef
         and p.oid::regprocedure::text not in (
           'eve.platform_facts()', 'eve.is_administrator()', 'eve.is_administrator(uuid)', 'eve.drop_routes()',
           'eve.make_partitions(timestamp with time zone)', 'eve.drop_partition(text,timestamp with time zone)',
           'eve.member_tenants()', 'eve.place_message()', 'eve.release_image()', 'eve.forget_stored_key()',
           'eve.count_answer()', 'eve.count_chat()', 'eve.count_chat_rows()', 'eve.chat_goes()', 'eve.chat_is_own_locked(uuid)'
         )`,
    ],
    [
      "views run with the reader's rights",
      `select c.oid::regclass as object from pg_class c
       where c.relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and c.relkind = 'v'
         and not coalesce(c.reloptions, '{}') && array['security_invoker=on', 'security_invoker=true']`,
    ],
    [
      "no column stores a time without its zone, or text of a bounded length",
      `select format('%s.%s', a.attrelid::regclass, a.attname) as object from pg_attribute a
       join pg_class c on c.oid = a.attrelid
       where c.relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and c.relkind = 'r' and a.attnum > 0
         and a.atttypid in ('timestamp'::regtype, 'timetz'::regtype, 'varchar'::regtype, 'bpchar'::regtype)`,
    ],
    [
      "no text of the audit is without a bound",
      `select format('%s.%s', c.oid::regclass, a.attname) as object
       from pg_attribute a
       join pg_class c on c.oid = a.attrelid
       where c.oid in ('eve.requests'::regclass, 'eve.earlier_attempts'::regclass, 'eve.refusals'::regclass,
           'eve.request_keys'::regclass, 'eve.refusal_counts'::regclass, 'eve.access_log'::regclass, 'eve.access_refusals'::regclass)
         and a.attnum > 0 and a.atttypid = 'text'::regtype
         and not exists (
           select from pg_constraint k where k.conrelid = c.oid and k.contype = 'c' and a.attnum = any (k.conkey)
         )`,
    ],
    [
      "public holds the tables that are adopted, the two that other programs read, and functions that begin with eve_",
      `select c.oid::regclass::text as object from pg_class c
       where c.relnamespace = 'public'::regnamespace and c.relkind not in ('i', 'S')
         and c.relname not in ('google_ai_api_keys', 'google_ai_model_limits', 'google_ai_usage_counters',
           'google_ai_maintenance_log', 'token_usage', 'provider_configs', 'api_keys', 'media_objects',
           'chats', 'messages', 'message_images', 'search_results', 'chat_shares',
           'posts', 'post_media_map', 'post_enrichment', 'graph_nodes', 'graph_edges', 'crawl_pages',
             'articles', 'post_links')
       union all
       select p.oid::regprocedure::text from pg_proc p
       where p.pronamespace = 'public'::regnamespace and p.proname not like 'eve\\_%'
       union all
       select t.oid::regtype::text from pg_type t
       where t.typnamespace = 'public'::regnamespace and t.typtype in ('e', 'd', 'r')`,
    ],
  ];

  test.each(violations)("%s", async (_rule, query) => {
    expect((await database.sql.unsafe(query)).map((row) => row.object)).toEqual([]);
  });
});
