-- What tables of the new parts were before the gateway took them over, so that there is a way back from it.
--
-- media_objects and the tables of chats are adopted where an application has them. Their way down (supabase/downgrades) must tell
-- a table that a migration made, which it drops, from one that was there, which is given back: ours goes, their rows stay.
-- Nothing but the first time that a migration runs can know which it is.

set local lock_timeout = '10s';

create table if not exists eve.adopted_tables (
  relation text primary key,
  parts jsonb,
  noted_at timestamptz not null default now()
);
comment on table eve.adopted_tables is 'Tables in public that the gateway made or adopted, as they were when a migration first met them.';
comment on column eve.adopted_tables.parts is 'What it had (see eve.table_parts); null: it was not there, and is the gateway''s own.';

alter table eve.adopted_tables enable row level security;
revoke all on table eve.adopted_tables from public, anon, authenticated, service_role;

-- What can be taken off a table again: {columns: {name: {default, not_null}}, constraints: {name: definition}, indexes, triggers,
-- policies: [name]}. Null if there is no such table.
create or replace function eve.table_parts(relation text)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'columns', (
      select coalesce(jsonb_object_agg(a.attname, jsonb_build_object('default', pg_get_expr(d.adbin, d.adrelid), 'not_null', a.attnotnull)), '{}')
      from pg_catalog.pg_attribute a
      left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
    ),
    'constraints', (
      select coalesce(jsonb_object_agg(c.conname, pg_get_constraintdef(c.oid)), '{}')
      from pg_catalog.pg_constraint c
      where c.conrelid = t.oid and c.contype in ('c', 'f', 'p', 'u', 'x')
    ),
    'indexes', (
      select coalesce(jsonb_agg(i.indexrelid::regclass::text), '[]')
      from pg_catalog.pg_index i
      where i.indrelid = t.oid and not exists (select from pg_catalog.pg_constraint c where c.conindid = i.indexrelid)
    ),
    'triggers', (
      select coalesce(jsonb_agg(g.tgname), '[]') from pg_catalog.pg_trigger g where g.tgrelid = t.oid and not g.tgisinternal
    ),
    'policies', (select coalesce(jsonb_agg(p.polname), '[]') from pg_catalog.pg_policy p where p.polrelid = t.oid)
  )
  from pg_catalog.pg_class t
  where t.oid = to_regclass(table_parts.relation);
$$;
comment on function eve.table_parts is 'What a table consists of, by name.';

-- A migration calls it before it touches the table. Only the first time counts: later the table has what is ours.
create or replace function eve.note_table(relation text)
returns void
language sql
volatile
set search_path = ''
as $$
  insert into eve.adopted_tables (relation, parts) values (note_table.relation, eve.table_parts(note_table.relation))
  on conflict on constraint adopted_tables_pkey do nothing;
$$;
comment on function eve.note_table is 'Keeps what a table is before it is adopted.';

-- The way down calls it. A table that a migration made is dropped; of one that was adopted everything goes that it did not have,
-- defaults and what may be null are as they were, and keys that were replaced come back if the rows still keep them. Types of
-- columns that were converted stay, and so does row-level security: it let others at the rows without.
create or replace function eve.return_table(relation text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_before jsonb;
  v_now jsonb;
  v_name text;
  v_old jsonb;
begin
  select a.parts into strict v_before from eve.adopted_tables a where a.relation = return_table.relation;
  delete from eve.adopted_tables a where a.relation = return_table.relation;
  if v_before is null then
    execute format('drop table if exists %s', return_table.relation);
    return;
  end if;
  v_now := eve.table_parts(return_table.relation);
  for v_name in select jsonb_array_elements_text(v_now -> 'policies') except select jsonb_array_elements_text(v_before -> 'policies') loop
    execute format('drop policy %I on %s', v_name, return_table.relation);
  end loop;
  for v_name in select jsonb_array_elements_text(v_now -> 'triggers') except select jsonb_array_elements_text(v_before -> 'triggers') loop
    execute format('drop trigger %I on %s', v_name, return_table.relation);
  end loop;
  for v_name in
    select c.key from jsonb_each_text(v_now -> 'constraints') c where not v_before -> 'constraints' @> jsonb_build_object(c.key, c.value)
  loop
    execute format('alter table %s drop constraint %I', return_table.relation, v_name);
  end loop;
  for v_name in select jsonb_array_elements_text(v_now -> 'indexes') except select jsonb_array_elements_text(v_before -> 'indexes') loop
    execute format('drop index %s', v_name);
  end loop;
  for v_name, v_old in select c.key, v_before -> 'columns' -> c.key from jsonb_each(v_now -> 'columns') c loop
    if v_old is null then
      execute format('alter table %s drop column %I', return_table.relation, v_name);
      continue;
    end if;
    if v_old -> 'default' is distinct from v_now -> 'columns' -> v_name -> 'default' then
      execute format(
        'alter table %s alter column %I %s', return_table.relation, v_name, coalesce('set default ' || (v_old ->> 'default'), 'drop default')
      );
    end if;
    if (v_now -> 'columns' -> v_name -> 'not_null')::boolean and not (v_old -> 'not_null')::boolean
      and not exists (
        select
        from pg_catalog.pg_index i
        join pg_catalog.pg_attribute k on k.attrelid = i.indrelid and k.attnum = any (i.indkey::int2[])
        where i.indrelid = to_regclass(return_table.relation) and i.indisprimary and k.attname = v_name
      )
    then
      execute format('alter table %s alter column %I drop not null', return_table.relation, v_name);
    end if;
  end loop;
  v_now := eve.table_parts(return_table.relation);
  for v_name, v_old in
    select c.key, to_jsonb(c.value) from jsonb_each_text(v_before -> 'constraints') c where not v_now -> 'constraints' ? c.key
  loop
    begin
      execute format('alter table %s add constraint %I %s', return_table.relation, v_name, v_old #>> '{}');
    exception
      -- The rows have come to break it, or what it refers to is gone: the rows stay, whatever becomes of the rule.
      when others then
        raise warning '% of % is not there again: %', v_name, return_table.relation, sqlerrm;
    end;
  end loop;
end;
$$;
comment on function eve.return_table is 'Drops a table that the gateway made; takes what is the gateway''s off one that it adopted.';

revoke all on function eve.table_parts(text) from public, anon, authenticated, service_role;
revoke all on function eve.note_table(text) from public, anon, authenticated, service_role;
revoke all on function eve.return_table(text) from public, anon, authenticated, service_role;
