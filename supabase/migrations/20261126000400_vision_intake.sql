-- Intake: posts come in with their pictures, and what is to be looked at becomes a job and an event in the same transaction.

set local lock_timeout = '10s';

-- W3C Trace Context of a trace; null without one.
create or replace function eve.vision_traceparent(trace_id text)
returns text
language sql
volatile
set search_path = ''
as $$
  select '00-' || vision_traceparent.trace_id || '-' || left(replace(gen_random_uuid()::text, '-', ''), 16) || '-01'
  where vision_traceparent.trace_id ~ '^[0-9a-f]{32}$' and vision_traceparent.trace_id !~ '^0+$';
$$;

-- In whose name an actor's analyses are made: a consumer that may call models itself is charged for them, everybody else is the project.
create or replace function eve.vision_payer(actor jsonb, out consumer_id uuid, out token_id uuid)
language plpgsql
stable
set search_path = ''
as $$
begin
  select c.id, t.id into consumer_id, token_id
  from eve.consumers c
  left join eve.scoped_tokens t on t.id = (vision_payer.actor ->> 'token_id')::uuid and t.consumer_id = c.id
  where vision_payer.actor ->> 'kind' = 'consumer' and c.id = (vision_payer.actor ->> 'consumer_id')::uuid and 'llm' = any (c.scopes)
    and (vision_payer.actor ->> 'token_id' is null or 'llm' = any (coalesce(t.scopes, '{llm}')));
end;
$$;

-- Has a picture of a post looked at: a row of public.post_enrichment, a job, and the event vision.uploaded.v1. Whether the worker is to be
-- called. Anyone who calls it undoes everything if it raises triggered_action_exception: the message is a refusal, such as
-- that the caller has as many jobs waiting as they may.
create or replace function eve.vision_queue(enrichment public.post_enrichment, actor jsonb, class text)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_one constant public.post_enrichment := vision_queue.enrichment;
  v_payer constant record := eve.vision_payer(vision_queue.actor);
  v_job constant uuid := gen_random_uuid();
  v_answer jsonb;
begin
  v_answer := public.eve_jobs_submit(
    jsonb_build_array(
      jsonb_build_object(
        'id', v_job, 'kind', 'vision', 'class', vision_queue.class,
        'body', jsonb_build_object(
          'tenant_id', v_one.tenant_id, 'post_id', v_one.post_id, 'file_sha256', v_one.file_sha256, 'run_no', v_one.run_no,
          'trace_id', v_one.trace_id
        )
      )
    ),
    v_payer.consumer_id, v_payer.token_id
  );
  if v_answer ->> 'status' = 'refused' then
    raise exception '%', v_answer using errcode = 'triggered_action_exception';
  end if;
  update public.post_enrichment e
  set status = 'waiting', reason = null, job_id = v_job, run_no = v_one.run_no, trace_id = v_one.trace_id, updated_at = eve.clock()
  where e.id = v_one.id;
  perform eve.emit_event(
    '/vision', 'vision.uploaded.v1', v_one.post_id::text,
    jsonb_build_object(
      'tenant_id', v_one.tenant_id, 'post_id', v_one.post_id, 'file_sha256', v_one.file_sha256, 'job_id', v_job, 'run_no', v_one.run_no,
      'trace_id', v_one.trace_id
    ),
    coalesce(v_payer.consumer_id, '00000000-0000-0000-0000-000000000000'), eve.vision_traceparent(v_one.trace_id)
  );
  return (v_answer ->> 'wake')::boolean;
end;
$$;

create or replace function eve.post_json(post public.posts)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(post_json.post) || jsonb_build_object(
    'media', (
      select coalesce(jsonb_agg(m.file_sha256 order by m.place, m.file_sha256), '[]')
      from public.post_media_map m
      where m.post_id = (post_json.post).id
    )
  );
$$;

-- Has a post say what is given now: its words, and of its pictures no others.
create or replace function eve.post_replace(post_id uuid, new jsonb, media jsonb)
returns public.posts
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_post public.posts;
begin
  update public.posts p
  set text = coalesce(post_replace.new ->> 'text', ''), metadata = coalesce(nullif(post_replace.new -> 'metadata', 'null'), '{}'),
    published_at = coalesce((post_replace.new ->> 'published_at')::timestamptz, p.published_at), updated_at = eve.clock()
  where p.id = post_replace.post_id
  returning p.* into v_post;
  delete from public.post_media_map m where m.post_id = post_replace.post_id and not post_replace.media ? m.file_sha256;
  delete from public.post_enrichment e
  where e.post_id = post_replace.post_id and e.file_sha256 is not null and not post_replace.media ? e.file_sha256;
  update public.post_media_map m
  set place = f.place
  from (
    select g.sha256, min(g.nr)::integer - 1 as place
    from jsonb_array_elements_text(post_replace.media) with ordinality as g (sha256, nr)
    group by g.sha256
  ) f
  where m.post_id = post_replace.post_id and m.file_sha256 = f.sha256 and m.place <> f.place;
  return v_post;
