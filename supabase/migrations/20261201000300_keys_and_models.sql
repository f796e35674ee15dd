-- Keys of the pool and models, as people edit them: by the fields that they saw.

set local lock_timeout = '10s';

create or replace function eve.pool_key_json(key public.google_ai_api_keys)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', (pool_key_json.key).id, 'alias', (pool_key_json.key).key_alias, 'env_var_name', (pool_key_json.key).env_var_name,
    'quota_project', (pool_key_json.key).quota_project, 'priority', (pool_key_json.key).priority,
    'notes', (pool_key_json.key).notes, 'is_active', coalesce((pool_key_json.key).is_active, false)
  );
$$;
comment on function eve.pool_key_json is 'A key, by the fields that people edit.';

-- Adopted tables may have several keys of one alias, so no index forbids it; a new one is never given twice.
create or replace function eve.require_free_alias(alias text, other_than uuid default null)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if coalesce(require_free_alias.alias, '') !~ '^[^[:cntrl:]]{1,100}$' or require_free_alias.alias like 'stage:%' then
    raise exception 'alias must have 1 to 100 characters and not begin with stage:' using errcode = 'EV400';
  elsif exists (
    select from public.google_ai_api_keys k
    where k.key_alias = require_free_alias.alias and k.id is distinct from require_free_alias.other_than
  ) then
    raise exception 'there is a key named % already', require_free_alias.alias using errcode = 'EV400';
  end if;
end;
$$;

