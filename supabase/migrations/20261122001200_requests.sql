-- What is asked for: the arguments of a reservation, the request that it belongs to, what its caller may, and refusals.

-- What eve_reserve is given, in one piece.
do $$
begin
  if to_regtype('eve.call') is null then
    create type eve.call as (
      request_id text,
      models text[],
      tokens integer,
      consumer_id uuid,
      class text,
      max_wait_ms integer,
      attempt integer,
      exclude_keys uuid[],
      avoid_keys uuid[],
      lease_ms integer,
      token_id uuid,
      endpoint text,
      trace_id text,
      metadata jsonb,
      request_hash text,
      counted boolean,
      request_no bigint,
      deadline timestamptz,
      call_id uuid,
      max_output_tokens integer
    );
  end if;
end;
$$;
comment on type eve.call is 'The arguments of public.eve_reserve, which explains them.';

-- A request that was made before under the same id.
do $$
begin
  if to_regtype('eve.earlier_request') is null then
    create type eve.earlier_request as (
      request_no bigint,
      state text,
      attempts integer,
      request_hash text,
      requested_model text,
      class text,
      error_code text,
      result jsonb
    );
  end if;
end;
$$;
comment on type eve.earlier_request is 'A request that was made before under the same id: of eve.inflight or eve.request_keys.';

-- What a caller may: its class, its models, and what it takes from which budget. `refusal` says why it may not.
do $$
begin
  if to_regtype('eve.caller_scope') is null then
    create type eve.caller_scope as (
      class text,
      models text[],
      capture boolean,
      day date,
      counts_minute boolean,
      tokens_left bigint,
      tokens_limit text,
      refusal text,
      limit_name text,
      wait_ms bigint
    );
  end if;
end;
$$;
comment on type eve.caller_scope is 'What a caller may. day: its budget''s Pacific day, null without a budget; counts_minute: it has a limit of requests a minute; tokens_left: what this attempt may take of its budgets of tokens (tokens_limit: of which), null without one.';

-- What a lane may do in a minute and a day, and what is left of it after a booking. reset_ms: until the limit is whole again.
create or replace function eve.limits_json(
  limits eve.lane_limits, used_starts bigint, used_tokens bigint, day_left bigint, reset_ms bigint, day_reset_ms bigint
)
returns jsonb
language plpgsql
immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'requests', jsonb_build_object(
      'limit', (limits).rpm, 'remaining', case when (limits).rpm is not null then greatest((limits).rpm - limits_json.used_starts, 0) end,
      'reset_ms', limits_json.reset_ms
    ),
    'tokens', jsonb_build_object(
      'limit', (limits).tpm, 'remaining', case when (limits).tpm is not null then greatest((limits).tpm - limits_json.used_tokens, 0) end,
      'reset_ms', limits_json.reset_ms
    ),
    'requests_day', jsonb_build_object(
      'limit', (limits).rpd, 'remaining', case when (limits).rpd is not null then greatest(limits_json.day_left, 0) end,
      'reset_ms', limits_json.day_reset_ms
    )
  );
end;
$$;

