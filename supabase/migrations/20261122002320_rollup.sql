-- Rollup: brings the sums up to now, in steps.
--
-- What is still to be summed stands in eve.rollup_due; a step, which is a transaction, does as much of it as fits into its time. A
-- run that is killed loses its last step, and the next one goes on with what is due. Slices are kept for some hours; should an hour
-- change that has none any more, all of them are made again.

-- The beginning of the first hour that retention has not been at.
create or replace function eve.first_whole_hour(frozen_before timestamptz)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
  select case
    when first_whole_hour.frozen_before is null then '-infinity'
    else to_timestamp(ceil(extract(epoch from first_whole_hour.frozen_before) / 3600) * 3600)
  end;
$$;

-- Sums of before a time stay as they are from now on: anyone who deletes rows that they are made of asks first, and deletes no
-- further than the answer; null: nothing. `sums`: hours, made of the audit, of which as much is answered as has been summed, less
-- an hour for settlements under way; or days, made of hours. Rollup holds the row while it sums, so it is waited for, but not for
-- long: then the answer is what was frozen before.
create or replace function eve.freeze_sums(before timestamptz, sums text default 'hours')
returns timestamptz
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lock_timeout constant text := current_setting('lock_timeout');
  v_progress eve.rollup_progress;
  v_before timestamptz := freeze_sums.before;
  v_frozen timestamptz;
begin
  select * into v_progress from eve.rollup_progress p;
  if v_before is null or freeze_sums.sums = 'hours' and v_progress.rolled_until is null then
    return null;
  end if;
  if freeze_sums.sums = 'hours' then
    v_before := least(v_before, v_progress.rolled_until - interval '1 hour');
    v_frozen := v_progress.frozen_before;
  else
    v_frozen := v_progress.hours_frozen_before;
  end if;
  if v_frozen >= v_before then
    return v_before;
  end if;
  begin
    perform set_config('lock_timeout', '2s', true);
    if freeze_sums.sums = 'hours' then
      -- As long as nobody has taken the sums back meanwhile.
      update eve.rollup_progress p
      set frozen_before = greatest(p.frozen_before, v_before)
      where p.rolled_until - interval '1 hour' >= v_before;
    else
      update eve.rollup_progress p set hours_frozen_before = greatest(p.hours_frozen_before, v_before);
    end if;
    if not found then
      v_before := v_frozen;
    end if;
  exception
    when lock_not_available then
      v_before := v_frozen;
  end;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return v_before;
end;
$$;

-- Notes what was written to the audit in [from_at, until_at) as due. Hours that retention has been at keep the sums they have.
create or replace function eve.note_due(from_at timestamptz, until_at timestamptz, progress eve.rollup_progress)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_slice constant interval := '20 seconds';
begin
  with touched as materialized (
    select w.slice, date_trunc('hour', w.slice, 'UTC') as hour
    from eve.written_slices(note_due.from_at, note_due.until_at) w
    where date_trunc('hour', w.slice, 'UTC') >= eve.first_whole_hour((progress).frozen_before)
  ), hours as materialized (
    select t.hour, max(t.slice) as last_slice,
      exists (
        select
        from eve.usage_slices s
        where s.slice >= t.hour and s.slice < t.hour + interval '1 hour'
      ) as has_slices
    from touched t
    group by t.hour
  )
  insert into eve.rollup_due as d (unit, at)
  select 'slice', t.slice
  from touched t
  union
  select 'slice', generate_series(h.hour, least(h.hour + interval '1 hour' - v_slice, greatest(h.last_slice, note_due.until_at)), v_slice)
  from hours h
  where not h.has_slices
  union
  select 'hour', h.hour
  from hours h
  order by 1, 2
  on conflict (unit, at) do update
  set failed_at = null, error = null
  where d.failed_at is not null;
end;
$$;

-- Sums the slices that are due from an instant on, as many of its hour as a step can take, and one at least: {"count", "until"}.
-- A slice that cannot be summed is summed without the rows at fault.
create or replace function eve.roll_due_slices(from_at timestamptz)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_slice constant interval := '20 seconds';
  v_until timestamptz;
  v_count bigint;
begin
  select max(d.at) + v_slice into v_until
  from eve.rollup_due d
  where d.unit = 'slice' and d.at >= roll_due_slices.from_at
    and d.at < date_trunc('hour', roll_due_slices.from_at, 'UTC') + interval '1 hour';
  v_until := eve.rollup_reach(roll_due_slices.from_at, v_until, v_slice, false);
  while v_count is null loop
    begin
      v_count := eve.roll_slices(roll_due_slices.from_at, v_until);
    exception
      when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
        if v_until - roll_due_slices.from_at <= v_slice then
          perform eve.set_aside(roll_due_slices.from_at);
          v_count := 1;
        else
          v_until := roll_due_slices.from_at
            + greatest(v_slice, date_bin(v_slice, roll_due_slices.from_at + (v_until - roll_due_slices.from_at) / 2, roll_due_slices.from_at) - roll_due_slices.from_at);
        end if;
    end;
  end loop;
  return jsonb_build_object('count', v_count, 'until', v_until);
