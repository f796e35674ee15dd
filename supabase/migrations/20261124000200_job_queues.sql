-- Handing jobs in: what is checked, how they find their queue, and how many a caller may have waiting.
--
-- A queue's row is changed by anyone who hands in, claims, gives back or cancels. Anyone who changes more than one in a transaction takes
-- eve.jobs_lock() first: two that went through them in different orders would wait for each other.

set local lock_timeout = '10s';

create or replace function eve.jobs_lock()
returns void
language sql
volatile
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('eve.job_queues', 0));
$$;
comment on function eve.jobs_lock is 'Held to the end of the transaction by anyone who changes several queues.';

-- What a statement changed of eve.jobs: the queues are counted again, by the difference. A trigger, so that no function can forget it.
create or replace function eve.jobs_came()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  update eve.job_queues q
  set queued = q.queued + d.jobs, bytes = q.bytes + d.bytes, used_at = eve.clock()
  from (
    select n.queue_id, count(*)::integer as jobs, sum(n.body_bytes) as bytes
    from came n
    where n.state = 'queued'
    group by n.queue_id
  ) d
  where q.id = d.queue_id;
  return null;
end;
$$;

create or replace function eve.jobs_changed()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  update eve.job_queues q
  set queued = q.queued + d.jobs, bytes = q.bytes + d.bytes
  from (
    select moved.queue_id, sum(moved.jobs)::integer as jobs, sum(moved.bytes) as bytes
    from (
      select n.queue_id, 1 as jobs, n.body_bytes as bytes from after_it n where n.state = 'queued'
      union all
      select o.queue_id, -1, -o.body_bytes from before_it o where o.state = 'queued'
    ) moved
    group by moved.queue_id
    having sum(moved.jobs) <> 0 or sum(moved.bytes) <> 0
  ) d
  where q.id = d.queue_id;
  return null;
end;
$$;

create or replace function eve.jobs_went()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  update eve.job_queues q
  set queued = q.queued - d.jobs, bytes = q.bytes - d.bytes
  from (
    select o.queue_id, count(*)::integer as jobs, sum(o.body_bytes) as bytes
    from went o
    where o.state = 'queued'
    group by o.queue_id
  ) d
  where q.id = d.queue_id;
  return null;
end;
$$;

create or replace trigger eve_jobs_came
after insert on eve.jobs
referencing new table as came
for each statement execute function eve.jobs_came();
create or replace trigger eve_jobs_changed
after update on eve.jobs
referencing old table as before_it new table as after_it
for each statement execute function eve.jobs_changed();
create or replace trigger eve_jobs_went
after delete on eve.jobs
referencing old table as went
for each statement execute function eve.jobs_went();

-- One job that is to be handed in, as public.eve_jobs_submit is given it.
do $$
begin
  if to_regtype('eve.job_given') is null then
    create type eve.job_given as (
      id uuid, kind text, request_id text, request_hash text, body jsonb, body_media text, body_bytes integer, class text,
      models text[], run_at timestamptz, expires_at timestamptz, batch_id uuid, place integer, custom_id text, webhook_id uuid
    );
  end if;
end;
$$;
comment on type eve.job_given is 'A job that is to be handed in; public.eve_jobs_submit explains it.';

-- The jobs with all that they leave out, or an error for what no caller of ours sends.
create or replace function eve.jobs_given(jobs jsonb, batch_only boolean)
returns eve.job_given[]
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_given eve.job_given[];
begin
  if jsonb_typeof(jobs_given.jobs) is distinct from 'array' or jsonb_array_length(jobs_given.jobs) not between 1 and 1000 then
    raise exception 'jobs must be a list of 1 to 1000 jobs' using errcode = 'EV400';
  end if;
  -- Their order is that of the list.
  select array_agg(
    row(
      g.id, g.kind, coalesce(g.request_id, g.id::text), g.request_hash, g.body, g.body_media, octet_length(g.body::text),
      case when jobs_given.batch_only then 'batch' else coalesce(g.class, 'batch') end, g.models, coalesce(g.run_at, v_now),
      coalesce(g.expires_at, greatest(g.run_at, v_now) + k.expires_after, v_now + k.expires_after), g.batch_id, g.place, g.custom_id,
      g.webhook_id
    )::eve.job_given
    order by g.nr
  )
  into v_given
  from (
    select coalesce(j.id, gen_random_uuid()) as id, j.kind, j.request_id, j.request_hash, j.body, j.body_media, j.class, j.models,
      j.run_at, j.expires_at, j.batch_id, j.place, j.custom_id, j.webhook_id, j.nr
    from rows from (
      jsonb_to_recordset(jobs_given.jobs) as (
        id uuid, kind text, request_id text, request_hash text, body jsonb, body_media text, class text, models text[],
        run_at timestamptz, expires_at timestamptz, batch_id uuid, place integer, custom_id text, webhook_id uuid
      )
    ) with ordinality as j (
      id, kind, request_id, request_hash, body, body_media, class, models, run_at, expires_at, batch_id, place, custom_id, webhook_id, nr
    )
  ) g
  left join eve.job_kinds k on k.kind = g.kind;
  if exists (
    select from unnest(v_given) g where not exists (select from eve.job_kinds k where k.kind = g.kind)
  ) then
    raise exception 'a job''s kind must be one of eve.job_kinds' using errcode = 'EV400';
  elsif exists (
    select
    from unnest(v_given) g
    where g.class not in ('interactive', 'batch') or (g.body is null) = (g.body_media is null)
      or length(g.request_id) not between 1 and 200 or length(g.custom_id) not between 1 and 512
      or (g.batch_id is null) <> (g.place is null) or g.place < 0 or coalesce(cardinality(g.models), 1) not between 1 and 10
      or exists (select from unnest(g.models) m where m is null or length(m) not between 1 and 200)
      or g.expires_at <= v_now or g.expires_at > v_now + interval '1 year' or g.run_at > v_now + interval '1 year'
  ) then
    raise exception 'a job needs a class that exists, a body or body_media, a request_id of 1 to 200 characters, a custom_id of 1 to 512, 1 to 10 models or none, times within a year that have not passed, and a place exactly if it has a batch_id'
      using errcode = 'EV400';
  end if;
  return v_given;
