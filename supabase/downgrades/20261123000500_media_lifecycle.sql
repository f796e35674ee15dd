-- The way down of 20261123000500_media_lifecycle.sql.
-- rows: eve.alert_kinds where kind in ('storage_emergency_cleanup', 'storage_full', 'media_missing')
-- seed: eve.alert_kinds {"kind":"storage_emergency_cleanup"}
-- seed: eve.alert_kinds {"kind":"storage_full"}
-- seed: eve.alert_kinds {"kind":"media_missing"}

set local lock_timeout = '10s';

delete from eve.alert_kinds where kind in ('storage_emergency_cleanup', 'storage_full', 'media_missing');

drop function eve.media_to_delete(public.media_objects);
drop function eve.media_uncount(public.media_objects[], public.media_objects[]);
drop function public.eve_media_alert(text, text);
drop function public.eve_media_claim(text, bigint, integer, bigint, integer);
drop function public.eve_media_claimable(text, bigint, bigint);
drop function public.eve_media_delete(jsonb, text, text, text, text, integer);
drop function public.eve_media_deleted(jsonb);
drop function public.eve_media_failed(text, text, text, integer);
drop function public.eve_media_keep_days();
