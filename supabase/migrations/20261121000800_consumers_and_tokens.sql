-- Who may call besides the project itself: consumers with a secret, and the short-lived tokens of notebooks.
--
-- A secret never reaches the database. Whoever holds one sends its id and a proof, which is a digest of the secret; the
-- database keeps a digest of that proof. So neither a statement log nor a copy of these tables lets anybody in.

set local lock_timeout = '10s';

alter table eve.consumers
  add column if not exists key_id text,
  add column if not exists rpm integer,
  add column if not exists token_ttl_s integer not null default 7200,
  add column if not exists secret_changed_at timestamptz;
alter table eve.consumers
  drop constraint if exists consumers_key_id_form,
  drop constraint if exists consumers_rpm_positive,
  drop constraint if exists consumers_token_ttl_range;
alter table eve.consumers
  add constraint consumers_key_id_form check (key_id ~ '^[0-9a-f]{16}$') not valid,
  add constraint consumers_rpm_positive check (rpm > 0) not valid,
  add constraint consumers_token_ttl_range check (token_ttl_s between 60 and 86400) not valid;
alter table eve.consumers validate constraint consumers_key_id_form;
alter table eve.consumers validate constraint consumers_rpm_positive;
alter table eve.consumers validate constraint consumers_token_ttl_range;
create unique index if not exists consumers_key_id_key on eve.consumers (key_id);
comment on column eve.consumers.key_id is 'The public part of its secret, by which it is found.';
comment on column eve.consumers.secret_hash is 'SHA-256, in hex, over the proof of the secret (see eve.secret_hash).';
comment on column eve.consumers.previous_secret_until is 'After a rotation the secret before it is valid until then.';
comment on column eve.consumers.rpm is 'Requests it may begin in any minute; null: no limit of its own.';
comment on column eve.consumers.token_ttl_s is 'The longest life of a token issued to it, in seconds: 60 to 86400.';

alter table eve.scoped_tokens
  add column if not exists address text,
  add column if not exists issued_for text,
  add column if not exists revoked_reason text;
comment on column eve.scoped_tokens.address is 'Where it was asked for.';
comment on column eve.scoped_tokens.issued_for is 'What it was issued for: enrolment_secret or project_key.';

create table if not exists eve.access_log (
  id bigint generated always as identity (cache 32) primary key,
  at timestamptz not null,
  event text not null,
  consumer_id uuid,
  consumer_name text,
  token_id uuid,
  address text,
  details jsonb not null default '{}',
  constraint access_log_event_known check (
    event in (
      'consumer_added', 'consumer_rotated', 'consumer_enabled', 'consumer_disabled', 'consumer_removed', 'token_issued',
      'token_revoked'
    )
  )
);
create index if not exists access_log_at_idx on eve.access_log using brin (at);
comment on table eve.access_log is 'Audit: what was done to consumers and tokens. What they were used for is in eve.requests and eve.refusals.';

create table if not exists eve.access_refusals (
  minute timestamptz not null,
  place text not null,
  code text not null,
  address text not null,
  subject text not null,
  times integer not null default 1,
  primary key (minute, place, code, address, subject)
);
comment on table eve.access_refusals is 'Audit: credentials that were refused, counted per minute, network and consumer, so that a flood of them does not fill the disk.';
comment on column eve.access_refusals.address is 'Where it came from, as eve.network_of says; empty: unknown; others: all that came after the minute''s number of rows was used up.';
comment on column eve.access_refusals.subject is 'The consumer whose credential it claimed to be; empty: nobody''s.';

create table if not exists eve.issue_windows (
  subject text primary key,
  minute bigint not null,
  used integer not null,
  used_before integer not null
) with (fillfactor = 70);
create index if not exists issue_windows_minute_idx on eve.issue_windows (minute);
comment on table eve.issue_windows is 'Tokens asked for, and wrong credentials sent, in this minute and the one before: per network and per consumer.';

