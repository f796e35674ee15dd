-- A list of calls, for eve_reserve_many: which of them are plain, and lanes that could take them at this instant. Steps hand on
-- arrays, one element for each call. What was tried stands at the head of reserving_lists.

-- The plain calls of a list.
do $$
begin
  if to_regtype('eve.list_calls') is null then
    create type eve.list_calls as (
      places bigint[],
      ids text[],
      models text[],
      classes text[],
      tokens integer[],
      consumers uuid[],
      leases integer[],
      counted boolean[],
      endpoints text[],
      traces text[],
      metadata jsonb[],
      hashes text[],
      call_ids uuid[],
      deadline timestamptz
    );
  end if;
end;
$$;
comment on type eve.list_calls is 'The plain calls of a list: one element for each in every array. places: where in the list it stands, from 1. deadline: the first of theirs.';

-- Which of them get which lane, if it can be booked.
do $$
begin
  if to_regtype('eve.list_choice') is null then
    create type eve.list_choice as (
      asked bigint[],
      classes text[],
      captures boolean[],
      turns bigint[],
      nths bigint[],
      tokens bigint[],
      paces bigint[],
      token_paces bigint[],
      steps double precision[],
      paced boolean[],
      contended boolean[],
      routes eve.routes[],
      locked bigint
    );
  end if;
end;
$$;
comment on type eve.list_choice is 'Plain calls of a list that a lane seems to have room for: one element for each in every array (null: there is none). asked: which of eve.list_calls; nths: which of its lane''s calls it is, from 1; tokens: to be booked; turns: its lane''s when it was chosen; paces, token_paces, steps: as eve.pool_pace says; routes: lane and key, as they were then. locked: how many lanes are locked for them.';

-- What of a list is plain: a first attempt for the first model that it names, with no key to avoid and no token's budget. Each is taken
-- with the lock that makes the same request twice at once come one after the other. What they find is looked at by a later statement,
-- which sees what the one before has written.
create or replace function eve.read_list(calls jsonb)
returns eve.list_calls
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_plain eve.list_calls;
begin
  select array_agg(t.place) as places, array_agg(t.request_id) as ids, array_agg(t.models[1]) as models,
    array_agg(t.class) as classes, array_agg(t.tokens) as tokens, array_agg(t.consumer_id) as consumers,
    array_agg(t.lease_ms) as leases, array_agg(t.counted) as counted, array_agg(t.endpoint) as endpoints,
    array_agg(t.trace_id) as traces, array_agg(t.metadata) as metadata, array_agg(t.request_hash) as hashes,
    array_agg(t.call_id) as call_ids, min(t.deadline) as deadline
  into v_plain
  from rows from (
    jsonb_to_recordset(read_list.calls) as (
      request_id text, models text[], tokens integer, consumer_id uuid, class text, max_wait_ms integer, attempt integer,
      exclude_keys uuid[], avoid_keys uuid[], lease_ms integer, token_id uuid, metadata jsonb, counted boolean, endpoint text,
      trace_id text, request_hash text, deadline timestamptz, call_id uuid
    )
  ) with ordinality as t (
    request_id, models, tokens, consumer_id, class, max_wait_ms, attempt, exclude_keys, avoid_keys, lease_ms, token_id, metadata,
    counted, endpoint, trace_id, request_hash, deadline, call_id, place
  )
  where t.attempt = 1 and t.token_id is null and t.tokens >= 0 and cardinality(t.models) between 1 and 10
    and length(t.request_id) between 1 and 200 and t.class in ('interactive', 'batch') and t.max_wait_ms between 0 and 3600000
    and t.lease_ms between 100 and 3600000 and t.exclude_keys = '{}' and t.avoid_keys = '{}'
    and (t.metadata = '{}' or length(t.metadata::text) <= 16384)
    -- As eve.check_call has it.
    and (length(t.endpoint) > 40 or length(t.trace_id) > 200 or length(t.request_hash) > 200) is not true
    and (clock_timestamp() > t.deadline) is not true
    and pg_try_advisory_xact_lock(
      hashtextextended(coalesce(t.consumer_id::text, '00000000-0000-0000-0000-000000000000') || t.request_id, 0)
    );
  return v_plain;
end;
$$;

