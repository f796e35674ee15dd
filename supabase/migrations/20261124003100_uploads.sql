-- Uploads: a file that is larger than a body may be, sent in parts, as OpenAI's and Google's clients do it. Each part is a media object of its own;
-- the file has the upload's id, and is its parts, one behind the other: nothing is copied together. What the parts are used by is that file,
-- from the first of them on, so that what becomes of files becomes of them.

set local lock_timeout = '10s';

create table if not exists eve.uploads (
  id uuid primary key,
  consumer_id uuid,
  owner_id uuid generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')) stored,
  tenant_id text not null,
  filename text not null,
  mime_type text not null default 'application/x-ndjson',
  purpose text not null default 'batch',
  bytes bigint not null,
  state text not null default 'pending',
  created_at timestamptz not null,
  expires_at timestamptz not null,
  constraint uploads_mime_type_length check (length(mime_type) between 1 and 255),
  constraint uploads_purpose_known check (purpose in ('batch', 'user_data')),
  constraint uploads_filename_length check (length(filename) between 1 and 255),
  constraint uploads_bytes_range check (bytes between 1 and 1000000000),
  constraint uploads_state_known check (state in ('pending', 'completed', 'cancelled'))
);
create index if not exists uploads_owner_id_idx on eve.uploads (owner_id);
create index if not exists uploads_expires_at_idx on eve.uploads (expires_at);
comment on table eve.uploads is 'Files that are sent in parts.';
comment on column eve.uploads.id is 'The file''s, too, once it is complete.';
comment on column eve.uploads.purpose is 'And mime_type: of the file, as in eve.batch_files.';
comment on column eve.uploads.bytes is 'Of the whole, as it was announced.';
comment on column eve.uploads.expires_at is 'Nothing is taken after that; a pending one has expired then.';

create table if not exists eve.upload_parts (
  id uuid primary key,
  upload_id uuid not null references eve.uploads (id) on delete cascade,
  no bigint generated always as identity,
  sha256 text not null,
  bytes bigint not null,
  created_at timestamptz not null,
  constraint upload_parts_sha256_form check (sha256 ~ '^[0-9a-f]{64}$'),
  constraint upload_parts_bytes_counted check (bytes > 0)
);
create index if not exists upload_parts_upload_id_no_idx on eve.upload_parts (upload_id, no);
comment on table eve.upload_parts is 'Parts that have arrived. In which order they make the file is said at its end.';

create or replace function eve.uploads_for(id uuid, consumer_id uuid, token_id uuid)
returns setof eve.uploads
language plpgsql
stable
set search_path = ''
as $$
begin
  perform eve.require_live_caller(uploads_for.consumer_id, uploads_for.token_id);
  return query
    select u.*
    from eve.uploads u
    where u.id = uploads_for.id and (uploads_for.consumer_id is null or u.owner_id = uploads_for.consumer_id);
end;
$$;

create or replace function eve.upload_json(upload eve.uploads)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(upload) - '{owner_id,consumer_id}'::text[] || jsonb_build_object(
    'state', case when (upload).state = 'pending' and (upload).expires_at <= eve.clock() then 'expired' else (upload).state end
  );
$$;

create or replace function eve.upload_missing(id uuid)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select eve.refused('not_found', format('There is no upload upload_%s, or it is not yours.', replace(upload_missing.id::text, '-', '')));
$$;

create or replace function eve.upload_over(upload eve.uploads)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select eve.refused('invalid_request', format('The upload is %s: begin another one.', eve.upload_json(upload_over.upload) ->> 'state'));
$$;

