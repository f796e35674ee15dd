-- Pages that posts and callers lead to, and what can be read in them (public, so that signed-in users read their tenants' own).
--
-- Tables of these names that somebody made by hand are adopted as posts are: what is lacking is added, and rows stay.

set local lock_timeout = '10s';

do $$
declare
  v_found record;
  v_table text;
begin
  foreach v_table in array '{crawl_pages,articles,post_links}'::text[] loop
    select c.relkind, c.relowner into v_found from pg_catalog.pg_class c where c.oid = to_regclass('public.' || v_table);
    continue when not found;
    if v_found.relkind <> 'r' then
      raise exception 'adoption: public.% is not an ordinary table', v_table using errcode = 'object_not_in_prerequisite_state',
        hint = 'Give it another name, or make it an ordinary table, and run the migrations again.';
    elsif not pg_has_role(v_found.relowner, 'usage') then
      raise exception 'adoption: public.% belongs to %', v_table, pg_get_userbyid(v_found.relowner)
        using errcode = 'object_not_in_prerequisite_state',
          hint = format('Run: alter table public.%I owner to %I;', v_table, current_user);
    end if;
  end loop;
  for v_found in
    select known.relation, a.attname, format_type(a.atttypid, a.atttypmod) as type_name, known.type
    from (values
      ('crawl_pages', 'id', 'uuid'), ('crawl_pages', 'tenant_id', 'text'), ('crawl_pages', 'url', 'text'),
      ('crawl_pages', 'canonical_url', 'text'), ('crawl_pages', 'state', 'text'), ('crawl_pages', 'fetched_at', 'timestamptz'),
      ('crawl_pages', 'expires_at', 'timestamptz'), ('crawl_pages', 'created_at', 'timestamptz'),
      ('crawl_pages', 'updated_at', 'timestamptz'),
      ('articles', 'id', 'uuid'), ('articles', 'tenant_id', 'text'), ('articles', 'page_id', 'uuid'), ('articles', 'title', 'text'),
      ('articles', 'text', 'text'), ('articles', 'created_at', 'timestamptz'), ('articles', 'updated_at', 'timestamptz'),
      ('post_links', 'post_id', 'uuid'), ('post_links', 'page_id', 'uuid'), ('post_links', 'tenant_id', 'text')
    ) as known (relation, name, type)
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass('public.' || known.relation) and a.attname = known.name
      and a.attnum > 0 and not a.attisdropped
    join pg_catalog.pg_type t on t.oid = a.atttypid
    join pg_catalog.pg_type wanted on wanted.oid = known.type::regtype
    where a.attgenerated <> '' or case when known.type = 'uuid' then t.oid <> wanted.oid else t.typcategory <> wanted.typcategory end
  loop
    raise exception 'adoption: column % of public.% has type %, which the gateway cannot use', v_found.attname, v_found.relation,
      v_found.type_name
      using errcode = 'object_not_in_prerequisite_state',
        hint = format('Give it another name, or convert it to %s, and run the migrations again.', v_found.type);
  end loop;
end;
$$;

-- What they were, for the way back.
select eve.note_table('public.' || t.name) from unnest('{crawl_pages,articles,post_links}'::text[]) as t (name);
select set_config(
  'eve.pages_are_ours',
  exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass('public.crawl_pages') and a.attname = 'held_by' and not a.attisdropped
  )::text,
  true
);

