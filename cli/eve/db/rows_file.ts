/** Rows on their way out, one a line: an object of the columns, each value as PostgreSQL writes and reads it, or null. */
import { mkdir, open } from "node:fs/promises";
import type postgres from "postgres";

export interface RowsFile {
  file: string;
  written: number;
}

/** So many rows are in memory at once. */
const ROWS_AT_ONCE = 1000;

/** Writes the rows of `table t` that a condition finds to FOLDER/TABLE.ndjson, readable by its owner alone, and waits for the disk. */
export async function writeRows(
  transaction: postgres.TransactionSql,
  folder: string,
  table: string,
  where: string,
): Promise<RowsFile> {
  const columns = await transaction<{ name: string; quoted: string }[]>`
    select a.attname::text as name, quote_ident(a.attname) as quoted
    from pg_catalog.pg_attribute a
    where a.attrelid = ${table}::regclass and a.attnum > 0 and not a.attisdropped
    order by a.attnum
  `;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = `${folder}/${table.replaceAll('"', "")}.ndjson`;
  const file = await open(path, "wx", 0o600);
  let written = 0;
  try {
    const query = transaction.unsafe(
      `select json_object($1::text[], array[${
        columns.map(({ quoted }) => `t.${quoted}::text`).join(", ")
      }]::text[])::text as line
       from ${table} t where ${where}`,
      [columns.map(({ name }) => name)],
    );
    for await (const rows of query.cursor(ROWS_AT_ONCE)) {
      await file.writeFile(rows.map(({ line }) => `${line}\n`).join(""));
      written += rows.length;
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { file: path, written };
}
