-- public.eve_reserve_many again: what it does is as before, but for a lane whose tokens do not suffice for all of a list: then it
-- takes none of them, and they go by themselves. How it looks: each row by itself, whatever the statistics said when its plans
-- were made, with fewer sorts and joins.
--
-- Only what the short way of public.eve_reserve would book is booked, under the same conditions and in the same order of locks.
-- For the rest the answer is null, nothing is written, and the caller asks eve_reserve.
--
-- What was tried. Figures are CPU of the server for each reservation, one connection, without waiting for the disk; by itself one
-- costs 285 us, the floor of bench:admission 70.
--   A loop over eve_reserve: 195 in twenties, since each statement is set up for each call all the same.
--   What is here, five statements for a whole list: 164 in fives, 116 in tens, 88 in twenties; on one lane 135, 88, 64.
--   Answers as jsonb_build_object: 25 more. Text that is put together does.
--   The list read anew from JSON by each statement in place of arrays: 5 more. Routes looked up anew: 10 more, and what is booked
--     could lose its route in between.
--   Windows to number calls and lanes in place of arrays: 10 more.
--   Plain joins and anti joins: with eve.inflight or eve.lanes thought to be small, each list read them from end to end.

-- Locks: first those of the requests, which are never waited for. Then lanes; only while nothing is in hand is one waited for.
-- Their rows in the order of their numbers, and buckets likewise, as eve_settle_many takes them.
create or replace function public.eve_reserve_many(calls jsonb)
returns json
language plpgsql
volatile
set search_path = ''
-- As for eve_reserve.
set statement_timeout = '7500ms'
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
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_count integer;
  v_plain record;
  v_chosen record;
  v_booked record;
  v_held_up boolean := false;
  v_waited bigint;
  v_now bigint;
  v_began timestamptz;
  v_span bigint;
  v_minute bigint;
  v_slot integer;
  v_told record;
  v_answers text[];
