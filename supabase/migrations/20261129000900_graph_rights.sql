-- Who may do what with the graph: the service role alone, through functions. Signed-in users read what is their tenants'.

set local lock_timeout = '10s';

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    where c.relkind = 'r' and c.relnamespace in ('eve'::regnamespace, 'public'::regnamespace) and c.relname ~ '^graph_'
  loop
    execute format('alter table %s enable row level security', v_object.relation);
    execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
    execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
  end loop;
  for v_object in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    where c.relkind = 'S' and c.relnamespace = 'public'::regnamespace and c.relname ~ '^graph_'
  loop
    execute format('revoke all on sequence %s from public, anon, authenticated, service_role', v_object.relation);
    execute format('grant usage on sequence %s to service_role', v_object.relation);
  end loop;
  for v_object in
    select p.oid::regprocedure as signature, p.prorettype <> 'trigger'::regtype as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(graph_|post_(event|changed|media_changed)$)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_graph_'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;

grant select on table public.graph_nodes, public.graph_edges to authenticated;

drop policy if exists graph_nodes_read on public.graph_nodes;
create policy graph_nodes_read on public.graph_nodes for select to authenticated using (tenant_id in (select eve.member_tenants()));
drop policy if exists graph_edges_read on public.graph_edges;
create policy graph_edges_read on public.graph_edges for select to authenticated using (tenant_id in (select eve.member_tenants()));
