-- The way down of 20261130003000_stored_responses.sql.
-- rows: eve.settings where name in ('responses_stored')
-- seed: eve.settings {"name":"responses_stored","value":1}

set local lock_timeout = '10s';

delete from eve.settings where name in ('responses_stored');

drop function public.eve_response_context(uuid, uuid[], uuid, uuid);
drop function public.eve_response_store(jsonb, uuid, uuid);
