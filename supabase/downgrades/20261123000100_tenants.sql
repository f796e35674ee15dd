-- The way down of 20261123000100_tenants.sql.

set local lock_timeout = '10s';

drop function eve.member_tenants();
drop function eve.refusal_of_consumer(eve.consumers, uuid, text);
drop function eve.refused(text, text, jsonb, bigint);
drop function eve.tenant_check(text, text, bigint);
drop function eve.tenant_json(eve.tenants);
drop function eve.tenant_of_actor(jsonb, text, text);
drop function public.eve_consumer_access(text, text[], text);
drop function public.eve_consumer_add_with_access(text, text, text, text, text[], text, integer, integer, bigint, integer, text[], text);
drop function public.eve_tenant_add(text, text, bigint, boolean);
drop function public.eve_tenant_change(text, jsonb);
drop function public.eve_tenant_member(text, uuid, boolean);
drop function public.eve_tenant_members(text, integer);
drop function public.eve_tenant_save(text, text, bigint, boolean);
drop function public.eve_tenants(text);

drop table eve.tenant_members;
