-- The way down of 20261124000600_provider_jobs.sql.

set local lock_timeout = '10s';

CREATE OR REPLACE FUNCTION public.eve_job_begin(id uuid, stage_type text, provider_kind text, model text, key_name text, request_id text, request_no bigint, consumer_id uuid DEFAULT NULL::uuid, settings jsonb DEFAULT '{}'::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
begin
  insert into eve.jobs as j (id, stage_type, provider_kind, model, key_name, settings, consumer_id, request_id, request_no)
  values (
    eve_job_begin.id, eve_job_begin.stage_type, eve_job_begin.provider_kind, eve_job_begin.model, eve_job_begin.key_name,
    coalesce(eve_job_begin.settings, '{}'), eve_job_begin.consumer_id, eve_job_begin.request_id, eve_job_begin.request_no
  )
  -- Another attempt of the same request, perhaps with another key.
  on conflict (id) do update
  set model = excluded.model, key_name = excluded.key_name, settings = excluded.settings, request_no = excluded.request_no
  where j.state = 'submitting';
  return jsonb_build_object('status', 'begun');
end;
$function$;
comment on function public.eve_job_begin(uuid, text, text, text, text, text, bigint, uuid, jsonb) is 'Writes a job down before it is submitted, so that nothing that was paid for is lost.';
CREATE OR REPLACE FUNCTION public.eve_job_note(id uuid, state text, upstream_id text DEFAULT NULL::text, result jsonb DEFAULT NULL::jsonb, error_code text DEFAULT NULL::text, error_detail text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, mime_type text DEFAULT NULL::text, content_base64 text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_job eve.jobs;
begin
  update eve.jobs j
  set state = eve_job_note.state, upstream_id = coalesce(eve_job_note.upstream_id, j.upstream_id), result = eve_job_note.result,
    error_code = eve_job_note.error_code, error_detail = left(eve_job_note.error_detail, 2000), checked_at = now(),
    finished_at = case when eve_job_note.state in ('succeeded', 'failed') then now() end,
    expires_at = eve_job_note.expires_at
  where j.id = eve_job_note.id and j.state in ('submitting', 'running')
  returning * into v_job;
  if v_job.id is not null and eve_job_note.content_base64 is not null then
    insert into eve.job_contents (job_id, mime_type, content)
    values (v_job.id, eve_job_note.mime_type, decode(eve_job_note.content_base64, 'base64'))
    on conflict on constraint job_contents_pkey do nothing;
  end if;
  if v_job.id is null then
    select * into v_job from eve.jobs j where j.id = eve_job_note.id;
  end if;
  return to_jsonb(v_job);
end;
$function$;
comment on function public.eve_job_note(uuid, text, text, jsonb, text, text, timestamp with time zone, text, text) is 'Notes how a job stands; one that has ended stays as it ended.';
CREATE OR REPLACE FUNCTION public.eve_jobs_tidy()
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_lost integer;
  v_files integer;
  v_jobs integer;
begin
  update eve.jobs j
  set state = 'failed', error_code = 'internal', error_detail = 'the submission never came back', finished_at = now()
  where j.state = 'submitting' and j.submitted_at < now() - interval '1 hour';
  get diagnostics v_lost = row_count;
  delete from eve.job_contents c
  using eve.jobs j
  where j.id = c.job_id and j.expires_at < now();
  get diagnostics v_files = row_count;
  delete from eve.jobs j where j.submitted_at < now() - interval '90 days';
  get diagnostics v_jobs = row_count;
  return jsonb_build_object('lost', v_lost, 'files', v_files, 'jobs', v_jobs);
end;
$function$;
comment on function public.eve_jobs_tidy() is 'Deletes files that have expired and jobs that are older than ninety days.';
