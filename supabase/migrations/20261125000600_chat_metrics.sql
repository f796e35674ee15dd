-- What a scrape shows of chats. What ends is counted as it ends, with the other counters in eve.metric_counters; messages are not, since
-- each would wait for the one before it: how many rows there are is read when somebody asks.

set local lock_timeout = '10s';

-- The first one counts as a rise.
insert into eve.metric_counters (metric, labels, value)
select 'eve_chat_answers_total', jsonb_build_object('state', s.state), 0
from unnest(array['complete', 'broken_off', 'abandoned']) as s (state)
union all
select 'eve_chats_removed_total', jsonb_build_object('by', b.by), 0
from unnest(array['erasure', 'retention']) as b (by)
on conflict do nothing;

create or replace function eve.chat_counted(metric text, label text, value text, times bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  if chat_counted.times > 0 then
    insert into eve.metric_counters as c (metric, labels, value)
    values (chat_counted.metric, jsonb_build_object(chat_counted.label, chat_counted.value), chat_counted.times)
    on conflict (metric, labels) do update
    set value = c.value + excluded.value;
  end if;
end;
$$;

-- Rows of a table: exactly up to ten thousand, above that as the planner estimates, since to count a million takes a second.
create or replace function eve.chat_rows(relation regclass)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  v_exactly constant integer := 10000;
  v_rows bigint;
begin
  execute format('select count(*) from (select from %s limit %s) r', chat_rows.relation, v_exactly + 1) into v_rows;
  if v_rows > v_exactly then
    select greatest(c.reltuples::bigint, v_rows) into v_rows from pg_catalog.pg_class c where c.oid = chat_rows.relation;
  end if;
  return v_rows;
end;
$$;

create or replace function public.eve_chat_metrics()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'samples', (
      select coalesce(jsonb_agg(jsonb_build_array(s.metric, s.labels, s.value) order by s.metric, s.labels), '[]')
      from (
        select 'eve_chat_rows' as metric, jsonb_build_object('table', t.name) as labels, eve.chat_rows(('public.' || t.name)::regclass) as value
        from unnest(array['chats', 'messages', 'message_images', 'search_results', 'chat_shares']) as t (name)
        union all
        select 'eve_chat_answers_pending', '{}', count(*) from public.messages m where m.state = 'pending'
      ) s
    ),
    'histograms', '[]'::jsonb
  );
$$;
comment on function public.eve_chat_metrics is 'Gauges of chats, in the form of eve_metrics.';
