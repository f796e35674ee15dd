-- Rollup: the audit summed by hour and by Pacific day; and the report of a day.

-- The beginning of the first hour that retention has not been at.
create or replace function eve.first_whole_hour(frozen_before timestamptz)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
  select case
    when first_whole_hour.frozen_before is null then '-infinity'
    else to_timestamp(ceil(extract(epoch from first_whole_hour.frozen_before) / 3600) * 3600)
  end;
$$;

create or replace function eve.roll_hour(hour timestamptz)
returns bigint
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_until constant timestamptz := roll_hour.hour + interval '1 hour';
  v_count bigint;
begin
  delete from eve.usage_hours h where h.hour = roll_hour.hour;
  insert into eve.usage_hours (
    hour, consumer_id, model, key_id, door, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
    upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
  )
  select roll_hour.hour, nullif(e.consumer_id, '00000000-0000-0000-0000-000000000000'), e.model, e.key_id, e.door,
    sum(e.requests), count(*) filter (where e.state = 'succeeded'), count(*) filter (where e.state = 'failed'),
    count(*) filter (where e.state = 'cancelled'), count(*) filter (where e.state = 'expired'), sum(e.refused),
    sum(e.attempts), sum(e.dispatched), sum(e.upstream_refused), sum(e.input_tokens), sum(e.output_tokens),
    sum(e.thoughts_tokens), sum(e.cached_tokens), sum(e.wait_ms), sum(e.latency_ms)
  from (
    select r.consumer_id, r.model, r.key_id, r.door, r.state, 1 as requests, 0 as refused, 0 as attempts, 0 as dispatched,
      0 as upstream_refused, 0::bigint as input_tokens, 0::bigint as output_tokens, 0::bigint as thoughts_tokens,
      0::bigint as cached_tokens, r.wait_ms, 0::bigint as latency_ms
    from eve.requests r
    where r.received_at >= roll_hour.hour and r.received_at < v_until
    union all
    -- A caller may ask for any name: those that no model has are one row, not a row each for good.
    select f.consumer_id, case f.code when 'unknown_model' then '(unknown)' else f.model end, null, f.door, null, 0, 1, 0, 0, 0, 0,
      0, 0, 0, 0, 0
    from eve.refusals f
    where f.refused_at >= roll_hour.hour and f.refused_at < v_until
    union all
    select r.consumer_id, a.model, a.key_id, r.door, null, 0, 0, 1, a.dispatched::integer,
      coalesce(a.upstream_status = 429, false)::integer, coalesce(a.input_tokens, 0), coalesce(a.output_tokens, 0),
      coalesce(a.thoughts_tokens, 0), coalesce(a.cached_tokens, 0), 0, coalesce(a.latency_ms, 0)
    from eve.attempts a
    -- The attempts of a request count once it has ended, when it is known whose they were. Looked up one by one:
    -- any other way reads a table of millions for some thousand rows of it.
    cross join lateral (select r.consumer_id, r.door from eve.requests r where r.request_no = a.request_no offset 0) r
    where a.start_ms >= floor(extract(epoch from roll_hour.hour) * 1000)::bigint
      and a.start_ms < floor(extract(epoch from v_until) * 1000)::bigint
  ) e
  group by e.consumer_id, e.model, e.key_id, e.door;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

create or replace function eve.roll_day(day date)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_from constant timestamptz := roll_day.day::timestamp at time zone 'America/Los_Angeles';
  v_until constant timestamptz := (roll_day.day + 1)::timestamp at time zone 'America/Los_Angeles';
  v_count bigint;
begin
  delete from eve.usage_days d where d.day = roll_day.day;
  insert into eve.usage_days (
    day, consumer_id, model, key_id, door, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
    upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
  )
  select roll_day.day, h.consumer_id, h.model, h.key_id, h.door, sum(h.requests), sum(h.succeeded), sum(h.failed),
    sum(h.cancelled), sum(h.expired), sum(h.refused), sum(h.attempts), sum(h.dispatched), sum(h.upstream_refused),
    sum(h.input_tokens), sum(h.output_tokens), sum(h.thoughts_tokens), sum(h.cached_tokens), sum(h.wait_ms),
    sum(h.latency_ms)
  from eve.usage_hours h
  where h.hour >= v_from and h.hour < v_until
  group by h.consumer_id, h.model, h.key_id, h.door;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

