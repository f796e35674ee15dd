-- Tenants: whose media, chats and pictures something is; and what consumers may use besides models (scopes).
--
-- A consumer belongs to one tenant, a signed-in user to those that eve.tenant_members names, and the project's secret key to none:
-- it acts for all. Who may act for a tenant is decided in one place, eve.tenant_of_actor, in the transaction that then acts.

set local lock_timeout = '10s';

create table if not exists eve.tenant_members (
  tenant_id text not null references eve.tenants (id) on delete cascade,
  user_id uuid not null,
  added_at timestamptz not null default now(),
  primary key (tenant_id, user_id)
);
create index if not exists tenant_members_user_id_idx on eve.tenant_members (user_id);
comment on table eve.tenant_members is 'Signed-in users (auth.users) who may act for a tenant.';

-- A refusal that a function answers rather than raises: what has been noted until then stays.
create or replace function eve.refused(code text, message text default null, details jsonb default null, retry_after_ms bigint default null)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_strip_nulls(
    jsonb_build_object(
      'status', 'refused', 'code', refused.code, 'message', refused.message, 'details', refused.details,
      'retry_after_ms', refused.retry_after_ms
    )
  );
$$;

-- What keeps a consumer, and the token that it calls with, from using a scope: null, or the refusal.
create or replace function eve.refusal_of_consumer(consumer eve.consumers, token_id uuid, scope text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_scopes text[] := (consumer).scopes;
begin
  if (consumer).id is null or not (consumer).is_active then
    return eve.refused('consumer_disabled');
  end if;
  if refusal_of_consumer.token_id is not null then
    select coalesce(t.scopes, '{llm}') into v_scopes
    from eve.scoped_tokens t
    where t.id = refusal_of_consumer.token_id and t.consumer_id = (consumer).id and t.revoked_at is null
      and t.expires_at > eve.clock();
    if not found then
      return eve.refused('token_revoked');
    end if;
  end if;
  if refusal_of_consumer.scope <> all (v_scopes) or refusal_of_consumer.scope <> all ((consumer).scopes) then
    return eve.refused(
      'credential_insufficient',
      format('This needs the scope %s, which the consumer%s does not have. Ask the gateway''s owner for it.',
        refusal_of_consumer.scope, case when refusal_of_consumer.token_id is null then '' else ' or its token' end)
    );
  end if;
  return null;
end;
$$;

-- Who asks, and for which tenant they may: {"tenant_id", "project"}, or a refusal.
-- actor: {"kind": "project"}, {"kind": "consumer", "consumer_id", "token_id"} or {"kind": "user", "user_id"}.
-- An administrator acts for all tenants, as the project does.
create or replace function eve.tenant_of_actor(actor jsonb, tenant_id text, scope text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_kind constant text := tenant_of_actor.actor ->> 'kind';
  v_asked constant text := nullif(tenant_of_actor.tenant_id, '');
  v_user constant uuid := (tenant_of_actor.actor ->> 'user_id')::uuid;
  v_consumer eve.consumers;
  v_refusal jsonb;
  v_tenant text;
begin
  if v_kind = 'project' or v_kind = 'user' and eve.is_administrator(v_user) then
    v_tenant := coalesce(v_asked, eve.default_tenant());
    if not exists (select from eve.tenants t where t.id = v_tenant) then
      return eve.refused('unknown_tenant', format('There is no tenant %s.', left(v_tenant, 64)));
    end if;
    return jsonb_build_object('tenant_id', v_tenant, 'project', true);
  elsif v_kind = 'consumer' then
    select * into v_consumer from eve.consumers c where c.id = (tenant_of_actor.actor ->> 'consumer_id')::uuid;
    v_refusal := eve.refusal_of_consumer(v_consumer, (tenant_of_actor.actor ->> 'token_id')::uuid, tenant_of_actor.scope);
    if v_refusal is not null then
      return v_refusal;
    end if;
    v_tenant := coalesce(v_consumer.tenant_id, eve.default_tenant());
    if v_asked <> v_tenant then
      return eve.refused('tenant_not_allowed');
    end if;
  elsif v_kind = 'user' then
    -- Without a word the tenant that they were added to first.
    select m.tenant_id into v_tenant
    from eve.tenant_members m
    where m.user_id = v_user and m.tenant_id = coalesce(v_asked, m.tenant_id)
    order by m.added_at, m.tenant_id
    limit 1;
    if not found then
      return eve.refused('tenant_not_allowed');
    end if;
  else
    raise exception 'an actor has the kind project, consumer or user' using errcode = 'EV500';
  end if;
  return jsonb_build_object('tenant_id', v_tenant, 'project', false);
end;
$$;
comment on function eve.tenant_of_actor is 'The tenant that somebody acts for, or why they may not.';

-- For policies: the tenants of the user who is signed in.
create or replace function eve.member_tenants()
returns setof text
language sql
stable
-- A signed-in user may know which tenants are theirs, and nothing else of the table.
security definer
set search_path = ''
as $$
  select m.tenant_id from eve.tenant_members m where m.user_id = (select auth.uid());
$$;
comment on function eve.member_tenants is 'The tenants that the signed-in user is a member of. For row-level security.';

create or replace function eve.tenant_json(tenant eve.tenants)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', (tenant_json.tenant).id, 'name', (tenant_json.tenant).name, 'is_default', (tenant_json.tenant).is_default,
    'storage_limit_bytes', (tenant_json.tenant).storage_limit_bytes, 'created_at', (tenant_json.tenant).created_at,
    'members', (select count(*) from eve.tenant_members m where m.tenant_id = (tenant_json.tenant).id),
    'consumers', (
      select count(*)
      from eve.consumers c
      where c.kind <> 'project'
        and (c.tenant_id = (tenant_json.tenant).id or c.tenant_id is null and (tenant_json.tenant).is_default)
    )
  );
$$;

create or replace function public.eve_tenants(id text default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(eve.tenant_json(t) order by t.id), '[]')
  from eve.tenants t
  where eve_tenants.id is null or t.id = eve_tenants.id;
$$;
comment on function public.eve_tenants is 'All tenants, or the one of that id.';

-- Raises what is wrong with a tenant's fields.
create or replace function eve.tenant_check(id text, name text, storage_limit_bytes bigint)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if tenant_check.id is null or tenant_check.id !~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$' then
    raise exception 'a tenant''s id has 1 to 100 letters, digits or . _ -, and does not begin with a dot' using errcode = 'EV400';
  elsif length(tenant_check.name) > 200 or tenant_check.storage_limit_bytes < 0 then
    raise exception 'name must have at most 200 characters, and storage_limit_bytes must not be negative' using errcode = 'EV400';
  end if;
end;
$$;

create or replace function public.eve_tenant_save(
  id text, name text default null, storage_limit_bytes bigint default null, is_default boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform eve.tenant_check(eve_tenant_save.id, eve_tenant_save.name, eve_tenant_save.storage_limit_bytes);
  -- One after another: which one is the default is a matter of all rows. Readers and references do not wait.
  lock table eve.tenants in share row exclusive mode;
  if eve_tenant_save.is_default then
    update eve.tenants t set is_default = false where t.is_default and t.id <> eve_tenant_save.id;
  end if;
  insert into eve.tenants as t (id, name, storage_limit_bytes, is_default)
  values (
    eve_tenant_save.id, eve_tenant_save.name, eve_tenant_save.storage_limit_bytes, coalesce(eve_tenant_save.is_default, false)
  )
  on conflict on constraint tenants_pkey do update
  set name = excluded.name, storage_limit_bytes = excluded.storage_limit_bytes,
    is_default = t.is_default or excluded.is_default;
  return jsonb_build_object('status', 'saved', 'id', eve_tenant_save.id);
end;
$$;
comment on function public.eve_tenant_save is 'Adds a tenant, or changes one: what is left out is cleared, except that the default tenant stays it until another one becomes it.';

create or replace function public.eve_tenant_add(
  id text, name text default null, storage_limit_bytes bigint default null, is_default boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  perform eve.tenant_check(eve_tenant_add.id, eve_tenant_add.name, eve_tenant_add.storage_limit_bytes);
  lock table eve.tenants in share row exclusive mode;
  insert into eve.tenants (id) values (eve_tenant_add.id) on conflict do nothing;
  if not found then
    raise exception 'there is a tenant % already', eve_tenant_add.id using errcode = 'EV400';
  end if;
  perform public.eve_tenant_save(
    eve_tenant_add.id, eve_tenant_add.name, eve_tenant_add.storage_limit_bytes, eve_tenant_add.is_default
  );
  return public.eve_tenants(eve_tenant_add.id) -> 0;
end;
$$;
comment on function public.eve_tenant_add is 'Adds a tenant that there is not yet.';

create or replace function public.eve_tenant_change(id text, changes jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_before eve.tenants;
  v_after eve.tenants;
  v_unknown text;
begin
  lock table eve.tenants in share row exclusive mode;
  select * into v_before from eve.tenants t where t.id = eve_tenant_change.id;
  if not found then
    raise exception 'there is no tenant %', left(eve_tenant_change.id, 100) using errcode = 'EV400';
  elsif jsonb_typeof(eve_tenant_change.changes) is distinct from 'object' or eve_tenant_change.changes = '{}' then
    raise exception 'changes must be an object with at least one field' using errcode = 'EV400';
  end if;
  select f into v_unknown
  from jsonb_object_keys(eve_tenant_change.changes) f
  where f not in ('name', 'storage_limit_bytes', 'is_default')
  limit 1;
  if found then
    raise exception 'of a tenant name, storage_limit_bytes and is_default change, not %', v_unknown using errcode = 'EV400';
  end if;
  begin
    v_after := jsonb_populate_record(v_before, eve_tenant_change.changes);
  exception when data_exception then
    raise exception 'a field of the tenant is of another type' using errcode = 'EV400';
  end;
  if v_before.is_default and v_after.is_default is distinct from true then
    raise exception 'there is always a default tenant: make another one it' using errcode = 'EV400';
  end if;
  perform public.eve_tenant_save(v_after.id, v_after.name, v_after.storage_limit_bytes, v_after.is_default);
  return public.eve_tenants(v_after.id) -> 0;
end;
$$;
comment on function public.eve_tenant_change is 'Changes of a tenant what changes names (name, storage_limit_bytes, is_default), and nothing else. Null clears.';

create or replace function public.eve_tenant_members(tenant_id text, at_most integer default 1000)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  if not exists (select from eve.tenants t where t.id = eve_tenant_members.tenant_id) then
    raise exception 'there is no tenant %', left(eve_tenant_members.tenant_id, 100) using errcode = 'EV400';
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('user_id', m.user_id, 'added_at', m.added_at) order by m.added_at, m.user_id), '[]')
    from (
      select m.user_id, m.added_at
      from eve.tenant_members m
      where m.tenant_id = eve_tenant_members.tenant_id
      order by m.added_at, m.user_id
      limit least(greatest(eve_tenant_members.at_most, 1), 1000)
    ) m
  );
end;
$$;
comment on function public.eve_tenant_members is 'The signed-in users who may act for a tenant, those who were added first first; at most 1,000.';

create or replace function public.eve_tenant_member(tenant_id text, user_id uuid, is_member boolean default true)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  if eve_tenant_member.user_id is null then
    raise exception 'give a user''s id' using errcode = 'EV400';
  elsif not exists (select from eve.tenants t where t.id = eve_tenant_member.tenant_id) then
    raise exception 'there is no tenant %', left(eve_tenant_member.tenant_id, 100) using errcode = 'EV400';
  elsif eve_tenant_member.is_member then
    insert into eve.tenant_members (tenant_id, user_id) values (eve_tenant_member.tenant_id, eve_tenant_member.user_id)
    on conflict do nothing;
  else
    delete from eve.tenant_members m
    where m.tenant_id = eve_tenant_member.tenant_id and m.user_id = eve_tenant_member.user_id;
  end if;
  return jsonb_build_object('status', 'saved', 'changed', found);
end;
$$;
comment on function public.eve_tenant_member is 'Adds a signed-in user to a tenant, or takes them out of it; changed: whether that was not so already.';

create or replace function public.eve_consumer_access(name text, scopes text[] default null, tenant_id text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer eve.consumers := eve.consumer_named(eve_consumer_access.name);
begin
  if not coalesce(eve_consumer_access.scopes, '{llm}') <@ '{llm,media,chats,vision,intake}'
    or cardinality(eve_consumer_access.scopes) not between 1 and 5 then
    raise exception 'scopes are one or more of llm, media, chats, vision, intake' using errcode = 'EV400';
  elsif eve_consumer_access.tenant_id is not null
    and not exists (select from eve.tenants t where t.id = eve_consumer_access.tenant_id) then
    raise exception 'there is no tenant %', left(eve_consumer_access.tenant_id, 100) using errcode = 'EV400';
  end if;
  update eve.consumers c
  set scopes = coalesce(
      (select array_agg(distinct s order by s) from unnest(eve_consumer_access.scopes) s), c.scopes
    ),
    tenant_id = coalesce(eve_consumer_access.tenant_id, c.tenant_id)
  where c.id = v_consumer.id
  returning c.* into v_consumer;
  perform eve.log_access(
    'consumer_scoped', v_consumer,
    details => jsonb_build_object('scopes', v_consumer.scopes, 'tenant_id', v_consumer.tenant_id)
  );
  return eve.consumer_json(v_consumer);
end;
$$;
comment on function public.eve_consumer_access is 'Sets what a consumer may use (scopes) and whose it is (tenant); what is left out stays.';

-- Both at once or neither: a consumer that was added without the access that was asked for would have lost its secret.
create or replace function public.eve_consumer_add_with_access(
  name text,
  kind text,
  key_id text,
  proof text,
  models text[] default null,
  max_class text default 'interactive',
  rpm integer default null,
  requests_per_day integer default null,
  tokens_per_day bigint default null,
  token_ttl_s integer default 7200,
  scopes text[] default null,
  tenant_id text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_consumer constant jsonb := public.eve_consumer_add(
    name => eve_consumer_add_with_access.name, kind => eve_consumer_add_with_access.kind,
    key_id => eve_consumer_add_with_access.key_id, proof => eve_consumer_add_with_access.proof,
    models => eve_consumer_add_with_access.models, max_class => eve_consumer_add_with_access.max_class,
    rpm => eve_consumer_add_with_access.rpm, requests_per_day => eve_consumer_add_with_access.requests_per_day,
    tokens_per_day => eve_consumer_add_with_access.tokens_per_day, token_ttl_s => eve_consumer_add_with_access.token_ttl_s
  );
begin
  if eve_consumer_add_with_access.scopes is null and eve_consumer_add_with_access.tenant_id is null then
    return v_consumer;
  end if;
  return public.eve_consumer_access(
    name => eve_consumer_add_with_access.name, scopes => eve_consumer_add_with_access.scopes,
    tenant_id => eve_consumer_add_with_access.tenant_id
  );
end;
$$;
comment on function public.eve_consumer_add_with_access is 'Adds a consumer as eve_consumer_add does, with scopes (llm alone by default) and a tenant (the default one).';
