-- The audit in sums: what counts where, and the sums of slices, hours and Pacific days.
--
-- An hour may hold millions of rows, so it is summed in slices of 20 seconds, each whole and again: the same however often it is
-- done, and what is settled late corrects the slice that it belongs to. An hour is the sum of its slices, a day of its hours.
--
-- Tried and dropped: hours whole and at once (5.5 s for 360,000 rows, from the beginning after each run that was cut); adding what
-- is new to the sums that are there (exact only with a note of what has been added of each row).

-- Reading the audit ------------------------------------------------------------------------------------------------------

-- What counts in [from_at, until_at), a row of the audit each, with the slice that it counts in: requests when they came,
-- attempts of requests that have ended when they started, refusals when they were refused at their first attempt (a later one's
-- belongs to a request that counts as it ended). A caller may ask for any name: those that no model has are one.
create or replace function eve.usage_rows(from_at timestamptz, until_at timestamptz)
returns table (
  source text, number bigint, attempt smallint, slice timestamptz, consumer_id uuid, model text, key_id uuid, endpoint text,
  requests bigint, succeeded bigint, failed bigint, cancelled bigint, expired bigint, refused bigint, attempts bigint,
  dispatched bigint, upstream_refused bigint, input_tokens bigint, output_tokens bigint, thoughts_tokens bigint,
  cached_tokens bigint, wait_ms bigint, latency_ms bigint
)
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  v_slice constant interval := '20 seconds';
  -- Once, and not for every row that is compared with them.
  v_from_ms constant bigint := floor(extract(epoch from usage_rows.from_at) * 1000);
  v_until_ms constant bigint := floor(extract(epoch from usage_rows.until_at) * 1000);
begin
  return query
  select 'requests'::text, r.request_no, 0::smallint, date_bin(v_slice, r.received_at, 'epoch'), r.consumer_id, left(r.model, 200),
    coalesce(r.key_id, v_nobody), left(r.endpoint, 40), 1::bigint, (r.state = 'succeeded')::integer::bigint,
    (r.state = 'failed')::integer::bigint, (r.state = 'cancelled')::integer::bigint, (r.state = 'expired')::integer::bigint,
    0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, r.wait_ms, 0::bigint
  from eve.requests r
  where r.received_at >= usage_rows.from_at and r.received_at < usage_rows.until_at
  union all
  select 'attempts', a.request_no, a.attempt, date_bin(v_slice, to_timestamp(a.start_ms / 1000.0), 'epoch'),
    coalesce(a.consumer_id, r.consumer_id), left(a.model, 200), a.key_id, left(coalesce(a.endpoint, r.endpoint), 40), 0, 0, 0, 0, 0, 0, 1, a.dispatched::integer,
    coalesce(a.upstream_status = 429, false)::integer, coalesce(a.input_tokens, 0), coalesce(a.output_tokens, 0),
    coalesce(a.thoughts_tokens, 0), coalesce(a.cached_tokens, 0), 0, coalesce(a.latency_ms, 0)
  from eve.attempts a
  -- The attempts of a request count once it has ended, when it is known whose they were. Those before the last are looked up one
  -- by one: any other way reads a table of millions for some thousand rows of it.
  left join lateral (
    select q.consumer_id, q.endpoint from eve.requests q where a.consumer_id is null and q.request_no = a.request_no offset 0
  ) r on true
  where a.start_ms >= v_from_ms and a.start_ms < v_until_ms and coalesce(a.consumer_id, r.consumer_id) is not null
  union all
  select 'refusals', f.id, 0::smallint, date_bin(v_slice, f.refused_at, 'epoch'), coalesce(f.consumer_id, v_nobody),
    coalesce(m.model, '(unknown)'), v_nobody, left(f.endpoint, 40), 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
  from eve.refusals f
  left join public.google_ai_model_limits m on m.model = f.model
  where f.refused_at >= usage_rows.from_at and f.refused_at < usage_rows.until_at and f.attempt <= 1
  union all
  select 'refusal_counts', c.id, 0::smallint, c.minute, c.consumer_id, coalesce(m.model, '(unknown)'), v_nobody, c.endpoint,
    0, 0, 0, 0, 0, c.times, 0, 0, 0, 0, 0, 0, 0, 0, 0
  from eve.refusal_counts c
  left join public.google_ai_model_limits m on m.model = c.model
  where c.minute >= usage_rows.from_at and c.minute < usage_rows.until_at and c.is_first;
