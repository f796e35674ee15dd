-- What was asked and answered, kept for debugging where a request or its consumer's row wants it. Off by default, apart
-- from the books, and deleted by retention.

set local lock_timeout = '10s';

create table if not exists eve.captures (
  request_no bigint primary key,
  prompt jsonb not null,
  answer jsonb,
  captured_at timestamptz not null default now()
);
create index if not exists captures_captured_at_idx on eve.captures using brin (captured_at);
comment on table eve.captures is 'Prompts and answers, for debugging. Only of requests that asked for it, or whose consumer''s row does.';
comment on column eve.captures.prompt is 'As the model got it. Above 256 KiB: {"truncated": true, "bytes": n, "head": its first 65,536 characters}.';
comment on column eve.captures.answer is 'As the model gave it, capped like the prompt.';

alter table eve.captures enable row level security;
revoke all on table eve.captures from public, anon, authenticated, service_role;
grant select, insert, update, delete on table eve.captures to service_role;

-- A value of at most 256 KiB as text; of a larger one, its head. 65,536 characters stay below that in any script.
create or replace function eve.capped(value jsonb)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select case
    when octet_length(capped.value::text) <= 262144 then capped.value
    else jsonb_build_object(
      'truncated', true, 'bytes', octet_length(capped.value::text), 'head', left(capped.value::text, 65536)
    )
  end;
$$;
comment on function eve.capped is 'A value as it is up to 256 KiB, and the head of a larger one.';

create or replace function public.eve_capture(request_no bigint, prompt jsonb, answer jsonb default null)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  if eve_capture.request_no is null or eve_capture.prompt is null then
    raise exception 'request_no and prompt are needed' using errcode = 'EV400';
  end if;
  -- Settled or not: a capture may overtake its settlement.
  if not exists (select from eve.requests r where r.request_no = eve_capture.request_no)
    and not exists (select from eve.inflight i where i.request_no = eve_capture.request_no) then
    raise exception 'no request %', eve_capture.request_no using errcode = 'EV404';
  end if;
  insert into eve.captures as c (request_no, prompt, answer)
  values (eve_capture.request_no, eve.capped(eve_capture.prompt), eve.capped(eve_capture.answer))
  on conflict on constraint captures_pkey do update
  set prompt = excluded.prompt, answer = excluded.answer, captured_at = now();
  return jsonb_build_object('status', 'captured');
end;
$$;
comment on function public.eve_capture is 'Keeps what a request asked and got, at most 256 KiB of each. Twice is the same as once.';

revoke all on function eve.capped(jsonb) from public, anon, authenticated;
revoke all on function public.eve_capture(bigint, jsonb, jsonb) from public, anon, authenticated;
grant execute on function eve.capped(jsonb) to service_role;
grant execute on function public.eve_capture(bigint, jsonb, jsonb) to service_role;
