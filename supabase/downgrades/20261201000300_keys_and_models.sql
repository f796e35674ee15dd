-- The way down of 20261201000300_keys_and_models.sql.

set local lock_timeout = '10s';

drop function eve.model_json(public.google_ai_model_limits);
drop function eve.pool_key_json(public.google_ai_api_keys);
drop function eve.require_free_alias(text, uuid);
drop function public.eve_key_add(text, text, text, integer, text, jsonb, text);
drop function public.eve_key_change(uuid, jsonb, jsonb, jsonb, text);
drop function public.eve_key_remove(uuid);
drop function public.eve_model_change(text, jsonb, jsonb, jsonb, text, text);
drop function public.eve_model_rows();
