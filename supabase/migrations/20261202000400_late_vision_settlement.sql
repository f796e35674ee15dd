-- A step of vision that was given back by a run which had lost it, while the next run's call was under way, is counted when that call's cost
-- is known: before, a picture that was paid for was in no budget.

set local lock_timeout = '10s';

-- Ends a reservation with what the step has really cost; null: nothing was sent, and all of it goes back. Once; later ones change nothing,
-- but a cost that becomes known after it was given back counts.
create or replace function public.eve_vision_settle(id text, tokens bigint default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_one eve.vision_reservations;
  v_held bigint;
begin
  if eve_vision_settle.tokens < 0 then
    raise exception 'tokens must not be negative' using errcode = 'EV400';
  end if;
  select * into v_one from eve.vision_reservations r where r.id = eve_vision_settle.id;
  if not found then
    return jsonb_build_object('status', 'none');
  end if;
  perform eve.vision_counters(v_one.tenant_id, v_one.provider, v_one.counts_in_all, v_one.day);
  -- As it is now that nobody else ends it.
  select * into v_one from eve.vision_reservations r where r.id = eve_vision_settle.id for update;
  if not coalesce(v_one.state = 'reserved' or v_one.state = 'given_back' and eve_vision_settle.tokens is not null, false) then
    return jsonb_build_object('status', 'ended');
  end if;
  v_held := case v_one.state when 'reserved' then 1 else 0 end;
  update eve.vision_reservations r
  set state = case when eve_vision_settle.tokens is null then 'given_back' else 'settled' end
  where r.id = v_one.id
  returning * into v_one;
  perform eve.vision_count(
    v_one, coalesce(eve_vision_settle.tokens, 0), case when eve_vision_settle.tokens is null then 0 else v_one.pictures end,
    -v_one.tokens * v_held, -v_one.pictures * v_held
  );
  perform eve.vision_budget_alerts(v_one.tenant_id);
  return jsonb_build_object('status', v_one.state);
end;
$$;
