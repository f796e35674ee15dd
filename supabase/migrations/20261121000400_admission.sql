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
      if not found then
        raise exception 'no instant fits % tokens on lane %', earliest_start.tokens, (lane).id using errcode = 'EV503';
      end if;
      start_ms := v_blocking + 1;
    end if;
    limit_name := case when v_by_starts then 'rpm' else 'tpm' end;
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
-- What is true to the token was counted upstream and teaches nothing.
create or replace function eve.learn_estimate(model text, request_no bigint, estimated integer, counted integer)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_one_in constant bigint := (select s.value from eve.settings s where s.name = 'learn_one_in');
begin
  -- Small prompts are mostly overhead that the estimate does not see. What is true to the token was counted, not estimated.
  if v_one_in <= 0 or learn_estimate.request_no % v_one_in <> 0 or learn_estimate.estimated < 20
    or learn_estimate.counted is null or learn_estimate.counted < 20 or learn_estimate.counted = learn_estimate.estimated then
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
