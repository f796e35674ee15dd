-- The way down of 20261126001000_vision_providers.sql.
--
-- Models and keys that its function found in the environment stay: calls have been counted for them.
-- rows: eve.jobs where kind = 'ocr'
-- rows: eve.job_kinds where kind in ('ocr')
-- seed: eve.job_kinds {"keep":"7 days","kind":"ocr","max_tries":5,"run_within":"00:01:00","outside_only":true,"expires_after":"7 days","max_body_bytes":4096,"max_result_bytes":262144}

set local lock_timeout = '10s';

delete from eve.jobs where kind = 'ocr';
delete from eve.job_queues where kind = 'ocr';
delete from eve.job_kinds where kind in ('ocr');

drop function public.eve_start_interval(text);
drop function public.eve_model_from_environment(text, text, text);
