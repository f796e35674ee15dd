-- What people look at: the state of keys and lanes, requests one by one, what happens now, alerts, and whether everything
-- that the gateway needs is there. For the command line and for a console, so every answer is one JSON value whose names
-- are the columns'.
--
-- Nothing here may be felt by admission: what reads takes no lock and is stable, so that the REST API runs it in a
-- transaction that cannot write (and a read replica can run it at all); each reads a bounded number of rows however large the
-- audit is, and none needs an index that every settled call would have to pay for. The audit's rows are numbered nearly in
-- the order of time (a connection takes 32 numbers at once), so the primary key serves as the index of time; NEARLY is
-- accounted for where it matters.

-- The clock that decides, and the Pacific day by which Google counts.
create or replace function public.eve_now()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'now', to_timestamp(c.ms / 1000.0),
    'pacific_day', eve.pacific_day(c.ms),
    'pacific_day_begins', eve.pacific_day(c.ms)::timestamp at time zone 'America/Los_Angeles',
    'pacific_day_ends', to_timestamp(eve.next_pacific_midnight(c.ms) / 1000.0)
  )
  from (select eve.clock_ms() as ms) c;
$$;
comment on function public.eve_now is 'The database''s clock and the bounds of the Pacific day that holds it.';

-- Whose fault a failed attempt is, told by its error code: key, key_model (this key cannot serve this model), lane (quota),
-- upstream, region, model (its answer is of no use), caller, gateway. Null: it did not fail.
create or replace function eve.blame_of(error_code text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when blame_of.error_code is null then null
    when blame_of.error_code in ('key_rejected', 'secret_missing') then 'key'
    when blame_of.error_code = 'model_unavailable' then 'key_model'
    when blame_of.error_code in ('upstream_rate_limited', 'upstream_daily_limit') then 'lane'
    when blame_of.error_code in ('upstream_unavailable', 'upstream_timeout') then 'upstream'
    when blame_of.error_code = 'upstream_region' then 'region'
    when blame_of.error_code in ('content_blocked', 'empty_answer', 'answer_unusable', 'answer_truncated', 'schema_mismatch') then 'model'
    when blame_of.error_code in ('upstream_invalid_request', 'prompt_too_large', 'unsupported_feature', 'schema_too_complex', 'client_closed') then 'caller'
    else 'gateway'
  end;
$$;
comment on function eve.blame_of is 'Whose fault a failed attempt is, told by its error code.';

-- Every lane that keys and models make possible, with what is used and left of it at this moment. A lane that was never
-- called has no row yet; it is whole.
create or replace function public.eve_lane_states(quota_project text default null, model text default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  with clock as (
    select c.ms, to_timestamp(c.ms / 1000.0) as at, eve.next_pacific_midnight(c.ms) as midnight_ms,
      coalesce((select s.value from eve.settings s where s.name = 'guard_ms'), 0) as guard_ms
    from (select eve.clock_ms() as ms) c
  ), pools as (
    select k.quota_key, eve.provider_name(k.provider) as provider,
      array_agg(k.key_alias order by k.priority, k.key_alias) as keys,
      count(*) filter (
        where k.is_active and k.env_var_name is not null and (k.blocked_until is null or k.blocked_until <= clock.at)
      ) as usable,
      array_agg(k.id) filter (
        where k.is_active and k.env_var_name is not null and (k.blocked_until is null or k.blocked_until <= clock.at)
      ) as usable_ids
    from public.google_ai_api_keys k
    cross join clock
    where eve_lane_states.quota_project is null or k.quota_key = eve_lane_states.quota_project
    group by 1, 2
  ), states as (
    select p.quota_key, m.model, p.keys, clock.at, clock.midnight_ms,
      p.usable - (
        select count(*)
        from eve.key_model_blocks b
        where b.key_id = any (p.usable_ids) and b.model = m.model and b.blocked_until > clock.at
      ) as usable,
      o.model is not null as is_override,
      (case when o.model is null then m.rpm else o.rpm end)::integer as rpm,
      (case when o.model is null then m.tpm else o.tpm end)::integer as tpm,
      (case when o.model is null then m.rpd else o.rpd end)::integer as rpd,
      case when l.blocked_until > clock.at then l.blocked_until end as blocked_until,
      case when l.blocked_until > clock.at then l.blocked_reason end as blocked_reason,
      case
        when l.day_ends_ms = clock.midnight_ms then l.day_starts
        -- Last booked yesterday: what it booked ahead counts today.
        when l.day_ends_ms > 0 and eve.next_pacific_midnight(l.day_ends_ms) = clock.midnight_ms then l.next_day_starts
        else 0
      end as day_used,
      minute.starts as minute_starts, minute.tokens as minute_tokens, line.queued, line.running
    from pools p
    join public.google_ai_model_limits m on eve.provider_name(m.provider) = p.provider and m.is_active and m.replaced_by is null
    cross join clock
    left join eve.quota_overrides o on o.quota_project = p.quota_key and o.model = m.model
    left join eve.lanes l on l.quota_project = p.quota_key and l.model = m.model
    cross join lateral (
      select coalesce(sum(b.starts), 0) as starts, coalesce(sum(b.tokens), 0) as tokens
      from eve.lane_buckets b
      where b.lane_id = l.id and b.at_ms > clock.ms - 60000 - clock.guard_ms and b.at_ms <= clock.ms
    ) minute
    cross join lateral (
      select count(*) filter (where i.state = 'waiting' or i.start_ms > clock.ms) as queued,
        count(*) filter (where i.state = 'reserved' and i.start_ms <= clock.ms) as running
      from eve.inflight i
      where i.lane_id = l.id and i.state in ('reserved', 'waiting')
    ) line
    where eve_lane_states.model is null or m.model = eve_lane_states.model
  )
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'quota_project', s.quota_key, 'model', s.model, 'keys', to_jsonb(s.keys),
        'state', case
          when s.usable <= 0 then 'no_key'
          when s.blocked_until is not null then 'paused'
          when s.rpm = 0 or s.tpm = 0 or s.rpd = 0 then 'no_quota'
          when s.day_used >= s.rpd then 'day_used_up'
          when s.minute_starts >= s.rpm or s.minute_tokens >= s.tpm then 'minute_used_up'
          else 'open'
        end,
        'blocked_until', s.blocked_until, 'blocked_reason', s.blocked_reason,
        'limits_from', case when s.is_override then 'override' else 'model' end,
        'requests', jsonb_build_object('limit', s.rpm, 'used', s.minute_starts, 'remaining', case when s.rpm is not null then greatest(s.rpm - s.minute_starts, 0) end),
        'tokens', jsonb_build_object('limit', s.tpm, 'used', s.minute_tokens, 'remaining', case when s.tpm is not null then greatest(s.tpm - s.minute_tokens, 0) end),
        'requests_day', jsonb_build_object(
          'limit', s.rpd, 'used', s.day_used, 'remaining', case when s.rpd is not null then greatest(s.rpd - s.day_used, 0) end,
          'resets_at', to_timestamp(s.midnight_ms / 1000.0)
        ),
        'queued', s.queued, 'running', s.running
      )
      order by s.quota_key, s.model
    ),
    '[]'
  )
  from states s;
