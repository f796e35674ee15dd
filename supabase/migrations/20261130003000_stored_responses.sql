-- Responses that are answered at once and kept: a conversation goes on from one of them, or names what was said in it.
--
-- Order of locks: none but the row that is written, which nobody else knows of.

set local lock_timeout = '10s';

insert into eve.settings (name, value, description) values
  ('responses_stored', 1, 'Whether responses that are answered at once are kept for their callers, unless a call says no. 0: none is, and they say so.')
on conflict (name) do nothing;

-- Keeps a response that has been answered: {"status": "stored", "stored"}; false: the owner of this project keeps none, or its id is taken.
-- response: {"id", "model", "models", "state", "metadata", "input", "previous_id", "answer"} as the columns of eve.responses. Twice is the
-- same as once.
create or replace function public.eve_response_store(response jsonb, consumer_id uuid default null, token_id uuid default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_given constant eve.responses := jsonb_populate_record(null::eve.responses, eve_response_store.response);
begin
  if coalesce((select s.value from eve.settings s where s.name = 'responses_stored'), 1) = 0 then
    return '{"status": "stored", "stored": false}';
  end if;
  insert into eve.responses (
    id, consumer_id, token_id, model, models, state, background, store, metadata, input, previous_id, answer, created_at, ended_at
  )
  values (
    v_given.id, eve_response_store.consumer_id, eve_response_store.token_id, v_given.model, v_given.models, v_given.state, false, true,
    v_given.metadata, v_given.input, v_given.previous_id, v_given.answer, eve.clock(), eve.clock()
  )
  on conflict (id) do nothing;
  return jsonb_build_object('status', 'stored', 'stored', exists (
    select
    from eve.responses r
    where r.id = v_given.id and r.consumer_id is not distinct from eve_response_store.consumer_id
  ));
end;
$$;
comment on function public.eve_response_store is 'Keeps a response that was answered at once.';

-- What a request goes on from: {"status": "found", "turns": [{"id", "input", "output"}, ...], "others": [...]}, or a refusal. turns: the
-- response previous_id and all that it went on from, the oldest first; others: those of other_ids that there are, in no order.
create or replace function public.eve_response_context(
  previous_id uuid, other_ids uuid[] default '{}', consumer_id uuid default null, token_id uuid default null
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  -- Of all inputs together: what a body may have.
  c_most_chars constant bigint := 10485760;
  -- A conversation of a turn a minute, from morning to evening.
  c_most_turns constant integer := 500;
  v_turns jsonb;
  v_oldest record;
  v_chars bigint;
begin
  with recursive chain as (
    select r.id, r.previous_id, r.state, r.input, r.answer, 1 as back
    from eve.responses_for(
      eve_response_context.previous_id, eve_response_context.consumer_id, eve_response_context.token_id
    ) r
    union all
    select r.id, r.previous_id, r.state, r.input, r.answer, c.back + 1
    from chain c
    cross join lateral eve.responses_for(
      c.previous_id, eve_response_context.consumer_id, eve_response_context.token_id
    ) r
    where c.previous_id is not null and c.back < c_most_turns
  )
  select jsonb_agg(
      jsonb_build_object('id', c.id, 'input', c.input, 'output', c.answer -> 'output', 'state', c.state) order by c.back desc
    ), sum(length(c.input::text) + length(c.answer::text))
  into v_turns, v_chars
  from chain c;
  if eve_response_context.previous_id is not null then
    if v_turns is null then
      return eve.response_missing(eve_response_context.previous_id);
    end if;
    select r.previous_id into v_oldest from eve.responses r where r.id = (v_turns #>> '{0,id}')::uuid;
    if v_oldest.previous_id is not null then
      return eve.refused('not_found', format(
        'The conversation before the response resp_%s is no longer whole: resp_%s is gone, or it has more than %s turns.',
        replace(eve_response_context.previous_id::text, '-', ''), replace(v_oldest.previous_id::text, '-', ''), c_most_turns
      ));
    end if;
    if v_chars > c_most_chars then
      return eve.refused('prompt_too_large', 'The conversation that this response goes on from is longer than a body may be.');
    end if;
  end if;
  return jsonb_build_object(
    'status', 'found',
    'turns', coalesce(v_turns, '[]'),
    'others', coalesce((
      select jsonb_agg(jsonb_build_object('id', r.id, 'input', r.input, 'output', r.answer -> 'output', 'state', r.state))
      from unnest(eve_response_context.other_ids) as o (id)
      cross join lateral eve.responses_for(o.id, eve_response_context.consumer_id, eve_response_context.token_id) r
    ), '[]')
  );
end;
$$;
comment on function public.eve_response_context is 'What a response goes on from: a conversation, and others that it names items of.';

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in ('eve_response_store', 'eve_response_context')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end;
$$;
