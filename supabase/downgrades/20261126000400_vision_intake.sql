-- The way down of 20261126000400_vision_intake.sql.

set local lock_timeout = '10s';

drop function eve.enrichment_json(public.post_enrichment);
drop function eve.post_json(public.posts);
drop function eve.post_replace(uuid, jsonb, jsonb);
drop function eve.vision_payer(jsonb);
drop function eve.vision_post_for(jsonb, uuid);
drop function eve.vision_queue(public.post_enrichment, jsonb, text);
drop function eve.vision_traceparent(text);
drop function public.eve_post_add(jsonb, jsonb, text, text);
drop function public.eve_vision_post(jsonb, uuid);
drop function public.eve_vision_requeue(jsonb, uuid, text, text, text, text, text);
