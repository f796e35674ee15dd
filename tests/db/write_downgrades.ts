/**
 * `npm run downgrades`: writes the way down of each migration of the new parts that has none, from what the catalog was before it
 * and after it. What it writes is to be read and corrected by anyone who wrote the migration: a catalog does not say what is to become
 * of rows. tests/db/downgrades.test.ts holds it to the schema. `-- --all` writes all of them again.
 */
import postgres from "postgres";
import { BASE, downgradesFolder, type Migration, migrationsOf } from "../../cli/eve/db/history.ts";
import { applyMigrations, applyPlatform } from "../../local/database.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { startCluster } from "../../local/postgres.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { freePorts } from "../../local/ports.ts";
import { type CatalogObject, type CatalogPart, readCatalog } from "./catalog.ts";

interface State {
  catalog: Map<string, CatalogObject>;
  /** Of a function by its name in the catalog: how `drop function` calls it, what it answers, and whether it is a trigger's. */
  functions: Map<string, { signature: string; shape: string; grants: string[]; isTrigger: boolean }>;
  /** Of a table: its key, and its rows by it. */
  rows: Map<string, { key: string[]; rows: Map<string, Record<string, unknown>>; times: string[] }>;
  /** Names of pg_cron's. */
  jobs: string[];
}

async function readState(sql: postgres.Sql): Promise<State> {
  const catalog = await readCatalog(sql, ["public", "eve"], { bodies: true });
  const functions = await sql<
    { name: string; signature: string; shape: string; grants: string[]; isTrigger: boolean }[]
  >`
    select format('function %s.%s(%s)', n.nspname, p.proname, pg_get_function_arguments(p.oid)) as name,
      format('%s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as shape,
      n.nspname || '.' || p.proname || '(' || oidvectortypes(p.proargtypes) || ')' as signature,
      p.prorettype = 'trigger'::regtype as "isTrigger",
      array(
        select distinct a.grantee::regrole::text from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where a.grantee <> p.proowner and a.grantee <> 0 order by 1
      ) as grants
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('public', 'eve')
  `;
  const tables = await sql<{ table: string; key: string[]; times: string[] }[]>`
    select n.nspname || '.' || c.relname as table,
      array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum = any (i.indkey::int2[])) as key,
      array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.atttypid = 'timestamptz'::regtype) as times
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_index i on i.indrelid = c.oid and i.indisprimary
    where n.nspname in ('public', 'eve') and c.relkind = 'r' and c.oid is distinct from to_regclass('eve.adopted_tables')
  `;
  const rows: State["rows"] = new Map();
  for (const { table, key, times } of tables) {
    const found = await sql.unsafe(`select to_jsonb(t) as row from ${table} t`);
    rows.set(table, {
      key,
      times,
      rows: new Map(found.map(({ row }) => [JSON.stringify(key.map((name) => row[name])), row])),
    });
  }
  return {
    catalog: new Map(catalog.map((object) => [object.name, object])),
    functions: new Map(functions.map(({ name, ...rest }) => [name, rest])),
    rows,
    jobs: (await sql`select jobname from cron.job order by 1`).map(({ jobname }) => jobname),
  };
}

const literal = (value: unknown) =>
  typeof value === "number" || typeof value === "boolean"
    ? `${value}`
    : `'${String(value).replaceAll("'", "''")}'`;

const word = (object: CatalogObject) => object.name.split(" ", 1)[0]!;
const bare = (object: CatalogObject) => object.name.replace(/^\w+ /, "");
const itself = (object: CatalogObject) => object.parts.find(({ kind }) => kind === "itself")!;
const same = (a: CatalogPart | undefined, b: CatalogPart) =>
  JSON.stringify(a?.clauses) === JSON.stringify(b.clauses);

/** Whose rows the gateway makes again by itself: counts of other rows, what runs now, what a probe found. */
const MADE_AGAIN = new Set([
  "eve.adopted_tables",
  "eve.chat_owners",
  "eve.job_queues",
  "eve.job_wake",
  "eve.job_workers",
  "eve.media_counters",
  "eve.media_proofs",
  "eve.media_reconciliation",
  "eve.media_stores",
  "eve.media_upload_times",
  "eve.metric_counters",
  "eve.trace_export",
]);

/** Of tables that also hold how the last run went: what a person sets. */
const SET_BY_PEOPLE: Readonly<Record<string, string[]>> = {
  "eve.operations": ["name", "schedule", "is_active", "time_limit_ms"],
};

/** Tables in public that somebody may have had before: given back, not dropped. */
const ADOPTED = /^public\./;

