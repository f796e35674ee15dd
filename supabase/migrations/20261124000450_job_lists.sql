-- Jobs that were handed in together and bear one batch_id: how far they are, and their results in order.

set local lock_timeout = '10s';

-- {"states": {state: how many}, "waiting": {first model: how many have not ended}, "submitted_at", "finished_at": of the last one, null while one
-- has not ended}. Null: the consumer has no such jobs.
create or replace function public.eve_jobs_of_batch(batch_id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
#variable_conflict use_column
declare
  v_answer jsonb;
begin
  perform eve.require_live_caller(eve_jobs_of_batch.consumer_id, eve_jobs_of_batch.token_id);
  with mine as materialized (
    select j.state, coalesce(j.models[1], '') as model, j.submitted_at, j.finished_at
    from eve.jobs j
    left join eve.consumers c on c.id = eve_jobs_of_batch.consumer_id
    left join eve.scoped_tokens t on t.id = eve_jobs_of_batch.token_id
    where j.batch_id = eve_jobs_of_batch.batch_id
      and (eve_jobs_of_batch.consumer_id is null or j.owner_id = eve_jobs_of_batch.consumer_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models)
  )
  select jsonb_build_object(
    'states', (select jsonb_object_agg(s.state, s.jobs) from (select m.state, count(*) as jobs from mine m group by m.state) s),
    'waiting', (
      select coalesce(jsonb_object_agg(w.model, w.jobs), '{}')
      from (select m.model, count(*) as jobs from mine m where m.finished_at is null group by m.model) w
    ),
    'submitted_at', min(m.submitted_at),
    'finished_at', case when bool_and(m.finished_at is not null) then max(m.finished_at) end
  )
  into v_answer
  from mine m
  having count(*) > 0;
  return v_answer;
end;
$$;
comment on function public.eve_jobs_of_batch is 'How many of the jobs of a batch are in each state, and which models the others wait for.';

-- Jobs of a batch that have ended, in order of their places, with results: {"jobs": [..], "next": after_place of the next page, null at the
-- end}. at_most: 1 to 200; a page also ends after 4 MB of results.
create or replace function public.eve_jobs_results(
  batch_id uuid, after_place integer default null, at_most integer default 100, consumer_id uuid default null,
  token_id uuid default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
#variable_conflict use_column
declare
  v_page_bytes constant bigint := 4000000;
  v_at_most constant integer := least(greatest(coalesce(eve_jobs_results.at_most, 100), 1), 200);
  v_jobs jsonb;
  v_last integer;
begin
  perform eve.require_live_caller(eve_jobs_results.consumer_id, eve_jobs_results.token_id);
  with page as (
    select j.*
    from eve.jobs j
    left join eve.consumers c on c.id = eve_jobs_results.consumer_id
    left join eve.scoped_tokens t on t.id = eve_jobs_results.token_id
    where j.batch_id = eve_jobs_results.batch_id
      and j.place > coalesce(eve_jobs_results.after_place, -1)
      and j.finished_at is not null
      and (eve_jobs_results.consumer_id is null or j.owner_id = eve_jobs_results.consumer_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models)
    order by j.place
    limit v_at_most
  ), sized as (
    select p.place, eve.job_json(row(p.*)::eve.jobs) as job,
      sum(coalesce(octet_length(p.result::text), 0)) over (order by p.place) - coalesce(octet_length(p.result::text), 0) as bytes_before
    from page p
  )
  select coalesce(jsonb_agg(s.job order by s.place), '[]'), max(s.place)
  into v_jobs, v_last
  from sized s
  where s.bytes_before < v_page_bytes;
  return jsonb_build_object('jobs', v_jobs, 'next', v_last);
end;
$$;
comment on function public.eve_jobs_results is 'The ended jobs of a batch with their results, in order, page by page.';
