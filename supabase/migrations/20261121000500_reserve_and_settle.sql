-- The functions that callers use beside eve_reserve: settle, models, sweep. With the rights of the caller, who is the service role.

create or replace function public.eve_settle(
  request_no bigint,
  attempt integer,
  outcome text,
  final boolean default true,
  dispatched boolean default true,
  input_tokens integer default null,
  output_tokens integer default null,
  thoughts_tokens integer default null,
  cached_tokens integer default null,
  total_tokens integer default null,
  upstream_status integer default null,
  error_code text default null,
  error_detail text default null,
  finish_reason text default null,
  block jsonb default null,
  latency_ms integer default null,
  usage_estimated boolean default false,
  result jsonb default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Custom plans would be made anew on nearly every call; planning was a third of its time.
set plan_cache_mode = 'force_generic_plan'
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_running eve.inflight;
  v_before eve.attempts;
  v_request eve.requests;
  v_now constant timestamptz := eve.clock();
  v_total bigint := coalesce(eve_settle.total_tokens, eve_settle.input_tokens + coalesce(eve_settle.output_tokens, 0));
  v_delta bigint;
begin
  if eve_settle.outcome is null or eve_settle.outcome not in ('succeeded', 'failed', 'cancelled') then
    raise exception 'outcome must be succeeded, failed or cancelled' using errcode = 'EV400';
  elsif eve_settle.input_tokens < 0 or eve_settle.output_tokens < 0 then
    raise exception 'tokens must be 0 or more' using errcode = 'EV400';
  end if;

  select * into v_running from eve.inflight i where i.request_no = eve_settle.request_no for update;
  if not found or v_running.attempt <> eve_settle.attempt or v_running.state not in ('reserved', 'waiting')
    or v_running.state = 'waiting' and eve_settle.dispatched then
    select * into v_before
    from eve.attempts a
    where a.request_no = eve_settle.request_no and a.attempt = eve_settle.attempt
    for update;
    if found and eve_settle.final and v_running.attempt = eve_settle.attempt and v_running.state = 'between' then
      -- No attempt followed after all: the request ends as this one did.
      perform eve.close_request(
        v_running, v_before.outcome, v_before.error_code, v_before.input_tokens, v_before.output_tokens,
        v_before.total_tokens, v_before.finish_reason
      );
      return jsonb_build_object('status', 'settled');
    elsif v_before.request_no is null then
      raise exception 'no reservation % attempt %', eve_settle.request_no, eve_settle.attempt using errcode = 'EV404';
    elsif v_before.outcome <> 'expired' then
      return jsonb_build_object('status', 'already_settled', 'outcome', v_before.outcome);
    end if;
    -- Late: its lease had run out and it was booked as expired. What really happened is worth knowing. What it held stays
    -- counted, even if it now says that it called nobody: its place has long been planned with.
    v_delta := eve_settle.input_tokens - v_before.tokens_booked;
    select * into v_request from eve.requests r where r.request_no = eve_settle.request_no;
    perform eve.adjust_budgets(
      v_request.consumer_id, v_request.token_id, v_request.received_at, 0,
      coalesce(v_total - v_before.tokens_booked, 0)
    );
    perform eve.adjust_bucket(v_before.lane_id, v_before.bucket_ms, v_before.class, 0, v_delta);
    update eve.attempts a
    set outcome = eve_settle.outcome, input_tokens = eve_settle.input_tokens,
      output_tokens = eve_settle.output_tokens, thoughts_tokens = eve_settle.thoughts_tokens,
      cached_tokens = eve_settle.cached_tokens, total_tokens = v_total, usage_estimated = eve_settle.usage_estimated,
      upstream_status = eve_settle.upstream_status, error_code = coalesce(eve_settle.error_code, 'settled_late'),
      error_detail = eve_settle.error_detail, finish_reason = eve_settle.finish_reason,
      latency_ms = eve_settle.latency_ms, settled_at = v_now
    where a.request_no = eve_settle.request_no and a.attempt = eve_settle.attempt;
    update eve.requests r
    set state = eve_settle.outcome, input_tokens = eve_settle.input_tokens, output_tokens = eve_settle.output_tokens,
      total_tokens = v_total, error_code = eve_settle.error_code, finish_reason = eve_settle.finish_reason
    where r.request_no = eve_settle.request_no and r.state = 'expired' and r.attempts = eve_settle.attempt;
    if v_total is not null then
      perform eve.log_token_usage(
        v_before.model, eve_settle.input_tokens, eve_settle.output_tokens, v_total, r.request_id,
        eve.usage_meta(r.consumer_id, v_before.key_id, eve_settle.attempt, r.class, r.door, eve_settle.usage_estimated)
      )
      from eve.requests r
      where r.request_no = eve_settle.request_no;
    end if;
    return jsonb_build_object('status', 'late');
  end if;

  -- Budgets first, then the lane, then its bucket: the order in which a reservation takes them.
  v_delta := case
    when not eve_settle.dispatched then -v_running.tokens
    else eve_settle.input_tokens - v_running.tokens
  end;
  perform eve.adjust_budgets(
    v_running.consumer_id, v_running.token_id, v_running.received_at,
    case when not eve_settle.dispatched and eve_settle.final and v_running.attempt = 1 then -1 else 0 end,
    case
      when not eve_settle.dispatched then -v_running.tokens
      when v_total is not null then v_total - v_running.tokens
      else 0
    end
  );
  if v_running.state = 'waiting' then
    null; -- It held no place.
  elsif not eve_settle.dispatched then
    perform eve.give_back(v_running);
  elsif v_delta > 0 then
    -- Under-estimated: the lane's two-span sum must know, or it would let somebody in.
    update eve.lanes l
    set span_tokens = l.span_tokens + case when v_running.start_ms >> 16 >= l.span_number then v_delta else 0 end,
      previous_span_tokens = l.previous_span_tokens
        + case when v_running.start_ms >> 16 < l.span_number then v_delta else 0 end
    where l.id = v_running.lane_id;
  end if;
  if eve_settle.block is not null then
    perform eve.apply_block(v_running, eve_settle.block, coalesce(eve_settle.error_code, 'blocked'));
  end if;
  if v_running.state = 'reserved' then
    perform eve.adjust_bucket(
      v_running.lane_id, v_running.bucket_ms, v_running.class, case when eve_settle.dispatched then 0 else -1 end, v_delta
    );
  end if;

  insert into eve.attempts (
    request_no, attempt, lane_id, key_id, model, class, start_ms, bucket_ms, tokens_booked, input_tokens, output_tokens,
    thoughts_tokens, cached_tokens, total_tokens, usage_estimated, outcome, dispatched, upstream_status, error_code,
    error_detail, finish_reason, latency_ms, settled_at
  )
  values (
    v_running.request_no, v_running.attempt, v_running.lane_id, v_running.key_id, v_running.model, v_running.class,
    v_running.start_ms, v_running.bucket_ms, v_running.tokens, eve_settle.input_tokens, eve_settle.output_tokens,
    eve_settle.thoughts_tokens, eve_settle.cached_tokens, v_total, eve_settle.usage_estimated, eve_settle.outcome,
    eve_settle.dispatched, eve_settle.upstream_status, eve_settle.error_code, left(eve_settle.error_detail, 2000),
    eve_settle.finish_reason, eve_settle.latency_ms, v_now
  );
  if eve_settle.dispatched then
    perform eve.count_usage(
      v_running.key_id, v_running.model, v_running.start_ms, coalesce(eve_settle.input_tokens, v_running.tokens)
    );
  end if;

  if eve_settle.dispatched and not eve_settle.usage_estimated then
    perform eve.learn_estimate(v_running.model, v_running.request_no, v_running.estimated_tokens, eve_settle.input_tokens);
  end if;

  if eve_settle.final then
    perform eve.close_request(
      v_running, eve_settle.outcome, eve_settle.error_code, eve_settle.input_tokens, eve_settle.output_tokens,
      v_total::integer, eve_settle.finish_reason
    );
    if eve_settle.result is not null then
      insert into eve.request_results (request_no, result) values (eve_settle.request_no, eve_settle.result)
      on conflict do nothing;
    end if;
  else
    -- The caller is about to reserve the next attempt. If it dies instead, the row closes by itself.
    update eve.inflight i
    set state = 'between', lease_until = greatest(i.lease_until, v_now + interval '120 seconds')
    where i.request_no = eve_settle.request_no;
  end if;
  if v_total is not null then
    perform eve.log_token_usage(
      v_running.model, eve_settle.input_tokens, eve_settle.output_tokens, v_total, v_running.request_id,
      eve.usage_meta(
        v_running.consumer_id, v_running.key_id, v_running.attempt, v_running.class, v_running.door,
        eve_settle.usage_estimated
      )
    );
  end if;
  return jsonb_build_object('status', 'settled');
end;
$$;
comment on function public.eve_settle is 'Ends a reservation: real tokens replace the estimate at its own place in the window. Twice is the same as once; late is harmless.';

-- The models that a caller may use, with what they take and can do.
create or replace function public.eve_models(consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  if eve_models.consumer_id is not null
    and not exists (select from eve.consumers c where c.id = eve_models.consumer_id and c.is_active) then
    raise exception 'consumer % is not there or switched off', eve_models.consumer_id using errcode = 'EV403';
  elsif eve_models.token_id is not null
    and not exists (
      select
      from eve.scoped_tokens t
      where t.id = eve_models.token_id and t.consumer_id = eve_models.consumer_id and t.revoked_at is null
        and t.expires_at > eve.clock()
    ) then
    raise exception 'token % has ended', eve_models.token_id using errcode = 'EV401';
  end if;
  return (
    select coalesce(
      jsonb_agg(
        jsonb_build_object(
          'model', m.model, 'replaced_by', m.replaced_by, 'provider', m.provider, 'rpm', m.rpm, 'tpm', m.tpm, 'rpd', m.rpd,
          'created_at', m.created_at, 'max_output_tokens', m.max_output_tokens,
          'capabilities', jsonb_build_object(
            'system', m.supports_system, 'json', m.supports_json, 'tools', m.supports_tools, 'thinking', m.supports_thinking
          )
        )
        order by m.model
      ),
      '[]'
    )
    from public.google_ai_model_limits m
    where m.is_active
      and not exists (
        select
        from eve.consumers c
        where c.id = eve_models.consumer_id and m.model <> all (c.models)
      )
      and not exists (
        select
        from eve.scoped_tokens t
        where t.id = eve_models.token_id and m.model <> all (t.models)
      )
  );
end;
$$;
comment on function public.eve_models is 'The models that a consumer, or the holder of a token, may use.';

create or replace function public.eve_sweep(at_most integer default 1000)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object('expired', eve.expire_leases(null, eve_sweep.at_most));
$$;
comment on function public.eve_sweep is 'Closes reservations whose callers have died. Every reservation does so for its own lane too.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature, p.pronamespace::regnamespace::text as room
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace
      or (p.pronamespace = 'public'::regnamespace and p.proname like 'eve\_%')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
  -- Triggers need nobody's leave.
  revoke all on function eve.drop_routes() from service_role;
end;
$$;
