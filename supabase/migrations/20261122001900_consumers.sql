-- Who may call besides the project itself: consumers with a secret, and the short-lived tokens of notebooks.
--
-- A secret never reaches the database. Anyone who holds one sends its id and a proof, which is a digest of the secret; the
-- database keeps a digest of that proof. So neither a statement log nor a copy of these tables lets anybody in.

-- What is kept of a secret. The secret has 256 random bits, which no amount of computing guesses, so a slow hash would add
-- nothing but its own cost to every call; it is passwords, with their few bits, that need one. The prefix keeps these
-- digests apart from any other use of SHA-256 over the same text.
create or replace function eve.secret_hash(proof text)
returns text
language sql
immutable
set search_path = ''
as $$
  select encode(sha256(convert_to('eve consumer v1:' || secret_hash.proof, 'UTF8')), 'hex');
$$;

-- The consumer that a secret belongs to; null when the secret is wrong or its id unknown, both for the same work. What is
-- compared are digests under a nonce, so that where they begin to differ says nothing about what is stored.
create or replace function eve.consumer_of_secret(key_id text, proof text)
returns eve.consumers
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_nonce constant text := gen_random_uuid()::text;
  v_presented constant bytea := sha256(convert_to(v_nonce || eve.secret_hash(consumer_of_secret.proof), 'UTF8'));
  v_consumer eve.consumers;
  v_is_current boolean;
  v_is_previous boolean;
begin
  select * into v_consumer from eve.consumers c where c.key_id = consumer_of_secret.key_id;
  v_is_current := v_presented = sha256(convert_to(v_nonce || coalesce(v_consumer.secret_hash, repeat('0', 64)), 'UTF8'));
  v_is_previous := v_presented = sha256(convert_to(v_nonce || coalesce(v_consumer.previous_secret_hash, repeat('0', 64)), 'UTF8'));
  if v_is_current or (v_is_previous and coalesce(v_consumer.previous_secret_until > eve.clock(), false)) then
    return v_consumer;
  end if;
  return null;
end;
$$;

create or replace function eve.log_access(
  event text, consumer eve.consumers, token_id uuid default null, address text default null, details jsonb default '{}'
)
returns void
language sql
volatile
set search_path = ''
as $$
  insert into eve.access_log (at, event, consumer_id, consumer_name, token_id, address, details)
  values (
    eve.clock(), log_access.event, (log_access.consumer).id, (log_access.consumer).name, log_access.token_id,
    left(log_access.address, 100), log_access.details
  );
$$;

-- Milliseconds until a consumer may begin another request; 0: now. Locks its row, so that what it says stays true until
-- the transaction ends. Whole seconds are counted, 61 of them, which is never less than any 60 seconds hold.
create or replace function eve.consumer_minute_wait(consumer_id uuid, rpm integer, now_ms bigint)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_second constant bigint := consumer_minute_wait.now_ms / 1000;
  v_ring eve.consumer_minutes;
  v_counted bigint := 0;
  v_at bigint;
begin
  insert into eve.consumer_minutes (consumer_id, second, starts)
  values (consumer_minute_wait.consumer_id, v_second, array_fill(0, array[61]))
  on conflict do nothing;
  select * into v_ring from eve.consumer_minutes m where m.consumer_id = consumer_minute_wait.consumer_id for update;
  -- From the newest second back: the one in which the count reaches the limit has to leave the window.
  for v_back in 0..60 loop
    v_at := v_second - v_back;
    if v_at <= v_ring.second and v_at > v_ring.second - 61 then
      v_counted := v_counted + v_ring.starts[1 + v_at % 61];
      if v_counted >= consumer_minute_wait.rpm then
        return (v_at + 61) * 1000 - consumer_minute_wait.now_ms;
      end if;
    end if;
  end loop;
  return 0;
end;
$$;

