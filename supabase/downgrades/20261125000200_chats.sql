-- The way down of 20261125000200_chats.sql.
-- rows: eve.retention where table_name in ('public.chats')
-- seed: eve.retention {"keep":"30 days","at_least":"00:01:00","batch_rows":100,"table_name":"public.chats","batch_function":"retention_of_chats"}

set local lock_timeout = '10s';

delete from eve.retention where table_name in ('public.chats');

drop function eve.chat_actor(jsonb);
drop function eve.chat_json(public.chats);
drop function eve.chat_of(jsonb, uuid);
drop function eve.chat_page(text, jsonb, integer);
drop function eve.chat_refusal(jsonb, public.chats, boolean);
drop function eve.retention_of_chats(regclass, text, timestamp with time zone, integer, jsonb);
drop function public.eve_chat(jsonb, uuid);
drop function public.eve_chat_change(jsonb, uuid, jsonb);
drop function public.eve_chat_create(jsonb, jsonb);
drop function public.eve_chat_erase(jsonb, uuid);
drop function public.eve_chat_share(jsonb, uuid, text, jsonb, integer);
drop function public.eve_chat_shared(text);
drop function public.eve_chat_shares(jsonb, uuid);
drop function public.eve_chat_unshare(jsonb, uuid, uuid);
drop function public.eve_chats(jsonb, text, boolean, boolean, jsonb, integer);
