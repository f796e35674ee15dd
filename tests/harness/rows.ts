/** Rows of a test's database. */
import type postgres from "postgres";

/**
 * Deletes the rows of tables, in this order and at once. Between tests there are few of them: that takes a fiftieth of what it
 * takes to truncate as many tables, which gives each of them and of their indexes a new file.
 */
export async function empty(sql: postgres.Sql, ...tables: string[]): Promise<void> {
  await sql.unsafe(tables.map((table) => `delete from ${table};`).join("\n")).simple();
}
