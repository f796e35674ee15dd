-- What the worker asks and says of a picture. Each step may be repeated: what has been written down for a job is not written again.

set local lock_timeout = '10s';

create table if not exists eve.vision_times (
  provider text primary key,
  counts bigint[] not null,
  total double precision not null,
  constraint vision_times_provider_length check (length(provider) between 1 and 100)
);
comment on table eve.vision_times is 'How long analyses took since the gateway was installed, by analyst. They only grow.';
comment on column eve.vision_times.counts is 'Analyses per bucket, the last one being those above every bound of eve.vision_time_bounds.';
comment on column eve.vision_times.total is 'Seconds, all together.';

-- The upper bounds of the buckets, in seconds.
create or replace function eve.vision_time_bounds()
returns double precision[]
language sql
immutable
set search_path = ''
as $$
  select array[0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80]::double precision[];
$$;

-- Adds to the metrics of vision. A tenant's name is for ever in a time series, so as many have their own as the setting metrics_consumers
-- says, and the others are `other`.
create or replace function eve.vision_count_metrics(
  tenant_id text, provider text, status text, reason text, tokens bigint, from_cache boolean, duration_ms bigint
)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most constant integer := eve.alert_setting('metrics_consumers', 100);
  v_provider constant text := left(coalesce(vision_count_metrics.provider, ''), 100);
  v_seconds constant double precision := greatest(vision_count_metrics.duration_ms, 0) / 1000.0;
  v_tenant text := vision_count_metrics.tenant_id;
begin
  if not exists (
    select from eve.metric_counters c where c.metric = 'vision_analysis_requests_total' and c.labels ->> 'tenant' = v_tenant
  ) and (
    select count(distinct c.labels ->> 'tenant') from eve.metric_counters c where c.metric = 'vision_analysis_requests_total'
  ) >= v_most then
    v_tenant := 'other';
  end if;
  insert into eve.metric_counters as c (metric, labels, value)
  select g.metric, g.labels, g.value
  from (
    values
      ('vision_analysis_requests_total', jsonb_build_object('status', vision_count_metrics.status, 'provider', v_provider, 'tenant', v_tenant), 1),
      ('vision_tokens_used_total', jsonb_build_object('provider', v_provider, 'tenant', v_tenant), vision_count_metrics.tokens),
      ('vision_decisions_total', jsonb_build_object('reason', left(vision_count_metrics.reason, 40)), (vision_count_metrics.reason is not null)::integer),
      ('vision_cache_hits_total', '{}'::jsonb, vision_count_metrics.from_cache::integer)
  ) as g (metric, labels, value)
  where g.value > 0
  order by g.metric, g.labels
  on conflict (metric, labels) do update set value = c.value + excluded.value;
  if v_provider <> '' and not vision_count_metrics.from_cache and vision_count_metrics.duration_ms is not null then
    insert into eve.vision_times as t (provider, counts, total)
    select v_provider,
      array_agg((b.nr = width_bucket(v_seconds, eve.vision_time_bounds()) + 1)::integer::bigint order by b.nr), v_seconds
    from generate_series(1, cardinality(eve.vision_time_bounds()) + 1) as b (nr)
    on conflict on constraint vision_times_pkey do update
    set counts = eve.metric_sum(t.counts, excluded.counts), total = t.total + excluded.total;
  end if;
end;
$$;

-- Begins to look at a picture, for a job: nobody else looks at the same picture of the tenant for lease_s.
-- {"status": "begun", "object", "post": {"source", "published_at", "created_at"}, "picture": what is known of it, "policy" or null,
-- "policy_version"}; "busy": another job has it, for `retry_after_ms` at most; "ended": there is nothing to do (any more) for this job.
create or replace function public.eve_vision_begin(job_id uuid, tenant_id text, post_id uuid, file_sha256 text, lease_s integer default 180)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_object public.media_objects;
  v_post public.posts;
  v_picture eve.vision_pictures;
