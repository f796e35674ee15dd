-- Media: which objects there are, who uses them, under which keys programs know them, and how many bytes they take.
--
-- A table public.media_objects that somebody made by hand is adopted: no row, no column and no meaning gets lost; what is lacking is
-- added, and the primary key becomes (tenant_id, file_sha256). What cannot be adopted stops the migration before anything has changed.

set local lock_timeout = '10s';

do $$
declare
  v_table constant regclass := to_regclass('public.media_objects');
  v_found record;
begin
  if v_table is null then
    return;
  end if;
  select c.relkind, c.relowner into v_found from pg_catalog.pg_class c where c.oid = v_table;
  if v_found.relkind <> 'r' then
    raise exception 'adoption: public.media_objects is not an ordinary table' using errcode = 'object_not_in_prerequisite_state',
      hint = 'Give it another name, or make it an ordinary table, and run the migrations again.';
  elsif not pg_has_role(v_found.relowner, 'usage') then
    raise exception 'adoption: public.media_objects belongs to %', pg_get_userbyid(v_found.relowner)
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('Run: alter table public.media_objects owner to %I;', current_user);
  end if;
  for v_found in
    select a.attname, format_type(a.atttypid, a.atttypmod) as type_name, known.category, a.attgenerated
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = a.atttypid
    join (values
      ('tenant_id', 'S'), ('file_sha256', 'S'), ('size_bytes', 'N'), ('stored_bytes', 'N'), ('mime_type', 'S'),
      ('content_encoding', 'S'), ('kind', 'S'), ('s3_key', 'S'), ('metadata', 'U'), ('refs_count', 'N'), ('state', 'S'),
      ('counts_as', 'S'), ('stored_in', 'S'), ('first_seen_at', 'D'), ('last_seen_at', 'D'), ('expires_at', 'D'),
      ('address_until', 'D'), ('proof_tries', 'N'), ('proof_at', 'D'), ('came_through', 'B'),
      ('missing_since', 'D')
    ) as known (name, category) on known.name = a.attname
    where a.attrelid = v_table and a.attnum > 0 and not a.attisdropped
      and (
        not (t.typcategory = known.category or known.name = 'tenant_id' and t.typname = 'uuid')
        or known.name = 'metadata' and t.typname <> 'jsonb'
        or a.attgenerated <> ''
      )
  loop
    raise exception 'adoption: column % of public.media_objects has type %, which the gateway cannot use', v_found.attname,
      case v_found.attgenerated when '' then v_found.type_name else 'generated ' || v_found.type_name end
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('Give it another name, or convert it to %s, and run the migrations again.',
          case v_found.category
            when 'S' then 'text' when 'N' then 'bigint' when 'D' then 'timestamptz' when 'B' then 'boolean' else 'jsonb'
          end);
  end loop;
  for v_found in
    select o.conname, o.conrelid::regclass as relation
    from pg_catalog.pg_constraint o
    where o.confrelid = v_table and o.contype = 'f'
      and cardinality(o.confkey) < 2
  loop
    raise exception 'adoption: % of % refers to public.media_objects by file_sha256 alone', v_found.conname, v_found.relation
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('Two tenants may have the same file, so the key becomes (tenant_id, file_sha256). Run: alter table %s drop constraint %I;',
          v_found.relation, v_found.conname);
  end loop;
end;
$$;

-- What it was, for the way back.
select eve.note_table('public.media_objects');

-- Whether there was a table, which columns it had, and which tenant its rows belong to.
select set_config(
  'eve.media_columns',
  coalesce(
    (
      select string_agg(a.attname, ',')
      from pg_catalog.pg_attribute a
      where a.attrelid = to_regclass('public.media_objects') and a.attnum > 0 and not a.attisdropped
    ), ''
  ),
  true
);

create table if not exists public.media_objects (
  tenant_id text not null default 'default',
  file_sha256 text not null,
  constraint media_objects_pkey primary key (tenant_id, file_sha256)
);
alter table public.media_objects
  add column if not exists tenant_id text not null default 'default',
  add column if not exists size_bytes bigint,
  add column if not exists stored_bytes bigint,
  add column if not exists mime_type text,
  add column if not exists content_encoding text,
  add column if not exists kind text not null default 'media',
  add column if not exists s3_key text,
  add column if not exists metadata jsonb not null default '{}',
  add column if not exists refs_count integer not null default 0,
  add column if not exists state text not null default 'stored',
  add column if not exists counts_as text not null default 'used',
  add column if not exists stored_in text not null default 's3',
  add column if not exists first_seen_at timestamptz default now(),
  add column if not exists last_seen_at timestamptz default now(),
  add column if not exists expires_at timestamptz,
  add column if not exists address_until timestamptz,
  add column if not exists proof_tries integer not null default 0,
  add column if not exists proof_at timestamptz,
  add column if not exists came_through boolean not null default false,
  add column if not exists missing_since timestamptz;

