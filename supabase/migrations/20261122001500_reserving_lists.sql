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
--   The list read anew from JSON by each statement in place of arrays: 5 more. Routes looked up anew: 10 more, and what is booked
--     could lose its route in between.
--   Windows to number calls and lanes in place of arrays: 10 more.
--   Plain joins and anti joins: with eve.inflight or eve.lanes thought to be small, each list read them from end to end.

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
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_count integer;
  v_plain record;
  v_chosen record;
  v_booked record;
  v_capture constant boolean := (select c.capture from eve.consumers c where c.id = v_project);
  v_any boolean := false;
  v_over boolean := false;
  v_waited bigint;
  v_only bigint[];
  v_now bigint;
  v_began timestamptz;
  v_span bigint;
  v_told record;
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
    -- As eve.check_call has it.
    and (length(t.door) > 40 or length(t.trace_id) > 200 or length(t.request_hash) > 200) is not true
    and (clock_timestamp() > t.deadline) is not true
    and pg_try_advisory_xact_lock(
      hashtextextended(coalesce(t.consumer_id::text, '00000000-0000-0000-0000-000000000000') || t.request_id, 0)
    );

  for v_round in 1..3 loop
    -- A subtransaction: what it has locked and not booked is free again, and what turns out to be late has not been booked.
    begin
      if v_waited is not null then
        perform eve.lock_lane(v_waited);
      end if;
      v_now := eve.clock_ms();
      select array_agg(s.asked) filter (where fit.fits) as asked, array_agg(s.class) filter (where fit.fits) as classes,
        array_agg(s.capture) filter (where fit.fits) as captures, array_agg(s.turns) filter (where fit.fits) as turns,
        array_agg(s.nth) filter (where fit.fits) as nths, array_agg(s.booked) filter (where fit.fits) as tokens,
        array_agg((s.pace).pace_ms) filter (where fit.fits) as paces,
        array_agg((s.pace).token_pace_ms) filter (where fit.fits) as token_paces,
        array_agg(coalesce((s.pace).spread_ms, (s.pace).interval_ms)) filter (where fit.fits) as steps,
        array_agg(s.paced) filter (where fit.fits) as paced, array_agg(s.contended) filter (where fit.fits) as contended,
        -- With the route as it is now: others may make a new one before this is over.
        array_agg(r.route) filter (where fit.fits) as routes,
        count(distinct s.lane_id) as locked
      into v_chosen
      from (
        select g.model, g.class, a.asked, a.capture, a.counted, f.lanes[place.of] as lane_id, f.turns[place.of] as turns,
          f.paced[place.of] as paced, f.starts_left[place.of] as starts_left, f.tokens_left[place.of] as tokens_left, f.even_share, pool.pace, pool.contended, size.expected,
          ceil(size.expected * case when not a.counted then f.estimate_ceiling else 1 end)::bigint as booked,
          -- Which of the lane's calls this is.
          1 + (a.nth - 1) / cardinality(f.lanes) as nth
        from (
          select t.model, case when c.max_class = 'batch' then 'batch' else t.class end as class, count(*) as calls,
            sum(count(*)) over (partition by t.model)::bigint as calls_of_model,
            array_agg(t.asked) as asked, array_agg(t.tokens) as tokens, array_agg(t.counted) as counted,
            array_agg(coalesce(c.capture, v_capture)) as captures
          from unnest(v_plain.models, v_plain.classes, v_plain.tokens, v_plain.consumers, v_plain.counted, v_plain.ids)
            with ordinality as t (model, class, tokens, consumer_id, counted, request_id, asked)
          left join lateral (select b.* from eve.consumers b where b.id = t.consumer_id offset 0) c on true
          where
            -- Consumers with a budget go by themselves.
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
              from eve.request_keys q
              where q.consumer_id = coalesce(t.consumer_id, v_project) and q.request_id = t.request_id
              offset 0
            )
          group by 1, 2
        ) g
        -- All lanes of the model: how fast batch may go, and whether any waits.
        cross join lateral (
          select row(
              min(o.interval_ms), min(o.token_ms), max(l.pace_ms), max(l.token_pace_ms), max(l.batch_start_ms),
              min((o.limits).batch_floor),
              case when g.class = 'batch' or greatest(max(l.pace_ms), max(l.token_pace_ms)) > v_now - min(o.interval_ms) then
                eve.spread_ms(array_agg(o.lane_id), min(o.interval_ms), 60000 + min((o.limits).guard_ms), v_now)
              end
            )::eve.pool_pace as pace,
            bool_or(exists (
              select
              from eve.inflight i
              where i.model = o.served and i.state = 'waiting' and i.start_ms > v_now - 1500
              offset 0
            )) as contended
          from eve.routes o
          cross join lateral (select b.* from eve.lanes b where b.id = o.lane_id offset 0) l
          where o.model = g.model
        ) pool
        -- Of each model as many lanes as it has calls here, the least loaded first, and only such as nobody else is booking at
        -- this moment.
        cross join lateral (
          select array_agg(free.lane_id) as lanes, array_agg(free.turns) as turns, array_agg(free.paced) as paced,
            array_agg(free.starts_left) as starts_left, array_agg(free.tokens_left) as tokens_left, min(free.estimate_factor) as estimate_factor, min(free.estimate_ceiling) as estimate_ceiling,
            min(free.even_share) as even_share
          from (
            select loaded.*
            from (
              select o.lane_id, o.lanes, (l.lane).turns, o.estimate_ceiling, o.even_share, m.estimate_factor, batch.paced,
                room.starts as starts_left, room.tokens as tokens_left,
                (l.lane).day_starts - min((l.lane).day_starts) over () as ahead
              from eve.routes o
              cross join lateral (select b as lane from eve.lanes b where b.id = o.lane_id offset 0) l
              cross join lateral (
                select b.estimate_factor from public.google_ai_model_limits b where b.model = o.served offset 0
              ) m
              -- Alone on lanes that are nearly empty batch goes as it comes; otherwise one by one, and behind nobody who waits.
              cross join lateral (
                select case g.class
                  when 'batch' then not eve.may_burst(l.lane, o.limits, 0, v_now, g.calls_of_model)
                  else greatest((pool.pace).pace_ms, (pool.pace).token_pace_ms) > v_now - coalesce((pool.pace).interval_ms, 0)
                end as paced
              ) batch
              cross join lateral eve.room_left(l.lane, o.limits, g.class, pool.contended, g.calls, 1, v_now) room
              where o.model = g.model and (v_only is null or o.lane_id = any (v_only))
                -- What has to hold when it is booked, too: no lane is locked for nothing.
                and (l.lane).blocked_until is null and (l.lane).interactive_tail_ms <= v_now and o.stale_ms > v_now
                and (l.lane).next_lease_ms > v_now and (l.lane).span_number <= v_now >> 16
                and (l.lane).day_ends_ms > v_now + (o.limits).guard_ms and (l.lane).day_ends_ms <= v_now + 90000000
                and ((l.lane).day_starts < (o.limits).rpd) is not false
                and (room.starts < 1 or room.tokens < 1) is not true
                and (
                  g.class = 'interactive'
                  or not pool.contended
                    and (not batch.paced or g.calls = 1 and eve.pace_allows(pool.pace) <= v_now)
                )
              order by (l.lane).day_starts, (l.lane).turns, (l.lane).id
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
      left join lateral (
        select b as route from eve.routes b where b.model = s.model and b.lane_id = s.lane_id offset 0
      ) r on true
      cross join lateral (
        -- As many as fit, as far as can be seen from here.
        select (r.route).model is not null and (s.nth > s.starts_left or s.booked > s.tokens_left) is not true
          -- Otherwise it has to be counted.
          and (s.class = 'interactive' or s.counted is distinct from false or s.expected <= s.even_share) as fits
      ) fit;
      if v_chosen.asked is not null then
        v_now := eve.clock_ms();
        v_began := clock_timestamp();
        v_span := v_now >> 16;
        -- Everything that has to be true for these starts at this instant: all calls of a lane or none.
        with booked as (
          update eve.lanes l
          set interactive_tail_ms = case when w.persons > 0 then v_now else l.interactive_tail_ms end,
            batch_start_ms = case when w.batch > 0 then v_now else l.batch_start_ms end,
            pace_ms = case
              when w.paced then eve.next_pace(greatest(l.pace_ms, w.pace_ms), v_now, w.step_ms * w.calls)
              else l.pace_ms
            end,
            token_pace_ms = case
              when w.paced then eve.next_pace(greatest(l.token_pace_ms, w.token_pace_ms), v_now, w.token_ms * w.tokens, 1)
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
            next_lease_ms = least(l.next_lease_ms, v_now + w.lease_ms)
          from (
            select u.lane_id, count(*)::integer as calls, sum(u.tokens)::bigint as tokens, max(u.turns) as turns,
              count(*) filter (where u.class = 'interactive')::integer as persons,
              count(*) filter (where u.class = 'batch')::integer as batch,
              min(v_plain.leases[u.asked]) as lease_ms, bool_or(u.paced) as paced, bool_or(u.contended) as contended,
              min(u.stale_ms) as stale_ms, min(u.lanes) as lanes, max(u.pace_ms) as pace_ms, max(u.token_pace_ms) as token_pace_ms,
              max(u.step_ms) as step_ms, min(u.token_ms) as token_ms, (array_agg(u.limits))[1] as limits
            -- What has no name here is a column of the route.
            from unnest(
              v_chosen.asked, v_chosen.classes, v_chosen.turns, v_chosen.tokens, v_chosen.paces, v_chosen.token_paces, v_chosen.steps,
              v_chosen.paced, v_chosen.contended, v_chosen.routes
            ) as u (asked, class, turns, tokens, pace_ms, token_pace_ms, step_ms, paced, contended)
            group by u.lane_id
            order by u.lane_id
          ) w
          where l.id = w.lane_id
            -- What was seen when the lane was chosen still holds, nearly: or all who were held up since would load the same one.
            and (w.lanes = 1 or l.turns <= w.turns + 3)
            -- Nobody is booked for later, nobody is to be cleared away, and it is the day of the booking before.
            and l.interactive_tail_ms <= v_now and l.next_lease_ms > v_now and l.span_number <= v_span
            and l.day_ends_ms > v_now + (w.limits).guard_ms and l.day_ends_ms <= v_now + 90000000
            and l.blocked_until is null and w.stale_ms > v_now
            and (
              w.persons = 0
              or (eve.day_left(l, w.limits, 'interactive', w.contended, v_now, l.day_ends_ms) < w.calls) is not true
                and eve.has_room(l, w.limits, 'interactive', w.contended, w.calls, w.tokens, v_now)
            )
            and (
              w.batch = 0
              or (eve.day_left(l, w.limits, 'batch', w.contended, v_now, l.day_ends_ms) < w.calls) is not true
                and eve.has_room(l, w.limits, 'batch', w.contended, w.calls, w.tokens, v_now)
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
    select r.lane_id
    into v_waited
    from eve.routes r
    join eve.lanes l on l.id = r.lane_id
    where r.model = any (v_plain.models) and l.blocked_until is null
      -- Or there is nothing to wait for: a refusal holds up nobody.
      and l.interactive_tail_ms <= v_now and eve.has_room(l, r.limits, 'interactive', false, 1, 0, v_now)
    order by random()
    limit 1;
    exit when not found;
  end loop;
  if not v_any then
    return to_jsonb(array_fill(null::text, array[v_count]));
  end if;

  insert into eve.lane_buckets as b (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
  select u.lane_id, (v_now + u.bucket_ms - 1) / u.bucket_ms * u.bucket_ms, count(*), sum(u.tokens),
    count(*) filter (where u.class = 'batch'), coalesce(sum(u.tokens) filter (where u.class = 'batch'), 0)
  from unnest(v_chosen.classes, v_chosen.tokens, v_chosen.routes) as u (class, tokens)
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
    from unnest(
      v_chosen.asked, v_chosen.classes, v_chosen.captures, v_chosen.nths, v_chosen.tokens, v_chosen.contended, v_chosen.routes
    ) as u (asked, class, capture, nth, tokens, contended)
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
  select array_agg(v_plain.places[k.asked]) as places, array_agg(
    eve.granted(
      k.answers[k.slot], k.request_no, 1, k.class, k.capture, k.tokens, 0, v_now, v_plain.leases[k.asked],
      eve.limits_json(
        k.limits, coalesce(exact.starts, v_booked.used_starts[k.place]), coalesce(exact.tokens, v_booked.used_tokens[k.place]),
        least(
          (k.limits).rpd - v_booked.day_starts[k.place],
          case when k.class = 'batch' then
            (eve.class_share(k.limits, 'batch', k.contended)).day_starts - v_booked.day_batch_starts[k.place]
          end
        ),
        60000 + (k.limits).guard_ms, v_booked.day_ends[k.place] - v_now
      )
    )
  ) as answers
  into v_told
  from taken k
  -- What is left of a small lane is said exactly.
  left join lateral (
    select sum(b.starts)::bigint as starts, sum(b.tokens)::bigint as tokens
    from eve.lane_buckets b
    where (k.limits).rpm <= 600 and b.lane_id = k.lane_id and b.at_ms > v_now - 60000 - (k.limits).guard_ms and b.at_ms <= v_now
  ) exact on true;
  -- With everything in hand, since that may have been waited for. Who still has time asks again alone.
  perform eve.stop_when_late(v_plain.deadline);
  return (
    select jsonb_agg(v_told.answers[array_position(v_told.places, n::bigint)] order by n)
    from generate_series(1, v_count) n
  );
end;
$$;
comment on function public.eve_reserve_many is 'Reserves up to 100 slots that can start at once, in one transaction. Answers in the order asked; null: not a plain case, so ask eve_reserve.';
