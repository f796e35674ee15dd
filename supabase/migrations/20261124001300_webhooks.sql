-- Webhooks: where events are posted. What makes, encrypts and uses their secrets is in shared/events/webhooks.

-- The published times of Standard Webhooks: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
create or replace function eve.webhook_retry_s()
returns integer[]
language sql
immutable
set search_path = ''
as $$
  select array[5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400];
$$;

insert into eve.settings (name, value, description) values
  ('webhooks_max', 20, 'Webhooks that a caller, or the project, may have.')
on conflict (name) do nothing;

-- A webhook as it is shown: no secret, and how its deliveries stand.
create or replace function eve.webhook_json(webhook eve.webhooks)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', (webhook).id, 'consumer', n.name, 'url', (webhook).url, 'description', (webhook).description, 'types', to_jsonb(c.types),
    'is_active', c.is_active, 'off_reason', (webhook).off_reason, 'secret_last_four', (webhook).secret_last_four,
    'secret_changed_at', (webhook).secret_changed_at,
    'previous_secret_until', case when (webhook).previous_secret_until > eve.clock() then (webhook).previous_secret_until end,
    'paused_until', case when c.paused_until > eve.clock() then c.paused_until end, 'created_at', (webhook).created_at,
    'pending', (select count(*) from eve.event_deliveries d where d.consumer = c.name and d.state = 'pending'),
    'dead_letters', (select count(*) from eve.dead_letters l where l.consumer = c.name),
    'last_delivered_at', (
      select max(d.ended_at) from eve.event_deliveries d where d.consumer = c.name and d.state = 'delivered'
    )
  )
  from eve.event_consumers c
  join eve.consumers n on n.id = (webhook).consumer_id
  where c.name = (webhook).name;
$$;

create or replace function eve.webhook_of(id uuid)
returns eve.webhooks
language plpgsql
stable
set search_path = ''
as $$
declare
  v_webhook eve.webhooks;
begin
  select * into v_webhook from eve.webhooks w where w.id = webhook_of.id;
  if not found then
    raise exception 'there is no webhook %', webhook_of.id using errcode = 'EV400';
  end if;
  return v_webhook;
end;
$$;

create or replace function eve.check_event_types(types text[])
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_wrong text;
begin
  if cardinality(check_event_types.types) > 50 then
    raise exception 'types has more than 50 entries' using errcode = 'EV400';
  end if;
  select t.wanted into v_wrong
  from unnest(check_event_types.types) as t (wanted)
  where coalesce(
    t.wanted !~ '^([*]|[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)*[.](v[1-9][0-9]{0,2}|[*]))$' or length(t.wanted) > 100, true
  )
  limit 1;
  if found then
    raise exception 'types holds %, which is no type such as eve.alert.opened.v1, no beginning such as eve.alert.*, and not *',
      coalesce(left(v_wrong, 100), 'null')
      using errcode = 'EV400';
  end if;
end;
$$;

