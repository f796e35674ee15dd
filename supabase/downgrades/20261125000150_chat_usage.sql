-- The way down of 20261125000150_chat_usage.sql.
-- rows: eve.settings where name in ('chats_user_max', 'chats_user_max_messages', 'chats_user_max_bytes')
-- seed: eve.settings {"name":"chats_user_max","value":10000}
-- seed: eve.settings {"name":"chats_user_max_messages","value":200000}
-- seed: eve.settings {"name":"chats_user_max_bytes","value":268435456}
-- seed: eve.chat_owners {}

set local lock_timeout = '10s';

drop trigger eve_count_added on public.chat_shares;
drop trigger eve_count_deleted on public.chat_shares;
drop trigger eve_chat_goes on public.chats;
drop trigger eve_count_chat on public.chats;
drop trigger eve_count_added on public.message_images;
drop trigger eve_count_deleted on public.message_images;
drop trigger eve_count_answer on public.messages;
drop trigger eve_count_deleted on public.messages;
drop trigger eve_place_message on public.messages;
drop trigger eve_count_added on public.search_results;
drop trigger eve_count_deleted on public.search_results;

delete from eve.settings where name in ('chats_user_max', 'chats_user_max_messages', 'chats_user_max_bytes');

drop function eve.chat_files_lock(uuid[]);
drop function eve.chat_is_own_locked(uuid);
drop function eve.chat_keeps(uuid, bigint, bigint);
drop function eve.chat_owner_keeps(uuid, bigint, bigint, bigint);
drop function eve.chat_steps(bigint, bigint);
drop function eve.message_bytes(text, jsonb);

drop table eve.chat_owners;

drop function eve.chat_goes();
drop function eve.count_answer();
drop function eve.count_chat();
drop function eve.count_chat_rows();
drop function eve.place_message();