function wayDown(file: string, before: State, after: State): string {
  const head = [`-- The way down of ${file}.`];
  const say = {
    policies: [] as string[],
    triggers: [] as string[],
    views: [] as string[],
    tables: [] as string[],
  };
  const columns: string[] = [],
    functions: string[] = [],
    last: string[] = [],
    types: string[] = [],
    rows: string[] = [];
  const afterwards: string[] = [];

  for (const [name, object] of after.catalog) {
    const old = before.catalog.get(name);
    const table = bare(object);
    if (word(object) === "function") {
      const { signature, isTrigger } = after.functions.get(name)!;
      if (old === undefined) {
        const kept = [...before.functions.values()].some((one) => one.signature === signature);
        if (!kept) (isTrigger ? last : functions).push(`drop function ${signature};`);
      }
    } else if (old === undefined) {
      if (word(object) === "table") say.tables.push(table);
      else if (word(object) === "type") types.push(`drop type ${table};`);
      else if (word(object) === "sequence") types.push(`drop sequence if exists ${table};`);
      else say.views.push(`drop ${word(object)} ${table};`);
    } else if (word(object) === "table") {
      changed(table, old, object);
    } else if (word(object) === "view" && !same(itself(old), itself(object))) {
      say.views.push(`-- TODO: ${name} as it was\n`);
    }
  }
  function changed(table: string, old: CatalogObject, now: CatalogObject) {
    const was = (part: CatalogPart) =>
      old.parts.find(({ kind, name }) => kind === part.kind && name === part.name);
    const is = (part: CatalogPart) =>
      now.parts.find(({ kind, name }) => kind === part.kind && name === part.name);
    const alter: string[] = [], gone: string[] = [], back: string[] = [];
    for (const part of now.parts) {
      const earlier = was(part);
      const differs = earlier === undefined || !same(earlier, part);
      if (part.kind === "policy" && differs) say.policies.push(`drop policy ${part.name} on ${table};`);
      if (part.kind === "trigger" && differs) say.triggers.push(`drop trigger ${part.name} on ${table};`);
      if (part.kind === "index" && differs) say.triggers.push(`drop index ${part.name};`);
      if (part.kind === "constraint" && differs) alter.push(`drop constraint ${part.name}`);
      if (part.kind === "column" && earlier === undefined) gone.push(`drop column ${part.name}`);
      else if (part.kind === "column" && differs) back.push(...columnBack(part, earlier!));
      if (earlier !== undefined && earlier.comment !== part.comment) {
        const on = part.kind === "itself" ? `table ${table}` : `${part.kind} ${table}.${part.name}`;
        afterwards.push(
          `comment on ${on} is ${earlier.comment === null ? "null" : literal(earlier.comment)};`,
        );
      }
    }
    for (const part of old.parts) {
      const later = is(part);
      if (later !== undefined && same(later, part)) continue;
      if (part.kind === "constraint") back.push(`add constraint ${part.name} ${part.clauses[0]}`);
      if (part.kind === "column" && later === undefined) {
        back.unshift(`add column ${part.name} ${part.clauses.join(" ")}`);
      }
      if (part.kind === "index" || part.kind === "trigger" || part.kind === "policy") {
        afterwards.push(`${part.clauses[0]};`);
      }
    }
    const all = [...alter, ...gone, ...back];
    if (all.length > 0) columns.push(`alter table ${table}\n  ${all.join(",\n  ")};`);
  }
  for (const [name, object] of before.catalog) {
    if (
      after.catalog.has(name) && same(itself(after.catalog.get(name)!), itself(object)) &&
      itself(after.catalog.get(name)!).comment === itself(object).comment
    ) continue;
    if (word(object) === "function") {
      const { signature, shape, grants } = before.functions.get(name)!;
      const now = [...after.functions.entries()].find(([, one]) => one.signature === signature);
      const [answer] = itself(object).clauses;
      const replaced = now !== undefined && now[1].shape === shape && now[0] === name &&
        itself(after.catalog.get(now[0])!).clauses[0] === answer;
      if (now !== undefined && !replaced) afterwards.push(`drop function ${signature};`);
      const definition = itself(object).clauses.find((clause) => clause.startsWith("CREATE OR REPLACE"))!;
      afterwards.push(`${definition.trimEnd()};`);
      if (!replaced) {
        afterwards.push(
          `revoke all on function ${signature} from public, anon, authenticated, service_role;`,
        );
        if (grants.length > 0) {
          afterwards.push(`grant execute on function ${signature} to ${grants.join(", ")};`);
        }
      }
      const comment = itself(object).comment;
      if (!replaced || itself(after.catalog.get(now![0])!).comment !== comment) {
        afterwards.push(
          `comment on function ${signature} is ${comment === null ? "null" : literal(comment)};`,
        );
      }
    } else if (!after.catalog.has(name)) afterwards.push(`-- TODO: ${name} as it was`);
  }

  for (const [table, now] of after.rows) {
    const old = before.rows.get(table);
    const seeds = [...now.rows].filter(([key]) => !old?.rows.has(key)).map(([, row]) => row);
    for (const [key, row] of old?.rows ?? []) {
      const later = now.rows.get(key);
      const kept = new Set(Object.keys(row));
      const at = (one: Record<string, unknown>) =>
        JSON.stringify(Object.entries(one).filter(([name]) => kept.has(name)).sort());
      if (later === undefined || at(later) !== at(row)) {
        afterwards.push(`-- TODO: a row of ${table} was ${JSON.stringify(row)}`);
      }
    }
    if (old === undefined && MADE_AGAIN.has(table)) head.push(`-- seed: ${table} {}`);
    if (seeds.length === 0) continue;
    if (old !== undefined) {
      const [first] = now.key;
      const where = now.key.length === 1
        ? `${first} in (${seeds.map((row) => literal(row[first!])).join(", ")})`
        : `(${now.key.join(", ")}) in (${
          seeds.map((row) =>
            `(${
              now.key.map((name) =>
                typeof row[name] === "object"
                  ? `${literal(JSON.stringify(row[name]))}::jsonb`
                  : literal(row[name])
              ).join(", ")
            })`
          ).join(", ")
        })`;
      head.push(`-- rows: ${table} where ${where}`);
      rows.push(`delete from ${table} where ${where};`);
    }
    if (MADE_AGAIN.has(table)) {
      if (old !== undefined) head.push(`-- seed: ${table} {}`);
      continue;
    }
    for (const row of seeds) {
      const set = SET_BY_PEOPLE[table];
      const values = Object.entries(row).filter(([name]) => set === undefined || set.includes(name)).filter((
        [name, value],
      ) =>
        now.key.includes(name) ||
        !now.times.includes(name) && !(typeof value === "string" && value.length > 60) &&
          !/^(description|title|advice)$/.test(name)
      );
      head.push(`-- seed: ${table} ${JSON.stringify(Object.fromEntries(values))}`);
    }
  }

  const jobs = after.jobs.filter((name) => !before.jobs.includes(name));
  if (jobs.length > 0) {
    rows.push(`do $$
begin
  if to_regclass('cron.job') is not null then
    perform cron.unschedule(j.jobname) from cron.job j where j.jobname in (${jobs.map(literal).join(", ")});
  end if;
end;
$$;`);
  }
  const returned = say.tables.filter((table) => ADOPTED.test(table)).reverse();
  const dropped = say.tables.filter((table) => !ADOPTED.test(table));
  const blocks = [
    head,
    ["set local lock_timeout = '10s';"],
    say.policies,
    say.triggers,
    say.views,
    rows,
    // Those that nothing depends on but tables: these go last.
    functions,
    // Before the tables that they refer to.
    columns,
    dropped.length === 0 ? [] : [`drop table ${dropped.join(", ")};`],
    returned.map((table) => `select eve.return_table('${table}');`),
    last,
    types,
    afterwards,
  ];
  return `${blocks.filter((block) => block.length > 0).map((block) => block.join("\n")).join("\n\n")}\n`;
}

