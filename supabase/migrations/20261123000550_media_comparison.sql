-- What is said of the bucket and what it holds, compared: page by page, over as many runs as it takes; and what is known of the store itself.

set local lock_timeout = '10s';

-- Compares a page of a bucket's listing with the registry: keys between `after` (not itself) and `until`. listed: {"objects": [{"key", "size_bytes"}]}.
-- {"unknown": keys that the registry does not have, "missing": objects that the bucket does not have, "resized": of another size}. What
-- is missing is marked, so that it is taken from anyone who sends it again; what is there again is not any more. An adopted row that knew
-- no size has the listed one from now on.
create or replace function public.eve_media_compare(listed jsonb, after text, until text, seen_before timestamptz)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  with bucket as materialized (
    select l.key, l.size_bytes from jsonb_to_recordset(eve_media_compare.listed -> 'objects') as l (key text, size_bytes bigint)
  ), known as materialized (
    select o.s3_key, o.tenant_id, o.file_sha256, eve.media_bytes(o) as bytes, o.state, o.missing_since,
      o.state in ('stored', 'verified') and o.stored_bytes is null and o.size_bytes is null as has_no_size,
      o.state in ('stored', 'verified') and o.stored_in = 's3'
        and coalesce(o.first_seen_at, '-infinity') < eve_media_compare.seen_before
        and not exists (select from bucket b where b.key = o.s3_key) as is_missing
    from public.media_objects o
    where o.s3_key collate "C" > coalesce(eve_media_compare.after, '')
      and (eve_media_compare.until is null or o.s3_key collate "C" <= eve_media_compare.until)
  ), changed as materialized (
    select o.tenant_id, o.file_sha256, k.is_missing, case when k.has_no_size then b.size_bytes end as found_bytes
    from known k
    join public.media_objects o on o.tenant_id = k.tenant_id and o.file_sha256 = k.file_sha256
    left join bucket b on b.key = k.s3_key
    where k.is_missing <> (k.missing_since is not null) or (k.has_no_size and b.size_bytes is not null)
    order by o.tenant_id, o.file_sha256
    for update of o skip locked
  ), marked as (
    update public.media_objects o
    set missing_since = case when c.is_missing then eve.clock() end, stored_bytes = coalesce(c.found_bytes, o.stored_bytes)
    from changed c
    where o.tenant_id = c.tenant_id and o.file_sha256 = c.file_sha256
  )
  select jsonb_build_object(
    'unknown', coalesce(
      (
        select jsonb_agg(jsonb_build_object('key', b.key, 'size_bytes', b.size_bytes))
        from bucket b
        where not exists (select from known k where k.s3_key = b.key)
      ), '[]'
    ),
    'missing', coalesce(
      (
        select jsonb_agg(jsonb_build_object('key', k.s3_key, 'tenant_id', k.tenant_id, 'sha256', k.file_sha256, 'size_bytes', k.bytes))
        from known k
        where k.is_missing
      ), '[]'
    ),
    'resized', coalesce(
      (
        select jsonb_agg(jsonb_build_object('key', k.s3_key, 'size_bytes', k.bytes, 'listed_bytes', b.size_bytes))
        from known k
        join bucket b on b.key = k.s3_key
        where k.state in ('stored', 'verified') and not k.has_no_size and k.bytes <> b.size_bytes
      ), '[]'
    )
  );
$$;
comment on function public.eve_media_compare is 'What is in a page of the bucket''s listing or in the registry, and not in the other; marks what is missing.';

-- How far a comparison with the bucket is that has not come to its end, as eve_media_comparison_save noted; null: none is under way.
create or replace function public.eve_media_comparison()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select r.state from eve.media_reconciliation r;
$$;
comment on function public.eve_media_comparison is 'How far a comparison with the bucket is that is under way.';

