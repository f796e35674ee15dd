-- Writing the graph. What a node is and where its edges lead is a function of the tables that it comes from (eve.graph_node_wanted and
-- eve.graph_edges_wanted); a change is written by comparing that with what is there, node after node, for as long as something differs.
-- A node stays while it is something by itself, or while an edge leads to it.

set local lock_timeout = '10s';

-- Who writes the graph of a tenant holds this until the end of the transaction: one at a time, so nobody reads what another is about to
-- change, and a node that is removed is not led to meanwhile.
create or replace function eve.graph_lock(tenant_id text)
returns void
language sql
volatile
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('eve_graph ' || graph_lock.tenant_id, 0));
$$;

-- What a node says, by the tables that it comes from. is_own: it is there whether or not an edge leads to it; then at and trace_id are its
-- own. No row: it is neither; whatever leads to it makes it.
create or replace function eve.graph_node_wanted(
  tenant_id text, kind text, key text, out is_own boolean, out properties jsonb, out at timestamptz, out trace_id text
)
returns record
language plpgsql
stable
set search_path = ''
as $$
begin
  is_own := false;
  properties := '{}';
  if graph_node_wanted.kind = 'Post' then
    select true, jsonb_strip_nulls(
        jsonb_build_object(
          'source', p.source, 'external_id', left(p.external_id, 200), 'published_at', p.published_at, 'text', nullif(left(p.text, 200), '')
        )
      ), p.created_at, case when p.trace_id ~ '^[0-9a-f]{32}$' then p.trace_id end
    into is_own, properties, at, trace_id
    from public.posts p
    where p.id = graph_node_wanted.key::uuid and p.tenant_id = graph_node_wanted.tenant_id;
    is_own := coalesce(is_own, false);
  elsif graph_node_wanted.kind = 'ImageContent' then
    select jsonb_strip_nulls(
        jsonb_build_object(
          'mime_type', left(coalesce(v.mime_type, o.mime_type), 255), 'width', v.width, 'height', v.height,
          'description', left(e.vision_description, 300), 'scene', left(e.scene, 100), 'nsfw', e.nsfw, 'is_meme', e.is_meme
        )
      )
    into properties
    from (select) as one
    left join public.media_objects o on o.tenant_id = graph_node_wanted.tenant_id and o.file_sha256 = graph_node_wanted.key
    left join eve.vision_pictures v on v.tenant_id = graph_node_wanted.tenant_id and v.file_sha256 = graph_node_wanted.key
    left join lateral (
      select e.vision_description, e.scene, e.nsfw, e.is_meme
      from public.post_enrichment e
      join public.post_media_map m on m.post_id = e.post_id and m.file_sha256 = e.file_sha256
      where e.tenant_id = graph_node_wanted.tenant_id and e.file_sha256 = graph_node_wanted.key and e.kind = 'vision'
        and e.vision_description is not null
      order by e.analyzed_at desc nulls last, e.id
      limit 1
    ) e on true;
  elsif graph_node_wanted.kind = 'Article' and to_regclass('public.articles') is not null then
    -- Where pages are not fetched, there is no such table, and this is not looked at. A page that cannot be read is what its posts say.
    select a.id is not null, jsonb_strip_nulls(
        jsonb_build_object(
          'title', left(coalesce(nullif(a.title, ''), p.title), 300), 'site_name', left(a.site_name, 200), 'excerpt', left(a.excerpt, 300),
          'published_at', a.published_at
        )
      ), a.created_at, case when a.trace_id ~ '^[0-9a-f]{32}$' then a.trace_id end
    into is_own, properties, at, trace_id
    from public.crawl_pages p
    left join public.articles a on a.page_id = p.id
    where p.tenant_id = graph_node_wanted.tenant_id and p.canonical_url = graph_node_wanted.key
    limit 1;
    is_own := coalesce(is_own, false);
    properties := coalesce(properties, '{}');
  end if;
end;
$$;