-- A new webhook: {"status": "added", "webhook"}; {"status": "exists", "webhook"}: this caller has one for the address already, which is left
-- as it is. id is chosen by anyone who encrypts the secret. consumer: a name in eve.consumers; null: the project. types empty: it is sent only
-- what is addressed to it.
create or replace function public.eve_webhook_add(
  id uuid, url text, types text[], secret text, secret_last_four text, consumer text default null, description text default null,
  consumer_id uuid default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_now constant timestamptz := eve.clock();
  v_consumer_id uuid := coalesce(eve_webhook_add.consumer_id, v_project);
  v_webhook eve.webhooks;
begin
  if eve_webhook_add.consumer is not null then
    select c.id into v_consumer_id from eve.consumers c where c.name = eve_webhook_add.consumer;
    if not found then
      raise exception 'there is no consumer named %', left(eve_webhook_add.consumer, 63) using errcode = 'EV400';
    end if;
  end if;
  perform eve.check_event_types(eve_webhook_add.types);
  -- Two that add the same at once.
  perform pg_advisory_xact_lock(hashtextextended('eve_webhook_add ' || v_consumer_id, 0));
  select * into v_webhook from eve.webhooks w where w.consumer_id = v_consumer_id and w.url = eve_webhook_add.url;
  if found then
    return jsonb_build_object('status', 'exists', 'webhook', eve.webhook_json(v_webhook));
  elsif (select count(*) from eve.webhooks w where w.consumer_id = v_consumer_id) >= eve.alert_setting('webhooks_max', 20) then
    raise exception 'there are as many webhooks as webhooks_max in eve.settings allows: remove one first' using errcode = 'EV400';
  end if;
  insert into eve.event_consumers (name, kind, types, consumer_id, retry_s, created_at)
  values (
    'webhook:' || eve_webhook_add.id, 'webhook', eve_webhook_add.types, nullif(v_consumer_id, v_project), eve.webhook_retry_s(), v_now
  );
  insert into eve.webhooks (id, consumer_id, url, description, secret, secret_last_four, secret_changed_at, created_at)
  values (
    eve_webhook_add.id, v_consumer_id, eve_webhook_add.url, left(eve_webhook_add.description, 200), eve_webhook_add.secret,
    eve_webhook_add.secret_last_four, v_now, v_now
  )
  returning * into v_webhook;
  return jsonb_build_object('status', 'added', 'webhook', eve.webhook_json(v_webhook));
end;
$$;
comment on function public.eve_webhook_add is 'Adds a webhook with its encrypted secret; one that the caller has for the same address is left as it is.';

create or replace function public.eve_webhooks(consumer text default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(eve.webhook_json(w) order by n.name, w.created_at, w.id), '[]')
  from eve.webhooks w
  join eve.consumers n on n.id = w.consumer_id
  where eve_webhooks.consumer is null or n.name = eve_webhooks.consumer;
$$;
comment on function public.eve_webhooks is 'Webhooks and how their deliveries stand, without secrets.';

-- A new secret; the one before signs beside it for grace_s seconds (a week at most), and the one before that no more.
create or replace function public.eve_webhook_rotate(id uuid, secret text, secret_last_four text, grace_s integer default 86400)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_webhook eve.webhooks := eve.webhook_of(eve_webhook_rotate.id);
begin
  if not coalesce(eve_webhook_rotate.grace_s between 0 and 604800, false) then
    raise exception 'grace_s must be between 0 and 604800' using errcode = 'EV400';
  end if;
  update eve.webhooks w
  set previous_secret = case when eve_webhook_rotate.grace_s > 0 then w.secret end,
    previous_secret_until = case when eve_webhook_rotate.grace_s > 0 then v_now + eve_webhook_rotate.grace_s * interval '1 second' end,
    secret = eve_webhook_rotate.secret, secret_last_four = eve_webhook_rotate.secret_last_four, secret_changed_at = v_now
  where w.id = v_webhook.id
  returning w.* into v_webhook;
  return eve.webhook_json(v_webhook);
end;
$$;
comment on function public.eve_webhook_rotate is 'Gives a webhook a new secret; the one before signs beside it for a while.';

-- Switches it on or off by hand, or has it take other types; what is null stays. What came while it was off is not made up for.
create or replace function public.eve_webhook_change(id uuid, is_active boolean default null, types text[] default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_webhook eve.webhooks := eve.webhook_of(eve_webhook_change.id);
begin
  perform eve.check_event_types(eve_webhook_change.types);
  update eve.event_consumers c
  set is_active = coalesce(eve_webhook_change.is_active, c.is_active), types = coalesce(eve_webhook_change.types, c.types),
    paused_until = case when eve_webhook_change.is_active then null else c.paused_until end
  where c.name = v_webhook.name;
  if eve_webhook_change.is_active is not null then
    update eve.webhooks w set off_reason = null where w.id = v_webhook.id returning w.* into v_webhook;
    perform eve.end_alerts(array['webhook_gone'], v_webhook.name);
  end if;
  return eve.webhook_json(v_webhook);
end;
$$;
comment on function public.eve_webhook_change is 'Switches a webhook on or off, or changes the types that it takes.';

create or replace function public.eve_webhook_remove(id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_webhook constant eve.webhooks := eve.webhook_of(eve_webhook_remove.id);
begin
  delete from eve.event_consumers c where c.name = v_webhook.name;
  return jsonb_build_object('removed', v_webhook.id);
end;
$$;
comment on function public.eve_webhook_remove is 'Removes a webhook, what waits for it, and the log of its deliveries.';

-- An event for this one alone, to see whether it arrives: {"event_id", "delivery_id"}.
create or replace function public.eve_webhook_test(id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_webhook constant eve.webhooks := eve.webhook_of(eve_webhook_test.id);
  v_event_id uuid;
begin
  v_event_id := eve.emit_event(
    '/webhooks', 'eve.webhook.test.v1', v_webhook.id::text, jsonb_build_object('webhook_id', v_webhook.id), v_webhook.consumer_id,
    to_consumer => v_webhook.name
  );
  if v_event_id is null then
    raise exception 'the webhook is switched off: switch it on first' using errcode = 'EV400';
  end if;
  return (
    select jsonb_build_object('event_id', v_event_id, 'delivery_id', d.id)
    from eve.event_deliveries d
    join eve.events e on e.id = d.event_id
    where d.consumer = v_webhook.name and e.source = '/webhooks' and e.event_id = v_event_id
  );
end;
$$;
comment on function public.eve_webhook_test is 'Sends a webhook an event of the type eve.webhook.test.v1.';

-- The log: deliveries to a webhook with their tries, the newest first: {"deliveries": [..], "next_before"}.
create or replace function public.eve_webhook_deliveries(
  id uuid, state text default null, before bigint default null, at_most integer default 50, delivery_id bigint default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_webhook constant eve.webhooks := eve.webhook_of(eve_webhook_deliveries.id);
  v_at_most constant integer := least(greatest(eve_webhook_deliveries.at_most, 1), 500);
begin
  return (
    select jsonb_build_object(
      'deliveries', coalesce(jsonb_agg(page.one order by page.id desc), '[]'),
      'next_before', case when count(*) = v_at_most then min(page.id) end
    )
    from (
      select d.id,
        jsonb_build_object(
          'delivery_id', d.id, 'event_id', e.event_id, 'type', e.type, 'subject', e.subject, 'time', e.time, 'state', d.state,
          'attempts', d.attempts, 'next_try_at', case when d.state = 'pending' then d.next_try_at end, 'ended_at', d.ended_at,
          'last_error', d.last_error, 'tries', eve.event_tries(d.id)
        ) as one
      from eve.event_deliveries d
      join eve.events e on e.id = d.event_id
      where d.consumer = v_webhook.name
        and (eve_webhook_deliveries.delivery_id is null or d.id = eve_webhook_deliveries.delivery_id)
        and (eve_webhook_deliveries.state is null or d.state = eve_webhook_deliveries.state)
        and (eve_webhook_deliveries.before is null or d.id < eve_webhook_deliveries.before)
      order by d.id desc
      limit v_at_most
    ) page
  );
end;
$$;
comment on function public.eve_webhook_deliveries is 'The log of a webhook: its deliveries with their tries, the newest first.';

-- Sends what has ended again, under the same webhook-id: {"redelivered": how many}. One delivery, or those that ended since then without
-- being delivered (failed for good, or dropped while it was off); 1,000 at most.
create or replace function public.eve_webhook_redeliver(id uuid, delivery_id bigint default null, since timestamptz default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_webhook constant eve.webhooks := eve.webhook_of(eve_webhook_redeliver.id);
  v_ids bigint[];
begin
  if (eve_webhook_redeliver.delivery_id is null) = (eve_webhook_redeliver.since is null) then
    raise exception 'give either delivery_id or since' using errcode = 'EV400';
  elsif not (select c.is_active from eve.event_consumers c where c.name = v_webhook.name) then
    raise exception 'the webhook is switched off: switch it on first' using errcode = 'EV400';
  end if;
  with meant as materialized (
    select d.id
    from eve.event_deliveries d
    where d.consumer = v_webhook.name and d.state <> 'pending'
      and (
        d.id = eve_webhook_redeliver.delivery_id
        or d.state in ('dead', 'dropped') and d.ended_at >= eve_webhook_redeliver.since
      )
    order by d.id
    limit 1000
    for update
  ), due as (
    update eve.event_deliveries d
    set state = 'pending', attempts = 0, next_try_at = v_now, ended_at = null, first_failed_at = null, last_failed_at = null
    from meant m
    where d.id = m.id
    returning d.id
  )
  select array_agg(d.id) into v_ids from due d;
  if v_ids is null and eve_webhook_redeliver.delivery_id is not null then
    raise exception 'the webhook has no delivery % that has ended', eve_webhook_redeliver.delivery_id using errcode = 'EV400';
  end if;
  delete from eve.dead_letters l where l.delivery_id = any (v_ids);
  return jsonb_build_object('redelivered', coalesce(cardinality(v_ids), 0));
end;
$$;
comment on function public.eve_webhook_redeliver is 'Sends ended deliveries of a webhook again, under the same id.';

-- The encrypted secrets, for a change of ADMIN_SECRET_KEY: [{"id", "which", "token"}].
create or replace function public.eve_webhook_ciphertexts()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'which', s.which, 'token', s.token) order by s.id, s.which), '[]')
  from (
    select w.id, 'secret' as which, w.secret as token from eve.webhooks w
    union all
    select w.id, 'previous_secret', w.previous_secret from eve.webhooks w where w.previous_secret is not null
  ) s;
$$;
comment on function public.eve_webhook_ciphertexts is 'The encrypted secrets of webhooks, to be encrypted again.';

-- Puts them back, encrypted again; one that has changed meanwhile is left alone. Answers how many were replaced.
create or replace function public.eve_webhook_reencrypt(tokens jsonb)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_count integer;
begin
  with wanted as materialized (
    select t.token, t.replacement from jsonb_to_recordset(eve_webhook_reencrypt.tokens) as t (token text, replacement text)
  ), meant as materialized (
    select w.id, s.replacement as secret, p.replacement as previous_secret
    from eve.webhooks w
    left join wanted s on s.token = w.secret
    left join wanted p on p.token = w.previous_secret
    where s.token is not null or p.token is not null
    for no key update of w
  ), replaced as (
    update eve.webhooks w
    set secret = coalesce(m.secret, w.secret), previous_secret = coalesce(m.previous_secret, w.previous_secret)
    from meant m
    where w.id = m.id
    returning num_nonnulls(m.secret, m.previous_secret) as count
  )
  select coalesce(sum(r.count), 0) into v_count from replaced r;
  return v_count;
end;
$$;
comment on function public.eve_webhook_reencrypt is 'Replaces encrypted secrets of webhooks by the same ones, encrypted again.';
