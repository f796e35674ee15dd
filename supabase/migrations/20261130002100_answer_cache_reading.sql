-- What is kept of answers: shown, set, flushed, counted and cleared.

set local lock_timeout = '10s';

-- Consumers whose answers are kept without their asking: {"CONSUMER_ID": {"ttl_s"}}, for the gateway, which asks again every few seconds.
create or replace function public.eve_cache_consumers()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(k.consumer_id, k.ttl_s), '{}') from eve.consumer_caches k;
$$;
comment on function public.eve_cache_consumers is 'Consumers with a cache of their own, with the seconds that it keeps answers for.';

-- Sets a consumer's cache; ttl_s null: it has none of its own, and its calls ask for it. name: project is the project's own key.
create or replace function public.eve_cache_set(name text, ttl_s integer default null, by_tenant boolean default false)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_consumer eve.consumers;
begin
  select c.* into v_consumer from eve.consumers c where c.id = eve.consumer_id_of(eve_cache_set.name);
  if not found then
    raise exception 'there is no consumer named %', left(eve_cache_set.name, 100) using errcode = 'EV400';
  elsif eve_cache_set.ttl_s not between 0 and 2592000 then
    raise exception 'ttl_s must be between 0 and 2592000, which is 30 days' using errcode = 'EV400';
  end if;
  if eve_cache_set.ttl_s is null then
    delete from eve.consumer_caches k where k.consumer_id = v_consumer.id;
  else
    insert into eve.consumer_caches (consumer_id, ttl_s, by_tenant)
    values (v_consumer.id, eve_cache_set.ttl_s, coalesce(eve_cache_set.by_tenant, false))
    on conflict (consumer_id) do update
    set ttl_s = excluded.ttl_s, by_tenant = excluded.by_tenant;
  end if;
  perform eve.log_access(
    'consumer_scoped', v_consumer, details => jsonb_build_object('cache_ttl_s', eve_cache_set.ttl_s, 'by_tenant', eve_cache_set.by_tenant)
  );
  return jsonb_build_object('consumer', v_consumer.name, 'ttl_s', eve_cache_set.ttl_s, 'by_tenant', coalesce(eve_cache_set.by_tenant, false));
end;
$$;
comment on function public.eve_cache_set is 'Sets how long a consumer''s answers are kept, and whether its tenant shares them.';

-- Sets how much is kept; what is too much goes at once, the oldest first.
create or replace function public.eve_cache_limit(max_bytes bigint)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  if eve_cache_limit.max_bytes is null or eve_cache_limit.max_bytes not between 0 and 1099511627776 then
    raise exception 'max_bytes must be between 0 and 1099511627776' using errcode = 'EV400';
  end if;
  update eve.cache_limits l set max_bytes = eve_cache_limit.max_bytes;
  return jsonb_build_object('max_bytes', eve_cache_limit.max_bytes, 'deleted', eve.cache_trim(100000));
end;
$$;
comment on function public.eve_cache_limit is 'Sets how many bytes of answers are kept.';

