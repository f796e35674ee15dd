-- What people look at: the state of keys and lanes, requests one by one, what happens now, alerts, and whether everything
-- that the gateway needs is there. For the command line and for a console, so every answer is one JSON value whose names
-- are the columns'.
--
-- Nothing here may be felt by admission: what reads takes no lock and is stable, so that the REST API runs it in a
-- transaction that cannot write (and a read replica can run it at all); each reads a bounded number of rows however large the
-- audit is, and none needs an index that every settled call would have to pay for. The audit's rows are numbered nearly in
-- the order of time (a connection takes 32 numbers at once), so the primary key serves as the index of time; NEARLY is
-- accounted for where it matters.

-- Whose fault a failed attempt is, by its error code: key, key_model (this key cannot serve this model), lane (quota),
-- upstream, region, model (its answer is of no use), caller, gateway. Null: it did not fail.
create or replace function eve.fault_of(error_code text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when fault_of.error_code is null then null
    when fault_of.error_code in ('key_rejected', 'secret_missing') then 'key'
    when fault_of.error_code = 'model_unavailable' then 'key_model'
    when fault_of.error_code in ('upstream_rate_limited', 'upstream_daily_limit') then 'lane'
    when fault_of.error_code in ('upstream_unavailable', 'upstream_timeout') then 'upstream'
    when fault_of.error_code = 'upstream_region' then 'region'
    when fault_of.error_code in ('content_blocked', 'empty_answer', 'answer_unusable', 'answer_truncated', 'answer_too_large', 'schema_mismatch') then 'model'
    when fault_of.error_code in ('upstream_invalid_request', 'prompt_too_large', 'unsupported_feature', 'schema_too_complex', 'client_closed') then 'caller'
    else 'gateway'
  end;
$$;
comment on function eve.fault_of is 'Whose fault a failed attempt is, by its error code.';

-- The id that a consumer's name stands for; an id stands for itself, since the audit outlives consumers.
create or replace function eve.consumer_id_of(consumer text)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if consumer_id_of.consumer is null then
    return null;
  elsif consumer_id_of.consumer ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    return consumer_id_of.consumer::uuid;
  end if;
  select c.id into v_id from eve.consumers c where c.name = consumer_id_of.consumer;
  if not found then
    raise exception 'there is no consumer named %', consumer_id_of.consumer using errcode = 'EV400';
  end if;
  return v_id;
end;
$$;

create or replace function eve.key_id_of(key_alias text)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if key_id_of.key_alias is null then
    return null;
  elsif key_id_of.key_alias ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    return key_id_of.key_alias::uuid;
  end if;
  select k.id into v_id from public.google_ai_api_keys k where k.key_alias = key_id_of.key_alias order by k.created_at limit 1;
  if not found then
    raise exception 'there is no key named %', key_id_of.key_alias using errcode = 'EV400';
  end if;
  return v_id;
end;
$$;

-- One shape for requests that run, that have ended, and that were refused.
create or replace function eve.request_json(request eve.requests)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'request_no', (request_json.request).request_no, 'refusal_no', null, 'request_id', (request_json.request).request_id,
    'state', (request_json.request).state, 'at', (request_json.request).received_at,
    'finished_at', (request_json.request).finished_at,
    'duration_ms', greatest(
      floor(extract(epoch from (request_json.request).finished_at - (request_json.request).received_at) * 1000)::bigint, 0
    ),
    'wait_ms', (request_json.request).wait_ms, 'attempts', (request_json.request).attempts,
    'consumer', coalesce(
      (select c.name from eve.consumers c where c.id = (request_json.request).consumer_id),
      (request_json.request).consumer_id::text
    ),
    'consumer_id', (request_json.request).consumer_id, 'token_id', (request_json.request).token_id,
    'class', (request_json.request).class, 'endpoint', (request_json.request).endpoint,
    'requested_model', coalesce((request_json.request).requested_model, (request_json.request).model),
    'model', (request_json.request).model,
    'key', coalesce(
      (select k.key_alias from public.google_ai_api_keys k where k.id = (request_json.request).key_id),
      (request_json.request).key_id::text
    ),
    'input_tokens', (request_json.request).input_tokens, 'output_tokens', (request_json.request).output_tokens,
    'total_tokens', (request_json.request).total_tokens, 'error_code', (request_json.request).error_code,
    'finish_reason', (request_json.request).finish_reason, 'limit', null, 'retry_after_ms', null,
    'trace_id', (request_json.request).trace_id
  );
