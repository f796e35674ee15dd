-- The first migration of a repository that the gateway came into later (npx eve-gateway init). Two names of its tables are in many
-- databases, and mean something else there: it says so before anything is made.
do $$
declare
  v_table text;
begin
  for v_table in
    select t.name
    from (values ('api_keys', 'stage_type'), ('provider_configs', 'stage_type')) as t (name, own)
    where to_regclass('public.' || t.name) is not null
      and not exists (
        select
        from pg_catalog.pg_attribute a
        where a.attrelid = to_regclass('public.' || t.name) and a.attname = t.own and not a.attisdropped
      )
  loop
    raise exception 'the table public.% is in the way: the gateway keeps something else under this name. Nothing was changed', v_table
    using hint = format('Rename yours first (alter table public.%1$I rename to my_%1$s), in a migration of your own.', v_table);
  end loop;
end;
$$;