-- The hours whose sums may have changed by what was written to the audit in [from_at, until_at): all that a request which
-- ended has touched, the hours of attempts that were settled (late ones too, which change a request that had ended before),
-- and those of refusals. An hour too many does no harm.
create or replace function eve.changed_hours(from_at timestamptz, until_at timestamptz)
returns setof timestamptz
language sql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
  select h
  from (
    select date_trunc('hour', r.received_at, 'UTC') as first_hour, date_trunc('hour', r.finished_at, 'UTC') as last_hour
    from eve.requests r
    where r.finished_at >= changed_hours.from_at and r.finished_at < changed_hours.until_at
    group by 1, 2
  ) ended
  cross join lateral generate_series(ended.first_hour, ended.last_hour, interval '1 hour') as h
  union
  select unnest(
    array[
      date_trunc('hour', to_timestamp(a.start_ms / 1000.0), 'UTC'),
      case when r.finished_at < a.settled_at then date_trunc('hour', r.received_at, 'UTC') end
    ]
  )
  from eve.attempts a
  -- Looked up one by one, as in roll_hour.
  cross join lateral (
    select r.received_at, r.finished_at from eve.requests r where r.request_no = a.request_no offset 0
  ) r
  where a.settled_at >= changed_hours.from_at and a.settled_at < changed_hours.until_at
  union
  select date_trunc('hour', f.refused_at, 'UTC')
  from eve.refusals f
  where f.refused_at >= changed_hours.from_at and f.refused_at < changed_hours.until_at;
$$;

-- Sums up, first the hours that a stretch of the audit changed, each whole and anew, then their days, and then the next
-- stretch. So it is the same however often it is done, and what is settled late corrects the hour it belongs to.
create or replace function eve.rollup_step(state jsonb, now_at timestamptz)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Settlements write their time before they commit. None takes as long as this: the platform cancels it before.
  v_overlap constant interval := '15 minutes';
  -- How much of the audit is looked through at once.
  v_stretch constant interval := '6 hours';
  -- A step ends with the first hour or day after so long.
  v_step_time constant interval := '200 milliseconds';
  v_began constant timestamptz := clock_timestamp();
  v_state jsonb := rollup_step.state;
  v_progress eve.rollup_progress;
  v_from timestamptz;
  v_until timestamptz;
  v_count bigint := 0;
  v_done boolean := false;
begin
  select * into v_progress from eve.rollup_progress p for update;
  if v_state ->> 'until' is null then
    v_from := v_progress.rolled_until - v_overlap;
    if v_from is null then
      -- The first rows by number are nearly the oldest.
      select least(
        (select r.finished_at from eve.requests r order by r.request_no limit 1),
        (select a.settled_at from eve.attempts a order by a.request_no, a.attempt limit 1),
        (select f.refused_at from eve.refusals f order by f.id limit 1), rollup_step.now_at
      ) - interval '2 days'
      into v_from;
    end if;
    v_until := least(greatest(v_from, v_progress.rolled_until) + v_stretch, rollup_step.now_at);
    select jsonb_build_object(
      'until', v_until, 'hours', coalesce(jsonb_agg(c.hour order by c.hour), '[]'),
      'days', coalesce(jsonb_agg(distinct eve.pacific_day((extract(epoch from c.hour) * 1000)::bigint)), '[]'),
      'summed', coalesce((v_state ->> 'summed')::integer, 0)
    )
    into v_state
    from eve.changed_hours(v_from, case when v_until < rollup_step.now_at then v_until else 'infinity' end) as c (hour)
    where c.hour is not null;
  end if;

  while clock_timestamp() - v_began < v_step_time and not v_done loop
    if jsonb_array_length(v_state -> 'hours') > 0 then
      -- An hour that retention has been at keeps the sum it has.
      if (v_state -> 'hours' ->> 0)::timestamptz >= eve.first_whole_hour(v_progress.frozen_before) then
        v_count := v_count + eve.roll_hour((v_state -> 'hours' ->> 0)::timestamptz);
      end if;
      v_state := v_state || jsonb_build_object('hours', (v_state -> 'hours') - 0, 'summed', (v_state ->> 'summed')::integer + 1);
    elsif jsonb_array_length(v_state -> 'days') > 0 then
      -- And so does a day whose hours are partly gone.
      if ((v_state -> 'days' ->> 0)::date)::timestamp at time zone 'America/Los_Angeles'
        >= coalesce(v_progress.hours_frozen_before, '-infinity') then
        v_count := v_count + eve.roll_day((v_state -> 'days' ->> 0)::date);
      end if;
      v_state := v_state || jsonb_build_object('days', (v_state -> 'days') - 0);
    else
      update eve.rollup_progress p set rolled_until = (v_state ->> 'until')::timestamptz;
      v_done := (v_state ->> 'until')::timestamptz >= rollup_step.now_at;
      v_state := jsonb_build_object('summed', v_state -> 'summed', 'rolled_until', v_state -> 'until');
      exit;
    end if;
  end loop;
  return jsonb_build_object(
    'done', v_done, 'count', v_count, 'tables', array['eve.usage_days', 'eve.usage_hours'],
    'details', jsonb_strip_nulls(
      jsonb_build_object('hours_summed', v_state -> 'summed', 'rolled_until', v_state -> 'rolled_until')
    ),
    'state', v_state
  );
