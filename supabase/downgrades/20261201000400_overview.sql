-- The way down of 20261201000400_overview.sql.

set local lock_timeout = '10s';

drop function public.eve_find(text);
drop function public.eve_overview();
drop function public.eve_price_set(text, numeric, numeric, numeric, boolean, jsonb);
drop function public.eve_prices();
