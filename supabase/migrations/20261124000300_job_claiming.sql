-- Running jobs: claimed with a lease, renewed, ended or given back by the one who holds the lease's token, and returned when it has ended.

set local lock_timeout = '10s';

-- A job as its worker is given it.
create or replace function eve.job_to_run(job eve.jobs)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_consumer eve.consumers;
  v_now constant timestamptz := eve.clock();
begin
  if (job).consumer_id is not null then
    select * into v_consumer from eve.consumers c where c.id = (job).consumer_id;
  end if;
  return jsonb_build_object(
    'id', (job).id, 'kind', (job).kind, 'class', (job).class, 'request_id', (job).request_id, 'models', (job).models,
    'body', (job).body, 'body_media', (job).body_media, 'lease_token', (job).lease_token, 'tries', (job).tries,
    'losses', (job).losses, 'expires_at', (job).expires_at, 'batch_id', (job).batch_id, 'place', (job).place,
    'custom_id', (job).custom_id, 'consumer_id', (job).consumer_id, 'consumer_name', v_consumer.name,
    'consumer_kind', v_consumer.kind,
    'start_every_ms', (select min(r.interval_ms) from eve.routes r where r.model = (job).models[1]),
    -- What was handed in with a token is charged to it. When the token's time is over the consumer alone is charged, for the token's models and
    -- class were looked at when it was handed in; a budget of its own, or being revoked, outlives its time.
    'token_id', case
      when exists (
        select
        from eve.scoped_tokens t
        where t.id = (job).token_id and t.expires_at <= v_now and t.revoked_at is null and t.requests_budget is null
          and t.tokens_budget is null
      ) then null
      else (job).token_id
    end
  );
end;
$$;

-- Jobs whose workers have died go back to their place in the queue, three times at most; then they have failed, and an event says so.
create or replace function eve.jobs_return_lost(at_most integer)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_most_losses constant integer := 3;
  v_now constant timestamptz := eve.clock();
  v_back integer;
  v_dead integer;
  v_kind text;
begin
  with lost as (
    select j.id from eve.jobs j where j.lease_until <= v_now order by j.lease_until limit jobs_return_lost.at_most
    for no key update skip locked
  ), ended as (
    update eve.jobs j
    set state = case when j.losses >= v_most_losses then 'failed' else 'queued' end, losses = j.losses + 1,
      tries = greatest(j.tries - 1, 0), lease_token = null, lease_until = null, worker_id = null,
      finished_at = case when j.losses >= v_most_losses then v_now end,
      error_code = case when j.losses >= v_most_losses then 'job_lost' end,
      error_detail = case when j.losses >= v_most_losses then 'Its worker died each time that it was run.' end
    from lost l
    where j.id = l.id
    returning j.state, j.kind
  )
  select count(*) filter (where e.state = 'queued'), count(*) filter (where e.state = 'failed'),
    min(e.kind) filter (where e.state = 'failed')
  into v_back, v_dead, v_kind
  from ended e;
  if v_dead > 0 then
    perform eve.open_alert(
      'job_lost', v_kind, 'warning', format('%s jobs of the kind %s were given up: their workers died four times', v_dead, v_kind)
    );
  end if;
  return jsonb_build_object('back', v_back, 'dead', v_dead);
end;
$$;

-- Until when a worker that was heard now has its place. One that has died would keep another from its place as long; its jobs may wait
-- longer, for a model's answer is lost with them if it only seems dead.
create or replace function eve.job_place_until(lease_ms integer)
returns timestamptz
language sql
volatile
set search_path = ''
as $$
  select eve.clock() + least(job_place_until.lease_ms, 12000) * interval '1 millisecond';
$$;

