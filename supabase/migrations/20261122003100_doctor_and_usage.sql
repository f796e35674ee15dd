-- Reading how the installation is, and what has been used.

-- What the platform keeps about the project. With the rights of the migrations' owner, because the history of migrations,
-- the schedule's jobs and pg_net's answers are not the service role's to read. It takes no argument, and tells names and
-- times alone, no secret; and sums of the migrations' texts, in which neither white space nor semicolons count
-- (local/migration_sums.ts). Each is read only where it is, so that a project without one of the extensions gets an answer too.
create or replace function eve.platform_facts()
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_migrations jsonb;
  v_sums jsonb;
  v_jobs jsonb;
  v_http jsonb;
  v_vault jsonb;
begin
  -- A platform that keeps one of these to itself, or names its columns otherwise, leaves that fact unknown.
  begin
    if to_regclass('supabase_migrations.schema_migrations') is not null then
      execute 'select coalesce(jsonb_agg(m.version order by m.version), ''[]'') from supabase_migrations.schema_migrations m'
      into v_migrations;
      execute $sql$
        select jsonb_object_agg(
          m.version,
          encode(sha256(convert_to(translate(
            (
              select string_agg(s.text, '' order by s.place)
              from jsonb_array_elements_text(to_jsonb(m) -> 'statements') with ordinality s (text, place)
            ), E' \t\r\n;', ''
          ), 'UTF8')), 'hex')
        )
        from supabase_migrations.schema_migrations m
        where jsonb_typeof(to_jsonb(m) -> 'statements') = 'array'
      $sql$
      into v_sums;
    end if;
  exception
    when insufficient_privilege or undefined_column then
      null;
  end;
  begin
    if to_regclass('cron.job') is not null and to_regclass('cron.job_run_details') is not null then
      execute $sql$
        select coalesce(
          jsonb_agg(
            jsonb_build_object(
              'name', j.jobname, 'schedule', j.schedule, 'active', j.active, 'last', to_jsonb(last), 'last_ok_at', ok.end_time
            )
            order by j.jobname
          ),
          '[]'
        )
        from cron.job j
        left join lateral (
          select d.status, left(d.return_message, 500) as message, d.start_time as started_at, d.end_time as ended_at
          from cron.job_run_details d
          where d.jobid = j.jobid and d.status not in ('starting', 'running')
          order by d.runid desc
          limit 1
        ) last on true
        left join lateral (
          select d.end_time
          from cron.job_run_details d
          where d.jobid = j.jobid and d.status = 'succeeded'
          order by d.runid desc
          limit 1
        ) ok on last.status is distinct from null
        where j.jobname like 'eve\_%'
      $sql$
      into v_jobs;
    end if;
  exception
    when insufficient_privilege or undefined_column then
      null;
  end;
  begin
    if to_regclass('net._http_response') is not null then
      execute $sql$
        select jsonb_build_object(
          'answered', count(*) filter (where r.status_code between 200 and 299),
          'refused', count(*) filter (where r.status_code >= 300),
          'unanswered', count(*) filter (where r.status_code is null),
          'last_error', (array_agg(left(coalesce(r.error_msg, r.status_code::text), 300) order by r.created desc)
            filter (where r.status_code is null or r.status_code >= 300))[1]
        )
        from net._http_response r
        where r.created > now() - interval '1 hour'
      $sql$
      into v_http;
    end if;
  exception
    when insufficient_privilege or undefined_column then
      null;
  end;
  begin
    if to_regclass('vault.secrets') is not null then
      execute 'select coalesce(jsonb_agg(s.name order by s.name), ''[]'') from vault.secrets s where s.name like ''eve\_%'''
      into v_vault;
    end if;
  exception
    when insufficient_privilege or undefined_column then
      null;
  end;
  return jsonb_build_object(
    'migrations', v_migrations, 'migration_sums', coalesce(v_sums, '{}'), 'jobs', v_jobs, 'http_last_hour', v_http, 'vault_names', v_vault
  );
end;
$$;
comment on function eve.platform_facts is 'Migrations, scheduled jobs with their last runs, answers to scheduled calls, and names of the gateway''s secrets in Vault.';

