-- Budgets of vision: reserved with an estimate before anything is sent, settled with the truth afterwards, all of them or none. Counters
-- of one tenant are changed one after the other, so that no number of workers at once overspends.

set local lock_timeout = '10s';

-- The counters that a step counts in, made if they are not there and locked, always in the same order.
create or replace function eve.vision_counters(tenant_id text, provider text, counts_in_all boolean, day date)
returns setof eve.vision_spending
language plpgsql
volatile
set search_path = ''
as $$
begin
  insert into eve.vision_spending (tenant_id, provider, period, began_on)
  select vision_counters.tenant_id, p.provider, d.period, d.began_on
  from (
    select vision_counters.provider as provider
    union
    select '*' where vision_counters.counts_in_all
  ) p
  cross join (
    values ('day', vision_counters.day), ('month', date_trunc('month', vision_counters.day::timestamp)::date)
  ) as d (period, began_on)
  order by p.provider, d.period
  on conflict on constraint vision_spending_pkey do nothing;
  return query
    select s.*
    from eve.vision_spending s
    where s.tenant_id = vision_counters.tenant_id
      and (s.provider = vision_counters.provider or s.provider = '*' and vision_counters.counts_in_all)
      and (
        s.period = 'day' and s.began_on = vision_counters.day
        or s.period = 'month' and s.began_on = date_trunc('month', vision_counters.day::timestamp)::date
      )
    order by s.provider, s.period
    for update;
end;
$$;

