-- Responses of OpenAI's Responses API that are kept: those that are made in the background, each of them by a job of the same id. One that
-- is answered at once needs no job: its row comes with its answer (20261130003000_stored_responses.sql).
--
-- Order of locks: eve.jobs_lock(), rows of eve.jobs, rows of eve.responses. Anyone who ends a job holds its row when the response is noted.

set local lock_timeout = '10s';

-- What came of it is copied into its response at once: the job itself need not stay.
insert into eve.job_kinds (kind, description, keep) values
  ('response', 'A response that is made in the background.', '1 hour')
on conflict (kind) do nothing;

create table if not exists eve.responses (
  id uuid primary key,
  consumer_id uuid,
  owner_id uuid generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')) stored,
  token_id uuid,
  model text not null,
  models text[] not null,
  state text not null,
  background boolean not null,
  store boolean not null,
  metadata jsonb,
  input jsonb,
  previous_id uuid,
  answer jsonb,
  error_code text,
  error_detail text,
  created_at timestamptz not null,
  ended_at timestamptz,
  expires_at timestamptz,
  constraint responses_state_known check (state in ('queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled')),
  constraint responses_ended check ((ended_at is not null) = (state not in ('queued', 'in_progress'))),
  constraint responses_answer_given check ((answer is not null) = (state in ('completed', 'incomplete'))),
  constraint responses_error_given check ((error_code is not null) = (state = 'failed')),
  constraint responses_texts_size check (length(model) between 1 and 200 and length(error_code) <= 100 and length(error_detail) <= 2000),
  constraint responses_metadata_size check (length(metadata::text) <= 65536),
  constraint responses_input_size check (length(input::text) <= 2097152),
  constraint responses_answer_size check (length(answer::text) <= 524288)
) with (fillfactor = 70);
create index if not exists responses_owner_id_created_at_idx on eve.responses (owner_id, created_at);
create index if not exists responses_created_at_idx on eve.responses (created_at);
create index if not exists responses_expires_at_idx on eve.responses (expires_at) where expires_at is not null;
comment on table eve.responses is 'Responses that are kept: what was asked for in the background, and what came of it. Like eve.jobs it outlives what it names.';
comment on column eve.responses.id is 'Its job''s, too, where it is made in the background.';
comment on column eve.responses.model is 'As its caller named it.';
comment on column eve.responses.models is 'Those that may answer it, or stage:NAME: who may use none of them does not see it.';
comment on column eve.responses.store is 'False: its caller did not want it kept, and it leaves an hour after its end.';
comment on column eve.responses.input is 'The items that it was asked with, each with an id; null: they are too large to be kept, and nothing can go on from it.';
comment on column eve.responses.previous_id is 'The response that it goes on from: what was said there comes before its input. It may be gone.';
comment on column eve.responses.answer is 'The response object as the call was answered; null: it has not ended, or there is none.';
comment on column eve.responses.expires_at is 'It is gone then; null: as eve.retention says.';

-- What becomes of a job is what becomes of its response.
create or replace function eve.responses_follow()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_answer constant jsonb := case when new.state = 'succeeded' then new.result -> 'body' end;
  v_state constant text := case
    when new.state = 'running' then 'in_progress'
    when new.state = 'succeeded' and v_answer ->> 'status' = 'incomplete' then 'incomplete'
    when new.state = 'succeeded' and v_answer is not null then 'completed'
    when new.state in ('queued', 'cancelled') then new.state
    else 'failed'
  end;
begin
  update eve.responses r
  set state = v_state, answer = v_answer, ended_at = new.finished_at,
    error_code = case when v_state = 'failed' then left(coalesce(new.error_code, 'internal'), 100) end,
    error_detail = case when v_state = 'failed' then left(new.error_detail, 2000) end,
    expires_at = case when not r.store then new.finished_at + interval '1 hour' end
  where r.id = new.id;
  return null;
end;
$$;
create or replace trigger eve_responses_follow
after update on eve.jobs
for each row
when (new.kind = 'response' and old.state is distinct from new.state)
execute function eve.responses_follow();

-- Those that a caller sees: the project all of them, a consumer its own, and of those the ones whose models it and its token may use.
create or replace function eve.responses_for(id uuid, consumer_id uuid, token_id uuid)
returns setof eve.responses
language plpgsql
stable
set search_path = ''
as $$
begin
  perform eve.require_live_caller(responses_for.consumer_id, responses_for.token_id);
  return query
    select r.*
    from eve.responses r
    left join eve.consumers c on c.id = responses_for.consumer_id
    left join eve.scoped_tokens t on t.id = responses_for.token_id
    where r.id = responses_for.id
      and (responses_for.consumer_id is null or r.owner_id = responses_for.consumer_id)
      and (r.expires_at is null or r.expires_at > eve.clock())
      and (c.models is null or r.models && c.models)
      and (t.models is null or r.models && t.models);
end;
$$;

create or replace function eve.response_json(response eve.responses)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select to_jsonb(response) - '{consumer_id,owner_id,token_id,models,input,previous_id,ended_at,expires_at}'::text[];
$$;

create or replace function eve.response_missing(id uuid)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select eve.refused('not_found', format('There is no response resp_%s, or it is not yours.', replace(response_missing.id::text, '-', '')));
$$;

