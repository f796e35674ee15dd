-- The audit: what has ended and what was refused.
--
-- A row for each request that has ended, with its last attempt in it, which is nearly always its only one; those before the last
-- have a table of their own, and eve.attempts shows them all. Rows are written once and stay as they are, but for a settlement that
-- comes after its lease. The columns stand in the order of their sizes, so that little is lost between them.
--
-- The three tables are partitioned by the day in UTC on which a row was written, so that what is old goes with its partition
-- (eve.make_partitions, eve.drop_partition). A row whose day has no partition is in the default one.
--
-- No foreign keys, on purpose: rows outlive the keys and consumers that they name, and a key-share lock on a lane for every row
-- would queue behind that lane's next reservation.

set local lock_timeout = '10s';

create table if not exists eve.requests (
  request_no bigint not null,
  received_at timestamptz not null,
  finished_at timestamptz not null,
  written_by xid8 not null default pg_current_xact_id(),
  start_ms bigint,
  settled_at timestamptz,
  wait_ms bigint not null,
  lane_id integer,
  tokens_booked integer,
  output_booked integer,
  input_tokens integer,
  output_tokens integer,
  thoughts_tokens integer,
  cached_tokens integer,
  total_tokens integer,
  latency_ms integer,
  attempts smallint not null,
  bucket_after_ms smallint,
  upstream_status smallint,
  usage_estimated boolean,
  dispatched boolean,
  consumer_id uuid not null,
  key_id uuid,
  token_id uuid,
  request_id text not null,
  class text not null,
  endpoint text not null,
  requested_model text,
  model text not null,
  state text not null,
  error_code text,
  error_detail text,
  finish_reason text,
  trace_id text,
  metadata jsonb,
  primary key (finished_at, request_no) with (fillfactor = 100),
  constraint requests_class_known check (class in ('interactive', 'batch')),
  constraint requests_state_known check (state in ('succeeded', 'failed', 'cancelled', 'expired')),
  -- What writes them cuts or refuses what is longer: this holds for whatever else comes to write them.
  constraint requests_texts_length check (
    length(request_id) <= 200 and length(endpoint) <= 40 and length(requested_model) <= 1000 and length(model) <= 1000
    and length(error_code) <= 100 and length(error_detail) <= 2000 and length(finish_reason) <= 100 and length(trace_id) <= 200
    -- Twice what 16,384 characters, the most that a caller may send, take as jsonb: four bytes each.
    and pg_column_size(metadata) <= 131072
  )
) partition by range (finished_at);
create table if not exists eve.requests_default partition of eve.requests default;
create index if not exists requests_request_no_idx on eve.requests (request_no);
-- 57 bytes a row. A Bloom filter (BRIN) takes 1.4, but a look then reads every range that is not summarized yet.
create index if not exists requests_request_id_idx on eve.requests using hash (request_id);
create index if not exists requests_settled_at_idx on eve.requests (settled_at) where settled_at is not null;
create index if not exists requests_received_at_idx on eve.requests using brin (received_at) with (autosummarize = on);
create index if not exists requests_start_ms_idx on eve.requests using brin (start_ms) with (autosummarize = on);
-- As eve.make_partitions does for the others, which says why. Once: on a table with rows their summaries stay.
do $$
begin
  if not exists (select from eve.requests_default) then
    perform brin_desummarize_range(i.indexrelid, 0)
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'brin'
    where i.indrelid = 'eve.requests_default'::regclass;
  end if;
end;
$$;
comment on table eve.requests is 'Audit: every request that ended, with its last attempt. Those still running are in eve.inflight.';
comment on table eve.requests_default is 'Requests that ended on a day without a partition of its own.';
comment on column eve.requests.written_by is 'The transaction that wrote the row: by it eve.count_requests knows what it has counted.';
comment on column eve.requests.requested_model is 'The model asked for, where it is another one than model, which served; else null.';
comment on column eve.requests.metadata is 'What the caller sent along; null: nothing.';
comment on column eve.requests.key_id is 'The key of the last attempt.';
comment on column eve.requests.input_tokens is 'Of the last attempt, as are the other tokens; eve.attempts has them all.';
comment on column eve.requests.lane_id is 'Null: the last attempt is in eve.earlier_attempts, as another one was to follow it.';
comment on column eve.requests.settled_at is 'When the last attempt was settled, where that was after its lease; null: at finished_at.';
comment on column eve.requests.bucket_after_ms is 'The bucket that the start is booked in ends so many milliseconds after it.';

