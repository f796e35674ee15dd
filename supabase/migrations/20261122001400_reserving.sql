-- Reserving a start for one attempt: public.eve_reserve, in the order of its steps. With the rights of the caller, who is the
-- service role.
--
-- Locks. All that write take them in this order, so that no two can wait for each other:
--   1  the request's id (advisory). A list only tries.
--   2  running requests (eve.inflight), by number. Those who close others' skip what is locked.
--   3  budgets: tokens by id, days by consumer and day (eve.lock_budgets), then the consumer's minute
--   4  one lane: its advisory lock (eve.lock_lane), then its row. Several by number; a list tries them, and waits for one only while
--      it has none in hand. Anyone who books nothing keeps none: a refusal, batch that has to wait, a lane that a list passed over.
--   5  routes, then keys and models: what a settlement blocks (eve.apply_block) and owners change
--   6  buckets, by lane and instant
--   7  counters, by key, model and minute
--   8  what nobody waits for: the audit, a model's learned factor and the routes, which are drawn again only if nobody else is at them
-- A start is booked in three places, each with the arithmetic of a lane written out: eve.with_start (eve.book: any call), eve.reserve_plain
-- (a plain call at once) and eve.book_list (several at once). One function for all three would take a row of a lane apart and put it
-- together again for each call, and cost a list its one statement. tests/db/booking_ways.test.ts holds them to equal rows.
-- Nobody waits for a lock for longer than lock_timeout: then the answer is `database_unavailable` (55P03), and everything is undone.

-- The answer to an attempt that is granted. `route` is what is known of key and model: see eve.route_answer.
create or replace function eve.granted(
  route jsonb, request_no bigint, attempt integer, class text, capture boolean, tokens bigint, wait_ms bigint, start_ms bigint,
  lease_ms integer, limits jsonb, max_output_tokens bigint default null
)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return granted.route || jsonb_build_object(
    'request_no', granted.request_no, 'attempt', granted.attempt, 'class', granted.class, 'capture', granted.capture,
    'tokens', granted.tokens, 'wait_ms', granted.wait_ms, 'start_at', to_timestamp(granted.start_ms / 1000.0),
    'lease_until', to_timestamp((granted.start_ms + granted.lease_ms) / 1000.0), 'limits', granted.limits
  )
    || case
      when granted.max_output_tokens > 0 then jsonb_build_object('max_output_tokens', granted.max_output_tokens)
      else '{}'
    end;
end;
$$;

-- Takes an attempt that is not to go on out of the running requests: batch that waited and is refused, a start that cannot be booked
-- again. What it held, and what it took from its budgets, is free again.
create or replace function eve.leave_queue(running eve.inflight)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform eve.adjust_budgets(
    (running).consumer_id, (running).token_id, (running).received_at, case (running).attempt when 1 then -1 else 0 end,
    -(running).tokens - (running).output_tokens
  );
  if (running).attempt = 1 then
    delete from eve.inflight i where i.request_no = (running).request_no;
  else
    -- The attempt before it has failed; the caller settles the request as that one ended.
    update eve.inflight i
    set state = 'between', attempt = i.attempt - 1
    where i.request_no = (running).request_no;
  end if;
end;
$$;

-- Gives back a start that its caller has come too late for, so that it can be booked again: on the same lane, since a caller that
-- holds one waits for no other.
create or replace function eve.unbook(running eve.inflight)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform eve.give_back(running);
  perform eve.adjust_bucket((running).lane_id, (running).bucket_ms, (running).class, -1, -(running).tokens);
end;
$$;

-- How long until a key is used again that upstream would not take for a while; null: none is.
create or replace function eve.wait_for_key(now_ms bigint)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select ceil(extract(epoch from min(k.blocked_until)) * 1000)::bigint - now_ms
    from public.google_ai_api_keys k
    where k.is_active and k.blocked_until > to_timestamp(now_ms / 1000.0) and k.blocked_until < 'infinity'
  );
end;
$$;

