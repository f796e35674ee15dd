-- What leaves: by itself after its time without use, in an emergency, or because somebody said so. The registry goes first: an object
-- is marked as deleting, then it is deleted where it is stored, then its row goes and its bytes are free again. Anyone who dies in between
-- leaves a mark, and the next run goes on with it.
--
-- A mark ends (expires_at), and anyone who made it must not delete from the store after that: from then on the same content may be
-- uploaded again, or another run may take the mark over.

set local lock_timeout = '10s';

-- What the bucket has to delete, and the upload in parts that it has to end before that. In PL/pgSQL, which keeps its plan: a claim calls it
-- 500 times, and a function in SQL plans each time, 0.3 ms of the 0.6 ms that a row took.
create or replace function eve.media_to_delete(object public.media_objects)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'tenant_id', (object).tenant_id, 'sha256', (object).file_sha256, 's3_key', (object).s3_key, 'stored_in', (object).stored_in,
    'bytes', eve.media_bytes(media_to_delete.object), 'upload_id', (
      select m.upload_id
      from eve.media_multiparts m
      where m.tenant_id = (object).tenant_id and m.file_sha256 = (object).file_sha256
    )
  );
end;
$$;

-- Marks objects that nobody refers to as deleting, those without use for the longest time first: at most so many, and no more than are
-- needed for so many bytes. kind null: uploads whose time is over, and deletions that nobody goes on with. Objects that somebody holds
-- are passed over.
create or replace function public.eve_media_claim(
  kind text default null, min_age_s bigint default 0, at_most integer default 500, need_bytes bigint default null, lease_s integer default 120
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_most constant integer := least(greatest(eve_media_claim.at_most, 1), 1000);
  v_lease constant timestamptz := v_now + make_interval(secs => least(greatest(eve_media_claim.lease_s, 30), 600));
  v_claimed jsonb;
begin
  if eve_media_claim.kind is null then
    with over as materialized (
      select o.tenant_id, o.file_sha256
      from public.media_objects o
      where o.state in ('reserved', 'deleting') and o.expires_at <= v_now
      order by o.expires_at
      limit v_most
      for update skip locked
    ), marked as (
      update public.media_objects o
      set state = 'deleting', expires_at = v_lease
      from over
      where o.tenant_id = over.tenant_id and o.file_sha256 = over.file_sha256
      returning eve.media_to_delete(o) as one
    )
    select jsonb_agg(m.one) into v_claimed from marked m;
  else
    with unused as materialized (
      select o.tenant_id, o.file_sha256, o.last_seen_at, eve.media_bytes(o) as bytes
      from public.media_objects o
      where o.kind = eve_media_claim.kind and o.refs_count = 0 and o.state in ('stored', 'verified')
        and o.last_seen_at <= v_now - make_interval(secs => greatest(eve_media_claim.min_age_s, 0))
      order by o.last_seen_at
      limit v_most
      for update skip locked
    ), needed as (
      select u.*, coalesce(
        sum(u.bytes) over (order by u.last_seen_at, u.tenant_id, u.file_sha256 rows between unbounded preceding and 1 preceding), 0
      ) as before
      from unused u
    ), marked as (
      update public.media_objects o
      set state = 'deleting', expires_at = v_lease
      from needed n
      where o.tenant_id = n.tenant_id and o.file_sha256 = n.file_sha256
        and (eve_media_claim.need_bytes is null or n.before < eve_media_claim.need_bytes)
      returning eve.media_to_delete(o) as one
    )
    select jsonb_agg(m.one) into v_claimed from marked m;
  end if;
  return coalesce(v_claimed, '[]');
end;
$$;
comment on function public.eve_media_claim is 'Marks objects that are to be deleted, and hands them to the one that deletes them.';

-- What eve_media_claim would take: {"objects", "bytes", "oldest_at"}.
create or replace function public.eve_media_claimable(kind text, min_age_s bigint default 0, need_bytes bigint default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  with needed as (
    select o.last_seen_at, eve.media_bytes(o) as bytes,
      coalesce(sum(eve.media_bytes(o)) over (order by o.last_seen_at, o.tenant_id, o.file_sha256 rows between unbounded preceding and 1 preceding), 0) as before
    from public.media_objects o
    where o.kind = eve_media_claimable.kind and o.refs_count = 0 and o.state in ('stored', 'verified')
      and o.last_seen_at <= eve.clock() - make_interval(secs => greatest(eve_media_claimable.min_age_s, 0))
  )
  select jsonb_build_object('objects', count(*), 'bytes', coalesce(sum(n.bytes), 0), 'oldest_at', min(n.last_seen_at))
  from needed n
  where eve_media_claimable.need_bytes is null or n.before < eve_media_claimable.need_bytes;
$$;
comment on function public.eve_media_claimable is 'What a clean-up would delete; nothing is changed.';

-- Drops one use of an object, or the key that it was asked for by; without any left, marks it as deleting. {"status": "deleting",
-- "delete": {..}}, `kept`, `none`, or a refusal.
create or replace function public.eve_media_delete(
  actor jsonb, tenant_id text, name text, ref_kind text default null, ref_id text default null, lease_s integer default 120
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_media_delete.actor, eve_media_delete.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_object public.media_objects;
  v_by_alias boolean;
begin
  if v_tenant is null then
    return v_who;
  end if;
  v_object := eve.media_named(v_tenant, left(eve_media_delete.name, 1100));
  select * into v_object
  from public.media_objects o
  where o.tenant_id = v_tenant and o.file_sha256 = v_object.file_sha256
  for update;
  if not found or v_object.state not in ('stored', 'verified') then
    return jsonb_build_object('status', 'none', 'tenant_id', v_tenant);
  end if;
  delete from eve.media_references r
  where r.tenant_id = v_tenant and r.file_sha256 = v_object.file_sha256 and r.ref_kind = eve_media_delete.ref_kind
    and r.ref_id = eve_media_delete.ref_id;
  delete from eve.media_aliases a
  where a.tenant_id = v_tenant and a.file_sha256 = v_object.file_sha256 and a.key = eve_media_delete.name;
  v_by_alias := found;
  select * into v_object
  from public.media_objects o
  where o.tenant_id = v_tenant and o.file_sha256 = v_object.file_sha256;
  if v_object.refs_count > 0 or v_by_alias and exists (
    select from eve.media_aliases a where a.tenant_id = v_tenant and a.file_sha256 = v_object.file_sha256
  ) then
    return jsonb_build_object('status', 'kept', 'object', eve.media_json(v_object));
  end if;
  update public.media_objects o
  set state = 'deleting', expires_at = eve.clock() + make_interval(secs => least(greatest(eve_media_delete.lease_s, 30), 600))
  where o.tenant_id = v_tenant and o.file_sha256 = v_object.file_sha256
  returning * into v_object;
  return jsonb_build_object('status', 'deleting', 'delete', eve.media_to_delete(v_object), 'object', eve.media_json(v_object));
end;
$$;
comment on function public.eve_media_delete is 'Drops a use of an object; the last one marks it as deleting.';

-- An object that has failed: what arrived is another content, or it never came. Marks it as deleting, unless something refers to it or it
-- is another program's: its owner may count it by another rule than ours.
create or replace function public.eve_media_failed(tenant_id text, file_sha256 text, reason text default null, lease_s integer default 120)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_object public.media_objects;
begin
  update public.media_objects o
  set state = 'deleting', expires_at = eve.clock() + make_interval(secs => least(greatest(eve_media_failed.lease_s, 30), 600))
  where o.tenant_id = eve_media_failed.tenant_id and o.file_sha256 = eve_media_failed.file_sha256
    and (o.state = 'reserved' or o.state = 'stored' and o.refs_count = 0 and o.came_through)
  returning * into v_object;
  if not found then
    return jsonb_build_object('status', 'none');
  end if;
  return jsonb_build_object('status', 'deleting', 'delete', eve.media_to_delete(v_object));
end;
$$;
comment on function public.eve_media_failed is 'Gives up an upload: it is to be deleted where it is stored, and its room to be given back.';

-- Changes the counters by several objects' bytes at once, in their order: of those that are gone, and of those that counted as used
-- and are reserved now.
create or replace function eve.media_uncount(gone public.media_objects[], held public.media_objects[])
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_change record;
begin
  for v_change in
    select s.scope, s.subject, s.used, s.reserved, s.objects
    from (
      select case when grouping(o.tenant_id) = 0 then 'tenant' when grouping(o.kind) = 0 then 'kind' else 'total' end as scope,
        coalesce(o.tenant_id, o.kind, '') as subject, coalesce(sum(o.used), 0)::bigint as used,
        coalesce(sum(o.reserved), 0)::bigint as reserved, coalesce(sum(o.objects), 0)::bigint as objects
      from (
        select g.tenant_id, g.kind, case g.counts_as when 'used' then eve.media_bytes(g) else 0 end as used,
          case g.counts_as when 'used' then 0 else eve.media_bytes(g) end as reserved,
          case g.counts_as when 'used' then 1 else 0 end as objects
        from unnest(media_uncount.gone) g
        union all
        select h.tenant_id, h.kind, eve.media_bytes(h), -eve.media_bytes(h), 1
        from unnest(media_uncount.held) h
        where h.counts_as = 'used'
      ) o
      group by grouping sets ((o.tenant_id), (o.kind), ())
    ) s
    order by array_position('{tenant,kind,total}', s.scope), s.subject
  loop
    update eve.media_counters c
    set used_bytes = greatest(c.used_bytes - v_change.used, 0), reserved_bytes = greatest(c.reserved_bytes - v_change.reserved, 0),
      objects = greatest(c.objects - v_change.objects, 0)
    where c.scope = v_change.scope and c.subject = v_change.subject;
  end loop;
end;
$$;

-- Objects that are deleted where they were stored: their rows go, with their aliases and what the database holds of them, and their
-- bytes are free. One that somebody still holds an address for may come again: it is an unfinished upload until that has ended, and its
-- room stays taken, or the limits would not hold. items: [{"tenant_id", "sha256"}]; what is not marked as deleting any more stays. {"objects", "bytes"}.
create or replace function public.eve_media_deleted(items jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_gone public.media_objects[];
  v_held public.media_objects[];
begin
  -- Anyone who reserves waits for the counters until this has ended, and need not wait for the disk as well: what a crash undoes of it, the
  -- next run does again, since the objects are marked.
  perform set_config('synchronous_commit', 'off', true);
  perform
  from public.media_objects o
  join jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
    on i.tenant_id = o.tenant_id and i.sha256 = o.file_sha256
  where o.state = 'deleting'
  order by o.tenant_id, o.file_sha256
  for update of o;
  -- Of a content that turned out to be another one; nothing else with references comes so far.
  delete from eve.media_references r
  using jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
  where r.tenant_id = i.tenant_id and r.file_sha256 = i.sha256
    and exists (
      select from public.media_objects o where o.tenant_id = r.tenant_id and o.file_sha256 = r.file_sha256 and o.state = 'deleting'
    );
  delete from eve.media_aliases a
  using jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
  where a.tenant_id = i.tenant_id and a.file_sha256 = i.sha256
    and exists (
      select from public.media_objects o where o.tenant_id = a.tenant_id and o.file_sha256 = a.file_sha256 and o.state = 'deleting'
    );
  with held as (
    update public.media_objects o
    set state = 'reserved', expires_at = o.address_until
    from jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
    where o.tenant_id = i.tenant_id and o.file_sha256 = i.sha256 and o.state = 'deleting' and o.address_until > eve.clock()
    returning o.*
  )
  select array_agg(h::public.media_objects) into v_held from held h;
  -- Their parts are deleted; the rows of those that are gone go with them.
  delete from eve.media_multiparts m
  using unnest(v_held) h
  where m.tenant_id = h.tenant_id and m.file_sha256 = h.file_sha256;
  with gone as (
    delete from public.media_objects o
    using jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
    where o.tenant_id = i.tenant_id and o.file_sha256 = i.sha256 and o.state = 'deleting'
    returning o.*
  )
  select array_agg(g::public.media_objects) into v_gone from gone g;
  if v_gone is null and v_held is null then
    return jsonb_build_object('objects', 0, 'bytes', 0);
  end if;
  perform public.eve_media_spool_delete(array(select o.s3_key from unnest(v_gone || v_held) o where o.s3_key is not null));
  update public.media_objects o
  set counts_as = 'reserved'
  from unnest(v_held) h
  where o.tenant_id = h.tenant_id and o.file_sha256 = h.file_sha256;
  perform eve.media_uncount(v_gone, v_held);
  return (
    select jsonb_build_object(
      'objects', count(*), 'bytes', coalesce(sum(eve.media_bytes(o)) filter (where o.state = 'deleting'), 0)
    )
    from unnest(v_gone || v_held) o
  );
end;
$$;
comment on function public.eve_media_deleted is 'Says that objects are deleted where they were stored: their rows go and their bytes are free.';

create or replace function public.eve_media_keep_days()
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object(
    'media', eve.alert_setting('media_keep_days', 30), 'vision', eve.alert_setting('vision_keep_days', 14),
    'crawl', eve.alert_setting('crawl_keep_days', 7), 'now', eve.clock()
  );
$$;
comment on function public.eve_media_keep_days is 'After how many days without use objects leave, by kind; and what time it is.';

insert into eve.alert_kinds (kind, title, advice) values
  ('storage_emergency_cleanup', 'Emergency clean-up of files', 'See what takes the room (GET /v1/storage/stats), raise the limits in eve.media_limits if the bucket is larger, or delete what is not needed. It closes once less than the threshold is used.'),
  ('storage_full', 'Clean-up could not free enough', 'What is left is in use: delete what is not needed, or raise the limit total in eve.media_limits to what the bucket really holds.'),
  ('media_missing', 'Files missing in the bucket', 'See details of the last media_reconcile in google_ai_maintenance_log. Restore them from a copy of the bucket, send them again, or delete them.')
on conflict (kind) do nothing;

-- Opens an alert about storage, or closes it (message null).
create or replace function public.eve_media_alert(kind text, message text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  if eve_media_alert.message is null then
    perform eve.close_alerts('storage', array[eve_media_alert.kind]);
  else
    perform eve.open_alert(
      eve_media_alert.kind, 'storage', case eve_media_alert.kind when 'storage_emergency_cleanup' then 'warning' else 'critical' end,
      eve_media_alert.message
    );
  end if;
  return jsonb_build_object('status', 'noted');
end;
$$;
comment on function public.eve_media_alert is 'Opens an alert about storage, or closes it.';
