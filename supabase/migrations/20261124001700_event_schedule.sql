-- Delivering events. The worker does it as soon as one is due, and is called for it. The operation events of the function maintenance does
-- the same under the same leases, where no worker can be called, and says what is missing.

set local lock_timeout = '10s';

insert into eve.operations (name, runs_in, schedule, time_limit_ms, logs_all, description) values
  ('events', 'http', '* * * * *', 55000, false, 'Delivers events to webhooks and to anyone who else takes them.')
on conflict (name) do nothing;
insert into eve.maintenance_expected (operation, within_s) values ('events', 1800)
on conflict (operation) do nothing;

-- Whether the worker is to be called for an event, of a kind that it delivers: not while the operation events fails, since what that lacks
-- the worker lacks as well.
create or replace function eve.deliveries_are_due()
returns boolean
language sql
volatile
set search_path = ''
as $$
  select coalesce(eve.next_delivery_ms('{webhook}') <= 0, false)
    and not exists (select from eve.operations o where o.name = 'events' and o.last_status = 'failed');
$$;

do $$
begin
  perform public.eve_schedule();
exception
  when insufficient_privilege then
    raise notice 'schedule: % may not schedule jobs (%); run "select public.eve_schedule();" as a role that may', current_user, sqlerrm;
end;
$$;
