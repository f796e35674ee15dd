-- Links of posts: a post that has some brings a job, which finds their pages and has those fetched that are not there.

set local lock_timeout = '10s';

-- A URL in its text or in the links of its metadata is looked at by a job: what is one and which page it leads to is no matter of SQL.
create or replace function eve.crawl_post_came()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Nobody's jobs are counted: links cost no model.
  begin
    if eve.crawl_queue(
      gen_random_uuid(), jsonb_build_object('tenant_id', new.tenant_id, 'post_id', new.id, 'trace_id', new.trace_id), 'batch'
    ) then
      -- For who added the post (eve_post_add): the worker is to be called.
      perform set_config('eve.crawl_wakes', 'true', true);
    end if;
  exception when triggered_action_exception then
    -- Too many jobs wait. A post is worth more than its links.
    insert into eve.metric_counters as m (metric, labels, value)
    values ('eve_crawl_fetches_total', '{"result": "not_queued"}', 1)
    on conflict (metric, labels) do update
    set value = m.value + excluded.value;
  end;
  return null;
end;
$$;
create or replace trigger eve_crawl_post_came
after insert on public.posts
for each row
when (new.text ~* 'https?://' or (new.metadata -> 'links')::text ~* 'https?://')
execute function eve.crawl_post_came();
create or replace trigger eve_crawl_post_changed
after update of text, metadata on public.posts
for each row
when (
  (old.text, old.metadata -> 'links') is distinct from (new.text, new.metadata -> 'links')
  and concat(old.text, old.metadata -> 'links', new.text, new.metadata -> 'links') ~* 'https?://'
)
execute function eve.crawl_post_came();

create or replace function public.eve_crawl_post(post_id uuid)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(
    (
      select jsonb_build_object('status', 'found', 'text', p.text, 'metadata', p.metadata)
      from public.posts p
      where p.id = eve_crawl_post.post_id
    ), '{"status": "gone"}'
  );
$$;
comment on function public.eve_crawl_post is 'What a post''s links are looked for in.';

-- The links that a post has now, in its order: {"list": [{"url", "canonical_url", "domain", "rules"}]}, 50 at most. Pages that are not there or not
-- fresh are queued. Emits post.linked.v1 where something changed. {"status": "linked", "links", "queued", "wake"}.
create or replace function public.eve_crawl_links(post_id uuid, links jsonb, trace_id text default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
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
$$;
comment on function public.eve_crawl_links is 'Which pages a post leads to; those that are not there are fetched.';
