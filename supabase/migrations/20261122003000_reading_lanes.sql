-- Reading what is so now: lanes, keys and limits; and setting limits.

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
      minute.starts as minute_starts, minute.tokens as minute_tokens, minute.oldest_ms + 60000 + clock.guard_ms as minute_frees_ms,
      line.queued, line.running
    from pools p
    join public.google_ai_model_limits m on eve.provider_name(m.provider) = p.provider and m.is_active and m.replaced_by is null
    cross join clock
    left join eve.quota_overrides o on o.quota_project = p.quota_key and o.model = m.model
    left join eve.lanes l on l.quota_project = p.quota_key and l.model = m.model
    cross join lateral (
      select coalesce(sum(b.starts), 0) as starts, coalesce(sum(b.tokens), 0) as tokens,
        min(b.at_ms) as oldest_ms
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
  ), judged as (
    select s.*,
      case
        when s.usable <= 0 then 'no_key'
        when s.blocked_until is not null then 'paused'
        when s.rpm = 0 or s.tpm = 0 or s.rpd = 0 then 'no_quota'
        when s.day_used >= s.rpd then 'day_used_up'
        when s.minute_starts >= s.rpm or s.minute_tokens >= s.tpm then 'minute_used_up'
        else 'open'
      end as state
    from states s
  )
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'quota_project', s.quota_key, 'model', s.model, 'keys', to_jsonb(s.keys),
        'state', s.state,
        -- Starts that it could take now; null: without end.
        'free', case when s.state = 'open' then least(s.rpm - s.minute_starts, s.rpd - s.day_used) else 0 end,
        'frees_at', case s.state
          when 'paused' then s.blocked_until
          when 'day_used_up' then to_timestamp(s.midnight_ms / 1000.0)
          when 'minute_used_up' then to_timestamp(s.minute_frees_ms / 1000.0)
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
  from judged s;
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

-- Who reads without reserving: nothing else would notice that a consumer or its token has ended.
create or replace function eve.require_live_caller(consumer_id uuid, token_id uuid)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if require_live_caller.consumer_id is not null
    and not exists (select from eve.consumers c where c.id = require_live_caller.consumer_id and c.is_active) then
    raise exception 'consumer % is not there or switched off', require_live_caller.consumer_id using errcode = 'EV403';
  elsif require_live_caller.token_id is not null
    and not exists (
      select
      from eve.scoped_tokens t
      where t.id = require_live_caller.token_id and t.consumer_id = require_live_caller.consumer_id and t.revoked_at is null
        and t.expires_at > eve.clock()
    ) then
    raise exception 'token % has ended', require_live_caller.token_id using errcode = 'EV401';
  end if;
end;
$$;

-- The models that a caller may use, with what they take and can do.
create or replace function public.eve_models(consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  perform eve.require_live_caller(eve_models.consumer_id, eve_models.token_id);
  return (
    select coalesce(
      jsonb_agg(
        jsonb_build_object(
          'model', m.model, 'replaced_by', m.replaced_by, 'provider', m.provider, 'rpm', m.rpm, 'tpm', m.tpm, 'rpd', m.rpd,
          'created_at', m.created_at, 'max_output_tokens', m.max_output_tokens,
          'capabilities', jsonb_build_object(
            'system', m.supports_system, 'json', m.supports_json, 'tools', m.supports_tools, 'thinking', m.supports_thinking
          )
        )
        order by m.model
      ),
      '[]'
    )
    from public.google_ai_model_limits m
    where m.is_active
      and not exists (
        select
        from eve.consumers c
        where c.id = eve_models.consumer_id and m.model <> all (c.models)
      )
      and not exists (
        select
        from eve.scoped_tokens t
        where t.id = eve_models.token_id and m.model <> all (t.models)
      )
  );
end;
$$;
comment on function public.eve_models is 'The models that a consumer, or the holder of a token, may use.';

-- How a model's minute and day are shared between the classes, as eve_limits_set takes it.
create or replace function eve.shares_of(model public.google_ai_model_limits)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'batch_floor', (model).batch_floor, 'interactive_floor', (model).interactive_floor,
    'interactive_reserve', (model).interactive_reserve, 'interactive_reserve_day', (model).interactive_reserve_day
  );
