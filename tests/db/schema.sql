-- What the migrations make, for reviewers: a change of the schema shows here. Function bodies are in the migrations.
-- Compared by schema.test.ts; written anew, on purpose, by: npm test -- tests/db/schema.test.ts -u

create sequence eve.operation_run as bigint start 1 increment 1 cache 1;
comment on sequence eve.operation_run is 'Numbers the runs of operations.';

create sequence eve.request_no as bigint start 1 increment 1 cache 32;
comment on sequence eve.request_no is 'Numbers requests in the order they were admitted (nearly: each connection takes 32 at a time).';

create table eve.access_log (
  id bigint not null generated always as identity (cache 32),
  at timestamp with time zone not null,
  event text not null,
  consumer_id uuid,
  consumer_name text,
  token_id uuid,
  address text,
  details jsonb not null default '{}'::jsonb,
  constraint access_log_event_known CHECK ((event = ANY (ARRAY['consumer_added'::text, 'consumer_rotated'::text, 'consumer_enabled'::text, 'consumer_disabled'::text, 'consumer_removed'::text, 'consumer_scoped'::text, 'token_issued'::text, 'token_revoked'::text]))),
  constraint access_log_pkey PRIMARY KEY (id)
);
alter table eve.access_log enable row level security;
CREATE INDEX access_log_at_idx ON eve.access_log USING brin (at);
comment on table eve.access_log is 'Audit: what was done to consumers and tokens. What they were used for is in eve.requests and eve.refusals.';

create table eve.access_refusals (
  minute timestamp with time zone not null,
  place text not null,
  code text not null,
  address text not null,
  subject text not null,
  times integer not null default 1,
  constraint access_refusals_pkey PRIMARY KEY (minute, place, code, address, subject)
);
alter table eve.access_refusals enable row level security;
comment on table eve.access_refusals is 'Audit: credentials that were refused, counted per minute, network and consumer, so that a flood of them does not fill the disk.';
comment on column eve.access_refusals.address is 'Where it came from, as eve.network_of says; empty: unknown; others: all that came after the minute''s number of rows was used up.';
comment on column eve.access_refusals.subject is 'The consumer whose credential it claimed to be; empty: nobody''s.';

create table eve.adopted_rows (
  id bigint not null generated always as identity,
  source_table text not null,
  reason text not null,
  original jsonb not null,
  archived_at timestamp with time zone not null default now(),
  constraint adopted_rows_pkey PRIMARY KEY (id)
);
alter table eve.adopted_rows enable row level security;
comment on table eve.adopted_rows is 'Rows of hand-made tables as they were before adoption merged them, gave them another id, filled in their day or pointed them elsewhere.';
comment on column eve.adopted_rows.source_table is 'Name of the table, without its schema.';
comment on column eve.adopted_rows.original is 'The row as to_jsonb showed it.';

create table eve.adoption_warnings (
  id bigint not null generated always as identity,
  message text not null,
  warned_at timestamp with time zone not null default now(),
  constraint adoption_warnings_message_key UNIQUE (message),
  constraint adoption_warnings_pkey PRIMARY KEY (id)
);
alter table eve.adoption_warnings enable row level security;
comment on table eve.adoption_warnings is 'What adoption warned of: `supabase db push` shows no warnings, `npm run deploy` reads them here.';

create table eve.alert_deliveries (
  id bigint not null generated always as identity,
  alert_id bigint not null,
  channel text not null,
  event text not null,
  state text not null default 'pending'::text,
  attempts integer not null default 0,
  next_try_at timestamp with time zone not null,
  claimed_until timestamp with time zone,
  told_at timestamp with time zone,
  last_error text,
  constraint alert_deliveries_alert_id_channel_event_key UNIQUE (alert_id, channel, event),
  constraint alert_deliveries_channel_known CHECK ((channel = ANY (ARRAY['telegram'::text, 'webhook'::text]))),
  constraint alert_deliveries_event_known CHECK ((event = ANY (ARRAY['opened'::text, 'closed'::text]))),
  constraint alert_deliveries_pkey PRIMARY KEY (id),
  constraint alert_deliveries_state_known CHECK ((state = ANY (ARRAY['pending'::text, 'told'::text, 'given_up'::text])))
);
alter table eve.alert_deliveries enable row level security;
CREATE INDEX alert_deliveries_pending_idx ON eve.alert_deliveries USING btree (channel, next_try_at) WHERE (state = 'pending'::text);
comment on table eve.alert_deliveries is 'What has been told to whom: one row per alert, channel and event.';
comment on column eve.alert_deliveries.attempts is 'Tries so far, the one under way included.';
comment on column eve.alert_deliveries.claimed_until is 'Somebody is telling it; after this time he is taken to have died.';
comment on column eve.alert_deliveries.last_error is 'Why the last try failed. Holds no secret.';

create table eve.alert_kinds (
  kind text not null,
  title text not null,
  advice text not null,
  constraint alert_kinds_kind_form CHECK ((kind ~ '^[a-z][a-z0-9_]{1,62}$'::text)),
  constraint alert_kinds_pkey PRIMARY KEY (kind)
);
alter table eve.alert_kinds enable row level security;
comment on table eve.alert_kinds is 'What an alert can be about, in words for a person.';
comment on column eve.alert_kinds.title is 'The headline of a message.';
comment on column eve.alert_kinds.advice is 'What to do about it.';

create table eve.alerts (
  id bigint not null generated always as identity,
  kind text not null,
  subject text not null,
  severity text not null,
  message text not null,
  opened_at timestamp with time zone not null default now(),
  last_seen_at timestamp with time zone not null default now(),
  closed_at timestamp with time zone,
  details jsonb not null default '{}'::jsonb,
  constraint alerts_kind_form CHECK ((kind ~ '^[a-z][a-z0-9_]{1,62}$'::text)),
  constraint alerts_pkey PRIMARY KEY (id),
  constraint alerts_severity_known CHECK ((severity = ANY (ARRAY['info'::text, 'warning'::text, 'critical'::text])))
);
alter table eve.alerts enable row level security;
CREATE INDEX alerts_closed_at_idx ON eve.alerts USING btree (closed_at);
CREATE UNIQUE INDEX alerts_open_kind_subject_key ON eve.alerts USING btree (kind, subject) WHERE (closed_at IS NULL);
CREATE TRIGGER eve_alert_deleted AFTER DELETE ON eve.alerts FOR EACH ROW EXECUTE FUNCTION eve.alert_deleted(); -- enabled
comment on table eve.alerts is 'What a person should look at: opened once, closed when it is over.';
comment on column eve.alerts.kind is 'Described in eve.alert_kinds.';
comment on column eve.alerts.subject is 'What it is about: a key, a model, a table. Open alerts are unique by kind and subject.';
comment on column eve.alerts.severity is 'info: good to know. warning: look today. critical: callers are being refused or soon will be.';
comment on column eve.alerts.last_seen_at is 'When it was last found to be so.';
comment on column eve.alerts.details is 'The figures behind the message.';

create table eve.attempts (
  request_no bigint not null,
  attempt smallint not null,
  lane_id bigint not null,
  key_id uuid not null,
  model text not null,
  class text not null,
  start_ms bigint not null,
  bucket_ms bigint not null,
  tokens_booked bigint not null,
  input_tokens integer,
  output_tokens integer,
  thoughts_tokens integer,
  cached_tokens integer,
  total_tokens integer,
  usage_estimated boolean not null default false,
  outcome text not null,
  dispatched boolean not null,
  upstream_status integer,
  error_code text,
  error_detail text,
  finish_reason text,
  latency_ms integer,
  settled_at timestamp with time zone not null,
  constraint attempts_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint attempts_outcome_known CHECK ((outcome = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text]))),
  constraint attempts_pkey PRIMARY KEY (request_no, attempt)
);
alter table eve.attempts enable row level security;
CREATE INDEX attempts_settled_at_idx ON eve.attempts USING brin (settled_at) WITH (autosummarize='on');
CREATE INDEX attempts_start_ms_idx ON eve.attempts USING brin (start_ms) WITH (autosummarize='on');
CREATE TRIGGER attempts_settled_late AFTER UPDATE OF outcome ON eve.attempts FOR EACH ROW WHEN (((old.outcome = 'expired'::text) AND (new.outcome <> 'expired'::text) AND (new.input_tokens IS NOT NULL))) EXECUTE FUNCTION eve.correct_usage(); -- enabled
comment on table eve.attempts is 'Audit: every reservation that ended, and how. Written once, when it is settled or has expired.';
comment on column eve.attempts.start_ms is 'When upstream was to be called: milliseconds since 1970, the database''s clock.';
comment on column eve.attempts.tokens_booked is 'Input tokens reserved; input_tokens are the real ones.';
comment on column eve.attempts.usage_estimated is 'True where upstream did not say what it counted.';
comment on column eve.attempts.dispatched is 'False: upstream was never called, and the start was given back.';
comment on column eve.attempts.latency_ms is 'From the call to upstream until its answer had come whole.';

create table eve.bad_requests (
  minute timestamp with time zone not null,
  code text not null,
  subject text not null,
  times bigint not null,
  constraint bad_requests_pkey PRIMARY KEY (minute, code, subject)
);
alter table eve.bad_requests enable row level security;
comment on table eve.bad_requests is 'Requests that were refused for what they are (400, 404, 405, 408, 413), by minute, code and consumer.';
comment on column eve.bad_requests.subject is 'The consumer''s name; project: the project''s own key; empty: nobody had been recognised yet.';

create table eve.captures (
  request_no bigint not null,
  prompt jsonb not null,
  answer jsonb,
  captured_at timestamp with time zone not null default now(),
  constraint captures_pkey PRIMARY KEY (request_no)
);
alter table eve.captures enable row level security;
CREATE INDEX captures_captured_at_idx ON eve.captures USING brin (captured_at);
comment on table eve.captures is 'Prompts and answers, for debugging. Only of requests that asked for it, or whose consumer''s row does.';
comment on column eve.captures.prompt is 'As the model got it. Above 256 KiB: {"truncated": true, "bytes": n, "head": its first 65,536 characters}.';
comment on column eve.captures.answer is 'As the model gave it, capped like the prompt.';

create table eve.clock_watch (
  id boolean not null default true,
  seen_ms bigint not null,
  jumps integer not null default 0,
  last_jump_ms bigint,
  last_jump_at timestamp with time zone,
  ahead_ms bigint not null default 0,
  refusal_id bigint not null default 0,
  request_no bigint not null default 0,
  constraint clock_watch_one_row CHECK (id),
  constraint clock_watch_pkey PRIMARY KEY (id)
);
alter table eve.clock_watch enable row level security;
comment on table eve.clock_watch is 'The last time that the sweep saw on the database''s clock: one row.';
comment on column eve.clock_watch.seen_ms is 'Milliseconds since 1970.';
comment on column eve.clock_watch.jumps is 'How often the clock has gone back by more than a second; last_jump_ms: by how much the last time.';
comment on column eve.clock_watch.ahead_ms is 'The latest moment that the last jump was noticed by. Rows of the audit up to it are behind us, if they have these numbers or lower.';

create table eve.consumer_days (
  consumer_id uuid not null,
  day date not null,
  requests integer not null default 0,
  tokens bigint not null default 0,
  constraint consumer_days_consumer_id_fkey FOREIGN KEY (consumer_id) REFERENCES eve.consumers(id) ON DELETE CASCADE,
  constraint consumer_days_pkey PRIMARY KEY (consumer_id, day)
) with (fillfactor=50);
alter table eve.consumer_days enable row level security;
comment on table eve.consumer_days is 'What a consumer with a budget has spent in a Pacific day.';
comment on column eve.consumer_days.day is 'The day in America/Los_Angeles.';
comment on column eve.consumer_days.tokens is 'Input and output tokens; the estimate of the input while a call runs.';

create table eve.consumer_minutes (
  consumer_id uuid not null,
  second bigint not null,
  starts integer[] not null,
  constraint consumer_minutes_consumer_id_fkey FOREIGN KEY (consumer_id) REFERENCES eve.consumers(id) ON DELETE CASCADE,
  constraint consumer_minutes_pkey PRIMARY KEY (consumer_id)
) with (fillfactor=50);
alter table eve.consumer_minutes enable row level security;
comment on table eve.consumer_minutes is 'Requests of a consumer with an rpm in the last 61 seconds: a ring, the second modulo 61, up to the column second.';

