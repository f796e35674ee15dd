-- What the job of an update says of its message, and the post that comes of it. All of it may be repeated, and updates may come in any order:
-- of two versions of a message the later one stays, and a post is put together from what its messages say now.

set local lock_timeout = '10s';

-- What a post of these messages says: {"text", "published_at", "metadata", "media"}; null: none is left.
create or replace function eve.telegram_fold(bot_id bigint, chat text, album text, message_id bigint)
returns jsonb
language sql
stable
set search_path = ''
set enable_seqscan = 'off'
as $$
  with parts as materialized (
    select m.*
    from eve.telegram_messages m
    where m.bot_id = telegram_fold.bot_id and m.chat = telegram_fold.chat and m.state = 'posted'
      and case
        when telegram_fold.album is not null then m.album = telegram_fold.album
        else m.message_id = telegram_fold.message_id
      end
    order by m.message_id
    -- An album has ten.
    limit 50
  ), links as materialized (
    select l.url, sum(octet_length(l.url) + 4) over (order by l.first) as bytes
    from (
      select u.url, min(p.message_id * 1000 + u.nr) as first
      from parts p
      cross join unnest(p.links) with ordinality as u (url, nr)
      group by u.url
    ) l
  )
  select jsonb_build_object(
    -- 262,144 bytes are a post's most, and no character has more than four.
    'text', left(coalesce(string_agg(nullif(p.text, ''), e'\n\n' order by p.message_id), ''), 65000),
    'published_at', min(p.published_at),
    'metadata', (array_agg(p.facts order by p.message_id))[1] || jsonb_build_object(
      'message_ids', jsonb_agg(p.message_id order by p.message_id),
      -- With what else is said all of it has 16 KiB at most.
      'links', (select coalesce(jsonb_agg(l.url order by l.bytes), '[]') from links l where l.bytes <= 4000),
      'links_left_out', (select count(*) from links l where l.bytes > 4000)
    ) || case
      when count(p.attachment) > 0 then jsonb_build_object(
        'attachments', (
          select jsonb_agg(a.attachment order by a.message_id)
          from (
            select p.attachment, p.message_id, sum(octet_length(p.attachment::text)) over (order by p.message_id) as bytes from parts p
            where p.attachment is not null
          ) a
          where a.bytes <= 8000
        )
      )
      else '{}'
    end,
    'media', coalesce(jsonb_agg(p.file_sha256 order by p.message_id) filter (where p.file_sha256 is not null), '[]')
  )
  from parts p
  having count(*) > 0;
$$;

-- Notes what a message says, unless a later version of it is known. The row, with the post that it is of; null: nothing is to be changed.
-- before: as it was.
create or replace function eve.telegram_note(
  from_update eve.telegram_updates, said jsonb, out before eve.telegram_messages, out now_said eve.telegram_messages
)
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
as $$
#variable_conflict use_column
declare
  v_said constant jsonb := telegram_note.said;
begin
  select * into before
  from eve.telegram_messages m
  where m.bot_id = (telegram_note.from_update).bot_id and m.chat = v_said ->> 'chat' and m.message_id = (v_said ->> 'message_id')::bigint;
  insert into eve.telegram_messages as m (
    bot_id, chat, message_id, album, version, update_id, published_at, text, links, facts, attachment, file_unique_id, file_sha256, updated_at
  )
  values (
    (telegram_note.from_update).bot_id, v_said ->> 'chat', (v_said ->> 'message_id')::bigint, v_said ->> 'album',
    (v_said ->> 'version')::bigint, (telegram_note.from_update).update_id, to_timestamp((v_said ->> 'date')::double precision),
    coalesce(v_said ->> 'text', ''), array(select jsonb_array_elements_text(v_said -> 'links')), coalesce(v_said -> 'facts', '{}'),
    nullif(v_said -> 'attachment', 'null'), v_said -> 'attachment' ->> 'file_unique_id', v_said -> 'attachment' ->> 'sha256', eve.clock()
  )
  on conflict (bot_id, chat, message_id) do update
  set version = excluded.version, update_id = excluded.update_id, published_at = coalesce(excluded.published_at, m.published_at),
    text = excluded.text, links = excluded.links, facts = excluded.facts, attachment = excluded.attachment,
    file_unique_id = excluded.file_unique_id, file_sha256 = excluded.file_sha256, updated_at = excluded.updated_at
  where m.state = 'posted' and (m.version, m.update_id) <= (excluded.version, excluded.update_id)
  returning * into now_said;
end;
$$;

