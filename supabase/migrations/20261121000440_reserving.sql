-- Reserving a slot for one upstream attempt. With the rights of the caller, who is the service role.
--
-- Locks are always taken in this order, so that no two calls can wait for each other: request id (advisory), running request,
-- budgets, one lane, its buckets, counters. A refusal, and batch that is told to wait, take no lock on a lane.

-- What eve_reserve is given, in one piece.
do $$
begin
  if to_regtype('eve.call') is null then
    create type eve.call as (
      request_id text,
      models text[],
      tokens integer,
      consumer_id uuid,
      class text,
      max_wait_ms integer,
      attempt integer,
      exclude_keys uuid[],
      avoid_keys uuid[],
      lease_ms integer,
      token_id uuid,
      door text,
      trace_id text,
      metadata jsonb,
      request_hash text,
      counted boolean,
      request_no bigint,
      deadline timestamptz,
      call_id uuid
    );
  end if;
end;
$$;
comment on type eve.call is 'The arguments of public.eve_reserve, which explains them.';

-- What a lane may do in a minute and a day, and what is left of it after a booking. reset_ms: until the limit is whole again.
create or replace function eve.limits_json(
  limits eve.lane_limits, used_starts bigint, used_tokens bigint, day_left bigint, reset_ms bigint, day_reset_ms bigint
)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'requests', jsonb_build_object(
      'limit', (limits).rpm, 'remaining', case when (limits).rpm is not null then greatest((limits).rpm - limits_json.used_starts, 0) end,
      'reset_ms', limits_json.reset_ms
    ),
    'tokens', jsonb_build_object(
      'limit', (limits).tpm, 'remaining', case when (limits).tpm is not null then greatest((limits).tpm - limits_json.used_tokens, 0) end,
      'reset_ms', limits_json.reset_ms
    ),
    'requests_day', jsonb_build_object(
      'limit', (limits).rpd, 'remaining', case when (limits).rpd is not null then greatest(limits_json.day_left, 0) end,
      'reset_ms', limits_json.day_reset_ms
    )
  );
end;
$$;

