-- The way down of 20261125000900_chats_rights.sql.

set local lock_timeout = '10s';

-- Rights only get fewer on the way: tables stay closed to those to whom the migration closed them.
revoke all on table public.chats, public.messages, public.message_images, public.search_results, public.chat_shares from authenticated;
drop policy chat_shares_delete on public.chat_shares;
drop policy chat_shares_read on public.chat_shares;
drop policy chats_own on public.chats;
drop policy message_images_add on public.message_images;
drop policy message_images_read on public.message_images;
drop policy messages_add on public.messages;
drop policy messages_feedback on public.messages;
drop policy messages_read on public.messages;
drop policy search_results_add on public.search_results;
drop policy search_results_delete on public.search_results;
drop policy search_results_read on public.search_results;

drop function public.eve_chat_realtime();