create table eve.consumers (
  id uuid not null default gen_random_uuid(),
  name text not null,
  kind text not null,
  secret_hash text,
  previous_secret_hash text,
  previous_secret_until timestamp with time zone,
  models text[],
  max_class text not null default 'interactive'::text,
  requests_per_day integer,
  tokens_per_day bigint,
  capture boolean not null default false,
  is_active boolean not null default true,
  created_at timestamp with time zone not null default now(),
  key_id text,
  rpm integer,
  token_ttl_s integer not null default 7200,
  secret_changed_at timestamp with time zone,
  constraint consumers_budgets_positive CHECK (((requests_per_day >= 0) AND (tokens_per_day >= 0))),
  constraint consumers_key_id_form CHECK ((key_id ~ '^[0-9a-f]{16}$'::text)),
  constraint consumers_kind_known CHECK ((kind = ANY (ARRAY['project'::text, 'service'::text, 'notebook'::text]))),
  constraint consumers_max_class_known CHECK ((max_class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint consumers_name_key UNIQUE (name),
  constraint consumers_pkey PRIMARY KEY (id),
  constraint consumers_rpm_positive CHECK ((rpm > 0)),
  constraint consumers_token_ttl_range CHECK (((token_ttl_s >= 60) AND (token_ttl_s <= 86400)))
);
alter table eve.consumers enable row level security;
CREATE UNIQUE INDEX consumers_key_id_key ON eve.consumers USING btree (key_id);
comment on table eve.consumers is 'Who calls. A secret is kept as a hash only.';
comment on column eve.consumers.kind is 'project: the project''s own secret key. service: calls with a key of its own. notebook: exchanges its secret for scoped tokens.';
comment on column eve.consumers.secret_hash is 'SHA-256, in hex, over the proof of the secret (see eve.secret_hash).';
comment on column eve.consumers.previous_secret_hash is 'Accepted until previous_secret_until, so that a secret can be changed without a gap.';
comment on column eve.consumers.previous_secret_until is 'After a rotation the secret before it is valid until then.';
comment on column eve.consumers.models is 'Models it may call; null: all.';
comment on column eve.consumers.max_class is 'The highest traffic class it gets; batch turns its interactive requests into batch.';
comment on column eve.consumers.requests_per_day is 'Requests a Pacific day, however many attempts each takes; null: no budget.';
comment on column eve.consumers.tokens_per_day is 'Input and output tokens a Pacific day; null: no budget.';
comment on column eve.consumers.capture is 'Whether what it asks and gets may be kept.';
comment on column eve.consumers.key_id is 'The public part of its secret, by which it is found.';
comment on column eve.consumers.rpm is 'Requests it may begin in any minute; null: no limit of its own.';
comment on column eve.consumers.token_ttl_s is 'The longest life of a token issued to it, in seconds: 60 to 86400.';

create table eve.inflight (
  request_no bigint not null,
  consumer_id uuid not null,
  request_id text not null,
  token_id uuid,
  class text not null,
  door text not null,
  requested_model text not null,
  model text not null,
  attempt smallint not null,
  state text not null,
  lane_id bigint not null,
  key_id uuid not null,
  start_ms bigint not null,
  bucket_ms bigint not null,
  day_ends_ms bigint not null,
  tokens bigint not null,
  estimated_tokens integer not null default 0,
  queued_ms bigint,
  any_lane boolean not null default true,
  lease_until timestamp with time zone not null,
  received_at timestamp with time zone not null,
  wait_ms bigint not null,
  trace_id text,
  metadata jsonb not null,
  request_hash text,
  call_id uuid,
  constraint inflight_consumer_id_request_id_key UNIQUE (consumer_id, request_id),
  constraint inflight_pkey PRIMARY KEY (request_no)
) with (fillfactor=70, autovacuum_vacuum_scale_factor=0.05, autovacuum_vacuum_cost_delay=0);
alter table eve.inflight enable row level security;
CREATE INDEX inflight_lane_id_lease_until_idx ON eve.inflight USING btree (lane_id, lease_until);
CREATE INDEX inflight_waiting_idx ON eve.inflight USING btree (model, queued_ms, request_no) WHERE (state = 'waiting'::text);
comment on table eve.inflight is 'Requests that are running: one row each, with the reservation of the current attempt. Small, whatever the audit''s size.';
comment on column eve.inflight.requested_model is 'The model asked for; model is the one that serves.';
comment on column eve.inflight.state is 'reserved: an attempt holds a slot. waiting: batch that stands in line and holds none yet. between: the last attempt has failed, the next has not been reserved.';
comment on column eve.inflight.start_ms is 'The start that the caller was told, in milliseconds since 1970; bucket_ms: the bucket it is booked in.';
comment on column eve.inflight.day_ends_ms is 'The Pacific midnight that ended the lane''s day at the time of booking: which count to give it back to.';
comment on column eve.inflight.tokens is 'Input tokens booked, after the model''s factor.';
comment on column eve.inflight.estimated_tokens is 'The caller''s estimate before the model''s factor: what the factor is learned from.';
comment on column eve.inflight.queued_ms is 'When batch that waits came, in milliseconds since 1970: its place in line. start_ms is then when it is to ask again.';
comment on column eve.inflight.any_lane is 'Whether batch that waits may start on any lane of its model; false: some of its keys are excluded, and it waits for this one.';
comment on column eve.inflight.lease_until is 'Not settled by then: the caller has died, and the row is closed as expired.';
comment on column eve.inflight.wait_ms is 'Milliseconds that its attempts waited for their starts, together.';
comment on column eve.inflight.request_hash is 'Tells a repetition of a request from another request with the same id.';
comment on column eve.inflight.call_id is 'Which call of eve_reserve made the reservation of the current attempt: by it eve_give_back knows its own.';

create table eve.issue_windows (
  subject text not null,
  minute bigint not null,
  used integer not null,
  used_before integer not null,
  constraint issue_windows_pkey PRIMARY KEY (subject)
) with (fillfactor=70);
alter table eve.issue_windows enable row level security;
CREATE INDEX issue_windows_minute_idx ON eve.issue_windows USING btree (minute);
comment on table eve.issue_windows is 'Tokens asked for, and wrong credentials sent, in this minute and the one before: per network and per consumer.';

create table eve.job_contents (
  job_id uuid not null,
  mime_type text not null,
  content bytea not null,
  constraint job_contents_job_id_fkey FOREIGN KEY (job_id) REFERENCES eve.jobs(id) ON DELETE CASCADE,
  constraint job_contents_pkey PRIMARY KEY (job_id),
  constraint job_contents_size CHECK ((octet_length(content) <= 8388608))
);
alter table eve.job_contents enable row level security;
comment on table eve.job_contents is 'Files of providers that answer with the file itself. At most 8 MiB each.';

create table eve.jobs (
  id uuid not null,
  stage_type text not null,
  provider_kind text not null,
  model text not null,
  key_name text not null,
  settings jsonb not null default '{}'::jsonb,
  consumer_id uuid,
  request_id text not null,
  request_no bigint not null,
  state text not null default 'submitting'::text,
  upstream_id text,
  result jsonb,
  error_code text,
  error_detail text,
  submitted_at timestamp with time zone not null default now(),
  checked_at timestamp with time zone,
  finished_at timestamp with time zone,
  expires_at timestamp with time zone,
  constraint jobs_error_given CHECK (((state <> 'failed'::text) OR (error_code IS NOT NULL))),
  constraint jobs_pkey PRIMARY KEY (id),
  constraint jobs_result_given CHECK (((state <> 'succeeded'::text) OR (result IS NOT NULL))),
  constraint jobs_state_known CHECK ((state = ANY (ARRAY['submitting'::text, 'running'::text, 'succeeded'::text, 'failed'::text]))),
  constraint jobs_upstream_named CHECK (((state <> 'running'::text) OR (upstream_id IS NOT NULL)))
);
alter table eve.jobs enable row level security;
CREATE INDEX jobs_submitted_at_idx ON eve.jobs USING btree (submitted_at);
comment on table eve.jobs is 'Speech, songs and videos that are being made or have been. It has no foreign keys: it outlives what it names.';
comment on column eve.jobs.key_name is 'The env_var_name of the key that submitted it: it is asked about with the same key.';
comment on column eve.jobs.settings is 'Those of the provider when it was submitted.';
comment on column eve.jobs.consumer_id is 'Whose it is; null: the project''s own.';
comment on column eve.jobs.upstream_id is 'By which the provider knows it.';
comment on column eve.jobs.result is 'Files with their addresses and types.';
comment on column eve.jobs.expires_at is 'From then on the provider may have deleted the files.';

create table eve.key_checks (
  key_id uuid not null,
  checked_at timestamp with time zone not null,
  outcome text not null,
  reason text,
  detail text,
  works_since timestamp with time zone,
  models_listed_at timestamp with time zone,
  constraint key_checks_outcome_known CHECK ((outcome = ANY (ARRAY['works'::text, 'rejected'::text, 'secret_missing'::text, 'unclear'::text]))),
  constraint key_checks_pkey PRIMARY KEY (key_id)
);
alter table eve.key_checks enable row level security;
comment on table eve.key_checks is 'What the last check of each key found.';
comment on column eve.key_checks.outcome is 'unclear: upstream could not be asked, or said nothing about the key.';
comment on column eve.key_checks.works_since is 'Since when every check has found it working; null: the last one did not.';

create table eve.key_model_blocks (
  key_id uuid not null,
  model text not null,
  blocked_until timestamp with time zone not null,
  reason text not null,
  created_at timestamp with time zone not null default now(),
  constraint key_model_blocks_pkey PRIMARY KEY (key_id, model)
);
alter table eve.key_model_blocks enable row level security;
CREATE TRIGGER drop_routes AFTER INSERT OR DELETE OR UPDATE ON eve.key_model_blocks FOR EACH ROW EXECUTE FUNCTION eve.drop_routes(); -- enabled
CREATE TRIGGER drop_routes_truncated AFTER TRUNCATE ON eve.key_model_blocks FOR EACH STATEMENT EXECUTE FUNCTION eve.drop_routes(); -- enabled
comment on table eve.key_model_blocks is 'A key that may not be used for one model: the model is not on its project, or the project has no quota for it.';

create table eve.key_models (
  key_id uuid not null,
  model text not null,
  first_listed_at timestamp with time zone not null,
  last_listed_at timestamp with time zone not null,
  vanished_at timestamp with time zone,
  constraint key_models_pkey PRIMARY KEY (key_id, model)
);
alter table eve.key_models enable row level security;
comment on table eve.key_models is 'The models that upstream lists for each key, and those it used to list.';
comment on column eve.key_models.vanished_at is 'When it was first missing from the list; null: it is on it.';

create table eve.lane_buckets (
  lane_id bigint not null,
  at_ms bigint not null,
  starts integer not null,
  tokens bigint not null,
  batch_starts integer not null,
  batch_tokens bigint not null,
  constraint lane_buckets_pkey PRIMARY KEY (lane_id, at_ms)
) with (fillfactor=70, autovacuum_vacuum_scale_factor=0.05, autovacuum_vacuum_cost_delay=0);
alter table eve.lane_buckets enable row level security;
comment on table eve.lane_buckets is 'Starts and input tokens of a lane at an instant: a millisecond on lanes of up to 600 starts a minute, a tenth of a second on faster ones.';
comment on column eve.lane_buckets.at_ms is 'The end of the bucket, in milliseconds since 1970.';
comment on column eve.lane_buckets.batch_starts is 'Those of starts that were batch; batch_tokens likewise.';

create table eve.lanes (
  id bigint not null generated always as identity,
  quota_project text not null,
  model text not null,
  blocked_until timestamp with time zone,
  blocked_reason text,
  interactive_tail_ms bigint not null default 0,
  batch_start_ms bigint not null default 0,
  pace_ms bigint not null default 0,
  token_pace_ms bigint not null default 0,
  day_ends_ms bigint not null default 0,
  day_starts integer not null default 0,
  day_batch_starts integer not null default 0,
  next_day_starts integer not null default 0,
  next_day_batch_starts integer not null default 0,
  span_number bigint not null default 0,
  span_starts bigint not null default 0,
  span_tokens bigint not null default 0,
  previous_span_starts bigint not null default 0,
  previous_span_tokens bigint not null default 0,
  turns bigint not null default 0,
  next_lease_ms bigint not null default 0,
  constraint lanes_pkey PRIMARY KEY (id),
  constraint lanes_quota_project_model_key UNIQUE (quota_project, model)
) with (fillfactor=50, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0);
alter table eve.lanes enable row level security;
comment on table eve.lanes is 'A lane is what Google counts by: one quota project and one model. Taken for update by every booking. Times are milliseconds since 1970 of the database''s clock.';
comment on column eve.lanes.quota_project is 'As in google_ai_api_keys.quota_key.';
comment on column eve.lanes.blocked_until is 'No start before this time, because upstream said so; infinity: until a person unblocks it.';
comment on column eve.lanes.interactive_tail_ms is 'Start of the last interactive booking: the next one of that class does not start before it.';
comment on column eve.lanes.batch_start_ms is 'Start of the last batch call.';
comment on column eve.lanes.pace_ms is 'Batch that competes for the lanes of this model starts no earlier: one start interval of all of them after the start before. token_pace_ms: the same for input tokens. The latest of the model''s lanes counts.';
comment on column eve.lanes.day_ends_ms is 'The next midnight in America/Los_Angeles, as of the last booking.';
comment on column eve.lanes.day_starts is 'Starts booked in the Pacific day that ends at day_ends_ms; next_day_starts: in the day after it.';
comment on column eve.lanes.day_batch_starts is 'Those of day_starts that were batch; next_day_batch_starts likewise.';
comment on column eve.lanes.span_number is 'Number of the 65,536 ms span of the last booking. Two spans cover any window, so if their sum fits, the window does.';
comment on column eve.lanes.span_starts is 'Starts and tokens of that span; previous_span_*: of everything booked before it that may still count.';
comment on column eve.lanes.turns is 'Bookings ever made: keys that share a lane take turns by it.';
comment on column eve.lanes.next_lease_ms is 'No reservation of the lane runs out before this time (milliseconds since 1970), so nobody has to look for one that has.';

create table eve.maintenance_expected (
  operation text not null,
  within_s integer not null,
  since timestamp with time zone not null default now(),
  constraint maintenance_expected_pkey PRIMARY KEY (operation),
  constraint maintenance_expected_within_positive CHECK ((within_s > 0))
);
alter table eve.maintenance_expected enable row level security;
comment on table eve.maintenance_expected is 'Operations that have to run; an alert opens when one that is active and scheduled has not. Delete a row to expect it no longer.';
comment on column eve.maintenance_expected.operation is 'As in eve.operations.';
comment on column eve.maintenance_expected.within_s is 'Seconds from the start of one run to the start of the next, with time to spare: some runs may be lost, and a day has 25 hours at times.';
comment on column eve.maintenance_expected.since is 'Expected since: nothing is missing before it could have run.';

create table eve.metric_consumers (
  name text not null,
  since timestamp with time zone not null default now(),
  constraint metric_consumers_pkey PRIMARY KEY (name)
);
alter table eve.metric_consumers enable row level security;
comment on table eve.metric_consumers is 'Consumers that have time series of their own; those who come when there are metrics_consumers of them are counted as "other".';

create table eve.metric_counters (
  metric text not null,
  labels jsonb not null,
  value double precision not null,
  constraint metric_counters_pkey PRIMARY KEY (metric, labels)
);
alter table eve.metric_counters enable row level security;
comment on table eve.metric_counters is 'Sums since the gateway was installed, by metric and labels. They only grow.';

create table eve.metric_histograms (
  metric text not null,
  labels jsonb not null,
  counts bigint[] not null,
  total double precision not null,
  constraint metric_histograms_pkey PRIMARY KEY (metric, labels)
);
alter table eve.metric_histograms enable row level security;
comment on table eve.metric_histograms is 'Distributions since the gateway was installed. They only grow.';
comment on column eve.metric_histograms.counts is 'Observations per bucket, the last one being those above every bound of eve.metric_bounds.';
comment on column eve.metric_histograms.total is 'Sum of what was observed.';

create table eve.metric_sources (
  source text not null,
  counted_until timestamp with time zone not null,
  looked_at timestamp with time zone not null,
  snapshot pg_snapshot not null,
  constraint metric_sources_pkey PRIMARY KEY (source),
  constraint metric_sources_source_known CHECK ((source = ANY (ARRAY['requests'::text, 'refusals'::text])))
);
alter table eve.metric_sources enable row level security;
comment on table eve.metric_sources is 'How far the audit has been counted into eve.metric_counters and eve.metric_histograms.';
comment on column eve.metric_sources.counted_until is 'Rows dated later have not been counted. It never goes back, whatever the clock does.';
comment on column eve.metric_sources.looked_at is 'The clock when somebody last looked: rows that have come since are not much older.';
comment on column eve.metric_sources.snapshot is 'Of rows dated up to counted_until, those that this snapshot saw have been counted.';

create table eve.operations (
  name text not null,
  runs_in text not null,
  schedule text,
  is_active boolean not null default true,
  time_limit_ms integer not null,
  description text not null,
  run_id bigint,
  log_id bigint,
  source text,
  started_at timestamp with time zone,
  ends_at timestamp with time zone,
  lease_until timestamp with time zone,
  tables text[] not null default '{}'::text[],
  done_count bigint not null default 0,
  details jsonb not null default '{}'::jsonb,
  state jsonb not null default '{}'::jsonb,
  last_status text,
  last_error text,
  last_started_at timestamp with time zone,
  last_completed_at timestamp with time zone,
  last_succeeded_at timestamp with time zone,
  constraint operations_last_status_known CHECK ((last_status = ANY (ARRAY['succeeded'::text, 'failed'::text]))),
  constraint operations_pkey PRIMARY KEY (name),
  constraint operations_runs_in_known CHECK ((runs_in = ANY (ARRAY['sql'::text, 'http'::text]))),
  constraint operations_time_limit_range CHECK (((time_limit_ms >= 1000) AND (time_limit_ms <= 120000)))
) with (fillfactor=50);
alter table eve.operations enable row level security;
CREATE UNIQUE INDEX operations_run_id_key ON eve.operations USING btree (run_id);
comment on table eve.operations is 'What maintenance does, how often, and where it stands. The history is in public.google_ai_maintenance_log.';
comment on column eve.operations.runs_in is 'sql: cron runs it in the database. http: cron asks the function maintenance for it.';
comment on column eve.operations.schedule is 'When, as five fields of cron, in UTC; null: only when asked for. A change takes effect with public.eve_schedule().';
comment on column eve.operations.time_limit_ms is 'A run ends in order after so many milliseconds, and the next one goes on: 1000 to 120000.';
comment on column eve.operations.run_id is 'The run that is on; null: none. What follows up to state is about that run.';
comment on column eve.operations.log_id is 'Its row in public.google_ai_maintenance_log.';
comment on column eve.operations.source is 'Who asked for it: cron, http or call.';
comment on column eve.operations.ends_at is 'When the run''s time is up; lease_until: when it is given up for dead.';
comment on column eve.operations.tables is 'Tables changed so far; done_count: rows, details: facts for the log.';
comment on column eve.operations.state is 'How far it has come.';
comment on column eve.operations.last_status is 'How the last run ended that was not skipped: succeeded or failed.';

create table eve.provider_history (
  id bigint not null generated always as identity,
  at timestamp with time zone not null default now(),
  stage_type text not null,
  event text not null,
  actor text not null,
  before jsonb,
  after jsonb,
  constraint provider_history_event_known CHECK ((event = ANY (ARRAY['created'::text, 'changed'::text, 'status_changed'::text, 'model_vanished'::text, 'reencrypted'::text, 'removed'::text]))),
  constraint provider_history_pkey PRIMARY KEY (id)
);
alter table eve.provider_history enable row level security;
CREATE INDEX provider_history_stage_type_idx ON eve.provider_history USING btree (stage_type, id);
comment on table eve.provider_history is 'Audit: each change of a stage, before and after, without the key.';
comment on column eve.provider_history.event is 'model_vanished: the gateway took another model because the provider no longer has the chosen one.';

create table eve.provider_kinds (
  kind text not null,
  title text not null,
  produces text not null,
  provider text not null,
  shares_keys boolean not null default false,
  supports_system boolean not null default true,
  supports_json boolean not null default false,
  supports_tools boolean not null default false,
  constraint provider_kinds_kind_form CHECK ((kind ~ '^[a-z][a-z0-9_]{0,31}$'::text)),
  constraint provider_kinds_kind_produces_key UNIQUE (kind, produces),
  constraint provider_kinds_pkey PRIMARY KEY (kind),
  constraint provider_kinds_produces_known CHECK ((produces = ANY (ARRAY['text'::text, 'speech'::text, 'song'::text, 'video'::text])))
);
alter table eve.provider_kinds enable row level security;
comment on table eve.provider_kinds is 'The kinds of providers that the gateway can speak to.';
comment on column eve.provider_kinds.produces is 'What comes out: text at once, everything else as a job.';
comment on column eve.provider_kinds.provider is 'As in the provider column of google_ai_api_keys and google_ai_model_limits.';
comment on column eve.provider_kinds.shares_keys is 'True: a stage needs no key of its own, the pool''s keys serve it.';
comment on column eve.provider_kinds.supports_system is 'What is assumed of a model that has no row yet; supports_json and supports_tools likewise.';

create table eve.quota_overrides (
  quota_project text not null,
  model text not null,
  rpm integer,
  tpm integer,
  rpd integer,
  notes text,
  updated_at timestamp with time zone not null default now(),
  constraint quota_overrides_limits_positive CHECK (((rpm >= 0) AND (tpm >= 0) AND (rpd >= 0))),
  constraint quota_overrides_pkey PRIMARY KEY (quota_project, model)
);
alter table eve.quota_overrides enable row level security;
CREATE TRIGGER drop_routes AFTER INSERT OR DELETE OR UPDATE ON eve.quota_overrides FOR EACH ROW EXECUTE FUNCTION eve.drop_routes(); -- enabled
CREATE TRIGGER drop_routes_truncated AFTER TRUNCATE ON eve.quota_overrides FOR EACH STATEMENT EXECUTE FUNCTION eve.drop_routes(); -- enabled
comment on table eve.quota_overrides is 'Limits of one quota project that differ from the model''s row (another tier). The whole row replaces it; null is unlimited.';
comment on column eve.quota_overrides.quota_project is 'As in google_ai_api_keys.quota_key.';
comment on column eve.quota_overrides.rpm is 'Requests a minute; tpm: input tokens a minute; rpd: requests a Pacific day.';

create table eve.refusals (
  id bigint not null generated always as identity (cache 32),
  refused_at timestamp with time zone not null,
  consumer_id uuid,
  token_id uuid,
  request_id text not null,
  attempt smallint not null,
  class text not null,
  door text not null,
  model text not null,
  code text not null,
  limit_name text,
  tokens bigint not null,
  retry_after_ms bigint,
  trace_id text,
  constraint refusals_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint refusals_pkey PRIMARY KEY (id)
);
alter table eve.refusals enable row level security;
CREATE INDEX refusals_refused_at_idx ON eve.refusals USING brin (refused_at) WITH (autosummarize='on');
CREATE INDEX refusals_request_id_idx ON eve.refusals USING hash (request_id);
comment on table eve.refusals is 'Audit: every reservation that was refused, why, and when it may come back.';
comment on column eve.refusals.limit_name is 'Which limit stood in the way: rpm, tpm, rpd, queue, blocked, or a budget.';
comment on column eve.refusals.tokens is 'Estimated input tokens, before the model''s factor.';
comment on column eve.refusals.retry_after_ms is 'When to come back, as it was told; null: coming back does not help.';

create table eve.rejected_secrets (
  key_id uuid not null,
  secret_hash text not null,
  rejected_at timestamp with time zone not null,
  constraint rejected_secrets_hash_form CHECK ((secret_hash ~ '^[0-9a-f]{64}$'::text)),
  constraint rejected_secrets_pkey PRIMARY KEY (key_id, secret_hash)
);
alter table eve.rejected_secrets enable row level security;
comment on table eve.rejected_secrets is 'Hashes of the secrets that upstream rejected while they were a key''s, 20 a key at most.';
comment on column eve.rejected_secrets.secret_hash is 'HMAC-SHA-256 of the secret, with the key''s id for the HMAC''s key, in hexadecimal.';

create table eve.request_results (
  request_no bigint not null,
  result jsonb not null,
  kept_at timestamp with time zone not null default now(),
  constraint request_results_pkey PRIMARY KEY (request_no)
);
alter table eve.request_results enable row level security;
CREATE INDEX request_results_kept_at_idx ON eve.request_results USING brin (kept_at);
comment on table eve.request_results is 'Answers kept so that a repeated request_id gets the same one. Only where the caller asked for it.';

create table eve.requests (
  request_no bigint not null,
  consumer_id uuid not null,
  request_id text not null,
  token_id uuid,
  class text not null,
  door text not null,
  requested_model text not null,
  model text not null,
  key_id uuid,
  state text not null,
  attempts smallint not null,
  wait_ms bigint not null,
  received_at timestamp with time zone not null,
  finished_at timestamp with time zone not null,
  input_tokens integer,
  output_tokens integer,
  total_tokens integer,
  error_code text,
  finish_reason text,
  trace_id text,
  metadata jsonb not null,
  request_hash text,
  constraint requests_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint requests_consumer_id_request_id_key UNIQUE (consumer_id, request_id),
  constraint requests_pkey PRIMARY KEY (request_no),
  constraint requests_state_known CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])))
);
alter table eve.requests enable row level security;
CREATE INDEX requests_finished_at_idx ON eve.requests USING brin (finished_at) WITH (autosummarize='on');
CREATE INDEX requests_received_at_idx ON eve.requests USING brin (received_at) WITH (autosummarize='on');
comment on table eve.requests is 'Audit: every request that ended. Those still running are in eve.inflight.';
comment on column eve.requests.key_id is 'The key of the last attempt.';
comment on column eve.requests.input_tokens is 'Of the last attempt, as are output_tokens and total_tokens; eve.attempts has them all.';

