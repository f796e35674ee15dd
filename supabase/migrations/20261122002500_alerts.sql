-- Alerts: opened once, seen while they last, closed when they are over, and sent to people once each time.
--
-- Two sorts of writer: settlements, which see a failure as it happens (eve.open_alert), and public.eve_alerts_evaluate,
-- which looks at the state of things every minute. What has been sent to whom is in eve.alert_deliveries.

set local lock_timeout = '10s';

create or replace function eve.alert_setting(name text, fallback bigint)
returns bigint
language sql
stable
set search_path = ''
as $$
  select coalesce((select s.value from eve.settings s where s.name = alert_setting.name), alert_setting.fallback);
$$;

-- Opens an alert once; seen again, it only says when.
create or replace function eve.open_alert(kind text, subject text, severity text, message text)
returns void
language sql
volatile
set search_path = ''
as $$
  insert into eve.alerts as a (kind, subject, severity, message, opened_at, last_seen_at)
  values (
    open_alert.kind, left(open_alert.subject, 500), open_alert.severity, left(open_alert.message, 2000), eve.clock(), eve.clock()
  )
  on conflict (kind, subject) where closed_at is null do update
  set last_seen_at = excluded.last_seen_at, message = excluded.message, severity = excluded.severity;
$$;

create or replace function eve.end_alerts(kinds text[], subject_begins text)
returns integer
language sql
volatile
set search_path = ''
as $$
  with closed as (
    update eve.alerts a
    set closed_at = eve.clock()
    where a.closed_at is null and a.kind = any (end_alerts.kinds)
      and starts_with(a.subject, end_alerts.subject_begins)
    returning 1
  )
  select count(*)::integer from closed;
$$;
comment on function eve.end_alerts is 'Closes the open alerts of some kinds whose subject begins like this.';

create or replace function eve.close_alerts(subject text, kinds text[])
returns void
language sql
volatile
set search_path = ''
as $$
  update eve.alerts a
  set closed_at = now(), last_seen_at = now()
  where a.subject = close_alerts.subject and a.kind = any (close_alerts.kinds) and a.closed_at is null;
$$;
comment on function eve.close_alerts is 'Closes what is over.';

-- Switching a key on is saying that it works: whatever blocks it goes with it.
create or replace function eve.key_switched_on()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if new.blocked_until is not distinct from old.blocked_until then
    new.blocked_until := null;
    new.blocked_reason := null;
  end if;
  return new;
end;
$$;
create or replace trigger eve_key_switched_on
before update of is_active on public.google_ai_api_keys
for each row
when (new.is_active and not coalesce(old.is_active, false) and old.blocked_until > clock_timestamp())
execute function eve.key_switched_on();

-- A key that may be used again, by whatever hand, and one that is gone: nothing about it is left to look at.
create or replace function eve.key_alerts_over()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform eve.end_alerts(
    case tg_op
      when 'DELETE' then array['key_disabled', 'secret_missing', 'model_unavailable']
      else array['key_disabled', 'secret_missing']
    end,
    old.id::text
  );
  return null;
exception
  -- Anyone who may write the key's row need not be let into schema eve: the next evaluation sees it as well.
  when insufficient_privilege then
    return null;
end;
$$;
create or replace trigger eve_key_alerts_over
after update of is_active, blocked_until, blocked_reason on public.google_ai_api_keys
for each row
when (
  new.is_active and (new.blocked_until is null or new.blocked_until <= clock_timestamp())
  and (not coalesce(old.is_active, false) or old.blocked_until > clock_timestamp() or old.blocked_reason is not null)
)
execute function eve.key_alerts_over();
create or replace trigger eve_key_alerts_gone
after delete on public.google_ai_api_keys
for each row
execute function eve.key_alerts_over();

create or replace function eve.alert_deleted()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  delete from eve.alert_deliveries d where d.alert_id = old.id;
  return null;
end;
$$;
create or replace trigger eve_alert_deleted
after delete on eve.alerts
for each row
execute function eve.alert_deleted();

