-- Alerts: opened once, seen while they last, closed when they are over, and told to a person once each time.
--
-- Two sorts of writer: settlements, which see a failure as it happens (eve.open_alert), and public.eve_alerts_evaluate,
-- which looks at the state of things every minute. What has been told to whom is in eve.alert_deliveries.

set local lock_timeout = '10s';

create table if not exists eve.alert_kinds (
  kind text primary key,
  title text not null,
  advice text not null,
  constraint alert_kinds_kind_form check (kind ~ '^[a-z][a-z0-9_]{1,62}$')
);
comment on table eve.alert_kinds is 'What an alert can be about, in words for a person.';
comment on column eve.alert_kinds.title is 'The headline of a message.';
comment on column eve.alert_kinds.advice is 'What to do about it.';
insert into eve.alert_kinds (kind, title, advice) values
  ('key_disabled', 'Key not used', 'Look up the reason in docs/alerts.md. A new secret puts it into use again by itself (keys set); the same one, once it is mended, wants keys enable. To keep it off for good: keys disable.'),
  ('secret_missing', 'Secret missing', 'Set the secret that the key''s env_var_name names, or correct the name. The key is used again by itself once the secret is there.'),
  ('model_unavailable', 'Model not offered to a key', 'Enable the model or its quota in the key''s project, then delete the row in eve.key_model_blocks.'),
  ('lane_exhausted', 'Day''s quota used up early', 'Use another model until midnight in Los Angeles, add a quota project, or give the consumers daily budgets.'),
  ('refusals_high', 'Many refusals', 'See which limit refuses, in eve.refusals or on the dashboard; let callers wait instead of asking again, or add quota.'),
  ('upstream_errors', 'Upstream fails', 'Look at error_code in eve.attempts. If upstream is overloaded, use another model until it has recovered.'),
  ('maintenance_failed', 'Maintenance failed', 'Read details of the run in google_ai_maintenance_log, mend the cause, and run the operation by hand.'),
  ('maintenance_missing', 'Maintenance does not run', 'Check that pg_cron has the eve_ jobs, that Vault holds the URL and the key, and that the function maintenance is deployed.'),
  ('model_vanished', 'Model gone from upstream', 'Name its successor in replaced_by, or choose another model for whatever uses it.'),
  ('provider_key_invalid', 'Provider key refused', 'Make a new key with the provider, and save it in the stage''s configuration.'),
  ('maintenance_log_refused', 'Maintenance not logged', 'A rule on google_ai_maintenance_log refuses the gateway''s rows: see the message, and loosen the rule.'),
  ('usage_counters_refused', 'Usage not counted', 'A rule on google_ai_usage_counters refuses the gateway''s rows: see the message, and loosen the rule.'),
  ('token_usage_refused', 'Token usage not written', 'A rule on token_usage refuses the gateway''s rows: see the message, and loosen the rule.')
on conflict (kind) do nothing;

alter table eve.alerts add column if not exists details jsonb not null default '{}';
comment on column eve.alerts.details is 'The figures behind the message.';
comment on column eve.alerts.kind is 'Described in eve.alert_kinds.';
comment on column eve.alerts.severity is 'info: good to know. warning: look today. critical: callers are being refused or soon will be.';
comment on column eve.alerts.last_seen_at is 'When it was last found to be so.';

do $$
begin
  if not exists (select from pg_catalog.pg_constraint where conname = 'alerts_kind_form') then
    -- Its form only: whoever settles a call must not fail because nobody has described what he saw.
    alter table eve.alerts add constraint alerts_kind_form check (kind ~ '^[a-z][a-z0-9_]{1,62}$') not valid;
    alter table eve.alerts validate constraint alerts_kind_form;
  end if;
end;
$$;
create index if not exists alerts_closed_at_idx on eve.alerts (closed_at);

