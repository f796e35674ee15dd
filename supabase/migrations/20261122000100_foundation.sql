-- The private room `eve`, and who may enter it.
--
-- Everything that the gateway adds lives in schema `eve`, which the REST API does not expose. Callers reach it through
-- functions in `public` whose names begin with `eve_`, and only the service role may execute those.
-- Every migration can be run again on a database that already has it.

create schema if not exists eve;

comment on schema eve is 'EVE Gateway: lanes, reservations, consumers and the audit. Private: reached only through public.eve_* functions.';

revoke all on schema eve from public;
revoke all on schema eve from anon, authenticated;
grant usage on schema eve to service_role;
