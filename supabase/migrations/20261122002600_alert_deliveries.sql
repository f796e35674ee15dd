-- Alerts as they are sent and read: which are to be sent where, which have been, and lists of them.

-- The secrets that active keys need, for anyone who can look whether they are set. A stage's key has no variable: its secret is in
-- provider_configs (20261121001600), and providers_sync looks after it.
create or replace function public.eve_alert_secrets()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('key_id', k.id, 'env_var_name', k.env_var_name) order by k.id), '[]')
  from public.google_ai_api_keys k
  where k.is_active and coalesce(k.env_var_name, '') not like 'stage:%';
$$;
comment on function public.eve_alert_secrets is 'Active keys and the names of their secrets.';

-- The next message for a channel, claimed for lease_ms; null when there is none. An alert is sent when it opens and when it
-- closes, in this order. A channel that is new hears of what is open, not of what has long been over.
create or replace function public.eve_alert_claim(channel text, lease_ms integer default 60000)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_delivery eve.alert_deliveries;
begin
  if eve_alert_claim.channel is null or eve_alert_claim.channel not in ('telegram', 'webhook') then
    raise exception 'channel must be telegram or webhook' using errcode = 'EV400';
  elsif eve_alert_claim.lease_ms is null or eve_alert_claim.lease_ms not between 1000 and 600000 then
    raise exception 'lease_ms must be between 1000 and 600000' using errcode = 'EV400';
  end if;
  insert into eve.alert_channels as c (channel, claimed_at)
  values (eve_alert_claim.channel, v_now)
  on conflict on constraint alert_channels_pkey do update
  set claimed_at = excluded.claimed_at
  where c.claimed_at < excluded.claimed_at;
  insert into eve.alert_deliveries (alert_id, channel, event, next_try_at)
  select a.id, eve_alert_claim.channel, 'opened', v_now
  from eve.alerts a
  where (a.closed_at is null or a.closed_at > v_now - interval '1 hour')
    and not exists (
      select
      from eve.alert_deliveries d
      where d.alert_id = a.id and d.channel = eve_alert_claim.channel and d.event = 'opened'
    )
  order by a.id
  on conflict do nothing;
  insert into eve.alert_deliveries (alert_id, channel, event, next_try_at)
  select a.id, eve_alert_claim.channel, 'closed', v_now
  from eve.alerts a
  join eve.alert_deliveries d on d.alert_id = a.id and d.channel = eve_alert_claim.channel and d.event = 'opened' and d.state = 'sent'
  where a.closed_at > v_now - interval '7 days'
    and not exists (
      select
      from eve.alert_deliveries t
      where t.alert_id = a.id and t.channel = eve_alert_claim.channel and t.event = 'closed'
    )
  order by a.id
  on conflict do nothing;

  update eve.alert_deliveries d
  set attempts = d.attempts + 1, claimed_until = v_now + eve_alert_claim.lease_ms * interval '1 millisecond'
  where d.id = (
    select p.id
    from eve.alert_deliveries p
    where p.channel = eve_alert_claim.channel and p.state = 'pending' and p.next_try_at <= v_now
      and (p.claimed_until is null or p.claimed_until <= v_now)
      and exists (select from eve.alerts a where a.id = p.alert_id)
    order by p.id
    limit 1
    for update skip locked
  )
  returning d.* into v_delivery;
  if not found then
    return null;
  end if;
  return (
    select jsonb_build_object(
      'delivery_id', v_delivery.id, 'event', v_delivery.event, 'attempt', v_delivery.attempts, 'alert_id', a.id,
      'kind', a.kind, 'title', coalesce(k.title, replace(a.kind, '_', ' ')), 'advice', k.advice, 'severity', a.severity, 'subject', a.subject, 'message', a.message,
      'details', a.details, 'opened_at', a.opened_at, 'closed_at', a.closed_at
    )
    from eve.alerts a
    left join eve.alert_kinds k on k.kind = a.kind
    where a.id = v_delivery.alert_id
  );
end;
$$;
comment on function public.eve_alert_claim is 'The next message for a channel, claimed so that nobody else sends it too; null when there is none.';

