-- The way down of 20261124002800_job_console.sql.

set local lock_timeout = '10s';

drop function eve.batch_job_row(eve.jobs);
drop function public.eve_batch_search(bigint, integer);
drop function public.eve_job_detail(uuid);
drop function public.eve_job_search(text[], text[], text, uuid, bigint, integer);