$$;

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
            'model', m.model, 'rpm', m.rpm, 'tpm', m.tpm, 'rpd', m.rpd, 'shares', eve.shares_of(m), 'is_active', m.is_active,
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

-- A model's row with the shares that a row of eve_limits_set names.
create or replace function eve.with_shares(model public.google_ai_model_limits, change jsonb)
returns public.google_ai_model_limits
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_model public.google_ai_model_limits := with_shares.model;
  v_name text;
begin
  foreach v_name in array array['batch_floor', 'interactive_reserve', 'interactive_reserve_day'] loop
    if with_shares.change ? v_name and (
      jsonb_typeof(with_shares.change -> v_name) <> 'number' or (with_shares.change ->> v_name)::numeric not between 0 and 0.9
    ) then
      raise exception '% of % must be a share from 0 to 0.9', v_name, v_model.model using errcode = 'EV400';
    end if;
  end loop;
  v_model.batch_floor := coalesce((with_shares.change ->> 'batch_floor')::double precision, v_model.batch_floor);
  v_model.interactive_reserve := coalesce((with_shares.change ->> 'interactive_reserve')::double precision, v_model.interactive_reserve);
  v_model.interactive_reserve_day := coalesce(
    (with_shares.change ->> 'interactive_reserve_day')::double precision, v_model.interactive_reserve_day
  );
  v_model.interactive_floor := coalesce(
    eve.limit_of(with_shares.change, 'interactive_floor', v_model.interactive_floor), v_model.interactive_floor
  );
  return v_model;
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
  v_shared public.google_ai_model_limits;
  v_after jsonb := '[]';
begin
  if jsonb_typeof(eve_limits_set.changes) is distinct from 'array' or jsonb_array_length(eve_limits_set.changes) not between 1 and 1000 then
    raise exception 'changes must be a list of 1 to 1000 objects with model, rpm, tpm and rpd' using errcode = 'EV400';
  elsif eve_limits_set.quota_project is not null
    and not exists (select from public.google_ai_api_keys k where k.quota_key = eve_limits_set.quota_project) then
    raise exception 'no key has the quota project %; there are %', eve_limits_set.quota_project,
      coalesce((select string_agg(distinct k.quota_key, ', ') from public.google_ai_api_keys k), 'none') using errcode = 'EV400';
  end if;
  -- Before the rows, as statements that change them take it (eve.lock_routes).
  perform pg_advisory_xact_lock(eve.routes_lock());
  -- In one order, so that two that change the same rows cannot wait for each other.
  for v_change in
    select c.value from jsonb_array_elements(eve_limits_set.changes) c order by c.value ->> 'model'
  loop
    v_name := v_change ->> 'model';
    if v_name is null or v_name !~ '^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$' then
      raise exception '% is not a name of a model', coalesce(v_name, 'nothing') using errcode = 'EV400';
    end if;
    if eve_limits_set.quota_project is not null
      and v_change ?| array['batch_floor', 'interactive_floor', 'interactive_reserve', 'interactive_reserve_day'] then
      raise exception 'shares are of a model, in all quota projects' using errcode = 'EV400';
    end if;
    select * into v_model from public.google_ai_model_limits m where m.model = v_name for update;
    if not found then
      if eve_limits_set.quota_project is not null or not eve_limits_set.add_models then
        raise exception 'there is no model named % in google_ai_model_limits', v_name using errcode = 'EV400';
      end if;
      insert into public.google_ai_model_limits (model) values (v_name) returning * into v_model;
    end if;
    if eve_limits_set.quota_project is null then
      v_shared := eve.with_shares(v_model, v_change);
      update public.google_ai_model_limits m
      set batch_floor = v_shared.batch_floor, interactive_floor = v_shared.interactive_floor,
        interactive_reserve = v_shared.interactive_reserve, interactive_reserve_day = v_shared.interactive_reserve_day, rpm = eve.limit_of(v_change, 'rpm', m.rpm::integer), tpm = eve.limit_of(v_change, 'tpm', m.tpm::integer),
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
      'rpd', case when eve_limits_set.quota_project is null then v_model.rpd else v_override.rpd end,
      'shares', eve.shares_of(v_model)
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
