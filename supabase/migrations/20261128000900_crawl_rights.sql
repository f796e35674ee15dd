-- Who may do what with pages: the service role alone, through functions. Signed-in users read what is their tenants'.

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
        c.relnamespace = 'eve'::regnamespace and c.relname ~ '^crawl_'
        or c.relnamespace = 'public'::regnamespace and c.relname in ('crawl_pages', 'articles', 'post_links')
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
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(crawl_|retention_of_crawl)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_crawl_'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;

grant select (
  id, tenant_id, url, canonical_url, domain, state, reason, status, final_url, mime_type, charset, size_bytes, title, html_sha256, fetches,
  fetched_at, expires_at, created_at, updated_at
) on table public.crawl_pages to authenticated;
grant select on table public.articles, public.post_links to authenticated;

drop policy if exists crawl_pages_read on public.crawl_pages;
create policy crawl_pages_read on public.crawl_pages for select to authenticated using (tenant_id in (select eve.member_tenants()));
drop policy if exists articles_read on public.articles;
create policy articles_read on public.articles for select to authenticated using (tenant_id in (select eve.member_tenants()));
drop policy if exists post_links_read on public.post_links;
create policy post_links_read on public.post_links for select to authenticated using (tenant_id in (select eve.member_tenants()));
