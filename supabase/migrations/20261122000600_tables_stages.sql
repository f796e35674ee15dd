-- Stages of a pipeline (POEM, VOICE, SONG, CLIP, ...), each with its own provider, key and model, changed by a person while
-- the system runs.
--
-- A saved stage becomes rows that admission knows already: its key in google_ai_api_keys, its model in
-- google_ai_model_limits, and an alias `stage:POEM` that is replaced by that model. So limits, audit, budgets and the scope
-- of consumers are the same for every provider, and a new model serves from the next reservation on.
--
-- Other programs read provider_configs and api_keys too. Keys are Fernet tokens in them, and no role of the API but the
-- service role may read those columns.

set local lock_timeout = '10s';

create table if not exists eve.provider_kinds (
  kind text primary key,
  title text not null,
  produces text not null,
  provider text not null,
  shares_keys boolean not null default false,
  supports_system boolean not null default true,
  supports_json boolean not null default false,
  supports_tools boolean not null default false,
  constraint provider_kinds_kind_form check (kind ~ '^[a-z][a-z0-9_]{0,31}$'),
  constraint provider_kinds_produces_known check (produces in ('text', 'speech', 'song', 'video')),
  constraint provider_kinds_kind_produces_key unique (kind, produces)
);
comment on table eve.provider_kinds is 'The kinds of providers that the gateway can speak to.';
comment on column eve.provider_kinds.produces is 'What comes out: text at once, everything else as a job.';
comment on column eve.provider_kinds.provider is 'As in the provider column of google_ai_api_keys and google_ai_model_limits.';
comment on column eve.provider_kinds.shares_keys is 'True: a stage needs no key of its own, the pool''s keys serve it.';
comment on column eve.provider_kinds.supports_system is 'What is assumed of a model that has no row yet; supports_json and supports_tools likewise.';
insert into eve.provider_kinds (kind, title, produces, provider, shares_keys, supports_system, supports_json, supports_tools) values
  ('gemini', 'Gemini', 'text', 'google', true, true, true, true),
  ('openai', 'OpenAI and compatible', 'text', 'openai', false, true, true, true),
  ('yandexgpt', 'YandexGPT', 'text', 'yandexgpt', false, true, true, true),
  ('gigachat', 'GigaChat', 'text', 'gigachat', false, true, false, true),
  ('speechkit', 'Yandex SpeechKit', 'speech', 'speechkit', false, false, false, false),
  ('suno', 'Suno', 'song', 'suno', false, false, false, false),
  ('pika', 'Pika by fal.ai', 'video', 'pika', false, false, false, false)
on conflict do nothing;

create table if not exists eve.stages (
  stage_type text primary key,
  produces text not null,
  description text not null default '',
  position integer not null default 100,
  seeded_at timestamptz,
  constraint stages_stage_type_form check (stage_type ~ '^[A-Z][A-Z0-9_]{0,31}$'),
  constraint stages_produces_known check (produces in ('text', 'speech', 'song', 'video')),
  constraint stages_stage_type_produces_key unique (stage_type, produces)
);
comment on table eve.stages is 'The stages of the pipeline. Adding one is adding a row here and rows in eve.stage_providers.';
comment on column eve.stages.position is 'Their order on a page.';
comment on column eve.stages.seeded_at is 'When a person or the environment first filled it: from then on the environment fills it no more.';
insert into eve.stages (stage_type, produces, description, position) values
  ('POEM', 'text', 'Writes the text.', 10),
  ('VOICE', 'speech', 'Reads a text aloud.', 20),
  ('SONG', 'song', 'Sets a text to music.', 30),
  ('CLIP', 'video', 'Makes a video.', 40)
on conflict do nothing;

create table if not exists eve.stage_providers (
  stage_type text not null,
  provider_kind text not null,
  produces text not null,
  position integer not null default 100,
  primary key (stage_type, provider_kind),
  constraint stage_providers_stage_fkey foreign key (stage_type, produces)
    references eve.stages (stage_type, produces) on delete cascade,
  constraint stage_providers_kind_fkey foreign key (provider_kind, produces)
    references eve.provider_kinds (kind, produces)
);
create index if not exists stage_providers_stage_produces_idx on eve.stage_providers (stage_type, produces);
create index if not exists stage_providers_kind_produces_idx on eve.stage_providers (provider_kind, produces);
comment on table eve.stage_providers is 'Which provider may serve which stage; both produce the same.';
comment on column eve.stage_providers.position is 'The first whose key is in the environment serves a stage that nobody has set up.';
insert into eve.stage_providers (stage_type, provider_kind, produces, position) values
  ('POEM', 'yandexgpt', 'text', 10),
  ('POEM', 'gemini', 'text', 20),
  ('POEM', 'openai', 'text', 30),
  ('POEM', 'gigachat', 'text', 40),
  ('VOICE', 'speechkit', 'speech', 10),
  ('SONG', 'suno', 'song', 10),
  ('CLIP', 'pika', 'video', 10)
on conflict do nothing;

