-- What looks after the gateway: sweep, retention, rollup, report, key health, the list of models.
--
-- An operation is a row of eve.operations. A run of it is begun, goes on in steps and ends; each step is a transaction of
-- its own that takes some milliseconds, so no lock is held for long, a run that dies loses nothing but its last step, and
-- the next run goes on from there. What needs no HTTP is SQL from end to end and runs from cron as it does when the function
-- asks for it; both go through eve.begin_run and eve.step_run.
--
-- Two runs of one operation never overlap: whoever begins or steps holds the operation's advisory lock for that transaction,
-- and the run itself holds a lease in the operation's row. A lease is written with an end, a little after the run's own, so
-- that a run which died does not hold it for ever: the next one closes it as failed and begins.

set local lock_timeout = '10s';

create sequence if not exists eve.operation_run as bigint;
comment on sequence eve.operation_run is 'Numbers the runs of operations.';

create table if not exists eve.operations (
  name text primary key,
  runs_in text not null,
  schedule text,
  is_active boolean not null default true,
  time_limit_ms integer not null,
  description text not null,
  run_id bigint,
  log_id bigint,
  source text,
  started_at timestamptz,
  ends_at timestamptz,
  lease_until timestamptz,
  tables text[] not null default '{}',
  done_count bigint not null default 0,
  details jsonb not null default '{}',
  state jsonb not null default '{}',
  last_status text,
  last_error text,
  last_started_at timestamptz,
  last_completed_at timestamptz,
  last_succeeded_at timestamptz,
  constraint operations_runs_in_known check (runs_in in ('sql', 'http')),
  -- A hosted function has 150 seconds in all on the free plan.
  constraint operations_time_limit_range check (time_limit_ms between 1000 and 120000),
  constraint operations_last_status_known check (last_status in ('succeeded', 'failed'))
) with (fillfactor = 50);
create unique index if not exists operations_run_id_key on eve.operations (run_id);
comment on table eve.operations is 'What maintenance does, how often, and where it stands. The history is in public.google_ai_maintenance_log.';
comment on column eve.operations.runs_in is 'sql: cron runs it in the database. http: cron asks the function maintenance for it.';
comment on column eve.operations.schedule is 'When, as five fields of cron, in UTC; null: only when asked for. A change takes effect with public.eve_schedule().';
comment on column eve.operations.time_limit_ms is 'A run ends in order after so many milliseconds, and the next one goes on: 1000 to 120000.';
comment on column eve.operations.run_id is 'The run that is on; null: none. What follows up to state is about that run.';
comment on column eve.operations.log_id is 'Its row in public.google_ai_maintenance_log.';
comment on column eve.operations.source is 'Who asked for it: cron, http or call.';
comment on column eve.operations.ends_at is 'When the run''s time is up; lease_until: when it is given up for dead.';
comment on column eve.operations.tables is 'Tables changed so far; done_count: rows, details: facts for the log.';
comment on column eve.operations.state is 'How far it has come.';
comment on column eve.operations.last_status is 'How the last run ended that was not skipped: succeeded or failed.';

insert into eve.operations (name, runs_in, schedule, time_limit_ms, description) values
  ('sweep', 'sql', '* * * * *', 40000, 'Closes reservations whose callers have died, and forgets blocks and old secrets that have ended.'),
  ('rollup', 'sql', '*/5 * * * *', 50000, 'Sums the audit up by hour and by Pacific day.'),
  ('retention', 'sql', '17 * * * *', 100000, 'Deletes what is older than eve.retention keeps.'),
  ('report', 'sql', '20 8 * * *', 60000, 'Yesterday, by the Pacific calendar, in numbers.'),
  ('key_health', 'http', '*/15 * * * *', 100000, 'Asks upstream whether each key works, at no cost.'),
  ('models_sync', 'http', '43 */6 * * *', 100000, 'Reads the list of models of each key.'),
  ('alerts', 'http', '* * * * *', 50000, 'Opens and closes alerts, and delivers them.')
on conflict (name) do nothing;

create table if not exists eve.retention (
  table_name text primary key,
  keep interval,
  at_least interval not null,
  batch_rows integer not null default 2000,
  description text not null,
  constraint retention_keeps_what_still_counts check (keep >= at_least),
  constraint retention_batch_rows_range check (batch_rows between 100 and 50000)
);
comment on table eve.retention is 'How long each table keeps its rows. A change takes effect with the next run.';
comment on column eve.retention.keep is 'Older rows are deleted; null: none ever is.';
comment on column eve.retention.at_least is 'Within this age a row may still count towards a limit, a budget, a running request or a sum.';
comment on column eve.retention.batch_rows is 'Rows looked at in one transaction: 100 to 50000.';

insert into eve.retention (table_name, keep, at_least, description) values
  ('eve.request_results', '7 days', '1 day', 'Answers kept for repeated request ids.'),
  ('eve.captures', '7 days', '1 minute', 'Prompts and answers kept for debugging.'),
  ('eve.attempts', '30 days', '2 days', 'Audit: every reservation that ended.'),
  ('eve.requests', '30 days', '2 days', 'Audit: every request that ended. Until then its request_id is taken.'),
  ('eve.refusals', '30 days', '2 days', 'Audit: every reservation that was refused.'),
  ('eve.access_log', '400 days', '1 day', 'Audit: what was done to consumers and tokens.'),
  ('eve.access_refusals', '30 days', '1 day', 'Audit: credentials that were refused.'),
  ('eve.scoped_tokens', '30 days', '2 days', 'Tokens of notebooks, counted from their expiry.'),
  ('eve.issue_windows', '1 hour', '5 minutes', 'Who has asked for tokens in the last minutes.'),
  ('eve.consumer_minutes', '1 day', '5 minutes', 'Requests of consumers in the last minute.'),
  ('eve.consumer_days', '400 days', '3 days', 'What consumers with a budget have spent in a day.'),
  ('eve.lane_buckets', '10 minutes', '5 minutes', 'Starts of idle lanes that no minute window reaches; busy lanes clear their own.'),
  ('eve.alerts', '180 days', '1 day', 'Alerts, counted from when they were closed.'),
  ('eve.usage_hours', '400 days', '35 days', 'Sums by the hour.'),
  ('eve.usage_days', null, '35 days', 'Sums by the Pacific day: a few rows a day.'),
  ('public.google_ai_maintenance_log', '90 days', '3 days', 'What maintenance did; rows of other programs stay.'),
  ('cron.job_run_details', '7 days', '1 day', 'pg_cron''s own history of the gateway''s jobs.')
on conflict (table_name) do nothing;

create table if not exists eve.rollup_progress (
  only_row boolean primary key default true,
  rolled_until timestamptz,
  frozen_before timestamptz,
  hours_frozen_before timestamptz,
  constraint rollup_progress_has_one_row check (only_row)
);
insert into eve.rollup_progress (only_row) values (true) on conflict do nothing;
comment on table eve.rollup_progress is 'How far the sums have come. One row.';
comment on column eve.rollup_progress.rolled_until is 'Everything written to the audit before this time is in eve.usage_hours.';
comment on column eve.rollup_progress.frozen_before is 'Retention has been at the audit before this time, so hours before it are not summed anew.';
comment on column eve.rollup_progress.hours_frozen_before is 'The same for days, which are summed from eve.usage_hours.';

