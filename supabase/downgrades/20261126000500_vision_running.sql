-- The way down of 20261126000500_vision_running.sql.

set local lock_timeout = '10s';

drop trigger eve_vision_job_ended on eve.jobs;

drop function eve.vision_count_metrics(text, text, text, text, bigint, boolean, bigint);
drop function eve.vision_decide(uuid, text, uuid, text, jsonb, text);
drop function eve.vision_time_bounds();
drop function eve.vision_emit(uuid);
drop function public.eve_vision_begin(uuid, text, uuid, text, integer);
drop function public.eve_vision_finish(uuid, text, uuid, text, jsonb, jsonb, text);
drop function public.eve_vision_picture(text, text, text, integer, integer, integer, text, text, text, integer);

drop table eve.vision_times;

drop function eve.vision_job_ended();
