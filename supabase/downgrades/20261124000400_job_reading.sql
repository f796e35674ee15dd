-- The way down of 20261124000400_job_reading.sql.

set local lock_timeout = '10s';

drop function eve.job_json(eve.jobs);
drop function public.eve_jobs(uuid, uuid, text[], text[], uuid, bigint, integer);
drop function public.eve_jobs_cancel(uuid[], uuid, uuid, uuid);

CREATE OR REPLACE FUNCTION eve.job_for(id uuid, consumer_id uuid, token_id uuid)
 RETURNS SETOF eve.jobs
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  perform eve.require_live_caller(job_for.consumer_id, job_for.token_id);
  return query
    select j.*
    from eve.jobs j
    left join eve.consumers c on c.id = job_for.consumer_id
    left join eve.scoped_tokens t on t.id = job_for.token_id
    where j.id = job_for.id
      and (job_for.consumer_id is null or j.consumer_id = job_for.consumer_id)
      and (c.models is null or 'stage:' || j.stage_type = any (c.models))
      and (t.models is null or 'stage:' || j.stage_type = any (t.models));
end;
$function$;
CREATE OR REPLACE FUNCTION public.eve_job(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select (select to_jsonb(j) from eve.job_for(eve_job.id, eve_job.consumer_id, eve_job.token_id) j);
$function$;
comment on function public.eve_job(uuid, uuid, uuid) is 'A job, if it is the consumer''s and of a stage that it and its token may use; any for the project. Null: there is none.';