-- Begins one: {"status": "found", "upload"}, or a refusal.
create or replace function public.eve_upload_create(
  id uuid, tenant_id text, filename text, bytes bigint, consumer_id uuid default null, token_id uuid default null,
  mime_type text default 'application/x-ndjson', purpose text default 'batch'
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lasts constant interval := '1 hour';
  v_most constant integer := 100;
  v_now constant timestamptz := eve.clock();
  v_owner constant uuid := coalesce(eve_upload_create.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_upload eve.uploads;
begin
  perform eve.require_live_caller(eve_upload_create.consumer_id, eve_upload_create.token_id);
  if (select count(*) from eve.uploads u where u.owner_id = v_owner and u.state = 'pending' and u.expires_at > v_now) >= v_most then
    return eve.refused(
      'jobs_full', format('You have %s uploads under way. Complete or cancel some of them, or wait until they have expired.', v_most), null, 60000
    );
  end if;
  insert into eve.uploads (id, consumer_id, tenant_id, filename, mime_type, purpose, bytes, created_at, expires_at)
  values (
    eve_upload_create.id, eve_upload_create.consumer_id, eve_upload_create.tenant_id, left(eve_upload_create.filename, 255),
    eve_upload_create.mime_type, eve_upload_create.purpose, eve_upload_create.bytes, v_now, v_now + v_lasts
  )
  returning * into v_upload;
  return jsonb_build_object('status', 'found', 'upload', eve.upload_json(v_upload));
end;
$$;
comment on function public.eve_upload_create is 'Begins to take a file in parts.';

-- {"status": "found", "upload", "parts": [{"id", "sha256", "bytes"}] as they came}, or a refusal.
create or replace function public.eve_upload(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_upload eve.uploads;
begin
  select u.* into v_upload from eve.uploads_for(eve_upload.id, eve_upload.consumer_id, eve_upload.token_id) u;
  if not found then
    return eve.upload_missing(eve_upload.id);
  end if;
  return jsonb_build_object(
    'status', 'found', 'upload', eve.upload_json(v_upload), 'parts', (
      select coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'sha256', p.sha256, 'bytes', p.bytes) order by p.no), '[]')
      from eve.upload_parts p
      where p.upload_id = v_upload.id
    )
  );
end;
$$;
comment on function public.eve_upload is 'A file that is sent in parts, and what has arrived.';