create table if not exists eve.usage_hours (
  id bigint generated always as identity primary key,
  hour timestamptz not null,
  consumer_id uuid,
  model text not null,
  key_id uuid,
  door text not null,
  requests bigint not null default 0,
  succeeded bigint not null default 0,
  failed bigint not null default 0,
  cancelled bigint not null default 0,
  expired bigint not null default 0,
  refused bigint not null default 0,
  attempts bigint not null default 0,
  dispatched bigint not null default 0,
  upstream_refused bigint not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  thoughts_tokens bigint not null default 0,
  cached_tokens bigint not null default 0,
  wait_ms bigint not null default 0,
  latency_ms bigint not null default 0,
  constraint usage_hours_hour_consumer_model_key_door_key unique nulls not distinct (hour, consumer_id, model, key_id, door)
);
comment on table eve.usage_hours is 'The audit summed by hour, consumer, model, key and door. Made by rollup, and made anew where a late settlement changes an hour.';
comment on column eve.usage_hours.hour is 'Its beginning. Requests count in the hour they came, refusals when they were refused, attempts and their tokens when they started.';
comment on column eve.usage_hours.consumer_id is 'Null: the project''s own key.';
comment on column eve.usage_hours.model is 'The model that served; of a refusal the one that was asked for.';
comment on column eve.usage_hours.key_id is 'Of a request the key of its last attempt; null: none was used.';
comment on column eve.usage_hours.requests is 'Requests that came and have ended: succeeded, failed, cancelled and expired together.';
comment on column eve.usage_hours.refused is 'Reservations that were refused.';
comment on column eve.usage_hours.attempts is 'Reservations that were granted, of requests that have ended; dispatched: those that called upstream.';
comment on column eve.usage_hours.upstream_refused is 'Attempts that upstream answered with 429.';
comment on column eve.usage_hours.wait_ms is 'Milliseconds that the requests waited for their starts, together; latency_ms: that upstream took.';

create table if not exists eve.usage_days (
  id bigint generated always as identity primary key,
  day date not null,
  consumer_id uuid,
  model text not null,
  key_id uuid,
  door text not null,
  requests bigint not null default 0,
  succeeded bigint not null default 0,
  failed bigint not null default 0,
  cancelled bigint not null default 0,
  expired bigint not null default 0,
  refused bigint not null default 0,
  attempts bigint not null default 0,
  dispatched bigint not null default 0,
  upstream_refused bigint not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  thoughts_tokens bigint not null default 0,
  cached_tokens bigint not null default 0,
  wait_ms bigint not null default 0,
  latency_ms bigint not null default 0,
  constraint usage_days_day_consumer_model_key_door_key unique nulls not distinct (day, consumer_id, model, key_id, door)
);
comment on table eve.usage_days is 'eve.usage_hours summed by the day in America/Los_Angeles. The columns mean the same.';

create table if not exists eve.key_checks (
  key_id uuid primary key,
  checked_at timestamptz not null,
  outcome text not null,
  reason text,
  detail text,
  works_since timestamptz,
  models_listed_at timestamptz,
  constraint key_checks_outcome_known check (outcome in ('works', 'rejected', 'secret_missing', 'unclear'))
);
comment on table eve.key_checks is 'What the last check of each key found.';
comment on column eve.key_checks.outcome is 'unclear: upstream could not be asked, or said nothing about the key.';
comment on column eve.key_checks.works_since is 'Since when every check has found it working; null: the last one did not.';

-- Which secrets upstream has rejected: so that another one, once it is set, is known for another. There is more than one, since
-- instances with an earlier secret run on for a while, and theirs must not pass for a new one.
create table if not exists eve.rejected_secrets (
  key_id uuid not null,
  secret_hash text not null,
  rejected_at timestamptz not null,
  primary key (key_id, secret_hash),
  constraint rejected_secrets_hash_form check (secret_hash ~ '^[0-9a-f]{64}$')
);
comment on table eve.rejected_secrets is 'Hashes of the secrets that upstream rejected while they were a key''s, 20 a key at most.';
comment on column eve.rejected_secrets.secret_hash is 'HMAC-SHA-256 of the secret, with the key''s id for the HMAC''s key, in hexadecimal.';

create table if not exists eve.key_models (
  key_id uuid not null,
  model text not null,
  first_listed_at timestamptz not null,
  last_listed_at timestamptz not null,
  vanished_at timestamptz,
  primary key (key_id, model)
);
comment on table eve.key_models is 'The models that upstream lists for each key, and those it used to list.';
comment on column eve.key_models.vanished_at is 'When it was first missing from the list; null: it is on it.';

-- What makes each batch cheap. Old rows are found by age where age leads an index; the audit's are read in the order of
-- their numbers, which is nearly that of age, and needs no index beyond the primary key.
create index if not exists scoped_tokens_expires_at_idx on eve.scoped_tokens (expires_at);
create index if not exists requests_received_at_idx on eve.requests using brin (received_at) with (autosummarize = on);
create index if not exists attempts_start_ms_idx on eve.attempts using brin (start_ms) with (autosummarize = on);
do $$
declare
  v_index record;
begin
  for v_index in
    select *
    from (values
      ('google_ai_usage_counters_minute_bucket_idx', 'google_ai_usage_counters', 'minute_bucket'),
      ('google_ai_maintenance_log_started_at_idx', 'google_ai_maintenance_log', 'started_at')
    ) as wanted (name, table_name, column_name)
    where not exists (
      select
      from pg_catalog.pg_index i
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where i.indrelid = ('public.' || wanted.table_name)::regclass and i.indpred is null and i.indisvalid
        and a.attname = wanted.column_name
    )
  loop
    execute format('create index %I on public.%I (%I)', v_index.name, v_index.table_name, v_index.column_name);
  end loop;
end;
$$;

-- The tables that existing deployments have filled by hand: what is older there than would be kept is the owner's, and stays
-- until he says otherwise.
do $$
declare
  v_rule record;
  v_has_older boolean;
begin
  for v_rule in
    select *
    from (values
      ('google_ai_usage_counters', 'minute_bucket', interval '180 days', 'What each key has spent, by the minute.'),
      ('token_usage', 'ts', interval '400 days', 'Tokens, a row an attempt.')
    ) as wanted (name, time_column, keep, description)
    where not exists (select from eve.retention r where r.table_name = 'public.' || wanted.name)
  loop
    execute format(
      'select exists (select from public.%I t where t.%I < now() - $1)', v_rule.name, v_rule.time_column
    )
    into v_has_older
    using v_rule.keep;
    insert into eve.retention (table_name, keep, at_least, description)
    values ('public.' || v_rule.name, case when not v_has_older then v_rule.keep end, '3 days', v_rule.description);
    if v_has_older then
      raise notice 'retention: public.% holds rows older than %, so all of it is kept; to have it cleared, set keep in eve.retention', v_rule.name, v_rule.keep;
    end if;
  end loop;
end;
$$;

-- Runs -----------------------------------------------------------------------------------------------------------------

-- Held by whoever begins, steps or ends a run of an operation, until its transaction ends.
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

