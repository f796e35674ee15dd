-- Which media there are, and what room they take: for anyone who may know.

set local lock_timeout = '10s';

create or replace function eve.media_limit(name text)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select l.limit_bytes from eve.media_limits l where l.name = media_limit.name
  );
end;
$$;

create or replace function eve.media_tenant_limit(tenant_id text)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select coalesce(
      (select t.storage_limit_bytes from eve.tenants t where t.id = media_tenant_limit.tenant_id), eve.media_limit('tenant')
    )
  );
end;
$$;

-- An object by its hash, by a key that a program chose, or by its own key; null: there is none.
create or replace function eve.media_named(tenant_id text, name text)
returns public.media_objects
language plpgsql
stable
set search_path = ''
as $$
declare
  v_object public.media_objects;
begin
  if media_named.name ~ '^[0-9a-f]{64}$' then
    select * into v_object
    from public.media_objects o
    where o.tenant_id = media_named.tenant_id and o.file_sha256 = media_named.name;
    if found then
      return v_object;
    end if;
  end if;
  select o.* into v_object
  from eve.media_aliases a
  join public.media_objects o on o.tenant_id = a.tenant_id and o.file_sha256 = a.file_sha256
  where a.tenant_id = media_named.tenant_id and a.key = media_named.name;
  if not found then
    select * into v_object
    from public.media_objects o
    where o.tenant_id = media_named.tenant_id and o.s3_key collate "C" = media_named.name
    order by o.file_sha256
    limit 1;
  end if;
  return v_object;
end;
$$;
comment on function eve.media_named is 'An object of a tenant by its hash or by a key.';

