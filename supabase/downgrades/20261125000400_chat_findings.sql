-- The way down of 20261125000400_chat_findings.sql.

set local lock_timeout = '10s';

drop function eve.chat_tenant(jsonb, text);
drop function public.eve_chat_export(jsonb, uuid, jsonb, integer);
drop function public.eve_chat_files_left(jsonb, integer);
drop function public.eve_chat_search(jsonb, text, uuid, text, integer);
drop function public.eve_message_image_add(jsonb, uuid, jsonb, text);
drop function public.eve_message_images(jsonb, uuid);
drop function public.eve_search_results(jsonb, uuid, uuid, jsonb, integer);
drop function public.eve_search_results_add(jsonb, uuid, jsonb);