create table if not exists eve.earlier_attempts (
  request_no bigint not null,
  settled_at timestamptz not null,
  start_ms bigint not null,
  lane_id integer not null,
  tokens_booked integer not null,
  output_booked integer,
  input_tokens integer,
  output_tokens integer,
  thoughts_tokens integer,
  cached_tokens integer,
  total_tokens integer,
  latency_ms integer,
  attempt smallint not null,
  bucket_after_ms smallint not null,
  upstream_status smallint,
  usage_estimated boolean not null default false,
  dispatched boolean not null,
  key_id uuid not null,
  model text not null,
  class text not null,
  outcome text not null,
  error_code text,
  error_detail text,
  finish_reason text,
  primary key (request_no, attempt, settled_at),
  constraint earlier_attempts_class_known check (class in ('interactive', 'batch')),
  constraint earlier_attempts_outcome_known check (outcome in ('succeeded', 'failed', 'cancelled', 'expired')),
  constraint earlier_attempts_texts_length check (
    length(model) <= 1000 and length(error_code) <= 100 and length(error_detail) <= 2000 and length(finish_reason) <= 100
  )
) partition by range (settled_at);
create table if not exists eve.earlier_attempts_default partition of eve.earlier_attempts default;
create index if not exists earlier_attempts_settled_at_idx on eve.earlier_attempts using brin (settled_at) with (autosummarize = on);
create index if not exists earlier_attempts_start_ms_idx on eve.earlier_attempts using brin (start_ms) with (autosummarize = on);
comment on table eve.earlier_attempts_default is 'Attempts of days without a partition of their own.';
comment on table eve.earlier_attempts is 'Audit: attempts that another one was to follow. Each request''s last one is in eve.requests.';

create or replace view eve.attempts with (security_invoker = on) as
select r.request_no, r.attempts as attempt, r.lane_id::bigint as lane_id, r.key_id, r.model, r.class, r.start_ms,
  r.start_ms + r.bucket_after_ms as bucket_ms, r.tokens_booked::bigint as tokens_booked, r.output_booked, r.input_tokens, r.output_tokens,
  r.thoughts_tokens, r.cached_tokens, r.total_tokens, r.usage_estimated, r.state as outcome, r.dispatched,
  r.upstream_status::integer as upstream_status, r.error_code, r.error_detail, r.finish_reason, r.latency_ms,
  r.finished_at as settled_at, r.consumer_id, r.endpoint
from eve.requests r
where r.lane_id is not null and r.settled_at is null
union all
-- Settled after its lease. By itself, so that each part is found by an index on its time.
select r.request_no, r.attempts, r.lane_id::bigint, r.key_id, r.model, r.class, r.start_ms, r.start_ms + r.bucket_after_ms,
  r.tokens_booked::bigint, r.output_booked, r.input_tokens, r.output_tokens, r.thoughts_tokens, r.cached_tokens, r.total_tokens,
  r.usage_estimated, r.state, r.dispatched, r.upstream_status::integer, coalesce(r.error_code, 'settled_late'),
  r.error_detail, r.finish_reason, r.latency_ms, r.settled_at, r.consumer_id, r.endpoint
from eve.requests r
where r.lane_id is not null and r.settled_at is not null
union all
select e.request_no, e.attempt, e.lane_id::bigint, e.key_id, e.model, e.class, e.start_ms, e.start_ms + e.bucket_after_ms,
  e.tokens_booked::bigint, e.output_booked, e.input_tokens, e.output_tokens, e.thoughts_tokens, e.cached_tokens, e.total_tokens,
  e.usage_estimated, e.outcome, e.dispatched, e.upstream_status::integer, e.error_code, e.error_detail, e.finish_reason,
  e.latency_ms, e.settled_at, null, null
from eve.earlier_attempts e;
comment on view eve.attempts is 'Audit: every reservation that ended, and how.';
comment on column eve.attempts.start_ms is 'When upstream was to be called: milliseconds since 1970, the database''s clock.';
comment on column eve.attempts.tokens_booked is 'Input tokens reserved; input_tokens are the real ones.';
comment on column eve.attempts.output_booked is 'Tokens of the answer that stay reserved in a budget, since nobody knows how many there were; null: none.';
comment on column eve.attempts.usage_estimated is 'True where upstream did not say what it counted.';
comment on column eve.attempts.dispatched is 'False: upstream was never called, and the start was given back.';
comment on column eve.attempts.latency_ms is 'From the call to upstream until its answer had come whole.';
comment on column eve.attempts.consumer_id is 'Of a request''s last attempt, as is endpoint; of those before it null, eve.requests has them.';

create table if not exists eve.request_keys (
  consumer_id uuid not null,
  request_id text not null,
  request_no bigint not null,
  ended_at timestamptz not null,
  state text not null,
  attempts smallint not null,
  requested_model text not null,
  class text not null,
  request_hash text not null,
  error_code text,
  primary key (consumer_id, request_id),
  constraint request_keys_texts_length check (
    length(request_id) <= 200 and length(state) <= 20 and length(requested_model) <= 1000 and length(class) <= 20
    and length(request_hash) <= 200 and length(error_code) <= 100
  )
);
create index if not exists request_keys_ended_at_idx on eve.request_keys using brin (ended_at);
comment on table eve.request_keys is 'Requests that have ended and whose callers chose their ids, as they may come again. For as long as eve.retention keeps it.';
comment on column eve.request_keys.request_hash is 'Tells a repetition of a request from another request with the same id. A request without one bears an id that the gateway made, and is not here.';