-- Deletes answers, and what is being made of them: of a model, a consumer, or the one whose key begins so. everything: where none is named.
create or replace function public.eve_cache_flush(
  model text default null, consumer text default null, key text default null, everything boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_consumer_id constant uuid := eve.consumer_id_of(eve_cache_flush.consumer);
  v_deleted bigint;
begin
  if num_nonnulls(eve_cache_flush.model, eve_cache_flush.consumer, eve_cache_flush.key) = 0 and not eve_cache_flush.everything then
    raise exception 'name a model, a consumer or a key, or say that everything is meant' using errcode = 'EV400';
  elsif eve_cache_flush.key !~ '^[0-9a-f]{8,64}$' then
    raise exception 'a key has 8 to 64 hexadecimal digits' using errcode = 'EV400';
  end if;
  delete from eve.cached_answers a
  where (eve_cache_flush.model is null or eve_cache_flush.model in (a.model, a.requested_model) or a.model is null and eve_cache_flush.model = any (a.models))
    and (v_consumer_id is null or a.consumer_id = v_consumer_id)
    and (eve_cache_flush.key is null or starts_with(a.key_hash, eve_cache_flush.key));
  get diagnostics v_deleted = row_count;
  return jsonb_build_object('deleted', v_deleted);
end;
$$;
comment on function public.eve_cache_flush is 'Deletes kept answers.';

-- What is kept now, and what it has saved in a period (all that is known of by default).
create or replace function public.eve_cache_stats(
  since timestamptz default null, until timestamptz default null, consumer text default null, model text default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
set jit = 'off'
as $$
#variable_conflict use_column
declare
  v_consumer_id constant uuid := eve.consumer_id_of(eve_cache_stats.consumer);
begin
  return (
    with hours as materialized (
      select h.*
      from eve.cache_hours h
      where h.hour >= date_trunc('hour', coalesce(eve_cache_stats.since, '-infinity'), 'UTC')
        and h.hour < coalesce(eve_cache_stats.until, 'infinity')
        and (v_consumer_id is null or h.consumer_id = v_consumer_id)
        and (eve_cache_stats.model is null or h.model = eve_cache_stats.model)
    ), used as (
      select h.consumer_id, h.model, grouping(h.consumer_id) = 1 as is_total,
        jsonb_build_object(
          'hits', coalesce(sum(h.hits), 0), 'misses', coalesce(sum(h.misses), 0),
          'saved_input_tokens', coalesce(sum(h.input_tokens), 0), 'saved_output_tokens', coalesce(sum(h.output_tokens), 0)
        ) as figures,
        sum(h.hits) as hits
      from hours h
      group by grouping sets ((h.consumer_id, h.model), ())
    )
    select jsonb_build_object(
      'totals', (select u.figures from used u where u.is_total),
      'rows', (
        select coalesce(
          jsonb_agg(
            jsonb_build_object('consumer', coalesce(c.name, u.consumer_id::text), 'model', u.model) || u.figures
            order by u.hits desc, u.consumer_id, u.model
          ), '[]'
        )
        from (select * from used u where not u.is_total order by u.hits desc, u.consumer_id, u.model limit 200) u
        left join eve.consumers c on c.id = u.consumer_id
      ),
      'stored', (
        select jsonb_build_object(
          'answers', count(*), 'bytes', coalesce(sum(a.bytes), 0), 'media_bytes', coalesce(sum(a.bytes) filter (where a.media is not null), 0),
          'max_bytes', (select l.max_bytes from eve.cache_limits l), 'oldest_at', min(a.created_at)
        )
        from eve.cached_answers a
        where a.made_until is null
          and (v_consumer_id is null or a.consumer_id = v_consumer_id)
          and (eve_cache_stats.model is null or a.model = eve_cache_stats.model)
      ),
      'consumers', (
        select coalesce(jsonb_agg(jsonb_build_object('consumer', c.name, 'ttl_s', k.ttl_s, 'by_tenant', k.by_tenant) order by c.name), '[]')
        from eve.consumer_caches k
        join eve.consumers c on c.id = k.consumer_id
        where v_consumer_id is null or c.id = v_consumer_id
      )
    )
  );
end;
$$;
comment on function public.eve_cache_stats is 'What the cache holds and what it has saved.';

create or replace function public.eve_cache_metrics()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'samples', jsonb_build_array(
      jsonb_build_array('eve_cache_answers', '{}'::jsonb, count(*)), jsonb_build_array('eve_cache_bytes', '{}'::jsonb, coalesce(sum(a.bytes), 0))
    ),
    'histograms', '[]'::jsonb
  )
  from eve.cached_answers a
  where a.made_until is null;
$$;
comment on function public.eve_cache_metrics is 'Gauges of kept answers, in the form of eve_metrics.';

-- Answers leave when their time is over, and the oldest of them when they are too many.
create or replace function eve.retention_of_cached_answers(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  with old as (
    select a.number
    from eve.cached_answers a
    where a.expires_at <= eve.clock() or a.created_at <= retention_of_cached_answers.before or a.made_until < eve.clock() - interval '1 hour'
    limit retention_of_cached_answers.at_most
    for update skip locked
  )
  delete from eve.cached_answers a using old where a.number = old.number;
  get diagnostics deleted = row_count;
  if deleted < retention_of_cached_answers.at_most then
    deleted := deleted + eve.cache_trim(retention_of_cached_answers.at_most);
  end if;
  next_after := case when deleted >= retention_of_cached_answers.at_most then '{}'::jsonb end;
end;
$$;

create or replace function eve.retention_of_cache_hours(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  with old as (
    select h.hour, h.consumer_id, h.model, h.endpoint
    from eve.cache_hours h
    where h.hour < retention_of_cache_hours.before
    order by h.hour
    limit retention_of_cache_hours.at_most
    for update skip locked
  )
  delete from eve.cache_hours h
  using old
  where h.hour = old.hour and h.consumer_id = old.consumer_id and h.model = old.model and h.endpoint = old.endpoint;
  get diagnostics deleted = row_count;
  next_after := case when deleted >= retention_of_cache_hours.at_most then '{}'::jsonb end;
end;
$$;
insert into eve.retention (table_name, keep, at_least, batch_rows, batch_function, description) values
  ('eve.cached_answers', '30 days', '1 hour', 500, 'retention_of_cached_answers', 'Answers that are kept: each for its own time, this at most.'),
  ('eve.cache_hours', '400 days', '1 day', 2000, 'retention_of_cache_hours', 'What kept answers have saved, by the hour.')
on conflict (table_name) do nothing;

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    where c.relkind = 'r' and c.relnamespace = 'eve'::regnamespace
      and c.relname in ('consumer_caches', 'cache_limits', 'cached_answers', 'cache_hours')
  loop
    execute format('alter table %s enable row level security', v_object.relation);
    execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
    execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
  end loop;
  for v_object in
    select p.oid::regprocedure as signature, p.prorettype <> 'trigger'::regtype as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(cached?_|retention_of_cache)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_cache_'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;
