-- Jobs and batches for administrators: whose they are and how far, and what is said in them only where its caller's row allows it.

set local lock_timeout = '10s';

-- A job as its row, with its caller's name, without what it was asked and answered.
create or replace function eve.batch_job_row(job eve.jobs)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select eve.job_json(batch_job_row.job) - '{result,settings,key_name,owner_id}'::text[] || jsonb_build_object(
    'consumer', (select c.name from eve.consumers c where c.id = (job).consumer_id)
  );
$$;

-- The newest first: {"jobs": [..], "next": where the next page begins, null at the end}. consumer: a name in eve.consumers, or `project`.
-- at_most: 1 to 200.
create or replace function public.eve_job_search(
  states text[] default null, kinds text[] default null, consumer text default null, batch_id uuid default null, before bigint default null,
  at_most integer default 50
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
  v_at_most constant integer := least(greatest(coalesce(eve_job_search.at_most, 50), 1), 200);
  v_owner constant uuid := case
    when eve_job_search.consumer = 'project' then '00000000-0000-0000-0000-000000000000'
    else (select c.id from eve.consumers c where c.name = eve_job_search.consumer)
  end;
  v_jobs jsonb;
  v_count integer;
  v_last bigint;
begin
  select coalesce(jsonb_agg(eve.batch_job_row(row(j.*)::eve.jobs) order by j.no desc), '[]'), count(*), min(j.no)
  into v_jobs, v_count, v_last
  from (
    select j.*
    from eve.jobs j
    where (eve_job_search.consumer is null or j.owner_id = v_owner)
      and (eve_job_search.before is null or j.no < eve_job_search.before)
      and (eve_job_search.states is null or j.state = any (eve_job_search.states))
      and (eve_job_search.kinds is null or j.kind = any (eve_job_search.kinds))
      and (eve_job_search.batch_id is null or j.batch_id = eve_job_search.batch_id)
    order by j.no desc
    limit v_at_most
  ) j;
  return jsonb_build_object('jobs', v_jobs, 'next', case when v_count = v_at_most then v_last end);
end;
$$;
comment on function public.eve_job_search is 'Jobs of all callers, the newest first, without what they were asked and answered.';

-- One job: {"job", "said": {"body", "result"}, null unless its caller's row allows prompts to be kept}. Null: there is none.
create or replace function public.eve_job_detail(id uuid)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'job', eve.batch_job_row(j),
    'said', case
      when exists (
        select
        from eve.consumers c
        where c.capture and (c.id = j.consumer_id or j.consumer_id is null and c.kind = 'project')
      )
      -- A request may say no, in its body or, where that belongs to another API, beside it.
      and 'false' not in (coalesce(j.body ->> 'capture', ''), coalesce(j.body #>> '{body,capture}', '')) then jsonb_build_object('body', eve.capped(j.body), 'result', j.result)
    end
  )
  from eve.jobs j
  where j.id = eve_job_detail.id;
$$;
comment on function public.eve_job_detail is 'One job, for administrators; what it was asked and answered where its caller''s row allows that to be kept.';

-- The newest first: {"batches": [..], "next": where the next page begins, null at the end}. at_most: 1 to 200.
create or replace function public.eve_batch_search(before bigint default null, at_most integer default 50)
returns jsonb
language sql
stable
set search_path = ''
as $$
  with page as (
    select b.*
    from eve.batches b
    where eve_batch_search.before is null or b.no < eve_batch_search.before
    order by b.no desc
    limit least(greatest(coalesce(eve_batch_search.at_most, 50), 1), 200)
  )
  select jsonb_build_object(
    'batches', coalesce(
      jsonb_agg(
        jsonb_build_object(
          'id', p.id, 'no', p.no, 'consumer', (select c.name from eve.consumers c where c.id = p.consumer_id), 'endpoint', p.endpoint,
          'state', p.state, 'models', to_jsonb(p.models), 'total', p.total, 'completed', p.completed, 'failed', p.failed,
          'expired', p.expired, 'errors', coalesce(jsonb_array_length(p.errors), 0), 'created_at', p.created_at, 'ended_at', p.ended_at,
          'expires_at', p.expires_at
        )
        order by p.no desc
      ),
      '[]'
    ),
    'next', case when count(*) = least(greatest(coalesce(eve_batch_search.at_most, 50), 1), 200) then min(p.no) end
  )
  from page p;
$$;
comment on function public.eve_batch_search is 'Batches of all callers, the newest first, and how many of their lines have ended.';
