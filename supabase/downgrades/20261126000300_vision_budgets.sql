-- The way down of 20261126000300_vision_budgets.sql.

set local lock_timeout = '10s';

drop function eve.vision_budget_alerts(text);
drop function eve.vision_budget_in_way(eve.vision_reservations);
drop function eve.vision_budget_rows(text);
drop function eve.vision_count(eve.vision_reservations, bigint, bigint, bigint, bigint);
drop function eve.vision_counters(text, text, boolean, date);
drop function eve.vision_lost_tokens(text);
drop function public.eve_vision_budgets(jsonb, text);
drop function public.eve_vision_budgets_save(jsonb, jsonb, text);
drop function public.eve_vision_reserve(text, text, text, bigint, boolean, jsonb);
drop function public.eve_vision_settle(text, bigint);
