-- When maintenance runs: jobs of pg_cron, named eve_ and the operation's name.
--
-- What is SQL from end to end runs in the database, whether HTTP works or not. The rest asks the database first whether anything is
-- due, and the function maintenance only then: a free project has 500,000 calls a month. It is asked through pg_net, with the project's URL and a secret key out of Vault (public.eve_connect puts them there).
--
-- On a project where pg_cron or pg_net is not enabled, this migration says so and goes on. Enable them, and run:
--   select public.eve_schedule();

set local lock_timeout = '10s';

-- What cron runs for an operation. One with a function eve.NAME_tick() is that function, which does little and often. Otherwise a block,
-- since only the outermost statement may commit between steps.
create or replace function eve.job_command(operation eve.operations)
returns text
language sql
stable
set search_path = ''
as $$
  select case
    when to_regprocedure(format('eve.%I()', (operation).name || '_tick')) is not null
      then format('do $eve$ begin perform eve.%I(); end $eve$', (operation).name || '_tick')
    when (operation).runs_in = 'http' then format('select eve.ask_operation(%L)', (operation).name)
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

-- The address of a function, and of what is below it: `maintenance/alerts`. In a project with a function of its own called maintenance,
-- the gateway's have a prefix: the function maintenance then stores the address up to it (https://<ref>.supabase.co/functions/v1/eve-)
-- as eve_project_url.
create or replace function eve.function_address(project_url text, path text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when function_address.project_url like '%/functions/v1/%' then function_address.project_url || function_address.path
    else rtrim(function_address.project_url, '/') || '/functions/v1/' || function_address.path
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
      using eve.function_address(v_url, 'maintenance/' || v_operation.name), '{"source": "cron"}'::jsonb,
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

-- Whether the function is worth calling for alerts: something has opened or closed since it last looked, a message is due on a
-- channel that it asked for then, a key is new and nobody has looked for its secret; and once an hour while something is open, for
-- a channel that has been set up since.
create or replace function eve.alerts_are_due(operation eve.operations, now_at timestamptz)
returns boolean
language sql
stable
set search_path = ''
as $$
  select ((operation).run_id is null or (operation).lease_until <= alerts_are_due.now_at)
    and (
      exists (
        select
        from eve.alerts a
        where greatest(a.opened_at, a.closed_at) > coalesce((operation).last_started_at, '-infinity')
          or a.closed_at is null and (operation).last_started_at <= alerts_are_due.now_at - interval '1 hour'
      )
      or exists (
        select
        from eve.alert_deliveries d
        join eve.alert_channels c on c.channel = d.channel and c.claimed_at >= (operation).last_started_at
        where d.state = 'pending' and d.next_try_at <= alerts_are_due.now_at
          and (d.claimed_until is null or d.claimed_until <= alerts_are_due.now_at)
      )
      or exists (
        select
        from public.google_ai_api_keys k
        where k.is_active and coalesce(k.env_var_name, '') not like 'stage:%'
          and k.created_at > coalesce((operation).last_started_at, '-infinity')
          and not exists (select from eve.key_checks c where c.key_id = k.id)
      )
    );
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
  -- A statement each, since a part of the gateway that is not there, or has gone its way down, has not its function either.
  case v_operation.name
    when 'alerts' then
      return eve.alerts_are_due(v_operation, v_now);
    when 'key_health' then
      return exists (
        select
        from jsonb_to_recordset(public.eve_key_checks()) as k (id uuid)
        left join eve.key_checks c on c.key_id = k.id
        where coalesce(greatest(c.checked_at, case c.outcome when 'works' then c.models_listed_at end), '-infinity') <= v_now - v_fresh
      );
    when 'models_sync' then
      return exists (select from jsonb_to_recordset(public.eve_key_checks()) as k (is_active boolean) where k.is_active);
    when 'providers_sync' then
      -- Once, for stages that the environment sets up; then for those that are set up, and for files that are to be deleted.
      return v_operation.last_started_at is null
        or exists (select from public.provider_configs)
        or exists (select from eve.jobs);
    when 'events' then
      return eve.next_delivery_ms(
        -- What the graph takes has operations of its own.
        array(select distinct c.kind from eve.event_consumers c where c.kind not like 'graph%')
      ) < 60000;
    when 'neo4j' then
      return eve.graph_sink_is_due('neo4j');
    when 'traces' then
      return eve.traces_are_due();
    when 'media', 'media_reconcile' then
      return eve.media_is_due(v_operation.name);
    else
      return true;
  end case;
end;
$$;

-- What cron runs for an operation of the function: what SQL can do of it, and a call only when something is due. A run that found
-- nothing to do is counted with the operation.
create or replace function eve.ask_operation(operation text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
begin
  if ask_operation.operation = 'alerts' then
    begin
      -- Kept up where nobody scrapes, so that the first scrape has little to catch up.
      perform public.eve_metrics_count();
    exception
      when others then
        raise warning 'metrics are not counted: %', sqlerrm;
    end;
    perform public.eve_alerts_evaluate();
  end if;
  if eve.operation_is_due(ask_operation.operation) then
    return eve.request_operation(ask_operation.operation);
  end if;
  update eve.operations o
  set idle_runs = o.idle_runs + 1, last_idle_at = v_now,
    last_succeeded_at = case when o.last_status is distinct from 'failed' then v_now else o.last_succeeded_at end
  where o.name = ask_operation.operation;
  return jsonb_build_object('status', 'nothing_due');
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

-- Makes cron's jobs those of eve.operations: {"scheduled": [..], "missing": [extensions that are not enabled]}. For anyone who
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
