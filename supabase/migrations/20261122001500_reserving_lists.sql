-- Reserving several slots at once: all that can start at this instant and asks for nothing special. A lane takes all of a list's
-- calls for it, or none of them.
--
-- Only what public.eve_reserve would book at once is booked, with the same predicate (eve.has_room) and in the same order of
-- locks. For the rest the answer is null, nothing is written, and the caller asks eve_reserve.
--
-- What was tried. Figures are CPU of the server for each reservation, one connection, without waiting for the disk; by itself one
-- costs 285 us, the floor of bench:admission 70.
--   A loop over eve_reserve: 195 in twenties, since each statement is set up for each call all the same.
--   What is here, five statements for a whole list: 164 in fives, 116 in tens, 88 in twenties; on one lane 135, 88, 64.
--   The list read again from JSON by each statement in place of arrays: 5 more. Routes looked up again: 10 more, and what is booked
--     could lose its route in between.
--   Windows to number calls and lanes in place of arrays: 10 more.
--   Plain joins and anti joins: with eve.inflight or eve.lanes thought to be small, each list read them from end to end.

-- What was booked for a list.
do $$
begin
  if to_regtype('eve.list_booking') is null then
    create type eve.list_booking as (
      lanes bigint[],
      turns bigint[],
      calls integer[],
      day_ends bigint[],
      day_starts integer[],
      day_batch_starts integer[],
      used_starts bigint[],
      used_tokens bigint[],
      to_clean boolean
    );
  end if;
end;
$$;
comment on type eve.list_booking is 'Lanes that were booked for a list: one element for each in every array (null: there is none), as each is afterwards. calls: how many of the list it took; used_starts, used_tokens: in its last two spans. to_clean: it is time to delete old buckets.';

-- Books the calls on the lanes that were chosen for them: everything that has to be true for them to start at this instant, all calls of
-- a lane or none.
create or replace function eve.book_list(plain eve.list_calls, chosen eve.list_choice, now_ms bigint)
returns eve.list_booking
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_span constant bigint := book_list.now_ms >> 16;
  v_booked eve.list_booking;
