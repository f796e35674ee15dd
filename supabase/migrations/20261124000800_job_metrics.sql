-- What a scrape shows of jobs.

set local lock_timeout = '10s';

-- What a provider makes is nobody's here while it does.
create index if not exists jobs_with_provider_idx on eve.jobs (kind) where state = 'running' and lease_until is null;

-- Gauges in the form of eve_metrics. What has ended is counted for the last five minutes: all that is kept would be a table to read at each scrape.
create or replace function public.eve_job_metrics()
returns jsonb
language plpgsql
stable
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_recent constant interval := '5 minutes';
  v_now constant timestamptz := eve.clock();
  v_samples jsonb;
begin
  with waiting as (
    select q.kind, sum(q.queued) as jobs,
      max(v_now - (
        -- The head of the queue alone: one look-up each.
        select j.run_at from eve.jobs j where j.queue_id = q.id and j.state = 'queued' order by j.run_at, j.no limit 1
      )) as oldest
    from eve.job_queues q
    where q.queued > 0
    group by q.kind
  ), ended as materialized (
    select j.kind, j.state, extract(epoch from j.started_at - greatest(j.submitted_at, j.run_at)) as wait_s,
      extract(epoch from j.finished_at - j.started_at) as run_s
    from eve.job_kinds k
    join eve.jobs j on j.kind = k.kind and j.finished_at > v_now - v_recent
  ), samples as (
    select 'eve_jobs' as metric, jsonb_build_object('kind', k.kind, 'state', 'queued') as labels, coalesce(w.jobs, 0)::double precision as value
    from eve.job_kinds k
    left join waiting w on w.kind = k.kind
    union all
    select 'eve_jobs', jsonb_build_object('kind', k.kind, 'state', 'running'), count(r.kind)
    from eve.job_kinds k
    left join (
      select j.kind from eve.jobs j where j.lease_until is not null
      union all
      select j.kind from eve.jobs j where j.state = 'running' and j.lease_until is null
    ) r on r.kind = k.kind
    group by k.kind
    union all
    select 'eve_job_oldest_age_seconds', jsonb_build_object('kind', k.kind), greatest(coalesce(extract(epoch from w.oldest), 0), 0)
    from eve.job_kinds k
    left join waiting w on w.kind = k.kind
    union all
    select 'eve_jobs_ended', jsonb_build_object('kind', k.kind, 'state', s.state), count(e.kind)
    from eve.job_kinds k
    cross join unnest(array['succeeded', 'failed', 'cancelled', 'expired']) as s (state)
    left join ended e on e.kind = k.kind and e.state = s.state
    group by k.kind, s.state
    union all
    select t.metric, jsonb_build_object('kind', e.kind, 'percentile', t.percentile::text), percentile_disc(t.percentile / 100.0) within group (order by t.seconds)
    from ended e
    cross join lateral (
      values ('eve_job_wait_seconds', 50, e.wait_s), ('eve_job_wait_seconds', 95, e.wait_s),
        ('eve_job_run_seconds', 50, e.run_s), ('eve_job_run_seconds', 95, e.run_s)
    ) as t (metric, percentile, seconds)
    where t.seconds is not null
    group by t.metric, e.kind, t.percentile
  )
  select jsonb_agg(jsonb_build_array(s.metric, s.labels, greatest(s.value, 0)) order by s.metric, s.labels) into v_samples from samples s;
  return jsonb_build_object('samples', coalesce(v_samples, '[]'), 'histograms', '[]'::jsonb);
end;
$$;
comment on function public.eve_job_metrics is 'Gauges of jobs, in the form of eve_metrics.';
