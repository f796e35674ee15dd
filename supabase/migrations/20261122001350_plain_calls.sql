-- A plain call that can start at this instant, booked in two statements: the fast path of public.eve_reserve, and of lists of one. It
-- books only what the steps of eve_reserve would book at once, with the same predicate (eve.has_room) and the same order of locks. For
-- the rest it answers null, has written nothing and locked only the request's id, and those steps follow.
--
-- What the steps cost is not their work: PL/pgSQL and the executor set up each expression and query again in every transaction, and the
-- steps enter some 30 functions for a granted call. So what is here are few expressions: it takes plain arguments (a row of them is
-- taken apart again in each), looks a thing up once, and makes no function of what stands in one place.

-- Where a plain call may be booked: see eve.plain_lane.
do $$
begin
  if to_regtype('eve.plain_choice') is null then
    create type eve.plain_choice as (
      class text,
      capture boolean,
      contended boolean,
      paced boolean,
      booked bigint,
      turns bigint,
      pace_ms bigint,
      token_pace_ms bigint,
      lane_id bigint,
      served text,
      lanes bigint,
      stale_ms bigint,
      limits eve.lane_limits,
      bucket_ms integer,
      step_ms double precision,
      credit double precision,
      token_ms double precision,
      key_ids uuid[],
      answers jsonb[]
    );
  end if;
end;
$$;
comment on type eve.plain_choice is 'Where a plain call may be booked. booked: its tokens; turns: the lane''s when it was chosen; step_ms: what its start adds to the pace, where it is paced; credit: as eve.next_pace has it; paces as eve.pool_pace, the others as eve.routes had them.';

