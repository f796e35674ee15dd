-- The way down of 20261125000100_chats_tables.sql.
--
-- Tables that an application had before are given back with their rows (eve.return_table). What the migration set in columns that
-- were there stays: types, archived_at from is_archived. Policies that it dropped are in eve.adoption_warnings.
-- rows: eve.media_references where ref_kind = 'message_image'

set local lock_timeout = '10s';

-- Nothing would free these files any more.
delete from eve.media_references where ref_kind = 'message_image';

-- Those that refer to others first.
select eve.return_table('public.search_results');
select eve.return_table('public.message_images');
select eve.return_table('public.chat_shares');
select eve.return_table('public.messages');
select eve.return_table('public.chats');

drop function eve.chat_is_bounded(text, text, text, jsonb);
drop function eve.message_is_bounded(text, text, text, jsonb, text, text, jsonb, text, text);
drop function eve.release_image();
