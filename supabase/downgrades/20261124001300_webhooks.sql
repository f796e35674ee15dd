-- The way down of 20261124001300_webhooks.sql.
-- rows: eve.settings where name in ('webhooks_max')
-- seed: eve.settings {"name":"webhooks_max","value":20}

set local lock_timeout = '10s';

delete from eve.settings where name in ('webhooks_max');

drop function eve.check_event_types(text[]);
drop function eve.webhook_json(eve.webhooks);
drop function eve.webhook_of(uuid);
drop function eve.webhook_retry_s();
drop function public.eve_webhook_add(uuid, text, text[], text, text, text, text, uuid);
drop function public.eve_webhook_change(uuid, boolean, text[]);
drop function public.eve_webhook_ciphertexts();
drop function public.eve_webhook_deliveries(uuid, text, bigint, integer, bigint);
drop function public.eve_webhook_redeliver(uuid, bigint, timestamp with time zone);
drop function public.eve_webhook_reencrypt(jsonb);
drop function public.eve_webhook_remove(uuid);
drop function public.eve_webhook_rotate(uuid, text, text, integer);
drop function public.eve_webhook_test(uuid);
drop function public.eve_webhooks(text);
