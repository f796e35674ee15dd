-- How long events are kept: their deliveries first, which know a repeat, then the events that no delivery is left of.

-- Anyone who brings tables of their own says how a batch of them is deleted, and retention_batch stays as it is.
alter table eve.retention add column if not exists batch_function text;
alter table eve.retention drop constraint if exists retention_batch_function_form;
alter table eve.retention add constraint retention_batch_function_form check (batch_function ~ '^retention_of_[a-z_]{1,40}$');
comment on column eve.retention.batch_function is 'The function of eve that deletes a batch: (relation, table_name, before, at_most, after) gives deleted and next_after. Null: retention_batch knows the table.';

insert into eve.retention (table_name, keep, at_least, batch_function, description) values
  ('eve.dead_letters', '30 days', '1 day', 'retention_of_events', 'Deliveries whose tries are used up, counted from the last one.'),
  ('eve.event_deliveries', '14 days', '3 days', 'retention_of_events', 'Deliveries that have ended, with the log of their tries; until then a repeat of the event is known.'),
  ('eve.events', '14 days', '3 days', 'retention_of_events', 'Events of which no delivery is left.')
on conflict (table_name) do nothing;

create or replace function eve.retention_of_events(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
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
    retention_of_events.relation,
    case retention_of_events.table_name
      when 'eve.dead_letters' then 'last_failed_at'
      when 'eve.event_deliveries' then 'ended_at'
      else 'time'
    end,
    retention_of_events.before, coalesce((retention_of_events.after ->> 'at')::timestamptz, '-infinity'), retention_of_events.at_most,
    case retention_of_events.table_name
      when 'eve.dead_letters' then 'true'
      when 'eve.event_deliveries' then
        't.state <> ''pending'' and not exists (select from eve.dead_letters l where l.delivery_id = t.id)'
      else 'not exists (select from eve.event_deliveries d where d.event_id = t.id)'
    end
  );
  if v_batch.seen >= retention_of_events.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
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
