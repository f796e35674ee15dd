-- Metrics: counters that never fall, though retention deletes the rows they were counted from, histograms, and all that a scrape shows.
--
-- Nothing is counted while a call runs. public.eve_metrics_count adds what the audit has gained since it was last asked: a
-- scrape costs what happened between two scrapes, whatever the audit's size. A row is counted once and by nobody twice: what
-- was visible to the last count is known from its snapshot, so that no transaction slips through by committing late.
--
-- Tried and dropped: triggers on the audit (a tenth of a reservation's time); sums over the audit (they grow with it, and fall
-- with retention); a lag of some seconds instead of the snapshot (either late or not exact).

insert into eve.metric_sources (source, counted_until, looked_at, snapshot) values
  ('requests', eve.clock(), eve.clock(), pg_current_snapshot()),
  ('refusals', eve.clock(), eve.clock(), pg_current_snapshot())
on conflict (source) do nothing;

-- The upper bounds of a histogram's buckets, in its own unit.
create or replace function eve.metric_bounds(metric text)
returns double precision[]
language sql
immutable
set search_path = ''
as $$
  select case metric_bounds.metric
    when 'eve_wait_seconds' then array[0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 100, 300]
    when 'eve_upstream_duration_seconds' then array[0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 60, 120]
    when 'eve_request_duration_seconds' then array[0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 60, 120, 300]
    when 'eve_estimate_ratio' then array[0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.3, 1.5, 2]
  end::double precision[];
$$;

-- What a histogram's two labels are called.
create or replace function eve.metric_labels(metric text, first text, second text)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select case metric_labels.metric
    when 'eve_wait_seconds' then jsonb_build_object('class', metric_labels.first, 'model', metric_labels.second)
    when 'eve_request_duration_seconds' then jsonb_build_object('outcome', metric_labels.first, 'endpoint', metric_labels.second)
    when 'eve_upstream_duration_seconds' then jsonb_build_object('outcome', metric_labels.first, 'model', metric_labels.second)
    else jsonb_build_object('model', metric_labels.second)
  end;
$$;

-- Two histograms in one: bucket by bucket.
create or replace function eve.metric_sum(one bigint[], other bigint[])
returns bigint[]
language sql
immutable
set search_path = ''
as $$
  select array_agg(coalesce(pair.one, 0) + coalesce(pair.other, 0) order by pair.place)
  from unnest(metric_sum.one, metric_sum.other) with ordinality as pair (one, other, place);
$$;

-- What requests and attempts that have ended since add to counters and histograms.
create or replace function eve.count_requests(
  counted_from timestamptz, counted_to timestamptz, look_from timestamptz, seen pg_snapshot
)
returns integer
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_places constant bigint := eve.alert_setting('metrics_consumers', 100) - (select count(*) from eve.metric_consumers);
  v_count integer;