-- Ends the run that an operation's row describes.
create or replace function eve.close_run(operation eve.operations, status text, error text default null, more boolean default false)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
begin
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
  update eve.operations o
  set run_id = null, lease_until = null, ends_at = null, log_id = null, state = '{}', last_status = close_run.status,
    last_error = close_run.error, last_started_at = (operation).started_at, last_completed_at = v_now,
    last_succeeded_at = case close_run.status when 'succeeded' then v_now else o.last_succeeded_at end
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
    perform eve.log_run(
      begin_run.operation, 'skipped', v_now, completed_at => v_now,
      details => jsonb_build_object('source', begin_run.source, 'reason', v_skipped)
    );
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

-- One step of a run that is SQL from end to end: {"done", "status", "operation", "count", "tables", "details", "pause_ms"}.
-- Whoever steps waits pause_ms before the next one, which leaves the database to others half of the time. Status is running,
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

-- Sweep ----------------------------------------------------------------------------------------------------------------

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

-- Retention ------------------------------------------------------------------------------------------------------------

-- Deletes from a table whose rows are numbered nearly in the order of their age: the next `at_most` rows by number, as far
-- as they are old. `old` is our own text, never a caller's.
--
-- Tried and dropped: to find old rows through the BRIN index on their time. What was deleted and not yet vacuumed is then
-- read again by every batch, so a run costs the square of what it deletes.
create or replace function eve.delete_numbered(
  relation regclass, key_column text, old text, before timestamptz, after bigint, at_most integer,
  out deleted bigint, out seen bigint, out last_key bigint
)
language plpgsql
volatile
set search_path = ''
-- A table's first statistics come after its first millions of rows.
set enable_seqscan = 'off'
set jit = 'off'
as $$
begin
  execute format(
    $sql$
      with window_of_rows as materialized (
        select t.ctid as place, t.%2$I as number, %3$s as is_old
        from %1$s t
        where t.%2$I > $2
        order by t.%2$I
        fetch first ($3) rows with ties
      ), gone as (
        delete from %1$s t
        where t.ctid = any (array(select w.place from window_of_rows w where w.is_old))
        returning 1
      )
      select (select count(*) from gone), count(*), max(w.number)
      from window_of_rows w
    $sql$,
    delete_numbered.relation, delete_numbered.key_column, delete_numbered.old
  )
  into deleted, seen, last_key
  using delete_numbered.before, delete_numbered.after, delete_numbered.at_most;
end;
$$;

-- Deletes the `at_most` oldest rows of a table by a column that an index is led by, or of a small table without one. Rows
-- that somebody holds are left to the next run. `also` is our own text, never a caller's.
create or replace function eve.delete_oldest(
  relation regclass, time_column text, before timestamptz, after timestamptz, at_most integer, also text default 'true',
  out deleted bigint, out seen bigint, out last_at timestamptz
)
language plpgsql
volatile
set search_path = ''
set jit = 'off'
as $$
begin
  execute format(
    $sql$
      with oldest as materialized (
        select t.ctid as place, t.%2$I as at
        from %1$s t
        where t.%2$I < $1 and t.%2$I >= $2 and (%3$s)
        order by t.%2$I
        limit $3
        for update skip locked
      ), gone as (
        delete from %1$s t
        where t.ctid = any (array(select o.place from oldest o))
        returning 1
      )
      select (select count(*) from gone), count(*), max(o.at)
      from oldest o
    $sql$,
    delete_oldest.relation, delete_oldest.time_column, delete_oldest.also
  )
  into deleted, seen, last_at
  using delete_oldest.before, delete_oldest.after, delete_oldest.at_most;
end;
$$;

-- One batch of one table. `after` is where the batch before it ended: null at first, and null again in `next_after` when the
-- table is done. Tables that are not there, or that whoever runs this may not change, are done at once.
create or replace function eve.retention_batch(
  rule eve.retention, now_at timestamptz, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- After so many rows in a row that are young, the rest of a numbered table is young too. Numbers are handed to connections
  -- 32 at a time, so a few young rows stand among old ones.
  v_young_enough constant bigint := 10000;
  v_table constant text := (rule).table_name;
  v_rows constant integer := (rule).batch_rows;
  v_is_summed constant boolean := v_table in ('eve.requests', 'eve.attempts', 'eve.refusals');
  v_before timestamptz := retention_batch.now_at - (rule).keep;
  v_rolled_until timestamptz;
  v_relation regclass;
  v_batch record;
  v_young bigint;
begin
  deleted := 0;
  -- Not to_regclass, which fails where one may not enter the schema.
  select c.oid into v_relation
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = split_part(v_table, '.', 1) and c.relname = split_part(v_table, '.', 2)
    and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'delete');
  if v_relation is null or v_before is null then
    return;
  end if;
  if v_is_summed then
    -- What has not been summed up yet stays; the hour is for settlements under way. Locked, so that nobody takes the sums
    -- back while their rows are deleted.
    select p.rolled_until into v_rolled_until from eve.rollup_progress p for update;
    if v_rolled_until is null then
      return;
    end if;
    v_before := least(v_before, v_rolled_until - interval '1 hour');
    update eve.rollup_progress p
    set frozen_before = v_before
    where p.frozen_before is null or p.frozen_before < v_before;
  elsif v_table = 'eve.usage_hours' then
    update eve.rollup_progress p
    set hours_frozen_before = v_before
    where p.hours_frozen_before is null or p.hours_frozen_before < v_before;
  end if;

  case
    when v_is_summed or v_table in ('eve.request_results', 'eve.captures', 'eve.access_log', 'cron.job_run_details') then
      select * into v_batch
      from eve.delete_numbered(
        v_relation,
        case v_table
          when 'eve.refusals' then 'id'
          when 'eve.access_log' then 'id'
          when 'cron.job_run_details' then 'runid'
          else 'request_no'
        end,
        case v_table
          when 'eve.requests' then 't.finished_at < $1'
          when 'eve.attempts' then
            't.settled_at < $1 and not exists (select from eve.inflight i where i.request_no = t.request_no)'
          when 'eve.refusals' then 't.refused_at < $1'
          when 'eve.request_results' then 't.kept_at < $1'
          when 'eve.captures' then 't.captured_at < $1'
          when 'eve.access_log' then 't.at < $1'
          -- A job's history is its owner's, so only our own jobs'.
          else $old$coalesce(t.end_time, t.start_time) < $1
            and t.jobid in (select j.jobid from cron.job j where j.jobname like 'eve\_%')$old$
        end,
        v_before, coalesce((retention_batch.after ->> 'number')::bigint, 0), v_rows
      );
      v_young := case v_batch.deleted
        when 0 then coalesce((retention_batch.after ->> 'young')::bigint, 0) + v_batch.seen
        else 0
      end;
      if v_batch.seen >= v_rows and v_young < v_young_enough then
        next_after := jsonb_build_object('number', v_batch.last_key, 'young', v_young);
      end if;
      deleted := v_batch.deleted;
    when v_table in (
      'eve.access_refusals', 'eve.bad_requests', 'eve.scoped_tokens', 'eve.consumer_days', 'eve.alerts', 'eve.usage_hours', 'eve.usage_days',
      'public.google_ai_usage_counters', 'public.token_usage', 'public.google_ai_maintenance_log'
    ) then
      select * into v_batch
      from eve.delete_oldest(
        v_relation,
        case v_table
          when 'eve.access_refusals' then 'minute'
          when 'eve.bad_requests' then 'minute'
          when 'eve.scoped_tokens' then 'expires_at'
          when 'eve.consumer_days' then 'day'
          when 'eve.alerts' then 'closed_at'
          when 'eve.usage_hours' then 'hour'
          when 'eve.usage_days' then 'day'
          when 'public.google_ai_usage_counters' then 'minute_bucket'
          when 'public.token_usage' then 'ts'
          else 'started_at'
        end,
        v_before, coalesce((retention_batch.after ->> 'at')::timestamptz, '-infinity'), v_rows,
        case v_table
          when 'eve.scoped_tokens' then 'not exists (select from eve.inflight i where i.token_id = t.id)'
          -- Our own rows say who asked for the run; columns made by hand hold text or json.
          when 'public.google_ai_maintenance_log' then 't.status <> ''running'' and to_jsonb(t.details) ? ''source'''
          else 'true'
        end
      );
      if v_batch.seen >= v_rows then
        next_after := jsonb_build_object('at', v_batch.last_at);
      end if;
      deleted := v_batch.deleted;
    when v_table = 'eve.issue_windows' then
      delete from eve.issue_windows w
      where w.subject in (
        select o.subject
        from eve.issue_windows o
        where o.minute < floor(extract(epoch from v_before) / 60)
        limit v_rows
        for update skip locked
      );
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    when v_table = 'eve.consumer_minutes' then
      delete from eve.consumer_minutes m
      where m.consumer_id in (
        select o.consumer_id
        from eve.consumer_minutes o
        where o.second < floor(extract(epoch from v_before))
        limit v_rows
        for update skip locked
      );
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    when v_table = 'eve.lane_buckets' then
      -- Lane by lane, since the lane leads the index.
      execute $sql$
        with old as materialized (
          select b.place
          from eve.lanes l
          cross join lateral (
            select b.ctid as place
            from eve.lane_buckets b
            where b.lane_id = l.id and b.at_ms < $1
            order by b.at_ms
            limit $2
            for update skip locked
          ) b
          limit $2
        )
        delete from eve.lane_buckets b
        where b.ctid = any (array(select o.place from old o))
      $sql$
      using floor(extract(epoch from v_before) * 1000)::bigint, v_rows;
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    else
      null; -- A table that this version does not know.
  end case;