-- What a hand-made table knew under other names, its key, and what its rows lack.
do $$
declare
  v_before constant text[] := string_to_array(current_setting('eve.media_columns'), ',');
  v_pair record;
  v_key text[];
  v_constraint name;
begin
  if cardinality(v_before) = 0 or v_before @> '{file_sha256,counts_as,stored_in}' then
    return;
  end if;
  if (
    select a.atttypid from pg_catalog.pg_attribute a
    where a.attrelid = 'public.media_objects'::regclass and a.attname = 'tenant_id'
  ) <> 'text'::regtype then
    -- The same values in the same JSON; a tenant's id is a text everywhere else.
    alter table public.media_objects alter column tenant_id drop default;
    alter table public.media_objects alter column tenant_id type text using tenant_id::text;
  end if;
  alter table public.media_objects alter column tenant_id set default 'default';
  for v_pair in
    select *
    from (values
      ('size_bytes', array['size', 'file_size', 'bytes']), ('mime_type', array['mime', 'content_type']),
      ('tenant_id', array['tenant']), ('s3_key', array['object_key', 'key', 'path']),
      ('first_seen_at', array['first_seen', 'created_at']), ('last_seen_at', array['last_seen', 'last_used_at', 'updated_at'])
    ) as known (name, others)
    where not known.name = any (v_before) and known.others && v_before
  loop
    execute format(
      'update public.media_objects set %1$I = coalesce(%2$I::%3$s, %1$I)', v_pair.name,
      (select o.name from unnest(v_pair.others) with ordinality as o (name, place) where o.name = any (v_before) order by o.place limit 1),
      case when v_pair.name like '%_at' then 'timestamptz' when v_pair.name like '%_bytes' then 'bigint' else 'text' end
    );
  end loop;
  update public.media_objects set tenant_id = 'default' where tenant_id is null or tenant_id = '';
  insert into eve.tenants (id)
  select distinct o.tenant_id from public.media_objects o where o.tenant_id is not null
  on conflict do nothing;
  alter table public.media_objects alter column tenant_id set not null;
  -- A path of the table's own stays where it is: keys of rows that have none follow from their hashes once somebody asks.
  select array_agg(a.attname::text order by a.attname), max(c.conname) into v_key, v_constraint
  from pg_catalog.pg_constraint c
  join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
  where c.conrelid = 'public.media_objects'::regclass and c.contype = 'p';
  if v_key is distinct from '{file_sha256,tenant_id}' then
    if v_constraint is not null then
      execute format('alter table public.media_objects drop constraint %I', v_constraint);
    end if;
    for v_constraint in
      select c.conname
      from pg_catalog.pg_constraint c
      join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum] and a.attname = 'file_sha256'
      where c.conrelid = 'public.media_objects'::regclass and c.contype = 'u'
    loop
      execute format('alter table public.media_objects drop constraint %I', v_constraint);
    end loop;
    alter table public.media_objects add constraint media_objects_pkey primary key (tenant_id, file_sha256);
  end if;
end;
$$;

comment on table public.media_objects is 'What is stored, once per tenant and content. Written by the gateway; its members read their tenant''s.';
comment on column public.media_objects.file_sha256 is 'Of the file as it came, 64 hexadecimal digits.';
comment on column public.media_objects.size_bytes is 'Of the file as it came.';
comment on column public.media_objects.stored_bytes is 'As stored, packed or not: what limits count. Null: size_bytes.';
comment on column public.media_objects.content_encoding is 'gzip, or null.';
comment on column public.media_objects.kind is 'media, vision or crawl: what limits and lifecycle go by.';
comment on column public.media_objects.s3_key is 'Its key in the bucket or in eve.media_spool.';
comment on column public.media_objects.refs_count is 'Rows of eve.media_references; with any it is never deleted.';
comment on column public.media_objects.state is 'reserved: room is taken, nothing is stored for sure. stored: it is there with its size. verified: and its content has the hash. deleting: the object goes, then the row.';
comment on column public.media_objects.counts_as is 'Whether its bytes are in used_bytes or in reserved_bytes of eve.media_counters.';
comment on column public.media_objects.stored_in is 's3, or postgres: in eve.media_spool.';
comment on column public.media_objects.last_seen_at is 'When it was last uploaded or read.';
comment on column public.media_objects.expires_at is 'While reserved: when the reservation ends. While deleting: until then anyone who began deletes it alone.';
comment on column public.media_objects.proof_tries is 'How often somebody began to read and hash it, while it is stored and not verified.';
comment on column public.media_objects.proof_at is 'Not read and hashed again before; null: at once.';
comment on column public.media_objects.came_through is 'Whether it was uploaded through the gateway. What another program wrote here is not deleted for having another content.';
comment on column public.media_objects.missing_since is 'When the comparison with the bucket found that it is not there: it is taken again from anyone who sends it.';
comment on column public.media_objects.address_until is 'Until then somebody holds an address to which the file may be sent.';

