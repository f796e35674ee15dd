-- Events on their way: written, taken by lease, delivered or tried again, and put aside when their tries are used up.

create or replace function eve.event_type_matches(type text, types text[])
returns boolean
language sql
immutable
set search_path = ''
as $$
  select exists (
    select
    from unnest(event_type_matches.types) as t (wanted)
    where t.wanted in ('*', event_type_matches.type)
      or right(t.wanted, 2) = '.*' and starts_with(event_type_matches.type, left(t.wanted, -1))
  );
$$;
comment on function eve.event_type_matches is 'Whether a type is one of these: whole types, beginnings (eve.alert.*), or * for all.';

-- Writes an event and its deliveries, in the transaction of what it tells of. Answers its CloudEvents id; null: nobody takes it, and
-- nothing was written. The same source and event_id again are the same event: nothing is written either, and the id is answered.
--   source       which part of the gateway tells it: /jobs, /alerts
--   data         a JSON object of 16 KiB at most; thin, since it leaves the project: ids and states, never a prompt or an answer
--   consumer_id  the caller whom it concerns; by default the project
--   to_consumer  a name in eve.event_consumers (such as webhook:<id>): for this one alone, whatever types it takes
--   also_to      such a name too: for this one, whatever types it takes, beside those who take the type
create or replace function eve.emit_event(
  source text, type text, subject text, data jsonb default '{}', consumer_id uuid default '00000000-0000-0000-0000-000000000000',
  traceparent text default null, event_id uuid default null, to_consumer text default null, also_to text default null
)
returns uuid
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_names text[];
  v_event_id uuid;
  v_id bigint;
begin
  -- Also where nobody takes it: a wrong type is a fault that should show before somebody does.
  if not coalesce(emit_event.type ~ '[.]v[1-9][0-9]{0,2}$', false) then
    raise exception '% is no type of an event: it ends in .v1 or the like', emit_event.type using errcode = 'EV400';
  end if;
  select array_agg(c.name order by c.name) into v_names
  from eve.event_consumers c
  where c.is_active
    and case
      when emit_event.to_consumer is not null then c.name = emit_event.to_consumer
      else (c.consumer_id is null or c.consumer_id = emit_event.consumer_id)
        and (eve.event_type_matches(emit_event.type, c.types) or coalesce(c.name = emit_event.also_to, false))
    end;
  if v_names is null then
    return null;
  end if;
  insert into eve.events (event_id, source, type, subject, time, data, traceparent, consumer_id)
  values (
    coalesce(emit_event.event_id, gen_random_uuid()), emit_event.source, emit_event.type, nullif(left(emit_event.subject, 500), ''), v_now,
    coalesce(emit_event.data, '{}'), emit_event.traceparent, emit_event.consumer_id
  )
  on conflict on constraint events_source_event_id_key do nothing
  returning id, event_id into v_id, v_event_id;
  if v_id is null then
    return emit_event.event_id;
  end if;
  insert into eve.event_deliveries (event_id, consumer, next_try_at, created_at)
  select v_id, n.name, v_now, v_now
  from unnest(v_names) as n (name);
  return v_event_id;
end;
$$;
comment on function eve.emit_event is 'Writes an event in the transaction of what it tells of, for those who take its type; null: nobody does.';

-- Held by anyone who adds or takes away dead letters of a consumer: who takes the last one away closes the alert, and must see those that
-- others are about to add.
create or replace function eve.lock_dead_letters(consumer text)
returns void
language sql
volatile
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('eve_dead_letters ' || lock_dead_letters.consumer, 0));
$$;

