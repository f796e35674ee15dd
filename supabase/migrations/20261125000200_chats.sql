-- Chats, for the function api: made, found, listed, changed, deleted, erased and shared. Each function is given who asks and refuses in the
-- transaction that acts. Whose chat is not the asker's does not exist for them.

set local lock_timeout = '10s';

-- Whose chats an actor has: {"all": true}, {"consumer_id"} or {"owner"}; or a refusal. An administrator has their own alone: what people
-- say to an assistant is not theirs to read.
create or replace function eve.chat_actor(actor jsonb)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_consumer eve.consumers;
  v_refusal jsonb;
begin
  case chat_actor.actor ->> 'kind'
    when 'project' then
      return '{"all": true}';
    when 'consumer' then
      select * into v_consumer from eve.consumers c where c.id = (chat_actor.actor ->> 'consumer_id')::uuid;
      v_refusal := eve.refusal_of_consumer(v_consumer, (chat_actor.actor ->> 'token_id')::uuid, 'chats');
      return coalesce(v_refusal, jsonb_build_object('consumer_id', v_consumer.id));
    when 'user' then
      return jsonb_build_object('owner', chat_actor.actor ->> 'user_id');
    else
      raise exception 'an actor has the kind project, consumer or user' using errcode = 'EV500';
  end case;
end;
$$;

-- A chat that is the actor's; a row of nulls: there is none. In PL/pgSQL like all that each call asks: it keeps its plan.
create or replace function eve.chat_of(who jsonb, chat_id uuid)
returns public.chats
language plpgsql
stable
set search_path = ''
as $$
declare
  v_chat public.chats;
begin
  select c.* into v_chat
  from public.chats c
  where c.id = chat_of.chat_id
    and (
      (chat_of.who ->> 'all')::boolean
      or c.consumer_id = (chat_of.who ->> 'consumer_id')::uuid
      or c.owner = (chat_of.who ->> 'owner')::uuid
    );
  return v_chat;
end;
$$;

-- The refusal of somebody who may not, or for whom there is no such chat; null: go on.
create or replace function eve.chat_refusal(who jsonb, chat public.chats, must_be_there boolean default false)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case
    when chat_refusal.who ->> 'status' = 'refused' then chat_refusal.who
    when (chat_refusal.chat).id is null then eve.refused('chat_not_found')
    when chat_refusal.must_be_there and (chat_refusal.chat).deleted_at is not null
      then eve.refused('chat_not_found', 'This chat is deleted. Restore it first.')
  end;
end;
$$;

create or replace function eve.chat_json(chat public.chats)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'id', (chat_json.chat).id, 'title', (chat_json.chat).title, 'user_id', (chat_json.chat).user_id, 'owner', (chat_json.chat).owner,
    'consumer_id', (chat_json.chat).consumer_id, 'description', (chat_json.chat).description, 'metadata', coalesce((chat_json.chat).metadata, '{}'),
    'leaf_id', (chat_json.chat).leaf_id, 'created_at', (chat_json.chat).created_at, 'updated_at', (chat_json.chat).updated_at,
    'archived_at', (chat_json.chat).archived_at, 'deleted_at', (chat_json.chat).deleted_at, 'expires_at', (chat_json.chat).expires_at
  );
end;
$$;

