-- Batch that is late is waited for as long as the pace makes up for. Jobs' calls wait side by side in one worker, and a worker that dies
-- leaves several places in the queue that nobody asks for any more.

set local lock_timeout = '10s';

-- Batch that waits for a lane of a model and came earlier: one line for all lanes, since a place that falls free on any of them is
-- for the first. Who was to ask a quarter of a start interval ago and has not is not waited for (200 ms at least, so that a slow answer is no
-- death, 1.5 s at most): the pace has half an interval of credit, and what is waited beyond it is lost. Whoever asks late keeps their place,
-- and has the next start. bench:jobs, 3 lanes of 30 starts a minute and a worker of four killed every 20 s: 95.4 % used with 1.5 s for all,
-- 98.1 % with a third of a second. `wait_ms`: for how long to let them go first.
create or replace function eve.queued_before(
  model text, lane_id bigint, queued_ms bigint, request_no bigint, now_ms bigint, interval_ms double precision,
  token_ms double precision, out calls bigint, out wait_ms bigint
)
language plpgsql
stable
set search_path = ''
as $$
declare
  -- Not of interval_ms, which those who book leave out: both have to find the same.
  v_late_ms constant bigint := least(
    greatest((select min(r.interval_ms) from eve.routes r where r.model = queued_before.model) / 4, 200), 1500
  );
begin
  -- Half of the time that they will take at most: nobody wakes who sleeps too long when places come free sooner, and to ask too
  -- early costs a question. bench:quota, tokens, batch only, 1 and 2 projects: 95.6 and 94.9 % used with the whole time, 96.1 and
  -- 97.2 with half of it, 96.9 and 98.2 with a quarter, which asks twice as often.
  select count(*),
    greatest(ceil(0.5 * count(*) * queued_before.interval_ms), ceil(0.5 * sum(i.tokens) * queued_before.token_ms), 1)::bigint
  into calls, wait_ms
  from eve.inflight i
  where i.model = queued_before.model and i.state = 'waiting' and i.start_ms > queued_before.now_ms - v_late_ms
    and (i.any_lane or i.lane_id = queued_before.lane_id)
    and (i.queued_ms, i.request_no) < (queued_before.queued_ms, coalesce(queued_before.request_no, 9223372036854775807));
end;
$$;
