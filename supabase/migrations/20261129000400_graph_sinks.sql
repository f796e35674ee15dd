-- Copies of the graph elsewhere (Neo4j), kept up from the outbox: an event names the nodes that have changed, and what is written is how
-- they stand when it is delivered. So events may come twice and in any order, as long as one writer writes at a time: each is given a
-- token, greater than all before it, which the copy remembers. What a writer sends that was held up until after the next one is refused
-- there.

set local lock_timeout = '10s';

create table if not exists eve.graph_sinks (
  name text primary key,
  token bigint not null default 0,
  lease_until timestamptz,
  schema_version integer not null default 0,
  sync_no bigint not null default 1,
  sync_requested_at timestamptz,
  sync_after bigint,
  synced_at timestamptz,
  sync_skipped bigint not null default 0,
  written bigint not null default 0,
  last_error text,
  constraint graph_sinks_name_fkey foreign key (name) references eve.event_consumers (name) on delete cascade,
  constraint graph_sinks_error_length check (length(last_error) <= 500)
);
comment on table eve.graph_sinks is 'Copies of the graph that are kept up: each is a consumer in eve.event_consumers of the same name.';
comment on column eve.graph_sinks.token is 'Grows with every writer: the copy takes nothing from one with a smaller token.';
comment on column eve.graph_sinks.lease_until is 'Until then one writer is at it, and no other is let in.';
comment on column eve.graph_sinks.schema_version is 'Of the constraints and indexes that were made there.';
comment on column eve.graph_sinks.sync_no is 'Grows with each full copy: what has a smaller number at its end is not in the graph any more.';
comment on column eve.graph_sinks.sync_after is 'All nodes up to this id are copied; null: no copy is under way.';
comment on column eve.graph_sinks.sync_skipped is 'Nodes of the last full copy that could not be written, see last_error.';
comment on column eve.graph_sinks.written is 'Nodes written since it was set up.';

create or replace function eve.graph_sink_json(sink eve.graph_sinks)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'name', (sink).name, 'written', (sink).written, 'last_error', (sink).last_error,
    'waiting', (select count(*) from eve.event_deliveries d where d.consumer = (sink).name and d.state = 'pending'),
    'dead_letters', (select count(*) from eve.dead_letters l where l.consumer = (sink).name),
    'sync', jsonb_build_object(
      'requested_at', (sink).sync_requested_at, 'under_way', (sink).sync_after is not null, 'after', (sink).sync_after,
      'synced_at', (sink).synced_at, 'skipped', (sink).sync_skipped
    )
  );
$$;

-- Whether a copy is set up where it is asked from. One that is new gets all of the graph first; of one that is not there any more nothing
-- stays, its dead letters neither. {"status": "on" or "off"}.
create or replace function public.eve_graph_sink_open(name text, is_set_up boolean)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  if eve_graph_sink_open.name is distinct from 'neo4j' then
    raise exception 'there is no sink of the graph named %', left(eve_graph_sink_open.name, 40) using errcode = 'EV400';
  elsif not eve_graph_sink_open.is_set_up then
    delete from eve.event_consumers c where c.name = eve_graph_sink_open.name and c.kind = 'graph_sink';
    return jsonb_build_object('status', 'off');
  end if;
  insert into eve.event_consumers (name, kind, types, retry_s, max_in_flight)
  values (eve_graph_sink_open.name, 'graph_sink', '{eve.graph.changed.v1}', '{5,60,600,1800,7200,18000,36000}', 100)
  on conflict (name) do nothing;
  insert into eve.graph_sinks (name, sync_requested_at, sync_after)
  values (eve_graph_sink_open.name, eve.clock(), 0)
  on conflict (name) do nothing;
  return jsonb_build_object('status', 'on');
end;
$$;
comment on function public.eve_graph_sink_open is 'Sets a copy of the graph up, or gives it up.';

