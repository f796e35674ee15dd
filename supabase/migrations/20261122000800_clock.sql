-- The database's clock: the one clock there is, its Pacific day, and what happens when it goes back.
--
-- Admission remembers instants. Behind a clock that has gone back they lie in the future: nothing wrong is granted, but a lane is
-- mute until the clock has come that far again. So the sweep looks for moments that were written down and have not come yet: its
-- own last one, and those in the newest rows of the audit, for a clock that was ahead for a few seconds only. Finding
-- one, it moves what admission remembers back by the difference. The time that really passed since then counts as none,
-- so a lane may be held back for up to a minute longer than it had to be, and never for less.
--
-- A jump ahead cannot be distinguished from an idle hour by any clock that the database has: the window is forgotten, once
-- (docs/faults.md).

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

-- The Pacific day that holds an instant: Google's daily limits turn over with it. In PL/pgSQL, as what each call asks for is: a function in
-- SQL with a search path of its own is not inlined, and is planned again each time that it is called (50 us in place of 5).
create or replace function eve.pacific_day(ms bigint)
returns date
language plpgsql
stable
set search_path = ''
as $$
begin
  return (to_timestamp(pacific_day.ms / 1000.0) at time zone 'America/Los_Angeles')::date;
end;
$$;

-- The first midnight in Los Angeles after an instant. Days have 23, 24 or 25 hours there.
create or replace function eve.next_pacific_midnight(ms bigint)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
  return floor(
    extract(epoch from ((eve.pacific_day(next_pacific_midnight.ms) + 1)::timestamp at time zone 'America/Los_Angeles')) * 1000
  )::bigint;
end;
$$;

