-- Reservations that cost the database little.
--
-- Most reservations find what they want at once: a lane with room, nobody waiting. For those public.eve_reserve now takes a short
-- way: four statements, of which the last three write. Whatever is not plain (a repeated request_id, a budget, a retry, a lane
-- that may be full, a block, a line) goes the long way, which is the one from before under the name eve.reserve_at_length and
-- stays the truth about every rule; the short way only ever books what the long way would have booked as well.
--
-- The two ways in which it is shorter:
--   routes     eve.routes says which lanes and keys serve a model, drawn up by the long way and forgotten by triggers as soon as
--              a key, a model, a limit or a block changes. In place of two queries over five tables: one look at a few rows.
--   safe sums  a lane's row knows the starts and tokens of its last two spans of 65.5 s, which cover any window. While their
--              sum fits, the window fits, and no bucket is looked at.
--
-- What was tried. Figures are CPU of the server for a call (PostgreSQL 17, 5 projects, 20 models, one connection, without waiting
-- for the disk), taken in pairs in the same seconds on a busy machine, so that only the ratios tell: there the floor of
-- bench:admission, one guarded update, costs 40 us, the long way 900, the short one 320.
--   The look at the lanes with every column of the route carried through sort and window, and the model's factor by a join
--     instead of a column of the route: 25 more.
--   Case expressions instead of arithmetic in the update: 25 more. It is expressions that cost: PL/pgSQL and the executor set up
--     each one anew in each transaction.
--   The three writes as one statement with data-modifying CTEs: no gain.
--   Without plan_cache_mode and enable_seqscan as settings of the function: no gain.
--   Without a window over the lanes' loads: 28 less, but a caller that is held up with a lane in hand then leaves the others up to
--     a third ahead of it. With it they stay within 5 starts.
--   All who find every lane taken wait for the least loaded one: it falls behind, since each holds it for longer than those who
--     need not wait. They wait for any one.
--   Without a subtransaction around choosing and booking: no gain, and now and then a deadlock. An update that has waited keeps its
--     row even where it then changes nothing.
--   Without eve.inflight's index on (lane_id, lease_until): no gain to be seen in the insert, and 5 ms for whoever looks after a
--     lane's dead among 16,000 running requests.
--   Row locks in place of advisory ones were passed over: an update that has waited sets up its plan a second time to look at the
--     new row, while it holds the lock; and a pick with `skip locked` still needs the update's own look.
-- What is left: entry 40, looking for a lane 110, booking it 65, its bucket 15, the running request 50, the answer 30.
-- HOT: no update of eve.lanes or eve.lane_buckets touches an indexed column; fillfactor 50 and 70 leave the page room, and 99.5 %
-- of the updates are HOT. Write-ahead log: 1,290 bytes a call, 1,590 before.

set local lock_timeout = '10s';

create table if not exists eve.routes (
  model text not null,
  class text not null,
  lane_id bigint not null,
  served text not null,
  lanes bigint not null,
  stale_ms bigint not null,
  guard_ms bigint not null,
  rpm integer,
  tpm integer,
  rpd integer,
  bucket_ms integer not null,
  estimate_factor double precision not null,
  estimate_ceiling double precision not null,
  even_share double precision not null,
  starts_room bigint not null,
  tokens_room bigint not null,
  day_room bigint not null,
  key_ids uuid[] not null,
  answers text[] not null,
  limits text[] not null,
  primary key (model, class, lane_id)
) with (fillfactor = 50);
comment on table eve.routes is 'Which lanes serve a model that is asked for, as far as that can be said beforehand: the lanes whose keys come first. Drawn up from keys, models and limits, and forgotten when one of them changes.';
comment on column eve.routes.model is 'The model asked for; served is the one that serves.';
comment on column eve.routes.lanes is 'How many lanes the model has here.';
comment on column eve.routes.stale_ms is 'Not believed from then on (milliseconds since 1970): a minute after it was drawn up, or when the block of a key ends.';
comment on column eve.routes.bucket_ms is 'Width of the lane''s buckets.';
comment on column eve.routes.even_share is 'Tokens a minute over requests a minute: above it tokens are what is scarce.';
comment on column eve.routes.estimate_factor is 'The model''s, as it was learned last.';
comment on column eve.routes.starts_room is 'What the last two spans may hold for a start of the class to be safe; tokens_room likewise, day_room: the day.';
comment on column eve.routes.key_ids is 'The lane''s keys, which take turns; answers has what a caller is told of each, as JSON without its end: what differs from call to call comes there.';
comment on column eve.routes.limits is 'The same of the limits of requests, tokens and requests a day.';

alter table eve.lanes add column if not exists next_lease_ms bigint not null default 0;
comment on column eve.lanes.next_lease_ms is 'No reservation of the lane runs out before this time (milliseconds since 1970), so nobody has to look for one that has.';

-- The functions write these columns, and nobody else; PostgreSQL reads and plans a check anew for every insert.
alter table eve.inflight
  drop constraint if exists inflight_class_known,
  drop constraint if exists inflight_state_known;
-- By it a lane's dead are found, and the next that may die.
create index if not exists inflight_lane_id_lease_until_idx on eve.inflight (lane_id, lease_until);

alter table eve.routes enable row level security;
revoke all on table eve.routes from public, anon, authenticated, service_role;
grant select, insert, update, delete on table eve.routes to service_role;

-- Routes are drawn up under a shared lock that is not waited for, and forgotten under the exclusive one, which is held until the
-- change is visible: nobody draws up a route from what was there before.
create or replace function eve.routes_lock()
returns bigint
language sql
immutable
set search_path = ''
as $$
  select 7310035118461046649;
$$;

-- With its owner's rights: whoever may change a key has no right in this schema.
create or replace function eve.forget_routes()
returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(eve.routes_lock());
  delete from eve.routes;
  return null;
end;
$$;

do $$
declare
  v_event record;
begin
  for v_event in
    select *
    from (values
      ('public.google_ai_api_keys', 'id, key_alias, provider, env_var_name, is_active, priority, quota_project, blocked_until'),
      (
        'public.google_ai_model_limits',
        'model, provider, is_active, replaced_by, rpm, tpm, rpd, interactive_floor, interactive_reserve, interactive_reserve_day, '
        || 'estimate_ceiling, supports_system, supports_json, supports_tools, supports_thinking, max_output_tokens'
      ),
      ('eve.quota_overrides', null), ('eve.key_model_blocks', null), ('eve.settings', null)
    ) as events (relation, columns)
  loop
    execute format(
      'create or replace trigger forget_routes after insert or delete or update%s on %s for each statement execute function eve.forget_routes()',
      ' of ' || v_event.columns, v_event.relation
    );
    execute format(
      'create or replace trigger forget_routes_truncated after truncate on %s for each statement execute function eve.forget_routes()',
      v_event.relation
    );
  end loop;
end;
$$;