$$;
comment on function public.eve_lane_states is 'Every quota project and model with what is used and left of its minute and its Pacific day now, who waits, and why it is closed if it is. A limit that is null is unlimited.';

create or replace function public.eve_key_states()
returns jsonb
language sql
stable
set search_path = ''
as $$
  with clock as (
    select to_timestamp(c.ms / 1000.0) as at, eve.pacific_day(c.ms) as day,
      eve.pacific_day(c.ms)::timestamp at time zone 'America/Los_Angeles' as day_begins
    from (select eve.clock_ms() as ms) c
  ), lanes as (
    select lane.value ->> 'quota_project' as quota_key, jsonb_agg(lane.value) as states
    from jsonb_array_elements(public.eve_lane_states()) as lane
    group by 1
  )
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'alias', k.key_alias, 'provider', eve.provider_name(k.provider), 'env_var_name', k.env_var_name,
        'quota_project', k.quota_project, 'quota_key', k.quota_key, 'priority', k.priority, 'notes', k.notes,
        'is_active', coalesce(k.is_active, false),
        'state', case
          when k.is_active is not true then 'off'
          when k.env_var_name is null then 'no_secret_name'
          when k.blocked_until > clock.at then 'blocked'
          else 'on'
        end,
        'blocked_until', case when k.blocked_until > clock.at then k.blocked_until end,
        'blocked_reason', case when k.blocked_until > clock.at then k.blocked_reason end,
        'created_at', k.created_at, 'last_used_at', used.last_used_at,
        'today', jsonb_build_object('requests', coalesce(today.requests, 0), 'input_tokens', coalesce(today.tokens, 0)),
        'check', case when seen.key_id is not null then jsonb_build_object(
          'checked_at', seen.checked_at, 'outcome', seen.outcome, 'reason', seen.reason, 'detail', seen.detail,
          'works_since', seen.works_since
        ) end,
        'blocked_models', coalesce(blocked.models, '[]'), 'lanes', coalesce(lanes.states, '[]')
      )
      order by k.priority, k.key_alias
    ),
    '[]'
  )
  from public.google_ai_api_keys k
  cross join clock
  left join lanes on lanes.quota_key = k.quota_key
  left join eve.key_checks seen on seen.key_id = k.id
  cross join lateral (
    -- One probe of the counters' index for each model.
    select max(last.minute_bucket) as last_used_at
    from public.google_ai_model_limits m
    cross join lateral (
      select c.minute_bucket
      from public.google_ai_usage_counters c
      where c.api_key_id = k.id and c.model = m.model and c.minute_bucket is not null
      order by c.minute_bucket desc
      limit 1
    ) last
  ) used
  cross join lateral (
    select sum(c.rpm_used) as requests, sum(c.tpm_used) as tokens
    from public.google_ai_model_limits m
    join public.google_ai_usage_counters c on c.model = m.model
    where c.api_key_id = k.id and c.minute_bucket >= clock.day_begins and c.day_bucket = clock.day
  ) today
  cross join lateral (
    select jsonb_agg(
      jsonb_build_object('model', b.model, 'blocked_until', b.blocked_until, 'reason', b.reason) order by b.model
    ) as models
    from eve.key_model_blocks b
    where b.key_id = k.id and b.blocked_until > clock.at
  ) blocked;
$$;
comment on function public.eve_key_states is 'Every key: whether it is used and why not, what it did today, what its last check found, models it may not serve, and the lanes of its quota project.';

-- The id that a consumer's name stands for; an id stands for itself, since the audit outlives consumers.
create or replace function eve.consumer_id_of(consumer text)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if consumer_id_of.consumer is null then
    return null;
  elsif consumer_id_of.consumer ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    return consumer_id_of.consumer::uuid;
  end if;
  select c.id into v_id from eve.consumers c where c.name = consumer_id_of.consumer;
  if not found then
    raise exception 'there is no consumer named %', consumer_id_of.consumer using errcode = 'EV400';
  end if;
  return v_id;
end;
$$;

create or replace function eve.key_id_of(key_alias text)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if key_id_of.key_alias is null then
    return null;
  elsif key_id_of.key_alias ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    return key_id_of.key_alias::uuid;
  end if;
  select k.id into v_id from public.google_ai_api_keys k where k.key_alias = key_id_of.key_alias order by k.created_at limit 1;
  if not found then
    raise exception 'there is no key named %', key_id_of.key_alias using errcode = 'EV400';
  end if;
  return v_id;
end;
$$;

