-- What a call really took, in the counters too, when it is settled after its lease.
--
-- A lease that ran out was counted with what had been booked. A settlement that comes later corrects the audit, the window and
-- the budgets; this corrects public.google_ai_usage_counters. A trigger, since only late settlements ever update an attempt:
-- those in time insert it, and pay nothing for this.

set local lock_timeout = '10s';

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
revoke all on function eve.correct_usage() from public, anon, authenticated;

create or replace trigger attempts_settled_late
after update of outcome on eve.attempts
for each row
when (old.outcome = 'expired' and new.outcome <> 'expired' and new.input_tokens is not null)
execute function eve.correct_usage();
