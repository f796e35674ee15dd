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

-- Who is an administrator: app_metadata of the user's own row says {"role": "admin"}. A session outlives a change of that
-- row, so the row decides, not the token.
create or replace function eve.is_administrator(user_id uuid)
returns boolean
language plpgsql
stable
-- Nobody but the platform reads auth.users, and whether one user is an administrator is all that comes out.
security definer
set search_path = ''
as $$
declare
  v_user jsonb;
  v_metadata jsonb;
begin
  -- On a database without the platform's tables nobody is signed in.
  if is_administrator.user_id is null or to_regclass('auth.users') is null then
    return false;
  end if;
  select to_jsonb(u) into v_user from auth.users u where u.id = is_administrator.user_id;
  v_metadata := v_user -> 'raw_app_meta_data';
  if jsonb_typeof(v_metadata) = 'string' then
    v_metadata := (v_metadata #>> '{}')::jsonb;
  end if;
  return coalesce(v_metadata ->> 'role' = 'admin', false)
    and v_user ->> 'deleted_at' is null
    and coalesce((v_user ->> 'banned_until')::timestamptz <= now(), true);
end;
$$;
comment on function eve.is_administrator(uuid) is 'Whether a user''s app_metadata names the role admin, and the user is neither banned nor deleted.';

create or replace function eve.is_administrator()
returns boolean
language sql
stable
-- For policies: whoever asks may know this of himself, and not call the function above for others.
security definer
set search_path = ''
as $$
  select eve.is_administrator((select auth.uid()));
$$;
comment on function eve.is_administrator() is 'Whether the signed-in user is an administrator. For row-level security.';

-- A stage's row without what nobody may see and what changes all the time.
create or replace function eve.provider_config_facts(config public.provider_configs)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'provider_kind', (provider_config_facts.config).provider_kind, 'model', (provider_config_facts.config).model,
    'key_last_four', (provider_config_facts.config).key_last_four,
    'key_fingerprint', (provider_config_facts.config).key_fingerprint,
    'settings', (provider_config_facts.config).settings, 'quota_project', (provider_config_facts.config).quota_project,
    'status', (provider_config_facts.config).status, 'status_reason', (provider_config_facts.config).status_reason
  );
$$;
comment on function eve.provider_config_facts is 'What the history keeps of a stage''s row.';

-- The name under which a provider's model is known to admission: with its provider before it, except for Google's.
create or replace function eve.stage_model(provider_kind text, model text)
returns text
language sql
stable
set search_path = ''
as $$
  select case k.provider when 'google' then stage_model.model else k.kind || '/' || stage_model.model end
  from eve.provider_kinds k
  where k.kind = stage_model.provider_kind;
$$;
comment on function eve.stage_model is 'A provider''s model as google_ai_model_limits names it: openai/gpt-5-mini, and gemini-3.5-flash for Google''s.';

