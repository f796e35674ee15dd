-- The way down of 20261202000100_dead_letters_together.sql.

set local lock_timeout = '10s';

CREATE OR REPLACE FUNCTION public.eve_dead_letters_drop(ids bigint[] DEFAULT NULL::bigint[], consumer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_count integer;
begin
  with meant as materialized (
    select l.* from eve.dead_letters_meant(eve_dead_letters_drop.ids, eve_dead_letters_drop.consumer, 1000) l
  ), dropped as (
    update eve.event_deliveries d
    set state = 'dropped', ended_at = eve.clock()
    from meant m
    where d.id = m.delivery_id
  )
  delete from eve.dead_letters l using meant m where l.id = m.id;
  get diagnostics v_count = row_count;
  return jsonb_build_object('dropped', v_count);
end;
$function$;
CREATE OR REPLACE FUNCTION public.eve_dead_letters_replay(ids bigint[] DEFAULT NULL::bigint[], consumer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_count integer;
begin
  with meant as materialized (
    select l.*
    from eve.dead_letters_meant(eve_dead_letters_replay.ids, eve_dead_letters_replay.consumer, 1000) l
    join eve.event_consumers c on c.name = l.consumer and c.is_active
  ), due as (
    update eve.event_deliveries d
    set state = 'pending', attempts = 0, next_try_at = v_now, ended_at = null, first_failed_at = null, last_failed_at = null
    from meant m
    where d.id = m.delivery_id
  )
  delete from eve.dead_letters l using meant m where l.id = m.id;
  get diagnostics v_count = row_count;
  return jsonb_build_object('replayed', v_count);
end;
$function$;
