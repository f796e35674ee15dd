-- Setting a bot up, how it stands, updates once more, posts that are deleted by hand, and what a scrape shows.

set local lock_timeout = '10s';

-- Sets a bot up, or changes it: what is null stays as it is, and is as usual for a new one. chats: numbers and @names, {"list": [..]}, or all: {"all": true}.
create or replace function public.eve_telegram_connect(
  bot_id bigint, username text default null, tenant_id text default null, chats jsonb default null, wanted text[] default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_given constant jsonb := nullif(eve_telegram_connect.chats, 'null');
  v_chats text[];
  v_tenant text := coalesce(nullif(eve_telegram_connect.tenant_id, ''), (
    select b.tenant_id from eve.telegram_bots b where b.bot_id = eve_telegram_connect.bot_id
  ), eve.default_tenant());
  v_bot eve.telegram_bots;
begin
  if not exists (select from eve.tenants t where t.id = v_tenant) then
    return eve.refused('unknown_tenant', format('There is no tenant %s.', left(v_tenant, 64)));
  elsif jsonb_typeof(v_given -> 'list') = 'array' then
    v_chats := array(select distinct lower(c.name) from jsonb_array_elements_text(v_given -> 'list') as c (name) order by 1);
    if exists (select from unnest(v_chats) c where c !~ '^(-?[0-9]{1,20}|@[a-z0-9_]{1,64})$') then
      raise exception 'a chat is a number, or a name with @ before it' using errcode = 'EV400';
    end if;
  elsif v_given is not null and v_given <> '{"all": true}' then
    raise exception 'chats is {"list": [..]}, or {"all": true}' using errcode = 'EV400';
  end if;
  if exists (select from unnest(eve_telegram_connect.wanted) w where coalesce(w, '') !~ '^(photo|thumbnail|[a-z]{1,40}/[a-z0-9.+*-]{1,100})$') then
    raise exception 'wanted has photo, thumbnail, and types of documents such as image/*' using errcode = 'EV400';
  end if;
  begin
    insert into eve.telegram_bots as b (bot_id, username, tenant_id, chats, wanted, connected_at, updated_at)
    values (
      eve_telegram_connect.bot_id, eve_telegram_connect.username, v_tenant,
      case when v_given = '{"all": true}' then null else coalesce(v_chats, '{}') end,
      coalesce(eve_telegram_connect.wanted, '{photo,thumbnail,image/*,application/pdf}'), eve.clock(), eve.clock()
    )
    on conflict (bot_id) do update
    set username = coalesce(excluded.username, b.username), tenant_id = excluded.tenant_id,
      chats = case when v_given is null then b.chats else excluded.chats end,
      wanted = coalesce(eve_telegram_connect.wanted, b.wanted), is_connected = true, updated_at = eve.clock()
    returning b.* into v_bot;
  exception when check_violation then
    raise exception 'a bot has a number, at most 1,000 chats, and at most 50 kinds of files that are wanted' using errcode = 'EV400';
  end;
  return jsonb_build_object('status', 'connected', 'bot', to_jsonb(v_bot));
end;
$$;
comment on function public.eve_telegram_connect is 'Sets up a bot of Telegram whose updates are taken in, or changes it.';

create or replace function public.eve_telegram_disconnect(bot_id bigint)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  update eve.telegram_bots b
  set is_connected = false, updated_at = eve.clock()
  where b.bot_id = eve_telegram_disconnect.bot_id;
  return jsonb_build_object('status', case when found then 'disconnected' else 'unknown' end);
end;
$$;
comment on function public.eve_telegram_disconnect is 'Refuses updates of a bot from now on.';

-- Updates that wait, and whose jobs have ended in vain or are gone.
create or replace function eve.telegram_stuck(bot_id bigint)
returns setof eve.telegram_updates
language sql
stable
set search_path = ''
set enable_seqscan = 'off'
set enable_hashjoin = 'off'
set enable_mergejoin = 'off'
as $$
  select u.*
  from eve.telegram_updates u
  where u.bot_id = telegram_stuck.bot_id and u.state = 'waiting'
    and not exists (select from eve.jobs j where j.id = u.job_id and j.state in ('queued', 'running'))
  order by u.update_id;
$$;

-- How a bot stands: {"bot" or null, "waiting", "failed": of these, with jobs that ended in vain, "oldest_waiting_at", "last_received_at",
-- "failures": the last ones with their reasons, "ignored": what came in the last week and was not taken, by reason and chat}.
create or replace function public.eve_telegram_status(bot_id bigint)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'status', 'found',
    'bot', (select to_jsonb(b) from eve.telegram_bots b where b.bot_id = eve_telegram_status.bot_id),
    'waiting', (select count(*) from eve.telegram_updates u where u.bot_id = eve_telegram_status.bot_id and u.state = 'waiting'),
    'oldest_waiting_at', (
      select min(u.received_at) from eve.telegram_updates u where u.bot_id = eve_telegram_status.bot_id and u.state = 'waiting'
    ),
    'last_received_at', (select max(u.received_at) from eve.telegram_updates u where u.bot_id = eve_telegram_status.bot_id),
    'failed', (select count(*) from eve.telegram_stuck(eve_telegram_status.bot_id)),
    'failures', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'update_id', f.update_id, 'kind', f.kind, 'chat', f.chat, 'received_at', f.received_at,
            'code', coalesce(j.error_code, 'job_lost'), 'message', coalesce(j.error_detail, f.reason)
          )
          order by f.update_id desc
        ), '[]'
      )
      from (select s.* from eve.telegram_stuck(eve_telegram_status.bot_id) s order by s.update_id desc limit 10) f
      left join eve.jobs j on j.id = f.job_id
    ),
    'ignored', (
      select coalesce(jsonb_agg(to_jsonb(i) order by i.updates desc, i.chat, i.reason), '[]')
      from (
        select u.reason, u.chat, max(u.chat_name) as chat_name, count(*) as updates, max(u.received_at) as last_received_at
        from eve.telegram_updates u
        where u.bot_id = eve_telegram_status.bot_id and u.state = 'ignored' and u.received_at > eve.clock() - interval '7 days'
        group by u.reason, u.chat
        order by 4 desc
        limit 20
      ) i
    )
  );
