-- The way down of 20261124001100_event_delivery.sql.

set local lock_timeout = '10s';

drop trigger eve_webhook_deleted on eve.webhooks;

drop function eve.bury_delivery(eve.event_deliveries, text);
drop function eve.emit_event(text, text, text, jsonb, uuid, text, uuid, text, text);
drop function eve.event_consumer_label(text);
drop function eve.event_json(eve.events);
drop function eve.event_type_matches(text, text[]);
drop function eve.lock_dead_letters(text);
drop function eve.log_event_attempt(eve.event_deliveries, text, text, integer, integer);
drop function eve.next_delivery_ms(text[]);
drop function eve.release_lost_deliveries(integer);
drop function eve.switch_consumer_off(text, text);
drop function public.eve_event_done(bigint, uuid, text, text, integer, integer, double precision, bigint, boolean);
drop function public.eve_events_claim(text[], integer, integer);

drop function eve.webhook_deleted();
