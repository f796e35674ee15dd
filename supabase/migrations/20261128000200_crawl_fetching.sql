-- Crawling: who asks for a page gets it from the cache or a job that fetches it; what came is written with its events in one transaction.

set local lock_timeout = '10s';

create or replace function eve.crawl_page_json(page public.crawl_pages)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select to_jsonb(crawl_page_json.page) - 'cache_policy' - 'held_by' - 'held_until' - 'job_id' || jsonb_build_object(
    'article', (
      select to_jsonb(a) - 'page_id' - 'tenant_id' - 'trace_id' from public.articles a where a.page_id = (crawl_page_json.page).id
    ),
    'post_ids', (
      select coalesce(jsonb_agg(l.post_id order by l.post_id), '[]')
      from (select l.post_id from public.post_links l where l.page_id = (crawl_page_json.page).id order by l.post_id limit 100) l
    )
  );
$$;

-- A job that fetches pages or follows a post's links; whether the worker is to be called. Raises triggered_action_exception with a refusal.
create or replace function eve.crawl_queue(job_id uuid, body jsonb, class text, consumer_id uuid default null, token_id uuid default null)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_answer constant jsonb := public.eve_jobs_submit(
    jsonb_build_array(jsonb_build_object('id', crawl_queue.job_id, 'kind', 'crawl', 'class', crawl_queue.class, 'body', crawl_queue.body)),
    crawl_queue.consumer_id, crawl_queue.token_id
  );
begin
  if v_answer ->> 'status' = 'refused' then
    raise exception '%', v_answer using errcode = 'triggered_action_exception';
  end if;
  return (v_answer ->> 'wake')::boolean;
end;
$$;

-- The row of a page, made if there is none, and locked.
create or replace function eve.crawl_page_of(tenant_id text, page jsonb, trace_id text)
returns public.crawl_pages
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_page public.crawl_pages;
begin
  insert into public.crawl_pages (tenant_id, url, canonical_url, canonical_rules, domain, trace_id, used_at, created_at, updated_at)
  values (
    crawl_page_of.tenant_id, crawl_page_of.page ->> 'url', crawl_page_of.page ->> 'canonical_url',
    coalesce((crawl_page_of.page ->> 'rules')::integer, 1), crawl_page_of.page ->> 'domain', crawl_page_of.trace_id, eve.clock(), eve.clock(),
    eve.clock()
  )
  on conflict (tenant_id, md5(canonical_url)) do nothing
  returning * into v_page;
  if v_page.id is null then
    update public.crawl_pages p
    set used_at = eve.clock()
    where p.tenant_id = crawl_page_of.tenant_id and md5(p.canonical_url) = md5(crawl_page_of.page ->> 'canonical_url')
    returning * into v_page;
  end if;
  return v_page;
end;
$$;

-- Whether a job for the page is still to run or runs.
create or replace function eve.crawl_is_queued(page public.crawl_pages)
returns boolean
language sql
stable
set search_path = ''
as $$
  select exists (select from eve.jobs j where j.id = (crawl_is_queued.page).job_id and j.state in ('queued', 'running'));
$$;