-- Places a call on the first of its models that takes it: granted, waiting, or to be counted first. Otherwise it is refused for that of
-- several reasons which is over first; else for the first.
create or replace function eve.place_on_first(call eve.call, scope eve.caller_scope, queued_ms bigint, only_lane bigint)
returns eve.placement
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_requested text;
  v_place eve.placement;
  v_refused eve.placement;
begin
  foreach v_requested in array (call).models loop
    if v_requested <> all ((scope).models) then
      v_place := null;
      v_place.status := 'refused';
      v_place.refusal := 'model_not_allowed';
      v_place.served := v_requested;
    else
      v_place := eve.place_call(call, scope, v_requested, place_on_first.queued_ms, place_on_first.only_lane);
      -- A misspelt name is refused, not skipped.
      if v_place.status <> 'refused' or v_place.refusal = 'unknown_model' then
        return v_place;
      end if;
    end if;
    if v_refused.refusal is null or v_refused.refusal_wait > v_place.refusal_wait
      or v_refused.refusal_wait is null and v_place.refusal_wait is not null then
      v_refused := v_place;
    end if;
  end loop;
  return v_refused;
end;
$$;

-- The answer where the prompt is to be counted upstream: by whom.
create or replace function eve.ask_to_count(call eve.call, place eve.placement)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_model constant public.google_ai_model_limits := eve.served_model((place).requested_model);
begin
  return jsonb_build_object(
    'status', 'count', 'request_id', (call).request_id, 'attempt', (call).attempt, 'model', (place).served,
    'requested_model', (place).requested_model,
    'key', jsonb_build_object(
      'id', (place).key_ids[1], 'alias', (place).aliases[1], 'env_var_name', (place).env_var_names[1],
      'provider', (eve.providers_of(v_model))[1]
    ),
    -- What to come with, and counted left out, where counting fails: the most that the estimate may turn out to be.
    'tokens_if_not_counted', ceil((call).tokens * v_model.estimate_ceiling)::bigint
  );
end;
$$;

-- Writes down an attempt that was granted or that waits. Answers the request's number.
create or replace function eve.note_attempt(
  call eve.call, scope eve.caller_scope, place eve.placement, running eve.inflight, key_id uuid, now_ms bigint, queued_ms bigint
)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_state constant text := case (place).status when 'granted' then 'reserved' else 'waiting' end;
  -- Batch that waits is to ask again at its start; some seconds later it counts as gone.
  v_lease constant timestamptz := to_timestamp(
    ((place).start_ms + case (place).status when 'granted' then (call).lease_ms else 15000 end) / 1000.0
  );
  v_request_no bigint;
begin
  if (running).request_no is null then
    insert into eve.inflight (
      request_no, consumer_id, request_id, token_id, class, endpoint, requested_model, model, attempt, state, lane_id, key_id,
      start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, output_tokens, queued_ms, any_lane, lease_until, received_at,
      wait_ms, trace_id, metadata, request_hash, call_id
    )
    values (
      nextval('eve.request_no'), coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000'), (call).request_id,
      (call).token_id, (scope).class, (call).endpoint, (place).requested_model, (place).served, (call).attempt, v_state,
      (place).lane_id, note_attempt.key_id, (place).start_ms, coalesce((place).bucket_ms, (place).start_ms),
      coalesce((place).day_ends_ms, 0), (place).tokens, (call).tokens, coalesce((place).output_tokens, 0),
      case when v_state = 'waiting' then note_attempt.queued_ms end,
      (call).exclude_keys = '{}' and (place).bound is not true, v_lease,
      to_timestamp(note_attempt.now_ms / 1000.0), greatest((place).wait_ms, 0), (call).trace_id,
      coalesce((call).metadata, '{}'), (call).request_hash, (call).call_id
    )
    returning request_no into v_request_no;
  else
    v_request_no := (running).request_no;
    update eve.inflight i
    set requested_model = (place).requested_model, model = (place).served, attempt = (call).attempt, state = v_state,
      lane_id = (place).lane_id, key_id = note_attempt.key_id, start_ms = (place).start_ms,
      bucket_ms = coalesce((place).bucket_ms, (place).start_ms), day_ends_ms = coalesce((place).day_ends_ms, 0),
      tokens = (place).tokens, output_tokens = coalesce((place).output_tokens, 0),
      estimated_tokens = case when i.state = 'reserved' then i.estimated_tokens else (call).tokens end,
      queued_ms = case when v_state = 'waiting' then note_attempt.queued_ms end,
      any_lane = (call).exclude_keys = '{}' and (place).bound is not true,
      lease_until = v_lease,
      call_id = (call).call_id,
      -- What it waited until now, and what it is to wait.
      wait_ms = case
        when i.state = 'between' then i.wait_ms
        else greatest(i.wait_ms - (i.start_ms - note_attempt.now_ms), 0)
      end + greatest((place).wait_ms, 0)
    where i.request_no = v_request_no;
  end if;
  return v_request_no;
