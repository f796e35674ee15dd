-- The way down of 20261201000250_stored_keys.sql.
--
-- Keys that were stored stay and serve: the table and what reads it are not of this migration.

set local lock_timeout = '10s';

drop function eve.store_key(uuid, jsonb, text);
drop function public.eve_stored_keys();
