-- The way down of 20261126000600_vision_reading.sql.

set local lock_timeout = '10s';

drop function public.eve_vision_list(jsonb, text, text, integer);
drop function public.eve_vision_metrics();
drop function public.eve_vision_policy(jsonb, text);
drop function public.eve_vision_policy_save(jsonb, jsonb, text);
drop function public.eve_vision_search(jsonb, text, text, text, integer);
drop function public.eve_vision_stats(jsonb, text, integer);
