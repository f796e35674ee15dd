/**
 * What is in the database before any user's data: the platform baseline (this folder's `platform/`, standing in for
 * what hosted Supabase brings) and the migrations.
 *
 * These are written down in the history that the Supabase CLI keeps: `supabase db push` goes on where this left off, and
 * the other way round. Hosted projects get theirs from the CLI itself (cli/deploy/); on a first start its 65 MB would be
 * more than a third of the download, and its push takes several times as long.
 */
import postgres from "postgres";
import { CHECKOUT } from "./paths.ts";
import { type AppliedSum, changedMigrations, fewOf, SUMS_QUERY } from "./migration_sums.ts";
import { StartError } from "./start_error.ts";
import { unreleasedMigrations } from "./unreleased_migrations.ts";

interface Migration {
  /** The digits before the first `_`. */
  version: string;
  name: string;
  file: string;
  path: string;
}

const HISTORY = `
  create schema if not exists supabase_migrations;
  create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
  alter table supabase_migrations.schema_migrations
    add column if not exists statements text[],
    add column if not exists name text;
`;

/** Applies the platform baseline. `superuserUrl` belongs to a local cluster, never to a hosted one. Idempotent. */
export async function applyPlatform(superuserUrl: string): Promise<void> {
  const folder = `${CHECKOUT}/local/platform`;
  const files = [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) =>
    name.endsWith(".sql")
  );
  const sql = postgres(superuserUrl, { max: 1, onnotice: () => {} });
  try {
    for (const name of files.sort()) {
      const text = await Deno.readTextFile(`${folder}/${name}`);
      await sql.begin((transaction) => transaction.unsafe(text).simple());
    }
  } finally {
    await sql.end();
  }
}

/**
 * Applies the migrations of `workdir`/supabase that the database has not seen, each in a transaction of its own. Answers how
 * many it applied.
 * @param before leaves out those of this version and later ones
 * @param starting is waited for before each, with its version: the database has all before it, and is not locked
 * @throws Error with the migration's name and PostgreSQL's words
 */
export async function applyMigrations(
  databaseUrl: string,
  workdir = CHECKOUT,
  before?: string,
  starting?: (version: string) => Promise<void>,
): Promise<number> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    const all = await migrationsIn(workdir);
    const pending = await pendingMigrations(
      sql,
      before === undefined ? all : all.filter(({ version }) => version < before),
    );
    if (pending.length > 0) await sql.unsafe(HISTORY).simple();
    for (const migration of pending) {
      await starting?.(migration.version);
      await apply(sql, migration);
    }
    return pending.length;
  } finally {
    await sql.end();
  }
}

async function apply(sql: postgres.Sql, { version, name, path }: Migration): Promise<void> {
  const text = await Deno.readTextFile(path);
  try {
    await sql.begin(async (transaction) => {
      await transaction.unsafe(text).simple();
      await transaction`
        insert into supabase_migrations.schema_migrations (version, name, statements)
        values (${version}, ${name}, ${[text]})
      `;
    });
    // What one migration sets for its session is not for the next.
    await sql.unsafe("reset all").simple();
  } catch (error) {
    const { message, detail, hint } = error as postgres.PostgresError;
    const words = [message, detail, hint].filter(Boolean).join("\n");
    throw new StartError(`Migration ${version}_${name} failed: ${words}`);
  }
}

async function migrationsIn(workdir: string): Promise<Migration[]> {
  const folder = `${workdir}/supabase/migrations`;
  const migrations: Migration[] = [];
  for await (const { name: file } of Deno.readDir(folder)) {
    const [, version, name] = /^(\d+)_(.*)\.sql$/.exec(file) ?? [];
    if (version) migrations.push({ version, name: name!, file, path: `${folder}/${file}` });
  }
  return migrations.sort((a, b) => a.version < b.version ? -1 : 1);
}

/** Those that the database's history does not have, in order. */
async function pendingMigrations(sql: postgres.Sql, migrations: Migration[]): Promise<Migration[]> {
  const [history] = await sql`select to_regclass('supabase_migrations.schema_migrations') as there`;
  if (!history?.there) return migrations;
  const applied = await sql`select version from supabase_migrations.schema_migrations`;
  const seen = new Set(applied.map((row) => row.version as string));
  if (unreleasedMigrations(seen).length > 0) {
    throw new StartError(
      `The database in this data folder was made by an edition of the gateway from before its first release, which cannot be brought up to date.
Remove it with "npm run reset", which deletes the local data and keys, and start again; or name another folder in EVE_DATA_DIR.`,
    );
  }
  const changed = await changedMigrations(migrations, await sql.unsafe<AppliedSum[]>(SUMS_QUERY));
  if (changed.length > 0) {
    throw new StartError(
      `The database in this data folder was made with another text of ${
        fewOf(changed)
      } than this checkout has. A migration that has been applied is not applied again, so what it defines now is not there.
Start over with "npm run reset", which deletes the local data and keys: until then they are kept. Or name another folder in EVE_DATA_DIR, or go back to the checkout that made it.`,
    );
  }
  return migrations.filter(({ version }) => !seen.has(version));
}