create table if not exists public.provider_configs (
  stage_type text primary key,
  provider_kind text not null,
  api_key_encrypted text,
  key_fingerprint text,
  key_last_four text,
  model text not null,
  settings jsonb not null default '{}',
  quota_project text,
  models_cache jsonb not null default '[]',
  models_cache_updated_at timestamptz,
  status text not null default 'active',
  status_reason text,
  checked_at timestamptz,
  updated_at timestamptz not null default now(),
  updated_by text not null default 'sql',
  constraint provider_configs_stage_provider_fkey foreign key (stage_type, provider_kind)
    references eve.stage_providers (stage_type, provider_kind),
  constraint provider_configs_status_known check (status in ('active', 'warning', 'invalid', 'error')),
  constraint provider_configs_status_reason_given check (status = 'active' or status_reason is not null),
  constraint provider_configs_model_form check (model ~ '^[\x21-\x7e]{1,150}$'),
  constraint provider_configs_models_cache_list check (jsonb_typeof(models_cache) = 'array'),
  constraint provider_configs_settings_object check (jsonb_typeof(settings) = 'object'),
  constraint provider_configs_key_encrypted check (api_key_encrypted ~ '^gAAAA[A-Za-z0-9_-]+={0,2}$'),
  constraint provider_configs_key_described check ((api_key_encrypted is null) = (key_fingerprint is null and key_last_four is null))
);
create index if not exists provider_configs_stage_provider_idx on public.provider_configs (stage_type, provider_kind);
alter table public.provider_configs enable row level security;
comment on table public.provider_configs is 'Provider, key and model of each stage. Signed-in administrators read it, without the keys.';
comment on column public.provider_configs.provider_kind is 'As in eve.provider_kinds. Which may serve the stage is in eve.stage_providers.';
comment on column public.provider_configs.api_key_encrypted is 'A Fernet token, its key derived from ADMIN_SECRET_KEY. Null: the pool''s keys serve.';
comment on column public.provider_configs.key_fingerprint is 'The first 32 hexadecimal digits of the key''s SHA-256: tells keys apart.';
comment on column public.provider_configs.model is 'As the provider calls it.';
comment on column public.provider_configs.settings is 'What else its calls need: base_url, folder_id, scope, ... No secret.';
comment on column public.provider_configs.quota_project is 'What the provider counts by. Keys of one account share it; null: the key is an account of its own.';
comment on column public.provider_configs.models_cache is 'The models that the provider offers this key: a list of names.';
comment on column public.provider_configs.status is 'active; warning: it serves, but a person should look; invalid: the key is refused; error: the provider does not answer.';
comment on column public.provider_configs.checked_at is 'When the provider was last asked about the key and its models, whatever it said.';
comment on column public.provider_configs.updated_by is 'Who changed it last: a person''s e-mail address, or the part of the gateway that did.';

create table if not exists public.api_keys (
  id bigint generated always as identity primary key,
  stage_type text not null,
  provider_kind text not null,
  fingerprint text not null,
  last_four text not null,
  api_key_encrypted text not null,
  entered_by text not null,
  entered_at timestamptz not null default now(),
  used_until timestamptz,
  constraint api_keys_key_encrypted check (api_key_encrypted ~ '^gAAAA[A-Za-z0-9_-]+={0,2}$')
);
create unique index if not exists api_keys_stage_type_current_key on public.api_keys (stage_type) where used_until is null;
create index if not exists api_keys_stage_type_idx on public.api_keys (stage_type, entered_at);
alter table public.api_keys enable row level security;
comment on table public.api_keys is 'Every key that was ever entered for a stage. It has no foreign keys: it outlives stages and providers.';
comment on column public.api_keys.used_until is 'When another key or another provider took its place; null: in use.';

create table if not exists eve.provider_history (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  stage_type text not null,
  event text not null,
  actor text not null,
  before jsonb,
  after jsonb,
  constraint provider_history_event_known check (
    event in ('created', 'changed', 'status_changed', 'model_vanished', 'reencrypted', 'removed')
  )
);
create index if not exists provider_history_stage_type_idx on eve.provider_history (stage_type, id);
comment on table eve.provider_history is 'Audit: each change of a stage, before and after, without the key.';
comment on column eve.provider_history.event is 'model_vanished: the gateway took another model because the provider no longer has the chosen one.';

