/** The history of migrations that the Supabase CLI keeps in a database, held against those of the checkout. */
import type postgres from "postgres";
import { type AppliedSum, changedMigrations, fewOf, SUMS_QUERY } from "../../../local/migration_sums.ts";
import { unreleasedMigrations } from "../../../local/unreleased_migrations.ts";
import { CliFailure } from "../failure.ts";

export interface Migration {
  /** Fourteen digits. */
  version: string;
  name: string;
}

export interface History {
  /** Those of the checkout, in order, and whether the database has had them. */
  migrations: (Migration & { applied: boolean })[];
  /** What the database has had and the checkout has not. */
  unknown: Migration[];
}

/** Later ones are of the new parts: media, jobs, events, batches, chats. Up to here it is the gateway itself. */
export const BASE = "20261122999999";

export const migrationsFolder = (root: string) => `${root}/supabase/migrations`;
/** Outside the folder that the Supabase CLI applies whole. */
export const downgradesFolder = (root: string) => `${root}/supabase/downgrades`;

/** The migrations of a checkout, in their order. */
export function migrationsOf(root: string): Migration[] {
  return [...Deno.readDirSync(migrationsFolder(root))].flatMap(({ name: file }) => {
    const [, version, name] = /^(\d+)_(.*)\.sql$/.exec(file) ?? [];
    return version === undefined ? [] : [{ version, name: name! }];
  }).sort((a, b) => a.version < b.version ? -1 : 1);
}

export async function readHistory(sql: postgres.Sql, root: string): Promise<History> {
  const [there] = await sql`select to_regclass('supabase_migrations.schema_migrations') as there`;
  const rows = there?.there == null ? [] : await sql<Migration[]>`
    select m.version, coalesce(to_jsonb(m) ->> 'name', '') as name
    from supabase_migrations.schema_migrations m
    order by m.version
  `;
  const applied = new Set(rows.map(({ version }) => version));
  const own = migrationsOf(root);
  const known = new Set(own.map(({ version }) => version));
  return {
    migrations: own.map((migration) => ({ ...migration, applied: applied.has(migration.version) })),
    unknown: rows.filter(({ version }) => !known.has(version)).map(({ version, name }) => ({
      version,
      name,
    })),
  };
}

/** The newest that the database has had; undefined if none. */
export function currentOf({ migrations }: History): Migration | undefined {
  const found = migrations.findLast(({ applied }) => applied);
  return found && { version: found.version, name: found.name };
}

/** @throws CliFailure if the database has migrations that this checkout does not know */
export function refuseForeign({ unknown }: History): void {
  if (unknown.length === 0) return;
  const versions = unknown.map(({ version }) => version);
  if (unreleasedMigrations(versions).length > 0) {
    throw new CliFailure(
      "This database was made by an edition of the gateway from before its first release, which can be brought neither up nor down. See docs/deploy.md. Nothing was changed.",
    );
  }
  throw new CliFailure(
    `The database has migrations that this checkout does not have: ${versions.join(", ")}.
- If they come from a newer version of the gateway: update this checkout.
- If they are another project's, in the same database: \`npx supabase migration fetch\` writes them into supabase/migrations, and then this works.
Nothing was changed.`,
  );
}

/** @throws CliFailure if the database was made with another text of a migration than this checkout has */
export async function refuseChanged(sql: postgres.Sql, root: string, history: History): Promise<void> {
  if (!history.migrations.some(({ applied }) => applied)) return;
  const files = migrationsOf(root).map(({ version, name }) => {
    const file = `${version}_${name}.sql`;
    return { version, file, path: `${migrationsFolder(root)}/${file}` };
  });
  const changed = await changedMigrations(files, await sql.unsafe<AppliedSum[]>(SUMS_QUERY));
  if (changed.length === 0) return;
  throw new CliFailure(
    `The database was made with another text of ${
      fewOf(changed)
    } than this checkout has. Use the checkout that made it, or a new database. Nothing was changed.`,
  );
}

/** The migration that a person names by its version, by its file or by the beginning of either. @throws CliFailure */
export function migrationNamed({ migrations }: History, given: string): Migration {
  const wanted = given.replace(/^.*\//, "").replace(/\.sql$/, "");
  const found = migrations.filter(({ version, name }) =>
    version === wanted || name === wanted || `${version}_${name}` === wanted
  );
  if (found.length !== 1) {
    throw new CliFailure(
      `There is no migration ${given} in this checkout. See \`db history\`. Nothing was changed.`,
    );
  }
  return found[0]!;
}

/** Those to be undone, the newest first. @throws CliFailure if there is no such way */
export function waysDown(history: History, to: string): Migration[] {
  const applied = history.migrations.filter((one) => one.applied).reverse();
  let undone: Migration[];
  const steps = /^-(\d{1,3})$/.exec(to)?.[1];
  if (to === "base") undone = applied.filter(({ version }) => version > BASE);
  else if (steps !== undefined) {
    undone = applied.slice(0, Number(steps));
    if (undone.length < Number(steps)) {
      throw new CliFailure(
        `The database has had ${applied.length} migrations, not ${steps}. Nothing was changed.`,
      );
    }
  } else {
    const target = migrationNamed(history, to);
    if (!applied.some(({ version }) => version === target.version)) {
      throw new CliFailure(`The database has not had ${target.version}_${target.name}. Nothing was changed.`);
    }
    undone = applied.filter(({ version }) => version > target.version);
  }
  const released = undone.find(({ version }) => version <= BASE);
  if (released !== undefined) {
    throw new CliFailure(
      `${released.version}_${released.name} is of the gateway itself, which has no way down: \`db downgrade base\` goes as far as there is one. Nothing was changed.`,
    );
  }
  return undone.map(({ version, name }) => ({ version, name }));
}
