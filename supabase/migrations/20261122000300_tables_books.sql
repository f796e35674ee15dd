-- What admission needs: settings, lanes, and the requests that are running.

set local lock_timeout = '10s';

create table if not exists eve.settings (
  name text primary key,
  value bigint not null,
  description text not null,
  constraint settings_guard_range check (name <> 'guard_ms' or value between 0 and 5000),
  constraint settings_waiting_share_range check (name <> 'waiting_share_percent' or value between 0 and 100),
  constraint settings_max_output_positive check (name <> 'default_max_output_tokens' or value between 1 and 2147483647)
);
comment on table eve.settings is 'Numbers that admission reads on every call; a change takes effect on the next one.';
insert into eve.settings (name, value, description) values
  ('guard_ms', 250, 'Widens the minute window and the edges of the Pacific day by this many milliseconds, for network jitter. 0 to 5000.'),
  ('learn_one_in', 8, 'One settled call in so many teaches its model''s estimate factor; 0: none does.'),
  ('waiting_share_percent', 50, 'Of the starts and tokens that a lane has in a minute, so many percent may be booked ahead for one consumer, at least one start; 0: any number.'),
  ('default_max_output_tokens', 8192, 'What a consumer or token with a budget of tokens may get as an answer where neither the request nor the model''s row says how much.')
on conflict (name) do nothing;
insert into eve.settings (name, value, description) values
  ('issue_per_consumer_minute', 10, 'Tokens that one consumer may ask for in a minute.'),
  ('issue_per_address_minute', 30, 'Times that one network (an IPv4 address, an IPv6 /64) may ask for a token in a minute, with a right secret or a wrong one; and wrong credentials that it may send elsewhere.'),
  ('refusal_rows_per_minute', 1000, 'Refused credentials are noted in so many rows a minute; those of further networks are counted together.')
on conflict (name) do nothing;
insert into eve.settings (name, value, description) values
  ('refusals_kept_a_minute', 30, 'So many refusals of a consumer in a minute are kept row by row; more are counted, in eve.refusal_counts.'),
  ('alert_window_s', 600, 'Rates of refusals and of upstream errors are taken over this many seconds.'),
  ('alert_clear_s', 300, 'A rate has to stay below its threshold for so many seconds before its alert closes.'),
  ('alert_stale_s', 3600, 'An alert that only a failure reports closes when none has been seen for so many seconds.'),
  ('alert_refusals_percent', 25, 'Alert when at least so many per cent of the requests of a window are refused for want of quota or keys.'),
  ('alert_refusals_min', 20, 'Refusals in a window below which their rate says nothing.'),
  ('alert_upstream_percent', 25, 'Alert when at least so many per cent of a model''s calls in a window fail on upstream''s side.'),
  ('alert_upstream_min', 10, 'Failed calls in a window below which their rate says nothing.'),
  ('alert_exhausted_before_hour', 20, 'Alert when a lane''s day is used up before this hour (0 to 24) in Los Angeles; 0: never, 24: always.'),
  ('alert_tries', 12, 'Tries to tell an alert before it is given up; with the pauses between them about six hours.')
on conflict (name) do nothing;
insert into eve.settings (name, value, description) values
  ('metrics_consumers', 100, 'So many consumers get time series of their own; later ones are counted together as "other".')
on conflict (name) do nothing;

create table if not exists eve.quota_overrides (
  quota_project text not null,
  model text not null,
  rpm integer,
  tpm integer,
  rpd integer,
  notes text,
  updated_at timestamptz not null default now(),
  primary key (quota_project, model),
  constraint quota_overrides_limits_positive check (rpm >= 0 and tpm >= 0 and rpd >= 0)
);
comment on table eve.quota_overrides is 'Limits of one quota project that differ from the model''s row (another tier). The whole row replaces it; null is unlimited.';
comment on column eve.quota_overrides.quota_project is 'As in google_ai_api_keys.quota_key.';
comment on column eve.quota_overrides.rpm is 'Requests a minute; tpm: input tokens a minute; rpd: requests a Pacific day.';