-- Keeps the rows that admission reads in step with a stage, and its history.
create or replace function eve.follow_provider_config()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_stage constant text := case when tg_op = 'DELETE' then old.stage_type else new.stage_type end;
  v_alias constant text := 'stage:' || v_stage;
  v_kind eve.provider_kinds;
  v_model text;
  v_known text;
  v_before jsonb := case when tg_op <> 'INSERT' then eve.provider_config_facts(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then eve.provider_config_facts(new) end;
  v_event text := case tg_op when 'INSERT' then 'created' when 'DELETE' then 'removed' else 'changed' end;
begin
  if tg_op = 'DELETE' then
    delete from public.google_ai_model_limits m where m.model = v_alias;
    update public.google_ai_api_keys k set is_active = false where k.env_var_name = v_alias;
    update public.api_keys k set used_until = now() where k.stage_type = v_stage and k.used_until is null;
  else
    select * into v_kind from eve.provider_kinds k where k.kind = new.provider_kind;
    v_model := eve.stage_model(new.provider_kind, new.model);
    select m.provider into v_known from public.google_ai_model_limits m where m.model = v_model;
    if v_known is null then
      insert into public.google_ai_model_limits (model, provider, supports_system, supports_json, supports_tools)
      values (v_model, v_kind.provider, v_kind.supports_system, v_kind.supports_json, v_kind.supports_tools)
      on conflict do nothing;
    end if;
    insert into public.google_ai_model_limits as m (model, provider, replaced_by)
    values (v_alias, v_kind.provider, v_model)
    on conflict (model) do update
    set provider = excluded.provider, replaced_by = excluded.replaced_by, is_active = true
    where (m.provider, m.replaced_by, m.is_active) is distinct from (excluded.provider, excluded.replaced_by, true);

    if new.api_key_encrypted is null then
      update public.google_ai_api_keys k set is_active = false where k.env_var_name = v_alias and k.is_active;
    elsif tg_op = 'INSERT' or (old.key_fingerprint, old.provider_kind, old.quota_project)
      is distinct from (new.key_fingerprint, new.provider_kind, new.quota_project) then
      -- Another key is another account until somebody says otherwise, and starts without the blocks of the one before it.
      update public.google_ai_api_keys k
      set provider = v_kind.provider, is_active = true, blocked_until = null, blocked_reason = null,
        quota_project = coalesce(new.quota_project, new.provider_kind || ':' || left(new.key_fingerprint, 12))
      where k.env_var_name = v_alias;
      if found then
        delete from eve.key_model_blocks b
        using public.google_ai_api_keys k
        where k.env_var_name = v_alias and b.key_id = k.id;
      else
        -- Last in its pool: it is there for its stage.
        insert into public.google_ai_api_keys (key_alias, provider, env_var_name, is_active, priority, quota_project, notes)
        values (
          'stage-' || lower(v_stage), v_kind.provider, v_alias, true, 1000,
          coalesce(new.quota_project, new.provider_kind || ':' || left(new.key_fingerprint, 12)),
          'The key of stage ' || v_stage || ': it is kept in provider_configs and changed there.'
        );
      end if;
    end if;
  end if;

  if tg_op = 'UPDATE' then
    if v_before = v_after and old.api_key_encrypted is distinct from new.api_key_encrypted then
      v_event := 'reencrypted';
    elsif v_before = v_after then
      return null;
    elsif current_setting('eve.event', true) = 'model_vanished' then
      v_event := 'model_vanished';
    elsif v_before - '{status,status_reason}'::text[] = v_after - '{status,status_reason}'::text[] then
      v_event := 'status_changed';
    end if;
  end if;
  insert into eve.provider_history (stage_type, event, actor, before, after)
  values (
    v_stage, v_event, case when tg_op = 'DELETE' then coalesce(nullif(current_setting('eve.actor', true), ''), 'sql') else new.updated_by end,
    v_before, v_after
  );
  return null;
end;
$$;
comment on function eve.follow_provider_config is 'Keeps a stage''s key, model and alias rows, and its history, in step with provider_configs.';

create or replace trigger eve_follow_provider_config
  after insert or update or delete on public.provider_configs
  for each row execute function eve.follow_provider_config();

-- A change by plain SQL has no actor and no time of its own.
create or replace function eve.stamp_provider_config()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := now();
  new.updated_by := coalesce(nullif(current_setting('eve.actor', true), ''), 'sql');
  return new;
end;
$$;
comment on function eve.stamp_provider_config is 'Says when a stage was changed, and by whom: the setting eve.actor of the transaction, or sql.';

create or replace trigger eve_stamp_provider_config
  before insert or update of provider_kind, api_key_encrypted, model, settings, quota_project, status, status_reason
  on public.provider_configs
  for each row execute function eve.stamp_provider_config();

do $$
declare
  v_table text;
begin
  foreach v_table in array array[
    'eve.provider_kinds', 'eve.stages', 'eve.stage_providers', 'eve.provider_history', 'public.provider_configs',
    'public.api_keys'
  ] loop
    execute format('alter table %s enable row level security', v_table);
    execute format('revoke all on table %s from public, anon, authenticated, service_role', v_table);
    execute format('grant select, insert, update, delete on table %s to service_role', v_table);
  end loop;
  foreach v_table in array array['eve.provider_history_id_seq', 'public.api_keys_id_seq'] loop
    execute format('revoke all on sequence %s from public, anon, authenticated, service_role', v_table);
    execute format('grant usage on sequence %s to service_role', v_table);
  end loop;
end;
$$;

-- What a signed-in user's own client may ask for: every column but the keys; and row-level security shows the rows to
-- administrators alone.
grant select (
  stage_type, provider_kind, key_fingerprint, key_last_four, model, settings, quota_project, models_cache,
  models_cache_updated_at, status, status_reason, checked_at, updated_at, updated_by
) on table public.provider_configs to authenticated;
grant select (id, stage_type, provider_kind, fingerprint, last_four, entered_by, entered_at, used_until)
  on table public.api_keys to authenticated;

drop policy if exists provider_configs_read on public.provider_configs;
create policy provider_configs_read on public.provider_configs
  for select to authenticated using ((select eve.is_administrator()));
drop policy if exists api_keys_read on public.api_keys;
create policy api_keys_read on public.api_keys
  for select to authenticated using ((select eve.is_administrator()));

revoke all on function eve.is_administrator(uuid) from public, anon, authenticated;
revoke all on function eve.is_administrator() from public, anon, authenticated;
revoke all on function eve.provider_config_facts(public.provider_configs) from public, anon, authenticated;
revoke all on function eve.stage_model(text, text) from public, anon, authenticated;
revoke all on function eve.follow_provider_config() from public, anon, authenticated;
revoke all on function eve.stamp_provider_config() from public, anon, authenticated;
grant execute on function eve.is_administrator(uuid) to service_role;
-- Policies call it with the rights of whoever reads. The schema stays closed, so it cannot be called by name.
grant execute on function eve.is_administrator() to authenticated, service_role;
grant execute on function eve.provider_config_facts(public.provider_configs) to service_role;
grant execute on function eve.stage_model(text, text) to service_role;