begin
  -- One statement: what it sees and the snapshot that it leaves behind are the same.
  with mark as (
    update eve.metric_sources s
    set counted_until = count_requests.counted_to, looked_at = eve.clock(), snapshot = pg_current_snapshot()
    where s.source = 'requests'
  ), fresh as materialized (
    select r.request_no, r.endpoint, r.model, r.class, r.state, r.wait_ms, r.received_at, r.finished_at, r.settled_at, r.lane_id,
      r.key_id, r.attempts, r.error_code, r.dispatched, r.tokens_booked, r.input_tokens, r.output_tokens, r.thoughts_tokens,
      r.cached_tokens, r.usage_estimated, r.latency_ms, coalesce(c.name, 'removed') as consumer
    from eve.requests r
    left join eve.consumers c on c.id = r.consumer_id
    where r.finished_at > count_requests.look_from and r.finished_at <= count_requests.counted_to
      and (
        r.finished_at > count_requests.counted_from
        or not pg_visible_in_snapshot(r.written_by, count_requests.seen)
      )
  ), newcomers as (
    insert into eve.metric_consumers (name)
    select n.consumer
    from (select distinct f.consumer from fresh f) n
    where not exists (select from eve.metric_consumers k where k.name = n.consumer)
    order by n.consumer
    limit greatest(v_places, 0)
    returning name
  ), named as materialized (
    select f.*, coalesce(k.name, n.name, 'other') as named
    from fresh f
    left join eve.metric_consumers k on k.name = f.consumer
    left join newcomers n on n.name = f.consumer
  ), tries as materialized (
    select a.*,
      case
        when a.dispatched and not a.usage_estimated and a.input_tokens > 0 then a.tokens_booked::double precision / a.input_tokens
      end as estimate_ratio
    from (
      select f.named as consumer, f.model, f.key_id, f.state as outcome,
        case when f.settled_at is null then f.error_code else coalesce(f.error_code, 'settled_late') end as error_code,
        f.dispatched, f.tokens_booked, f.input_tokens, f.output_tokens, f.thoughts_tokens, f.cached_tokens, f.usage_estimated,
        f.latency_ms
      from named f
      where f.lane_id is not null
      union all
      select f.named, e.model, e.key_id, e.outcome, e.error_code, e.dispatched, e.tokens_booked, e.input_tokens,
        e.output_tokens, e.thoughts_tokens, e.cached_tokens, e.usage_estimated, e.latency_ms
      from named f
      cross join lateral (
        -- Looked up one by one: how many requests are new, no statistics tell.
        select *
        from eve.earlier_attempts t
        where t.request_no = f.request_no
        offset 0
      ) e
      where f.attempts > 1 or f.lane_id is null
    ) a
  ), gained as (
    select 'eve_requests_total' as metric,
      jsonb_build_object('outcome', f.state, 'endpoint', f.endpoint, 'consumer', f.named, 'model', f.model) as labels,
      count(*)::double precision as value
    from named f
    group by f.state, f.endpoint, f.named, f.model
    union all
    select 'eve_attempts_total',
      jsonb_build_object(
        'outcome', t.outcome, 'model', t.model, 'key', coalesce(max(k.key_alias), 'removed'), 'code', coalesce(t.error_code, '')
      ),
      count(*)
    from tries t
    left join public.google_ai_api_keys k on k.id = t.key_id
    group by t.outcome, t.model, coalesce(k.key_alias, 'removed'), coalesce(t.error_code, '')
    union all
    select 'eve_tokens_total', jsonb_build_object('type', kind.name, 'consumer', sums.consumer, 'model', sums.model), kind.tokens
    from (
      select t.consumer, t.model, sum(t.input_tokens) as input, sum(t.output_tokens) as output,
        sum(t.thoughts_tokens) as thoughts, sum(t.cached_tokens) as cached
      from tries t
      group by t.consumer, t.model
    ) sums
    cross join lateral (
      values ('input', sums.input), ('output', sums.output), ('thoughts', sums.thoughts), ('cached', sums.cached)
    ) as kind (name, tokens)
    where kind.tokens > 0
  ), added as (
    insert into eve.metric_counters as c (metric, labels, value)
    select g.metric, g.labels, sum(g.value)
    from gained g
    group by g.metric, g.labels
    order by g.metric, g.labels
    on conflict (metric, labels) do update
    set value = c.value + excluded.value
  ), observed as (
    select 'eve_wait_seconds' as metric, f.class as first, f.model as second, f.wait_ms / 1000.0 as value
    from named f
    union all
    select 'eve_request_duration_seconds', f.state, f.endpoint, extract(epoch from f.finished_at - f.received_at)
    from named f
    union all
    select 'eve_upstream_duration_seconds', t.outcome, t.model, t.latency_ms / 1000.0
    from tries t
    where t.dispatched and t.latency_ms is not null
    union all
    select 'eve_estimate_ratio', null, t.model, t.estimate_ratio
    from tries t
    where t.estimate_ratio is not null
  ), placed as (
    select o.metric, o.first, o.second,
      -- A bound belongs to the bucket below it.
      width_bucket(o.value::double precision - 1e-9, eve.metric_bounds(o.metric)) as bucket,
      count(*) as times, sum(o.value::double precision) as total
    from observed o
    group by 1, 2, 3, 4
  ), spread as (
    insert into eve.metric_histograms as h (metric, labels, counts, total)
    select p.metric,
      eve.metric_labels(p.metric, p.first, p.second) as labels,
      (
        select array_agg(coalesce(q.times, 0)::bigint order by place.bucket)
        from generate_series(0, cardinality(eve.metric_bounds(p.metric))) as place (bucket)
        left join placed q on q.metric = p.metric and q.first is not distinct from p.first and q.second = p.second
          and q.bucket = place.bucket
      ),
      sum(p.total)
    from placed p
    group by p.metric, p.first, p.second
    order by 1, 2
    on conflict (metric, labels) do update
    set counts = eve.metric_sum(h.counts, excluded.counts), total = h.total + excluded.total
  )
  select count(*) into v_count from fresh;
  return v_count;
