-- The way down of 20261124000850_late_batch.sql.

set local lock_timeout = '10s';

CREATE OR REPLACE FUNCTION eve.queued_before(model text, lane_id bigint, queued_ms bigint, request_no bigint, now_ms bigint, interval_ms double precision, token_ms double precision, OUT calls bigint, OUT wait_ms bigint)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  -- Half of the time that they will take at most: nobody wakes who sleeps too long when places come free sooner, and to ask too
  -- early costs a question. bench:quota, tokens, batch only, 1 and 2 projects: 95.6 and 94.9 % used with the whole time, 96.1 and
  -- 97.2 with half of it, 96.9 and 98.2 with a quarter, which asks twice as often.
  select count(*),
    greatest(ceil(0.5 * count(*) * queued_before.interval_ms), ceil(0.5 * sum(i.tokens) * queued_before.token_ms), 1)::bigint
  into calls, wait_ms
  from eve.inflight i
  where i.model = queued_before.model and i.state = 'waiting' and i.start_ms > queued_before.now_ms - 1500
    and (i.any_lane or i.lane_id = queued_before.lane_id)
    and (i.queued_ms, i.request_no) < (queued_before.queued_ms, coalesce(queued_before.request_no, 9223372036854775807));
end;
$function$;

drop function eve.job_worker(text);
