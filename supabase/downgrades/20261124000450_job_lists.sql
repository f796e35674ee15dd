-- The way down of 20261124000450_job_lists.sql.

set local lock_timeout = '10s';

drop function public.eve_jobs_of_batch(uuid, uuid, uuid);
drop function public.eve_jobs_results(uuid, integer, integer, uuid, uuid);