begin
  select p.* into v_post
  from public.post_enrichment e
  join public.posts p on p.id = e.post_id
  where e.post_id = eve_vision_begin.post_id and e.file_sha256 = eve_vision_begin.file_sha256 and e.kind = 'vision'
    and e.job_id = eve_vision_begin.job_id and e.status = 'waiting' and e.tenant_id = eve_vision_begin.tenant_id;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  select * into v_object
  from public.media_objects o
  where o.tenant_id = eve_vision_begin.tenant_id and o.file_sha256 = eve_vision_begin.file_sha256
    and o.state in ('stored', 'verified')
  for share;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  insert into eve.vision_pictures as p (tenant_id, file_sha256, mime_type, held_by, held_until, created_at)
  values (
    v_object.tenant_id, v_object.file_sha256, coalesce(v_object.mime_type, ''), eve_vision_begin.job_id,
    v_now + make_interval(secs => least(greatest(eve_vision_begin.lease_s, 1), 3600)), v_now
  )
  on conflict on constraint vision_pictures_pkey do update
  set held_by = excluded.held_by, held_until = excluded.held_until
  where p.held_by is null or p.held_by = excluded.held_by or p.held_until <= v_now
  returning * into v_picture;
  if not found then
    select * into v_picture
    from eve.vision_pictures p
    where p.tenant_id = eve_vision_begin.tenant_id and p.file_sha256 = eve_vision_begin.file_sha256;
    return jsonb_build_object(
      'status', 'busy',
      'retry_after_ms', greatest(extract(epoch from coalesce(v_picture.held_until, v_now) - v_now) * 1000, 0)::bigint
    );
  end if;
  return jsonb_build_object(
    'status', 'begun', 'object', eve.media_json(v_object),
    'post', jsonb_build_object('source', v_post.source, 'published_at', v_post.published_at, 'created_at', v_post.created_at),
    'now', v_now,
    'picture', jsonb_build_object(
      'width', v_picture.width, 'height', v_picture.height, 'orientation', v_picture.orientation, 'fault', v_picture.fault,
      -- More digits than a number of JavaScript's has.
      'dhash', v_picture.dhash::text, 'no_dhash', v_picture.no_dhash
    ),
    'policy', (select p.policy from eve.vision_policies p where p.tenant_id = v_post.tenant_id),
    'policy_version', coalesce((select p.version from eve.vision_policies p where p.tenant_id = v_post.tenant_id), 0)
  );
end;
$$;
comment on function public.eve_vision_begin is 'Begins to look at a picture, and keeps others from it for a while.';