create table if not exists eve.request_results (
  request_no bigint primary key,
  result jsonb not null,
  kept_at timestamptz not null default now()
);
create index if not exists request_results_kept_at_idx on eve.request_results using brin (kept_at);
comment on table eve.request_results is 'Answers kept so that a repeated request_id gets the same one. Only where the caller asked for it.';

create sequence if not exists eve.refusal_no as bigint cache 32;
comment on sequence eve.refusal_no is 'Numbers refusals nearly in their order: each connection takes 32 at a time.';

create table if not exists eve.refusals (
  id bigint not null default nextval('eve.refusal_no'),
  refused_at timestamptz not null,
  written_by xid8 not null default pg_current_xact_id(),
  tokens bigint not null,
  retry_after_ms bigint,
  attempt smallint not null,
  consumer_id uuid,
  token_id uuid,
  request_id text not null,
  class text not null,
  endpoint text not null,
  model text not null,
  code text not null,
  limit_name text,
  trace_id text,
  primary key (refused_at, id),
  constraint refusals_class_known check (class in ('interactive', 'batch')),
  constraint refusals_texts_length check (
    length(request_id) <= 200 and length(endpoint) <= 40 and length(model) <= 200 and length(code) <= 100
    and length(limit_name) <= 100 and length(trace_id) <= 200
  )
) partition by range (refused_at);
create table if not exists eve.refusals_default partition of eve.refusals default;
create index if not exists refusals_id_idx on eve.refusals (id);
-- Anyone who was refused has this id and nothing else.
create index if not exists refusals_request_id_idx on eve.refusals using hash (request_id);
comment on table eve.refusals is 'Audit: every reservation that was refused, why, and when it may come back.';
comment on table eve.refusals_default is 'Refusals of days without a partition of their own.';
comment on column eve.refusals.written_by is 'The transaction that wrote the row: by it eve.count_refusals knows what it has counted.';
comment on column eve.refusals.limit_name is 'Which limit stood in the way: rpm, tpm, rpd, queue, blocked, or a budget.';
comment on column eve.refusals.tokens is 'Estimated input tokens, before the model''s factor.';
comment on column eve.refusals.retry_after_ms is 'When to come back, as the answer said; null: coming back does not help.';

create table if not exists eve.refusal_minutes (
  consumer_id uuid primary key,
  minute timestamptz not null,
  kept integer not null
) with (fillfactor = 50);
comment on table eve.refusal_minutes is 'How many refusals of a consumer became a row of eve.refusals in the last minute that had any.';

create table if not exists eve.refusal_counts (
  id bigint generated always as identity primary key,
  minute timestamptz not null,
  consumer_id uuid not null,
  code text not null,
  limit_name text not null,
  model text not null,
  class text not null,
  endpoint text not null,
  is_first boolean not null,
  times bigint not null,
  counted bigint not null default 0,
  constraint refusal_counts_minute_key unique (minute, consumer_id, code, limit_name, model, class, endpoint, is_first),
  constraint refusal_counts_texts_length check (
    length(code) <= 100 and length(limit_name) <= 100 and length(model) <= 1000 and length(class) <= 20 and length(endpoint) <= 40
  )
) with (fillfactor = 50);
comment on table eve.refusal_counts is 'Audit: refusals beyond the setting refusals_kept_a_minute, counted, so that a flood of them does not fill the disk.';
comment on column eve.refusal_counts.limit_name is 'As in eve.refusals; empty: none.';
comment on column eve.refusal_counts.model is '(unknown) where there is no such model.';
comment on column eve.refusal_counts.is_first is 'Whether they were refused at their first attempt.';
comment on column eve.refusal_counts.counted is 'How many of times are in the metrics.';

create table if not exists eve.audit_trimmed (
  only_row boolean primary key default true,
  trimmed_before timestamptz not null default '-infinity',
  token_usage_before timestamptz not null default '-infinity',
  constraint audit_trimmed_has_one_row check (only_row)
);
insert into eve.audit_trimmed (only_row) values (true) on conflict do nothing;
comment on table eve.audit_trimmed is 'What had to go for its size, before its time. One row.';
comment on column eve.audit_trimmed.trimmed_before is 'The audit before this time has gone, and the gateway''s rows of public.token_usage go.';
comment on column eve.audit_trimmed.token_usage_before is 'As far as those have gone.';

insert into eve.settings (name, value, description) values
  ('token_usage_rows', 1, 'Whether calls are written to public.token_usage too. 1: a row for each attempt whose tokens are known; 0: none.'),
  ('audit_max_mb', 250, 'What the gateway keeps may take so many megabytes of the disk. Beyond that the oldest day of the audit goes first, once it is in the sums; two days stay in any case.'),
  ('disk_mb', 500, 'How many megabytes the database may have: 500 on Supabase''s free plan. Near it an alert is opened.')
on conflict (name) do nothing;
