-- What maintenance, rollup, alerts and metrics remember.

set local lock_timeout = '10s';

create sequence if not exists eve.operation_run as bigint;
comment on sequence eve.operation_run is 'Numbers the runs of operations.';

create table if not exists eve.operations (
  name text primary key,
  runs_in text not null,
  schedule text,
  is_active boolean not null default true,
  time_limit_ms integer not null,
  description text not null,
  run_id bigint,
  log_id bigint,
  source text,
  started_at timestamptz,
  ends_at timestamptz,
  lease_until timestamptz,
  tables text[] not null default '{}',
  done_count bigint not null default 0,
  details jsonb not null default '{}',
  state jsonb not null default '{}',
  last_status text,
  last_error text,
  last_started_at timestamptz,
  last_completed_at timestamptz,
  last_succeeded_at timestamptz,
  logs_all boolean not null default false,
  idle_runs bigint not null default 0,
  last_idle_at timestamptz,
  constraint operations_runs_in_known check (runs_in in ('sql', 'http')),
  -- A hosted function has 150 seconds in all on the free plan.
  constraint operations_time_limit_range check (time_limit_ms between 1000 and 120000),
  constraint operations_last_status_known check (last_status in ('succeeded', 'failed'))
) with (fillfactor = 50);
create unique index if not exists operations_run_id_key on eve.operations (run_id);
comment on table eve.operations is 'What maintenance does, how often, and where it stands. The history is in public.google_ai_maintenance_log.';
comment on column eve.operations.runs_in is 'sql: cron runs it in the database. http: cron asks the function maintenance for it.';
comment on column eve.operations.schedule is 'When: five fields of cron, in UTC, or so many seconds (5 seconds); null: only when asked for. A change takes effect with public.eve_schedule().';
comment on column eve.operations.time_limit_ms is 'A run ends in order after so many milliseconds, and the next one goes on: 1000 to 120000.';
comment on column eve.operations.run_id is 'The run that is on; null: none. What follows up to state is about that run.';
comment on column eve.operations.log_id is 'Its row in public.google_ai_maintenance_log.';
comment on column eve.operations.source is 'Who asked for it: cron, http or call.';
comment on column eve.operations.ends_at is 'When the run''s time is up; lease_until: when it is given up for dead.';
comment on column eve.operations.tables is 'Tables changed so far; done_count: rows, details: facts for the log.';
comment on column eve.operations.state is 'How far it has come.';
comment on column eve.operations.logs_all is 'Whether a run that the schedule began and that changed nothing is a row of the log too, for what it found.';
comment on column eve.operations.idle_runs is 'How often the schedule found nothing to do: those are counted, and no rows of the log.';
comment on column eve.operations.last_idle_at is 'When it last found nothing to do.';
comment on column eve.operations.last_status is 'How the last run ended that was not skipped: succeeded or failed.';
insert into eve.operations (name, runs_in, schedule, time_limit_ms, logs_all, description) values
  ('sweep', 'sql', '* * * * *', 40000, false, 'Closes reservations whose callers have died, and forgets blocks and old secrets that have ended.'),
  ('rollup', 'sql', '*/5 * * * *', 50000, false, 'Sums the audit up by hour and by Pacific day.'),
  ('retention', 'sql', '17 * * * *', 100000, false, 'Deletes what is older than eve.retention keeps.'),
  ('report', 'sql', '20 8 * * *', 60000, true, 'Yesterday, by the Pacific calendar, in numbers.'),
  ('key_health', 'http', '*/15 * * * *', 100000, true, 'Asks upstream whether each key works, at no cost.'),
  ('models_sync', 'http', '43 */6 * * *', 100000, true, 'Reads the list of models of each key.'),
  ('alerts', 'http', '* * * * *', 50000, false, 'Opens and closes alerts, and delivers them.'),
  ('providers_sync', 'http', '29 3 * * *', 100000, true, 'Asks the provider of each stage about its key and its models.')
on conflict (name) do nothing;