-- Counts a request that was admitted. Its row is locked by consumer_minute_wait.
create or replace function eve.consumer_minute_take(consumer_id uuid, now_ms bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_ring eve.consumer_minutes;
  v_second bigint := consumer_minute_take.now_ms / 1000;
begin
  select * into v_ring from eve.consumer_minutes m where m.consumer_id = consumer_minute_take.consumer_id for update;
  -- The clock does not go back here: a request that waited for the lock counts as of the last second.
  v_second := greatest(v_second, v_ring.second);
  if v_second - v_ring.second > 60 then
    v_ring.starts := array_fill(0, array[61]);
  else
    for v_ahead in 1..(v_second - v_ring.second)::integer loop
      v_ring.starts[1 + (v_ring.second + v_ahead) % 61] := 0;
    end loop;
  end if;
  v_ring.starts[1 + v_second % 61] := v_ring.starts[1 + v_second % 61] + 1;
  update eve.consumer_minutes m
  set second = v_second, starts = v_ring.starts
  where m.consumer_id = consumer_minute_take.consumer_id;
end;
$$;

-- A consumer by its name, locked; raises when there is none. The project itself is nobody's to change.
create or replace function eve.consumer_named(name text)
returns eve.consumers
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer eve.consumers;
begin
  select * into v_consumer from eve.consumers c where c.name = consumer_named.name and c.kind <> 'project'
  for no key update;
  if not found then
    raise exception 'there is no consumer named %', consumer_named.name using errcode = 'EV400';
  end if;
  return v_consumer;
end;
$$;

create or replace function eve.default_tenant()
returns text
language sql
stable
set search_path = ''
as $$
  select t.id from eve.tenants t where t.is_default;
$$;

-- A consumer as it is shown. Today is Google's day: what has ended in it, by the sums, which eve_rollup brings up to now; and what its
-- budgets count, which has what runs in it, and nothing of before there was a budget.
create or replace function eve.consumer_json(consumer eve.consumers)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', (consumer_json.consumer).id, 'name', (consumer_json.consumer).name, 'kind', (consumer_json.consumer).kind,
    'key_id', (consumer_json.consumer).key_id, 'models', (consumer_json.consumer).models,
    'scopes', (consumer_json.consumer).scopes,
    'tenant_id', coalesce((consumer_json.consumer).tenant_id, eve.default_tenant()),
    'max_class', (consumer_json.consumer).max_class, 'rpm', (consumer_json.consumer).rpm,
    'requests_per_day', (consumer_json.consumer).requests_per_day,
    'tokens_per_day', (consumer_json.consumer).tokens_per_day,
    'token_ttl_s', (consumer_json.consumer).token_ttl_s, 'is_active', (consumer_json.consumer).is_active,
    'created_at', (consumer_json.consumer).created_at, 'secret_changed_at', (consumer_json.consumer).secret_changed_at,
    'previous_secret_until',
    case
      when (consumer_json.consumer).previous_secret_until > eve.clock() then (consumer_json.consumer).previous_secret_until
    end,
    'requests_today', today.requests, 'tokens_today', today.tokens,
    'requests_of_budget', case when (consumer_json.consumer).requests_per_day is not null then coalesce(d.requests, 0) end,
    'tokens_of_budget', case when (consumer_json.consumer).tokens_per_day is not null then coalesce(d.tokens, 0) end,
    'live_tokens', (
      select count(*)
      from eve.scoped_tokens t
      where t.consumer_id = (consumer_json.consumer).id and t.revoked_at is null and t.expires_at > eve.clock()
    )
  )
  from (select eve.pacific_day(eve.clock_ms()) as day) as now
  left join eve.consumer_days d on d.consumer_id = (consumer_json.consumer).id and d.day = now.day
  cross join lateral (
    select coalesce(sum(u.requests), 0) as requests,
      coalesce(sum(u.input_tokens + u.output_tokens + u.thoughts_tokens), 0) as tokens
    from eve.usage_days u
    where u.day = now.day and u.consumer_id = (consumer_json.consumer).id
  ) today;
$$;

