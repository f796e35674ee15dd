-- Booking a start on a lane, giving it back, and the pace and the queue of batch.

-- How fast batch may start on all lanes of a model together, and when the last starts were.
do $$
begin
  if to_regtype('eve.pool_pace') is null then
    create type eve.pool_pace as (
      interval_ms double precision,
      token_ms double precision,
      pace_ms bigint,
      token_pace_ms bigint,
      batch_start_ms bigint,
      batch_floor double precision,
      spread_ms double precision
    );
  end if;
end;
$$;
comment on type eve.pool_pace is 'Of all lanes that serve a model: the window over their starts a minute, and over their tokens (null: unlimited); the latest pace and batch start of them; spread_ms: as eve.spread_ms says, where batch is paced.';

-- Batch that competes for lanes is paced: one start for each start interval of all the model's lanes together, so that places
-- come free one by one, and an interactive caller waits for the next one, not for the end of somebody's burst.
--
-- What was tried, in a simulation of lanes of 5, 15 and 30 starts a minute in 1, 2 and 5 projects (waits in start intervals of the
-- pool, interactive callers at 5, 25 and 50 % of it at regular times beside saturating batch):
--   Batch books ahead and leaves a share that is learned from what interactive callers got (the first edition): with callers at
--     half of the capacity a third unanswered, the others after 15 intervals.
--   Batch asks when its turn has come, unpaced: 15 intervals at the median, since starts keep the bursts in which they first came.
--   A pace for each lane by itself: lanes of a pool drift into step, and two places come free at once.
--   A fixed place kept free for interactive callers: none waits, and one of 30 places is never used (3.3 %; the aim is 1.5).
--   This one, 0.8 % slower than the limit: a median of 0 to 0.5 and a 95th percentile below 1.4; 98.1 to 98.9 % used, guard
--     included. Each place is free for half a second before batch takes it, which is where the wait below half an interval
--     comes from. Without the 0.8 % the median is half an interval and a little; with 2 % use falls to 97.5 %.
--   Half an interval of credit for a batch call that asks late: without it the lateness of each adds up; with two intervals the
--     95th percentile on small lanes doubles. Where a prompt takes more of the tokens than of the starts, three: prompts differ in
--     size, so what falls free fits the next one late, and what it is late by is lost at every turn of the window.
--     bench:quota, tokens, batch only, 20 minutes, 1 and 2 projects, means of 3 seeds: 98.3 and 97.9 % used with one interval, 98.0 and
--     98.4 with two, 98.4 and 98.7 with three (5 projects: 99.1), 98.4 and 98.7 with six, 96.7 and 99.0 with twelve, which is hardly a pace.
create or replace function eve.next_pace(
  pace_ms bigint, now_ms bigint, interval_ms double precision, credit double precision default 0.5
)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case
    when next_pace.interval_ms is null then next_pace.pace_ms
    -- Never far ahead: interactive callers who have booked a minute ahead must not stop batch for longer.
    else least(
      greatest(next_pace.pace_ms, next_pace.now_ms - (next_pace.interval_ms * next_pace.credit)::bigint)
        + (next_pace.interval_ms * case when next_pace.credit > 0.5 then 1.002 else 1.008 end)::bigint,
      next_pace.now_ms + greatest(20000, (2 * next_pace.interval_ms)::bigint)
    )
  end;
end;
$$;

-- How far apart starts on all lanes of a model have to be, in milliseconds, so that the places which are free last until the next
-- ones fall free: after a burst they do not for a minute, and callers who come towards its end would wait for that long.
create or replace function eve.spread_ms(lane_ids bigint[], interval_ms double precision, window_ms bigint, now_ms bigint)
returns double precision
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select greatest(
      spread_ms.interval_ms,
      max(
        (used.at_ms + spread_ms.window_ms - spread_ms.now_ms)
          -- A tenth of what is free to spare; and the first of those that fall free then may be waited for.
          / greatest(0.9 * (spread_ms.window_ms / spread_ms.interval_ms - used.all_starts) + used.freed_before + 1, 1)
      )
    )
    from (
      select b.at_ms, sum(b.starts) over () as all_starts,
        coalesce(sum(b.starts) over (order by b.at_ms groups between unbounded preceding and 1 preceding), 0) as freed_before
      from eve.lane_buckets b
      where b.lane_id = any (spread_ms.lane_ids) and b.at_ms > spread_ms.now_ms - spread_ms.window_ms
    ) used
  );
