-- Which lanes and keys serve a model.
--
-- eve.lanes_for works it out from keys, models, blocks and limits. eve.routes keeps what it said for calls that ask for nothing
-- special, so that lists of reservations need one look at a few rows in place of two queries over five tables; triggers drop it
-- as soon as something that it depends on changes.

set local lock_timeout = '10s';

create table if not exists eve.routes (
  model text not null,
  lane_id bigint not null,
  served text not null,
  lanes bigint not null,
  stale_ms bigint not null,
  limits eve.lane_limits not null,
  bucket_ms integer not null,
  interval_ms double precision,
  token_ms double precision,
  estimate_ceiling double precision not null,
  even_share double precision not null,
  key_ids uuid[] not null,
  answers jsonb[] not null,
  primary key (model, lane_id)
) with (fillfactor = 50);
comment on table eve.routes is 'Which lanes serve a model that is asked for, as far as that can be said beforehand: the lanes whose keys come first. Made from keys, models and limits, and dropped when one of them changes.';
comment on column eve.routes.model is 'The model asked for; served is the one that serves.';
comment on column eve.routes.lanes is 'How many lanes the model has here.';
comment on column eve.routes.stale_ms is 'Not believed from then on (milliseconds since 1970): ten minutes after it was made (triggers drop it sooner where something changes), or when the block of a key ends.';
comment on column eve.routes.bucket_ms is 'Width of the lane''s buckets.';
comment on column eve.routes.interval_ms is 'As in eve.pool_pace; token_ms likewise.';
comment on column eve.routes.even_share is 'Tokens a minute over requests a minute: above it tokens are what is scarce.';
comment on column eve.routes.key_ids is 'The lane''s keys, which take turns; answers has what a caller learns of each, without what differs from call to call.';

-- A model's row as admission wants it. Hand-made limits may be bigint or numeric.
create or replace function eve.limits_of(served public.google_ai_model_limits, override eve.quota_overrides, guard_ms bigint)
returns eve.lane_limits
language plpgsql
stable
set search_path = ''
as $$
begin
  return row(
    (case when (override).model is null then (served).rpm else (override).rpm end)::integer,
    (case when (override).model is null then (served).tpm else (override).tpm end)::integer,
    (case when (override).model is null then (served).rpd else (override).rpd end)::integer,
    limits_of.guard_ms, (served).batch_floor, (served).interactive_floor, (served).interactive_reserve,
    (served).interactive_reserve_day
  )::eve.lane_limits;
end;
$$;

-- The model that serves when `model` is asked for: its successor, if it has one. Null: unknown or switched off.
create or replace function eve.served_model(model text)
returns public.google_ai_model_limits
language plpgsql
stable
set search_path = ''
as $$
declare
  v_model public.google_ai_model_limits;
begin
  select * into v_model from public.google_ai_model_limits m where m.model = served_model.model;
  for v_hop in 1..5 loop
    exit when v_model.replaced_by is null;
    select * into v_model from public.google_ai_model_limits m where m.model = v_model.replaced_by;
  end loop;
  if v_model.model is null or not v_model.is_active then
    return null;
  end if;
  return v_model;
end;
$$;

-- The keys' providers that can serve a model. Hand-made rows say google, google_ai, gemini or nothing and mean the same.
create or replace function eve.providers_of(served public.google_ai_model_limits)
returns text[]
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case
    when lower((served).provider) in ('google', 'google_ai', 'google-ai', 'gemini')
      then array['google', 'google_ai', 'google-ai', 'gemini']
    else array[lower((served).provider)]
  end;
end;
$$;

