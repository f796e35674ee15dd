-- The way down of 20261124003100_uploads.sql.
-- rows: eve.retention where table_name in ('eve.uploads')
-- seed: eve.retention {"keep":"1 day","at_least":"01:00:00","batch_rows":500,"table_name":"eve.uploads","batch_function":"retention_of_uploads"}

set local lock_timeout = '10s';

delete from eve.retention where table_name in ('eve.uploads');

drop function eve.retention_of_uploads(regclass, text, timestamp with time zone, integer, jsonb);
drop function eve.upload_json(eve.uploads);
drop function eve.upload_missing(uuid);
drop function eve.upload_over(eve.uploads);
drop function eve.uploads_for(uuid, uuid, uuid);
drop function public.eve_upload(uuid, uuid, uuid);
drop function public.eve_upload_cancel(uuid, uuid, uuid);
drop function public.eve_upload_complete(uuid, uuid[], uuid, uuid);
drop function public.eve_upload_create(uuid, text, text, bigint, uuid, uuid, text, text);
drop function public.eve_upload_part(uuid, uuid, text, bigint, uuid, uuid, bigint);

drop table eve.upload_parts, eve.uploads;
