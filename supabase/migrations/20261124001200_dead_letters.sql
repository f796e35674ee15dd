-- Dead letters: deliveries whose tries are used up. They stay until somebody sends them again or drops them, or until eve.retention ends them.

-- However they go, the alert about a consumer closes with the last of them.
create or replace function eve.dead_letters_gone()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_consumer text;
begin
  for v_consumer in select distinct o.consumer from gone o order by o.consumer loop
    perform eve.lock_dead_letters(v_consumer);
    -- A statement of its own, which sees what was committed while it waited.
    if not exists (select from eve.dead_letters l where l.consumer = v_consumer) then
      perform eve.end_alerts(array['dead_letters'], v_consumer);
    end if;
  end loop;
  return null;
end;
$$;
create or replace trigger eve_dead_letters_gone
after delete on eve.dead_letters
referencing old table as gone
for each statement
execute function eve.dead_letters_gone();

create or replace function eve.dead_letter_json(letter eve.dead_letters)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(dead_letter_json.letter) || jsonb_build_object(
    'type', e.type, 'subject', e.subject, 'receiver', eve.event_consumer_label((letter).consumer), 'event', eve.event_json(e)
  )
  from eve.event_deliveries d
  join eve.events e on e.id = d.event_id
  where d.id = (letter).delivery_id;
$$;

-- The newest first, a page and where the next one begins: {"dead_letters": [..], "next_before"}.
create or replace function public.eve_dead_letters(
  consumer text default null, type text default null, before bigint default null, at_most integer default 100
)
returns jsonb
language sql
stable
set search_path = ''
as $$
  with page as (
    select l.id, eve.dead_letter_json(l) - 'event' as one
    from eve.dead_letters l
    join eve.event_deliveries d on d.id = l.delivery_id
    join eve.events e on e.id = d.event_id
    where (eve_dead_letters.before is null or l.id < eve_dead_letters.before)
      and (eve_dead_letters.consumer is null or l.consumer = eve_dead_letters.consumer)
      and (eve_dead_letters.type is null or e.type = eve_dead_letters.type)
    order by l.id desc
    limit least(greatest(eve_dead_letters.at_most, 1), 1000)
  )
  select jsonb_build_object(
    'dead_letters', coalesce(jsonb_agg(p.one order by p.id desc), '[]'),
    'next_before', case when count(*) = least(greatest(eve_dead_letters.at_most, 1), 1000) then min(p.id) end
  )
  from page p;
$$;
comment on function public.eve_dead_letters is 'Deliveries whose tries are used up, the newest first; a page and where the next one begins.';

create or replace function public.eve_dead_letter(id bigint)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_letter eve.dead_letters;
begin
  select * into v_letter from eve.dead_letters l where l.id = eve_dead_letter.id;
  if not found then
    raise exception 'there is no dead letter %', eve_dead_letter.id using errcode = 'EV400';
  end if;
  return eve.dead_letter_json(v_letter) || jsonb_build_object('tries', eve.event_tries(v_letter.delivery_id));
end;
$$;
comment on function public.eve_dead_letter is 'One dead letter with its event and its tries.';

create or replace function eve.event_tries(delivery_id bigint)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'attempt', a.attempt, 'at', a.at, 'result', a.result, 'status', a.status, 'error', a.error, 'duration_ms', a.duration_ms
      )
      order by a.id
    ),
    '[]'
  )
  from eve.event_attempts a
  where a.delivery_id = event_tries.delivery_id;
$$;

-- Which dead letters are meant: these, or all of a consumer, or all with neither. Locked in their order.
create or replace function eve.dead_letters_meant(ids bigint[], consumer text, at_most integer)
returns setof eve.dead_letters
language sql
volatile
set search_path = ''
as $$
  select l.*
  from eve.dead_letters l
  where (dead_letters_meant.ids is null or l.id = any (dead_letters_meant.ids))
    and (dead_letters_meant.consumer is null or l.consumer = dead_letters_meant.consumer)
  order by l.id
  limit dead_letters_meant.at_most
  for update;
$$;

-- Sends them again, with all their tries: {"replayed": how many}, 1,000 at most, the oldest first. A consumer that is switched off keeps its own.
create or replace function public.eve_dead_letters_replay(ids bigint[] default null, consumer text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
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
$$;
comment on function public.eve_dead_letters_replay is 'Sends dead letters again: these, those of a consumer, or all; 1,000 at most at a time.';

create or replace function public.eve_dead_letters_drop(ids bigint[] default null, consumer text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
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
$$;
comment on function public.eve_dead_letters_drop is 'Gives dead letters up: these, those of a consumer, or all; 1,000 at most at a time.';
