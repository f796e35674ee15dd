-- Who may do what with chats. The service role through functions; a signed-in user's own client directly, as far as row-level security
-- lets it: their own chats and what is in them, and nothing of anybody else's. An anonymous caller nothing.

set local lock_timeout = '10s';

-- Whether Realtime tells other devices of chats: {"publication": whether there is one, "missing": tables that are not in it}.
create or replace function public.eve_chat_realtime()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'publication', exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime'),
    'missing', (
      select coalesce(jsonb_agg(t.name order by t.name), '[]')
      from unnest(array['chats', 'messages', 'message_images', 'search_results']) as t (name)
      where not exists (
        select from pg_catalog.pg_publication_tables p
        where p.pubname = 'supabase_realtime' and p.schemaname = 'public' and p.tablename = t.name
      )
    )
  );
$$;
comment on function public.eve_chat_realtime is 'Whether Realtime tells other devices of chats.';

do $$
declare
  v_object record;
begin
  for v_object in
    select c.oid::regclass as relation
    from pg_catalog.pg_class c
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
      and c.relname in ('chats', 'messages', 'message_images', 'search_results', 'chat_shares')
  loop
    execute format('alter table %s enable row level security', v_object.relation);
    execute format('revoke all on table %s from public, anon, authenticated, service_role', v_object.relation);
    execute format('grant select, insert, update, delete on table %s to service_role', v_object.relation);
  end loop;
  for v_object in
    select p.oid::regprocedure as signature, p.prorettype <> 'trigger'::regtype as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(chat|count_(chat|answer)|messages?_(json|from|bytes|is_bounded)|place_message|release_image|search_result|retention_of_chats)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_(chat|message|search_result|admin_chat)'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;

grant select, delete on table public.chats to authenticated;
grant insert (id, title, user_id, description, metadata, expires_at) on table public.chats to authenticated;
grant update (title, user_id, description, metadata, archived_at, deleted_at, expires_at) on table public.chats to authenticated;
grant select (
  id, chat_id, parent_id, role, content, message_type, parts, client_id, request_id, usage, feedback, state, created_at, search
) on table public.messages to authenticated;
grant insert (id, chat_id, parent_id, role, content, message_type, parts, client_id) on table public.messages to authenticated;
grant update (feedback) on table public.messages to authenticated;
grant select on table public.message_images to authenticated;
-- Pictures at addresses of their own: only the functions know whose a file is.
grant insert (id, message_id, image_name, s3_path, s3_url, image_type, description, width, height, file_size) on table public.message_images to authenticated;
grant select, delete on table public.search_results to authenticated;
grant insert (id, chat_id, message_id, block_id, page_number, block_text, coords_norm, coords_px) on table public.search_results to authenticated;
grant select (id, chat_id, created_at, expires_at), delete on table public.chat_shares to authenticated;

-- Who writes a row runs its constraint.
grant execute on function eve.chat_is_bounded(text, text, text, jsonb) to authenticated, service_role;
grant execute on function eve.message_is_bounded(text, text, text, jsonb, text, text, jsonb, text, text) to authenticated, service_role;
-- And its policy, which locks the chat first.
grant execute on function eve.chat_is_own_locked(uuid) to authenticated, service_role;

drop policy if exists chats_own on public.chats;
create policy chats_own on public.chats
  for all to authenticated using (owner = (select auth.uid())) with check (owner = (select auth.uid()) and consumer_id is null);

drop policy if exists messages_read on public.messages;
create policy messages_read on public.messages
  for select to authenticated
  using (exists (select from public.chats c where c.id = messages.chat_id and c.owner = (select auth.uid())));
drop policy if exists messages_add on public.messages;
create policy messages_add on public.messages
  for insert to authenticated
  with check (
    exists (select from public.chats c where c.id = messages.chat_id and c.owner = (select auth.uid()) and c.deleted_at is null)
  );
drop policy if exists messages_feedback on public.messages;
create policy messages_feedback on public.messages
  for update to authenticated
  using (exists (select from public.chats c where c.id = messages.chat_id and c.owner = (select auth.uid())))
  with check (exists (select from public.chats c where c.id = messages.chat_id and c.owner = (select auth.uid())));

drop policy if exists message_images_read on public.message_images;
create policy message_images_read on public.message_images
  for select to authenticated
  using (
    exists (
      select
      from public.messages m
      join public.chats c on c.id = m.chat_id
      where m.id = message_images.message_id and c.owner = (select auth.uid())
    )
  );

drop policy if exists message_images_add on public.message_images;
create policy message_images_add on public.message_images
  for insert to authenticated
  with check (
    eve.chat_is_own_locked(
      (
        select m.chat_id
        from public.messages m
        join public.chats c on c.id = m.chat_id
        where m.id = message_images.message_id and c.deleted_at is null
      )
    )
  );

drop policy if exists search_results_read on public.search_results;
create policy search_results_read on public.search_results
  for select to authenticated
  using (exists (select from public.chats c where c.id = search_results.chat_id and c.owner = (select auth.uid())));
drop policy if exists search_results_delete on public.search_results;
create policy search_results_delete on public.search_results
  for delete to authenticated using (eve.chat_is_own_locked(chat_id));
drop policy if exists search_results_add on public.search_results;
create policy search_results_add on public.search_results
  for insert to authenticated
  with check (
    exists (select from public.chats c where c.id = search_results.chat_id and c.owner = (select auth.uid()) and c.deleted_at is null)
    and (
      message_id is null
      or exists (select from public.messages m where m.id = search_results.message_id and m.chat_id = search_results.chat_id)
    )
  );

drop policy if exists chat_shares_read on public.chat_shares;
create policy chat_shares_read on public.chat_shares
  for select to authenticated
  using (exists (select from public.chats c where c.id = chat_shares.chat_id and c.owner = (select auth.uid())));
drop policy if exists chat_shares_delete on public.chat_shares;
create policy chat_shares_delete on public.chat_shares
  for delete to authenticated using (eve.chat_is_own_locked(chat_id));

-- Other devices see a new message at once where the project has Realtime.
do $$
declare
  v_table text;
begin
  if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    foreach v_table in array '{chats,messages,message_images,search_results}'::text[] loop
      if not exists (
        select from pg_catalog.pg_publication_tables p
        where p.pubname = 'supabase_realtime' and p.schemaname = 'public' and p.tablename = v_table
      ) then
        execute format('alter publication supabase_realtime add table public.%I', v_table);
      end if;
    end loop;
  end if;
exception
  when insufficient_privilege then
    raise notice 'chats: % may not change the publication supabase_realtime (%)', current_user, sqlerrm;
end;
$$;
