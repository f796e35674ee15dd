-- The way down of 20261123000400_media_reading.sql.

set local lock_timeout = '10s';

drop function eve.media_counter_json(text, text, bigint);
drop function eve.media_limit(text);
drop function eve.media_named(text, text);
drop function eve.media_tenant_limit(text);
drop function public.eve_media_find(jsonb, text, text, boolean, boolean);
drop function public.eve_media_list(jsonb, text, text, text, boolean, text, integer);
drop function public.eve_storage_check(jsonb, text, bigint, text, boolean);
drop function public.eve_storage_quota(jsonb, text);
drop function public.eve_storage_stats(jsonb);
drop function public.eve_storage_usage(jsonb, text);