-- How sending went. A failure is tried again after 30 s, then twice as long each time up to an hour, or when the channel said;
-- whole_channel: it concerns every message, so that all of them wait. After the last try a message is given up; should the
-- channel work again while the alert is open, it is sent after all.
create or replace function public.eve_alert_done(
  delivery_id bigint,
  succeeded boolean,
  error text default null,
  retry_after_ms bigint default null,
  whole_channel boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_delivery eve.alert_deliveries;
  v_next timestamptz;
begin
  select * into v_delivery from eve.alert_deliveries d where d.id = eve_alert_done.delivery_id for update;
  if not found or v_delivery.state = 'sent' then
    return jsonb_build_object('state', coalesce(v_delivery.state, 'gone'));
  end if;
  if eve_alert_done.succeeded then
    update eve.alert_deliveries d
    set state = 'sent', sent_at = v_now, claimed_until = null, last_error = null
    where d.id = v_delivery.id;
    update eve.alert_deliveries d
    set state = 'pending', attempts = 0, next_try_at = v_now, claimed_until = null
    where d.channel = v_delivery.channel and d.state = 'given_up' and d.event = 'opened'
      and exists (select from eve.alerts a where a.id = d.alert_id and a.closed_at is null);
    return jsonb_build_object('state', 'sent');
  end if;
  v_next := v_now + greatest(
    least(30000 * 2 ^ least(v_delivery.attempts - 1, 10), 3600000),
    -- What a channel asks for is believed up to a day.
    least(coalesce(eve_alert_done.retry_after_ms, 0), 86400000)
  ) * interval '1 millisecond';
  update eve.alert_deliveries d
  set state = case when d.attempts >= eve.alert_setting('alert_tries', 12) then 'given_up' else 'pending' end,
    next_try_at = v_next, claimed_until = null, last_error = left(eve_alert_done.error, 500)
  where d.id = v_delivery.id
  returning d.* into v_delivery;
  if eve_alert_done.whole_channel then
    update eve.alert_deliveries d
    set next_try_at = v_next
    where d.channel = v_delivery.channel and d.state = 'pending' and d.next_try_at < v_next;
  end if;
  return jsonb_build_object('state', v_delivery.state, 'next_try_at', v_next);
end;
$$;
comment on function public.eve_alert_done is 'Notes how sending a claimed message went, and when to try again.';

create or replace function eve.alert_json(alert eve.alerts)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(alert_json.alert) || jsonb_build_object(
    'title', coalesce(k.title, (alert_json.alert).kind), 'advice', k.advice
  )
  from (select) as one
  left join eve.alert_kinds k on k.kind = (alert_json.alert).kind;
$$;

-- Alerts, the newest first.
create or replace function public.eve_alert_list(
  state text default 'open', kind text default null, before bigint default null, at_most integer default 100
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_at_most constant integer := least(greatest(eve_alert_list.at_most, 1), 1000);
  v_alerts jsonb;
  v_last bigint;
begin
  if eve_alert_list.state is null or eve_alert_list.state not in ('open', 'closed', 'all') then
    raise exception 'state must be open, closed or all' using errcode = 'EV400';
  end if;
  select coalesce(jsonb_agg(page.one order by page.id desc), '[]'), case when count(*) = v_at_most then min(page.id) end
  into v_alerts, v_last
  from (
    select a.id, eve.alert_json(a) as one
    from eve.alerts a
    where (eve_alert_list.before is null or a.id < eve_alert_list.before)
      and (eve_alert_list.kind is null or a.kind = eve_alert_list.kind)
      and case eve_alert_list.state when 'open' then a.closed_at is null when 'closed' then a.closed_at is not null else true end
    order by a.id desc
    limit v_at_most
  ) page;
  return jsonb_build_object('alerts', v_alerts, 'next_before', v_last);
end;
$$;
comment on function public.eve_alert_list is 'Alerts that are open, closed or all, the newest first, with the columns of eve.alerts and what to do; a page and where the next one begins.';

create or replace function public.eve_alert_detail(id bigint)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_alert eve.alerts;
begin
  select * into v_alert from eve.alerts a where a.id = eve_alert_detail.id;
  if not found then
    raise exception 'there is no alert %', eve_alert_detail.id using errcode = 'EV400';
  end if;
  return eve.alert_json(v_alert) || jsonb_build_object(
    'deliveries', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'channel', d.channel, 'event', d.event, 'state', d.state, 'attempts', d.attempts, 'sent_at', d.sent_at,
            'last_error', d.last_error
          )
          order by d.id
        ),
        '[]'
      )
      from eve.alert_deliveries d
      where d.alert_id = v_alert.id
    )
  );
end;
$$;
comment on function public.eve_alert_detail is 'One alert, what to do about it, and to whom it was sent.';

create or replace function public.eve_alert_close(id bigint)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_alert eve.alerts;
begin
  update eve.alerts a
  set closed_at = eve.clock()
  where a.id = eve_alert_close.id and a.closed_at is null
  returning * into v_alert;
  if not found then
    select * into v_alert from eve.alerts a where a.id = eve_alert_close.id;
    if not found then
      raise exception 'there is no alert %', eve_alert_close.id using errcode = 'EV400';
    end if;
  end if;
  return eve.alert_json(v_alert);
end;
$$;
comment on function public.eve_alert_close is 'Closes an alert by hand; twice is the same as once. What still holds is opened again.';