create table if not exists public.crawl_pages (id uuid primary key default gen_random_uuid());
alter table public.crawl_pages
  add column if not exists tenant_id text not null default 'default',
  add column if not exists url text not null,
  add column if not exists canonical_url text not null,
  add column if not exists canonical_rules integer not null default 1,
  add column if not exists domain text not null default '',
  add column if not exists state text not null default 'waiting',
  add column if not exists reason text,
  add column if not exists status integer,
  add column if not exists final_url text,
  add column if not exists mime_type text,
  add column if not exists charset text,
  add column if not exists size_bytes bigint,
  add column if not exists title text,
  add column if not exists etag text,
  add column if not exists last_modified text,
  add column if not exists cache_policy jsonb,
  add column if not exists html_sha256 text,
  add column if not exists facts_sha256 text,
  add column if not exists fetches integer not null default 0,
  add column if not exists failures integer not null default 0,
  add column if not exists fetched_at timestamptz,
  add column if not exists expires_at timestamptz,
  add column if not exists used_at timestamptz not null default now(),
  add column if not exists held_by uuid,
  add column if not exists held_until timestamptz,
  add column if not exists job_id uuid,
  add column if not exists trace_id text,
  add column if not exists created_at timestamptz not null default now(),
  add column if not exists updated_at timestamptz not null default now();
comment on table public.crawl_pages is 'Web pages by their canonical URL, as they were when they were last fetched. Its members read their tenant''s.';
comment on column public.crawl_pages.url is 'As it was first asked for: what is fetched.';
comment on column public.crawl_pages.canonical_rules is 'The version of the rules that made canonical_url.';
comment on column public.crawl_pages.state is 'waiting: not fetched yet; fetched; not_html; too_large; not_stored: its server forbids it; disallowed: by robots.txt; refused: the URL must not be fetched; failed: see reason.';
comment on column public.crawl_pages.status is 'Of HTTP, of the last answer.';
comment on column public.crawl_pages.cache_policy is 'As http-cache-semantics writes it: what the answer said about how long it holds.';
comment on column public.crawl_pages.html_sha256 is 'With tenant_id: the object of public.media_objects with the page; facts_sha256: the one with what was said about it, as JSON.';
comment on column public.crawl_pages.expires_at is 'Until then it is answered without asking its server.';
comment on column public.crawl_pages.held_by is 'The job that fetches it until held_until: nobody else does meanwhile.';

create table if not exists public.articles (id uuid primary key default gen_random_uuid());
alter table public.articles
  add column if not exists tenant_id text not null default 'default',
  add column if not exists page_id uuid not null,
  add column if not exists title text not null default '',
  add column if not exists byline text,
  add column if not exists site_name text,
  add column if not exists excerpt text,
  add column if not exists language text,
  add column if not exists published_at timestamptz,
  add column if not exists text text not null default '',
  add column if not exists words integer not null default 0,
  add column if not exists summary text,
  add column if not exists summary_model text,
  add column if not exists summary_prompt text,
  add column if not exists trace_id text,
  add column if not exists created_at timestamptz not null default now(),
  add column if not exists updated_at timestamptz not null default now();
comment on table public.articles is 'What can be read in a page, without what surrounds it: one for each page that has it.';
comment on column public.articles.words is 'Of text, by white space.';
comment on column public.articles.summary is 'By summary_model, to the words of summary_prompt; of this text: it goes when the page says something else.';

create table if not exists public.post_links (
  post_id uuid not null,
  page_id uuid not null,
  primary key (post_id, page_id)
);
alter table public.post_links
  add column if not exists tenant_id text not null default 'default',
  add column if not exists url text not null default '',
  add column if not exists place integer not null default 0,
  add column if not exists created_at timestamptz not null default now();
comment on table public.post_links is 'Which pages a post leads to.';
comment on column public.post_links.url is 'As the post has it.';
comment on column public.post_links.place is 'The order in which the post has them, from 0 on.';

do $$
declare
  v_policy record;
  v_rule record;
