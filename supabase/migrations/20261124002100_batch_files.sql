-- Files of batches and of prompts, for those whose they are: kept, found, listed, read, deleted.

set local lock_timeout = '10s';

-- Files that a caller sees: those it brought, and what came of batches that it sees. Of the project all.
create or replace function eve.batch_files_for(consumer_id uuid, token_id uuid)
returns setof eve.batch_files
language plpgsql
stable
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
begin
  perform eve.require_live_caller(batch_files_for.consumer_id, batch_files_for.token_id);
  return query
    select f.*
    from eve.batch_files f
    left join eve.batches b on b.id = f.batch_id
    left join eve.consumers c on c.id = batch_files_for.consumer_id
    left join eve.scoped_tokens t on t.id = batch_files_for.token_id
    where (batch_files_for.consumer_id is null or f.owner_id = batch_files_for.consumer_id)
      and f.expires_at > eve.clock()
      and b.deleted_at is null
      and (c.models is null or b.id is null or b.models <@ c.models)
      and (t.models is null or b.id is null or b.models <@ t.models);
end;
$$;

create or replace function eve.batch_file_json(file eve.batch_files)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select to_jsonb(file) - '{owner_id}'::text[];
$$;

create or replace function eve.batch_missing(what text, id uuid)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select eve.refused('not_found', format('There is no %s %s, or it is not yours.', batch_missing.what, batch_missing.id));
$$;

