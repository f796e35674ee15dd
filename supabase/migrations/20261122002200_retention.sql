-- Retention: what is older than eve.retention keeps is deleted, in batches.

set local lock_timeout = '10s';

do $$
declare
  v_index record;
begin
  for v_index in
    select *
    from (values
      ('google_ai_usage_counters_minute_bucket_idx', 'google_ai_usage_counters', 'minute_bucket'),
      ('google_ai_maintenance_log_started_at_idx', 'google_ai_maintenance_log', 'started_at')
    ) as wanted (name, table_name, column_name)
    where not exists (
      select
      from pg_catalog.pg_index i
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where i.indrelid = ('public.' || wanted.table_name)::regclass and i.indpred is null and i.indisvalid
        and a.attname = wanted.column_name
    )
  loop
    execute format('create index %I on public.%I (%I)', v_index.name, v_index.table_name, v_index.column_name);
  end loop;
end;
$$;
-- The tables that existing deployments have filled by hand: what is older there than would be kept is the owner's, and stays
-- until they say otherwise.
do $$
declare
  v_rule record;
  v_has_older boolean;
begin
  for v_rule in
    select *
    from (values
      ('google_ai_usage_counters', 'minute_bucket', interval '180 days', 'What each key has spent, by the minute.'),
      ('token_usage', 'ts', interval '400 days', 'Tokens, a row an attempt.')
    ) as wanted (name, time_column, keep, description)
    where not exists (select from eve.retention r where r.table_name = 'public.' || wanted.name)
  loop
    execute format(
      'select exists (select from public.%I t where t.%I < now() - $1)', v_rule.name, v_rule.time_column
    )
    into v_has_older
    using v_rule.keep;
    insert into eve.retention (table_name, keep, at_least, description)
    values ('public.' || v_rule.name, case when not v_has_older then v_rule.keep end, '3 days', v_rule.description);
    if v_has_older then
      raise notice 'retention: public.% holds rows older than %, so all of it is kept; to have it cleared, set keep in eve.retention', v_rule.name, v_rule.keep;
    end if;
  end loop;
end;
$$;

-- Deletes from a table whose rows are numbered nearly in the order of their age: the next `at_most` rows by number, as far
-- as they are old. `old` is our own text, never a caller's.
--
-- Tried and dropped: to find old rows through the BRIN index on their time. What was deleted and not yet vacuumed is then
-- read again by every batch, so a run costs the square of what it deletes.
create or replace function eve.delete_numbered(
  relation regclass, key_column text, old text, before timestamptz, after bigint, at_most integer,
  out deleted bigint, out seen bigint, out last_key bigint
)
language plpgsql
volatile
set search_path = ''
-- A table's first statistics come after its first millions of rows.
set enable_seqscan = 'off'
set jit = 'off'
as $$
begin
  execute format(
    $sql$
      with window_of_rows as materialized (
        select t.ctid as place, t.%2$I as number, %3$s as is_old
        from %1$s t
        where t.%2$I > $2
        order by t.%2$I
        fetch first ($3) rows with ties
      ), gone as (
        delete from %1$s t
        where t.ctid = any (array(select w.place from window_of_rows w where w.is_old))
        returning 1
      )
      select (select count(*) from gone), count(*), max(w.number)
      from window_of_rows w
    $sql$,
    delete_numbered.relation, delete_numbered.key_column, delete_numbered.old
  )
  into deleted, seen, last_key
  using delete_numbered.before, delete_numbered.after, delete_numbered.at_most;
end;
$$;

-- Deletes the `at_most` oldest rows of a table by a column that an index is led by, or of a small table without one. Rows
-- that somebody holds are left to the next run. `also` is our own text, never a caller's.
create or replace function eve.delete_oldest(
  relation regclass, time_column text, before timestamptz, after timestamptz, at_most integer, also text default 'true',
  out deleted bigint, out seen bigint, out last_at timestamptz
)
language plpgsql
volatile
set search_path = ''
set jit = 'off'
as $$
begin
  execute format(
    $sql$
      with oldest as materialized (
        select t.ctid as place, t.%2$I as at
        from %1$s t
        where t.%2$I < $1 and t.%2$I >= $2 and (%3$s)
        order by t.%2$I
        limit $3
        for update skip locked
      ), gone as (
        delete from %1$s t
        where t.ctid = any (array(select o.place from oldest o))
        returning 1
      )
      select (select count(*) from gone), count(*), max(o.at)
      from oldest o
    $sql$,
    delete_oldest.relation, delete_oldest.time_column, delete_oldest.also
  )
  into deleted, seen, last_at
  using delete_oldest.before, delete_oldest.after, delete_oldest.at_most;
