-- Keeping jobs going: which workers run, whether one is to be woken, what time ends, and what is deleted.

set local lock_timeout = '10s';

insert into eve.alert_kinds (kind, title, advice) values
  (
    'job_lost', 'Jobs given up',
    'Their workers died four times with them. See the log of the function worker: too little memory or CPU as a rule. Then hand the jobs in again under other ids.'
  )
on conflict (kind) do nothing;

-- Deletion of jobs releases the bodies and results that are kept with the media.
create or replace function eve.jobs_media_went()
returns trigger
language plpgsql
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
begin
  if exists (select from went w where w.body_media is not null or w.result_media is not null) then
    perform eve.jobs_media_release(array(select w.id::text from went w where w.body_media is not null or w.result_media is not null));
  end if;
  return null;
end;
$$;
create or replace trigger eve_jobs_media_went
after delete on eve.jobs
referencing old table as went
for each statement execute function eve.jobs_media_went();

-- These jobs use no media any more; the clean-up of the media deletes what nobody uses. ids: as text.
create or replace function eve.jobs_media_release(ids text[])
returns void
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
begin
  -- Objects before their references, as everywhere.
  perform
  from public.media_objects o
  where (o.tenant_id, o.file_sha256) in (
    select r.tenant_id, r.file_sha256 from eve.media_references r where r.ref_kind = 'job' and r.ref_id = any (jobs_media_release.ids)
  )
  order by o.tenant_id, o.file_sha256
  for update;
  delete from eve.media_references r where r.ref_kind = 'job' and r.ref_id = any (jobs_media_release.ids);
end;
$$;

-- Ends what nobody will end, and deletes what was kept long enough: {"back", "dead", "expired", "deleted"}.
create or replace function public.eve_jobs_sweep(at_most integer default 1000)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_lost jsonb;
  v_expired integer;
  v_deleted integer := 0;
  v_some integer;
  v_kind eve.job_kinds;
begin
  if eve_jobs_sweep.at_most is null or eve_jobs_sweep.at_most not between 1 and 100000 then
    raise exception 'at_most must be between 1 and 100000' using errcode = 'EV400';
  end if;
  perform eve.jobs_lock();
  -- Workers before jobs, as those have it who renew.
  delete from eve.job_workers w where w.lease_until <= v_now;
  v_lost := eve.jobs_return_lost(eve_jobs_sweep.at_most);
  with late as (
    select j.id
    from eve.jobs j
    where j.state in ('queued', 'running') and j.expires_at <= v_now
      -- What a provider makes ends when the provider says so; its time counts while it waits here.
      and (j.state = 'queued' or j.lease_token is not null)
    order by j.expires_at
    limit eve_jobs_sweep.at_most
    for no key update skip locked
  ), ended as (
    update eve.jobs j
    set state = 'expired', finished_at = v_now, error_code = 'job_expired',
      error_detail = concat_ws(' ', 'It had not ended in time.', 'Its last run: ' || j.error_detail),
      lease_token = null, lease_until = null, worker_id = null
    from late l
    where j.id = l.id
    returning 1
  )
  select count(*) into v_expired from ended;
  for v_kind in select * from eve.job_kinds loop
    with old as (
      select j.id
      from eve.jobs j
      where j.kind = v_kind.kind and j.finished_at <= v_now - v_kind.keep
      order by j.finished_at
      limit eve_jobs_sweep.at_most
      for update skip locked
    )
    delete from eve.jobs j using old o where j.id = o.id;
    get diagnostics v_some = row_count;
    v_deleted := v_deleted + v_some;
  end loop;
  -- Models that nobody asks for any more. What runs may come back to its queue.
  delete from eve.job_queues q
  where q.queued = 0 and q.used_at <= v_now - interval '2 days'
    and not exists (select from eve.jobs j where j.lease_until is not null and j.queue_id = q.id);
  update eve.alerts a
  set closed_at = v_now
  where a.kind = 'job_lost' and a.closed_at is null and a.last_seen_at <= v_now - interval '1 hour';
  return v_lost || jsonb_build_object('expired', v_expired, 'deleted', v_deleted);
