-- Keys of the pool that were entered in the console: the secret itself, encrypted, in place of the name of one.
--
-- Admission knows a key by its env_var_name. That of a stored key is `stored:` and the id of what was entered, which is another one
-- for every secret: so a secret that has changed is used from the next reservation on, and one that was decrypted is good as long as
-- reservations name it.

set local lock_timeout = '10s';

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

revoke all on function eve.store_key(uuid, jsonb, text) from public, anon, authenticated, service_role;
grant execute on function eve.store_key(uuid, jsonb, text) to service_role;
revoke all on function public.eve_stored_keys() from public, anon, authenticated, service_role;
grant execute on function public.eve_stored_keys() to service_role;
