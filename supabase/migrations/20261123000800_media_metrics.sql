-- Metrics of media. Functions count what they do and send the sums here in batches; counters stand with the others in eve.metric_counters,
-- which public.eve_metrics shows. What it does not show is added by public.eve_storage_metrics: the histogram and the gauges.

set local lock_timeout = '10s';

create table if not exists eve.media_upload_times (
  content_type text not null,
  size_bucket text not null,
  counts bigint[] not null,
  total double precision not null,
  primary key (content_type, size_bucket)
);
comment on table eve.media_upload_times is 'How long uploads to S3 took since the gateway was installed, by kind and size. They only grow.';
comment on column eve.media_upload_times.counts is 'Uploads per bucket, the last one being those above every bound of eve.media_upload_bounds.';
comment on column eve.media_upload_times.total is 'Seconds, all together.';

-- The first one counts as a rise.
insert into eve.metric_counters (metric, labels, value)
values ('storage_emergency_cleanups_total', '{}', 0)
on conflict do nothing;

-- The upper bounds of the buckets, in seconds.
create or replace function eve.media_upload_bounds()
returns double precision[]
language sql
immutable
set search_path = ''
as $$
  select array[0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]::double precision[];
$$;

-- What a kind is called in metrics: what is about no kind, or about none of ours, has an empty one.
create or replace function eve.media_metric_kind(kind text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case when media_metric_kind.kind in ('media', 'vision', 'crawl') then media_metric_kind.kind else '' end;
$$;

-- Adds what a function has counted. A tenant's name is for ever in a time series, so as many have their own as the setting
-- metrics_consumers says, and the others are `other`; empty: there is no such tenant.
-- sums: {"operations": [{"operation", "result", "content_type", "times"}], "uploads": [{"content_type", "size_bucket", "counts",
-- "seconds"}], "violations": [{"tenant_id", "reason", "times"}], "emergency_cleanups": how many}, at most 1,000 of each.
create or replace function public.eve_storage_count(sums jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_operations constant jsonb := coalesce(eve_storage_count.sums -> 'operations', '[]');
  v_uploads constant jsonb := coalesce(eve_storage_count.sums -> 'uploads', '[]');
  v_violations constant jsonb := coalesce(eve_storage_count.sums -> 'violations', '[]');
  v_buckets constant integer := cardinality(eve.media_upload_bounds()) + 1;
  v_most constant integer := eve.alert_setting('metrics_consumers', 100);
begin
  if greatest(jsonb_array_length(v_operations), jsonb_array_length(v_uploads), jsonb_array_length(v_violations)) > 1000 then
    raise exception 'at most 1000 of each are counted at once' using errcode = 'EV400';
  elsif exists (
    select from jsonb_to_recordset(v_uploads) as u (counts bigint[])
    where cardinality(u.counts) is distinct from v_buckets
  ) then
    raise exception 'uploads need % counts each, one for each bound and one above', v_buckets using errcode = 'EV400';
  end if;
  -- Two that name tenants at once would not see each other's.
  if jsonb_array_length(v_violations) > 0 then
    perform pg_advisory_xact_lock(hashtextextended('eve_storage_count', 0));
  end if;
  with violations as materialized (
    select t.id as tenant_id, case when v.reason in ('total', 'tenant', 'kind', 'spool') then v.reason else '' end as reason,
      greatest(v.times, 0) as times
    from jsonb_to_recordset(v_violations) as v (tenant_id text, reason text, times bigint)
    left join eve.tenants t on t.id = v.tenant_id
  ), known as materialized (
    select distinct c.labels ->> 'tenant_id' as tenant_id from eve.metric_counters c where c.metric = 'storage_quota_violations_total'
  ), named as materialized (
    select k.tenant_id from known k
    union all
    (
      select distinct v.tenant_id
      from violations v
      where v.tenant_id is not null and not exists (select from known k where k.tenant_id = v.tenant_id)
      order by v.tenant_id
      limit greatest(v_most - (select count(*) from known k where k.tenant_id not in ('', 'other')), 0)
    )
  )
  insert into eve.metric_counters as c (metric, labels, value)
  select g.metric, g.labels, sum(g.times)
  from (
    select 's3_operations_total' as metric,
      jsonb_build_object(
        'operation', left(coalesce(o.operation, ''), 40), 'result', left(coalesce(o.result, ''), 40),
        'content_type', eve.media_metric_kind(o.content_type)
      ) as labels,
      greatest(o.times, 0) as times
    from jsonb_to_recordset(v_operations) as o (operation text, result text, content_type text, times bigint)
    union all
    select 'storage_quota_violations_total',
      jsonb_build_object(
        'tenant_id', case when v.tenant_id is null then '' else coalesce(n.tenant_id, 'other') end, 'reason', v.reason
      ),
      v.times
    from violations v
    left join named n on n.tenant_id = v.tenant_id
    union all
    select 'storage_emergency_cleanups_total', '{}', greatest((eve_storage_count.sums ->> 'emergency_cleanups')::bigint, 0)
  ) g
  where g.times > 0
  group by g.metric, g.labels
  order by g.metric, g.labels
  on conflict (metric, labels) do update
  set value = c.value + excluded.value;

  insert into eve.media_upload_times as t (content_type, size_bucket, counts, total)
  select eve.media_metric_kind(u.content_type), left(coalesce(u.size_bucket, ''), 20), u.counts, greatest(u.seconds, 0)
  from jsonb_to_recordset(v_uploads) as u (content_type text, size_bucket text, counts bigint[], seconds double precision)
  order by 1, 2
  on conflict (content_type, size_bucket) do update
  set counts = eve.metric_sum(t.counts, excluded.counts), total = t.total + excluded.total;
  return jsonb_build_object('status', 'counted');
end;
$$;
comment on function public.eve_storage_count is 'Adds to the metrics of storage what a function has counted.';

-- What a scrape shows beside public.eve_metrics, in the same form.
create or replace function public.eve_storage_metrics()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'samples', (
      select coalesce(jsonb_agg(jsonb_build_array(s.metric, s.labels, s.value) order by s.metric, s.labels), '[]')
      from (
        select 'storage_bucket_usage_gb' as metric, jsonb_build_object('content_type', c.subject) as labels, c.used_bytes / 1e9 as value
        from eve.media_counters c
        where c.scope = 'kind'
        union all
        select 'storage_limit_bytes', jsonb_build_object('limit', l.name), l.limit_bytes
        from eve.media_limits l
      ) s
    ),
    'histograms', (
      select coalesce(
        jsonb_agg(
          jsonb_build_array(
            's3_upload_duration_seconds', jsonb_build_object('content_type', t.content_type, 'size_bucket', t.size_bucket),
            to_jsonb(eve.media_upload_bounds()), to_jsonb(t.counts), t.total
          )
          order by t.content_type, t.size_bucket
        ), '[]'
      )
      from eve.media_upload_times t
    )
  );
$$;
comment on function public.eve_storage_metrics is 'Gauges and histograms of storage, in the form of eve_metrics.';

-- Files that are there, by the UTC day on which they came and by kind: {"status": "known", "days": [{"day", "kind", "objects", "bytes"}]},
-- for the project and its administrators. Days on which none came are absent.
create or replace function public.eve_storage_growth(actor jsonb, days integer default 30)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_growth.actor, null, 'media');
  v_since constant timestamptz := date_trunc('day', eve.clock(), 'UTC')
    - make_interval(days => least(greatest(eve_storage_growth.days, 1), 366) - 1);
begin
  if not coalesce((v_who ->> 'project')::boolean, false) then
    return case
      when v_who ->> 'code' is not null then v_who
      else eve.refused('credential_insufficient', 'This is for the project''s secret key and for administrators.')
    end;
  end if;
  return jsonb_build_object(
    'status', 'known', 'days', (
      select coalesce(
        jsonb_agg(jsonb_build_object('day', d.day, 'kind', d.kind, 'objects', d.objects, 'bytes', d.bytes) order by d.day, d.kind), '[]'
      )
      from (
        select (o.first_seen_at at time zone 'UTC')::date as day, o.kind, count(*) as objects, sum(eve.media_bytes(o))::bigint as bytes
        from public.media_objects o
        where o.counts_as = 'used' and o.first_seen_at >= v_since
        group by 1, 2
      ) d
    )
  );
end;
$$;
comment on function public.eve_storage_growth is 'Files that are there, by the day on which they came; for the project alone.';
