-- The way down of 20261201000250_stored_keys.sql.
-- rows: public.google_ai_api_keys where env_var_name like 'stored:%'

set local lock_timeout = '10s';

-- Without their secrets they open nothing.
delete from public.google_ai_api_keys where env_var_name like 'stored:%';

drop trigger eve_forget_replaced_key on public.google_ai_api_keys;
drop trigger eve_forget_stored_key on public.google_ai_api_keys;

drop function eve.store_key(uuid, jsonb, text);
drop function public.eve_stored_keys();

drop table eve.stored_keys;

drop function eve.forget_stored_key();

CREATE OR REPLACE FUNCTION eve.alert_keys(missing_secrets uuid[])
 RETURNS TABLE(kind text, subject text, severity text, message text, details jsonb)
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select 'key_disabled', k.id::text,
    case when k.is_active and k.blocked_until < 'infinity' then 'warning' else 'critical' end,
    format('Key %s is not used: %s', coalesce(k.key_alias, k.id::text), k.blocked_reason),
    jsonb_build_object('key_alias', k.key_alias, 'quota_project', k.quota_project, 'reason', k.blocked_reason)
  from public.google_ai_api_keys k
  where k.blocked_reason <> 'secret_missing' and (k.is_active is not true or k.blocked_until > eve.clock())
  union all
  select 'secret_missing', k.id::text, 'warning',
    format('Key %s is not used: there is no secret named %s', coalesce(k.key_alias, k.id::text), coalesce(k.env_var_name, '(env_var_name is empty)')),
    jsonb_build_object('key_alias', k.key_alias, 'quota_project', k.quota_project, 'env_var_name', k.env_var_name)
  from public.google_ai_api_keys k
  where k.is_active
    and (k.id = any (alert_keys.missing_secrets) or (k.blocked_reason = 'secret_missing' and k.blocked_until > eve.clock()))
  union all
  select 'model_unavailable', b.key_id::text || ' ' || b.model, 'warning',
    format('Key %s is not used for %s: %s', coalesce(k.key_alias, k.id::text), b.model, b.reason),
    jsonb_build_object('key_alias', k.key_alias, 'model', b.model, 'reason', b.reason)
  from eve.key_model_blocks b
  join public.google_ai_api_keys k on k.id = b.key_id and k.is_active
  where b.blocked_until > eve.clock();
$function$;
CREATE OR REPLACE FUNCTION public.eve_provider_ciphertexts()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(jsonb_build_object('place', t.place, 'id', t.id, 'token', t.token) order by t.place, t.id), '[]')
  from (
    select 'provider_configs' as place, c.stage_type as id, c.api_key_encrypted as token
    from public.provider_configs c
    where c.api_key_encrypted is not null
    union all
    select 'api_keys', k.id::text, k.api_key_encrypted
    from public.api_keys k
  ) t;
$function$;
CREATE OR REPLACE FUNCTION public.eve_provider_reencrypt(tokens jsonb, actor text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;
CREATE OR REPLACE FUNCTION public.eve_stage_credential(name text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select (
    select jsonb_build_object(
      'provider_kind', c.provider_kind, 'api_key_encrypted', c.api_key_encrypted, 'settings', c.settings, 'updated_at', c.updated_at
    )
    from public.provider_configs c
    where 'stage:' || c.stage_type = eve_stage_credential.name
  );
$function$;
comment on function public.eve_stage_credential(text) is 'The encrypted key behind the env_var_name stage:POEM, and the settings that go with it; null if there is none.';
update eve.alert_kinds k
set advice = 'Set the secret that the key''s env_var_name names, or correct the name. The key is used again by itself once the secret is there.'
where k.kind = 'secret_missing' and k.advice like '%A key that is stored here%';