-- Has a copy made again from the first node on: {"status": "requested", "sink"}, or a refusal. For the project and administrators.
create or replace function public.eve_graph_sync(actor jsonb, name text, tenant_id text default null, after jsonb default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_graph_sync.actor, eve_graph_sync.tenant_id, 'vision');
  v_sink eve.graph_sinks;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif not (v_who ->> 'project')::boolean then
    return eve.refused('credential_insufficient', 'The graph is copied by the gateway''s owner: with the project''s secret key, or as an administrator.');
  elsif eve_graph_sync.name = 'postgres' then
    return jsonb_build_object('status', 'written', 'sink', null) || eve.graph_rebuild(v_who ->> 'tenant_id', eve_graph_sync.after);
  end if;
  -- Who is writing now is not any more: what they say of the copy before this one would be taken for this one's.
  update eve.graph_sinks s
  set token = s.token + 1, lease_until = null, sync_no = s.sync_no + 1, sync_requested_at = eve.clock(), sync_after = 0, schema_version = 0, sync_skipped = 0
  where s.name = eve_graph_sync.name
  returning s.* into v_sink;
  if v_sink.name is null then
    return eve.refused('graph_sink_off');
  end if;
  return jsonb_build_object('status', 'requested', 'sink', eve.graph_sink_json(v_sink), 'written', 0, 'changed', 0, 'next_after', null);
end;
$$;
comment on function public.eve_graph_sync is 'Has the graph written again: from the tables, or to a copy.';

-- Work for one writer: {"status": "busy"}, {"status": "idle"}, or {"status": "taken", "token", "schema_version", "sync_no", "sync": null or
-- {"nodes": [ids], "after", "is_last"}, "deliveries": [{"delivery_id", "lease", "nodes": [ids]}]}. An id is TENANT/KIND/KEY.
create or replace function public.eve_graph_sink_take(name text, at_most integer default 50, lease_ms integer default 60000)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_nodes_at_once constant integer := 500;
  v_now constant timestamptz := eve.clock();
  v_sink eve.graph_sinks;
  v_sync jsonb;
  v_deliveries jsonb := '[]';
begin
  select * into v_sink from eve.graph_sinks s where s.name = eve_graph_sink_take.name for update;
  if v_sink.name is null then
    return jsonb_build_object('status', 'idle');
  elsif v_sink.lease_until > v_now then
    return jsonb_build_object('status', 'busy');
  end if;
  if v_sink.sync_after is not null then
    select jsonb_build_object(
      'nodes', coalesce(jsonb_agg(n.node order by n.id), '[]'), 'after', coalesce(max(n.id), v_sink.sync_after),
      'is_last', count(*) < v_nodes_at_once
    )
    into v_sync
    from (
      select g.id, concat_ws('/', g.tenant_id, g.kind, g.key) as node
      from public.graph_nodes g
      where g.id > v_sink.sync_after
      order by g.id
      limit v_nodes_at_once
    ) n;
  else
    select coalesce(
      jsonb_agg(
        jsonb_build_object(
          'delivery_id', d.value -> 'delivery_id', 'lease', d.value -> 'lease', 'nodes', (
            select coalesce(jsonb_agg((d.value #>> '{event,data,tenant_id}') || '/' || n.value), '[]')
            from jsonb_array_elements_text(d.value #> '{event,data,nodes}') as n (value)
          )
        )
      ), '[]'
    )
    into v_deliveries
    from jsonb_array_elements(
      public.eve_events_claim('{graph_sink}', eve_graph_sink_take.at_most, eve_graph_sink_take.lease_ms) -> 'deliveries'
    ) as d (value);
    if v_deliveries = '[]' then
      return jsonb_build_object('status', 'idle');
    end if;
  end if;
  update eve.graph_sinks s
  set token = s.token + 1, lease_until = v_now + eve_graph_sink_take.lease_ms * interval '1 millisecond'
  where s.name = v_sink.name
  returning s.* into v_sink;
  return jsonb_build_object(
    'status', 'taken', 'token', v_sink.token, 'schema_version', v_sink.schema_version, 'sync_no', v_sink.sync_no, 'sync', v_sync,
    'deliveries', v_deliveries
  );
end;
$$;
comment on function public.eve_graph_sink_take is 'Work for the one writer of a copy of the graph, with the token that it writes with.';

-- How nodes stand now: {"nodes": [{"id", "tenant_id", "kind", "key", "properties", "trace_id", "at"}] of those and of what their edges lead
-- to, "edges": [{"kind", "from", "to", "properties", "trace_id", "at"}] from those, "gone": [ids that are not there any more]}.
create or replace function public.eve_graph_sink_read(nodes text[])
returns jsonb
language sql
stable
set search_path = ''
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
  with asked as materialized (
    select distinct a.node, split_part(a.node, '/', 1) as tenant_id, split_part(a.node, '/', 2) as kind,
      substr(a.node, length(split_part(a.node, '/', 1)) + length(split_part(a.node, '/', 2)) + 3) as key
    from unnest(eve_graph_sink_read.nodes) as a (node)
  ), found as materialized (
    select a.node as asked, n.*
    from asked a
    join public.graph_nodes n on n.tenant_id = a.tenant_id and n.kind = a.kind and n.key = a.key
  ), edges as materialized (
    select e.*, f.asked as begins, concat_ws('/', t.tenant_id, t.kind, t.key) as ends
    from found f
    join public.graph_edges e on e.from_id = f.id
    join public.graph_nodes t on t.id = e.to_id
  ), all_nodes as (
    select f.id from found f union select e.to_id from edges e
  )
  select jsonb_build_object(
    'nodes', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'id', concat_ws('/', n.tenant_id, n.kind, n.key), 'tenant_id', n.tenant_id, 'kind', n.kind, 'key', n.key,
            'properties', n.properties, 'trace_id', n.trace_id, 'at', n.at
          )
          order by n.id
        ), '[]'
      )
      from all_nodes l
      join public.graph_nodes n on n.id = l.id
    ),
    'edges', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'kind', e.kind, 'from', e.begins, 'to', e.ends, 'properties', e.properties, 'trace_id', e.trace_id, 'at', e.at
          )
          order by e.id
        ), '[]'
      )
      from edges e
    ),
    'gone', (
      select coalesce(jsonb_agg(a.node order by a.node), '[]') from asked a where not exists (select from found f where f.asked = a.node)
    )
  );