end;
$$;

-- A batch of a table whose rows are numbered nearly in the order of their age.
create or replace function eve.retention_by_number(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- After so many rows in a row that are young, the rest of a numbered table is young too. Numbers are handed to connections
  -- 32 at a time, so a few young rows stand among old ones.
  v_young_enough constant bigint := 10000;
  v_batch record;
  v_young bigint;
begin
  select * into v_batch
  from eve.delete_numbered(
    retention_by_number.relation,
    case retention_by_number.table_name
      when 'eve.refusals' then 'id'
      when 'eve.access_log' then 'id'
      when 'cron.job_run_details' then 'runid'
      else 'request_no'
    end,
    case retention_by_number.table_name
      when 'eve.requests' then 't.finished_at < $1'
      when 'eve.attempts' then
        't.settled_at < $1 and not exists (select from eve.inflight i where i.request_no = t.request_no)'
      when 'eve.refusals' then 't.refused_at < $1'
      when 'eve.request_results' then 't.kept_at < $1'
      when 'eve.captures' then 't.captured_at < $1'
      when 'eve.access_log' then 't.at < $1'
      -- A job's history is its owner's, so only our own jobs'.
      else $old$coalesce(t.end_time, t.start_time) < $1
        and t.jobid in (select j.jobid from cron.job j where j.jobname like 'eve\_%')$old$
    end,
    retention_by_number.before, coalesce((retention_by_number.after ->> 'number')::bigint, 0), retention_by_number.at_most
  );
  v_young := case v_batch.deleted
    when 0 then coalesce((retention_by_number.after ->> 'young')::bigint, 0) + v_batch.seen
    else 0
  end;
  if v_batch.seen >= retention_by_number.at_most and v_young < v_young_enough then
    next_after := jsonb_build_object('number', v_batch.last_key, 'young', v_young);
  end if;
  deleted := v_batch.deleted;
end;
$$;

-- A batch of a table that is looked through by a time.
create or replace function eve.retention_by_age(
  relation regclass, table_name text, before timestamptz, trimmed_before timestamptz, at_most integer, after jsonb,
  out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_batch record;
begin
  select * into v_batch
  from eve.delete_oldest(
    retention_by_age.relation,
    case retention_by_age.table_name
      when 'eve.rollup_set_aside' then 'set_aside_at'
      when 'eve.request_keys' then 'ended_at'
      when 'eve.scoped_tokens' then 'expires_at'
      when 'eve.consumer_days' then 'day'
      when 'eve.alerts' then 'closed_at'
      when 'eve.usage_hours' then 'hour'
      when 'eve.usage_days' then 'day'
      when 'public.google_ai_usage_counters' then 'minute_bucket'
      when 'public.token_usage' then 'ts'
      when 'public.google_ai_maintenance_log' then 'started_at'
      else 'minute'
    end,
    retention_by_age.before, coalesce((retention_by_age.after ->> 'at')::timestamptz, '-infinity'), retention_by_age.at_most,
    case retention_by_age.table_name
      when 'eve.scoped_tokens' then 'not exists (select from eve.inflight i where i.token_id = t.id)'
      -- Our own rows say who asked for the run; columns made by hand hold text or json.
      when 'public.google_ai_maintenance_log' then 't.status <> ''running'' and to_jsonb(t.details) ? ''source'''
      else 'true'
    end
  );
  if v_batch.seen >= retention_by_age.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
  if retention_by_age.table_name = 'public.token_usage' and next_after is null
    and retention_by_age.trimmed_before > retention_by_age.before then
    -- Younger ones that had to go for their size, but for those of other programs. Tables made by hand hold text or json.
    select * into v_batch
    from eve.delete_oldest(
      retention_by_age.relation, 'ts', retention_by_age.trimmed_before,
      coalesce(
        (retention_by_age.after ->> 'own')::timestamptz, (select t.token_usage_before from eve.audit_trimmed t)
      ),
      retention_by_age.at_most, 't.meta::text ~ ''"source": ?"eve"'''
    );
    deleted := deleted + v_batch.deleted;
    if v_batch.seen >= retention_by_age.at_most then
      next_after := jsonb_build_object('own', v_batch.last_at, 'at', retention_by_age.after ->> 'at');
    else
      update eve.audit_trimmed t
      set token_usage_before = retention_by_age.trimmed_before
      where t.token_usage_before < retention_by_age.trimmed_before;
    end if;
  end if;
end;
$$;

-- One batch of one table. `after` is where the batch before it ended: null at first, and null again in `next_after` when the
-- table is done. Tables that are not there, or that anyone who runs this may not change, are done at once.
create or replace function eve.retention_batch(
  rule eve.retention, now_at timestamptz, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_table constant text := (rule).table_name;
  v_rows constant integer := (rule).batch_rows;
  v_is_summed constant boolean := v_table in ('eve.requests', 'eve.attempts', 'eve.refusals', 'eve.refusal_counts');
  -- Of the audit's days most go with their partitions; the rows of the others are here.
  v_rows_of constant text := case v_table
    when 'eve.requests' then 'eve.requests_default'
    when 'eve.attempts' then 'eve.earlier_attempts_default'
    when 'eve.refusals' then 'eve.refusals_default'
    else v_table
  end;
  v_trimmed constant timestamptz := (select t.trimmed_before from eve.audit_trimmed t);
  v_before timestamptz := retention_batch.now_at - (rule).keep;
  v_relation regclass;
  v_batch record;
begin
  deleted := 0;
  -- Not to_regclass, which fails where one may not enter the schema.
  select c.oid into v_relation
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = split_part(v_rows_of, '.', 1) and c.relname = split_part(v_rows_of, '.', 2)
    and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'delete');
  if v_relation is null or v_before is null then
    return;
  end if;
  if v_is_summed then
    -- What has not been summed up yet stays.
    v_before := eve.freeze_sums(greatest(v_before, v_trimmed));
    if v_before is null then
      return;
    end if;
  elsif v_table = 'eve.usage_hours' then
    v_before := eve.freeze_sums(v_before, 'days');
    if v_before is null then
      return;
    end if;
  end if;

  if v_rows_of <> v_table then
    deleted := eve.drop_partition(v_table, v_before);
    if deleted is not null then
      next_after := coalesce(retention_batch.after, '{}');
      return;
    end if;
    deleted := 0;
  end if;

  case
    when v_table in (
      'eve.requests', 'eve.attempts', 'eve.refusals', 'eve.request_results', 'eve.captures', 'eve.access_log',
      'cron.job_run_details'
    ) then
      v_batch := eve.retention_by_number(v_relation, v_table, v_before, v_rows, retention_batch.after);
      deleted := v_batch.deleted;
      next_after := v_batch.next_after;
    when v_table in (
      'eve.refusal_counts', 'eve.refusal_minutes', 'eve.rollup_set_aside', 'eve.access_refusals', 'eve.bad_requests', 'eve.request_keys',
      'eve.scoped_tokens', 'eve.consumer_days', 'eve.alerts', 'eve.usage_hours', 'eve.usage_days',
      'public.google_ai_usage_counters', 'public.token_usage', 'public.google_ai_maintenance_log'
    ) then
      v_batch := eve.retention_by_age(v_relation, v_table, v_before, v_trimmed, v_rows, retention_batch.after);
      deleted := v_batch.deleted;
      next_after := v_batch.next_after;
    when (rule).batch_function is not null then
      execute format('select * from eve.%I($1, $2, $3, $4, $5)', (rule).batch_function)
      into v_batch
      using v_relation, v_table, v_before, v_rows, retention_batch.after;
      deleted := v_batch.deleted;
      next_after := v_batch.next_after;
    when v_table = 'eve.issue_windows' then
      delete from eve.issue_windows w
      where w.subject in (
        select o.subject
        from eve.issue_windows o
        where o.minute < floor(extract(epoch from v_before) / 60)
        limit v_rows
        for update skip locked
      );
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    when v_table = 'eve.consumer_minutes' then
      delete from eve.consumer_minutes m
      where m.consumer_id in (
        select o.consumer_id
        from eve.consumer_minutes o
        where o.second < floor(extract(epoch from v_before))
        limit v_rows
        for update skip locked
      );
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    when v_table = 'eve.lane_buckets' then
      -- Lane by lane, since the lane leads the index.
      execute $sql$
        with old as materialized (
          select b.place
          from eve.lanes l
          cross join lateral (
            select b.ctid as place
            from eve.lane_buckets b
            where b.lane_id = l.id and b.at_ms < $1
            order by b.at_ms
            limit $2
            for update skip locked
          ) b
          limit $2
        )
        delete from eve.lane_buckets b
        where b.ctid = any (array(select o.place from old o))
      $sql$
      using floor(extract(epoch from v_before) * 1000)::bigint, v_rows;
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    else
      null; -- A table that this version does not know.
  end case;
end;
$$;

-- Goes through the tables by name until a batch has deleted something. State: the table that it has come to, and where in
-- it. An owner's own rules may keep rows of their tables from being deleted; the other tables are cleared all the same, and
-- the run fails at its end with what was refused.
create or replace function eve.retention_step(state jsonb, now_at timestamptz)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_deleted jsonb := coalesce(retention_step.state -> 'deleted', '{}');
  v_refused jsonb := coalesce(retention_step.state -> 'refused', '{}');
  v_table text := retention_step.state ->> 'table';
  v_after jsonb := retention_step.state -> 'after';
  v_rule eve.retention;
  v_changed text;
  v_count bigint := 0;
  v_frozen timestamptz;
  -- Something had to go for its size; whether that was enough is seen when it has gone.
  v_trims boolean := coalesce((retention_step.state ->> 'trims')::boolean, false);
begin
  if v_table is null then
    perform eve.make_partitions(retention_step.now_at);
    v_trims := eve.trim_audit(retention_step.now_at);
    select min(r.table_name) into v_table from eve.retention r;
    select p.frozen_before into v_frozen from eve.rollup_progress p;
    perform eve.freeze_sums(greatest(max(retention_step.now_at - r.keep), (select t.trimmed_before from eve.audit_trimmed t)))
    from eve.retention r
    where r.table_name in ('eve.requests', 'eve.attempts', 'eve.refusals', 'eve.refusal_counts');
    if exists (select from eve.rollup_progress p where p.frozen_before is distinct from v_frozen) then
      -- A step of its own, so that rollup does not wait for what is deleted afterwards.
      return jsonb_build_object(
        'done', false, 'count', 0,
        'state', jsonb_build_object('table', v_table, 'deleted', v_deleted, 'refused', v_refused, 'trims', v_trims)
      );
    end if;
  end if;
  while v_table is not null and v_changed is null loop
    select * into v_rule from eve.retention r where r.table_name = v_table;
    begin
      select b.deleted, b.next_after
      into v_count, v_after
      from eve.retention_batch(v_rule, retention_step.now_at, v_after) b;
    exception
      when integrity_constraint_violation or data_exception or raise_exception or insufficient_privilege then
        if v_table not like 'public.%' then
          raise;
        end if;
        v_refused := v_refused || jsonb_build_object(v_table, sqlerrm);
        v_count := 0;
        v_after := null;
    end;
    if v_count > 0 then
      v_changed := v_table;
      v_deleted := v_deleted || jsonb_build_object(v_table, coalesce((v_deleted ->> v_table)::bigint, 0) + v_count);
    end if;
    if v_after is null then
      select min(r.table_name) into v_table from eve.retention r where r.table_name > v_table;
    end if;
  end loop;
  return jsonb_build_object(
    'done', v_table is null and not v_trims, 'count', v_count, 'tables', array_remove(array[v_changed], null),
    'details', jsonb_build_object('deleted', v_deleted),
    'error', case
      when v_table is null and not v_trims and v_refused <> '{}' then (
        select string_agg(format('%s keeps its rows: %s', r.key, r.value), '; ' order by r.key)
          || '. Fix that, or set keep to null in eve.retention.'
        from jsonb_each_text(v_refused) r
      )
    end,
    'state', jsonb_strip_nulls(jsonb_build_object('table', v_table, 'after', v_after))
      || jsonb_build_object('deleted', v_deleted, 'refused', v_refused, 'trims', v_trims and v_table is not null)
  );
end;
$$;
