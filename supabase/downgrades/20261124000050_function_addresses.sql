-- The way down of 20261124000050_function_addresses.sql.

set local lock_timeout = '10s';

drop function eve.function_address(text, text);

CREATE OR REPLACE FUNCTION eve.request_operation(operation text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
      using rtrim(v_url, '/') || '/functions/v1/maintenance/' || v_operation.name, '{"source": "cron"}'::jsonb,
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
$function$;
