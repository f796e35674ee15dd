-- The way down of 20261124000500_job_upkeep.sql.
-- rows: eve.operations where name in ('jobs')
-- seed: eve.operations {"name":"jobs","schedule":"5 seconds","is_active":true,"time_limit_ms":10000}
-- rows: eve.alert_kinds where kind in ('job_lost')
-- seed: eve.alert_kinds {"kind":"job_lost"}
-- rows: eve.maintenance_expected where operation in ('jobs')
-- seed: eve.maintenance_expected {"within_s":600,"operation":"jobs"}

set local lock_timeout = '10s';

drop trigger eve_jobs_media_went on eve.jobs;

delete from eve.operations where name in ('jobs');
delete from eve.alert_kinds where kind in ('job_lost');
delete from eve.maintenance_expected where operation in ('jobs');
do $$
begin
  if to_regclass('cron.job') is not null then
    perform cron.unschedule(j.jobname) from cron.job j where j.jobname in ('eve_jobs');
  end if;
end;
$$;

drop function eve.jobs_forget_ticks(timestamp with time zone);
drop function eve.jobs_may_wake(integer);
drop function eve.jobs_media_release(text[]);
drop function eve.jobs_tick();
drop function eve.post_to_function(text, jsonb, integer);
drop function public.eve_jobs_due();
drop function public.eve_jobs_sweep(integer);
drop function public.eve_jobs_worker_begin(uuid, text, integer);
drop function public.eve_jobs_worker_end(uuid);

drop function eve.jobs_media_went();