end;
$$;

-- Goes through the tables by name until a batch has deleted something. State: the table that it has come to, and where in
-- it. An owner's own rules may keep rows of his tables from being deleted; the other tables are cleared all the same, and
-- the run fails at its end with what was refused.
create or replace function eve.retention_step(state jsonb, now_at timestamptz)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_deleted jsonb := coalesce(retention_step.state -> 'deleted', '{}');
  v_refused jsonb := coalesce(retention_step.state -> 'refused', '{}');
  v_table text := retention_step.state ->> 'table';
  v_after jsonb := retention_step.state -> 'after';
  v_rule eve.retention;
  v_changed text;
  v_count bigint := 0;
begin
  if v_table is null then
    select min(r.table_name) into v_table from eve.retention r;
  end if;
  while v_table is not null and v_changed is null loop
    select * into v_rule from eve.retention r where r.table_name = v_table;
    begin
      select b.deleted, b.next_after
      into v_count, v_after
      from eve.retention_batch(v_rule, retention_step.now_at, v_after) b;
    exception
      when integrity_constraint_violation or data_exception or raise_exception or insufficient_privilege then
        if v_table not like 'public.%' then
          raise;
        end if;
        v_refused := v_refused || jsonb_build_object(v_table, sqlerrm);
        v_count := 0;
        v_after := null;
    end;
    if v_count > 0 then
      v_changed := v_table;
      v_deleted := v_deleted || jsonb_build_object(v_table, coalesce((v_deleted ->> v_table)::bigint, 0) + v_count);
    end if;
    if v_after is null then
      select min(r.table_name) into v_table from eve.retention r where r.table_name > v_table;
    end if;
  end loop;
  return jsonb_build_object(
    'done', v_table is null, 'count', v_count, 'tables', array_remove(array[v_changed], null),
    'details', jsonb_build_object('deleted', v_deleted),
    'error', case
      when v_table is null and v_refused <> '{}' then (
        select string_agg(format('%s keeps its rows: %s', r.key, r.value), '; ' order by r.key)
          || '. Mend that, or set keep to null in eve.retention.'
        from jsonb_each_text(v_refused) r
      )
    end,
    'state', jsonb_strip_nulls(jsonb_build_object('table', v_table, 'after', v_after))
      || jsonb_build_object('deleted', v_deleted, 'refused', v_refused)
  );
end;
$$;

-- Rollup ---------------------------------------------------------------------------------------------------------------

-- The beginning of the first hour that retention has not been at.
create or replace function eve.first_whole_hour(frozen_before timestamptz)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
  select case
    when first_whole_hour.frozen_before is null then '-infinity'
    else to_timestamp(ceil(extract(epoch from first_whole_hour.frozen_before) / 3600) * 3600)
  end;
$$;

create or replace function eve.roll_hour(hour timestamptz)
returns bigint
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_until constant timestamptz := roll_hour.hour + interval '1 hour';
  v_count bigint;
begin
  delete from eve.usage_hours h where h.hour = roll_hour.hour;
  insert into eve.usage_hours (
    hour, consumer_id, model, key_id, door, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
    upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
  )
  select roll_hour.hour, nullif(e.consumer_id, '00000000-0000-0000-0000-000000000000'), e.model, e.key_id, e.door,
    sum(e.requests), count(*) filter (where e.state = 'succeeded'), count(*) filter (where e.state = 'failed'),
    count(*) filter (where e.state = 'cancelled'), count(*) filter (where e.state = 'expired'), sum(e.refused),
    sum(e.attempts), sum(e.dispatched), sum(e.upstream_refused), sum(e.input_tokens), sum(e.output_tokens),
    sum(e.thoughts_tokens), sum(e.cached_tokens), sum(e.wait_ms), sum(e.latency_ms)
  from (
    select r.consumer_id, r.model, r.key_id, r.door, r.state, 1 as requests, 0 as refused, 0 as attempts, 0 as dispatched,
      0 as upstream_refused, 0::bigint as input_tokens, 0::bigint as output_tokens, 0::bigint as thoughts_tokens,
      0::bigint as cached_tokens, r.wait_ms, 0::bigint as latency_ms
    from eve.requests r
    where r.received_at >= roll_hour.hour and r.received_at < v_until
    union all
    -- A caller may ask for any name: those that no model has are one row, not a row each for good.
    select f.consumer_id, case f.code when 'unknown_model' then '(unknown)' else f.model end, null, f.door, null, 0, 1, 0, 0, 0, 0,
      0, 0, 0, 0, 0
    from eve.refusals f
    where f.refused_at >= roll_hour.hour and f.refused_at < v_until
    union all
    select r.consumer_id, a.model, a.key_id, r.door, null, 0, 0, 1, a.dispatched::integer,
      coalesce(a.upstream_status = 429, false)::integer, coalesce(a.input_tokens, 0), coalesce(a.output_tokens, 0),
      coalesce(a.thoughts_tokens, 0), coalesce(a.cached_tokens, 0), 0, coalesce(a.latency_ms, 0)
    from eve.attempts a
    -- The attempts of a request count once it has ended, when it is known whose they were. Looked up one by one:
    -- any other way reads a table of millions for some thousand rows of it.
    cross join lateral (select r.consumer_id, r.door from eve.requests r where r.request_no = a.request_no offset 0) r
    where a.start_ms >= floor(extract(epoch from roll_hour.hour) * 1000)::bigint
      and a.start_ms < floor(extract(epoch from v_until) * 1000)::bigint
  ) e
  group by e.consumer_id, e.model, e.key_id, e.door;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

