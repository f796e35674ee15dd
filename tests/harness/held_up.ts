/** A statement that is blocked at a table's trigger until it is released, in the place of one that is slow. */
import postgres from "postgres";
import { until } from "./patience.ts";

/** The advisory lock that it waits for. */
const LOCK = 815_000_815;

export interface HeldUp {
  /** Resolves once a statement stands there. */
  arrived(): Promise<void>;
  /** Lets all of them go on, and removes the trigger. */
  release(): Promise<void>;
}

/**
 * @param when of the trigger, e.g. `after delete on public.token_usage`; once for each statement
 * @param only SQL that says whether this one is held up
 */
export async function holdUp(url: string, when: string, only = "true"): Promise<HeldUp> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  const table = when.split(" ").at(-1);
  await sql`select pg_advisory_lock(${LOCK})`;
  await sql.unsafe(`
    create function public.held_up() returns trigger language plpgsql as $$
    begin
      if ${only} then
        perform pg_advisory_xact_lock(${LOCK});
      end if;
      return null;
    end $$;
    create trigger held_up ${when} for each statement execute function public.held_up();
  `).simple();
  return {
    arrived: () =>
      until(async () => {
        const waiting = await sql`
          select from pg_catalog.pg_locks
          where locktype = 'advisory' and objid = ${LOCK} and not granted
            and database = (select oid from pg_catalog.pg_database where datname = current_database())`;
        return waiting.length > 0;
      }, "no statement came to the trigger"),
    async release() {
      await sql`select pg_advisory_unlock_all()`;
      await sql.unsafe(`drop trigger held_up on ${table}; drop function public.held_up()`).simple();
      await sql.end();
    },
  };
}