-- One shape for requests that run, that have ended, and that were refused.
create or replace function eve.request_json(request eve.requests)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'request_no', (request_json.request).request_no, 'refusal_no', null, 'request_id', (request_json.request).request_id,
    'state', (request_json.request).state, 'at', (request_json.request).received_at,
    'finished_at', (request_json.request).finished_at,
    'duration_ms', greatest(
      floor(extract(epoch from (request_json.request).finished_at - (request_json.request).received_at) * 1000)::bigint, 0
    ),
    'wait_ms', (request_json.request).wait_ms, 'attempts', (request_json.request).attempts,
    'consumer', coalesce(
      (select c.name from eve.consumers c where c.id = (request_json.request).consumer_id),
      (request_json.request).consumer_id::text
    ),
    'consumer_id', (request_json.request).consumer_id, 'token_id', (request_json.request).token_id,
    'class', (request_json.request).class, 'door', (request_json.request).door,
    'requested_model', (request_json.request).requested_model, 'model', (request_json.request).model,
    'key', coalesce(
      (select k.key_alias from public.google_ai_api_keys k where k.id = (request_json.request).key_id),
      (request_json.request).key_id::text
    ),
    'input_tokens', (request_json.request).input_tokens, 'output_tokens', (request_json.request).output_tokens,
    'total_tokens', (request_json.request).total_tokens, 'error_code', (request_json.request).error_code,
    'finish_reason', (request_json.request).finish_reason, 'limit', null, 'retry_after_ms', null,
    'trace_id', (request_json.request).trace_id
  );
$$;

-- A request that runs, as the row it would be if it ended now.
create or replace function eve.as_request(running eve.inflight)
returns eve.requests
language sql
stable
set search_path = ''
as $$
  select r
  from jsonb_populate_record(
    null::eve.requests,
    to_jsonb(as_request.running) || jsonb_build_object('state', 'running', 'attempts', (as_request.running).attempt)
  ) r;
$$;

create or replace function eve.refusal_json(refusal eve.refusals)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'request_no', null, 'refusal_no', (refusal_json.refusal).id, 'request_id', (refusal_json.refusal).request_id,
    'state', 'refused', 'at', (refusal_json.refusal).refused_at, 'finished_at', (refusal_json.refusal).refused_at,
    'duration_ms', 0, 'wait_ms', 0, 'attempts', (refusal_json.refusal).attempt - 1,
    'consumer', coalesce(
      (select c.name from eve.consumers c where c.id = (refusal_json.refusal).consumer_id),
      (refusal_json.refusal).consumer_id::text
    ),
    'consumer_id', (refusal_json.refusal).consumer_id, 'token_id', (refusal_json.refusal).token_id,
    'class', (refusal_json.refusal).class, 'door', (refusal_json.refusal).door,
    'requested_model', (refusal_json.refusal).model, 'model', (refusal_json.refusal).model, 'key', null,
    'input_tokens', (refusal_json.refusal).tokens, 'output_tokens', null, 'total_tokens', null,
    'error_code', (refusal_json.refusal).code, 'finish_reason', null, 'limit', (refusal_json.refusal).limit_name,
    'retry_after_ms', (refusal_json.refusal).retry_after_ms, 'trace_id', (refusal_json.refusal).trace_id
  );
$$;

-- The number from which on everything was numbered after `at`, less what a connection may have kept in hand for an hour:
-- a binary search over the primary key, some twenty probes whatever the table's size. Null: the table is empty.
create or replace function eve.request_no_after(at timestamptz)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  v_low bigint;
  v_high bigint;
  v_middle bigint;
  v_found timestamptz;
begin
  select min(r.request_no), max(r.request_no) into v_low, v_high from eve.requests r;
  v_high := v_high + 1;
  while v_high - v_low > 256 loop
    v_middle := (v_low + v_high) / 2;
    select r.finished_at into v_found
    from eve.requests r
    where r.request_no >= v_middle
    order by r.request_no
    limit 1;
    if v_found > request_no_after.at + interval '1 hour' then
      v_high := v_middle;
    else
      v_low := v_middle;
    end if;
  end loop;
  return v_high;
end;
$$;

create or replace function eve.refusal_no_after(at timestamptz)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  v_low bigint;
  v_high bigint;
  v_middle bigint;
  v_found timestamptz;
begin
  select min(r.id), max(r.id) into v_low, v_high from eve.refusals r;
  v_high := v_high + 1;
  while v_high - v_low > 256 loop
    v_middle := (v_low + v_high) / 2;
    select r.refused_at into v_found from eve.refusals r where r.id >= v_middle order by r.id limit 1;
    if v_found > refusal_no_after.at + interval '1 hour' then
      v_high := v_middle;
    else
      v_low := v_middle;
    end if;
  end loop;
  return v_high;
end;
$$;

-- Requests, the newest first. At most 100,000 rows are looked at in one call (about 0.1 s), whatever is asked for; `next_before`
-- says where to go on, and null that there is nothing more. So a rare thing in a large audit takes several calls, of which
-- none is long.
--
-- Tried and dropped: an index on received_at or on request_id (every settled call would write it for the few times that
-- somebody looks), and the brin index on finished_at (its newest pages are summarised only by the next vacuum, and until
-- then each look reads all of them).
create or replace function public.eve_request_search(
  request_id text default null,
  consumer text default null,
  model text default null,
  key text default null,
  outcome text default null,
  error_code text default null,
  since timestamptz default null,
  until timestamptz default null,
  before bigint default null,
  at_most integer default 50
)
returns jsonb
language plpgsql
stable
set search_path = ''
-- The scan goes along the primary key, backwards, and stops.
set enable_seqscan = 'off'
set enable_bitmapscan = 'off'
set jit = 'off'
as $$
declare
  v_scan constant integer := 100000;
  v_at_most constant integer := least(greatest(eve_request_search.at_most, 1), 1000);
  v_consumer_id constant uuid := eve.consumer_id_of(eve_request_search.consumer);
  v_key_id constant uuid := eve.key_id_of(eve_request_search.key);
  v_before bigint := eve_request_search.before;
  v_found jsonb := '[]';
  v_running jsonb := '[]';
  v_last bigint;
  v_end_at timestamptz;
