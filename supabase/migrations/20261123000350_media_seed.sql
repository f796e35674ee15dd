-- What the environment says of files, the first time: limits, and which tenant is the default one.

set local lock_timeout = '10s';

-- What belongs to a tenant besides its files, by the names of the tables: what would be torn from them if they became another one's.
-- Uses of files count with it: who holds one names its tenant. A bot of Telegram does not: what it has brought are posts.
create or replace function eve.tenant_uses(tenant_id text)
returns text[]
language plpgsql
stable
set search_path = ''
as $$
declare
  v_table record;
  v_is_used boolean;
  v_uses text[] := '{}';
begin
  for v_table in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
    where c.relkind in ('r', 'p') and not c.relispartition
      and (
        c.relnamespace = 'eve'::regnamespace and c.relname !~ '^(media_|telegram_bots$)'
        or c.relnamespace = 'public'::regnamespace
        and c.relname in (
          'message_images', 'posts', 'post_media_map', 'post_enrichment', 'crawl_pages', 'articles', 'post_links', 'graph_nodes', 'graph_edges'
        )
      )
    order by 1
  loop
    execute format('select exists (select from %s where tenant_id = $1)', v_table.relation) into v_is_used using tenant_uses.tenant_id;
    if v_is_used then
      v_uses := v_uses || v_table.relation::text;
    end if;
  end loop;
  if exists (
    select from eve.media_references r where r.tenant_id = tenant_uses.tenant_id and r.ref_kind <> 'adopted'
  ) then
    v_uses := v_uses || 'eve.media_references'::text;
  end if;
  return v_uses;
end;
$$;

-- What keeps the tenant that the environment names from becoming the default one: null, or {"named", "default", "held_by"}. held_by: what
-- belongs to the tenant `default` besides its files, or public.media_objects where both tenants have some; none: somebody chose another.
create or replace function eve.media_default_held()
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_default constant text := eve.default_tenant();
  v_named text;
  v_held_by text[] := '{}';
begin
  select t.id into v_named from eve.tenants t where t.is_named_by_env and not t.is_default;
  if not found then
    return null;
  end if;
  if v_default = 'default' then
    v_held_by := eve.tenant_uses('default');
    if exists (select from public.media_objects o where o.tenant_id = 'default')
      and exists (select from public.media_objects o where o.tenant_id = v_named) then
      v_held_by := v_held_by || 'public.media_objects'::text;
    end if;
  end if;
  return jsonb_build_object('named', v_named, 'default', v_default, 'held_by', to_jsonb(v_held_by));
end;
$$;

-- Makes the tenant that the environment names, and the default one as long as that is `default` and has nothing but files, such as the
-- rows of a table that was adopted: those become its own, and so do bots that have brought nothing yet.
create or replace function eve.media_name_default(tenant_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  -- Of functions that start at once one does it.
  lock table eve.tenants in share row exclusive mode;
  if not exists (select from eve.tenants t where t.id = media_name_default.tenant_id) then
    perform public.eve_tenant_save(media_name_default.tenant_id);
  end if;
  update eve.tenants t
  set is_named_by_env = t.id = media_name_default.tenant_id
  where t.is_named_by_env <> (t.id = media_name_default.tenant_id);
  if eve.default_tenant() <> 'default' or eve.media_default_held() -> 'held_by' is distinct from '[]' then
    return;
  end if;
  perform public.eve_tenant_change(media_name_default.tenant_id, '{"is_default": true}');
  if to_regclass('eve.telegram_bots') is not null then
    execute 'update eve.telegram_bots set tenant_id = $1 where tenant_id = ''default''' using media_name_default.tenant_id;
  end if;
  -- Where they are stored they stay: a row has its key.
  update public.media_objects o set tenant_id = media_name_default.tenant_id where o.tenant_id = 'default';
  if found then
    perform public.eve_media_recount();
  end if;
end;
$$;

-- Sets the limits that nobody has set yet out of the environment, in bytes by the names of eve.media_limits; the rows rule from then on,
-- and what the environment says otherwise is kept for the comparison. default_tenant: see eve.media_name_default.
create or replace function public.eve_media_seed(limits jsonb default '{}', default_tenant text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  update eve.media_limits l
  set limit_bytes = case when l.env_bytes is null then (eve_media_seed.limits ->> l.name)::bigint else l.limit_bytes end,
    env_bytes = (eve_media_seed.limits ->> l.name)::bigint
  where eve_media_seed.limits ->> l.name is not null and l.env_bytes is distinct from (eve_media_seed.limits ->> l.name)::bigint;
  if eve_media_seed.default_tenant is not null
    and not exists (select from eve.tenants t where t.id = eve_media_seed.default_tenant and t.is_default and t.is_named_by_env) then
    perform eve.media_name_default(eve_media_seed.default_tenant);
  end if;
  return jsonb_build_object('status', 'seeded', 'default_tenant', eve.default_tenant());
end;
$$;
comment on function public.eve_media_seed is 'Sets limits and the default tenant out of the environment, the first time; the rows rule from then on.';
