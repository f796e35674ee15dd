-- Who may do what with tenants and media. As everywhere: the service role alone, through functions; row-level security is on, so that
-- a right which is given by mistake shows no row. Signed-in users read the objects of their own tenants.

set local lock_timeout = '10s';

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    where c.relkind = 'r'
      and (
        c.relnamespace = 'eve'::regnamespace and c.relname ~ '^(tenants|tenant_members|media_)'
        or c.oid = 'public.media_objects'::regclass
      )
  loop
    execute format('alter table %s enable row level security', v_object.relation);
    execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
    execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
  end loop;
  for v_object in
    select p.oid::regprocedure as signature, p.prorettype <> 'trigger'::regtype as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(media_|tenant|default_tenant|member_tenants|refus(ed$|al_of_consumer))'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_(media_|storage_|tenant|consumer_a(ccess|dd_with_access)$)'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;

-- A policy calls it with the rights of the reader. The schema stays closed, so it cannot be called by name.
grant execute on function eve.member_tenants() to authenticated;

grant select (
  tenant_id, file_sha256, size_bytes, stored_bytes, mime_type, content_encoding, kind, s3_key, metadata, refs_count, state,
  first_seen_at, last_seen_at, expires_at
) on table public.media_objects to authenticated;
drop policy if exists media_objects_read on public.media_objects;
create policy media_objects_read on public.media_objects
  for select to authenticated using (tenant_id in (select eve.member_tenants()));
