-- Chats: conversations, their messages, pictures and search results, and snapshots that were shared.
--
-- The tables are in public, so that a signed-in user's own client reads and writes them under row-level security
-- (20261125000200_chats_rights.sql). Tables of these names that somebody made by hand are adopted: no row, no column and no meaning
-- gets lost; what is lacking is added. What cannot be adopted stops the migration before anything has changed.

set local lock_timeout = '10s';

-- Tables that are here already: whether the gateway can use them.
do $$
declare
  v_found record;
  v_table text;
begin
  foreach v_table in array '{chats,messages,message_images,search_results,chat_shares}'::text[] loop
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
      ('chats', 'id', 'uuid'), ('chats', 'title', 'text'), ('chats', 'user_id', 'text'), ('chats', 'owner', 'uuid'),
      ('chats', 'consumer_id', 'uuid'), ('chats', 'description', 'text'), ('chats', 'metadata', 'jsonb'),
      ('chats', 'leaf_id', 'uuid'), ('chats', 'leaf_before', 'uuid'), ('chats', 'messages_count', 'bigint'), ('chats', 'stored_bytes', 'bigint'),
      ('chats', 'created_at', 'timestamptz'), ('chats', 'updated_at', 'timestamptz'),
      ('chats', 'archived_at', 'timestamptz'), ('chats', 'deleted_at', 'timestamptz'), ('chats', 'expires_at', 'timestamptz'),
      ('messages', 'id', 'uuid'), ('messages', 'chat_id', 'uuid'), ('messages', 'parent_id', 'uuid'), ('messages', 'role', 'text'),
      ('messages', 'content', 'text'), ('messages', 'message_type', 'text'), ('messages', 'parts', 'jsonb'),
      ('messages', 'client_id', 'text'), ('messages', 'request_id', 'text'), ('messages', 'usage', 'jsonb'),
      ('messages', 'feedback', 'text'), ('messages', 'state', 'text'), ('messages', 'created_at', 'timestamptz'),
      ('message_images', 'id', 'uuid'), ('message_images', 'message_id', 'uuid'), ('message_images', 'image_name', 'text'),
      ('message_images', 's3_path', 'text'), ('message_images', 's3_url', 'text'), ('message_images', 'image_type', 'text'),
      ('message_images', 'description', 'text'), ('message_images', 'width', 'integer'), ('message_images', 'height', 'integer'),
      ('message_images', 'file_size', 'bigint'), ('message_images', 'tenant_id', 'text'), ('message_images', 'file_sha256', 'text'),
      ('message_images', 'created_at', 'timestamptz'),
      ('search_results', 'id', 'uuid'), ('search_results', 'chat_id', 'uuid'), ('search_results', 'message_id', 'uuid'),
      ('search_results', 'block_id', 'text'), ('search_results', 'page_number', 'integer'), ('search_results', 'block_text', 'text'),
      ('search_results', 'coords_norm', 'jsonb'), ('search_results', 'coords_px', 'jsonb'),
      ('search_results', 'created_at', 'timestamptz'),
      ('chat_shares', 'id', 'uuid'), ('chat_shares', 'chat_id', 'uuid'), ('chat_shares', 'token_hash', 'text'),
      ('chat_shares', 'snapshot', 'jsonb'), ('chat_shares', 'created_at', 'timestamptz'), ('chat_shares', 'expires_at', 'timestamptz')
    ) as known (relation, name, type)
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass('public.' || known.relation) and a.attname = known.name
      and a.attnum > 0 and not a.attisdropped
    join pg_catalog.pg_type t on t.oid = a.atttypid
    join pg_catalog.pg_type wanted on wanted.oid = known.type::regtype
    where a.attgenerated <> ''
      -- Another type of the same sort (varchar, smallint, timestamp) serves; ids and JSON are what they are.
      or case when known.type in ('uuid', 'jsonb') then t.oid <> wanted.oid else t.typcategory <> wanted.typcategory end
  loop
    raise exception 'adoption: column % of public.% has type %, which the gateway cannot use', v_found.attname, v_found.relation,
      v_found.type_name
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('Give it another name, or convert it to %s, and run the migrations again.', v_found.type);
  end loop;
