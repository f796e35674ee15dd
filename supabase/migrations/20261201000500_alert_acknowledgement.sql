-- Alerts that somebody has seen: they stay open until it is over, and ask nobody else.

set local lock_timeout = '10s';

alter table eve.alerts add column if not exists acknowledged_at timestamptz;
alter table eve.alerts add column if not exists acknowledged_by text
  constraint alerts_acknowledged_by_length check (char_length(acknowledged_by) between 1 and 320);
comment on column eve.alerts.acknowledged_at is 'When somebody said that they look after it; null: nobody has.';
comment on column eve.alerts.acknowledged_by is 'Who: the e-mail address of an administrator, or what stands for the project''s own key.';

create or replace function public.eve_alert_acknowledge(id bigint, actor text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_alert eve.alerts;
begin
  if coalesce(char_length(eve_alert_acknowledge.actor), 0) not between 1 and 320 then
    raise exception 'actor must have 1 to 320 characters' using errcode = 'EV400';
  end if;
  -- The first to say so stays the one who is asked.
  update eve.alerts a
  set acknowledged_at = eve.clock(), acknowledged_by = eve_alert_acknowledge.actor
  where a.id = eve_alert_acknowledge.id and a.acknowledged_at is null and a.closed_at is null;
  select * into v_alert from eve.alerts a where a.id = eve_alert_acknowledge.id;
  if not found then
    raise exception 'there is no alert %', eve_alert_acknowledge.id using errcode = 'EV400';
  end if;
  return eve.alert_json(v_alert);
end;
$$;
comment on function public.eve_alert_acknowledge is 'Notes who looks after an open alert; the first one stays.';

revoke all on function public.eve_alert_acknowledge(bigint, text) from public, anon, authenticated, service_role;
grant execute on function public.eve_alert_acknowledge(bigint, text) to service_role;
