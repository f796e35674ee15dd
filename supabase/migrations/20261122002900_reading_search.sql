-- Reading the audit: requests and refusals by what they are, and the newest as they come.

-- A page of refusals, the newest first, out of the next `scan` rows. `next_before`: where the next page begins; null: there
-- is none.
create or replace function eve.search_refusals(
  consumer_id uuid, model text, key_id uuid, error_code text, since timestamptz, until timestamptz, before bigint, at_most integer,
  scan integer, out refusals jsonb, out next_before bigint
)
language plpgsql
stable
set search_path = ''
as $$
declare
  v_before constant bigint := coalesce(search_refusals.before, 9223372036854775807);
  v_before_at timestamptz := 'infinity';
begin
  if search_refusals.before is not null then
    v_before_at := coalesce(
      (select f.refused_at from eve.refusals f where f.id <= v_before order by f.id desc limit 1), '-infinity'
    );
  end if;
  select coalesce(jsonb_agg(page.one order by page.refused_at desc, page.id desc), '[]'),
    case when count(*) = search_refusals.at_most then (array_agg(page.id order by page.refused_at, page.id))[1] end
  into refusals, next_before
  from (
    select r.id, r.refused_at, eve.refusal_json(r) as one
    from (
      select *
      from eve.refusals f
      where (f.refused_at, f.id) < (v_before_at, v_before) and f.refused_at <= v_before_at
          and f.refused_at >= search_refusals.since and f.refused_at < search_refusals.until
      order by f.refused_at desc, f.id desc
      limit search_refusals.scan
    ) r
    where (search_refusals.consumer_id is null or r.consumer_id = search_refusals.consumer_id)
      and (search_refusals.model is null or r.model = search_refusals.model)
      and (search_refusals.error_code is null or r.code = search_refusals.error_code)
      and search_refusals.key_id is null
    order by r.refused_at desc, r.id desc
    limit search_refusals.at_most
  ) page;
  if next_before is null then
    select f.id into next_before
    from eve.refusals f
    where (f.refused_at, f.id) < (v_before_at, v_before) and f.refused_at <= v_before_at
      and f.refused_at >= search_refusals.since and f.refused_at < search_refusals.until
    order by f.refused_at desc, f.id desc
    offset search_refusals.scan - 1
    limit 1;
  end if;
end;
$$;

-- Requests, the newest first: by the time they ended, and those of one instant by their numbers. At most 100,000 rows are looked at
-- in one call (about 0.1 s), whatever is asked for; `next_before` says where to go on, and null that there is nothing more. So a
-- rare thing in a large audit takes several calls, of which none is long.
--
-- Tried and dropped: the order of the numbers alone, which connections take 32 at a time (one row stood 719 places off), and an
-- index on received_at (another one that every settled call would write; a request is received at most an hour before it ends).
create or replace function public.eve_request_search(
  request_id text default null,
  consumer text default null,
  model text default null,
  key text default null,
  outcome text default null,
  error_code text default null,
  since timestamptz default null,
  until timestamptz default null,
  before bigint default null,
  at_most integer default 50
)
returns jsonb
language plpgsql
stable
set search_path = ''
-- The scan goes along the index by time, backwards, and stops.
set enable_seqscan = 'off'
set enable_bitmapscan = 'off'
set jit = 'off'
as $$
declare
  v_scan constant integer := 100000;
  v_at_most constant integer := least(greatest(eve_request_search.at_most, 1), 1000);
  v_consumer_id constant uuid := eve.consumer_id_of(eve_request_search.consumer);
  v_key_id constant uuid := eve.key_id_of(eve_request_search.key);
  -- The end of the page before, and what is looked at from there.
  v_before bigint := coalesce(eve_request_search.before, 9223372036854775807);
  v_before_at timestamptz := 'infinity';
  v_since constant timestamptz := coalesce(eve_request_search.since, '-infinity');
  v_until constant timestamptz := coalesce(eve_request_search.until, 'infinity');
  v_found jsonb := '[]';
  v_running jsonb := '[]';
  v_last bigint;
