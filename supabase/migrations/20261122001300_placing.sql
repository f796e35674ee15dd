-- Placing a call: the best lane and key for it, booked if it may start.

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
      bound boolean,
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
      output_tokens bigint,
      refusal text,
      limit_name text,
      refusal_wait bigint,
      refusal_limits jsonb
    );
  end if;
end;
$$;
comment on type eve.placement is 'What became of a call on the lanes of one model: granted, waiting, count, refused, or (on the way there) found, missing.';

-- The code of a refusal that a limit of a lane is the reason of.
create or replace function eve.refusal_by(limit_name text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case refusal_by.limit_name when 'rpd' then 'daily_limit' when 'blocked' then 'lane_blocked' else 'rate_limited' end;
end;
$$;

-- Why a call can start on none of a model's lanes, of which so many are too small for it.
create or replace function eve.without_start(best eve.placement, too_small integer)
returns eve.placement
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_best eve.placement := without_start.best;
begin
  v_best.status := 'refused';
  if v_best.lanes = 0 then
    v_best.refusal := 'no_active_key';
  elsif without_start.too_small = v_best.lanes then
    v_best.refusal := 'prompt_too_large';
    v_best.limit_name := 'tpm';
  elsif v_best.refusal_wait is not null then
    v_best.refusal := 'too_many_waiting';
    v_best.limit_name := 'waiting_share';
  else
    v_best.refusal := eve.refusal_by(v_best.limit_name);
  end if;
  return v_best;
end;
$$;

-- How many input tokens a call is expected to have on a model, and how many are booked for it.
create or replace function eve.size_of(
  call eve.call, served public.google_ai_model_limits, out expected bigint, out booked bigint
)
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- Upstream's own count is booked as it is. An estimate that could be counted is booked at the most that it may turn out
  -- to be, until it is settled; an estimate that cannot be counted, at what such estimates have come to.
  expected := ceil((call).tokens * case when (call).counted then 1 else (served).estimate_factor end)::bigint;
  booked := case when not (call).counted then ceil(expected * (served).estimate_ceiling)::bigint else expected end;
end;
$$;

-- How long a call that could start on a lane at start_ms, within the time that it may wait, has to wait until its consumer's share of
-- the starts to come lets it be booked; null: it does. See eve.share_wait.
create or replace function eve.wait_for_share(
  call eve.call, lane_id bigint, limits eve.lane_limits, tokens bigint, start_ms bigint, now_ms bigint
)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
begin
  if wait_for_share.start_ms - wait_for_share.now_ms > (call).max_wait_ms then
    return null;
  end if;
  return eve.share_wait(
    wait_for_share.lane_id, limits, coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000'), 'interactive',
    wait_for_share.tokens, wait_for_share.now_ms
  );
end;
$$;

-- Where tokens are what is scarce, callers who have the time are asked to have them counted first: those who wait for tokens, and
-- batch with a prompt above an even share of the limit. A booking made on a guess has to be larger than the prompt, and what it
-- leaves over is of no use to those who have booked behind it.
create or replace function eve.counts_first(best eve.placement, class text, expected bigint, now_ms bigint)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_large constant boolean := counts_first.expected * coalesce(((best).limits).rpm, 60) > ((best).limits).tpm;
begin
  return (best).start_ms > counts_first.now_ms and ((best).limit_name = 'tpm' or v_large)
    or counts_first.class = 'batch' and v_large;
end;
$$;

-- When batch can start on a lane, or is to ask again: behind those who came before it, and not before its pace allows. `bound`: it
-- waits for tokens, and for those of this lane. What another lane has free meanwhile is too little for it, and is for those whom it
-- is enough for. (bench:quota, tokens, batch only, 5 projects: 95.6 % used with one line for all lanes, so 99.1.)
create or replace function eve.batch_start(
  call eve.call, lane eve.lanes, limits eve.lane_limits, lanes bigint, pace eve.pool_pace, contended boolean, tokens bigint,
  queued_ms bigint, now_ms bigint,
  out start_ms bigint, out limit_name text, out day_left bigint, out bound boolean
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_ahead constant record := eve.queued_before(
    (lane).model, (lane).id, batch_start.queued_ms, (call).request_no, batch_start.now_ms, (pace).interval_ms, (pace).token_ms
  );
  -- Where all before it wait for this lane, it starts when there is room for them and for itself, and need not ask before.
  v_line_tokens constant bigint := case
    when (v_ahead.bound or batch_start.lanes = 1) and batch_start.tokens + v_ahead.tokens <= (limits).tpm then v_ahead.tokens
    else 0
  end;
begin
  select f.start_ms, f.limit_name, f.day_left
  into start_ms, limit_name, day_left
  from eve.earliest_start(
    lane, limits, 'batch', batch_start.contended, batch_start.tokens + v_line_tokens, batch_start.now_ms,
    case
      -- Alone on lanes that are nearly empty batch goes as it comes; otherwise one by one.
      when batch_start.contended or not eve.may_burst(lane, limits, batch_start.tokens, batch_start.now_ms) then eve.pace_allows(pace)
      else 0
    end
  ) f;
  if v_ahead.calls > 0 then
    start_ms := case when start_ms is not null then greatest(start_ms, batch_start.now_ms + v_ahead.wait_ms) end;
  end if;
  bound := batch_start.lanes > 1 and limit_name = 'tpm' and (v_ahead.calls = 0 or v_line_tokens > 0);
end;
$$;

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
  v_size constant record := eve.size_of(call, served);
  v_expected constant bigint := v_size.expected;
  v_tokens constant bigint := v_size.booked;
  v_best eve.placement;
  v_lane record;
  v_fit record;
  v_start bigint;
  v_limit text;
  v_day_left bigint;
  v_contended boolean;
  v_pace eve.pool_pace;
  v_too_small integer := 0;
  v_share_wait bigint;
  v_bound boolean;
  v_stays boolean;
  -- Batch that waits for this lane's tokens waits for no other: see below.
  v_own_lane constant bigint := case when v_batch then (
    select i.lane_id
    from eve.inflight i
    where i.request_no = (call).request_no and i.state = 'waiting' and not i.any_lane
  ) end;
begin
  v_best.served := (served).model;
  v_best.tokens := v_tokens;
  v_best.lanes := 0;
  -- In the order of the earliest start that is known without reading the window. The first whose real start is no
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
    order by missing desc, o.lane_id = v_own_lane desc nulls last, bound_ms, o.avoided, o.priority, l.day_starts, l.turns, l.id
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
        where i.state = 'waiting' and i.model = (served).model and i.start_ms > choose_lane.now_ms - 1500
          and i.request_no is distinct from (call).request_no
      );
      -- A start that is booked again has had its turn, and its place in the pace.
      v_pace := case when choose_lane.only_lane is null then row(
        v_lane.interval_ms, v_lane.token_ms, v_lane.pace_ms, v_lane.token_pace_ms, v_lane.batch_start_ms, (served).batch_floor,
        case when v_batch or greatest(v_lane.pace_ms, v_lane.token_pace_ms) > choose_lane.now_ms - v_lane.interval_ms then
          eve.spread_ms(v_lane.lane_ids, v_lane.interval_ms, 60000 + (v_lane.limits).guard_ms, choose_lane.now_ms)
        end
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
      if v_batch then
        v_fit := eve.batch_start(
          call, v_lane.state, v_lane.limits, v_lane.lanes, v_pace, v_contended, v_tokens, choose_lane.queued_ms, choose_lane.now_ms
        );
        v_bound := v_fit.bound;
      else
        v_fit := eve.earliest_start(
          v_lane.state, v_lane.limits, 'interactive', v_contended, v_tokens, choose_lane.now_ms, (v_lane.state).interactive_tail_ms
        );
      end if;
      v_start := v_fit.start_ms;
      v_limit := v_fit.limit_name;
      v_day_left := v_fit.day_left;
      if not v_batch and v_start > choose_lane.now_ms and choose_lane.only_lane is null then
        v_share_wait := eve.wait_for_share(call, v_lane.lane_id, v_lane.limits, v_tokens, v_start, choose_lane.now_ms);
        v_best.refusal_wait := least(v_best.refusal_wait, v_share_wait);
        v_start := case when v_share_wait is null then v_start end;
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
      v_stays := v_lane.lane_id = v_own_lane and v_limit is distinct from 'blocked';
      v_best.bound := v_stays or v_bound;
      exit when v_best.status = 'count' or v_stays;
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
    if not (call).counted and eve.counts_first(v_best, choose_lane.class, v_expected, choose_lane.now_ms) then
      v_best.status := 'count';
    end if;
    return v_best;
  end if;
  return eve.without_start(v_best, v_too_small);
end;
$$;

-- Why a call that could start at v_best.start_ms is refused: it would be too late. What stands in the way, apart from the queue
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
  v_best.refusal := eve.refusal_by(v_best.limit_name);
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

-- What a call may write on a model where a budget bounds it: as much as it asks for, else the model's own limit or the usual one,
-- but no more than the budget has left beside its input. `refused`: not one token is left for an answer;
-- `count`: a count of the prompt could change that.
create or replace function eve.output_of(
  call eve.call, scope eve.caller_scope, served public.google_ai_model_limits, now_ms bigint
)
returns eve.placement
language plpgsql
stable
set search_path = ''
as $$
declare
  v_place eve.placement;
  v_size constant record := eve.size_of(call, served);
  v_wanted constant bigint := coalesce(
    (call).max_output_tokens, (served).max_output_tokens,
    (select s.value from eve.settings s where s.name = 'default_max_output_tokens')
  );
begin
  v_place.served := (served).model;
  if (scope).tokens_left >= v_size.booked + least(v_wanted, 1) then
    v_place.output_tokens := least(v_wanted, (scope).tokens_left - v_size.booked);
  elsif not (call).counted and (scope).tokens_left >= v_size.expected / (served).estimate_ceiling + least(v_wanted, 1) then
    v_place.status := 'count';
  else
    v_place.status := 'refused';
    v_place.refusal := 'budget_exhausted';
    v_place.limit_name := (scope).tokens_limit;
    v_place.refusal_wait := eve.budget_wait(call, (scope).tokens_limit, output_of.now_ms);
  end if;
  return v_place;
end;
$$;

-- Books a call on the lanes of one model, or says what becomes of it.
create or replace function eve.place_call(
  call eve.call, scope eve.caller_scope, requested_model text, queued_ms bigint, only_lane bigint
)
returns eve.placement
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_batch constant boolean := (scope).class = 'batch';
  v_model constant public.google_ai_model_limits := eve.served_model(place_call.requested_model);
  v_best eve.placement;
  v_output eve.placement;
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
  if (scope).tokens_left is not null then
    v_output := eve.output_of(call, scope, v_model, eve.clock_ms());
  end if;
  if v_output.status = 'refused' then
    v_output.requested_model := place_call.requested_model;
    return v_output;
  end if;
  for v_round in 1..1000 loop
    v_now := eve.clock_ms();
    v_best := eve.choose_lane(call, (scope).class, v_model, place_call.queued_ms, place_call.only_lane, v_now);
    v_best.requested_model := place_call.requested_model;
    v_best.output_tokens := v_output.output_tokens;
    if v_best.status = 'found' and v_output.status = 'count' then
      v_best.status := 'count';
    end if;
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
      return eve.too_late(v_best, call, (scope).class, v_now);
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
    v_booking := eve.book(
      v_best.lane_id, v_best.limits, v_best.pace, (scope).class, v_best.contended, v_best.tokens, place_call.queued_ms,
      (call).request_no,
      case when place_call.only_lane is null then coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000') end,
      v_latest, (call).lease_ms
    );
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
