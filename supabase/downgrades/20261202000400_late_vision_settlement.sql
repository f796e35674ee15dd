-- The way down of 20261202000400_late_vision_settlement.sql.

set local lock_timeout = '10s';

CREATE OR REPLACE FUNCTION public.eve_vision_settle(id text, tokens bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_one eve.vision_reservations;
begin
  if eve_vision_settle.tokens < 0 then
    raise exception 'tokens must not be negative' using errcode = 'EV400';
  end if;
  select * into v_one from eve.vision_reservations r where r.id = eve_vision_settle.id;
  if not found then
    return jsonb_build_object('status', 'none');
  end if;
  perform eve.vision_counters(v_one.tenant_id, v_one.provider, v_one.counts_in_all, v_one.day);
  update eve.vision_reservations r
  set state = case when eve_vision_settle.tokens is null then 'given_back' else 'settled' end
  where r.id = v_one.id and r.state = 'reserved'
  returning * into v_one;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  perform eve.vision_count(
    v_one, coalesce(eve_vision_settle.tokens, 0), case when eve_vision_settle.tokens is null then 0 else v_one.pictures end,
    -v_one.tokens, -v_one.pictures
  );
  perform eve.vision_budget_alerts(v_one.tenant_id);
  return jsonb_build_object('status', v_one.state);
end;
$function$;
