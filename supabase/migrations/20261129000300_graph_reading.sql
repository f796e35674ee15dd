-- Reading the graph: neighbours, a path, related posts, nodes, figures. Each looks at a bounded number of edges, however many there are.

set local lock_timeout = '10s';

create or replace function eve.graph_node_json(node public.graph_nodes)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', (node).kind || '/' || (node).key, 'kind', (node).kind, 'key', (node).key, 'properties', (node).properties,
    'trace_id', (node).trace_id, 'at', (node).at
  );
$$;

-- The node that is meant, or the refusal: {"status": "found", "tenant_id", "node_id"}.
create or replace function eve.graph_node_for(actor jsonb, tenant_id text, kind text, key text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(graph_node_for.actor, graph_node_for.tenant_id, 'vision');
  v_id bigint;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  select n.id into v_id
  from public.graph_nodes n
  where n.tenant_id = v_who ->> 'tenant_id' and n.kind = graph_node_for.kind and n.key = graph_node_for.key;
  if v_id is null then
    return eve.refused('graph_node_not_found');
  end if;
  return jsonb_build_object('status', 'found', 'tenant_id', v_who ->> 'tenant_id', 'node_id', v_id);
end;
$$;

-- What one step leads to from these nodes, in both directions: of each node all edges from it, and the newest `fan_out` of those to it.
-- An edge between two of them is there twice.
create or replace function eve.graph_step(nodes bigint[], kinds text[], fan_out integer)
returns table (from_id bigint, to_id bigint, at timestamptz)
-- Its plan is kept, other than that of a function in SQL.
language plpgsql
stable
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
rows 1000
as $$
#variable_conflict use_column
begin
  return query
  select e.from_id, e.to_id, e.at
  from unnest(graph_step.nodes) as f (id)
  join public.graph_edges e on e.from_id = f.id
  where graph_step.kinds is null or e.kind = any (graph_step.kinds)
  union all
  select i.to_id, i.from_id, i.at
  from unnest(graph_step.nodes) as f (id)
  cross join lateral (
    select e.from_id, e.to_id, e.at
    from public.graph_edges e
    where e.to_id = f.id and (graph_step.kinds is null or e.kind = any (graph_step.kinds))
    order by e.at desc
    limit graph_step.fan_out
  ) i;
end;
$$;

-- What hangs together with a node, `depth` edges away at most (1 to 3): {"status": "found", "tenant_id", "nodes": [.. with "depth"],
-- "edges": [{"kind", "from", "to", "properties"}], "truncated"}. at_most: nodes, the nearest and of those the newest. kinds: edges to
-- follow; null: all.
create or replace function public.eve_graph_neighbours(
  actor jsonb, kind text, key text, tenant_id text default null, depth integer default 1, at_most integer default 100, kinds text[] default null
)
returns json
language plpgsql
stable
set search_path = ''
as $$
declare
  v_most constant integer := least(greatest(eve_graph_neighbours.at_most, 1), 500);
  v_who constant jsonb := eve.graph_node_for(
    eve_graph_neighbours.actor, eve_graph_neighbours.tenant_id, eve_graph_neighbours.kind, eve_graph_neighbours.key
  );
  v_seen bigint[];
  v_depths integer[] := '{0}';
  v_frontier bigint[];
  v_found integer;
  v_is_cut boolean := false;
  v_answer json;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who::json;
  end if;
  v_seen := array[(v_who ->> 'node_id')::bigint];
  v_frontier := v_seen;
  for v_depth in 1 .. least(greatest(eve_graph_neighbours.depth, 1), 3) loop
    select array_agg(n.id order by n.at desc, n.id desc), count(*)
    into v_frontier, v_found
    from (
      select s.to_id as id, max(s.at) as at
      -- One more than there is room for, so that it shows when there is none.
      from eve.graph_step(v_frontier, eve_graph_neighbours.kinds, v_most + 1) s
      where s.to_id <> all (v_seen)
      group by s.to_id
      order by max(s.at) desc, s.to_id desc
      limit v_most + 1 - cardinality(v_seen) + 1
    ) n;
    exit when v_frontier is null;
    if cardinality(v_seen) + v_found > v_most + 1 then
      v_is_cut := true;
      v_frontier := v_frontier[: v_most + 1 - cardinality(v_seen)];
    end if;
    v_seen := v_seen || v_frontier;
    v_depths := v_depths || array_fill(v_depth, array[cardinality(v_frontier)]);
    exit when v_is_cut or cardinality(v_frontier) = 0;
  end loop;
  -- As graph_node_json and graph_edge_json have them, in place and as json: a hundred nodes take 2 ms so, and 4.4 by those two.
  select json_build_object(
    'status', 'found', 'tenant_id', v_who ->> 'tenant_id', 'truncated', v_is_cut,
    'nodes', (
      select json_agg(json_build_object(
        'id', n.kind || '/' || n.key, 'kind', n.kind, 'key', n.key, 'properties', n.properties, 'trace_id', n.trace_id, 'at', n.at,
        'depth', s.depth
      ) order by s.nr)
      from unnest(v_seen, v_depths) with ordinality as s (id, depth, nr)
      join public.graph_nodes n on n.id = s.id
    ),
    'edges', (
      select coalesce(json_agg(json_build_object(
        'kind', e.kind, 'from', a.kind || '/' || a.key, 'to', b.kind || '/' || b.key, 'properties', e.properties, 'trace_id', e.trace_id,
        'at', e.at
      ) order by e.id), '[]')
      from public.graph_edges e
      join public.graph_nodes a on a.id = e.from_id
      join public.graph_nodes b on b.id = e.to_id
      where e.from_id = any (v_seen) and e.to_id = any (v_seen)
        and (eve_graph_neighbours.kinds is null or e.kind = any (eve_graph_neighbours.kinds))
    )
  )
  into v_answer;
  return v_answer;
end;
$$;
comment on function public.eve_graph_neighbours is 'What hangs together with a node of the graph, some edges away.';

create or replace function eve.graph_edge_json(edge public.graph_edges, begins public.graph_nodes, ends public.graph_nodes)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'kind', (edge).kind, 'from', (begins).kind || '/' || (begins).key, 'to', (ends).kind || '/' || (ends).key,
    'properties', (edge).properties, 'trace_id', (edge).trace_id, 'at', (edge).at
  );