end;
$$;

create or replace function eve.count_refusals(
  counted_from timestamptz, counted_to timestamptz, look_from timestamptz, seen pg_snapshot
)
returns integer
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_places constant bigint := eve.alert_setting('metrics_consumers', 100) - (select count(*) from eve.metric_consumers);
  v_count integer;
begin
  with mark as (
    update eve.metric_sources s
    set counted_until = count_refusals.counted_to, looked_at = eve.clock(), snapshot = pg_current_snapshot()
    where s.source = 'refusals'
  ), beyond as (
    -- What was only counted says itself how much of it is in the metrics.
    update eve.refusal_counts c
    set counted = c.times
    from (
      select r.id, r.counted from eve.refusal_counts r
      where r.minute > count_refusals.look_from - interval '1 hour' and r.counted < r.times
      for no key update
    ) before
    where c.id = before.id
    returning c.is_first, c.class, c.endpoint, c.code, c.limit_name, c.model, c.consumer_id, c.times - before.counted as times
  ), fresh as materialized (
    select f.is_first, f.class, f.endpoint, f.code, coalesce(f.limit_name, '') as limit_name, f.times,
      -- A caller may name any model, and a name is for ever in a time series.
      coalesce(m.model, 'unknown') as model,
      case when f.consumer_id is null then 'project' else coalesce(c.name, 'removed') end as consumer
    from (
      select r.attempt = 1 as is_first, r.class, r.endpoint, r.code, r.limit_name, r.model, r.consumer_id, 1::bigint as times
      from eve.refusals r
      where r.refused_at > count_refusals.look_from and r.refused_at <= count_refusals.counted_to
        and (
          r.refused_at > count_refusals.counted_from
          or not pg_visible_in_snapshot(r.written_by, count_refusals.seen)
        )
      union all
      select b.is_first, b.class, b.endpoint, b.code, b.limit_name, b.model, b.consumer_id, b.times
      from beyond b
    ) f
    left join eve.consumers c on c.id = f.consumer_id
    left join public.google_ai_model_limits m on m.model = f.model
  ), newcomers as (
    insert into eve.metric_consumers (name)
    select n.consumer
    from (select distinct f.consumer from fresh f) n
    where not exists (select from eve.metric_consumers k where k.name = n.consumer)
    order by n.consumer
    limit greatest(v_places, 0)
    returning name
  ), gained as (
    select 'eve_refusals_total' as metric,
      jsonb_build_object('code', f.code, 'limit', f.limit_name, 'model', f.model, 'class', f.class) as labels,
      sum(f.times)::double precision as value
    from fresh f
    group by f.code, f.limit_name, f.model, f.class
    union all
    -- A later attempt's refusal belongs to a request that has an outcome of its own.
    select 'eve_requests_total',
      jsonb_build_object('outcome', 'refused', 'endpoint', f.endpoint, 'consumer', coalesce(k.name, n.name, 'other'), 'model', f.model),
      sum(f.times)
    from fresh f
    left join eve.metric_consumers k on k.name = f.consumer
    left join newcomers n on n.name = f.consumer
    where f.is_first
    group by f.endpoint, coalesce(k.name, n.name, 'other'), f.model
  ), added as (
    insert into eve.metric_counters as c (metric, labels, value)
    select g.metric, g.labels, g.value
    from gained g
    order by g.metric, g.labels
    on conflict (metric, labels) do update
    set value = c.value + excluded.value
  )
  select coalesce(sum(f.times), 0) into v_count from fresh f;
  return v_count;