create table eve.retention (
  table_name text not null,
  keep interval,
  at_least interval not null,
  batch_rows integer not null default 2000,
  description text not null,
  constraint retention_batch_rows_range CHECK (((batch_rows >= 100) AND (batch_rows <= 50000))),
  constraint retention_keeps_what_still_counts CHECK ((keep >= at_least)),
  constraint retention_pkey PRIMARY KEY (table_name)
);
alter table eve.retention enable row level security;
comment on table eve.retention is 'How long each table keeps its rows. A change takes effect with the next run.';
comment on column eve.retention.keep is 'Older rows are deleted; null: none ever is.';
comment on column eve.retention.at_least is 'Within this age a row may still count towards a limit, a budget, a running request or a sum.';
comment on column eve.retention.batch_rows is 'Rows looked at in one transaction: 100 to 50000.';

create table eve.rollup_progress (
  only_row boolean not null default true,
  rolled_until timestamp with time zone,
  frozen_before timestamp with time zone,
  hours_frozen_before timestamp with time zone,
  constraint rollup_progress_has_one_row CHECK (only_row),
  constraint rollup_progress_pkey PRIMARY KEY (only_row)
);
alter table eve.rollup_progress enable row level security;
comment on table eve.rollup_progress is 'How far the sums have come. One row.';
comment on column eve.rollup_progress.rolled_until is 'Everything written to the audit before this time is in eve.usage_hours.';
comment on column eve.rollup_progress.frozen_before is 'Retention has been at the audit before this time, so hours before it are not summed anew.';
comment on column eve.rollup_progress.hours_frozen_before is 'The same for days, which are summed from eve.usage_hours.';

