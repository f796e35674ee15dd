-- Admission: when may this call start, on which key?
--
-- Time is the database's clock, in milliseconds since 1970; a caller's clock decides nothing.
-- Locks are always taken in this order, so that no two calls can wait for each other: request id (advisory), budgets,
-- one lane, its buckets, counters. A refusal takes no lock on a lane at all.

-- The database's clock. A function of its own so that a test can stand on any day of the year.
create or replace function eve.clock_ms()
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
begin
  return floor(extract(epoch from clock_timestamp()) * 1000)::bigint;
end;
$$;

create or replace function eve.clock()
returns timestamptz
language plpgsql
volatile
set search_path = ''
as $$
begin
  return to_timestamp(eve.clock_ms() / 1000.0);
end;
$$;

-- The Pacific day that holds an instant: Google's daily limits turn over with it.
create or replace function eve.pacific_day(ms bigint)
returns date
language sql
stable
set search_path = ''
as $$
  select (to_timestamp(pacific_day.ms / 1000.0) at time zone 'America/Los_Angeles')::date;
$$;

-- The first midnight in Los Angeles after an instant. Days have 23, 24 or 25 hours there.
create or replace function eve.next_pacific_midnight(ms bigint)
returns bigint
language sql
stable
set search_path = ''
as $$
  select floor(
    extract(epoch from ((eve.pacific_day(next_pacific_midnight.ms) + 1)::timestamp at time zone 'America/Los_Angeles')) * 1000
  )::bigint;
$$;

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

