-- Batches: a file of calls that is handed in at once, as OpenAI's and Google's clients do it. Each line becomes a job (eve.jobs.batch_id,
-- place and custom_id); what came of the lines is a file for OpenAI's answers and one for all others, or Google's one file, which are read
-- out of the jobs and stored nowhere else.
--
-- Order of locks: the caller's, eve.jobs_lock(), rows of eve.jobs, rows of eve.batches. Anyone who ends jobs holds their rows when the
-- batch is counted.

set local lock_timeout = '10s';

insert into eve.job_kinds (kind, description, max_tries, run_within, keep) values
  ('batch', 'Reads the file of a batch, checks it, and hands its lines in.', 5, '30 seconds', '7 days')
on conflict (kind) do nothing;

create table if not exists eve.batch_files (
  id uuid primary key,
  no bigint generated always as identity,
  consumer_id uuid,
  owner_id uuid generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')) stored,
  purpose text not null,
  filename text not null,
  mime_type text not null default 'application/x-ndjson',
  is_listed boolean not null default true,
  bytes bigint not null,
  tenant_id text,
  sha256 text,
  parts text[],
  batch_id uuid,
  holds text,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  constraint batch_files_purpose_known check (purpose in ('batch', 'user_data', 'batch_output')),
  constraint batch_files_filename_length check (length(filename) between 1 and 255),
  constraint batch_files_mime_type_length check (length(mime_type) between 1 and 255),
  constraint batch_files_bytes_counted check (bytes >= 0),
  constraint batch_files_sha256_form check (sha256 ~ '^[0-9a-f]{64}$'),
  constraint batch_files_holds_known check (holds in ('answers', 'errors', 'all')),
  constraint batch_files_parts_number check (cardinality(parts) between 1 and 1000),
  constraint batch_files_stored_or_read check (
    (purpose <> 'batch_output') = (num_nonnulls(sha256, parts) = 1 and tenant_id is not null) and (sha256 is null or parts is null)
    and (purpose = 'batch_output') = (batch_id is not null and holds is not null)
  )
);
create unique index if not exists batch_files_no_key on eve.batch_files (no);
create index if not exists batch_files_owner_id_no_idx on eve.batch_files (owner_id, no);
create index if not exists batch_files_expires_at_idx on eve.batch_files (expires_at);
create index if not exists batch_files_batch_id_idx on eve.batch_files (batch_id) where batch_id is not null;
comment on table eve.batch_files is 'Files: those that callers brought, for batches or to be shown to models, and what came of batches.';
comment on column eve.batch_files.purpose is 'batch, user_data (of a type that is no file of lines): a caller brought it, and it is a media object of its tenant (tenant_id, sha256), or several of them, one behind the other (parts). batch_output: it is read out of the batch''s jobs.';
comment on column eve.batch_files.holds is 'answers: the lines that succeeded; errors: all others; all: those of Google''s batches, in one file.';
comment on column eve.batch_files.mime_type is 'As it was declared.';
comment on column eve.batch_files.is_listed is 'False: the requests, or the responses, of a batch that had them inline. It is its batch''s own.';
comment on column eve.batch_files.expires_at is 'It is deleted then: 30 days after it came; an output file when the first of its lines leaves eve.jobs.';

