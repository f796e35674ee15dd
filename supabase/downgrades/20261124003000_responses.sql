-- The way down of 20261124003000_responses.sql.
-- rows: eve.jobs where kind = 'response'
-- rows: eve.retention where table_name in ('eve.responses')
-- seed: eve.retention {"keep":"30 days","at_least":"2 days","batch_rows":500,"table_name":"eve.responses","batch_function":"retention_of_responses"}
-- rows: eve.job_kinds where kind in ('response')
-- seed: eve.job_kinds {"keep":"01:00:00","kind":"response","max_tries":3,"run_within":"00:00:30","expires_after":"24:00:00","max_body_bytes":10485760,"max_result_bytes":262144}

set local lock_timeout = '10s';

drop trigger eve_responses_follow on eve.jobs;

delete from eve.retention where table_name in ('eve.responses');
delete from eve.jobs where kind = 'response';
delete from eve.job_queues where kind = 'response';
delete from eve.job_kinds where kind in ('response');

drop function eve.response_json(eve.responses);
drop function eve.response_missing(uuid);
drop function eve.responses_for(uuid, uuid, uuid);
drop function eve.retention_of_responses(regclass, text, timestamp with time zone, integer, jsonb);
drop function public.eve_response(uuid, uuid, uuid);
drop function public.eve_response_cancel(uuid, uuid, uuid);
drop function public.eve_response_create(jsonb, text, boolean, jsonb, jsonb, uuid, uuid, uuid);
drop function public.eve_response_delete(uuid, uuid, uuid);

drop table eve.responses;

drop function eve.responses_follow();
