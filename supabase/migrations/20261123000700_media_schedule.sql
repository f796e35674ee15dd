-- When the function maintenance is asked to look after media. The operations have no schedule of their own (eve_schedule leaves them
-- alone): their jobs ask the database first whether anything is due, so that an idle project costs no calls.

set local lock_timeout = '10s';

insert into eve.operations (name, runs_in, schedule, time_limit_ms, logs_all, description) values
  ('media', 'http', null, 100000, false, 'Deletes files whose time is over, moves what waits in the database to S3, reads what is not proven, and cleans up in an emergency.'),
  ('media_reconcile', 'http', null, 100000, true, 'Compares the registry of files with the bucket, and counts everything anew.')
on conflict (name) do nothing;

-- Whether the function has anything to do for media: uploads or deletions whose time is over, objects without use for theirs, something
-- that waits for S3, an upload of the last hour that is not proven, an emergency. For media_reconcile: there is anything at all.
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
  v_operation eve.operations;
begin
  select * into v_operation from eve.operations o where o.name = media_is_due.operation;
  if not v_operation.is_active then
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
      select from public.media_objects o where o.state = 'stored' and o.s3_key is not null and o.last_seen_at > v_now - interval '1 hour'
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

-- What cron runs: a call only when something is due, and otherwise a count.
create or replace function eve.ask_media(operation text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  if eve.media_is_due(ask_media.operation) then
    return eve.request_operation(ask_media.operation);
  end if;
  update eve.operations o
  set idle_runs = o.idle_runs + 1, last_idle_at = eve.clock()
  where o.name = ask_media.operation;
  return jsonb_build_object('status', 'nothing_due');
end;
$$;

do $$
begin
  if to_regnamespace('cron') is null then
    raise notice 'schedule: pg_cron is not enabled, so files are not looked after; enable it and run this migration again';
    return;
  end if;
  perform cron.schedule('eve_files', '*/5 * * * *', $command$select eve.ask_media('media')$command$);
  perform cron.schedule('eve_files_daily', '37 4 * * *', $command$select eve.ask_media('media_reconcile')$command$);
exception
  when insufficient_privilege then
    raise notice 'schedule: % may not schedule jobs (%)', current_user, sqlerrm;
end;
$$;