-- Hand-made columns may be of other types of text and number, hence the casts.
-- The lanes that may serve a model: a row for each quota project that has a key which is switched on, not blocked, not barred
-- from this model and not excluded; of those of one project the preferred ones. `lane_id` is null where the lane is still to be made.
create or replace function eve.lanes_for(
  served public.google_ai_model_limits, now_ms bigint, exclude_keys uuid[], avoid_keys uuid[]
)
returns table (
  quota_key text, lane_id bigint, limits eve.lane_limits, avoided boolean, priority bigint, key_ids uuid[], aliases text[],
  env_var_names text[]
)
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
  select k.quota_key::text, l.id, eve.limits_of(served, o, (select s.value from eve.settings s where s.name = 'guard_ms')),
    k.avoided, k.priority::bigint, k.key_ids, k.aliases, k.env_var_names
  from (
    select a.quota_key, min(a.priority) as priority, bool_or(a.avoided) as avoided,
      array_agg(a.id::uuid order by a.created_at, a.id) as key_ids,
      array_agg(a.key_alias::text order by a.created_at, a.id) as aliases,
      array_agg(a.env_var_name::text order by a.created_at, a.id) as env_var_names
    from (
      select u.id, u.quota_key, u.priority, u.created_at, u.key_alias, u.env_var_name,
        u.id = any (lanes_for.avoid_keys) as avoided,
        rank() over (partition by u.quota_key order by u.id = any (lanes_for.avoid_keys), u.priority) as preference
      from public.google_ai_api_keys u
      where u.is_active and u.env_var_name is not null
        and (u.blocked_until is null or u.blocked_until <= to_timestamp(lanes_for.now_ms / 1000.0))
        and coalesce(lower(u.provider), 'google') = any (eve.providers_of(served))
        and u.id <> all (lanes_for.exclude_keys)
        and not exists (
          select
          from eve.key_model_blocks b
          where b.key_id = u.id and b.model = (served).model
            and b.blocked_until > to_timestamp(lanes_for.now_ms / 1000.0)
        )
    ) a
    where a.preference = 1
    group by a.quota_key
  ) k
  left join eve.lanes l on l.quota_project = k.quota_key and l.model = (served).model
  left join eve.quota_overrides o on o.quota_project = k.quota_key and o.model = (served).model;
end;
$$;

-- Routes are made under a shared lock that is not waited for, and dropped under the exclusive one, which is held until the
-- change is visible: nobody makes a route from what was there before.
create or replace function eve.routes_lock()
returns bigint
language sql
immutable
set search_path = ''
as $$
  select 7310035118461046649;
$$;

-- Before a statement looks at a row that routes depend on, so that two who change several rows cannot wait for each other.
create or replace function eve.lock_routes()
returns trigger
language plpgsql
volatile
set search_path = ''
as $$
begin
  -- eve.routes_lock(), which anyone who may change a key has no right to call.
  perform pg_advisory_xact_lock(7310035118461046649);
  return null;
end;
$$;

-- For each row: a statement that changes none, as the sweep's mostly are, drops nothing. With its owner's rights: anyone who may
-- change a key has no right in this schema.
create or replace function eve.drop_routes()
returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  delete from eve.routes;
  return null;
end;
$$;

-- What an answer says of a key and a model; eve.granted adds what differs from call to call.
create or replace function eve.route_answer(
  requested_model text, served public.google_ai_model_limits, key_id uuid, alias text, env_var_name text, lane_id bigint,
  quota_project text
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'status', 'granted', 'model', (served).model, 'requested_model', route_answer.requested_model,
    'replaced', route_answer.requested_model <> (served).model,
    'key', jsonb_build_object(
      'id', route_answer.key_id, 'alias', route_answer.alias, 'env_var_name', route_answer.env_var_name,
      'provider', (eve.providers_of(served))[1]
    ),
    'lane_id', route_answer.lane_id, 'quota_project', route_answer.quota_project,
    'capabilities', jsonb_build_object(
      'system', (served).supports_system, 'json', (served).supports_json, 'tools', (served).supports_tools,
      'thinking', (served).supports_thinking, 'max_output_tokens', (served).max_output_tokens
    )
  );
end;
$$;

