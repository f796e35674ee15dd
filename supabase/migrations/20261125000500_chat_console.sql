-- Chats as an administrator sees them: who has which, how large they are and what they cost. What people said to an assistant is not an
-- administrator's to read unless the owner of the project says so, which is decided here and not in a page.

set local lock_timeout = '10s';

insert into eve.settings (name, value, description) values
  ('chats_text_for_administrators', 0, '1: administrators read in the console what is said in chats, and search it. 0: they see that there are chats, and no text.')
on conflict (name) do nothing;

create or replace function eve.chats_text_shown()
returns boolean
language sql
stable
set search_path = ''
as $$
  select eve.alert_setting('chats_text_for_administrators', 0) = 1;
$$;

-- A chat without what anybody wrote, unless it is shown.
create or replace function eve.chat_for_administrator(chat public.chats)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'id', (chat).id, 'user_id', (chat).user_id, 'owner', (chat).owner,
    'consumer', (select c.name from eve.consumers c where c.id = (chat).consumer_id),
    'messages', (chat).messages_count, 'stored_bytes', (chat).stored_bytes, 'created_at', (chat).created_at,
    'updated_at', (chat).updated_at, 'archived_at', (chat).archived_at, 'deleted_at', (chat).deleted_at, 'expires_at', (chat).expires_at,
    'title', case when eve.chats_text_shown() then (chat).title end,
    'description', case when eve.chats_text_shown() then (chat).description end
  );
end;
$$;

-- A page, newest first: {"status": "listed", "shows_text", "chats", "next"}. by: {"user_id", "owner", "consumer", "text"}, each or none;
-- a text is looked for in messages, the best of a thousand candidates, and refused where it is not shown: to find is to read.
create or replace function public.eve_admin_chats(by jsonb default '{}', after jsonb default null, at_most integer default 50)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_by constant jsonb := eve_admin_chats.by;
  v_most constant integer := least(greatest(eve_admin_chats.at_most, 1), 100);
  v_conditions text[] := '{true}';
  v_consumer uuid;
  v_words text;
  v_query tsquery;
  v_with text[];
  v_chats jsonb;
begin
  if v_by ->> 'text' is not null then
    if not eve.chats_text_shown() then
      return eve.refused(
        'credential_insufficient',
        'The owner of this project shows administrators no text of chats (chats_text_for_administrators in eve.settings).'
      );
    end if;
    v_words := lower(left(v_by ->> 'text', 1000) collate "und-x-icu");
    v_query := websearch_to_tsquery('pg_catalog.russian', v_words) || websearch_to_tsquery('pg_catalog.english', v_words);
    v_conditions := v_conditions || 'c.id in (select m.chat_id from public.messages m where m.search @@ $6 limit 1000)'::text;
  end if;
  if v_by ->> 'user_id' is not null then
    v_conditions := v_conditions || 'c.user_id = $1'::text;
  end if;
  if v_by ->> 'owner' is not null then
    v_conditions := v_conditions || 'c.owner = $2'::text;
  end if;
  if v_by ->> 'consumer' is not null then
    select c.id into v_consumer from eve.consumers c where c.name = v_by ->> 'consumer';
    v_conditions := v_conditions || 'c.consumer_id = $3'::text;
  end if;
  if eve_admin_chats.after is not null then
    v_conditions := v_conditions || '(c.created_at, c.id) < ($4, $5)'::text;
  end if;
  execute format(
    'select coalesce(jsonb_agg(eve.chat_for_administrator(page.chat) order by page.created_at desc, page.id desc), ''[]'')
    from (select c as chat, c.created_at, c.id from public.chats c where %s order by c.created_at desc, c.id desc limit $7) page',
    array_to_string(v_conditions, ' and ')
  )
  into v_chats
  using v_by ->> 'user_id', (v_by ->> 'owner')::uuid, v_consumer, (eve_admin_chats.after ->> 'created_at')::timestamptz,
    (eve_admin_chats.after ->> 'id')::uuid, v_query, v_most + 1;
  return eve.chat_page('chats', v_chats, v_most) || jsonb_build_object('shows_text', eve.chats_text_shown());
end;
$$;
comment on function public.eve_admin_chats is 'A page of all chats, for administrators.';

-- A number of a usage, which may be anybody's JSON; null: there is none.
create or replace function eve.chat_tokens(usage jsonb, name text)
returns numeric
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case when jsonb_typeof(chat_tokens.usage -> chat_tokens.name) = 'number' then (chat_tokens.usage ->> chat_tokens.name)::numeric end;
end;
$$;

-- A page of a chat in the order in which its messages came: {"status": "found", "shows_text", "chat", "cost", "messages", "next"}. Of a
-- message its role, state, size, tokens and call (`request_no`: null, where the books have none) and its pictures; its words where they
-- are shown. cost: of the whole chat.
create or replace function public.eve_admin_chat(chat_id uuid, after jsonb default null, at_most integer default 50)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_shown constant boolean := eve.chats_text_shown();
  v_most constant integer := least(greatest(eve_admin_chat.at_most, 1), 100);
  v_chat public.chats;
  v_messages jsonb;
begin
  select * into v_chat from public.chats c where c.id = eve_admin_chat.chat_id;
  if not found then
    return eve.refused('chat_not_found');
  end if;
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', m.id, 'parent_id', m.parent_id, 'role', m.role, 'state', m.state, 'created_at', m.created_at,
        'bytes', eve.message_bytes(m.content, m.parts), 'content', case when v_shown then m.content end,
        'feedback', case when v_shown then m.feedback end, 'input_tokens', eve.chat_tokens(m.usage, 'input_tokens'),
        'output_tokens', eve.chat_tokens(m.usage, 'output_tokens'), 'total_tokens', eve.chat_tokens(m.usage, 'total_tokens'),
        'request_no', (select max(r.request_no) from eve.requests r where r.request_id = m.request_id),
        'images', (
          select coalesce(
            jsonb_agg(
              jsonb_build_object(
                'id', i.id, 'width', i.width, 'height', i.height, 'file_size', i.file_size,
                'tenant_id', case when v_shown then i.tenant_id end, 'file_sha256', case when v_shown then i.file_sha256 end,
                'image_name', case when v_shown then i.image_name end, 'description', case when v_shown then i.description end
              )
              order by i.created_at, i.id
            ), '[]'
          )
          from public.message_images i
          where i.message_id = m.id
        )
      )
      order by m.created_at, m.id
    ), '[]'
  )
  into v_messages
  from (
    select *
    from public.messages p
    where p.chat_id = v_chat.id
      and (p.created_at, p.id) > (
        coalesce((eve_admin_chat.after ->> 'created_at')::timestamptz, '-infinity'),
        coalesce((eve_admin_chat.after ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000')
      )
    order by p.created_at, p.id
    limit v_most + 1
  ) m;
  return eve.chat_page('messages', v_messages, v_most) || jsonb_build_object(
    'status', 'found', 'shows_text', v_shown, 'chat', eve.chat_for_administrator(v_chat),
    'cost', (
      select jsonb_build_object(
        'calls', count(*) filter (where m.role = 'assistant' and m.request_id is not null),
        'input_tokens', coalesce(sum(eve.chat_tokens(m.usage, 'input_tokens')), 0),
        'output_tokens', coalesce(sum(eve.chat_tokens(m.usage, 'output_tokens')), 0),
        'total_tokens', coalesce(sum(eve.chat_tokens(m.usage, 'total_tokens')), 0)
      )
      from public.messages m
      where m.chat_id = v_chat.id
    )
  );
end;
$$;
comment on function public.eve_admin_chat is 'A page of a chat, for administrators.';
