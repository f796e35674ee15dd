-- The days of the audit: partitions are made ahead of their time and dropped when they are old, or when the disk has no room for
-- more of them.

-- With its indexes, what is kept apart from it, and its partitions.
create or replace function eve.relation_bytes(relation regclass)
returns bigint
language sql
stable
set search_path = ''
as $$
  select coalesce(
    (select sum(pg_total_relation_size(t.relid)) from pg_partition_tree(relation_bytes.relation) t where t.isleaf),
    pg_total_relation_size(relation_bytes.relation)
  )::bigint;
$$;

-- The partitions that hold one day each, by the rule's name of their table.
create or replace function eve.audit_partitions()
returns table (table_name text, parent text, name text, day date)
language sql
stable
set search_path = ''
as $$
  select case p.relname when 'earlier_attempts' then 'eve.attempts' else 'eve.' || p.relname end, p.relname, c.relname,
    to_date(right(c.relname, 8), 'YYYYMMDD')
  from pg_catalog.pg_inherits i
  join pg_catalog.pg_class c on c.oid = i.inhrelid
  join pg_catalog.pg_class p on p.oid = i.inhparent
  where i.inhparent in ('eve.requests'::regclass, 'eve.earlier_attempts'::regclass, 'eve.refusals'::regclass)
    and c.relname ~ '_[0-9]{8}$';
$$;

-- Locks tables against everybody, at once or not at all; false: somebody has had one of them for a while. Anyone who waited for a table with
-- another one in hand would deadlock with a reader of both, and the reader might be the one to be ended.
create or replace function eve.lock_at_once(tables regclass[])
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_tables constant text := (select string_agg('only ' || t, ', ' order by place) from unnest(lock_at_once.tables) with ordinality as u (t, place));
begin
  for v_try in 1..5 loop
    begin
      execute format('lock table %s in access exclusive mode nowait', v_tables);
      return true;
    exception
      when lock_not_available then
        perform pg_sleep(0.05);
    end;
  end loop;
  return false;
end;
$$;

-- Makes the partitions of today and the next three days in UTC. A day of which the default partition holds rows already stays
-- there. With the rights of the migrations' owner, because only a table's owner may add a partition to it, and anyone who runs
-- maintenance over the REST API is not; it takes nothing but a time.
--
-- A table is made first and attached then, which holds up readers for an instant and nobody who writes (`create table ...
-- partition of` would hold up both). What cannot be had at once is left to the next run.
create or replace function eve.make_partitions(now_at timestamptz)
returns integer
language plpgsql
volatile
security definer
set search_path = ''
set lock_timeout = '250ms'
as $$
declare
  v_wanted record;
  v_is_taken boolean;
  v_is_locked boolean := false;
  v_made integer := 0;
begin
  for v_wanted in
    select p.parent, p.time_column, p.parent || '_' || to_char(d.day, 'YYYYMMDD') as name,
      d.day::timestamp at time zone 'UTC' as begins, (d.day + 1)::timestamp at time zone 'UTC' as ends
    from (values ('requests', 'finished_at'), ('earlier_attempts', 'settled_at'), ('refusals', 'refused_at')) as p (parent, time_column)
    cross join lateral (
      select (make_partitions.now_at at time zone 'UTC')::date + ahead as day from generate_series(0, 3) ahead
    ) d
    order by d.day, p.parent
  loop
    continue when to_regclass(format('eve.%I', v_wanted.name)) is not null;
    execute format(
      'select exists (select from eve.%I t where t.%I >= $1 and t.%I < $2)', v_wanted.parent || '_default',
      v_wanted.time_column, v_wanted.time_column
    )
    into v_is_taken
    using v_wanted.begins, v_wanted.ends;
    continue when v_is_taken;
    if not v_is_locked then
      -- What attaching takes, of all three.
      v_is_locked := eve.lock_at_once(
        array['eve.requests_default', 'eve.earlier_attempts_default', 'eve.refusals_default']::regclass[]
      );
      exit when not v_is_locked;
    end if;
    begin
      execute format('create table eve.%I (like eve.%I including all)', v_wanted.name, v_wanted.parent);
      execute format('alter table eve.%I enable row level security', v_wanted.name);
      execute format('revoke all on table eve.%I from public, anon, authenticated, service_role', v_wanted.name);
      execute format(
        'alter table eve.%I attach partition eve.%I for values from (%L) to (%L)', v_wanted.parent, v_wanted.name,
        v_wanted.begins, v_wanted.ends
      );
      -- The first range of an empty table counts as summarized, and each row would write its summary again: 144 bytes of log a call.
      perform brin_desummarize_range(i.indexrelid, 0)
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'brin'
      where i.indrelid = format('eve.%I', v_wanted.name)::regclass;
      v_made := v_made + 1;
    exception
      when lock_not_available or check_violation then
        null; -- Somebody reads for long, or has just written a row of that day.
    end;
  end loop;
  return v_made;
