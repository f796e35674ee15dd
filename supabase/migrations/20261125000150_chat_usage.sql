-- Where a message stands in its chat, and how much one signed-in user may keep in chats.
--
-- Anyone who has signed in writes to these tables by themselves, so there is a limit to it: of chats, of messages, and of bytes. Each chat
-- counts what is in it in its own row, which a message writes to anyhow. The owner's row, which all their chats share, is written to when
-- a chat goes over a step (sixteen messages, or 16 KiB), so that one message in sixteen or so pays for it: a chat counts there as rounded
-- up to whole steps. Chats of programs (consumers and the secret key) have no owner and no limit.

set local lock_timeout = '10s';

create table if not exists eve.chat_owners (
  owner uuid primary key,
  chats bigint not null default 0,
  messages bigint not null default 0,
  bytes bigint not null default 0
) with (fillfactor = 50);
comment on table eve.chat_owners is 'What each signed-in user keeps in chats. Messages and bytes are in whole steps of each chat.';
alter table eve.chat_owners enable row level security;

insert into eve.settings (name, value, description) values
  ('chats_user_max', 10000, 'So many chats may one signed-in user have, deleted ones that can be restored among them.'),
  ('chats_user_max_messages', 200000, 'And so many messages in them, each chat counted in steps of 16.'),
  ('chats_user_max_bytes', 268435456, 'And so many bytes of text and JSON, each chat counted in steps of 16 KiB.')
on conflict (name) do nothing;

-- A chat's count as its owner's row has it: in whole steps.
create or replace function eve.chat_steps(counted bigint, step bigint)
returns bigint
language sql
immutable
set search_path = ''
as $$
  select (chat_steps.counted + chat_steps.step - 1) / chat_steps.step * chat_steps.step;
$$;

-- What a message takes, in bytes: its text and JSON, and 200 for the rest of its row.
create or replace function eve.message_bytes(content text, parts jsonb)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  return 200 + octet_length(message_bytes.content) + coalesce(octet_length(message_bytes.parts::text), 0);
end;
$$;

