-- The whole schema as the migrations make it, in their order; what each part is for is said at the head of its migration.
-- Compared by tests/db/schema.test.ts; written again, on purpose, by: npm test -- tests/db/schema.test.ts -u

-- adopt_tables --------------------------------------------------------------------------------------------------------

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
CREATE TRIGGER lock_routes BEFORE INSERT OR DELETE OR UPDATE OF id, key_alias, provider, env_var_name, is_active, priority, quota_project, blocked_until OR TRUNCATE ON public.google_ai_api_keys FOR EACH STATEMENT EXECUTE FUNCTION eve.lock_routes(); -- enabled
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
CREATE TRIGGER lock_routes BEFORE INSERT OR DELETE OR UPDATE OF model, provider, is_active, replaced_by, rpm, tpm, rpd, batch_floor, interactive_floor, interactive_reserve, interactive_reserve_day, estimate_ceiling, supports_system, supports_json, supports_tools, supports_thinking, max_output_tokens OR TRUNCATE ON public.google_ai_model_limits FOR EACH STATEMENT EXECUTE FUNCTION eve.lock_routes(); -- enabled
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
comment on column public.token_usage.meta is 'Of the gateway''s rows: source, consumer, key_alias; attempt, where it was not the first; estimated, where upstream told no tokens.';

CREATE OR REPLACE FUNCTION eve.insert_token_usage(model text, prompt_tokens integer, completion_tokens integer, total_tokens bigint, request_id text, meta jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
begin
  insert into public.token_usage as t (model, prompt_tokens, completion_tokens, total_tokens, request_id, meta)
  values (insert_token_usage.model, insert_token_usage.prompt_tokens, insert_token_usage.completion_tokens, insert_token_usage.total_tokens, insert_token_usage.request_id, insert_token_usage.meta)
  on conflict do nothing;
end;
$function$;

-- tables_books --------------------------------------------------------------------------------------------------------

create table eve.settings (
  name text not null,
  value bigint not null,
  description text not null,
  constraint settings_guard_range CHECK (((name <> 'guard_ms'::text) OR ((value >= 0) AND (value <= 5000)))),
  constraint settings_max_output_positive CHECK (((name <> 'default_max_output_tokens'::text) OR ((value >= 1) AND (value <= 2147483647)))),
  constraint settings_pkey PRIMARY KEY (name),
  constraint settings_waiting_share_range CHECK (((name <> 'waiting_share_percent'::text) OR ((value >= 0) AND (value <= 100))))
);
alter table eve.settings enable row level security;
CREATE TRIGGER drop_routes AFTER INSERT OR DELETE OR UPDATE ON eve.settings FOR EACH ROW EXECUTE FUNCTION eve.drop_routes(); -- enabled
CREATE TRIGGER drop_routes_truncated AFTER TRUNCATE ON eve.settings FOR EACH STATEMENT EXECUTE FUNCTION eve.drop_routes(); -- enabled
CREATE TRIGGER lock_routes BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON eve.settings FOR EACH STATEMENT EXECUTE FUNCTION eve.lock_routes(); -- enabled
comment on table eve.settings is 'Numbers that admission reads on every call; a change takes effect on the next one.';

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
CREATE TRIGGER lock_routes BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON eve.quota_overrides FOR EACH STATEMENT EXECUTE FUNCTION eve.lock_routes(); -- enabled
comment on table eve.quota_overrides is 'Limits of one quota project that differ from the model''s row (another tier). The whole row replaces it; null is unlimited.';
comment on column eve.quota_overrides.quota_project is 'As in google_ai_api_keys.quota_key.';
comment on column eve.quota_overrides.rpm is 'Requests a minute; tpm: input tokens a minute; rpd: requests a Pacific day.';

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

create sequence eve.request_no as bigint start 1 increment 1 cache 32;
comment on sequence eve.request_no is 'Numbers requests in the order they were admitted (nearly: each connection takes 32 at a time).';

create table eve.inflight (
  request_no bigint not null,
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
comment on column eve.inflight.state is 'reserved: an attempt holds a slot. waiting: batch that waits in the queue and holds none yet. between: the last attempt has failed, the next has not been reserved.';
comment on column eve.inflight.start_ms is 'The start that the caller was told, in milliseconds since 1970; bucket_ms: the bucket it is booked in.';
comment on column eve.inflight.day_ends_ms is 'The Pacific midnight that ended the lane''s day at the time of booking: which count to give it back to.';
comment on column eve.inflight.tokens is 'Input tokens booked, after the model''s factor.';
comment on column eve.inflight.estimated_tokens is 'The caller''s estimate before the model''s factor: what the factor is learned from.';
comment on column eve.inflight.output_tokens is 'Tokens of the answer that are reserved in the budgets of its consumer and its token; 0 where neither has one.';
comment on column eve.inflight.queued_ms is 'When batch that waits came, in milliseconds since 1970: its place in the queue. start_ms is then when it is to ask again.';
comment on column eve.inflight.any_lane is 'Whether batch that waits may start on any lane of its model; false: some of its keys are excluded, and it waits for this one.';
comment on column eve.inflight.lease_until is 'Not settled by then: the caller has died, and the row is closed as expired.';
comment on column eve.inflight.wait_ms is 'Milliseconds that its attempts waited for their starts, together.';
comment on column eve.inflight.request_hash is 'Tells a repetition of a request from another request with the same id.';
comment on column eve.inflight.call_id is 'Which call of eve_reserve made the reservation of the current attempt: by it eve_give_back knows its own.';

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
CREATE TRIGGER lock_routes BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON eve.key_model_blocks FOR EACH STATEMENT EXECUTE FUNCTION eve.lock_routes(); -- enabled
comment on table eve.key_model_blocks is 'A key that may not be used for one model: the model is not on its project, or the project has no quota for it.';

-- tables_audit --------------------------------------------------------------------------------------------------------

create table eve.requests (
  request_no bigint not null,
  received_at timestamp with time zone not null,
  finished_at timestamp with time zone not null,
  written_by xid8 not null default pg_current_xact_id(),
  start_ms bigint,
  settled_at timestamp with time zone,
  wait_ms bigint not null,
  lane_id integer,
  tokens_booked integer,
  output_booked integer,
  input_tokens integer,
  output_tokens integer,
  thoughts_tokens integer,
  cached_tokens integer,
  total_tokens integer,
  latency_ms integer,
  attempts smallint not null,
  bucket_after_ms smallint,
  upstream_status smallint,
  usage_estimated boolean,
  dispatched boolean,
  consumer_id uuid not null,
  key_id uuid,
  token_id uuid,
  request_id text not null,
  class text not null,
  endpoint text not null,
  requested_model text,
  model text not null,
  state text not null,
  error_code text,
  error_detail text,
  finish_reason text,
  trace_id text,
  metadata jsonb,
  constraint requests_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint requests_pkey PRIMARY KEY (finished_at, request_no),
  constraint requests_state_known CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])))
);
alter table eve.requests enable row level security;
CREATE INDEX requests_received_at_idx ON ONLY eve.requests USING brin (received_at) WITH (autosummarize='on');
CREATE INDEX requests_request_id_idx ON ONLY eve.requests USING hash (request_id);
CREATE INDEX requests_request_no_idx ON ONLY eve.requests USING btree (request_no);
CREATE INDEX requests_settled_at_idx ON ONLY eve.requests USING btree (settled_at) WHERE (settled_at IS NOT NULL);
CREATE INDEX requests_start_ms_idx ON ONLY eve.requests USING brin (start_ms) WITH (autosummarize='on');
CREATE TRIGGER requests_settled_late AFTER UPDATE OF state ON eve.requests FOR EACH ROW WHEN (((old.state = 'expired'::text) AND (new.state <> 'expired'::text) AND (new.input_tokens IS NOT NULL))) EXECUTE FUNCTION eve.correct_usage(); -- enabled
comment on table eve.requests is 'Audit: every request that ended, with its last attempt. Those still running are in eve.inflight.';
comment on column eve.requests.written_by is 'The transaction that wrote the row: by it eve.count_requests knows what it has counted.';
comment on column eve.requests.settled_at is 'When the last attempt was settled, where that was after its lease; null: at finished_at.';
comment on column eve.requests.lane_id is 'Null: the last attempt is in eve.earlier_attempts, as another one was to follow it.';
comment on column eve.requests.input_tokens is 'Of the last attempt, as are the other tokens; eve.attempts has them all.';
comment on column eve.requests.bucket_after_ms is 'The bucket that the start is booked in ends so many milliseconds after it.';
comment on column eve.requests.key_id is 'The key of the last attempt.';
comment on column eve.requests.requested_model is 'The model asked for, where it is another one than model, which served; else null.';
comment on column eve.requests.metadata is 'What the caller sent along; null: nothing.';

create table eve.requests_default (
  request_no bigint not null,
  received_at timestamp with time zone not null,
  finished_at timestamp with time zone not null,
  written_by xid8 not null default pg_current_xact_id(),
  start_ms bigint,
  settled_at timestamp with time zone,
  wait_ms bigint not null,
  lane_id integer,
  tokens_booked integer,
  output_booked integer,
  input_tokens integer,
  output_tokens integer,
  thoughts_tokens integer,
  cached_tokens integer,
  total_tokens integer,
  latency_ms integer,
  attempts smallint not null,
  bucket_after_ms smallint,
  upstream_status smallint,
  usage_estimated boolean,
  dispatched boolean,
  consumer_id uuid not null,
  key_id uuid,
  token_id uuid,
  request_id text not null,
  class text not null,
  endpoint text not null,
  requested_model text,
  model text not null,
  state text not null,
  error_code text,
  error_detail text,
  finish_reason text,
  trace_id text,
  metadata jsonb,
  constraint requests_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint requests_default_pkey PRIMARY KEY (finished_at, request_no),
  constraint requests_state_known CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])))
);
alter table eve.requests_default enable row level security;
CREATE INDEX requests_default_received_at_idx ON eve.requests_default USING brin (received_at) WITH (autosummarize='on');
CREATE INDEX requests_default_request_id_idx ON eve.requests_default USING hash (request_id);
CREATE INDEX requests_default_request_no_idx ON eve.requests_default USING btree (request_no);
CREATE INDEX requests_default_settled_at_idx ON eve.requests_default USING btree (settled_at) WHERE (settled_at IS NOT NULL);
CREATE INDEX requests_default_start_ms_idx ON eve.requests_default USING brin (start_ms) WITH (autosummarize='on');
CREATE TRIGGER requests_settled_late AFTER UPDATE OF state ON eve.requests_default FOR EACH ROW WHEN (((old.state = 'expired'::text) AND (new.state <> 'expired'::text) AND (new.input_tokens IS NOT NULL))) EXECUTE FUNCTION eve.correct_usage(); -- enabled
comment on table eve.requests_default is 'Requests that ended on a day without a partition of its own.';

create table eve.earlier_attempts (
  request_no bigint not null,
  settled_at timestamp with time zone not null,
  start_ms bigint not null,
  lane_id integer not null,
  tokens_booked integer not null,
  output_booked integer,
  input_tokens integer,
  output_tokens integer,
  thoughts_tokens integer,
  cached_tokens integer,
  total_tokens integer,
  latency_ms integer,
  attempt smallint not null,
  bucket_after_ms smallint not null,
  upstream_status smallint,
  usage_estimated boolean not null default false,
  dispatched boolean not null,
  key_id uuid not null,
  model text not null,
  class text not null,
  outcome text not null,
  error_code text,
  error_detail text,
  finish_reason text,
  constraint earlier_attempts_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint earlier_attempts_outcome_known CHECK ((outcome = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text]))),
  constraint earlier_attempts_pkey PRIMARY KEY (request_no, attempt, settled_at)
);
alter table eve.earlier_attempts enable row level security;
CREATE INDEX earlier_attempts_settled_at_idx ON ONLY eve.earlier_attempts USING brin (settled_at) WITH (autosummarize='on');
CREATE INDEX earlier_attempts_start_ms_idx ON ONLY eve.earlier_attempts USING brin (start_ms) WITH (autosummarize='on');
comment on table eve.earlier_attempts is 'Audit: attempts that another one was to follow. Each request''s last one is in eve.requests.';

create table eve.earlier_attempts_default (
  request_no bigint not null,
  settled_at timestamp with time zone not null,
  start_ms bigint not null,
  lane_id integer not null,
  tokens_booked integer not null,
  output_booked integer,
  input_tokens integer,
  output_tokens integer,
  thoughts_tokens integer,
  cached_tokens integer,
  total_tokens integer,
  latency_ms integer,
  attempt smallint not null,
  bucket_after_ms smallint not null,
  upstream_status smallint,
  usage_estimated boolean not null default false,
  dispatched boolean not null,
  key_id uuid not null,
  model text not null,
  class text not null,
  outcome text not null,
  error_code text,
  error_detail text,
  finish_reason text,
  constraint earlier_attempts_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint earlier_attempts_default_pkey PRIMARY KEY (request_no, attempt, settled_at),
  constraint earlier_attempts_outcome_known CHECK ((outcome = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])))
);
alter table eve.earlier_attempts_default enable row level security;
CREATE INDEX earlier_attempts_default_settled_at_idx ON eve.earlier_attempts_default USING brin (settled_at) WITH (autosummarize='on');
CREATE INDEX earlier_attempts_default_start_ms_idx ON eve.earlier_attempts_default USING brin (start_ms) WITH (autosummarize='on');
comment on table eve.earlier_attempts_default is 'Attempts of days without a partition of their own.';

create view eve.attempts with (security_invoker=on) as  SELECT r.request_no,
    r.attempts AS attempt,
    (r.lane_id)::bigint AS lane_id,
    r.key_id,
    r.model,
    r.class,
    r.start_ms,
    (r.start_ms + r.bucket_after_ms) AS bucket_ms,
    (r.tokens_booked)::bigint AS tokens_booked,
    r.output_booked,
    r.input_tokens,
    r.output_tokens,
    r.thoughts_tokens,
    r.cached_tokens,
    r.total_tokens,
    r.usage_estimated,
    r.state AS outcome,
    r.dispatched,
    (r.upstream_status)::integer AS upstream_status,
    r.error_code,
    r.error_detail,
    r.finish_reason,
    r.latency_ms,
    r.finished_at AS settled_at,
    r.consumer_id,
    r.endpoint
   FROM eve.requests r
  WHERE ((r.lane_id IS NOT NULL) AND (r.settled_at IS NULL))
UNION ALL
 SELECT r.request_no,
    r.attempts AS attempt,
    (r.lane_id)::bigint AS lane_id,
    r.key_id,
    r.model,
    r.class,
    r.start_ms,
    (r.start_ms + r.bucket_after_ms) AS bucket_ms,
    (r.tokens_booked)::bigint AS tokens_booked,
    r.output_booked,
    r.input_tokens,
    r.output_tokens,
    r.thoughts_tokens,
    r.cached_tokens,
    r.total_tokens,
    r.usage_estimated,
    r.state AS outcome,
    r.dispatched,
    (r.upstream_status)::integer AS upstream_status,
    COALESCE(r.error_code, 'settled_late'::text) AS error_code,
    r.error_detail,
    r.finish_reason,
    r.latency_ms,
    r.settled_at,
    r.consumer_id,
    r.endpoint
   FROM eve.requests r
  WHERE ((r.lane_id IS NOT NULL) AND (r.settled_at IS NOT NULL))
UNION ALL
 SELECT e.request_no,
    e.attempt,
    (e.lane_id)::bigint AS lane_id,
    e.key_id,
    e.model,
    e.class,
    e.start_ms,
    (e.start_ms + e.bucket_after_ms) AS bucket_ms,
    (e.tokens_booked)::bigint AS tokens_booked,
    e.output_booked,
    e.input_tokens,
    e.output_tokens,
    e.thoughts_tokens,
    e.cached_tokens,
    e.total_tokens,
    e.usage_estimated,
    e.outcome,
    e.dispatched,
    (e.upstream_status)::integer AS upstream_status,
    e.error_code,
    e.error_detail,
    e.finish_reason,
    e.latency_ms,
    e.settled_at,
    NULL::uuid AS consumer_id,
    NULL::text AS endpoint
   FROM eve.earlier_attempts e;;
comment on view eve.attempts is 'Audit: every reservation that ended, and how.';

create table eve.request_keys (
  consumer_id uuid not null,
  request_id text not null,
  request_no bigint not null,
  ended_at timestamp with time zone not null,
  state text not null,
  attempts smallint not null,
  requested_model text not null,
  class text not null,
  request_hash text not null,
  error_code text,
  constraint request_keys_pkey PRIMARY KEY (consumer_id, request_id)
);
alter table eve.request_keys enable row level security;
CREATE INDEX request_keys_ended_at_idx ON eve.request_keys USING brin (ended_at);
comment on table eve.request_keys is 'Requests that have ended and whose callers chose their ids, as they may come again. For as long as eve.retention keeps it.';
comment on column eve.request_keys.request_hash is 'Tells a repetition of a request from another request with the same id. A request without one bears an id that the gateway made, and is not here.';

create table eve.request_results (
  request_no bigint not null,
  result jsonb not null,
  kept_at timestamp with time zone not null default now(),
  constraint request_results_pkey PRIMARY KEY (request_no)
);
alter table eve.request_results enable row level security;
CREATE INDEX request_results_kept_at_idx ON eve.request_results USING brin (kept_at);
comment on table eve.request_results is 'Answers kept so that a repeated request_id gets the same one. Only where the caller asked for it.';

create sequence eve.refusal_no as bigint start 1 increment 1 cache 32;
comment on sequence eve.refusal_no is 'Numbers refusals nearly in their order: each connection takes 32 at a time.';

create table eve.refusals (
  id bigint not null default nextval('eve.refusal_no'::regclass),
  refused_at timestamp with time zone not null,
  written_by xid8 not null default pg_current_xact_id(),
  tokens bigint not null,
  retry_after_ms bigint,
  attempt smallint not null,
  consumer_id uuid,
  token_id uuid,
  request_id text not null,
  class text not null,
  endpoint text not null,
  model text not null,
  code text not null,
  limit_name text,
  trace_id text,
  constraint refusals_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint refusals_pkey PRIMARY KEY (refused_at, id)
);
alter table eve.refusals enable row level security;
CREATE INDEX refusals_id_idx ON ONLY eve.refusals USING btree (id);
CREATE INDEX refusals_request_id_idx ON ONLY eve.refusals USING hash (request_id);
comment on table eve.refusals is 'Audit: every reservation that was refused, why, and when it may come back.';
comment on column eve.refusals.written_by is 'The transaction that wrote the row: by it eve.count_refusals knows what it has counted.';
comment on column eve.refusals.tokens is 'Estimated input tokens, before the model''s factor.';
comment on column eve.refusals.retry_after_ms is 'When to come back, as it was told; null: coming back does not help.';
comment on column eve.refusals.limit_name is 'Which limit stood in the way: rpm, tpm, rpd, queue, blocked, or a budget.';

create table eve.refusals_default (
  id bigint not null default nextval('eve.refusal_no'::regclass),
  refused_at timestamp with time zone not null,
  written_by xid8 not null default pg_current_xact_id(),
  tokens bigint not null,
  retry_after_ms bigint,
  attempt smallint not null,
  consumer_id uuid,
  token_id uuid,
  request_id text not null,
  class text not null,
  endpoint text not null,
  model text not null,
  code text not null,
  limit_name text,
  trace_id text,
  constraint refusals_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint refusals_default_pkey PRIMARY KEY (refused_at, id)
);
alter table eve.refusals_default enable row level security;
CREATE INDEX refusals_default_id_idx ON eve.refusals_default USING btree (id);
CREATE INDEX refusals_default_request_id_idx ON eve.refusals_default USING hash (request_id);
comment on table eve.refusals_default is 'Refusals of days without a partition of their own.';

create table eve.refusal_minutes (
  consumer_id uuid not null,
  minute timestamp with time zone not null,
  kept integer not null,
  constraint refusal_minutes_pkey PRIMARY KEY (consumer_id)
) with (fillfactor=50);
alter table eve.refusal_minutes enable row level security;
comment on table eve.refusal_minutes is 'How many refusals of a consumer became a row of eve.refusals in the last minute that had any.';

create table eve.refusal_counts (
  id bigint not null generated always as identity,
  minute timestamp with time zone not null,
  consumer_id uuid not null,
  code text not null,
  limit_name text not null,
  model text not null,
  class text not null,
  endpoint text not null,
  is_first boolean not null,
  times bigint not null,
  counted bigint not null default 0,
  constraint refusal_counts_minute_key UNIQUE (minute, consumer_id, code, limit_name, model, class, endpoint, is_first),
  constraint refusal_counts_pkey PRIMARY KEY (id)
) with (fillfactor=50);
alter table eve.refusal_counts enable row level security;
comment on table eve.refusal_counts is 'Audit: refusals beyond the setting refusals_kept_a_minute, counted, so that a flood of them does not fill the disk.';
comment on column eve.refusal_counts.limit_name is 'As in eve.refusals; empty: none.';
comment on column eve.refusal_counts.model is '(unknown) where there is no such model.';
comment on column eve.refusal_counts.is_first is 'Whether they were refused at their first attempt.';
comment on column eve.refusal_counts.counted is 'How many of times are in the metrics.';

create table eve.audit_trimmed (
  only_row boolean not null default true,
  trimmed_before timestamp with time zone not null default '-infinity'::timestamp with time zone,
  token_usage_before timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint audit_trimmed_has_one_row CHECK (only_row),
  constraint audit_trimmed_pkey PRIMARY KEY (only_row)
);
alter table eve.audit_trimmed enable row level security;
comment on table eve.audit_trimmed is 'What had to go for its size, before its time. One row.';
comment on column eve.audit_trimmed.trimmed_before is 'The audit before this time has gone, and the gateway''s rows of public.token_usage go.';
comment on column eve.audit_trimmed.token_usage_before is 'As far as those have gone.';

-- tables_access -------------------------------------------------------------------------------------------------------

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
  scopes text[] not null default '{llm}'::text[],
  tenant_id text,
  constraint consumers_budgets_positive CHECK (((requests_per_day >= 0) AND (tokens_per_day >= 0))),
  constraint consumers_key_id_form CHECK ((key_id ~ '^[0-9a-f]{16}$'::text)),
  constraint consumers_kind_known CHECK ((kind = ANY (ARRAY['project'::text, 'service'::text, 'notebook'::text]))),
  constraint consumers_max_class_known CHECK ((max_class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint consumers_name_key UNIQUE (name),
  constraint consumers_pkey PRIMARY KEY (id),
  constraint consumers_rpm_positive CHECK ((rpm > 0)),
  constraint consumers_scopes_known CHECK (((scopes <@ '{llm,media,chats,vision,intake}'::text[]) AND ((cardinality(scopes) >= 1) AND (cardinality(scopes) <= 5)))),
  constraint consumers_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES eve.tenants(id),
  constraint consumers_token_ttl_range CHECK (((token_ttl_s >= 60) AND (token_ttl_s <= 86400)))
);
alter table eve.consumers enable row level security;
CREATE UNIQUE INDEX consumers_key_id_key ON eve.consumers USING btree (key_id);
CREATE INDEX consumers_tenant_id_idx ON eve.consumers USING btree (tenant_id);
comment on table eve.consumers is 'Who calls. A secret is kept as a hash only.';
comment on column eve.consumers.kind is 'project: the project''s own secret key. service: calls with a key of its own. notebook: exchanges its secret for scoped tokens.';
comment on column eve.consumers.secret_hash is 'SHA-256, in hex, over the proof of the secret (see eve.secret_hash).';
comment on column eve.consumers.previous_secret_hash is 'Accepted until previous_secret_until, so that a secret can be changed without a gap.';
comment on column eve.consumers.previous_secret_until is 'After a rotation the secret before it is valid until then.';
comment on column eve.consumers.models is 'Models it may call; null: all.';
comment on column eve.consumers.max_class is 'The highest traffic class it gets; batch turns its interactive requests into batch.';
comment on column eve.consumers.requests_per_day is 'Requests a Pacific day, however many attempts each takes; null: no budget.';
comment on column eve.consumers.tokens_per_day is 'Input and output tokens a Pacific day; null: no budget.';
comment on column eve.consumers.capture is 'Whether what it asks and gets is kept; a request may say no. Nothing else allows it.';
comment on column eve.consumers.key_id is 'The public part of its secret, by which it is found.';
comment on column eve.consumers.rpm is 'Requests it may begin in any minute; null: no limit of its own.';
comment on column eve.consumers.token_ttl_s is 'The longest life of a token issued to it, in seconds: 60 to 86400.';
comment on column eve.consumers.scopes is 'What it may use: llm, media, chats, vision, intake.';
comment on column eve.consumers.tenant_id is 'Whose it is; null: the default tenant''s.';

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
comment on column eve.consumer_days.tokens is 'Input and output tokens; while a call runs, the estimate of its input and the longest answer that it may get.';

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
  scopes text[],
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
comment on column eve.scoped_tokens.scopes is 'Of its consumer''s scopes those that it carries; null, in tokens from before there were scopes: llm.';

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

create table eve.consumer_minutes (
  consumer_id uuid not null,
  second bigint not null,
  starts integer[] not null,
  constraint consumer_minutes_consumer_id_fkey FOREIGN KEY (consumer_id) REFERENCES eve.consumers(id) ON DELETE CASCADE,
  constraint consumer_minutes_pkey PRIMARY KEY (consumer_id)
) with (fillfactor=50);
alter table eve.consumer_minutes enable row level security;
comment on table eve.consumer_minutes is 'Requests of a consumer with an rpm in the last 61 seconds: a ring, the second modulo 61, up to the column second.';

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

-- tables_upkeep -------------------------------------------------------------------------------------------------------

create sequence eve.operation_run as bigint start 1 increment 1 cache 1;
comment on sequence eve.operation_run is 'Numbers the runs of operations.';

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
  logs_all boolean not null default false,
  idle_runs bigint not null default 0,
  last_idle_at timestamp with time zone,
  constraint operations_last_status_known CHECK ((last_status = ANY (ARRAY['succeeded'::text, 'failed'::text]))),
  constraint operations_pkey PRIMARY KEY (name),
  constraint operations_runs_in_known CHECK ((runs_in = ANY (ARRAY['sql'::text, 'http'::text]))),
  constraint operations_time_limit_range CHECK (((time_limit_ms >= 1000) AND (time_limit_ms <= 120000)))
) with (fillfactor=50);
alter table eve.operations enable row level security;
CREATE UNIQUE INDEX operations_run_id_key ON eve.operations USING btree (run_id);
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
comment on column eve.operations.last_status is 'How the last run ended that was not skipped: succeeded or failed.';
comment on column eve.operations.logs_all is 'Whether a run that the schedule began and that changed nothing is a row of the log too, for what it found.';
comment on column eve.operations.idle_runs is 'How often the schedule found nothing to do: those are counted, and no rows of the log.';
comment on column eve.operations.last_idle_at is 'When it last found nothing to do.';

create table eve.retention (
  table_name text not null,
  keep interval,
  at_least interval not null,
  batch_rows integer not null default 2000,
  description text not null,
  batch_function text,
  constraint retention_batch_function_form CHECK ((batch_function ~ '^retention_of_[a-z_]{1,40}$'::text)),
  constraint retention_batch_rows_range CHECK (((batch_rows >= 100) AND (batch_rows <= 50000))),
  constraint retention_keeps_what_still_counts CHECK ((keep >= at_least)),
  constraint retention_pkey PRIMARY KEY (table_name)
);
alter table eve.retention enable row level security;
comment on table eve.retention is 'How long each table keeps its rows. A change takes effect with the next run.';
comment on column eve.retention.keep is 'Older rows are deleted; null: none ever is.';
comment on column eve.retention.at_least is 'Within this age a row may still count towards a limit, a budget, a running request or a sum.';
comment on column eve.retention.batch_rows is 'Rows looked at in one transaction: 100 to 50000.';
comment on column eve.retention.batch_function is 'The function of eve that deletes a batch: (relation, table_name, before, at_most, after) gives deleted and next_after. Null: retention_batch knows the table.';

create table eve.rollup_progress (
  only_row boolean not null default true,
  looked_until timestamp with time zone,
  rolled_until timestamp with time zone,
  frozen_before timestamp with time zone,
  hours_frozen_before timestamp with time zone,
  constraint rollup_progress_has_one_row CHECK (only_row),
  constraint rollup_progress_pkey PRIMARY KEY (only_row)
);
alter table eve.rollup_progress enable row level security;
comment on table eve.rollup_progress is 'How far the sums have come. One row.';
comment on column eve.rollup_progress.looked_until is 'What was written to the audit before this time has been looked through for good: what it changed is summed, or stands in eve.rollup_due.';
comment on column eve.rollup_progress.rolled_until is 'Everything written to the audit before this time is in eve.usage_hours.';
comment on column eve.rollup_progress.frozen_before is 'Retention has been at the audit before this time, so hours before it are not summed again.';
comment on column eve.rollup_progress.hours_frozen_before is 'The same for days, which are summed from eve.usage_hours.';

create table eve.rollup_due (
  unit text not null,
  at timestamp with time zone not null,
  failed_at timestamp with time zone,
  error text,
  constraint rollup_due_pkey PRIMARY KEY (unit, at),
  constraint rollup_due_unit_known CHECK ((unit = ANY (ARRAY['slice'::text, 'hour'::text, 'day'::text])))
);
alter table eve.rollup_due enable row level security;
comment on table eve.rollup_due is 'What is still to be summed again: slices of 20 seconds from the audit, hours from their slices, days from their hours.';
comment on column eve.rollup_due.at is 'Its beginning; of a day, midnight in Los Angeles.';
comment on column eve.rollup_due.failed_at is 'When it could not be summed, and why in error: it is tried again an hour later, and holds up nothing.';

create table eve.rollup_set_aside (
  source text not null,
  number bigint not null,
  attempt smallint not null,
  slice timestamp with time zone not null,
  error text not null,
  set_aside_at timestamp with time zone not null,
  constraint rollup_set_aside_pkey PRIMARY KEY (source, number, attempt),
  constraint rollup_set_aside_source_known CHECK ((source = ANY (ARRAY['requests'::text, 'attempts'::text, 'refusals'::text, 'refusal_counts'::text])))
);
alter table eve.rollup_set_aside enable row level security;
comment on table eve.rollup_set_aside is 'Rows of the audit that cannot be summed, and are left out of the sums until public.eve_rollup_rebuild is asked for.';
comment on column eve.rollup_set_aside.number is 'Its request_no, or its id; attempt is 0 but for attempts.';

create table eve.usage_slices (
  slice timestamp with time zone not null,
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
  constraint usage_slices_pkey PRIMARY KEY (slice, consumer_id, model, key_id, endpoint)
);
alter table eve.usage_slices enable row level security;
comment on table eve.usage_slices is 'The last hours, summed in slices of 20 seconds, of which eve.usage_hours are the sums. The columns mean the same; no consumer and no key are zeros.';

create table eve.usage_hours (
  id bigint not null generated always as identity,
  hour timestamp with time zone not null,
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
  constraint usage_hours_hour_consumer_model_key_door_key UNIQUE NULLS NOT DISTINCT (hour, consumer_id, model, key_id, endpoint),
  constraint usage_hours_pkey PRIMARY KEY (id)
);
alter table eve.usage_hours enable row level security;
comment on table eve.usage_hours is 'The audit summed by hour, consumer, model, key and endpoint. Made by rollup, and made again where a late settlement changes an hour.';
comment on column eve.usage_hours.hour is 'Its beginning. Requests count in the hour they came, refusals when they were refused, attempts and their tokens when they started.';
comment on column eve.usage_hours.consumer_id is 'Null: the project''s own key.';
comment on column eve.usage_hours.model is 'The model that served; of a refusal the one that was asked for, (unknown) where there is no such model.';
comment on column eve.usage_hours.key_id is 'Of a request the key of its last attempt; null: none was used.';
comment on column eve.usage_hours.requests is 'Requests that came and have ended: succeeded, failed, cancelled and expired together.';
comment on column eve.usage_hours.refused is 'Reservations that were refused.';
comment on column eve.usage_hours.attempts is 'Reservations that were granted, of requests that have ended; dispatched: those that called upstream.';
comment on column eve.usage_hours.upstream_refused is 'Attempts that upstream answered with 429.';
comment on column eve.usage_hours.wait_ms is 'Milliseconds that the requests waited for their starts, together; latency_ms: that upstream took.';

create table eve.usage_days (
  id bigint not null generated always as identity,
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
  constraint usage_days_day_consumer_model_key_door_key UNIQUE NULLS NOT DISTINCT (day, consumer_id, model, key_id, endpoint),
  constraint usage_days_pkey PRIMARY KEY (id)
);
alter table eve.usage_days enable row level security;
comment on table eve.usage_days is 'eve.usage_hours summed by the day in America/Los_Angeles. The columns mean the same.';

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
CREATE TRIGGER eve_alert_closed AFTER UPDATE OF closed_at ON eve.alerts FOR EACH ROW WHEN (((old.closed_at IS NULL) AND (new.closed_at IS NOT NULL))) EXECUTE FUNCTION eve.alert_changed(); -- enabled
CREATE TRIGGER eve_alert_deleted AFTER DELETE ON eve.alerts FOR EACH ROW EXECUTE FUNCTION eve.alert_deleted(); -- enabled
CREATE TRIGGER eve_alert_opened AFTER INSERT ON eve.alerts FOR EACH ROW EXECUTE FUNCTION eve.alert_changed(); -- enabled
comment on table eve.alerts is 'What a person should look at: opened once, closed when it is over.';
comment on column eve.alerts.kind is 'Described in eve.alert_kinds.';
comment on column eve.alerts.subject is 'What it is about: a key, a model, a table. Open alerts are unique by kind and subject.';
comment on column eve.alerts.severity is 'info: good to know. warning: look today. critical: callers are being refused or soon will be.';
comment on column eve.alerts.last_seen_at is 'When it was last found to be so.';
comment on column eve.alerts.details is 'The figures behind the message.';

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
comment on column eve.alert_deliveries.claimed_until is 'Somebody is telling it; after this time they are taken to have died.';
comment on column eve.alert_deliveries.last_error is 'Why the last try failed. Holds no secret.';

create table eve.alert_channels (
  channel text not null,
  claimed_at timestamp with time zone not null,
  constraint alert_channels_channel_known CHECK ((channel = ANY (ARRAY['telegram'::text, 'webhook'::text]))),
  constraint alert_channels_pkey PRIMARY KEY (channel)
);
alter table eve.alert_channels enable row level security;
comment on table eve.alert_channels is 'When the function maintenance, which alone knows what channels are set up, last asked for messages for each.';

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

create table eve.metric_consumers (
  name text not null,
  since timestamp with time zone not null default now(),
  constraint metric_consumers_pkey PRIMARY KEY (name)
);
alter table eve.metric_consumers enable row level security;
comment on table eve.metric_consumers is 'Consumers that have time series of their own; those who come when there are metrics_consumers of them are counted as "other".';

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

-- tables_stages -------------------------------------------------------------------------------------------------------

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

create table eve.jobs (
  id uuid not null,
  stage_type text,
  provider_kind text,
  model text,
  key_name text,
  settings jsonb not null default '{}'::jsonb,
  consumer_id uuid,
  request_id text not null,
  request_no bigint,
  state text not null default 'queued'::text,
  upstream_id text,
  result jsonb,
  error_code text,
  error_detail text,
  submitted_at timestamp with time zone not null default now(),
  checked_at timestamp with time zone,
  finished_at timestamp with time zone,
  expires_at timestamp with time zone,
  kind text not null,
  no bigint not null generated always as identity,
  owner_id uuid generated always as (COALESCE(consumer_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored,
  request_key text generated always as ((((COALESCE(consumer_id, '00000000-0000-0000-0000-000000000000'::uuid))::text || ' '::text) || request_id)) stored,
  queue_id bigint,
  token_id uuid,
  class text,
  models text[],
  request_hash text,
  body jsonb,
  body_media text,
  body_bytes integer not null default 0,
  run_at timestamp with time zone,
  started_at timestamp with time zone,
  tries integer not null default 0,
  losses integer not null default 0,
  worker_id uuid,
  lease_token uuid,
  lease_until timestamp with time zone,
  progress jsonb,
  result_media text,
  batch_id uuid,
  place integer,
  custom_id text,
  webhook_id uuid,
  constraint jobs_batch_place CHECK (((batch_id IS NULL) = (place IS NULL))),
  constraint jobs_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint jobs_ended CHECK (((finished_at IS NOT NULL) = (state <> ALL (ARRAY['queued'::text, 'running'::text])))),
  constraint jobs_error_given CHECK (((state <> ALL (ARRAY['failed'::text, 'expired'::text])) OR (error_code IS NOT NULL))),
  constraint jobs_kind_fkey FOREIGN KEY (kind) REFERENCES eve.job_kinds(kind),
  constraint jobs_lease_while_running CHECK ((((lease_until IS NULL) = (lease_token IS NULL)) AND ((lease_until IS NULL) OR (state = 'running'::text)))),
  constraint jobs_pkey PRIMARY KEY (id),
  constraint jobs_progress_size CHECK ((length((progress)::text) <= 4096)),
  constraint jobs_queued_whole CHECK (((run_at IS NULL) OR ((queue_id IS NOT NULL) AND (class IS NOT NULL)))),
  constraint jobs_result_given CHECK (((state <> 'succeeded'::text) OR (result IS NOT NULL) OR (result_media IS NOT NULL))),
  constraint jobs_state_known CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text]))),
  constraint jobs_texts_size CHECK ((((length(request_id) >= 1) AND (length(request_id) <= 200)) AND ((length(custom_id) >= 1) AND (length(custom_id) <= 512)) AND (length(request_hash) <= 200) AND (length(body_media) <= 200) AND (length(result_media) <= 200))),
  constraint jobs_tries_counted CHECK (((tries >= 0) AND (losses >= 0))),
  constraint jobs_upstream_whole CHECK (((upstream_id IS NULL) OR ((stage_type IS NOT NULL) AND (provider_kind IS NOT NULL) AND (model IS NOT NULL) AND (key_name IS NOT NULL)))),
  constraint jobs_waits_in_queue CHECK (((state <> 'queued'::text) OR (run_at IS NOT NULL)))
);
alter table eve.jobs enable row level security;
CREATE UNIQUE INDEX jobs_batch_id_place_key ON eve.jobs USING btree (batch_id, place) WHERE (batch_id IS NOT NULL);
CREATE INDEX jobs_kind_finished_at_idx ON eve.jobs USING btree (kind, finished_at) WHERE (finished_at IS NOT NULL);
CREATE INDEX jobs_lease_until_idx ON eve.jobs USING btree (lease_until) WHERE (lease_until IS NOT NULL);
CREATE UNIQUE INDEX jobs_no_key ON eve.jobs USING btree (no);
CREATE INDEX jobs_owner_id_no_idx ON eve.jobs USING btree (owner_id, no);
CREATE INDEX jobs_queue_idx ON eve.jobs USING btree (queue_id, run_at, no) WHERE (state = 'queued'::text);
CREATE UNIQUE INDEX jobs_request_key_key ON eve.jobs USING btree (request_key) WHERE (run_at IS NOT NULL);
CREATE INDEX jobs_submitted_at_idx ON eve.jobs USING btree (submitted_at);
CREATE INDEX jobs_waiting_expires_at_idx ON eve.jobs USING btree (expires_at) WHERE (state = ANY (ARRAY['queued'::text, 'running'::text]));
CREATE INDEX jobs_with_provider_idx ON eve.jobs USING btree (kind) WHERE ((state = 'running'::text) AND (lease_until IS NULL));
CREATE TRIGGER eve_batches_count AFTER UPDATE ON eve.jobs REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION eve.batches_count(); -- enabled
CREATE TRIGGER eve_job_ended AFTER UPDATE ON eve.jobs FOR EACH ROW WHEN (((old.finished_at IS NULL) AND (new.finished_at IS NOT NULL))) EXECUTE FUNCTION eve.tell_job_end(); -- enabled
CREATE TRIGGER eve_jobs_came AFTER INSERT ON eve.jobs REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION eve.jobs_came(); -- enabled
CREATE TRIGGER eve_jobs_changed AFTER UPDATE ON eve.jobs REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION eve.jobs_changed(); -- enabled
CREATE TRIGGER eve_jobs_media_went AFTER DELETE ON eve.jobs REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION eve.jobs_media_went(); -- enabled
CREATE TRIGGER eve_jobs_went AFTER DELETE ON eve.jobs REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION eve.jobs_went(); -- enabled
CREATE TRIGGER eve_responses_follow AFTER UPDATE ON eve.jobs FOR EACH ROW WHEN (((new.kind = 'response'::text) AND (old.state IS DISTINCT FROM new.state))) EXECUTE FUNCTION eve.responses_follow(); -- enabled
CREATE TRIGGER eve_vision_job_ended AFTER UPDATE ON eve.jobs FOR EACH ROW WHEN (((new.kind = 'vision'::text) AND (old.finished_at IS NULL) AND (new.finished_at IS NOT NULL))) EXECUTE FUNCTION eve.vision_job_ended(); -- enabled
comment on table eve.jobs is 'Work that outlives a call: calls of models that wait, speech, songs and videos that are being made, and what has become of them. But for its kind it has no foreign keys: it outlives what it names.';
comment on column eve.jobs.key_name is 'The env_var_name of the key that submitted it: it is asked about with the same key.';
comment on column eve.jobs.settings is 'Those of the provider when it was submitted.';
comment on column eve.jobs.consumer_id is 'Whose it is; null: the project''s own.';
comment on column eve.jobs.request_id is 'Its caller''s own name for it: handed in again, it is the same job. The call''s where a call began it.';
comment on column eve.jobs.state is 'queued, running, and how it ended: succeeded, failed, cancelled or expired.';
comment on column eve.jobs.upstream_id is 'By which the provider knows it.';
comment on column eve.jobs.result is 'How a call was answered: {"status", "body"}; of a provider job its files, with their addresses and types.';
comment on column eve.jobs.expires_at is 'Not ended by then, it ends as expired. Of a provider job that has ended: from then on its files may be gone.';
comment on column eve.jobs.no is 'The order in which jobs came.';
comment on column eve.jobs.request_key is 'Whose it is and its request_id, in one: unique among those that were handed in.';
comment on column eve.jobs.queue_id is 'Of eve.job_queues; null: it was begun by a call and never waited.';
comment on column eve.jobs.token_id is 'The notebook''s token that it was handed in with: it is charged as well.';
comment on column eve.jobs.models is 'The models that it asks for, or stage:NAME: who may use none of them does not see it.';
comment on column eve.jobs.request_hash is 'Tells a repetition from another job with the same request_id.';
comment on column eve.jobs.body is 'What to do: {"path", "body"} of a call. Null: body_media says where it is, or a call did it at once.';
comment on column eve.jobs.body_media is 'TENANT/SHA256 of a media object of its caller''s tenant, which the job uses (eve.media_references, job); result_media likewise.';
comment on column eve.jobs.body_bytes is 'Of the body as JSON; it counts towards what its caller may have waiting.';
comment on column eve.jobs.run_at is 'It is not run before. Null: a call began it at once.';
comment on column eve.jobs.tries is 'Runs that count: not those that were given back unspent, nor those whose worker died (losses).';
comment on column eve.jobs.losses is 'How often a worker died with it.';
comment on column eve.jobs.lease_token is 'Only who shows it may end or give back the job: a worker that wakes up after its lease finds another one, or none.';
comment on column eve.jobs.lease_until is 'Then its worker is given up for dead.';
comment on column eve.jobs.progress is 'What the runner says of it: {"done", "total"} or its own words, at most 4,096 characters of JSON.';
comment on column eve.jobs.batch_id is 'The batch that it is a line of; place: which, from 0 on; custom_id: the line''s name.';
comment on column eve.jobs.webhook_id is 'In eve.webhooks: it is told of the job''s end, whatever types it takes. Null: whoever takes the type is.';

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

-- clock ---------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.clock_ms()
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  return floor(extract(epoch from clock_timestamp()) * 1000)::bigint;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.clock()
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  return to_timestamp(eve.clock_ms() / 1000.0);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.pacific_day(ms bigint)
 RETURNS date
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select (to_timestamp(pacific_day.ms / 1000.0) at time zone 'America/Los_Angeles')::date;
$function$;

CREATE OR REPLACE FUNCTION eve.next_pacific_midnight(ms bigint)
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select floor(
    extract(epoch from ((eve.pacific_day(next_pacific_midnight.ms) + 1)::timestamp at time zone 'America/Los_Angeles')) * 1000
  )::bigint;
$function$;

CREATE OR REPLACE FUNCTION eve.turn_back(back_ms bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant bigint := eve.clock_ms();
  -- Lanes of more than 600 starts a minute keep their buckets at whole tenths of a second.
  v_back constant bigint := turn_back.back_ms / 100 * 100;
  v_interval constant interval := v_back * interval '1 millisecond';
  v_midnight constant bigint := eve.next_pacific_midnight(v_now);
  v_today constant date := eve.pacific_day(v_now);
begin
  perform from eve.inflight i order by i.request_no for update;
  update eve.inflight i
  set start_ms = i.start_ms - v_back, bucket_ms = i.bucket_ms - v_back, queued_ms = i.queued_ms - v_back,
    lease_until = i.lease_until - v_interval
  where i.lease_until > to_timestamp(v_now / 1000.0);

  perform from eve.consumer_minutes m order by m.consumer_id for no key update;
  delete from eve.consumer_minutes m where m.second > v_now / 1000;

  perform eve.lock_lane(l.id) from (select b.id from eve.lanes b order by b.id) l;
  perform from eve.lanes l order by l.id for no key update;
  -- Twice, since an instant may already be taken by one that is still to be moved.
  update eve.lane_buckets b set at_ms = -b.at_ms where b.at_ms > 0;
  update eve.lane_buckets b set at_ms = -b.at_ms - v_back where b.at_ms < 0;
  update eve.lanes l
  set interactive_tail_ms = greatest(l.interactive_tail_ms - v_back, 0),
    batch_start_ms = greatest(l.batch_start_ms - v_back, 0),
    pace_ms = greatest(l.pace_ms - v_back, 0),
    token_pace_ms = greatest(l.token_pace_ms - v_back, 0),
    blocked_until = case
      when l.blocked_until < 'infinity' and l.blocked_until > to_timestamp(v_now / 1000.0) then l.blocked_until - v_interval
      else l.blocked_until
    end,
    span_number = v_now >> 16,
    span_starts = recent.starts,
    span_tokens = recent.tokens,
    previous_span_starts = 0,
    previous_span_tokens = 0,
    day_starts = l.day_starts + case when l.day_ends_ms > v_midnight then l.next_day_starts + recent.today else 0 end,
    day_batch_starts = l.day_batch_starts + case when l.day_ends_ms > v_midnight then l.next_day_batch_starts else 0 end,
    next_day_starts = case when l.day_ends_ms > v_midnight then 0 else l.next_day_starts end,
    next_day_batch_starts = case when l.day_ends_ms > v_midnight then 0 else l.next_day_batch_starts end,
    day_ends_ms = least(l.day_ends_ms, v_midnight)
  from (
    select each.id,
      coalesce((select sum(b.starts) from eve.lane_buckets b where b.lane_id = each.id), 0) as starts,
      coalesce((select sum(b.tokens) from eve.lane_buckets b where b.lane_id = each.id), 0) as tokens,
      -- A lane whose books had turned over to a day that has not come: what the keys used today is in their counters.
      coalesce(
        (
          select sum(used.today)
          from (
            select max(c.rpd_used) as today
            from public.google_ai_usage_counters c
            join public.google_ai_api_keys k on k.id = c.api_key_id
            where k.quota_key = each.quota_project and c.model = each.model and c.day_bucket = v_today
            group by c.api_key_id
          ) used
        ), 0
      ) as today
    from eve.lanes each
  ) recent
  where recent.id = l.id;

  perform from eve.issue_windows w where w.minute > v_now / 60000 order by w.subject for no key update;
  update eve.issue_windows w set minute = v_now / 60000 where w.minute > v_now / 60000;
end;
$function$;
comment on function eve.turn_back is 'Moves what admission remembers back in time, as far as the clock went.';

CREATE OR REPLACE FUNCTION eve.follow_clock()
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Clocks are corrected by less all the time, and to be mute for a second is no harm.
  v_tolerance_ms constant integer := 1000;
  -- Numbers are handed to connections 32 at a time, so the newest rows are among the last thousands.
  v_newest constant integer := 2000;
  v_watch eve.clock_watch;
  v_seen bigint;
  v_now bigint;
  v_back bigint;
begin
  select * into v_watch from eve.clock_watch w for update skip locked;
  if not found then
    return 0; -- Another sweep is looking.
  end if;
  -- Every booking has left a row here: it is running, or it has ended.
  select floor(extract(epoch from max(written.at)) * 1000)::bigint into v_seen
  from (
    select i.received_at as at, i.request_no as number, v_watch.request_no as behind
    from eve.inflight i
    union all
    (
      select greatest(r.received_at, r.finished_at), r.request_no, v_watch.request_no
      from eve.requests r
      order by r.request_no desc
      limit v_newest
    )
    union all
    (select r.refused_at, r.id, v_watch.refusal_id from eve.refusals r order by r.id desc limit v_newest)
  ) written
  where written.number > written.behind or written.at > to_timestamp(v_watch.ahead_ms / 1000.0);
  v_now := eve.clock_ms();
  v_seen := greatest(v_watch.seen_ms, v_seen);
  v_back := v_seen - v_now;
  if v_back <= v_tolerance_ms then
    update eve.clock_watch w set seen_ms = v_now where w.id;
    if v_watch.last_jump_at <= to_timestamp(v_now / 1000.0) - interval '1 hour' then
      perform eve.end_alerts(array['clock_went_back'], 'database');
    end if;
    return 0;
  end if;
  perform eve.turn_back(v_back);
  update eve.clock_watch w
  set seen_ms = v_now, jumps = w.jumps + 1, last_jump_ms = v_back, last_jump_at = to_timestamp(v_now / 1000.0),
    ahead_ms = v_seen,
    request_no = coalesce(
      greatest((select max(r.request_no) from eve.requests r), (select max(i.request_no) from eve.inflight i)), 0
    ),
    refusal_id = coalesce((select max(r.id) from eve.refusals r), 0)
  where w.id;
  perform eve.open_alert(
    'clock_went_back', 'database', 'warning',
    format('The database''s clock went back by at least %s seconds.', round(v_back / 1000.0, 1))
  );
  return v_back;
end;
$function$;
comment on function eve.follow_clock is 'Notices that the clock has gone back, and moves the books along.';

-- window --------------------------------------------------------------------------------------------------------------

create type eve.lane_limits as (
  rpm integer,
  tpm integer,
  rpd integer,
  guard_ms bigint,
  batch_floor double precision,
  interactive_floor integer,
  interactive_reserve double precision,
  interactive_reserve_day double precision
);
comment on type eve.lane_limits is 'Limits of a lane (starts and input tokens a minute, starts a Pacific day) and its model''s shares.';

CREATE OR REPLACE FUNCTION eve.ensure_lanes(model text)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  insert into eve.lanes (quota_project, model, day_ends_ms, day_starts)
  select k.quota_key, ensure_lanes.model, eve.next_pacific_midnight(eve.clock_ms()),
    -- What its keys have used today before there was a lane, as far as the counters tell.
    coalesce(sum(used.today), 0)
  from public.google_ai_api_keys k
  left join (
    select c.api_key_id, max(c.rpd_used) as today
    from public.google_ai_usage_counters c
    where c.model = ensure_lanes.model and c.day_bucket = eve.pacific_day(eve.clock_ms())
    group by c.api_key_id
  ) used on used.api_key_id = k.id
  group by k.quota_key
  order by k.quota_key -- Two that add the same lanes at once must not wait for each other.
  on conflict do nothing;
$function$;

CREATE OR REPLACE FUNCTION eve.class_share(limits eve.lane_limits, class text, contended boolean, OUT starts bigint, OUT tokens bigint, OUT day_starts bigint)
 RETURNS record
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  if class_share.class = 'batch' then
    starts := (limits).rpm
      - greatest(floor((limits).rpm * (limits).interactive_reserve + 1e-6)::integer, (limits).interactive_floor);
    tokens := (limits).tpm - greatest(
      floor((limits).tpm * (limits).interactive_reserve + 1e-6)::bigint,
      (limits).interactive_floor::bigint * (limits).tpm / greatest(coalesce((limits).rpm, 60), 1)
    );
    day_starts := (limits).rpd - ceil((limits).rpd * (limits).interactive_reserve_day - 1e-6)::integer;
  else
    starts := (limits).rpm - case when class_share.contended then ceil((limits).rpm * (limits).batch_floor - 1e-6)::integer else 0 end;
    tokens := (limits).tpm - case when class_share.contended then ceil((limits).tpm * (limits).batch_floor - 1e-6)::bigint else 0 end;
    day_starts := (limits).rpd;
  end if;
  -- greatest() passes over null, which is no limit.
  if starts < 1 then
    starts := 1;
  end if;
  if tokens < 1 then
    tokens := 1;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.room_left(lane eve.lanes, limits eve.lane_limits, class text, contended boolean, wanted_starts bigint, wanted_tokens bigint, at_ms bigint, OUT starts bigint, OUT tokens bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Lanes of up to 600 starts a minute keep exact milliseconds; faster ones share buckets of 100 ms, which bounds the scan.
  v_width constant integer := case when (limits).rpm <= 600 then 1 else 100 end;
  v_window constant bigint := 60000 + (limits).guard_ms + v_width - 1;
  v_at constant bigint := (room_left.at_ms + v_width - 1) / v_width * v_width;
  v_share record;
  v_used record;
  v_later record;
begin
  if (limits).rpm is null and (limits).tpm is null then
    return;
  end if;
  v_share := eve.class_share(limits, room_left.class, room_left.contended);
  -- Two spans of 65.5 s cover any window: while their sum fits, nothing has to be looked up.
  if (lane).span_number <= room_left.at_ms >> 16 and (lane).interactive_tail_ms <= room_left.at_ms then
    starts := v_share.starts - case (room_left.at_ms >> 16) - (lane).span_number
      when 0 then (lane).span_starts + (lane).previous_span_starts when 1 then (lane).span_starts else 0
    end;
    tokens := v_share.tokens - case (room_left.at_ms >> 16) - (lane).span_number
      when 0 then (lane).span_tokens + (lane).previous_span_tokens when 1 then (lane).span_tokens else 0
    end;
    if (starts < room_left.wanted_starts or tokens < room_left.wanted_tokens) is not true then
      return;
    end if;
  end if;
  select coalesce(sum(b.starts), 0) as starts, coalesce(sum(b.tokens), 0) as tokens,
    coalesce(sum(case room_left.class when 'batch' then b.batch_starts else b.starts - b.batch_starts end), 0) as own_starts,
    coalesce(sum(case room_left.class when 'batch' then b.batch_tokens else b.tokens - b.batch_tokens end), 0) as own_tokens
  into v_used
  from eve.lane_buckets b
  where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms <= v_at;
  starts := least((limits).rpm - v_used.starts, v_share.starts - v_used.own_starts);
  tokens := (limits).tpm - v_used.tokens;
  -- One prompt larger than the share may pass while no other of its class is there.
  if v_used.own_tokens > 0 then
    tokens := least(tokens, v_share.tokens - v_used.own_tokens);
  end if;
  if (lane).interactive_tail_ms > room_left.at_ms then
    select max(later.starts) as starts, max(later.tokens) as tokens
    into v_later
    from (
      select b.at_ms, sum(b.starts) over reach as starts, sum(b.tokens) over reach as tokens
      from eve.lane_buckets b
      where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms < v_at + v_window
      window reach as (order by b.at_ms range between v_window - 1 preceding and current row)
    ) later
    where later.at_ms > v_at;
    starts := least(starts, (limits).rpm - v_later.starts);
    tokens := least(tokens, (limits).tpm - v_later.tokens);
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.has_room(lane eve.lanes, limits eve.lane_limits, class text, contended boolean, starts bigint, tokens bigint, at_ms bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_left constant record := eve.room_left(
    lane, limits, has_room.class, has_room.contended, has_room.starts, has_room.tokens, has_room.at_ms
  );
begin
  return (v_left.starts < has_room.starts or v_left.tokens < has_room.tokens) is not true;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.day_left(lane eve.lanes, limits eve.lane_limits, class text, contended boolean, start_ms bigint, day_ends_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_starts bigint := 0;
  v_batch bigint := 0;
  v_left bigint;
begin
  if day_left.start_ms >= day_left.day_ends_ms then
    if (lane).day_ends_ms = day_left.day_ends_ms then
      v_starts := (lane).next_day_starts;
      v_batch := (lane).next_day_batch_starts;
    end if;
  elsif (lane).day_ends_ms = day_left.day_ends_ms then
    v_starts := (lane).day_starts;
    v_batch := (lane).day_batch_starts;
  elsif (lane).day_ends_ms > 0 and eve.next_pacific_midnight((lane).day_ends_ms) = day_left.day_ends_ms then
    -- The lane was last booked yesterday: what it booked ahead counts today.
    v_starts := (lane).next_day_starts;
    v_batch := (lane).next_day_batch_starts;
  end if;
  v_left := (limits).rpd - v_starts;
  if day_left.class = 'batch' then
    return least(v_left, (eve.class_share(limits, 'batch', day_left.contended)).day_starts - v_batch);
  elsif day_left.contended then
    return v_left - greatest(floor((limits).rpd * (limits).batch_floor + 1e-6)::bigint - v_batch, 0);
  end if;
  return v_left;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.earliest_start(lane eve.lanes, limits eve.lane_limits, class text, contended boolean, tokens bigint, now_ms bigint, from_ms bigint, OUT start_ms bigint, OUT limit_name text, OUT day_left bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_width constant integer := case when (limits).rpm <= 600 then 1 else 100 end;
  v_window constant bigint := 60000 + (limits).guard_ms + v_width - 1;
  v_batch constant boolean := earliest_start.class = 'batch';
  v_share record;
  v_day_ends bigint;
  v_midnight bigint;
  v_blocking bigint;
  v_by_starts boolean;
  v_looks integer := 0;
  v_at bigint;
begin
  start_ms := greatest(earliest_start.now_ms, earliest_start.from_ms);
  if (lane).blocked_until is not null and (lane).blocked_until > to_timestamp(start_ms / 1000.0) then
    limit_name := 'blocked';
    if (lane).blocked_until = 'infinity' then
      start_ms := null;
      return;
    end if;
    start_ms := ceil(extract(epoch from (lane).blocked_until) * 1000)::bigint;
  end if;
  if (limits).rpm = 0 or (limits).tpm = 0 then
    limit_name := case when (limits).rpm = 0 then 'rpm' else 'tpm' end;
    start_ms := null;
    return;
  end if;
  v_share := eve.class_share(limits, earliest_start.class, earliest_start.contended);
  v_day_ends := case
    when (lane).day_ends_ms > earliest_start.now_ms and (lane).day_ends_ms - earliest_start.now_ms <= 90000000
      then (lane).day_ends_ms
    else eve.next_pacific_midnight(earliest_start.now_ms)
  end;

  loop
    -- The day. No start within the guard of midnight, before it or after: Google may count it in either day.
    if (limits).rpd is not null then
      v_midnight := v_day_ends;
      if v_day_ends - start_ms > 82000000 then
        v_midnight := eve.next_pacific_midnight(start_ms - (limits).guard_ms); -- The one that has just been, perhaps.
      end if;
      if start_ms between v_midnight - (limits).guard_ms and v_midnight + (limits).guard_ms - 1 then
        start_ms := v_midnight + (limits).guard_ms;
        limit_name := coalesce(limit_name, 'rpd');
      end if;
      day_left := eve.day_left(lane, limits, earliest_start.class, earliest_start.contended, start_ms, v_day_ends);
      if day_left < 1 and start_ms < v_day_ends and (limits).rpd > 0 then
        start_ms := v_day_ends + (limits).guard_ms;
        limit_name := 'rpd';
        day_left := eve.day_left(lane, limits, earliest_start.class, earliest_start.contended, start_ms, v_day_ends);
      end if;
      if day_left < 1 then
        limit_name := 'rpd';
        start_ms := null; -- Tomorrow is full as well, or the limit is zero: nothing to wait for.
        return;
      end if;
    end if;

    exit when eve.has_room(
      lane, limits, earliest_start.class, earliest_start.contended, 1, earliest_start.tokens, start_ms
    );

    -- The newest instant that must have left the window for the call to fit. Summed from the newest back; the running sums of
    -- the oldest row are what the window holds.
    v_at := (start_ms + v_width - 1) / v_width * v_width;
    select running.at_ms, running.by_starts
    into v_blocking, v_by_starts
    from (
      select b.at_ms,
        (sum(b.starts) over newest_first >= (limits).rpm
          or sum(case when v_batch then b.batch_starts else b.starts - b.batch_starts end) over newest_first >= v_share.starts
        ) is true as by_starts,
        (sum(b.tokens) over newest_first + earliest_start.tokens > (limits).tpm
          or sum(case when v_batch then b.batch_tokens else b.tokens - b.batch_tokens end) over newest_first > 0
            and sum(case when v_batch then b.batch_tokens else b.tokens - b.batch_tokens end) over newest_first
              + earliest_start.tokens > v_share.tokens
        ) is true as by_tokens
      from eve.lane_buckets b
      where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms <= v_at
      window newest_first as (order by b.at_ms desc)
    ) running
    where running.by_starts or running.by_tokens
    order by running.at_ms desc
    limit 1;
    if found then
      start_ms := v_blocking + v_window;
    else
      -- A window that ends at a start booked later is what is full.
      select later.at_ms, later.by_starts
      into v_blocking, v_by_starts
      from (
        select b.at_ms,
          (sum(b.starts) over reach >= (limits).rpm) is true as by_starts,
          (sum(b.tokens) over reach + earliest_start.tokens > (limits).tpm) is true as by_tokens
        from eve.lane_buckets b
        where b.lane_id = (lane).id and b.at_ms > v_at - v_window and b.at_ms < v_at + v_window
        window reach as (order by b.at_ms range between v_window - 1 preceding and current row)
      ) later
      where later.at_ms > v_at and (later.by_starts or later.by_tokens)
      order by later.at_ms desc
      limit 1;
      -- Without a booking's lock somebody may have given back, since has_room looked, what stood in the way.
      v_looks := v_looks + 1;
      continue when not found and v_looks < 100;
      if not found then
        raise exception 'no instant fits % tokens on lane %', earliest_start.tokens, (lane).id using errcode = 'EV503';
      end if;
      start_ms := v_blocking + 1;
    end if;
    limit_name := case when v_by_starts then 'rpm' else 'tpm' end;
  end loop;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.may_burst(lane eve.lanes, limits eve.lane_limits, tokens bigint, now_ms bigint, starts bigint DEFAULT 1)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  return eve.has_room(
    lane, limits, 'batch', false, coalesce((limits).rpm - (limits).rpm / 4, 0) + may_burst.starts, may_burst.tokens + coalesce((limits).tpm / 2, 0),
    may_burst.now_ms
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.adjust_bucket(lane_id bigint, bucket_ms bigint, class text, starts integer, tokens bigint)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  update eve.lane_buckets b
  set starts = greatest(b.starts + adjust_bucket.starts, 0),
    tokens = greatest(b.tokens + adjust_bucket.tokens, 0),
    batch_starts = greatest(b.batch_starts + case adjust_bucket.class when 'batch' then adjust_bucket.starts else 0 end, 0),
    batch_tokens = greatest(b.batch_tokens + case adjust_bucket.class when 'batch' then adjust_bucket.tokens else 0 end, 0)
  where b.lane_id = adjust_bucket.lane_id and b.at_ms = adjust_bucket.bucket_ms
    and (adjust_bucket.starts <> 0 or adjust_bucket.tokens <> 0);
$function$;

-- booking -------------------------------------------------------------------------------------------------------------

create type eve.pool_pace as (
  interval_ms double precision,
  token_ms double precision,
  pace_ms bigint,
  token_pace_ms bigint,
  batch_start_ms bigint,
  batch_floor double precision,
  spread_ms double precision
);
comment on type eve.pool_pace is 'Of all lanes that serve a model: the window over their starts a minute, and over their tokens (null: unlimited); the latest pace and batch start of them; spread_ms: as eve.spread_ms says, where batch is paced.';

CREATE OR REPLACE FUNCTION eve.next_pace(pace_ms bigint, now_ms bigint, interval_ms double precision, credit double precision DEFAULT 0.5)
 RETURNS bigint
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return case
    when next_pace.interval_ms is null then next_pace.pace_ms
    -- Never far ahead: interactive callers who have booked a minute ahead must not stop batch for longer.
    else least(
      greatest(next_pace.pace_ms, next_pace.now_ms - (next_pace.interval_ms * next_pace.credit)::bigint) + (next_pace.interval_ms * 1.008)::bigint,
      next_pace.now_ms + greatest(20000, (2 * next_pace.interval_ms)::bigint)
    )
  end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.spread_ms(lane_ids bigint[], interval_ms double precision, window_ms bigint, now_ms bigint)
 RETURNS double precision
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select greatest(
    spread_ms.interval_ms,
    max(
      (used.at_ms + spread_ms.window_ms - spread_ms.now_ms)
        -- A tenth of what is free to spare; and the first of those that fall free then may be waited for.
        / greatest(0.9 * (spread_ms.window_ms / spread_ms.interval_ms - used.all_starts) + used.freed_before + 1, 1)
    )
  )
  from (
    select b.at_ms, sum(b.starts) over () as all_starts,
      coalesce(sum(b.starts) over (order by b.at_ms groups between unbounded preceding and 1 preceding), 0) as freed_before
    from eve.lane_buckets b
    where b.lane_id = any (spread_ms.lane_ids) and b.at_ms > spread_ms.now_ms - spread_ms.window_ms
  ) used;
$function$;

CREATE OR REPLACE FUNCTION eve.pace_allows(pace eve.pool_pace)
 RETURNS bigint
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return case
    when (pace).interval_ms is null and (pace).token_ms is null then 0
    else least(
      greatest((pace).pace_ms, (pace).token_pace_ms),
      (pace).batch_start_ms + (0.75 * (pace).interval_ms / nullif((pace).batch_floor, 0))::bigint
    )
  end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.queued_before(model text, lane_id bigint, queued_ms bigint, request_no bigint, now_ms bigint, interval_ms double precision, token_ms double precision, OUT calls bigint, OUT wait_ms bigint)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  -- Half of the time that they will take at most: nobody wakes who sleeps too long when places come free sooner, and to ask too
  -- early costs a question. bench:quota, tokens, batch only, 1 and 2 projects: 95.6 and 94.9 % used with the whole time, 96.1 and
  -- 97.2 with half of it, 96.9 and 98.2 with a quarter, which asks twice as often.
  select count(*),
    greatest(ceil(0.5 * count(*) * queued_before.interval_ms), ceil(0.5 * sum(i.tokens) * queued_before.token_ms), 1)::bigint
  into calls, wait_ms
  from eve.inflight i
  where i.model = queued_before.model and i.state = 'waiting' and i.start_ms > queued_before.now_ms - 1500
    and (i.any_lane or i.lane_id = queued_before.lane_id)
    and (i.queued_ms, i.request_no) < (queued_before.queued_ms, coalesce(queued_before.request_no, 9223372036854775807));
end;
$function$;

CREATE OR REPLACE FUNCTION eve.release_expired(lane_id bigint, now_ms bigint, new_lease_ms bigint DEFAULT NULL::bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if exists (select from eve.lanes l where l.id = release_expired.lane_id and l.next_lease_ms > release_expired.now_ms) then
    return;
  end if;
  perform eve.expire_leases(release_expired.lane_id, 100);
  -- Looked for once a second at most, however many have expired: who comes in between shall not pay for them.
  update eve.lanes l
  set next_lease_ms = least(
    release_expired.new_lease_ms,
    (
      select case
        when count(*) > 0
          then greatest(release_expired.now_ms + 1000, floor(extract(epoch from min(i.lease_until)) * 1000)::bigint)
        else 9000000000000000000
      end
      from eve.inflight i
      where i.lane_id = release_expired.lane_id and i.state <> 'waiting'
    )
  )
  where l.id = release_expired.lane_id;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.with_start(lane eve.lanes, class text, start_ms bigint, tokens bigint, now_ms bigint, lease_ms integer, pace eve.pool_pace, paced boolean)
 RETURNS eve.lanes
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_lane eve.lanes := with_start.lane;
  v_batch constant integer := case with_start.class when 'batch' then 1 else 0 end;
  v_span constant bigint := with_start.start_ms >> 16;
  v_day_ends bigint;
begin
  if v_lane.day_ends_ms <= with_start.now_ms or v_lane.day_ends_ms - with_start.now_ms > 90000000 then
    v_day_ends := eve.next_pacific_midnight(with_start.now_ms);
    if v_lane.day_ends_ms > 0 and eve.next_pacific_midnight(v_lane.day_ends_ms) = v_day_ends then
      v_lane.day_starts := v_lane.next_day_starts;
      v_lane.day_batch_starts := v_lane.next_day_batch_starts;
    else
      v_lane.day_starts := 0;
      v_lane.day_batch_starts := 0;
    end if;
    v_lane.next_day_starts := 0;
    v_lane.next_day_batch_starts := 0;
    v_lane.day_ends_ms := v_day_ends;
  end if;
  if with_start.start_ms < v_lane.day_ends_ms then
    v_lane.day_starts := v_lane.day_starts + 1;
    v_lane.day_batch_starts := v_lane.day_batch_starts + v_batch;
  else
    v_lane.next_day_starts := v_lane.next_day_starts + 1;
    v_lane.next_day_batch_starts := v_lane.next_day_batch_starts + v_batch;
  end if;

  if v_span = v_lane.span_number then
    v_lane.span_starts := v_lane.span_starts + 1;
    v_lane.span_tokens := v_lane.span_tokens + with_start.tokens;
  elsif v_span < v_lane.span_number then
    v_lane.previous_span_starts := v_lane.previous_span_starts + 1;
    v_lane.previous_span_tokens := v_lane.previous_span_tokens + with_start.tokens;
  else
    v_lane.previous_span_starts := case v_span - v_lane.span_number when 1 then v_lane.span_starts else 0 end;
    v_lane.previous_span_tokens := case v_span - v_lane.span_number when 1 then v_lane.span_tokens else 0 end;
    v_lane.span_number := v_span;
    v_lane.span_starts := 1;
    v_lane.span_tokens := with_start.tokens;
  end if;

  if v_batch = 1 then
    v_lane.batch_start_ms := greatest(v_lane.batch_start_ms, with_start.start_ms);
  else
    v_lane.interactive_tail_ms := greatest(v_lane.interactive_tail_ms, with_start.start_ms);
  end if;
  if with_start.paced then
    v_lane.pace_ms := eve.next_pace(
      greatest((pace).pace_ms, v_lane.pace_ms), with_start.now_ms, coalesce((pace).spread_ms, (pace).interval_ms)
    );
    v_lane.token_pace_ms := eve.next_pace(
      greatest((pace).token_pace_ms, v_lane.token_pace_ms), with_start.now_ms, (pace).token_ms * with_start.tokens, 1
    );
  end if;
  v_lane.turns := v_lane.turns + 1;
  v_lane.next_lease_ms := least(v_lane.next_lease_ms, with_start.start_ms + with_start.lease_ms);
  -- A block that is over is forgotten: lists look at no clock before they have chosen a lane.
  if v_lane.blocked_until <= to_timestamp(with_start.now_ms / 1000.0) then
    v_lane.blocked_until := null;
    v_lane.blocked_reason := null;
  end if;
  return v_lane;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.lock_lane(lane_id bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform pg_advisory_xact_lock(1163281713, lock_lane.lane_id::integer);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.share_wait(lane_id bigint, limits eve.lane_limits, consumer_id uuid, class text, tokens bigint, now_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_share constant double precision := (
    select s.value / 100.0 from eve.settings s where s.name = 'waiting_share_percent' and s.value > 0
  );
  v_ahead record;
begin
  if v_share is null then
    return null;
  end if;
  select count(*) as starts, coalesce(sum(i.tokens), 0) as tokens, min(i.start_ms) as first_ms
  into v_ahead
  from eve.inflight i
  where i.lane_id = share_wait.lane_id and i.lease_until > to_timestamp(share_wait.now_ms / 1000.0)
    and i.consumer_id = share_wait.consumer_id and i.class = share_wait.class and i.state = 'reserved'
    and i.start_ms > share_wait.now_ms;
  if v_ahead.starts >= greatest(floor((limits).rpm * v_share + 1e-6), 1)
    or v_ahead.starts > 0 and v_ahead.tokens + share_wait.tokens > (limits).tpm * v_share then
    return v_ahead.first_ms - share_wait.now_ms;
  end if;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.book(lane_id bigint, limits eve.lane_limits, pace eve.pool_pace, class text, contended boolean, tokens bigint, queued_ms bigint, request_no bigint, consumer_id uuid, latest_wait_ms bigint, lease_ms integer, OUT booked boolean, OUT start_ms bigint, OUT bucket_ms bigint, OUT day_ends_ms bigint, OUT wait_ms bigint, OUT turn bigint, OUT used_starts bigint, OUT used_tokens bigint, OUT day_left bigint, OUT limit_name text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_lane eve.lanes;
  v_now bigint;
  v_width constant integer := case when (limits).rpm <= 600 then 1 else 100 end;
  v_batch constant boolean := book.class = 'batch';
  v_fit record;
begin
  -- A subtransaction, which writes nothing and so costs no number: what it has locked is free again where nothing is booked.
  begin
    perform eve.lock_lane(book.lane_id);
    select * into v_lane from eve.lanes l where l.id = book.lane_id;
    v_now := eve.clock_ms();
    select * into v_fit
    from eve.earliest_start(
      v_lane, limits, book.class, book.contended, book.tokens, v_now, case when v_batch then 0 else v_lane.interactive_tail_ms end
    );
    start_ms := v_fit.start_ms;
    wait_ms := start_ms - v_now;
    limit_name := v_fit.limit_name;
    day_left := v_fit.day_left - 1;
    booked := start_ms is not null and wait_ms <= book.latest_wait_ms
      and not (v_batch and (eve.queued_before(v_lane.model, book.lane_id, book.queued_ms, book.request_no, v_now, null, null)).calls > 0)
      and (
        wait_ms <= 0
        or eve.share_wait(book.lane_id, limits, book.consumer_id, book.class, book.tokens, v_now) is null
      );
    if not booked then
      raise exception 'release the lane' using errcode = 'EV001';
    end if;
  exception
    when sqlstate 'EV001' then
      return;
  end;

  -- Only settlements can have changed it since, and they keep to themselves what they change.
  select * into v_lane from eve.lanes l where l.id = book.lane_id for no key update;
  turn := v_lane.turns;
  v_lane := eve.with_start(
    v_lane, book.class, start_ms, book.tokens, v_now, book.lease_ms, pace,
    -- Alone on lanes that are nearly empty batch goes as it comes.
    case
      when v_batch then book.contended or not eve.may_burst(v_lane, limits, book.tokens, v_now)
      else greatest((pace).pace_ms, (pace).token_pace_ms) > v_now - coalesce((pace).interval_ms, 0)::bigint
    end
  );
  day_ends_ms := v_lane.day_ends_ms;
  bucket_ms := (start_ms + v_width - 1) / v_width * v_width;
  update eve.lanes l
  set blocked_until = v_lane.blocked_until, blocked_reason = v_lane.blocked_reason,
    interactive_tail_ms = v_lane.interactive_tail_ms, batch_start_ms = v_lane.batch_start_ms, pace_ms = v_lane.pace_ms,
    token_pace_ms = v_lane.token_pace_ms, day_ends_ms = v_lane.day_ends_ms, day_starts = v_lane.day_starts,
    day_batch_starts = v_lane.day_batch_starts, next_day_starts = v_lane.next_day_starts,
    next_day_batch_starts = v_lane.next_day_batch_starts, span_number = v_lane.span_number, span_starts = v_lane.span_starts,
    span_tokens = v_lane.span_tokens, previous_span_starts = v_lane.previous_span_starts,
    previous_span_tokens = v_lane.previous_span_tokens, turns = v_lane.turns, next_lease_ms = v_lane.next_lease_ms
  where l.id = book.lane_id;

  -- Nobody else adds buckets to the lane now. `on conflict` writes a fifth more to the log, for every call.
  update eve.lane_buckets b
  set starts = b.starts + 1, tokens = b.tokens + book.tokens, batch_starts = b.batch_starts + v_batch::integer,
    batch_tokens = b.batch_tokens + v_batch::integer * book.tokens
  where b.lane_id = book.lane_id and b.at_ms = bucket_ms;
  if not found then
    insert into eve.lane_buckets (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
    values (book.lane_id, bucket_ms, 1, book.tokens, v_batch::integer, v_batch::integer * book.tokens);
  end if;
  -- Instants that no window reaches any more. Now and then, so that few calls pay for it.
  if turn % 16 = 0 then
    delete from eve.lane_buckets b where b.lane_id = book.lane_id and b.at_ms < v_now - 70000;
  end if;
  perform eve.release_expired(book.lane_id, v_now, start_ms + book.lease_ms);

  if (limits).rpm <= 600 then
    select coalesce(sum(b.starts), 0), coalesce(sum(b.tokens), 0)
    into used_starts, used_tokens
    from eve.lane_buckets b
    where b.lane_id = book.lane_id and b.at_ms > start_ms - 60000 - (limits).guard_ms and b.at_ms <= start_ms;
  else
    -- On a fast lane two spans are close enough, and err on the safe side.
    used_starts := v_lane.span_starts + v_lane.previous_span_starts;
    used_tokens := v_lane.span_tokens + v_lane.previous_span_tokens;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.give_back(running eve.inflight)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_lane eve.lanes;
  v_batch constant integer := case (running).class when 'batch' then 1 else 0 end;
  v_tail bigint;
begin
  perform eve.lock_lane((running).lane_id);
  select * into v_lane from eve.lanes l where l.id = (running).lane_id for no key update;
  if v_batch = 0 and v_lane.interactive_tail_ms = (running).start_ms then
    select coalesce(max(i.start_ms), 0)
    into v_tail
    from eve.inflight i
    where i.lane_id = (running).lane_id and i.class = (running).class and i.state = 'reserved'
      and i.request_no <> (running).request_no;
  end if;
  update eve.lanes l
  set interactive_tail_ms = coalesce(v_tail, l.interactive_tail_ms),
    day_starts = l.day_starts
      - case when l.day_ends_ms = (running).day_ends_ms and (running).start_ms < l.day_ends_ms
          or l.day_ends_ms > (running).day_ends_ms and (running).start_ms >= (running).day_ends_ms then 1 else 0 end,
    day_batch_starts = l.day_batch_starts
      - case when l.day_ends_ms = (running).day_ends_ms and (running).start_ms < l.day_ends_ms
          or l.day_ends_ms > (running).day_ends_ms and (running).start_ms >= (running).day_ends_ms then v_batch else 0 end,
    next_day_starts = l.next_day_starts
      - case when l.day_ends_ms = (running).day_ends_ms and (running).start_ms >= l.day_ends_ms then 1 else 0 end,
    next_day_batch_starts = l.next_day_batch_starts
      - case when l.day_ends_ms = (running).day_ends_ms and (running).start_ms >= l.day_ends_ms then v_batch else 0 end,
    span_starts = l.span_starts - case when (running).start_ms >> 16 = l.span_number then 1 else 0 end,
    span_tokens = l.span_tokens - case when (running).start_ms >> 16 = l.span_number then (running).tokens else 0 end
  where l.id = (running).lane_id;
end;
$function$;

-- routes --------------------------------------------------------------------------------------------------------------

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

CREATE OR REPLACE FUNCTION eve.limits_of(served public.google_ai_model_limits, override eve.quota_overrides, guard_ms bigint)
 RETURNS eve.lane_limits
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return row(
    (case when (override).model is null then (served).rpm else (override).rpm end)::integer,
    (case when (override).model is null then (served).tpm else (override).tpm end)::integer,
    (case when (override).model is null then (served).rpd else (override).rpd end)::integer,
    limits_of.guard_ms, (served).batch_floor, (served).interactive_floor, (served).interactive_reserve,
    (served).interactive_reserve_day
  )::eve.lane_limits;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.served_model(model text)
 RETURNS public.google_ai_model_limits
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_model public.google_ai_model_limits;
begin
  select * into v_model from public.google_ai_model_limits m where m.model = served_model.model;
  for v_hop in 1..5 loop
    exit when v_model.replaced_by is null;
    select * into v_model from public.google_ai_model_limits m where m.model = v_model.replaced_by;
  end loop;
  if v_model.model is null or not v_model.is_active then
    return null;
  end if;
  return v_model;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.providers_of(served public.google_ai_model_limits)
 RETURNS text[]
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return case
    when lower((served).provider) in ('google', 'google_ai', 'google-ai', 'gemini')
      then array['google', 'google_ai', 'google-ai', 'gemini']
    else array[lower((served).provider)]
  end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.lanes_for(served public.google_ai_model_limits, now_ms bigint, exclude_keys uuid[], avoid_keys uuid[])
 RETURNS TABLE(quota_key text, lane_id bigint, limits eve.lane_limits, avoided boolean, priority bigint, key_ids uuid[], aliases text[], env_var_names text[])
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return query
  select k.quota_key::text, l.id, eve.limits_of(served, o, (select s.value from eve.settings s where s.name = 'guard_ms')),
    k.avoided, k.priority::bigint, k.key_ids, k.aliases, k.env_var_names
  from (
    select a.quota_key, min(a.priority) as priority, bool_or(a.avoided) as avoided,
      array_agg(a.id::uuid order by a.created_at, a.id) as key_ids,
      array_agg(a.key_alias::text order by a.created_at, a.id) as aliases,
      array_agg(a.env_var_name::text order by a.created_at, a.id) as env_var_names
    from (
      select u.id, u.quota_key, u.priority, u.created_at, u.key_alias, u.env_var_name,
        u.id = any (lanes_for.avoid_keys) as avoided,
        rank() over (partition by u.quota_key order by u.id = any (lanes_for.avoid_keys), u.priority) as preference
      from public.google_ai_api_keys u
      where u.is_active and u.env_var_name is not null
        and (u.blocked_until is null or u.blocked_until <= to_timestamp(lanes_for.now_ms / 1000.0))
        and coalesce(lower(u.provider), 'google') = any (eve.providers_of(served))
        and u.id <> all (lanes_for.exclude_keys)
        and not exists (
          select
          from eve.key_model_blocks b
          where b.key_id = u.id and b.model = (served).model
            and b.blocked_until > to_timestamp(lanes_for.now_ms / 1000.0)
        )
    ) a
    where a.preference = 1
    group by a.quota_key
  ) k
  left join eve.lanes l on l.quota_project = k.quota_key and l.model = (served).model
  left join eve.quota_overrides o on o.quota_project = k.quota_key and o.model = (served).model;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.routes_lock()
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select 7310035118461046649;
$function$;

CREATE OR REPLACE FUNCTION eve.lock_routes()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  -- eve.routes_lock(), which anyone who may change a key has no right to call.
  perform pg_advisory_xact_lock(7310035118461046649);
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.drop_routes()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  delete from eve.routes;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.route_answer(requested_model text, served public.google_ai_model_limits, key_id uuid, alias text, env_var_name text, lane_id bigint, quota_project text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return jsonb_build_object(
    'status', 'granted', 'model', (served).model, 'requested_model', route_answer.requested_model,
    'replaced', route_answer.requested_model <> (served).model,
    'key', jsonb_build_object(
      'id', route_answer.key_id, 'alias', route_answer.alias, 'env_var_name', route_answer.env_var_name,
      'provider', (eve.providers_of(served))[1]
    ),
    'lane_id', route_answer.lane_id, 'quota_project', route_answer.quota_project,
    'capabilities', jsonb_build_object(
      'system', (served).supports_system, 'json', (served).supports_json, 'tools', (served).supports_tools,
      'thinking', (served).supports_thinking, 'max_output_tokens', (served).max_output_tokens
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.make_route(requested_model text, now_ms bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := to_timestamp(make_route.now_ms / 1000.0);
  v_model public.google_ai_model_limits;
  v_stale_ms bigint;
begin
  if exists (
    select
    from eve.routes r
    join eve.lanes l on l.id = r.lane_id
    where r.model = make_route.requested_model and make_route.now_ms between r.stale_ms - 60000 and r.stale_ms - 1
  ) or not pg_try_advisory_xact_lock_shared(eve.routes_lock())
    or not pg_try_advisory_xact_lock(hashtextextended('eve.routes ' || make_route.requested_model, 0)) then
    return;
  end if;
  v_model := eve.served_model(make_route.requested_model);
  delete from eve.routes r where r.model = make_route.requested_model;
  if v_model.model is null then
    return;
  end if;
  -- A block that ends brings back a key, which may come first.
  select least(
    make_route.now_ms + 60000,
    (
      select ceil(extract(epoch from min(ends.at)) * 1000)::bigint
      from (
        select k.blocked_until as at from public.google_ai_api_keys k where k.blocked_until > v_now
        union all
        select b.blocked_until from eve.key_model_blocks b where b.model = v_model.model and b.blocked_until > v_now
      ) ends
      where ends.at < 'infinity'
    )
  )
  into v_stale_ms;

  insert into eve.routes (
    model, lane_id, served, lanes, stale_ms, limits, bucket_ms, interval_ms, token_ms, estimate_ceiling, even_share, key_ids,
    answers
  )
  select make_route.requested_model, f.lane_id, v_model.model, count(*) over (), v_stale_ms, f.limits,
    case when (f.limits).rpm <= 600 then 1 else 100 end,
    -- One lane without a limit, and the pool has none.
    case when bool_and((f.limits).rpm > 0) over () then (60000 + (f.limits).guard_ms)::double precision / sum((f.limits).rpm) over () end,
    case when bool_and((f.limits).tpm > 0) over () then (60000 + (f.limits).guard_ms)::double precision / sum((f.limits).tpm) over () end,
    v_model.estimate_ceiling,
    coalesce((f.limits).tpm::double precision / nullif(coalesce((f.limits).rpm, 60), 0), 'infinity'),
    f.key_ids,
    array(
      select eve.route_answer(
        make_route.requested_model, v_model, place.key_id, f.aliases[place.turn], f.env_var_names[place.turn], f.lane_id, f.quota_key
      )
      from unnest(f.key_ids) with ordinality as place (key_id, turn)
      order by place.turn
    )
  from (
    select o.*, rank() over (order by o.priority) as preference
    from eve.lanes_for(v_model, make_route.now_ms, '{}', '{}') o
  ) f
  where f.preference = 1 and f.lane_id is not null;
end;
$function$;

-- requests ------------------------------------------------------------------------------------------------------------

create type eve.call as (
  request_id text,
  models text[],
  tokens integer,
  consumer_id uuid,
  class text,
  max_wait_ms integer,
  attempt integer,
  exclude_keys uuid[],
  avoid_keys uuid[],
  lease_ms integer,
  token_id uuid,
  endpoint text,
  trace_id text,
  metadata jsonb,
  request_hash text,
  counted boolean,
  request_no bigint,
  deadline timestamp with time zone,
  call_id uuid,
  max_output_tokens integer
);
comment on type eve.call is 'The arguments of public.eve_reserve, which explains them.';

create type eve.earlier_request as (
  request_no bigint,
  state text,
  attempts integer,
  request_hash text,
  requested_model text,
  class text,
  error_code text,
  result jsonb
);
comment on type eve.earlier_request is 'A request that was made before under the same id: of eve.inflight or eve.request_keys.';

create type eve.caller_scope as (
  class text,
  models text[],
  capture boolean,
  day date,
  counts_minute boolean,
  tokens_left bigint,
  tokens_limit text,
  refusal text,
  limit_name text,
  wait_ms bigint
);
comment on type eve.caller_scope is 'What a caller may. day: its budget''s Pacific day, null without a budget; counts_minute: it has a limit of requests a minute; tokens_left: what this attempt may take of its budgets of tokens (tokens_limit: of which), null without one.';

CREATE OR REPLACE FUNCTION eve.limits_json(limits eve.lane_limits, used_starts bigint, used_tokens bigint, day_left bigint, reset_ms bigint, day_reset_ms bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return jsonb_build_object(
    'requests', jsonb_build_object(
      'limit', (limits).rpm, 'remaining', case when (limits).rpm is not null then greatest((limits).rpm - limits_json.used_starts, 0) end,
      'reset_ms', limits_json.reset_ms
    ),
    'tokens', jsonb_build_object(
      'limit', (limits).tpm, 'remaining', case when (limits).tpm is not null then greatest((limits).tpm - limits_json.used_tokens, 0) end,
      'reset_ms', limits_json.reset_ms
    ),
    'requests_day', jsonb_build_object(
      'limit', (limits).rpd, 'remaining', case when (limits).rpd is not null then greatest(limits_json.day_left, 0) end,
      'reset_ms', limits_json.day_reset_ms
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.note_refusal(call eve.call, class text, code text, model text, limit_name text, retry_after_ms bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer_id constant uuid := coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  v_now constant timestamptz := eve.clock();
  v_minute constant timestamptz := date_trunc('minute', v_now);
  v_most constant bigint := coalesce((select s.value from eve.settings s where s.name = 'refusals_kept_a_minute'), 30);
begin
  -- Looked at first: in a flood nobody queues for this row.
  if v_most > coalesce(
    (select m.kept from eve.refusal_minutes m where m.consumer_id = v_consumer_id and m.minute = v_minute), 0
  ) then
    insert into eve.refusal_minutes as m (consumer_id, minute, kept)
    values (v_consumer_id, v_minute, 1)
    on conflict (consumer_id) do update
    set minute = excluded.minute, kept = case when m.minute = excluded.minute then m.kept + 1 else 1 end
    where m.minute <> excluded.minute or m.kept < v_most;
    if found then
      insert into eve.refusals (
        refused_at, consumer_id, token_id, request_id, attempt, class, endpoint, model, code, limit_name, tokens, retry_after_ms,
        trace_id
      )
      values (
        v_now, v_consumer_id, (call).token_id, left((call).request_id, 200), (call).attempt, note_refusal.class,
        left((call).endpoint, 40), left(note_refusal.model, 200), note_refusal.code, note_refusal.limit_name, (call).tokens,
        note_refusal.retry_after_ms, left((call).trace_id, 200)
      );
      return;
    end if;
  end if;
  -- Nobody waits for this to be on the disk.
  perform set_config('synchronous_commit', 'off', true);
  insert into eve.refusal_counts as c (minute, consumer_id, code, limit_name, model, class, endpoint, is_first, times)
  values (
    v_minute, v_consumer_id, note_refusal.code, coalesce(note_refusal.limit_name, ''),
    coalesce((select m.model from public.google_ai_model_limits m where m.model = note_refusal.model), '(unknown)'),
    note_refusal.class, left((call).endpoint, 40), (call).attempt = 1, 1
  )
  on conflict on constraint refusal_counts_minute_key do update set times = c.times + 1;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.refuse(call eve.call, class text, code text, model text DEFAULT NULL::text, limit_name text DEFAULT NULL::text, wait_ms bigint DEFAULT NULL::bigint, limits jsonb DEFAULT NULL::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Spread out, so that those refused together do not come back together: over half the wait again, at least a second, at
  -- most ten minutes after a daily limit and half a minute otherwise.
  v_spread constant double precision := greatest(
    1000, least(refuse.wait_ms / 2.0, case when refuse.limit_name = 'rpd' then 600000 else 30000 end)
  );
  v_retry_after_ms constant bigint := case
    when refuse.wait_ms is not null then greatest(refuse.wait_ms, 0) + floor(random() * v_spread)::bigint
  end;
  v_model constant text := coalesce(refuse.model, (call).models[1]);
begin
  perform eve.note_refusal(call, refuse.class, refuse.code, v_model, refuse.limit_name, v_retry_after_ms);
  return jsonb_build_object(
    'status', 'refused', 'code', refuse.code, 'limit', refuse.limit_name, 'retry_after_ms', v_retry_after_ms,
    'model', v_model, 'limits', refuse.limits, 'detail', null
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.stop_when_late(deadline timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if clock_timestamp() > stop_when_late.deadline then
    raise exception 'nobody waits for this reservation any more'
      using errcode = 'EV503', detail = floor(extract(epoch from clock_timestamp()) * 1000)::bigint::text;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.check_call(call eve.call)
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  if (call).request_id is null or length((call).request_id) not between 1 and 200 then
    raise exception 'request_id must have 1 to 200 characters' using errcode = 'EV400';
  elsif coalesce(cardinality((call).models), 0) not between 1 and 10 then
    raise exception 'models must name 1 to 10 models' using errcode = 'EV400';
  elsif exists (select from unnest((call).models) m where m is null or length(m) not between 1 and 200) then
    raise exception 'the name of a model must have 1 to 200 characters' using errcode = 'EV400';
  elsif length((call).endpoint) > 40 or length((call).trace_id) > 200 or length((call).request_hash) > 200 then
    raise exception 'endpoint must have at most 40 characters, trace_id and request_hash 200' using errcode = 'EV400';
  elsif (call).tokens is null or (call).tokens < 0 or (call).max_output_tokens < 0 then
    raise exception 'tokens and max_output_tokens must be 0 or more' using errcode = 'EV400';
  elsif (call).class is null or (call).class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif (call).max_wait_ms is null or (call).max_wait_ms not between 0 and 3600000 then
    raise exception 'max_wait_ms must be between 0 and 3600000' using errcode = 'EV400';
  elsif (call).attempt is null or (call).attempt not between 1 and 3 then
    raise exception 'attempt must be 1, 2 or 3' using errcode = 'EV400';
  elsif (call).lease_ms is null or (call).lease_ms not between 100 and 3600000 then
    raise exception 'lease_ms must be between 100 and 3600000' using errcode = 'EV400';
  elsif length((call).metadata::text) > 16384 then
    raise exception 'metadata must have at most 16384 characters' using errcode = 'EV400';
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.repeated(call eve.call, before eve.earlier_request)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_scope record;
  v_same boolean;
begin
  select case
      when t.models is null then c.models
      when c.models is null then t.models
      else array(select m from unnest(t.models) m where m = any (c.models))
    end as models, c.max_class = 'batch' or t.class is not distinct from 'batch' as batch_only
  into v_scope
  from eve.consumers c
  left join eve.scoped_tokens t on t.id = (call).token_id
  where c.id = coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  if not (call).models && v_scope.models then
    return eve.refuse(call, (call).class, 'model_not_allowed');
  end if;
  v_same := (call).request_hash is not distinct from (before).request_hash
    and (v_scope.models is null or (before).requested_model = any (v_scope.models))
    and ((before).class = 'batch' or not v_scope.batch_only);
  return jsonb_build_object(
    'status', 'duplicate', 'state', (before).state, 'request_no', (before).request_no, 'attempts', (before).attempts,
    'same_request', v_same, 'error_code', case when v_same then (before).error_code end,
    'result', case when v_same then (before).result end
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.find_request(call eve.call, now_ms bigint, OUT running eve.inflight, OUT answer jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer_id constant uuid := coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  v_before eve.earlier_request;
begin
  perform pg_advisory_xact_lock(hashtextextended(v_consumer_id::text || (call).request_id, 0));
  -- Anyone who settles or closes it at this moment is waited for; then it has ended, and the answer is below.
  select * into running
  from eve.inflight i
  where i.consumer_id = v_consumer_id and i.request_id = (call).request_id
  for update;
  if found and running.lease_until < to_timestamp(find_request.now_ms / 1000.0) then
    if running.state <> 'waiting' then
      perform eve.expire_leases(running.lane_id, 100000);
      running := null;
    elsif running.request_no is distinct from (call).request_no then
      -- It waited for a caller that has gone, and was never sent: this is the same request again.
      perform eve.leave_queue(running);
      select * into running from eve.inflight i where i.request_no = (running).request_no;
    end if;
  end if;
  if running.request_no is not null then
    if running.attempt = (call).attempt and running.request_no = (call).request_no and running.state <> 'between'
      or (call).attempt > 1 and running.attempt + 1 = (call).attempt and running.state = 'between' then
      return;
    end if;
    v_before := row(
      running.request_no, 'running', running.attempt, running.request_hash, running.requested_model, running.class, null, null
    );
  else
    select k.request_no, k.state, k.attempts, k.request_hash, k.requested_model, k.class, k.error_code, kept.result
    into v_before
    from eve.request_keys k
    left join eve.request_results kept on kept.request_no = k.request_no
    where k.consumer_id = v_consumer_id and k.request_id = (call).request_id;
    if not found then
      if (call).attempt > 1 or (call).request_no is not null then
        raise exception 'attempt % of a request that is not running', (call).attempt using errcode = 'EV404';
      end if;
      return;
    end if;
  end if;
  answer := eve.repeated(call, v_before);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.access_ended(consumer_id uuid, token_id uuid, now_ms bigint)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return case
    when access_ended.consumer_id <> '00000000-0000-0000-0000-000000000000'
      and not exists (select from eve.consumers c where c.id = access_ended.consumer_id and c.is_active) then 'consumer_disabled'
    when access_ended.token_id is not null
      and not exists (
        select
        from eve.scoped_tokens t
        where t.id = access_ended.token_id and t.consumer_id = access_ended.consumer_id and t.revoked_at is null
          and t.expires_at > to_timestamp(access_ended.now_ms / 1000.0)
      ) then 'token_revoked'
  end;
end;
$function$;

-- budgets -------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.lock_budgets(token_ids uuid[], consumer_ids uuid[], days date[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform
  from eve.scoped_tokens t
  where t.id = any (lock_budgets.token_ids)
  order by t.id
  for no key update;
  perform
  from eve.consumer_days d
  where (d.consumer_id, d.day) in (select * from unnest(lock_budgets.consumer_ids, lock_budgets.days))
  order by d.consumer_id, d.day
  for no key update;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.consumer_scope(call eve.call, consumer eve.consumers, day date, now_ms bigint, spends boolean, held_tokens bigint)
 RETURNS eve.caller_scope
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_scope eve.caller_scope;
  v_spent record;
begin
  v_scope.class := case (consumer).max_class when 'batch' then 'batch' else (call).class end;
  v_scope.capture := coalesce((consumer).capture, false);
  v_scope.counts_minute := false;
  v_scope.models := (consumer).models;
  if (consumer).rpm is not null and (call).attempt = 1 and consumer_scope.spends then
    v_scope.wait_ms := eve.consumer_minute_wait((consumer).id, (consumer).rpm, consumer_scope.now_ms);
    if v_scope.wait_ms > 0 then
      v_scope.refusal := 'rate_limited';
      v_scope.limit_name := 'consumer_rpm';
      return v_scope;
    end if;
    v_scope.counts_minute := true;
  end if;
  if consumer_scope.day is null then
    return v_scope;
  end if;
  v_scope.day := consumer_scope.day;
  select d.requests, d.tokens into v_spent
  from eve.consumer_days d
  where d.consumer_id = (consumer).id and d.day = consumer_scope.day;
  if consumer_scope.spends and (call).attempt = 1 and v_spent.requests >= (consumer).requests_per_day then
    v_scope.refusal := 'budget_exhausted';
    v_scope.limit_name := 'consumer_requests';
    v_scope.wait_ms := eve.next_pacific_midnight(consumer_scope.now_ms) - consumer_scope.now_ms;
  elsif (consumer).tokens_per_day is not null then
    v_scope.tokens_left := (consumer).tokens_per_day - v_spent.tokens + consumer_scope.held_tokens;
    v_scope.tokens_limit := 'consumer_tokens';
  end if;
  return v_scope;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.scope_of(call eve.call, running eve.inflight, now_ms bigint)
 RETURNS eve.caller_scope
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer_id constant uuid := coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000');
  v_spends constant boolean := (running).request_no is null or (running).state = 'between';
  v_held constant bigint := case when v_spends then 0 else (running).tokens + (running).output_tokens end;
  v_scope eve.caller_scope;
  v_consumer eve.consumers;
  v_day date;
  v_token record;
begin
  select * into v_consumer from eve.consumers c where c.id = v_consumer_id;
  if v_consumer_id <> '00000000-0000-0000-0000-000000000000' then
    if v_consumer.id is null or not v_consumer.is_active then
      v_scope.class := (call).class;
      v_scope.refusal := 'consumer_disabled';
      return v_scope;
    end if;
    if 'llm' <> all (v_consumer.scopes) then
      v_scope.class := (call).class;
      v_scope.refusal := 'model_not_allowed';
      return v_scope;
    end if;
    if v_consumer.requests_per_day is not null or v_consumer.tokens_per_day is not null then
      -- A request belongs to the day it came in, whatever the day of its later attempts.
      v_day := eve.pacific_day(coalesce(floor(extract(epoch from (running).received_at) * 1000)::bigint, scope_of.now_ms));
      -- A new row looks at its consumer's, which anyone who changes that holds: before anything is in hand that they want.
      if not exists (select from eve.consumer_days d where d.consumer_id = v_consumer_id and d.day = v_day) then
        insert into eve.consumer_days (consumer_id, day) values (v_consumer_id, v_day) on conflict do nothing;
      end if;
    end if;
    if v_consumer.rpm is not null and not exists (select from eve.consumer_minutes m where m.consumer_id = v_consumer_id) then
      perform eve.consumer_minute_wait(v_consumer_id, v_consumer.rpm, scope_of.now_ms);
    end if;
  else
    -- The project itself has no limits of its own.
    v_consumer.models := null;
    v_consumer.max_class := null;
    v_consumer.rpm := null;
  end if;
  if (call).token_id is not null then
    select t.models, t.class, coalesce('llm' = any (t.scopes), true) as has_llm, t.requests_budget, t.tokens_budget, t.requests_used, t.tokens_used,
      t.revoked_at is not null or t.expires_at <= to_timestamp(scope_of.now_ms / 1000.0) as ended
    into v_token
    from eve.scoped_tokens t
    where t.id = (call).token_id and t.consumer_id = (call).consumer_id
    for no key update;
  end if;
  if v_day is not null then
    perform from eve.consumer_days d where d.consumer_id = v_consumer_id and d.day = v_day for no key update;
  end if;

  v_scope := eve.consumer_scope(call, v_consumer, v_day, scope_of.now_ms, v_spends, v_held);
  if (call).token_id is null or v_scope.refusal is not null then
    return v_scope;
  elsif v_token is null or v_token.ended then
    v_scope.refusal := 'token_revoked';
    return v_scope;
  elsif not v_token.has_llm then
    v_scope.refusal := 'model_not_allowed';
    return v_scope;
  elsif v_spends and (call).attempt = 1 and v_token.requests_used >= v_token.requests_budget then
    v_scope.refusal := 'budget_exhausted';
    v_scope.limit_name := 'token_requests';
    v_scope.wait_ms := null;
    return v_scope;
  elsif v_token.tokens_budget is not null
    and (v_scope.tokens_left <= v_token.tokens_budget - v_token.tokens_used + v_held) is not true then
    v_scope.tokens_left := v_token.tokens_budget - v_token.tokens_used + v_held;
    v_scope.tokens_limit := 'token_tokens';
  end if;
  if v_token.class = 'batch' then
    v_scope.class := 'batch';
  end if;
  if v_token.models is not null then
    v_scope.models := case
      when v_scope.models is null then v_token.models
      else array(select m from unnest(v_token.models) m where m = any (v_scope.models))
    end;
  end if;
  return v_scope;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.budget_wait(call eve.call, tokens_limit text, now_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return case
    when exists (
      select
      from eve.inflight i
      where i.consumer_id = (call).consumer_id and i.request_id <> (call).request_id and i.output_tokens > 0
        and i.lease_until > to_timestamp(budget_wait.now_ms / 1000.0)
        and (budget_wait.tokens_limit = 'consumer_tokens' or i.token_id = (call).token_id)
    ) then 2000
    when budget_wait.tokens_limit = 'consumer_tokens'
      then eve.next_pacific_midnight(budget_wait.now_ms) - budget_wait.now_ms
  end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.take_budgets(call eve.call, scope eve.caller_scope, tokens bigint, now_ms bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_requests constant integer := case (call).attempt when 1 then 1 else 0 end;
begin
  if (call).token_id is not null then
    update eve.scoped_tokens t
    set requests_used = t.requests_used + v_requests, tokens_used = t.tokens_used + take_budgets.tokens
    where t.id = (call).token_id;
  end if;
  if (scope).counts_minute then
    perform eve.consumer_minute_take((call).consumer_id, take_budgets.now_ms);
  end if;
  if (scope).day is not null then
    update eve.consumer_days d
    set requests = d.requests + v_requests, tokens = d.tokens + take_budgets.tokens
    where d.consumer_id = (call).consumer_id and d.day = (scope).day;
  end if;
end;
$function$;

-- placing -------------------------------------------------------------------------------------------------------------

create type eve.placement as (
  status text,
  requested_model text,
  served text,
  lane_id bigint,
  quota_key text,
  limits eve.lane_limits,
  pace eve.pool_pace,
  key_ids uuid[],
  aliases text[],
  env_var_names text[],
  lanes bigint,
  contended boolean,
  tokens bigint,
  start_ms bigint,
  second_ms bigint,
  bucket_ms bigint,
  day_ends_ms bigint,
  wait_ms bigint,
  turn bigint,
  used_starts bigint,
  used_tokens bigint,
  day_left bigint,
  output_tokens bigint,
  refusal text,
  limit_name text,
  refusal_wait bigint,
  refusal_limits jsonb
);
comment on type eve.placement is 'What became of a call on the lanes of one model: granted, waiting, count, refused, or (on the way there) found, missing.';

CREATE OR REPLACE FUNCTION eve.refusal_by(limit_name text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case refusal_by.limit_name when 'rpd' then 'daily_limit' when 'blocked' then 'lane_blocked' else 'rate_limited' end;
$function$;

CREATE OR REPLACE FUNCTION eve.without_start(best eve.placement, too_small integer)
 RETURNS eve.placement
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
declare
  v_best eve.placement := without_start.best;
begin
  v_best.status := 'refused';
  if v_best.lanes = 0 then
    v_best.refusal := 'no_active_key';
  elsif without_start.too_small = v_best.lanes then
    v_best.refusal := 'prompt_too_large';
    v_best.limit_name := 'tpm';
  elsif v_best.refusal_wait is not null then
    v_best.refusal := 'too_many_waiting';
    v_best.limit_name := 'waiting_share';
  else
    v_best.refusal := eve.refusal_by(v_best.limit_name);
  end if;
  return v_best;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.size_of(call eve.call, served public.google_ai_model_limits, OUT expected bigint, OUT booked bigint)
 RETURNS record
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  -- Upstream's own count is booked as it is. An estimate that could be counted is booked at the most that it may turn out
  -- to be, until it is settled; an estimate that cannot be counted, at what such estimates have come to.
  expected := ceil((call).tokens * case when (call).counted then 1 else (served).estimate_factor end)::bigint;
  booked := case when not (call).counted then ceil(expected * (served).estimate_ceiling)::bigint else expected end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.wait_for_share(call eve.call, lane_id bigint, limits eve.lane_limits, tokens bigint, start_ms bigint, now_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if wait_for_share.start_ms - wait_for_share.now_ms > (call).max_wait_ms then
    return null;
  end if;
  return eve.share_wait(
    wait_for_share.lane_id, limits, coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000'), 'interactive',
    wait_for_share.tokens, wait_for_share.now_ms
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.counts_first(best eve.placement, class text, expected bigint, now_ms bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
declare
  v_large constant boolean := counts_first.expected * coalesce(((best).limits).rpm, 60) > ((best).limits).tpm;
begin
  return (best).start_ms > counts_first.now_ms and ((best).limit_name = 'tpm' or v_large)
    or counts_first.class = 'batch' and v_large;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.choose_lane(call eve.call, class text, served public.google_ai_model_limits, queued_ms bigint, only_lane bigint, now_ms bigint)
 RETURNS eve.placement
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_batch constant boolean := choose_lane.class = 'batch';
  v_size constant record := eve.size_of(call, served);
  v_expected constant bigint := v_size.expected;
  v_tokens constant bigint := v_size.booked;
  v_best eve.placement;
  v_lane record;
  v_fit record;
  v_start bigint;
  v_limit text;
  v_day_left bigint;
  v_ahead record;
  v_contended boolean;
  v_pace eve.pool_pace;
  v_too_small integer := 0;
  v_share_wait bigint;
begin
  v_best.served := (served).model;
  v_best.tokens := v_tokens;
  v_best.lanes := 0;
  -- In the order of the earliest start that can be told without looking into the window. The first whose real start is no
  -- later than the next one's bound is the best there is, so seldom more than one window is looked at.
  for v_lane in
    select o.*, l as state, l.id is null as missing, count(*) over () as lanes, array_agg(o.lane_id) over () as lane_ids,
      case when bool_and((o.limits).rpm > 0) over () then (60000 + (o.limits).guard_ms)::double precision / sum((o.limits).rpm) over () end as interval_ms,
      case when bool_and((o.limits).tpm > 0) over () then (60000 + (o.limits).guard_ms)::double precision / sum((o.limits).tpm) over () end as token_ms,
      max(l.pace_ms) over () as pace_ms, max(l.token_pace_ms) over () as token_pace_ms, max(l.batch_start_ms) over () as batch_start_ms,
      greatest(
        choose_lane.now_ms, case when not v_batch then l.interactive_tail_ms end,
        case when l.blocked_until > to_timestamp(choose_lane.now_ms / 1000.0) then
          case
            when l.blocked_until = 'infinity' then 9223372036854775807
            else ceil(extract(epoch from l.blocked_until) * 1000)::bigint
          end
        end
      ) as bound_ms
    from eve.lanes_for(served, choose_lane.now_ms, (call).exclude_keys, (call).avoid_keys) o
    left join eve.lanes l on l.id = o.lane_id
    where choose_lane.only_lane is null or o.lane_id = choose_lane.only_lane
    order by missing desc, bound_ms, o.avoided, o.priority, l.day_starts, l.turns, l.id
  loop
    v_best.lanes := v_lane.lanes;
    if v_lane.missing then
      v_best.status := 'missing';
      return v_best;
    end if;
    if v_contended is null then
      v_contended := exists (
        select
        from eve.inflight i
        where i.state = 'waiting' and i.model = (served).model and i.start_ms > choose_lane.now_ms - 1500
          and i.request_no is distinct from (call).request_no
      );
      -- A start that is booked again has had its turn, and its place in the pace.
      v_pace := case when choose_lane.only_lane is null then row(
        v_lane.interval_ms, v_lane.token_ms, v_lane.pace_ms, v_lane.token_pace_ms, v_lane.batch_start_ms, (served).batch_floor,
        case when v_batch or greatest(v_lane.pace_ms, v_lane.token_pace_ms) > choose_lane.now_ms - v_lane.interval_ms then
          eve.spread_ms(v_lane.lane_ids, v_lane.interval_ms, 60000 + (v_lane.limits).guard_ms, choose_lane.now_ms)
        end
      )::eve.pool_pace end;
    end if;
    v_start := null;
    if v_tokens > (v_lane.limits).tpm then
      if not (call).counted and v_expected <= (v_lane.limits).tpm * (served).estimate_ceiling then
        v_best.status := 'count'; -- It may fit after all: only a count can tell.
      else
        v_too_small := v_too_small + 1;
        v_best.refusal_limits := eve.limits_json(v_lane.limits, 0, 0, (v_lane.limits).rpd, 0, 0);
        continue;
      end if;
    elsif v_best.start_ms <= v_lane.bound_ms then
      v_best.second_ms := least(v_best.second_ms, v_lane.bound_ms);
      exit;
    else
      v_fit := eve.earliest_start(
        v_lane.state, v_lane.limits, choose_lane.class, v_contended, v_tokens, choose_lane.now_ms,
        case
          when not v_batch then (v_lane.state).interactive_tail_ms
          -- Alone on lanes that are nearly empty batch goes as it comes; otherwise one by one.
          when v_contended or not eve.may_burst(v_lane.state, v_lane.limits, v_tokens, choose_lane.now_ms)
            then eve.pace_allows(v_pace)
          else 0
        end
      );
      v_start := v_fit.start_ms;
      v_limit := v_fit.limit_name;
      v_day_left := v_fit.day_left;
      if not v_batch and v_start > choose_lane.now_ms and choose_lane.only_lane is null then
        v_share_wait := eve.wait_for_share(call, v_lane.lane_id, v_lane.limits, v_tokens, v_start, choose_lane.now_ms);
        v_best.refusal_wait := least(v_best.refusal_wait, v_share_wait);
        v_start := case when v_share_wait is null then v_start end;
      end if;
      if v_batch and v_start is not null then
        v_ahead := eve.queued_before(
          (served).model, v_lane.lane_id, choose_lane.queued_ms, (call).request_no, choose_lane.now_ms, v_lane.interval_ms,
          v_lane.token_ms
        );
        if v_ahead.calls > 0 then
          v_start := v_start + v_ahead.wait_ms;
        end if;
      end if;
    end if;
    if v_best.status = 'count' or v_best.start_ms is null and v_start is not null or v_start < v_best.start_ms then
      v_best.second_ms := v_best.start_ms;
      v_best.start_ms := v_start;
      v_best.limit_name := v_limit;
      v_best.day_left := v_day_left;
      v_best.lane_id := v_lane.lane_id;
      v_best.quota_key := v_lane.quota_key;
      v_best.limits := v_lane.limits;
      v_best.key_ids := v_lane.key_ids;
      v_best.aliases := v_lane.aliases;
      v_best.env_var_names := v_lane.env_var_names;
      exit when v_best.status = 'count';
    elsif v_start is not null then
      v_best.second_ms := least(v_best.second_ms, v_start);
    elsif v_best.start_ms is null then
      -- Nothing to wait for on this lane; remembered as the reason if no other lane has one.
      v_best.limit_name := coalesce(v_best.limit_name, v_limit);
    end if;
  end loop;

  v_best.contended := coalesce(v_contended, false);
  v_best.pace := v_pace;
  if v_best.status = 'count' then
    return v_best;
  elsif v_best.start_ms is not null then
    v_best.status := 'found';
    if not (call).counted and eve.counts_first(v_best, choose_lane.class, v_expected, choose_lane.now_ms) then
      v_best.status := 'count';
    end if;
    return v_best;
  end if;
  return eve.without_start(v_best, v_too_small);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.too_late(best eve.placement, call eve.call, class text, now_ms bigint)
 RETURNS eve.placement
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_best eve.placement := too_late.best;
  v_lane eve.lanes;
  v_fit record;
  v_used record;
begin
  select * into v_lane from eve.lanes l where l.id = v_best.lane_id;
  v_fit := eve.earliest_start(
    v_lane, v_best.limits, too_late.class, v_best.contended, v_best.tokens, too_late.now_ms, too_late.now_ms
  );
  v_best.status := 'refused';
  v_best.limit_name := coalesce(v_fit.limit_name, 'queue');
  v_best.refusal := eve.refusal_by(v_best.limit_name);
  v_best.refusal_wait := v_best.start_ms - too_late.now_ms - (call).max_wait_ms;
  select coalesce(sum(b.starts), 0)::bigint as starts, coalesce(sum(b.tokens), 0)::bigint as tokens into v_used
  from eve.lane_buckets b
  where b.lane_id = v_best.lane_id and b.at_ms > too_late.now_ms - 60000 - (v_best.limits).guard_ms and b.at_ms <= too_late.now_ms;
  v_best.refusal_limits := eve.limits_json(
    v_best.limits, v_used.starts, v_used.tokens, v_fit.day_left, v_best.refusal_wait,
    eve.next_pacific_midnight(too_late.now_ms) - too_late.now_ms
  );
  return v_best;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.output_of(call eve.call, scope eve.caller_scope, served public.google_ai_model_limits, now_ms bigint)
 RETURNS eve.placement
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_place eve.placement;
  v_size constant record := eve.size_of(call, served);
  v_wanted constant bigint := coalesce(
    (call).max_output_tokens, (served).max_output_tokens,
    (select s.value from eve.settings s where s.name = 'default_max_output_tokens')
  );
begin
  v_place.served := (served).model;
  if (scope).tokens_left >= v_size.booked + least(v_wanted, 1) then
    v_place.output_tokens := least(v_wanted, (scope).tokens_left - v_size.booked);
  elsif not (call).counted and (scope).tokens_left >= v_size.expected / (served).estimate_ceiling + least(v_wanted, 1) then
    v_place.status := 'count';
  else
    v_place.status := 'refused';
    v_place.refusal := 'budget_exhausted';
    v_place.limit_name := (scope).tokens_limit;
    v_place.refusal_wait := eve.budget_wait(call, (scope).tokens_limit, output_of.now_ms);
  end if;
  return v_place;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.place_call(call eve.call, scope eve.caller_scope, requested_model text, queued_ms bigint, only_lane bigint)
 RETURNS eve.placement
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_batch constant boolean := (scope).class = 'batch';
  v_model constant public.google_ai_model_limits := eve.served_model(place_call.requested_model);
  v_best eve.placement;
  v_output eve.placement;
  v_booking record;
  v_latest bigint;
  v_now bigint;
begin
  if v_model.model is null then
    v_best.status := 'refused';
    v_best.refusal := 'unknown_model';
    v_best.served := place_call.requested_model;
    v_best.requested_model := place_call.requested_model;
    return v_best;
  end if;
  if (scope).tokens_left is not null then
    v_output := eve.output_of(call, scope, v_model, eve.clock_ms());
  end if;
  if v_output.status = 'refused' then
    v_output.requested_model := place_call.requested_model;
    return v_output;
  end if;
  for v_round in 1..1000 loop
    v_now := eve.clock_ms();
    v_best := eve.choose_lane(call, (scope).class, v_model, place_call.queued_ms, place_call.only_lane, v_now);
    v_best.requested_model := place_call.requested_model;
    v_best.output_tokens := v_output.output_tokens;
    if v_best.status = 'found' and v_output.status = 'count' then
      v_best.status := 'count';
    end if;
    if v_best.status = 'missing' then
      -- A key or a model has been added: its lane comes into being with its first call.
      perform eve.ensure_lanes(v_model.model);
      continue;
    elsif v_best.status <> 'found' then
      return v_best;
    elsif v_best.start_ms - v_now > (call).max_wait_ms then
      -- Somebody may have started between our look at the clock and our look at the lane; that is no line to wait in.
      v_now := eve.clock_ms();
      continue when v_best.start_ms - v_now <= (call).max_wait_ms;
      return eve.too_late(v_best, call, (scope).class, v_now);
    elsif v_batch and v_best.start_ms > v_now then
      v_best.status := 'waiting';
      v_best.wait_ms := v_best.start_ms - v_now;
      return v_best;
    end if;
    -- Lists and other callers may be at this lane; it may be full by the time that it is ours.
    v_latest := case
      when v_batch then 0
      -- As long as no other lane would start it sooner.
      when v_best.lanes > 1 and v_round < 4
        then least((call).max_wait_ms, greatest(v_best.start_ms, coalesce(v_best.second_ms, v_best.start_ms)) - v_now)
      else (call).max_wait_ms
    end;
    v_booking := eve.book(
      v_best.lane_id, v_best.limits, v_best.pace, (scope).class, v_best.contended, v_best.tokens, place_call.queued_ms,
      (call).request_no,
      case when place_call.only_lane is null then coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000') end,
      v_latest, (call).lease_ms
    );
    -- Otherwise somebody was quicker. They have got a slot, so this cannot go on for ever.
    if v_booking.booked then
      v_best.status := 'granted';
      v_best.start_ms := v_booking.start_ms;
      v_best.bucket_ms := v_booking.bucket_ms;
      v_best.day_ends_ms := v_booking.day_ends_ms;
      v_best.wait_ms := v_booking.wait_ms;
      v_best.turn := v_booking.turn;
      v_best.used_starts := v_booking.used_starts;
      v_best.used_tokens := v_booking.used_tokens;
      v_best.day_left := v_booking.day_left;
      return v_best;
    end if;
  end loop;
  raise exception 'no lane held still long enough to be taken' using errcode = 'EV503';
end;
$function$;

-- reserving -----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.granted(route jsonb, request_no bigint, attempt integer, class text, capture boolean, tokens bigint, wait_ms bigint, start_ms bigint, lease_ms integer, limits jsonb, max_output_tokens bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return granted.route || jsonb_build_object(
    'request_no', granted.request_no, 'attempt', granted.attempt, 'class', granted.class, 'capture', granted.capture,
    'tokens', granted.tokens, 'wait_ms', granted.wait_ms, 'start_at', to_timestamp(granted.start_ms / 1000.0),
    'lease_until', to_timestamp((granted.start_ms + granted.lease_ms) / 1000.0), 'limits', granted.limits
  )
    || case
      when granted.max_output_tokens > 0 then jsonb_build_object('max_output_tokens', granted.max_output_tokens)
      else '{}'
    end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.leave_queue(running eve.inflight)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform eve.adjust_budgets(
    (running).consumer_id, (running).token_id, (running).received_at, case (running).attempt when 1 then -1 else 0 end,
    -(running).tokens - (running).output_tokens
  );
  if (running).attempt = 1 then
    delete from eve.inflight i where i.request_no = (running).request_no;
  else
    -- The attempt before it has failed; the caller settles the request as that one ended.
    update eve.inflight i
    set state = 'between', attempt = i.attempt - 1
    where i.request_no = (running).request_no;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.unbook(running eve.inflight)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform eve.give_back(running);
  perform eve.adjust_bucket((running).lane_id, (running).bucket_ms, (running).class, -1, -(running).tokens);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.wait_for_key(now_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return (
    select ceil(extract(epoch from min(k.blocked_until)) * 1000)::bigint - now_ms
    from public.google_ai_api_keys k
    where k.is_active and k.blocked_until > to_timestamp(now_ms / 1000.0) and k.blocked_until < 'infinity'
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.place_on_first(call eve.call, scope eve.caller_scope, queued_ms bigint, only_lane bigint)
 RETURNS eve.placement
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_requested text;
  v_place eve.placement;
  v_refused eve.placement;
begin
  foreach v_requested in array (call).models loop
    if v_requested <> all ((scope).models) then
      v_place := null;
      v_place.status := 'refused';
      v_place.refusal := 'model_not_allowed';
      v_place.served := v_requested;
    else
      v_place := eve.place_call(call, scope, v_requested, place_on_first.queued_ms, place_on_first.only_lane);
      -- A misspelt name is refused, not skipped.
      if v_place.status <> 'refused' or v_place.refusal = 'unknown_model' then
        return v_place;
      end if;
    end if;
    if v_refused.refusal is null or v_refused.refusal_wait > v_place.refusal_wait
      or v_refused.refusal_wait is null and v_place.refusal_wait is not null then
      v_refused := v_place;
    end if;
  end loop;
  return v_refused;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.ask_to_count(call eve.call, place eve.placement)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_model constant public.google_ai_model_limits := eve.served_model((place).requested_model);
begin
  return jsonb_build_object(
    'status', 'count', 'request_id', (call).request_id, 'attempt', (call).attempt, 'model', (place).served,
    'requested_model', (place).requested_model,
    'key', jsonb_build_object(
      'id', (place).key_ids[1], 'alias', (place).aliases[1], 'env_var_name', (place).env_var_names[1],
      'provider', (eve.providers_of(v_model))[1]
    ),
    -- What to come with, and counted left out, where counting fails: the most that the estimate may turn out to be.
    'tokens_if_not_counted', ceil((call).tokens * v_model.estimate_ceiling)::bigint
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.note_attempt(call eve.call, scope eve.caller_scope, place eve.placement, running eve.inflight, key_id uuid, now_ms bigint, queued_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_state constant text := case (place).status when 'granted' then 'reserved' else 'waiting' end;
  -- Batch that waits is to ask again at its start; some seconds later it counts as gone.
  v_lease constant timestamptz := to_timestamp(
    ((place).start_ms + case (place).status when 'granted' then (call).lease_ms else 15000 end) / 1000.0
  );
  v_request_no bigint;
begin
  if (running).request_no is null then
    insert into eve.inflight (
      request_no, consumer_id, request_id, token_id, class, endpoint, requested_model, model, attempt, state, lane_id, key_id,
      start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, output_tokens, queued_ms, any_lane, lease_until, received_at,
      wait_ms, trace_id, metadata, request_hash, call_id
    )
    values (
      nextval('eve.request_no'), coalesce((call).consumer_id, '00000000-0000-0000-0000-000000000000'), (call).request_id,
      (call).token_id, (scope).class, (call).endpoint, (place).requested_model, (place).served, (call).attempt, v_state,
      (place).lane_id, note_attempt.key_id, (place).start_ms, coalesce((place).bucket_ms, (place).start_ms),
      coalesce((place).day_ends_ms, 0), (place).tokens, (call).tokens, coalesce((place).output_tokens, 0),
      case when v_state = 'waiting' then note_attempt.queued_ms end, (call).exclude_keys = '{}', v_lease,
      to_timestamp(note_attempt.now_ms / 1000.0), coalesce((place).wait_ms, 0), (call).trace_id,
      coalesce((call).metadata, '{}'), (call).request_hash, (call).call_id
    )
    returning request_no into v_request_no;
  else
    v_request_no := (running).request_no;
    update eve.inflight i
    set requested_model = (place).requested_model, model = (place).served, attempt = (call).attempt, state = v_state,
      lane_id = (place).lane_id, key_id = note_attempt.key_id, start_ms = (place).start_ms,
      bucket_ms = coalesce((place).bucket_ms, (place).start_ms), day_ends_ms = coalesce((place).day_ends_ms, 0),
      tokens = (place).tokens, output_tokens = coalesce((place).output_tokens, 0),
      estimated_tokens = case when i.state = 'reserved' then i.estimated_tokens else (call).tokens end,
      queued_ms = case when v_state = 'waiting' then note_attempt.queued_ms end, any_lane = (call).exclude_keys = '{}',
      lease_until = v_lease,
      call_id = (call).call_id,
      -- What it waited until now, and what it is to wait.
      wait_ms = case
        when i.state = 'between' then i.wait_ms
        else greatest(i.wait_ms - (i.start_ms - note_attempt.now_ms), 0)
      end + coalesce((place).wait_ms, 0)
    where i.request_no = v_request_no;
  end if;
  return v_request_no;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_reserve(request_id text, models text[], tokens integer, consumer_id uuid DEFAULT NULL::uuid, class text DEFAULT 'interactive'::text, max_wait_ms integer DEFAULT 0, attempt integer DEFAULT 1, exclude_keys uuid[] DEFAULT '{}'::uuid[], avoid_keys uuid[] DEFAULT '{}'::uuid[], lease_ms integer DEFAULT 180000, token_id uuid DEFAULT NULL::uuid, endpoint text DEFAULT 'native'::text, trace_id text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, request_hash text DEFAULT NULL::text, counted boolean DEFAULT NULL::boolean, request_no bigint DEFAULT NULL::bigint, deadline timestamp with time zone DEFAULT NULL::timestamp with time zone, call_id uuid DEFAULT NULL::uuid, max_output_tokens integer DEFAULT NULL::integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET statement_timeout TO '7500ms'
 SET lock_timeout TO '3s'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_call eve.call := row(
    eve_reserve.request_id, eve_reserve.models, eve_reserve.tokens, eve_reserve.consumer_id, eve_reserve.class,
    eve_reserve.max_wait_ms, eve_reserve.attempt, eve_reserve.exclude_keys, eve_reserve.avoid_keys, eve_reserve.lease_ms,
    eve_reserve.token_id, eve_reserve.endpoint, eve_reserve.trace_id, eve_reserve.metadata, eve_reserve.request_hash,
    eve_reserve.counted, eve_reserve.request_no, eve_reserve.deadline, eve_reserve.call_id, eve_reserve.max_output_tokens
  )::eve.call;
  v_now constant bigint := eve.clock_ms();
  v_ended text;
  v_known record;
  v_running eve.inflight;
  v_spends boolean;
  v_scope eve.caller_scope;
  v_queued bigint;
  v_only_lane bigint;
  v_place eve.placement;
  v_model public.google_ai_model_limits;
  v_key integer;
  v_request_no bigint;
begin
  perform eve.check_call(v_call);
  perform eve.stop_when_late(v_call.deadline);
  -- A caller that may not call any more is told nothing, not even what it was told before.
  v_ended := eve.access_ended(v_call.consumer_id, v_call.token_id, v_now);
  if v_ended is not null then
    return eve.refuse(v_call, v_call.class, v_ended);
  end if;
  v_known := eve.find_request(v_call, v_now);
  if v_known.answer is not null then
    return v_known.answer;
  end if;
  v_running := v_known.running;
  v_spends := v_running.request_no is null or v_running.state = 'between';
  v_scope := eve.scope_of(v_call, v_running, v_now);
  if v_running.state = 'reserved' then
    perform eve.unbook(v_running);
    v_only_lane := v_running.lane_id;
    v_call.models := array[v_running.requested_model];
    -- As it was booked: it is not to be counted first, with its start given back already.
    v_call.tokens := v_running.tokens;
    v_call.counted := true;
  end if;
  if v_scope.refusal is not null then
    if not v_spends then
      perform eve.leave_queue(v_running);
    end if;
    return eve.refuse(v_call, v_scope.class, v_scope.refusal, null, v_scope.limit_name, v_scope.wait_ms);
  end if;

  -- A start that is booked again goes before all that wait.
  v_queued := case v_running.state when 'waiting' then v_running.queued_ms when 'reserved' then 0 else v_now end;
  v_place := eve.place_on_first(v_call, v_scope, v_queued, v_only_lane);
  if v_place.status = 'count' then
    return eve.ask_to_count(v_call, v_place);
  elsif v_place.status = 'refused' then
    if not v_spends then
      perform eve.leave_queue(v_running);
    end if;
    if v_place.refusal = 'no_active_key' then
      v_place.refusal_wait := eve.wait_for_key(v_now);
    end if;
    return eve.refuse(
      v_call, v_scope.class, v_place.refusal, v_place.served, v_place.limit_name, v_place.refusal_wait, v_place.refusal_limits
    );
  end if;

  if v_spends then
    perform eve.take_budgets(v_call, v_scope, v_place.tokens + coalesce(v_place.output_tokens, 0), v_now);
  else
    perform eve.adjust_budgets(
      v_running.consumer_id, v_running.token_id, v_running.received_at, 0,
      v_place.tokens + coalesce(v_place.output_tokens, 0) - v_running.tokens - v_running.output_tokens
    );
  end if;
  -- Keys of one project take turns.
  v_key := 1 + (coalesce(v_place.turn, 0) % cardinality(v_place.key_ids))::integer;
  v_request_no := eve.note_attempt(v_call, v_scope, v_place, v_running, v_place.key_ids[v_key], v_now, v_queued);
  -- With everything in hand, since that may have been waited for.
  perform eve.stop_when_late(v_call.deadline);
  if v_place.status = 'waiting' then
    return jsonb_build_object(
      'status', 'waiting', 'request_no', v_request_no, 'attempt', v_call.attempt, 'model', v_place.served,
      'requested_model', v_place.requested_model, 'class', v_scope.class, 'lane_id', v_place.lane_id, 'tokens', v_place.tokens,
      'wait_ms', v_place.wait_ms, 'ask_at', to_timestamp(v_place.start_ms / 1000.0)
    );
  end if;
  -- For those who come after.
  perform eve.make_route(v_place.requested_model, v_now);
  v_model := eve.served_model(v_place.requested_model);
  return eve.granted(
    eve.route_answer(
      v_place.requested_model, v_model, v_place.key_ids[v_key], v_place.aliases[v_key], v_place.env_var_names[v_key], v_place.lane_id,
      v_place.quota_key
    ),
    v_request_no, v_call.attempt, v_scope.class, v_scope.capture, v_place.tokens, v_place.wait_ms, v_place.start_ms,
    v_call.lease_ms,
    eve.limits_json(
      v_place.limits, v_place.used_starts, v_place.used_tokens, v_place.day_left,
      60000 + (v_place.limits).guard_ms + v_place.wait_ms, v_place.day_ends_ms - v_now
    ),
    v_place.output_tokens
  );
end;
$function$;
comment on function public.eve_reserve is 'Reserves a slot for one upstream attempt: all limits and budgets together or nothing. Answers granted, waiting (batch: ask again then), refused, duplicate, or count: have the prompt counted upstream and come again.';

-- lists ---------------------------------------------------------------------------------------------------------------

create type eve.list_calls as (
  places bigint[],
  ids text[],
  models text[],
  classes text[],
  tokens integer[],
  consumers uuid[],
  leases integer[],
  counted boolean[],
  endpoints text[],
  traces text[],
  metadata jsonb[],
  hashes text[],
  call_ids uuid[],
  deadline timestamp with time zone
);
comment on type eve.list_calls is 'The plain calls of a list: one element for each in every array. places: where in the list it stands, from 1. deadline: the first of theirs.';

create type eve.list_choice as (
  asked bigint[],
  classes text[],
  captures boolean[],
  turns bigint[],
  nths bigint[],
  tokens bigint[],
  paces bigint[],
  token_paces bigint[],
  steps double precision[],
  paced boolean[],
  contended boolean[],
  routes eve.routes[],
  locked bigint
);
comment on type eve.list_choice is 'Plain calls of a list that a lane seems to have room for: one element for each in every array (null: there is none). asked: which of eve.list_calls; nths: which of its lane''s calls it is, from 1; tokens: to be booked; turns: its lane''s when it was chosen; paces, token_paces, steps: as eve.pool_pace says; routes: lane and key, as they were then. locked: how many lanes are locked for them.';

CREATE OR REPLACE FUNCTION eve.read_list(calls jsonb)
 RETURNS eve.list_calls
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_plain eve.list_calls;
begin
  select array_agg(t.place) as places, array_agg(t.request_id) as ids, array_agg(t.models[1]) as models,
    array_agg(t.class) as classes, array_agg(t.tokens) as tokens, array_agg(t.consumer_id) as consumers,
    array_agg(t.lease_ms) as leases, array_agg(t.counted) as counted, array_agg(t.endpoint) as endpoints,
    array_agg(t.trace_id) as traces, array_agg(t.metadata) as metadata, array_agg(t.request_hash) as hashes,
    array_agg(t.call_id) as call_ids, min(t.deadline) as deadline
  into v_plain
  from rows from (
    jsonb_to_recordset(read_list.calls) as (
      request_id text, models text[], tokens integer, consumer_id uuid, class text, max_wait_ms integer, attempt integer,
      exclude_keys uuid[], avoid_keys uuid[], lease_ms integer, token_id uuid, metadata jsonb, counted boolean, endpoint text,
      trace_id text, request_hash text, deadline timestamptz, call_id uuid
    )
  ) with ordinality as t (
    request_id, models, tokens, consumer_id, class, max_wait_ms, attempt, exclude_keys, avoid_keys, lease_ms, token_id, metadata,
    counted, endpoint, trace_id, request_hash, deadline, call_id, place
  )
  where t.attempt = 1 and t.token_id is null and t.tokens >= 0 and cardinality(t.models) between 1 and 10
    and length(t.request_id) between 1 and 200 and t.class in ('interactive', 'batch') and t.max_wait_ms between 0 and 3600000
    and t.lease_ms between 100 and 3600000 and t.exclude_keys = '{}' and t.avoid_keys = '{}'
    and (t.metadata = '{}' or length(t.metadata::text) <= 16384)
    -- As eve.check_call has it.
    and (length(t.endpoint) > 40 or length(t.trace_id) > 200 or length(t.request_hash) > 200) is not true
    and (clock_timestamp() > t.deadline) is not true
    and pg_try_advisory_xact_lock(
      hashtextextended(coalesce(t.consumer_id::text, '00000000-0000-0000-0000-000000000000') || t.request_id, 0)
    );
  return v_plain;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.choose_for_list(plain eve.list_calls, only_lanes bigint[], now_ms bigint)
 RETURNS eve.list_choice
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_chosen eve.list_choice;
begin
  select array_agg(s.asked) filter (where fit.fits) as asked, array_agg(s.class) filter (where fit.fits) as classes,
    array_agg(s.capture) filter (where fit.fits) as captures, array_agg(s.turns) filter (where fit.fits) as turns,
    array_agg(s.nth) filter (where fit.fits) as nths, array_agg(s.booked) filter (where fit.fits) as tokens,
    array_agg((s.pace).pace_ms) filter (where fit.fits) as paces,
    array_agg((s.pace).token_pace_ms) filter (where fit.fits) as token_paces,
    array_agg(coalesce((s.pace).spread_ms, (s.pace).interval_ms)) filter (where fit.fits) as steps,
    array_agg(s.paced) filter (where fit.fits) as paced, array_agg(s.contended) filter (where fit.fits) as contended,
    -- With the route as it is now: others may make a new one before this is over.
    array_agg(r.route) filter (where fit.fits) as routes,
    count(distinct s.lane_id) as locked
  into v_chosen
  from (
    select g.model, g.class, a.asked, a.capture, a.counted, f.lanes[place.of] as lane_id, f.turns[place.of] as turns,
      f.paced[place.of] as paced, f.starts_left[place.of] as starts_left, f.tokens_left[place.of] as tokens_left, f.even_share,
      pool.pace, pool.contended, size.expected,
      ceil(size.expected * case when not a.counted then f.estimate_ceiling else 1 end)::bigint as booked,
      -- Which of the lane's calls this is.
      1 + (a.nth - 1) / cardinality(f.lanes) as nth
    from (
      -- By model and class.
      select t.model, case when c.max_class = 'batch' then 'batch' else t.class end as class, count(*) as calls,
        sum(count(*)) over (partition by t.model)::bigint as calls_of_model,
        array_agg(t.asked) as asked, array_agg(t.tokens) as tokens, array_agg(t.counted) as counted,
        array_agg(coalesce(c.capture, (select b.capture from eve.consumers b where b.id = v_project))) as captures
      from unnest(plain.models, plain.classes, plain.tokens, plain.consumers, plain.counted, plain.ids)
        with ordinality as t (model, class, tokens, consumer_id, counted, request_id, asked)
      left join lateral (select b.* from eve.consumers b where b.id = t.consumer_id offset 0) c on true
      where
        -- Consumers with a budget go by themselves.
        (
          t.consumer_id is null
          or c.is_active and 'llm' = any (c.scopes) and c.rpm is null and c.requests_per_day is null and c.tokens_per_day is null
            and (c.models is null or t.model = any (c.models))
        )
        and not exists (
          select
          from eve.inflight i
          where i.consumer_id = coalesce(t.consumer_id, v_project) and i.request_id = t.request_id
          offset 0
        )
        and not exists (
          select
          from eve.request_keys q
          where q.consumer_id = coalesce(t.consumer_id, v_project) and q.request_id = t.request_id
          offset 0
        )
      group by 1, 2
    ) g
    -- All lanes of the model: how fast batch may go, and whether any waits.
    cross join lateral (
      select row(
          min(o.interval_ms), min(o.token_ms), max(l.pace_ms), max(l.token_pace_ms), max(l.batch_start_ms),
          min((o.limits).batch_floor),
          case when g.class = 'batch' or greatest(max(l.pace_ms), max(l.token_pace_ms)) > now_ms - min(o.interval_ms) then
            eve.spread_ms(array_agg(o.lane_id), min(o.interval_ms), 60000 + min((o.limits).guard_ms), now_ms)
          end
        )::eve.pool_pace as pace,
        bool_or(exists (
          select
          from eve.inflight i
          where i.model = o.served and i.state = 'waiting' and i.start_ms > now_ms - 1500
          offset 0
        )) as contended
      from eve.routes o
      cross join lateral (select b.* from eve.lanes b where b.id = o.lane_id offset 0) l
      where o.model = g.model
    ) pool
    -- Of each model as many lanes as it has calls here, the least loaded first, and only such as nobody else is booking at
    -- this moment.
    cross join lateral (
      select array_agg(free.lane_id) as lanes, array_agg(free.turns) as turns, array_agg(free.paced) as paced,
        array_agg(free.starts_left) as starts_left, array_agg(free.tokens_left) as tokens_left,
        min(free.estimate_factor) as estimate_factor, min(free.estimate_ceiling) as estimate_ceiling,
        min(free.even_share) as even_share
      from (
        select loaded.*
        from (
          select o.lane_id, o.lanes, (l.lane).turns, o.estimate_ceiling, o.even_share, m.estimate_factor, batch.paced,
            room.starts as starts_left, room.tokens as tokens_left,
            (l.lane).day_starts - min((l.lane).day_starts) over () as ahead
          from eve.routes o
          cross join lateral (select b as lane from eve.lanes b where b.id = o.lane_id offset 0) l
          cross join lateral (
            select b.estimate_factor from public.google_ai_model_limits b where b.model = o.served offset 0
          ) m
          -- Alone on lanes that are nearly empty batch goes as it comes; otherwise one by one, and behind nobody who waits.
          cross join lateral (
            select case g.class
              when 'batch' then not eve.may_burst(l.lane, o.limits, 0, now_ms, g.calls_of_model)
              else greatest((pool.pace).pace_ms, (pool.pace).token_pace_ms) > now_ms - coalesce((pool.pace).interval_ms, 0)
            end as paced
          ) batch
          cross join lateral eve.room_left(l.lane, o.limits, g.class, pool.contended, g.calls, 1, now_ms) room
          where o.model = g.model and (only_lanes is null or o.lane_id = any (only_lanes))
            -- What has to hold when it is booked, too: no lane is locked for nothing.
            and (l.lane).blocked_until is null and (l.lane).interactive_tail_ms <= now_ms and o.stale_ms > now_ms
            and (l.lane).next_lease_ms > now_ms and (l.lane).span_number <= now_ms >> 16
            and (l.lane).day_ends_ms > now_ms + (o.limits).guard_ms and (l.lane).day_ends_ms <= now_ms + 90000000
            and ((l.lane).day_starts < (o.limits).rpd) is not false
            and (room.starts < 1 or room.tokens < 1) is not true
            and (
              g.class = 'interactive'
              or not pool.contended
                and (not batch.paced or g.calls = 1 and eve.pace_allows(pool.pace) <= now_ms)
            )
          order by (l.lane).day_starts, (l.lane).turns, (l.lane).id
          offset 0
        ) loaded
        where (loaded.lanes = 1 or loaded.ahead <= 4 or loaded.ahead > 64)
          and pg_try_advisory_xact_lock(1163281713, loaded.lane_id::integer)
        limit g.calls
      ) free
    ) f
    cross join lateral unnest(g.asked, g.tokens, g.counted, g.captures)
      with ordinality as a (asked, tokens, counted, capture, nth)
    cross join lateral (select 1 + (a.nth - 1) % cardinality(f.lanes) as of) place
    cross join lateral (
      select ceil(a.tokens * case when a.counted then 1 else f.estimate_factor end)::bigint as expected
    ) size
  ) s
  left join lateral (
    select b as route from eve.routes b where b.model = s.model and b.lane_id = s.lane_id offset 0
  ) r on true
  cross join lateral (
    -- As many as fit, as far as can be seen from here.
    select (r.route).model is not null and (s.nth > s.starts_left or s.booked > s.tokens_left) is not true
      -- Otherwise it has to be counted.
      and (s.class = 'interactive' or s.counted is distinct from false or s.expected <= s.even_share) as fits
  ) fit;
  return v_chosen;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.lane_to_wait_for(models text[], now_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  return (
    select r.lane_id
    from eve.routes r
    join eve.lanes l on l.id = r.lane_id
    where r.model = any (lane_to_wait_for.models) and l.blocked_until is null
      -- Or there is nothing to wait for: a refusal holds up nobody.
      and l.interactive_tail_ms <= now_ms and eve.has_room(l, r.limits, 'interactive', false, 1, 0, now_ms)
    order by random()
    limit 1
  );
end;
$function$;

-- reserving_lists -----------------------------------------------------------------------------------------------------

create type eve.list_booking as (
  lanes bigint[],
  turns bigint[],
  calls integer[],
  day_ends bigint[],
  day_starts integer[],
  day_batch_starts integer[],
  used_starts bigint[],
  used_tokens bigint[],
  to_clean boolean
);
comment on type eve.list_booking is 'Lanes that were booked for a list: one element for each in every array (null: there is none), as each is afterwards. calls: how many of the list it took; used_starts, used_tokens: in its last two spans. to_clean: it is time to delete old buckets.';

CREATE OR REPLACE FUNCTION eve.book_list(plain eve.list_calls, chosen eve.list_choice, now_ms bigint)
 RETURNS eve.list_booking
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_span constant bigint := book_list.now_ms >> 16;
  v_booked eve.list_booking;
begin
  with booked as (
    update eve.lanes l
    set interactive_tail_ms = case when w.persons > 0 then now_ms else l.interactive_tail_ms end,
      batch_start_ms = case when w.batch > 0 then now_ms else l.batch_start_ms end,
      pace_ms = case
        when w.paced then eve.next_pace(greatest(l.pace_ms, w.pace_ms), now_ms, w.step_ms * w.calls)
        else l.pace_ms
      end,
      token_pace_ms = case
        when w.paced then eve.next_pace(greatest(l.token_pace_ms, w.token_pace_ms), now_ms, w.token_ms * w.tokens, 1)
        else l.token_pace_ms
      end,
      day_starts = l.day_starts + w.calls,
      day_batch_starts = l.day_batch_starts + w.batch,
      span_number = v_span,
      span_starts = case l.span_number when v_span then l.span_starts else 0 end + w.calls,
      span_tokens = case l.span_number when v_span then l.span_tokens else 0 end + w.tokens,
      previous_span_starts = case v_span - l.span_number when 0 then l.previous_span_starts when 1 then l.span_starts else 0 end,
      previous_span_tokens = case v_span - l.span_number when 0 then l.previous_span_tokens when 1 then l.span_tokens else 0 end,
      turns = l.turns + w.calls,
      next_lease_ms = least(l.next_lease_ms, now_ms + w.lease_ms)
    from (
      select u.lane_id, count(*)::integer as calls, sum(u.tokens)::bigint as tokens, max(u.turns) as turns,
        count(*) filter (where u.class = 'interactive')::integer as persons,
        count(*) filter (where u.class = 'batch')::integer as batch,
        min(plain.leases[u.asked]) as lease_ms, bool_or(u.paced) as paced, bool_or(u.contended) as contended,
        min(u.stale_ms) as stale_ms, min(u.lanes) as lanes, max(u.pace_ms) as pace_ms, max(u.token_pace_ms) as token_pace_ms,
        max(u.step_ms) as step_ms, min(u.token_ms) as token_ms, (array_agg(u.limits))[1] as limits
      -- What has no name here is a column of the route.
      from unnest(
        chosen.asked, chosen.classes, chosen.turns, chosen.tokens, chosen.paces, chosen.token_paces, chosen.steps,
        chosen.paced, chosen.contended, chosen.routes
      ) as u (asked, class, turns, tokens, pace_ms, token_pace_ms, step_ms, paced, contended)
      group by u.lane_id
      order by u.lane_id
    ) w
    where l.id = w.lane_id
      -- What was seen when the lane was chosen still holds, nearly: or all who were held up since would load the same one.
      and (w.lanes = 1 or l.turns <= w.turns + 3)
      -- Nobody is booked for later, nobody is to be cleared away, and it is the day of the booking before.
      and l.interactive_tail_ms <= now_ms and l.next_lease_ms > now_ms and l.span_number <= v_span
      and l.day_ends_ms > now_ms + (w.limits).guard_ms and l.day_ends_ms <= now_ms + 90000000
      and l.blocked_until is null and w.stale_ms > now_ms
      and (
        w.persons = 0
        or (eve.day_left(l, w.limits, 'interactive', w.contended, now_ms, l.day_ends_ms) < w.calls) is not true
          and eve.has_room(l, w.limits, 'interactive', w.contended, w.calls, w.tokens, now_ms)
      )
      and (
        w.batch = 0
        or (eve.day_left(l, w.limits, 'batch', w.contended, now_ms, l.day_ends_ms) < w.calls) is not true
          and eve.has_room(l, w.limits, 'batch', w.contended, w.calls, w.tokens, now_ms)
      )
    returning l.id, l.turns, w.calls, l.day_ends_ms, l.day_starts, l.day_batch_starts,
      l.span_starts + l.previous_span_starts as used_starts, l.span_tokens + l.previous_span_tokens as used_tokens
  )
  select array_agg(b.id) as lanes, array_agg(b.turns) as turns, array_agg(b.calls) as calls, array_agg(b.day_ends_ms) as day_ends,
    array_agg(b.day_starts) as day_starts, array_agg(b.day_batch_starts) as day_batch_starts,
    array_agg(b.used_starts) as used_starts, array_agg(b.used_tokens) as used_tokens,
    coalesce(bool_or(b.turns / 16 > (b.turns - b.calls) / 16), false) as to_clean
  into v_booked
  from booked b;
  return v_booked;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.fill_buckets(chosen eve.list_choice, booked eve.list_booking, now_ms bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  insert into eve.lane_buckets as b (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
  select u.lane_id, (now_ms + u.bucket_ms - 1) / u.bucket_ms * u.bucket_ms, count(*), sum(u.tokens),
    count(*) filter (where u.class = 'batch'), coalesce(sum(u.tokens) filter (where u.class = 'batch'), 0)
  from unnest(chosen.classes, chosen.tokens, chosen.routes) as u (class, tokens)
  where u.lane_id = any (booked.lanes)
  group by u.lane_id, u.bucket_ms
  order by u.lane_id
  on conflict on constraint lane_buckets_pkey do update
  set starts = b.starts + excluded.starts, tokens = b.tokens + excluded.tokens,
    batch_starts = b.batch_starts + excluded.batch_starts, batch_tokens = b.batch_tokens + excluded.batch_tokens;
  if booked.to_clean then
    -- Instants that no window reaches any more.
    delete from eve.lane_buckets b where b.lane_id = any (booked.lanes) and b.at_ms < now_ms - 70000;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.note_list(plain eve.list_calls, chosen eve.list_choice, booked eve.list_booking, now_ms bigint, calls_in_list integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_places bigint[];
  v_answers jsonb[];
begin
  with taken as materialized (
    select u.*, nextval('eve.request_no') as request_no, lane.place,
      1 + (booked.turns[lane.place] - booked.calls[lane.place] + u.nth - 1) % cardinality(u.key_ids) as slot
    from unnest(
      chosen.asked, chosen.classes, chosen.captures, chosen.nths, chosen.tokens, chosen.contended, chosen.routes
    ) as u (asked, class, capture, nth, tokens, contended)
    cross join lateral (select array_position(booked.lanes, u.lane_id) as place) lane
    where lane.place is not null
  ),
  written as (
    insert into eve.inflight (
      request_no, consumer_id, request_id, token_id, class, endpoint, requested_model, model, attempt, state, lane_id, key_id,
      start_ms, bucket_ms, day_ends_ms, tokens, estimated_tokens, lease_until, received_at, wait_ms, trace_id, metadata,
      request_hash, call_id
    )
    select k.request_no, coalesce(plain.consumers[k.asked], v_project), plain.ids[k.asked], null, k.class,
      plain.endpoints[k.asked], k.model, k.served, 1, 'reserved', k.lane_id, k.key_ids[k.slot], now_ms,
      (now_ms + k.bucket_ms - 1) / k.bucket_ms * k.bucket_ms, booked.day_ends[k.place], k.tokens, plain.tokens[k.asked],
      to_timestamp((now_ms + plain.leases[k.asked]) / 1000::double precision), to_timestamp(now_ms / 1000::double precision), 0,
      plain.traces[k.asked], plain.metadata[k.asked], plain.hashes[k.asked], plain.call_ids[k.asked]
    from taken k
  )
  select array_agg(plain.places[k.asked]) as places, array_agg(
    eve.granted(
      k.answers[k.slot], k.request_no, 1, k.class, k.capture, k.tokens, 0, now_ms, plain.leases[k.asked],
      eve.limits_json(
        k.limits, coalesce(exact.starts, booked.used_starts[k.place]), coalesce(exact.tokens, booked.used_tokens[k.place]),
        least(
          (k.limits).rpd - booked.day_starts[k.place],
          case when k.class = 'batch' then
            (eve.class_share(k.limits, 'batch', k.contended)).day_starts - booked.day_batch_starts[k.place]
          end
        ),
        60000 + (k.limits).guard_ms, booked.day_ends[k.place] - now_ms
      )
    )
  ) as answers
  into v_places, v_answers
  from taken k
  -- What is left of a small lane is said exactly.
  left join lateral (
    select sum(b.starts)::bigint as starts, sum(b.tokens)::bigint as tokens
    from eve.lane_buckets b
    where (k.limits).rpm <= 600 and b.lane_id = k.lane_id and b.at_ms > now_ms - 60000 - (k.limits).guard_ms and b.at_ms <= now_ms
  ) exact on true;
  return (
    select jsonb_agg(v_answers[array_position(v_places, n::bigint)] order by n)
    from generate_series(1, calls_in_list) n
  );
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_reserve_many(calls jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET statement_timeout TO '7500ms'
 SET lock_timeout TO '1s'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
AS $function$
declare
  v_count constant integer := case
    when jsonb_typeof(eve_reserve_many.calls) = 'array' then jsonb_array_length(eve_reserve_many.calls) else 0
  end;
  v_plain eve.list_calls;
  v_chosen eve.list_choice;
  v_booked eve.list_booking;
  v_any boolean := false;
  v_over boolean := false;
  v_waited bigint;
  v_only bigint[];
  v_now bigint;
  v_began timestamptz;
  v_answers jsonb;
begin
  if v_count not between 1 and 100 then
    raise exception 'calls must be a list of 1 to 100' using errcode = 'EV400';
  end if;
  v_plain := eve.read_list(eve_reserve_many.calls);
  for v_round in 1..3 loop
    -- A subtransaction: what it has locked and not booked is free again, and what turns out to be late has not been booked.
    begin
      if v_waited is not null then
        perform eve.lock_lane(v_waited);
      end if;
      v_now := eve.clock_ms();
      v_chosen := eve.choose_for_list(v_plain, v_only, v_now);
      if v_chosen.asked is not null then
        v_now := eve.clock_ms();
        v_began := clock_timestamp();
        v_booked := eve.book_list(v_plain, v_chosen, v_now);
        v_over := clock_timestamp() - v_began > interval '100 milliseconds';
        v_any := not v_over and cardinality(v_booked.lanes) = v_chosen.locked;
      end if;
      if not v_any and v_chosen.locked > 0 then
        raise exception 'release the lanes' using errcode = 'EV001';
      end if;
    exception
      when sqlstate 'EV001' then
        null;
      when lock_not_available then
        v_over := true;
    end;
    -- Held up: somebody had a row meanwhile, and v_now has passed.
    exit when v_any or v_over;
    if v_chosen.asked is not null then
      -- Once more, with the lanes that could be booked alone.
      v_only := v_booked.lanes;
      exit when v_only is null or v_round = 3;
      v_waited := null;
      continue;
    end if;

    -- Somebody is at each of the lanes. With none in hand one may be waited for.
    exit when v_waited is not null;
    v_waited := eve.lane_to_wait_for(v_plain.models, v_now);
    exit when v_waited is null;
  end loop;
  if not v_any then
    return to_jsonb(array_fill(null::text, array[v_count]));
  end if;

  perform eve.fill_buckets(v_chosen, v_booked, v_now);
  v_answers := eve.note_list(v_plain, v_chosen, v_booked, v_now, v_count);
  -- With everything in hand, since that may have been waited for. Who still has time asks again alone.
  perform eve.stop_when_late(v_plain.deadline);
  return v_answers;
end;
$function$;
comment on function public.eve_reserve_many is 'Reserves up to 100 slots that can start at once, in one transaction. Answers in the order asked; null: not a plain case, so ask eve_reserve.';

-- ending --------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.ended_attempt(running eve.inflight, state text, dispatched boolean, error_code text)
 RETURNS eve.requests
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_ended eve.requests;
begin
  v_ended.state := ended_attempt.state;
  v_ended.dispatched := ended_attempt.dispatched;
  v_ended.error_code := ended_attempt.error_code;
  v_ended.lane_id := (running).lane_id;
  v_ended.start_ms := (running).start_ms;
  v_ended.bucket_after_ms := (running).bucket_ms - (running).start_ms;
  v_ended.tokens_booked := least((running).tokens, 2147483647);
  v_ended.usage_estimated := false;
  return v_ended;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.ended_as(before eve.earlier_attempts)
 RETURNS eve.requests
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_ended eve.requests;
begin
  v_ended.state := (before).outcome;
  v_ended.error_code := (before).error_code;
  v_ended.input_tokens := (before).input_tokens;
  v_ended.output_tokens := (before).output_tokens;
  v_ended.total_tokens := (before).total_tokens;
  v_ended.finish_reason := (before).finish_reason;
  return v_ended;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.close_request(running eve.inflight, ended eve.requests)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
begin
  delete from eve.inflight i where i.request_no = (running).request_no;
  insert into eve.requests (
    request_no, received_at, finished_at, start_ms, wait_ms, lane_id, tokens_booked, output_booked, input_tokens, output_tokens,
    thoughts_tokens, cached_tokens, total_tokens, latency_ms, attempts, bucket_after_ms, upstream_status, usage_estimated,
    dispatched, consumer_id, key_id, token_id, request_id, class, endpoint, requested_model, model, state, error_code,
    error_detail, finish_reason, trace_id, metadata
  )
  values (
    (running).request_no, (running).received_at, v_now, (ended).start_ms,
    eve.waited_ms((running).wait_ms, (running).received_at, v_now), (ended).lane_id,
    (ended).tokens_booked, (ended).output_booked, (ended).input_tokens, (ended).output_tokens, (ended).thoughts_tokens,
    (ended).cached_tokens, (ended).total_tokens, (ended).latency_ms, (running).attempt, (ended).bucket_after_ms, (ended).upstream_status,
    (ended).usage_estimated, (ended).dispatched, (running).consumer_id, (running).key_id, (running).token_id,
    (running).request_id, (running).class, (running).endpoint, nullif((running).requested_model, (running).model), (running).model,
    (ended).state, (ended).error_code, (ended).error_detail, (ended).finish_reason, (running).trace_id,
    nullif((running).metadata, '{}')
  );
  if (running).request_hash is not null then
    insert into eve.request_keys as k (
      consumer_id, request_id, request_no, ended_at, state, attempts, requested_model, class, request_hash, error_code
    )
    values (
      (running).consumer_id, (running).request_id, (running).request_no, v_now, (ended).state, (running).attempt,
      (running).requested_model, (running).class, (running).request_hash, (ended).error_code
    )
    -- One row that cannot be closed would stop every reservation on its lane.
    on conflict do nothing;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.note_earlier_attempt(running eve.inflight, ended eve.requests)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  insert into eve.earlier_attempts (
    request_no, settled_at, start_ms, lane_id, tokens_booked, output_booked, input_tokens, output_tokens, thoughts_tokens, cached_tokens,
    total_tokens, latency_ms, attempt, bucket_after_ms, upstream_status, usage_estimated, dispatched, key_id, model, class,
    outcome, error_code, error_detail, finish_reason
  )
  values (
    (running).request_no, eve.clock(), (ended).start_ms, (ended).lane_id, (ended).tokens_booked, (ended).output_booked, (ended).input_tokens,
    (ended).output_tokens, (ended).thoughts_tokens, (ended).cached_tokens, (ended).total_tokens, (ended).latency_ms,
    (running).attempt, (ended).bucket_after_ms, (ended).upstream_status, (ended).usage_estimated, (ended).dispatched,
    (running).key_id, (running).model, (running).class, (ended).state, (ended).error_code, (ended).error_detail,
    (ended).finish_reason
  );
$function$;

CREATE OR REPLACE FUNCTION eve.writes_token_usage()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce((select s.value from eve.settings s where s.name = 'token_usage_rows'), 1) <> 0;
$function$;

CREATE OR REPLACE FUNCTION eve.log_token_usage(model text, prompt_tokens integer, completion_tokens integer, total_tokens bigint, request_id text, meta jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform eve.insert_token_usage(
    log_token_usage.model, log_token_usage.prompt_tokens, log_token_usage.completion_tokens, log_token_usage.total_tokens,
    log_token_usage.request_id, log_token_usage.meta
  )
  where eve.writes_token_usage();
exception
  when integrity_constraint_violation or data_exception or raise_exception then
    perform eve.open_alert(
      'token_usage_refused', 'public.token_usage', 'warning',
      format('A row for public.token_usage was refused: %s. The attempt itself is in eve.attempts.', sqlerrm)
    );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.usage_meta(consumer_id uuid, attempt integer, estimated boolean)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
      'source', 'eve', 'consumer', (select c.name from eve.consumers c where c.id = usage_meta.consumer_id)
    )
    || case when usage_meta.attempt > 1 then jsonb_build_object('attempt', usage_meta.attempt) else '{}' end
    || case when usage_meta.estimated then '{"estimated": true}' else '{}'::jsonb end;
$function$;

-- settling ------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.count_calls(key_id uuid, model text, start_ms bigint, calls integer, tokens bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_minute constant timestamptz := to_timestamp((count_calls.start_ms / 60000 * 60000) / 1000.0);
  v_day constant date := eve.pacific_day(count_calls.start_ms);
begin
  -- Nearly always the row is there: `on conflict` alone would write a lock of it to the log as well.
  for v_try in 1..2 loop
    update public.google_ai_usage_counters c
    set rpm_used = coalesce(c.rpm_used, 0) + count_calls.calls,
      tpm_used = least(coalesce(c.tpm_used, 0)::bigint + count_calls.tokens, 2147483647)::integer,
      rpd_used = coalesce(c.rpd_used, 0) + count_calls.calls, updated_at = now()
    where c.api_key_id = count_calls.key_id and c.model = count_calls.model and c.minute_bucket = v_minute;
    exit when found;
    insert into public.google_ai_usage_counters
      (api_key_id, model, minute_bucket, day_bucket, rpm_used, tpm_used, rpd_used, updated_at)
    select count_calls.key_id, count_calls.model, v_minute, v_day, count_calls.calls,
      least(count_calls.tokens, 2147483647)::integer,
      count_calls.calls + coalesce(
        (
          select max(before.rpd_used)
          from public.google_ai_usage_counters before
          where before.api_key_id = count_calls.key_id and before.model = count_calls.model
            and before.minute_bucket >= v_minute - interval '25 hours' and before.minute_bucket < v_minute
            and before.day_bucket = v_day
        ), 0
      ), now()
    -- A key may have been deleted while it was in use, and a hand-made foreign key then refuses its rows.
    where exists (select from public.google_ai_api_keys k where k.id = count_calls.key_id)
    on conflict (api_key_id, model, minute_bucket) do nothing;
    exit when found;
    -- Somebody else has just made it, or the key is gone.
  end loop;
  -- Calls that settle after a later minute's first: that minute's count so far includes them.
  update public.google_ai_usage_counters c
  set rpd_used = c.rpd_used + count_calls.calls
  from (
    select l.api_key_id, l.model, l.minute_bucket
    from public.google_ai_usage_counters l
    where l.api_key_id = count_calls.key_id and l.model = count_calls.model and l.minute_bucket > v_minute
      and l.day_bucket = v_day
    order by l.minute_bucket
    for no key update
  ) later
  where c.api_key_id = later.api_key_id and c.model = later.model and c.minute_bucket = later.minute_bucket;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.count_usage(key_id uuid, model text, start_ms bigint, tokens bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform eve.count_calls(count_usage.key_id, count_usage.model, count_usage.start_ms, 1, count_usage.tokens);
exception
  when integrity_constraint_violation or data_exception or raise_exception then
    perform eve.open_alert(
      'usage_counters_refused', 'public.google_ai_usage_counters', 'warning',
      format('A row for public.google_ai_usage_counters was refused: %s. The attempt itself is in eve.attempts.', sqlerrm)
    );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.close_as_before(running eve.inflight)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_running eve.inflight := close_as_before.running;
  v_before eve.earlier_attempts;
begin
  select * into v_before
  from eve.earlier_attempts a
  where a.request_no = v_running.request_no and a.attempt = v_running.attempt - 1;
  v_running.attempt := v_before.attempt;
  v_running.key_id := v_before.key_id;
  v_running.model := v_before.model;
  perform eve.close_request(v_running, eve.ended_as(v_before));
end;
$function$;

CREATE OR REPLACE FUNCTION eve.adjust_budgets(consumer_id uuid, token_id uuid, received_at timestamp with time zone, requests integer, tokens bigint, gave_up boolean DEFAULT false)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if adjust_budgets.requests = 0 and adjust_budgets.tokens = 0 then
    return;
  end if;
  if adjust_budgets.token_id is not null then
    update eve.scoped_tokens t
    set requests_used = greatest(t.requests_used + case when adjust_budgets.gave_up then 0 else adjust_budgets.requests end, 0),
      tokens_used = greatest(t.tokens_used + adjust_budgets.tokens, 0)
    where t.id = adjust_budgets.token_id;
  end if;
  if adjust_budgets.consumer_id <> '00000000-0000-0000-0000-000000000000' then
    update eve.consumer_days d
    set requests = greatest(d.requests + adjust_budgets.requests, 0), tokens = greatest(d.tokens + adjust_budgets.tokens, 0)
    where d.consumer_id = adjust_budgets.consumer_id
      and d.day = eve.pacific_day(floor(extract(epoch from adjust_budgets.received_at) * 1000)::bigint);
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.apply_block(running eve.inflight, block jsonb, fallback_reason text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_until timestamptz;
  v_reason constant text := left(coalesce(apply_block.block ->> 'reason', apply_block.fallback_reason), 200);
  v_alias text;
begin
  v_until := case apply_block.block ->> 'until'
    when 'forever' then 'infinity'::timestamptz
    when 'pacific_midnight' then to_timestamp(
      (eve.next_pacific_midnight(eve.clock_ms()) + (select s.value from eve.settings s where s.name = 'guard_ms')) / 1000.0
    )
    else v_now + (apply_block.block ->> 'for_ms')::bigint * interval '1 millisecond'
  end;
  if v_until is null then
    raise exception 'block needs for_ms, or until: pacific_midnight or forever' using errcode = 'EV400';
  end if;
  select k.key_alias into v_alias from public.google_ai_api_keys k where k.id = (running).key_id;

  case apply_block.block ->> 'scope'
    when 'lane' then
      update eve.lanes l
      set blocked_until = greatest(l.blocked_until, v_until), blocked_reason = v_reason
      where l.id = (running).lane_id;
    when 'key' then
      update public.google_ai_api_keys k
      set blocked_until = greatest(k.blocked_until, v_until), blocked_reason = v_reason,
        is_active = k.is_active and v_until < 'infinity'
      where k.id = (running).key_id;
      if v_until = 'infinity' then
        perform eve.remember_rejected_secret((running).key_id, apply_block.block ->> 'secret_hash');
      end if;
      perform eve.open_alert(
        case v_reason when 'secret_missing' then 'secret_missing' else 'key_disabled' end, (running).key_id::text,
        case when v_until = 'infinity' then 'critical' else 'warning' end,
        format('Key %s is not used: %s', coalesce(v_alias, (running).key_id::text), v_reason)
      );
    when 'key_model' then
      insert into eve.key_model_blocks as b (key_id, model, blocked_until, reason)
      values ((running).key_id, (running).model, v_until, v_reason)
      on conflict (key_id, model) do update
      set blocked_until = greatest(b.blocked_until, excluded.blocked_until), reason = excluded.reason;
      perform eve.open_alert(
        'model_unavailable', (running).key_id::text || ' ' || (running).model, 'warning',
        format('Key %s is not used for %s: %s', coalesce(v_alias, (running).key_id::text), (running).model, v_reason)
      );
    when 'capability' then
      -- The model refused a feature that its row says it has: the next call goes without.
      update public.google_ai_model_limits m
      set supports_system = m.supports_system and apply_block.block ->> 'capability' <> 'system',
        supports_json = m.supports_json and apply_block.block ->> 'capability' <> 'json',
        supports_tools = m.supports_tools and apply_block.block ->> 'capability' <> 'tools'
      where m.model = (running).model;
    else
      raise exception 'block scope must be lane, key, key_model or capability' using errcode = 'EV400';
  end case;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.learn_estimate(model text, request_no bigint, estimated integer, counted integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_one_in constant bigint := (select s.value from eve.settings s where s.name = 'learn_one_in');
begin
  -- Small prompts are mostly overhead that the estimate does not see. What is true to the token was counted, not estimated.
  if v_one_in <= 0 or learn_estimate.request_no % v_one_in <> 0 or learn_estimate.estimated < 20
    or learn_estimate.counted is null or learn_estimate.counted < 20 or learn_estimate.counted = learn_estimate.estimated then
    return;
  end if;
  update public.google_ai_model_limits m
  set estimate_factor = greatest(0.5, least(2,
    m.estimate_factor * exp(
      greatest(-0.02, least(0.02, 0.1 * ln(learn_estimate.counted / (learn_estimate.estimated * m.estimate_factor))))
    )
  ))
  where m.model in (
    select free.model
    from public.google_ai_model_limits free
    where free.model = learn_estimate.model
    for update skip locked
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.settle_ended(request_no bigint, attempt integer, outcome text, input_tokens integer, output_tokens integer, thoughts_tokens integer, cached_tokens integer, total_tokens bigint, upstream_status integer, error_code text, error_detail text, finish_reason text, latency_ms integer, usage_estimated boolean, wrote boolean)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_before eve.requests;
begin
  select * into v_before
  from eve.requests r
  where r.request_no = settle_ended.request_no and r.attempts = settle_ended.attempt and r.lane_id is not null
  for update;
  if not found then
    raise exception 'no reservation % attempt %', settle_ended.request_no, settle_ended.attempt using errcode = 'EV404';
  elsif v_before.state <> 'expired' then
    return jsonb_build_object('status', 'already_settled', 'outcome', v_before.state);
  end if;
  perform eve.adjust_budgets(
    v_before.consumer_id, v_before.token_id, v_before.received_at, 0,
    case
      when settle_ended.total_tokens is not null
        then settle_ended.total_tokens - v_before.tokens_booked - coalesce(v_before.output_booked, 0)
      when settle_ended.wrote then 0
      else -coalesce(v_before.output_booked, 0)
    end
  );
  perform eve.adjust_bucket(
    v_before.lane_id, v_before.start_ms + v_before.bucket_after_ms, v_before.class, 0,
    settle_ended.input_tokens - v_before.tokens_booked
  );
  update eve.requests r
  set state = settle_ended.outcome, output_booked = case when settle_ended.wrote then r.output_booked end,
    settled_at = eve.clock(), input_tokens = settle_ended.input_tokens, output_tokens = settle_ended.output_tokens, thoughts_tokens = settle_ended.thoughts_tokens,
    cached_tokens = settle_ended.cached_tokens, total_tokens = settle_ended.total_tokens,
    usage_estimated = settle_ended.usage_estimated, upstream_status = settle_ended.upstream_status,
    error_code = settle_ended.error_code, error_detail = left(settle_ended.error_detail, 2000),
    finish_reason = settle_ended.finish_reason, latency_ms = settle_ended.latency_ms
  where r.finished_at = v_before.finished_at and r.request_no = v_before.request_no;
  update eve.request_keys k
  set state = settle_ended.outcome, error_code = settle_ended.error_code
  where k.consumer_id = v_before.consumer_id and k.request_id = v_before.request_id
    and k.request_no = v_before.request_no;
  if settle_ended.total_tokens is not null then
    perform eve.log_token_usage(
      v_before.model, settle_ended.input_tokens, settle_ended.output_tokens, settle_ended.total_tokens,
      v_before.request_id,
      eve.usage_meta(v_before.consumer_id, settle_ended.attempt, settle_ended.usage_estimated)
    );
  end if;
  return jsonb_build_object('status', 'late');
end;
$function$;

CREATE OR REPLACE FUNCTION eve.end_attempt(running eve.inflight, ended eve.requests, final boolean, result jsonb, now_at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if end_attempt.final and (running).state = 'waiting' and (running).attempt > 1 then
    perform eve.note_earlier_attempt(running, ended);
    perform eve.close_as_before(running);
  elsif end_attempt.final then
    perform eve.close_request(running, ended);
    if end_attempt.result is not null then
      insert into eve.request_results (request_no, result) values ((running).request_no, end_attempt.result)
      on conflict do nothing;
    end if;
  else
    perform eve.note_earlier_attempt(running, ended);
    -- The caller is about to reserve the next attempt. If it dies instead, the row closes by itself.
    update eve.inflight i
    set state = 'between', lease_until = greatest(i.lease_until, end_attempt.now_at + interval '120 seconds')
    where i.request_no = (running).request_no;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_settle(request_no bigint, attempt integer, outcome text, final boolean DEFAULT true, dispatched boolean DEFAULT true, input_tokens integer DEFAULT NULL::integer, output_tokens integer DEFAULT NULL::integer, thoughts_tokens integer DEFAULT NULL::integer, cached_tokens integer DEFAULT NULL::integer, total_tokens integer DEFAULT NULL::integer, upstream_status integer DEFAULT NULL::integer, error_code text DEFAULT NULL::text, error_detail text DEFAULT NULL::text, finish_reason text DEFAULT NULL::text, block jsonb DEFAULT NULL::jsonb, latency_ms integer DEFAULT NULL::integer, usage_estimated boolean DEFAULT false, result jsonb DEFAULT NULL::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET lock_timeout TO '3s'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_running eve.inflight;
  v_before eve.earlier_attempts;
  v_ended eve.requests;
  v_now constant timestamptz := eve.clock();
  v_total bigint := coalesce(eve_settle.total_tokens, eve_settle.input_tokens + coalesce(eve_settle.output_tokens, 0));
  -- Whether it may have written an answer of which nobody knows how long it was: a refusal by upstream has none.
  v_wrote constant boolean := v_total is null and eve_settle.dispatched and coalesce(eve_settle.upstream_status, 0) < 400;
  v_delta bigint;
begin
  if eve_settle.outcome is null or eve_settle.outcome not in ('succeeded', 'failed', 'cancelled') then
    raise exception 'outcome must be succeeded, failed or cancelled' using errcode = 'EV400';
  elsif eve_settle.input_tokens < 0 or eve_settle.output_tokens < 0 then
    raise exception 'tokens must be 0 or more' using errcode = 'EV400';
  end if;

  select * into v_running from eve.inflight i where i.request_no = eve_settle.request_no for update;
  if not found or v_running.attempt <> eve_settle.attempt or v_running.state not in ('reserved', 'waiting')
    or v_running.state = 'waiting' and eve_settle.dispatched then
    select * into v_before
    from eve.earlier_attempts a
    where a.request_no = eve_settle.request_no and a.attempt = eve_settle.attempt;
    if found and eve_settle.final and v_running.attempt = eve_settle.attempt and v_running.state = 'between' then
      -- No attempt followed after all: the request ends as this one did.
      perform eve.close_request(v_running, eve.ended_as(v_before));
      return jsonb_build_object('status', 'settled');
    elsif found then
      return jsonb_build_object('status', 'already_settled', 'outcome', v_before.outcome);
    end if;
    return eve.settle_ended(
      eve_settle.request_no, eve_settle.attempt, eve_settle.outcome, eve_settle.input_tokens, eve_settle.output_tokens,
      eve_settle.thoughts_tokens, eve_settle.cached_tokens, v_total, eve_settle.upstream_status, eve_settle.error_code,
      eve_settle.error_detail, eve_settle.finish_reason, eve_settle.latency_ms, eve_settle.usage_estimated, v_wrote
    );
  end if;

  -- Budgets first, then the lane, then its bucket: the order in which a reservation takes them.
  v_delta := case
    when not eve_settle.dispatched then -v_running.tokens
    else eve_settle.input_tokens - v_running.tokens
  end;
  perform eve.adjust_budgets(
    v_running.consumer_id, v_running.token_id, v_running.received_at,
    case when not eve_settle.dispatched and eve_settle.final and v_running.attempt = 1 then -1 else 0 end,
    case
      when not eve_settle.dispatched then -v_running.tokens - v_running.output_tokens
      when v_total is not null then v_total - v_running.tokens - v_running.output_tokens
      when v_wrote then 0
      else -v_running.output_tokens
    end,
    v_running.state = 'reserved' and eve_settle.outcome = 'cancelled'
  );
  if v_running.state = 'waiting' then
    null; -- It held no place.
  elsif not eve_settle.dispatched then
    perform eve.give_back(v_running);
  elsif v_delta > 0 then
    -- Under-estimated: the lane's two-span sum must know, or it would let somebody in.
    update eve.lanes l
    set span_tokens = l.span_tokens + case when v_running.start_ms >> 16 >= l.span_number then v_delta else 0 end,
      previous_span_tokens = l.previous_span_tokens
        + case when v_running.start_ms >> 16 < l.span_number then v_delta else 0 end
    where l.id = v_running.lane_id;
  end if;
  if eve_settle.block is not null then
    perform eve.apply_block(v_running, eve_settle.block, coalesce(eve_settle.error_code, 'blocked'));
  end if;
  if v_running.state = 'reserved' then
    perform eve.adjust_bucket(
      v_running.lane_id, v_running.bucket_ms, v_running.class, case when eve_settle.dispatched then 0 else -1 end, v_delta
    );
  end if;

  v_ended := eve.ended_attempt(v_running, eve_settle.outcome, eve_settle.dispatched, eve_settle.error_code);
  v_ended.input_tokens := eve_settle.input_tokens;
  v_ended.output_tokens := eve_settle.output_tokens;
  v_ended.thoughts_tokens := eve_settle.thoughts_tokens;
  v_ended.cached_tokens := eve_settle.cached_tokens;
  v_ended.total_tokens := v_total;
  v_ended.usage_estimated := eve_settle.usage_estimated;
  v_ended.upstream_status := eve_settle.upstream_status;
  v_ended.error_detail := left(eve_settle.error_detail, 2000);
  v_ended.finish_reason := eve_settle.finish_reason;
  v_ended.latency_ms := eve_settle.latency_ms;
  if v_wrote then
    v_ended.output_booked := nullif(v_running.output_tokens, 0);
  end if;
  if eve_settle.dispatched then
    perform eve.count_usage(
      v_running.key_id, v_running.model, v_running.start_ms, coalesce(eve_settle.input_tokens, v_running.tokens)
    );
  end if;

  perform eve.end_attempt(v_running, v_ended, eve_settle.final, eve_settle.result, v_now);
  if v_total is not null then
    perform eve.log_token_usage(
      v_running.model, eve_settle.input_tokens, eve_settle.output_tokens, v_total, v_running.request_id,
      eve.usage_meta(v_running.consumer_id, v_running.attempt, eve_settle.usage_estimated)
    );
  end if;
  if eve_settle.dispatched and not eve_settle.usage_estimated then
    perform eve.learn_estimate(v_running.model, v_running.request_no, v_running.estimated_tokens, eve_settle.input_tokens);
  end if;
  return jsonb_build_object('status', 'settled');
end;
$function$;
comment on function public.eve_settle is 'Ends a reservation: real tokens replace the estimate at its own place in the window. Twice is the same as once; late is harmless.';

-- settling_lists ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.write_ended(settlements jsonb, numbers bigint[], now_at timestamp with time zone)
 RETURNS eve.requests[]
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_ended eve.requests[];
begin
  with written as (
    insert into eve.requests as r (
      request_no, received_at, finished_at, start_ms, wait_ms, lane_id, tokens_booked, output_booked, input_tokens, output_tokens,
      thoughts_tokens, cached_tokens, total_tokens, latency_ms, attempts, bucket_after_ms, upstream_status, usage_estimated,
      dispatched, consumer_id, key_id, token_id, request_id, class, endpoint, requested_model, model, state, error_code,
      error_detail, finish_reason, trace_id, metadata
    )
    select i.request_no, i.received_at, write_ended.now_at, i.start_ms, i.wait_ms, i.lane_id, least(i.tokens, 2147483647),
      -- As in eve_settle: of these answers nobody knows how long they were.
      case
        when t.total_tokens is null and t.input_tokens is null and coalesce(t.upstream_status, 0) < 400
          then nullif(i.output_tokens, 0)
      end,
      t.input_tokens, t.output_tokens, t.thoughts_tokens, t.cached_tokens,
      coalesce(t.total_tokens, t.input_tokens + coalesce(t.output_tokens, 0)), t.latency_ms, i.attempt,
      i.bucket_ms - i.start_ms, t.upstream_status, coalesce(t.usage_estimated, false), true, i.consumer_id, i.key_id,
      i.token_id, i.request_id, i.class, i.endpoint, nullif(i.requested_model, i.model), i.model, t.outcome, t.error_code,
      left(t.error_detail, 2000), t.finish_reason, i.trace_id, nullif(i.metadata, '{}')
    from jsonb_to_recordset(write_ended.settlements) as t (
      request_no bigint, outcome text, input_tokens integer, output_tokens integer, thoughts_tokens integer,
      cached_tokens integer, total_tokens integer, usage_estimated boolean, upstream_status integer, error_code text,
      error_detail text, finish_reason text, latency_ms integer
    )
    join eve.inflight i on i.request_no = t.request_no
    where t.request_no = any (write_ended.numbers)
    returning r
  )
  select array_agg(w.r) into v_ended from written w;
  return v_ended;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.settle_budgets(ended eve.requests[], numbers bigint[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
begin
  perform eve.lock_budgets(array_agg(i.token_id), array_agg(i.consumer_id), array_agg(
    eve.pacific_day(floor(extract(epoch from i.received_at) * 1000)::bigint)
  ))
  from eve.inflight i
  where i.request_no = any (settle_budgets.numbers) and (i.consumer_id <> v_project or i.token_id is not null);
  perform eve.adjust_budgets(spent.consumer_id, spent.token_id, spent.received_at, 0, spent.tokens::bigint)
  from (
    select i.consumer_id, i.token_id, min(i.received_at) as received_at,
      sum(
        coalesce(a.total_tokens, i.tokens + coalesce(a.output_booked, 0)) - i.tokens - i.output_tokens
      ) as tokens
    from unnest(ended) a
    join eve.inflight i on i.request_no = a.request_no
    where (i.consumer_id <> v_project or i.token_id is not null)
    group by i.consumer_id, i.token_id, eve.pacific_day(floor(extract(epoch from i.received_at) * 1000)::bigint)
  ) spent;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.correct_windows(ended eve.requests[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  -- Under-estimated: the lane's two-span sum must know, or it would let somebody in. Several are locked in their order first.
  perform
  from eve.lanes l
  where cardinality(ended) > 1 and l.id in (
    select a.lane_id
    from unnest(ended) a
    where a.input_tokens > a.tokens_booked
  )
  order by l.id
  for no key update;
  if found or cardinality(ended) = 1 then
    update eve.lanes l
    set span_tokens = l.span_tokens + more.tokens - more.before, previous_span_tokens = l.previous_span_tokens + more.before
    from (
      select a.lane_id, sum(a.input_tokens - a.tokens_booked) as tokens,
        coalesce(sum(a.input_tokens - a.tokens_booked) filter (where a.start_ms >> 16 < held.span_number), 0) as before
      from unnest(ended) a
      join eve.lanes held on held.id = a.lane_id
      where a.input_tokens > a.tokens_booked
      group by a.lane_id
    ) more
    where l.id = more.lane_id;
  end if;

  perform
  from eve.lane_buckets b
  where cardinality(ended) > 1 and (b.lane_id, b.at_ms) in (
    select a.lane_id, a.start_ms + a.bucket_after_ms
    from unnest(ended) a
    where a.input_tokens <> a.tokens_booked
  )
  order by b.lane_id, b.at_ms
  for no key update;
  if found or cardinality(ended) = 1 then
    update eve.lane_buckets b
    set tokens = greatest(b.tokens + more.tokens, 0), batch_tokens = greatest(b.batch_tokens + more.batch_tokens, 0)
    from (
      select a.lane_id, a.start_ms + a.bucket_after_ms as bucket_ms, sum(a.input_tokens - a.tokens_booked) as tokens,
        coalesce(sum(a.input_tokens - a.tokens_booked) filter (where a.class = 'batch'), 0) as batch_tokens
      from unnest(ended) a
      where a.input_tokens <> a.tokens_booked
      group by 1, 2
    ) more
    where b.lane_id = more.lane_id and b.at_ms = more.bucket_ms;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_settle_many(settlements jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET lock_timeout TO '3s'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_now constant timestamptz := eve.clock();
  v_numbers bigint[];
  v_budgets boolean;
  v_results boolean;
  v_keys boolean;
  -- As they were written. Read from here: a plan over eve.requests would lock each of its partitions.
  v_ended eve.requests[];
  v_used record;
  v_token_usage constant boolean := eve.writes_token_usage();
begin
  if jsonb_typeof(eve_settle_many.settlements) is distinct from 'array'
    or jsonb_array_length(eve_settle_many.settlements) not between 1 and 100 then
    raise exception 'settlements must be a list of 1 to 100' using errcode = 'EV400';
  end if;
  -- Nobody waits for this to be on the disk: the answers are with their clients. What a crash of the server takes back, of
  -- the last half second, ends with its lease and keeps its estimate, as if the function had died before it settled.
  perform set_config('synchronous_commit', 'off', true);

  -- Everything that others take too is taken in the order of public.eve_reserve.
  select array_agg(running.request_no), coalesce(bool_or(running.has_budget), false),
    coalesce(bool_or(running.has_result), false), coalesce(bool_or(running.has_key), false)
  into v_numbers, v_budgets, v_results, v_keys
  from (
    select i.request_no, i.consumer_id <> v_project or i.token_id is not null as has_budget,
      t.result <> 'null' as has_result, i.request_hash is not null as has_key
    from jsonb_to_recordset(eve_settle_many.settlements) as t (
      request_no bigint, attempt integer, outcome text, final boolean, dispatched boolean, input_tokens integer,
      output_tokens integer, block jsonb, result jsonb
    )
    join eve.inflight i on i.request_no = t.request_no
    -- What does not simply end goes the long way, through eve_settle.
    where i.state = 'reserved' and i.attempt = t.attempt and t.final and t.dispatched
      and t.outcome in ('succeeded', 'failed', 'cancelled') and coalesce(t.block, 'null') = 'null'
      and coalesce(t.input_tokens, 0) >= 0 and coalesce(t.output_tokens, 0) >= 0
    order by i.request_no
    for update of i
  ) running;

  v_ended := eve.write_ended(eve_settle_many.settlements, v_numbers, v_now);
  if v_keys then
    insert into eve.request_keys as k (
      consumer_id, request_id, request_no, ended_at, state, attempts, requested_model, class, request_hash, error_code
    )
    select i.consumer_id, i.request_id, i.request_no, v_now, a.state, i.attempt, i.requested_model, i.class, i.request_hash,
      a.error_code
    from unnest(v_ended) a
    join eve.inflight i on i.request_no = a.request_no
    where i.request_hash is not null
    on conflict do nothing;
  end if;
  if v_results then
    insert into eve.request_results (request_no, result)
    select t.request_no, t.result
    from jsonb_to_recordset(eve_settle_many.settlements) as t (request_no bigint, result jsonb)
    where t.request_no = any (v_numbers) and t.result <> 'null'
    on conflict do nothing;
  end if;

  perform
    case
      when a.total_tokens is not null and v_token_usage then
        -- A rule of the owner's that refuses the row is an error here, as in eve.count_calls.
        eve.insert_token_usage(
          i.model, a.input_tokens, a.output_tokens, a.total_tokens, i.request_id,
          eve.usage_meta(i.consumer_id, i.attempt, a.usage_estimated)
        )
    end
  from unnest(v_ended) a
  join eve.inflight i on i.request_no = a.request_no
  order by i.request_no;

  -- From here on others may be kept waiting, so it comes last.
  if v_budgets then
    perform eve.settle_budgets(v_ended, v_numbers);
  end if;

  perform eve.correct_windows(v_ended);

  -- In the order in which those who clear dead reservations take the counters.
  for v_used in
    select a.key_id, a.model, a.start_ms / 60000 * 60000 as start_ms, count(*)::integer as calls,
      sum(coalesce(a.input_tokens, a.tokens_booked))::bigint as tokens
    from unnest(v_ended) a
    group by 1, 2, 3
    order by 1, 2, 3
  loop
    perform eve.count_calls(v_used.key_id, v_used.model, v_used.start_ms, v_used.calls, v_used.tokens);
  end loop;

  perform eve.learn_estimate(i.model, i.request_no, i.estimated_tokens, a.input_tokens)
  from unnest(v_ended) a
  join eve.inflight i on i.request_no = a.request_no
  where i.request_no = any (v_numbers) and not a.usage_estimated;
  delete from eve.inflight i where i.request_no = any (v_numbers);

  return (
    select jsonb_agg(
      case when (t.value ->> 'request_no')::bigint = any (v_numbers) then '{"status": "settled"}'::jsonb end
      order by t.place
    )
    from jsonb_array_elements(eve_settle_many.settlements) with ordinality as t (value, place)
  );
end;
$function$;
comment on function public.eve_settle_many is 'Ends up to 100 running reservations as eve_settle does, in one transaction. Answers in the order asked; null: not a plain end, so ask eve_settle.';

-- giving_back ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_give_back(request_id text, call_id uuid, deadline timestamp with time zone, consumer_id uuid DEFAULT NULL::uuid, attempt integer DEFAULT 1)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET lock_timeout TO '3s'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_consumer_id constant uuid := coalesce(eve_give_back.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_running eve.inflight;
  v_call eve.call;
begin
  -- If that call is at work at this moment, it is waited for.
  perform pg_advisory_xact_lock(hashtextextended(v_consumer_id::text || eve_give_back.request_id, 0));
  select * into v_running
  from eve.inflight i
  where i.consumer_id = v_consumer_id and i.request_id = eve_give_back.request_id and i.call_id = eve_give_back.call_id
    and i.attempt = eve_give_back.attempt and i.state in ('reserved', 'waiting')
  for update;
  if not found then
    if clock_timestamp() <= eve_give_back.deadline then
      return jsonb_build_object(
        'status', 'wait', 'wait_ms', ceil(extract(epoch from eve_give_back.deadline - clock_timestamp()) * 1000)::bigint
      );
    end if;
    return jsonb_build_object('status', 'nothing');
  end if;

  -- As eve_settle does for what was not sent, and in its order of locks.
  perform eve.adjust_budgets(
    v_running.consumer_id, v_running.token_id, v_running.received_at,
    case when v_running.attempt = 1 then -1 else 0 end, -v_running.tokens - v_running.output_tokens
  );
  if v_running.state = 'reserved' then
    perform eve.unbook(v_running);
  end if;
  v_call.request_id := v_running.request_id;
  v_call.consumer_id := v_running.consumer_id;
  v_call.token_id := v_running.token_id;
  v_call.attempt := v_running.attempt;
  v_call.tokens := v_running.estimated_tokens;
  v_call.endpoint := v_running.endpoint;
  v_call.trace_id := v_running.trace_id;
  perform eve.note_refusal(v_call, v_running.class, 'database_unavailable', v_running.model, null, null);
  if v_running.attempt = 1 then
    delete from eve.inflight i where i.request_no = v_running.request_no;
  else
    -- The attempts before it were sent: the request ends as the last of them did.
    perform eve.close_as_before(v_running);
  end if;
  return jsonb_build_object('status', 'given_back');
end;
$function$;
comment on function public.eve_give_back is 'Takes back what a call of eve_reserve has booked and its caller has not heard of in time. Answers given_back, nothing, or wait.';

CREATE OR REPLACE FUNCTION eve.expire_waiting(at_most integer)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_gone record;
  v_row eve.inflight;
begin
  select array_agg(i.request_no) as numbers, array_agg(i.token_id) as tokens, array_agg(i.consumer_id) as consumers,
    array_agg(eve.pacific_day(floor(extract(epoch from i.received_at) * 1000)::bigint)) as days
  into v_gone
  from (
    select w.*
    from eve.inflight w
    where w.lease_until < v_now and w.state = 'waiting'
    limit expire_waiting.at_most
    for update skip locked
  ) i;
  perform eve.lock_budgets(v_gone.tokens, v_gone.consumers, v_gone.days);
  for v_row in select i.* from eve.inflight i where i.request_no = any (v_gone.numbers) order by i.request_no loop
    perform eve.adjust_budgets(
      v_row.consumer_id, v_row.token_id, v_row.received_at, case v_row.attempt when 1 then -1 else 0 end,
      -v_row.tokens - v_row.output_tokens
    );
    if v_row.attempt = 1 then
      perform eve.close_request(v_row, eve.ended_attempt(v_row, 'expired', false, 'lease_expired'));
    else
      perform eve.note_earlier_attempt(v_row, eve.ended_attempt(v_row, 'expired', false, 'lease_expired'));
      perform eve.close_as_before(v_row);
    end if;
  end loop;
  return coalesce(cardinality(v_gone.numbers), 0);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.expire_leases(lane_id bigint DEFAULT NULL::bigint, at_most integer DEFAULT 1000)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_row eve.inflight;
  v_ended eve.requests;
  v_now timestamptz;
  v_count integer := 0;
begin
  if expire_leases.lane_id is null then
    -- Who has moved the books holds all lanes, and what follows comes before lanes: the next sweep does it.
    if eve.follow_clock() > 0 then
      return 0;
    end if;
    v_count := eve.expire_waiting(expire_leases.at_most);
  end if;
  v_now := eve.clock();
  for v_row in
    select i.*
    from eve.inflight i
    where i.lease_until < v_now
      -- Who names a lane may hold it, and budgets come before lanes: batch that waits is left to the sweep.
      and (expire_leases.lane_id is null or i.lane_id = expire_leases.lane_id) and i.state <> 'waiting'
    -- In the order of the counters that they touch, so that two who close at once cannot wait for each other.
    order by i.key_id, i.model, i.start_ms
    limit expire_leases.at_most
    for update skip locked
  loop
    if v_row.state = 'reserved' then
      v_ended := eve.ended_attempt(v_row, 'expired', true, 'lease_expired');
      v_ended.output_booked := nullif(v_row.output_tokens, 0);
      perform eve.count_usage(v_row.key_id, v_row.model, v_row.start_ms, v_row.tokens);
    else
      v_ended := null;
      v_ended.state := 'expired';
      v_ended.error_code := 'lease_expired';
    end if;
    perform eve.close_request(v_row, v_ended);
    v_count := v_count + 1;
  end loop;
  return v_count;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.correct_usage()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  update public.google_ai_usage_counters c
  set tpm_used = greatest(0, least(2147483647, coalesce(c.tpm_used, 0)::bigint + new.input_tokens - old.tokens_booked))::integer,
    updated_at = now()
  where c.api_key_id = new.key_id and c.model = new.model
    and c.minute_bucket = to_timestamp((new.start_ms / 60000 * 60000) / 1000.0);
  return null;
exception
  -- As in eve.count_usage: rules of the table's owner stop no settlement.
  when integrity_constraint_violation or data_exception or raise_exception then
    return null;
end;
$function$;
comment on function eve.correct_usage is 'Puts the real tokens of a call that was settled after its lease into google_ai_usage_counters.';

CREATE OR REPLACE FUNCTION public.eve_sweep(at_most integer DEFAULT 1000)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
 SET lock_timeout TO '3s'
AS $function$
  select jsonb_build_object('expired', eve.expire_leases(null, eve_sweep.at_most));
$function$;
comment on function public.eve_sweep is 'Closes reservations whose callers have died. Every reservation does so for its own lane too.';

-- consumers -----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.secret_hash(proof text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select encode(sha256(convert_to('eve consumer v1:' || secret_hash.proof, 'UTF8')), 'hex');
$function$;

CREATE OR REPLACE FUNCTION eve.consumer_of_secret(key_id text, proof text)
 RETURNS eve.consumers
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_nonce constant text := gen_random_uuid()::text;
  v_presented constant bytea := sha256(convert_to(v_nonce || eve.secret_hash(consumer_of_secret.proof), 'UTF8'));
  v_consumer eve.consumers;
  v_is_current boolean;
  v_is_previous boolean;
begin
  select * into v_consumer from eve.consumers c where c.key_id = consumer_of_secret.key_id;
  v_is_current := v_presented = sha256(convert_to(v_nonce || coalesce(v_consumer.secret_hash, repeat('0', 64)), 'UTF8'));
  v_is_previous := v_presented = sha256(convert_to(v_nonce || coalesce(v_consumer.previous_secret_hash, repeat('0', 64)), 'UTF8'));
  if v_is_current or (v_is_previous and coalesce(v_consumer.previous_secret_until > eve.clock(), false)) then
    return v_consumer;
  end if;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.log_access(event text, consumer eve.consumers, token_id uuid DEFAULT NULL::uuid, address text DEFAULT NULL::text, details jsonb DEFAULT '{}'::jsonb)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  insert into eve.access_log (at, event, consumer_id, consumer_name, token_id, address, details)
  values (
    eve.clock(), log_access.event, (log_access.consumer).id, (log_access.consumer).name, log_access.token_id,
    left(log_access.address, 100), log_access.details
  );
$function$;

CREATE OR REPLACE FUNCTION eve.consumer_minute_wait(consumer_id uuid, rpm integer, now_ms bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_second constant bigint := consumer_minute_wait.now_ms / 1000;
  v_ring eve.consumer_minutes;
  v_counted bigint := 0;
  v_at bigint;
begin
  insert into eve.consumer_minutes (consumer_id, second, starts)
  values (consumer_minute_wait.consumer_id, v_second, array_fill(0, array[61]))
  on conflict do nothing;
  select * into v_ring from eve.consumer_minutes m where m.consumer_id = consumer_minute_wait.consumer_id for update;
  -- From the newest second back: the one in which the count reaches the limit has to leave the window.
  for v_back in 0..60 loop
    v_at := v_second - v_back;
    if v_at <= v_ring.second and v_at > v_ring.second - 61 then
      v_counted := v_counted + v_ring.starts[1 + v_at % 61];
      if v_counted >= consumer_minute_wait.rpm then
        return (v_at + 61) * 1000 - consumer_minute_wait.now_ms;
      end if;
    end if;
  end loop;
  return 0;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.consumer_minute_take(consumer_id uuid, now_ms bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_ring eve.consumer_minutes;
  v_second bigint := consumer_minute_take.now_ms / 1000;
begin
  select * into v_ring from eve.consumer_minutes m where m.consumer_id = consumer_minute_take.consumer_id for update;
  -- The clock does not go back here: a request that waited for the lock counts as of the last second.
  v_second := greatest(v_second, v_ring.second);
  if v_second - v_ring.second > 60 then
    v_ring.starts := array_fill(0, array[61]);
  else
    for v_ahead in 1..(v_second - v_ring.second)::integer loop
      v_ring.starts[1 + (v_ring.second + v_ahead) % 61] := 0;
    end loop;
  end if;
  v_ring.starts[1 + v_second % 61] := v_ring.starts[1 + v_second % 61] + 1;
  update eve.consumer_minutes m
  set second = v_second, starts = v_ring.starts
  where m.consumer_id = consumer_minute_take.consumer_id;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.consumer_named(name text)
 RETURNS eve.consumers
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers;
begin
  select * into v_consumer from eve.consumers c where c.name = consumer_named.name and c.kind <> 'project' for update;
  if not found then
    raise exception 'there is no consumer named %', consumer_named.name using errcode = 'EV400';
  end if;
  return v_consumer;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.consumer_json(consumer eve.consumers)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'id', (consumer_json.consumer).id, 'name', (consumer_json.consumer).name, 'kind', (consumer_json.consumer).kind,
    'key_id', (consumer_json.consumer).key_id, 'models', (consumer_json.consumer).models,
    'scopes', (consumer_json.consumer).scopes,
    'tenant_id', coalesce((consumer_json.consumer).tenant_id, eve.default_tenant()),
    'max_class', (consumer_json.consumer).max_class, 'rpm', (consumer_json.consumer).rpm,
    'requests_per_day', (consumer_json.consumer).requests_per_day,
    'tokens_per_day', (consumer_json.consumer).tokens_per_day,
    'token_ttl_s', (consumer_json.consumer).token_ttl_s, 'is_active', (consumer_json.consumer).is_active,
    'created_at', (consumer_json.consumer).created_at, 'secret_changed_at', (consumer_json.consumer).secret_changed_at,
    'previous_secret_until',
    case
      when (consumer_json.consumer).previous_secret_until > eve.clock() then (consumer_json.consumer).previous_secret_until
    end,
    'requests_today', today.requests, 'tokens_today', today.tokens,
    'requests_of_budget', case when (consumer_json.consumer).requests_per_day is not null then coalesce(d.requests, 0) end,
    'tokens_of_budget', case when (consumer_json.consumer).tokens_per_day is not null then coalesce(d.tokens, 0) end,
    'live_tokens', (
      select count(*)
      from eve.scoped_tokens t
      where t.consumer_id = (consumer_json.consumer).id and t.revoked_at is null and t.expires_at > eve.clock()
    )
  )
  from (select eve.pacific_day(eve.clock_ms()) as day) as now
  left join eve.consumer_days d on d.consumer_id = (consumer_json.consumer).id and d.day = now.day
  cross join lateral (
    select coalesce(sum(u.requests), 0) as requests,
      coalesce(sum(u.input_tokens + u.output_tokens + u.thoughts_tokens), 0) as tokens
    from eve.usage_days u
    where u.day = now.day and u.consumer_id = (consumer_json.consumer).id
  ) today;
$function$;

CREATE OR REPLACE FUNCTION public.eve_consumer_add(name text, kind text, key_id text, proof text, models text[] DEFAULT NULL::text[], max_class text DEFAULT 'interactive'::text, rpm integer DEFAULT NULL::integer, requests_per_day integer DEFAULT NULL::integer, tokens_per_day bigint DEFAULT NULL::bigint, token_ttl_s integer DEFAULT 7200)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers;
  v_unknown text;
begin
  perform eve.check_proof(eve_consumer_add.key_id, eve_consumer_add.proof);
  if eve_consumer_add.name is null or eve_consumer_add.name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    raise exception 'a name has 1 to 63 letters, digits, dots, dashes or underscores' using errcode = 'EV400';
  elsif eve_consumer_add.kind is null or eve_consumer_add.kind not in ('service', 'notebook') then
    raise exception 'kind must be service or notebook' using errcode = 'EV400';
  elsif eve_consumer_add.max_class is null or eve_consumer_add.max_class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif eve_consumer_add.rpm <= 0 or eve_consumer_add.requests_per_day < 0 or eve_consumer_add.tokens_per_day < 0 then
    raise exception 'limits must be positive' using errcode = 'EV400';
  elsif eve_consumer_add.token_ttl_s is null or eve_consumer_add.token_ttl_s not between 60 and 86400 then
    raise exception 'token_ttl_s must be between 60 and 86400' using errcode = 'EV400';
  elsif cardinality(eve_consumer_add.models) = 0 then
    raise exception 'models must name at least one model, or be null for all' using errcode = 'EV400';
  end if;
  select m into v_unknown
  from unnest(eve_consumer_add.models) m
  where not exists (select from public.google_ai_model_limits l where l.model = m)
  limit 1;
  if found then
    raise exception 'there is no model named % in google_ai_model_limits', v_unknown using errcode = 'EV400';
  end if;
  insert into eve.consumers (
    name, kind, key_id, secret_hash, models, max_class, rpm, requests_per_day, tokens_per_day, token_ttl_s,
    created_at, secret_changed_at
  )
  values (
    eve_consumer_add.name, eve_consumer_add.kind, eve_consumer_add.key_id, eve.secret_hash(eve_consumer_add.proof),
    eve_consumer_add.models, eve_consumer_add.max_class, eve_consumer_add.rpm, eve_consumer_add.requests_per_day,
    eve_consumer_add.tokens_per_day, eve_consumer_add.token_ttl_s, eve.clock(), eve.clock()
  )
  on conflict do nothing
  returning * into v_consumer;
  if not found then
    raise exception 'there is a consumer named % already', eve_consumer_add.name using errcode = 'EV400';
  end if;
  perform eve.log_access('consumer_added', v_consumer, details => jsonb_build_object('kind', v_consumer.kind));
  return eve.consumer_json(v_consumer);
end;
$function$;
comment on function public.eve_consumer_add is 'Adds a consumer. The caller made its secret and sends the id and the proof of it.';

CREATE OR REPLACE FUNCTION public.eve_consumers(name text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(eve.consumer_json(c) order by c.name), '[]')
  from eve.consumers c
  where c.kind <> 'project' and (eve_consumers.name is null or c.name = eve_consumers.name);
$function$;
comment on function public.eve_consumers is 'All consumers, or the one of that name.';

CREATE OR REPLACE FUNCTION public.eve_consumer_rotate(name text, proof text, grace_s integer DEFAULT 86400)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers := eve.consumer_named(eve_consumer_rotate.name);
begin
  perform eve.check_proof(v_consumer.key_id, eve_consumer_rotate.proof);
  if eve_consumer_rotate.grace_s is null or eve_consumer_rotate.grace_s not between 0 and 2592000 then
    raise exception 'grace_s must be between 0 and 2592000, which is 30 days' using errcode = 'EV400';
  end if;
  update eve.consumers c
  set secret_hash = eve.secret_hash(eve_consumer_rotate.proof), previous_secret_hash = c.secret_hash,
    previous_secret_until = eve.clock() + make_interval(secs => eve_consumer_rotate.grace_s),
    secret_changed_at = eve.clock()
  where c.id = v_consumer.id
  returning * into v_consumer;
  perform eve.log_access(
    'consumer_rotated', v_consumer, details => jsonb_build_object('grace_s', eve_consumer_rotate.grace_s)
  );
  return eve.consumer_json(v_consumer);
end;
$function$;
comment on function public.eve_consumer_rotate is 'Gives a consumer a new secret; the one before stays valid for the grace period, any older one does not.';

CREATE OR REPLACE FUNCTION public.eve_consumer_enable(name text, enabled boolean)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers := eve.consumer_named(eve_consumer_enable.name);
begin
  if eve_consumer_enable.enabled is null then
    raise exception 'enabled must be true or false' using errcode = 'EV400';
  end if;
  if v_consumer.is_active <> eve_consumer_enable.enabled then
    update eve.consumers c
    set is_active = eve_consumer_enable.enabled
    where c.id = v_consumer.id
    returning * into v_consumer;
    perform eve.log_access(case when v_consumer.is_active then 'consumer_enabled' else 'consumer_disabled' end, v_consumer);
  end if;
  return eve.consumer_json(v_consumer);
end;
$function$;
comment on function public.eve_consumer_enable is 'Switches a consumer on or off, and with it its tokens: the next reservation knows.';

CREATE OR REPLACE FUNCTION public.eve_consumer_remove(name text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers := eve.consumer_named(eve_consumer_remove.name);
begin
  delete from eve.consumers c where c.id = v_consumer.id;
  perform eve.log_access('consumer_removed', v_consumer);
  return jsonb_build_object('id', v_consumer.id, 'name', v_consumer.name);
end;
$function$;
comment on function public.eve_consumer_remove is 'Removes a consumer with its tokens. The audit keeps what it did.';

CREATE OR REPLACE FUNCTION public.eve_consumer_scope(name text, changes jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_before eve.consumers := eve.consumer_named(eve_consumer_scope.name);
  v_after eve.consumers;
  v_unknown text;
begin
  if jsonb_typeof(eve_consumer_scope.changes) is distinct from 'object' or eve_consumer_scope.changes = '{}' then
    raise exception 'changes must be an object with at least one field' using errcode = 'EV400';
  end if;
  select f into v_unknown
  from jsonb_object_keys(eve_consumer_scope.changes) f
  where f not in ('models', 'max_class', 'rpm', 'requests_per_day', 'tokens_per_day', 'token_ttl_s')
  limit 1;
  if found then
    raise exception 'a consumer''s scope has no %', v_unknown using errcode = 'EV400';
  end if;
  begin
    v_after := jsonb_populate_record(v_before, eve_consumer_scope.changes);
  exception when data_exception then
    raise exception 'a field of the scope is of another type' using errcode = 'EV400';
  end;
  if v_after.max_class is null or v_after.max_class not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  elsif v_after.rpm <= 0 or v_after.requests_per_day < 0 or v_after.tokens_per_day < 0 then
    raise exception 'limits must be positive' using errcode = 'EV400';
  elsif v_after.token_ttl_s is null or v_after.token_ttl_s not between 60 and 86400 then
    raise exception 'token_ttl_s must be between 60 and 86400' using errcode = 'EV400';
  elsif cardinality(v_after.models) = 0 then
    raise exception 'models must name at least one model, or be null for all' using errcode = 'EV400';
  end if;
  select m into v_unknown
  from unnest(v_after.models) m
  where not exists (select from public.google_ai_model_limits l where l.model = m)
  limit 1;
  if found then
    raise exception 'there is no model named % in google_ai_model_limits', v_unknown using errcode = 'EV400';
  end if;
  update eve.consumers c
  set models = v_after.models, max_class = v_after.max_class, rpm = v_after.rpm, requests_per_day = v_after.requests_per_day,
    tokens_per_day = v_after.tokens_per_day, token_ttl_s = v_after.token_ttl_s
  where c.id = v_before.id
  returning * into v_after;
  perform eve.log_access('consumer_scoped', v_after, details => eve_consumer_scope.changes);
  return eve.consumer_json(v_after);
end;
$function$;
comment on function public.eve_consumer_scope is 'Changes what a consumer may do: what changes names, and nothing else. Null takes a bound away.';

CREATE OR REPLACE FUNCTION eve.capped(value jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case
    when octet_length(capped.value::text) <= 262144 then capped.value
    else jsonb_build_object(
      'truncated', true, 'bytes', octet_length(capped.value::text), 'head', left(capped.value::text, 65536)
    )
  end;
$function$;
comment on function eve.capped is 'A value as it is up to 256 KiB, and the head of a larger one.';

CREATE OR REPLACE FUNCTION public.eve_capture(request_no bigint, prompt jsonb, answer jsonb DEFAULT NULL::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_capture is 'Keeps what a request asked and got, at most 256 KiB of each. Twice is the same as once.';

-- tokens --------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.network_of(address text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
declare
  -- Without an IPv6 address's zone, and without the port that some proxies write after IPv4.
  v_text constant text := regexp_replace(split_part(network_of.address, '%', 1), '^(\d+(?:\.\d+){3}):\d+$', '\1');
  v_address inet;
begin
  if v_text is null or not pg_input_is_valid(v_text, 'inet') then
    return '';
  end if;
  v_address := v_text::inet;
  if family(v_address) = 4 then
    return host(v_address);
  elsif v_address << '::ffff:0:0/96'::inet then
    return host('0.0.0.0'::inet + (v_address - '::ffff:0:0'::inet));
  end if;
  return network(set_masklen(v_address, 64))::text;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.refuse_access(place text, code text, key_id text, address text, detail text DEFAULT NULL::text, wait_ms bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_minute constant timestamptz := date_trunc('minute', eve.clock());
  v_place constant text := left(refuse_access.place, 40);
  v_address text := eve.network_of(refuse_access.address);
  v_subject text := coalesce((select c.name from eve.consumers c where c.key_id = refuse_access.key_id), '');
  v_most bigint;
begin
  update eve.access_refusals r
  set times = r.times + 1
  where r.minute = v_minute and r.place = v_place and r.code = refuse_access.code and r.address = v_address
    and r.subject = v_subject;
  if not found then
    select s.value into v_most from eve.settings s where s.name = 'refusal_rows_per_minute';
    if (select count(*) from (select from eve.access_refusals r where r.minute = v_minute limit v_most) noted) >= v_most then
      v_address := 'others';
      v_subject := '';
    end if;
    insert into eve.access_refusals (minute, place, code, address, subject)
    values (v_minute, v_place, refuse_access.code, v_address, v_subject)
    on conflict on constraint access_refusals_pkey do update set times = access_refusals.times + 1;
  end if;
  return jsonb_build_object(
    'status', 'refused', 'code', refuse_access.code, 'detail', refuse_access.detail,
    'retry_after_ms', refuse_access.wait_ms
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.take_issue_turn(subject text, per_minute bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant bigint := eve.clock_ms();
  v_minute constant bigint := v_now / 60000;
  v_left_ms constant bigint := 60000 - v_now % 60000;
  v_window eve.issue_windows;
begin
  insert into eve.issue_windows (subject, minute, used, used_before)
  values (take_issue_turn.subject, v_minute, 0, 0)
  on conflict do nothing;
  select * into v_window from eve.issue_windows w where w.subject = take_issue_turn.subject for update;
  if v_window.minute < v_minute then
    v_window.used_before := case when v_window.minute = v_minute - 1 then v_window.used else 0 end;
    v_window.used := 0;
    v_window.minute := v_minute;
  end if;
  if v_window.used + v_window.used_before * v_left_ms / 60000.0 >= take_issue_turn.per_minute then
    return v_left_ms;
  end if;
  update eve.issue_windows w
  set minute = v_window.minute, used = v_window.used + 1, used_before = v_window.used_before
  where w.subject = take_issue_turn.subject;
  -- Now and then those are cleared away who have not asked for an hour.
  if random() < 0.02 then
    delete from eve.issue_windows w
    where w.subject in (
      select o.subject from eve.issue_windows o where o.minute < v_minute - 60 limit 100 for update skip locked
    );
  end if;
  return 0;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.take_network_turn(kind text, address text, OUT wait_ms bigint, OUT shared boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_network text := eve.network_of(take_network_turn.address);
  v_minute constant bigint := eve.clock_ms() / 60000;
  v_most constant bigint := (select s.value from eve.settings s where s.name = 'refusal_rows_per_minute');
begin
  if not exists (select from eve.issue_windows w where w.subject = take_network_turn.kind || ' ' || v_network)
    and (select count(*) from (select from eve.issue_windows w where w.minute = v_minute limit v_most) noted) >= v_most then
    v_network := 'others';
  end if;
  shared := v_network = 'others' or v_network like '%/64' or v_network = '' and take_network_turn.address is not null;
  wait_ms := eve.take_issue_turn(
    take_network_turn.kind || ' ' || v_network,
    (select s.value from eve.settings s where s.name = 'issue_per_address_minute')
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.refuse_wrong(place text, code text, key_id text, address text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_turn constant record := eve.take_network_turn('wrong', refuse_wrong.address);
begin
  if v_turn.wait_ms > 0 then
    return eve.refuse_access(refuse_wrong.place, 'rate_limited', null, refuse_wrong.address, null, v_turn.wait_ms);
  end if;
  return eve.refuse_access(refuse_wrong.place, refuse_wrong.code, refuse_wrong.key_id, refuse_wrong.address);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.check_proof(key_id text, proof text)
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  if check_proof.key_id is null or check_proof.key_id !~ '^[0-9a-f]{16}$' then
    raise exception 'key_id must have 16 hexadecimal digits' using errcode = 'EV400';
  elsif check_proof.proof is null or check_proof.proof !~ '^[0-9a-f]{64}$' then
    raise exception 'proof must have 64 hexadecimal digits' using errcode = 'EV400';
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_authenticate_consumer(key_id text, proof text, address text DEFAULT NULL::text, place text DEFAULT 'llm-invoke'::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer constant eve.consumers := eve.consumer_of_secret(
    eve_authenticate_consumer.key_id, eve_authenticate_consumer.proof
  );
begin
  if v_consumer.id is null then
    return eve.refuse_wrong(
      eve_authenticate_consumer.place, 'credential_invalid', eve_authenticate_consumer.key_id, eve_authenticate_consumer.address
    );
  elsif not v_consumer.is_active then
    return eve.refuse_access(
      eve_authenticate_consumer.place, 'consumer_disabled', eve_authenticate_consumer.key_id, eve_authenticate_consumer.address
    );
  end if;
  return jsonb_build_object(
    'status', 'known', 'consumer_id', v_consumer.id, 'name', v_consumer.name, 'kind', v_consumer.kind
  );
end;
$function$;
comment on function public.eve_authenticate_consumer is 'Who holds a secret, told by its id and its proof. A refusal is counted in the audit.';

CREATE OR REPLACE FUNCTION public.eve_issue_token(key_id text DEFAULT NULL::text, proof text DEFAULT NULL::text, consumer text DEFAULT NULL::text, address text DEFAULT NULL::text, models text[] DEFAULT NULL::text[], class text DEFAULT NULL::text, requests_budget integer DEFAULT NULL::integer, tokens_budget bigint DEFAULT NULL::bigint, ttl_s integer DEFAULT NULL::integer, scopes text[] DEFAULT NULL::text[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_place constant text := 'issue-kaggle-token';
  v_consumer eve.consumers;
  v_token eve.scoped_tokens;
  v_turn record;
  v_wait_ms bigint := 0;
  v_detail text;
  v_ttl_s integer;
  v_now constant timestamptz := date_trunc('second', eve.clock());
begin
  if eve_issue_token.key_id is null and eve_issue_token.consumer is null then
    raise exception 'give key_id and proof, or consumer' using errcode = 'EV400';
  end if;
  if eve_issue_token.key_id is not null then
    -- Everybody's attempts count against the network; only the holder's count against the consumer, or anybody could
    -- use up its turns.
    v_turn := eve.take_network_turn('address', eve_issue_token.address);
    v_wait_ms := v_turn.wait_ms;
    if v_wait_ms > 0 and not v_turn.shared then
      return eve.refuse_access(v_place, 'rate_limited', null, eve_issue_token.address, null, v_wait_ms);
    end if;
    v_consumer := eve.consumer_of_secret(eve_issue_token.key_id, eve_issue_token.proof);
    if v_consumer.name <> eve_issue_token.consumer then
      v_consumer := null;
    end if;
  else
    select * into v_consumer from eve.consumers c where c.name = eve_issue_token.consumer and c.kind <> 'project';
  end if;
  if v_consumer.id is null and v_wait_ms > 0 then
    return eve.refuse_access(v_place, 'rate_limited', null, eve_issue_token.address, null, v_wait_ms);
  elsif v_consumer.id is null then
    return eve.refuse_access(v_place, 'invalid_client', eve_issue_token.key_id, eve_issue_token.address);
  end if;

  v_wait_ms := eve.take_issue_turn(
    'consumer ' || v_consumer.id, (select s.value from eve.settings s where s.name = 'issue_per_consumer_minute')
  );
  if v_wait_ms > 0 then
    return eve.refuse_access(v_place, 'rate_limited', v_consumer.key_id, eve_issue_token.address, null, v_wait_ms);
  elsif not v_consumer.is_active then
    return eve.refuse_access(
      v_place, 'unauthorized_client', v_consumer.key_id, eve_issue_token.address, 'this consumer is switched off'
    );
  elsif v_consumer.kind <> 'notebook' then
    return eve.refuse_access(
      v_place, 'unauthorized_client', v_consumer.key_id, eve_issue_token.address,
      'tokens are for notebooks; a service calls llm-invoke with its own key'
    );
  end if;

  v_ttl_s := coalesce(eve_issue_token.ttl_s, v_consumer.token_ttl_s);
  v_detail := case
    when cardinality(eve_issue_token.models) = 0 then 'name at least one model, or leave models out'
    when not (eve_issue_token.models <@ coalesce(v_consumer.models, eve_issue_token.models))
      then 'a model is not among those of this consumer'
    when exists (
      select
      from unnest(eve_issue_token.models) m
      where not exists (select from public.google_ai_model_limits l where l.model = m)
    ) then 'a model does not exist'
    when cardinality(eve_issue_token.scopes) = 0 then 'name at least one of llm, media, chats, vision, intake, or leave scopes out'
    when not (eve_issue_token.scopes <@ v_consumer.scopes) then 'a scope is not among those of this consumer'
    when eve_issue_token.class not in ('interactive', 'batch') then 'class must be interactive or batch'
    when eve_issue_token.class = 'interactive' and v_consumer.max_class = 'batch' then 'this consumer has class batch'
    when eve_issue_token.requests_budget <= 0 or eve_issue_token.tokens_budget <= 0 then 'a budget must be positive'
    when v_ttl_s not between 60 and v_consumer.token_ttl_s
      then format('ttl must be between 60 and %s seconds', v_consumer.token_ttl_s)
  end;
  if v_detail is not null then
    return eve.refuse_access(v_place, 'invalid_scope', v_consumer.key_id, eve_issue_token.address, v_detail);
  end if;

  insert into eve.scoped_tokens (
    consumer_id, models, scopes, class, requests_budget, tokens_budget, issued_at, expires_at, address, issued_for
  )
  values (
    v_consumer.id, coalesce(eve_issue_token.models, v_consumer.models), coalesce(eve_issue_token.scopes, v_consumer.scopes),
    coalesce(eve_issue_token.class, v_consumer.max_class), eve_issue_token.requests_budget,
    eve_issue_token.tokens_budget, v_now, v_now + make_interval(secs => v_ttl_s), left(eve_issue_token.address, 100),
    case when eve_issue_token.key_id is null then 'project_key' else 'enrolment_secret' end
  )
  returning * into v_token;
  perform eve.log_access(
    'token_issued', v_consumer, v_token.id, eve_issue_token.address,
    jsonb_build_object('for', v_token.issued_for, 'expires_at', v_token.expires_at)
  );
  return jsonb_build_object(
    'status', 'issued', 'token_id', v_token.id, 'consumer_id', v_consumer.id, 'consumer', v_consumer.name,
    'models', v_token.models, 'scopes', v_token.scopes, 'class', v_token.class, 'requests_budget', v_token.requests_budget,
    'tokens_budget', v_token.tokens_budget, 'issued_at_s', extract(epoch from v_token.issued_at)::bigint,
    'expires_at_s', extract(epoch from v_token.expires_at)::bigint
  );
end;
$function$;
comment on function public.eve_issue_token is 'Records a token for a notebook, within what its consumer may do, or says why not. The caller signs it.';

CREATE OR REPLACE FUNCTION public.eve_tokens(consumer text DEFAULT NULL::text, include_ended boolean DEFAULT false, at_most integer DEFAULT 200)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', t.id, 'consumer', t.name, 'models', t.models, 'scopes', coalesce(t.scopes, '{llm}'), 'class', t.class, 'requests_used', t.requests_used,
        'requests_budget', t.requests_budget, 'tokens_used', t.tokens_used, 'tokens_budget', t.tokens_budget,
        'issued_at', t.issued_at, 'expires_at', t.expires_at, 'revoked_at', t.revoked_at, 'address', t.address,
        'state', case when t.revoked_at is not null then 'revoked' when t.expires_at <= eve.clock() then 'expired' else 'live' end
      )
      order by t.issued_at desc, t.id
    ),
    '[]'
  )
  from (
    select s.*, c.name
    from eve.scoped_tokens s
    join eve.consumers c on c.id = s.consumer_id
    where (eve_tokens.consumer is null or c.name = eve_tokens.consumer)
      and (eve_tokens.include_ended or (s.revoked_at is null and s.expires_at > eve.clock()))
    order by s.issued_at desc
    limit least(greatest(eve_tokens.at_most, 1), 10000)
  ) t;
$function$;
comment on function public.eve_tokens is 'Tokens that were issued, the newest first, with what was spent of them. Never the tokens themselves.';

CREATE OR REPLACE FUNCTION public.eve_token_revoke(token_id uuid DEFAULT NULL::uuid, consumer text DEFAULT NULL::text, reason text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers;
  v_token record;
  v_revoked jsonb := '[]';
begin
  if (eve_token_revoke.token_id is null) = (eve_token_revoke.consumer is null) then
    raise exception 'give either a token''s id or a consumer''s name' using errcode = 'EV400';
  end if;
  if eve_token_revoke.consumer is not null then
    v_consumer := eve.consumer_named(eve_token_revoke.consumer);
  elsif not exists (select from eve.scoped_tokens t where t.id = eve_token_revoke.token_id) then
    raise exception 'there is no token %', eve_token_revoke.token_id using errcode = 'EV400';
  end if;
  for v_token in
    update eve.scoped_tokens t
    set revoked_at = eve.clock(), revoked_reason = left(eve_token_revoke.reason, 500)
    -- In the order in which settlements take them.
    where t.id in (
        select o.id
        from eve.scoped_tokens o
        where o.id = eve_token_revoke.token_id or o.consumer_id = v_consumer.id
        order by o.id
        for no key update
      )
      and t.revoked_at is null and t.expires_at > eve.clock()
    returning t.id, t.consumer_id
  loop
    select * into v_consumer from eve.consumers c where c.id = v_token.consumer_id;
    perform eve.log_access(
      'token_revoked', v_consumer, v_token.id, details => jsonb_build_object('reason', left(eve_token_revoke.reason, 500))
    );
    v_revoked := v_revoked || to_jsonb(v_token.id);
  end loop;
  return jsonb_build_object('revoked', v_revoked);
end;
$function$;
comment on function public.eve_token_revoke is 'Ends one token, or all of a consumer''s, for good: the next reservation refuses it.';

CREATE OR REPLACE FUNCTION public.eve_log_refused_token(code text, address text DEFAULT NULL::text, place text DEFAULT 'llm-invoke'::text)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select case
    when eve_log_refused_token.code = 'token_revoked'
      then eve.refuse_access(eve_log_refused_token.place, eve_log_refused_token.code, null, eve_log_refused_token.address)
    else eve.refuse_wrong(
      eve_log_refused_token.place, left(eve_log_refused_token.code, 40), null, eve_log_refused_token.address
    )
  end;
$function$;
comment on function public.eve_log_refused_token is 'Counts a credential that was refused without asking the database; says whether its network has sent too many.';

CREATE OR REPLACE FUNCTION public.eve_count_bad_requests(counts jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  with counted as (
    select left(t.code, 40) as code, coalesce(c.name, '') as subject, sum(greatest(t.times, 0))::bigint as times
    from jsonb_to_recordset(eve_count_bad_requests.counts) as t (code text, consumer_id uuid, times bigint)
    left join eve.consumers c on c.id = t.consumer_id
    where t.code is not null
    group by 1, 2
  ), noted as (
    insert into eve.bad_requests as b (minute, code, subject, times)
    select date_trunc('minute', eve.clock()), n.code, n.subject, n.times
    from counted n
    order by n.code, n.subject
    on conflict on constraint bad_requests_pkey do update set times = b.times + excluded.times
  )
  insert into eve.metric_counters as m (metric, labels, value)
  select 'eve_bad_requests_total', jsonb_build_object('code', n.code), sum(n.times)
  from counted n
  group by n.code
  order by n.code
  on conflict (metric, labels) do update set value = m.value + excluded.value;
  return jsonb_build_object('status', 'counted');
end;
$function$;
comment on function public.eve_count_bad_requests is 'Adds what a function has refused with 400 and the like: a list of code, consumer_id (null: nobody was recognised) and times.';

CREATE OR REPLACE FUNCTION public.eve_bad_requests(since timestamp with time zone DEFAULT NULL::timestamp with time zone, until timestamp with time zone DEFAULT NULL::timestamp with time zone, consumer text DEFAULT NULL::text, at_most integer DEFAULT 200)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(to_jsonb(one) order by one.times desc, one.code, one.consumer), '[]')
  from (
    select b.code, nullif(b.subject, '') as consumer, sum(b.times)::bigint as times, min(b.minute) as first_at,
      max(b.minute) as last_at
    from eve.bad_requests b
    where b.minute >= coalesce(date_trunc('minute', eve_bad_requests.since), '-infinity')
      and b.minute < coalesce(eve_bad_requests.until, 'infinity')
      and (eve_bad_requests.consumer is null or b.subject = eve_bad_requests.consumer)
    group by 1, 2
    order by 3 desc
    limit least(greatest(eve_bad_requests.at_most, 1), 10000)
  ) one;
$function$;
comment on function public.eve_bad_requests is 'What was refused with 400 and the like, summed by code and consumer, the most frequent first.';

-- maintenance ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.operation_lock(operation text)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select hashtextextended('eve operation ' || operation_lock.operation, 0);
$function$;

CREATE OR REPLACE FUNCTION eve.log_run(operation text, status text, started_at timestamp with time zone, log_id bigint DEFAULT NULL::bigint, tables text[] DEFAULT '{}'::text[], deleted_count bigint DEFAULT 0, details jsonb DEFAULT '{}'::jsonb, completed_at timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_id bigint;
begin
  if log_run.log_id is not null then
    update public.google_ai_maintenance_log m
    set status = log_run.status, tables_affected = log_run.tables,
      deleted_count = least(log_run.deleted_count, 2147483647)::integer, details = log_run.details,
      completed_at = log_run.completed_at
    where m.id = log_run.log_id
    returning m.id into v_id;
    -- Somebody has deleted it.
    if found then
      return v_id;
    end if;
  end if;
  insert into public.google_ai_maintenance_log
    (operation, status, started_at, tables_affected, deleted_count, details, completed_at)
  values (
    log_run.operation, log_run.status, log_run.started_at, log_run.tables,
    least(log_run.deleted_count, 2147483647)::integer, log_run.details, log_run.completed_at
  )
  returning id into v_id;
  return v_id;
exception
  when integrity_constraint_violation or data_exception or raise_exception then
    perform eve.open_alert(
      'maintenance_log_refused', 'public.google_ai_maintenance_log', 'warning',
      format('A row for public.google_ai_maintenance_log was refused: %s. How each operation stands is in eve.operations.', sqlerrm)
    );
    return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.unlog_run(log_id bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  delete from public.google_ai_maintenance_log m where m.id = unlog_run.log_id and m.status = 'running';
exception
  -- The table's owner keeps its rows: then this one says how it ended.
  when integrity_constraint_violation or data_exception or raise_exception or insufficient_privilege then
    update public.google_ai_maintenance_log m
    set status = 'succeeded', completed_at = eve.clock()
    where m.id = unlog_run.log_id;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.close_run(operation eve.operations, status text, error text DEFAULT NULL::text, more boolean DEFAULT false)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  -- Nobody's but the schedule's business.
  v_is_idle constant boolean := close_run.status = 'succeeded' and not close_run.more and (operation).done_count = 0
    and not (operation).logs_all and (operation).source in ('cron', 'call');
begin
  if not v_is_idle then
    perform eve.log_run(
      (operation).name, close_run.status, (operation).started_at, (operation).log_id, (operation).tables,
      (operation).done_count,
      jsonb_strip_nulls(
        jsonb_build_object(
          'run_id', (operation).run_id, 'source', (operation).source, 'error', close_run.error,
          'more', case when close_run.more then true end
        )
      ) || (operation).details,
      v_now
    );
  else
    perform eve.unlog_run((operation).log_id);
  end if;
  update eve.operations o
  set run_id = null, lease_until = null, ends_at = null, log_id = null, state = '{}', last_status = close_run.status,
    last_error = close_run.error, last_started_at = (operation).started_at, last_completed_at = v_now,
    last_succeeded_at = case close_run.status when 'succeeded' then v_now else o.last_succeeded_at end,
    idle_runs = o.idle_runs + v_is_idle::integer, last_idle_at = case when v_is_idle then v_now else o.last_idle_at end
  where o.name = (operation).name;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.begin_run(operation text, source text, time_limit_ms integer DEFAULT NULL::integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- A run that has not ended so long after its time was up is dead: a step takes far less.
  v_grace constant interval := '30 seconds';
  v_now timestamptz;
  v_operation eve.operations;
  v_limit_ms integer;
  v_run_id bigint;
  v_log_id bigint;
  v_skipped text;
begin
  if not exists (select from eve.operations o where o.name = begin_run.operation) then
    raise exception 'there is no operation named %', begin_run.operation using errcode = 'EV400';
  elsif begin_run.time_limit_ms is not null and begin_run.time_limit_ms not between 1000 and 120000 then
    raise exception 'time_limit_ms must be between 1000 and 120000' using errcode = 'EV400';
  end if;
  if not pg_try_advisory_xact_lock(eve.operation_lock(begin_run.operation)) then
    v_skipped := 'another run is on';
  else
    v_now := eve.clock();
    select * into v_operation from eve.operations o where o.name = begin_run.operation for update;
    if v_operation.run_id is not null and v_operation.lease_until > v_now then
      v_skipped := 'another run is on';
    elsif v_operation.run_id is not null then
      perform eve.close_run(v_operation, 'failed', 'the run ended without a word: it was killed, or its time ran out');
    end if;
  end if;
  if v_skipped is not null then
    v_now := eve.clock();
    -- Anyone who reads sums asks for a rollup first, and may well do so beside another.
    if begin_run.source <> 'call' then
      perform eve.log_run(
        begin_run.operation, 'skipped', v_now, completed_at => v_now,
        details => jsonb_build_object('source', begin_run.source, 'reason', v_skipped)
      );
    end if;
    return jsonb_build_object('status', 'skipped', 'operation', begin_run.operation, 'reason', v_skipped);
  end if;

  v_limit_ms := coalesce(begin_run.time_limit_ms, v_operation.time_limit_ms);
  v_run_id := nextval('eve.operation_run');
  v_log_id := eve.log_run(
    begin_run.operation, 'running', v_now,
    details => jsonb_build_object('run_id', v_run_id, 'source', begin_run.source)
  );
  update eve.operations o
  set run_id = v_run_id, log_id = v_log_id, source = begin_run.source, started_at = v_now,
    ends_at = v_now + v_limit_ms * interval '1 millisecond',
    lease_until = v_now + v_limit_ms * interval '1 millisecond' + v_grace,
    tables = '{}', done_count = 0, details = '{}', state = '{}'
  where o.name = begin_run.operation;
  return jsonb_build_object(
    'status', 'running', 'operation', begin_run.operation, 'run_id', v_run_id, 'runs_in', v_operation.runs_in,
    'ends_in_ms', v_limit_ms
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.sweep_step(state jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- What one transaction closes at most.
  v_batch constant integer := 200;
  v_now constant timestamptz := eve.clock();
  v_expired integer;
  v_blocks integer;
  v_secrets integer;
begin
  v_expired := eve.expire_leases(null, v_batch);
  if v_expired = v_batch then
    return jsonb_build_object(
      'done', false, 'count', v_expired, 'tables', array['eve.inflight', 'eve.requests', 'eve.attempts'],
      'state', jsonb_build_object('expired', coalesce((sweep_step.state ->> 'expired')::integer, 0) + v_expired)
    );
  end if;
  with ended as (
    select b.key_id, b.model
    from eve.key_model_blocks b
    where b.blocked_until <= v_now
    limit v_batch
    for update skip locked
  )
  delete from eve.key_model_blocks b
  using ended
  where b.key_id = ended.key_id and b.model = ended.model;
  get diagnostics v_blocks = row_count;
  with ended as (
    select c.id
    from eve.consumers c
    where c.previous_secret_until <= v_now and c.previous_secret_hash is not null
    limit v_batch
    for no key update skip locked
  )
  update eve.consumers c
  set previous_secret_hash = null
  from ended
  where c.id = ended.id;
  get diagnostics v_secrets = row_count;
  return jsonb_build_object(
    'done', true, 'count', v_expired + v_blocks + v_secrets,
    'tables',
      case when v_expired > 0 then array['eve.inflight', 'eve.requests', 'eve.attempts'] else '{}'::text[] end
        || case when v_blocks > 0 then array['eve.key_model_blocks'] else '{}'::text[] end
        || case when v_secrets > 0 then array['eve.consumers'] else '{}'::text[] end,
    'details', jsonb_build_object(
      'expired', coalesce((sweep_step.state ->> 'expired')::integer, 0) + v_expired, 'blocks_ended', v_blocks,
      'old_secrets_forgotten', v_secrets
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.step_run(run_id bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_began constant timestamptz := clock_timestamp();
  v_name text;
  v_operation eve.operations;
  v_step jsonb;
  v_status text := 'running';
  v_error text;
  v_more boolean := false;
begin
  select o.name into v_name from eve.operations o where o.run_id = step_run.run_id;
  if found then
    perform pg_advisory_xact_lock(eve.operation_lock(v_name));
    select * into v_operation from eve.operations o where o.run_id = step_run.run_id for update;
  end if;
  if v_operation.name is null or v_operation.lease_until <= eve.clock() then
    return jsonb_build_object('done', true, 'status', 'lost', 'operation', v_name, 'pause_ms', 0);
  end if;

  if eve.clock() >= v_operation.ends_at then
    v_status := 'succeeded';
    v_more := true;
  else
    -- A crash loses at most steps that the next run does again, and nobody has to wait for the disk.
    perform set_config('synchronous_commit', 'off', true);
    begin
      v_step := case v_name
        when 'sweep' then eve.sweep_step(v_operation.state)
        when 'rollup' then eve.rollup_step(v_operation.state, v_operation.started_at)
        when 'retention' then eve.retention_step(v_operation.state, v_operation.started_at)
        when 'report' then eve.report_step()
      end;
      if v_step is null then
        raise exception 'operation % has no steps in SQL: ask the function maintenance for it', v_name using errcode = 'EV400';
      end if;
    exception
      -- A statement that was cancelled, for its time as a rule, is no less a failure of the run.
      when query_canceled or others then
        v_status := 'failed';
        v_error := format('%s (%s)', sqlerrm, sqlstate);
    end;
  end if;

  if v_step is not null and v_status = 'running' then
    v_operation.state := coalesce(v_step -> 'state', '{}');
    v_operation.done_count := v_operation.done_count + coalesce((v_step ->> 'count')::bigint, 0);
    v_operation.details := v_operation.details || coalesce(v_step -> 'details', '{}');
    if (v_step ->> 'count')::bigint > 0 then
      v_operation.tables := array(
        select distinct t
        from unnest(v_operation.tables || array(select jsonb_array_elements_text(v_step -> 'tables'))) t
        order by t
      );
    end if;
    if (v_step ->> 'done')::boolean then
      v_error := v_step ->> 'error';
      v_status := case when v_error is null then 'succeeded' else 'failed' end;
    end if;
  end if;
  if v_status = 'running' then
    update eve.operations o
    set state = v_operation.state, done_count = v_operation.done_count, details = v_operation.details,
      tables = v_operation.tables
    where o.name = v_name;
  else
    perform eve.close_run(v_operation, v_status, v_error, v_more);
  end if;
  return jsonb_build_object(
    'done', v_status <> 'running', 'status', v_status, 'operation', v_name, 'count', v_operation.done_count,
    'tables', to_jsonb(v_operation.tables), 'details', v_operation.details, 'more', v_more, 'error', v_error,
    'pause_ms', least(1000, ceil(extract(epoch from clock_timestamp() - v_began) * 1000))
  );
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_maintenance_begin(operation text, time_limit_ms integer DEFAULT NULL::integer, source text DEFAULT 'http'::text)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select eve.begin_run(
    eve_maintenance_begin.operation, left(eve_maintenance_begin.source, 40), eve_maintenance_begin.time_limit_ms
  );
$function$;
comment on function public.eve_maintenance_begin is 'Begins a run of an operation, or says that one is on. It is logged either way.';

CREATE OR REPLACE FUNCTION public.eve_maintenance_step(run_id bigint)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select eve.step_run(eve_maintenance_step.run_id);
$function$;
comment on function public.eve_maintenance_step is 'One step of a run that is SQL from end to end. Call it until it answers done.';

CREATE OR REPLACE FUNCTION public.eve_maintenance_end(run_id bigint, status text, tables text[] DEFAULT '{}'::text[], count bigint DEFAULT 0, details jsonb DEFAULT '{}'::jsonb, error text DEFAULT NULL::text, more boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_operation eve.operations;
begin
  if eve_maintenance_end.status is null or eve_maintenance_end.status not in ('succeeded', 'failed') then
    raise exception 'status must be succeeded or failed' using errcode = 'EV400';
  end if;
  select * into v_operation from eve.operations o where o.run_id = eve_maintenance_end.run_id for update;
  if not found then
    return jsonb_build_object('status', 'lost');
  end if;
  v_operation.tables := coalesce(eve_maintenance_end.tables, '{}');
  v_operation.done_count := coalesce(eve_maintenance_end.count, 0);
  v_operation.details := coalesce(eve_maintenance_end.details, '{}');
  perform eve.close_run(
    v_operation, eve_maintenance_end.status, left(eve_maintenance_end.error, 2000), coalesce(eve_maintenance_end.more, false)
  );
  return jsonb_build_object('status', eve_maintenance_end.status);
end;
$function$;
comment on function public.eve_maintenance_end is 'Ends a run and completes its row in the log. Answers lost for a run that had been given up for dead.';

-- audit_days ----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.relation_bytes(relation regclass)
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(
    (select sum(pg_total_relation_size(t.relid)) from pg_partition_tree(relation_bytes.relation) t where t.isleaf),
    pg_total_relation_size(relation_bytes.relation)
  )::bigint;
$function$;

CREATE OR REPLACE FUNCTION eve.audit_partitions()
 RETURNS TABLE(table_name text, parent text, name text, day date)
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select case p.relname when 'earlier_attempts' then 'eve.attempts' else 'eve.' || p.relname end, p.relname, c.relname,
    to_date(right(c.relname, 8), 'YYYYMMDD')
  from pg_catalog.pg_inherits i
  join pg_catalog.pg_class c on c.oid = i.inhrelid
  join pg_catalog.pg_class p on p.oid = i.inhparent
  where i.inhparent in ('eve.requests'::regclass, 'eve.earlier_attempts'::regclass, 'eve.refusals'::regclass)
    and c.relname ~ '_[0-9]{8}$';
$function$;

CREATE OR REPLACE FUNCTION eve.lock_at_once(tables regclass[])
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_tables constant text := (select string_agg('only ' || t, ', ' order by place) from unnest(lock_at_once.tables) with ordinality as u (t, place));
begin
  for v_try in 1..5 loop
    begin
      execute format('lock table %s in access exclusive mode nowait', v_tables);
      return true;
    exception
      when lock_not_available then
        perform pg_sleep(0.05);
    end;
  end loop;
  return false;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.make_partitions(now_at timestamp with time zone)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET lock_timeout TO '250ms'
AS $function$
declare
  v_wanted record;
  v_is_taken boolean;
  v_is_locked boolean := false;
  v_made integer := 0;
begin
  for v_wanted in
    select p.parent, p.time_column, p.parent || '_' || to_char(d.day, 'YYYYMMDD') as name,
      d.day::timestamp at time zone 'UTC' as begins, (d.day + 1)::timestamp at time zone 'UTC' as ends
    from (values ('requests', 'finished_at'), ('earlier_attempts', 'settled_at'), ('refusals', 'refused_at')) as p (parent, time_column)
    cross join lateral (
      select (make_partitions.now_at at time zone 'UTC')::date + ahead as day from generate_series(0, 3) ahead
    ) d
    order by d.day, p.parent
  loop
    continue when to_regclass(format('eve.%I', v_wanted.name)) is not null;
    execute format(
      'select exists (select from eve.%I t where t.%I >= $1 and t.%I < $2)', v_wanted.parent || '_default',
      v_wanted.time_column, v_wanted.time_column
    )
    into v_is_taken
    using v_wanted.begins, v_wanted.ends;
    continue when v_is_taken;
    if not v_is_locked then
      -- What attaching takes, of all three.
      v_is_locked := eve.lock_at_once(
        array['eve.requests_default', 'eve.earlier_attempts_default', 'eve.refusals_default']::regclass[]
      );
      exit when not v_is_locked;
    end if;
    begin
      execute format('create table eve.%I (like eve.%I including all)', v_wanted.name, v_wanted.parent);
      execute format('alter table eve.%I enable row level security', v_wanted.name);
      execute format('revoke all on table eve.%I from public, anon, authenticated, service_role', v_wanted.name);
      execute format(
        'alter table eve.%I attach partition eve.%I for values from (%L) to (%L)', v_wanted.parent, v_wanted.name,
        v_wanted.begins, v_wanted.ends
      );
      -- The first range of an empty table counts as summarized, and each row would write its summary again: 144 bytes of log a call.
      perform brin_desummarize_range(i.indexrelid, 0)
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'brin'
      where i.indrelid = format('eve.%I', v_wanted.name)::regclass;
      v_made := v_made + 1;
    exception
      when lock_not_available or check_violation then
        null; -- Somebody reads for long, or has just written a row of that day.
    end;
  end loop;
  return v_made;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.drop_partition(table_name text, before timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET lock_timeout TO '250ms'
AS $function$
declare
  v_before constant timestamptz := least(
    drop_partition.before, eve.clock() - (select r.at_least from eve.retention r where r.table_name = drop_partition.table_name),
    (select p.rolled_until - interval '1 hour' from eve.rollup_progress p)
  );
  v_name text;
  v_rows bigint;
begin
  -- `least` passes over what is null.
  if not exists (select from eve.rollup_progress p where p.rolled_until is not null) then
    return null;
  end if;
  select p.name into v_name
  from eve.audit_partitions() p
  where p.table_name = drop_partition.table_name and (p.day + 1)::timestamp at time zone 'UTC' <= v_before
  order by p.day
  limit 1;
  if v_name is null then
    return null;
  end if;
  if not eve.lock_at_once(
    (
      select array[format('eve.%I', p.parent), format('eve.%I', p.name)]::regclass[] from eve.audit_partitions() p where p.name = v_name
    )
  ) then
    return null;
  end if;
  execute format('select count(*) from eve.%I', v_name) into v_rows;
  execute format('drop table eve.%I', v_name);
  return v_rows;
exception
  when lock_not_available then
    return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.kept_bytes()
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select (
    (
      select coalesce(sum(pg_total_relation_size(c.oid)), 0)
      from pg_catalog.pg_class c
      where c.relkind in ('r', 'm')
        and (
          c.relnamespace in ('eve'::regnamespace, 'pg_catalog'::regnamespace)
          or c.oid in ('public.google_ai_usage_counters'::regclass, 'public.google_ai_maintenance_log'::regclass)
        )
    )
    + least(
      pg_total_relation_size('public.token_usage'::regclass),
      (
        select coalesce(sum(d.dispatched), 0) * 250
        from eve.usage_days d
        cross join eve.audit_trimmed t
        where t.trimmed_before = '-infinity' or d.day >= (t.trimmed_before at time zone 'America/Los_Angeles')::date
      )
    )
  )::bigint;
$function$;
comment on function eve.kept_bytes is 'How much of the disk the gateway takes.';

CREATE OR REPLACE FUNCTION eve.trim_audit(now_at timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_most constant numeric := (select s.value from eve.settings s where s.name = 'audit_max_mb') * 1000000.0;
  v_before constant timestamptz := (select t.trimmed_before from eve.audit_trimmed t);
  v_oldest timestamptz;
  v_day_ends timestamptz;
begin
  if v_most is null or eve.kept_bytes() <= v_most * 0.95 then
    return false;
  end if;
  select least(
    (select min(r.finished_at) from eve.requests r where r.finished_at >= v_before),
    (select min(f.refused_at) from eve.refusals f where f.refused_at >= v_before),
    case
      when exists (select from eve.retention r where r.table_name = 'public.token_usage' and r.keep is not null)
        then (select min(u.ts) from public.token_usage u where u.ts >= v_before)
    end
  )
  into v_oldest;
  v_day_ends := date_trunc('day', v_oldest, 'UTC') + interval '1 day';
  if v_day_ends is null
    or v_day_ends > trim_audit.now_at - (select max(r.at_least) from eve.retention r where r.table_name in ('eve.requests', 'eve.attempts', 'eve.refusals'))
    or not exists (select from eve.rollup_progress p where p.rolled_until - interval '1 hour' >= v_day_ends) then
    return false;
  end if;
  update eve.audit_trimmed t set trimmed_before = v_day_ends;
  return true;
end;
$function$;

-- retention -----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.delete_numbered(relation regclass, key_column text, old text, before timestamp with time zone, after bigint, at_most integer, OUT deleted bigint, OUT seen bigint, OUT last_key bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
begin
  execute format(
    $sql$
      with window_of_rows as materialized (
        select t.ctid as place, t.%2$I as number, %3$s as is_old
        from %1$s t
        where t.%2$I > $2
        order by t.%2$I
        fetch first ($3) rows with ties
      ), gone as (
        delete from %1$s t
        where t.ctid = any (array(select w.place from window_of_rows w where w.is_old))
        returning 1
      )
      select (select count(*) from gone), count(*), max(w.number)
      from window_of_rows w
    $sql$,
    delete_numbered.relation, delete_numbered.key_column, delete_numbered.old
  )
  into deleted, seen, last_key
  using delete_numbered.before, delete_numbered.after, delete_numbered.at_most;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.delete_oldest(relation regclass, time_column text, before timestamp with time zone, after timestamp with time zone, at_most integer, also text DEFAULT 'true'::text, OUT deleted bigint, OUT seen bigint, OUT last_at timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
 SET jit TO 'off'
AS $function$
begin
  execute format(
    $sql$
      with oldest as materialized (
        select t.ctid as place, t.%2$I as at
        from %1$s t
        where t.%2$I < $1 and t.%2$I >= $2 and (%3$s)
        order by t.%2$I
        limit $3
        for update skip locked
      ), gone as (
        delete from %1$s t
        where t.ctid = any (array(select o.place from oldest o))
        returning 1
      )
      select (select count(*) from gone), count(*), max(o.at)
      from oldest o
    $sql$,
    delete_oldest.relation, delete_oldest.time_column, delete_oldest.also
  )
  into deleted, seen, last_at
  using delete_oldest.before, delete_oldest.after, delete_oldest.at_most;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.retention_by_number(relation regclass, table_name text, before timestamp with time zone, at_most integer, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- After so many rows in a row that are young, the rest of a numbered table is young too. Numbers are handed to connections
  -- 32 at a time, so a few young rows stand among old ones.
  v_young_enough constant bigint := 10000;
  v_batch record;
  v_young bigint;
begin
  select * into v_batch
  from eve.delete_numbered(
    retention_by_number.relation,
    case retention_by_number.table_name
      when 'eve.refusals' then 'id'
      when 'eve.access_log' then 'id'
      when 'cron.job_run_details' then 'runid'
      else 'request_no'
    end,
    case retention_by_number.table_name
      when 'eve.requests' then 't.finished_at < $1'
      when 'eve.attempts' then
        't.settled_at < $1 and not exists (select from eve.inflight i where i.request_no = t.request_no)'
      when 'eve.refusals' then 't.refused_at < $1'
      when 'eve.request_results' then 't.kept_at < $1'
      when 'eve.captures' then 't.captured_at < $1'
      when 'eve.access_log' then 't.at < $1'
      -- A job's history is its owner's, so only our own jobs'.
      else $old$coalesce(t.end_time, t.start_time) < $1
        and t.jobid in (select j.jobid from cron.job j where j.jobname like 'eve\_%')$old$
    end,
    retention_by_number.before, coalesce((retention_by_number.after ->> 'number')::bigint, 0), retention_by_number.at_most
  );
  v_young := case v_batch.deleted
    when 0 then coalesce((retention_by_number.after ->> 'young')::bigint, 0) + v_batch.seen
    else 0
  end;
  if v_batch.seen >= retention_by_number.at_most and v_young < v_young_enough then
    next_after := jsonb_build_object('number', v_batch.last_key, 'young', v_young);
  end if;
  deleted := v_batch.deleted;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.retention_by_age(relation regclass, table_name text, before timestamp with time zone, trimmed_before timestamp with time zone, at_most integer, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_batch record;
begin
  select * into v_batch
  from eve.delete_oldest(
    retention_by_age.relation,
    case retention_by_age.table_name
      when 'eve.rollup_set_aside' then 'set_aside_at'
      when 'eve.request_keys' then 'ended_at'
      when 'eve.scoped_tokens' then 'expires_at'
      when 'eve.consumer_days' then 'day'
      when 'eve.alerts' then 'closed_at'
      when 'eve.usage_hours' then 'hour'
      when 'eve.usage_days' then 'day'
      when 'public.google_ai_usage_counters' then 'minute_bucket'
      when 'public.token_usage' then 'ts'
      when 'public.google_ai_maintenance_log' then 'started_at'
      else 'minute'
    end,
    retention_by_age.before, coalesce((retention_by_age.after ->> 'at')::timestamptz, '-infinity'), retention_by_age.at_most,
    case retention_by_age.table_name
      when 'eve.scoped_tokens' then 'not exists (select from eve.inflight i where i.token_id = t.id)'
      -- Our own rows say who asked for the run; columns made by hand hold text or json.
      when 'public.google_ai_maintenance_log' then 't.status <> ''running'' and to_jsonb(t.details) ? ''source'''
      else 'true'
    end
  );
  if v_batch.seen >= retention_by_age.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
  if retention_by_age.table_name = 'public.token_usage' and next_after is null
    and retention_by_age.trimmed_before > retention_by_age.before then
    -- Younger ones that had to go for their size, but for those of other programs. Tables made by hand hold text or json.
    select * into v_batch
    from eve.delete_oldest(
      retention_by_age.relation, 'ts', retention_by_age.trimmed_before,
      coalesce(
        (retention_by_age.after ->> 'own')::timestamptz, (select t.token_usage_before from eve.audit_trimmed t)
      ),
      retention_by_age.at_most, 't.meta::text ~ ''"source": ?"eve"'''
    );
    deleted := deleted + v_batch.deleted;
    if v_batch.seen >= retention_by_age.at_most then
      next_after := jsonb_build_object('own', v_batch.last_at, 'at', retention_by_age.after ->> 'at');
    else
      update eve.audit_trimmed t
      set token_usage_before = retention_by_age.trimmed_before
      where t.token_usage_before < retention_by_age.trimmed_before;
    end if;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.retention_batch(rule eve.retention, now_at timestamp with time zone, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_table constant text := (rule).table_name;
  v_rows constant integer := (rule).batch_rows;
  v_is_summed constant boolean := v_table in ('eve.requests', 'eve.attempts', 'eve.refusals', 'eve.refusal_counts');
  -- Of the audit's days most go with their partitions; the rows of the others are here.
  v_rows_of constant text := case v_table
    when 'eve.requests' then 'eve.requests_default'
    when 'eve.attempts' then 'eve.earlier_attempts_default'
    when 'eve.refusals' then 'eve.refusals_default'
    else v_table
  end;
  v_trimmed constant timestamptz := (select t.trimmed_before from eve.audit_trimmed t);
  v_before timestamptz := retention_batch.now_at - (rule).keep;
  v_relation regclass;
  v_batch record;
begin
  deleted := 0;
  -- Not to_regclass, which fails where one may not enter the schema.
  select c.oid into v_relation
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = split_part(v_rows_of, '.', 1) and c.relname = split_part(v_rows_of, '.', 2)
    and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'delete');
  if v_relation is null or v_before is null then
    return;
  end if;
  if v_is_summed then
    -- What has not been summed up yet stays.
    v_before := eve.freeze_sums(greatest(v_before, v_trimmed));
    if v_before is null then
      return;
    end if;
  elsif v_table = 'eve.usage_hours' then
    v_before := eve.freeze_sums(v_before, 'days');
    if v_before is null then
      return;
    end if;
  end if;

  if v_rows_of <> v_table then
    deleted := eve.drop_partition(v_table, v_before);
    if deleted is not null then
      next_after := coalesce(retention_batch.after, '{}');
      return;
    end if;
    deleted := 0;
  end if;

  case
    when v_table in (
      'eve.requests', 'eve.attempts', 'eve.refusals', 'eve.request_results', 'eve.captures', 'eve.access_log',
      'cron.job_run_details'
    ) then
      v_batch := eve.retention_by_number(v_relation, v_table, v_before, v_rows, retention_batch.after);
      deleted := v_batch.deleted;
      next_after := v_batch.next_after;
    when v_table in (
      'eve.refusal_counts', 'eve.refusal_minutes', 'eve.rollup_set_aside', 'eve.access_refusals', 'eve.bad_requests', 'eve.request_keys',
      'eve.scoped_tokens', 'eve.consumer_days', 'eve.alerts', 'eve.usage_hours', 'eve.usage_days',
      'public.google_ai_usage_counters', 'public.token_usage', 'public.google_ai_maintenance_log'
    ) then
      v_batch := eve.retention_by_age(v_relation, v_table, v_before, v_trimmed, v_rows, retention_batch.after);
      deleted := v_batch.deleted;
      next_after := v_batch.next_after;
    when (rule).batch_function is not null then
      execute format('select * from eve.%I($1, $2, $3, $4, $5)', (rule).batch_function)
      into v_batch
      using v_relation, v_table, v_before, v_rows, retention_batch.after;
      deleted := v_batch.deleted;
      next_after := v_batch.next_after;
    when v_table = 'eve.issue_windows' then
      delete from eve.issue_windows w
      where w.subject in (
        select o.subject
        from eve.issue_windows o
        where o.minute < floor(extract(epoch from v_before) / 60)
        limit v_rows
        for update skip locked
      );
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    when v_table = 'eve.consumer_minutes' then
      delete from eve.consumer_minutes m
      where m.consumer_id in (
        select o.consumer_id
        from eve.consumer_minutes o
        where o.second < floor(extract(epoch from v_before))
        limit v_rows
        for update skip locked
      );
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    when v_table = 'eve.lane_buckets' then
      -- Lane by lane, since the lane leads the index.
      execute $sql$
        with old as materialized (
          select b.place
          from eve.lanes l
          cross join lateral (
            select b.ctid as place
            from eve.lane_buckets b
            where b.lane_id = l.id and b.at_ms < $1
            order by b.at_ms
            limit $2
            for update skip locked
          ) b
          limit $2
        )
        delete from eve.lane_buckets b
        where b.ctid = any (array(select o.place from old o))
      $sql$
      using floor(extract(epoch from v_before) * 1000)::bigint, v_rows;
      get diagnostics deleted = row_count;
      next_after := case when deleted >= v_rows then '{}'::jsonb end;
    else
      null; -- A table that this version does not know.
  end case;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.retention_step(state jsonb, now_at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_deleted jsonb := coalesce(retention_step.state -> 'deleted', '{}');
  v_refused jsonb := coalesce(retention_step.state -> 'refused', '{}');
  v_table text := retention_step.state ->> 'table';
  v_after jsonb := retention_step.state -> 'after';
  v_rule eve.retention;
  v_changed text;
  v_count bigint := 0;
  v_frozen timestamptz;
  -- Something had to go for its size; whether that was enough is seen when it has gone.
  v_trims boolean := coalesce((retention_step.state ->> 'trims')::boolean, false);
begin
  if v_table is null then
    perform eve.make_partitions(retention_step.now_at);
    v_trims := eve.trim_audit(retention_step.now_at);
    select min(r.table_name) into v_table from eve.retention r;
    select p.frozen_before into v_frozen from eve.rollup_progress p;
    perform eve.freeze_sums(greatest(max(retention_step.now_at - r.keep), (select t.trimmed_before from eve.audit_trimmed t)))
    from eve.retention r
    where r.table_name in ('eve.requests', 'eve.attempts', 'eve.refusals', 'eve.refusal_counts');
    if exists (select from eve.rollup_progress p where p.frozen_before is distinct from v_frozen) then
      -- A step of its own, so that rollup does not wait for what is deleted afterwards.
      return jsonb_build_object(
        'done', false, 'count', 0,
        'state', jsonb_build_object('table', v_table, 'deleted', v_deleted, 'refused', v_refused, 'trims', v_trims)
      );
    end if;
  end if;
  while v_table is not null and v_changed is null loop
    select * into v_rule from eve.retention r where r.table_name = v_table;
    begin
      select b.deleted, b.next_after
      into v_count, v_after
      from eve.retention_batch(v_rule, retention_step.now_at, v_after) b;
    exception
      when integrity_constraint_violation or data_exception or raise_exception or insufficient_privilege then
        if v_table not like 'public.%' then
          raise;
        end if;
        v_refused := v_refused || jsonb_build_object(v_table, sqlerrm);
        v_count := 0;
        v_after := null;
    end;
    if v_count > 0 then
      v_changed := v_table;
      v_deleted := v_deleted || jsonb_build_object(v_table, coalesce((v_deleted ->> v_table)::bigint, 0) + v_count);
    end if;
    if v_after is null then
      select min(r.table_name) into v_table from eve.retention r where r.table_name > v_table;
    end if;
  end loop;
  return jsonb_build_object(
    'done', v_table is null and not v_trims, 'count', v_count, 'tables', array_remove(array[v_changed], null),
    'details', jsonb_build_object('deleted', v_deleted),
    'error', case
      when v_table is null and not v_trims and v_refused <> '{}' then (
        select string_agg(format('%s keeps its rows: %s', r.key, r.value), '; ' order by r.key)
          || '. Mend that, or set keep to null in eve.retention.'
        from jsonb_each_text(v_refused) r
      )
    end,
    'state', jsonb_strip_nulls(jsonb_build_object('table', v_table, 'after', v_after))
      || jsonb_build_object('deleted', v_deleted, 'refused', v_refused, 'trims', v_trims and v_table is not null)
  );
end;
$function$;

-- usage_sums ----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.usage_rows(from_at timestamp with time zone, until_at timestamp with time zone)
 RETURNS TABLE(source text, number bigint, attempt smallint, slice timestamp with time zone, consumer_id uuid, model text, key_id uuid, endpoint text, requests bigint, succeeded bigint, failed bigint, cancelled bigint, expired bigint, refused bigint, attempts bigint, dispatched bigint, upstream_refused bigint, input_tokens bigint, output_tokens bigint, thoughts_tokens bigint, cached_tokens bigint, wait_ms bigint, latency_ms bigint)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  v_slice constant interval := '20 seconds';
  -- Once, and not for every row that is compared with them.
  v_from_ms constant bigint := floor(extract(epoch from usage_rows.from_at) * 1000);
  v_until_ms constant bigint := floor(extract(epoch from usage_rows.until_at) * 1000);
begin
  return query
  select 'requests'::text, r.request_no, 0::smallint, date_bin(v_slice, r.received_at, 'epoch'), r.consumer_id, left(r.model, 200),
    coalesce(r.key_id, v_nobody), left(r.endpoint, 40), 1::bigint, (r.state = 'succeeded')::integer::bigint,
    (r.state = 'failed')::integer::bigint, (r.state = 'cancelled')::integer::bigint, (r.state = 'expired')::integer::bigint,
    0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, r.wait_ms, 0::bigint
  from eve.requests r
  where r.received_at >= usage_rows.from_at and r.received_at < usage_rows.until_at
  union all
  select 'attempts', a.request_no, a.attempt, date_bin(v_slice, to_timestamp(a.start_ms / 1000.0), 'epoch'),
    coalesce(a.consumer_id, r.consumer_id), left(a.model, 200), a.key_id, left(coalesce(a.endpoint, r.endpoint), 40), 0, 0, 0, 0, 0, 0, 1, a.dispatched::integer,
    coalesce(a.upstream_status = 429, false)::integer, coalesce(a.input_tokens, 0), coalesce(a.output_tokens, 0),
    coalesce(a.thoughts_tokens, 0), coalesce(a.cached_tokens, 0), 0, coalesce(a.latency_ms, 0)
  from eve.attempts a
  -- The attempts of a request count once it has ended, when it is known whose they were. Those before the last are looked up one
  -- by one: any other way reads a table of millions for some thousand rows of it.
  left join lateral (
    select q.consumer_id, q.endpoint from eve.requests q where a.consumer_id is null and q.request_no = a.request_no offset 0
  ) r on true
  where a.start_ms >= v_from_ms and a.start_ms < v_until_ms and coalesce(a.consumer_id, r.consumer_id) is not null
  union all
  select 'refusals', f.id, 0::smallint, date_bin(v_slice, f.refused_at, 'epoch'), coalesce(f.consumer_id, v_nobody),
    coalesce(m.model, '(unknown)'), v_nobody, left(f.endpoint, 40), 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
  from eve.refusals f
  left join public.google_ai_model_limits m on m.model = f.model
  where f.refused_at >= usage_rows.from_at and f.refused_at < usage_rows.until_at
  union all
  select 'refusal_counts', c.id, 0::smallint, c.minute, c.consumer_id, coalesce(m.model, '(unknown)'), v_nobody, c.endpoint,
    0, 0, 0, 0, 0, c.times, 0, 0, 0, 0, 0, 0, 0, 0, 0
  from eve.refusal_counts c
  left join public.google_ai_model_limits m on m.model = c.model
  where c.minute >= usage_rows.from_at and c.minute < usage_rows.until_at;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.written_slices(from_at timestamp with time zone, until_at timestamp with time zone)
 RETURNS TABLE(slice timestamp with time zone)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_slice constant interval := '20 seconds';
begin
  return query
  select date_bin(v_slice, r.received_at, 'epoch')
  from eve.requests r
  where r.finished_at >= written_slices.from_at and r.finished_at < written_slices.until_at
  union
  select date_bin(v_slice, to_timestamp(r.start_ms / 1000.0), 'epoch')
  from eve.requests r
  where r.finished_at >= written_slices.from_at and r.finished_at < written_slices.until_at and r.start_ms is not null
  union
  select date_bin(v_slice, to_timestamp(e.start_ms / 1000.0), 'epoch')
  from eve.requests r
  -- Looked up one by one, as in eve.usage_rows.
  cross join lateral (select t.start_ms from eve.earlier_attempts t where t.request_no = r.request_no offset 0) e
  where r.finished_at >= written_slices.from_at and r.finished_at < written_slices.until_at
    and (r.attempts > 1 or r.lane_id is null)
  union
  select date_bin(v_slice, late.at, 'epoch')
  from eve.requests r
  cross join lateral (values (r.received_at), (to_timestamp(r.start_ms / 1000.0))) as late (at)
  where r.settled_at >= written_slices.from_at and r.settled_at < written_slices.until_at
  union
  select date_bin(v_slice, f.refused_at, 'epoch')
  from eve.refusals f
  where f.refused_at >= written_slices.from_at and f.refused_at < written_slices.until_at
  union
  -- Counted until their minute is over.
  select c.minute
  from eve.refusal_counts c
  where c.minute >= written_slices.from_at - interval '1 minute' and c.minute < written_slices.until_at;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.rollup_reach(from_at timestamp with time zone, until_at timestamp with time zone, unit interval, written boolean)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_indexscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_most constant integer := 15000;
  v_reach interval := rollup_reach.unit;
  v_until timestamptz := rollup_reach.from_at;
  v_next timestamptz;
  v_until_ms bigint;
  v_next_ms bigint;
  v_rows bigint := 0;
begin
  while v_until < rollup_reach.until_at loop
    v_next := least(rollup_reach.from_at + v_reach, rollup_reach.until_at);
    if rollup_reach.written then
      select v_rows + (select count(*) from (
          select from eve.requests r where r.finished_at >= v_until and r.finished_at < v_next limit v_most
        ) q) + (select count(*) from (
          select from eve.attempts a where a.settled_at >= v_until and a.settled_at < v_next limit v_most
        ) q) + (select count(*) from (
          select from eve.refusals f where f.refused_at >= v_until and f.refused_at < v_next limit v_most
        ) q)
      into v_rows;
    else
      v_until_ms := floor(extract(epoch from v_until) * 1000);
      v_next_ms := floor(extract(epoch from v_next) * 1000);
      select v_rows + (select count(*) from (
          select from eve.requests r where r.received_at >= v_until and r.received_at < v_next limit v_most
        ) q) + (select count(*) from (
          select from eve.attempts a where a.start_ms >= v_until_ms and a.start_ms < v_next_ms limit v_most
        ) q) + (select count(*) from (
          select from eve.refusals f where f.refused_at >= v_until and f.refused_at < v_next limit v_most
        ) q)
      into v_rows;
    end if;
    exit when v_rows > v_most and v_until > rollup_reach.from_at;
    v_until := v_next;
    exit when v_rows > v_most;
    v_reach := v_reach * 3;
  end loop;
  return v_until;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.roll_slices(from_at timestamp with time zone, until_at timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_count bigint;
begin
  with fresh as materialized (
    select u.slice, u.consumer_id, u.model, u.key_id, u.endpoint, sum(u.requests) as requests, sum(u.succeeded) as succeeded,
      sum(u.failed) as failed, sum(u.cancelled) as cancelled, sum(u.expired) as expired, sum(u.refused) as refused,
      sum(u.attempts) as attempts, sum(u.dispatched) as dispatched, sum(u.upstream_refused) as upstream_refused,
      sum(u.input_tokens) as input_tokens, sum(u.output_tokens) as output_tokens, sum(u.thoughts_tokens) as thoughts_tokens,
      sum(u.cached_tokens) as cached_tokens, sum(u.wait_ms) as wait_ms, sum(u.latency_ms) as latency_ms
    from eve.usage_rows(roll_slices.from_at, roll_slices.until_at) u
    where not exists (
      select
      from eve.rollup_set_aside b
      where b.source = u.source and b.number = u.number and b.attempt = u.attempt
    )
    group by u.slice, u.consumer_id, u.model, u.key_id, u.endpoint
  ), gone as (
    delete from eve.usage_slices s
    where s.slice >= roll_slices.from_at and s.slice < roll_slices.until_at
      and not exists (
        select
        from fresh f
        where f.slice = s.slice and f.consumer_id = s.consumer_id and f.model = s.model and f.key_id = s.key_id
          and f.endpoint = s.endpoint
      )
    returning 1
  ), changed as (
    insert into eve.usage_slices as s (
      slice, consumer_id, model, key_id, endpoint, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
      upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
    )
    select f.slice, f.consumer_id, f.model, f.key_id, f.endpoint, f.requests, f.succeeded, f.failed, f.cancelled, f.expired,
      f.refused, f.attempts, f.dispatched, f.upstream_refused, f.input_tokens, f.output_tokens, f.thoughts_tokens,
      f.cached_tokens, f.wait_ms, f.latency_ms
    from fresh f
    on conflict on constraint usage_slices_pkey do update
    set requests = excluded.requests, succeeded = excluded.succeeded, failed = excluded.failed,
      cancelled = excluded.cancelled, expired = excluded.expired, refused = excluded.refused, attempts = excluded.attempts,
      dispatched = excluded.dispatched, upstream_refused = excluded.upstream_refused, input_tokens = excluded.input_tokens,
      output_tokens = excluded.output_tokens, thoughts_tokens = excluded.thoughts_tokens,
      cached_tokens = excluded.cached_tokens, wait_ms = excluded.wait_ms, latency_ms = excluded.latency_ms
    -- Most of what is looked at again has not changed.
    where s is distinct from excluded
    returning 1
  )
  select (select count(*) from gone) + (select count(*) from changed) into v_count;
  return v_count;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.set_aside(slice timestamp with time zone)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_row record;
  v_count integer := 0;
begin
  delete from eve.usage_slices s where s.slice = set_aside.slice;
  for v_row in
    select u.*
    from eve.usage_rows(set_aside.slice, set_aside.slice + interval '20 seconds') u
    where not exists (
      select
      from eve.rollup_set_aside b
      where b.source = u.source and b.number = u.number and b.attempt = u.attempt
    )
    order by u.source, u.number, u.attempt
  loop
    begin
      insert into eve.usage_slices as s
      values (
        v_row.slice, v_row.consumer_id, v_row.model, v_row.key_id, v_row.endpoint, v_row.requests, v_row.succeeded, v_row.failed,
        v_row.cancelled, v_row.expired, v_row.refused, v_row.attempts, v_row.dispatched, v_row.upstream_refused,
        v_row.input_tokens, v_row.output_tokens, v_row.thoughts_tokens, v_row.cached_tokens, v_row.wait_ms, v_row.latency_ms
      )
      on conflict on constraint usage_slices_pkey do update
      set requests = s.requests + excluded.requests, succeeded = s.succeeded + excluded.succeeded,
        failed = s.failed + excluded.failed, cancelled = s.cancelled + excluded.cancelled,
        expired = s.expired + excluded.expired, refused = s.refused + excluded.refused,
        attempts = s.attempts + excluded.attempts, dispatched = s.dispatched + excluded.dispatched,
        upstream_refused = s.upstream_refused + excluded.upstream_refused,
        input_tokens = s.input_tokens + excluded.input_tokens, output_tokens = s.output_tokens + excluded.output_tokens,
        thoughts_tokens = s.thoughts_tokens + excluded.thoughts_tokens,
        cached_tokens = s.cached_tokens + excluded.cached_tokens, wait_ms = s.wait_ms + excluded.wait_ms,
        latency_ms = s.latency_ms + excluded.latency_ms;
    exception
      when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
        insert into eve.rollup_set_aside (source, number, attempt, slice, error, set_aside_at)
        values (v_row.source, v_row.number, v_row.attempt, set_aside.slice, left(sqlerrm, 500), eve.clock())
        on conflict do nothing;
        v_count := v_count + 1;
    end;
  end loop;
  return v_count;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.roll_hour(hour timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  v_count bigint;
begin
  delete from eve.usage_hours h where h.hour = roll_hour.hour;
  insert into eve.usage_hours (
    hour, consumer_id, model, key_id, endpoint, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
    upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
  )
  select roll_hour.hour, nullif(s.consumer_id, v_nobody), s.model, nullif(s.key_id, v_nobody), s.endpoint, sum(s.requests),
    sum(s.succeeded), sum(s.failed), sum(s.cancelled), sum(s.expired), sum(s.refused), sum(s.attempts), sum(s.dispatched),
    sum(s.upstream_refused), sum(s.input_tokens), sum(s.output_tokens), sum(s.thoughts_tokens), sum(s.cached_tokens),
    sum(s.wait_ms), sum(s.latency_ms)
  from eve.usage_slices s
  where s.slice >= roll_hour.hour and s.slice < roll_hour.hour + interval '1 hour'
  group by s.consumer_id, s.model, s.key_id, s.endpoint;
  get diagnostics v_count = row_count;
  return v_count;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.roll_day(day date)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_from constant timestamptz := roll_day.day::timestamp at time zone 'America/Los_Angeles';
  v_until constant timestamptz := (roll_day.day + 1)::timestamp at time zone 'America/Los_Angeles';
  v_count bigint;
begin
  delete from eve.usage_days d where d.day = roll_day.day;
  insert into eve.usage_days (
    day, consumer_id, model, key_id, endpoint, requests, succeeded, failed, cancelled, expired, refused, attempts, dispatched,
    upstream_refused, input_tokens, output_tokens, thoughts_tokens, cached_tokens, wait_ms, latency_ms
  )
  select roll_day.day, h.consumer_id, h.model, h.key_id, h.endpoint, sum(h.requests), sum(h.succeeded), sum(h.failed),
    sum(h.cancelled), sum(h.expired), sum(h.refused), sum(h.attempts), sum(h.dispatched), sum(h.upstream_refused),
    sum(h.input_tokens), sum(h.output_tokens), sum(h.thoughts_tokens), sum(h.cached_tokens), sum(h.wait_ms),
    sum(h.latency_ms)
  from eve.usage_hours h
  where h.hour >= v_from and h.hour < v_until
  group by h.consumer_id, h.model, h.key_id, h.endpoint;
  get diagnostics v_count = row_count;
  return v_count;
end;
$function$;

-- rollup --------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.first_whole_hour(frozen_before timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case
    when first_whole_hour.frozen_before is null then '-infinity'
    else to_timestamp(ceil(extract(epoch from first_whole_hour.frozen_before) / 3600) * 3600)
  end;
$function$;

CREATE OR REPLACE FUNCTION eve.freeze_sums(before timestamp with time zone, sums text DEFAULT 'hours'::text)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_lock_timeout constant text := current_setting('lock_timeout');
  v_progress eve.rollup_progress;
  v_before timestamptz := freeze_sums.before;
  v_frozen timestamptz;
begin
  select * into v_progress from eve.rollup_progress p;
  if v_before is null or freeze_sums.sums = 'hours' and v_progress.rolled_until is null then
    return null;
  end if;
  if freeze_sums.sums = 'hours' then
    v_before := least(v_before, v_progress.rolled_until - interval '1 hour');
    v_frozen := v_progress.frozen_before;
  else
    v_frozen := v_progress.hours_frozen_before;
  end if;
  if v_frozen >= v_before then
    return v_before;
  end if;
  begin
    perform set_config('lock_timeout', '2s', true);
    if freeze_sums.sums = 'hours' then
      -- As long as nobody has taken the sums back meanwhile.
      update eve.rollup_progress p
      set frozen_before = greatest(p.frozen_before, v_before)
      where p.rolled_until - interval '1 hour' >= v_before;
    else
      update eve.rollup_progress p set hours_frozen_before = greatest(p.hours_frozen_before, v_before);
    end if;
    if not found then
      v_before := v_frozen;
    end if;
  exception
    when lock_not_available then
      v_before := v_frozen;
  end;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return v_before;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.note_due(from_at timestamp with time zone, until_at timestamp with time zone, progress eve.rollup_progress)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_slice constant interval := '20 seconds';
begin
  with touched as materialized (
    select w.slice, date_trunc('hour', w.slice, 'UTC') as hour
    from eve.written_slices(note_due.from_at, note_due.until_at) w
    where date_trunc('hour', w.slice, 'UTC') >= eve.first_whole_hour((progress).frozen_before)
  ), hours as materialized (
    select t.hour, max(t.slice) as last_slice,
      exists (
        select
        from eve.usage_slices s
        where s.slice >= t.hour and s.slice < t.hour + interval '1 hour'
      ) as has_slices
    from touched t
    group by t.hour
  )
  insert into eve.rollup_due as d (unit, at)
  select 'slice', t.slice
  from touched t
  union
  select 'slice', generate_series(h.hour, least(h.hour + interval '1 hour' - v_slice, greatest(h.last_slice, note_due.until_at)), v_slice)
  from hours h
  where not h.has_slices
  union
  select 'hour', h.hour
  from hours h
  order by 1, 2
  on conflict (unit, at) do update
  set failed_at = null, error = null
  where d.failed_at is not null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.roll_due_slices(from_at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_slice constant interval := '20 seconds';
  v_until timestamptz;
  v_count bigint;
begin
  select max(d.at) + v_slice into v_until
  from eve.rollup_due d
  where d.unit = 'slice' and d.at >= roll_due_slices.from_at
    and d.at < date_trunc('hour', roll_due_slices.from_at, 'UTC') + interval '1 hour';
  v_until := eve.rollup_reach(roll_due_slices.from_at, v_until, v_slice, false);
  while v_count is null loop
    begin
      v_count := eve.roll_slices(roll_due_slices.from_at, v_until);
    exception
      when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
        if v_until - roll_due_slices.from_at <= v_slice then
          perform eve.set_aside(roll_due_slices.from_at);
          v_count := 1;
        else
          v_until := roll_due_slices.from_at
            + greatest(v_slice, date_bin(v_slice, roll_due_slices.from_at + (v_until - roll_due_slices.from_at) / 2, roll_due_slices.from_at) - roll_due_slices.from_at);
        end if;
    end;
  end loop;
  return jsonb_build_object('count', v_count, 'until', v_until);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.roll_next(progress eve.rollup_progress, now_at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Late settlements come in this time, but for a few.
  v_keeps_slices constant interval := '3 hours';
  v_unit text;
  v_at timestamptz;
  v_rolled jsonb;
  v_count bigint := 0;
begin
  foreach v_unit in array array['slice', 'hour', 'day'] loop
    select d.at into v_at
    from eve.rollup_due d
    where d.unit = v_unit and d.failed_at is null
    order by d.at
    limit 1;
    exit when found;
  end loop;
  if v_at is null then
    return null;
  end if;
  if v_unit = 'slice' then
    v_rolled := '{}';
    if date_trunc('hour', v_at, 'UTC') >= eve.first_whole_hour((progress).frozen_before) then
      v_rolled := eve.roll_due_slices(v_at);
      v_count := (v_rolled ->> 'count')::bigint;
    end if;
    delete from eve.rollup_due d
    where d.unit = 'slice' and d.at >= v_at and d.at < coalesce((v_rolled ->> 'until')::timestamptz, v_at + interval '20 seconds');
  else
    begin
      if v_unit = 'hour' and v_at >= eve.first_whole_hour((progress).frozen_before) then
        v_count := eve.roll_hour(v_at);
        insert into eve.rollup_due (unit, at)
        values (
          'day', eve.pacific_day((extract(epoch from v_at) * 1000)::bigint)::timestamp at time zone 'America/Los_Angeles'
        )
        on conflict (unit, at) do update set failed_at = null, error = null;
        if v_at + interval '1 hour' <= roll_next.now_at - v_keeps_slices then
          delete from eve.usage_slices s where s.slice >= v_at and s.slice < v_at + interval '1 hour';
        end if;
      -- A day whose hours are partly gone keeps the sum it has.
      elsif v_unit = 'day' and v_at >= coalesce((progress).hours_frozen_before, '-infinity') then
        v_count := eve.roll_day((v_at at time zone 'America/Los_Angeles')::date);
      end if;
      delete from eve.rollup_due d where d.unit = v_unit and d.at = v_at;
    exception
      when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception then
        update eve.rollup_due d
        set failed_at = roll_next.now_at, error = left(sqlerrm, 500)
        where d.unit = v_unit and d.at = v_at;
    end;
  end if;
  return jsonb_build_object('count', v_count, 'unit', v_unit);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.rollup_done(until_at timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_keeps_slices constant interval := '3 hours';
  v_rows bigint;
  v_due bigint;
  v_error text;
begin
  update eve.rollup_progress p set rolled_until = greatest(p.rolled_until, rollup_done.until_at);
  delete from eve.usage_slices s
  where s.slice < date_trunc('hour', rollup_done.until_at - v_keeps_slices, 'UTC')
    and not exists (
      select
      from eve.rollup_due d
      where d.unit = 'hour' and d.at = date_trunc('hour', s.slice, 'UTC')
    );
  select count(*), min(b.error) into v_rows, v_error from eve.rollup_set_aside b;
  select count(*), coalesce(v_error, min(d.error)) into v_due, v_error from eve.rollup_due d where d.failed_at is not null;
  if v_rows + v_due > 0 then
    perform eve.open_alert(
      'rollup_set_aside', 'eve.usage_hours', 'warning',
      format('%s rows of the audit and %s hours and days are not in the sums: %s', v_rows, v_due, v_error)
    );
  else
    perform eve.end_alerts(array['rollup_set_aside'], '');
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.rollup_step(state jsonb, now_at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Settlements write their time before they commit. None takes as long as this: the platform cancels it before.
  v_overlap constant interval := '15 minutes';
  -- How much of the audit is looked through at once, should little be in it.
  v_stretch constant interval := '6 hours';
  -- A step begins nothing more after so long. What it has begun takes some hundred milliseconds.
  v_step_time constant interval := '200 milliseconds';
  v_instant constant interval := '1 microsecond';
  v_began constant timestamptz := clock_timestamp();
  v_looked timestamptz := (rollup_step.state ->> 'looked')::timestamptz;
  v_hours integer := coalesce((rollup_step.state ->> 'summed')::integer, 0);
  v_progress eve.rollup_progress;
  v_rolled jsonb;
  v_until timestamptz;
  v_count bigint := 0;
  v_done boolean := false;
begin
  select * into v_progress from eve.rollup_progress p for update;
  if v_looked is null then
    update eve.rollup_due d set failed_at = null where d.failed_at <= rollup_step.now_at - interval '1 hour';
  end if;
  -- From where it has been looked through for good; also where somebody has taken the sums back meanwhile, or the clock has gone back.
  if v_looked is null or v_progress.looked_until is distinct from (rollup_step.state ->> 'looked_until')::timestamptz then
    v_looked := least(v_progress.looked_until, rollup_step.now_at - v_overlap);
  end if;
  if v_progress.looked_until is null then
    -- The first rows by number are nearly the oldest.
    select least(
      (select r.finished_at from eve.requests r order by r.request_no limit 1),
      (select e.settled_at from eve.earlier_attempts e order by e.request_no, e.attempt limit 1),
      (select f.refused_at from eve.refusals f order by f.id limit 1), (select min(c.minute) from eve.refusal_counts c),
      rollup_step.now_at
    ) - interval '2 days'
    into v_looked;
  end if;
  while not v_done and clock_timestamp() - v_began < v_step_time loop
    v_rolled := eve.roll_next(v_progress, rollup_step.now_at);
    if v_rolled is not null then
      v_count := v_count + (v_rolled ->> 'count')::bigint;
      v_hours := v_hours + case v_rolled ->> 'unit' when 'hour' then 1 else 0 end;
    elsif v_looked <= rollup_step.now_at then
      -- What bears this very instant too.
      v_until := least(v_looked + v_stretch, rollup_step.now_at + v_instant);
      v_until := eve.rollup_reach(v_looked, v_until, '5 seconds', true);
      perform eve.note_due(v_looked, v_until, v_progress);
      v_looked := v_until;
      update eve.rollup_progress p
      set looked_until = greatest(p.looked_until, least(v_looked, rollup_step.now_at - v_overlap))
      returning * into v_progress;
    else
      perform eve.rollup_done(rollup_step.now_at);
      v_done := true;
    end if;
  end loop;
  return jsonb_build_object(
    'done', v_done, 'count', v_count, 'tables', array['eve.usage_days', 'eve.usage_hours'],
    'details', jsonb_strip_nulls(
      jsonb_build_object('hours_summed', v_hours, 'rolled_until', case when v_done then rollup_step.now_at end)
    ),
    'state', jsonb_build_object('looked', v_looked, 'looked_until', v_progress.looked_until, 'summed', v_hours)
  );
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_rollup(at_most_ms integer DEFAULT 5000)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_began constant timestamptz := clock_timestamp();
  v_run constant jsonb := eve.begin_run('rollup', 'call');
  v_step jsonb;
begin
  while v_run ->> 'status' = 'running' loop
    v_step := eve.step_run((v_run ->> 'run_id')::bigint);
    exit when (v_step ->> 'done')::boolean;
    if clock_timestamp() - v_began > eve_rollup.at_most_ms * interval '1 millisecond' then
      perform public.eve_maintenance_end(
        (v_run ->> 'run_id')::bigint, 'succeeded', array(select jsonb_array_elements_text(v_step -> 'tables')),
        (v_step ->> 'count')::bigint, v_step -> 'details', more => true
      );
      exit;
    end if;
  end loop;
  return jsonb_strip_nulls(
    jsonb_build_object(
      'status', coalesce(v_step ->> 'status', v_run ->> 'status'), 'error', v_step ->> 'error',
      'rolled_until', (select p.rolled_until from eve.rollup_progress p)
    )
  );
end;
$function$;
comment on function public.eve_rollup is 'Sums up what the audit has gained since the last rollup. Says skipped while another rollup is on, and running when it did not come to the end.';

CREATE OR REPLACE FUNCTION public.eve_rollup_rebuild(since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_progress eve.rollup_progress;
  v_from timestamptz;
begin
  if eve_rollup_rebuild.since is null then
    raise exception 'since must be a time' using errcode = 'EV400';
  end if;
  select * into v_progress from eve.rollup_progress p for update;
  v_from := greatest(
    eve.first_whole_hour(v_progress.frozen_before), date_trunc('hour', eve_rollup_rebuild.since, 'UTC')
  );
  delete from eve.rollup_due d where d.at >= v_from;
  delete from eve.rollup_set_aside b where b.slice >= v_from;
  delete from eve.usage_slices s where s.slice >= v_from;
  delete from eve.usage_hours h where h.hour >= v_from;
  delete from eve.usage_days d
  where d.day::timestamp at time zone 'America/Los_Angeles' >= greatest(v_from, v_progress.hours_frozen_before);
  update eve.rollup_progress p set looked_until = nullif(v_from, '-infinity'), rolled_until = nullif(v_from, '-infinity');
  return jsonb_build_object('from', nullif(v_from, '-infinity'));
end;
$function$;
comment on function public.eve_rollup_rebuild is 'Has the hourly and daily sums made again from the audit, as far back as the audit goes.';

-- report --------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.report_of(day date)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET jit TO 'off'
AS $function$
declare
  v_from constant timestamptz := report_of.day::timestamp at time zone 'America/Los_Angeles';
  v_until constant timestamptz := (report_of.day + 1)::timestamp at time zone 'America/Los_Angeles';
  v_from_ms constant bigint := floor(extract(epoch from v_from) * 1000)::bigint;
  v_until_ms constant bigint := floor(extract(epoch from v_until) * 1000)::bigint;
begin
  return jsonb_build_object(
    'day', report_of.day, 'from', v_from, 'until', v_until,
    'total', (
      select jsonb_build_object(
        'requests', coalesce(sum(d.requests), 0), 'succeeded', coalesce(sum(d.succeeded), 0),
        'failed', coalesce(sum(d.failed), 0), 'cancelled', coalesce(sum(d.cancelled), 0),
        'expired', coalesce(sum(d.expired), 0), 'refused', coalesce(sum(d.refused), 0),
        'attempts', coalesce(sum(d.attempts), 0), 'upstream_refused', coalesce(sum(d.upstream_refused), 0),
        'input_tokens', coalesce(sum(d.input_tokens), 0), 'output_tokens', coalesce(sum(d.output_tokens), 0),
        'thoughts_tokens', coalesce(sum(d.thoughts_tokens), 0)
      )
      from eve.usage_days d
      where d.day = report_of.day
    ),
    'consumers', (
      select coalesce(jsonb_agg(to_jsonb(t) order by t.input_tokens + t.output_tokens desc, t.consumer), '[]')
      from (
        select coalesce(c.name, d.consumer_id::text, 'project') as consumer, sum(d.requests) as requests,
          sum(d.succeeded) as succeeded, sum(d.refused) as refused, sum(d.input_tokens) as input_tokens,
          sum(d.output_tokens) as output_tokens
        from eve.usage_days d
        left join eve.consumers c on c.id = d.consumer_id
        where d.day = report_of.day
        group by 1
        order by sum(d.input_tokens + d.output_tokens) desc
        limit 20
      ) t
    ),
    'lanes', (
      -- Calls against what a quota project may make in a day.
      select coalesce(jsonb_agg(to_jsonb(t) order by t.model, t.quota_project), '[]')
      from (
        select k.quota_key as quota_project, d.model, sum(d.dispatched) as calls, sum(d.input_tokens) as input_tokens,
          case when o.quota_project is not null then o.rpd else m.rpd end as calls_allowed
        from eve.usage_days d
        join public.google_ai_api_keys k on k.id = d.key_id
        left join public.google_ai_model_limits m on m.model = d.model
        left join eve.quota_overrides o on o.quota_project = k.quota_key and o.model = d.model
        where d.day = report_of.day
        group by k.quota_key, d.model, o.quota_project, o.rpd, m.rpd
        having sum(d.dispatched) > 0
      ) t
    ),
    'refusals', (
      select coalesce(jsonb_object_agg(t.reason, t.times), '{}')
      from (
        select one.reason, sum(one.times) as times
        from (
          select f.code || coalesce(':' || f.limit_name, '') as reason, 1 as times
          from eve.refusals f
          where f.refused_at >= v_from and f.refused_at < v_until
          union all
          select c.code || coalesce(':' || nullif(c.limit_name, ''), ''), c.times
          from eve.refusal_counts c
          where c.minute >= v_from and c.minute < v_until
        ) one
        group by 1
      ) t
    ),
    'failures', (
      select coalesce(jsonb_object_agg(t.code, t.times), '{}')
      from (
        select coalesce(r.error_code, 'unknown') as code, count(*) as times
        from eve.requests r
        where r.received_at >= v_from and r.received_at < v_until and r.state in ('failed', 'expired')
        group by 1
      ) t
    ),
    'wait_ms', (
      select jsonb_build_object(
        'p50', percentile_disc(0.5) within group (order by r.wait_ms),
        'p95', percentile_disc(0.95) within group (order by r.wait_ms), 'max', max(r.wait_ms)
      )
      from eve.requests r
      where r.received_at >= v_from and r.received_at < v_until
    ),
    'latency_ms', (
      select jsonb_build_object(
        'p50', percentile_disc(0.5) within group (order by a.latency_ms),
        'p95', percentile_disc(0.95) within group (order by a.latency_ms), 'max', max(a.latency_ms)
      )
      from eve.attempts a
      where a.start_ms >= v_from_ms and a.start_ms < v_until_ms and a.dispatched and a.outcome = 'succeeded'
    ),
    'alerts', (
      select jsonb_build_object(
        'opened', count(*) filter (where a.opened_at >= v_from and a.opened_at < v_until),
        'open', count(*) filter (where a.closed_at is null)
      )
      from eve.alerts a
    ),
    'maintenance_failed', (
      select count(*)
      from public.google_ai_maintenance_log m
      where m.started_at >= v_from and m.started_at < v_until and m.status = 'failed'
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.report_step()
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'done', true, 'count', 0, 'tables', '{}'::text[], 'details', eve.report_of(eve.pacific_day(eve.clock_ms()) - 1)
  );
$function$;

CREATE OR REPLACE FUNCTION public.eve_report(day date DEFAULT NULL::date)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select eve.report_of(coalesce(eve_report.day, eve.pacific_day(eve.clock_ms()) - 1));
$function$;
comment on function public.eve_report is 'A Pacific day in numbers; without one, yesterday.';

-- key_checks ----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.reason_may_pass(reason text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select coalesce(reason_may_pass.reason in ('secret_missing', 'service_disabled', 'key_restricted'), false);
$function$;

CREATE OR REPLACE FUNCTION eve.provider_name(provider text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case
    when coalesce(lower(provider_name.provider), 'google') in ('google', 'google_ai', 'google-ai', 'gemini') then 'google'
    else lower(provider_name.provider)
  end;
$function$;

CREATE OR REPLACE FUNCTION eve.key_was_rejected(key public.google_ai_api_keys)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select (key_was_rejected.key).is_active is not true
    and (key_was_rejected.key).blocked_until = 'infinity'
    and coalesce((key_was_rejected.key).blocked_reason, '') not in ('', 'secret_missing');
$function$;

CREATE OR REPLACE FUNCTION eve.rejected_hashes(key_id uuid)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(array_agg(r.secret_hash order by r.rejected_at, r.secret_hash), '{}')
  from eve.rejected_secrets r
  where r.key_id = rejected_hashes.key_id;
$function$;

CREATE OR REPLACE FUNCTION public.eve_key_checks()
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'alias', coalesce(k.key_alias, k.id::text), 'env_var_name', k.env_var_name,
        'provider', eve.provider_name(k.provider), 'is_active', coalesce(k.is_active, false),
        -- Of no interest with these secrets; null: of interest with any.
        'unless', case
          when not (k.is_active or eve.reason_may_pass(k.blocked_reason)) then to_jsonb(eve.rejected_hashes(k.id))
        end
      )
      order by k.priority, k.id
    ), '[]'
  )
  from public.google_ai_api_keys k
  where coalesce(k.env_var_name, '') not like 'stage:%'
    and (
      k.is_active or eve.reason_may_pass(k.blocked_reason)
      or (eve.key_was_rejected(k) and exists (select from eve.rejected_secrets r where r.key_id = k.id))
    );
$function$;
comment on function public.eve_key_checks is 'The keys that are worth asking about: those in use, those that are off for a reason that may pass, and, with other secrets than those it names, those that upstream rejected.';

CREATE OR REPLACE FUNCTION public.eve_key_checked(key_id uuid, outcome text, reason text DEFAULT NULL::text, detail text DEFAULT NULL::text, secret_hash text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Longer than from one check to the next, so that a key without a secret stays marked.
  v_missing_for constant interval := '40 minutes';
  v_now constant timestamptz := eve.clock();
  v_reason constant text := left(eve_key_checked.reason, 200);
  v_key record;
  v_rejected text[];
  v_change text := 'none';
begin
  if eve_key_checked.outcome is null
    or eve_key_checked.outcome not in ('works', 'rejected', 'secret_missing', 'unclear') then
    raise exception 'outcome must be works, rejected, secret_missing or unclear' using errcode = 'EV400';
  end if;
  -- Before the row, as statements that change it take it (eve.lock_routes).
  perform pg_advisory_xact_lock(eve.routes_lock());
  select coalesce(k.key_alias, k.id::text) as alias, coalesce(k.is_active, false) as is_active, k.blocked_until,
    k.blocked_reason, eve.key_was_rejected(k) as was_rejected
  into v_key
  from public.google_ai_api_keys k
  where k.id = eve_key_checked.key_id
  for no key update;
  if not found then
    delete from eve.key_checks c where c.key_id = eve_key_checked.key_id;
    delete from eve.key_models m where m.key_id = eve_key_checked.key_id;
    return jsonb_build_object('change', v_change);
  end if;
  v_rejected := eve.rejected_hashes(eve_key_checked.key_id);

  if eve_key_checked.outcome = 'works' then
    -- A key that is blocked and yet switched on was switched on by a person: what was said of it before is over. One that
    -- its owner switched off stays off, and so does one that was blamed for more than may pass since it was asked. What was
    -- rejected was a secret: another one that works is another key to upstream.
    if (v_key.is_active and v_key.blocked_until is not null)
      or (not v_key.is_active and eve.reason_may_pass(v_key.blocked_reason))
      or (v_key.was_rejected and v_rejected <> '{}' and eve_key_checked.secret_hash <> all (v_rejected)) then
      v_change := case when v_key.is_active and v_key.blocked_until <= v_now then 'none' else 'enabled' end;
      update public.google_ai_api_keys k
      set is_active = true, blocked_until = null, blocked_reason = null
      where k.id = eve_key_checked.key_id;
    end if;
    if v_key.is_active or v_change = 'enabled' then
      update eve.alerts a
      set closed_at = v_now
      where a.kind in ('key_disabled', 'secret_missing') and a.subject = eve_key_checked.key_id::text
        and a.closed_at is null;
      delete from eve.rejected_secrets r
      where r.key_id = eve_key_checked.key_id and r.secret_hash = eve_key_checked.secret_hash;
    end if;
  elsif eve_key_checked.outcome = 'rejected' and v_key.was_rejected then
    perform eve.remember_rejected_secret(eve_key_checked.key_id, eve_key_checked.secret_hash);
  elsif eve_key_checked.outcome = 'rejected' and v_key.is_active then
    v_change := 'disabled';
    perform eve.remember_rejected_secret(eve_key_checked.key_id, eve_key_checked.secret_hash);
    update public.google_ai_api_keys k
    set is_active = false, blocked_until = 'infinity', blocked_reason = coalesce(v_reason, 'key_invalid')
    where k.id = eve_key_checked.key_id;
    perform eve.open_alert(
      'key_disabled', eve_key_checked.key_id::text, 'critical',
      format('Key %s is not used: %s', v_key.alias, coalesce(v_reason, 'key_invalid'))
    );
  elsif eve_key_checked.outcome = 'secret_missing' and v_key.is_active
    and coalesce(v_key.blocked_until, '-infinity') < 'infinity' then
    v_change := case when v_key.blocked_until > v_now then 'none' else 'disabled' end;
    update public.google_ai_api_keys k
    set blocked_until = greatest(k.blocked_until, v_now + v_missing_for), blocked_reason = 'secret_missing'
    where k.id = eve_key_checked.key_id;
    perform eve.open_alert(
      'secret_missing', eve_key_checked.key_id::text, 'warning', format('Key %s is not used: secret_missing', v_key.alias)
    );
  end if;

  insert into eve.key_checks as c (key_id, checked_at, outcome, reason, detail, works_since)
  values (
    eve_key_checked.key_id, v_now, eve_key_checked.outcome, v_reason, left(eve_key_checked.detail, 500),
    case eve_key_checked.outcome when 'works' then v_now end
  )
  on conflict on constraint key_checks_pkey do update
  set checked_at = excluded.checked_at, outcome = excluded.outcome, reason = excluded.reason, detail = excluded.detail,
    -- A question that nobody answered says nothing against the key.
    works_since = case excluded.outcome
      when 'works' then coalesce(c.works_since, excluded.works_since)
      when 'unclear' then c.works_since
    end;
  return jsonb_build_object('change', v_change);
end;
$function$;
comment on function public.eve_key_checked is 'Takes down what a check of a key found: puts it out of use, or back into use where its reason has passed.';

CREATE OR REPLACE FUNCTION public.eve_models_seen(key_id uuid, models text[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_models constant text[] := array(select distinct left(u.model, 200) from unnest(eve_models_seen.models) as u (model));
  v_first boolean;
  v_appeared text[];
  v_vanished text[];
  v_unblocked text[];
begin
  if coalesce(cardinality(eve_models_seen.models), 0) not between 1 and 2000 then
    raise exception 'models must name 1 to 2000 models' using errcode = 'EV400';
  end if;
  -- Two who take down the list of one key at once.
  perform pg_advisory_xact_lock(hashtextextended('eve models ' || eve_models_seen.key_id::text, 0));
  v_first := not exists (select from eve.key_models m where m.key_id = eve_models_seen.key_id);
  v_appeared := array(
    select u.model
    from unnest(v_models) as u (model)
    where not exists (
      select
      from eve.key_models m
      where m.key_id = eve_models_seen.key_id and m.model = u.model and m.vanished_at is null
    )
    order by u.model
  );
  insert into eve.key_models as m (key_id, model, first_listed_at, last_listed_at)
  select eve_models_seen.key_id, u.model, v_now, v_now
  from unnest(v_models) as u (model)
  on conflict on constraint key_models_pkey do update set last_listed_at = excluded.last_listed_at, vanished_at = null;
  with gone as (
    update eve.key_models m
    set vanished_at = v_now
    where m.key_id = eve_models_seen.key_id and m.vanished_at is null and m.model <> all (v_models)
    returning m.model
  )
  select array_agg(g.model order by g.model) into v_vanished from gone g;
  -- A model that upstream did not find for this key, and now lists again.
  with back as (
    delete from eve.key_model_blocks b
    where not v_first and b.key_id = eve_models_seen.key_id and b.reason = 'model_not_found' and b.model = any (v_appeared)
    returning b.model
  ), closed as (
    update eve.alerts a
    set closed_at = v_now
    from back b
    where a.kind = 'model_unavailable' and a.subject = eve_models_seen.key_id::text || ' ' || b.model and a.closed_at is null
  )
  select array_agg(b.model order by b.model) into v_unblocked from back b;
  update eve.key_checks c set models_listed_at = v_now where c.key_id = eve_models_seen.key_id;
  return jsonb_build_object(
    -- All of them appear on a first list, which is no news.
    'appeared', case when v_first then '[]' else to_jsonb(v_appeared) end,
    'vanished', coalesce(to_jsonb(v_vanished), '[]'), 'unblocked', coalesce(to_jsonb(v_unblocked), '[]')
  );
end;
$function$;
comment on function public.eve_models_seen is 'Takes down the models that upstream lists for a key, and says what is new and what has gone.';

CREATE OR REPLACE FUNCTION public.eve_models_compared()
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_model record;
  v_vanished text[] := '{}';
  v_unlisted text[] := '{}';
begin
  for v_model in
    with listed as (
      select m.model, bool_or(m.vanished_at is null) as is_listed
      from eve.key_models m
      join public.google_ai_api_keys k on k.id = m.key_id and k.is_active
      group by m.model
    )
    select r.model, listed.is_listed,
      (
        select string_agg(old.model, ', ' order by old.model)
        from public.google_ai_model_limits old
        where old.replaced_by = r.model and old.is_active
      ) as serves_for
    from public.google_ai_model_limits r
    left join listed on listed.model = r.model
    where r.is_active and r.replaced_by is null and eve.provider_name(r.provider) = 'google'
      and exists (select from listed)
    order by r.model
  loop
    if v_model.is_listed is null then
      v_unlisted := v_unlisted || v_model.model;
    elsif not v_model.is_listed then
      v_vanished := v_vanished || v_model.model;
      perform eve.open_alert(
        'model_vanished', v_model.model, 'warning',
        format(
          'No key lists %s any more%s: set replaced_by in google_ai_model_limits, or is_active to false',
          v_model.model, coalesce(' (it serves for ' || v_model.serves_for || ' too)', '')
        )
      );
    end if;
  end loop;
  update eve.alerts a
  set closed_at = eve.clock()
  where a.kind = 'model_vanished' and a.closed_at is null and a.subject <> all (v_vanished)
    -- Those about stages are closed by anyone who opened them.
    and not starts_with(a.subject, 'stage:');
  return jsonb_build_object('vanished', to_jsonb(v_vanished), 'unlisted', to_jsonb(v_unlisted));
end;
$function$;
comment on function public.eve_models_compared is 'Says which models that should serve are on no key''s list, and opens and closes the alerts about them.';

CREATE OR REPLACE FUNCTION eve.remember_rejected_secret(key_id uuid, secret_hash text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- More than the secrets that instances run with at one time.
  v_kept constant integer := 20;
begin
  if remember_rejected_secret.secret_hash is null or remember_rejected_secret.secret_hash !~ '^[0-9a-f]{64}$' then
    return;
  end if;
  insert into eve.rejected_secrets as r (key_id, secret_hash, rejected_at)
  values (remember_rejected_secret.key_id, remember_rejected_secret.secret_hash, eve.clock())
  on conflict on constraint rejected_secrets_pkey do update set rejected_at = excluded.rejected_at;
  delete from eve.rejected_secrets r
  where r.key_id = remember_rejected_secret.key_id
    and r.secret_hash in (
      select o.secret_hash
      from eve.rejected_secrets o
      where o.key_id = remember_rejected_secret.key_id
      order by o.rejected_at desc, o.secret_hash
      offset v_kept
    );
end;
$function$;
comment on function eve.remember_rejected_secret is 'Keeps the hash of a secret that upstream rejected.';

CREATE OR REPLACE FUNCTION eve.key_switched_off()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  new.blocked_until := null;
  new.blocked_reason := null;
  return new;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.key_secrets_gone()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  delete from eve.rejected_secrets r where r.key_id = old.id;
  return null;
exception
  -- Anyone who may delete the key's row need not be let into schema eve. What stays says nothing of any secret in use.
  when insufficient_privilege then
    return null;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_keys_awaiting_secrets()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'alias', coalesce(k.key_alias, k.id::text), 'env_var_name', k.env_var_name,
        'rejected', to_jsonb(rejected.hashes)
      )
      order by k.priority, k.id
    ), '[]'
  )
  from public.google_ai_api_keys k
  cross join lateral (select eve.rejected_hashes(k.id) as hashes) rejected
  where k.env_var_name is not null and k.env_var_name not like 'stage:%'
    and (
      (eve.key_was_rejected(k) and rejected.hashes <> '{}')
      or (k.is_active and k.blocked_reason = 'secret_missing' and k.blocked_until > eve.clock())
    );
$function$;
comment on function public.eve_keys_awaiting_secrets is 'The keys that another secret would put into use again, with the hashes of those that upstream has rejected.';

CREATE OR REPLACE FUNCTION public.eve_key_secret_changed(key_id uuid, secret_hash text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_key public.google_ai_api_keys;
  v_rejected text[];
begin
  if eve_key_secret_changed.secret_hash is null or eve_key_secret_changed.secret_hash !~ '^[0-9a-f]{64}$' then
    raise exception 'secret_hash must be 64 hexadecimal digits' using errcode = 'EV400';
  end if;
  -- Before the row, as statements that change it take it (eve.lock_routes).
  perform pg_advisory_xact_lock(eve.routes_lock());
  select k.* into v_key
  from public.google_ai_api_keys k
  where k.id = eve_key_secret_changed.key_id
  for no key update;
  v_rejected := eve.rejected_hashes(eve_key_secret_changed.key_id);
  if eve_key_secret_changed.secret_hash = any (v_rejected) then
    return jsonb_build_object('change', 'none');
  end if;
  if eve.key_was_rejected(v_key) and v_rejected <> '{}' then
    -- Another secret may be of another project: which models it may use is to be seen.
    delete from eve.key_model_blocks b where b.key_id = eve_key_secret_changed.key_id;
  elsif not (v_key.is_active and v_key.blocked_reason = 'secret_missing' and v_key.blocked_until > eve.clock()) is true then
    return jsonb_build_object('change', 'none');
  end if;
  -- Its alerts are closed by the row's trigger.
  update public.google_ai_api_keys k
  set is_active = true, blocked_until = null, blocked_reason = null
  where k.id = eve_key_secret_changed.key_id;
  return jsonb_build_object('change', 'enabled');
end;
$function$;
comment on function public.eve_key_secret_changed is 'Puts a key into use again whose secret is another than those that upstream has rejected.';

-- alerts --------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.alert_setting(name text, fallback bigint)
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce((select s.value from eve.settings s where s.name = alert_setting.name), alert_setting.fallback);
$function$;

CREATE OR REPLACE FUNCTION eve.open_alert(kind text, subject text, severity text, message text)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  insert into eve.alerts as a (kind, subject, severity, message, opened_at, last_seen_at)
  values (
    open_alert.kind, left(open_alert.subject, 500), open_alert.severity, left(open_alert.message, 2000), eve.clock(), eve.clock()
  )
  on conflict (kind, subject) where closed_at is null do update
  set last_seen_at = excluded.last_seen_at, message = excluded.message, severity = excluded.severity;
$function$;

CREATE OR REPLACE FUNCTION eve.end_alerts(kinds text[], subject_begins text)
 RETURNS integer
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  with closed as (
    update eve.alerts a
    set closed_at = eve.clock()
    where a.closed_at is null and a.kind = any (end_alerts.kinds)
      and starts_with(a.subject, end_alerts.subject_begins)
    returning 1
  )
  select count(*)::integer from closed;
$function$;
comment on function eve.end_alerts is 'Closes the open alerts of some kinds whose subject begins like this.';

CREATE OR REPLACE FUNCTION eve.close_alerts(subject text, kinds text[])
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  update eve.alerts a
  set closed_at = now(), last_seen_at = now()
  where a.subject = close_alerts.subject and a.kind = any (close_alerts.kinds) and a.closed_at is null;
$function$;
comment on function eve.close_alerts is 'Closes what is over.';

CREATE OR REPLACE FUNCTION eve.key_switched_on()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if new.blocked_until is not distinct from old.blocked_until then
    new.blocked_until := null;
    new.blocked_reason := null;
  end if;
  return new;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.key_alerts_over()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform eve.end_alerts(
    case tg_op
      when 'DELETE' then array['key_disabled', 'secret_missing', 'model_unavailable']
      else array['key_disabled', 'secret_missing']
    end,
    old.id::text
  );
  return null;
exception
  -- Anyone who may write the key's row need not be let into schema eve: the next evaluation sees it as well.
  when insufficient_privilege then
    return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.alert_deleted()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  delete from eve.alert_deliveries d where d.alert_id = old.id;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.alert_keys(missing_secrets uuid[])
 RETURNS TABLE(kind text, subject text, severity text, message text, details jsonb)
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select 'key_disabled', k.id::text,
    case when k.is_active and k.blocked_until < 'infinity' then 'warning' else 'critical' end,
    format('Key %s is not used: %s', coalesce(k.key_alias, k.id::text), k.blocked_reason),
    jsonb_build_object('key_alias', k.key_alias, 'quota_project', k.quota_project, 'reason', k.blocked_reason)
  from public.google_ai_api_keys k
  where k.blocked_reason <> 'secret_missing' and (k.is_active is not true or k.blocked_until > eve.clock())
  union all
  select 'secret_missing', k.id::text, 'warning',
    format('Key %s is not used: there is no secret named %s', coalesce(k.key_alias, k.id::text), coalesce(k.env_var_name, '(env_var_name is empty)')),
    jsonb_build_object('key_alias', k.key_alias, 'quota_project', k.quota_project, 'env_var_name', k.env_var_name)
  from public.google_ai_api_keys k
  where k.is_active
    and (k.id = any (alert_keys.missing_secrets) or (k.blocked_reason = 'secret_missing' and k.blocked_until > eve.clock()))
  union all
  select 'model_unavailable', b.key_id::text || ' ' || b.model, 'warning',
    format('Key %s is not used for %s: %s', coalesce(k.key_alias, k.id::text), b.model, b.reason),
    jsonb_build_object('key_alias', k.key_alias, 'model', b.model, 'reason', b.reason)
  from eve.key_model_blocks b
  join public.google_ai_api_keys k on k.id = b.key_id and k.is_active
  where b.blocked_until > eve.clock();
$function$;

CREATE OR REPLACE FUNCTION eve.alert_lanes()
 RETURNS TABLE(kind text, subject text, severity text, message text, details jsonb)
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select 'lane_exhausted', lane.subject, 'warning',
    format(
      'The day''s %s of %s in %s are used up; renewed at midnight in Los Angeles, in %s h',
      case when lane.by_upstream then 'requests, by upstream''s own count,' else lane.rpd || ' requests' end, lane.model,
      lane.keys, round((eve.next_pacific_midnight(eve.clock_ms()) - eve.clock_ms()) / 3600000.0, 1)
    ),
    jsonb_build_object('model', lane.model, 'quota_project', lane.quota_project, 'limit', lane.rpd, 'by_upstream', lane.by_upstream)
  from (
    select l.quota_project || ' ' || l.model as subject, l.quota_project, l.model, k.keys, limits.rpd,
      coalesce(l.blocked_until > eve.clock() and l.blocked_reason = 'upstream_daily_quota', false) as by_upstream,
      case
        when l.day_ends_ms > eve.clock_ms() then l.day_starts
        when eve.next_pacific_midnight(l.day_ends_ms) > eve.clock_ms() then l.next_day_starts
        else 0
      end as used
    from eve.lanes l
    join public.google_ai_model_limits m on m.model = l.model and m.is_active
    join (
      select u.quota_key, string_agg(coalesce(u.key_alias, u.id::text), ', ' order by u.key_alias) as keys
      from public.google_ai_api_keys u
      where u.is_active
      group by u.quota_key
    ) k on k.quota_key = l.quota_project
    left join eve.quota_overrides o on o.quota_project = l.quota_project and o.model = l.model
    cross join lateral (select (case when o.model is null then m.rpd else o.rpd end)::integer as rpd) limits
  ) lane
  where (lane.by_upstream or (lane.rpd > 0 and lane.used >= lane.rpd))
    and (
      extract(hour from eve.clock() at time zone 'America/Los_Angeles') < eve.alert_setting('alert_exhausted_before_hour', 20)
      or exists (
        select
        from eve.alerts a
        where a.closed_at is null and a.kind = 'lane_exhausted' and a.subject = lane.subject
      )
    );
$function$;

CREATE OR REPLACE FUNCTION eve.alert_refusals()
 RETURNS TABLE(kind text, subject text, severity text, message text, details jsonb)
 LANGUAGE sql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
  select 'refusals_high', 'gateway', case when counted.without_key > 0 then 'critical' else 'warning' end,
    format(
      '%s of %s requests of the last %s minutes were refused (%s %%), most of them with %s',
      counted.refused, counted.refused + counted.ended, round(counted.seconds / 60.0), counted.refused * 100 / (counted.refused + counted.ended),
      counted.mostly
    ),
    jsonb_build_object('refused', counted.refused, 'requests', counted.refused + counted.ended, 'seconds', counted.seconds, 'mostly', counted.mostly)
  from (
    select since.seconds, refusals.refused, refusals.without_key, refusals.mostly,
      (select count(*) from eve.requests r where r.finished_at > since.at) as ended
    from (
      select eve.alert_setting('alert_window_s', 600) as seconds,
        eve.clock() - eve.alert_setting('alert_window_s', 600) * interval '1 second' as at
    ) since
    cross join lateral (
      select coalesce(sum(told.times), 0)::bigint as refused,
        coalesce(sum(told.times) filter (where told.code = 'no_active_key'), 0) as without_key,
        (array_agg(told.code || coalesce(' (' || told.limit_name || ')', '') order by told.times desc))[1] as mostly
      from (
        select one.code, one.limit_name, sum(one.times) as times
        from (
          select f.code, f.limit_name, 1 as times
          from eve.refusals f
          where f.refused_at > since.at and f.attempt = 1
          union all
          select c.code, nullif(c.limit_name, ''), c.times
          from eve.refusal_counts c
          where c.minute > since.at - interval '1 minute' and c.is_first
        ) one
        where one.code in ('rate_limited', 'daily_limit', 'lane_blocked', 'no_active_key')
        group by one.code, one.limit_name
      ) told
    ) refusals
  ) counted
  where counted.refused >= greatest(eve.alert_setting('alert_refusals_min', 20), 1)
    and counted.refused * 100 >= eve.alert_setting('alert_refusals_percent', 25) * (counted.refused + counted.ended);
$function$;

CREATE OR REPLACE FUNCTION eve.alert_upstream()
 RETURNS TABLE(kind text, subject text, severity text, message text, details jsonb)
 LANGUAGE sql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
  select 'upstream_errors', counted.model, case when counted.failed = counted.calls then 'critical' else 'warning' end,
    format(
      '%s of %s calls of %s in the last %s minutes failed upstream (%s %%), most of them with %s',
      counted.failed, counted.calls, counted.model, round(counted.seconds / 60.0), counted.failed * 100 / counted.calls, counted.mostly
    ),
    jsonb_build_object(
      'model', counted.model, 'failed', counted.failed, 'calls', counted.calls, 'seconds', counted.seconds, 'mostly', counted.mostly
    )
  from (
    select a.model, since.seconds, count(*) as calls, count(*) filter (where fault.upstreams) as failed,
      mode() within group (order by a.error_code) filter (where fault.upstreams) as mostly
    from (
      select eve.alert_setting('alert_window_s', 600) as seconds,
        eve.clock() - eve.alert_setting('alert_window_s', 600) * interval '1 second' as at
    ) since
    join eve.attempts a on a.settled_at > since.at and a.dispatched
    cross join lateral (
      select a.outcome in ('failed', 'expired')
        and a.error_code in (
          'upstream_unavailable', 'upstream_timeout', 'upstream_rate_limited', 'upstream_daily_limit', 'upstream_region',
          'key_rejected', 'model_unavailable', 'lease_expired'
        ) as upstreams
    ) fault
    group by a.model, since.seconds
  ) counted
  where counted.failed >= greatest(eve.alert_setting('alert_upstream_min', 10), 1)
    and counted.failed * 100 >= eve.alert_setting('alert_upstream_percent', 25) * counted.calls;
$function$;

CREATE OR REPLACE FUNCTION eve.alert_maintenance()
 RETURNS TABLE(kind text, subject text, severity text, message text, details jsonb)
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select 'maintenance_failed', o.name, 'warning',
    format(
      '%s failed at %s UTC: %s', o.name, to_char(o.last_completed_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
      left(coalesce(o.last_error, 'no reason was written'), 500)
    ),
    jsonb_build_object('operation', o.name, 'completed_at', o.last_completed_at, 'last_succeeded_at', o.last_succeeded_at)
  from eve.operations o
  where o.last_status = 'failed'
  union all
  select 'maintenance_missing', o.name, 'warning',
    format(
      '%s has not run %s, though it is scheduled for %s', o.name,
      case
        when ran.last_at is null then 'at all'
        else 'since ' || to_char(ran.last_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC'
      end, o.schedule
    ),
    jsonb_build_object('operation', o.name, 'last_at', ran.last_at, 'schedule', o.schedule, 'within_s', e.within_s)
  from eve.operations o
  join eve.maintenance_expected e on e.operation = o.name
  cross join lateral (select greatest(o.started_at, o.last_started_at, o.last_idle_at) as last_at) ran
  where o.is_active and o.schedule is not null
    and greatest(ran.last_at, e.since) < eve.clock() - e.within_s * interval '1 second';
$function$;

CREATE OR REPLACE FUNCTION eve.alert_disk()
 RETURNS TABLE(kind text, subject text, severity text, message text, details jsonb)
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select 'disk_nearly_full', 'database', case when size.bytes >= size.disk * 0.95 then 'critical' else 'warning' end,
    format(
      'The database takes %s of %s MB, %s of them the gateway''s', round(size.bytes / 1000000), round(size.disk / 1000000),
      round(eve.kept_bytes() / 1000000.0)
    ),
    jsonb_build_object('bytes', size.bytes, 'disk_bytes', size.disk)
  from (
    select pg_database_size(current_database())::numeric as bytes, eve.alert_setting('disk_mb', 500) * 1000000.0 as disk
  ) size
  where size.bytes >= size.disk * 0.8;
$function$;

CREATE OR REPLACE FUNCTION public.eve_alerts_evaluate(missing_secrets uuid[] DEFAULT NULL::uuid[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET jit TO 'off'
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_opened integer;
  v_closed integer;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('eve_alerts_evaluate', 0)) then
    return jsonb_build_object('status', 'busy', 'opened', 0, 'closed', 0, 'open', (select count(*) from eve.alerts a where a.closed_at is null));
  end if;
  with current as materialized (
    select * from eve.alert_keys(eve_alerts_evaluate.missing_secrets)
    union all
    select * from eve.alert_lanes()
    union all
    select * from eve.alert_refusals()
    union all
    select * from eve.alert_upstream()
    union all
    select * from eve.alert_maintenance()
    union all
    select * from eve.alert_disk()
  ), seen as (
    insert into eve.alerts as a (kind, subject, severity, message, details, opened_at, last_seen_at)
    select c.kind, left(c.subject, 500), c.severity, left(c.message, 2000), c.details, v_now, v_now
    from current c
    on conflict (kind, subject) where closed_at is null do update
    set last_seen_at = excluded.last_seen_at, message = excluded.message, severity = excluded.severity, details = excluded.details
    returning (a.xmax = 0) as is_new
  ), over as (
    update eve.alerts a
    set closed_at = v_now
    where a.closed_at is null
      and not exists (select from current c where c.kind = a.kind and left(c.subject, 500) = a.subject)
      and case
        -- A settlement may have opened it since this statement began to look.
        when a.kind in ('key_disabled', 'model_unavailable', 'lane_exhausted', 'maintenance_failed', 'maintenance_missing', 'disk_nearly_full')
          then a.last_seen_at < v_now
        -- Nobody has looked for the secret: only the end of the key's block says something.
        when a.kind = 'secret_missing' then a.last_seen_at < v_now
          and (eve_alerts_evaluate.missing_secrets is not null or a.last_seen_at < v_now - interval '1 hour')
        when a.kind in ('refusals_high', 'upstream_errors')
          then a.last_seen_at <= v_now - eve.alert_setting('alert_clear_s', 300) * interval '1 second'
        when a.kind in ('usage_counters_refused', 'token_usage_refused', 'maintenance_log_refused')
          then a.last_seen_at <= v_now - eve.alert_setting('alert_stale_s', 3600) * interval '1 second'
        -- Anyone who opened it closes it.
        else false
      end
    returning 1
  )
  select (select count(*) from seen where is_new), (select count(*) from over) into v_opened, v_closed;
  return jsonb_build_object(
    'status', 'evaluated', 'opened', v_opened, 'closed', v_closed,
    'open', (select count(*) from eve.alerts a where a.closed_at is null)
  );
end;
$function$;
comment on function public.eve_alerts_evaluate is 'Opens alerts for what is wrong and closes those that are over. Cheap enough for every minute.';

-- alert_deliveries ----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_alert_secrets()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(jsonb_build_object('key_id', k.id, 'env_var_name', k.env_var_name) order by k.id), '[]')
  from public.google_ai_api_keys k
  where k.is_active and coalesce(k.env_var_name, '') not like 'stage:%';
$function$;
comment on function public.eve_alert_secrets is 'Active keys and the names of their secrets.';

CREATE OR REPLACE FUNCTION public.eve_alert_claim(channel text, lease_ms integer DEFAULT 60000)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_delivery eve.alert_deliveries;
begin
  if eve_alert_claim.channel is null or eve_alert_claim.channel not in ('telegram', 'webhook') then
    raise exception 'channel must be telegram or webhook' using errcode = 'EV400';
  elsif eve_alert_claim.lease_ms is null or eve_alert_claim.lease_ms not between 1000 and 600000 then
    raise exception 'lease_ms must be between 1000 and 600000' using errcode = 'EV400';
  end if;
  insert into eve.alert_channels as c (channel, claimed_at)
  values (eve_alert_claim.channel, v_now)
  on conflict on constraint alert_channels_pkey do update
  set claimed_at = excluded.claimed_at
  where c.claimed_at < excluded.claimed_at;
  insert into eve.alert_deliveries (alert_id, channel, event, next_try_at)
  select a.id, eve_alert_claim.channel, 'opened', v_now
  from eve.alerts a
  where (a.closed_at is null or a.closed_at > v_now - interval '1 hour')
    and not exists (
      select
      from eve.alert_deliveries d
      where d.alert_id = a.id and d.channel = eve_alert_claim.channel and d.event = 'opened'
    )
  order by a.id
  on conflict do nothing;
  insert into eve.alert_deliveries (alert_id, channel, event, next_try_at)
  select a.id, eve_alert_claim.channel, 'closed', v_now
  from eve.alerts a
  join eve.alert_deliveries d on d.alert_id = a.id and d.channel = eve_alert_claim.channel and d.event = 'opened' and d.state = 'told'
  where a.closed_at > v_now - interval '7 days'
    and not exists (
      select
      from eve.alert_deliveries t
      where t.alert_id = a.id and t.channel = eve_alert_claim.channel and t.event = 'closed'
    )
  order by a.id
  on conflict do nothing;

  update eve.alert_deliveries d
  set attempts = d.attempts + 1, claimed_until = v_now + eve_alert_claim.lease_ms * interval '1 millisecond'
  where d.id = (
    select p.id
    from eve.alert_deliveries p
    where p.channel = eve_alert_claim.channel and p.state = 'pending' and p.next_try_at <= v_now
      and (p.claimed_until is null or p.claimed_until <= v_now)
      and exists (select from eve.alerts a where a.id = p.alert_id)
    order by p.id
    limit 1
    for update skip locked
  )
  returning d.* into v_delivery;
  if not found then
    return null;
  end if;
  return (
    select jsonb_build_object(
      'delivery_id', v_delivery.id, 'event', v_delivery.event, 'attempt', v_delivery.attempts, 'alert_id', a.id,
      'kind', a.kind, 'title', coalesce(k.title, replace(a.kind, '_', ' ')), 'advice', k.advice, 'severity', a.severity, 'subject', a.subject, 'message', a.message,
      'details', a.details, 'opened_at', a.opened_at, 'closed_at', a.closed_at
    )
    from eve.alerts a
    left join eve.alert_kinds k on k.kind = a.kind
    where a.id = v_delivery.alert_id
  );
end;
$function$;
comment on function public.eve_alert_claim is 'The next message for a channel, claimed so that nobody else tells it too; null when there is none.';

CREATE OR REPLACE FUNCTION public.eve_alert_told(delivery_id bigint, succeeded boolean, error text DEFAULT NULL::text, retry_after_ms bigint DEFAULT NULL::bigint, whole_channel boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_delivery eve.alert_deliveries;
  v_next timestamptz;
begin
  select * into v_delivery from eve.alert_deliveries d where d.id = eve_alert_told.delivery_id for update;
  if not found or v_delivery.state = 'told' then
    return jsonb_build_object('state', coalesce(v_delivery.state, 'gone'));
  end if;
  if eve_alert_told.succeeded then
    update eve.alert_deliveries d
    set state = 'told', told_at = v_now, claimed_until = null, last_error = null
    where d.id = v_delivery.id;
    update eve.alert_deliveries d
    set state = 'pending', attempts = 0, next_try_at = v_now, claimed_until = null
    where d.channel = v_delivery.channel and d.state = 'given_up' and d.event = 'opened'
      and exists (select from eve.alerts a where a.id = d.alert_id and a.closed_at is null);
    return jsonb_build_object('state', 'told');
  end if;
  v_next := v_now + greatest(
    least(30000 * 2 ^ least(v_delivery.attempts - 1, 10), 3600000),
    -- What a channel asks for is believed up to a day.
    least(coalesce(eve_alert_told.retry_after_ms, 0), 86400000)
  ) * interval '1 millisecond';
  update eve.alert_deliveries d
  set state = case when d.attempts >= eve.alert_setting('alert_tries', 12) then 'given_up' else 'pending' end,
    next_try_at = v_next, claimed_until = null, last_error = left(eve_alert_told.error, 500)
  where d.id = v_delivery.id
  returning d.* into v_delivery;
  if eve_alert_told.whole_channel then
    update eve.alert_deliveries d
    set next_try_at = v_next
    where d.channel = v_delivery.channel and d.state = 'pending' and d.next_try_at < v_next;
  end if;
  return jsonb_build_object('state', v_delivery.state, 'next_try_at', v_next);
end;
$function$;
comment on function public.eve_alert_told is 'Notes how telling a claimed message went, and when to try again.';

CREATE OR REPLACE FUNCTION eve.alert_json(alert eve.alerts)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(alert_json.alert) || jsonb_build_object(
    'title', coalesce(k.title, (alert_json.alert).kind), 'advice', k.advice
  )
  from (select) as one
  left join eve.alert_kinds k on k.kind = (alert_json.alert).kind;
$function$;

CREATE OR REPLACE FUNCTION public.eve_alert_list(state text DEFAULT 'open'::text, kind text DEFAULT NULL::text, before bigint DEFAULT NULL::bigint, at_most integer DEFAULT 100)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_at_most constant integer := least(greatest(eve_alert_list.at_most, 1), 1000);
  v_alerts jsonb;
  v_last bigint;
begin
  if eve_alert_list.state is null or eve_alert_list.state not in ('open', 'closed', 'all') then
    raise exception 'state must be open, closed or all' using errcode = 'EV400';
  end if;
  select coalesce(jsonb_agg(page.one order by page.id desc), '[]'), case when count(*) = v_at_most then min(page.id) end
  into v_alerts, v_last
  from (
    select a.id, eve.alert_json(a) as one
    from eve.alerts a
    where (eve_alert_list.before is null or a.id < eve_alert_list.before)
      and (eve_alert_list.kind is null or a.kind = eve_alert_list.kind)
      and case eve_alert_list.state when 'open' then a.closed_at is null when 'closed' then a.closed_at is not null else true end
    order by a.id desc
    limit v_at_most
  ) page;
  return jsonb_build_object('alerts', v_alerts, 'next_before', v_last);
end;
$function$;
comment on function public.eve_alert_list is 'Alerts that are open, closed or all, the newest first, with the columns of eve.alerts and what to do; a page and where the next one begins.';

CREATE OR REPLACE FUNCTION public.eve_alert_detail(id bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_alert eve.alerts;
begin
  select * into v_alert from eve.alerts a where a.id = eve_alert_detail.id;
  if not found then
    raise exception 'there is no alert %', eve_alert_detail.id using errcode = 'EV400';
  end if;
  return eve.alert_json(v_alert) || jsonb_build_object(
    'deliveries', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'channel', d.channel, 'event', d.event, 'state', d.state, 'attempts', d.attempts, 'told_at', d.told_at,
            'last_error', d.last_error
          )
          order by d.id
        ),
        '[]'
      )
      from eve.alert_deliveries d
      where d.alert_id = v_alert.id
    )
  );
end;
$function$;
comment on function public.eve_alert_detail is 'One alert, what to do about it, and to whom it was told.';

CREATE OR REPLACE FUNCTION public.eve_alert_close(id bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_alert eve.alerts;
begin
  update eve.alerts a
  set closed_at = eve.clock()
  where a.id = eve_alert_close.id and a.closed_at is null
  returning * into v_alert;
  if not found then
    select * into v_alert from eve.alerts a where a.id = eve_alert_close.id;
    if not found then
      raise exception 'there is no alert %', eve_alert_close.id using errcode = 'EV400';
    end if;
  end if;
  return eve.alert_json(v_alert);
end;
$function$;
comment on function public.eve_alert_close is 'Closes an alert by hand; twice is the same as once. What still holds is opened again.';

-- gauges --------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.metric_keys()
 RETURNS TABLE(id uuid, key text, quota_key text, state text)
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select k.id,
    coalesce(k.key_alias, k.id::text)
      || case row_number() over (partition by coalesce(k.key_alias, k.id::text) order by k.created_at, k.id) when 1 then '' else '#' || k.id end,
    k.quota_key,
    case
      when k.is_active is not true then 'off'
      when k.blocked_until > eve.clock() then 'blocked'
      else 'active'
    end
  from public.google_ai_api_keys k;
$function$;

CREATE OR REPLACE FUNCTION eve.metric_gauges()
 RETURNS TABLE(metric text, labels jsonb, value double precision)
 LANGUAGE sql
 SET search_path TO ''
 SET jit TO 'off'
AS $function$
  with now as materialized (
    select eve.clock_ms() as ms, coalesce((select s.value from eve.settings s where s.name = 'guard_ms'), 250) as guard_ms
  ), keys as materialized (
    select * from eve.metric_keys()
  ), projects as materialized (
    select k.quota_key, case when k.quota_key like 'key:%' then 'key:' || min(k.key) else k.quota_key end as name
    from keys k
    where k.state <> 'off'
    group by k.quota_key
  ), lanes as materialized (
    select jsonb_build_object('quota_project', p.name, 'model', l.model) as labels, limits.rpm, limits.tpm, limits.rpd,
      coalesce(used.starts, 0) as minute_starts, coalesce(used.tokens, 0) as minute_tokens,
      case
        when l.day_ends_ms > now.ms then l.day_starts
        when eve.next_pacific_midnight(l.day_ends_ms) > now.ms then l.next_day_starts
        else 0
      end as day_starts,
      coalesce(l.blocked_until > eve.clock(), false) as blocked
    from now
    cross join eve.lanes l
    join projects p on p.quota_key = l.quota_project
    join public.google_ai_model_limits m on m.model = l.model and m.is_active
    left join eve.quota_overrides o on o.quota_project = l.quota_project and o.model = l.model
    cross join lateral (
      select (case when o.model is null then m.rpm else o.rpm end)::integer as rpm,
        (case when o.model is null then m.tpm else o.tpm end)::integer as tpm,
        (case when o.model is null then m.rpd else o.rpd end)::integer as rpd
    ) limits
    left join lateral (
      select sum(b.starts) as starts, sum(b.tokens) as tokens
      from eve.lane_buckets b
      where b.lane_id = l.id and b.at_ms > now.ms - 60000 - now.guard_ms and b.at_ms <= now.ms
    ) used on true
  ), lane_limits as (
    select l.labels || jsonb_build_object('limit', per.name) as labels, per.allowed, per.used
    from lanes l
    cross join lateral (
      values ('rpm', l.rpm, l.minute_starts), ('tpm', l.tpm, l.minute_tokens), ('rpd', l.rpd, l.day_starts)
    ) as per (name, allowed, used)
  ), queue as (
    select i.model, i.class, count(*) filter (where i.state = 'waiting' or i.state = 'reserved' and i.start_ms > now.ms) as waiting,
      count(*) filter (where i.state = 'between' or i.state = 'reserved' and i.start_ms <= now.ms) as running
    from eve.inflight i
    cross join now
    group by i.model, i.class
  ), places as (
    -- Every model and class has a line, so that an empty queue reads 0; and so has one that is still served though switched off.
    select m.model, c.class
    from public.google_ai_model_limits m
    cross join (values ('interactive'), ('batch')) as c (class)
    where m.is_active and m.replaced_by is null
    union
    select q.model, q.class
    from queue q
  )
  select 'eve_lane_limit', l.labels, l.allowed::double precision from lane_limits l where l.allowed is not null
  union all
  select 'eve_lane_used', l.labels, l.used from lane_limits l
  union all
  select 'eve_lane_remaining', l.labels, greatest(l.allowed - l.used, 0) from lane_limits l where l.allowed is not null
  union all
  select 'eve_lane_blocked', l.labels, l.blocked::integer from lanes l
  union all
  select 'eve_queue_length', jsonb_build_object('model', p.model, 'class', p.class), coalesce(q.waiting, 0)
  from places p
  left join queue q on q.model = p.model and q.class = p.class
  union all
  select 'eve_requests_running', jsonb_build_object('model', p.model, 'class', p.class), coalesce(q.running, 0)
  from places p
  left join queue q on q.model = p.model and q.class = p.class
  union all
  select 'eve_key_state', jsonb_build_object('key', k.key, 'quota_project', case when k.quota_key like 'key:%' then 'key:' || k.key else k.quota_key end, 'state', s.state),
    (s.state = k.state)::integer
  from keys k
  cross join (values ('active'), ('blocked'), ('off')) as s (state)
  union all
  select 'eve_alerts_open', jsonb_build_object('kind', k.kind, 'severity', s.severity), count(a.id)
  from (select kind from eve.alert_kinds union select kind from eve.alerts where closed_at is null) k
  cross join (values ('info'), ('warning'), ('critical')) as s (severity)
  left join eve.alerts a on a.closed_at is null and a.kind = k.kind and a.severity = s.severity
  group by k.kind, s.severity
  union all
  select 'eve_alert_deliveries', jsonb_build_object('channel', c.channel, 'state', s.state), count(d.id)
  from (values ('telegram'), ('webhook')) as c (channel)
  cross join (values ('pending'), ('told'), ('given_up')) as s (state)
  left join eve.alert_deliveries d on d.channel = c.channel and d.state = s.state
  group by c.channel, s.state
  union all
  select 'eve_maintenance_age_seconds', jsonb_build_object('operation', o.name),
    greatest(extract(epoch from eve.clock() - o.last_succeeded_at), 0)
  from eve.operations o
  where o.last_succeeded_at is not null
  union all
  select 'eve_maintenance_failed', jsonb_build_object('operation', o.name), (o.last_status is not distinct from 'failed')::integer
  from eve.operations o
  union all
  select 'eve_estimate_factor', jsonb_build_object('model', m.model), m.estimate_factor
  from public.google_ai_model_limits m
  where m.is_active and m.replaced_by is null
  union all
  select 'eve_table_bytes', jsonb_build_object('table', weighed.name), eve.relation_bytes(weighed.name::regclass)
  from unnest(
    array[
      'eve.requests', 'eve.earlier_attempts', 'eve.refusals', 'eve.request_results', 'public.google_ai_usage_counters',
      'public.token_usage'
    ]
  ) as weighed (name)
  union all
  select 'eve_metrics_behind_seconds', '{}', greatest(max(extract(epoch from eve.clock() - s.counted_until)), 0)
  from eve.metric_sources s;
$function$;

-- metrics -------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.metric_bounds(metric text)
 RETURNS double precision[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case metric_bounds.metric
    when 'eve_wait_seconds' then array[0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 100, 300]
    when 'eve_upstream_duration_seconds' then array[0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 60, 120]
    when 'eve_request_duration_seconds' then array[0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 60, 120, 300]
    when 'eve_estimate_ratio' then array[0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.3, 1.5, 2]
  end::double precision[];
$function$;

CREATE OR REPLACE FUNCTION eve.metric_labels(metric text, first text, second text)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case metric_labels.metric
    when 'eve_wait_seconds' then jsonb_build_object('class', metric_labels.first, 'model', metric_labels.second)
    when 'eve_request_duration_seconds' then jsonb_build_object('outcome', metric_labels.first, 'door', metric_labels.second)
    when 'eve_upstream_duration_seconds' then jsonb_build_object('outcome', metric_labels.first, 'model', metric_labels.second)
    else jsonb_build_object('model', metric_labels.second)
  end;
$function$;

CREATE OR REPLACE FUNCTION eve.metric_sum(one bigint[], other bigint[])
 RETURNS bigint[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select array_agg(coalesce(pair.one, 0) + coalesce(pair.other, 0) order by pair.place)
  from unnest(metric_sum.one, metric_sum.other) with ordinality as pair (one, other, place);
$function$;

CREATE OR REPLACE FUNCTION eve.count_requests(counted_from timestamp with time zone, counted_to timestamp with time zone, look_from timestamp with time zone, seen pg_snapshot)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_places constant bigint := eve.alert_setting('metrics_consumers', 100) - (select count(*) from eve.metric_consumers);
  v_count integer;
begin
  -- One statement: what it sees and the snapshot that it leaves behind are the same.
  with mark as (
    update eve.metric_sources s
    set counted_until = count_requests.counted_to, looked_at = eve.clock(), snapshot = pg_current_snapshot()
    where s.source = 'requests'
  ), fresh as materialized (
    select r.request_no, r.endpoint, r.model, r.class, r.state, r.wait_ms, r.received_at, r.finished_at, r.settled_at, r.lane_id,
      r.key_id, r.attempts, r.error_code, r.dispatched, r.tokens_booked, r.input_tokens, r.output_tokens, r.thoughts_tokens,
      r.cached_tokens, r.usage_estimated, r.latency_ms, coalesce(c.name, 'removed') as consumer
    from eve.requests r
    left join eve.consumers c on c.id = r.consumer_id
    where r.finished_at > count_requests.look_from and r.finished_at <= count_requests.counted_to
      and (
        r.finished_at > count_requests.counted_from
        or not pg_visible_in_snapshot(r.written_by, count_requests.seen)
      )
  ), newcomers as (
    insert into eve.metric_consumers (name)
    select n.consumer
    from (select distinct f.consumer from fresh f) n
    where not exists (select from eve.metric_consumers k where k.name = n.consumer)
    order by n.consumer
    limit greatest(v_places, 0)
    returning name
  ), named as materialized (
    select f.*, coalesce(k.name, n.name, 'other') as named
    from fresh f
    left join eve.metric_consumers k on k.name = f.consumer
    left join newcomers n on n.name = f.consumer
  ), tries as materialized (
    select a.*,
      case
        when a.dispatched and not a.usage_estimated and a.input_tokens > 0 then a.tokens_booked::double precision / a.input_tokens
      end as estimate_ratio
    from (
      select f.named as consumer, f.model, f.key_id, f.state as outcome,
        case when f.settled_at is null then f.error_code else coalesce(f.error_code, 'settled_late') end as error_code,
        f.dispatched, f.tokens_booked, f.input_tokens, f.output_tokens, f.thoughts_tokens, f.cached_tokens, f.usage_estimated,
        f.latency_ms
      from named f
      where f.lane_id is not null
      union all
      select f.named, e.model, e.key_id, e.outcome, e.error_code, e.dispatched, e.tokens_booked, e.input_tokens,
        e.output_tokens, e.thoughts_tokens, e.cached_tokens, e.usage_estimated, e.latency_ms
      from named f
      cross join lateral (
        -- Looked up one by one: how many requests are new, no statistics tell.
        select *
        from eve.earlier_attempts t
        where t.request_no = f.request_no
        offset 0
      ) e
      where f.attempts > 1 or f.lane_id is null
    ) a
  ), gained as (
    select 'eve_requests_total' as metric,
      jsonb_build_object('outcome', f.state, 'door', f.endpoint, 'consumer', f.named, 'model', f.model) as labels,
      count(*)::double precision as value
    from named f
    group by f.state, f.endpoint, f.named, f.model
    union all
    select 'eve_attempts_total',
      jsonb_build_object(
        'outcome', t.outcome, 'model', t.model, 'key', coalesce(max(k.key_alias), 'removed'), 'code', coalesce(t.error_code, '')
      ),
      count(*)
    from tries t
    left join public.google_ai_api_keys k on k.id = t.key_id
    group by t.outcome, t.model, coalesce(k.key_alias, 'removed'), coalesce(t.error_code, '')
    union all
    select 'eve_tokens_total', jsonb_build_object('type', kind.name, 'consumer', sums.consumer, 'model', sums.model), kind.tokens
    from (
      select t.consumer, t.model, sum(t.input_tokens) as input, sum(t.output_tokens) as output,
        sum(t.thoughts_tokens) as thoughts, sum(t.cached_tokens) as cached
      from tries t
      group by t.consumer, t.model
    ) sums
    cross join lateral (
      values ('input', sums.input), ('output', sums.output), ('thoughts', sums.thoughts), ('cached', sums.cached)
    ) as kind (name, tokens)
    where kind.tokens > 0
  ), added as (
    insert into eve.metric_counters as c (metric, labels, value)
    select g.metric, g.labels, sum(g.value)
    from gained g
    group by g.metric, g.labels
    order by g.metric, g.labels
    on conflict (metric, labels) do update
    set value = c.value + excluded.value
  ), observed as (
    select 'eve_wait_seconds' as metric, f.class as first, f.model as second, f.wait_ms / 1000.0 as value
    from named f
    union all
    select 'eve_request_duration_seconds', f.state, f.endpoint, extract(epoch from f.finished_at - f.received_at)
    from named f
    union all
    select 'eve_upstream_duration_seconds', t.outcome, t.model, t.latency_ms / 1000.0
    from tries t
    where t.dispatched and t.latency_ms is not null
    union all
    select 'eve_estimate_ratio', null, t.model, t.estimate_ratio
    from tries t
    where t.estimate_ratio is not null
  ), placed as (
    select o.metric, o.first, o.second,
      -- A bound belongs to the bucket below it.
      width_bucket(o.value::double precision - 1e-9, eve.metric_bounds(o.metric)) as bucket,
      count(*) as times, sum(o.value::double precision) as total
    from observed o
    group by 1, 2, 3, 4
  ), spread as (
    insert into eve.metric_histograms as h (metric, labels, counts, total)
    select p.metric,
      eve.metric_labels(p.metric, p.first, p.second) as labels,
      (
        select array_agg(coalesce(q.times, 0)::bigint order by place.bucket)
        from generate_series(0, cardinality(eve.metric_bounds(p.metric))) as place (bucket)
        left join placed q on q.metric = p.metric and q.first is not distinct from p.first and q.second = p.second
          and q.bucket = place.bucket
      ),
      sum(p.total)
    from placed p
    group by p.metric, p.first, p.second
    order by 1, 2
    on conflict (metric, labels) do update
    set counts = eve.metric_sum(h.counts, excluded.counts), total = h.total + excluded.total
  )
  select count(*) into v_count from fresh;
  return v_count;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.count_refusals(counted_from timestamp with time zone, counted_to timestamp with time zone, look_from timestamp with time zone, seen pg_snapshot)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_places constant bigint := eve.alert_setting('metrics_consumers', 100) - (select count(*) from eve.metric_consumers);
  v_count integer;
begin
  with mark as (
    update eve.metric_sources s
    set counted_until = count_refusals.counted_to, looked_at = eve.clock(), snapshot = pg_current_snapshot()
    where s.source = 'refusals'
  ), beyond as (
    -- What was only counted says itself how much of it is in the metrics.
    update eve.refusal_counts c
    set counted = c.times
    from (
      select r.id, r.counted from eve.refusal_counts r
      where r.minute > count_refusals.look_from - interval '1 hour' and r.counted < r.times
      for no key update
    ) before
    where c.id = before.id
    returning c.is_first, c.class, c.endpoint, c.code, c.limit_name, c.model, c.consumer_id, c.times - before.counted as times
  ), fresh as materialized (
    select f.is_first, f.class, f.endpoint, f.code, coalesce(f.limit_name, '') as limit_name, f.times,
      -- A caller may name any model, and a name is for ever in a time series.
      coalesce(m.model, 'unknown') as model,
      case when f.consumer_id is null then 'project' else coalesce(c.name, 'removed') end as consumer
    from (
      select r.attempt = 1 as is_first, r.class, r.endpoint, r.code, r.limit_name, r.model, r.consumer_id, 1::bigint as times
      from eve.refusals r
      where r.refused_at > count_refusals.look_from and r.refused_at <= count_refusals.counted_to
        and (
          r.refused_at > count_refusals.counted_from
          or not pg_visible_in_snapshot(r.written_by, count_refusals.seen)
        )
      union all
      select b.is_first, b.class, b.endpoint, b.code, b.limit_name, b.model, b.consumer_id, b.times
      from beyond b
    ) f
    left join eve.consumers c on c.id = f.consumer_id
    left join public.google_ai_model_limits m on m.model = f.model
  ), newcomers as (
    insert into eve.metric_consumers (name)
    select n.consumer
    from (select distinct f.consumer from fresh f) n
    where not exists (select from eve.metric_consumers k where k.name = n.consumer)
    order by n.consumer
    limit greatest(v_places, 0)
    returning name
  ), gained as (
    select 'eve_refusals_total' as metric,
      jsonb_build_object('code', f.code, 'limit', f.limit_name, 'model', f.model, 'class', f.class) as labels,
      sum(f.times)::double precision as value
    from fresh f
    group by f.code, f.limit_name, f.model, f.class
    union all
    -- A later attempt's refusal belongs to a request that has an outcome of its own.
    select 'eve_requests_total',
      jsonb_build_object('outcome', 'refused', 'door', f.endpoint, 'consumer', coalesce(k.name, n.name, 'other'), 'model', f.model),
      sum(f.times)
    from fresh f
    left join eve.metric_consumers k on k.name = f.consumer
    left join newcomers n on n.name = f.consumer
    where f.is_first
    group by f.endpoint, coalesce(k.name, n.name, 'other'), f.model
  ), added as (
    insert into eve.metric_counters as c (metric, labels, value)
    select g.metric, g.labels, g.value
    from gained g
    order by g.metric, g.labels
    on conflict (metric, labels) do update
    set value = c.value + excluded.value
  )
  select coalesce(sum(f.times), 0) into v_count from fresh f;
  return v_count;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_metrics_count()
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_began constant timestamptz := clock_timestamp();
  v_source eve.metric_sources;
  v_now timestamptz;
  v_to timestamptz;
  v_look_from timestamptz;
  v_gained integer;
  v_piece interval := '1 minute';
  v_requests integer := 0;
  v_refusals integer := 0;
  v_behind boolean := true;
begin
  -- Anyone who counts at this moment counts for us too.
  if not pg_try_advisory_xact_lock(hashtextextended('eve_metrics_count', 0)) then
    return jsonb_build_object('status', 'busy');
  end if;
  while v_behind and clock_timestamp() < v_began + interval '2 seconds' loop
    v_behind := false;
    v_gained := v_requests + v_refusals;
    for v_source in select * from eve.metric_sources s order by s.source loop
      v_now := eve.clock();
      -- A database that was restored elsewhere has not reached this snapshot yet.
      if pg_snapshot_xmax(v_source.snapshot)::text::bigint > pg_snapshot_xmax(pg_current_snapshot())::text::bigint then
        v_source.snapshot := pg_current_snapshot();
      end if;
      v_to := greatest(v_source.counted_until, least(v_now, v_source.counted_until + v_piece));
      -- A row is dated a moment before it is committed. If the clock has gone back since, nobody knows how long ago that was.
      v_look_from := case
        when v_now >= v_source.looked_at then least(v_source.counted_until, v_source.looked_at) - interval '20 seconds'
        else least(v_source.counted_until, v_now) - interval '15 minutes'
      end;
      if v_source.source = 'requests' then
        v_requests := v_requests + eve.count_requests(v_source.counted_until, v_to, v_look_from, v_source.snapshot);
      else
        v_refusals := v_refusals + eve.count_refusals(v_source.counted_until, v_to, v_look_from, v_source.snapshot);
      end if;
      v_behind := v_behind or v_to < v_now;
    end loop;
    v_piece := case v_requests + v_refusals when v_gained then least(v_piece * 2, interval '10 minutes') else '1 minute' end;
  end loop;
  return jsonb_build_object('status', 'counted', 'requests', v_requests, 'refusals', v_refusals, 'behind', v_behind);
end;
$function$;
comment on function public.eve_metrics_count is 'Adds to the counters what the audit has gained since the last time.';

CREATE OR REPLACE FUNCTION public.eve_metrics()
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  begin
    perform public.eve_metrics_count();
  exception
    when read_only_sql_transaction or disk_full or lock_not_available then
      null; -- eve_metrics_behind_seconds grows, and says so.
  end;
  return jsonb_build_object(
    'samples', (
      select coalesce(jsonb_agg(jsonb_build_array(s.metric, s.labels, s.value) order by s.metric, s.labels), '[]')
      from (
        select c.metric, c.labels, c.value from eve.metric_counters c
        union all
        select g.metric, g.labels, g.value from eve.metric_gauges() g
      ) s
    ),
    'histograms', (
      select coalesce(jsonb_agg(jsonb_build_array(h.metric, h.labels, to_jsonb(eve.metric_bounds(h.metric)), to_jsonb(h.counts), h.total) order by h.metric, h.labels), '[]')
      from eve.metric_histograms h
    )
  );
end;
$function$;
comment on function public.eve_metrics is 'Counters, histograms and gauges of the gateway: samples [name, labels, value] and histograms [name, labels, bounds, counts, sum].';

-- reading_requests ----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.blame_of(error_code text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case
    when blame_of.error_code is null then null
    when blame_of.error_code in ('key_rejected', 'secret_missing') then 'key'
    when blame_of.error_code = 'model_unavailable' then 'key_model'
    when blame_of.error_code in ('upstream_rate_limited', 'upstream_daily_limit') then 'lane'
    when blame_of.error_code in ('upstream_unavailable', 'upstream_timeout') then 'upstream'
    when blame_of.error_code = 'upstream_region' then 'region'
    when blame_of.error_code in ('content_blocked', 'empty_answer', 'answer_unusable', 'answer_truncated', 'answer_too_large', 'schema_mismatch') then 'model'
    when blame_of.error_code in ('upstream_invalid_request', 'prompt_too_large', 'unsupported_feature', 'schema_too_complex', 'client_closed') then 'caller'
    else 'gateway'
  end;
$function$;
comment on function eve.blame_of is 'Whose fault a failed attempt is, told by its error code.';

CREATE OR REPLACE FUNCTION eve.consumer_id_of(consumer text)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_id uuid;
begin
  if consumer_id_of.consumer is null then
    return null;
  elsif consumer_id_of.consumer ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    return consumer_id_of.consumer::uuid;
  end if;
  select c.id into v_id from eve.consumers c where c.name = consumer_id_of.consumer;
  if not found then
    raise exception 'there is no consumer named %', consumer_id_of.consumer using errcode = 'EV400';
  end if;
  return v_id;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.key_id_of(key_alias text)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_id uuid;
begin
  if key_id_of.key_alias is null then
    return null;
  elsif key_id_of.key_alias ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    return key_id_of.key_alias::uuid;
  end if;
  select k.id into v_id from public.google_ai_api_keys k where k.key_alias = key_id_of.key_alias order by k.created_at limit 1;
  if not found then
    raise exception 'there is no key named %', key_id_of.key_alias using errcode = 'EV400';
  end if;
  return v_id;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.request_json(request eve.requests)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'request_no', (request_json.request).request_no, 'refusal_no', null, 'request_id', (request_json.request).request_id,
    'state', (request_json.request).state, 'at', (request_json.request).received_at,
    'finished_at', (request_json.request).finished_at,
    'duration_ms', greatest(
      floor(extract(epoch from (request_json.request).finished_at - (request_json.request).received_at) * 1000)::bigint, 0
    ),
    'wait_ms', (request_json.request).wait_ms, 'attempts', (request_json.request).attempts,
    'consumer', coalesce(
      (select c.name from eve.consumers c where c.id = (request_json.request).consumer_id),
      (request_json.request).consumer_id::text
    ),
    'consumer_id', (request_json.request).consumer_id, 'token_id', (request_json.request).token_id,
    'class', (request_json.request).class, 'door', (request_json.request).endpoint,
    'requested_model', coalesce((request_json.request).requested_model, (request_json.request).model),
    'model', (request_json.request).model,
    'key', coalesce(
      (select k.key_alias from public.google_ai_api_keys k where k.id = (request_json.request).key_id),
      (request_json.request).key_id::text
    ),
    'input_tokens', (request_json.request).input_tokens, 'output_tokens', (request_json.request).output_tokens,
    'total_tokens', (request_json.request).total_tokens, 'error_code', (request_json.request).error_code,
    'finish_reason', (request_json.request).finish_reason, 'limit', null, 'retry_after_ms', null,
    'trace_id', (request_json.request).trace_id
  );
$function$;

CREATE OR REPLACE FUNCTION eve.as_request(running eve.inflight)
 RETURNS eve.requests
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select r
  from jsonb_populate_record(
    null::eve.requests,
    to_jsonb(as_request.running) || jsonb_build_object(
      'state', 'running', 'attempts', (as_request.running).attempt,
      'wait_ms', eve.waited_ms((as_request.running).wait_ms, (as_request.running).received_at, eve.clock())
    )
  ) r;
$function$;

CREATE OR REPLACE FUNCTION eve.refusal_json(refusal eve.refusals)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'request_no', null, 'refusal_no', (refusal_json.refusal).id, 'request_id', (refusal_json.refusal).request_id,
    'state', 'refused', 'at', (refusal_json.refusal).refused_at, 'finished_at', (refusal_json.refusal).refused_at,
    'duration_ms', 0, 'wait_ms', 0, 'attempts', (refusal_json.refusal).attempt - 1,
    'consumer', coalesce(
      (select c.name from eve.consumers c where c.id = (refusal_json.refusal).consumer_id),
      (refusal_json.refusal).consumer_id::text
    ),
    'consumer_id', (refusal_json.refusal).consumer_id, 'token_id', (refusal_json.refusal).token_id,
    'class', (refusal_json.refusal).class, 'door', (refusal_json.refusal).endpoint,
    'requested_model', (refusal_json.refusal).model, 'model', (refusal_json.refusal).model, 'key', null,
    'input_tokens', (refusal_json.refusal).tokens, 'output_tokens', null, 'total_tokens', null,
    'error_code', (refusal_json.refusal).code, 'finish_reason', null, 'limit', (refusal_json.refusal).limit_name,
    'retry_after_ms', (refusal_json.refusal).retry_after_ms, 'trace_id', (refusal_json.refusal).trace_id
  );
$function$;

CREATE OR REPLACE FUNCTION eve.refused_detail(request_id text, consumer_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_newest eve.refusals;
  v_consumers text[];
begin
  select array_agg(distinct coalesce(c.name, f.consumer_id::text, 'project'))
  into v_consumers
  from eve.refusals f
  left join eve.consumers c on c.id = f.consumer_id
  where f.request_id = refused_detail.request_id
    and (refused_detail.consumer_id is null or f.consumer_id = refused_detail.consumer_id);
  if v_consumers is null then
    raise exception 'there is no request %', refused_detail.request_id using errcode = 'EV400';
  elsif cardinality(v_consumers) > 1 then
    raise exception 'request_id % was used by several consumers: give consumer, one of %',
      refused_detail.request_id, array_to_string(v_consumers, ', ') using errcode = 'EV400';
  end if;
  select * into v_newest
  from eve.refusals f
  where f.request_id = refused_detail.request_id
    and (refused_detail.consumer_id is null or f.consumer_id = refused_detail.consumer_id)
  order by f.refused_at desc, f.id desc
  limit 1;
  return eve.refusal_json(v_newest) || jsonb_build_object(
    'metadata', null, 'tries', jsonb_build_array(), 'running', null, 'capture', null, 'answer_kept', false,
    'refusals', (
      select jsonb_agg(
        jsonb_build_object(
          'at', f.refused_at, 'attempt', f.attempt, 'model', f.model, 'error_code', f.code, 'limit', f.limit_name,
          'retry_after_ms', f.retry_after_ms
        )
        order by f.refused_at, f.id
      )
      from (
        select *
        from eve.refusals r
        where r.request_id = refused_detail.request_id and r.consumer_id is not distinct from v_newest.consumer_id
        order by r.refused_at desc
        limit 100
      ) f
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_request_detail(request_no bigint DEFAULT NULL::bigint, request_id text DEFAULT NULL::text, consumer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_consumer_id constant uuid := eve.consumer_id_of(eve_request_detail.consumer);
  v_found bigint[];
  v_request eve.requests;
  v_running eve.inflight;
begin
  if (eve_request_detail.request_no is null) = (eve_request_detail.request_id is null) then
    raise exception 'give either request_no or request_id' using errcode = 'EV400';
  end if;
  if eve_request_detail.request_no is not null then
    v_found := array[eve_request_detail.request_no];
  else
    select array_agg((one ->> 'request_no')::bigint)
    into v_found
    from jsonb_array_elements(
      public.eve_request_search(request_id => eve_request_detail.request_id, consumer => eve_request_detail.consumer)
        -> 'requests'
    ) one
    where one ->> 'request_no' is not null;
    if v_found is null then
      return eve.refused_detail(eve_request_detail.request_id, v_consumer_id);
    end if;
    if cardinality(v_found) > 1 then
      raise exception 'request_id % was used by several consumers: give consumer, or one of the numbers %',
        eve_request_detail.request_id, array_to_string(v_found, ', ') using errcode = 'EV400';
    end if;
  end if;
  select * into v_request from eve.requests r where r.request_no = v_found[1];
  if not found then
    select * into v_running from eve.inflight i where i.request_no = v_found[1];
    if not found then
      raise exception 'there is no request %',
        coalesce(eve_request_detail.request_id, eve_request_detail.request_no::text) using errcode = 'EV400';
    end if;
    v_request := eve.as_request(v_running);
  end if;
  return eve.request_json(v_request) || jsonb_build_object(
    'metadata', coalesce(v_request.metadata, '{}'),
    'tries', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'attempt', a.attempt, 'model', a.model,
            'key', coalesce((select k.key_alias from public.google_ai_api_keys k where k.id = a.key_id), a.key_id::text),
            'quota_project', (select l.quota_project from eve.lanes l where l.id = a.lane_id),
            'start_at', to_timestamp(a.start_ms / 1000.0),
            -- From the time it was asked for, which is the end of the attempt before it, until its start or its end.
            'wait_ms', greatest(
              least(a.start_ms, floor(extract(epoch from a.settled_at) * 1000)::bigint)
                - floor(extract(epoch from coalesce(a.before, v_request.received_at)) * 1000)::bigint,
              0
            ),
            'latency_ms', a.latency_ms, 'settled_at', a.settled_at, 'outcome', a.outcome, 'dispatched', a.dispatched,
            'tokens_booked', a.tokens_booked, 'input_tokens', a.input_tokens, 'output_tokens', a.output_tokens,
            'thoughts_tokens', a.thoughts_tokens, 'cached_tokens', a.cached_tokens, 'total_tokens', a.total_tokens,
            'usage_estimated', a.usage_estimated, 'upstream_status', a.upstream_status, 'error_code', a.error_code,
            'error_detail', a.error_detail, 'blame', case when a.outcome <> 'succeeded' then eve.blame_of(a.error_code) end,
            'finish_reason', a.finish_reason
          )
          order by a.attempt
        ),
        '[]'
      )
      from (
        select t.*, lag(t.settled_at) over (order by t.attempt) as before
        from eve.attempts t
        where t.request_no = v_request.request_no
      ) a
    ),
    'running', case when v_running.request_no is not null then jsonb_build_object(
      'attempt', v_running.attempt, 'state', v_running.state, 'start_at', to_timestamp(v_running.start_ms / 1000.0),
      'lease_until', v_running.lease_until, 'tokens_booked', v_running.tokens
    ) end,
    -- Of the hour before it came and of its own time.
    'refusals', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'at', f.refused_at, 'attempt', f.attempt, 'model', f.model, 'error_code', f.code, 'limit', f.limit_name,
            'retry_after_ms', f.retry_after_ms
          )
          order by f.refused_at, f.id
        ),
        '[]'
      )
      from eve.refusals f
      where f.request_id = v_request.request_id and f.consumer_id = v_request.consumer_id
        and f.refused_at between v_request.received_at - interval '1 hour' and coalesce(v_request.finished_at, eve.clock())
    ),
    'capture', (
      select jsonb_build_object('prompt', c.prompt, 'answer', c.answer, 'captured_at', c.captured_at)
      from eve.captures c
      where c.request_no = v_request.request_no
    ),
    'answer_kept', exists (select from eve.request_results k where k.request_no = v_request.request_no)
  );
end;
$function$;
comment on function public.eve_request_detail is 'One request with all its attempts, waits, refusals, who is to blame, and what was captured of it; or, by its request_id, one that was refused, with its refusals.';

-- reading_search ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.search_refusals(consumer_id uuid, model text, key_id uuid, error_code text, since timestamp with time zone, until timestamp with time zone, before bigint, at_most integer, scan integer, OUT refusals jsonb, OUT next_before bigint)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_before constant bigint := coalesce(search_refusals.before, 9223372036854775807);
  v_before_at timestamptz := 'infinity';
begin
  if search_refusals.before is not null then
    v_before_at := coalesce(
      (select f.refused_at from eve.refusals f where f.id <= v_before order by f.id desc limit 1), '-infinity'
    );
  end if;
  select coalesce(jsonb_agg(page.one order by page.refused_at desc, page.id desc), '[]'),
    case when count(*) = search_refusals.at_most then (array_agg(page.id order by page.refused_at, page.id))[1] end
  into refusals, next_before
  from (
    select r.id, r.refused_at, eve.refusal_json(r) as one
    from (
      select *
      from eve.refusals f
      where (f.refused_at, f.id) < (v_before_at, v_before) and f.refused_at <= v_before_at
          and f.refused_at >= search_refusals.since and f.refused_at < search_refusals.until
      order by f.refused_at desc, f.id desc
      limit search_refusals.scan
    ) r
    where (search_refusals.consumer_id is null or r.consumer_id = search_refusals.consumer_id)
      and (search_refusals.model is null or r.model = search_refusals.model)
      and (search_refusals.error_code is null or r.code = search_refusals.error_code)
      and search_refusals.key_id is null
    order by r.refused_at desc, r.id desc
    limit search_refusals.at_most
  ) page;
  if next_before is null then
    select f.id into next_before
    from eve.refusals f
    where (f.refused_at, f.id) < (v_before_at, v_before) and f.refused_at <= v_before_at
      and f.refused_at >= search_refusals.since and f.refused_at < search_refusals.until
    order by f.refused_at desc, f.id desc
    offset search_refusals.scan - 1
    limit 1;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_request_search(request_id text DEFAULT NULL::text, consumer text DEFAULT NULL::text, model text DEFAULT NULL::text, key text DEFAULT NULL::text, outcome text DEFAULT NULL::text, error_code text DEFAULT NULL::text, since timestamp with time zone DEFAULT NULL::timestamp with time zone, until timestamp with time zone DEFAULT NULL::timestamp with time zone, before bigint DEFAULT NULL::bigint, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_scan constant integer := 100000;
  v_at_most constant integer := least(greatest(eve_request_search.at_most, 1), 1000);
  v_consumer_id constant uuid := eve.consumer_id_of(eve_request_search.consumer);
  v_key_id constant uuid := eve.key_id_of(eve_request_search.key);
  -- The end of the page before, and what is looked at from there.
  v_before bigint := coalesce(eve_request_search.before, 9223372036854775807);
  v_before_at timestamptz := 'infinity';
  v_since constant timestamptz := coalesce(eve_request_search.since, '-infinity');
  v_until constant timestamptz := coalesce(eve_request_search.until, 'infinity');
  v_found jsonb := '[]';
  v_running jsonb := '[]';
  v_last bigint;
begin
  if eve_request_search.outcome is not null
    and eve_request_search.outcome not in ('succeeded', 'failed', 'cancelled', 'expired', 'running', 'refused') then
    raise exception 'outcome must be succeeded, failed, cancelled, expired, running or refused' using errcode = 'EV400';
  end if;

  if eve_request_search.outcome = 'refused' and eve_request_search.request_id is null then
    select page.refusals, page.next_before into v_found, v_last
    from eve.search_refusals(
      v_consumer_id, eve_request_search.model, v_key_id, eve_request_search.error_code, v_since, v_until,
      eve_request_search.before, v_at_most, v_scan
    ) page;
  elsif eve_request_search.request_id is not null and coalesce(eve_request_search.outcome, '') <> 'running' then
    select coalesce(jsonb_agg(eve.request_json(r) order by r.finished_at desc, r.request_no desc), '[]')
    into v_found
    from eve.requests r
    where r.request_id = eve_request_search.request_id and (v_consumer_id is null or r.consumer_id = v_consumer_id)
      and (eve_request_search.outcome is null or r.state = eve_request_search.outcome);
    -- Those of later attempts are told with their request.
    if coalesce(eve_request_search.outcome, 'refused') = 'refused' then
      select v_found || coalesce(jsonb_agg(found.one order by found.refused_at desc, found.id desc), '[]')
      into v_found
      from (
        select f.id, f.refused_at, eve.refusal_json(f) as one
        from eve.refusals f
        where f.request_id = eve_request_search.request_id
          and (f.attempt = 1 or eve_request_search.outcome = 'refused')
          and (v_consumer_id is null or f.consumer_id = v_consumer_id)
          and (eve_request_search.model is null or f.model = eve_request_search.model)
          and (eve_request_search.error_code is null or f.code = eve_request_search.error_code)
          and (eve_request_search.since is null or f.refused_at >= eve_request_search.since)
          and (eve_request_search.until is null or f.refused_at < eve_request_search.until)
          and v_key_id is null
        order by f.refused_at desc, f.id desc
        limit v_at_most
      ) found;
    end if;
  elsif coalesce(eve_request_search.outcome, '') <> 'running' then
    if eve_request_search.before is not null then
      v_before_at := coalesce(
        (select q.finished_at from eve.requests q where q.request_no <= v_before order by q.request_no desc limit 1), '-infinity'
      );
    end if;
    -- Whatever came before `until` has ended within an hour of it.
    v_before_at := least(v_before_at, v_until + interval '1 hour');
    select coalesce(jsonb_agg(found.one order by found.finished_at desc, found.request_no desc), '[]'),
      case when count(*) = v_at_most then (array_agg(found.request_no order by found.finished_at, found.request_no))[1] end
    into v_found, v_last
    from (
      select r.request_no, r.finished_at, eve.request_json(r) as one
      from (
        select *
        from eve.requests q
        where (q.finished_at, q.request_no) < (v_before_at, v_before) and q.finished_at <= v_before_at
          and q.finished_at >= v_since
        order by q.finished_at desc, q.request_no desc
        limit v_scan
      ) r
      where (v_consumer_id is null or r.consumer_id = v_consumer_id)
        and (eve_request_search.model is null or eve_request_search.model in (r.model, r.requested_model))
        and (v_key_id is null or r.key_id = v_key_id)
        and (eve_request_search.outcome is null or r.state = eve_request_search.outcome)
        and (eve_request_search.error_code is null or r.error_code = eve_request_search.error_code)
        and r.received_at >= v_since and r.received_at < v_until
      order by r.finished_at desc, r.request_no desc
      limit v_at_most
    ) found;
    if v_last is null then
      select q.request_no into v_last
      from eve.requests q
      where (q.finished_at, q.request_no) < (v_before_at, v_before) and q.finished_at <= v_before_at
        and q.finished_at >= v_since
      order by q.finished_at desc, q.request_no desc
      offset v_scan - 1
      limit 1;
    end if;
  end if;

  -- Those that run, on the first page. The table is small.
  if eve_request_search.before is null and coalesce(eve_request_search.outcome, 'running') = 'running'
    and eve_request_search.error_code is null then
    select coalesce(jsonb_agg(found.one order by found.received_at desc, found.request_no desc), '[]')
    into v_running
    from (
      select i.request_no, i.received_at, eve.request_json(eve.as_request(i)) as one
      from eve.inflight i
      where (eve_request_search.request_id is null or i.request_id = eve_request_search.request_id)
        and (v_consumer_id is null or i.consumer_id = v_consumer_id)
        and (eve_request_search.model is null or eve_request_search.model in (i.model, i.requested_model))
        and (v_key_id is null or i.key_id = v_key_id)
        and (eve_request_search.since is null or i.received_at >= eve_request_search.since)
        and (eve_request_search.until is null or i.received_at < eve_request_search.until)
      order by i.received_at desc, i.request_no desc
      limit v_at_most
    ) found;
  end if;
  return jsonb_build_object('requests', v_running || v_found, 'next_before', v_last);
end;
$function$;
comment on function public.eve_request_search is 'Requests that run or have ended, the newest first, or refusals (outcome refused, or by their request_id). A page and where the next one begins; a call looks at 100,000 rows at most, so a page may be empty and not the last.';

CREATE OR REPLACE FUNCTION public.eve_tail(after jsonb DEFAULT NULL::jsonb, at_most integer DEFAULT 1000)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_at_most constant integer := least(greatest(eve_tail.at_most, 1), 10000);
  v_since constant timestamptz := (eve_tail.after ->> 'at')::timestamptz - interval '2 seconds';
  v_request_no bigint;
  v_refusal_no bigint;
  v_events jsonb;
  v_count integer;
  v_last timestamptz;
  v_now constant timestamptz := eve.clock();
begin
  select coalesce(max(r.request_no), 0) into v_request_no from eve.requests r;
  select coalesce(max(f.id), 0) into v_refusal_no from eve.refusals f;
  with ended as (
    (
      select eve.request_json(r) as one, r.finished_at as at, r.request_no as number
      from eve.requests r
      where eve_tail.after is not null and r.finished_at > v_since
      order by r.finished_at, r.request_no
      limit v_at_most
    )
    union all
    (
      select eve.request_json(r), r.finished_at, r.request_no
      from eve.requests r
      where eve_tail.after is null
      order by r.finished_at desc, r.request_no desc
      limit v_at_most
    )
    union all
    (
      select eve.refusal_json(f), f.refused_at, f.id
      from eve.refusals f
      where eve_tail.after is not null and f.refused_at > v_since
      order by f.refused_at, f.id
      limit v_at_most
    )
    union all
    (
      select eve.refusal_json(f), f.refused_at, f.id
      from eve.refusals f
      where eve_tail.after is null
      order by f.refused_at desc, f.id desc
      limit v_at_most
    )
  ), page as (
    select *
    from ended
    -- Following, the oldest are told first and the rest next time; at the beginning, the last ones.
    order by case when eve_tail.after is null then extract(epoch from ended.at) * -1 else extract(epoch from ended.at) end
    limit v_at_most
  )
  select coalesce(jsonb_agg(page.one order by page.at, page.number), '[]'), count(*), max(page.at)
  into v_events, v_count, v_last
  from page;
  return jsonb_build_object(
    'events', v_events,
    'cursor', jsonb_build_object(
      'request_no', v_request_no, 'refusal_no', v_refusal_no,
      -- A full page goes on where it ended. Else from here, which an idle hour does not move back.
      'at', case when eve_tail.after is not null and v_count = v_at_most then v_last else v_now end
    )
  );
end;
$function$;
comment on function public.eve_tail is 'What has ended or was refused since a cursor that an earlier call answered. The last two seconds are told again.';

-- reading_lanes -------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_now()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'now', to_timestamp(c.ms / 1000.0),
    'pacific_day', eve.pacific_day(c.ms),
    'pacific_day_begins', eve.pacific_day(c.ms)::timestamp at time zone 'America/Los_Angeles',
    'pacific_day_ends', to_timestamp(eve.next_pacific_midnight(c.ms) / 1000.0)
  )
  from (select eve.clock_ms() as ms) c;
$function$;
comment on function public.eve_now is 'The database''s clock and the bounds of the Pacific day that holds it.';

CREATE OR REPLACE FUNCTION public.eve_lane_states(quota_project text DEFAULT NULL::text, model text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  with clock as (
    select c.ms, to_timestamp(c.ms / 1000.0) as at, eve.next_pacific_midnight(c.ms) as midnight_ms,
      coalesce((select s.value from eve.settings s where s.name = 'guard_ms'), 0) as guard_ms
    from (select eve.clock_ms() as ms) c
  ), pools as (
    select k.quota_key, eve.provider_name(k.provider) as provider,
      array_agg(k.key_alias order by k.priority, k.key_alias) as keys,
      count(*) filter (
        where k.is_active and k.env_var_name is not null and (k.blocked_until is null or k.blocked_until <= clock.at)
      ) as usable,
      array_agg(k.id) filter (
        where k.is_active and k.env_var_name is not null and (k.blocked_until is null or k.blocked_until <= clock.at)
      ) as usable_ids
    from public.google_ai_api_keys k
    cross join clock
    where eve_lane_states.quota_project is null or k.quota_key = eve_lane_states.quota_project
    group by 1, 2
  ), states as (
    select p.quota_key, m.model, p.keys, clock.at, clock.midnight_ms,
      p.usable - (
        select count(*)
        from eve.key_model_blocks b
        where b.key_id = any (p.usable_ids) and b.model = m.model and b.blocked_until > clock.at
      ) as usable,
      o.model is not null as is_override,
      (case when o.model is null then m.rpm else o.rpm end)::integer as rpm,
      (case when o.model is null then m.tpm else o.tpm end)::integer as tpm,
      (case when o.model is null then m.rpd else o.rpd end)::integer as rpd,
      case when l.blocked_until > clock.at then l.blocked_until end as blocked_until,
      case when l.blocked_until > clock.at then l.blocked_reason end as blocked_reason,
      case
        when l.day_ends_ms = clock.midnight_ms then l.day_starts
        -- Last booked yesterday: what it booked ahead counts today.
        when l.day_ends_ms > 0 and eve.next_pacific_midnight(l.day_ends_ms) = clock.midnight_ms then l.next_day_starts
        else 0
      end as day_used,
      minute.starts as minute_starts, minute.tokens as minute_tokens, minute.oldest_ms + 60000 + clock.guard_ms as minute_frees_ms,
      line.queued, line.running
    from pools p
    join public.google_ai_model_limits m on eve.provider_name(m.provider) = p.provider and m.is_active and m.replaced_by is null
    cross join clock
    left join eve.quota_overrides o on o.quota_project = p.quota_key and o.model = m.model
    left join eve.lanes l on l.quota_project = p.quota_key and l.model = m.model
    cross join lateral (
      select coalesce(sum(b.starts), 0) as starts, coalesce(sum(b.tokens), 0) as tokens,
        min(b.at_ms) as oldest_ms
      from eve.lane_buckets b
      where b.lane_id = l.id and b.at_ms > clock.ms - 60000 - clock.guard_ms and b.at_ms <= clock.ms
    ) minute
    cross join lateral (
      select count(*) filter (where i.state = 'waiting' or i.start_ms > clock.ms) as queued,
        count(*) filter (where i.state = 'reserved' and i.start_ms <= clock.ms) as running
      from eve.inflight i
      where i.lane_id = l.id and i.state in ('reserved', 'waiting')
    ) line
    where eve_lane_states.model is null or m.model = eve_lane_states.model
  ), judged as (
    select s.*,
      case
        when s.usable <= 0 then 'no_key'
        when s.blocked_until is not null then 'paused'
        when s.rpm = 0 or s.tpm = 0 or s.rpd = 0 then 'no_quota'
        when s.day_used >= s.rpd then 'day_used_up'
        when s.minute_starts >= s.rpm or s.minute_tokens >= s.tpm then 'minute_used_up'
        else 'open'
      end as state
    from states s
  )
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'quota_project', s.quota_key, 'model', s.model, 'keys', to_jsonb(s.keys),
        'state', s.state,
        -- Starts that it could take now; null: without end.
        'free', case when s.state = 'open' then least(s.rpm - s.minute_starts, s.rpd - s.day_used) else 0 end,
        'frees_at', case s.state
          when 'paused' then s.blocked_until
          when 'day_used_up' then to_timestamp(s.midnight_ms / 1000.0)
          when 'minute_used_up' then to_timestamp(s.minute_frees_ms / 1000.0)
        end,
        'blocked_until', s.blocked_until, 'blocked_reason', s.blocked_reason,
        'limits_from', case when s.is_override then 'override' else 'model' end,
        'requests', jsonb_build_object('limit', s.rpm, 'used', s.minute_starts, 'remaining', case when s.rpm is not null then greatest(s.rpm - s.minute_starts, 0) end),
        'tokens', jsonb_build_object('limit', s.tpm, 'used', s.minute_tokens, 'remaining', case when s.tpm is not null then greatest(s.tpm - s.minute_tokens, 0) end),
        'requests_day', jsonb_build_object(
          'limit', s.rpd, 'used', s.day_used, 'remaining', case when s.rpd is not null then greatest(s.rpd - s.day_used, 0) end,
          'resets_at', to_timestamp(s.midnight_ms / 1000.0)
        ),
        'queued', s.queued, 'running', s.running
      )
      order by s.quota_key, s.model
    ),
    '[]'
  )
  from judged s;
$function$;
comment on function public.eve_lane_states is 'Every quota project and model with what is used and left of its minute and its Pacific day now, who waits, and why it is closed if it is. A limit that is null is unlimited.';

CREATE OR REPLACE FUNCTION public.eve_key_states()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  with clock as (
    select to_timestamp(c.ms / 1000.0) as at, eve.pacific_day(c.ms) as day,
      eve.pacific_day(c.ms)::timestamp at time zone 'America/Los_Angeles' as day_begins
    from (select eve.clock_ms() as ms) c
  ), lanes as (
    select lane.value ->> 'quota_project' as quota_key, jsonb_agg(lane.value) as states
    from jsonb_array_elements(public.eve_lane_states()) as lane
    group by 1
  )
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'alias', k.key_alias, 'provider', eve.provider_name(k.provider), 'env_var_name', k.env_var_name,
        'quota_project', k.quota_project, 'quota_key', k.quota_key, 'priority', k.priority, 'notes', k.notes,
        'is_active', coalesce(k.is_active, false),
        'state', case
          when k.is_active is not true then 'off'
          when k.env_var_name is null then 'no_secret_name'
          when k.blocked_until > clock.at then 'blocked'
          else 'on'
        end,
        'blocked_until', case when k.blocked_until > clock.at then k.blocked_until end,
        'blocked_reason', case when k.blocked_until > clock.at then k.blocked_reason end,
        'created_at', k.created_at, 'last_used_at', used.last_used_at,
        'today', jsonb_build_object('requests', coalesce(today.requests, 0), 'input_tokens', coalesce(today.tokens, 0)),
        'check', case when seen.key_id is not null then jsonb_build_object(
          'checked_at', seen.checked_at, 'outcome', seen.outcome, 'reason', seen.reason, 'detail', seen.detail,
          'works_since', seen.works_since
        ) end,
        'blocked_models', coalesce(blocked.models, '[]'), 'lanes', coalesce(lanes.states, '[]')
      )
      order by k.priority, k.key_alias
    ),
    '[]'
  )
  from public.google_ai_api_keys k
  cross join clock
  left join lanes on lanes.quota_key = k.quota_key
  left join eve.key_checks seen on seen.key_id = k.id
  cross join lateral (
    -- One probe of the counters' index for each model.
    select max(last.minute_bucket) as last_used_at
    from public.google_ai_model_limits m
    cross join lateral (
      select c.minute_bucket
      from public.google_ai_usage_counters c
      where c.api_key_id = k.id and c.model = m.model and c.minute_bucket is not null
      order by c.minute_bucket desc
      limit 1
    ) last
  ) used
  cross join lateral (
    select sum(c.rpm_used) as requests, sum(c.tpm_used) as tokens
    from public.google_ai_model_limits m
    join public.google_ai_usage_counters c on c.model = m.model
    where c.api_key_id = k.id and c.minute_bucket >= clock.day_begins and c.day_bucket = clock.day
  ) today
  cross join lateral (
    select jsonb_agg(
      jsonb_build_object('model', b.model, 'blocked_until', b.blocked_until, 'reason', b.reason) order by b.model
    ) as models
    from eve.key_model_blocks b
    where b.key_id = k.id and b.blocked_until > clock.at
  ) blocked;
$function$;
comment on function public.eve_key_states is 'Every key: whether it is used and why not, what it did today, what its last check found, models it may not serve, and the lanes of its quota project.';

CREATE OR REPLACE FUNCTION eve.require_live_caller(consumer_id uuid, token_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  if require_live_caller.consumer_id is not null
    and not exists (select from eve.consumers c where c.id = require_live_caller.consumer_id and c.is_active) then
    raise exception 'consumer % is not there or switched off', require_live_caller.consumer_id using errcode = 'EV403';
  elsif require_live_caller.token_id is not null
    and not exists (
      select
      from eve.scoped_tokens t
      where t.id = require_live_caller.token_id and t.consumer_id = require_live_caller.consumer_id and t.revoked_at is null
        and t.expires_at > eve.clock()
    ) then
    raise exception 'token % has ended', require_live_caller.token_id using errcode = 'EV401';
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_models(consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  perform eve.require_live_caller(eve_models.consumer_id, eve_models.token_id);
  return (
    select coalesce(
      jsonb_agg(
        jsonb_build_object(
          'model', m.model, 'replaced_by', m.replaced_by, 'provider', m.provider, 'rpm', m.rpm, 'tpm', m.tpm, 'rpd', m.rpd,
          'created_at', m.created_at, 'max_output_tokens', m.max_output_tokens,
          'capabilities', jsonb_build_object(
            'system', m.supports_system, 'json', m.supports_json, 'tools', m.supports_tools, 'thinking', m.supports_thinking
          )
        )
        order by m.model
      ),
      '[]'
    )
    from public.google_ai_model_limits m
    where m.is_active
      and not exists (
        select
        from eve.consumers c
        where c.id = eve_models.consumer_id and m.model <> all (c.models)
      )
      and not exists (
        select
        from eve.scoped_tokens t
        where t.id = eve_models.token_id and m.model <> all (t.models)
      )
  );
end;
$function$;
comment on function public.eve_models is 'The models that a consumer, or the holder of a token, may use.';

CREATE OR REPLACE FUNCTION eve.shares_of(model public.google_ai_model_limits)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'batch_floor', (model).batch_floor, 'interactive_floor', (model).interactive_floor,
    'interactive_reserve', (model).interactive_reserve, 'interactive_reserve_day', (model).interactive_reserve_day
  );
$function$;

CREATE OR REPLACE FUNCTION public.eve_limits()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'models', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'model', m.model, 'rpm', m.rpm, 'tpm', m.tpm, 'rpd', m.rpd, 'shares', eve.shares_of(m), 'is_active', m.is_active,
            'replaced_by', m.replaced_by, 'updated_at', m.updated_at
          )
          order by m.model
        ),
        '[]'
      )
      from public.google_ai_model_limits m
    ),
    'overrides', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'quota_project', o.quota_project, 'model', o.model, 'rpm', o.rpm, 'tpm', o.tpm, 'rpd', o.rpd, 'notes', o.notes,
            'updated_at', o.updated_at
          )
          order by o.quota_project, o.model
        ),
        '[]'
      )
      from eve.quota_overrides o
    ),
    'quota_projects', (
      select coalesce(jsonb_agg(distinct k.quota_key), '[]') from public.google_ai_api_keys k where k.quota_key is not null
    )
  );
$function$;
comment on function public.eve_limits is 'The limits of every model, what differs per quota project, and the quota projects there are.';

CREATE OR REPLACE FUNCTION eve.limit_of(change jsonb, name text, now_value integer)
 RETURNS integer
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  if not limit_of.change ? limit_of.name then
    return limit_of.now_value;
  elsif jsonb_typeof(limit_of.change -> limit_of.name) = 'null' then
    return null;
  elsif limit_of.change ->> limit_of.name !~ '^[0-9]{1,10}$' or (limit_of.change ->> limit_of.name)::bigint > 2147483647 then
    raise exception '% of % must be a whole number up to 2147483647, or null for no limit',
      limit_of.name, limit_of.change ->> 'model' using errcode = 'EV400';
  end if;
  return (limit_of.change ->> limit_of.name)::integer;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.with_shares(model public.google_ai_model_limits, change jsonb)
 RETURNS public.google_ai_model_limits
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
declare
  v_model public.google_ai_model_limits := with_shares.model;
  v_name text;
begin
  foreach v_name in array array['batch_floor', 'interactive_reserve', 'interactive_reserve_day'] loop
    if with_shares.change ? v_name and (
      jsonb_typeof(with_shares.change -> v_name) <> 'number' or (with_shares.change ->> v_name)::numeric not between 0 and 0.9
    ) then
      raise exception '% of % must be a share from 0 to 0.9', v_name, v_model.model using errcode = 'EV400';
    end if;
  end loop;
  v_model.batch_floor := coalesce((with_shares.change ->> 'batch_floor')::double precision, v_model.batch_floor);
  v_model.interactive_reserve := coalesce((with_shares.change ->> 'interactive_reserve')::double precision, v_model.interactive_reserve);
  v_model.interactive_reserve_day := coalesce(
    (with_shares.change ->> 'interactive_reserve_day')::double precision, v_model.interactive_reserve_day
  );
  v_model.interactive_floor := coalesce(
    eve.limit_of(with_shares.change, 'interactive_floor', v_model.interactive_floor), v_model.interactive_floor
  );
  return v_model;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_limits_set(changes jsonb, quota_project text DEFAULT NULL::text, add_models boolean DEFAULT false, notes text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_change jsonb;
  v_name text;
  v_model public.google_ai_model_limits;
  v_override eve.quota_overrides;
  v_shared public.google_ai_model_limits;
  v_after jsonb := '[]';
begin
  if jsonb_typeof(eve_limits_set.changes) is distinct from 'array' or jsonb_array_length(eve_limits_set.changes) not between 1 and 1000 then
    raise exception 'changes must be a list of 1 to 1000 objects with model, rpm, tpm and rpd' using errcode = 'EV400';
  elsif eve_limits_set.quota_project is not null
    and not exists (select from public.google_ai_api_keys k where k.quota_key = eve_limits_set.quota_project) then
    raise exception 'no key has the quota project %; there are %', eve_limits_set.quota_project,
      coalesce((select string_agg(distinct k.quota_key, ', ') from public.google_ai_api_keys k), 'none') using errcode = 'EV400';
  end if;
  -- Before the rows, as statements that change them take it (eve.lock_routes).
  perform pg_advisory_xact_lock(eve.routes_lock());
  -- In one order, so that two that change the same rows cannot wait for each other.
  for v_change in
    select c.value from jsonb_array_elements(eve_limits_set.changes) c order by c.value ->> 'model'
  loop
    v_name := v_change ->> 'model';
    if v_name is null or v_name !~ '^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$' then
      raise exception '% is not a name of a model', coalesce(v_name, 'nothing') using errcode = 'EV400';
    end if;
    if eve_limits_set.quota_project is not null
      and v_change ?| array['batch_floor', 'interactive_floor', 'interactive_reserve', 'interactive_reserve_day'] then
      raise exception 'shares are of a model, in all quota projects' using errcode = 'EV400';
    end if;
    select * into v_model from public.google_ai_model_limits m where m.model = v_name for update;
    if not found then
      if eve_limits_set.quota_project is not null or not eve_limits_set.add_models then
        raise exception 'there is no model named % in google_ai_model_limits', v_name using errcode = 'EV400';
      end if;
      insert into public.google_ai_model_limits (model) values (v_name) returning * into v_model;
    end if;
    if eve_limits_set.quota_project is null then
      v_shared := eve.with_shares(v_model, v_change);
      update public.google_ai_model_limits m
      set batch_floor = v_shared.batch_floor, interactive_floor = v_shared.interactive_floor,
        interactive_reserve = v_shared.interactive_reserve, interactive_reserve_day = v_shared.interactive_reserve_day, rpm = eve.limit_of(v_change, 'rpm', m.rpm::integer), tpm = eve.limit_of(v_change, 'tpm', m.tpm::integer),
        rpd = eve.limit_of(v_change, 'rpd', m.rpd::integer), updated_at = eve.clock()
      where m.model = v_name
      returning * into v_model;
    else
      select * into v_override
      from eve.quota_overrides o
      where o.quota_project = eve_limits_set.quota_project and o.model = v_name
      for update;
      -- The override replaces all three, so what is not said is taken from what held until now.
      if not found then
        v_override.rpm := v_model.rpm;
        v_override.tpm := v_model.tpm;
        v_override.rpd := v_model.rpd;
        v_override.notes := null;
      end if;
      insert into eve.quota_overrides as o (quota_project, model, rpm, tpm, rpd, notes, updated_at)
      values (
        eve_limits_set.quota_project, v_name, eve.limit_of(v_change, 'rpm', v_override.rpm),
        eve.limit_of(v_change, 'tpm', v_override.tpm), eve.limit_of(v_change, 'rpd', v_override.rpd),
        coalesce(eve_limits_set.notes, v_override.notes), eve.clock()
      )
      on conflict on constraint quota_overrides_pkey do update
      set rpm = excluded.rpm, tpm = excluded.tpm, rpd = excluded.rpd, notes = excluded.notes, updated_at = excluded.updated_at
      returning * into v_override;
    end if;
    v_after := v_after || jsonb_build_object(
      'quota_project', eve_limits_set.quota_project, 'model', v_name,
      'rpm', case when eve_limits_set.quota_project is null then v_model.rpm else v_override.rpm end,
      'tpm', case when eve_limits_set.quota_project is null then v_model.tpm else v_override.tpm end,
      'rpd', case when eve_limits_set.quota_project is null then v_model.rpd else v_override.rpd end,
      'shares', eve.shares_of(v_model)
    );
  end loop;
  return v_after;
end;
$function$;
comment on function public.eve_limits_set is 'Changes limits of models, or of one quota project, all or none: the next reservation knows. A limit that a change does not name stays; null is no limit.';

CREATE OR REPLACE FUNCTION public.eve_limits_clear(quota_project text, model text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_cleared jsonb;
begin
  with cleared as (
    delete from eve.quota_overrides o
    where o.quota_project = eve_limits_clear.quota_project
      and (eve_limits_clear.model is null or o.model = eve_limits_clear.model)
    returning o.model
  )
  select coalesce(jsonb_agg(c.model order by c.model), '[]') into v_cleared from cleared c;
  if v_cleared = '[]' then
    raise exception 'the quota project % has no limits of its own%', eve_limits_clear.quota_project,
      coalesce(' for ' || eve_limits_clear.model, '') using errcode = 'EV400';
  end if;
  return jsonb_build_object('quota_project', eve_limits_clear.quota_project, 'cleared', v_cleared);
end;
$function$;
comment on function public.eve_limits_clear is 'Takes away what a quota project has of its own: the model''s row counts again.';

-- doctor_and_usage ----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.platform_facts()
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  v_migrations jsonb;
  v_jobs jsonb;
  v_http jsonb;
  v_vault jsonb;
begin
  -- A platform that keeps one of these to itself, or names its columns otherwise, leaves that fact unknown.
  begin
    if to_regclass('supabase_migrations.schema_migrations') is not null then
      execute 'select coalesce(jsonb_agg(m.version order by m.version), ''[]'') from supabase_migrations.schema_migrations m'
      into v_migrations;
    end if;
  exception
    when insufficient_privilege or undefined_column then
      null;
  end;
  begin
    if to_regclass('cron.job') is not null and to_regclass('cron.job_run_details') is not null then
      execute $sql$
        select coalesce(
          jsonb_agg(
            jsonb_build_object(
              'name', j.jobname, 'schedule', j.schedule, 'active', j.active, 'last', to_jsonb(last), 'last_ok_at', ok.end_time
            )
            order by j.jobname
          ),
          '[]'
        )
        from cron.job j
        left join lateral (
          select d.status, left(d.return_message, 500) as message, d.start_time as started_at, d.end_time as ended_at
          from cron.job_run_details d
          where d.jobid = j.jobid and d.status not in ('starting', 'running')
          order by d.runid desc
          limit 1
        ) last on true
        left join lateral (
          select d.end_time
          from cron.job_run_details d
          where d.jobid = j.jobid and d.status = 'succeeded'
          order by d.runid desc
          limit 1
        ) ok on last.status is distinct from null
        where j.jobname like 'eve\_%'
      $sql$
      into v_jobs;
    end if;
  exception
    when insufficient_privilege or undefined_column then
      null;
  end;
  begin
    if to_regclass('net._http_response') is not null then
      execute $sql$
        select jsonb_build_object(
          'answered', count(*) filter (where r.status_code between 200 and 299),
          'refused', count(*) filter (where r.status_code >= 300),
          'unanswered', count(*) filter (where r.status_code is null),
          'last_error', (array_agg(left(coalesce(r.error_msg, r.status_code::text), 300) order by r.created desc)
            filter (where r.status_code is null or r.status_code >= 300))[1]
        )
        from net._http_response r
        where r.created > now() - interval '1 hour'
      $sql$
      into v_http;
    end if;
  exception
    when insufficient_privilege or undefined_column then
      null;
  end;
  begin
    if to_regclass('vault.secrets') is not null then
      execute 'select coalesce(jsonb_agg(s.name order by s.name), ''[]'') from vault.secrets s where s.name like ''eve\_%'''
      into v_vault;
    end if;
  exception
    when insufficient_privilege or undefined_column then
      null;
  end;
  return jsonb_build_object(
    'migrations', v_migrations, 'jobs', v_jobs, 'http_last_hour', v_http, 'vault_names', v_vault
  );
end;
$function$;
comment on function eve.platform_facts is 'Migrations, scheduled jobs with their last runs, answers to scheduled calls, and names of the gateway''s secrets in Vault.';

CREATE OR REPLACE FUNCTION public.eve_doctor()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select eve.platform_facts() || jsonb_build_object(
    'now', eve.clock(), 'server_version', current_setting('server_version'),
    'extensions', (
      select jsonb_agg(
        jsonb_build_object(
          'name', wanted.name, 'installed', e.extversion, 'available', a.default_version,
          -- The local stack's stand-ins have the schema without the extension.
          'schema', exists (select from pg_catalog.pg_namespace n where n.nspname = wanted.schema)
        )
        order by wanted.name
      )
      from (values ('pg_cron', 'cron'), ('pg_net', 'net'), ('supabase_vault', 'vault')) as wanted (name, schema)
      left join pg_catalog.pg_extension e on e.extname = wanted.name
      left join pg_catalog.pg_available_extensions a on a.name = wanted.name
    ),
    'settings', (select coalesce(jsonb_object_agg(s.name, s.value), '{}') from eve.settings s),
    'models', (select count(*) from public.google_ai_model_limits m where m.is_active and m.replaced_by is null),
    'alerts', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object('id', a.id, 'kind', a.kind, 'severity', a.severity, 'message', a.message, 'opened_at', a.opened_at)
          order by a.opened_at
        ),
        '[]'
      )
      from eve.alerts a
      where a.closed_at is null
    ),
    -- Reservations that nobody closed a minute after their lease: the sweep does not run, and no call came by either.
    'overdue', (select count(*) from eve.inflight i where i.lease_until < eve.clock() - interval '1 minute'),
    -- kept: with a row in eve.refusals; counted: beyond the rate that is kept, in eve.refusal_counts.
    'refused_last_hour', jsonb_build_object(
      'kept', (select count(*) from eve.refusals f where f.refused_at > eve.clock() - interval '1 hour'),
      'counted', (
        select coalesce(sum(c.times), 0) from eve.refusal_counts c where c.minute > eve.clock() - interval '1 hour'
      )
    ),
    -- within_s: the longest time between two starts that is no fault; null: it is not expected to run.
    'operations', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'operation', o.name, 'runs_in', o.runs_in, 'schedule', o.schedule, 'is_active', o.is_active,
            'within_s', e.within_s, 'expected_since', e.since, 'is_running', o.run_id is not null,
            'last_status', o.last_status, 'last_error', o.last_error, 'last_started_at', o.last_started_at,
            'last_completed_at', o.last_completed_at, 'last_succeeded_at', o.last_succeeded_at,
            'last_idle_at', o.last_idle_at, 'idle_runs', o.idle_runs
          )
          order by o.name
        ),
        '[]'
      )
      from eve.operations o
      left join eve.maintenance_expected e on e.operation = o.name
    ),
    'database_bytes', pg_database_size(current_database())
  );
$function$;
comment on function public.eve_doctor is 'Facts for a check of the whole project: clock, migrations, extensions, jobs and their last runs, answers to scheduled calls, alerts, maintenance.';

CREATE OR REPLACE FUNCTION public.eve_usage(by text[] DEFAULT '{day}'::text[], since timestamp with time zone DEFAULT NULL::timestamp with time zone, until timestamp with time zone DEFAULT NULL::timestamp with time zone, consumer text DEFAULT NULL::text, model text DEFAULT NULL::text, key text DEFAULT NULL::text, at_most integer DEFAULT 1000)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET jit TO 'off'
AS $function$
declare
  v_known constant text[] := array['day', 'hour', 'consumer', 'model', 'key', 'door'];
  v_now constant timestamptz := eve.clock();
  v_since constant timestamptz := date_trunc('hour', coalesce(eve_usage.since, v_now - interval '7 days'), 'UTC');
  v_until constant timestamptz := coalesce(
    date_trunc('hour', eve_usage.until - interval '1 microsecond', 'UTC') + interval '1 hour', 'infinity'
  );
  v_consumer_id constant uuid := eve.consumer_id_of(eve_usage.consumer);
  v_key_id constant uuid := eve.key_id_of(eve_usage.key);
  v_hourly constant boolean := 'hour' = any (eve_usage.by);
  v_rows jsonb;
  v_totals jsonb;
begin
  if eve_usage.by is null or cardinality(eve_usage.by) = 0 or not eve_usage.by <@ v_known then
    raise exception 'by must be some of %', array_to_string(v_known, ', ') using errcode = 'EV400';
  elsif v_since >= v_until then
    raise exception 'since must be before until' using errcode = 'EV400';
  end if;
  with frozen as (
    -- Days whose hours are gone, in part or wholly, are read as days.
    select coalesce(p.hours_frozen_before, '-infinity') as before from eve.rollup_progress p
  ), pieces as (
    select h.hour, eve.pacific_day((extract(epoch from h.hour) * 1000)::bigint) as day, h.consumer_id, h.model, h.key_id,
      h.endpoint, h.requests, h.succeeded, h.failed, h.cancelled, h.expired, h.refused, h.attempts, h.dispatched,
      h.upstream_refused, h.input_tokens, h.output_tokens, h.thoughts_tokens, h.cached_tokens, h.wait_ms, h.latency_ms
    from eve.usage_hours h
    where h.hour >= v_since and h.hour < v_until
    union all
    select null, d.day, d.consumer_id, d.model, d.key_id, d.endpoint, d.requests, d.succeeded, d.failed, d.cancelled, d.expired,
      d.refused, d.attempts, d.dispatched, d.upstream_refused, d.input_tokens, d.output_tokens, d.thoughts_tokens,
      d.cached_tokens, d.wait_ms, d.latency_ms
    from eve.usage_days d
    cross join frozen
    where not v_hourly and d.day::timestamp at time zone 'America/Los_Angeles' < frozen.before
      and d.day::timestamp at time zone 'America/Los_Angeles' >= v_since
      and d.day::timestamp at time zone 'America/Los_Angeles' < v_until
  ), hours as (
    select
      case when v_hourly then p.hour end as hour,
      case when 'day' = any (eve_usage.by) then p.day end as day,
      case when 'consumer' = any (eve_usage.by) then coalesce(p.consumer_id, '00000000-0000-0000-0000-000000000000') end as consumer_id,
      case when 'model' = any (eve_usage.by) then p.model end as model,
      case when 'key' = any (eve_usage.by) then p.key_id end as key_id,
      case when 'door' = any (eve_usage.by) then p.endpoint end as endpoint,
      p.requests, p.succeeded, p.failed, p.cancelled, p.expired, p.refused, p.attempts, p.dispatched, p.upstream_refused,
      p.input_tokens, p.output_tokens, p.thoughts_tokens, p.cached_tokens, p.wait_ms, p.latency_ms
    from pieces p
    cross join frozen
    where (v_consumer_id is null or coalesce(p.consumer_id, '00000000-0000-0000-0000-000000000000') = v_consumer_id)
      and (eve_usage.model is null or p.model = eve_usage.model)
      and (v_key_id is null or p.key_id = v_key_id)
      and (v_hourly or p.hour is null or p.day::timestamp at time zone 'America/Los_Angeles' >= frozen.before)
  ), sums as (
    select grouping(h.day, h.hour, h.consumer_id, h.model, h.key_id, h.endpoint) = 63 as is_total, h.day, h.hour, h.consumer_id,
      h.model, h.key_id, h.endpoint,
      jsonb_build_object(
        'requests', coalesce(sum(h.requests), 0), 'succeeded', coalesce(sum(h.succeeded), 0),
        'failed', coalesce(sum(h.failed), 0), 'cancelled', coalesce(sum(h.cancelled), 0),
        'expired', coalesce(sum(h.expired), 0), 'refused', coalesce(sum(h.refused), 0),
        'attempts', coalesce(sum(h.attempts), 0), 'dispatched', coalesce(sum(h.dispatched), 0),
        'upstream_refused', coalesce(sum(h.upstream_refused), 0), 'input_tokens', coalesce(sum(h.input_tokens), 0),
        'output_tokens', coalesce(sum(h.output_tokens), 0), 'thoughts_tokens', coalesce(sum(h.thoughts_tokens), 0),
        'cached_tokens', coalesce(sum(h.cached_tokens), 0), 'wait_ms', coalesce(sum(h.wait_ms), 0),
        'latency_ms', coalesce(sum(h.latency_ms), 0)
      ) as figures,
      sum(h.requests) as requests
    from hours h
    group by grouping sets ((h.day, h.hour, h.consumer_id, h.model, h.key_id, h.endpoint), ())
  )
  select
    (select t.figures from sums t where t.is_total),
    (
      select coalesce(jsonb_agg(page.one order by page.place), '[]')
      from (
        select
          row_number() over (order by s.day, s.hour, s.requests desc, s.model, s.key_id, s.consumer_id, s.endpoint) as place,
          case when 'day' = any (eve_usage.by) then jsonb_build_object('day', s.day) else '{}' end
          || case when v_hourly then jsonb_build_object('hour', s.hour) else '{}' end
          || case when 'consumer' = any (eve_usage.by) then jsonb_build_object(
            'consumer', coalesce((select c.name from eve.consumers c where c.id = s.consumer_id), s.consumer_id::text)
          ) else '{}' end
          || case when 'model' = any (eve_usage.by) then jsonb_build_object('model', s.model) else '{}' end
          || case when 'key' = any (eve_usage.by) then jsonb_build_object(
            'key', coalesce((select k.key_alias from public.google_ai_api_keys k where k.id = s.key_id), s.key_id::text)
          ) else '{}' end
          || case when 'door' = any (eve_usage.by) then jsonb_build_object('door', s.endpoint) else '{}' end
          || s.figures as one
        from sums s
        where not s.is_total
        order by place
        limit least(greatest(eve_usage.at_most, 1), 10000)
      ) page
    )
  into v_totals, v_rows;
  return jsonb_build_object(
    'by', to_jsonb(eve_usage.by), 'since', v_since, 'until', nullif(v_until, 'infinity'),
    'complete_until', (select p.rolled_until from eve.rollup_progress p), 'rows', v_rows, 'totals', v_totals
  );
end;
$function$;
comment on function public.eve_usage is 'Requests, refusals, attempts, tokens and times summed by day (Pacific), hour, consumer, model, key and endpoint. Complete up to complete_until; call eve_rollup before.';

-- stages --------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.is_administrator()
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select eve.is_administrator((select auth.uid()));
$function$;
comment on function eve.is_administrator is 'Whether the signed-in user is an administrator. For row-level security.';

CREATE OR REPLACE FUNCTION eve.is_administrator(user_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  v_user jsonb;
  v_metadata jsonb;
begin
  -- On a database without the platform's tables nobody is signed in.
  if is_administrator.user_id is null or to_regclass('auth.users') is null then
    return false;
  end if;
  select to_jsonb(u) into v_user from auth.users u where u.id = is_administrator.user_id;
  v_metadata := v_user -> 'raw_app_meta_data';
  if jsonb_typeof(v_metadata) = 'string' then
    v_metadata := (v_metadata #>> '{}')::jsonb;
  end if;
  return coalesce(v_metadata ->> 'role' = 'admin', false)
    and v_user ->> 'deleted_at' is null
    and coalesce((v_user ->> 'banned_until')::timestamptz <= now(), true);
end;
$function$;
comment on function eve.is_administrator is 'Whether a user''s app_metadata names the role admin, and the user is neither banned nor deleted.';

CREATE OR REPLACE FUNCTION eve.provider_config_facts(config public.provider_configs)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'provider_kind', (provider_config_facts.config).provider_kind, 'model', (provider_config_facts.config).model,
    'key_last_four', (provider_config_facts.config).key_last_four,
    'key_fingerprint', (provider_config_facts.config).key_fingerprint,
    'settings', (provider_config_facts.config).settings, 'quota_project', (provider_config_facts.config).quota_project,
    'status', (provider_config_facts.config).status, 'status_reason', (provider_config_facts.config).status_reason
  );
$function$;
comment on function eve.provider_config_facts is 'What the history keeps of a stage''s row.';

CREATE OR REPLACE FUNCTION eve.stage_model(provider_kind text, model text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select case k.provider when 'google' then stage_model.model else k.kind || '/' || stage_model.model end
  from eve.provider_kinds k
  where k.kind = stage_model.provider_kind;
$function$;
comment on function eve.stage_model is 'A provider''s model as google_ai_model_limits names it: openai/gpt-5-mini, and gemini-3.5-flash for Google''s.';

CREATE OR REPLACE FUNCTION eve.follow_provider_config()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_stage constant text := case when tg_op = 'DELETE' then old.stage_type else new.stage_type end;
  v_alias constant text := 'stage:' || v_stage;
  v_kind eve.provider_kinds;
  v_model text;
  v_known text;
  v_before jsonb := case when tg_op <> 'INSERT' then eve.provider_config_facts(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then eve.provider_config_facts(new) end;
  v_event text := case tg_op when 'INSERT' then 'created' when 'DELETE' then 'removed' else 'changed' end;
begin
  if tg_op = 'DELETE' then
    delete from public.google_ai_model_limits m where m.model = v_alias;
    update public.google_ai_api_keys k set is_active = false where k.env_var_name = v_alias;
    update public.api_keys k set used_until = now() where k.stage_type = v_stage and k.used_until is null;
  else
    select * into v_kind from eve.provider_kinds k where k.kind = new.provider_kind;
    v_model := eve.stage_model(new.provider_kind, new.model);
    select m.provider into v_known from public.google_ai_model_limits m where m.model = v_model;
    if v_known is null then
      insert into public.google_ai_model_limits (model, provider, supports_system, supports_json, supports_tools)
      values (v_model, v_kind.provider, v_kind.supports_system, v_kind.supports_json, v_kind.supports_tools)
      on conflict do nothing;
    end if;
    insert into public.google_ai_model_limits as m (model, provider, replaced_by)
    values (v_alias, v_kind.provider, v_model)
    on conflict (model) do update
    set provider = excluded.provider, replaced_by = excluded.replaced_by, is_active = true
    where (m.provider, m.replaced_by, m.is_active) is distinct from (excluded.provider, excluded.replaced_by, true);

    if new.api_key_encrypted is null then
      update public.google_ai_api_keys k set is_active = false where k.env_var_name = v_alias and k.is_active;
    elsif tg_op = 'INSERT' or (old.key_fingerprint, old.provider_kind, old.quota_project)
      is distinct from (new.key_fingerprint, new.provider_kind, new.quota_project) then
      -- Another key is another account until somebody says otherwise, and starts without the blocks of the one before it.
      update public.google_ai_api_keys k
      set provider = v_kind.provider, is_active = true, blocked_until = null, blocked_reason = null,
        quota_project = coalesce(new.quota_project, new.provider_kind || ':' || left(new.key_fingerprint, 12))
      where k.env_var_name = v_alias;
      if found then
        delete from eve.key_model_blocks b
        using public.google_ai_api_keys k
        where k.env_var_name = v_alias and b.key_id = k.id;
      else
        -- Last in its pool: it is there for its stage.
        insert into public.google_ai_api_keys (key_alias, provider, env_var_name, is_active, priority, quota_project, notes)
        values (
          'stage-' || lower(v_stage), v_kind.provider, v_alias, true, 1000,
          coalesce(new.quota_project, new.provider_kind || ':' || left(new.key_fingerprint, 12)),
          'The key of stage ' || v_stage || ': it is kept in provider_configs and changed there.'
        );
      end if;
    end if;
  end if;

  if tg_op = 'UPDATE' then
    if v_before = v_after and old.api_key_encrypted is distinct from new.api_key_encrypted then
      v_event := 'reencrypted';
    elsif v_before = v_after then
      return null;
    elsif current_setting('eve.event', true) = 'model_vanished' then
      v_event := 'model_vanished';
    elsif v_before - '{status,status_reason}'::text[] = v_after - '{status,status_reason}'::text[] then
      v_event := 'status_changed';
    end if;
  end if;
  insert into eve.provider_history (stage_type, event, actor, before, after)
  values (
    v_stage, v_event, case when tg_op = 'DELETE' then coalesce(nullif(current_setting('eve.actor', true), ''), 'sql') else new.updated_by end,
    v_before, v_after
  );
  return null;
end;
$function$;
comment on function eve.follow_provider_config is 'Keeps a stage''s key, model and alias rows, and its history, in step with provider_configs.';

CREATE OR REPLACE FUNCTION eve.stamp_provider_config()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  new.updated_at := now();
  new.updated_by := coalesce(nullif(current_setting('eve.actor', true), ''), 'sql');
  return new;
end;
$function$;
comment on function eve.stamp_provider_config is 'Says when a stage was changed, and by whom: the setting eve.actor of the transaction, or sql.';

CREATE OR REPLACE FUNCTION eve.stage_json(stage eve.stages)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'stage_type', (stage_json.stage).stage_type, 'produces', (stage_json.stage).produces,
    'description', (stage_json.stage).description,
    'provider_kinds', (
      select jsonb_agg(
        jsonb_build_object('kind', k.kind, 'title', k.title, 'shares_keys', k.shares_keys) order by p.position, k.kind
      )
      from eve.stage_providers p
      join eve.provider_kinds k on k.kind = p.provider_kind
      where p.stage_type = (stage_json.stage).stage_type
    ),
    'config', (
      select jsonb_build_object(
        'provider_kind', c.provider_kind, 'model', c.model, 'key_last_four', c.key_last_four,
        'key_fingerprint', c.key_fingerprint, 'settings', c.settings, 'quota_project', c.quota_project,
        'models', c.models_cache, 'models_updated_at', c.models_cache_updated_at, 'checked_at', c.checked_at,
        'status', c.status, 'status_reason', c.status_reason, 'updated_at', c.updated_at, 'updated_by', c.updated_by,
        'lane_model', eve.stage_model(c.provider_kind, c.model),
        'key', (
          select jsonb_build_object(
            'id', u.id, 'alias', u.key_alias, 'is_active', u.is_active, 'blocked_until', u.blocked_until,
            'blocked_reason', u.blocked_reason
          )
          from public.google_ai_api_keys u
          where u.env_var_name = 'stage:' || c.stage_type and c.api_key_encrypted is not null
          order by u.created_at, u.id
          limit 1
        )
      )
      from public.provider_configs c
      where c.stage_type = (stage_json.stage).stage_type
    )
  );
$function$;
comment on function eve.stage_json is 'A stage with the providers that may serve it and its configuration, if it has one.';

CREATE OR REPLACE FUNCTION public.eve_administrator(user_id uuid)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object('administrator', eve.is_administrator(eve_administrator.user_id));
$function$;
comment on function public.eve_administrator is 'Whether a signed-in user is an administrator, as auth.users says at this moment.';

CREATE OR REPLACE FUNCTION public.eve_provider_configs(stage_type text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(eve.stage_json(s) order by s.position, s.stage_type), '[]')
  from eve.stages s
  where eve_provider_configs.stage_type is null or s.stage_type = eve_provider_configs.stage_type;
$function$;
comment on function public.eve_provider_configs is 'All stages, or one, as an administrator sees them.';

CREATE OR REPLACE FUNCTION public.eve_stage(stage_type text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_stage eve.stages;
  v_config public.provider_configs;
  v_provider text;
begin
  select * into v_stage from eve.stages s where s.stage_type = upper(eve_stage.stage_type);
  if v_stage.stage_type is null then
    return jsonb_build_object(
      'status', 'unknown',
      'stages', (select coalesce(jsonb_agg(s.stage_type order by s.position, s.stage_type), '[]') from eve.stages s)
    );
  end if;
  select * into v_config from public.provider_configs c where c.stage_type = v_stage.stage_type;
  if v_config.stage_type is null then
    return jsonb_build_object(
      'status', 'not_set_up', 'stage_type', v_stage.stage_type, 'produces', v_stage.produces, 'seeded', v_stage.seeded_at is not null,
      'provider_kinds', (
        select coalesce(jsonb_agg(p.provider_kind order by p.position, p.provider_kind), '[]')
        from eve.stage_providers p
        where p.stage_type = v_stage.stage_type
      )
    );
  end if;
  select k.provider into v_provider from eve.provider_kinds k where k.kind = v_config.provider_kind;
  return jsonb_build_object(
    'status', 'set_up', 'stage_type', v_stage.stage_type, 'produces', v_stage.produces,
    'provider_kind', v_config.provider_kind, 'model', v_config.model,
    'config_status', v_config.status, 'config_reason', v_config.status_reason,
    'exclude_keys', (
      -- A stage with a key of its own is served by it alone; one without, by the pool, but not by the keys of other stages.
      select coalesce(jsonb_agg(u.id), '[]')
      from public.google_ai_api_keys u
      where u.is_active
        and case
          when v_config.api_key_encrypted is not null then u.env_var_name is distinct from 'stage:' || v_config.stage_type
          else u.env_var_name like 'stage:%'
        end
        and eve.provider_name(u.provider) = v_provider
    )
  );
end;
$function$;
comment on function public.eve_stage is 'Which model serves a stage and which keys are not the stage''s; or that nobody has set it up, or that there is no such stage.';

CREATE OR REPLACE FUNCTION public.eve_stage_from_environment(stage_type text, provider_kind text, model text, env_var_name text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
-- `on conflict (model)` would be taken for the argument.
#variable_conflict use_column
declare
  v_alias constant text := 'stage:' || eve_stage_from_environment.stage_type;
  v_provider text;
  v_model text;
begin
  perform eve.check_stage_provider(eve_stage_from_environment.stage_type, eve_stage_from_environment.provider_kind);
  select k.provider into v_provider from eve.provider_kinds k where k.kind = eve_stage_from_environment.provider_kind;
  v_model := eve.stage_model(eve_stage_from_environment.provider_kind, eve_stage_from_environment.model);
  -- A call reads, unless it is the first one or the environment has changed.
  if not exists (
    select from public.google_ai_model_limits m
    where m.model = v_alias and m.replaced_by = v_model and m.provider = v_provider and m.is_active
  ) and not exists (select from public.provider_configs c where c.stage_type = eve_stage_from_environment.stage_type) then
    insert into public.google_ai_model_limits (model, provider, supports_system, supports_json, supports_tools)
    select v_model, k.provider, k.supports_system, k.supports_json, k.supports_tools
    from eve.provider_kinds k
    where k.kind = eve_stage_from_environment.provider_kind
    on conflict do nothing;
    insert into public.google_ai_model_limits as m (model, provider, replaced_by)
    values (v_alias, v_provider, v_model)
    on conflict (model) do update
    set provider = excluded.provider, replaced_by = excluded.replaced_by, is_active = true;
  end if;
  if eve_stage_from_environment.env_var_name is not null
    and not exists (
      select from public.google_ai_api_keys u where u.env_var_name = eve_stage_from_environment.env_var_name
    ) then
    insert into public.google_ai_api_keys (key_alias, provider, env_var_name, is_active, priority, notes)
    values (
      lower(replace(eve_stage_from_environment.env_var_name, '_', '-')), v_provider, eve_stage_from_environment.env_var_name, true, 100,
      'Found in the environment, for stages that nobody has set up.'
    );
  end if;
  return jsonb_build_object(
    'exclude_keys', (
      select coalesce(jsonb_agg(u.id), '[]')
      from public.google_ai_api_keys u
      where u.is_active and eve.provider_name(u.provider) = v_provider
        and case
          when eve_stage_from_environment.env_var_name is null then u.env_var_name like 'stage:%'
          else u.env_var_name is distinct from eve_stage_from_environment.env_var_name
        end
    )
  );
end;
$function$;
comment on function public.eve_stage_from_environment is 'Makes the rows by which the environment serves a stage that nobody has set up, and says which keys are not the stage''s.';

CREATE OR REPLACE FUNCTION public.eve_stage_keys()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(u.id), '[]')
  from public.google_ai_api_keys u
  where u.is_active and u.env_var_name like 'stage:%';
$function$;
comment on function public.eve_stage_keys is 'The keys that are there for a stage: consumers are served by them through their stages alone.';

CREATE OR REPLACE FUNCTION public.eve_stage_credential(name text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select (
    select jsonb_build_object(
      'provider_kind', c.provider_kind, 'api_key_encrypted', c.api_key_encrypted, 'settings', c.settings, 'updated_at', c.updated_at
    )
    from public.provider_configs c
    where 'stage:' || c.stage_type = eve_stage_credential.name
  );
$function$;
comment on function public.eve_stage_credential is 'The encrypted key behind the env_var_name stage:POEM, and the settings that go with it; null if there is none.';

CREATE OR REPLACE FUNCTION eve.stage_key_refused()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_actor constant text := coalesce(current_setting('eve.actor', true), '');
  v_stage text;
begin
  perform set_config('eve.actor', 'a call', true);
  update public.provider_configs c
  set status = 'invalid', status_reason = 'the provider refused the key during a call: ' || coalesce(new.blocked_reason, 'no reason given')
  where 'stage:' || c.stage_type = new.env_var_name and c.api_key_encrypted is not null and c.status <> 'invalid'
  returning c.stage_type into v_stage;
  perform set_config('eve.actor', v_actor, true);
  if v_stage is not null then
    perform eve.open_alert(
      'provider_key_invalid', new.env_var_name, 'critical',
      format('The key of stage %s is refused by its provider: enter another one.', v_stage)
    );
  end if;
  return null;
end;
$function$;
comment on function eve.stage_key_refused is 'Marks a stage whose key upstream has refused during a call.';

-- stage_settings ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.check_stage_provider(stage_type text, provider_kind text)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_allowed text;
begin
  if not exists (select from eve.stages s where s.stage_type = check_stage_provider.stage_type) then
    raise exception 'there is no stage %: the stages are %', check_stage_provider.stage_type,
      (select string_agg(s.stage_type, ', ' order by s.position, s.stage_type) from eve.stages s)
      using errcode = 'EV400';
  end if;
  if not exists (
    select from eve.stage_providers p
    where p.stage_type = check_stage_provider.stage_type and p.provider_kind = check_stage_provider.provider_kind
  ) then
    select string_agg(p.provider_kind, ', ' order by p.position, p.provider_kind) into v_allowed
    from eve.stage_providers p
    where p.stage_type = check_stage_provider.stage_type;
    raise exception '% may not serve %: %', check_stage_provider.provider_kind, check_stage_provider.stage_type,
      coalesce('it may be served by ' || v_allowed, 'no provider may') using errcode = 'EV400';
  end if;
end;
$function$;
comment on function eve.check_stage_provider is 'Says in words what the foreign key of provider_configs refuses.';

CREATE OR REPLACE FUNCTION public.eve_provider_save(stage_type text, provider_kind text, model text, actor text, api_key_encrypted text DEFAULT NULL::text, key_fingerprint text DEFAULT NULL::text, key_last_four text DEFAULT NULL::text, settings jsonb DEFAULT NULL::jsonb, quota_project text DEFAULT NULL::text, models jsonb DEFAULT NULL::jsonb, status text DEFAULT 'active'::text, status_reason text DEFAULT NULL::text, remove_key boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_old public.provider_configs;
  v_new public.provider_configs;
  v_kind eve.provider_kinds;
  v_other text;
begin
  if eve_provider_save.actor is null or eve_provider_save.model is null then
    raise exception 'model and actor are needed' using errcode = 'EV400';
  end if;
  perform eve.check_stage_provider(eve_provider_save.stage_type, eve_provider_save.provider_kind);
  perform set_config('eve.actor', left(eve_provider_save.actor, 200), true);
  -- Two who save at once follow one another.
  perform from eve.stages s where s.stage_type = eve_provider_save.stage_type for update;
  select * into v_kind from eve.provider_kinds k where k.kind = eve_provider_save.provider_kind;
  select * into v_old from public.provider_configs c where c.stage_type = eve_provider_save.stage_type;

  v_new.stage_type := eve_provider_save.stage_type;
  v_new.provider_kind := eve_provider_save.provider_kind;
  v_new.model := eve_provider_save.model;
  if eve_provider_save.api_key_encrypted is not null then
    v_new.api_key_encrypted := eve_provider_save.api_key_encrypted;
    v_new.key_fingerprint := eve_provider_save.key_fingerprint;
    v_new.key_last_four := eve_provider_save.key_last_four;
  elsif v_old.provider_kind = eve_provider_save.provider_kind and not eve_provider_save.remove_key then
    v_new.api_key_encrypted := v_old.api_key_encrypted;
    v_new.key_fingerprint := v_old.key_fingerprint;
    v_new.key_last_four := v_old.key_last_four;
  end if;
  if v_new.api_key_encrypted is null and not v_kind.shares_keys then
    raise exception '% needs a key: send api_key', v_kind.title using errcode = 'EV400';
  end if;
  -- A model is one provider's: two that call theirs alike could not be told apart in the books.
  select m.provider into v_other
  from public.google_ai_model_limits m
  where m.model = eve.stage_model(v_new.provider_kind, v_new.model);
  if v_other is not null and eve.provider_name(v_other) <> v_kind.provider then
    raise exception 'google_ai_model_limits says that % is a model of %', v_new.model, v_other using errcode = 'EV400';
  end if;

  insert into public.provider_configs as c (
    stage_type, provider_kind, api_key_encrypted, key_fingerprint, key_last_four, model, settings, quota_project,
    models_cache, models_cache_updated_at, status, status_reason, checked_at
  )
  values (
    v_new.stage_type, v_new.provider_kind, v_new.api_key_encrypted, v_new.key_fingerprint, v_new.key_last_four, v_new.model,
    coalesce(eve_provider_save.settings, case when v_old.provider_kind = v_new.provider_kind then v_old.settings end, '{}'),
    coalesce(
      eve_provider_save.quota_project,
      case when v_old.key_fingerprint = v_new.key_fingerprint and v_old.provider_kind = v_new.provider_kind then v_old.quota_project end
    ),
    coalesce(eve_provider_save.models, case when v_old.provider_kind = v_new.provider_kind then v_old.models_cache end, '[]'),
    case
      when eve_provider_save.models is not null then now()
      when v_old.provider_kind = v_new.provider_kind then v_old.models_cache_updated_at
    end,
    eve_provider_save.status, eve_provider_save.status_reason, now()
  )
  on conflict on constraint provider_configs_pkey do update
  set provider_kind = excluded.provider_kind, api_key_encrypted = excluded.api_key_encrypted,
    key_fingerprint = excluded.key_fingerprint, key_last_four = excluded.key_last_four, model = excluded.model,
    settings = excluded.settings, quota_project = excluded.quota_project, models_cache = excluded.models_cache,
    models_cache_updated_at = excluded.models_cache_updated_at, status = excluded.status,
    status_reason = excluded.status_reason, checked_at = excluded.checked_at;

  if v_old.key_fingerprint is distinct from v_new.key_fingerprint or v_old.provider_kind is distinct from v_new.provider_kind then
    update public.api_keys k
    set used_until = now()
    where k.stage_type = v_new.stage_type and k.used_until is null;
    if v_new.api_key_encrypted is not null then
      insert into public.api_keys (stage_type, provider_kind, fingerprint, last_four, api_key_encrypted, entered_by)
      values (
        v_new.stage_type, v_new.provider_kind, v_new.key_fingerprint, v_new.key_last_four, v_new.api_key_encrypted,
        left(eve_provider_save.actor, 200)
      );
    end if;
  elsif eve_provider_save.api_key_encrypted is not null then
    -- The same key entered again: anyone who does so means it to work.
    update public.google_ai_api_keys u
    set is_active = true, blocked_until = null, blocked_reason = null
    where u.env_var_name = 'stage:' || v_new.stage_type;
  end if;
  update eve.stages s
  set seeded_at = now()
  where s.stage_type = v_new.stage_type and s.seeded_at is null;
  -- A person has looked at it.
  perform eve.close_alerts('stage:' || v_new.stage_type, array['model_vanished']);
  if eve_provider_save.status = 'invalid' then
    perform eve.open_alert(
      'provider_key_invalid', 'stage:' || v_new.stage_type, 'critical',
      format('The key of stage %s is refused by %s: enter another one.', v_new.stage_type, v_kind.title)
    );
  else
    perform eve.close_alerts('stage:' || v_new.stage_type, array['provider_key_invalid']);
  end if;
  return (public.eve_provider_configs(v_new.stage_type)) -> 0;
end;
$function$;
comment on function public.eve_provider_save is 'Sets up a stage: provider, key, model. Without a key the one before stays, if the provider is the same.';

CREATE OR REPLACE FUNCTION public.eve_provider_checked(stage_type text, key_fingerprint text, actor text, models jsonb DEFAULT NULL::jsonb, complete boolean DEFAULT true, status text DEFAULT 'active'::text, status_reason text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_config public.provider_configs;
  v_subject constant text := 'stage:' || eve_provider_checked.stage_type;
  v_status text := eve_provider_checked.status;
  v_reason text := eve_provider_checked.status_reason;
  v_model text;
  v_successor text;
begin
  perform set_config('eve.actor', left(eve_provider_checked.actor, 200), true);
  select * into v_config from public.provider_configs c where c.stage_type = eve_provider_checked.stage_type for update;
  -- Anyone who saved another key or removed the stage meanwhile knows better.
  if v_config.stage_type is null
    or v_config.key_fingerprint is distinct from eve_provider_checked.key_fingerprint then
    return jsonb_build_object('status', 'overtaken');
  end if;
  v_model := v_config.model;
  if eve_provider_checked.models is not null and jsonb_array_length(eve_provider_checked.models) = 0 then
    v_status := 'error';
    v_reason := 'the provider offers no model to this key';
  elsif eve_provider_checked.models is not null then
    if eve_provider_checked.complete and not eve_provider_checked.models ? v_config.model then
      select coalesce(
        (
          select l.name
          from public.google_ai_model_limits m
          cross join lateral (
            select case k.provider when 'google' then m.replaced_by else substr(m.replaced_by, length(k.kind) + 2) end as name
            from eve.provider_kinds k
            where k.kind = v_config.provider_kind
          ) l
          where m.model = eve.stage_model(v_config.provider_kind, v_config.model) and eve_provider_checked.models ? l.name
        ),
        eve_provider_checked.models ->> 0
      ) into v_successor;
      v_model := v_successor;
      v_status := 'warning';
      v_reason := format('%s is no longer offered: %s serves in its place', v_config.model, v_successor);
      perform eve.open_alert(
        'model_vanished', v_subject, 'warning',
        format(
          'Stage %s: %s no longer offers %s. %s serves in its place until somebody chooses.', eve_provider_checked.stage_type,
          v_config.provider_kind, v_config.model, v_successor
        )
      );
    elsif v_status = 'active' and exists (
      select from eve.alerts a where a.kind = 'model_vanished' and a.subject = v_subject and a.closed_at is null
    ) then
      -- Nobody has looked at it yet.
      v_status := 'warning';
      v_reason := coalesce(
        case when v_config.status = 'warning' then v_config.status_reason end,
        'the chosen model is no longer offered, and another one serves in its place: choose one'
      );
    end if;
  end if;
  if v_status = 'invalid' then
    perform eve.open_alert(
      'provider_key_invalid', v_subject, 'critical',
      format('The key of stage %s is refused by %s: enter another one.', eve_provider_checked.stage_type, v_config.provider_kind)
    );
  elsif v_status in ('active', 'warning') then
    perform eve.close_alerts(v_subject, array['provider_key_invalid']);
  end if;
  if v_successor is not null then
    perform set_config('eve.event', 'model_vanished', true);
  end if;
  update public.provider_configs c
  set model = v_model, status = v_status, status_reason = v_reason, checked_at = now(),
    models_cache = case when v_status = 'error' then c.models_cache else coalesce(eve_provider_checked.models, c.models_cache) end,
    models_cache_updated_at = case
      when eve_provider_checked.models is null or v_status = 'error' then c.models_cache_updated_at else now()
    end
  where c.stage_type = eve_provider_checked.stage_type
    and (
      (c.model, c.status, c.status_reason) is distinct from (v_model, v_status, v_reason) or v_successor is not null
    );
  if not found then
    -- Nothing that a person would call a change: neither its time nor the history should say so.
    update public.provider_configs c
    set checked_at = now(), models_cache = coalesce(eve_provider_checked.models, c.models_cache),
      models_cache_updated_at = case
        when eve_provider_checked.models is null or v_status = 'error' then c.models_cache_updated_at else now()
      end
    where c.stage_type = eve_provider_checked.stage_type;
  end if;
  perform set_config('eve.event', '', true);
  return jsonb_build_object(
    'status', 'noted', 'config_status', v_status, 'model', v_model, 'replaced', v_successor is not null,
    'models', case when eve_provider_checked.models is null then null else jsonb_array_length(eve_provider_checked.models) end
  );
end;
$function$;
comment on function public.eve_provider_checked is 'Notes what a provider said about a stage''s key and models, and replaces a model that has gone.';

CREATE OR REPLACE FUNCTION public.eve_provider_remove(stage_type text, actor text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform set_config('eve.actor', left(coalesce(eve_provider_remove.actor, 'sql'), 200), true);
  delete from public.provider_configs c where c.stage_type = eve_provider_remove.stage_type;
  if not found then
    raise exception 'stage % is not set up', eve_provider_remove.stage_type using errcode = 'EV400';
  end if;
  perform eve.close_alerts('stage:' || eve_provider_remove.stage_type, array['model_vanished', 'provider_key_invalid']);
  return (public.eve_provider_configs(eve_provider_remove.stage_type)) -> 0;
end;
$function$;
comment on function public.eve_provider_remove is 'Takes a stage''s configuration away: from then on the environment serves it. The history stays.';

CREATE OR REPLACE FUNCTION public.eve_provider_seed(configs jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_config jsonb;
  v_seeded text[] := '{}';
begin
  for v_config in select value from jsonb_array_elements(eve_provider_seed.configs) loop
    perform from eve.stages s where s.stage_type = v_config ->> 'stage_type' and s.seeded_at is null for update;
    continue when not found;
    continue when exists (select from public.provider_configs c where c.stage_type = v_config ->> 'stage_type');
    perform public.eve_provider_save(
      stage_type => v_config ->> 'stage_type', provider_kind => v_config ->> 'provider_kind', model => v_config ->> 'model',
      actor => 'environment', api_key_encrypted => v_config ->> 'api_key_encrypted',
      key_fingerprint => v_config ->> 'key_fingerprint', key_last_four => v_config ->> 'key_last_four',
      settings => v_config -> 'settings', quota_project => v_config ->> 'quota_project'
    );
    -- Nobody has asked the provider yet.
    update public.provider_configs c set checked_at = null where c.stage_type = v_config ->> 'stage_type';
    v_seeded := v_seeded || (v_config ->> 'stage_type');
  end loop;
  return jsonb_build_object('seeded', to_jsonb(v_seeded));
end;
$function$;
comment on function public.eve_provider_seed is 'Fills stages that were never set up with what the environment holds. Never overwrites, and never twice.';

CREATE OR REPLACE FUNCTION public.eve_provider_history(stage_type text DEFAULT NULL::text, at_most integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(to_jsonb(h) order by h.id desc), '[]')
  from (
    select *
    from eve.provider_history h
    where (eve_provider_history.stage_type is null or h.stage_type = eve_provider_history.stage_type)
      and (eve_provider_history.before_id is null or h.id < eve_provider_history.before_id)
    order by h.id desc
    limit least(greatest(coalesce(eve_provider_history.at_most, 50), 1), 500)
  ) h;
$function$;
comment on function public.eve_provider_history is 'Changes of stages, the newest first.';

CREATE OR REPLACE FUNCTION public.eve_provider_keys(stage_type text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', k.id, 'stage_type', k.stage_type, 'provider_kind', k.provider_kind, 'last_four', k.last_four,
        'fingerprint', k.fingerprint, 'entered_by', k.entered_by, 'entered_at', k.entered_at, 'used_until', k.used_until
      ) order by k.id desc
    ), '[]'
  )
  from public.api_keys k
  where eve_provider_keys.stage_type is null or k.stage_type = eve_provider_keys.stage_type;
$function$;
comment on function public.eve_provider_keys is 'Every key that was ever entered, by its last four characters, the newest first.';

CREATE OR REPLACE FUNCTION public.eve_provider_ciphertexts()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(jsonb_build_object('place', t.place, 'id', t.id, 'token', t.token) order by t.place, t.id), '[]')
  from (
    select 'provider_configs' as place, c.stage_type as id, c.api_key_encrypted as token
    from public.provider_configs c
    where c.api_key_encrypted is not null
    union all
    select 'api_keys', k.id::text, k.api_key_encrypted
    from public.api_keys k
  ) t;
$function$;
comment on function public.eve_provider_ciphertexts is 'Every encrypted key, to be encrypted again.';

CREATE OR REPLACE FUNCTION public.eve_provider_reencrypt(tokens jsonb, actor text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_token jsonb;
  v_changed integer := 0;
  v_rows integer;
begin
  perform set_config('eve.actor', left(coalesce(eve_provider_reencrypt.actor, 'sql'), 200), true);
  for v_token in select value from jsonb_array_elements(eve_provider_reencrypt.tokens) loop
    if v_token ->> 'place' = 'provider_configs' then
      update public.provider_configs c
      set api_key_encrypted = v_token ->> 'replacement'
      where c.stage_type = v_token ->> 'id' and c.api_key_encrypted = v_token ->> 'token';
    elsif v_token ->> 'place' = 'api_keys' then
      update public.api_keys k
      set api_key_encrypted = v_token ->> 'replacement'
      where k.id = (v_token ->> 'id')::bigint and k.api_key_encrypted = v_token ->> 'token';
    else
      raise exception 'no such place: %', v_token ->> 'place' using errcode = 'EV400';
    end if;
    get diagnostics v_rows = row_count;
    v_changed := v_changed + v_rows;
  end loop;
  return jsonb_build_object('changed', v_changed);
end;
$function$;
comment on function public.eve_provider_reencrypt is 'Replaces tokens that are still the ones that were read; says how many.';

-- jobs ----------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_job_begin(id uuid, stage_type text, provider_kind text, model text, key_name text, request_id text, request_no bigint, consumer_id uuid DEFAULT NULL::uuid, settings jsonb DEFAULT '{}'::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
begin
  insert into eve.jobs as j (
    id, kind, state, models, stage_type, provider_kind, model, key_name, settings, consumer_id, request_id, request_no, submitted_at,
    started_at, tries
  )
  values (
    eve_job_begin.id, 'provider_job', 'running', array['stage:' || eve_job_begin.stage_type], eve_job_begin.stage_type,
    eve_job_begin.provider_kind, eve_job_begin.model, eve_job_begin.key_name, coalesce(eve_job_begin.settings, '{}'),
    eve_job_begin.consumer_id, eve_job_begin.request_id, eve_job_begin.request_no, eve.clock(), eve.clock(), 1
  )
  -- Another attempt of the same request, perhaps with another key; or one that has waited in a queue.
  on conflict (id) do update
  set stage_type = excluded.stage_type, provider_kind = excluded.provider_kind, model = excluded.model, key_name = excluded.key_name,
    settings = excluded.settings, request_no = excluded.request_no
  where j.state = 'running' and j.upstream_id is null;
  return jsonb_build_object('status', 'begun');
end;
$function$;
comment on function public.eve_job_begin is 'Writes a provider''s job down before it is submitted, so that nothing that was paid for is lost.';

CREATE OR REPLACE FUNCTION public.eve_job_note(id uuid, state text, upstream_id text DEFAULT NULL::text, result jsonb DEFAULT NULL::jsonb, error_code text DEFAULT NULL::text, error_detail text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, mime_type text DEFAULT NULL::text, content_base64 text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_job eve.jobs;
begin
  update eve.jobs j
  set state = eve_job_note.state, upstream_id = coalesce(eve_job_note.upstream_id, j.upstream_id), result = eve_job_note.result,
    error_code = eve_job_note.error_code, error_detail = left(eve_job_note.error_detail, 2000), checked_at = now(),
    finished_at = case when eve_job_note.state in ('succeeded', 'failed') then now() end,
    expires_at = eve_job_note.expires_at, lease_token = null, lease_until = null, worker_id = null
  where j.id = eve_job_note.id and j.state = 'running'
  returning * into v_job;
  if v_job.id is not null and eve_job_note.content_base64 is not null then
    insert into eve.job_contents (job_id, mime_type, content)
    values (v_job.id, eve_job_note.mime_type, decode(eve_job_note.content_base64, 'base64'))
    on conflict on constraint job_contents_pkey do nothing;
  end if;
  if v_job.id is null then
    select * into v_job from eve.jobs j where j.id = eve_job_note.id;
  end if;
  return eve.job_json(v_job);
end;
$function$;
comment on function public.eve_job_note is 'Notes how a provider''s job stands; one that has ended stays as it ended.';

CREATE OR REPLACE FUNCTION eve.job_for(id uuid, consumer_id uuid, token_id uuid)
 RETURNS SETOF eve.jobs
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  perform eve.require_live_caller(job_for.consumer_id, job_for.token_id);
  return query
    select j.*
    from eve.jobs j
    left join eve.consumers c on c.id = job_for.consumer_id
    left join eve.scoped_tokens t on t.id = job_for.token_id
    where j.id = job_for.id
      and (job_for.consumer_id is null or j.consumer_id = job_for.consumer_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models);
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_job(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select (select eve.job_json(j) from eve.job_for(eve_job.id, eve_job.consumer_id, eve_job.token_id) j);
$function$;
comment on function public.eve_job is 'A job, if it is the consumer''s and asks for what it and its token may use; any for the project. Null: there is none.';

CREATE OR REPLACE FUNCTION public.eve_job_content(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select (
    select jsonb_build_object('mime_type', c.mime_type, 'content_base64', encode(c.content, 'base64'))
    from eve.job_for(eve_job_content.id, eve_job_content.consumer_id, eve_job_content.token_id) j
    join eve.job_contents c on c.job_id = j.id
  );
$function$;
comment on function public.eve_job_content is 'The file of a job whose provider answered with the file itself; null: there is none.';

CREATE OR REPLACE FUNCTION public.eve_jobs_tidy()
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_lost integer;
  v_files integer;
  v_jobs integer;
begin
  update eve.jobs j
  set state = 'failed', error_code = 'internal', error_detail = 'the submission never came back', finished_at = now()
  where j.kind = 'provider_job' and j.state = 'running' and j.upstream_id is null and j.lease_token is null
    and j.submitted_at < now() - interval '1 hour';
  get diagnostics v_lost = row_count;
  delete from eve.job_contents c
  using eve.jobs j
  where j.id = c.job_id and j.expires_at < now();
  get diagnostics v_files = row_count;
  delete from eve.jobs j where j.kind = 'provider_job' and j.submitted_at < now() - interval '90 days';
  get diagnostics v_jobs = row_count;
  -- What was kept for jobs that never came, or were deleted while their worker kept it.
  perform eve.jobs_media_release(
    array(
      select r.ref_id
      from eve.media_references r
      where r.ref_kind = 'job' and r.created_at <= eve.clock() - interval '1 day'
        and not exists (
          select from eve.jobs j where j.id = case when r.ref_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then r.ref_id::uuid end
        )
      limit 1000
    )
  );
  return jsonb_build_object('lost', v_lost, 'files', v_files, 'jobs', v_jobs);
end;
$function$;
comment on function public.eve_jobs_tidy is 'Deletes files that have expired and provider jobs that are older than ninety days.';

-- schedule ------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.job_command(operation eve.operations)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select case
    when to_regprocedure(format('eve.%I()', (operation).name || '_tick')) is not null
      then format('do $eve$ begin perform eve.%I(); end $eve$', (operation).name || '_tick')
    when (operation).runs_in = 'http' then format('select eve.ask_operation(%L)', (operation).name)
    else btrim(format(
      $command$
do $eve$
declare
  v_run constant bigint := (eve.begin_run(%1$L, 'cron') ->> 'run_id')::bigint;
  v_step jsonb;
begin
  commit;
  while v_run is not null loop
    v_step := eve.step_run(v_run);
    commit;
    exit when (v_step ->> 'done')::boolean;
    perform pg_sleep((v_step ->> 'pause_ms')::double precision / 1000);
  end loop;
  if v_step ->> 'status' = 'failed' then
    raise exception '%1$s failed: %%', v_step ->> 'error' using errcode = 'EV500';
  end if;
end
$eve$
$command$,
      (operation).name
    ), E'\n')
  end;
$function$;

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
      using eve.function_address(v_url, 'maintenance/' || v_operation.name), '{"source": "cron"}'::jsonb,
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

CREATE OR REPLACE FUNCTION eve.alerts_are_due(operation eve.operations, now_at timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select ((operation).run_id is null or (operation).lease_until <= alerts_are_due.now_at)
    and (
      exists (
        select
        from eve.alerts a
        where greatest(a.opened_at, a.closed_at) > coalesce((operation).last_started_at, '-infinity')
          or a.closed_at is null and (operation).last_started_at <= alerts_are_due.now_at - interval '1 hour'
      )
      or exists (
        select
        from eve.alert_deliveries d
        join eve.alert_channels c on c.channel = d.channel and c.claimed_at >= (operation).last_started_at
        where d.state = 'pending' and d.next_try_at <= alerts_are_due.now_at
          and (d.claimed_until is null or d.claimed_until <= alerts_are_due.now_at)
      )
      or exists (
        select
        from public.google_ai_api_keys k
        where k.is_active and coalesce(k.env_var_name, '') not like 'stage:%'
          and k.created_at > coalesce((operation).last_started_at, '-infinity')
          and not exists (select from eve.key_checks c where c.key_id = k.id)
      )
    );
$function$;

CREATE OR REPLACE FUNCTION eve.operation_is_due(operation text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Less than the time between two runs of key_health.
  v_fresh constant interval := '10 minutes';
  v_now constant timestamptz := eve.clock();
  v_operation eve.operations;
begin
  select * into v_operation from eve.operations o where o.name = operation_is_due.operation;
  -- What failed is tried again, though not every minute.
  if v_operation.last_status = 'failed' and v_operation.last_completed_at <= v_now - v_fresh then
    return true;
  end if;
  return case v_operation.name
    when 'alerts' then eve.alerts_are_due(v_operation, v_now)
    when 'key_health' then exists (
      select
      from jsonb_to_recordset(public.eve_key_checks()) as k (id uuid)
      left join eve.key_checks c on c.key_id = k.id
      where coalesce(greatest(c.checked_at, case c.outcome when 'works' then c.models_listed_at end), '-infinity') <= v_now - v_fresh
    )
    when 'models_sync' then exists (
      select from jsonb_to_recordset(public.eve_key_checks()) as k (is_active boolean) where k.is_active
    )
    -- Once, for stages that the environment sets up; then for those that are set up, and for files that are to be deleted.
    when 'providers_sync' then v_operation.last_started_at is null
      or exists (select from public.provider_configs)
      or exists (select from eve.jobs)
    when 'events' then eve.next_delivery_ms() < 60000
    when 'traces' then eve.traces_are_due()
    when 'media' then eve.media_is_due('media')
    when 'media_reconcile' then eve.media_is_due('media_reconcile')
    else true
  end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.ask_operation(operation text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
begin
  if ask_operation.operation = 'alerts' then
    begin
      -- Kept up where nobody scrapes, so that the first scrape has little to catch up.
      perform public.eve_metrics_count();
    exception
      when others then
        raise warning 'metrics are not counted: %', sqlerrm;
    end;
    perform public.eve_alerts_evaluate();
  end if;
  if eve.operation_is_due(ask_operation.operation) then
    return eve.request_operation(ask_operation.operation);
  end if;
  update eve.operations o
  set idle_runs = o.idle_runs + 1, last_idle_at = v_now,
    last_succeeded_at = case when o.last_status is distinct from 'failed' then v_now else o.last_succeeded_at end
  where o.name = ask_operation.operation;
  return jsonb_build_object('status', 'nothing_due');
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_connect(project_url text, secret_key text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_wanted record;
  v_stored record;
  v_changed text[] := '{}';
begin
  if eve_connect.project_url is null or eve_connect.project_url !~ '^https?://[^\s/]+' then
    raise exception 'project_url must be the address of the project, https://<ref>.supabase.co' using errcode = 'EV400';
  elsif coalesce(length(eve_connect.secret_key), 0) not between 8 and 8192 then
    raise exception 'secret_key must be a secret key of the project' using errcode = 'EV400';
  elsif to_regnamespace('vault') is null then
    raise exception 'Vault is not enabled: create extension supabase_vault' using errcode = 'EV503';
  end if;
  for v_wanted in
    select *
    from (values
      ('eve_project_url', rtrim(eve_connect.project_url, '/'), 'Where the schedule of EVE Gateway finds the function maintenance.'),
      ('eve_secret_key', eve_connect.secret_key, 'The key with which the schedule of EVE Gateway calls it.')
    ) as wanted (name, secret, description)
  loop
    execute 'select s.id, s.decrypted_secret from vault.decrypted_secrets s where s.name = $1'
    into v_stored
    using v_wanted.name;
    if v_stored.id is null then
      execute 'select vault.create_secret($1, $2, $3)' using v_wanted.secret, v_wanted.name, v_wanted.description;
    elsif v_stored.decrypted_secret is distinct from v_wanted.secret then
      execute 'select vault.update_secret($1, $2)' using v_stored.id, v_wanted.secret;
    else
      continue;
    end if;
    v_changed := v_changed || v_wanted.name;
  end loop;
  return jsonb_build_object('changed', to_jsonb(v_changed));
end;
$function$;
comment on function public.eve_connect is 'Puts the project''s URL and a secret key into Vault, where the schedule finds them.';

CREATE OR REPLACE FUNCTION public.eve_schedule()
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_operation eve.operations;
  v_job text;
  v_scheduled text[] := '{}';
  v_missing text[] := '{}';
  v_is_there boolean;
begin
  if to_regnamespace('net') is null then
    v_missing := array_append(v_missing, 'pg_net');
  end if;
  if to_regnamespace('cron') is null then
    v_missing := array_append(v_missing, 'pg_cron');
    return jsonb_build_object('scheduled', '[]'::jsonb, 'missing', to_jsonb(v_missing));
  end if;
  for v_operation in select * from eve.operations o order by o.name loop
    v_job := 'eve_' || v_operation.name;
    if v_operation.is_active and v_operation.schedule is not null then
      execute 'select cron.schedule($1, $2, $3)'
      using v_job, v_operation.schedule, eve.job_command(v_operation);
      v_scheduled := v_scheduled || v_job;
    else
      execute 'select exists (select from cron.job j where j.jobname = $1 and j.username = current_user)'
      into v_is_there
      using v_job;
      if v_is_there then
        execute 'select cron.unschedule($1)' using v_job;
      end if;
    end if;
  end loop;
  return jsonb_build_object('scheduled', to_jsonb(v_scheduled), 'missing', to_jsonb(v_missing));
end;
$function$;
comment on function public.eve_schedule is 'Makes the jobs of pg_cron those that eve.operations names. Run it after a change there, and after enabling pg_cron or pg_net.';

-- adopted_tables ------------------------------------------------------------------------------------------------------

create table eve.adopted_tables (
  relation text not null,
  parts jsonb,
  noted_at timestamp with time zone not null default now(),
  constraint adopted_tables_pkey PRIMARY KEY (relation)
);
alter table eve.adopted_tables enable row level security;
comment on table eve.adopted_tables is 'Tables in public that the gateway made or adopted, as they were when a migration first met them.';
comment on column eve.adopted_tables.parts is 'What it had (see eve.table_parts); null: it was not there, and is the gateway''s own.';

CREATE OR REPLACE FUNCTION eve.table_parts(relation text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'columns', (
      select coalesce(jsonb_object_agg(a.attname, jsonb_build_object('default', pg_get_expr(d.adbin, d.adrelid), 'not_null', a.attnotnull)), '{}')
      from pg_catalog.pg_attribute a
      left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
    ),
    'constraints', (
      select coalesce(jsonb_object_agg(c.conname, pg_get_constraintdef(c.oid)), '{}')
      from pg_catalog.pg_constraint c
      where c.conrelid = t.oid and c.contype in ('c', 'f', 'p', 'u', 'x')
    ),
    'indexes', (
      select coalesce(jsonb_agg(i.indexrelid::regclass::text), '[]')
      from pg_catalog.pg_index i
      where i.indrelid = t.oid and not exists (select from pg_catalog.pg_constraint c where c.conindid = i.indexrelid)
    ),
    'triggers', (
      select coalesce(jsonb_agg(g.tgname), '[]') from pg_catalog.pg_trigger g where g.tgrelid = t.oid and not g.tgisinternal
    ),
    'policies', (select coalesce(jsonb_agg(p.polname), '[]') from pg_catalog.pg_policy p where p.polrelid = t.oid)
  )
  from pg_catalog.pg_class t
  where t.oid = to_regclass(table_parts.relation);
$function$;
comment on function eve.table_parts is 'What a table consists of, by name.';

CREATE OR REPLACE FUNCTION eve.note_table(relation text)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  insert into eve.adopted_tables (relation, parts) values (note_table.relation, eve.table_parts(note_table.relation))
  on conflict on constraint adopted_tables_pkey do nothing;
$function$;
comment on function eve.note_table is 'Keeps what a table is before it is adopted.';

CREATE OR REPLACE FUNCTION eve.return_table(relation text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_before jsonb;
  v_now jsonb;
  v_name text;
  v_old jsonb;
begin
  select a.parts into strict v_before from eve.adopted_tables a where a.relation = return_table.relation;
  delete from eve.adopted_tables a where a.relation = return_table.relation;
  if v_before is null then
    execute format('drop table if exists %s', return_table.relation);
    return;
  end if;
  v_now := eve.table_parts(return_table.relation);
  for v_name in select jsonb_array_elements_text(v_now -> 'policies') except select jsonb_array_elements_text(v_before -> 'policies') loop
    execute format('drop policy %I on %s', v_name, return_table.relation);
  end loop;
  for v_name in select jsonb_array_elements_text(v_now -> 'triggers') except select jsonb_array_elements_text(v_before -> 'triggers') loop
    execute format('drop trigger %I on %s', v_name, return_table.relation);
  end loop;
  for v_name in
    select c.key from jsonb_each_text(v_now -> 'constraints') c where not v_before -> 'constraints' @> jsonb_build_object(c.key, c.value)
  loop
    execute format('alter table %s drop constraint %I', return_table.relation, v_name);
  end loop;
  for v_name in select jsonb_array_elements_text(v_now -> 'indexes') except select jsonb_array_elements_text(v_before -> 'indexes') loop
    execute format('drop index %s', v_name);
  end loop;
  for v_name, v_old in select c.key, v_before -> 'columns' -> c.key from jsonb_each(v_now -> 'columns') c loop
    if v_old is null then
      execute format('alter table %s drop column %I', return_table.relation, v_name);
      continue;
    end if;
    if v_old -> 'default' is distinct from v_now -> 'columns' -> v_name -> 'default' then
      execute format(
        'alter table %s alter column %I %s', return_table.relation, v_name, coalesce('set default ' || (v_old ->> 'default'), 'drop default')
      );
    end if;
    if (v_now -> 'columns' -> v_name -> 'not_null')::boolean and not (v_old -> 'not_null')::boolean
      and not exists (
        select
        from pg_catalog.pg_index i
        join pg_catalog.pg_attribute k on k.attrelid = i.indrelid and k.attnum = any (i.indkey::int2[])
        where i.indrelid = to_regclass(return_table.relation) and i.indisprimary and k.attname = v_name
      )
    then
      execute format('alter table %s alter column %I drop not null', return_table.relation, v_name);
    end if;
  end loop;
  v_now := eve.table_parts(return_table.relation);
  for v_name, v_old in
    select c.key, to_jsonb(c.value) from jsonb_each_text(v_before -> 'constraints') c where not v_now -> 'constraints' ? c.key
  loop
    begin
      execute format('alter table %s add constraint %I %s', return_table.relation, v_name, v_old #>> '{}');
    exception
      -- The rows have come to break it, or what it refers to is gone: the rows stay, whatever becomes of the rule.
      when others then
        raise warning '% of % is not there again: %', v_name, return_table.relation, sqlerrm;
    end;
  end loop;
end;
$function$;
comment on function eve.return_table is 'Drops a table that the gateway made; takes what is the gateway''s off one that it adopted.';

-- tenants -------------------------------------------------------------------------------------------------------------

create table eve.tenants (
  id text not null,
  name text,
  is_default boolean not null default false,
  storage_limit_bytes bigint,
  created_at timestamp with time zone not null default now(),
  constraint tenants_id_form CHECK ((id ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$'::text)),
  constraint tenants_name_length CHECK ((length(name) <= 200)),
  constraint tenants_pkey PRIMARY KEY (id),
  constraint tenants_storage_limit_positive CHECK ((storage_limit_bytes >= 0))
);
alter table eve.tenants enable row level security;
CREATE UNIQUE INDEX tenants_is_default_key ON eve.tenants USING btree (is_default) WHERE is_default;
CREATE TRIGGER eve_media_counter_of_tenant AFTER INSERT ON eve.tenants FOR EACH ROW EXECUTE FUNCTION eve.media_counter_of_tenant(); -- enabled
comment on table eve.tenants is 'Whose things are kept apart from others''.';
comment on column eve.tenants.is_default is 'Whose a thing is when nobody says: one row.';
comment on column eve.tenants.storage_limit_bytes is 'Bytes of media it may keep; null: the limit tenant of eve.media_limits.';

create table eve.tenant_members (
  tenant_id text not null,
  user_id uuid not null,
  added_at timestamp with time zone not null default now(),
  constraint tenant_members_pkey PRIMARY KEY (tenant_id, user_id),
  constraint tenant_members_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES eve.tenants(id) ON DELETE CASCADE
);
alter table eve.tenant_members enable row level security;
CREATE INDEX tenant_members_user_id_idx ON eve.tenant_members USING btree (user_id);
comment on table eve.tenant_members is 'Signed-in users (auth.users) who may act for a tenant.';

CREATE OR REPLACE FUNCTION eve.refused(code text, message text DEFAULT NULL::text, details jsonb DEFAULT NULL::jsonb, retry_after_ms bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select jsonb_strip_nulls(
    jsonb_build_object(
      'status', 'refused', 'code', refused.code, 'message', refused.message, 'details', refused.details,
      'retry_after_ms', refused.retry_after_ms
    )
  );
$function$;

CREATE OR REPLACE FUNCTION eve.default_tenant()
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select t.id from eve.tenants t where t.is_default;
$function$;

CREATE OR REPLACE FUNCTION eve.refusal_of_consumer(consumer eve.consumers, token_id uuid, scope text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_scopes text[] := (consumer).scopes;
begin
  if (consumer).id is null or not (consumer).is_active then
    return eve.refused('consumer_disabled');
  end if;
  if refusal_of_consumer.token_id is not null then
    select coalesce(t.scopes, '{llm}') into v_scopes
    from eve.scoped_tokens t
    where t.id = refusal_of_consumer.token_id and t.consumer_id = (consumer).id and t.revoked_at is null
      and t.expires_at > eve.clock();
    if not found then
      return eve.refused('token_revoked');
    end if;
  end if;
  if refusal_of_consumer.scope <> all (v_scopes) or refusal_of_consumer.scope <> all ((consumer).scopes) then
    return eve.refused(
      'credential_insufficient',
      format('This needs the scope %s, which the consumer%s does not have. Ask the gateway''s owner for it.',
        refusal_of_consumer.scope, case when refusal_of_consumer.token_id is null then '' else ' or its token' end)
    );
  end if;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.tenant_of_actor(actor jsonb, tenant_id text, scope text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_kind constant text := tenant_of_actor.actor ->> 'kind';
  v_asked constant text := nullif(tenant_of_actor.tenant_id, '');
  v_user constant uuid := (tenant_of_actor.actor ->> 'user_id')::uuid;
  v_consumer eve.consumers;
  v_refusal jsonb;
  v_tenant text;
begin
  if v_kind = 'project' or v_kind = 'user' and eve.is_administrator(v_user) then
    v_tenant := coalesce(v_asked, eve.default_tenant());
    if not exists (select from eve.tenants t where t.id = v_tenant) then
      return eve.refused('unknown_tenant', format('There is no tenant %s.', left(v_tenant, 64)));
    end if;
    return jsonb_build_object('tenant_id', v_tenant, 'project', true);
  elsif v_kind = 'consumer' then
    select * into v_consumer from eve.consumers c where c.id = (tenant_of_actor.actor ->> 'consumer_id')::uuid;
    v_refusal := eve.refusal_of_consumer(v_consumer, (tenant_of_actor.actor ->> 'token_id')::uuid, tenant_of_actor.scope);
    if v_refusal is not null then
      return v_refusal;
    end if;
    v_tenant := coalesce(v_consumer.tenant_id, eve.default_tenant());
    if v_asked <> v_tenant then
      return eve.refused('tenant_not_allowed');
    end if;
  elsif v_kind = 'user' then
    -- Without a word the tenant that they were added to first.
    select m.tenant_id into v_tenant
    from eve.tenant_members m
    where m.user_id = v_user and m.tenant_id = coalesce(v_asked, m.tenant_id)
    order by m.added_at, m.tenant_id
    limit 1;
    if not found then
      return eve.refused('tenant_not_allowed');
    end if;
  else
    raise exception 'an actor has the kind project, consumer or user' using errcode = 'EV500';
  end if;
  return jsonb_build_object('tenant_id', v_tenant, 'project', false);
end;
$function$;
comment on function eve.tenant_of_actor is 'The tenant that somebody acts for, or why they may not.';

CREATE OR REPLACE FUNCTION eve.member_tenants()
 RETURNS SETOF text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select m.tenant_id from eve.tenant_members m where m.user_id = (select auth.uid());
$function$;
comment on function eve.member_tenants is 'The tenants that the signed-in user is a member of. For row-level security.';

CREATE OR REPLACE FUNCTION eve.tenant_json(tenant eve.tenants)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'id', (tenant_json.tenant).id, 'name', (tenant_json.tenant).name, 'is_default', (tenant_json.tenant).is_default,
    'storage_limit_bytes', (tenant_json.tenant).storage_limit_bytes, 'created_at', (tenant_json.tenant).created_at,
    'members', (select count(*) from eve.tenant_members m where m.tenant_id = (tenant_json.tenant).id),
    'consumers', (
      select count(*)
      from eve.consumers c
      where c.kind <> 'project'
        and (c.tenant_id = (tenant_json.tenant).id or c.tenant_id is null and (tenant_json.tenant).is_default)
    )
  );
$function$;

CREATE OR REPLACE FUNCTION public.eve_tenants(id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(eve.tenant_json(t) order by t.id), '[]')
  from eve.tenants t
  where eve_tenants.id is null or t.id = eve_tenants.id;
$function$;
comment on function public.eve_tenants is 'All tenants, or the one of that id.';

CREATE OR REPLACE FUNCTION eve.tenant_check(id text, name text, storage_limit_bytes bigint)
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  if tenant_check.id is null or tenant_check.id !~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$' then
    raise exception 'a tenant''s id has 1 to 100 letters, digits or . _ -, and does not begin with a dot' using errcode = 'EV400';
  elsif length(tenant_check.name) > 200 or tenant_check.storage_limit_bytes < 0 then
    raise exception 'name must have at most 200 characters, and storage_limit_bytes must not be negative' using errcode = 'EV400';
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_tenant_save(id text, name text DEFAULT NULL::text, storage_limit_bytes bigint DEFAULT NULL::bigint, is_default boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform eve.tenant_check(eve_tenant_save.id, eve_tenant_save.name, eve_tenant_save.storage_limit_bytes);
  -- One after another: which one is the default is a matter of all rows. Readers and references do not wait.
  lock table eve.tenants in share row exclusive mode;
  if eve_tenant_save.is_default then
    update eve.tenants t set is_default = false where t.is_default and t.id <> eve_tenant_save.id;
  end if;
  insert into eve.tenants as t (id, name, storage_limit_bytes, is_default)
  values (
    eve_tenant_save.id, eve_tenant_save.name, eve_tenant_save.storage_limit_bytes, coalesce(eve_tenant_save.is_default, false)
  )
  on conflict on constraint tenants_pkey do update
  set name = excluded.name, storage_limit_bytes = excluded.storage_limit_bytes,
    is_default = t.is_default or excluded.is_default;
  return jsonb_build_object('status', 'saved', 'id', eve_tenant_save.id);
end;
$function$;
comment on function public.eve_tenant_save is 'Adds a tenant, or changes one: what is left out is cleared, except that the default tenant stays it until another one becomes it.';

CREATE OR REPLACE FUNCTION public.eve_tenant_add(id text, name text DEFAULT NULL::text, storage_limit_bytes bigint DEFAULT NULL::bigint, is_default boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform eve.tenant_check(eve_tenant_add.id, eve_tenant_add.name, eve_tenant_add.storage_limit_bytes);
  lock table eve.tenants in share row exclusive mode;
  insert into eve.tenants (id) values (eve_tenant_add.id) on conflict do nothing;
  if not found then
    raise exception 'there is a tenant % already', eve_tenant_add.id using errcode = 'EV400';
  end if;
  perform public.eve_tenant_save(
    eve_tenant_add.id, eve_tenant_add.name, eve_tenant_add.storage_limit_bytes, eve_tenant_add.is_default
  );
  return public.eve_tenants(eve_tenant_add.id) -> 0;
end;
$function$;
comment on function public.eve_tenant_add is 'Adds a tenant that there is not yet.';

CREATE OR REPLACE FUNCTION public.eve_tenant_change(id text, changes jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_before eve.tenants;
  v_after eve.tenants;
  v_unknown text;
begin
  lock table eve.tenants in share row exclusive mode;
  select * into v_before from eve.tenants t where t.id = eve_tenant_change.id;
  if not found then
    raise exception 'there is no tenant %', left(eve_tenant_change.id, 100) using errcode = 'EV400';
  elsif jsonb_typeof(eve_tenant_change.changes) is distinct from 'object' or eve_tenant_change.changes = '{}' then
    raise exception 'changes must be an object with at least one field' using errcode = 'EV400';
  end if;
  select f into v_unknown
  from jsonb_object_keys(eve_tenant_change.changes) f
  where f not in ('name', 'storage_limit_bytes', 'is_default')
  limit 1;
  if found then
    raise exception 'of a tenant name, storage_limit_bytes and is_default change, not %', v_unknown using errcode = 'EV400';
  end if;
  begin
    v_after := jsonb_populate_record(v_before, eve_tenant_change.changes);
  exception when data_exception then
    raise exception 'a field of the tenant is of another type' using errcode = 'EV400';
  end;
  if v_before.is_default and v_after.is_default is distinct from true then
    raise exception 'there is always a default tenant: make another one it' using errcode = 'EV400';
  end if;
  perform public.eve_tenant_save(v_after.id, v_after.name, v_after.storage_limit_bytes, v_after.is_default);
  return public.eve_tenants(v_after.id) -> 0;
end;
$function$;
comment on function public.eve_tenant_change is 'Changes of a tenant what changes names (name, storage_limit_bytes, is_default), and nothing else. Null clears.';

CREATE OR REPLACE FUNCTION public.eve_tenant_members(tenant_id text, at_most integer DEFAULT 1000)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  if not exists (select from eve.tenants t where t.id = eve_tenant_members.tenant_id) then
    raise exception 'there is no tenant %', left(eve_tenant_members.tenant_id, 100) using errcode = 'EV400';
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('user_id', m.user_id, 'added_at', m.added_at) order by m.added_at, m.user_id), '[]')
    from (
      select m.user_id, m.added_at
      from eve.tenant_members m
      where m.tenant_id = eve_tenant_members.tenant_id
      order by m.added_at, m.user_id
      limit least(greatest(eve_tenant_members.at_most, 1), 1000)
    ) m
  );
end;
$function$;
comment on function public.eve_tenant_members is 'The signed-in users who may act for a tenant, those who were added first first; at most 1,000.';

CREATE OR REPLACE FUNCTION public.eve_tenant_member(tenant_id text, user_id uuid, is_member boolean DEFAULT true)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if eve_tenant_member.user_id is null then
    raise exception 'give a user''s id' using errcode = 'EV400';
  elsif not exists (select from eve.tenants t where t.id = eve_tenant_member.tenant_id) then
    raise exception 'there is no tenant %', left(eve_tenant_member.tenant_id, 100) using errcode = 'EV400';
  elsif eve_tenant_member.is_member then
    insert into eve.tenant_members (tenant_id, user_id) values (eve_tenant_member.tenant_id, eve_tenant_member.user_id)
    on conflict do nothing;
  else
    delete from eve.tenant_members m
    where m.tenant_id = eve_tenant_member.tenant_id and m.user_id = eve_tenant_member.user_id;
  end if;
  return jsonb_build_object('status', 'saved', 'changed', found);
end;
$function$;
comment on function public.eve_tenant_member is 'Adds a signed-in user to a tenant, or takes them out of it; changed: whether that was not so already.';

CREATE OR REPLACE FUNCTION public.eve_consumer_access(name text, scopes text[] DEFAULT NULL::text[], tenant_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers := eve.consumer_named(eve_consumer_access.name);
begin
  if not coalesce(eve_consumer_access.scopes, '{llm}') <@ '{llm,media,chats,vision,intake}'
    or cardinality(eve_consumer_access.scopes) not between 1 and 5 then
    raise exception 'scopes are one or more of llm, media, chats, vision, intake' using errcode = 'EV400';
  elsif eve_consumer_access.tenant_id is not null
    and not exists (select from eve.tenants t where t.id = eve_consumer_access.tenant_id) then
    raise exception 'there is no tenant %', left(eve_consumer_access.tenant_id, 100) using errcode = 'EV400';
  end if;
  update eve.consumers c
  set scopes = coalesce(
      (select array_agg(distinct s order by s) from unnest(eve_consumer_access.scopes) s), c.scopes
    ),
    tenant_id = coalesce(eve_consumer_access.tenant_id, c.tenant_id)
  where c.id = v_consumer.id
  returning c.* into v_consumer;
  perform eve.log_access(
    'consumer_scoped', v_consumer,
    details => jsonb_build_object('scopes', v_consumer.scopes, 'tenant_id', v_consumer.tenant_id)
  );
  return eve.consumer_json(v_consumer);
end;
$function$;
comment on function public.eve_consumer_access is 'Sets what a consumer may use (scopes) and whose it is (tenant); what is left out stays.';

CREATE OR REPLACE FUNCTION public.eve_consumer_add_with_access(name text, kind text, key_id text, proof text, models text[] DEFAULT NULL::text[], max_class text DEFAULT 'interactive'::text, rpm integer DEFAULT NULL::integer, requests_per_day integer DEFAULT NULL::integer, tokens_per_day bigint DEFAULT NULL::bigint, token_ttl_s integer DEFAULT 7200, scopes text[] DEFAULT NULL::text[], tenant_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer constant jsonb := public.eve_consumer_add(
    name => eve_consumer_add_with_access.name, kind => eve_consumer_add_with_access.kind,
    key_id => eve_consumer_add_with_access.key_id, proof => eve_consumer_add_with_access.proof,
    models => eve_consumer_add_with_access.models, max_class => eve_consumer_add_with_access.max_class,
    rpm => eve_consumer_add_with_access.rpm, requests_per_day => eve_consumer_add_with_access.requests_per_day,
    tokens_per_day => eve_consumer_add_with_access.tokens_per_day, token_ttl_s => eve_consumer_add_with_access.token_ttl_s
  );
begin
  if eve_consumer_add_with_access.scopes is null and eve_consumer_add_with_access.tenant_id is null then
    return v_consumer;
  end if;
  return public.eve_consumer_access(
    name => eve_consumer_add_with_access.name, scopes => eve_consumer_add_with_access.scopes,
    tenant_id => eve_consumer_add_with_access.tenant_id
  );
end;
$function$;
comment on function public.eve_consumer_add_with_access is 'Adds a consumer as eve_consumer_add does, with scopes (llm alone by default) and a tenant (the default one).';

-- media_tables --------------------------------------------------------------------------------------------------------

create table public.media_objects (
  tenant_id text not null default 'default'::text,
  file_sha256 text not null,
  size_bytes bigint,
  stored_bytes bigint,
  mime_type text,
  content_encoding text,
  kind text not null default 'media'::text,
  s3_key text,
  metadata jsonb not null default '{}'::jsonb,
  refs_count integer not null default 0,
  state text not null default 'stored'::text,
  counts_as text not null default 'used'::text,
  stored_in text not null default 's3'::text,
  first_seen_at timestamp with time zone default now(),
  last_seen_at timestamp with time zone default now(),
  expires_at timestamp with time zone,
  address_until timestamp with time zone,
  proof_tries integer not null default 0,
  proof_at timestamp with time zone,
  constraint media_objects_counts_as_known CHECK ((counts_as = ANY (ARRAY['reserved'::text, 'used'::text]))),
  constraint media_objects_kind_known CHECK ((kind = ANY (ARRAY['media'::text, 'vision'::text, 'crawl'::text]))),
  constraint media_objects_metadata_size CHECK ((octet_length((metadata)::text) <= 16384)),
  constraint media_objects_mime_type_length CHECK ((length(mime_type) <= 255)),
  constraint media_objects_pkey PRIMARY KEY (tenant_id, file_sha256),
  constraint media_objects_sha256_form CHECK ((file_sha256 ~ '^[0-9a-f]{64}$'::text)),
  constraint media_objects_sizes_positive CHECK (((size_bytes >= 0) AND (stored_bytes >= 0))),
  constraint media_objects_state_known CHECK ((state = ANY (ARRAY['reserved'::text, 'stored'::text, 'verified'::text, 'deleting'::text]))),
  constraint media_objects_stored_in_known CHECK ((stored_in = ANY (ARRAY['s3'::text, 'postgres'::text]))),
  constraint media_objects_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES eve.tenants(id)
);
alter table public.media_objects enable row level security;
CREATE INDEX media_objects_expires_at_idx ON public.media_objects USING btree (expires_at) WHERE (state = ANY (ARRAY['reserved'::text, 'deleting'::text]));
CREATE INDEX media_objects_kind_last_seen_at_idx ON public.media_objects USING btree (kind, last_seen_at) WHERE ((refs_count = 0) AND (state = ANY (ARRAY['stored'::text, 'verified'::text])));
CREATE INDEX media_objects_s3_key_idx ON public.media_objects USING btree (s3_key COLLATE "C");
CREATE INDEX media_objects_tenant_id_s3_key_idx ON public.media_objects USING btree (tenant_id, s3_key COLLATE "C");
CREATE INDEX media_objects_unproven_idx ON public.media_objects USING btree (last_seen_at) WHERE (state = 'stored'::text);
create policy media_objects_read on public.media_objects as permissive for select to authenticated using (tenant_id IN ( SELECT eve.member_tenants() AS member_tenants));
comment on table public.media_objects is 'What is stored, once per tenant and content. Written by the gateway; its members read their tenant''s.';
comment on column public.media_objects.file_sha256 is 'Of the file as it came, 64 hexadecimal digits.';
comment on column public.media_objects.size_bytes is 'Of the file as it came.';
comment on column public.media_objects.stored_bytes is 'As stored, packed or not: what limits count. Null: size_bytes.';
comment on column public.media_objects.content_encoding is 'gzip, or null.';
comment on column public.media_objects.kind is 'media, vision or crawl: what limits and lifecycle go by.';
comment on column public.media_objects.s3_key is 'Its key in the bucket or in eve.media_spool.';
comment on column public.media_objects.refs_count is 'Rows of eve.media_references; with any it is never deleted.';
comment on column public.media_objects.state is 'reserved: room is taken, nothing is stored for sure. stored: it is there with its size. verified: and its content has the hash. deleting: the object goes, then the row.';
comment on column public.media_objects.counts_as is 'Whether its bytes are in used_bytes or in reserved_bytes of eve.media_counters.';
comment on column public.media_objects.stored_in is 's3, or postgres: in eve.media_spool.';
comment on column public.media_objects.last_seen_at is 'When it was last uploaded or read.';
comment on column public.media_objects.expires_at is 'While reserved: when the reservation ends. While deleting: until then whoever began deletes it alone.';
comment on column public.media_objects.address_until is 'Until then somebody holds an address to which the file may be sent.';
comment on column public.media_objects.proof_tries is 'How often somebody began to read and hash it, while it is stored and not verified.';
comment on column public.media_objects.proof_at is 'Not read and hashed again before; null: at once.';

CREATE OR REPLACE FUNCTION eve.media_bytes(object public.media_objects)
 RETURNS bigint
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return greatest(coalesce((media_bytes.object).stored_bytes, (media_bytes.object).size_bytes, 0), 0);
end;
$function$;
comment on function eve.media_bytes is 'The bytes that an object counts for.';

create table eve.media_references (
  tenant_id text not null,
  file_sha256 text not null,
  ref_kind text not null,
  ref_id text not null,
  created_at timestamp with time zone not null default now(),
  constraint media_references_id_length CHECK (((length(ref_id) >= 1) AND (length(ref_id) <= 200))),
  constraint media_references_kind_form CHECK ((ref_kind ~ '^[a-z][a-z0-9_]{0,39}$'::text)),
  constraint media_references_object_fkey FOREIGN KEY (tenant_id, file_sha256) REFERENCES public.media_objects(tenant_id, file_sha256) ON UPDATE CASCADE,
  constraint media_references_pkey PRIMARY KEY (tenant_id, file_sha256, ref_kind, ref_id)
);
alter table eve.media_references enable row level security;
CREATE INDEX media_references_ref_kind_ref_id_idx ON eve.media_references USING btree (ref_kind, ref_id);
CREATE TRIGGER eve_media_count_references AFTER INSERT OR DELETE ON eve.media_references FOR EACH ROW EXECUTE FUNCTION eve.media_count_references(); -- enabled
comment on table eve.media_references is 'What uses an object: as long as there is a row, the object stays.';
comment on column eve.media_references.ref_kind is 'What sort of thing uses it, such as chat_message; adopted: a use counted before the gateway came.';

create table eve.media_multiparts (
  tenant_id text not null,
  file_sha256 text not null,
  upload_id text not null,
  part_bytes bigint not null,
  created_at timestamp with time zone not null default now(),
  constraint media_multiparts_object_fkey FOREIGN KEY (tenant_id, file_sha256) REFERENCES public.media_objects(tenant_id, file_sha256) ON UPDATE CASCADE ON DELETE CASCADE,
  constraint media_multiparts_part_bytes_positive CHECK ((part_bytes > 0)),
  constraint media_multiparts_pkey PRIMARY KEY (tenant_id, file_sha256),
  constraint media_multiparts_upload_id_length CHECK (((length(upload_id) >= 1) AND (length(upload_id) <= 2000)))
);
alter table eve.media_multiparts enable row level security;
comment on table eve.media_multiparts is 'Uploads in parts that are under way: each is of a reserved object, and goes with its reservation.';
comment on column eve.media_multiparts.upload_id is 'The store''s own name of it.';
comment on column eve.media_multiparts.part_bytes is 'Of each part but the last.';

create table eve.media_aliases (
  tenant_id text not null,
  key text not null,
  file_sha256 text not null,
  metadata jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default now(),
  constraint media_aliases_key_size CHECK (((octet_length(key) >= 1) AND (octet_length(key) <= 1024))),
  constraint media_aliases_metadata_size CHECK ((octet_length((metadata)::text) <= 16384)),
  constraint media_aliases_object_fkey FOREIGN KEY (tenant_id, file_sha256) REFERENCES public.media_objects(tenant_id, file_sha256) ON UPDATE CASCADE ON DELETE CASCADE,
  constraint media_aliases_pkey PRIMARY KEY (tenant_id, key)
);
alter table eve.media_aliases enable row level security;
CREATE INDEX media_aliases_key_idx ON eve.media_aliases USING btree (tenant_id, key COLLATE "C");
CREATE INDEX media_aliases_object_idx ON eve.media_aliases USING btree (tenant_id, file_sha256);
comment on table eve.media_aliases is 'Keys that programs choose: each points to an object, and goes with it.';

CREATE OR REPLACE FUNCTION eve.media_count_references()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if tg_op = 'INSERT' then
    update public.media_objects o
    set refs_count = o.refs_count + 1
    where o.tenant_id = new.tenant_id and o.file_sha256 = new.file_sha256;
  else
    update public.media_objects o
    set refs_count = greatest(o.refs_count - 1, 0)
    where o.tenant_id = old.tenant_id and o.file_sha256 = old.file_sha256;
  end if;
  return null;
end;
$function$;

create table eve.media_counters (
  scope text not null,
  subject text not null,
  used_bytes bigint not null default 0,
  reserved_bytes bigint not null default 0,
  objects bigint not null default 0,
  constraint media_counters_pkey PRIMARY KEY (scope, subject),
  constraint media_counters_scope_known CHECK ((scope = ANY (ARRAY['tenant'::text, 'kind'::text, 'total'::text, 'spool'::text])))
) with (fillfactor=30);
alter table eve.media_counters enable row level security;
comment on table eve.media_counters is 'Bytes and objects in all (total), by kind and by tenant; spool: bytes in eve.media_spool.';
comment on column eve.media_counters.subject is 'The tenant''s id or the kind; empty for total and spool.';
comment on column eve.media_counters.used_bytes is 'Of objects that are stored; reserved_bytes: of uploads that are not.';

create table eve.media_limits (
  name text not null,
  limit_bytes bigint not null,
  variable text,
  env_bytes bigint,
  description text not null,
  constraint media_limits_name_known CHECK ((name = ANY (ARRAY['total'::text, 'emergency'::text, 'tenant'::text, 'media'::text, 'vision'::text, 'crawl'::text, 'spool'::text]))),
  constraint media_limits_pkey PRIMARY KEY (name),
  constraint media_limits_positive CHECK ((limit_bytes >= 0))
);
alter table eve.media_limits enable row level security;
comment on table eve.media_limits is 'How much media there may be, in bytes (1 GB is 10^9). A change takes effect with the next upload.';
comment on column eve.media_limits.variable is 'The variable of the environment that sets it at the first run; env_bytes: what that said last.';

CREATE OR REPLACE FUNCTION eve.media_counter_of_tenant()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  insert into eve.media_counters (scope, subject) values ('tenant', new.id) on conflict do nothing;
  return null;
end;
$function$;

create table eve.media_spool (
  key text not null,
  seq bigint not null generated always as identity,
  body bytea not null,
  size_bytes bigint not null,
  sha256 text not null,
  content_type text not null,
  content_encoding text,
  moves boolean not null default false,
  created_at timestamp with time zone not null default now(),
  tries integer not null default 0,
  next_try_at timestamp with time zone not null default now(),
  claimed_until timestamp with time zone,
  last_error text,
  constraint media_spool_key_size CHECK (((octet_length(key) >= 1) AND (octet_length(key) <= 1024))),
  constraint media_spool_pkey PRIMARY KEY (key),
  constraint media_spool_sha256_form CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);
alter table eve.media_spool enable row level security;
CREATE INDEX media_spool_seq_idx ON eve.media_spool USING btree (seq);
comment on table eve.media_spool is 'Objects that are kept in the database: where there is no S3, and while S3 is away.';
comment on column eve.media_spool.seq is 'The order in which they came and go to S3.';
comment on column eve.media_spool.sha256 is 'Of body, packed or not.';
comment on column eve.media_spool.moves is 'Whether S3 is set up, so that it is to move there.';

create table eve.media_reconciliation (
  id boolean not null default true,
  state jsonb,
  completed_at timestamp with time zone,
  constraint media_reconciliation_one_row CHECK (id),
  constraint media_reconciliation_pkey PRIMARY KEY (id),
  constraint media_reconciliation_state_size CHECK ((length((state)::text) <= 400000))
);
alter table eve.media_reconciliation enable row level security;
comment on table eve.media_reconciliation is 'How far the comparison with the bucket is: a large bucket is listed by several runs.';
comment on column eve.media_reconciliation.state is 'What the next run goes on from; null: none is under way.';

create table eve.media_stores (
  store text not null,
  abilities jsonb not null,
  probed_at timestamp with time zone not null,
  constraint media_stores_abilities_size CHECK ((length((abilities)::text) <= 2000)),
  constraint media_stores_pkey PRIMARY KEY (store),
  constraint media_stores_store_length CHECK (((length(store) >= 1) AND (length(store) <= 2000)))
);
alter table eve.media_stores enable row level security;
comment on table eve.media_stores is 'What an object store can do, as a probe has found: to ask takes half a dozen requests.';
comment on column eve.media_stores.store is 'Its address and bucket.';

-- media_quota ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.media_limit(name text)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return (
    select l.limit_bytes from eve.media_limits l where l.name = media_limit.name
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_tenant_limit(tenant_id text)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return (
    select coalesce(
      (select t.storage_limit_bytes from eve.tenants t where t.id = media_tenant_limit.tenant_id), eve.media_limit('tenant')
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_lock_counters(tenant_id text, kind text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform
  from eve.media_counters c
  where (c.scope, c.subject) in (('tenant', media_lock_counters.tenant_id), ('kind', media_lock_counters.kind), ('total', ''))
  order by array_position('{tenant,kind,total}', c.scope)
  for no key update;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_count(tenant_id text, kind text, used bigint, reserved bigint, objects integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  update eve.media_counters c
  -- A row that somebody deleted by hand counts on until the reconciliation: less than nothing is never stored.
  set used_bytes = greatest(c.used_bytes + media_count.used, 0),
    reserved_bytes = greatest(c.reserved_bytes + media_count.reserved, 0),
    objects = greatest(c.objects + media_count.objects, 0)
  where (c.scope, c.subject) in (('tenant', media_count.tenant_id), ('kind', media_count.kind), ('total', ''));
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_no_room(tenant_id text, kind text, bytes bigint, in_spool boolean)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  return (
    select jsonb_build_object(
      'limit', c.scope, 'limit_bytes', l.bytes, 'used_bytes', c.used_bytes + c.reserved_bytes, 'asked_bytes', media_no_room.bytes
    )
    from eve.media_counters c
    cross join lateral (
      select case c.scope
        when 'tenant' then eve.media_tenant_limit(media_no_room.tenant_id)
        when 'kind' then eve.media_limit(media_no_room.kind)
        else eve.media_limit(c.scope)
      end as bytes
    ) l
    where (
        (c.scope, c.subject) in (('tenant', media_no_room.tenant_id), ('kind', media_no_room.kind), ('total', ''))
        or c.scope = 'spool' and media_no_room.in_spool
      )
      and media_no_room.bytes > 0 and c.used_bytes + c.reserved_bytes + media_no_room.bytes > l.bytes
    order by array_position('{spool,tenant,kind,total}', c.scope)
    limit 1
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_quota_refusal(tenant_id text, kind text, no_room jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select eve.refused(
    'storage_quota_exceeded',
    format(
      'The limit %s of %s bytes is used up: %s are in use or reserved, and %s more were asked for. Delete what is not needed, or ask the gateway''s owner for a higher limit.',
      case no_room ->> 'limit'
        when 'tenant' then format('of the tenant %s', media_quota_refusal.tenant_id)
        when 'kind' then format('of the kind %s', media_quota_refusal.kind)
        when 'spool' then 'of what is kept in the database'
        else 'in all'
      end,
      no_room ->> 'limit_bytes', no_room ->> 'used_bytes', no_room ->> 'asked_bytes'
    ),
    no_room || jsonb_build_object('tenant_id', media_quota_refusal.tenant_id, 'kind', media_quota_refusal.kind)
  );
$function$;

CREATE OR REPLACE FUNCTION eve.media_json(object public.media_objects)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return (
    select jsonb_build_object(
      'tenant_id', (object).tenant_id, 'sha256', (object).file_sha256, 'kind', (object).kind, 'mime_type', (object).mime_type,
      'size_bytes', (object).size_bytes, 'stored_bytes', eve.media_bytes(media_json.object),
      'content_encoding', (object).content_encoding, 's3_key', (object).s3_key, 'stored_in', (object).stored_in,
      'state', (object).state, 'refs_count', (object).refs_count, 'metadata', (object).metadata,
      'first_seen_at', (object).first_seen_at, 'last_seen_at', (object).last_seen_at, 'expires_at', (object).expires_at
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_multipart(tenant_id text, file_sha256 text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return (
    select jsonb_build_object('upload_id', m.upload_id, 'part_bytes', m.part_bytes)
    from eve.media_multiparts m
    where m.tenant_id = media_multipart.tenant_id and m.file_sha256 = media_multipart.file_sha256
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_link(tenant_id text, file_sha256 text, links jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if media_link.links ->> 'key' is not null then
    insert into eve.media_aliases as a (tenant_id, key, file_sha256, metadata)
    values (
      media_link.tenant_id, media_link.links ->> 'key', media_link.file_sha256,
      coalesce(media_link.links -> 'metadata', '{}')
    )
    on conflict on constraint media_aliases_pkey do update
    set file_sha256 = excluded.file_sha256, metadata = excluded.metadata;
  end if;
  if media_link.links ->> 'ref_kind' is not null and media_link.links ->> 'ref_id' is not null then
    insert into eve.media_references (tenant_id, file_sha256, ref_kind, ref_id)
    values (
      media_link.tenant_id, media_link.file_sha256, media_link.links ->> 'ref_kind', media_link.links ->> 'ref_id'
    )
    on conflict do nothing;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_check_file(file_sha256 text, size_bytes bigint, stored_bytes bigint, mime_type text, kind text, name text)
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  if media_check_file.file_sha256 is null or media_check_file.file_sha256 !~ '^[0-9a-f]{64}$' then
    raise exception 'sha256 must have 64 hexadecimal digits, in lower case' using errcode = 'EV400';
  elsif media_check_file.size_bytes is null or media_check_file.size_bytes < 0 or media_check_file.stored_bytes < 0 then
    raise exception 'size_bytes must be a number of bytes' using errcode = 'EV400';
  elsif media_check_file.kind is null or media_check_file.kind not in ('media', 'vision', 'crawl') then
    raise exception 'kind must be media, vision or crawl' using errcode = 'EV400';
  elsif media_check_file.mime_type is null or length(media_check_file.mime_type) not between 3 and 255 then
    raise exception 'mime_type must be a MIME type of at most 255 characters' using errcode = 'EV400';
  elsif media_check_file.name is null or octet_length(media_check_file.name) not between 1 and 400 then
    raise exception 'name must be the rest of the storage key, of 1 to 400 bytes' using errcode = 'EV400';
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.media_reserve_again(object public.media_objects, size_bytes bigint, stored_bytes bigint, mime_type text, content_encoding text, expires_at timestamp with time zone, address_until timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_held constant bigint := eve.media_bytes(media_reserve_again.object);
  v_was_used constant boolean := (object).counts_as = 'used';
  v_no_room jsonb;
begin
  perform eve.media_lock_counters((object).tenant_id, (object).kind);
  v_no_room := eve.media_no_room((object).tenant_id, (object).kind, media_reserve_again.stored_bytes - v_held, false);
  if v_no_room is not null then
    return v_no_room;
  end if;
  update public.media_objects o
  set state = 'reserved', counts_as = 'reserved', size_bytes = media_reserve_again.size_bytes,
    stored_bytes = media_reserve_again.stored_bytes, mime_type = media_reserve_again.mime_type,
    content_encoding = media_reserve_again.content_encoding, last_seen_at = eve.clock(),
    expires_at = greatest(media_reserve_again.expires_at, case when not v_was_used then o.expires_at end),
    address_until = greatest(media_reserve_again.address_until, o.address_until)
  where o.tenant_id = (object).tenant_id and o.file_sha256 = (object).file_sha256;
  perform eve.media_count(
    (object).tenant_id, (object).kind, case when v_was_used then -v_held else 0 end,
    media_reserve_again.stored_bytes - case when v_was_used then 0 else v_held end,
    case when v_was_used then -1 else 0 end
  );
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_media_reserve(actor jsonb, tenant_id text, file_sha256 text, size_bytes bigint, stored_bytes bigint, mime_type text, kind text, name text, content_encoding text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, links jsonb DEFAULT '{}'::jsonb, in_spool boolean DEFAULT false, ttl_s integer DEFAULT NULL::integer, address_s integer DEFAULT NULL::integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- A delete of an object that has begun takes less.
  v_soon_ms constant integer := 1000;
  v_who constant jsonb := eve.tenant_of_actor(eve_media_reserve.actor, eve_media_reserve.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_now constant timestamptz := eve.clock();
  v_expires_at constant timestamptz := v_now + make_interval(
    secs => least(coalesce(eve_media_reserve.ttl_s, eve.alert_setting('upload_keep_s', 86400)), 604800)
  );
  v_address_until constant timestamptz := v_now + make_interval(secs => eve_media_reserve.address_s);
  v_object public.media_objects;
  v_no_room jsonb;
begin
  if v_tenant is null then
    return v_who;
  end if;
  perform eve.media_check_file(
    eve_media_reserve.file_sha256, eve_media_reserve.size_bytes, eve_media_reserve.stored_bytes, eve_media_reserve.mime_type,
    eve_media_reserve.kind, eve_media_reserve.name
  );
  -- Again where the row that stood in the way is gone once its holder lets go.
  loop
    select * into v_object
    from public.media_objects o
    where o.tenant_id = v_tenant and o.file_sha256 = eve_media_reserve.file_sha256
    for update;
    exit when found;
    -- Without a lock: a crowd that is over the limit stands before nobody's door.
    v_no_room := eve.media_no_room(v_tenant, eve_media_reserve.kind, eve_media_reserve.stored_bytes, eve_media_reserve.in_spool);
    if v_no_room is not null then
      return eve.media_quota_refusal(v_tenant, eve_media_reserve.kind, v_no_room);
    end if;
    insert into public.media_objects as o (
      tenant_id, file_sha256, size_bytes, stored_bytes, mime_type, content_encoding, kind, s3_key, metadata, state, counts_as,
      stored_in, first_seen_at, last_seen_at, expires_at, address_until
    )
    values (
      v_tenant, eve_media_reserve.file_sha256, eve_media_reserve.size_bytes, eve_media_reserve.stored_bytes,
      eve_media_reserve.mime_type, eve_media_reserve.content_encoding, eve_media_reserve.kind,
      format('%s/%s/%s', eve_media_reserve.kind, v_tenant, eve_media_reserve.name), coalesce(eve_media_reserve.metadata, '{}'),
      'reserved', 'reserved', case when eve_media_reserve.in_spool then 'postgres' else 's3' end, v_now, v_now, v_expires_at,
      v_address_until
    )
    on conflict do nothing
    returning * into v_object;
    continue when not found;
    perform eve.media_lock_counters(v_tenant, eve_media_reserve.kind);
    v_no_room := eve.media_no_room(v_tenant, eve_media_reserve.kind, eve_media_reserve.stored_bytes, false);
    if v_no_room is not null then
      delete from public.media_objects o where o.tenant_id = v_tenant and o.file_sha256 = eve_media_reserve.file_sha256;
      return eve.media_quota_refusal(v_tenant, eve_media_reserve.kind, v_no_room);
    end if;
    perform eve.media_count(v_tenant, eve_media_reserve.kind, 0, eve_media_reserve.stored_bytes, 0);
    return jsonb_build_object('status', 'reserved', 'object', eve.media_json(v_object));
  end loop;

  if v_object.state = 'deleting' and v_object.expires_at > v_now then
    return eve.refused('upload_busy', null, null, greatest(
      v_soon_ms, ceil(extract(epoch from v_object.expires_at - v_now) * 1000)::bigint
    ));
  elsif v_object.state in ('reserved', 'deleting') then
    v_no_room := eve.media_reserve_again(
      v_object, eve_media_reserve.size_bytes, eve_media_reserve.stored_bytes, eve_media_reserve.mime_type,
      eve_media_reserve.content_encoding, v_expires_at, v_address_until
    );
    if v_no_room is not null then
      return eve.media_quota_refusal(v_tenant, v_object.kind, v_no_room);
    end if;
    select * into v_object
    from public.media_objects o
    where o.tenant_id = v_tenant and o.file_sha256 = eve_media_reserve.file_sha256;
    return jsonb_build_object(
      'status', 'reserved', 'object', eve.media_json(v_object), 'multipart', eve.media_multipart(v_tenant, v_object.file_sha256)
    );
  end if;
  update public.media_objects o
  set last_seen_at = v_now
  where o.tenant_id = v_tenant and o.file_sha256 = eve_media_reserve.file_sha256
  returning * into v_object;
  perform eve.media_link(v_tenant, eve_media_reserve.file_sha256, eve_media_reserve.links);
  return jsonb_build_object('status', 'present', 'object', eve.media_json(v_object));
end;
$function$;
comment on function public.eve_media_reserve is 'Takes room for a file before any of it is sent, or says that it is there already, or which limit is used up.';

CREATE OR REPLACE FUNCTION public.eve_media_multipart(tenant_id text, file_sha256 text, upload_id text, part_bytes bigint, ended text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform
  from public.media_objects o
  where o.tenant_id = eve_media_multipart.tenant_id and o.file_sha256 = eve_media_multipart.file_sha256 and o.state = 'reserved'
  for update;
  if not found then
    return jsonb_build_object('status', 'gone');
  end if;
  insert into eve.media_multiparts as m (tenant_id, file_sha256, upload_id, part_bytes, created_at)
  values (
    eve_media_multipart.tenant_id, eve_media_multipart.file_sha256, eve_media_multipart.upload_id, eve_media_multipart.part_bytes,
    eve.clock()
  )
  on conflict on constraint media_multiparts_pkey do update
  set upload_id = excluded.upload_id, part_bytes = excluded.part_bytes, created_at = excluded.created_at
  where m.upload_id = eve_media_multipart.ended;
  return jsonb_build_object(
    'status', 'noted', 'multipart', eve.media_multipart(eve_media_multipart.tenant_id, eve_media_multipart.file_sha256)
  );
end;
$function$;
comment on function public.eve_media_multipart is 'Notes the upload in parts by which a reserved object is sent.';

CREATE OR REPLACE FUNCTION public.eve_media_stored(tenant_id text, file_sha256 text, state text, stored_bytes bigint, stored_in text DEFAULT 's3'::text, links jsonb DEFAULT '{}'::jsonb, mime_type text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_object public.media_objects;
  v_reserved bigint;
begin
  if eve_media_stored.state is null or eve_media_stored.state not in ('stored', 'verified') then
    raise exception 'state must be stored or verified' using errcode = 'EV400';
  end if;
  select * into v_object
  from public.media_objects o
  where o.tenant_id = eve_media_stored.tenant_id and o.file_sha256 = eve_media_stored.file_sha256
  for update;
  if not found or v_object.state = 'deleting' then
    return jsonb_build_object('status', 'gone');
  end if;
  v_reserved := eve.media_bytes(v_object);
  perform eve.media_link(v_object.tenant_id, v_object.file_sha256, eve_media_stored.links);
  if v_object.state = 'reserved' then
    update public.media_objects o
    set state = eve_media_stored.state, counts_as = 'used', stored_bytes = eve_media_stored.stored_bytes,
      stored_in = eve_media_stored.stored_in, mime_type = coalesce(eve_media_stored.mime_type, o.mime_type), expires_at = null,
      last_seen_at = eve.clock()
    where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256;
    delete from eve.media_multiparts m where m.tenant_id = v_object.tenant_id and m.file_sha256 = v_object.file_sha256;
    perform eve.media_lock_counters(v_object.tenant_id, v_object.kind);
    perform eve.media_count(v_object.tenant_id, v_object.kind, eve_media_stored.stored_bytes, -v_reserved, 1);
  elsif v_object.state = 'stored' and eve_media_stored.state = 'verified' then
    update public.media_objects o
    set state = 'verified'
    where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256;
  end if;
  select * into v_object
  from public.media_objects o
  where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256;
  return jsonb_build_object(
    'status', 'stored', 'object', eve.media_json(v_object), 'is_final', coalesce(v_object.address_until <= eve.clock(), true)
  );
end;
$function$;
comment on function public.eve_media_stored is 'Says that an object is there: its reservation becomes use.';

CREATE OR REPLACE FUNCTION public.eve_media_seed(limits jsonb DEFAULT '{}'::jsonb, default_tenant text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_takes_over constant boolean := eve.default_tenant() = 'default';
begin
  update eve.media_limits l
  set limit_bytes = case when l.env_bytes is null then (eve_media_seed.limits ->> l.name)::bigint else l.limit_bytes end,
    env_bytes = (eve_media_seed.limits ->> l.name)::bigint
  where eve_media_seed.limits ->> l.name is not null and l.env_bytes is distinct from (eve_media_seed.limits ->> l.name)::bigint;
  if eve_media_seed.default_tenant is not null
    and not exists (select from eve.tenants t where t.id = eve_media_seed.default_tenant) then
    perform public.eve_tenant_save(eve_media_seed.default_tenant, is_default => v_takes_over);
    if v_takes_over and exists (select from public.media_objects o where o.tenant_id = 'default') then
      -- Where they are stored they stay: a row has its key.
      update public.media_objects o set tenant_id = eve_media_seed.default_tenant where o.tenant_id = 'default';
      perform public.eve_media_recount();
    end if;
  end if;
  return jsonb_build_object('status', 'seeded', 'default_tenant', eve.default_tenant());
end;
$function$;
comment on function public.eve_media_seed is 'Sets limits and the default tenant out of the environment, the first time; the rows rule from then on.';

-- media_reading -------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.media_named(tenant_id text, name text)
 RETURNS public.media_objects
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_object public.media_objects;
begin
  if media_named.name ~ '^[0-9a-f]{64}$' then
    select * into v_object
    from public.media_objects o
    where o.tenant_id = media_named.tenant_id and o.file_sha256 = media_named.name;
    if found then
      return v_object;
    end if;
  end if;
  select o.* into v_object
  from eve.media_aliases a
  join public.media_objects o on o.tenant_id = a.tenant_id and o.file_sha256 = a.file_sha256
  where a.tenant_id = media_named.tenant_id and a.key = media_named.name;
  if not found then
    select * into v_object
    from public.media_objects o
    where o.tenant_id = media_named.tenant_id and o.s3_key collate "C" = media_named.name
    order by o.file_sha256
    limit 1;
  end if;
  return v_object;
end;
$function$;
comment on function eve.media_named is 'An object of a tenant by its hash or by a key.';

CREATE OR REPLACE FUNCTION public.eve_media_find(actor jsonb, tenant_id text, name text, uses boolean DEFAULT false, unfinished boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- A picture that is looked at all day is written to once an hour.
  v_often constant interval := '1 hour';
  v_who constant jsonb := eve.tenant_of_actor(eve_media_find.actor, eve_media_find.tenant_id, 'media');
  v_object public.media_objects;
begin
  if v_who ->> 'tenant_id' is null then
    return v_who;
  end if;
  v_object := eve.media_named(v_who ->> 'tenant_id', left(eve_media_find.name, 1100));
  if v_object.tenant_id is null or v_object.state not in ('stored', 'verified') and not (eve_media_find.unfinished and v_object.state = 'reserved') then
    return jsonb_build_object('status', 'none', 'tenant_id', v_who ->> 'tenant_id');
  end if;
  if eve_media_find.uses and v_object.last_seen_at < eve.clock() - v_often then
    update public.media_objects o
    set last_seen_at = eve.clock()
    where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256 and o.state in ('stored', 'verified');
  end if;
  return jsonb_build_object(
    'status', 'found', 'object', eve.media_json(v_object), 'multipart', case
      when v_object.state = 'reserved' then eve.media_multipart(v_object.tenant_id, v_object.file_sha256)
    end
  ) || coalesce(
    (
      select jsonb_build_object('alias', jsonb_build_object('key', a.key, 'metadata', a.metadata, 'created_at', a.created_at))
      from eve.media_aliases a
      where a.tenant_id = v_object.tenant_id and a.key = eve_media_find.name
    ),
    '{}'
  );
end;
$function$;
comment on function public.eve_media_find is 'An object of a tenant, for whoever may act for it.';

CREATE OR REPLACE FUNCTION public.eve_media_list(actor jsonb, tenant_id text, prefix text DEFAULT ''::text, kind text DEFAULT NULL::text, aliases boolean DEFAULT false, after text DEFAULT NULL::text, at_most integer DEFAULT 100)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_media_list.actor, eve_media_list.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_most constant integer := least(greatest(eve_media_list.at_most, 1), 1000);
  v_prefix constant text := coalesce(left(eve_media_list.prefix, 1024), '');
  -- Behind every key that begins so, by bytes: no character stands behind this one.
  v_end constant text := v_prefix || U&'\+10FFFF';
  v_after constant text := coalesce(eve_media_list.after, '');
  v_entries jsonb;
begin
  if v_tenant is null then
    return v_who;
  end if;
  if eve_media_list.aliases or v_prefix <> '' and v_prefix !~ '^(m|me|med|medi|media|v|vi|vis|visi|visio|vision|c|cr|cra|craw|crawl)(/|$)' then
    select jsonb_agg(jsonb_build_object('key', page.key, 'metadata', page.metadata, 'object', page.object) order by page.key collate "C")
    into v_entries
    from (
      select a.key, a.metadata, eve.media_json(o) as object
      from eve.media_aliases a
      join public.media_objects o on o.tenant_id = a.tenant_id and o.file_sha256 = a.file_sha256
      where a.tenant_id = v_tenant and a.key collate "C" > v_after and a.key collate "C" >= v_prefix and a.key collate "C" < v_end
        and o.state in ('stored', 'verified') and (eve_media_list.kind is null or o.kind = eve_media_list.kind)
      order by a.key collate "C"
      limit v_most + 1
    ) page;
  else
    select jsonb_agg(jsonb_build_object('key', page.key, 'object', page.object) order by page.key collate "C")
    into v_entries
    from (
      select o.s3_key as key, eve.media_json(o) as object
      from public.media_objects o
      where o.tenant_id = v_tenant and o.s3_key collate "C" > v_after and o.s3_key collate "C" >= v_prefix
        and o.s3_key collate "C" < v_end
        and o.state in ('stored', 'verified') and (eve_media_list.kind is null or o.kind = eve_media_list.kind)
      order by o.s3_key collate "C"
      limit v_most + 1
    ) page;
  end if;
  v_entries := coalesce(v_entries, '[]');
  if jsonb_array_length(v_entries) > v_most then
    v_entries := v_entries - v_most;
    return jsonb_build_object(
      'status', 'listed', 'tenant_id', v_tenant, 'entries', v_entries, 'next', v_entries -> (v_most - 1) ->> 'key'
    );
  end if;
  return jsonb_build_object('status', 'listed', 'tenant_id', v_tenant, 'entries', v_entries, 'next', null);
end;
$function$;
comment on function public.eve_media_list is 'A page of a tenant''s objects, or of the keys that its programs chose.';

CREATE OR REPLACE FUNCTION eve.media_counter_json(scope text, subject text, limit_bytes bigint)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'limit_bytes', media_counter_json.limit_bytes, 'used_bytes', c.used_bytes, 'reserved_bytes', c.reserved_bytes,
    'free_bytes', greatest(media_counter_json.limit_bytes - c.used_bytes - c.reserved_bytes, 0), 'objects', c.objects
  )
  from eve.media_counters c
  where c.scope = media_counter_json.scope and c.subject = media_counter_json.subject;
$function$;

CREATE OR REPLACE FUNCTION public.eve_storage_quota(actor jsonb, tenant_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_quota.actor, eve_storage_quota.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
begin
  if v_tenant is null then
    return v_who;
  end if;
  return jsonb_build_object(
    'status', 'known', 'tenant_id', v_tenant,
    'total', eve.media_counter_json('total', '', eve.media_limit('total')),
    'tenant', eve.media_counter_json('tenant', v_tenant, eve.media_tenant_limit(v_tenant)),
    'kinds', (
      select jsonb_object_agg(k, eve.media_counter_json('kind', k, eve.media_limit(k))) from unnest('{media,vision,crawl}'::text[]) k
    ),
    'spool', eve.media_counter_json('spool', '', eve.media_limit('spool')),
    'emergency_threshold_bytes', eve.media_limit('emergency')
  );
end;
$function$;
comment on function public.eve_storage_quota is 'The limits that hold for a tenant, and what is used of each.';

CREATE OR REPLACE FUNCTION public.eve_storage_usage(actor jsonb, tenant_id text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_usage.actor, eve_storage_usage.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
begin
  if v_tenant is null then
    return v_who;
  end if;
  return jsonb_build_object('status', 'known', 'tenant_id', v_tenant)
    || eve.media_counter_json('tenant', v_tenant, eve.media_tenant_limit(v_tenant))
    || jsonb_build_object(
      'kinds', (
        select jsonb_object_agg(
          k, (
            select jsonb_build_object(
              'objects', count(*), 'used_bytes', coalesce(sum(eve.media_bytes(o)), 0),
              'without_references_bytes', coalesce(sum(eve.media_bytes(o)) filter (where o.refs_count = 0), 0)
            )
            from public.media_objects o
            where o.tenant_id = v_tenant and o.kind = k and o.counts_as = 'used'
          )
        )
        from unnest('{media,vision,crawl}'::text[]) k
      )
    );
end;
$function$;
comment on function public.eve_storage_usage is 'What a tenant keeps, by kind.';

CREATE OR REPLACE FUNCTION public.eve_storage_check(actor jsonb, tenant_id text, size_bytes bigint, kind text DEFAULT 'media'::text, in_spool boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_check.actor, eve_storage_check.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_no_room jsonb;
begin
  if v_tenant is null then
    return v_who;
  end if;
  perform eve.media_check_file(repeat('0', 64), eve_storage_check.size_bytes, 0, 'any/any', eve_storage_check.kind, 'any');
  v_no_room := eve.media_no_room(v_tenant, eve_storage_check.kind, eve_storage_check.size_bytes, eve_storage_check.in_spool);
  return jsonb_build_object(
    'status', 'checked', 'tenant_id', v_tenant, 'content_type', eve_storage_check.kind, 'size_bytes', eve_storage_check.size_bytes,
    'allowed', v_no_room is null
  ) || case when v_no_room is null then '{}' else jsonb_build_object('refused_by', v_no_room) end;
end;
$function$;
comment on function public.eve_storage_check is 'Whether a file of a size would have room.';

CREATE OR REPLACE FUNCTION public.eve_storage_stats(actor jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_stats.actor, null, 'media');
begin
  if not coalesce((v_who ->> 'project')::boolean, false) then
    return case
      when v_who ->> 'code' is not null then v_who
      else eve.refused('credential_insufficient', 'This is for the project''s secret key and for administrators.')
    end;
  end if;
  return public.eve_storage_quota(eve_storage_stats.actor, null) - 'tenant' - 'tenant_id' || jsonb_build_object(
    'tenants', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object('tenant_id', t.id) || eve.media_counter_json('tenant', t.id, eve.media_tenant_limit(t.id)) order by t.id
        ), '[]'
      )
      from eve.tenants t
    ),
    'limits', (
      select jsonb_agg(
        jsonb_build_object('name', l.name, 'limit_bytes', l.limit_bytes, 'variable', l.variable, 'env_bytes', l.env_bytes) order by l.name
      )
      from eve.media_limits l
    ),
    'unfinished', (select count(*) from public.media_objects o where o.state = 'reserved'),
    'unproven', (select count(*) from public.media_objects o where o.state = 'stored'),
    'deleting', (select count(*) from public.media_objects o where o.state = 'deleting'),
    'spooled', (
      select jsonb_build_object('objects', count(*), 'oldest_at', min(s.created_at), 'tries', coalesce(max(s.tries), 0)) from eve.media_spool s
    )
  );
end;
$function$;
comment on function public.eve_storage_stats is 'All that is stored, by kind and by tenant, against the limits; for the project alone.';

-- media_lifecycle -----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.media_to_delete(object public.media_objects)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return jsonb_build_object(
    'tenant_id', (object).tenant_id, 'sha256', (object).file_sha256, 's3_key', (object).s3_key, 'stored_in', (object).stored_in,
    'bytes', eve.media_bytes(media_to_delete.object), 'upload_id', (
      select m.upload_id
      from eve.media_multiparts m
      where m.tenant_id = (object).tenant_id and m.file_sha256 = (object).file_sha256
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_media_claim(kind text DEFAULT NULL::text, min_age_s bigint DEFAULT 0, at_most integer DEFAULT 500, need_bytes bigint DEFAULT NULL::bigint, lease_s integer DEFAULT 120)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_most constant integer := least(greatest(eve_media_claim.at_most, 1), 1000);
  v_lease constant timestamptz := v_now + make_interval(secs => least(greatest(eve_media_claim.lease_s, 30), 600));
  v_claimed jsonb;
begin
  if eve_media_claim.kind is null then
    with over as materialized (
      select o.tenant_id, o.file_sha256
      from public.media_objects o
      where o.state in ('reserved', 'deleting') and o.expires_at <= v_now
      order by o.expires_at
      limit v_most
      for update skip locked
    ), marked as (
      update public.media_objects o
      set state = 'deleting', expires_at = v_lease
      from over
      where o.tenant_id = over.tenant_id and o.file_sha256 = over.file_sha256
      returning eve.media_to_delete(o) as one
    )
    select jsonb_agg(m.one) into v_claimed from marked m;
  else
    with unused as materialized (
      select o.tenant_id, o.file_sha256, o.last_seen_at, eve.media_bytes(o) as bytes
      from public.media_objects o
      where o.kind = eve_media_claim.kind and o.refs_count = 0 and o.state in ('stored', 'verified')
        and o.last_seen_at <= v_now - make_interval(secs => greatest(eve_media_claim.min_age_s, 0))
      order by o.last_seen_at
      limit v_most
      for update skip locked
    ), needed as (
      select u.*, coalesce(
        sum(u.bytes) over (order by u.last_seen_at, u.tenant_id, u.file_sha256 rows between unbounded preceding and 1 preceding), 0
      ) as before
      from unused u
    ), marked as (
      update public.media_objects o
      set state = 'deleting', expires_at = v_lease
      from needed n
      where o.tenant_id = n.tenant_id and o.file_sha256 = n.file_sha256
        and (eve_media_claim.need_bytes is null or n.before < eve_media_claim.need_bytes)
      returning eve.media_to_delete(o) as one
    )
    select jsonb_agg(m.one) into v_claimed from marked m;
  end if;
  return coalesce(v_claimed, '[]');
end;
$function$;
comment on function public.eve_media_claim is 'Marks objects that are to be deleted, and hands them to whoever deletes them.';

CREATE OR REPLACE FUNCTION public.eve_media_claimable(kind text, min_age_s bigint DEFAULT 0, need_bytes bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  with needed as (
    select o.last_seen_at, eve.media_bytes(o) as bytes,
      coalesce(sum(eve.media_bytes(o)) over (order by o.last_seen_at, o.tenant_id, o.file_sha256 rows between unbounded preceding and 1 preceding), 0) as before
    from public.media_objects o
    where o.kind = eve_media_claimable.kind and o.refs_count = 0 and o.state in ('stored', 'verified')
      and o.last_seen_at <= eve.clock() - make_interval(secs => greatest(eve_media_claimable.min_age_s, 0))
  )
  select jsonb_build_object('objects', count(*), 'bytes', coalesce(sum(n.bytes), 0), 'oldest_at', min(n.last_seen_at))
  from needed n
  where eve_media_claimable.need_bytes is null or n.before < eve_media_claimable.need_bytes;
$function$;
comment on function public.eve_media_claimable is 'What a clean-up would delete; nothing is changed.';

CREATE OR REPLACE FUNCTION public.eve_media_delete(actor jsonb, tenant_id text, name text, ref_kind text DEFAULT NULL::text, ref_id text DEFAULT NULL::text, lease_s integer DEFAULT 120)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_media_delete.actor, eve_media_delete.tenant_id, 'media');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_object public.media_objects;
  v_by_alias boolean;
begin
  if v_tenant is null then
    return v_who;
  end if;
  v_object := eve.media_named(v_tenant, left(eve_media_delete.name, 1100));
  select * into v_object
  from public.media_objects o
  where o.tenant_id = v_tenant and o.file_sha256 = v_object.file_sha256
  for update;
  if not found or v_object.state not in ('stored', 'verified') then
    return jsonb_build_object('status', 'none', 'tenant_id', v_tenant);
  end if;
  delete from eve.media_references r
  where r.tenant_id = v_tenant and r.file_sha256 = v_object.file_sha256 and r.ref_kind = eve_media_delete.ref_kind
    and r.ref_id = eve_media_delete.ref_id;
  delete from eve.media_aliases a
  where a.tenant_id = v_tenant and a.file_sha256 = v_object.file_sha256 and a.key = eve_media_delete.name;
  v_by_alias := found;
  select * into v_object
  from public.media_objects o
  where o.tenant_id = v_tenant and o.file_sha256 = v_object.file_sha256;
  if v_object.refs_count > 0 or v_by_alias and exists (
    select from eve.media_aliases a where a.tenant_id = v_tenant and a.file_sha256 = v_object.file_sha256
  ) then
    return jsonb_build_object('status', 'kept', 'object', eve.media_json(v_object));
  end if;
  update public.media_objects o
  set state = 'deleting', expires_at = eve.clock() + make_interval(secs => least(greatest(eve_media_delete.lease_s, 30), 600))
  where o.tenant_id = v_tenant and o.file_sha256 = v_object.file_sha256
  returning * into v_object;
  return jsonb_build_object('status', 'deleting', 'delete', eve.media_to_delete(v_object), 'object', eve.media_json(v_object));
end;
$function$;
comment on function public.eve_media_delete is 'Drops a use of an object; the last one marks it as deleting.';

CREATE OR REPLACE FUNCTION public.eve_media_failed(tenant_id text, file_sha256 text, reason text DEFAULT NULL::text, lease_s integer DEFAULT 120)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_object public.media_objects;
begin
  update public.media_objects o
  set state = 'deleting', expires_at = eve.clock() + make_interval(secs => least(greatest(eve_media_failed.lease_s, 30), 600))
  where o.tenant_id = eve_media_failed.tenant_id and o.file_sha256 = eve_media_failed.file_sha256
    and (o.state = 'reserved' or o.state = 'stored' and o.refs_count = 0)
  returning * into v_object;
  if not found then
    return jsonb_build_object('status', 'none');
  end if;
  return jsonb_build_object('status', 'deleting', 'delete', eve.media_to_delete(v_object));
end;
$function$;
comment on function public.eve_media_failed is 'Gives up an upload: it is to be deleted where it is stored, and its room to be given back.';

CREATE OR REPLACE FUNCTION eve.media_uncount(gone public.media_objects[], held public.media_objects[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_change record;
begin
  for v_change in
    select s.scope, s.subject, s.used, s.reserved, s.objects
    from (
      select case when grouping(o.tenant_id) = 0 then 'tenant' when grouping(o.kind) = 0 then 'kind' else 'total' end as scope,
        coalesce(o.tenant_id, o.kind, '') as subject, coalesce(sum(o.used), 0)::bigint as used,
        coalesce(sum(o.reserved), 0)::bigint as reserved, coalesce(sum(o.objects), 0)::bigint as objects
      from (
        select g.tenant_id, g.kind, case g.counts_as when 'used' then eve.media_bytes(g) else 0 end as used,
          case g.counts_as when 'used' then 0 else eve.media_bytes(g) end as reserved,
          case g.counts_as when 'used' then 1 else 0 end as objects
        from unnest(media_uncount.gone) g
        union all
        select h.tenant_id, h.kind, eve.media_bytes(h), -eve.media_bytes(h), 1
        from unnest(media_uncount.held) h
        where h.counts_as = 'used'
      ) o
      group by grouping sets ((o.tenant_id), (o.kind), ())
    ) s
    order by array_position('{tenant,kind,total}', s.scope), s.subject
  loop
    update eve.media_counters c
    set used_bytes = greatest(c.used_bytes - v_change.used, 0), reserved_bytes = greatest(c.reserved_bytes - v_change.reserved, 0),
      objects = greatest(c.objects - v_change.objects, 0)
    where c.scope = v_change.scope and c.subject = v_change.subject;
  end loop;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_media_deleted(items jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_gone public.media_objects[];
  v_held public.media_objects[];
begin
  -- Whoever reserves waits for the counters until this has ended, and need not wait for the disk as well: what a crash undoes of it, the
  -- next run does again, since the objects are marked.
  perform set_config('synchronous_commit', 'off', true);
  perform
  from public.media_objects o
  join jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
    on i.tenant_id = o.tenant_id and i.sha256 = o.file_sha256
  where o.state = 'deleting'
  order by o.tenant_id, o.file_sha256
  for update of o;
  -- Of a content that turned out to be another one; nothing else with references comes so far.
  delete from eve.media_references r
  using jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
  where r.tenant_id = i.tenant_id and r.file_sha256 = i.sha256
    and exists (
      select from public.media_objects o where o.tenant_id = r.tenant_id and o.file_sha256 = r.file_sha256 and o.state = 'deleting'
    );
  delete from eve.media_aliases a
  using jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
  where a.tenant_id = i.tenant_id and a.file_sha256 = i.sha256
    and exists (
      select from public.media_objects o where o.tenant_id = a.tenant_id and o.file_sha256 = a.file_sha256 and o.state = 'deleting'
    );
  with held as (
    update public.media_objects o
    set state = 'reserved', expires_at = o.address_until
    from jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
    where o.tenant_id = i.tenant_id and o.file_sha256 = i.sha256 and o.state = 'deleting' and o.address_until > eve.clock()
    returning o.*
  )
  select array_agg(h::public.media_objects) into v_held from held h;
  -- Their parts are deleted; the rows of those that are gone go with them.
  delete from eve.media_multiparts m
  using unnest(v_held) h
  where m.tenant_id = h.tenant_id and m.file_sha256 = h.file_sha256;
  with gone as (
    delete from public.media_objects o
    using jsonb_to_recordset(eve_media_deleted.items) as i (tenant_id text, sha256 text)
    where o.tenant_id = i.tenant_id and o.file_sha256 = i.sha256 and o.state = 'deleting'
    returning o.*
  )
  select array_agg(g::public.media_objects) into v_gone from gone g;
  if v_gone is null and v_held is null then
    return jsonb_build_object('objects', 0, 'bytes', 0);
  end if;
  perform public.eve_media_spool_delete(array(select o.s3_key from unnest(v_gone || v_held) o where o.s3_key is not null));
  update public.media_objects o
  set counts_as = 'reserved'
  from unnest(v_held) h
  where o.tenant_id = h.tenant_id and o.file_sha256 = h.file_sha256;
  perform eve.media_uncount(v_gone, v_held);
  return (
    select jsonb_build_object(
      'objects', count(*), 'bytes', coalesce(sum(eve.media_bytes(o)) filter (where o.state = 'deleting'), 0)
    )
    from unnest(v_gone || v_held) o
  );
end;
$function$;
comment on function public.eve_media_deleted is 'Says that objects are deleted where they were stored: their rows go and their bytes are free.';

CREATE OR REPLACE FUNCTION public.eve_media_keep_days()
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'media', eve.alert_setting('media_keep_days', 30), 'vision', eve.alert_setting('vision_keep_days', 14),
    'crawl', eve.alert_setting('crawl_keep_days', 7), 'now', eve.clock()
  );
$function$;
comment on function public.eve_media_keep_days is 'After how many days without use objects leave, by kind; and what time it is.';

CREATE OR REPLACE FUNCTION public.eve_media_alert(kind text, message text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if eve_media_alert.message is null then
    perform eve.close_alerts('storage', array[eve_media_alert.kind]);
  else
    perform eve.open_alert(
      eve_media_alert.kind, 'storage', case eve_media_alert.kind when 'storage_emergency_cleanup' then 'warning' else 'critical' end,
      eve_media_alert.message
    );
  end if;
  return jsonb_build_object('status', 'noted');
end;
$function$;
comment on function public.eve_media_alert is 'Opens an alert about storage, or closes it.';

-- media_comparison ----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_media_compare(listed jsonb, after text, until text, seen_before timestamp with time zone)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  with bucket as materialized (
    select l.key, l.size_bytes from jsonb_to_recordset(eve_media_compare.listed -> 'objects') as l (key text, size_bytes bigint)
  ), known as materialized (
    select o.s3_key, o.tenant_id, o.file_sha256, eve.media_bytes(o) as bytes, o.state, o.stored_in, o.first_seen_at
    from public.media_objects o
    where o.s3_key collate "C" > coalesce(eve_media_compare.after, '')
      and (eve_media_compare.until is null or o.s3_key collate "C" <= eve_media_compare.until)
  )
  select jsonb_build_object(
    'unknown', coalesce(
      (
        select jsonb_agg(jsonb_build_object('key', b.key, 'size_bytes', b.size_bytes))
        from bucket b
        where not exists (select from known k where k.s3_key = b.key)
      ), '[]'
    ),
    'missing', coalesce(
      (
        select jsonb_agg(jsonb_build_object('key', k.s3_key, 'tenant_id', k.tenant_id, 'sha256', k.file_sha256, 'size_bytes', k.bytes))
        from known k
        where k.state in ('stored', 'verified') and k.stored_in = 's3'
          and coalesce(k.first_seen_at, '-infinity') < eve_media_compare.seen_before
          and not exists (select from bucket b where b.key = k.s3_key)
      ), '[]'
    ),
    'resized', coalesce(
      (
        select jsonb_agg(jsonb_build_object('key', k.s3_key, 'size_bytes', k.bytes, 'listed_bytes', b.size_bytes))
        from known k
        join bucket b on b.key = k.s3_key
        where k.state in ('stored', 'verified') and k.bytes <> b.size_bytes
      ), '[]'
    )
  );
$function$;
comment on function public.eve_media_compare is 'What is in a page of the bucket''s listing or in the registry, and not in the other.';

CREATE OR REPLACE FUNCTION public.eve_media_comparison()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select r.state from eve.media_reconciliation r;
$function$;
comment on function public.eve_media_comparison is 'How far a comparison with the bucket is that is under way.';

CREATE OR REPLACE FUNCTION public.eve_media_comparison_save(state jsonb DEFAULT NULL::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  insert into eve.media_reconciliation as r (state, completed_at)
  values (eve_media_comparison_save.state, case when eve_media_comparison_save.state is null then eve.clock() end)
  on conflict (id) do update
  set state = excluded.state, completed_at = coalesce(excluded.completed_at, r.completed_at);
  return jsonb_build_object('status', 'noted');
end;
$function$;
comment on function public.eve_media_comparison_save is 'Notes how far a comparison with the bucket is.';

CREATE OR REPLACE FUNCTION public.eve_media_abilities(store text)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select s.abilities
  from eve.media_stores s
  where s.store = eve_media_abilities.store and s.probed_at > eve.clock() - interval '7 days';
$function$;
comment on function public.eve_media_abilities is 'What an object store can do, as a probe found in the last week.';

CREATE OR REPLACE FUNCTION public.eve_media_abilities_save(store text, abilities jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  insert into eve.media_stores as s (store, abilities, probed_at)
  values (eve_media_abilities_save.store, eve_media_abilities_save.abilities, eve.clock())
  on conflict on constraint media_stores_pkey do update
  set abilities = excluded.abilities, probed_at = excluded.probed_at;
  return jsonb_build_object('status', 'noted');
end;
$function$;
comment on function public.eve_media_abilities_save is 'Notes what an object store can do.';

CREATE OR REPLACE FUNCTION public.eve_media_recount()
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_wrong jsonb;
begin
  perform
  from eve.media_counters c
  order by array_position('{spool,tenant,kind,total}', c.scope), c.subject
  for update;
  with actual as materialized (
    select case when grouping(o.tenant_id) = 0 then 'tenant' when grouping(o.kind) = 0 then 'kind' else 'total' end as scope,
      coalesce(o.tenant_id, o.kind, '') as subject,
      coalesce(sum(eve.media_bytes(o)) filter (where o.counts_as = 'used'), 0)::bigint as used,
      coalesce(sum(eve.media_bytes(o)) filter (where o.counts_as = 'reserved'), 0)::bigint as reserved,
      count(*) filter (where o.counts_as = 'used') as objects
    from public.media_objects o
    group by grouping sets ((o.tenant_id), (o.kind), ())
    union all
    select 'spool', '', coalesce(sum(s.size_bytes), 0)::bigint, 0, count(*) from eve.media_spool s
  ), wrong as (
    select c.scope, c.subject, c.used_bytes as was_used, c.reserved_bytes as was_reserved, c.objects as was_objects,
      coalesce(a.used, 0) as used, coalesce(a.reserved, 0) as reserved, coalesce(a.objects, 0) as objects
    from eve.media_counters c
    left join actual a on a.scope = c.scope and a.subject = c.subject
    where (c.used_bytes, c.reserved_bytes, c.objects) is distinct from
      (coalesce(a.used, 0)::bigint, coalesce(a.reserved, 0)::bigint, coalesce(a.objects, 0)::bigint)
  ), mended as (
    update eve.media_counters c
    set used_bytes = w.used, reserved_bytes = w.reserved, objects = w.objects
    from wrong w
    where c.scope = w.scope and c.subject = w.subject
  )
  select jsonb_agg(
    jsonb_build_object(
      'scope', w.scope, 'subject', w.subject,
      'was', jsonb_build_object('used_bytes', w.was_used, 'reserved_bytes', w.was_reserved, 'objects', w.was_objects),
      'is', jsonb_build_object('used_bytes', w.used, 'reserved_bytes', w.reserved, 'objects', w.objects)
    )
    order by w.scope, w.subject
  )
  into v_wrong
  from wrong w;
  return coalesce(v_wrong, '[]');
end;
$function$;
comment on function public.eve_media_recount is 'Counts all objects anew, repairs the counters, and says which were wrong.';

-- media_proofs --------------------------------------------------------------------------------------------------------

create table eve.media_proofs (
  tenant_id text not null,
  file_sha256 text not null,
  hashed_bytes bigint not null,
  hash_state text not null,
  updated_at timestamp with time zone not null,
  constraint media_proofs_hash_state_length CHECK ((length(hash_state) <= 400)),
  constraint media_proofs_hashed_bytes_positive CHECK ((hashed_bytes > 0)),
  constraint media_proofs_object_fkey FOREIGN KEY (tenant_id, file_sha256) REFERENCES public.media_objects(tenant_id, file_sha256) ON DELETE CASCADE,
  constraint media_proofs_pkey PRIMARY KEY (tenant_id, file_sha256)
);
alter table eve.media_proofs enable row level security;
comment on table eve.media_proofs is 'How far large objects have been read and hashed: the next run goes on there.';
comment on column eve.media_proofs.hash_state is 'SHA-256 of the first hashed_bytes bytes, unfinished, in base64, as the functions'' library keeps it.';

CREATE OR REPLACE FUNCTION public.eve_media_unproven(at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_unproven jsonb;
begin
  with next as materialized (
    select o.tenant_id, o.file_sha256
    from public.media_objects o
    where o.state = 'stored' and o.s3_key is not null and (o.address_until is null or o.address_until <= v_now)
      and (o.proof_at is null or o.proof_at <= v_now)
    order by o.proof_tries, o.last_seen_at
    limit least(greatest(eve_media_unproven.at_most, 1), 1000)
    for update skip locked
  ), tried as (
    update public.media_objects o
    set proof_tries = o.proof_tries + 1, proof_at = v_now + least(interval '10 minutes' * 2 ^ least(o.proof_tries, 10), interval '1 day')
    from next n
    where o.tenant_id = n.tenant_id and o.file_sha256 = n.file_sha256
    returning o.proof_tries, o.last_seen_at,
      eve.media_to_delete(o) || jsonb_build_object(
        'mime_type', o.mime_type, 'content_encoding', o.content_encoding,
        'proof', (
          select jsonb_build_object('hashed_bytes', p.hashed_bytes, 'state', p.hash_state)
          from eve.media_proofs p
          where p.tenant_id = o.tenant_id and p.file_sha256 = o.file_sha256
        )
      ) as one
  )
  select jsonb_agg(t.one order by t.proof_tries, t.last_seen_at) into v_unproven from tried t;
  return coalesce(v_unproven, '[]');
end;
$function$;
comment on function public.eve_media_unproven is 'Objects whose content is still to be read and hashed.';

CREATE OR REPLACE FUNCTION public.eve_media_proof_keep(tenant_id text, file_sha256 text, hashed_bytes bigint, state text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if eve_media_proof_keep.state is null then
    delete from eve.media_proofs p
    where p.tenant_id = eve_media_proof_keep.tenant_id and p.file_sha256 = eve_media_proof_keep.file_sha256;
    return jsonb_build_object('status', 'forgotten');
  end if;
  update public.media_objects o
  set proof_tries = 0, proof_at = null
  where o.tenant_id = eve_media_proof_keep.tenant_id and o.file_sha256 = eve_media_proof_keep.file_sha256 and o.state = 'stored';
  if not found then
    return jsonb_build_object('status', 'gone');
  end if;
  insert into eve.media_proofs as p (tenant_id, file_sha256, hashed_bytes, hash_state, updated_at)
  values (
    eve_media_proof_keep.tenant_id, eve_media_proof_keep.file_sha256, eve_media_proof_keep.hashed_bytes, eve_media_proof_keep.state,
    eve.clock()
  )
  on conflict on constraint media_proofs_pkey do update
  set hashed_bytes = excluded.hashed_bytes, hash_state = excluded.hash_state, updated_at = excluded.updated_at
  where p.hashed_bytes < excluded.hashed_bytes;
  return jsonb_build_object('status', 'kept');
end;
$function$;
comment on function public.eve_media_proof_keep is 'Keeps how far a large object has been hashed, or forgets it.';

-- media_spool ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_media_spool_put(key text, body text, sha256 text, content_type text, content_encoding text DEFAULT NULL::text, moves boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_body constant bytea := decode(eve_media_spool_put.body, 'base64');
  v_limit constant bigint := eve.media_limit('spool');
  v_used bigint;
begin
  if eve_media_spool_put.key is null or octet_length(eve_media_spool_put.key) not between 1 and 1024 then
    raise exception 'key must have 1 to 1024 bytes' using errcode = 'EV400';
  elsif encode(sha256(v_body), 'hex') is distinct from eve_media_spool_put.sha256 then
    return eve.refused('content_mismatch');
  end if;
  insert into eve.media_spool (key, body, size_bytes, sha256, content_type, content_encoding, moves, created_at, next_try_at)
  values (
    eve_media_spool_put.key, v_body, length(v_body), eve_media_spool_put.sha256, left(eve_media_spool_put.content_type, 255),
    eve_media_spool_put.content_encoding, coalesce(eve_media_spool_put.moves, false), eve.clock(), eve.clock()
  )
  on conflict on constraint media_spool_pkey do nothing;
  if not found then
    return jsonb_build_object('status', 'stored', 'created', false);
  end if;
  update eve.media_counters c
  set used_bytes = c.used_bytes + length(v_body), objects = c.objects + 1
  where c.scope = 'spool'
  returning c.used_bytes - length(v_body) into v_used;
  if v_used + length(v_body) > v_limit then
    delete from eve.media_spool s where s.key = eve_media_spool_put.key;
    update eve.media_counters c
    set used_bytes = c.used_bytes - length(v_body), objects = c.objects - 1
    where c.scope = 'spool';
    return eve.media_quota_refusal(
      null, null, jsonb_build_object('limit', 'spool', 'limit_bytes', v_limit, 'used_bytes', v_used, 'asked_bytes', length(v_body))
    );
  end if;
  return jsonb_build_object('status', 'stored', 'created', true);
end;
$function$;
comment on function public.eve_media_spool_put is 'Keeps an object in the database, as long as there is room for it.';

CREATE OR REPLACE FUNCTION public.eve_media_spool_get(key text, start integer DEFAULT 0, length integer DEFAULT NULL::integer)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'size_bytes', s.size_bytes, 'sha256', s.sha256, 'content_type', s.content_type, 'content_encoding', s.content_encoding,
    'created_at', s.created_at,
    'body', case
      when eve_media_spool_get.length is null or eve_media_spool_get.length > 0 then translate(
        encode(
          substring(s.body from eve_media_spool_get.start + 1 for coalesce(eve_media_spool_get.length, s.size_bytes::integer)), 'base64'
        ), E'\n', ''
      )
    end
  )
  from eve.media_spool s
  where s.key = eve_media_spool_get.key;
$function$;
comment on function public.eve_media_spool_get is 'An object that the database holds, or a piece of it; with length 0 its facts alone.';

CREATE OR REPLACE FUNCTION public.eve_media_spool_delete(keys text[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_bytes bigint;
  v_objects bigint;
begin
  perform
  from eve.media_spool s
  where s.key = any (eve_media_spool_delete.keys)
  order by s.key
  for update;
  with gone as (
    delete from eve.media_spool s
    where s.key = any (eve_media_spool_delete.keys)
    returning s.size_bytes
  )
  select coalesce(sum(g.size_bytes), 0), count(*) into v_bytes, v_objects from gone g;
  if v_objects > 0 then
    update eve.media_counters c
    set used_bytes = greatest(c.used_bytes - v_bytes, 0), objects = greatest(c.objects - v_objects, 0)
    where c.scope = 'spool';
  end if;
  return jsonb_build_object('objects', v_objects, 'bytes', v_bytes);
end;
$function$;
comment on function public.eve_media_spool_delete is 'Deletes objects that the database holds.';

CREATE OR REPLACE FUNCTION public.eve_media_spool_list(prefix text DEFAULT ''::text, after text DEFAULT ''::text, at_most integer DEFAULT 1000)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(to_jsonb(l) order by l.key collate "C"), '[]')
  from (
    select s.key, s.size_bytes, s.created_at
    from eve.media_spool s
    where s.key collate "C" > coalesce(eve_media_spool_list.after, '') and starts_with(s.key, coalesce(eve_media_spool_list.prefix, ''))
    order by s.key collate "C"
    limit least(greatest(eve_media_spool_list.at_most, 1), 1000)
  ) l;
$function$;
comment on function public.eve_media_spool_list is 'Objects that the database holds, in the order of their keys'' bytes.';

CREATE OR REPLACE FUNCTION public.eve_media_spool_next(lease_s integer DEFAULT 120)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_next eve.media_spool;
begin
  -- Not the next one that is free: the order is that in which they came.
  select * into v_next
  from eve.media_spool s
  where s.seq = (select min(f.seq) from eve.media_spool f)
  for update skip locked;
  if not found or v_next.claimed_until > v_now or v_next.next_try_at > v_now then
    return null;
  end if;
  update eve.media_spool s
  set claimed_until = v_now + make_interval(secs => least(greatest(eve_media_spool_next.lease_s, 10), 600)), tries = s.tries + 1
  where s.key = v_next.key;
  return jsonb_build_object(
    'key', v_next.key, 'size_bytes', v_next.size_bytes, 'sha256', v_next.sha256, 'content_type', v_next.content_type,
    'content_encoding', v_next.content_encoding, 'created_at', v_next.created_at, 'tries', v_next.tries + 1
  );
end;
$function$;
comment on function public.eve_media_spool_next is 'The next object that is to move to S3.';

CREATE OR REPLACE FUNCTION public.eve_media_spool_moved(key text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_object record;
begin
  select o.tenant_id, o.file_sha256, o.state into v_object
  from public.media_objects o
  where o.s3_key collate "C" = eve_media_spool_moved.key
  order by o.tenant_id, o.file_sha256
  limit 1
  for update;
  if not found then
    perform public.eve_media_spool_delete(array[eve_media_spool_moved.key]);
    return jsonb_build_object('status', 'gone');
  elsif v_object.state = 'deleting' then
    -- Whoever deletes it does so in both places.
    return jsonb_build_object('status', 'deleting');
  end if;
  update public.media_objects o
  set stored_in = 's3'
  where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256;
  perform public.eve_media_spool_delete(array[eve_media_spool_moved.key]);
  return jsonb_build_object('status', 'moved');
end;
$function$;
comment on function public.eve_media_spool_moved is 'Says that an object is in S3 now: the database holds it no longer.';

CREATE OR REPLACE FUNCTION public.eve_media_spool_failed(key text, error text, wait_s integer)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  update eve.media_spool s
  set claimed_until = null, last_error = left(eve_media_spool_failed.error, 500),
    next_try_at = eve.clock() + make_interval(secs => least(greatest(eve_media_spool_failed.wait_s, 0), 3600))
  where s.key = eve_media_spool_failed.key;
  select jsonb_build_object('status', 'noted');
$function$;
comment on function public.eve_media_spool_failed is 'S3 did not take an object: when to try again.';

CREATE OR REPLACE FUNCTION public.eve_media_spool_moves()
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  update eve.media_spool s set moves = true where not s.moves;
  select jsonb_build_object('status', 'noted');
$function$;
comment on function public.eve_media_spool_moves is 'Says that S3 is set up: what the database holds is to move there.';

-- media_schedule ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.media_is_due(operation text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- What failed is tried again, though not every time.
  v_again constant interval := '10 minutes';
  v_now constant timestamptz := eve.clock();
  v_begins constant time := '04:37';
  v_time constant time := (v_now at time zone 'UTC')::time;
  v_operation eve.operations;
begin
  select * into v_operation from eve.operations o where o.name = media_is_due.operation;
  if not v_operation.is_active then
    return false;
  elsif media_is_due.operation = 'media_reconcile'
    and not (v_time >= v_begins and v_time < v_begins + interval '15 minutes')
    and not exists (select from eve.media_reconciliation r where r.state is not null) then
    return false;
  elsif v_operation.last_status = 'failed' then
    return v_operation.last_completed_at <= v_now - v_again;
  elsif media_is_due.operation = 'media_reconcile' then
    return exists (select from public.media_objects) or exists (select from eve.media_spool);
  end if;
  return exists (select from public.media_objects o where o.state in ('reserved', 'deleting') and o.expires_at <= v_now)
    or exists (
      select from eve.media_spool s
      where s.moves and s.next_try_at <= v_now and (s.claimed_until is null or s.claimed_until <= v_now)
    )
    or exists (
      select from public.media_objects o where o.state = 'stored' and o.s3_key is not null
        and coalesce(o.proof_at, o.address_until, o.last_seen_at) between v_now - interval '1 hour' and v_now
    )
    or exists (
      select
      from (values ('media', 'media_keep_days', 30), ('vision', 'vision_keep_days', 14), ('crawl', 'crawl_keep_days', 7)) as k (kind, setting, days)
      where exists (
        select
        from public.media_objects o
        where o.kind = k.kind and o.refs_count = 0 and o.state in ('stored', 'verified')
          and o.last_seen_at <= v_now - make_interval(days => eve.alert_setting(k.setting, k.days)::integer)
      )
    )
    or exists (
      select from eve.media_counters c
      where c.scope = 'total' and c.used_bytes + c.reserved_bytes >= eve.media_limit('emergency')
    );
end;
$function$;
comment on function eve.media_is_due is 'Whether the function maintenance is worth calling for media.';

-- media_metrics -------------------------------------------------------------------------------------------------------

create table eve.media_upload_times (
  content_type text not null,
  size_bucket text not null,
  counts bigint[] not null,
  total double precision not null,
  constraint media_upload_times_pkey PRIMARY KEY (content_type, size_bucket)
);
alter table eve.media_upload_times enable row level security;
comment on table eve.media_upload_times is 'How long uploads to S3 took since the gateway was installed, by kind and size. They only grow.';
comment on column eve.media_upload_times.counts is 'Uploads per bucket, the last one being those above every bound of eve.media_upload_bounds.';
comment on column eve.media_upload_times.total is 'Seconds, all together.';

CREATE OR REPLACE FUNCTION eve.media_upload_bounds()
 RETURNS double precision[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select array[0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]::double precision[];
$function$;

CREATE OR REPLACE FUNCTION eve.media_metric_kind(kind text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case when media_metric_kind.kind in ('media', 'vision', 'crawl') then media_metric_kind.kind else '' end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_storage_count(sums jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_operations constant jsonb := coalesce(eve_storage_count.sums -> 'operations', '[]');
  v_uploads constant jsonb := coalesce(eve_storage_count.sums -> 'uploads', '[]');
  v_violations constant jsonb := coalesce(eve_storage_count.sums -> 'violations', '[]');
  v_buckets constant integer := cardinality(eve.media_upload_bounds()) + 1;
  v_most constant integer := eve.alert_setting('metrics_consumers', 100);
begin
  if greatest(jsonb_array_length(v_operations), jsonb_array_length(v_uploads), jsonb_array_length(v_violations)) > 1000 then
    raise exception 'at most 1000 of each are counted at once' using errcode = 'EV400';
  elsif exists (
    select from jsonb_to_recordset(v_uploads) as u (counts bigint[])
    where cardinality(u.counts) is distinct from v_buckets
  ) then
    raise exception 'uploads need % counts each, one for each bound and one above', v_buckets using errcode = 'EV400';
  end if;
  -- Two that name tenants at once would not see each other's.
  if jsonb_array_length(v_violations) > 0 then
    perform pg_advisory_xact_lock(hashtextextended('eve_storage_count', 0));
  end if;
  with violations as materialized (
    select t.id as tenant_id, case when v.reason in ('total', 'tenant', 'kind', 'spool') then v.reason else '' end as reason,
      greatest(v.times, 0) as times
    from jsonb_to_recordset(v_violations) as v (tenant_id text, reason text, times bigint)
    left join eve.tenants t on t.id = v.tenant_id
  ), known as materialized (
    select distinct c.labels ->> 'tenant_id' as tenant_id from eve.metric_counters c where c.metric = 'storage_quota_violations_total'
  ), named as materialized (
    select k.tenant_id from known k
    union all
    (
      select distinct v.tenant_id
      from violations v
      where v.tenant_id is not null and not exists (select from known k where k.tenant_id = v.tenant_id)
      order by v.tenant_id
      limit greatest(v_most - (select count(*) from known k where k.tenant_id not in ('', 'other')), 0)
    )
  )
  insert into eve.metric_counters as c (metric, labels, value)
  select g.metric, g.labels, sum(g.times)
  from (
    select 's3_operations_total' as metric,
      jsonb_build_object(
        'operation', left(coalesce(o.operation, ''), 40), 'result', left(coalesce(o.result, ''), 40),
        'content_type', eve.media_metric_kind(o.content_type)
      ) as labels,
      greatest(o.times, 0) as times
    from jsonb_to_recordset(v_operations) as o (operation text, result text, content_type text, times bigint)
    union all
    select 'storage_quota_violations_total',
      jsonb_build_object(
        'tenant_id', case when v.tenant_id is null then '' else coalesce(n.tenant_id, 'other') end, 'reason', v.reason
      ),
      v.times
    from violations v
    left join named n on n.tenant_id = v.tenant_id
    union all
    select 'storage_emergency_cleanups_total', '{}', greatest((eve_storage_count.sums ->> 'emergency_cleanups')::bigint, 0)
  ) g
  where g.times > 0
  group by g.metric, g.labels
  order by g.metric, g.labels
  on conflict (metric, labels) do update
  set value = c.value + excluded.value;

  insert into eve.media_upload_times as t (content_type, size_bucket, counts, total)
  select eve.media_metric_kind(u.content_type), left(coalesce(u.size_bucket, ''), 20), u.counts, greatest(u.seconds, 0)
  from jsonb_to_recordset(v_uploads) as u (content_type text, size_bucket text, counts bigint[], seconds double precision)
  order by 1, 2
  on conflict (content_type, size_bucket) do update
  set counts = eve.metric_sum(t.counts, excluded.counts), total = t.total + excluded.total;
  return jsonb_build_object('status', 'counted');
end;
$function$;
comment on function public.eve_storage_count is 'Adds to the metrics of storage what a function has counted.';

CREATE OR REPLACE FUNCTION public.eve_storage_metrics()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'samples', (
      select coalesce(jsonb_agg(jsonb_build_array(s.metric, s.labels, s.value) order by s.metric, s.labels), '[]')
      from (
        select 'storage_bucket_usage_gb' as metric, jsonb_build_object('content_type', c.subject) as labels, c.used_bytes / 1e9 as value
        from eve.media_counters c
        where c.scope = 'kind'
        union all
        select 'storage_limit_bytes', jsonb_build_object('limit', l.name), l.limit_bytes
        from eve.media_limits l
      ) s
    ),
    'histograms', (
      select coalesce(
        jsonb_agg(
          jsonb_build_array(
            's3_upload_duration_seconds', jsonb_build_object('content_type', t.content_type, 'size_bucket', t.size_bucket),
            to_jsonb(eve.media_upload_bounds()), to_jsonb(t.counts), t.total
          )
          order by t.content_type, t.size_bucket
        ), '[]'
      )
      from eve.media_upload_times t
    )
  );
$function$;
comment on function public.eve_storage_metrics is 'Gauges and histograms of storage, in the form of eve_metrics.';

CREATE OR REPLACE FUNCTION public.eve_storage_growth(actor jsonb, days integer DEFAULT 30)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_storage_growth.actor, null, 'media');
  v_since constant timestamptz := date_trunc('day', eve.clock(), 'UTC')
    - make_interval(days => least(greatest(eve_storage_growth.days, 1), 366) - 1);
begin
  if not coalesce((v_who ->> 'project')::boolean, false) then
    return case
      when v_who ->> 'code' is not null then v_who
      else eve.refused('credential_insufficient', 'This is for the project''s secret key and for administrators.')
    end;
  end if;
  return jsonb_build_object(
    'status', 'known', 'days', (
      select coalesce(
        jsonb_agg(jsonb_build_object('day', d.day, 'kind', d.kind, 'objects', d.objects, 'bytes', d.bytes) order by d.day, d.kind), '[]'
      )
      from (
        select (o.first_seen_at at time zone 'UTC')::date as day, o.kind, count(*) as objects, sum(eve.media_bytes(o))::bigint as bytes
        from public.media_objects o
        where o.counts_as = 'used' and o.first_seen_at >= v_since
        group by 1, 2
      ) d
    )
  );
end;
$function$;
comment on function public.eve_storage_growth is 'Files that are there, by the day on which they came; for the project alone.';

-- function_addresses --------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.function_address(project_url text, path text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case
    when function_address.project_url like '%/functions/v1/%' then function_address.project_url || function_address.path
    else rtrim(function_address.project_url, '/') || '/functions/v1/' || function_address.path
  end;
$function$;

-- job_tables ----------------------------------------------------------------------------------------------------------

create table eve.job_kinds (
  kind text not null,
  description text not null,
  expires_after interval not null default '24:00:00'::interval,
  max_tries integer not null default 3,
  run_within interval not null default '00:00:30'::interval,
  max_body_bytes integer not null default 10485760,
  max_result_bytes integer not null default 262144,
  keep interval not null default '7 days'::interval,
  outside_only boolean not null default false,
  constraint job_kinds_kind_form CHECK ((kind ~ '^[a-z][a-z0-9_]{0,31}$'::text)),
  constraint job_kinds_pkey PRIMARY KEY (kind),
  constraint job_kinds_positive CHECK (((expires_after > '00:00:00'::interval) AND ((max_tries >= 1) AND (max_tries <= 100)) AND ((run_within >= '00:00:00'::interval) AND (run_within <= '01:00:00'::interval)) AND (max_body_bytes > 0) AND (max_result_bytes > 0) AND (keep >= '01:00:00'::interval)))
);
alter table eve.job_kinds enable row level security;
comment on table eve.job_kinds is 'Which kinds of jobs there are, and what each of them may take. Adding one is adding a row, and a runner in the worker.';
comment on column eve.job_kinds.expires_after is 'A job that has not ended so long after it was handed in ends as expired, unless it brings a time of its own.';
comment on column eve.job_kinds.max_tries is 'How often it is run, if it fails in a way that may pass.';
comment on column eve.job_kinds.run_within is 'How long one run takes at most as a rule: a worker that has less time left does not begin one.';
comment on column eve.job_kinds.max_body_bytes is 'Of a body in the table, as JSON; max_result_bytes: of a result. What is larger is kept with the media.';
comment on column eve.job_kinds.keep is 'How long after its end a job is kept, its body and its result with it.';
comment on column eve.job_kinds.outside_only is 'Hosted functions cannot run it: the function worker is not called for it.';

create table eve.job_queues (
  id bigint not null generated always as identity,
  kind text not null,
  class text not null,
  owner_id uuid not null,
  topic text not null default ''::text,
  queued integer not null default 0,
  bytes bigint not null default 0,
  turn bigint not null default 0,
  paused_until timestamp with time zone,
  used_at timestamp with time zone not null default now(),
  constraint job_queues_class_known CHECK ((class = ANY (ARRAY['interactive'::text, 'batch'::text]))),
  constraint job_queues_counted CHECK (((queued >= 0) AND (bytes >= 0))),
  constraint job_queues_kind_class_owner_id_topic_key UNIQUE (kind, class, owner_id, topic),
  constraint job_queues_kind_fkey FOREIGN KEY (kind) REFERENCES eve.job_kinds(kind),
  constraint job_queues_pkey PRIMARY KEY (id)
) with (fillfactor=50);
alter table eve.job_queues enable row level security;
CREATE INDEX job_queues_owner_id_idx ON eve.job_queues USING btree (owner_id);
comment on table eve.job_queues is 'Who has jobs waiting: a row for each kind, class, caller and model. A claim goes from queue to queue, so that none waits behind another''s flood.';
comment on column eve.job_queues.owner_id is 'The consumer; all zeros: the project.';
comment on column eve.job_queues.topic is 'The first model that its jobs ask for: one model''s full lane holds up no other model''s jobs.';
comment on column eve.job_queues.queued is 'Jobs that wait, and the bytes of their bodies. Kept by a trigger on eve.jobs.';
comment on column eve.job_queues.turn is 'Grows each time that a claim takes from it: the lowest is next.';
comment on column eve.job_queues.paused_until is 'A worker found that the model has no start before then: nothing is claimed.';

create sequence eve.job_turn as bigint start 1 increment 1 cache 1;
comment on sequence eve.job_turn is 'Turns of eve.job_queues.';

create table eve.job_workers (
  id uuid not null,
  place text not null,
  started_at timestamp with time zone not null default now(),
  lease_until timestamp with time zone not null,
  constraint job_workers_pkey PRIMARY KEY (id),
  constraint job_workers_place_known CHECK ((place = ANY (ARRAY['edge'::text, 'outside'::text])))
) with (fillfactor=50);
alter table eve.job_workers enable row level security;
comment on table eve.job_workers is 'Workers that run now. One that has died is gone when its lease has ended.';
comment on column eve.job_workers.place is 'edge: the function worker, of which there are only so many at once; outside: npm run worker.';

create table eve.job_wake (
  id boolean not null default true,
  asked_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint job_wake_one_row CHECK (id),
  constraint job_wake_pkey PRIMARY KEY (id)
);
alter table eve.job_wake enable row level security;
comment on table eve.job_wake is 'When a worker was last asked to begin: one row.';

-- job_queues ----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.jobs_lock()
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select pg_advisory_xact_lock(hashtextextended('eve.job_queues', 0));
$function$;
comment on function eve.jobs_lock is 'Held to the end of the transaction by whoever changes several queues.';

CREATE OR REPLACE FUNCTION eve.jobs_came()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  update eve.job_queues q
  set queued = q.queued + d.jobs, bytes = q.bytes + d.bytes
  from (
    select n.queue_id, count(*)::integer as jobs, sum(n.body_bytes) as bytes
    from came n
    where n.state = 'queued'
    group by n.queue_id
  ) d
  where q.id = d.queue_id;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.jobs_changed()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  update eve.job_queues q
  set queued = q.queued + d.jobs, bytes = q.bytes + d.bytes
  from (
    select moved.queue_id, sum(moved.jobs)::integer as jobs, sum(moved.bytes) as bytes
    from (
      select n.queue_id, 1 as jobs, n.body_bytes as bytes from after_it n where n.state = 'queued'
      union all
      select o.queue_id, -1, -o.body_bytes from before_it o where o.state = 'queued'
    ) moved
    group by moved.queue_id
    having sum(moved.jobs) <> 0 or sum(moved.bytes) <> 0
  ) d
  where q.id = d.queue_id;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.jobs_went()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  update eve.job_queues q
  set queued = q.queued - d.jobs, bytes = q.bytes - d.bytes
  from (
    select o.queue_id, count(*)::integer as jobs, sum(o.body_bytes) as bytes
    from went o
    where o.state = 'queued'
    group by o.queue_id
  ) d
  where q.id = d.queue_id;
  return null;
end;
$function$;

create type eve.job_given as (
  id uuid,
  kind text,
  request_id text,
  request_hash text,
  body jsonb,
  body_media text,
  body_bytes integer,
  class text,
  models text[],
  run_at timestamp with time zone,
  expires_at timestamp with time zone,
  batch_id uuid,
  place integer,
  custom_id text,
  webhook_id uuid
);
comment on type eve.job_given is 'A job that is to be handed in; public.eve_jobs_submit explains it.';

CREATE OR REPLACE FUNCTION eve.jobs_given(jobs jsonb, batch_only boolean)
 RETURNS eve.job_given[]
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_given eve.job_given[];
begin
  if jsonb_typeof(jobs_given.jobs) is distinct from 'array' or jsonb_array_length(jobs_given.jobs) not between 1 and 1000 then
    raise exception 'jobs must be a list of 1 to 1000 jobs' using errcode = 'EV400';
  end if;
  -- Their order is that of the list.
  select array_agg(
    row(
      g.id, g.kind, coalesce(g.request_id, g.id::text), g.request_hash, g.body, g.body_media, octet_length(g.body::text),
      case when jobs_given.batch_only then 'batch' else coalesce(g.class, 'batch') end, g.models, coalesce(g.run_at, v_now),
      coalesce(g.expires_at, greatest(g.run_at, v_now) + k.expires_after, v_now + k.expires_after), g.batch_id, g.place, g.custom_id,
      g.webhook_id
    )::eve.job_given
    order by g.nr
  )
  into v_given
  from (
    select coalesce(j.id, gen_random_uuid()) as id, j.kind, j.request_id, j.request_hash, j.body, j.body_media, j.class, j.models,
      j.run_at, j.expires_at, j.batch_id, j.place, j.custom_id, j.webhook_id, j.nr
    from rows from (
      jsonb_to_recordset(jobs_given.jobs) as (
        id uuid, kind text, request_id text, request_hash text, body jsonb, body_media text, class text, models text[],
        run_at timestamptz, expires_at timestamptz, batch_id uuid, place integer, custom_id text, webhook_id uuid
      )
    ) with ordinality as j (
      id, kind, request_id, request_hash, body, body_media, class, models, run_at, expires_at, batch_id, place, custom_id, webhook_id, nr
    )
  ) g
  left join eve.job_kinds k on k.kind = g.kind;
  if exists (
    select from unnest(v_given) g where not exists (select from eve.job_kinds k where k.kind = g.kind)
  ) then
    raise exception 'a job''s kind must be one of eve.job_kinds' using errcode = 'EV400';
  elsif exists (
    select
    from unnest(v_given) g
    where g.class not in ('interactive', 'batch') or (g.body is null) = (g.body_media is null)
      or length(g.request_id) not between 1 and 200 or length(g.custom_id) not between 1 and 512
      or (g.batch_id is null) <> (g.place is null) or g.place < 0 or coalesce(cardinality(g.models), 1) not between 1 and 10
      or exists (select from unnest(g.models) m where m is null or length(m) not between 1 and 200)
      or g.expires_at <= v_now or g.expires_at > v_now + interval '1 year' or g.run_at > v_now + interval '1 year'
  ) then
    raise exception 'a job needs a class that exists, a body or body_media, a request_id of 1 to 200 characters, a custom_id of 1 to 512, 1 to 10 models or none, times within a year that have not passed, and a place exactly if it has a batch_id'
      using errcode = 'EV400';
  end if;
  return v_given;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.jobs_refusal(given eve.job_given[], owner_id uuid, models text[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_max_jobs constant bigint := eve.alert_setting('jobs_queued_max', 100000);
  v_max_bytes constant bigint := eve.alert_setting('jobs_queued_max_bytes', 268435456);
  v_found record;
  v_waiting record;
  v_new record;
begin
  select g.kind, g.body_bytes, k.max_body_bytes into v_found
  from unnest(jobs_refusal.given) g
  join eve.job_kinds k on k.kind = g.kind
  where g.body_bytes > k.max_body_bytes
  limit 1;
  if found then
    return eve.refused(
      'body_too_large', format('The body of a job of the kind %s may have %s bytes.', v_found.kind, v_found.max_body_bytes),
      jsonb_build_object('bytes', v_found.body_bytes, 'max_bytes', v_found.max_body_bytes)
    );
  end if;
  select g.models into v_found from unnest(jobs_refusal.given) g where not g.models && jobs_refusal.models limit 1;
  if found then
    return eve.refused('model_not_allowed', details => jsonb_build_object('models', to_jsonb(v_found.models)));
  end if;
  select g.request_id into v_found
  from unnest(jobs_refusal.given) g
  join eve.jobs j on j.request_key = jobs_refusal.owner_id::text || ' ' || g.request_id and j.run_at is not null
  where j.request_hash is distinct from g.request_hash or j.kind <> g.kind
  limit 1;
  if found then
    return eve.refused('request_id_reused', details => jsonb_build_object('request_id', v_found.request_id));
  end if;
  select count(*) as jobs, coalesce(sum(g.body_bytes), 0) as bytes into v_new
  from unnest(jobs_refusal.given) g
  where not exists (
    select from eve.jobs j where j.request_key = jobs_refusal.owner_id::text || ' ' || g.request_id and j.run_at is not null
  );
  select coalesce(sum(q.queued), 0) as jobs, coalesce(sum(q.bytes), 0) as bytes into v_waiting
  from eve.job_queues q
  where q.owner_id = jobs_refusal.owner_id;
  if v_new.jobs > 0
    and (v_waiting.jobs + v_new.jobs > v_max_jobs or v_waiting.bytes + v_new.bytes > v_max_bytes) then
    return eve.refused(
      'jobs_full',
      format(
        'You have %s jobs of %s bytes waiting, and may have %s of %s bytes. Hand in more when some of them have been run.',
        v_waiting.jobs, v_waiting.bytes, v_max_jobs, v_max_bytes
      ),
      jsonb_build_object(
        'queued', v_waiting.jobs, 'queued_bytes', v_waiting.bytes, 'max_queued', v_max_jobs, 'max_queued_bytes', v_max_bytes
      ),
      60000
    );
  end if;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_jobs_submit(jobs jsonb, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_owner constant uuid := coalesce(eve_jobs_submit.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_now constant timestamptz := eve.clock();
  v_given eve.job_given[];
  v_scope record;
  v_answer jsonb;
begin
  perform eve.require_live_caller(eve_jobs_submit.consumer_id, eve_jobs_submit.token_id);
  select coalesce(c.max_class = 'batch' or t.class = 'batch', false) as batch_only,
    case
      when t.models is null then c.models
      when c.models is null then t.models
      else array(select m from unnest(t.models) m where m = any (c.models))
    end as models
  into v_scope
  from (select v_owner as id) owner
  left join eve.consumers c on c.id = owner.id
  left join eve.scoped_tokens t on t.id = eve_jobs_submit.token_id;
  v_given := eve.jobs_given(eve_jobs_submit.jobs, v_scope.batch_only);
  if exists (
    select
    from unnest(v_given) g
    where g.webhook_id is not null
      and not exists (select from eve.webhooks w where w.id = g.webhook_id and w.consumer_id = v_owner)
  ) then
    raise exception 'webhook_id must be a webhook of the caller''s' using errcode = 'EV400';
  end if;
  -- One caller's jobs come one list after the other: what is counted now holds until they are in.
  perform pg_advisory_xact_lock(hashtextextended('eve.jobs of ' || v_owner::text, 0));
  v_answer := eve.jobs_refusal(v_given, v_owner, v_scope.models);
  if v_answer is not null then
    return v_answer;
  end if;
  if (select count(distinct (g.kind, g.class, coalesce(g.models[1], ''))) from unnest(v_given) g) > 1 then
    perform eve.jobs_lock();
  end if;
  insert into eve.job_queues as q (kind, class, owner_id, topic)
  select distinct g.kind, g.class, v_owner, coalesce(g.models[1], '') from unnest(v_given) g
  on conflict on constraint job_queues_kind_class_owner_id_topic_key do update set used_at = v_now;
  insert into eve.jobs (
    id, kind, queue_id, consumer_id, token_id, class, models, request_id, request_hash, body, body_media, body_bytes, state, run_at,
    expires_at, submitted_at, batch_id, place, custom_id, webhook_id
  )
  select g.id, g.kind, q.id, eve_jobs_submit.consumer_id, eve_jobs_submit.token_id, g.class, g.models, g.request_id, g.request_hash,
    g.body, g.body_media, coalesce(g.body_bytes, 0), 'queued', g.run_at, g.expires_at, v_now, g.batch_id, g.place, g.custom_id,
    g.webhook_id
  from unnest(v_given) with ordinality as g (
    id, kind, request_id, request_hash, body, body_media, body_bytes, class, models, run_at, expires_at, batch_id, place, custom_id,
    webhook_id, nr
  )
  join eve.job_queues q
    on q.kind = g.kind and q.class = g.class and q.owner_id = v_owner and q.topic = coalesce(g.models[1], '')
  order by g.nr
  on conflict (request_key) where run_at is not null do nothing;
  -- One look-up each: a join with what the statement above returns would compare each with each.
  select jsonb_agg(jsonb_build_object('id', j.id, 'state', j.state, 'is_new', j.id = g.id) order by g.nr) into v_answer
  from unnest(v_given) with ordinality as g (
    id, kind, request_id, request_hash, body, body_media, body_bytes, class, models, run_at, expires_at, batch_id, place, custom_id,
    webhook_id, nr
  )
  join eve.jobs j on j.request_key = v_owner::text || ' ' || g.request_id and j.run_at is not null;
  return jsonb_build_object(
    'status', 'accepted', 'jobs', v_answer,
    'wake', v_answer @> '[{"is_new": true}]' and exists (select from unnest(v_given) g where g.run_at <= eve.clock())
      and eve.jobs_may_wake(0)
  );
end;
$function$;
comment on function public.eve_jobs_submit is 'Hands in jobs for a consumer, or for the project: all of them or none.';

-- job_claiming --------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.job_to_run(job eve.jobs)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers;
  v_now constant timestamptz := eve.clock();
begin
  if (job).consumer_id is not null then
    select * into v_consumer from eve.consumers c where c.id = (job).consumer_id;
  end if;
  return jsonb_build_object(
    'id', (job).id, 'kind', (job).kind, 'class', (job).class, 'request_id', (job).request_id, 'models', (job).models,
    'body', (job).body, 'body_media', (job).body_media, 'lease_token', (job).lease_token, 'tries', (job).tries,
    'losses', (job).losses, 'expires_at', (job).expires_at, 'batch_id', (job).batch_id, 'place', (job).place,
    'custom_id', (job).custom_id, 'consumer_id', (job).consumer_id, 'consumer_name', v_consumer.name,
    'consumer_kind', v_consumer.kind,
    'start_every_ms', (select min(r.interval_ms) from eve.routes r where r.model = (job).models[1]),
    -- What was handed in with a token is charged to it. When the token's time is over the consumer alone is charged, for the token's models and
    -- class were looked at when it was handed in; a budget of its own, or being revoked, outlives its time.
    'token_id', case
      when exists (
        select
        from eve.scoped_tokens t
        where t.id = (job).token_id and t.expires_at <= v_now and t.revoked_at is null and t.requests_budget is null
          and t.tokens_budget is null
      ) then null
      else (job).token_id
    end
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.jobs_return_lost(at_most integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_most_losses constant integer := 3;
  v_now constant timestamptz := eve.clock();
  v_back integer;
  v_dead integer;
  v_kind text;
begin
  with lost as (
    select j.id from eve.jobs j where j.lease_until <= v_now order by j.lease_until limit jobs_return_lost.at_most for update skip locked
  ), ended as (
    update eve.jobs j
    set state = case when j.losses >= v_most_losses then 'failed' else 'queued' end, losses = j.losses + 1,
      tries = greatest(j.tries - 1, 0), lease_token = null, lease_until = null, worker_id = null,
      finished_at = case when j.losses >= v_most_losses then v_now end,
      error_code = case when j.losses >= v_most_losses then 'job_lost' end,
      error_detail = case when j.losses >= v_most_losses then 'Its worker died each time that it was run.' end
    from lost l
    where j.id = l.id
    returning j.state, j.kind
  )
  select count(*) filter (where e.state = 'queued'), count(*) filter (where e.state = 'failed'),
    min(e.kind) filter (where e.state = 'failed')
  into v_back, v_dead, v_kind
  from ended e;
  if v_dead > 0 then
    perform eve.open_alert(
      'job_lost', v_kind, 'warning', format('%s jobs of the kind %s were given up: their workers died four times', v_dead, v_kind)
    );
  end if;
  return jsonb_build_object('back', v_back, 'dead', v_dead);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.job_place_until(lease_ms integer)
 RETURNS timestamp with time zone
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select eve.clock() + least(job_place_until.lease_ms, 12000) * interval '1 millisecond';
$function$;

CREATE OR REPLACE FUNCTION public.eve_jobs_claim(worker_id uuid, kinds text[], at_most integer, lease_ms integer, left_ms bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_token constant uuid := gen_random_uuid();
  v_kinds text[];
  v_class text;
  v_queues bigint[];
  v_again bigint[];
  v_queue bigint;
  v_share integer;
  v_wanted integer := eve_jobs_claim.at_most;
  v_count integer;
  v_some jsonb;
  v_jobs jsonb := '[]';
begin
  if eve_jobs_claim.at_most is null or eve_jobs_claim.at_most not between 1 and 1000
    or eve_jobs_claim.lease_ms is null or eve_jobs_claim.lease_ms not between 100 and 3600000 then
    raise exception 'at_most must be between 1 and 1000, lease_ms between 100 and 3600000' using errcode = 'EV400';
  end if;
  perform eve.jobs_lock();
  v_now := eve.clock();
  perform eve.jobs_return_lost(1000);
  update eve.job_workers w set lease_until = eve.job_place_until(eve_jobs_claim.lease_ms) where w.id = eve_jobs_claim.worker_id;
  v_kinds := array(
    select k.kind
    from eve.job_kinds k
    where k.kind = any (eve_jobs_claim.kinds)
      and (eve_jobs_claim.left_ms is null or k.run_within <= eve_jobs_claim.left_ms * interval '1 millisecond')
  );
  foreach v_class in array array['interactive', 'batch'] loop
    v_queues := array(
      select q.id
      from eve.job_queues q
      where q.queued > 0 and q.class = v_class and q.kind = any (v_kinds) and (q.paused_until is null or q.paused_until <= v_now)
      order by q.turn, q.id
    );
    while v_wanted > 0 and cardinality(v_queues) > 0 loop
      v_share := greatest(v_wanted / cardinality(v_queues), 1);
      v_again := '{}';
      foreach v_queue in array v_queues loop
        exit when v_wanted = 0;
        with taken as (
          select j.id
          from eve.jobs j
          where j.queue_id = v_queue and j.state = 'queued' and j.run_at <= v_now and j.expires_at > v_now
          order by j.run_at, j.no
          limit least(v_share, v_wanted)
          for update skip locked
        ), claimed as (
          update eve.jobs j
          set state = 'running', tries = j.tries + 1, started_at = coalesce(j.started_at, v_now), worker_id = eve_jobs_claim.worker_id,
            lease_token = v_token, lease_until = v_now + eve_jobs_claim.lease_ms * interval '1 millisecond'
          from taken t
          where j.id = t.id
          returning j.*
        )
        select count(*), coalesce(jsonb_agg(eve.job_to_run(row(c.*)::eve.jobs) order by c.run_at, c.no), '[]')
        into v_count, v_some
        from claimed c;
        continue when v_count = 0;
        update eve.job_queues q set turn = nextval('eve.job_turn'), paused_until = null where q.id = v_queue;
        v_wanted := v_wanted - v_count;
        v_jobs := v_jobs || v_some;
        if v_count = v_share then
          v_again := v_again || v_queue;
        end if;
      end loop;
      v_queues := v_again;
    end loop;
  end loop;
  return jsonb_build_object('jobs', v_jobs, 'is_late', cardinality(v_kinds) = 0);
end;
$function$;
comment on function public.eve_jobs_claim is 'Takes jobs with a lease: interactive before batch, callers in turn, each caller''s oldest first.';

CREATE OR REPLACE FUNCTION public.eve_jobs_renew(worker_id uuid, leases jsonb, lease_ms integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_indexscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_until constant timestamptz := eve.clock() + eve_jobs_renew.lease_ms * interval '1 millisecond';
  v_lost jsonb;
begin
  if eve_jobs_renew.lease_ms is null or eve_jobs_renew.lease_ms not between 100 and 3600000 then
    raise exception 'lease_ms must be between 100 and 3600000' using errcode = 'EV400';
  end if;
  update eve.job_workers w set lease_until = eve.job_place_until(eve_jobs_renew.lease_ms) where w.id = eve_jobs_renew.worker_id;
  with held as materialized (
    select l.id, l.lease_token, l.progress
    from jsonb_to_recordset(eve_jobs_renew.leases) as l (id uuid, lease_token uuid, progress jsonb)
  ), mine as materialized (
    -- In one order, as everywhere: two that renew the same jobs do not wait for each other.
    select j.id from eve.jobs j join held h on h.id = j.id and h.lease_token = j.lease_token order by j.id for no key update of j
  ), renewed as (
    update eve.jobs j
    set lease_until = v_until, progress = coalesce(h.progress, j.progress)
    from mine m
    join held h on h.id = m.id
    where j.id = m.id and j.lease_token = h.lease_token
    returning j.id
  )
  select coalesce(jsonb_agg(h.id), '[]') into v_lost from held h where not exists (select from renewed r where r.id = h.id);
  return jsonb_build_object('lost', v_lost);
end;
$function$;
comment on function public.eve_jobs_renew is 'Extends the leases of a worker and of its jobs, and says which jobs it has lost.';

CREATE OR REPLACE FUNCTION public.eve_jobs_complete(results jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_indexscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_done jsonb;
begin
  with given as materialized (
    select g.id, g.lease_token, g.result, g.result_media
    from jsonb_to_recordset(eve_jobs_complete.results) as g (id uuid, lease_token uuid, result jsonb, result_media text)
  ), mine as materialized (
    select j.id, octet_length(g.result::text) > k.max_result_bytes as too_large
    from eve.jobs j
    join given g on g.id = j.id and g.lease_token = j.lease_token
    join eve.job_kinds k on k.kind = j.kind
    order by j.id
    for no key update of j
  ), ended as (
    update eve.jobs j
    set state = case when m.too_large then 'failed' else 'succeeded' end, finished_at = v_now,
      result = case when not coalesce(m.too_large, false) then coalesce(g.result, case when g.result_media is null then 'null'::jsonb end) end,
      result_media = g.result_media, error_code = case when m.too_large then 'answer_too_large' end,
      error_detail = case when m.too_large then 'Its result is longer than a job of its kind may keep.' end,
      lease_token = null, lease_until = null, worker_id = null
    from mine m
    join given g on g.id = m.id
    where j.id = m.id and j.lease_token = g.lease_token
    returning j.id
  )
  select coalesce(jsonb_agg(e.id), '[]') into v_done from ended e;
  return jsonb_build_object('done', v_done);
end;
$function$;
comment on function public.eve_jobs_complete is 'Ends jobs with their results, if their leases are still those of who says so.';

CREATE OR REPLACE FUNCTION public.eve_job_fail(id uuid, lease_token uuid, code text, message text, retryable boolean DEFAULT false, retry_after_ms bigint DEFAULT NULL::bigint, result jsonb DEFAULT NULL::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_indexscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_pause_ms constant double precision := 5000;
  v_most_pause_ms constant double precision := 600000;
  v_now constant timestamptz := eve.clock();
  v_job eve.jobs;
  v_again boolean;
begin
  select * into v_job
  from eve.jobs j
  where j.id = eve_job_fail.id and j.lease_token = eve_job_fail.lease_token
  for no key update;
  if not found then
    return jsonb_build_object('status', 'lost');
  end if;
  v_again := coalesce(eve_job_fail.retryable, false)
    and v_job.tries < (select k.max_tries from eve.job_kinds k where k.kind = v_job.kind);
  update eve.jobs j
  set state = case when v_again then 'queued' else 'failed' end, finished_at = case when not v_again then v_now end,
    error_code = left(eve_job_fail.code, 100), error_detail = left(eve_job_fail.message, 2000),
    result = case when not v_again and octet_length(eve_job_fail.result::text) <= 262144 then eve_job_fail.result end,
    run_at = case
      when v_again then v_now + interval '1 millisecond' * greatest(
        coalesce(eve_job_fail.retry_after_ms, 0), random() * least(v_pause_ms * 2 ^ (v_job.tries - 1), v_most_pause_ms)
      )
      else j.run_at
    end,
    lease_token = null, lease_until = null, worker_id = null
  where j.id = v_job.id;
  return jsonb_build_object('status', case when v_again then 'queued' else 'failed' end);
end;
$function$;
comment on function public.eve_job_fail is 'Ends a run that failed: the job is run again later, or has failed.';

CREATE OR REPLACE FUNCTION public.eve_jobs_release(jobs jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_indexscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_released jsonb;
begin
  perform eve.jobs_lock();
  with given as materialized (
    select g.id, g.lease_token, g.pause_ms, g.delay_ms
    from jsonb_to_recordset(eve_jobs_release.jobs) as g (id uuid, lease_token uuid, pause_ms bigint, delay_ms bigint)
  ), mine as materialized (
    select j.id from eve.jobs j join given g on g.id = j.id and g.lease_token = j.lease_token order by j.id for no key update of j
  ), back as (
    update eve.jobs j
    set state = 'queued', tries = greatest(j.tries - 1, 0), lease_token = null, lease_until = null, worker_id = null,
      started_at = case when j.tries + j.losses > 1 then j.started_at end,
      run_at = case when g.delay_ms > 0 then v_now + g.delay_ms * interval '1 millisecond' else j.run_at end
    from mine m
    join given g on g.id = m.id
    where j.id = m.id and j.lease_token = g.lease_token
    returning j.id, j.queue_id, g.pause_ms
  ), paused as (
    select b.queue_id, max(least(b.pause_ms, 3600000)) as pause_ms from back b where b.pause_ms > 0 group by b.queue_id
  ), pausing as (
    select coalesce(jsonb_agg(jsonb_build_array(p.queue_id, p.pause_ms)), '[]') as queues from paused p
  )
  select jsonb_build_object('released', (select coalesce(jsonb_agg(b.id), '[]') from back b), 'pausing', pausing.queues)
  into v_released
  from pausing;
  -- After the trigger has counted them: within one statement a row is changed once.
  update eve.job_queues q
  set paused_until = greatest(q.paused_until, v_now + (p.value ->> 1)::bigint * interval '1 millisecond')
  from jsonb_array_elements(v_released -> 'pausing') p
  where q.id = (p.value ->> 0)::bigint;
  return v_released - 'pausing';
end;
$function$;
comment on function public.eve_jobs_release is 'Gives jobs back unspent: they keep their places, and it was no try.';

-- job_reading ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.job_json(job eve.jobs)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(job) - '{body,body_media,request_hash,request_key,lease_token,queue_id,owner_id}'::text[];
$function$;

CREATE OR REPLACE FUNCTION public.eve_jobs(consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid, states text[] DEFAULT NULL::text[], kinds text[] DEFAULT NULL::text[], batch_id uuid DEFAULT NULL::uuid, before bigint DEFAULT NULL::bigint, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
#variable_conflict use_column
declare
  v_at_most constant integer := least(greatest(coalesce(eve_jobs.at_most, 50), 1), 200);
  v_jobs jsonb;
  v_count integer;
  v_last bigint;
begin
  perform eve.require_live_caller(eve_jobs.consumer_id, eve_jobs.token_id);
  select coalesce(jsonb_agg(eve.job_json(row(j.*)::eve.jobs) - 'result' order by j.no desc), '[]'), count(*), min(j.no)
  into v_jobs, v_count, v_last
  from (
    select j.*
    from eve.jobs j
    left join eve.consumers c on c.id = eve_jobs.consumer_id
    left join eve.scoped_tokens t on t.id = eve_jobs.token_id
    where (eve_jobs.consumer_id is null or j.owner_id = eve_jobs.consumer_id)
      and (eve_jobs.before is null or j.no < eve_jobs.before)
      and (eve_jobs.states is null or j.state = any (eve_jobs.states))
      and (eve_jobs.kinds is null or j.kind = any (eve_jobs.kinds))
      and (eve_jobs.batch_id is null or j.batch_id = eve_jobs.batch_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models)
    order by j.no desc
    limit v_at_most
  ) j;
  return jsonb_build_object('jobs', v_jobs, 'next', case when v_count = v_at_most then v_last end);
end;
$function$;
comment on function public.eve_jobs is 'A consumer''s jobs, or all of them for the project, the newest first, page by page.';

CREATE OR REPLACE FUNCTION public.eve_jobs_cancel(ids uuid[] DEFAULT NULL::uuid[], batch_id uuid DEFAULT NULL::uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_indexscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_ids uuid[] := eve_jobs_cancel.ids;
  v_count integer;
begin
  perform eve.require_live_caller(eve_jobs_cancel.consumer_id, eve_jobs_cancel.token_id);
  if eve_jobs_cancel.ids is null and eve_jobs_cancel.batch_id is null then
    raise exception 'ids or batch_id must say which jobs' using errcode = 'EV400';
  end if;
  perform eve.jobs_lock();
  if eve_jobs_cancel.batch_id is not null then
    -- Apart: a condition that may be absent keeps the planner from the index.
    v_ids := array(
      select j.id
      from eve.jobs j
      where j.batch_id = eve_jobs_cancel.batch_id and (eve_jobs_cancel.ids is null or j.id = any (eve_jobs_cancel.ids))
    );
  end if;
  with open_ones as materialized (
    select j.id
    from eve.jobs j
    left join eve.consumers c on c.id = eve_jobs_cancel.consumer_id
    left join eve.scoped_tokens t on t.id = eve_jobs_cancel.token_id
    where j.id = any (v_ids)
      and (eve_jobs_cancel.consumer_id is null or j.owner_id = eve_jobs_cancel.consumer_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models)
      -- Written so that no index of what waits is taken for a shorter way than the ids.
      and case j.state
        when 'queued' then true
        when 'running' then j.lease_token is not null and j.stage_type is null or j.upstream_id is not null
        else false
      end
    order by j.id
    for no key update of j
  ), ended as (
    update eve.jobs j
    set state = 'cancelled', finished_at = eve.clock(), lease_token = null, lease_until = null, worker_id = null
    from open_ones s
    where j.id = s.id
    returning 1
  )
  select count(*) into v_count from ended;
  return jsonb_build_object('cancelled', v_count);
end;
$function$;
comment on function public.eve_jobs_cancel is 'Cancels jobs, or all of a batch, that have not ended.';

-- job_lists -----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_jobs_of_batch(batch_id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_answer jsonb;
begin
  perform eve.require_live_caller(eve_jobs_of_batch.consumer_id, eve_jobs_of_batch.token_id);
  with mine as materialized (
    select j.state, coalesce(j.models[1], '') as model, j.submitted_at, j.finished_at
    from eve.jobs j
    left join eve.consumers c on c.id = eve_jobs_of_batch.consumer_id
    left join eve.scoped_tokens t on t.id = eve_jobs_of_batch.token_id
    where j.batch_id = eve_jobs_of_batch.batch_id
      and (eve_jobs_of_batch.consumer_id is null or j.owner_id = eve_jobs_of_batch.consumer_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models)
  )
  select jsonb_build_object(
    'states', (select jsonb_object_agg(s.state, s.jobs) from (select m.state, count(*) as jobs from mine m group by m.state) s),
    'waiting', (
      select coalesce(jsonb_object_agg(w.model, w.jobs), '{}')
      from (select m.model, count(*) as jobs from mine m where m.finished_at is null group by m.model) w
    ),
    'submitted_at', min(m.submitted_at),
    'finished_at', case when bool_and(m.finished_at is not null) then max(m.finished_at) end
  )
  into v_answer
  from mine m
  having count(*) > 0;
  return v_answer;
end;
$function$;
comment on function public.eve_jobs_of_batch is 'How many of the jobs of a batch are in each state, and which models the others wait for.';

CREATE OR REPLACE FUNCTION public.eve_jobs_results(batch_id uuid, after_place integer DEFAULT NULL::integer, at_most integer DEFAULT 100, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_page_bytes constant bigint := 4000000;
  v_at_most constant integer := least(greatest(coalesce(eve_jobs_results.at_most, 100), 1), 200);
  v_jobs jsonb;
  v_last integer;
begin
  perform eve.require_live_caller(eve_jobs_results.consumer_id, eve_jobs_results.token_id);
  with page as (
    select j.*
    from eve.jobs j
    left join eve.consumers c on c.id = eve_jobs_results.consumer_id
    left join eve.scoped_tokens t on t.id = eve_jobs_results.token_id
    where j.batch_id = eve_jobs_results.batch_id
      and j.place > coalesce(eve_jobs_results.after_place, -1)
      and j.finished_at is not null
      and (eve_jobs_results.consumer_id is null or j.owner_id = eve_jobs_results.consumer_id)
      and (c.models is null or j.models is null or j.models && c.models)
      and (t.models is null or j.models is null or j.models && t.models)
    order by j.place
    limit v_at_most
  ), sized as (
    select p.place, eve.job_json(row(p.*)::eve.jobs) as job,
      sum(coalesce(octet_length(p.result::text), 0)) over (order by p.place) - coalesce(octet_length(p.result::text), 0) as bytes_before
    from page p
  )
  select coalesce(jsonb_agg(s.job order by s.place), '[]'), max(s.place)
  into v_jobs, v_last
  from sized s
  where s.bytes_before < v_page_bytes;
  return jsonb_build_object('jobs', v_jobs, 'next', v_last);
end;
$function$;
comment on function public.eve_jobs_results is 'The ended jobs of a batch with their results, in order, page by page.';

-- job_upkeep ----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.jobs_media_went()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
begin
  if exists (select from went w where w.body_media is not null or w.result_media is not null) then
    perform eve.jobs_media_release(array(select w.id::text from went w where w.body_media is not null or w.result_media is not null));
  end if;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.jobs_media_release(ids text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
begin
  -- Objects before their references, as everywhere.
  perform
  from public.media_objects o
  where (o.tenant_id, o.file_sha256) in (
    select r.tenant_id, r.file_sha256 from eve.media_references r where r.ref_kind = 'job' and r.ref_id = any (jobs_media_release.ids)
  )
  order by o.tenant_id, o.file_sha256
  for update;
  delete from eve.media_references r where r.ref_kind = 'job' and r.ref_id = any (jobs_media_release.ids);
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_jobs_sweep(at_most integer DEFAULT 1000)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_lost jsonb;
  v_expired integer;
  v_deleted integer := 0;
  v_some integer;
  v_kind eve.job_kinds;
begin
  if eve_jobs_sweep.at_most is null or eve_jobs_sweep.at_most not between 1 and 100000 then
    raise exception 'at_most must be between 1 and 100000' using errcode = 'EV400';
  end if;
  perform eve.jobs_lock();
  v_lost := eve.jobs_return_lost(eve_jobs_sweep.at_most);
  with late as (
    select j.id
    from eve.jobs j
    where j.state in ('queued', 'running') and j.expires_at <= v_now
      -- What a provider makes ends when the provider says so; its time counts while it waits here.
      and (j.state = 'queued' or j.lease_token is not null)
    order by j.expires_at
    limit eve_jobs_sweep.at_most
    for update skip locked
  ), ended as (
    update eve.jobs j
    set state = 'expired', finished_at = v_now, error_code = 'job_expired',
      error_detail = concat_ws(' ', 'It had not ended in time.', 'Its last run: ' || j.error_detail),
      lease_token = null, lease_until = null, worker_id = null
    from late l
    where j.id = l.id
    returning 1
  )
  select count(*) into v_expired from ended;
  for v_kind in select * from eve.job_kinds loop
    with old as (
      select j.id
      from eve.jobs j
      where j.kind = v_kind.kind and j.finished_at <= v_now - v_kind.keep
      order by j.finished_at
      limit eve_jobs_sweep.at_most
      for update skip locked
    )
    delete from eve.jobs j using old o where j.id = o.id;
    get diagnostics v_some = row_count;
    v_deleted := v_deleted + v_some;
  end loop;
  delete from eve.job_workers w where w.lease_until <= v_now;
  -- Models that nobody asks for any more. What runs may come back to its queue.
  delete from eve.job_queues q
  where q.queued = 0 and q.used_at <= v_now - interval '2 days'
    and not exists (select from eve.jobs j where j.lease_until is not null and j.queue_id = q.id);
  update eve.alerts a
  set closed_at = v_now
  where a.kind = 'job_lost' and a.closed_at is null and a.last_seen_at <= v_now - interval '1 hour';
  return v_lost || jsonb_build_object('expired', v_expired, 'deleted', v_deleted);
end;
$function$;
comment on function public.eve_jobs_sweep is 'Returns the jobs of workers that have died, ends what has expired, deletes what was kept long enough.';

CREATE OR REPLACE FUNCTION public.eve_jobs_due()
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_now constant timestamptz := eve.clock();
begin
  return exists (select from eve.jobs j where j.lease_until <= v_now)
    or exists (
      select
      from eve.job_queues q
      where q.queued > 0 and (q.paused_until is null or q.paused_until <= v_now)
        and not exists (select from eve.job_kinds k where k.kind = q.kind and k.outside_only)
        -- The head of the queue alone: one look-up each.
        and (
          select j.run_at from eve.jobs j where j.queue_id = q.id and j.state = 'queued' order by j.run_at, j.no limit 1
        ) <= v_now
    );
end;
$function$;
comment on function public.eve_jobs_due is 'Whether there is a job that the function worker could begin now.';

CREATE OR REPLACE FUNCTION eve.jobs_may_wake(running integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
begin
  if (select count(*) from eve.job_workers w where w.place = 'edge' and w.lease_until > v_now) > jobs_may_wake.running
    or (select w.asked_at from eve.job_wake w) > v_now - interval '1 second' then
    return false;
  end if;
  -- Nobody waits for another who asks at the same time.
  perform from eve.job_wake w for update skip locked;
  if not found then
    return false;
  end if;
  update eve.job_wake w set asked_at = v_now where w.asked_at <= v_now - interval '1 second';
  return found;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_jobs_worker_begin(worker_id uuid, place text, lease_ms integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
begin
  perform pg_advisory_xact_lock(hashtextextended('eve.job_workers', 0));
  if eve_jobs_worker_begin.place = 'edge'
    and (
      select count(*) from eve.job_workers w
      where w.place = 'edge' and w.lease_until > v_now and w.id <> eve_jobs_worker_begin.worker_id
    ) >= eve.alert_setting('jobs_workers', 2) then
    return jsonb_build_object('status', 'enough');
  end if;
  insert into eve.job_workers as w (id, place, started_at, lease_until)
  values (
    eve_jobs_worker_begin.worker_id, eve_jobs_worker_begin.place, v_now, eve.job_place_until(eve_jobs_worker_begin.lease_ms)
  )
  on conflict (id) do update set lease_until = excluded.lease_until;
  return jsonb_build_object('status', 'begun');
end;
$function$;
comment on function public.eve_jobs_worker_begin is 'Writes down that a worker runs, unless enough of them do.';

CREATE OR REPLACE FUNCTION public.eve_jobs_worker_end(worker_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  delete from eve.job_workers w where w.id = eve_jobs_worker_end.worker_id;
  return jsonb_build_object(
    'wake', public.eve_jobs_due() and eve.jobs_may_wake((eve.alert_setting('jobs_workers', 2) - 1)::integer)
  );
end;
$function$;
comment on function public.eve_jobs_worker_end is 'Writes down that a worker has ended.';

CREATE OR REPLACE FUNCTION eve.post_to_function(path text, body jsonb, timeout_ms integer)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_url text;
  v_key text;
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
    return 'Vault holds no eve_project_url or no eve_secret_key: see docs/maintenance.md';
  end if;
  execute 'select net.http_post(url => $1, body => $2, headers => $3, timeout_milliseconds => $4)'
  using eve.function_address(v_url, post_to_function.path), post_to_function.body,
    jsonb_build_object('content-type', 'application/json', 'apikey', v_key), post_to_function.timeout_ms;
  return null;
exception
  when undefined_table or undefined_function or invalid_schema_name or insufficient_privilege then
    return format('pg_net or Vault cannot be used: %s', sqlerrm);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.jobs_forget_ticks(before timestamp with time zone)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  -- As text: the extension need not be there, and its rows are another's where another role schedules.
  execute $sql$
    delete from cron.job_run_details d
    using cron.job j
    where j.jobname = 'eve_jobs' and d.jobid = j.jobid and d.status = 'succeeded' and d.end_time < $1
  $sql$
  using jobs_forget_ticks.before;
exception
  when undefined_table or insufficient_privilege then
    return;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.jobs_tick()
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- The function answers at once, and works on.
  v_answer_ms constant integer := 20000;
  v_now constant timestamptz := eve.clock();
  v_status text := 'nothing_due';
  v_problem text;
begin
  perform public.eve_jobs_sweep();
  if public.eve_jobs_due() or eve.deliveries_are_due() then
    v_status := 'running';
    if eve.jobs_may_wake((eve.alert_setting('jobs_workers', 2) - 1)::integer) then
      v_problem := eve.post_to_function('worker', '{"source": "cron"}', v_answer_ms);
      v_status := case when v_problem is null then 'asked' else 'failed' end;
    end if;
  end if;
  update eve.operations o
  set idle_runs = o.idle_runs + 1, last_idle_at = v_now, last_error = v_problem,
    last_status = case when v_problem is null then 'succeeded' else 'failed' end,
    last_completed_at = v_now, last_succeeded_at = case when v_problem is null then v_now else o.last_succeeded_at end
  where o.name = 'jobs'
    and (o.last_error is distinct from v_problem or o.last_idle_at is null or o.last_idle_at <= v_now - interval '1 minute');
  if found and extract(minute from v_now) = 23 then
    perform eve.jobs_forget_ticks(v_now - interval '1 hour');
  end if;
  return jsonb_strip_nulls(jsonb_build_object('status', v_status, 'error', v_problem));
end;
$function$;
comment on function eve.jobs_tick is 'What cron runs for jobs.';

-- job_metrics ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_job_metrics()
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_recent constant interval := '5 minutes';
  v_now constant timestamptz := eve.clock();
  v_samples jsonb;
begin
  with waiting as (
    select q.kind, sum(q.queued) as jobs,
      max(v_now - (
        -- The head of the queue alone: one look-up each.
        select j.run_at from eve.jobs j where j.queue_id = q.id and j.state = 'queued' order by j.run_at, j.no limit 1
      )) as oldest
    from eve.job_queues q
    where q.queued > 0
    group by q.kind
  ), ended as materialized (
    select j.kind, j.state, extract(epoch from j.started_at - greatest(j.submitted_at, j.run_at)) as wait_s,
      extract(epoch from j.finished_at - j.started_at) as run_s
    from eve.job_kinds k
    join eve.jobs j on j.kind = k.kind and j.finished_at > v_now - v_recent
  ), samples as (
    select 'eve_jobs' as metric, jsonb_build_object('kind', k.kind, 'state', 'queued') as labels, coalesce(w.jobs, 0)::double precision as value
    from eve.job_kinds k
    left join waiting w on w.kind = k.kind
    union all
    select 'eve_jobs', jsonb_build_object('kind', k.kind, 'state', 'running'), count(r.kind)
    from eve.job_kinds k
    left join (
      select j.kind from eve.jobs j where j.lease_until is not null
      union all
      select j.kind from eve.jobs j where j.state = 'running' and j.lease_until is null
    ) r on r.kind = k.kind
    group by k.kind
    union all
    select 'eve_job_oldest_age_seconds', jsonb_build_object('kind', k.kind), greatest(coalesce(extract(epoch from w.oldest), 0), 0)
    from eve.job_kinds k
    left join waiting w on w.kind = k.kind
    union all
    select 'eve_jobs_ended', jsonb_build_object('kind', k.kind, 'state', s.state), count(e.kind)
    from eve.job_kinds k
    cross join unnest(array['succeeded', 'failed', 'cancelled', 'expired']) as s (state)
    left join ended e on e.kind = k.kind and e.state = s.state
    group by k.kind, s.state
    union all
    select t.metric, jsonb_build_object('kind', e.kind, 'percentile', t.percentile::text), percentile_disc(t.percentile / 100.0) within group (order by t.seconds)
    from ended e
    cross join lateral (
      values ('eve_job_wait_seconds', 50, e.wait_s), ('eve_job_wait_seconds', 95, e.wait_s),
        ('eve_job_run_seconds', 50, e.run_s), ('eve_job_run_seconds', 95, e.run_s)
    ) as t (metric, percentile, seconds)
    where t.seconds is not null
    group by t.metric, e.kind, t.percentile
  )
  select jsonb_agg(jsonb_build_array(s.metric, s.labels, greatest(s.value, 0)) order by s.metric, s.labels) into v_samples from samples s;
  return jsonb_build_object('samples', coalesce(v_samples, '[]'), 'histograms', '[]'::jsonb);
end;
$function$;
comment on function public.eve_job_metrics is 'Gauges of jobs, in the form of eve_metrics.';

-- event_tables --------------------------------------------------------------------------------------------------------

create table eve.events (
  id bigint not null generated always as identity,
  event_id uuid not null default gen_random_uuid(),
  source text not null,
  type text not null,
  subject text,
  time timestamp with time zone not null,
  data jsonb not null default '{}'::jsonb,
  traceparent text,
  consumer_id uuid not null,
  constraint events_data_size CHECK (((jsonb_typeof(data) = 'object'::text) AND (octet_length((data)::text) <= 16384))),
  constraint events_pkey PRIMARY KEY (id),
  constraint events_source_event_id_key UNIQUE (source, event_id),
  constraint events_source_form CHECK ((source ~ '^/[a-z0-9_/-]{1,99}$'::text)),
  constraint events_subject_length CHECK (((length(subject) >= 1) AND (length(subject) <= 500))),
  constraint events_traceparent_form CHECK ((traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'::text)),
  constraint events_type_form CHECK (((length(type) <= 100) AND (type ~ '^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)*[.]v[1-9][0-9]{0,2}$'::text)))
);
alter table eve.events enable row level security;
CREATE INDEX events_time_idx ON eve.events USING btree ("time");
comment on table eve.events is 'The outbox: events that somebody takes, as CloudEvents 1.0 describes them. id gives their order.';
comment on column eve.events.event_id is 'The CloudEvents id, unique per source; a webhook has it as webhook-id.';
comment on column eve.events.source is 'Which part of the gateway tells it, such as /alerts.';
comment on column eve.events.type is 'What happened, with its version at the end, such as eve.alert.opened.v1.';
comment on column eve.events.subject is 'What it happened to, such as the id of a job.';
comment on column eve.events.data is 'Facts of this type, 16 KiB at most. Never a prompt, an answer or a secret.';
comment on column eve.events.traceparent is 'W3C Trace Context of the request that it comes from.';
comment on column eve.events.consumer_id is 'The caller in eve.consumers whom it concerns; zeros: the project.';

create table eve.event_consumers (
  name text not null,
  kind text not null,
  types text[] not null,
  consumer_id uuid,
  is_active boolean not null default true,
  retry_s integer[] not null,
  max_in_flight integer not null default 4,
  paused_until timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  constraint event_consumers_consumer_id_fkey FOREIGN KEY (consumer_id) REFERENCES eve.consumers(id) ON DELETE CASCADE,
  constraint event_consumers_in_flight_range CHECK (((max_in_flight >= 1) AND (max_in_flight <= 100))),
  constraint event_consumers_kind_form CHECK ((kind ~ '^[a-z][a-z0-9_]{0,39}$'::text)),
  constraint event_consumers_name_form CHECK ((name ~ '^[a-z][a-z0-9_:-]{0,79}$'::text)),
  constraint event_consumers_pkey PRIMARY KEY (name),
  constraint event_consumers_retry_range CHECK ((((cardinality(retry_s) >= 0) AND (cardinality(retry_s) <= 30)) AND (0 <= ALL (retry_s)) AND (604800 >= ALL (retry_s)))),
  constraint event_consumers_types_count CHECK ((cardinality(types) <= 50))
);
alter table eve.event_consumers enable row level security;
CREATE INDEX event_consumers_consumer_id_idx ON eve.event_consumers USING btree (consumer_id);
comment on table eve.event_consumers is 'Who takes events: each webhook, and parts of the gateway.';
comment on column eve.event_consumers.kind is 'What delivers to it: webhook, or the name of a handler in the functions.';
comment on column eve.event_consumers.types is 'Types that it takes: a whole type, all that begin alike (eve.alert.*), or * for all. None: only what is addressed to it.';
comment on column eve.event_consumers.consumer_id is 'Events of this caller only; null: everybody''s.';
comment on column eve.event_consumers.retry_s is 'The longest pause in seconds before the second try, the third, and so on; the pause itself is drawn from zero up to that. One try more than there are pauses.';
comment on column eve.event_consumers.max_in_flight is 'Deliveries that are under way to it at a time, so that a slow one does not hold up the others.';
comment on column eve.event_consumers.paused_until is 'It asked to be left alone until then.';

create table eve.event_deliveries (
  id bigint not null generated always as identity,
  event_id bigint not null,
  consumer text not null,
  state text not null default 'pending'::text,
  attempts integer not null default 0,
  next_try_at timestamp with time zone not null,
  lease uuid,
  lease_until timestamp with time zone,
  first_failed_at timestamp with time zone,
  last_failed_at timestamp with time zone,
  last_error text,
  created_at timestamp with time zone not null,
  ended_at timestamp with time zone,
  constraint event_deliveries_consumer_event_id_key UNIQUE (consumer, event_id),
  constraint event_deliveries_consumer_fkey FOREIGN KEY (consumer) REFERENCES eve.event_consumers(name) ON DELETE CASCADE,
  constraint event_deliveries_ended_at_set CHECK (((state = 'pending'::text) = (ended_at IS NULL))),
  constraint event_deliveries_error_length CHECK ((length(last_error) <= 500)),
  constraint event_deliveries_event_id_fkey FOREIGN KEY (event_id) REFERENCES eve.events(id) ON DELETE CASCADE,
  constraint event_deliveries_pkey PRIMARY KEY (id),
  constraint event_deliveries_state_known CHECK ((state = ANY (ARRAY['pending'::text, 'delivered'::text, 'dead'::text, 'dropped'::text])))
) with (fillfactor=80);
alter table eve.event_deliveries enable row level security;
CREATE INDEX event_deliveries_created_at_idx ON eve.event_deliveries USING btree (consumer, created_at) WHERE (state = 'pending'::text);
CREATE INDEX event_deliveries_due_idx ON eve.event_deliveries USING btree (consumer, next_try_at, id) WHERE (state = 'pending'::text);
CREATE INDEX event_deliveries_ended_at_idx ON eve.event_deliveries USING btree (ended_at) WHERE (state <> 'pending'::text);
CREATE INDEX event_deliveries_event_id_idx ON eve.event_deliveries USING btree (event_id);
CREATE INDEX event_deliveries_leased_idx ON eve.event_deliveries USING btree (consumer, lease_until) WHERE (lease IS NOT NULL);
comment on table eve.event_deliveries is 'An event and a consumer: what is to be delivered, and what has been, so that a repeat is known.';
comment on column eve.event_deliveries.state is 'pending; delivered; dead: its tries are used up, see eve.dead_letters; dropped: nobody wants it any more.';
comment on column eve.event_deliveries.attempts is 'Tries that have begun, since it was written or sent again by hand.';
comment on column eve.event_deliveries.lease is 'Drawn anew for each try: who does not hold it any more changes nothing.';

create table eve.event_attempts (
  id bigint not null generated always as identity,
  delivery_id bigint not null,
  attempt integer not null,
  at timestamp with time zone not null,
  result text not null,
  status integer,
  error text,
  duration_ms integer,
  constraint event_attempts_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES eve.event_deliveries(id) ON DELETE CASCADE,
  constraint event_attempts_error_length CHECK ((length(error) <= 500)),
  constraint event_attempts_pkey PRIMARY KEY (id),
  constraint event_attempts_result_known CHECK ((result = ANY (ARRAY['delivered'::text, 'failed'::text, 'gone'::text, 'lost'::text])))
);
alter table eve.event_attempts enable row level security;
CREATE INDEX event_attempts_delivery_id_idx ON eve.event_attempts USING btree (delivery_id);
comment on table eve.event_attempts is 'The log of deliveries: a row per try that has ended.';
comment on column eve.event_attempts.result is 'lost: whoever tried did not say how it went, and the lease ended.';
comment on column eve.event_attempts.status is 'Of HTTP; null: there was none.';

create table eve.dead_letters (
  id bigint not null generated always as identity,
  delivery_id bigint not null,
  event_id uuid not null,
  consumer text not null,
  error text,
  attempts integer not null,
  first_failed_at timestamp with time zone not null,
  last_failed_at timestamp with time zone not null,
  constraint dead_letters_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES eve.event_deliveries(id) ON DELETE CASCADE,
  constraint dead_letters_delivery_id_key UNIQUE (delivery_id),
  constraint dead_letters_pkey PRIMARY KEY (id)
);
alter table eve.dead_letters enable row level security;
CREATE INDEX dead_letters_consumer_idx ON eve.dead_letters USING btree (consumer, id);
CREATE INDEX dead_letters_last_failed_at_idx ON eve.dead_letters USING btree (last_failed_at);
CREATE TRIGGER eve_dead_letters_gone AFTER DELETE ON eve.dead_letters REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION eve.dead_letters_gone(); -- enabled
comment on table eve.dead_letters is 'Deliveries whose tries are used up, until somebody sends them again or drops them.';
comment on column eve.dead_letters.event_id is 'The CloudEvents id.';

create table eve.webhooks (
  id uuid not null default gen_random_uuid(),
  name text not null generated always as (('webhook:'::text || (id)::text)) stored,
  consumer_id uuid not null,
  url text not null,
  description text,
  secret text not null,
  secret_last_four text not null,
  secret_changed_at timestamp with time zone not null,
  previous_secret text,
  previous_secret_until timestamp with time zone,
  off_reason text,
  created_at timestamp with time zone not null,
  constraint webhooks_consumer_id_fkey FOREIGN KEY (consumer_id) REFERENCES eve.consumers(id) ON DELETE CASCADE,
  constraint webhooks_consumer_id_url_key UNIQUE (consumer_id, url),
  constraint webhooks_description_length CHECK ((length(description) <= 200)),
  constraint webhooks_name_fkey FOREIGN KEY (name) REFERENCES eve.event_consumers(name) ON DELETE CASCADE,
  constraint webhooks_name_key UNIQUE (name),
  constraint webhooks_pkey PRIMARY KEY (id),
  constraint webhooks_previous_secret_ends CHECK (((previous_secret IS NULL) = (previous_secret_until IS NULL))),
  constraint webhooks_url_length CHECK (((length(url) >= 8) AND (length(url) <= 2000)))
);
alter table eve.webhooks enable row level security;
CREATE TRIGGER eve_webhook_deleted AFTER DELETE ON eve.webhooks FOR EACH ROW EXECUTE FUNCTION eve.webhook_deleted(); -- enabled
comment on table eve.webhooks is 'Where events are posted, signed as Standard Webhooks says. Each is a consumer of its own in eve.event_consumers, whose is_active says whether it is on.';
comment on column eve.webhooks.consumer_id is 'The caller who is told, and of what concerns them alone; zeros: the project, which is told of everything.';
comment on column eve.webhooks.secret is 'Encrypted with ADMIN_SECRET_KEY, together with the address that it was made for.';
comment on column eve.webhooks.previous_secret is 'Signs too until previous_secret_until, so that a secret can be changed without a gap.';
comment on column eve.webhooks.off_reason is 'Why it was switched off, other than by hand: gone, since the receiver answered 410.';

-- event_delivery ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.event_type_matches(type text, types text[])
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select exists (
    select
    from unnest(event_type_matches.types) as t (wanted)
    where t.wanted in ('*', event_type_matches.type)
      or right(t.wanted, 2) = '.*' and starts_with(event_type_matches.type, left(t.wanted, -1))
  );
$function$;
comment on function eve.event_type_matches is 'Whether a type is one of these: whole types, beginnings (eve.alert.*), or * for all.';

CREATE OR REPLACE FUNCTION eve.emit_event(source text, type text, subject text, data jsonb DEFAULT '{}'::jsonb, consumer_id uuid DEFAULT '00000000-0000-0000-0000-000000000000'::uuid, traceparent text DEFAULT NULL::text, event_id uuid DEFAULT NULL::uuid, to_consumer text DEFAULT NULL::text, also_to text DEFAULT NULL::text)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_names text[];
  v_event_id uuid;
  v_id bigint;
begin
  -- Also where nobody takes it: a wrong type is a fault that should show before somebody does.
  if not coalesce(emit_event.type ~ '[.]v[1-9][0-9]{0,2}$', false) then
    raise exception '% is no type of an event: it ends in .v1 or the like', emit_event.type using errcode = 'EV400';
  end if;
  select array_agg(c.name order by c.name) into v_names
  from eve.event_consumers c
  where c.is_active
    and case
      when emit_event.to_consumer is not null then c.name = emit_event.to_consumer
      else (c.consumer_id is null or c.consumer_id = emit_event.consumer_id)
        and (eve.event_type_matches(emit_event.type, c.types) or coalesce(c.name = emit_event.also_to, false))
    end;
  if v_names is null then
    return null;
  end if;
  insert into eve.events (event_id, source, type, subject, time, data, traceparent, consumer_id)
  values (
    coalesce(emit_event.event_id, gen_random_uuid()), emit_event.source, emit_event.type, nullif(left(emit_event.subject, 500), ''), v_now,
    coalesce(emit_event.data, '{}'), emit_event.traceparent, emit_event.consumer_id
  )
  on conflict on constraint events_source_event_id_key do nothing
  returning id, event_id into v_id, v_event_id;
  if v_id is null then
    return emit_event.event_id;
  end if;
  insert into eve.event_deliveries (event_id, consumer, next_try_at, created_at)
  select v_id, n.name, v_now, v_now
  from unnest(v_names) as n (name);
  return v_event_id;
end;
$function$;
comment on function eve.emit_event is 'Writes an event in the transaction of what it tells of, for those who take its type; null: nobody does.';

CREATE OR REPLACE FUNCTION eve.lock_dead_letters(consumer text)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select pg_advisory_xact_lock(hashtextextended('eve_dead_letters ' || lock_dead_letters.consumer, 0));
$function$;

CREATE OR REPLACE FUNCTION eve.bury_delivery(delivery eve.event_deliveries, error text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_first constant timestamptz := coalesce((delivery).first_failed_at, v_now);
begin
  perform eve.lock_dead_letters((delivery).consumer);
  update eve.event_deliveries d
  set state = 'dead', ended_at = v_now, lease = null, lease_until = null, last_error = left(bury_delivery.error, 500),
    first_failed_at = v_first, last_failed_at = v_now
  where d.id = (delivery).id;
  insert into eve.dead_letters (delivery_id, event_id, consumer, error, attempts, first_failed_at, last_failed_at)
  select (delivery).id, e.event_id, (delivery).consumer, left(bury_delivery.error, 500), (delivery).attempts, v_first, v_now
  from eve.events e
  where e.id = (delivery).event_id;
  perform eve.open_alert(
    'dead_letters', (delivery).consumer, 'warning',
    format(
      'Events for %s could not be delivered, the last one with: %s', eve.event_consumer_label((delivery).consumer),
      coalesce(bury_delivery.error, 'no reason was written')
    )
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.event_consumer_label(name text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(
    (
      select format('the webhook at %s', coalesce(substring(w.url from '^https?://([^/?#]+)'), '(no host)'))
      from eve.webhooks w
      where w.name = event_consumer_label.name
    ),
    event_consumer_label.name
  );
$function$;

CREATE OR REPLACE FUNCTION eve.log_event_attempt(delivery eve.event_deliveries, result text, error text DEFAULT NULL::text, status integer DEFAULT NULL::integer, duration_ms integer DEFAULT NULL::integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  insert into eve.event_attempts (delivery_id, attempt, at, result, status, error, duration_ms)
  values (
    (delivery).id, (delivery).attempts, eve.clock(), log_event_attempt.result, log_event_attempt.status,
    left(log_event_attempt.error, 500), log_event_attempt.duration_ms
  );
  insert into eve.metric_counters as m (metric, labels, value)
  select 'eve_event_deliveries_total', jsonb_build_object('consumer', c.kind, 'result', log_event_attempt.result), 1
  from eve.event_consumers c
  where c.name = (delivery).consumer
  on conflict (metric, labels) do update
  set value = m.value + excluded.value;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.release_lost_deliveries(at_most integer DEFAULT 100)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_lost constant text := 'whoever tried ended without a word';
  v_now constant timestamptz := eve.clock();
  v_delivery eve.event_deliveries;
  v_count integer := 0;
begin
  for v_delivery in
    select d.*
    from eve.event_deliveries d
    where d.lease is not null and d.lease_until <= v_now
    order by d.id
    limit release_lost_deliveries.at_most
    for update skip locked
  loop
    v_count := v_count + 1;
    perform eve.log_event_attempt(v_delivery, 'lost', v_lost);
    if v_delivery.attempts > (select cardinality(c.retry_s) from eve.event_consumers c where c.name = v_delivery.consumer) then
      perform eve.bury_delivery(v_delivery, v_lost);
    else
      update eve.event_deliveries d
      set lease = null, lease_until = null, last_error = v_lost, last_failed_at = v_now,
        first_failed_at = coalesce(d.first_failed_at, v_now)
      where d.id = v_delivery.id;
    end if;
  end loop;
  return v_count;
end;
$function$;
comment on function eve.release_lost_deliveries is 'Ends leases that are over: the delivery is due again, or dead if that was its last try.';

CREATE OR REPLACE FUNCTION eve.event_json(event eve.events)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'id', (event).event_id, 'source', (event).source, 'type', (event).type, 'subject', (event).subject, 'time', (event).time,
    'data', (event).data, 'traceparent', (event).traceparent
  );
$function$;

CREATE OR REPLACE FUNCTION public.eve_events_claim(kinds text[], at_most integer DEFAULT 16, lease_ms integer DEFAULT 60000)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_claimed jsonb;
begin
  if eve_events_claim.at_most is null or eve_events_claim.at_most not between 1 and 100 then
    raise exception 'at_most must be between 1 and 100' using errcode = 'EV400';
  elsif eve_events_claim.lease_ms is null or eve_events_claim.lease_ms not between 1000 and 600000 then
    raise exception 'lease_ms must be between 1000 and 600000' using errcode = 'EV400';
  end if;
  perform eve.release_lost_deliveries();
  with due as materialized (
    select d.id
    from eve.event_consumers c
    cross join lateral (
      select d.id, d.next_try_at
      from eve.event_deliveries d
      where d.consumer = c.name and d.state = 'pending' and d.next_try_at <= v_now and d.lease is null
      order by d.next_try_at, d.id
      limit greatest(
        c.max_in_flight
          - (select count(*) from eve.event_deliveries f where f.consumer = c.name and f.lease is not null),
        0
      )
      for update skip locked
    ) d
    where c.is_active and c.kind = any (eve_events_claim.kinds) and (c.paused_until is null or c.paused_until <= v_now)
    order by d.next_try_at, d.id
    limit eve_events_claim.at_most
  ), claimed as (
    update eve.event_deliveries d
    set attempts = d.attempts + 1, lease = gen_random_uuid(), lease_until = v_now + eve_events_claim.lease_ms * interval '1 millisecond'
    from due
    where d.id = due.id
    returning d.*
  )
  select jsonb_agg(
    jsonb_build_object(
      'delivery_id', d.id, 'lease', d.lease, 'attempt', d.attempts, 'consumer', d.consumer, 'kind', c.kind, 'event', eve.event_json(e),
      'webhook', case
        when w.id is not null then jsonb_build_object(
          'id', w.id, 'url', w.url,
          'secrets', to_jsonb(
            array[w.secret] || case when w.previous_secret_until > v_now then array[w.previous_secret] else '{}' end
          )
        )
      end
    )
    order by d.next_try_at, d.id
  )
  into v_claimed
  from claimed d
  join eve.events e on e.id = d.event_id
  join eve.event_consumers c on c.name = d.consumer
  left join eve.webhooks w on w.name = d.consumer;
  return jsonb_build_object(
    'deliveries', coalesce(v_claimed, '[]'), 'next_due_ms', eve.next_delivery_ms(eve_events_claim.kinds)
  );
end;
$function$;
comment on function public.eve_events_claim is 'Deliveries that are due, each under a lease of its own, and when the next one is.';

CREATE OR REPLACE FUNCTION eve.next_delivery_ms(kinds text[] DEFAULT NULL::text[])
 RETURNS bigint
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select case when min(next.at) is not null then greatest(ceil(extract(epoch from min(next.at) - eve.clock()) * 1000), 0)::bigint end
  from eve.event_consumers c
  cross join lateral (
    select greatest(min(soonest.at), c.paused_until) as at
    from (
      (
        select d.next_try_at as at
        from eve.event_deliveries d
        where d.consumer = c.name and d.state = 'pending' and d.lease is null
        order by d.next_try_at
        limit 1
      )
      union all
      (
        select d.lease_until
        from eve.event_deliveries d
        where d.consumer = c.name and d.lease is not null
        order by d.lease_until
        limit 1
      )
    ) soonest
    having count(*) > 0
  ) next
  where c.is_active and (next_delivery_ms.kinds is null or c.kind = any (next_delivery_ms.kinds));
$function$;
comment on function eve.next_delivery_ms is 'How long until there is something to deliver; null: nothing waits.';

CREATE OR REPLACE FUNCTION public.eve_event_done(delivery_id bigint, lease uuid, result text, error text DEFAULT NULL::text, status integer DEFAULT NULL::integer, duration_ms integer DEFAULT NULL::integer, draw double precision DEFAULT random(), retry_after_ms bigint DEFAULT NULL::bigint, rests boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_most_ms constant bigint := 86400000;
  v_now constant timestamptz := eve.clock();
  v_asked constant interval := least(greatest(coalesce(eve_event_done.retry_after_ms, 0), 0), v_most_ms) * interval '1 millisecond';
  v_error constant text := left(eve_event_done.error, 500);
  v_consumer eve.event_consumers;
  v_delivery eve.event_deliveries;
begin
  if eve_event_done.result is null or eve_event_done.result not in ('delivered', 'failed', 'gone') then
    raise exception 'result must be delivered, failed or gone' using errcode = 'EV400';
  elsif not coalesce(eve_event_done.draw between 0 and 1, false) then
    raise exception 'draw must be between 0 and 1' using errcode = 'EV400';
  end if;
  -- Before the delivery, whose fellows may be dropped below: two who do this at once take the same locks in the same order.
  select c.* into v_consumer
  from eve.event_consumers c
  where c.name = (select d.consumer from eve.event_deliveries d where d.id = eve_event_done.delivery_id)
  for no key update;
  select * into v_delivery
  from eve.event_deliveries d
  where d.id = eve_event_done.delivery_id and d.lease = eve_event_done.lease
  for update;
  if not found then
    return jsonb_build_object('state', 'lost');
  end if;
  perform eve.log_event_attempt(
    v_delivery, eve_event_done.result, v_error, eve_event_done.status, eve_event_done.duration_ms
  );
  if eve_event_done.result = 'delivered' then
    update eve.event_deliveries d
    set state = 'delivered', ended_at = v_now, lease = null, lease_until = null
    where d.id = v_delivery.id;
    return jsonb_build_object('state', 'delivered');
  elsif eve_event_done.result = 'gone' then
    perform eve.switch_consumer_off(v_consumer.name, v_error);
    return jsonb_build_object('state', 'dropped');
  end if;
  if eve_event_done.rests then
    update eve.event_consumers c
    set paused_until = greatest(c.paused_until, v_now + v_asked)
    where c.name = v_consumer.name;
  end if;
  if v_delivery.attempts > cardinality(v_consumer.retry_s) then
    perform eve.bury_delivery(v_delivery, v_error);
    return jsonb_build_object('state', 'dead');
  end if;
  update eve.event_deliveries d
  set lease = null, lease_until = null, last_error = v_error, last_failed_at = v_now,
    first_failed_at = coalesce(d.first_failed_at, v_now),
    next_try_at = v_now + greatest(v_consumer.retry_s[v_delivery.attempts] * eve_event_done.draw * interval '1 second', v_asked)
  where d.id = v_delivery.id
  returning d.* into v_delivery;
  return jsonb_build_object('state', 'pending', 'next_try_at', v_delivery.next_try_at);
end;
$function$;
comment on function public.eve_event_done is 'How a try went, from whoever holds its lease: delivered, failed (tried again), or gone (switched off).';

CREATE OR REPLACE FUNCTION eve.switch_consumer_off(name text, error text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  update eve.event_consumers c set is_active = false where c.name = switch_consumer_off.name;
  update eve.webhooks w set off_reason = 'gone' where w.name = switch_consumer_off.name;
  update eve.event_deliveries d
  set state = 'dropped', ended_at = eve.clock(), lease = null, lease_until = null, last_error = left(switch_consumer_off.error, 500)
  where d.consumer = switch_consumer_off.name and d.state = 'pending';
  perform eve.open_alert(
    'webhook_gone', switch_consumer_off.name, 'warning',
    format('%s answered 410 and was switched off', initcap(left(eve.event_consumer_label(switch_consumer_off.name), 1))
      || substr(eve.event_consumer_label(switch_consumer_off.name), 2))
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.webhook_deleted()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  delete from eve.event_consumers c where c.name = old.name;
  perform eve.end_alerts(array['dead_letters', 'webhook_gone'], old.name);
  return null;
end;
$function$;

-- dead_letters --------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.dead_letters_gone()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_consumer text;
begin
  for v_consumer in select distinct o.consumer from gone o order by o.consumer loop
    perform eve.lock_dead_letters(v_consumer);
    -- A statement of its own, which sees what was committed while it waited.
    if not exists (select from eve.dead_letters l where l.consumer = v_consumer) then
      perform eve.end_alerts(array['dead_letters'], v_consumer);
    end if;
  end loop;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.dead_letter_json(letter eve.dead_letters)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(dead_letter_json.letter) || jsonb_build_object(
    'type', e.type, 'subject', e.subject, 'receiver', eve.event_consumer_label((letter).consumer), 'event', eve.event_json(e)
  )
  from eve.event_deliveries d
  join eve.events e on e.id = d.event_id
  where d.id = (letter).delivery_id;
$function$;

CREATE OR REPLACE FUNCTION public.eve_dead_letters(consumer text DEFAULT NULL::text, type text DEFAULT NULL::text, before bigint DEFAULT NULL::bigint, at_most integer DEFAULT 100)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  with page as (
    select l.id, eve.dead_letter_json(l) - 'event' as one
    from eve.dead_letters l
    join eve.event_deliveries d on d.id = l.delivery_id
    join eve.events e on e.id = d.event_id
    where (eve_dead_letters.before is null or l.id < eve_dead_letters.before)
      and (eve_dead_letters.consumer is null or l.consumer = eve_dead_letters.consumer)
      and (eve_dead_letters.type is null or e.type = eve_dead_letters.type)
    order by l.id desc
    limit least(greatest(eve_dead_letters.at_most, 1), 1000)
  )
  select jsonb_build_object(
    'dead_letters', coalesce(jsonb_agg(p.one order by p.id desc), '[]'),
    'next_before', case when count(*) = least(greatest(eve_dead_letters.at_most, 1), 1000) then min(p.id) end
  )
  from page p;
$function$;
comment on function public.eve_dead_letters is 'Deliveries whose tries are used up, the newest first; a page and where the next one begins.';

CREATE OR REPLACE FUNCTION public.eve_dead_letter(id bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_letter eve.dead_letters;
begin
  select * into v_letter from eve.dead_letters l where l.id = eve_dead_letter.id;
  if not found then
    raise exception 'there is no dead letter %', eve_dead_letter.id using errcode = 'EV400';
  end if;
  return eve.dead_letter_json(v_letter) || jsonb_build_object('tries', eve.event_tries(v_letter.delivery_id));
end;
$function$;
comment on function public.eve_dead_letter is 'One dead letter with its event and its tries.';

CREATE OR REPLACE FUNCTION eve.event_tries(delivery_id bigint)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'attempt', a.attempt, 'at', a.at, 'result', a.result, 'status', a.status, 'error', a.error, 'duration_ms', a.duration_ms
      )
      order by a.id
    ),
    '[]'
  )
  from eve.event_attempts a
  where a.delivery_id = event_tries.delivery_id;
$function$;

CREATE OR REPLACE FUNCTION eve.dead_letters_meant(ids bigint[], consumer text, at_most integer)
 RETURNS SETOF eve.dead_letters
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select l.*
  from eve.dead_letters l
  where (dead_letters_meant.ids is null or l.id = any (dead_letters_meant.ids))
    and (dead_letters_meant.consumer is null or l.consumer = dead_letters_meant.consumer)
  order by l.id
  limit dead_letters_meant.at_most
  for update;
$function$;

CREATE OR REPLACE FUNCTION public.eve_dead_letters_replay(ids bigint[] DEFAULT NULL::bigint[], consumer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_count integer;
begin
  with meant as materialized (
    select l.*
    from eve.dead_letters_meant(eve_dead_letters_replay.ids, eve_dead_letters_replay.consumer, 1000) l
    join eve.event_consumers c on c.name = l.consumer and c.is_active
  ), due as (
    update eve.event_deliveries d
    set state = 'pending', attempts = 0, next_try_at = v_now, ended_at = null, first_failed_at = null, last_failed_at = null
    from meant m
    where d.id = m.delivery_id
  )
  delete from eve.dead_letters l using meant m where l.id = m.id;
  get diagnostics v_count = row_count;
  return jsonb_build_object('replayed', v_count);
end;
$function$;
comment on function public.eve_dead_letters_replay is 'Sends dead letters again: these, those of a consumer, or all; 1,000 at most at a time.';

CREATE OR REPLACE FUNCTION public.eve_dead_letters_drop(ids bigint[] DEFAULT NULL::bigint[], consumer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_count integer;
begin
  with meant as materialized (
    select l.* from eve.dead_letters_meant(eve_dead_letters_drop.ids, eve_dead_letters_drop.consumer, 1000) l
  ), dropped as (
    update eve.event_deliveries d
    set state = 'dropped', ended_at = eve.clock()
    from meant m
    where d.id = m.delivery_id
  )
  delete from eve.dead_letters l using meant m where l.id = m.id;
  get diagnostics v_count = row_count;
  return jsonb_build_object('dropped', v_count);
end;
$function$;
comment on function public.eve_dead_letters_drop is 'Gives dead letters up: these, those of a consumer, or all; 1,000 at most at a time.';

-- webhooks ------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.webhook_retry_s()
 RETURNS integer[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select array[5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400];
$function$;

CREATE OR REPLACE FUNCTION eve.webhook_json(webhook eve.webhooks)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'id', (webhook).id, 'consumer', n.name, 'url', (webhook).url, 'description', (webhook).description, 'types', to_jsonb(c.types),
    'is_active', c.is_active, 'off_reason', (webhook).off_reason, 'secret_last_four', (webhook).secret_last_four,
    'secret_changed_at', (webhook).secret_changed_at,
    'previous_secret_until', case when (webhook).previous_secret_until > eve.clock() then (webhook).previous_secret_until end,
    'paused_until', case when c.paused_until > eve.clock() then c.paused_until end, 'created_at', (webhook).created_at,
    'pending', (select count(*) from eve.event_deliveries d where d.consumer = c.name and d.state = 'pending'),
    'dead_letters', (select count(*) from eve.dead_letters l where l.consumer = c.name),
    'last_delivered_at', (
      select max(d.ended_at) from eve.event_deliveries d where d.consumer = c.name and d.state = 'delivered'
    )
  )
  from eve.event_consumers c
  join eve.consumers n on n.id = (webhook).consumer_id
  where c.name = (webhook).name;
$function$;

CREATE OR REPLACE FUNCTION eve.webhook_of(id uuid)
 RETURNS eve.webhooks
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_webhook eve.webhooks;
begin
  select * into v_webhook from eve.webhooks w where w.id = webhook_of.id;
  if not found then
    raise exception 'there is no webhook %', webhook_of.id using errcode = 'EV400';
  end if;
  return v_webhook;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.check_event_types(types text[])
 RETURNS void
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
declare
  v_wrong text;
begin
  if cardinality(check_event_types.types) > 50 then
    raise exception 'types has more than 50 entries' using errcode = 'EV400';
  end if;
  select t.wanted into v_wrong
  from unnest(check_event_types.types) as t (wanted)
  where coalesce(
    t.wanted !~ '^([*]|[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)*[.](v[1-9][0-9]{0,2}|[*]))$' or length(t.wanted) > 100, true
  )
  limit 1;
  if found then
    raise exception 'types holds %, which is no type such as eve.alert.opened.v1, no beginning such as eve.alert.*, and not *',
      coalesce(left(v_wrong, 100), 'null')
      using errcode = 'EV400';
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_webhook_add(id uuid, url text, types text[], secret text, secret_last_four text, consumer text DEFAULT NULL::text, description text DEFAULT NULL::text, consumer_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_project constant uuid := '00000000-0000-0000-0000-000000000000';
  v_now constant timestamptz := eve.clock();
  v_consumer_id uuid := coalesce(eve_webhook_add.consumer_id, v_project);
  v_webhook eve.webhooks;
begin
  if eve_webhook_add.consumer is not null then
    select c.id into v_consumer_id from eve.consumers c where c.name = eve_webhook_add.consumer;
    if not found then
      raise exception 'there is no consumer named %', left(eve_webhook_add.consumer, 63) using errcode = 'EV400';
    end if;
  end if;
  perform eve.check_event_types(eve_webhook_add.types);
  -- Two that add the same at once.
  perform pg_advisory_xact_lock(hashtextextended('eve_webhook_add ' || v_consumer_id, 0));
  select * into v_webhook from eve.webhooks w where w.consumer_id = v_consumer_id and w.url = eve_webhook_add.url;
  if found then
    return jsonb_build_object('status', 'exists', 'webhook', eve.webhook_json(v_webhook));
  elsif (select count(*) from eve.webhooks w where w.consumer_id = v_consumer_id) >= eve.alert_setting('webhooks_max', 20) then
    raise exception 'there are as many webhooks as webhooks_max in eve.settings allows: remove one first' using errcode = 'EV400';
  end if;
  insert into eve.event_consumers (name, kind, types, consumer_id, retry_s, created_at)
  values (
    'webhook:' || eve_webhook_add.id, 'webhook', eve_webhook_add.types, nullif(v_consumer_id, v_project), eve.webhook_retry_s(), v_now
  );
  insert into eve.webhooks (id, consumer_id, url, description, secret, secret_last_four, secret_changed_at, created_at)
  values (
    eve_webhook_add.id, v_consumer_id, eve_webhook_add.url, left(eve_webhook_add.description, 200), eve_webhook_add.secret,
    eve_webhook_add.secret_last_four, v_now, v_now
  )
  returning * into v_webhook;
  return jsonb_build_object('status', 'added', 'webhook', eve.webhook_json(v_webhook));
end;
$function$;
comment on function public.eve_webhook_add is 'Adds a webhook with its encrypted secret; one that the caller has for the same address is left as it is.';

CREATE OR REPLACE FUNCTION public.eve_webhooks(consumer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(eve.webhook_json(w) order by n.name, w.created_at, w.id), '[]')
  from eve.webhooks w
  join eve.consumers n on n.id = w.consumer_id
  where eve_webhooks.consumer is null or n.name = eve_webhooks.consumer;
$function$;
comment on function public.eve_webhooks is 'Webhooks and how their deliveries stand, without secrets.';

CREATE OR REPLACE FUNCTION public.eve_webhook_rotate(id uuid, secret text, secret_last_four text, grace_s integer DEFAULT 86400)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_webhook eve.webhooks := eve.webhook_of(eve_webhook_rotate.id);
begin
  if not coalesce(eve_webhook_rotate.grace_s between 0 and 604800, false) then
    raise exception 'grace_s must be between 0 and 604800' using errcode = 'EV400';
  end if;
  update eve.webhooks w
  set previous_secret = case when eve_webhook_rotate.grace_s > 0 then w.secret end,
    previous_secret_until = case when eve_webhook_rotate.grace_s > 0 then v_now + eve_webhook_rotate.grace_s * interval '1 second' end,
    secret = eve_webhook_rotate.secret, secret_last_four = eve_webhook_rotate.secret_last_four, secret_changed_at = v_now
  where w.id = v_webhook.id
  returning w.* into v_webhook;
  return eve.webhook_json(v_webhook);
end;
$function$;
comment on function public.eve_webhook_rotate is 'Gives a webhook a new secret; the one before signs beside it for a while.';

CREATE OR REPLACE FUNCTION public.eve_webhook_change(id uuid, is_active boolean DEFAULT NULL::boolean, types text[] DEFAULT NULL::text[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_webhook eve.webhooks := eve.webhook_of(eve_webhook_change.id);
begin
  perform eve.check_event_types(eve_webhook_change.types);
  update eve.event_consumers c
  set is_active = coalesce(eve_webhook_change.is_active, c.is_active), types = coalesce(eve_webhook_change.types, c.types),
    paused_until = case when eve_webhook_change.is_active then null else c.paused_until end
  where c.name = v_webhook.name;
  if eve_webhook_change.is_active is not null then
    update eve.webhooks w set off_reason = null where w.id = v_webhook.id returning w.* into v_webhook;
    perform eve.end_alerts(array['webhook_gone'], v_webhook.name);
  end if;
  return eve.webhook_json(v_webhook);
end;
$function$;
comment on function public.eve_webhook_change is 'Switches a webhook on or off, or changes the types that it takes.';

CREATE OR REPLACE FUNCTION public.eve_webhook_remove(id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_webhook constant eve.webhooks := eve.webhook_of(eve_webhook_remove.id);
begin
  delete from eve.event_consumers c where c.name = v_webhook.name;
  return jsonb_build_object('removed', v_webhook.id);
end;
$function$;
comment on function public.eve_webhook_remove is 'Removes a webhook, what waits for it, and the log of its deliveries.';

CREATE OR REPLACE FUNCTION public.eve_webhook_test(id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_webhook constant eve.webhooks := eve.webhook_of(eve_webhook_test.id);
  v_event_id uuid;
begin
  v_event_id := eve.emit_event(
    '/webhooks', 'eve.webhook.test.v1', v_webhook.id::text, jsonb_build_object('webhook_id', v_webhook.id), v_webhook.consumer_id,
    to_consumer => v_webhook.name
  );
  if v_event_id is null then
    raise exception 'the webhook is switched off: switch it on first' using errcode = 'EV400';
  end if;
  return (
    select jsonb_build_object('event_id', v_event_id, 'delivery_id', d.id)
    from eve.event_deliveries d
    join eve.events e on e.id = d.event_id
    where d.consumer = v_webhook.name and e.source = '/webhooks' and e.event_id = v_event_id
  );
end;
$function$;
comment on function public.eve_webhook_test is 'Sends a webhook an event of the type eve.webhook.test.v1.';

CREATE OR REPLACE FUNCTION public.eve_webhook_deliveries(id uuid, state text DEFAULT NULL::text, before bigint DEFAULT NULL::bigint, at_most integer DEFAULT 50, delivery_id bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_webhook constant eve.webhooks := eve.webhook_of(eve_webhook_deliveries.id);
  v_at_most constant integer := least(greatest(eve_webhook_deliveries.at_most, 1), 500);
begin
  return (
    select jsonb_build_object(
      'deliveries', coalesce(jsonb_agg(page.one order by page.id desc), '[]'),
      'next_before', case when count(*) = v_at_most then min(page.id) end
    )
    from (
      select d.id,
        jsonb_build_object(
          'delivery_id', d.id, 'event_id', e.event_id, 'type', e.type, 'subject', e.subject, 'time', e.time, 'state', d.state,
          'attempts', d.attempts, 'next_try_at', case when d.state = 'pending' then d.next_try_at end, 'ended_at', d.ended_at,
          'last_error', d.last_error, 'tries', eve.event_tries(d.id)
        ) as one
      from eve.event_deliveries d
      join eve.events e on e.id = d.event_id
      where d.consumer = v_webhook.name
        and (eve_webhook_deliveries.delivery_id is null or d.id = eve_webhook_deliveries.delivery_id)
        and (eve_webhook_deliveries.state is null or d.state = eve_webhook_deliveries.state)
        and (eve_webhook_deliveries.before is null or d.id < eve_webhook_deliveries.before)
      order by d.id desc
      limit v_at_most
    ) page
  );
end;
$function$;
comment on function public.eve_webhook_deliveries is 'The log of a webhook: its deliveries with their tries, the newest first.';

CREATE OR REPLACE FUNCTION public.eve_webhook_redeliver(id uuid, delivery_id bigint DEFAULT NULL::bigint, since timestamp with time zone DEFAULT NULL::timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_webhook constant eve.webhooks := eve.webhook_of(eve_webhook_redeliver.id);
  v_ids bigint[];
begin
  if (eve_webhook_redeliver.delivery_id is null) = (eve_webhook_redeliver.since is null) then
    raise exception 'give either delivery_id or since' using errcode = 'EV400';
  elsif not (select c.is_active from eve.event_consumers c where c.name = v_webhook.name) then
    raise exception 'the webhook is switched off: switch it on first' using errcode = 'EV400';
  end if;
  with meant as materialized (
    select d.id
    from eve.event_deliveries d
    where d.consumer = v_webhook.name and d.state <> 'pending'
      and (
        d.id = eve_webhook_redeliver.delivery_id
        or d.state in ('dead', 'dropped') and d.ended_at >= eve_webhook_redeliver.since
      )
    order by d.id
    limit 1000
    for update
  ), due as (
    update eve.event_deliveries d
    set state = 'pending', attempts = 0, next_try_at = v_now, ended_at = null, first_failed_at = null, last_failed_at = null
    from meant m
    where d.id = m.id
    returning d.id
  )
  select array_agg(d.id) into v_ids from due d;
  if v_ids is null and eve_webhook_redeliver.delivery_id is not null then
    raise exception 'the webhook has no delivery % that has ended', eve_webhook_redeliver.delivery_id using errcode = 'EV400';
  end if;
  delete from eve.dead_letters l where l.delivery_id = any (v_ids);
  return jsonb_build_object('redelivered', coalesce(cardinality(v_ids), 0));
end;
$function$;
comment on function public.eve_webhook_redeliver is 'Sends ended deliveries of a webhook again, under the same id.';

CREATE OR REPLACE FUNCTION public.eve_webhook_ciphertexts()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'which', s.which, 'token', s.token) order by s.id, s.which), '[]')
  from (
    select w.id, 'secret' as which, w.secret as token from eve.webhooks w
    union all
    select w.id, 'previous_secret', w.previous_secret from eve.webhooks w where w.previous_secret is not null
  ) s;
$function$;
comment on function public.eve_webhook_ciphertexts is 'The encrypted secrets of webhooks, to be encrypted again.';

CREATE OR REPLACE FUNCTION public.eve_webhook_reencrypt(tokens jsonb)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_count integer;
begin
  with wanted as materialized (
    select t.token, t.replacement from jsonb_to_recordset(eve_webhook_reencrypt.tokens) as t (token text, replacement text)
  ), meant as materialized (
    select w.id, s.replacement as secret, p.replacement as previous_secret
    from eve.webhooks w
    left join wanted s on s.token = w.secret
    left join wanted p on p.token = w.previous_secret
    where s.token is not null or p.token is not null
    for no key update of w
  ), replaced as (
    update eve.webhooks w
    set secret = coalesce(m.secret, w.secret), previous_secret = coalesce(m.previous_secret, w.previous_secret)
    from meant m
    where w.id = m.id
    returning num_nonnulls(m.secret, m.previous_secret) as count
  )
  select coalesce(sum(r.count), 0) into v_count from replaced r;
  return v_count;
end;
$function$;
comment on function public.eve_webhook_reencrypt is 'Replaces encrypted secrets of webhooks by the same ones, encrypted again.';

-- alert_events --------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.alert_changed()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform eve.emit_event(
    '/alerts', case when new.closed_at is null then 'eve.alert.opened.v1' else 'eve.alert.closed.v1' end, new.kind || ' ' || new.subject,
    jsonb_build_object(
      'alert_id', new.id, 'kind', new.kind, 'severity', new.severity, 'subject', new.subject, 'opened_at', new.opened_at,
      'closed_at', new.closed_at
    )
  );
  return null;
end;
$function$;

-- job_events ----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.tell_job_end()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  -- Jobs end by the hundred, and mostly nobody listens.
  if not exists (select from eve.event_consumers c where c.is_active) then
    return null;
  end if;
  perform eve.emit_event(
    '/jobs', 'eve.job.' || new.state || '.v1', new.id::text,
    jsonb_build_object(
      'job_id', new.id, 'kind', new.kind, 'state', new.state, 'request_id', new.request_id, 'batch_id', new.batch_id,
      'custom_id', new.custom_id, 'error_code', new.error_code, 'finished_at', new.finished_at
    ),
    new.owner_id, also_to => 'webhook:' || new.webhook_id
  );
  return null;
end;
$function$;

-- event_retention -----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.retention_of_events(relation regclass, table_name text, before timestamp with time zone, at_most integer, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_batch record;
begin
  select * into v_batch
  from eve.delete_oldest(
    retention_of_events.relation,
    case retention_of_events.table_name
      when 'eve.dead_letters' then 'last_failed_at'
      when 'eve.event_deliveries' then 'ended_at'
      else 'time'
    end,
    retention_of_events.before, coalesce((retention_of_events.after ->> 'at')::timestamptz, '-infinity'), retention_of_events.at_most,
    case retention_of_events.table_name
      when 'eve.dead_letters' then 'true'
      when 'eve.event_deliveries' then
        't.state <> ''pending'' and not exists (select from eve.dead_letters l where l.delivery_id = t.id)'
      else 'not exists (select from eve.event_deliveries d where d.event_id = t.id)'
    end
  );
  if v_batch.seen >= retention_of_events.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
end;
$function$;

-- event_metrics -------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_event_metrics()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'samples', (
      select coalesce(jsonb_agg(jsonb_build_array(s.metric, s.labels, s.value) order by s.metric, s.labels), '[]')
      from (
        select 'eve_event_oldest_age_seconds' as metric, jsonb_build_object('consumer', k.kind) as labels,
          greatest(coalesce(extract(epoch from eve.clock() - min(oldest.created_at)), 0), 0) as value
        from (select 'webhook' as kind union select c.kind from eve.event_consumers c) k
        left join eve.event_consumers c on c.kind = k.kind
        left join lateral (
          select d.created_at
          from eve.event_deliveries d
          where d.consumer = c.name and d.state = 'pending'
          order by d.created_at
          limit 1
        ) oldest on c.is_active
        group by k.kind
        union all
        select 'eve_dead_letters', jsonb_build_object('consumer', k.kind), count(l.id)
        from (select 'webhook' as kind union select c.kind from eve.event_consumers c) k
        left join eve.event_consumers c on c.kind = k.kind
        left join eve.dead_letters l on l.consumer = c.name
        group by k.kind
      ) s
    ),
    'histograms', '[]'::jsonb
  );
$function$;
comment on function public.eve_event_metrics is 'Gauges of events, in the form of eve_metrics.';

-- traces --------------------------------------------------------------------------------------------------------------

create table eve.trace_export (
  only_row boolean not null default true,
  exported_at timestamp with time zone,
  exported_no bigint not null default 0,
  constraint trace_export_has_one_row CHECK (only_row),
  constraint trace_export_pkey PRIMARY KEY (only_row)
);
alter table eve.trace_export enable row level security;
comment on table eve.trace_export is 'How far the export of traces has come: to this request, in the order of finished_at and request_no. One row.';
comment on column eve.trace_export.exported_at is 'Null: it has not begun. What ended before it began is not exported.';

CREATE OR REPLACE FUNCTION eve.traces_until()
 RETURNS timestamp with time zone
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select eve.clock() - interval '20 seconds';
$function$;

CREATE OR REPLACE FUNCTION eve.traces_are_due()
 RETURNS boolean
 LANGUAGE sql
 SET search_path TO ''
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION eve.count_spans(result text, spans bigint)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  insert into eve.metric_counters as c (metric, labels, value)
  select 'eve_trace_spans_total', jsonb_build_object('result', count_spans.result), count_spans.spans
  where count_spans.spans > 0
  on conflict (metric, labels) do update
  set value = c.value + excluded.value;
$function$;

CREATE OR REPLACE FUNCTION public.eve_traces_next(at_most integer DEFAULT 200)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
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
$function$;
comment on function public.eve_traces_next is 'Requests that have ended and are not exported yet, with their attempts; those that are too old are counted as lost.';

CREATE OR REPLACE FUNCTION public.eve_traces_done(until_at timestamp with time zone, until_no bigint, sent bigint, rejected bigint DEFAULT 0)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_traces_done is 'Notes how far the export of traces has come, and what became of the spans.';

-- event_schedule ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.deliveries_are_due()
 RETURNS boolean
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select coalesce(eve.next_delivery_ms('{webhook}') <= 0, false)
    and not exists (select from eve.operations o where o.name = 'events' and o.last_status = 'failed');
$function$;

-- batches -------------------------------------------------------------------------------------------------------------

create table eve.batch_files (
  id uuid not null,
  no bigint not null generated always as identity,
  consumer_id uuid,
  owner_id uuid generated always as (COALESCE(consumer_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored,
  purpose text not null,
  filename text not null,
  mime_type text not null default 'application/x-ndjson'::text,
  is_listed boolean not null default true,
  bytes bigint not null,
  tenant_id text,
  sha256 text,
  parts text[],
  batch_id uuid,
  holds text,
  created_at timestamp with time zone not null,
  expires_at timestamp with time zone not null,
  constraint batch_files_bytes_counted CHECK ((bytes >= 0)),
  constraint batch_files_filename_length CHECK (((length(filename) >= 1) AND (length(filename) <= 255))),
  constraint batch_files_holds_known CHECK ((holds = ANY (ARRAY['answers'::text, 'errors'::text, 'all'::text]))),
  constraint batch_files_mime_type_length CHECK (((length(mime_type) >= 1) AND (length(mime_type) <= 255))),
  constraint batch_files_parts_number CHECK (((cardinality(parts) >= 1) AND (cardinality(parts) <= 1000))),
  constraint batch_files_pkey PRIMARY KEY (id),
  constraint batch_files_purpose_known CHECK ((purpose = ANY (ARRAY['batch'::text, 'user_data'::text, 'batch_output'::text]))),
  constraint batch_files_sha256_form CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
  constraint batch_files_stored_or_read CHECK ((((purpose <> 'batch_output'::text) = ((num_nonnulls(sha256, parts) = 1) AND (tenant_id IS NOT NULL))) AND ((sha256 IS NULL) OR (parts IS NULL)) AND ((purpose = 'batch_output'::text) = ((batch_id IS NOT NULL) AND (holds IS NOT NULL)))))
);
alter table eve.batch_files enable row level security;
CREATE INDEX batch_files_batch_id_idx ON eve.batch_files USING btree (batch_id) WHERE (batch_id IS NOT NULL);
CREATE INDEX batch_files_expires_at_idx ON eve.batch_files USING btree (expires_at);
CREATE UNIQUE INDEX batch_files_no_key ON eve.batch_files USING btree (no);
CREATE INDEX batch_files_owner_id_no_idx ON eve.batch_files USING btree (owner_id, no);
comment on table eve.batch_files is 'Files: those that callers brought, for batches or to be shown to models, and what came of batches.';
comment on column eve.batch_files.purpose is 'batch, user_data (of a type that is no file of lines): a caller brought it, and it is a media object of its tenant (tenant_id, sha256), or several of them, one behind the other (parts). batch_output: it is read out of the batch''s jobs.';
comment on column eve.batch_files.mime_type is 'As it was declared.';
comment on column eve.batch_files.is_listed is 'False: the requests, or the responses, of a batch that had them inline. It is its batch''s own.';
comment on column eve.batch_files.holds is 'answers: the lines that succeeded; errors: all others; all: those of Google''s batches, in one file.';
comment on column eve.batch_files.expires_at is 'It is deleted then: 30 days after it came; an output file when the first of its lines leaves eve.jobs.';

create table eve.batches (
  id uuid not null,
  no bigint not null generated always as identity,
  consumer_id uuid,
  owner_id uuid generated always as (COALESCE(consumer_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored,
  token_id uuid,
  api text not null default 'openai'::text,
  endpoint text not null,
  is_inline boolean not null default false,
  input_file_id uuid not null,
  job_id uuid not null,
  metadata jsonb,
  state text not null default 'validating'::text,
  models text[] not null default '{}'::text[],
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
  created_at timestamp with time zone not null,
  in_progress_at timestamp with time zone,
  finalizing_at timestamp with time zone,
  ended_at timestamp with time zone,
  cancelling_at timestamp with time zone,
  deleted_at timestamp with time zone,
  expires_at timestamp with time zone not null,
  constraint batches_api_known CHECK ((api = ANY (ARRAY['openai'::text, 'gemini'::text]))),
  constraint batches_counted CHECK (((open >= 0) AND (completed >= 0) AND (failed >= 0) AND (expired >= 0) AND ((((open + completed) + failed) + expired) <= added) AND (added <= total) AND (total <= 50000))),
  constraint batches_ended CHECK (((ended_at IS NOT NULL) = (state = ANY (ARRAY['failed'::text, 'completed'::text, 'expired'::text, 'cancelled'::text])))),
  constraint batches_endpoint_length CHECK (((length(endpoint) >= 1) AND (length(endpoint) <= 1000))),
  constraint batches_errors_size CHECK ((length((errors)::text) <= 262144)),
  constraint batches_metadata_size CHECK ((length((metadata)::text) <= 16384)),
  constraint batches_pkey PRIMARY KEY (id),
  constraint batches_state_known CHECK ((state = ANY (ARRAY['validating'::text, 'failed'::text, 'in_progress'::text, 'finalizing'::text, 'completed'::text, 'expired'::text, 'cancelling'::text, 'cancelled'::text])))
) with (fillfactor=50);
alter table eve.batches enable row level security;
CREATE INDEX batches_ended_at_idx ON eve.batches USING btree (ended_at) WHERE (ended_at IS NOT NULL);
CREATE UNIQUE INDEX batches_job_id_key ON eve.batches USING btree (job_id);
CREATE UNIQUE INDEX batches_no_key ON eve.batches USING btree (no);
CREATE INDEX batches_owner_id_no_idx ON eve.batches USING btree (owner_id, no);
comment on table eve.batches is 'Batches: what became of each, and how many of its lines have ended. Like eve.jobs it outlives what it names.';
comment on column eve.batches.api is 'Whose clients handed it in: they alone see it, and what came of it is written as they read it.';
comment on column eve.batches.endpoint is 'What its lines ask for: OpenAI''s address of it, or Google''s, with the model in it.';
comment on column eve.batches.is_inline is 'Its requests came with it, and its responses are told with it.';
comment on column eve.batches.job_id is 'The job that checks its file and hands the lines in.';
comment on column eve.batches.models is 'All that its lines ask for: who may not use one of them does not see it.';
comment on column eve.batches.errors is 'What is wrong with its file: [{"code", "message", "param", "line"}], lines from 1 on, the first hundred.';
comment on column eve.batches.total is 'Lines; of one that was broken off while they were handed in, those that had been (added).';
comment on column eve.batches.open is 'Lines that have been handed in and have not ended. Kept by a trigger on eve.jobs, as are completed, failed and expired.';
comment on column eve.batches.output_bytes is 'Of the output file so far; error_bytes: of the error file.';
comment on column eve.batches.deleted_at is 'Nobody sees it any more. It ends as others do.';

CREATE OR REPLACE FUNCTION eve.batch_line_openai(job eve.jobs)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION eve.batch_line_gemini(job eve.jobs)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION eve.batch_line(job eve.jobs, api text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select (case batch_line.api when 'gemini' then eve.batch_line_gemini(job) else eve.batch_line_openai(job) end)::text;
$function$;

CREATE OR REPLACE FUNCTION eve.batch_finish(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
      output_file_id = case when b.output_bytes > 0 or b.api = 'gemini' and b.error_bytes > 0 then gen_random_uuid() end,
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
        e.output_file_id, 'output', e.output_bytes + case when e.api = 'gemini' then e.error_bytes else 0 end,
        case when e.api = 'gemini' then 'all' else 'answers' end
      ),
      (e.error_file_id, 'error', e.error_bytes, 'errors')
  ) as f (id, name, bytes, holds)
  where f.id is not null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.batches_count()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION eve.batches_for(consumer_id uuid, token_id uuid, api text)
 RETURNS SETOF eve.batches
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION eve.batch_json(batch eve.batches)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(batch) - '{owner_id,token_id,job_id,added,open,output_bytes,error_bytes,deleted_at}'::text[];
$function$;

-- batch_files ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.batch_files_for(consumer_id uuid, token_id uuid)
 RETURNS SETOF eve.batch_files
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
begin
  perform eve.require_live_caller(batch_files_for.consumer_id, batch_files_for.token_id);
  return query
    select f.*
    from eve.batch_files f
    left join eve.batches b on b.id = f.batch_id
    left join eve.consumers c on c.id = batch_files_for.consumer_id
    left join eve.scoped_tokens t on t.id = batch_files_for.token_id
    where (batch_files_for.consumer_id is null or f.owner_id = batch_files_for.consumer_id)
      and f.expires_at > eve.clock()
      and b.deleted_at is null
      and (c.models is null or b.id is null or b.models <@ c.models)
      and (t.models is null or b.id is null or b.models <@ t.models);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.batch_file_json(file eve.batch_files)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(file) - '{owner_id}'::text[];
$function$;

CREATE OR REPLACE FUNCTION eve.batch_missing(what text, id uuid)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select eve.refused('not_found', format('There is no %s %s, or it is not yours.', batch_missing.what, batch_missing.id));
$function$;

CREATE OR REPLACE FUNCTION public.eve_batch_file_tenant(consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  perform eve.require_live_caller(eve_batch_file_tenant.consumer_id, eve_batch_file_tenant.token_id);
  return jsonb_build_object(
    'tenant_id',
    coalesce((select c.tenant_id from eve.consumers c where c.id = eve_batch_file_tenant.consumer_id), eve.default_tenant())
  );
end;
$function$;
comment on function public.eve_batch_file_tenant is 'The tenant that files of a caller''s batches are kept for.';

CREATE OR REPLACE FUNCTION public.eve_batch_file_save(id uuid, filename text, bytes bigint, tenant_id text, sha256 text, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid, purpose text DEFAULT 'batch'::text, mime_type text DEFAULT 'application/x-ndjson'::text, is_listed boolean DEFAULT true)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_keep constant interval := '30 days';
  v_now constant timestamptz := eve.clock();
  v_file eve.batch_files;
begin
  perform eve.require_live_caller(eve_batch_file_save.consumer_id, eve_batch_file_save.token_id);
  insert into eve.batch_files (
    id, consumer_id, purpose, filename, mime_type, is_listed, bytes, tenant_id, sha256, created_at, expires_at
  )
  values (
    eve_batch_file_save.id, eve_batch_file_save.consumer_id, eve_batch_file_save.purpose, left(eve_batch_file_save.filename, 255),
    eve_batch_file_save.mime_type, eve_batch_file_save.is_listed, eve_batch_file_save.bytes, eve_batch_file_save.tenant_id,
    eve_batch_file_save.sha256, v_now, v_now + v_keep
  )
  on conflict (id) do nothing
  returning * into v_file;
  if not found then
    -- An upload whose end was sent twice.
    select f.* into v_file
    from eve.batch_files f
    where f.id = eve_batch_file_save.id and f.sha256 = eve_batch_file_save.sha256
      and f.consumer_id is not distinct from eve_batch_file_save.consumer_id;
    if not found then
      return eve.batch_missing('upload', eve_batch_file_save.id);
    end if;
  end if;
  return jsonb_build_object('status', 'kept', 'file', eve.batch_file_json(v_file));
end;
$function$;
comment on function public.eve_batch_file_save is 'Writes down a file of a batch that has been stored.';

CREATE OR REPLACE FUNCTION public.eve_batch_file(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_file eve.batch_files;
begin
  select f.* into v_file
  from eve.batch_files_for(eve_batch_file.consumer_id, eve_batch_file.token_id) f
  where f.id = eve_batch_file.id;
  if not found then
    return eve.batch_missing('file', eve_batch_file.id);
  end if;
  return jsonb_build_object('status', 'found', 'file', eve.batch_file_json(v_file));
end;
$function$;
comment on function public.eve_batch_file is 'A file of a batch, for those whose it is.';

CREATE OR REPLACE FUNCTION public.eve_batch_files(consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid, purpose text DEFAULT NULL::text, after uuid DEFAULT NULL::uuid, at_most integer DEFAULT 100, oldest_first boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_at_most constant integer := least(greatest(coalesce(eve_batch_files.at_most, 100), 1), 1000);
  v_turn constant integer := case when eve_batch_files.oldest_first then 1 else -1 end;
  v_after constant bigint := (select f.no from eve.batch_files f where f.id = eve_batch_files.after);
  v_files jsonb;
begin
  select coalesce(jsonb_agg(eve.batch_file_json(row(f.*)::eve.batch_files) - 'parts' order by v_turn * f.no), '[]')
  into v_files
  from (
    select f.*
    from eve.batch_files_for(eve_batch_files.consumer_id, eve_batch_files.token_id) f
    where f.is_listed and (eve_batch_files.purpose is null or f.purpose = eve_batch_files.purpose)
      and (v_after is null or v_turn * f.no > v_turn * v_after)
    order by v_turn * f.no
    limit v_at_most + 1
  ) f;
  return jsonb_build_object(
    'files', case when jsonb_array_length(v_files) > v_at_most then v_files - v_at_most else v_files end,
    'has_more', jsonb_array_length(v_files) > v_at_most
  );
end;
$function$;
comment on function public.eve_batch_files is 'A caller''s files of batches, page by page.';

CREATE OR REPLACE FUNCTION public.eve_batch_file_piece(id uuid, from_place integer DEFAULT 0, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_bytes_max constant integer := 2000000;
  v_file eve.batch_files;
  v_api text;
  v_job eve.jobs;
  v_lines text[] := '{}';
  v_line text;
  v_bytes integer := 0;
  v_next integer;
begin
  select f.* into v_file
  from eve.batch_files_for(eve_batch_file_piece.consumer_id, eve_batch_file_piece.token_id) f
  where f.id = eve_batch_file_piece.id and f.batch_id is not null;
  if not found then
    return eve.batch_missing('file', eve_batch_file_piece.id);
  end if;
  v_api := (select b.api from eve.batches b where b.id = v_file.batch_id);
  for v_job in
    select *
    from eve.jobs j
    where j.batch_id = v_file.batch_id and j.place >= eve_batch_file_piece.from_place
      and (v_file.holds = 'all' or (j.state = 'succeeded') = (v_file.holds = 'answers')) and j.finished_at is not null
    order by j.place
  loop
    if v_bytes >= v_bytes_max then
      v_next := v_job.place;
      exit;
    end if;
    v_line := eve.batch_line(v_job, v_api) || E'\n';
    v_lines := v_lines || v_line;
    v_bytes := v_bytes + octet_length(v_line);
  end loop;
  return jsonb_build_object('status', 'read', 'text', array_to_string(v_lines, ''), 'next', v_next);
end;
$function$;
comment on function public.eve_batch_file_piece is 'A piece of what came of a batch.';

CREATE OR REPLACE FUNCTION public.eve_batch_file_delete(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
begin
  delete from eve.batch_files f
  where f.id = eve_batch_file_delete.id
    and exists (
      select
      from eve.batch_files_for(eve_batch_file_delete.consumer_id, eve_batch_file_delete.token_id) s
      where s.id = eve_batch_file_delete.id
    );
  if not found then
    return eve.batch_missing('file', eve_batch_file_delete.id);
  end if;
  return jsonb_build_object('status', 'deleted');
end;
$function$;
comment on function public.eve_batch_file_delete is 'Deletes a file of a batch.';

CREATE OR REPLACE FUNCTION eve.retention_of_batches(relation regclass, table_name text, before timestamp with time zone, at_most integer, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_now constant timestamptz := eve.clock();
  v_files uuid[];
  v_unused text[];
begin
  v_files := array(
    select f.id
    from eve.batch_files f
    where f.expires_at <= v_now
    order by f.expires_at
    limit retention_of_batches.at_most
    for update skip locked
  );
  v_unused := array(
    select r.ref_id
    from eve.media_references r
    where r.ref_kind = 'batch_file'
      and (
        r.ref_id = any (v_files::text[])
        or r.created_at <= v_now - interval '1 day' and not exists (select from eve.batch_files f where f.id::text = r.ref_id)
      )
    limit retention_of_batches.at_most
  );
  -- Objects before their references, as everywhere.
  perform
  from public.media_objects o
  where (o.tenant_id, o.file_sha256) in (
    select r.tenant_id, r.file_sha256 from eve.media_references r where r.ref_kind = 'batch_file' and r.ref_id = any (v_unused)
  )
  order by o.tenant_id, o.file_sha256
  for update;
  delete from eve.media_references r where r.ref_kind = 'batch_file' and r.ref_id = any (v_unused);
  delete from eve.batch_files f where f.id = any (v_files);
  with old as (
    select b.id
    from eve.batches b
    where b.ended_at <= retention_of_batches.before
    order by b.ended_at
    limit retention_of_batches.at_most
    for update skip locked
  )
  delete from eve.batches b using old where b.id = old.id;
  get diagnostics deleted = row_count;
  next_after := case when deleted >= retention_of_batches.at_most or cardinality(v_files) >= retention_of_batches.at_most then '{}'::jsonb end;
end;
$function$;

-- batch_running -------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_batch_create(id uuid, input_file_id uuid, endpoint text, metadata jsonb DEFAULT NULL::jsonb, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid, api text DEFAULT 'openai'::text, is_inline boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  -- As OpenAI and Google have it.
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
$function$;
comment on function public.eve_batch_create is 'Hands a batch in: a job checks its file.';

CREATE OR REPLACE FUNCTION public.eve_batch(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid, api text DEFAULT 'openai'::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_batch is 'A batch, for those whose it is.';

CREATE OR REPLACE FUNCTION public.eve_batches(consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid, after uuid DEFAULT NULL::uuid, at_most integer DEFAULT 20, api text DEFAULT 'openai'::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_batches is 'A caller''s batches, the newest first, page by page.';

CREATE OR REPLACE FUNCTION public.eve_batch_cancel(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid, at_most integer DEFAULT 2000, api text DEFAULT 'openai'::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_batch_cancel is 'Cancels a batch, some of its lines at a time.';

CREATE OR REPLACE FUNCTION public.eve_batch_delete(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid, api text DEFAULT 'openai'::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_batch_delete is 'Deletes a batch, as far as anybody sees it.';

CREATE OR REPLACE FUNCTION public.eve_batch_input(id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_batch_input is 'What is to be read and checked for a batch.';

CREATE OR REPLACE FUNCTION public.eve_batch_reject(id uuid, errors jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
begin
  perform from eve.batches b where b.id = eve_batch_reject.id for no key update;
  update eve.batches b set errors = eve_batch_reject.errors where b.id = eve_batch_reject.id and b.state = 'validating';
  perform eve.batch_finish(array[eve_batch_reject.id]);
  return jsonb_build_object('status', 'noted');
end;
$function$;
comment on function public.eve_batch_reject is 'Ends a batch whose file cannot be used.';

CREATE OR REPLACE FUNCTION public.eve_batch_add(id uuid, total integer, models text[], lines jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
          'id', gen_random_uuid(), 'kind', 'llm', 'request_id', format('batch-%s-%s', v_batch.id, l.line ->> 'place'),
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
$function$;
comment on function public.eve_batch_add is 'Hands lines of a batch in as jobs.';

-- job_console ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.batch_job_row(job eve.jobs)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select eve.job_json(batch_job_row.job) - '{result,settings,key_name,owner_id}'::text[] || jsonb_build_object(
    'consumer', (select c.name from eve.consumers c where c.id = (job).consumer_id)
  );
$function$;

CREATE OR REPLACE FUNCTION public.eve_job_search(states text[] DEFAULT NULL::text[], kinds text[] DEFAULT NULL::text[], consumer text DEFAULT NULL::text, batch_id uuid DEFAULT NULL::uuid, before bigint DEFAULT NULL::bigint, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
#variable_conflict use_column
declare
  v_at_most constant integer := least(greatest(coalesce(eve_job_search.at_most, 50), 1), 200);
  v_owner constant uuid := case
    when eve_job_search.consumer = 'project' then '00000000-0000-0000-0000-000000000000'
    else (select c.id from eve.consumers c where c.name = eve_job_search.consumer)
  end;
  v_jobs jsonb;
  v_count integer;
  v_last bigint;
begin
  select coalesce(jsonb_agg(eve.batch_job_row(row(j.*)::eve.jobs) order by j.no desc), '[]'), count(*), min(j.no)
  into v_jobs, v_count, v_last
  from (
    select j.*
    from eve.jobs j
    where (eve_job_search.consumer is null or j.owner_id = v_owner)
      and (eve_job_search.before is null or j.no < eve_job_search.before)
      and (eve_job_search.states is null or j.state = any (eve_job_search.states))
      and (eve_job_search.kinds is null or j.kind = any (eve_job_search.kinds))
      and (eve_job_search.batch_id is null or j.batch_id = eve_job_search.batch_id)
    order by j.no desc
    limit v_at_most
  ) j;
  return jsonb_build_object('jobs', v_jobs, 'next', case when v_count = v_at_most then v_last end);
end;
$function$;
comment on function public.eve_job_search is 'Jobs of all callers, the newest first, without what they were asked and answered.';

CREATE OR REPLACE FUNCTION public.eve_job_detail(id uuid)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'job', eve.batch_job_row(j),
    'said', case
      when exists (
        select
        from eve.consumers c
        where c.capture and (c.id = j.consumer_id or j.consumer_id is null and c.kind = 'project')
      )
      -- A request may say no, in its body or, where that belongs to another API, beside it.
      and 'false' not in (coalesce(j.body ->> 'capture', ''), coalesce(j.body #>> '{body,capture}', '')) then jsonb_build_object('body', eve.capped(j.body), 'result', j.result)
    end
  )
  from eve.jobs j
  where j.id = eve_job_detail.id;
$function$;
comment on function public.eve_job_detail is 'One job, for administrators; what it was asked and answered where its caller''s row allows that to be kept.';

CREATE OR REPLACE FUNCTION public.eve_batch_search(before bigint DEFAULT NULL::bigint, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  with page as (
    select b.*
    from eve.batches b
    where eve_batch_search.before is null or b.no < eve_batch_search.before
    order by b.no desc
    limit least(greatest(coalesce(eve_batch_search.at_most, 50), 1), 200)
  )
  select jsonb_build_object(
    'batches', coalesce(
      jsonb_agg(
        jsonb_build_object(
          'id', p.id, 'no', p.no, 'consumer', (select c.name from eve.consumers c where c.id = p.consumer_id), 'endpoint', p.endpoint,
          'state', p.state, 'models', to_jsonb(p.models), 'total', p.total, 'completed', p.completed, 'failed', p.failed,
          'expired', p.expired, 'errors', coalesce(jsonb_array_length(p.errors), 0), 'created_at', p.created_at, 'ended_at', p.ended_at,
          'expires_at', p.expires_at
        )
        order by p.no desc
      ),
      '[]'
    ),
    'next', case when count(*) = least(greatest(coalesce(eve_batch_search.at_most, 50), 1), 200) then min(p.no) end
  )
  from page p;
$function$;
comment on function public.eve_batch_search is 'Batches of all callers, the newest first, and how many of their lines have ended.';

-- responses -----------------------------------------------------------------------------------------------------------

create table eve.responses (
  id uuid not null,
  consumer_id uuid,
  owner_id uuid generated always as (COALESCE(consumer_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored,
  token_id uuid,
  model text not null,
  models text[] not null,
  state text not null,
  background boolean not null,
  store boolean not null,
  metadata jsonb,
  answer jsonb,
  error_code text,
  error_detail text,
  created_at timestamp with time zone not null,
  ended_at timestamp with time zone,
  expires_at timestamp with time zone,
  constraint responses_answer_given CHECK (((answer IS NOT NULL) = (state = ANY (ARRAY['completed'::text, 'incomplete'::text])))),
  constraint responses_answer_size CHECK ((length((answer)::text) <= 524288)),
  constraint responses_ended CHECK (((ended_at IS NOT NULL) = (state <> ALL (ARRAY['queued'::text, 'in_progress'::text])))),
  constraint responses_error_given CHECK (((error_code IS NOT NULL) = (state = 'failed'::text))),
  constraint responses_metadata_size CHECK ((length((metadata)::text) <= 65536)),
  constraint responses_pkey PRIMARY KEY (id),
  constraint responses_state_known CHECK ((state = ANY (ARRAY['queued'::text, 'in_progress'::text, 'completed'::text, 'incomplete'::text, 'failed'::text, 'cancelled'::text]))),
  constraint responses_texts_size CHECK ((((length(model) >= 1) AND (length(model) <= 200)) AND (length(error_code) <= 100) AND (length(error_detail) <= 2000)))
) with (fillfactor=70);
alter table eve.responses enable row level security;
CREATE INDEX responses_created_at_idx ON eve.responses USING btree (created_at);
CREATE INDEX responses_expires_at_idx ON eve.responses USING btree (expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX responses_owner_id_created_at_idx ON eve.responses USING btree (owner_id, created_at);
comment on table eve.responses is 'Responses that are kept: what was asked for in the background, and what came of it. Like eve.jobs it outlives what it names.';
comment on column eve.responses.id is 'Its job''s, too, where it is made in the background.';
comment on column eve.responses.model is 'As its caller named it.';
comment on column eve.responses.models is 'Those that may answer it, or stage:NAME: who may use none of them does not see it.';
comment on column eve.responses.store is 'False: its caller did not want it kept, and it leaves an hour after its end.';
comment on column eve.responses.answer is 'The response object as the call was answered; null: it has not ended, or there is none.';
comment on column eve.responses.expires_at is 'It is gone then; null: as eve.retention says.';

CREATE OR REPLACE FUNCTION eve.responses_follow()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION eve.responses_for(id uuid, consumer_id uuid, token_id uuid)
 RETURNS SETOF eve.responses
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION eve.response_json(response eve.responses)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(response) - '{consumer_id,owner_id,token_id,models,ended_at,expires_at}'::text[];
$function$;

CREATE OR REPLACE FUNCTION eve.response_missing(id uuid)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select eve.refused('not_found', format('There is no response resp_%s, or it is not yours.', replace(response_missing.id::text, '-', '')));
$function$;

CREATE OR REPLACE FUNCTION public.eve_response_create(job jsonb, model text, store boolean, metadata jsonb DEFAULT NULL::jsonb, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
    insert into eve.responses (id, consumer_id, token_id, model, models, state, background, store, metadata, created_at)
    select v_id, eve_response_create.consumer_id, eve_response_create.token_id, eve_response_create.model,
      coalesce(j.models, array[eve_response_create.model]), 'queued', true, eve_response_create.store, eve_response_create.metadata,
      j.submitted_at
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
$function$;
comment on function public.eve_response_create is 'Hands in a response that is made in the background.';

CREATE OR REPLACE FUNCTION public.eve_response(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_response is 'A response that is kept, for those whose it is.';

CREATE OR REPLACE FUNCTION public.eve_response_cancel(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_response_cancel is 'Cancels a response that has not ended.';

CREATE OR REPLACE FUNCTION public.eve_response_delete(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;
comment on function public.eve_response_delete is 'Deletes a response that is kept.';

CREATE OR REPLACE FUNCTION eve.retention_of_responses(relation regclass, table_name text, before timestamp with time zone, at_most integer, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
$function$;

-- uploads -------------------------------------------------------------------------------------------------------------

create table eve.uploads (
  id uuid not null,
  consumer_id uuid,
  owner_id uuid generated always as (COALESCE(consumer_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored,
  tenant_id text not null,
  filename text not null,
  bytes bigint not null,
  state text not null default 'pending'::text,
  created_at timestamp with time zone not null,
  expires_at timestamp with time zone not null,
  constraint uploads_bytes_range CHECK (((bytes >= 1) AND (bytes <= 1000000000))),
  constraint uploads_filename_length CHECK (((length(filename) >= 1) AND (length(filename) <= 255))),
  constraint uploads_pkey PRIMARY KEY (id),
  constraint uploads_state_known CHECK ((state = ANY (ARRAY['pending'::text, 'completed'::text, 'cancelled'::text])))
);
alter table eve.uploads enable row level security;
CREATE INDEX uploads_expires_at_idx ON eve.uploads USING btree (expires_at);
CREATE INDEX uploads_owner_id_idx ON eve.uploads USING btree (owner_id);
comment on table eve.uploads is 'Files of batches that are sent in parts.';
comment on column eve.uploads.id is 'The file''s, too, once it is complete.';
comment on column eve.uploads.bytes is 'Of the whole, as it was announced.';
comment on column eve.uploads.expires_at is 'Nothing is taken after that; a pending one has expired then.';

create table eve.upload_parts (
  id uuid not null,
  upload_id uuid not null,
  no bigint not null generated always as identity,
  sha256 text not null,
  bytes bigint not null,
  created_at timestamp with time zone not null,
  constraint upload_parts_bytes_counted CHECK ((bytes > 0)),
  constraint upload_parts_pkey PRIMARY KEY (id),
  constraint upload_parts_sha256_form CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
  constraint upload_parts_upload_id_fkey FOREIGN KEY (upload_id) REFERENCES eve.uploads(id) ON DELETE CASCADE
);
alter table eve.upload_parts enable row level security;
CREATE INDEX upload_parts_upload_id_no_idx ON eve.upload_parts USING btree (upload_id, no);
comment on table eve.upload_parts is 'Parts that have arrived. In which order they make the file is said at its end.';

CREATE OR REPLACE FUNCTION eve.uploads_for(id uuid, consumer_id uuid, token_id uuid)
 RETURNS SETOF eve.uploads
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  perform eve.require_live_caller(uploads_for.consumer_id, uploads_for.token_id);
  return query
    select u.*
    from eve.uploads u
    where u.id = uploads_for.id and (uploads_for.consumer_id is null or u.owner_id = uploads_for.consumer_id);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.upload_json(upload eve.uploads)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(upload) - '{owner_id,consumer_id}'::text[] || jsonb_build_object(
    'state', case when (upload).state = 'pending' and (upload).expires_at <= eve.clock() then 'expired' else (upload).state end
  );
$function$;

CREATE OR REPLACE FUNCTION eve.upload_missing(id uuid)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select eve.refused('not_found', format('There is no upload upload_%s, or it is not yours.', replace(upload_missing.id::text, '-', '')));
$function$;

CREATE OR REPLACE FUNCTION eve.upload_over(upload eve.uploads)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select eve.refused('invalid_request', format('The upload is %s: begin another one.', eve.upload_json(upload_over.upload) ->> 'state'));
$function$;

CREATE OR REPLACE FUNCTION public.eve_upload_create(id uuid, tenant_id text, filename text, bytes bigint, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_lasts constant interval := '1 hour';
  v_most constant integer := 100;
  v_now constant timestamptz := eve.clock();
  v_owner constant uuid := coalesce(eve_upload_create.consumer_id, '00000000-0000-0000-0000-000000000000');
  v_upload eve.uploads;
begin
  perform eve.require_live_caller(eve_upload_create.consumer_id, eve_upload_create.token_id);
  if (select count(*) from eve.uploads u where u.owner_id = v_owner and u.state = 'pending' and u.expires_at > v_now) >= v_most then
    return eve.refused(
      'jobs_full', format('You have %s uploads under way. Complete or cancel some of them, or wait until they have expired.', v_most), null, 60000
    );
  end if;
  insert into eve.uploads (id, consumer_id, tenant_id, filename, bytes, created_at, expires_at)
  values (
    eve_upload_create.id, eve_upload_create.consumer_id, eve_upload_create.tenant_id, left(eve_upload_create.filename, 255),
    eve_upload_create.bytes, v_now, v_now + v_lasts
  )
  returning * into v_upload;
  return jsonb_build_object('status', 'found', 'upload', eve.upload_json(v_upload));
end;
$function$;
comment on function public.eve_upload_create is 'Begins to take a file of a batch in parts.';

CREATE OR REPLACE FUNCTION public.eve_upload(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_upload eve.uploads;
begin
  select u.* into v_upload from eve.uploads_for(eve_upload.id, eve_upload.consumer_id, eve_upload.token_id) u;
  if not found then
    return eve.upload_missing(eve_upload.id);
  end if;
  return jsonb_build_object(
    'status', 'found', 'upload', eve.upload_json(v_upload), 'parts', (
      select coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'sha256', p.sha256, 'bytes', p.bytes) order by p.no), '[]')
      from eve.upload_parts p
      where p.upload_id = v_upload.id
    )
  );
end;
$function$;
comment on function public.eve_upload is 'A file of a batch that is sent in parts, and what has arrived.';

CREATE OR REPLACE FUNCTION public.eve_upload_part(id uuid, upload_id uuid, sha256 text, bytes bigint, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_most constant integer := 1000;
  v_now constant timestamptz := eve.clock();
  v_upload eve.uploads;
  v_has record;
begin
  perform from eve.uploads_for(eve_upload_part.upload_id, eve_upload_part.consumer_id, eve_upload_part.token_id);
  if not found then
    return eve.upload_missing(eve_upload_part.upload_id);
  end if;
  select u.* into v_upload from eve.uploads u where u.id = eve_upload_part.upload_id for update;
  if v_upload.state <> 'pending' or v_upload.expires_at <= v_now then
    return eve.upload_over(v_upload);
  end if;
  select count(*) as parts, coalesce(sum(p.bytes), 0) as bytes into v_has from eve.upload_parts p where p.upload_id = v_upload.id;
  if v_has.parts >= v_most or v_has.bytes + eve_upload_part.bytes > 2 * v_upload.bytes then
    return eve.refused(
      'invalid_request',
      format(
        'The upload has %s parts of %s bytes, and may have %s of %s: twice what it was announced with.', v_has.parts, v_has.bytes, v_most,
        2 * v_upload.bytes
      )
    );
  end if;
  insert into eve.upload_parts (id, upload_id, sha256, bytes, created_at)
  values (eve_upload_part.id, v_upload.id, eve_upload_part.sha256, eve_upload_part.bytes, v_now);
  return jsonb_build_object('status', 'noted', 'created_at', v_now);
end;
$function$;
comment on function public.eve_upload_part is 'Writes down a part of a file that has been stored.';

CREATE OR REPLACE FUNCTION public.eve_upload_complete(id uuid, part_ids uuid[], consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_keep constant interval := '30 days';
  v_now constant timestamptz := eve.clock();
  v_upload eve.uploads;
  v_parts record;
  v_file eve.batch_files;
begin
  perform from eve.uploads_for(eve_upload_complete.id, eve_upload_complete.consumer_id, eve_upload_complete.token_id);
  if not found then
    return eve.upload_missing(eve_upload_complete.id);
  end if;
  select u.* into v_upload from eve.uploads u where u.id = eve_upload_complete.id for update;
  select array_agg(p.sha256 order by a.nr) as hashes, coalesce(sum(p.bytes), 0) as bytes, count(p.id) as found, count(distinct p.id) as different
  into v_parts
  from unnest(eve_upload_complete.part_ids) with ordinality as a (id, nr)
  join eve.upload_parts p on p.id = a.id and p.upload_id = v_upload.id;
  select f.* into v_file from eve.batch_files f where f.id = v_upload.id;
  if v_upload.state = 'completed' and v_file.parts = v_parts.hashes then
    return jsonb_build_object('status', 'completed', 'file', eve.batch_file_json(v_file));
  elsif v_upload.state <> 'pending' or v_upload.expires_at <= v_now then
    return eve.upload_over(v_upload);
  elsif v_parts.different < cardinality(eve_upload_complete.part_ids) or v_parts.found = 0 then
    return eve.refused(
      'invalid_request', 'part_ids must be parts of this upload, each once.', '[{"field": "part_ids", "problem": "must be parts of this upload, each once"}]'
    );
  elsif v_parts.bytes <> v_upload.bytes then
    return eve.refused(
      'invalid_request', format('The parts have %s bytes together, and %s were announced.', v_parts.bytes, v_upload.bytes),
      '[{"field": "part_ids", "problem": "must have as many bytes as were announced"}]'
    );
  end if;
  insert into eve.batch_files (id, consumer_id, purpose, filename, bytes, tenant_id, parts, created_at, expires_at)
  values (
    v_upload.id, v_upload.consumer_id, 'batch', v_upload.filename, v_upload.bytes, v_upload.tenant_id, v_parts.hashes, v_now, v_now + v_keep
  )
  returning * into v_file;
  update eve.uploads u set state = 'completed' where u.id = v_upload.id;
  return jsonb_build_object('status', 'completed', 'file', eve.batch_file_json(v_file));
end;
$function$;
comment on function public.eve_upload_complete is 'Makes a file of the parts that were sent.';

CREATE OR REPLACE FUNCTION public.eve_upload_cancel(id uuid, consumer_id uuid DEFAULT NULL::uuid, token_id uuid DEFAULT NULL::uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_upload eve.uploads;
begin
  perform from eve.uploads_for(eve_upload_cancel.id, eve_upload_cancel.consumer_id, eve_upload_cancel.token_id);
  if not found then
    return eve.upload_missing(eve_upload_cancel.id);
  end if;
  select u.* into v_upload from eve.uploads u where u.id = eve_upload_cancel.id for update;
  if v_upload.state = 'completed' then
    return eve.upload_over(v_upload);
  end if;
  update eve.uploads u set state = 'cancelled' where u.id = v_upload.id;
  return jsonb_build_object('status', 'cancelled');
end;
$function$;
comment on function public.eve_upload_cancel is 'Gives up a file of a batch that is sent in parts.';

CREATE OR REPLACE FUNCTION eve.retention_of_uploads(relation regclass, table_name text, before timestamp with time zone, at_most integer, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
begin
  with old as (
    select u.id
    from eve.uploads u
    where u.expires_at <= retention_of_uploads.before
    order by u.expires_at
    limit retention_of_uploads.at_most
    for update skip locked
  )
  delete from eve.uploads u using old where u.id = old.id;
  get diagnostics deleted = row_count;
  next_after := case when deleted >= retention_of_uploads.at_most then '{}'::jsonb end;
end;
$function$;

-- chats_tables --------------------------------------------------------------------------------------------------------

create table public.chats (
  id uuid not null default gen_random_uuid(),
  title text,
  user_id text,
  owner uuid default auth.uid(),
  consumer_id uuid,
  description text,
  metadata jsonb not null default '{}'::jsonb,
  leaf_id uuid,
  messages_count bigint not null default 0,
  stored_bytes bigint not null default 0,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  archived_at timestamp with time zone,
  deleted_at timestamp with time zone,
  expires_at timestamp with time zone,
  constraint chats_consumer_id_fkey FOREIGN KEY (consumer_id) REFERENCES eve.consumers(id) ON DELETE SET NULL,
  constraint chats_description_size CHECK ((octet_length(description) <= 16000)),
  constraint chats_metadata_size CHECK ((octet_length((metadata)::text) <= 16384)),
  constraint chats_pkey PRIMARY KEY (id),
  constraint chats_title_size CHECK ((octet_length(title) <= 2000)),
  constraint chats_user_id_size CHECK ((octet_length(user_id) <= 800))
);
alter table public.chats enable row level security;
CREATE INDEX chats_consumer_id_idx ON public.chats USING btree (consumer_id, created_at DESC, id DESC) WHERE (consumer_id IS NOT NULL);
CREATE INDEX chats_consumer_id_user_id_idx ON public.chats USING btree (consumer_id, user_id, created_at DESC, id DESC) WHERE (user_id IS NOT NULL);
CREATE INDEX chats_created_at_idx ON public.chats USING btree (created_at DESC, id DESC);
CREATE INDEX chats_deleted_at_idx ON public.chats USING btree (deleted_at) WHERE (deleted_at IS NOT NULL);
CREATE INDEX chats_expires_at_idx ON public.chats USING btree (expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX chats_owner_idx ON public.chats USING btree (owner, created_at DESC, id DESC) WHERE (owner IS NOT NULL);
CREATE TRIGGER eve_count_chat AFTER INSERT OR DELETE OR UPDATE OF owner ON public.chats FOR EACH ROW EXECUTE FUNCTION eve.count_chat(); -- enabled
create policy chats_own on public.chats as permissive for all to authenticated using (owner = ( SELECT auth.uid() AS uid)) with check ((owner = ( SELECT auth.uid() AS uid)) AND (consumer_id IS NULL));
comment on table public.chats is 'Conversations. Readable by their owners alone.';
comment on column public.chats.user_id is 'The app''s own name for the user whose it is.';
comment on column public.chats.owner is 'The signed-in user (auth.users) whose it is; null: an app''s.';
comment on column public.chats.consumer_id is 'The consumer that made it and alone sees it; null: a signed-in user''s or the project''s.';
comment on column public.chats.leaf_id is 'The message with which the conversation goes on if nobody says otherwise.';
comment on column public.chats.messages_count is 'Messages in it, counted as they come.';
comment on column public.chats.stored_bytes is 'What all that is in it takes, counted as it comes (20261125000150_chat_usage.sql says how).';
comment on column public.chats.deleted_at is 'Deleted, and can be restored until retention takes it away.';
comment on column public.chats.expires_at is 'Retention takes it away then; null: never.';

create table public.messages (
  id uuid not null default gen_random_uuid(),
  chat_id uuid not null,
  parent_id uuid,
  role text not null default 'user'::text,
  content text not null default ''::text,
  message_type text not null default 'text'::text,
  parts jsonb,
  client_id text,
  request_id text,
  usage jsonb,
  feedback text,
  state text not null default 'complete'::text,
  created_at timestamp with time zone not null default now(),
  search tsvector generated always as ((to_tsvector('russian'::regconfig, lower(("left"(COALESCE(content, ''::text), 100000) COLLATE "und-x-icu"))) || to_tsvector('english'::regconfig, lower(("left"(COALESCE(content, ''::text), 100000) COLLATE "und-x-icu"))))) stored,
  constraint messages_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES public.chats(id) ON DELETE CASCADE,
  constraint messages_client_id_size CHECK (((octet_length(client_id) >= 1) AND (octet_length(client_id) <= 800))),
  constraint messages_content_size CHECK ((octet_length(content) <= 1000000)),
  constraint messages_feedback_size CHECK ((octet_length(feedback) <= 8000)),
  constraint messages_message_type_size CHECK ((octet_length(message_type) <= 400)),
  constraint messages_parts_size CHECK ((octet_length((parts)::text) <= 262144)),
  constraint messages_pkey PRIMARY KEY (id),
  constraint messages_request_id_size CHECK ((octet_length(request_id) <= 800)),
  constraint messages_role_known CHECK ((role = ANY (ARRAY['user'::text, 'assistant'::text, 'system'::text, 'tool'::text]))),
  constraint messages_state_known CHECK ((state = ANY (ARRAY['complete'::text, 'pending'::text, 'broken_off'::text]))),
  constraint messages_usage_size CHECK ((octet_length((usage)::text) <= 4096))
);
alter table public.messages enable row level security;
CREATE INDEX messages_chat_id_created_at_idx ON public.messages USING btree (chat_id, created_at, id);
CREATE UNIQUE INDEX messages_client_id_key ON public.messages USING btree (chat_id, client_id) WHERE (client_id IS NOT NULL);
CREATE INDEX messages_pending_idx ON public.messages USING btree (created_at) WHERE (state = 'pending'::text);
CREATE INDEX messages_search_idx ON public.messages USING gin (search);
CREATE TRIGGER eve_count_answer AFTER UPDATE OF content, parts ON public.messages FOR EACH ROW EXECUTE FUNCTION eve.count_answer(); -- enabled
CREATE TRIGGER eve_count_deleted AFTER DELETE ON public.messages REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION eve.count_chat_rows(); -- enabled
CREATE TRIGGER eve_place_message BEFORE INSERT ON public.messages FOR EACH ROW EXECUTE FUNCTION eve.place_message(); -- enabled
create policy messages_add on public.messages as permissive for insert to authenticated with check (EXISTS ( SELECT
   FROM public.chats c
  WHERE ((c.id = messages.chat_id) AND (c.owner = ( SELECT auth.uid() AS uid)) AND (c.deleted_at IS NULL))));
create policy messages_feedback on public.messages as permissive for update to authenticated using (EXISTS ( SELECT
   FROM public.chats c
  WHERE ((c.id = messages.chat_id) AND (c.owner = ( SELECT auth.uid() AS uid))))) with check (EXISTS ( SELECT
   FROM public.chats c
  WHERE ((c.id = messages.chat_id) AND (c.owner = ( SELECT auth.uid() AS uid)))));
create policy messages_read on public.messages as permissive for select to authenticated using (EXISTS ( SELECT
   FROM public.chats c
  WHERE ((c.id = messages.chat_id) AND (c.owner = ( SELECT auth.uid() AS uid)))));
comment on table public.messages is 'What was said. A row is never rewritten by another text: an edit is a further branch.';
comment on column public.messages.parent_id is 'What it answers or follows; null: it begins the conversation. Several with one parent are branches.';
comment on column public.messages.parts is 'What is not text, in the form of the gateway''s own API.';
comment on column public.messages.client_id is 'The sender''s name for it: the same one again adds nothing.';
comment on column public.messages.request_id is 'The gateway''s call that made it.';
comment on column public.messages.state is 'complete; pending: the answer is being written; broken_off: what came before its writing ended early.';

create table public.message_images (
  id uuid not null default gen_random_uuid(),
  message_id uuid not null,
  image_name text,
  s3_path text,
  s3_url text,
  image_type text,
  description text,
  width integer,
  height integer,
  file_size bigint,
  tenant_id text,
  file_sha256 text,
  created_at timestamp with time zone not null default now(),
  constraint message_images_message_id_fkey FOREIGN KEY (message_id) REFERENCES public.messages(id) ON DELETE CASCADE,
  constraint message_images_pkey PRIMARY KEY (id),
  constraint message_images_sha256_form CHECK ((file_sha256 ~ '^[0-9a-f]{64}$'::text)),
  constraint message_images_sizes_positive CHECK (((width >= 0) AND (height >= 0) AND (file_size >= 0))),
  constraint message_images_texts_size CHECK (((octet_length(image_name) <= 2000) AND (octet_length(s3_path) <= 1024) AND (octet_length(s3_url) <= 2048) AND (octet_length(image_type) <= 400) AND (octet_length(description) <= 16000)))
);
alter table public.message_images enable row level security;
CREATE INDEX message_images_message_id_idx ON public.message_images USING btree (message_id, created_at, id);
CREATE TRIGGER eve_count_added AFTER INSERT ON public.message_images REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION eve.count_chat_rows(); -- enabled
CREATE TRIGGER eve_count_deleted AFTER DELETE ON public.message_images REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION eve.count_chat_rows(); -- enabled
CREATE TRIGGER eve_release_image AFTER DELETE ON public.message_images FOR EACH ROW EXECUTE FUNCTION eve.release_image(); -- enabled
create policy message_images_read on public.message_images as permissive for select to authenticated using (EXISTS ( SELECT
   FROM (public.messages m
     JOIN public.chats c ON ((c.id = m.chat_id)))
  WHERE ((m.id = message_images.message_id) AND (c.owner = ( SELECT auth.uid() AS uid)))));
comment on table public.message_images is 'Pictures of messages.';
comment on column public.message_images.s3_url is 'A lasting address; what it leads to is signed for each reading.';
comment on column public.message_images.file_sha256 is 'With tenant_id: the object of public.media_objects, which stays as long as this row does.';

create table public.search_results (
  id uuid not null default gen_random_uuid(),
  chat_id uuid not null,
  message_id uuid,
  block_id text,
  page_number integer,
  block_text text,
  coords_norm jsonb,
  coords_px jsonb,
  created_at timestamp with time zone not null default now(),
  constraint search_results_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES public.chats(id) ON DELETE CASCADE,
  constraint search_results_coords_size CHECK (((octet_length((coords_norm)::text) <= 4096) AND (octet_length((coords_px)::text) <= 4096))),
  constraint search_results_message_id_fkey FOREIGN KEY (message_id) REFERENCES public.messages(id) ON DELETE SET NULL,
  constraint search_results_pkey PRIMARY KEY (id),
  constraint search_results_texts_size CHECK (((octet_length(block_id) <= 800) AND (octet_length(block_text) <= 100000)))
);
alter table public.search_results enable row level security;
CREATE INDEX search_results_chat_id_idx ON public.search_results USING btree (chat_id, created_at, id);
CREATE INDEX search_results_message_id_idx ON public.search_results USING btree (message_id) WHERE (message_id IS NOT NULL);
CREATE TRIGGER eve_count_added AFTER INSERT ON public.search_results REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION eve.count_chat_rows(); -- enabled
CREATE TRIGGER eve_count_deleted AFTER DELETE ON public.search_results REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION eve.count_chat_rows(); -- enabled
create policy search_results_own on public.search_results as permissive for all to authenticated using (EXISTS ( SELECT
   FROM public.chats c
  WHERE ((c.id = search_results.chat_id) AND (c.owner = ( SELECT auth.uid() AS uid))))) with check ((EXISTS ( SELECT
   FROM public.chats c
  WHERE ((c.id = search_results.chat_id) AND (c.owner = ( SELECT auth.uid() AS uid)) AND (c.deleted_at IS NULL)))) AND ((message_id IS NULL) OR (EXISTS ( SELECT
   FROM public.messages m
  WHERE ((m.id = search_results.message_id) AND (m.chat_id = search_results.chat_id))))));
comment on table public.search_results is 'Places in documents that a search found for a chat.';
comment on column public.search_results.coords_norm is 'Where on the page, in parts of its width and height; coords_px: in pixels.';

create table public.chat_shares (
  id uuid not null default gen_random_uuid(),
  chat_id uuid not null,
  token_hash text not null,
  snapshot jsonb not null,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone,
  constraint chat_shares_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES public.chats(id) ON DELETE CASCADE,
  constraint chat_shares_pkey PRIMARY KEY (id),
  constraint chat_shares_token_hash_form CHECK ((token_hash ~ '^[0-9a-f]{64}$'::text))
);
alter table public.chat_shares enable row level security;
CREATE INDEX chat_shares_chat_id_idx ON public.chat_shares USING btree (chat_id);
CREATE UNIQUE INDEX chat_shares_token_hash_key ON public.chat_shares USING btree (token_hash);
CREATE TRIGGER eve_count_added AFTER INSERT ON public.chat_shares REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION eve.count_chat_rows(); -- enabled
CREATE TRIGGER eve_count_deleted AFTER DELETE ON public.chat_shares REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION eve.count_chat_rows(); -- enabled
create policy chat_shares_own on public.chat_shares as permissive for all to authenticated using (EXISTS ( SELECT
   FROM public.chats c
  WHERE ((c.id = chat_shares.chat_id) AND (c.owner = ( SELECT auth.uid() AS uid)))));
comment on table public.chat_shares is 'Snapshots of chats that whoever has the link may read.';
comment on column public.chat_shares.token_hash is 'SHA-256 of the link''s secret part, 64 hexadecimal digits.';

CREATE OR REPLACE FUNCTION eve.release_image()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  if old.file_sha256 is not null then
    delete from eve.media_references r
    where r.tenant_id = old.tenant_id and r.file_sha256 = old.file_sha256 and r.ref_kind = 'message_image' and r.ref_id = old.id::text;
  end if;
  return null;
end;
$function$;

-- chat_usage ----------------------------------------------------------------------------------------------------------

create table eve.chat_owners (
  owner uuid not null,
  chats bigint not null default 0,
  messages bigint not null default 0,
  bytes bigint not null default 0,
  constraint chat_owners_pkey PRIMARY KEY (owner)
) with (fillfactor=50);
alter table eve.chat_owners enable row level security;
comment on table eve.chat_owners is 'What each signed-in user keeps in chats. Messages and bytes are in whole steps of each chat.';

CREATE OR REPLACE FUNCTION eve.chat_steps(counted bigint, step bigint)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select (chat_steps.counted + chat_steps.step - 1) / chat_steps.step * chat_steps.step;
$function$;

CREATE OR REPLACE FUNCTION eve.message_bytes(content text, parts jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return 200 + octet_length(message_bytes.content) + coalesce(octet_length(message_bytes.parts::text), 0);
end;
$function$;

CREATE OR REPLACE FUNCTION eve.chat_owner_keeps(owner uuid, chats bigint, messages bigint, bytes bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_kept eve.chat_owners;
  v_limit record;
begin
  insert into eve.chat_owners as o (owner, chats, messages, bytes)
  values (chat_owner_keeps.owner, chat_owner_keeps.chats, chat_owner_keeps.messages, chat_owner_keeps.bytes)
  on conflict (owner) do update
  set chats = o.chats + excluded.chats, messages = o.messages + excluded.messages, bytes = o.bytes + excluded.bytes
  returning * into v_kept;
  if v_kept.chats <= 0 then
    -- Of somebody who has no chats nothing is left.
    delete from eve.chat_owners o where o.owner = v_kept.owner;
    return;
  end if;
  select l.thing, l.most into v_limit
  from (values
    (chat_owner_keeps.chats, v_kept.chats, eve.alert_setting('chats_user_max', 10000), 'chats'),
    (chat_owner_keeps.messages, v_kept.messages, eve.alert_setting('chats_user_max_messages', 200000), 'messages'),
    (chat_owner_keeps.bytes, v_kept.bytes, eve.alert_setting('chats_user_max_bytes', 268435456), 'bytes')
  ) as l (added, kept, most, thing)
  where l.added > 0 and l.kept > l.most
  limit 1;
  if found then
    raise exception 'your chats hold as much as they may, which is % %', v_limit.most, v_limit.thing
      using errcode = 'EV507', hint = 'Erase chats that are not needed, or ask the owner of the project for more.';
  end if;
end;
$function$;
comment on function eve.chat_owner_keeps is 'Counts what a signed-in user keeps in chats.';

CREATE OR REPLACE FUNCTION eve.count_chat()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  if tg_op = 'UPDATE' and old.owner is not distinct from new.owner then
    return null;
  end if;
  if tg_op <> 'INSERT' and old.owner is not null then
    perform eve.chat_owner_keeps(old.owner, -1, -eve.chat_steps(old.messages_count, 16), -eve.chat_steps(old.stored_bytes, 16384));
  end if;
  if tg_op <> 'DELETE' and new.owner is not null then
    perform eve.chat_owner_keeps(new.owner, 1, eve.chat_steps(new.messages_count, 16), eve.chat_steps(new.stored_bytes, 16384));
  end if;
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.chat_keeps(chat_id uuid, messages bigint, bytes bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_chat public.chats;
  v_messages bigint;
  v_bytes bigint;
begin
  update public.chats c
  set messages_count = c.messages_count + chat_keeps.messages, stored_bytes = c.stored_bytes + chat_keeps.bytes
  where c.id = chat_keeps.chat_id
  returning * into v_chat;
  if v_chat.owner is null then
    return;
  end if;
  v_messages := eve.chat_steps(v_chat.messages_count, 16) - eve.chat_steps(v_chat.messages_count - chat_keeps.messages, 16);
  v_bytes := eve.chat_steps(v_chat.stored_bytes, 16384) - eve.chat_steps(v_chat.stored_bytes - chat_keeps.bytes, 16384);
  if v_messages <> 0 or v_bytes <> 0 then
    perform eve.chat_owner_keeps(v_chat.owner, 0, v_messages, v_bytes);
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.place_message()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  v_chat public.chats;
  v_user constant uuid := auth.uid();
  v_bytes bigint;
begin
  select * into v_chat from public.chats c where c.id = new.chat_id for no key update;
  if not found or v_user is distinct from v_chat.owner and v_user is not null then
    -- Row-level security or the foreign key says no, each in its words.
    return new;
  end if;
  -- A table made by hand may take nothing for these; the gateway answers what they would have been.
  new.role := coalesce(new.role, 'user');
  new.content := coalesce(new.content, '');
  new.message_type := coalesce(new.message_type, 'text');
  if new.parent_id is null and coalesce(current_setting('eve.message_begins', true), '') <> 'on' then
    new.parent_id := v_chat.leaf_id;
  elsif new.parent_id is not null and not exists (
    select from public.messages m where m.id = new.parent_id and m.chat_id = new.chat_id
  ) then
    raise exception 'parent_id must be a message of the same chat' using errcode = 'EV400';
  end if;
  new.created_at := greatest(eve.clock(), v_chat.updated_at + interval '1 microsecond');
  v_bytes := eve.message_bytes(new.content, new.parts);
  update public.chats c
  set updated_at = new.created_at, leaf_id = new.id, messages_count = v_chat.messages_count + 1, stored_bytes = v_chat.stored_bytes + v_bytes
  where c.id = new.chat_id;
  -- As eve.chat_keeps does, with the row that is here already.
  if v_chat.owner is not null and (
    v_chat.messages_count % 16 = 0 or (v_chat.stored_bytes + 16383) / 16384 <> (v_chat.stored_bytes + v_bytes + 16383) / 16384
  ) then
    perform eve.chat_owner_keeps(
      v_chat.owner, 0, eve.chat_steps(v_chat.messages_count + 1, 16) - eve.chat_steps(v_chat.messages_count, 16),
      eve.chat_steps(v_chat.stored_bytes + v_bytes, 16384) - eve.chat_steps(v_chat.stored_bytes, 16384)
    );
  end if;
  return new;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.count_answer()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  perform eve.chat_keeps(new.chat_id, 0, eve.message_bytes(new.content, new.parts) - eve.message_bytes(old.content, old.parts));
  return null;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.count_chat_rows()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  v_sign constant integer := case tg_op when 'DELETE' then -1 else 1 end;
  v_kept record;
begin
  if tg_table_name = 'messages' then
    for v_kept in
      select c.id, count(*) as messages, sum(eve.message_bytes(r.content, r.parts)) as bytes
      from changed r
      join public.chats c on c.id = r.chat_id
      group by c.id
      order by c.id
    loop
      perform eve.chat_keeps(v_kept.id, v_sign * v_kept.messages, v_sign * v_kept.bytes::bigint);
    end loop;
  elsif tg_table_name = 'message_images' then
    for v_kept in
      select c.id, sum(octet_length(to_jsonb(r)::text)) as bytes
      from changed r
      join public.messages m on m.id = r.message_id
      join public.chats c on c.id = m.chat_id
      group by c.id
      order by c.id
    loop
      perform eve.chat_keeps(v_kept.id, 0, v_sign * v_kept.bytes::bigint);
    end loop;
  else
    for v_kept in
      select c.id, sum(octet_length(to_jsonb(r)::text)) as bytes
      from changed r
      join public.chats c on c.id = r.chat_id
      group by c.id
      order by c.id
    loop
      perform eve.chat_keeps(v_kept.id, 0, v_sign * v_kept.bytes::bigint);
    end loop;
  end if;
  return null;
end;
$function$;

-- chats ---------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.chat_actor(actor jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_consumer eve.consumers;
  v_refusal jsonb;
begin
  case chat_actor.actor ->> 'kind'
    when 'project' then
      return '{"all": true}';
    when 'consumer' then
      select * into v_consumer from eve.consumers c where c.id = (chat_actor.actor ->> 'consumer_id')::uuid;
      v_refusal := eve.refusal_of_consumer(v_consumer, (chat_actor.actor ->> 'token_id')::uuid, 'chats');
      return coalesce(v_refusal, jsonb_build_object('consumer_id', v_consumer.id));
    when 'user' then
      return jsonb_build_object('owner', chat_actor.actor ->> 'user_id');
    else
      raise exception 'an actor has the kind project, consumer or user' using errcode = 'EV500';
  end case;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.chat_of(who jsonb, chat_id uuid)
 RETURNS public.chats
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_chat public.chats;
begin
  select c.* into v_chat
  from public.chats c
  where c.id = chat_of.chat_id
    and (
      (chat_of.who ->> 'all')::boolean
      or c.consumer_id = (chat_of.who ->> 'consumer_id')::uuid
      or c.owner = (chat_of.who ->> 'owner')::uuid
    );
  return v_chat;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.chat_refusal(who jsonb, chat public.chats, must_be_there boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return case
    when chat_refusal.who ->> 'status' = 'refused' then chat_refusal.who
    when (chat_refusal.chat).id is null then eve.refused('chat_not_found')
    when chat_refusal.must_be_there and (chat_refusal.chat).deleted_at is not null
      then eve.refused('chat_not_found', 'This chat is deleted. Restore it first.')
  end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.chat_json(chat public.chats)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return jsonb_build_object(
    'id', (chat_json.chat).id, 'title', (chat_json.chat).title, 'user_id', (chat_json.chat).user_id, 'owner', (chat_json.chat).owner,
    'consumer_id', (chat_json.chat).consumer_id, 'description', (chat_json.chat).description, 'metadata', coalesce((chat_json.chat).metadata, '{}'),
    'leaf_id', (chat_json.chat).leaf_id, 'created_at', (chat_json.chat).created_at, 'updated_at', (chat_json.chat).updated_at,
    'archived_at', (chat_json.chat).archived_at, 'deleted_at', (chat_json.chat).deleted_at, 'expires_at', (chat_json.chat).expires_at
  );
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_chat_create(actor jsonb, chat jsonb DEFAULT '{}'::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_create.actor);
  v_id constant uuid := coalesce((eve_chat_create.chat ->> 'id')::uuid, gen_random_uuid());
  v_chat public.chats;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  insert into public.chats (id, title, user_id, owner, consumer_id, description, metadata, created_at, updated_at, expires_at)
  values (
    v_id, eve_chat_create.chat ->> 'title', eve_chat_create.chat ->> 'user_id', (v_who ->> 'owner')::uuid,
    (v_who ->> 'consumer_id')::uuid, eve_chat_create.chat ->> 'description', coalesce(eve_chat_create.chat -> 'metadata', '{}'),
    eve.clock(), eve.clock(), (eve_chat_create.chat ->> 'expires_at')::timestamptz
  )
  on conflict (id) do nothing
  returning * into v_chat;
  if found then
    return jsonb_build_object('status', 'created', 'chat', eve.chat_json(v_chat));
  end if;
  v_chat := eve.chat_of(v_who, v_id);
  if v_chat.id is null then
    -- Another's: as if it were taken by chance, which tells nothing of whose.
    return eve.refused('id_taken');
  end if;
  return jsonb_build_object('status', 'present', 'chat', eve.chat_json(v_chat));
end;
$function$;
comment on function public.eve_chat_create is 'Begins a chat.';

CREATE OR REPLACE FUNCTION public.eve_chat(actor jsonb, chat_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat.chat_id);
begin
  return coalesce(
    eve.chat_refusal(v_who, v_chat), jsonb_build_object('status', 'found', 'chat', eve.chat_json(v_chat))
  );
end;
$function$;
comment on function public.eve_chat is 'A chat, for whoever may read it.';

CREATE OR REPLACE FUNCTION public.eve_chats(actor jsonb, user_id text DEFAULT NULL::text, archived boolean DEFAULT false, deleted boolean DEFAULT false, after jsonb DEFAULT NULL::jsonb, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_chats.actor);
  v_most constant integer := least(greatest(eve_chats.at_most, 1), 100);
  v_conditions text[] := '{true}';
  v_chats jsonb;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  -- Written out for each sort of asker: a condition that may be absent would keep the planner from the index that fits.
  if v_who ? 'consumer_id' then
    v_conditions := v_conditions || 'c.consumer_id = $1'::text;
  elsif v_who ? 'owner' then
    v_conditions := v_conditions || 'c.owner = $2'::text;
  end if;
  if eve_chats.user_id is not null then
    v_conditions := v_conditions || 'c.user_id = $3'::text;
  end if;
  if eve_chats.after is not null then
    v_conditions := v_conditions || '(c.created_at, c.id) < ($4, $5)'::text;
  end if;
  if eve_chats.archived is not null then
    v_conditions := v_conditions || format('c.archived_at is %s null', case when eve_chats.archived then 'not' else '' end);
  end if;
  if eve_chats.deleted is not null then
    v_conditions := v_conditions || format('c.deleted_at is %s null', case when eve_chats.deleted then 'not' else '' end);
  end if;
  execute format(
    'select coalesce(jsonb_agg(eve.chat_json(page.chat) order by page.created_at desc, page.id desc), ''[]'')
    from (select c as chat, c.created_at, c.id from public.chats c where %s order by c.created_at desc, c.id desc limit $6) page',
    array_to_string(v_conditions, ' and ')
  )
  into v_chats
  using (v_who ->> 'consumer_id')::uuid, (v_who ->> 'owner')::uuid, eve_chats.user_id,
    (eve_chats.after ->> 'created_at')::timestamptz, (eve_chats.after ->> 'id')::uuid, v_most + 1;
  return eve.chat_page('chats', v_chats, v_most);
end;
$function$;
comment on function public.eve_chats is 'A page of the chats that somebody has.';

CREATE OR REPLACE FUNCTION eve.chat_page(name text, entries jsonb, most integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
declare
  v_last jsonb;
begin
  if jsonb_array_length(chat_page.entries) <= chat_page.most then
    return jsonb_build_object('status', 'listed', chat_page.name, chat_page.entries, 'next', null);
  end if;
  v_last := chat_page.entries -> (chat_page.most - 1);
  return jsonb_build_object(
    'status', 'listed', chat_page.name, chat_page.entries - chat_page.most,
    'next', jsonb_build_object('created_at', v_last -> 'created_at', 'id', v_last -> 'id')
  );
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_chat_change(actor jsonb, chat_id uuid, changes jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_change.actor);
  v_new constant jsonb := eve_chat_change.changes;
  v_now constant timestamptz := eve.clock();
  v_chat public.chats := eve.chat_of(v_who, eve_chat_change.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat, must_be_there => not coalesce(v_new ? 'deleted', false));
begin
  if v_refusal is not null then
    return v_refusal;
  end if;
  update public.chats c
  set title = case when v_new ? 'title' then v_new ->> 'title' else c.title end,
    description = case when v_new ? 'description' then v_new ->> 'description' else c.description end,
    user_id = case when v_new ? 'user_id' then v_new ->> 'user_id' else c.user_id end,
    metadata = case when v_new ? 'metadata' then coalesce(nullif(v_new -> 'metadata', 'null'), '{}') else c.metadata end,
    expires_at = case when v_new ? 'expires_at' then (v_new ->> 'expires_at')::timestamptz else c.expires_at end,
    archived_at = case
      when not v_new ? 'archived' then c.archived_at
      when (v_new ->> 'archived')::boolean then coalesce(c.archived_at, v_now)
    end,
    deleted_at = case
      when not v_new ? 'deleted' then c.deleted_at
      when (v_new ->> 'deleted')::boolean then coalesce(c.deleted_at, v_now)
    end,
    updated_at = greatest(v_now, c.updated_at + interval '1 microsecond')
  where c.id = v_chat.id
  returning * into v_chat;
  return jsonb_build_object('status', 'changed', 'chat', eve.chat_json(v_chat));
end;
$function$;
comment on function public.eve_chat_change is 'Renames, archives, deletes or restores a chat.';

CREATE OR REPLACE FUNCTION public.eve_chat_erase(actor jsonb, chat_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_erase.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat_erase.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
  v_receipt jsonb;
begin
  if v_refusal is not null then
    return v_refusal;
  end if;
  perform from public.chats c where c.id = v_chat.id for update;
  v_receipt := jsonb_build_object(
    'status', 'erased', 'erased_at', eve.clock(), 'chat_id', v_chat.id,
    'messages', (select count(*) from public.messages m where m.chat_id = v_chat.id),
    'images', (
      select count(*) from public.message_images i join public.messages m on m.id = i.message_id where m.chat_id = v_chat.id
    ),
    'search_results', (select count(*) from public.search_results r where r.chat_id = v_chat.id),
    'shares', (select count(*) from public.chat_shares s where s.chat_id = v_chat.id),
    'files', (
      select coalesce(jsonb_agg(distinct jsonb_build_object('tenant_id', i.tenant_id, 'sha256', i.file_sha256)), '[]')
      from public.message_images i
      join public.messages m on m.id = i.message_id
      where m.chat_id = v_chat.id and i.file_sha256 is not null
    )
  );
  delete from public.chats c where c.id = v_chat.id;
  perform eve.chat_counted('eve_chats_removed_total', 'by', 'erasure', 1);
  return v_receipt;
end;
$function$;
comment on function public.eve_chat_erase is 'Takes a chat away for good, with all that is in it.';

CREATE OR REPLACE FUNCTION public.eve_chat_files_left(files jsonb, lease_s integer DEFAULT 120)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  with unused as materialized (
    select o.tenant_id, o.file_sha256
    from jsonb_to_recordset(eve_chat_files_left.files) as f (tenant_id text, sha256 text)
    join public.media_objects o on o.tenant_id = f.tenant_id and o.file_sha256 = f.sha256
    where o.refs_count = 0 and o.state in ('stored', 'verified')
    order by o.tenant_id, o.file_sha256
    for update of o skip locked
  ), marked as (
    update public.media_objects o
    set state = 'deleting', expires_at = eve.clock() + make_interval(secs => least(greatest(eve_chat_files_left.lease_s, 30), 600))
    from unused u
    where o.tenant_id = u.tenant_id and o.file_sha256 = u.file_sha256
    returning eve.media_to_delete(o) as one
  )
  select coalesce(jsonb_agg(m.one), '[]') from marked m;
$function$;
comment on function public.eve_chat_files_left is 'Files of an erased chat that nothing uses any more.';

CREATE OR REPLACE FUNCTION public.eve_chat_share(actor jsonb, chat_id uuid, token_hash text, snapshot jsonb, expires_in_s integer DEFAULT NULL::integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- A snapshot is a copy: with more of them somebody fills the disk with one chat.
  v_most constant integer := 20;
  v_who constant jsonb := eve.chat_actor(eve_chat_share.actor);
  v_chat public.chats := eve.chat_of(v_who, eve_chat_share.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat, must_be_there => true);
  v_share public.chat_shares;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif octet_length(eve_chat_share.snapshot::text) > 5000000 then
    raise exception 'this conversation is too long to be shared: its snapshot has over 5 MB' using errcode = 'EV400';
  end if;
  select * into v_chat from public.chats c where c.id = v_chat.id for no key update;
  if (select count(*) from public.chat_shares s where s.chat_id = v_chat.id) >= v_most then
    raise exception 'a chat has at most % links: take one back first', v_most using errcode = 'EV400';
  end if;
  insert into public.chat_shares (chat_id, token_hash, snapshot, created_at, expires_at)
  values (v_chat.id, eve_chat_share.token_hash, eve_chat_share.snapshot, eve.clock(), eve.clock() + make_interval(secs => eve_chat_share.expires_in_s))
  returning * into v_share;
  return jsonb_build_object(
    'status', 'shared', 'share', jsonb_build_object('id', v_share.id, 'created_at', v_share.created_at, 'expires_at', v_share.expires_at)
  );
end;
$function$;
comment on function public.eve_chat_share is 'Keeps a snapshot of a chat for whoever has its link.';

CREATE OR REPLACE FUNCTION public.eve_chat_shares(actor jsonb, chat_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_shares.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat_shares.chat_id);
begin
  return coalesce(
    eve.chat_refusal(v_who, v_chat),
    (
      select jsonb_build_object(
        'status', 'listed',
        'shares', coalesce(
          jsonb_agg(jsonb_build_object('id', s.id, 'created_at', s.created_at, 'expires_at', s.expires_at) order by s.created_at, s.id), '[]'
        )
      )
      from public.chat_shares s
      where s.chat_id = v_chat.id
    )
  );
end;
$function$;
comment on function public.eve_chat_shares is 'The links of a chat.';

CREATE OR REPLACE FUNCTION public.eve_chat_unshare(actor jsonb, chat_id uuid, share_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_chat_unshare.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat_unshare.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
begin
  if v_refusal is not null then
    return v_refusal;
  end if;
  delete from public.chat_shares s where s.chat_id = v_chat.id and s.id = eve_chat_unshare.share_id;
  return case when found then '{"status": "unshared"}' else eve.refused('share_not_found') end;
end;
$function$;
comment on function public.eve_chat_unshare is 'Takes a link of a chat back.';

CREATE OR REPLACE FUNCTION public.eve_chat_shared(token_hash text)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select coalesce(
    (
      select jsonb_build_object('status', 'found', 'snapshot', s.snapshot, 'created_at', s.created_at, 'expires_at', s.expires_at)
      from public.chat_shares s
      join public.chats c on c.id = s.chat_id
      where s.token_hash = eve_chat_shared.token_hash and c.deleted_at is null
        and coalesce(s.expires_at > eve.clock(), true)
    ),
    eve.refused('share_not_found')
  );
$function$;
comment on function public.eve_chat_shared is 'A shared snapshot, by the hash of its link''s secret.';

CREATE OR REPLACE FUNCTION eve.retention_of_chats(relation regclass, table_name text, before timestamp with time zone, at_most integer, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- Longer than any answer may take.
  v_pending constant interval := '1 hour';
  v_now constant timestamptz := eve.clock();
  v_abandoned bigint;
begin
  if retention_of_chats.after is null then
    delete from public.chat_shares s where s.expires_at <= v_now;
    update public.messages m set state = 'broken_off' where m.state = 'pending' and m.created_at <= v_now - v_pending;
    get diagnostics v_abandoned = row_count;
    perform eve.chat_counted('eve_chat_answers_total', 'state', 'abandoned', v_abandoned);
  end if;
  with over as (
    select c.id
    from public.chats c
    where c.expires_at <= v_now or c.deleted_at <= retention_of_chats.before
    limit retention_of_chats.at_most
    for update skip locked
  )
  delete from public.chats c using over where c.id = over.id;
  get diagnostics deleted = row_count;
  perform eve.chat_counted('eve_chats_removed_total', 'by', 'retention', deleted);
  next_after := case when deleted >= retention_of_chats.at_most then '{}'::jsonb end;
end;
$function$;

-- messages ------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.messages_json(ids uuid[])
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return (
    select coalesce(jsonb_agg(to_jsonb(j) - 'place' order by j.place), '[]')
    from (
      select i.place, m.id, m.chat_id, m.parent_id, m.role, m.content, m.message_type, m.parts, m.client_id, m.request_id, m.usage,
        m.feedback, m.state, m.created_at
      from unnest(messages_json.ids) with ordinality as i (id, place)
      join public.messages m on m.id = i.id
    ) j
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.message_json(message_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return eve.messages_json(array[message_json.message_id]) -> 0;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.message_from(chat_id uuid, message jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_new constant jsonb := message_from.message;
  v_parent uuid := (v_new ->> 'parent_id')::uuid;
  v_begins boolean := v_new ? 'parent_id' and v_parent is null;
  v_message public.messages;
begin
  perform from public.chats c where c.id = message_from.chat_id for no key update;
  select * into v_message
  from public.messages m
  where m.chat_id = message_from.chat_id and m.client_id = v_new ->> 'client_id';
  if found then
    return jsonb_build_object('status', 'present', 'message', eve.message_json(v_message.id));
  end if;
  if v_new ->> 'edits' is not null then
    select m.parent_id into v_parent
    from public.messages m
    where m.chat_id = message_from.chat_id and m.id = (v_new ->> 'edits')::uuid;
    if not found then
      return eve.refused('message_not_found', 'The message that this one edits is not in this chat.');
    end if;
    v_begins := v_parent is null;
  elsif v_parent is not null and not exists (
    select from public.messages m where m.chat_id = message_from.chat_id and m.id = v_parent
  ) then
    return eve.refused('message_not_found', 'The message that this one follows is not in this chat.');
  end if;
  select * into v_message from public.messages m where m.id = (v_new ->> 'id')::uuid;
  if found then
    return case
      when v_message.chat_id = message_from.chat_id
        then jsonb_build_object('status', 'present', 'message', eve.message_json(v_message.id))
      else eve.refused('id_taken')
    end;
  end if;
  perform set_config('eve.message_begins', case when v_begins then 'on' else '' end, true);
  insert into public.messages (id, chat_id, parent_id, role, content, message_type, parts, client_id, request_id, usage, state)
  values (
    coalesce((v_new ->> 'id')::uuid, gen_random_uuid()), message_from.chat_id, v_parent, coalesce(v_new ->> 'role', 'user'),
    coalesce(v_new ->> 'content', ''), coalesce(v_new ->> 'message_type', 'text'), nullif(v_new -> 'parts', 'null'),
    v_new ->> 'client_id', v_new ->> 'request_id', nullif(v_new -> 'usage', 'null'), coalesce(v_new ->> 'state', 'complete')
  )
  returning * into v_message;
  return jsonb_build_object('status', 'added', 'message', eve.message_json(v_message.id));
end;
$function$;
comment on function eve.message_from is 'Adds a message to a chat, once by its client_id or id.';

CREATE OR REPLACE FUNCTION public.eve_message_add(actor jsonb, chat_id uuid, message jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_message_add.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_message_add.chat_id);
begin
  return coalesce(
    eve.chat_refusal(v_who, v_chat, must_be_there => true),
    eve.message_from(v_chat.id, eve_message_add.message - 'state')
  );
end;
$function$;
comment on function public.eve_message_add is 'Adds a message to a chat.';

CREATE OR REPLACE FUNCTION eve.message_from_actor(who jsonb, message_id uuid)
 RETURNS public.messages
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_message public.messages;
begin
  select m.* into v_message
  from public.messages m
  where m.id = message_from_actor.message_id and (eve.chat_of(message_from_actor.who, m.chat_id)).id is not null;
  return v_message;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_message_feedback(actor jsonb, message_id uuid, feedback text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_message_feedback.actor);
  v_message public.messages := eve.message_from_actor(v_who, eve_message_feedback.message_id);
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif v_message.id is null then
    return eve.refused('message_not_found');
  end if;
  update public.messages m
  set feedback = eve_message_feedback.feedback
  where m.id = v_message.id
  returning * into v_message;
  return jsonb_build_object('status', 'changed', 'message', eve.message_json(v_message.id));
end;
$function$;
comment on function public.eve_message_feedback is 'Notes what a reader thinks of a message.';

CREATE OR REPLACE FUNCTION public.eve_messages(actor jsonb, chat_id uuid, after jsonb DEFAULT NULL::jsonb, backwards boolean DEFAULT false, at_most integer DEFAULT 100)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_messages.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_messages.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
  v_most constant integer := least(greatest(eve_messages.at_most, 1), 100);
  v_after constant timestamptz := (eve_messages.after ->> 'created_at')::timestamptz;
  v_after_id constant uuid := (eve_messages.after ->> 'id')::uuid;
  v_ids uuid[];
begin
  if v_refusal is not null then
    return v_refusal;
  elsif eve_messages.backwards then
    v_ids := array(
      select m.id
      from public.messages m
      where m.chat_id = v_chat.id and (m.created_at, m.id) < (coalesce(v_after, 'infinity'), coalesce(v_after_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
      order by m.created_at desc, m.id desc
      limit v_most + 1
    );
  else
    v_ids := array(
      select m.id
      from public.messages m
      where m.chat_id = v_chat.id and (m.created_at, m.id) > (coalesce(v_after, '-infinity'), coalesce(v_after_id, '00000000-0000-0000-0000-000000000000'))
      order by m.created_at, m.id
      limit v_most + 1
    );
  end if;
  return eve.chat_page('messages', eve.messages_json(v_ids), v_most);
end;
$function$;
comment on function public.eve_messages is 'A page of the messages of a chat.';

CREATE OR REPLACE FUNCTION public.eve_message_path(actor jsonb, chat_id uuid, leaf_id uuid DEFAULT NULL::uuid, at_most integer DEFAULT 100)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_message_path.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_message_path.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
  v_most constant integer := least(greatest(eve_message_path.at_most, 1), 1000);
  v_leaf constant uuid := coalesce(eve_message_path.leaf_id, v_chat.leaf_id);
  v_messages jsonb;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif v_leaf is not null and not exists (select from public.messages m where m.id = v_leaf and m.chat_id = v_chat.id) then
    return eve.refused('message_not_found');
  end if;
  with recursive path as (
    select m.id, m.parent_id, 1 as depth
    from public.messages m
    where m.id = v_leaf
    union all
    select m.id, m.parent_id, p.depth + 1
    from path p
    join public.messages m on m.id = p.parent_id and m.chat_id = v_chat.id
    where p.depth < v_most
  )
  select eve.messages_json(array_agg(p.id order by p.depth desc)) into v_messages from path p;
  return jsonb_build_object('status', 'listed', 'messages', v_messages, 'before', v_messages -> 0 -> 'parent_id');
end;
$function$;
comment on function public.eve_message_path is 'The conversation that ends with a message.';

CREATE OR REPLACE FUNCTION public.eve_chat_answer_begin(actor jsonb, chat_id uuid, question jsonb, request_id text, payer text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- More than any history holds that is sent to a model.
  v_most constant integer := 200;
  v_who constant jsonb := eve.chat_actor(eve_chat_answer_begin.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_chat_answer_begin.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat, must_be_there => true);
  v_consumer_id uuid := (v_who ->> 'consumer_id')::uuid;
  v_question jsonb;
  v_answer public.messages;
  v_path jsonb;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif v_who ? 'owner' then
    select c.id into v_consumer_id from eve.consumers c where c.name = eve_chat_answer_begin.payer and c.is_active;
    if not found then
      return eve.refused(
        'credential_insufficient',
        'This project answers no signed-in users in their chats: its owner names the consumer that is charged in EVE_CHATS_CONSUMER.'
      );
    end if;
  end if;
  v_question := eve.message_from(v_chat.id, eve_chat_answer_begin.question - 'state');
  if v_question ->> 'status' = 'refused' then
    return v_question;
  elsif v_question ->> 'status' = 'present' then
    select * into v_answer
    from public.messages m
    where m.chat_id = v_chat.id and m.parent_id = (v_question -> 'message' ->> 'id')::uuid and m.role = 'assistant'
    order by m.state = 'complete' desc, m.created_at desc, m.id desc
    limit 1;
    if v_answer.state = 'complete' then
      return jsonb_build_object('status', 'present', 'question', v_question -> 'message', 'answer', eve.message_json(v_answer.id));
    elsif v_answer.state = 'pending' then
      return eve.refused('request_running', 'The answer to this message is being written. Read the chat, or ask again later.');
    end if;
  end if;
  if v_question -> 'message' -> 'parent_id' <> 'null' then
    v_path := public.eve_message_path(
      eve_chat_answer_begin.actor, v_chat.id, (v_question -> 'message' ->> 'parent_id')::uuid, v_most
    ) -> 'messages';
  end if;
  return jsonb_build_object(
    'status', 'begun', 'question', v_question -> 'message', 'history', coalesce(v_path, '[]'), 'consumer_id', v_consumer_id,
    'answer', eve.message_from(
      v_chat.id,
      jsonb_build_object(
        'role', 'assistant', 'parent_id', v_question -> 'message' -> 'id', 'state', 'pending',
        'request_id', eve_chat_answer_begin.request_id
      )
    ) -> 'message'
  );
end;
$function$;
comment on function public.eve_chat_answer_begin is 'Stores a question and the place of its answer.';

CREATE OR REPLACE FUNCTION public.eve_chat_answer_end(message_id uuid, state text, content text, parts jsonb DEFAULT NULL::jsonb, usage jsonb DEFAULT NULL::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_before text;
  v_message public.messages;
begin
  select m.state into v_before from public.messages m where m.id = eve_chat_answer_end.message_id for no key update;
  update public.messages m
  set state = eve_chat_answer_end.state, content = eve_chat_answer_end.content, parts = nullif(eve_chat_answer_end.parts, 'null'),
    usage = nullif(eve_chat_answer_end.usage, 'null')
  where m.id = eve_chat_answer_end.message_id and m.state <> 'complete'
  returning * into v_message;
  if not found then
    select * into v_message from public.messages m where m.id = eve_chat_answer_end.message_id;
  elsif v_before = 'pending' then
    perform eve.chat_counted('eve_chat_answers_total', 'state', eve_chat_answer_end.state, 1);
  end if;
  return case
    when v_message.id is null then '{"status": "gone"}'
    else jsonb_build_object('status', 'ended', 'message', eve.message_json(v_message.id))
  end;
end;
$function$;
comment on function public.eve_chat_answer_end is 'Stores what an answer came to.';

-- chat_findings -------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.chat_tenant(actor jsonb, tenant_id text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select case chat_tenant.actor ->> 'kind'
    when 'project' then coalesce(chat_tenant.tenant_id, eve.default_tenant())
    when 'consumer' then (
      select coalesce(c.tenant_id, eve.default_tenant()) from eve.consumers c where c.id = (chat_tenant.actor ->> 'consumer_id')::uuid
    )
    else (
      select m.tenant_id
      from eve.tenant_members m
      where m.user_id = (chat_tenant.actor ->> 'user_id')::uuid and m.tenant_id = coalesce(chat_tenant.tenant_id, m.tenant_id)
      order by m.added_at, m.tenant_id
      limit 1
    )
  end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_message_image_add(actor jsonb, message_id uuid, image jsonb, address text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  -- A message shows a handful.
  v_most constant integer := 100;
  v_who constant jsonb := eve.chat_actor(eve_message_image_add.actor);
  v_message constant public.messages := eve.message_from_actor(v_who, eve_message_image_add.message_id);
  v_new constant jsonb := eve_message_image_add.image;
  v_id constant uuid := coalesce((v_new ->> 'id')::uuid, gen_random_uuid());
  v_tenant constant text := eve.chat_tenant(eve_message_image_add.actor, v_new ->> 'tenant_id');
  v_object public.media_objects;
  v_image public.message_images;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif v_message.id is null then
    return eve.refused('message_not_found');
  end if;
  select * into v_image from public.message_images i where i.id = v_id;
  if found then
    return case
      when v_image.message_id = v_message.id then jsonb_build_object('status', 'present', 'image', to_jsonb(v_image))
      else eve.refused('id_taken')
    end;
  elsif (select count(*) from public.message_images i where i.message_id = v_message.id) >= v_most then
    raise exception 'a message has at most % pictures', v_most using errcode = 'EV400';
  end if;
  if v_tenant is not null then
    v_object := eve.media_named(v_tenant, coalesce(v_new ->> 'sha256', v_new ->> 's3_path'));
    select * into v_object
    from public.media_objects o
    where o.tenant_id = v_object.tenant_id and o.file_sha256 = v_object.file_sha256 and o.state in ('stored', 'verified')
    for update;
  end if;
  if v_object.file_sha256 is null and v_new ->> 'sha256' is not null then
    return eve.refused('object_not_found');
  end if;
  insert into public.message_images (
    id, message_id, image_name, s3_path, s3_url, image_type, description, width, height, file_size, tenant_id, file_sha256, created_at
  )
  values (
    v_id, v_message.id, v_new ->> 'image_name', coalesce(v_new ->> 's3_path', v_object.s3_key),
    -- Ours lasts; what an upload answered beside it is over within the hour.
    coalesce(eve_message_image_add.address || v_object.file_sha256 || '?tenant_id=' || v_object.tenant_id, v_new ->> 's3_url'),
    v_new ->> 'image_type', v_new ->> 'description', (v_new ->> 'width')::integer, (v_new ->> 'height')::integer,
    coalesce((v_new ->> 'file_size')::bigint, v_object.size_bytes), v_object.tenant_id, v_object.file_sha256, eve.clock()
  )
  returning * into v_image;
  if v_object.file_sha256 is not null then
    perform eve.media_link(
      v_object.tenant_id, v_object.file_sha256, jsonb_build_object('ref_kind', 'message_image', 'ref_id', v_image.id)
    );
  end if;
  return jsonb_build_object('status', 'added', 'image', to_jsonb(v_image));
end;
$function$;
comment on function public.eve_message_image_add is 'Adds a picture to a message.';

CREATE OR REPLACE FUNCTION public.eve_message_images(actor jsonb, message_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_message_images.actor);
  v_message constant public.messages := eve.message_from_actor(v_who, eve_message_images.message_id);
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif v_message.id is null then
    return eve.refused('message_not_found');
  end if;
  return jsonb_build_object(
    'status', 'listed',
    'images', (
      select coalesce(jsonb_agg(to_jsonb(i) order by i.created_at, i.id), '[]')
      from public.message_images i
      where i.message_id = v_message.id
    )
  );
end;
$function$;
comment on function public.eve_message_images is 'The pictures of a message.';

CREATE OR REPLACE FUNCTION public.eve_search_results_add(actor jsonb, chat_id uuid, results jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_most constant integer := 500;
  v_who constant jsonb := eve.chat_actor(eve_search_results_add.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_search_results_add.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat, must_be_there => true);
  v_now constant timestamptz := eve.clock();
  v_results jsonb;
begin
  if v_refusal is not null then
    return v_refusal;
  elsif jsonb_array_length(eve_search_results_add.results) > v_most then
    raise exception 'at most % search results at once', v_most using errcode = 'EV400';
  elsif exists (
    select
    from jsonb_to_recordset(eve_search_results_add.results) as r (message_id uuid)
    where r.message_id is not null
      and not exists (select from public.messages m where m.id = r.message_id and m.chat_id = v_chat.id)
  ) then
    return eve.refused('message_not_found', 'A search result names a message that is not in this chat.');
  end if;
  with added as (
    insert into public.search_results as s (
      id, chat_id, message_id, block_id, page_number, block_text, coords_norm, coords_px, created_at
    )
    select coalesce((r.result ->> 'id')::uuid, gen_random_uuid()), v_chat.id, (r.result ->> 'message_id')::uuid, r.result ->> 'block_id',
      (r.result ->> 'page_number')::integer, r.result ->> 'block_text', nullif(r.result -> 'coords_norm', 'null'),
      nullif(r.result -> 'coords_px', 'null'),
      -- In the order in which they were given.
      v_now + r.place * interval '1 microsecond'
    from jsonb_array_elements(eve_search_results_add.results) with ordinality as r (result, place)
    -- Sent again, it is there once.
    on conflict (id) do nothing
    returning to_jsonb(s) as one, s.created_at
  )
  select coalesce(jsonb_agg(a.one order by a.created_at), '[]') into v_results from added a;
  return jsonb_build_object('status', 'added', 'results', v_results);
end;
$function$;
comment on function public.eve_search_results_add is 'Adds places that a search found to a chat.';

CREATE OR REPLACE FUNCTION public.eve_search_results(actor jsonb, chat_id uuid, message_id uuid DEFAULT NULL::uuid, after jsonb DEFAULT NULL::jsonb, at_most integer DEFAULT 100)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.chat_actor(eve_search_results.actor);
  v_chat constant public.chats := eve.chat_of(v_who, eve_search_results.chat_id);
  v_refusal constant jsonb := eve.chat_refusal(v_who, v_chat);
  v_most constant integer := least(greatest(eve_search_results.at_most, 1), 100);
  v_results jsonb;
begin
  if v_refusal is not null then
    return v_refusal;
  end if;
  select coalesce(jsonb_agg(to_jsonb(page) order by page.created_at, page.id), '[]') into v_results
  from (
    select r.*
    from public.search_results r
    where r.chat_id = v_chat.id and (eve_search_results.message_id is null or r.message_id = eve_search_results.message_id)
      and (r.created_at, r.id) > (
        coalesce((eve_search_results.after ->> 'created_at')::timestamptz, '-infinity'),
        coalesce((eve_search_results.after ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000')
      )
    order by r.created_at, r.id
    limit v_most + 1
  ) page;
  return eve.chat_page('results', v_results, v_most);
end;
$function$;
comment on function public.eve_search_results is 'A page of the places that searches found for a chat.';

CREATE OR REPLACE FUNCTION public.eve_chat_search(actor jsonb, query text, chat_id uuid DEFAULT NULL::uuid, user_id text DEFAULT NULL::text, at_most integer DEFAULT 20)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_candidates constant integer := 1000;
  v_who constant jsonb := eve.chat_actor(eve_chat_search.actor);
  v_words constant text := lower(left(eve_chat_search.query, 1000) collate "und-x-icu");
  v_query constant tsquery := websearch_to_tsquery('pg_catalog.russian', v_words) || websearch_to_tsquery('pg_catalog.english', v_words);
  v_conditions text[] := '{c.deleted_at is null}';
  v_answer jsonb;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  if v_who ? 'consumer_id' then
    v_conditions := v_conditions || 'c.consumer_id = $2'::text;
  elsif v_who ? 'owner' then
    v_conditions := v_conditions || 'c.owner = $3'::text;
  end if;
  if eve_chat_search.chat_id is not null then
    v_conditions := v_conditions || 'c.id = $4'::text;
  end if;
  if eve_chat_search.user_id is not null then
    v_conditions := v_conditions || 'c.user_id = $5'::text;
  end if;
  execute format(
    'with candidates as materialized (
      select m.id, m.search, c.title from public.chats c join public.messages m on m.chat_id = c.id where m.search @@ $1 and %s limit $6
    ), best as (
      select k.id, k.title, ts_rank(k.search, $1) as rank from candidates k order by rank desc, k.id limit $7
    )
    select jsonb_build_object(
      ''status'', ''listed'',
      ''found'', coalesce(
        jsonb_agg(
          jsonb_build_object(
            ''message'', eve.message_json(b.id) - ''parts'', ''chat_title'', b.title, ''rank'', b.rank,
            ''excerpt'', ts_headline(''pg_catalog.russian'', left(m.content, 20000), $1, ''MaxFragments=2, MaxWords=25, MinWords=8'')
          )
          order by b.rank desc, m.id
        ), ''[]''
      ),
      ''candidates'', (select count(*) from candidates)
    )
    from best b join public.messages m on m.id = b.id',
    array_to_string(v_conditions, ' and ')
  )
  into v_answer
  using v_query, (v_who ->> 'consumer_id')::uuid, (v_who ->> 'owner')::uuid, eve_chat_search.chat_id, eve_chat_search.user_id,
    v_candidates, least(greatest(eve_chat_search.at_most, 1), 100);
  return v_answer;
end;
$function$;
comment on function public.eve_chat_search is 'Messages of one''s chats that hold the words of a query.';

CREATE OR REPLACE FUNCTION public.eve_chat_export(actor jsonb, chat_id uuid, after jsonb DEFAULT NULL::jsonb, at_most integer DEFAULT 100)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_page constant jsonb := public.eve_messages(
    eve_chat_export.actor, eve_chat_export.chat_id, eve_chat_export.after, false, eve_chat_export.at_most
  );
  v_chat public.chats;
begin
  if v_page ->> 'status' = 'refused' then
    return v_page;
  end if;
  select * into v_chat from public.chats c where c.id = eve_chat_export.chat_id;
  return v_page || jsonb_build_object(
    'chat', eve.chat_json(v_chat),
    'search_results', case when eve_chat_export.after is null then (
      select coalesce(jsonb_agg(to_jsonb(r) order by r.created_at, r.id), '[]')
      from public.search_results r
      where r.chat_id = v_chat.id and r.message_id is null
    ) else '[]' end,
    'messages', (
      select coalesce(
        jsonb_agg(
          e.message || jsonb_build_object(
            'images', (
              select coalesce(jsonb_agg(to_jsonb(i) order by i.created_at, i.id), '[]')
              from public.message_images i
              where i.message_id = (e.message ->> 'id')::uuid
            ),
            'search_results', (
              select coalesce(jsonb_agg(to_jsonb(r) order by r.created_at, r.id), '[]')
              from public.search_results r
              where r.message_id = (e.message ->> 'id')::uuid
            )
          )
          order by e.place
        ), '[]'
      )
      from jsonb_array_elements(v_page -> 'messages') with ordinality as e (message, place)
    )
  );
end;
$function$;
comment on function public.eve_chat_export is 'A page of a chat with all that belongs to its messages.';

-- chat_console --------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.chats_text_shown()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select eve.alert_setting('chats_text_for_administrators', 0) = 1;
$function$;

CREATE OR REPLACE FUNCTION eve.chat_for_administrator(chat public.chats)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return jsonb_build_object(
    'id', (chat).id, 'user_id', (chat).user_id, 'owner', (chat).owner,
    'consumer', (select c.name from eve.consumers c where c.id = (chat).consumer_id),
    'messages', (chat).messages_count, 'stored_bytes', (chat).stored_bytes, 'created_at', (chat).created_at,
    'updated_at', (chat).updated_at, 'archived_at', (chat).archived_at, 'deleted_at', (chat).deleted_at, 'expires_at', (chat).expires_at,
    'title', case when eve.chats_text_shown() then (chat).title end,
    'description', case when eve.chats_text_shown() then (chat).description end
  );
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_admin_chats(by jsonb DEFAULT '{}'::jsonb, after jsonb DEFAULT NULL::jsonb, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_by constant jsonb := eve_admin_chats.by;
  v_most constant integer := least(greatest(eve_admin_chats.at_most, 1), 100);
  v_conditions text[] := '{true}';
  v_consumer uuid;
  v_words text;
  v_query tsquery;
  v_with text[];
  v_chats jsonb;
begin
  if v_by ->> 'text' is not null then
    if not eve.chats_text_shown() then
      return eve.refused(
        'credential_insufficient',
        'The owner of this project shows administrators no text of chats (chats_text_for_administrators in eve.settings).'
      );
    end if;
    v_words := lower(left(v_by ->> 'text', 1000) collate "und-x-icu");
    v_query := websearch_to_tsquery('pg_catalog.russian', v_words) || websearch_to_tsquery('pg_catalog.english', v_words);
    v_conditions := v_conditions || 'c.id in (select m.chat_id from public.messages m where m.search @@ $6 limit 1000)'::text;
  end if;
  if v_by ->> 'user_id' is not null then
    v_conditions := v_conditions || 'c.user_id = $1'::text;
  end if;
  if v_by ->> 'owner' is not null then
    v_conditions := v_conditions || 'c.owner = $2'::text;
  end if;
  if v_by ->> 'consumer' is not null then
    select c.id into v_consumer from eve.consumers c where c.name = v_by ->> 'consumer';
    v_conditions := v_conditions || 'c.consumer_id = $3'::text;
  end if;
  if eve_admin_chats.after is not null then
    v_conditions := v_conditions || '(c.created_at, c.id) < ($4, $5)'::text;
  end if;
  execute format(
    'select coalesce(jsonb_agg(eve.chat_for_administrator(page.chat) order by page.created_at desc, page.id desc), ''[]'')
    from (select c as chat, c.created_at, c.id from public.chats c where %s order by c.created_at desc, c.id desc limit $7) page',
    array_to_string(v_conditions, ' and ')
  )
  into v_chats
  using v_by ->> 'user_id', (v_by ->> 'owner')::uuid, v_consumer, (eve_admin_chats.after ->> 'created_at')::timestamptz,
    (eve_admin_chats.after ->> 'id')::uuid, v_query, v_most + 1;
  return eve.chat_page('chats', v_chats, v_most) || jsonb_build_object('shows_text', eve.chats_text_shown());
end;
$function$;
comment on function public.eve_admin_chats is 'A page of all chats, for administrators.';

CREATE OR REPLACE FUNCTION eve.chat_tokens(usage jsonb, name text)
 RETURNS numeric
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  return case when jsonb_typeof(chat_tokens.usage -> chat_tokens.name) = 'number' then (chat_tokens.usage ->> chat_tokens.name)::numeric end;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_admin_chat(chat_id uuid, after jsonb DEFAULT NULL::jsonb, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_shown constant boolean := eve.chats_text_shown();
  v_most constant integer := least(greatest(eve_admin_chat.at_most, 1), 100);
  v_chat public.chats;
  v_messages jsonb;
begin
  select * into v_chat from public.chats c where c.id = eve_admin_chat.chat_id;
  if not found then
    return eve.refused('chat_not_found');
  end if;
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'id', m.id, 'parent_id', m.parent_id, 'role', m.role, 'state', m.state, 'created_at', m.created_at,
        'bytes', eve.message_bytes(m.content, m.parts), 'content', case when v_shown then m.content end,
        'feedback', case when v_shown then m.feedback end, 'input_tokens', eve.chat_tokens(m.usage, 'input_tokens'),
        'output_tokens', eve.chat_tokens(m.usage, 'output_tokens'), 'total_tokens', eve.chat_tokens(m.usage, 'total_tokens'),
        'request_no', (select max(r.request_no) from eve.requests r where r.request_id = m.request_id),
        'images', (
          select coalesce(
            jsonb_agg(
              jsonb_build_object(
                'id', i.id, 'width', i.width, 'height', i.height, 'file_size', i.file_size,
                'tenant_id', case when v_shown then i.tenant_id end, 'file_sha256', case when v_shown then i.file_sha256 end,
                'image_name', case when v_shown then i.image_name end, 'description', case when v_shown then i.description end
              )
              order by i.created_at, i.id
            ), '[]'
          )
          from public.message_images i
          where i.message_id = m.id
        )
      )
      order by m.created_at, m.id
    ), '[]'
  )
  into v_messages
  from (
    select *
    from public.messages p
    where p.chat_id = v_chat.id
      and (p.created_at, p.id) > (
        coalesce((eve_admin_chat.after ->> 'created_at')::timestamptz, '-infinity'),
        coalesce((eve_admin_chat.after ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000')
      )
    order by p.created_at, p.id
    limit v_most + 1
  ) m;
  return eve.chat_page('messages', v_messages, v_most) || jsonb_build_object(
    'status', 'found', 'shows_text', v_shown, 'chat', eve.chat_for_administrator(v_chat),
    'cost', (
      select jsonb_build_object(
        'calls', count(*) filter (where m.role = 'assistant' and m.request_id is not null),
        'input_tokens', coalesce(sum(eve.chat_tokens(m.usage, 'input_tokens')), 0),
        'output_tokens', coalesce(sum(eve.chat_tokens(m.usage, 'output_tokens')), 0),
        'total_tokens', coalesce(sum(eve.chat_tokens(m.usage, 'total_tokens')), 0)
      )
      from public.messages m
      where m.chat_id = v_chat.id
    )
  );
end;
$function$;
comment on function public.eve_admin_chat is 'A page of a chat, for administrators.';

-- chat_metrics --------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.chat_counted(metric text, label text, value text, times bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
begin
  if chat_counted.times > 0 then
    insert into eve.metric_counters as c (metric, labels, value)
    values (chat_counted.metric, jsonb_build_object(chat_counted.label, chat_counted.value), chat_counted.times)
    on conflict (metric, labels) do update
    set value = c.value + excluded.value;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.chat_rows(relation regclass)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_exactly constant integer := 10000;
  v_rows bigint;
begin
  execute format('select count(*) from (select from %s limit %s) r', chat_rows.relation, v_exactly + 1) into v_rows;
  if v_rows > v_exactly then
    select greatest(c.reltuples::bigint, v_rows) into v_rows from pg_catalog.pg_class c where c.oid = chat_rows.relation;
  end if;
  return v_rows;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_chat_metrics()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'samples', (
      select coalesce(jsonb_agg(jsonb_build_array(s.metric, s.labels, s.value) order by s.metric, s.labels), '[]')
      from (
        select 'eve_chat_rows' as metric, jsonb_build_object('table', t.name) as labels, eve.chat_rows(('public.' || t.name)::regclass) as value
        from unnest(array['chats', 'messages', 'message_images', 'search_results', 'chat_shares']) as t (name)
        union all
        select 'eve_chat_answers_pending', '{}', count(*) from public.messages m where m.state = 'pending'
      ) s
    ),
    'histograms', '[]'::jsonb
  );
$function$;
comment on function public.eve_chat_metrics is 'Gauges of chats, in the form of eve_metrics.';

-- chats_rights --------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_chat_realtime()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'publication', exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime'),
    'missing', (
      select coalesce(jsonb_agg(t.name order by t.name), '[]')
      from unnest(array['chats', 'messages', 'message_images', 'search_results']) as t (name)
      where not exists (
        select from pg_catalog.pg_publication_tables p
        where p.pubname = 'supabase_realtime' and p.schemaname = 'public' and p.tablename = t.name
      )
    )
  );
$function$;
comment on function public.eve_chat_realtime is 'Whether Realtime tells other devices of chats.';

-- posts ---------------------------------------------------------------------------------------------------------------

create table public.posts (
  id uuid not null default gen_random_uuid(),
  tenant_id text not null default 'default'::text,
  source text not null default 'api'::text,
  external_id text,
  text text not null default ''::text,
  published_at timestamp with time zone,
  metadata jsonb not null default '{}'::jsonb,
  trace_id text,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint posts_metadata_size CHECK ((octet_length((metadata)::text) <= 16384)),
  constraint posts_pkey PRIMARY KEY (id),
  constraint posts_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES eve.tenants(id),
  constraint posts_texts_size CHECK ((((octet_length(source) >= 1) AND (octet_length(source) <= 200)) AND ((octet_length(external_id) >= 1) AND (octet_length(external_id) <= 500)) AND (octet_length(text) <= 262144))),
  constraint posts_trace_id_form CHECK ((trace_id ~ '^[0-9a-f]{32}$'::text))
);
alter table public.posts enable row level security;
CREATE UNIQUE INDEX posts_external_id_key ON public.posts USING btree (tenant_id, source, external_id) WHERE (external_id IS NOT NULL);
CREATE INDEX posts_tenant_id_created_at_idx ON public.posts USING btree (tenant_id, created_at DESC, id);
create policy posts_read on public.posts as permissive for select to authenticated using (tenant_id IN ( SELECT eve.member_tenants() AS member_tenants));
comment on table public.posts is 'What came in from outside: a message of a channel, a page, a picture that somebody sent. Its members read their tenant''s.';
comment on column public.posts.source is 'Where it comes from, such as telegram:city_events: what policies skip or pass by.';
comment on column public.posts.external_id is 'The source''s own name of it: the same one again is the same post.';
comment on column public.posts.trace_id is 'Of the request that brought it, 32 hexadecimal digits: its jobs, calls and events have the same.';

create table public.post_media_map (
  post_id uuid not null,
  file_sha256 text not null,
  tenant_id text not null default 'default'::text,
  place integer not null default 0,
  created_at timestamp with time zone not null default now(),
  constraint post_media_map_pkey PRIMARY KEY (post_id, file_sha256),
  constraint post_media_map_place_positive CHECK ((place >= 0)),
  constraint post_media_map_post_id_fkey FOREIGN KEY (post_id) REFERENCES public.posts(id) ON DELETE CASCADE,
  constraint post_media_map_sha256_form CHECK ((file_sha256 ~ '^[0-9a-f]{64}$'::text))
);
alter table public.post_media_map enable row level security;
CREATE INDEX post_media_map_file_idx ON public.post_media_map USING btree (tenant_id, file_sha256);
CREATE TRIGGER eve_post_media_uses AFTER INSERT OR DELETE ON public.post_media_map FOR EACH ROW EXECUTE FUNCTION eve.post_media_uses(); -- enabled
create policy post_media_map_read on public.post_media_map as permissive for select to authenticated using (tenant_id IN ( SELECT eve.member_tenants() AS member_tenants));
comment on table public.post_media_map is 'Which files belong to which posts. While there is a row, its file stays (eve.media_references).';
comment on column public.post_media_map.file_sha256 is 'With tenant_id: the object of public.media_objects.';
comment on column public.post_media_map.place is 'The order in which the post shows them, from 0 on.';

create table public.post_enrichment (
  id uuid not null default gen_random_uuid(),
  tenant_id text not null default 'default'::text,
  post_id uuid not null,
  file_sha256 text,
  kind text not null default 'vision'::text,
  status text not null default 'waiting'::text,
  reason text,
  run_no integer not null default 1,
  job_id uuid,
  decision_id bigint,
  analyst text,
  provider text,
  model text,
  schema_version integer,
  prompt_version integer,
  resolution text,
  vision_description text,
  labels text[] not null default '{}'::text[],
  objects jsonb not null default '[]'::jsonb,
  ocr_text text,
  is_meme boolean,
  nsfw boolean,
  scene text,
  confidence double precision,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  tokens bigint not null default 0,
  raw_text text,
  from_cache boolean not null default false,
  same_as text,
  trace_id text,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  analyzed_at timestamp with time zone,
  search tsvector generated always as (eve.enrichment_words(vision_description, ocr_text, labels)) stored,
  constraint post_enrichment_confidence_share CHECK (((confidence >= (0)::double precision) AND (confidence <= (1)::double precision))),
  constraint post_enrichment_kind_form CHECK ((kind ~ '^[a-z][a-z0-9_]{0,31}$'::text)),
  constraint post_enrichment_lists_size CHECK (((cardinality(labels) <= 30) AND (octet_length((labels)::text) <= 16384) AND (octet_length((objects)::text) <= 32768))),
  constraint post_enrichment_pkey PRIMARY KEY (id),
  constraint post_enrichment_post_id_fkey FOREIGN KEY (post_id) REFERENCES public.posts(id) ON DELETE CASCADE,
  constraint post_enrichment_sha256_form CHECK (((file_sha256 ~ '^[0-9a-f]{64}$'::text) AND (same_as ~ '^[0-9a-f]{64}$'::text))),
  constraint post_enrichment_status_known CHECK ((status = ANY (ARRAY['waiting'::text, 'done'::text, 'skipped'::text, 'invalid'::text, 'failed'::text]))),
  constraint post_enrichment_texts_size CHECK (((length(reason) <= 500) AND (length(analyst) <= 100) AND (length(provider) <= 100) AND (length(model) <= 200) AND (length(resolution) <= 40) AND (length(vision_description) <= 2000) AND (length(ocr_text) <= 20000) AND (length(scene) <= 100) AND (length(raw_text) <= 65536))),
  constraint post_enrichment_tokens_positive CHECK (((input_tokens >= 0) AND (output_tokens >= 0) AND (tokens >= 0)))
);
alter table public.post_enrichment enable row level security;
CREATE INDEX post_enrichment_file_idx ON public.post_enrichment USING btree (tenant_id, file_sha256, kind);
CREATE INDEX post_enrichment_labels_idx ON public.post_enrichment USING gin (labels);
CREATE UNIQUE INDEX post_enrichment_picture_key ON public.post_enrichment USING btree (post_id, file_sha256, kind) WHERE (file_sha256 IS NOT NULL);
CREATE INDEX post_enrichment_post_id_idx ON public.post_enrichment USING btree (post_id);
CREATE INDEX post_enrichment_search_idx ON public.post_enrichment USING gin (search);
CREATE INDEX post_enrichment_status_idx ON public.post_enrichment USING btree (tenant_id, status, updated_at DESC, id);
create policy post_enrichment_read on public.post_enrichment as permissive for select to authenticated using (tenant_id IN ( SELECT eve.member_tenants() AS member_tenants));
comment on table public.post_enrichment is 'What was found in a post''s picture: a row for each, from the moment that it is to be looked at.';
comment on column public.post_enrichment.status is 'waiting: its job has not ended, reason says what for if it is known; done; skipped: the policy is against it; invalid: an answer came that does not hold, see raw_text; failed: reason says why.';
comment on column public.post_enrichment.run_no is 'Grows when it is to be looked at once more.';
comment on column public.post_enrichment.decision_id is 'Of eve.vision_decisions: why it was done so.';
comment on column public.post_enrichment.confidence is 'From 0 to 1.';
comment on column public.post_enrichment.tokens is 'In and out, thoughts among them, that this picture''s analysis was charged with; 0 where the result was there already.';
comment on column public.post_enrichment.same_as is 'The picture, by its SHA-256, that looks the same and whose result this is.';

CREATE OR REPLACE FUNCTION eve.enrichment_words(description text, ocr_text text, labels text[])
 RETURNS tsvector
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select to_tsvector('pg_catalog.russian'::regconfig, w.words) || to_tsvector('pg_catalog.english'::regconfig, w.words)
  from (
    -- In small letters by ICU: where the database's own locale is C, the parser leaves capital letters beyond ASCII as they are.
    select lower(
      left(
        coalesce(enrichment_words.description, '') || ' ' || array_to_string(enrichment_words.labels, ' ') || ' '
          || coalesce(enrichment_words.ocr_text, ''), 100000
      ) collate "und-x-icu"
    ) as words
  ) w;
$function$;
comment on function eve.enrichment_words is 'The words that a picture is found by.';

CREATE OR REPLACE FUNCTION eve.post_media_uses()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if tg_op = 'INSERT' then
    -- In a table made by hand a row may name a file that is not here.
    if exists (
      select from public.media_objects o where o.tenant_id = new.tenant_id and o.file_sha256 = new.file_sha256
    ) then
      perform eve.media_link(new.tenant_id, new.file_sha256, jsonb_build_object('ref_kind', 'post', 'ref_id', new.post_id));
    end if;
  else
    delete from eve.media_references r
    where r.tenant_id = old.tenant_id and r.file_sha256 = old.file_sha256 and r.ref_kind = 'post' and r.ref_id = old.post_id::text;
  end if;
  return null;
end;
$function$;

-- vision_tables -------------------------------------------------------------------------------------------------------

create table eve.vision_pictures (
  tenant_id text not null,
  file_sha256 text not null,
  mime_type text not null,
  width integer,
  height integer,
  orientation smallint not null default 1,
  dhash bigint,
  fault text,
  held_by uuid,
  held_until timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  constraint vision_pictures_fault_form CHECK ((fault ~ '^[a-z][a-z0-9_]{0,39}$'::text)),
  constraint vision_pictures_held_whole CHECK (((held_by IS NULL) = (held_until IS NULL))),
  constraint vision_pictures_mime_type_length CHECK ((length(mime_type) <= 255)),
  constraint vision_pictures_object_fkey FOREIGN KEY (tenant_id, file_sha256) REFERENCES public.media_objects(tenant_id, file_sha256) ON UPDATE CASCADE ON DELETE CASCADE,
  constraint vision_pictures_orientation_range CHECK (((orientation >= 1) AND (orientation <= 8))),
  constraint vision_pictures_pkey PRIMARY KEY (tenant_id, file_sha256),
  constraint vision_pictures_sizes_positive CHECK (((width > 0) AND (height > 0)))
) with (fillfactor=80);
alter table eve.vision_pictures enable row level security;
CREATE INDEX vision_pictures_dhash_1_idx ON eve.vision_pictures USING btree (tenant_id, ((dhash & (65535)::bigint))) WHERE (dhash IS NOT NULL);
CREATE INDEX vision_pictures_dhash_2_idx ON eve.vision_pictures USING btree (tenant_id, (((dhash >> 16) & (65535)::bigint))) WHERE (dhash IS NOT NULL);
CREATE INDEX vision_pictures_dhash_3_idx ON eve.vision_pictures USING btree (tenant_id, (((dhash >> 32) & (65535)::bigint))) WHERE (dhash IS NOT NULL);
CREATE INDEX vision_pictures_dhash_4_idx ON eve.vision_pictures USING btree (tenant_id, (((dhash >> 48) & (65535)::bigint))) WHERE (dhash IS NOT NULL);
comment on table eve.vision_pictures is 'What a picture''s own bytes say of it: read once.';
comment on column eve.vision_pictures.width is 'Pixels, as shown: turned as EXIF says. Null: the header does not tell, see fault.';
comment on column eve.vision_pictures.orientation is 'As EXIF counts it, 1 to 8; 1: as stored.';
comment on column eve.vision_pictures.dhash is 'Which of two neighbours is brighter, in 9 x 8 grey pixels: 64 bits. Null: not computed, or it says nothing (a plain colour).';
comment on column eve.vision_pictures.fault is 'Why it cannot be looked at: not_a_picture, too_many_pixels, ...; null: it can.';
comment on column eve.vision_pictures.held_by is 'The job that looks at it until held_until: another one for the same picture waits, and finds its result.';

create table eve.vision_policies (
  tenant_id text not null,
  policy jsonb not null,
  version integer not null default 1,
  updated_at timestamp with time zone not null default now(),
  constraint vision_policies_pkey PRIMARY KEY (tenant_id),
  constraint vision_policies_policy_size CHECK (((jsonb_typeof(policy) = 'object'::text) AND (octet_length((policy)::text) <= 16384))),
  constraint vision_policies_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES eve.tenants(id) ON DELETE CASCADE
);
alter table eve.vision_policies enable row level security;
comment on table eve.vision_policies is 'What a tenant wants looked at and by whom, as shared/vision/policy.ts reads it; a tenant without a row has the usual policy.';
comment on column eve.vision_policies.version is 'Grows with every change: decisions name it.';

create table eve.vision_decisions (
  id bigint not null generated always as identity,
  tenant_id text not null,
  post_id uuid not null,
  file_sha256 text not null,
  job_id uuid,
  action text not null,
  reason text not null,
  detail jsonb not null default '{}'::jsonb,
  policy_version integer not null,
  trace_id text,
  decided_at timestamp with time zone not null,
  constraint vision_decisions_action_known CHECK ((action = ANY (ARRAY['analyse'::text, 'copy'::text, 'skip'::text, 'wait'::text]))),
  constraint vision_decisions_detail_size CHECK ((octet_length((detail)::text) <= 8192)),
  constraint vision_decisions_pkey PRIMARY KEY (id),
  constraint vision_decisions_reason_form CHECK ((reason ~ '^[a-z][a-z0-9_]{0,39}$'::text))
);
alter table eve.vision_decisions enable row level security;
CREATE INDEX vision_decisions_decided_at_idx ON eve.vision_decisions USING btree (decided_at);
CREATE INDEX vision_decisions_post_id_idx ON eve.vision_decisions USING btree (post_id, id DESC);
CREATE INDEX vision_decisions_tenant_id_idx ON eve.vision_decisions USING btree (tenant_id, id DESC);
comment on table eve.vision_decisions is 'What was done with a picture, and why.';
comment on column eve.vision_decisions.action is 'analyse: by the first analyst of detail that can; copy: the result of another picture that looks the same; skip: not looked at; wait: nobody can now.';
comment on column eve.vision_decisions.detail is 'What the decision rests on: {"message", "analysts": [{"name", "resolution"}], "passed_over": [{"name", "why"}], ...}.';

create table eve.vision_budgets (
  tenant_id text not null,
  provider text not null,
  period text not null,
  unit text not null,
  most bigint not null,
  updated_at timestamp with time zone not null default now(),
  constraint vision_budgets_most_positive CHECK ((most >= 0)),
  constraint vision_budgets_period_known CHECK ((period = ANY (ARRAY['day'::text, 'month'::text]))),
  constraint vision_budgets_pkey PRIMARY KEY (tenant_id, provider, period, unit),
  constraint vision_budgets_provider_length CHECK (((length(provider) >= 1) AND (length(provider) <= 100))),
  constraint vision_budgets_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES eve.tenants(id) ON DELETE CASCADE,
  constraint vision_budgets_unit_known CHECK ((unit = ANY (ARRAY['tokens'::text, 'pictures'::text])))
);
alter table eve.vision_budgets enable row level security;
comment on table eve.vision_budgets is 'How much a tenant''s analyses may cost. Without a row there is no limit.';
comment on column eve.vision_budgets.provider is 'An analyst by its name, such as model:gemini-3.5-flash; *: all together that spend tokens.';
comment on column eve.vision_budgets.period is 'Of UTC.';

create table eve.vision_spending (
  tenant_id text not null,
  provider text not null,
  period text not null,
  began_on date not null,
  tokens bigint not null default 0,
  tokens_reserved bigint not null default 0,
  pictures bigint not null default 0,
  pictures_reserved bigint not null default 0,
  constraint vision_spending_period_known CHECK ((period = ANY (ARRAY['day'::text, 'month'::text]))),
  constraint vision_spending_pkey PRIMARY KEY (tenant_id, provider, period, began_on),
  constraint vision_spending_positive CHECK (((tokens >= 0) AND (tokens_reserved >= 0) AND (pictures >= 0) AND (pictures_reserved >= 0)))
) with (fillfactor=50);
alter table eve.vision_spending enable row level security;
CREATE INDEX vision_spending_began_on_idx ON eve.vision_spending USING btree (began_on);
comment on table eve.vision_spending is 'What analyses have cost, and what those under way may cost yet: counted whether or not there is a budget.';

create table eve.vision_reservations (
  id text not null,
  tenant_id text not null,
  provider text not null,
  counts_in_all boolean not null,
  day date not null,
  tokens bigint not null,
  pictures bigint not null,
  state text not null default 'reserved'::text,
  created_at timestamp with time zone not null,
  constraint vision_reservations_id_length CHECK (((length(id) >= 1) AND (length(id) <= 100))),
  constraint vision_reservations_pkey PRIMARY KEY (id),
  constraint vision_reservations_positive CHECK (((tokens >= 0) AND (pictures >= 0))),
  constraint vision_reservations_provider_length CHECK (((length(provider) >= 1) AND (length(provider) <= 100))),
  constraint vision_reservations_state_known CHECK ((state = ANY (ARRAY['reserved'::text, 'settled'::text, 'given_back'::text])))
) with (fillfactor=50);
alter table eve.vision_reservations enable row level security;
CREATE INDEX vision_reservations_created_at_idx ON eve.vision_reservations USING btree (created_at);
comment on table eve.vision_reservations is 'What one step of an analysis takes of budgets: its estimate while it is under way, and at the end the truth.';
comment on column eve.vision_reservations.counts_in_all is 'Whether it counts under * too.';
comment on column eve.vision_reservations.day is 'Of UTC, with its month: where it counts, also when it is settled later.';
comment on column eve.vision_reservations.state is 'One that is never settled counts with its estimate: nobody knows whether it was paid for.';

CREATE OR REPLACE FUNCTION eve.retention_of_vision(relation regclass, table_name text, before timestamp with time zone, at_most integer, after jsonb, OUT deleted bigint, OUT next_after jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_batch record;
begin
  if retention_of_vision.table_name = 'eve.vision_spending' then
    with old as (
      select s.ctid as place
      from eve.vision_spending s
      where s.began_on < (retention_of_vision.before at time zone 'UTC')::date
      limit retention_of_vision.at_most
      for update skip locked
    )
    delete from eve.vision_spending s using old where s.ctid = old.place;
    get diagnostics deleted = row_count;
    next_after := case when deleted >= retention_of_vision.at_most then '{}'::jsonb end;
    return;
  end if;
  select * into v_batch
  from eve.delete_oldest(
    retention_of_vision.relation,
    case retention_of_vision.table_name when 'eve.vision_decisions' then 'decided_at' else 'created_at' end,
    retention_of_vision.before, coalesce((retention_of_vision.after ->> 'at')::timestamptz, '-infinity'), retention_of_vision.at_most,
    'true'
  );
  if v_batch.seen >= retention_of_vision.at_most then
    next_after := jsonb_build_object('at', v_batch.last_at);
  end if;
  deleted := v_batch.deleted;
end;
$function$;

-- vision_budgets ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.vision_counters(tenant_id text, provider text, counts_in_all boolean, day date)
 RETURNS SETOF eve.vision_spending
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  insert into eve.vision_spending (tenant_id, provider, period, began_on)
  select vision_counters.tenant_id, p.provider, d.period, d.began_on
  from (
    select vision_counters.provider as provider
    union
    select '*' where vision_counters.counts_in_all
  ) p
  cross join (
    values ('day', vision_counters.day), ('month', date_trunc('month', vision_counters.day::timestamp)::date)
  ) as d (period, began_on)
  order by p.provider, d.period
  on conflict on constraint vision_spending_pkey do nothing;
  return query
    select s.*
    from eve.vision_spending s
    where s.tenant_id = vision_counters.tenant_id
      and (s.provider = vision_counters.provider or s.provider = '*' and vision_counters.counts_in_all)
      and (
        s.period = 'day' and s.began_on = vision_counters.day
        or s.period = 'month' and s.began_on = date_trunc('month', vision_counters.day::timestamp)::date
      )
    order by s.provider, s.period
    for update;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.vision_count(reservation eve.vision_reservations, tokens bigint, pictures bigint, tokens_reserved bigint, pictures_reserved bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_one constant eve.vision_reservations := vision_count.reservation;
begin
  update eve.vision_spending s
  set tokens = s.tokens + vision_count.tokens, pictures = s.pictures + vision_count.pictures,
    tokens_reserved = greatest(s.tokens_reserved + vision_count.tokens_reserved, 0),
    pictures_reserved = greatest(s.pictures_reserved + vision_count.pictures_reserved, 0)
  from eve.vision_counters(v_one.tenant_id, v_one.provider, v_one.counts_in_all, v_one.day) c
  where s.tenant_id = c.tenant_id and s.provider = c.provider and s.period = c.period and s.began_on = c.began_on;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.vision_budget_rows(tenant_id text)
 RETURNS TABLE(provider text, period text, unit text, most bigint, used bigint, reserved bigint, ends_at timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select b.provider, b.period, b.unit, b.most,
    coalesce(case b.unit when 'tokens' then s.tokens else s.pictures end, 0),
    coalesce(case b.unit when 'tokens' then s.tokens_reserved else s.pictures_reserved end, 0),
    (n.began_on + case b.period when 'day' then interval '1 day' else interval '1 month' end) at time zone 'UTC'
  from eve.vision_budgets b
  cross join lateral (
    select date_trunc(b.period, eve.clock() at time zone 'UTC')::date as began_on
  ) n
  left join eve.vision_spending s
    on s.tenant_id = b.tenant_id and s.provider = b.provider and s.period = b.period and s.began_on = n.began_on
  where b.tenant_id = vision_budget_rows.tenant_id;
$function$;

CREATE OR REPLACE FUNCTION eve.vision_budget_alerts(tenant_id text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_near_share constant numeric := 0.8;
  v_row record;
begin
  for v_row in
    select b.*, vision_budget_alerts.tenant_id || ' ' || b.provider || ' ' || b.period || ' ' || b.unit as subject,
      case when b.used + b.reserved >= b.most then 'vision_budget_used_up'
        when b.used + b.reserved >= b.most * v_near_share then 'vision_budget_near' end as kind
    from eve.vision_budget_rows(vision_budget_alerts.tenant_id) b
  loop
    perform eve.close_alerts(
      v_row.subject, array_remove('{vision_budget_near,vision_budget_used_up}'::text[], v_row.kind)
    )
    where exists (
      select from eve.alerts a
      where a.subject = v_row.subject and a.closed_at is null and a.kind in ('vision_budget_near', 'vision_budget_used_up')
        and a.kind is distinct from v_row.kind
    );
    if v_row.kind is not null then
      perform eve.open_alert(
        v_row.kind, v_row.subject, case v_row.kind when 'vision_budget_near' then 'warning' else 'critical' end,
        format(
          'Tenant %s: %s of %s %s this %s by %s.', vision_budget_alerts.tenant_id, v_row.used + v_row.reserved, v_row.most, v_row.unit,
          v_row.period, case v_row.provider when '*' then 'all analysts' else v_row.provider end
        )
      );
    end if;
  end loop;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_vision_reserve(id text, tenant_id text, provider text, tokens bigint, spends_tokens boolean DEFAULT true)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_one eve.vision_reservations;
  v_full record;
begin
  if length(eve_vision_reserve.id) not between 1 and 100 or length(eve_vision_reserve.provider) not between 1 and 100
    or eve_vision_reserve.provider = '*' or coalesce(eve_vision_reserve.tokens, -1) < 0
    or eve_vision_reserve.id is null or eve_vision_reserve.provider is null then
    raise exception 'a reservation needs an id and a provider of 1 to 100 characters, and tokens from 0' using errcode = 'EV400';
  end if;
  v_one := row(
    eve_vision_reserve.id, eve_vision_reserve.tenant_id, eve_vision_reserve.provider, eve_vision_reserve.spends_tokens,
    (eve.clock() at time zone 'UTC')::date, eve_vision_reserve.tokens, 1, 'reserved', eve.clock()
  )::eve.vision_reservations;
  -- The counters first: whoever settles takes them in the same order.
  perform eve.vision_counters(v_one.tenant_id, v_one.provider, v_one.counts_in_all, v_one.day);
  insert into eve.vision_reservations as r
  select v_one.*
  on conflict on constraint vision_reservations_pkey do update
  set state = 'reserved', day = excluded.day, tokens = excluded.tokens, pictures = excluded.pictures, created_at = excluded.created_at
  where r.state = 'given_back' and r.tenant_id = excluded.tenant_id and r.provider = excluded.provider;
  if not found then
    return (
      select jsonb_build_object('status', case r.state when 'settled' then 'settled' else 'reserved' end)
      from eve.vision_reservations r
      where r.id = v_one.id
    );
  end if;
  -- What it has taken itself is not counted yet.
  select b.* into v_full
  from eve.vision_budget_rows(v_one.tenant_id) b
  where (b.provider = v_one.provider or b.provider = '*' and v_one.counts_in_all)
    and b.used + b.reserved + case b.unit when 'tokens' then v_one.tokens else v_one.pictures end > b.most
  order by b.ends_at desc, b.provider, b.unit
  limit 1;
  if found then
    update eve.vision_reservations r set state = 'given_back' where r.id = v_one.id;
    perform eve.vision_budget_alerts(v_one.tenant_id);
    return jsonb_build_object('status', 'used_up') || to_jsonb(v_full);
  end if;
  perform eve.vision_count(v_one, 0, 0, v_one.tokens, v_one.pictures);
  perform eve.vision_budget_alerts(v_one.tenant_id);
  return jsonb_build_object('status', 'reserved');
end;
$function$;
comment on function public.eve_vision_reserve is 'Takes the estimate of a step out of a tenant''s vision budgets: out of all that concern it, or out of none.';

CREATE OR REPLACE FUNCTION public.eve_vision_settle(id text, tokens bigint DEFAULT NULL::bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_one eve.vision_reservations;
begin
  if eve_vision_settle.tokens < 0 then
    raise exception 'tokens must not be negative' using errcode = 'EV400';
  end if;
  select * into v_one from eve.vision_reservations r where r.id = eve_vision_settle.id;
  if not found then
    return jsonb_build_object('status', 'none');
  end if;
  perform eve.vision_counters(v_one.tenant_id, v_one.provider, v_one.counts_in_all, v_one.day);
  update eve.vision_reservations r
  set state = case when eve_vision_settle.tokens is null then 'given_back' else 'settled' end
  where r.id = v_one.id and r.state = 'reserved'
  returning * into v_one;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  perform eve.vision_count(
    v_one, coalesce(eve_vision_settle.tokens, 0), case when eve_vision_settle.tokens is null then 0 else v_one.pictures end,
    -v_one.tokens, -v_one.pictures
  );
  perform eve.vision_budget_alerts(v_one.tenant_id);
  return jsonb_build_object('status', v_one.state);
end;
$function$;
comment on function public.eve_vision_settle is 'Ends a reservation of a vision budget with the truth.';

CREATE OR REPLACE FUNCTION public.eve_vision_budgets(actor jsonb, tenant_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_budgets.actor, eve_vision_budgets.tenant_id, 'vision');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  -- A period that has ended has ended its alerts too, whether or not anything was spent since.
  perform eve.vision_budget_alerts(v_who ->> 'tenant_id');
  return jsonb_build_object(
    'status', 'listed', 'tenant_id', v_who ->> 'tenant_id',
    'budgets', (
      select coalesce(jsonb_agg(to_jsonb(b) order by b.provider, b.period, b.unit), '[]')
      from eve.vision_budget_rows(v_who ->> 'tenant_id') b
    ),
    'spending', (
      select coalesce(jsonb_agg(to_jsonb(s) - 'tenant_id' order by s.period, s.provider), '[]')
      from eve.vision_spending s
      where s.tenant_id = v_who ->> 'tenant_id' and s.began_on = date_trunc(s.period, eve.clock() at time zone 'UTC')::date
    )
  );
end;
$function$;
comment on function public.eve_vision_budgets is 'A tenant''s vision budgets with what is used of them, and what was spent in the day and the month that run now.';

CREATE OR REPLACE FUNCTION public.eve_vision_budgets_save(actor jsonb, budgets jsonb, tenant_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_most_rows constant integer := 100;
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_budgets_save.actor, eve_vision_budgets_save.tenant_id, 'vision');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_list constant jsonb := eve_vision_budgets_save.budgets -> 'list';
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif not (v_who ->> 'project')::boolean then
    return eve.refused('credential_insufficient', 'Budgets are set by the gateway''s owner: with the project''s secret key, or as an administrator.');
  elsif jsonb_typeof(v_list) is distinct from 'array' or jsonb_array_length(v_list) > v_most_rows then
    raise exception 'budgets must be a list of at most % budgets', v_most_rows using errcode = 'EV400';
  end if;
  delete from eve.vision_budgets b where b.tenant_id = v_tenant;
  begin
    insert into eve.vision_budgets (tenant_id, provider, period, unit, most, updated_at)
    select v_tenant, coalesce(b.provider, '*'), b.period, b.unit, b.most, eve.clock()
    from jsonb_to_recordset(v_list) as b (provider text, period text, unit text, most bigint);
  exception when integrity_constraint_violation or data_exception then
    raise exception 'a budget has a provider, a period (day, month), a unit (tokens, pictures) and most, from 0, each once'
      using errcode = 'EV400';
  end;
  perform eve.end_alerts('{vision_budget_near,vision_budget_used_up}', v_tenant || ' ');
  return public.eve_vision_budgets(eve_vision_budgets_save.actor, v_tenant);
end;
$function$;
comment on function public.eve_vision_budgets_save is 'Sets all of a tenant''s vision budgets.';

-- vision_intake -------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.vision_traceparent(trace_id text)
 RETURNS text
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select '00-' || vision_traceparent.trace_id || '-' || left(replace(gen_random_uuid()::text, '-', ''), 16) || '-01'
  where vision_traceparent.trace_id ~ '^[0-9a-f]{32}$' and vision_traceparent.trace_id !~ '^0+$';
$function$;

CREATE OR REPLACE FUNCTION eve.vision_payer(actor jsonb, OUT consumer_id uuid, OUT token_id uuid)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  select c.id, t.id into consumer_id, token_id
  from eve.consumers c
  left join eve.scoped_tokens t on t.id = (vision_payer.actor ->> 'token_id')::uuid and t.consumer_id = c.id
  where vision_payer.actor ->> 'kind' = 'consumer' and c.id = (vision_payer.actor ->> 'consumer_id')::uuid and 'llm' = any (c.scopes)
    and (vision_payer.actor ->> 'token_id' is null or 'llm' = any (coalesce(t.scopes, '{llm}')));
end;
$function$;

CREATE OR REPLACE FUNCTION eve.vision_queue(enrichment public.post_enrichment, actor jsonb, class text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_one constant public.post_enrichment := vision_queue.enrichment;
  v_payer constant record := eve.vision_payer(vision_queue.actor);
  v_job constant uuid := gen_random_uuid();
  v_answer jsonb;
begin
  v_answer := public.eve_jobs_submit(
    jsonb_build_array(
      jsonb_build_object(
        'id', v_job, 'kind', 'vision', 'class', vision_queue.class,
        'body', jsonb_build_object(
          'tenant_id', v_one.tenant_id, 'post_id', v_one.post_id, 'file_sha256', v_one.file_sha256, 'run_no', v_one.run_no,
          'trace_id', v_one.trace_id
        )
      )
    ),
    v_payer.consumer_id, v_payer.token_id
  );
  if v_answer ->> 'status' = 'refused' then
    raise exception '%', v_answer using errcode = 'triggered_action_exception';
  end if;
  update public.post_enrichment e
  set status = 'waiting', reason = null, job_id = v_job, run_no = v_one.run_no, trace_id = v_one.trace_id, updated_at = eve.clock()
  where e.id = v_one.id;
  perform eve.emit_event(
    '/vision', 'vision.uploaded.v1', v_one.post_id::text,
    jsonb_build_object(
      'tenant_id', v_one.tenant_id, 'post_id', v_one.post_id, 'file_sha256', v_one.file_sha256, 'job_id', v_job, 'run_no', v_one.run_no,
      'trace_id', v_one.trace_id
    ),
    coalesce(v_payer.consumer_id, '00000000-0000-0000-0000-000000000000'), eve.vision_traceparent(v_one.trace_id)
  );
  return (v_answer ->> 'wake')::boolean;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.post_json(post public.posts)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(post_json.post) || jsonb_build_object(
    'media', (
      select coalesce(jsonb_agg(m.file_sha256 order by m.place, m.file_sha256), '[]')
      from public.post_media_map m
      where m.post_id = (post_json.post).id
    )
  );
$function$;

CREATE OR REPLACE FUNCTION public.eve_post_add(actor jsonb, post jsonb, trace_id text DEFAULT NULL::text, scope text DEFAULT 'intake'::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_most constant integer := 50;
  v_new constant jsonb := eve_post_add.post;
  v_who constant jsonb := eve.tenant_of_actor(
    eve_post_add.actor, v_new ->> 'tenant_id', case eve_post_add.scope when 'vision' then 'vision' else 'intake' end
  );
  v_tenant constant text := v_who ->> 'tenant_id';
  v_media constant jsonb := coalesce(nullif(v_new -> 'media', 'null'), '[]');
  v_post public.posts;
  v_status text := 'created';
  v_file record;
  v_enrichment public.post_enrichment;
  v_wake boolean := false;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif jsonb_typeof(v_media) <> 'array' or jsonb_array_length(v_media) > v_most then
    raise exception 'media must be a list of at most % hashes', v_most using errcode = 'EV400';
  elsif coalesce(v_new ->> 'class', 'batch') not in ('interactive', 'batch') then
    raise exception 'class must be interactive or batch' using errcode = 'EV400';
  end if;
  begin
    insert into public.posts (tenant_id, source, external_id, text, published_at, metadata, trace_id, created_at, updated_at)
    values (
      v_tenant, coalesce(v_new ->> 'source', 'api'), nullif(v_new ->> 'external_id', ''), coalesce(v_new ->> 'text', ''),
      (v_new ->> 'published_at')::timestamptz, coalesce(nullif(v_new -> 'metadata', 'null'), '{}'), eve_post_add.trace_id, eve.clock(),
      eve.clock()
    )
    on conflict (tenant_id, source, external_id) where external_id is not null do nothing
    returning * into v_post;
  exception when check_violation or data_exception then
    raise exception 'a post has a source of 1 to 200 bytes, an external_id of at most 500, a text of at most 256 KiB, metadata of at most 16 KiB, and a published_at that is a time'
      using errcode = 'EV400';
  end;
  if v_post.id is null then
    v_status := 'present';
    -- Others that bring pictures for it wait.
    select * into v_post
    from public.posts p
    where p.tenant_id = v_tenant and p.source = coalesce(v_new ->> 'source', 'api') and p.external_id = v_new ->> 'external_id'
    for update;
  end if;
  begin
    -- All of them before the first job, and in the order of their keys: two posts with the same pictures do not wait for each other.
    perform
    from public.media_objects o
    where o.tenant_id = v_tenant and o.file_sha256 in (select f.value from jsonb_array_elements_text(v_media) f)
    order by o.file_sha256
    for update;
    for v_file in
      select m.sha256, m.place, o.file_sha256, o.mime_type
      from (
        select f.value as sha256, min(f.nr)::integer - 1 as place
        from jsonb_array_elements_text(v_media) with ordinality as f (value, nr)
        group by f.value
      ) m
      left join public.media_objects o
        on o.tenant_id = v_tenant and o.file_sha256 = m.sha256 and o.state in ('stored', 'verified')
      order by m.sha256
    loop
      if v_file.file_sha256 is null then
        raise exception '%', eve.refused('object_not_found', format('There is no file %s: upload it first.', left(v_file.sha256, 64)))
          using errcode = 'triggered_action_exception';
      end if;
      insert into public.post_media_map (post_id, tenant_id, file_sha256, place, created_at)
      values (v_post.id, v_tenant, v_file.sha256, v_file.place, eve.clock())
      on conflict do nothing;
      continue when not found or v_file.mime_type not like 'image/%';
      insert into public.post_enrichment (tenant_id, post_id, file_sha256, trace_id, created_at, updated_at)
      values (v_tenant, v_post.id, v_file.sha256, eve_post_add.trace_id, eve.clock(), eve.clock())
      on conflict do nothing
      returning * into v_enrichment;
      continue when not found;
      v_wake := eve.vision_queue(v_enrichment, eve_post_add.actor, coalesce(v_new ->> 'class', 'batch')) or v_wake;
    end loop;
  exception when triggered_action_exception then
    -- Not half of a post: it goes with what came of it, unless it was there before.
    if v_status = 'created' then
      delete from public.posts p where p.id = v_post.id;
    end if;
    return sqlerrm::jsonb;
  end;
  return jsonb_build_object('status', v_status, 'post', eve.post_json(v_post), 'wake', v_wake);
end;
$function$;
comment on function public.eve_post_add is 'Adds a post, and has its pictures looked at.';

CREATE OR REPLACE FUNCTION eve.vision_post_for(actor jsonb, post_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_post public.posts;
  v_who jsonb;
begin
  select * into v_post from public.posts p where p.id = vision_post_for.post_id;
  v_who := eve.tenant_of_actor(vision_post_for.actor, v_post.tenant_id, 'vision');
  -- Who may not see it learns no more than that there is none.
  if v_post.id is null or v_who ->> 'code' = 'tenant_not_allowed' then
    return case when v_who ->> 'status' = 'refused' and v_who ->> 'code' <> 'tenant_not_allowed' then v_who
      else eve.refused('post_not_found') end;
  end if;
  return case when v_who ->> 'status' = 'refused' then v_who else jsonb_build_object('status', 'found', 'tenant_id', v_post.tenant_id) end;
end;
$function$;

CREATE OR REPLACE FUNCTION eve.enrichment_json(enrichment public.post_enrichment)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select to_jsonb(enrichment_json.enrichment) - 'search' - 'raw_text' - 'decision_id' || jsonb_build_object(
    'decision', (
      select jsonb_build_object('action', d.action, 'reason', d.reason, 'detail', d.detail, 'policy_version', d.policy_version, 'decided_at', d.decided_at)
      from eve.vision_decisions d
      where d.id = (enrichment_json.enrichment).decision_id
    )
  );
$function$;

CREATE OR REPLACE FUNCTION public.eve_vision_post(actor jsonb, post_id uuid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.vision_post_for(eve_vision_post.actor, eve_vision_post.post_id);
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return jsonb_build_object(
    'status', 'found',
    'post', (select eve.post_json(p) from public.posts p where p.id = eve_vision_post.post_id),
    'enrichment', (
      select coalesce(jsonb_agg(eve.enrichment_json(e) order by m.place, e.file_sha256, e.kind), '[]')
      from public.post_enrichment e
      left join public.post_media_map m on m.post_id = e.post_id and m.file_sha256 = e.file_sha256
      where e.post_id = eve_vision_post.post_id
    )
  );
end;
$function$;
comment on function public.eve_vision_post is 'A post with what was found in its pictures, and why it was done so.';

CREATE OR REPLACE FUNCTION public.eve_vision_requeue(actor jsonb, post_id uuid DEFAULT NULL::uuid, file_sha256 text DEFAULT NULL::text, tenant_id text DEFAULT NULL::text, which text DEFAULT NULL::text, trace_id text DEFAULT NULL::text, class text DEFAULT 'batch'::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_most constant integer := 1000;
  v_who jsonb;
  v_one public.post_enrichment;
  v_queued integer := 0;
  v_wake boolean := false;
begin
  if eve_vision_requeue.post_id is null and coalesce(eve_vision_requeue.which, '') not in ('failed', 'invalid', 'skipped') then
    raise exception 'name a post, or which of a tenant''s: failed, invalid or skipped' using errcode = 'EV400';
  end if;
  v_who := case
    when eve_vision_requeue.post_id is not null then eve.vision_post_for(eve_vision_requeue.actor, eve_vision_requeue.post_id)
    else eve.tenant_of_actor(eve_vision_requeue.actor, eve_vision_requeue.tenant_id, 'vision')
  end;
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  begin
    for v_one in
      select e.*
      from public.post_enrichment e
      where e.tenant_id = v_who ->> 'tenant_id' and e.kind = 'vision' and e.file_sha256 is not null
        and (eve_vision_requeue.post_id is null or e.post_id = eve_vision_requeue.post_id)
        and (eve_vision_requeue.file_sha256 is null or e.file_sha256 = eve_vision_requeue.file_sha256)
        and (eve_vision_requeue.which is null or e.status = eve_vision_requeue.which)
        -- One that waits is queued already.
        and e.status <> 'waiting'
      order by e.id
      limit v_most
      for update
    loop
      v_one.run_no := v_one.run_no + 1;
      v_one.trace_id := coalesce(eve_vision_requeue.trace_id, v_one.trace_id);
      v_wake := eve.vision_queue(v_one, eve_vision_requeue.actor, eve_vision_requeue.class) or v_wake;
      v_queued := v_queued + 1;
    end loop;
  exception when triggered_action_exception then
    return sqlerrm::jsonb;
  end;
  return jsonb_build_object('status', 'queued', 'queued', v_queued, 'wake', v_wake);
end;
$function$;
comment on function public.eve_vision_requeue is 'Has pictures looked at once more.';

-- vision_running ------------------------------------------------------------------------------------------------------

create table eve.vision_times (
  provider text not null,
  counts bigint[] not null,
  total double precision not null,
  constraint vision_times_pkey PRIMARY KEY (provider),
  constraint vision_times_provider_length CHECK (((length(provider) >= 1) AND (length(provider) <= 100)))
);
alter table eve.vision_times enable row level security;
comment on table eve.vision_times is 'How long analyses took since the gateway was installed, by analyst. They only grow.';
comment on column eve.vision_times.counts is 'Analyses per bucket, the last one being those above every bound of eve.vision_time_bounds.';
comment on column eve.vision_times.total is 'Seconds, all together.';

CREATE OR REPLACE FUNCTION eve.vision_time_bounds()
 RETURNS double precision[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select array[0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80]::double precision[];
$function$;

CREATE OR REPLACE FUNCTION eve.vision_count_metrics(tenant_id text, provider text, status text, reason text, tokens bigint, from_cache boolean, duration_ms bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_most constant integer := eve.alert_setting('metrics_consumers', 100);
  v_provider constant text := left(coalesce(vision_count_metrics.provider, ''), 100);
  v_seconds constant double precision := greatest(vision_count_metrics.duration_ms, 0) / 1000.0;
  v_tenant text := vision_count_metrics.tenant_id;
begin
  if not exists (
    select from eve.metric_counters c where c.metric = 'vision_analysis_requests_total' and c.labels ->> 'tenant' = v_tenant
  ) and (
    select count(distinct c.labels ->> 'tenant') from eve.metric_counters c where c.metric = 'vision_analysis_requests_total'
  ) >= v_most then
    v_tenant := 'other';
  end if;
  insert into eve.metric_counters as c (metric, labels, value)
  select g.metric, g.labels, g.value
  from (
    values
      ('vision_analysis_requests_total', jsonb_build_object('status', vision_count_metrics.status, 'provider', v_provider, 'tenant', v_tenant), 1),
      ('vision_tokens_used_total', jsonb_build_object('provider', v_provider, 'tenant', v_tenant), vision_count_metrics.tokens),
      ('vision_decisions_total', jsonb_build_object('reason', left(vision_count_metrics.reason, 40)), 1),
      ('vision_cache_hits_total', '{}'::jsonb, vision_count_metrics.from_cache::integer)
  ) as g (metric, labels, value)
  where g.value > 0
  order by g.metric, g.labels
  on conflict (metric, labels) do update set value = c.value + excluded.value;
  if v_provider <> '' and not vision_count_metrics.from_cache and vision_count_metrics.duration_ms is not null then
    insert into eve.vision_times as t (provider, counts, total)
    select v_provider,
      array_agg((b.nr = width_bucket(v_seconds, eve.vision_time_bounds()) + 1)::integer::bigint order by b.nr), v_seconds
    from generate_series(1, cardinality(eve.vision_time_bounds()) + 1) as b (nr)
    on conflict on constraint vision_times_pkey do update
    set counts = eve.metric_sum(t.counts, excluded.counts), total = t.total + excluded.total;
  end if;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_vision_begin(job_id uuid, tenant_id text, post_id uuid, file_sha256 text, lease_s integer DEFAULT 180)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_object public.media_objects;
  v_post public.posts;
  v_picture eve.vision_pictures;
begin
  select p.* into v_post
  from public.post_enrichment e
  join public.posts p on p.id = e.post_id
  where e.post_id = eve_vision_begin.post_id and e.file_sha256 = eve_vision_begin.file_sha256 and e.kind = 'vision'
    and e.job_id = eve_vision_begin.job_id and e.status = 'waiting' and e.tenant_id = eve_vision_begin.tenant_id;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  select * into v_object
  from public.media_objects o
  where o.tenant_id = eve_vision_begin.tenant_id and o.file_sha256 = eve_vision_begin.file_sha256
    and o.state in ('stored', 'verified')
  for share;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  insert into eve.vision_pictures as p (tenant_id, file_sha256, mime_type, held_by, held_until, created_at)
  values (
    v_object.tenant_id, v_object.file_sha256, coalesce(v_object.mime_type, ''), eve_vision_begin.job_id,
    v_now + make_interval(secs => least(greatest(eve_vision_begin.lease_s, 1), 3600)), v_now
  )
  on conflict on constraint vision_pictures_pkey do update
  set held_by = excluded.held_by, held_until = excluded.held_until
  where p.held_by is null or p.held_by = excluded.held_by or p.held_until <= v_now
  returning * into v_picture;
  if not found then
    select * into v_picture
    from eve.vision_pictures p
    where p.tenant_id = eve_vision_begin.tenant_id and p.file_sha256 = eve_vision_begin.file_sha256;
    return jsonb_build_object(
      'status', 'busy',
      'retry_after_ms', greatest(extract(epoch from coalesce(v_picture.held_until, v_now) - v_now) * 1000, 0)::bigint
    );
  end if;
  return jsonb_build_object(
    'status', 'begun', 'object', eve.media_json(v_object),
    'post', jsonb_build_object('source', v_post.source, 'published_at', v_post.published_at, 'created_at', v_post.created_at),
    'now', v_now,
    'picture', jsonb_build_object(
      'width', v_picture.width, 'height', v_picture.height, 'orientation', v_picture.orientation, 'fault', v_picture.fault,
      -- More digits than a number of JavaScript's has.
      'dhash', v_picture.dhash::text
    ),
    'policy', (select p.policy from eve.vision_policies p where p.tenant_id = v_post.tenant_id),
    'policy_version', coalesce((select p.version from eve.vision_policies p where p.tenant_id = v_post.tenant_id), 0)
  );
end;
$function$;
comment on function public.eve_vision_begin is 'Begins to look at a picture, and keeps others from it for a while.';

CREATE OR REPLACE FUNCTION public.eve_vision_picture(tenant_id text, file_sha256 text, mime_type text, width integer DEFAULT NULL::integer, height integer DEFAULT NULL::integer, orientation integer DEFAULT 1, dhash text DEFAULT NULL::text, fault text DEFAULT NULL::text, at_most integer DEFAULT 0)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_hash constant bigint := eve_vision_picture.dhash::bigint;
  v_similar jsonb;
begin
  update eve.vision_pictures p
  set mime_type = eve_vision_picture.mime_type, width = eve_vision_picture.width, height = eve_vision_picture.height,
    orientation = coalesce(eve_vision_picture.orientation, 1), dhash = v_hash, fault = eve_vision_picture.fault
  where p.tenant_id = eve_vision_picture.tenant_id and p.file_sha256 = eve_vision_picture.file_sha256;
  if v_hash is not null and eve_vision_picture.fault is null then
    select jsonb_build_object('file_sha256', s.file_sha256, 'distance', s.distance) into v_similar
    from (
      select p.file_sha256, p.created_at, bit_count((p.dhash # v_hash)::bit(64)) as distance
      from eve.vision_pictures p
      where p.tenant_id = eve_vision_picture.tenant_id and p.dhash is not null
        and (
          p.dhash & 65535 = v_hash & 65535 or (p.dhash >> 16) & 65535 = (v_hash >> 16) & 65535
          or (p.dhash >> 32) & 65535 = (v_hash >> 32) & 65535 or (p.dhash >> 48) & 65535 = (v_hash >> 48) & 65535
        )
        and p.file_sha256 <> eve_vision_picture.file_sha256
    ) s
    where s.distance <= least(eve_vision_picture.at_most, 3)
      and exists (
        select
        from public.post_enrichment e
        where e.tenant_id = eve_vision_picture.tenant_id and e.file_sha256 = s.file_sha256 and e.kind = 'vision' and e.status = 'done'
          -- A result that was itself taken over would lead further and further away.
          and e.same_as is null
      )
    order by s.distance, s.created_at, s.file_sha256
    limit 1;
  end if;
  return jsonb_build_object('status', 'saved', 'similar', v_similar);
end;
$function$;
comment on function public.eve_vision_picture is 'Keeps what a picture''s bytes say of it, and looks for one that looks the same.';

CREATE OR REPLACE FUNCTION eve.vision_decide(job_id uuid, tenant_id text, post_id uuid, file_sha256 text, decision jsonb, trace_id text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_new constant jsonb := vision_decide.decision;
  v_last eve.vision_decisions;
begin
  select * into v_last from eve.vision_decisions d where d.post_id = vision_decide.post_id and d.file_sha256 = vision_decide.file_sha256
  order by d.id desc
  limit 1;
  -- A job that waits decides the same again and again.
  if v_last.job_id = vision_decide.job_id and v_last.action = v_new ->> 'action' and v_last.reason = v_new ->> 'reason'
    and v_last.detail = coalesce(v_new -> 'detail', '{}') then
    return v_last.id;
  end if;
  insert into eve.vision_decisions (tenant_id, post_id, file_sha256, job_id, action, reason, detail, policy_version, trace_id, decided_at)
  values (
    vision_decide.tenant_id, vision_decide.post_id, vision_decide.file_sha256, vision_decide.job_id, v_new ->> 'action', v_new ->> 'reason',
    coalesce(v_new -> 'detail', '{}'), coalesce((v_new ->> 'policy_version')::integer, 0), vision_decide.trace_id, eve.clock()
  )
  returning * into v_last;
  return v_last.id;
end;
$function$;

CREATE OR REPLACE FUNCTION public.eve_vision_finish(job_id uuid, tenant_id text, post_id uuid, file_sha256 text, decision jsonb, outcome jsonb, trace_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_now constant timestamptz := eve.clock();
  v_new constant jsonb := eve_vision_finish.outcome;
  v_status constant text := v_new ->> 'status';
  v_found constant jsonb := coalesce(nullif(v_new -> 'result', 'null'), '{}');
  v_one public.post_enrichment;
  v_from public.post_enrichment;
  v_tokens bigint;
begin
  select * into v_one
  from public.post_enrichment e
  where e.post_id = eve_vision_finish.post_id and e.file_sha256 = eve_vision_finish.file_sha256 and e.kind = 'vision'
    and e.tenant_id = eve_vision_finish.tenant_id and e.job_id = eve_vision_finish.job_id and e.status = 'waiting'
  for update;
  if not found then
    return jsonb_build_object('status', 'ended');
  end if;
  v_one.decision_id := eve.vision_decide(
    eve_vision_finish.job_id, v_one.tenant_id, v_one.post_id, v_one.file_sha256, eve_vision_finish.decision, eve_vision_finish.trace_id
  );
  update eve.vision_pictures p
  set held_by = null, held_until = null
  where p.tenant_id = v_one.tenant_id and p.file_sha256 = v_one.file_sha256 and p.held_by = eve_vision_finish.job_id;
  if v_status = 'waiting' then
    update public.post_enrichment e
    set reason = left(v_new ->> 'reason', 500), decision_id = v_one.decision_id, updated_at = v_now
    where e.id = v_one.id;
    return jsonb_build_object('status', 'saved');
  end if;
  if v_new ->> 'same_as' is not null then
    select * into v_from
    from public.post_enrichment e
    where e.tenant_id = v_one.tenant_id and e.file_sha256 = v_new ->> 'same_as' and e.kind = 'vision' and e.status = 'done' and e.same_as is null
    order by e.analyzed_at desc, e.id
    limit 1;
    if not found then
      return jsonb_build_object('status', 'gone');
    end if;
    v_one := jsonb_populate_record(
      v_one, to_jsonb(v_from) - '{id,post_id,file_sha256,run_no,job_id,decision_id,search,from_cache,trace_id,created_at}'::text[]
    );
    v_one.same_as := v_from.file_sha256;
    v_one.input_tokens := 0;
    v_one.output_tokens := 0;
  else
    v_one := jsonb_populate_record(
      v_one,
      jsonb_build_object(
        'analyst', v_new -> 'analyst', 'provider', v_new -> 'provider', 'model', v_new -> 'model',
        'schema_version', v_new -> 'schema_version', 'prompt_version', v_new -> 'prompt_version', 'resolution', v_new -> 'resolution',
        'vision_description', v_found -> 'description', 'labels', coalesce(v_found -> 'labels', '[]'),
        'objects', coalesce(v_found -> 'objects', '[]'), 'ocr_text', v_found -> 'ocr_text', 'is_meme', v_found -> 'is_meme',
        'nsfw', v_found -> 'nsfw', 'scene', v_found -> 'scene', 'confidence', v_found -> 'confidence', 'raw_text', v_new -> 'raw_text',
        'same_as', null, 'input_tokens', coalesce((v_new ->> 'input_tokens')::bigint, 0),
        'output_tokens', coalesce((v_new ->> 'output_tokens')::bigint, 0)
      )
    );
  end if;
  v_tokens := v_one.input_tokens + v_one.output_tokens;
  update public.post_enrichment e
  set status = v_status, reason = left(v_new ->> 'reason', 500), decision_id = v_one.decision_id, analyst = v_one.analyst,
    provider = v_one.provider, model = v_one.model, schema_version = v_one.schema_version, prompt_version = v_one.prompt_version,
    resolution = v_one.resolution, vision_description = v_one.vision_description, labels = v_one.labels, objects = v_one.objects,
    ocr_text = v_one.ocr_text, is_meme = v_one.is_meme, nsfw = v_one.nsfw, scene = v_one.scene, confidence = v_one.confidence,
    input_tokens = v_one.input_tokens, output_tokens = v_one.output_tokens, tokens = v_tokens, raw_text = v_one.raw_text,
    from_cache = coalesce((v_new ->> 'from_cache')::boolean, false), same_as = v_one.same_as, updated_at = v_now, analyzed_at = v_now
  where e.id = v_one.id;
  perform eve.vision_told(v_one.id);
  perform eve.vision_count_metrics(
    v_one.tenant_id, v_one.analyst, v_status, eve_vision_finish.decision ->> 'reason', v_tokens,
    coalesce((v_new ->> 'from_cache')::boolean, false), (v_new ->> 'duration_ms')::bigint
  );
  return jsonb_build_object('status', 'saved');
end;
$function$;
comment on function public.eve_vision_finish is 'Writes down how looking at a picture ended, and tells it.';

CREATE OR REPLACE FUNCTION eve.vision_told(enrichment_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_one public.post_enrichment;
begin
  select * into v_one from public.post_enrichment e where e.id = vision_told.enrichment_id;
  perform eve.emit_event(
    '/vision', 'vision.analyzed.v1', v_one.post_id::text,
    jsonb_build_object(
      'tenant_id', v_one.tenant_id, 'post_id', v_one.post_id, 'file_sha256', v_one.file_sha256, 'enrichment_id', v_one.id,
      'job_id', v_one.job_id, 'run_no', v_one.run_no, 'status', v_one.status, 'reason', v_one.reason, 'analyst', v_one.analyst,
      'provider', v_one.provider, 'model', v_one.model, 'schema_version', v_one.schema_version, 'labels', v_one.labels,
      'tokens', v_one.tokens, 'same_as', v_one.same_as, 'trace_id', v_one.trace_id
    ),
    coalesce((select j.owner_id from eve.jobs j where j.id = v_one.job_id), '00000000-0000-0000-0000-000000000000'),
    eve.vision_traceparent(v_one.trace_id)
  );
end;
$function$;

CREATE OR REPLACE FUNCTION eve.vision_job_ended()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_id uuid;
begin
  for v_id in
    update public.post_enrichment e
    set status = 'failed', reason = left(coalesce(new.error_code, new.state) || ': ' || coalesce(e.reason, new.error_detail, ''), 500),
      updated_at = eve.clock(), analyzed_at = eve.clock()
    where e.post_id = (new.body ->> 'post_id')::uuid and e.file_sha256 = new.body ->> 'file_sha256' and e.kind = 'vision'
      and e.job_id = new.id and e.status = 'waiting'
    returning e.id
  loop
    perform eve.vision_told(v_id);
  end loop;
  return null;
end;
$function$;

-- vision_reading ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_vision_search(actor jsonb, tenant_id text DEFAULT NULL::text, query text DEFAULT NULL::text, label text DEFAULT NULL::text, at_most integer DEFAULT 20)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_candidates constant integer := 1000;
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_search.actor, eve_vision_search.tenant_id, 'vision');
  v_words constant text := nullif(lower(left(eve_vision_search.query, 1000) collate "und-x-icu"), '');
  v_query constant tsquery := websearch_to_tsquery('pg_catalog.russian', v_words) || websearch_to_tsquery('pg_catalog.english', v_words);
  v_label constant text := lower(nullif(left(eve_vision_search.label, 60), '') collate "und-x-icu");
  v_answer jsonb;
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif v_words is null and v_label is null then
    raise exception 'search for words (q), for a label, or for both' using errcode = 'EV400';
  end if;
  execute format(
    'with candidates as materialized (
      select e.id, case when $2 is null then 0 else ts_rank(e.search, $2) end as rank, e.updated_at
      from public.post_enrichment e
      where e.tenant_id = $1 and e.status = ''done'' and %s
      limit $4
    ), best as (
      select * from candidates k order by k.rank desc, k.updated_at desc, k.id limit $5
    )
    select jsonb_build_object(
      ''status'', ''listed'',
      ''found'', coalesce(
        jsonb_agg(
          jsonb_build_object(
            ''enrichment'', eve.enrichment_json(e), ''rank'', b.rank,
            ''excerpt'', case when $2 is null then left(coalesce(e.vision_description, e.ocr_text, ''''), 200) else ts_headline(
              ''pg_catalog.russian'', left(concat_ws('' '', e.vision_description, e.ocr_text), 20000), $2, ''MaxFragments=2, MaxWords=25, MinWords=8''
            ) end
          )
          order by b.rank desc, b.updated_at desc, b.id
        ), ''[]''
      )
    )
    from best b join public.post_enrichment e on e.id = b.id',
    concat_ws(
      ' and ', case when v_words is not null then 'e.search @@ $2' end, case when v_label is not null then 'e.labels @> array[$3]' end
    )
  )
  into v_answer
  using v_who ->> 'tenant_id', v_query, v_label, v_candidates, least(greatest(eve_vision_search.at_most, 1), 100);
  return v_answer;
end;
$function$;
comment on function public.eve_vision_search is 'Pictures of a tenant by what was found in them.';

CREATE OR REPLACE FUNCTION public.eve_vision_policy(actor jsonb, tenant_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_policy.actor, eve_vision_policy.tenant_id, 'vision');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return jsonb_build_object(
    'status', 'found', 'tenant_id', v_who ->> 'tenant_id',
    'policy', (select p.policy from eve.vision_policies p where p.tenant_id = v_who ->> 'tenant_id'),
    'version', coalesce((select p.version from eve.vision_policies p where p.tenant_id = v_who ->> 'tenant_id'), 0),
    'updated_at', (select p.updated_at from eve.vision_policies p where p.tenant_id = v_who ->> 'tenant_id')
  );
end;
$function$;
comment on function public.eve_vision_policy is 'A tenant''s policy of vision; null: the usual one, which is version 0.';

CREATE OR REPLACE FUNCTION public.eve_vision_policy_save(actor jsonb, policy jsonb, tenant_id text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_policy_save.actor, eve_vision_policy_save.tenant_id, 'vision');
  v_policy constant jsonb := coalesce(nullif(eve_vision_policy_save.policy, 'null'), '{}');
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  elsif not (v_who ->> 'project')::boolean then
    return eve.refused('credential_insufficient', 'Policies are set by the gateway''s owner: with the project''s secret key, or as an administrator.');
  end if;
  begin
    -- Never back to an earlier number, which decisions name.
    insert into eve.vision_policies as p (tenant_id, policy, updated_at)
    values (v_who ->> 'tenant_id', v_policy, eve.clock())
    on conflict on constraint vision_policies_pkey do update
    set policy = excluded.policy, version = p.version + 1, updated_at = excluded.updated_at;
  exception when check_violation then
    raise exception 'a policy is an object of at most 16 KiB' using errcode = 'EV400';
  end;
  return public.eve_vision_policy(eve_vision_policy_save.actor, v_who ->> 'tenant_id');
end;
$function$;
comment on function public.eve_vision_policy_save is 'Sets a tenant''s policy of vision.';

CREATE OR REPLACE FUNCTION public.eve_vision_stats(actor jsonb, tenant_id text DEFAULT NULL::text, days integer DEFAULT 30)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_who constant jsonb := eve.tenant_of_actor(eve_vision_stats.actor, eve_vision_stats.tenant_id, 'vision');
  v_tenant constant text := v_who ->> 'tenant_id';
  v_since constant timestamptz := eve.clock() - make_interval(days => least(greatest(eve_vision_stats.days, 1), 366));
begin
  if v_who ->> 'status' = 'refused' then
    return v_who;
  end if;
  return (
    select jsonb_build_object(
      'status', 'counted', 'tenant_id', v_tenant, 'since', v_since,
      'pictures', (
        select coalesce(jsonb_object_agg(s.status, s.pictures), '{}')
        from (
          select e.status, count(*) as pictures
          from public.post_enrichment e
          where e.tenant_id = v_tenant and e.kind = 'vision' and e.updated_at >= v_since
          group by e.status
        ) s
      ),
      'tokens', coalesce(sum(e.tokens), 0), 'from_cache', count(*) filter (where e.from_cache),
      'copied', count(*) filter (where e.same_as is not null),
      'oldest_waiting_at', min(e.created_at) filter (where e.status = 'waiting'),
      'decisions', (
        select coalesce(jsonb_agg(to_jsonb(d) order by d.times desc, d.action, d.reason), '[]')
        from (
          select d.action, d.reason, count(*) as times
          from eve.vision_decisions d
          where d.tenant_id = v_tenant and d.decided_at >= v_since
          group by d.action, d.reason
        ) d
      ),
      'waits_for', (
        select coalesce(jsonb_agg(to_jsonb(w) order by w.pictures desc, w.reason), '[]')
        from (
          select coalesce(w.reason, 'its turn') as reason, count(*) as pictures
          from public.post_enrichment w
          where w.tenant_id = v_tenant and w.kind = 'vision' and w.status = 'waiting'
          group by 1
          order by 2 desc
          limit 20
        ) w
      )
    )
    from public.post_enrichment e
    where e.tenant_id = v_tenant and e.kind = 'vision' and e.updated_at >= v_since
  );
end;
$function$;
comment on function public.eve_vision_stats is 'How a tenant''s pictures stand, and what was decided.';

CREATE OR REPLACE FUNCTION public.eve_vision_metrics()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
    'samples', (
      select jsonb_build_array(jsonb_build_array('vision_pictures_waiting', '{}'::jsonb, count(*)))
      from public.post_enrichment e
      where e.status = 'waiting' and e.kind = 'vision'
    ),
    'histograms', (
      select coalesce(
        jsonb_agg(
          jsonb_build_array(
            'vision_analysis_duration_seconds', jsonb_build_object('provider', t.provider), to_jsonb(eve.vision_time_bounds()),
            to_jsonb(t.counts), t.total
          )
          order by t.provider
        ), '[]'
      )
      from eve.vision_times t
    )
  );
$function$;
comment on function public.eve_vision_metrics is 'Gauges and histograms of vision, in the form of eve_metrics.';

-- vision_providers ----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.eve_model_from_environment(provider_kind text, model text, env_var_name text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  v_kind eve.provider_kinds;
  v_model text;
begin
  select * into v_kind from eve.provider_kinds k where k.kind = eve_model_from_environment.provider_kind and k.produces = 'text';
  if v_kind.kind is null then
    raise exception 'no provider of texts is called %', left(eve_model_from_environment.provider_kind, 50) using errcode = 'EV400';
  end if;
  if eve_model_from_environment.model is null or eve_model_from_environment.model !~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$'
    or eve_model_from_environment.env_var_name is null or eve_model_from_environment.env_var_name !~ '^[A-Z][A-Z0-9_]{0,99}$' then
    raise exception 'a model''s name has letters, digits and . _ : / -, a variable''s capitals, digits and _, each at most 100' using errcode = 'EV400';
  end if;
  v_model := eve.stage_model(v_kind.kind, eve_model_from_environment.model);
  insert into public.google_ai_model_limits (model, provider, supports_system, supports_json, supports_tools)
  select v_model, v_kind.provider, v_kind.supports_system, v_kind.supports_json, v_kind.supports_tools
  where not exists (select from public.google_ai_model_limits m where m.model = v_model)
  on conflict do nothing;
  -- Two that come at once would both find none.
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('eve_model_from_environment', 0));
  insert into public.google_ai_api_keys (key_alias, provider, env_var_name, is_active, priority, notes)
  select lower(replace(eve_model_from_environment.env_var_name, '_', '-')), v_kind.provider, eve_model_from_environment.env_var_name, true, 100,
    'Found in the environment, for pictures.'
  where not exists (select from public.google_ai_api_keys u where u.env_var_name = eve_model_from_environment.env_var_name);
  return jsonb_build_object('model', v_model);
end;
$function$;
comment on function public.eve_model_from_environment is 'Makes the rows of a model whose key the environment holds; what is there is left as it is.';

-- figures -------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION eve.waited_ms(booked_ms bigint, received_at timestamp with time zone, until timestamp with time zone)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select least(
    waited_ms.booked_ms, greatest(floor(extract(epoch from waited_ms.until - waited_ms.received_at) * 1000)::bigint, 0)
  );
$function$;
comment on function eve.waited_ms is 'Milliseconds that a request has waited by an instant, of those that its starts were booked ahead.';

CREATE OR REPLACE FUNCTION public.eve_request_log(consumer text DEFAULT NULL::text, model text DEFAULT NULL::text, key text DEFAULT NULL::text, error_code text DEFAULT NULL::text, since timestamp with time zone DEFAULT NULL::timestamp with time zone, until timestamp with time zone DEFAULT NULL::timestamp with time zone, before text DEFAULT NULL::text, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_at_most constant integer := least(greatest(eve_request_log.at_most, 1), 1000);
  v_request_before bigint;
  v_refusal_before bigint;
  v_requests jsonb;
  v_refusals jsonb;
  v_request_next bigint;
  v_refusal_next bigint;
  v_horizon timestamptz := '-infinity';
  v_page jsonb;
  v_shown record;
begin
  if eve_request_log.before !~ '^[0-9]{1,18}\.[0-9]{1,18}$' then
    raise exception 'before must be the next_before of an earlier page' using errcode = 'EV400';
  elsif eve_request_log.before is not null then
    -- 0: nothing of that list has been shown.
    v_request_before := nullif(split_part(eve_request_log.before, '.', 1)::bigint, 0);
    v_refusal_before := nullif(split_part(eve_request_log.before, '.', 2)::bigint, 0);
  end if;
  v_requests := public.eve_request_search(
    consumer => eve_request_log.consumer, model => eve_request_log.model, key => eve_request_log.key,
    error_code => eve_request_log.error_code, since => eve_request_log.since, until => eve_request_log.until,
    before => v_request_before, at_most => v_at_most
  );
  select r.refusals, r.next_before into v_refusals, v_refusal_next
  from eve.search_refusals(
    eve.consumer_id_of(eve_request_log.consumer), eve_request_log.model, eve.key_id_of(eve_request_log.key),
    eve_request_log.error_code, coalesce(eve_request_log.since, '-infinity'), coalesce(eve_request_log.until, 'infinity'),
    v_refusal_before, v_at_most, 100000
  ) r;
  v_request_next := (v_requests ->> 'next_before')::bigint;
  if v_request_next is not null then
    v_horizon := (select q.finished_at from eve.requests q where q.request_no = v_request_next limit 1);
  end if;
  if v_refusal_next is not null then
    v_horizon := greatest(v_horizon, (select f.refused_at from eve.refusals f where f.id = v_refusal_next limit 1));
  end if;

  with found as (
    select r.one, (r.one ->> 'finished_at')::timestamptz as at, (r.one ->> 'request_no')::bigint as request_no,
      null::bigint as refusal_no
    from jsonb_array_elements(v_requests -> 'requests') as r (one)
    where r.one ->> 'state' <> 'running'
    union all
    select f.one, (f.one ->> 'finished_at')::timestamptz, null, (f.one ->> 'refusal_no')::bigint
    from jsonb_array_elements(v_refusals) as f (one)
    where (f.one ->> 'attempts')::integer = 0
  ), page as (
    select p.*
    from found p
    where p.at >= v_horizon
    order by p.at desc, p.request_no desc nulls last, p.refusal_no desc
    limit v_at_most
  )
  select
    coalesce(jsonb_agg(p.one order by p.at desc, p.request_no desc nulls last, p.refusal_no desc), '[]') as rows,
    (array_agg(p.request_no order by p.at, p.request_no) filter (where p.request_no is not null))[1] as request_no,
    (array_agg(p.refusal_no order by p.at, p.refusal_no) filter (where p.refusal_no is not null))[1] as refusal_no,
    count(p.request_no) = (select count(f.request_no) from found f) as has_all_requests,
    count(p.refusal_no) = (select count(f.refusal_no) from found f) as has_all_refusals
  into v_shown
  from page p;
  select coalesce(jsonb_agg(r.one order by r.place), '[]') into v_page
  from jsonb_array_elements(v_requests -> 'requests') with ordinality as r (one, place)
  where r.one ->> 'state' = 'running' and eve_request_log.before is null;

  return jsonb_build_object(
    'requests', v_page || v_shown.rows,
    'next_before', case
      when v_request_next is not null or v_refusal_next is not null or not v_shown.has_all_requests
        or not v_shown.has_all_refusals
      then format(
        '%s.%s',
        coalesce(
          case when v_shown.has_all_requests then v_request_next end, v_shown.request_no, v_request_before, 0
        ),
        coalesce(case when v_shown.has_all_refusals then v_refusal_next end, v_shown.refusal_no, v_refusal_before, 0)
      )
    end
  );
end;
$function$;
comment on function public.eve_request_log is 'Requests that run or have ended, and refusals, in one list, the newest first, with where the next page begins; a page may be empty and not the last.';

CREATE OR REPLACE FUNCTION public.eve_consumer_page(search text DEFAULT NULL::text, after text DEFAULT NULL::text, at_most integer DEFAULT 50)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  v_at_most constant integer := least(greatest(eve_consumer_page.at_most, 1), 1000);
  v_search constant text := lower(eve_consumer_page.search);
  v_names text[];
  v_total bigint;
begin
  select count(*), (array_agg(c.name order by c.name) filter (where c.name > coalesce(eve_consumer_page.after, '')))[1 : v_at_most + 1]
  into v_total, v_names
  from eve.consumers c
  where c.kind <> 'project'
    and (v_search is null or strpos(lower(c.name), v_search) > 0 or strpos(lower(coalesce(c.tenant_id, '')), v_search) > 0);
  return jsonb_build_object(
    'consumers', (
      select coalesce(jsonb_agg(eve.consumer_json(c) order by c.name), '[]')
      from eve.consumers c
      where c.name = any (v_names[1 : v_at_most])
    ),
    'total', v_total,
    'next_after', case when cardinality(v_names) > v_at_most then v_names[v_at_most] end
  );
end;
$function$;
comment on function public.eve_consumer_page is 'Consumers by name, a page of them: how many there are in all, and after whom the next page begins.';
