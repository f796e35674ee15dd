-- The way down of 20261129000400_graph_sinks.sql.
-- rows: eve.operations where name in ('neo4j')
-- seed: eve.operations {"name":"neo4j","schedule":"* * * * *","is_active":true,"time_limit_ms":50000}
-- rows: eve.maintenance_expected where operation in ('neo4j')
-- seed: eve.maintenance_expected {"within_s":1800,"operation":"neo4j"}

set local lock_timeout = '10s';

delete from eve.operations where name in ('neo4j');
delete from eve.maintenance_expected where operation in ('neo4j');
do $$
begin
  if to_regclass('cron.job') is not null then
    perform cron.unschedule(j.jobname) from cron.job j where j.jobname in ('eve_graph', 'eve_neo4j');
  end if;
end;
$$;

drop function eve.graph_sink_is_due(text);
drop function eve.graph_sink_json(eve.graph_sinks);
drop function public.eve_graph_sink_done(text, bigint, jsonb, bigint, bigint, boolean, bigint, integer, text, bigint);
drop function public.eve_graph_sink_open(text, boolean);
drop function public.eve_graph_sink_read(text[]);
drop function public.eve_graph_sink_take(text, integer, integer);
drop function public.eve_graph_sync(jsonb, text, text, jsonb);

drop table eve.graph_sinks;
