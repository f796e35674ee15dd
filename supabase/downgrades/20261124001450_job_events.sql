-- The way down of 20261124001450_job_events.sql.

set local lock_timeout = '10s';

drop trigger eve_job_ended on eve.jobs;

drop function eve.tell_job_end();

comment on column eve.jobs.webhook_id is null;