end;
$$;
comment on function public.eve_jobs_sweep is 'Returns the jobs of workers that have died, ends what has expired, deletes what was kept long enough.';

-- Whether the function worker would find anything to do.
create or replace function public.eve_jobs_due()
returns boolean
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_now constant timestamptz := eve.clock();
begin
  return exists (select from eve.jobs j where j.lease_until <= v_now)
    or exists (
      select
      from eve.job_queues q
      where q.queued > 0 and (q.paused_until is null or q.paused_until <= v_now)
        and not exists (select from eve.job_kinds k where k.kind = q.kind and k.outside_only)
        -- The head of the queue alone: one look-up each.
        and (
          select j.run_at from eve.jobs j where j.queue_id = q.id and j.state = 'queued' order by j.run_at, j.no limit 1
        ) <= v_now
    );
end;
$$;
comment on function public.eve_jobs_due is 'Whether there is a job that the function worker could begin now.';

-- Whether the function worker is to be called: at most one asks in a second, and only while fewer than `running` + 1 run.
-- running: 0 to wake the first one; otherwise the setting jobs_workers less one.
create or replace function eve.jobs_may_wake(running integer)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
begin
  if (select count(*) from eve.job_workers w where w.place = 'edge' and w.lease_until > v_now) > jobs_may_wake.running
    or (select w.asked_at from eve.job_wake w) > v_now - interval '1 second' then
    return false;
  end if;
  -- Nobody waits for another who asks at the same time.
  perform from eve.job_wake w for update skip locked;
  if not found then
    return false;
  end if;
  update eve.job_wake w set asked_at = v_now where w.asked_at <= v_now - interval '1 second';
  return found;
end;
$$;

-- A worker begins: {"status": "begun"}, or "enough": as many of the function run as the setting jobs_workers allows (2).
create or replace function public.eve_jobs_worker_begin(worker_id uuid, place text, lease_ms integer)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
begin
  perform pg_advisory_xact_lock(hashtextextended('eve.job_workers', 0));
  if eve_jobs_worker_begin.place = 'edge'
    and (
      select count(*) from eve.job_workers w
      where w.place = 'edge' and w.lease_until > v_now and w.id <> eve_jobs_worker_begin.worker_id
    ) >= eve.alert_setting('jobs_workers', 2) then
    return jsonb_build_object('status', 'enough');
  end if;
  insert into eve.job_workers as w (id, place, started_at, lease_until)
  values (
    eve_jobs_worker_begin.worker_id, eve_jobs_worker_begin.place, v_now, eve.job_place_until(eve_jobs_worker_begin.lease_ms)
  )
  on conflict (id) do update set lease_until = excluded.lease_until;
  return jsonb_build_object('status', 'begun');
end;
$$;
comment on function public.eve_jobs_worker_begin is 'Writes down that a worker runs, unless enough of them do.';