create or replace function eve.media_bytes(object public.media_objects)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  return greatest(coalesce((media_bytes.object).stored_bytes, (media_bytes.object).size_bytes, 0), 0);
end;
$$;
comment on function eve.media_bytes is 'The bytes that an object counts for.';

do $$
declare
  v_check record;
begin
  for v_check in
    select *
    from (values
      ('media_objects_sha256_form', 'file_sha256 ~ ''^[0-9a-f]{64}$'''),
      ('media_objects_kind_known', 'kind in (''media'', ''vision'', ''crawl'')'),
      ('media_objects_state_known', 'state in (''reserved'', ''stored'', ''verified'', ''deleting'')'),
      ('media_objects_counts_as_known', 'counts_as in (''reserved'', ''used'')'),
      ('media_objects_stored_in_known', 'stored_in in (''s3'', ''postgres'')'),
      ('media_objects_sizes_positive', 'size_bytes >= 0 and stored_bytes >= 0'),
      ('media_objects_mime_type_length', 'length(mime_type) <= 255'),
      ('media_objects_metadata_size', 'octet_length(metadata::text) <= 16384')
    ) as checks (name, expression)
    where not exists (
      select from pg_catalog.pg_constraint where conrelid = 'public.media_objects'::regclass and conname = checks.name
    )
  loop
    begin
      execute format('alter table public.media_objects add constraint %I check (%s) not valid', v_check.name, v_check.expression);
      execute format('alter table public.media_objects validate constraint %I', v_check.name);
    exception
      when check_violation then
        insert into eve.adoption_warnings (message)
        values (format('adoption: rows of media_objects break the rule "%s"; correct them', v_check.expression))
        on conflict do nothing;
    end;
  end loop;
  if not exists (
    select from pg_catalog.pg_constraint where conrelid = 'public.media_objects'::regclass and conname = 'media_objects_tenant_id_fkey'
  ) then
    alter table public.media_objects add constraint media_objects_tenant_id_fkey foreign key (tenant_id) references eve.tenants (id);
  end if;
end;
$$;
create index if not exists media_objects_kind_last_seen_at_idx on public.media_objects (kind, last_seen_at)
  where refs_count = 0 and state in ('stored', 'verified');
create index if not exists media_objects_expires_at_idx on public.media_objects (expires_at) where state in ('reserved', 'deleting');
create index if not exists media_objects_unproven_idx on public.media_objects (last_seen_at) where state = 'stored';
create index if not exists media_objects_tenant_id_s3_key_idx on public.media_objects (tenant_id, s3_key collate "C");
-- As a bucket lists its keys, by their bytes.
create index if not exists media_objects_s3_key_idx on public.media_objects (s3_key collate "C");

