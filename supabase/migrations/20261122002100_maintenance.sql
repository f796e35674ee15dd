-- What looks after the gateway: sweep, retention, rollup, report, key health, the list of models.
--
-- An operation is a row of eve.operations. A run of it is begun, goes on in steps and ends; each step is a transaction of
-- its own that takes some milliseconds, so no lock is held for long, a run that dies loses nothing but its last step, and
-- the next run goes on from there. What needs no HTTP is SQL from end to end and runs from cron as it does when the function
-- asks for it; both go through eve.begin_run and eve.step_run.
--
-- Two runs of one operation never overlap: anyone who begins or steps holds the operation's advisory lock for that transaction,
-- and the run itself holds a lease in the operation's row. A lease is written with an end, a little after the run's own, so
-- that a run which died does not hold it for ever: the next one closes it as failed and begins.

-- Held by anyone who begins, steps or ends a run of an operation, until its transaction ends.
create or replace function eve.operation_lock(operation text)
returns bigint
language sql
immutable
set search_path = ''
as $$
  select hashtextextended('eve operation ' || operation_lock.operation, 0);
$$;

-- Writes a row to the log, or completes one. The table is its owner's, and so are rules on it that refuse a row: they must
-- not stop the maintenance. Answers the row's id, null when there is none.
create or replace function eve.log_run(
  operation text, status text, started_at timestamptz, log_id bigint default null, tables text[] default '{}',
  deleted_count bigint default 0, details jsonb default '{}', completed_at timestamptz default null
)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_id bigint;
begin
  if log_run.log_id is not null then
    update public.google_ai_maintenance_log m
    set status = log_run.status, tables_affected = log_run.tables,
      deleted_count = least(log_run.deleted_count, 2147483647)::integer, details = log_run.details,
      completed_at = log_run.completed_at
    where m.id = log_run.log_id
    returning m.id into v_id;
    -- Somebody has deleted it.
    if found then
      return v_id;
    end if;
  end if;
  insert into public.google_ai_maintenance_log
    (operation, status, started_at, tables_affected, deleted_count, details, completed_at)
  values (
    log_run.operation, log_run.status, log_run.started_at, log_run.tables,
    least(log_run.deleted_count, 2147483647)::integer, log_run.details, log_run.completed_at
  )
  returning id into v_id;
  return v_id;
exception
  when integrity_constraint_violation or data_exception or raise_exception then
    perform eve.open_alert(
      'maintenance_log_refused', 'public.google_ai_maintenance_log', 'warning',
      format('A row for public.google_ai_maintenance_log was refused: %s. How each operation stands is in eve.operations.', sqlerrm)
    );
    return null;
end;
$$;

