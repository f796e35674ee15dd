-- The way down of 20261201000100_figures.sql.

set local lock_timeout = '10s';

drop function eve.waited_ms(bigint, timestamp with time zone, timestamp with time zone);
drop function public.eve_consumer_page(text, text, integer);
drop function public.eve_request_log(text, text, text, text, timestamp with time zone, timestamp with time zone, text, integer);

CREATE OR REPLACE FUNCTION eve.as_request(running eve.inflight)
 RETURNS eve.requests
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select r
  from jsonb_populate_record(
    null::eve.requests,
    to_jsonb(as_request.running) || jsonb_build_object('state', 'running', 'attempts', (as_request.running).attempt)
  ) r;
$function$;
CREATE OR REPLACE FUNCTION eve.close_request(running eve.inflight, ended eve.requests)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
begin
  delete from eve.inflight i where i.request_no = (running).request_no;
  insert into eve.requests (
    request_no, received_at, finished_at, start_ms, wait_ms, lane_id, tokens_booked, output_booked, input_tokens, output_tokens,
    thoughts_tokens, cached_tokens, total_tokens, latency_ms, attempts, bucket_after_ms, upstream_status, usage_estimated,
    dispatched, consumer_id, key_id, token_id, request_id, class, endpoint, requested_model, model, state, error_code,
    error_detail, finish_reason, trace_id, metadata
  )
  values (
    (running).request_no, (running).received_at, v_now, (ended).start_ms, (running).wait_ms, (ended).lane_id,
    (ended).tokens_booked, (ended).output_booked, (ended).input_tokens, (ended).output_tokens, (ended).thoughts_tokens,
    (ended).cached_tokens, (ended).total_tokens, (ended).latency_ms, (running).attempt, (ended).bucket_after_ms, (ended).upstream_status,
    (ended).usage_estimated, (ended).dispatched, (running).consumer_id, (running).key_id, (running).token_id,
    (running).request_id, (running).class, (running).endpoint, nullif((running).requested_model, (running).model), (running).model,
    (ended).state, (ended).error_code, (ended).error_detail, (ended).finish_reason, (running).trace_id,
    nullif((running).metadata, '{}')
  );
  if (running).request_hash is not null then
    insert into eve.request_keys as k (
      consumer_id, request_id, request_no, ended_at, state, attempts, requested_model, class, request_hash, error_code
    )
    values (
      (running).consumer_id, (running).request_id, (running).request_no, v_now, (ended).state, (running).attempt,
      (running).requested_model, (running).class, (running).request_hash, (ended).error_code
    )
    -- One row that cannot be closed would stop every reservation on its lane.
    on conflict do nothing;
  end if;
