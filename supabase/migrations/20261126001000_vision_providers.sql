-- What looking at pictures needs of others' tables: a kind of jobs for machines that have an OCR program, and rows for a model of a
-- provider whose key is in the environment.

set local lock_timeout = '10s';

-- A page takes seconds of a core, so a run may take a minute, and one that fails has failed for good. Where nobody has a machine for it
-- the job waits: a week.
insert into eve.job_kinds (kind, description, expires_after, max_tries, run_within, max_body_bytes, keep, outside_only) values
  ('ocr', 'A picture whose text is read by a program of the worker''s machine.', '7 days', 5, '60 seconds', 4096, '7 days', true)
on conflict (kind) do nothing;

-- A model of a provider whose key the environment holds: the rows that admission needs, made at its first use. What somebody has set is
-- left as it is: limits, a model or a key that is switched off. {"model": its name in the gateway}.
create or replace function public.eve_model_from_environment(provider_kind text, model text, env_var_name text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_kind eve.provider_kinds;
  v_model text;
begin
  select * into v_kind from eve.provider_kinds k where k.kind = eve_model_from_environment.provider_kind and k.produces = 'text';
  if v_kind.kind is null then
    raise exception 'no provider of texts is called %', left(eve_model_from_environment.provider_kind, 50) using errcode = 'EV400';
  end if;
  if eve_model_from_environment.model is null or eve_model_from_environment.model !~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$'
    or eve_model_from_environment.env_var_name is null or eve_model_from_environment.env_var_name !~ '^[A-Z][A-Z0-9_]{0,99}$' then
    raise exception 'a model''s name has letters, digits and . _ : / -, a variable''s capitals, digits and _, each at most 100' using errcode = 'EV400';
  end if;
  v_model := eve.stage_model(v_kind.kind, eve_model_from_environment.model);
  insert into public.google_ai_model_limits (model, provider, supports_system, supports_json, supports_tools)
  select v_model, v_kind.provider, v_kind.supports_system, v_kind.supports_json, v_kind.supports_tools
  where not exists (select from public.google_ai_model_limits m where m.model = v_model)
  on conflict do nothing;
  -- Two that come at once would both find none.
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('eve_model_from_environment', 0));
  insert into public.google_ai_api_keys (key_alias, provider, env_var_name, is_active, priority, notes)
  select lower(replace(eve_model_from_environment.env_var_name, '_', '-')), v_kind.provider, eve_model_from_environment.env_var_name, true, 100,
    'Found in the environment, for pictures.'
  where not exists (select from public.google_ai_api_keys u where u.env_var_name = eve_model_from_environment.env_var_name);
  return jsonb_build_object('model', v_model);
end;
$$;
comment on function public.eve_model_from_environment is 'Makes the rows of a model whose key the environment holds; what is there is left as it is.';
revoke all on function public.eve_model_from_environment from public, anon, authenticated, service_role;
grant execute on function public.eve_model_from_environment to service_role;

-- How often calls of a model start, over all its lanes: how many of a caller's wait for their starts is decided by it, where the model is not
-- known before a job is under way (of others eve.job_to_run says it). {"start_every_ms": null where nothing is known, or nothing limits it}.
create or replace function public.eve_start_interval(model text)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('start_every_ms', (select min(r.interval_ms) from eve.routes r where r.model = eve_start_interval.model));
$$;
comment on function public.eve_start_interval is 'Milliseconds between two starts of a model, over all its lanes.';
revoke all on function public.eve_start_interval from public, anon, authenticated, service_role;
grant execute on function public.eve_start_interval to service_role;
