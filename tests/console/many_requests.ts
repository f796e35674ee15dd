/** Requests in bulk, as if they had been made: 1,000 consumers, some of whom call far more than others, 20 models, in every outcome. */
import type postgres from "postgres";

export const CONSUMERS = 1_000;
/** The first ones are called far more than the last. */
const MODELS = ["gemma-4-31b-it", ...Array.from({ length: 19 }, (_, n) => `bulk-model-${n + 1}`)];

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
    select n, consumer, 'bulk-' || n, 'interactive', (array['native', 'openai', 'gemini'])[1 + n % 3],
      case when n % 10 = 0 then (array['stage:POEM', 'stage:SONG'])[1 + n / 10 % 2] end,
      (${MODELS}::text[])[1 + floor(${MODELS.length}::integer * power(n * 0.7548776662 % 1, 2))::integer],
      keys.ids[1 + n % cardinality(keys.ids)],
      case when n % 97 = 0 then 'failed' when n % 89 = 0 then 'cancelled' when n % 83 = 0 then 'expired' else 'succeeded' end,
      case when n % 97 = 0 then (array['upstream_unavailable', 'upstream_timeout'])[1 + n / 97 % 2] end, 1, n % 5000, at, at,
      floor(extract(epoch from at) * 1000), 0, 1, 100, true, false, 500 + n % 3000, 90 + n % 7, 30 + n % 11, n % 50, n % 7,
      120 + n % 7 + n % 11 + n % 50, '{}'
    ${rows(count)}
    cross join (select array_agg(k.id order by k.id) as ids from public.google_ai_api_keys k) keys`;
  // Numbers go on behind them, as they would have.
  await sql`select setval('eve.request_no', ${first + count})`;
  // Every seventh at a later attempt: of a request that counts as it ended.
  await sql`
    insert into eve.refusals (refused_at, consumer_id, request_id, attempt, class, endpoint, model, code, limit_name, tokens)
    select at, consumer, 'refused-' || n, case when n % 7 = 0 then 2 else 1 end, 'interactive', 'native',
      (array['gemma-4-31b-it', 'stage:POEM', 'nobody-has-it'])[1 + n % 3], 'rate_limited', 'rpm', 100
    ${rows(count / 10)}`;
  // And floods, which are only counted.
  await sql`
    insert into eve.refusal_counts (minute, consumer_id, code, limit_name, model, class, endpoint, is_first, times)
    select date_trunc('minute', at), (array_agg(consumer order by n))[1], 'daily_limit', 'rpd', 'gemma-4-31b-it', 'interactive', 'native',
      is_first, 40 + min(n) % 7
    ${rows(count / 100)}
    cross join (values (true), (false)) first (is_first)
    group by date_trunc('minute', at), is_first`;
}

/** What the bulk's models cost: one is paid for, one is in a free tier, and of the others nothing is known. */
export async function priceModels(sql: postgres.Sql): Promise<void> {
  await sql`
    insert into eve.model_prices (model, input_usd, cached_usd, output_usd, is_free, as_of)
    values (${MODELS[1]!}, 1000, 100, 2000, false, '2026-11-01'), (${MODELS[
    2
  ]!}, 3000, null, 4000, true, '2026-11-01')`;
}
export async function forgetPrices(sql: postgres.Sql): Promise<void> {
  await sql`delete from eve.model_prices where model = any (${MODELS.slice(1)})`;
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

const OF = {
  consumer: "c.name",
  model: "a.model",
  key: "coalesce(k.key_alias, k.id::text, '')",
  endpoint: "a.endpoint",
  stage: "a.stage",
} as const;
export type SumsBy = keyof typeof OF;

/** Straight from the audit, since an instant: by name, and, with the name null, in all; of stages only what asked for one. */
export async function sumsOf(
  sql: postgres.Sql,
  since: Date,
  by: SumsBy = "consumer",
): Promise<Map<string | null, Sums>> {
  const rows = await sql`
    with calls as (
      select r.consumer_id, r.model, r.key_id, r.endpoint, substr(r.requested_model, 7) as stage, r.state, 1::bigint as times,
        r.input_tokens, r.output_tokens, r.thoughts_tokens, r.cached_tokens
      from eve.requests r
      where r.received_at >= ${since}
      union all
      select f.consumer_id, coalesce((select m.model from public.google_ai_model_limits m where m.model = f.model), '(unknown)'), null,
        f.endpoint, case when f.model like 'stage:%' then substr(f.model, 7) end, 'refused', 1, 0, 0, 0, 0
      from eve.refusals f
      where f.refused_at >= ${since} and f.attempt <= 1
      union all
      select c.consumer_id, c.model, null, c.endpoint, null, 'refused', c.times, 0, 0, 0, 0
      from eve.refusal_counts c
      where c.minute >= ${since} and c.is_first
    )
    select ${sql.unsafe(OF[by])} as name, count(*) filter (where a.state <> 'refused') as requests,
      count(*) filter (where a.state = 'succeeded') as succeeded, count(*) filter (where a.state = 'failed') as failed,
      count(*) filter (where a.state = 'cancelled') as cancelled, count(*) filter (where a.state = 'expired') as expired,
      coalesce(sum(a.times) filter (where a.state = 'refused'), 0) as refused, coalesce(sum(a.input_tokens), 0) as input_tokens,
      coalesce(sum(a.output_tokens + a.thoughts_tokens), 0) as tokens_out,
      coalesce(sum(a.thoughts_tokens), 0) as thoughts_tokens, coalesce(sum(a.cached_tokens), 0) as cached_tokens
    from calls a
    join eve.consumers c on c.id = a.consumer_id
    left join public.google_ai_api_keys k on k.id = a.key_id
    where ${by !== "stage"} or a.stage is not null
    group by grouping sets ((${sql.unsafe(OF[by])}), ())`;
  return new Map(rows.map(({ name, ...sums }) => [
    name,
    Object.fromEntries(
      Object.entries(sums).map(([figure, value]) => [figure, Number(value)]),
    ) as unknown as Sums,
  ]));
}

/** Errors by code, and p50, p95 and p99 of waiting and of upstream, straight from the audit. */
export async function timesOf(sql: postgres.Sql, since: Date) {
  const errors = await sql`
    select code, sum(times)::integer as times
    from (
      select r.error_code as code, 1::bigint as times from eve.requests r where r.received_at >= ${since} and r.state = 'failed'
      union all
      select f.code, 1 from eve.refusals f where f.refused_at >= ${since} and f.attempt <= 1
      union all
      select c.code, c.times from eve.refusal_counts c where c.minute >= ${since} and c.is_first
    ) one
    group by code
    order by times desc, code`;
  const [of] = await sql`
    select percentile_disc(array[0.5, 0.95, 0.99]) within group (order by r.wait_ms)::float8[] as wait,
      percentile_disc(array[0.5, 0.95, 0.99]) within group (order by r.latency_ms)
        filter (where r.state = 'succeeded')::float8[] as latency
    from eve.requests r
    where r.received_at >= ${since}`;
  return {
    errors: errors.map(({ code, times }) => [code as string, times as number] as const),
    wait: of!.wait as number[],
    latency: of!.latency as number[],
  };
}

/** What is known of the cost since an instant: what is paid, and what it would have been in a free tier, in US dollars. */
export async function costOf(sql: postgres.Sql, since: Date): Promise<{ paid: number; free: number }> {
  const [of] = await sql`
    with used as (
      select r.model, sum(r.input_tokens) as input, sum(r.cached_tokens) as cached, sum(r.output_tokens + r.thoughts_tokens) as out
      from eve.requests r
      where r.received_at >= ${since}
      group by r.model
    )
    select sum((u.input - u.cached) * 1000 + u.cached * 100 + u.out * 2000) filter (where u.model = ${MODELS[
    1
  ]!}) / 1e6 as paid,
      sum(u.input * 3000 + u.out * 4000) filter (where u.model = ${MODELS[2]!}) / 1e6 as free
    from used u`;
  return { paid: Number(of!.paid), free: Number(of!.free) };
}
