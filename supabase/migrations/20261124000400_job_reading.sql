-- Jobs for those whose they are: found, listed, cancelled.

set local lock_timeout = '10s';

-- The newest first, without their results: {"jobs": [..], "next": where the rest begins, null at the end}. at_most: 1 to 200.
create or replace function public.eve_jobs(
  consumer_id uuid default null, token_id uuid default null, states text[] default null, kinds text[] default null,
  batch_id uuid default null, before bigint default null, at_most integer default 50
)
returns jsonb
language plpgsql
stable
set search_path = ''
-- A plan for whichever filters there are.
set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
  v_at_most constant integer := least(greatest(coalesce(eve_jobs.at_most, 50), 1), 200);
  v_jobs jsonb;
  v_count integer;
  v_last bigint;
begin
  perform eve.require_live_caller(eve_jobs.consumer_id, eve_jobs.token_id);
  select coalesce(jsonb_agg(eve.job_json(row(j.*)::eve.jobs) - 'result' order by j.no desc), '[]'), count(*), min(j.no)
  into v_jobs, v_count, v_last
  from (
    select j.*
    from eve.jobs j
    left join eve.consumers c on c.id = eve_jobs.consumer_id
    left join eve.scoped_tokens t on t.id = eve_jobs.token_id
    where (eve_jobs.consumer_id is null or j.owner_id = eve_jobs.consumer_id)
      and (eve_jobs.before is null or j.no < eve_jobs.before)
      and (eve_jobs.states is null or j.state = any (eve_jobs.states))
      and (eve_jobs.kinds is null or j.kind = any (eve_jobs.kinds))
      and (eve_jobs.batch_id is null or j.batch_id = eve_jobs.batch_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models)
    order by j.no desc
    limit v_at_most
  ) j;
  return jsonb_build_object('jobs', v_jobs, 'next', case when v_count = v_at_most then v_last end);
end;
$$;
comment on function public.eve_jobs is 'A consumer''s jobs, or all of them for the project, the newest first, page by page.';

-- Ends what has not ended: {"cancelled": how many}. What waits is never run; what runs is broken off when its worker next renews its
-- lease, and gives back what it has not sent. A provider goes on with what it has taken, and nobody asks for it any more. One that is
-- being handed to a provider at this moment is left alone.
create or replace function public.eve_jobs_cancel(
  ids uuid[] default null, batch_id uuid default null, consumer_id uuid default null, token_id uuid default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set enable_indexscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
#variable_conflict use_column
declare
  v_ids uuid[] := eve_jobs_cancel.ids;
  v_count integer;
begin
  perform eve.require_live_caller(eve_jobs_cancel.consumer_id, eve_jobs_cancel.token_id);
  if eve_jobs_cancel.ids is null and eve_jobs_cancel.batch_id is null then
    raise exception 'ids or batch_id must say which jobs' using errcode = 'EV400';
  end if;
  perform eve.jobs_lock();
  if eve_jobs_cancel.batch_id is not null then
    -- Apart: a condition that may be absent keeps the planner from the index.
    v_ids := array(
      select j.id
      from eve.jobs j
      where j.batch_id = eve_jobs_cancel.batch_id and (eve_jobs_cancel.ids is null or j.id = any (eve_jobs_cancel.ids))
    );
  end if;
  with open_ones as materialized (
    select j.id
    from eve.jobs j
    left join eve.consumers c on c.id = eve_jobs_cancel.consumer_id
    left join eve.scoped_tokens t on t.id = eve_jobs_cancel.token_id
    where j.id = any (v_ids)
      and (eve_jobs_cancel.consumer_id is null or j.owner_id = eve_jobs_cancel.consumer_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models)
      -- Written so that no index of what waits is taken for a shorter way than the ids.
      and case j.state
        when 'queued' then true
        when 'running' then j.lease_token is not null and j.stage_type is null or j.upstream_id is not null
        else false
      end
    order by j.id
    for no key update of j
  ), ended as (
    update eve.jobs j
    set state = 'cancelled', finished_at = eve.clock(), lease_token = null, lease_until = null, worker_id = null
    from open_ones s
    where j.id = s.id
    returning 1
  )
  select count(*) into v_count from ended;
  return jsonb_build_object('cancelled', v_count);
end;
$$;
comment on function public.eve_jobs_cancel is 'Cancels jobs, or all of a batch, that have not ended.';
