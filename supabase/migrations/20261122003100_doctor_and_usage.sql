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
      'kept', (
        select count(*) from eve.refusals f where f.refused_at > eve.clock() - interval '1 hour' and f.attempt <= 1
      ),
      'counted', (
        select coalesce(sum(c.times), 0)
        from eve.refusal_counts c
        where c.minute > eve.clock() - interval '1 hour' and c.is_first
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

-- What the sums of [since, until) are read from: whole Pacific days as days, which are a twentieth of the rows, but for those whose
-- hours have changed since they were summed; the edges, and sums by the hour, as hours. `since` is taken down to the hour and `until`
-- up, and where hours are no longer kept to the day; or, by the hour, to the first one that is.
create or replace function eve.usage_cover(
  is_hourly boolean, inout since timestamptz, inout until timestamptz, out day_from date, out day_until date, out stale date[],
  out lower timestamptz[], out upper timestamptz[]
)
language plpgsql
stable
set search_path = ''
as $$
declare
  v_pacific constant text := 'America/Los_Angeles';
  v_instant constant interval := '1 microsecond';
  v_frozen constant timestamptz := (select p.hours_frozen_before from eve.rollup_progress p);
begin
  if usage_cover.since is null or usage_cover.since >= usage_cover.until then
    raise exception 'since must be before until' using errcode = 'EV400';
  end if;
  usage_cover.since := date_trunc('hour', usage_cover.since, 'UTC');
  usage_cover.until := coalesce(date_trunc('hour', usage_cover.until - v_instant, 'UTC') + interval '1 hour', 'infinity');
  usage_cover.stale := '{}';
  if usage_cover.is_hourly then
    usage_cover.since := least(greatest(usage_cover.since, eve.first_whole_hour(v_frozen)), usage_cover.until);
    usage_cover.lower := array[usage_cover.since];
    usage_cover.upper := array[usage_cover.until];
    return;
  end if;
  -- Days whose hours are gone, in part or wholly, are read as days.
  if date_trunc('day', usage_cover.since, v_pacific) < v_frozen then
    usage_cover.since := date_trunc('day', usage_cover.since, v_pacific);
  end if;
  if date_trunc('day', usage_cover.until - v_instant, v_pacific) < v_frozen then
    usage_cover.until := (
      date_trunc('day', (usage_cover.until - v_instant) at time zone v_pacific) + interval '1 day'
    ) at time zone v_pacific;
  end if;
  usage_cover.day_from := (usage_cover.since at time zone v_pacific)::date;
  if usage_cover.day_from::timestamp at time zone v_pacific < usage_cover.since then
    usage_cover.day_from := usage_cover.day_from + 1;
  end if;
  usage_cover.day_until := (usage_cover.until at time zone v_pacific)::date;
  if usage_cover.day_from >= usage_cover.day_until then
    usage_cover.lower := array[usage_cover.since];
    usage_cover.upper := array[usage_cover.until];
    return;
  end if;
  select coalesce(array_agg(due.day), '{}') into usage_cover.stale
  from (select (d.at at time zone v_pacific)::date as day from eve.rollup_due d where d.unit = 'day') due
  where due.day >= usage_cover.day_from and due.day < usage_cover.day_until
    and due.day::timestamp at time zone v_pacific >= coalesce(v_frozen, '-infinity');
  select array_agg(piece.lower), array_agg(piece.upper) into usage_cover.lower, usage_cover.upper
  from (
    select usage_cover.since as lower, usage_cover.day_from::timestamp at time zone v_pacific as upper
    union all
    select usage_cover.day_until::timestamp at time zone v_pacific, usage_cover.until
    union all
    select s.day::timestamp at time zone v_pacific, (s.day + 1)::timestamp at time zone v_pacific
    from unnest(usage_cover.stale) as s (day)
  ) piece
  where piece.lower < piece.upper;
end;
$$;

-- The sums that eve.usage_cover says, by what is asked for, and in any case by model, whose prices differ: `usd` is what the tokens
-- cost in US dollars, or would have cost where is_free; with is_unknown it is more than that.
create or replace function eve.usage_by_model(
  by text[], since timestamptz, until timestamptz, consumer_id uuid, model text, key_id uuid
)
returns table (
  day date, hour timestamptz, consumer uuid, used_model text, used_key uuid, endpoint text, requests numeric, succeeded numeric,
  failed numeric, cancelled numeric, expired numeric, refused numeric, attempts numeric, dispatched numeric,
  upstream_refused numeric, input_tokens numeric, output_tokens numeric, thoughts_tokens numeric, cached_tokens numeric,
  wait_ms numeric, latency_ms numeric, is_free boolean, usd numeric, is_unknown boolean
)
language plpgsql
stable
set search_path = ''
set jit = 'off'
-- A plan that is kept for any grouping sorts 100,000 rows: 2 s in place of 0.1.
set plan_cache_mode = 'force_custom_plan'
set work_mem = '32MB'
as $$
declare
  v_pacific constant text := 'America/Los_Angeles';
  v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  v_by_day constant boolean := 'day' = any (usage_by_model.by);
  v_hourly constant boolean := 'hour' = any (usage_by_model.by);
  v_by_consumer constant boolean := 'consumer' = any (usage_by_model.by);
  v_by_key constant boolean := 'key' = any (usage_by_model.by);
  v_by_endpoint constant boolean := 'endpoint' = any (usage_by_model.by);
  v_day_from date;
  v_day_until date;
  v_stale date[];
  v_lower timestamptz[];
  v_upper timestamptz[];
begin
  select c.day_from, c.day_until, c.stale, c.lower, c.upper
  into v_day_from, v_day_until, v_stale, v_lower, v_upper
  from eve.usage_cover(v_hourly, usage_by_model.since, usage_by_model.until) c;
  return query
  with pieces as (
    select case when v_by_day then (h.hour at time zone v_pacific)::date end as day, case when v_hourly then h.hour end as hour,
      h.consumer_id, h.model, h.key_id, h.endpoint, h.requests, h.succeeded, h.failed, h.cancelled, h.expired, h.refused,
      h.attempts, h.dispatched, h.upstream_refused, h.input_tokens, h.output_tokens, h.thoughts_tokens, h.cached_tokens,
      h.wait_ms, h.latency_ms
    from unnest(v_lower, v_upper) as piece (lower, upper)
    join eve.usage_hours h on h.hour >= piece.lower and h.hour < piece.upper
    union all
    select case when v_by_day then d.day end, null, d.consumer_id, d.model, d.key_id, d.endpoint, d.requests, d.succeeded,
      d.failed, d.cancelled, d.expired, d.refused, d.attempts, d.dispatched, d.upstream_refused, d.input_tokens,
      d.output_tokens, d.thoughts_tokens, d.cached_tokens, d.wait_ms, d.latency_ms
    from eve.usage_days d
    where d.day >= v_day_from and d.day < v_day_until and d.day <> all (v_stale)
  ), sums as (
    select p.day, p.hour, case when v_by_consumer then coalesce(p.consumer_id, v_nobody) end as consumer_id, p.model,
      case when v_by_key then p.key_id end as key_id, case when v_by_endpoint then p.endpoint end as endpoint,
      sum(p.requests) as requests, sum(p.succeeded) as succeeded, sum(p.failed) as failed, sum(p.cancelled) as cancelled,
      sum(p.expired) as expired, sum(p.refused) as refused, sum(p.attempts) as attempts, sum(p.dispatched) as dispatched,
      sum(p.upstream_refused) as upstream_refused, sum(p.input_tokens) as input, sum(p.output_tokens) as output,
      sum(p.thoughts_tokens) as thoughts, sum(p.cached_tokens) as cached, sum(p.wait_ms) as wait_ms,
      sum(p.latency_ms) as latency_ms
    from pieces p
    where (usage_by_model.consumer_id is null or coalesce(p.consumer_id, v_nobody) = usage_by_model.consumer_id)
      and (usage_by_model.model is null or p.model = usage_by_model.model)
      and (usage_by_model.key_id is null or p.key_id = usage_by_model.key_id)
    group by 1, 2, 3, 4, 5, 6
  )
  select s.day, s.hour, s.consumer_id, s.model, s.key_id, s.endpoint, s.requests, s.succeeded, s.failed, s.cancelled, s.expired,
    s.refused, s.attempts, s.dispatched, s.upstream_refused, s.input, s.output, s.thoughts, s.cached, s.wait_ms, s.latency_ms,
    coalesce(k.is_free, false),
    (
      (s.input - least(s.cached, s.input)) * coalesce(k.input_usd, 0)
      + least(s.cached, s.input) * coalesce(k.cached_usd, k.input_usd, 0) + (s.output + s.thoughts) * coalesce(k.output_usd, 0)
    ) / 1000000,
    -- What was never used costs nothing, whether its price is known or not.
    k.input_usd is null and s.input > 0 or k.output_usd is null and s.output + s.thoughts > 0
  from sums s
  left join eve.model_prices k on k.model = s.model;
end;
$$;

-- Sums of the audit by any of day (Pacific), hour, consumer, model, key and endpoint. They come from the rollups, which keep what
-- retention has long deleted; bring those up to now with public.eve_rollup first, and the sums are of everything that has
-- ended. The answer says what is covered (eve.usage_cover). `top`: of the first of `by` only the so many largest, and all others
-- together as `others`. Cost is in US dollars by the prices of now: paid_usd, and what calls in a free tier would have cost,
-- free_usd. Where a price is not known paid_unknown or free_unknown says that it is more than that.
create or replace function public.eve_usage(
  by text[] default '{day}',
  since timestamptz default null,
  until timestamptz default null,
  consumer text default null,
  model text default null,
  key text default null,
  at_most integer default 1000,
  top integer default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
set jit = 'off'
set plan_cache_mode = 'force_custom_plan'
set work_mem = '32MB'
as $$
declare
  v_known constant text[] := array['day', 'hour', 'consumer', 'model', 'key', 'endpoint'];
  v_since timestamptz := coalesce(eve_usage.since, eve.clock() - interval '7 days');
  v_until timestamptz := eve_usage.until;
  v_consumer_id constant uuid := eve.consumer_id_of(eve_usage.consumer);
  v_key_id constant uuid := eve.key_id_of(eve_usage.key);
  v_answer jsonb;
begin
  if eve_usage.by is null or cardinality(eve_usage.by) = 0 or not eve_usage.by <@ v_known then
    raise exception 'by must be some of %', array_to_string(v_known, ', ') using errcode = 'EV400';
  elsif eve_usage.top not between 1 and 100 then
    raise exception 'top must be 1 to 100' using errcode = 'EV400';
  elsif eve_usage.top is not null and eve_usage.by[1] in ('day', 'hour') then
    raise exception 'top needs consumer, model, key or endpoint first in by' using errcode = 'EV400';
  end if;
  select c.since, c.until into v_since, v_until from eve.usage_cover('hour' = any (eve_usage.by), v_since, v_until) c;
  with used as materialized (
    select u.*,
      case eve_usage.by[1]
        when 'consumer' then u.consumer::text
        when 'model' then u.used_model
        when 'key' then coalesce(u.used_key::text, '')
        when 'endpoint' then u.endpoint
      end as head
    from eve.usage_by_model(eve_usage.by, v_since, v_until, v_consumer_id, eve_usage.model, v_key_id) u
  ), ranks as materialized (
    select u.head, row_number() over (order by sum(u.requests + u.refused) desc, u.head) <= eve_usage.top as is_named
    from used u
    where eve_usage.top is not null
    group by u.head
  ), named as (
    select u.*, coalesce(r.is_named, true) as is_named
    from used u
    left join ranks r on r.head = u.head
  ), sums as materialized (
    select grouping(n.is_named) = 1 as is_total, n.is_named, case when n.is_named then n.day end as day,
      case when n.is_named then n.hour end as hour, case when n.is_named then n.consumer end as consumer_id,
      case when n.is_named and 'model' = any (eve_usage.by) then n.used_model end as model,
      case when n.is_named then n.used_key end as key_id, case when n.is_named then n.endpoint end as endpoint,
      jsonb_build_object(
        'requests', coalesce(sum(n.requests), 0), 'succeeded', coalesce(sum(n.succeeded), 0),
        'failed', coalesce(sum(n.failed), 0), 'cancelled', coalesce(sum(n.cancelled), 0),
        'expired', coalesce(sum(n.expired), 0), 'refused', coalesce(sum(n.refused), 0),
        'attempts', coalesce(sum(n.attempts), 0), 'dispatched', coalesce(sum(n.dispatched), 0),
        'upstream_refused', coalesce(sum(n.upstream_refused), 0), 'input_tokens', coalesce(sum(n.input_tokens), 0),
        'output_tokens', coalesce(sum(n.output_tokens), 0), 'thoughts_tokens', coalesce(sum(n.thoughts_tokens), 0),
        'cached_tokens', coalesce(sum(n.cached_tokens), 0), 'wait_ms', coalesce(sum(n.wait_ms), 0),
        'latency_ms', coalesce(sum(n.latency_ms), 0),
        'paid_usd', trim_scale(coalesce(sum(n.usd) filter (where not n.is_free), 0)),
        'free_usd', trim_scale(coalesce(sum(n.usd) filter (where n.is_free), 0)),
        'paid_unknown', coalesce(bool_or(n.is_unknown and not n.is_free), false),
        'free_unknown', coalesce(bool_or(n.is_unknown and n.is_free), false)
      ) as figures,
      sum(n.requests + n.refused) as size
    from named n
    group by grouping sets ((2, 3, 4, 5, 6, 7, 8), ())
  )
  select jsonb_build_object(
    'totals', (select s.figures from sums s where s.is_total),
    'others', (select s.figures from sums s where not s.is_total and not s.is_named),
    'others_of', (select count(*) from ranks r where not r.is_named),
    'rows_of', (select count(*) from sums s where not s.is_total and s.is_named),
    'unpriced', (
      select coalesce(jsonb_agg(m.used_model order by m.used_model), '[]')
      from (select distinct u.used_model from used u where u.is_unknown order by u.used_model limit 100) m
    ),
    'rows', (
      select coalesce(jsonb_agg(page.names || page.figures order by page.place), '[]')
      from (
        select s.figures, row_number() over (order by s.day, s.hour, s.size desc, s.model, s.key_id, s.consumer_id, s.endpoint) as place,
          (
            select jsonb_object_agg(
              b.name,
              case b.name
                when 'day' then to_jsonb(s.day)
                when 'hour' then to_jsonb(s.hour)
                when 'consumer' then to_jsonb(
                  coalesce((select c.name from eve.consumers c where c.id = s.consumer_id), s.consumer_id::text)
                )
                when 'model' then to_jsonb(s.model)
                when 'key' then to_jsonb(
                  coalesce((select k.key_alias from public.google_ai_api_keys k where k.id = s.key_id), s.key_id::text)
                )
                when 'endpoint' then to_jsonb(s.endpoint)
              end
            )
            from unnest(eve_usage.by) as b (name)
          ) as names
        from sums s
        where not s.is_total and s.is_named
        order by place
        limit least(greatest(eve_usage.at_most, 1), 10000)
      ) page
    )
  )
  into v_answer;
  return v_answer || jsonb_build_object(
    'by', to_jsonb(eve_usage.by), 'since', v_since, 'until', nullif(v_until, 'infinity'),
    'complete_until', (select p.rolled_until from eve.rollup_progress p)
  );
end;
$$;
comment on function public.eve_usage is 'Requests, refusals, attempts, tokens, times and cost summed by day (Pacific), hour, consumer, model, key and endpoint. Complete up to complete_until; call eve_rollup before.';
