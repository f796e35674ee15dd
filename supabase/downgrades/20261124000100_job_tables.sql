-- The way down of 20261124000100_job_tables.sql.
--
-- Without it there are jobs of providers alone, submitted by the call that asked for them: others, and those that wait, go.
-- rows: eve.jobs where not (kind = 'provider_job' and stage_type is not null and provider_kind is not null and model is not null and key_name is not null and request_no is not null and state in ('running', 'succeeded', 'failed') and (state <> 'succeeded' or result is not null))
-- rows: eve.job_contents where job_id in (select id from eve.jobs where not (kind = 'provider_job' and stage_type is not null and provider_kind is not null and model is not null and key_name is not null and request_no is not null and state in ('running', 'succeeded', 'failed') and (state <> 'succeeded' or result is not null)))
-- rows: eve.settings where name in ('jobs_queued_max', 'jobs_queued_max_bytes', 'jobs_workers')
-- seed: eve.settings {"name":"jobs_queued_max","value":100000}
-- seed: eve.settings {"name":"jobs_queued_max_bytes","value":268435456}
-- seed: eve.settings {"name":"jobs_workers","value":2}
-- seed: eve.job_kinds {"keep":"7 days","kind":"llm","max_tries":3,"run_within":"00:00:30","expires_after":"24:00:00","max_body_bytes":10485760,"max_result_bytes":262144}
-- seed: eve.job_kinds {"keep":"90 days","kind":"provider_job","max_tries":3,"run_within":"00:00:30","expires_after":"24:00:00","max_body_bytes":10485760,"max_result_bytes":262144}
-- seed: eve.job_queues {}
-- seed: eve.job_workers {}
-- seed: eve.job_wake {}

set local lock_timeout = '10s';

delete from eve.settings where name in ('jobs_queued_max', 'jobs_queued_max_bytes', 'jobs_workers');

delete from eve.jobs
where not (
  kind = 'provider_job' and stage_type is not null and provider_kind is not null and model is not null and key_name is not null
  and request_no is not null and state in ('running', 'succeeded', 'failed') and (state <> 'succeeded' or result is not null)
);

alter table eve.jobs drop constraint jobs_kind_fkey;

drop table eve.job_queues, eve.job_kinds, eve.job_wake, eve.job_workers;
drop sequence eve.job_turn;
