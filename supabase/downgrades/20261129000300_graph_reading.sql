-- The way down of 20261129000300_graph_reading.sql.

set local lock_timeout = '10s';

drop function eve.graph_edge_json(public.graph_edges, public.graph_nodes, public.graph_nodes);
drop function eve.graph_new_step(bigint[], bigint[], integer, integer);
drop function eve.graph_node_for(jsonb, text, text, text);
drop function eve.graph_node_json(public.graph_nodes);
drop function eve.graph_step(bigint[], text[], integer);
drop function public.eve_graph_metrics();
drop function public.eve_graph_neighbours(jsonb, text, text, text, integer, integer, text[]);
drop function public.eve_graph_nodes(jsonb, text, text, text, bigint, integer);
drop function public.eve_graph_path(jsonb, text, text, text, text, text, integer);
drop function public.eve_graph_related(jsonb, text, text, integer);
drop function public.eve_graph_stats(jsonb, text);
