-- The way down of 20261127003100_telegram_tables.sql.
-- rows: eve.retention where table_name in ('eve.telegram_updates', 'eve.telegram_messages')
-- seed: eve.retention {"keep":"30 days","at_least":"2 days","batch_rows":2000,"table_name":"eve.telegram_updates","batch_function":"retention_of_telegram"}
-- seed: eve.retention {"keep":"30 days","at_least":"2 days","batch_rows":2000,"table_name":"eve.telegram_messages","batch_function":"retention_of_telegram"}
-- rows: eve.jobs where kind = 'telegram'
-- rows: eve.job_kinds where kind in ('telegram')
-- seed: eve.job_kinds {"keep":"3 days","kind":"telegram","max_tries":12,"run_within":"00:01:00","outside_only":false,"expires_after":"7 days","max_body_bytes":4096,"max_result_bytes":262144}
-- rows: eve.metric_counters where metric = 'eve_telegram_updates_total'
-- seed: eve.metric_counters {}

set local lock_timeout = '10s';

delete from eve.metric_counters where metric = 'eve_telegram_updates_total';
delete from eve.retention where table_name in ('eve.telegram_updates', 'eve.telegram_messages');
delete from eve.jobs where kind = 'telegram';
delete from eve.job_queues where kind = 'telegram';
delete from eve.job_kinds where kind in ('telegram');

drop function eve.retention_of_telegram(regclass, text, timestamp with time zone, integer, jsonb);

drop table eve.telegram_bots, eve.telegram_messages, eve.telegram_updates;

drop function eve.telegram_message_gone();
