-- The way down of 20261124002200_batch_running.sql.

set local lock_timeout = '10s';

drop function public.eve_batch(uuid, uuid, uuid, text);
drop function public.eve_batch_add(uuid, integer, text[], jsonb);
drop function public.eve_batch_cancel(uuid, uuid, uuid, integer, text);
drop function public.eve_batch_create(uuid, uuid, text, jsonb, uuid, uuid, text, boolean);
drop function public.eve_batch_delete(uuid, uuid, uuid, text);
drop function public.eve_batch_input(uuid);
drop function public.eve_batch_reject(uuid, jsonb);
drop function public.eve_batches(uuid, uuid, uuid, integer, text);