begin
  if eve_request_search.outcome is not null
    and eve_request_search.outcome not in ('succeeded', 'failed', 'cancelled', 'expired', 'running', 'refused') then
    raise exception 'outcome must be succeeded, failed, cancelled, expired, running or refused' using errcode = 'EV400';
  end if;

  if eve_request_search.outcome = 'refused' and eve_request_search.request_id is null then
    v_before := coalesce(
      v_before, case when eve_request_search.until is not null then eve.refusal_no_after(eve_request_search.until) end,
      9223372036854775807
    );
    select coalesce(jsonb_agg(found.one order by found.id desc), '[]'), case when count(*) = v_at_most then min(found.id) end
    into v_found, v_last
    from (
      select r.id, eve.refusal_json(r) as one
      from (
        select * from eve.refusals f where f.id < v_before order by f.id desc limit v_scan
      ) r
      where (v_consumer_id is null or r.consumer_id = v_consumer_id)
        and (eve_request_search.model is null or r.model = eve_request_search.model)
        and (eve_request_search.error_code is null or r.code = eve_request_search.error_code)
        and (eve_request_search.since is null or r.refused_at >= eve_request_search.since)
        and (eve_request_search.until is null or r.refused_at < eve_request_search.until)
        and v_key_id is null
      order by r.id desc
      limit v_at_most
    ) found;
    if v_last is null then
      select f.id, f.refused_at into v_last, v_end_at
      from eve.refusals f
      where f.id < v_before
      order by f.id desc
      offset v_scan - 1
      limit 1;
    end if;
  elsif eve_request_search.request_id is not null and coalesce(eve_request_search.outcome, '') <> 'running' then
    -- By its id: a probe of the unique index for each consumer that there ever was.
    with recursive callers as (
      (select r.consumer_id from eve.requests r order by r.consumer_id limit 1)
      union all
      select (
        select r.consumer_id from eve.requests r where r.consumer_id > c.consumer_id order by r.consumer_id limit 1
      )
      from callers c
      where c.consumer_id is not null
    )
    select coalesce(jsonb_agg(eve.request_json(r) order by r.request_no desc), '[]')
    into v_found
    from callers c
    join eve.requests r on r.consumer_id = c.consumer_id and r.request_id = eve_request_search.request_id
    where (v_consumer_id is null or r.consumer_id = v_consumer_id)
      and (eve_request_search.outcome is null or r.state = eve_request_search.outcome);
    -- Those of later attempts are told with their request.
    if coalesce(eve_request_search.outcome, 'refused') = 'refused' then
      select v_found || coalesce(jsonb_agg(found.one order by found.id desc), '[]')
      into v_found
      from (
        select f.id, eve.refusal_json(f) as one
        from eve.refusals f
        where f.request_id = eve_request_search.request_id
          and (f.attempt = 1 or eve_request_search.outcome = 'refused')
          and (v_consumer_id is null or f.consumer_id = v_consumer_id)
          and (eve_request_search.model is null or f.model = eve_request_search.model)
          and (eve_request_search.error_code is null or f.code = eve_request_search.error_code)
          and (eve_request_search.since is null or f.refused_at >= eve_request_search.since)
          and (eve_request_search.until is null or f.refused_at < eve_request_search.until)
          and v_key_id is null
        order by f.id desc
        limit v_at_most
      ) found;
    end if;
  elsif coalesce(eve_request_search.outcome, '') <> 'running' then
    v_before := coalesce(
      v_before, case when eve_request_search.until is not null then eve.request_no_after(eve_request_search.until) end,
      9223372036854775807
    );
    select coalesce(jsonb_agg(found.one order by found.request_no desc), '[]'),
      case when count(*) = v_at_most then min(found.request_no) end
    into v_found, v_last
    from (
      select r.request_no, eve.request_json(r) as one
      from (
        select * from eve.requests q where q.request_no < v_before order by q.request_no desc limit v_scan
      ) r
      where (v_consumer_id is null or r.consumer_id = v_consumer_id)
        and (eve_request_search.model is null or eve_request_search.model in (r.model, r.requested_model))
        and (v_key_id is null or r.key_id = v_key_id)
        and (eve_request_search.outcome is null or r.state = eve_request_search.outcome)
        and (eve_request_search.error_code is null or r.error_code = eve_request_search.error_code)
        and (eve_request_search.since is null or r.received_at >= eve_request_search.since)
        and (eve_request_search.until is null or r.received_at < eve_request_search.until)
      order by r.request_no desc
      limit v_at_most
    ) found;
    if v_last is null then
      select q.request_no, q.finished_at into v_last, v_end_at
      from eve.requests q
      where q.request_no < v_before
      order by q.request_no desc
      offset v_scan - 1
      limit 1;
    end if;
  end if;
  -- Everything before it is older than an hour before `since`: there is nothing more to find.
  if v_end_at < eve_request_search.since - interval '1 hour' then
    v_last := null;
  end if;

  -- Those that run, on the first page. The table is small.
  if eve_request_search.before is null and coalesce(eve_request_search.outcome, 'running') = 'running'
    and eve_request_search.error_code is null then
    select coalesce(jsonb_agg(found.one order by found.request_no desc), '[]')
    into v_running
    from (
      select i.request_no, eve.request_json(eve.as_request(i)) as one
      from eve.inflight i
      where (eve_request_search.request_id is null or i.request_id = eve_request_search.request_id)
        and (v_consumer_id is null or i.consumer_id = v_consumer_id)
        and (eve_request_search.model is null or eve_request_search.model in (i.model, i.requested_model))
        and (v_key_id is null or i.key_id = v_key_id)
        and (eve_request_search.since is null or i.received_at >= eve_request_search.since)
        and (eve_request_search.until is null or i.received_at < eve_request_search.until)
      order by i.request_no desc
      limit v_at_most
    ) found;
  end if;
  return jsonb_build_object('requests', v_running || v_found, 'next_before', v_last);
end;
$$;
comment on function public.eve_request_search is 'Requests that run or have ended, the newest first, or refusals (outcome refused, or by their request_id). A page and where the next one begins; a call looks at 100,000 rows at most, so a page may be empty and not the last.';