create table eve.routes (
  model text not null,
  lane_id bigint not null,
  served text not null,
  lanes bigint not null,
  stale_ms bigint not null,
  limits eve.lane_limits not null,
  bucket_ms integer not null,
  interval_ms double precision,
  token_ms double precision,
  estimate_ceiling double precision not null,
  even_share double precision not null,
  key_ids uuid[] not null,
  answers jsonb[] not null,
  constraint routes_pkey PRIMARY KEY (model, lane_id)
) with (fillfactor=50);
alter table eve.routes enable row level security;
comment on table eve.routes is 'Which lanes serve a model that is asked for, as far as that can be said beforehand: the lanes whose keys come first. Made from keys, models and limits, and dropped when one of them changes.';
comment on column eve.routes.model is 'The model asked for; served is the one that serves.';
comment on column eve.routes.lanes is 'How many lanes the model has here.';
comment on column eve.routes.stale_ms is 'Not believed from then on (milliseconds since 1970): a minute after it was made, or when the block of a key ends.';
comment on column eve.routes.bucket_ms is 'Width of the lane''s buckets.';
comment on column eve.routes.interval_ms is 'As in eve.pool_pace; token_ms likewise.';
comment on column eve.routes.even_share is 'Tokens a minute over requests a minute: above it tokens are what is scarce.';
comment on column eve.routes.key_ids is 'The lane''s keys, which take turns; answers has what a caller is told of each, apart from what differs from call to call.';

create table eve.scoped_tokens (
  id uuid not null default gen_random_uuid(),
  consumer_id uuid not null,
  models text[],
  class text not null default 'batch'::text,
  requests_budget integer,
  tokens_budget bigint,
  requests_used integer not null default 0,
  tokens_used bigint not null default 0,
  issued_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  revoked_at timestamp with time zone,
  address text,
  issued_for text,
  revoked_reason text,
  constraint scoped_tokens_budgets_positive CHECK (((requests_budget >= 0) AND (tokens_budget >= 0))),
  constraint scoped_tokens_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint scoped_tokens_consumer_id_fkey FOREIGN KEY (consumer_id) REFERENCES eve.consumers(id) ON DELETE CASCADE,
  constraint scoped_tokens_pkey PRIMARY KEY (id)
) with (fillfactor=50);
alter table eve.scoped_tokens enable row level security;
CREATE INDEX scoped_tokens_consumer_id_idx ON eve.scoped_tokens USING btree (consumer_id);
CREATE INDEX scoped_tokens_expires_at_idx ON eve.scoped_tokens USING btree (expires_at);
comment on table eve.scoped_tokens is 'Short-lived tokens of notebooks: the id is the token''s jti. The token itself is kept nowhere.';
comment on column eve.scoped_tokens.models is 'Models it may be used for, of those its consumer may call; null: all of those.';
comment on column eve.scoped_tokens.requests_budget is 'Requests in its whole life; tokens_budget: input and output tokens. Null: no budget.';
comment on column eve.scoped_tokens.revoked_at is 'From then on the next reservation refuses it.';
comment on column eve.scoped_tokens.address is 'Where it was asked for.';
comment on column eve.scoped_tokens.issued_for is 'What it was issued for: enrolment_secret or project_key.';

create table eve.settings (
  name text not null,
  value bigint not null,
  description text not null,
  constraint settings_guard_range CHECK (((name <> 'guard_ms'::text) OR ((value >= 0) AND (value <= 5000)))),
  constraint settings_pkey PRIMARY KEY (name)
);
alter table eve.settings enable row level security;
CREATE TRIGGER drop_routes AFTER INSERT OR DELETE OR UPDATE ON eve.settings FOR EACH ROW EXECUTE FUNCTION eve.drop_routes(); -- enabled
CREATE TRIGGER drop_routes_truncated AFTER TRUNCATE ON eve.settings FOR EACH STATEMENT EXECUTE FUNCTION eve.drop_routes(); -- enabled
comment on table eve.settings is 'Numbers that admission reads on every call; a change takes effect on the next one.';

create table eve.stage_providers (
  stage_type text not null,
  provider_kind text not null,
  produces text not null,
  position integer not null default 100,
  constraint stage_providers_kind_fkey FOREIGN KEY (provider_kind, produces) REFERENCES eve.provider_kinds(kind, produces),
  constraint stage_providers_pkey PRIMARY KEY (stage_type, provider_kind),
  constraint stage_providers_stage_fkey FOREIGN KEY (stage_type, produces) REFERENCES eve.stages(stage_type, produces) ON DELETE CASCADE
);
alter table eve.stage_providers enable row level security;
CREATE INDEX stage_providers_kind_produces_idx ON eve.stage_providers USING btree (provider_kind, produces);
CREATE INDEX stage_providers_stage_produces_idx ON eve.stage_providers USING btree (stage_type, produces);
comment on table eve.stage_providers is 'Which provider may serve which stage; both produce the same.';
comment on column eve.stage_providers.position is 'The first whose key is in the environment serves a stage that nobody has set up.';

create table eve.stages (
  stage_type text not null,
  produces text not null,
  description text not null default ''::text,
  position integer not null default 100,
  seeded_at timestamp with time zone,
  constraint stages_pkey PRIMARY KEY (stage_type),
  constraint stages_produces_known CHECK ((produces = ANY (ARRAY['text'::text, 'speech'::text, 'song'::text, 'video'::text]))),
  constraint stages_stage_type_form CHECK ((stage_type ~ '^[A-Z][A-Z0-9_]{0,31}$'::text)),
  constraint stages_stage_type_produces_key UNIQUE (stage_type, produces)
);
alter table eve.stages enable row level security;
comment on table eve.stages is 'The stages of the pipeline. Adding one is adding a row here and rows in eve.stage_providers.';
comment on column eve.stages.position is 'Their order on a page.';
comment on column eve.stages.seeded_at is 'When a person or the environment first filled it: from then on the environment fills it no more.';

create table eve.usage_days (
  id bigint not null generated always as identity,
  day date not null,
  consumer_id uuid,
  model text not null,
  key_id uuid,
  door text not null,
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
  constraint usage_days_day_consumer_model_key_door_key UNIQUE NULLS NOT DISTINCT (day, consumer_id, model, key_id, door),
  constraint usage_days_pkey PRIMARY KEY (id)
);
alter table eve.usage_days enable row level security;
comment on table eve.usage_days is 'eve.usage_hours summed by the day in America/Los_Angeles. The columns mean the same.';

create table eve.usage_hours (
  id bigint not null generated always as identity,
  hour timestamp with time zone not null,
  consumer_id uuid,
  model text not null,
  key_id uuid,
  door text not null,
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
  constraint usage_hours_hour_consumer_model_key_door_key UNIQUE NULLS NOT DISTINCT (hour, consumer_id, model, key_id, door),
  constraint usage_hours_pkey PRIMARY KEY (id)
);
alter table eve.usage_hours enable row level security;
comment on table eve.usage_hours is 'The audit summed by hour, consumer, model, key and door. Made by rollup, and made anew where a late settlement changes an hour.';
comment on column eve.usage_hours.hour is 'Its beginning. Requests count in the hour they came, refusals when they were refused, attempts and their tokens when they started.';
comment on column eve.usage_hours.consumer_id is 'Null: the project''s own key.';
comment on column eve.usage_hours.model is 'The model that served; of a refusal the one that was asked for.';
comment on column eve.usage_hours.key_id is 'Of a request the key of its last attempt; null: none was used.';
comment on column eve.usage_hours.requests is 'Requests that came and have ended: succeeded, failed, cancelled and expired together.';
comment on column eve.usage_hours.refused is 'Reservations that were refused.';
comment on column eve.usage_hours.attempts is 'Reservations that were granted, of requests that have ended; dispatched: those that called upstream.';
comment on column eve.usage_hours.upstream_refused is 'Attempts that upstream answered with 429.';
comment on column eve.usage_hours.wait_ms is 'Milliseconds that the requests waited for their starts, together; latency_ms: that upstream took.';

create table public.api_keys (
  id bigint not null generated always as identity,
  stage_type text not null,
  provider_kind text not null,
  fingerprint text not null,
  last_four text not null,
  api_key_encrypted text not null,
  entered_by text not null,
  entered_at timestamp with time zone not null default now(),
  used_until timestamp with time zone,
  constraint api_keys_key_encrypted CHECK ((api_key_encrypted ~ '^gAAAA[A-Za-z0-9_-]+={0,2}$'::text)),
  constraint api_keys_pkey PRIMARY KEY (id)
);
alter table public.api_keys enable row level security;
CREATE UNIQUE INDEX api_keys_stage_type_current_key ON public.api_keys USING btree (stage_type) WHERE (used_until IS NULL);
CREATE INDEX api_keys_stage_type_idx ON public.api_keys USING btree (stage_type, entered_at);
create policy api_keys_read on public.api_keys as permissive for select to authenticated using ( SELECT eve.is_administrator() AS is_administrator);
comment on table public.api_keys is 'Every key that was ever entered for a stage. It has no foreign keys: it outlives stages and providers.';
comment on column public.api_keys.used_until is 'When another key or another provider took its place; null: in use.';

create table public.google_ai_api_keys (
  id uuid not null default gen_random_uuid(),
  key_alias text,
  provider text default 'google'::text,
  env_var_name text,
  is_active boolean default true,
  priority integer default 100,
  created_at timestamp with time zone default now(),
  notes text,
  quota_project text,
  blocked_until timestamp with time zone,
  blocked_reason text,
  quota_key text generated always as (COALESCE(NULLIF(quota_project, ''::text), ('key:'::text || (id)::text))) stored,
  constraint google_ai_api_keys_pkey PRIMARY KEY (id)
);
alter table public.google_ai_api_keys enable row level security;
CREATE TRIGGER drop_routes AFTER INSERT OR DELETE OR UPDATE OF id, key_alias, provider, env_var_name, is_active, priority, quota_project, blocked_until ON public.google_ai_api_keys FOR EACH ROW EXECUTE FUNCTION eve.drop_routes(); -- enabled
CREATE TRIGGER drop_routes_truncated AFTER TRUNCATE ON public.google_ai_api_keys FOR EACH STATEMENT EXECUTE FUNCTION eve.drop_routes(); -- enabled
CREATE TRIGGER eve_key_alerts_gone AFTER DELETE ON public.google_ai_api_keys FOR EACH ROW EXECUTE FUNCTION eve.key_alerts_over(); -- enabled
CREATE TRIGGER eve_key_alerts_over AFTER UPDATE OF is_active, blocked_until, blocked_reason ON public.google_ai_api_keys FOR EACH ROW WHEN ((new.is_active AND ((new.blocked_until IS NULL) OR (new.blocked_until <= clock_timestamp())) AND ((NOT COALESCE(old.is_active, false)) OR (old.blocked_until > clock_timestamp()) OR (old.blocked_reason IS NOT NULL)))) EXECUTE FUNCTION eve.key_alerts_over(); -- enabled
CREATE TRIGGER eve_key_secrets_gone AFTER DELETE ON public.google_ai_api_keys FOR EACH ROW EXECUTE FUNCTION eve.key_secrets_gone(); -- enabled
CREATE TRIGGER eve_key_switched_off BEFORE UPDATE OF is_active ON public.google_ai_api_keys FOR EACH ROW WHEN ((old.is_active AND (new.is_active IS NOT TRUE) AND (NOT (new.blocked_until IS DISTINCT FROM old.blocked_until)) AND (NOT (new.blocked_reason IS DISTINCT FROM old.blocked_reason)))) EXECUTE FUNCTION eve.key_switched_off(); -- enabled
CREATE TRIGGER eve_key_switched_on BEFORE UPDATE OF is_active ON public.google_ai_api_keys FOR EACH ROW WHEN ((new.is_active AND (NOT COALESCE(old.is_active, false)) AND (old.blocked_until > clock_timestamp()))) EXECUTE FUNCTION eve.key_switched_on(); -- enabled
CREATE TRIGGER eve_stage_key_refused AFTER UPDATE OF blocked_until ON public.google_ai_api_keys FOR EACH ROW WHEN (((new.env_var_name ~~ 'stage:%'::text) AND (new.blocked_until = 'infinity'::timestamp with time zone) AND (old.blocked_until IS DISTINCT FROM 'infinity'::timestamp with time zone))) EXECUTE FUNCTION eve.stage_key_refused(); -- enabled
comment on table public.google_ai_api_keys is 'Google AI keys. The secret itself is in the Edge secret store, under env_var_name.';
comment on column public.google_ai_api_keys.key_alias is 'What people call the key: shown in answers, logs and reports.';
comment on column public.google_ai_api_keys.provider is 'Whose key it is. google, google_ai and gemini are the same.';
comment on column public.google_ai_api_keys.env_var_name is 'Name of the Edge secret that holds the key.';
comment on column public.google_ai_api_keys.is_active is 'Only a key for which this is true is used.';
comment on column public.google_ai_api_keys.priority is 'Lower is chosen first among keys that can start equally early.';
comment on column public.google_ai_api_keys.quota_project is 'What Google counts by: keys of one Google Cloud project share one quota. Null: a project of its own.';
comment on column public.google_ai_api_keys.blocked_until is 'Not chosen before this time; infinity means until a person enables the key again.';
comment on column public.google_ai_api_keys.blocked_reason is 'Why the key is blocked.';
comment on column public.google_ai_api_keys.quota_key is 'The quota project, or the key itself where none is named.';