create or replace function eve.roll_day(day date)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_from constant timestamptz := roll_day.day::timestamp at time zone 'America/Los_Angeles';
  v_until constant timestamptz := (roll_day.day + 1)::timestamp at time zone 'America/Los_Angeles';
  v_count bigint;
begin
  delete from eve.usage_days d where d.day = roll_day.day;
  insert into eve.usage_days (
    day, consumer_id, model, key_id, door, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
    upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
  )
  select roll_day.day, h.consumer_id, h.model, h.key_id, h.door, sum(h.requests), sum(h.succeeded), sum(h.failed),
    sum(h.cancelled), sum(h.expired), sum(h.refused), sum(h.attempts), sum(h.dispatched), sum(h.upstream_refused),
    sum(h.input_tokens), sum(h.output_tokens), sum(h.thoughts_tokens), sum(h.cached_tokens), sum(h.wait_ms),
    sum(h.latency_ms)
  from eve.usage_hours h
  where h.hour >= v_from and h.hour < v_until
  group by h.consumer_id, h.model, h.key_id, h.door;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

-- The hours whose sums may have changed by what was written to the audit in [from_at, until_at): all that a request which
-- ended has touched, the hours of attempts that were settled (late ones too, which change a request that had ended before),
-- and those of refusals. An hour too many does no harm.
create or replace function eve.changed_hours(from_at timestamptz, until_at timestamptz)
returns setof timestamptz
language sql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
  select h
  from (
    select date_trunc('hour', r.received_at, 'UTC') as first_hour, date_trunc('hour', r.finished_at, 'UTC') as last_hour
    from eve.requests r
    where r.finished_at >= changed_hours.from_at and r.finished_at < changed_hours.until_at
    group by 1, 2
  ) ended
  cross join lateral generate_series(ended.first_hour, ended.last_hour, interval '1 hour') as h
  union
  select unnest(
    array[
      date_trunc('hour', to_timestamp(a.start_ms / 1000.0), 'UTC'),
      case when r.finished_at < a.settled_at then date_trunc('hour', r.received_at, 'UTC') end
    ]
  )
  from eve.attempts a
  -- Looked up one by one, as in roll_hour.
  cross join lateral (
    select r.received_at, r.finished_at from eve.requests r where r.request_no = a.request_no offset 0
  ) r
  where a.settled_at >= changed_hours.from_at and a.settled_at < changed_hours.until_at
  union
  select date_trunc('hour', f.refused_at, 'UTC')
  from eve.refusals f
  where f.refused_at >= changed_hours.from_at and f.refused_at < changed_hours.until_at;
$$;

-- Sums up, first the hours that a stretch of the audit changed, each whole and anew, then their days, and then the next
-- stretch. So it is the same however often it is done, and what is settled late corrects the hour it belongs to.
create or replace function eve.rollup_step(state jsonb, now_at timestamptz)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Settlements write their time before they commit. None takes as long as this: the platform cancels it before.
  v_overlap constant interval := '15 minutes';
  -- How much of the audit is looked through at once.
  v_stretch constant interval := '6 hours';
  -- A step ends with the first hour or day after so long.
  v_step_time constant interval := '200 milliseconds';
  v_began constant timestamptz := clock_timestamp();
  v_state jsonb := rollup_step.state;
  v_progress eve.rollup_progress;
  v_from timestamptz;
  v_until timestamptz;
  v_count bigint := 0;
  v_done boolean := false;
begin
  select * into v_progress from eve.rollup_progress p for update;
  if v_state ->> 'until' is null then
    v_from := v_progress.rolled_until - v_overlap;
    if v_from is null then
      -- The first rows by number are nearly the oldest.
      select least(
        (select r.finished_at from eve.requests r order by r.request_no limit 1),
        (select a.settled_at from eve.attempts a order by a.request_no, a.attempt limit 1),
        (select f.refused_at from eve.refusals f order by f.id limit 1), rollup_step.now_at
      ) - interval '2 days'
      into v_from;
    end if;
    v_until := least(greatest(v_from, v_progress.rolled_until) + v_stretch, rollup_step.now_at);
    select jsonb_build_object(
      'until', v_until, 'hours', coalesce(jsonb_agg(c.hour order by c.hour), '[]'),
      'days', coalesce(jsonb_agg(distinct eve.pacific_day((extract(epoch from c.hour) * 1000)::bigint)), '[]'),
      'summed', coalesce((v_state ->> 'summed')::integer, 0)
    )
    into v_state
    from eve.changed_hours(v_from, case when v_until < rollup_step.now_at then v_until else 'infinity' end) as c (hour)
    where c.hour is not null;
  end if;

  while clock_timestamp() - v_began < v_step_time and not v_done loop
    if jsonb_array_length(v_state -> 'hours') > 0 then
      -- An hour that retention has been at keeps the sum it has.
      if (v_state -> 'hours' ->> 0)::timestamptz >= eve.first_whole_hour(v_progress.frozen_before) then
        v_count := v_count + eve.roll_hour((v_state -> 'hours' ->> 0)::timestamptz);
      end if;
      v_state := v_state || jsonb_build_object('hours', (v_state -> 'hours') - 0, 'summed', (v_state ->> 'summed')::integer + 1);
    elsif jsonb_array_length(v_state -> 'days') > 0 then
      -- And so does a day whose hours are partly gone.
      if ((v_state -> 'days' ->> 0)::date)::timestamp at time zone 'America/Los_Angeles'
        >= coalesce(v_progress.hours_frozen_before, '-infinity') then
        v_count := v_count + eve.roll_day((v_state -> 'days' ->> 0)::date);
      end if;
      v_state := v_state || jsonb_build_object('days', (v_state -> 'days') - 0);
    else
      update eve.rollup_progress p set rolled_until = (v_state ->> 'until')::timestamptz;
      v_done := (v_state ->> 'until')::timestamptz >= rollup_step.now_at;
      v_state := jsonb_build_object('summed', v_state -> 'summed', 'rolled_until', v_state -> 'until');
      exit;
    end if;
  end loop;
  return jsonb_build_object(
    'done', v_done, 'count', v_count, 'tables', array['eve.usage_days', 'eve.usage_hours'],
    'details', jsonb_strip_nulls(
      jsonb_build_object('hours_summed', v_state -> 'summed', 'rolled_until', v_state -> 'rolled_until')
    ),
    'state', v_state
  );
end;
$$;

-- Report ---------------------------------------------------------------------------------------------------------------