$$;
comment on function public.eve_telegram_status is 'How a bot of Telegram stands whose updates are taken in.';

-- Has updates done once more whose jobs ended in vain: those that are named, or the oldest 1,000. {"status": "replayed", "replayed", "left", "wake"}.
create or replace function public.eve_telegram_replay(bot_id bigint, update_ids bigint[] default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_most constant integer := 1000;
  v_again eve.telegram_updates[];
  v_answer jsonb;
begin
  with stuck as (
    select s.update_id
    from eve.telegram_stuck(eve_telegram_replay.bot_id) s
    where eve_telegram_replay.update_ids is null or s.update_id = any (eve_telegram_replay.update_ids)
    order by s.update_id
    limit v_most
  ), again as (
    update eve.telegram_updates u
    set job_id = gen_random_uuid(), reason = null
    where u.bot_id = eve_telegram_replay.bot_id and u.update_id in (select s.update_id from stuck s) and u.state = 'waiting'
    returning u.*
  )
  select array_agg(a::eve.telegram_updates) into v_again from again a;
  if v_again is not null then
    begin
      v_answer := eve.telegram_submit(v_again);
      if v_answer ->> 'status' = 'refused' then
        raise exception '%', v_answer using errcode = 'triggered_action_exception';
      end if;
    exception when triggered_action_exception then
      return sqlerrm::jsonb;
    end;
  end if;
  return jsonb_build_object(
    'status', 'replayed', 'replayed', coalesce(cardinality(v_again), 0),
    'left', (select count(*) from eve.telegram_stuck(eve_telegram_replay.bot_id)), 'wake', coalesce((v_answer ->> 'wake')::boolean, false)
  );
end;
$$;
comment on function public.eve_telegram_replay is 'Has updates of Telegram done once more whose jobs ended in vain.';

-- Deletes a post with what was found in its pictures. Files that nothing else uses go with the next clean-up. {"status": "deleted"}, or a refusal.
create or replace function public.eve_post_delete(actor jsonb, post_id uuid)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_post public.posts;
  v_who jsonb;
begin
  select * into v_post from public.posts p where p.id = eve_post_delete.post_id;
  v_who := eve.tenant_of_actor(eve_post_delete.actor, v_post.tenant_id, 'intake');
  -- Who may not see it learns no more than that there is none.
  if v_post.id is null or v_who ->> 'code' = 'tenant_not_allowed' then
    return case when v_who ->> 'status' = 'refused' and v_who ->> 'code' <> 'tenant_not_allowed' then v_who
      else eve.refused('post_not_found') end;
  elsif v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  delete from public.posts p where p.id = v_post.id;
  return jsonb_build_object('status', 'deleted', 'id', v_post.id);
end;
$$;
comment on function public.eve_post_delete is 'Deletes a post with its pictures'' results.';

create or replace function public.eve_telegram_metrics()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'samples', jsonb_build_array(
      jsonb_build_array(
        'eve_telegram_updates_waiting', '{}'::jsonb, (select count(*) from eve.telegram_updates u where u.state = 'waiting')
      ),
      jsonb_build_array(
        'eve_telegram_updates_failed', '{}'::jsonb,
        (select count(*) from eve.telegram_bots b cross join lateral eve.telegram_stuck(b.bot_id) s)
      )
    ),
    'histograms', '[]'::jsonb
  );
$$;
comment on function public.eve_telegram_metrics is 'Gauges of updates of Telegram, in the form of eve_metrics.';

-- Who may do what: the service role alone, through functions.
do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    where c.relkind = 'r' and c.relnamespace = 'eve'::regnamespace and c.relname ~ '^telegram_'
  loop
    execute format('alter table %s enable row level security', v_object.relation);
    execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
    execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
  end loop;
  for v_object in
    select p.oid::regprocedure as signature, p.prorettype <> 'trigger'::regtype as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(telegram_|retention_of_telegram)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_(telegram_|post_delete$)'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;