-- Takes the row of a run that found nothing to do out of the log again.
create or replace function eve.unlog_run(log_id bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  delete from public.google_ai_maintenance_log m where m.id = unlog_run.log_id and m.status = 'running';
exception
  -- The table's owner keeps its rows: then this one says how it ended.
  when integrity_constraint_violation or data_exception or raise_exception or insufficient_privilege then
    update public.google_ai_maintenance_log m
    set status = 'succeeded', completed_at = eve.clock()
    where m.id = unlog_run.log_id;
end;
$$;

-- Ends the run that an operation's row describes.
create or replace function eve.close_run(operation eve.operations, status text, error text default null, more boolean default false)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  -- Nobody's but the schedule's business.
  v_is_idle constant boolean := close_run.status = 'succeeded' and not close_run.more and (operation).done_count = 0
    and not (operation).logs_all and (operation).source in ('cron', 'call');
begin
  if not v_is_idle then
    perform eve.log_run(
      (operation).name, close_run.status, (operation).started_at, (operation).log_id, (operation).tables,
      (operation).done_count,
      jsonb_strip_nulls(
        jsonb_build_object(
          'run_id', (operation).run_id, 'source', (operation).source, 'error', close_run.error,
          'more', case when close_run.more then true end
        )
      ) || (operation).details,
      v_now
    );
  else
    perform eve.unlog_run((operation).log_id);
  end if;
  update eve.operations o
  set run_id = null, lease_until = null, ends_at = null, log_id = null, state = '{}', last_status = close_run.status,
    last_error = close_run.error, last_started_at = (operation).started_at, last_completed_at = v_now,
    last_succeeded_at = case close_run.status when 'succeeded' then v_now else o.last_succeeded_at end,
    idle_runs = o.idle_runs + v_is_idle::integer, last_idle_at = case when v_is_idle then v_now else o.last_idle_at end
  where o.name = (operation).name;
end;
$$;

-- Begins a run: {"status": "running", "run_id", "ends_in_ms"}, or {"status": "skipped", "reason"} while another one is on.
create or replace function eve.begin_run(operation text, source text, time_limit_ms integer default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- A run that has not ended so long after its time was up is dead: a step takes far less.
  v_grace constant interval := '30 seconds';
  v_now timestamptz;
  v_operation eve.operations;
  v_limit_ms integer;
  v_run_id bigint;
  v_log_id bigint;
  v_skipped text;
begin
  if not exists (select from eve.operations o where o.name = begin_run.operation) then
    raise exception 'there is no operation named %', begin_run.operation using errcode = 'EV400';
  elsif begin_run.time_limit_ms is not null and begin_run.time_limit_ms not between 1000 and 120000 then
    raise exception 'time_limit_ms must be between 1000 and 120000' using errcode = 'EV400';
  end if;
  if not pg_try_advisory_xact_lock(eve.operation_lock(begin_run.operation)) then
    v_skipped := 'another run is on';
  else
    v_now := eve.clock();
    select * into v_operation from eve.operations o where o.name = begin_run.operation for update;
    if v_operation.run_id is not null and v_operation.lease_until > v_now then
      v_skipped := 'another run is on';
    elsif v_operation.run_id is not null then
      perform eve.close_run(v_operation, 'failed', 'the run ended without a word: it was killed, or its time ran out');
    end if;
  end if;
  if v_skipped is not null then
    v_now := eve.clock();
    -- Anyone who reads sums asks for a rollup first, and may well do so beside another.
    if begin_run.source <> 'call' then
      perform eve.log_run(
        begin_run.operation, 'skipped', v_now, completed_at => v_now,
        details => jsonb_build_object('source', begin_run.source, 'reason', v_skipped)
      );
    end if;
    return jsonb_build_object('status', 'skipped', 'operation', begin_run.operation, 'reason', v_skipped);
  end if;

  v_limit_ms := coalesce(begin_run.time_limit_ms, v_operation.time_limit_ms);
  v_run_id := nextval('eve.operation_run');
  v_log_id := eve.log_run(
    begin_run.operation, 'running', v_now,
    details => jsonb_build_object('run_id', v_run_id, 'source', begin_run.source)
  );
  update eve.operations o
  set run_id = v_run_id, log_id = v_log_id, source = begin_run.source, started_at = v_now,
    ends_at = v_now + v_limit_ms * interval '1 millisecond',
    lease_until = v_now + v_limit_ms * interval '1 millisecond' + v_grace,
    tables = '{}', done_count = 0, details = '{}', state = '{}'
  where o.name = begin_run.operation;
  return jsonb_build_object(
    'status', 'running', 'operation', begin_run.operation, 'run_id', v_run_id, 'runs_in', v_operation.runs_in,
    'ends_in_ms', v_limit_ms
  );
end;
$$;

create or replace function eve.sweep_step(state jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- What one transaction closes at most.
  v_batch constant integer := 200;
  v_now constant timestamptz := eve.clock();
  v_expired integer;
  v_blocks integer;
  v_secrets integer;
begin
  v_expired := eve.expire_leases(null, v_batch);
  if v_expired = v_batch then
    return jsonb_build_object(
      'done', false, 'count', v_expired, 'tables', array['eve.inflight', 'eve.requests', 'eve.attempts'],
      'state', jsonb_build_object('expired', coalesce((sweep_step.state ->> 'expired')::integer, 0) + v_expired)
    );
  end if;
  with ended as (
    select b.key_id, b.model
    from eve.key_model_blocks b
    where b.blocked_until <= v_now
    limit v_batch
    for update skip locked
  )
  delete from eve.key_model_blocks b
  using ended
  where b.key_id = ended.key_id and b.model = ended.model;
  get diagnostics v_blocks = row_count;
  with ended as (
    select c.id
    from eve.consumers c
    where c.previous_secret_until <= v_now and c.previous_secret_hash is not null
    limit v_batch
    for no key update skip locked
  )
  update eve.consumers c
  set previous_secret_hash = null
  from ended
  where c.id = ended.id;
  get diagnostics v_secrets = row_count;
  return jsonb_build_object(
    'done', true, 'count', v_expired + v_blocks + v_secrets,
    'tables',
      case when v_expired > 0 then array['eve.inflight', 'eve.requests', 'eve.attempts'] else '{}'::text[] end
        || case when v_blocks > 0 then array['eve.key_model_blocks'] else '{}'::text[] end
        || case when v_secrets > 0 then array['eve.consumers'] else '{}'::text[] end,
    'details', jsonb_build_object(
      'expired', coalesce((sweep_step.state ->> 'expired')::integer, 0) + v_expired, 'blocks_ended', v_blocks,
      'old_secrets_forgotten', v_secrets
    )
  );
end;
$$;

-- One step of a run that is SQL from end to end: {"done", "status", "operation", "count", "tables", "details", "pause_ms"}.
-- Anyone who steps waits pause_ms before the next one, which leaves the database to others half of the time. Status is running,
-- succeeded, failed, or lost when the run is not the operation's any more.
create or replace function eve.step_run(run_id bigint)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_began constant timestamptz := clock_timestamp();
  v_name text;
  v_operation eve.operations;
  v_step jsonb;
  v_status text := 'running';
  v_error text;
  v_more boolean := false;
begin
  select o.name into v_name from eve.operations o where o.run_id = step_run.run_id;
  if found then
    perform pg_advisory_xact_lock(eve.operation_lock(v_name));
    select * into v_operation from eve.operations o where o.run_id = step_run.run_id for update;
  end if;
  if v_operation.name is null or v_operation.lease_until <= eve.clock() then
    return jsonb_build_object('done', true, 'status', 'lost', 'operation', v_name, 'pause_ms', 0);
  end if;

  if eve.clock() >= v_operation.ends_at then
    v_status := 'succeeded';
    v_more := true;
  else
    -- A crash loses at most steps that the next run does again, and nobody has to wait for the disk.
    perform set_config('synchronous_commit', 'off', true);
    begin
      v_step := case v_name
        when 'sweep' then eve.sweep_step(v_operation.state)
        when 'rollup' then eve.rollup_step(v_operation.state, v_operation.started_at)
        when 'retention' then eve.retention_step(v_operation.state, v_operation.started_at)
        when 'report' then eve.report_step()
      end;
      if v_step is null then
        raise exception 'operation % has no steps in SQL: ask the function maintenance for it', v_name using errcode = 'EV400';
      end if;
    exception
      -- A statement that was cancelled, for its time as a rule, is no less a failure of the run.
      when query_canceled or others then
        v_status := 'failed';
        v_error := format('%s (%s)', sqlerrm, sqlstate);
    end;
  end if;

  if v_step is not null and v_status = 'running' then
    v_operation.state := coalesce(v_step -> 'state', '{}');
    v_operation.done_count := v_operation.done_count + coalesce((v_step ->> 'count')::bigint, 0);
    v_operation.details := v_operation.details || coalesce(v_step -> 'details', '{}');
    if (v_step ->> 'count')::bigint > 0 then
      v_operation.tables := array(
        select distinct t
        from unnest(v_operation.tables || array(select jsonb_array_elements_text(v_step -> 'tables'))) t
        order by t
      );
    end if;
    if (v_step ->> 'done')::boolean then
      v_error := v_step ->> 'error';
      v_status := case when v_error is null then 'succeeded' else 'failed' end;
    end if;
  end if;
  if v_status = 'running' then
    update eve.operations o
    set state = v_operation.state, done_count = v_operation.done_count, details = v_operation.details,
      tables = v_operation.tables
    where o.name = v_name;
  else
    perform eve.close_run(v_operation, v_status, v_error, v_more);
  end if;
  return jsonb_build_object(
    'done', v_status <> 'running', 'status', v_status, 'operation', v_name, 'count', v_operation.done_count,
    'tables', to_jsonb(v_operation.tables), 'details', v_operation.details, 'more', v_more, 'error', v_error,
    'pause_ms', least(1000, ceil(extract(epoch from clock_timestamp() - v_began) * 1000))
  );
end;
$$;

create or replace function public.eve_maintenance_begin(
  operation text, time_limit_ms integer default null, source text default 'http'
)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select eve.begin_run(
    eve_maintenance_begin.operation, left(eve_maintenance_begin.source, 40), eve_maintenance_begin.time_limit_ms
  );
$$;
comment on function public.eve_maintenance_begin is 'Begins a run of an operation, or says that one is on. It is logged either way.';

create or replace function public.eve_maintenance_step(run_id bigint)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select eve.step_run(eve_maintenance_step.run_id);
$$;
comment on function public.eve_maintenance_step is 'One step of a run that is SQL from end to end. Call it until it answers done.';

create or replace function public.eve_maintenance_end(
  run_id bigint, status text, tables text[] default '{}', count bigint default 0, details jsonb default '{}',
  error text default null, more boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_operation eve.operations;
begin
  if eve_maintenance_end.status is null or eve_maintenance_end.status not in ('succeeded', 'failed') then
    raise exception 'status must be succeeded or failed' using errcode = 'EV400';
  end if;
  select * into v_operation from eve.operations o where o.run_id = eve_maintenance_end.run_id for update;
  if not found then
    return jsonb_build_object('status', 'lost');
  end if;
  v_operation.tables := coalesce(eve_maintenance_end.tables, '{}');
  v_operation.done_count := coalesce(eve_maintenance_end.count, 0);
  v_operation.details := coalesce(eve_maintenance_end.details, '{}');
  perform eve.close_run(
    v_operation, eve_maintenance_end.status, left(eve_maintenance_end.error, 2000), coalesce(eve_maintenance_end.more, false)
  );
  return jsonb_build_object('status', eve_maintenance_end.status);
end;
$$;
comment on function public.eve_maintenance_end is 'Ends a run and completes its row in the log. Answers lost for a run that had been given up for dead.';