end;
$$;

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
        select f.code || coalesce(':' || f.limit_name, '') as reason, count(*) as times
        from eve.refusals f
        where f.refused_at >= v_from and f.refused_at < v_until
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

-- Brings the sums up to now in one transaction, for whoever is about to read them: {"status", "rolled_until"}.
create or replace function public.eve_rollup(at_most_ms integer default 5000)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_began constant timestamptz := clock_timestamp();
  v_run constant jsonb := eve.begin_run('rollup', 'call');
  v_step jsonb;
begin
  while v_run ->> 'status' = 'running' loop
    v_step := eve.step_run((v_run ->> 'run_id')::bigint);
    exit when (v_step ->> 'done')::boolean;
    if clock_timestamp() - v_began > eve_rollup.at_most_ms * interval '1 millisecond' then
      perform public.eve_maintenance_end(
        (v_run ->> 'run_id')::bigint, 'succeeded', array(select jsonb_array_elements_text(v_step -> 'tables')),
        (v_step ->> 'count')::bigint, v_step -> 'details', more => true
      );
      exit;
    end if;
  end loop;
  return jsonb_strip_nulls(
    jsonb_build_object(
      'status', coalesce(v_step ->> 'status', v_run ->> 'status'), 'error', v_step ->> 'error',
      'rolled_until', (select p.rolled_until from eve.rollup_progress p)
    )
  );
end;
$$;
comment on function public.eve_rollup is 'Sums up what the audit has gained since the last rollup. Says skipped while another rollup is on, and running when it did not come to the end.';

-- Throws the sums since a time away, so that the next rollup makes them anew from the audit. What retention has been at stays.
create or replace function public.eve_rollup_rebuild(since timestamptz default '-infinity')
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_progress eve.rollup_progress;
  v_from timestamptz;
begin
  if eve_rollup_rebuild.since is null then
    raise exception 'since must be a time' using errcode = 'EV400';
  end if;
  select * into v_progress from eve.rollup_progress p for update;
  v_from := greatest(
    eve.first_whole_hour(v_progress.frozen_before), date_trunc('hour', eve_rollup_rebuild.since, 'UTC')
  );
  delete from eve.usage_hours h where h.hour >= v_from;
  delete from eve.usage_days d
  where d.day::timestamp at time zone 'America/Los_Angeles' >= greatest(v_from, v_progress.hours_frozen_before);
  update eve.rollup_progress p set rolled_until = nullif(v_from, '-infinity');
  return jsonb_build_object('from', nullif(v_from, '-infinity'));
end;
$$;
comment on function public.eve_rollup_rebuild is 'Has the hourly and daily sums made anew from the audit, as far back as the audit goes.';

create or replace function public.eve_report(day date default null)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select eve.report_of(coalesce(eve_report.day, eve.pacific_day(eve.clock_ms()) - 1));
$$;
comment on function public.eve_report is 'A Pacific day in numbers; without one, yesterday.';