create table if not exists eve.retention (
  table_name text primary key,
  keep interval,
  at_least interval not null,
  batch_rows integer not null default 2000,
  batch_function text,
  description text not null,
  constraint retention_keeps_what_still_counts check (keep >= at_least),
  constraint retention_batch_rows_range check (batch_rows between 100 and 50000),
  constraint retention_batch_function_form check (batch_function ~ '^retention_of_[a-z_]{1,40}$')
);
comment on table eve.retention is 'How long each table keeps its rows. A change takes effect with the next run.';
comment on column eve.retention.keep is 'Older rows are deleted; null: none ever is.';
comment on column eve.retention.at_least is 'Within this age a row may still count towards a limit, a budget, a running request or a sum.';
comment on column eve.retention.batch_rows is 'Rows looked at in one transaction: 100 to 50000.';
comment on column eve.retention.batch_function is 'The function of eve that deletes a batch: (relation, table_name, before, at_most, after) gives deleted and next_after. Null: retention_batch knows the table.';
insert into eve.retention (table_name, keep, at_least, description) values
  ('eve.request_results', '7 days', '1 day', 'Answers kept for repeated request ids.'),
  ('eve.captures', '7 days', '1 minute', 'Prompts and answers kept for debugging.'),
  ('eve.attempts', '30 days', '2 days', 'Audit: every reservation that ended.'),
  ('eve.requests', '30 days', '2 days', 'Audit: every request that ended.'),
  ('eve.request_keys', '7 days', '1 hour', 'Ids that callers chose. Until then a request_id is taken.'),
  ('eve.refusals', '30 days', '2 days', 'Audit: every reservation that was refused.'),
  ('eve.refusal_counts', '30 days', '2 days', 'Audit: refusals beyond the rate that is kept row by row, counted.'),
  ('eve.refusal_minutes', '1 day', '5 minutes', 'How many refusals of a consumer were kept row by row in the last minute.'),
  ('eve.rollup_set_aside', '400 days', '35 days', 'Which rows of the audit could not be summed.'),
  ('eve.access_log', '400 days', '1 day', 'Audit: what was done to consumers and tokens.'),
  ('eve.access_refusals', '30 days', '1 day', 'Audit: credentials that were refused.'),
  ('eve.scoped_tokens', '30 days', '2 days', 'Tokens of notebooks, counted from their expiry.'),
  ('eve.issue_windows', '1 hour', '5 minutes', 'Who has asked for tokens in the last minutes.'),
  ('eve.consumer_minutes', '1 day', '5 minutes', 'Requests of consumers in the last minute.'),
  ('eve.consumer_days', '400 days', '3 days', 'What consumers with a budget have spent in a day.'),
  ('eve.lane_buckets', '10 minutes', '5 minutes', 'Starts of idle lanes that no minute window reaches; busy lanes clear their own.'),
  ('eve.alerts', '180 days', '1 day', 'Alerts, counted from when they were closed.'),
  ('eve.usage_hours', '400 days', '35 days', 'Sums by the hour.'),
  ('eve.usage_days', null, '35 days', 'Sums by the Pacific day: a few rows a day.'),
  ('public.google_ai_maintenance_log', '90 days', '3 days', 'What maintenance did; rows of other programs stay.'),
  ('cron.job_run_details', '7 days', '1 day', 'pg_cron''s own history of the gateway''s jobs.')
on conflict (table_name) do nothing;
insert into eve.retention (table_name, keep, at_least, description) values
  ('eve.bad_requests', '30 days', '1 day', 'Requests that were refused for what they are, counted.')
on conflict (table_name) do nothing;

create table if not exists eve.rollup_progress (
  only_row boolean primary key default true,
  looked_until timestamptz,
  rolled_until timestamptz,
  frozen_before timestamptz,
  hours_frozen_before timestamptz,
  constraint rollup_progress_has_one_row check (only_row)
);
insert into eve.rollup_progress (only_row) values (true) on conflict do nothing;
comment on table eve.rollup_progress is 'How far the sums have come. One row.';
comment on column eve.rollup_progress.looked_until is 'What was written to the audit before this time has been looked through for good: what it changed is summed, or stands in eve.rollup_due.';
comment on column eve.rollup_progress.rolled_until is 'Everything written to the audit before this time is in eve.usage_hours.';
comment on column eve.rollup_progress.frozen_before is 'Retention has been at the audit before this time, so hours before it are not summed again.';
comment on column eve.rollup_progress.hours_frozen_before is 'The same for days, which are summed from eve.usage_hours.';

