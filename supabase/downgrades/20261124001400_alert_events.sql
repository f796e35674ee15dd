-- The way down of 20261124001400_alert_events.sql.

set local lock_timeout = '10s';

drop trigger eve_alert_closed on eve.alerts;
drop trigger eve_alert_opened on eve.alerts;

drop function eve.alert_changed();