-- A request that was never admitted: its newest refusal in the form of a request, with all of them. Raises where there is none.
create or replace function eve.refused_detail(request_id text, consumer_id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
-- As eve_request_search: the tables are large.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_newest eve.refusals;
  v_consumers text[];
begin
  select array_agg(distinct coalesce(c.name, f.consumer_id::text, 'project'))
  into v_consumers
  from eve.refusals f
  left join eve.consumers c on c.id = f.consumer_id
  where f.request_id = refused_detail.request_id
    and (refused_detail.consumer_id is null or f.consumer_id = refused_detail.consumer_id);
  if v_consumers is null then
    raise exception 'there is no request %', refused_detail.request_id using errcode = 'EV400';
  elsif cardinality(v_consumers) > 1 then
    raise exception 'request_id % was used by several consumers: give consumer, one of %',
      refused_detail.request_id, array_to_string(v_consumers, ', ') using errcode = 'EV400';
  end if;
  select * into v_newest
  from eve.refusals f
  where f.request_id = refused_detail.request_id
    and (refused_detail.consumer_id is null or f.consumer_id = refused_detail.consumer_id)
  order by f.refused_at desc, f.id desc
  limit 1;
  return eve.refusal_json(v_newest) || jsonb_build_object(
    'metadata', null, 'tries', jsonb_build_array(), 'running', null, 'capture', null, 'answer_kept', false,
    'refusals', (
      select jsonb_agg(
        jsonb_build_object(
          'at', f.refused_at, 'attempt', f.attempt, 'model', f.model, 'error_code', f.code, 'limit', f.limit_name,
          'retry_after_ms', f.retry_after_ms
        )
        order by f.refused_at, f.id
      )
      from (
        select *
        from eve.refusals r
        where r.request_id = refused_detail.request_id and r.consumer_id is not distinct from v_newest.consumer_id
        order by r.refused_at desc
        limit 100
      ) f
    )
  );
end;
$$;

create or replace function public.eve_request_detail(
  request_no bigint default null, request_id text default null, consumer text default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_consumer_id constant uuid := eve.consumer_id_of(eve_request_detail.consumer);
  v_found bigint[];
  v_request eve.requests;
  v_running eve.inflight;
begin
  if (eve_request_detail.request_no is null) = (eve_request_detail.request_id is null) then
    raise exception 'give either request_no or request_id' using errcode = 'EV400';
  end if;
  if eve_request_detail.request_no is not null then
    v_found := array[eve_request_detail.request_no];
  else
    select array_agg((one ->> 'request_no')::bigint)
    into v_found
    from jsonb_array_elements(
      public.eve_request_search(request_id => eve_request_detail.request_id, consumer => eve_request_detail.consumer)
        -> 'requests'
    ) one
    where one ->> 'request_no' is not null;
    if v_found is null then
      return eve.refused_detail(eve_request_detail.request_id, v_consumer_id);
    end if;
    if cardinality(v_found) > 1 then
      raise exception 'request_id % was used by several consumers: give consumer, or one of the numbers %',
        eve_request_detail.request_id, array_to_string(v_found, ', ') using errcode = 'EV400';
    end if;
  end if;
  select * into v_request from eve.requests r where r.request_no = v_found[1];
  if not found then
    select * into v_running from eve.inflight i where i.request_no = v_found[1];
    if not found then
      raise exception 'there is no request %',
        coalesce(eve_request_detail.request_id, eve_request_detail.request_no::text) using errcode = 'EV400';
    end if;
    v_request := eve.as_request(v_running);
  end if;
  return eve.request_json(v_request) || jsonb_build_object(
    'metadata', v_request.metadata,
    'tries', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'attempt', a.attempt, 'model', a.model,
            'key', coalesce((select k.key_alias from public.google_ai_api_keys k where k.id = a.key_id), a.key_id::text),
            'quota_project', (select l.quota_project from eve.lanes l where l.id = a.lane_id),
            'start_at', to_timestamp(a.start_ms / 1000.0),
            -- From the time it was asked for, which is the end of the attempt before it.
            'wait_ms', greatest(a.start_ms - floor(extract(epoch from coalesce(a.before, v_request.received_at)) * 1000)::bigint, 0),
            'latency_ms', a.latency_ms, 'settled_at', a.settled_at, 'outcome', a.outcome, 'dispatched', a.dispatched,
            'tokens_booked', a.tokens_booked, 'input_tokens', a.input_tokens, 'output_tokens', a.output_tokens,
            'thoughts_tokens', a.thoughts_tokens, 'cached_tokens', a.cached_tokens, 'total_tokens', a.total_tokens,
            'usage_estimated', a.usage_estimated, 'upstream_status', a.upstream_status, 'error_code', a.error_code,
            'error_detail', a.error_detail, 'blame', case when a.outcome <> 'succeeded' then eve.blame_of(a.error_code) end,
            'finish_reason', a.finish_reason
          )
          order by a.attempt
        ),
        '[]'
      )
      from (
        select t.*, lag(t.settled_at) over (order by t.attempt) as before
        from eve.attempts t
        where t.request_no = v_request.request_no
      ) a
    ),
    'running', case when v_running.request_no is not null then jsonb_build_object(
      'attempt', v_running.attempt, 'state', v_running.state, 'start_at', to_timestamp(v_running.start_ms / 1000.0),
      'lease_until', v_running.lease_until, 'tokens_booked', v_running.tokens
    ) end,
    -- Of the hour before it came and of its own time.
    'refusals', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'at', f.refused_at, 'attempt', f.attempt, 'model', f.model, 'error_code', f.code, 'limit', f.limit_name,
            'retry_after_ms', f.retry_after_ms
          )
          order by f.refused_at
        ),
        '[]'
      )
      from eve.refusals f
      where f.request_id = v_request.request_id and f.consumer_id = v_request.consumer_id
        and f.refused_at between v_request.received_at - interval '1 hour' and coalesce(v_request.finished_at, eve.clock())
        -- The same bounds by number, since only numbers have an index that is always current.
        and f.id >= (select eve.refusal_no_after(v_request.received_at - interval '3 hours') - 256)
        and f.id < (select eve.refusal_no_after(coalesce(v_request.finished_at, eve.clock())))
    ),
    'capture', (
      select jsonb_build_object('prompt', c.prompt, 'answer', c.answer, 'captured_at', c.captured_at)
      from eve.captures c
      where c.request_no = v_request.request_no
    ),
    'answer_kept', exists (select from eve.request_results k where k.request_no = v_request.request_no)
  );