create table if not exists eve.rollup_due (
  unit text not null,
  at timestamptz not null,
  failed_at timestamptz,
  error text,
  primary key (unit, at),
  constraint rollup_due_unit_known check (unit in ('slice', 'hour', 'day'))
);
comment on table eve.rollup_due is 'What is still to be summed again: slices of 20 seconds from the audit, hours from their slices, days from their hours.';
comment on column eve.rollup_due.at is 'Its beginning; of a day, midnight in Los Angeles.';
comment on column eve.rollup_due.failed_at is 'When it could not be summed, and why in error: it is tried again an hour later, and holds up nothing.';

create table if not exists eve.rollup_set_aside (
  source text not null,
  number bigint not null,
  attempt smallint not null,
  slice timestamptz not null,
  error text not null,
  set_aside_at timestamptz not null,
  primary key (source, number, attempt),
  constraint rollup_set_aside_source_known check (source in ('requests', 'attempts', 'refusals', 'refusal_counts'))
);
comment on table eve.rollup_set_aside is 'Rows of the audit that cannot be summed, and are left out of the sums until public.eve_rollup_rebuild is asked for.';
comment on column eve.rollup_set_aside.number is 'Its request_no, or its id; attempt is 0 but for attempts.';

create table if not exists eve.usage_slices (
  slice timestamptz not null,
  consumer_id uuid not null,
  model text not null,
  key_id uuid not null,
  endpoint text not null,
  requests bigint not null,
  succeeded bigint not null,
  failed bigint not null,
  cancelled bigint not null,
  expired bigint not null,
  refused bigint not null,
  attempts bigint not null,
  dispatched bigint not null,
  upstream_refused bigint not null,
  input_tokens bigint not null,
  output_tokens bigint not null,
  thoughts_tokens bigint not null,
  cached_tokens bigint not null,
  wait_ms bigint not null,
  latency_ms bigint not null,
  constraint usage_slices_pkey primary key (slice, consumer_id, model, key_id, endpoint)
);
comment on table eve.usage_slices is 'The last hours, summed in slices of 20 seconds, of which eve.usage_hours are the sums. The columns mean the same; no consumer and no key are zeros.';

create table if not exists eve.usage_hours (
  id bigint generated always as identity primary key,
  hour timestamptz not null,
  consumer_id uuid,
  model text not null,
  key_id uuid,
  endpoint text not null,
  requests bigint not null default 0,
  succeeded bigint not null default 0,
  failed bigint not null default 0,
  cancelled bigint not null default 0,
  expired bigint not null default 0,
  refused bigint not null default 0,
  attempts bigint not null default 0,
  dispatched bigint not null default 0,
  upstream_refused bigint not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  thoughts_tokens bigint not null default 0,
  cached_tokens bigint not null default 0,
  wait_ms bigint not null default 0,
  latency_ms bigint not null default 0,
  constraint usage_hours_hour_consumer_model_key_endpoint_key unique nulls not distinct (hour, consumer_id, model, key_id, endpoint)
);
comment on table eve.usage_hours is 'The audit summed by hour, consumer, model, key and endpoint. Made by rollup, and made again where a late settlement changes an hour.';
comment on column eve.usage_hours.hour is 'Its beginning. Requests count in the hour they came, refusals when they were refused, attempts and their tokens when they started.';
comment on column eve.usage_hours.consumer_id is 'Null: the project''s own key.';
comment on column eve.usage_hours.model is 'The model that served; of a refusal the one that was asked for, (unknown) where there is no such model.';
comment on column eve.usage_hours.key_id is 'Of a request the key of its last attempt; null: none was used.';
comment on column eve.usage_hours.requests is 'Requests that came and have ended: succeeded, failed, cancelled and expired together.';
comment on column eve.usage_hours.refused is 'Requests that were refused, at their first attempt: none of them is among requests.';
comment on column eve.usage_hours.attempts is 'Reservations that were granted, of requests that have ended; dispatched: those that called upstream.';
comment on column eve.usage_hours.upstream_refused is 'Attempts that upstream answered with 429.';
comment on column eve.usage_hours.wait_ms is 'Milliseconds that the requests waited for their starts, together; latency_ms: that upstream took.';

