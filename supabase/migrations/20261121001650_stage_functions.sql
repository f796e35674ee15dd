-- The functions through which the gateway, its maintenance and its administrators use stages. All of them run with the
-- rights of the caller, the service role.

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
  select (
    select jsonb_build_object(
      'provider_kind', c.provider_kind, 'api_key_encrypted', c.api_key_encrypted, 'settings', c.settings, 'updated_at', c.updated_at
    )
    from public.provider_configs c
    where 'stage:' || c.stage_type = eve_stage_credential.name
  );
$$;
comment on function public.eve_stage_credential is 'The encrypted key behind the env_var_name stage:POEM, and the settings that go with it; null if there is none.';

create or replace function eve.close_alerts(subject text, kinds text[])
returns void
language sql
volatile
set search_path = ''
as $$
  update eve.alerts a
  set closed_at = now(), last_seen_at = now()
  where a.subject = close_alerts.subject and a.kind = any (close_alerts.kinds) and a.closed_at is null;
$$;
comment on function eve.close_alerts is 'Closes what is over.';

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

create or replace function eve.check_stage_provider(stage_type text, provider_kind text)
returns void
language plpgsql
stable
set search_path = ''
as $$
declare
  v_allowed text;
begin
  if not exists (select from eve.stages s where s.stage_type = check_stage_provider.stage_type) then
    raise exception 'there is no stage %: the stages are %', check_stage_provider.stage_type,
      (select string_agg(s.stage_type, ', ' order by s.position, s.stage_type) from eve.stages s)
      using errcode = 'EV400';
  end if;
  if not exists (
    select from eve.stage_providers p
    where p.stage_type = check_stage_provider.stage_type and p.provider_kind = check_stage_provider.provider_kind
  ) then
    select string_agg(p.provider_kind, ', ' order by p.position, p.provider_kind) into v_allowed
    from eve.stage_providers p
    where p.stage_type = check_stage_provider.stage_type;
    raise exception '% may not serve %: %', check_stage_provider.provider_kind, check_stage_provider.stage_type,
      coalesce('it may be served by ' || v_allowed, 'no provider may') using errcode = 'EV400';
  end if;
end;
$$;
comment on function eve.check_stage_provider is 'Says in words what the foreign key of provider_configs refuses.';