end;
$$;

-- Why these may not be handed in: null, or the refusal. For anyone who holds the caller's lock.
create or replace function eve.jobs_refusal(given eve.job_given[], owner_id uuid, models text[])
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow: each job is looked up by the index.
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_max_jobs constant bigint := eve.alert_setting('jobs_queued_max', 100000);
  v_max_bytes constant bigint := eve.alert_setting('jobs_queued_max_bytes', 268435456);
  v_found record;
  v_waiting record;
  v_new record;
begin
  select g.kind, g.body_bytes, k.max_body_bytes into v_found
  from unnest(jobs_refusal.given) g
  join eve.job_kinds k on k.kind = g.kind
  where g.body_bytes > k.max_body_bytes
  limit 1;
  if found then
    return eve.refused(
      'body_too_large', format('The body of a job of the kind %s may have %s bytes.', v_found.kind, v_found.max_body_bytes),
      jsonb_build_object('bytes', v_found.body_bytes, 'max_bytes', v_found.max_body_bytes)
    );
  end if;
  select g.models into v_found from unnest(jobs_refusal.given) g where not g.models && jobs_refusal.models limit 1;
  if found then
    return eve.refused('model_not_allowed', details => jsonb_build_object('models', to_jsonb(v_found.models)));
  end if;
  select g.request_id into v_found
  from unnest(jobs_refusal.given) g
  join eve.jobs j on j.request_key = jobs_refusal.owner_id::text || ' ' || g.request_id and j.run_at is not null
  where j.request_hash is distinct from g.request_hash or j.kind <> g.kind
  limit 1;
  if found then
    return eve.refused('request_id_reused', details => jsonb_build_object('request_id', v_found.request_id));
  end if;
  select count(*) as jobs, coalesce(sum(g.body_bytes), 0) as bytes into v_new
  from unnest(jobs_refusal.given) g
  where not exists (
    select from eve.jobs j where j.request_key = jobs_refusal.owner_id::text || ' ' || g.request_id and j.run_at is not null
  );
  select coalesce(sum(q.queued), 0) as jobs, coalesce(sum(q.bytes), 0) as bytes into v_waiting
  from eve.job_queues q
  where q.owner_id = jobs_refusal.owner_id;
  if v_new.jobs > 0
    and (v_waiting.jobs + v_new.jobs > v_max_jobs or v_waiting.bytes + v_new.bytes > v_max_bytes) then
    return eve.refused(
      'jobs_full',
      format(
        'You have %s jobs of %s bytes waiting, and may have %s of %s bytes. Hand in more when some of them have been run.',
        v_waiting.jobs, v_waiting.bytes, v_max_jobs, v_max_bytes
      ),
      jsonb_build_object(
        'queued', v_waiting.jobs, 'queued_bytes', v_waiting.bytes, 'max_queued', v_max_jobs, 'max_queued_bytes', v_max_bytes
      ),
      60000
    );
  end if;
  return null;
end;
$$;

