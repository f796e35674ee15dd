/** Who may do what: the matrix of the API's roles by everything in `public` and `eve`, and the same tried for real. */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

const ROLES = ["anon", "authenticated", "service_role"];
/** What a refusal of the server looks like: insufficient_privilege. */
const REFUSED = { code: "42501" };

let database: TestDatabase;
beforeAll(async () => {
  database = await cloneDatabase();
  await database.sql`
    insert into public.google_ai_api_keys (key_alias, env_var_name) values ('one', 'GOOGLE_API_KEY')
  `;
});
afterAll(() => database?.drop());

const HEADER = `What the API's roles may do with everything in public and eve.
Compared by privileges.test.ts; written again, on purpose, by: npm test -- tests/db/privileges.test.ts -u

r select, a insert, w update, d delete, D truncate, x references, t trigger, m maintain, U usage, C create, X execute, - nothing

`;

test("they are the committed ones (written again by: npm test -- tests/db/privileges.test.ts -u)", async () => {
  const rows = await database.sql<{ object: string; rights: string[] }[]>`
    with rooms as (
      select oid, nspname from pg_catalog.pg_namespace where nspname in ('public', 'eve')
    ), kinds (kind, letter, privilege) as (
      values
        ('table', 'r', 'SELECT'), ('table', 'a', 'INSERT'), ('table', 'w', 'UPDATE'), ('table', 'd', 'DELETE'),
        ('table', 'D', 'TRUNCATE'), ('table', 'x', 'REFERENCES'), ('table', 't', 'TRIGGER'), ('table', 'm', 'MAINTAIN'),
        ('sequence', 'U', 'USAGE'), ('sequence', 'r', 'SELECT'), ('sequence', 'w', 'UPDATE'),
        ('schema', 'U', 'USAGE'), ('schema', 'C', 'CREATE'), ('function', 'X', 'EXECUTE')
    ), objects (place, kind, word, name, oid) as (
      select 1, 'schema', 'schema', n.nspname::text, n.oid from rooms n
      union all
      select case c.relkind when 'S' then 3 else 2 end, case c.relkind when 'S' then 'sequence' else 'table' end,
        case c.relkind when 'S' then 'sequence' when 'v' then 'view' when 'm' then 'materialized view' else 'table' end,
        n.nspname || '.' || c.relname, c.oid
      from pg_catalog.pg_class c
      join rooms n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      union all
      select 4, 'function', 'function',
        format(
          '%s.%s(%s)', n.nspname, p.proname,
          (
            select string_agg(format_type(t.type, null), ', ' order by t.place)
            from unnest(p.proargtypes) with ordinality as t (type, place)
          )
        ), p.oid
      from pg_catalog.pg_proc p
      join rooms n on n.oid = p.pronamespace
    )
    select o.word || ' ' || o.name as object,
      array(
        select coalesce(
          (
            select string_agg(k.letter, '' order by strpos('UCrawdDxtmX', k.letter))
            from kinds k
            where k.kind = o.kind
              and case o.kind
                when 'table' then has_table_privilege(r.role, o.oid, k.privilege)
                when 'sequence' then has_sequence_privilege(r.role, o.oid, k.privilege)
                when 'schema' then has_schema_privilege(r.role, o.oid, k.privilege)
                else has_function_privilege(r.role, o.oid, k.privilege)
              end
          ), '-'
        )
        from unnest(${ROLES}::text[]) with ordinality as r (role, place)
        order by r.place
      ) as rights
    from objects o
    order by o.place, o.name collate "C"
  `;
  const line = (rights: string[], object: string) =>
    [...rights.map((right, place) => right.padEnd(ROLES[place]!.length + 2)), object].join("").trimEnd() +
    "\n";
  const matrix = HEADER + line(ROLES, "") + rows.map((row) => line(row.rights, row.object)).join("");
  await expect(matrix).toMatchFileSnapshot(`${CHECKOUT}/tests/db/privileges.txt`);
});

