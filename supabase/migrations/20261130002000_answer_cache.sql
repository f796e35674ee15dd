-- Answers that are kept: the same question by the same consumer is answered without a start, tokens or a budget.
--
-- Order of locks: the advisory lock of a question, its row of eve.cached_answers, eve.cache_hours, eve.metric_counters. Media objects come
-- after the rows that use them, as with jobs.

set local lock_timeout = '10s';

create table if not exists eve.consumer_caches (
  consumer_id uuid primary key references eve.consumers (id) on delete cascade,
  ttl_s integer not null,
  by_tenant boolean not null default false,
  -- 30 days.
  constraint consumer_caches_ttl_range check (ttl_s between 0 and 2592000)
);
comment on table eve.consumer_caches is 'Consumers whose answers are kept, or never are; those without a row have them kept where a call asks for it.';
comment on column eve.consumer_caches.ttl_s is 'Seconds that an answer is kept for unless a call says otherwise; 0: none ever is.';
comment on column eve.consumer_caches.by_tenant is 'Whether it shares answers with the others of its tenant that do; otherwise they are its own.';

create table if not exists eve.cache_limits (
  only_row boolean primary key default true,
  max_bytes bigint not null default 104857600,
  constraint cache_limits_only_row check (only_row),
  constraint cache_limits_max_bytes_range check (max_bytes between 0 and 1099511627776)
);
insert into eve.cache_limits default values on conflict do nothing;
comment on table eve.cache_limits is 'How much is kept, all consumers together.';
comment on column eve.cache_limits.max_bytes is 'Of answers, wherever they are stored; above it the oldest go first.';

create table if not exists eve.cached_answers (
  number bigint generated always as identity primary key,
  id uuid not null default gen_random_uuid(),
  owner text not null,
  key_hash text not null,
  consumer_id uuid not null,
  models text[] not null,
  ttl_s integer not null,
  made_until timestamptz,
  requested_model text,
  model text,
  answer text,
  media text,
  bytes integer,
  input_tokens integer,
  output_tokens integer,
  hits bigint not null default 0,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  hit_at timestamptz,
  constraint cached_answers_id_key unique (id),
  constraint cached_answers_owner_key unique (owner, key_hash),
  constraint cached_answers_owner_form check (owner ~ '^(consumer|tenant):.{1,100}$'),
  constraint cached_answers_key_hash_form check (key_hash ~ '^[0-9a-f]{64}$'),
  constraint cached_answers_models_size check (cardinality(models) between 1 and 10 and length(models::text) <= 5000),
  constraint cached_answers_ttl_range check (ttl_s between 1 and 2592000),
  constraint cached_answers_kept_or_made check (
    (made_until is null) = (requested_model is not null and model is not null and bytes is not null and num_nonnulls(answer, media) = 1)
  ),
  -- 256 KiB; larger ones are media objects.
  constraint cached_answers_answer_size check (octet_length(answer) <= 262144),
  constraint cached_answers_media_form check (length(media) <= 300),
  constraint cached_answers_figures check (bytes >= 0 and input_tokens >= 0 and output_tokens >= 0)
) with (fillfactor = 80);
create index if not exists cached_answers_expires_at_idx on eve.cached_answers (expires_at);
create index if not exists cached_answers_consumer_id_idx on eve.cached_answers (consumer_id);
comment on table eve.cached_answers is 'Answers that are kept, and those that are being made: one for each question of each owner.';
comment on column eve.cached_answers.id is 'Anyone who makes it holds it by this id; also what its media object is used by.';
comment on column eve.cached_answers.owner is 'consumer:ID or tenant:ID; to others there is no such answer.';
comment on column eve.cached_answers.key_hash is 'SHA-256 over all that was asked: models, contents, settings, schema and tools.';
comment on column eve.cached_answers.made_until is 'Until then a call is making it, unless it says again that it is; null: it is kept.';
comment on column eve.cached_answers.answer is 'JSON, as a text: the order of fields is kept. Null: it is being made, or in media.';
comment on column eve.cached_answers.media is 'TENANT/SHA256 of the media object that has it.';
comment on column eve.cached_answers.input_tokens is 'What it cost, and each hit saves.';