begin
  if eve_request_search.outcome is not null
    and eve_request_search.outcome not in ('succeeded', 'failed', 'cancelled', 'expired', 'running', 'refused') then
    raise exception 'outcome must be succeeded, failed, cancelled, expired, running or refused' using errcode = 'EV400';
  end if;

  if eve_request_search.outcome = 'refused' and eve_request_search.request_id is null then
    select page.refusals, page.next_before into v_found, v_last
    from eve.search_refusals(
      v_consumer_id, eve_request_search.model, v_key_id, eve_request_search.error_code, v_since, v_until,
      eve_request_search.before, v_at_most, v_scan
    ) page;
  elsif eve_request_search.request_id is not null and coalesce(eve_request_search.outcome, '') <> 'running' then
    select coalesce(jsonb_agg(eve.request_json(r) order by r.finished_at desc, r.request_no desc), '[]')
    into v_found
    from eve.requests r
    where r.request_id = eve_request_search.request_id and (v_consumer_id is null or r.consumer_id = v_consumer_id)
      and (eve_request_search.outcome is null or r.state = eve_request_search.outcome);
    -- Those of later attempts are listed with their request.
    if coalesce(eve_request_search.outcome, 'refused') = 'refused' then
      select v_found || coalesce(jsonb_agg(found.one order by found.refused_at desc, found.id desc), '[]')
      into v_found
      from (
        select f.id, f.refused_at, eve.refusal_json(f) as one
        from eve.refusals f
        where f.request_id = eve_request_search.request_id
          and (f.attempt = 1 or eve_request_search.outcome = 'refused')
          and (v_consumer_id is null or f.consumer_id = v_consumer_id)
          and (eve_request_search.model is null or f.model = eve_request_search.model)
          and (eve_request_search.error_code is null or f.code = eve_request_search.error_code)
          and (eve_request_search.since is null or f.refused_at >= eve_request_search.since)
          and (eve_request_search.until is null or f.refused_at < eve_request_search.until)
          and v_key_id is null
        order by f.refused_at desc, f.id desc
        limit v_at_most
      ) found;
    end if;
  elsif coalesce(eve_request_search.outcome, '') <> 'running' then
    if eve_request_search.before is not null then
      v_before_at := coalesce(
        (select q.finished_at from eve.requests q where q.request_no <= v_before order by q.request_no desc limit 1), '-infinity'
      );
    end if;
    -- Whatever came before `until` has ended within an hour of it.
    v_before_at := least(v_before_at, v_until + interval '1 hour');
    select coalesce(jsonb_agg(found.one order by found.finished_at desc, found.request_no desc), '[]'),
      case when count(*) = v_at_most then (array_agg(found.request_no order by found.finished_at, found.request_no))[1] end
    into v_found, v_last
    from (
      select r.request_no, r.finished_at, eve.request_json(r) as one
      from (
        select *
        from eve.requests q
        where (q.finished_at, q.request_no) < (v_before_at, v_before) and q.finished_at <= v_before_at
          and q.finished_at >= v_since
        order by q.finished_at desc, q.request_no desc
        limit v_scan
      ) r
      where (v_consumer_id is null or r.consumer_id = v_consumer_id)
        and (eve_request_search.model is null or eve_request_search.model in (r.model, r.requested_model))
        and (v_key_id is null or r.key_id = v_key_id)
        and (eve_request_search.outcome is null or r.state = eve_request_search.outcome)
        and (eve_request_search.error_code is null or r.error_code = eve_request_search.error_code)
        and r.received_at >= v_since and r.received_at < v_until
      order by r.finished_at desc, r.request_no desc
      limit v_at_most
    ) found;
    if v_last is null then
      select q.request_no into v_last
      from eve.requests q
      where (q.finished_at, q.request_no) < (v_before_at, v_before) and q.finished_at <= v_before_at
        and q.finished_at >= v_since
      order by q.finished_at desc, q.request_no desc
      offset v_scan - 1
      limit 1;
    end if;
  end if;

  -- Those that run, on the first page. The table is small.
  if eve_request_search.before is null and coalesce(eve_request_search.outcome, 'running') = 'running'
    and eve_request_search.error_code is null then
    select coalesce(jsonb_agg(found.one order by found.received_at desc, found.request_no desc), '[]')
    into v_running
    from (
      select i.request_no, i.received_at, eve.request_json(eve.as_request(i)) as one
      from eve.inflight i
      where (eve_request_search.request_id is null or i.request_id = eve_request_search.request_id)
        and (v_consumer_id is null or i.consumer_id = v_consumer_id)
        and (eve_request_search.model is null or eve_request_search.model in (i.model, i.requested_model))
        and (v_key_id is null or i.key_id = v_key_id)
        and (eve_request_search.since is null or i.received_at >= eve_request_search.since)
        and (eve_request_search.until is null or i.received_at < eve_request_search.until)
      order by i.received_at desc, i.request_no desc
      limit v_at_most
    ) found;
  end if;
  return jsonb_build_object('requests', v_running || v_found, 'next_before', v_last);
