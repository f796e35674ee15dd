-- What sums by the hour do not know: how long calls took at p50, p95 and p99, why they failed, and which stage they were for.

set local lock_timeout = '10s';

-- Calls of stages are few among all, and so are those that failed.
create index if not exists requests_stage_idx on eve.requests (received_at) where requested_model like 'stage:%';
create index if not exists refusals_stage_idx on eve.refusals (refused_at) where model like 'stage:%';
create index if not exists requests_error_idx on eve.requests (received_at) include (error_code, consumer_id)
  where error_code is not null and state <> 'succeeded';

-- Of the requests that came, and the refusals, of the same time as public.eve_usage (eve.usage_cover). Percentiles are of the newest
-- 100,000 requests, and what was refused is among the errors with the newest 100,000 refusals: is_sample says whether there were
-- more. All else is of all.
create or replace function public.eve_usage_parts(
  since timestamptz, until timestamptz default null, consumer text default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
set plan_cache_mode = 'force_custom_plan'
set work_mem = '32MB'
as $$
declare
  v_most constant integer := 100000;
  -- A request is received at most so long before it ends.
  v_longest constant interval := '1 hour';
  v_since timestamptz;
  v_until timestamptz;
  v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  v_consumer_id constant uuid := eve.consumer_id_of(eve_usage_parts.consumer);
  v_answer jsonb;
begin
  select c.since, c.until into v_since, v_until from eve.usage_cover(false, eve_usage_parts.since, eve_usage_parts.until) c;
  with recent as materialized (
    select r.state, r.wait_ms, r.latency_ms
    from eve.requests r
    where r.finished_at >= v_since and r.finished_at < v_until + v_longest
      and r.received_at >= v_since and r.received_at < v_until
      and (v_consumer_id is null or r.consumer_id = v_consumer_id)
    order by r.finished_at desc
    limit v_most
  ), kept as materialized (
    select f.code
    from eve.refusals f
    where f.refused_at >= v_since and f.refused_at < v_until and f.attempt <= 1
      and (v_consumer_id is null or coalesce(f.consumer_id, v_nobody) = v_consumer_id)
    order by f.refused_at desc
    limit v_most
  ), errors as (
    select e.code, sum(e.times) as times
    from (
      select r.error_code as code, count(*) as times
      from eve.requests r
      where r.error_code is not null and r.state <> 'succeeded' and r.received_at >= v_since and r.received_at < v_until
        and (v_consumer_id is null or r.consumer_id = v_consumer_id)
      group by r.error_code
      union all
      select k.code, count(*) from kept k group by k.code
      union all
      select c.code, c.times
      from eve.refusal_counts c
      where c.minute >= v_since and c.minute < v_until and c.is_first
        and (v_consumer_id is null or c.consumer_id = v_consumer_id)
    ) e
    group by e.code
  ), asked as materialized (
    select r.request_no, substr(r.requested_model, 7) as stage, r.model, r.state, r.lane_id, r.attempts, r.dispatched,
      r.input_tokens, r.output_tokens, r.thoughts_tokens, r.cached_tokens, r.wait_ms, r.latency_ms
    from eve.requests r
    where r.requested_model like 'stage:%' and r.received_at >= v_since and r.received_at < v_until
      and (v_consumer_id is null or r.consumer_id = v_consumer_id)
  ), calls as (
    select a.stage, a.model, a.state, a.dispatched, a.input_tokens, a.output_tokens,
      a.thoughts_tokens, a.cached_tokens, a.wait_ms, a.latency_ms, 1::bigint as times
    from asked a
    union all
    select a.stage, e.model, 'attempt', e.dispatched, e.input_tokens, e.output_tokens, e.thoughts_tokens, e.cached_tokens, 0,
      e.latency_ms, 1
    from asked a
    cross join lateral (select * from eve.earlier_attempts t where t.request_no = a.request_no offset 0) e
    where a.attempts > 1 or a.lane_id is null
    union all
    select substr(f.model, 7), f.model, 'refused', false, 0, 0, 0, 0, 0, 0, 1
    from eve.refusals f
    where f.model like 'stage:%' and f.refused_at >= v_since and f.refused_at < v_until and f.attempt <= 1
      and (v_consumer_id is null or coalesce(f.consumer_id, v_nobody) = v_consumer_id)
    union all
    select substr(c.model, 7), c.model, 'refused', false, 0, 0, 0, 0, 0, 0, c.times
    from eve.refusal_counts c
    where c.model like 'stage:%' and c.minute >= v_since and c.minute < v_until and c.is_first
      and (v_consumer_id is null or c.consumer_id = v_consumer_id)
  ), sums as (
    select c.stage, c.model, count(*) filter (where c.state not in ('refused', 'attempt')) as requests,
      count(*) filter (where c.state = 'succeeded') as succeeded, count(*) filter (where c.state = 'failed') as failed,
      count(*) filter (where c.state = 'cancelled') as cancelled, count(*) filter (where c.state = 'expired') as expired,
      coalesce(sum(c.times) filter (where c.state = 'refused'), 0) as refused, count(*) filter (where c.dispatched) as dispatched,
      coalesce(sum(c.input_tokens), 0) as input_tokens, coalesce(sum(c.output_tokens), 0) as output_tokens,
      coalesce(sum(c.thoughts_tokens), 0) as thoughts_tokens, coalesce(sum(c.cached_tokens), 0) as cached_tokens,
      coalesce(sum(c.wait_ms), 0) as wait_ms, coalesce(sum(c.latency_ms) filter (where c.dispatched), 0) as latency_ms
    from calls c
    group by c.stage, c.model
  ), stages as (
    select s.*, case when p.is_free then 0 else p.usd end as paid_usd, case when p.is_free then p.usd else 0 end as free_usd,
      p.is_unknown and not p.is_free as paid_unknown, p.is_unknown and p.is_free as free_unknown
    from sums s
    left join eve.model_prices k on k.model = s.model
    cross join lateral (
      select coalesce(k.is_free, false) as is_free,
        trim_scale(
          (
            (s.input_tokens - least(s.cached_tokens, s.input_tokens)) * coalesce(k.input_usd, 0)
            + least(s.cached_tokens, s.input_tokens) * coalesce(k.cached_usd, k.input_usd, 0)
            + (s.output_tokens + s.thoughts_tokens) * coalesce(k.output_usd, 0)
          ) / 1000000
        ) as usd,
        k.input_usd is null and s.input_tokens > 0 or k.output_usd is null and s.output_tokens + s.thoughts_tokens > 0 as is_unknown
    ) p
  )
  select jsonb_build_object(
    'since', v_since, 'until', nullif(v_until, 'infinity'),
    'is_sample', (select count(*) from recent) >= v_most or (select count(*) from kept) >= v_most,
    'wait_ms', (
      select jsonb_build_object('p50', p.of[1], 'p95', p.of[2], 'p99', p.of[3])
      from (select percentile_disc(array[0.5, 0.95, 0.99]) within group (order by r.wait_ms) as of from recent r) p
    ),
    'latency_ms', (
      select jsonb_build_object('p50', p.of[1], 'p95', p.of[2], 'p99', p.of[3])
      from (
        select percentile_disc(array[0.5, 0.95, 0.99]) within group (order by r.latency_ms) as of
        from recent r
        where r.state = 'succeeded' and r.latency_ms is not null
      ) p
    ),
    'errors', (select coalesce(jsonb_agg(to_jsonb(e) order by e.times desc, e.code), '[]') from errors e),
    'stages', (select coalesce(jsonb_agg(to_jsonb(s) order by s.stage, s.model), '[]') from stages s)
  ) into v_answer;
  return v_answer;
end;
$$;
comment on function public.eve_usage_parts is 'Of a time: percentiles of waiting and of upstream, errors by code, and what each stage used.';

revoke all on function public.eve_usage_parts(timestamptz, timestamptz, text) from public, anon, authenticated, service_role;
grant execute on function public.eve_usage_parts(timestamptz, timestamptz, text) to service_role;