-- No foreign key to eve.alerts, so that an operator may truncate that one; a trigger takes the rows of a deleted alert away.
create table if not exists eve.alert_deliveries (
  id bigint generated always as identity primary key,
  alert_id bigint not null,
  channel text not null,
  event text not null,
  state text not null default 'pending',
  attempts integer not null default 0,
  next_try_at timestamptz not null,
  claimed_until timestamptz,
  told_at timestamptz,
  last_error text,
  constraint alert_deliveries_alert_id_channel_event_key unique (alert_id, channel, event),
  constraint alert_deliveries_channel_known check (channel in ('telegram', 'webhook')),
  constraint alert_deliveries_event_known check (event in ('opened', 'closed')),
  constraint alert_deliveries_state_known check (state in ('pending', 'told', 'given_up'))
);
create index if not exists alert_deliveries_pending_idx on eve.alert_deliveries (channel, next_try_at) where state = 'pending';
comment on table eve.alert_deliveries is 'What has been told to whom: one row per alert, channel and event.';
comment on column eve.alert_deliveries.attempts is 'Tries so far, the one under way included.';
comment on column eve.alert_deliveries.claimed_until is 'Somebody is telling it; after this time he is taken to have died.';
comment on column eve.alert_deliveries.last_error is 'Why the last try failed. Holds no secret.';

create table if not exists eve.maintenance_expected (
  operation text primary key,
  within_s integer not null,
  since timestamptz not null default now(),
  constraint maintenance_expected_within_positive check (within_s > 0)
);
comment on table eve.maintenance_expected is 'Operations that have to run; an alert opens when one that is active and scheduled has not. Delete a row to expect it no longer.';
comment on column eve.maintenance_expected.operation is 'As in eve.operations.';
comment on column eve.maintenance_expected.within_s is 'Seconds from the start of one run to the start of the next, with time to spare: some runs may be lost, and a day has 25 hours at times.';
comment on column eve.maintenance_expected.since is 'Expected since: nothing is missing before it could have run.';
insert into eve.maintenance_expected (operation, within_s) values
  ('sweep', 900),
  ('alerts', 900),
  ('rollup', 3600),
  ('key_health', 5400),
  ('retention', 14400),
  ('models_sync', 50400),
  ('providers_sync', 108000),
  ('report', 108000)
on conflict (operation) do nothing;

insert into eve.settings (name, value, description) values
  ('alert_window_s', 600, 'Rates of refusals and of upstream errors are taken over this many seconds.'),
  ('alert_clear_s', 300, 'A rate has to stay below its threshold for so many seconds before its alert closes.'),
  ('alert_stale_s', 3600, 'An alert that only a failure reports closes when none has been seen for so many seconds.'),
  ('alert_refusals_percent', 25, 'Alert when at least so many per cent of the requests of a window are refused for want of quota or keys.'),
  ('alert_refusals_min', 20, 'Refusals in a window below which their rate says nothing.'),
  ('alert_upstream_percent', 25, 'Alert when at least so many per cent of a model''s calls in a window fail on upstream''s side.'),
  ('alert_upstream_min', 10, 'Failed calls in a window below which their rate says nothing.'),
  ('alert_exhausted_before_hour', 20, 'Alert when a lane''s day is used up before this hour (0 to 24) in Los Angeles; 0: never, 24: always.'),
  ('alert_tries', 12, 'Tries to tell an alert before it is given up; with the pauses between them about six hours.')
on conflict (name) do nothing;

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
  -- Whoever may write the key's row need not be let into schema eve: the next evaluation sees it as well.
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
    format('Key %s is not used: there is no secret named %s', coalesce(k.key_alias, k.id::text), coalesce(k.env_var_name, '(env_var_name is empty)')),
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
-- spent budget, a model that is not there) is his own affair and does not count.
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
      select count(*) as refused, count(*) filter (where f.code = 'no_active_key') as without_key,
        mode() within group (order by f.code || coalesce(' (' || f.limit_name || ')', '')) as mostly
      from eve.refusals f
      where f.refused_at > since.at and f.attempt = 1
        and f.code in ('rate_limited', 'daily_limit', 'lane_blocked', 'no_active_key')
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
  cross join lateral (select greatest(o.started_at, o.last_started_at) as last_at) ran
  where o.is_active and o.schedule is not null
    and greatest(ran.last_at, e.since) < eve.clock() - e.within_s * interval '1 second';
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
        when a.kind in ('key_disabled', 'model_unavailable', 'lane_exhausted', 'maintenance_failed', 'maintenance_missing')
          then a.last_seen_at < v_now
        -- Nobody has looked for the secret: only the end of the key's block says something.
        when a.kind = 'secret_missing' then a.last_seen_at < v_now
          and (eve_alerts_evaluate.missing_secrets is not null or a.last_seen_at < v_now - interval '1 hour')
        when a.kind in ('refusals_high', 'upstream_errors')
          then a.last_seen_at <= v_now - eve.alert_setting('alert_clear_s', 300) * interval '1 second'
        when a.kind in ('usage_counters_refused', 'token_usage_refused', 'maintenance_log_refused')
          then a.last_seen_at <= v_now - eve.alert_setting('alert_stale_s', 3600) * interval '1 second'
        -- Whoever opened it closes it.
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

