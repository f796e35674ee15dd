-- Tenants: whose media, chats and pictures something is; and what consumers may use besides models (scopes).
--
-- A consumer belongs to one tenant, a signed-in user to those that eve.tenant_members names, and the project's secret key to none:
-- it acts for all. Who may act for a tenant is decided in one place, eve.tenant_of_actor, in the transaction that then acts.

set local lock_timeout = '10s';

create table if not exists eve.tenants (
  id text primary key,
  name text,
  is_default boolean not null default false,
  storage_limit_bytes bigint,
  created_at timestamptz not null default now(),
  -- A part of every storage key.
  constraint tenants_id_form check (id ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$'),
  constraint tenants_name_length check (length(name) <= 200),
  constraint tenants_storage_limit_positive check (storage_limit_bytes >= 0)
);
create unique index if not exists tenants_is_default_key on eve.tenants (is_default) where is_default;
comment on table eve.tenants is 'Whose things are kept apart from others''.';
comment on column eve.tenants.is_default is 'Whose a thing is when nobody says: one row.';
comment on column eve.tenants.storage_limit_bytes is 'Bytes of media it may keep; null: the limit tenant of eve.media_limits.';
insert into eve.tenants (id, is_default) values ('default', not exists (select from eve.tenants t where t.is_default))
on conflict (id) do nothing;

create table if not exists eve.tenant_members (
  tenant_id text not null references eve.tenants (id) on delete cascade,
  user_id uuid not null,
  added_at timestamptz not null default now(),
  primary key (tenant_id, user_id)
);
create index if not exists tenant_members_user_id_idx on eve.tenant_members (user_id);
comment on table eve.tenant_members is 'Signed-in users (auth.users) who may act for a tenant.';

alter table eve.consumers
  add column if not exists tenant_id text references eve.tenants (id);
alter table eve.consumers drop constraint if exists consumers_scopes_known;
alter table eve.consumers add constraint consumers_scopes_known
  check (scopes <@ '{llm,media,chats,vision,intake}' and cardinality(scopes) between 1 and 5);
create index if not exists consumers_tenant_id_idx on eve.consumers (tenant_id);
comment on column eve.consumers.tenant_id is 'Whose it is; null: the default tenant''s.';

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

create or replace function eve.default_tenant()
returns text
language sql
stable
set search_path = ''
as $$
  select t.id from eve.tenants t where t.is_default;
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

-- For policies: the tenants of whoever is signed in.
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

create or replace function public.eve_tenants()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', t.id, 'name', t.name, 'is_default', t.is_default, 'storage_limit_bytes', t.storage_limit_bytes,
        'created_at', t.created_at,
        'members', (select count(*) from eve.tenant_members m where m.tenant_id = t.id),
        'consumers', (select count(*) from eve.consumers c where c.tenant_id = t.id)
      )
      order by t.id
    ),
    '[]'
  )
  from eve.tenants t;
$$;
comment on function public.eve_tenants is 'All tenants.';

create or replace function public.eve_tenant_save(
  id text, name text default null, storage_limit_bytes bigint default null, is_default boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  if eve_tenant_save.id is null or eve_tenant_save.id !~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$' then
    raise exception 'a tenant''s id has 1 to 100 letters, digits or . _ -, and does not begin with a dot' using errcode = 'EV400';
  elsif length(eve_tenant_save.name) > 200 or eve_tenant_save.storage_limit_bytes < 0 then
    raise exception 'name must have at most 200 characters, and storage_limit_bytes must not be negative' using errcode = 'EV400';
  end if;
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

create or replace function public.eve_tenant_member(tenant_id text, user_id uuid, is_member boolean default true)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  if eve_tenant_member.user_id is null or not exists (select from eve.tenants t where t.id = eve_tenant_member.tenant_id) then
    raise exception 'give a user''s id, and a tenant that there is' using errcode = 'EV400';
  elsif eve_tenant_member.is_member then
    insert into eve.tenant_members (tenant_id, user_id) values (eve_tenant_member.tenant_id, eve_tenant_member.user_id)
    on conflict do nothing;
  else
    delete from eve.tenant_members m
    where m.tenant_id = eve_tenant_member.tenant_id and m.user_id = eve_tenant_member.user_id;
  end if;
  return jsonb_build_object('status', 'saved');
end;
$$;
comment on function public.eve_tenant_member is 'Adds a signed-in user to a tenant, or takes them out of it.';

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
    raise exception 'there is no tenant %', left(eve_consumer_access.tenant_id, 64) using errcode = 'EV400';
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
  return jsonb_build_object(
    'status', 'saved', 'name', v_consumer.name, 'scopes', v_consumer.scopes,
    'tenant_id', coalesce(v_consumer.tenant_id, eve.default_tenant())
  );
end;
$$;
comment on function public.eve_consumer_access is 'Sets what a consumer may use (scopes) and whose it is (tenant); what is left out stays.';

-- Of consumers what eve_consumers does not tell: scopes and tenants, by name.
create or replace function public.eve_consumer_accesses()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    jsonb_object_agg(
      c.name, jsonb_build_object('scopes', c.scopes, 'tenant_id', coalesce(c.tenant_id, eve.default_tenant()))
    ),
    '{}'
  )
  from eve.consumers c
  where c.kind <> 'project';
$$;
comment on function public.eve_consumer_accesses is 'The scopes and the tenant of each consumer, by its name.';