create table if not exists eve.consumer_minutes (
  consumer_id uuid primary key references eve.consumers (id) on delete cascade,
  second bigint not null,
  starts integer[] not null
) with (fillfactor = 50);
comment on table eve.consumer_minutes is 'Requests of a consumer with an rpm in the last 61 seconds: a ring, the second modulo 61, up to the column second.';

insert into eve.settings (name, value, description) values
  ('issue_per_consumer_minute', 10, 'Tokens that one consumer may ask for in a minute.'),
  ('issue_per_address_minute', 30, 'Times that one network (an IPv4 address, an IPv6 /64) may ask for a token in a minute, with a right secret or a wrong one; and wrong credentials that it may send elsewhere.'),
  ('refusal_rows_per_minute', 1000, 'Refused credentials are noted in so many rows a minute; those of further networks are counted together.')
on conflict (name) do nothing;

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

-- The network that an address belongs to, which is what refusals are counted by: an IPv4 address itself, also where it is
-- written as IPv6; of IPv6 the /64, since whoever has one address has all of those. Empty: not an address.
create or replace function eve.network_of(address text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- Without an IPv6 address's zone, and without the port that some proxies write after IPv4.
  v_text constant text := regexp_replace(split_part(network_of.address, '%', 1), '^(\d+(?:\.\d+){3}):\d+$', '\1');
  v_address inet;
begin
  if v_text is null or not pg_input_is_valid(v_text, 'inet') then
    return '';
  end if;
  v_address := v_text::inet;
  if family(v_address) = 4 then
    return host(v_address);
  elsif v_address << '::ffff:0:0/96'::inet then
    return host('0.0.0.0'::inet + (v_address - '::ffff:0:0'::inet));
  end if;
  return network(set_masklen(v_address, 64))::text;
end;
$$;

-- Counts a refused credential, and answers the refusal. An id that belongs to nobody is not written down: it would be a
-- way to write whatever one likes. Nor is there a row for each of a flood's networks: see refusal_rows_per_minute.
create or replace function eve.refuse_access(
  place text, code text, key_id text, address text, detail text default null, wait_ms bigint default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_minute constant timestamptz := date_trunc('minute', eve.clock());
  v_place constant text := left(refuse_access.place, 40);
  v_address text := eve.network_of(refuse_access.address);
  v_subject text := coalesce((select c.name from eve.consumers c where c.key_id = refuse_access.key_id), '');
  v_most bigint;
begin
  update eve.access_refusals r
  set times = r.times + 1
  where r.minute = v_minute and r.place = v_place and r.code = refuse_access.code and r.address = v_address
    and r.subject = v_subject;
  if not found then
    select s.value into v_most from eve.settings s where s.name = 'refusal_rows_per_minute';
    if (select count(*) from (select from eve.access_refusals r where r.minute = v_minute limit v_most) noted) >= v_most then
      v_address := 'others';
      v_subject := '';
    end if;
    insert into eve.access_refusals (minute, place, code, address, subject)
    values (v_minute, v_place, refuse_access.code, v_address, v_subject)
    on conflict on constraint access_refusals_pkey do update set times = access_refusals.times + 1;
  end if;
  return jsonb_build_object(
    'status', 'refused', 'code', refuse_access.code, 'detail', refuse_access.detail,
    'retry_after_ms', refuse_access.wait_ms
  );
end;
$$;

-- One more turn within a minute's number of them, or the milliseconds until there is one again. The minute before counts
-- in proportion to how much of it still lies within 60 seconds.
create or replace function eve.take_issue_turn(subject text, per_minute bigint)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant bigint := eve.clock_ms();
  v_minute constant bigint := v_now / 60000;
  v_left_ms constant bigint := 60000 - v_now % 60000;
  v_window eve.issue_windows;
begin
  insert into eve.issue_windows (subject, minute, used, used_before)
  values (take_issue_turn.subject, v_minute, 0, 0)
  on conflict do nothing;
  select * into v_window from eve.issue_windows w where w.subject = take_issue_turn.subject for update;
  if v_window.minute < v_minute then
    v_window.used_before := case when v_window.minute = v_minute - 1 then v_window.used else 0 end;
    v_window.used := 0;
    v_window.minute := v_minute;
  end if;
  if v_window.used + v_window.used_before * v_left_ms / 60000.0 >= take_issue_turn.per_minute then
    return v_left_ms;
  end if;
  update eve.issue_windows w
  set minute = v_window.minute, used = v_window.used + 1, used_before = v_window.used_before
  where w.subject = take_issue_turn.subject;
  -- Now and then those are cleared away who have not asked for an hour.
  if random() < 0.02 then
    delete from eve.issue_windows w
    where w.subject in (
      select o.subject from eve.issue_windows o where o.minute < v_minute - 60 limit 100 for update skip locked
    );
  end if;
  return 0;
end;
$$;

-- One more turn of a network, likewise. `shared`: what is counted here is not one address alone, so a right credential must
-- not be refused because of it: an IPv6 /64, what is no address, and all networks beyond refusal_rows_per_minute.
create or replace function eve.take_network_turn(kind text, address text, out wait_ms bigint, out shared boolean)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_network text := eve.network_of(take_network_turn.address);
  v_minute constant bigint := eve.clock_ms() / 60000;
  v_most constant bigint := (select s.value from eve.settings s where s.name = 'refusal_rows_per_minute');
begin
  if not exists (select from eve.issue_windows w where w.subject = take_network_turn.kind || ' ' || v_network)
    and (select count(*) from (select from eve.issue_windows w where w.minute = v_minute limit v_most) noted) >= v_most then
    v_network := 'others';
  end if;
  shared := v_network = 'others' or v_network like '%/64' or v_network = '' and take_network_turn.address is not null;
  wait_ms := eve.take_issue_turn(
    take_network_turn.kind || ' ' || v_network,
    (select s.value from eve.settings s where s.name = 'issue_per_address_minute')
  );
end;
$$;

-- Counts a wrong credential against its network, and answers the refusal: beyond the minute's number it is when to come
-- back, and no longer what was wrong. A right credential is not asked about this.
create or replace function eve.refuse_wrong(place text, code text, key_id text, address text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_turn constant record := eve.take_network_turn('wrong', refuse_wrong.address);
begin
  if v_turn.wait_ms > 0 then
    return eve.refuse_access(refuse_wrong.place, 'rate_limited', null, refuse_wrong.address, null, v_turn.wait_ms);
  end if;
  return eve.refuse_access(refuse_wrong.place, refuse_wrong.code, refuse_wrong.key_id, refuse_wrong.address);
end;
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
  select * into v_consumer from eve.consumers c where c.name = consumer_named.name and c.kind <> 'project' for update;
  if not found then
    raise exception 'there is no consumer named %', consumer_named.name using errcode = 'EV400';
  end if;
  return v_consumer;
end;
$$;

create or replace function eve.check_proof(key_id text, proof text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if check_proof.key_id is null or check_proof.key_id !~ '^[0-9a-f]{16}$' then
    raise exception 'key_id must have 16 hexadecimal digits' using errcode = 'EV400';
  elsif check_proof.proof is null or check_proof.proof !~ '^[0-9a-f]{64}$' then
    raise exception 'proof must have 64 hexadecimal digits' using errcode = 'EV400';
  end if;
end;
$$;

create or replace function eve.consumer_json(consumer eve.consumers)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', (consumer_json.consumer).id, 'name', (consumer_json.consumer).name, 'kind', (consumer_json.consumer).kind,
    'key_id', (consumer_json.consumer).key_id, 'models', (consumer_json.consumer).models,
    'max_class', (consumer_json.consumer).max_class, 'rpm', (consumer_json.consumer).rpm,
    'requests_per_day', (consumer_json.consumer).requests_per_day,
    'tokens_per_day', (consumer_json.consumer).tokens_per_day,
    'token_ttl_s', (consumer_json.consumer).token_ttl_s, 'is_active', (consumer_json.consumer).is_active,
    'created_at', (consumer_json.consumer).created_at, 'secret_changed_at', (consumer_json.consumer).secret_changed_at,
    'previous_secret_until',
    case
      when (consumer_json.consumer).previous_secret_until > eve.clock() then (consumer_json.consumer).previous_secret_until
    end,
    'requests_today', coalesce(d.requests, 0), 'tokens_today', coalesce(d.tokens, 0),
    'live_tokens', (
      select count(*)
      from eve.scoped_tokens t
      where t.consumer_id = (consumer_json.consumer).id and t.revoked_at is null and t.expires_at > eve.clock()
    )
  )
  from (select) as one
  left join eve.consumer_days d
    on d.consumer_id = (consumer_json.consumer).id and d.day = eve.pacific_day(eve.clock_ms());
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

create or replace function public.eve_authenticate_consumer(
  key_id text, proof text, address text default null, place text default 'llm-invoke'
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer constant eve.consumers := eve.consumer_of_secret(
    eve_authenticate_consumer.key_id, eve_authenticate_consumer.proof
  );
begin
  if v_consumer.id is null then
    return eve.refuse_wrong(
      eve_authenticate_consumer.place, 'credential_invalid', eve_authenticate_consumer.key_id, eve_authenticate_consumer.address
    );
  elsif not v_consumer.is_active then
    return eve.refuse_access(
      eve_authenticate_consumer.place, 'consumer_disabled', eve_authenticate_consumer.key_id, eve_authenticate_consumer.address
    );
  end if;
  return jsonb_build_object(
    'status', 'known', 'consumer_id', v_consumer.id, 'name', v_consumer.name, 'kind', v_consumer.kind
  );
end;
$$;
comment on function public.eve_authenticate_consumer is 'Who holds a secret, told by its id and its proof. A refusal is counted in the audit.';

create or replace function public.eve_issue_token(
  key_id text default null,
  proof text default null,
  consumer text default null,
  address text default null,
  models text[] default null,
  class text default null,
  requests_budget integer default null,
  tokens_budget bigint default null,
  ttl_s integer default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_place constant text := 'issue-kaggle-token';
  v_consumer eve.consumers;
  v_token eve.scoped_tokens;
  v_turn record;
  v_wait_ms bigint := 0;
  v_detail text;
  v_ttl_s integer;
  v_now constant timestamptz := date_trunc('second', eve.clock());
begin
  if eve_issue_token.key_id is null and eve_issue_token.consumer is null then
    raise exception 'give key_id and proof, or consumer' using errcode = 'EV400';
  end if;
  if eve_issue_token.key_id is not null then
    -- Everybody's attempts count against the network; only the holder's count against the consumer, or anybody could
    -- use up its turns.
    v_turn := eve.take_network_turn('address', eve_issue_token.address);
    v_wait_ms := v_turn.wait_ms;
    if v_wait_ms > 0 and not v_turn.shared then
      return eve.refuse_access(v_place, 'rate_limited', null, eve_issue_token.address, null, v_wait_ms);
    end if;
    v_consumer := eve.consumer_of_secret(eve_issue_token.key_id, eve_issue_token.proof);
    if v_consumer.name <> eve_issue_token.consumer then
      v_consumer := null;
    end if;
  else
    select * into v_consumer from eve.consumers c where c.name = eve_issue_token.consumer and c.kind <> 'project';
  end if;
  if v_consumer.id is null and v_wait_ms > 0 then
    return eve.refuse_access(v_place, 'rate_limited', null, eve_issue_token.address, null, v_wait_ms);
  elsif v_consumer.id is null then
    return eve.refuse_access(v_place, 'invalid_client', eve_issue_token.key_id, eve_issue_token.address);
  end if;

  v_wait_ms := eve.take_issue_turn(
    'consumer ' || v_consumer.id, (select s.value from eve.settings s where s.name = 'issue_per_consumer_minute')
  );
  if v_wait_ms > 0 then
    return eve.refuse_access(v_place, 'rate_limited', v_consumer.key_id, eve_issue_token.address, null, v_wait_ms);
  elsif not v_consumer.is_active then
    return eve.refuse_access(
      v_place, 'unauthorized_client', v_consumer.key_id, eve_issue_token.address, 'this consumer is switched off'
    );
  elsif v_consumer.kind <> 'notebook' then
    return eve.refuse_access(
      v_place, 'unauthorized_client', v_consumer.key_id, eve_issue_token.address,
      'tokens are for notebooks; a service calls llm-invoke with its own key'
    );
  end if;

  v_ttl_s := coalesce(eve_issue_token.ttl_s, v_consumer.token_ttl_s);
  v_detail := case
    when cardinality(eve_issue_token.models) = 0 then 'name at least one model, or leave models out'
    when not (eve_issue_token.models <@ coalesce(v_consumer.models, eve_issue_token.models))
      then 'a model is not among those of this consumer'
    when exists (
      select
      from unnest(eve_issue_token.models) m
      where not exists (select from public.google_ai_model_limits l where l.model = m)
    ) then 'a model does not exist'
    when eve_issue_token.class not in ('interactive', 'batch') then 'class must be interactive or batch'
    when eve_issue_token.class = 'interactive' and v_consumer.max_class = 'batch' then 'this consumer has class batch'
    when eve_issue_token.requests_budget <= 0 or eve_issue_token.tokens_budget <= 0 then 'a budget must be positive'
    when v_ttl_s not between 60 and v_consumer.token_ttl_s
      then format('ttl must be between 60 and %s seconds', v_consumer.token_ttl_s)
  end;
  if v_detail is not null then
    return eve.refuse_access(v_place, 'invalid_scope', v_consumer.key_id, eve_issue_token.address, v_detail);
  end if;

  insert into eve.scoped_tokens (
    consumer_id, models, class, requests_budget, tokens_budget, issued_at, expires_at, address, issued_for
  )
  values (
    v_consumer.id, coalesce(eve_issue_token.models, v_consumer.models),
    coalesce(eve_issue_token.class, v_consumer.max_class), eve_issue_token.requests_budget,
    eve_issue_token.tokens_budget, v_now, v_now + make_interval(secs => v_ttl_s), left(eve_issue_token.address, 100),
    case when eve_issue_token.key_id is null then 'project_key' else 'enrolment_secret' end
  )
  returning * into v_token;
  perform eve.log_access(
    'token_issued', v_consumer, v_token.id, eve_issue_token.address,
    jsonb_build_object('for', v_token.issued_for, 'expires_at', v_token.expires_at)
  );
  return jsonb_build_object(
    'status', 'issued', 'token_id', v_token.id, 'consumer_id', v_consumer.id, 'consumer', v_consumer.name,
    'models', v_token.models, 'class', v_token.class, 'requests_budget', v_token.requests_budget,
    'tokens_budget', v_token.tokens_budget, 'issued_at_s', extract(epoch from v_token.issued_at)::bigint,
    'expires_at_s', extract(epoch from v_token.expires_at)::bigint
  );
end;
$$;
comment on function public.eve_issue_token is 'Records a token for a notebook, within what its consumer may do, or says why not. The caller signs it.';

create or replace function public.eve_tokens(
  consumer text default null, include_ended boolean default false, at_most integer default 200
)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', t.id, 'consumer', t.name, 'models', t.models, 'class', t.class, 'requests_used', t.requests_used,
        'requests_budget', t.requests_budget, 'tokens_used', t.tokens_used, 'tokens_budget', t.tokens_budget,
        'issued_at', t.issued_at, 'expires_at', t.expires_at, 'revoked_at', t.revoked_at, 'address', t.address,
        'state', case when t.revoked_at is not null then 'revoked' when t.expires_at <= eve.clock() then 'expired' else 'live' end
      )
      order by t.issued_at desc, t.id
    ),
    '[]'
  )
  from (
    select s.*, c.name
    from eve.scoped_tokens s
    join eve.consumers c on c.id = s.consumer_id
    where (eve_tokens.consumer is null or c.name = eve_tokens.consumer)
      and (eve_tokens.include_ended or (s.revoked_at is null and s.expires_at > eve.clock()))
    order by s.issued_at desc
    limit least(greatest(eve_tokens.at_most, 1), 10000)
  ) t;
$$;
comment on function public.eve_tokens is 'Tokens that were issued, the newest first, with what was spent of them. Never the tokens themselves.';

create or replace function public.eve_token_revoke(
  token_id uuid default null, consumer text default null, reason text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer eve.consumers;
  v_token record;
  v_revoked jsonb := '[]';
begin
  if (eve_token_revoke.token_id is null) = (eve_token_revoke.consumer is null) then
    raise exception 'give either a token''s id or a consumer''s name' using errcode = 'EV400';
  end if;
  if eve_token_revoke.consumer is not null then
    v_consumer := eve.consumer_named(eve_token_revoke.consumer);
  elsif not exists (select from eve.scoped_tokens t where t.id = eve_token_revoke.token_id) then
    raise exception 'there is no token %', eve_token_revoke.token_id using errcode = 'EV400';
  end if;
  for v_token in
    update eve.scoped_tokens t
    set revoked_at = eve.clock(), revoked_reason = left(eve_token_revoke.reason, 500)
    where (t.id = eve_token_revoke.token_id or t.consumer_id = v_consumer.id)
      and t.revoked_at is null and t.expires_at > eve.clock()
    returning t.id, t.consumer_id
  loop
    select * into v_consumer from eve.consumers c where c.id = v_token.consumer_id;
    perform eve.log_access(
      'token_revoked', v_consumer, v_token.id, details => jsonb_build_object('reason', left(eve_token_revoke.reason, 500))
    );
    v_revoked := v_revoked || to_jsonb(v_token.id);
  end loop;
  return jsonb_build_object('revoked', v_revoked);
end;
$$;
comment on function public.eve_token_revoke is 'Ends one token, or all of a consumer''s, for good: the next reservation refuses it.';

-- A credential that was refused without asking the database. A token whose time has passed was a right one, and its holder
-- has to learn that it is the time: only wrong ones are counted against their network.
create or replace function public.eve_log_refused_token(
  code text, address text default null, place text default 'llm-invoke'
)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select case
    when eve_log_refused_token.code = 'token_revoked'
      then eve.refuse_access(eve_log_refused_token.place, eve_log_refused_token.code, null, eve_log_refused_token.address)
    else eve.refuse_wrong(
      eve_log_refused_token.place, left(eve_log_refused_token.code, 40), null, eve_log_refused_token.address
    )
  end;
$$;
comment on function public.eve_log_refused_token is 'Counts a credential that was refused without asking the database; says whether its network has sent too many.';

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation, c.relkind
    from pg_catalog.pg_class c
    where c.relnamespace = 'eve'::regnamespace and c.relkind in ('r', 'S')
      and c.relname in ('access_log', 'access_log_id_seq', 'access_refusals', 'issue_windows', 'consumer_minutes')
  loop
    if v_object.relkind = 'r' then
      execute format('alter table %s enable row level security', v_object.relation);
      execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
    else
      execute format('revoke all on sequence %s from public, anon, authenticated, service_role', v_object.relation);
      execute format('grant usage on sequence %s to service_role', v_object.relation);
    end if;
  end loop;
  for v_object in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace
      or (p.pronamespace = 'public'::regnamespace and p.proname like 'eve\_%')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_object.signature);
    execute format('grant execute on function %s to service_role', v_object.signature);
  end loop;
end;
$$;
