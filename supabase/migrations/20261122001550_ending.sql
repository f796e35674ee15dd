-- What is written when an attempt or a request ends: rows of the audit, and of public.token_usage.

-- The attempt that a running request holds, as the audit has it in the row of a request.
create or replace function eve.ended_attempt(running eve.inflight, state text, dispatched boolean, error_code text)
returns eve.requests
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_ended eve.requests;
begin
  v_ended.state := ended_attempt.state;
  v_ended.dispatched := ended_attempt.dispatched;
  v_ended.error_code := left(ended_attempt.error_code, 100);
  v_ended.lane_id := (running).lane_id;
  v_ended.start_ms := (running).start_ms;
  v_ended.bucket_after_ms := (running).bucket_ms - (running).start_ms;
  v_ended.tokens_booked := least((running).tokens, 2147483647);
  v_ended.usage_estimated := false;
  return v_ended;
end;
$$;

-- A request that ends as an attempt did which another one was to follow: that one stays where it is.
create or replace function eve.ended_as(before eve.earlier_attempts)
returns eve.requests
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_ended eve.requests;
begin
  v_ended.state := (before).outcome;
  v_ended.error_code := (before).error_code;
  v_ended.input_tokens := (before).input_tokens;
  v_ended.output_tokens := (before).output_tokens;
  v_ended.total_tokens := (before).total_tokens;
  v_ended.finish_reason := (before).finish_reason;
  return v_ended;
end;
$$;

-- Milliseconds that a request has waited by an instant, of those that its starts were booked ahead.
create or replace function eve.waited_ms(booked_ms bigint, received_at timestamptz, until timestamptz)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  return least(
    waited_ms.booked_ms, greatest(floor(extract(epoch from waited_ms.until - waited_ms.received_at) * 1000)::bigint, 0)
  );
end;
$$;

-- Moves a request from the running ones to the audit. `ended`: how it ended, and its last attempt. A caller who leaves before the
-- start has waited until then, however far ahead the start was booked.
create or replace function eve.close_request(running eve.inflight, ended eve.requests)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
begin
  delete from eve.inflight i where i.request_no = (running).request_no;
  insert into eve.requests (
    request_no, received_at, finished_at, start_ms, wait_ms, lane_id, tokens_booked, output_booked, input_tokens, output_tokens,
    thoughts_tokens, cached_tokens, total_tokens, latency_ms, attempts, bucket_after_ms, upstream_status, usage_estimated,
    dispatched, consumer_id, key_id, token_id, request_id, class, endpoint, requested_model, model, state, error_code,
    error_detail, finish_reason, trace_id, metadata
  )
  values (
    (running).request_no, (running).received_at, v_now, (ended).start_ms,
    eve.waited_ms((running).wait_ms, (running).received_at, v_now), (ended).lane_id,
    (ended).tokens_booked, (ended).output_booked, (ended).input_tokens, (ended).output_tokens, (ended).thoughts_tokens,
    (ended).cached_tokens, (ended).total_tokens, (ended).latency_ms, (running).attempt, (ended).bucket_after_ms, (ended).upstream_status,
    (ended).usage_estimated, (ended).dispatched, (running).consumer_id, (running).key_id, (running).token_id,
    (running).request_id, (running).class, (running).endpoint, nullif((running).requested_model, (running).model), (running).model,
    (ended).state, (ended).error_code, (ended).error_detail, (ended).finish_reason, (running).trace_id,
    nullif((running).metadata, '{}')
  );
  if (running).request_hash is not null then
    insert into eve.request_keys as k (
      consumer_id, request_id, request_no, ended_at, state, attempts, requested_model, class, request_hash, error_code
    )
    values (
      (running).consumer_id, (running).request_id, (running).request_no, v_now, (ended).state, (running).attempt,
      (running).requested_model, (running).class, (running).request_hash, (ended).error_code
    )
    -- One row that cannot be closed would stop every reservation on its lane.
    on conflict do nothing;
  end if;
end;
$$;

-- An attempt that another one is to follow.
create or replace function eve.note_earlier_attempt(running eve.inflight, ended eve.requests)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  insert into eve.earlier_attempts (
    request_no, settled_at, start_ms, lane_id, tokens_booked, output_booked, input_tokens, output_tokens, thoughts_tokens, cached_tokens,
    total_tokens, latency_ms, attempt, bucket_after_ms, upstream_status, usage_estimated, dispatched, key_id, model, class,
    outcome, error_code, error_detail, finish_reason
  )
  values (
    (running).request_no, eve.clock(), (ended).start_ms, (ended).lane_id, (ended).tokens_booked, (ended).output_booked, (ended).input_tokens,
    (ended).output_tokens, (ended).thoughts_tokens, (ended).cached_tokens, (ended).total_tokens, (ended).latency_ms,
    (running).attempt, (ended).bucket_after_ms, (ended).upstream_status, (ended).usage_estimated, (ended).dispatched,
    (running).key_id, (running).model, (running).class, (ended).state, (ended).error_code, (ended).error_detail,
    (ended).finish_reason
  );
end;
$$;

-- Whether calls are written to public.token_usage too: the setting token_usage_rows.
create or replace function eve.writes_token_usage()
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce((select s.value from eve.settings s where s.name = 'token_usage_rows'), 1) <> 0;
end;
$$;

-- A row of public.token_usage. One that its owner's own rules refuse must not stop a settlement: the books are in eve.attempts,
-- and an alert says so.
create or replace function eve.log_token_usage(
  model text, prompt_tokens integer, completion_tokens integer, total_tokens bigint, request_id text, meta jsonb
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform eve.insert_token_usage(
    log_token_usage.model, log_token_usage.prompt_tokens, log_token_usage.completion_tokens, log_token_usage.total_tokens,
    log_token_usage.request_id, log_token_usage.meta
  )
  where eve.writes_token_usage();
exception
  when integrity_constraint_violation or data_exception or raise_exception then
    perform eve.open_alert(
      'token_usage_refused', 'public.token_usage', 'warning',
      format('A row for public.token_usage was refused: %s. The attempt itself is in eve.attempts.', sqlerrm)
    );
end;
$$;

-- Slim: the key and the rest are in eve.requests, by request_id.
create or replace function eve.usage_meta(consumer_id uuid, attempt integer, estimated boolean)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
      'source', 'eve', 'consumer', (select c.name from eve.consumers c where c.id = usage_meta.consumer_id)
    )
    || case when usage_meta.attempt > 1 then jsonb_build_object('attempt', usage_meta.attempt) else '{}' end
    || case when usage_meta.estimated then '{"estimated": true}' else '{}'::jsonb end;
end;
$$;
