-- Requests that were answered 400, or likewise before anything else could be written down of them: counted by code, consumer and
-- minute, so that whoever sends nonsense is seen, and a flood of it fills nothing. The functions count for a second in memory and
-- add that in one call.

create table if not exists eve.bad_requests (
  minute timestamptz not null,
  code text not null,
  subject text not null,
  times bigint not null,
  primary key (minute, code, subject)
);
comment on table eve.bad_requests is 'Requests that were refused for what they are (400, 404, 405, 408, 413), by minute, code and consumer.';
comment on column eve.bad_requests.subject is 'The consumer''s name; project: the project''s own key; empty: nobody had been recognised yet.';
alter table eve.bad_requests enable row level security;
revoke all on table eve.bad_requests from public, anon, authenticated, service_role;
grant select, insert, update, delete on table eve.bad_requests to service_role;

insert into eve.retention (table_name, keep, at_least, description) values
  ('eve.bad_requests', '30 days', '1 day', 'Requests that were refused for what they are, counted.')
on conflict (table_name) do nothing;

create or replace function public.eve_count_bad_requests(counts jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  with counted as (
    select left(t.code, 40) as code, coalesce(c.name, '') as subject, sum(greatest(t.times, 0))::bigint as times
    from jsonb_to_recordset(eve_count_bad_requests.counts) as t (code text, consumer_id uuid, times bigint)
    left join eve.consumers c on c.id = t.consumer_id
    where t.code is not null
    group by 1, 2
  ), noted as (
    insert into eve.bad_requests as b (minute, code, subject, times)
    select date_trunc('minute', eve.clock()), n.code, n.subject, n.times
    from counted n
    order by n.code, n.subject
    on conflict on constraint bad_requests_pkey do update set times = b.times + excluded.times
  )
  insert into eve.metric_counters as m (metric, labels, value)
  select 'eve_bad_requests_total', jsonb_build_object('code', n.code), sum(n.times)
  from counted n
  group by n.code
  order by n.code
  on conflict (metric, labels) do update set value = m.value + excluded.value;
  return jsonb_build_object('status', 'counted');
end;
$$;
comment on function public.eve_count_bad_requests is 'Adds what a function has refused with 400 and the like: a list of code, consumer_id (null: nobody was recognised) and times.';

create or replace function public.eve_bad_requests(
  since timestamptz default null, until timestamptz default null, consumer text default null, at_most integer default 200
)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(one) order by one.times desc, one.code, one.consumer), '[]')
  from (
    select b.code, nullif(b.subject, '') as consumer, sum(b.times)::bigint as times, min(b.minute) as first_at,
      max(b.minute) as last_at
    from eve.bad_requests b
    where b.minute >= coalesce(date_trunc('minute', eve_bad_requests.since), '-infinity')
      and b.minute < coalesce(eve_bad_requests.until, 'infinity')
      and (eve_bad_requests.consumer is null or b.subject = eve_bad_requests.consumer)
    group by 1, 2
    order by 3 desc
    limit least(greatest(eve_bad_requests.at_most, 1), 10000)
  ) one;
$$;
comment on function public.eve_bad_requests is 'What was refused with 400 and the like, summed by code and consumer, the most frequent first.';

revoke all on function public.eve_count_bad_requests, public.eve_bad_requests from public, anon, authenticated;
grant execute on function public.eve_count_bad_requests, public.eve_bad_requests to service_role;
