-- The way down of 20261123000100_tenants.sql.
-- seed: eve.tenants {"id":"default","name":null,"is_default":true,"storage_limit_bytes":null}

set local lock_timeout = '10s';

drop index eve.consumers_tenant_id_idx;

drop function eve.default_tenant();
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

alter table eve.consumers
  drop constraint consumers_scopes_known,
  drop constraint consumers_tenant_id_fkey,
  drop column tenant_id;

drop table eve.tenant_members, eve.tenants;

CREATE OR REPLACE FUNCTION eve.consumer_json(consumer eve.consumers)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'id', (consumer_json.consumer).id, 'name', (consumer_json.consumer).name, 'kind', (consumer_json.consumer).kind,
    'key_id', (consumer_json.consumer).key_id, 'models', (consumer_json.consumer).models,
    'scopes', (consumer_json.consumer).scopes,
    'max_class', (consumer_json.consumer).max_class, 'rpm', (consumer_json.consumer).rpm,
    'requests_per_day', (consumer_json.consumer).requests_per_day,
    'tokens_per_day', (consumer_json.consumer).tokens_per_day,
    'token_ttl_s', (consumer_json.consumer).token_ttl_s, 'is_active', (consumer_json.consumer).is_active,
    'created_at', (consumer_json.consumer).created_at, 'secret_changed_at', (consumer_json.consumer).secret_changed_at,
    'previous_secret_until',
    case
      when (consumer_json.consumer).previous_secret_until > eve.clock() then (consumer_json.consumer).previous_secret_until
    end,
    'requests_today', coalesce(d.requests, 0), 'tokens_today', coalesce(d.tokens, 0),
    'live_tokens', (
      select count(*)
      from eve.scoped_tokens t
      where t.consumer_id = (consumer_json.consumer).id and t.revoked_at is null and t.expires_at > eve.clock()
    )
  )
  from (select) as one
  left join eve.consumer_days d
    on d.consumer_id = (consumer_json.consumer).id and d.day = eve.pacific_day(eve.clock_ms());
$function$;