begin
  with booked as (
    update eve.lanes l
    set interactive_tail_ms = case when w.persons > 0 then now_ms else l.interactive_tail_ms end,
      batch_start_ms = case when w.batch > 0 then now_ms else l.batch_start_ms end,
      pace_ms = case
        when w.paced then eve.next_pace(
          greatest(l.pace_ms, w.pace_ms), now_ms, w.step_ms * w.calls,
          case when w.token_ms * w.tokens > w.interval_ms * w.calls then 3 else 0.5 end
        )
        else l.pace_ms
      end,
      token_pace_ms = case
        when w.paced then eve.next_pace(greatest(l.token_pace_ms, w.token_pace_ms), now_ms, w.token_ms * w.tokens, 3)
        else l.token_pace_ms
      end,
      day_starts = l.day_starts + w.calls,
      day_batch_starts = l.day_batch_starts + w.batch,
      span_number = v_span,
      span_starts = case l.span_number when v_span then l.span_starts else 0 end + w.calls,
      span_tokens = case l.span_number when v_span then l.span_tokens else 0 end + w.tokens,
      previous_span_starts = case v_span - l.span_number when 0 then l.previous_span_starts when 1 then l.span_starts else 0 end,
      previous_span_tokens = case v_span - l.span_number when 0 then l.previous_span_tokens when 1 then l.span_tokens else 0 end,
      turns = l.turns + w.calls,
      next_lease_ms = least(l.next_lease_ms, now_ms + w.lease_ms)
    from (
      select u.lane_id, count(*)::integer as calls, sum(u.tokens)::bigint as tokens, max(u.turns) as turns,
        count(*) filter (where u.class = 'interactive')::integer as persons,
        count(*) filter (where u.class = 'batch')::integer as batch,
        min(plain.leases[u.asked]) as lease_ms, bool_or(u.paced) as paced, bool_or(u.contended) as contended,
        min(u.stale_ms) as stale_ms, min(u.lanes) as lanes, max(u.pace_ms) as pace_ms, max(u.token_pace_ms) as token_pace_ms,
        max(u.step_ms) as step_ms, min(u.token_ms) as token_ms,
        min(u.interval_ms) as interval_ms, (array_agg(u.limits))[1] as limits
      -- What has no name here is a column of the route.
      from unnest(
        chosen.asked, chosen.classes, chosen.turns, chosen.tokens, chosen.paces, chosen.token_paces, chosen.steps,
        chosen.paced, chosen.contended, chosen.routes
      ) as u (asked, class, turns, tokens, pace_ms, token_pace_ms, step_ms, paced, contended)
      group by u.lane_id
      order by u.lane_id
    ) w
    where l.id = w.lane_id
      -- What was seen when the lane was chosen still holds, nearly: or all who were held up since would load the same one.
      and (w.lanes = 1 or l.turns <= w.turns + 3)
      -- Nobody is booked for later, nobody is to be cleared away, and it is the day of the booking before.
      and l.interactive_tail_ms <= now_ms and l.next_lease_ms > now_ms and l.span_number <= v_span
      and l.day_ends_ms > now_ms + (w.limits).guard_ms and l.day_ends_ms <= now_ms + 90000000
      and l.blocked_until is null and w.stale_ms > now_ms
      and (
        w.persons = 0
        or (eve.day_left(l, w.limits, 'interactive', w.contended, now_ms, l.day_ends_ms) < w.calls) is not true
          and eve.has_room(l, w.limits, 'interactive', w.contended, w.calls, w.tokens, now_ms)
      )
      and (
        w.batch = 0
        or (eve.day_left(l, w.limits, 'batch', w.contended, now_ms, l.day_ends_ms) < w.calls) is not true
          and eve.has_room(l, w.limits, 'batch', w.contended, w.calls, w.tokens, now_ms)
      )
    returning l.id, l.turns, w.calls, l.day_ends_ms, l.day_starts, l.day_batch_starts,
      l.span_starts + l.previous_span_starts as used_starts, l.span_tokens + l.previous_span_tokens as used_tokens
  )
  select array_agg(b.id) as lanes, array_agg(b.turns) as turns, array_agg(b.calls) as calls, array_agg(b.day_ends_ms) as day_ends,
    array_agg(b.day_starts) as day_starts, array_agg(b.day_batch_starts) as day_batch_starts,
    array_agg(b.used_starts) as used_starts, array_agg(b.used_tokens) as used_tokens,
    coalesce(bool_or(b.turns / 16 > (b.turns - b.calls) / 16), false) as to_clean
  into v_booked
  from booked b;
  return v_booked;
end;
$$;