-- Moves what admission remembers back by a number of milliseconds. In the order of locks of public.eve_reserve: running requests,
-- budgets, lanes, buckets.
create or replace function eve.turn_back(back_ms bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant bigint := eve.clock_ms();
  -- Lanes of more than 600 starts a minute keep their buckets at whole tenths of a second.
  v_back constant bigint := turn_back.back_ms / 100 * 100;
  v_interval constant interval := v_back * interval '1 millisecond';
  v_midnight constant bigint := eve.next_pacific_midnight(v_now);
  v_today constant date := eve.pacific_day(v_now);
begin
  perform from eve.inflight i order by i.request_no for update;
  update eve.inflight i
  set start_ms = i.start_ms - v_back, bucket_ms = i.bucket_ms - v_back, queued_ms = i.queued_ms - v_back,
    lease_until = i.lease_until - v_interval
  where i.lease_until > to_timestamp(v_now / 1000.0);

  perform from eve.consumer_minutes m order by m.consumer_id for no key update;
  delete from eve.consumer_minutes m where m.second > v_now / 1000;

  perform eve.lock_lane(l.id) from (select b.id from eve.lanes b order by b.id) l;
  perform from eve.lanes l order by l.id for no key update;
  -- Twice, since an instant may already be taken by one that is still to be moved.
  update eve.lane_buckets b set at_ms = -b.at_ms where b.at_ms > 0;
  update eve.lane_buckets b set at_ms = -b.at_ms - v_back where b.at_ms < 0;
  update eve.lanes l
  set interactive_tail_ms = greatest(l.interactive_tail_ms - v_back, 0),
    batch_start_ms = greatest(l.batch_start_ms - v_back, 0),
    pace_ms = greatest(l.pace_ms - v_back, 0),
    token_pace_ms = greatest(l.token_pace_ms - v_back, 0),
    blocked_until = case
      when l.blocked_until < 'infinity' and l.blocked_until > to_timestamp(v_now / 1000.0) then l.blocked_until - v_interval
      else l.blocked_until
    end,
    span_number = v_now >> 16,
    span_starts = recent.starts,
    span_tokens = recent.tokens,
    previous_span_starts = 0,
    previous_span_tokens = 0,
    day_starts = l.day_starts + case when l.day_ends_ms > v_midnight then l.next_day_starts + recent.today else 0 end,
    day_batch_starts = l.day_batch_starts + case when l.day_ends_ms > v_midnight then l.next_day_batch_starts else 0 end,
    next_day_starts = case when l.day_ends_ms > v_midnight then 0 else l.next_day_starts end,
    next_day_batch_starts = case when l.day_ends_ms > v_midnight then 0 else l.next_day_batch_starts end,
    day_ends_ms = least(l.day_ends_ms, v_midnight)
  from (
    select each.id,
      coalesce((select sum(b.starts) from eve.lane_buckets b where b.lane_id = each.id), 0) as starts,
      coalesce((select sum(b.tokens) from eve.lane_buckets b where b.lane_id = each.id), 0) as tokens,
      -- A lane whose books had turned over to a day that has not come: what the keys used today is in their counters.
      coalesce(
        (
          select sum(used.today)
          from (
            select max(c.rpd_used) as today
            from public.google_ai_usage_counters c
            join public.google_ai_api_keys k on k.id = c.api_key_id
            where k.quota_key = each.quota_project and c.model = each.model and c.day_bucket = v_today
            group by c.api_key_id
          ) used
        ), 0
      ) as today
    from eve.lanes each
  ) recent
  where recent.id = l.id;

  perform from eve.issue_windows w where w.minute > v_now / 60000 order by w.subject for no key update;
  update eve.issue_windows w set minute = v_now / 60000 where w.minute > v_now / 60000;
end;
$$;
comment on function eve.turn_back is 'Moves what admission remembers back in time, as far as the clock went.';

-- Looks at the clock as the sweep does. Answers by how many milliseconds the books were moved; 0: the clock goes as it should.
create or replace function eve.follow_clock()
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Clocks are corrected by less all the time, and to be mute for a second is no harm.
  v_tolerance_ms constant integer := 1000;
  -- Numbers are handed to connections 32 at a time, so the newest rows are among the last thousands.
  v_newest constant integer := 2000;
  v_watch eve.clock_watch;
  v_seen bigint;
  v_now bigint;
  v_back bigint;
begin
  select * into v_watch from eve.clock_watch w for update skip locked;
  if not found then
    return 0; -- Another sweep is looking.
  end if;
  -- Every booking has left a row here: it is running, or it has ended.
  select floor(extract(epoch from max(written.at)) * 1000)::bigint into v_seen
  from (
    select i.received_at as at, i.request_no as number, v_watch.request_no as behind
    from eve.inflight i
    union all
    (
      select greatest(r.received_at, r.finished_at), r.request_no, v_watch.request_no
      from eve.requests r
      order by r.request_no desc
      limit v_newest
    )
    union all
    (select r.refused_at, r.id, v_watch.refusal_id from eve.refusals r order by r.id desc limit v_newest)
  ) written
  where written.number > written.behind or written.at > to_timestamp(v_watch.ahead_ms / 1000.0);
  v_now := eve.clock_ms();
  v_seen := greatest(v_watch.seen_ms, v_seen);
  v_back := v_seen - v_now;
  if v_back <= v_tolerance_ms then
    update eve.clock_watch w set seen_ms = v_now where w.id;
    if v_watch.last_jump_at <= to_timestamp(v_now / 1000.0) - interval '1 hour' then
      perform eve.end_alerts(array['clock_went_back'], 'database');
    end if;
    return 0;
  end if;
  perform eve.turn_back(v_back);
  update eve.clock_watch w
  set seen_ms = v_now, jumps = w.jumps + 1, last_jump_ms = v_back, last_jump_at = to_timestamp(v_now / 1000.0),
    ahead_ms = v_seen,
    request_no = coalesce(
      greatest((select max(r.request_no) from eve.requests r), (select max(i.request_no) from eve.inflight i)), 0
    ),
    refusal_id = coalesce((select max(r.id) from eve.refusals r), 0)
  where w.id;
  perform eve.open_alert(
    'clock_went_back', 'database', 'warning',
    format('The database''s clock went back by at least %s seconds.', round(v_back / 1000.0, 1))
  );
  return v_back;
end;
$$;
comment on function eve.follow_clock is 'Notices that the clock has gone back, and moves the books along.';

insert into eve.clock_watch (seen_ms) values (eve.clock_ms()) on conflict do nothing;