-- Adds to what an owner keeps, or takes from it; with more than the settings let them have, an error.
create or replace function eve.chat_owner_keeps(owner uuid, chats bigint, messages bigint, bytes bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_kept eve.chat_owners;
  v_limit record;
begin
  insert into eve.chat_owners as o (owner, chats, messages, bytes)
  values (chat_owner_keeps.owner, chat_owner_keeps.chats, chat_owner_keeps.messages, chat_owner_keeps.bytes)
  on conflict (owner) do update
  set chats = o.chats + excluded.chats, messages = o.messages + excluded.messages, bytes = o.bytes + excluded.bytes
  returning * into v_kept;
  if v_kept.chats <= 0 then
    -- Of somebody who has no chats nothing is left.
    delete from eve.chat_owners o where o.owner = v_kept.owner;
    return;
  end if;
  -- Read here and not by eve.alert_setting, which would be planned again for each of them.
  select l.thing, l.most into v_limit
  from (
    select t.added, t.kept, t.thing, coalesce((select s.value from eve.settings s where s.name = t.setting), t.usual) as most
    from (values
      (chat_owner_keeps.chats, v_kept.chats, 'chats_user_max', 10000, 'chats'),
      (chat_owner_keeps.messages, v_kept.messages, 'chats_user_max_messages', 200000, 'messages'),
      (chat_owner_keeps.bytes, v_kept.bytes, 'chats_user_max_bytes', 268435456, 'bytes')
    ) as t (added, kept, setting, usual, thing)
    where t.added > 0
  ) l
  where l.kept > l.most
  limit 1;
  if found then
    raise exception 'your chats hold as much as they may, which is % %', v_limit.most, v_limit.thing
      using errcode = 'EV507', hint = 'Erase chats that are not needed, or ask the owner of the project for more.';
  end if;
end;
$$;
comment on function eve.chat_owner_keeps is 'Counts what a signed-in user keeps in chats.';

-- A chat comes, goes, or becomes somebody else's, with all that is in it.
create or replace function eve.count_chat()
returns trigger
language plpgsql
-- A signed-in user writes chats and not these counts.
security definer
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' and old.owner is not distinct from new.owner then
    return null;
  end if;
  if tg_op <> 'INSERT' and old.owner is not null then
    perform eve.chat_owner_keeps(old.owner, -1, -eve.chat_steps(old.messages_count, 16), -eve.chat_steps(old.stored_bytes, 16384));
  end if;
  if tg_op <> 'DELETE' and new.owner is not null then
    perform eve.chat_owner_keeps(new.owner, 1, eve.chat_steps(new.messages_count, 16), eve.chat_steps(new.stored_bytes, 16384));
  end if;
  return null;
end;
$$;
create or replace trigger eve_count_chat
after insert or delete or update of owner on public.chats
for each row
execute function eve.count_chat();

-- The order of locks, so that no two wait for each other: the chat's row, before anything that is in it; its messages, and their pictures,
-- search results and links; files, by tenant and hash; the count of the owner. What is deleted goes from the chat to what is in it, and
-- cannot do otherwise, so all that change a row that is in a chat lock the chat first. Several chats: with `skip locked`.

-- Locks the files of chats that are about to go: two chats may have the same pictures in another order.
create or replace function eve.chat_files_lock(chat_ids uuid[])
returns void
language sql
volatile
set search_path = ''
as $$
  select from public.media_objects o
  where (o.tenant_id, o.file_sha256) in (
    select i.tenant_id, i.file_sha256
    from public.message_images i
    join public.messages m on m.id = i.message_id
    where m.chat_id = any (chat_files_lock.chat_ids) and i.file_sha256 is not null
  )
  order by o.tenant_id, o.file_sha256
  for no key update;
$$;

create or replace function eve.chat_goes()
returns trigger
language plpgsql
-- A signed-in user may delete their chat and may not write to the registry of files.
security definer
set search_path = ''
as $$
begin
  perform eve.chat_files_lock(array[old.id]);
  return old;
end;
$$;
create or replace trigger eve_chat_goes
before delete on public.chats
for each row
execute function eve.chat_goes();

-- Whether a chat is the signed-in user's own; if so, it is locked. For policies of what they delete and add directly: these are asked before
-- a row of it is locked, and triggers after.
create or replace function eve.chat_is_own_locked(chat_id uuid)
returns boolean
language plpgsql
volatile
-- A user may not lock all columns of a chat by themselves.
security definer
set search_path = ''
as $$
begin
  perform from public.chats c where c.id = chat_is_own_locked.chat_id and c.owner = auth.uid() for no key update;
  return found;
end;
$$;

-- What comes into a chat, or leaves it. A chat that is gone is not there to be counted: its owner has been given all of it back.
create or replace function eve.chat_keeps(chat_id uuid, messages bigint, bytes bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_chat public.chats;
  v_messages bigint;
  v_bytes bigint;
begin
  update public.chats c
  set messages_count = c.messages_count + chat_keeps.messages, stored_bytes = c.stored_bytes + chat_keeps.bytes
  where c.id = chat_keeps.chat_id
  returning * into v_chat;
  if v_chat.owner is null then
    return;
  end if;
  v_messages := eve.chat_steps(v_chat.messages_count, 16) - eve.chat_steps(v_chat.messages_count - chat_keeps.messages, 16);
  v_bytes := eve.chat_steps(v_chat.stored_bytes, 16384) - eve.chat_steps(v_chat.stored_bytes - chat_keeps.bytes, 16384);
  if v_messages <> 0 or v_bytes <> 0 then
    perform eve.chat_owner_keeps(v_chat.owner, 0, v_messages, v_bytes);
  end if;
end;
$$;

-- Each message has its place: behind all that its chat had before, however many are added at once. What it follows, if
-- nobody said so, is the end of the conversation.
--
-- Every message pays for this, so it is one statement on the chat, which locks its row, reads its end and moves it, and asks the owner's
-- row only when a step is taken. Of a row that is updated PostgreSQL 17 returns what it is and not what it was: the end that it had goes
-- into a column of its own, since to lock the row first takes a tenth longer. So do eve.message_bytes and eve.clock as calls.
create or replace function eve.place_message()
returns trigger
language plpgsql
-- A signed-in user may add to their chat and may not move its end.
security definer
set search_path = ''
as $$
declare
  v_user constant uuid := auth.uid();
  v_bytes bigint;
  v_leaf_id uuid;
  v_owner uuid;
  v_messages bigint;
  v_stored bigint;
begin
  -- A table made by hand may take nothing for these; the gateway answers what they would have been.
  new.role := coalesce(new.role, 'user');
  new.content := coalesce(new.content, '');
  new.message_type := coalesce(new.message_type, 'text');
  -- As eve.message_bytes counts.
  v_bytes := 200 + octet_length(new.content) + coalesce(octet_length(new.parts::text), 0);
  update public.chats c
  -- As eve.clock says it.
  set updated_at = greatest(to_timestamp(eve.clock_ms() / 1000.0), c.updated_at + interval '1 microsecond'),
    leaf_id = new.id, leaf_before = c.leaf_id, messages_count = c.messages_count + 1, stored_bytes = c.stored_bytes + v_bytes
  where c.id = new.chat_id and (v_user is null or c.owner = v_user)
  returning c.updated_at, c.leaf_before, c.owner, c.messages_count, c.stored_bytes
  into new.created_at, v_leaf_id, v_owner, v_messages, v_stored;
  if not found then
    -- Row-level security or the foreign key says no, each in its words.
    return new;
  end if;
  if new.parent_id is not null then
    if not exists (select from public.messages m where m.id = new.parent_id and m.chat_id = new.chat_id) then
      raise exception 'parent_id must be a message of the same chat' using errcode = 'EV400';
    end if;
  elsif coalesce(current_setting('eve.message_begins', true), '') <> 'on' then
    new.parent_id := v_leaf_id;
  end if;
  -- As eve.chat_keeps does, with the row that is here already.
  if v_owner is not null and (v_messages % 16 = 1 or (v_stored + 16383) / 16384 <> (v_stored - v_bytes + 16383) / 16384) then
    perform eve.chat_owner_keeps(
      v_owner, 0, eve.chat_steps(v_messages, 16) - eve.chat_steps(v_messages - 1, 16),
      eve.chat_steps(v_stored, 16384) - eve.chat_steps(v_stored - v_bytes, 16384)
    );
  end if;
  return new;
end;
$$;
create or replace trigger eve_place_message
before insert on public.messages
for each row
execute function eve.place_message();

-- An answer's text comes when it has ended.
create or replace function eve.count_answer()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform eve.chat_keeps(new.chat_id, 0, eve.message_bytes(new.content, new.parts) - eve.message_bytes(old.content, old.parts));
  return null;
end;
$$;
create or replace trigger eve_count_answer
after update of content, parts on public.messages
for each row
execute function eve.count_answer();

-- What else comes and goes: rows that one statement adds to chats or takes from them, as JSON. A message that goes alone, which the
-- gateway lets nobody do, leaves its pictures counted until its chat goes.
create or replace function eve.count_chat_rows()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_sign constant integer := case tg_op when 'DELETE' then -1 else 1 end;
  v_kept record;
begin
  if tg_table_name = 'messages' then
    for v_kept in
      select c.id, count(*) as messages, sum(eve.message_bytes(r.content, r.parts)) as bytes
      from changed r
      join public.chats c on c.id = r.chat_id
      group by c.id
      order by c.id
    loop
      perform eve.chat_keeps(v_kept.id, v_sign * v_kept.messages, v_sign * v_kept.bytes::bigint);
    end loop;
  elsif tg_table_name = 'message_images' then
    for v_kept in
      select c.id, sum(octet_length(to_jsonb(r)::text)) as bytes
      from changed r
      join public.messages m on m.id = r.message_id
      join public.chats c on c.id = m.chat_id
      group by c.id
      order by c.id
    loop
      perform eve.chat_keeps(v_kept.id, 0, v_sign * v_kept.bytes::bigint);
    end loop;
  else
    for v_kept in
      select c.id, sum(octet_length(to_jsonb(r)::text)) as bytes
      from changed r
      join public.chats c on c.id = r.chat_id
      group by c.id
      order by c.id
    loop
      perform eve.chat_keeps(v_kept.id, 0, v_sign * v_kept.bytes::bigint);
    end loop;
  end if;
  return null;
end;
$$;
create or replace trigger eve_count_deleted
after delete on public.messages
referencing old table as changed
for each statement
execute function eve.count_chat_rows();

do $$
declare
  v_table text;
begin
  foreach v_table in array '{message_images,search_results,chat_shares}'::text[] loop
    execute format(
      'create or replace trigger eve_count_added after insert on public.%I referencing new table as changed
      for each statement execute function eve.count_chat_rows()', v_table
    );
    execute format(
      'create or replace trigger eve_count_deleted after delete on public.%I referencing old table as changed
      for each statement execute function eve.count_chat_rows()', v_table
    );
  end loop;
  -- What was here before it was counted. A count that is there already is right.
  if exists (select from public.chats) and not exists (select from public.chats c where c.messages_count > 0) then
    update public.chats c
    set messages_count = k.messages, stored_bytes = k.bytes
    from (
      select r.chat_id, sum(r.messages) as messages, sum(r.bytes) as bytes
      from (
        select m.chat_id, 1 as messages, eve.message_bytes(m.content, m.parts) as bytes from public.messages m
        union all
        select m.chat_id, 0, octet_length(to_jsonb(i)::text) from public.message_images i join public.messages m on m.id = i.message_id
        union all
        select s.chat_id, 0, octet_length(to_jsonb(s)::text) from public.search_results s
        union all
        select s.chat_id, 0, octet_length(to_jsonb(s)::text) from public.chat_shares s
      ) r
      group by r.chat_id
    ) k
    where k.chat_id = c.id;
    insert into eve.chat_owners (owner, chats, messages, bytes)
    select c.owner, count(*), sum(eve.chat_steps(c.messages_count, 16)), sum(eve.chat_steps(c.stored_bytes, 16384))
    from public.chats c
    where c.owner is not null
    group by c.owner
    on conflict (owner) do nothing;
  end if;
end;
$$;
