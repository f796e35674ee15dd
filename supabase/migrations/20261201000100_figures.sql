-- Lists as people read them: every call, whether it ended, runs or was refused; consumers, page by page.

set local lock_timeout = '10s';

-- Requests and refusals in one list, the newest first: by the time they ended, those that run before them. `before` and
-- `next_before` are places in both lists, "request_no.refusal_no". Each is looked through as in eve_request_search, and shown as far
-- as both have been. A refusal of a later attempt is listed with its request.
create or replace function public.eve_request_log(
  consumer text default null,
  model text default null,
  key text default null,
  error_code text default null,
  since timestamptz default null,
  until timestamptz default null,
  before text default null,
  at_most integer default 50
)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_at_most constant integer := least(greatest(eve_request_log.at_most, 1), 1000);
  v_request_before bigint;
  v_refusal_before bigint;
  v_requests jsonb;
  v_refusals jsonb;
  v_request_next bigint;
  v_refusal_next bigint;
  v_horizon timestamptz := '-infinity';
  v_page jsonb;
  v_shown record;
begin
  if eve_request_log.before !~ '^[0-9]{1,18}\.[0-9]{1,18}$' then
    raise exception 'before must be the next_before of an earlier page' using errcode = 'EV400';
  elsif eve_request_log.before is not null then
    -- 0: nothing of that list has been shown.
    v_request_before := nullif(split_part(eve_request_log.before, '.', 1)::bigint, 0);
    v_refusal_before := nullif(split_part(eve_request_log.before, '.', 2)::bigint, 0);
  end if;
  v_requests := public.eve_request_search(
    consumer => eve_request_log.consumer, model => eve_request_log.model, key => eve_request_log.key,
    error_code => eve_request_log.error_code, since => eve_request_log.since, until => eve_request_log.until,
    before => v_request_before, at_most => v_at_most
  );
  select r.refusals, r.next_before into v_refusals, v_refusal_next
  from eve.search_refusals(
    eve.consumer_id_of(eve_request_log.consumer), eve_request_log.model, eve.key_id_of(eve_request_log.key),
    eve_request_log.error_code, coalesce(eve_request_log.since, '-infinity'), coalesce(eve_request_log.until, 'infinity'),
    v_refusal_before, v_at_most, 100000
  ) r;
  v_request_next := (v_requests ->> 'next_before')::bigint;
  if v_request_next is not null then
    v_horizon := (select q.finished_at from eve.requests q where q.request_no = v_request_next limit 1);
  end if;
  if v_refusal_next is not null then
    v_horizon := greatest(v_horizon, (select f.refused_at from eve.refusals f where f.id = v_refusal_next limit 1));
  end if;

  with found as (
    select r.one, (r.one ->> 'finished_at')::timestamptz as at, (r.one ->> 'request_no')::bigint as request_no,
      null::bigint as refusal_no
    from jsonb_array_elements(v_requests -> 'requests') as r (one)
    where r.one ->> 'state' <> 'running'
    union all
    select f.one, (f.one ->> 'finished_at')::timestamptz, null, (f.one ->> 'refusal_no')::bigint
    from jsonb_array_elements(v_refusals) as f (one)
    where (f.one ->> 'attempts')::integer = 0
  ), page as (
    select p.*
    from found p
    where p.at >= v_horizon
    order by p.at desc, p.request_no desc nulls last, p.refusal_no desc
    limit v_at_most
  )
  select
    coalesce(jsonb_agg(p.one order by p.at desc, p.request_no desc nulls last, p.refusal_no desc), '[]') as rows,
    (array_agg(p.request_no order by p.at, p.request_no) filter (where p.request_no is not null))[1] as request_no,
    (array_agg(p.refusal_no order by p.at, p.refusal_no) filter (where p.refusal_no is not null))[1] as refusal_no,
    count(p.request_no) = (select count(f.request_no) from found f) as has_all_requests,
    count(p.refusal_no) = (select count(f.refusal_no) from found f) as has_all_refusals
  into v_shown
  from page p;
  select coalesce(jsonb_agg(r.one order by r.place), '[]') into v_page
  from jsonb_array_elements(v_requests -> 'requests') with ordinality as r (one, place)
  where r.one ->> 'state' = 'running' and eve_request_log.before is null;

  return jsonb_build_object(
    'requests', v_page || v_shown.rows,
    'next_before', case
      when v_request_next is not null or v_refusal_next is not null or not v_shown.has_all_requests
        or not v_shown.has_all_refusals
      then format(
        '%s.%s',
        coalesce(
          case when v_shown.has_all_requests then v_request_next end, v_shown.request_no, v_request_before, 0
        ),
        coalesce(case when v_shown.has_all_refusals then v_refusal_next end, v_shown.refusal_no, v_refusal_before, 0)
      )
    end
  );
end;
$$;
comment on function public.eve_request_log is 'Requests that run or have ended, and refusals, in one list, the newest first, with where the next page begins; a page may be empty and not the last.';

-- Consumers by name, those after one, as many as fit on a page; `search`: a part of the name or of the tenant's.
create or replace function public.eve_consumer_page(search text default null, after text default null, at_most integer default 50)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_at_most constant integer := least(greatest(eve_consumer_page.at_most, 1), 1000);
  v_search constant text := lower(eve_consumer_page.search);
  v_names text[];
  v_total bigint;
begin
  select count(*), (array_agg(c.name order by c.name) filter (where c.name > coalesce(eve_consumer_page.after, '')))[1 : v_at_most + 1]
  into v_total, v_names
  from eve.consumers c
  where c.kind <> 'project'
    and (v_search is null or strpos(lower(c.name), v_search) > 0 or strpos(lower(coalesce(c.tenant_id, '')), v_search) > 0);
  return jsonb_build_object(
    'consumers', (
      select coalesce(jsonb_agg(eve.consumer_json(c) order by c.name), '[]')
      from eve.consumers c
      where c.name = any (v_names[1 : v_at_most])
    ),
    'total', v_total,
    'next_after', case when cardinality(v_names) > v_at_most then v_names[v_at_most] end
  );
end;
$$;
comment on function public.eve_consumer_page is 'Consumers by name, a page of them: how many there are in all, and after whom the next page begins.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'eve'::regnamespace and p.proname = 'waited_ms'
      or p.pronamespace = 'public'::regnamespace and p.proname in ('eve_request_log', 'eve_consumer_page')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
end;
$$;