begin
  if not current_setting('eve.pages_are_ours')::boolean then
    for v_policy in
      select *
      from pg_catalog.pg_policies p
      where p.schemaname = 'public' and p.tablename in ('crawl_pages', 'articles', 'post_links') and p.permissive = 'PERMISSIVE'
    loop
      insert into eve.adoption_warnings (message)
      values (
        format(
          'adoption: policy "%s" of %s (for %s to %s using (%s) with check (%s)) let others at what is their tenants'' alone: it is dropped',
          v_policy.policyname, v_policy.tablename, lower(v_policy.cmd), array_to_string(v_policy.roles, ', '),
          coalesce(v_policy.qual, 'none'), coalesce(v_policy.with_check, 'none')
        )
      )
      on conflict do nothing;
      execute format('drop policy %I on public.%I', v_policy.policyname, v_policy.tablename);
    end loop;
    insert into eve.tenants (id)
    select distinct p.tenant_id from public.crawl_pages p where p.tenant_id ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$'
    on conflict do nothing;
  end if;
  for v_rule in
    select *
    from (values
      ('crawl_pages', 'crawl_pages_tenant_id_fkey', 'foreign key (tenant_id) references eve.tenants (id)'),
      ('crawl_pages', 'crawl_pages_urls_size',
        'check (length(url) <= 4096 and length(canonical_url) <= 4096 and length(final_url) <= 4096 and length(domain) <= 255)'),
      ('crawl_pages', 'crawl_pages_texts_size',
        'check (length(reason) <= 500 and length(mime_type) <= 255 and length(charset) <= 40 and length(title) <= 1000 and length(etag) <= 1000 and length(last_modified) <= 100 and octet_length(cache_policy::text) <= 65536)'),
      ('crawl_pages', 'crawl_pages_state_known',
        'check (state in (''waiting'', ''fetched'', ''not_html'', ''too_large'', ''not_stored'', ''disallowed'', ''refused'', ''failed''))'),
      ('crawl_pages', 'crawl_pages_hashes_form', 'check (html_sha256 ~ ''^[0-9a-f]{64}$'' and facts_sha256 ~ ''^[0-9a-f]{64}$'')'),
      ('crawl_pages', 'crawl_pages_held_whole', 'check ((held_by is null) = (held_until is null))'),
      ('articles', 'articles_page_id_fkey', 'foreign key (page_id) references public.crawl_pages (id) on delete cascade'),
      ('articles', 'articles_texts_size',
        'check (octet_length(text) <= 262144 and length(title) <= 1000 and length(byline) <= 500 and length(site_name) <= 500 and length(excerpt) <= 2000 and length(language) <= 40 and length(summary) <= 8000 and length(summary_model) <= 200 and length(summary_prompt) <= 4000)'),
      ('post_links', 'post_links_post_id_fkey', 'foreign key (post_id) references public.posts (id) on delete cascade'),
      ('post_links', 'post_links_page_id_fkey', 'foreign key (page_id) references public.crawl_pages (id) on delete cascade'),
      ('post_links', 'post_links_url_size', 'check (length(url) <= 4096)')
    ) as rules (relation, name, rule)
    where not exists (
      select from pg_catalog.pg_constraint c where c.conrelid = ('public.' || rules.relation)::regclass and c.conname = rules.name
    )
  loop
    begin
      execute format('alter table public.%I add constraint %I %s not valid', v_rule.relation, v_rule.name, v_rule.rule);
      execute format('alter table public.%I validate constraint %I', v_rule.relation, v_rule.name);
    exception
      when check_violation or foreign_key_violation then
        insert into eve.adoption_warnings (message)
        values (format('adoption: rows of %s break the rule "%s"; correct them', v_rule.relation, v_rule.rule))
        on conflict do nothing;
    end;
  end loop;
  begin
    -- By its hash: a URL may be longer than an index takes.
    create unique index if not exists crawl_pages_canonical_url_key on public.crawl_pages (tenant_id, md5(canonical_url));
    create unique index if not exists articles_page_id_key on public.articles (page_id);
  exception
    when unique_violation then
      raise exception 'adoption: public.crawl_pages or public.articles has several rows for the same page'
        using errcode = 'object_not_in_prerequisite_state', hint = 'Keep one of each, and run the migrations again.';
  end;
end;
$$;
create index if not exists crawl_pages_tenant_id_updated_at_idx on public.crawl_pages (tenant_id, updated_at desc, id);
create index if not exists crawl_pages_used_at_idx on public.crawl_pages (used_at);
create index if not exists articles_tenant_id_idx on public.articles (tenant_id, created_at desc, id);
create index if not exists post_links_page_id_idx on public.post_links (page_id);