create table if not exists eve.batches (
  id uuid primary key,
  no bigint generated always as identity,
  consumer_id uuid,
  owner_id uuid generated always as (coalesce(consumer_id, '00000000-0000-0000-0000-000000000000')) stored,
  token_id uuid,
  api text not null default 'openai',
  endpoint text not null,
  is_inline boolean not null default false,
  input_file_id uuid not null,
  job_id uuid not null,
  metadata jsonb,
  state text not null default 'validating',
  models text[] not null default '{}',
  errors jsonb,
  total integer not null default 0,
  added integer not null default 0,
  open integer not null default 0,
  completed integer not null default 0,
  failed integer not null default 0,
  expired integer not null default 0,
  output_bytes bigint not null default 0,
  error_bytes bigint not null default 0,
  output_file_id uuid,
  error_file_id uuid,
  created_at timestamptz not null,
  in_progress_at timestamptz,
  finalizing_at timestamptz,
  ended_at timestamptz,
  cancelling_at timestamptz,
  deleted_at timestamptz,
  expires_at timestamptz not null,
  constraint batches_api_known check (api in ('openai', 'gemini', 'anthropic')),
  constraint batches_state_known check (
    state in ('validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')
  ),
  constraint batches_ended check ((ended_at is not null) = (state in ('failed', 'completed', 'expired', 'cancelled'))),
  constraint batches_counted check (
    open >= 0 and completed >= 0 and failed >= 0 and expired >= 0 and open + completed + failed + expired <= added and added <= total
    and total <= 50000
  ),
  constraint batches_endpoint_length check (length(endpoint) between 1 and 1000),
  constraint batches_metadata_size check (length(metadata::text) <= 16384),
  constraint batches_errors_size check (length(errors::text) <= 262144)
) with (fillfactor = 50);
create unique index if not exists batches_no_key on eve.batches (no);
create unique index if not exists batches_job_id_key on eve.batches (job_id);
create index if not exists batches_owner_id_no_idx on eve.batches (owner_id, no);
create index if not exists batches_ended_at_idx on eve.batches (ended_at) where ended_at is not null;
comment on table eve.batches is 'Batches: what became of each, and how many of its lines have ended. Like eve.jobs it outlives what it names.';
comment on column eve.batches.api is 'Whose clients handed it in: they alone see it, and what came of it is written as they read it.';
comment on column eve.batches.endpoint is 'What its lines ask for: OpenAI''s address of it, the gateway''s of Anthropic''s, or Google''s, with the model in it.';
comment on column eve.batches.is_inline is 'Its requests came with it, and its responses are listed with it.';
comment on column eve.batches.deleted_at is 'Nobody sees it any more. It ends as others do.';
comment on column eve.batches.job_id is 'The job that checks its file and hands the lines in.';
comment on column eve.batches.models is 'All that its lines ask for: who may not use one of them does not see it.';
comment on column eve.batches.errors is 'What is wrong with its file: [{"code", "message", "param", "line"}], lines from 1 on, the first hundred.';
comment on column eve.batches.total is 'Lines; of one that was broken off while they were handed in, those that had been (added).';
comment on column eve.batches.open is 'Lines that have been handed in and have not ended. Kept by a trigger on eve.jobs, as are completed, failed and expired.';
comment on column eve.batches.output_bytes is 'Of the output file so far; error_bytes: of the error file.';

-- A line of an output or an error file of OpenAI's.
create or replace function eve.batch_line_openai(job eve.jobs)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', 'batch_req_' || replace((job).id::text, '-', ''), 'custom_id', (job).custom_id,
    'response', case
      when (job).result ? 'status' then jsonb_build_object(
        'status_code', (job).result -> 'status', 'request_id', (job).id, 'body', (job).result -> 'body'
      )
    end,
    'error', case
      when (job).result ? 'status' then null
      when (job).state = 'expired' then jsonb_build_object(
        'code', 'batch_expired', 'message', 'This request could not be executed before the completion window expired.'
      )
      when (job).state = 'cancelled' then jsonb_build_object('code', 'batch_cancelled', 'message', 'The batch was cancelled before this request was executed.')
      else jsonb_build_object('code', (job).error_code, 'message', (job).error_detail)
    end
  );
$$;