create table if not exists eve.cache_hours (
  hour timestamptz not null,
  consumer_id uuid not null,
  model text not null,
  endpoint text not null,
  hits bigint not null default 0,
  misses bigint not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  constraint cache_hours_pkey primary key (hour, consumer_id, model, endpoint)
) with (fillfactor = 70);
comment on table eve.cache_hours is 'What the cache answered, by the hour.';
comment on column eve.cache_hours.misses is 'Calls that might have been answered by it and were not.';
comment on column eve.cache_hours.input_tokens is 'Of hits: what they would have cost.';

-- The first one counts as a rise.
insert into eve.metric_counters (metric, labels, value)
select 'eve_cache_requests_total', jsonb_build_object('result', r.result), 0
from unnest(array['hit', 'miss']) as r (result)
union all
select 'eve_cache_saved_tokens_total', jsonb_build_object('type', t.type), 0
from unnest(array['input', 'output']) as t (type)
on conflict do nothing;

-- Who deletes answers releases the media objects that have them; the clean-up of the media deletes what nobody uses.
create or replace function eve.cached_answers_went()
returns trigger
language plpgsql
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
begin
  if exists (select from went w where w.media is not null) then
    -- Objects before their references, as everywhere.
    perform
    from public.media_objects o
    where (o.tenant_id, o.file_sha256) in (
      select r.tenant_id, r.file_sha256
      from eve.media_references r
      join went w on r.ref_id = w.id::text
      where r.ref_kind = 'cache'
    )
    order by o.tenant_id, o.file_sha256
    for update;
    delete from eve.media_references r using went w where r.ref_kind = 'cache' and r.ref_id = w.id::text;
  end if;
  return null;
end;
$$;
create or replace trigger eve_cached_answers_went
after delete on eve.cached_answers
referencing old table as went
for each statement execute function eve.cached_answers_went();

