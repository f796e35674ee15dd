-- Who may do what with posts and vision: the service role alone, through functions. Signed-in users read what is their tenants'.

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
        c.relnamespace = 'eve'::regnamespace and c.relname ~ '^vision_'
        or c.relnamespace = 'public'::regnamespace and c.relname in ('posts', 'post_media_map', 'post_enrichment')
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
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(vision_|post_(json|media_uses|replace)|enrichment_|retention_of_vision)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_(vision_|post_add$)'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;

grant select on table public.posts, public.post_media_map to authenticated;
grant select (
  id, tenant_id, post_id, file_sha256, kind, status, reason, provider, model, schema_version, resolution, vision_description, labels, objects,
  ocr_text, is_meme, nsfw, scene, confidence, tokens, same_as, created_at, updated_at, analyzed_at, search
) on table public.post_enrichment to authenticated;

drop policy if exists posts_read on public.posts;
create policy posts_read on public.posts for select to authenticated using (tenant_id in (select eve.member_tenants()));
drop policy if exists post_media_map_read on public.post_media_map;
create policy post_media_map_read on public.post_media_map
  for select to authenticated using (tenant_id in (select eve.member_tenants()));
drop policy if exists post_enrichment_read on public.post_enrichment;
create policy post_enrichment_read on public.post_enrichment
  for select to authenticated using (tenant_id in (select eve.member_tenants()));
