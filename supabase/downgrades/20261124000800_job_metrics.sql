-- The way down of 20261124000800_job_metrics.sql.

set local lock_timeout = '10s';

drop index eve.jobs_with_provider_idx;

drop function public.eve_job_metrics();
