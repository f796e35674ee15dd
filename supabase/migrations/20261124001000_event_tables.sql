-- Events: what has happened, sent to those who asked for it. An event is written in the transaction of what it tells of, with one
-- delivery for each consumer that takes its type; deliveries are taken by lease and tried again until the consumer has had them.
--
-- Deliveries are made when the event is written, not found by consumers that read on from where they were: numbers of a sequence do not
-- become visible in their order, and a reader that has passed one over would have to know. Where nobody takes a type, nothing is written.

set local lock_timeout = '10s';

create table if not exists eve.events (
  id bigint generated always as identity primary key,
  event_id uuid not null default gen_random_uuid(),
  source text not null,
  type text not null,
  subject text,
  time timestamptz not null,
  data jsonb not null default '{}',
  traceparent text,
  consumer_id uuid not null,
  constraint events_source_event_id_key unique (source, event_id),
  constraint events_source_form check (source ~ '^/[a-z0-9_/-]{1,99}$'),
  constraint events_type_form check (length(type) <= 100 and type ~ '^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)*[.]v[1-9][0-9]{0,2}$'),
  constraint events_subject_length check (length(subject) between 1 and 500),
  constraint events_data_size check (jsonb_typeof(data) = 'object' and octet_length(data::text) <= 16384),
  constraint events_traceparent_form check (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$')
);
create index if not exists events_time_idx on eve.events (time);
comment on table eve.events is 'The outbox: events that somebody takes, as CloudEvents 1.0 describes them. id gives their order.';
comment on column eve.events.event_id is 'The CloudEvents id, unique per source; a webhook has it as webhook-id.';
comment on column eve.events.source is 'Which part of the gateway tells it, such as /alerts.';
comment on column eve.events.type is 'What happened, with its version at the end, such as eve.alert.opened.v1.';
comment on column eve.events.subject is 'What it happened to, such as the id of a job.';
comment on column eve.events.data is 'Facts of this type, 16 KiB at most. Never a prompt, an answer or a secret.';
comment on column eve.events.traceparent is 'W3C Trace Context of the request that it comes from.';
comment on column eve.events.consumer_id is 'The caller in eve.consumers whom it concerns; zeros: the project.';

create table if not exists eve.event_consumers (
  name text primary key,
  kind text not null,
  types text[] not null,
  consumer_id uuid,
  is_active boolean not null default true,
  retry_s integer[] not null,
  max_in_flight integer not null default 4,
  paused_until timestamptz,
  created_at timestamptz not null default now(),
  constraint event_consumers_consumer_id_fkey foreign key (consumer_id) references eve.consumers (id) on delete cascade,
  constraint event_consumers_name_form check (name ~ '^[a-z][a-z0-9_:-]{0,79}$'),
  constraint event_consumers_kind_form check (kind ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint event_consumers_types_count check (cardinality(types) <= 50),
  constraint event_consumers_retry_range check (cardinality(retry_s) between 0 and 30 and 0 <= all (retry_s) and 604800 >= all (retry_s)),
  constraint event_consumers_in_flight_range check (max_in_flight between 1 and 100)
);
create index if not exists event_consumers_consumer_id_idx on eve.event_consumers (consumer_id);
comment on table eve.event_consumers is 'Who takes events: each webhook, and parts of the gateway.';
comment on column eve.event_consumers.kind is 'What delivers to it: webhook, or the name of a handler in the functions.';
comment on column eve.event_consumers.types is 'Types that it takes: a whole type, all that begin alike (eve.alert.*), or * for all. None: only what is addressed to it.';
comment on column eve.event_consumers.consumer_id is 'Events of this caller only; null: everybody''s.';
comment on column eve.event_consumers.retry_s is 'The longest pause in seconds before the second try, the third, and so on; the pause itself is drawn from zero up to that. One try more than there are pauses.';
comment on column eve.event_consumers.max_in_flight is 'Deliveries that are under way to it at a time, so that a slow one does not hold up the others.';
comment on column eve.event_consumers.paused_until is 'It asked to be left alone until then.';

create table if not exists eve.event_deliveries (
  id bigint generated always as identity primary key,
  event_id bigint not null,
  consumer text not null,
  state text not null default 'pending',
  attempts integer not null default 0,
  next_try_at timestamptz not null,
  lease uuid,
  lease_until timestamptz,
  first_failed_at timestamptz,
  last_failed_at timestamptz,
  last_error text,
  created_at timestamptz not null,
  ended_at timestamptz,
  constraint event_deliveries_consumer_event_id_key unique (consumer, event_id),
  constraint event_deliveries_event_id_fkey foreign key (event_id) references eve.events (id) on delete cascade,
  constraint event_deliveries_consumer_fkey foreign key (consumer) references eve.event_consumers (name) on delete cascade,
  constraint event_deliveries_state_known check (state in ('pending', 'delivered', 'dead', 'dropped')),
  constraint event_deliveries_ended_at_set check ((state = 'pending') = (ended_at is null)),
  constraint event_deliveries_error_length check (length(last_error) <= 500)
) with (fillfactor = 80);
create index if not exists event_deliveries_due_idx on eve.event_deliveries (consumer, next_try_at, id) where state = 'pending';
create index if not exists event_deliveries_leased_idx on eve.event_deliveries (consumer, lease_until) where lease is not null;
create index if not exists event_deliveries_created_at_idx on eve.event_deliveries (consumer, created_at) where state = 'pending';
create index if not exists event_deliveries_ended_at_idx on eve.event_deliveries (ended_at) where state <> 'pending';
create index if not exists event_deliveries_event_id_idx on eve.event_deliveries (event_id);
comment on table eve.event_deliveries is 'An event and a consumer: what is to be delivered, and what has been, so that a repeat is known.';
comment on column eve.event_deliveries.state is 'pending; delivered; dead: its tries are used up, see eve.dead_letters; dropped: nobody wants it any more.';
comment on column eve.event_deliveries.attempts is 'Tries that have begun, since it was written or sent again by hand.';
comment on column eve.event_deliveries.lease is 'Drawn again for each try: who does not hold it any more changes nothing.';

create table if not exists eve.event_attempts (
  id bigint generated always as identity primary key,
  delivery_id bigint not null,
  attempt integer not null,
  at timestamptz not null,
  result text not null,
  status integer,
  error text,
  duration_ms integer,
  constraint event_attempts_delivery_id_fkey foreign key (delivery_id) references eve.event_deliveries (id) on delete cascade,
  constraint event_attempts_result_known check (result in ('delivered', 'failed', 'gone', 'lost')),
  constraint event_attempts_error_length check (length(error) <= 500)
);
create index if not exists event_attempts_delivery_id_idx on eve.event_attempts (delivery_id);
comment on table eve.event_attempts is 'The log of deliveries: a row per try that has ended.';
comment on column eve.event_attempts.result is 'lost: the one who tried did not say how it went, and the lease ended.';
comment on column eve.event_attempts.status is 'Of HTTP; null: there was none.';

create table if not exists eve.dead_letters (
  id bigint generated always as identity primary key,
  delivery_id bigint not null,
  event_id uuid not null,
  consumer text not null,
  error text,
  attempts integer not null,
  first_failed_at timestamptz not null,
  last_failed_at timestamptz not null,
  constraint dead_letters_delivery_id_key unique (delivery_id),
  constraint dead_letters_delivery_id_fkey foreign key (delivery_id) references eve.event_deliveries (id) on delete cascade
);
create index if not exists dead_letters_consumer_idx on eve.dead_letters (consumer, id);
create index if not exists dead_letters_last_failed_at_idx on eve.dead_letters (last_failed_at);
comment on table eve.dead_letters is 'Deliveries whose tries are used up, until somebody sends them again or drops them.';
comment on column eve.dead_letters.event_id is 'The CloudEvents id.';

create table if not exists eve.webhooks (
  id uuid primary key default gen_random_uuid(),
  name text not null generated always as ('webhook:' || id::text) stored,
  consumer_id uuid not null,
  url text not null,
  description text,
  secret text not null,
  secret_last_four text not null,
  secret_changed_at timestamptz not null,
  previous_secret text,
  previous_secret_until timestamptz,
  off_reason text,
  created_at timestamptz not null,
  constraint webhooks_name_key unique (name),
  constraint webhooks_consumer_id_url_key unique (consumer_id, url),
  constraint webhooks_name_fkey foreign key (name) references eve.event_consumers (name) on delete cascade,
  constraint webhooks_consumer_id_fkey foreign key (consumer_id) references eve.consumers (id) on delete cascade,
  constraint webhooks_url_length check (length(url) between 8 and 2000),
  constraint webhooks_description_length check (length(description) <= 200),
  constraint webhooks_previous_secret_ends check ((previous_secret is null) = (previous_secret_until is null))
);
comment on table eve.webhooks is 'Where events are posted, signed as Standard Webhooks says. Each is a consumer of its own in eve.event_consumers, whose is_active says whether it is on.';
comment on column eve.webhooks.consumer_id is 'The caller whose events it gets, and theirs alone; zeros: the project, which gets all.';
comment on column eve.webhooks.secret is 'Encrypted with ADMIN_SECRET_KEY, together with the address that it was made for.';
comment on column eve.webhooks.previous_secret is 'Signs too until previous_secret_until, so that a secret can be changed without a gap.';
comment on column eve.webhooks.off_reason is 'Why it was switched off, other than by hand: gone, since the receiver answered 410.';

insert into eve.alert_kinds (kind, title, advice) values
  ('dead_letters', 'Events could not be delivered', 'See what they are with `eve dlq list`. Once the receiver works, `eve dlq replay` sends them again; `eve dlq drop` gives them up.'),
  ('webhook_gone', 'A webhook was switched off', 'Its receiver answered 410 Gone. Remove it, or switch it on again with `eve webhooks enable`.')
on conflict (kind) do nothing;
