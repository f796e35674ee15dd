/** What would a call cost if the gateway kept no books? The least that a durable reservation can be, in place of ours. */
import type { Sql } from "postgres";

/** One guarded update, as the floor of bench:admission. */
const UPDATE = "update public.bare set rpm = rpm + 1 where id = 1 and rpm < 2000000000";

/** Replaces the ledger's functions: to reserve is one update and a constant answer, to settle is nothing at all. */
export async function takeBooksAway(sql: Sql, model: string): Promise<void> {
  const [reserved] = await sql<{ answer: unknown }[]>`
    select public.eve_reserve(request_id => 'without books', models => ${[
    model,
  ]}, tokens => 1) as answer`;
  const grant = `'${JSON.stringify(reserved!.answer).replaceAll("'", "''")}'`;
  const settled = `'{"status": "settled"}'`;
  await sql.unsafe(
    "create table public.bare (id integer primary key, rpm integer not null) with (fillfactor = 50)",
  );
  await sql.unsafe("insert into public.bare values (1, 0)");
  await sql.unsafe("grant select, update on public.bare to service_role");
  const bodies: Record<string, (result: string) => string> = {
    eve_reserve: (result) => `begin ${UPDATE}; return ${grant}::${result}; end`,
    eve_reserve_many: (result) =>
      `begin ${UPDATE}; return (select json_agg(${grant}::json)::${result} from jsonb_array_elements(calls)); end`,
    eve_settle: (result) => `begin return ${settled}::${result}; end`,
    eve_settle_many: (result) =>
      `begin return (select json_agg(${settled}::json)::${result} from jsonb_array_elements(settlements)); end`,
  };
  const functions = await sql<{ name: string; args: string; result: string }[]>`
    select proname as name, pg_get_function_arguments(oid) as args, pg_get_function_result(oid) as result
    from pg_proc where pronamespace = 'public'::regnamespace and proname = any (${Object.keys(bodies)})`;
  for (const { name, args, result } of functions) {
    await sql.unsafe(
      `create or replace function public.${name}(${args}) returns ${result} language plpgsql set search_path = '' as $body$ ${
        bodies[name]!(result)
      } $body$`,
    );
  }
}