end;
$$;
comment on function public.eve_request_search is 'Requests that run or have ended, the newest first, or refusals (outcome refused, or by their request_id). A page and where the next one begins; a call looks at 100,000 rows at most, so a page may be empty and not the last.';

-- What has ended or was refused since the cursor, the oldest first; without a cursor the last few. Cheap enough to be asked
-- every second: it reads what was written lately and nothing else. Rows become visible a moment after the time that they
-- bear, so two seconds are read again each time: callers must drop what they have seen.
create or replace function public.eve_tail(after jsonb default null, at_most integer default 1000)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set enable_bitmapscan = 'off'
set jit = 'off'
as $$
declare
  v_at_most constant integer := least(greatest(eve_tail.at_most, 1), 10000);
  v_since constant timestamptz := (eve_tail.after ->> 'at')::timestamptz - interval '2 seconds';
  v_request_no bigint;
  v_refusal_no bigint;
  v_events jsonb;
  v_count integer;
  v_last timestamptz;
  v_now constant timestamptz := eve.clock();
begin
  select coalesce(max(r.request_no), 0) into v_request_no from eve.requests r;
  select coalesce(max(f.id), 0) into v_refusal_no from eve.refusals f;
  with ended as (
    (
      select eve.request_json(r) as one, r.finished_at as at, r.request_no as number
      from eve.requests r
      where eve_tail.after is not null and r.finished_at > v_since
      order by r.finished_at, r.request_no
      limit v_at_most
    )
    union all
    (
      select eve.request_json(r), r.finished_at, r.request_no
      from eve.requests r
      where eve_tail.after is null
      order by r.finished_at desc, r.request_no desc
      limit v_at_most
    )
    union all
    (
      select eve.refusal_json(f), f.refused_at, f.id
      from eve.refusals f
      where eve_tail.after is not null and f.refused_at > v_since
      order by f.refused_at, f.id
      limit v_at_most
    )
    union all
    (
      select eve.refusal_json(f), f.refused_at, f.id
      from eve.refusals f
      where eve_tail.after is null
      order by f.refused_at desc, f.id desc
      limit v_at_most
    )
  ), page as (
    select *
    from ended
    -- Following, the oldest come first and the rest next time; at the beginning, the last ones.
    order by case when eve_tail.after is null then extract(epoch from ended.at) * -1 else extract(epoch from ended.at) end
    limit v_at_most
  )
  select coalesce(jsonb_agg(page.one order by page.at, page.number), '[]'), count(*), max(page.at)
  into v_events, v_count, v_last
  from page;
  return jsonb_build_object(
    'events', v_events,
    'cursor', jsonb_build_object(
      'request_no', v_request_no, 'refusal_no', v_refusal_no,
      -- A full page goes on where it ended. Else from here, which an idle hour does not move back.
      'at', case when eve_tail.after is not null and v_count = v_at_most then v_last else v_now end
    )
  );
end;
$$;
comment on function public.eve_tail is 'What has ended or was refused since a cursor that an earlier call answered. The last two seconds are repeated.';
