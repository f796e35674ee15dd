-- The way down of 20261124000200_job_queues.sql.

set local lock_timeout = '10s';

drop trigger eve_jobs_came on eve.jobs;
drop trigger eve_jobs_changed on eve.jobs;
drop trigger eve_jobs_went on eve.jobs;

drop function eve.jobs_given(jsonb, boolean);
drop function eve.jobs_lock();
drop function eve.jobs_refusal(eve.job_given[], uuid, text[]);
drop function public.eve_jobs_submit(jsonb, uuid, uuid);

drop function eve.jobs_came();
drop function eve.jobs_changed();
drop function eve.jobs_went();

drop type eve.job_given;
