-- The way down of 20261123000700_media_schedule.sql.
-- rows: eve.operations where name in ('media', 'media_reconcile')
-- seed: eve.operations {"name":"media","schedule":"*/5 * * * *","is_active":true,"time_limit_ms":100000}
-- seed: eve.operations {"name":"media_reconcile","schedule":"7,22,37,52 * * * *","is_active":true,"time_limit_ms":100000}
-- rows: eve.maintenance_expected where operation in ('media', 'media_reconcile')
-- seed: eve.maintenance_expected {"within_s":3600,"operation":"media"}
-- seed: eve.maintenance_expected {"within_s":108000,"operation":"media_reconcile"}

set local lock_timeout = '10s';

delete from eve.operations where name in ('media', 'media_reconcile');
delete from eve.maintenance_expected where operation in ('media', 'media_reconcile');
do $$
begin
  if to_regclass('cron.job') is not null then
    perform cron.unschedule(j.jobname) from cron.job j where j.jobname in ('eve_media', 'eve_media_reconcile');
  end if;
end;
$$;

drop function eve.media_is_due(text);
