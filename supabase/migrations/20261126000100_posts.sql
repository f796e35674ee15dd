-- Posts, the pictures that belong to them, and what was found in those (public, so that signed-in users read their tenants' own).
--
-- Tables of these names that somebody made by hand are adopted: no row, no column and no meaning gets lost; what is lacking is added.
-- What cannot be adopted stops the migration before anything has changed.

set local lock_timeout = '10s';

do $$
declare
  v_found record;
  v_table text;
begin
  foreach v_table in array '{posts,post_media_map,post_enrichment}'::text[] loop
    select c.relkind, c.relowner into v_found from pg_catalog.pg_class c where c.oid = to_regclass('public.' || v_table);
    continue when not found;
    if v_found.relkind <> 'r' then
      raise exception 'adoption: public.% is not an ordinary table', v_table using errcode = 'object_not_in_prerequisite_state',
        hint = 'Give it another name, or make it an ordinary table, and run the migrations again.';
    elsif not pg_has_role(v_found.relowner, 'usage') then
      raise exception 'adoption: public.% belongs to %', v_table, pg_get_userbyid(v_found.relowner)
        using errcode = 'object_not_in_prerequisite_state',
          hint = format('Run: alter table public.%I owner to %I;', v_table, current_user);
    end if;
  end loop;
  for v_found in
    select known.relation, a.attname, format_type(a.atttypid, a.atttypmod) as type_name, known.type
    from (values
      ('posts', 'id', 'uuid'), ('posts', 'tenant_id', 'text'), ('posts', 'source', 'text'), ('posts', 'external_id', 'text'),
      ('posts', 'text', 'text'), ('posts', 'published_at', 'timestamptz'), ('posts', 'metadata', 'jsonb'), ('posts', 'trace_id', 'text'),
      ('posts', 'created_at', 'timestamptz'), ('posts', 'updated_at', 'timestamptz'),
      ('post_media_map', 'post_id', 'uuid'), ('post_media_map', 'tenant_id', 'text'), ('post_media_map', 'file_sha256', 'text'),
      ('post_media_map', 'place', 'integer'), ('post_media_map', 'created_at', 'timestamptz'),
      ('post_enrichment', 'id', 'uuid'), ('post_enrichment', 'tenant_id', 'text'), ('post_enrichment', 'post_id', 'uuid'),
      ('post_enrichment', 'file_sha256', 'text'), ('post_enrichment', 'kind', 'text'), ('post_enrichment', 'status', 'text'),
      ('post_enrichment', 'reason', 'text'), ('post_enrichment', 'provider', 'text'), ('post_enrichment', 'model', 'text'),
      ('post_enrichment', 'schema_version', 'integer'), ('post_enrichment', 'prompt_version', 'integer'),
      ('post_enrichment', 'resolution', 'text'), ('post_enrichment', 'vision_description', 'text'),
      ('post_enrichment', 'objects', 'jsonb'), ('post_enrichment', 'ocr_text', 'text'), ('post_enrichment', 'is_meme', 'boolean'),
      ('post_enrichment', 'nsfw', 'boolean'), ('post_enrichment', 'scene', 'text'), ('post_enrichment', 'confidence', 'double precision'),
      ('post_enrichment', 'tokens', 'bigint'), ('post_enrichment', 'created_at', 'timestamptz'),
      ('post_enrichment', 'updated_at', 'timestamptz')
    ) as known (relation, name, type)
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass('public.' || known.relation) and a.attname = known.name
      and a.attnum > 0 and not a.attisdropped
    join pg_catalog.pg_type t on t.oid = a.atttypid
    join pg_catalog.pg_type wanted on wanted.oid = known.type::regtype
    where a.attgenerated <> ''
      -- Another type of the same sort (varchar, smallint, timestamp) serves; ids and JSON are what they are.
      or case when known.type in ('uuid', 'jsonb') then t.oid <> wanted.oid else t.typcategory <> wanted.typcategory end
    union all
    select 'post_enrichment', a.attname, format_type(a.atttypid, a.atttypmod), 'text[]'
    from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass('public.post_enrichment') and a.attname = 'labels' and a.attnum > 0 and not a.attisdropped
      and a.atttypid <> 'text[]'::regtype
  loop
    raise exception 'adoption: column % of public.% has type %, which the gateway cannot use', v_found.attname, v_found.relation,
      v_found.type_name
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('Give it another name, or convert it to %s, and run the migrations again.', v_found.type);
  end loop;
end;
$$;

-- What they were, for the way back.
select eve.note_table('public.' || t.name) from unnest('{posts,post_media_map,post_enrichment}'::text[]) as t (name);

-- Whether the posts are the gateway's own already: then their policies are.
select set_config(
  'eve.posts_are_ours',
  exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass('public.posts') and a.attname = 'trace_id' and not a.attisdropped
  )::text,
  true
);

