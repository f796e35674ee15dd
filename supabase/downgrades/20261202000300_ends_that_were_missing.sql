-- The way down of 20261202000300_ends_that_were_missing.sql.

set local lock_timeout = '10s';

drop function eve.links_told(uuid);

CREATE OR REPLACE FUNCTION eve.batch_finish(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
begin
  with ended as (
    update eve.batches b
    set state = case
        when b.state = 'cancelling' then 'cancelled'
        when b.expired > 0 or b.expires_at <= v_now and b.total = 0 then 'expired'
        when b.errors is not null then 'failed'
        else 'completed'
      end,
      finalizing_at = v_now, ended_at = v_now,
      output_file_id = case when b.output_bytes > 0 or b.api <> 'openai' and b.error_bytes > 0 then gen_random_uuid() end,
      error_file_id = case when b.api = 'openai' and b.error_bytes > 0 then gen_random_uuid() end
    where b.id = any (batch_finish.ids) and b.added = b.total and b.open = 0
      and (b.state in ('in_progress', 'cancelling') or b.state = 'validating' and (b.errors is not null or b.expires_at <= v_now))
    returning b.*
  )
  insert into eve.batch_files (id, consumer_id, purpose, filename, is_listed, bytes, batch_id, holds, created_at, expires_at)
  select f.id, e.consumer_id, 'batch_output', format('batch_%s_%s.jsonl', replace(e.id::text, '-', ''), f.name), not e.is_inline, f.bytes,
    e.id, f.holds, v_now,
    -- A line leaves when its job does: the first may have ended at once.
    coalesce(e.in_progress_at, e.created_at) + (select k.keep from eve.job_kinds k where k.kind = 'llm')
  from ended e
  cross join lateral (
    values
      (
        e.output_file_id, 'output', e.output_bytes + case when e.api = 'openai' then 0 else e.error_bytes end,
        case when e.api = 'openai' then 'answers' else 'all' end
      ),
      (e.error_file_id, 'error', e.error_bytes, 'errors')
  ) as f (id, name, bytes, holds)
  where f.id is not null;
end;
$function$;
CREATE OR REPLACE FUNCTION public.eve_batch_add(id uuid, total integer, models text[], lines jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_owner constant uuid := (select b.owner_id from eve.batches b where b.id = eve_batch_add.id);
  v_batch eve.batches;
  v_submitted jsonb;
  v_new integer;
begin
  -- Before the batch's row, in the order in which everybody takes them.
  perform pg_advisory_xact_lock(hashtextextended('eve.jobs of ' || v_owner::text, 0));
  perform eve.jobs_lock();
  select * into v_batch from eve.batches b where b.id = eve_batch_add.id for no key update;
  if not found or v_batch.state not in ('validating', 'in_progress') or v_batch.errors is not null or v_batch.expires_at <= v_now then
    return jsonb_build_object('status', 'ended');
  end if;
  v_submitted := public.eve_jobs_submit(
    (
      select jsonb_agg(
        l.line || jsonb_build_object(
          'id', coalesce((l.line ->> 'id')::uuid, gen_random_uuid()), 'kind', 'llm', 'request_id', format('batch-%s-%s', v_batch.id, l.line ->> 'place'),
          'batch_id', v_batch.id, 'expires_at', v_batch.expires_at
        )
        order by l.nr
      )
      from jsonb_array_elements(eve_batch_add.lines) with ordinality as l (line, nr)
    ),
    v_batch.consumer_id,
    -- As with a job that waits (eve.job_to_run): what the token may do was looked at when the batch was handed in.
    (
      select t.id
      from eve.scoped_tokens t
      where t.id = v_batch.token_id
        and (t.expires_at > v_now or t.revoked_at is not null or t.requests_budget is not null or t.tokens_budget is not null)
    )
  );
  if v_submitted ->> 'status' = 'refused' then
    return v_submitted;
  end if;
  select count(*) into v_new from jsonb_array_elements(v_submitted -> 'jobs') j where (j ->> 'is_new')::boolean;
  update eve.batches b
  set state = 'in_progress', in_progress_at = coalesce(b.in_progress_at, v_now),
    total = case when b.state = 'validating' then eve_batch_add.total else b.total end,
    models = case when b.state = 'validating' then eve_batch_add.models else b.models end, added = b.added + v_new, open = b.open + v_new
  where b.id = v_batch.id;
  return jsonb_build_object('status', 'added', 'wake', v_submitted -> 'wake');
end;
$function$;
CREATE OR REPLACE FUNCTION public.eve_crawl_links(post_id uuid, links jsonb, trace_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_post public.posts;
  v_link record;
  v_page public.crawl_pages;
  v_pages uuid[] := '{}';
  v_gone integer;
  v_new integer := 0;
  v_queued integer := 0;
  v_wake boolean := false;
  v_job uuid;
begin
  if jsonb_typeof(eve_crawl_links.links -> 'list') is distinct from 'array' or jsonb_array_length(eve_crawl_links.links -> 'list') > 50 then
    raise exception 'links must be a list of at most 50' using errcode = 'EV400';
  end if;
  select * into v_post from public.posts p where p.id = eve_crawl_links.post_id for update;
  if v_post.id is null then
    return '{"status": "gone"}';
  end if;
  -- In one order: two posts with the same links do not wait for each other.
  for v_link in
    select l.value as page, l.nr::integer - 1 as place
    from jsonb_array_elements(eve_crawl_links.links -> 'list') with ordinality as l (value, nr)
    order by l.value ->> 'canonical_url'
  loop
    v_page := eve.crawl_page_of(v_post.tenant_id, v_link.page, eve_crawl_links.trace_id);
    v_pages := v_pages || v_page.id;
    insert into public.post_links as k (post_id, page_id, tenant_id, url, place, created_at)
    values (v_post.id, v_page.id, v_post.tenant_id, v_link.page ->> 'url', v_link.place, eve.clock())
    on conflict on constraint post_links_pkey do nothing;
    if found then
      v_new := v_new + 1;
    end if;
    continue when v_page.state <> 'waiting' and v_page.expires_at > eve.clock() or eve.crawl_is_queued(v_page);
    v_job := gen_random_uuid();
    begin
      v_wake := eve.crawl_queue(
        v_job,
        jsonb_build_object('tenant_id', v_post.tenant_id, 'page_id', v_page.id, 'mode', 'enabled', 'trace_id', eve_crawl_links.trace_id),
        'batch'
      ) or v_wake;
    exception when triggered_action_exception then
      return sqlerrm::jsonb;
    end;
    update public.crawl_pages p set job_id = v_job where p.id = v_page.id;
    v_queued := v_queued + 1;
  end loop;
  delete from public.post_links k where k.post_id = v_post.id and k.page_id <> all (v_pages);
  get diagnostics v_gone = row_count;
  if v_new + v_gone > 0 then
    perform eve.emit_event(
      '/crawl', 'post.linked.v1', v_post.id::text,
      jsonb_build_object(
        'tenant_id', v_post.tenant_id, 'post_id', v_post.id, 'trace_id', eve_crawl_links.trace_id,
        'links', (
          select coalesce(
            jsonb_agg(
              jsonb_build_object(
                'page_id', p.id, 'canonical_url', p.canonical_url, 'domain', p.domain, 'state', p.state, 'title', p.title
              ) order by k.place, p.id
            ), '[]'
          )
          from public.post_links k
          join public.crawl_pages p on p.id = k.page_id
          where k.post_id = v_post.id
        )
      ),
      traceparent => eve.vision_traceparent(eve_crawl_links.trace_id)
    );
  end if;
  return jsonb_build_object('status', 'linked', 'links', cardinality(v_pages), 'queued', v_queued, 'wake', v_wake);
end;
$function$;
CREATE OR REPLACE FUNCTION public.eve_dead_letters_replay(ids bigint[] DEFAULT NULL::bigint[], consumer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_deliveries bigint[];
begin
  select array_agg(l.delivery_id) into v_deliveries
  from eve.dead_letters_meant(eve_dead_letters_replay.ids, eve_dead_letters_replay.consumer, 1000) l
  join eve.event_consumers c on c.name = l.consumer and c.is_active;
  update eve.event_deliveries d
  set state = 'pending', attempts = 0, next_try_at = v_now, ended_at = null, first_failed_at = null, last_failed_at = null
  where d.id = any (v_deliveries);
  delete from eve.dead_letters l where l.delivery_id = any (v_deliveries);
  return jsonb_build_object('replayed', coalesce(cardinality(v_deliveries), 0));
end;
$function$;
