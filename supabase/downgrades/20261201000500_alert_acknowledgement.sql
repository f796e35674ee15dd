-- The way down of 20261201000500_alert_acknowledgement.sql.

set local lock_timeout = '10s';

drop function public.eve_alert_acknowledge(bigint, text);

alter table eve.alerts
  drop constraint alerts_acknowledged_by_length,
  drop column acknowledged_at,
  drop column acknowledged_by;