create table public.google_ai_maintenance_log (
  id integer not null generated by default as identity,
  operation text,
  tables_affected text[],
  deleted_count integer,
  started_at timestamp with time zone,
  completed_at timestamp with time zone,
  status text,
  details jsonb,
  created_at timestamp with time zone default now(),
  constraint google_ai_maintenance_log_pkey PRIMARY KEY (id)
);
alter table public.google_ai_maintenance_log enable row level security;
CREATE INDEX google_ai_maintenance_log_started_at_idx ON public.google_ai_maintenance_log USING btree (started_at);
comment on table public.google_ai_maintenance_log is 'What the maintenance schedule did, a row a run.';
comment on column public.google_ai_maintenance_log.deleted_count is 'Rows deleted in all the tables together.';

create table public.google_ai_model_limits (
  id integer not null generated by default as identity,
  model text not null,
  rpm integer,
  tpm integer,
  rpd integer,
  created_at timestamp with time zone default now(),
  updated_at timestamp with time zone default now(),
  provider text not null default 'google'::text,
  is_active boolean not null default true,
  replaced_by text,
  supports_system boolean not null default true,
  supports_json boolean not null default true,
  supports_tools boolean not null default true,
  supports_thinking boolean not null default false,
  max_output_tokens integer,
  image_tokens integer not null default 1120,
  estimate_factor double precision not null default 1,
  interactive_floor integer not null default 0,
  interactive_reserve double precision not null default 0,
  interactive_reserve_day double precision not null default 0.1,
  batch_floor double precision not null default 0.1,
  estimate_ceiling double precision not null default 1.4286,
  constraint google_ai_model_limits_batch_floor_range CHECK (((batch_floor >= (0)::double precision) AND (batch_floor <= (0.9)::double precision))),
  constraint google_ai_model_limits_estimate_ceiling_range CHECK (((estimate_ceiling >= (1)::double precision) AND (estimate_ceiling <= (10)::double precision))),
  constraint google_ai_model_limits_estimate_factor_range CHECK (((estimate_factor >= (0.1)::double precision) AND (estimate_factor <= (10)::double precision))),
  constraint google_ai_model_limits_interactive_floor_range CHECK ((interactive_floor >= 0)),
  constraint google_ai_model_limits_interactive_reserve_day_range CHECK (((interactive_reserve_day >= (0)::double precision) AND (interactive_reserve_day <= (0.9)::double precision))),
  constraint google_ai_model_limits_interactive_reserve_range CHECK (((interactive_reserve >= (0)::double precision) AND (interactive_reserve <= (0.9)::double precision))),
  constraint google_ai_model_limits_limits_positive CHECK (((rpm >= 0) AND (tpm >= 0) AND (rpd >= 0))),
  constraint google_ai_model_limits_pkey PRIMARY KEY (id),
  constraint google_ai_model_limits_replaced_by_other CHECK ((replaced_by <> model))
);
alter table public.google_ai_model_limits enable row level security;
CREATE UNIQUE INDEX google_ai_model_limits_model_key ON public.google_ai_model_limits USING btree (model);
CREATE TRIGGER drop_routes AFTER INSERT OR DELETE OR UPDATE OF model, provider, is_active, replaced_by, rpm, tpm, rpd, batch_floor, interactive_floor, interactive_reserve, interactive_reserve_day, estimate_ceiling, supports_system, supports_json, supports_tools, supports_thinking, max_output_tokens ON public.google_ai_model_limits FOR EACH ROW EXECUTE FUNCTION eve.drop_routes(); -- enabled
CREATE TRIGGER drop_routes_truncated AFTER TRUNCATE ON public.google_ai_model_limits FOR EACH STATEMENT EXECUTE FUNCTION eve.drop_routes(); -- enabled
comment on table public.google_ai_model_limits is 'Models and their limits per quota project. A limit that is null is unlimited.';
comment on column public.google_ai_model_limits.model is 'The name that callers ask for, and that upstream is called with.';
comment on column public.google_ai_model_limits.rpm is 'Requests a minute.';
comment on column public.google_ai_model_limits.tpm is 'Input tokens a minute.';
comment on column public.google_ai_model_limits.rpd is 'Requests a day; the day begins at midnight in America/Los_Angeles.';
comment on column public.google_ai_model_limits.provider is 'Whose keys serve it.';
comment on column public.google_ai_model_limits.is_active is 'False: asked for, it is an unknown model.';
comment on column public.google_ai_model_limits.replaced_by is 'The model served when this one is asked for.';
comment on column public.google_ai_model_limits.supports_system is 'False: a system text is put in front of the first user turn.';
comment on column public.google_ai_model_limits.supports_json is 'False: JSON mode is asked for in words.';
comment on column public.google_ai_model_limits.supports_tools is 'False: calls with tools are refused before they cost anything.';
comment on column public.google_ai_model_limits.supports_thinking is 'Whether thinking can be set.';
comment on column public.google_ai_model_limits.max_output_tokens is 'Most output tokens of one call; null: the model''s own maximum.';
comment on column public.google_ai_model_limits.image_tokens is 'Tokens an image is taken for in the estimate.';
comment on column public.google_ai_model_limits.estimate_factor is 'What estimates are multiplied by, learned from settled calls.';
comment on column public.google_ai_model_limits.interactive_floor is 'Starts of a minute that batch leaves unused, come who may; 0 (the default): none.';
comment on column public.google_ai_model_limits.interactive_reserve is 'Share (0 to 0.9) of a minute that batch leaves unused, come who may; 0 (the default): none.';
comment on column public.google_ai_model_limits.interactive_reserve_day is 'Share (0 to 0.9) of the day that batch leaves to interactive callers.';
comment on column public.google_ai_model_limits.batch_floor is 'Share (0 to 0.9) of each minute and of each day that interactive callers leave to batch that waits.';
comment on column public.google_ai_model_limits.estimate_ceiling is 'The real input tokens are at most so many times the learned estimate: what is booked for a prompt that could be counted and was not. 1.4286 where estimates are at most 30 % too low.';

create table public.google_ai_usage_counters (
  id bigint not null generated by default as identity,
  api_key_id uuid,
  model text,
  minute_bucket timestamp with time zone,
  day_bucket date,
  rpm_used integer default 0,
  tpm_used integer default 0,
  rpd_used integer default 0,
  updated_at timestamp with time zone default now(),
  constraint google_ai_usage_counters_pkey PRIMARY KEY (id)
);
alter table public.google_ai_usage_counters enable row level security;
CREATE UNIQUE INDEX google_ai_usage_counters_key_model_minute_key ON public.google_ai_usage_counters USING btree (api_key_id, model, minute_bucket);
CREATE INDEX google_ai_usage_counters_minute_bucket_idx ON public.google_ai_usage_counters USING btree (minute_bucket);
comment on table public.google_ai_usage_counters is 'What each key has spent, a row per key, model and minute. For accounting; admission counts in schema eve.';
comment on column public.google_ai_usage_counters.minute_bucket is 'The minute''s beginning.';
comment on column public.google_ai_usage_counters.day_bucket is 'The day in America/Los_Angeles, by which Google counts.';
comment on column public.google_ai_usage_counters.rpm_used is 'Calls that started in the minute.';
comment on column public.google_ai_usage_counters.tpm_used is 'Input tokens of those calls.';
comment on column public.google_ai_usage_counters.rpd_used is 'Calls of the day so far, this minute''s included.';

create table public.provider_configs (
  stage_type text not null,
  provider_kind text not null,
  api_key_encrypted text,
  key_fingerprint text,
  key_last_four text,
  model text not null,
  settings jsonb not null default '{}'::jsonb,
  quota_project text,
  models_cache jsonb not null default '[]'::jsonb,
  models_cache_updated_at timestamp with time zone,
  status text not null default 'active'::text,
  status_reason text,
  checked_at timestamp with time zone,
  updated_at timestamp with time zone not null default now(),
  updated_by text not null default 'sql'::text,
  constraint provider_configs_key_described CHECK (((api_key_encrypted IS NULL) = ((key_fingerprint IS NULL) AND (key_last_four IS NULL)))),
  constraint provider_configs_key_encrypted CHECK ((api_key_encrypted ~ '^gAAAA[A-Za-z0-9_-]+={0,2}$'::text)),
  constraint provider_configs_model_form CHECK ((model ~ '^[\x21-\x7e]{1,150}$'::text)),
  constraint provider_configs_models_cache_list CHECK ((jsonb_typeof(models_cache) = 'array'::text)),
  constraint provider_configs_pkey PRIMARY KEY (stage_type),
  constraint provider_configs_settings_object CHECK ((jsonb_typeof(settings) = 'object'::text)),
  constraint provider_configs_stage_provider_fkey FOREIGN KEY (stage_type, provider_kind) REFERENCES eve.stage_providers(stage_type, provider_kind),
  constraint provider_configs_status_known CHECK ((status = ANY (ARRAY['active'::text, 'warning'::text, 'invalid'::text, 'error'::text]))),
  constraint provider_configs_status_reason_given CHECK (((status = 'active'::text) OR (status_reason IS NOT NULL)))
);
alter table public.provider_configs enable row level security;
CREATE INDEX provider_configs_stage_provider_idx ON public.provider_configs USING btree (stage_type, provider_kind);
CREATE TRIGGER eve_follow_provider_config AFTER INSERT OR DELETE OR UPDATE ON public.provider_configs FOR EACH ROW EXECUTE FUNCTION eve.follow_provider_config(); -- enabled
CREATE TRIGGER eve_stamp_provider_config BEFORE INSERT OR UPDATE OF provider_kind, api_key_encrypted, model, settings, quota_project, status, status_reason ON public.provider_configs FOR EACH ROW EXECUTE FUNCTION eve.stamp_provider_config(); -- enabled
create policy provider_configs_read on public.provider_configs as permissive for select to authenticated using ( SELECT eve.is_administrator() AS is_administrator);
comment on table public.provider_configs is 'Provider, key and model of each stage. Signed-in administrators read it, without the keys.';
comment on column public.provider_configs.provider_kind is 'As in eve.provider_kinds. Which may serve the stage is in eve.stage_providers.';
comment on column public.provider_configs.api_key_encrypted is 'A Fernet token, its key derived from ADMIN_SECRET_KEY. Null: the pool''s keys serve.';
comment on column public.provider_configs.key_fingerprint is 'The first 32 hexadecimal digits of the key''s SHA-256: tells keys apart.';
comment on column public.provider_configs.model is 'As the provider calls it.';
comment on column public.provider_configs.settings is 'What else its calls need: base_url, folder_id, scope, ... No secret.';
comment on column public.provider_configs.quota_project is 'What the provider counts by. Keys of one account share it; null: the key is an account of its own.';
comment on column public.provider_configs.models_cache is 'The models that the provider offers this key: a list of names.';
comment on column public.provider_configs.status is 'active; warning: it serves, but a person should look; invalid: the key is refused; error: the provider does not answer.';
comment on column public.provider_configs.checked_at is 'When the provider was last asked about the key and its models, whatever it said.';
comment on column public.provider_configs.updated_by is 'Who changed it last: a person''s e-mail address, or the part of the gateway that did.';

