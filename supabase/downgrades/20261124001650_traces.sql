-- The way down of 20261124001650_traces.sql.
-- rows: eve.settings where name in ('trace_export', 'trace_export_keep_s')
-- seed: eve.settings {"name":"trace_export","value":0}
-- seed: eve.settings {"name":"trace_export_keep_s","value":86400}
-- rows: eve.operations where name in ('traces')
-- seed: eve.operations {"name":"traces","schedule":"* * * * *","is_active":true,"time_limit_ms":50000}
-- rows: eve.maintenance_expected where operation in ('traces')
-- seed: eve.maintenance_expected {"within_s":1800,"operation":"traces"}
-- rows: eve.metric_counters where (labels, metric) in (('{"result":"sent"}'::jsonb, 'eve_trace_spans_total'), ('{"result":"rejected"}'::jsonb, 'eve_trace_spans_total'), ('{"result":"lost"}'::jsonb, 'eve_trace_spans_total'))
-- seed: eve.metric_counters {}
-- seed: eve.trace_export {}

set local lock_timeout = '10s';

delete from eve.settings where name in ('trace_export', 'trace_export_keep_s');
delete from eve.operations where name in ('traces');
delete from eve.maintenance_expected where operation in ('traces');
delete from eve.metric_counters where (labels, metric) in (('{"result":"sent"}'::jsonb, 'eve_trace_spans_total'), ('{"result":"rejected"}'::jsonb, 'eve_trace_spans_total'), ('{"result":"lost"}'::jsonb, 'eve_trace_spans_total'));

drop function eve.count_spans(text, bigint);
drop function eve.traces_are_due();
drop function eve.traces_until();
drop function public.eve_traces_done(timestamp with time zone, bigint, bigint, bigint);
drop function public.eve_traces_next(integer);

drop table eve.trace_export;
