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

-- Whether the function has anything to do for an operation. Keys whose models were listed a moment ago have shown that they work.
create or replace function eve.operation_is_due(operation text)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
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
    when 'events' then eve.next_delivery_ms(
      -- What the graph takes has operations of its own.
      array(select distinct c.kind from eve.event_consumers c where c.kind not like 'graph%')
    ) < 60000
    when 'neo4j' then eve.graph_sink_is_due('neo4j')
    when 'traces' then eve.traces_are_due()
    when 'media' then eve.media_is_due('media')
    when 'media_reconcile' then eve.media_is_due('media_reconcile')
    else true
  end;
end;
$$;

do $$
begin
  perform public.eve_schedule();
exception
  when insufficient_privilege then
    raise notice 'schedule: % may not schedule jobs (%); run "select public.eve_schedule();" as a role that may', current_user, sqlerrm;
end;
$$;