-- The least loaded lane that seems to have room for a plain call at now_ms and that nobody else is booking; locked, where the model has
-- several. Nulls: there is none, or its consumer has a budget, or the request was made before.
create or replace function eve.plain_lane(
  consumer_id uuid, request_id text, models text[], class text, tokens integer, counted boolean, now_ms bigint
)
returns eve.plain_choice
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_choice eve.plain_choice;
begin
  select free.class, free.capture, state.contended, state.paced, free.booked, (free.lane).turns, free.pace_ms, free.token_pace_ms,
    free.lane_id, free.served, free.lanes, free.stale_ms, free.limits, free.bucket_ms,
    case
      when state.paced then eve.spread_ms(
        array(select r.lane_id from eve.routes r where r.model = plain_lane.models[1]), free.interval_ms,
        60000 + (free.limits).guard_ms, plain_lane.now_ms
      )
    end,
    case when free.token_ms * free.booked > free.interval_ms then 3 else 0.5 end, free.token_ms, free.key_ids, free.answers
  into v_choice
  from (
    select c.capture, l.lane, m.expected, r.*,
      case when c.max_class = 'batch' and c.id <> '00000000-0000-0000-0000-000000000000' then 'batch' else plain_lane.class end as class,
      ceil(m.expected * case when not plain_lane.counted then r.estimate_ceiling else 1 end)::bigint as booked,
      max((l.lane).pace_ms) over () as pace_ms, max((l.lane).token_pace_ms) over () as token_pace_ms,
      max((l.lane).batch_start_ms) over () as batch_start_ms, (l.lane).day_starts - min((l.lane).day_starts) over () as ahead
    from eve.consumers c
    cross join eve.routes r
    -- `offset 0`: each is looked up by its key, whatever size the tables had when the plan was made.
    cross join lateral (select b as lane from eve.lanes b where b.id = r.lane_id offset 0) l
    cross join lateral (
      select ceil(plain_lane.tokens * case when plain_lane.counted then 1 else b.estimate_factor end)::bigint as expected
      from public.google_ai_model_limits b
      where b.model = r.served
      offset 0
    ) m
    where r.model = plain_lane.models[1] and c.id = plain_lane.consumer_id
      -- Consumers with a budget go step by step. The project itself has none.
      and (
        c.id = '00000000-0000-0000-0000-000000000000'
        or c.is_active and 'llm' = any (c.scopes) and c.rpm is null and c.requests_per_day is null and c.tokens_per_day is null
          and (c.models is null or plain_lane.models[1] = any (c.models))
      )
      -- Of the other names, too, it is said when they cannot be right.
      and (
        cardinality(plain_lane.models) = 1
        or not exists (select from unnest(plain_lane.models) n where (length(n) between 1 and 200) is not true)
      )
      and not exists (
        select from eve.inflight i where i.consumer_id = plain_lane.consumer_id and i.request_id = plain_lane.request_id
      )
      and not exists (
        select from eve.request_keys k where k.consumer_id = plain_lane.consumer_id and k.request_id = plain_lane.request_id
      )
    order by (l.lane).day_starts, (l.lane).turns, (l.lane).id
    offset 0
  ) free
  cross join lateral (
    select exists (
        select
        from eve.inflight i
        where i.model = free.served and i.state = 'waiting' and i.start_ms > plain_lane.now_ms - 1500
      ) as contended,
      case free.class
        -- Alone on lanes that are nearly empty batch goes as it comes; otherwise one by one.
        when 'batch' then not eve.may_burst(free.lane, free.limits, free.booked, plain_lane.now_ms)
        else greatest(free.pace_ms, free.token_pace_ms) > plain_lane.now_ms - coalesce(free.interval_ms, 0)
      end as paced
    offset 0
  ) state
  where (free.lane).blocked_until is null and (free.lane).interactive_tail_ms <= plain_lane.now_ms and free.stale_ms > plain_lane.now_ms
    -- The rest in one `case`, which tries it in this order: conditions that stand side by side are tried in any, and a lane that is
    -- locked and then passed over stays locked. A refusal holds up nobody, and what follows step by step has no lane in hand.
    and case
      when (
        free.class = 'interactive'
        -- Batch goes behind nobody who waits; and a large prompt has to be counted first.
        or not state.contended and (plain_lane.counted is distinct from false or free.expected <= free.even_share)
          and (
            not state.paced
            or eve.pace_allows(
              row(
                free.interval_ms, free.token_ms, free.pace_ms, free.token_pace_ms, free.batch_start_ms, (free.limits).batch_floor, null
              )::eve.pool_pace
            ) <= plain_lane.now_ms
          )
      ) is not true then false
      when eve.has_room(free.lane, free.limits, free.class, state.contended, 1, free.booked, plain_lane.now_ms) is not true then false
      when free.lanes = 1 then true
      -- Nearly even lanes are kept even; one far behind the others is not waited for.
      when free.ahead <= 4 or free.ahead > 64 then pg_try_advisory_xact_lock(1163281713, free.lane_id::integer)
      else false
    end
  limit 1;
  return v_choice;
end;
$$;

