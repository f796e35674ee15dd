-- The way down of 20261201000400_overview.sql.
-- seed: eve.model_prices {"as_of":"2026-10-08","model":"gemini-3.5-flash","is_free":false,"input_usd":1.5,"cached_usd":0.15,"output_usd":9}
-- seed: eve.model_prices {"as_of":"2026-10-07","model":"gemini-3.5-flash-lite","is_free":false,"input_usd":0.3,"cached_usd":0.03,"output_usd":2.5}
-- seed: eve.model_prices {"as_of":"2026-03-01","model":"gemini-2.5-flash","is_free":false,"input_usd":0.3,"cached_usd":0.03,"output_usd":2.5}
-- seed: eve.model_prices {"as_of":"2025-07-14","model":"gemini-embedding-001","is_free":false,"input_usd":0.15,"cached_usd":null,"output_usd":null}
-- seed: eve.model_prices {"as_of":"2026-10-07","model":"gemma-4-31b-it","is_free":true,"input_usd":null,"cached_usd":null,"output_usd":null}
-- seed: eve.model_prices {"as_of":"2026-10-07","model":"gemma-4-26b-a4b-it","is_free":true,"input_usd":null,"cached_usd":null,"output_usd":null}
-- seed: eve.model_prices {"as_of":"2026-03-01","model":"gemma-3-27b","is_free":true,"input_usd":null,"cached_usd":null,"output_usd":null}
-- seed: eve.model_prices {"as_of":"2026-03-01","model":"gemma-3-27b-it","is_free":true,"input_usd":null,"cached_usd":null,"output_usd":null}

set local lock_timeout = '10s';

drop function public.eve_find(text);
drop function public.eve_overview();
drop function public.eve_price_set(text, numeric, numeric, numeric, boolean, jsonb);
drop function public.eve_prices();

create or replace function eve.known_prices()
returns table (model text, input_usd numeric, cached_usd numeric, output_usd numeric, is_free boolean)
language sql
stable
set search_path = ''
as $$
  select null::text, null::numeric, null::numeric, null::numeric, null::boolean where false;
$$;

drop table eve.model_prices;