-- Writes a refusal to the audit and says it. Costs the caller nothing: no slot, no budget, no request_id.
create or replace function eve.refuse(
  call eve.call, class text, code text, model text default null, limit_name text default null, wait_ms bigint default null,
  limits jsonb default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Spread out, so that those refused together do not come back together: over half the wait again, at least a second, at
  -- most ten minutes after a daily limit and half a minute otherwise.
  v_spread constant double precision := greatest(
    1000, least(refuse.wait_ms / 2.0, case when refuse.limit_name = 'rpd' then 600000 else 30000 end)
  );
  v_retry_after_ms constant bigint := case
    when refuse.wait_ms is not null then greatest(refuse.wait_ms, 0) + floor(random() * v_spread)::bigint
  end;
  v_model constant text := coalesce(refuse.model, (call).models[1]);
begin
  insert into eve.refusals (
    refused_at, consumer_id, token_id, request_id, attempt, class, door, model, code, limit_name, tokens, retry_after_ms,
    trace_id
  )
  values (
    eve.clock(), coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000'), (call).token_id, (call).request_id,
    (call).attempt, refuse.class, (call).door, v_model, refuse.code, refuse.limit_name, (call).tokens, v_retry_after_ms,
    (call).trace_id
  );
  return jsonb_build_object(
    'status', 'refused', 'code', refuse.code, 'limit', refuse.limit_name, 'retry_after_ms', v_retry_after_ms,
    'model', v_model, 'limits', refuse.limits, 'detail', null
  );
end;
$$;

-- Nobody waits for the answer any more, so nothing is booked: what this transaction has done so far is undone. `detail` is the time
-- by which that was found, in milliseconds since 1970, from which a caller whose clock differs learns by how much.
create or replace function eve.stop_when_late(deadline timestamptz)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if clock_timestamp() > stop_when_late.deadline then
    raise exception 'nobody waits for this reservation any more'
      using errcode = 'EV503', detail = floor(extract(epoch from clock_timestamp()) * 1000)::bigint::text;
  end if;
end;
$$;

create or replace function eve.check_call(call eve.call)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if (call).request_id is null or length((call).request_id) not between 1 and 200 then
    raise exception 'request_id must have 1 to 200 characters' using errcode = 'EV400';
  elsif coalesce(cardinality((call).models), 0) not between 1 and 10 then
    raise exception 'models must name 1 to 10 models' using errcode = 'EV400';
  elsif exists (select from unnest((call).models) m where m is null or length(m) not between 1 and 200) then
    raise exception 'the name of a model must have 1 to 200 characters' using errcode = 'EV400';
  elsif length((call).door) > 40 or length((call).trace_id) > 200 or length((call).request_hash) > 200 then
    raise exception 'door must have at most 40 characters, trace_id and request_hash 200' using errcode = 'EV400';
  elsif (call).tokens is null or (call).tokens < 0 then
    raise exception 'tokens must be 0 or more' using errcode = 'EV400';
  elsif (call).class is null or (call).class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif (call).max_wait_ms is null or (call).max_wait_ms not between 0 and 3600000 then
    raise exception 'max_wait_ms must be between 0 and 3600000' using errcode = 'EV400';
  elsif (call).attempt is null or (call).attempt not between 1 and 3 then
    raise exception 'attempt must be 1, 2 or 3' using errcode = 'EV400';
  elsif (call).lease_ms is null or (call).lease_ms not between 100 and 3600000 then
    raise exception 'lease_ms must be between 100 and 3600000' using errcode = 'EV400';
  elsif length((call).metadata::text) > 16384 then
    raise exception 'metadata must have at most 16384 characters' using errcode = 'EV400';
  end if;
end;
$$;

-- A request that was made before under the same id.
do $$
begin
  if to_regtype('eve.earlier_request') is null then
    create type eve.earlier_request as (
      request_no bigint,
      state text,
      attempts integer,
      request_hash text,
      requested_model text,
      class text,
      error_code text,
      result jsonb
    );
  end if;
end;
$$;
comment on type eve.earlier_request is 'A request that was made before under the same id: of eve.inflight or eve.requests.';

-- What a caller is told who asks for a request that was made before. An id is its consumer's, and an answer belongs to a scope as
-- well: a caller that may use none of the models it names learns what any other id would tell it, and what was served by a model or
-- in a class that it may not use is another request.
create or replace function eve.repeated(call eve.call, before eve.earlier_request)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_scope record;
  v_same boolean;
begin
  select case
      when t.models is null then c.models
      when c.models is null then t.models
      else array(select m from unnest(t.models) m where m = any (c.models))
    end as models, c.max_class = 'batch' or t.class is not distinct from 'batch' as batch_only
  into v_scope
  from eve.consumers c
  left join eve.scoped_tokens t on t.id = (call).token_id
  where c.id = coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  if not (call).models && v_scope.models then
    return eve.refuse(call, (call).class, 'model_not_allowed');
  end if;
  v_same := (call).request_hash is not distinct from (before).request_hash
    and (v_scope.models is null or (before).requested_model = any (v_scope.models))
    and ((before).class = 'batch' or not v_scope.batch_only);
  return jsonb_build_object(
    'status', 'duplicate', 'state', (before).state, 'request_no', (before).request_no, 'attempts', (before).attempts,
    'same_request', v_same, 'error_code', case when v_same then (before).error_code end,
    'result', case when v_same then (before).result end
  );
end;
$$;

-- What is known of a request_id: the running request that this attempt belongs to (`running`, null: a new one), or the answer
-- that says that it is not to be run. Takes the lock that makes the same request twice at once come one after the other.
create or replace function eve.find_request(call eve.call, now_ms bigint, out running eve.inflight, out answer jsonb)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer_id constant uuid := coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  v_before eve.earlier_request;
begin
  perform pg_advisory_xact_lock(hashtextextended(v_consumer_id::text || (call).request_id, 0));
  -- Whoever settles or closes it at this moment is waited for; then it has ended, and the answer is below.
  select * into running
  from eve.inflight i
  where i.consumer_id = v_consumer_id and i.request_id = (call).request_id
  for update;
  if found and running.lease_until < to_timestamp(find_request.now_ms / 1000.0) then
    if running.state <> 'waiting' then
      perform eve.expire_leases(running.lane_id, 100000);
      running := null;
    elsif running.request_no is distinct from (call).request_no then
      -- It waited for a caller that has gone, and was never sent: this is the same request again.
      perform eve.leave_line(running);
      select * into running from eve.inflight i where i.request_no = (running).request_no;
    end if;
  end if;
  if running.request_no is not null then
    if running.attempt = (call).attempt and running.request_no = (call).request_no and running.state <> 'between'
      or (call).attempt > 1 and running.attempt + 1 = (call).attempt and running.state = 'between' then
      return;
    end if;
    v_before := row(
      running.request_no, 'running', running.attempt, running.request_hash, running.requested_model, running.class, null, null
    );
  else
    select r.request_no, r.state, r.attempts, r.request_hash, r.requested_model, r.class, r.error_code, kept.result
    into v_before
    from eve.requests r
    left join eve.request_results kept on kept.request_no = r.request_no
    where r.consumer_id = v_consumer_id and r.request_id = (call).request_id;
    if not found then
      if (call).attempt > 1 or (call).request_no is not null then
        raise exception 'attempt % of a request that is not running', (call).attempt using errcode = 'EV404';
      end if;
      return;
    end if;
  end if;
  answer := eve.repeated(call, v_before);
end;
$$;

-- What a caller may: its class, its models, and what it takes from which budget. `refusal` says why it may not.
do $$
begin
  if to_regtype('eve.caller_scope') is null then
    create type eve.caller_scope as (
      class text,
      models text[],
      capture boolean,
      day date,
      counts_minute boolean,
      refusal text,
      limit_name text,
      wait_ms bigint
    );
  end if;
end;
$$;
comment on type eve.caller_scope is 'What a caller may. day: its budget''s Pacific day, null without a budget; counts_minute: it has a limit of requests a minute.';

-- Who calls, and what they may still spend. Budget rows are locked here, before any lane. `spends`: false where a booking of
-- this attempt has already taken its budgets.
create or replace function eve.scope_of(call eve.call, received_ms bigint, now_ms bigint, spends boolean)
returns eve.caller_scope
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_scope eve.caller_scope;
  v_consumer record;
  v_token record;
  v_spent record;
begin
  v_scope.class := (call).class;
  v_scope.capture := false;
  v_scope.counts_minute := false;
  if coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000') <> '00000000-0000-0000-0000-000000000000' then
    select c.is_active, c.models, c.max_class, c.requests_per_day, c.tokens_per_day, c.capture, c.rpm
    into v_consumer
    from eve.consumers c
    where c.id = (call).consumer_id;
    if not found or not v_consumer.is_active then
      v_scope.refusal := 'consumer_disabled';
      return v_scope;
    end if;
    v_scope.models := v_consumer.models;
    v_scope.capture := v_consumer.capture;
    if v_consumer.max_class = 'batch' then
      v_scope.class := 'batch';
    end if;
    if v_consumer.rpm is not null and (call).attempt = 1 and scope_of.spends then
      v_scope.wait_ms := eve.consumer_minute_wait((call).consumer_id, v_consumer.rpm, scope_of.now_ms);
      if v_scope.wait_ms > 0 then
        v_scope.refusal := 'rate_limited';
        v_scope.limit_name := 'consumer_rpm';
        return v_scope;
      end if;
      v_scope.counts_minute := true;
    end if;
    if scope_of.spends and (v_consumer.requests_per_day is not null or v_consumer.tokens_per_day is not null) then
      -- A request belongs to the day it came in, whatever the day of its later attempts.
      v_scope.day := eve.pacific_day(scope_of.received_ms);
      insert into eve.consumer_days (consumer_id, day) values ((call).consumer_id, v_scope.day) on conflict do nothing;
      select d.requests, d.tokens into v_spent
      from eve.consumer_days d
      where d.consumer_id = (call).consumer_id and d.day = v_scope.day
      for update;
      if (call).attempt = 1 and v_spent.requests >= v_consumer.requests_per_day then
        v_scope.limit_name := 'consumer_requests';
      elsif v_spent.tokens + (call).tokens > v_consumer.tokens_per_day then
        v_scope.limit_name := 'consumer_tokens';
      end if;
      if v_scope.limit_name is not null then
        v_scope.refusal := 'budget_exhausted';
        v_scope.wait_ms := eve.next_pacific_midnight(scope_of.now_ms) - scope_of.now_ms;
        return v_scope;
      end if;
    end if;
  end if;
  if (call).token_id is not null then
    select t.models, t.class, t.requests_budget, t.tokens_budget, t.requests_used, t.tokens_used,
      t.revoked_at is not null or t.expires_at <= to_timestamp(scope_of.now_ms / 1000.0) as ended
    into v_token
    from eve.scoped_tokens t
    where t.id = (call).token_id and t.consumer_id = (call).consumer_id
    for update;
    if not found or v_token.ended then
      v_scope.refusal := 'token_revoked';
      return v_scope;
    elsif scope_of.spends and (call).attempt = 1 and v_token.requests_used >= v_token.requests_budget then
      v_scope.limit_name := 'token_requests';
    elsif scope_of.spends and v_token.tokens_used + (call).tokens > v_token.tokens_budget then
      v_scope.limit_name := 'token_tokens';
    end if;
    if v_scope.limit_name is not null then
      v_scope.refusal := 'budget_exhausted';
      v_scope.wait_ms := null;
      return v_scope;
    end if;
    if v_token.class = 'batch' then
      v_scope.class := 'batch';
    end if;
    if v_token.models is not null then
      v_scope.models := case
        when v_scope.models is null then v_token.models
        else array(select m from unnest(v_token.models) m where m = any (v_scope.models))
      end;
    end if;
  end if;
  return v_scope;
end;
$$;

-- What became of a call on the lanes of one model.
do $$
begin
  if to_regtype('eve.placement') is null then
    create type eve.placement as (
      status text,
      requested_model text,
      served text,
      lane_id bigint,
      quota_key text,
      limits eve.lane_limits,
      pace eve.pool_pace,
      key_ids uuid[],
      aliases text[],
      env_var_names text[],
      lanes bigint,
      contended boolean,
      tokens bigint,
      start_ms bigint,
      second_ms bigint,
      bucket_ms bigint,
      day_ends_ms bigint,
      wait_ms bigint,
      turn bigint,
      used_starts bigint,
      used_tokens bigint,
      day_left bigint,
      refusal text,
      limit_name text,
      refusal_wait bigint,
      refusal_limits jsonb
    );
  end if;
end;
$$;
comment on type eve.placement is 'What became of a call on the lanes of one model: granted, waiting, count, refused, or (on the way there) found, missing.';

-- Of the lanes that serve a model the one on which a call can start first. `found` says when, second_ms when the next best could;
-- `only_lane`: the one that the caller holds already. `missing`: a lane is to be made first; `count`: the prompt is to be counted upstream first.
create or replace function eve.choose_lane(
  call eve.call, class text, served public.google_ai_model_limits, queued_ms bigint, only_lane bigint, now_ms bigint
)
returns eve.placement
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_batch constant boolean := choose_lane.class = 'batch';
  -- Upstream's own count is booked as it is. An estimate that could be counted is booked at the most that it may turn out
  -- to be, until it is settled; an estimate that cannot be counted, at what such estimates have come to.
  v_expected constant bigint := ceil((call).tokens * case when (call).counted then 1 else (served).estimate_factor end)::bigint;
  v_tokens constant bigint := case when not (call).counted then ceil(v_expected * (served).estimate_ceiling)::bigint else v_expected end;
  v_best eve.placement;
  v_lane record;
  v_fit record;
  v_start bigint;
  v_limit text;
  v_day_left bigint;
  v_ahead record;
  v_contended boolean;
  v_pace eve.pool_pace;
  v_too_small integer := 0;
begin
  v_best.served := (served).model;
  v_best.tokens := v_tokens;
  v_best.lanes := 0;
  -- In the order of the earliest start that can be told without looking into the window. The first whose real start is no
  -- later than the next one's bound is the best there is, so seldom more than one window is looked at.
  for v_lane in
    select o.*, l as state, l.id is null as missing, count(*) over () as lanes, array_agg(o.lane_id) over () as lane_ids,
      case when bool_and((o.limits).rpm > 0) over () then (60000 + (o.limits).guard_ms)::double precision / sum((o.limits).rpm) over () end as interval_ms,
      case when bool_and((o.limits).tpm > 0) over () then (60000 + (o.limits).guard_ms)::double precision / sum((o.limits).tpm) over () end as token_ms,
      max(l.pace_ms) over () as pace_ms, max(l.token_pace_ms) over () as token_pace_ms, max(l.batch_start_ms) over () as batch_start_ms,
      greatest(
        choose_lane.now_ms, case when not v_batch then l.interactive_tail_ms end,
        case when l.blocked_until > to_timestamp(choose_lane.now_ms / 1000.0) then
          case
            when l.blocked_until = 'infinity' then 9223372036854775807
            else ceil(extract(epoch from l.blocked_until) * 1000)::bigint
          end
        end
      ) as bound_ms
    from eve.lanes_for(served, choose_lane.now_ms, (call).exclude_keys, (call).avoid_keys) o
    left join eve.lanes l on l.id = o.lane_id
    where choose_lane.only_lane is null or o.lane_id = choose_lane.only_lane
    order by missing desc, bound_ms, o.avoided, o.priority, l.day_starts, l.turns, l.id
  loop
    v_best.lanes := v_lane.lanes;
    if v_lane.missing then
      v_best.status := 'missing';
      return v_best;
    end if;
    if v_contended is null then
      v_contended := exists (
        select
        from eve.inflight i
        where i.state = 'waiting' and i.lane_id = any (v_lane.lane_ids) and i.start_ms > choose_lane.now_ms - 1500
          and i.request_no is distinct from (call).request_no
      );
      -- A start that is booked again has had its turn, and its place in the pace.
      v_pace := case when choose_lane.only_lane is null then row(
        v_lane.interval_ms, v_lane.token_ms, v_lane.pace_ms, v_lane.token_pace_ms, v_lane.batch_start_ms, (served).batch_floor
      )::eve.pool_pace end;
    end if;
    v_start := null;
    if v_tokens > (v_lane.limits).tpm then
      if not (call).counted and v_expected <= (v_lane.limits).tpm * (served).estimate_ceiling then
        v_best.status := 'count'; -- It may fit after all: only a count can tell.
      else
        v_too_small := v_too_small + 1;
        v_best.refusal_limits := eve.limits_json(v_lane.limits, 0, 0, (v_lane.limits).rpd, 0, 0);
        continue;
      end if;
    elsif v_best.start_ms <= v_lane.bound_ms then
      v_best.second_ms := least(v_best.second_ms, v_lane.bound_ms);
      exit;
    else
      v_fit := eve.earliest_start(
        v_lane.state, v_lane.limits, choose_lane.class, v_contended, v_tokens, choose_lane.now_ms,
        case
          when not v_batch then (v_lane.state).interactive_tail_ms
          -- Alone on lanes that are half empty batch goes as it comes; otherwise one by one.
          when v_contended or not eve.half_empty(v_lane.state, v_lane.limits, v_tokens, choose_lane.now_ms)
            then eve.pace_allows(v_pace)
          else 0
        end
      );
      v_start := v_fit.start_ms;
      v_limit := v_fit.limit_name;
      v_day_left := v_fit.day_left;
      if v_batch and v_start is not null then
        v_ahead := eve.line_before(v_lane.lane_id, choose_lane.queued_ms, (call).request_no, choose_lane.now_ms);
        if v_ahead.calls > 0 then
          -- By half of the time that those ahead will take at most: nobody wakes who sleeps too long when places come free sooner,
          -- and to ask too early costs a question. bench:quota, tokens, batch only, 1 and 2 projects: 95.6 and 94.9 % used with
          -- the whole time, 96.1 and 97.2 with half of it, 96.9 and 98.2 with a quarter, which asks twice as often.
          v_start := v_start + greatest(
            ceil(0.5 * v_ahead.calls * (60000 + (v_lane.limits).guard_ms)::double precision / (v_lane.limits).rpm),
            ceil(0.5 * v_ahead.tokens * (60000 + (v_lane.limits).guard_ms)::double precision / (v_lane.limits).tpm), 1
          )::bigint;
        end if;
      end if;
    end if;
    if v_best.status = 'count' or v_best.start_ms is null and v_start is not null or v_start < v_best.start_ms then
      v_best.second_ms := v_best.start_ms;
      v_best.start_ms := v_start;
      v_best.limit_name := v_limit;
      v_best.day_left := v_day_left;
      v_best.lane_id := v_lane.lane_id;
      v_best.quota_key := v_lane.quota_key;
      v_best.limits := v_lane.limits;
      v_best.key_ids := v_lane.key_ids;
      v_best.aliases := v_lane.aliases;
      v_best.env_var_names := v_lane.env_var_names;
      exit when v_best.status = 'count';
    elsif v_start is not null then
      v_best.second_ms := least(v_best.second_ms, v_start);
    elsif v_best.start_ms is null then
      -- Nothing to wait for on this lane; remembered as the reason if no other lane has one.
      v_best.limit_name := coalesce(v_best.limit_name, v_limit);
    end if;
  end loop;

  v_best.contended := coalesce(v_contended, false);
  v_best.pace := v_pace;
  if v_best.status = 'count' then
    return v_best;
  elsif v_best.start_ms is not null then
    v_best.status := 'found';
    -- Where tokens are what is scarce, callers who have the time are asked to have them counted first: those who wait for tokens,
    -- and batch with a prompt above an even share of the limit. A booking made on a guess has to be larger than the prompt,
    -- and what it leaves over is of no use to those who have booked behind it.
    if not (call).counted
      and (
        v_best.start_ms > choose_lane.now_ms
          and (v_best.limit_name = 'tpm' or v_expected * coalesce((v_best.limits).rpm, 60) > (v_best.limits).tpm)
        or v_batch and v_expected * coalesce((v_best.limits).rpm, 60) > (v_best.limits).tpm
      ) then
      v_best.status := 'count';
    end if;
    return v_best;
  end if;
  v_best.status := 'refused';
  if v_best.lanes = 0 then
    v_best.refusal := 'no_active_key';
  elsif v_too_small = v_best.lanes then
    v_best.refusal := 'prompt_too_large';
    v_best.limit_name := 'tpm';
  else
    v_best.refusal := case v_best.limit_name when 'rpd' then 'daily_limit' when 'blocked' then 'lane_blocked' else 'rate_limited' end;
  end if;
  return v_best;
end;
$$;

-- Why a call that could start at v_best.start_ms is refused: it would be too late. What stands in the way, apart from the line
-- of those who came before?
create or replace function eve.too_late(best eve.placement, call eve.call, class text, now_ms bigint)
returns eve.placement
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_best eve.placement := too_late.best;
  v_lane eve.lanes;
  v_fit record;
  v_used record;
begin
  select * into v_lane from eve.lanes l where l.id = v_best.lane_id;
  v_fit := eve.earliest_start(
    v_lane, v_best.limits, too_late.class, v_best.contended, v_best.tokens, too_late.now_ms, too_late.now_ms
  );
  v_best.status := 'refused';
  v_best.limit_name := coalesce(v_fit.limit_name, 'queue');
  v_best.refusal := case v_best.limit_name when 'rpd' then 'daily_limit' when 'blocked' then 'lane_blocked' else 'rate_limited' end;
  v_best.refusal_wait := v_best.start_ms - too_late.now_ms - (call).max_wait_ms;
  select coalesce(sum(b.starts), 0)::bigint as starts, coalesce(sum(b.tokens), 0)::bigint as tokens into v_used
  from eve.lane_buckets b
  where b.lane_id = v_best.lane_id and b.at_ms > too_late.now_ms - 60000 - (v_best.limits).guard_ms and b.at_ms <= too_late.now_ms;
  v_best.refusal_limits := eve.limits_json(
    v_best.limits, v_used.starts, v_used.tokens, v_fit.day_left, v_best.refusal_wait,
    eve.next_pacific_midnight(too_late.now_ms) - too_late.now_ms
  );
  return v_best;
end;
$$;

-- eve.book for a call that has several lanes to choose from. Another one may be better by the time this one is ours. Then it must
-- be released, or two callers that hold a lane each and want the other's would wait for ever: a subtransaction is the way to
-- release a row lock.
create or replace function eve.book_or_release(
  best eve.placement, call eve.call, class text, queued_ms bigint, latest_wait_ms bigint
)
returns record
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_booking record;
begin
  begin
    v_booking := eve.book(
      (best).lane_id, (best).limits, (best).pace, book_or_release.class, (best).contended, (best).tokens, book_or_release.queued_ms,
      (call).request_no, book_or_release.latest_wait_ms, (call).lease_ms
    );
    if not v_booking.booked then
      raise exception 'release the lane' using errcode = 'EV001';
    end if;
  exception
    when sqlstate 'EV001' then
      null;
  end;
  return v_booking;
end;
$$;

-- Books a call on the lanes of one model, or says what becomes of it.
create or replace function eve.place_call(call eve.call, class text, requested_model text, queued_ms bigint, only_lane bigint)
returns eve.placement
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_batch constant boolean := place_call.class = 'batch';
  v_model constant public.google_ai_model_limits := eve.served_model(place_call.requested_model);
  v_best eve.placement;
  v_booking record;
  v_latest bigint;
  v_now bigint;
begin
  if v_model.model is null then
    v_best.status := 'refused';
    v_best.refusal := 'unknown_model';
    v_best.served := place_call.requested_model;
    v_best.requested_model := place_call.requested_model;
    return v_best;
  end if;
  for v_round in 1..1000 loop
    v_now := eve.clock_ms();
    v_best := eve.choose_lane(call, place_call.class, v_model, place_call.queued_ms, place_call.only_lane, v_now);
    v_best.requested_model := place_call.requested_model;
    if v_best.status = 'missing' then
      -- A key or a model has been added: its lane comes into being with its first call.
      perform eve.ensure_lanes(v_model.model);
      continue;
    elsif v_best.status <> 'found' then
      return v_best;
    elsif v_best.start_ms - v_now > (call).max_wait_ms then
      -- Somebody may have started between our look at the clock and our look at the lane; that is no line to wait in.
      v_now := eve.clock_ms();
      continue when v_best.start_ms - v_now <= (call).max_wait_ms;
      return eve.too_late(v_best, call, place_call.class, v_now);
    elsif v_batch and v_best.start_ms > v_now then
      v_best.status := 'waiting';
      v_best.wait_ms := v_best.start_ms - v_now;
      return v_best;
    end if;
    -- Lists and other callers may be at this lane; it may be full by the time that it is ours.
    v_latest := case
      when v_batch then 0
      -- As long as no other lane would start it sooner.
      when v_best.lanes > 1 and v_round < 4
        then least((call).max_wait_ms, greatest(v_best.start_ms, coalesce(v_best.second_ms, v_best.start_ms)) - v_now)
      else (call).max_wait_ms
    end;
    if v_best.lanes = 1 then
      v_booking := eve.book(
        v_best.lane_id, v_best.limits, v_best.pace, place_call.class, v_best.contended, v_best.tokens, place_call.queued_ms,
        (call).request_no, v_latest, (call).lease_ms
      );
    else
      v_booking := eve.book_or_release(v_best, call, place_call.class, place_call.queued_ms, v_latest);
    end if;
    -- Otherwise somebody was quicker. They have got a slot, so this cannot go on for ever.
    if v_booking.booked then
      v_best.status := 'granted';
      v_best.start_ms := v_booking.start_ms;
      v_best.bucket_ms := v_booking.bucket_ms;
      v_best.day_ends_ms := v_booking.day_ends_ms;
      v_best.wait_ms := v_booking.wait_ms;
      v_best.turn := v_booking.turn;
      v_best.used_starts := v_booking.used_starts;
      v_best.used_tokens := v_booking.used_tokens;
      v_best.day_left := v_booking.day_left;
      return v_best;
    end if;
  end loop;
  raise exception 'no lane held still long enough to be taken' using errcode = 'EV503';
end;
$$;

-- What a caller is told whose attempt is granted. `route` is what is known of key and model: see eve.route_answer.
create or replace function eve.granted(
  route jsonb, request_no bigint, attempt integer, class text, capture boolean, tokens bigint, wait_ms bigint, start_ms bigint,
  lease_ms integer, limits jsonb
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
  );
end;
$$;

-- Takes an attempt that is not to go on out of the running requests: batch that waited and is refused, a start that cannot be booked
-- again. What it held, and what it took from its budgets, is free again.
create or replace function eve.leave_line(running eve.inflight)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform eve.adjust_budgets(
    (running).consumer_id, (running).token_id, (running).received_at, case (running).attempt when 1 then -1 else 0 end,
    -(running).tokens
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
  perform pg_advisory_xact_lock(1163281713, (running).lane_id::integer);
  perform eve.give_back(running);
  perform eve.adjust_bucket((running).lane_id, (running).bucket_ms, (running).class, -1, -(running).tokens);
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
      request_no, consumer_id, request_id, token_id, class, door, requested_model, model, attempt, state, lane_id, key_id,
      start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, queued_ms, lease_until, received_at, wait_ms, trace_id,
      metadata, request_hash, call_id
    )
    values (
      nextval('eve.request_no'), coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000'), (call).request_id,
      (call).token_id, (scope).class, (call).door, (place).requested_model, (place).served, (call).attempt, v_state,
      (place).lane_id, note_attempt.key_id, (place).start_ms, coalesce((place).bucket_ms, (place).start_ms),
      coalesce((place).day_ends_ms, 0), (place).tokens, (call).tokens, case when v_state = 'waiting' then note_attempt.queued_ms end, v_lease,
      to_timestamp(note_attempt.now_ms / 1000.0), coalesce((place).wait_ms, 0), (call).trace_id,
      coalesce((call).metadata, '{}'), (call).request_hash, (call).call_id
    )
    returning request_no into v_request_no;
  else
    v_request_no := (running).request_no;
    update eve.inflight i
    set requested_model = (place).requested_model, model = (place).served, attempt = (call).attempt, state = v_state,
      lane_id = (place).lane_id, key_id = note_attempt.key_id, start_ms = (place).start_ms,
      bucket_ms = coalesce((place).bucket_ms, (place).start_ms), day_ends_ms = coalesce((place).day_ends_ms, 0),
      tokens = (place).tokens, estimated_tokens = case when i.state = 'reserved' then i.estimated_tokens else (call).tokens end,
      queued_ms = case when v_state = 'waiting' then note_attempt.queued_ms end, lease_until = v_lease,
      call_id = (call).call_id,
      -- What it waited until now, and what it is to wait.
      wait_ms = case
        when i.state = 'between' then i.wait_ms
        else greatest(i.wait_ms - (i.start_ms - note_attempt.now_ms), 0)
      end + coalesce((place).wait_ms, 0)
    where i.request_no = v_request_no;
  end if;
  return v_request_no;
end;
$$;

-- Takes what an attempt costs from the budgets of its consumer and its token. Their rows are locked by eve.scope_of.
create or replace function eve.take_budgets(call eve.call, scope eve.caller_scope, tokens bigint, now_ms bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_requests constant integer := case (call).attempt when 1 then 1 else 0 end;
begin
  if (call).token_id is not null then
    update eve.scoped_tokens t
    set requests_used = t.requests_used + v_requests, tokens_used = t.tokens_used + take_budgets.tokens
    where t.id = (call).token_id;
  end if;
  if (scope).counts_minute then
    perform eve.consumer_minute_take((call).consumer_id, take_budgets.now_ms);
  end if;
  if (scope).day is not null then
    update eve.consumer_days d
    set requests = d.requests + v_requests, tokens = d.tokens + take_budgets.tokens
    where d.consumer_id = (call).consumer_id and d.day = (scope).day;
  end if;
end;
$$;

-- With more arguments it would be another function beside the old one.
drop function if exists public.eve_reserve(
  text, text[], integer, uuid, text, integer, integer, uuid[], uuid[], integer, uuid, text, text, jsonb, text, boolean
);
-- `counted` says what `tokens` are:
--   null   the caller's estimate, and the caller cannot count: booked times the factor learned for the model
--   false  the caller's estimate, and the caller can count: asked to where it matters (answer `count`, nothing is written or
--          taken), otherwise booked at the model's ceiling until it is settled
--   true   upstream's own count: booked as it is
-- `request_no` continues an attempt: batch that was told `waiting` asks again with it at its time, and a start that its caller has come
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
  door text default 'native',
  trace_id text default null,
  metadata jsonb default '{}',
  request_hash text default null,
  counted boolean default null,
  request_no bigint default null,
  deadline timestamptz default null,
  call_id uuid default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- A call that is held up by a lock ends before its caller stops waiting (8 s), rather than stand behind it for nothing. The REST API
-- sets it when it begins the statement; over a connection the ledger sets it for the session.
set statement_timeout = '7500ms'
-- Custom plans would be made anew on nearly every call; planning was a third of its time.
set plan_cache_mode = 'force_generic_plan'
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_call eve.call := row(
    eve_reserve.request_id, eve_reserve.models, eve_reserve.tokens, eve_reserve.consumer_id, eve_reserve.class,
    eve_reserve.max_wait_ms, eve_reserve.attempt, eve_reserve.exclude_keys, eve_reserve.avoid_keys, eve_reserve.lease_ms,
    eve_reserve.token_id, eve_reserve.door, eve_reserve.trace_id, eve_reserve.metadata, eve_reserve.request_hash,
    eve_reserve.counted, eve_reserve.request_no, eve_reserve.deadline, eve_reserve.call_id
  )::eve.call;
  v_now constant bigint := eve.clock_ms();
  v_ended text;
  v_known record;
  v_running eve.inflight;
  v_spends boolean;
  v_scope eve.caller_scope;
  v_queued bigint;
  v_only_lane bigint;
  v_requested text;
  v_place eve.placement;
  v_refused eve.placement;
  v_model public.google_ai_model_limits;
  v_key integer;
  v_request_no bigint;
begin
  perform eve.check_call(v_call);
  perform eve.stop_when_late(v_call.deadline);
  -- A caller that may not call any more is told nothing, not even what it was told before.
  v_ended := eve.access_ended(v_call.consumer_id, v_call.token_id, v_now);
  if v_ended is not null then
    return eve.refuse(v_call, v_call.class, v_ended);
  end if;
  v_known := eve.find_request(v_call, v_now);
  if v_known.answer is not null then
    return v_known.answer;
  end if;
  v_running := v_known.running;
  v_spends := v_running.request_no is null or v_running.state = 'between';
  v_scope := eve.scope_of(
    v_call, coalesce(floor(extract(epoch from v_running.received_at) * 1000)::bigint, v_now), v_now, v_spends
  );
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
      perform eve.leave_line(v_running);
    end if;
    return eve.refuse(v_call, v_scope.class, v_scope.refusal, null, v_scope.limit_name, v_scope.wait_ms);
  end if;

  -- A start that is booked again goes before all that wait.
  v_queued := case v_running.state when 'waiting' then v_running.queued_ms when 'reserved' then 0 else v_now end;
  foreach v_requested in array v_call.models loop
    if v_requested <> all (v_scope.models) then
      v_place := null;
      v_place.refusal := 'model_not_allowed';
      v_place.served := v_requested;
    else
      v_place := eve.place_call(v_call, v_scope.class, v_requested, v_queued, v_only_lane);
      exit when v_place.status in ('granted', 'waiting', 'count');
      -- A misspelt name is refused, not skipped.
      if v_place.refusal = 'unknown_model' then
        v_refused := v_place;
        exit;
      end if;
    end if;
    -- Of several reasons the one that is over first; else the first.
    if v_refused.refusal is null or v_refused.refusal_wait > v_place.refusal_wait
      or v_refused.refusal_wait is null and v_place.refusal_wait is not null then
      v_refused := v_place;
    end if;
    v_place := null;
  end loop;

  if v_place.status = 'count' then
    return jsonb_build_object(
      'status', 'count', 'request_id', v_call.request_id, 'attempt', v_call.attempt, 'model', v_place.served,
      'requested_model', v_place.requested_model,
      'key', jsonb_build_object(
        'id', v_place.key_ids[1], 'alias', v_place.aliases[1], 'env_var_name', v_place.env_var_names[1],
        'provider', (eve.providers_of(eve.served_model(v_requested)))[1]
      ),
      -- What to come with, and counted left out, where counting fails: the most that the estimate may turn out to be.
      'tokens_if_not_counted', ceil(v_call.tokens * (eve.served_model(v_requested)).estimate_ceiling)::bigint
    );
  elsif coalesce(v_place.status, 'refused') = 'refused' then
    if not v_spends then
      perform eve.leave_line(v_running);
    end if;
    if v_refused.refusal = 'no_active_key' then
      select ceil(extract(epoch from min(k.blocked_until)) * 1000)::bigint - v_now
      into v_refused.refusal_wait
      from public.google_ai_api_keys k
      where k.is_active and k.blocked_until > to_timestamp(v_now / 1000.0) and k.blocked_until < 'infinity';
    end if;
    return eve.refuse(
      v_call, v_scope.class, v_refused.refusal, v_refused.served, v_refused.limit_name, v_refused.refusal_wait,
      v_refused.refusal_limits
    );
  end if;

  if v_spends then
    perform eve.take_budgets(v_call, v_scope, v_place.tokens, v_now);
  elsif v_running.tokens <> v_place.tokens then
    perform eve.adjust_budgets(
      v_running.consumer_id, v_running.token_id, v_running.received_at, 0, v_place.tokens - v_running.tokens
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
  perform eve.make_route(v_requested, v_now);
  v_model := eve.served_model(v_requested);
  return eve.granted(
    eve.route_answer(
      v_requested, v_model, v_place.key_ids[v_key], v_place.aliases[v_key], v_place.env_var_names[v_key], v_place.lane_id,
      v_place.quota_key
    ),
    v_request_no, v_call.attempt, v_scope.class, v_scope.capture, v_place.tokens, v_place.wait_ms, v_place.start_ms,
    v_call.lease_ms,
    eve.limits_json(
      v_place.limits, v_place.used_starts, v_place.used_tokens, v_place.day_left,
      60000 + (v_place.limits).guard_ms + v_place.wait_ms, v_place.day_ends_ms - v_now
    )
  );
end;
$$;
comment on function public.eve_reserve is 'Reserves a slot for one upstream attempt: all limits and budgets together or nothing. Answers granted, waiting (batch: ask again then), refused, duplicate, or count: have the prompt counted upstream and come again.';

-- Why a caller may not call any more; null: it may.
create or replace function eve.access_ended(consumer_id uuid, token_id uuid, now_ms bigint)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  return case
    when access_ended.consumer_id <> '00000000-0000-0000-0000-000000000000'
      and not exists (select from eve.consumers c where c.id = access_ended.consumer_id and c.is_active) then 'consumer_disabled'
    when access_ended.token_id is not null
      and not exists (
        select
        from eve.scoped_tokens t
        where t.id = access_ended.token_id and t.consumer_id = access_ended.consumer_id and t.revoked_at is null
          and t.expires_at > to_timestamp(access_ended.now_ms / 1000.0)
      ) then 'token_revoked'
  end;
end;
$$;
