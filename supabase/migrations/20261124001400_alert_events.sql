-- Alerts are events too: eve.alert.opened.v1 and eve.alert.closed.v1, for webhooks that take them. What people get by the channels of
-- the environment goes by eve.alert_deliveries, as before (20261122002600).

create or replace function eve.alert_changed()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform eve.emit_event(
    '/alerts', case when new.closed_at is null then 'eve.alert.opened.v1' else 'eve.alert.closed.v1' end, new.kind || ' ' || new.subject,
    jsonb_build_object(
      'alert_id', new.id, 'kind', new.kind, 'severity', new.severity, 'subject', new.subject, 'opened_at', new.opened_at,
      'closed_at', new.closed_at
    )
  );
  return null;
end;
$$;
create or replace trigger eve_alert_opened
after insert on eve.alerts
for each row
execute function eve.alert_changed();
create or replace trigger eve_alert_closed
after update of closed_at on eve.alerts
for each row
when (old.closed_at is null and new.closed_at is not null)
execute function eve.alert_changed();