-- The secrets that active keys need, for whoever can look whether they are set. A stage's key has no variable: its secret is in
-- provider_configs (20261121001600), and providers_sync looks after it.
create or replace function public.eve_alert_secrets()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('key_id', k.id, 'env_var_name', k.env_var_name) order by k.id), '[]')
  from public.google_ai_api_keys k
  where k.is_active and coalesce(k.env_var_name, '') not like 'stage:%';
$$;
comment on function public.eve_alert_secrets is 'Active keys and the names of their secrets.';

-- The next message for a channel, claimed for lease_ms; null when there is none. An alert is told when it opens and when it
-- closes, in this order. A channel that is new hears of what is open, not of what has long been over.
create or replace function public.eve_alert_claim(channel text, lease_ms integer default 60000)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_delivery eve.alert_deliveries;
begin
  if eve_alert_claim.channel is null or eve_alert_claim.channel not in ('telegram', 'webhook') then
    raise exception 'channel must be telegram or webhook' using errcode = 'EV400';
  elsif eve_alert_claim.lease_ms is null or eve_alert_claim.lease_ms not between 1000 and 600000 then
    raise exception 'lease_ms must be between 1000 and 600000' using errcode = 'EV400';
  end if;
  insert into eve.alert_deliveries (alert_id, channel, event, next_try_at)
  select a.id, eve_alert_claim.channel, 'opened', v_now
  from eve.alerts a
  where (a.closed_at is null or a.closed_at > v_now - interval '1 hour')
    and not exists (
      select
      from eve.alert_deliveries d
      where d.alert_id = a.id and d.channel = eve_alert_claim.channel and d.event = 'opened'
    )
  order by a.id
  on conflict do nothing;
  insert into eve.alert_deliveries (alert_id, channel, event, next_try_at)
  select a.id, eve_alert_claim.channel, 'closed', v_now
  from eve.alerts a
  join eve.alert_deliveries d on d.alert_id = a.id and d.channel = eve_alert_claim.channel and d.event = 'opened' and d.state = 'told'
  where a.closed_at > v_now - interval '7 days'
    and not exists (
      select
      from eve.alert_deliveries t
      where t.alert_id = a.id and t.channel = eve_alert_claim.channel and t.event = 'closed'
    )
  order by a.id
  on conflict do nothing;

  update eve.alert_deliveries d
  set attempts = d.attempts + 1, claimed_until = v_now + eve_alert_claim.lease_ms * interval '1 millisecond'
  where d.id = (
    select p.id
    from eve.alert_deliveries p
    where p.channel = eve_alert_claim.channel and p.state = 'pending' and p.next_try_at <= v_now
      and (p.claimed_until is null or p.claimed_until <= v_now)
      and exists (select from eve.alerts a where a.id = p.alert_id)
    order by p.id
    limit 1
    for update skip locked
  )
  returning d.* into v_delivery;
  if not found then
    return null;
  end if;
  return (
    select jsonb_build_object(
      'delivery_id', v_delivery.id, 'event', v_delivery.event, 'attempt', v_delivery.attempts, 'alert_id', a.id,
      'kind', a.kind, 'title', coalesce(k.title, replace(a.kind, '_', ' ')), 'advice', k.advice, 'severity', a.severity, 'subject', a.subject, 'message', a.message,
      'details', a.details, 'opened_at', a.opened_at, 'closed_at', a.closed_at
    )
    from eve.alerts a
    left join eve.alert_kinds k on k.kind = a.kind
    where a.id = v_delivery.alert_id
  );
end;
$$;
comment on function public.eve_alert_claim is 'The next message for a channel, claimed so that nobody else tells it too; null when there is none.';

