-- Objects in the database: all of them where there is no S3, and what S3 could not take while it was away. Those move there later, in
-- the order in which they came.

set local lock_timeout = '10s';

-- Keeps an object, within the limit spool: {"status": "stored", "created"}, or a refusal. body: base64. What is there already stays.
-- moves: S3 is set up, and it goes there once S3 is back.
create or replace function public.eve_media_spool_put(
  key text, body text, sha256 text, content_type text, content_encoding text default null, moves boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_body constant bytea := decode(eve_media_spool_put.body, 'base64');
  v_limit constant bigint := eve.media_limit('spool');
  v_used bigint;
begin
  if eve_media_spool_put.key is null or octet_length(eve_media_spool_put.key) not between 1 and 1024 then
    raise exception 'key must have 1 to 1024 bytes' using errcode = 'EV400';
  elsif encode(sha256(v_body), 'hex') is distinct from eve_media_spool_put.sha256 then
    return eve.refused('content_mismatch');
  end if;
  insert into eve.media_spool (key, body, size_bytes, sha256, content_type, content_encoding, moves, created_at, next_try_at)
  values (
    eve_media_spool_put.key, v_body, length(v_body), eve_media_spool_put.sha256, left(eve_media_spool_put.content_type, 255),
    eve_media_spool_put.content_encoding, coalesce(eve_media_spool_put.moves, false), eve.clock(), eve.clock()
  )
  on conflict on constraint media_spool_pkey do nothing;
  if not found then
    return jsonb_build_object('status', 'stored', 'created', false);
  end if;
  update eve.media_counters c
  set used_bytes = c.used_bytes + length(v_body), objects = c.objects + 1
  where c.scope = 'spool'
  returning c.used_bytes - length(v_body) into v_used;
  if v_used + length(v_body) > v_limit then
    delete from eve.media_spool s where s.key = eve_media_spool_put.key;
    update eve.media_counters c
    set used_bytes = c.used_bytes - length(v_body), objects = c.objects - 1
    where c.scope = 'spool';
    return eve.media_quota_refusal(
      null, null, jsonb_build_object('limit', 'spool', 'limit_bytes', v_limit, 'used_bytes', v_used, 'asked_bytes', length(v_body))
    );
  end if;
  return jsonb_build_object('status', 'stored', 'created', true);
end;
$$;
comment on function public.eve_media_spool_put is 'Keeps an object in the database, as long as there is room for it.';

-- Its facts, and a piece of its body as base64: `length` bytes from `start` (0 is the first); null: no such object.
create or replace function public.eve_media_spool_get(key text, start integer default 0, length integer default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'size_bytes', s.size_bytes, 'sha256', s.sha256, 'content_type', s.content_type, 'content_encoding', s.content_encoding,
    'created_at', s.created_at,
    'body', case
      when eve_media_spool_get.length is null or eve_media_spool_get.length > 0 then translate(
        encode(
          substring(s.body from eve_media_spool_get.start + 1 for coalesce(eve_media_spool_get.length, s.size_bytes::integer)), 'base64'
        ), E'\n', ''
      )
    end
  )
  from eve.media_spool s
  where s.key = eve_media_spool_get.key;
$$;
comment on function public.eve_media_spool_get is 'An object that the database holds, or a piece of it; with length 0 its facts alone.';

create or replace function public.eve_media_spool_delete(keys text[])
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_bytes bigint;
  v_objects bigint;
begin
  perform
  from eve.media_spool s
  where s.key = any (eve_media_spool_delete.keys)
  order by s.key
  for update;
  with gone as (
    delete from eve.media_spool s
    where s.key = any (eve_media_spool_delete.keys)
    returning s.size_bytes
  )
  select coalesce(sum(g.size_bytes), 0), count(*) into v_bytes, v_objects from gone g;
  if v_objects > 0 then
    update eve.media_counters c
    set used_bytes = greatest(c.used_bytes - v_bytes, 0), objects = greatest(c.objects - v_objects, 0)
    where c.scope = 'spool';
  end if;
  return jsonb_build_object('objects', v_objects, 'bytes', v_bytes);
end;
$$;
comment on function public.eve_media_spool_delete is 'Deletes objects that the database holds.';

create or replace function public.eve_media_spool_list(prefix text default '', after text default '', at_most integer default 1000)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(l) order by l.key collate "C"), '[]')
  from (
    select s.key, s.size_bytes, s.created_at
    from eve.media_spool s
    where s.key collate "C" > coalesce(eve_media_spool_list.after, '') and starts_with(s.key, coalesce(eve_media_spool_list.prefix, ''))
    order by s.key collate "C"
    limit least(greatest(eve_media_spool_list.at_most, 1), 1000)
  ) l;
