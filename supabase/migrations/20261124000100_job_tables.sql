-- Jobs: work that outlives a call. One table for every kind, whether a caller handed it in to be done later (a call of a model) or a
-- provider makes it while nobody waits (a song).
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

-- The table itself is with the stages', whose jobs (speech, songs, videos) are rows of it as well.
do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint c where c.conrelid = 'eve.jobs'::regclass and c.conname = 'jobs_kind_fkey'
  ) then
    alter table eve.jobs add constraint jobs_kind_fkey foreign key (kind) references eve.job_kinds (kind) not valid;
    alter table eve.jobs validate constraint jobs_kind_fkey;
  end if;
end;
$$;
