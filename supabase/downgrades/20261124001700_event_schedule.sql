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