-- Keeps what a picture's bytes say, and looks for one of the tenant's that looks the same, in the same shape: at most at_most (0 to 3) of
-- 64 bits away. {"status": "saved", "similar": {"file_sha256", "distance"} or null: the nearest that has a result,
-- "under_way": likewise, where there is none: an earlier one that a job looks at now, and whose result may be waited for}.
create or replace function public.eve_vision_picture(
  tenant_id text, file_sha256 text, mime_type text, width integer default null, height integer default null, orientation integer default 1,
  dhash text default null, no_dhash text default null, fault text default null, at_most integer default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_hash constant bigint := eve_vision_picture.dhash::bigint;
  v_one eve.vision_pictures;
  v_similar jsonb;
  v_under_way jsonb;
begin
  update eve.vision_pictures p
  set mime_type = eve_vision_picture.mime_type, width = eve_vision_picture.width, height = eve_vision_picture.height,
    orientation = coalesce(eve_vision_picture.orientation, 1), dhash = v_hash, no_dhash = case when v_hash is null then eve_vision_picture.no_dhash end,
    fault = eve_vision_picture.fault
  where p.tenant_id = eve_vision_picture.tenant_id and p.file_sha256 = eve_vision_picture.file_sha256
  returning * into v_one;
  if v_hash is not null and eve_vision_picture.at_most is not null and eve_vision_picture.fault is null then
    with alike as materialized (
      select p.file_sha256, p.created_at, p.held_until, bit_count((p.dhash # v_hash)::bit(64)) as distance
      from eve.vision_pictures p
      where p.tenant_id = eve_vision_picture.tenant_id and p.dhash is not null and p.fault is null
        -- Stretched to the same cells, what is tall and what is wide may look the same.
        and abs(p.width::bigint * v_one.height - v_one.width::bigint * p.height) * 25 <= p.width::bigint * v_one.height
        and (
          p.dhash & 65535 = v_hash & 65535 or (p.dhash >> 16) & 65535 = (v_hash >> 16) & 65535
          or (p.dhash >> 32) & 65535 = (v_hash >> 32) & 65535 or (p.dhash >> 48) & 65535 = (v_hash >> 48) & 65535
        )
        and p.file_sha256 <> eve_vision_picture.file_sha256
        and bit_count((p.dhash # v_hash)::bit(64)) <= least(eve_vision_picture.at_most, 3)
    )
    select (
        select jsonb_build_object('file_sha256', s.file_sha256, 'distance', s.distance)
        from alike s
        where exists (
          select
          from public.post_enrichment e
          where e.tenant_id = eve_vision_picture.tenant_id and e.file_sha256 = s.file_sha256 and e.kind = 'vision' and e.status = 'done'
            -- A result that was itself taken over would lead further and further away.
            and e.same_as is null
        )
        order by s.distance, s.created_at, s.file_sha256
        limit 1
      ), (
        select jsonb_build_object('file_sha256', s.file_sha256, 'distance', s.distance)
        from alike s
        -- Of two that are looked at at once the later one waits, never both.
        where s.held_until > eve.clock() and (s.created_at, s.file_sha256) < (v_one.created_at, v_one.file_sha256)
        order by s.distance, s.created_at, s.file_sha256
        limit 1
      )
    into v_similar, v_under_way;
  end if;
  return jsonb_build_object(
    'status', 'saved', 'similar', v_similar, 'under_way', case when v_similar is null then v_under_way end
  );
end;
$$;
comment on function public.eve_vision_picture is 'Keeps what a picture''s bytes say of it, and looks for one that looks the same.';

-- The row of a decision; its id.
create or replace function eve.vision_decide(job_id uuid, tenant_id text, post_id uuid, file_sha256 text, decision jsonb, trace_id text)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_new constant jsonb := vision_decide.decision;
  v_last eve.vision_decisions;
begin
  select * into v_last from eve.vision_decisions d where d.post_id = vision_decide.post_id and d.file_sha256 = vision_decide.file_sha256
  order by d.id desc
  limit 1;
  -- A job that waits decides the same again and again.
  if v_last.job_id = vision_decide.job_id and v_last.action = v_new ->> 'action' and v_last.reason = v_new ->> 'reason'
    and v_last.detail = coalesce(v_new -> 'detail', '{}') then
    return v_last.id;
  end if;
  insert into eve.vision_decisions (tenant_id, post_id, file_sha256, job_id, action, reason, detail, policy_version, trace_id, decided_at)
  values (
    vision_decide.tenant_id, vision_decide.post_id, vision_decide.file_sha256, vision_decide.job_id, v_new ->> 'action', v_new ->> 'reason',
    coalesce(v_new -> 'detail', '{}'), coalesce((v_new ->> 'policy_version')::integer, 0), vision_decide.trace_id, eve.clock()
  )
  returning * into v_last;
  return v_last.id;
end;
$$;

-- Says how looking at a picture ended, or what it waits for: the decision, the row of public.post_enrichment, the event
-- vision.analyzed.v1 and the metrics, in one transaction; and lets the picture go.
-- outcome: {"status": done, skipped, invalid, failed or waiting, "reason"?, "analyst"?, "provider"?, "model"?, "schema_version"?,
-- "prompt_version"?, "resolution"?, "result"?: as shared/vision/result.ts has it, "input_tokens"?, "output_tokens"?, "raw_text"?, "from_cache"?, "duration_ms"?,
-- "same_as"?: the picture whose result is taken over}.
-- {"status": "saved"}; "ended": it was written down already, or is another job's; "gone": the result that was to be taken over is not there.
create or replace function public.eve_vision_finish(
  job_id uuid, tenant_id text, post_id uuid, file_sha256 text, decision jsonb, outcome jsonb, trace_id text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_new constant jsonb := eve_vision_finish.outcome;
  v_status constant text := v_new ->> 'status';
  v_found constant jsonb := coalesce(nullif(v_new -> 'result', 'null'), '{}');
  v_one public.post_enrichment;
  v_from public.post_enrichment;
  v_tokens bigint;
begin
  select * into v_one
  from public.post_enrichment e
  where e.post_id = eve_vision_finish.post_id and e.file_sha256 = eve_vision_finish.file_sha256 and e.kind = 'vision'
    and e.tenant_id = eve_vision_finish.tenant_id and e.job_id = eve_vision_finish.job_id and e.status = 'waiting'
  for update;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  v_one.decision_id := eve.vision_decide(
    eve_vision_finish.job_id, v_one.tenant_id, v_one.post_id, v_one.file_sha256, eve_vision_finish.decision, eve_vision_finish.trace_id
  );
  update eve.vision_pictures p
  set held_by = null, held_until = null
  where p.tenant_id = v_one.tenant_id and p.file_sha256 = v_one.file_sha256 and p.held_by = eve_vision_finish.job_id;
  if v_status = 'waiting' then
    update public.post_enrichment e
    set reason = left(v_new ->> 'reason', 500), decision_id = v_one.decision_id, updated_at = v_now
    where e.id = v_one.id;
    return jsonb_build_object('status', 'saved');
  end if;
  if v_new ->> 'same_as' is not null then
    select * into v_from
    from public.post_enrichment e
    where e.tenant_id = v_one.tenant_id and e.file_sha256 = v_new ->> 'same_as' and e.kind = 'vision' and e.status = 'done' and e.same_as is null
    order by e.analyzed_at desc, e.id
    limit 1;
    if not found then
      return jsonb_build_object('status', 'gone');
    end if;
    v_one := jsonb_populate_record(
      v_one, to_jsonb(v_from) - '{id,post_id,file_sha256,run_no,job_id,decision_id,search,from_cache,trace_id,created_at}'::text[]
    );
    v_one.same_as := v_from.file_sha256;
    v_one.input_tokens := 0;
    v_one.output_tokens := 0;
  else
    v_one := jsonb_populate_record(
      v_one,
      jsonb_build_object(
        'analyst', v_new -> 'analyst', 'provider', v_new -> 'provider', 'model', v_new -> 'model',
        'schema_version', v_new -> 'schema_version', 'prompt_version', v_new -> 'prompt_version', 'resolution', v_new -> 'resolution',
        'vision_description', v_found -> 'description', 'labels', coalesce(v_found -> 'labels', '[]'),
        'objects', coalesce(v_found -> 'objects', '[]'), 'ocr_text', v_found -> 'ocr_text', 'is_meme', v_found -> 'is_meme',
        'nsfw', v_found -> 'nsfw', 'scene', v_found -> 'scene', 'confidence', v_found -> 'confidence', 'raw_text', v_new -> 'raw_text',
        'same_as', null, 'input_tokens', coalesce((v_new ->> 'input_tokens')::bigint, 0),
        'output_tokens', coalesce((v_new ->> 'output_tokens')::bigint, 0)
      )
    );
  end if;
  v_tokens := v_one.input_tokens + v_one.output_tokens;
  update public.post_enrichment e
  set status = v_status, reason = left(v_new ->> 'reason', 500), decision_id = v_one.decision_id, analyst = v_one.analyst,
    provider = v_one.provider, model = v_one.model, schema_version = v_one.schema_version, prompt_version = v_one.prompt_version,
    resolution = v_one.resolution, vision_description = v_one.vision_description, labels = v_one.labels, objects = v_one.objects,
    ocr_text = v_one.ocr_text, is_meme = v_one.is_meme, nsfw = v_one.nsfw, scene = v_one.scene, confidence = v_one.confidence,
    input_tokens = v_one.input_tokens, output_tokens = v_one.output_tokens, tokens = v_tokens, raw_text = v_one.raw_text,
    from_cache = coalesce((v_new ->> 'from_cache')::boolean, false), same_as = v_one.same_as, updated_at = v_now, analyzed_at = v_now
  where e.id = v_one.id;
  perform eve.vision_emit(v_one.id);
  perform eve.vision_count_metrics(
    v_one.tenant_id, v_one.analyst, v_status, eve_vision_finish.decision ->> 'reason', v_tokens,
    coalesce((v_new ->> 'from_cache')::boolean, false), (v_new ->> 'duration_ms')::bigint
  );
  return jsonb_build_object('status', 'saved');
end;
$$;
comment on function public.eve_vision_finish is 'Writes down how looking at a picture ended, and tells it.';

-- The event of a picture that has ended.
create or replace function eve.vision_emit(enrichment_id uuid)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_one public.post_enrichment;
begin
  select * into v_one from public.post_enrichment e where e.id = vision_emit.enrichment_id;
  perform eve.emit_event(
    '/vision', 'vision.analyzed.v1', v_one.post_id::text,
    jsonb_build_object(
      'tenant_id', v_one.tenant_id, 'post_id', v_one.post_id, 'file_sha256', v_one.file_sha256, 'enrichment_id', v_one.id,
      'job_id', v_one.job_id, 'run_no', v_one.run_no, 'status', v_one.status, 'reason', v_one.reason, 'analyst', v_one.analyst,
      'provider', v_one.provider, 'model', v_one.model, 'schema_version', v_one.schema_version, 'labels', v_one.labels,
      'tokens', v_one.tokens, 'same_as', v_one.same_as, 'trace_id', v_one.trace_id
    ),
    coalesce((select j.owner_id from eve.jobs j where j.id = v_one.job_id), '00000000-0000-0000-0000-000000000000'),
    eve.vision_traceparent(v_one.trace_id)
  );
end;
$$;

-- A job that ended without a word of the picture (its time was over, its workers died, it was cancelled) ends the picture too.
create or replace function eve.vision_job_ended()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
  v_tenant text;
begin
  for v_id, v_tenant in
    update public.post_enrichment e
    set status = 'failed', reason = left(coalesce(new.error_code, new.state) || ': ' || coalesce(e.reason, new.error_detail, ''), 500),
      updated_at = eve.clock(), analyzed_at = eve.clock()
    where e.post_id = (new.body ->> 'post_id')::uuid and e.file_sha256 = new.body ->> 'file_sha256' and e.kind = 'vision'
      and e.job_id = new.id and e.status = 'waiting'
    returning e.id, e.tenant_id
  loop
    perform eve.vision_emit(v_id);
    -- Its decision was counted, or there was none.
    perform eve.vision_count_metrics(v_tenant, '', 'failed', null, 0, false, null);
  end loop;
  return null;
end;
$$;
create or replace trigger eve_vision_job_ended
after update on eve.jobs
for each row
when (new.kind = 'vision' and old.finished_at is null and new.finished_at is not null)
execute function eve.vision_job_ended();
