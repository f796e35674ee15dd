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

comment on column eve.operations.schedule is 'When, as five fields of cron, in UTC; null: only when asked for. A change takes effect with public.eve_schedule().';
CREATE OR REPLACE FUNCTION eve.job_command(operation eve.operations)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case (operation).runs_in
    when 'http' then format('select eve.ask_operation(%L)', (operation).name)
    else btrim(format(
      $command$
do $eve$
declare
  v_run constant bigint := (eve.begin_run(%1$L, 'cron') ->> 'run_id')::bigint;
  v_step jsonb;
begin
  commit;
  while v_run is not null loop
    v_step := eve.step_run(v_run);
    commit;
    exit when (v_step ->> 'done')::boolean;
    perform pg_sleep((v_step ->> 'pause_ms')::double precision / 1000);
  end loop;
  if v_step ->> 'status' = 'failed' then
    raise exception '%1$s failed: %%', v_step ->> 'error' using errcode = 'EV500';
  end if;
end
$eve$
$command$,
      (operation).name
    ), E'\n')
  end;
$function$;
