/** The sums by hour and by day as rollup has made them, and the same counted from the audit in the plainest way. */
import type postgres from "postgres";
import { expect } from "vitest";
import { USAGE_FIGURES } from "../../shared/database/reading.ts";
import { empty } from "../harness/rows.ts";

/** What an hour and a day have of figures. */
export const FIGURES = USAGE_FIGURES.filter((name) => !/_(usd|unknown)$/.test(name));
const sumsOf = (source: string) =>
  FIGURES.map((name) => `sum(${source}.${name})::integer as ${name}`).join(", ");

/** What the tables hold, in an order of their own. */
export const hours = async (sql: postgres.Sql) => [
  ...await sql.unsafe(`
    select h.hour, h.consumer_id, h.model, h.key_id, h.endpoint, ${sumsOf("h")} from eve.usage_hours h
    group by 1, 2, 3, 4, 5 order by 1, 2 nulls first, 3, 4 nulls first, 5`),
];
export const days = async (sql: postgres.Sql) => [
  ...await sql.unsafe(`
    select d.day::text, d.consumer_id, d.model, d.key_id, d.endpoint, ${sumsOf("d")} from eve.usage_days d
    group by 1, 2, 3, 4, 5 order by 1, 2 nulls first, 3, 4 nulls first, 5`),
];

/** The same, counted from the audit in the plainest way, by an instant that `trunc` makes of a time. */
const counted = async (sql: postgres.Sql, trunc: (time: string) => string, name: string) => [
  ...await sql.unsafe(`
    with everything as (
      select ${
    trunc("r.received_at")
  } as ${name}, nullif(r.consumer_id, '00000000-0000-0000-0000-000000000000') as consumer_id,
        r.model, r.key_id, r.endpoint, 1 as requests, (r.state = 'succeeded')::int as succeeded, (r.state = 'failed')::int as failed,
        (r.state = 'cancelled')::int as cancelled, (r.state = 'expired')::int as expired, 0 as refused, 0 as attempts,
        0 as dispatched, 0 as upstream_refused, 0 as input_tokens, 0 as output_tokens, 0 as thoughts_tokens, 0 as cached_tokens,
        r.wait_ms, 0 as latency_ms
      from eve.requests r
      union all
      select ${
    trunc("f.refused_at")
  }, nullif(f.consumer_id, '00000000-0000-0000-0000-000000000000'), coalesce((select m.model from public.google_ai_model_limits m where m.model = f.model), '(unknown)'), null, f.endpoint,
        0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
      from eve.refusals f
      where f.attempt <= 1
      union all
      select ${
    trunc("c.minute")
  }, nullif(c.consumer_id, '00000000-0000-0000-0000-000000000000'), c.model, null, c.endpoint,
        0, 0, 0, 0, 0, c.times, 0, 0, 0, 0, 0, 0, 0, 0, 0
      from eve.refusal_counts c
      where c.is_first
      union all
      select ${
    trunc("to_timestamp(a.start_ms / 1000.0)")
  }, nullif(r.consumer_id, '00000000-0000-0000-0000-000000000000'),
        a.model, a.key_id, r.endpoint, 0, 0, 0, 0, 0, 0, 1, a.dispatched::int, coalesce((a.upstream_status = 429)::int, 0),
        coalesce(a.input_tokens, 0), coalesce(a.output_tokens, 0), coalesce(a.thoughts_tokens, 0), coalesce(a.cached_tokens, 0), 0,
        coalesce(a.latency_ms, 0)
      from eve.attempts a join eve.requests r using (request_no)
    )
    select e.${name}, e.consumer_id, e.model, e.key_id, e.endpoint, ${sumsOf("e")} from everything e
    group by 1, 2, 3, 4, 5 order by 1, 2 nulls first, 3, 4 nulls first, 5`),
];
export const countedHours = (sql: postgres.Sql) =>
  counted(sql, (time) => `date_trunc('hour', ${time})`, "hour");
export const countedDays = (sql: postgres.Sql) =>
  counted(sql, (time) => `((${time}) at time zone 'America/Los_Angeles')::date::text`, "day");

export async function expectExact(sql: postgres.Sql): Promise<void> {
  expect(await hours(sql)).toEqual(await countedHours(sql));
  expect(await days(sql)).toEqual(await countedDays(sql));
}

/** A plain generator (mulberry32): the same numbers every time. */
export function numbers(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** As if nothing had ever been summed. */
export async function forgetSums(sql: postgres.Sql): Promise<void> {
  await empty(
    sql,
    "eve.usage_hours",
    "eve.usage_days",
    "eve.usage_slices",
    "eve.rollup_due",
    "eve.rollup_set_aside",
    "eve.refusal_counts",
    "eve.refusal_minutes",
  );
  await sql`
    update eve.rollup_progress
    set looked_until = null, rolled_until = null, frozen_before = null, hours_frozen_before = null`;
}
