/** Requests in bulk, as if they had been made: 1,000 consumers, some of whom call far more than others, in every outcome. */
import type postgres from "postgres";

export const CONSUMERS = 1_000;

/** Once, before `fillRequests`. The days from `from` on have partitions of their own, as if they had been days of work. */
export async function fillConsumers(sql: postgres.Sql, from: Date, until: Date): Promise<void> {
  await sql`
    select eve.make_partitions(day) from generate_series(${from}::timestamptz, ${until}::timestamptz, interval '1 day') day`;
  await sql`
    insert into eve.consumers (name, kind) select 'bot-' || n, 'service' from generate_series(1, ${CONSUMERS}::integer) n`;
}

/**
 * `count` requests and a tenth as many refusals, of the `spanMs` before `until` and, as many each, of the same time of the `days` before.
 * Their numbers begin at `first`, which is of the oldest one.
 */
export async function fillRequests(
  sql: postgres.Sql,
  { until, spanMs, days, count, first }: {
    until: Date;
    spanMs: number;
    days: number;
    count: number;
    first: number;
  },
): Promise<void> {
  const rows = (count: number) =>
    sql`
    from (
      select row_number() over (order by numbered.at) + ${first - 1}::integer as n, numbered.*
      from (
        select
          ${until}::timestamptz - interval '24 hours' * (n % ${days})
            - interval '1 millisecond' * ${spanMs}::integer * (n / ${count}::float8) as at,
          bots.ids[1 + floor(${CONSUMERS}::integer * power((n + ${first}) * 0.6180339887 % 1, 3))::integer] as consumer
        from generate_series(0, ${count - 1}::integer) n
        cross join (select array_agg(c.id order by c.created_at, c.id) as ids from eve.consumers c where c.name like 'bot-%') bots
      ) numbered
    ) rows`;
  await sql`
    insert into eve.requests (
      request_no, consumer_id, request_id, class, endpoint, requested_model, model, key_id, state, error_code, attempts, wait_ms,
      received_at, finished_at, start_ms, bucket_after_ms, lane_id, tokens_booked, dispatched, usage_estimated, latency_ms,
      input_tokens, output_tokens, thoughts_tokens, cached_tokens, total_tokens, metadata
    )
    select n, consumer, 'bulk-' || n, 'interactive', 'native', case when n % 10 = 0 then 'stage:POEM' end, 'gemma-4-31b-it',
      (select k.id from public.google_ai_api_keys k order by k.id limit 1),
      case when n % 97 = 0 then 'failed' when n % 89 = 0 then 'cancelled' when n % 83 = 0 then 'expired' else 'succeeded' end,
      case when n % 97 = 0 then 'upstream_unavailable' end, 1, n % 5000, at, at, floor(extract(epoch from at) * 1000), 0, 1, 100, true,
      false, 500 + n % 3000, 90 + n % 7, 30 + n % 11, n % 50, n % 7, 120 + n % 7 + n % 11 + n % 50, '{}'
    ${rows(count)}`;
  // Numbers go on behind them, as they would have.
  await sql`select setval('eve.request_no', ${first + count})`;
  await sql`
    insert into eve.refusals (refused_at, consumer_id, request_id, attempt, class, endpoint, model, code, limit_name, tokens)
    select at, consumer, 'refused-' || n, 1, 'interactive', 'native', 'gemma-4-31b-it', 'rate_limited', 'rpm', 100
    ${rows(count / 10)}`;
}

export interface Sums {
  requests: number;
  succeeded: number;
  failed: number;
  cancelled: number;
  expired: number;
  refused: number;
  input_tokens: number;
  /** The answer and the thinking. */
  tokens_out: number;
  thoughts_tokens: number;
  cached_tokens: number;
}

/** Straight from the audit, since an instant: by consumer's name, and, with the name null, in all. */
export async function sumsOf(sql: postgres.Sql, since: Date): Promise<Map<string | null, Sums>> {
  const rows = await sql`
    with calls as (
      select r.consumer_id, r.state, r.input_tokens, r.output_tokens, r.thoughts_tokens, r.cached_tokens
      from eve.requests r
      where r.received_at >= ${since}
      union all
      select f.consumer_id, 'refused', 0, 0, 0, 0 from eve.refusals f where f.refused_at >= ${since}
    )
    select c.name, count(*) filter (where a.state <> 'refused') as requests,
      count(*) filter (where a.state = 'succeeded') as succeeded, count(*) filter (where a.state = 'failed') as failed,
      count(*) filter (where a.state = 'cancelled') as cancelled, count(*) filter (where a.state = 'expired') as expired,
      count(*) filter (where a.state = 'refused') as refused, coalesce(sum(a.input_tokens), 0) as input_tokens,
      coalesce(sum(a.output_tokens + a.thoughts_tokens), 0) as tokens_out,
      coalesce(sum(a.thoughts_tokens), 0) as thoughts_tokens, coalesce(sum(a.cached_tokens), 0) as cached_tokens
    from calls a
    join eve.consumers c on c.id = a.consumer_id
    group by grouping sets ((c.name), ())`;
  return new Map(rows.map(({ name, ...sums }) => [
    name,
    Object.fromEntries(
      Object.entries(sums).map(([figure, value]) => [figure, Number(value)]),
    ) as unknown as Sums,
  ]));
}
