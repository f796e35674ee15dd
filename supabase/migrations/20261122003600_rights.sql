-- Who may do what, of all that stands before this file. Each part that comes after it has a file of rights of its own at its end, and the
-- few later migrations that have none say it themselves; what holds of all is in tests/db/privileges.txt.
--
-- Everything that the gateway adds lives in schema eve, which the REST API does not expose, or in functions of public whose names
-- begin with eve_. The service role alone may use them. Row-level security is on everywhere, so that a right which is given by
-- mistake shows no row. The five tables that existing deployments made by hand keep the rights that adoption found or gave.

set local lock_timeout = '10s';

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation, c.relkind
    from pg_catalog.pg_class c
    where c.relkind in ('r', 'p', 'v', 'S')
      and (
        c.relnamespace = 'eve'::regnamespace and c.relname !~ '^adopt(ed_rows|ion_warnings)'
        or c.oid in (
          'public.provider_configs'::regclass, 'public.api_keys'::regclass, pg_get_serial_sequence('public.api_keys', 'id')::regclass
        )
      )
  loop
    if v_object.relkind = 'S' then
      execute format('revoke all on sequence %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant usage on sequence %s to service_role', v_object.relation);
    elsif v_object.relkind = 'v' then
      execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant select on table %s to service_role', v_object.relation);
    else
      execute format('alter table %s enable row level security', v_object.relation);
      execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
    end if;
  end loop;
  for v_object in
    select
      p.oid::regprocedure as signature,
      -- Triggers fire without it; and what runs when is the business of anyone who deploys.
      p.prorettype <> 'trigger'::regtype and p.proname <> 'eve_schedule' as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace
        or p.pronamespace = 'public'::regnamespace and p.proname like 'eve\_%'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;

-- Policies call it with the rights of anyone who reads. The schema stays closed, so it cannot be called by name.
grant execute on function eve.is_administrator() to authenticated;

-- What a signed-in user's own client may ask for: every column but the keys; and row-level security shows the rows to
-- administrators alone.
grant select (
  stage_type, provider_kind, key_fingerprint, key_last_four, model, settings, quota_project, models_cache,
  models_cache_updated_at, status, status_reason, checked_at, updated_at, updated_by
) on table public.provider_configs to authenticated;
grant select (id, stage_type, provider_kind, fingerprint, last_four, entered_by, entered_at, used_until)
  on table public.api_keys to authenticated;

drop policy if exists provider_configs_read on public.provider_configs;
create policy provider_configs_read on public.provider_configs
  for select to authenticated using ((select eve.is_administrator()));
drop policy if exists api_keys_read on public.api_keys;
create policy api_keys_read on public.api_keys
  for select to authenticated using ((select eve.is_administrator()));
