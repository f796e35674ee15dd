-- Who may do what with events and webhooks: the service role alone, through functions. Row-level security is on, so that a right which is
-- given by mistake shows no row.

set local lock_timeout = '10s';

do $$
declare
  v_object record;
begin
  for v_object in
    select *
    from unnest(
      array[
        'eve.events', 'eve.event_consumers', 'eve.event_deliveries', 'eve.event_attempts', 'eve.dead_letters', 'eve.webhooks',
        'eve.trace_export'
      ]::regclass[]
    ) as t (relation)
  loop
    execute format('alter table %s enable row level security', v_object.relation);
    execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
    execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
  end loop;
  for v_object in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    where c.relkind = 'S' and c.relnamespace = 'eve'::regnamespace and c.relname ~ '^(events|event_deliveries|event_attempts|dead_letters)_'
  loop
    execute format('revoke all on sequence %s from public, anon, authenticated, service_role', v_object.relation);
    execute format('grant usage on sequence %s to service_role', v_object.relation);
  end loop;
  for v_object in
    select p.oid::regprocedure as signature, p.prorettype <> 'trigger'::regtype as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace
          and p.proname in (
            'event_type_matches', 'emit_event', 'lock_dead_letters', 'bury_delivery', 'event_consumer_label', 'log_event_attempt', 'release_lost_deliveries',
            'event_json', 'next_delivery_ms', 'deliveries_are_due', 'switch_consumer_off', 'webhook_deleted', 'dead_letters_gone', 'dead_letter_json', 'event_tries',
            'dead_letters_meant', 'webhook_retry_s', 'webhook_json', 'webhook_of', 'check_event_types', 'alert_changed', 'tell_job_end',
            'retention_of_events', 'traces_until', 'traces_are_due', 'count_spans', 'retention_batch', 'operation_is_due'
          )
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_(event|dead_letter|webhook|traces_)'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;
