-- Settling several attempts at once. Under load settlements compete with reservations for the database, and clients wait for
-- those: by the row, a settlement costs a fifth of what eve_settle costs by the call.

-- Moves what ended to the audit: settlements whose requests have these numbers. Answers the rows.
create or replace function eve.write_ended(settlements jsonb, numbers bigint[], now_at timestamptz)
returns eve.requests[]
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_ended eve.requests[];
begin
  with written as (
    insert into eve.requests as r (
      request_no, received_at, finished_at, start_ms, wait_ms, lane_id, tokens_booked, output_booked, input_tokens, output_tokens,
      thoughts_tokens, cached_tokens, total_tokens, latency_ms, attempts, bucket_after_ms, upstream_status, usage_estimated,
      dispatched, consumer_id, key_id, token_id, request_id, class, endpoint, requested_model, model, state, error_code,
      error_detail, finish_reason, trace_id, metadata
    )
    select i.request_no, i.received_at, write_ended.now_at, i.start_ms, i.wait_ms, i.lane_id, least(i.tokens, 2147483647),
      -- As in eve_settle: of these answers nobody knows how long they were.
      case
        when t.total_tokens is null and t.input_tokens is null and coalesce(t.upstream_status, 0) < 400
          then nullif(i.output_tokens, 0)
      end,
      t.input_tokens, t.output_tokens, t.thoughts_tokens, t.cached_tokens,
      coalesce(t.total_tokens, t.input_tokens + coalesce(t.output_tokens, 0)), t.latency_ms, i.attempt,
      i.bucket_ms - i.start_ms, t.upstream_status, coalesce(t.usage_estimated, false), true, i.consumer_id, i.key_id,
      i.token_id, i.request_id, i.class, i.endpoint, nullif(i.requested_model, i.model), i.model, t.outcome, left(t.error_code, 100),
      left(t.error_detail, 2000), left(t.finish_reason, 100), i.trace_id, nullif(i.metadata, '{}')
    from jsonb_to_recordset(write_ended.settlements) as t (
      request_no bigint, outcome text, input_tokens integer, output_tokens integer, thoughts_tokens integer,
      cached_tokens integer, total_tokens integer, usage_estimated boolean, upstream_status integer, error_code text,
      error_detail text, finish_reason text, latency_ms integer
    )
    join eve.inflight i on i.request_no = t.request_no
    where t.request_no = any (write_ended.numbers)
    returning r
  )
  select array_agg(w.r) into v_ended from written w;
  return v_ended;
end;
$$;

-- Corrects the budgets of those who have one, in the order of public.eve_reserve.
create or replace function eve.settle_budgets(ended eve.requests[], numbers bigint[])
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
begin
  perform eve.lock_budgets(array_agg(i.token_id), array_agg(i.consumer_id), array_agg(
    eve.pacific_day(floor(extract(epoch from i.received_at) * 1000)::bigint)
  ))
  from eve.inflight i
  where i.request_no = any (settle_budgets.numbers) and (i.consumer_id <> v_project or i.token_id is not null);
  perform eve.adjust_budgets(spent.consumer_id, spent.token_id, spent.received_at, 0, spent.tokens::bigint)
  from (
    select i.consumer_id, i.token_id, min(i.received_at) as received_at,
      sum(
        coalesce(a.total_tokens, i.tokens + coalesce(a.output_booked, 0)) - i.tokens - i.output_tokens
      ) as tokens
    from unnest(ended) a
    join eve.inflight i on i.request_no = a.request_no
    where (i.consumer_id <> v_project or i.token_id is not null)
    group by i.consumer_id, i.token_id, eve.pacific_day(floor(extract(epoch from i.received_at) * 1000)::bigint)
  ) spent;
end;
$$;

-- Corrects what lanes and their buckets hold by what was used.
create or replace function eve.correct_windows(ended eve.requests[])
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  -- Under-estimated: the lane's two-span sum must know, or it would let somebody in. Several are locked in their order first.
  perform
  from eve.lanes l
  where cardinality(ended) > 1 and l.id in (
    select a.lane_id
    from unnest(ended) a
    where a.input_tokens > a.tokens_booked
  )
  order by l.id
  for no key update;
  if found or cardinality(ended) = 1 then
    update eve.lanes l
    set span_tokens = l.span_tokens + more.tokens - more.before, previous_span_tokens = l.previous_span_tokens + more.before
    from (
      select a.lane_id, sum(a.input_tokens - a.tokens_booked) as tokens,
        coalesce(sum(a.input_tokens - a.tokens_booked) filter (where a.start_ms >> 16 < held.span_number), 0) as before
      from unnest(ended) a
      join eve.lanes held on held.id = a.lane_id
      where a.input_tokens > a.tokens_booked
      group by a.lane_id
    ) more
    where l.id = more.lane_id;
  end if;

  perform
  from eve.lane_buckets b
  where cardinality(ended) > 1 and (b.lane_id, b.at_ms) in (
    select a.lane_id, a.start_ms + a.bucket_after_ms
    from unnest(ended) a
    where a.input_tokens <> a.tokens_booked
  )
  order by b.lane_id, b.at_ms
  for no key update;
  if found or cardinality(ended) = 1 then
    update eve.lane_buckets b
    set tokens = greatest(b.tokens + more.tokens, 0), batch_tokens = greatest(b.batch_tokens + more.batch_tokens, 0)
    from (
      select a.lane_id, a.start_ms + a.bucket_after_ms as bucket_ms, sum(a.input_tokens - a.tokens_booked) as tokens,
        coalesce(sum(a.input_tokens - a.tokens_booked) filter (where a.class = 'batch'), 0) as batch_tokens
      from unnest(ended) a
      where a.input_tokens <> a.tokens_booked
      group by 1, 2
    ) more
    where b.lane_id = more.lane_id and b.at_ms = more.bucket_ms;
  end if;
