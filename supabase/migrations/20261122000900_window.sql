-- The window: may a call start on this lane now, and if not, when?
--
-- Sliding windows of a minute over starts and over input tokens, the Pacific day, and the shares of the two classes. eve.has_room
-- is the one predicate; everything that books asks it. Time is the database's clock, in milliseconds since 1970; a caller's clock
-- decides nothing.

-- What admission has to know of a lane beside its row: limits (null: unlimited) and how the classes share them.
do $$
begin
  if to_regtype('eve.lane_limits') is null then
    create type eve.lane_limits as (
      rpm integer,
      tpm integer,
      rpd integer,
      guard_ms bigint,
      batch_floor double precision,
      interactive_floor integer,
      interactive_reserve double precision,
      interactive_reserve_day double precision
    );
  end if;
end;
$$;
comment on type eve.lane_limits is 'Limits of a lane (starts and input tokens a minute, starts a Pacific day) and its model''s shares.';

-- A lane for each (quota project, model) that keys and models make possible. Called when a reservation finds one missing,
-- so that adding a key or a model is adding a row and nothing else.
create or replace function eve.ensure_lanes(model text)
returns void
language sql
volatile
set search_path = ''
as $$
  insert into eve.lanes (quota_project, model, day_ends_ms, day_starts)
  select k.quota_key, ensure_lanes.model, eve.next_pacific_midnight(eve.clock_ms()),
    -- What its keys have used today before there was a lane, as far as the counters tell.
    coalesce(sum(used.today), 0)
  from public.google_ai_api_keys k
  left join (
    select c.api_key_id, max(c.rpd_used) as today
    from public.google_ai_usage_counters c
    where c.model = ensure_lanes.model and c.day_bucket = eve.pacific_day(eve.clock_ms())
    group by c.api_key_id
  ) used on used.api_key_id = k.id
  group by k.quota_key
  order by k.quota_key -- Two that add the same lanes at once must not wait for each other.
  on conflict do nothing;
$$;

-- What one class may hold of a window and of a day. Batch leaves what the model's row keeps back for interactive callers
-- (of the minute nothing, unless the owner says so). Interactive callers leave the floor to batch, if batch is waiting
-- (`contended`). Either class keeps one start.
create or replace function eve.class_share(
  limits eve.lane_limits, class text, contended boolean, out starts bigint, out tokens bigint, out day_starts bigint
)
language plpgsql
immutable
set search_path = ''
as $$
begin
  if class_share.class = 'batch' then
    starts := (limits).rpm
      - greatest(floor((limits).rpm * (limits).interactive_reserve + 1e-6)::integer, (limits).interactive_floor);
    tokens := (limits).tpm - greatest(
      floor((limits).tpm * (limits).interactive_reserve + 1e-6)::bigint,
      (limits).interactive_floor::bigint * (limits).tpm / greatest(coalesce((limits).rpm, 60), 1)
    );
    day_starts := (limits).rpd - ceil((limits).rpd * (limits).interactive_reserve_day - 1e-6)::integer;
  else
    starts := (limits).rpm - case when class_share.contended then ceil((limits).rpm * (limits).batch_floor - 1e-6)::integer else 0 end;
    tokens := (limits).tpm - case when class_share.contended then ceil((limits).tpm * (limits).batch_floor - 1e-6)::bigint else 0 end;
    day_starts := (limits).rpd;
  end if;
  -- greatest() passes over null, which is no limit.
  if starts < 1 then
    starts := 1;
  end if;
  if tokens < 1 then
    tokens := 1;
  end if;
end;
$$;

