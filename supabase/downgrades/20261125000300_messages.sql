-- The way down of 20261125000300_messages.sql.

set local lock_timeout = '10s';

drop function eve.message_from(uuid, jsonb);
drop function eve.message_from_actor(jsonb, uuid);
drop function eve.message_json(public.messages);
drop function eve.messages_json(uuid[]);
drop function public.eve_chat_answer_begin(jsonb, uuid, jsonb, text, text);
drop function public.eve_chat_answer_end(uuid, text, text, jsonb, jsonb);
drop function public.eve_message_add(jsonb, uuid, jsonb);
drop function public.eve_message_feedback(jsonb, uuid, text);
drop function public.eve_message_path(jsonb, uuid, uuid, integer);
drop function public.eve_messages(jsonb, uuid, jsonb, boolean, integer);