create table if not exists eve.usage_days (
  id bigint generated always as identity primary key,
  day date not null,
  consumer_id uuid,
  model text not null,
  key_id uuid,
  endpoint text not null,
  requests bigint not null default 0,
  succeeded bigint not null default 0,
  failed bigint not null default 0,
  cancelled bigint not null default 0,
  expired bigint not null default 0,
  refused bigint not null default 0,
  attempts bigint not null default 0,
  dispatched bigint not null default 0,
  upstream_refused bigint not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  thoughts_tokens bigint not null default 0,
  cached_tokens bigint not null default 0,
  wait_ms bigint not null default 0,
  latency_ms bigint not null default 0,
  constraint usage_days_day_consumer_model_key_endpoint_key unique nulls not distinct (day, consumer_id, model, key_id, endpoint)
);
comment on table eve.usage_days is 'eve.usage_hours summed by the day in America/Los_Angeles. The columns mean the same.';

create table if not exists eve.key_checks (
  key_id uuid primary key,
  checked_at timestamptz not null,
  outcome text not null,
  reason text,
  detail text,
  works_since timestamptz,
  models_listed_at timestamptz,
  constraint key_checks_outcome_known check (outcome in ('works', 'rejected', 'secret_missing', 'unclear'))
);
comment on table eve.key_checks is 'What the last check of each key found.';
comment on column eve.key_checks.outcome is 'unclear: upstream could not be asked, or said nothing about the key.';
comment on column eve.key_checks.works_since is 'Since when every check has found it working; null: the last one did not.';

-- Which secrets upstream has rejected: so that another one, once it is set, is known for another. There is more than one, since
-- instances with an earlier secret run on for a while, and theirs must not pass for a new one.
create table if not exists eve.rejected_secrets (
  key_id uuid not null,
  secret_hash text not null,
  rejected_at timestamptz not null,
  primary key (key_id, secret_hash),
  constraint rejected_secrets_hash_form check (secret_hash ~ '^[0-9a-f]{64}$')
);
comment on table eve.rejected_secrets is 'Hashes of the secrets that upstream rejected while they were a key''s, 20 a key at most.';
comment on column eve.rejected_secrets.secret_hash is 'HMAC-SHA-256 of the secret, with the key''s id for the HMAC''s key, in hexadecimal.';

create table if not exists eve.key_models (
  key_id uuid not null,
  model text not null,
  first_listed_at timestamptz not null,
  last_listed_at timestamptz not null,
  vanished_at timestamptz,
  primary key (key_id, model)
);
comment on table eve.key_models is 'The models that upstream lists for each key, and those it used to list.';
comment on column eve.key_models.vanished_at is 'When it was first missing from the list; null: it is on it.';

