/**
 * Rows that `db downgrade --drop-data` wrote down, put back where they were: files as rows_file.ts writes them, in a folder for each
 * migration that was undone, under the instant of the command that undid it.
 */
import { open, readdir } from "node:fs/promises";
import type postgres from "postgres";
import { CliFailure } from "../failure.ts";

export interface Restored {
  table: string;
  rows: number;
  file: string;
}

/** A folder of one undone migration: the instant, the version and the name. */
const STEP = /^(\d{8}T\d{6}Z)_(\d{14})_\w+$/;
const FILE = /^([a-z_]+\.[A-Za-z0-9_]+)\.ndjson$/;
/** So much is in memory at once; a row may have a megabyte. */
const LINES_AT_ONCE = 500;
const CHARACTERS_AT_ONCE = 8_000_000;
/** A busy table is not waited for at the cost of those who wait behind us. */
const LOCK_TIMEOUT = "10s";

/**
 * The files of the newest downgrade that wrote into a folder, or of the one migration whose folder it is. Those of the oldest migration
 * come first: what a later one took of the same rows holds more of their columns.
 * @throws CliFailure if there are none
 */
export async function rowsFilesIn(folder: string): Promise<{ table: string; file: string }[]> {
  const names = await readdir(folder).catch(() => {
    throw new CliFailure(
      `There is no folder ${folder}. Name the one that db downgrade --drop-data wrote to.`,
    );
  });
  const steps = names.flatMap((name) => {
    const [, at, version] = STEP.exec(name) ?? [];
    return at === undefined ? [] : [{ at, version: version!, path: `${folder}/${name}` }];
  });
  const newest = steps.map(({ at }) => at).sort().at(-1);
  const from = newest === undefined ? [folder] : steps
    .filter(({ at }) => at === newest)
    .sort((a, b) => a.version < b.version ? -1 : 1)
    .map(({ path }) => path);
  const files = [];
  for (const path of from) {
    for (const name of (await readdir(path)).sort()) {
      const table = FILE.exec(name)?.[1];
      if (table !== undefined) files.push({ table, file: `${path}/${name}` });
    }
  }
  if (files.length === 0) throw new CliFailure(`No rows of a downgrade are in ${folder}.`);
  return files;
}

/**
 * Puts rows back, all or none. A row that is there again under its key is replaced by what it was; the rest stays. Triggers rest
 * meanwhile, since what they count comes back too; what refers to something that is gone is found afterwards, and undoes it all.
 * @throws CliFailure that says what is in the way
 */
export async function restoreRows(
  sql: postgres.Sql,
  files: readonly { table: string; file: string }[],
): Promise<Restored[]> {
  return await sql.begin(async (transaction) => {
    await transaction.unsafe(`
      set local lock_timeout = '${LOCK_TIMEOUT}';
      set local timezone = 'UTC';
      set local datestyle = 'ISO, YMD';
      set local session_replication_role = replica;
    `).simple();
    const restored: Restored[] = [];
    for (const { table, file } of files) restored.push(await restoreFile(transaction, table, file));
    await refuseDangling(transaction, [...new Set(files.map((one) => one.table))]);
    return restored;
  });
}

interface Column {
  name: string;
  quoted: string;
  type: string;
  isKey: boolean;
  isGenerated: boolean;
  sequence: string | null;
}

