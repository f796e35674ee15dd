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
-- For policies: anyone who asks may know this of themselves, and not call the function above for others.
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

-- A stage as an administrator sees it: never with a key.
create or replace function eve.stage_json(stage eve.stages)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'stage_type', (stage_json.stage).stage_type, 'produces', (stage_json.stage).produces,
    'description', (stage_json.stage).description,
    'provider_kinds', (
      select jsonb_agg(
        jsonb_build_object('kind', k.kind, 'title', k.title, 'shares_keys', k.shares_keys) order by p.position, k.kind
      )
      from eve.stage_providers p
      join eve.provider_kinds k on k.kind = p.provider_kind
      where p.stage_type = (stage_json.stage).stage_type
    ),
    'config', (
      select jsonb_build_object(
        'provider_kind', c.provider_kind, 'model', c.model, 'key_last_four', c.key_last_four,
        'key_fingerprint', c.key_fingerprint, 'settings', c.settings, 'quota_project', c.quota_project,
        'models', c.models_cache, 'models_updated_at', c.models_cache_updated_at, 'checked_at', c.checked_at,
        'status', c.status, 'status_reason', c.status_reason, 'updated_at', c.updated_at, 'updated_by', c.updated_by,
        'lane_model', eve.stage_model(c.provider_kind, c.model),
        'key', (
          select jsonb_build_object(
            'id', u.id, 'alias', u.key_alias, 'is_active', u.is_active, 'blocked_until', u.blocked_until,
            'blocked_reason', u.blocked_reason
          )
          from public.google_ai_api_keys u
          where u.env_var_name = 'stage:' || c.stage_type and c.api_key_encrypted is not null
          order by u.created_at, u.id
          limit 1
        )
      )
      from public.provider_configs c
      where c.stage_type = (stage_json.stage).stage_type
    )
  );
$$;
comment on function eve.stage_json is 'A stage with the providers that may serve it and its configuration, if it has one.';

create or replace function public.eve_administrator(user_id uuid)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('administrator', eve.is_administrator(eve_administrator.user_id));
$$;
comment on function public.eve_administrator is 'Whether a signed-in user is an administrator, as auth.users says at this moment.';

create or replace function public.eve_provider_configs(stage_type text default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(eve.stage_json(s) order by s.position, s.stage_type), '[]')
  from eve.stages s
  where eve_provider_configs.stage_type is null or s.stage_type = eve_provider_configs.stage_type;
$$;
comment on function public.eve_provider_configs is 'All stages, or one, as an administrator sees them.';