$$;
comment on function public.eve_media_spool_list is 'Objects that the database holds, in the order of their keys'' bytes.';

-- The next object that is to go to S3, if its time has come: claimed for lease_s. {"key", "size_bytes", "sha256", ..., "tries"} or null.
-- The oldest goes first; while it cannot go, none does.
create or replace function public.eve_media_spool_next(lease_s integer default 120)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_next eve.media_spool;
begin
  -- Not the next one that is free: the order is that in which they came.
  select * into v_next
  from eve.media_spool s
  where s.seq = (select min(f.seq) from eve.media_spool f)
  for update skip locked;
  if not found or v_next.claimed_until > v_now or v_next.next_try_at > v_now then
    return null;
  end if;
  update eve.media_spool s
  set claimed_until = v_now + make_interval(secs => least(greatest(eve_media_spool_next.lease_s, 10), 600)), tries = s.tries + 1
  where s.key = v_next.key;
  return jsonb_build_object(
    'key', v_next.key, 'size_bytes', v_next.size_bytes, 'sha256', v_next.sha256, 'content_type', v_next.content_type,
    'content_encoding', v_next.content_encoding, 'created_at', v_next.created_at, 'tries', v_next.tries + 1
  );
end;
$$;
comment on function public.eve_media_spool_next is 'The next object that is to move to S3.';

-- An object that is in S3 now: {"status": "moved"}; `gone`: it has been deleted meanwhile, and is to be deleted in S3 as well.
create or replace function public.eve_media_spool_moved(key text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_object record;
begin
  select o.tenant_id, o.file_sha256, o.state into v_object
  from public.media_objects o
  where o.s3_key collate "C" = eve_media_spool_moved.key
  order by o.tenant_id, o.file_sha256
  limit 1
  for update;
  if not found then
    perform public.eve_media_spool_delete(array[eve_media_spool_moved.key]);
    return jsonb_build_object('status', 'gone');
  elsif v_object.state = 'deleting' then
    -- Anyone who deletes it does so in both places.
    return jsonb_build_object('status', 'deleting');
  end if;
  update public.media_objects o
  set stored_in = 's3'
  where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256;
  perform public.eve_media_spool_delete(array[eve_media_spool_moved.key]);
  return jsonb_build_object('status', 'moved');
end;
$$;
comment on function public.eve_media_spool_moved is 'Says that an object is in S3 now: the database holds it no longer.';

create or replace function public.eve_media_spool_failed(key text, error text, wait_s integer)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  update eve.media_spool s
  set claimed_until = null, last_error = left(eve_media_spool_failed.error, 500),
    next_try_at = eve.clock() + make_interval(secs => least(greatest(eve_media_spool_failed.wait_s, 0), 3600))
  where s.key = eve_media_spool_failed.key;
  select jsonb_build_object('status', 'noted');
$$;
comment on function public.eve_media_spool_failed is 'S3 did not take an object: when to try again.';

create or replace function public.eve_media_spool_moves()
returns jsonb
language sql
volatile
set search_path = ''
as $$
  update eve.media_spool s set moves = true where not s.moves;
  select jsonb_build_object('status', 'noted');
$$;
comment on function public.eve_media_spool_moves is 'Says that S3 is set up: what the database holds is to move there.';
