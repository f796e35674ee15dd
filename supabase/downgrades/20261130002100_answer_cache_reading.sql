-- The way down of 20261130002100_answer_cache_reading.sql.
-- rows: eve.retention where table_name in ('eve.cached_answers', 'eve.cache_hours')
-- seed: eve.retention {"keep":"30 days","at_least":"01:00:00","batch_rows":500,"table_name":"eve.cached_answers","batch_function":"retention_of_cached_answers"}
-- seed: eve.retention {"keep":"400 days","at_least":"1 day","batch_rows":2000,"table_name":"eve.cache_hours","batch_function":"retention_of_cache_hours"}

set local lock_timeout = '10s';

delete from eve.retention where table_name in ('eve.cached_answers', 'eve.cache_hours');

drop function eve.retention_of_cache_hours(regclass, text, timestamp with time zone, integer, jsonb);
drop function eve.retention_of_cached_answers(regclass, text, timestamp with time zone, integer, jsonb);
drop function public.eve_cache_consumers();
drop function public.eve_cache_flush(text, text, text, boolean);
drop function public.eve_cache_limit(bigint);
drop function public.eve_cache_metrics();
drop function public.eve_cache_set(text, integer, boolean);
drop function public.eve_cache_stats(timestamp with time zone, timestamp with time zone, text, text);
