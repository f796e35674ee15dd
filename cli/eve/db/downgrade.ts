/**
 * Undoing a migration. What it would take with it is not read from the script but found by trying it: in the same transaction the
 * script runs once, the tables before and after are compared, and all of it is rolled back; then what would go is locked, counted
 * and written down, and the script runs for good.
 */
import type postgres from "postgres";
import { CliFailure } from "../failure.ts";
import type { Migration } from "./history.ts";
import { type RowsFile, writeRows } from "./rows_file.ts";
import type { WayDown } from "./way_down.ts";

export interface Step extends Migration {
  way: WayDown;
  /** Versions that leave the history with it, if not the migration's own alone. */
  versions?: readonly string[];
}

/** Rows that go with a table, with a column of it, or by themselves. */
export interface Loss {
  /** With its schema: `public.chats`. */
  table: string;
  /** How many of them somebody wrote: not as the migration brought them. */
  rows: number;
  /** Names of columns, if nothing but these goes. */
  columns?: string[];
}

export interface Undone extends Migration {
  lost: (Loss & Partial<RowsFile>)[];
}

/** A busy table is not waited for at the cost of those who wait behind us. */
const LOCK_TIMEOUT = "10s";

/** What every step would lose, found by going down and back in one transaction. */
export async function rehearse(sql: postgres.Sql, steps: readonly Step[]): Promise<Undone[]> {
  const undone: Undone[] = [];
  await rolledBack(sql, async (transaction) => {
    await prepare(transaction);
    for (const step of steps) {
      const losses = await lossesOf(transaction, step.way);
      undone.push({
        version: step.version,
        name: step.name,
        lost: losses.map(({ where: _, ...loss }) => loss),
      });
      await run(transaction, step);
    }
  });
  return undone;
}

/**
 * Undoes one migration, in one transaction: either all of it is gone, and the history has it no more, or nothing is.
 * @param folder where rows are written to before they go; undefined: it is refused if there are any
 */
export async function undo(sql: postgres.Sql, step: Step, folder: string | undefined): Promise<Undone> {
  const lost: Undone["lost"] = [];
  await sql.begin(async (transaction) => {
    await prepare(transaction);
    for (const { where, ...loss } of await lossesOf(transaction, step.way)) {
      if (folder === undefined) throw refusal([{ version: step.version, name: step.name, lost: [loss] }]);
      lost.push({ ...loss, ...await writeRows(transaction, folder, loss.table, where) });
    }
    await run(transaction, step);
    const versions = step.versions ?? [step.version];
    const { count } = await transaction`
      delete from supabase_migrations.schema_migrations where version = any(${versions as string[]})
    `;
    if (count !== versions.length) {
      throw new CliFailure(`${step.version}_${step.name} was undone by somebody else meanwhile.`);
    }
  });
  return { version: step.version, name: step.name, lost };
}

/** Why nothing is undone without a word about the rows. */
export function refusal(undone: readonly Undone[]): CliFailure {
  const lines = undone.flatMap(({ version, name, lost }) =>
    lost.map((loss) => `  ${version}_${name}: ${inWords(loss)}`)
  );
  return new CliFailure(
    `This would lose rows:
${lines.join("\n")}
Nothing was changed. To drop them, add --drop-data: each is written to a file first, whose path is told.`,
  );
}

/** `12 rows of public.chats`, `columns a, b of 3 rows of eve.consumers` */
export function inWords({ table, rows, columns }: Loss): string {
  const many = `${rows} row${rows === 1 ? "" : "s"} of ${table}`;
  return columns === undefined
    ? many
    : `column${columns.length === 1 ? "" : "s"} ${columns.join(", ")} of ${many}`;
}

async function prepare(transaction: postgres.TransactionSql): Promise<void> {
  await transaction.unsafe(`
    set local lock_timeout = '${LOCK_TIMEOUT}';
    -- Values are written as PostgreSQL reads them again, whatever this session or the database is set to.
    set local timezone = 'UTC';
    set local datestyle = 'ISO';
    set local intervalstyle = 'postgres';
    set local bytea_output = 'hex';
    set local extra_float_digits = 1;
    -- Nobody else applies or undoes a migration meanwhile.
    lock table supabase_migrations.schema_migrations in exclusive mode;
  `).simple();
}