async function restoreFile(
  transaction: postgres.TransactionSql,
  table: string,
  file: string,
): Promise<Restored> {
  const columns = await transaction<Column[]>`
    select a.attname::text as name, quote_ident(a.attname) as quoted, format_type(a.atttypid, a.atttypmod) as type,
      coalesce(a.attnum = any (i.indkey::int2[]), false) as "isKey", a.attgenerated <> '' as "isGenerated",
      pg_get_serial_sequence(${table}, a.attname) as sequence
    from pg_catalog.pg_attribute a
    left join pg_catalog.pg_index i on i.indrelid = a.attrelid and i.indisprimary
    where a.attrelid = to_regclass(${table}) and a.attnum > 0 and not a.attisdropped
    order by a.attnum
  `;
  if (columns.length === 0) throw notThere(`table ${table}`, file);
  await transaction.unsafe(`lock table ${table} in share row exclusive mode`);
  const keys = columns.filter(({ isKey }) => isKey).map((column) =>
    `t.${column.quoted} = ${valueOf(column)}`
  );
  // All of them first: a row that stayed may have another's number.
  for await (const lines of linesOf(file)) {
    for (const name of Object.keys(JSON.parse(lines[0]!))) {
      if (!columns.some((column) => column.name === name)) throw notThere(`column ${name} of ${table}`, file);
    }
    if (keys.length > 0) {
      await transaction.unsafe(`delete from ${table} t using ${LINES} where ${keys.join(" and ")}`, [lines]);
    }
  }
  let rows = 0;
  for await (const lines of linesOf(file)) {
    const had = Object.keys(JSON.parse(lines[0]!));
    // A column that came later has its default.
    const given = columns.filter(({ name, isGenerated }) => !isGenerated && had.includes(name));
    await transaction.unsafe(
      `insert into ${table} (${given.map(({ quoted }) => quoted).join(", ")}) overriding system value
       select ${given.map(valueOf).join(", ")} from ${LINES}`,
      [lines],
    );
    rows += lines.length;
  }
  for (const { quoted, sequence } of columns) {
    if (sequence === null) continue;
    // The next number is one that nobody has.
    await transaction.unsafe(
      `select setval($1, greatest((select max(${quoted}) from ${table}), (select last_value from ${sequence})))`,
      [sequence],
    );
  }
  return { table, rows, file };
}

const LINES = "(select line::jsonb as line from unnest($1::text[]) u (line)) l";

const valueOf = ({ name, type }: Column) => `(l.line ->> '${name.replaceAll("'", "''")}')::${type}`;

const notThere = (what: string, file: string) =>
  new CliFailure(`There is no ${what}, from where ${file} is: run db upgrade first.`);

/** The lines of a file, some at a time; none is empty. */
async function* linesOf(path: string): AsyncGenerator<string[], void, void> {
  const file = await open(path);
  let lines: string[] = [];
  let characters = 0;
  try {
    for await (const line of file.readLines()) {
      if (line === "") continue;
      lines.push(line);
      characters += line.length;
      if (lines.length < LINES_AT_ONCE && characters < CHARACTERS_AT_ONCE) continue;
      yield lines;
      lines = [];
      characters = 0;
    }
    if (lines.length > 0) yield lines;
  } finally {
    await file.close();
  }
}

/** Foreign keys were not looked at: a chat whose consumer was removed meanwhile would point at nothing. */
async function refuseDangling(transaction: postgres.TransactionSql, tables: string[]): Promise<void> {
  const keys = await transaction<{ child: string; parent: string; columns: string[]; targets: string[] }[]>`
    select c.conrelid::regclass::text as child, c.confrelid::regclass::text as parent,
      array(
        select quote_ident(a.attname) from unnest(c.conkey) with ordinality k (n, place)
        join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.n order by k.place
      ) as columns,
      array(
        select quote_ident(a.attname) from unnest(c.confkey) with ordinality k (n, place)
        join pg_catalog.pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.n order by k.place
      ) as targets
    from pg_catalog.pg_constraint c
    where c.contype = 'f' and c.conrelid = any (select to_regclass(t) from unnest(${tables}::text[]) t)
  `;
  for (const { child, parent, columns, targets } of keys) {
    const same = columns.map((column, n) => `p.${targets[n]} = c.${column}`).join(" and ");
    const isSet = columns.map((column) => `c.${column} is not null`).join(" and ");
    const [found] = await transaction.unsafe(
      `select count(*)::int as rows from ${child} c where ${isSet} and not exists (select from ${parent} p where ${same})`,
    );
    if (found!.rows > 0) {
      throw new CliFailure(
        `Nothing was restored: ${
          found!.rows
        } rows of ${child} would point at rows of ${parent} that are not there.`,
      );
    }
  }
}
