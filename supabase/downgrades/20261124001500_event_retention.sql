-- The way down of 20261124001500_event_retention.sql.
-- rows: eve.retention where table_name in ('eve.dead_letters', 'eve.event_deliveries', 'eve.events')
-- seed: eve.retention {"keep":"30 days","at_least":"1 day","batch_rows":2000,"table_name":"eve.dead_letters","batch_function":"retention_of_events"}
-- seed: eve.retention {"keep":"14 days","at_least":"3 days","batch_rows":2000,"table_name":"eve.event_deliveries","batch_function":"retention_of_events"}
-- seed: eve.retention {"keep":"14 days","at_least":"3 days","batch_rows":2000,"table_name":"eve.events","batch_function":"retention_of_events"}

set local lock_timeout = '10s';

delete from eve.retention where table_name in ('eve.dead_letters', 'eve.event_deliveries', 'eve.events');

drop function eve.retention_of_events(regclass, text, timestamp with time zone, integer, jsonb);

alter table eve.retention
  drop constraint retention_batch_function_form,
  drop column batch_function;

CREATE OR REPLACE FUNCTION eve.retention_batch(rule eve.retention, now_at timestamp with time zone, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;
