-- Media within its limits: room is taken before a byte is sent, on the counters in all, of the tenant and of the kind together or not
-- at all; what has arrived turns it into use; what is deleted gives it back.
--
-- Order of locks, kept by everything that writes here: objects by (tenant_id, file_sha256), or passing over those that somebody holds;
-- then their references, their aliases, their uploads in parts and their rows in the spool; then counters: the spool's, tenants by id, kinds by name, and the
-- total last, since everybody wants it.

set local lock_timeout = '10s';

-- What every upload calls is in PL/pgSQL, also where one query does: of functions in SQL each call plans its query again.

-- Locks the counters that an object of this tenant and kind counts on, in their order.
create or replace function eve.media_lock_counters(tenant_id text, kind text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform
  from eve.media_counters c
  where (c.scope, c.subject) in (('tenant', media_lock_counters.tenant_id), ('kind', media_lock_counters.kind), ('total', ''))
  order by array_position('{tenant,kind,total}', c.scope)
  for no key update;
end;
$$;

-- Changes them; the caller has locked them, unless what it locks is one row.
create or replace function eve.media_count(tenant_id text, kind text, used bigint, reserved bigint, objects integer)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  update eve.media_counters c
  -- A row that somebody deleted by hand counts on until the reconciliation: less than nothing is never stored.
  set used_bytes = greatest(c.used_bytes + media_count.used, 0),
    reserved_bytes = greatest(c.reserved_bytes + media_count.reserved, 0),
    objects = greatest(c.objects + media_count.objects, 0)
  where (c.scope, c.subject) in (('tenant', media_count.tenant_id), ('kind', media_count.kind), ('total', ''));
end;
$$;

-- The limits that count for an object of this tenant and kind, in bytes: {"tenant", "kind", "total", "spool"}.
create or replace function eve.media_limits_of(tenant_id text, kind text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select jsonb_object_agg(case l.name when media_limits_of.kind then 'kind' else l.name end, l.limit_bytes)
    from eve.media_limits l
    where l.name in ('tenant', media_limits_of.kind, 'total', 'spool')
  ) || jsonb_strip_nulls(jsonb_build_object(
    'tenant', (select t.storage_limit_bytes from eve.tenants t where t.id = media_limits_of.tenant_id)
  ));
end;
$$;

-- Which of these limits has no room for so many bytes more: null, or {"limit", "limit_bytes", "used_bytes", "asked_bytes"}, the narrowest
-- first. used_bytes holds what is reserved, too.
create or replace function eve.media_no_room(tenant_id text, kind text, bytes bigint, in_spool boolean, limits jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  return (
    select jsonb_build_object(
      'limit', c.scope, 'limit_bytes', (media_no_room.limits ->> c.scope)::bigint,
      'used_bytes', c.used_bytes + c.reserved_bytes, 'asked_bytes', media_no_room.bytes
    )
    from eve.media_counters c
    where (
        (c.scope, c.subject) in (('tenant', media_no_room.tenant_id), ('kind', media_no_room.kind), ('total', ''))
        or c.scope = 'spool' and media_no_room.in_spool
      )
      and media_no_room.bytes > 0
      and c.used_bytes + c.reserved_bytes + media_no_room.bytes > (media_no_room.limits ->> c.scope)::bigint
    order by array_position('{spool,tenant,kind,total}', c.scope)
    limit 1
  );
end;
$$;

-- Reserves so many bytes on the counters of the tenant, of the kind and in all, in the order of locks: on all of them, or on none, where
-- one of these limits has no room. Says which it was. One statement, since everybody else waits for the total until it is written.
create or replace function eve.media_take_room(tenant_id text, kind text, bytes bigint, limits jsonb)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
begin
  with locked as materialized (
    select c.scope, c.subject,
      media_take_room.bytes <= 0
        or c.used_bytes + c.reserved_bytes + media_take_room.bytes <= (media_take_room.limits ->> c.scope)::bigint as has_room
    from eve.media_counters c
    where (c.scope, c.subject) in (('tenant', media_take_room.tenant_id), ('kind', media_take_room.kind), ('total', ''))
    order by array_position('{tenant,kind,total}', c.scope)
    for no key update
  )
  update eve.media_counters c
  set reserved_bytes = c.reserved_bytes + media_take_room.bytes
  from locked l
  where c.scope = l.scope and c.subject = l.subject and (select bool_and(f.has_room) from locked f);
  return found;
end;
$$;

create or replace function eve.media_quota_refusal(tenant_id text, kind text, no_room jsonb)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select eve.refused(
    'storage_quota_exceeded',
    format(
      'The limit %s of %s bytes is used up: %s are in use or reserved, and %s more were asked for. Delete what is not needed, or ask the gateway''s owner for a higher limit.',
      case no_room ->> 'limit'
        when 'tenant' then format('of the tenant %s', media_quota_refusal.tenant_id)
        when 'kind' then format('of the kind %s', media_quota_refusal.kind)
        when 'spool' then 'of what is kept in the database'
        else 'in all'
      end,
      no_room ->> 'limit_bytes', no_room ->> 'used_bytes', no_room ->> 'asked_bytes'
    ),
    no_room || jsonb_build_object('tenant_id', media_quota_refusal.tenant_id, 'kind', media_quota_refusal.kind)
  );
$$;

create or replace function eve.media_json(object public.media_objects)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select jsonb_build_object(
      'tenant_id', (object).tenant_id, 'sha256', (object).file_sha256, 'kind', (object).kind, 'mime_type', (object).mime_type,
      'size_bytes', (object).size_bytes, 'stored_bytes', eve.media_bytes(media_json.object),
      'content_encoding', (object).content_encoding, 's3_key', (object).s3_key, 'stored_in', (object).stored_in,
      'state', (object).state, 'refs_count', (object).refs_count, 'metadata', (object).metadata,
      'first_seen_at', (object).first_seen_at, 'last_seen_at', (object).last_seen_at, 'expires_at', (object).expires_at,
      'missing_since', (object).missing_since
    )
  );
end;
$$;

-- The upload in parts by which an object is being sent: {"upload_id", "part_bytes"}, or null.
create or replace function eve.media_multipart(tenant_id text, file_sha256 text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('upload_id', m.upload_id, 'part_bytes', m.part_bytes)
    from eve.media_multiparts m
    where m.tenant_id = media_multipart.tenant_id and m.file_sha256 = media_multipart.file_sha256
  );
end;
$$;

-- Notes who uses an object and under which key; its row is locked. `links`: {"key", "metadata", "ref_kind", "ref_id"}, each or none.
create or replace function eve.media_link(tenant_id text, file_sha256 text, links jsonb)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if media_link.links ->> 'key' is not null then
    insert into eve.media_aliases as a (tenant_id, key, file_sha256, metadata)
    values (
      media_link.tenant_id, media_link.links ->> 'key', media_link.file_sha256,
      coalesce(media_link.links -> 'metadata', '{}')
    )
    on conflict on constraint media_aliases_pkey do update
    set file_sha256 = excluded.file_sha256, metadata = excluded.metadata;
  end if;
  if media_link.links ->> 'ref_kind' is not null and media_link.links ->> 'ref_id' is not null then
    insert into eve.media_references (tenant_id, file_sha256, ref_kind, ref_id)
    values (
      media_link.tenant_id, media_link.file_sha256, media_link.links ->> 'ref_kind', media_link.links ->> 'ref_id'
    )
    on conflict do nothing;
  end if;
end;
$$;

-- What a caller says of a file, held to its bounds.
create or replace function eve.media_check_file(file_sha256 text, size_bytes bigint, stored_bytes bigint, mime_type text, kind text, name text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if media_check_file.file_sha256 is null or media_check_file.file_sha256 !~ '^[0-9a-f]{64}$' then
    raise exception 'sha256 must have 64 hexadecimal digits, in lower case' using errcode = 'EV400';
  elsif media_check_file.size_bytes is null or media_check_file.size_bytes < 0 or media_check_file.stored_bytes < 0 then
    raise exception 'size_bytes must be a number of bytes' using errcode = 'EV400';
  elsif media_check_file.kind is null or media_check_file.kind not in ('media', 'vision', 'crawl') then
    raise exception 'kind must be media, vision or crawl' using errcode = 'EV400';
  elsif media_check_file.mime_type is null or length(media_check_file.mime_type) not between 3 and 255 then
    raise exception 'mime_type must be a MIME type of at most 255 characters' using errcode = 'EV400';
  elsif media_check_file.name is null or octet_length(media_check_file.name) not between 1 and 400 then
    raise exception 'name must be the rest of the storage key, of 1 to 400 bytes' using errcode = 'EV400';
  end if;
end;
$$;

-- The reservation of an object that is reserved already, or whose deletion nobody goes on with, becomes one of these bytes; its row is
-- locked. Null, or what there is no room for.
create or replace function eve.media_reserve_again(
  object public.media_objects, size_bytes bigint, stored_bytes bigint, mime_type text, content_encoding text, expires_at timestamptz,
  address_until timestamptz
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_held constant bigint := eve.media_bytes(media_reserve_again.object);
  v_was_used constant boolean := (object).counts_as = 'used';
  v_no_room jsonb;
begin
  perform eve.media_lock_counters((object).tenant_id, (object).kind);
  v_no_room := eve.media_no_room(
    (object).tenant_id, (object).kind, media_reserve_again.stored_bytes - v_held, false,
    eve.media_limits_of((object).tenant_id, (object).kind)
  );
  if v_no_room is not null then
    return v_no_room;
  end if;
  update public.media_objects o
  set state = 'reserved', counts_as = 'reserved', size_bytes = media_reserve_again.size_bytes,
    stored_bytes = media_reserve_again.stored_bytes, mime_type = media_reserve_again.mime_type,
    content_encoding = media_reserve_again.content_encoding, last_seen_at = eve.clock(),
    expires_at = greatest(media_reserve_again.expires_at, case when not v_was_used then o.expires_at end),
    address_until = greatest(media_reserve_again.address_until, o.address_until)
  where o.tenant_id = (object).tenant_id and o.file_sha256 = (object).file_sha256;
  perform eve.media_count(
    (object).tenant_id, (object).kind, case when v_was_used then -v_held else 0 end,
    media_reserve_again.stored_bytes - case when v_was_used then 0 else v_held end,
    case when v_was_used then -1 else 0 end
  );
  return null;
end;
$$;

-- Takes room for a file before any of it is sent. Answers {"status", "object", "multipart"}: `present`, it is stored already and the links
-- are noted; `reserved`, it may be sent within ttl_s, in the parts that were begun with if there are any; or a refusal. name: the key's part behind kind and tenant. in_spool: it will be kept in the
-- database, whose limit counts as well. address_s: the caller gets an address to send it to that is valid for so long. Twice is the same as once: uploads of one file share its reservation.
-- What is missing in the bucket may be sent, too: its row stays as it is, with its uses and its room, whether it arrives or not.
create or replace function public.eve_media_reserve(
  actor jsonb, tenant_id text, file_sha256 text, size_bytes bigint, stored_bytes bigint, mime_type text, kind text, name text,
  content_encoding text default null, metadata jsonb default '{}', links jsonb default '{}', in_spool boolean default false,
  ttl_s integer default null, address_s integer default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- A delete of an object that has begun takes less.
  v_soon_ms constant integer := 1000;
  v_who constant jsonb := eve.tenant_of_actor(eve_media_reserve.actor, eve_media_reserve.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_now constant timestamptz := eve.clock();
  v_expires_at constant timestamptz := v_now + make_interval(
    secs => least(coalesce(eve_media_reserve.ttl_s, (select s.value from eve.settings s where s.name = 'upload_keep_s'), 86400), 604800)
  );
  v_address_until constant timestamptz := v_now + make_interval(secs => eve_media_reserve.address_s);
  v_limits jsonb;
  v_object public.media_objects;
  v_reserved jsonb;
  v_no_room jsonb;
begin
  if v_tenant is null then
    return v_who;
  end if;
  perform eve.media_check_file(
    eve_media_reserve.file_sha256, eve_media_reserve.size_bytes, eve_media_reserve.stored_bytes, eve_media_reserve.mime_type,
    eve_media_reserve.kind, eve_media_reserve.name
  );
  v_limits := eve.media_limits_of(v_tenant, eve_media_reserve.kind);
  -- Again where the row that stood in the way is gone once its holder ends.
  loop
    -- Without a lock: a crowd that is over the limit keeps nobody else waiting.
    v_no_room := eve.media_no_room(
      v_tenant, eve_media_reserve.kind, eve_media_reserve.stored_bytes, eve_media_reserve.in_spool, v_limits
    );
    if v_no_room is null then
      insert into public.media_objects as o (
        tenant_id, file_sha256, size_bytes, stored_bytes, mime_type, content_encoding, kind, s3_key, metadata, state, counts_as,
        stored_in, first_seen_at, last_seen_at, expires_at, address_until, came_through
      )
      values (
        v_tenant, eve_media_reserve.file_sha256, eve_media_reserve.size_bytes, eve_media_reserve.stored_bytes,
        eve_media_reserve.mime_type, eve_media_reserve.content_encoding, eve_media_reserve.kind,
        format('%s/%s/%s', eve_media_reserve.kind, v_tenant, eve_media_reserve.name), coalesce(eve_media_reserve.metadata, '{}'),
        'reserved', 'reserved', case when eve_media_reserve.in_spool then 'postgres' else 's3' end, v_now, v_now, v_expires_at,
        v_address_until, true
      )
      on conflict do nothing
      returning * into v_object;
      if found then
        -- Everything else comes before: all who want room wait for the total until this is committed.
        v_reserved := jsonb_build_object('status', 'reserved', 'object', eve.media_json(v_object));
        if eve.media_take_room(v_tenant, eve_media_reserve.kind, eve_media_reserve.stored_bytes, v_limits) then
          return v_reserved;
        end if;
        -- Somebody else has taken it meanwhile.
        delete from public.media_objects o where o.tenant_id = v_tenant and o.file_sha256 = eve_media_reserve.file_sha256;
        v_no_room := eve.media_no_room(
          v_tenant, eve_media_reserve.kind, eve_media_reserve.stored_bytes, false, v_limits
        );
        return eve.media_quota_refusal(v_tenant, eve_media_reserve.kind, v_no_room);
      end if;
    end if;
    select * into v_object
    from public.media_objects o
    where o.tenant_id = v_tenant and o.file_sha256 = eve_media_reserve.file_sha256
    for update;
    exit when found;
    if v_no_room is not null then
      return eve.media_quota_refusal(v_tenant, eve_media_reserve.kind, v_no_room);
    end if;
  end loop;

  if v_object.state = 'deleting' and v_object.expires_at > v_now then
    return eve.refused('upload_busy', null, null, greatest(
      v_soon_ms, ceil(extract(epoch from v_object.expires_at - v_now) * 1000)::bigint
    ));
  elsif v_object.state in ('reserved', 'deleting') then
    v_no_room := eve.media_reserve_again(
      v_object, eve_media_reserve.size_bytes, eve_media_reserve.stored_bytes, eve_media_reserve.mime_type,
      eve_media_reserve.content_encoding, v_expires_at, v_address_until
    );
    if v_no_room is not null then
      return eve.media_quota_refusal(v_tenant, v_object.kind, v_no_room);
    end if;
    select * into v_object
    from public.media_objects o
    where o.tenant_id = v_tenant and o.file_sha256 = eve_media_reserve.file_sha256;
    return jsonb_build_object(
      'status', 'reserved', 'object', eve.media_json(v_object), 'multipart', eve.media_multipart(v_tenant, v_object.file_sha256)
    );
  end if;
  update public.media_objects o
  set last_seen_at = v_now,
    address_until = case when o.missing_since is null then o.address_until else greatest(v_address_until, o.address_until) end
  where o.tenant_id = v_tenant and o.file_sha256 = eve_media_reserve.file_sha256
  returning * into v_object;
  if v_object.missing_since is not null then
    return jsonb_build_object(
      'status', 'reserved', 'object', eve.media_json(v_object), 'multipart', eve.media_multipart(v_tenant, v_object.file_sha256)
    );
  end if;
  perform eve.media_link(v_tenant, eve_media_reserve.file_sha256, eve_media_reserve.links);
  return jsonb_build_object('status', 'present', 'object', eve.media_json(v_object));
end;
$$;
comment on function public.eve_media_reserve is 'Takes room for a file before any of it is sent, or says that it is there already, or which limit is used up.';

-- Notes the upload in parts by which a reserved object is sent: of two that were begun at once the first stays, and one that has ended
-- in the store (`ended`) makes room for the next. {"status": "noted", "multipart"}: the one that holds; or `gone`, where nothing is reserved.
create or replace function public.eve_media_multipart(
  tenant_id text, file_sha256 text, upload_id text, part_bytes bigint, ended text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform
  from public.media_objects o
  where o.tenant_id = eve_media_multipart.tenant_id and o.file_sha256 = eve_media_multipart.file_sha256
    and (o.state = 'reserved' or o.missing_since is not null)
  for update;
  if not found then
    return jsonb_build_object('status', 'gone');
  end if;
  insert into eve.media_multiparts as m (tenant_id, file_sha256, upload_id, part_bytes, created_at)
  values (
    eve_media_multipart.tenant_id, eve_media_multipart.file_sha256, eve_media_multipart.upload_id, eve_media_multipart.part_bytes,
    eve.clock()
  )
  on conflict on constraint media_multiparts_pkey do update
  set upload_id = excluded.upload_id, part_bytes = excluded.part_bytes, created_at = excluded.created_at
  where m.upload_id = eve_media_multipart.ended;
  return jsonb_build_object(
    'status', 'noted', 'multipart', eve.media_multipart(eve_media_multipart.tenant_id, eve_media_multipart.file_sha256)
  );
end;
$$;
comment on function public.eve_media_multipart is 'Notes the upload in parts by which a reserved object is sent.';

-- Says that an object is there, with so many bytes: its reservation becomes use. state: `verified` where its content is known to have
-- its hash, else `stored`. Answers {"status", "object", "is_final"}: `stored`, and whether nobody holds an address any more at which it could
-- become another; or `gone`, where there is no reservation any more. Twice is the same as once.
create or replace function public.eve_media_stored(
  tenant_id text, file_sha256 text, state text, stored_bytes bigint, stored_in text default 's3', links jsonb default '{}',
  mime_type text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_object public.media_objects;
  v_reserved bigint;
begin
  if eve_media_stored.state is null or eve_media_stored.state not in ('stored', 'verified') then
    raise exception 'state must be stored or verified' using errcode = 'EV400';
  end if;
  select * into v_object
  from public.media_objects o
  where o.tenant_id = eve_media_stored.tenant_id and o.file_sha256 = eve_media_stored.file_sha256
  for update;
  if not found or v_object.state = 'deleting' then
    return jsonb_build_object('status', 'gone');
  end if;
  v_reserved := eve.media_bytes(v_object);
  perform eve.media_link(v_object.tenant_id, v_object.file_sha256, eve_media_stored.links);
  if v_object.state = 'reserved' or v_object.missing_since is not null then
    update public.media_objects o
    set state = eve_media_stored.state, counts_as = 'used', stored_bytes = eve_media_stored.stored_bytes,
      stored_in = eve_media_stored.stored_in, mime_type = coalesce(eve_media_stored.mime_type, o.mime_type), expires_at = null,
      last_seen_at = eve.clock(), missing_since = null, proof_tries = 0, proof_at = null
    where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256;
    delete from eve.media_multiparts m where m.tenant_id = v_object.tenant_id and m.file_sha256 = v_object.file_sha256;
    perform eve.media_lock_counters(v_object.tenant_id, v_object.kind);
    if v_object.counts_as = 'reserved' then
      perform eve.media_count(v_object.tenant_id, v_object.kind, eve_media_stored.stored_bytes, -v_reserved, 1);
    else
      perform eve.media_count(v_object.tenant_id, v_object.kind, eve_media_stored.stored_bytes - v_reserved, 0, 0);
    end if;
  elsif v_object.state = 'stored' and eve_media_stored.state = 'verified' then
    update public.media_objects o
    set state = 'verified'
    where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256;
  end if;
  select * into v_object
  from public.media_objects o
  where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256;
  return jsonb_build_object(
    'status', 'stored', 'object', eve.media_json(v_object), 'is_final', coalesce(v_object.address_until <= eve.clock(), true)
  );
end;
$$;
comment on function public.eve_media_stored is 'Says that an object is there: its reservation becomes use.';