-- Notes how far it is; null: it has come to its end.
create or replace function public.eve_media_comparison_save(state jsonb default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  insert into eve.media_reconciliation as r (state, completed_at)
  values (eve_media_comparison_save.state, case when eve_media_comparison_save.state is null then eve.clock() end)
  on conflict (id) do update
  set state = excluded.state, completed_at = coalesce(excluded.completed_at, r.completed_at);
  return jsonb_build_object('status', 'noted');
end;
$$;
comment on function public.eve_media_comparison_save is 'Notes how far a comparison with the bucket is.';

-- What a store can do, if that was found in the last week: stores change. Else null.
create or replace function public.eve_media_abilities(store text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select s.abilities
  from eve.media_stores s
  where s.store = eve_media_abilities.store and s.probed_at > eve.clock() - interval '7 days';
$$;
comment on function public.eve_media_abilities is 'What an object store can do, as a probe found in the last week.';

create or replace function public.eve_media_abilities_save(store text, abilities jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  insert into eve.media_stores as s (store, abilities, probed_at)
  values (eve_media_abilities_save.store, eve_media_abilities_save.abilities, eve.clock())
  on conflict on constraint media_stores_pkey do update
  set abilities = excluded.abilities, probed_at = excluded.probed_at;
  return jsonb_build_object('status', 'noted');
end;
$$;
comment on function public.eve_media_abilities_save is 'Notes what an object store can do.';

-- Whether files are kept in S3: a process without its settings cannot read them. {"in_s3"}.
create or replace function public.eve_media_in_s3()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'in_s3',
    exists (select from eve.media_stores s where s.probed_at > eve.clock() - interval '7 days')
      or exists (select from public.media_objects o where o.stored_in = 's3' and o.state in ('stored', 'verified'))
  );
$$;
comment on function public.eve_media_in_s3 is 'Whether files are kept in S3.';

-- Counts everything again. While it holds all counters, anyone who has changed an object and not yet counted it is waiting for them, and
-- adds to what is found here: what they have done is not seen yet. [{"scope", "subject", "was", "is"}], of those that were wrong.
create or replace function public.eve_media_recount()
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_wrong jsonb;
begin
  perform
  from eve.media_counters c
  order by array_position('{spool,tenant,kind,total}', c.scope), c.subject
  for update;
  with actual as materialized (
    select case when grouping(o.tenant_id) = 0 then 'tenant' when grouping(o.kind) = 0 then 'kind' else 'total' end as scope,
      coalesce(o.tenant_id, o.kind, '') as subject,
      coalesce(sum(eve.media_bytes(o)) filter (where o.counts_as = 'used'), 0)::bigint as used,
      coalesce(sum(eve.media_bytes(o)) filter (where o.counts_as = 'reserved'), 0)::bigint as reserved,
      count(*) filter (where o.counts_as = 'used') as objects
    from public.media_objects o
    group by grouping sets ((o.tenant_id), (o.kind), ())
    union all
    select 'spool', '', coalesce(sum(s.size_bytes), 0)::bigint, 0, count(*) from eve.media_spool s
  ), wrong as (
    select c.scope, c.subject, c.used_bytes as was_used, c.reserved_bytes as was_reserved, c.objects as was_objects,
      coalesce(a.used, 0) as used, coalesce(a.reserved, 0) as reserved, coalesce(a.objects, 0) as objects
    from eve.media_counters c
    left join actual a on a.scope = c.scope and a.subject = c.subject
    where (c.used_bytes, c.reserved_bytes, c.objects) is distinct from
      (coalesce(a.used, 0)::bigint, coalesce(a.reserved, 0)::bigint, coalesce(a.objects, 0)::bigint)
  ), found_again as (
    update eve.media_counters c
    set used_bytes = w.used, reserved_bytes = w.reserved, objects = w.objects
    from wrong w
    where c.scope = w.scope and c.subject = w.subject
  )
  select jsonb_agg(
    jsonb_build_object(
      'scope', w.scope, 'subject', w.subject,
      'was', jsonb_build_object('used_bytes', w.was_used, 'reserved_bytes', w.was_reserved, 'objects', w.was_objects),
      'is', jsonb_build_object('used_bytes', w.used, 'reserved_bytes', w.reserved, 'objects', w.objects)
    )
    order by w.scope, w.subject
  )
  into v_wrong
  from wrong w;
  return coalesce(v_wrong, '[]');
end;
$$;
comment on function public.eve_media_recount is 'Counts all objects again, repairs the counters, and says which were wrong.';