-- A line of Google's responses: named by its key, or by the metadata that came inline with the request. An error is a google.rpc.Status,
-- without details: Google's clients take those for texts.
create or replace function eve.batch_line_gemini(job eve.jobs)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_strip_nulls(jsonb_build_object('key', (job).custom_id, 'metadata', (job).body -> 'metadata')) || case
    when (job).state = 'succeeded' then jsonb_build_object('response', (job).result -> 'body')
    when (job).state = 'expired' then jsonb_build_object(
      'error', jsonb_build_object('code', 4, 'message', 'The batch expired before this request was executed.')
    )
    when (job).state = 'cancelled' then jsonb_build_object(
      'error', jsonb_build_object('code', 1, 'message', 'The batch was cancelled before this request was executed.')
    )
    else jsonb_build_object(
      'error', jsonb_build_object(
        -- google.rpc.Code: a name's place in this list.
        'code', coalesce(
          array_position(
            array[
              'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED',
              'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE',
              'DATA_LOSS', 'UNAUTHENTICATED'
            ],
            (job).result #>> '{body,error,status}'
          ),
          13
        ),
        'message', coalesce((job).result #>> '{body,error,message}', (job).error_detail, (job).error_code)
      )
    )
  end;
$$;

-- A line of Anthropic's results. An error is the body that the call was answered with.
create or replace function eve.batch_line_anthropic(job eve.jobs)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'custom_id', (job).custom_id,
    'result', case
      when (job).state = 'succeeded' then jsonb_build_object('type', 'succeeded', 'message', (job).result -> 'body')
      when (job).state = 'expired' then jsonb_build_object('type', 'expired')
      when (job).state = 'cancelled' then jsonb_build_object('type', 'canceled')
      when (job).result #>> '{body,type}' = 'error' then jsonb_build_object('type', 'errored', 'error', (job).result -> 'body')
      else jsonb_build_object(
        'type', 'errored',
        'error', jsonb_build_object(
          'type', 'error', 'request_id', (job).id,
          'error', jsonb_build_object('type', 'api_error', 'message', coalesce((job).error_detail, (job).error_code))
        )
      )
    end
  );
$$;

-- A line of what came of a batch, as those who handed it in read it.
create or replace function eve.batch_line(job eve.jobs, api text)
returns text
language sql
immutable
set search_path = ''
as $$
  select (
    case batch_line.api
      when 'gemini' then eve.batch_line_gemini(job)
      when 'anthropic' then eve.batch_line_anthropic(job)
      else eve.batch_line_openai(job)
    end
  )::text;
$$;

-- Ends batches whose lines have all ended; their rows are locked.
create or replace function eve.batch_finish(ids uuid[])
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := eve.clock();
begin
  with ended as (
    update eve.batches b
    set state = case
        when b.state = 'cancelling' then 'cancelled'
        when b.expired > 0 or b.expires_at <= v_now and b.total = 0 then 'expired'
        when b.errors is not null then 'failed'
        else 'completed'
      end,
      finalizing_at = v_now, ended_at = v_now,
      output_file_id = case when b.output_bytes > 0 or b.api <> 'openai' and b.error_bytes > 0 then gen_random_uuid() end,
      error_file_id = case when b.api = 'openai' and b.error_bytes > 0 then gen_random_uuid() end
    where b.id = any (batch_finish.ids) and b.added = b.total and b.open = 0
      and (b.state in ('in_progress', 'cancelling') or b.state = 'validating' and (b.errors is not null or b.expires_at <= v_now))
    returning b.*
  )
  insert into eve.batch_files (id, consumer_id, purpose, filename, is_listed, bytes, batch_id, holds, created_at, expires_at)
  select f.id, e.consumer_id, 'batch_output', format('batch_%s_%s.jsonl', replace(e.id::text, '-', ''), f.name), not e.is_inline, f.bytes,
    e.id, f.holds, v_now,
    -- A line leaves when its job does: the first may have ended at once.
    coalesce(e.in_progress_at, e.created_at) + (select k.keep from eve.job_kinds k where k.kind = 'llm')
  from ended e
  cross join lateral (
    values
      (
        e.output_file_id, 'output', e.output_bytes + case when e.api = 'openai' then 0 else e.error_bytes end,
        case when e.api = 'openai' then 'answers' else 'all' end
      ),
      (e.error_file_id, 'error', e.error_bytes, 'errors')
  ) as f (id, name, bytes, holds)
  where f.id is not null;
end;
$$;