create or replace function public.eve_key_add(
  alias text, env_var_name text, quota_project text default null, priority integer default 100, notes text default null,
  secret jsonb default null, actor text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_id constant uuid := gen_random_uuid();
  v_key public.google_ai_api_keys;
begin
  -- Two who add the same alias come one after the other.
  perform pg_advisory_xact_lock(eve.routes_lock());
  perform eve.require_free_alias(eve_key_add.alias);
  if (eve_key_add.env_var_name is null) = (eve_key_add.secret is null) then
    raise exception 'a key has either env_var_name or a secret' using errcode = 'EV400';
  elsif eve_key_add.env_var_name !~ '^[A-Z][A-Z0-9_]{0,127}$' then
    raise exception 'env_var_name must be the name of a secret, in capitals, digits and underscores' using errcode = 'EV400';
  end if;
  insert into public.google_ai_api_keys (id, key_alias, provider, env_var_name, quota_project, priority, notes, is_active)
  values (
    v_id, eve_key_add.alias, 'google',
    coalesce(eve_key_add.env_var_name, eve.store_key(v_id, eve_key_add.secret, eve_key_add.actor)),
    nullif(eve_key_add.quota_project, ''), coalesce(eve_key_add.priority, 100), nullif(eve_key_add.notes, ''), true
  )
  returning * into v_key;
  return eve.pool_key_json(v_key);
end;
$$;
comment on function public.eve_key_add is 'Adds a key of the pool, switched on: by the name of the secret that holds it, or with the secret itself, encrypted.';

-- Switching on lifts what blocks the key, for single models too; switching off forgets it, since only a key that upstream has rejected is ever switched on
-- by itself. Another secret is another key to upstream: what upstream has said of the one before is over.
create or replace function public.eve_key_change(id uuid, seen jsonb, changes jsonb, secret jsonb default null, actor text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_key public.google_ai_api_keys;
  v_after public.google_ai_api_keys;
begin
  perform pg_advisory_xact_lock(eve.routes_lock());
  select * into v_key from public.google_ai_api_keys k where k.id = eve_key_change.id for update;
  if not found then
    raise exception 'there is no key %', eve_key_change.id using errcode = 'EV400';
  end if;
  perform eve.require_seen(eve_key_change.seen, eve.pool_key_json(v_key));
  if eve_key_change.changes - array['alias', 'env_var_name', 'quota_project', 'priority', 'notes', 'is_active'] <> '{}' then
    raise exception 'changes may have alias, env_var_name, quota_project, priority, notes and is_active' using errcode = 'EV400';
  elsif v_key.env_var_name like 'stage:%'
    and (eve_key_change.changes ?| array['alias', 'env_var_name'] or eve_key_change.secret is not null) then
    raise exception '% is the key of a stage: it is changed there', v_key.key_alias using errcode = 'EV400';
  elsif eve_key_change.changes ? 'env_var_name' and eve_key_change.secret is not null then
    raise exception 'a key has either env_var_name or a secret' using errcode = 'EV400';
  elsif eve_key_change.secret is not null and eve.provider_name(v_key.provider) <> 'google' then
    raise exception 'secrets of Google''s keys alone are stored' using errcode = 'EV400';
  elsif eve_key_change.changes ? 'env_var_name'
    and coalesce(eve_key_change.changes ->> 'env_var_name', '') !~ '^[A-Z][A-Z0-9_]{0,127}$' then
    raise exception 'env_var_name must be the name of a secret, in capitals, digits and underscores' using errcode = 'EV400';
  end if;
  v_after := jsonb_populate_record(v_key, eve_key_change.changes);
  if eve_key_change.changes ? 'alias' then
    perform eve.require_free_alias(eve_key_change.changes ->> 'alias', v_key.id);
    v_after.key_alias := eve_key_change.changes ->> 'alias';
  end if;
  if eve_key_change.changes ? 'is_active' then
    update public.google_ai_api_keys k
    set is_active = coalesce(v_after.is_active, false), blocked_until = null, blocked_reason = null
    where k.id = v_key.id;
    delete from eve.key_model_blocks b where b.key_id = v_key.id and v_after.is_active;
  end if;
  if eve_key_change.secret is not null then
    v_after.env_var_name := eve.store_key(v_key.id, eve_key_change.secret, eve_key_change.actor);
    if eve.key_was_rejected(v_key) or v_key.is_active and v_key.blocked_until is not null then
      update public.google_ai_api_keys k
      set is_active = true, blocked_until = null, blocked_reason = null
      where k.id = v_key.id;
    end if;
    -- It may be of another project: which models it may use is to be seen.
    delete from eve.key_model_blocks b where b.key_id = v_key.id;
  end if;
  update public.google_ai_api_keys k
  set key_alias = v_after.key_alias, env_var_name = v_after.env_var_name, quota_project = nullif(v_after.quota_project, ''),
    priority = v_after.priority, notes = nullif(v_after.notes, '')
  where k.id = v_key.id
  returning * into v_key;
  return eve.pool_key_json(v_key);
end;
$$;
comment on function public.eve_key_change is 'Changes a key of the pool, or its secret too, if the fields that were seen are as they were.';

-- Calls under way end as they would; the audit and the sums keep what the key did, under its id. A secret that is stored goes with it.
create or replace function public.eve_key_remove(id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_key public.google_ai_api_keys;
begin
  perform pg_advisory_xact_lock(eve.routes_lock());
  select * into v_key from public.google_ai_api_keys k where k.id = eve_key_remove.id for update;
  if not found then
    raise exception 'there is no key %', eve_key_remove.id using errcode = 'EV400';
  elsif v_key.env_var_name like 'stage:%' then
    raise exception '% is the key of a stage: it is removed there', v_key.key_alias using errcode = 'EV400';
  end if;
  delete from public.google_ai_api_keys k where k.id = v_key.id;
  return to_jsonb(coalesce(v_key.key_alias, v_key.id::text));
end;
$$;
comment on function public.eve_key_remove is 'Removes a key of the pool for good; answers what it was called.';

create or replace function eve.model_json(model public.google_ai_model_limits)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'model', (model_json.model).model, 'provider', (model_json.model).provider, 'is_active', (model_json.model).is_active,
    'replaced_by', (model_json.model).replaced_by, 'supports_system', (model_json.model).supports_system,
    'supports_json', (model_json.model).supports_json, 'supports_tools', (model_json.model).supports_tools,
    'supports_thinking', (model_json.model).supports_thinking, 'max_output_tokens', (model_json.model).max_output_tokens,
    'rpm', (model_json.model).rpm, 'tpm', (model_json.model).tpm, 'rpd', (model_json.model).rpd
  ) || eve.shares_of(model_json.model);
$$;
comment on function eve.model_json is 'A model, by the fields that people edit.';

create or replace function public.eve_model_rows()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(eve.model_json(m) order by m.model), '[]') from public.google_ai_model_limits m;
$$;
comment on function public.eve_model_rows is 'All models, those that are switched off or replaced among them.';

-- All changes of one form, or none. `limits`: as a row of eve_limits_set, without the model's name, for one quota project or for all;
-- the limits that were seen are then that project's.
create or replace function public.eve_model_change(
  model text, seen jsonb, changes jsonb, limits jsonb default null, quota_project text default null, notes text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_model public.google_ai_model_limits;
  v_after public.google_ai_model_limits;
  v_there jsonb;
begin
  perform pg_advisory_xact_lock(eve.routes_lock());
  select * into v_model from public.google_ai_model_limits m where m.model = eve_model_change.model for update;
  if not found then
    raise exception 'there is no model named %', eve_model_change.model using errcode = 'EV400';
  end if;
  select eve.model_json(v_model) || coalesce(
    (
      select jsonb_build_object('rpm', o.rpm, 'tpm', o.tpm, 'rpd', o.rpd)
      from eve.quota_overrides o
      where o.quota_project = eve_model_change.quota_project and o.model = v_model.model
    ),
    '{}'
  ) into v_there;
  perform eve.require_seen(eve_model_change.seen, v_there);
  if eve_model_change.changes - array[
    'is_active', 'replaced_by', 'supports_system', 'supports_json', 'supports_tools', 'supports_thinking', 'max_output_tokens'
  ] <> '{}' then
    raise exception 'changes may have is_active, replaced_by, supports_* and max_output_tokens' using errcode = 'EV400';
  end if;
  v_after := jsonb_populate_record(v_model, eve_model_change.changes);
  if v_after.max_output_tokens not between 1 and 10000000 then
    raise exception 'max_output_tokens must be 1 to 10000000' using errcode = 'EV400';
  elsif v_after.replaced_by is not null and not exists (
    select from public.google_ai_model_limits m
    -- A chain could come back to where it began.
    where m.model = v_after.replaced_by and m.model <> v_model.model and m.replaced_by is null
  ) then
    raise exception 'replaced_by must be another model that is not replaced itself' using errcode = 'EV400';
  end if;
  update public.google_ai_model_limits m
  set is_active = v_after.is_active, replaced_by = v_after.replaced_by, supports_system = v_after.supports_system,
    supports_json = v_after.supports_json, supports_tools = v_after.supports_tools, supports_thinking = v_after.supports_thinking,
    max_output_tokens = v_after.max_output_tokens, updated_at = now()
  where m.id = v_model.id;
  if eve_model_change.limits is not null then
    perform public.eve_limits_set(
      jsonb_build_array(eve_model_change.limits || jsonb_build_object('model', v_model.model)),
      eve_model_change.quota_project, notes => eve_model_change.notes
    );
  end if;
  select * into v_model from public.google_ai_model_limits m where m.id = v_model.id;
  return eve.model_json(v_model);
end;
$$;
comment on function public.eve_model_change is 'Changes what a model can, which follows it and its limits, if the fields that were seen are as they were.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace and p.proname in ('pool_key_json', 'require_free_alias', 'model_json')
      or p.pronamespace = 'public'::regnamespace
        and p.proname in ('eve_key_add', 'eve_key_change', 'eve_key_remove', 'eve_model_rows', 'eve_model_change')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
end;
$$;