async function run(transaction: postgres.TransactionSql, { way, version, name }: Step): Promise<void> {
  try {
    await transaction.unsafe(way.sql).simple();
  } catch (error) {
    const { message, detail, hint } = error as postgres.PostgresError;
    throw new CliFailure(
      `The way down of ${version}_${name} failed, and nothing of it was done: ${
        [message, detail, hint].filter(Boolean).join("\n")
      }`,
    );
  }
}

/** A table's columns, and what a row must have for the column to count as filled: null if it cannot be lost. */
type Columns = Map<string, string | null>;

async function tablesOf(transaction: postgres.TransactionSql): Promise<Map<string, Columns>> {
  const rows = await transaction<{ relation: string; name: string; filled: string | null }[]>`
    select format('%I.%I', n.nspname, c.relname) as relation, a.attname::text as name,
      case
        -- Computed from others, or a number that is given again.
        when a.attgenerated <> '' or a.attidentity <> '' then null
        -- A default that is computed says of no row whether somebody filled the column.
        when d.adbin is null or pg_get_expr(d.adbin, d.adrelid) ~ '\\(' then format('t.%I is not null', a.attname)
        else format('(t.%1$I is not null and t.%1$I::text is distinct from (%2$s)::text)', a.attname, pg_get_expr(d.adbin, d.adrelid))
      end as filled
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where n.nspname in ('public', 'eve') and c.relkind in ('r', 'p') and not c.relispartition
    order by 1, a.attnum
  `;
  const tables = new Map<string, Columns>();
  for (const { relation, name, filled } of rows) {
    if (!tables.has(relation)) tables.set(relation, new Map());
    tables.get(relation)!.set(name, filled);
  }
  return tables;
}

/** What running the script would lose, with the condition on `t` that finds it. The tables are locked, so it stays so. */
async function lossesOf(
  transaction: postgres.TransactionSql,
  way: WayDown,
): Promise<(Loss & { where: string })[]> {
  const before = await tablesOf(transaction);
  let after = before;
  await rolledBack(transaction, async (inner) => {
    await inner.unsafe(way.sql).simple();
    after = await tablesOf(inner);
  }).catch((error) => {
    // The real run meets it again, and says whose it is.
    if ((error as postgres.PostgresError).code === undefined) throw error;
  });

  const found: { table: string; where: string; columns?: string[] }[] = [];
  for (const [table, columns] of before) {
    const left = after.get(table);
    if (left === undefined) {
      found.push({ table, where: "true" });
      continue;
    }
    const gone = [...columns].filter(([name, filled]) => !left.has(name) && filled !== null);
    const deleted = way.rows.filter((one) => one.table === table);
    const where = [...gone.map(([, filled]) => filled!), ...deleted.map((one) => `(${one.where})`)].join(
      " or ",
    );
    if (where === "") continue;
    found.push({ table, where, ...deleted.length === 0 && { columns: gone.map(([name]) => name) } });
  }

  const losses: (Loss & { where: string })[] = [];
  for (const one of found) {
    await transaction.unsafe(`lock table ${one.table} in access exclusive mode`);
    const seeds = way.seeds.filter(({ table }) => table === one.table).map(({ values }) => values);
    const [counted] = await transaction.unsafe(
      `select count(*)::int as rows from ${one.table} t
       where (${one.where}) and not to_jsonb(t) @> any (select s::jsonb from unnest($1::text[]) s)`,
      [seeds],
    );
    if (counted!.rows > 0) losses.push({ ...one, rows: counted!.rows });
  }
  return losses;
}

/** Nothing of what is run here stays. */
async function rolledBack(
  sql: postgres.Sql | postgres.TransactionSql,
  run: (transaction: postgres.TransactionSql) => Promise<void>,
): Promise<void> {
  const back = new Error("rolled back on purpose");
  const body = async (transaction: postgres.TransactionSql) => {
    await run(transaction);
    throw back;
  };
  try {
    await ("savepoint" in sql ? sql.savepoint(body) : sql.begin(body));
  } catch (error) {
    if (error !== back) throw error;
  }
}
