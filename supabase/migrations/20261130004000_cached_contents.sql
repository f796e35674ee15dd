-- Cached contents of the Gemini API: what a caller has had kept at Google, and by which key. One belongs to the Google project of its key
-- alone, so calls that name it go there; and to its caller, so nobody else finds it.
--
-- Order of locks: none but rows of eve.cached_contents.

set local lock_timeout = '10s';

insert into eve.settings (name, value, description) values
  ('cached_contents_max', 20, 'How many cached contents of the Gemini API each consumer may have at a time: a project that pays for its calls pays for them by the hour. 0: none are made.')
on conflict (name) do nothing;

create table if not exists eve.cached_contents (
  id text primary key,
  consumer_id uuid,
  owner_id uuid generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')) stored,
  models text[] not null,
  key_id uuid not null,
  quota_key text not null,
  tokens integer not null,
  resource jsonb not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  constraint cached_contents_id_form check (id ~ '^[A-Za-z0-9_-]{1,100}$'),
  constraint cached_contents_tokens_range check (tokens >= 0),
  constraint cached_contents_texts_size check (cardinality(models) between 1 and 10 and length(models::text) <= 2200 and length(quota_key) <= 500),
  constraint cached_contents_resource_size check (length(resource::text) <= 16384)
);
create index if not exists cached_contents_owner_id_created_at_idx on eve.cached_contents (owner_id, created_at);
create index if not exists cached_contents_expires_at_idx on eve.cached_contents (expires_at);
comment on table eve.cached_contents is 'Cached contents of the Gemini API, by the key that made them. Like eve.responses it outlives what it names; what has expired leaves when another is made.';
comment on column eve.cached_contents.id is 'As Google names it, without cachedContents/.';
comment on column eve.cached_contents.models is 'Those that it was asked for with: who may use none of them does not see it.';
comment on column eve.cached_contents.quota_key is 'The Google project that has it, as google_ai_api_keys.quota_key names it.';
comment on column eve.cached_contents.tokens is 'That a prompt which names it has beside its own.';
comment on column eve.cached_contents.resource is 'As Google described it last.';
comment on column eve.cached_contents.expires_at is 'By Google''s word: it is gone then.';

-- Those that a caller sees: the project all of them, a consumer its own, and of those the ones whose models it and its token may use.
create or replace function eve.cached_contents_for(consumer_id uuid, token_id uuid)
returns setof eve.cached_contents
language plpgsql
stable
set search_path = ''
as $$
begin
  perform eve.require_live_caller(cached_contents_for.consumer_id, cached_contents_for.token_id);
  return query
    select k.*
    from eve.cached_contents k
    left join eve.consumers c on c.id = cached_contents_for.consumer_id
    left join eve.scoped_tokens t on t.id = cached_contents_for.token_id
    where (cached_contents_for.consumer_id is null or k.owner_id = cached_contents_for.consumer_id)
      and k.expires_at > eve.clock()
      and (c.models is null or k.models && c.models)
      and (t.models is null or k.models && t.models);
end;
$$;

create or replace function eve.cached_content_missing(id text)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select eve.refused('not_found', format(
    'There is no cachedContents/%s, or it is not yours. Here are those that were made through the gateway, with this caller''s credential.',
    left(cached_content_missing.id, 100)
  ));
$$;

-- {"status": "found", "contents": [resource, ...], "next", "left"}, the newest first. next: what the next page comes after, null at the
-- end. left: how many more the caller may have.
create or replace function public.eve_cached_contents(
  consumer_id uuid default null, token_id uuid default null, page_size integer default 100, page_after text default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_most constant bigint := coalesce((select s.value from eve.settings s where s.name = 'cached_contents_max'), 20);
  v_size constant integer := least(greatest(eve_cached_contents.page_size, 1), 1000);
  v_last record;
  v_page jsonb;
  v_count bigint;
begin
  select k.created_at, k.id into v_last
  from eve.cached_contents_for(eve_cached_contents.consumer_id, eve_cached_contents.token_id) k
  where k.id = eve_cached_contents.page_after;
  if eve_cached_contents.page_after is not null and v_last.id is null then
    return eve.cached_content_missing(eve_cached_contents.page_after);
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'resource', p.resource) order by p.created_at desc, p.id desc), '[]')
  into v_page
  from (
    select k.id, k.resource, k.created_at
    from eve.cached_contents_for(eve_cached_contents.consumer_id, eve_cached_contents.token_id) k
    where eve_cached_contents.page_after is null or (k.created_at, k.id) < (v_last.created_at, v_last.id)
    order by k.created_at desc, k.id desc
    limit v_size + 1
  ) p;
  select count(*) into v_count
  from eve.cached_contents k
  where k.owner_id = coalesce(eve_cached_contents.consumer_id, '00000000-0000-0000-0000-000000000000') and k.expires_at > eve.clock();
  return jsonb_build_object(
    'status', 'found',
    'contents', (
      select coalesce(jsonb_agg(one -> 'resource' order by n), '[]')
      from jsonb_array_elements(v_page) with ordinality as page (one, n)
      where n <= v_size
    ),
    'next', case when jsonb_array_length(v_page) > v_size then v_page -> (v_size - 1) ->> 'id' end,
    'left', greatest(v_most - v_count, 0)
  );
