-- Settling an attempt: what it has really used, and how it ended.

-- What a key has spent, for people and older readers: one row per key, model and minute; rpd_used is the day's count so far. `calls`
-- of one key and model that started in the same minute. A rule of the owner's that refuses the row is an error here.
create or replace function eve.count_calls(key_id uuid, model text, start_ms bigint, calls integer, tokens bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_minute constant timestamptz := to_timestamp((count_calls.start_ms / 60000 * 60000) / 1000.0);
  v_day constant date := eve.pacific_day(count_calls.start_ms);
begin
  -- Nearly always the row is there: `on conflict` alone would write a lock of it to the log as well.
  for v_try in 1..2 loop
    update public.google_ai_usage_counters c
    set rpm_used = coalesce(c.rpm_used, 0) + count_calls.calls,
      tpm_used = least(coalesce(c.tpm_used, 0)::bigint + count_calls.tokens, 2147483647)::integer,
      rpd_used = coalesce(c.rpd_used, 0) + count_calls.calls, updated_at = now()
    where c.api_key_id = count_calls.key_id and c.model = count_calls.model and c.minute_bucket = v_minute;
    exit when found;
    insert into public.google_ai_usage_counters
      (api_key_id, model, minute_bucket, day_bucket, rpm_used, tpm_used, rpd_used, updated_at)
    select count_calls.key_id, count_calls.model, v_minute, v_day, count_calls.calls,
      least(count_calls.tokens, 2147483647)::integer,
      count_calls.calls + coalesce(
        (
          select max(before.rpd_used)
          from public.google_ai_usage_counters before
          where before.api_key_id = count_calls.key_id and before.model = count_calls.model
            and before.minute_bucket >= v_minute - interval '25 hours' and before.minute_bucket < v_minute
            and before.day_bucket = v_day
        ), 0
      ), now()
    -- A key may have been deleted while it was in use, and a hand-made foreign key then refuses its rows.
    where exists (select from public.google_ai_api_keys k where k.id = count_calls.key_id)
    on conflict (api_key_id, model, minute_bucket) do nothing;
    exit when found;
    -- Somebody else has just made it, or the key is gone.
  end loop;
  -- Calls that settle after a later minute's first: that minute's count so far includes them.
  update public.google_ai_usage_counters c
  set rpd_used = c.rpd_used + count_calls.calls
  from (
    select l.api_key_id, l.model, l.minute_bucket
    from public.google_ai_usage_counters l
    where l.api_key_id = count_calls.key_id and l.model = count_calls.model and l.minute_bucket > v_minute
      and l.day_bucket = v_day
    order by l.minute_bucket
    for no key update
  ) later
  where c.api_key_id = later.api_key_id and c.model = later.model and c.minute_bucket = later.minute_bucket;
end;
$$;

-- One call. The table is its owner's, and so are rules on it that refuse a row: they must not stop a settlement.
create or replace function eve.count_usage(key_id uuid, model text, start_ms bigint, tokens bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform eve.count_calls(count_usage.key_id, count_usage.model, count_usage.start_ms, 1, count_usage.tokens);
exception
  when integrity_constraint_violation or data_exception or raise_exception then
    perform eve.open_alert(
      'usage_counters_refused', 'public.google_ai_usage_counters', 'warning',
      format('A row for public.google_ai_usage_counters was refused: %s. The attempt itself is in eve.attempts.', sqlerrm)
    );
end;
$$;

-- Ends a request whose last attempt never came to anything (batch that has left the queue, a start that was given back unheard): as
-- the attempt before it ended.
create or replace function eve.close_as_before(running eve.inflight)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_running eve.inflight := close_as_before.running;
  v_before eve.earlier_attempts;
begin
  select * into v_before
  from eve.earlier_attempts a
  where a.request_no = v_running.request_no and a.attempt = v_running.attempt - 1;
  v_running.attempt := v_before.attempt;
  v_running.key_id := v_before.key_id;
  v_running.model := v_before.model;
  perform eve.close_request(v_running, eve.ended_as(v_before));
end;
$$;

-- Corrects what a call has taken from its budgets. `gave_up`: a start that was booked and that its caller gave up before it came:
-- the token keeps the request, or its holder could book and give up for as long as it lives.
create or replace function eve.adjust_budgets(
  consumer_id uuid, token_id uuid, received_at timestamptz, requests integer, tokens bigint, gave_up boolean default false
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if adjust_budgets.requests = 0 and adjust_budgets.tokens = 0 then
    return;
  end if;
  if adjust_budgets.token_id is not null then
    update eve.scoped_tokens t
    set requests_used = greatest(t.requests_used + case when adjust_budgets.gave_up then 0 else adjust_budgets.requests end, 0),
      tokens_used = greatest(t.tokens_used + adjust_budgets.tokens, 0)
    where t.id = adjust_budgets.token_id;
  end if;
  if adjust_budgets.consumer_id <> '00000000-0000-0000-0000-000000000000' then
    update eve.consumer_days d
    set requests = greatest(d.requests + adjust_budgets.requests, 0), tokens = greatest(d.tokens + adjust_budgets.tokens, 0)
    where d.consumer_id = adjust_budgets.consumer_id
      and d.day = eve.pacific_day(floor(extract(epoch from adjust_budgets.received_at) * 1000)::bigint);
  end if;
end;
$$;

-- What upstream said takes effect in the transaction that settles: {"scope", "for_ms" | "until", "reason"}.
create or replace function eve.apply_block(running eve.inflight, block jsonb, fallback_reason text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_until timestamptz;
  v_reason constant text := left(coalesce(apply_block.block ->> 'reason', apply_block.fallback_reason), 200);
  v_alias text;
begin
  v_until := case apply_block.block ->> 'until'
    when 'forever' then 'infinity'::timestamptz
    when 'pacific_midnight' then to_timestamp(
      (eve.next_pacific_midnight(eve.clock_ms()) + (select s.value from eve.settings s where s.name = 'guard_ms')) / 1000.0
    )
    else v_now + (apply_block.block ->> 'for_ms')::bigint * interval '1 millisecond'
  end;
  if v_until is null then
    raise exception 'block needs for_ms, or until: pacific_midnight or forever' using errcode = 'EV400';
  end if;
  select k.key_alias into v_alias from public.google_ai_api_keys k where k.id = (running).key_id;

  case apply_block.block ->> 'scope'
    when 'lane' then
      update eve.lanes l
      set blocked_until = greatest(l.blocked_until, v_until), blocked_reason = v_reason
      where l.id = (running).lane_id;
    when 'key' then
      update public.google_ai_api_keys k
      set blocked_until = greatest(k.blocked_until, v_until), blocked_reason = v_reason,
        is_active = k.is_active and v_until < 'infinity'
      where k.id = (running).key_id;
      if v_until = 'infinity' then
        perform eve.remember_rejected_secret((running).key_id, apply_block.block ->> 'secret_hash');
      end if;
      perform eve.open_alert(
        case v_reason when 'secret_missing' then 'secret_missing' else 'key_disabled' end, (running).key_id::text,
        case when v_until = 'infinity' then 'critical' else 'warning' end,
        format('Key %s is not used: %s', coalesce(v_alias, (running).key_id::text), v_reason)
      );
    when 'key_model' then
      insert into eve.key_model_blocks as b (key_id, model, blocked_until, reason)
      values ((running).key_id, (running).model, v_until, v_reason)
      on conflict (key_id, model) do update
      set blocked_until = greatest(b.blocked_until, excluded.blocked_until), reason = excluded.reason;
      perform eve.open_alert(
        'model_unavailable', (running).key_id::text || ' ' || (running).model, 'warning',
        format('Key %s is not used for %s: %s', coalesce(v_alias, (running).key_id::text), (running).model, v_reason)
      );
    when 'capability' then
      -- The model refused a feature that its row says it has: the next call goes without.
      update public.google_ai_model_limits m
      set supports_system = m.supports_system and apply_block.block ->> 'capability' <> 'system',
        supports_json = m.supports_json and apply_block.block ->> 'capability' <> 'json',
        supports_tools = m.supports_tools and apply_block.block ->> 'capability' <> 'tools'
      where m.model = (running).model;
    else
      raise exception 'block scope must be lane, key, key_model or capability' using errcode = 'EV400';
  end case;
end;
$$;

-- Learns what a model's estimates have to be multiplied by: each step goes a tenth of the way to what the call showed, by
-- 2 % at the most, so that an outlier moves it as little as any other call; between half and twice. Only some calls teach
-- (setting learn_one_in), and none waits for another that does.
-- What is true to the token was counted upstream and teaches nothing.
create or replace function eve.learn_estimate(model text, request_no bigint, estimated integer, counted integer)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_one_in constant bigint := (select s.value from eve.settings s where s.name = 'learn_one_in');
begin
  -- Small prompts are mostly overhead that the estimate does not see. What is true to the token was counted, not estimated.
  if v_one_in <= 0 or learn_estimate.request_no % v_one_in <> 0 or learn_estimate.estimated < 20
    or learn_estimate.counted is null or learn_estimate.counted < 20 or learn_estimate.counted = learn_estimate.estimated then
    return;
  end if;
  update public.google_ai_model_limits m
  set estimate_factor = greatest(0.5, least(2,
    m.estimate_factor * exp(
      greatest(-0.02, least(0.02, 0.1 * ln(learn_estimate.counted / (learn_estimate.estimated * m.estimate_factor))))
    )
  ))
  where m.model in (
    select free.model
    from public.google_ai_model_limits free
    where free.model = learn_estimate.model
    for update skip locked
  );
end;
$$;

-- A settlement of an attempt that has ended already. Late is one whose lease had run out, so that it was booked as expired: what
-- really happened is worth knowing. What it held stays counted, even if it now says that it called nobody: its place has long
-- been planned with.
create or replace function eve.settle_ended(
  request_no bigint, attempt integer, outcome text, input_tokens integer, output_tokens integer, thoughts_tokens integer,
  cached_tokens integer, total_tokens bigint, upstream_status integer, error_code text, error_detail text,
  finish_reason text, latency_ms integer, usage_estimated boolean, wrote boolean
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_before eve.requests;
begin
  select * into v_before
  from eve.requests r
  where r.request_no = settle_ended.request_no and r.attempts = settle_ended.attempt and r.lane_id is not null
  for update;
  if not found then
    raise exception 'no reservation % attempt %', settle_ended.request_no, settle_ended.attempt using errcode = 'EV404';
  elsif v_before.state <> 'expired' then
    return jsonb_build_object('status', 'already_settled', 'outcome', v_before.state);
  end if;
  perform eve.adjust_budgets(
    v_before.consumer_id, v_before.token_id, v_before.received_at, 0,
    case
      when settle_ended.total_tokens is not null
        then settle_ended.total_tokens - v_before.tokens_booked - coalesce(v_before.output_booked, 0)
      when settle_ended.wrote then 0
      else -coalesce(v_before.output_booked, 0)
    end
  );
  perform eve.adjust_bucket(
    v_before.lane_id, v_before.start_ms + v_before.bucket_after_ms, v_before.class, 0,
    settle_ended.input_tokens - v_before.tokens_booked
  );
  update eve.requests r
  set state = settle_ended.outcome, output_booked = case when settle_ended.wrote then r.output_booked end,
    settled_at = eve.clock(), input_tokens = settle_ended.input_tokens, output_tokens = settle_ended.output_tokens, thoughts_tokens = settle_ended.thoughts_tokens,
    cached_tokens = settle_ended.cached_tokens, total_tokens = settle_ended.total_tokens,
    usage_estimated = settle_ended.usage_estimated, upstream_status = settle_ended.upstream_status,
    error_code = left(settle_ended.error_code, 100), error_detail = left(settle_ended.error_detail, 2000),
    finish_reason = left(settle_ended.finish_reason, 100), latency_ms = settle_ended.latency_ms
  where r.finished_at = v_before.finished_at and r.request_no = v_before.request_no;
  update eve.request_keys k
  set state = settle_ended.outcome, error_code = left(settle_ended.error_code, 100)
  where k.consumer_id = v_before.consumer_id and k.request_id = v_before.request_id
    and k.request_no = v_before.request_no;
  if settle_ended.total_tokens is not null then
    perform eve.log_token_usage(
      v_before.model, settle_ended.input_tokens, settle_ended.output_tokens, settle_ended.total_tokens,
      v_before.request_id,
      eve.usage_meta(v_before.consumer_id, settle_ended.attempt, settle_ended.usage_estimated)
    );
  end if;
  return jsonb_build_object('status', 'late');
end;
$$;

-- Writes down how an attempt ended: with its request, or, if another one is to follow, by itself.
create or replace function eve.end_attempt(
  running eve.inflight, ended eve.requests, final boolean, result jsonb, now_at timestamptz
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if end_attempt.final and (running).state = 'waiting' and (running).attempt > 1 then
    perform eve.note_earlier_attempt(running, ended);
    perform eve.close_as_before(running);
  elsif end_attempt.final then
    perform eve.close_request(running, ended);
    if end_attempt.result is not null then
      insert into eve.request_results (request_no, result) values ((running).request_no, end_attempt.result)
      on conflict do nothing;
    end if;
  else
    perform eve.note_earlier_attempt(running, ended);
    -- The caller is about to reserve the next attempt. If it dies instead, the row closes by itself.
    update eve.inflight i
    set state = 'between', lease_until = greatest(i.lease_until, end_attempt.now_at + interval '120 seconds')
    where i.request_no = (running).request_no;
  end if;
end;
$$;

create or replace function public.eve_settle(
  request_no bigint,
  attempt integer,
  outcome text,
  final boolean default true,
  dispatched boolean default true,
  input_tokens integer default null,
  output_tokens integer default null,
  thoughts_tokens integer default null,
  cached_tokens integer default null,
  total_tokens integer default null,
  upstream_status integer default null,
  error_code text default null,
  error_detail text default null,
  finish_reason text default null,
  block jsonb default null,
  latency_ms integer default null,
  usage_estimated boolean default false,
  result jsonb default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- As for eve_reserve. Anyone who settles asks again.
set lock_timeout = '3s'
-- Custom plans would be made again on nearly every call; planning was a third of its time.
set plan_cache_mode = 'force_generic_plan'
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_running eve.inflight;
  v_before eve.earlier_attempts;
  v_ended eve.requests;
  v_now constant timestamptz := eve.clock();
  v_total bigint := coalesce(eve_settle.total_tokens, eve_settle.input_tokens + coalesce(eve_settle.output_tokens, 0));
  -- Whether it may have written an answer of which nobody knows how long it was: a refusal by upstream has none.
  v_wrote constant boolean := v_total is null and eve_settle.dispatched and coalesce(eve_settle.upstream_status, 0) < 400;
  v_delta bigint;
begin
  if eve_settle.outcome is null or eve_settle.outcome not in ('succeeded', 'failed', 'cancelled') then
    raise exception 'outcome must be succeeded, failed or cancelled' using errcode = 'EV400';
  elsif eve_settle.input_tokens < 0 or eve_settle.output_tokens < 0 then
    raise exception 'tokens must be 0 or more' using errcode = 'EV400';
  end if;

  select * into v_running from eve.inflight i where i.request_no = eve_settle.request_no for update;
  if not found or v_running.attempt <> eve_settle.attempt or v_running.state not in ('reserved', 'waiting')
    or v_running.state = 'waiting' and eve_settle.dispatched then
    select * into v_before
    from eve.earlier_attempts a
    where a.request_no = eve_settle.request_no and a.attempt = eve_settle.attempt;
    if found and eve_settle.final and v_running.attempt = eve_settle.attempt and v_running.state = 'between' then
      -- No attempt followed after all: the request ends as this one did.
      perform eve.close_request(v_running, eve.ended_as(v_before));
      return jsonb_build_object('status', 'settled');
    elsif found then
      return jsonb_build_object('status', 'already_settled', 'outcome', v_before.outcome);
    end if;
    return eve.settle_ended(
      eve_settle.request_no, eve_settle.attempt, eve_settle.outcome, eve_settle.input_tokens, eve_settle.output_tokens,
      eve_settle.thoughts_tokens, eve_settle.cached_tokens, v_total, eve_settle.upstream_status, eve_settle.error_code,
      eve_settle.error_detail, eve_settle.finish_reason, eve_settle.latency_ms, eve_settle.usage_estimated, v_wrote
    );
  end if;

  -- Budgets first, then the lane, then its bucket: the order in which a reservation takes them.
  v_delta := case
    when not eve_settle.dispatched then -v_running.tokens
    else eve_settle.input_tokens - v_running.tokens
  end;
  perform eve.adjust_budgets(
    v_running.consumer_id, v_running.token_id, v_running.received_at,
    case when not eve_settle.dispatched and eve_settle.final and v_running.attempt = 1 then -1 else 0 end,
    case
      when not eve_settle.dispatched then -v_running.tokens - v_running.output_tokens
      when v_total is not null then v_total - v_running.tokens - v_running.output_tokens
      when v_wrote then 0
      else -v_running.output_tokens
    end,
    v_running.state = 'reserved' and eve_settle.outcome = 'cancelled'
  );
  if v_running.state = 'waiting' then
    null; -- It held no place.
  elsif not eve_settle.dispatched then
    perform eve.give_back(v_running);
  elsif v_delta > 0 then
    -- Under-estimated: the lane's two-span sum must know, or it would let somebody in.
    update eve.lanes l
    set span_tokens = l.span_tokens + case when v_running.start_ms >> 16 >= l.span_number then v_delta else 0 end,
      previous_span_tokens = l.previous_span_tokens
        + case when v_running.start_ms >> 16 < l.span_number then v_delta else 0 end
    where l.id = v_running.lane_id;
  end if;
  if eve_settle.block is not null then
    perform eve.apply_block(v_running, eve_settle.block, coalesce(eve_settle.error_code, 'blocked'));
  end if;
  if v_running.state = 'reserved' then
    perform eve.adjust_bucket(
      v_running.lane_id, v_running.bucket_ms, v_running.class, case when eve_settle.dispatched then 0 else -1 end, v_delta
    );
  end if;

  v_ended := eve.ended_attempt(v_running, eve_settle.outcome, eve_settle.dispatched, eve_settle.error_code);
  v_ended.input_tokens := eve_settle.input_tokens;
  v_ended.output_tokens := eve_settle.output_tokens;
  v_ended.thoughts_tokens := eve_settle.thoughts_tokens;
  v_ended.cached_tokens := eve_settle.cached_tokens;
  v_ended.total_tokens := v_total;
  v_ended.usage_estimated := eve_settle.usage_estimated;
  v_ended.upstream_status := eve_settle.upstream_status;
  v_ended.error_detail := left(eve_settle.error_detail, 2000);
  v_ended.finish_reason := left(eve_settle.finish_reason, 100);
  v_ended.latency_ms := eve_settle.latency_ms;
  if v_wrote then
    v_ended.output_booked := nullif(v_running.output_tokens, 0);
  end if;
  if eve_settle.dispatched then
    perform eve.count_usage(
      v_running.key_id, v_running.model, v_running.start_ms, coalesce(eve_settle.input_tokens, v_running.tokens)
    );
  end if;

  perform eve.end_attempt(v_running, v_ended, eve_settle.final, eve_settle.result, v_now);
  if v_total is not null then
    perform eve.log_token_usage(
      v_running.model, eve_settle.input_tokens, eve_settle.output_tokens, v_total, v_running.request_id,
      eve.usage_meta(v_running.consumer_id, v_running.attempt, eve_settle.usage_estimated)
    );
  end if;
  if eve_settle.dispatched and not eve_settle.usage_estimated then
    perform eve.learn_estimate(v_running.model, v_running.request_no, v_running.estimated_tokens, eve_settle.input_tokens);
  end if;
  return jsonb_build_object('status', 'settled');
end;
$$;
comment on function public.eve_settle is 'Ends a reservation: real tokens replace the estimate at its own place in the window. Twice is the same as once; late is harmless.';