create table if not exists public.posts (id uuid primary key default gen_random_uuid());
alter table public.posts
  add column if not exists tenant_id text not null default 'default',
  add column if not exists source text not null default 'api',
  add column if not exists external_id text,
  add column if not exists text text not null default '',
  add column if not exists published_at timestamptz,
  add column if not exists metadata jsonb not null default '{}',
  add column if not exists trace_id text,
  add column if not exists created_at timestamptz not null default now(),
  add column if not exists updated_at timestamptz not null default now();
comment on table public.posts is 'What came in from outside: a message of a channel, a page, a picture that somebody sent. Its members read their tenant''s.';
comment on column public.posts.source is 'Where it comes from, such as telegram:city_events: what policies skip or pass by.';
comment on column public.posts.external_id is 'The source''s own name of it: the same one again is the same post.';
comment on column public.posts.trace_id is 'Of the request that brought it, 32 hexadecimal digits: its jobs, calls and events have the same.';

create table if not exists public.post_media_map (
  post_id uuid not null,
  file_sha256 text not null,
  primary key (post_id, file_sha256)
);
alter table public.post_media_map
  add column if not exists tenant_id text not null default 'default',
  add column if not exists place integer not null default 0,
  add column if not exists created_at timestamptz not null default now();
comment on table public.post_media_map is 'Which files belong to which posts. While there is a row, its file stays (eve.media_references).';
comment on column public.post_media_map.file_sha256 is 'With tenant_id: the object of public.media_objects.';
comment on column public.post_media_map.place is 'The order in which the post shows them, from 0 on.';

create table if not exists public.post_enrichment (id uuid primary key default gen_random_uuid());
alter table public.post_enrichment
  add column if not exists tenant_id text not null default 'default',
  add column if not exists post_id uuid not null,
  add column if not exists file_sha256 text,
  add column if not exists kind text not null default 'vision',
  add column if not exists status text not null default 'waiting',
  add column if not exists reason text,
  add column if not exists run_no integer not null default 1,
  add column if not exists job_id uuid,
  add column if not exists decision_id bigint,
  add column if not exists analyst text,
  add column if not exists provider text,
  add column if not exists model text,
  add column if not exists schema_version integer,
  add column if not exists prompt_version integer,
  add column if not exists resolution text,
  add column if not exists vision_description text,
  add column if not exists labels text[] not null default '{}',
  add column if not exists objects jsonb not null default '[]',
  add column if not exists ocr_text text,
  add column if not exists is_meme boolean,
  add column if not exists nsfw boolean,
  add column if not exists scene text,
  add column if not exists confidence double precision,
  add column if not exists input_tokens bigint not null default 0,
  add column if not exists output_tokens bigint not null default 0,
  add column if not exists tokens bigint not null default 0,
  add column if not exists raw_text text,
  add column if not exists from_cache boolean not null default false,
  add column if not exists same_as text,
  add column if not exists trace_id text,
  add column if not exists created_at timestamptz not null default now(),
  add column if not exists updated_at timestamptz not null default now(),
  add column if not exists analyzed_at timestamptz;
comment on table public.post_enrichment is 'What was found in a post''s picture: a row for each, from the moment that it is to be looked at.';
comment on column public.post_enrichment.status is 'waiting: its job has not ended, reason says what for if it is known; done; skipped: the policy is against it; invalid: an answer came that does not hold, see raw_text; failed: reason says why.';
comment on column public.post_enrichment.run_no is 'Grows when it is to be looked at once more.';
comment on column public.post_enrichment.decision_id is 'Of eve.vision_decisions: why it was done so.';
comment on column public.post_enrichment.same_as is 'The picture, by its SHA-256, that looks the same and whose result this is.';
comment on column public.post_enrichment.tokens is 'In and out, thoughts among them, that this picture''s analysis was charged with; 0 where the result was there already.';
comment on column public.post_enrichment.confidence is 'From 0 to 1.';

-- Both languages, so that a word is found by its stem in either. Labels are words too.
create or replace function eve.enrichment_words(description text, ocr_text text, labels text[])
returns tsvector
language sql
immutable
set search_path = ''
as $$
  select to_tsvector('pg_catalog.russian'::regconfig, w.words) || to_tsvector('pg_catalog.english'::regconfig, w.words)
  from (
    -- In small letters by ICU: where the database's own locale is C, the parser leaves capital letters beyond ASCII as they are.
    select lower(
      left(
        coalesce(enrichment_words.description, '') || ' ' || array_to_string(enrichment_words.labels, ' ') || ' '
          || coalesce(enrichment_words.ocr_text, ''), 100000
      ) collate "und-x-icu"
    ) as words
  ) w;
