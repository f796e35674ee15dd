-- What sums by the hour do not know: how long calls took at p50, p95 and p99, why they failed, and which stage they were for.

set local lock_timeout = '10s';

-- Calls of stages are few among all.
create index if not exists requests_stage_idx on eve.requests (finished_at) where requested_model like 'stage:%';
create index if not exists refusals_stage_idx on eve.refusals (refused_at) where model like 'stage:%';

-- Percentiles and errors are of the newest 100,000 requests and refusals of that time, which is_sample says; stages of all.
create or replace function public.eve_usage_parts(
  since timestamptz, until timestamptz default null, consumer text default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_most constant integer := 100000;
  v_until constant timestamptz := coalesce(eve_usage_parts.until, 'infinity');
  v_consumer_id constant uuid := eve.consumer_id_of(eve_usage_parts.consumer);
  v_answer jsonb;
begin
  if eve_usage_parts.since is null or eve_usage_parts.since >= v_until then
    raise exception 'since must be before until' using errcode = 'EV400';
  end if;
  with recent as materialized (
    select r.state, r.wait_ms, r.latency_ms, r.error_code
    from eve.requests r
    where r.finished_at >= eve_usage_parts.since and r.finished_at < v_until
      and (v_consumer_id is null or r.consumer_id = v_consumer_id)
    order by r.finished_at desc
    limit v_most
  ), refused as materialized (
    select f.code
    from eve.refusals f
    where f.refused_at >= eve_usage_parts.since and f.refused_at < v_until and f.attempt <= 1
      and (v_consumer_id is null or f.consumer_id = v_consumer_id)
    order by f.refused_at desc
    limit v_most
  ), errors as (
    select e.code, count(*) as times
    from (
      select r.error_code as code from recent r where r.error_code is not null and r.state <> 'succeeded'
      union all
      select f.code from refused f
    ) e
    group by e.code
  ), calls as (
    select substr(r.requested_model, 7) as stage, r.model, r.state, r.dispatched, r.input_tokens, r.output_tokens, r.thoughts_tokens,
      r.cached_tokens, r.wait_ms, r.latency_ms
    from eve.requests r
    where r.requested_model like 'stage:%' and r.finished_at >= eve_usage_parts.since and r.finished_at < v_until
      and (v_consumer_id is null or r.consumer_id = v_consumer_id)
    union all
    select substr(f.model, 7), f.model, 'refused', false, 0, 0, 0, 0, 0, 0
    from eve.refusals f
    where f.model like 'stage:%' and f.refused_at >= eve_usage_parts.since and f.refused_at < v_until and f.attempt <= 1
      and (v_consumer_id is null or f.consumer_id = v_consumer_id)
  ), stages as (
    select c.stage, c.model, count(*) filter (where c.state <> 'refused') as requests,
      count(*) filter (where c.state = 'succeeded') as succeeded, count(*) filter (where c.state = 'failed') as failed,
      count(*) filter (where c.state = 'cancelled') as cancelled, count(*) filter (where c.state = 'expired') as expired,
      count(*) filter (where c.state = 'refused') as refused,
      -- Of a request the last attempt is in the audit.
      count(*) filter (where c.dispatched) as dispatched,
      coalesce(sum(c.input_tokens), 0) as input_tokens, coalesce(sum(c.output_tokens), 0) as output_tokens,
      coalesce(sum(c.thoughts_tokens), 0) as thoughts_tokens, coalesce(sum(c.cached_tokens), 0) as cached_tokens,
      coalesce(sum(c.wait_ms), 0) as wait_ms, coalesce(sum(c.latency_ms) filter (where c.dispatched), 0) as latency_ms
    from calls c
    group by c.stage, c.model
  )
  select jsonb_build_object(
    'since', eve_usage_parts.since, 'until', eve_usage_parts.until,
    'is_sample', (select count(*) from recent) >= v_most or (select count(*) from refused) >= v_most,
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