create table if not exists eve.jobs (
  id uuid primary key,
  no bigint generated always as identity,
  kind text not null,
  state text not null default 'queued',
  consumer_id uuid,
  owner_id uuid generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')) stored,
  token_id uuid,
  models text[],
  request_id text not null,
  request_key text
    generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')::text || ' ' || request_id) stored,
  request_hash text,
  request_no bigint,
  queue_id bigint,
  class text,
  body jsonb,
  body_media text,
  body_bytes integer not null default 0,
  run_at timestamptz,
  tries integer not null default 0,
  losses integer not null default 0,
  worker_id uuid,
  lease_token uuid,
  lease_until timestamptz,
  progress jsonb,
  stage_type text,
  provider_kind text,
  model text,
  key_name text,
  settings jsonb not null default '{}',
  upstream_id text,
  result jsonb,
  result_media text,
  error_code text,
  error_detail text,
  submitted_at timestamptz not null default now(),
  started_at timestamptz,
  checked_at timestamptz,
  finished_at timestamptz,
  expires_at timestamptz,
  batch_id uuid,
  place integer,
  custom_id text,
  webhook_id uuid,
  constraint jobs_state_known check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')),
  constraint jobs_ended check ((finished_at is not null) = (state not in ('queued', 'running'))),
  constraint jobs_result_given check (state <> 'succeeded' or result is not null or result_media is not null),
  constraint jobs_error_given check (state not in ('failed', 'expired') or error_code is not null),
  constraint jobs_class_known check (class in ('interactive', 'batch')),
  constraint jobs_queued_whole check (run_at is null or queue_id is not null and class is not null),
  constraint jobs_waits_in_queue check (state <> 'queued' or run_at is not null),
  constraint jobs_lease_while_running check ((lease_until is null) = (lease_token is null) and (lease_until is null or state = 'running')),
  constraint jobs_upstream_whole check (
    upstream_id is null or stage_type is not null and provider_kind is not null and model is not null and key_name is not null
  ),
  constraint jobs_tries_counted check (tries >= 0 and losses >= 0),
  constraint jobs_progress_size check (length(progress::text) <= 4096),
  constraint jobs_texts_size check (
    length(request_id) between 1 and 200 and length(custom_id) between 1 and 512 and length(request_hash) <= 200
    and length(body_media) <= 200 and length(result_media) <= 200
  ),
  constraint jobs_batch_place check ((batch_id is null) = (place is null))
);
create index if not exists jobs_submitted_at_idx on eve.jobs (submitted_at);
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
comment on column eve.jobs.key_name is 'The env_var_name of the key that submitted it: it is asked about with the same key.';
comment on column eve.jobs.settings is 'Those of the provider when it was submitted.';
comment on column eve.jobs.consumer_id is 'Whose it is; null: the project''s own.';
comment on column eve.jobs.upstream_id is 'By which the provider knows it.';

create table if not exists eve.job_contents (
  job_id uuid primary key references eve.jobs (id) on delete cascade,
  mime_type text not null,
  content bytea not null,
  constraint job_contents_size check (octet_length(content) <= 8388608)
);
comment on table eve.job_contents is 'Files of providers that answer with the file itself. At most 8 MiB each.';

-- Keys of the pool that were entered in the console: the secret itself, encrypted, in place of the name of one.
create table if not exists eve.stored_keys (
  id uuid primary key default gen_random_uuid(),
  key_id uuid not null,
  api_key_encrypted text not null,
  fingerprint text not null,
  last_four text not null,
  entered_by text not null,
  entered_at timestamptz not null default now(),
  constraint stored_keys_key_id_key unique (key_id),
  constraint stored_keys_key_encrypted check (api_key_encrypted ~ '^gAAAA[A-Za-z0-9_-]+={0,2}$' and octet_length(api_key_encrypted) <= 20000),
  constraint stored_keys_fingerprint_form check (fingerprint ~ '^[0-9a-f]{32}$'),
  constraint stored_keys_last_four_length check (char_length(last_four) <= 4),
  constraint stored_keys_entered_by_length check (char_length(entered_by) between 1 and 320)
);
comment on table eve.stored_keys is 'Secrets of keys of the pool that were entered in the console or at the command line.';
comment on column eve.stored_keys.key_id is 'Of google_ai_api_keys, whose env_var_name is stored: and the id here. No foreign key: that table may be somebody''s own.';
comment on column eve.stored_keys.api_key_encrypted is 'A Fernet token, its key derived from ADMIN_SECRET_KEY.';
comment on column eve.stored_keys.fingerprint is 'The first 32 hexadecimal digits of the key''s SHA-256: tells keys apart.';
comment on column eve.stored_keys.entered_by is 'The e-mail address of an administrator, or what stands for the project''s own key.';

-- A secret goes with the row that names it, and with its name.
create or replace function eve.forget_stored_key()
returns trigger
language plpgsql
-- Those who may change or delete a key need not be let into schema eve, and its secret must not stay behind.
security definer
set search_path = ''
as $$
begin
  delete from eve.stored_keys s
  where s.key_id = old.id and (tg_op = 'DELETE' or 'stored:' || s.id is distinct from new.env_var_name);
  return null;
end;
$$;
comment on function eve.forget_stored_key is 'Deletes the stored secret of a key that is deleted, or has another source.';
create or replace trigger eve_forget_stored_key
after delete on public.google_ai_api_keys
for each row
when (old.env_var_name like 'stored:%')
execute function eve.forget_stored_key();
create or replace trigger eve_forget_replaced_key
after update of env_var_name on public.google_ai_api_keys
for each row
when (old.env_var_name like 'stored:%' and new.env_var_name is distinct from old.env_var_name)
execute function eve.forget_stored_key();
