-- Who may call besides the project itself: consumers with a secret, and the short-lived tokens of notebooks.
--
-- A secret never reaches the database. Anyone who holds one sends its id and a proof, which is a digest of the secret; the
-- database keeps a digest of that proof. So neither a statement log nor a copy of these tables lets anybody in.

set local lock_timeout = '10s';

create table if not exists eve.tenants (
  id text primary key,
  name text,
  is_default boolean not null default false,
  storage_limit_bytes bigint,
  is_named_by_env boolean not null default false,
  created_at timestamptz not null default now(),
  -- A part of every storage key.
  constraint tenants_id_form check (id ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$'),
  constraint tenants_name_length check (length(name) <= 200),
  constraint tenants_storage_limit_positive check (storage_limit_bytes >= 0)
);
create unique index if not exists tenants_is_default_key on eve.tenants (is_default) where is_default;
comment on table eve.tenants is 'Whose things are kept apart from others''.';
comment on column eve.tenants.is_default is 'Whose a thing is when nobody says: one row.';
comment on column eve.tenants.is_named_by_env is 'Whether S3_DEFAULT_TENANT_ID named it when the function api ran last.';
comment on column eve.tenants.storage_limit_bytes is 'Bytes of media it may keep; null: the limit tenant of eve.media_limits.';
insert into eve.tenants (id, is_default) values ('default', not exists (select from eve.tenants t where t.is_default))
on conflict (id) do nothing;

create table if not exists eve.consumers (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  kind text not null,
  secret_hash text,
  previous_secret_hash text,
  previous_secret_until timestamptz,
  models text[],
  max_class text not null default 'interactive',
  requests_per_day integer,
  tokens_per_day bigint,
  capture boolean not null default false,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  key_id text,
  rpm integer,
  token_ttl_s integer not null default 7200,
  secret_changed_at timestamptz,
  scopes text[] not null default '{llm}',
  tenant_id text references eve.tenants (id),
  constraint consumers_name_key unique (name),
  constraint consumers_kind_known check (kind in ('project', 'service', 'notebook')),
  constraint consumers_max_class_known check (max_class in ('interactive', 'batch')),
  constraint consumers_budgets_positive check (requests_per_day >= 0 and tokens_per_day >= 0),
  constraint consumers_key_id_form check (key_id ~ '^[0-9a-f]{16}$'),
  constraint consumers_rpm_positive check (rpm > 0),
  constraint consumers_token_ttl_range check (token_ttl_s between 60 and 86400),
  constraint consumers_scopes_known check (scopes <@ '{llm,media,chats,vision,intake}' and cardinality(scopes) between 1 and 5)
);
comment on table eve.consumers is 'Who calls. A secret is kept as a hash only.';
comment on column eve.consumers.kind is 'project: the project''s own secret key. service: calls with a key of its own. notebook: exchanges its secret for scoped tokens.';
comment on column eve.consumers.previous_secret_hash is 'Accepted until previous_secret_until, so that a secret can be changed without a gap.';
comment on column eve.consumers.requests_per_day is 'Requests a Pacific day, however many attempts each takes; null: no budget.';
comment on column eve.consumers.capture is 'Whether what it asks and gets is kept; a request may say no. Nothing else allows it.';
comment on column eve.consumers.models is 'Models it may call; null: all.';
comment on column eve.consumers.scopes is 'What it may use: llm, media, chats, vision, intake.';
comment on column eve.consumers.tenant_id is 'Whose it is; null: the default tenant''s.';
comment on column eve.consumers.max_class is 'The highest traffic class it gets; batch turns its interactive requests into batch.';
comment on column eve.consumers.tokens_per_day is 'Input and output tokens a Pacific day; null: no budget.';
insert into eve.consumers (id, name, kind)
values ('00000000-0000-0000-0000-000000000000', 'project', 'project')
on conflict do nothing;
create unique index if not exists consumers_key_id_key on eve.consumers (key_id);
create index if not exists consumers_tenant_id_idx on eve.consumers (tenant_id);
comment on column eve.consumers.key_id is 'The public part of its secret, by which it is found.';
comment on column eve.consumers.secret_hash is 'SHA-256, in hex, over the proof of the secret (see eve.secret_hash).';
comment on column eve.consumers.previous_secret_until is 'After a rotation the secret before it is valid until then.';
comment on column eve.consumers.rpm is 'Requests it may begin in any minute; null: no limit of its own.';
comment on column eve.consumers.token_ttl_s is 'The longest life of a token issued to it, in seconds: 60 to 86400.';

create table if not exists eve.consumer_days (
  consumer_id uuid not null references eve.consumers (id) on delete cascade,
  day date not null,
  requests integer not null default 0,
  tokens bigint not null default 0,
  primary key (consumer_id, day)
) with (fillfactor = 50);
comment on table eve.consumer_days is 'What a consumer with a budget has spent in a Pacific day.';
comment on column eve.consumer_days.day is 'The day in America/Los_Angeles.';
comment on column eve.consumer_days.tokens is 'Input and output tokens; while a call runs, the estimate of its input and the longest answer that it may get.';

create table if not exists eve.scoped_tokens (
  id uuid primary key default gen_random_uuid(),
  consumer_id uuid not null references eve.consumers (id) on delete cascade,
  models text[],
  class text not null default 'batch',
  requests_budget integer,
  tokens_budget bigint,
  requests_used integer not null default 0,
  tokens_used bigint not null default 0,
  issued_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  address text,
  issued_for text,
  revoked_reason text,
  scopes text[],
  constraint scoped_tokens_class_known check (class in ('interactive', 'batch')),
  constraint scoped_tokens_budgets_positive check (requests_budget >= 0 and tokens_budget >= 0)
) with (fillfactor = 50);
create index if not exists scoped_tokens_consumer_id_idx on eve.scoped_tokens (consumer_id);
comment on table eve.scoped_tokens is 'Short-lived tokens of notebooks: the id is the token''s jti. The token itself is kept nowhere.';
comment on column eve.scoped_tokens.scopes is 'Of its consumer''s scopes those that it carries; null, in tokens from before there were scopes: llm.';
comment on column eve.scoped_tokens.models is 'Models it may be used for, of those its consumer may call; null: all of those.';
comment on column eve.scoped_tokens.requests_budget is 'Requests in its whole life; tokens_budget: input and output tokens. Null: no budget.';
comment on column eve.scoped_tokens.revoked_at is 'From then on the next reservation refuses it.';
comment on column eve.scoped_tokens.address is 'Where it was asked for.';
comment on column eve.scoped_tokens.issued_for is 'What it was issued for: enrolment_secret or project_key.';
-- What makes each batch cheap. Old rows are found by age where age leads an index; the audit's are read in the order of
-- their numbers, which is nearly that of age, and needs no index beyond the primary key.
create index if not exists scoped_tokens_expires_at_idx on eve.scoped_tokens (expires_at);

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
      'consumer_added', 'consumer_rotated', 'consumer_enabled', 'consumer_disabled', 'consumer_removed', 'consumer_scoped',
      'token_issued', 'token_revoked'
    )
  ),
  constraint access_log_texts_length check (length(consumer_name) <= 1000 and length(address) <= 100)
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
  primary key (minute, place, code, address, subject),
  constraint access_refusals_texts_length check (
    length(place) <= 100 and length(code) <= 100 and length(address) <= 200 and length(subject) <= 1000
  )
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

create table if not exists eve.captures (
  request_no bigint primary key,
  prompt jsonb not null,
  answer jsonb,
  captured_at timestamptz not null default now()
);
create index if not exists captures_captured_at_idx on eve.captures using brin (captured_at);
comment on table eve.captures is 'Prompts and answers, for debugging. Only of requests that asked for it, or whose consumer''s row does.';
comment on column eve.captures.prompt is 'As the model got it. Above 256 KiB: {"truncated": true, "bytes": n, "head": its first 65,536 characters}.';
comment on column eve.captures.answer is 'As the model gave it, capped like the prompt.';

create table if not exists eve.bad_requests (
  minute timestamptz not null,
  code text not null,
  subject text not null,
  times bigint not null,
  primary key (minute, code, subject)
);
comment on table eve.bad_requests is 'Requests that were refused for what they are (400, 404, 405, 408, 413), by minute, code and consumer.';
comment on column eve.bad_requests.subject is 'The consumer''s name; project: the project''s own key; empty: nobody had been recognised yet.';
