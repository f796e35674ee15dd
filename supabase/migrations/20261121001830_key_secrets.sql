-- A key whose secret has changed is used again.
--
-- Upstream rejects a secret, not the row that names it: a mistyped one, say, that is put right the next minute. So the hash of
-- what was rejected is kept, and whoever finds another secret under the key's env_var_name says so. Three do: the gateway, when a
-- request finds no key; the maintenance operation key_health, once that secret works; the local stack as it starts. What a person
-- has switched off stays off.

-- A hash that nobody knows is no hash, and no reason to fail a settlement.
create or replace function eve.remember_rejected_secret(key_id uuid, secret_hash text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- More than the secrets that instances run with at one time.
  v_kept constant integer := 20;
begin
  if remember_rejected_secret.secret_hash is null or remember_rejected_secret.secret_hash !~ '^[0-9a-f]{64}$' then
    return;
  end if;
  insert into eve.rejected_secrets as r (key_id, secret_hash, rejected_at)
  values (remember_rejected_secret.key_id, remember_rejected_secret.secret_hash, eve.clock())
  on conflict on constraint rejected_secrets_pkey do update set rejected_at = excluded.rejected_at;
  delete from eve.rejected_secrets r
  where r.key_id = remember_rejected_secret.key_id
    and r.secret_hash in (
      select o.secret_hash
      from eve.rejected_secrets o
      where o.key_id = remember_rejected_secret.key_id
      order by o.rejected_at desc, o.secret_hash
      offset v_kept
    );
end;
$$;
comment on function eve.remember_rejected_secret is 'Keeps the hash of a secret that upstream rejected.';

-- Whoever switches a key off means it, whatever it was blocked for: without the reason nothing switches it on again. The gateway's
-- own hand is known by its changing blocked_until in the same breath.
create or replace function eve.key_switched_off()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.blocked_until := null;
  new.blocked_reason := null;
  return new;
end;
$$;
create or replace trigger eve_key_switched_off
before update of is_active on public.google_ai_api_keys
for each row
when (
  old.is_active and new.is_active is not true
  and new.blocked_until is not distinct from old.blocked_until
  and new.blocked_reason is not distinct from old.blocked_reason
)
execute function eve.key_switched_off();

create or replace function eve.key_secrets_gone()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  delete from eve.rejected_secrets r where r.key_id = old.id;
  return null;
exception
  -- Whoever may delete the key's row need not be let into schema eve. What stays says nothing of any secret in use.
  when insufficient_privilege then
    return null;
end;
$$;
create or replace trigger eve_key_secrets_gone
after delete on public.google_ai_api_keys
for each row
execute function eve.key_secrets_gone();

-- [{"id", "alias", "env_var_name", "rejected": [hashes]}]
create or replace function public.eve_keys_awaiting_secrets()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'alias', coalesce(k.key_alias, k.id::text), 'env_var_name', k.env_var_name,
        'rejected', to_jsonb(rejected.hashes)
      )
      order by k.priority, k.id
    ), '[]'
  )
  from public.google_ai_api_keys k
  cross join lateral (select eve.rejected_hashes(k.id) as hashes) rejected
  where k.env_var_name is not null and k.env_var_name not like 'stage:%'
    and (
      (eve.key_was_rejected(k) and rejected.hashes <> '{}')
      or (k.is_active and k.blocked_reason = 'secret_missing' and k.blocked_until > eve.clock())
    );
$$;
comment on function public.eve_keys_awaiting_secrets is 'The keys that another secret would put into use again, with the hashes of those that upstream has rejected.';

-- Whoever calls this has found a secret with this hash: {"change": "enabled" | "none"}.
create or replace function public.eve_key_secret_changed(key_id uuid, secret_hash text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_key public.google_ai_api_keys;
  v_rejected text[];
begin
  if eve_key_secret_changed.secret_hash is null or eve_key_secret_changed.secret_hash !~ '^[0-9a-f]{64}$' then
    raise exception 'secret_hash must be 64 hexadecimal digits' using errcode = 'EV400';
  end if;
  select k.* into v_key
  from public.google_ai_api_keys k
  where k.id = eve_key_secret_changed.key_id
  for no key update;
  v_rejected := eve.rejected_hashes(eve_key_secret_changed.key_id);
  if eve_key_secret_changed.secret_hash = any (v_rejected) then
    return jsonb_build_object('change', 'none');
  end if;
  if eve.key_was_rejected(v_key) and v_rejected <> '{}' then
    -- Another secret may be of another project: which models it may use is to be seen.
    delete from eve.key_model_blocks b where b.key_id = eve_key_secret_changed.key_id;
  elsif not (v_key.is_active and v_key.blocked_reason = 'secret_missing' and v_key.blocked_until > eve.clock()) is true then
    return jsonb_build_object('change', 'none');
  end if;
  -- Its alerts are closed by the row's trigger.
  update public.google_ai_api_keys k
  set is_active = true, blocked_until = null, blocked_reason = null
  where k.id = eve_key_secret_changed.key_id;
  return jsonb_build_object('change', 'enabled');
end;
$$;
comment on function public.eve_key_secret_changed is 'Puts a key into use again whose secret is another than those that upstream has rejected.';

do $$
declare
  v_signature regprocedure;
begin
  foreach v_signature in array array[
    'eve.remember_rejected_secret(uuid, text)', 'eve.key_switched_off()', 'eve.key_secrets_gone()',
    'public.eve_keys_awaiting_secrets()', 'public.eve_key_secret_changed(uuid, text)'
  ]::regprocedure[]
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_signature);
    execute format('grant execute on function %s to service_role', v_signature);
  end loop;
end;
$$;