$$;

-- A request that runs, as the row it would be if it ended now.
create or replace function eve.as_request(running eve.inflight)
returns eve.requests
language sql
stable
set search_path = ''
as $$
  select r
  from jsonb_populate_record(
    null::eve.requests,
    to_jsonb(as_request.running) || jsonb_build_object(
      'state', 'running', 'attempts', (as_request.running).attempt,
      'wait_ms', eve.waited_ms((as_request.running).wait_ms, (as_request.running).received_at, eve.clock())
    )
  ) r;
$$;

create or replace function eve.refusal_json(refusal eve.refusals)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'request_no', null, 'refusal_no', (refusal_json.refusal).id, 'request_id', (refusal_json.refusal).request_id,
    'state', 'refused', 'at', (refusal_json.refusal).refused_at, 'finished_at', (refusal_json.refusal).refused_at,
    'duration_ms', 0, 'wait_ms', 0, 'attempts', (refusal_json.refusal).attempt - 1,
    'consumer', coalesce(
      (select c.name from eve.consumers c where c.id = (refusal_json.refusal).consumer_id),
      (refusal_json.refusal).consumer_id::text
    ),
    'consumer_id', (refusal_json.refusal).consumer_id, 'token_id', (refusal_json.refusal).token_id,
    'class', (refusal_json.refusal).class, 'endpoint', (refusal_json.refusal).endpoint,
    'requested_model', (refusal_json.refusal).model, 'model', (refusal_json.refusal).model, 'key', null,
    'input_tokens', (refusal_json.refusal).tokens, 'output_tokens', null, 'total_tokens', null,
    'error_code', (refusal_json.refusal).code, 'finish_reason', null, 'limit', (refusal_json.refusal).limit_name,
    'retry_after_ms', (refusal_json.refusal).retry_after_ms, 'trace_id', (refusal_json.refusal).trace_id
  );
$$;