-- The answer to a plain call that can start at this instant; null: ask step by step. Plain is a first attempt for the first model that it
-- names, with no key to avoid and no budget of its token or its consumer. Who calls it has looked at what is not given here.
create or replace function eve.reserve_plain(
  request_id text, models text[], tokens integer, consumer_id uuid, class text, max_wait_ms integer, lease_ms integer, endpoint text,
  trace_id text, metadata jsonb, request_hash text, counted boolean, deadline timestamptz, call_id uuid
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer_id constant uuid := coalesce(reserve_plain.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_now bigint;
  v_began timestamptz;
  v_bucket_ms bigint;
  v_batch integer;
  c eve.plain_choice;
  v_booked record;
begin
  -- Anything odd goes step by step, which says what is wrong with it. Last the lock that makes the same request twice at once come one
  -- after the other; the second does not wait here.
  if (
    reserve_plain.tokens >= 0 and cardinality(reserve_plain.models) between 1 and 10
      and length(reserve_plain.models[1]) between 1 and 200 and length(reserve_plain.request_id) between 1 and 200
      and reserve_plain.class in ('interactive', 'batch') and reserve_plain.max_wait_ms between 0 and 3600000
      and reserve_plain.lease_ms between 100 and 3600000 and (
        length(reserve_plain.endpoint) > 40 or length(reserve_plain.trace_id) > 200 or length(reserve_plain.request_hash) > 200
        or reserve_plain.metadata <> '{}' and length(reserve_plain.metadata::text) > 16384
        or clock_timestamp() > reserve_plain.deadline
      ) is not true
      and pg_try_advisory_xact_lock(hashtextextended(v_consumer_id::text || reserve_plain.request_id, 0))
  ) is not true then
    return null;
  end if;
  -- A subtransaction, which writes nothing and so costs no number: where nothing is booked, the lane is free again.
  begin
    c := eve.plain_lane(
      v_consumer_id, reserve_plain.request_id, reserve_plain.models, reserve_plain.class, reserve_plain.tokens,
      reserve_plain.counted, eve.clock_ms()
    );
    if c.lane_id is null then
      return null;
    elsif c.lanes = 1 then
      perform pg_advisory_xact_lock(1163281713, c.lane_id::integer);
    end if;
    v_now := eve.clock_ms();
    -- All that has to be true for it to start now. Nobody else books on it from here on; a settlement may change it, as for eve.book.
    if not exists (
      select
      from eve.lanes l
      where l.id = c.lane_id
        -- What was seen when the lane was chosen still holds, nearly: or all who were held up since would load the same one.
        and (c.lanes = 1 or l.turns <= c.turns + 3) and l.interactive_tail_ms <= v_now
        and l.span_number <= v_now >> 16 and l.blocked_until is null and c.stale_ms > v_now
        -- The day of the booking before, but for the guard at both of its ends.
        and l.day_ends_ms > v_now + (c.limits).guard_ms and l.day_ends_ms <= v_now + 90000000
        and (l.day_ends_ms - v_now <= 82000000 or eve.next_pacific_midnight(v_now - (c.limits).guard_ms) = l.day_ends_ms)
        and ((c.limits).rpd is null or eve.day_left(l, c.limits, c.class, c.contended, v_now, l.day_ends_ms) >= 1)
        and eve.has_room(l, c.limits, c.class, c.contended, 1, c.booked, v_now)
    ) then
      raise exception 'release the lane' using errcode = 'EV001';
    end if;
  exception
    when sqlstate 'EV001' then
      return null;
  end;
  v_began := clock_timestamp();
  v_batch := (c.class = 'batch')::integer;
  v_bucket_ms := (v_now + c.bucket_ms - 1) / c.bucket_ms * c.bucket_ms;
  with lane as (
    -- All that it changes, as eve.with_start has it.
    update eve.lanes l
    set interactive_tail_ms = case v_batch when 0 then v_now else l.interactive_tail_ms end,
      batch_start_ms = case v_batch when 1 then v_now else l.batch_start_ms end,
      pace_ms = case when c.paced then eve.next_pace(greatest(l.pace_ms, c.pace_ms), v_now, c.step_ms, c.credit) else l.pace_ms end,
      token_pace_ms = case
        when c.paced then eve.next_pace(greatest(l.token_pace_ms, c.token_pace_ms), v_now, c.token_ms * c.booked, 3)
        else l.token_pace_ms
      end,
      day_starts = l.day_starts + 1, day_batch_starts = l.day_batch_starts + v_batch, span_number = v_now >> 16,
      span_starts = case l.span_number when v_now >> 16 then l.span_starts else 0 end + 1,
      span_tokens = case l.span_number when v_now >> 16 then l.span_tokens else 0 end + c.booked,
      previous_span_starts = case (v_now >> 16) - l.span_number when 0 then l.previous_span_starts when 1 then l.span_starts else 0 end,
      previous_span_tokens = case (v_now >> 16) - l.span_number when 0 then l.previous_span_tokens when 1 then l.span_tokens else 0 end,
      turns = l.turns + 1, next_lease_ms = least(l.next_lease_ms, v_now + reserve_plain.lease_ms)
    where l.id = c.lane_id
    returning l.day_ends_ms, l.day_starts, l.day_batch_starts, l.next_lease_ms, l.turns - 1 as turn,
      l.span_starts + l.previous_span_starts as span_starts, l.span_tokens + l.previous_span_tokens as span_tokens
  ),
  -- Nobody else adds buckets to the lane now. `on conflict` writes a fifth more to the log, for every call.
  bucket as (
    insert into eve.lane_buckets (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
    select c.lane_id, v_bucket_ms, 1, c.booked, v_batch, v_batch * c.booked
    from lane
    where not exists (select from eve.lane_buckets b where b.lane_id = c.lane_id and b.at_ms = v_bucket_ms)
    returning true as is_new
  ),
  request as (
    insert into eve.inflight (
      request_no, consumer_id, request_id, class, endpoint, requested_model, model, attempt, state, lane_id, key_id, start_ms,
      bucket_ms, day_ends_ms, tokens, estimated_tokens, lease_until, received_at, wait_ms, trace_id, metadata, request_hash, call_id
    )
    select nextval('eve.request_no'), v_consumer_id, reserve_plain.request_id, c.class, reserve_plain.endpoint,
      reserve_plain.models[1], c.served, 1, 'reserved', c.lane_id, c.key_ids[1 + lane.turn % cardinality(c.key_ids)], v_now,
      v_bucket_ms, lane.day_ends_ms, c.booked, reserve_plain.tokens,
      to_timestamp((v_now + reserve_plain.lease_ms) / 1000::double precision), to_timestamp(v_now / 1000::double precision), 0,
      reserve_plain.trace_id, coalesce(reserve_plain.metadata, '{}'), reserve_plain.request_hash, reserve_plain.call_id
    from lane
    returning request_no
  )
  select lane.*, request.request_no, (select bucket.is_new from bucket) as has_new_bucket, recent.starts, recent.tokens
  into v_booked
  from lane
  cross join request
  left join lateral (
    -- What is left of a small lane is said exactly; this start is not among them yet. On a fast one two spans are close enough.
    select coalesce(sum(b.starts), 0) + 1 as starts, coalesce(sum(b.tokens), 0) + c.booked as tokens
    from eve.lane_buckets b
    where (c.limits).rpm <= 600 and b.lane_id = c.lane_id and b.at_ms > v_now - 60000 - (c.limits).guard_ms and b.at_ms <= v_now
    having (c.limits).rpm <= 600
  ) recent on true;
  -- With everything in hand, since that may have been waited for.
  if clock_timestamp() > reserve_plain.deadline then
    perform eve.stop_when_late(reserve_plain.deadline);
  end if;
  if v_booked.has_new_bucket is null then
    update eve.lane_buckets b
    set starts = b.starts + 1, tokens = b.tokens + c.booked, batch_starts = b.batch_starts + v_batch,
      batch_tokens = b.batch_tokens + v_batch * c.booked
    where b.lane_id = c.lane_id and b.at_ms = v_bucket_ms;
  end if;
  if v_booked.turn % 16 = 0 then -- Instants that no window reaches any more.
    delete from eve.lane_buckets b where b.lane_id = c.lane_id and b.at_ms < v_now - 70000;
  end if;
  if v_booked.next_lease_ms <= v_now then
    perform eve.release_expired(c.lane_id, v_now, v_now + reserve_plain.lease_ms);
  end if;
  return eve.granted(
    c.answers[1 + v_booked.turn % cardinality(c.key_ids)], v_booked.request_no, 1, c.class, c.capture, c.booked,
    -eve.held_up_ms(v_began), v_now, reserve_plain.lease_ms,
    eve.limits_json(
      c.limits, coalesce(v_booked.starts, v_booked.span_starts)::bigint, coalesce(v_booked.tokens, v_booked.span_tokens)::bigint,
      least(
        (c.limits).rpd - v_booked.day_starts,
        case v_batch when 1 then (eve.class_share(c.limits, 'batch', c.contended)).day_starts - v_booked.day_batch_starts end
      ),
      60000 + (c.limits).guard_ms, v_booked.day_ends_ms - v_now
    )
  );
end;
$$;