$$;
comment on function eve.enrichment_words is 'The words that a picture is found by.';
alter table public.post_enrichment
  add column if not exists search tsvector generated always as (eve.enrichment_words(vision_description, ocr_text, labels)) stored;

-- Policies of tables made by hand add to the gateway's: one that lets everybody read would still do so. They are listed, with what they
-- were, and go; those that restrict stay. And what was left empty has the value that it would have had.
do $$
declare
  v_policy record;
  v_column record;
begin
  if current_setting('eve.posts_are_ours')::boolean then
    return;
  end if;
  for v_policy in
    select *
    from pg_catalog.pg_policies p
    where p.schemaname = 'public' and p.tablename in ('posts', 'post_media_map', 'post_enrichment') and p.permissive = 'PERMISSIVE'
  loop
    insert into eve.adoption_warnings (message)
    values (
      format(
        'adoption: policy "%s" of %s (for %s to %s using (%s) with check (%s)) let others at what is their tenants'' alone: it is dropped',
        v_policy.policyname, v_policy.tablename, lower(v_policy.cmd), array_to_string(v_policy.roles, ', '),
        coalesce(v_policy.qual, 'none'), coalesce(v_policy.with_check, 'none')
      )
    )
    on conflict do nothing;
    execute format('drop policy %I on public.%I', v_policy.policyname, v_policy.tablename);
  end loop;
  for v_column in
    select c.table_name, c.column_name, c.data_type, known.usual
    from information_schema.columns c
    join (values
      ('posts', 'tenant_id', '''default'''), ('posts', 'source', '''api'''), ('posts', 'text', ''''''), ('posts', 'metadata', '''{}'''),
      ('posts', 'created_at', 'now()'), ('posts', 'updated_at', 'now()'), ('posts', 'published_at', null),
      ('post_media_map', 'tenant_id', '''default'''), ('post_media_map', 'place', '0'), ('post_media_map', 'created_at', 'now()'),
      ('post_enrichment', 'tenant_id', '''default'''), ('post_enrichment', 'kind', '''vision'''), ('post_enrichment', 'status', '''done'''),
      ('post_enrichment', 'labels', '''{}'''), ('post_enrichment', 'objects', '''[]'''), ('post_enrichment', 'tokens', '0'),
      ('post_enrichment', 'created_at', 'now()'), ('post_enrichment', 'updated_at', 'now()')
    ) as known (relation, name, usual) on known.relation = c.table_name and known.name = c.column_name
    where c.table_schema = 'public'
  loop
    if v_column.data_type in ('timestamp without time zone', 'date') then
      execute format(
        'alter table public.%1$I alter column %2$I drop default, alter column %2$I type timestamptz using %2$I::timestamp at time zone ''UTC''',
        v_column.table_name, v_column.column_name
      );
    end if;
    continue when v_column.usual is null;
    execute format(
      'update public.%1$I set %2$I = %3$s where %2$I is null', v_column.table_name, v_column.column_name, v_column.usual
    );
    execute format(
      'alter table public.%I alter column %I set default %s', v_column.table_name, v_column.column_name,
      case v_column.column_name when 'status' then '''waiting''' else v_column.usual end
    );
  end loop;
  -- What somebody else found is there; nobody is to look for it.
  update public.post_enrichment set status = 'done' where job_id is null and status = 'waiting';
  insert into eve.tenants (id)
  select distinct p.tenant_id from public.posts p where p.tenant_id ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$'
  on conflict do nothing;
end;
$$;

do $$
declare
  v_rule record;