end;
$$;

create or replace function public.eve_settle_many(settlements jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- As for eve_settle.
set lock_timeout = '3s'
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = 'off'
set jit = 'off'
-- Few rows are looked for in tables of any size, one by one: a plan that was made while eve.inflight was small must not read it
-- from end to end for the rest of a connection's life.
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
as $$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_now constant timestamptz := eve.clock();
  v_numbers bigint[];
  v_budgets boolean;
  v_results boolean;
  v_keys boolean;
  -- As they were written. Read from here: a plan over eve.requests would lock each of its partitions.
  v_ended eve.requests[];
  v_used record;
  v_token_usage constant boolean := eve.writes_token_usage();
begin
  if jsonb_typeof(eve_settle_many.settlements) is distinct from 'array'
    or jsonb_array_length(eve_settle_many.settlements) not between 1 and 100 then
    raise exception 'settlements must be a list of 1 to 100' using errcode = 'EV400';
  end if;
  -- Nobody waits for this to be on the disk: the answers are with their clients. What a crash of the server takes back, of
  -- the last half second, ends with its lease and keeps its estimate, as if the function had died before it settled.
  perform set_config('synchronous_commit', 'off', true);

  -- Everything that others take too is taken in the order of public.eve_reserve.
  select array_agg(running.request_no), coalesce(bool_or(running.has_budget), false),
    coalesce(bool_or(running.has_result), false), coalesce(bool_or(running.has_key), false)
  into v_numbers, v_budgets, v_results, v_keys
  from (
    select i.request_no, i.consumer_id <> v_project or i.token_id is not null as has_budget,
      t.result <> 'null' as has_result, i.request_hash is not null as has_key
    from jsonb_to_recordset(eve_settle_many.settlements) as t (
      request_no bigint, attempt integer, outcome text, final boolean, dispatched boolean, input_tokens integer,
      output_tokens integer, block jsonb, result jsonb
    )
    join eve.inflight i on i.request_no = t.request_no
    -- What does not simply end goes the long way, through eve_settle.
    where i.state = 'reserved' and i.attempt = t.attempt and t.final and t.dispatched
      and t.outcome in ('succeeded', 'failed', 'cancelled') and coalesce(t.block, 'null') = 'null'
      and coalesce(t.input_tokens, 0) >= 0 and coalesce(t.output_tokens, 0) >= 0
    order by i.request_no
    for update of i
  ) running;

  v_ended := eve.write_ended(eve_settle_many.settlements, v_numbers, v_now);
  if v_keys then
    insert into eve.request_keys as k (
      consumer_id, request_id, request_no, ended_at, state, attempts, requested_model, class, request_hash, error_code
    )
    select i.consumer_id, i.request_id, i.request_no, v_now, a.state, i.attempt, i.requested_model, i.class, i.request_hash,
      a.error_code
    from unnest(v_ended) a
    join eve.inflight i on i.request_no = a.request_no
    where i.request_hash is not null
    on conflict do nothing;
  end if;
  if v_results then
    insert into eve.request_results (request_no, result)
    select t.request_no, t.result
    from jsonb_to_recordset(eve_settle_many.settlements) as t (request_no bigint, result jsonb)
    where t.request_no = any (v_numbers) and t.result <> 'null'
    on conflict do nothing;
  end if;

  perform
    case
      when a.total_tokens is not null and v_token_usage then
        -- A rule of the owner's that refuses the row is an error here, as in eve.count_calls.
        eve.insert_token_usage(
          i.model, a.input_tokens, a.output_tokens, a.total_tokens, i.request_id,
          eve.usage_meta(i.consumer_id, i.attempt, a.usage_estimated)
        )
    end
  from unnest(v_ended) a
  join eve.inflight i on i.request_no = a.request_no
  order by i.request_no;

  -- From here on others may be kept waiting, so it comes last.
  if v_budgets then
    perform eve.settle_budgets(v_ended, v_numbers);
  end if;

  perform eve.correct_windows(v_ended);

  -- In the order in which those who clear dead reservations take the counters.
  for v_used in
    select a.key_id, a.model, a.start_ms / 60000 * 60000 as start_ms, count(*)::integer as calls,
      sum(coalesce(a.input_tokens, a.tokens_booked))::bigint as tokens
    from unnest(v_ended) a
    group by 1, 2, 3
    order by 1, 2, 3
  loop
    perform eve.count_calls(v_used.key_id, v_used.model, v_used.start_ms, v_used.calls, v_used.tokens);
  end loop;

  perform eve.learn_estimate(i.model, i.request_no, i.estimated_tokens, a.input_tokens)
  from unnest(v_ended) a
  join eve.inflight i on i.request_no = a.request_no
  where i.request_no = any (v_numbers) and not a.usage_estimated;
  delete from eve.inflight i where i.request_no = any (v_numbers);

  return (
    select jsonb_agg(
      case when (t.value ->> 'request_no')::bigint = any (v_numbers) then '{"status": "settled"}'::jsonb end
      order by t.place
    )
    from jsonb_array_elements(eve_settle_many.settlements) with ordinality as t (value, place)
  );
end;
$$;
comment on function public.eve_settle_many is 'Ends up to 100 running reservations as eve_settle does, in one transaction. Answers in the order asked; null: not a plain end, so ask eve_settle.';
