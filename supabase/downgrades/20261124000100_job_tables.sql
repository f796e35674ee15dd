-- The way down of 20261124000100_job_tables.sql.
--
-- Before it there were jobs of providers alone, submitted by the call that asked for them: others, and those that wait, go.
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

drop index eve.jobs_batch_id_place_key;
drop index eve.jobs_kind_finished_at_idx;
drop index eve.jobs_lease_until_idx;
drop index eve.jobs_no_key;
drop index eve.jobs_owner_id_no_idx;
drop index eve.jobs_queue_idx;
drop index eve.jobs_request_key_key;
drop index eve.jobs_waiting_expires_at_idx;

delete from eve.settings where name in ('jobs_queued_max', 'jobs_queued_max_bytes', 'jobs_workers');

delete from eve.jobs
where not (
  kind = 'provider_job' and stage_type is not null and provider_kind is not null and model is not null and key_name is not null
  and request_no is not null and state in ('running', 'succeeded', 'failed') and (state <> 'succeeded' or result is not null)
);

-- A call that was being submitted is what it was: the migration calls it running.
alter table eve.jobs drop constraint jobs_state_known;
update eve.jobs set state = 'submitting' where state = 'running' and upstream_id is null;

alter table eve.jobs
  drop constraint jobs_batch_place,
  drop constraint jobs_class_known,
  drop constraint jobs_ended,
  drop constraint jobs_error_given,
  drop constraint jobs_kind_fkey,
  drop constraint jobs_lease_while_running,
  drop constraint jobs_progress_size,
  drop constraint jobs_queued_whole,
  drop constraint jobs_result_given,
  drop constraint jobs_texts_size,
  drop constraint jobs_tries_counted,
  drop constraint jobs_upstream_whole,
  drop constraint jobs_waits_in_queue,
  drop column kind,
  drop column no,
  drop column owner_id,
  drop column request_key,
  drop column queue_id,
  drop column token_id,
  drop column class,
  drop column models,
  drop column request_hash,
  drop column body,
  drop column body_media,
  drop column body_bytes,
  drop column run_at,
  drop column started_at,
  drop column tries,
  drop column losses,
  drop column worker_id,
  drop column lease_token,
  drop column lease_until,
  drop column progress,
  drop column result_media,
  drop column batch_id,
  drop column place,
  drop column custom_id,
  drop column webhook_id,
  alter column stage_type set not null,
  alter column provider_kind set not null,
  alter column model set not null,
  alter column key_name set not null,
  alter column request_no set not null,
  alter column state set default 'submitting'::text,
  add constraint jobs_error_given CHECK (((state <> 'failed'::text) OR (error_code IS NOT NULL))),
  add constraint jobs_result_given CHECK (((state <> 'succeeded'::text) OR (result IS NOT NULL))),
  add constraint jobs_state_known CHECK ((state = ANY (ARRAY['submitting'::text, 'running'::text, 'succeeded'::text, 'failed'::text]))),
  add constraint jobs_upstream_named CHECK (((state <> 'running'::text) OR (upstream_id IS NOT NULL)));

drop table eve.job_queues, eve.job_kinds, eve.job_wake, eve.job_workers;
drop sequence eve.job_turn;

comment on table eve.jobs is 'Speech, songs and videos that are being made or have been. It has no foreign keys: it outlives what it names.';
comment on column eve.jobs.request_id is null;
comment on column eve.jobs.state is null;
comment on column eve.jobs.result is 'Files with their addresses and types.';
comment on column eve.jobs.expires_at is 'From then on the provider may have deleted the files.';