begin
  for v_rule in
    select *
    from (values
      ('posts', 'posts_tenant_id_fkey', 'foreign key (tenant_id) references eve.tenants (id)'),
      ('posts', 'posts_texts_size',
        'check (octet_length(source) between 1 and 200 and octet_length(external_id) between 1 and 500 and octet_length(text) <= 262144)'),
      ('posts', 'posts_metadata_size', 'check (octet_length(metadata::text) <= 16384)'),
      ('posts', 'posts_trace_id_form', 'check (trace_id ~ ''^[0-9a-f]{32}$'')'),
      ('post_media_map', 'post_media_map_post_id_fkey', 'foreign key (post_id) references public.posts (id) on delete cascade'),
      ('post_media_map', 'post_media_map_sha256_form', 'check (file_sha256 ~ ''^[0-9a-f]{64}$'')'),
      ('post_media_map', 'post_media_map_place_positive', 'check (place >= 0)'),
      ('post_enrichment', 'post_enrichment_post_id_fkey', 'foreign key (post_id) references public.posts (id) on delete cascade'),
      ('post_enrichment', 'post_enrichment_sha256_form', 'check (file_sha256 ~ ''^[0-9a-f]{64}$'' and same_as ~ ''^[0-9a-f]{64}$'')'),
      ('post_enrichment', 'post_enrichment_kind_form', 'check (kind ~ ''^[a-z][a-z0-9_]{0,31}$'')'),
      ('post_enrichment', 'post_enrichment_status_known', 'check (status in (''waiting'', ''done'', ''skipped'', ''invalid'', ''failed''))'),
      ('post_enrichment', 'post_enrichment_confidence_share', 'check (confidence between 0 and 1)'),
      ('post_enrichment', 'post_enrichment_tokens_positive', 'check (input_tokens >= 0 and output_tokens >= 0 and tokens >= 0)'),
      ('post_enrichment', 'post_enrichment_texts_size',
        'check (length(reason) <= 500 and length(analyst) <= 100 and length(provider) <= 100 and length(model) <= 200 and length(resolution) <= 40 and length(vision_description) <= 2000 and length(ocr_text) <= 20000 and length(scene) <= 100 and length(raw_text) <= 65536)'),
      ('post_enrichment', 'post_enrichment_lists_size',
        'check (cardinality(labels) <= 30 and octet_length(labels::text) <= 16384 and octet_length(objects::text) <= 32768)')
    ) as rules (relation, name, rule)
    where not exists (
      select from pg_catalog.pg_constraint c where c.conrelid = ('public.' || rules.relation)::regclass and c.conname = rules.name
    )
  loop
    begin
      execute format('alter table public.%I add constraint %I %s not valid', v_rule.relation, v_rule.name, v_rule.rule);
      execute format('alter table public.%I validate constraint %I', v_rule.relation, v_rule.name);
    exception
      when check_violation or foreign_key_violation then
        insert into eve.adoption_warnings (message)
        values (format('adoption: rows of %s break the rule "%s"; correct them', v_rule.relation, v_rule.rule))
        on conflict do nothing;
    end;
  end loop;
  begin
    create unique index if not exists posts_external_id_key on public.posts (tenant_id, source, external_id) where external_id is not null;
  exception
    when unique_violation then
      raise exception 'adoption: public.posts has several rows with the same tenant_id, source and external_id'
        using errcode = 'object_not_in_prerequisite_state', hint = 'Keep one of each, and run the migrations again.';
  end;
  begin
    create unique index if not exists post_enrichment_picture_key on public.post_enrichment (post_id, file_sha256, kind)
      where file_sha256 is not null;
  exception
    when unique_violation then
      raise exception 'adoption: public.post_enrichment has several rows with the same post_id, file_sha256 and kind'
        using errcode = 'object_not_in_prerequisite_state', hint = 'Keep one of each, and run the migrations again.';
  end;
end;
$$;
create index if not exists posts_tenant_id_created_at_idx on public.posts (tenant_id, created_at desc, id);
create index if not exists post_media_map_file_idx on public.post_media_map (tenant_id, file_sha256);
create index if not exists post_enrichment_post_id_idx on public.post_enrichment (post_id);
create index if not exists post_enrichment_file_idx on public.post_enrichment (tenant_id, file_sha256, kind);
create index if not exists post_enrichment_status_idx on public.post_enrichment (tenant_id, status, updated_at desc, id);
create index if not exists post_enrichment_labels_idx on public.post_enrichment using gin (labels);
create index if not exists post_enrichment_search_idx on public.post_enrichment using gin (search);

-- A file that a post shows is used, and no longer when it does not.
create or replace function eve.post_media_uses()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    -- In a table made by hand a row may name a file that is not here.
    if exists (
      select from public.media_objects o where o.tenant_id = new.tenant_id and o.file_sha256 = new.file_sha256
    ) then
      perform eve.media_link(new.tenant_id, new.file_sha256, jsonb_build_object('ref_kind', 'post', 'ref_id', new.post_id));
    end if;
  else
    delete from eve.media_references r
    where r.tenant_id = old.tenant_id and r.file_sha256 = old.file_sha256 and r.ref_kind = 'post' and r.ref_id = old.post_id::text;
  end if;
  return null;
end;
$$;
create or replace trigger eve_post_media_uses
after insert or delete on public.post_media_map
for each row
execute function eve.post_media_uses();
insert into eve.media_references (tenant_id, file_sha256, ref_kind, ref_id)
select m.tenant_id, m.file_sha256, 'post', m.post_id::text
from public.post_media_map m
join public.media_objects o on o.tenant_id = m.tenant_id and o.file_sha256 = m.file_sha256
on conflict do nothing;