end;
$$;

-- What they were, for the way back.
select eve.note_table('public.' || t.name)
from unnest('{chats,messages,message_images,search_results,chat_shares}'::text[]) as t (name);

-- Which of them were here, with which columns.
select set_config(
  'eve.chats_columns',
  coalesce(
    (
      select string_agg(a.attname, ',')
      from pg_catalog.pg_attribute a
      where a.attrelid = to_regclass('public.chats') and a.attnum > 0 and not a.attisdropped
    ), ''
  ),
  true
);

create table if not exists public.chats (id uuid primary key default gen_random_uuid());
alter table public.chats
  add column if not exists title text,
  add column if not exists user_id text,
  add column if not exists owner uuid default auth.uid(),
  add column if not exists consumer_id uuid,
  add column if not exists description text,
  add column if not exists metadata jsonb not null default '{}',
  add column if not exists leaf_id uuid,
  add column if not exists leaf_before uuid,
  add column if not exists messages_count bigint not null default 0,
  add column if not exists stored_bytes bigint not null default 0,
  add column if not exists created_at timestamptz not null default now(),
  add column if not exists updated_at timestamptz not null default now(),
  add column if not exists archived_at timestamptz,
  add column if not exists deleted_at timestamptz,
  add column if not exists expires_at timestamptz;
comment on table public.chats is 'Conversations. Readable by their owners alone.';
comment on column public.chats.user_id is 'The app''s own name for the user whose it is.';
comment on column public.chats.owner is 'The signed-in user (auth.users) whose it is; null: an app''s.';
comment on column public.chats.consumer_id is 'The consumer that made it and alone sees it; null: a signed-in user''s or the project''s.';
comment on column public.chats.leaf_id is 'The message with which the conversation goes on if nobody says otherwise.';
comment on column public.chats.leaf_before is 'What leaf_id was before: what the newest message follows, unless it said otherwise.';
comment on column public.chats.messages_count is 'Messages in it, counted as they come.';
comment on column public.chats.stored_bytes is 'What all that is in it takes, counted as it comes (20261125000150_chat_usage.sql says how).';
comment on column public.chats.deleted_at is 'Deleted, and can be restored until retention takes it away.';
comment on column public.chats.expires_at is 'Retention takes it away then; null: never.';

create table if not exists public.messages (id uuid primary key default gen_random_uuid());
alter table public.messages
  add column if not exists chat_id uuid not null,
  add column if not exists parent_id uuid,
  add column if not exists role text not null default 'user',
  add column if not exists content text not null default '',
  add column if not exists message_type text not null default 'text',
  add column if not exists parts jsonb,
  add column if not exists client_id text,
  add column if not exists request_id text,
  add column if not exists usage jsonb,
  add column if not exists feedback text,
  add column if not exists state text not null default 'complete',
  add column if not exists created_at timestamptz not null default now(),
  -- Both languages, so that a word is found by its stem in either. In lower case by ICU: a database made with locale C knows no capitals but
  -- Latin ones.
  add column if not exists search tsvector generated always as (
    to_tsvector('pg_catalog.russian'::regconfig, lower(left(coalesce(content, ''), 100000) collate "und-x-icu"))
      || to_tsvector('pg_catalog.english'::regconfig, lower(left(coalesce(content, ''), 100000) collate "und-x-icu"))
  ) stored;
comment on table public.messages is 'What was said. A row is never rewritten by another text: an edit is a further branch.';
comment on column public.messages.parent_id is 'What it answers or follows; null: it begins the conversation. Several with one parent are branches.';
comment on column public.messages.parts is 'What is not text, in the form of the gateway''s own API.';
comment on column public.messages.client_id is 'The sender''s name for it: the same one again adds nothing.';
comment on column public.messages.request_id is 'The gateway''s call that made it.';
comment on column public.messages.state is 'complete; pending: the answer is being written; broken_off: what came before its writing ended early.';