create or replace function public.eve_doctor()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select eve.platform_facts() || jsonb_build_object(
    'now', eve.clock(), 'server_version', current_setting('server_version'),
    'extensions', (
      select jsonb_agg(
        jsonb_build_object(
          'name', wanted.name, 'installed', e.extversion, 'available', a.default_version,
          -- The local stack's stand-ins have the schema without the extension.
          'schema', exists (select from pg_catalog.pg_namespace n where n.nspname = wanted.schema)
        )
        order by wanted.name
      )
      from (values ('pg_cron', 'cron'), ('pg_net', 'net'), ('supabase_vault', 'vault')) as wanted (name, schema)
      left join pg_catalog.pg_extension e on e.extname = wanted.name
      left join pg_catalog.pg_available_extensions a on a.name = wanted.name
    ),
    'settings', (select coalesce(jsonb_object_agg(s.name, s.value), '{}') from eve.settings s),
    'models', (select count(*) from public.google_ai_model_limits m where m.is_active and m.replaced_by is null),
    'alerts', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object('id', a.id, 'kind', a.kind, 'severity', a.severity, 'message', a.message, 'opened_at', a.opened_at)
          order by a.opened_at
        ),
        '[]'
      )
      from eve.alerts a
      where a.closed_at is null
    ),
    -- Reservations that nobody closed a minute after their lease: the sweep does not run, and no call came by either.
    'overdue', (select count(*) from eve.inflight i where i.lease_until < eve.clock() - interval '1 minute'),
    -- kept: with a row in eve.refusals; counted: beyond the rate that is kept, in eve.refusal_counts.
    'refused_last_hour', jsonb_build_object(
      'kept', (select count(*) from eve.refusals f where f.refused_at > eve.clock() - interval '1 hour'),
      'counted', (
        select coalesce(sum(c.times), 0) from eve.refusal_counts c where c.minute > eve.clock() - interval '1 hour'
      )
    ),
    -- within_s: the longest time between two starts that is no fault; null: it is not expected to run.
    'operations', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'operation', o.name, 'runs_in', o.runs_in, 'schedule', o.schedule, 'is_active', o.is_active,
            'within_s', e.within_s, 'expected_since', e.since, 'is_running', o.run_id is not null,
            'last_status', o.last_status, 'last_error', o.last_error, 'last_started_at', o.last_started_at,
            'last_completed_at', o.last_completed_at, 'last_succeeded_at', o.last_succeeded_at,
            'last_idle_at', o.last_idle_at, 'idle_runs', o.idle_runs
          )
          order by o.name
        ),
        '[]'
      )
      from eve.operations o
      left join eve.maintenance_expected e on e.operation = o.name
    ),
    'database_bytes', pg_database_size(current_database())
  );
$$;
comment on function public.eve_doctor is 'Facts for a check of the whole project: clock, migrations, extensions, jobs and their last runs, answers to scheduled calls, alerts, maintenance.';

-- Sums of the audit by any of day (Pacific), hour, consumer, model, key and endpoint. They come from the rollups, which keep what
-- retention has long deleted; bring those up to now with public.eve_rollup first, and the sums are of everything that has
-- ended. Whole hours are counted: `since` is taken down to the hour and `until` up.
create or replace function public.eve_usage(
  by text[] default '{day}',
  since timestamptz default null,
  until timestamptz default null,
  consumer text default null,
  model text default null,
  key text default null,
  at_most integer default 1000
)
returns jsonb
language plpgsql
stable
set search_path = ''
set jit = 'off'
as $$
declare
  v_known constant text[] := array['day', 'hour', 'consumer', 'model', 'key', 'door'];
  v_now constant timestamptz := eve.clock();
  v_since constant timestamptz := date_trunc('hour', coalesce(eve_usage.since, v_now - interval '7 days'), 'UTC');
  v_until constant timestamptz := coalesce(
    date_trunc('hour', eve_usage.until - interval '1 microsecond', 'UTC') + interval '1 hour', 'infinity'
  );
  v_consumer_id constant uuid := eve.consumer_id_of(eve_usage.consumer);
  v_key_id constant uuid := eve.key_id_of(eve_usage.key);
  v_hourly constant boolean := 'hour' = any (eve_usage.by);
  v_rows jsonb;
  v_totals jsonb;