-- chat: {"id", "title", "user_id", "description", "metadata", "expires_at"}, each or none. An id that the actor's chat has already is
-- answered with that chat, so that a repetition makes no second one.
create or replace function public.eve_chat_create(actor jsonb, chat jsonb default '{}')
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_create.actor);
  v_id constant uuid := coalesce((eve_chat_create.chat ->> 'id')::uuid, gen_random_uuid());
  v_chat public.chats;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  insert into public.chats (id, title, user_id, owner, consumer_id, description, metadata, created_at, updated_at, expires_at)
  values (
    v_id, eve_chat_create.chat ->> 'title', eve_chat_create.chat ->> 'user_id', (v_who ->> 'owner')::uuid,
    (v_who ->> 'consumer_id')::uuid, eve_chat_create.chat ->> 'description', coalesce(eve_chat_create.chat -> 'metadata', '{}'),
    eve.clock(), eve.clock(), (eve_chat_create.chat ->> 'expires_at')::timestamptz
  )
  on conflict (id) do nothing
  returning * into v_chat;
  if found then
    return jsonb_build_object('status', 'created', 'chat', eve.chat_json(v_chat));
  end if;
  v_chat := eve.chat_of(v_who, v_id);
  if v_chat.id is null then
    -- Another's: as if it were taken by chance, which tells nothing of whose.
    return eve.refused('id_taken');
  end if;
  return jsonb_build_object('status', 'present', 'chat', eve.chat_json(v_chat));
end;
$$;
comment on function public.eve_chat_create is 'Begins a chat.';

create or replace function public.eve_chat(actor jsonb, chat_id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat.chat_id);
begin
  return coalesce(
    eve.chat_refusal(v_who, v_chat), jsonb_build_object('status', 'found', 'chat', eve.chat_json(v_chat))
  );
end;
$$;
comment on function public.eve_chat is 'A chat, for anyone who may read it.';

