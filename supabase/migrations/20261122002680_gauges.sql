-- Gauges: how things are now. Beside them stand the counters and histograms of the migration after this one.

-- Keys under names that are theirs alone.
create or replace function eve.metric_keys()
returns table (id uuid, key text, quota_key text, state text)
language sql
volatile
set search_path = ''
as $$
  select k.id,
    coalesce(k.key_alias, k.id::text)
      || case row_number() over (partition by coalesce(k.key_alias, k.id::text) order by k.created_at, k.id) when 1 then '' else '#' || k.id end,
    k.quota_key,
    case
      when k.is_active is not true then 'off'
      when k.blocked_until > eve.clock() then 'blocked'
      else 'active'
    end
  from public.google_ai_api_keys k;
$$;

-- How things are now: name, labels, value.
create or replace function eve.metric_gauges()
returns table (metric text, labels jsonb, value double precision)
language sql
volatile
set search_path = ''
set jit = 'off'
as $$
  with now as materialized (
    select eve.clock_ms() as ms, coalesce((select s.value from eve.settings s where s.name = 'guard_ms'), 250) as guard_ms
  ), keys as materialized (
    select * from eve.metric_keys()
  ), projects as materialized (
    select k.quota_key, case when k.quota_key like 'key:%' then 'key:' || min(k.key) else k.quota_key end as name
    from keys k
    where k.state <> 'off'
    group by k.quota_key
  ), lanes as materialized (
    select jsonb_build_object('quota_project', p.name, 'model', l.model) as labels, limits.rpm, limits.tpm, limits.rpd,
      coalesce(used.starts, 0) as minute_starts, coalesce(used.tokens, 0) as minute_tokens,
      case
        when l.day_ends_ms > now.ms then l.day_starts
        when eve.next_pacific_midnight(l.day_ends_ms) > now.ms then l.next_day_starts
        else 0
      end as day_starts,
      coalesce(l.blocked_until > eve.clock(), false) as blocked
    from now
    cross join eve.lanes l
    join projects p on p.quota_key = l.quota_project
    join public.google_ai_model_limits m on m.model = l.model and m.is_active
    left join eve.quota_overrides o on o.quota_project = l.quota_project and o.model = l.model
    cross join lateral (
      select (case when o.model is null then m.rpm else o.rpm end)::integer as rpm,
        (case when o.model is null then m.tpm else o.tpm end)::integer as tpm,
        (case when o.model is null then m.rpd else o.rpd end)::integer as rpd
    ) limits
    left join lateral (
      select sum(b.starts) as starts, sum(b.tokens) as tokens
      from eve.lane_buckets b
      where b.lane_id = l.id and b.at_ms > now.ms - 60000 - now.guard_ms and b.at_ms <= now.ms
    ) used on true
  ), lane_limits as (
    select l.labels || jsonb_build_object('limit', per.name) as labels, per.allowed, per.used
    from lanes l
    cross join lateral (
      values ('rpm', l.rpm, l.minute_starts), ('tpm', l.tpm, l.minute_tokens), ('rpd', l.rpd, l.day_starts)
    ) as per (name, allowed, used)
  ), queue as (
    select i.model, i.class, count(*) filter (where i.state = 'waiting' or i.state = 'reserved' and i.start_ms > now.ms) as waiting,
      count(*) filter (where i.state = 'between' or i.state = 'reserved' and i.start_ms <= now.ms) as running
    from eve.inflight i
    cross join now
    group by i.model, i.class
  ), places as (
    -- Every model and class has a line, so that an empty queue reads 0; and so has one that is still served though switched off.
    select m.model, c.class
    from public.google_ai_model_limits m
    cross join (values ('interactive'), ('batch')) as c (class)
    where m.is_active and m.replaced_by is null
    union
    select q.model, q.class
    from queue q
  )
  select 'eve_lane_limit', l.labels, l.allowed::double precision from lane_limits l where l.allowed is not null
  union all
  select 'eve_lane_used', l.labels, l.used from lane_limits l
  union all
  select 'eve_lane_remaining', l.labels, greatest(l.allowed - l.used, 0) from lane_limits l where l.allowed is not null
  union all
  select 'eve_lane_blocked', l.labels, l.blocked::integer from lanes l
  union all
  select 'eve_queue_length', jsonb_build_object('model', p.model, 'class', p.class), coalesce(q.waiting, 0)
  from places p
  left join queue q on q.model = p.model and q.class = p.class
  union all
  select 'eve_requests_running', jsonb_build_object('model', p.model, 'class', p.class), coalesce(q.running, 0)
  from places p
  left join queue q on q.model = p.model and q.class = p.class
  union all
  select 'eve_key_state', jsonb_build_object('key', k.key, 'quota_project', case when k.quota_key like 'key:%' then 'key:' || k.key else k.quota_key end, 'state', s.state),
    (s.state = k.state)::integer
  from keys k
  cross join (values ('active'), ('blocked'), ('off')) as s (state)
  union all
  select 'eve_alerts_open', jsonb_build_object('kind', k.kind, 'severity', s.severity), count(a.id)
  from (select kind from eve.alert_kinds union select kind from eve.alerts where closed_at is null) k
  cross join (values ('info'), ('warning'), ('critical')) as s (severity)
  left join eve.alerts a on a.closed_at is null and a.kind = k.kind and a.severity = s.severity
  group by k.kind, s.severity
  union all
  select 'eve_alert_deliveries', jsonb_build_object('channel', c.channel, 'state', s.state), count(d.id)
  from (values ('telegram'), ('webhook')) as c (channel)
  cross join (values ('pending'), ('sent'), ('given_up')) as s (state)
  left join eve.alert_deliveries d on d.channel = c.channel and d.state = s.state
  group by c.channel, s.state
  union all
  select 'eve_maintenance_age_seconds', jsonb_build_object('operation', o.name),
    greatest(extract(epoch from eve.clock() - o.last_succeeded_at), 0)
  from eve.operations o
  where o.last_succeeded_at is not null
  union all
  select 'eve_maintenance_failed', jsonb_build_object('operation', o.name), (o.last_status is not distinct from 'failed')::integer
  from eve.operations o
  union all
  select 'eve_estimate_factor', jsonb_build_object('model', m.model), m.estimate_factor
  from public.google_ai_model_limits m
  where m.is_active and m.replaced_by is null
  union all
  select 'eve_table_bytes', jsonb_build_object('table', weighed.name), eve.relation_bytes(weighed.name::regclass)
  from unnest(
    array[
      'eve.requests', 'eve.earlier_attempts', 'eve.refusals', 'eve.request_results', 'public.google_ai_usage_counters',
      'public.token_usage'
    ]
  ) as weighed (name)
  union all
  select 'eve_metrics_behind_seconds', '{}', greatest(max(extract(epoch from eve.clock() - s.counted_until)), 0)
  from eve.metric_sources s;
$$;