begin
  if eve_usage.by is null or cardinality(eve_usage.by) = 0 or not eve_usage.by <@ v_known then
    raise exception 'by must be some of %', array_to_string(v_known, ', ') using errcode = 'EV400';
  elsif v_since >= v_until then
    raise exception 'since must be before until' using errcode = 'EV400';
  end if;
  with frozen as (
    -- Days whose hours are gone, in part or wholly, are read as days.
    select coalesce(p.hours_frozen_before, '-infinity') as before from eve.rollup_progress p
  ), pieces as (
    select h.hour, eve.pacific_day((extract(epoch from h.hour) * 1000)::bigint) as day, h.consumer_id, h.model, h.key_id,
      h.endpoint, h.requests, h.succeeded, h.failed, h.cancelled, h.expired, h.refused, h.attempts, h.dispatched,
      h.upstream_refused, h.input_tokens, h.output_tokens, h.thoughts_tokens, h.cached_tokens, h.wait_ms, h.latency_ms
    from eve.usage_hours h
    where h.hour >= v_since and h.hour < v_until
    union all
    select null, d.day, d.consumer_id, d.model, d.key_id, d.endpoint, d.requests, d.succeeded, d.failed, d.cancelled, d.expired,
      d.refused, d.attempts, d.dispatched, d.upstream_refused, d.input_tokens, d.output_tokens, d.thoughts_tokens,
      d.cached_tokens, d.wait_ms, d.latency_ms
    from eve.usage_days d
    cross join frozen
    where not v_hourly and d.day::timestamp at time zone 'America/Los_Angeles' < frozen.before
      and d.day::timestamp at time zone 'America/Los_Angeles' >= v_since
      and d.day::timestamp at time zone 'America/Los_Angeles' < v_until
  ), hours as (
    select
      case when v_hourly then p.hour end as hour,
      case when 'day' = any (eve_usage.by) then p.day end as day,
      case when 'consumer' = any (eve_usage.by) then coalesce(p.consumer_id, '00000000-0000-0000-0000-000000000000') end as consumer_id,
      case when 'model' = any (eve_usage.by) then p.model end as model,
      case when 'key' = any (eve_usage.by) then p.key_id end as key_id,
      case when 'door' = any (eve_usage.by) then p.endpoint end as endpoint,
      p.requests, p.succeeded, p.failed, p.cancelled, p.expired, p.refused, p.attempts, p.dispatched, p.upstream_refused,
      p.input_tokens, p.output_tokens, p.thoughts_tokens, p.cached_tokens, p.wait_ms, p.latency_ms
    from pieces p
    cross join frozen
    where (v_consumer_id is null or coalesce(p.consumer_id, '00000000-0000-0000-0000-000000000000') = v_consumer_id)
      and (eve_usage.model is null or p.model = eve_usage.model)
      and (v_key_id is null or p.key_id = v_key_id)
      and (v_hourly or p.hour is null or p.day::timestamp at time zone 'America/Los_Angeles' >= frozen.before)
  ), sums as (
    select grouping(h.day, h.hour, h.consumer_id, h.model, h.key_id, h.endpoint) = 63 as is_total, h.day, h.hour, h.consumer_id,
      h.model, h.key_id, h.endpoint,
      jsonb_build_object(
        'requests', coalesce(sum(h.requests), 0), 'succeeded', coalesce(sum(h.succeeded), 0),
        'failed', coalesce(sum(h.failed), 0), 'cancelled', coalesce(sum(h.cancelled), 0),
        'expired', coalesce(sum(h.expired), 0), 'refused', coalesce(sum(h.refused), 0),
        'attempts', coalesce(sum(h.attempts), 0), 'dispatched', coalesce(sum(h.dispatched), 0),
        'upstream_refused', coalesce(sum(h.upstream_refused), 0), 'input_tokens', coalesce(sum(h.input_tokens), 0),
        'output_tokens', coalesce(sum(h.output_tokens), 0), 'thoughts_tokens', coalesce(sum(h.thoughts_tokens), 0),
        'cached_tokens', coalesce(sum(h.cached_tokens), 0), 'wait_ms', coalesce(sum(h.wait_ms), 0),
        'latency_ms', coalesce(sum(h.latency_ms), 0)
      ) as figures,
      sum(h.requests) as requests
    from hours h
    group by grouping sets ((h.day, h.hour, h.consumer_id, h.model, h.key_id, h.endpoint), ())
  )
  select
    (select t.figures from sums t where t.is_total),
    (
      select coalesce(jsonb_agg(page.one order by page.place), '[]')
      from (
        select
          row_number() over (order by s.day, s.hour, s.requests desc, s.model, s.key_id, s.consumer_id, s.endpoint) as place,
          case when 'day' = any (eve_usage.by) then jsonb_build_object('day', s.day) else '{}' end
          || case when v_hourly then jsonb_build_object('hour', s.hour) else '{}' end
          || case when 'consumer' = any (eve_usage.by) then jsonb_build_object(
            'consumer', coalesce((select c.name from eve.consumers c where c.id = s.consumer_id), s.consumer_id::text)
          ) else '{}' end
          || case when 'model' = any (eve_usage.by) then jsonb_build_object('model', s.model) else '{}' end
          || case when 'key' = any (eve_usage.by) then jsonb_build_object(
            'key', coalesce((select k.key_alias from public.google_ai_api_keys k where k.id = s.key_id), s.key_id::text)
          ) else '{}' end
          || case when 'door' = any (eve_usage.by) then jsonb_build_object('door', s.endpoint) else '{}' end
          || s.figures as one
        from sums s
        where not s.is_total
        order by place
        limit least(greatest(eve_usage.at_most, 1), 10000)
      ) page
    )
  into v_totals, v_rows;
  return jsonb_build_object(
    'by', to_jsonb(eve_usage.by), 'since', v_since, 'until', nullif(v_until, 'infinity'),
    'complete_until', (select p.rolled_until from eve.rollup_progress p), 'rows', v_rows, 'totals', v_totals
  );
end;
$$;
comment on function public.eve_usage is 'Requests, refusals, attempts, tokens and times summed by day (Pacific), hour, consumer, model, key and endpoint. Complete up to complete_until; call eve_rollup before.';
