-- Messages of chats, for the function api; and answers while they are written.

set local lock_timeout = '10s';

-- Messages as JSON, in the order of their ids. Column by column: whole rows have what the search is made of, which takes ten times as long.
create or replace function eve.messages_json(ids uuid[])
returns json
language plpgsql
stable
-- It goes by the primary key whatever is asked, and to plan it again takes longer than to run it.
set plan_cache_mode = 'force_generic_plan'
set search_path = ''
as $$
begin
  return (
    select coalesce(json_agg(row_to_json(j)), '[]')
    from (
      select m.id, m.chat_id, m.parent_id, m.role, m.content, m.message_type, m.parts, m.client_id, m.request_id, m.usage, m.feedback,
        m.state, m.created_at
      from unnest(messages_json.ids) with ordinality as i (id, place)
      join public.messages m on m.id = i.id
      order by i.place
    ) j
  );
end;
$$;

-- One of them, which is at hand: to read it again takes ten times as long.
create or replace function eve.message_json(message public.messages)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'id', (message_json.message).id, 'chat_id', (message_json.message).chat_id, 'parent_id', (message_json.message).parent_id,
    'role', (message_json.message).role, 'content', (message_json.message).content, 'message_type', (message_json.message).message_type,
    'parts', (message_json.message).parts, 'client_id', (message_json.message).client_id, 'request_id', (message_json.message).request_id,
    'usage', (message_json.message).usage, 'feedback', (message_json.message).feedback, 'state', (message_json.message).state,
    'created_at', (message_json.message).created_at
  );
end;
$$;