-- Where edges of a node lead, by the tables that it comes from. Of several requests that brought an edge the first one counts.
create or replace function eve.graph_edges_wanted(tenant_id text, kind text, key text)
returns table (edge text, to_kind text, to_key text, properties jsonb, at timestamptz, trace_id text)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  if graph_edges_wanted.kind = 'Post' then
    return query
    select 'PUBLISHED_IN', 'Channel', p.source, '{}'::jsonb, p.created_at, case when p.trace_id ~ '^[0-9a-f]{32}$' then p.trace_id end
    from public.posts p
    where p.id = graph_edges_wanted.key::uuid and p.tenant_id = graph_edges_wanted.tenant_id
    union all
    select 'HAS_IMAGE', 'ImageContent', m.file_sha256, jsonb_build_object('place', m.place), p.created_at,
      case when p.trace_id ~ '^[0-9a-f]{32}$' then p.trace_id end
    from public.posts p
    join public.post_media_map m on m.post_id = p.id
    where p.id = graph_edges_wanted.key::uuid and p.tenant_id = graph_edges_wanted.tenant_id
      and (
        exists (
          select from public.media_objects o
          where o.tenant_id = p.tenant_id and o.file_sha256 = m.file_sha256 and o.mime_type like 'image/%'
        )
        or exists (
          select from public.post_enrichment e where e.post_id = p.id and e.file_sha256 = m.file_sha256 and e.kind = 'vision'
        )
      );
    if to_regclass('public.post_links') is not null then
      return query
      select 'LINKS_TO', 'Article', c.canonical_url, jsonb_build_object('place', min(k.place)), p.created_at,
        case when p.trace_id ~ '^[0-9a-f]{32}$' then p.trace_id end
      from public.posts p
      join public.post_links k on k.post_id = p.id
      join public.crawl_pages c on c.id = k.page_id
      where p.id = graph_edges_wanted.key::uuid and p.tenant_id = graph_edges_wanted.tenant_id
      group by c.canonical_url, p.created_at, p.trace_id;
    end if;
  elsif graph_edges_wanted.kind = 'ImageContent' then
    -- What was found before stays while the picture is looked at once more.
    return query
    with shown as (
      select e.labels, e.same_as, e.created_at, case when e.trace_id ~ '^[0-9a-f]{32}$' then e.trace_id end as trace_id
      from public.post_enrichment e
      join public.post_media_map m on m.post_id = e.post_id and m.file_sha256 = e.file_sha256
      where e.tenant_id = graph_edges_wanted.tenant_id and e.file_sha256 = graph_edges_wanted.key and e.kind = 'vision'
    )
    (
      select distinct on (l.label) 'HAS_LABEL', 'Label', l.label, '{}'::jsonb, s.created_at, s.trace_id
      from shown s
      cross join lateral (select left(btrim(u.label), 200) as label from unnest(s.labels) as u (label)) l
      where l.label <> ''
      order by l.label, s.created_at, s.trace_id
    )
    union all
    (
      select distinct on (s.same_as) 'NEAR_DUPLICATE_OF', 'ImageContent', s.same_as, '{}'::jsonb, s.created_at, s.trace_id
      from shown s
      where s.same_as <> graph_edges_wanted.key
      order by s.same_as, s.created_at, s.trace_id
    );
  elsif graph_edges_wanted.kind = 'Article' and to_regclass('public.crawl_pages') is not null then
    return query
    select 'PUBLISHED_IN', 'Domain', c.domain, '{}'::jsonb, c.created_at, case when a.trace_id ~ '^[0-9a-f]{32}$' then a.trace_id end
    from public.crawl_pages c
    left join public.articles a on a.page_id = c.id
    where c.tenant_id = graph_edges_wanted.tenant_id and c.canonical_url = graph_edges_wanted.key and c.domain <> ''
    order by c.created_at
    limit 1;
  end if;
end;
$$;

-- Writes one node and the edges from it as they are wanted. changed: whether anything differed; next: nodes whose edges did, as
-- {"kind", "key"}: they are to be written too. The caller holds eve.graph_lock.
create or replace function eve.graph_write_node(tenant_id text, kind text, key text, out changed boolean, out next jsonb)
returns record
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_tenant constant text := graph_write_node.tenant_id;
  v_kind constant text := graph_write_node.kind;
  v_key constant text := graph_write_node.key;
  v_wanted constant record := eve.graph_node_wanted(v_tenant, v_kind, v_key);
  -- Read once: what is written must not differ from what it was compared with.
  v_edges jsonb := '[]';
  v_id bigint;
  v_at timestamptz := v_wanted.at;
  v_trace text := v_wanted.trace_id;
  v_is_held boolean := v_wanted.is_own;
  v_rows integer;
  v_next jsonb;
