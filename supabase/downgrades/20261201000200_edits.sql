-- The way down of 20261201000200_edits.sql.

set local lock_timeout = '10s';

drop function eve.require_seen(jsonb, jsonb);
drop function public.eve_cache_set_seen(text, jsonb, integer, boolean);
drop function public.eve_consumer_change(text, jsonb, jsonb, text[], text);
drop function public.eve_consumer_enable_seen(text, jsonb, boolean);
drop function public.eve_limits_clear_seen(text, text, jsonb);
drop function public.eve_provider_save_seen(jsonb, jsonb);
drop function public.eve_tenant_change_seen(text, jsonb, jsonb);
