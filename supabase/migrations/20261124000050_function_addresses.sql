-- Where functions are that have other names: in a project with a function of its own called maintenance, the gateway's have a prefix.
-- The function maintenance then stores the address up to it (https://<ref>.supabase.co/functions/v1/eve-) as eve_project_url.

set local lock_timeout = '10s';

-- The address of a function, and of what is below it: `maintenance/alerts`.
create or replace function eve.function_address(project_url text, path text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when function_address.project_url like '%/functions/v1/%' then function_address.project_url || function_address.path
    else rtrim(function_address.project_url, '/') || '/functions/v1/' || function_address.path
  end;
$$;
revoke all on function eve.function_address(text, text) from public, anon, authenticated, service_role;

-- Asks the function maintenance to run an operation. The answer comes later, and the function itself writes the log; what
-- keeps it from being asked at all is written here, once an hour.
create or replace function eve.request_operation(operation text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  -- The function answers when the run is over, and a run may take its time.
  v_answer_ms constant integer := 20000;
  v_now constant timestamptz := eve.clock();
  v_operation eve.operations;
  v_url text;
  v_key text;
  v_request_id bigint;
  v_problem text;
begin
  select * into v_operation from eve.operations o where o.name = request_operation.operation;
  if not found then
    raise exception 'there is no operation named %', request_operation.operation using errcode = 'EV400';
  end if;
  begin
    -- As text: neither extension need be there.
    execute $sql$
      select max(s.decrypted_secret) filter (where s.name = 'eve_project_url'),
        max(s.decrypted_secret) filter (where s.name = 'eve_secret_key')
      from vault.decrypted_secrets s
      where s.name in ('eve_project_url', 'eve_secret_key')
    $sql$
    into v_url, v_key;
    if v_url is null or v_key is null then
      v_problem := 'Vault holds no eve_project_url or no eve_secret_key: see docs/maintenance.md';
    else
      execute 'select net.http_post(url => $1, body => $2, headers => $3, timeout_milliseconds => $4)'
      into v_request_id
      using eve.function_address(v_url, 'maintenance/' || v_operation.name), '{"source": "cron"}'::jsonb,
        jsonb_build_object('content-type', 'application/json', 'apikey', v_key), v_operation.time_limit_ms + v_answer_ms;
    end if;
  exception
    when undefined_table or undefined_function or invalid_schema_name or insufficient_privilege then
      v_problem := format('pg_net or Vault cannot be used: %s', sqlerrm);
  end;
  if v_problem is null then
    return jsonb_build_object('status', 'asked', 'request_id', v_request_id);
  end if;
  if v_operation.last_error is distinct from v_problem or v_operation.last_completed_at <= v_now - interval '1 hour' then
    perform eve.log_run(
      v_operation.name, 'failed', v_now, completed_at => v_now,
      details => jsonb_build_object('source', 'cron', 'error', v_problem)
    );
    update eve.operations o
    set last_status = 'failed', last_error = v_problem, last_started_at = v_now, last_completed_at = v_now
    where o.name = v_operation.name;
  end if;
  return jsonb_build_object('status', 'failed', 'error', v_problem);
end;
$$;