-- Hands a response in, to be made by a job. job: as public.eve_jobs_submit takes it, but for its kind; a request_id that the caller has
-- used is the same response. {"status": "created", "response", "wake"}, or a refusal.
create or replace function public.eve_response_create(
  job jsonb, model text, store boolean, metadata jsonb default null, input jsonb default null, previous_id uuid default null,
  consumer_id uuid default null, token_id uuid default null
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_submitted jsonb;
  v_id uuid;
  v_response eve.responses;
begin
  v_submitted := public.eve_jobs_submit(
    jsonb_build_array(eve_response_create.job || '{"kind": "response"}'), eve_response_create.consumer_id, eve_response_create.token_id
  );
  if v_submitted ->> 'status' = 'refused' then
    return v_submitted;
  end if;
  v_id := (v_submitted #>> '{jobs,0,id}')::uuid;
  if (v_submitted #>> '{jobs,0,is_new}')::boolean then
    insert into eve.responses (
      id, consumer_id, token_id, model, models, state, background, store, metadata, input, previous_id, created_at
    )
    select v_id, eve_response_create.consumer_id, eve_response_create.token_id, eve_response_create.model,
      coalesce(j.models, array[eve_response_create.model]), 'queued', true, eve_response_create.store, eve_response_create.metadata,
      eve_response_create.input, eve_response_create.previous_id, j.submitted_at
    from eve.jobs j
    where j.id = v_id;
  end if;
  select r.* into v_response
  from eve.responses_for(v_id, eve_response_create.consumer_id, eve_response_create.token_id) r;
  if not found then
    return eve.response_missing(v_id);
  end if;
  return jsonb_build_object('status', 'created', 'response', eve.response_json(v_response), 'wake', v_submitted -> 'wake');
end;
$$;
comment on function public.eve_response_create is 'Hands in a response that is made in the background.';

-- {"status": "found", "response"}, or a refusal.
create or replace function public.eve_response(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_response eve.responses;
begin
  select r.* into v_response from eve.responses_for(eve_response.id, eve_response.consumer_id, eve_response.token_id) r;
  if not found then
    return eve.response_missing(eve_response.id);
  end if;
  return jsonb_build_object('status', 'found', 'response', eve.response_json(v_response));
end;
$$;
comment on function public.eve_response is 'A response that is kept, for those whose it is.';

-- Ends one that has not ended: {"status": "found", "response"}, as it is then, or a refusal. Twice is the same as once.
create or replace function public.eve_response_cancel(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_found constant jsonb := public.eve_response(
    eve_response_cancel.id, eve_response_cancel.consumer_id, eve_response_cancel.token_id
  );
begin
  if v_found ->> 'status' <> 'found' or v_found #>> '{response,state}' not in ('queued', 'in_progress') then
    return v_found;
  end if;
  perform public.eve_jobs_cancel(
    array[eve_response_cancel.id], consumer_id => eve_response_cancel.consumer_id, token_id => eve_response_cancel.token_id
  );
  return public.eve_response(eve_response_cancel.id, eve_response_cancel.consumer_id, eve_response_cancel.token_id);
end;
$$;
comment on function public.eve_response_cancel is 'Cancels a response that has not ended.';

-- {"status": "deleted"}, or a refusal. What has not ended is cancelled, and its job goes with it: nothing of either stays.
create or replace function public.eve_response_delete(id uuid, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_found constant jsonb := public.eve_response_cancel(
    eve_response_delete.id, eve_response_delete.consumer_id, eve_response_delete.token_id
  );
begin
  if v_found ->> 'status' <> 'found' then
    return v_found;
  end if;
  delete from eve.jobs j where j.id = eve_response_delete.id and j.kind = 'response' and j.finished_at is not null;
  delete from eve.responses r where r.id = eve_response_delete.id;
  return jsonb_build_object('status', 'deleted');
end;
$$;
comment on function public.eve_response_delete is 'Deletes a response that is kept.';

-- Responses leave a while after they were asked for; those that their callers did not want kept by their own time.
create or replace function eve.retention_of_responses(
  relation regclass, table_name text, before timestamptz, at_most integer, after jsonb, out deleted bigint, out next_after jsonb
)
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  with old as (
    select r.id
    from eve.responses r
    where r.created_at <= retention_of_responses.before or r.expires_at <= eve.clock()
    limit retention_of_responses.at_most
    for update skip locked
  )
  delete from eve.responses r using old where r.id = old.id;
  get diagnostics deleted = row_count;
  next_after := case when deleted >= retention_of_responses.at_most then '{}'::jsonb end;
end;
$$;
insert into eve.retention (table_name, keep, at_least, batch_rows, batch_function, description) values
  -- Nothing is made for longer than a day.
  ('eve.responses', '30 days', '2 days', 500, 'retention_of_responses', 'Responses that are kept, counted from when they were asked for.')
on conflict (table_name) do nothing;

alter table eve.responses enable row level security;
revoke all on table eve.responses from public, anon, authenticated, service_role;
grant select, insert, update, delete on table eve.responses to service_role;
do $$
declare
  v_object record;
begin
  for v_object in
    select p.oid::regprocedure as signature, p.prorettype <> 'trigger'::regtype as is_granted
    from pg_catalog.pg_proc p
    where p.prokind = 'f'
      and (
        p.pronamespace = 'eve'::regnamespace and p.proname ~ '^(responses?_|retention_of_responses$)'
        or p.pronamespace = 'public'::regnamespace and p.proname ~ '^eve_response(_|$)'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_object.signature);
    if v_object.is_granted then
      execute format('grant execute on function %s to service_role', v_object.signature);
    end if;
  end loop;
end;
$$;
