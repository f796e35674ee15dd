-- The way down of 20261123000600_media_spool.sql.

set local lock_timeout = '10s';

drop function public.eve_media_spool_delete(text[]);
drop function public.eve_media_spool_failed(text, text, integer);
drop function public.eve_media_spool_get(text, integer, integer);
drop function public.eve_media_spool_list(text, text, integer);
drop function public.eve_media_spool_moved(text);
drop function public.eve_media_spool_moves();
drop function public.eve_media_spool_next(integer);
drop function public.eve_media_spool_put(text, text, text, text, text, boolean);