-- A Pacific day in numbers. Sums come from eve.usage_days, which stay when the audit has gone; reasons, waits and latencies
-- from the audit, as long as it is there.
create or replace function eve.report_of(day date)
returns jsonb
language plpgsql
stable
set search_path = ''
set jit = 'off'
as $$
declare
  v_from constant timestamptz := report_of.day::timestamp at time zone 'America/Los_Angeles';
  v_until constant timestamptz := (report_of.day + 1)::timestamp at time zone 'America/Los_Angeles';
  v_from_ms constant bigint := floor(extract(epoch from v_from) * 1000)::bigint;
  v_until_ms constant bigint := floor(extract(epoch from v_until) * 1000)::bigint;
begin
  return jsonb_build_object(
    'day', report_of.day, 'from', v_from, 'until', v_until,
    'total', (
      select jsonb_build_object(
        'requests', coalesce(sum(d.requests), 0), 'succeeded', coalesce(sum(d.succeeded), 0),
        'failed', coalesce(sum(d.failed), 0), 'cancelled', coalesce(sum(d.cancelled), 0),
        'expired', coalesce(sum(d.expired), 0), 'refused', coalesce(sum(d.refused), 0),
        'attempts', coalesce(sum(d.attempts), 0), 'upstream_refused', coalesce(sum(d.upstream_refused), 0),
        'input_tokens', coalesce(sum(d.input_tokens), 0), 'output_tokens', coalesce(sum(d.output_tokens), 0),
        'thoughts_tokens', coalesce(sum(d.thoughts_tokens), 0)
      )
      from eve.usage_days d
      where d.day = report_of.day
    ),
    'consumers', (
      select coalesce(jsonb_agg(to_jsonb(t) order by t.input_tokens + t.output_tokens desc, t.consumer), '[]')
      from (
        select coalesce(c.name, d.consumer_id::text, 'project') as consumer, sum(d.requests) as requests,
          sum(d.succeeded) as succeeded, sum(d.refused) as refused, sum(d.input_tokens) as input_tokens,
          sum(d.output_tokens) as output_tokens
        from eve.usage_days d
        left join eve.consumers c on c.id = d.consumer_id
        where d.day = report_of.day
        group by 1
        order by sum(d.input_tokens + d.output_tokens) desc
        limit 20
      ) t
    ),
    'lanes', (
      -- Calls against what a quota project may make in a day.
      select coalesce(jsonb_agg(to_jsonb(t) order by t.model, t.quota_project), '[]')
      from (
        select k.quota_key as quota_project, d.model, sum(d.dispatched) as calls, sum(d.input_tokens) as input_tokens,
          case when o.quota_project is not null then o.rpd else m.rpd end as calls_allowed
        from eve.usage_days d
        join public.google_ai_api_keys k on k.id = d.key_id
        left join public.google_ai_model_limits m on m.model = d.model
        left join eve.quota_overrides o on o.quota_project = k.quota_key and o.model = d.model
        where d.day = report_of.day
        group by k.quota_key, d.model, o.quota_project, o.rpd, m.rpd
        having sum(d.dispatched) > 0
      ) t
    ),
    'refusals', (
      select coalesce(jsonb_object_agg(t.reason, t.times), '{}')
      from (
        select f.code || coalesce(':' || f.limit_name, '') as reason, count(*) as times
        from eve.refusals f
        where f.refused_at >= v_from and f.refused_at < v_until
        group by 1
      ) t
    ),
    'failures', (
      select coalesce(jsonb_object_agg(t.code, t.times), '{}')
      from (
        select coalesce(r.error_code, 'unknown') as code, count(*) as times
        from eve.requests r
        where r.received_at >= v_from and r.received_at < v_until and r.state in ('failed', 'expired')
        group by 1
      ) t
    ),
    'wait_ms', (
      select jsonb_build_object(
        'p50', percentile_disc(0.5) within group (order by r.wait_ms),
        'p95', percentile_disc(0.95) within group (order by r.wait_ms), 'max', max(r.wait_ms)
      )
      from eve.requests r
      where r.received_at >= v_from and r.received_at < v_until
    ),
    'latency_ms', (
      select jsonb_build_object(
        'p50', percentile_disc(0.5) within group (order by a.latency_ms),
        'p95', percentile_disc(0.95) within group (order by a.latency_ms), 'max', max(a.latency_ms)
      )
      from eve.attempts a
      where a.start_ms >= v_from_ms and a.start_ms < v_until_ms and a.dispatched and a.outcome = 'succeeded'
    ),
    'alerts', (
      select jsonb_build_object(
        'opened', count(*) filter (where a.opened_at >= v_from and a.opened_at < v_until),
        'open', count(*) filter (where a.closed_at is null)
      )
      from eve.alerts a
    ),
    'maintenance_failed', (
      select count(*)
      from public.google_ai_maintenance_log m
      where m.started_at >= v_from and m.started_at < v_until and m.status = 'failed'
    )
  );
end;
$$;

create or replace function eve.report_step()
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object(
    'done', true, 'count', 0, 'tables', '{}'::text[], 'details', eve.report_of(eve.pacific_day(eve.clock_ms()) - 1)
  );
$$;

-- Keys and models ------------------------------------------------------------------------------------------------------

-- Whether what took a key out of use can pass without anybody giving it a new secret. A leaked, suspended or invalid key does
-- not come back by itself, nor does one whose credits are spent, which no question that is free of charge would show.
create or replace function eve.reason_may_pass(reason text)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select coalesce(reason_may_pass.reason in ('secret_missing', 'service_disabled', 'key_restricted'), false);
$$;

-- Hand-made rows say google, google_ai, gemini or nothing and mean the same provider.
create or replace function eve.provider_name(provider text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when coalesce(lower(provider_name.provider), 'google') in ('google', 'google_ai', 'google-ai', 'gemini') then 'google'
    else lower(provider_name.provider)
  end;
$$;

-- Whether upstream's rejection is what keeps a key from being used. Whoever switches a key off by hand leaves no reason with it
-- (eve.key_switched_off).
create or replace function eve.key_was_rejected(key public.google_ai_api_keys)
returns boolean
language sql
stable
set search_path = ''
as $$
  select (key_was_rejected.key).is_active is not true
    and (key_was_rejected.key).blocked_until = 'infinity'
    and coalesce((key_was_rejected.key).blocked_reason, '') not in ('', 'secret_missing');
$$;

create or replace function eve.rejected_hashes(key_id uuid)
returns text[]
language sql
stable
set search_path = ''
as $$
  select coalesce(array_agg(r.secret_hash order by r.rejected_at, r.secret_hash), '{}')
  from eve.rejected_secrets r
  where r.key_id = rejected_hashes.key_id;
$$;

-- A stage's key has no variable: its secret is in provider_configs (20261121001600), and providers_sync asks about it.
create or replace function public.eve_key_checks()
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'alias', coalesce(k.key_alias, k.id::text), 'env_var_name', k.env_var_name,
        'provider', eve.provider_name(k.provider), 'is_active', coalesce(k.is_active, false),
        -- Of no interest with these secrets; null: of interest with any.
        'unless', case
          when not (k.is_active or eve.reason_may_pass(k.blocked_reason)) then to_jsonb(eve.rejected_hashes(k.id))
        end
      )
      order by k.priority, k.id
    ), '[]'
  )
  from public.google_ai_api_keys k
  where coalesce(k.env_var_name, '') not like 'stage:%'
    and (
      k.is_active or eve.reason_may_pass(k.blocked_reason)
      or (eve.key_was_rejected(k) and exists (select from eve.rejected_secrets r where r.key_id = k.id))
    );