create table public.token_usage (
  id bigint not null generated by default as identity,
  ts timestamp with time zone default now(),
  model text,
  prompt_tokens integer,
  completion_tokens integer,
  total_tokens integer,
  request_id text,
  meta jsonb default '{}'::jsonb,
  constraint token_usage_pkey PRIMARY KEY (id)
);
alter table public.token_usage enable row level security;
CREATE INDEX token_usage_ts_idx ON public.token_usage USING btree (ts);
comment on table public.token_usage is 'Tokens of calls that told them, a row an attempt.';
comment on column public.token_usage.ts is 'When the call was settled.';
comment on column public.token_usage.prompt_tokens is 'Input tokens.';
comment on column public.token_usage.completion_tokens is 'Output tokens.';
comment on column public.token_usage.total_tokens is 'All tokens that upstream charges, thinking included.';
comment on column public.token_usage.request_id is 'The caller''s own id of the request.';
comment on column public.token_usage.meta is 'Of the gateway''s rows: source, consumer, key_alias, attempt, class, door, estimated.';

create function eve.access_ended(consumer_id uuid, token_id uuid, now_ms bigint)
  returns text
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.adjust_bucket(
    lane_id bigint,
    bucket_ms bigint,
    class text,
    starts integer,
    tokens bigint
  )
  returns void
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.adjust_budgets(
    consumer_id uuid,
    token_id uuid,
    received_at timestamp with time zone,
    requests integer,
    tokens bigint
  )
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.alert_deleted()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.alert_json(alert eve.alerts)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";

create function eve.alert_keys(missing_secrets uuid[])
  returns TABLE(kind text, subject text, severity text, message text, details jsonb)
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.alert_lanes()
  returns TABLE(kind text, subject text, severity text, message text, details jsonb)
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.alert_maintenance()
  returns TABLE(kind text, subject text, severity text, message text, details jsonb)
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.alert_refusals()
  returns TABLE(kind text, subject text, severity text, message text, details jsonb)
  language sql
  volatile
  security invoker
  set search_path="" set enable_seqscan=off;

create function eve.alert_setting(name text, fallback bigint)
  returns bigint
  language sql
  stable
  security invoker
  set search_path="";

create function eve.alert_upstream()
  returns TABLE(kind text, subject text, severity text, message text, details jsonb)
  language sql
  volatile
  security invoker
  set search_path="" set enable_seqscan=off;

create function eve.apply_block(running eve.inflight, block jsonb, fallback_reason text)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.as_request(running eve.inflight)
  returns eve.requests
  language sql
  stable
  security invoker
  set search_path="";

create function eve.begin_run(operation text, source text, time_limit_ms integer DEFAULT NULL::integer)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.blame_of(error_code text)
  returns text
  language sql
  immutable
  security invoker
  set search_path="";
comment on function eve.blame_of is 'Whose fault a failed attempt is, told by its error code.';

create function eve.book(
    lane_id bigint,
    limits eve.lane_limits,
    pace eve.pool_pace,
    class text,
    contended boolean,
    tokens bigint,
    queued_ms bigint,
    request_no bigint,
    latest_wait_ms bigint,
    lease_ms integer,
    OUT booked boolean,
    OUT start_ms bigint,
    OUT bucket_ms bigint,
    OUT day_ends_ms bigint,
    OUT wait_ms bigint,
    OUT turn bigint,
    OUT used_starts bigint,
    OUT used_tokens bigint,
    OUT day_left bigint,
    OUT limit_name text
  )
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.book_or_release(
    best eve.placement,
    call eve.call,
    class text,
    queued_ms bigint,
    latest_wait_ms bigint
  )
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.capped(value jsonb)
  returns jsonb
  language sql
  immutable
  security invoker
  set search_path="";
comment on function eve.capped is 'A value as it is up to 256 KiB, and the head of a larger one.';

create function eve.changed_hours(from_at timestamp with time zone, until_at timestamp with time zone)
  returns SETOF timestamp with time zone
  language sql
  stable
  security invoker
  set search_path="" set enable_seqscan=off set jit=off;

create function eve.check_call(call eve.call)
  returns void
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.check_proof(key_id text, proof text)
  returns void
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.check_stage_provider(stage_type text, provider_kind text)
  returns void
  language plpgsql
  stable
  security invoker
  set search_path="";
comment on function eve.check_stage_provider is 'Says in words what the foreign key of provider_configs refuses.';

create function eve.choose_lane(
    call eve.call,
    class text,
    served public.google_ai_model_limits,
    queued_ms bigint,
    only_lane bigint,
    now_ms bigint
  )
  returns eve.placement
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.class_share(
    limits eve.lane_limits,
    class text,
    contended boolean,
    OUT starts bigint,
    OUT tokens bigint,
    OUT day_starts bigint
  )
  returns record
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.clock()
  returns timestamp with time zone
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.clock_ms()
  returns bigint
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.close_alerts(subject text, kinds text[])
  returns void
  language sql
  volatile
  security invoker
  set search_path="";
comment on function eve.close_alerts is 'Closes what is over.';

create function eve.close_request(
    running eve.inflight,
    state text,
    error_code text DEFAULT NULL::text,
    input_tokens integer DEFAULT NULL::integer,
    output_tokens integer DEFAULT NULL::integer,
    total_tokens integer DEFAULT NULL::integer,
    finish_reason text DEFAULT NULL::text
  )
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.close_run(
    operation eve.operations,
    status text,
    error text DEFAULT NULL::text,
    more boolean DEFAULT false
  )
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.consumer_id_of(consumer text)
  returns uuid
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.consumer_json(consumer eve.consumers)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";

create function eve.consumer_minute_take(consumer_id uuid, now_ms bigint)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.consumer_minute_wait(consumer_id uuid, rpm integer, now_ms bigint)
  returns bigint
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.consumer_named(name text)
  returns eve.consumers
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.consumer_of_secret(key_id text, proof text)
  returns eve.consumers
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.correct_usage()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function eve.correct_usage is 'Puts the real tokens of a call that was settled after its lease into google_ai_usage_counters.';

create function eve.count_calls(key_id uuid, model text, start_ms bigint, calls integer, tokens bigint)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.count_refusals(
    counted_from timestamp with time zone,
    counted_to timestamp with time zone,
    look_from timestamp with time zone,
    seen pg_snapshot
  )
  returns integer
  language plpgsql
  volatile
  security invoker
  set search_path="" set enable_seqscan=off set jit=off;

create function eve.count_requests(
    counted_from timestamp with time zone,
    counted_to timestamp with time zone,
    look_from timestamp with time zone,
    seen pg_snapshot
  )
  returns integer
  language plpgsql
  volatile
  security invoker
  set search_path="" set enable_seqscan=off set jit=off;

create function eve.count_usage(key_id uuid, model text, start_ms bigint, tokens bigint)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.day_left(
    lane eve.lanes,
    limits eve.lane_limits,
    class text,
    contended boolean,
    start_ms bigint,
    day_ends_ms bigint
  )
  returns bigint
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.delete_numbered(
    relation regclass,
    key_column text,
    old text,
    before timestamp with time zone,
    after bigint,
    at_most integer,
    OUT deleted bigint,
    OUT seen bigint,
    OUT last_key bigint
  )
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="" set enable_seqscan=off set jit=off;

create function eve.delete_oldest(
    relation regclass,
    time_column text,
    before timestamp with time zone,
    after timestamp with time zone,
    at_most integer,
    also text DEFAULT 'true'::text,
    OUT deleted bigint,
    OUT seen bigint,
    OUT last_at timestamp with time zone
  )
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="" set jit=off;

create function eve.drop_routes()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path="";

create function eve.earliest_start(
    lane eve.lanes,
    limits eve.lane_limits,
    class text,
    contended boolean,
    tokens bigint,
    now_ms bigint,
    from_ms bigint,
    OUT start_ms bigint,
    OUT limit_name text,
    OUT day_left bigint
  )
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.end_alerts(kinds text[], subject_begins text)
  returns integer
  language sql
  volatile
  security invoker
  set search_path="";
comment on function eve.end_alerts is 'Closes the open alerts of some kinds whose subject begins like this.';

create function eve.ensure_lanes(model text)
  returns void
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.expire_leases(lane_id bigint DEFAULT NULL::bigint, at_most integer DEFAULT 1000)
  returns integer
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.find_request(call eve.call, now_ms bigint, OUT running eve.inflight, OUT answer jsonb)
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.first_whole_hour(frozen_before timestamp with time zone)
  returns timestamp with time zone
  language sql
  immutable
  security invoker
  set search_path="";

create function eve.follow_clock()
  returns bigint
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function eve.follow_clock is 'Notices that the clock has gone back, and moves the books along.';

create function eve.follow_provider_config()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function eve.follow_provider_config is 'Keeps a stage''s key, model and alias rows, and its history, in step with provider_configs.';

create function eve.give_back(running eve.inflight)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.granted(
    route jsonb,
    request_no bigint,
    attempt integer,
    class text,
    capture boolean,
    tokens bigint,
    wait_ms bigint,
    start_ms bigint,
    lease_ms integer,
    limits jsonb
  )
  returns jsonb
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.has_room(
    lane eve.lanes,
    limits eve.lane_limits,
    class text,
    contended boolean,
    starts bigint,
    tokens bigint,
    at_ms bigint
  )
  returns boolean
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.is_administrator()
  returns boolean
  language sql
  stable
  security definer
  set search_path="";
comment on function eve.is_administrator is 'Whether the signed-in user is an administrator. For row-level security.';

create function eve.is_administrator(user_id uuid)
  returns boolean
  language plpgsql
  stable
  security definer
  set search_path="";
comment on function eve.is_administrator is 'Whether a user''s app_metadata names the role admin, and the user is neither banned nor deleted.';

create function eve.job_command(operation eve.operations)
  returns text
  language sql
  immutable
  security invoker
  set search_path="";

create function eve.key_alerts_over()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.key_id_of(key_alias text)
  returns uuid
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.key_secrets_gone()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.key_switched_off()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.key_switched_on()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.key_was_rejected(key public.google_ai_api_keys)
  returns boolean
  language sql
  stable
  security invoker
  set search_path="";

create function eve.lanes_for(
    served public.google_ai_model_limits,
    now_ms bigint,
    exclude_keys uuid[],
    avoid_keys uuid[]
  )
  returns TABLE(quota_key text, lane_id bigint, limits eve.lane_limits, avoided boolean, priority bigint, key_ids uuid[], aliases text[], env_var_names text[])
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.learn_estimate(model text, request_no bigint, estimated integer, counted integer)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.leave_line(running eve.inflight)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.limit_of(change jsonb, name text, now_value integer)
  returns integer
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.limits_json(
    limits eve.lane_limits,
    used_starts bigint,
    used_tokens bigint,
    day_left bigint,
    reset_ms bigint,
    day_reset_ms bigint
  )
  returns jsonb
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.limits_of(
    served public.google_ai_model_limits,
    override eve.quota_overrides,
    guard_ms bigint
  )
  returns eve.lane_limits
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.line_before(
    model text,
    lane_id bigint,
    queued_ms bigint,
    request_no bigint,
    now_ms bigint,
    OUT calls bigint,
    OUT tokens bigint
  )
  returns record
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.log_access(
    event text,
    consumer eve.consumers,
    token_id uuid DEFAULT NULL::uuid,
    address text DEFAULT NULL::text,
    details jsonb DEFAULT '{}'::jsonb
  )
  returns void
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.log_run(
    operation text,
    status text,
    started_at timestamp with time zone,
    log_id bigint DEFAULT NULL::bigint,
    tables text[] DEFAULT '{}'::text[],
    deleted_count bigint DEFAULT 0,
    details jsonb DEFAULT '{}'::jsonb,
    completed_at timestamp with time zone DEFAULT NULL::timestamp with time zone
  )
  returns bigint
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.log_token_usage(
    model text,
    prompt_tokens integer,
    completion_tokens integer,
    total_tokens bigint,
    request_id text,
    meta jsonb
  )
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.make_route(requested_model text, now_ms bigint)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.may_burst(
    lane eve.lanes,
    limits eve.lane_limits,
    tokens bigint,
    now_ms bigint,
    starts bigint DEFAULT 1
  )
  returns boolean
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.metric_bounds(metric text)
  returns double precision[]
  language sql
  immutable
  security invoker
  set search_path="";

create function eve.metric_gauges()
  returns TABLE(metric text, labels jsonb, value double precision)
  language sql
  volatile
  security invoker
  set search_path="" set jit=off;

create function eve.metric_keys()
  returns TABLE(id uuid, key text, quota_key text, state text)
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.network_of(address text)
  returns text
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.next_pace(
    pace_ms bigint,
    now_ms bigint,
    interval_ms double precision,
    credit double precision DEFAULT 0.5
  )
  returns bigint
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.next_pacific_midnight(ms bigint)
  returns bigint
  language sql
  stable
  security invoker
  set search_path="";

create function eve.note_attempt(
    call eve.call,
    scope eve.caller_scope,
    place eve.placement,
    running eve.inflight,
    key_id uuid,
    now_ms bigint,
    queued_ms bigint
  )
  returns bigint
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.open_alert(kind text, subject text, severity text, message text)
  returns void
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.operation_lock(operation text)
  returns bigint
  language sql
  immutable
  security invoker
  set search_path="";

create function eve.pace_allows(pace eve.pool_pace)
  returns bigint
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.pacific_day(ms bigint)
  returns date
  language sql
  stable
  security invoker
  set search_path="";

