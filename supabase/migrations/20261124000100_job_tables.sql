-- Jobs: work that outlives a call. One table for every kind, whether a caller handed it in to be done later (a call of a model) or a
-- provider makes it while nobody waits (a song). What was made for provider jobs alone is widened here, and loses no row.
--
-- A job that was handed in waits in a queue (eve.job_queues): one for each kind, class, caller and model. A worker takes it with a
-- lease and a token of its own, and only who shows that token may say how the job ended.

set local lock_timeout = '10s';

create table if not exists eve.job_kinds (
  kind text primary key,
  description text not null,
  expires_after interval not null default '24 hours',
  max_tries integer not null default 3,
  run_within interval not null default '30 seconds',
  max_body_bytes integer not null default 10485760,
  max_result_bytes integer not null default 262144,
  keep interval not null default '7 days',
  outside_only boolean not null default false,
  constraint job_kinds_kind_form check (kind ~ '^[a-z][a-z0-9_]{0,31}$'),
  constraint job_kinds_positive check (
    expires_after > interval '0' and max_tries between 1 and 100 and run_within between interval '0' and interval '1 hour'
    and max_body_bytes > 0 and max_result_bytes > 0 and keep >= interval '1 hour'
  )
);
comment on table eve.job_kinds is 'Which kinds of jobs there are, and what each of them may take. Adding one is adding a row, and a runner in the worker.';
comment on column eve.job_kinds.expires_after is 'A job that has not ended so long after it was handed in ends as expired, unless it brings a time of its own.';
comment on column eve.job_kinds.max_tries is 'How often it is run, if it fails in a way that may pass.';
comment on column eve.job_kinds.run_within is 'How long one run takes at most as a rule: a worker that has less time left does not begin one.';
comment on column eve.job_kinds.max_body_bytes is 'Of a body in the table, as JSON; max_result_bytes: of a result. What is larger is kept with the media.';
comment on column eve.job_kinds.outside_only is 'Hosted functions cannot run it: the function worker is not called for it.';
comment on column eve.job_kinds.keep is 'How long after its end a job is kept, its body and its result with it.';
insert into eve.job_kinds (kind, description, keep) values
  ('llm', 'A call of a model.', '7 days'),
  ('provider_job', 'Speech, a song or a video that a provider makes.', '90 days')
on conflict (kind) do nothing;

create table if not exists eve.job_queues (
  id bigint generated always as identity primary key,
  kind text not null references eve.job_kinds (kind),
  class text not null,
  owner_id uuid not null,
  topic text not null default '',
  queued integer not null default 0,
  bytes bigint not null default 0,
  turn bigint not null default 0,
  paused_until timestamptz,
  used_at timestamptz not null default now(),
  constraint job_queues_kind_class_owner_id_topic_key unique (kind, class, owner_id, topic),
  constraint job_queues_class_known check (class in ('interactive', 'batch')),
  constraint job_queues_counted check (queued >= 0 and bytes >= 0)
) with (fillfactor = 50);
create index if not exists job_queues_owner_id_idx on eve.job_queues (owner_id);
create sequence if not exists eve.job_turn cache 1;
comment on table eve.job_queues is 'Who has jobs waiting: a row for each kind, class, caller and model. A claim goes from queue to queue, so that none waits behind another''s flood.';
comment on column eve.job_queues.owner_id is 'The consumer; all zeros: the project.';
comment on column eve.job_queues.topic is 'The first model that its jobs ask for: one model''s full lane holds up no other model''s jobs.';
comment on column eve.job_queues.queued is 'Jobs that wait, and the bytes of their bodies. Kept by a trigger on eve.jobs.';
comment on column eve.job_queues.turn is 'Grows each time that a claim takes from it: the lowest is next.';
comment on column eve.job_queues.paused_until is 'A worker found that the model has no start before then: nothing is claimed.';
comment on sequence eve.job_turn is 'Turns of eve.job_queues.';

create table if not exists eve.job_workers (
  id uuid primary key,
  place text not null,
  started_at timestamptz not null default now(),
  lease_until timestamptz not null,
  constraint job_workers_place_known check (place in ('edge', 'outside'))
) with (fillfactor = 50);
comment on table eve.job_workers is 'Workers that run now. One that has died is gone when its lease has ended.';
comment on column eve.job_workers.place is 'edge: the function worker, of which there are only so many at once; outside: npm run worker.';

