-- The ends of jobs are events: eve.job.succeeded.v1, eve.job.failed.v1, eve.job.cancelled.v1 and eve.job.expired.v1, for those who take them
-- and for the webhook that the job itself names.

set local lock_timeout = '10s';

comment on column eve.jobs.webhook_id is 'In eve.webhooks: it gets the event of the job''s end, whatever types it takes. Null: anyone who takes the type is.';

create or replace function eve.tell_job_end()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Jobs end by the hundred, and mostly nobody listens.
  if not exists (select from eve.event_consumers c where c.is_active) then
    return null;
  end if;
  perform eve.emit_event(
    '/jobs', 'eve.job.' || new.state || '.v1', new.id::text,
    jsonb_build_object(
      'job_id', new.id, 'kind', new.kind, 'state', new.state, 'request_id', new.request_id, 'batch_id', new.batch_id,
      'custom_id', new.custom_id, 'error_code', new.error_code, 'finished_at', new.finished_at
    ),
    new.owner_id, also_to => 'webhook:' || new.webhook_id
  );
  return null;
end;
$$;
create or replace trigger eve_job_ended
after update on eve.jobs
for each row
when (old.finished_at is null and new.finished_at is not null)
execute function eve.tell_job_end();