begin
  changed := false;
  next := '[]';
  select n.id into v_id from public.graph_nodes n where n.tenant_id = v_tenant and n.kind = v_kind and n.key = v_key;
  if not v_is_held and v_id is not null then
    select true, e.at, e.trace_id into v_is_held, v_at, v_trace
    from public.graph_edges e
    where e.to_id = v_id
    order by e.at, e.trace_id
    limit 1;
    v_is_held := coalesce(v_is_held, false);
  end if;
  if v_is_held then
    insert into public.graph_nodes as n (tenant_id, kind, key, properties, trace_id, at)
    values (v_tenant, v_kind, v_key, v_wanted.properties, v_trace, v_at)
    on conflict on constraint graph_nodes_tenant_id_kind_key_key do update
    set properties = excluded.properties, trace_id = excluded.trace_id, at = excluded.at
    where (n.properties, n.trace_id, n.at) is distinct from (excluded.properties, excluded.trace_id, excluded.at);
    changed := found;
    select n.id into v_id from public.graph_nodes n where n.tenant_id = v_tenant and n.kind = v_kind and n.key = v_key;
    select coalesce(jsonb_agg(to_jsonb(w)), '[]') into v_edges
    from eve.graph_edges_wanted(v_tenant, v_kind, v_key) w
    where octet_length(w.to_key) between 1 and 2000;
  elsif v_id is null then
    return;
  end if;
  with wanted as (
    select * from jsonb_to_recordset(v_edges) as w (edge text, to_kind text, to_key text)
  ), gone as (
    delete from public.graph_edges e
    using public.graph_nodes t
    where e.from_id = v_id and t.id = e.to_id
      and not exists (select from wanted w where (w.edge, w.to_kind, w.to_key) = (e.kind, t.kind, t.key))
    returning t.kind, t.key
  )
  select coalesce(jsonb_agg(jsonb_build_object('kind', g.kind, 'key', g.key) order by g.kind, g.key), '[]'), count(*)
  into v_next, v_rows
  from gone g;
  next := v_next;
  changed := changed or v_rows > 0;
  if not v_is_held then
    delete from public.graph_nodes n where n.id = v_id;
    changed := true;
    return;
  end if;
  -- What they lead to first; it is written in its turn.
  insert into public.graph_nodes (tenant_id, kind, key, trace_id, at)
  select distinct on (w.to_kind, w.to_key) v_tenant, w.to_kind, w.to_key, w.trace_id, w.at
  from jsonb_to_recordset(v_edges) as w (to_kind text, to_key text, at timestamptz, trace_id text)
  order by w.to_kind, w.to_key, w.at, w.trace_id
  on conflict on constraint graph_nodes_tenant_id_kind_key_key do nothing;
  with written as (
    insert into public.graph_edges as e (tenant_id, kind, from_id, to_id, properties, trace_id, at)
    select v_tenant, w.edge, v_id, t.id, w.properties, w.trace_id, w.at
    from jsonb_to_recordset(v_edges)
      as w (edge text, to_kind text, to_key text, properties jsonb, at timestamptz, trace_id text)
    join public.graph_nodes t on t.tenant_id = v_tenant and t.kind = w.to_kind and t.key = w.to_key
    order by w.edge, w.to_key
    on conflict on constraint graph_edges_from_id_kind_to_id_key do update
    set properties = excluded.properties, trace_id = excluded.trace_id, at = excluded.at
    where (e.properties, e.trace_id, e.at) is distinct from (excluded.properties, excluded.trace_id, excluded.at)
    returning e.to_id
  )
  select coalesce(jsonb_agg(jsonb_build_object('kind', t.kind, 'key', t.key) order by t.kind, t.key), '[]'), count(*)
  into v_next, v_rows
  from written w
  join public.graph_nodes t on t.id = w.to_id;
  next := next || v_next;
  changed := changed or v_rows > 0;
end;
$$;

