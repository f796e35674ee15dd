-- The way down of 20261129000100_graph_tables.sql.
-- rows: eve.event_consumers where name in ('graph')
-- seed: eve.event_consumers {"kind":"graph","name":"graph","types":["post.saved.v1","post.deleted.v1","post.linked.v1","vision.uploaded.v1","vision.analyzed.v1","crawl.*","article.*"],"retry_s":[5,60,600,3600],"is_active":true,"consumer_id":null,"max_in_flight":100}

set local lock_timeout = '10s';

drop trigger eve_post_media_changed on public.post_media_map;
drop trigger eve_post_changed on public.posts;
drop trigger eve_post_inserted_or_deleted on public.posts;

delete from eve.event_consumers where name in ('graph');

drop function eve.post_event(text, text, uuid, text);

-- All of it is in the tables of posts and pictures, too.
drop table public.graph_edges, public.graph_nodes, eve.graph_counts;

drop function eve.graph_counted();
drop function eve.post_media_changed();
drop function eve.post_changed();