/** A default, or whether it may be null. */
function columnBack(now: CatalogPart, old: CatalogPart): string[] {
  const default_ = (part: CatalogPart) => part.clauses.find((clause) => clause.startsWith("default "));
  return [
    ...old.clauses.includes("not null") === now.clauses.includes("not null")
      ? []
      : [`alter column ${old.name} ${old.clauses.includes("not null") ? "set" : "drop"} not null`],
    ...default_(old) === default_(now)
      ? []
      : [`alter column ${old.name} ${default_(old) === undefined ? "drop default" : `set ${default_(old)}`}`],
  ];
}

async function withDatabase(run: (url: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "eve-gateway-downgrades-" });
  try {
    // The server's account may be another one than ours.
    await Deno.chmod(folder, 0o755);
    const [port] = freePorts(1);
    const cluster = await startCluster({ dataDir: folder, port: port!, durable: false });
    try {
      const superuser = postgres(cluster.superuserUrl(), { max: 1, onnotice: () => {} });
      await superuser.unsafe("create database downgrades");
      await superuser.end();
      await applyPlatform(cluster.superuserUrl("downgrades"));
      await run(cluster.url("downgrades"));
    } finally {
      await cluster.stop();
      await removeHomeElsewhere(folder);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  const folder = downgradesFolder(CHECKOUT);
  await Deno.mkdir(folder, { recursive: true });
  const fileOf = ({ version, name }: Migration) => `${version}_${name}.sql`;
  const migrations = migrationsOf(CHECKOUT);
  const there = new Set([...Deno.readDirSync(folder)].map(({ name }) => name));
  const missing = migrations.filter((one) =>
    one.version > BASE && (Deno.args.includes("--all") || !there.has(fileOf(one)))
  );
  if (missing.length === 0) console.log("Every migration of the new parts has its way down.");
  else {
    await withDatabase(async (url) => {
      const sql = postgres(url, { max: 1, onnotice: () => {} });
      // Names are printed with their schemas.
      await sql`set search_path = ''`;
      for (const migration of missing) {
        const at = migrations.indexOf(migration);
        await applyMigrations(url, CHECKOUT, migration.version);
        const before = await readState(sql);
        await applyMigrations(url, CHECKOUT, migrations[at + 1]?.version);
        const file = fileOf(migration);
        await Deno.writeTextFile(`${folder}/${file}`, wayDown(file, before, await readState(sql)));
        console.log(`supabase/downgrades/${file} is written: read it, and say what becomes of rows.`);
      }
      await sql.end();
    });
  }
}
