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
CREATE OR REPLACE FUNCTION eve.batches_count()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_ids uuid[];
begin
  if not exists (select from after_it n where n.finished_at is not null and (n.batch_id is not null or n.kind = 'batch')) then
    return null;
  end if;
  v_ids := array(
    select b.id
    from eve.batches b
    where b.id in (
      select n.batch_id from after_it n where n.finished_at is not null
      union
      select c.id from after_it n join eve.batches c on c.job_id = n.id where n.kind = 'batch' and n.finished_at is not null
    )
    order by b.id
    for no key update
  );
  update eve.batches b
  set open = b.open - d.ended, completed = b.completed + d.completed, failed = b.failed + d.failed, expired = b.expired + d.expired,
    output_bytes = b.output_bytes + d.output_bytes, error_bytes = b.error_bytes + d.error_bytes
  from (
    -- By the difference: a join of the two tables compares each row with each, as their plan was made for a few.
    select l.batch_id, sum(l.sign) as ended, coalesce(sum(l.sign) filter (where l.state = 'succeeded'), 0) as completed,
      coalesce(sum(l.sign) filter (where l.state = 'failed'), 0) as failed,
      coalesce(sum(l.sign) filter (where l.state = 'expired'), 0) as expired,
      coalesce(sum(l.sign * l.bytes) filter (where l.state = 'succeeded'), 0) as output_bytes,
      coalesce(sum(l.sign * l.bytes) filter (where l.state <> 'succeeded'), 0) as error_bytes
    from (
      select n.batch_id, n.state, 1 as sign,
        octet_length(eve.batch_line(row(n.*)::eve.jobs, (select w.api from eve.batches w where w.id = n.batch_id))) + 1 as bytes
      from after_it n
      where n.finished_at is not null and n.batch_id is not null
      union all
      select o.batch_id, o.state, -1,
        octet_length(eve.batch_line(row(o.*)::eve.jobs, (select w.api from eve.batches w where w.id = o.batch_id))) + 1
      from before_it o
      where o.finished_at is not null and o.batch_id is not null
    ) l
    group by l.batch_id
  ) d
  where b.id = d.batch_id;
  -- What has been handed in is done; the rest never comes.
  update eve.batches b
  set total = b.added,
    errors = coalesce(
      b.errors,
      jsonb_build_array(
        jsonb_build_object(
          'code', coalesce(n.error_code, 'job_' || n.state), 'param', null, 'line', null,
          'message', format('The file was not read to its end; of its lines %s were handed in. %s', b.added, coalesce(n.error_detail, ''))
        )
      )
    )
  from after_it n
  where n.id = b.job_id and n.kind = 'batch' and n.finished_at is not null and n.state <> 'succeeded'
    and b.state in ('validating', 'in_progress') and (b.added < b.total or b.state = 'validating');
  perform eve.batch_finish(v_ids);
  return null;
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
