-- The way down of 20261123000300_media_quota.sql.

set local lock_timeout = '10s';

drop function eve.media_check_file(text, bigint, bigint, text, text, text);
drop function eve.media_count(text, text, bigint, bigint, integer);
drop function eve.media_json(public.media_objects);
drop function eve.media_limits_of(text, text);
drop function eve.media_link(text, text, jsonb);
drop function eve.media_lock_counters(text, text);
drop function eve.media_multipart(text, text);
drop function eve.media_no_room(text, text, bigint, boolean, jsonb);
drop function eve.media_quota_refusal(text, text, jsonb);
drop function eve.media_reserve_again(public.media_objects, bigint, bigint, text, text, timestamp with time zone, timestamp with time zone);
drop function eve.media_take_room(text, text, bigint, jsonb);
drop function public.eve_media_multipart(text, text, text, bigint, text);
drop function public.eve_media_reserve(jsonb, text, text, bigint, bigint, text, text, text, text, jsonb, jsonb, boolean, integer, integer);
drop function public.eve_media_stored(text, text, text, bigint, text, jsonb, text);
