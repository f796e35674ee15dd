-- The way down of 20261124001000_event_tables.sql.
-- rows: eve.alert_kinds where kind in ('dead_letters', 'webhook_gone')
-- seed: eve.alert_kinds {"kind":"dead_letters"}
-- seed: eve.alert_kinds {"kind":"webhook_gone"}

set local lock_timeout = '10s';

delete from eve.alert_kinds where kind in ('dead_letters', 'webhook_gone');

drop table eve.dead_letters, eve.event_attempts, eve.event_consumers, eve.event_deliveries, eve.events, eve.webhooks;
