-- Who may do what with batches: the service role alone, through functions. Row-level security is on, so that a right which is given by
-- mistake shows no row.

set local lock_timeout = '10s';

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation, c.relkind
    from pg_catalog.pg_class c
    where c.relkind in ('r', 'S') and c.relnamespace = 'eve'::regnamespace and c.relname ~ '^batch(es|_files)(_no_seq)?$'
  loop
    if v_object.relkind = 'S' then
      execute format('revoke all on sequence %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant usage on sequence %s to service_role', v_object.relation);
    else
      execute format('alter table %s enable row level security', v_object.relation);
      execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
    end if;
  end loop;
  for v_object in
    select p.oid::regprocedure as signature, p.prorettype <> 'trigger'::regtype as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(batch(es)?_|retention_of_batches$)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_(batch(es)?(_|$)|job_search$|job_detail$)'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;