create table if not exists eve.job_wake (
  id boolean primary key default true,
  asked_at timestamptz not null default '-infinity',
  constraint job_wake_one_row check (id)
);
comment on table eve.job_wake is 'When a worker was last asked to begin: one row.';
insert into eve.job_wake (id) values (true) on conflict do nothing;

insert into eve.settings (name, value, description) values
  ('jobs_queued_max', 100000, 'So many jobs may one consumer, or the project, have waiting.'),
  ('jobs_queued_max_bytes', 268435456, 'And so many bytes of bodies, all together.'),
  ('jobs_workers', 2, 'So many of the function worker run at once. Those outside (npm run worker) are not counted.')
on conflict (name) do nothing;

alter table eve.jobs add column if not exists kind text;
alter table eve.jobs add column if not exists no bigint generated always as identity;
alter table eve.jobs add column if not exists owner_id uuid
  generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')) stored;
alter table eve.jobs add column if not exists request_key text
  generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')::text || ' ' || request_id) stored;
alter table eve.jobs add column if not exists queue_id bigint;
alter table eve.jobs add column if not exists token_id uuid;
alter table eve.jobs add column if not exists class text;
alter table eve.jobs add column if not exists models text[];
alter table eve.jobs add column if not exists request_hash text;
alter table eve.jobs add column if not exists body jsonb;
alter table eve.jobs add column if not exists body_media text;
alter table eve.jobs add column if not exists body_bytes integer not null default 0;
alter table eve.jobs add column if not exists run_at timestamptz;
alter table eve.jobs add column if not exists started_at timestamptz;
alter table eve.jobs add column if not exists tries integer not null default 0;
alter table eve.jobs add column if not exists losses integer not null default 0;
alter table eve.jobs add column if not exists worker_id uuid;
alter table eve.jobs add column if not exists lease_token uuid;
alter table eve.jobs add column if not exists lease_until timestamptz;
alter table eve.jobs add column if not exists progress jsonb;
alter table eve.jobs add column if not exists result_media text;
alter table eve.jobs add column if not exists batch_id uuid;
alter table eve.jobs add column if not exists place integer;
alter table eve.jobs add column if not exists custom_id text;
alter table eve.jobs add column if not exists webhook_id uuid;

alter table eve.jobs drop constraint if exists jobs_state_known;
alter table eve.jobs drop constraint if exists jobs_upstream_named;
alter table eve.jobs drop constraint if exists jobs_result_given;
alter table eve.jobs drop constraint if exists jobs_error_given;
update eve.jobs set kind = 'provider_job', models = array['stage:' || stage_type] where kind is null;
update eve.jobs set state = 'running' where state = 'submitting';
alter table eve.jobs alter column kind set not null;
alter table eve.jobs alter column stage_type drop not null;
alter table eve.jobs alter column provider_kind drop not null;
alter table eve.jobs alter column model drop not null;
alter table eve.jobs alter column key_name drop not null;
alter table eve.jobs alter column request_no drop not null;
alter table eve.jobs alter column state set default 'queued';

do $$
declare
  v_constraint record;