-- Keys that the gateway does not use although they are meant to work, models barred from a key, secrets that are not set.
-- missing_secrets: keys whose secret was looked for in vain; null: nobody has looked.
create or replace function eve.alert_keys(missing_secrets uuid[])
returns table (kind text, subject text, severity text, message text, details jsonb)
language sql
volatile
set search_path = ''
as $$
  select 'key_disabled', k.id::text,
    case when k.is_active and k.blocked_until < 'infinity' then 'warning' else 'critical' end,
    format('Key %s is not used: %s', coalesce(k.key_alias, k.id::text), k.blocked_reason),
    jsonb_build_object('key_alias', k.key_alias, 'quota_project', k.quota_project, 'reason', k.blocked_reason)
  from public.google_ai_api_keys k
  where k.blocked_reason <> 'secret_missing' and (k.is_active is not true or k.blocked_until > eve.clock())
  union all
  select 'secret_missing', k.id::text, 'warning',
    format(
      'Key %s is not used: %s', coalesce(k.key_alias, k.id::text),
      case
        -- A stage's key is kept encrypted as well.
        when k.env_var_name ~ '^(stored|stage):'
          then 'its stored secret cannot be read: ADMIN_SECRET_KEY is not the one that it was stored with, or the secret is gone'
        else 'there is no secret named ' || coalesce(k.env_var_name, '(env_var_name is empty)')
      end
    ),
    jsonb_build_object('key_alias', k.key_alias, 'quota_project', k.quota_project, 'env_var_name', k.env_var_name)
  from public.google_ai_api_keys k
  where k.is_active
    and (k.id = any (alert_keys.missing_secrets) or (k.blocked_reason = 'secret_missing' and k.blocked_until > eve.clock()))
  union all
  select 'model_unavailable', b.key_id::text || ' ' || b.model, 'warning',
    format('Key %s is not used for %s: %s', coalesce(k.key_alias, k.id::text), b.model, b.reason),
    jsonb_build_object('key_alias', k.key_alias, 'model', b.model, 'reason', b.reason)
  from eve.key_model_blocks b
  join public.google_ai_api_keys k on k.id = b.key_id and k.is_active
  where b.blocked_until > eve.clock();
$$;

-- Lanes whose day is used up, by our own count or by upstream's word. One that was found before the hour stays an alert after it.
create or replace function eve.alert_lanes()
returns table (kind text, subject text, severity text, message text, details jsonb)
language sql
volatile
set search_path = ''
as $$
  select 'lane_exhausted', lane.subject, 'warning',
    format(
      'The day''s %s of %s in %s are used up; renewed at midnight in Los Angeles, in %s h',
      case when lane.by_upstream then 'requests, by upstream''s own count,' else lane.rpd || ' requests' end, lane.model,
      lane.keys, round((eve.next_pacific_midnight(eve.clock_ms()) - eve.clock_ms()) / 3600000.0, 1)
    ),
    jsonb_build_object('model', lane.model, 'quota_project', lane.quota_project, 'limit', lane.rpd, 'by_upstream', lane.by_upstream)
  from (
    select l.quota_project || ' ' || l.model as subject, l.quota_project, l.model, k.keys, limits.rpd,
      coalesce(l.blocked_until > eve.clock() and l.blocked_reason = 'upstream_daily_quota', false) as by_upstream,
      case
        when l.day_ends_ms > eve.clock_ms() then l.day_starts
        when eve.next_pacific_midnight(l.day_ends_ms) > eve.clock_ms() then l.next_day_starts
        else 0
      end as used
    from eve.lanes l
    join public.google_ai_model_limits m on m.model = l.model and m.is_active
    join (
      select u.quota_key, string_agg(coalesce(u.key_alias, u.id::text), ', ' order by u.key_alias) as keys
      from public.google_ai_api_keys u
      where u.is_active
      group by u.quota_key
    ) k on k.quota_key = l.quota_project
    left join eve.quota_overrides o on o.quota_project = l.quota_project and o.model = l.model
    cross join lateral (select (case when o.model is null then m.rpd else o.rpd end)::integer as rpd) limits
  ) lane
  where (lane.by_upstream or (lane.rpd > 0 and lane.used >= lane.rpd))
    and (
      extract(hour from eve.clock() at time zone 'America/Los_Angeles') < eve.alert_setting('alert_exhausted_before_hour', 20)
      or exists (
        select
        from eve.alerts a
        where a.closed_at is null and a.kind = 'lane_exhausted' and a.subject = lane.subject
      )
    );
$$;