end;
$$;
comment on function public.eve_request_detail is 'One request with all its attempts, waits, refusals, who is to blame, and what was captured of it; or, by its request_id, one that was refused, with its refusals.';

-- What has ended or was refused since the cursor, the oldest first; without a cursor the last few. Cheap enough to be asked
-- every second: it reads what was numbered lately and nothing else. Rows become visible a moment after the time that they
-- bear, so two seconds are read again each time: whoever asks must drop what he has seen.
create or replace function public.eve_tail(after jsonb default null, at_most integer default 1000)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set enable_bitmapscan = 'off'
set jit = 'off'
as $$
declare
  -- Numbers that were handed out long before their row: calls that waited for minutes, and connections' numbers in hand.
  v_reach constant integer := 10000;
  v_at_most constant integer := least(greatest(eve_tail.at_most, 1), 10000);
  v_since constant timestamptz := (eve_tail.after ->> 'at')::timestamptz - interval '2 seconds';
  v_request_no bigint;
  v_refusal_no bigint;
  v_events jsonb;
  v_count integer;
  v_last timestamptz;
  v_now constant timestamptz := eve.clock();
begin
  select coalesce(max(r.request_no), 0) into v_request_no from eve.requests r;
  select coalesce(max(f.id), 0) into v_refusal_no from eve.refusals f;
  with ended as (
    select eve.request_json(r) as one, r.finished_at as at
    from eve.requests r
    where eve_tail.after is not null and r.request_no > (eve_tail.after ->> 'request_no')::bigint - v_reach
      and r.finished_at > v_since
    union all
    (
      select eve.request_json(r), r.finished_at
      from eve.requests r
      where eve_tail.after is null
      order by r.request_no desc
      limit v_at_most
    )
    union all
    select eve.refusal_json(f), f.refused_at
    from eve.refusals f
    where eve_tail.after is not null and f.id > (eve_tail.after ->> 'refusal_no')::bigint - v_reach and f.refused_at > v_since
    union all
    (
      select eve.refusal_json(f), f.refused_at
      from eve.refusals f
      where eve_tail.after is null
      order by f.id desc
      limit v_at_most
    )
  ), page as (
    select *
    from ended
    -- Following, the oldest are told first and the rest next time; at the beginning, the last ones.
    order by case when eve_tail.after is null then extract(epoch from ended.at) * -1 else extract(epoch from ended.at) end
    limit v_at_most
  )
  select coalesce(jsonb_agg(page.one order by page.at), '[]'), count(*), max(page.at) into v_events, v_count, v_last from page;
  return jsonb_build_object(
    'events', v_events,
    'cursor', jsonb_build_object(
      'request_no', v_request_no, 'refusal_no', v_refusal_no,
      -- A full page goes on where it ended. Else from here, which an idle hour does not move back.
      'at', case when eve_tail.after is not null and v_count = v_at_most then v_last else v_now end
    )
  );
end;
$$;
comment on function public.eve_tail is 'What has ended or was refused since a cursor that an earlier call answered. The last two seconds are told again.';

create or replace function eve.alert_json(alert eve.alerts)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(alert_json.alert) || jsonb_build_object(
    'title', coalesce(k.title, (alert_json.alert).kind), 'advice', k.advice
  )
  from (select) as one
  left join eve.alert_kinds k on k.kind = (alert_json.alert).kind;
$$;

-- Alerts, the newest first.
create or replace function public.eve_alert_list(
  state text default 'open', kind text default null, before bigint default null, at_most integer default 100
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_at_most constant integer := least(greatest(eve_alert_list.at_most, 1), 1000);
  v_alerts jsonb;
  v_last bigint;
begin
  if eve_alert_list.state is null or eve_alert_list.state not in ('open', 'closed', 'all') then
    raise exception 'state must be open, closed or all' using errcode = 'EV400';
  end if;
  select coalesce(jsonb_agg(page.one order by page.id desc), '[]'), case when count(*) = v_at_most then min(page.id) end
  into v_alerts, v_last
  from (
    select a.id, eve.alert_json(a) as one
    from eve.alerts a
    where (eve_alert_list.before is null or a.id < eve_alert_list.before)
      and (eve_alert_list.kind is null or a.kind = eve_alert_list.kind)
      and case eve_alert_list.state when 'open' then a.closed_at is null when 'closed' then a.closed_at is not null else true end
    order by a.id desc
    limit v_at_most
  ) page;
  return jsonb_build_object('alerts', v_alerts, 'next_before', v_last);
end;
$$;
comment on function public.eve_alert_list is 'Alerts that are open, closed or all, the newest first, with the columns of eve.alerts and what to do; a page and where the next one begins.';

create or replace function public.eve_alert_detail(id bigint)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_alert eve.alerts;
begin
  select * into v_alert from eve.alerts a where a.id = eve_alert_detail.id;
  if not found then
    raise exception 'there is no alert %', eve_alert_detail.id using errcode = 'EV400';
  end if;
  return eve.alert_json(v_alert) || jsonb_build_object(
    'deliveries', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'channel', d.channel, 'event', d.event, 'state', d.state, 'attempts', d.attempts, 'told_at', d.told_at,
            'last_error', d.last_error
          )
          order by d.id
        ),
        '[]'
      )
      from eve.alert_deliveries d
      where d.alert_id = v_alert.id
    )
  );
end;
$$;
comment on function public.eve_alert_detail is 'One alert, what to do about it, and to whom it was told.';

create or replace function public.eve_alert_close(id bigint)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_alert eve.alerts;
begin
  update eve.alerts a
  set closed_at = eve.clock()
  where a.id = eve_alert_close.id and a.closed_at is null
  returning * into v_alert;
  if not found then
    select * into v_alert from eve.alerts a where a.id = eve_alert_close.id;
    if not found then
      raise exception 'there is no alert %', eve_alert_close.id using errcode = 'EV400';
    end if;
  end if;
  return eve.alert_json(v_alert);
