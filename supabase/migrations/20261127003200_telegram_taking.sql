-- Taking updates in: written down once, whatever comes twice, and a job for each that may become a post.

set local lock_timeout = '10s';

-- Which kinds of updates there are work for: what the webhook asks Telegram for, too (shared/telegram/updates.ts).
create or replace function eve.telegram_kinds()
returns text[]
language sql
immutable
set search_path = ''
as $$
  select array[
    'message', 'edited_message', 'channel_post', 'edited_channel_post', 'business_message', 'edited_business_message',
    'deleted_business_messages'
  ];
$$;

-- The hands-in of updates that have been written down with a job's id and wait: the answer of public.eve_jobs_submit.
create or replace function eve.telegram_submit(updates eve.telegram_updates[])
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select public.eve_jobs_submit(
    jsonb_agg(
      jsonb_build_object(
        'id', u.job_id, 'kind', 'telegram',
        'body', jsonb_build_object('bot_id', u.bot_id, 'update_id', u.update_id, 'trace_id', u.trace_id)
      )
      order by u.update_id
    )
  )
  from unnest(telegram_submit.updates) u;
$$;

create or replace function eve.telegram_count(kind text, result text, updates bigint)
returns void
language sql
volatile
set search_path = ''
as $$
  insert into eve.metric_counters as c (metric, labels, value)
  select 'eve_telegram_updates_total', jsonb_build_object('kind', telegram_count.kind, 'result', telegram_count.result), telegram_count.updates
  where telegram_count.updates > 0
  on conflict (metric, labels) do update set value = c.value + excluded.value;
$$;

