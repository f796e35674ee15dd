-- What a scrape shows of events, beside eve_event_deliveries_total, which stands with the other counters.

-- The first one counts as a rise.
insert into eve.metric_counters (metric, labels, value)
select 'eve_event_deliveries_total', jsonb_build_object('consumer', 'webhook', 'result', r.result), 0
from unnest(array['delivered', 'failed', 'gone', 'lost']) as r (result)
on conflict do nothing;

create or replace function public.eve_event_metrics()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'samples', (
      select coalesce(jsonb_agg(jsonb_build_array(s.metric, s.labels, s.value) order by s.metric, s.labels), '[]')
      from (
        select 'eve_event_oldest_age_seconds' as metric, jsonb_build_object('consumer', k.kind) as labels,
          greatest(coalesce(extract(epoch from eve.clock() - min(oldest.created_at)), 0), 0) as value
        from (select 'webhook' as kind union select c.kind from eve.event_consumers c) k
        left join eve.event_consumers c on c.kind = k.kind
        left join lateral (
          select d.created_at
          from eve.event_deliveries d
          where d.consumer = c.name and d.state = 'pending'
          order by d.created_at
          limit 1
        ) oldest on c.is_active
        group by k.kind
        union all
        select 'eve_dead_letters', jsonb_build_object('consumer', k.kind), count(l.id)
        from (select 'webhook' as kind union select c.kind from eve.event_consumers c) k
        left join eve.event_consumers c on c.kind = k.kind
        left join eve.dead_letters l on l.consumer = c.name
        group by k.kind
      ) s
    ),
    'histograms', '[]'::jsonb
  );
$$;
comment on function public.eve_event_metrics is 'Gauges of events, in the form of eve_metrics.';