-- Writes these nodes ([{"kind", "key"}]) and all that follows from them, and tells those who keep a copy of the graph. Answers how many
-- nodes have changed. The same again changes nothing.
create or replace function eve.graph_write(tenant_id text, nodes jsonb, trace_id text default null)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_waiting jsonb := graph_write.nodes;
  v_one jsonb;
  v_written record;
  v_changed text[] := '{}';
begin
  perform eve.graph_lock(graph_write.tenant_id);
  while jsonb_array_length(v_waiting) > 0 loop
    v_one := v_waiting -> 0;
    v_waiting := v_waiting - 0;
    v_written := eve.graph_write_node(graph_write.tenant_id, v_one ->> 'kind', v_one ->> 'key');
    v_waiting := v_waiting || v_written.next;
    if v_written.changed then
      v_changed := v_changed || ((v_one ->> 'kind') || '/' || (v_one ->> 'key'));
    end if;
  end loop;
  perform eve.graph_tell_change(graph_write.tenant_id, v_changed, graph_write.trace_id);
  return cardinality(v_changed);
end;
$$;

-- Events of nodes that have changed ("KIND/KEY"), of which as many go into one as it holds.
create or replace function eve.graph_tell_change(tenant_id text, nodes text[], trace_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most_bytes constant integer := 12000;
begin
  if cardinality(graph_tell_change.nodes) = 0 then
    return;
  end if;
  perform eve.emit_event(
    '/graph', 'eve.graph.changed.v1', graph_tell_change.tenant_id,
    jsonb_build_object('tenant_id', graph_tell_change.tenant_id, 'nodes', part.nodes, 'trace_id', graph_tell_change.trace_id),
    traceparent => eve.vision_traceparent(graph_tell_change.trace_id)
  )
  from (
    select jsonb_agg(s.node order by s.node) as nodes
    from (
      select u.node, sum(octet_length(to_jsonb(u.node)::text) + 2) over (order by u.node) / v_most_bytes as part
      from (select distinct n.node from unnest(graph_tell_change.nodes) as n (node)) u
    ) s
    group by s.part
    order by s.part
  ) part;
end;
$$;

-- What an event is about: the nodes to be written for it.
create or replace function eve.graph_apply(event jsonb)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_data constant jsonb := graph_apply.event -> 'data';
  v_nodes jsonb := '[]';
begin
  if v_data ->> 'post_id' is not null then
    v_nodes := v_nodes || jsonb_build_object('kind', 'Post', 'key', (v_data ->> 'post_id')::uuid);
  end if;
  if v_data ->> 'file_sha256' is not null then
    v_nodes := v_nodes || jsonb_build_object('kind', 'ImageContent', 'key', v_data ->> 'file_sha256');
  end if;
  if v_data ->> 'canonical_url' is not null then
    v_nodes := v_nodes || jsonb_build_object('kind', 'Article', 'key', v_data ->> 'canonical_url');
  end if;
  if not exists (select from eve.tenants t where t.id = v_data ->> 'tenant_id') then
    return 0;
  end if;
  return eve.graph_write(
    v_data ->> 'tenant_id', v_nodes, case when v_data ->> 'trace_id' ~ '^[0-9a-f]{32}$' then v_data ->> 'trace_id' end
  );
end;
$$;

-- Writes what events say that are due to the graph, each once, in the transaction that notes it: {"delivered", "failed", "changed"}.
create or replace function public.eve_graph_deliver(at_most integer default 100)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_delivery jsonb;
  v_error text;
  v_delivered integer := 0;
  v_failed integer := 0;
  v_changed integer := 0;
begin
  for v_delivery in
    select d.value
    from jsonb_array_elements(public.eve_events_claim('{graph}', eve_graph_deliver.at_most) -> 'deliveries') as d (value)
  loop
    v_error := null;
    begin
      v_changed := v_changed + eve.graph_apply(v_delivery -> 'event');
    exception
      when others then
        v_error := format('%s (%s)', sqlerrm, sqlstate);
    end;
    perform public.eve_event_done(
      (v_delivery ->> 'delivery_id')::bigint, (v_delivery ->> 'lease')::uuid,
      case when v_error is null then 'delivered' else 'failed' end, v_error
    );
    if v_error is null then
      v_delivered := v_delivered + 1;
    else
      v_failed := v_failed + 1;
    end if;
  end loop;
  return jsonb_build_object('delivered', v_delivered, 'failed', v_failed, 'changed', v_changed);
end;
$$;
comment on function public.eve_graph_deliver is 'Writes what events say that are due to the graph.';

-- What cron runs for the graph.
create or replace function eve.graph_tick()
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Less than the time between two runs.
  v_most constant interval := '3 seconds';
  v_began constant timestamptz := clock_timestamp();
  v_now constant timestamptz := eve.clock();
  v_done jsonb;
begin
  if exists (
    select from eve.event_deliveries d
    where d.consumer = 'graph' and d.state = 'pending' and (d.next_try_at <= v_now and d.lease is null or d.lease_until <= v_now)
  ) then
    loop
      v_done := public.eve_graph_deliver();
      exit when (v_done ->> 'delivered')::integer + (v_done ->> 'failed')::integer = 0 or clock_timestamp() > v_began + v_most;
    end loop;
  end if;
  update eve.operations o
  set idle_runs = o.idle_runs + 1, last_idle_at = v_now, last_status = 'succeeded', last_completed_at = v_now, last_succeeded_at = v_now
  where o.name = 'graph' and (o.last_idle_at is null or o.last_idle_at <= v_now - interval '1 minute');
end;
$$;
comment on function eve.graph_tick is 'What cron runs for the graph.';

-- As often as jobs are looked after: every 5 seconds, every minute where pg_cron knows no shorter time.
insert into eve.operations (name, runs_in, schedule, time_limit_ms, logs_all, description)
select 'graph', 'sql', o.schedule, 10000, false, 'Writes what events say to the graph.'
from eve.operations o
where o.name = 'jobs'
on conflict (name) do nothing;
insert into eve.maintenance_expected (operation, within_s) values ('graph', 600)
on conflict (operation) do nothing;

-- Writes a tenant's graph again from the tables, as far as one call gets: {"written", "changed", "next_after"}, to be called with next_after
-- until that is null. First what the tables have, then what only the graph has.
create or replace function eve.graph_rebuild(tenant_id text, after jsonb default null, at_most integer default 500)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most constant integer := least(greatest(graph_rebuild.at_most, 1), 1000);
  v_post public.posts;
  v_node public.graph_nodes;
  v_step text := coalesce(graph_rebuild.after ->> 'step', 'posts');
  v_last text := graph_rebuild.after ->> 'last';
  v_written integer := 0;
  v_changed integer := 0;
begin
  if v_step = 'posts' then
    for v_post in
      select p.*
      from public.posts p
      where p.id > coalesce(v_last, '00000000-0000-0000-0000-000000000000')::uuid
        and p.tenant_id = graph_rebuild.tenant_id
      order by p.id
      limit v_most
    loop
      v_written := v_written + 1;
      v_last := v_post.id::text;
      v_changed := v_changed + eve.graph_write(
        v_post.tenant_id,
        jsonb_build_array(jsonb_build_object('kind', 'Post', 'key', v_post.id)) || (
          select coalesce(jsonb_agg(jsonb_build_object('kind', 'ImageContent', 'key', m.file_sha256) order by m.file_sha256), '[]')
          from public.post_media_map m
          where m.post_id = v_post.id
        )
      );
    end loop;
  elsif v_step = 'nodes' then
    for v_node in
      select n.*
      from public.graph_nodes n
      where n.id > coalesce(v_last, '0')::bigint and n.tenant_id = graph_rebuild.tenant_id
      order by n.id
      limit v_most
    loop
      v_written := v_written + 1;
      v_last := v_node.id::text;
      v_changed := v_changed + eve.graph_write(v_node.tenant_id, jsonb_build_array(jsonb_build_object('kind', v_node.kind, 'key', v_node.key)));
    end loop;
  end if;
  return jsonb_build_object(
    'written', v_written, 'changed', v_changed,
    'next_after', case
      when v_written = v_most then jsonb_build_object('step', v_step, 'last', v_last)
      when v_step = 'posts' then jsonb_build_object('step', 'nodes')
    end
  );
end;
$$;
