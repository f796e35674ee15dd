-- The way down of 20261126000200_vision_tables.sql.
-- rows: eve.jobs where kind = 'vision'
-- rows: eve.retention where table_name in ('eve.vision_decisions', 'eve.vision_reservations', 'eve.vision_spending')
-- seed: eve.retention {"keep":"90 days","at_least":"1 day","batch_rows":2000,"table_name":"eve.vision_decisions","batch_function":"retention_of_vision"}
-- seed: eve.retention {"keep":"40 days","at_least":"32 days","batch_rows":2000,"table_name":"eve.vision_reservations","batch_function":"retention_of_vision"}
-- seed: eve.retention {"keep":"400 days","at_least":"62 days","batch_rows":2000,"table_name":"eve.vision_spending","batch_function":"retention_of_vision"}
-- rows: eve.alert_kinds where kind in ('vision_budget_near', 'vision_budget_used_up')
-- seed: eve.alert_kinds {"kind":"vision_budget_near"}
-- seed: eve.alert_kinds {"kind":"vision_budget_used_up"}
-- rows: eve.job_kinds where kind in ('vision')
-- seed: eve.job_kinds {"keep":"7 days","kind":"vision","max_tries":5,"run_within":"00:01:00","expires_after":"7 days","max_body_bytes":4096,"max_result_bytes":262144}

set local lock_timeout = '10s';

delete from eve.retention where table_name in ('eve.vision_decisions', 'eve.vision_reservations', 'eve.vision_spending');
delete from eve.alert_kinds where kind in ('vision_budget_near', 'vision_budget_used_up');
delete from eve.jobs where kind = 'vision';
delete from eve.job_queues where kind = 'vision';
delete from eve.job_kinds where kind in ('vision');

drop function eve.retention_of_vision(regclass, text, timestamp with time zone, integer, jsonb);

drop table eve.vision_budgets, eve.vision_decisions, eve.vision_pictures, eve.vision_policies, eve.vision_reservations, eve.vision_spending;