-- A worker ends: {"wake": whether there is more to do, and the function is to be called again}.
create or replace function public.eve_jobs_worker_end(worker_id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  delete from eve.job_workers w where w.id = eve_jobs_worker_end.worker_id;
  return jsonb_build_object(
    'wake', public.eve_jobs_due() and eve.jobs_may_wake((eve.alert_setting('jobs_workers', 2) - 1)::integer)
  );
end;
$$;
comment on function public.eve_jobs_worker_end is 'Writes down that a worker has ended.';

-- Asks a function of the project to run, through pg_net: null, or what is missing.
create or replace function eve.post_to_function(path text, body jsonb, timeout_ms integer)
returns text
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_url text;
  v_key text;
begin
  -- As text: neither extension need be there.
  execute $sql$
    select max(s.decrypted_secret) filter (where s.name = 'eve_project_url'),
      max(s.decrypted_secret) filter (where s.name = 'eve_secret_key')
    from vault.decrypted_secrets s
    where s.name in ('eve_project_url', 'eve_secret_key')
  $sql$
  into v_url, v_key;
  if v_url is null or v_key is null then
    return 'Vault holds no eve_project_url or no eve_secret_key: see docs/maintenance.md';
  end if;
  execute 'select net.http_post(url => $1, body => $2, headers => $3, timeout_milliseconds => $4)'
  using eve.function_address(v_url, post_to_function.path), post_to_function.body,
    jsonb_build_object('content-type', 'application/json', 'apikey', v_key), post_to_function.timeout_ms;
  return null;
exception
  when undefined_table or undefined_function or invalid_schema_name or insufficient_privilege then
    return format('pg_net or Vault cannot be used: %s', sqlerrm);
end;
$$;

-- pg_cron notes every run: 17,000 a day of this job alone, some 8,000 of those that run every minute or seldom. Those that went well say
-- nothing after a while.
create or replace function eve.jobs_forget_ticks(before timestamptz)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  -- As text: the extension need not be there, and its rows are another's where another role schedules.
  execute $sql$
    delete from cron.job_run_details d
    using cron.job j
    where j.jobname like 'eve\_%' and d.jobid = j.jobid and d.status = 'succeeded'
      and d.end_time < $1 - case when j.jobname in ('eve_jobs', 'eve_graph') then interval '0' else interval '1 day' end
  $sql$
  using jobs_forget_ticks.before;
exception
  when undefined_table or insufficient_privilege then
    return;
end;
$$;

-- What cron runs every few seconds: the sweep, and a call of the function worker if it would find anything to do, be it a job or an event
-- that is to be delivered. Where it cannot be called, operation jobs has failed; otherwise it is noted once a minute that this runs.
create or replace function eve.jobs_tick()
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- The function answers at once, and works on.
  v_answer_ms constant integer := 20000;
  v_now constant timestamptz := eve.clock();
  v_status text := 'nothing_due';
  v_problem text;
begin
  perform public.eve_jobs_sweep();
  if public.eve_jobs_due() or eve.deliveries_are_due() then
    v_status := 'running';
    if eve.jobs_may_wake((eve.alert_setting('jobs_workers', 2) - 1)::integer) then
      v_problem := eve.post_to_function('worker', '{"source": "cron"}', v_answer_ms);
      v_status := case when v_problem is null then 'asked' else 'failed' end;
    end if;
  end if;
  update eve.operations o
  set idle_runs = o.idle_runs + 1, last_idle_at = v_now, last_error = v_problem,
    last_status = case when v_problem is null then 'succeeded' else 'failed' end,
    last_completed_at = v_now, last_succeeded_at = case when v_problem is null then v_now else o.last_succeeded_at end
  where o.name = 'jobs'
    and (o.last_error is distinct from v_problem or o.last_idle_at is null or o.last_idle_at <= v_now - interval '1 minute');
  if found and extract(minute from v_now) = 23 then
    perform eve.jobs_forget_ticks(v_now - interval '1 hour');
  end if;
  return jsonb_strip_nulls(jsonb_build_object('status', v_status, 'error', v_problem));
end;
$$;
comment on function eve.jobs_tick is 'What cron runs for jobs.';

insert into eve.operations (name, runs_in, schedule, time_limit_ms, logs_all, description) values
  ('jobs', 'sql', '5 seconds', 10000, false, 'Returns jobs whose workers have died, and calls the function worker when one is due.')
on conflict (name) do nothing;
insert into eve.maintenance_expected (operation, within_s) values ('jobs', 600)
on conflict (operation) do nothing;

do $$
begin
  begin
    perform public.eve_schedule();
  exception
    when insufficient_privilege then
      raise;
    when others then
      -- Before 1.5 pg_cron knows no time shorter than a minute. A job that is handed in wakes a worker all the same.
      raise notice 'schedule: % (%); jobs are looked after every minute', sqlerrm, sqlstate;
      update eve.operations o set schedule = '* * * * *' where o.name = 'jobs';
      perform public.eve_schedule();
  end;
exception
  when insufficient_privilege then
    raise notice 'schedule: % may not schedule jobs (%); run "select public.eve_schedule();" as a role that may', current_user, sqlerrm;
end;
$$;
