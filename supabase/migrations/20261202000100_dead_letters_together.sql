-- Dead letters are chosen in one statement and sent again or dropped in the next ones. In one statement they were chosen by a newer view
-- of the database than they were deleted by: one that came in between had its delivery sent again while its letter stayed.

set local lock_timeout = '10s';

-- Sends them again, with all their tries: {"replayed": how many}, 1,000 at most, the oldest first. A consumer that is switched off keeps its own.
create or replace function public.eve_dead_letters_replay(ids bigint[] default null, consumer text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_deliveries bigint[];
begin
  select array_agg(l.delivery_id) into v_deliveries
  from eve.dead_letters_meant(eve_dead_letters_replay.ids, eve_dead_letters_replay.consumer, 1000) l
  join eve.event_consumers c on c.name = l.consumer and c.is_active;
  update eve.event_deliveries d
  set state = 'pending', attempts = 0, next_try_at = v_now, ended_at = null, first_failed_at = null, last_failed_at = null
  where d.id = any (v_deliveries);
  delete from eve.dead_letters l where l.delivery_id = any (v_deliveries);
  return jsonb_build_object('replayed', coalesce(cardinality(v_deliveries), 0));
end;
$$;

create or replace function public.eve_dead_letters_drop(ids bigint[] default null, consumer text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_deliveries bigint[];
begin
  select array_agg(l.delivery_id) into v_deliveries
  from eve.dead_letters_meant(eve_dead_letters_drop.ids, eve_dead_letters_drop.consumer, 1000) l;
  update eve.event_deliveries d
  set state = 'dropped', ended_at = eve.clock()
  where d.id = any (v_deliveries);
  delete from eve.dead_letters l where l.delivery_id = any (v_deliveries);
  return jsonb_build_object('dropped', coalesce(cardinality(v_deliveries), 0));
end;
$$;