/** What a signed-in user's client may ask for, though row-level security shows it to administrators alone. */
const READ_BY_ADMINISTRATORS = ["public.api_keys", "public.provider_configs"];
/** And what it shows to members of the row's tenant: the column that nobody else may ask for (tests/db/tenants.test.ts has the rest). */
const READ_BY_MEMBERS: Readonly<Record<string, string>> = {
  "public.crawl_pages": "cache_policy",
  "public.media_objects": "stored_in",
  "public.post_enrichment": "raw_text",
};
/** Of these all columns (tests/db/vision.test.ts and graph.test.ts have whose rows). */
const READ_WHOLE_BY_MEMBERS = [
  "public.posts",
  "public.post_media_map",
  "public.articles",
  "public.post_links",
  "public.graph_nodes",
  "public.graph_edges",
];
/** What signed-in users read and write as far as the rows are theirs (tests/db/chats.test.ts): here, what they may ask for by column. */
const WRITTEN_BY_USERS: Readonly<Record<string, string[]>> = {
  "public.chat_shares": ["SELECT"],
  "public.chats": ["INSERT", "UPDATE"],
  "public.message_images": ["INSERT"],
  "public.messages": ["INSERT", "SELECT", "UPDATE"],
  "public.search_results": ["INSERT"],
};
/** Callable by nobody's client: policies call it, and its schema is closed. */
const IN_POLICIES = [
  "eve.chat_is_own_locked(chat_id uuid)",
  "eve.is_administrator()",
  "eve.member_tenants()",
];
/** These say whether a row may be as it is. */
const IN_CONSTRAINTS = ["eve.chat_is_bounded", "eve.message_is_bounded"];

test("columns are granted apart from their tables to signed-in users alone, to read, and never a key; of chats some to write", async () => {
  const granted = await database.sql<{ relation: string; columns: string[]; grants: string[] }[]>`
    select c.relnamespace::regnamespace || '.' || c.relname as relation,
      array_agg(a.attname::text order by a.attname) as columns,
      array_agg(distinct g.grantee::regrole || ' ' || g.privilege_type) as grants
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_class c on c.oid = a.attrelid
    cross join lateral aclexplode(a.attacl) g
    where c.relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and a.attacl is not null
    group by 1
    order by 1
  `;
  expect(granted.map(({ relation }) => relation)).toEqual(
    [
      ...READ_BY_ADMINISTRATORS,
      ...Object.keys(READ_BY_MEMBERS),
      ...Object.keys(WRITTEN_BY_USERS).filter((relation) => WRITTEN_BY_USERS[relation]!.length > 0),
    ].sort(),
  );
  for (const { relation, columns, grants } of granted) {
    expect(grants.sort()).toEqual(
      (WRITTEN_BY_USERS[relation] ?? ["SELECT"]).map((privilege) => `authenticated ${privilege}`),
    );
    expect(columns).not.toContain("api_key_encrypted");
    expect(columns).not.toContain(READ_BY_MEMBERS[relation]);
  }
});

describe.each(["anon", "authenticated"])(
  "[security.project-user] %s, signed in as the REST API does it",
  (role) => {
    test("reads and writes no table, view or sequence", async () => {
      const relations = await database.sql<{ name: string; relkind: string }[]>`
      select format('%I.%I', relnamespace::regnamespace, relname) as name, relkind
      from pg_catalog.pg_class
      where relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and relkind in ('r', 'p', 'v', 'm', 'S')
    `;
      expect(relations.length).toBeGreaterThan(20);
      await as(role, async (sql) => {
        for (const { name, relkind } of relations) {
          if (role === "authenticated" && READ_BY_ADMINISTRATORS.includes(name)) {
            for (const all of [`select * from ${name}`, `select api_key_encrypted from ${name}`]) {
              await expect.soft(sql.unsafe(all), `${role}: ${all}`).rejects.toMatchObject(REFUSED);
            }
            await expect.soft(sql.unsafe(`update ${name} set stage_type = 'X'`)).rejects.toMatchObject(
              REFUSED,
            );
          }
          if (role === "authenticated" && name in WRITTEN_BY_USERS) {
            await expect.soft(sql.unsafe(`truncate ${name}`)).rejects.toMatchObject(REFUSED);
            continue;
          }
          const hidden = role === "authenticated" ? READ_BY_MEMBERS[name] : undefined;
          if (hidden !== undefined) {
            for (const all of [`select * from ${name}`, `select ${hidden} from ${name}`]) {
              await expect.soft(sql.unsafe(all), `${role}: ${all}`).rejects.toMatchObject(REFUSED);
            }
          }
          const attempts = relkind === "S" ? [`select nextval('${name}')`, `select setval('${name}', 1)`] : [
            ...(hidden !== undefined ||
                role === "authenticated" &&
                  [...READ_BY_ADMINISTRATORS, ...READ_WHOLE_BY_MEMBERS].includes(name)
              ? []
              : [`select from ${name}`]),
            `insert into ${name} default values`,
            `delete from ${name}`,
            `truncate ${name}`,
          ];
          for (const attempt of attempts) {
            await expect.soft(sql.unsafe(attempt), `${role}: ${attempt}`).rejects.toMatchObject(REFUSED);
          }
        }
      });
    });

    test("executes no function", async () => {
      const functions = await database.sql<{ call: string }[]>`
      select format(
        '%I.%I(%s)', p.pronamespace::regnamespace, p.proname,
        (select string_agg('null::' || format_type(t.type, null), ', ' order by t.place) from unnest(p.proargtypes) with ordinality as t (type, place))
      ) as call
      from pg_catalog.pg_proc p
      where p.pronamespace in ('public'::regnamespace, 'eve'::regnamespace) and p.prorettype <> 'trigger'::regtype
    `;
      expect(functions.length).toBeGreaterThan(15);
      await as(role, async (sql) => {
        for (const { call } of functions) {
          await expect.soft(sql.unsafe(`select ${call}`), `${role}: ${call}`).rejects.toMatchObject(REFUSED);
        }
      });
    });

    test("makes nothing", () =>
      as(role, async (sql) => {
        for (const room of ["public", "eve"]) {
          await expect(sql.unsafe(`create table ${room}.mine (id int)`)).rejects.toMatchObject(REFUSED);
        }
      }));
  },
);