begin
  for v_constraint in
    select *
    from (values
      ('jobs_kind_fkey', 'foreign key (kind) references eve.job_kinds (kind)'),
      ('jobs_state_known', $c$check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'))$c$),
      ('jobs_ended', $c$check ((finished_at is not null) = (state not in ('queued', 'running')))$c$),
      ('jobs_result_given', $c$check (state <> 'succeeded' or result is not null or result_media is not null)$c$),
      ('jobs_error_given', $c$check (state not in ('failed', 'expired') or error_code is not null)$c$),
      ('jobs_class_known', $c$check (class in ('interactive', 'batch'))$c$),
      ('jobs_queued_whole', 'check (run_at is null or queue_id is not null and class is not null)'),
      ('jobs_waits_in_queue', $c$check (state <> 'queued' or run_at is not null)$c$),
      ('jobs_lease_while_running', $c$check ((lease_until is null) = (lease_token is null) and (lease_until is null or state = 'running'))$c$),
      ('jobs_upstream_whole', $c$check (
        upstream_id is null or stage_type is not null and provider_kind is not null and model is not null and key_name is not null
      )$c$),
      ('jobs_tries_counted', 'check (tries >= 0 and losses >= 0)'),
      ('jobs_progress_size', 'check (length(progress::text) <= 4096)'),
      ('jobs_texts_size', $c$check (
        length(request_id) between 1 and 200 and length(custom_id) between 1 and 512 and length(request_hash) <= 200
        and length(body_media) <= 200 and length(result_media) <= 200
      )$c$),
      ('jobs_batch_place', 'check ((batch_id is null) = (place is null))')
    ) as wanted (name, definition)
    where not exists (
      select from pg_catalog.pg_constraint c where c.conrelid = 'eve.jobs'::regclass and c.conname = wanted.name
    )
  loop
    execute format('alter table eve.jobs add constraint %I %s not valid', v_constraint.name, v_constraint.definition);
    execute format('alter table eve.jobs validate constraint %I', v_constraint.name);
  end loop;
end;
$$;

-- What a claim walks: one queue from its head on. Ended jobs are in none of the first three.
create index if not exists jobs_queue_idx on eve.jobs (queue_id, run_at, no) where state = 'queued';
create index if not exists jobs_lease_until_idx on eve.jobs (lease_until) where lease_until is not null;
create index if not exists jobs_waiting_expires_at_idx on eve.jobs (expires_at) where state in ('queued', 'running');
create index if not exists jobs_kind_finished_at_idx on eve.jobs (kind, finished_at) where finished_at is not null;
-- Provider jobs that a call began bear the id of that call, which may come again after some days. One column, so that no plan, whenever it
-- was made, finds a request_id among all of its owner's jobs by another index.
create unique index if not exists jobs_request_key_key on eve.jobs (request_key) where run_at is not null;
create unique index if not exists jobs_batch_id_place_key on eve.jobs (batch_id, place) where batch_id is not null;
create index if not exists jobs_owner_id_no_idx on eve.jobs (owner_id, no);
create unique index if not exists jobs_no_key on eve.jobs (no);

comment on table eve.jobs is 'Work that outlives a call: calls of models that wait, speech, songs and videos that are being made, and what has become of them. But for its kind it has no foreign keys: it outlives what it names.';
comment on column eve.jobs.no is 'The order in which jobs came.';
comment on column eve.jobs.queue_id is 'Of eve.job_queues; null: it was begun by a call and never waited.';
comment on column eve.jobs.token_id is 'The notebook''s token that it was handed in with: it is charged as well.';
comment on column eve.jobs.models is 'The models that it asks for, or stage:NAME: who may use none of them does not see it.';
comment on column eve.jobs.request_id is 'Its caller''s own name for it: handed in again, it is the same job. The call''s where a call began it.';
comment on column eve.jobs.request_key is 'Whose it is and its request_id, in one: unique among those that were handed in.';
comment on column eve.jobs.request_hash is 'Tells a repetition from another job with the same request_id.';
comment on column eve.jobs.body is 'What to do: {"path", "body"} of a call. Null: body_media says where it is, or a call did it at once.';
comment on column eve.jobs.body_media is 'TENANT/SHA256 of a media object of its caller''s tenant, which the job uses (eve.media_references, job); result_media likewise.';
comment on column eve.jobs.body_bytes is 'Of the body as JSON; it counts towards what its caller may have waiting.';
comment on column eve.jobs.run_at is 'It is not run before. Null: a call began it at once.';
comment on column eve.jobs.state is 'queued, running, and how it ended: succeeded, failed, cancelled or expired.';
comment on column eve.jobs.tries is 'Runs that count: not those that were given back unspent, nor those whose worker died (losses).';
comment on column eve.jobs.losses is 'How often a worker died with it.';
comment on column eve.jobs.lease_token is 'Only who shows it may end or give back the job: a worker that wakes up after its lease finds another one, or none.';
comment on column eve.jobs.lease_until is 'Then its worker is given up for dead.';
comment on column eve.jobs.progress is 'What the runner says of it: {"done", "total"} or its own words, at most 4,096 characters of JSON.';
comment on column eve.jobs.result is 'How a call was answered: {"status", "body"}; of a provider job its files, with their addresses and types.';
comment on column eve.jobs.expires_at is 'Not ended by then, it ends as expired. Of a provider job that has ended: from then on its files may be gone.';
comment on column eve.jobs.batch_id is 'The batch that it is a line of; place: which, from 0 on; custom_id: the line''s name.';