-- Adds to counters; what is reserved never falls below nothing.
create or replace function eve.vision_count(
  reservation eve.vision_reservations, tokens bigint, pictures bigint, tokens_reserved bigint, pictures_reserved bigint
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_one constant eve.vision_reservations := vision_count.reservation;
begin
  update eve.vision_spending s
  set tokens = s.tokens + vision_count.tokens, pictures = s.pictures + vision_count.pictures,
    tokens_reserved = greatest(s.tokens_reserved + vision_count.tokens_reserved, 0),
    pictures_reserved = greatest(s.pictures_reserved + vision_count.pictures_reserved, 0)
  from eve.vision_counters(v_one.tenant_id, v_one.provider, v_one.counts_in_all, v_one.day) c
  where s.tenant_id = c.tenant_id and s.provider = c.provider and s.period = c.period and s.began_on = c.began_on;
end;
$$;

-- The budgets of a tenant with what is used of them in the periods that run now.
create or replace function eve.vision_budget_rows(tenant_id text)
returns table (provider text, period text, unit text, most bigint, used bigint, reserved bigint, ends_at timestamptz)
language sql
stable
set search_path = ''
as $$
  select b.provider, b.period, b.unit, b.most,
    coalesce(case b.unit when 'tokens' then s.tokens else s.pictures end, 0),
    coalesce(case b.unit when 'tokens' then s.tokens_reserved else s.pictures_reserved end, 0),
    (n.began_on + case b.period when 'day' then interval '1 day' else interval '1 month' end) at time zone 'UTC'
  from eve.vision_budgets b
  cross join lateral (
    select date_trunc(b.period, eve.clock() at time zone 'UTC')::date as began_on
  ) n
  left join eve.vision_spending s
    on s.tenant_id = b.tenant_id and s.provider = b.provider and s.period = b.period and s.began_on = n.began_on
  where b.tenant_id = vision_budget_rows.tenant_id;
$$;

-- Opens and closes the alerts of a tenant's budgets: a warning from 80 % on, an alert at 100 %.
create or replace function eve.vision_budget_alerts(tenant_id text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_near_share constant numeric := 0.8;
  v_row record;
begin
  for v_row in
    select b.*, vision_budget_alerts.tenant_id || ' ' || b.provider || ' ' || b.period || ' ' || b.unit as subject,
      case when b.used + b.reserved >= b.most then 'vision_budget_used_up'
        when b.used + b.reserved >= b.most * v_near_share then 'vision_budget_near' end as kind
    from eve.vision_budget_rows(vision_budget_alerts.tenant_id) b
  loop
    perform eve.close_alerts(
      v_row.subject, array_remove('{vision_budget_near,vision_budget_used_up}'::text[], v_row.kind)
    )
    where exists (
      select from eve.alerts a
      where a.subject = v_row.subject and a.closed_at is null and a.kind in ('vision_budget_near', 'vision_budget_used_up')
        and a.kind is distinct from v_row.kind
    );
    if v_row.kind is not null then
      perform eve.open_alert(
        v_row.kind, v_row.subject, case v_row.kind when 'vision_budget_near' then 'warning' else 'critical' end,
        format(
          'Tenant %s: %s of %s %s this %s by %s.', vision_budget_alerts.tenant_id, v_row.used + v_row.reserved, v_row.most, v_row.unit,
          v_row.period, case v_row.provider when '*' then 'all analysts' else v_row.provider end
        )
      );
    end if;
  end loop;
end;
$$;

-- The budget that stands in the way of a step; null: none.
create or replace function eve.vision_budget_in_way(one eve.vision_reservations)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(b) || jsonb_build_object(
    'detail', format(
      'the budget of %s %s a %s for %s is used up', b.most, b.unit, b.period, case b.provider when '*' then 'all analysts' else b.provider end
    )
  )
  from eve.vision_budget_rows((one).tenant_id) b
  where (b.provider = (one).provider or b.provider = '*' and (one).counts_in_all)
    and b.used + b.reserved + case b.unit when 'tokens' then (one).tokens else (one).pictures end > b.most
  order by b.ends_at desc, b.provider, b.unit
  limit 1;
$$;

-- What a model's call has cost whose answer its step never had, in tokens; null: nobody can tell.
create or replace function eve.vision_lost_tokens(request_id text)
returns bigint
language sql
stable
set search_path = ''
as $$
  select case when bool_and(c.tokens is not null) then sum(c.tokens) end::bigint
  from (
    select case
        when not a.dispatched then 0
        else coalesce(a.total_tokens, a.input_tokens + a.output_tokens + coalesce(a.thoughts_tokens, 0))
      end as tokens
    from eve.requests r
    join eve.attempts a on a.request_no = r.request_no
    where r.request_id = vision_lost_tokens.request_id
  ) c;
$$;

-- Takes an estimate out of all budgets that concern a step, or out of none. id: the step's own; the same once more is the same
-- reservation. {"status": "reserved"}; "settled": it was paid for in an earlier run; or "used_up" with the budget that stands in the way.
-- A reservation that was given back is taken again.
--
-- call: the arguments of eve_reserve. Then the slot of a lane is booked in the same transaction, and the answer is that of eve_reserve, or
-- "refused" with budget_exhausted: the estimate is taken if a start (or a place in the queue) is given, and neither otherwise. A step
-- that is given another call than before has lost that one: what it has cost counts, and if nobody can tell its estimate.
--
-- Locks: a tenant's counters before those of eve_reserve.
create or replace function public.eve_vision_reserve(
  id text, tenant_id text, provider text, tokens bigint, spends_tokens boolean default true, call jsonb default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- As for eve_reserve.
set statement_timeout = '7500ms'
set lock_timeout = '3s'
as $$
declare
  v_retry_ms constant integer := 600000;
  v_call constant eve.call := jsonb_populate_record(null::eve.call, eve_vision_reserve.call);
  v_one eve.vision_reservations;
  v_old eve.vision_reservations;
  v_in_way jsonb;
  v_slot jsonb;
begin
  if length(eve_vision_reserve.id) not between 1 and 100 or length(eve_vision_reserve.provider) not between 1 and 100
    or eve_vision_reserve.provider = '*' or coalesce(eve_vision_reserve.tokens, -1) < 0
    or eve_vision_reserve.id is null or eve_vision_reserve.provider is null then
    raise exception 'a reservation needs an id and a provider of 1 to 100 characters, and tokens from 0' using errcode = 'EV400';
  end if;
  v_one := row(
    eve_vision_reserve.id, eve_vision_reserve.tenant_id, eve_vision_reserve.provider, eve_vision_reserve.spends_tokens,
    (eve.clock() at time zone 'UTC')::date, eve_vision_reserve.tokens, 1, 'reserved', v_call.request_id, eve.clock()
  )::eve.vision_reservations;
  -- The counters first: anyone who settles takes them in the same order, and the same step twice at once comes one after the other.
  perform eve.vision_counters(v_one.tenant_id, v_one.provider, v_one.counts_in_all, v_one.day);
  select * into v_old from eve.vision_reservations r where r.id = v_one.id for update;
  -- A subtransaction: where a budget stands in the way no slot has been booked.
  begin
    if eve_vision_reserve.call is not null then
      v_slot := public.eve_reserve(
        request_id => v_call.request_id, models => v_call.models, tokens => v_call.tokens, consumer_id => v_call.consumer_id,
        class => v_call.class, max_wait_ms => v_call.max_wait_ms, attempt => v_call.attempt, exclude_keys => v_call.exclude_keys,
        avoid_keys => v_call.avoid_keys, lease_ms => v_call.lease_ms, token_id => v_call.token_id, endpoint => v_call.endpoint,
        trace_id => v_call.trace_id, metadata => v_call.metadata, request_hash => v_call.request_hash, counted => v_call.counted,
        request_no => v_call.request_no, deadline => v_call.deadline, call_id => v_call.call_id,
        max_output_tokens => v_call.max_output_tokens
      );
    end if;
    if (v_slot is null or v_slot ->> 'status' in ('granted', 'waiting'))
      and (v_old.id is null or v_old.state = 'given_back' or v_old.request_id <> v_one.request_id) then
      if v_old.state = 'reserved' then
        perform eve.vision_count(
          v_old, coalesce(eve.vision_lost_tokens(v_old.request_id), v_old.tokens), 0, -v_old.tokens, -v_old.pictures
        );
      end if;
      v_in_way := eve.vision_budget_in_way(v_one);
      if v_in_way is not null then
        raise exception 'undo it' using errcode = 'EV001';
      end if;
      insert into eve.vision_reservations as r
      select v_one.*
      on conflict on constraint vision_reservations_pkey do update
      set state = 'reserved', day = excluded.day, tokens = excluded.tokens, pictures = excluded.pictures, request_id = excluded.request_id,
        created_at = excluded.created_at
      where r.tenant_id = excluded.tenant_id and r.provider = excluded.provider;
      if not found then
        raise exception 'the reservation % is another tenant''s, or for another analyst', v_one.id using errcode = 'EV400';
      end if;
      v_old.state := 'reserved';
      perform eve.vision_count(v_one, 0, 0, v_one.tokens, v_one.pictures);
    end if;
  exception when sqlstate 'EV001' then
    null;
  end;
  perform eve.vision_budget_alerts(v_one.tenant_id);
  return case
    when v_in_way is null then coalesce(v_slot, jsonb_build_object('status', v_old.state))
    when v_slot is null then v_in_way || '{"status": "used_up"}'
    -- It may be raised before its period ends.
    else v_in_way || jsonb_build_object('status', 'refused', 'code', 'budget_exhausted', 'retry_after_ms', v_retry_ms)
  end;
end;
$$;
comment on function public.eve_vision_reserve is 'Takes the estimate of a step out of a tenant''s vision budgets: out of all that concern it, or out of none; together with the slot of a lane, if there is one.';

-- Ends a reservation with what the step has really cost; null: nothing was sent, and all of it goes back. Once; later ones change nothing.
create or replace function public.eve_vision_settle(id text, tokens bigint default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
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
$$;
comment on function public.eve_vision_settle is 'Ends a reservation of a vision budget with the truth.';

create or replace function public.eve_vision_budgets(actor jsonb, tenant_id text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_budgets.actor, eve_vision_budgets.tenant_id, 'vision');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  -- A period that has ended has ended its alerts too, whether or not anything was spent since.
  perform eve.vision_budget_alerts(v_who ->> 'tenant_id');
  return jsonb_build_object(
    'status', 'listed', 'tenant_id', v_who ->> 'tenant_id',
    'budgets', (
      select coalesce(jsonb_agg(to_jsonb(b) order by b.provider, b.period, b.unit), '[]')
      from eve.vision_budget_rows(v_who ->> 'tenant_id') b
    ),
    'spending', (
      select coalesce(jsonb_agg(to_jsonb(s) - 'tenant_id' order by s.period, s.provider), '[]')
      from eve.vision_spending s
      where s.tenant_id = v_who ->> 'tenant_id' and s.began_on = date_trunc(s.period, eve.clock() at time zone 'UTC')::date
    )
  );
end;
$$;
comment on function public.eve_vision_budgets is 'A tenant''s vision budgets with what is used of them, and what was spent in the day and the month that run now.';

-- budgets: the whole list, {"list": [{"provider": "*"?, "period", "unit", "most"}]}: what is not in it goes. For the project and
-- administrators. (An empty list alone would reach PostgreSQL as an empty array of its own.)
create or replace function public.eve_vision_budgets_save(actor jsonb, budgets jsonb, tenant_id text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most_rows constant integer := 100;
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_budgets_save.actor, eve_vision_budgets_save.tenant_id, 'vision');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_list constant jsonb := eve_vision_budgets_save.budgets -> 'list';
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif not (v_who ->> 'project')::boolean then
    return eve.refused('credential_insufficient', 'Budgets are set by the gateway''s owner: with the project''s secret key, or as an administrator.');
  elsif jsonb_typeof(v_list) is distinct from 'array' or jsonb_array_length(v_list) > v_most_rows then
    raise exception 'budgets must be a list of at most % budgets', v_most_rows using errcode = 'EV400';
  end if;
  delete from eve.vision_budgets b where b.tenant_id = v_tenant;
  begin
    insert into eve.vision_budgets (tenant_id, provider, period, unit, most, updated_at)
    select v_tenant, coalesce(b.provider, '*'), b.period, b.unit, b.most, eve.clock()
    from jsonb_to_recordset(v_list) as b (provider text, period text, unit text, most bigint);
  exception when integrity_constraint_violation or data_exception then
    raise exception 'a budget has a provider, a period (day, month), a unit (tokens, pictures) and most, from 0, each once'
      using errcode = 'EV400';
  end;
  perform eve.end_alerts('{vision_budget_near,vision_budget_used_up}', v_tenant || ' ');
  return public.eve_vision_budgets(eve_vision_budgets_save.actor, v_tenant);
end;
$$;
comment on function public.eve_vision_budgets_save is 'Sets all of a tenant''s vision budgets.';