create function eve.place_call(
    call eve.call,
    class text,
    requested_model text,
    queued_ms bigint,
    only_lane bigint
  )
  returns eve.placement
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.platform_facts()
  returns jsonb
  language plpgsql
  stable
  security definer
  set search_path="";
comment on function eve.platform_facts is 'Migrations, scheduled jobs with their last runs, answers to scheduled calls, and names of the gateway''s secrets in Vault.';

create function eve.provider_config_facts(config public.provider_configs)
  returns jsonb
  language sql
  immutable
  security invoker
  set search_path="";
comment on function eve.provider_config_facts is 'What the history keeps of a stage''s row.';

create function eve.provider_name(provider text)
  returns text
  language sql
  immutable
  security invoker
  set search_path="";

create function eve.providers_of(served public.google_ai_model_limits)
  returns text[]
  language plpgsql
  immutable
  security invoker
  set search_path="";

create function eve.reason_may_pass(reason text)
  returns boolean
  language sql
  immutable
  security invoker
  set search_path="";

create function eve.refusal_json(refusal eve.refusals)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";

create function eve.refusal_no_after(at timestamp with time zone)
  returns bigint
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.refuse(
    call eve.call,
    class text,
    code text,
    model text DEFAULT NULL::text,
    limit_name text DEFAULT NULL::text,
    wait_ms bigint DEFAULT NULL::bigint,
    limits jsonb DEFAULT NULL::jsonb
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.refuse_access(
    place text,
    code text,
    key_id text,
    address text,
    detail text DEFAULT NULL::text,
    wait_ms bigint DEFAULT NULL::bigint
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.refuse_wrong(place text, code text, key_id text, address text)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.refused_detail(request_id text, consumer_id uuid)
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="" set enable_seqscan=off set jit=off;

create function eve.rejected_hashes(key_id uuid)
  returns text[]
  language sql
  stable
  security invoker
  set search_path="";

create function eve.release_expired(
    lane_id bigint,
    now_ms bigint,
    new_lease_ms bigint DEFAULT NULL::bigint
  )
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.remember_rejected_secret(key_id uuid, secret_hash text)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function eve.remember_rejected_secret is 'Keeps the hash of a secret that upstream rejected.';

create function eve.repeated(call eve.call, before eve.earlier_request)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.report_of(day date)
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="" set jit=off;

create function eve.report_step()
  returns jsonb
  language sql
  volatile
  security invoker
  set search_path="";

create function eve.request_json(request eve.requests)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";

create function eve.request_no_after(at timestamp with time zone)
  returns bigint
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.request_operation(operation text)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.retention_batch(
    rule eve.retention,
    now_at timestamp with time zone,
    after jsonb,
    OUT deleted bigint,
    OUT next_after jsonb
  )
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.retention_step(state jsonb, now_at timestamp with time zone)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.roll_day(day date)
  returns bigint
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.roll_hour(hour timestamp with time zone)
  returns bigint
  language plpgsql
  volatile
  security invoker
  set search_path="" set enable_seqscan=off set jit=off;

create function eve.rollup_step(state jsonb, now_at timestamp with time zone)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.room_left(
    lane eve.lanes,
    limits eve.lane_limits,
    class text,
    contended boolean,
    wanted_starts bigint,
    wanted_tokens bigint,
    at_ms bigint,
    OUT starts bigint,
    OUT tokens bigint
  )
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.route_answer(
    requested_model text,
    served public.google_ai_model_limits,
    key_id uuid,
    alias text,
    env_var_name text,
    lane_id bigint,
    quota_project text
  )
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.routes_lock()
  returns bigint
  language sql
  immutable
  security invoker
  set search_path="";

create function eve.scope_of(call eve.call, received_ms bigint, now_ms bigint, spends boolean)
  returns eve.caller_scope
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.secret_hash(proof text)
  returns text
  language sql
  immutable
  security invoker
  set search_path="";

create function eve.served_model(model text)
  returns public.google_ai_model_limits
  language plpgsql
  stable
  security invoker
  set search_path="";

create function eve.spread_ms(
    lane_ids bigint[],
    interval_ms double precision,
    window_ms bigint,
    now_ms bigint
  )
  returns double precision
  language sql
  stable
  security invoker
  set search_path="";

create function eve.stage_json(stage eve.stages)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function eve.stage_json is 'A stage with the providers that may serve it and its configuration, if it has one.';

create function eve.stage_key_refused()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function eve.stage_key_refused is 'Marks a stage whose key upstream has refused during a call.';

create function eve.stage_model(provider_kind text, model text)
  returns text
  language sql
  stable
  security invoker
  set search_path="";
comment on function eve.stage_model is 'A provider''s model as google_ai_model_limits names it: openai/gpt-5-mini, and gemini-3.5-flash for Google''s.';

create function eve.stamp_provider_config()
  returns trigger
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function eve.stamp_provider_config is 'Says when a stage was changed, and by whom: the setting eve.actor of the transaction, or sql.';

create function eve.step_run(run_id bigint)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.stop_when_late(deadline timestamp with time zone)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.sweep_step(state jsonb)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.take_budgets(call eve.call, scope eve.caller_scope, tokens bigint, now_ms bigint)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.take_issue_turn(subject text, per_minute bigint)
  returns bigint
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.take_network_turn(kind text, address text, OUT wait_ms bigint, OUT shared boolean)
  returns record
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.too_late(best eve.placement, call eve.call, class text, now_ms bigint)
  returns eve.placement
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.turn_back(back_ms bigint)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function eve.turn_back is 'Moves what admission remembers back in time, as far as the clock went.';

create function eve.unbook(running eve.inflight)
  returns void
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function eve.usage_meta(
    consumer_id uuid,
    key_id uuid,
    attempt integer,
    class text,
    door text,
    estimated boolean
  )
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";

create function eve.with_start(
    lane eve.lanes,
    class text,
    start_ms bigint,
    tokens bigint,
    now_ms bigint,
    lease_ms integer,
    pace eve.pool_pace,
    paced boolean
  )
  returns eve.lanes
  language plpgsql
  volatile
  security invoker
  set search_path="";

create function public.eve_administrator(user_id uuid)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_administrator is 'Whether a signed-in user is an administrator, as auth.users says at this moment.';

create function public.eve_alert_claim(channel text, lease_ms integer DEFAULT 60000)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_alert_claim is 'The next message for a channel, claimed so that nobody else tells it too; null when there is none.';

create function public.eve_alert_close(id bigint)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_alert_close is 'Closes an alert by hand; twice is the same as once. What still holds is opened again.';

create function public.eve_alert_detail(id bigint)
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="";
comment on function public.eve_alert_detail is 'One alert, what to do about it, and to whom it was told.';

create function public.eve_alert_list(
    state text DEFAULT 'open'::text,
    kind text DEFAULT NULL::text,
    before bigint DEFAULT NULL::bigint,
    at_most integer DEFAULT 100
  )
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="";
comment on function public.eve_alert_list is 'Alerts that are open, closed or all, the newest first, with the columns of eve.alerts and what to do; a page and where the next one begins.';

create function public.eve_alert_secrets()
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_alert_secrets is 'Active keys and the names of their secrets.';

create function public.eve_alert_told(
    delivery_id bigint,
    succeeded boolean,
    error text DEFAULT NULL::text,
    retry_after_ms bigint DEFAULT NULL::bigint,
    whole_channel boolean DEFAULT false
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_alert_told is 'Notes how telling a claimed message went, and when to try again.';

create function public.eve_alerts_evaluate(missing_secrets uuid[] DEFAULT NULL::uuid[])
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="" set jit=off;
comment on function public.eve_alerts_evaluate is 'Opens alerts for what is wrong and closes those that are over. Cheap enough for every minute.';

create function public.eve_authenticate_consumer(
    key_id text,
    proof text,
    address text DEFAULT NULL::text,
    place text DEFAULT 'llm-invoke'::text
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_authenticate_consumer is 'Who holds a secret, told by its id and its proof. A refusal is counted in the audit.';

create function public.eve_bad_requests(
    since timestamp with time zone DEFAULT NULL::timestamp with time zone,
    until timestamp with time zone DEFAULT NULL::timestamp with time zone,
    consumer text DEFAULT NULL::text,
    at_most integer DEFAULT 200
  )
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_bad_requests is 'What was refused with 400 and the like, summed by code and consumer, the most frequent first.';

create function public.eve_capture(request_no bigint, prompt jsonb, answer jsonb DEFAULT NULL::jsonb)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_capture is 'Keeps what a request asked and got, at most 256 KiB of each. Twice is the same as once.';

create function public.eve_connect(project_url text, secret_key text)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_connect is 'Puts the project''s URL and a secret key into Vault, where the schedule finds them.';

create function public.eve_consumer_add(
    name text,
    kind text,
    key_id text,
    proof text,
    models text[] DEFAULT NULL::text[],
    max_class text DEFAULT 'interactive'::text,
    rpm integer DEFAULT NULL::integer,
    requests_per_day integer DEFAULT NULL::integer,
    tokens_per_day bigint DEFAULT NULL::bigint,
    token_ttl_s integer DEFAULT 7200
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_consumer_add is 'Adds a consumer. The caller made its secret and sends the id and the proof of it.';

create function public.eve_consumer_enable(name text, enabled boolean)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_consumer_enable is 'Switches a consumer on or off, and with it its tokens: the next reservation knows.';

create function public.eve_consumer_remove(name text)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_consumer_remove is 'Removes a consumer with its tokens. The audit keeps what it did.';

create function public.eve_consumer_rotate(name text, proof text, grace_s integer DEFAULT 86400)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_consumer_rotate is 'Gives a consumer a new secret; the one before stays valid for the grace period, any older one does not.';

create function public.eve_consumer_scope(name text, changes jsonb)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_consumer_scope is 'Changes what a consumer may do: what changes names, and nothing else. Null takes a bound away.';

create function public.eve_consumers(name text DEFAULT NULL::text)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_consumers is 'All consumers, or the one of that name.';

create function public.eve_count_bad_requests(counts jsonb)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_count_bad_requests is 'Adds what a function has refused with 400 and the like: a list of code, consumer_id (null: nobody was recognised) and times.';

create function public.eve_doctor()
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_doctor is 'Facts for a check of the whole project: clock, migrations, extensions, jobs and their last runs, answers to scheduled calls, alerts, maintenance.';

create function public.eve_give_back(
    request_id text,
    call_id uuid,
    deadline timestamp with time zone,
    consumer_id uuid DEFAULT NULL::uuid,
    attempt integer DEFAULT 1
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="" set plan_cache_mode=force_generic_plan set enable_seqscan=off set jit=off;
comment on function public.eve_give_back is 'Takes back what a call of eve_reserve has booked and its caller has not heard of in time. Answers given_back, nothing, or wait.';

create function public.eve_issue_token(
    key_id text DEFAULT NULL::text,
    proof text DEFAULT NULL::text,
    consumer text DEFAULT NULL::text,
    address text DEFAULT NULL::text,
    models text[] DEFAULT NULL::text[],
    class text DEFAULT NULL::text,
    requests_budget integer DEFAULT NULL::integer,
    tokens_budget bigint DEFAULT NULL::bigint,
    ttl_s integer DEFAULT NULL::integer
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_issue_token is 'Records a token for a notebook, within what its consumer may do, or says why not. The caller signs it.';

create function public.eve_job(id uuid, consumer_id uuid DEFAULT NULL::uuid)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_job is 'A job, if it is the consumer''s; any for the project. Null: there is none.';

create function public.eve_job_begin(
    id uuid,
    stage_type text,
    provider_kind text,
    model text,
    key_name text,
    request_id text,
    request_no bigint,
    consumer_id uuid DEFAULT NULL::uuid,
    settings jsonb DEFAULT '{}'::jsonb
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_job_begin is 'Writes a job down before it is submitted, so that nothing that was paid for is lost.';

create function public.eve_job_content(id uuid, consumer_id uuid DEFAULT NULL::uuid)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_job_content is 'The file of a job whose provider answered with the file itself; null: there is none.';

create function public.eve_job_note(
    id uuid,
    state text,
    upstream_id text DEFAULT NULL::text,
    result jsonb DEFAULT NULL::jsonb,
    error_code text DEFAULT NULL::text,
    error_detail text DEFAULT NULL::text,
    expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone,
    mime_type text DEFAULT NULL::text,
    content_base64 text DEFAULT NULL::text
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_job_note is 'Notes how a job stands; one that has ended stays as it ended.';

create function public.eve_jobs_tidy()
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_jobs_tidy is 'Deletes files that have expired and jobs that are older than ninety days.';

create function public.eve_key_checked(
    key_id uuid,
    outcome text,
    reason text DEFAULT NULL::text,
    detail text DEFAULT NULL::text,
    secret_hash text DEFAULT NULL::text
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_key_checked is 'Takes down what a check of a key found: puts it out of use, or back into use where its reason has passed.';

create function public.eve_key_checks()
  returns jsonb
  language sql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_key_checks is 'The keys that are worth asking about: those in use, those that are off for a reason that may pass, and, with other secrets than those it names, those that upstream rejected.';

create function public.eve_key_secret_changed(key_id uuid, secret_hash text)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_key_secret_changed is 'Puts a key into use again whose secret is another than those that upstream has rejected.';

create function public.eve_key_states()
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_key_states is 'Every key: whether it is used and why not, what it did today, what its last check found, models it may not serve, and the lanes of its quota project.';

create function public.eve_keys_awaiting_secrets()
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_keys_awaiting_secrets is 'The keys that another secret would put into use again, with the hashes of those that upstream has rejected.';

create function public.eve_lane_states(
    quota_project text DEFAULT NULL::text,
    model text DEFAULT NULL::text
  )
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_lane_states is 'Every quota project and model with what is used and left of its minute and its Pacific day now, who waits, and why it is closed if it is. A limit that is null is unlimited.';

create function public.eve_limits()
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_limits is 'The limits of every model, what differs per quota project, and the quota projects there are.';

create function public.eve_limits_clear(quota_project text, model text DEFAULT NULL::text)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_limits_clear is 'Takes away what a quota project has of its own: the model''s row counts again.';

create function public.eve_limits_set(
    changes jsonb,
    quota_project text DEFAULT NULL::text,
    add_models boolean DEFAULT false,
    notes text DEFAULT NULL::text
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_limits_set is 'Changes limits of models, or of one quota project, all or none: the next reservation knows. A limit that a change does not name stays; null is no limit.';

create function public.eve_log_refused_token(
    code text,
    address text DEFAULT NULL::text,
    place text DEFAULT 'llm-invoke'::text
  )
  returns jsonb
  language sql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_log_refused_token is 'Counts a credential that was refused without asking the database; says whether its network has sent too many.';

create function public.eve_maintenance_begin(
    operation text,
    time_limit_ms integer DEFAULT NULL::integer,
    source text DEFAULT 'http'::text
  )
  returns jsonb
  language sql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_maintenance_begin is 'Begins a run of an operation, or says that one is on. It is logged either way.';

create function public.eve_maintenance_end(
    run_id bigint,
    status text,
    tables text[] DEFAULT '{}'::text[],
    count bigint DEFAULT 0,
    details jsonb DEFAULT '{}'::jsonb,
    error text DEFAULT NULL::text,
    more boolean DEFAULT false
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_maintenance_end is 'Ends a run and completes its row in the log. Answers lost for a run that had been given up for dead.';

create function public.eve_maintenance_step(run_id bigint)
  returns jsonb
  language sql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_maintenance_step is 'One step of a run that is SQL from end to end. Call it until it answers done.';

create function public.eve_metrics()
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_metrics is 'Counters, histograms and gauges of the gateway: samples [name, labels, value] and histograms [name, labels, bounds, counts, sum].';

create function public.eve_metrics_count()
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_metrics_count is 'Adds to the counters what the audit has gained since the last time.';

create function public.eve_models(consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="";
comment on function public.eve_models is 'The models that a consumer, or the holder of a token, may use.';

create function public.eve_models_compared()
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_models_compared is 'Says which models that should serve are on no key''s list, and opens and closes the alerts about them.';

create function public.eve_models_seen(key_id uuid, models text[])
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_models_seen is 'Takes down the models that upstream lists for a key, and says what is new and what has gone.';

create function public.eve_now()
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_now is 'The database''s clock and the bounds of the Pacific day that holds it.';

create function public.eve_provider_checked(
    stage_type text,
    key_fingerprint text,
    actor text,
    models jsonb DEFAULT NULL::jsonb,
    complete boolean DEFAULT true,
    status text DEFAULT 'active'::text,
    status_reason text DEFAULT NULL::text
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_provider_checked is 'Notes what a provider said about a stage''s key and models, and replaces a model that has gone.';

create function public.eve_provider_ciphertexts()
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_provider_ciphertexts is 'Every encrypted key, to be encrypted anew.';

create function public.eve_provider_configs(stage_type text DEFAULT NULL::text)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_provider_configs is 'All stages, or one, as an administrator sees them.';

create function public.eve_provider_history(
    stage_type text DEFAULT NULL::text,
    at_most integer DEFAULT 50,
    before_id bigint DEFAULT NULL::bigint
  )
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_provider_history is 'Changes of stages, the newest first.';

create function public.eve_provider_keys(stage_type text DEFAULT NULL::text)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_provider_keys is 'Every key that was ever entered, by its last four characters, the newest first.';

create function public.eve_provider_reencrypt(tokens jsonb, actor text)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_provider_reencrypt is 'Replaces tokens that are still the ones that were read; says how many.';

create function public.eve_provider_remove(stage_type text, actor text)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_provider_remove is 'Takes a stage''s configuration away: from then on the environment serves it. The history stays.';

create function public.eve_provider_save(
    stage_type text,
    provider_kind text,
    model text,
    actor text,
    api_key_encrypted text DEFAULT NULL::text,
    key_fingerprint text DEFAULT NULL::text,
    key_last_four text DEFAULT NULL::text,
    settings jsonb DEFAULT NULL::jsonb,
    quota_project text DEFAULT NULL::text,
    models jsonb DEFAULT NULL::jsonb,
    status text DEFAULT 'active'::text,
    status_reason text DEFAULT NULL::text,
    remove_key boolean DEFAULT false
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_provider_save is 'Sets up a stage: provider, key, model. Without a key the one before stays, if the provider is the same.';

create function public.eve_provider_seed(configs jsonb)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_provider_seed is 'Fills stages that were never set up with what the environment holds. Never overwrites, and never twice.';

create function public.eve_report(day date DEFAULT NULL::date)
  returns jsonb
  language sql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_report is 'A Pacific day in numbers; without one, yesterday.';

create function public.eve_request_detail(
    request_no bigint DEFAULT NULL::bigint,
    request_id text DEFAULT NULL::text,
    consumer text DEFAULT NULL::text
  )
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="";
comment on function public.eve_request_detail is 'One request with all its attempts, waits, refusals, who is to blame, and what was captured of it; or, by its request_id, one that was refused, with its refusals.';

create function public.eve_request_search(
    request_id text DEFAULT NULL::text,
    consumer text DEFAULT NULL::text,
    model text DEFAULT NULL::text,
    key text DEFAULT NULL::text,
    outcome text DEFAULT NULL::text,
    error_code text DEFAULT NULL::text,
    since timestamp with time zone DEFAULT NULL::timestamp with time zone,
    until timestamp with time zone DEFAULT NULL::timestamp with time zone,
    before bigint DEFAULT NULL::bigint,
    at_most integer DEFAULT 50
  )
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="" set enable_seqscan=off set enable_bitmapscan=off set jit=off;
comment on function public.eve_request_search is 'Requests that run or have ended, the newest first, or refusals (outcome refused, or by their request_id). A page and where the next one begins; a call looks at 100,000 rows at most, so a page may be empty and not the last.';

create function public.eve_reserve(
    request_id text,
    models text[],
    tokens integer,
    consumer_id uuid DEFAULT NULL::uuid,
    class text DEFAULT 'interactive'::text,
    max_wait_ms integer DEFAULT 0,
    attempt integer DEFAULT 1,
    exclude_keys uuid[] DEFAULT '{}'::uuid[],
    avoid_keys uuid[] DEFAULT '{}'::uuid[],
    lease_ms integer DEFAULT 180000,
    token_id uuid DEFAULT NULL::uuid,
    door text DEFAULT 'native'::text,
    trace_id text DEFAULT NULL::text,
    metadata jsonb DEFAULT '{}'::jsonb,
    request_hash text DEFAULT NULL::text,
    counted boolean DEFAULT NULL::boolean,
    request_no bigint DEFAULT NULL::bigint,
    deadline timestamp with time zone DEFAULT NULL::timestamp with time zone,
    call_id uuid DEFAULT NULL::uuid
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="" set statement_timeout=7500ms set plan_cache_mode=force_generic_plan set enable_seqscan=off set jit=off;
comment on function public.eve_reserve is 'Reserves a slot for one upstream attempt: all limits and budgets together or nothing. Answers granted, waiting (batch: ask again then), refused, duplicate, or count: have the prompt counted upstream and come again.';

create function public.eve_reserve_many(calls jsonb)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="" set statement_timeout=7500ms set plan_cache_mode=force_generic_plan set enable_seqscan=off set jit=off set enable_hashjoin=off set enable_mergejoin=off set enable_material=off;
comment on function public.eve_reserve_many is 'Reserves up to 100 slots that can start at once, in one transaction. Answers in the order asked; null: not a plain case, so ask eve_reserve.';

create function public.eve_rollup(at_most_ms integer DEFAULT 5000)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_rollup is 'Sums up what the audit has gained since the last rollup. Says skipped while another rollup is on, and running when it did not come to the end.';

create function public.eve_rollup_rebuild(
    since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_rollup_rebuild is 'Has the hourly and daily sums made anew from the audit, as far back as the audit goes.';

create function public.eve_schedule()
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_schedule is 'Makes the jobs of pg_cron those that eve.operations names. Run it after a change there, and after enabling pg_cron or pg_net.';

create function public.eve_settle(
    request_no bigint,
    attempt integer,
    outcome text,
    final boolean DEFAULT true,
    dispatched boolean DEFAULT true,
    input_tokens integer DEFAULT NULL::integer,
    output_tokens integer DEFAULT NULL::integer,
    thoughts_tokens integer DEFAULT NULL::integer,
    cached_tokens integer DEFAULT NULL::integer,
    total_tokens integer DEFAULT NULL::integer,
    upstream_status integer DEFAULT NULL::integer,
    error_code text DEFAULT NULL::text,
    error_detail text DEFAULT NULL::text,
    finish_reason text DEFAULT NULL::text,
    block jsonb DEFAULT NULL::jsonb,
    latency_ms integer DEFAULT NULL::integer,
    usage_estimated boolean DEFAULT false,
    result jsonb DEFAULT NULL::jsonb
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="" set plan_cache_mode=force_generic_plan set enable_seqscan=off set jit=off;
comment on function public.eve_settle is 'Ends a reservation: real tokens replace the estimate at its own place in the window. Twice is the same as once; late is harmless.';

create function public.eve_settle_many(settlements jsonb)
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="" set plan_cache_mode=force_generic_plan set enable_seqscan=off set jit=off set enable_hashjoin=off set enable_mergejoin=off;
comment on function public.eve_settle_many is 'Ends up to 100 running reservations as eve_settle does, in one transaction. Answers in the order asked; null: not a plain end, so ask eve_settle.';

create function public.eve_stage(stage_type text)
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="";
comment on function public.eve_stage is 'Which model serves a stage and which keys are not the stage''s; or that nobody has set it up, or that there is no such stage.';

create function public.eve_stage_credential(name text)
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_stage_credential is 'The encrypted key behind the env_var_name stage:POEM, and the settings that go with it; null if there is none.';

create function public.eve_stage_from_environment(
    stage_type text,
    provider_kind text,
    model text,
    env_var_name text DEFAULT NULL::text
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_stage_from_environment is 'Makes the rows by which the environment serves a stage that nobody has set up, and says which keys are not the stage''s.';

create function public.eve_stage_keys()
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_stage_keys is 'The keys that are there for a stage: consumers are served by them through their stages alone.';

create function public.eve_sweep(at_most integer DEFAULT 1000)
  returns jsonb
  language sql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_sweep is 'Closes reservations whose callers have died. Every reservation does so for its own lane too.';

create function public.eve_tail(after jsonb DEFAULT NULL::jsonb, at_most integer DEFAULT 1000)
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="" set enable_seqscan=off set enable_bitmapscan=off set jit=off;
comment on function public.eve_tail is 'What has ended or was refused since a cursor that an earlier call answered. The last two seconds are told again.';

create function public.eve_token_revoke(
    token_id uuid DEFAULT NULL::uuid,
    consumer text DEFAULT NULL::text,
    reason text DEFAULT NULL::text
  )
  returns jsonb
  language plpgsql
  volatile
  security invoker
  set search_path="";
comment on function public.eve_token_revoke is 'Ends one token, or all of a consumer''s, for good: the next reservation refuses it.';

create function public.eve_tokens(
    consumer text DEFAULT NULL::text,
    include_ended boolean DEFAULT false,
    at_most integer DEFAULT 200
  )
  returns jsonb
  language sql
  stable
  security invoker
  set search_path="";
comment on function public.eve_tokens is 'Tokens that were issued, the newest first, with what was spent of them. Never the tokens themselves.';

create function public.eve_usage(
    by text[] DEFAULT '{day}'::text[],
    since timestamp with time zone DEFAULT NULL::timestamp with time zone,
    until timestamp with time zone DEFAULT NULL::timestamp with time zone,
    consumer text DEFAULT NULL::text,
    model text DEFAULT NULL::text,
    key text DEFAULT NULL::text,
    at_most integer DEFAULT 1000
  )
  returns jsonb
  language plpgsql
  stable
  security invoker
  set search_path="" set jit=off;
comment on function public.eve_usage is 'Requests, refusals, attempts, tokens and times summed by day (Pacific), hour, consumer, model, key and door. Complete up to complete_until; call eve_rollup before.';