-- Counts one use, by the hour and in the metrics.
create or replace function eve.cache_count(
  consumer_id uuid, model text, endpoint text, hits integer, misses integer, input_tokens bigint, output_tokens bigint
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  insert into eve.cache_hours as h (hour, consumer_id, model, endpoint, hits, misses, input_tokens, output_tokens)
  values (
    date_trunc('hour', eve.clock(), 'UTC'), cache_count.consumer_id, cache_count.model, cache_count.endpoint, cache_count.hits,
    cache_count.misses, cache_count.input_tokens, cache_count.output_tokens
  )
  on conflict (hour, consumer_id, model, endpoint) do update
  set hits = h.hits + excluded.hits, misses = h.misses + excluded.misses,
    input_tokens = h.input_tokens + excluded.input_tokens, output_tokens = h.output_tokens + excluded.output_tokens;
  perform eve.chat_counted('eve_cache_requests_total', 'result', 'hit', cache_count.hits);
  perform eve.chat_counted('eve_cache_requests_total', 'result', 'miss', cache_count.misses);
  perform eve.chat_counted('eve_cache_saved_tokens_total', 'type', 'input', cache_count.input_tokens);
  perform eve.chat_counted('eve_cache_saved_tokens_total', 'type', 'output', cache_count.output_tokens);
end;
$$;

-- How long an answer to this caller is kept for, whose it is, and which models it may have been given by; reason: why it is not looked for.
create or replace function eve.cache_scope(
  consumer_id uuid, token_id uuid, ttl_s integer, out owner text, out ttl integer, out allowed text[], out reason text
)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_consumer_id constant uuid := coalesce(cache_scope.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_is_project constant boolean := v_consumer_id = '00000000-0000-0000-0000-000000000000';
  v_consumer eve.consumers;
  v_cache eve.consumer_caches;
  v_token_models text[];
begin
  -- Identity and revocation come first: who would be refused a reservation gets nothing from here.
  if eve.access_ended(cache_scope.consumer_id, cache_scope.token_id, eve.clock_ms()) is not null then
    reason := 'refused';
    return;
  end if;
  select c.* into v_consumer from eve.consumers c where c.id = v_consumer_id;
  if not v_is_project and 'llm' <> all (v_consumer.scopes) then
    reason := 'refused';
    return;
  end if;
  allowed := case when not v_is_project then v_consumer.models end;
  if cache_scope.token_id is not null then
    select t.models, case when not coalesce('llm' = any (t.scopes), true) then 'refused' end
    into v_token_models, reason
    from eve.scoped_tokens t
    where t.id = cache_scope.token_id;
    if reason is not null then
      return;
    end if;
    allowed := case
      when allowed is null then v_token_models
      when v_token_models is null then allowed
      else array(select m from unnest(allowed) m where m = any (v_token_models))
    end;
  end if;
  select k.* into v_cache from eve.consumer_caches k where k.consumer_id = v_consumer_id;
  ttl := case when v_cache.ttl_s = 0 then 0 else coalesce(cache_scope.ttl_s, v_cache.ttl_s, 0) end;
  if ttl = 0 then
    reason := 'off';
    return;
  end if;
  owner := case
    when v_cache.by_tenant then 'tenant:' || coalesce(v_consumer.tenant_id, eve.default_tenant())
    else 'consumer:' || v_consumer_id
  end;
end;
$$;

-- Looks for an answer, and where there is none lets this call make it: one of
--   {"status": "hit", "id", "answer" or "media", "model", "requested_model", "age_s", "left_s"}
--   {"status": "make", "id", "lease_ms"}: the caller makes it, and says eve_cache_renew until eve_cache_keep or eve_cache_release
--   {"status": "wait"}: another call is making it; ask again
--   {"status": "pass", "reason"}: as if there were no cache
-- ttl_s: null: as the consumer's row says. request_id: the client's own; a repetition is answered as ever. waited: it has asked before, so
-- that it is counted once.
create or replace function public.eve_cache_begin(
  key_hash text, models text[], endpoint text, consumer_id uuid default null, token_id uuid default null, ttl_s integer default null,
  request_id text default null, waited boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
set lock_timeout = '3s'
set statement_timeout = '7500ms'
as $$
#variable_conflict use_column
declare
  -- A maker that died is missed after this.
  v_lease constant interval := '15 seconds';
  v_now constant timestamptz := eve.clock();
  v_consumer_id constant uuid := coalesce(eve_cache_begin.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_scope record;
  v_row eve.cached_answers;
  v_model text;
begin
  if eve_cache_begin.key_hash is null or eve_cache_begin.key_hash !~ '^[0-9a-f]{64}$'
    or coalesce(cardinality(eve_cache_begin.models), 0) not between 1 and 10
    or eve_cache_begin.endpoint is null or length(eve_cache_begin.endpoint) > 40
    or eve_cache_begin.ttl_s not between 1 and 2592000 then
    raise exception 'key_hash, models, endpoint or ttl_s is out of bounds' using errcode = 'EV400';
  end if;
  v_scope := eve.cache_scope(eve_cache_begin.consumer_id, eve_cache_begin.token_id, eve_cache_begin.ttl_s);
  if v_scope.reason is not null then
    return jsonb_build_object('status', 'pass', 'reason', v_scope.reason);
  elsif eve_cache_begin.request_id is not null and (
    exists (select from eve.inflight i where i.consumer_id = v_consumer_id and i.request_id = eve_cache_begin.request_id)
    or exists (select from eve.request_keys k where k.consumer_id = v_consumer_id and k.request_id = eve_cache_begin.request_id)
  ) then
    return jsonb_build_object('status', 'pass', 'reason', 'repeated');
  end if;
  perform pg_advisory_xact_lock(hashtextextended(v_scope.owner || eve_cache_begin.key_hash, 20));
  select a.* into v_row from eve.cached_answers a where a.owner = v_scope.owner and a.key_hash = eve_cache_begin.key_hash for update;
  if v_row.made_until > v_now then
    return jsonb_build_object('status', 'wait');
  end if;
  if v_row.made_until is null and v_row.expires_at > v_now and v_row.created_at + v_scope.ttl * interval '1 second' > v_now
    -- A model that has a successor by now, or is gone, gives no answers any more.
    and (eve.served_model(v_row.requested_model)).model = v_row.model then
    if v_row.requested_model <> all (v_scope.allowed) then
      return jsonb_build_object('status', 'pass', 'reason', 'refused');
    end if;
    update eve.cached_answers a set hits = a.hits + 1, hit_at = v_now where a.number = v_row.number;
    perform eve.cache_count(
      v_consumer_id, v_row.model, eve_cache_begin.endpoint, 1, 0, coalesce(v_row.input_tokens, 0), coalesce(v_row.output_tokens, 0)
    );
    return jsonb_build_object(
      'status', 'hit', 'id', v_row.id, 'answer', v_row.answer, 'media', v_row.media, 'model', v_row.model,
      'requested_model', v_row.requested_model, 'age_s', floor(extract(epoch from v_now - v_row.created_at)),
      'left_s', floor(extract(epoch from v_row.expires_at - v_now))
    );
  end if;
  delete from eve.cached_answers a where a.number = v_row.number;
  insert into eve.cached_answers (owner, key_hash, consumer_id, models, ttl_s, made_until, created_at, expires_at)
  values (
    v_scope.owner, eve_cache_begin.key_hash, v_consumer_id, eve_cache_begin.models, v_scope.ttl, v_now + v_lease, v_now,
    v_now + v_scope.ttl * interval '1 second'
  )
  returning * into v_row;
  if not eve_cache_begin.waited then
    -- Callers write names of models; those that are none are counted as one.
    v_model := coalesce((eve.served_model(eve_cache_begin.models[1])).model, '');
    perform eve.cache_count(v_consumer_id, v_model, eve_cache_begin.endpoint, 0, 1, 0, 0);
  end if;
  return jsonb_build_object('status', 'make', 'id', v_row.id, 'lease_ms', extract(epoch from v_lease) * 1000);
end;
$$;
comment on function public.eve_cache_begin is 'Looks for a kept answer, and where there is none lets one call make it.';

-- The call that makes it lives. False: another one makes it by now, or it is not wanted any more.
create or replace function public.eve_cache_renew(id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  update eve.cached_answers a set made_until = eve.clock() + interval '15 seconds' where a.id = eve_cache_renew.id and a.made_until is not null;
  return to_jsonb(found);
end;
$$;
comment on function public.eve_cache_renew is 'The call that makes an answer is still at it.';

-- It is made. {"kept"}: false if it is not wanted any more.
create or replace function public.eve_cache_keep(
  id uuid, model text, requested_model text, bytes integer, answer text default null, media text default null,
  input_tokens integer default null, output_tokens integer default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_number bigint;
begin
  update eve.cached_answers a
  set made_until = null, model = eve_cache_keep.model, requested_model = eve_cache_keep.requested_model, answer = eve_cache_keep.answer,
    media = eve_cache_keep.media, bytes = eve_cache_keep.bytes, input_tokens = eve_cache_keep.input_tokens,
    output_tokens = eve_cache_keep.output_tokens, created_at = eve.clock(), expires_at = eve.clock() + a.ttl_s * interval '1 second'
  where a.id = eve_cache_keep.id and a.made_until is not null
  returning a.number into v_number;
  -- Retention comes once in a while; between two of its runs no more than so many small answers are too many.
  if v_number % 50 = 0 then
    perform eve.cache_trim();
  end if;
  return jsonb_build_object('kept', v_number is not null);
end;
$$;
comment on function public.eve_cache_keep is 'Keeps the answer that a call has made.';

-- It was not made, or is not there any more: anyone who waits for it makes it.
create or replace function public.eve_cache_release(id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  delete from eve.cached_answers a where a.id = eve_cache_release.id;
  return to_jsonb(found);
end;
$$;
comment on function public.eve_cache_release is 'Gives up an answer that is being made, or is lost.';

-- Above the limit the oldest go. Answers how many.
create or replace function eve.cache_trim(at_most integer default 1000)
returns integer
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_deleted integer;
begin
  with sized as materialized (
    select a.number, sum(a.bytes) over (order by a.created_at desc, a.number desc) as so_far
    from eve.cached_answers a
    where a.made_until is null
  ), old as (
    select a.number
    from eve.cached_answers a
    where a.number in (select s.number from sized s where s.so_far > (select l.max_bytes from eve.cache_limits l))
    order by a.created_at, a.number
    limit cache_trim.at_most
    for update skip locked
  )
  delete from eve.cached_answers a using old where a.number = old.number;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end;
$$;