create table if not exists public.message_images (id uuid primary key default gen_random_uuid());
alter table public.message_images
  add column if not exists message_id uuid not null,
  add column if not exists image_name text,
  add column if not exists s3_path text,
  add column if not exists s3_url text,
  add column if not exists image_type text,
  add column if not exists description text,
  add column if not exists width integer,
  add column if not exists height integer,
  add column if not exists file_size bigint,
  add column if not exists tenant_id text,
  add column if not exists file_sha256 text,
  add column if not exists created_at timestamptz not null default now();
comment on table public.message_images is 'Pictures of messages.';
comment on column public.message_images.s3_url is 'A lasting address; what it leads to is signed for each reading.';
comment on column public.message_images.file_sha256 is 'With tenant_id: the object of public.media_objects, which stays as long as this row does.';

create table if not exists public.search_results (id uuid primary key default gen_random_uuid());
alter table public.search_results
  add column if not exists chat_id uuid not null,
  add column if not exists message_id uuid,
  add column if not exists block_id text,
  add column if not exists page_number integer,
  add column if not exists block_text text,
  add column if not exists coords_norm jsonb,
  add column if not exists coords_px jsonb,
  add column if not exists created_at timestamptz not null default now();
comment on table public.search_results is 'Places in documents that a search found for a chat.';
comment on column public.search_results.coords_norm is 'Where on the page, in parts of its width and height; coords_px: in pixels.';

create table if not exists public.chat_shares (id uuid primary key default gen_random_uuid());
alter table public.chat_shares
  add column if not exists chat_id uuid not null,
  add column if not exists token_hash text not null,
  add column if not exists snapshot jsonb not null,
  add column if not exists created_at timestamptz not null default now(),
  add column if not exists expires_at timestamptz;
comment on table public.chat_shares is 'Snapshots of chats that anyone who has the link may read.';
comment on column public.chat_shares.token_hash is 'SHA-256 of the link''s secret part, 64 hexadecimal digits.';

-- Policies of tables made by hand add to the gateway's: one that lets everybody read would still do so. They are listed, with what they
-- were, and go; those that restrict stay.
do $$
declare
  v_policy record;
begin
  if 'leaf_id' = any (string_to_array(current_setting('eve.chats_columns'), ',')) then
    return;
  end if;
  for v_policy in
    select *
    from pg_catalog.pg_policies p
    where p.schemaname = 'public' and p.tablename in ('chats', 'messages', 'message_images', 'search_results', 'chat_shares')
      and p.permissive = 'PERMISSIVE'
  loop
    insert into eve.adoption_warnings (message)
    values (
      format(
        'adoption: policy "%s" of %s (for %s to %s using (%s) with check (%s)) let others at what is their owners'' alone: it is dropped',
        v_policy.policyname, v_policy.tablename, lower(v_policy.cmd), array_to_string(v_policy.roles, ', '),
        coalesce(v_policy.qual, 'none'), coalesce(v_policy.with_check, 'none')
      )
    )
    on conflict do nothing;
    execute format('drop policy %I on public.%I', v_policy.policyname, v_policy.tablename);
  end loop;
end;
$$;

-- Tables made by hand: what they knew under other names, and the keys that they lack.
do $$
declare
  v_before constant text[] := string_to_array(current_setting('eve.chats_columns'), ',');
  v_table text;
  v_column record;