-- The earliest instant at which a call of `tokens` input tokens fits a lane, and what stood in its way.
--
-- A bucket is dated at its end. The window is (t - w, t], t being the end of the bucket that the start falls in and
-- w = 60 s + guard + the width of a bucket - 1 ms, so that whatever the true instants within the buckets and whatever
-- jitter up to the guard, no 60 seconds see more than the limit. A start must fit the window that ends at itself, and every
-- window that ends at a start booked after it (batch queues, ahead of which an interactive call may start). Batch must also
-- leave the interactive share free, in starts and in tokens.
--
-- Tried and dropped: a fixed minute counter (twice the limit around its edge); one row per start without buckets (the
-- scan grows with the limit); a ring of 600 counters in the lane's row (5 KB rewritten per call).
create or replace function eve.earliest_start(
  lane eve.lanes,
  rpm integer,
  tpm integer,
  rpd integer,
  class text,
  tokens bigint,
  now_ms bigint,
  guard_ms bigint,
  floor_starts integer,
  reserve double precision,
  reserve_day double precision,
  after_tail boolean,
  out start_ms bigint,
  out limit_name text,
  out used_starts bigint,
  out used_tokens bigint,
  out day_left bigint
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Lanes of up to 600 starts a minute keep exact milliseconds; faster ones share buckets of 100 ms, which bounds the scan.
  v_width constant integer := case when earliest_start.rpm <= 600 then 1 else 100 end;
  v_window constant bigint := 60000 + earliest_start.guard_ms + v_width - 1;
  v_batch constant boolean := earliest_start.class = 'batch';
  v_span constant bigint := earliest_start.now_ms >> 16;
  v_seen_starts bigint;
  v_seen_tokens bigint;
  v_rpm_batch integer := earliest_start.rpm;
  v_tpm_batch bigint := earliest_start.tpm;
  v_share_starts integer;
  v_share_tokens bigint;
  v_day_ends bigint;
  v_day_starts integer;
  v_day_batch integer;
  v_blocking bigint;
  v_by_starts boolean;
  v_before bigint;
  v_at bigint;
begin
  start_ms := earliest_start.now_ms;
  used_starts := 0;
  used_tokens := 0;
  if after_tail then
    start_ms := greatest(
      start_ms, case when v_batch then (lane).batch_tail_ms else (lane).interactive_tail_ms end
    );
  end if;
  if (lane).blocked_until is not null and (lane).blocked_until > to_timestamp((start_ms) / 1000.0) then
    limit_name := 'blocked';
    if (lane).blocked_until = 'infinity' then
      start_ms := null;
      return;
    end if;
    start_ms := ceil(extract(epoch from (lane).blocked_until) * 1000)::bigint;
  end if;

  -- What batch leaves to interactive callers: the starts and tokens of their busiest minute of the last ten, at least the
  -- floor, at most the reserve; the floor wins where the two contradict each other. Batch always keeps one start.
  if v_batch and (earliest_start.floor_starts > 0 or earliest_start.reserve > 0) then
    select coalesce(max(n.starts), 0), coalesce(max(n.tokens), 0)
    into v_share_starts, v_share_tokens
    from (
      select (lane).minute_starts[1 + (m % 10)::integer] as starts, (lane).minute_tokens[1 + (m % 10)::integer] as tokens
      from generate_series(
        greatest(earliest_start.now_ms / 60000 - 9, (lane).minute_number - 9, 0), (lane).minute_number
      ) as m
    ) n;
    if earliest_start.rpm is not null then
      v_share_starts := greatest(
        least(v_share_starts, floor(earliest_start.rpm * earliest_start.reserve + 1e-6)::integer), earliest_start.floor_starts
      );
      v_rpm_batch := earliest_start.rpm - least(v_share_starts, greatest(earliest_start.rpm - 1, 0));
    end if;
    if earliest_start.tpm is not null then
      -- The floor's tokens: a start of the size that interactive callers have lately had, or an even share of the limit.
      v_share_tokens := least(
        greatest(
          v_share_tokens,
          earliest_start.floor_starts
            * greatest((lane).interactive_size, earliest_start.tpm / greatest(coalesce(earliest_start.rpm, 60), 1))::bigint
        ),
        greatest(
          floor(earliest_start.tpm * earliest_start.reserve + 1e-6)::bigint,
          earliest_start.floor_starts::bigint * earliest_start.tpm / greatest(coalesce(earliest_start.rpm, 60), 1)
        )
      );
      v_tpm_batch := greatest(earliest_start.tpm - v_share_tokens, 1);
    end if;
  end if;

  -- Two spans of 65.5 s cover any window: while their sum fits, nothing has to be looked up.
  if earliest_start.rpm > 600 or earliest_start.rpm is null then
    v_seen_starts := case v_span - (lane).span_number
      when 0 then (lane).span_starts + (lane).previous_span_starts
      when 1 then (lane).span_starts
      else 0
    end;
    v_seen_tokens := case v_span - (lane).span_number
      when 0 then (lane).span_tokens + (lane).previous_span_tokens
      when 1 then (lane).span_tokens
      else 0
    end;
    if (lane).span_number > v_span then
      v_seen_starts := null; -- Booked into a span that has not begun: look it up.
    end if;
  end if;

  loop
    v_before := start_ms;

    -- The day. No start within the guard of midnight: Google may count it in either day.
    if earliest_start.rpd is not null then
      v_day_ends := case
        when (lane).day_ends_ms > earliest_start.now_ms and (lane).day_ends_ms - earliest_start.now_ms <= 90000000
          then (lane).day_ends_ms
        else eve.next_pacific_midnight(earliest_start.now_ms)
      end;
      if start_ms >= v_day_ends - earliest_start.guard_ms and start_ms < v_day_ends + earliest_start.guard_ms then
        start_ms := v_day_ends + earliest_start.guard_ms;
        limit_name := coalesce(limit_name, 'rpd');
      end if;
      for v_ahead in 0..1 loop
        if start_ms < v_day_ends then
          v_day_starts := case (lane).day_ends_ms when v_day_ends then (lane).day_starts else 0 end;
          v_day_batch := case (lane).day_ends_ms when v_day_ends then (lane).day_batch_starts else 0 end;
          -- The lane was last booked yesterday: what it booked ahead counts today.
          if (lane).day_ends_ms <> v_day_ends and (lane).day_ends_ms > 0
            and eve.next_pacific_midnight((lane).day_ends_ms) = v_day_ends then
            v_day_starts := (lane).next_day_starts;
            v_day_batch := (lane).next_day_batch_starts;
          end if;
        else
          v_day_starts := case (lane).day_ends_ms when v_day_ends then (lane).next_day_starts else 0 end;
          v_day_batch := case (lane).day_ends_ms when v_day_ends then (lane).next_day_batch_starts else 0 end;
        end if;
        day_left := earliest_start.rpd - v_day_starts;
        if v_batch then
          day_left := least(
            day_left,
            earliest_start.rpd - ceil(earliest_start.rpd * earliest_start.reserve_day - 1e-6)::integer - v_day_batch
          );
        end if;
        exit when day_left > 0;
        limit_name := 'rpd';
        if start_ms >= v_day_ends or earliest_start.rpd = 0 then
          start_ms := null; -- Tomorrow is full as well, or the limit is zero: nothing to wait for.
          return;
        end if;
        start_ms := v_day_ends + earliest_start.guard_ms;
      end loop;
    end if;

    if earliest_start.rpm = 0 or earliest_start.tpm = 0 then
      limit_name := case when earliest_start.rpm = 0 then 'rpm' else 'tpm' end;
      start_ms := null;
      return;
    end if;

    exit when earliest_start.rpm is null and earliest_start.tpm is null;
    if v_seen_starts is not null then
      used_starts := v_seen_starts;
      used_tokens := v_seen_tokens;
      exit when (earliest_start.rpm is null or v_seen_starts < v_rpm_batch)
        and (earliest_start.tpm is null or v_seen_tokens + earliest_start.tokens <= v_tpm_batch);
      v_seen_starts := null;
      v_before := start_ms;
    end if;

    -- The window that ends here: the newest instant that must have left it for the call to fit. Summed from the newest
    -- back; the running sums of the oldest row are what the window holds.
    v_at := (start_ms + v_width - 1) / v_width * v_width;
    select running.at_ms, running.by_starts
    into v_blocking, v_by_starts
    from (
      select b.at_ms,
        (sum(b.starts) over newest_first >= earliest_start.rpm
          or sum(b.batch_starts) over newest_first >= case when v_batch then v_rpm_batch end) is true as by_starts,
        (sum(b.tokens) over newest_first + earliest_start.tokens > earliest_start.tpm
          or (sum(b.batch_tokens) over newest_first > 0
            and sum(b.batch_tokens) over newest_first + earliest_start.tokens > case when v_batch then v_tpm_batch end)
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
      limit_name := case when v_by_starts then 'rpm' else 'tpm' end;
      continue;
    end if;

    -- Windows that end at a start booked later. Only when there are such starts.
    if greatest((lane).interactive_tail_ms, (lane).batch_tail_ms) > start_ms then
      select later.at_ms, later.by_starts
      into v_blocking, v_by_starts
      from (
        select b.at_ms,
          (sum(b.starts) over reach >= earliest_start.rpm) is true as by_starts,
          (sum(b.tokens) over reach + earliest_start.tokens > earliest_start.tpm) is true as by_tokens
        from eve.lane_buckets b
        where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms < v_at + v_window
        window reach as (order by b.at_ms range between v_window - 1 preceding and current row)
      ) later
      where later.at_ms > v_at and (later.by_starts or later.by_tokens)
      order by later.at_ms desc
      limit 1;
      if found then
        start_ms := v_blocking + 1;
        limit_name := case when v_by_starts then 'rpm' else 'tpm' end;
        continue;
      end if;
    end if;

    exit when start_ms = v_before;
  end loop;
end;
$$;

-- What a key has spent, for people and older readers: one row per key, model and minute; rpd_used is the day's count so far.
create or replace function eve.count_usage(key_id uuid, model text, start_ms bigint, tokens bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_minute constant timestamptz := to_timestamp((count_usage.start_ms / 60000 * 60000) / 1000.0);
  v_day constant date := eve.pacific_day(count_usage.start_ms);
begin
  insert into public.google_ai_usage_counters as c
    (api_key_id, model, minute_bucket, day_bucket, rpm_used, tpm_used, rpd_used, updated_at)
  select count_usage.key_id, count_usage.model, v_minute, v_day, 1, least(count_usage.tokens, 2147483647)::integer,
    1 + coalesce(
      (
        select max(before.rpd_used)
        from public.google_ai_usage_counters before
        where before.api_key_id = count_usage.key_id and before.model = count_usage.model
          and before.minute_bucket >= v_minute - interval '25 hours' and before.minute_bucket < v_minute
          and before.day_bucket = v_day
      ), 0
    ), now()
  -- A key may have been deleted while it was in use, and a hand-made foreign key then refuses its rows.
  where exists (select from public.google_ai_api_keys k where k.id = count_usage.key_id)
  on conflict (api_key_id, model, minute_bucket) do update
  set rpm_used = coalesce(c.rpm_used, 0) + 1,
    tpm_used = least(coalesce(c.tpm_used, 0)::bigint + excluded.tpm_used, 2147483647)::integer,
    rpd_used = coalesce(c.rpd_used, 0) + 1, updated_at = excluded.updated_at;
  -- A call that settles after a later minute's first: that minute's count so far includes it.
  update public.google_ai_usage_counters c
  set rpd_used = c.rpd_used + 1
  where c.api_key_id = count_usage.key_id and c.model = count_usage.model and c.minute_bucket > v_minute
    and c.day_bucket = v_day;
exception
  -- The table is its owner's, and so are rules on it that refuse a row. They must not stop a settlement.
  when integrity_constraint_violation or data_exception or raise_exception then
    perform eve.open_alert(
      'usage_counters_refused', 'public.google_ai_usage_counters', 'warning',
      format('A row for public.google_ai_usage_counters was refused: %s. The attempt itself is in eve.attempts.', sqlerrm)
    );
end;
$$;

-- Opens an alert once; seen again, it only says when.
create or replace function eve.open_alert(kind text, subject text, severity text, message text)
returns void
language sql
volatile
set search_path = ''
as $$
  insert into eve.alerts as a (kind, subject, severity, message)
  values (open_alert.kind, open_alert.subject, open_alert.severity, open_alert.message)
  on conflict (kind, subject) where closed_at is null do update
  set last_seen_at = now(), message = excluded.message, severity = excluded.severity;
$$;

-- Closes what nobody settled in time: the caller has died. The capacity stays counted at its place in the window, since
-- Google may have counted the call; the books say `expired`. Rows that somebody is settling at this moment are left to him.
create or replace function eve.expire_leases(lane_id bigint default null, at_most integer default 1000)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_row eve.inflight;
  v_now constant timestamptz := eve.clock();
  v_count integer := 0;
begin
  for v_row in
    select i.*
    from eve.inflight i
    where i.lease_until < v_now and (expire_leases.lane_id is null or i.lane_id = expire_leases.lane_id)
    -- In the order of the counters that they touch, so that two who clear at once cannot wait for each other.
    order by i.key_id, i.model, i.start_ms
    limit expire_leases.at_most
    for update skip locked
  loop
    if v_row.state = 'reserved' then
      insert into eve.attempts (
        request_no, attempt, lane_id, key_id, model, class, start_ms, bucket_ms, tokens_booked, outcome, dispatched,
        error_code, settled_at
      )
      values (
        v_row.request_no, v_row.attempt, v_row.lane_id, v_row.key_id, v_row.model, v_row.class, v_row.start_ms,
        v_row.bucket_ms, v_row.tokens, 'expired', true, 'lease_expired', v_now
      );
      perform eve.count_usage(v_row.key_id, v_row.model, v_row.start_ms, v_row.tokens);
    end if;
    perform eve.close_request(v_row, 'expired', 'lease_expired');
    v_count := v_count + 1;
  end loop;
  return v_count;
end;
$$;

-- Moves a request from the running ones to the audit.
create or replace function eve.close_request(
  running eve.inflight,
  state text,
  error_code text default null,
  input_tokens integer default null,
  output_tokens integer default null,
  total_tokens integer default null,
  finish_reason text default null
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  delete from eve.inflight i where i.request_no = (running).request_no;
  insert into eve.requests (
    request_no, consumer_id, request_id, token_id, class, door, requested_model, model, key_id, state, attempts, wait_ms,
    received_at, finished_at, input_tokens, output_tokens, total_tokens, error_code, finish_reason, trace_id, metadata,
    request_hash
  )
  values (
    (running).request_no, (running).consumer_id, (running).request_id, (running).token_id, (running).class,
    (running).door, (running).requested_model, (running).model, (running).key_id, close_request.state,
    (running).attempt, (running).wait_ms, (running).received_at, eve.clock(), close_request.input_tokens,
    close_request.output_tokens, close_request.total_tokens, close_request.error_code, close_request.finish_reason,
    (running).trace_id, (running).metadata, (running).request_hash
  )
  -- One row that cannot be closed would stop every reservation on its lane.
  on conflict do nothing;
end;
$$;

-- Nothing depends on a schedule: whoever takes a lane also closes what died on it. After the buckets, since closing counts
-- usage, and settlements take buckets before counters.
create or replace function eve.clear_dead(lane_id bigint, now_ms bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if exists (
    select
    from eve.inflight i
    where i.lane_id = clear_dead.lane_id and i.lease_until < to_timestamp(clear_dead.now_ms / 1000.0)
  ) then
    perform eve.expire_leases(clear_dead.lane_id, 20);
  end if;
end;
$$;

-- Takes a slot on one lane, or answers when it could: the one place that writes a booking.
create or replace function eve.book(
  lane_id bigint,
  rpm integer,
  tpm integer,
  rpd integer,
  class text,
  tokens bigint,
  guard_ms bigint,
  floor_starts integer,
  reserve double precision,
  reserve_day double precision,
  latest_wait_ms bigint,
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
  v_width constant integer := case when book.rpm <= 600 then 1 else 100 end;
  v_span bigint;
  v_minute bigint;
  v_slot integer;
  v_batch constant integer := case when book.class = 'batch' then 1 else 0 end;
  v_fit record;
begin
  select * into v_lane from eve.lanes l where l.id = book.lane_id for no key update;
  -- Nothing depends on a schedule: whoever takes the lane also clears what died on it.
  v_now := eve.clock_ms();
  select * into v_fit
  from eve.earliest_start(
    v_lane, book.rpm, book.tpm, book.rpd, book.class, book.tokens, v_now, book.guard_ms, book.floor_starts,
    book.reserve, book.reserve_day, true
  );
  start_ms := v_fit.start_ms;
  wait_ms := start_ms - v_now;
  limit_name := v_fit.limit_name;
  day_left := v_fit.day_left - 1;
  booked := start_ms is not null and wait_ms <= book.latest_wait_ms;
  if not booked then
    perform eve.clear_dead(book.lane_id, v_now);
    return;
  end if;

  bucket_ms := (start_ms + v_width - 1) / v_width * v_width;
  turn := v_lane.turns;
  if v_lane.day_ends_ms <= v_now or v_lane.day_ends_ms - v_now > 90000000 then
    day_ends_ms := eve.next_pacific_midnight(v_now);
    if v_lane.day_ends_ms > 0 and eve.next_pacific_midnight(v_lane.day_ends_ms) = day_ends_ms then
      v_lane.day_starts := v_lane.next_day_starts;
      v_lane.day_batch_starts := v_lane.next_day_batch_starts;
    else
      v_lane.day_starts := 0;
      v_lane.day_batch_starts := 0;
    end if;
    v_lane.next_day_starts := 0;
    v_lane.next_day_batch_starts := 0;
    v_lane.day_ends_ms := day_ends_ms;
  end if;
  day_ends_ms := v_lane.day_ends_ms;
  if start_ms < v_lane.day_ends_ms then
    v_lane.day_starts := v_lane.day_starts + 1;
    v_lane.day_batch_starts := v_lane.day_batch_starts + v_batch;
  else
    v_lane.next_day_starts := v_lane.next_day_starts + 1;
    v_lane.next_day_batch_starts := v_lane.next_day_batch_starts + v_batch;
  end if;

  v_span := start_ms >> 16;
  if v_span = v_lane.span_number then
    v_lane.span_starts := v_lane.span_starts + 1;
    v_lane.span_tokens := v_lane.span_tokens + book.tokens;
  elsif v_span < v_lane.span_number then
    v_lane.previous_span_starts := v_lane.previous_span_starts + 1;
    v_lane.previous_span_tokens := v_lane.previous_span_tokens + book.tokens;
  else
    v_lane.previous_span_starts := case v_span - v_lane.span_number when 1 then v_lane.span_starts else 0 end;
    v_lane.previous_span_tokens := case v_span - v_lane.span_number when 1 then v_lane.span_tokens else 0 end;
    v_lane.span_number := v_span;
    v_lane.span_starts := 1;
    v_lane.span_tokens := book.tokens;
  end if;

  if v_batch = 1 then
    v_lane.batch_tail_ms := greatest(v_lane.batch_tail_ms, start_ms);
  else
    v_lane.interactive_tail_ms := greatest(v_lane.interactive_tail_ms, start_ms);
    v_lane.interactive_size := greatest(book.tokens, (v_lane.interactive_size * 9 + book.tokens) / 10);
    -- By the minute in which they came: counted by their starts, callers whom batch makes wait would seem few.
    v_minute := v_now / 60000;
    if v_minute > v_lane.minute_number then
      -- Minutes without a call since then: their places in the ring are empty.
      for v_gap in greatest(v_lane.minute_number + 1, v_minute - 9)..v_minute loop
        v_lane.minute_starts[1 + (v_gap % 10)::integer] := 0;
        v_lane.minute_tokens[1 + (v_gap % 10)::integer] := 0;
      end loop;
      v_lane.minute_number := v_minute;
    end if;
    v_slot := 1 + (v_minute % 10)::integer;
    v_lane.minute_starts[v_slot] := v_lane.minute_starts[v_slot] + 1;
    v_lane.minute_tokens[v_slot] := v_lane.minute_tokens[v_slot] + book.tokens;
  end if;

  update eve.lanes l
  set interactive_tail_ms = v_lane.interactive_tail_ms, batch_tail_ms = v_lane.batch_tail_ms,
    day_ends_ms = v_lane.day_ends_ms, day_starts = v_lane.day_starts, day_batch_starts = v_lane.day_batch_starts,
    next_day_starts = v_lane.next_day_starts, next_day_batch_starts = v_lane.next_day_batch_starts,
    span_number = v_lane.span_number, span_starts = v_lane.span_starts, span_tokens = v_lane.span_tokens,
    previous_span_starts = v_lane.previous_span_starts, previous_span_tokens = v_lane.previous_span_tokens,
    minute_number = v_lane.minute_number, minute_starts = v_lane.minute_starts, minute_tokens = v_lane.minute_tokens,
    interactive_size = v_lane.interactive_size, turns = v_lane.turns + 1
  where l.id = book.lane_id;

  insert into eve.lane_buckets as b (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
  values (book.lane_id, bucket_ms, 1, book.tokens, v_batch, v_batch * book.tokens)
  on conflict on constraint lane_buckets_pkey do update
  set starts = b.starts + 1, tokens = b.tokens + excluded.tokens, batch_starts = b.batch_starts + excluded.batch_starts,
    batch_tokens = b.batch_tokens + excluded.batch_tokens;

  -- Instants that no window reaches any more. Now and then, so that few calls pay for it.
  if turn % 16 = 0 then
    delete from eve.lane_buckets b where b.lane_id = book.lane_id and b.at_ms < v_now - 70000;
  end if;

  perform eve.clear_dead(book.lane_id, v_now);

  if book.rpm <= 600 then
    select coalesce(sum(b.starts), 0), coalesce(sum(b.tokens), 0)
    into used_starts, used_tokens
    from eve.lane_buckets b
    where b.lane_id = book.lane_id and b.at_ms > start_ms - 60000 - book.guard_ms and b.at_ms <= start_ms;
  else
    -- On a fast lane two spans are close enough, and err on the safe side.
    used_starts := v_lane.span_starts + v_lane.previous_span_starts;
    used_tokens := v_lane.span_tokens + v_lane.previous_span_tokens;
  end if;
end;
$$;

-- Settlement at the reservation's own place in the window. Once no window reaches that place, the row is gone and there is
-- nothing to correct.
create or replace function eve.adjust_bucket(lane_id bigint, bucket_ms bigint, class text, starts integer, tokens bigint)
returns void
language sql
volatile
set search_path = ''
as $$
  update eve.lane_buckets b
  set starts = greatest(b.starts + adjust_bucket.starts, 0),
    tokens = greatest(b.tokens + adjust_bucket.tokens, 0),
    batch_starts = greatest(b.batch_starts + case adjust_bucket.class when 'batch' then adjust_bucket.starts else 0 end, 0),
    batch_tokens = greatest(b.batch_tokens + case adjust_bucket.class when 'batch' then adjust_bucket.tokens else 0 end, 0)
  where b.lane_id = adjust_bucket.lane_id and b.at_ms = adjust_bucket.bucket_ms
    and (adjust_bucket.starts <> 0 or adjust_bucket.tokens <> 0);
$$;

create or replace function eve.adjust_budgets(
  consumer_id uuid, token_id uuid, received_at timestamptz, requests integer, tokens bigint
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if adjust_budgets.requests = 0 and adjust_budgets.tokens = 0 then
    return;
  end if;
  if adjust_budgets.consumer_id <> '00000000-0000-0000-0000-000000000000' then
    update eve.consumer_days d
    set requests = greatest(d.requests + adjust_budgets.requests, 0), tokens = greatest(d.tokens + adjust_budgets.tokens, 0)
    where d.consumer_id = adjust_budgets.consumer_id
      and d.day = eve.pacific_day(floor(extract(epoch from adjust_budgets.received_at) * 1000)::bigint);
  end if;
  if adjust_budgets.token_id is not null then
    update eve.scoped_tokens t
    set requests_used = greatest(t.requests_used + adjust_budgets.requests, 0),
      tokens_used = greatest(t.tokens_used + adjust_budgets.tokens, 0)
    where t.id = adjust_budgets.token_id;
  end if;
end;
$$;

-- A booking that was never dispatched: its start, its place in the day and its place in the line are free again. Bookings
-- made behind it keep the times they were told.
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
  select * into v_lane from eve.lanes l where l.id = (running).lane_id for no key update;
  if (case v_batch when 1 then v_lane.batch_tail_ms else v_lane.interactive_tail_ms end) = (running).start_ms then
    select coalesce(max(i.start_ms), 0)
    into v_tail
    from eve.inflight i
    where i.lane_id = (running).lane_id and i.class = (running).class and i.state = 'reserved'
      and i.request_no <> (running).request_no;
  end if;
  update eve.lanes l
  set interactive_tail_ms = case when v_batch = 0 and v_tail is not null then v_tail else l.interactive_tail_ms end,
    batch_tail_ms = case when v_batch = 1 and v_tail is not null then v_tail else l.batch_tail_ms end,
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

-- What upstream said takes effect in the transaction that settles: {"scope", "for_ms" | "until", "reason"}.
create or replace function eve.apply_block(running eve.inflight, block jsonb, fallback_reason text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_until timestamptz;
  v_reason constant text := left(coalesce(apply_block.block ->> 'reason', apply_block.fallback_reason), 200);
  v_alias text;
begin
  v_until := case apply_block.block ->> 'until'
    when 'forever' then 'infinity'::timestamptz
    when 'pacific_midnight' then to_timestamp(
      (eve.next_pacific_midnight(eve.clock_ms()) + (select s.value from eve.settings s where s.name = 'guard_ms')) / 1000.0
    )
    else v_now + (apply_block.block ->> 'for_ms')::bigint * interval '1 millisecond'
  end;
  if v_until is null then
    raise exception 'block needs for_ms, or until: pacific_midnight or forever' using errcode = 'EV400';
  end if;
  select k.key_alias into v_alias from public.google_ai_api_keys k where k.id = (running).key_id;

  case apply_block.block ->> 'scope'
    when 'lane' then
      update eve.lanes l
      set blocked_until = greatest(l.blocked_until, v_until), blocked_reason = v_reason
      where l.id = (running).lane_id;
    when 'key' then
      update public.google_ai_api_keys k
      set blocked_until = greatest(k.blocked_until, v_until), blocked_reason = v_reason,
        is_active = k.is_active and v_until < 'infinity'
      where k.id = (running).key_id;
      if v_until = 'infinity' then
        perform eve.remember_rejected_secret((running).key_id, apply_block.block ->> 'secret_hash');
      end if;
      perform eve.open_alert(
        case v_reason when 'secret_missing' then 'secret_missing' else 'key_disabled' end, (running).key_id::text,
        case when v_until = 'infinity' then 'critical' else 'warning' end,
        format('Key %s is not used: %s', coalesce(v_alias, (running).key_id::text), v_reason)
      );
    when 'key_model' then
      insert into eve.key_model_blocks as b (key_id, model, blocked_until, reason)
      values ((running).key_id, (running).model, v_until, v_reason)
      on conflict (key_id, model) do update
      set blocked_until = greatest(b.blocked_until, excluded.blocked_until), reason = excluded.reason;
      perform eve.open_alert(
        'model_unavailable', (running).key_id::text || ' ' || (running).model, 'warning',
        format('Key %s is not used for %s: %s', coalesce(v_alias, (running).key_id::text), (running).model, v_reason)
      );
    when 'capability' then
      -- The model refused a feature that its row says it has: the next call goes without.
      update public.google_ai_model_limits m
      set supports_system = m.supports_system and apply_block.block ->> 'capability' <> 'system',
        supports_json = m.supports_json and apply_block.block ->> 'capability' <> 'json',
        supports_tools = m.supports_tools and apply_block.block ->> 'capability' <> 'tools'
      where m.model = (running).model;
    else
      raise exception 'block scope must be lane, key, key_model or capability' using errcode = 'EV400';
  end case;
end;
$$;

create or replace function eve.usage_meta(
  consumer_id uuid, key_id uuid, attempt integer, class text, door text, estimated boolean
)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'source', 'eve', 'consumer', (select c.name from eve.consumers c where c.id = usage_meta.consumer_id),
    'key_alias', (select k.key_alias from public.google_ai_api_keys k where k.id = usage_meta.key_id),
    'attempt', usage_meta.attempt, 'class', usage_meta.class, 'door', usage_meta.door, 'estimated', usage_meta.estimated
  );
$$;

-- Learns what a model's estimates have to be multiplied by: each step goes a tenth of the way to what the call showed, by
-- 2 % at the most, so that an outlier moves it as little as any other call; between half and twice. Only some calls teach
-- (setting learn_one_in), and none waits for another that does.
create or replace function eve.learn_estimate(model text, request_no bigint, estimated integer, counted integer)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_one_in constant bigint := (select s.value from eve.settings s where s.name = 'learn_one_in');
begin
  -- Small prompts are mostly overhead that the estimate does not see.
  if v_one_in <= 0 or learn_estimate.request_no % v_one_in <> 0 or learn_estimate.estimated < 20
    or learn_estimate.counted is null or learn_estimate.counted < 20 then
    return;
  end if;
  update public.google_ai_model_limits m
  set estimate_factor = greatest(0.5, least(2,
    m.estimate_factor * exp(
      greatest(-0.02, least(0.02, 0.1 * ln(learn_estimate.counted / (learn_estimate.estimated * m.estimate_factor))))
    )
  ))
  where m.model in (
    select free.model
    from public.google_ai_model_limits free
    where free.model = learn_estimate.model
    for update skip locked
  );
end;
$$;