$$;
comment on function public.eve_graph_sink_read is 'How nodes of the graph stand now, with the edges from them.';

-- What has become of the work, from the writer that holds the token: {"status": "noted", "more"}, or "lost" for one that does not, and
-- nothing has changed then. deliveries: {"list": [{"delivery_id", "lease", "result": "delivered" or "failed", "error"}]}.
create or replace function public.eve_graph_sink_done(
  name text, token bigint, deliveries jsonb default '{}', written bigint default 0, sync_after bigint default null,
  sync_ended boolean default false, skipped bigint default 0, schema_version integer default null, error text default null,
  rest_ms bigint default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
begin
  update eve.graph_sinks s
  set lease_until = null, written = s.written + eve_graph_sink_done.written,
    schema_version = coalesce(eve_graph_sink_done.schema_version, s.schema_version),
    sync_after = case
      when s.sync_after is null or eve_graph_sink_done.sync_ended then null
      else coalesce(eve_graph_sink_done.sync_after, s.sync_after)
    end,
    synced_at = case when s.sync_after is not null and eve_graph_sink_done.sync_ended then v_now else s.synced_at end,
    sync_skipped = s.sync_skipped + eve_graph_sink_done.skipped,
    last_error = left(eve_graph_sink_done.error, 500)
  where s.name = eve_graph_sink_done.name and s.token = eve_graph_sink_done.token;
  if not found then
    return jsonb_build_object('status', 'lost');
  end if;
  perform public.eve_event_done(
    d.delivery_id, d.lease, d.result, d.error,
    retry_after_ms => eve_graph_sink_done.rest_ms, rests => eve_graph_sink_done.rest_ms is not null
  )
  from jsonb_to_recordset(coalesce(eve_graph_sink_done.deliveries -> 'list', '[]')) as d (delivery_id bigint, lease uuid, result text, error text);
  return jsonb_build_object('status', 'noted');
end;
$$;
comment on function public.eve_graph_sink_done is 'What has become of the work of a copy''s writer.';

insert into eve.operations (name, runs_in, schedule, time_limit_ms, logs_all, description) values
  ('neo4j', 'http', '* * * * *', 50000, false, 'Copies the graph to Neo4j, if one is set up.')
on conflict (name) do nothing;
insert into eve.maintenance_expected (operation, within_s) values ('neo4j', 1800)
on conflict (operation) do nothing;

-- Whether the function has anything to do for Neo4j: something waits, or nobody has looked yet whether one is set up.
create or replace function eve.graph_sink_is_due(name text)
returns boolean
language sql
volatile
set search_path = ''
as $$
  select exists (
    select from eve.graph_sinks s where s.name = graph_sink_is_due.name and s.sync_after is not null
  ) or coalesce(eve.next_delivery_ms('{graph_sink}') < 60000, false)
  or not exists (
    select from eve.operations o where o.name = graph_sink_is_due.name and o.last_started_at is not null
  );
$$;

do $$
begin
  perform public.eve_schedule();
exception
  when insufficient_privilege then
    raise notice 'schedule: % may not schedule jobs (%); run "select public.eve_schedule();" as a role that may', current_user, sqlerrm;
end;
$$;