create or replace function public.eve_provider_save(
  stage_type text,
  provider_kind text,
  model text,
  actor text,
  api_key_encrypted text default null,
  key_fingerprint text default null,
  key_last_four text default null,
  settings jsonb default null,
  quota_project text default null,
  models jsonb default null,
  status text default 'active',
  status_reason text default null,
  remove_key boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_old public.provider_configs;
  v_new public.provider_configs;
  v_kind eve.provider_kinds;
  v_other text;
begin
  if eve_provider_save.actor is null or eve_provider_save.model is null then
    raise exception 'model and actor are needed' using errcode = 'EV400';
  end if;
  perform eve.check_stage_provider(eve_provider_save.stage_type, eve_provider_save.provider_kind);
  perform set_config('eve.actor', left(eve_provider_save.actor, 200), true);
  -- Two who save at once follow one another.
  perform from eve.stages s where s.stage_type = eve_provider_save.stage_type for update;
  select * into v_kind from eve.provider_kinds k where k.kind = eve_provider_save.provider_kind;
  select * into v_old from public.provider_configs c where c.stage_type = eve_provider_save.stage_type;

  v_new.stage_type := eve_provider_save.stage_type;
  v_new.provider_kind := eve_provider_save.provider_kind;
  v_new.model := eve_provider_save.model;
  if eve_provider_save.api_key_encrypted is not null then
    v_new.api_key_encrypted := eve_provider_save.api_key_encrypted;
    v_new.key_fingerprint := eve_provider_save.key_fingerprint;
    v_new.key_last_four := eve_provider_save.key_last_four;
  elsif v_old.provider_kind = eve_provider_save.provider_kind and not eve_provider_save.remove_key then
    v_new.api_key_encrypted := v_old.api_key_encrypted;
    v_new.key_fingerprint := v_old.key_fingerprint;
    v_new.key_last_four := v_old.key_last_four;
  end if;
  if v_new.api_key_encrypted is null and not v_kind.shares_keys then
    raise exception '% needs a key: send api_key', v_kind.title using errcode = 'EV400';
  end if;
  -- A model is one provider's: two that call theirs alike could not be told apart in the books.
  select m.provider into v_other
  from public.google_ai_model_limits m
  where m.model = eve.stage_model(v_new.provider_kind, v_new.model);
  if v_other is not null and eve.provider_name(v_other) <> v_kind.provider then
    raise exception 'google_ai_model_limits says that % is a model of %', v_new.model, v_other using errcode = 'EV400';
  end if;

  insert into public.provider_configs as c (
    stage_type, provider_kind, api_key_encrypted, key_fingerprint, key_last_four, model, settings, quota_project,
    models_cache, models_cache_updated_at, status, status_reason, checked_at
  )
  values (
    v_new.stage_type, v_new.provider_kind, v_new.api_key_encrypted, v_new.key_fingerprint, v_new.key_last_four, v_new.model,
    coalesce(eve_provider_save.settings, case when v_old.provider_kind = v_new.provider_kind then v_old.settings end, '{}'),
    coalesce(
      eve_provider_save.quota_project,
      case when v_old.key_fingerprint = v_new.key_fingerprint and v_old.provider_kind = v_new.provider_kind then v_old.quota_project end
    ),
    coalesce(eve_provider_save.models, case when v_old.provider_kind = v_new.provider_kind then v_old.models_cache end, '[]'),
    case
      when eve_provider_save.models is not null then now()
      when v_old.provider_kind = v_new.provider_kind then v_old.models_cache_updated_at
    end,
    eve_provider_save.status, eve_provider_save.status_reason, now()
  )
  on conflict on constraint provider_configs_pkey do update
  set provider_kind = excluded.provider_kind, api_key_encrypted = excluded.api_key_encrypted,
    key_fingerprint = excluded.key_fingerprint, key_last_four = excluded.key_last_four, model = excluded.model,
    settings = excluded.settings, quota_project = excluded.quota_project, models_cache = excluded.models_cache,
    models_cache_updated_at = excluded.models_cache_updated_at, status = excluded.status,
    status_reason = excluded.status_reason, checked_at = excluded.checked_at;

  if v_old.key_fingerprint is distinct from v_new.key_fingerprint or v_old.provider_kind is distinct from v_new.provider_kind then
    update public.api_keys k
    set used_until = now()
    where k.stage_type = v_new.stage_type and k.used_until is null;
    if v_new.api_key_encrypted is not null then
      insert into public.api_keys (stage_type, provider_kind, fingerprint, last_four, api_key_encrypted, entered_by)
      values (
        v_new.stage_type, v_new.provider_kind, v_new.key_fingerprint, v_new.key_last_four, v_new.api_key_encrypted,
        left(eve_provider_save.actor, 200)
      );
    end if;
  elsif eve_provider_save.api_key_encrypted is not null then
    -- The same key entered anew: whoever does so means it to work.
    update public.google_ai_api_keys u
    set is_active = true, blocked_until = null, blocked_reason = null
    where u.env_var_name = 'stage:' || v_new.stage_type;
  end if;
  update eve.stages s
  set seeded_at = now()
  where s.stage_type = v_new.stage_type and s.seeded_at is null;
  -- A person has looked at it.
  perform eve.close_alerts('stage:' || v_new.stage_type, array['model_vanished']);
  if eve_provider_save.status = 'invalid' then
    perform eve.open_alert(
      'provider_key_invalid', 'stage:' || v_new.stage_type, 'critical',
      format('The key of stage %s is refused by %s: enter another one.', v_new.stage_type, v_kind.title)
    );
  else
    perform eve.close_alerts('stage:' || v_new.stage_type, array['provider_key_invalid']);
  end if;
  return (public.eve_provider_configs(v_new.stage_type)) -> 0;
end;
$$;
comment on function public.eve_provider_save is 'Sets up a stage: provider, key, model. Without a key the one before stays, if the provider is the same.';

-- What a look at a stage's provider brought. A list replaces the cache; a model that has gone is replaced by its successor, or
-- else by the first of the list. Without a list the cache stays.
create or replace function public.eve_provider_checked(
  stage_type text,
  key_fingerprint text,
  actor text,
  models jsonb default null,
  complete boolean default true,
  status text default 'active',
  status_reason text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_config public.provider_configs;
  v_subject constant text := 'stage:' || eve_provider_checked.stage_type;
  v_status text := eve_provider_checked.status;
  v_reason text := eve_provider_checked.status_reason;
  v_model text;
  v_successor text;
begin
  perform set_config('eve.actor', left(eve_provider_checked.actor, 200), true);
  select * into v_config from public.provider_configs c where c.stage_type = eve_provider_checked.stage_type for update;
  -- Whoever saved another key or removed the stage meanwhile knows better.
  if v_config.stage_type is null
    or v_config.key_fingerprint is distinct from eve_provider_checked.key_fingerprint then
    return jsonb_build_object('status', 'overtaken');
  end if;
  v_model := v_config.model;
  if eve_provider_checked.models is not null and jsonb_array_length(eve_provider_checked.models) = 0 then
    v_status := 'error';
    v_reason := 'the provider offers no model to this key';
  elsif eve_provider_checked.models is not null then
    if eve_provider_checked.complete and not eve_provider_checked.models ? v_config.model then
      select coalesce(
        (
          select l.name
          from public.google_ai_model_limits m
          cross join lateral (
            select case k.provider when 'google' then m.replaced_by else substr(m.replaced_by, length(k.kind) + 2) end as name
            from eve.provider_kinds k
            where k.kind = v_config.provider_kind
          ) l
          where m.model = eve.stage_model(v_config.provider_kind, v_config.model) and eve_provider_checked.models ? l.name
        ),
        eve_provider_checked.models ->> 0
      ) into v_successor;
      v_model := v_successor;
      v_status := 'warning';
      v_reason := format('%s is no longer offered: %s serves in its place', v_config.model, v_successor);
      perform eve.open_alert(
        'model_vanished', v_subject, 'warning',
        format(
          'Stage %s: %s no longer offers %s. %s serves in its place until somebody chooses.', eve_provider_checked.stage_type,
          v_config.provider_kind, v_config.model, v_successor
        )
      );
    elsif v_status = 'active' and exists (
      select from eve.alerts a where a.kind = 'model_vanished' and a.subject = v_subject and a.closed_at is null
    ) then
      -- Nobody has looked at it yet.
      v_status := 'warning';
      v_reason := coalesce(
        case when v_config.status = 'warning' then v_config.status_reason end,
        'the chosen model is no longer offered, and another one serves in its place: choose one'
      );
    end if;
  end if;
  if v_status = 'invalid' then
    perform eve.open_alert(
      'provider_key_invalid', v_subject, 'critical',
      format('The key of stage %s is refused by %s: enter another one.', eve_provider_checked.stage_type, v_config.provider_kind)
    );
  elsif v_status in ('active', 'warning') then
    perform eve.close_alerts(v_subject, array['provider_key_invalid']);
  end if;
  if v_successor is not null then
    perform set_config('eve.event', 'model_vanished', true);
  end if;
  update public.provider_configs c
  set model = v_model, status = v_status, status_reason = v_reason, checked_at = now(),
    models_cache = case when v_status = 'error' then c.models_cache else coalesce(eve_provider_checked.models, c.models_cache) end,
    models_cache_updated_at = case
      when eve_provider_checked.models is null or v_status = 'error' then c.models_cache_updated_at else now()
    end
  where c.stage_type = eve_provider_checked.stage_type
    and (
      (c.model, c.status, c.status_reason) is distinct from (v_model, v_status, v_reason) or v_successor is not null
    );
  if not found then
    -- Nothing that a person would call a change: neither its time nor the history should say so.
    update public.provider_configs c
    set checked_at = now(), models_cache = coalesce(eve_provider_checked.models, c.models_cache),
      models_cache_updated_at = case
        when eve_provider_checked.models is null or v_status = 'error' then c.models_cache_updated_at else now()
      end
    where c.stage_type = eve_provider_checked.stage_type;
  end if;
  perform set_config('eve.event', '', true);
  return jsonb_build_object(
    'status', 'noted', 'config_status', v_status, 'model', v_model, 'replaced', v_successor is not null,
    'models', case when eve_provider_checked.models is null then null else jsonb_array_length(eve_provider_checked.models) end
  );
end;
$$;
comment on function public.eve_provider_checked is 'Notes what a provider said about a stage''s key and models, and replaces a model that has gone.';

create or replace function public.eve_provider_remove(stage_type text, actor text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform set_config('eve.actor', left(coalesce(eve_provider_remove.actor, 'sql'), 200), true);
  delete from public.provider_configs c where c.stage_type = eve_provider_remove.stage_type;
  if not found then
    raise exception 'stage % is not set up', eve_provider_remove.stage_type using errcode = 'EV400';
  end if;
  perform eve.close_alerts('stage:' || eve_provider_remove.stage_type, array['model_vanished', 'provider_key_invalid']);
  return (public.eve_provider_configs(eve_provider_remove.stage_type)) -> 0;
end;
$$;
comment on function public.eve_provider_remove is 'Takes a stage''s configuration away: from then on the environment serves it. The history stays.';

-- Once per stage, whatever becomes of the row afterwards.
create or replace function public.eve_provider_seed(configs jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_config jsonb;
  v_seeded text[] := '{}';
begin
  for v_config in select value from jsonb_array_elements(eve_provider_seed.configs) loop
    perform from eve.stages s where s.stage_type = v_config ->> 'stage_type' and s.seeded_at is null for update;
    continue when not found;
    continue when exists (select from public.provider_configs c where c.stage_type = v_config ->> 'stage_type');
    perform public.eve_provider_save(
      stage_type => v_config ->> 'stage_type', provider_kind => v_config ->> 'provider_kind', model => v_config ->> 'model',
      actor => 'environment', api_key_encrypted => v_config ->> 'api_key_encrypted',
      key_fingerprint => v_config ->> 'key_fingerprint', key_last_four => v_config ->> 'key_last_four',
      settings => v_config -> 'settings', quota_project => v_config ->> 'quota_project'
    );
    -- Nobody has asked the provider yet.
    update public.provider_configs c set checked_at = null where c.stage_type = v_config ->> 'stage_type';
    v_seeded := v_seeded || (v_config ->> 'stage_type');
  end loop;
  return jsonb_build_object('seeded', to_jsonb(v_seeded));
end;
$$;
comment on function public.eve_provider_seed is 'Fills stages that were never set up with what the environment holds. Never overwrites, and never twice.';

create or replace function public.eve_provider_history(stage_type text default null, at_most integer default 50, before_id bigint default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(h) order by h.id desc), '[]')
  from (
    select *
    from eve.provider_history h
    where (eve_provider_history.stage_type is null or h.stage_type = eve_provider_history.stage_type)
      and (eve_provider_history.before_id is null or h.id < eve_provider_history.before_id)
    order by h.id desc
    limit least(greatest(coalesce(eve_provider_history.at_most, 50), 1), 500)
  ) h;
$$;
comment on function public.eve_provider_history is 'Changes of stages, the newest first.';

create or replace function public.eve_provider_keys(stage_type text default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'stage_type', k.stage_type, 'provider_kind', k.provider_kind, 'last_four', k.last_four,
        'fingerprint', k.fingerprint, 'entered_by', k.entered_by, 'entered_at', k.entered_at, 'used_until', k.used_until
      ) order by k.id desc
    ), '[]'
  )
  from public.api_keys k
  where eve_provider_keys.stage_type is null or k.stage_type = eve_provider_keys.stage_type;
$$;
comment on function public.eve_provider_keys is 'Every key that was ever entered, by its last four characters, the newest first.';

-- For the change of ADMIN_SECRET_KEY: every token that is kept, and its replacement if it is still the one that was read.
create or replace function public.eve_provider_ciphertexts()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('place', t.place, 'id', t.id, 'token', t.token) order by t.place, t.id), '[]')
  from (
    select 'provider_configs' as place, c.stage_type as id, c.api_key_encrypted as token
    from public.provider_configs c
    where c.api_key_encrypted is not null
    union all
    select 'api_keys', k.id::text, k.api_key_encrypted
    from public.api_keys k
  ) t;