end;
$$;

-- The slices whose sums may have changed by what was written to the audit in [from_at, until_at): those of requests that ended
-- and of their attempts, of attempts that were settled after their request had ended, and of refusals. One too many does no harm.
create or replace function eve.written_slices(from_at timestamptz, until_at timestamptz)
returns table (slice timestamptz)
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_slice constant interval := '20 seconds';
begin
  return query
  select date_bin(v_slice, r.received_at, 'epoch')
  from eve.requests r
  where r.finished_at >= written_slices.from_at and r.finished_at < written_slices.until_at
  union
  select date_bin(v_slice, to_timestamp(r.start_ms / 1000.0), 'epoch')
  from eve.requests r
  where r.finished_at >= written_slices.from_at and r.finished_at < written_slices.until_at and r.start_ms is not null
  union
  select date_bin(v_slice, to_timestamp(e.start_ms / 1000.0), 'epoch')
  from eve.requests r
  -- Looked up one by one, as in eve.usage_rows.
  cross join lateral (select t.start_ms from eve.earlier_attempts t where t.request_no = r.request_no offset 0) e
  where r.finished_at >= written_slices.from_at and r.finished_at < written_slices.until_at
    and (r.attempts > 1 or r.lane_id is null)
  union
  select date_bin(v_slice, late.at, 'epoch')
  from eve.requests r
  cross join lateral (values (r.received_at), (to_timestamp(r.start_ms / 1000.0))) as late (at)
  where r.settled_at >= written_slices.from_at and r.settled_at < written_slices.until_at
  union
  select date_bin(v_slice, f.refused_at, 'epoch')
  from eve.refusals f
  where f.refused_at >= written_slices.from_at and f.refused_at < written_slices.until_at
  union
  -- Counted until their minute is over.
  select c.minute
  from eve.refusal_counts c
  where c.minute >= written_slices.from_at - interval '1 minute' and c.minute < written_slices.until_at;
end;
$$;

-- How far to read from an instant, so that a step reads at most some ten thousand rows: until_at, or a part of the way there, of
-- which the least is `unit`. By when rows were written, or by when they count. Reaches further as long as little is there.
create or replace function eve.rollup_reach(from_at timestamptz, until_at timestamptz, unit interval, written boolean)
returns timestamptz
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
-- With a limit the planner takes the primary key's index for the shorter way, and reads the table from its beginning.
set enable_indexscan = 'off'
set jit = 'off'
as $$
declare
  v_most constant integer := 15000;
  v_reach interval := rollup_reach.unit;
  v_until timestamptz := rollup_reach.from_at;
  v_next timestamptz;
  v_until_ms bigint;
  v_next_ms bigint;
  v_rows bigint := 0;
begin
  while v_until < rollup_reach.until_at loop
    v_next := least(rollup_reach.from_at + v_reach, rollup_reach.until_at);
    if rollup_reach.written then
      select v_rows + (select count(*) from (
          select from eve.requests r where r.finished_at >= v_until and r.finished_at < v_next limit v_most
        ) q) + (select count(*) from (
          select from eve.attempts a where a.settled_at >= v_until and a.settled_at < v_next limit v_most
        ) q) + (select count(*) from (
          select from eve.refusals f where f.refused_at >= v_until and f.refused_at < v_next limit v_most
        ) q)
      into v_rows;
    else
      v_until_ms := floor(extract(epoch from v_until) * 1000);
      v_next_ms := floor(extract(epoch from v_next) * 1000);
      select v_rows + (select count(*) from (
          select from eve.requests r where r.received_at >= v_until and r.received_at < v_next limit v_most
        ) q) + (select count(*) from (
          select from eve.attempts a where a.start_ms >= v_until_ms and a.start_ms < v_next_ms limit v_most
        ) q) + (select count(*) from (
          select from eve.refusals f where f.refused_at >= v_until and f.refused_at < v_next limit v_most
        ) q)
      into v_rows;
    end if;
    exit when v_rows > v_most and v_until > rollup_reach.from_at;
    v_until := v_next;
    exit when v_rows > v_most;
    v_reach := v_reach * 3;
  end loop;
  return v_until;
