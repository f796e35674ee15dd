-- When maintenance runs: jobs of pg_cron, named eve_ and the operation's name.
--
-- What is SQL from end to end runs in the database, whether HTTP works or not. The rest asks the function maintenance
-- through pg_net, with the project's URL and a secret key out of Vault (public.eve_connect puts them there).
--
-- On a project where pg_cron or pg_net is not enabled, this migration says so and goes on. Enable them, and run:
--   select public.eve_schedule();

set local lock_timeout = '10s';

-- What cron runs for an operation. A block, since only the outermost statement may commit between steps.
create or replace function eve.job_command(operation eve.operations)
returns text
language sql
immutable
set search_path = ''
as $$
  select case (operation).runs_in
    -- Alerts open and close without HTTP too; telling them needs it.
    when 'http' then format(
      'select %seve.request_operation(%L)', case (operation).name when 'alerts' then 'public.eve_alerts_evaluate(), ' else '' end,
      (operation).name
    )
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
$$;

-- Asks the function maintenance to run an operation. The answer comes later, and the function itself writes the log; what
-- keeps it from being asked at all is written here, once an hour.
create or replace function eve.request_operation(operation text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- The function answers when the run is over, and a run may take its time.
  v_answer_ms constant integer := 20000;
  v_now constant timestamptz := eve.clock();
  v_operation eve.operations;
  v_url text;
  v_key text;
  v_request_id bigint;
  v_problem text;
begin
  select * into v_operation from eve.operations o where o.name = request_operation.operation;
  if not found then
    raise exception 'there is no operation named %', request_operation.operation using errcode = 'EV400';
  end if;
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
      v_problem := 'Vault holds no eve_project_url or no eve_secret_key: see docs/maintenance.md';
    else
      execute 'select net.http_post(url => $1, body => $2, headers => $3, timeout_milliseconds => $4)'
      into v_request_id
      using rtrim(v_url, '/') || '/functions/v1/maintenance/' || v_operation.name, '{"source": "cron"}'::jsonb,
        jsonb_build_object('content-type', 'application/json', 'apikey', v_key), v_operation.time_limit_ms + v_answer_ms;
    end if;
  exception
    when undefined_table or undefined_function or invalid_schema_name or insufficient_privilege then
      v_problem := format('pg_net or Vault cannot be used: %s', sqlerrm);
  end;
  if v_problem is null then
    return jsonb_build_object('status', 'asked', 'request_id', v_request_id);
  end if;
  if v_operation.last_error is distinct from v_problem or v_operation.last_completed_at <= v_now - interval '1 hour' then
    perform eve.log_run(
      v_operation.name, 'failed', v_now, completed_at => v_now,
      details => jsonb_build_object('source', 'cron', 'error', v_problem)
    );
    update eve.operations o
    set last_status = 'failed', last_error = v_problem, last_started_at = v_now, last_completed_at = v_now
    where o.name = v_operation.name;
  end if;
  return jsonb_build_object('status', 'failed', 'error', v_problem);
end;
$$;

-- Puts the project's URL and a secret key into Vault, under eve_project_url and eve_secret_key. What is there already is
-- left alone.
create or replace function public.eve_connect(project_url text, secret_key text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_wanted record;
  v_stored record;
  v_changed text[] := '{}';
begin
  if eve_connect.project_url is null or eve_connect.project_url !~ '^https?://[^\s/]+' then
    raise exception 'project_url must be the address of the project, https://<ref>.supabase.co' using errcode = 'EV400';
  elsif coalesce(length(eve_connect.secret_key), 0) not between 8 and 8192 then
    raise exception 'secret_key must be a secret key of the project' using errcode = 'EV400';
  elsif to_regnamespace('vault') is null then
    raise exception 'Vault is not enabled: create extension supabase_vault' using errcode = 'EV503';
  end if;
  for v_wanted in
    select *
    from (values
      ('eve_project_url', rtrim(eve_connect.project_url, '/'), 'Where the schedule of EVE Gateway finds the function maintenance.'),
      ('eve_secret_key', eve_connect.secret_key, 'The key with which the schedule of EVE Gateway calls it.')
    ) as wanted (name, secret, description)
  loop
    execute 'select s.id, s.decrypted_secret from vault.decrypted_secrets s where s.name = $1'
    into v_stored
    using v_wanted.name;
    if v_stored.id is null then
      execute 'select vault.create_secret($1, $2, $3)' using v_wanted.secret, v_wanted.name, v_wanted.description;
    elsif v_stored.decrypted_secret is distinct from v_wanted.secret then
      execute 'select vault.update_secret($1, $2)' using v_stored.id, v_wanted.secret;
    else
      continue;
    end if;
    v_changed := v_changed || v_wanted.name;
  end loop;
  return jsonb_build_object('changed', to_jsonb(v_changed));
end;
$$;
comment on function public.eve_connect is 'Puts the project''s URL and a secret key into Vault, where the schedule finds them.';

-- Makes cron's jobs those of eve.operations: {"scheduled": [..], "missing": [extensions that are not enabled]}. For whoever
-- owns the database: cron runs a job as the role that scheduled it.
create or replace function public.eve_schedule()
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_operation eve.operations;
  v_job text;
  v_scheduled text[] := '{}';
  v_missing text[] := '{}';
  v_is_there boolean;
begin
  if to_regnamespace('net') is null then
    v_missing := array_append(v_missing, 'pg_net');
  end if;
  if to_regnamespace('cron') is null then
    v_missing := array_append(v_missing, 'pg_cron');
    return jsonb_build_object('scheduled', '[]'::jsonb, 'missing', to_jsonb(v_missing));
  end if;
  for v_operation in select * from eve.operations o order by o.name loop
    v_job := 'eve_' || v_operation.name;
    if v_operation.is_active and v_operation.schedule is not null then
      execute 'select cron.schedule($1, $2, $3)'
      using v_job, v_operation.schedule, eve.job_command(v_operation);
      v_scheduled := v_scheduled || v_job;
    else
      execute 'select exists (select from cron.job j where j.jobname = $1 and j.username = current_user)'
      into v_is_there
      using v_job;
      if v_is_there then
        execute 'select cron.unschedule($1)' using v_job;
      end if;
    end if;
  end loop;
  return jsonb_build_object('scheduled', to_jsonb(v_scheduled), 'missing', to_jsonb(v_missing));
end;
$$;
comment on function public.eve_schedule is 'Makes the jobs of pg_cron those that eve.operations names. Run it after a change there, and after enabling pg_cron or pg_net.';

do $$
declare
  v_extension record;
  v_done jsonb;
begin
  for v_extension in
    select *
    from (values
      ('pg_cron', 'cron', 'create extension if not exists pg_cron'),
      ('pg_net', 'net', 'create extension if not exists pg_net with schema extensions')
    ) as wanted (name, room, command)
    where to_regnamespace(wanted.room) is null
      and exists (select from pg_catalog.pg_available_extensions e where e.name = wanted.name)
  loop
    begin
      execute v_extension.command;
    exception
      -- Not allowed here, or not in this database: no reason to stop a migration.
      when others then
        raise notice 'schedule: % could not be enabled: %', v_extension.name, sqlerrm;
    end;
  end loop;
  begin
    v_done := public.eve_schedule();
  exception
    when insufficient_privilege then
      raise notice 'schedule: % may not schedule jobs (%); run "select public.eve_schedule();" as a role that may', current_user, sqlerrm;
      return;
  end;
  if v_done -> 'missing' ? 'pg_cron' then
    raise notice 'schedule: pg_cron is not enabled, so nothing runs by itself; enable it and run "select public.eve_schedule();"';
  elsif v_done -> 'missing' ? 'pg_net' then
    raise notice 'schedule: pg_net is not enabled, so key_health, models_sync and alerts do not run by themselves; enable it';
  end if;
end;
$$;
