-- Looking after media: two operations of the function maintenance, and whether there is anything for them to do.

set local lock_timeout = '10s';

insert into eve.operations (name, runs_in, schedule, time_limit_ms, logs_all, description) values
  ('media', 'http', '*/5 * * * *', 100000, false, 'Deletes files whose time is over, moves what waits in the database to S3, reads what is not proven, and cleans up in an emergency.'),
  ('media_reconcile', 'http', '7,22,37,52 * * * *', 100000, true, 'Compares the registry of files with the bucket at 04:37, goes on until all of it is compared, and counts everything again.')
on conflict (name) do nothing;

-- Whether the function has anything to do for media: uploads or deletions whose time is over, objects without use for theirs, something
-- that waits for S3, an upload of the last hour that is not proven, an emergency. For media_reconcile: there is anything at all, and it is
-- its time of the night, or a comparison that began then has not come to its end.
create or replace function eve.media_is_due(operation text)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- What failed is tried again, though not every time.
  v_again constant interval := '10 minutes';
  v_now constant timestamptz := eve.clock();
  v_begins constant time := '04:37';
  v_time constant time := (v_now at time zone 'UTC')::time;
  v_operation eve.operations;
begin
  select * into v_operation from eve.operations o where o.name = media_is_due.operation;
  if not v_operation.is_active then
    return false;
  elsif media_is_due.operation = 'media_reconcile'
    and not (v_time >= v_begins and v_time < v_begins + interval '15 minutes')
    and not exists (select from eve.media_reconciliation r where r.state is not null) then
    return false;
  elsif v_operation.last_status = 'failed' then
    return v_operation.last_completed_at <= v_now - v_again;
  elsif media_is_due.operation = 'media_reconcile' then
    return exists (select from public.media_objects) or exists (select from eve.media_spool);
  end if;
  return exists (select from public.media_objects o where o.state in ('reserved', 'deleting') and o.expires_at <= v_now)
    or exists (
      select from eve.media_spool s
      where s.moves and s.next_try_at <= v_now and (s.claimed_until is null or s.claimed_until <= v_now)
    )
    or exists (
      select from public.media_objects o where o.state = 'stored' and o.s3_key is not null
        and coalesce(o.proof_at, o.address_until, o.last_seen_at) between v_now - interval '1 hour' and v_now
    )
    or exists (
      select
      from (values ('media', 'media_keep_days', 30), ('vision', 'vision_keep_days', 14), ('crawl', 'crawl_keep_days', 7)) as k (kind, setting, days)
      where exists (
        select
        from public.media_objects o
        where o.kind = k.kind and o.refs_count = 0 and o.state in ('stored', 'verified')
          and o.last_seen_at <= v_now - make_interval(days => eve.alert_setting(k.setting, k.days)::integer)
      )
    )
    or exists (
      select from eve.media_counters c
      where c.scope = 'total' and c.used_bytes + c.reserved_bytes >= eve.media_limit('emergency')
    );
end;
$$;
comment on function eve.media_is_due is 'Whether the function maintenance is worth calling for media.';

insert into eve.maintenance_expected (operation, within_s) values ('media', 3600), ('media_reconcile', 108000)
on conflict (operation) do nothing;

do $$
begin
  perform public.eve_schedule();
exception
  when insufficient_privilege then
    raise notice 'schedule: % may not schedule jobs (%); run "select public.eve_schedule();" as a role that may', current_user, sqlerrm;
end;
$$;