-- Makes the post of a message, or brings it up to date. said: what the job has read of the update, see public.eve_telegram_apply.
-- {"status": "applied", "superseded" or "deleted", "post_id", "created"}, or a refusal that the caller has to undo.
create or replace function eve.telegram_post(from_update eve.telegram_updates, tenant_id text, said jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_said constant jsonb := telegram_post.said;
  v_bot_id constant bigint := (telegram_post.from_update).bot_id;
  v_project constant jsonb := '{"kind": "project"}';
  v_note record;
  v_message eve.telegram_messages;
  v_post public.posts;
  v_fold jsonb;
  v_answer jsonb;
  v_place record;
begin
  -- Whatever concerns the same post comes one after the other.
  perform pg_advisory_xact_lock(
    hashtextextended(
      format('telegram %s %s %s', v_bot_id, v_said ->> 'chat', coalesce('album ' || (v_said ->> 'album'), v_said ->> 'message_id')), 0
    )
  );
  select * into v_note from eve.telegram_note(telegram_post.from_update, v_said);
  v_message := v_note.now_said;
  if v_message.bot_id is null then
    return jsonb_build_object('status', case (v_note.before).state when 'deleted' then 'deleted' else 'superseded' end);
  end if;
  v_fold := eve.telegram_fold(v_bot_id, v_message.chat, v_message.album, v_message.message_id);
  select p.* into v_post
  from public.posts p
  where p.id = coalesce(
    v_message.post_id,
    (
      select m.post_id
      from eve.telegram_messages m
      where m.bot_id = v_bot_id and m.chat = v_message.chat and m.album = v_message.album and m.post_id is not null
      limit 1
    )
  );
  v_answer := public.eve_post_add(
    v_project,
    jsonb_build_object(
      'tenant_id', coalesce(v_post.tenant_id, telegram_post.tenant_id), 'source', coalesce(v_post.source, v_said ->> 'source'),
      'external_id', coalesce(v_post.external_id, 'album:' || v_message.album, v_message.message_id::text)
    ) || v_fold,
    (telegram_post.from_update).trace_id
  );
  if v_answer ->> 'status' = 'refused' then
    return v_answer;
  end if;
  select * into v_post from public.posts p where p.id = (v_answer -> 'post' ->> 'id')::uuid;
  update eve.telegram_messages m
  set post_id = v_post.id
  where m.bot_id = v_bot_id and m.chat = v_message.chat and m.message_id = v_message.message_id and m.post_id is distinct from v_post.id;
  if v_answer ->> 'status' = 'present' then
    perform eve.telegram_renew(v_post, v_fold, (v_note.before).file_sha256);
  end if;
  return jsonb_build_object('status', 'applied', 'post_id', v_post.id, 'created', v_answer ->> 'status' = 'created');
end;
$$;

-- Brings a post's words, and the order of its pictures, up to date. gone: a picture that its message does not show any more, if no
-- other one does.
create or replace function eve.telegram_renew(post public.posts, fold jsonb, gone text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most_bytes constant integer := 16384;
  v_id constant uuid := (telegram_renew.post).id;
  v_fold constant jsonb := telegram_renew.fold;
  v_metadata jsonb := ((telegram_renew.post).metadata - 'attachments') || (v_fold -> 'metadata');
begin
  -- What somebody else has said of it stays, as far as there is room.
  if octet_length(v_metadata::text) > v_most_bytes then
    v_metadata := v_fold -> 'metadata';
  end if;
  update public.posts p
  set text = v_fold ->> 'text', metadata = v_metadata,
    published_at = coalesce((v_fold ->> 'published_at')::timestamptz, p.published_at), updated_at = eve.clock()
  where p.id = v_id
    and (p.text, p.metadata, p.published_at) is distinct from (
      v_fold ->> 'text', v_metadata, coalesce((v_fold ->> 'published_at')::timestamptz, p.published_at)
    );
  if not (v_fold -> 'media') ? telegram_renew.gone then
    delete from public.post_media_map m where m.post_id = v_id and m.file_sha256 = telegram_renew.gone;
    delete from public.post_enrichment e where e.post_id = v_id and e.file_sha256 = telegram_renew.gone;
  end if;
  update public.post_media_map m
  set place = f.place
  from (
    select f.sha256, min(f.nr)::integer - 1 as place
    from jsonb_array_elements_text(v_fold -> 'media') with ordinality as f (sha256, nr)
    group by f.sha256
  ) f
  where m.post_id = v_id and m.file_sha256 = f.sha256 and m.place <> f.place;
end;
$$;

-- Messages that Telegram says are deleted: they go out of their posts, and a post without any is deleted.
create or replace function eve.telegram_delete(bot_id bigint, chat text, message_ids bigint[])
returns integer
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
as $$
declare
  v_message eve.telegram_messages;
  v_post public.posts;
  v_fold jsonb;
  v_deleted integer := 0;
begin
  for v_message in
    select m.*
    from eve.telegram_messages m
    where m.bot_id = telegram_delete.bot_id and m.chat = telegram_delete.chat and m.message_id = any (telegram_delete.message_ids)
      and m.state = 'posted'
    order by m.message_id
    limit 1000
  loop
    perform pg_advisory_xact_lock(
      hashtextextended(
        format('telegram %s %s %s', v_message.bot_id, v_message.chat, coalesce('album ' || v_message.album, v_message.message_id::text)), 0
      )
    );
    select * into v_post from public.posts p where p.id = v_message.post_id;
    update eve.telegram_messages m
    set post_id = null
    where m.bot_id = v_message.bot_id and m.chat = v_message.chat and m.message_id = v_message.message_id and m.post_id is not null;
    continue when not found;
    v_deleted := v_deleted + 1;
    v_fold := eve.telegram_fold(v_message.bot_id, v_message.chat, v_message.album, v_message.message_id);
    if v_fold is null then
      delete from public.posts p where p.id = v_post.id;
    else
      perform eve.telegram_renew(v_post, v_fold, v_message.file_sha256);
    end if;
  end loop;
  -- One that is not here yet does not come later.
  insert into eve.telegram_messages as m (bot_id, chat, message_id, version, update_id, state, updated_at)
  select telegram_delete.bot_id, telegram_delete.chat, i.id, 0, 0, 'deleted', eve.clock()
  from unnest(telegram_delete.message_ids) as i (id)
  order by i.id
  limit 1000
  on conflict do nothing;
  return v_deleted;
end;
$$;

-- Writes down what an update says, for its job, and ends the update. said: {"chat", "deleted": message ids}, or of a message {"chat",
-- "message_id", "album"?, "version": seconds since 1970, "date": the same, "source", "text", "links", "facts", "attachment"?: {"kind",
-- "status", "sha256"?, "file_unique_id"?, ...}}, or null where there is nothing to keep, with the reason. ends: false where the file could
-- not be fetched yet: the post says so, and the update waits.
-- {"status": "applied", "superseded", "deleted", "ignored" or "ended" (there was nothing to do any more), "post_id"?, "created"?}, or a refusal.
create or replace function public.eve_telegram_apply(
  job_id uuid, bot_id bigint, update_id bigint, said jsonb, reason text default null, ends boolean default true
)
returns jsonb
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_said constant jsonb := nullif(eve_telegram_apply.said, 'null');
  v_update eve.telegram_updates;
  v_tenant text;
  v_answer jsonb;
begin
  select * into v_update
  from eve.telegram_updates u
  where u.bot_id = eve_telegram_apply.bot_id and u.update_id = eve_telegram_apply.update_id and u.state = 'waiting'
    and u.job_id = eve_telegram_apply.job_id
  for update;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  if v_said is null then
    v_answer := jsonb_build_object('status', 'ignored');
  elsif v_said ? 'deleted' then
    perform eve.telegram_delete(
      v_update.bot_id, v_said ->> 'chat', array(select d.id::bigint from jsonb_array_elements_text(v_said -> 'deleted') as d (id))
    );
    v_answer := jsonb_build_object('status', 'deleted');
  else
    select b.tenant_id into v_tenant from eve.telegram_bots b where b.bot_id = v_update.bot_id;
    begin
      v_answer := eve.telegram_post(v_update, v_tenant, v_said);
      if v_answer ->> 'status' = 'refused' then
        raise exception '%', v_answer using errcode = 'triggered_action_exception';
      end if;
    exception when triggered_action_exception then
      return sqlerrm::jsonb;
    end;
  end if;
  if eve_telegram_apply.ends then
    -- What it said is with the message now; nobody needs it twice.
    update eve.telegram_updates u
    set state = case v_answer ->> 'status' when 'ignored' then 'ignored' else 'done' end, body = null, ended_at = eve.clock(),
      reason = left(coalesce(eve_telegram_apply.reason, nullif(v_answer ->> 'status', 'applied')), 500),
      post_id = (v_answer ->> 'post_id')::uuid
    where u.bot_id = v_update.bot_id and u.update_id = v_update.update_id;
  else
    update eve.telegram_updates u
    set reason = left(eve_telegram_apply.reason, 500), post_id = (v_answer ->> 'post_id')::uuid
    where u.bot_id = v_update.bot_id and u.update_id = v_update.update_id;
  end if;
  return v_answer;
end;
$$;
comment on function public.eve_telegram_apply is 'Writes down what an update of Telegram says: its post is made, changed or deleted.';