begin
  foreach v_table in array '{chats,messages,message_images,search_results,chat_shares}'::text[] loop
    execute format('alter table public.%I alter column id set default gen_random_uuid()', v_table);
    if not exists (
      select from pg_catalog.pg_constraint c where c.conrelid = ('public.' || v_table)::regclass and c.contype = 'p'
    ) then
      execute format('update public.%I set id = gen_random_uuid() where id is null', v_table);
      execute format('alter table public.%I add constraint %I primary key (id)', v_table, v_table || '_pkey');
    end if;
  end loop;
  -- What the gateway relies on: an instant has its zone (one without is read as UTC), and what was left empty has the value that it
  -- would have had.
  for v_column in
    select c.table_name, c.column_name, c.data_type, known.usual
    from information_schema.columns c
    join (values
      ('chats', 'metadata', '''{}'''), ('chats', 'created_at', 'now()'), ('chats', 'updated_at', 'now()'), ('chats', 'archived_at', null),
      ('chats', 'deleted_at', null), ('chats', 'expires_at', null),
      ('messages', 'role', '''user'''), ('messages', 'content', ''''''), ('messages', 'message_type', '''text'''),
      ('messages', 'state', '''complete'''), ('messages', 'created_at', 'now()'), ('message_images', 'created_at', 'now()'),
      ('search_results', 'created_at', 'now()'), ('chat_shares', 'created_at', 'now()'), ('chat_shares', 'expires_at', null)
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
    if v_column.column_name = 'updated_at' then
      update public.chats c set updated_at = coalesce(c.created_at, now()) where c.updated_at is null;
    end if;
    execute format(
      'update public.%1$I set %2$I = %3$s where %2$I is null', v_column.table_name, v_column.column_name, v_column.usual
    );
    execute format(
      'alter table public.%I alter column %I set default %s', v_column.table_name, v_column.column_name, v_column.usual
    );
  end loop;
  if 'is_archived' = any (v_before) and not 'archived_at' = any (v_before) then
    execute 'update public.chats set archived_at = coalesce(updated_at, now()) where is_archived::boolean';
  end if;
  if cardinality(v_before) > 0 and not 'leaf_id' = any (v_before) then
    -- A conversation that was kept without branches is one path, in the order in which it was written.
    update public.messages m
    set parent_id = earlier.id
    from (
      select e.id as of_id, lag(e.id) over (partition by e.chat_id order by e.created_at, e.id) as id
      from public.messages e
    ) earlier
    where earlier.of_id = m.id and m.parent_id is null and earlier.id is not null;
    update public.chats c
    set leaf_id = (select m.id from public.messages m where m.chat_id = c.id order by m.created_at desc, m.id desc limit 1);
  end if;
end;
$$;

-- What rows of chats and messages may hold. One constraint each, that says itself what is wrong: PostgreSQL reads every constraint's expression
-- again for every statement, and thirteen of them took a third of what it costs to add a message (bench:chats).
create or replace function eve.chat_is_bounded(title text, user_id text, description text, metadata jsonb)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_rule constant text := case
    when octet_length(title) > 2000 then 'the title of a chat has at most 2000 bytes'
    when octet_length(user_id) > 800 then 'the user_id of a chat has at most 800 bytes'
    when octet_length(description) > 16000 then 'the description of a chat has at most 16000 bytes'
    when octet_length(metadata::text) > 16384 then 'the metadata of a chat has at most 16384 bytes'
  end;
begin
  if v_rule is not null then
    raise exception '%', v_rule using errcode = 'check_violation';
  end if;
  return true;
end;
$$;

create or replace function eve.message_is_bounded(
  role text, content text, message_type text, parts jsonb, client_id text, request_id text, usage jsonb, feedback text, state text
)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_rule constant text := case
    when role not in ('user', 'assistant', 'system', 'tool') then 'the role of a message is user, assistant, system or tool'
    when octet_length(content) > 1000000 then 'the content of a message has at most 1000000 bytes'
    when octet_length(message_type) > 400 then 'the message_type of a message has at most 400 bytes'
    when octet_length(parts::text) > 262144 then 'the parts of a message have at most 262144 bytes'
    when octet_length(client_id) not between 1 and 800 then 'the client_id of a message has 1 to 800 bytes'
    when octet_length(request_id) > 800 then 'the request_id of a message has at most 800 bytes'
    when octet_length(usage::text) > 4096 then 'the usage of a message has at most 4096 bytes'
    when octet_length(feedback) > 8000 then 'the feedback of a message has at most 8000 bytes'
    when state not in ('complete', 'pending', 'broken_off') then 'the state of a message is complete, pending or broken_off'
  end;
begin
  if v_rule is not null then
    raise exception '%', v_rule using errcode = 'check_violation';
  end if;
  return true;
end;
$$;

do $$
declare
  v_rule record;
begin
  for v_rule in
    select *
    from (values
      ('chats', 'chats_bounds', 'check (eve.chat_is_bounded(title, user_id, description, metadata))'),
      ('chats', 'chats_consumer_id_fkey', 'foreign key (consumer_id) references eve.consumers (id) on delete set null'),
      ('messages', 'messages_bounds',
        'check (eve.message_is_bounded(role, content, message_type, parts, client_id, request_id, usage, feedback, state))'),
      ('messages', 'messages_chat_id_fkey', 'foreign key (chat_id) references public.chats (id) on delete cascade'),
      ('message_images', 'message_images_texts_size',
        'check (octet_length(image_name) <= 2000 and octet_length(s3_path) <= 1024 and octet_length(s3_url) <= 2048 and octet_length(image_type) <= 400 and octet_length(description) <= 16000)'),
      ('message_images', 'message_images_sizes_positive', 'check (width >= 0 and height >= 0 and file_size >= 0)'),
      ('message_images', 'message_images_sha256_form', 'check (file_sha256 ~ ''^[0-9a-f]{64}$'')'),
      ('message_images', 'message_images_message_id_fkey', 'foreign key (message_id) references public.messages (id) on delete cascade'),
      ('search_results', 'search_results_texts_size', 'check (octet_length(block_id) <= 800 and octet_length(block_text) <= 100000)'),
      ('search_results', 'search_results_coords_size',
        'check (octet_length(coords_norm::text) <= 4096 and octet_length(coords_px::text) <= 4096)'),
      ('search_results', 'search_results_chat_id_fkey', 'foreign key (chat_id) references public.chats (id) on delete cascade'),
      ('search_results', 'search_results_message_id_fkey', 'foreign key (message_id) references public.messages (id) on delete set null'),
      ('chat_shares', 'chat_shares_token_hash_form', 'check (token_hash ~ ''^[0-9a-f]{64}$'')'),
      ('chat_shares', 'chat_shares_chat_id_fkey', 'foreign key (chat_id) references public.chats (id) on delete cascade')
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
        values (format('adoption: rows of %s break the rule "%s" (%s); correct them', v_rule.relation, v_rule.rule, sqlerrm))
        on conflict do nothing;
    end;
  end loop;
end;
$$;

-- A page of somebody's chats, newest first.
create index if not exists chats_owner_idx on public.chats (owner, created_at desc, id desc) where owner is not null;
create index if not exists chats_consumer_id_idx on public.chats (consumer_id, created_at desc, id desc) where consumer_id is not null;
create index if not exists chats_consumer_id_user_id_idx on public.chats (consumer_id, user_id, created_at desc, id desc)
  where user_id is not null;
create index if not exists chats_created_at_idx on public.chats (created_at desc, id desc);
create index if not exists chats_expires_at_idx on public.chats (expires_at) where expires_at is not null;
create index if not exists chats_deleted_at_idx on public.chats (deleted_at) where deleted_at is not null;
create index if not exists messages_chat_id_created_at_idx on public.messages (chat_id, created_at, id);
create unique index if not exists messages_client_id_key on public.messages (chat_id, client_id) where client_id is not null;
create index if not exists messages_search_idx on public.messages using gin (search);
create index if not exists messages_pending_idx on public.messages (created_at) where state = 'pending';
create index if not exists message_images_message_id_idx on public.message_images (message_id, created_at, id);
create index if not exists search_results_chat_id_idx on public.search_results (chat_id, created_at, id);
create index if not exists search_results_message_id_idx on public.search_results (message_id) where message_id is not null;
create unique index if not exists chat_shares_token_hash_key on public.chat_shares (token_hash);
create index if not exists chat_shares_chat_id_idx on public.chat_shares (chat_id);

-- A picture that goes no longer uses its file.
create or replace function eve.release_image()
returns trigger
language plpgsql
-- Anyone who may delete the picture may not write to the registry of files.
security definer
set search_path = ''
as $$
begin
  if old.file_sha256 is not null then
    delete from eve.media_references r
    where r.tenant_id = old.tenant_id and r.file_sha256 = old.file_sha256 and r.ref_kind = 'message_image' and r.ref_id = old.id::text;
  end if;
  return null;
end;
$$;
create or replace trigger eve_release_image
after delete on public.message_images
for each row
execute function eve.release_image();