end;
$$;

-- Summing ----------------------------------------------------------------------------------------------------------------

-- Sums the slices of [from_at, until_at) from the audit. Answers how many rows of eve.usage_slices it changed.
create or replace function eve.roll_slices(from_at timestamptz, until_at timestamptz)
returns bigint
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_count bigint;
begin
  with fresh as materialized (
    select u.slice, u.consumer_id, u.model, u.key_id, u.endpoint, sum(u.requests) as requests, sum(u.succeeded) as succeeded,
      sum(u.failed) as failed, sum(u.cancelled) as cancelled, sum(u.expired) as expired, sum(u.refused) as refused,
      sum(u.attempts) as attempts, sum(u.dispatched) as dispatched, sum(u.upstream_refused) as upstream_refused,
      sum(u.input_tokens) as input_tokens, sum(u.output_tokens) as output_tokens, sum(u.thoughts_tokens) as thoughts_tokens,
      sum(u.cached_tokens) as cached_tokens, sum(u.wait_ms) as wait_ms, sum(u.latency_ms) as latency_ms
    from eve.usage_rows(roll_slices.from_at, roll_slices.until_at) u
    where not exists (
      select
      from eve.rollup_set_aside b
      where b.source = u.source and b.number = u.number and b.attempt = u.attempt
    )
    group by u.slice, u.consumer_id, u.model, u.key_id, u.endpoint
  ), gone as (
    delete from eve.usage_slices s
    where s.slice >= roll_slices.from_at and s.slice < roll_slices.until_at
      and not exists (
        select
        from fresh f
        where f.slice = s.slice and f.consumer_id = s.consumer_id and f.model = s.model and f.key_id = s.key_id
          and f.endpoint = s.endpoint
      )
    returning 1
  ), changed as (
    insert into eve.usage_slices as s (
      slice, consumer_id, model, key_id, endpoint, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
      upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
    )
    select f.slice, f.consumer_id, f.model, f.key_id, f.endpoint, f.requests, f.succeeded, f.failed, f.cancelled, f.expired,
      f.refused, f.attempts, f.dispatched, f.upstream_refused, f.input_tokens, f.output_tokens, f.thoughts_tokens,
      f.cached_tokens, f.wait_ms, f.latency_ms
    from fresh f
    on conflict on constraint usage_slices_pkey do update
    set requests = excluded.requests, succeeded = excluded.succeeded, failed = excluded.failed,
      cancelled = excluded.cancelled, expired = excluded.expired, refused = excluded.refused, attempts = excluded.attempts,
      dispatched = excluded.dispatched, upstream_refused = excluded.upstream_refused, input_tokens = excluded.input_tokens,
      output_tokens = excluded.output_tokens, thoughts_tokens = excluded.thoughts_tokens,
      cached_tokens = excluded.cached_tokens, wait_ms = excluded.wait_ms, latency_ms = excluded.latency_ms
    -- Most of what is looked at again has not changed.
    where s is distinct from excluded
    returning 1
  )
  select (select count(*) from gone) + (select count(*) from changed) into v_count;
  return v_count;
end;
$$;

-- Sums one slice row by row, for one that eve.roll_slices cannot sum: what cannot be added is set aside. Answers how many.
create or replace function eve.set_aside(slice timestamptz)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_row record;
  v_count integer := 0;