-- Takes jobs: {"jobs": [as eve.job_to_run], "is_late": none of the kinds would end in the time that is left}, at most at_most of the given
-- kinds, and of those the ones that end in time.
-- Interactive before batch. Within a class the queues take turns, beginning with the one that has waited longest for it, and each
-- gives its oldest: with more queues than jobs wanted one each. One index look-up for each, however many wait behind.
-- Claims come one after the other: two at once would give two jobs of one caller while another waits.
create or replace function public.eve_jobs_claim(worker_id uuid, kinds text[], at_most integer, lease_ms integer, left_ms bigint default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
-- The queue's index has the order; another one and a sort would read the whole queue.
set enable_sort = 'off'
set jit = 'off'
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_token constant uuid := gen_random_uuid();
  v_kinds text[];
  v_class text;
  v_queues bigint[];
  v_again bigint[];
  v_queue bigint;
  v_share integer;
  v_wanted integer := eve_jobs_claim.at_most;
  v_count integer;
  v_some jsonb;
  v_jobs jsonb := '[]';
begin
  if eve_jobs_claim.at_most is null or eve_jobs_claim.at_most not between 1 and 1000
    or eve_jobs_claim.lease_ms is null or eve_jobs_claim.lease_ms not between 100 and 3600000 then
    raise exception 'at_most must be between 1 and 1000, lease_ms between 100 and 3600000' using errcode = 'EV400';
  end if;
  perform eve.jobs_lock();
  v_now := eve.clock();
  -- Workers before jobs, as those have it who renew.
  update eve.job_workers w set lease_until = eve.job_place_until(eve_jobs_claim.lease_ms) where w.id = eve_jobs_claim.worker_id;
  perform eve.jobs_return_lost(1000);
  v_kinds := array(
    select k.kind
    from eve.job_kinds k
    where k.kind = any (eve_jobs_claim.kinds)
      and (eve_jobs_claim.left_ms is null or k.run_within <= eve_jobs_claim.left_ms * interval '1 millisecond')
  );
  foreach v_class in array array['interactive', 'batch'] loop
    v_queues := array(
      select q.id
      from eve.job_queues q
      where q.queued > 0 and q.class = v_class and q.kind = any (v_kinds) and (q.paused_until is null or q.paused_until <= v_now)
      order by q.turn, q.id
    );
    while v_wanted > 0 and cardinality(v_queues) > 0 loop
      v_share := greatest(v_wanted / cardinality(v_queues), 1);
      v_again := '{}';
      foreach v_queue in array v_queues loop
        exit when v_wanted = 0;
        with taken as (
          select j.id
          from eve.jobs j
          where j.queue_id = v_queue and j.state = 'queued' and j.run_at <= v_now and j.expires_at > v_now
          order by j.run_at, j.no
          limit least(v_share, v_wanted)
          for no key update skip locked
        ), claimed as (
          update eve.jobs j
          set state = 'running', tries = j.tries + 1, started_at = coalesce(j.started_at, v_now), worker_id = eve_jobs_claim.worker_id,
            lease_token = v_token, lease_until = v_now + eve_jobs_claim.lease_ms * interval '1 millisecond'
          from taken t
          where j.id = t.id
          returning j.*
        )
        select count(*), coalesce(jsonb_agg(eve.job_to_run(row(c.*)::eve.jobs) order by c.run_at, c.no), '[]')
        into v_count, v_some
        from claimed c;
        continue when v_count = 0;
        update eve.job_queues q set turn = nextval('eve.job_turn'), paused_until = null where q.id = v_queue;
        v_wanted := v_wanted - v_count;
        v_jobs := v_jobs || v_some;
        if v_count = v_share then
          v_again := v_again || v_queue;
        end if;
      end loop;
      v_queues := v_again;
    end loop;
  end loop;
  return jsonb_build_object('jobs', v_jobs, 'is_late', cardinality(v_kinds) = 0);
end;
$$;
comment on function public.eve_jobs_claim is 'Takes jobs with a lease: interactive before batch, callers in turn, each caller''s oldest first.';

-- Extends leases and notes progress: {"lost": ids that are not the worker's any more: cancelled, expired, or given to another}.
-- leases: [{"id", "lease_token", "progress"?}].
create or replace function public.eve_jobs_renew(worker_id uuid, leases jsonb, lease_ms integer)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- A plan may be made while the tables are small and is kept while they grow; and jobs are looked up by their ids alone, for which an
-- index scan would choose the wrong index (the queue's, read from its beginning): a bitmap scan of the primary key is left.
set enable_seqscan = 'off'
set enable_indexscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_until constant timestamptz := eve.clock() + eve_jobs_renew.lease_ms * interval '1 millisecond';
  v_lost jsonb;
begin
  if eve_jobs_renew.lease_ms is null or eve_jobs_renew.lease_ms not between 100 and 3600000 then
    raise exception 'lease_ms must be between 100 and 3600000' using errcode = 'EV400';
  end if;
  update eve.job_workers w set lease_until = eve.job_place_until(eve_jobs_renew.lease_ms) where w.id = eve_jobs_renew.worker_id;
  with held as materialized (
    select l.id, l.lease_token, l.progress
    from jsonb_to_recordset(eve_jobs_renew.leases) as l (id uuid, lease_token uuid, progress jsonb)
  ), mine as materialized (
    -- In one order, as everywhere: two that renew the same jobs do not wait for each other.
    select j.id from eve.jobs j join held h on h.id = j.id and h.lease_token = j.lease_token order by j.id for no key update of j
  ), renewed as (
    update eve.jobs j
    set lease_until = v_until, progress = coalesce(h.progress, j.progress)
    from mine m
    join held h on h.id = m.id
    where j.id = m.id and j.lease_token = h.lease_token
    returning j.id
  )
  select coalesce(jsonb_agg(h.id), '[]') into v_lost from held h where not exists (select from renewed r where r.id = h.id);
  return jsonb_build_object('lost', v_lost);
end;
$$;
comment on function public.eve_jobs_renew is 'Extends the leases of a worker and of its jobs, and says which jobs it has lost.';

-- Ends jobs well: {"done": ids}; those that are missing were not the worker's any more, and stay as they are.
-- results: [{"id", "lease_token", "result" or "result_media"}]. What is longer than its kind takes, or a
-- line of a batch beyond what a body may have, has failed with answer_too_large.
create or replace function public.eve_jobs_complete(results jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- A plan may be made while the tables are small and is kept while they grow; and jobs are looked up by their ids alone, for which an
-- index scan would choose the wrong index (the queue's, read from its beginning): a bitmap scan of the primary key is left.
set enable_seqscan = 'off'
set enable_indexscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_done jsonb;
begin
  with given as materialized (
    select g.id, g.lease_token, g.result, g.result_media
    from jsonb_to_recordset(eve_jobs_complete.results) as g (id uuid, lease_token uuid, result jsonb, result_media text)
  ), mine as materialized (
    -- A batch's file is put together in the database: its lines keep long answers there too.
    select j.id, octet_length(g.result::text) > case when j.batch_id is null then k.max_result_bytes else k.max_body_bytes end as too_large
    from eve.jobs j
    join given g on g.id = j.id and g.lease_token = j.lease_token
    join eve.job_kinds k on k.kind = j.kind
    order by j.id
    for no key update of j
  ), ended as (
    update eve.jobs j
    set state = case when m.too_large then 'failed' else 'succeeded' end, finished_at = v_now,
      result = case when not coalesce(m.too_large, false) then coalesce(g.result, case when g.result_media is null then 'null'::jsonb end) end,
      result_media = g.result_media, error_code = case when m.too_large then 'answer_too_large' end,
      error_detail = case when m.too_large then 'Its result is longer than a job of its kind may keep.' end,
      lease_token = null, lease_until = null, worker_id = null
    from mine m
    join given g on g.id = m.id
    where j.id = m.id and j.lease_token = g.lease_token
    returning j.id
  )
  select coalesce(jsonb_agg(e.id), '[]') into v_done from ended e;
  return jsonb_build_object('done', v_done);
end;
$$;
comment on function public.eve_jobs_complete is 'Ends jobs with their results, if their leases are still those of who says so.';

-- A run has failed: {"status": "queued" again, "failed" or "lost"}. What may pass is run again after a pause that doubles, with full
-- jitter, as often as its kind says; `result`: what there is of an answer.
create or replace function public.eve_job_fail(
  id uuid, lease_token uuid, code text, message text, retryable boolean default false, retry_after_ms bigint default null,
  result jsonb default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- A plan may be made while the tables are small and is kept while they grow; and jobs are looked up by their ids alone, for which an
-- index scan would choose the wrong index (the queue's, read from its beginning): a bitmap scan of the primary key is left.
set enable_seqscan = 'off'
set enable_indexscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
#variable_conflict use_column
declare
  v_pause_ms constant double precision := 5000;
  v_most_pause_ms constant double precision := 600000;
  v_now constant timestamptz := eve.clock();
  v_job eve.jobs;
  v_again boolean;
begin
  select * into v_job
  from eve.jobs j
  where j.id = eve_job_fail.id and j.lease_token = eve_job_fail.lease_token
  for no key update;
  if not found then
    return jsonb_build_object('status', 'lost');
  end if;
  v_again := coalesce(eve_job_fail.retryable, false)
    and v_job.tries < (select k.max_tries from eve.job_kinds k where k.kind = v_job.kind);
  update eve.jobs j
  set state = case when v_again then 'queued' else 'failed' end, finished_at = case when not v_again then v_now end,
    error_code = left(eve_job_fail.code, 100), error_detail = left(eve_job_fail.message, 2000),
    result = case when not v_again and octet_length(eve_job_fail.result::text) <= 262144 then eve_job_fail.result end,
    run_at = case
      when v_again then v_now + interval '1 millisecond' * greatest(
        coalesce(eve_job_fail.retry_after_ms, 0), random() * least(v_pause_ms * 2 ^ (v_job.tries - 1), v_most_pause_ms)
      )
      else j.run_at
    end,
    lease_token = null, lease_until = null, worker_id = null
  where j.id = v_job.id;
  return jsonb_build_object('status', case when v_again then 'queued' else 'failed' end);
end;
$$;
comment on function public.eve_job_fail is 'Ends a run that failed: the job is run again later, or has failed.';

-- Gives jobs back unspent, to the place that they had: {"released": ids}. That was no try.
-- jobs: [{"id", "lease_token", "pause_ms"?, "delay_ms"?}]; pause_ms: its queue is left alone for so long, an hour at most, since its model
-- has no start before; delay_ms: the job alone is, and loses its place.
create or replace function public.eve_jobs_release(jobs jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- A plan may be made while the tables are small and is kept while they grow; and jobs are looked up by their ids alone, for which an
-- index scan would choose the wrong index (the queue's, read from its beginning): a bitmap scan of the primary key is left.
set enable_seqscan = 'off'
set enable_indexscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_released jsonb;
begin
  perform eve.jobs_lock();
  with given as materialized (
    select g.id, g.lease_token, g.pause_ms, g.delay_ms
    from jsonb_to_recordset(eve_jobs_release.jobs) as g (id uuid, lease_token uuid, pause_ms bigint, delay_ms bigint)
  ), mine as materialized (
    select j.id from eve.jobs j join given g on g.id = j.id and g.lease_token = j.lease_token order by j.id for no key update of j
  ), back as (
    update eve.jobs j
    set state = 'queued', tries = greatest(j.tries - 1, 0), lease_token = null, lease_until = null, worker_id = null,
      started_at = case when j.tries + j.losses > 1 then j.started_at end,
      run_at = case when g.delay_ms > 0 then v_now + g.delay_ms * interval '1 millisecond' else j.run_at end
    from mine m
    join given g on g.id = m.id
    where j.id = m.id and j.lease_token = g.lease_token
    returning j.id, j.queue_id, g.pause_ms
  ), paused as (
    select b.queue_id, max(least(b.pause_ms, 3600000)) as pause_ms from back b where b.pause_ms > 0 group by b.queue_id
  ), pausing as (
    select coalesce(jsonb_agg(jsonb_build_array(p.queue_id, p.pause_ms)), '[]') as queues from paused p
  )
  select jsonb_build_object('released', (select coalesce(jsonb_agg(b.id), '[]') from back b), 'pausing', pausing.queues)
  into v_released
  from pausing;
  -- After the trigger has counted them: within one statement a row is changed once.
  update eve.job_queues q
  set paused_until = greatest(q.paused_until, v_now + (p.value ->> 1)::bigint * interval '1 millisecond')
  from jsonb_array_elements(v_released -> 'pausing') p
  where q.id = (p.value ->> 0)::bigint;
  return v_released - 'pausing';
end;
$$;
comment on function public.eve_jobs_release is 'Gives jobs back unspent: they keep their places, and it was no try.';