end;
$$;

-- Sums what is due next: {"count", "unit"}; null: nothing is. First all slices, then their hours, then their days, the oldest
-- first.
create or replace function eve.roll_next(progress eve.rollup_progress, now_at timestamptz)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Late settlements come in this time, but for a few.
  v_keeps_slices constant interval := '3 hours';
  v_unit text;
  v_at timestamptz;
  v_rolled jsonb;
  v_count bigint := 0;
begin
  foreach v_unit in array array['slice', 'hour', 'day'] loop
    select d.at into v_at
    from eve.rollup_due d
    where d.unit = v_unit and d.failed_at is null
    order by d.at
    limit 1;
    exit when found;
  end loop;
  if v_at is null then
    return null;
  end if;
  if v_unit = 'slice' then
    v_rolled := '{}';
    if date_trunc('hour', v_at, 'UTC') >= eve.first_whole_hour((progress).frozen_before) then
      v_rolled := eve.roll_due_slices(v_at);
      v_count := (v_rolled ->> 'count')::bigint;
    end if;
    delete from eve.rollup_due d
    where d.unit = 'slice' and d.at >= v_at and d.at < coalesce((v_rolled ->> 'until')::timestamptz, v_at + interval '20 seconds');
  else
    begin
      if v_unit = 'hour' and v_at >= eve.first_whole_hour((progress).frozen_before) then
        v_count := eve.roll_hour(v_at);
        insert into eve.rollup_due (unit, at)
        values (
          'day', eve.pacific_day((extract(epoch from v_at) * 1000)::bigint)::timestamp at time zone 'America/Los_Angeles'
        )
        on conflict (unit, at) do update set failed_at = null, error = null;
        if v_at + interval '1 hour' <= roll_next.now_at - v_keeps_slices then
          delete from eve.usage_slices s where s.slice >= v_at and s.slice < v_at + interval '1 hour';
        end if;
      -- A day whose hours are partly gone keeps the sum it has.
      elsif v_unit = 'day' and v_at >= coalesce((progress).hours_frozen_before, '-infinity') then
        v_count := eve.roll_day((v_at at time zone 'America/Los_Angeles')::date);
      end if;
      delete from eve.rollup_due d where d.unit = v_unit and d.at = v_at;
    exception
      when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
        update eve.rollup_due d
        set failed_at = roll_next.now_at, error = left(sqlerrm, 500)
        where d.unit = v_unit and d.at = v_at;
    end;
  end if;
  return jsonb_build_object('count', v_count, 'unit', v_unit);
end;
$$;

-- When everything that is due has been summed, but for what cannot be: notes how far the sums are, and says what is missing in them.
create or replace function eve.rollup_done(until_at timestamptz)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_keeps_slices constant interval := '3 hours';
  v_rows bigint;
  v_due bigint;
  v_error text;
begin
  update eve.rollup_progress p set rolled_until = greatest(p.rolled_until, rollup_done.until_at);
  delete from eve.usage_slices s
  where s.slice < date_trunc('hour', rollup_done.until_at - v_keeps_slices, 'UTC')
    and not exists (
      select
      from eve.rollup_due d
      where d.unit = 'hour' and d.at = date_trunc('hour', s.slice, 'UTC')
    );
  select count(*), min(b.error) into v_rows, v_error from eve.rollup_set_aside b;
  select count(*), coalesce(v_error, min(d.error)) into v_due, v_error from eve.rollup_due d where d.failed_at is not null;
  if v_rows + v_due > 0 then
    perform eve.open_alert(
      'rollup_set_aside', 'eve.usage_hours', 'warning',
      format('%s rows of the audit and %s hours and days are not in the sums: %s', v_rows, v_due, v_error)
    );
  else
    perform eve.end_alerts(array['rollup_set_aside'], '');
  end if;
end;
$$;

-- Sums what is due, then looks through the next stretch of the audit for what it changed, until it has come to now.
create or replace function eve.rollup_step(state jsonb, now_at timestamptz)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Settlements write their time before they commit. None takes as long as this: the platform cancels it before.
  v_overlap constant interval := '15 minutes';
  -- How much of the audit is looked through at once, should little be in it.
  v_stretch constant interval := '6 hours';
  -- A step begins nothing more after so long. What it has begun takes some hundred milliseconds.
  v_step_time constant interval := '200 milliseconds';
  v_instant constant interval := '1 microsecond';
  v_began constant timestamptz := clock_timestamp();
  v_looked timestamptz := (rollup_step.state ->> 'looked')::timestamptz;
  v_hours integer := coalesce((rollup_step.state ->> 'summed')::integer, 0);
  v_progress eve.rollup_progress;
  v_rolled jsonb;
  v_until timestamptz;
  v_count bigint := 0;
  v_done boolean := false;
