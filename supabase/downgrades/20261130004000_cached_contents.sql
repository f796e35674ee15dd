-- The way down of 20261130004000_cached_contents.sql.
-- rows: eve.settings where name in ('cached_contents_max')
-- seed: eve.settings {"name":"cached_contents_max","value":20}

set local lock_timeout = '10s';

delete from eve.settings where name in ('cached_contents_max');

drop function eve.cached_content_missing(text);
drop function eve.cached_contents_for(uuid, uuid);
drop function public.eve_cached_content(text, uuid, uuid);
drop function public.eve_cached_content_change(text, jsonb, timestamp with time zone, uuid, uuid);
drop function public.eve_cached_content_store(jsonb, uuid);
drop function public.eve_cached_contents(uuid, uuid, integer, text);

drop table eve.cached_contents;
