-- The way down of 20261124001500_event_retention.sql.
-- rows: eve.retention where table_name in ('eve.dead_letters', 'eve.event_deliveries', 'eve.events')
-- seed: eve.retention {"keep":"30 days","at_least":"1 day","batch_rows":2000,"table_name":"eve.dead_letters","batch_function":"retention_of_events"}
-- seed: eve.retention {"keep":"14 days","at_least":"3 days","batch_rows":2000,"table_name":"eve.event_deliveries","batch_function":"retention_of_events"}
-- seed: eve.retention {"keep":"14 days","at_least":"3 days","batch_rows":2000,"table_name":"eve.events","batch_function":"retention_of_events"}

set local lock_timeout = '10s';

delete from eve.retention where table_name in ('eve.dead_letters', 'eve.event_deliveries', 'eve.events');

drop function eve.retention_of_events(regclass, text, timestamp with time zone, integer, jsonb);