-- Refusals for want of quota or keys, as a part of all requests of the window. What a caller may not do (a revoked token, a
-- spent budget, a model that is not there) is the caller's own affair and does not count.
create or replace function eve.alert_refusals()
returns table (kind text, subject text, severity text, message text, details jsonb)
language sql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
as $$
  select 'refusals_high', 'gateway', case when counted.without_key > 0 then 'critical' else 'warning' end,
    format(
      '%s of %s requests of the last %s minutes were refused (%s %%), most of them with %s',
      counted.refused, counted.refused + counted.ended, round(counted.seconds / 60.0), counted.refused * 100 / (counted.refused + counted.ended),
      counted.mostly
    ),
    jsonb_build_object('refused', counted.refused, 'requests', counted.refused + counted.ended, 'seconds', counted.seconds, 'mostly', counted.mostly)
  from (
    select since.seconds, refusals.refused, refusals.without_key, refusals.mostly,
      (select count(*) from eve.requests r where r.finished_at > since.at) as ended
    from (
      select eve.alert_setting('alert_window_s', 600) as seconds,
        eve.clock() - eve.alert_setting('alert_window_s', 600) * interval '1 second' as at
    ) since
    cross join lateral (
      select coalesce(sum(s.times), 0)::bigint as refused,
        coalesce(sum(s.times) filter (where s.code = 'no_active_key'), 0) as without_key,
        (array_agg(s.code || coalesce(' (' || s.limit_name || ')', '') order by s.times desc))[1] as mostly
      from (
        select one.code, one.limit_name, sum(one.times) as times
        from (
          select f.code, f.limit_name, 1 as times
          from eve.refusals f
          where f.refused_at > since.at and f.attempt = 1
          union all
          select c.code, nullif(c.limit_name, ''), c.times
          from eve.refusal_counts c
          where c.minute > since.at - interval '1 minute' and c.is_first
        ) one
        where one.code in ('rate_limited', 'daily_limit', 'lane_blocked', 'no_active_key')
        group by one.code, one.limit_name
      ) s
    ) refusals
  ) counted
  where counted.refused >= greatest(eve.alert_setting('alert_refusals_min', 20), 1)
    and counted.refused * 100 >= eve.alert_setting('alert_refusals_percent', 25) * (counted.refused + counted.ended);
$$;

-- Calls that failed on upstream's side, model by model.
create or replace function eve.alert_upstream()
returns table (kind text, subject text, severity text, message text, details jsonb)
language sql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
as $$
  select 'upstream_errors', counted.model, case when counted.failed = counted.calls then 'critical' else 'warning' end,
    format(
      '%s of %s calls of %s in the last %s minutes failed upstream (%s %%), most of them with %s',
      counted.failed, counted.calls, counted.model, round(counted.seconds / 60.0), counted.failed * 100 / counted.calls, counted.mostly
    ),
    jsonb_build_object(
      'model', counted.model, 'failed', counted.failed, 'calls', counted.calls, 'seconds', counted.seconds, 'mostly', counted.mostly
    )
  from (
    select a.model, since.seconds, count(*) as calls, count(*) filter (where fault.upstreams) as failed,
      mode() within group (order by a.error_code) filter (where fault.upstreams) as mostly
    from (
      select eve.alert_setting('alert_window_s', 600) as seconds,
        eve.clock() - eve.alert_setting('alert_window_s', 600) * interval '1 second' as at
    ) since
    join eve.attempts a on a.settled_at > since.at and a.dispatched
    cross join lateral (
      select a.outcome in ('failed', 'expired')
        and a.error_code in (
          'upstream_unavailable', 'upstream_timeout', 'upstream_rate_limited', 'upstream_daily_limit', 'upstream_region',
          'key_rejected', 'model_unavailable', 'lease_expired'
        ) as upstreams
    ) fault
    group by a.model, since.seconds
  ) counted
  where counted.failed >= greatest(eve.alert_setting('alert_upstream_min', 10), 1)
    and counted.failed * 100 >= eve.alert_setting('alert_upstream_percent', 25) * counted.calls;
$$;

