-- Who calls, what they may, and what is left of their budgets.

set local lock_timeout = '10s';

-- Locks budgets in their order (see public.eve_reserve), for those who change more than one.
create or replace function eve.lock_budgets(token_ids uuid[], consumer_ids uuid[], days date[])
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform
  from eve.scoped_tokens t
  where t.id = any (lock_budgets.token_ids)
  order by t.id
  for no key update;
  perform
  from eve.consumer_days d
  where (d.consumer_id, d.day) in (select * from unnest(lock_budgets.consumer_ids, lock_budgets.days))
  order by d.consumer_id, d.day
  for no key update;
end;
$$;

-- What a consumer may, and what is left of its day: the first part of eve.scope_of, which has locked its budgets. `spends`: false
-- where a booking of this attempt has already taken them; `held_tokens`: what that has taken.
create or replace function eve.consumer_scope(
  call eve.call, consumer eve.consumers, day date, now_ms bigint, spends boolean, held_tokens bigint
)
returns eve.caller_scope
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_scope eve.caller_scope;
  v_spent record;
begin
  v_scope.class := case (consumer).max_class when 'batch' then 'batch' else (call).class end;
  v_scope.capture := coalesce((consumer).capture, false);
  v_scope.counts_minute := false;
  v_scope.models := (consumer).models;
  if (consumer).rpm is not null and (call).attempt = 1 and consumer_scope.spends then
    v_scope.wait_ms := eve.consumer_minute_wait((consumer).id, (consumer).rpm, consumer_scope.now_ms);
    if v_scope.wait_ms > 0 then
      v_scope.refusal := 'rate_limited';
      v_scope.limit_name := 'consumer_rpm';
      return v_scope;
    end if;
    v_scope.counts_minute := true;
  end if;
  if consumer_scope.day is null then
    return v_scope;
  end if;
  v_scope.day := consumer_scope.day;
  select d.requests, d.tokens into v_spent
  from eve.consumer_days d
  where d.consumer_id = (consumer).id and d.day = consumer_scope.day;
  if consumer_scope.spends and (call).attempt = 1 and v_spent.requests >= (consumer).requests_per_day then
    v_scope.refusal := 'budget_exhausted';
    v_scope.limit_name := 'consumer_requests';
    v_scope.wait_ms := eve.next_pacific_midnight(consumer_scope.now_ms) - consumer_scope.now_ms;
  elsif (consumer).tokens_per_day is not null then
    v_scope.tokens_left := (consumer).tokens_per_day - v_spent.tokens + consumer_scope.held_tokens;
    v_scope.tokens_limit := 'consumer_tokens';
  end if;
  return v_scope;
end;
$$;

-- Who calls, and what they may still spend. Budget rows are locked here, before any lane, and in their order: token, day, minute.
-- `running`: this attempt's row, where it has one; a booking of it has already taken its budgets.
create or replace function eve.scope_of(call eve.call, running eve.inflight, now_ms bigint)
returns eve.caller_scope
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer_id constant uuid := coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  v_spends constant boolean := (running).request_no is null or (running).state = 'between';
  v_held constant bigint := case when v_spends then 0 else (running).tokens + (running).output_tokens end;
  v_scope eve.caller_scope;
  v_consumer eve.consumers;
  v_day date;
  v_token record;