create table if not exists eve.lanes (
  id bigint generated always as identity primary key,
  quota_project text not null,
  model text not null,
  blocked_until timestamptz,
  blocked_reason text,
  -- What changes with nearly every booking stands together: of a row that stays on its page the log has what lies between the first
  -- and the last byte that changed.
  batch_start_ms bigint not null default 0,
  pace_ms bigint not null default 0,
  token_pace_ms bigint not null default 0,
  day_ends_ms bigint not null default 0,
  day_batch_starts integer not null default 0,
  day_starts integer not null default 0,
  interactive_tail_ms bigint not null default 0,
  span_tokens bigint not null default 0,
  span_starts bigint not null default 0,
  turns bigint not null default 0,
  span_number bigint not null default 0,
  previous_span_starts bigint not null default 0,
  previous_span_tokens bigint not null default 0,
  next_lease_ms bigint not null default 0,
  next_day_starts integer not null default 0,
  next_day_batch_starts integer not null default 0,
  constraint lanes_quota_project_model_key unique (quota_project, model)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
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

create table if not exists eve.lane_buckets (
  lane_id bigint not null,
  at_ms bigint not null,
  starts integer not null,
  tokens bigint not null,
  batch_starts integer not null,
  batch_tokens bigint not null,
  primary key (lane_id, at_ms)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
comment on table eve.lane_buckets is 'Starts and input tokens of a lane at an instant: a millisecond on lanes of up to 600 starts a minute, a tenth of a second on faster ones.';
comment on column eve.lane_buckets.at_ms is 'The end of the bucket, in milliseconds since 1970.';
comment on column eve.lane_buckets.batch_starts is 'Those of starts that were batch; batch_tokens likewise.';

create sequence if not exists eve.request_no as bigint cache 32;
comment on sequence eve.request_no is 'Numbers requests in the order they were admitted (nearly: each connection takes 32 at a time).';

create table if not exists eve.inflight (
  request_no bigint primary key,
  consumer_id uuid not null,
  request_id text not null,
  token_id uuid,
  class text not null,
  endpoint text not null,
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
  output_tokens integer not null default 0,
  queued_ms bigint,
  any_lane boolean not null default true,
  lease_until timestamptz not null,
  received_at timestamptz not null,
  wait_ms bigint not null,
  trace_id text,
  metadata jsonb not null,
  request_hash text,
  call_id uuid,
  -- No checks of class and state: the functions alone write them, and PostgreSQL plans a check again for every insert.
  constraint inflight_consumer_id_request_id_key unique (consumer_id, request_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
-- By it a lane's expired leases are found, and the next that may expire.
create index if not exists inflight_lane_id_lease_until_idx on eve.inflight (lane_id, lease_until);
-- Batch that waits for a model, in its order.
create index if not exists inflight_waiting_idx on eve.inflight (model, queued_ms, request_no) where state = 'waiting';
comment on table eve.inflight is 'Requests that are running: one row each, with the reservation of the current attempt. Small, whatever the audit''s size.';
comment on column eve.inflight.state is 'reserved: an attempt holds a slot. waiting: batch that waits in the queue and holds none yet. between: the last attempt has failed, the next has not been reserved.';
comment on column eve.inflight.queued_ms is 'When batch that waits came, in milliseconds since 1970: its place in the queue. start_ms is then when it is to ask again.';
comment on column eve.inflight.any_lane is 'Whether batch that waits may start on any lane of its model; false: it waits for this one, for its tokens or because some of its keys are excluded.';
comment on column eve.inflight.tokens is 'Input tokens booked, after the model''s factor.';
comment on column eve.inflight.start_ms is 'The start that was answered to the caller, in milliseconds since 1970; bucket_ms: the bucket it is booked in.';
comment on column eve.inflight.day_ends_ms is 'The Pacific midnight that ended the lane''s day at the time of booking: which count to give it back to.';
comment on column eve.inflight.wait_ms is 'Milliseconds that its attempts waited for their starts, together.';
comment on column eve.inflight.requested_model is 'The model asked for; model is the one that serves.';
comment on column eve.inflight.request_hash is 'Tells a repetition of a request from another request with the same id.';
comment on column eve.inflight.output_tokens is 'Tokens of the answer that are reserved in the budgets of its consumer and its token; 0 where neither has one.';
comment on column eve.inflight.estimated_tokens is 'The caller''s estimate before the model''s factor: what the factor is learned from.';
comment on column eve.inflight.call_id is 'Which call of eve_reserve made the reservation of the current attempt: by it eve_give_back knows its own.';
comment on column eve.inflight.lease_until is 'Not settled by then: the caller has died, and the row is closed as expired.';

create table if not exists eve.key_model_blocks (
  key_id uuid not null,
  model text not null,
  blocked_until timestamptz not null,
  reason text not null,
  created_at timestamptz not null default now(),
  primary key (key_id, model)
);
comment on table eve.key_model_blocks is 'A key that may not be used for one model: the model is not on its project, or the project has no quota for it.';
