-- The functions that callers use: reserve, settle, sweep. With the rights of the caller, who is the service role.

-- What a lane may do in a minute and a day, and what is left of it after a booking. reset_ms: until the limit is whole again.
create or replace function eve.limits_json(
  rpm integer, tpm integer, rpd integer, used_starts bigint, used_tokens bigint, day_left bigint, reset_ms bigint,
  day_reset_ms bigint
)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'requests', jsonb_build_object(
      'limit', limits_json.rpm, 'remaining', case when limits_json.rpm is not null then greatest(limits_json.rpm - limits_json.used_starts, 0) end,
      'reset_ms', limits_json.reset_ms
    ),
    'tokens', jsonb_build_object(
      'limit', limits_json.tpm, 'remaining', case when limits_json.tpm is not null then greatest(limits_json.tpm - limits_json.used_tokens, 0) end,
      'reset_ms', limits_json.reset_ms
    ),
    'requests_day', jsonb_build_object(
      'limit', limits_json.rpd, 'remaining', case when limits_json.rpd is not null then greatest(limits_json.day_left, 0) end, 'reset_ms', limits_json.day_reset_ms
    )
  );
end;
$$;

-- Writes a refusal to the audit and says it. Costs the caller nothing: no slot, no budget, no request_id.
create or replace function eve.refuse(
  code text,
  consumer_id uuid,
  token_id uuid,
  request_id text,
  attempt integer,
  class text,
  door text,
  model text,
  tokens bigint,
  trace_id text,
  limit_name text default null,
  wait_ms bigint default null,
  detail text default null,
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
begin
  insert into eve.refusals (
    refused_at, consumer_id, token_id, request_id, attempt, class, door, model, code, limit_name, tokens, retry_after_ms,
    trace_id
  )
  values (
    eve.clock(), refuse.consumer_id, refuse.token_id, refuse.request_id, refuse.attempt, refuse.class, refuse.door,
    refuse.model, refuse.code, refuse.limit_name, refuse.tokens, v_retry_after_ms, refuse.trace_id
  );
  return jsonb_build_object(
    'status', 'refused', 'code', refuse.code, 'limit', refuse.limit_name, 'retry_after_ms', v_retry_after_ms,
    'model', refuse.model, 'limits', refuse.limits, 'detail', refuse.detail
  );
end;
$$;

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
  request_hash text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Custom plans would be made anew on nearly every call; planning was a third of its time.
set plan_cache_mode = 'force_generic_plan'
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_consumer_id constant uuid := coalesce(eve_reserve.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_received_ms constant bigint := eve.clock_ms();
  v_received_at constant timestamptz := to_timestamp(v_received_ms / 1000.0);
  v_guard_ms bigint;
  v_class text := eve_reserve.class;
  v_running eve.inflight;
  v_ended record;
  v_consumer record;
  v_token record;
  v_allowed text[];
  v_requested text;
  v_model public.google_ai_model_limits;
  v_providers text[];
  v_tokens bigint;
  v_now bigint;
  v_lane record;
  v_row eve.lanes;
  v_fit record;
  v_best record;
  v_best_start bigint;
  v_second_start bigint;
  v_booking record;
  v_key_place integer;
  v_key_id uuid;
  v_lanes bigint;
  v_too_small integer;
  v_refusal_code text;
  v_refusal_limit text;
  v_refusal_model text;
  v_refusal_wait bigint;
  v_refusal_limits jsonb;
  v_refusal_detail text;
  v_request_no bigint;
  v_rounds integer;
  v_day date;
  v_spent record;
  v_booked boolean := false;
  v_scoped boolean := false;
  v_minute_wait bigint;
  v_capture boolean := false;
begin
  if eve_reserve.request_id is null or length(eve_reserve.request_id) not between 1 and 200 then
    raise exception 'request_id must have 1 to 200 characters' using errcode = 'EV400';
  elsif coalesce(cardinality(eve_reserve.models), 0) not between 1 and 10 then
    raise exception 'models must name 1 to 10 models' using errcode = 'EV400';
  elsif eve_reserve.tokens is null or eve_reserve.tokens < 0 then
    raise exception 'tokens must be 0 or more' using errcode = 'EV400';
  elsif v_class is null or v_class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif eve_reserve.max_wait_ms is null or eve_reserve.max_wait_ms not between 0 and 3600000 then
    raise exception 'max_wait_ms must be between 0 and 3600000' using errcode = 'EV400';
  elsif eve_reserve.attempt is null or eve_reserve.attempt not between 1 and 3 then
    raise exception 'attempt must be 1, 2 or 3' using errcode = 'EV400';
  elsif eve_reserve.lease_ms is null or eve_reserve.lease_ms not between 100 and 3600000 then
    raise exception 'lease_ms must be between 100 and 3600000' using errcode = 'EV400';
  elsif length(eve_reserve.metadata::text) > 16384 then
    raise exception 'metadata must have at most 16384 characters' using errcode = 'EV400';
  end if;

  -- Whoever may not call any more is told nothing, not even what he was told before.
  if v_consumer_id <> '00000000-0000-0000-0000-000000000000'
    and not exists (select from eve.consumers c where c.id = v_consumer_id and c.is_active) then
    return eve.refuse(
      'consumer_disabled', v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
      eve_reserve.door, eve_reserve.models[1], eve_reserve.tokens, eve_reserve.trace_id
    );
  elsif eve_reserve.token_id is not null
    and not exists (
      select
      from eve.scoped_tokens t
      where t.id = eve_reserve.token_id and t.consumer_id = v_consumer_id and t.revoked_at is null
        and t.expires_at > v_received_at
    ) then
    return eve.refuse(
      'token_revoked', v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
      eve_reserve.door, eve_reserve.models[1], eve_reserve.tokens, eve_reserve.trace_id
    );
  end if;

  -- The same request twice at once: the second waits here and then sees the first.
  perform pg_advisory_xact_lock(hashtextextended(v_consumer_id::text || eve_reserve.request_id, 0));

  -- Whoever settles or closes it at this moment is waited for; then it has ended, and the answer is below.
  select * into v_running
  from eve.inflight i
  where i.consumer_id = v_consumer_id and i.request_id = eve_reserve.request_id
  for update;
  if found and v_running.lease_until < v_received_at then
    perform eve.expire_leases(v_running.lane_id, 100000);
    v_running := null;
  end if;
  if v_running.request_no is not null
    and (eve_reserve.attempt = 1 or v_running.state <> 'between' or eve_reserve.attempt <> v_running.attempt + 1) then
    return jsonb_build_object(
      'status', 'duplicate', 'state', 'running', 'request_no', v_running.request_no, 'attempts', v_running.attempt,
      'same_request', eve_reserve.request_hash is not distinct from v_running.request_hash, 'result', null
    );
  elsif v_running.request_no is null then
    select r.request_no, r.state, r.attempts, r.request_hash, r.error_code, kept.result
    into v_ended
    from eve.requests r
    left join eve.request_results kept on kept.request_no = r.request_no
    where r.consumer_id = v_consumer_id and r.request_id = eve_reserve.request_id;
    if found then
      return jsonb_build_object(
        'status', 'duplicate', 'state', v_ended.state, 'request_no', v_ended.request_no, 'attempts', v_ended.attempts,
        'same_request', eve_reserve.request_hash is not distinct from v_ended.request_hash,
        'error_code', v_ended.error_code, 'result', v_ended.result
      );
    elsif eve_reserve.attempt > 1 then
      raise exception 'attempt % of a request that is not running', eve_reserve.attempt using errcode = 'EV404';
    end if;
  end if;


  -- Who calls, and what he may still spend. Budget rows are locked before any lane.
  if v_consumer_id <> '00000000-0000-0000-0000-000000000000' then
    select c.is_active, c.models, c.max_class, c.requests_per_day, c.tokens_per_day, c.capture, c.rpm
    into v_consumer
    from eve.consumers c
    where c.id = v_consumer_id;
    if not found or not v_consumer.is_active then
      return eve.refuse(
        'consumer_disabled', v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
        eve_reserve.door, eve_reserve.models[1], eve_reserve.tokens, eve_reserve.trace_id
      );
    end if;
    v_allowed := v_consumer.models;
    v_capture := v_consumer.capture;
    if v_consumer.max_class = 'batch' then
      v_class := 'batch';
    end if;
    if v_consumer.rpm is not null and eve_reserve.attempt = 1 then
      v_minute_wait := eve.consumer_minute_wait(v_consumer_id, v_consumer.rpm, v_received_ms);
      if v_minute_wait > 0 then
        return eve.refuse(
          'rate_limited', v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
          eve_reserve.door, eve_reserve.models[1], eve_reserve.tokens, eve_reserve.trace_id, 'consumer_rpm', v_minute_wait
        );
      end if;
    end if;
    if v_consumer.requests_per_day is not null or v_consumer.tokens_per_day is not null then
      -- A request belongs to the day it came in, whatever the day of its later attempts.
      v_day := eve.pacific_day(
        floor(extract(epoch from coalesce(v_running.received_at, v_received_at)) * 1000)::bigint
      );
      insert into eve.consumer_days (consumer_id, day) values (v_consumer_id, v_day) on conflict do nothing;
      select d.requests, d.tokens into v_spent
      from eve.consumer_days d
      where d.consumer_id = v_consumer_id and d.day = v_day
      for update;
      if (eve_reserve.attempt = 1 and v_spent.requests >= v_consumer.requests_per_day)
        or v_spent.tokens + eve_reserve.tokens > v_consumer.tokens_per_day then
        return eve.refuse(
          'budget_exhausted', v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
          eve_reserve.door, eve_reserve.models[1], eve_reserve.tokens, eve_reserve.trace_id,
          case when eve_reserve.attempt = 1 and v_spent.requests >= v_consumer.requests_per_day then 'consumer_requests' else 'consumer_tokens' end,
          eve.next_pacific_midnight(v_received_ms) - v_received_ms
        );
      end if;
    end if;
  end if;
  if eve_reserve.token_id is not null then
    select t.models, t.class, t.requests_budget, t.tokens_budget, t.requests_used, t.tokens_used,
      t.revoked_at is not null or t.expires_at <= v_received_at as ended
    into v_token
    from eve.scoped_tokens t
    where t.id = eve_reserve.token_id and t.consumer_id = v_consumer_id
    for update;
    if not found or v_token.ended then
      return eve.refuse(
        'token_revoked', v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
        eve_reserve.door, eve_reserve.models[1], eve_reserve.tokens, eve_reserve.trace_id
      );
    elsif (eve_reserve.attempt = 1 and v_token.requests_used >= v_token.requests_budget)
      or v_token.tokens_used + eve_reserve.tokens > v_token.tokens_budget then
      return eve.refuse(
        'budget_exhausted', v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
        eve_reserve.door, eve_reserve.models[1], eve_reserve.tokens, eve_reserve.trace_id,
        case when eve_reserve.attempt = 1 and v_token.requests_used >= v_token.requests_budget then 'token_requests' else 'token_tokens' end
      );
    end if;
    v_scoped := true;
    if v_token.class = 'batch' then
      v_class := 'batch';
    end if;
    if v_token.models is not null then
      v_allowed := case
        when v_allowed is null then v_token.models
        else array(select m from unnest(v_token.models) m where m = any (v_allowed))
      end;
    end if;
  end if;

  select s.value into v_guard_ms from eve.settings s where s.name = 'guard_ms';

  <<each_model>>
  foreach v_requested in array eve_reserve.models loop
    if v_allowed is not null and v_requested <> all (v_allowed) then
      v_refusal_code := coalesce(v_refusal_code, 'model_not_allowed');
      v_refusal_model := coalesce(v_refusal_model, v_requested);
      continue each_model;
    end if;
    select * into v_model from public.google_ai_model_limits m where m.model = v_requested;
    for v_hop in 1..5 loop
      exit when v_model.replaced_by is null;
      select * into v_model from public.google_ai_model_limits m where m.model = v_model.replaced_by;
    end loop;
    if v_model.model is null or not v_model.is_active then
      return eve.refuse(
        'unknown_model', v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
        eve_reserve.door, v_requested, eve_reserve.tokens, eve_reserve.trace_id
      );
    end if;
    v_tokens := ceil(eve_reserve.tokens * v_model.estimate_factor)::bigint;
    -- Hand-made rows say google, google_ai, gemini or nothing and mean the same provider.
    v_providers := array['google', 'google_ai', 'google-ai', 'gemini'];
    if lower(v_model.provider) <> all (v_providers) then
      v_providers := array[lower(v_model.provider)];
    end if;
    v_rounds := 0;
    <<each_round>>
    loop
      v_rounds := v_rounds + 1;
      if v_rounds > 1000 then
        raise exception 'no lane held still long enough to be taken' using errcode = 'EV503';
      end if;
      v_now := case v_rounds when 1 then v_received_ms else eve.clock_ms() end;
      v_best := null;
      v_best_start := null;
      v_second_start := null;
      v_lanes := 0;
      v_too_small := 0;
      -- Lanes in the order of the earliest start that can be told without looking into the window. The first whose real
      -- start is no later than the next one's bound is the best there is, so seldom more than one window is looked at.
      for v_lane in
        select l.id as lane_id, l.id is null as missing, k.quota_key, count(*) over () as lanes, limits.rpm, limits.tpm, limits.rpd,
          k.key_ids, k.aliases, k.env_var_names,
          greatest(
            v_now, case v_class when 'batch' then l.batch_tail_ms else l.interactive_tail_ms end,
            case when l.blocked_until > to_timestamp(v_now / 1000.0) then
              case
                when l.blocked_until = 'infinity' then 9223372036854775807
                else ceil(extract(epoch from l.blocked_until) * 1000)::bigint
              end
            end
          ) as bound_ms
        from (
          -- The keys that may serve: switched on, not blocked, not barred from this model, and of those of one project the
          -- preferred ones.
          select a.quota_key, min(a.priority) as priority, bool_or(a.avoided) as avoided,
            array_agg(a.id order by a.created_at, a.id) as key_ids,
            array_agg(a.key_alias order by a.created_at, a.id) as aliases,
            array_agg(a.env_var_name order by a.created_at, a.id) as env_var_names
          from (
            select u.id, u.quota_key, u.priority, u.created_at, u.key_alias, u.env_var_name,
              u.id = any (eve_reserve.avoid_keys) as avoided,
              rank() over (
                partition by u.quota_key order by u.id = any (eve_reserve.avoid_keys), u.priority
              ) as preference
            from public.google_ai_api_keys u
            where u.is_active and u.env_var_name is not null
              and (u.blocked_until is null or u.blocked_until <= to_timestamp(v_now / 1000.0))
              and coalesce(lower(u.provider), 'google') = any (v_providers)
              and u.id <> all (eve_reserve.exclude_keys)
              and not exists (
                select
                from eve.key_model_blocks b
                where b.key_id = u.id and b.model = v_model.model
                  and b.blocked_until > to_timestamp(v_now / 1000.0)
              )
          ) a
          where a.preference = 1
          group by a.quota_key
        ) k
        left join eve.lanes l on l.quota_project = k.quota_key and l.model = v_model.model
        left join eve.quota_overrides o on o.quota_project = k.quota_key and o.model = v_model.model
        cross join lateral (
          -- Hand-made limits may be bigint or numeric.
          select (case when o.model is null then v_model.rpm else o.rpm end)::integer as rpm,
            (case when o.model is null then v_model.tpm else o.tpm end)::integer as tpm,
            (case when o.model is null then v_model.rpd else o.rpd end)::integer as rpd
        ) limits
        order by missing desc, bound_ms, k.avoided, k.priority, l.day_starts, l.turns, l.id
      loop
        v_lanes := v_lane.lanes;
        if v_lane.missing then
          -- A key or a model has been added: its lane comes into being with its first call.
          perform eve.ensure_lanes(v_model.model);
          continue each_round;
        end if;
        if v_tokens > v_lane.tpm then
          v_too_small := v_too_small + 1;
          v_refusal_limits := eve.limits_json(v_lane.rpm, v_lane.tpm, v_lane.rpd, 0, 0, v_lane.rpd, 0, 0);
          continue;
        end if;
        if v_best_start <= v_lane.bound_ms then
          v_second_start := least(v_second_start, v_lane.bound_ms);
          exit;
        end if;
        if v_rounds = 1 and (v_lane.rpm > 600 or v_lane.rpm is null) and v_lane.bound_ms = v_now then
          -- Nothing starts sooner than now, and a fast lane is seldom full: look once, with the lane in hand.
          v_best_start := v_now;
          v_best := v_lane;
          exit;
        end if;
        select * into v_row from eve.lanes l where l.id = v_lane.lane_id;
        select * into v_fit
        from eve.earliest_start(
          v_row, v_lane.rpm, v_lane.tpm, v_lane.rpd, v_class, v_tokens, v_now, v_guard_ms,
          v_model.interactive_floor, v_model.interactive_reserve, v_model.interactive_reserve_day, true
        );
        if v_best_start is null and v_fit.start_ms is null then
          -- Nothing to wait for on this lane; remembered as the reason if no other lane has one.
          v_refusal_limit := coalesce(v_refusal_limit, v_fit.limit_name);
          v_refusal_model := coalesce(v_refusal_model, v_model.model);
        elsif v_best_start is null or v_fit.start_ms < v_best_start then
          v_second_start := v_best_start;
          v_best_start := v_fit.start_ms;
          v_best := v_lane;
        elsif v_fit.start_ms is not null then
          v_second_start := least(v_second_start, v_fit.start_ms);
        end if;
      end loop;

      if v_lanes = 0 then
        v_refusal_code := coalesce(v_refusal_code, 'no_active_key');
        v_refusal_model := coalesce(v_refusal_model, v_model.model);
        continue each_model;
      elsif v_too_small = v_lanes then
        v_refusal_code := coalesce(v_refusal_code, 'prompt_too_large');
        v_refusal_model := v_model.model;
        v_refusal_limit := 'tpm';
        continue each_model;
      elsif v_best_start is null then
        v_refusal_code := coalesce(v_refusal_code, case v_refusal_limit when 'rpd' then 'daily_limit' when 'blocked' then 'lane_blocked' else 'rate_limited' end);
        continue each_model;
      end if;

      if v_best_start - v_now > eve_reserve.max_wait_ms then
        -- Somebody may have started between our look at the clock and our look at the lane; that is no line to wait in.
        v_now := eve.clock_ms();
        if v_best_start - v_now <= eve_reserve.max_wait_ms then
          continue each_round;
        end if;
        -- Too late on the best lane, so on all. What stands in the way, apart from the line of those who came before?
        if v_refusal_wait is null or v_best_start - v_now - eve_reserve.max_wait_ms < v_refusal_wait then
          select * into v_row from eve.lanes l where l.id = v_best.lane_id;
          select * into v_fit
          from eve.earliest_start(
            v_row, v_best.rpm, v_best.tpm, v_best.rpd, v_class, v_tokens, v_now, v_guard_ms,
            v_model.interactive_floor, v_model.interactive_reserve, v_model.interactive_reserve_day, false
          );
          v_refusal_limit := coalesce(v_fit.limit_name, 'queue');
          v_refusal_wait := v_best_start - v_now - eve_reserve.max_wait_ms;
          v_refusal_code := case v_refusal_limit
            when 'rpd' then 'daily_limit' when 'blocked' then 'lane_blocked' else 'rate_limited'
          end;
          v_refusal_model := v_model.model;
          v_refusal_limits := eve.limits_json(
            v_best.rpm, v_best.tpm, v_best.rpd, v_best.rpm, 0, v_fit.day_left, v_refusal_wait,
            eve.next_pacific_midnight(v_now) - v_now
          );
          if v_refusal_limit in ('rpm', 'tpm', 'queue') then
            select eve.limits_json(
              v_best.rpm, v_best.tpm, v_best.rpd, coalesce(sum(b.starts), 0)::bigint, coalesce(sum(b.tokens), 0)::bigint,
              v_fit.day_left, v_refusal_wait, eve.next_pacific_midnight(v_now) - v_now
            )
            into v_refusal_limits
            from eve.lane_buckets b
            where b.lane_id = v_best.lane_id and b.at_ms > v_now - 60000 - v_guard_ms and b.at_ms <= v_now;
          end if;
        end if;
        continue each_model;
      end if;

      if v_lanes = 1 then
        select * into v_booking
        from eve.book(
          v_best.lane_id, v_best.rpm, v_best.tpm, v_best.rpd, v_class, v_tokens, v_guard_ms, v_model.interactive_floor,
          v_model.interactive_reserve, v_model.interactive_reserve_day, eve_reserve.max_wait_ms
        );
        v_booked := v_booking.booked;
      else
        -- Another lane may be better by the time this one is ours. Then it must be let go, or two callers that hold a
        -- lane each and want the other's would wait for ever: a subtransaction is the way to let go of a row lock.
        begin
          select * into v_booking
          from eve.book(
            v_best.lane_id, v_best.rpm, v_best.tpm, v_best.rpd, v_class, v_tokens, v_guard_ms,
            v_model.interactive_floor, v_model.interactive_reserve, v_model.interactive_reserve_day,
            case
              -- As long as no other lane would start it sooner.
              when v_rounds < 4 then least(
                eve_reserve.max_wait_ms, greatest(v_best_start, coalesce(v_second_start, v_best_start)) - v_now
              )
              else eve_reserve.max_wait_ms
            end
          );
          if not v_booking.booked then
            raise exception 'let go' using errcode = 'EV001';
          end if;
          v_booked := true;
        exception
          when sqlstate 'EV001' then
            v_booked := false;
        end;
      end if;
      exit each_model when v_booked;
      -- Somebody was quicker. He has got a slot, so this cannot go on for ever.
    end loop each_round;
  end loop each_model;

  if not v_booked then
    if v_refusal_code = 'no_active_key' then
      select ceil(extract(epoch from min(k.blocked_until)) * 1000)::bigint - v_received_ms
      into v_refusal_wait
      from public.google_ai_api_keys k
      where k.is_active and k.blocked_until > v_received_at and k.blocked_until < 'infinity';
    end if;
    return eve.refuse(
      v_refusal_code, v_consumer_id, eve_reserve.token_id, eve_reserve.request_id, eve_reserve.attempt, v_class,
      eve_reserve.door, v_refusal_model, eve_reserve.tokens, eve_reserve.trace_id, v_refusal_limit, v_refusal_wait,
      v_refusal_detail, v_refusal_limits
    );
  end if;

  -- Keys of one project take turns.
  v_key_place := 1 + (v_booking.turn % cardinality(v_best.key_ids))::integer;
  v_key_id := v_best.key_ids[v_key_place];

  if v_scoped then
    update eve.scoped_tokens t
    set requests_used = t.requests_used + case when eve_reserve.attempt = 1 then 1 else 0 end,
      tokens_used = t.tokens_used + v_tokens
    where t.id = eve_reserve.token_id;
  end if;
  if v_minute_wait = 0 then
    perform eve.consumer_minute_take(v_consumer_id, v_received_ms);
  end if;
  if v_day is not null then
    update eve.consumer_days d
    set requests = d.requests + case when eve_reserve.attempt = 1 then 1 else 0 end, tokens = d.tokens + v_tokens
    where d.consumer_id = v_consumer_id and d.day = v_day;
  end if;

  if eve_reserve.attempt = 1 then
    insert into eve.inflight (
      request_no, consumer_id, request_id, token_id, class, door, requested_model, model, attempt, state, lane_id, key_id,
      start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, lease_until, received_at, wait_ms, trace_id, metadata, request_hash
    )
    values (
      nextval('eve.request_no'), v_consumer_id, eve_reserve.request_id, eve_reserve.token_id, v_class, eve_reserve.door,
      v_requested, v_model.model, 1, 'reserved', v_best.lane_id, v_key_id, v_booking.start_ms, v_booking.bucket_ms,
      v_booking.day_ends_ms, v_tokens, eve_reserve.tokens, to_timestamp((v_booking.start_ms + eve_reserve.lease_ms) / 1000.0), v_received_at,
      v_booking.wait_ms, eve_reserve.trace_id, coalesce(eve_reserve.metadata, '{}'), eve_reserve.request_hash
    )
    returning request_no into v_request_no;
  else
    v_request_no := v_running.request_no;
    update eve.inflight i
    set model = v_model.model, attempt = eve_reserve.attempt, state = 'reserved', lane_id = v_best.lane_id,
      key_id = v_key_id, start_ms = v_booking.start_ms, bucket_ms = v_booking.bucket_ms,
      day_ends_ms = v_booking.day_ends_ms, tokens = v_tokens, estimated_tokens = eve_reserve.tokens,
      lease_until = to_timestamp((v_booking.start_ms + eve_reserve.lease_ms) / 1000.0), wait_ms = i.wait_ms + v_booking.wait_ms
    where i.request_no = v_request_no;
  end if;

  return jsonb_build_object(
    'status', 'granted', 'request_no', v_request_no, 'attempt', eve_reserve.attempt, 'model', v_model.model,
    'requested_model', v_requested, 'replaced', v_requested <> v_model.model,
    'key', jsonb_build_object(
      'id', v_key_id, 'alias', v_best.aliases[v_key_place], 'env_var_name', v_best.env_var_names[v_key_place], 'provider', v_providers[1]
    ),
    'lane_id', v_best.lane_id, 'quota_project', v_best.quota_key, 'class', v_class,
    'wait_ms', v_booking.wait_ms,
    'start_at', to_timestamp((v_booking.start_ms) / 1000.0), 'lease_until', to_timestamp((v_booking.start_ms + eve_reserve.lease_ms) / 1000.0),
    'tokens', v_tokens,
    'limits', eve.limits_json(
      v_best.rpm, v_best.tpm, v_best.rpd, v_booking.used_starts, v_booking.used_tokens, v_booking.day_left,
      60000 + v_guard_ms + v_booking.wait_ms, v_booking.day_ends_ms - v_received_ms
    ),
    'capabilities', jsonb_build_object(
      'system', v_model.supports_system, 'json', v_model.supports_json, 'tools', v_model.supports_tools,
      'thinking', v_model.supports_thinking, 'max_output_tokens', v_model.max_output_tokens
    ),
    'capture', v_capture
  );
end;
$$;
comment on function public.eve_reserve(
  text, text[], integer, uuid, text, integer, integer, uuid[], uuid[], integer, uuid, text, text, jsonb, text
) is 'Reserves a slot for one upstream attempt: all limits and budgets together or nothing. Answers granted, refused or duplicate.';

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
-- Custom plans would be made anew on nearly every call; planning was a third of its time.
set plan_cache_mode = 'force_generic_plan'
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_running eve.inflight;
  v_before eve.attempts;
  v_request eve.requests;
  v_now constant timestamptz := eve.clock();
  v_total bigint := coalesce(eve_settle.total_tokens, eve_settle.input_tokens + coalesce(eve_settle.output_tokens, 0));
  v_delta bigint;
begin
  if eve_settle.outcome is null or eve_settle.outcome not in ('succeeded', 'failed', 'cancelled') then
    raise exception 'outcome must be succeeded, failed or cancelled' using errcode = 'EV400';
  elsif eve_settle.input_tokens < 0 or eve_settle.output_tokens < 0 then
    raise exception 'tokens must be 0 or more' using errcode = 'EV400';
  end if;

  select * into v_running from eve.inflight i where i.request_no = eve_settle.request_no for update;
  if not found or v_running.attempt <> eve_settle.attempt or v_running.state <> 'reserved' then
    select * into v_before
    from eve.attempts a
    where a.request_no = eve_settle.request_no and a.attempt = eve_settle.attempt
    for update;
    if found and eve_settle.final and v_running.attempt = eve_settle.attempt and v_running.state = 'between' then
      -- No attempt followed after all: the request ends as this one did.
      perform eve.close_request(
        v_running, v_before.outcome, v_before.error_code, v_before.input_tokens, v_before.output_tokens,
        v_before.total_tokens, v_before.finish_reason
      );
      return jsonb_build_object('status', 'settled');
    elsif v_before.request_no is null then
      raise exception 'no reservation % attempt %', eve_settle.request_no, eve_settle.attempt using errcode = 'EV404';
    elsif v_before.outcome <> 'expired' then
      return jsonb_build_object('status', 'already_settled', 'outcome', v_before.outcome);
    end if;
    -- Late: its lease had run out and it was booked as expired. What really happened is worth knowing. What it held stays
    -- counted, even if it now says that it called nobody: its place has long been planned with.
    v_delta := eve_settle.input_tokens - v_before.tokens_booked;
    select * into v_request from eve.requests r where r.request_no = eve_settle.request_no;
    perform eve.adjust_budgets(
      v_request.consumer_id, v_request.token_id, v_request.received_at, 0,
      coalesce(v_total - v_before.tokens_booked, 0)
    );
    perform eve.adjust_bucket(v_before.lane_id, v_before.bucket_ms, v_before.class, 0, v_delta);
    update eve.attempts a
    set outcome = eve_settle.outcome, input_tokens = eve_settle.input_tokens,
      output_tokens = eve_settle.output_tokens, thoughts_tokens = eve_settle.thoughts_tokens,
      cached_tokens = eve_settle.cached_tokens, total_tokens = v_total, usage_estimated = eve_settle.usage_estimated,
      upstream_status = eve_settle.upstream_status, error_code = coalesce(eve_settle.error_code, 'settled_late'),
      error_detail = eve_settle.error_detail, finish_reason = eve_settle.finish_reason,
      latency_ms = eve_settle.latency_ms, settled_at = v_now
    where a.request_no = eve_settle.request_no and a.attempt = eve_settle.attempt;
    update eve.requests r
    set state = eve_settle.outcome, input_tokens = eve_settle.input_tokens, output_tokens = eve_settle.output_tokens,
      total_tokens = v_total, error_code = eve_settle.error_code, finish_reason = eve_settle.finish_reason
    where r.request_no = eve_settle.request_no and r.state = 'expired' and r.attempts = eve_settle.attempt;
    if v_total is not null then
      perform eve.log_token_usage(
        v_before.model, eve_settle.input_tokens, eve_settle.output_tokens, v_total, r.request_id,
        eve.usage_meta(r.consumer_id, v_before.key_id, eve_settle.attempt, r.class, r.door, eve_settle.usage_estimated)
      )
      from eve.requests r
      where r.request_no = eve_settle.request_no;
    end if;
    return jsonb_build_object('status', 'late');
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
      when not eve_settle.dispatched then -v_running.tokens
      when v_total is not null then v_total - v_running.tokens
      else 0
    end
  );
  if not eve_settle.dispatched then
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
  perform eve.adjust_bucket(
    v_running.lane_id, v_running.bucket_ms, v_running.class, case when eve_settle.dispatched then 0 else -1 end, v_delta
  );

  insert into eve.attempts (
    request_no, attempt, lane_id, key_id, model, class, start_ms, bucket_ms, tokens_booked, input_tokens, output_tokens,
    thoughts_tokens, cached_tokens, total_tokens, usage_estimated, outcome, dispatched, upstream_status, error_code,
    error_detail, finish_reason, latency_ms, settled_at
  )
  values (
    v_running.request_no, v_running.attempt, v_running.lane_id, v_running.key_id, v_running.model, v_running.class,
    v_running.start_ms, v_running.bucket_ms, v_running.tokens, eve_settle.input_tokens, eve_settle.output_tokens,
    eve_settle.thoughts_tokens, eve_settle.cached_tokens, v_total, eve_settle.usage_estimated, eve_settle.outcome,
    eve_settle.dispatched, eve_settle.upstream_status, eve_settle.error_code, left(eve_settle.error_detail, 2000),
    eve_settle.finish_reason, eve_settle.latency_ms, v_now
  );
  if eve_settle.dispatched then
    perform eve.count_usage(
      v_running.key_id, v_running.model, v_running.start_ms, coalesce(eve_settle.input_tokens, v_running.tokens)
    );
  end if;

  if eve_settle.dispatched and not eve_settle.usage_estimated then
    perform eve.learn_estimate(v_running.model, v_running.request_no, v_running.estimated_tokens, eve_settle.input_tokens);
  end if;

  if eve_settle.final then
    perform eve.close_request(
      v_running, eve_settle.outcome, eve_settle.error_code, eve_settle.input_tokens, eve_settle.output_tokens,
      v_total::integer, eve_settle.finish_reason
    );
    if eve_settle.result is not null then
      insert into eve.request_results (request_no, result) values (eve_settle.request_no, eve_settle.result)
      on conflict do nothing;
    end if;
  else
    -- The caller is about to reserve the next attempt. If it dies instead, the row closes by itself.
    update eve.inflight i
    set state = 'between', lease_until = greatest(i.lease_until, v_now + interval '120 seconds')
    where i.request_no = eve_settle.request_no;
  end if;
  if v_total is not null then
    perform eve.log_token_usage(
      v_running.model, eve_settle.input_tokens, eve_settle.output_tokens, v_total, v_running.request_id,
      eve.usage_meta(
        v_running.consumer_id, v_running.key_id, v_running.attempt, v_running.class, v_running.door,
        eve_settle.usage_estimated
      )
    );
  end if;
  return jsonb_build_object('status', 'settled');
end;
$$;
comment on function public.eve_settle is 'Ends a reservation: real tokens replace the estimate at its own place in the window. Twice is the same as once; late is harmless.';

-- The models that a caller may use, with what they take and can do.
create or replace function public.eve_models(consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  if eve_models.consumer_id is not null
    and not exists (select from eve.consumers c where c.id = eve_models.consumer_id and c.is_active) then
    raise exception 'consumer % is not there or switched off', eve_models.consumer_id using errcode = 'EV403';
  elsif eve_models.token_id is not null
    and not exists (
      select
      from eve.scoped_tokens t
      where t.id = eve_models.token_id and t.consumer_id = eve_models.consumer_id and t.revoked_at is null
        and t.expires_at > eve.clock()
    ) then
    raise exception 'token % has ended', eve_models.token_id using errcode = 'EV401';
  end if;
  return (
    select coalesce(
      jsonb_agg(
        jsonb_build_object(
          'model', m.model, 'replaced_by', m.replaced_by, 'provider', m.provider, 'rpm', m.rpm, 'tpm', m.tpm, 'rpd', m.rpd,
          'created_at', m.created_at, 'max_output_tokens', m.max_output_tokens,
          'capabilities', jsonb_build_object(
            'system', m.supports_system, 'json', m.supports_json, 'tools', m.supports_tools, 'thinking', m.supports_thinking
          )
        )
        order by m.model
      ),
      '[]'
    )
    from public.google_ai_model_limits m
    where m.is_active
      and not exists (
        select
        from eve.consumers c
        where c.id = eve_models.consumer_id and m.model <> all (c.models)
      )
      and not exists (
        select
        from eve.scoped_tokens t
        where t.id = eve_models.token_id and m.model <> all (t.models)
      )
  );
end;
$$;
comment on function public.eve_models is 'The models that a consumer, or the holder of a token, may use.';

create or replace function public.eve_sweep(at_most integer default 1000)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object('expired', eve.expire_leases(null, eve_sweep.at_most));
$$;
comment on function public.eve_sweep is 'Closes reservations whose callers have died. Every reservation does so for its own lane too.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature, p.pronamespace::regnamespace::text as room
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace
      or (p.pronamespace = 'public'::regnamespace and p.proname like 'eve\_%')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
end;
$$;