-- What is written once a delivery has failed for the last time. The caller holds its row.
create or replace function eve.bury_delivery(delivery eve.event_deliveries, error text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_first constant timestamptz := coalesce((delivery).first_failed_at, v_now);
begin
  perform eve.lock_dead_letters((delivery).consumer);
  update eve.event_deliveries d
  set state = 'dead', ended_at = v_now, lease = null, lease_until = null, last_error = left(bury_delivery.error, 500),
    first_failed_at = v_first, last_failed_at = v_now
  where d.id = (delivery).id;
  insert into eve.dead_letters (delivery_id, event_id, consumer, error, attempts, first_failed_at, last_failed_at)
  select (delivery).id, e.event_id, (delivery).consumer, left(bury_delivery.error, 500), (delivery).attempts, v_first, v_now
  from eve.events e
  where e.id = (delivery).event_id;
  perform eve.open_alert(
    'dead_letters', (delivery).consumer, 'warning',
    format(
      'Events for %s could not be delivered, the last one with: %s', eve.event_consumer_label((delivery).consumer),
      coalesce(bury_delivery.error, 'no reason was written')
    )
  );
end;
$$;

-- What a consumer is called in messages: of a webhook the host, since the rest of its address may be a secret.
create or replace function eve.event_consumer_label(name text)
returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(
    (
      select format('the webhook at %s', coalesce(substring(w.url from '^https?://([^/?#]+)'), '(no host)'))
      from eve.webhooks w
      where w.name = event_consumer_label.name
    ),
    event_consumer_label.name
  );
$$;

-- The log of tries, and how many there were by result.
create or replace function eve.log_event_attempt(
  delivery eve.event_deliveries, result text, error text default null, status integer default null, duration_ms integer default null
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  insert into eve.event_attempts (delivery_id, attempt, at, result, status, error, duration_ms)
  values (
    (delivery).id, (delivery).attempts, eve.clock(), log_event_attempt.result, log_event_attempt.status,
    left(log_event_attempt.error, 500), log_event_attempt.duration_ms
  );
  insert into eve.metric_counters as m (metric, labels, value)
  select 'eve_event_deliveries_total', jsonb_build_object('consumer', c.kind, 'result', log_event_attempt.result), 1
  from eve.event_consumers c
  where c.name = (delivery).consumer
  on conflict (metric, labels) do update
  set value = m.value + excluded.value;
end;
$$;

-- Deliveries whose lease has ended: the try counts, and where it was the last one the delivery is dead.
create or replace function eve.release_lost_deliveries(at_most integer default 100)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lost constant text := 'the one who tried ended without a word';
  v_now constant timestamptz := eve.clock();
  v_delivery eve.event_deliveries;
  v_count integer := 0;
begin
  for v_delivery in
    select d.*
    from eve.event_deliveries d
    where d.lease is not null and d.lease_until <= v_now
    order by d.id
    limit release_lost_deliveries.at_most
    for update skip locked
  loop
    v_count := v_count + 1;
    perform eve.log_event_attempt(v_delivery, 'lost', v_lost);
    if v_delivery.attempts > (select cardinality(c.retry_s) from eve.event_consumers c where c.name = v_delivery.consumer) then
      perform eve.bury_delivery(v_delivery, v_lost);
    else
      update eve.event_deliveries d
      set lease = null, lease_until = null, last_error = v_lost, last_failed_at = v_now,
        first_failed_at = coalesce(d.first_failed_at, v_now)
      where d.id = v_delivery.id;
    end if;
  end loop;
  return v_count;
end;
$$;
comment on function eve.release_lost_deliveries is 'Ends leases that are over: the delivery is due again, or dead if that was its last try.';

create or replace function eve.event_json(event eve.events)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', (event).event_id, 'source', (event).source, 'type', (event).type, 'subject', (event).subject, 'time', (event).time,
    'data', (event).data, 'traceparent', (event).traceparent
  );
$$;

-- Deliveries that are due, each under a lease: {"deliveries": [{"delivery_id", "lease", "attempt", "consumer", "kind", "event", "webhook"}],
-- "next_due_ms": until the next one is due, null: none waits}. kinds: the kinds of consumers that anyone who asks can deliver to.
-- One consumer is given max_in_flight at a time; two who ask at the very same time may each be given as many.
create or replace function public.eve_events_claim(kinds text[], at_most integer default 16, lease_ms integer default 60000)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_claimed jsonb;
begin
  if eve_events_claim.at_most is null or eve_events_claim.at_most not between 1 and 100 then
    raise exception 'at_most must be between 1 and 100' using errcode = 'EV400';
  elsif eve_events_claim.lease_ms is null or eve_events_claim.lease_ms not between 1000 and 600000 then
    raise exception 'lease_ms must be between 1000 and 600000' using errcode = 'EV400';
  end if;
  perform eve.release_lost_deliveries();
  with due as materialized (
    select d.id
    from eve.event_consumers c
    cross join lateral (
      select d.id, d.next_try_at
      from eve.event_deliveries d
      where d.consumer = c.name and d.state = 'pending' and d.next_try_at <= v_now and d.lease is null
      order by d.next_try_at, d.id
      limit greatest(
        c.max_in_flight
          - (select count(*) from eve.event_deliveries f where f.consumer = c.name and f.lease is not null),
        0
      )
      for update skip locked
    ) d
    where c.is_active and c.kind = any (eve_events_claim.kinds) and (c.paused_until is null or c.paused_until <= v_now)
    order by d.next_try_at, d.id
    limit eve_events_claim.at_most
  ), claimed as (
    update eve.event_deliveries d
    set attempts = d.attempts + 1, lease = gen_random_uuid(), lease_until = v_now + eve_events_claim.lease_ms * interval '1 millisecond'
    from due
    where d.id = due.id
    returning d.*
  )
  select jsonb_agg(
    jsonb_build_object(
      'delivery_id', d.id, 'lease', d.lease, 'attempt', d.attempts, 'consumer', d.consumer, 'kind', c.kind, 'event', eve.event_json(e),
      'webhook', case
        when w.id is not null then jsonb_build_object(
          'id', w.id, 'url', w.url,
          'secrets', to_jsonb(
            array[w.secret] || case when w.previous_secret_until > v_now then array[w.previous_secret] else '{}' end
          )
        )
      end
    )
    order by d.next_try_at, d.id
  )
  into v_claimed
  from claimed d
  join eve.events e on e.id = d.event_id
  join eve.event_consumers c on c.name = d.consumer
  left join eve.webhooks w on w.name = d.consumer;
  return jsonb_build_object(
    'deliveries', coalesce(v_claimed, '[]'), 'next_due_ms', eve.next_delivery_ms(eve_events_claim.kinds)
  );
end;
$$;
comment on function public.eve_events_claim is 'Deliveries that are due, each under a lease of its own, and when the next one is.';

-- Milliseconds until a delivery is due or a lease ends, 0 at least; null: nothing waits. kinds null: of all kinds.
create or replace function eve.next_delivery_ms(kinds text[] default null)
returns bigint
language sql
volatile
set search_path = ''
as $$
  select case when min(next.at) is not null then greatest(ceil(extract(epoch from min(next.at) - eve.clock()) * 1000), 0)::bigint end
  from eve.event_consumers c
  cross join lateral (
    select greatest(min(soonest.at), c.paused_until) as at
    from (
      (
        select d.next_try_at as at
        from eve.event_deliveries d
        where d.consumer = c.name and d.state = 'pending' and d.lease is null
        order by d.next_try_at
        limit 1
      )
      union all
      (
        select d.lease_until
        from eve.event_deliveries d
        where d.consumer = c.name and d.lease is not null
        order by d.lease_until
        limit 1
      )
    ) soonest
    having count(*) > 0
  ) next
  where c.is_active and (next_delivery_ms.kinds is null or c.kind = any (next_delivery_ms.kinds));
$$;
comment on function eve.next_delivery_ms is 'How long until there is something to deliver; null: nothing waits.';

-- How a try went: {"state"}, which is lost for one who does not hold the lease any more, and changes nothing then. A part of the gateway
-- that works in the database calls it in the transaction of its work, so that the work is done once.
--   result          delivered; failed: tried again; gone: the receiver wants no more, and is switched off
--   draw            from 0 to 1: which part of the longest pause passes before the next try (full jitter)
--   retry_after_ms  what the receiver asked for, a day at most; rests: all that is for it waits so long
create or replace function public.eve_event_done(
  delivery_id bigint, lease uuid, result text, error text default null, status integer default null, duration_ms integer default null,
  draw double precision default random(), retry_after_ms bigint default null, rests boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most_ms constant bigint := 86400000;
  v_now constant timestamptz := eve.clock();
  v_asked constant interval := least(greatest(coalesce(eve_event_done.retry_after_ms, 0), 0), v_most_ms) * interval '1 millisecond';
  v_error constant text := left(eve_event_done.error, 500);
  v_consumer eve.event_consumers;
  v_delivery eve.event_deliveries;
begin
  if eve_event_done.result is null or eve_event_done.result not in ('delivered', 'failed', 'gone') then
    raise exception 'result must be delivered, failed or gone' using errcode = 'EV400';
  elsif not coalesce(eve_event_done.draw between 0 and 1, false) then
    raise exception 'draw must be between 0 and 1' using errcode = 'EV400';
  end if;
  -- Before the delivery, whose fellows may be dropped below: two who do this at once take the same locks in the same order.
  select c.* into v_consumer
  from eve.event_consumers c
  where c.name = (select d.consumer from eve.event_deliveries d where d.id = eve_event_done.delivery_id)
  for no key update;
  select * into v_delivery
  from eve.event_deliveries d
  where d.id = eve_event_done.delivery_id and d.lease = eve_event_done.lease
  for update;
  if not found then
    return jsonb_build_object('state', 'lost');
  end if;
  perform eve.log_event_attempt(
    v_delivery, eve_event_done.result, v_error, eve_event_done.status, eve_event_done.duration_ms
  );
  if eve_event_done.result = 'delivered' then
    update eve.event_deliveries d
    set state = 'delivered', ended_at = v_now, lease = null, lease_until = null
    where d.id = v_delivery.id;
    return jsonb_build_object('state', 'delivered');
  elsif eve_event_done.result = 'gone' then
    perform eve.switch_consumer_off(v_consumer.name, v_error);
    return jsonb_build_object('state', 'dropped');
  end if;
  if eve_event_done.rests then
    update eve.event_consumers c
    set paused_until = greatest(c.paused_until, v_now + v_asked)
    where c.name = v_consumer.name;
  end if;
  if v_delivery.attempts > cardinality(v_consumer.retry_s) then
    perform eve.bury_delivery(v_delivery, v_error);
    return jsonb_build_object('state', 'dead');
  end if;
  update eve.event_deliveries d
  set lease = null, lease_until = null, last_error = v_error, last_failed_at = v_now,
    first_failed_at = coalesce(d.first_failed_at, v_now),
    next_try_at = v_now + greatest(v_consumer.retry_s[v_delivery.attempts] * eve_event_done.draw * interval '1 second', v_asked)
  where d.id = v_delivery.id
  returning d.* into v_delivery;
  return jsonb_build_object('state', 'pending', 'next_try_at', v_delivery.next_try_at);
end;
$$;
comment on function public.eve_event_done is 'How a try went, from the one who holds its lease: delivered, failed (tried again), or gone (switched off).';

-- A receiver that wants no more: nothing is sent to it, and what waits for it is dropped. The caller holds the consumer's row.
create or replace function eve.switch_consumer_off(name text, error text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  update eve.event_consumers c set is_active = false where c.name = switch_consumer_off.name;
  update eve.webhooks w set off_reason = 'gone' where w.name = switch_consumer_off.name;
  update eve.event_deliveries d
  set state = 'dropped', ended_at = eve.clock(), lease = null, lease_until = null, last_error = left(switch_consumer_off.error, 500)
  where d.consumer = switch_consumer_off.name and d.state = 'pending';
  perform eve.open_alert(
    'webhook_gone', switch_consumer_off.name, 'warning',
    format('%s answered 410 and was switched off', initcap(left(eve.event_consumer_label(switch_consumer_off.name), 1))
      || substr(eve.event_consumer_label(switch_consumer_off.name), 2))
  );
end;
$$;

-- Deletes what hangs on a webhook from the other side: the caller whose it was has been removed.
create or replace function eve.webhook_deleted()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  delete from eve.event_consumers c where c.name = old.name;
  perform eve.end_alerts(array['dead_letters', 'webhook_gone'], old.name);
  return null;
end;
$$;
create or replace trigger eve_webhook_deleted
after delete on eve.webhooks
for each row
execute function eve.webhook_deleted();