end;
$$;

-- Adds what the audit has gained. In pieces of a minute, of up to ten while there is nothing in them, and for two seconds at
-- most, so that one that was not asked for a week gets there by and by.
create or replace function public.eve_metrics_count()
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_began constant timestamptz := clock_timestamp();
  v_source eve.metric_sources;
  v_now timestamptz;
  v_to timestamptz;
  v_look_from timestamptz;
  v_gained integer;
  v_piece interval := '1 minute';
  v_requests integer := 0;
  v_refusals integer := 0;
  v_behind boolean := true;
begin
  -- Anyone who counts at this moment counts for us too.
  if not pg_try_advisory_xact_lock(hashtextextended('eve_metrics_count', 0)) then
    return jsonb_build_object('status', 'busy');
  end if;
  while v_behind and clock_timestamp() < v_began + interval '2 seconds' loop
    v_behind := false;
    v_gained := v_requests + v_refusals;
    for v_source in select * from eve.metric_sources s order by s.source loop
      v_now := eve.clock();
      -- A database that was restored elsewhere has not reached this snapshot yet.
      if pg_snapshot_xmax(v_source.snapshot)::text::bigint > pg_snapshot_xmax(pg_current_snapshot())::text::bigint then
        v_source.snapshot := pg_current_snapshot();
      end if;
      v_to := greatest(v_source.counted_until, least(v_now, v_source.counted_until + v_piece));
      -- A row is dated a moment before it is committed. If the clock has gone back since, nobody knows how long ago that was.
      v_look_from := case
        when v_now >= v_source.looked_at then least(v_source.counted_until, v_source.looked_at) - interval '20 seconds'
        else least(v_source.counted_until, v_now) - interval '15 minutes'
      end;
      if v_source.source = 'requests' then
        v_requests := v_requests + eve.count_requests(v_source.counted_until, v_to, v_look_from, v_source.snapshot);
      else
        v_refusals := v_refusals + eve.count_refusals(v_source.counted_until, v_to, v_look_from, v_source.snapshot);
      end if;
      v_behind := v_behind or v_to < v_now;
    end loop;
    v_piece := case v_requests + v_refusals when v_gained then least(v_piece * 2, interval '10 minutes') else '1 minute' end;
  end loop;
  return jsonb_build_object('status', 'counted', 'requests', v_requests, 'refusals', v_refusals, 'behind', v_behind);
end;
$$;
comment on function public.eve_metrics_count is 'Adds to the counters what the audit has gained since the last time.';

-- Everything that a scrape shows. A database that cannot be written to (full, or read-only) still tells how things are.
create or replace function public.eve_metrics()
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  begin
    perform public.eve_metrics_count();
  exception
    when read_only_sql_transaction or disk_full or lock_not_available then
      null; -- eve_metrics_behind_seconds grows, and says so.
  end;
  return jsonb_build_object(
    'samples', (
      select coalesce(jsonb_agg(jsonb_build_array(s.metric, s.labels, s.value) order by s.metric, s.labels), '[]')
      from (
        select c.metric, c.labels, c.value from eve.metric_counters c
        union all
        select g.metric, g.labels, g.value from eve.metric_gauges() g
      ) s
    ),
    'histograms', (
      select coalesce(jsonb_agg(jsonb_build_array(h.metric, h.labels, to_jsonb(eve.metric_bounds(h.metric)), to_jsonb(h.counts), h.total) order by h.metric, h.labels), '[]')
      from eve.metric_histograms h
    )
  );
end;
$$;
comment on function public.eve_metrics is 'Counters, histograms and gauges of the gateway: samples [name, labels, value] and histograms [name, labels, bounds, counts, sum].';
