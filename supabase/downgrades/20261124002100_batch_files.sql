-- The way down of 20261124002100_batch_files.sql.
-- rows: eve.retention where table_name in ('eve.batches')
-- seed: eve.retention {"keep":"30 days","at_least":"8 days","batch_rows":500,"table_name":"eve.batches","batch_function":"retention_of_batches"}

set local lock_timeout = '10s';

delete from eve.retention where table_name in ('eve.batches');

drop function eve.batch_file_json(eve.batch_files);
drop function eve.batch_files_for(uuid, uuid);
drop function eve.batch_missing(text, uuid);
drop function eve.retention_of_batches(regclass, text, timestamp with time zone, integer, jsonb);
drop function public.eve_batch_file(uuid, uuid, uuid);
drop function public.eve_batch_file_delete(uuid, uuid, uuid);
drop function public.eve_batch_file_piece(uuid, integer, uuid, uuid);
drop function public.eve_batch_file_save(uuid, text, bigint, text, text, uuid, uuid, text, text, boolean);
drop function public.eve_batch_file_tenant(uuid, uuid);
drop function public.eve_batch_files(uuid, uuid, text, uuid, integer, boolean);