describe("service_role", () => {
  test("reserves, settles and sweeps", () =>
    as("service_role", async (sql) => {
      const [{ granted }] = await sql<[{ granted: { status: string; request_no: number } }]>`
        select public.eve_reserve('r', '{gemma-4-31b-it}', 10) as granted
      `;
      expect(granted.status).toBe("granted");
      expect(
        await sql`select public.eve_settle(${granted.request_no}, 1, 'succeeded', input_tokens => 9) as settled`,
      ).toEqual([{ settled: { status: "settled" } }]);
      expect(await sql`select public.eve_sweep() as swept`).toMatchObject([{ swept: { expired: 0 } }]);
      expect(await sql`select count(*)::integer as rows from public.token_usage`).toEqual([{ rows: 1 }]);
    }));

  test("changes no schema and empties no table at once", () =>
    as("service_role", async (sql) => {
      for (
        const attempt of [
          "truncate public.token_usage",
          "truncate eve.earlier_attempts",
          "drop table public.token_usage",
          "create table eve.mine (id int)",
          "create table public.mine (id int)",
          "alter table eve.settings disable row level security",
          "delete from eve.adopted_rows",
          "create or replace function public.eve_sweep(at_most integer default 1000) returns jsonb language sql as 'select null::jsonb'",
        ]
      ) {
        await expect.soft(sql.unsafe(attempt), attempt).rejects.toMatchObject(REFUSED);
      }
    }));
});

test("what the owner adds later to public keeps the platform's grants; what is in eve is reachable by no client", async () => {
  await database.sql.begin(async (sql) => {
    await sql.unsafe(`
      create table public.later_rows (id bigint generated always as identity primary key);
      create function public.later() returns int language sql set search_path = '' as 'select 1';
      create table eve.later_rows (id bigint);
      create function eve.later() returns int language sql set search_path = '' as 'select 1';
    `).simple();
    for (const role of ["anon", "authenticated", "service_role"]) {
      await sql.unsafe(`set local role ${role}`);
      await sql`select from public.later_rows`;
      await sql`select public.later()`;
      // The service role may enter the schema, and PostgreSQL lets everybody who may call a new function.
      const closed = [
        "select from eve.later_rows",
        ...(role === "service_role" ? [] : ["select eve.later()"]),
      ];
      for (const attempt of closed) {
        await expect(sql.savepoint((inner) => inner.unsafe(attempt)), `${role}: ${attempt}`).rejects
          .toMatchObject(REFUSED);
      }
      await sql`reset role`;
    }
    throw new RolledBack();
  }).catch((error) => {
    if (!(error instanceof RolledBack)) throw error;
  });
});

test("what signed-in users may execute is called by policies and constraints alone", async () => {
  const granted = await database.sql<{ signature: string }[]>`
    select p.pronamespace::regnamespace || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as signature
    from pg_catalog.pg_proc p
    where p.pronamespace in ('public'::regnamespace, 'eve'::regnamespace)
      and p.oid::regproc::text <> all (${IN_CONSTRAINTS})
      and (has_function_privilege('authenticated', p.oid, 'execute') or has_function_privilege('anon', p.oid, 'execute'))
    order by 1
  `;
  expect(granted.map(({ signature }) => signature)).toEqual(IN_POLICIES);
});

test("the REST API exposes public only", async () => {
  const config = await Deno.readTextFile(`${CHECKOUT}/supabase/config.toml`);
  expect(config).toMatch(/^\[api\]\nschemas = \["public"\]$/m);
});

class RolledBack extends Error {}

/** Connects as the REST API does (`authenticator`) and takes on a role. */
async function as(role: string, run: (sql: postgres.ReservedSql) => Promise<void>): Promise<void> {
  const url = new URL(database.url);
  url.username = "authenticator";
  const pool = postgres(url.href, { max: 1, onnotice: () => {} });
  try {
    const sql = await pool.reserve();
    await sql.unsafe(`set role ${role}`);
    await run(sql);
    sql.release();
  } finally {
    await pool.end();
  }
}
