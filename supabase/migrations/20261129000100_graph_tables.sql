-- The graph of what was found: posts, their pictures, articles, labels, channels and domains, and how they hang together (public, so that
-- signed-in users read their tenants' own). It is written from events, and says what the tables of posts and pictures say: each event is
-- word that something has changed, and how it stands is read from there. So events may come twice, late and in any order.

set local lock_timeout = '10s';

create table if not exists public.graph_nodes (
  id bigint generated always as identity primary key,
  tenant_id text not null,
  kind text not null,
  -- By bytes: a beginning of it is found by the index, whatever the database's locale is.
  key text collate "C" not null,
  properties jsonb not null default '{}',
  trace_id text,
  at timestamptz not null,
  constraint graph_nodes_tenant_id_kind_key_key unique (tenant_id, kind, key),
  constraint graph_nodes_tenant_id_fkey foreign key (tenant_id) references eve.tenants (id),
  constraint graph_nodes_kind_known check (kind in ('Post', 'ImageContent', 'Article', 'Label', 'Channel', 'Domain')),
  constraint graph_nodes_key_size check (octet_length(key) between 1 and 2000),
  constraint graph_nodes_properties_size check (jsonb_typeof(properties) = 'object' and octet_length(properties::text) <= 8192),
  constraint graph_nodes_trace_id_form check (trace_id ~ '^[0-9a-f]{32}$')
);
create index if not exists graph_nodes_newest_idx on public.graph_nodes (tenant_id, kind, id desc);
comment on table public.graph_nodes is 'What was found: posts, pictures, articles, labels, channels, domains. Its members read their tenant''s.';
comment on column public.graph_nodes.key is 'Of a Post its id, of an ImageContent its SHA-256, of an Article its canonical URL, of a Label its text, of a Channel the posts'' source, of a Domain its host.';
comment on column public.graph_nodes.properties is 'A few facts to show, 8 KiB at most; all of it is in the tables that it comes from.';
comment on column public.graph_nodes.trace_id is 'Of the request that brought it first, of those that it is still here for: 32 hexadecimal digits.';
comment on column public.graph_nodes.at is 'When that was.';

create table if not exists public.graph_edges (
  id bigint generated always as identity primary key,
  tenant_id text not null,
  kind text not null,
  from_id bigint not null,
  to_id bigint not null,
  properties jsonb not null default '{}',
  trace_id text,
  at timestamptz not null,
  -- All edges from a node, by their kinds; a node has some dozens.
  constraint graph_edges_from_id_kind_to_id_key unique (from_id, kind, to_id),
  constraint graph_edges_from_id_fkey foreign key (from_id) references public.graph_nodes (id),
  constraint graph_edges_to_id_fkey foreign key (to_id) references public.graph_nodes (id),
  constraint graph_edges_kind_known check (kind in ('HAS_IMAGE', 'LINKS_TO', 'HAS_LABEL', 'PUBLISHED_IN', 'NEAR_DUPLICATE_OF')),
  constraint graph_edges_properties_size check (jsonb_typeof(properties) = 'object' and octet_length(properties::text) <= 1024),
  constraint graph_edges_trace_id_form check (trace_id ~ '^[0-9a-f]{32}$')
);
-- Edges to a node, the newest first: a label or a channel may have any number.
create index if not exists graph_edges_to_id_at_idx on public.graph_edges (to_id, at desc);
create index if not exists graph_edges_tenant_id_idx on public.graph_edges (tenant_id);
comment on table public.graph_edges is 'How nodes of a tenant hang together. Its members read their tenant''s.';
comment on column public.graph_edges.trace_id is 'Of the request that brought what the edge begins at.';
comment on column public.graph_edges.at is 'When that was.';

create table if not exists eve.graph_counts (
  tenant_id text not null,
  kind text not null,
  total bigint not null,
  primary key (tenant_id, kind)
) with (fillfactor = 50);
comment on table eve.graph_counts is 'How many nodes and edges of a kind a tenant has: to count millions takes too long to ask often.';

create or replace function eve.graph_counted()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  insert into eve.graph_counts as c (tenant_id, kind, total)
  select t.tenant_id, t.kind, case tg_op when 'INSERT' then count(*) else -count(*) end
  from changed t
  group by t.tenant_id, t.kind
  order by t.tenant_id, t.kind
  on conflict on constraint graph_counts_pkey do update set total = c.total + excluded.total;
  return null;
end;
$$;
create or replace trigger eve_graph_node_added
after insert on public.graph_nodes referencing new table as changed
for each statement execute function eve.graph_counted();
create or replace trigger eve_graph_node_removed
after delete on public.graph_nodes referencing old table as changed
for each statement execute function eve.graph_counted();
create or replace trigger eve_graph_edge_added
after insert on public.graph_edges referencing new table as changed
for each statement execute function eve.graph_counted();
create or replace trigger eve_graph_edge_removed
after delete on public.graph_edges referencing old table as changed
for each statement execute function eve.graph_counted();

-- Who writes the graph: a consumer of the outbox in the database itself. Switched off (is_active), nothing is written for it.
insert into eve.event_consumers (name, kind, types, retry_s, max_in_flight) values
  ('graph', 'graph', '{post.saved.v1,post.deleted.v1,post.linked.v1,vision.uploaded.v1,vision.analyzed.v1,crawl.*,article.*}', '{5,60,600,3600}', 100)
on conflict (name) do nothing;

-- A post that was added, changed, or has other pictures: one event for all that a transaction does to it.
create or replace function eve.post_event(type text, tenant_id text, post_id uuid, trace_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform eve.emit_event(
    '/posts', post_event.type, post_event.post_id::text,
    jsonb_build_object('tenant_id', post_event.tenant_id, 'post_id', post_event.post_id, 'trace_id', post_event.trace_id),
    traceparent => eve.vision_traceparent(post_event.trace_id),
    -- With the time, since a restored database counts its transactions again.
    event_id => md5(format('%s %s %s %s', pg_current_xact_id(), transaction_timestamp(), post_event.type, post_event.post_id))::uuid
  );
end;
$$;

create or replace function eve.post_changed()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    perform eve.post_event('post.deleted.v1', old.tenant_id, old.id, old.trace_id);
  else
    perform eve.post_event('post.saved.v1', new.tenant_id, new.id, new.trace_id);
  end if;
  return null;
end;
$$;
create or replace trigger eve_post_inserted_or_deleted
after insert or delete on public.posts
for each row execute function eve.post_changed();
create or replace trigger eve_post_changed
after update on public.posts
for each row
when (
  (old.source, old.external_id, old.text, old.published_at, old.metadata)
    is distinct from (new.source, new.external_id, new.text, new.published_at, new.metadata)
)
execute function eve.post_changed();

create or replace function eve.post_media_changed()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_post public.posts;
begin
  -- Without one: it was deleted, which has an event of its own.
  select * into v_post from public.posts p where p.id = case tg_op when 'DELETE' then old.post_id else new.post_id end;
  if found then
    perform eve.post_event('post.saved.v1', v_post.tenant_id, v_post.id, v_post.trace_id);
  end if;
  return null;
end;
$$;
create or replace trigger eve_post_media_changed
after insert or delete on public.post_media_map
for each row execute function eve.post_media_changed();