$$;
comment on function public.eve_provider_ciphertexts is 'Every encrypted key, to be encrypted anew.';

create or replace function public.eve_provider_reencrypt(tokens jsonb, actor text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_token jsonb;
  v_changed integer := 0;
  v_rows integer;
begin
  perform set_config('eve.actor', left(coalesce(eve_provider_reencrypt.actor, 'sql'), 200), true);
  for v_token in select value from jsonb_array_elements(eve_provider_reencrypt.tokens) loop
    if v_token ->> 'place' = 'provider_configs' then
      update public.provider_configs c
      set api_key_encrypted = v_token ->> 'replacement'
      where c.stage_type = v_token ->> 'id' and c.api_key_encrypted = v_token ->> 'token';
    elsif v_token ->> 'place' = 'api_keys' then
      update public.api_keys k
      set api_key_encrypted = v_token ->> 'replacement'
      where k.id = (v_token ->> 'id')::bigint and k.api_key_encrypted = v_token ->> 'token';
    else
      raise exception 'no such place: %', v_token ->> 'place' using errcode = 'EV400';
    end if;
    get diagnostics v_rows = row_count;
    v_changed := v_changed + v_rows;
  end loop;
  return jsonb_build_object('changed', v_changed);
end;
$$;
comment on function public.eve_provider_reencrypt is 'Replaces tokens that are still the ones that were read; says how many.';

create or replace function public.eve_administrator(user_id uuid)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('administrator', eve.is_administrator(eve_administrator.user_id));
$$;
comment on function public.eve_administrator is 'Whether a signed-in user is an administrator, as auth.users says at this moment.';

-- What a consumer may do, changed while it works: the next reservation and the next token know.
alter table eve.access_log drop constraint if exists access_log_event_known;
alter table eve.access_log add constraint access_log_event_known check (
  event in (
    'consumer_added', 'consumer_rotated', 'consumer_enabled', 'consumer_disabled', 'consumer_removed', 'consumer_scoped',
    'token_issued', 'token_revoked'
  )
) not valid;
alter table eve.access_log validate constraint access_log_event_known;

create or replace function public.eve_consumer_scope(name text, changes jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_before eve.consumers := eve.consumer_named(eve_consumer_scope.name);
  v_after eve.consumers;
  v_unknown text;
begin
  if jsonb_typeof(eve_consumer_scope.changes) is distinct from 'object' or eve_consumer_scope.changes = '{}' then
    raise exception 'changes must be an object with at least one field' using errcode = 'EV400';
  end if;
  select f into v_unknown
  from jsonb_object_keys(eve_consumer_scope.changes) f
  where f not in ('models', 'max_class', 'rpm', 'requests_per_day', 'tokens_per_day', 'token_ttl_s')
  limit 1;
  if found then
    raise exception 'a consumer''s scope has no %', v_unknown using errcode = 'EV400';
  end if;
  begin
    v_after := jsonb_populate_record(v_before, eve_consumer_scope.changes);
  exception when data_exception then
    raise exception 'a field of the scope is of another type' using errcode = 'EV400';
  end;
  if v_after.max_class is null or v_after.max_class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif v_after.rpm <= 0 or v_after.requests_per_day < 0 or v_after.tokens_per_day < 0 then
    raise exception 'limits must be positive' using errcode = 'EV400';
  elsif v_after.token_ttl_s is null or v_after.token_ttl_s not between 60 and 86400 then
    raise exception 'token_ttl_s must be between 60 and 86400' using errcode = 'EV400';
  elsif cardinality(v_after.models) = 0 then
    raise exception 'models must name at least one model, or be null for all' using errcode = 'EV400';
  end if;
  select m into v_unknown
  from unnest(v_after.models) m
  where not exists (select from public.google_ai_model_limits l where l.model = m)
  limit 1;
  if found then
    raise exception 'there is no model named % in google_ai_model_limits', v_unknown using errcode = 'EV400';
  end if;
  update eve.consumers c
  set models = v_after.models, max_class = v_after.max_class, rpm = v_after.rpm, requests_per_day = v_after.requests_per_day,
    tokens_per_day = v_after.tokens_per_day, token_ttl_s = v_after.token_ttl_s
  where c.id = v_before.id
  returning * into v_after;
  perform eve.log_access('consumer_scoped', v_after, details => eve_consumer_scope.changes);
  return eve.consumer_json(v_after);
end;
$$;
comment on function public.eve_consumer_scope is 'Changes what a consumer may do: what changes names, and nothing else. Null takes a bound away.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where (p.pronamespace = 'public'::regnamespace and (p.proname like 'eve\_provider\_%' or p.proname in ('eve_stage', 'eve_stage_keys', 'eve_stage_credential', 'eve_stage_from_environment', 'eve_administrator', 'eve_consumer_scope')))
      or (p.pronamespace = 'eve'::regnamespace and p.proname in ('stage_json', 'stage_key_refused', 'close_alerts', 'check_stage_provider'))
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
end;
$$;

insert into eve.operations (name, runs_in, schedule, time_limit_ms, description) values
  ('providers_sync', 'http', '29 3 * * *', 100000, 'Asks the provider of each stage about its key and its models.')
on conflict (name) do nothing;

do $$
begin
  perform public.eve_schedule();
exception
  when insufficient_privilege then
    raise notice 'providers_sync: % may not schedule jobs (%); run "select public.eve_schedule();" as a role that may', current_user, sqlerrm;
end;
$$;
