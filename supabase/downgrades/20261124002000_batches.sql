-- The way down of 20261124002000_batches.sql.
-- rows: eve.jobs where kind = 'batch'
-- rows: eve.job_kinds where kind in ('batch')
-- seed: eve.job_kinds {"keep":"7 days","kind":"batch","max_tries":5,"run_within":"00:00:30","expires_after":"24:00:00","max_body_bytes":10485760,"max_result_bytes":262144}

set local lock_timeout = '10s';

drop trigger eve_batches_count on eve.jobs;

delete from eve.jobs where kind = 'batch';
delete from eve.job_queues where kind = 'batch';
delete from eve.job_kinds where kind in ('batch');

drop function eve.batch_finish(uuid[]);
drop function eve.batch_json(eve.batches);
drop function eve.batch_line(eve.jobs, text);
drop function eve.batch_line_anthropic(eve.jobs);
drop function eve.batch_line_gemini(eve.jobs);
drop function eve.batch_line_openai(eve.jobs);
drop function eve.batches_for(uuid, uuid, text);

drop table eve.batch_files, eve.batches;

drop function eve.batches_count();
