-- The roles of a hosted Supabase project. Run by the superuser supabase_admin, on local clusters only.
--
-- As on the hosted platform, `postgres` (who runs the migrations) is not a superuser: what needs one fails here first.

do $$
declare
  v_role record;
begin
  for v_role in
    select *
    from (
      values
        ('anon', 'nologin noinherit'),
        ('authenticated', 'nologin noinherit'),
        ('service_role', 'nologin noinherit bypassrls'),
        ('authenticator', 'login noinherit password ''postgres'''),
        ('postgres', 'login createrole createdb replication bypassrls password ''postgres'''),
        ('supabase_auth_admin', 'login noinherit createrole password ''postgres'''),
        ('supabase_storage_admin', 'login noinherit createrole password ''postgres'''),
        ('dashboard_user', 'nologin createrole createdb replication')
    ) as wanted (name, attributes)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role.name) then
      execute format('create role %I %s', v_role.name, v_role.attributes);
    end if;
  end loop;
end
$$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, authenticator to postgres with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
-- So that rows can be put back with their triggers at rest, as a project lets it.
grant set on parameter session_replication_role to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;

do $$
begin
  execute format('alter database %I owner to postgres', current_database());
end
$$;
