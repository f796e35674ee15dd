-- The way down of 20261124001600_event_metrics.sql.
-- rows: eve.metric_counters where (labels, metric) in (('{"result":"delivered","consumer":"webhook"}'::jsonb, 'eve_event_deliveries_total'), ('{"result":"failed","consumer":"webhook"}'::jsonb, 'eve_event_deliveries_total'), ('{"result":"gone","consumer":"webhook"}'::jsonb, 'eve_event_deliveries_total'), ('{"result":"lost","consumer":"webhook"}'::jsonb, 'eve_event_deliveries_total'))
-- seed: eve.metric_counters {}

set local lock_timeout = '10s';

delete from eve.metric_counters where (labels, metric) in (('{"result":"delivered","consumer":"webhook"}'::jsonb, 'eve_event_deliveries_total'), ('{"result":"failed","consumer":"webhook"}'::jsonb, 'eve_event_deliveries_total'), ('{"result":"gone","consumer":"webhook"}'::jsonb, 'eve_event_deliveries_total'), ('{"result":"lost","consumer":"webhook"}'::jsonb, 'eve_event_deliveries_total'));

drop function public.eve_event_metrics();
