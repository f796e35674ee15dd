-- Batches: handed in, found, listed, cancelled; and how their lines become jobs.

set local lock_timeout = '10s';

-- api: openai, gemini or anthropic; endpoint: as that API names it; is_inline: the file is the batch's own. {"status": "created", "batch", "wake"}, or
-- a refusal.
create or replace function public.eve_batch_create(
  id uuid, input_file_id uuid, endpoint text, metadata jsonb default null, consumer_id uuid default null, token_id uuid default null,
  api text default 'openai', is_inline boolean default false
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  -- As OpenAI, Anthropic and Google have it.
  v_window constant interval := case eve_batch_create.api when 'gemini' then interval '48 hours' else interval '24 hours' end;
  v_now constant timestamptz := eve.clock();
  v_job constant uuid := gen_random_uuid();
  v_batch eve.batches;
  v_submitted jsonb;
begin
  perform
  from eve.batch_files_for(eve_batch_create.consumer_id, eve_batch_create.token_id) f
  where f.id = eve_batch_create.input_file_id and (f.purpose = 'batch' or f.purpose = 'user_data' and eve_batch_create.api = 'gemini');
  if not found then
    return eve.batch_missing('file for batches', eve_batch_create.input_file_id);
  end if;
  v_submitted := public.eve_jobs_submit(
    jsonb_build_array(
      jsonb_build_object(
        'id', v_job, 'kind', 'batch', 'body', jsonb_build_object('batch_id', eve_batch_create.id), 'expires_at', v_now + v_window
      )
    ),
    eve_batch_create.consumer_id, eve_batch_create.token_id
  );
  if v_submitted ->> 'status' = 'refused' then
    return v_submitted;
  end if;
  insert into eve.batches (
    id, consumer_id, token_id, api, endpoint, is_inline, input_file_id, job_id, metadata, created_at, expires_at
  )
  values (
    eve_batch_create.id, eve_batch_create.consumer_id, eve_batch_create.token_id, eve_batch_create.api, eve_batch_create.endpoint,
    eve_batch_create.is_inline, eve_batch_create.input_file_id, v_job, eve_batch_create.metadata, v_now, v_now + v_window
  )
  returning * into v_batch;
  return jsonb_build_object('status', 'created', 'batch', eve.batch_json(v_batch), 'wake', v_submitted -> 'wake');
end;
$$;
comment on function public.eve_batch_create is 'Hands a batch in: a job checks its file.';

-- {"status": "found", "batch"}, or a refusal.
create or replace function public.eve_batch(
  id uuid, consumer_id uuid default null, token_id uuid default null, api text default 'openai'
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_batch eve.batches;
begin
  select b.* into v_batch from eve.batches_for(eve_batch.consumer_id, eve_batch.token_id, eve_batch.api) b where b.id = eve_batch.id;
  if not found then
    return eve.batch_missing('batch', eve_batch.id);
  end if;
  return jsonb_build_object('status', 'found', 'batch', eve.batch_json(v_batch));
end;
$$;
comment on function public.eve_batch is 'A batch, for those whose it is.';

-- The newest first: {"batches": [..], "has_more"}. after: the last one of the page before; at_most: 1 to 100.
create or replace function public.eve_batches(
  consumer_id uuid default null, token_id uuid default null, after uuid default null, at_most integer default 20,
  api text default 'openai'
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_at_most constant integer := least(greatest(coalesce(eve_batches.at_most, 20), 1), 100);
  v_after constant bigint := (select b.no from eve.batches b where b.id = eve_batches.after);
  v_batches jsonb;
begin
  select coalesce(jsonb_agg(eve.batch_json(row(b.*)::eve.batches) order by b.no desc), '[]')
  into v_batches
  from (
    select b.*
    from eve.batches_for(eve_batches.consumer_id, eve_batches.token_id, eve_batches.api) b
    where v_after is null or b.no < v_after
    order by b.no desc
    limit v_at_most + 1
  ) b;
  return jsonb_build_object(
    'batches', case when jsonb_array_length(v_batches) > v_at_most then v_batches - v_at_most else v_batches end,
    'has_more', jsonb_array_length(v_batches) > v_at_most
  );
end;
$$;
comment on function public.eve_batches is 'A caller''s batches, the newest first, page by page.';

-- Cancels in steps, so that nobody who claims waits long: first the batch alone, then some of its lines each time. {"status":
-- "cancelling", "batch", "more": whether to call again}, or a refusal. One that nobody goes on with ends when its lines do.
create or replace function public.eve_batch_cancel(
  id uuid, consumer_id uuid default null, token_id uuid default null, at_most integer default 2000, api text default 'openai'
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_batch eve.batches;
  v_before text;
begin
  select b.* into v_batch
  from eve.batches_for(eve_batch_cancel.consumer_id, eve_batch_cancel.token_id, eve_batch_cancel.api) b
  where b.id = eve_batch_cancel.id;
  if not found then
    return eve.batch_missing('batch', eve_batch_cancel.id);
  end if;
  if v_batch.state <> 'cancelling' then
    select * into v_batch from eve.batches b where b.id = eve_batch_cancel.id for no key update;
    if v_batch.ended_at is not null then
      return eve.refused('batch_ended', details => jsonb_build_object('status', v_batch.state));
    end if;
    update eve.batches b
    set state = 'cancelling', cancelling_at = coalesce(b.cancelling_at, eve.clock()), total = b.added
    where b.id = v_batch.id;
    perform eve.batch_finish(array[v_batch.id]);
  else
    perform eve.jobs_lock();
    perform public.eve_jobs_cancel(
      array(
        select v_batch.job_id
        union all
        (
          select j.id
          from eve.jobs j
          where j.batch_id = v_batch.id and j.state in ('queued', 'running')
          order by j.place
          limit eve_batch_cancel.at_most
        )
      )
    );
  end if;
  select * into v_batch from eve.batches b where b.id = eve_batch_cancel.id;
  return jsonb_build_object(
    'status', 'cancelling', 'batch', eve.batch_json(v_batch), 'more', v_batch.state = 'cancelling'
  );
end;
$$;
comment on function public.eve_batch_cancel is 'Cancels a batch, some of its lines at a time.';

-- From now on nobody sees the batch, nor what came of it. One that has not ended must be cancelled before, or its lines are run.
-- {"status": "deleted"}, or a refusal.
create or replace function public.eve_batch_delete(
  id uuid, consumer_id uuid default null, token_id uuid default null, api text default 'openai'
)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  update eve.batches b
  set deleted_at = eve.clock()
  where b.id = eve_batch_delete.id
    and exists (
      select
      from eve.batches_for(eve_batch_delete.consumer_id, eve_batch_delete.token_id, eve_batch_delete.api) s
      where s.id = eve_batch_delete.id
    );
  if not found then
    return eve.batch_missing('batch', eve_batch_delete.id);
  end if;
  return jsonb_build_object('status', 'deleted');
end;
$$;
comment on function public.eve_batch_delete is 'Deletes a batch, as far as anybody sees it.';

-- What the job that checks a file needs: {"status": "found", "state", "total", "added", "api", "endpoint", "tenant_id", "sha256", "parts",
-- "models": those that the caller may use, null: all}, or a refusal: the file is gone.
create or replace function public.eve_batch_input(id uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_found record;
begin
  select b.state, b.total, b.added, b.api, b.endpoint, b.input_file_id, f.tenant_id, f.sha256, f.parts,
    case
      when t.models is null then c.models
      when c.models is null then t.models
      else array(select m from unnest(t.models) m where m = any (c.models))
    end as models
  into v_found
  from eve.batches b
  left join eve.batch_files f on f.id = b.input_file_id
  left join eve.consumers c on c.id = b.consumer_id
  left join eve.scoped_tokens t on t.id = b.token_id
  where b.id = eve_batch_input.id;
  if v_found.state is null then
    return eve.batch_missing('batch', eve_batch_input.id);
  elsif v_found.tenant_id is null then
    return eve.batch_missing('file', v_found.input_file_id);
  end if;
  return jsonb_build_object('status', 'found') || to_jsonb(v_found) - 'input_file_id';
end;
$$;
comment on function public.eve_batch_input is 'What is to be read and checked for a batch.';

-- Its file cannot be used: the batch has failed with these errors, [{"code", "message", "param", "line"}]. {"status": "noted"}.
create or replace function public.eve_batch_reject(id uuid, errors jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  perform from eve.batches b where b.id = eve_batch_reject.id for no key update;
  update eve.batches b set errors = eve_batch_reject.errors where b.id = eve_batch_reject.id and b.state = 'validating';
  perform eve.batch_finish(array[eve_batch_reject.id]);
  return jsonb_build_object('status', 'noted');
end;
$$;
comment on function public.eve_batch_reject is 'Ends a batch whose file cannot be used.';

-- Hands lines in as jobs: all of them or none; a line that is in already is no other one. lines: 1 to 1000 of {"place", "custom_id",
-- "models", "body": {"path", "body", "metadata"?: repeated with the response}}, in the file's order; total and models: of the whole file, looked
-- at the first time. {"status": "added"}; "ended": the batch takes none any more; or a refusal.
create or replace function public.eve_batch_add(id uuid, total integer, models text[], lines jsonb)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_owner constant uuid := (select b.owner_id from eve.batches b where b.id = eve_batch_add.id);
  v_batch eve.batches;
  v_submitted jsonb;
  v_new integer;
begin
  -- Before the batch's row, in the order in which everybody takes them.
  perform pg_advisory_xact_lock(hashtextextended('eve.jobs of ' || v_owner::text, 0));
  perform eve.jobs_lock();
  select * into v_batch from eve.batches b where b.id = eve_batch_add.id for no key update;
  if not found or v_batch.state not in ('validating', 'in_progress') or v_batch.errors is not null or v_batch.expires_at <= v_now then
    return jsonb_build_object('status', 'ended');
  end if;
  v_submitted := public.eve_jobs_submit(
    (
      select jsonb_agg(
        l.line || jsonb_build_object(
          'id', coalesce((l.line ->> 'id')::uuid, gen_random_uuid()), 'kind', 'llm', 'request_id', format('batch-%s-%s', v_batch.id, l.line ->> 'place'),
          'batch_id', v_batch.id, 'expires_at', v_batch.expires_at
        )
        order by l.nr
      )
      from jsonb_array_elements(eve_batch_add.lines) with ordinality as l (line, nr)
    ),
    v_batch.consumer_id,
    -- As with a job that waits (eve.job_to_run): what the token may do was looked at when the batch was handed in.
    (
      select t.id
      from eve.scoped_tokens t
      where t.id = v_batch.token_id
        and (t.expires_at > v_now or t.revoked_at is not null or t.requests_budget is not null or t.tokens_budget is not null)
    )
  );
  if v_submitted ->> 'status' = 'refused' then
    return v_submitted;
  end if;
  select count(*) into v_new from jsonb_array_elements(v_submitted -> 'jobs') j where (j ->> 'is_new')::boolean;
  update eve.batches b
  set state = 'in_progress', in_progress_at = coalesce(b.in_progress_at, v_now),
    total = case when b.state = 'validating' then eve_batch_add.total else b.total end,
    models = case when b.state = 'validating' then eve_batch_add.models else b.models end, added = b.added + v_new, open = b.open + v_new
  where b.id = v_batch.id;
  return jsonb_build_object('status', 'added', 'wake', v_submitted -> 'wake');
end;
$$;
comment on function public.eve_batch_add is 'Hands lines of a batch in as jobs.';
