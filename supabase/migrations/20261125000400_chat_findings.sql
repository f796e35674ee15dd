-- What belongs to messages of chats: pictures, and places in documents that searches found; and the search through the messages.

set local lock_timeout = '10s';

-- The tenant whose files somebody means by a hash or a key in a message; null: none.
create or replace function eve.chat_tenant(actor jsonb, tenant_id text)
returns text
language sql
stable
set search_path = ''
as $$
  select case chat_tenant.actor ->> 'kind'
    when 'project' then coalesce(chat_tenant.tenant_id, eve.default_tenant())
    when 'consumer' then (
      select coalesce(c.tenant_id, eve.default_tenant()) from eve.consumers c where c.id = (chat_tenant.actor ->> 'consumer_id')::uuid
    )
    else (
      select m.tenant_id
      from eve.tenant_members m
      where m.user_id = (chat_tenant.actor ->> 'user_id')::uuid and m.tenant_id = coalesce(chat_tenant.tenant_id, m.tenant_id)
      order by m.added_at, m.tenant_id
      limit 1
    )
  end;
$$;

-- image: the columns of public.message_images; "sha256" or "s3_path" names a file that was uploaded, which then stays as long as the
-- picture does. A path that is no file of ours is kept as it is. address: what s3_url begins with, for files of ours.
create or replace function public.eve_message_image_add(actor jsonb, message_id uuid, image jsonb, address text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- A message shows a handful.
  v_most constant integer := 100;
  v_who constant jsonb := eve.chat_actor(eve_message_image_add.actor);
  v_message constant public.messages := eve.message_from_actor(v_who, eve_message_image_add.message_id);
  v_new constant jsonb := eve_message_image_add.image;
  v_id constant uuid := coalesce((v_new ->> 'id')::uuid, gen_random_uuid());
  v_tenant constant text := eve.chat_tenant(eve_message_image_add.actor, v_new ->> 'tenant_id');
  v_object public.media_objects;
  v_image public.message_images;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif v_message.id is null then
    return eve.refused('message_not_found');
  end if;
  -- The chat before its files. It may be gone by now.
  perform from public.chats c where c.id = v_message.chat_id for no key update;
  if not found then
    return eve.refused('message_not_found');
  end if;
  select * into v_image from public.message_images i where i.id = v_id;
  if found then
    return case
      when v_image.message_id = v_message.id then jsonb_build_object('status', 'present', 'image', to_jsonb(v_image))
      else eve.refused('id_taken')
    end;
  elsif (select count(*) from public.message_images i where i.message_id = v_message.id) >= v_most then
    raise exception 'a message has at most % pictures', v_most using errcode = 'EV400';
  end if;
  if v_tenant is not null then
    v_object := eve.media_named(v_tenant, coalesce(v_new ->> 'sha256', v_new ->> 's3_path'));
    select * into v_object
    from public.media_objects o
    where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256 and o.state in ('stored', 'verified')
    for update;
  end if;
  if v_object.file_sha256 is null and v_new ->> 'sha256' is not null then
    return eve.refused('object_not_found');
  end if;
  insert into public.message_images (
    id, message_id, image_name, s3_path, s3_url, image_type, description, width, height, file_size, tenant_id, file_sha256, created_at
  )
  values (
    v_id, v_message.id, v_new ->> 'image_name', coalesce(v_new ->> 's3_path', v_object.s3_key),
    -- Ours lasts; what an upload answered beside it is over within the hour.
    coalesce(eve_message_image_add.address || v_object.file_sha256 || '?tenant_id=' || v_object.tenant_id, v_new ->> 's3_url'),
    v_new ->> 'image_type', v_new ->> 'description', (v_new ->> 'width')::integer, (v_new ->> 'height')::integer,
    coalesce((v_new ->> 'file_size')::bigint, v_object.size_bytes), v_object.tenant_id, v_object.file_sha256, eve.clock()
  )
  returning * into v_image;
  if v_object.file_sha256 is not null then
    perform eve.media_link(
      v_object.tenant_id, v_object.file_sha256, jsonb_build_object('ref_kind', 'message_image', 'ref_id', v_image.id)
    );
  end if;
  return jsonb_build_object('status', 'added', 'image', to_jsonb(v_image));
end;
$$;
comment on function public.eve_message_image_add is 'Adds a picture to a message.';

-- Of files that an erased chat used, those that nothing uses any more, marked as deleting: to be deleted where they are stored.
create or replace function public.eve_chat_files_left(files jsonb, lease_s integer default 120)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  with unused as materialized (
    select o.tenant_id, o.file_sha256
    from jsonb_to_recordset(eve_chat_files_left.files) as f (tenant_id text, sha256 text)
    join public.media_objects o on o.tenant_id = f.tenant_id and o.file_sha256 = f.sha256
    where o.refs_count = 0 and o.state in ('stored', 'verified')
    order by o.tenant_id, o.file_sha256
    for update of o skip locked
  ), marked as (
    update public.media_objects o
    set state = 'deleting', expires_at = eve.clock() + make_interval(secs => least(greatest(eve_chat_files_left.lease_s, 30), 600))
    from unused u
    where o.tenant_id = u.tenant_id and o.file_sha256 = u.file_sha256
    returning eve.media_to_delete(o) as one
  )
  select coalesce(jsonb_agg(m.one), '[]') from marked m;
$$;
comment on function public.eve_chat_files_left is 'Files of an erased chat that nothing uses any more.';

create or replace function public.eve_message_images(actor jsonb, message_id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_message_images.actor);
  v_message constant public.messages := eve.message_from_actor(v_who, eve_message_images.message_id);
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif v_message.id is null then
    return eve.refused('message_not_found');
  end if;
  return jsonb_build_object(
    'status', 'listed',
    'images', (
      select coalesce(jsonb_agg(to_jsonb(i) order by i.created_at, i.id), '[]')
      from public.message_images i
      where i.message_id = v_message.id
    )
  );
end;
$$;
comment on function public.eve_message_images is 'The pictures of a message.';

-- results: rows of public.search_results, all or none of them. {"status": "added", "results"}.
create or replace function public.eve_search_results_add(actor jsonb, chat_id uuid, results jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_most constant integer := 500;
  v_who constant jsonb := eve.chat_actor(eve_search_results_add.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_search_results_add.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat, must_be_there => true);
  v_now constant timestamptz := eve.clock();
  v_results jsonb;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif jsonb_array_length(eve_search_results_add.results) > v_most then
    raise exception 'at most % search results at once', v_most using errcode = 'EV400';
  elsif exists (
    select
    from jsonb_to_recordset(eve_search_results_add.results) as r (message_id uuid)
    where r.message_id is not null
      and not exists (select from public.messages m where m.id = r.message_id and m.chat_id = v_chat.id)
  ) then
    return eve.refused('message_not_found', 'A search result names a message that is not in this chat.');
  end if;
  perform from public.chats c where c.id = v_chat.id for no key update;
  if not found then
    return eve.refused('chat_not_found');
  end if;
  with added as (
    insert into public.search_results as s (
      id, chat_id, message_id, block_id, page_number, block_text, coords_norm, coords_px, created_at
    )
    select coalesce((r.result ->> 'id')::uuid, gen_random_uuid()), v_chat.id, (r.result ->> 'message_id')::uuid, r.result ->> 'block_id',
      (r.result ->> 'page_number')::integer, r.result ->> 'block_text', nullif(r.result -> 'coords_norm', 'null'),
      nullif(r.result -> 'coords_px', 'null'),
      -- In the order in which they were given.
      v_now + r.place * interval '1 microsecond'
    from jsonb_array_elements(eve_search_results_add.results) with ordinality as r (result, place)
    -- Sent again, it is there once.
    on conflict (id) do nothing
    returning to_jsonb(s) as one, s.created_at
  )
  select coalesce(jsonb_agg(a.one order by a.created_at), '[]') into v_results from added a;
  return jsonb_build_object('status', 'added', 'results', v_results);
end;
$$;
comment on function public.eve_search_results_add is 'Adds places that a search found to a chat.';

create or replace function public.eve_search_results(
  actor jsonb, chat_id uuid, message_id uuid default null, after jsonb default null, at_most integer default 100
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_who constant jsonb := eve.chat_actor(eve_search_results.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_search_results.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
  v_most constant integer := least(greatest(eve_search_results.at_most, 1), 100);
  v_results jsonb;
begin
  if v_refusal is not null then
    return v_refusal;
  end if;
  select coalesce(jsonb_agg(to_jsonb(page) order by page.created_at, page.id), '[]') into v_results
  from (
    select r.*
    from public.search_results r
    where r.chat_id = v_chat.id and (eve_search_results.message_id is null or r.message_id = eve_search_results.message_id)
      and (r.created_at, r.id) > (
        coalesce((eve_search_results.after ->> 'created_at')::timestamptz, '-infinity'),
        coalesce((eve_search_results.after ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000')
      )
    order by r.created_at, r.id
    limit v_most + 1
  ) page;
  return eve.chat_page('results', v_results, v_most);
end;
$$;
comment on function public.eve_search_results is 'A page of the places that searches found for a chat.';

-- Messages that hold all words of a query, by their stems in Russian or English; quotes, `or` and `-` as in a web search. The best of
-- a thousand candidates: {"status": "listed", "found": [{"message", "chat_title", "excerpt", "rank"}], "candidates"}.
create or replace function public.eve_chat_search(
  actor jsonb, query text, chat_id uuid default null, user_id text default null, at_most integer default 20
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_candidates constant integer := 1000;
  -- Of more chats than anybody reads the ids are not listed: the planner goes from the words to the chats.
  v_most_chats constant integer := 10000;
  v_who constant jsonb := eve.chat_actor(eve_chat_search.actor);
  v_words constant text := lower(left(eve_chat_search.query, 1000) collate "und-x-icu");
  v_query constant tsquery := websearch_to_tsquery('pg_catalog.russian', v_words) || websearch_to_tsquery('pg_catalog.english', v_words);
  v_conditions text[] := '{c.deleted_at is null}';
  v_chats uuid[];
  v_answer jsonb;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  if v_who ? 'consumer_id' then
    v_conditions := v_conditions || 'c.consumer_id = $2'::text;
  elsif v_who ? 'owner' then
    v_conditions := v_conditions || 'c.owner = $3'::text;
  end if;
  if eve_chat_search.chat_id is not null then
    v_conditions := v_conditions || 'c.id = $4'::text;
  end if;
  if eve_chat_search.user_id is not null then
    v_conditions := v_conditions || 'c.user_id = $5'::text;
  end if;
  if cardinality(v_conditions) > 1 then
    execute format(
      'select array(select c.id from public.chats c where %s order by c.created_at desc limit $6)', array_to_string(v_conditions, ' and ')
    )
    into v_chats
    using v_query, (v_who ->> 'consumer_id')::uuid, (v_who ->> 'owner')::uuid, eve_chat_search.chat_id, eve_chat_search.user_id,
      v_most_chats + 1;
  end if;
  -- With the chats as a list both indexes are asked, that of words and that of chats, and only rows that both have found are read. A join
  -- reads every message of the chats: 50 to 90 ms instead of 1 to 10, where they are 2,000 of 400,000.
  execute format(
    'with candidates as materialized (
      select m.id, m.search from public.messages m %s limit $6
    ), best as (
      select k.id, ts_rank(k.search, $1) as rank from candidates k order by rank desc, k.id limit $7
    )
    select jsonb_build_object(
      ''status'', ''listed'',
      ''found'', coalesce(
        jsonb_agg(
          jsonb_build_object(
            ''message'', (eve.messages_json(array[b.id]) -> 0)::jsonb - ''parts'', ''chat_title'', c.title, ''rank'', b.rank,
            ''excerpt'', ts_headline(''pg_catalog.russian'', left(m.content, 20000), $1, ''MaxFragments=2, MaxWords=25, MinWords=8'')
          )
          order by b.rank desc, m.id
        ), ''[]''
      ),
      ''candidates'', (select count(*) from candidates)
    )
    from best b join public.messages m on m.id = b.id join public.chats c on c.id = m.chat_id',
    case
      when cardinality(v_chats) <= v_most_chats then 'where m.search @@ $1 and m.chat_id = any ($8)'
      else 'join public.chats c on c.id = m.chat_id where m.search @@ $1 and ' || array_to_string(v_conditions, ' and ')
    end
  )
  into v_answer
  using v_query, (v_who ->> 'consumer_id')::uuid, (v_who ->> 'owner')::uuid, eve_chat_search.chat_id, eve_chat_search.user_id,
    v_candidates, least(greatest(eve_chat_search.at_most, 1), 100), v_chats;
  return v_answer;
end;
$$;
comment on function public.eve_chat_search is 'Messages of one''s chats that hold the words of a query.';

-- A page of a chat with all that belongs to its messages, for an export: {"status": "listed", "chat", "messages": [.. and "images",
-- "search_results"], "next"}; search results that belong to no message come with the first page.
create or replace function public.eve_chat_export(actor jsonb, chat_id uuid, after jsonb default null, at_most integer default 100)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_page constant jsonb := public.eve_messages(
    eve_chat_export.actor, eve_chat_export.chat_id, eve_chat_export.after, false, eve_chat_export.at_most
  );
  v_chat public.chats;
begin
  if v_page ->> 'status' = 'refused' then
    return v_page;
  end if;
  select * into v_chat from public.chats c where c.id = eve_chat_export.chat_id;
  return v_page || jsonb_build_object(
    'chat', eve.chat_json(v_chat),
    'search_results', case when eve_chat_export.after is null then (
      select coalesce(jsonb_agg(to_jsonb(r) order by r.created_at, r.id), '[]')
      from public.search_results r
      where r.chat_id = v_chat.id and r.message_id is null
    ) else '[]' end,
    'messages', (
      select coalesce(
        jsonb_agg(
          e.message || jsonb_build_object(
            'images', (
              select coalesce(jsonb_agg(to_jsonb(i) order by i.created_at, i.id), '[]')
              from public.message_images i
              where i.message_id = (e.message ->> 'id')::uuid
            ),
            'search_results', (
              select coalesce(jsonb_agg(to_jsonb(r) order by r.created_at, r.id), '[]')
              from public.search_results r
              where r.message_id = (e.message ->> 'id')::uuid
            )
          )
          order by e.place
        ), '[]'
      )
      from jsonb_array_elements(v_page -> 'messages') with ordinality as e (message, place)
    )
  );
end;
$$;
comment on function public.eve_chat_export is 'A page of a chat with all that belongs to its messages.';