$$;
comment on function public.eve_key_checks is 'The keys that are worth asking about: those in use, those that are off for a reason that may pass, and, with other secrets than those it names, those that upstream rejected.';

-- What a check of a key found, and what follows: {"change": "enabled" | "disabled" | "none"}.
-- secret_hash: of the secret that upstream was asked with; null: it is not known.
create or replace function public.eve_key_checked(
  key_id uuid, outcome text, reason text default null, detail text default null, secret_hash text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Longer than from one check to the next, so that a key without a secret stays marked.
  v_missing_for constant interval := '40 minutes';
  v_now constant timestamptz := eve.clock();
  v_reason constant text := left(eve_key_checked.reason, 200);
  v_key record;
  v_rejected text[];
  v_change text := 'none';
begin
  if eve_key_checked.outcome is null
    or eve_key_checked.outcome not in ('works', 'rejected', 'secret_missing', 'unclear') then
    raise exception 'outcome must be works, rejected, secret_missing or unclear' using errcode = 'EV400';
  end if;
  select coalesce(k.key_alias, k.id::text) as alias, coalesce(k.is_active, false) as is_active, k.blocked_until,
    k.blocked_reason, eve.key_was_rejected(k) as was_rejected
  into v_key
  from public.google_ai_api_keys k
  where k.id = eve_key_checked.key_id
  for no key update;
  if not found then
    delete from eve.key_checks c where c.key_id = eve_key_checked.key_id;
    delete from eve.key_models m where m.key_id = eve_key_checked.key_id;
    return jsonb_build_object('change', v_change);
  end if;
  v_rejected := eve.rejected_hashes(eve_key_checked.key_id);

  if eve_key_checked.outcome = 'works' then
    -- A key that is blocked and yet switched on was switched on by a person: what was said of it before is over. One that
    -- its owner switched off stays off, and so does one that was blamed for more than may pass since it was asked. What was
    -- rejected was a secret: another one that works is another key to upstream.
    if (v_key.is_active and v_key.blocked_until is not null)
      or (not v_key.is_active and eve.reason_may_pass(v_key.blocked_reason))
      or (v_key.was_rejected and v_rejected <> '{}' and eve_key_checked.secret_hash <> all (v_rejected)) then
      v_change := case when v_key.is_active and v_key.blocked_until <= v_now then 'none' else 'enabled' end;
      update public.google_ai_api_keys k
      set is_active = true, blocked_until = null, blocked_reason = null
      where k.id = eve_key_checked.key_id;
    end if;
    if v_key.is_active or v_change = 'enabled' then
      update eve.alerts a
      set closed_at = v_now
      where a.kind in ('key_disabled', 'secret_missing') and a.subject = eve_key_checked.key_id::text
        and a.closed_at is null;
      delete from eve.rejected_secrets r
      where r.key_id = eve_key_checked.key_id and r.secret_hash = eve_key_checked.secret_hash;
    end if;
  elsif eve_key_checked.outcome = 'rejected' and v_key.was_rejected then
    perform eve.remember_rejected_secret(eve_key_checked.key_id, eve_key_checked.secret_hash);
  elsif eve_key_checked.outcome = 'rejected' and v_key.is_active then
    v_change := 'disabled';
    perform eve.remember_rejected_secret(eve_key_checked.key_id, eve_key_checked.secret_hash);
    update public.google_ai_api_keys k
    set is_active = false, blocked_until = 'infinity', blocked_reason = coalesce(v_reason, 'key_invalid')
    where k.id = eve_key_checked.key_id;
    perform eve.open_alert(
      'key_disabled', eve_key_checked.key_id::text, 'critical',
      format('Key %s is not used: %s', v_key.alias, coalesce(v_reason, 'key_invalid'))
    );
  elsif eve_key_checked.outcome = 'secret_missing' and v_key.is_active
    and coalesce(v_key.blocked_until, '-infinity') < 'infinity' then
    v_change := case when v_key.blocked_until > v_now then 'none' else 'disabled' end;
    update public.google_ai_api_keys k
    set blocked_until = greatest(k.blocked_until, v_now + v_missing_for), blocked_reason = 'secret_missing'
    where k.id = eve_key_checked.key_id;
    perform eve.open_alert(
      'secret_missing', eve_key_checked.key_id::text, 'warning', format('Key %s is not used: secret_missing', v_key.alias)
    );
  end if;

  insert into eve.key_checks as c (key_id, checked_at, outcome, reason, detail, works_since)
  values (
    eve_key_checked.key_id, v_now, eve_key_checked.outcome, v_reason, left(eve_key_checked.detail, 500),
    case eve_key_checked.outcome when 'works' then v_now end
  )
  on conflict on constraint key_checks_pkey do update
  set checked_at = excluded.checked_at, outcome = excluded.outcome, reason = excluded.reason, detail = excluded.detail,
    -- A question that nobody answered says nothing against the key.
    works_since = case excluded.outcome
      when 'works' then coalesce(c.works_since, excluded.works_since)
      when 'unclear' then c.works_since
    end;
  return jsonb_build_object('change', v_change);
end;
$$;
comment on function public.eve_key_checked is 'Takes down what a check of a key found: puts it out of use, or back into use where its reason has passed.';

-- The models that upstream lists for a key: {"appeared", "vanished", "unblocked"}, each a list of models.
create or replace function public.eve_models_seen(key_id uuid, models text[])
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_models constant text[] := array(select distinct left(u.model, 200) from unnest(eve_models_seen.models) as u (model));
  v_first boolean;
  v_appeared text[];
  v_vanished text[];
  v_unblocked text[];
begin
  if coalesce(cardinality(eve_models_seen.models), 0) not between 1 and 2000 then
    raise exception 'models must name 1 to 2000 models' using errcode = 'EV400';
  end if;
  -- Two who take down the list of one key at once.
  perform pg_advisory_xact_lock(hashtextextended('eve models ' || eve_models_seen.key_id::text, 0));
  v_first := not exists (select from eve.key_models m where m.key_id = eve_models_seen.key_id);
  v_appeared := array(
    select u.model
    from unnest(v_models) as u (model)
    where not exists (
      select
      from eve.key_models m
      where m.key_id = eve_models_seen.key_id and m.model = u.model and m.vanished_at is null
    )
    order by u.model
  );
  insert into eve.key_models as m (key_id, model, first_listed_at, last_listed_at)
  select eve_models_seen.key_id, u.model, v_now, v_now
  from unnest(v_models) as u (model)
  on conflict on constraint key_models_pkey do update set last_listed_at = excluded.last_listed_at, vanished_at = null;
  with gone as (
    update eve.key_models m
    set vanished_at = v_now
    where m.key_id = eve_models_seen.key_id and m.vanished_at is null and m.model <> all (v_models)
    returning m.model
  )
  select array_agg(g.model order by g.model) into v_vanished from gone g;
  -- A model that upstream did not find for this key, and now lists again.
  with back as (
    delete from eve.key_model_blocks b
    where not v_first and b.key_id = eve_models_seen.key_id and b.reason = 'model_not_found' and b.model = any (v_appeared)
    returning b.model
  ), closed as (
    update eve.alerts a
    set closed_at = v_now
    from back b
    where a.kind = 'model_unavailable' and a.subject = eve_models_seen.key_id::text || ' ' || b.model and a.closed_at is null
  )
  select array_agg(b.model order by b.model) into v_unblocked from back b;
  update eve.key_checks c set models_listed_at = v_now where c.key_id = eve_models_seen.key_id;
  return jsonb_build_object(
    -- All of them appear on a first list, which is no news.
    'appeared', case when v_first then '[]' else to_jsonb(v_appeared) end,
    'vanished', coalesce(to_jsonb(v_vanished), '[]'), 'unblocked', coalesce(to_jsonb(v_unblocked), '[]')
  );
end;
$$;
comment on function public.eve_models_seen is 'Takes down the models that upstream lists for a key, and says what is new and what has gone.';

-- Compares the model rows with the lists: {"vanished": [..], "unlisted": [..]}. A model that served, and that no active key
-- lists any more, is an alert until it is listed again, replaced or switched off. Rows keep their replaced_by: a name that
-- upstream has given up goes on working by it.
create or replace function public.eve_models_compared()
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_model record;
  v_vanished text[] := '{}';
  v_unlisted text[] := '{}';
begin
  for v_model in
    with listed as (
      select m.model, bool_or(m.vanished_at is null) as is_listed
      from eve.key_models m
      join public.google_ai_api_keys k on k.id = m.key_id and k.is_active
      group by m.model
    )
    select r.model, listed.is_listed,
      (
        select string_agg(old.model, ', ' order by old.model)
        from public.google_ai_model_limits old
        where old.replaced_by = r.model and old.is_active
      ) as serves_for
    from public.google_ai_model_limits r
    left join listed on listed.model = r.model
    where r.is_active and r.replaced_by is null and eve.provider_name(r.provider) = 'google'
      and exists (select from listed)
    order by r.model
  loop
    if v_model.is_listed is null then
      v_unlisted := v_unlisted || v_model.model;
    elsif not v_model.is_listed then
      v_vanished := v_vanished || v_model.model;
      perform eve.open_alert(
        'model_vanished', v_model.model, 'warning',
        format(
          'No key lists %s any more%s: set replaced_by in google_ai_model_limits, or is_active to false',
          v_model.model, coalesce(' (it serves for ' || v_model.serves_for || ' too)', '')
        )
      );
    end if;
  end loop;
  update eve.alerts a
  set closed_at = eve.clock()
  where a.kind = 'model_vanished' and a.closed_at is null and a.subject <> all (v_vanished)
    -- Those about stages are closed by whoever opened them.
    and not starts_with(a.subject, 'stage:');
  return jsonb_build_object('vanished', to_jsonb(v_vanished), 'unlisted', to_jsonb(v_unlisted));
end;
$$;
comment on function public.eve_models_compared is 'Says which models that should serve are on no key''s list, and opens and closes the alerts about them.';

-- What callers use -----------------------------------------------------------------------------------------------------

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

-- Brings the sums up to now in one transaction, for whoever is about to read them: {"status", "rolled_until"}.
create or replace function public.eve_rollup(at_most_ms integer default 5000)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_began constant timestamptz := clock_timestamp();
  v_run constant jsonb := eve.begin_run('rollup', 'call');
  v_step jsonb;
begin
  while v_run ->> 'status' = 'running' loop
    v_step := eve.step_run((v_run ->> 'run_id')::bigint);
    exit when (v_step ->> 'done')::boolean;
    if clock_timestamp() - v_began > eve_rollup.at_most_ms * interval '1 millisecond' then
      perform public.eve_maintenance_end(
        (v_run ->> 'run_id')::bigint, 'succeeded', array(select jsonb_array_elements_text(v_step -> 'tables')),
        (v_step ->> 'count')::bigint, v_step -> 'details', more => true
      );
      exit;
    end if;
  end loop;
  return jsonb_strip_nulls(
    jsonb_build_object(
      'status', coalesce(v_step ->> 'status', v_run ->> 'status'), 'error', v_step ->> 'error',
      'rolled_until', (select p.rolled_until from eve.rollup_progress p)
    )
  );
end;
$$;
comment on function public.eve_rollup is 'Sums up what the audit has gained since the last rollup. Says skipped while another rollup is on, and running when it did not come to the end.';

-- Throws the sums since a time away, so that the next rollup makes them anew from the audit. What retention has been at stays.
create or replace function public.eve_rollup_rebuild(since timestamptz default '-infinity')
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_progress eve.rollup_progress;
  v_from timestamptz;
begin
  if eve_rollup_rebuild.since is null then
    raise exception 'since must be a time' using errcode = 'EV400';
  end if;
  select * into v_progress from eve.rollup_progress p for update;
  v_from := greatest(
    eve.first_whole_hour(v_progress.frozen_before), date_trunc('hour', eve_rollup_rebuild.since, 'UTC')
  );
  delete from eve.usage_hours h where h.hour >= v_from;
  delete from eve.usage_days d
  where d.day::timestamp at time zone 'America/Los_Angeles' >= greatest(v_from, v_progress.hours_frozen_before);
  update eve.rollup_progress p set rolled_until = nullif(v_from, '-infinity');
  return jsonb_build_object('from', nullif(v_from, '-infinity'));
end;
$$;
comment on function public.eve_rollup_rebuild is 'Has the hourly and daily sums made anew from the audit, as far back as the audit goes.';

create or replace function public.eve_report(day date default null)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select eve.report_of(coalesce(eve_report.day, eve.pacific_day(eve.clock_ms()) - 1));
$$;
comment on function public.eve_report is 'A Pacific day in numbers; without one, yesterday.';

-- Who may --------------------------------------------------------------------------------------------------------------

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation, c.relkind
    from pg_catalog.pg_class c
    where c.relnamespace = 'eve'::regnamespace and c.relkind in ('r', 'S')
      and c.relname in (
        'operations', 'operation_run', 'retention', 'rollup_progress', 'usage_hours', 'usage_hours_id_seq', 'usage_days',
        'usage_days_id_seq', 'key_checks', 'rejected_secrets', 'key_models'
      )
  loop
    if v_object.relkind = 'r' then
      execute format('alter table %s enable row level security', v_object.relation);
      execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
    else
      execute format('revoke all on sequence %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant usage on sequence %s to service_role', v_object.relation);
    end if;
  end loop;
  for v_object in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace
        and p.proname in (
          'operation_lock', 'log_run', 'close_run', 'begin_run', 'step_run', 'sweep_step', 'delete_numbered', 'delete_oldest',
          'retention_batch', 'retention_step', 'first_whole_hour', 'roll_hour', 'roll_day', 'changed_hours', 'rollup_step',
          'report_of', 'report_step', 'reason_may_pass', 'provider_name', 'key_was_rejected', 'rejected_hashes'
        )
      or p.pronamespace = 'public'::regnamespace
        and p.proname in (
          'eve_key_checks', 'eve_key_checked', 'eve_models_seen', 'eve_models_compared', 'eve_maintenance_begin',
          'eve_maintenance_step', 'eve_maintenance_end', 'eve_rollup', 'eve_rollup_rebuild', 'eve_report'
        )
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_object.signature);
    execute format('grant execute on function %s to service_role', v_object.signature);
  end loop;
end;
$$;
