-- The report of a Pacific day.

-- A Pacific day in numbers. Sums come from eve.usage_days, which stay when the audit has gone; reasons, waits and latencies
-- from the audit, as long as it is there.
create or replace function eve.report_of(day date)
returns jsonb
language plpgsql
stable
set search_path = ''
set jit = 'off'
as $$
declare
  v_from constant timestamptz := report_of.day::timestamp at time zone 'America/Los_Angeles';
  v_until constant timestamptz := (report_of.day + 1)::timestamp at time zone 'America/Los_Angeles';
  v_from_ms constant bigint := floor(extract(epoch from v_from) * 1000)::bigint;
  v_until_ms constant bigint := floor(extract(epoch from v_until) * 1000)::bigint;
begin
  return jsonb_build_object(
    'day', report_of.day, 'from', v_from, 'until', v_until,
    'total', (
      select jsonb_build_object(
        'requests', coalesce(sum(d.requests), 0), 'succeeded', coalesce(sum(d.succeeded), 0),
        'failed', coalesce(sum(d.failed), 0), 'cancelled', coalesce(sum(d.cancelled), 0),
        'expired', coalesce(sum(d.expired), 0), 'refused', coalesce(sum(d.refused), 0),
        'attempts', coalesce(sum(d.attempts), 0), 'upstream_refused', coalesce(sum(d.upstream_refused), 0),
        'input_tokens', coalesce(sum(d.input_tokens), 0), 'output_tokens', coalesce(sum(d.output_tokens), 0),
        'thoughts_tokens', coalesce(sum(d.thoughts_tokens), 0)
      )
      from eve.usage_days d
      where d.day = report_of.day
    ),
    'consumers', (
      select coalesce(jsonb_agg(to_jsonb(t) order by t.input_tokens + t.output_tokens desc, t.consumer), '[]')
      from (
        select coalesce(c.name, d.consumer_id::text, 'project') as consumer, sum(d.requests) as requests,
          sum(d.succeeded) as succeeded, sum(d.refused) as refused, sum(d.input_tokens) as input_tokens,
          sum(d.output_tokens) as output_tokens
        from eve.usage_days d
        left join eve.consumers c on c.id = d.consumer_id
        where d.day = report_of.day
        group by 1
        order by sum(d.input_tokens + d.output_tokens) desc
        limit 20
      ) t
    ),
    'lanes', (
      -- Calls against what a quota project may make in a day.
      select coalesce(jsonb_agg(to_jsonb(t) order by t.model, t.quota_project), '[]')
      from (
        select k.quota_key as quota_project, d.model, sum(d.dispatched) as calls, sum(d.input_tokens) as input_tokens,
          case when o.quota_project is not null then o.rpd else m.rpd end as calls_allowed
        from eve.usage_days d
        join public.google_ai_api_keys k on k.id = d.key_id
        left join public.google_ai_model_limits m on m.model = d.model
        left join eve.quota_overrides o on o.quota_project = k.quota_key and o.model = d.model
        where d.day = report_of.day
        group by k.quota_key, d.model, o.quota_project, o.rpd, m.rpd
        having sum(d.dispatched) > 0
      ) t
    ),
    'refusals', (
      select coalesce(jsonb_object_agg(t.reason, t.times), '{}')
      from (
        select one.reason, sum(one.times) as times
        from (
          select f.code || coalesce(':' || f.limit_name, '') as reason, 1 as times
          from eve.refusals f
          where f.refused_at >= v_from and f.refused_at < v_until and f.attempt <= 1
          union all
          select c.code || coalesce(':' || nullif(c.limit_name, ''), ''), c.times
          from eve.refusal_counts c
          where c.minute >= v_from and c.minute < v_until and c.is_first
        ) one
        group by 1
      ) t
    ),
    'failures', (
      select coalesce(jsonb_object_agg(t.code, t.times), '{}')
      from (
        select coalesce(r.error_code, 'unknown') as code, count(*) as times
        from eve.requests r
        where r.received_at >= v_from and r.received_at < v_until and r.state in ('failed', 'expired')
        group by 1
      ) t
    ),
    'wait_ms', (
      select jsonb_build_object(
        'p50', percentile_disc(0.5) within group (order by r.wait_ms),
        'p95', percentile_disc(0.95) within group (order by r.wait_ms), 'max', max(r.wait_ms)
      )
      from eve.requests r
      where r.received_at >= v_from and r.received_at < v_until
    ),
    'latency_ms', (
      select jsonb_build_object(
        'p50', percentile_disc(0.5) within group (order by a.latency_ms),
        'p95', percentile_disc(0.95) within group (order by a.latency_ms), 'max', max(a.latency_ms)
      )
      from eve.attempts a
      where a.start_ms >= v_from_ms and a.start_ms < v_until_ms and a.dispatched and a.outcome = 'succeeded'
    ),
    'alerts', (
      select jsonb_build_object(
        'opened', count(*) filter (where a.opened_at >= v_from and a.opened_at < v_until),
        'open', count(*) filter (where a.closed_at is null)
      )
      from eve.alerts a
    ),
    'maintenance_failed', (
      select count(*)
      from public.google_ai_maintenance_log m
      where m.started_at >= v_from and m.started_at < v_until and m.status = 'failed'
    )
  );
end;
$$;

create or replace function eve.report_step()
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object(
    'done', true, 'count', 0, 'tables', '{}'::text[], 'details', eve.report_of(eve.pacific_day(eve.clock_ms()) - 1)
  );
$$;

create or replace function public.eve_report(day date default null)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select eve.report_of(coalesce(eve_report.day, eve.pacific_day(eve.clock_ms()) - 1));
$$;
comment on function public.eve_report is 'A Pacific day in numbers; without one, yesterday.';
