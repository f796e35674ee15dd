-- The way down of 20261124000300_job_claiming.sql.

set local lock_timeout = '10s';

drop function eve.job_place_until(integer);
drop function eve.job_to_run(eve.jobs);
drop function eve.jobs_return_lost(integer);
drop function public.eve_job_fail(uuid, uuid, text, text, boolean, bigint, jsonb);
drop function public.eve_jobs_claim(uuid, text[], integer, integer, bigint);
drop function public.eve_jobs_complete(jsonb);
drop function public.eve_jobs_release(jsonb);
drop function public.eve_jobs_renew(uuid, jsonb, integer);