exception when check_violation or data_exception then
  raise exception 'a post has a text of at most 256 KiB, metadata of at most 16 KiB, and a published_at that is a time' using errcode = 'EV400';
end;
$$;

-- Adds a post with its pictures. post: {"tenant_id"?, "source", "external_id"?, "text"?, "published_at"?, "metadata"?, "media"?: hashes of
-- files that are stored, 50 at most, "class"?: batch or interactive, "replace"?}. A source and external_id that are there already are that
-- post: its words stay, and pictures that it did not have are added; with replace it says what is given now, and no more. scope: what the actor needs, intake or vision.
-- {"status": "created" or "present", "post", "wake"}, or a refusal.
create or replace function public.eve_post_add(actor jsonb, post jsonb, trace_id text default null, scope text default 'intake')
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most constant integer := 50;
  v_new constant jsonb := eve_post_add.post;
  v_who constant jsonb := eve.tenant_of_actor(
    eve_post_add.actor, v_new ->> 'tenant_id', case eve_post_add.scope when 'vision' then 'vision' else 'intake' end
  );
  v_tenant constant text := v_who ->> 'tenant_id';
  v_media constant jsonb := coalesce(nullif(v_new -> 'media', 'null'), '[]');
  v_post public.posts;
  v_status text := 'created';
  v_file record;
  v_enrichment public.post_enrichment;
  v_wake boolean := false;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif jsonb_typeof(v_media) <> 'array' or jsonb_array_length(v_media) > v_most then
    raise exception 'media must be a list of at most % hashes', v_most using errcode = 'EV400';
  elsif coalesce(v_new ->> 'class', 'batch') not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  end if;
  begin
    insert into public.posts (tenant_id, source, external_id, text, published_at, metadata, trace_id, created_at, updated_at)
    values (
      v_tenant, coalesce(v_new ->> 'source', 'api'), nullif(v_new ->> 'external_id', ''), coalesce(v_new ->> 'text', ''),
      (v_new ->> 'published_at')::timestamptz, coalesce(nullif(v_new -> 'metadata', 'null'), '{}'), eve_post_add.trace_id, eve.clock(),
      eve.clock()
    )
    on conflict (tenant_id, source, external_id) where external_id is not null do nothing
    returning * into v_post;
  exception when check_violation or data_exception then
    raise exception 'a post has a source of 1 to 200 bytes, an external_id of at most 500, a text of at most 256 KiB, metadata of at most 16 KiB, and a published_at that is a time'
      using errcode = 'EV400';
  end;
  if v_post.id is null then
    v_status := 'present';
    -- Others that bring pictures for it wait.
    select * into v_post
    from public.posts p
    where p.tenant_id = v_tenant and p.source = coalesce(v_new ->> 'source', 'api') and p.external_id = v_new ->> 'external_id'
    for update;
  end if;
  begin
    -- All of them before the first job, and in the order of their keys: two posts with the same pictures do not wait for each other.
    perform
    from public.media_objects o
    where o.tenant_id = v_tenant and o.file_sha256 in (select f.value from jsonb_array_elements_text(v_media) f)
    order by o.file_sha256
    for update;
    for v_file in
      select m.sha256, m.place, o.file_sha256, o.mime_type
      from (
        select f.value as sha256, min(f.nr)::integer - 1 as place
        from jsonb_array_elements_text(v_media) with ordinality as f (value, nr)
        group by f.value
      ) m
      left join public.media_objects o
        on o.tenant_id = v_tenant and o.file_sha256 = m.sha256 and o.state in ('stored', 'verified')
      order by m.sha256
    loop
      if v_file.file_sha256 is null then
        raise exception '%', eve.refused('object_not_found', format('There is no file %s: upload it first.', left(v_file.sha256, 64)))
          using errcode = 'triggered_action_exception';
      end if;
      insert into public.post_media_map (post_id, tenant_id, file_sha256, place, created_at)
      values (v_post.id, v_tenant, v_file.sha256, v_file.place, eve.clock())
      on conflict do nothing;
      continue when not found or v_file.mime_type not like 'image/%';
      insert into public.post_enrichment (tenant_id, post_id, file_sha256, trace_id, created_at, updated_at)
      values (v_tenant, v_post.id, v_file.sha256, eve_post_add.trace_id, eve.clock(), eve.clock())
      on conflict do nothing
      returning * into v_enrichment;
      continue when not found;
      v_wake := eve.vision_queue(v_enrichment, eve_post_add.actor, coalesce(v_new ->> 'class', 'batch')) or v_wake;
    end loop;
  exception when triggered_action_exception then
    -- Not half of a post: it goes with what came of it, unless it was there before.
    if v_status = 'created' then
      delete from public.posts p where p.id = v_post.id;
    end if;
    return sqlerrm::jsonb;
  end;
  if v_status = 'present' and (v_new ->> 'replace')::boolean then
    v_post := eve.post_replace(v_post.id, v_new, v_media);
  end if;
  return jsonb_build_object(
    'status', v_status, 'post', eve.post_json(v_post),
    -- A trigger has queued its links.
    'wake', v_wake or coalesce(current_setting('eve.crawl_wakes', true), '') = 'true'
  );