create table if not exists eve.media_references (
  tenant_id text not null,
  file_sha256 text not null,
  ref_kind text not null,
  ref_id text not null,
  created_at timestamptz not null default now(),
  primary key (tenant_id, file_sha256, ref_kind, ref_id),
  constraint media_references_object_fkey foreign key (tenant_id, file_sha256) references public.media_objects (tenant_id, file_sha256)
    on update cascade,
  constraint media_references_kind_form check (ref_kind ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint media_references_id_length check (length(ref_id) between 1 and 200)
);
create index if not exists media_references_ref_kind_ref_id_idx on eve.media_references (ref_kind, ref_id);
comment on table eve.media_references is 'What uses an object: as long as there is a row, the object stays.';
comment on column eve.media_references.ref_kind is 'What sort of thing uses it, such as chat_message; adopted: a use counted before the gateway came.';

create table if not exists eve.media_multiparts (
  tenant_id text not null,
  file_sha256 text not null,
  upload_id text not null,
  part_bytes bigint not null,
  created_at timestamptz not null default now(),
  primary key (tenant_id, file_sha256),
  constraint media_multiparts_object_fkey foreign key (tenant_id, file_sha256) references public.media_objects (tenant_id, file_sha256)
    on update cascade on delete cascade,
  constraint media_multiparts_upload_id_length check (length(upload_id) between 1 and 2000),
  constraint media_multiparts_part_bytes_positive check (part_bytes > 0)
);
comment on table eve.media_multiparts is 'Uploads in parts that are under way: each is of a reserved object, and goes with its reservation.';
comment on column eve.media_multiparts.upload_id is 'The store''s own name of it.';
comment on column eve.media_multiparts.part_bytes is 'Of each part but the last.';

create table if not exists eve.media_aliases (
  tenant_id text not null,
  key text not null,
  file_sha256 text not null,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  primary key (tenant_id, key),
  constraint media_aliases_object_fkey foreign key (tenant_id, file_sha256) references public.media_objects (tenant_id, file_sha256)
    on update cascade on delete cascade,
  constraint media_aliases_key_size check (octet_length(key) between 1 and 1024),
  constraint media_aliases_metadata_size check (octet_length(metadata::text) <= 16384)
);
create index if not exists media_aliases_object_idx on eve.media_aliases (tenant_id, file_sha256);
create index if not exists media_aliases_key_idx on eve.media_aliases (tenant_id, key collate "C");
comment on table eve.media_aliases is 'Keys that programs choose: each points to an object, and goes with it.';

-- refs_count follows from the rows.
create or replace function eve.media_count_references()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    update public.media_objects o
    set refs_count = o.refs_count + 1
    where o.tenant_id = new.tenant_id and o.file_sha256 = new.file_sha256;
  else
    update public.media_objects o
    set refs_count = greatest(o.refs_count - 1, 0)
    where o.tenant_id = old.tenant_id and o.file_sha256 = old.file_sha256;
  end if;
  return null;
end;
$$;

-- Uses that a hand-made table counted get their rows; where it counted none, each object is taken to be used once, so that nothing
-- that was there before the gateway leaves by itself.
do $$
declare
  v_before constant text[] := string_to_array(current_setting('eve.media_columns'), ',');
begin
  if cardinality(v_before) = 0 or v_before @> '{file_sha256,counts_as,stored_in}' then
    return;
  end if;
  if not 'refs_count' = any (v_before) then
    update public.media_objects set refs_count = 1;
  end if;
  update public.media_objects set refs_count = 0 where refs_count is null;
  -- Time without use counts from here on: by the table's own dates the first clean-up would delete what nobody has seen going.
  update public.media_objects set last_seen_at = now() where last_seen_at is null or last_seen_at < now();
  insert into eve.media_references (tenant_id, file_sha256, ref_kind, ref_id)
  select o.tenant_id, o.file_sha256, 'adopted', n::text
  from public.media_objects o
  cross join lateral generate_series(1, o.refs_count) n
  on conflict do nothing;
end;
$$;
create or replace trigger eve_media_count_references
after insert or delete on eve.media_references
for each row
execute function eve.media_count_references();

create table if not exists eve.media_counters (
  scope text not null,
  subject text not null,
  used_bytes bigint not null default 0,
  reserved_bytes bigint not null default 0,
  objects bigint not null default 0,
  primary key (scope, subject),
  constraint media_counters_scope_known check (scope in ('tenant', 'kind', 'total', 'spool'))
) with (fillfactor = 30);
comment on table eve.media_counters is 'Bytes and objects in all (total), by kind and by tenant; spool: bytes in eve.media_spool.';
comment on column eve.media_counters.used_bytes is 'Of objects that are stored; reserved_bytes: of uploads that are not.';
comment on column eve.media_counters.subject is 'The tenant''s id or the kind; empty for total and spool.';
insert into eve.media_counters (scope, subject)
values ('total', ''), ('spool', ''), ('kind', 'media'), ('kind', 'vision'), ('kind', 'crawl')
on conflict do nothing;

create table if not exists eve.media_limits (
  name text primary key,
  limit_bytes bigint not null,
  variable text,
  env_bytes bigint,
  description text not null,
  constraint media_limits_name_known check (name in ('total', 'emergency', 'tenant', 'media', 'vision', 'crawl', 'spool')),
  constraint media_limits_positive check (limit_bytes >= 0)
);
comment on table eve.media_limits is 'How much media there may be, in bytes (1 GB is 10^9). A change takes effect with the next upload.';
comment on column eve.media_limits.variable is 'The variable of the environment that gives its first value; env_bytes: what that said last.';
insert into eve.media_limits (name, limit_bytes, variable, description) values
  ('total', 15000000000, 'S3_TOTAL_LIMIT_GB', 'In all.'),
  ('emergency', 14000000000, 'S3_EMERGENCY_THRESHOLD_GB', 'From here on the emergency clean-up runs.'),
  ('tenant', 2000000000, 'S3_PER_TENANT_LIMIT_GB', 'Of one tenant, unless its row in eve.tenants says otherwise.'),
  ('media', 10000000000, null, 'Of the kind media.'),
  ('vision', 2000000000, null, 'Of the kind vision.'),
  ('crawl', 2000000000, null, 'Of the kind crawl.'),
  ('spool', 100000000, null, 'In the database: what S3 could not take yet, or everything where there is no S3. Counts towards audit_max_mb.')
on conflict (name) do nothing;

-- Each tenant has its counter from the beginning, so that a reservation finds the rows that it locks.
create or replace function eve.media_counter_of_tenant()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  insert into eve.media_counters (scope, subject) values ('tenant', new.id) on conflict do nothing;
  return null;
end;
$$;
create or replace trigger eve_media_counter_of_tenant
after insert on eve.tenants
for each row
execute function eve.media_counter_of_tenant();
insert into eve.media_counters (scope, subject) select 'tenant', t.id from eve.tenants t on conflict do nothing;

create table if not exists eve.media_spool (
  key text primary key,
  seq bigint generated always as identity,
  body bytea not null,
  size_bytes bigint not null,
  sha256 text not null,
  content_type text not null,
  content_encoding text,
  moves boolean not null default false,
  created_at timestamptz not null default now(),
  tries integer not null default 0,
  next_try_at timestamptz not null default now(),
  claimed_until timestamptz,
  last_error text,
  constraint media_spool_key_size check (octet_length(key) between 1 and 1024),
  constraint media_spool_sha256_form check (sha256 ~ '^[0-9a-f]{64}$')
);
-- Pictures do not get smaller, and a piece of a body is read without the rest.
alter table eve.media_spool alter column body set storage external;
create index if not exists media_spool_seq_idx on eve.media_spool (seq);
comment on table eve.media_spool is 'Objects that are kept in the database: where there is no S3, and while S3 is away.';
comment on column eve.media_spool.sha256 is 'Of body, packed or not.';
comment on column eve.media_spool.moves is 'Whether S3 is set up, so that it is to move there.';
comment on column eve.media_spool.seq is 'The order in which they came and go to S3.';

create table if not exists eve.media_reconciliation (
  id boolean primary key default true,
  state jsonb,
  completed_at timestamptz,
  constraint media_reconciliation_one_row check (id),
  constraint media_reconciliation_state_size check (length(state::text) <= 400000)
);
comment on table eve.media_reconciliation is 'How far the comparison with the bucket is: a large bucket is listed by several runs.';
comment on column eve.media_reconciliation.state is 'What the next run goes on from; null: none is under way.';

create table if not exists eve.media_stores (
  store text primary key,
  abilities jsonb not null,
  probed_at timestamptz not null,
  constraint media_stores_store_length check (length(store) between 1 and 2000),
  constraint media_stores_abilities_size check (length(abilities::text) <= 2000)
);
comment on table eve.media_stores is 'What an object store can do, as a probe has found: to ask takes half a dozen requests.';
comment on column eve.media_stores.store is 'Its address and bucket.';

insert into eve.settings (name, value, description) values
  ('media_keep_days', 30, 'Objects of the kind media leave after so many days without use, if nothing refers to them.'),
  ('vision_keep_days', 14, 'The same for the kind vision.'),
  ('crawl_keep_days', 7, 'The same for the kind crawl.'),
  ('upload_keep_s', 86400, 'An upload that is begun and not finished holds its room for so many seconds.')
on conflict (name) do nothing;

-- What stood there before the gateway counts.
update eve.media_counters c
set used_bytes = s.used_bytes, reserved_bytes = s.reserved_bytes, objects = s.objects
from (
  select case when grouping(o.tenant_id) = 0 then 'tenant' when grouping(o.kind) = 0 then 'kind' else 'total' end as scope,
    coalesce(o.tenant_id, o.kind, '') as subject,
    coalesce(sum(eve.media_bytes(o)) filter (where o.counts_as = 'used'), 0) as used_bytes,
    coalesce(sum(eve.media_bytes(o)) filter (where o.counts_as = 'reserved'), 0) as reserved_bytes,
    count(*) filter (where o.counts_as = 'used') as objects
  from public.media_objects o
  group by grouping sets ((o.tenant_id), (o.kind), ())
) s
where c.scope = s.scope and c.subject = s.subject
  and (c.used_bytes, c.reserved_bytes, c.objects) = (0, 0, 0);
