-- The way down of 20261124000850_late_batch.sql.

set local lock_timeout = '10s';

CREATE OR REPLACE FUNCTION eve.queued_before(model text, lane_id bigint, queued_ms bigint, request_no bigint, now_ms bigint, interval_ms double precision, token_ms double precision, OUT calls bigint, OUT wait_ms bigint, OUT tokens bigint, OUT bound boolean)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  -- Until the start of the last of them; and half of the time that those between will take at most: nobody wakes who sleeps
  -- too long when places come free sooner, and to ask too early costs a question.
  select count(*),
    greatest(
      max(i.start_ms) - queued_before.now_ms + 20, ceil(0.5 * (count(*) - 1) * queued_before.interval_ms),
      ceil(0.5 * (sum(i.tokens) - (array_agg(i.tokens order by i.queued_ms, i.request_no))[1]) * queued_before.token_ms), 20
    )::bigint,
    sum(i.tokens), bool_and(not i.any_lane)
  into calls, wait_ms, tokens, bound
  from eve.inflight i
  where i.model = queued_before.model and i.state = 'waiting' and i.start_ms > queued_before.now_ms - 1500
    and (i.any_lane or i.lane_id = queued_before.lane_id)
    and (i.queued_ms, i.request_no) < (queued_before.queued_ms, coalesce(queued_before.request_no, 9223372036854775807));
end;
$function$;

drop function eve.job_worker(text);