-- How telling went. A failure is tried again after 30 s, then twice as long each time up to an hour, or when the channel said;
-- whole_channel: it concerns every message, so that all of them wait. After the last try a message is given up; should the
-- channel work again while the alert is open, it is told after all.
create or replace function public.eve_alert_told(
  delivery_id bigint,
  succeeded boolean,
  error text default null,
  retry_after_ms bigint default null,
  whole_channel boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_delivery eve.alert_deliveries;
  v_next timestamptz;
begin
  select * into v_delivery from eve.alert_deliveries d where d.id = eve_alert_told.delivery_id for update;
  if not found or v_delivery.state = 'told' then
    return jsonb_build_object('state', coalesce(v_delivery.state, 'gone'));
  end if;
  if eve_alert_told.succeeded then
    update eve.alert_deliveries d
    set state = 'told', told_at = v_now, claimed_until = null, last_error = null
    where d.id = v_delivery.id;
    update eve.alert_deliveries d
    set state = 'pending', attempts = 0, next_try_at = v_now, claimed_until = null
    where d.channel = v_delivery.channel and d.state = 'given_up' and d.event = 'opened'
      and exists (select from eve.alerts a where a.id = d.alert_id and a.closed_at is null);
    return jsonb_build_object('state', 'told');
  end if;
  v_next := v_now + greatest(
    least(30000 * 2 ^ least(v_delivery.attempts - 1, 10), 3600000),
    -- What a channel asks for is believed up to a day.
    least(coalesce(eve_alert_told.retry_after_ms, 0), 86400000)
  ) * interval '1 millisecond';
  update eve.alert_deliveries d
  set state = case when d.attempts >= eve.alert_setting('alert_tries', 12) then 'given_up' else 'pending' end,
    next_try_at = v_next, claimed_until = null, last_error = left(eve_alert_told.error, 500)
  where d.id = v_delivery.id
  returning d.* into v_delivery;
  if eve_alert_told.whole_channel then
    update eve.alert_deliveries d
    set next_try_at = v_next
    where d.channel = v_delivery.channel and d.state = 'pending' and d.next_try_at < v_next;
  end if;
  return jsonb_build_object('state', v_delivery.state, 'next_try_at', v_next);
end;
$$;
comment on function public.eve_alert_told is 'Notes how telling a claimed message went, and when to try again.';

-- The audit is read here by time; blocks of a table that grows at its end are to be indexed as they fill.
do $$
declare
  v_index text;
begin
  foreach v_index in array array['requests_finished_at_idx', 'refusals_refused_at_idx', 'attempts_settled_at_idx'] loop
    if exists (
      select
      from pg_catalog.pg_class c
      join pg_catalog.pg_am m on m.oid = c.relam
      where c.relnamespace = 'eve'::regnamespace and c.relname = v_index and m.amname = 'brin'
    ) then
      execute format('alter index eve.%I set (autosummarize = on)', v_index);
    end if;
  end loop;
end;
$$;

do $$
declare
  v_name text;
begin
  foreach v_name in array array['alert_kinds', 'alert_deliveries', 'maintenance_expected'] loop
    execute format('alter table eve.%I enable row level security', v_name);
    execute format('revoke all on table eve.%I from public, anon, authenticated, service_role', v_name);
    execute format('grant select, insert, update, delete on table eve.%I to service_role', v_name);
  end loop;
  revoke all on sequence eve.alert_deliveries_id_seq from public, anon, authenticated, service_role;
  grant usage on sequence eve.alert_deliveries_id_seq to service_role;
end;
$$;
revoke all on function eve.alert_setting, eve.open_alert, eve.end_alerts, eve.key_switched_on, eve.key_alerts_over, eve.alert_deleted,
  eve.alert_keys, eve.alert_lanes, eve.alert_refusals, eve.alert_upstream, eve.alert_maintenance, public.eve_alerts_evaluate,
  public.eve_alert_secrets, public.eve_alert_claim, public.eve_alert_told from public, anon, authenticated;
grant execute on function eve.alert_setting, eve.open_alert, eve.end_alerts, eve.alert_deleted, eve.alert_keys, eve.alert_lanes,
  eve.alert_refusals, eve.alert_upstream, eve.alert_maintenance, public.eve_alerts_evaluate, public.eve_alert_secrets,
  public.eve_alert_claim, public.eve_alert_told to service_role;