create or replace function public.eve_consumer_add(
  name text,
  kind text,
  key_id text,
  proof text,
  models text[] default null,
  max_class text default 'interactive',
  rpm integer default null,
  requests_per_day integer default null,
  tokens_per_day bigint default null,
  token_ttl_s integer default 7200
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer eve.consumers;
  v_unknown text;
begin
  perform eve.check_proof(eve_consumer_add.key_id, eve_consumer_add.proof);
  if eve_consumer_add.name is null or eve_consumer_add.name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    raise exception 'a name has 1 to 63 letters, digits, dots, dashes or underscores' using errcode = 'EV400';
  elsif eve_consumer_add.kind is null or eve_consumer_add.kind not in ('service', 'notebook') then
    raise exception 'kind must be service or notebook' using errcode = 'EV400';
  elsif eve_consumer_add.max_class is null or eve_consumer_add.max_class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif eve_consumer_add.rpm <= 0 or eve_consumer_add.requests_per_day < 0 or eve_consumer_add.tokens_per_day < 0 then
    raise exception 'limits must be positive' using errcode = 'EV400';
  elsif eve_consumer_add.token_ttl_s is null or eve_consumer_add.token_ttl_s not between 60 and 86400 then
    raise exception 'token_ttl_s must be between 60 and 86400' using errcode = 'EV400';
  elsif cardinality(eve_consumer_add.models) = 0 then
    raise exception 'models must name at least one model, or be null for all' using errcode = 'EV400';
  end if;
  select m into v_unknown
  from unnest(eve_consumer_add.models) m
  where not exists (select from public.google_ai_model_limits l where l.model = m)
  limit 1;
  if found then
    raise exception 'there is no model named % in google_ai_model_limits', v_unknown using errcode = 'EV400';
  end if;
  insert into eve.consumers (
    name, kind, key_id, secret_hash, models, max_class, rpm, requests_per_day, tokens_per_day, token_ttl_s,
    created_at, secret_changed_at
  )
  values (
    eve_consumer_add.name, eve_consumer_add.kind, eve_consumer_add.key_id, eve.secret_hash(eve_consumer_add.proof),
    eve_consumer_add.models, eve_consumer_add.max_class, eve_consumer_add.rpm, eve_consumer_add.requests_per_day,
    eve_consumer_add.tokens_per_day, eve_consumer_add.token_ttl_s, eve.clock(), eve.clock()
  )
  on conflict do nothing
  returning * into v_consumer;
  if not found then
    raise exception 'there is a consumer named % already', eve_consumer_add.name using errcode = 'EV400';
  end if;
  perform eve.log_access('consumer_added', v_consumer, details => jsonb_build_object('kind', v_consumer.kind));
  return eve.consumer_json(v_consumer);
end;
$$;
comment on function public.eve_consumer_add is 'Adds a consumer. The caller made its secret and sends the id and the proof of it.';

create or replace function public.eve_consumers(name text default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(eve.consumer_json(c) order by c.name), '[]')
  from eve.consumers c
  where c.kind <> 'project' and (eve_consumers.name is null or c.name = eve_consumers.name);
$$;
comment on function public.eve_consumers is 'All consumers, or the one of that name.';

create or replace function public.eve_consumer_rotate(name text, proof text, grace_s integer default 86400)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer eve.consumers := eve.consumer_named(eve_consumer_rotate.name);
begin
  perform eve.check_proof(v_consumer.key_id, eve_consumer_rotate.proof);
  if eve_consumer_rotate.grace_s is null or eve_consumer_rotate.grace_s not between 0 and 2592000 then
    raise exception 'grace_s must be between 0 and 2592000, which is 30 days' using errcode = 'EV400';
  end if;
  update eve.consumers c
  set secret_hash = eve.secret_hash(eve_consumer_rotate.proof), previous_secret_hash = c.secret_hash,
    previous_secret_until = eve.clock() + make_interval(secs => eve_consumer_rotate.grace_s),
    secret_changed_at = eve.clock()
  where c.id = v_consumer.id
  returning * into v_consumer;
  perform eve.log_access(
    'consumer_rotated', v_consumer, details => jsonb_build_object('grace_s', eve_consumer_rotate.grace_s)
  );
  return eve.consumer_json(v_consumer);
end;
$$;
comment on function public.eve_consumer_rotate is 'Gives a consumer a new secret; the one before stays valid for the grace period, any older one does not.';

create or replace function public.eve_consumer_enable(name text, enabled boolean)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer eve.consumers := eve.consumer_named(eve_consumer_enable.name);
begin
  if eve_consumer_enable.enabled is null then
    raise exception 'enabled must be true or false' using errcode = 'EV400';
  end if;
  if v_consumer.is_active <> eve_consumer_enable.enabled then
    update eve.consumers c
    set is_active = eve_consumer_enable.enabled
    where c.id = v_consumer.id
    returning * into v_consumer;
    perform eve.log_access(case when v_consumer.is_active then 'consumer_enabled' else 'consumer_disabled' end, v_consumer);
  end if;
  return eve.consumer_json(v_consumer);
end;
$$;
comment on function public.eve_consumer_enable is 'Switches a consumer on or off, and with it its tokens: the next reservation knows.';

create or replace function public.eve_consumer_remove(name text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer eve.consumers := eve.consumer_named(eve_consumer_remove.name);
begin
  delete from eve.consumers c where c.id = v_consumer.id;
  perform eve.log_access('consumer_removed', v_consumer);
  return jsonb_build_object('id', v_consumer.id, 'name', v_consumer.name);
end;
$$;
comment on function public.eve_consumer_remove is 'Removes a consumer with its tokens. The audit keeps what it did.';

create or replace function public.eve_consumer_scope(name text, changes jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_before eve.consumers := eve.consumer_named(eve_consumer_scope.name);
  v_after eve.consumers;
  v_unknown text;
begin
  if jsonb_typeof(eve_consumer_scope.changes) is distinct from 'object' or eve_consumer_scope.changes = '{}' then
    raise exception 'changes must be an object with at least one field' using errcode = 'EV400';
  end if;
  select f into v_unknown
  from jsonb_object_keys(eve_consumer_scope.changes) f
  where f not in ('models', 'max_class', 'rpm', 'requests_per_day', 'tokens_per_day', 'token_ttl_s')
  limit 1;
  if found then
    raise exception 'a consumer''s scope has no %', v_unknown using errcode = 'EV400';
  end if;
  begin
    v_after := jsonb_populate_record(v_before, eve_consumer_scope.changes);
  exception when data_exception then
    raise exception 'a field of the scope is of another type' using errcode = 'EV400';
  end;
  if v_after.max_class is null or v_after.max_class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif v_after.rpm <= 0 or v_after.requests_per_day < 0 or v_after.tokens_per_day < 0 then
    raise exception 'limits must be positive' using errcode = 'EV400';
  elsif v_after.token_ttl_s is null or v_after.token_ttl_s not between 60 and 86400 then
    raise exception 'token_ttl_s must be between 60 and 86400' using errcode = 'EV400';
  elsif cardinality(v_after.models) = 0 then
    raise exception 'models must name at least one model, or be null for all' using errcode = 'EV400';
  end if;
  select m into v_unknown
  from unnest(v_after.models) m
  where not exists (select from public.google_ai_model_limits l where l.model = m)
  limit 1;
  if found then
    raise exception 'there is no model named % in google_ai_model_limits', v_unknown using errcode = 'EV400';
  end if;
  update eve.consumers c
  set models = v_after.models, max_class = v_after.max_class, rpm = v_after.rpm, requests_per_day = v_after.requests_per_day,
    tokens_per_day = v_after.tokens_per_day, token_ttl_s = v_after.token_ttl_s
  where c.id = v_before.id
  returning * into v_after;
  perform eve.log_access('consumer_scoped', v_after, details => eve_consumer_scope.changes);
  return eve.consumer_json(v_after);
end;
$$;
comment on function public.eve_consumer_scope is 'Changes what a consumer may do: what changes names, and nothing else. Null takes a bound away.';

-- What was asked and answered, kept for debugging where a request or its consumer's row wants it. Off by default, apart
-- from the books, and deleted by retention.

-- A value of at most 256 KiB as text; of a larger one, its head. 65,536 characters stay below that in any script.
create or replace function eve.capped(value jsonb)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select case
    when octet_length(capped.value::text) <= 262144 then capped.value
    else jsonb_build_object(
      'truncated', true, 'bytes', octet_length(capped.value::text), 'head', left(capped.value::text, 65536)
    )
  end;
$$;
comment on function eve.capped is 'A value as it is up to 256 KiB, and the head of a larger one.';

create or replace function public.eve_capture(request_no bigint, prompt jsonb, answer jsonb default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  if eve_capture.request_no is null or eve_capture.prompt is null then
    raise exception 'request_no and prompt are needed' using errcode = 'EV400';
  end if;
  -- Settled or not: a capture may overtake its settlement.
  if not exists (select from eve.requests r where r.request_no = eve_capture.request_no)
    and not exists (select from eve.inflight i where i.request_no = eve_capture.request_no) then
    raise exception 'no request %', eve_capture.request_no using errcode = 'EV404';
  end if;
  insert into eve.captures as c (request_no, prompt, answer)
  values (eve_capture.request_no, eve.capped(eve_capture.prompt), eve.capped(eve_capture.answer))
  on conflict on constraint captures_pkey do update
  set prompt = excluded.prompt, answer = excluded.answer, captured_at = now();
  return jsonb_build_object('status', 'captured');
end;
$$;
comment on function public.eve_capture is 'Keeps what a request asked and got, at most 256 KiB of each. Twice is the same as once.';
