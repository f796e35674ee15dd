/** The clock that admission reads, in the database of a running stack: moved from the real one, or stopped. */
import type postgres from "postgres";

/** Moves it by `offsetMs` from the real one; 0 puts it right again. */
export async function moveClock(sql: postgres.Sql, offsetMs: number): Promise<void> {
  await replaceClock(
    sql,
    `floor(extract(epoch from clock_timestamp()) * 1000)::bigint + (${Math.trunc(offsetMs)})`,
  );
}

/** Stops it where it is: what lasts a second lasts until `moveClock`, however slow this machine is. */
export async function stopClock(sql: postgres.Sql): Promise<void> {
  const [row] = await sql`select eve.clock_ms() as ms`;
  await replaceClock(sql, String(row!.ms));
}

/** In the language of the original, which is not inlined into plans that are kept. */
async function replaceClock(sql: postgres.Sql, expression: string): Promise<void> {
  await sql.unsafe(`
    create or replace function eve.clock_ms() returns bigint language plpgsql volatile set search_path = ''
    as $$ begin return ${expression}; end $$`);
}