begin
  select * into v_consumer from eve.consumers c where c.id = v_consumer_id;
  if v_consumer_id <> '00000000-0000-0000-0000-000000000000' then
    if v_consumer.id is null or not v_consumer.is_active then
      v_scope.class := (call).class;
      v_scope.refusal := 'consumer_disabled';
      return v_scope;
    end if;
    if 'llm' <> all (v_consumer.scopes) then
      v_scope.class := (call).class;
      v_scope.refusal := 'model_not_allowed';
      return v_scope;
    end if;
    if v_consumer.requests_per_day is not null or v_consumer.tokens_per_day is not null then
      -- A request belongs to the day it came in, whatever the day of its later attempts.
      v_day := eve.pacific_day(coalesce(floor(extract(epoch from (running).received_at) * 1000)::bigint, scope_of.now_ms));
      -- A new row looks at its consumer's, which anyone who changes that holds: before anything is in hand that they want.
      if not exists (select from eve.consumer_days d where d.consumer_id = v_consumer_id and d.day = v_day) then
        insert into eve.consumer_days (consumer_id, day) values (v_consumer_id, v_day) on conflict do nothing;
      end if;
    end if;
    if v_consumer.rpm is not null and not exists (select from eve.consumer_minutes m where m.consumer_id = v_consumer_id) then
      perform eve.consumer_minute_wait(v_consumer_id, v_consumer.rpm, scope_of.now_ms);
    end if;
  else
    -- The project itself has no limits of its own.
    v_consumer.models := null;
    v_consumer.max_class := null;
    v_consumer.rpm := null;
  end if;
  if (call).token_id is not null then
    select t.models, t.class, coalesce('llm' = any (t.scopes), true) as has_llm, t.requests_budget, t.tokens_budget, t.requests_used, t.tokens_used,
      t.revoked_at is not null or t.expires_at <= to_timestamp(scope_of.now_ms / 1000.0) as ended
    into v_token
    from eve.scoped_tokens t
    where t.id = (call).token_id and t.consumer_id = (call).consumer_id
    for no key update;
  end if;
  if v_day is not null then
    perform from eve.consumer_days d where d.consumer_id = v_consumer_id and d.day = v_day for no key update;
  end if;

  v_scope := eve.consumer_scope(call, v_consumer, v_day, scope_of.now_ms, v_spends, v_held);
  if (call).token_id is null or v_scope.refusal is not null then
    return v_scope;
  elsif v_token is null or v_token.ended then
    v_scope.refusal := 'token_revoked';
    return v_scope;
  elsif not v_token.has_llm then
    v_scope.refusal := 'model_not_allowed';
    return v_scope;
  elsif v_spends and (call).attempt = 1 and v_token.requests_used >= v_token.requests_budget then
    v_scope.refusal := 'budget_exhausted';
    v_scope.limit_name := 'token_requests';
    v_scope.wait_ms := null;
    return v_scope;
  elsif v_token.tokens_budget is not null
    and (v_scope.tokens_left <= v_token.tokens_budget - v_token.tokens_used + v_held) is not true then
    v_scope.tokens_left := v_token.tokens_budget - v_token.tokens_used + v_held;
    v_scope.tokens_limit := 'token_tokens';
  end if;
  if v_token.class = 'batch' then
    v_scope.class := 'batch';
  end if;
  if v_token.models is not null then
    v_scope.models := case
      when v_scope.models is null then v_token.models
      else array(select m from unnest(v_token.models) m where m = any (v_scope.models))
    end;
  end if;
  return v_scope;
end;
$$;

-- When a budget of tokens that is used up may have some again; null: never. What calls that run have reserved and will not need comes
-- back when they end, so soon; the day's budget is whole again after midnight in Los Angeles.
create or replace function eve.budget_wait(call eve.call, tokens_limit text, now_ms bigint)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
  return case
    when exists (
      select
      from eve.inflight i
      where i.consumer_id = (call).consumer_id and i.request_id <> (call).request_id and i.output_tokens > 0
        and i.lease_until > to_timestamp(budget_wait.now_ms / 1000.0)
        and (budget_wait.tokens_limit = 'consumer_tokens' or i.token_id = (call).token_id)
    ) then 2000
    when budget_wait.tokens_limit = 'consumer_tokens'
      then eve.next_pacific_midnight(budget_wait.now_ms) - budget_wait.now_ms
  end;
end;
$$;

-- Takes what an attempt costs from the budgets of its consumer and its token: input and answer. Their rows are locked by eve.scope_of.
create or replace function eve.take_budgets(call eve.call, scope eve.caller_scope, tokens bigint, now_ms bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_requests constant integer := case (call).attempt when 1 then 1 else 0 end;
begin
  if (call).token_id is not null then
    update eve.scoped_tokens t
    set requests_used = t.requests_used + v_requests, tokens_used = t.tokens_used + take_budgets.tokens
    where t.id = (call).token_id;
  end if;
  if (scope).counts_minute then
    perform eve.consumer_minute_take((call).consumer_id, take_budgets.now_ms);
  end if;
  if (scope).day is not null then
    update eve.consumer_days d
    set requests = d.requests + v_requests, tokens = d.tokens + take_budgets.tokens
    where d.consumer_id = (call).consumer_id and d.day = (scope).day;
  end if;
end;
$$;