-- Draws up the route of a model, unless somebody is at it or is changing what it depends on. Called when a reservation that
-- went the long way holds all it needs and waits for nothing any more.
create or replace function eve.draw_route(model text, now_ms bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := to_timestamp(draw_route.now_ms / 1000.0);
  v_model public.google_ai_model_limits;
  v_providers text[] := array['google', 'google_ai', 'google-ai', 'gemini'];
  v_guard_ms bigint;
  v_stale_ms bigint;
begin
  if exists (
    select
    from eve.routes r
    join eve.lanes l on l.id = r.lane_id
    where r.model = draw_route.model and draw_route.now_ms between r.stale_ms - 60000 and r.stale_ms - 1
  ) or not pg_try_advisory_xact_lock_shared(eve.routes_lock())
    or not pg_try_advisory_xact_lock(hashtextextended('eve.routes ' || draw_route.model, 0)) then
    return;
  end if;
  delete from eve.routes r where r.model = draw_route.model;

  select * into v_model from public.google_ai_model_limits m where m.model = draw_route.model;
  for v_hop in 1..5 loop
    exit when v_model.replaced_by is null;
    select * into v_model from public.google_ai_model_limits m where m.model = v_model.replaced_by;
  end loop;
  if v_model.model is null or not v_model.is_active then
    return;
  end if;
  if lower(v_model.provider) <> all (v_providers) then
    v_providers := array[lower(v_model.provider)];
  end if;
  select s.value into v_guard_ms from eve.settings s where s.name = 'guard_ms';
  -- A block that ends brings back a key, which may come first.
  select least(
    draw_route.now_ms + 60000,
    (
      select ceil(extract(epoch from min(ends.at)) * 1000)::bigint
      from (
        select k.blocked_until as at from public.google_ai_api_keys k where k.blocked_until > v_now
        union all
        select b.blocked_until from eve.key_model_blocks b where b.model = v_model.model and b.blocked_until > v_now
      ) ends
      where ends.at < 'infinity'
    )
  )
  into v_stale_ms;

  insert into eve.routes (
    model, class, lane_id, served, lanes, stale_ms, guard_ms, rpm, tpm, rpd, bucket_ms, estimate_factor, estimate_ceiling,
    even_share, starts_room, tokens_room, day_room, key_ids, answers, limits
  )
  select draw_route.model, classes.class, l.id, v_model.model, count(*) over (partition by classes.class), v_stale_ms, v_guard_ms,
    limits.rpm, limits.tpm, limits.rpd, case when limits.rpm <= 600 then 1 else 100 end, v_model.estimate_factor,
    v_model.estimate_ceiling, coalesce(limits.tpm::double precision / nullif(coalesce(limits.rpm, 60), 0), 'infinity'),
    -- Batch leaves at least what eve.earliest_start leaves to interactive callers, whatever they have lately used.
    coalesce(
      limits.rpm - case classes.class
        when 'batch' then greatest(floor(limits.rpm * v_model.interactive_reserve + 1e-6)::integer, v_model.interactive_floor)
        else 0
      end, 9000000000000000000
    ),
    coalesce(
      limits.tpm - case classes.class
        when 'batch' then greatest(
          floor(limits.tpm * v_model.interactive_reserve + 1e-6)::bigint,
          v_model.interactive_floor::bigint * limits.tpm / greatest(coalesce(limits.rpm, 60), 1)
        )
        else 0
      end, 9000000000000000000
    ),
    coalesce(
      limits.rpd - case classes.class
        when 'batch' then ceil(limits.rpd * v_model.interactive_reserve_day - 1e-6)::integer
        else 0
      end, 9000000000000000000
    ),
    first.key_ids,
    array(
      select regexp_replace(jsonb_build_object(
        'status', 'granted', 'attempt', 1, 'wait_ms', 0, 'capture', false, 'class', classes.class, 'model', v_model.model,
        'requested_model', draw_route.model, 'replaced', draw_route.model <> v_model.model,
        'key', jsonb_build_object(
          'id', u.id, 'alias', u.key_alias, 'env_var_name', u.env_var_name, 'provider', v_providers[1]
        ),
        'lane_id', l.id, 'quota_project', first.quota_key,
        'capabilities', jsonb_build_object(
          'system', v_model.supports_system, 'json', v_model.supports_json, 'tools', v_model.supports_tools,
          'thinking', v_model.supports_thinking, 'max_output_tokens', v_model.max_output_tokens
        )
      )::text, '}$', '')
      from unnest(first.key_ids) with ordinality as place (key_id, turn)
      join public.google_ai_api_keys u on u.id = place.key_id
      order by place.turn
    ),
    array[
      format('{"requests":{"limit":%s,"reset_ms":%s', coalesce(limits.rpm::text, 'null'), 60000 + v_guard_ms),
      format('"tokens":{"limit":%s,"reset_ms":%s', coalesce(limits.tpm::text, 'null'), 60000 + v_guard_ms),
      format('"requests_day":{"limit":%s', coalesce(limits.rpd::text, 'null'))
    ]
  from (
    -- As in eve.reserve_at_length, and of all lanes those whose keys come first.
    select a.quota_key, array_agg(a.id order by a.created_at, a.id) as key_ids
    from (
      select u.id, u.quota_key, u.created_at, rank() over (order by u.priority) as preference
      from public.google_ai_api_keys u
      where u.is_active and u.env_var_name is not null
        and (u.blocked_until is null or u.blocked_until <= v_now)
        and coalesce(lower(u.provider), 'google') = any (v_providers)
        and not exists (
          select
          from eve.key_model_blocks b
          where b.key_id = u.id and b.model = v_model.model and b.blocked_until > v_now
        )
    ) a
    where a.preference = 1
    group by a.quota_key
  ) first
  join eve.lanes l on l.quota_project = first.quota_key and l.model = v_model.model
  left join eve.quota_overrides o on o.quota_project = first.quota_key and o.model = v_model.model
  cross join lateral (
    select (case when o.model is null then v_model.rpm else o.rpm end)::integer as rpm,
      (case when o.model is null then v_model.tpm else o.tpm end)::integer as tpm,
      (case when o.model is null then v_model.rpd else o.rpd end)::integer as rpd
  ) limits
  cross join (values ('interactive'), ('batch')) as classes (class);
end;
$$;

-- What is learned about a model's estimates changes often, and is told to the routes in place. Nobody waits for that: routes that
-- somebody else holds are drawn up anew within a minute.
create or replace function eve.tell_routes()
returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
  update eve.routes r
  set estimate_factor = new.estimate_factor
  where (r.model, r.class, r.lane_id) in (
    select free.model, free.class, free.lane_id
    from eve.routes free
    where free.served = new.model
    for update skip locked
  );
  return null;
end;
$$;
create or replace trigger tell_routes
after update of estimate_factor on public.google_ai_model_limits
for each row when (old.estimate_factor is distinct from new.estimate_factor)
execute function eve.tell_routes();

-- Nothing depends on a schedule: whoever takes a lane also closes what died on it. After the buckets, since closing counts
-- usage, and settlements take buckets before counters. The lane is the caller's, so no reservation of it is being made but his own,
-- whose lease ends at new_lease_ms.
create or replace function eve.clear_dead(lane_id bigint, now_ms bigint, new_lease_ms bigint default null)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if exists (select from eve.lanes l where l.id = clear_dead.lane_id and l.next_lease_ms > clear_dead.now_ms) then
    return;
  end if;
  perform eve.expire_leases(clear_dead.lane_id, 100);
  -- Looked for once a second at most, however many have died: who comes in between shall not pay for them.
  update eve.lanes l
  set next_lease_ms = least(
    clear_dead.new_lease_ms,
    (
      select case
        when count(*) > 0 then greatest(clear_dead.now_ms + 1000, floor(extract(epoch from min(i.lease_until)) * 1000)::bigint)
        else 9000000000000000000
      end
      from eve.inflight i
      where i.lane_id = clear_dead.lane_id
    )
  )
  where l.id = clear_dead.lane_id;
end;
$$;

drop function if exists eve.clear_dead(bigint, bigint);
-- With one more argument it would be another function beside the old one.
drop function if exists eve.book(
  bigint, integer, integer, integer, text, bigint, bigint, integer, double precision, double precision, bigint
);

-- Takes a slot on one lane, or answers when it could: the one place that writes a booking. `tokens` are taken; `expected`
-- are what interactive callers are believed to need.
create or replace function eve.book(
  lane_id bigint,
  rpm integer,
  tpm integer,
  rpd integer,
  class text,
  tokens bigint,
  expected bigint,
  guard_ms bigint,
  floor_starts integer,
  reserve double precision,
  reserve_day double precision,
  latest_wait_ms bigint,
  lease_ms integer,
  out booked boolean,
  out start_ms bigint,
  out bucket_ms bigint,
  out day_ends_ms bigint,
  out wait_ms bigint,
  out turn bigint,
  out used_starts bigint,
  out used_tokens bigint,
  out day_left bigint,
  out limit_name text
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lane eve.lanes;
  v_now bigint;
  v_width constant integer := case when book.rpm <= 600 then 1 else 100 end;
  v_span bigint;
  v_minute bigint;
  v_slot integer;
  v_batch constant integer := case when book.class = 'batch' then 1 else 0 end;
  v_fit record;
begin
  -- As on the short way, which looks at no row before it has this: so bookings do not wait for each other's rows.
  perform pg_advisory_xact_lock(1163281713, book.lane_id::integer);
  select * into v_lane from eve.lanes l where l.id = book.lane_id for no key update;
  -- Nothing depends on a schedule: whoever takes the lane also clears what died on it.
  v_now := eve.clock_ms();
  select * into v_fit
  from eve.earliest_start(
    v_lane, book.rpm, book.tpm, book.rpd, book.class, book.tokens, v_now, book.guard_ms, book.floor_starts,
    book.reserve, book.reserve_day, true
  );
  start_ms := v_fit.start_ms;
  wait_ms := start_ms - v_now;
  limit_name := v_fit.limit_name;
  day_left := v_fit.day_left - 1;
  booked := start_ms is not null and wait_ms <= book.latest_wait_ms;
  if not booked then
    perform eve.clear_dead(book.lane_id, v_now);
    return;
  end if;

  bucket_ms := (start_ms + v_width - 1) / v_width * v_width;
  turn := v_lane.turns;
  if v_lane.day_ends_ms <= v_now or v_lane.day_ends_ms - v_now > 90000000 then
    day_ends_ms := eve.next_pacific_midnight(v_now);
    if v_lane.day_ends_ms > 0 and eve.next_pacific_midnight(v_lane.day_ends_ms) = day_ends_ms then
      v_lane.day_starts := v_lane.next_day_starts;
      v_lane.day_batch_starts := v_lane.next_day_batch_starts;
    else
      v_lane.day_starts := 0;
      v_lane.day_batch_starts := 0;
    end if;
    v_lane.next_day_starts := 0;
    v_lane.next_day_batch_starts := 0;
    v_lane.day_ends_ms := day_ends_ms;
  end if;
  day_ends_ms := v_lane.day_ends_ms;
  if start_ms < v_lane.day_ends_ms then
    v_lane.day_starts := v_lane.day_starts + 1;
    v_lane.day_batch_starts := v_lane.day_batch_starts + v_batch;
  else
    v_lane.next_day_starts := v_lane.next_day_starts + 1;
    v_lane.next_day_batch_starts := v_lane.next_day_batch_starts + v_batch;
  end if;

  v_span := start_ms >> 16;
  if v_span = v_lane.span_number then
    v_lane.span_starts := v_lane.span_starts + 1;
    v_lane.span_tokens := v_lane.span_tokens + book.tokens;
  elsif v_span < v_lane.span_number then
    v_lane.previous_span_starts := v_lane.previous_span_starts + 1;
    v_lane.previous_span_tokens := v_lane.previous_span_tokens + book.tokens;
  else
    v_lane.previous_span_starts := case v_span - v_lane.span_number when 1 then v_lane.span_starts else 0 end;
    v_lane.previous_span_tokens := case v_span - v_lane.span_number when 1 then v_lane.span_tokens else 0 end;
    v_lane.span_number := v_span;
    v_lane.span_starts := 1;
    v_lane.span_tokens := book.tokens;
  end if;

  if v_batch = 1 then
    v_lane.batch_tail_ms := greatest(v_lane.batch_tail_ms, start_ms);
  else
    v_lane.interactive_tail_ms := greatest(v_lane.interactive_tail_ms, start_ms);
    v_lane.interactive_size := greatest(book.expected, (v_lane.interactive_size * 9 + book.expected) / 10);
    -- By the minute in which they came: counted by their starts, callers whom batch makes wait would seem few.
    v_minute := v_now / 60000;
    if v_minute > v_lane.minute_number then
      -- Minutes without a call since then: their places in the ring are empty.
      for v_gap in greatest(v_lane.minute_number + 1, v_minute - 9)..v_minute loop
        v_lane.minute_starts[1 + (v_gap % 10)::integer] := 0;
        v_lane.minute_tokens[1 + (v_gap % 10)::integer] := 0;
      end loop;
      v_lane.minute_number := v_minute;
    end if;
    v_slot := 1 + (v_minute % 10)::integer;
    v_lane.minute_starts[v_slot] := v_lane.minute_starts[v_slot] + 1;
    v_lane.minute_tokens[v_slot] := v_lane.minute_tokens[v_slot] + book.expected;
  end if;

  update eve.lanes l
  set interactive_tail_ms = v_lane.interactive_tail_ms, batch_tail_ms = v_lane.batch_tail_ms,
    day_ends_ms = v_lane.day_ends_ms, day_starts = v_lane.day_starts, day_batch_starts = v_lane.day_batch_starts,
    next_day_starts = v_lane.next_day_starts, next_day_batch_starts = v_lane.next_day_batch_starts,
    span_number = v_lane.span_number, span_starts = v_lane.span_starts, span_tokens = v_lane.span_tokens,
    previous_span_starts = v_lane.previous_span_starts, previous_span_tokens = v_lane.previous_span_tokens,
    minute_number = v_lane.minute_number, minute_starts = v_lane.minute_starts, minute_tokens = v_lane.minute_tokens,
    interactive_size = v_lane.interactive_size, turns = v_lane.turns + 1,
    next_lease_ms = least(l.next_lease_ms, start_ms + book.lease_ms),
    -- A block that is over is forgotten: the short way looks at no clock before it has chosen a lane.
    blocked_until = case when l.blocked_until > to_timestamp(v_now / 1000.0) then l.blocked_until end,
    blocked_reason = case when l.blocked_until > to_timestamp(v_now / 1000.0) then l.blocked_reason end
  where l.id = book.lane_id;

  insert into eve.lane_buckets as b (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
  values (book.lane_id, bucket_ms, 1, book.tokens, v_batch, v_batch * book.tokens)
  on conflict on constraint lane_buckets_pkey do update
  set starts = b.starts + 1, tokens = b.tokens + excluded.tokens, batch_starts = b.batch_starts + excluded.batch_starts,
    batch_tokens = b.batch_tokens + excluded.batch_tokens;

  -- Instants that no window reaches any more. Now and then, so that few calls pay for it.
  if turn % 16 = 0 then
    delete from eve.lane_buckets b where b.lane_id = book.lane_id and b.at_ms < v_now - 70000;
  end if;

  perform eve.clear_dead(book.lane_id, v_now, start_ms + book.lease_ms);

  if book.rpm <= 600 then
    select coalesce(sum(b.starts), 0), coalesce(sum(b.tokens), 0)
    into used_starts, used_tokens
    from eve.lane_buckets b
    where b.lane_id = book.lane_id and b.at_ms > start_ms - 60000 - book.guard_ms and b.at_ms <= start_ms;
  else
    -- On a fast lane two spans are close enough, and err on the safe side.
    used_starts := v_lane.span_starts + v_lane.previous_span_starts;
    used_tokens := v_lane.span_tokens + v_lane.previous_span_tokens;
  end if;
end;
$$;

-- Nobody waits for the answer any more, so nothing is booked: what this transaction has done so far is undone. `detail` is the time
-- by which that was found, in milliseconds since 1970, from which a caller whose clock differs learns by how much.
create or replace function eve.stop_when_late(deadline timestamptz)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
  if clock_timestamp() > stop_when_late.deadline then
    raise exception 'nobody waits for this reservation any more'
      using errcode = 'EV503', detail = floor(extract(epoch from clock_timestamp()) * 1000)::bigint::text;
  end if;
end;
$$;

-- The long way: every rule, in the order in which locks are taken. Takes all that public.eve_reserve is given.
create or replace function eve.reserve_at_length(
  request_id text,
  models text[],
  tokens integer,
  consumer_id uuid,
  class text,
  max_wait_ms integer,
  attempt integer,
  exclude_keys uuid[],
  avoid_keys uuid[],
  lease_ms integer,
  token_id uuid,
  door text,
  trace_id text,
  metadata jsonb,
  request_hash text,
  counted boolean,
  deadline timestamptz,
  call_id uuid
)
returns jsonb
language plpgsql
volatile
set search_path = ''
-- Custom plans would be made anew on nearly every call; planning was a third of its time.
set plan_cache_mode = 'force_generic_plan'
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_consumer_id constant uuid := coalesce(reserve_at_length.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_received_ms constant bigint := eve.clock_ms();
  v_received_at constant timestamptz := to_timestamp(v_received_ms / 1000.0);
  v_guard_ms bigint;
  v_class text := reserve_at_length.class;
  v_running eve.inflight;
  v_ended record;
  v_seen boolean := false;
  v_scope record;
  v_same boolean;
  v_consumer record;
  v_token record;
  v_allowed text[];
  v_requested text;
  v_model public.google_ai_model_limits;
  v_providers text[];
  v_tokens bigint;
  v_expected bigint;
  v_now bigint;
  v_lane record;
  v_row eve.lanes;
  v_fit record;
  v_best record;
  v_best_start bigint;
  v_best_limit text;
  v_second_start bigint;
  v_booking record;
  v_key_place integer;
  v_key_id uuid;
  v_lanes bigint;
  v_too_small integer;
  v_refusal_code text;
  v_refusal_limit text;
  v_refusal_model text;
  v_refusal_wait bigint;
  v_refusal_limits jsonb;
  v_refusal_detail text;
  v_request_no bigint;
  v_rounds integer;
  v_day date;
  v_spent record;
  v_booked boolean := false;
  v_count boolean := false;
  v_scoped boolean := false;
  v_minute_wait bigint;
  v_capture boolean := false;
begin
  if reserve_at_length.request_id is null or length(reserve_at_length.request_id) not between 1 and 200 then
    raise exception 'request_id must have 1 to 200 characters' using errcode = 'EV400';
  elsif coalesce(cardinality(reserve_at_length.models), 0) not between 1 and 10 then
    raise exception 'models must name 1 to 10 models' using errcode = 'EV400';
  elsif reserve_at_length.tokens is null or reserve_at_length.tokens < 0 then
    raise exception 'tokens must be 0 or more' using errcode = 'EV400';
  elsif v_class is null or v_class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif reserve_at_length.max_wait_ms is null or reserve_at_length.max_wait_ms not between 0 and 3600000 then
    raise exception 'max_wait_ms must be between 0 and 3600000' using errcode = 'EV400';
  elsif reserve_at_length.attempt is null or reserve_at_length.attempt not between 1 and 3 then
    raise exception 'attempt must be 1, 2 or 3' using errcode = 'EV400';
  elsif reserve_at_length.lease_ms is null or reserve_at_length.lease_ms not between 100 and 3600000 then
    raise exception 'lease_ms must be between 100 and 3600000' using errcode = 'EV400';
  elsif length(reserve_at_length.metadata::text) > 16384 then
    raise exception 'metadata must have at most 16384 characters' using errcode = 'EV400';
  end if;

  perform eve.stop_when_late(reserve_at_length.deadline);

  -- Whoever may not call any more is told nothing, not even what he was told before.
  if v_consumer_id <> '00000000-0000-0000-0000-000000000000'
    and not exists (select from eve.consumers c where c.id = v_consumer_id and c.is_active) then
    return eve.refuse(
      'consumer_disabled', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
      reserve_at_length.door, reserve_at_length.models[1], reserve_at_length.tokens, reserve_at_length.trace_id
    );
  elsif reserve_at_length.token_id is not null
    and not exists (
      select
      from eve.scoped_tokens t
      where t.id = reserve_at_length.token_id and t.consumer_id = v_consumer_id and t.revoked_at is null
        and t.expires_at > v_received_at
    ) then
    return eve.refuse(
      'token_revoked', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
      reserve_at_length.door, reserve_at_length.models[1], reserve_at_length.tokens, reserve_at_length.trace_id
    );
  end if;

  -- The same request twice at once: the second waits here and then sees the first.
  perform pg_advisory_xact_lock(hashtextextended(v_consumer_id::text || reserve_at_length.request_id, 0));

  -- Whoever settles or closes it at this moment is waited for; then it has ended, and the answer is below.
  select * into v_running
  from eve.inflight i
  where i.consumer_id = v_consumer_id and i.request_id = reserve_at_length.request_id
  for update;
  if found and v_running.lease_until < v_received_at then
    perform eve.expire_leases(v_running.lane_id, 100000);
    v_running := null;
  end if;
  if v_running.request_no is not null
    and (reserve_at_length.attempt = 1 or v_running.state <> 'between' or reserve_at_length.attempt <> v_running.attempt + 1) then
    select v_running.request_no, 'running' as state, v_running.attempt as attempts, v_running.request_hash,
      v_running.requested_model, v_running.class, null::text as error_code, null::jsonb as result
    into v_ended;
    v_seen := true;
  elsif v_running.request_no is null then
    select r.request_no, r.state, r.attempts, r.request_hash, r.requested_model, r.class, r.error_code, kept.result
    into v_ended
    from eve.requests r
    left join eve.request_results kept on kept.request_no = r.request_no
    where r.consumer_id = v_consumer_id and r.request_id = reserve_at_length.request_id;
    v_seen := found;
    if not v_seen and reserve_at_length.attempt > 1 then
      raise exception 'attempt % of a request that is not running', reserve_at_length.attempt using errcode = 'EV404';
    end if;
  end if;
  if v_seen then
    -- An id is its consumer's, and an answer belongs to a scope as well: whoever may use none of the models that he names
    -- learns what any other id would tell him, and what was served by a model or in a class that he may not use is another
    -- request.
    select case
        when t.models is null then c.models
        when c.models is null then t.models
        else array(select m from unnest(t.models) m where m = any (c.models))
      end as models, c.max_class = 'batch' or t.class is not distinct from 'batch' as batch_only
    into v_scope
    from eve.consumers c
    left join eve.scoped_tokens t on t.id = reserve_at_length.token_id
    where c.id = v_consumer_id;
    if not reserve_at_length.models && v_scope.models then
      return eve.refuse(
        'model_not_allowed', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
        reserve_at_length.door, reserve_at_length.models[1], reserve_at_length.tokens, reserve_at_length.trace_id
      );
    end if;
    v_same := reserve_at_length.request_hash is not distinct from v_ended.request_hash
      and (v_scope.models is null or v_ended.requested_model = any (v_scope.models))
      and (v_ended.class = 'batch' or not v_scope.batch_only);
    return jsonb_build_object(
      'status', 'duplicate', 'state', v_ended.state, 'request_no', v_ended.request_no, 'attempts', v_ended.attempts,
      'same_request', v_same, 'error_code', case when v_same then v_ended.error_code end,
      'result', case when v_same then v_ended.result end
    );
  end if;


  -- Who calls, and what he may still spend. Budget rows are locked before any lane.
  if v_consumer_id <> '00000000-0000-0000-0000-000000000000' then
    select c.is_active, c.models, c.max_class, c.requests_per_day, c.tokens_per_day, c.capture, c.rpm
    into v_consumer
    from eve.consumers c
    where c.id = v_consumer_id;
    if not found or not v_consumer.is_active then
      return eve.refuse(
        'consumer_disabled', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
        reserve_at_length.door, reserve_at_length.models[1], reserve_at_length.tokens, reserve_at_length.trace_id
      );
    end if;
    v_allowed := v_consumer.models;
    v_capture := v_consumer.capture;
    if v_consumer.max_class = 'batch' then
      v_class := 'batch';
    end if;
    if v_consumer.rpm is not null and reserve_at_length.attempt = 1 then
      v_minute_wait := eve.consumer_minute_wait(v_consumer_id, v_consumer.rpm, v_received_ms);
      if v_minute_wait > 0 then
        return eve.refuse(
          'rate_limited', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
          reserve_at_length.door, reserve_at_length.models[1], reserve_at_length.tokens, reserve_at_length.trace_id, 'consumer_rpm', v_minute_wait
        );
      end if;
    end if;
    if v_consumer.requests_per_day is not null or v_consumer.tokens_per_day is not null then
      -- A request belongs to the day it came in, whatever the day of its later attempts.
      v_day := eve.pacific_day(
        floor(extract(epoch from coalesce(v_running.received_at, v_received_at)) * 1000)::bigint
      );
      insert into eve.consumer_days (consumer_id, day) values (v_consumer_id, v_day) on conflict do nothing;
      select d.requests, d.tokens into v_spent
      from eve.consumer_days d
      where d.consumer_id = v_consumer_id and d.day = v_day
      for update;
      if (reserve_at_length.attempt = 1 and v_spent.requests >= v_consumer.requests_per_day)
        or v_spent.tokens + reserve_at_length.tokens > v_consumer.tokens_per_day then
        return eve.refuse(
          'budget_exhausted', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
          reserve_at_length.door, reserve_at_length.models[1], reserve_at_length.tokens, reserve_at_length.trace_id,
          case when reserve_at_length.attempt = 1 and v_spent.requests >= v_consumer.requests_per_day then 'consumer_requests' else 'consumer_tokens' end,
          eve.next_pacific_midnight(v_received_ms) - v_received_ms
        );
      end if;
    end if;
  end if;
  if reserve_at_length.token_id is not null then
    select t.models, t.class, t.requests_budget, t.tokens_budget, t.requests_used, t.tokens_used,
      t.revoked_at is not null or t.expires_at <= v_received_at as ended
    into v_token
    from eve.scoped_tokens t
    where t.id = reserve_at_length.token_id and t.consumer_id = v_consumer_id
    for update;
    if not found or v_token.ended then
      return eve.refuse(
        'token_revoked', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
        reserve_at_length.door, reserve_at_length.models[1], reserve_at_length.tokens, reserve_at_length.trace_id
      );
    elsif (reserve_at_length.attempt = 1 and v_token.requests_used >= v_token.requests_budget)
      or v_token.tokens_used + reserve_at_length.tokens > v_token.tokens_budget then
      return eve.refuse(
        'budget_exhausted', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
        reserve_at_length.door, reserve_at_length.models[1], reserve_at_length.tokens, reserve_at_length.trace_id,
        case when reserve_at_length.attempt = 1 and v_token.requests_used >= v_token.requests_budget then 'token_requests' else 'token_tokens' end
      );
    end if;
    v_scoped := true;
    if v_token.class = 'batch' then
      v_class := 'batch';
    end if;
    if v_token.models is not null then
      v_allowed := case
        when v_allowed is null then v_token.models
        else array(select m from unnest(v_token.models) m where m = any (v_allowed))
      end;
    end if;
  end if;

  select s.value into v_guard_ms from eve.settings s where s.name = 'guard_ms';

  <<each_model>>
  foreach v_requested in array reserve_at_length.models loop
    if v_allowed is not null and v_requested <> all (v_allowed) then
      v_refusal_code := coalesce(v_refusal_code, 'model_not_allowed');
      v_refusal_model := coalesce(v_refusal_model, v_requested);
      continue each_model;
    end if;
    select * into v_model from public.google_ai_model_limits m where m.model = v_requested;
    for v_hop in 1..5 loop
      exit when v_model.replaced_by is null;
      select * into v_model from public.google_ai_model_limits m where m.model = v_model.replaced_by;
    end loop;
    if v_model.model is null or not v_model.is_active then
      return eve.refuse(
        'unknown_model', v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
        reserve_at_length.door, v_requested, reserve_at_length.tokens, reserve_at_length.trace_id
      );
    end if;
    -- Upstream's own count is booked as it is. An estimate that could be counted is booked at the most that it may turn out
    -- to be, until it is settled; an estimate that cannot be counted, at what such estimates have come to.
    v_expected := ceil(reserve_at_length.tokens * case when reserve_at_length.counted then 1 else v_model.estimate_factor end)::bigint;
    v_tokens := case
      when not reserve_at_length.counted then ceil(v_expected * v_model.estimate_ceiling)::bigint
      else v_expected
    end;
    -- Hand-made rows say google, google_ai, gemini or nothing and mean the same provider.
    v_providers := array['google', 'google_ai', 'google-ai', 'gemini'];
    if lower(v_model.provider) <> all (v_providers) then
      v_providers := array[lower(v_model.provider)];
    end if;
    v_rounds := 0;
    <<each_round>>
    loop
      v_rounds := v_rounds + 1;
      if v_rounds > 1000 then
        raise exception 'no lane held still long enough to be taken' using errcode = 'EV503';
      end if;
      v_now := case v_rounds when 1 then v_received_ms else eve.clock_ms() end;
      v_best := null;
      v_best_start := null;
      v_second_start := null;
      v_lanes := 0;
      v_too_small := 0;
      -- Lanes in the order of the earliest start that can be told without looking into the window. The first whose real
      -- start is no later than the next one's bound is the best there is, so seldom more than one window is looked at.
      for v_lane in
        select l.id as lane_id, l.id is null as missing, k.quota_key, count(*) over () as lanes, limits.rpm, limits.tpm, limits.rpd,
          k.key_ids, k.aliases, k.env_var_names,
          greatest(
            v_now, case v_class when 'batch' then l.batch_tail_ms else l.interactive_tail_ms end,
            case when l.blocked_until > to_timestamp(v_now / 1000.0) then
              case
                when l.blocked_until = 'infinity' then 9223372036854775807
                else ceil(extract(epoch from l.blocked_until) * 1000)::bigint
              end
            end
          ) as bound_ms
        from (
          -- The keys that may serve: switched on, not blocked, not barred from this model, and of those of one project the
          -- preferred ones.
          select a.quota_key, min(a.priority) as priority, bool_or(a.avoided) as avoided,
            array_agg(a.id order by a.created_at, a.id) as key_ids,
            array_agg(a.key_alias order by a.created_at, a.id) as aliases,
            array_agg(a.env_var_name order by a.created_at, a.id) as env_var_names
          from (
            select u.id, u.quota_key, u.priority, u.created_at, u.key_alias, u.env_var_name,
              u.id = any (reserve_at_length.avoid_keys) as avoided,
              rank() over (
                partition by u.quota_key order by u.id = any (reserve_at_length.avoid_keys), u.priority
              ) as preference
            from public.google_ai_api_keys u
            where u.is_active and u.env_var_name is not null
              and (u.blocked_until is null or u.blocked_until <= to_timestamp(v_now / 1000.0))
              and coalesce(lower(u.provider), 'google') = any (v_providers)
              and u.id <> all (reserve_at_length.exclude_keys)
              and not exists (
                select
                from eve.key_model_blocks b
                where b.key_id = u.id and b.model = v_model.model
                  and b.blocked_until > to_timestamp(v_now / 1000.0)
              )
          ) a
          where a.preference = 1
          group by a.quota_key
        ) k
        left join eve.lanes l on l.quota_project = k.quota_key and l.model = v_model.model
        left join eve.quota_overrides o on o.quota_project = k.quota_key and o.model = v_model.model
        cross join lateral (
          -- Hand-made limits may be bigint or numeric.
          select (case when o.model is null then v_model.rpm else o.rpm end)::integer as rpm,
            (case when o.model is null then v_model.tpm else o.tpm end)::integer as tpm,
            (case when o.model is null then v_model.rpd else o.rpd end)::integer as rpd
        ) limits
        order by missing desc, bound_ms, k.avoided, k.priority, l.day_starts, l.turns, l.id
      loop
        v_lanes := v_lane.lanes;
        if v_lane.missing then
          -- A key or a model has been added: its lane comes into being with its first call.
          perform eve.ensure_lanes(v_model.model);
          continue each_round;
        end if;
        if v_tokens > v_lane.tpm then
          if not reserve_at_length.counted and v_expected <= v_lane.tpm * v_model.estimate_ceiling then
            -- It may fit after all: only a count can tell.
            v_best := v_lane;
            v_count := true;
            exit each_model;
          end if;
          v_too_small := v_too_small + 1;
          v_refusal_limits := eve.limits_json(v_lane.rpm, v_lane.tpm, v_lane.rpd, 0, 0, v_lane.rpd, 0, 0);
          continue;
        end if;
        if v_best_start <= v_lane.bound_ms then
          v_second_start := least(v_second_start, v_lane.bound_ms);
          exit;
        end if;
        if v_rounds = 1 and (v_lane.rpm > 600 or v_lane.rpm is null) and v_lane.bound_ms = v_now then
          -- Nothing starts sooner than now, and a fast lane is seldom full: look once, with the lane in hand.
          v_best_start := v_now;
          v_best_limit := null;
          v_best := v_lane;
          exit;
        end if;
        select * into v_row from eve.lanes l where l.id = v_lane.lane_id;
        select * into v_fit
        from eve.earliest_start(
          v_row, v_lane.rpm, v_lane.tpm, v_lane.rpd, v_class, v_tokens, v_now, v_guard_ms,
          v_model.interactive_floor, v_model.interactive_reserve, v_model.interactive_reserve_day, true
        );
        if v_best_start is null and v_fit.start_ms is null then
          -- Nothing to wait for on this lane; remembered as the reason if no other lane has one.
          v_refusal_limit := coalesce(v_refusal_limit, v_fit.limit_name);
          v_refusal_model := coalesce(v_refusal_model, v_model.model);
        elsif v_best_start is null or v_fit.start_ms < v_best_start then
          v_second_start := v_best_start;
          v_best_start := v_fit.start_ms;
          v_best_limit := v_fit.limit_name;
          v_best := v_lane;
        elsif v_fit.start_ms is not null then
          v_second_start := least(v_second_start, v_fit.start_ms);
        end if;
      end loop;

      if v_lanes = 0 then
        v_refusal_code := coalesce(v_refusal_code, 'no_active_key');
        v_refusal_model := coalesce(v_refusal_model, v_model.model);
        continue each_model;
      elsif v_too_small = v_lanes then
        v_refusal_code := coalesce(v_refusal_code, 'prompt_too_large');
        v_refusal_model := v_model.model;
        v_refusal_limit := 'tpm';
        continue each_model;
      elsif v_best_start is null then
        v_refusal_code := coalesce(v_refusal_code, case v_refusal_limit when 'rpd' then 'daily_limit' when 'blocked' then 'lane_blocked' else 'rate_limited' end);
        continue each_model;
      end if;

      -- Where tokens are what is scarce, whoever has the time is asked to have them counted first: those who wait for tokens,
      -- and batch with a prompt above an even share of the limit. A booking made on a guess has to be larger than the prompt,
      -- and what it leaves over is of no use to those who have booked behind it.
      if not reserve_at_length.counted
        and (v_best_start > v_now and (v_best_limit = 'tpm' or v_expected * coalesce(v_best.rpm, 60) > v_best.tpm)
          or v_class = 'batch' and v_expected * coalesce(v_best.rpm, 60) > v_best.tpm) then
        v_count := true;
        exit each_model;
      end if;

      if v_best_start - v_now > reserve_at_length.max_wait_ms then
        -- Somebody may have started between our look at the clock and our look at the lane; that is no line to wait in.
        v_now := eve.clock_ms();
        if v_best_start - v_now <= reserve_at_length.max_wait_ms then
          continue each_round;
        end if;
        -- Too late on the best lane, so on all. What stands in the way, apart from the line of those who came before?
        if v_refusal_wait is null or v_best_start - v_now - reserve_at_length.max_wait_ms < v_refusal_wait then
          select * into v_row from eve.lanes l where l.id = v_best.lane_id;
          select * into v_fit
          from eve.earliest_start(
            v_row, v_best.rpm, v_best.tpm, v_best.rpd, v_class, v_tokens, v_now, v_guard_ms,
            v_model.interactive_floor, v_model.interactive_reserve, v_model.interactive_reserve_day, false
          );
          v_refusal_limit := coalesce(v_fit.limit_name, 'queue');
          v_refusal_wait := v_best_start - v_now - reserve_at_length.max_wait_ms;
          v_refusal_code := case v_refusal_limit
            when 'rpd' then 'daily_limit' when 'blocked' then 'lane_blocked' else 'rate_limited'
          end;
          v_refusal_model := v_model.model;
          v_refusal_limits := eve.limits_json(
            v_best.rpm, v_best.tpm, v_best.rpd, v_best.rpm, 0, v_fit.day_left, v_refusal_wait,
            eve.next_pacific_midnight(v_now) - v_now
          );
          if v_refusal_limit in ('rpm', 'tpm', 'queue') then
            select eve.limits_json(
              v_best.rpm, v_best.tpm, v_best.rpd, coalesce(sum(b.starts), 0)::bigint, coalesce(sum(b.tokens), 0)::bigint,
              v_fit.day_left, v_refusal_wait, eve.next_pacific_midnight(v_now) - v_now
            )
            into v_refusal_limits
            from eve.lane_buckets b
            where b.lane_id = v_best.lane_id and b.at_ms > v_now - 60000 - v_guard_ms and b.at_ms <= v_now;
          end if;
        end if;
        continue each_model;
      end if;

      if v_lanes = 1 then
        select * into v_booking
        from eve.book(
          v_best.lane_id, v_best.rpm, v_best.tpm, v_best.rpd, v_class, v_tokens, v_expected, v_guard_ms,
          v_model.interactive_floor, v_model.interactive_reserve, v_model.interactive_reserve_day, reserve_at_length.max_wait_ms,
          reserve_at_length.lease_ms
        );
        v_booked := v_booking.booked;
      else
        -- Another lane may be better by the time this one is ours. Then it must be let go, or two callers that hold a
        -- lane each and want the other's would wait for ever: a subtransaction is the way to let go of a row lock.
        begin
          select * into v_booking
          from eve.book(
            v_best.lane_id, v_best.rpm, v_best.tpm, v_best.rpd, v_class, v_tokens, v_expected, v_guard_ms,
            v_model.interactive_floor, v_model.interactive_reserve, v_model.interactive_reserve_day,
            case
              -- As long as no other lane would start it sooner.
              when v_rounds < 4 then least(
                reserve_at_length.max_wait_ms, greatest(v_best_start, coalesce(v_second_start, v_best_start)) - v_now
              )
              else reserve_at_length.max_wait_ms
            end,
            reserve_at_length.lease_ms
          );
          if not v_booking.booked then
            raise exception 'let go' using errcode = 'EV001';
          end if;
          v_booked := true;
        exception
          when sqlstate 'EV001' then
            v_booked := false;
        end;
      end if;
      exit each_model when v_booked;
      -- Somebody was quicker. He has got a slot, so this cannot go on for ever.
    end loop each_round;
  end loop each_model;

  if v_count then
    return jsonb_build_object(
      'status', 'count', 'request_id', reserve_at_length.request_id, 'attempt', reserve_at_length.attempt, 'model', v_model.model,
      'requested_model', v_requested,
      'key', jsonb_build_object(
        'id', v_best.key_ids[1], 'alias', v_best.aliases[1], 'env_var_name', v_best.env_var_names[1],
        'provider', v_providers[1]
      ),
      -- What to come with, and counted left out, where counting fails: the most that the estimate may turn out to be.
      'tokens_if_not_counted', ceil(reserve_at_length.tokens * v_model.estimate_ceiling)::bigint
    );
  end if;

  if not v_booked then
    if v_refusal_code = 'no_active_key' then
      select ceil(extract(epoch from min(k.blocked_until)) * 1000)::bigint - v_received_ms
      into v_refusal_wait
      from public.google_ai_api_keys k
      where k.is_active and k.blocked_until > v_received_at and k.blocked_until < 'infinity';
    end if;
    return eve.refuse(
      v_refusal_code, v_consumer_id, reserve_at_length.token_id, reserve_at_length.request_id, reserve_at_length.attempt, v_class,
      reserve_at_length.door, v_refusal_model, reserve_at_length.tokens, reserve_at_length.trace_id, v_refusal_limit, v_refusal_wait,
      v_refusal_detail, v_refusal_limits
    );
  end if;

  -- Keys of one project take turns.
  v_key_place := 1 + (v_booking.turn % cardinality(v_best.key_ids))::integer;
  v_key_id := v_best.key_ids[v_key_place];

  if v_scoped then
    update eve.scoped_tokens t
    set requests_used = t.requests_used + case when reserve_at_length.attempt = 1 then 1 else 0 end,
      tokens_used = t.tokens_used + v_tokens
    where t.id = reserve_at_length.token_id;
  end if;
  if v_minute_wait = 0 then
    perform eve.consumer_minute_take(v_consumer_id, v_received_ms);
  end if;
  if v_day is not null then
    update eve.consumer_days d
    set requests = d.requests + case when reserve_at_length.attempt = 1 then 1 else 0 end, tokens = d.tokens + v_tokens
    where d.consumer_id = v_consumer_id and d.day = v_day;
  end if;

  if reserve_at_length.attempt = 1 then
    insert into eve.inflight (
      request_no, consumer_id, request_id, token_id, class, door, requested_model, model, attempt, state, lane_id, key_id,
      start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, lease_until, received_at, wait_ms, trace_id, metadata, request_hash,
      call_id
    )
    values (
      nextval('eve.request_no'), v_consumer_id, reserve_at_length.request_id, reserve_at_length.token_id, v_class, reserve_at_length.door,
      v_requested, v_model.model, 1, 'reserved', v_best.lane_id, v_key_id, v_booking.start_ms, v_booking.bucket_ms,
      v_booking.day_ends_ms, v_tokens, reserve_at_length.tokens, to_timestamp((v_booking.start_ms + reserve_at_length.lease_ms) / 1000.0), v_received_at,
      v_booking.wait_ms, reserve_at_length.trace_id, coalesce(reserve_at_length.metadata, '{}'), reserve_at_length.request_hash,
      reserve_at_length.call_id
    )
    returning request_no into v_request_no;
  else
    v_request_no := v_running.request_no;
    update eve.inflight i
    set model = v_model.model, attempt = reserve_at_length.attempt, state = 'reserved', lane_id = v_best.lane_id,
      key_id = v_key_id, start_ms = v_booking.start_ms, bucket_ms = v_booking.bucket_ms,
      day_ends_ms = v_booking.day_ends_ms, tokens = v_tokens, estimated_tokens = reserve_at_length.tokens,
      lease_until = to_timestamp((v_booking.start_ms + reserve_at_length.lease_ms) / 1000.0), wait_ms = i.wait_ms + v_booking.wait_ms,
      call_id = reserve_at_length.call_id
    where i.request_no = v_request_no;
  end if;
  -- With everything in hand, since that may have been waited for.
  perform eve.stop_when_late(reserve_at_length.deadline);

  -- For those who come after.
  perform eve.draw_route(v_requested, v_received_ms);
  return jsonb_build_object(
    'status', 'granted', 'request_no', v_request_no, 'attempt', reserve_at_length.attempt, 'model', v_model.model,
    'requested_model', v_requested, 'replaced', v_requested <> v_model.model,
    'key', jsonb_build_object(
      'id', v_key_id, 'alias', v_best.aliases[v_key_place], 'env_var_name', v_best.env_var_names[v_key_place], 'provider', v_providers[1]
    ),
    'lane_id', v_best.lane_id, 'quota_project', v_best.quota_key, 'class', v_class,
    'wait_ms', v_booking.wait_ms,
    'start_at', to_timestamp((v_booking.start_ms) / 1000.0), 'lease_until', to_timestamp((v_booking.start_ms + reserve_at_length.lease_ms) / 1000.0),
    'tokens', v_tokens,
    'limits', eve.limits_json(
      v_best.rpm, v_best.tpm, v_best.rpd, v_booking.used_starts, v_booking.used_tokens, v_booking.day_left,
      60000 + v_guard_ms + v_booking.wait_ms, v_booking.day_ends_ms - v_received_ms
    ),
    'capabilities', jsonb_build_object(
      'system', v_model.supports_system, 'json', v_model.supports_json, 'tools', v_model.supports_tools,
      'thinking', v_model.supports_thinking, 'max_output_tokens', v_model.max_output_tokens
    ),
    'capture', v_capture
  );
end;
$$;

-- With one more argument it would be another function beside the old one.
drop function if exists public.eve_reserve(
  text, text[], integer, uuid, text, integer, integer, uuid[], uuid[], integer, uuid, text, text, jsonb, text
);
-- `counted` says what `tokens` are:
--   null   the caller's estimate, and the caller cannot count: booked times the factor learned for the model
--   false  the caller's estimate, and the caller can count: asked to where it matters (answer `count`, nothing is written or
--          taken), otherwise booked at the model's ceiling until it is settled
--   true   upstream's own count: booked as it is
-- `deadline` is when the caller stops waiting for the answer, by the database's clock: nothing is booked after it. `call_id` names
-- this call, so that eve_give_back finds what it booked, whether or not the answer was heard.
create or replace function public.eve_reserve(
  request_id text,
  models text[],
  tokens integer,
  consumer_id uuid default null,
  class text default 'interactive',
  max_wait_ms integer default 0,
  attempt integer default 1,
  exclude_keys uuid[] default '{}',
  avoid_keys uuid[] default '{}',
  lease_ms integer default 180000,
  token_id uuid default null,
  door text default 'native',
  trace_id text default null,
  metadata jsonb default '{}',
  request_hash text default null,
  counted boolean default null,
  deadline timestamptz default null,
  call_id uuid default null
)
returns json
language plpgsql
volatile
set search_path = ''
-- Who is held up by a lock ends before the caller stops waiting (8 s), rather than stand behind it for nothing. The REST API sets it
-- when it begins the statement; over a connection the ledger sets it for the session.
set statement_timeout = '7500ms'
-- Custom plans would be made anew on nearly every call; planning was a third of its time.
set plan_cache_mode = 'force_generic_plan'
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
as $$
declare
  v_consumer_id uuid := '00000000-0000-0000-0000-000000000000';
  v_class text := eve_reserve.class;
  v_batch integer;
  v_person integer;
  v_mine bigint;
  v_capture boolean := false;
  v_consumer record;
  v_route record;
  v_waited bigint;
  v_slot integer;
  v_now bigint;
  v_began timestamptz;
  v_lane record;
  v_request_no bigint;
  v_late boolean;
begin
  -- The short way. One expression, and all of it about what was given: anything odd, and anything null, goes the long way.
  -- Last in it, the lock that makes the same request twice at once come one after the other; the second does not wait here.
  if eve_reserve.attempt = 1 and eve_reserve.token_id is null and eve_reserve.tokens >= 0
    and cardinality(eve_reserve.models) between 1 and 10 and length(eve_reserve.request_id) between 1 and 200
    and eve_reserve.class in ('interactive', 'batch') and eve_reserve.max_wait_ms between 0 and 3600000
    and eve_reserve.lease_ms between 100 and 3600000 and eve_reserve.exclude_keys = '{}' and eve_reserve.avoid_keys = '{}'
    and (eve_reserve.metadata = '{}' or length(eve_reserve.metadata::text) <= 16384)
    and (clock_timestamp() > eve_reserve.deadline) is not true
    and pg_try_advisory_xact_lock(
      hashtextextended(
        coalesce(eve_reserve.consumer_id::text, '00000000-0000-0000-0000-000000000000') || eve_reserve.request_id, 0
      )
    ) then
    <<short_way>>
    begin
      if eve_reserve.consumer_id is not null then
        -- Whoever has a budget goes the long way.
        select c.id, c.max_class, c.capture into v_consumer
        from eve.consumers c
        where c.id = eve_reserve.consumer_id and c.is_active and c.rpm is null and c.requests_per_day is null
          and c.tokens_per_day is null and (c.models is null or eve_reserve.models[1] = any (c.models));
        exit short_way when not found;
        v_consumer_id := v_consumer.id;
        v_capture := v_consumer.capture;
        if v_consumer.max_class = 'batch' then
          v_class := 'batch';
        end if;
      end if;
      v_batch := (v_class = 'batch')::integer;
      v_person := 1 - v_batch;

      -- A subtransaction, since an update that had to wait keeps its row even where it then changes nothing, and the long way must
      -- not begin with one lane in hand.
      begin
        -- The least loaded lane with room that nobody else is booking at this moment; if somebody is at each of them, wait for
        -- any one, not all for the same, and look again. Whoever waits here holds no lane.
        for v_round in 1..2 loop
          select r.*, best.turns, best.expected, best.tokens
          into v_route
          from (
            select free.lane_id, free.turns, free.expected, free.tokens
            from (
              select o.lane_id, o.lanes, l.turns, asked.expected, asked.tokens,
                l.day_starts - min(l.day_starts) over () as ahead
              from eve.routes o
              join eve.lanes l on l.id = o.lane_id
              cross join lateral (
                select ceil(eve_reserve.tokens * case when eve_reserve.counted then 1 else o.estimate_factor end)::bigint as expected,
                  ceil(
                    ceil(eve_reserve.tokens * case when eve_reserve.counted then 1 else o.estimate_factor end)
                    * case when not eve_reserve.counted then o.estimate_ceiling else 1 end
                  )::bigint as tokens
              ) asked
              where o.model = eve_reserve.models[1] and o.class = v_class and l.blocked_until is null
                and l.span_starts + l.previous_span_starts < o.starts_room
                and l.span_tokens + l.previous_span_tokens + asked.tokens <= o.tokens_room
                -- Otherwise it has to be counted.
                and (v_batch = 0 or eve_reserve.counted is distinct from false or asked.expected <= o.even_share)
                and not exists (
                  select from eve.inflight i where i.consumer_id = v_consumer_id and i.request_id = eve_reserve.request_id
                )
                and not exists (
                  select from eve.requests q where q.consumer_id = v_consumer_id and q.request_id = eve_reserve.request_id
                )
              order by l.day_starts, l.turns, l.id
              offset 0
            ) free
            where free.lanes = 1
              -- Nearly even lanes are kept even; one far behind the others is not waited for.
              or (free.ahead <= 4 or free.ahead > 64) and pg_try_advisory_xact_lock(1163281713, free.lane_id::integer)
            limit 1
          ) best
          join eve.routes r on r.model = eve_reserve.models[1] and r.class = v_class and r.lane_id = best.lane_id;
          if found then
            if v_route.lanes = 1 then
              perform pg_advisory_xact_lock(1163281713, v_route.lane_id::integer);
            end if;
            exit;
          end if;
          if v_round = 2 then
            raise exception 'let go' using errcode = 'EV001';
          end if;
          select r.lane_id into v_waited
          from eve.routes r
          join eve.lanes l on l.id = r.lane_id
          where r.model = eve_reserve.models[1] and r.class = v_class and l.blocked_until is null
            -- Or there is nothing to wait for: a refusal holds up nobody.
            and l.span_starts + l.previous_span_starts < r.starts_room
            and l.span_tokens + l.previous_span_tokens + eve_reserve.tokens * r.estimate_factor <= r.tokens_room
            and not exists (
              select from eve.inflight i where i.consumer_id = v_consumer_id and i.request_id = eve_reserve.request_id
            )
          order by random()
          limit 1;
          exit short_way when not found;
          perform pg_advisory_xact_lock(1163281713, v_waited::integer);
        end loop;

        -- What counts towards the share of interactive callers.
        v_mine := v_route.expected * v_person;
        loop
          v_now := eve.clock_ms();
          v_began := clock_timestamp();
          v_slot := 1 + (v_now / 60000 % 10)::integer;
          -- Everything that has to be true for a start at this instant, and its booking, in one: the same day, span and minute as
          -- the booking before it, nobody booked for later, nobody to be cleared away, room.
          update eve.lanes l
          set interactive_tail_ms = greatest(l.interactive_tail_ms, v_now * v_person),
            batch_tail_ms = greatest(l.batch_tail_ms, v_now * v_batch),
            day_starts = l.day_starts + 1,
            day_batch_starts = l.day_batch_starts + v_batch,
            span_starts = l.span_starts + 1,
            span_tokens = l.span_tokens + v_route.tokens,
            minute_starts[v_slot] = l.minute_starts[v_slot] + v_person,
            minute_tokens[v_slot] = l.minute_tokens[v_slot] + v_mine,
            interactive_size = greatest(v_mine, (l.interactive_size * (10 - v_person) + v_mine) / 10),
            turns = l.turns + 1,
            next_lease_ms = least(l.next_lease_ms, v_now + eve_reserve.lease_ms)
          where l.id = v_route.lane_id
            -- What was seen when the lane was chosen still holds, nearly: or all who were held up since would load the same one.
            and (v_route.lanes = 1 or l.turns <= v_route.turns + 3)
            and l.interactive_tail_ms <= v_now and l.batch_tail_ms <= v_now and l.next_lease_ms > v_now
            and l.span_number = v_now >> 16 and l.minute_number = v_now / 60000
            and l.day_ends_ms > v_now + v_route.guard_ms and l.day_ends_ms <= v_now + 90000000
            and l.blocked_until is null and v_route.stale_ms > v_now
            and l.day_starts < v_route.day_room
            and l.span_starts + l.previous_span_starts < v_route.starts_room
            and l.span_tokens + l.previous_span_tokens + v_route.tokens
              <= v_route.tokens_room
          returning l.turns, l.day_ends_ms, l.day_starts, l.day_batch_starts, l.span_starts + l.previous_span_starts as used_starts,
            l.span_tokens + l.previous_span_tokens as used_tokens, clock_timestamp() - v_began > interval '100 milliseconds' as late
          into v_lane;
          if not found then
            raise exception 'let go' using errcode = 'EV001';
          end if;
          exit when not v_lane.late;
          -- Somebody held the lane's row meanwhile, and v_now has passed. Now the row is ours: once more.
          update eve.lanes l
          set day_starts = l.day_starts - 1, day_batch_starts = l.day_batch_starts - v_batch, span_starts = l.span_starts - 1,
            span_tokens = l.span_tokens - v_route.tokens, minute_starts[v_slot] = l.minute_starts[v_slot] - v_person,
            minute_tokens[v_slot] = l.minute_tokens[v_slot] - v_mine, turns = l.turns - 1
          where l.id = v_route.lane_id;
        end loop;
      exception
        when sqlstate 'EV001' then
          exit short_way;
      end;

      insert into eve.lane_buckets as b (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
      values (
        v_route.lane_id, (v_now + v_route.bucket_ms - 1) / v_route.bucket_ms * v_route.bucket_ms, 1, v_route.tokens, v_batch,
        v_batch * v_route.tokens
      )
      on conflict on constraint lane_buckets_pkey do update
      set starts = b.starts + 1, tokens = b.tokens + excluded.tokens, batch_starts = b.batch_starts + excluded.batch_starts,
        batch_tokens = b.batch_tokens + excluded.batch_tokens;

      v_slot := 1 + (v_lane.turns - 1) % cardinality(v_route.key_ids);
      insert into eve.inflight (
        request_no, consumer_id, request_id, token_id, class, door, requested_model, model, attempt, state, lane_id, key_id,
        start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, lease_until, received_at, wait_ms, trace_id, metadata,
        request_hash, call_id
      )
      values (
        nextval('eve.request_no'), v_consumer_id, eve_reserve.request_id, null,
        v_class, eve_reserve.door, eve_reserve.models[1], v_route.served, 1,
        'reserved', v_route.lane_id, v_route.key_ids[v_slot], v_now,
        (v_now + v_route.bucket_ms - 1) / v_route.bucket_ms * v_route.bucket_ms, v_lane.day_ends_ms, v_route.tokens,
        eve_reserve.tokens, to_timestamp((v_now + eve_reserve.lease_ms) / 1000::double precision),
        to_timestamp(v_now / 1000::double precision), 0, eve_reserve.trace_id, eve_reserve.metadata, eve_reserve.request_hash,
        eve_reserve.call_id
      )
      -- With everything in hand, since that may have been waited for.
      returning inflight.request_no, clock_timestamp() > eve_reserve.deadline into v_request_no, v_late;
      if v_late then
        perform eve.stop_when_late(eve_reserve.deadline);
      end if;

      if v_lane.turns % 16 = 0 then
        -- Instants that no window reaches any more.
        delete from eve.lane_buckets b where b.lane_id = v_route.lane_id and b.at_ms < v_now - 70000;
      end if;
      if v_route.rpm <= 600 then
        -- What is left of a small lane is said exactly.
        select sum(b.starts), sum(b.tokens)
        into v_lane.used_starts, v_lane.used_tokens
        from eve.lane_buckets b
        where b.lane_id = v_route.lane_id and b.at_ms > v_now - 60000 - v_route.guard_ms and b.at_ms <= v_now;
      end if;

      -- Written as text: to build a document of these few values takes three times as long.
      return (
        v_route.answers[v_slot] || ',"request_no":' || v_request_no || ',"capture":' || to_json(v_capture)
        || ',"start_at":' || to_json(to_timestamp(v_now / 1000::double precision))
        || ',"lease_until":' || to_json(to_timestamp((v_now + eve_reserve.lease_ms) / 1000::double precision))
        || ',"tokens":' || v_route.tokens
        || ',"limits":' || v_route.limits[1] || ',"remaining":' || coalesce((v_route.rpm - v_lane.used_starts)::text, 'null')
        || '},' || v_route.limits[2] || ',"remaining":' || coalesce((v_route.tpm - v_lane.used_tokens)::text, 'null')
        || '},' || v_route.limits[3] || ',"reset_ms":' || v_lane.day_ends_ms - v_now
        || ',"remaining":' || coalesce(
          least(
            v_route.rpd - v_lane.day_starts,
            case when v_batch = 1 and v_route.rpd is not null then v_route.day_room - v_lane.day_batch_starts end
          )::text, 'null'
        ) || '}}}'
      )::json;
    end short_way;
  end if;
  return eve.reserve_at_length(
    eve_reserve.request_id, eve_reserve.models, eve_reserve.tokens, eve_reserve.consumer_id, eve_reserve.class,
    eve_reserve.max_wait_ms, eve_reserve.attempt, eve_reserve.exclude_keys, eve_reserve.avoid_keys, eve_reserve.lease_ms,
    eve_reserve.token_id, eve_reserve.door, eve_reserve.trace_id, eve_reserve.metadata, eve_reserve.request_hash,
    eve_reserve.counted, eve_reserve.deadline, eve_reserve.call_id
  );
end;
$$;
comment on function public.eve_reserve(
  text, text[], integer, uuid, text, integer, integer, uuid[], uuid[], integer, uuid, text, text, jsonb, text, boolean,
  timestamptz, uuid
) is 'Reserves a slot for one upstream attempt: all limits and budgets together or nothing. Answers granted, refused, duplicate, or count: have the prompt counted upstream and come again.';

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where (p.pronamespace = 'eve'::regnamespace
        and p.proname in ('tell_routes', 'routes_lock', 'forget_routes', 'draw_route', 'clear_dead', 'book', 'stop_when_late', 'reserve_at_length'))
      or (p.pronamespace = 'public'::regnamespace and p.proname = 'eve_reserve')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_function.signature);
    execute format('grant execute on function %s to service_role', v_function.signature);
  end loop;
  -- Triggers need nobody's leave.
  revoke all on function eve.forget_routes(), eve.tell_routes() from service_role;
end;
$$;
