-- The way down of 20261129000200_graph_writing.sql.
-- rows: eve.operations where name in ('graph')
-- seed: eve.operations {"name":"graph","schedule":"5 seconds","is_active":true,"time_limit_ms":10000}
-- rows: eve.maintenance_expected where operation in ('graph')
-- seed: eve.maintenance_expected {"within_s":600,"operation":"graph"}

set local lock_timeout = '10s';

delete from eve.operations where name in ('graph');
delete from eve.maintenance_expected where operation in ('graph');

drop function eve.graph_apply(jsonb);
drop function eve.graph_edges_wanted(text, text, text);
drop function eve.graph_lock(text);
drop function eve.graph_node_wanted(text, text, text);
drop function eve.graph_rebuild(text, jsonb, integer);
drop function eve.graph_tell_change(text, text[], text);
drop function eve.graph_tick();
drop function eve.graph_write(text, jsonb, text);
drop function eve.graph_write_node(text, text, text);
drop function public.eve_graph_deliver(integer);