-- Makes the route of a model, unless somebody is at it or is changing what it depends on. Waits for nothing: its caller may
-- hold a lane or a budget.
create or replace function eve.make_route(requested_model text, now_ms bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := to_timestamp(make_route.now_ms / 1000.0);
  v_model public.google_ai_model_limits;
  v_stale_ms bigint;
begin
  if exists (
    select
    from eve.routes r
    join eve.lanes l on l.id = r.lane_id
    where r.model = make_route.requested_model and make_route.now_ms between r.stale_ms - 600000 and r.stale_ms - 1
  ) or not pg_try_advisory_xact_lock_shared(eve.routes_lock())
    or not pg_try_advisory_xact_lock(hashtextextended('eve.routes ' || make_route.requested_model, 0)) then
    return;
  end if;
  v_model := eve.served_model(make_route.requested_model);
  delete from eve.routes r where r.model = make_route.requested_model;
  if v_model.model is null then
    return;
  end if;
  -- A block that ends brings back a key, which may come first.
  select least(
    make_route.now_ms + 600000,
    (
      select ceil(extract(epoch from min(ends.at)) * 1000)::bigint
      from (
        select k.blocked_until as at from public.google_ai_api_keys k where k.blocked_until > v_now
        union all
        select b.blocked_until from eve.key_model_blocks b where b.model = v_model.model and b.blocked_until > v_now
      ) ends
      where ends.at < 'infinity'
    )
  )
  into v_stale_ms;

  insert into eve.routes (
    model, lane_id, served, lanes, stale_ms, limits, bucket_ms, interval_ms, token_ms, estimate_ceiling, even_share, key_ids,
    answers
  )
  select make_route.requested_model, f.lane_id, v_model.model, count(*) over (), v_stale_ms, f.limits,
    case when (f.limits).rpm <= 600 then 1 else 100 end,
    f.interval_ms, f.token_ms,
    v_model.estimate_ceiling,
    coalesce((f.limits).tpm::double precision / nullif(coalesce((f.limits).rpm, 60), 0), 'infinity'),
    f.key_ids,
    array(
      select eve.route_answer(
        make_route.requested_model, v_model, place.key_id, f.aliases[place.turn], f.env_var_names[place.turn], f.lane_id, f.quota_key
      )
      from unnest(f.key_ids) with ordinality as place (key_id, turn)
      order by place.turn
    )
  from (
    -- Of the whole pool, whatever each lane's priority: a pace that knew the preferred lanes alone would hold batch back from the others.
    -- One lane without a limit, and the pool has none.
    select o.*, rank() over (order by o.priority) as preference,
      case when bool_and((o.limits).rpm > 0) over () then (60000 + (o.limits).guard_ms)::double precision / sum((o.limits).rpm) over () end as interval_ms,
      case when bool_and((o.limits).tpm > 0) over () then (60000 + (o.limits).guard_ms)::double precision / sum((o.limits).tpm) over () end as token_ms
    from eve.lanes_for(v_model, make_route.now_ms, '{}', '{}') o
  ) f
  where f.preference = 1 and f.lane_id is not null;
end;
$$;

do $$
declare
  v_event record;
begin
  for v_event in
    select *
    from (values
      ('public.google_ai_api_keys', 'id, key_alias, provider, env_var_name, is_active, priority, quota_project, blocked_until'),
      (
        'public.google_ai_model_limits',
        'model, provider, is_active, replaced_by, rpm, tpm, rpd, batch_floor, interactive_floor, interactive_reserve, '
        || 'interactive_reserve_day, estimate_ceiling, supports_system, supports_json, supports_tools, supports_thinking, '
        || 'max_output_tokens'
      ),
      ('eve.quota_overrides', null), ('eve.key_model_blocks', null), ('eve.settings', null)
    ) as events (relation, columns)
  loop
    execute format(
      'create or replace trigger lock_routes before insert or delete or truncate or update%s on %s for each statement execute function eve.lock_routes()',
      ' of ' || v_event.columns, v_event.relation
    );
    execute format(
      'create or replace trigger drop_routes after insert or delete or update%s on %s for each row execute function eve.drop_routes()',
      ' of ' || v_event.columns, v_event.relation
    );
    execute format(
      'create or replace trigger drop_routes_truncated after truncate on %s for each statement execute function eve.drop_routes()',
      v_event.relation
    );
  end loop;
end;
$$;