-- Hands jobs in: all of them or none.
-- jobs: 1 to 1000 of {"kind", "body" or "body_media", "id"?, "request_id"?, "request_hash"?, "class"? (batch), "models"?, "run_at"? (now),
-- "expires_at"? (as the kind says), "batch_id"? and "place"?, "custom_id"?, "webhook_id"? (for the event of its end)}. A request_id that the caller has used is the same job, if
-- the hash is the same. {"status": "accepted", "jobs": [{"id", "state", "is_new"}] in their order, "wake": whether to call the worker}, or a refusal.
create or replace function public.eve_jobs_submit(jobs jsonb, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow: each job is looked up by the index.
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
set jit = 'off'
as $$
declare
  v_owner constant uuid := coalesce(eve_jobs_submit.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_now constant timestamptz := eve.clock();
  v_given eve.job_given[];
  v_scope record;
  v_queues integer;
  v_found integer;
  v_answer jsonb;
begin
  perform eve.require_live_caller(eve_jobs_submit.consumer_id, eve_jobs_submit.token_id);
  select coalesce(c.max_class = 'batch' or t.class = 'batch', false) as batch_only,
    case
      when t.models is null then c.models
      when c.models is null then t.models
      else array(select m from unnest(t.models) m where m = any (c.models))
    end as models
  into v_scope
  from (select v_owner as id) owner
  left join eve.consumers c on c.id = owner.id
  left join eve.scoped_tokens t on t.id = eve_jobs_submit.token_id;
  v_given := eve.jobs_given(eve_jobs_submit.jobs, v_scope.batch_only);
  if exists (
    select
    from unnest(v_given) g
    where g.webhook_id is not null
      and not exists (select from eve.webhooks w where w.id = g.webhook_id and w.consumer_id = v_owner)
  ) then
    raise exception 'webhook_id must be a webhook of the caller''s' using errcode = 'EV400';
  end if;
  -- One caller's jobs come one list after the other: what is counted now holds until they are in.
  perform pg_advisory_xact_lock(hashtextextended('eve.jobs of ' || v_owner::text, 0));
  v_answer := eve.jobs_refusal(v_given, v_owner, v_scope.models);
  if v_answer is not null then
    return v_answer;
  end if;
  v_queues := (select count(distinct (g.kind, g.class, coalesce(g.models[1], ''))) from unnest(v_given) g);
  if v_queues > 1 then
    perform eve.jobs_lock();
  end if;
  -- Their rows are not locked yet, only kept from the sweep: a job that is here already and is being claimed is waited for below, by
  -- those who hand it in again, and those who claim it change its queue last.
  loop
    insert into eve.job_queues (kind, class, owner_id, topic, used_at)
    select distinct g.kind, g.class, v_owner, coalesce(g.models[1], ''), v_now from unnest(v_given) g
    on conflict on constraint job_queues_kind_class_owner_id_topic_key do nothing;
    perform
    from eve.job_queues q
    where q.owner_id = v_owner
      and (q.kind, q.class, q.topic) in (select g.kind, g.class, coalesce(g.models[1], '') from unnest(v_given) g)
    for key share;
    get diagnostics v_found = row_count;
    exit when v_found = v_queues;
  end loop;
  insert into eve.jobs (
    id, kind, queue_id, consumer_id, token_id, class, models, request_id, request_hash, body, body_media, body_bytes, state, run_at,
    expires_at, submitted_at, batch_id, place, custom_id, webhook_id
  )
  select g.id, g.kind, q.id, eve_jobs_submit.consumer_id, eve_jobs_submit.token_id, g.class, g.models, g.request_id, g.request_hash,
    g.body, g.body_media, coalesce(g.body_bytes, 0), 'queued', g.run_at, g.expires_at, v_now, g.batch_id, g.place, g.custom_id,
    g.webhook_id
  from unnest(v_given) with ordinality as g (
    id, kind, request_id, request_hash, body, body_media, body_bytes, class, models, run_at, expires_at, batch_id, place, custom_id,
    webhook_id, nr
  )
  join eve.job_queues q
    on q.kind = g.kind and q.class = g.class and q.owner_id = v_owner and q.topic = coalesce(g.models[1], '')
  order by g.nr
  on conflict (request_key) where run_at is not null do nothing;
  -- One look-up each: a join with what the statement above returns would compare each with each.
  select jsonb_agg(jsonb_build_object('id', j.id, 'state', j.state, 'is_new', j.id = g.id) order by g.nr) into v_answer
  from unnest(v_given) with ordinality as g (
    id, kind, request_id, request_hash, body, body_media, body_bytes, class, models, run_at, expires_at, batch_id, place, custom_id,
    webhook_id, nr
  )
  join eve.jobs j on j.request_key = v_owner::text || ' ' || g.request_id and j.run_at is not null;
  return jsonb_build_object(
    'status', 'accepted', 'jobs', v_answer,
    'wake', v_answer @> '[{"is_new": true}]' and exists (select from unnest(v_given) g where g.run_at <= eve.clock())
      and eve.jobs_may_wake(0)
  );
end;
$$;
comment on function public.eve_jobs_submit is 'Hands in jobs for a consumer, or for the project: all of them or none.';