$$;

-- A shortest path between two nodes, whichever way its edges point, `depth` edges long at most (1 to 8): {"status": "found", "tenant_id",
-- "length", "nodes", "edges", "truncated"}; length null: there is none, or, if truncated, none within the edges that were looked at (of
-- each node the newest 200; 5,000 nodes from either end).
create or replace function public.eve_graph_path(
  actor jsonb, from_kind text, from_key text, to_kind text, to_key text, tenant_id text default null, depth integer default 4
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_fan_out constant integer := 200;
  v_most constant integer := 5000;
  v_from constant jsonb := eve.graph_node_for(
    eve_graph_path.actor, eve_graph_path.tenant_id, eve_graph_path.from_kind, eve_graph_path.from_key
  );
  v_to constant jsonb := eve.graph_node_for(eve_graph_path.actor, eve_graph_path.tenant_id, eve_graph_path.to_kind, eve_graph_path.to_key);
  -- Of either end: what was seen, which node it was seen from, and where the last step began in it.
  v_seen_a bigint[] := array[(v_from ->> 'node_id')::bigint];
  v_seen_b bigint[] := array[(v_to ->> 'node_id')::bigint];
  v_by_a bigint[] := '{0}';
  v_by_b bigint[] := '{0}';
  v_edge_a bigint[] := v_seen_a;
  v_edge_b bigint[] := v_seen_b;
  v_next bigint[];
  v_by bigint[];
  v_is_cut boolean := false;
  v_meets bigint;
  v_path bigint[];
  v_at bigint;
begin
  if v_from ->> 'status' = 'refused' then
    return v_from;
  elsif v_to ->> 'status' = 'refused' then
    return v_to;
  end if;
  if v_seen_a = v_seen_b then
    v_meets := v_seen_a[1];
  end if;
  for v_step in 1 .. least(greatest(eve_graph_path.depth, 1), 8) loop
    exit when v_meets is not null or cardinality(v_edge_a) = 0 or cardinality(v_edge_b) = 0;
    -- From the end that has fewer nodes to go on from.
    if cardinality(v_edge_a) <= cardinality(v_edge_b) then
      select coalesce(array_agg(n.to_id), '{}'), coalesce(array_agg(n.from_id), '{}') into v_next, v_by
      from eve.graph_new_step(v_edge_a, v_seen_a, v_fan_out, v_most) n;
      v_is_cut := v_is_cut or cardinality(v_next) >= v_most;
      v_seen_a := v_seen_a || v_next;
      v_by_a := v_by_a || v_by;
      v_edge_a := v_next;
    else
      select coalesce(array_agg(n.to_id), '{}'), coalesce(array_agg(n.from_id), '{}') into v_next, v_by
      from eve.graph_new_step(v_edge_b, v_seen_b, v_fan_out, v_most) n;
      v_is_cut := v_is_cut or cardinality(v_next) >= v_most;
      v_seen_b := v_seen_b || v_next;
      v_by_b := v_by_b || v_by;
      v_edge_b := v_next;
    end if;
    select min(a.id) into v_meets from unnest(v_seen_a) as a (id) where a.id = any (v_seen_b);
    exit when v_is_cut;
  end loop;
  if v_meets is not null then
    v_at := v_meets;
    while v_at > 0 loop
      v_path := v_at || v_path;
      v_at := v_by_a[array_position(v_seen_a, v_at)];
    end loop;
    v_at := v_by_b[array_position(v_seen_b, v_meets)];
    while v_at > 0 loop
      v_path := v_path || v_at;
      v_at := v_by_b[array_position(v_seen_b, v_at)];
    end loop;
  end if;
  return jsonb_build_object(
    'status', 'found', 'tenant_id', v_from ->> 'tenant_id', 'truncated', v_is_cut and v_path is null, 'length', cardinality(v_path) - 1,
    'nodes', (
      select coalesce(jsonb_agg(eve.graph_node_json(n) order by p.nr), '[]')
      from unnest(v_path) with ordinality as p (id, nr)
      join public.graph_nodes n on n.id = p.id
    ),
    'edges', (
      select coalesce(jsonb_agg(e.edge order by e.nr), '[]')
      from (
        select p.nr, (
          select eve.graph_edge_json(e, a, b)
          from public.graph_edges e
          join public.graph_nodes a on a.id = e.from_id
          join public.graph_nodes b on b.id = e.to_id
          where (e.from_id, e.to_id) in ((p.id, v_path[p.nr + 1]), (v_path[p.nr + 1], p.id))
          order by e.kind
          limit 1
        ) as edge
        from unnest(v_path) with ordinality as p (id, nr)
        where p.nr < cardinality(v_path)
      ) e
    )
  );
end;
$$;
comment on function public.eve_graph_path is 'A shortest path between two nodes of the graph.';

-- The nodes that one step leads to and that were not seen, each with one that it was reached from.
create or replace function eve.graph_new_step(nodes bigint[], seen bigint[], fan_out integer, at_most integer)
returns table (from_id bigint, to_id bigint)
language sql
stable
set search_path = ''
rows 1000
as $$
  select min(s.from_id), s.to_id
  from eve.graph_step(graph_new_step.nodes, null, graph_new_step.fan_out) s
  where s.to_id <> all (graph_new_step.seen)
  group by s.to_id
  order by max(s.at) desc, s.to_id
  limit graph_new_step.at_most;
$$;

-- Posts that share something with a post: the same pictures and links, pictures that look the same, labels. What few have counts more
-- than what many do (its weight is divided by the logarithm of how many there are). {"status": "found", "tenant_id", "posts": [{"node",
-- "score", "shared": [nodes, 10 at most]}]}, the best first; of each thing that is shared the newest 300 are looked at.
create or replace function public.eve_graph_related(actor jsonb, key text, tenant_id text default null, at_most integer default 20)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_newest constant integer := 300;
  v_who constant jsonb := eve.graph_node_for(eve_graph_related.actor, eve_graph_related.tenant_id, 'Post', eve_graph_related.key);
  v_post constant bigint := (v_who ->> 'node_id')::bigint;
  v_answer jsonb;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  with own as materialized (
    select e.to_id as id, 3.0 as weight
    from public.graph_edges e
    where e.from_id = v_post and e.kind in ('HAS_IMAGE', 'LINKS_TO')
  ), things as materialized (
    select t.id, max(t.weight) as weight
    from (
      select o.id, o.weight from own o
      union all
      select e.to_id, case e.kind when 'HAS_LABEL' then 1.0 else 2.0 end
      from own o
      join public.graph_edges e on e.from_id = o.id and e.kind in ('HAS_LABEL', 'NEAR_DUPLICATE_OF')
      union all
      select n.from_id, 2.0
      from own o
      cross join lateral (
        select e.from_id from public.graph_edges e
        where e.to_id = o.id and e.kind = 'NEAR_DUPLICATE_OF'
        order by e.at desc
        limit v_newest
      ) n
    ) t
    group by t.id
  ), reached as materialized (
    select t.id as thing, t.weight, r.from_id as id, r.kind
    from things t
    cross join lateral (
      select e.from_id, e.kind from public.graph_edges e where e.to_id = t.id order by e.at desc limit v_newest
    ) r
  ), posts as materialized (
    select r.thing, r.weight, r.id from reached r where r.kind in ('HAS_IMAGE', 'LINKS_TO')
    union
    select r.thing, r.weight, p.from_id
    from reached r
    cross join lateral (
      select e.from_id from public.graph_edges e
      where e.to_id = r.id and e.kind in ('HAS_IMAGE', 'LINKS_TO')
      order by e.at desc
      limit v_newest
    ) p
    where r.kind = 'HAS_LABEL'
  ), best as (
    select p.id, sum(p.weight / ln(1 + h.holders)) as score, array_agg(p.thing order by p.weight / ln(1 + h.holders) desc, p.thing) as things
    from posts p
    join (select r.thing, count(*) + 1 as holders from reached r group by r.thing) h on h.thing = p.thing
    where p.id <> v_post
    group by p.id
    order by 2 desc, p.id desc
    limit least(greatest(eve_graph_related.at_most, 1), 100)
  )
  select jsonb_build_object(
    'status', 'found', 'tenant_id', v_who ->> 'tenant_id',
    'posts', coalesce(
      jsonb_agg(
        jsonb_build_object(
          'node', eve.graph_node_json(n), 'score', round(b.score::numeric, 4),
          'shared', (
            select jsonb_agg(eve.graph_node_json(s) order by t.nr)
            from unnest(b.things[: 10]) with ordinality as t (id, nr)
            join public.graph_nodes s on s.id = t.id
          )
        )
        order by b.score desc, b.id desc
      ), '[]'
    )
  )
  into v_answer
  from best b
  join public.graph_nodes n on n.id = b.id;
  return v_answer;
end;
$$;
comment on function public.eve_graph_related is 'Posts that share pictures, links or labels with a post.';

-- Nodes of a kind, the newest first; with a prefix those whose key begins so, by the key. {"status": "listed", "tenant_id", "nodes",
-- "next_before"}: to be asked with before for the next page, null at the end.
create or replace function public.eve_graph_nodes(
  actor jsonb, kind text, tenant_id text default null, prefix text default null, before bigint default null, at_most integer default 50
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_most constant integer := least(greatest(eve_graph_nodes.at_most, 1), 200);
  v_who constant jsonb := eve.tenant_of_actor(eve_graph_nodes.actor, eve_graph_nodes.tenant_id, 'vision');
  v_prefix constant text := nullif(left(eve_graph_nodes.prefix, 2000), '');
  v_answer jsonb;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  with page as (
    select n.id, n.kind, n.key, n as node, row_number() over (order by n.key) as nr
    from public.graph_nodes n
    where v_prefix is not null and n.tenant_id = v_who ->> 'tenant_id' and n.kind = eve_graph_nodes.kind
      and starts_with(n.key, v_prefix) and n.key >= v_prefix collate "C"
    order by n.key
    limit v_most
  ), newest as (
    select n.id, n.kind, n.key, n as node, row_number() over (order by n.id desc) as nr
    from public.graph_nodes n
    where v_prefix is null and n.tenant_id = v_who ->> 'tenant_id' and n.kind = eve_graph_nodes.kind
      and (eve_graph_nodes.before is null or n.id < eve_graph_nodes.before)
    order by n.id desc
    limit v_most
  )
  select jsonb_build_object(
    'status', 'listed', 'tenant_id', v_who ->> 'tenant_id', 'nodes', coalesce(jsonb_agg(eve.graph_node_json(p.node) order by p.nr), '[]'),
    'next_before', case when v_prefix is null and count(*) = v_most then min(p.id) end
  )
  into v_answer
  from (select * from page union all select * from newest) p;
  return v_answer;
end;
$$;
comment on function public.eve_graph_nodes is 'Nodes of the graph by kind.';

-- {"status": "counted", "tenant_id", "nodes": {kind: how many}, "edges": {kind: how many}, "waiting": events that are not written yet,
-- "dead_letters", "sinks": see eve.graph_sink_json, for the project and administrators}.
create or replace function public.eve_graph_stats(actor jsonb, tenant_id text default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_graph_stats.actor, eve_graph_stats.tenant_id, 'vision');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return (
    select jsonb_build_object(
      'status', 'counted', 'tenant_id', v_who ->> 'tenant_id',
      'nodes', coalesce(jsonb_object_agg(c.kind, c.total) filter (where c.kind <> upper(c.kind)), '{}'),
      'edges', coalesce(jsonb_object_agg(c.kind, c.total) filter (where c.kind = upper(c.kind)), '{}'),
      'waiting', (select count(*) from eve.event_deliveries d where d.consumer = 'graph' and d.state = 'pending'),
      'dead_letters', (select count(*) from eve.dead_letters l where l.consumer = 'graph'),
      'sinks', case
        when (v_who ->> 'project')::boolean then (
          select coalesce(jsonb_agg(eve.graph_sink_json(s) order by s.name), '[]') from eve.graph_sinks s
        )
        else '[]'::jsonb
      end
    )
    from eve.graph_counts c
    where c.tenant_id = v_who ->> 'tenant_id' and c.total <> 0
  );
end;
$$;
comment on function public.eve_graph_stats is 'How large a tenant''s graph is, and what waits to be written.';

create or replace function public.eve_graph_metrics()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'samples', coalesce(jsonb_agg(jsonb_build_array(s.metric, jsonb_build_object('kind', s.kind), s.total) order by s.metric, s.kind), '[]'),
    'histograms', '[]'::jsonb
  )
  from (
    select case when k.kind = upper(k.kind) then 'eve_graph_edges' else 'eve_graph_nodes' end as metric, k.kind, coalesce(sum(c.total), 0) as total
    from unnest(
      '{Post,ImageContent,Article,Label,Channel,Domain,HAS_IMAGE,LINKS_TO,HAS_LABEL,PUBLISHED_IN,NEAR_DUPLICATE_OF}'::text[]
    ) as k (kind)
    left join eve.graph_counts c on c.kind = k.kind
    group by k.kind
  ) s;
$$;
comment on function public.eve_graph_metrics is 'Gauges of the graph, in the form of eve_metrics.';