begin
  delete from eve.usage_slices s where s.slice = set_aside.slice;
  for v_row in
    select u.*
    from eve.usage_rows(set_aside.slice, set_aside.slice + interval '20 seconds') u
    where not exists (
      select
      from eve.rollup_set_aside b
      where b.source = u.source and b.number = u.number and b.attempt = u.attempt
    )
    order by u.source, u.number, u.attempt
  loop
    begin
      insert into eve.usage_slices as s
      values (
        v_row.slice, v_row.consumer_id, v_row.model, v_row.key_id, v_row.endpoint, v_row.requests, v_row.succeeded, v_row.failed,
        v_row.cancelled, v_row.expired, v_row.refused, v_row.attempts, v_row.dispatched, v_row.upstream_refused,
        v_row.input_tokens, v_row.output_tokens, v_row.thoughts_tokens, v_row.cached_tokens, v_row.wait_ms, v_row.latency_ms
      )
      on conflict on constraint usage_slices_pkey do update
      set requests = s.requests + excluded.requests, succeeded = s.succeeded + excluded.succeeded,
        failed = s.failed + excluded.failed, cancelled = s.cancelled + excluded.cancelled,
        expired = s.expired + excluded.expired, refused = s.refused + excluded.refused,
        attempts = s.attempts + excluded.attempts, dispatched = s.dispatched + excluded.dispatched,
        upstream_refused = s.upstream_refused + excluded.upstream_refused,
        input_tokens = s.input_tokens + excluded.input_tokens, output_tokens = s.output_tokens + excluded.output_tokens,
        thoughts_tokens = s.thoughts_tokens + excluded.thoughts_tokens,
        cached_tokens = s.cached_tokens + excluded.cached_tokens, wait_ms = s.wait_ms + excluded.wait_ms,
        latency_ms = s.latency_ms + excluded.latency_ms;
    exception
      when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
        insert into eve.rollup_set_aside (source, number, attempt, slice, error, set_aside_at)
        values (v_row.source, v_row.number, v_row.attempt, set_aside.slice, left(sqlerrm, 500), eve.clock())
        on conflict do nothing;
        v_count := v_count + 1;
    end;
  end loop;
  return v_count;
end;
$$;

create or replace function eve.roll_hour(hour timestamptz)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  v_count bigint;
begin
  delete from eve.usage_hours h where h.hour = roll_hour.hour;
  insert into eve.usage_hours (
    hour, consumer_id, model, key_id, endpoint, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
    upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
  )
  select roll_hour.hour, nullif(s.consumer_id, v_nobody), s.model, nullif(s.key_id, v_nobody), s.endpoint, sum(s.requests),
    sum(s.succeeded), sum(s.failed), sum(s.cancelled), sum(s.expired), sum(s.refused), sum(s.attempts), sum(s.dispatched),
    sum(s.upstream_refused), sum(s.input_tokens), sum(s.output_tokens), sum(s.thoughts_tokens), sum(s.cached_tokens),
    sum(s.wait_ms), sum(s.latency_ms)
  from eve.usage_slices s
  where s.slice >= roll_hour.hour and s.slice < roll_hour.hour + interval '1 hour'
  group by s.consumer_id, s.model, s.key_id, s.endpoint;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

create or replace function eve.roll_day(day date)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_from constant timestamptz := roll_day.day::timestamp at time zone 'America/Los_Angeles';
  v_until constant timestamptz := (roll_day.day + 1)::timestamp at time zone 'America/Los_Angeles';
  v_count bigint;
begin
  delete from eve.usage_days d where d.day = roll_day.day;
  insert into eve.usage_days (
    day, consumer_id, model, key_id, endpoint, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
    upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
  )
  select roll_day.day, h.consumer_id, h.model, h.key_id, h.endpoint, sum(h.requests), sum(h.succeeded), sum(h.failed),
    sum(h.cancelled), sum(h.expired), sum(h.refused), sum(h.attempts), sum(h.dispatched), sum(h.upstream_refused),
    sum(h.input_tokens), sum(h.output_tokens), sum(h.thoughts_tokens), sum(h.cached_tokens), sum(h.wait_ms),
    sum(h.latency_ms)
  from eve.usage_hours h
  where h.hour >= v_from and h.hour < v_until
  group by h.consumer_id, h.model, h.key_id, h.endpoint;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;
