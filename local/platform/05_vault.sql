-- Stand-in for the extension supabase_vault: the same view and signatures. It keeps secrets as they are, unencrypted:
-- a local cluster's secrets are worth nothing.

create schema if not exists vault;
grant usage on schema vault to postgres with grant option;
grant usage on schema vault to service_role;

create table if not exists vault.secrets (
  id uuid primary key default gen_random_uuid(),
  name text,
  description text not null default '',
  secret text not null,
  key_id uuid,
  nonce bytea default decode(replace(gen_random_uuid()::text, '-', ''), 'hex'),
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);
create unique index if not exists secrets_name_idx on vault.secrets (name) where name is not null;

create or replace view vault.decrypted_secrets with (security_invoker = on) as
select
  s.id,
  s.name,
  s.description,
  s.secret,
  s.secret as decrypted_secret,
  s.key_id,
  s.nonce,
  s.created_at,
  s.updated_at
from vault.secrets as s;

-- Security definer, since callers may not write the table themselves.
create or replace function vault.create_secret(
  new_secret text,
  new_name text default null,
  new_description text default '',
  new_key_id uuid default null
)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  insert into vault.secrets as s (secret, name, description, key_id)
  values (
    create_secret.new_secret,
    create_secret.new_name,
    create_secret.new_description,
    create_secret.new_key_id
  )
  returning s.id into v_id;
  return v_id;
end
$$;

create or replace function vault.update_secret(
  secret_id uuid,
  new_secret text default null,
  new_name text default null,
  new_description text default null,
  new_key_id uuid default null
)
returns void
language sql
security definer
set search_path = ''
as $$
  update vault.secrets as s
  set
    secret = coalesce(update_secret.new_secret, s.secret),
    name = coalesce(update_secret.new_name, s.name),
    description = coalesce(update_secret.new_description, s.description),
    key_id = coalesce(update_secret.new_key_id, s.key_id),
    updated_at = now()
  where s.id = update_secret.secret_id
$$;

grant select, delete on vault.secrets, vault.decrypted_secrets to postgres with grant option;
grant select, delete on vault.secrets, vault.decrypted_secrets to service_role;
revoke all on all functions in schema vault from public;
grant execute on all functions in schema vault to postgres with grant option;
grant execute on all functions in schema vault to service_role;