-- Operations whose last run failed, and those that should have run and have not. A run that died counts as failed as soon as
-- another one begins.
create or replace function eve.alert_maintenance()
returns table (kind text, subject text, severity text, message text, details jsonb)
language sql
volatile
set search_path = ''
as $$
  select 'maintenance_failed', o.name, 'warning',
    format(
      '%s failed at %s UTC: %s', o.name, to_char(o.last_completed_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
      left(coalesce(o.last_error, 'no reason was written'), 500)
    ),
    jsonb_build_object('operation', o.name, 'completed_at', o.last_completed_at, 'last_succeeded_at', o.last_succeeded_at)
  from eve.operations o
  where o.last_status = 'failed'
  union all
  select 'maintenance_missing', o.name, 'warning',
    format(
      '%s has not run %s, though it is scheduled for %s', o.name,
      case
        when ran.last_at is null then 'at all'
        else 'since ' || to_char(ran.last_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC'
      end, o.schedule
    ),
    jsonb_build_object('operation', o.name, 'last_at', ran.last_at, 'schedule', o.schedule, 'within_s', e.within_s)
  from eve.operations o
  join eve.maintenance_expected e on e.operation = o.name
  cross join lateral (select greatest(o.started_at, o.last_started_at, o.last_idle_at) as last_at) ran
  where o.is_active and o.schedule is not null
    and greatest(ran.last_at, e.since) < eve.clock() - e.within_s * interval '1 second';
$$;

-- A database that is near the end of its disk. A full one takes no reservation any more.
create or replace function eve.alert_disk()
returns table (kind text, subject text, severity text, message text, details jsonb)
language sql
volatile
set search_path = ''
as $$
  select 'disk_nearly_full', 'database', case when size.bytes >= size.disk * 0.95 then 'critical' else 'warning' end,
    format(
      'The database takes %s of %s MB, %s of them the gateway''s', round(size.bytes / 1000000), round(size.disk / 1000000),
      round(eve.kept_bytes() / 1000000.0)
    ),
    jsonb_build_object('bytes', size.bytes, 'disk_bytes', size.disk)
  from (
    select pg_database_size(current_database())::numeric as bytes, eve.alert_setting('disk_mb', 500) * 1000000.0 as disk
  ) size
  where size.bytes >= size.disk * 0.8;
$$;

-- Looks at everything there is to look at: opens what is new, closes what is over. Run every minute; two at once do the work
-- of one. missing_secrets: active keys whose secret was looked for in vain; null: nobody has looked.
create or replace function public.eve_alerts_evaluate(missing_secrets uuid[] default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
set jit = 'off'
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_opened integer;
  v_closed integer;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('eve_alerts_evaluate', 0)) then
    return jsonb_build_object('status', 'busy', 'opened', 0, 'closed', 0, 'open', (select count(*) from eve.alerts a where a.closed_at is null));
  end if;
  with current as materialized (
    select * from eve.alert_keys(eve_alerts_evaluate.missing_secrets)
    union all
    select * from eve.alert_lanes()
    union all
    select * from eve.alert_refusals()
    union all
    select * from eve.alert_upstream()
    union all
    select * from eve.alert_maintenance()
    union all
    select * from eve.alert_disk()
  ), seen as (
    insert into eve.alerts as a (kind, subject, severity, message, details, opened_at, last_seen_at)
    select c.kind, left(c.subject, 500), c.severity, left(c.message, 2000), c.details, v_now, v_now
    from current c
    on conflict (kind, subject) where closed_at is null do update
    set last_seen_at = excluded.last_seen_at, message = excluded.message, severity = excluded.severity, details = excluded.details
    returning (a.xmax = 0) as is_new
  ), over as (
    update eve.alerts a
    set closed_at = v_now
    where a.closed_at is null
      and not exists (select from current c where c.kind = a.kind and left(c.subject, 500) = a.subject)
      and case
        -- A settlement may have opened it since this statement began to look.
        when a.kind in ('key_disabled', 'model_unavailable', 'lane_exhausted', 'maintenance_failed', 'maintenance_missing', 'disk_nearly_full')
          then a.last_seen_at < v_now
        -- Nobody has looked for the secret: only the end of the key's block says something.
        when a.kind = 'secret_missing' then a.last_seen_at < v_now
          and (eve_alerts_evaluate.missing_secrets is not null or a.last_seen_at < v_now - interval '1 hour')
        when a.kind in ('refusals_high', 'upstream_errors')
          then a.last_seen_at <= v_now - eve.alert_setting('alert_clear_s', 300) * interval '1 second'
        when a.kind in ('usage_counters_refused', 'token_usage_refused', 'maintenance_log_refused')
          then a.last_seen_at <= v_now - eve.alert_setting('alert_stale_s', 3600) * interval '1 second'
        -- Anyone who opened it closes it.
        else false
      end
    returning 1
  )
  select (select count(*) from seen where is_new), (select count(*) from over) into v_opened, v_closed;
  return jsonb_build_object(
    'status', 'evaluated', 'opened', v_opened, 'closed', v_closed,
    'open', (select count(*) from eve.alerts a where a.closed_at is null)
  );
end;
$$;
comment on function public.eve_alerts_evaluate is 'Opens alerts for what is wrong and closes those that are over. Cheap enough for every minute.';