-- {"status": "found", "object", "alias", "multipart"}, `none`, or a refusal. uses: it is being read, and stays for its time. An upload that is not
-- finished is found only where `unfinished` says so.
create or replace function public.eve_media_find(
  actor jsonb, tenant_id text, name text, uses boolean default false, unfinished boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- A picture that is looked at all day is written to once an hour.
  v_often constant interval := '1 hour';
  v_who constant jsonb := eve.tenant_of_actor(eve_media_find.actor, eve_media_find.tenant_id, 'media');
  v_object public.media_objects;
begin
  if v_who ->> 'tenant_id' is null then
    return v_who;
  end if;
  v_object := eve.media_named(v_who ->> 'tenant_id', left(eve_media_find.name, 1100));
  if v_object.tenant_id is null or v_object.state not in ('stored', 'verified') and not (eve_media_find.unfinished and v_object.state = 'reserved') then
    return jsonb_build_object('status', 'none', 'tenant_id', v_who ->> 'tenant_id');
  end if;
  if eve_media_find.uses and v_object.last_seen_at < eve.clock() - v_often then
    update public.media_objects o
    set last_seen_at = eve.clock()
    where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256 and o.state in ('stored', 'verified');
  end if;
  return jsonb_build_object(
    'status', 'found', 'object', eve.media_json(v_object), 'multipart', case
      when v_object.state = 'reserved' then eve.media_multipart(v_object.tenant_id, v_object.file_sha256)
    end
  ) || coalesce(
    (
      select jsonb_build_object('alias', jsonb_build_object('key', a.key, 'metadata', a.metadata, 'created_at', a.created_at))
      from eve.media_aliases a
      where a.tenant_id = v_object.tenant_id and a.key = eve_media_find.name
    ),
    '{}'
  );
end;
$$;
comment on function public.eve_media_find is 'An object of a tenant, for anyone who may act for it.';

-- A page of what a tenant has: {"status": "listed", "entries": [{"key", "object"}], "next"}. In the order of keys; with a prefix that
-- is none of ours, or with aliases, of those that programs chose. `after`: the last key of the page before.
create or replace function public.eve_media_list(
  actor jsonb, tenant_id text, prefix text default '', kind text default null, aliases boolean default false,
  after text default null, at_most integer default 100
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_media_list.actor, eve_media_list.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_most constant integer := least(greatest(eve_media_list.at_most, 1), 1000);
  v_prefix constant text := coalesce(left(eve_media_list.prefix, 1024), '');
  -- Behind every key that begins so, by bytes: no character stands behind this one.
  v_end constant text := v_prefix || U&'\+10FFFF';
  v_after constant text := coalesce(eve_media_list.after, '');
  v_entries jsonb;
begin
  if v_tenant is null then
    return v_who;
  end if;
  if eve_media_list.aliases or v_prefix <> '' and v_prefix !~ '^(m|me|med|medi|media|v|vi|vis|visi|visio|vision|c|cr|cra|craw|crawl)(/|$)' then
    select jsonb_agg(jsonb_build_object('key', page.key, 'metadata', page.metadata, 'object', page.object) order by page.key collate "C")
    into v_entries
    from (
      select a.key, a.metadata, eve.media_json(o) as object
      from eve.media_aliases a
      join public.media_objects o on o.tenant_id = a.tenant_id and o.file_sha256 = a.file_sha256
      where a.tenant_id = v_tenant and a.key collate "C" > v_after and a.key collate "C" >= v_prefix and a.key collate "C" < v_end
        and o.state in ('stored', 'verified') and (eve_media_list.kind is null or o.kind = eve_media_list.kind)
      order by a.key collate "C"
      limit v_most + 1
    ) page;
  else
    select jsonb_agg(jsonb_build_object('key', page.key, 'object', page.object) order by page.key collate "C")
    into v_entries
    from (
      select o.s3_key as key, eve.media_json(o) as object
      from public.media_objects o
      where o.tenant_id = v_tenant and o.s3_key collate "C" > v_after and o.s3_key collate "C" >= v_prefix
        and o.s3_key collate "C" < v_end
        and o.state in ('stored', 'verified') and (eve_media_list.kind is null or o.kind = eve_media_list.kind)
      order by o.s3_key collate "C"
      limit v_most + 1
    ) page;
  end if;
  v_entries := coalesce(v_entries, '[]');
  if jsonb_array_length(v_entries) > v_most then
    v_entries := v_entries - v_most;
    return jsonb_build_object(
      'status', 'listed', 'tenant_id', v_tenant, 'entries', v_entries, 'next', v_entries -> (v_most - 1) ->> 'key'
    );
  end if;
  return jsonb_build_object('status', 'listed', 'tenant_id', v_tenant, 'entries', v_entries, 'next', null);
end;
$$;
comment on function public.eve_media_list is 'A page of a tenant''s objects, or of the keys that its programs chose.';

create or replace function eve.media_counter_json(scope text, subject text, limit_bytes bigint)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'limit_bytes', media_counter_json.limit_bytes, 'used_bytes', c.used_bytes, 'reserved_bytes', c.reserved_bytes,
    'free_bytes', greatest(media_counter_json.limit_bytes - c.used_bytes - c.reserved_bytes, 0), 'objects', c.objects
  )
  from eve.media_counters c
  where c.scope = media_counter_json.scope and c.subject = media_counter_json.subject;
$$;

-- The limits that hold for a tenant, and what is used of each.
create or replace function public.eve_storage_quota(actor jsonb, tenant_id text default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_quota.actor, eve_storage_quota.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
begin
  if v_tenant is null then
    return v_who;
  end if;
  return jsonb_build_object(
    'status', 'known', 'tenant_id', v_tenant,
    'total', eve.media_counter_json('total', '', eve.media_limit('total')),
    'tenant', eve.media_counter_json('tenant', v_tenant, eve.media_tenant_limit(v_tenant)),
    'kinds', (
      select jsonb_object_agg(k, eve.media_counter_json('kind', k, eve.media_limit(k))) from unnest('{media,vision,crawl}'::text[]) k
    ),
    'spool', eve.media_counter_json('spool', '', eve.media_limit('spool')),
    'emergency_threshold_bytes', eve.media_limit('emergency')
  );
end;
$$;
comment on function public.eve_storage_quota is 'The limits that hold for a tenant, and what is used of each.';

create or replace function public.eve_storage_usage(actor jsonb, tenant_id text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_usage.actor, eve_storage_usage.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
begin
  if v_tenant is null then
    return v_who;
  end if;
  return jsonb_build_object('status', 'known', 'tenant_id', v_tenant)
    || eve.media_counter_json('tenant', v_tenant, eve.media_tenant_limit(v_tenant))
    || jsonb_build_object(
      'kinds', (
        select jsonb_object_agg(
          k, (
            select jsonb_build_object(
              'objects', count(*), 'used_bytes', coalesce(sum(eve.media_bytes(o)), 0),
              'without_references_bytes', coalesce(sum(eve.media_bytes(o)) filter (where o.refs_count = 0), 0)
            )
            from public.media_objects o
            where o.tenant_id = v_tenant and o.kind = k and o.counts_as = 'used'
          )
        )
        from unnest('{media,vision,crawl}'::text[]) k
      )
    );
end;
$$;
comment on function public.eve_storage_usage is 'What a tenant keeps, by kind.';

-- Whether so many bytes more would have room: nothing is taken.
create or replace function public.eve_storage_check(
  actor jsonb, tenant_id text, size_bytes bigint, kind text default 'media', in_spool boolean default false
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_check.actor, eve_storage_check.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_no_room jsonb;
begin
  if v_tenant is null then
    return v_who;
  end if;
  perform eve.media_check_file(repeat('0', 64), eve_storage_check.size_bytes, 0, 'any/any', eve_storage_check.kind, 'any');
  v_no_room := eve.media_no_room(
    v_tenant, eve_storage_check.kind, eve_storage_check.size_bytes, eve_storage_check.in_spool,
    eve.media_limits_of(v_tenant, eve_storage_check.kind)
  );
  return jsonb_build_object(
    'status', 'checked', 'tenant_id', v_tenant, 'content_type', eve_storage_check.kind, 'size_bytes', eve_storage_check.size_bytes,
    'allowed', v_no_room is null
  ) || case when v_no_room is null then '{}' else jsonb_build_object('refused_by', v_no_room) end;
end;
$$;
comment on function public.eve_storage_check is 'Whether a file of a size would have room.';

-- All that is stored: for the project and its administrators.
create or replace function public.eve_storage_stats(actor jsonb)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_stats.actor, null, 'media');
begin
  if not coalesce((v_who ->> 'project')::boolean, false) then
    return case
      when v_who ->> 'code' is not null then v_who
      else eve.refused('credential_insufficient', 'This is for the project''s secret key and for administrators.')
    end;
  end if;
  return public.eve_storage_quota(eve_storage_stats.actor, null) - 'tenant' - 'tenant_id' || jsonb_build_object(
    'tenants', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object('tenant_id', t.id) || eve.media_counter_json('tenant', t.id, eve.media_tenant_limit(t.id)) order by t.id
        ), '[]'
      )
      from eve.tenants t
    ),
    'limits', (
      select jsonb_agg(
        jsonb_build_object('name', l.name, 'limit_bytes', l.limit_bytes, 'variable', l.variable, 'env_bytes', l.env_bytes) order by l.name
      )
      from eve.media_limits l
    ),
    'default_tenant_held', eve.media_default_held(),
    'unfinished', (select count(*) from public.media_objects o where o.state = 'reserved'),
    'unproven', (select count(*) from public.media_objects o where o.state = 'stored'),
    'deleting', (select count(*) from public.media_objects o where o.state = 'deleting'),
    'spooled', (
      select jsonb_build_object('objects', count(*), 'oldest_at', min(s.created_at), 'tries', coalesce(max(s.tries), 0)) from eve.media_spool s
    )
  );
end;
$$;
comment on function public.eve_storage_stats is 'All that is stored, by kind and by tenant, against the limits; for the project alone.';