end;
$$;
comment on function public.eve_cached_contents is 'The cached contents that a caller has, in pages.';

-- One of them, and who may be asked about it: {"status": "found", "resource", "tokens", "exclude_keys", "key"}, or a refusal. exclude_keys:
-- those of other projects, where it is not. key: {"alias", "env_var_name"}, one of its project's that is switched on; null: there is none.
create or replace function public.eve_cached_content(id text, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_content eve.cached_contents;
begin
  select k.* into v_content
  from eve.cached_contents_for(eve_cached_content.consumer_id, eve_cached_content.token_id) k
  where k.id = eve_cached_content.id;
  if not found then
    return eve.cached_content_missing(eve_cached_content.id);
  end if;
  return jsonb_build_object(
    'status', 'found', 'resource', v_content.resource, 'tokens', v_content.tokens,
    'exclude_keys', (
      select coalesce(jsonb_agg(u.id), '[]') from public.google_ai_api_keys u where u.quota_key <> v_content.quota_key
    ),
    'key', (
      select jsonb_build_object('alias', u.key_alias::text, 'env_var_name', u.env_var_name::text)
      from public.google_ai_api_keys u
      where u.quota_key = v_content.quota_key and u.is_active and u.env_var_name is not null
      order by u.id = v_content.key_id desc, u.priority
      limit 1
    )
  );
end;
$$;
comment on function public.eve_cached_content is 'A cached content, for those whose it is, with where it is kept.';

-- Notes one that Google has made: {"status": "stored"}. content: {"id", "models", "key_id", "quota_key", "tokens", "resource",
-- "expires_at"} as the columns.
create or replace function public.eve_cached_content_store(content jsonb, consumer_id uuid default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_given constant eve.cached_contents := jsonb_populate_record(null::eve.cached_contents, eve_cached_content_store.content);
begin
  delete from eve.cached_contents k where k.expires_at <= eve.clock();
  insert into eve.cached_contents (id, consumer_id, models, key_id, quota_key, tokens, resource, created_at, expires_at)
  values (
    v_given.id, eve_cached_content_store.consumer_id, v_given.models, v_given.key_id, v_given.quota_key, v_given.tokens, v_given.resource,
    eve.clock(), v_given.expires_at
  );
  return '{"status": "stored"}';
end;
$$;
comment on function public.eve_cached_content_store is 'Notes a cached content that Google has made.';

-- Notes what has become of one: as Google describes it now, or gone (null). {"status": "changed"}, or a refusal.
create or replace function public.eve_cached_content_change(
  id text, resource jsonb, expires_at timestamptz default null, consumer_id uuid default null, token_id uuid default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_found constant jsonb := public.eve_cached_content(
    eve_cached_content_change.id, eve_cached_content_change.consumer_id, eve_cached_content_change.token_id
  );
begin
  if v_found ->> 'status' <> 'found' then
    return v_found;
  end if;
  if eve_cached_content_change.resource is null then
    delete from eve.cached_contents k where k.id = eve_cached_content_change.id;
  else
    update eve.cached_contents k
    set resource = eve_cached_content_change.resource, expires_at = coalesce(eve_cached_content_change.expires_at, k.expires_at)
    where k.id = eve_cached_content_change.id;
  end if;
  return '{"status": "changed"}';
end;
$$;
comment on function public.eve_cached_content_change is 'Notes that a cached content expires at another time, or is gone.';

alter table eve.cached_contents enable row level security;
revoke all on table eve.cached_contents from public, anon, authenticated, service_role;
grant select, insert, update, delete on table eve.cached_contents to service_role;
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace and p.proname ~ '^cached_contents?_'
      or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_cached_contents?(_|$)'
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end;
$$;
