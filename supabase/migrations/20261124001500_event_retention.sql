-- How long events are kept: their deliveries first, which know a repeat, then the events that no delivery is left of.

insert into eve.retention (table_name, keep, at_least, batch_function, description) values
  ('eve.dead_letters', '30 days', '1 day', 'retention_of_events', 'Deliveries whose tries are used up, counted from the last one.'),
  ('eve.event_deliveries', '14 days', '3 days', 'retention_of_events', 'Deliveries that have ended, with the log of their tries; until then a repeat of the event is known.'),
  ('eve.events', '14 days', '3 days', 'retention_of_events', 'Events of which no delivery is left.')
on conflict (table_name) do nothing;

create or replace function eve.retention_of_events(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_batch record;
begin
  select * into v_batch
  from eve.delete_oldest(
    retention_of_events.relation,
    case retention_of_events.table_name
      when 'eve.dead_letters' then 'last_failed_at'
      when 'eve.event_deliveries' then 'ended_at'
      else 'time'
    end,
    retention_of_events.before, coalesce((retention_of_events.after ->> 'at')::timestamptz, '-infinity'), retention_of_events.at_most,
    case retention_of_events.table_name
      when 'eve.dead_letters' then 'true'
      when 'eve.event_deliveries' then
        't.state <> ''pending'' and not exists (select from eve.dead_letters l where l.delivery_id = t.id)'
      else 'not exists (select from eve.event_deliveries d where d.event_id = t.id)'
    end
  );
  if v_batch.seen >= retention_of_events.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
end;
$$;
