-- The way down of 20261127003400_telegram_upkeep.sql.

set local lock_timeout = '10s';

drop function eve.telegram_stuck(bigint);
drop function public.eve_post_delete(jsonb, uuid);
drop function public.eve_telegram_connect(bigint, text, text, jsonb, text[]);
drop function public.eve_telegram_disconnect(bigint);
drop function public.eve_telegram_metrics();
drop function public.eve_telegram_replay(bigint, bigint[]);
drop function public.eve_telegram_status(bigint);
