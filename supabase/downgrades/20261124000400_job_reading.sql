-- The way down of 20261124000400_job_reading.sql.

set local lock_timeout = '10s';

drop function public.eve_jobs(uuid, uuid, text[], text[], uuid, bigint, integer);
drop function public.eve_jobs_cancel(uuid[], uuid, uuid, uuid);
