-- The way down of 20261129000900_graph_rights.sql.

set local lock_timeout = '10s';

drop policy graph_edges_read on public.graph_edges;
drop policy graph_nodes_read on public.graph_nodes;
