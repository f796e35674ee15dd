-- Lanes without a limit of starts a minute, and lanes with a limit of none. Of the first a pace and a share were reckoned from a limit
-- that is not there, which gave batch one start or two a minute and a consumer one that waits; of the second one start was granted.

set local lock_timeout = '10s';

-- What one class may hold of a window and of a day. Batch leaves what the model's row keeps back for interactive callers
-- (of the minute nothing, unless the owner says so). Interactive callers leave the floor to batch, if batch is waiting
-- (`contended`). Either class keeps one start, where there is one.
create or replace function eve.class_share(
  limits eve.lane_limits, class text, contended boolean, out starts bigint, out tokens bigint, out day_starts bigint
)
language plpgsql
immutable
set search_path = ''
as $$
begin
  if class_share.class = 'batch' then
    starts := (limits).rpm
      - greatest(floor((limits).rpm * (limits).interactive_reserve + 1e-6)::integer, (limits).interactive_floor);
    tokens := (limits).tpm - greatest(
      floor((limits).tpm * (limits).interactive_reserve + 1e-6)::bigint,
      (limits).interactive_floor::bigint * (limits).tpm / greatest(coalesce((limits).rpm, 60), 1)
    );
    day_starts := (limits).rpd - ceil((limits).rpd * (limits).interactive_reserve_day - 1e-6)::integer;
  else
    starts := (limits).rpm - case when class_share.contended then ceil((limits).rpm * (limits).batch_floor - 1e-6)::integer else 0 end;
    tokens := (limits).tpm - case when class_share.contended then ceil((limits).tpm * (limits).batch_floor - 1e-6)::bigint else 0 end;
    day_starts := (limits).rpd;
  end if;
  -- Null is no limit, and no share of it.
  if starts < 1 then
    starts := least((limits).rpm, 1);
  end if;
  if tokens < 1 then
    tokens := least((limits).tpm, 1);
  end if;
end;
$$;

-- How far apart starts on all lanes of a model have to be, in milliseconds, so that the places which are free last until the next
-- ones fall free: after a burst they do not for a minute, and callers who come towards its end would wait for that long. Null where
-- starts have no limit.
create or replace function eve.spread_ms(lane_ids bigint[], interval_ms double precision, window_ms bigint, now_ms bigint)
returns double precision
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select greatest(
      spread_ms.interval_ms,
      max(
        (used.at_ms + spread_ms.window_ms - spread_ms.now_ms)
          -- A tenth of what is free to spare; and the first of those that fall free then may be waited for.
          / greatest(0.9 * (spread_ms.window_ms / spread_ms.interval_ms - used.all_starts) + used.freed_before + 1, 1)
      )
    )
    from (
      select b.at_ms, sum(b.starts) over () as all_starts,
        coalesce(sum(b.starts) over (order by b.at_ms groups between unbounded preceding and 1 preceding), 0) as freed_before
      from eve.lane_buckets b
      where b.lane_id = any (spread_ms.lane_ids) and b.at_ms > spread_ms.now_ms - spread_ms.window_ms
        and spread_ms.interval_ms is not null
    ) used
  );
end;
$$;

-- How long a consumer has to wait until it may book another start ahead on a lane; null: it may. It has as many starts, or tokens, of
-- those that are yet to come as one consumer may have: waiting_share_percent of what the lane has in a minute, at least one start, and
-- any number where starts have no limit. So nobody who keeps connections open can fill the coming minutes for everybody else. Starts at
-- once do not count, so one that is alone still has the whole lane; and batch, which waits in the queue, books nothing ahead.
create or replace function eve.share_wait(
  lane_id bigint, limits eve.lane_limits, consumer_id uuid, class text, tokens bigint, now_ms bigint
)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_share constant double precision := (
    select s.value / 100.0 from eve.settings s where s.name = 'waiting_share_percent' and s.value > 0
  );
  v_ahead record;
begin
  if v_share is null then
    return null;
  end if;
  select count(*) as starts, coalesce(sum(i.tokens), 0) as tokens, min(i.start_ms) as first_ms
  into v_ahead
  from eve.inflight i
  where i.lane_id = share_wait.lane_id and i.lease_until > to_timestamp(share_wait.now_ms / 1000.0)
    and i.consumer_id = share_wait.consumer_id and i.class = share_wait.class and i.state = 'reserved'
    and i.start_ms > share_wait.now_ms;
  if (limits).rpm is not null and v_ahead.starts >= greatest(floor((limits).rpm * v_share + 1e-6), 1)
    or v_ahead.starts > 0 and v_ahead.tokens + share_wait.tokens > (limits).tpm * v_share then
    return v_ahead.first_ms - share_wait.now_ms;
  end if;
  return null;
end;
$$;

-- Hand-made columns may be of other types of text and number, hence the casts.
-- The lanes that may serve a model: a row for each quota project that has a key which is switched on, not blocked, not barred
-- from this model and not excluded; of those of one project the preferred ones. `lane_id` is null where the lane is still to be made.
-- A lane with a limit of 0 is left out while there is another: the pace of batch is that of all the others together.
create or replace function eve.lanes_for(
  served public.google_ai_model_limits, now_ms bigint, exclude_keys uuid[], avoid_keys uuid[]
)
returns table (
  quota_key text, lane_id bigint, limits eve.lane_limits, avoided boolean, priority bigint, key_ids uuid[], aliases text[],
  env_var_names text[]
)
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
  select f.quota_key, f.lane_id, f.limits, f.avoided, f.priority, f.key_ids, f.aliases, f.env_var_names
  from (
    select o.*, bool_or(o.has_starts) over () as any_has_starts
    from (
      select k.quota_key::text, l.id as lane_id, its.limits, k.avoided, k.priority::bigint, k.key_ids, k.aliases, k.env_var_names,
        ((its.limits).rpm = 0 or (its.limits).tpm = 0 or (its.limits).rpd = 0) is not true as has_starts
      from (
        select a.quota_key, min(a.priority) as priority, bool_or(a.avoided) as avoided,
          array_agg(a.id::uuid order by a.created_at, a.id) as key_ids,
          array_agg(a.key_alias::text order by a.created_at, a.id) as aliases,
          array_agg(a.env_var_name::text order by a.created_at, a.id) as env_var_names
        from (
          select u.id, u.quota_key, u.priority, u.created_at, u.key_alias, u.env_var_name,
            u.id = any (lanes_for.avoid_keys) as avoided,
            rank() over (partition by u.quota_key order by u.id = any (lanes_for.avoid_keys), u.priority) as preference
          from public.google_ai_api_keys u
          where u.is_active and u.env_var_name is not null
            and (u.blocked_until is null or u.blocked_until <= to_timestamp(lanes_for.now_ms / 1000.0))
            and coalesce(lower(u.provider), 'google') = any (eve.providers_of(served))
            and u.id <> all (lanes_for.exclude_keys)
            and not exists (
              select
              from eve.key_model_blocks b
              where b.key_id = u.id and b.model = (served).model
                and b.blocked_until > to_timestamp(lanes_for.now_ms / 1000.0)
            )
        ) a
        where a.preference = 1
        group by a.quota_key
      ) k
      left join eve.lanes l on l.quota_project = k.quota_key and l.model = (served).model
      left join eve.quota_overrides q on q.quota_project = k.quota_key and q.model = (served).model
      cross join lateral (
        select eve.limits_of(served, q, (select s.value from eve.settings s where s.name = 'guard_ms')) as limits
      ) its
    ) o
  ) f
  where f.has_starts or not f.any_has_starts;
end;
$$;