-- Takes a refusal down: a row of the audit, and beyond a rate a count, so that a flood of them fills no disk. Text that callers
-- chose is cut to what they may send.
create or replace function eve.note_refusal(
  call eve.call, class text, code text, model text, limit_name text, retry_after_ms bigint
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer_id constant uuid := coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  v_now constant timestamptz := eve.clock();
  v_minute constant timestamptz := date_trunc('minute', v_now);
  v_most constant bigint := coalesce((select s.value from eve.settings s where s.name = 'refusals_kept_a_minute'), 30);
begin
  -- Looked at first: in a flood nobody queues for this row.
  if v_most > coalesce(
    (select m.kept from eve.refusal_minutes m where m.consumer_id = v_consumer_id and m.minute = v_minute), 0
  ) then
    insert into eve.refusal_minutes as m (consumer_id, minute, kept)
    values (v_consumer_id, v_minute, 1)
    on conflict (consumer_id) do update
    set minute = excluded.minute, kept = case when m.minute = excluded.minute then m.kept + 1 else 1 end
    where m.minute <> excluded.minute or m.kept < v_most;
    if found then
      insert into eve.refusals (
        refused_at, consumer_id, token_id, request_id, attempt, class, endpoint, model, code, limit_name, tokens, retry_after_ms,
        trace_id
      )
      values (
        v_now, v_consumer_id, (call).token_id, left((call).request_id, 200), (call).attempt, note_refusal.class,
        left((call).endpoint, 40), left(note_refusal.model, 200), note_refusal.code, note_refusal.limit_name, (call).tokens,
        note_refusal.retry_after_ms, left((call).trace_id, 200)
      );
      return;
    end if;
  end if;
  -- Nobody waits for this to be on the disk.
  perform set_config('synchronous_commit', 'off', true);
  insert into eve.refusal_counts as c (minute, consumer_id, code, limit_name, model, class, endpoint, is_first, times)
  values (
    v_minute, v_consumer_id, note_refusal.code, coalesce(note_refusal.limit_name, ''),
    coalesce((select m.model from public.google_ai_model_limits m where m.model = note_refusal.model), '(unknown)'),
    note_refusal.class, left((call).endpoint, 40), (call).attempt = 1, 1
  )
  on conflict on constraint refusal_counts_minute_key do update set times = c.times + 1;
end;
$$;

-- Writes a refusal to the audit and says it. Costs the caller nothing: no slot, no budget, no request_id.
create or replace function eve.refuse(
  call eve.call, class text, code text, model text default null, limit_name text default null, wait_ms bigint default null,
  limits jsonb default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- Spread out, so that those refused together do not come back together: over half the wait again, at least a second, at
  -- most ten minutes after a daily limit and half a minute otherwise.
  v_spread constant double precision := greatest(
    1000, least(refuse.wait_ms / 2.0, case when refuse.limit_name = 'rpd' then 600000 else 30000 end)
  );
  v_retry_after_ms constant bigint := case
    when refuse.wait_ms is not null then greatest(refuse.wait_ms, 0) + floor(random() * v_spread)::bigint
  end;
  v_model constant text := coalesce(refuse.model, (call).models[1]);
begin
  perform eve.note_refusal(call, refuse.class, refuse.code, v_model, refuse.limit_name, v_retry_after_ms);
  return jsonb_build_object(
    'status', 'refused', 'code', refuse.code, 'limit', refuse.limit_name, 'retry_after_ms', v_retry_after_ms,
    'model', v_model, 'limits', refuse.limits, 'detail', null
  );
end;
$$;

-- Nobody waits for the answer any more, so nothing is booked: what this transaction has done so far is undone. `detail` is the time
-- by which that was found, in milliseconds since 1970, from which a caller whose clock differs learns by how much.
create or replace function eve.stop_when_late(deadline timestamptz)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if clock_timestamp() > stop_when_late.deadline then
    raise exception 'nobody waits for this reservation any more'
      using errcode = 'EV503', detail = floor(extract(epoch from clock_timestamp()) * 1000)::bigint::text;
  end if;
end;
$$;

create or replace function eve.check_call(call eve.call)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if (call).request_id is null or length((call).request_id) not between 1 and 200 then
    raise exception 'request_id must have 1 to 200 characters' using errcode = 'EV400';
  elsif coalesce(cardinality((call).models), 0) not between 1 and 10 then
    raise exception 'models must name 1 to 10 models' using errcode = 'EV400';
  elsif exists (select from unnest((call).models) m where m is null or length(m) not between 1 and 200) then
    raise exception 'the name of a model must have 1 to 200 characters' using errcode = 'EV400';
  elsif length((call).endpoint) > 40 or length((call).trace_id) > 200 or length((call).request_hash) > 200 then
    raise exception 'endpoint must have at most 40 characters, trace_id and request_hash 200' using errcode = 'EV400';
  elsif (call).tokens is null or (call).tokens < 0 or (call).max_output_tokens < 0 then
    raise exception 'tokens and max_output_tokens must be 0 or more' using errcode = 'EV400';
  elsif (call).class is null or (call).class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif (call).max_wait_ms is null or (call).max_wait_ms not between 0 and 3600000 then
    raise exception 'max_wait_ms must be between 0 and 3600000' using errcode = 'EV400';
  elsif (call).attempt is null or (call).attempt not between 1 and 3 then
    raise exception 'attempt must be 1, 2 or 3' using errcode = 'EV400';
  elsif (call).lease_ms is null or (call).lease_ms not between 100 and 3600000 then
    raise exception 'lease_ms must be between 100 and 3600000' using errcode = 'EV400';
  elsif length((call).metadata::text) > 16384 then
    raise exception 'metadata must have at most 16384 characters' using errcode = 'EV400';
  end if;
end;
$$;

-- The answer to a caller who repeats a request. An id is its consumer's, and an answer belongs to a scope as
-- well: a caller that may use none of the models it names learns what any other id would tell it, and what was served by a model or
-- in a class that it may not use is another request.
create or replace function eve.repeated(call eve.call, before eve.earlier_request)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_scope record;
  v_same boolean;
begin
  select case
      when t.models is null then c.models
      when c.models is null then t.models
      else array(select m from unnest(t.models) m where m = any (c.models))
    end as models, c.max_class = 'batch' or t.class is not distinct from 'batch' as batch_only
  into v_scope
  from eve.consumers c
  left join eve.scoped_tokens t on t.id = (call).token_id
  where c.id = coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  if not (call).models && v_scope.models then
    return eve.refuse(call, (call).class, 'model_not_allowed');
  end if;
  v_same := (call).request_hash is not distinct from (before).request_hash
    and (v_scope.models is null or (before).requested_model = any (v_scope.models))
    and ((before).class = 'batch' or not v_scope.batch_only);
  return jsonb_build_object(
    'status', 'duplicate', 'state', (before).state, 'request_no', (before).request_no, 'attempts', (before).attempts,
    'same_request', v_same, 'error_code', case when v_same then (before).error_code end,
    'result', case when v_same then (before).result end
  );
end;
$$;

-- What is known of a request_id: the running request that this attempt belongs to (`running`, null: a new one), or the answer
-- that says that it is not to be run. Takes the lock that makes the same request twice at once come one after the other.
create or replace function eve.find_request(call eve.call, now_ms bigint, out running eve.inflight, out answer jsonb)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer_id constant uuid := coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  v_before eve.earlier_request;
begin
  perform pg_advisory_xact_lock(hashtextextended(v_consumer_id::text || (call).request_id, 0));
  -- Anyone who settles or closes it at this moment is waited for; then it has ended, and the answer is below.
  select * into running
  from eve.inflight i
  where i.consumer_id = v_consumer_id and i.request_id = (call).request_id
  for update;
  if found and running.lease_until < to_timestamp(find_request.now_ms / 1000.0) then
    if running.state <> 'waiting' then
      perform eve.expire_leases(running.lane_id, 100000);
      running := null;
    elsif running.request_no is distinct from (call).request_no then
      -- It waited for a caller that has gone, and was never sent: this is the same request again.
      perform eve.leave_queue(running);
      select * into running from eve.inflight i where i.request_no = (running).request_no;
    end if;
  end if;
  if running.request_no is not null then
    if running.attempt = (call).attempt and running.request_no = (call).request_no and running.state <> 'between'
      or (call).attempt > 1 and running.attempt + 1 = (call).attempt and running.state = 'between' then
      return;
    end if;
    v_before := row(
      running.request_no, 'running', running.attempt, running.request_hash, running.requested_model, running.class, null, null
    );
  else
    select k.request_no, k.state, k.attempts, k.request_hash, k.requested_model, k.class, k.error_code, kept.result
    into v_before
    from eve.request_keys k
    left join eve.request_results kept on kept.request_no = k.request_no
    where k.consumer_id = v_consumer_id and k.request_id = (call).request_id;
    if not found then
      if (call).attempt > 1 or (call).request_no is not null then
        raise exception 'attempt % of a request that is not running', (call).attempt using errcode = 'EV404';
      end if;
      return;
    end if;
  end if;
  answer := eve.repeated(call, v_before);
end;
$$;

-- Why a caller may not call any more; null: it may.
create or replace function eve.access_ended(consumer_id uuid, token_id uuid, now_ms bigint)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  return case
    when access_ended.consumer_id <> '00000000-0000-0000-0000-000000000000'
      and not exists (select from eve.consumers c where c.id = access_ended.consumer_id and c.is_active) then 'consumer_disabled'
    when access_ended.token_id is not null
      and not exists (
        select
        from eve.scoped_tokens t
        where t.id = access_ended.token_id and t.consumer_id = access_ended.consumer_id and t.revoked_at is null
          and t.expires_at > to_timestamp(access_ended.now_ms / 1000.0)
      ) then 'token_revoked'
  end;
end;
$$;
