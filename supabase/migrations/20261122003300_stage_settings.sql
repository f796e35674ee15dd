-- The functions through which the gateway, its maintenance and its administrators use stages. All of them run with the
-- rights of the caller, the service role.

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
  -- A model is one provider's: two that call theirs alike could not be distinguished in the books.
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
    -- The same key entered again: anyone who does so means it to work.
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
  -- Anyone who saved another key or removed the stage meanwhile knows better.
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
    union all
    select 'stored_keys', s.id::text, s.api_key_encrypted
    from eve.stored_keys s
  ) t;
$$;
comment on function public.eve_provider_ciphertexts is 'Every encrypted key, to be encrypted again.';

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
    elsif v_token ->> 'place' = 'stored_keys' then
      update eve.stored_keys s
      set api_key_encrypted = v_token ->> 'replacement'
      where s.id = (v_token ->> 'id')::uuid and s.api_key_encrypted = v_token ->> 'token';
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