create table if not exists eve.crawl_hosts (
  origin text primary key,
  next_at timestamptz not null default '-infinity',
  robots text,
  robots_state text,
  robots_until timestamptz,
  updated_at timestamptz not null default now(),
  constraint crawl_hosts_origin_length check (length(origin) between 1 and 300),
  constraint crawl_hosts_robots_size check (octet_length(robots) <= 524288),
  constraint crawl_hosts_robots_state_known check (robots_state in ('rules', 'none', 'unreachable'))
) with (fillfactor = 50);
create index if not exists crawl_hosts_updated_at_idx on eve.crawl_hosts (updated_at);
comment on table eve.crawl_hosts is 'Servers that pages are fetched from, and services that take so many calls a second (yandex-ocr:FOLDER): when the next fetch may begin, and their robots.txt. The same for all tenants, who all come from here.';
comment on column eve.crawl_hosts.robots is 'Its first 500 KiB (RFC 9309, 2.5).';
comment on column eve.crawl_hosts.robots_state is 'rules: robots holds; none: answered with 4xx, so all is allowed; unreachable: 5xx or no answer, so nothing is.';

insert into eve.job_kinds (kind, description, expires_after, max_tries, run_within, max_body_bytes, keep) values
  ('crawl', 'A page that is fetched, or the links of a post.', '2 days', 4, '60 seconds', 16384, '2 days')
on conflict (kind) do nothing;

insert into eve.retention (table_name, keep, at_least, batch_function, description) values
  (
    'public.crawl_pages',
    -- Rows that somebody had before stay until they say otherwise.
    case when (select a.parts is null from eve.adopted_tables a where a.relation = 'public.crawl_pages') then interval '30 days' end,
    '1 day', 'retention_of_crawl', 'Pages that no post leads to and nobody has asked for, with their articles.'
  ),
  ('eve.crawl_hosts', '30 days', '2 days', 'retention_of_crawl', 'Servers that nothing is fetched from any more.')
on conflict (table_name) do nothing;

insert into eve.metric_counters (metric, labels, value)
values ('eve_crawl_fetches_total', '{"result": "fetched"}', 0)
on conflict do nothing;

create or replace function eve.retention_of_crawl(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_batch record;
  v_is_page constant boolean := retention_of_crawl.table_name = 'public.crawl_pages';
begin
  select * into v_batch
  from eve.delete_oldest(
    retention_of_crawl.relation, case when v_is_page then 'used_at' else 'updated_at' end, retention_of_crawl.before,
    coalesce((retention_of_crawl.after ->> 'at')::timestamptz, '-infinity'), retention_of_crawl.at_most,
    case when v_is_page then 'not exists (select from public.post_links l where l.page_id = t.id)' else 'true' end
  );
  if v_batch.seen >= retention_of_crawl.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
end;
$$;

-- The files of a page are used while it has them.
create or replace function eve.crawl_page_uses()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_hash text;
begin
  if tg_op <> 'INSERT' then
    delete from eve.media_references r
    where r.tenant_id = old.tenant_id and r.ref_kind = 'crawl_page' and r.ref_id = old.id::text
      and (tg_op = 'DELETE' or r.file_sha256 is distinct from new.html_sha256 and r.file_sha256 is distinct from new.facts_sha256);
  end if;
  if tg_op <> 'DELETE' then
    for v_hash in
      select o.file_sha256
      from public.media_objects o
      where o.tenant_id = new.tenant_id and o.file_sha256 in (new.html_sha256, new.facts_sha256)
      order by o.file_sha256
    loop
      perform eve.media_link(new.tenant_id, v_hash, jsonb_build_object('ref_kind', 'crawl_page', 'ref_id', new.id));
    end loop;
  end if;
  return null;
end;
$$;
create or replace trigger eve_crawl_page_uses
after insert or delete or update of html_sha256, facts_sha256 on public.crawl_pages
for each row
execute function eve.crawl_page_uses();