-- How many more starts and tokens of a class fit a lane at an instant (null: any number). As soon as the wanted ones are known to
-- fit, it may say fewer than there are.
--
-- A bucket is dated at its end. The window is (t - w, t], t being the end of the bucket that the start falls in and
-- w = 60 s + guard + the width of a bucket - 1 ms, so that whatever the true instants within the buckets and whatever
-- jitter up to the guard, no 60 seconds see more than the limit. A start must fit the window that ends at itself, and every
-- window that ends at a start booked after it (interactive callers who wait have booked; batch never books ahead).
--
-- Tried and dropped: a fixed minute counter (twice the limit around its edge); one row per start without buckets (the
-- scan grows with the limit); a ring of 600 counters in the lane's row (5 KB rewritten per call).
create or replace function eve.room_left(
  lane eve.lanes, limits eve.lane_limits, class text, contended boolean, wanted_starts bigint, wanted_tokens bigint, at_ms bigint,
  out starts bigint, out tokens bigint
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Lanes of up to 600 starts a minute keep exact milliseconds; faster ones share buckets of 100 ms, which bounds the scan.
  v_width constant integer := case when (limits).rpm <= 600 then 1 else 100 end;
  v_window constant bigint := 60000 + (limits).guard_ms + v_width - 1;
  v_at constant bigint := (room_left.at_ms + v_width - 1) / v_width * v_width;
  v_share record;
  v_used record;
  v_later record;
begin
  if (limits).rpm is null and (limits).tpm is null then
    return;
  end if;
  v_share := eve.class_share(limits, room_left.class, room_left.contended);
  -- Two spans of 65.5 s cover any window: while their sum fits, nothing has to be looked up.
  if (lane).span_number <= room_left.at_ms >> 16 and (lane).interactive_tail_ms <= room_left.at_ms then
    starts := v_share.starts - case (room_left.at_ms >> 16) - (lane).span_number
      when 0 then (lane).span_starts + (lane).previous_span_starts when 1 then (lane).span_starts else 0
    end;
    tokens := v_share.tokens - case (room_left.at_ms >> 16) - (lane).span_number
      when 0 then (lane).span_tokens + (lane).previous_span_tokens when 1 then (lane).span_tokens else 0
    end;
    if (starts < room_left.wanted_starts or tokens < room_left.wanted_tokens) is not true then
      return;
    end if;
  end if;
  select coalesce(sum(b.starts), 0) as starts, coalesce(sum(b.tokens), 0) as tokens,
    coalesce(sum(case room_left.class when 'batch' then b.batch_starts else b.starts - b.batch_starts end), 0) as own_starts,
    coalesce(sum(case room_left.class when 'batch' then b.batch_tokens else b.tokens - b.batch_tokens end), 0) as own_tokens
  into v_used
  from eve.lane_buckets b
  where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms <= v_at;
  starts := least((limits).rpm - v_used.starts, v_share.starts - v_used.own_starts);
  tokens := (limits).tpm - v_used.tokens;
  -- One prompt larger than the share may pass while no other of its class is there.
  if v_used.own_tokens > 0 then
    tokens := least(tokens, v_share.tokens - v_used.own_tokens);
  end if;
  if (lane).interactive_tail_ms > room_left.at_ms then
    select max(later.starts) as starts, max(later.tokens) as tokens
    into v_later
    from (
      select b.at_ms, sum(b.starts) over reach as starts, sum(b.tokens) over reach as tokens
      from eve.lane_buckets b
      where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms < v_at + v_window
      window reach as (order by b.at_ms range between v_window - 1 preceding and current row)
    ) later
    where later.at_ms > v_at;
    starts := least(starts, (limits).rpm - v_later.starts);
    tokens := least(tokens, (limits).tpm - v_later.tokens);
  end if;
end;
$$;

-- Whether so many more starts and tokens of a class fit a lane at an instant: the one predicate for every way to book.
create or replace function eve.has_room(
  lane eve.lanes, limits eve.lane_limits, class text, contended boolean, starts bigint, tokens bigint, at_ms bigint
)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_left constant record := eve.room_left(
    lane, limits, has_room.class, has_room.contended, has_room.starts, has_room.tokens, has_room.at_ms
  );
begin
  return (v_left.starts < has_room.starts or v_left.tokens < has_room.tokens) is not true;
end;
$$;

-- What a lane has left of the Pacific day that holds an instant, for a class: below 1, no start in it. Interactive callers
-- leave the floor of the day to batch only while batch waits.
create or replace function eve.day_left(
  lane eve.lanes, limits eve.lane_limits, class text, contended boolean, start_ms bigint, day_ends_ms bigint
)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  v_starts bigint := 0;
  v_batch bigint := 0;
  v_left bigint;
begin
  if day_left.start_ms >= day_left.day_ends_ms then
    if (lane).day_ends_ms = day_left.day_ends_ms then
      v_starts := (lane).next_day_starts;
      v_batch := (lane).next_day_batch_starts;
    end if;
  elsif (lane).day_ends_ms = day_left.day_ends_ms then
    v_starts := (lane).day_starts;
    v_batch := (lane).day_batch_starts;
  elsif (lane).day_ends_ms > 0 and eve.next_pacific_midnight((lane).day_ends_ms) = day_left.day_ends_ms then
    -- The lane was last booked yesterday: what it booked ahead counts today.
    v_starts := (lane).next_day_starts;
    v_batch := (lane).next_day_batch_starts;
  end if;
  v_left := (limits).rpd - v_starts;
  if day_left.class = 'batch' then
    return least(v_left, (eve.class_share(limits, 'batch', day_left.contended)).day_starts - v_batch);
  elsif day_left.contended then
    return v_left - greatest(floor((limits).rpd * (limits).batch_floor + 1e-6)::bigint - v_batch, 0);
  end if;
  return v_left;
end;
$$;

-- The earliest instant, not before `from_ms`, at which a call of `tokens` input tokens fits a lane, and what stood in its way.
-- Null: waiting does not help.
create or replace function eve.earliest_start(
  lane eve.lanes,
  limits eve.lane_limits,
  class text,
  contended boolean,
  tokens bigint,
  now_ms bigint,
  from_ms bigint,
  out start_ms bigint,
  out limit_name text,
  out day_left bigint
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_width constant integer := case when (limits).rpm <= 600 then 1 else 100 end;
  v_window constant bigint := 60000 + (limits).guard_ms + v_width - 1;
  v_batch constant boolean := earliest_start.class = 'batch';
  v_share record;
  v_day_ends bigint;
  v_midnight bigint;
  v_blocking bigint;
  v_by_starts boolean;
  v_looks integer := 0;
  v_at bigint;
begin
  start_ms := greatest(earliest_start.now_ms, earliest_start.from_ms);
  if (lane).blocked_until is not null and (lane).blocked_until > to_timestamp(start_ms / 1000.0) then
    limit_name := 'blocked';
    if (lane).blocked_until = 'infinity' then
      start_ms := null;
      return;
    end if;
    start_ms := ceil(extract(epoch from (lane).blocked_until) * 1000)::bigint;
  end if;
  if (limits).rpm = 0 or (limits).tpm = 0 then
    limit_name := case when (limits).rpm = 0 then 'rpm' else 'tpm' end;
    start_ms := null;
    return;
  end if;
  v_share := eve.class_share(limits, earliest_start.class, earliest_start.contended);
  v_day_ends := case
    when (lane).day_ends_ms > earliest_start.now_ms and (lane).day_ends_ms - earliest_start.now_ms <= 90000000
      then (lane).day_ends_ms
    else eve.next_pacific_midnight(earliest_start.now_ms)
  end;

  loop
    -- The day. No start within the guard of midnight, before it or after: Google may count it in either day.
    if (limits).rpd is not null then
      v_midnight := v_day_ends;
      if v_day_ends - start_ms > 82000000 then
        v_midnight := eve.next_pacific_midnight(start_ms - (limits).guard_ms); -- The one that has just been, perhaps.
      end if;
      if start_ms between v_midnight - (limits).guard_ms and v_midnight + (limits).guard_ms - 1 then
        start_ms := v_midnight + (limits).guard_ms;
        limit_name := coalesce(limit_name, 'rpd');
      end if;
      day_left := eve.day_left(lane, limits, earliest_start.class, earliest_start.contended, start_ms, v_day_ends);
      if day_left < 1 and start_ms < v_day_ends and (limits).rpd > 0 then
        start_ms := v_day_ends + (limits).guard_ms;
        limit_name := 'rpd';
        day_left := eve.day_left(lane, limits, earliest_start.class, earliest_start.contended, start_ms, v_day_ends);
      end if;
      if day_left < 1 then
        limit_name := 'rpd';
        start_ms := null; -- Tomorrow is full as well, or the limit is zero: nothing to wait for.
        return;
      end if;
    end if;

    exit when eve.has_room(
      lane, limits, earliest_start.class, earliest_start.contended, 1, earliest_start.tokens, start_ms
    );

    -- The newest instant that must have left the window for the call to fit. Summed from the newest back; the running sums of
    -- the oldest row are what the window holds.
    v_at := (start_ms + v_width - 1) / v_width * v_width;
    select running.at_ms, running.by_starts
    into v_blocking, v_by_starts
    from (
      select b.at_ms,
        (sum(b.starts) over newest_first >= (limits).rpm
          or sum(case when v_batch then b.batch_starts else b.starts - b.batch_starts end) over newest_first >= v_share.starts
        ) is true as by_starts,
        (sum(b.tokens) over newest_first + earliest_start.tokens > (limits).tpm
          or sum(case when v_batch then b.batch_tokens else b.tokens - b.batch_tokens end) over newest_first > 0
            and sum(case when v_batch then b.batch_tokens else b.tokens - b.batch_tokens end) over newest_first
              + earliest_start.tokens > v_share.tokens
        ) is true as by_tokens
      from eve.lane_buckets b
      where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms <= v_at
      window newest_first as (order by b.at_ms desc)
    ) running
    where running.by_starts or running.by_tokens
    order by running.at_ms desc
    limit 1;
    if found then
      start_ms := v_blocking + v_window;
    else
      -- A window that ends at a start booked later is what is full.
      select later.at_ms, later.by_starts
      into v_blocking, v_by_starts
      from (
        select b.at_ms,
          (sum(b.starts) over reach >= (limits).rpm) is true as by_starts,
          (sum(b.tokens) over reach + earliest_start.tokens > (limits).tpm) is true as by_tokens
        from eve.lane_buckets b
        where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms < v_at + v_window
        window reach as (order by b.at_ms range between v_window - 1 preceding and current row)
      ) later
      where later.at_ms > v_at and (later.by_starts or later.by_tokens)
      order by later.at_ms desc
      limit 1;
      -- Without a booking's lock somebody may have given back, since has_room looked, what stood in the way.
      v_looks := v_looks + 1;
      continue when not found and v_looks < 100;
      if not found then
        raise exception 'no instant fits % tokens on lane %', earliest_start.tokens, (lane).id using errcode = 'EV503';
      end if;
      start_ms := v_blocking + 1;
    end if;
    limit_name := case when v_by_starts then 'rpm' else 'tpm' end;
  end loop;
end;
$$;

-- Whether batch that is alone may start as it comes: until a quarter of the window's starts or half of its tokens are used. What is
-- left has to last for a minute, and interactive callers at half of the capacity with batch's floor need 0.6 of it.
create or replace function eve.may_burst(
  lane eve.lanes, limits eve.lane_limits, tokens bigint, now_ms bigint, starts bigint default 1
)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
begin
  return eve.has_room(
    lane, limits, 'batch', false, coalesce((limits).rpm - (limits).rpm / 4, 0) + may_burst.starts, may_burst.tokens + coalesce((limits).tpm / 2, 0),
    may_burst.now_ms
  );
end;
$$;

-- Settlement at the reservation's own place in the window. Once no window reaches that place, the row is gone and there is
-- nothing to correct.
create or replace function eve.adjust_bucket(lane_id bigint, bucket_ms bigint, class text, starts integer, tokens bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  update eve.lane_buckets b
  set starts = greatest(b.starts + adjust_bucket.starts, 0),
    tokens = greatest(b.tokens + adjust_bucket.tokens, 0),
    batch_starts = greatest(b.batch_starts + case adjust_bucket.class when 'batch' then adjust_bucket.starts else 0 end, 0),
    batch_tokens = greatest(b.batch_tokens + case adjust_bucket.class when 'batch' then adjust_bucket.tokens else 0 end, 0)
  where b.lane_id = adjust_bucket.lane_id and b.at_ms = adjust_bucket.bucket_ms
    and (adjust_bucket.starts <> 0 or adjust_bucket.tokens <> 0);
end;
$$;
