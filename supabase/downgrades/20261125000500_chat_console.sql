-- The way down of 20261125000500_chat_console.sql.
-- rows: eve.settings where name in ('chats_text_for_administrators')
-- seed: eve.settings {"name":"chats_text_for_administrators","value":0}

set local lock_timeout = '10s';

delete from eve.settings where name in ('chats_text_for_administrators');

drop function eve.chat_for_administrator(public.chats);
drop function eve.chat_tokens(jsonb, text);
drop function eve.chats_text_shown();
drop function public.eve_admin_chat(uuid, jsonb, integer);
drop function public.eve_admin_chats(jsonb, jsonb, integer);