begin
  select * into v_progress from eve.rollup_progress p for update;
  if v_looked is null then
    update eve.rollup_due d set failed_at = null where d.failed_at <= rollup_step.now_at - interval '1 hour';
  end if;
  -- From where it has been looked through for good; also where somebody has taken the sums back meanwhile, or the clock has gone back.
  if v_looked is null or v_progress.looked_until is distinct from (rollup_step.state ->> 'looked_until')::timestamptz then
    v_looked := least(v_progress.looked_until, rollup_step.now_at - v_overlap);
  end if;
  if v_progress.looked_until is null then
    -- The first rows by number are nearly the oldest.
    select least(
      (select r.finished_at from eve.requests r order by r.request_no limit 1),
      (select e.settled_at from eve.earlier_attempts e order by e.request_no, e.attempt limit 1),
      (select f.refused_at from eve.refusals f order by f.id limit 1), (select min(c.minute) from eve.refusal_counts c),
      rollup_step.now_at
    ) - interval '2 days'
    into v_looked;
  end if;
  while not v_done and clock_timestamp() - v_began < v_step_time loop
    v_rolled := eve.roll_next(v_progress, rollup_step.now_at);
    if v_rolled is not null then
      v_count := v_count + (v_rolled ->> 'count')::bigint;
      v_hours := v_hours + case v_rolled ->> 'unit' when 'hour' then 1 else 0 end;
    elsif v_looked <= rollup_step.now_at then
      -- What bears this very instant too.
      v_until := least(v_looked + v_stretch, rollup_step.now_at + v_instant);
      v_until := eve.rollup_reach(v_looked, v_until, '5 seconds', true);
      perform eve.note_due(v_looked, v_until, v_progress);
      v_looked := v_until;
      update eve.rollup_progress p
      set looked_until = greatest(p.looked_until, least(v_looked, rollup_step.now_at - v_overlap))
      returning * into v_progress;
    else
      perform eve.rollup_done(rollup_step.now_at);
      v_done := true;
    end if;
  end loop;
  return jsonb_build_object(
    'done', v_done, 'count', v_count, 'tables', array['eve.usage_days', 'eve.usage_hours'],
    'details', jsonb_strip_nulls(
      jsonb_build_object('hours_summed', v_hours, 'rolled_until', case when v_done then rollup_step.now_at end)
    ),
    'state', jsonb_build_object('looked', v_looked, 'looked_until', v_progress.looked_until, 'summed', v_hours)
  );
end;
$$;

-- Brings the sums up to now in one transaction, for anyone who is about to read them: {"status", "rolled_until"}.
create or replace function public.eve_rollup(at_most_ms integer default 5000)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_began constant timestamptz := clock_timestamp();
  v_run constant jsonb := eve.begin_run('rollup', 'call');
  v_step jsonb;
begin
  while v_run ->> 'status' = 'running' loop
    v_step := eve.step_run((v_run ->> 'run_id')::bigint);
    exit when (v_step ->> 'done')::boolean;
    if clock_timestamp() - v_began > eve_rollup.at_most_ms * interval '1 millisecond' then
      perform public.eve_maintenance_end(
        (v_run ->> 'run_id')::bigint, 'succeeded', array(select jsonb_array_elements_text(v_step -> 'tables')),
        (v_step ->> 'count')::bigint, v_step -> 'details', more => true
      );
      exit;
    end if;
  end loop;
  return jsonb_strip_nulls(
    jsonb_build_object(
      'status', coalesce(v_step ->> 'status', v_run ->> 'status'), 'error', v_step ->> 'error',
      'rolled_until', (select p.rolled_until from eve.rollup_progress p)
    )
  );
end;
$$;
comment on function public.eve_rollup is 'Sums up what the audit has gained since the last rollup. Says skipped while another rollup is on, and running when it did not come to the end.';

-- Throws the sums since a time away, so that the next rollup makes them again from the audit. What retention has been at stays.
create or replace function public.eve_rollup_rebuild(since timestamptz default '-infinity')
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_progress eve.rollup_progress;
  v_from timestamptz;
begin
  if eve_rollup_rebuild.since is null then
    raise exception 'since must be a time' using errcode = 'EV400';
  end if;
  select * into v_progress from eve.rollup_progress p for update;
  v_from := greatest(
    eve.first_whole_hour(v_progress.frozen_before), date_trunc('hour', eve_rollup_rebuild.since, 'UTC')
  );
  delete from eve.rollup_due d where d.at >= v_from;
  delete from eve.rollup_set_aside b where b.slice >= v_from;
  delete from eve.usage_slices s where s.slice >= v_from;
  delete from eve.usage_hours h where h.hour >= v_from;
  delete from eve.usage_days d
  where d.day::timestamp at time zone 'America/Los_Angeles' >= greatest(v_from, v_progress.hours_frozen_before);
  update eve.rollup_progress p set looked_until = nullif(v_from, '-infinity'), rolled_until = nullif(v_from, '-infinity');
  return jsonb_build_object('from', nullif(v_from, '-infinity'));
end;
$$;
comment on function public.eve_rollup_rebuild is 'Has the hourly and daily sums made again from the audit, as far back as the audit goes.';