end;
$$;
comment on function public.eve_alert_close is 'Closes an alert by hand; twice is the same as once. What still holds is opened again.';

-- Limits as they are: the models' rows, and what differs per quota project.
create or replace function public.eve_limits()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'models', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'model', m.model, 'rpm', m.rpm, 'tpm', m.tpm, 'rpd', m.rpd, 'is_active', m.is_active,
            'replaced_by', m.replaced_by, 'updated_at', m.updated_at
          )
          order by m.model
        ),
        '[]'
      )
      from public.google_ai_model_limits m
    ),
    'overrides', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'quota_project', o.quota_project, 'model', o.model, 'rpm', o.rpm, 'tpm', o.tpm, 'rpd', o.rpd, 'notes', o.notes,
            'updated_at', o.updated_at
          )
          order by o.quota_project, o.model
        ),
        '[]'
      )
      from eve.quota_overrides o
    ),
    'quota_projects', (
      select coalesce(jsonb_agg(distinct k.quota_key), '[]') from public.google_ai_api_keys k where k.quota_key is not null
    )
  );
$$;
comment on function public.eve_limits is 'The limits of every model, what differs per quota project, and the quota projects there are.';

-- One limit out of a row of eve_limits_set: what the row says, or what holds now if it is silent.
create or replace function eve.limit_of(change jsonb, name text, now_value integer)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
begin
  if not limit_of.change ? limit_of.name then
    return limit_of.now_value;
  elsif jsonb_typeof(limit_of.change -> limit_of.name) = 'null' then
    return null;
  elsif limit_of.change ->> limit_of.name !~ '^[0-9]{1,10}$' or (limit_of.change ->> limit_of.name)::bigint > 2147483647 then
    raise exception '% of % must be a whole number up to 2147483647, or null for no limit',
      limit_of.name, limit_of.change ->> 'model' using errcode = 'EV400';
  end if;
  return (limit_of.change ->> limit_of.name)::integer;
end;
$$;