end;
$$;

-- `counted` says what `tokens` are:
--   null   the caller's estimate, and the caller cannot count: booked times the factor learned for the model
--   false  the caller's estimate, and the caller can count: asked to where it matters (answer `count`, nothing is written or
--          taken), otherwise booked at the model's ceiling until it is settled
--   true   upstream's own count: booked as it is
-- `max_output_tokens` is the longest answer that the request allows, thoughts included; null: it does not say; 0: it has none. Budgets of
-- tokens reserve it, lowered to what they have left: then the answer has `max_output_tokens`, and the model may write no more.
-- `request_no` continues an attempt: batch that was answered `waiting` asks again with it at its time, and a start that its caller has come
-- too late for is given back and booked again.
-- `deadline` is when the caller stops waiting for the answer, by the database's clock: nothing is booked after it. `call_id` names
-- this call, so that eve_give_back finds what it booked, whether or not the answer was heard.
create or replace function public.eve_reserve(
  request_id text,
  models text[],
  tokens integer,
  consumer_id uuid default null,
  class text default 'interactive',
  max_wait_ms integer default 0,
  attempt integer default 1,
  exclude_keys uuid[] default '{}',
  avoid_keys uuid[] default '{}',
  lease_ms integer default 180000,
  token_id uuid default null,
  endpoint text default 'native',
  trace_id text default null,
  metadata jsonb default '{}',
  request_hash text default null,
  counted boolean default null,
  request_no bigint default null,
  deadline timestamptz default null,
  call_id uuid default null,
  max_output_tokens integer default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- A call that is held up by a lock ends before its caller stops waiting (8 s), rather than stand behind it for nothing. The REST API
-- sets it when it begins the statement; over a connection the ledger sets it for the session.
set statement_timeout = '7500ms'
-- Locks are held for milliseconds. Who has one for longer is held up itself, and those behind it give up while their callers still wait.
set lock_timeout = '3s'
-- Custom plans would be made again on nearly every call; planning was a third of its time.
set plan_cache_mode = 'force_generic_plan'
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_call eve.call;
  v_now bigint;
  v_ended text;
  v_answer jsonb;
  v_known record;
  v_running eve.inflight;
  v_spends boolean;
  v_scope eve.caller_scope;
  v_queued bigint;
  v_only_lane bigint;
  v_place eve.placement;
  v_key integer;
  v_request_no bigint;
begin
  if attempt = 1 and request_no is null and token_id is null and exclude_keys = '{}' and avoid_keys = '{}'
    and (max_output_tokens < 0) is not true then
    v_answer := eve.reserve_plain(
      request_id, models, tokens, consumer_id, class, max_wait_ms, lease_ms, endpoint, trace_id, metadata, request_hash, counted,
      deadline, call_id
    );
    if v_answer is not null then
      return v_answer;
    end if;
  end if;
  v_call := row(
    request_id, models, tokens, consumer_id, class, max_wait_ms, attempt, exclude_keys, avoid_keys, lease_ms, token_id, endpoint,
    trace_id, metadata, request_hash, counted, request_no, deadline, call_id, max_output_tokens
  )::eve.call;
  v_now := eve.clock_ms();
  perform eve.check_call(v_call);
  perform eve.stop_when_late(v_call.deadline);
  -- A caller that may not call any more gets no answer, not even the one of before.
  v_ended := eve.access_ended(v_call.consumer_id, v_call.token_id, v_now);
  if v_ended is not null then
    return eve.refuse(v_call, v_call.class, v_ended);
  end if;
  v_known := eve.find_request(v_call, v_now);
  if v_known.answer is not null then
    return v_known.answer;
  end if;
  v_running := v_known.running;
  v_call.request_no := v_running.request_no;
  v_spends := v_running.request_no is null or v_running.state = 'between';
  v_scope := eve.scope_of(v_call, v_running, v_now);
  if v_running.state = 'reserved' then
    perform eve.unbook(v_running);
    v_only_lane := v_running.lane_id;
    v_call.models := array[v_running.requested_model];
    -- As it was booked: it is not to be counted first, with its start given back already.
    v_call.tokens := v_running.tokens;
    v_call.counted := true;
  end if;
  if v_scope.refusal is not null then
    if not v_spends then
      perform eve.leave_queue(v_running);
    end if;
    return eve.refuse(v_call, v_scope.class, v_scope.refusal, null, v_scope.limit_name, v_scope.wait_ms);
  end if;
  -- A start that is booked again goes before all that wait.
  v_queued := case v_running.state when 'waiting' then v_running.queued_ms when 'reserved' then 0 else v_now end;
  v_place := eve.place_on_first(v_call, v_scope, v_queued, v_only_lane);
  if v_place.status = 'count' then
    return eve.ask_to_count(v_call, v_place);
  elsif v_place.status = 'refused' then
    if not v_spends then
      perform eve.leave_queue(v_running);
    end if;
    if v_place.refusal = 'no_active_key' then
      v_place.refusal_wait := eve.wait_for_key(v_now);
    end if;
    return eve.refuse(
      v_call, v_scope.class, v_place.refusal, v_place.served, v_place.limit_name, v_place.refusal_wait, v_place.refusal_limits
    );
  end if;

  if v_spends then
    perform eve.take_budgets(v_call, v_scope, v_place.tokens + coalesce(v_place.output_tokens, 0), v_now);
  else
    perform eve.adjust_budgets(
      v_running.consumer_id, v_running.token_id, v_running.received_at, 0,
      v_place.tokens + coalesce(v_place.output_tokens, 0) - v_running.tokens - v_running.output_tokens
    );
  end if;
  -- Keys of one project take turns.
  v_key := 1 + (coalesce(v_place.turn, 0) % cardinality(v_place.key_ids))::integer;
  v_request_no := eve.note_attempt(v_call, v_scope, v_place, v_running, v_place.key_ids[v_key], v_now, v_queued);
  -- With everything in hand, since that may have been waited for.
  perform eve.stop_when_late(v_call.deadline);
  if v_place.status = 'waiting' then
    return jsonb_build_object(
      'status', 'waiting', 'request_no', v_request_no, 'attempt', v_call.attempt, 'model', v_place.served,
      'requested_model', v_place.requested_model, 'class', v_scope.class, 'lane_id', v_place.lane_id, 'tokens', v_place.tokens,
      'wait_ms', v_place.wait_ms, 'ask_at', to_timestamp(v_place.start_ms / 1000.0)
    );
  end if;
  -- For those who come after.
  perform eve.make_route(v_place.requested_model, v_now);
  return eve.granted(
    eve.route_answer(
      v_place.requested_model, eve.served_model(v_place.requested_model), v_place.key_ids[v_key], v_place.aliases[v_key],
      v_place.env_var_names[v_key], v_place.lane_id, v_place.quota_key
    ),
    v_request_no, v_call.attempt, v_scope.class, v_scope.capture, v_place.tokens, v_place.wait_ms, v_place.start_ms,
    v_call.lease_ms,
    eve.limits_json(
      v_place.limits, v_place.used_starts, v_place.used_tokens, v_place.day_left,
      60000 + (v_place.limits).guard_ms + v_place.wait_ms, v_place.day_ends_ms - v_now
    ),
    v_place.output_tokens
  );
end;
$$;
comment on function public.eve_reserve is 'Reserves a slot for one upstream attempt: all limits and budgets together or nothing. Answers granted, waiting (batch: ask again then), refused, duplicate, or count: have the prompt counted upstream and come again.';