-- The tenant that a caller's files belong to, before one is stored: {"tenant_id"}.
create or replace function public.eve_batch_file_tenant(consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  perform eve.require_live_caller(eve_batch_file_tenant.consumer_id, eve_batch_file_tenant.token_id);
  return jsonb_build_object(
    'tenant_id',
    coalesce((select c.tenant_id from eve.consumers c where c.id = eve_batch_file_tenant.consumer_id), eve.default_tenant())
  );
end;
$$;
comment on function public.eve_batch_file_tenant is 'The tenant that files of a caller''s batches are kept for.';

-- Writes a file down that has been stored as a media object: {"status": "kept", "file"}. Twice is the same as once.
create or replace function public.eve_batch_file_save(
  id uuid, filename text, bytes bigint, tenant_id text, sha256 text, consumer_id uuid default null, token_id uuid default null,
  purpose text default 'batch', mime_type text default 'application/x-ndjson', is_listed boolean default true
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_keep constant interval := '30 days';
  v_now constant timestamptz := eve.clock();
  v_file eve.batch_files;
begin
  perform eve.require_live_caller(eve_batch_file_save.consumer_id, eve_batch_file_save.token_id);
  insert into eve.batch_files (
    id, consumer_id, purpose, filename, mime_type, is_listed, bytes, tenant_id, sha256, created_at, expires_at
  )
  values (
    eve_batch_file_save.id, eve_batch_file_save.consumer_id, eve_batch_file_save.purpose, left(eve_batch_file_save.filename, 255),
    eve_batch_file_save.mime_type, eve_batch_file_save.is_listed, eve_batch_file_save.bytes, eve_batch_file_save.tenant_id,
    eve_batch_file_save.sha256, v_now, v_now + v_keep
  )
  on conflict (id) do nothing
  returning * into v_file;
  if not found then
    -- An upload whose end was sent twice.
    select f.* into v_file
    from eve.batch_files f
    where f.id = eve_batch_file_save.id and f.sha256 = eve_batch_file_save.sha256
      and f.consumer_id is not distinct from eve_batch_file_save.consumer_id;
    if not found then
      return eve.batch_missing('upload', eve_batch_file_save.id);
    end if;
  end if;
  return jsonb_build_object('status', 'kept', 'file', eve.batch_file_json(v_file));
end;
$$;
comment on function public.eve_batch_file_save is 'Writes down a file of a batch that has been stored.';

-- {"status": "found", "file"}, or a refusal.
create or replace function public.eve_batch_file(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_file eve.batch_files;
begin
  select f.* into v_file
  from eve.batch_files_for(eve_batch_file.consumer_id, eve_batch_file.token_id) f
  where f.id = eve_batch_file.id;
  if not found then
    return eve.batch_missing('file', eve_batch_file.id);
  end if;
  return jsonb_build_object('status', 'found', 'file', eve.batch_file_json(v_file));
end;
$$;
comment on function public.eve_batch_file is 'A file of a batch, for those whose it is.';

-- {"files": [..], "has_more"}. after: the last one of the page before; at_most: 1 to 1000.
create or replace function public.eve_batch_files(
  consumer_id uuid default null, token_id uuid default null, purpose text default null, after uuid default null,
  at_most integer default 100, oldest_first boolean default false
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_at_most constant integer := least(greatest(coalesce(eve_batch_files.at_most, 100), 1), 1000);
  v_turn constant integer := case when eve_batch_files.oldest_first then 1 else -1 end;
  v_after constant bigint := (select f.no from eve.batch_files f where f.id = eve_batch_files.after);
  v_files jsonb;
begin
  select coalesce(jsonb_agg(eve.batch_file_json(row(f.*)::eve.batch_files) - 'parts' order by v_turn * f.no), '[]')
  into v_files
  from (
    select f.*
    from eve.batch_files_for(eve_batch_files.consumer_id, eve_batch_files.token_id) f
    where f.is_listed and (eve_batch_files.purpose is null or f.purpose = eve_batch_files.purpose)
      and (v_after is null or v_turn * f.no > v_turn * v_after)
    order by v_turn * f.no
    limit v_at_most + 1
  ) f;
  return jsonb_build_object(
    'files', case when jsonb_array_length(v_files) > v_at_most then v_files - v_at_most else v_files end,
    'has_more', jsonb_array_length(v_files) > v_at_most
  );
end;
$$;
comment on function public.eve_batch_files is 'A caller''s files of batches, page by page.';

-- A piece of an output or an error file: {"status": "read", "text": whole lines, "next": where the next piece begins, null at the end}.
-- from_place: 0 at first. A piece has some 2 MB, or one line.
create or replace function public.eve_batch_file_piece(
  id uuid, from_place integer default 0, consumer_id uuid default null, token_id uuid default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
#variable_conflict use_column
declare
  v_bytes_max constant integer := 2000000;
  v_file eve.batch_files;
  v_api text;
  v_job eve.jobs;
  v_lines text[] := '{}';
  v_line text;
  v_bytes integer := 0;
  v_next integer;
begin
  select f.* into v_file
  from eve.batch_files_for(eve_batch_file_piece.consumer_id, eve_batch_file_piece.token_id) f
  where f.id = eve_batch_file_piece.id and f.batch_id is not null;
  if not found then
    return eve.batch_missing('file', eve_batch_file_piece.id);
  end if;
  v_api := (select b.api from eve.batches b where b.id = v_file.batch_id);
  for v_job in
    select *
    from eve.jobs j
    where j.batch_id = v_file.batch_id and j.place >= eve_batch_file_piece.from_place
      and (v_file.holds = 'all' or (j.state = 'succeeded') = (v_file.holds = 'answers')) and j.finished_at is not null
    order by j.place
  loop
    if v_bytes >= v_bytes_max then
      v_next := v_job.place;
      exit;
    end if;
    v_line := eve.batch_line(v_job, v_api) || E'\n';
    v_lines := v_lines || v_line;
    v_bytes := v_bytes + octet_length(v_line);
  end loop;
  return jsonb_build_object('status', 'read', 'text', array_to_string(v_lines, ''), 'next', v_next);
end;
$$;
comment on function public.eve_batch_file_piece is 'A piece of what came of a batch.';

-- {"status": "deleted"}, or a refusal. Its media object is released before.
create or replace function public.eve_batch_file_delete(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  delete from eve.batch_files f
  where f.id = eve_batch_file_delete.id
    and exists (
      select
      from eve.batch_files_for(eve_batch_file_delete.consumer_id, eve_batch_file_delete.token_id) s
      where s.id = eve_batch_file_delete.id
    );
  if not found then
    return eve.batch_missing('file', eve_batch_file_delete.id);
  end if;
  return jsonb_build_object('status', 'deleted');
end;
$$;
comment on function public.eve_batch_file_delete is 'Deletes a file of a batch.';

-- Batches leave a while after their end; with them files whose time is over, and uses of media objects that were never written down.
create or replace function eve.retention_of_batches(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_files uuid[];
  v_unused text[];
begin
  v_files := array(
    select f.id
    from eve.batch_files f
    where f.expires_at <= v_now
    order by f.expires_at
    limit retention_of_batches.at_most
    for update skip locked
  );
  v_unused := array(
    select r.ref_id
    from eve.media_references r
    where r.ref_kind = 'batch_file'
      and (
        r.ref_id = any (v_files::text[])
        or r.created_at <= v_now - interval '1 day' and not exists (select from eve.batch_files f where f.id::text = r.ref_id)
      )
    limit retention_of_batches.at_most
  );
  -- Objects before their references, as everywhere.
  perform
  from public.media_objects o
  where (o.tenant_id, o.file_sha256) in (
    select r.tenant_id, r.file_sha256 from eve.media_references r where r.ref_kind = 'batch_file' and r.ref_id = any (v_unused)
  )
  order by o.tenant_id, o.file_sha256
  for update;
  delete from eve.media_references r where r.ref_kind = 'batch_file' and r.ref_id = any (v_unused);
  delete from eve.batch_files f where f.id = any (v_files);
  with old as (
    select b.id
    from eve.batches b
    where b.ended_at <= retention_of_batches.before
    order by b.ended_at
    limit retention_of_batches.at_most
    for update skip locked
  )
  delete from eve.batches b using old where b.id = old.id;
  get diagnostics deleted = row_count;
  next_after := case when deleted >= retention_of_batches.at_most or cardinality(v_files) >= retention_of_batches.at_most then '{}'::jsonb end;
end;
$$;
insert into eve.retention (table_name, keep, at_least, batch_rows, batch_function, description) values
  ('eve.batches', '30 days', '8 days', 500, 'retention_of_batches', 'Batches, counted from their end. Their files go by their own time.')
on conflict (table_name) do nothing;