begin
  v_count := case when jsonb_typeof(eve_reserve_many.calls) = 'array' then jsonb_array_length(eve_reserve_many.calls) else 0 end;
  if v_count not between 1 and 100 then
    raise exception 'calls must be a list of 1 to 100' using errcode = 'EV400';
  end if;

  -- Plain ones, each with the lock that makes the same request twice at once come one after the other. What they find is looked
  -- at by a later statement, which sees what the one before has written.
  select array_agg(t.place) as places, array_agg(t.request_id) as ids, array_agg(t.models[1]) as models,
    array_agg(t.class) as classes, array_agg(t.tokens) as tokens, array_agg(t.consumer_id) as consumers,
    array_agg(t.lease_ms) as leases, array_agg(t.counted) as counted, array_agg(t.door) as doors,
    array_agg(t.trace_id) as traces, array_agg(t.metadata) as metadata, array_agg(t.request_hash) as hashes,
    array_agg(t.call_id) as call_ids, min(t.deadline) as deadline
  into v_plain
  from rows from (
    jsonb_to_recordset(eve_reserve_many.calls) as (
      request_id text, models text[], tokens integer, consumer_id uuid, class text, max_wait_ms integer, attempt integer,
      exclude_keys uuid[], avoid_keys uuid[], lease_ms integer, token_id uuid, metadata jsonb, counted boolean, door text,
      trace_id text, request_hash text, deadline timestamptz, call_id uuid
    )
  ) with ordinality as t (
    request_id, models, tokens, consumer_id, class, max_wait_ms, attempt, exclude_keys, avoid_keys, lease_ms, token_id, metadata,
    counted, door, trace_id, request_hash, deadline, call_id, place
  )
  where t.attempt = 1 and t.token_id is null and t.tokens >= 0 and cardinality(t.models) between 1 and 10
    and length(t.request_id) between 1 and 200 and t.class in ('interactive', 'batch') and t.max_wait_ms between 0 and 3600000
    and t.lease_ms between 100 and 3600000 and t.exclude_keys = '{}' and t.avoid_keys = '{}'
    and (t.metadata = '{}' or length(t.metadata::text) <= 16384)
    and (clock_timestamp() > t.deadline) is not true
    and pg_try_advisory_xact_lock(
      hashtextextended(coalesce(t.consumer_id::text, '00000000-0000-0000-0000-000000000000') || t.request_id, 0)
    );

  -- A subtransaction: what turns out to be late must not have been booked.
  begin
    for v_round in 1..2 loop
      select array_agg(s.asked) as asked, array_agg(s.class) as classes, array_agg(s.capture) as captures,
        array_agg(s.turns) as turns, array_agg(s.nth) as nths, array_agg(s.expected) as expected, array_agg(s.booked) as tokens,
        -- With the route as it is now: others may draw up a new one before this is over.
        array_agg(r.route) as routes
      into v_chosen
      from (
        select g.model, g.class, a.asked, a.capture, a.counted, f.lanes[place.of] as lane_id, f.turns[place.of] as turns,
          f.even_share, f.starts_left[place.of] as starts_left, f.tokens_left[place.of] as tokens_left, size.expected,
          ceil(size.expected * case when not a.counted then f.estimate_ceiling else 1 end)::bigint as booked,
          -- Which of the lane's calls this is.
          1 + (a.nth - 1) / cardinality(f.lanes) as nth
        from (
          select t.model, case when c.max_class = 'batch' then 'batch' else t.class end as class, count(*) as calls,
            array_agg(t.asked) as asked, array_agg(t.tokens) as tokens, array_agg(t.counted) as counted,
            array_agg(coalesce(c.capture, false)) as captures
          from unnest(v_plain.models, v_plain.classes, v_plain.tokens, v_plain.consumers, v_plain.counted, v_plain.ids)
            with ordinality as t (model, class, tokens, consumer_id, counted, request_id, asked)
          left join lateral (select b.* from eve.consumers b where b.id = t.consumer_id offset 0) c on true
          where
            -- Whoever has a budget goes by himself.
            (
              t.consumer_id is null
              or c.is_active and c.rpm is null and c.requests_per_day is null and c.tokens_per_day is null
                and (c.models is null or t.model = any (c.models))
            )
            and not exists (
              select
              from eve.inflight i
              where i.consumer_id = coalesce(t.consumer_id, v_project) and i.request_id = t.request_id
              offset 0
            )
            and not exists (
              select
              from eve.requests q
              where q.consumer_id = coalesce(t.consumer_id, v_project) and q.request_id = t.request_id
              offset 0
            )
          group by 1, 2
        ) g
        -- Of each model as many lanes as it has calls here, the least loaded first, and only such as nobody else is booking at
        -- this moment.
        cross join lateral (
          select array_agg(free.lane_id) as lanes, array_agg(free.turns) as turns, array_agg(free.starts_left) as starts_left,
            array_agg(free.tokens_left) as tokens_left, min(free.estimate_factor) as estimate_factor,
            min(free.estimate_ceiling) as estimate_ceiling, min(free.even_share) as even_share
          from (
            select loaded.*
            from (
              select o.lane_id, o.lanes, l.turns, l.day_starts, o.estimate_factor, o.estimate_ceiling, o.even_share,
                l.day_starts - min(l.day_starts) over () as ahead,
                o.starts_room - l.span_starts - l.previous_span_starts as starts_left,
                o.tokens_room - l.span_tokens - l.previous_span_tokens as tokens_left
              from eve.routes o
              cross join lateral (select b.* from eve.lanes b where b.id = o.lane_id offset 0) l
              where o.model = g.model and o.class = g.class and l.blocked_until is null
                and l.span_starts + l.previous_span_starts < o.starts_room
                and l.span_tokens + l.previous_span_tokens < o.tokens_room
              order by l.day_starts, l.turns, l.id
              offset 0
            ) loaded
            where (loaded.lanes = 1 or loaded.ahead <= 4 or loaded.ahead > 64)
              and pg_try_advisory_xact_lock(1163281713, loaded.lane_id::integer)
            limit g.calls
          ) free
        ) f
        cross join lateral unnest(g.asked, g.tokens, g.counted, g.captures)
          with ordinality as a (asked, tokens, counted, capture, nth)
        cross join lateral (select 1 + (a.nth - 1) % cardinality(f.lanes) as of) place
        cross join lateral (
          select ceil(a.tokens * case when a.counted then 1 else f.estimate_factor end)::bigint as expected
        ) size
      ) s
      cross join lateral (
        select b as route from eve.routes b where b.model = s.model and b.class = s.class and b.lane_id = s.lane_id offset 0
      ) r
      -- As many as fit, as far as can be seen from here.
      where s.nth <= s.starts_left and s.booked <= s.tokens_left
        -- Otherwise it has to be counted.
        and (s.class = 'interactive' or s.counted is distinct from false or s.expected <= s.even_share);
      exit when v_round = 2 or v_chosen.asked is not null;

      -- Somebody is at each of the lanes. With none in hand one may be waited for.
      select r.lane_id
      into v_waited
      from eve.routes r
      join eve.lanes l on l.id = r.lane_id
      where (r.model, r.class) in (select t.model, t.class from unnest(v_plain.models, v_plain.classes) as t (model, class))
        and l.blocked_until is null
        -- Or there is nothing to wait for: a refusal holds up nobody.
        and l.span_starts + l.previous_span_starts < r.starts_room
        and l.span_tokens + l.previous_span_tokens < r.tokens_room
      order by random()
      limit 1;
      exit when not found;
      perform pg_advisory_xact_lock(1163281713, v_waited::integer);
    end loop;

    v_now := eve.clock_ms();
    v_began := clock_timestamp();
    v_span := v_now >> 16;
    v_minute := v_now / 60000;
    v_slot := 1 + (v_minute % 10)::integer;
    -- Everything that has to be true for these starts at this instant, as in eve_reserve: all calls of a lane or none.
    with booked as (
      update eve.lanes l
      set interactive_tail_ms = case when w.persons > 0 then v_now else l.interactive_tail_ms end,
        batch_tail_ms = case when w.batch > 0 then v_now else l.batch_tail_ms end,
        day_starts = l.day_starts + w.calls,
        day_batch_starts = l.day_batch_starts + w.batch,
        span_number = v_span,
        span_starts = case l.span_number when v_span then l.span_starts else 0 end + w.calls,
        span_tokens = case l.span_number when v_span then l.span_tokens else 0 end + w.tokens,
        previous_span_starts = case l.span_number when v_span then l.previous_span_starts else l.span_starts end,
        previous_span_tokens = case l.span_number when v_span then l.previous_span_tokens else l.span_tokens end,
        minute_number = case when w.persons > 0 then v_minute else l.minute_number end,
        minute_starts[v_slot] = case when w.persons = 0 or l.minute_number = v_minute then l.minute_starts[v_slot] else 0 end
          + w.persons,
        minute_tokens[v_slot] = case when w.persons = 0 or l.minute_number = v_minute then l.minute_tokens[v_slot] else 0 end
          + w.expected,
        -- A maximum that decays by a tenth with every interactive call; with several at once, by a tenth.
        interactive_size = case
          when w.persons > 0 then greatest(w.largest, (l.interactive_size * 9 + w.largest) / 10)
          else l.interactive_size
        end,
        turns = l.turns + w.calls,
        next_lease_ms = least(l.next_lease_ms, v_now + w.lease_ms)
      from (
        select u.lane_id, count(*)::integer as calls, sum(u.tokens)::bigint as tokens, max(u.turns) as turns,
          count(*) filter (where u.class = 'interactive')::integer as persons,
          count(*) filter (where u.class = 'batch')::integer as batch,
          coalesce(sum(u.expected) filter (where u.class = 'interactive'), 0)::bigint as expected,
          coalesce(max(u.expected) filter (where u.class = 'interactive'), 0) as largest,
          min(v_plain.leases[u.asked]) as lease_ms,
          min(u.stale_ms) as stale_ms, max(u.guard_ms) as guard_ms, min(u.lanes) as lanes, min(u.starts_room) as starts_room,
          min(u.tokens_room) as tokens_room, min(u.day_room) as day_room
        -- What has no name here is a column of the route.
        from unnest(v_chosen.asked, v_chosen.turns, v_chosen.expected, v_chosen.tokens, v_chosen.routes)
          as u (asked, turns, expected, tokens)
        group by u.lane_id
        order by u.lane_id
      ) w
      where l.id = w.lane_id
        and (w.lanes = 1 or l.turns <= w.turns + 3)
        and l.interactive_tail_ms <= v_now and l.batch_tail_ms <= v_now and l.next_lease_ms > v_now
        -- The same span and minute as the booking before, or the next.
        and l.span_number between v_span - 1 and v_span and l.minute_number between v_minute - 1 and v_minute
        and l.day_ends_ms > v_now + w.guard_ms and l.day_ends_ms <= v_now + 90000000
        and l.blocked_until is null and w.stale_ms > v_now
        and l.day_starts + w.calls <= w.day_room
        and case l.span_number when v_span then l.previous_span_starts else 0 end + l.span_starts + w.calls <= w.starts_room
        and case l.span_number when v_span then l.previous_span_tokens else 0 end + l.span_tokens + w.tokens <= w.tokens_room
      returning l.id, l.turns, w.calls, l.day_ends_ms, l.day_starts, l.day_batch_starts,
        l.span_starts + l.previous_span_starts as used_starts, l.span_tokens + l.previous_span_tokens as used_tokens
    )
    select array_agg(b.id) as lanes, array_agg(b.turns) as turns, array_agg(b.calls) as calls, array_agg(b.day_ends_ms) as day_ends,
      array_agg(b.day_starts) as day_starts, array_agg(b.day_batch_starts) as day_batch_starts,
      array_agg(b.used_starts) as used_starts, array_agg(b.used_tokens) as used_tokens,
      coalesce(bool_or(b.turns / 16 > (b.turns - b.calls) / 16), false) as to_clean
    into v_booked
    from booked b;
    if clock_timestamp() - v_began > interval '100 milliseconds' then
      -- Somebody held a row meanwhile, and v_now has passed.
      raise exception 'let go' using errcode = 'EV001';
    end if;
  exception
    when sqlstate 'EV001' then
      v_held_up := true;
  end;
  if v_held_up or v_booked.lanes is null then
    return to_json(array_fill(null::text, array[v_count]));
  end if;

  insert into eve.lane_buckets as b (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
  select u.lane_id, (v_now + u.bucket_ms - 1) / u.bucket_ms * u.bucket_ms, count(*), sum(u.tokens),
    count(*) filter (where u.class = 'batch'), coalesce(sum(u.tokens) filter (where u.class = 'batch'), 0)
  from unnest(v_chosen.tokens, v_chosen.routes) as u (tokens)
  where u.lane_id = any (v_booked.lanes)
  group by u.lane_id, u.bucket_ms
  order by u.lane_id
  on conflict on constraint lane_buckets_pkey do update
  set starts = b.starts + excluded.starts, tokens = b.tokens + excluded.tokens,
    batch_starts = b.batch_starts + excluded.batch_starts, batch_tokens = b.batch_tokens + excluded.batch_tokens;
  if v_booked.to_clean then
    -- Instants that no window reaches any more.
    delete from eve.lane_buckets b where b.lane_id = any (v_booked.lanes) and b.at_ms < v_now - 70000;
  end if;

  with taken as materialized (
    select u.*, nextval('eve.request_no') as request_no, booked.place,
      1 + (v_booked.turns[booked.place] - v_booked.calls[booked.place] + u.nth - 1) % cardinality(u.key_ids) as slot
    from unnest(v_chosen.asked, v_chosen.captures, v_chosen.nths, v_chosen.tokens, v_chosen.routes)
      as u (asked, capture, nth, tokens)
    cross join lateral (select array_position(v_booked.lanes, u.lane_id) as place) booked
    where booked.place is not null
  ),
  written as (
    insert into eve.inflight (
      request_no, consumer_id, request_id, token_id, class, door, requested_model, model, attempt, state, lane_id, key_id,
      start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, lease_until, received_at, wait_ms, trace_id, metadata,
      request_hash, call_id
    )
    select k.request_no, coalesce(v_plain.consumers[k.asked], v_project), v_plain.ids[k.asked], null, k.class,
      v_plain.doors[k.asked], k.model, k.served, 1, 'reserved', k.lane_id, k.key_ids[k.slot], v_now,
      (v_now + k.bucket_ms - 1) / k.bucket_ms * k.bucket_ms, v_booked.day_ends[k.place], k.tokens, v_plain.tokens[k.asked],
      to_timestamp((v_now + v_plain.leases[k.asked]) / 1000::double precision), to_timestamp(v_now / 1000::double precision), 0,
      v_plain.traces[k.asked], v_plain.metadata[k.asked], v_plain.hashes[k.asked], v_plain.call_ids[k.asked]
    from taken k
  )
  select array_agg(v_plain.places[k.asked] order by k.asked) as places, array_agg(
    -- As in eve_reserve.
    k.answers[k.slot] || ',"request_no":' || k.request_no || ',"capture":' || to_json(k.capture)
    || ',"start_at":' || to_json(to_timestamp(v_now / 1000::double precision))
    || ',"lease_until":' || to_json(to_timestamp((v_now + v_plain.leases[k.asked]) / 1000::double precision))
    || ',"tokens":' || k.tokens
    || ',"limits":' || k.limits[1]
    || ',"remaining":' || coalesce((k.rpm - coalesce(exact.starts, v_booked.used_starts[k.place]))::text, 'null')
    || '},' || k.limits[2]
    || ',"remaining":' || coalesce((k.tpm - coalesce(exact.tokens, v_booked.used_tokens[k.place]))::text, 'null')
    || '},' || k.limits[3] || ',"reset_ms":' || v_booked.day_ends[k.place] - v_now
    || ',"remaining":' || coalesce(
      least(
        k.rpd - v_booked.day_starts[k.place],
        case when k.class = 'batch' and k.rpd is not null then k.day_room - v_booked.day_batch_starts[k.place] end
      )::text, 'null'
    ) || '}}}' order by k.asked
  ) as texts
  into v_told
  from taken k
  -- What is left of a small lane is said exactly.
  left join lateral (
    select sum(b.starts) as starts, sum(b.tokens) as tokens
    from eve.lane_buckets b
    where k.rpm <= 600 and b.lane_id = k.lane_id and b.at_ms > v_now - 60000 - k.guard_ms and b.at_ms <= v_now
  ) exact on true;
  -- With everything in hand, since that may have been waited for. Whoever still has time asks again by himself.
  if clock_timestamp() > v_plain.deadline then
    perform eve.stop_when_late(v_plain.deadline);
  end if;
  if cardinality(v_told.places) < v_count then
    v_answers := array_fill('null'::text, array[v_count]);
    for v_slot in 1..cardinality(v_told.places) loop
      v_answers[v_told.places[v_slot]] := v_told.texts[v_slot];
    end loop;
  else
    v_answers := v_told.texts;
  end if;
  return ('[' || array_to_string(v_answers, ',') || ']')::json;
end;
$$;
