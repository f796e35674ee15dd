-- The way down of 20261124001700_event_schedule.sql.
-- rows: eve.operations where name in ('events')
-- seed: eve.operations {"name":"events","schedule":"* * * * *","is_active":true,"time_limit_ms":55000}
-- rows: eve.maintenance_expected where operation in ('events')
-- seed: eve.maintenance_expected {"within_s":1800,"operation":"events"}

set local lock_timeout = '10s';

delete from eve.operations where name in ('events');
delete from eve.maintenance_expected where operation in ('events');
do $$
begin
  if to_regclass('cron.job') is not null then
    perform cron.unschedule(j.jobname) from cron.job j where j.jobname in ('eve_events', 'eve_traces');
  end if;
end;
$$;

drop function eve.deliveries_are_due();

CREATE OR REPLACE FUNCTION eve.operation_is_due(operation text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Less than the time between two runs of key_health.
  v_fresh constant interval := '10 minutes';
  v_now constant timestamptz := eve.clock();
  v_operation eve.operations;
begin
  select * into v_operation from eve.operations o where o.name = operation_is_due.operation;
  -- What failed is tried again, though not every minute.
  if v_operation.last_status = 'failed' and v_operation.last_completed_at <= v_now - v_fresh then
    return true;
  end if;
  return case v_operation.name
    when 'alerts' then eve.alerts_are_due(v_operation, v_now)
    when 'key_health' then exists (
      select
      from jsonb_to_recordset(public.eve_key_checks()) as k (id uuid)
      left join eve.key_checks c on c.key_id = k.id
      where coalesce(greatest(c.checked_at, case c.outcome when 'works' then c.models_listed_at end), '-infinity') <= v_now - v_fresh
    )
    when 'models_sync' then exists (
      select from jsonb_to_recordset(public.eve_key_checks()) as k (is_active boolean) where k.is_active
    )
    -- Once, for stages that the environment sets up; then for those that are set up, and for files that are to be deleted.
    when 'providers_sync' then v_operation.last_started_at is null
      or exists (select from public.provider_configs)
      or exists (select from eve.jobs)
    when 'media' then eve.media_is_due('media')
    when 'media_reconcile' then eve.media_is_due('media_reconcile')
    else true
  end;
end;
$function$;
