-- The way down of 20261127003200_telegram_taking.sql.

set local lock_timeout = '10s';

drop function eve.telegram_count(text, text, bigint);
drop function eve.telegram_kinds();
drop function eve.telegram_submit(eve.telegram_updates[]);
drop function public.eve_telegram_begin(uuid, bigint, bigint);
drop function public.eve_telegram_take(bigint, jsonb);
