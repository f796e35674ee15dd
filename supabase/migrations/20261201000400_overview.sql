-- How the gateway does, what models cost and how that is changed, and whose an id is.

set local lock_timeout = '10s';

create or replace function public.eve_prices()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(p) order by p.model), '[]') from eve.model_prices p;
$$;
comment on function public.eve_prices is 'What models cost, as far as it is known.';

create or replace function public.eve_price_set(
  model text, input_usd numeric default null, cached_usd numeric default null, output_usd numeric default null,
  is_free boolean default false, seen jsonb default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_price eve.model_prices;
begin
  if coalesce(length(eve_price_set.model), 0) not between 1 and 200 then
    raise exception 'model must have 1 to 200 characters' using errcode = 'EV400';
  elsif least(eve_price_set.input_usd, eve_price_set.cached_usd, eve_price_set.output_usd) < 0
    or greatest(eve_price_set.input_usd, eve_price_set.cached_usd, eve_price_set.output_usd) > 1000000 then
    raise exception 'prices must be 0 to 1000000 US dollars a million tokens' using errcode = 'EV400';
  end if;
  if eve_price_set.seen is not null then
    -- One after another, those that are new too.
    lock table eve.model_prices in share row exclusive mode;
    perform eve.require_seen(
      eve_price_set.seen, (select to_jsonb(p) from eve.model_prices p where p.model = eve_price_set.model)
    );
  end if;
  insert into eve.model_prices as p (model, input_usd, cached_usd, output_usd, is_free, as_of)
  values (
    eve_price_set.model, eve_price_set.input_usd, eve_price_set.cached_usd, eve_price_set.output_usd,
    coalesce(eve_price_set.is_free, false), (eve.clock() at time zone 'UTC')::date
  )
  on conflict on constraint model_prices_pkey do update
  set input_usd = excluded.input_usd, cached_usd = excluded.cached_usd, output_usd = excluded.output_usd,
    is_free = excluded.is_free, as_of = excluded.as_of
  returning * into v_price;
  return to_jsonb(v_price);
end;
$$;
comment on function public.eve_price_set is 'Sets what a model costs, as of today; nulls: unknown. With seen, if the fields that were seen are as they were.';

-- Of the last hour, by its newest 10,000 requests: so many are read in milliseconds, whatever the audit has.
create or replace function public.eve_overview()
returns jsonb
language sql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
  with clock as (
    select c.at, c.at - interval '1 hour' as since from (select eve.clock() as at) c
  ), recent as materialized (
    select r.state, r.wait_ms, r.latency_ms, r.error_code
    from clock
    cross join lateral (
      select q.state, q.wait_ms, q.latency_ms, q.error_code
      from eve.requests q
      where q.finished_at >= clock.since
      order by q.finished_at desc
      limit 10000
    ) r
  ), kept as materialized (
    select f.code
    from clock
    cross join lateral (
      select q.code
      from eve.refusals q
      where q.refused_at >= clock.since and q.attempt <= 1
      order by q.refused_at desc
      limit 10000
    ) f
  ), refused as materialized (
    select k.code, 1::bigint as times from kept k
    union all
    -- Those of a flood, which have no rows of their own, by whole minutes.
    select c.code, c.times
    from clock
    join eve.refusal_counts c on c.minute >= date_trunc('minute', clock.since) and c.is_first
  ), errors as (
    select e.code, sum(e.times) as times
    from (
      select r.error_code as code, 1::bigint as times
      from recent r
      where r.error_code is not null and r.state <> 'succeeded'
      union all
      select f.code, f.times from refused f
    ) e
    group by e.code
    order by times desc, e.code
    limit 10
  )
  select jsonb_build_object(
    'since', (select c.since from clock c),
    'requests', (select count(*) from recent),
    'succeeded', (select count(*) from recent r where r.state = 'succeeded'),
    'failed', (select count(*) from recent r where r.state = 'failed'),
    'refused', (select coalesce(sum(f.times), 0) from refused f),
    'is_sample', (select count(*) from recent) >= 10000 or (select count(*) from kept) >= 10000,
    'wait_ms', (
      select jsonb_build_object(
        'p50', percentile_disc(0.5) within group (order by r.wait_ms),
        'p95', percentile_disc(0.95) within group (order by r.wait_ms),
        'p99', percentile_disc(0.99) within group (order by r.wait_ms)
      )
      from recent r
    ),
    'latency_ms', (
      select jsonb_build_object(
        'p50', percentile_disc(0.5) within group (order by r.latency_ms),
        'p95', percentile_disc(0.95) within group (order by r.latency_ms),
        'p99', percentile_disc(0.99) within group (order by r.latency_ms)
      )
      from recent r
      where r.state = 'succeeded' and r.latency_ms is not null
    ),
    'errors', coalesce((select jsonb_agg(to_jsonb(e) order by e.times desc, e.code) from errors e), '[]'),
    -- Upstream rejected it, or said to leave it alone for a while, or it has no secret. Not what a person switched off.
    'bad_keys', coalesce(
      (
        select jsonb_agg(to_jsonb(b) order by b.name)
        from (
          select coalesce(k.key_alias, k.id::text) as name, coalesce(k.blocked_reason, 'secret_missing') as reason,
            case when k.is_active then k.blocked_until end as until
          from clock c
          cross join public.google_ai_api_keys k
          where case
            when k.is_active then k.env_var_name is null or k.blocked_until > c.at
            else k.blocked_reason is not null
          end
          order by name
          limit 20
        ) b
      ),
      '[]'
    ),
    'has_keys', exists (select from public.google_ai_api_keys k where k.is_active),
    'has_consumers', exists (select from eve.consumers c where c.kind <> 'project'),
    'has_requests', exists (select from eve.requests) or exists (select from eve.inflight)
  );
$$;
comment on function public.eve_overview is 'How the last hour went: requests, refusals, errors, what was waited and what upstream took; and whether anything is there yet.';

create or replace function public.eve_find(id text)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_id constant text := btrim(eve_find.id);
  v_uuid uuid;
  v_no bigint;
  v_found jsonb;
begin
  if coalesce(length(v_id), 0) not between 1 and 200 then
    raise exception 'id must have 1 to 200 characters' using errcode = 'EV400';
  end if;
  if v_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    v_uuid := v_id::uuid;
  elsif v_id ~ '^[0-9]{1,18}$' then
    v_no := v_id::bigint;
  end if;
  select coalesce(jsonb_agg(to_jsonb(f)), '[]') into v_found
  from (
    (
      select 'request' as kind, r.request_no::text as id, r.request_id as name, r.finished_at as at, null::text as tenant_id, null::text as consumer
      from eve.requests r
      where r.request_id = v_id or r.request_no = v_no
      order by r.finished_at desc
      limit 10
    )
    union all
    (
      select 'request', i.request_no::text, i.request_id, i.received_at, null, null
      from eve.inflight i
      where i.request_id = v_id
      limit 10
    )
    union all
    (
      -- What was let in after all is found as a request, which tells of its refusals.
      select 'refusal', f.request_id, f.request_id, max(f.refused_at), null, coalesce(c.name, f.consumer_id::text)
      from eve.refusals f
      left join eve.consumers c on c.id = f.consumer_id
      where f.request_id = v_id
        and not exists (
          select
          from eve.requests r
          where r.request_id = v_id and r.consumer_id is not distinct from f.consumer_id
        )
        and not exists (
          select
          from eve.inflight i
          where i.request_id = v_id and i.consumer_id is not distinct from f.consumer_id
        )
      group by f.request_id, f.consumer_id, c.name
      order by max(f.refused_at) desc
      limit 10
    )
    union all
    select 'job', j.id::text, j.request_id, j.submitted_at, null, null from eve.jobs j where j.id = v_uuid
    union all
    select 'chat', c.id::text, null, c.created_at, null, null from public.chats c where c.id = v_uuid
    union all
    select 'post', p.id::text, p.external_id, p.created_at, p.tenant_id, null from public.posts p where p.id = v_uuid
  ) f;
  return v_found;
end;
$$;
comment on function public.eve_find is 'What has this id: requests by their caller''s id or their number, refused ones by the id, a job, a chat, a post.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in ('eve_prices', 'eve_price_set', 'eve_overview', 'eve_find')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
end;
$$;