-- A lane for each of those that may be made, have not been made before, and seem to find room at this instant. Locks the lanes, and waits
-- for none.
create or replace function eve.choose_for_list(plain eve.list_calls, only_lanes bigint[], now_ms bigint)
returns eve.list_choice
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_chosen eve.list_choice;
begin
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
      f.paced[place.of] as paced, f.starts_left[place.of] as starts_left, f.tokens_left[place.of] as tokens_left, f.even_share,
      pool.pace, pool.contended, size.expected,
      ceil(size.expected * case when not a.counted then f.estimate_ceiling else 1 end)::bigint as booked,
      -- Which of the lane's calls this is.
      1 + (a.nth - 1) / cardinality(f.lanes) as nth
    from (
      -- By model and class.
      select t.model, case when c.max_class = 'batch' then 'batch' else t.class end as class, count(*) as calls,
        sum(count(*)) over (partition by t.model)::bigint as calls_of_model,
        array_agg(t.asked) as asked, array_agg(t.tokens) as tokens, array_agg(t.counted) as counted,
        array_agg(coalesce(c.capture, (select b.capture from eve.consumers b where b.id = v_project))) as captures
      from unnest(plain.models, plain.classes, plain.tokens, plain.consumers, plain.counted, plain.ids)
        with ordinality as t (model, class, tokens, consumer_id, counted, request_id, asked)
      left join lateral (select b.* from eve.consumers b where b.id = t.consumer_id offset 0) c on true
      where
        -- Consumers with a budget go by themselves.
        (
          t.consumer_id is null
          or c.is_active and 'llm' = any (c.scopes) and c.rpm is null and c.requests_per_day is null and c.tokens_per_day is null
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
          case when g.class = 'batch' or greatest(max(l.pace_ms), max(l.token_pace_ms)) > now_ms - min(o.interval_ms) then
            eve.spread_ms(array_agg(o.lane_id), min(o.interval_ms), 60000 + min((o.limits).guard_ms), now_ms)
          end
        )::eve.pool_pace as pace,
        bool_or(exists (
          select
          from eve.inflight i
          where i.model = o.served and i.state = 'waiting' and i.start_ms > now_ms - 1500
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
        array_agg(free.starts_left) as starts_left, array_agg(free.tokens_left) as tokens_left,
        min(free.estimate_factor) as estimate_factor, min(free.estimate_ceiling) as estimate_ceiling,
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
              when 'batch' then not eve.may_burst(
                l.lane, o.limits, (select ceil(sum(t) * m.estimate_factor)::bigint from unnest(g.tokens) t), now_ms, g.calls_of_model
              )
              else greatest((pool.pace).pace_ms, (pool.pace).token_pace_ms) > now_ms - coalesce((pool.pace).interval_ms, 0)
            end as paced
          ) batch
          cross join lateral eve.room_left(l.lane, o.limits, g.class, pool.contended, g.calls, 1, now_ms) room
          where o.model = g.model and (only_lanes is null or o.lane_id = any (only_lanes))
            -- What has to hold when it is booked, too: no lane is locked for nothing.
            and (l.lane).blocked_until is null and (l.lane).interactive_tail_ms <= now_ms and o.stale_ms > now_ms
            and (l.lane).next_lease_ms > now_ms and (l.lane).span_number <= now_ms >> 16
            and (l.lane).day_ends_ms > now_ms + (o.limits).guard_ms and (l.lane).day_ends_ms <= now_ms + 90000000
            and ((l.lane).day_starts < (o.limits).rpd) is not false
            and (room.starts < 1 or room.tokens < 1) is not true
            and (
              g.class = 'interactive'
              or not pool.contended
                and (not batch.paced or g.calls = 1 and eve.pace_allows(pool.pace) <= now_ms)
            )
          order by (l.lane).day_starts, (l.lane).turns, (l.lane).id
          offset 0
        ) loaded
        -- `case` sees to it that no lane is locked before that is known.
        where case
          when loaded.lanes = 1 or loaded.ahead <= 4 or loaded.ahead > 64
            then pg_try_advisory_xact_lock(1163281713, loaded.lane_id::integer)
        end
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
  return v_chosen;
end;
$$;

-- One of the lanes of the models that are asked for, to be waited for where somebody is at each of them.
create or replace function eve.lane_to_wait_for(models text[], now_ms bigint)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
begin
  return (
    select r.lane_id
    from eve.routes r
    join eve.lanes l on l.id = r.lane_id
    where r.model = any (lane_to_wait_for.models) and l.blocked_until is null
      -- Or there is nothing to wait for: a refusal holds up nobody.
      and l.interactive_tail_ms <= now_ms and eve.has_room(l, r.limits, 'interactive', false, 1, 0, now_ms)
    order by random()
    limit 1
  );
end;
$$;