-- Asks for a page: {"url", "canonical_url", "rules", "domain"}. mode: enabled (answered while it is fresh, else fetched), read_only (never
-- fetched), write_only (always fetched, and kept), bypass and disabled (always fetched, and not kept: the job's result has it).
-- {"status": "found", "page"}, {"status": "queued", "page", "job_id", "wake"}, {"status": "none"}, or a refusal.
create or replace function public.eve_crawl_ask(
  actor jsonb, page jsonb, mode text default 'enabled', tenant_id text default null, class text default 'batch', trace_id text default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_crawl_ask.actor, eve_crawl_ask.tenant_id, 'intake');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_keeps constant boolean := eve_crawl_ask.mode in ('enabled', 'write_only');
  v_payer record;
  v_page public.crawl_pages;
  v_job uuid := gen_random_uuid();
  v_wake boolean := false;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif coalesce(eve_crawl_ask.mode, '') not in ('enabled', 'bypass', 'read_only', 'write_only', 'disabled') then
    raise exception 'mode must be enabled, bypass, read_only, write_only or disabled' using errcode = 'EV400';
  end if;
  if eve_crawl_ask.mode = 'read_only' then
    select * into v_page
    from public.crawl_pages p
    where p.tenant_id = v_tenant and md5(p.canonical_url) = md5(eve_crawl_ask.page ->> 'canonical_url') and p.state <> 'waiting';
    return case when v_page.id is null then '{"status": "none"}'::jsonb
      else jsonb_build_object('status', 'found', 'page', eve.crawl_page_json(v_page)) end;
  end if;
  if v_keeps then
    begin
      v_page := eve.crawl_page_of(v_tenant, eve_crawl_ask.page, eve_crawl_ask.trace_id);
    exception when check_violation or not_null_violation then
      raise exception 'a page has a url and a canonical_url of at most 4,096 characters' using errcode = 'EV400';
    end;
  end if;
  if eve_crawl_ask.mode = 'enabled' and v_page.state <> 'waiting' and v_page.expires_at > eve.clock() then
    return jsonb_build_object('status', 'found', 'page', eve.crawl_page_json(v_page));
  end if;
  if eve_crawl_ask.mode = 'enabled' and eve.crawl_is_queued(v_page) then
    return jsonb_build_object(
      'status', 'queued', 'page', eve.crawl_page_json(v_page), 'job_id', v_page.job_id, 'wake', eve.jobs_may_wake(0)
    );
  end if;
  v_payer := eve.vision_payer(eve_crawl_ask.actor);
  begin
    v_wake := eve.crawl_queue(
      v_job,
      jsonb_build_object(
        'tenant_id', v_tenant, 'page_id', v_page.id, 'mode', eve_crawl_ask.mode, 'trace_id', eve_crawl_ask.trace_id,
        'url', eve_crawl_ask.page ->> 'url'
      ),
      eve_crawl_ask.class, v_payer.consumer_id, v_payer.token_id
    );
  exception when triggered_action_exception then
    return sqlerrm::jsonb;
  end;
  update public.crawl_pages p set job_id = v_job where p.id = v_page.id;
  return jsonb_build_object(
    'status', 'queued', 'page', case when v_keeps then eve.crawl_page_json(v_page) end, 'job_id', v_job, 'wake', v_wake
  );
end;
$$;
comment on function public.eve_crawl_ask is 'A page out of the cache, or a job that fetches it.';

create or replace function public.eve_crawl_page(actor jsonb, id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_page public.crawl_pages;
  v_who jsonb;
begin
  select * into v_page from public.crawl_pages p where p.id = eve_crawl_page.id;
  v_who := eve.tenant_of_actor(eve_crawl_page.actor, v_page.tenant_id, 'intake');
  if v_page.id is null or v_who ->> 'code' = 'tenant_not_allowed' then
    return case when v_who ->> 'status' = 'refused' and v_who ->> 'code' <> 'tenant_not_allowed' then v_who
      else eve.refused('page_not_found') end;
  elsif v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return jsonb_build_object('status', 'found', 'page', eve.crawl_page_json(v_page));
end;
$$;
comment on function public.eve_crawl_page is 'A page with its article.';

-- How a job stands that eve_crawl_ask answered; job_id is known to who asked. {"status": "found", "is_done", "page"}: the page that was not
-- kept is in its job's result.
create or replace function public.eve_crawl_job(job_id uuid)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    (
      select jsonb_build_object(
        'status', 'found', 'is_done', j.state not in ('queued', 'running'),
        'page', coalesce(
          (select eve.crawl_page_json(p) from public.crawl_pages p where p.id = (j.body ->> 'page_id')::uuid), j.result -> 'page'
        )
      )
      from eve.jobs j
      where j.id = eve_crawl_job.job_id and j.kind = 'crawl'
    ), '{"status": "found", "is_done": true, "page": null}'
  );
$$;
comment on function public.eve_crawl_job is 'How a job that fetches a page stands.';

create or replace function public.eve_crawl_pages(
  actor jsonb, tenant_id text default null, domain text default null, state text default null, before timestamptz default null,
  at_most integer default 50
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_crawl_pages.actor, eve_crawl_pages.tenant_id, 'intake');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return (
    select jsonb_build_object(
      'status', 'listed', 'pages',
      coalesce(jsonb_agg(eve.crawl_page_json(row(p.*)::public.crawl_pages) #- '{article,text}' order by p.updated_at desc, p.id), '[]')
    )
    from (
      select p.*
      from public.crawl_pages p
      where p.tenant_id = v_who ->> 'tenant_id' and (eve_crawl_pages.domain is null or p.domain = eve_crawl_pages.domain)
        and (eve_crawl_pages.state is null or p.state = eve_crawl_pages.state)
        and (eve_crawl_pages.before is null or p.updated_at < eve_crawl_pages.before)
      order by p.updated_at desc, p.id
      limit least(greatest(eve_crawl_pages.at_most, 1), 200)
    ) p
  );
end;
$$;
comment on function public.eve_crawl_pages is 'A tenant''s pages, those that changed last first, without the text of their articles.';

-- Keeps what a model made of an article; text_sha256: of the text that it was given, and an article that says something else by now keeps
-- nothing of it. {"status": "found", "page"}.
create or replace function public.eve_crawl_summarised(
  actor jsonb, id uuid, text_sha256 text, summary text, model text, prompt text
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_found constant jsonb := public.eve_crawl_page(eve_crawl_summarised.actor, eve_crawl_summarised.id);
begin
  if v_found ->> 'status' <> 'found' then
    return v_found;
  end if;
  update public.articles a
  set summary = left(eve_crawl_summarised.summary, 8000), summary_model = left(eve_crawl_summarised.model, 200),
    summary_prompt = left(eve_crawl_summarised.prompt, 4000), updated_at = eve.clock()
  where a.page_id = eve_crawl_summarised.id and encode(sha256(convert_to(a.text, 'UTF8')), 'hex') = eve_crawl_summarised.text_sha256;
  return public.eve_crawl_page(eve_crawl_summarised.actor, eve_crawl_summarised.id);
end;
$$;
comment on function public.eve_crawl_summarised is 'Keeps the summary of an article.';

-- A job begins to fetch a page. {"status": "begun", "page"}; "fresh": somebody has fetched it meanwhile; "busy": somebody does now.
create or replace function public.eve_crawl_begin(page_id uuid, job_id uuid, mode text, lease_s integer)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_page public.crawl_pages;
begin
  select * into v_page from public.crawl_pages p where p.id = eve_crawl_begin.page_id for update;
  if v_page.id is null then
    return '{"status": "gone"}';
  elsif v_page.held_until > v_now and v_page.held_by <> eve_crawl_begin.job_id then
    return jsonb_build_object('status', 'busy', 'retry_after_ms', ceil(extract(epoch from v_page.held_until - v_now) * 1000));
  elsif eve_crawl_begin.mode = 'enabled' and v_page.state <> 'waiting' and v_page.expires_at > v_now then
    return jsonb_build_object('status', 'fresh', 'page', to_jsonb(v_page));
  end if;
  update public.crawl_pages p
  set held_by = eve_crawl_begin.job_id, held_until = v_now + make_interval(secs => eve_crawl_begin.lease_s)
  where p.id = v_page.id;
  return jsonb_build_object('status', 'begun', 'page', to_jsonb(v_page));
end;
$$;
comment on function public.eve_crawl_begin is 'Takes a page for one job, unless it is fresh or another has it.';

-- The next fetch from a server: how long to wait for it, at least interval_ms after the one before. More than wait_ms: none is taken.
create or replace function public.eve_crawl_turn(origin text, interval_ms integer, wait_ms integer)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
  v_at timestamptz;
begin
  insert into eve.crawl_hosts (origin, updated_at) values (eve_crawl_turn.origin, v_now) on conflict on constraint crawl_hosts_pkey do nothing;
  select greatest(h.next_at, v_now) into v_at from eve.crawl_hosts h where h.origin = eve_crawl_turn.origin for update;
  if v_at > v_now + eve_crawl_turn.wait_ms * interval '1 millisecond' then
    return jsonb_build_object('is_taken', false, 'wait_ms', ceil(extract(epoch from v_at - v_now) * 1000));
  end if;
  update eve.crawl_hosts h
  set next_at = v_at + eve_crawl_turn.interval_ms * interval '1 millisecond', updated_at = v_now
  where h.origin = eve_crawl_turn.origin;
  return jsonb_build_object('is_taken', true, 'wait_ms', ceil(extract(epoch from v_at - v_now) * 1000));
end;
$$;
comment on function public.eve_crawl_turn is 'Takes a server''s next turn, so that all of us together ask it no more often than is polite.';

-- A server's robots.txt: {"state", "text", "is_fresh"}. saved: {"state": rules, none or unreachable, "text"?, "keep_s"} is written first.
create or replace function public.eve_crawl_robots(origin text, saved jsonb default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_answer jsonb;
begin
  if eve_crawl_robots.saved is not null then
    insert into eve.crawl_hosts as h (origin, robots, robots_state, robots_until, updated_at)
    values (
      eve_crawl_robots.origin, eve_crawl_robots.saved ->> 'text', eve_crawl_robots.saved ->> 'state',
      eve.clock() + make_interval(secs => (eve_crawl_robots.saved ->> 'keep_s')::integer), eve.clock()
    )
    on conflict on constraint crawl_hosts_pkey do update
    set robots = excluded.robots, robots_state = excluded.robots_state, robots_until = excluded.robots_until, updated_at = excluded.updated_at;
  end if;
  select jsonb_build_object('state', h.robots_state, 'text', h.robots, 'is_fresh', coalesce(h.robots_until > eve.clock(), false))
  into v_answer
  from eve.crawl_hosts h
  where h.origin = eve_crawl_robots.origin;
  return coalesce(v_answer, '{"state": null, "text": null, "is_fresh": false}');
end;
$$;
comment on function public.eve_crawl_robots is 'A server''s robots.txt as it was last fetched.';

-- What came of a fetch: outcome {"state", "reason"?, "status"?, "final_url"?, "mime_type"?, "charset"?, "size_bytes"?, "title"?, "etag"?,
-- "last_modified"?, "cache_policy"?, "html_sha256"?, "facts_sha256"?, "keep_s", "is_same"?: 304, "article"?}. Only by the job that holds it.
create or replace function public.eve_crawl_finish(page_id uuid, job_id uuid, outcome jsonb, trace_id text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_new constant jsonb := eve_crawl_finish.outcome;
  v_is_same constant boolean := coalesce((v_new ->> 'is_same')::boolean, false);
  v_keep constant interval := make_interval(secs => (v_new ->> 'keep_s')::double precision);
  v_page public.crawl_pages;
  v_article public.articles;
  v_posts jsonb;
begin
  select * into v_page from public.crawl_pages p where p.id = eve_crawl_finish.page_id for update;
  if v_page.id is null or v_page.held_by is distinct from eve_crawl_finish.job_id then
    return '{"status": "gone"}';
  end if;
  update public.crawl_pages p
  set state = case when v_is_same then p.state else v_new ->> 'state' end, reason = left(v_new ->> 'reason', 500),
    status = (v_new ->> 'status')::integer, final_url = coalesce(v_new ->> 'final_url', p.final_url),
    mime_type = case when v_is_same then p.mime_type else v_new ->> 'mime_type' end,
    charset = case when v_is_same then p.charset else v_new ->> 'charset' end,
    size_bytes = case when v_is_same then p.size_bytes else (v_new ->> 'size_bytes')::bigint end,
    title = case when v_is_same then p.title else left(v_new ->> 'title', 1000) end,
    etag = case when v_is_same then coalesce(v_new ->> 'etag', p.etag) else v_new ->> 'etag' end,
    last_modified = case when v_is_same then coalesce(v_new ->> 'last_modified', p.last_modified) else v_new ->> 'last_modified' end,
    cache_policy = v_new -> 'cache_policy',
    html_sha256 = case when v_is_same then p.html_sha256 else v_new ->> 'html_sha256' end,
    facts_sha256 = case when v_is_same then p.facts_sha256 else v_new ->> 'facts_sha256' end,
    fetches = p.fetches + 1, failures = case when v_new ->> 'state' = 'failed' then p.failures + 1 else 0 end, fetched_at = v_now,
    expires_at = v_now + v_keep, held_by = null, held_until = null, updated_at = v_now, trace_id = coalesce(eve_crawl_finish.trace_id, p.trace_id)
  where p.id = v_page.id
  returning * into v_page;
  if jsonb_typeof(v_new -> 'article') = 'object' then
    insert into public.articles as a (
      tenant_id, page_id, title, byline, site_name, excerpt, language, published_at, text, words, summary, summary_model, trace_id, created_at,
      updated_at
    )
    select v_page.tenant_id, v_page.id, coalesce(n.title, ''), n.byline, n.site_name, n.excerpt, n.language, n.published_at, n.text, n.words,
      n.summary, n.summary_model, eve_crawl_finish.trace_id, v_now, v_now
    from jsonb_to_record(v_new -> 'article') as n (
      title text, byline text, site_name text, excerpt text, language text, published_at timestamptz, text text, words integer,
      summary text, summary_model text
    )
    on conflict (page_id) do update
    set title = excluded.title, byline = excluded.byline, site_name = excluded.site_name, excerpt = excluded.excerpt,
      language = excluded.language, published_at = excluded.published_at, text = excluded.text, words = excluded.words,
      summary = coalesce(excluded.summary, case when a.text = excluded.text then a.summary end),
      summary_model = coalesce(excluded.summary_model, case when a.text = excluded.text then a.summary_model end),
      summary_prompt = case when a.text = excluded.text then a.summary_prompt end, updated_at = v_now,
      trace_id = coalesce(a.trace_id, excluded.trace_id)
    returning * into v_article;
  elsif not v_is_same and v_new ->> 'state' <> 'failed' then
    delete from public.articles a where a.page_id = v_page.id;
  end if;
  v_posts := eve.crawl_page_json(v_page) -> 'post_ids';
  perform eve.emit_event(
    '/crawl', 'crawl.fetched.v1', v_page.id::text,
    jsonb_build_object(
      'tenant_id', v_page.tenant_id, 'page_id', v_page.id, 'canonical_url', v_page.canonical_url, 'url', v_page.url, 'final_url',
      v_page.final_url, 'domain', v_page.domain, 'state', v_page.state, 'status', v_page.status, 'title', v_page.title, 'is_same', v_is_same,
      'html_sha256', v_page.html_sha256, 'post_ids', v_posts, 'trace_id', v_page.trace_id
    ),
    traceparent => eve.vision_traceparent(v_page.trace_id)
  );
  if v_article.id is not null then
    perform eve.emit_event(
      '/crawl', 'article.extracted.v1', v_page.id::text,
      jsonb_build_object(
        'tenant_id', v_page.tenant_id, 'page_id', v_page.id, 'article_id', v_article.id, 'canonical_url', v_page.canonical_url, 'domain',
        v_page.domain, 'title', v_article.title, 'site_name', v_article.site_name, 'language', v_article.language, 'published_at',
        v_article.published_at, 'words', v_article.words, 'post_ids', v_posts, 'trace_id', v_page.trace_id
      ),
      traceparent => eve.vision_traceparent(v_page.trace_id)
    );
  end if;
  insert into eve.metric_counters as m (metric, labels, value)
  values ('eve_crawl_fetches_total', jsonb_build_object('result', case when v_is_same then 'unchanged' else v_page.state end), 1)
  on conflict (metric, labels) do update
  set value = m.value + excluded.value;
  return jsonb_build_object('status', 'saved', 'page', eve.crawl_page_json(v_page));
end;
$$;
comment on function public.eve_crawl_finish is 'Writes down what came of a fetch, with its article and its events.';

-- Releases the files of pages that nobody has asked for in so long, those first that wait for the longest time: at most so many pages.
-- The page itself and its article stay, and it is fetched whole when it is asked for again. Files that did not come through the gateway,
-- that somebody has read since, or of a page that is being fetched stay used. {"pages", "objects", "bytes"}: files that only such pages use;
-- with dry_run nothing is changed, and of all pages only those count that are needed for so many bytes.
create or replace function public.eve_crawl_release(
  min_age_s bigint, at_most integer default 100, need_bytes bigint default null, dry_run boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_before constant timestamptz := eve.clock() - make_interval(secs => greatest(eve_crawl_release.min_age_s, 0));
  v_pages uuid[];
  v_released jsonb;
begin
  select array_agg(f.id) into v_pages
  from (
    select p.id
    from public.crawl_pages p
    where p.used_at <= v_before and p.held_by is null
      and exists (
        select
        from public.media_objects o
        where o.tenant_id = p.tenant_id and o.file_sha256 in (p.html_sha256, p.facts_sha256) and o.kind = 'crawl' and o.came_through
          and o.state in ('stored', 'verified') and o.last_seen_at <= v_before
      )
    order by p.used_at
    limit case when eve_crawl_release.dry_run then null else least(greatest(eve_crawl_release.at_most, 1), 1000) end
    for update skip locked
  ) f;
  if v_pages is null then
    return jsonb_build_object('pages', 0, 'objects', 0, 'bytes', 0);
  elsif not eve_crawl_release.dry_run then
    perform
    from public.media_objects o
    join public.crawl_pages p on p.tenant_id = o.tenant_id and o.file_sha256 in (p.html_sha256, p.facts_sha256)
    where p.id = any (v_pages)
    order by o.tenant_id, o.file_sha256
    for update of o;
  end if;
  with used as materialized (
    select r.tenant_id, r.file_sha256, count(*) as uses, max(p.used_at) as used_at
    from public.crawl_pages p
    join eve.media_references r on r.ref_kind = 'crawl_page' and r.ref_id = p.id::text and r.tenant_id = p.tenant_id
    where p.id = any (v_pages)
    group by r.tenant_id, r.file_sha256
  ), files as (
    select eve.media_bytes(o) as bytes, coalesce(
        sum(eve.media_bytes(o)) over (order by u.used_at, o.tenant_id, o.file_sha256 rows between unbounded preceding and 1 preceding), 0
      ) as before
    from used u
    join public.media_objects o on o.tenant_id = u.tenant_id and o.file_sha256 = u.file_sha256
    where o.refs_count = u.uses and o.kind = 'crawl' and o.state in ('stored', 'verified') and o.last_seen_at <= v_before
  )
  select jsonb_build_object('pages', cardinality(v_pages), 'objects', count(*), 'bytes', coalesce(sum(f.bytes), 0)) into v_released
  from files f
  where not eve_crawl_release.dry_run or eve_crawl_release.need_bytes is null or f.before < eve_crawl_release.need_bytes;
  if not eve_crawl_release.dry_run then
    update public.crawl_pages p
    set html_sha256 = null, facts_sha256 = null, updated_at = eve.clock()
    where p.id = any (v_pages);
  end if;
  return v_released;
end;
$$;
comment on function public.eve_crawl_release is 'Releases the files of pages that nobody has asked for in so long: nothing keeps them then.';