-- What a call of a stage needs: which model, which keys it must leave alone.
create or replace function public.eve_stage(stage_type text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_stage eve.stages;
  v_config public.provider_configs;
  v_provider text;
begin
  select * into v_stage from eve.stages s where s.stage_type = upper(eve_stage.stage_type);
  if v_stage.stage_type is null then
    return jsonb_build_object(
      'status', 'unknown',
      'stages', (select coalesce(jsonb_agg(s.stage_type order by s.position, s.stage_type), '[]') from eve.stages s)
    );
  end if;
  select * into v_config from public.provider_configs c where c.stage_type = v_stage.stage_type;
  if v_config.stage_type is null then
    return jsonb_build_object(
      'status', 'not_set_up', 'stage_type', v_stage.stage_type, 'produces', v_stage.produces, 'seeded', v_stage.seeded_at is not null,
      'provider_kinds', (
        select coalesce(jsonb_agg(p.provider_kind order by p.position, p.provider_kind), '[]')
        from eve.stage_providers p
        where p.stage_type = v_stage.stage_type
      )
    );
  end if;
  select k.provider into v_provider from eve.provider_kinds k where k.kind = v_config.provider_kind;
  return jsonb_build_object(
    'status', 'set_up', 'stage_type', v_stage.stage_type, 'produces', v_stage.produces,
    'provider_kind', v_config.provider_kind, 'model', v_config.model,
    'config_status', v_config.status, 'config_reason', v_config.status_reason,
    'exclude_keys', (
      -- A stage with a key of its own is served by it alone; one without, by the pool, but not by the keys of other stages.
      select coalesce(jsonb_agg(u.id), '[]')
      from public.google_ai_api_keys u
      where u.is_active
        and case
          when v_config.api_key_encrypted is not null then u.env_var_name is distinct from 'stage:' || v_config.stage_type
          else u.env_var_name like 'stage:%'
        end
        and eve.provider_name(u.provider) = v_provider
    )
  );
end;
$$;
comment on function public.eve_stage is 'Which model serves a stage and which keys are not the stage''s; or that nobody has set it up, or that there is no such stage.';

-- A stage that nobody has set up, served out of the environment: the rows that admission needs, made at its first call.
create or replace function public.eve_stage_from_environment(
  stage_type text, provider_kind text, model text, env_var_name text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
-- `on conflict (model)` would be taken for the argument.
#variable_conflict use_column
declare
  v_alias constant text := 'stage:' || eve_stage_from_environment.stage_type;
  v_provider text;
  v_model text;
begin
  perform eve.check_stage_provider(eve_stage_from_environment.stage_type, eve_stage_from_environment.provider_kind);
  select k.provider into v_provider from eve.provider_kinds k where k.kind = eve_stage_from_environment.provider_kind;
  v_model := eve.stage_model(eve_stage_from_environment.provider_kind, eve_stage_from_environment.model);
  -- A call reads, unless it is the first one or the environment has changed.
  if not exists (
    select from public.google_ai_model_limits m
    where m.model = v_alias and m.replaced_by = v_model and m.provider = v_provider and m.is_active
  ) and not exists (select from public.provider_configs c where c.stage_type = eve_stage_from_environment.stage_type) then
    insert into public.google_ai_model_limits (model, provider, supports_system, supports_json, supports_tools)
    select v_model, k.provider, k.supports_system, k.supports_json, k.supports_tools
    from eve.provider_kinds k
    where k.kind = eve_stage_from_environment.provider_kind
    on conflict do nothing;
    insert into public.google_ai_model_limits as m (model, provider, replaced_by)
    values (v_alias, v_provider, v_model)
    on conflict (model) do update
    set provider = excluded.provider, replaced_by = excluded.replaced_by, is_active = true;
  end if;
  if eve_stage_from_environment.env_var_name is not null
    and not exists (
      select from public.google_ai_api_keys u where u.env_var_name = eve_stage_from_environment.env_var_name
    ) then
    insert into public.google_ai_api_keys (key_alias, provider, env_var_name, is_active, priority, notes)
    values (
      lower(replace(eve_stage_from_environment.env_var_name, '_', '-')), v_provider, eve_stage_from_environment.env_var_name, true, 100,
      'Found in the environment, for stages that nobody has set up.'
    );
  end if;
  return jsonb_build_object(
    'exclude_keys', (
      select coalesce(jsonb_agg(u.id), '[]')
      from public.google_ai_api_keys u
      where u.is_active and eve.provider_name(u.provider) = v_provider
        and case
          when eve_stage_from_environment.env_var_name is null then u.env_var_name like 'stage:%'
          else u.env_var_name is distinct from eve_stage_from_environment.env_var_name
        end
    )
  );
end;
$$;
comment on function public.eve_stage_from_environment is 'Makes the rows by which the environment serves a stage that nobody has set up, and says which keys are not the stage''s.';

create or replace function public.eve_stage_keys()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(u.id), '[]')
  from public.google_ai_api_keys u
  where u.is_active and u.env_var_name like 'stage:%';
$$;
comment on function public.eve_stage_keys is 'The keys that are there for a stage: consumers are served by them through their stages alone.';

-- The secret behind a key's name, still encrypted, with the settings of its provider.
create or replace function public.eve_stage_credential(name text)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select case when starts_with(eve_stage_credential.name, 'stored:') then (
    select jsonb_build_object('provider_kind', 'gemini', 'api_key_encrypted', s.api_key_encrypted, 'settings', '{}'::jsonb)
    from eve.stored_keys s
    where 'stored:' || s.id = eve_stage_credential.name
  )
  else (
    select jsonb_build_object(
      'provider_kind', c.provider_kind, 'api_key_encrypted', c.api_key_encrypted, 'settings', c.settings, 'updated_at', c.updated_at
    )
    from public.provider_configs c
    where 'stage:' || c.stage_type = eve_stage_credential.name
  ) end;
$$;
comment on function public.eve_stage_credential is 'The encrypted key behind the env_var_name stage:POEM or stored:ID, and the settings that go with it; null if there is none.';

-- A key that upstream has refused during a call: its stage says so at once, not when maintenance asks next.
create or replace function eve.stage_key_refused()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_actor constant text := coalesce(current_setting('eve.actor', true), '');
  v_stage text;
begin
  perform set_config('eve.actor', 'a call', true);
  update public.provider_configs c
  set status = 'invalid', status_reason = 'the provider refused the key during a call: ' || coalesce(new.blocked_reason, 'no reason given')
  where 'stage:' || c.stage_type = new.env_var_name and c.api_key_encrypted is not null and c.status <> 'invalid'
  returning c.stage_type into v_stage;
  perform set_config('eve.actor', v_actor, true);
  if v_stage is not null then
    perform eve.open_alert(
      'provider_key_invalid', new.env_var_name, 'critical',
      format('The key of stage %s is refused by its provider: enter another one.', v_stage)
    );
  end if;
  return null;
end;
$$;
comment on function eve.stage_key_refused is 'Marks a stage whose key upstream has refused during a call.';
create or replace trigger eve_stage_key_refused
  after update of blocked_until on public.google_ai_api_keys
  for each row
  when (new.env_var_name like 'stage:%' and new.blocked_until = 'infinity' and old.blocked_until is distinct from 'infinity')
  execute function eve.stage_key_refused();
