-- Takes the gateway itself out of a database, after the ways down of the new parts (supabase/downgrades) have run. `eve-gateway remove
-- --drop-data` runs it in one transaction, when the rows that go have been written to files.
--
-- Tables in public that were there before the gateway stay, with their rows and the columns that they were given: what was made
-- after the schema eve, with the columns in our order, is the gateway's own.

set local lock_timeout = '10s';

do $$
declare
  v_one record;
begin
  if to_regnamespace('cron') is not null then
    for v_one in execute 'select j.jobname from cron.job j where j.jobname ^@ ''eve_'' and j.username = current_user' loop
      execute 'select cron.unschedule($1)' using v_one.jobname;
    end loop;
  end if;
  if to_regnamespace('vault') is not null then
    execute 'delete from vault.secrets where name in (''eve_project_url'', ''eve_secret_key'')';
  end if;
  for v_one in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname ^@ 'eve_'
  loop
    execute format('drop function %s cascade', v_one.signature);
  end loop;
  for v_one in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    join (values
      ('google_ai_usage_counters', '{id,api_key_id,model,minute_bucket,day_bucket,rpm_used,tpm_used,rpd_used,updated_at}'::text[]),
      ('google_ai_maintenance_log', '{id,operation,tables_affected,deleted_count,started_at,completed_at,status,details,created_at}'),
      ('google_ai_model_limits', '{id,model,rpm,tpm,rpd,created_at,updated_at}'),
      ('google_ai_api_keys', '{id,key_alias,provider,env_var_name,is_active,priority,created_at,notes}'),
      ('token_usage', '{id,ts,model,prompt_tokens,completion_tokens,total_tokens,request_id,meta}'),
      ('provider_configs', '{stage_type,provider_kind,api_key_encrypted}'),
      ('api_keys', '{id,stage_type,provider_kind,fingerprint}')
    ) as own (name, columns) on own.name = c.relname
    where c.relnamespace = 'public'::regnamespace and c.oid > to_regnamespace('eve')::oid
      and own.columns = (
        select array_agg(a.attname::text order by a.attnum)
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum between 1 and cardinality(own.columns)
      )
  loop
    execute format('drop table %s cascade', v_one.relation);
  end loop;
  drop schema eve cascade;
end;
$$;
