-- The way down of 20261127003300_telegram_posts.sql.

set local lock_timeout = '10s';

drop function eve.telegram_delete(bigint, text, bigint[]);
drop function eve.telegram_fold(bigint, text, text, bigint);
drop function eve.telegram_note(eve.telegram_updates, jsonb);
drop function eve.telegram_post(eve.telegram_updates, text, jsonb);
drop function eve.telegram_renew(public.posts, jsonb, text);
drop function public.eve_telegram_apply(uuid, bigint, bigint, jsonb, text, boolean);