-- Counts lines that have ended, in the transaction that ended them; a batch's last one ends it. A job that was to check a file and has
-- failed ends its batch as well.
create or replace function eve.batches_count()
returns trigger
language plpgsql
set search_path = ''
-- Plans are often made while the tables are small and kept while they grow.
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_ids uuid[];
begin
  if not exists (select from after_it n where n.finished_at is not null and (n.batch_id is not null or n.kind = 'batch')) then
    return null;
  end if;
  v_ids := array(
    select b.id
    from eve.batches b
    where b.id in (
      select n.batch_id from after_it n where n.finished_at is not null
      union
      select c.id from after_it n join eve.batches c on c.job_id = n.id where n.kind = 'batch' and n.finished_at is not null
    )
    order by b.id
    for no key update
  );
  update eve.batches b
  set open = b.open - d.ended, completed = b.completed + d.completed, failed = b.failed + d.failed, expired = b.expired + d.expired,
    output_bytes = b.output_bytes + d.output_bytes, error_bytes = b.error_bytes + d.error_bytes
  from (
    -- By the difference: a join of the two tables compares each row with each, as their plan was made for a few.
    select l.batch_id, sum(l.sign) as ended, coalesce(sum(l.sign) filter (where l.state = 'succeeded'), 0) as completed,
      coalesce(sum(l.sign) filter (where l.state = 'failed'), 0) as failed,
      coalesce(sum(l.sign) filter (where l.state = 'expired'), 0) as expired,
      coalesce(sum(l.sign * l.bytes) filter (where l.state = 'succeeded'), 0) as output_bytes,
      coalesce(sum(l.sign * l.bytes) filter (where l.state <> 'succeeded'), 0) as error_bytes
    from (
      select n.batch_id, n.state, 1 as sign,
        octet_length(eve.batch_line(row(n.*)::eve.jobs, (select w.api from eve.batches w where w.id = n.batch_id))) + 1 as bytes
      from after_it n
      where n.finished_at is not null and n.batch_id is not null
      union all
      select o.batch_id, o.state, -1,
        octet_length(eve.batch_line(row(o.*)::eve.jobs, (select w.api from eve.batches w where w.id = o.batch_id))) + 1
      from before_it o
      where o.finished_at is not null and o.batch_id is not null
    ) l
    group by l.batch_id
  ) d
  where b.id = d.batch_id;
  -- What has been handed in is done; the rest never comes.
  update eve.batches b
  set total = b.added,
    errors = coalesce(
      b.errors,
      jsonb_build_array(
        jsonb_build_object(
          'code', coalesce(n.error_code, 'job_' || n.state), 'param', null, 'line', null,
          'message', format('The file was not read to its end; of its lines %s were handed in. %s', b.added, coalesce(n.error_detail, ''))
        )
      )
    )
  from after_it n
  where n.id = b.job_id and n.kind = 'batch' and n.finished_at is not null and n.state <> 'succeeded'
    and b.state in ('validating', 'in_progress') and (b.added < b.total or b.state = 'validating');
  perform eve.batch_finish(v_ids);
  return null;
end;
$$;
create or replace trigger eve_batches_count
after update on eve.jobs
referencing old table as before_it new table as after_it
for each statement execute function eve.batches_count();

-- Those that a caller sees at an API: the project all of them, a consumer its own, and of those the ones whose models it and its token may
-- use.
create or replace function eve.batches_for(consumer_id uuid, token_id uuid, api text)
returns setof eve.batches
language plpgsql
stable
set search_path = ''
set plan_cache_mode = 'force_custom_plan'
as $$
begin
  perform eve.require_live_caller(batches_for.consumer_id, batches_for.token_id);
  return query
    select b.*
    from eve.batches b
    left join eve.consumers c on c.id = batches_for.consumer_id
    left join eve.scoped_tokens t on t.id = batches_for.token_id
    where b.api = batches_for.api and b.deleted_at is null
      and (batches_for.consumer_id is null or b.owner_id = batches_for.consumer_id)
      and (c.models is null or b.models <@ c.models)
      and (t.models is null or b.models <@ t.models);
end;
$$;

create or replace function eve.batch_json(batch eve.batches)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select to_jsonb(batch) - '{owner_id,token_id,job_id,added,open,output_bytes,error_bytes,deleted_at}'::text[];
$$;