-- Writes down what was booked: where it stands in the lanes' windows.
create or replace function eve.fill_buckets(chosen eve.list_choice, booked eve.list_booking, now_ms bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  insert into eve.lane_buckets as b (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
  select u.lane_id, (now_ms + u.bucket_ms - 1) / u.bucket_ms * u.bucket_ms, count(*), sum(u.tokens),
    count(*) filter (where u.class = 'batch'), coalesce(sum(u.tokens) filter (where u.class = 'batch'), 0)
  from unnest(chosen.classes, chosen.tokens, chosen.routes) as u (class, tokens)
  where u.lane_id = any (booked.lanes)
  group by u.lane_id, u.bucket_ms
  order by u.lane_id
  on conflict on constraint lane_buckets_pkey do update
  set starts = b.starts + excluded.starts, tokens = b.tokens + excluded.tokens,
    batch_starts = b.batch_starts + excluded.batch_starts, batch_tokens = b.batch_tokens + excluded.batch_tokens;
  if booked.to_clean then
    -- Instants that no window reaches any more.
    delete from eve.lane_buckets b where b.lane_id = any (booked.lanes) and b.at_ms < now_ms - 70000;
  end if;
end;
$$;

-- Writes down the requests whose lane was booked, each with one of the lane's keys in turn. Answers an element for each call of the list;
-- null: it was not booked.
create or replace function eve.note_list(
  plain eve.list_calls, chosen eve.list_choice, booked eve.list_booking, now_ms bigint, calls_in_list integer
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_places bigint[];
  v_answers jsonb[];
begin
  with taken as materialized (
    select u.*, nextval('eve.request_no') as request_no, lane.place,
      1 + (booked.turns[lane.place] - booked.calls[lane.place] + u.nth - 1) % cardinality(u.key_ids) as slot
    from unnest(
      chosen.asked, chosen.classes, chosen.captures, chosen.nths, chosen.tokens, chosen.contended, chosen.routes
    ) as u (asked, class, capture, nth, tokens, contended)
    cross join lateral (select array_position(booked.lanes, u.lane_id) as place) lane
    where lane.place is not null
  ),
  written as (
    insert into eve.inflight (
      request_no, consumer_id, request_id, token_id, class, endpoint, requested_model, model, attempt, state, lane_id, key_id,
      start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, lease_until, received_at, wait_ms, trace_id, metadata,
      request_hash, call_id
    )
    select k.request_no, coalesce(plain.consumers[k.asked], v_project), plain.ids[k.asked], null, k.class,
      plain.endpoints[k.asked], k.model, k.served, 1, 'reserved', k.lane_id, k.key_ids[k.slot], now_ms,
      (now_ms + k.bucket_ms - 1) / k.bucket_ms * k.bucket_ms, booked.day_ends[k.place], k.tokens, plain.tokens[k.asked],
      to_timestamp((now_ms + plain.leases[k.asked]) / 1000::double precision), to_timestamp(now_ms / 1000::double precision), 0,
      plain.traces[k.asked], plain.metadata[k.asked], plain.hashes[k.asked], plain.call_ids[k.asked]
    from taken k
  )
  select array_agg(plain.places[k.asked]) as places, array_agg(
    eve.granted(
      k.answers[k.slot], k.request_no, 1, k.class, k.capture, k.tokens, 0, now_ms, plain.leases[k.asked],
      eve.limits_json(
        k.limits, coalesce(exact.starts, booked.used_starts[k.place]), coalesce(exact.tokens, booked.used_tokens[k.place]),
        least(
          (k.limits).rpd - booked.day_starts[k.place],
          case when k.class = 'batch' then
            (eve.class_share(k.limits, 'batch', k.contended)).day_starts - booked.day_batch_starts[k.place]
          end
        ),
        60000 + (k.limits).guard_ms, booked.day_ends[k.place] - now_ms
      )
    )
  ) as answers
  into v_places, v_answers
  from taken k
  -- What is left of a small lane is said exactly.
  left join lateral (
    select sum(b.starts)::bigint as starts, sum(b.tokens)::bigint as tokens
    from eve.lane_buckets b
    where (k.limits).rpm <= 600 and b.lane_id = k.lane_id and b.at_ms > now_ms - 60000 - (k.limits).guard_ms and b.at_ms <= now_ms
  ) exact on true;
  return (
    select jsonb_agg(v_answers[array_position(v_places, n::bigint)] order by n)
    from generate_series(1, calls_in_list) n
  );
end;
$$;

-- Locks, in the order of public.eve_reserve: first those of the requests, which are never waited for. Then lanes; only while none is in
-- hand is one waited for, and what is not booked is released. Their rows in the order of their numbers, and buckets likewise, as
-- eve_settle_many takes them.
create or replace function public.eve_reserve_many(calls jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- As for eve_reserve.
set statement_timeout = '7500ms'
-- Who waits so long for a lane had better ask alone, for any lane.
set lock_timeout = '1s'
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = 'off'
set jit = 'off'
-- Few rows are looked for in tables of any size, one by one: a plan that was made while eve.inflight was small must not read it
-- from end to end for the rest of a connection's life. So nothing is merged, hashed or kept, and `offset 0` below keeps what is
-- looked for from being joined.
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set enable_material = 'off'
as $$
declare
  v_count constant integer := case
    when jsonb_typeof(eve_reserve_many.calls) = 'array' then jsonb_array_length(eve_reserve_many.calls) else 0
  end;
  v_alone eve.call;
  v_answer jsonb;
  v_plain eve.list_calls;
  v_chosen eve.list_choice;
  v_booked eve.list_booking;
  v_any boolean := false;
  v_over boolean := false;
  v_waited bigint;
  v_only bigint[];
  v_now bigint;
  v_began timestamptz;
  v_answers jsonb;
begin
  if v_count not between 1 and 100 then
    raise exception 'calls must be a list of 1 to 100' using errcode = 'EV400';
  end if;
  if v_count = 1 then
    -- What a list saves is shared by its calls. One alone goes as it would by itself, if it may go at once.
    v_alone := jsonb_populate_record(null::eve.call, eve_reserve_many.calls -> 0);
    if v_alone.attempt = 1 and v_alone.request_no is null and v_alone.token_id is null and v_alone.exclude_keys = '{}'
      and v_alone.avoid_keys = '{}' then
      begin
        v_answer := eve.reserve_plain(
          v_alone.request_id, v_alone.models, v_alone.tokens, v_alone.consumer_id, v_alone.class, v_alone.max_wait_ms,
          v_alone.lease_ms, v_alone.endpoint, v_alone.trace_id, v_alone.metadata, v_alone.request_hash, v_alone.counted,
          v_alone.deadline, v_alone.call_id
        );
      exception
        when lock_not_available then
          return '[null]';
      end;
      if v_answer is not null then
        return jsonb_build_array(v_answer);
      end if;
    end if;
  end if;
  v_plain := eve.read_list(eve_reserve_many.calls);
  for v_round in 1..3 loop
    -- A subtransaction: what it has locked and not booked is free again, and what turns out to be late has not been booked.
    begin
      if v_waited is not null then
        perform eve.lock_lane(v_waited);
      end if;
      v_now := eve.clock_ms();
      v_chosen := eve.choose_for_list(v_plain, v_only, v_now);
      if v_chosen.asked is not null then
        v_now := eve.clock_ms();
        v_began := clock_timestamp();
        v_booked := eve.book_list(v_plain, v_chosen, v_now);
        v_over := clock_timestamp() - v_began > interval '100 milliseconds';
        v_any := not v_over and cardinality(v_booked.lanes) = v_chosen.locked;
      end if;
      if not v_any and v_chosen.locked > 0 then
        raise exception 'release the lanes' using errcode = 'EV001';
      end if;
    exception
      when sqlstate 'EV001' then
        null;
      when lock_not_available then
        v_over := true;
    end;
    -- Held up: somebody had a row meanwhile, and v_now has passed.
    exit when v_any or v_over;
    if v_chosen.asked is not null then
      -- Once more, with the lanes that could be booked alone.
      v_only := v_booked.lanes;
      exit when v_only is null or v_round = 3;
      v_waited := null;
      continue;
    end if;

    -- Somebody is at each of the lanes. With none in hand one may be waited for.
    exit when v_waited is not null;
    v_waited := eve.lane_to_wait_for(v_plain.models, v_now);
    exit when v_waited is null;
  end loop;
  if not v_any then
    return to_jsonb(array_fill(null::text, array[v_count]));
  end if;

  perform eve.fill_buckets(v_chosen, v_booked, v_now);
  v_answers := eve.note_list(v_plain, v_chosen, v_booked, v_now, v_count);
  -- With everything in hand, since that may have been waited for. Who still has time asks again alone.
  perform eve.stop_when_late(v_plain.deadline);
  return v_answers;
end;
$$;
comment on function public.eve_reserve_many is 'Reserves up to 100 slots that can start at once, in one transaction. Answers in the order asked; null: not a plain case, so ask eve_reserve.';