create table if not exists eve.alert_kinds (
  kind text primary key,
  title text not null,
  advice text not null,
  constraint alert_kinds_kind_form check (kind ~ '^[a-z][a-z0-9_]{1,62}$')
);
comment on table eve.alert_kinds is 'What an alert can be about, in words for a person.';
comment on column eve.alert_kinds.title is 'The headline of a message.';
comment on column eve.alert_kinds.advice is 'What to do about it.';
insert into eve.alert_kinds (kind, title, advice) values
  ('key_disabled', 'Key not used', 'Look up the reason in docs/alerts.md. A new secret puts it into use again by itself (keys set); the same one, once it is repaired, wants keys enable. To keep it off for good: keys disable.'),
  ('secret_missing', 'Secret missing', 'Set the secret that the key''s env_var_name names, or correct the name. A key that is stored here wants the ADMIN_SECRET_KEY that it was stored with; or enter it again. It is used again by itself.'),
  ('model_unavailable', 'Model not offered to a key', 'Enable the model or its quota in the key''s project, then delete the row in eve.key_model_blocks.'),
  ('lane_exhausted', 'Day''s quota used up early', 'Use another model until midnight in Los Angeles, add a quota project, or give the consumers daily budgets.'),
  ('refusals_high', 'Many refusals', 'See which limit refuses, in eve.refusals or on the dashboard; let callers wait instead of asking again, or add quota.'),
  ('upstream_errors', 'Upstream fails', 'Look at error_code in eve.attempts. If upstream is overloaded, use another model until it has recovered.'),
  ('maintenance_failed', 'Maintenance failed', 'Read details of the run in google_ai_maintenance_log, fix the cause, and run the operation by hand.'),
  ('maintenance_missing', 'Maintenance does not run', 'Check that pg_cron has the eve_ jobs, that Vault holds the URL and the key, and that the function maintenance is deployed.'),
  ('model_vanished', 'Model gone from upstream', 'Name its successor in replaced_by, or choose another model for whatever uses it.'),
  ('rollup_set_aside', 'Rows left out of the sums', 'See eve.rollup_set_aside and error in eve.rollup_due for why. Correct or delete what they name, then: select public.eve_rollup_rebuild(''<the hour>''). To leave them out for good, delete the rows from eve.rollup_set_aside.'),
  ('provider_key_invalid', 'Provider key refused', 'Make a new key with the provider, and save it in the stage''s configuration.'),
  ('disk_nearly_full', 'Disk nearly full', 'See what takes the room with bench:storage and docs/cost.md: let the audit take less (audit_max_mb), keep less (eve.retention), or get a larger disk and say so in disk_mb.'),
  ('maintenance_log_refused', 'Maintenance not logged', 'A rule on google_ai_maintenance_log refuses the gateway''s rows: see the message, and loosen the rule.'),
  ('usage_counters_refused', 'Usage not counted', 'A rule on google_ai_usage_counters refuses the gateway''s rows: see the message, and loosen the rule.'),
  ('token_usage_refused', 'Token usage not written', 'A rule on token_usage refuses the gateway''s rows: see the message, and loosen the rule.')
on conflict (kind) do nothing;
insert into eve.alert_kinds (kind, title, advice) values
  (
    'clock_went_back', 'The database''s clock went back',
    'What admission remembers was moved along, so calls go on after a minute at most. Have the host''s clock kept by NTP. It closes by itself when the clock has kept for an hour.'
  )
on conflict (kind) do nothing;

create table if not exists eve.alerts (
  id bigint generated always as identity primary key,
  kind text not null,
  subject text not null,
  severity text not null,
  message text not null,
  opened_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  closed_at timestamptz,
  details jsonb not null default '{}',
  -- Its form only: a settlement must not fail because nobody has described what it saw.
  constraint alerts_kind_form check (kind ~ '^[a-z][a-z0-9_]{1,62}$'),
  constraint alerts_severity_known check (severity in ('info', 'warning', 'critical'))
);
create unique index if not exists alerts_open_kind_subject_key on eve.alerts (kind, subject) where closed_at is null;
comment on table eve.alerts is 'What a person should look at: opened once, closed when it is over.';
comment on column eve.alerts.subject is 'What it is about: a key, a model, a table. Open alerts are unique by kind and subject.';
comment on column eve.alerts.details is 'The figures behind the message.';
comment on column eve.alerts.kind is 'Described in eve.alert_kinds.';
comment on column eve.alerts.severity is 'info: good to know. warning: look today. critical: callers are being refused or soon will be.';
comment on column eve.alerts.last_seen_at is 'When it was last found to be so.';
create index if not exists alerts_closed_at_idx on eve.alerts (closed_at);

-- No foreign key to eve.alerts, so that an operator may truncate that one; a trigger takes the rows of a deleted alert away.
create table if not exists eve.alert_deliveries (
  id bigint generated always as identity primary key,
  alert_id bigint not null,
  channel text not null,
  event text not null,
  state text not null default 'pending',
  attempts integer not null default 0,
  next_try_at timestamptz not null,
  claimed_until timestamptz,
  sent_at timestamptz,
  last_error text,
  constraint alert_deliveries_alert_id_channel_event_key unique (alert_id, channel, event),
  constraint alert_deliveries_channel_known check (channel in ('telegram', 'webhook')),
  constraint alert_deliveries_event_known check (event in ('opened', 'closed')),
  constraint alert_deliveries_state_known check (state in ('pending', 'sent', 'given_up'))
);
create index if not exists alert_deliveries_pending_idx on eve.alert_deliveries (channel, next_try_at) where state = 'pending';
comment on table eve.alert_deliveries is 'What has been sent to whom: one row per alert, channel and event.';
comment on column eve.alert_deliveries.attempts is 'Tries so far, the one under way included.';
comment on column eve.alert_deliveries.claimed_until is 'Somebody is telling it; after this time they are taken to have died.';
comment on column eve.alert_deliveries.last_error is 'Why the last try failed. Holds no secret.';