-- Takes updates of a bot: 1 to 100 of {"update": as Telegram sends it, "trace_id"}. All of them or none; one that is there already is as
-- good as new. {"status": "taken", "taken", "known", "wake": whether to call the worker}, or a refusal: telegram_not_set_up, jobs_full.
create or replace function public.eve_telegram_take(bot_id bigint, updates jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_bot eve.telegram_bots;
  v_came eve.telegram_updates[];
  v_waiting eve.telegram_updates[];
  v_answer jsonb;
begin
  if jsonb_typeof(eve_telegram_take.updates) is distinct from 'array' or jsonb_array_length(eve_telegram_take.updates) not between 1 and 100 then
    raise exception 'updates must be a list of 1 to 100 updates' using errcode = 'EV400';
  end if;
  select * into v_bot from eve.telegram_bots b where b.bot_id = eve_telegram_take.bot_id and b.is_connected;
  if not found then
    return eve.refused('telegram_not_set_up');
  end if;
  with given as (
    select (g.value -> 'update' ->> 'update_id')::bigint as update_id, coalesce(k.kind, 'other') as kind,
      g.value -> 'update' as body, coalesce(g.value -> 'update' -> k.kind, '{}') as said, g.value ->> 'trace_id' as trace_id,
      k.kind like '%business%' as is_business
    from jsonb_array_elements(eve_telegram_take.updates) g
    left join lateral (select kind from unnest(eve.telegram_kinds()) as names (kind) where g.value -> 'update' ? kind limit 1) k on true
  ), placed as (
    select g.*, left(case when g.is_business then 'business:' else '' end || (g.said -> 'chat' ->> 'id'), 60) as chat,
      '@' || lower(g.said -> 'chat' ->> 'username') as chat_username,
      left(coalesce(g.said -> 'chat' ->> 'title', g.said -> 'chat' ->> 'username', g.said -> 'chat' ->> 'first_name'), 200) as chat_name,
      left(g.said ->> 'media_group_id', 100) as album
    from given g
  ), judged as (
    select p.*, case
      when p.kind = 'other' or p.chat is null then 'unwanted_kind'
      when v_bot.chats is not null and not (p.said -> 'chat' ->> 'id' = any (v_bot.chats) or coalesce(p.chat_username = any (v_bot.chats), false))
        then 'chat_not_allowed'
    end as why_not
    from placed p
  ), came as (
    insert into eve.telegram_updates as u (
      bot_id, update_id, kind, chat, chat_name, body, state, reason, job_id, trace_id, received_at, ended_at
    )
    select distinct on (j.update_id) v_bot.bot_id, j.update_id, j.kind, j.chat, j.chat_name, case when j.why_not is null then j.body end,
      case when j.why_not is null then 'waiting' else 'ignored' end, j.why_not, case when j.why_not is null then gen_random_uuid() end,
      -- The parts of an album come one by one, in any order: what they have in common names their trace.
      case
        when j.album is not null then md5(format('telegram album %s %s %s', v_bot.bot_id, j.chat, j.album))
        else j.trace_id
      end, v_now, case when j.why_not is not null then v_now end
    from judged j
    order by j.update_id
    on conflict (bot_id, update_id) do nothing
    returning u.*
  )
  select array_agg(c::eve.telegram_updates), array_agg(c::eve.telegram_updates) filter (where c.state = 'waiting')
  into v_came, v_waiting
  from came c;
  if v_waiting is not null then
    begin
      v_answer := eve.telegram_submit(v_waiting);
      if v_answer ->> 'status' = 'refused' then
        raise exception '%', v_answer using errcode = 'triggered_action_exception';
      end if;
    exception when triggered_action_exception then
      -- Telegram sends them again.
      delete from eve.telegram_updates u
      using unnest(v_came) c
      where u.bot_id = c.bot_id and u.update_id = c.update_id;
      return sqlerrm::jsonb;
    end;
  end if;
  perform eve.telegram_count(c.kind, c.result, c.updates)
  from (
    select u.kind, case u.state when 'waiting' then 'taken' else coalesce(u.reason, u.state) end as result, count(*) as updates
    from unnest(v_came) u
    group by 1, 2
    union all
    select '', 'known', jsonb_array_length(eve_telegram_take.updates) - coalesce(cardinality(v_came), 0)
    order by 1, 2
  ) c;
  return jsonb_build_object(
    'status', 'taken', 'taken', coalesce(cardinality(v_came), 0),
    'known', jsonb_array_length(eve_telegram_take.updates) - coalesce(cardinality(v_came), 0), 'wake', coalesce((v_answer ->> 'wake')::boolean, false)
  );
end;
$$;
comment on function public.eve_telegram_take is 'Takes updates of Telegram in: each once, with a job for what may become a post.';

-- Begins with an update, for its job: {"status": "begun", "kind", "update", "trace_id", "tenant_id", "wanted", "files": hashes of files that are
-- stored already, by file_unique_id}; "ended": there is nothing to do (any more) for this job.
create or replace function public.eve_telegram_begin(job_id uuid, bot_id bigint, update_id bigint)
returns jsonb
language plpgsql
stable
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_update eve.telegram_updates;
  v_bot eve.telegram_bots;
begin
  select * into v_update
  from eve.telegram_updates u
  where u.bot_id = eve_telegram_begin.bot_id and u.update_id = eve_telegram_begin.update_id and u.state = 'waiting'
    and u.job_id = eve_telegram_begin.job_id;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  select * into v_bot from eve.telegram_bots b where b.bot_id = v_update.bot_id;
  return jsonb_build_object(
    'status', 'begun', 'kind', v_update.kind, 'update', v_update.body, 'trace_id', v_update.trace_id, 'tenant_id', v_bot.tenant_id,
    'wanted', to_jsonb(v_bot.wanted),
    'files', (
      select coalesce(jsonb_object_agg(m.file_unique_id, m.file_sha256), '{}')
      from jsonb_path_query(v_update.body, 'strict $.**.file_unique_id') as f (name)
      join eve.telegram_messages m
        on m.bot_id = v_update.bot_id and m.file_unique_id = f.name #>> '{}' and m.file_sha256 is not null
      join public.media_objects o
        on o.tenant_id = v_bot.tenant_id and o.file_sha256 = m.file_sha256 and o.state in ('stored', 'verified')
    )
  );
end;
$$;
comment on function public.eve_telegram_begin is 'What the job of an update of Telegram begins with.';