end;
$$;
comment on function public.eve_post_add is 'Adds a post, and has its pictures looked at.';

-- The refusal of an actor who asks for a post, or the post's row as JSON.
create or replace function eve.vision_post_for(actor jsonb, post_id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_post public.posts;
  v_who jsonb;
begin
  select * into v_post from public.posts p where p.id = vision_post_for.post_id;
  v_who := eve.tenant_of_actor(vision_post_for.actor, v_post.tenant_id, 'vision');
  -- Who may not see it learns no more than that there is none.
  if v_post.id is null or v_who ->> 'code' = 'tenant_not_allowed' then
    return case when v_who ->> 'status' = 'refused' and v_who ->> 'code' <> 'tenant_not_allowed' then v_who
      else eve.refused('post_not_found') end;
  end if;
  return case when v_who ->> 'status' = 'refused' then v_who else jsonb_build_object('status', 'found', 'tenant_id', v_post.tenant_id) end;
end;
$$;

create or replace function eve.enrichment_json(enrichment public.post_enrichment)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(enrichment_json.enrichment) - 'search' - 'raw_text' - 'decision_id' || jsonb_build_object(
    'decision', (
      select jsonb_build_object('action', d.action, 'reason', d.reason, 'detail', d.detail, 'policy_version', d.policy_version, 'decided_at', d.decided_at)
      from eve.vision_decisions d
      where d.id = (enrichment_json.enrichment).decision_id
    )
  );
$$;

create or replace function public.eve_vision_post(actor jsonb, post_id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.vision_post_for(eve_vision_post.actor, eve_vision_post.post_id);
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return jsonb_build_object(
    'status', 'found',
    'post', (select eve.post_json(p) from public.posts p where p.id = eve_vision_post.post_id),
    'enrichment', (
      select coalesce(jsonb_agg(eve.enrichment_json(e) order by m.place, e.file_sha256, e.kind), '[]')
      from public.post_enrichment e
      left join public.post_media_map m on m.post_id = e.post_id and m.file_sha256 = e.file_sha256
      where e.post_id = eve_vision_post.post_id
    )
  );
end;
$$;
comment on function public.eve_vision_post is 'A post with what was found in its pictures, and why it was done so.';

-- Has pictures looked at once more: one picture of a post, all of a post, or those of a tenant with a status (failed, invalid, skipped,
-- waiting whose job is gone), 1,000 at most. {"status": "queued", "queued", "wake"}.
create or replace function public.eve_vision_requeue(
  actor jsonb, post_id uuid default null, file_sha256 text default null, tenant_id text default null, which text default null,
  trace_id text default null, class text default 'batch'
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most constant integer := 1000;
  v_who jsonb;
  v_one public.post_enrichment;
  v_queued integer := 0;
  v_wake boolean := false;
begin
  if eve_vision_requeue.post_id is null and coalesce(eve_vision_requeue.which, '') not in ('failed', 'invalid', 'skipped') then
    raise exception 'name a post, or which of a tenant''s: failed, invalid or skipped' using errcode = 'EV400';
  end if;
  v_who := case
    when eve_vision_requeue.post_id is not null then eve.vision_post_for(eve_vision_requeue.actor, eve_vision_requeue.post_id)
    else eve.tenant_of_actor(eve_vision_requeue.actor, eve_vision_requeue.tenant_id, 'vision')
  end;
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  begin
    for v_one in
      select e.*
      from public.post_enrichment e
      where e.tenant_id = v_who ->> 'tenant_id' and e.kind = 'vision' and e.file_sha256 is not null
        and (eve_vision_requeue.post_id is null or e.post_id = eve_vision_requeue.post_id)
        and (eve_vision_requeue.file_sha256 is null or e.file_sha256 = eve_vision_requeue.file_sha256)
        and (eve_vision_requeue.which is null or e.status = eve_vision_requeue.which)
        -- One that waits is queued already.
        and e.status <> 'waiting'
      order by e.id
      limit v_most
      for update
    loop
      v_one.run_no := v_one.run_no + 1;
      v_one.trace_id := coalesce(eve_vision_requeue.trace_id, v_one.trace_id);
      v_wake := eve.vision_queue(v_one, eve_vision_requeue.actor, eve_vision_requeue.class) or v_wake;
      v_queued := v_queued + 1;
    end loop;
  exception when triggered_action_exception then
    return sqlerrm::jsonb;
  end;
  return jsonb_build_object('status', 'queued', 'queued', v_queued, 'wake', v_wake);
end;
$$;
comment on function public.eve_vision_requeue is 'Has pictures looked at once more.';
