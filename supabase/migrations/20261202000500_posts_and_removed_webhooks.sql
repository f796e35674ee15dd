-- Two that met and one of them failed: a post with pictures and links met a claim of jobs in a deadlock; an event of a webhook that was
-- being removed undid what it told of.

set local lock_timeout = '10s';

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
  v_payer constant uuid := coalesce((eve.vision_payer(eve_post_add.actor)).consumer_id, '00000000-0000-0000-0000-000000000000');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif jsonb_typeof(v_media) <> 'array' or jsonb_array_length(v_media) > v_most then
    raise exception 'media must be a list of at most % hashes', v_most using errcode = 'EV400';
  elsif coalesce(v_new ->> 'class', 'batch') not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  end if;
  if jsonb_array_length(v_media) > 0
    and ((v_new ->> 'replace')::boolean or concat(v_new ->> 'text', v_new #> '{metadata,links}') ~* 'https?://') then
    -- Its pictures and its links are jobs of two queues: those who claim change both as well, in an order of their own. The callers come
    -- first, as in eve_jobs_submit.
    perform pg_advisory_xact_lock(hashtextextended('eve.jobs of 00000000-0000-0000-0000-000000000000', 0));
    perform pg_advisory_xact_lock(hashtextextended('eve.jobs of ' || v_payer::text, 0));
    perform eve.jobs_lock();
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

-- Writes an event and its deliveries, in the transaction of what it tells of. Answers its CloudEvents id; null: nobody takes it, and
-- nothing was written. The same source and event_id again are the same event: nothing is written either, and the id is answered.
--   source       which part of the gateway tells it: /jobs, /alerts
--   data         a JSON object of 16 KiB at most; thin, since it leaves the project: ids and states, never a prompt or an answer
--   consumer_id  the caller whom it concerns; by default the project
--   to_consumer  a name in eve.event_consumers (such as webhook:<id>): for this one alone, whatever types it takes
--   also_to      such a name too: for this one, whatever types it takes, beside those who take the type
create or replace function eve.emit_event(
  source text, type text, subject text, data jsonb default '{}', consumer_id uuid default '00000000-0000-0000-0000-000000000000',
  traceparent text default null, event_id uuid default null, to_consumer text default null, also_to text default null
)
returns uuid
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_names text[];
  v_event_id uuid;
  v_id bigint;
begin
  -- Also where nobody takes it: a wrong type is a fault that should show before somebody does.
  if not coalesce(emit_event.type ~ '[.]v[1-9][0-9]{0,2}$', false) then
    raise exception '% is no type of an event: it ends in .v1 or the like', emit_event.type using errcode = 'EV400';
  end if;
  select array_agg(c.name order by c.name) into v_names
  from eve.event_consumers c
  where c.is_active
    and case
      when emit_event.to_consumer is not null then c.name = emit_event.to_consumer
      else (c.consumer_id is null or c.consumer_id = emit_event.consumer_id)
        and (eve.event_type_matches(emit_event.type, c.types) or coalesce(c.name = emit_event.also_to, false))
    end;
  if v_names is null then
    return null;
  end if;
  insert into eve.events (event_id, source, type, subject, time, data, traceparent, consumer_id)
  values (
    coalesce(emit_event.event_id, gen_random_uuid()), emit_event.source, emit_event.type, nullif(left(emit_event.subject, 500), ''), v_now,
    coalesce(emit_event.data, '{}'), emit_event.traceparent, emit_event.consumer_id
  )
  on conflict on constraint events_source_event_id_key do nothing
  returning id, event_id into v_id, v_event_id;
  if v_id is null then
    return emit_event.event_id;
  end if;
  -- One that has been removed meanwhile is left out: what the event tells of is not undone by that.
  insert into eve.event_deliveries (event_id, consumer, next_try_at, created_at)
  select v_id, c.name, v_now, v_now
  from eve.event_consumers c
  where c.name = any (v_names)
  order by c.name
  for key share;
  return v_event_id;
end;
$$;
