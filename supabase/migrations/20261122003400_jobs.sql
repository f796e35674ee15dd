-- Jobs of providers: what a stage makes that takes longer than a call (speech, songs, videos). A job is submitted by one call, which is
-- admitted and booked like any other, and is asked about until it has ended. A call that a stage serves begins one at once, and it never
-- waits; or it was handed in with mode queue, and a worker begins it. Either way it runs, without a lease, from the moment that the
-- provider has it.

create or replace function public.eve_job_begin(
  id uuid, stage_type text, provider_kind text, model text, key_name text, request_id text, request_no bigint,
  consumer_id uuid default null, settings jsonb default '{}'
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  insert into eve.jobs as j (
    id, kind, state, models, stage_type, provider_kind, model, key_name, settings, consumer_id, request_id, request_no, submitted_at,
    started_at, tries
  )
  values (
    eve_job_begin.id, 'provider_job', 'running', array['stage:' || eve_job_begin.stage_type], eve_job_begin.stage_type,
    eve_job_begin.provider_kind, eve_job_begin.model, eve_job_begin.key_name, coalesce(eve_job_begin.settings, '{}'),
    eve_job_begin.consumer_id, eve_job_begin.request_id, eve_job_begin.request_no, eve.clock(), eve.clock(), 1
  )
  -- Another attempt of the same request, perhaps with another key; or one that has waited in a queue.
  on conflict (id) do update
  set stage_type = excluded.stage_type, provider_kind = excluded.provider_kind, model = excluded.model, key_name = excluded.key_name,
    settings = excluded.settings, request_no = excluded.request_no
  where j.state = 'running' and j.upstream_id is null;
  return jsonb_build_object('status', 'begun');
end;
$$;
comment on function public.eve_job_begin is 'Writes a provider''s job down before it is submitted, so that nothing that was paid for is lost.';

-- A job without what is its worker's, and without what it was asked to do, which may be long.
create or replace function eve.job_json(job eve.jobs)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select to_jsonb(job) - '{body,body_media,request_hash,request_key,lease_token,queue_id,owner_id}'::text[];
$$;

-- What is known of a provider's job now. One that has ended stays as it ended.
create or replace function public.eve_job_note(
  id uuid, state text, upstream_id text default null, result jsonb default null, error_code text default null,
  error_detail text default null, expires_at timestamptz default null, mime_type text default null,
  content_base64 text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_job eve.jobs;
begin
  update eve.jobs j
  set state = eve_job_note.state, upstream_id = coalesce(eve_job_note.upstream_id, j.upstream_id), result = eve_job_note.result,
    error_code = eve_job_note.error_code, error_detail = left(eve_job_note.error_detail, 2000), checked_at = now(),
    finished_at = case when eve_job_note.state in ('succeeded', 'failed') then now() end,
    expires_at = eve_job_note.expires_at, lease_token = null, lease_until = null, worker_id = null
  where j.id = eve_job_note.id and j.state = 'running'
  returning * into v_job;
  if v_job.id is not null and eve_job_note.content_base64 is not null then
    insert into eve.job_contents (job_id, mime_type, content)
    values (v_job.id, eve_job_note.mime_type, decode(eve_job_note.content_base64, 'base64'))
    on conflict on constraint job_contents_pkey do nothing;
  end if;
  if v_job.id is null then
    select * into v_job from eve.jobs j where j.id = eve_job_note.id;
  end if;
  return eve.job_json(v_job);
end;
$$;
comment on function public.eve_job_note is 'Notes how a provider''s job stands; one that has ended stays as it ended.';

-- The project sees all jobs, a consumer its own, and of those anyone who calls for it the ones that ask for models, or stages, that they may
-- use now: as with a kept answer, what came of a model belongs to a scope (eve.repeated).
create or replace function eve.job_for(id uuid, consumer_id uuid, token_id uuid)
returns setof eve.jobs
language plpgsql
stable
set search_path = ''
as $$
begin
  perform eve.require_live_caller(job_for.consumer_id, job_for.token_id);
  return query
    select j.*
    from eve.jobs j
    left join eve.consumers c on c.id = job_for.consumer_id
    left join eve.scoped_tokens t on t.id = job_for.token_id
    where j.id = job_for.id
      and (job_for.consumer_id is null or j.consumer_id = job_for.consumer_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models);
end;
$$;

create or replace function public.eve_job(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select (select eve.job_json(j) from eve.job_for(eve_job.id, eve_job.consumer_id, eve_job.token_id) j);
$$;
comment on function public.eve_job is 'A job, if it is the consumer''s and asks for what it and its token may use; any for the project. Null: there is none.';

create or replace function public.eve_job_content(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select (
    select jsonb_build_object('mime_type', c.mime_type, 'content_base64', encode(c.content, 'base64'))
    from eve.job_for(eve_job_content.id, eve_job_content.consumer_id, eve_job_content.token_id) j
    join eve.job_contents c on c.job_id = j.id
  );
$$;
comment on function public.eve_job_content is 'The file of a job whose provider answered with the file itself; null: there is none.';

-- Files go when they have expired, jobs after ninety days; a submission that never came back has failed.
create or replace function public.eve_jobs_tidy()
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lost integer;
  v_files integer;
  v_jobs integer;
begin
  update eve.jobs j
  set state = 'failed', error_code = 'internal', error_detail = 'the submission never came back', finished_at = now()
  where j.kind = 'provider_job' and j.state = 'running' and j.upstream_id is null and j.lease_token is null
    and j.submitted_at < now() - interval '1 hour';
  get diagnostics v_lost = row_count;
  delete from eve.job_contents c
  using eve.jobs j
  where j.id = c.job_id and j.expires_at < now();
  get diagnostics v_files = row_count;
  delete from eve.jobs j where j.kind = 'provider_job' and j.submitted_at < now() - interval '90 days';
  get diagnostics v_jobs = row_count;
  -- What was kept for jobs that never came, or were deleted while their worker kept it. After the way down there is no media.
  if to_regprocedure('eve.jobs_media_release(text[])') is not null then
    perform eve.jobs_media_release(
      array(
        select r.ref_id
        from eve.media_references r
        where r.ref_kind = 'job' and r.created_at <= eve.clock() - interval '1 day'
          and not exists (
            select from eve.jobs j where j.id = case when r.ref_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then r.ref_id::uuid end
          )
        limit 1000
      )
    );
  end if;
  return jsonb_build_object('lost', v_lost, 'files', v_files, 'jobs', v_jobs);
end;
$$;
comment on function public.eve_jobs_tidy is 'Deletes files that have expired and provider jobs that are older than ninety days.';
