-- Edits by people who may not be alone: what was seen when it was begun is compared, under a lock, with what is there.

set local lock_timeout = '10s';

-- Raises where a field that was seen has another value now.
create or replace function eve.require_seen(seen jsonb, now_there jsonb)
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_field text;
begin
  if jsonb_typeof(require_seen.seen) is distinct from 'object' then
    raise exception 'seen must be an object: the fields as they were read' using errcode = 'EV400';
  end if;
  select s.key into v_field
  from jsonb_each(require_seen.seen) s
  where coalesce(require_seen.now_there -> s.key, 'null') <> s.value
  order by s.key
  limit 1;
  if found then
    raise exception '% has been changed since it was read', v_field using errcode = 'EV409';
  end if;
end;
$$;
comment on function eve.require_seen is 'Raises EV409 unless every field that was seen has the value it had.';

-- All changes of one form, or none.
create or replace function public.eve_consumer_change(
  name text, seen jsonb, changes jsonb default null, scopes text[] default null, tenant_id text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer constant eve.consumers := eve.consumer_named(eve_consumer_change.name);
  v_after jsonb := eve.consumer_json(v_consumer);
begin
  perform eve.require_seen(eve_consumer_change.seen, v_after);
  if eve_consumer_change.changes is not null then
    v_after := public.eve_consumer_scope(eve_consumer_change.name, eve_consumer_change.changes);
  end if;
  if eve_consumer_change.scopes is not null or eve_consumer_change.tenant_id is not null then
    v_after := public.eve_consumer_access(
      eve_consumer_change.name, eve_consumer_change.scopes, eve_consumer_change.tenant_id
    );
  end if;
  return v_after;
end;
$$;
comment on function public.eve_consumer_change is 'Changes a consumer''s scope and access at once, if the fields that were seen are as they were.';

-- As public.eve_provider_save, whose arguments are the fields of `change`. `seen`: fields of the configuration; of a stage that had
-- none, nulls.
create or replace function public.eve_provider_save_seen(seen jsonb, change jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_change record;
  v_stage eve.stages;
begin
  select * into v_change
  from jsonb_to_record(eve_provider_save_seen.change) as c (
    stage_type text, provider_kind text, model text, actor text, api_key_encrypted text, key_fingerprint text, key_last_four text,
    settings jsonb, quota_project text, models jsonb, status text, status_reason text, remove_key boolean
  );
  select * into v_stage from eve.stages s where s.stage_type = v_change.stage_type for update;
  perform eve.require_seen(eve_provider_save_seen.seen, nullif(eve.stage_json(v_stage) -> 'config', 'null'));
  return public.eve_provider_save(
    v_change.stage_type, v_change.provider_kind, v_change.model, v_change.actor, v_change.api_key_encrypted,
    v_change.key_fingerprint, v_change.key_last_four, v_change.settings, v_change.quota_project,
    nullif(v_change.models, 'null'), coalesce(v_change.status, 'active'), v_change.status_reason,
    coalesce(v_change.remove_key, false)
  );
end;
$$;
comment on function public.eve_provider_save_seen is 'Saves a stage''s provider, if the fields that were seen of its configuration are as they were.';

-- As public.eve_tenant_change. Which one is the default is a matter of all rows: one after another.
create or replace function public.eve_tenant_change_seen(id text, seen jsonb, changes jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  lock table eve.tenants in share row exclusive mode;
  perform eve.require_seen(eve_tenant_change_seen.seen, public.eve_tenants(eve_tenant_change_seen.id) -> 0);
  return public.eve_tenant_change(eve_tenant_change_seen.id, eve_tenant_change_seen.changes);
end;
$$;
comment on function public.eve_tenant_change_seen is 'Changes a tenant, if the fields that were seen are as they were.';

-- As public.eve_consumer_enable. `seen`: fields of the consumer, so that nobody lets in somebody else than they looked at.
create or replace function public.eve_consumer_enable_seen(name text, seen jsonb, enabled boolean)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer constant eve.consumers := eve.consumer_named(eve_consumer_enable_seen.name);
begin
  perform eve.require_seen(eve_consumer_enable_seen.seen, eve.consumer_json(v_consumer));
  return public.eve_consumer_enable(eve_consumer_enable_seen.name, eve_consumer_enable_seen.enabled);
end;
$$;
comment on function public.eve_consumer_enable_seen is 'Switches a consumer on or off, if the fields that were seen are as they were.';

-- As public.eve_cache_set. `seen`: ttl_s and by_tenant; of a consumer without a cache of its own, nulls.
create or replace function public.eve_cache_set_seen(name text, seen jsonb, ttl_s integer default null, by_tenant boolean default false)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer_id constant uuid := eve.consumer_id_of(eve_cache_set_seen.name);
begin
  -- One after another: there may be no row of the cache to wait for. Calls, whose rows refer to the consumer, wait for nothing.
  perform from eve.consumers c where c.id = v_consumer_id for no key update;
  perform eve.require_seen(
    eve_cache_set_seen.seen, (select to_jsonb(k) from eve.consumer_caches k where k.consumer_id = v_consumer_id)
  );
  return public.eve_cache_set(eve_cache_set_seen.name, eve_cache_set_seen.ttl_s, eve_cache_set_seen.by_tenant);
end;
$$;
comment on function public.eve_cache_set_seen is 'Sets a consumer''s cache, if the fields that were seen of it are as they were.';

-- As public.eve_limits_clear, of one model. `seen`: rpm, tpm and rpd of its limits there; of none, nulls.
create or replace function public.eve_limits_clear_seen(quota_project text, model text, seen jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_there jsonb;
begin
  select to_jsonb(o) into v_there
  from eve.quota_overrides o
  where o.quota_project = eve_limits_clear_seen.quota_project and o.model = eve_limits_clear_seen.model
  for update;
  perform eve.require_seen(eve_limits_clear_seen.seen, v_there);
  return public.eve_limits_clear(eve_limits_clear_seen.quota_project, eve_limits_clear_seen.model);
end;
$$;
comment on function public.eve_limits_clear_seen is 'Takes away what a quota project has of its own for a model, if the fields that were seen are as they were.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace and p.proname = 'require_seen'
      or p.pronamespace = 'public'::regnamespace and p.proname in (
        'eve_consumer_change', 'eve_provider_save_seen', 'eve_tenant_change_seen', 'eve_consumer_enable_seen', 'eve_cache_set_seen',
        'eve_limits_clear_seen'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
end;
$$;