create table if not exists eve.alert_channels (
  channel text primary key,
  claimed_at timestamptz not null,
  constraint alert_channels_channel_known check (channel in ('telegram', 'webhook'))
);
comment on table eve.alert_channels is 'When the function maintenance, which alone knows what channels are set up, last asked for messages for each.';

create table if not exists eve.maintenance_expected (
  operation text primary key,
  within_s integer not null,
  since timestamptz not null default now(),
  constraint maintenance_expected_within_positive check (within_s > 0)
);
comment on table eve.maintenance_expected is 'Operations that have to run; an alert opens when one that is active and scheduled has not. Delete a row to expect it no longer.';
comment on column eve.maintenance_expected.operation is 'As in eve.operations.';
comment on column eve.maintenance_expected.within_s is 'Seconds from the start of one run to the start of the next, with time to spare: some runs may be lost, and a day has 25 hours at times.';
comment on column eve.maintenance_expected.since is 'Expected since: nothing is missing before it could have run.';
insert into eve.maintenance_expected (operation, within_s) values
  ('sweep', 900),
  ('alerts', 900),
  ('rollup', 3600),
  ('key_health', 5400),
  ('retention', 14400),
  ('models_sync', 50400),
  ('providers_sync', 108000),
  ('report', 108000)
on conflict (operation) do nothing;

create table if not exists eve.metric_sources (
  source text primary key,
  counted_until timestamptz not null,
  looked_at timestamptz not null,
  snapshot pg_snapshot not null,
  constraint metric_sources_source_known check (source in ('requests', 'refusals'))
);
comment on table eve.metric_sources is 'How far the audit has been counted into eve.metric_counters and eve.metric_histograms.';
comment on column eve.metric_sources.counted_until is 'Rows dated later have not been counted. It never goes back, whatever the clock does.';
comment on column eve.metric_sources.looked_at is 'The clock when somebody last looked: rows that have come since are not much older.';
comment on column eve.metric_sources.snapshot is 'Of rows dated up to counted_until, those that this snapshot saw have been counted.';

create table if not exists eve.metric_counters (
  metric text not null,
  labels jsonb not null,
  value double precision not null,
  primary key (metric, labels)
);
comment on table eve.metric_counters is 'Sums since the gateway was installed, by metric and labels. They only grow.';

create table if not exists eve.metric_histograms (
  metric text not null,
  labels jsonb not null,
  counts bigint[] not null,
  total double precision not null,
  primary key (metric, labels)
);
comment on table eve.metric_histograms is 'Distributions since the gateway was installed. They only grow.';
comment on column eve.metric_histograms.counts is 'Observations per bucket, the last one being those above every bound of eve.metric_bounds.';
comment on column eve.metric_histograms.total is 'Sum of what was observed.';

create table if not exists eve.metric_consumers (
  name text primary key,
  since timestamptz not null default now()
);
comment on table eve.metric_consumers is 'Consumers that have time series of their own; those who come when there are metrics_consumers of them are counted as "other".';

create table if not exists eve.clock_watch (
  id boolean primary key default true,
  seen_ms bigint not null,
  jumps integer not null default 0,
  last_jump_ms bigint,
  last_jump_at timestamptz,
  ahead_ms bigint not null default 0,
  refusal_id bigint not null default 0,
  request_no bigint not null default 0,
  constraint clock_watch_one_row check (id)
);
comment on table eve.clock_watch is 'The last time that the sweep saw on the database''s clock: one row.';
comment on column eve.clock_watch.seen_ms is 'Milliseconds since 1970.';
comment on column eve.clock_watch.jumps is 'How often the clock has gone back by more than a second; last_jump_ms: by how much the last time.';
comment on column eve.clock_watch.ahead_ms is 'The latest moment that the last jump was noticed by. Rows of the audit up to it are behind us, if they have these numbers or lower.';
