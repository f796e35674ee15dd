-- Keys of the pool that were entered in the console: the secret itself, encrypted, in place of the name of one.
--
-- Admission knows a key by its env_var_name. That of a stored key is `stored:` and the id of what was entered, which is another one
-- for every secret: so a secret that has changed is used from the next reservation on, and one that was decrypted is good as long as
-- reservations name it.

set local lock_timeout = '10s';

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
alter table eve.stored_keys enable row level security;
revoke all on table eve.stored_keys from public, anon, authenticated, service_role;
grant select, insert, update, delete on table eve.stored_keys to service_role;
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

-- Puts a secret in the place of what a key had, and answers the name that its row is to have.
-- secret: {"api_key_encrypted", "fingerprint", "last_four"}
create or replace function eve.store_key(key_id uuid, secret jsonb, actor text)
returns text
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_id constant uuid := gen_random_uuid();
begin
  if coalesce(char_length(store_key.actor), 0) not between 1 and 320 then
    raise exception 'actor must have 1 to 320 characters' using errcode = 'EV400';
  elsif coalesce(store_key.secret ->> 'api_key_encrypted', '') !~ '^gAAAA[A-Za-z0-9_-]+={0,2}$'
    or octet_length(store_key.secret ->> 'api_key_encrypted') > 20000
    or coalesce(store_key.secret ->> 'fingerprint', '') !~ '^[0-9a-f]{32}$'
    or coalesce(char_length(store_key.secret ->> 'last_four'), 5) > 4 then
    raise exception 'secret must have api_key_encrypted, fingerprint and last_four' using errcode = 'EV400';
  end if;
  insert into eve.stored_keys as s (id, key_id, api_key_encrypted, fingerprint, last_four, entered_by)
  values (
    v_id, store_key.key_id, store_key.secret ->> 'api_key_encrypted', store_key.secret ->> 'fingerprint',
    store_key.secret ->> 'last_four', store_key.actor
  )
  on conflict (key_id) do update
  set id = excluded.id, api_key_encrypted = excluded.api_key_encrypted, fingerprint = excluded.fingerprint,
    last_four = excluded.last_four, entered_by = excluded.entered_by, entered_at = now();
  return 'stored:' || v_id;
end;
$$;
comment on function eve.store_key is 'Keeps the encrypted secret of a key of the pool; answers the env_var_name that leads to it.';

-- [{"key_id", "last_four", "entered_by", "entered_at"}]
create or replace function public.eve_stored_keys()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'key_id', s.key_id, 'last_four', s.last_four, 'entered_by', s.entered_by, 'entered_at', s.entered_at
      )
      order by s.key_id
    ), '[]'
  )
  from eve.stored_keys s;
$$;
comment on function public.eve_stored_keys is 'The keys whose secrets are stored here, without them.';

-- As before, and what stored:ID leads to: a key of Google's, whose calls need nothing else.
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

-- As before, with words for a secret that is stored here: no environment has it, so none can be set.
create or replace function eve.alert_keys(missing_secrets uuid[])
returns table (kind text, subject text, severity text, message text, details jsonb)
language sql
volatile
set search_path = ''
as $$
  select 'key_disabled', k.id::text,
    case when k.is_active and k.blocked_until < 'infinity' then 'warning' else 'critical' end,
    format('Key %s is not used: %s', coalesce(k.key_alias, k.id::text), k.blocked_reason),
    jsonb_build_object('key_alias', k.key_alias, 'quota_project', k.quota_project, 'reason', k.blocked_reason)
  from public.google_ai_api_keys k
  where k.blocked_reason <> 'secret_missing' and (k.is_active is not true or k.blocked_until > eve.clock())
  union all
  select 'secret_missing', k.id::text, 'warning',
    format(
      'Key %s is not used: %s', coalesce(k.key_alias, k.id::text),
      case
        -- A stage's key is kept encrypted as well.
        when k.env_var_name ~ '^(stored|stage):'
          then 'its stored secret cannot be read: ADMIN_SECRET_KEY is not the one that it was stored with, or the secret is gone'
        else 'there is no secret named ' || coalesce(k.env_var_name, '(env_var_name is empty)')
      end
    ),
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
$$;
update eve.alert_kinds k
set advice = 'Set the secret that the key''s env_var_name names, or correct the name. A key that is stored here wants the ADMIN_SECRET_KEY that it was stored with; or enter it again. It is used again by itself.'
where k.kind = 'secret_missing'
  and k.advice = 'Set the secret that the key''s env_var_name names, or correct the name. The key is used again by itself once the secret is there.';

revoke all on function eve.forget_stored_key() from public, anon, authenticated, service_role;
revoke all on function eve.store_key(uuid, jsonb, text) from public, anon, authenticated, service_role;
grant execute on function eve.store_key(uuid, jsonb, text) to service_role;
revoke all on function public.eve_stored_keys() from public, anon, authenticated, service_role;
grant execute on function public.eve_stored_keys() to service_role;
