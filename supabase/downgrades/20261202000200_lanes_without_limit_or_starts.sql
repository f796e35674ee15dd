-- The way down of 20261202000200_lanes_without_limit_or_starts.sql.

set local lock_timeout = '10s';

CREATE OR REPLACE FUNCTION eve.class_share(limits eve.lane_limits, class text, contended boolean, OUT starts bigint, OUT tokens bigint, OUT day_starts bigint)
 RETURNS record
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
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
  -- greatest() passes over null, which is no limit.
  if starts < 1 then
    starts := 1;
  end if;
  if tokens < 1 then
    tokens := 1;
  end if;
end;
$function$;
CREATE OR REPLACE FUNCTION eve.lanes_for(served public.google_ai_model_limits, now_ms bigint, exclude_keys uuid[], avoid_keys uuid[])
 RETURNS TABLE(quota_key text, lane_id bigint, limits eve.lane_limits, avoided boolean, priority bigint, key_ids uuid[], aliases text[], env_var_names text[])
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return query
  select k.quota_key::text, l.id, eve.limits_of(served, o, (select s.value from eve.settings s where s.name = 'guard_ms')),
    k.avoided, k.priority::bigint, k.key_ids, k.aliases, k.env_var_names
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
  left join eve.quota_overrides o on o.quota_project = k.quota_key and o.model = (served).model;
end;
$function$;
CREATE OR REPLACE FUNCTION eve.share_wait(lane_id bigint, limits eve.lane_limits, consumer_id uuid, class text, tokens bigint, now_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
  if v_ahead.starts >= greatest(floor((limits).rpm * v_share + 1e-6), 1)
    or v_ahead.starts > 0 and v_ahead.tokens + share_wait.tokens > (limits).tpm * v_share then
    return v_ahead.first_ms - share_wait.now_ms;
  end if;
  return null;
end;
$function$;
CREATE OR REPLACE FUNCTION eve.spread_ms(lane_ids bigint[], interval_ms double precision, window_ms bigint, now_ms bigint)
 RETURNS double precision
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
    ) used
  );
end;
$function$;
