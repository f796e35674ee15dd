-- The way down of 20261130002000_answer_cache.sql.
-- rows: eve.metric_counters where (labels, metric) in (('{"result":"hit"}'::jsonb, 'eve_cache_requests_total'), ('{"result":"miss"}'::jsonb, 'eve_cache_requests_total'), ('{"type":"input"}'::jsonb, 'eve_cache_saved_tokens_total'), ('{"type":"output"}'::jsonb, 'eve_cache_saved_tokens_total'))
-- seed: eve.metric_counters {}
-- seed: eve.cache_limits {"only_row":true,"max_bytes":104857600}

set local lock_timeout = '10s';

delete from eve.metric_counters where (labels, metric) in (('{"result":"hit"}'::jsonb, 'eve_cache_requests_total'), ('{"result":"miss"}'::jsonb, 'eve_cache_requests_total'), ('{"type":"input"}'::jsonb, 'eve_cache_saved_tokens_total'), ('{"type":"output"}'::jsonb, 'eve_cache_saved_tokens_total'));

drop function eve.cache_count(uuid, text, text, integer, integer, bigint, bigint);
drop function eve.cache_scope(uuid, uuid, integer);
drop function eve.cache_trim(integer);
drop function public.eve_cache_begin(text, text[], text, uuid, uuid, integer, text, boolean);
drop function public.eve_cache_keep(uuid, text, text, integer, text, text, integer, integer);
drop function public.eve_cache_release(uuid);
drop function public.eve_cache_renew(uuid);

-- Their media objects are released, and the clean-up of the media deletes them.
delete from eve.cached_answers;
drop table eve.cache_hours, eve.cache_limits, eve.cached_answers, eve.consumer_caches;

drop function eve.cached_answers_went();
