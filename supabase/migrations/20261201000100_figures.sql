-- Figures as people read them: what was really waited, what is free of a lane, and every call in one list.

set local lock_timeout = '10s';

create or replace function eve.waited_ms(booked_ms bigint, received_at timestamptz, until timestamptz)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  return least(
    waited_ms.booked_ms, greatest(floor(extract(epoch from waited_ms.until - waited_ms.received_at) * 1000)::bigint, 0)
  );
end;
$$;
comment on function eve.waited_ms is 'Milliseconds that a request has waited by an instant, of those that its starts were booked ahead.';

-- Moves a request from the running ones to the audit. `ended`: how it ended, and its last attempt. A caller who leaves before the
-- start has waited until then, however far ahead the start was booked.
create or replace function eve.close_request(running eve.inflight, ended eve.requests)
returns void
language plpgsql
volatile
set search_path = ''
as $$
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
    (running).request_no, (running).received_at, v_now, (ended).start_ms,
    eve.waited_ms((running).wait_ms, (running).received_at, v_now), (ended).lane_id,
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

-- Every lane that keys and models make possible, with what is used and left of it at this moment. A lane that was never
-- called has no row yet; it is whole. A closed one has nothing free, whatever is left of its minute.
create or replace function public.eve_lane_states(quota_project text default null, model text default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
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
      minute.starts as minute_starts, minute.tokens as minute_tokens, minute.oldest_ms + 60000 + clock.guard_ms as minute_frees_ms,
      line.queued, line.running
    from pools p
    join public.google_ai_model_limits m on eve.provider_name(m.provider) = p.provider and m.is_active and m.replaced_by is null
    cross join clock
    left join eve.quota_overrides o on o.quota_project = p.quota_key and o.model = m.model
    left join eve.lanes l on l.quota_project = p.quota_key and l.model = m.model
    cross join lateral (
      select coalesce(sum(b.starts), 0) as starts, coalesce(sum(b.tokens), 0) as tokens,
        min(b.at_ms) as oldest_ms
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
  ), judged as (
    select s.*,
      case
        when s.usable <= 0 then 'no_key'
        when s.blocked_until is not null then 'paused'
        when s.rpm = 0 or s.tpm = 0 or s.rpd = 0 then 'no_quota'
        when s.day_used >= s.rpd then 'day_used_up'
        when s.minute_starts >= s.rpm or s.minute_tokens >= s.tpm then 'minute_used_up'
        else 'open'
      end as state
    from states s
  )
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'quota_project', s.quota_key, 'model', s.model, 'keys', to_jsonb(s.keys),
        'state', s.state,
        -- Starts that it could take now; null: without end.
        'free', case when s.state = 'open' then least(s.rpm - s.minute_starts, s.rpd - s.day_used) else 0 end,
        'frees_at', case s.state
          when 'paused' then s.blocked_until
          when 'day_used_up' then to_timestamp(s.midnight_ms / 1000.0)
          when 'minute_used_up' then to_timestamp(s.minute_frees_ms / 1000.0)
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
  from judged s;
$$;

-- Requests and refusals in one list, the newest first: by the time they ended, those that run before them. `before` and
-- `next_before` are places in both lists, "request_no.refusal_no". Each is looked through as in eve_request_search, and shown as far
-- as both have been. A refusal of a later attempt is listed with its request.
create or replace function public.eve_request_log(
  consumer text default null,
  model text default null,
  key text default null,
  error_code text default null,
  since timestamptz default null,
  until timestamptz default null,
  before text default null,
  at_most integer default 50
)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_at_most constant integer := least(greatest(eve_request_log.at_most, 1), 1000);
  v_request_before bigint;
  v_refusal_before bigint;
  v_requests jsonb;
  v_refusals jsonb;
  v_request_next bigint;
  v_refusal_next bigint;
  v_horizon timestamptz := '-infinity';
  v_page jsonb;
  v_shown record;
begin
  if eve_request_log.before !~ '^[0-9]{1,18}\.[0-9]{1,18}$' then
    raise exception 'before must be the next_before of an earlier page' using errcode = 'EV400';
  elsif eve_request_log.before is not null then
    -- 0: nothing of that list has been shown.
    v_request_before := nullif(split_part(eve_request_log.before, '.', 1)::bigint, 0);
    v_refusal_before := nullif(split_part(eve_request_log.before, '.', 2)::bigint, 0);
  end if;
  v_requests := public.eve_request_search(
    consumer => eve_request_log.consumer, model => eve_request_log.model, key => eve_request_log.key,
    error_code => eve_request_log.error_code, since => eve_request_log.since, until => eve_request_log.until,
    before => v_request_before, at_most => v_at_most
  );
  select r.refusals, r.next_before into v_refusals, v_refusal_next
  from eve.search_refusals(
    eve.consumer_id_of(eve_request_log.consumer), eve_request_log.model, eve.key_id_of(eve_request_log.key),
    eve_request_log.error_code, coalesce(eve_request_log.since, '-infinity'), coalesce(eve_request_log.until, 'infinity'),
    v_refusal_before, v_at_most, 100000
  ) r;
  v_request_next := (v_requests ->> 'next_before')::bigint;
  if v_request_next is not null then
    v_horizon := (select q.finished_at from eve.requests q where q.request_no = v_request_next limit 1);
  end if;
  if v_refusal_next is not null then
    v_horizon := greatest(v_horizon, (select f.refused_at from eve.refusals f where f.id = v_refusal_next limit 1));
  end if;

  with found as (
    select r.one, (r.one ->> 'finished_at')::timestamptz as at, (r.one ->> 'request_no')::bigint as request_no,
      null::bigint as refusal_no
    from jsonb_array_elements(v_requests -> 'requests') as r (one)
    where r.one ->> 'state' <> 'running'
    union all
    select f.one, (f.one ->> 'finished_at')::timestamptz, null, (f.one ->> 'refusal_no')::bigint
    from jsonb_array_elements(v_refusals) as f (one)
    where (f.one ->> 'attempts')::integer = 0
  ), page as (
    select p.*
    from found p
    where p.at >= v_horizon
    order by p.at desc, p.request_no desc nulls last, p.refusal_no desc
    limit v_at_most
  )
  select
    coalesce(jsonb_agg(p.one order by p.at desc, p.request_no desc nulls last, p.refusal_no desc), '[]') as rows,
    (array_agg(p.request_no order by p.at, p.request_no) filter (where p.request_no is not null))[1] as request_no,
    (array_agg(p.refusal_no order by p.at, p.refusal_no) filter (where p.refusal_no is not null))[1] as refusal_no,
    count(p.request_no) = (select count(f.request_no) from found f) as has_all_requests,
    count(p.refusal_no) = (select count(f.refusal_no) from found f) as has_all_refusals
  into v_shown
  from page p;
  select coalesce(jsonb_agg(r.one order by r.place), '[]') into v_page
  from jsonb_array_elements(v_requests -> 'requests') with ordinality as r (one, place)
  where r.one ->> 'state' = 'running' and eve_request_log.before is null;

  return jsonb_build_object(
    'requests', v_page || v_shown.rows,
    'next_before', case
      when v_request_next is not null or v_refusal_next is not null or not v_shown.has_all_requests
        or not v_shown.has_all_refusals
      then format(
        '%s.%s',
        coalesce(
          case when v_shown.has_all_requests then v_request_next end, v_shown.request_no, v_request_before, 0
        ),
        coalesce(case when v_shown.has_all_refusals then v_refusal_next end, v_shown.refusal_no, v_refusal_before, 0)
      )
    end
  );
end;
$$;
comment on function public.eve_request_log is 'Requests that run or have ended, and refusals, in one list, the newest first, with where the next page begins; a page may be empty and not the last.';

-- Consumers by name, those after one, as many as fit on a page; `search`: a part of the name or of the tenant's.
create or replace function public.eve_consumer_page(search text default null, after text default null, at_most integer default 50)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_at_most constant integer := least(greatest(eve_consumer_page.at_most, 1), 1000);
  v_search constant text := lower(eve_consumer_page.search);
  v_names text[];
  v_total bigint;
begin
  select count(*), (array_agg(c.name order by c.name) filter (where c.name > coalesce(eve_consumer_page.after, '')))[1 : v_at_most + 1]
  into v_total, v_names
  from eve.consumers c
  where c.kind <> 'project'
    and (v_search is null or strpos(lower(c.name), v_search) > 0 or strpos(lower(coalesce(c.tenant_id, '')), v_search) > 0);
  return jsonb_build_object(
    'consumers', (
      select coalesce(jsonb_agg(eve.consumer_json(c) order by c.name), '[]')
      from eve.consumers c
      where c.name = any (v_names[1 : v_at_most])
    ),
    'total', v_total,
    'next_after', case when cardinality(v_names) > v_at_most then v_names[v_at_most] end
  );
end;
$$;
comment on function public.eve_consumer_page is 'Consumers by name, a page of them: how many there are in all, and after whom the next page begins.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace and p.proname = 'waited_ms'
      or p.pronamespace = 'public'::regnamespace and p.proname in ('eve_request_log', 'eve_consumer_page')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
end;
$$;