end;
$function$;
CREATE OR REPLACE FUNCTION public.eve_lane_states(quota_project text DEFAULT NULL::text, model text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  with clock as (
    select c.ms, to_timestamp(c.ms / 1000.0) as at, eve.next_pacific_midnight(c.ms) as midnight_ms,
      coalesce((select s.value from eve.settings s where s.name = 'guard_ms'), 0) as guard_ms
    from (select eve.clock_ms() as ms) c
  ), pools as (
    select k.quota_key, eve.provider_name(k.provider) as provider,
      array_agg(k.key_alias order by k.priority, k.key_alias) as keys,
      count(*) filter (
        where k.is_active and k.env_var_name is not null and (k.blocked_until is null or k.blocked_until <= clock.at)
      ) as usable,
      array_agg(k.id) filter (
        where k.is_active and k.env_var_name is not null and (k.blocked_until is null or k.blocked_until <= clock.at)
      ) as usable_ids
    from public.google_ai_api_keys k
    cross join clock
    where eve_lane_states.quota_project is null or k.quota_key = eve_lane_states.quota_project
    group by 1, 2
  ), states as (
    select p.quota_key, m.model, p.keys, clock.at, clock.midnight_ms,
      p.usable - (
        select count(*)
        from eve.key_model_blocks b
        where b.key_id = any (p.usable_ids) and b.model = m.model and b.blocked_until > clock.at
      ) as usable,
      o.model is not null as is_override,
      (case when o.model is null then m.rpm else o.rpm end)::integer as rpm,
      (case when o.model is null then m.tpm else o.tpm end)::integer as tpm,
      (case when o.model is null then m.rpd else o.rpd end)::integer as rpd,
      case when l.blocked_until > clock.at then l.blocked_until end as blocked_until,
      case when l.blocked_until > clock.at then l.blocked_reason end as blocked_reason,
      case
        when l.day_ends_ms = clock.midnight_ms then l.day_starts
        -- Last booked yesterday: what it booked ahead counts today.
        when l.day_ends_ms > 0 and eve.next_pacific_midnight(l.day_ends_ms) = clock.midnight_ms then l.next_day_starts
        else 0
      end as day_used,
      minute.starts as minute_starts, minute.tokens as minute_tokens, line.queued, line.running
    from pools p
    join public.google_ai_model_limits m on eve.provider_name(m.provider) = p.provider and m.is_active and m.replaced_by is null
    cross join clock
    left join eve.quota_overrides o on o.quota_project = p.quota_key and o.model = m.model
    left join eve.lanes l on l.quota_project = p.quota_key and l.model = m.model
    cross join lateral (
      select coalesce(sum(b.starts), 0) as starts, coalesce(sum(b.tokens), 0) as tokens
      from eve.lane_buckets b
      where b.lane_id = l.id and b.at_ms > clock.ms - 60000 - clock.guard_ms and b.at_ms <= clock.ms
    ) minute
    cross join lateral (
      select count(*) filter (where i.state = 'waiting' or i.start_ms > clock.ms) as queued,
        count(*) filter (where i.state = 'reserved' and i.start_ms <= clock.ms) as running
      from eve.inflight i
      where i.lane_id = l.id and i.state in ('reserved', 'waiting')
    ) line
    where eve_lane_states.model is null or m.model = eve_lane_states.model
  )
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'quota_project', s.quota_key, 'model', s.model, 'keys', to_jsonb(s.keys),
        'state', case
          when s.usable <= 0 then 'no_key'
          when s.blocked_until is not null then 'paused'
          when s.rpm = 0 or s.tpm = 0 or s.rpd = 0 then 'no_quota'
          when s.day_used >= s.rpd then 'day_used_up'
          when s.minute_starts >= s.rpm or s.minute_tokens >= s.tpm then 'minute_used_up'
          else 'open'
        end,
        'blocked_until', s.blocked_until, 'blocked_reason', s.blocked_reason,
        'limits_from', case when s.is_override then 'override' else 'model' end,
        'requests', jsonb_build_object('limit', s.rpm, 'used', s.minute_starts, 'remaining', case when s.rpm is not null then greatest(s.rpm - s.minute_starts, 0) end),
        'tokens', jsonb_build_object('limit', s.tpm, 'used', s.minute_tokens, 'remaining', case when s.tpm is not null then greatest(s.tpm - s.minute_tokens, 0) end),
        'requests_day', jsonb_build_object(
          'limit', s.rpd, 'used', s.day_used, 'remaining', case when s.rpd is not null then greatest(s.rpd - s.day_used, 0) end,
          'resets_at', to_timestamp(s.midnight_ms / 1000.0)
        ),
        'queued', s.queued, 'running', s.running
      )
      order by s.quota_key, s.model
    ),
    '[]'
  )
  from states s;
$function$;
CREATE OR REPLACE FUNCTION public.eve_request_detail(request_no bigint DEFAULT NULL::bigint, request_id text DEFAULT NULL::text, consumer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
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
            -- From the time it was asked for, which is the end of the attempt before it.
            'wait_ms', greatest(a.start_ms - floor(extract(epoch from coalesce(a.before, v_request.received_at)) * 1000)::bigint, 0),
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
$function$;