end;
$$;

-- When batch that is paced may start next. Its floor is its own, whatever interactive callers take; a quarter sooner than even,
-- since it also has to wait for a place.
create or replace function eve.pace_allows(pace eve.pool_pace)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  return case
    when (pace).interval_ms is null and (pace).token_ms is null then 0
    else least(
      greatest((pace).pace_ms, (pace).token_pace_ms),
      (pace).batch_start_ms + (0.75 * (pace).interval_ms / nullif((pace).batch_floor, 0))::bigint
    )
  end;
end;
$$;

-- Nothing depends on a schedule: anyone who books on a lane also closes what expired on it. After the buckets, since closing counts
-- usage, and settlements take buckets before counters. The lane is the caller's, so no other reservation of it is being made;
-- the caller's own lease ends at new_lease_ms; its request, if it is one that goes on (`own_request_no`), may have run out while it
-- waited for the lane, and is not closed under it.
create or replace function eve.release_expired(
  lane_id bigint, now_ms bigint, new_lease_ms bigint default null, own_request_no bigint default null
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if exists (select from eve.lanes l where l.id = release_expired.lane_id and l.next_lease_ms > release_expired.now_ms) then
    return;
  end if;
  perform eve.expire_leases(release_expired.lane_id, 100, release_expired.own_request_no);
  -- Looked for once a second at most, however many have expired: who comes in between shall not pay for them.
  update eve.lanes l
  set next_lease_ms = least(
    release_expired.new_lease_ms,
    (
      select case
        when count(*) > 0
          then greatest(release_expired.now_ms + 1000, floor(extract(epoch from min(i.lease_until)) * 1000)::bigint)
        else 9000000000000000000
      end
      from eve.inflight i
      where i.lane_id = release_expired.lane_id and i.state <> 'waiting'
    )
  )
  where l.id = release_expired.lane_id;
end;
$$;

-- A lane's row with one more start in its day, its spans and its paces: what a booking changes in it.
create or replace function eve.with_start(
  lane eve.lanes, class text, start_ms bigint, tokens bigint, now_ms bigint, lease_ms integer, pace eve.pool_pace, paced boolean
)
returns eve.lanes
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lane eve.lanes := with_start.lane;
  v_batch constant integer := case with_start.class when 'batch' then 1 else 0 end;
  v_span constant bigint := with_start.start_ms >> 16;
  v_day_ends bigint;
begin
  if v_lane.day_ends_ms <= with_start.now_ms or v_lane.day_ends_ms - with_start.now_ms > 90000000 then
    v_day_ends := eve.next_pacific_midnight(with_start.now_ms);
    if v_lane.day_ends_ms > 0 and eve.next_pacific_midnight(v_lane.day_ends_ms) = v_day_ends then
      v_lane.day_starts := v_lane.next_day_starts;
      v_lane.day_batch_starts := v_lane.next_day_batch_starts;
    else
      v_lane.day_starts := 0;
      v_lane.day_batch_starts := 0;
    end if;
    v_lane.next_day_starts := 0;
    v_lane.next_day_batch_starts := 0;
    v_lane.day_ends_ms := v_day_ends;
  end if;
  if with_start.start_ms < v_lane.day_ends_ms then
    v_lane.day_starts := v_lane.day_starts + 1;
    v_lane.day_batch_starts := v_lane.day_batch_starts + v_batch;
  else
    v_lane.next_day_starts := v_lane.next_day_starts + 1;
    v_lane.next_day_batch_starts := v_lane.next_day_batch_starts + v_batch;
  end if;

  if v_span = v_lane.span_number then
    v_lane.span_starts := v_lane.span_starts + 1;
    v_lane.span_tokens := v_lane.span_tokens + with_start.tokens;
  elsif v_span < v_lane.span_number then
    v_lane.previous_span_starts := v_lane.previous_span_starts + 1;
    v_lane.previous_span_tokens := v_lane.previous_span_tokens + with_start.tokens;
  else
    v_lane.previous_span_starts := case v_span - v_lane.span_number when 1 then v_lane.span_starts else 0 end;
    v_lane.previous_span_tokens := case v_span - v_lane.span_number when 1 then v_lane.span_tokens else 0 end;
    v_lane.span_number := v_span;
    v_lane.span_starts := 1;
    v_lane.span_tokens := with_start.tokens;
  end if;

  if v_batch = 1 then
    v_lane.batch_start_ms := greatest(v_lane.batch_start_ms, with_start.start_ms);
  else
    v_lane.interactive_tail_ms := greatest(v_lane.interactive_tail_ms, with_start.start_ms);
  end if;
  if with_start.paced then
    v_lane.pace_ms := eve.next_pace(
      greatest((pace).pace_ms, v_lane.pace_ms), with_start.now_ms, coalesce((pace).spread_ms, (pace).interval_ms),
      case when (pace).token_ms * with_start.tokens > (pace).interval_ms then 3 else 0.5 end -- The tokens are what is scarce.
    );
    v_lane.token_pace_ms := eve.next_pace(
      greatest((pace).token_pace_ms, v_lane.token_pace_ms), with_start.now_ms, (pace).token_ms * with_start.tokens, 3
    );
  end if;
  v_lane.turns := v_lane.turns + 1;
  v_lane.next_lease_ms := least(v_lane.next_lease_ms, with_start.start_ms + with_start.lease_ms);
  -- A block that is over is forgotten: lists look at no clock before they have chosen a lane.
  if v_lane.blocked_until <= to_timestamp(with_start.now_ms / 1000.0) then
    v_lane.blocked_until := null;
    v_lane.blocked_reason := null;
  end if;
  return v_lane;
end;
$$;

-- The lock that anyone who books a start on a lane, or gives one back, has until its transaction ends. It comes before the lane's row,
-- and lists look at no row before they have it: so those who book do not wait for each other's rows.
create or replace function eve.lock_lane(lane_id bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(1163281713, lock_lane.lane_id::integer);
end;
$$;

-- How long a booking has stood before a settlement's lock on its lane's row, in milliseconds: its start has passed by so much, and its
-- caller books it again if that is more than the guard. Nothing, as long as it is within what every statement may take.
create or replace function eve.held_up_ms(began timestamptz)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_held_ms constant bigint := floor(extract(epoch from clock_timestamp() - held_up_ms.began) * 1000)::bigint;
begin
  return case when v_held_ms > 100 then v_held_ms else 0 end;
end;
$$;

-- How long a consumer has to wait until it may book another start ahead on a lane; null: it may. It has as many starts, or tokens, of
-- those that are yet to come as one consumer may have: waiting_share_percent of what the lane has in a minute, at least one start. So
-- nobody who keeps connections open can fill the coming minutes for everybody else. Starts at once do not count, so one that is
-- alone still has the whole lane; and batch, which waits in the queue, books nothing ahead.
create or replace function eve.share_wait(
  lane_id bigint, limits eve.lane_limits, consumer_id uuid, class text, tokens bigint, now_ms bigint
)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_share constant double precision := (
    select s.value / 100.0 from eve.settings s where s.name = 'waiting_share_percent' and s.value > 0
  );
  v_ahead record;
begin
  if v_share is null then
    return null;
  end if;
  select count(*) as starts, coalesce(sum(i.tokens), 0) as tokens, min(i.start_ms) as first_ms
  into v_ahead
  from eve.inflight i
  where i.lane_id = share_wait.lane_id and i.lease_until > to_timestamp(share_wait.now_ms / 1000.0)
    and i.consumer_id = share_wait.consumer_id and i.class = share_wait.class and i.state = 'reserved'
    and i.start_ms > share_wait.now_ms;
  if v_ahead.starts >= greatest(floor((limits).rpm * v_share + 1e-6), 1)
    or v_ahead.starts > 0 and v_ahead.tokens + share_wait.tokens > (limits).tpm * v_share then
    return v_ahead.first_ms - share_wait.now_ms;
  end if;
  return null;
end;
$$;

-- Takes a slot on one lane, or answers when it could: the one place that writes a booking, apart from lists. `queued_ms` and
-- `request_no` are batch's place in the queue; `latest_wait_ms` is 0 for batch, which never books ahead. `consumer_id`: whose share of
-- the starts to come it is; null: its start is booked again, and was counted. Where nothing is booked, the lane is free again.
create or replace function eve.book(
  lane_id bigint,
  limits eve.lane_limits,
  pace eve.pool_pace,
  class text,
  contended boolean,
  tokens bigint,
  queued_ms bigint,
  request_no bigint,
  consumer_id uuid,
  latest_wait_ms bigint,
  lease_ms integer,
  out booked boolean,
  out start_ms bigint,
  out bucket_ms bigint,
  out day_ends_ms bigint,
  out wait_ms bigint,
  out turn bigint,
  out used_starts bigint,
  out used_tokens bigint,
  out day_left bigint,
  out limit_name text
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lane eve.lanes;
  v_now bigint;
  v_width constant integer := case when (limits).rpm <= 600 then 1 else 100 end;
  v_batch constant boolean := book.class = 'batch';
  v_fit record;
  v_paced boolean;
  v_began timestamptz;
begin
  -- A subtransaction, which writes nothing and so costs no number: what it has locked is free again where nothing is booked.
  begin
    perform eve.lock_lane(book.lane_id);
    select * into v_lane from eve.lanes l where l.id = book.lane_id;
    v_now := eve.clock_ms();
    select * into v_fit
    from eve.earliest_start(
      v_lane, limits, book.class, book.contended, book.tokens, v_now, case when v_batch then 0 else v_lane.interactive_tail_ms end
    );
    start_ms := v_fit.start_ms;
    wait_ms := start_ms - v_now;
    limit_name := v_fit.limit_name;
    day_left := v_fit.day_left - 1;
    booked := start_ms is not null and wait_ms <= book.latest_wait_ms
      and not (v_batch and (eve.queued_before(v_lane.model, book.lane_id, book.queued_ms, book.request_no, v_now, null, null)).calls > 0)
      and (
        wait_ms <= 0
        or eve.share_wait(book.lane_id, limits, book.consumer_id, book.class, book.tokens, v_now) is null
      );
    if not booked then
      raise exception 'release the lane' using errcode = 'EV001';
    end if;
  exception
    when sqlstate 'EV001' then
      return;
  end;

  v_paced := case
    -- Alone on lanes that are nearly empty batch goes as it comes.
    when v_batch then book.contended or not eve.may_burst(v_lane, limits, book.tokens, v_now)
    else greatest((pace).pace_ms, (pace).token_pace_ms) > v_now - coalesce((pace).interval_ms, 0)::bigint
  end;
  v_began := clock_timestamp();
  -- In one statement, with the row as it is by then: settlements may have changed it since. To lock it first writes 54 bytes to the log.
  update eve.lanes l
  set (
      blocked_until, blocked_reason, interactive_tail_ms, batch_start_ms, pace_ms, token_pace_ms, day_ends_ms, day_starts,
      day_batch_starts, next_day_starts, next_day_batch_starts, span_number, span_starts, span_tokens, previous_span_starts,
      previous_span_tokens, turns, next_lease_ms
    ) = (
      select w.blocked_until, w.blocked_reason, w.interactive_tail_ms, w.batch_start_ms, w.pace_ms, w.token_pace_ms, w.day_ends_ms,
        w.day_starts, w.day_batch_starts, w.next_day_starts, w.next_day_batch_starts, w.span_number, w.span_starts,
        w.span_tokens, w.previous_span_starts, w.previous_span_tokens, w.turns, w.next_lease_ms
      from eve.with_start(l, book.class, start_ms, book.tokens, v_now, book.lease_ms, pace, v_paced) w
    )
  where l.id = book.lane_id
  returning l.* into v_lane;
  wait_ms := wait_ms - eve.held_up_ms(v_began);
  turn := v_lane.turns - 1;
  day_ends_ms := v_lane.day_ends_ms;
  bucket_ms := (start_ms + v_width - 1) / v_width * v_width;

  -- Nobody else adds buckets to the lane now. `on conflict` writes a fifth more to the log, for every call.
  update eve.lane_buckets b
  set starts = b.starts + 1, tokens = b.tokens + book.tokens, batch_starts = b.batch_starts + v_batch::integer,
    batch_tokens = b.batch_tokens + v_batch::integer * book.tokens
  where b.lane_id = book.lane_id and b.at_ms = bucket_ms;
  if not found then
    insert into eve.lane_buckets (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
    values (book.lane_id, bucket_ms, 1, book.tokens, v_batch::integer, v_batch::integer * book.tokens);
  end if;
  -- Instants that no window reaches any more. Now and then, so that few calls pay for it.
  if turn % 16 = 0 then
    delete from eve.lane_buckets b where b.lane_id = book.lane_id and b.at_ms < v_now - 70000;
  end if;
  perform eve.release_expired(book.lane_id, v_now, start_ms + book.lease_ms, book.request_no);

  if (limits).rpm <= 600 then
    select coalesce(sum(b.starts), 0), coalesce(sum(b.tokens), 0)
    into used_starts, used_tokens
    from eve.lane_buckets b
    where b.lane_id = book.lane_id and b.at_ms > start_ms - 60000 - (limits).guard_ms and b.at_ms <= start_ms;
  else
    -- On a fast lane two spans are close enough, and err on the safe side.
    used_starts := v_lane.span_starts + v_lane.previous_span_starts;
    used_tokens := v_lane.span_tokens + v_lane.previous_span_tokens;
  end if;
end;
$$;

-- A booking that was never dispatched: its start, its place in the day and its place in the queue are free again. Bookings
-- made behind it keep their times.
create or replace function eve.give_back(running eve.inflight)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lane eve.lanes;
  v_batch constant integer := case (running).class when 'batch' then 1 else 0 end;
  v_tail bigint;
begin
  perform eve.lock_lane((running).lane_id);
  select * into v_lane from eve.lanes l where l.id = (running).lane_id for no key update;
  if v_batch = 0 and v_lane.interactive_tail_ms = (running).start_ms then
    select coalesce(max(i.start_ms), 0)
    into v_tail
    from eve.inflight i
    where i.lane_id = (running).lane_id and i.class = (running).class and i.state = 'reserved'
      and i.request_no <> (running).request_no;
  end if;
  update eve.lanes l
  set interactive_tail_ms = coalesce(v_tail, l.interactive_tail_ms),
    day_starts = l.day_starts
      - case when l.day_ends_ms = (running).day_ends_ms and (running).start_ms < l.day_ends_ms
          or l.day_ends_ms > (running).day_ends_ms and (running).start_ms >= (running).day_ends_ms then 1 else 0 end,
    day_batch_starts = l.day_batch_starts
      - case when l.day_ends_ms = (running).day_ends_ms and (running).start_ms < l.day_ends_ms
          or l.day_ends_ms > (running).day_ends_ms and (running).start_ms >= (running).day_ends_ms then v_batch else 0 end,
    next_day_starts = l.next_day_starts
      - case when l.day_ends_ms = (running).day_ends_ms and (running).start_ms >= l.day_ends_ms then 1 else 0 end,
    next_day_batch_starts = l.next_day_batch_starts
      - case when l.day_ends_ms = (running).day_ends_ms and (running).start_ms >= l.day_ends_ms then v_batch else 0 end,
    span_starts = l.span_starts - case when (running).start_ms >> 16 = l.span_number then 1 else 0 end,
    span_tokens = l.span_tokens - case when (running).start_ms >> 16 = l.span_number then (running).tokens else 0 end
  where l.id = (running).lane_id;
end;
$$;