-- A page, newest first: {"status": "listed", "chats": [..], "next": {"created_at", "id"} or null}. after: a page's `next`.
-- archived, deleted: those alone, or those not; null: both.
--
-- Measured with 20,000 chats, a page of 50: 0.4 ms; as jsonb 1.2 ms, with a call for each chat 2.9 ms.
create or replace function public.eve_chats(
  actor jsonb, user_id text default null, archived boolean default false, deleted boolean default false,
  after jsonb default null, at_most integer default 50
)
returns json
language plpgsql
stable
-- Each query has its index whatever is asked, and to plan it again takes as long as to run it.
set plan_cache_mode = 'force_generic_plan'
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_chats.actor);
  v_most constant integer := least(greatest(eve_chats.at_most, 1), 100);
  v_consumer_id constant uuid := v_who ->> 'consumer_id';
  v_owner constant uuid := v_who ->> 'owner';
  v_before constant timestamptz := coalesce(eve_chats.after ->> 'created_at', 'infinity');
  v_before_id constant uuid := coalesce(eve_chats.after ->> 'id', 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  v_page public.chats[];
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  -- Written out for each sort of asker: a condition that may be absent would keep the planner from the index that fits.
  if v_owner is not null then
    v_page := array(
      select c
      from public.chats c
      where c.owner = v_owner and (eve_chats.user_id is null or c.user_id = eve_chats.user_id) and (c.created_at, c.id) < (v_before, v_before_id)
        and (eve_chats.archived is null or (c.archived_at is not null) = eve_chats.archived)
        and (eve_chats.deleted is null or (c.deleted_at is not null) = eve_chats.deleted)
      order by c.created_at desc, c.id desc
      limit v_most + 1
    );
  elsif v_consumer_id is not null and eve_chats.user_id is not null then
    v_page := array(
      select c
      from public.chats c
      where c.consumer_id = v_consumer_id and c.user_id = eve_chats.user_id and (c.created_at, c.id) < (v_before, v_before_id)
        and (eve_chats.archived is null or (c.archived_at is not null) = eve_chats.archived)
        and (eve_chats.deleted is null or (c.deleted_at is not null) = eve_chats.deleted)
      order by c.created_at desc, c.id desc
      limit v_most + 1
    );
  elsif v_consumer_id is not null then
    v_page := array(
      select c
      from public.chats c
      where c.consumer_id = v_consumer_id and (c.created_at, c.id) < (v_before, v_before_id)
        and (eve_chats.archived is null or (c.archived_at is not null) = eve_chats.archived)
        and (eve_chats.deleted is null or (c.deleted_at is not null) = eve_chats.deleted)
      order by c.created_at desc, c.id desc
      limit v_most + 1
    );
  else
    v_page := array(
      select c
      from public.chats c
      where (eve_chats.user_id is null or c.user_id = eve_chats.user_id) and (c.created_at, c.id) < (v_before, v_before_id)
        and (eve_chats.archived is null or (c.archived_at is not null) = eve_chats.archived)
        and (eve_chats.deleted is null or (c.deleted_at is not null) = eve_chats.deleted)
      order by c.created_at desc, c.id desc
      limit v_most + 1
    );
  end if;
  return json_build_object(
    'status', 'listed',
    'chats', (
      select coalesce(json_agg(row_to_json(j)), '[]')
      from (
        -- As eve.chat_json says it.
        select c.id, c.title, c.user_id, c.owner, c.consumer_id, c.description, coalesce(c.metadata, '{}') as metadata, c.leaf_id,
          c.created_at, c.updated_at, c.archived_at, c.deleted_at, c.expires_at
        from unnest(v_page[:v_most]) c
      ) j
    ),
    'next', case when cardinality(v_page) > v_most
      then json_build_object('created_at', v_page[v_most].created_at, 'id', v_page[v_most].id)
    end
  );
end;
$$;
comment on function public.eve_chats is 'A page of the chats that somebody has.';

-- {"status": "listed", <name>: the first `most` entries, "next": where the page after them begins, or null}.
create or replace function eve.chat_page(name text, entries jsonb, most integer)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_last jsonb;
begin
  if jsonb_array_length(chat_page.entries) <= chat_page.most then
    return jsonb_build_object('status', 'listed', chat_page.name, chat_page.entries, 'next', null);
  end if;
  v_last := chat_page.entries -> (chat_page.most - 1);
  return jsonb_build_object(
    'status', 'listed', chat_page.name, chat_page.entries - chat_page.most,
    'next', jsonb_build_object('created_at', v_last -> 'created_at', 'id', v_last -> 'id')
  );
end;
$$;

-- changes: {"title", "description", "user_id", "metadata", "expires_at"}, and "archived", "deleted" as booleans; what is absent stays.
create or replace function public.eve_chat_change(actor jsonb, chat_id uuid, changes jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_change.actor);
  v_new constant jsonb := eve_chat_change.changes;
  v_now constant timestamptz := eve.clock();
  v_chat public.chats := eve.chat_of(v_who, eve_chat_change.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat, must_be_there => not coalesce(v_new ? 'deleted', false));
begin
  if v_refusal is not null then
    return v_refusal;
  end if;
  update public.chats c
  set title = case when v_new ? 'title' then v_new ->> 'title' else c.title end,
    description = case when v_new ? 'description' then v_new ->> 'description' else c.description end,
    user_id = case when v_new ? 'user_id' then v_new ->> 'user_id' else c.user_id end,
    metadata = case when v_new ? 'metadata' then coalesce(nullif(v_new -> 'metadata', 'null'), '{}') else c.metadata end,
    expires_at = case when v_new ? 'expires_at' then (v_new ->> 'expires_at')::timestamptz else c.expires_at end,
    archived_at = case
      when not v_new ? 'archived' then c.archived_at
      when (v_new ->> 'archived')::boolean then coalesce(c.archived_at, v_now)
    end,
    deleted_at = case
      when not v_new ? 'deleted' then c.deleted_at
      when (v_new ->> 'deleted')::boolean then coalesce(c.deleted_at, v_now)
    end,
    updated_at = greatest(v_now, c.updated_at + interval '1 microsecond')
  where c.id = v_chat.id
  returning * into v_chat;
  return case when found then jsonb_build_object('status', 'changed', 'chat', eve.chat_json(v_chat)) else eve.refused('chat_not_found') end;
end;
$$;
comment on function public.eve_chat_change is 'Renames, archives, deletes or restores a chat.';

-- Takes a chat away for good, with all that is in it; files that nothing else uses are handed to the one that deletes them. The receipt:
-- {"status": "erased", "erased_at", "chat_id", "messages", "images", "search_results", "shares", "files": [{"tenant_id", "sha256"}]}.
create or replace function public.eve_chat_erase(actor jsonb, chat_id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_erase.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat_erase.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
  v_receipt jsonb;
begin
  if v_refusal is not null then
    return v_refusal;
  end if;
  perform from public.chats c where c.id = v_chat.id for update;
  if not found then
    -- Somebody else has erased it meanwhile.
    return eve.refused('chat_not_found');
  end if;
  v_receipt := jsonb_build_object(
    'status', 'erased', 'erased_at', eve.clock(), 'chat_id', v_chat.id,
    'messages', (select count(*) from public.messages m where m.chat_id = v_chat.id),
    'images', (
      select count(*) from public.message_images i join public.messages m on m.id = i.message_id where m.chat_id = v_chat.id
    ),
    'search_results', (select count(*) from public.search_results r where r.chat_id = v_chat.id),
    'shares', (select count(*) from public.chat_shares s where s.chat_id = v_chat.id),
    'files', (
      select coalesce(jsonb_agg(distinct jsonb_build_object('tenant_id', i.tenant_id, 'sha256', i.file_sha256)), '[]')
      from public.message_images i
      join public.messages m on m.id = i.message_id
      where m.chat_id = v_chat.id and i.file_sha256 is not null
    )
  );
  delete from public.chats c where c.id = v_chat.id;
  perform eve.chat_counted('eve_chats_removed_total', 'by', 'erasure', 1);
  return v_receipt;
end;
$$;
comment on function public.eve_chat_erase is 'Takes a chat away for good, with all that is in it.';

-- A snapshot of the conversation as it stands, for anyone who has the link. The link's secret part is known to the caller alone.
create or replace function public.eve_chat_share(actor jsonb, chat_id uuid, token_hash text, snapshot jsonb, expires_in_s integer default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- A snapshot is a copy: with more of them somebody fills the disk with one chat.
  v_most constant integer := 20;
  v_who constant jsonb := eve.chat_actor(eve_chat_share.actor);
  v_chat public.chats := eve.chat_of(v_who, eve_chat_share.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat, must_be_there => true);
  v_share public.chat_shares;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif octet_length(eve_chat_share.snapshot::text) > 5000000 then
    raise exception 'this conversation is too long to be shared: its snapshot has over 5 MB' using errcode = 'EV400';
  end if;
  perform from public.chats c where c.id = v_chat.id for no key update;
  if not found then
    return eve.refused('chat_not_found');
  elsif (select count(*) from public.chat_shares s where s.chat_id = v_chat.id) >= v_most then
    raise exception 'a chat has at most % links: take one back first', v_most using errcode = 'EV400';
  end if;
  insert into public.chat_shares (chat_id, token_hash, snapshot, created_at, expires_at)
  values (v_chat.id, eve_chat_share.token_hash, eve_chat_share.snapshot, eve.clock(), eve.clock() + make_interval(secs => eve_chat_share.expires_in_s))
  returning * into v_share;
  return jsonb_build_object(
    'status', 'shared', 'share', jsonb_build_object('id', v_share.id, 'created_at', v_share.created_at, 'expires_at', v_share.expires_at)
  );
end;
$$;
comment on function public.eve_chat_share is 'Keeps a snapshot of a chat for anyone who has its link.';

create or replace function public.eve_chat_shares(actor jsonb, chat_id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_shares.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat_shares.chat_id);
begin
  return coalesce(
    eve.chat_refusal(v_who, v_chat),
    (
      select jsonb_build_object(
        'status', 'listed',
        'shares', coalesce(
          jsonb_agg(jsonb_build_object('id', s.id, 'created_at', s.created_at, 'expires_at', s.expires_at) order by s.created_at, s.id), '[]'
        )
      )
      from public.chat_shares s
      where s.chat_id = v_chat.id
    )
  );
end;
$$;
comment on function public.eve_chat_shares is 'The links of a chat.';

create or replace function public.eve_chat_unshare(actor jsonb, chat_id uuid, share_id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_unshare.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat_unshare.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
begin
  if v_refusal is not null then
    return v_refusal;
  end if;
  perform from public.chats c where c.id = v_chat.id for no key update;
  delete from public.chat_shares s where s.chat_id = v_chat.id and s.id = eve_chat_unshare.share_id;
  return case when found then '{"status": "unshared"}' else eve.refused('share_not_found') end;
end;
$$;
comment on function public.eve_chat_unshare is 'Takes a link of a chat back.';

-- For anyone who has the link: nobody else knows what hashes to this.
create or replace function public.eve_chat_shared(token_hash text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select coalesce(
    (
      select jsonb_build_object('status', 'found', 'snapshot', s.snapshot, 'created_at', s.created_at, 'expires_at', s.expires_at)
      from public.chat_shares s
      join public.chats c on c.id = s.chat_id
      where s.token_hash = eve_chat_shared.token_hash and c.deleted_at is null
        and coalesce(s.expires_at > eve.clock(), true)
    ),
    eve.refused('share_not_found')
  );
$$;
comment on function public.eve_chat_shared is 'A shared snapshot, by the hash of its link''s secret.';

-- A batch of chats that are over: deleted ones whose time to be restored has passed, and those that expire; also links that have ended,
-- and answers that nobody writes any more are marked.
create or replace function eve.retention_of_chats(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Longer than any answer may take.
  v_pending constant interval := '1 hour';
  v_now constant timestamptz := eve.clock();
  v_chats uuid[];
  v_abandoned bigint := 0;
begin
  if retention_of_chats.after is null then
    -- A chat that somebody is writing to has its turn at the next run.
    v_chats := array(
      select c.id
      from public.chats c
      where c.id in (
        select s.chat_id from public.chat_shares s where s.expires_at <= v_now
        union all
        select m.chat_id from public.messages m where m.state = 'pending' and m.created_at <= v_now - v_pending
      )
      for no key update skip locked
    );
    delete from public.chat_shares s where s.chat_id = any (v_chats) and s.expires_at <= v_now;
    update public.messages m
    set state = 'broken_off'
    where m.chat_id = any (v_chats) and m.state = 'pending' and m.created_at <= v_now - v_pending;
    get diagnostics v_abandoned = row_count;
  end if;
  v_chats := array(
    select c.id
    from public.chats c
    where c.expires_at <= v_now or c.deleted_at <= retention_of_chats.before
    limit retention_of_chats.at_most
    for update skip locked
  );
  perform eve.chat_files_lock(v_chats);
  delete from public.chats c where c.id = any (v_chats);
  get diagnostics deleted = row_count;
  perform eve.chat_counted('eve_chat_answers_total', 'state', 'abandoned', v_abandoned);
  perform eve.chat_counted('eve_chats_removed_total', 'by', 'retention', deleted);
  next_after := case when deleted >= retention_of_chats.at_most then '{}'::jsonb end;
end;
$$;
-- Few at a time: a chat goes with all its messages. Where a table made by hand holds chats that would go at once, all are kept until
-- the owner says otherwise.
insert into eve.retention (table_name, keep, at_least, batch_rows, batch_function, description)
select 'public.chats',
  case
    when exists (select from public.chats c where c.deleted_at < now() - interval '30 days' or c.expires_at <= now()) then null
    else interval '30 days'
  end,
  '1 minute', 100, 'retention_of_chats', 'Chats that were deleted, counted from then; until then they can be restored. Those that expire go with them.'
on conflict (table_name) do nothing;