-- A request that was never admitted: its newest refusal in the form of a request, with all of them. Raises where there is none.
create or replace function eve.refused_detail(request_id text, consumer_id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
-- As eve_request_search: the tables are large.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_newest eve.refusals;
  v_consumers text[];
begin
  select array_agg(distinct coalesce(c.name, f.consumer_id::text, 'project'))
  into v_consumers
  from eve.refusals f
  left join eve.consumers c on c.id = f.consumer_id
  where f.request_id = refused_detail.request_id
    and (refused_detail.consumer_id is null or f.consumer_id = refused_detail.consumer_id);
  if v_consumers is null then
    raise exception 'there is no request %', refused_detail.request_id using errcode = 'EV400';
  elsif cardinality(v_consumers) > 1 then
    raise exception 'request_id % was used by several consumers: give consumer, one of %',
      refused_detail.request_id, array_to_string(v_consumers, ', ') using errcode = 'EV400';
  end if;
  select * into v_newest
  from eve.refusals f
  where f.request_id = refused_detail.request_id
    and (refused_detail.consumer_id is null or f.consumer_id = refused_detail.consumer_id)
  order by f.refused_at desc, f.id desc
  limit 1;
  return eve.refusal_json(v_newest) || jsonb_build_object(
    'metadata', null, 'tries', jsonb_build_array(), 'running', null, 'capture', null, 'answer_kept', false,
    'refusals', (
      select jsonb_agg(
        jsonb_build_object(
          'at', f.refused_at, 'attempt', f.attempt, 'model', f.model, 'error_code', f.code, 'limit', f.limit_name,
          'retry_after_ms', f.retry_after_ms
        )
        order by f.refused_at, f.id
      )
      from (
        select *
        from eve.refusals r
        where r.request_id = refused_detail.request_id and r.consumer_id is not distinct from v_newest.consumer_id
        order by r.refused_at desc
        limit 100
      ) f
    )
  );
end;
$$;

create or replace function public.eve_request_detail(
  request_no bigint default null, request_id text default null, consumer text default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
-- As eve_request_search: the tables are large.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_consumer_id constant uuid := eve.consumer_id_of(eve_request_detail.consumer);
  v_found bigint[];
  v_request eve.requests;
  v_running eve.inflight;
begin
  if (eve_request_detail.request_no is null) = (eve_request_detail.request_id is null) then
    raise exception 'give either request_no or request_id' using errcode = 'EV400';
  end if;
  if eve_request_detail.request_no is not null then
    v_found := array[eve_request_detail.request_no];
  else
    select array_agg((one ->> 'request_no')::bigint)
    into v_found
    from jsonb_array_elements(
      public.eve_request_search(request_id => eve_request_detail.request_id, consumer => eve_request_detail.consumer)
        -> 'requests'
    ) one
    where one ->> 'request_no' is not null;
    if v_found is null then
      return eve.refused_detail(eve_request_detail.request_id, v_consumer_id);
    end if;
    if cardinality(v_found) > 1 then
      raise exception 'request_id % was used by several consumers: give consumer, or one of the numbers %',
        eve_request_detail.request_id, array_to_string(v_found, ', ') using errcode = 'EV400';
    end if;
  end if;
  select * into v_request from eve.requests r where r.request_no = v_found[1];
  if not found then
    select * into v_running from eve.inflight i where i.request_no = v_found[1];
    if not found then
      raise exception 'there is no request %',
        coalesce(eve_request_detail.request_id, eve_request_detail.request_no::text) using errcode = 'EV400';
    end if;
    v_request := eve.as_request(v_running);
  end if;
  return eve.request_json(v_request) || jsonb_build_object(
    'metadata', coalesce(v_request.metadata, '{}'),
    'tries', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'attempt', a.attempt, 'model', a.model,
            'key', coalesce((select k.key_alias from public.google_ai_api_keys k where k.id = a.key_id), a.key_id::text),
            'quota_project', (select l.quota_project from eve.lanes l where l.id = a.lane_id),
            'start_at', to_timestamp(a.start_ms / 1000.0),
            -- From the time it was asked for, which is the end of the attempt before it, until its start or its end.
            'wait_ms', greatest(
              least(a.start_ms, floor(extract(epoch from a.settled_at) * 1000)::bigint)
                - floor(extract(epoch from coalesce(a.before, v_request.received_at)) * 1000)::bigint,
              0
            ),
            'latency_ms', a.latency_ms, 'settled_at', a.settled_at, 'outcome', a.outcome, 'dispatched', a.dispatched,
            'tokens_booked', a.tokens_booked, 'input_tokens', a.input_tokens, 'output_tokens', a.output_tokens,
            'thoughts_tokens', a.thoughts_tokens, 'cached_tokens', a.cached_tokens, 'total_tokens', a.total_tokens,
            'usage_estimated', a.usage_estimated, 'upstream_status', a.upstream_status, 'error_code', a.error_code,
            'error_detail', a.error_detail, 'fault', case when a.outcome <> 'succeeded' then eve.fault_of(a.error_code) end,
            'finish_reason', a.finish_reason
          )
          order by a.attempt
        ),
        '[]'
      )
      from (
        select t.*, lag(t.settled_at) over (order by t.attempt) as before
        from eve.attempts t
        where t.request_no = v_request.request_no
      ) a
    ),
    'running', case when v_running.request_no is not null then jsonb_build_object(
      'attempt', v_running.attempt, 'state', v_running.state, 'start_at', to_timestamp(v_running.start_ms / 1000.0),
      'lease_until', v_running.lease_until, 'tokens_booked', v_running.tokens
    ) end,
    -- Of the hour before it came and of its own time.
    'refusals', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'at', f.refused_at, 'attempt', f.attempt, 'model', f.model, 'error_code', f.code, 'limit', f.limit_name,
            'retry_after_ms', f.retry_after_ms
          )
          order by f.refused_at, f.id
        ),
        '[]'
      )
      from eve.refusals f
      where f.request_id = v_request.request_id and f.consumer_id = v_request.consumer_id
        and f.refused_at between v_request.received_at - interval '1 hour' and coalesce(v_request.finished_at, eve.clock())
    ),
    'capture', (
      select jsonb_build_object('prompt', c.prompt, 'answer', c.answer, 'captured_at', c.captured_at)
      from eve.captures c
      where c.request_no = v_request.request_no
    ),
    'answer_kept', exists (select from eve.request_results k where k.request_no = v_request.request_no)
  );
end;
$$;
comment on function public.eve_request_detail is 'One request with all its attempts, waits, refusals, whose fault a failure is, and what was captured of it; or, by its request_id, one that was refused, with its refusals.';
