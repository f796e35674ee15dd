-- Traces for OpenTelemetry: requests that have ended, with their attempts, for the function to send to a collector. They are read from
-- the audit in the order in which they ended: nothing more is written while a call runs, and no event for each call.

set local lock_timeout = '10s';

create table if not exists eve.trace_export (
  only_row boolean primary key default true,
  exported_at timestamptz,
  exported_no bigint not null default 0,
  constraint trace_export_has_one_row check (only_row)
);
insert into eve.trace_export (only_row) values (true) on conflict do nothing;
comment on table eve.trace_export is 'How far the export of traces has come: to this request, in the order of finished_at and request_no. One row.';
comment on column eve.trace_export.exported_at is 'Null: it has not begun. What ended before it began is not exported.';

insert into eve.settings (name, value, description) values
  ('trace_export', 0, 'Whether requests are exported as traces, 1 or 0. Where to is in the function''s environment: EVE_OTLP_ENDPOINT.'),
  ('trace_export_keep_s', 86400, 'Requests that ended longer ago are not exported any more, but counted as lost.')
on conflict (name) do nothing;

-- The first one counts as a rise.
insert into eve.metric_counters (metric, labels, value)
select 'eve_trace_spans_total', jsonb_build_object('result', r.result), 0
from unnest(array['sent', 'rejected', 'lost']) as r (result)
on conflict do nothing;

-- Requests that ended before this are all there: what settles a request takes eight seconds at most.
create or replace function eve.traces_until()
returns timestamptz
language sql
volatile
set search_path = ''
as $$
  select eve.clock() - interval '20 seconds';
$$;

create or replace function eve.traces_are_due()
returns boolean
language sql
volatile
set search_path = ''
as $$
  select eve.alert_setting('trace_export', 0) = 1
    and exists (
      select
      from eve.trace_export x
      where x.exported_at is null
        or exists (
          select
          from eve.requests r
          where (r.finished_at, r.request_no) > (x.exported_at, x.exported_no) and r.finished_at < eve.traces_until()
        )
    );
$$;

create or replace function eve.count_spans(result text, spans bigint)
returns void
language sql
volatile
set search_path = ''
as $$
  insert into eve.metric_counters as c (metric, labels, value)
  select 'eve_trace_spans_total', jsonb_build_object('result', count_spans.result), count_spans.spans
  where count_spans.spans > 0
  on conflict (metric, labels) do update
  set value = c.value + excluded.value;
$$;

-- The next requests to export, the oldest first: {"requests": [..], "until": {"at", "no"} or null}. What is too old is counted as lost,
-- a span for each request and each attempt, and passed over.
create or replace function public.eve_traces_next(at_most integer default 200)
returns jsonb
language plpgsql
volatile
set search_path = ''
set enable_seqscan = 'off'
set jit = 'off'
as $$
declare
  v_until constant timestamptz := eve.traces_until();
  v_oldest constant timestamptz := eve.clock() - eve.alert_setting('trace_export_keep_s', 86400) * interval '1 second';
  v_at timestamptz;
  v_no bigint;
  v_answer jsonb;
begin
  select x.exported_at, x.exported_no into v_at, v_no from eve.trace_export x for update;
  if v_at is null or v_at < v_oldest then
    perform eve.count_spans('lost', (
      select coalesce(sum(1 + r.attempts), 0)::bigint
      from eve.requests r
      where (r.finished_at, r.request_no) > (v_at, v_no) and r.finished_at < v_oldest
    ));
    v_at := case when v_at is null then v_until else v_oldest end;
    v_no := 0;
    update eve.trace_export x set exported_at = v_at, exported_no = v_no;
  end if;
  with page as materialized (
    select r.*
    from eve.requests r
    where (r.finished_at, r.request_no) > (v_at, v_no) and r.finished_at < v_until
    order by r.finished_at, r.request_no
    limit least(greatest(eve_traces_next.at_most, 1), 1000)
  )
  select jsonb_build_object(
    'requests', coalesce(
      jsonb_agg(
        jsonb_build_object(
          'request_no', p.request_no, 'request_id', p.request_id, 'trace_id', p.trace_id, 'received_at', p.received_at,
          'finished_at', p.finished_at, 'state', p.state, 'error_code', p.error_code, 'endpoint', p.endpoint, 'class', p.class,
          'model', p.model, 'requested_model', p.requested_model, 'consumer', n.name, 'wait_ms', p.wait_ms, 'attempts', (
            select coalesce(
              jsonb_agg(
                jsonb_build_object(
                  'attempt', a.attempt, 'start_ms', a.start_ms, 'latency_ms', a.latency_ms, 'outcome', a.outcome, 'model', a.model,
                  'error_code', a.error_code, 'upstream_status', a.upstream_status, 'finish_reason', a.finish_reason,
                  'input_tokens', a.input_tokens, 'output_tokens', a.output_tokens, 'thoughts_tokens', a.thoughts_tokens,
                  'cached_tokens', a.cached_tokens, 'key', k.key_alias, 'provider', k.provider, 'quota_project', k.quota_project
                )
                order by a.attempt
              ), '[]'
            )
            from (
              select p.attempts::integer as attempt, p.start_ms, p.latency_ms, p.state as outcome, p.model, p.error_code, p.upstream_status,
                p.finish_reason, p.input_tokens, p.output_tokens, p.thoughts_tokens, p.cached_tokens, p.key_id
              where p.lane_id is not null and p.dispatched
              union all
              select e.attempt, e.start_ms, e.latency_ms, e.outcome, e.model, e.error_code, e.upstream_status, e.finish_reason,
                e.input_tokens, e.output_tokens, e.thoughts_tokens, e.cached_tokens, e.key_id
              from eve.earlier_attempts e
              where e.request_no = p.request_no and e.dispatched and (p.attempts > 1 or p.lane_id is null)
            ) a
            left join public.google_ai_api_keys k on k.id = a.key_id
          )
        )
        order by p.finished_at, p.request_no
      ), '[]'
    ),
    'until', case
      when count(*) > 0 then jsonb_build_object('at', max(p.finished_at), 'no', (array_agg(p.request_no order by p.finished_at desc, p.request_no desc))[1])
    end
  )
  into v_answer
  from page p
  left join eve.consumers n on n.id = p.consumer_id;
  return v_answer;
end;
$$;
comment on function public.eve_traces_next is 'Requests that have ended and are not exported yet, with their attempts; those that are too old are counted as lost.';

-- What has become of them: they are not given again. Twice is the same as once for the place, and counted once.
create or replace function public.eve_traces_done(until_at timestamptz, until_no bigint, sent bigint, rejected bigint default 0)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
begin
  update eve.trace_export x
  set exported_at = eve_traces_done.until_at, exported_no = eve_traces_done.until_no
  where (x.exported_at, x.exported_no) < (eve_traces_done.until_at, eve_traces_done.until_no);
  if found then
    perform eve.count_spans('sent', eve_traces_done.sent);
    perform eve.count_spans('rejected', eve_traces_done.rejected);
  end if;
  return jsonb_build_object('status', case when found then 'noted' else 'known' end);
end;
$$;
comment on function public.eve_traces_done is 'Notes how far the export of traces has come, and what became of the spans.';

insert into eve.operations (name, runs_in, schedule, time_limit_ms, logs_all, description) values
  ('traces', 'http', '* * * * *', 50000, false, 'Sends requests that have ended to a collector of OpenTelemetry.')
on conflict (name) do nothing;
insert into eve.maintenance_expected (operation, within_s) values ('traces', 1800)
on conflict (operation) do nothing;