end;
$$;

-- Drops the oldest partition of a table of the audit that ends before a time, and answers how many rows it had; null: there is none,
-- or it cannot be had at once and is left to the next run. What still counts, and what is not in the sums yet, is never dropped.
-- With the rights of the migrations' owner, because only a table's owner may drop it.
create or replace function eve.drop_partition(table_name text, before timestamptz)
returns bigint
language plpgsql
volatile
security definer
set search_path = ''
set lock_timeout = '250ms'
as $$
declare
  v_before constant timestamptz := least(
    drop_partition.before, eve.clock() - (select r.at_least from eve.retention r where r.table_name = drop_partition.table_name),
    (select p.rolled_until - interval '1 hour' from eve.rollup_progress p)
  );
  v_name text;
  v_rows bigint;
begin
  -- `least` passes over what is null.
  if not exists (select from eve.rollup_progress p where p.rolled_until is not null) then
    return null;
  end if;
  select p.name into v_name
  from eve.audit_partitions() p
  where p.table_name = drop_partition.table_name and (p.day + 1)::timestamp at time zone 'UTC' <= v_before
  order by p.day
  limit 1;
  if v_name is null then
    return null;
  end if;
  if not eve.lock_at_once(
    (
      select array[format('eve.%I', p.parent), format('eve.%I', p.name)]::regclass[] from eve.audit_partitions() p where p.name = v_name
    )
  ) then
    return null;
  end if;
  execute format('select count(*) from eve.%I', v_name) into v_rows;
  execute format('drop table eve.%I', v_name);
  return v_rows;
exception
  when lock_not_available then
    return null;
end;
$$;

-- What the gateway keeps, in bytes, the empty database included: schema eve, its rows in the tables that others write to as well, those
-- of media, the history of pg_cron, and the catalog. The rows of public.token_usage are counted by the sums of what was written there, at 250 bytes each
-- (npm run bench:storage), since other programs' rows stand among them.
create or replace function eve.kept_bytes()
returns bigint
language sql
stable
set search_path = ''
as $$
  select (
    (
      select coalesce(sum(pg_total_relation_size(c.oid)), 0)
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'm')
        and (
          c.relnamespace in ('eve'::regnamespace, 'pg_catalog'::regnamespace)
          or c.oid in ('public.google_ai_usage_counters'::regclass, 'public.google_ai_maintenance_log'::regclass)
          -- By their names: neither need be there, nor may everyone look into that schema.
          or (n.nspname, c.relname) in (('public', 'media_objects'), ('cron', 'job_run_details'))
        )
    )
    + least(
      pg_total_relation_size('public.token_usage'::regclass),
      (
        select coalesce(sum(d.dispatched), 0) * 250
        from eve.usage_days d
        cross join eve.audit_trimmed t
        where t.trimmed_before = '-infinity' or d.day >= (t.trimmed_before at time zone 'America/Los_Angeles')::date
      )
    )
  )::bigint;
$$;
comment on function eve.kept_bytes is 'How much of the disk the gateway takes.';

-- When the gateway keeps more than the setting audit_max_mb, the oldest day that it still has of the audit or of public.token_usage is
-- to go: moves eve.audit_trimmed to its end, and answers whether it did. Retention does the rest. It begins a little before the limit,
-- since it runs once an hour.
create or replace function eve.trim_audit(now_at timestamptz)
returns boolean
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_most constant numeric := (select s.value from eve.settings s where s.name = 'audit_max_mb') * 1000000.0;
  v_before constant timestamptz := (select t.trimmed_before from eve.audit_trimmed t);
  v_oldest timestamptz;
  v_day_ends timestamptz;
begin
  if v_most is null or eve.kept_bytes() <= v_most * 0.95 then
    return false;
  end if;
  select least(
    (select min(r.finished_at) from eve.requests r where r.finished_at >= v_before),
    (select min(f.refused_at) from eve.refusals f where f.refused_at >= v_before),
    case
      when exists (select from eve.retention r where r.table_name = 'public.token_usage' and r.keep is not null)
        then (select min(u.ts) from public.token_usage u where u.ts >= v_before)
    end
  )
  into v_oldest;
  v_day_ends := date_trunc('day', v_oldest, 'UTC') + interval '1 day';
  if v_day_ends is null
    or v_day_ends > trim_audit.now_at - (select max(r.at_least) from eve.retention r where r.table_name in ('eve.requests', 'eve.attempts', 'eve.refusals'))
    or not exists (select from eve.rollup_progress p where p.rolled_until - interval '1 hour' >= v_day_ends) then
    return false;
  end if;
  update eve.audit_trimmed t set trimmed_before = v_day_ends;
  return true;
end;
$$;
