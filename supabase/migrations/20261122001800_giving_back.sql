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
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_consumer_id constant uuid := coalesce(eve_give_back.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_running eve.inflight;
  v_before eve.attempts;
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
    case when v_running.attempt = 1 then -1 else 0 end, -v_running.tokens
  );
  if v_running.state = 'reserved' then
    perform eve.unbook(v_running);
  end if;
  v_call.request_id := v_running.request_id;
  v_call.consumer_id := v_running.consumer_id;
  v_call.token_id := v_running.token_id;
  v_call.attempt := v_running.attempt;
  v_call.tokens := v_running.estimated_tokens;
  v_call.door := v_running.door;
  v_call.trace_id := v_running.trace_id;
  perform eve.note_refusal(v_call, v_running.class, 'database_unavailable', v_running.model, null, null);
  if v_running.attempt = 1 then
    delete from eve.inflight i where i.request_no = v_running.request_no;
  else
    -- The attempts before it were sent: the request ends as the last of them did.
    select * into v_before
    from eve.attempts a
    where a.request_no = v_running.request_no and a.attempt = v_running.attempt - 1;
    v_running.attempt := v_before.attempt;
    v_running.key_id := v_before.key_id;
    v_running.model := v_before.model;
    perform eve.close_request(
      v_running, v_before.outcome, v_before.error_code, v_before.input_tokens, v_before.output_tokens, v_before.total_tokens,
      v_before.finish_reason
    );
  end if;
  return jsonb_build_object('status', 'given_back');
end;
$$;
comment on function public.eve_give_back is 'Takes back what a call of eve_reserve has booked and its caller has not heard of in time. Answers given_back, nothing, or wait.';

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
create or replace trigger attempts_settled_late
after update of outcome on eve.attempts
for each row
when (old.outcome = 'expired' and new.outcome <> 'expired' and new.input_tokens is not null)
execute function eve.correct_usage();

create or replace function public.eve_sweep(at_most integer default 1000)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object('expired', eve.expire_leases(null, eve_sweep.at_most));
$$;
comment on function public.eve_sweep is 'Closes reservations whose callers have died. Every reservation does so for its own lane too.';