create or replace function public.eve_limits_set(
  changes jsonb, quota_project text default null, add_models boolean default false, notes text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_change jsonb;
  v_name text;
  v_model public.google_ai_model_limits;
  v_override eve.quota_overrides;
  v_after jsonb := '[]';
begin
  if jsonb_typeof(eve_limits_set.changes) is distinct from 'array' or jsonb_array_length(eve_limits_set.changes) not between 1 and 1000 then
    raise exception 'changes must be a list of 1 to 1000 objects with model, rpm, tpm and rpd' using errcode = 'EV400';
  elsif eve_limits_set.quota_project is not null
    and not exists (select from public.google_ai_api_keys k where k.quota_key = eve_limits_set.quota_project) then
    raise exception 'no key has the quota project %; there are %', eve_limits_set.quota_project,
      coalesce((select string_agg(distinct k.quota_key, ', ') from public.google_ai_api_keys k), 'none') using errcode = 'EV400';
  end if;
  -- In one order, so that two that change the same rows cannot wait for each other.
  for v_change in
    select c.value from jsonb_array_elements(eve_limits_set.changes) c order by c.value ->> 'model'
  loop
    v_name := v_change ->> 'model';
    if v_name is null or v_name !~ '^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$' then
      raise exception '% is not a name of a model', coalesce(v_name, 'nothing') using errcode = 'EV400';
    end if;
    select * into v_model from public.google_ai_model_limits m where m.model = v_name for update;
    if not found then
      if eve_limits_set.quota_project is not null or not eve_limits_set.add_models then
        raise exception 'there is no model named % in google_ai_model_limits', v_name using errcode = 'EV400';
      end if;
      insert into public.google_ai_model_limits (model, rpm, tpm, rpd)
      values (
        v_name, eve.limit_of(v_change, 'rpm', null), eve.limit_of(v_change, 'tpm', null), eve.limit_of(v_change, 'rpd', null)
      )
      returning * into v_model;
    elsif eve_limits_set.quota_project is null then
      update public.google_ai_model_limits m
      set rpm = eve.limit_of(v_change, 'rpm', m.rpm::integer), tpm = eve.limit_of(v_change, 'tpm', m.tpm::integer),
        rpd = eve.limit_of(v_change, 'rpd', m.rpd::integer), updated_at = eve.clock()
      where m.model = v_name
      returning * into v_model;
    else
      select * into v_override
      from eve.quota_overrides o
      where o.quota_project = eve_limits_set.quota_project and o.model = v_name
      for update;
      -- The override replaces all three, so what is not said is taken from what held until now.
      if not found then
        v_override.rpm := v_model.rpm;
        v_override.tpm := v_model.tpm;
        v_override.rpd := v_model.rpd;
        v_override.notes := null;
      end if;
      insert into eve.quota_overrides as o (quota_project, model, rpm, tpm, rpd, notes, updated_at)
      values (
        eve_limits_set.quota_project, v_name, eve.limit_of(v_change, 'rpm', v_override.rpm),
        eve.limit_of(v_change, 'tpm', v_override.tpm), eve.limit_of(v_change, 'rpd', v_override.rpd),
        coalesce(eve_limits_set.notes, v_override.notes), eve.clock()
      )
      on conflict on constraint quota_overrides_pkey do update
      set rpm = excluded.rpm, tpm = excluded.tpm, rpd = excluded.rpd, notes = excluded.notes, updated_at = excluded.updated_at
      returning * into v_override;
    end if;
    v_after := v_after || jsonb_build_object(
      'quota_project', eve_limits_set.quota_project, 'model', v_name,
      'rpm', case when eve_limits_set.quota_project is null then v_model.rpm else v_override.rpm end,
      'tpm', case when eve_limits_set.quota_project is null then v_model.tpm else v_override.tpm end,
      'rpd', case when eve_limits_set.quota_project is null then v_model.rpd else v_override.rpd end
    );
  end loop;
  return v_after;
end;
$$;
comment on function public.eve_limits_set is 'Changes limits of models, or of one quota project, all or none: the next reservation knows. A limit that a change does not name stays; null is no limit.';

create or replace function public.eve_limits_clear(quota_project text, model text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_cleared jsonb;
begin
  with cleared as (
    delete from eve.quota_overrides o
    where o.quota_project = eve_limits_clear.quota_project
      and (eve_limits_clear.model is null or o.model = eve_limits_clear.model)
    returning o.model
  )
  select coalesce(jsonb_agg(c.model order by c.model), '[]') into v_cleared from cleared c;
  if v_cleared = '[]' then
    raise exception 'the quota project % has no limits of its own%', eve_limits_clear.quota_project,
      coalesce(' for ' || eve_limits_clear.model, '') using errcode = 'EV400';
  end if;
  return jsonb_build_object('quota_project', eve_limits_clear.quota_project, 'cleared', v_cleared);
end;
$$;
comment on function public.eve_limits_clear is 'Takes away what a quota project has of its own: the model''s row counts again.';

-- What the platform keeps about the project. With the rights of the migrations' owner, because the history of migrations,
-- the schedule's jobs and pg_net's answers are not the service role's to read. It takes no argument, and tells names and
-- times alone, no secret. Each is read only where it is, so that a project without one of the extensions gets an answer too.
create or replace function eve.platform_facts()
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_migrations jsonb;
  v_jobs jsonb;
  v_http jsonb;
  v_vault jsonb;
begin
  -- A platform that keeps one of these to itself, or names its columns otherwise, leaves that fact unknown.
  begin
    if to_regclass('supabase_migrations.schema_migrations') is not null then
      execute 'select coalesce(jsonb_agg(m.version order by m.version), ''[]'') from supabase_migrations.schema_migrations m'
      into v_migrations;
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
    'migrations', v_migrations, 'jobs', v_jobs, 'http_last_hour', v_http, 'vault_names', v_vault
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
    -- within_s: the longest time between two starts that is no fault; null: it is not expected to run.
    'operations', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'operation', o.name, 'runs_in', o.runs_in, 'schedule', o.schedule, 'is_active', o.is_active,
            'within_s', e.within_s, 'expected_since', e.since, 'is_running', o.run_id is not null,
            'last_status', o.last_status, 'last_error', o.last_error, 'last_started_at', o.last_started_at,
            'last_completed_at', o.last_completed_at, 'last_succeeded_at', o.last_succeeded_at
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

-- Sums of the audit by any of day (Pacific), hour, consumer, model, key and door. They come from the rollups, which keep what
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
      h.door, h.requests, h.succeeded, h.failed, h.cancelled, h.expired, h.refused, h.attempts, h.dispatched,
      h.upstream_refused, h.input_tokens, h.output_tokens, h.thoughts_tokens, h.cached_tokens, h.wait_ms, h.latency_ms
    from eve.usage_hours h
    where h.hour >= v_since and h.hour < v_until
    union all
    select null, d.day, d.consumer_id, d.model, d.key_id, d.door, d.requests, d.succeeded, d.failed, d.cancelled, d.expired,
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
      case when 'door' = any (eve_usage.by) then p.door end as door,
      p.requests, p.succeeded, p.failed, p.cancelled, p.expired, p.refused, p.attempts, p.dispatched, p.upstream_refused,
      p.input_tokens, p.output_tokens, p.thoughts_tokens, p.cached_tokens, p.wait_ms, p.latency_ms
    from pieces p
    cross join frozen
    where (v_consumer_id is null or coalesce(p.consumer_id, '00000000-0000-0000-0000-000000000000') = v_consumer_id)
      and (eve_usage.model is null or p.model = eve_usage.model)
      and (v_key_id is null or p.key_id = v_key_id)
      and (v_hourly or p.hour is null or p.day::timestamp at time zone 'America/Los_Angeles' >= frozen.before)
  ), sums as (
    select grouping(h.day, h.hour, h.consumer_id, h.model, h.key_id, h.door) = 63 as is_total, h.day, h.hour, h.consumer_id,
      h.model, h.key_id, h.door,
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
    group by grouping sets ((h.day, h.hour, h.consumer_id, h.model, h.key_id, h.door), ())
  )
  select
    (select t.figures from sums t where t.is_total),
    (
      select coalesce(jsonb_agg(page.one order by page.place), '[]')
      from (
        select
          row_number() over (order by s.day, s.hour, s.requests desc, s.model, s.key_id, s.consumer_id, s.door) as place,
          case when 'day' = any (eve_usage.by) then jsonb_build_object('day', s.day) else '{}' end
          || case when v_hourly then jsonb_build_object('hour', s.hour) else '{}' end
          || case when 'consumer' = any (eve_usage.by) then jsonb_build_object(
            'consumer', coalesce((select c.name from eve.consumers c where c.id = s.consumer_id), s.consumer_id::text)
          ) else '{}' end
          || case when 'model' = any (eve_usage.by) then jsonb_build_object('model', s.model) else '{}' end
          || case when 'key' = any (eve_usage.by) then jsonb_build_object(
            'key', coalesce((select k.key_alias from public.google_ai_api_keys k where k.id = s.key_id), s.key_id::text)
          ) else '{}' end
          || case when 'door' = any (eve_usage.by) then jsonb_build_object('door', s.door) else '{}' end
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
comment on function public.eve_usage is 'Requests, refusals, attempts, tokens and times summed by day (Pacific), hour, consumer, model, key and door. Complete up to complete_until; call eve_rollup before.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where (
      p.pronamespace = 'eve'::regnamespace
      and p.proname in (
        'blame_of', 'consumer_id_of', 'key_id_of', 'request_json', 'as_request', 'refusal_json', 'refused_detail',
        'request_no_after', 'refusal_no_after', 'limit_of', 'platform_facts', 'alert_json'
      )
    ) or (
      p.pronamespace = 'public'::regnamespace
      and p.proname in (
        'eve_now', 'eve_lane_states', 'eve_key_states', 'eve_request_search', 'eve_request_detail', 'eve_tail',
        'eve_alert_list', 'eve_alert_detail', 'eve_alert_close', 'eve_limits', 'eve_limits_set', 'eve_limits_clear', 'eve_usage', 'eve_doctor'
      )
    )
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
end;
$$;
