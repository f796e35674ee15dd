-- What nobody settles: starts whose caller has gone, and usage that comes after its lease has expired.

set local lock_timeout = '10s';

-- What was booked for a caller who has not heard of it.
--
-- A reservation can be made and its answer lost: the server stood still, the connection broke, the answer came after its time. Then
-- nobody uses the start, nobody settles it, and a repeat of the request finds it running until its lease ends. Three things stand
-- against that; what one does not reach, the next does:
--   deadline       nothing is booked after the caller has stopped waiting (eve.stop_when_late). For this the caller need not live.
--   eve_give_back  takes back what was booked in time and heard of too late, or never. The caller asks for it until it is answered.
--   lease          the caller's process has died meanwhile, with a booking that it has not heard of.

-- Takes back what one call of eve_reserve has booked, if it has: as if that call had never been made, but for a line in the audit of
-- refusals, so that the same request may come again. Twice is the same as once.
--
-- Answers given_back; nothing: that call has booked nothing, and will not, since its deadline has passed; wait, with wait_ms: it may
-- still come, from a connection that is held up. So it does not matter whether the caller's clock is right: the deadline is the one
-- that the call was sent with, and both are compared with the clock that is here.
create or replace function public.eve_give_back(
  request_id text,
  call_id uuid,
  deadline timestamptz,
  consumer_id uuid default null,
  attempt integer default 1
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- As for eve_settle.
set lock_timeout = '3s'
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_consumer_id constant uuid := coalesce(eve_give_back.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_running eve.inflight;
  v_call eve.call;
begin
  -- If that call is at work at this moment, it is waited for.
  perform pg_advisory_xact_lock(hashtextextended(v_consumer_id::text || eve_give_back.request_id, 0));
  select * into v_running
  from eve.inflight i
  where i.consumer_id = v_consumer_id and i.request_id = eve_give_back.request_id and i.call_id = eve_give_back.call_id
    and i.attempt = eve_give_back.attempt and i.state in ('reserved', 'waiting')
  for update;
  if not found then
    if clock_timestamp() <= eve_give_back.deadline then
      return jsonb_build_object(
        'status', 'wait', 'wait_ms', ceil(extract(epoch from eve_give_back.deadline - clock_timestamp()) * 1000)::bigint
      );
    end if;
    return jsonb_build_object('status', 'nothing');
  end if;

  -- As eve_settle does for what was not sent, and in its order of locks.
  perform eve.adjust_budgets(
    v_running.consumer_id, v_running.token_id, v_running.received_at,
    case when v_running.attempt = 1 then -1 else 0 end, -v_running.tokens - v_running.output_tokens
  );
  if v_running.state = 'reserved' then
    perform eve.unbook(v_running);
  end if;
  v_call.request_id := v_running.request_id;
  v_call.consumer_id := v_running.consumer_id;
  v_call.token_id := v_running.token_id;
  v_call.attempt := v_running.attempt;
  v_call.tokens := v_running.estimated_tokens;
  v_call.endpoint := v_running.endpoint;
  v_call.trace_id := v_running.trace_id;
  perform eve.note_refusal(v_call, v_running.class, 'database_unavailable', v_running.model, null, null);
  if v_running.attempt = 1 then
    delete from eve.inflight i where i.request_no = v_running.request_no;
  else
    -- The attempts before it were sent: the request ends as the last of them did.
    perform eve.close_as_before(v_running);
  end if;
  return jsonb_build_object('status', 'given_back');
end;
$$;
comment on function public.eve_give_back is 'Takes back what a call of eve_reserve has booked and its caller has not heard of in time. Answers given_back, nothing, or wait.';

-- Takes batch out of the queue whose caller has gone: it held no start, and its budgets are free again.
create or replace function eve.expire_waiting(at_most integer)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_gone record;
  v_row eve.inflight;
begin
  select array_agg(i.request_no) as numbers, array_agg(i.token_id) as tokens, array_agg(i.consumer_id) as consumers,
    array_agg(eve.pacific_day(floor(extract(epoch from i.received_at) * 1000)::bigint)) as days
  into v_gone
  from (
    select w.*
    from eve.inflight w
    where w.lease_until < v_now and w.state = 'waiting'
    limit expire_waiting.at_most
    for update skip locked
  ) i;
  perform eve.lock_budgets(v_gone.tokens, v_gone.consumers, v_gone.days);
  for v_row in select i.* from eve.inflight i where i.request_no = any (v_gone.numbers) order by i.request_no loop
    perform eve.adjust_budgets(
      v_row.consumer_id, v_row.token_id, v_row.received_at, case v_row.attempt when 1 then -1 else 0 end,
      -v_row.tokens - v_row.output_tokens
    );
    if v_row.attempt = 1 then
      perform eve.close_request(v_row, eve.ended_attempt(v_row, 'expired', false, 'lease_expired'));
    else
      perform eve.note_earlier_attempt(v_row, eve.ended_attempt(v_row, 'expired', false, 'lease_expired'));
      perform eve.close_as_before(v_row);
    end if;
  end loop;
  return coalesce(cardinality(v_gone.numbers), 0);
end;
$$;

-- Closes what nobody settled in time: its caller has died. The capacity stays counted at its place in the window, since
-- Google may have counted the call, and so do its budgets; the books say `expired`. Rows that somebody is settling at this moment are
-- left to them, and `except_request_no` to its caller. The sweep of all lanes looks at the clock first, and then at the queue.
create or replace function eve.expire_leases(
  lane_id bigint default null, at_most integer default 1000, except_request_no bigint default null
)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_row eve.inflight;
  v_ended eve.requests;
  v_now timestamptz;
  v_count integer := 0;
begin
  if expire_leases.lane_id is null then
    -- Who has moved the books holds all lanes, and what follows comes before lanes: the next sweep does it.
    if eve.follow_clock() > 0 then
      return 0;
    end if;
    v_count := eve.expire_waiting(expire_leases.at_most);
  end if;
  v_now := eve.clock();
  for v_row in
    select i.*
    from eve.inflight i
    where i.lease_until < v_now
      -- Who names a lane may hold it, and budgets come before lanes: batch that waits is left to the sweep.
      and (expire_leases.lane_id is null or i.lane_id = expire_leases.lane_id) and i.state <> 'waiting'
      and i.request_no is distinct from expire_leases.except_request_no
    -- In the order of the counters that they touch, so that two who close at once cannot wait for each other.
    order by i.key_id, i.model, i.start_ms
    limit expire_leases.at_most
    for update skip locked
  loop
    if v_row.state = 'reserved' then
      v_ended := eve.ended_attempt(v_row, 'expired', true, 'lease_expired');
      v_ended.output_booked := nullif(v_row.output_tokens, 0);
      perform eve.count_usage(v_row.key_id, v_row.model, v_row.start_ms, v_row.tokens);
    else
      v_ended := null;
      v_ended.state := 'expired';
      v_ended.error_code := 'lease_expired';
    end if;
    perform eve.close_request(v_row, v_ended);
    v_count := v_count + 1;
  end loop;
  return v_count;
end;
$$;

-- What a call really took, in the counters too, when it is settled after its lease.
--
-- A lease that ran out was counted with what had been booked. A settlement that comes later corrects the audit, the window and
-- the budgets; this corrects public.google_ai_usage_counters. A trigger, since only late settlements ever update an attempt:
-- those in time insert it, and pay nothing for this.

create or replace function eve.correct_usage()
returns trigger
language plpgsql
volatile
set search_path = ''
as $$
begin
  update public.google_ai_usage_counters c
  set tpm_used = greatest(0, least(2147483647, coalesce(c.tpm_used, 0)::bigint + new.input_tokens - old.tokens_booked))::integer,
    updated_at = now()
  where c.api_key_id = new.key_id and c.model = new.model
    and c.minute_bucket = to_timestamp((new.start_ms / 60000 * 60000) / 1000.0);
  return null;
exception
  -- As in eve.count_usage: rules of the table's owner stop no settlement.
  when integrity_constraint_violation or data_exception or raise_exception then
    return null;
end;
$$;
comment on function eve.correct_usage() is 'Puts the real tokens of a call that was settled after its lease into google_ai_usage_counters.';
create or replace trigger requests_settled_late
after update of state on eve.requests
for each row
when (old.state = 'expired' and new.state <> 'expired' and new.input_tokens is not null)
execute function eve.correct_usage();

create or replace function public.eve_sweep(at_most integer default 1000)
returns jsonb
language sql
volatile
set search_path = ''
-- As for eve_settle. The next sweep comes soon.
set lock_timeout = '3s'
as $$
  select jsonb_build_object('expired', eve.expire_leases(null, eve_sweep.at_most));
$$;
comment on function public.eve_sweep is 'Closes reservations whose callers have died. Every reservation does so for its own lane too.';