-- Writes a part down that has been stored: {"status": "noted", "created_at"}, or a refusal. More than twice the file is not taken.
-- at_byte: where in the file it begins, of parts that come one behind the other; null: it is said at the end. One that has arrived
-- already, since its sender did not hear so, is noted once.
create or replace function public.eve_upload_part(
  id uuid, upload_id uuid, sha256 text, bytes bigint, consumer_id uuid default null, token_id uuid default null, at_byte bigint default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_most constant integer := 1000;
  v_now constant timestamptz := eve.clock();
  v_upload eve.uploads;
  v_has record;
  v_there timestamptz;
begin
  perform from eve.uploads_for(eve_upload_part.upload_id, eve_upload_part.consumer_id, eve_upload_part.token_id);
  if not found then
    return eve.upload_missing(eve_upload_part.upload_id);
  end if;
  select u.* into v_upload from eve.uploads u where u.id = eve_upload_part.upload_id for update;
  if v_upload.state <> 'pending' or v_upload.expires_at <= v_now then
    return eve.upload_over(v_upload);
  end if;
  select count(*) as parts, coalesce(sum(p.bytes), 0) as bytes into v_has from eve.upload_parts p where p.upload_id = v_upload.id;
  if eve_upload_part.at_byte < v_has.bytes then
    select p.created_at into v_there
    from (
      select q.*, sum(q.bytes) over (order by q.no) - q.bytes as begins from eve.upload_parts q where q.upload_id = v_upload.id
    ) p
    where p.begins = eve_upload_part.at_byte and p.sha256 = eve_upload_part.sha256 and p.bytes = eve_upload_part.bytes;
    if found then
      return jsonb_build_object('status', 'noted', 'created_at', v_there);
    end if;
  end if;
  if eve_upload_part.at_byte <> v_has.bytes or eve_upload_part.at_byte + eve_upload_part.bytes > v_upload.bytes then
    return eve.refused(
      'invalid_request',
      format(
        '%s of %s bytes have arrived: byte %s cannot be followed by %s others. Go on from byte %s.', v_has.bytes, v_upload.bytes,
        eve_upload_part.at_byte, eve_upload_part.bytes, v_has.bytes
      )
    );
  end if;
  if v_has.parts >= v_most or v_has.bytes + eve_upload_part.bytes > 2 * v_upload.bytes then
    return eve.refused(
      'invalid_request',
      format(
        'The upload has %s parts of %s bytes, and may have %s of %s: twice what it was announced with.', v_has.parts, v_has.bytes, v_most,
        2 * v_upload.bytes
      )
    );
  end if;
  insert into eve.upload_parts (id, upload_id, sha256, bytes, created_at)
  values (eve_upload_part.id, v_upload.id, eve_upload_part.sha256, eve_upload_part.bytes, v_now);
  return jsonb_build_object('status', 'noted', 'created_at', v_now);
end;
$$;
comment on function public.eve_upload_part is 'Writes down a part of a file that has been stored.';

-- Makes the file of its parts, in this order: {"status": "completed", "file"}, or a refusal. The same once more is the same file.
create or replace function public.eve_upload_complete(
  id uuid, part_ids uuid[], consumer_id uuid default null, token_id uuid default null
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
  v_upload eve.uploads;
  v_parts record;
  v_file eve.batch_files;
begin
  perform from eve.uploads_for(eve_upload_complete.id, eve_upload_complete.consumer_id, eve_upload_complete.token_id);
  if not found then
    return eve.upload_missing(eve_upload_complete.id);
  end if;
  select u.* into v_upload from eve.uploads u where u.id = eve_upload_complete.id for update;
  select array_agg(p.sha256 order by a.nr) as hashes, coalesce(sum(p.bytes), 0) as bytes, count(p.id) as found, count(distinct p.id) as different
  into v_parts
  from unnest(eve_upload_complete.part_ids) with ordinality as a (id, nr)
  join eve.upload_parts p on p.id = a.id and p.upload_id = v_upload.id;
  select f.* into v_file from eve.batch_files f where f.id = v_upload.id;
  if v_upload.state = 'completed' and v_file.parts = v_parts.hashes then
    return jsonb_build_object('status', 'completed', 'file', eve.batch_file_json(v_file));
  elsif v_upload.state <> 'pending' or v_upload.expires_at <= v_now then
    return eve.upload_over(v_upload);
  elsif v_parts.different < cardinality(eve_upload_complete.part_ids) or v_parts.found = 0 then
    return eve.refused(
      'invalid_request', 'part_ids must be parts of this upload, each once.', '[{"field": "part_ids", "problem": "must be parts of this upload, each once"}]'
    );
  elsif v_parts.bytes <> v_upload.bytes then
    return eve.refused(
      'invalid_request', format('The parts have %s bytes together, and %s were announced.', v_parts.bytes, v_upload.bytes),
      '[{"field": "part_ids", "problem": "must have as many bytes as were announced"}]'
    );
  end if;
  insert into eve.batch_files (id, consumer_id, purpose, filename, mime_type, bytes, tenant_id, parts, created_at, expires_at)
  values (
    v_upload.id, v_upload.consumer_id, v_upload.purpose, v_upload.filename, v_upload.mime_type, v_upload.bytes, v_upload.tenant_id,
    v_parts.hashes, v_now, v_now + v_keep
  )
  returning * into v_file;
  update eve.uploads u set state = 'completed' where u.id = v_upload.id;
  return jsonb_build_object('status', 'completed', 'file', eve.batch_file_json(v_file));
end;
$$;
comment on function public.eve_upload_complete is 'Makes a file of the parts that were sent.';

-- {"status": "cancelled"}, or a refusal. Twice is the same as once.
create or replace function public.eve_upload_cancel(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_upload eve.uploads;
begin
  perform from eve.uploads_for(eve_upload_cancel.id, eve_upload_cancel.consumer_id, eve_upload_cancel.token_id);
  if not found then
    return eve.upload_missing(eve_upload_cancel.id);
  end if;
  select u.* into v_upload from eve.uploads u where u.id = eve_upload_cancel.id for update;
  if v_upload.state = 'completed' then
    return eve.upload_over(v_upload);
  end if;
  update eve.uploads u set state = 'cancelled' where u.id = v_upload.id;
  return jsonb_build_object('status', 'cancelled');
end;
$$;
comment on function public.eve_upload_cancel is 'Gives up a file that is sent in parts.';

-- Uploads leave a while after their time is over. What arrived of those that came to nothing goes as files of batches do
-- (eve.retention_of_batches): there is no file that uses it.
create or replace function eve.retention_of_uploads(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  with old as (
    select u.id
    from eve.uploads u
    where u.expires_at <= retention_of_uploads.before
    order by u.expires_at
    limit retention_of_uploads.at_most
    for update skip locked
  )
  delete from eve.uploads u using old where u.id = old.id;
  get diagnostics deleted = row_count;
  next_after := case when deleted >= retention_of_uploads.at_most then '{}'::jsonb end;
end;
$$;
insert into eve.retention (table_name, keep, at_least, batch_rows, batch_function, description) values
  ('eve.uploads', '1 day', '1 hour', 500, 'retention_of_uploads', 'Files that were sent in parts, counted from when their time was over. The files stay.')
on conflict (table_name) do nothing;

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation, c.relkind
    from pg_catalog.pg_class c
    where c.relkind in ('r', 'S') and c.relnamespace = 'eve'::regnamespace and c.relname ~ '^upload(s|_parts|_parts_no_seq)$'
  loop
    if v_object.relkind = 'S' then
      execute format('revoke all on sequence %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant usage on sequence %s to service_role', v_object.relation);
    else
      execute format('alter table %s enable row level security', v_object.relation);
      execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
    end if;
  end loop;
  for v_object in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(uploads?_|retention_of_uploads$)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_upload(_|$)'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    execute format('grant execute on function %s to service_role', v_object.signature);
  end loop;
end;
$$;
