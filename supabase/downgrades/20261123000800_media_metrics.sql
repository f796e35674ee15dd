-- The way down of 20261123000800_media_metrics.sql.
-- rows: eve.metric_counters where (labels, metric) in (('{}'::jsonb, 'storage_emergency_cleanups_total'))
-- seed: eve.metric_counters {}
-- seed: eve.media_upload_times {}

set local lock_timeout = '10s';

delete from eve.metric_counters where (labels, metric) in (('{}'::jsonb, 'storage_emergency_cleanups_total'));

drop function eve.media_metric_kind(text);
drop function eve.media_upload_bounds();
drop function public.eve_storage_count(jsonb);
drop function public.eve_storage_growth(jsonb, integer);
drop function public.eve_storage_metrics();

drop table eve.media_upload_times;
