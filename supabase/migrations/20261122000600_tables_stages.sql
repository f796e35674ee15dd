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
  stage_type text not null,
  provider_kind text not null,
  model text not null,
  key_name text not null,
  settings jsonb not null default '{}',
  consumer_id uuid,
  request_id text not null,
  request_no bigint not null,
  state text not null default 'submitting',
  upstream_id text,
  result jsonb,
  error_code text,
  error_detail text,
  submitted_at timestamptz not null default now(),
  checked_at timestamptz,
  finished_at timestamptz,
  expires_at timestamptz,
  constraint jobs_state_known check (state in ('submitting', 'running', 'succeeded', 'failed')),
  constraint jobs_upstream_named check (state <> 'running' or upstream_id is not null),
  constraint jobs_result_given check (state <> 'succeeded' or result is not null),
  constraint jobs_error_given check (state <> 'failed' or error_code is not null)
);
create index if not exists jobs_submitted_at_idx on eve.jobs (submitted_at);
comment on table eve.jobs is 'Speech, songs and videos that are being made or have been. It has no foreign keys: it outlives what it names.';
comment on column eve.jobs.key_name is 'The env_var_name of the key that submitted it: it is asked about with the same key.';
comment on column eve.jobs.settings is 'Those of the provider when it was submitted.';
comment on column eve.jobs.consumer_id is 'Whose it is; null: the project''s own.';
comment on column eve.jobs.upstream_id is 'By which the provider knows it.';
comment on column eve.jobs.result is 'Files with their addresses and types.';
comment on column eve.jobs.expires_at is 'From then on the provider may have deleted the files.';

create table if not exists eve.job_contents (
  job_id uuid primary key references eve.jobs (id) on delete cascade,
  mime_type text not null,
  content bytea not null,
  constraint job_contents_size check (octet_length(content) <= 8388608)
);
comment on table eve.job_contents is 'Files of providers that answer with the file itself. At most 8 MiB each.';
