-- The way down of 20261123000550_media_comparison.sql.

set local lock_timeout = '10s';

drop function public.eve_media_abilities(text);
drop function public.eve_media_abilities_save(text, jsonb);
drop function public.eve_media_compare(jsonb, text, text, timestamp with time zone);
drop function public.eve_media_comparison();
drop function public.eve_media_comparison_save(jsonb);
drop function public.eve_media_in_s3();
drop function public.eve_media_recount();