-- Adds a message to a chat, whose row is locked from here on: {"status": "added" or "present", "message"}, or a refusal.
-- message: {"id", "role", "content", "message_type", "parts", "client_id", "request_id", "usage", "state"}, and where it stands:
-- "parent_id" (null: it begins the conversation), or "edits" (a further branch beside that message), or neither: at the end.
create or replace function eve.message_from(chat_id uuid, message jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_new constant jsonb := message_from.message;
  v_parent uuid := (v_new ->> 'parent_id')::uuid;
  v_begins boolean := v_new ? 'parent_id' and v_parent is null;
  v_message public.messages;
begin
  perform from public.chats c where c.id = message_from.chat_id for no key update;
  if not found then
    -- Erased since it was looked at.
    return eve.refused('chat_not_found');
  end if;
  if v_new ->> 'client_id' is not null then
    select * into v_message
    from public.messages m
    where m.chat_id = message_from.chat_id and m.client_id = v_new ->> 'client_id';
    if found then
      return jsonb_build_object('status', 'present', 'message', eve.message_json(v_message));
    end if;
  end if;
  if v_new ->> 'edits' is not null then
    select m.parent_id into v_parent
    from public.messages m
    where m.chat_id = message_from.chat_id and m.id = (v_new ->> 'edits')::uuid;
    if not found then
      return eve.refused('message_not_found', 'The message that this one edits is not in this chat.');
    end if;
    v_begins := v_parent is null;
  elsif v_parent is not null and not exists (
    select from public.messages m where m.chat_id = message_from.chat_id and m.id = v_parent
  ) then
    return eve.refused('message_not_found', 'The message that this one follows is not in this chat.');
  end if;
  if v_new ->> 'id' is not null then
    select * into v_message from public.messages m where m.id = (v_new ->> 'id')::uuid;
    if found then
      return case
        when v_message.chat_id = message_from.chat_id
          then jsonb_build_object('status', 'present', 'message', eve.message_json(v_message))
        else eve.refused('id_taken')
      end;
    end if;
  end if;
  perform set_config('eve.message_begins', case when v_begins then 'on' else '' end, true);
  insert into public.messages (id, chat_id, parent_id, role, content, message_type, parts, client_id, request_id, usage, state)
  values (
    coalesce((v_new ->> 'id')::uuid, gen_random_uuid()), message_from.chat_id, v_parent, coalesce(v_new ->> 'role', 'user'),
    coalesce(v_new ->> 'content', ''), coalesce(v_new ->> 'message_type', 'text'), nullif(v_new -> 'parts', 'null'),
    v_new ->> 'client_id', v_new ->> 'request_id', nullif(v_new -> 'usage', 'null'), coalesce(v_new ->> 'state', 'complete')
  )
  returning * into v_message;
  return jsonb_build_object('status', 'added', 'message', eve.message_json(v_message));
end;
$$;
comment on function eve.message_from is 'Adds a message to a chat, once by its client_id or id.';

create or replace function public.eve_message_add(actor jsonb, chat_id uuid, message jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_message_add.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_message_add.chat_id);
begin
  return coalesce(
    eve.chat_refusal(v_who, v_chat, must_be_there => true),
    eve.message_from(v_chat.id, eve_message_add.message - 'state')
  );
end;
$$;
comment on function public.eve_message_add is 'Adds a message to a chat.';

-- A message of a chat that is the actor's; a row of nulls: there is none.
create or replace function eve.message_from_actor(who jsonb, message_id uuid)
returns public.messages
language plpgsql
stable
set search_path = ''
as $$
declare
  v_message public.messages;
begin
  select m.* into v_message
  from public.messages m
  where m.id = message_from_actor.message_id and (eve.chat_of(message_from_actor.who, m.chat_id)).id is not null;
  return v_message;
end;
$$;

create or replace function public.eve_message_feedback(actor jsonb, message_id uuid, feedback text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_message_feedback.actor);
  v_message public.messages := eve.message_from_actor(v_who, eve_message_feedback.message_id);
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif v_message.id is null then
    return eve.refused('message_not_found');
  end if;
  update public.messages m
  set feedback = eve_message_feedback.feedback
  where m.id = v_message.id
  returning * into v_message;
  return case
    when found then jsonb_build_object('status', 'changed', 'message', eve.message_json(v_message)) else eve.refused('message_not_found')
  end;
end;
$$;
comment on function public.eve_message_feedback is 'Notes what a reader thinks of a message.';

-- A page of all messages of a chat, branches and all, in the order in which they came; or, backwards, from the newest.
-- {"status": "listed", "messages", "next"}.
create or replace function public.eve_messages(
  actor jsonb, chat_id uuid, after jsonb default null, backwards boolean default false, at_most integer default 100
)
returns json
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_messages.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_messages.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
  v_most constant integer := least(greatest(eve_messages.at_most, 1), 100);
  v_after constant timestamptz := (eve_messages.after ->> 'created_at')::timestamptz;
  v_after_id constant uuid := (eve_messages.after ->> 'id')::uuid;
  v_ids uuid[];
  v_last record;
  v_next json;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif eve_messages.backwards then
    v_ids := array(
      select m.id
      from public.messages m
      where m.chat_id = v_chat.id and (m.created_at, m.id) < (coalesce(v_after, 'infinity'), coalesce(v_after_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
      order by m.created_at desc, m.id desc
      limit v_most + 1
    );
  else
    v_ids := array(
      select m.id
      from public.messages m
      where m.chat_id = v_chat.id and (m.created_at, m.id) > (coalesce(v_after, '-infinity'), coalesce(v_after_id, '00000000-0000-0000-0000-000000000000'))
      order by m.created_at, m.id
      limit v_most + 1
    );
  end if;
  if cardinality(v_ids) > v_most then
    select m.created_at, m.id into v_last from public.messages m where m.id = v_ids[v_most];
    v_next := json_build_object('created_at', v_last.created_at, 'id', v_last.id);
  end if;
  return json_build_object('status', 'listed', 'messages', eve.messages_json(v_ids[:v_most]), 'next', v_next);
end;
$$;
comment on function public.eve_messages is 'A page of the messages of a chat.';

-- The conversation that ends with a message (null: with the chat's end): its last messages, oldest of them first.
-- {"status": "listed", "messages", "before": the message with which the page before this one ends, or null}.
create or replace function public.eve_message_path(actor jsonb, chat_id uuid, leaf_id uuid default null, at_most integer default 100)
returns json
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_message_path.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_message_path.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
  v_most constant integer := least(greatest(eve_message_path.at_most, 1), 1000);
  v_leaf constant uuid := coalesce(eve_message_path.leaf_id, v_chat.leaf_id);
  v_messages json;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif v_leaf is not null and not exists (select from public.messages m where m.id = v_leaf and m.chat_id = v_chat.id) then
    return eve.refused('message_not_found');
  end if;
  with recursive path as (
    select m.id, m.parent_id, 1 as depth
    from public.messages m
    where m.id = v_leaf
    union all
    select m.id, m.parent_id, p.depth + 1
    from path p
    join public.messages m on m.id = p.parent_id and m.chat_id = v_chat.id
    where p.depth < v_most
  )
  select eve.messages_json(array_agg(p.id order by p.depth desc)) into v_messages from path p;
  return json_build_object('status', 'listed', 'messages', v_messages, 'before', v_messages -> 0 -> 'parent_id');
end;
$$;
comment on function public.eve_message_path is 'The conversation that ends with a message.';

-- Stores a question and the place of its answer behind it, so that both stand in their order however the answer ends.
-- {"status": "begun", "question", "answer", "history": the conversation before the question, its last messages, "consumer_id": who is
-- charged}; or a refusal. A question whose client_id came before is not stored again: answered, it is `present` with that answer; with
-- its answer being written it is refused; with one that broke off it gets a further one.
-- payer: the name of the consumer that is charged for signed-in users; null: none is.
create or replace function public.eve_chat_answer_begin(
  actor jsonb, chat_id uuid, question jsonb, request_id text, payer text default null
)
returns json
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- More than any history holds that is sent to a model.
  v_most constant integer := 200;
  v_who constant jsonb := eve.chat_actor(eve_chat_answer_begin.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat_answer_begin.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat, must_be_there => true);
  v_consumer_id uuid := (v_who ->> 'consumer_id')::uuid;
  v_question jsonb;
  v_answer public.messages;
  v_path json;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif v_who ? 'owner' then
    select c.id into v_consumer_id from eve.consumers c where c.name = eve_chat_answer_begin.payer and c.is_active;
    if not found then
      return eve.refused(
        'credential_insufficient',
        'This project answers no signed-in users in their chats: its owner names the consumer that is charged in EVE_CHATS_CONSUMER.'
      );
    end if;
  end if;
  v_question := eve.message_from(v_chat.id, eve_chat_answer_begin.question - 'state');
  if v_question ->> 'status' = 'refused' then
    return v_question;
  elsif v_question ->> 'status' = 'present' then
    select * into v_answer
    from public.messages m
    where m.chat_id = v_chat.id and m.parent_id = (v_question -> 'message' ->> 'id')::uuid and m.role = 'assistant'
    order by m.state = 'complete' desc, m.created_at desc, m.id desc
    limit 1;
    if v_answer.state = 'complete' then
      return jsonb_build_object('status', 'present', 'question', v_question -> 'message', 'answer', eve.message_json(v_answer));
    elsif v_answer.state = 'pending' then
      return eve.refused('request_running', 'The answer to this message is being written. Read the chat, or ask again later.');
    end if;
  end if;
  if v_question -> 'message' -> 'parent_id' <> 'null' then
    v_path := public.eve_message_path(
      eve_chat_answer_begin.actor, v_chat.id, (v_question -> 'message' ->> 'parent_id')::uuid, v_most
    ) -> 'messages';
  end if;
  return json_build_object(
    'status', 'begun', 'question', v_question -> 'message', 'history', coalesce(v_path, '[]'), 'consumer_id', v_consumer_id,
    'answer', eve.message_from(
      v_chat.id,
      jsonb_build_object(
        'role', 'assistant', 'parent_id', v_question -> 'message' -> 'id', 'state', 'pending',
        'request_id', eve_chat_answer_begin.request_id
      )
    ) -> 'message'
  );
end;
$$;
comment on function public.eve_chat_answer_begin is 'Stores a question and the place of its answer.';

-- What an answer came to. state: complete, or broken_off with what had come. Twice is the same as once; `gone`: somebody erased the chat.
create or replace function public.eve_chat_answer_end(message_id uuid, state text, content text, parts jsonb default null, usage jsonb default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_before text;
  v_message public.messages;
begin
  -- The chat before what is in it, which is counted in the chat.
  perform
  from public.chats c
  where c.id = (select m.chat_id from public.messages m where m.id = eve_chat_answer_end.message_id)
  for no key update;
  select m.state into v_before from public.messages m where m.id = eve_chat_answer_end.message_id for no key update;
  update public.messages m
  set state = eve_chat_answer_end.state, content = eve_chat_answer_end.content, parts = nullif(eve_chat_answer_end.parts, 'null'),
    usage = nullif(eve_chat_answer_end.usage, 'null')
  where m.id = eve_chat_answer_end.message_id and m.state <> 'complete'
  returning * into v_message;
  if not found then
    select * into v_message from public.messages m where m.id = eve_chat_answer_end.message_id;
  elsif v_before = 'pending' then
    perform eve.chat_counted('eve_chat_answers_total', 'state', eve_chat_answer_end.state, 1);
  end if;
  return case
    when v_message.id is null then '{"status": "gone"}'
    else jsonb_build_object('status', 'ended', 'message', eve.message_json(v_message))
  end;
end;
$$;
comment on function public.eve_chat_answer_end is 'Stores what an answer came to.';
