/**
 * What the admin function answers, as its clients read it: names and units are docs/admin.md's. Times are ISO 8601, durations ms.
 *
 * Types alone, and no import of a package, since the console shares this file: a route that answers something else is a type
 * error here, a page that reads something else is one there. Answers that no page reads are not listed.
 */
import type { ScopeName } from "../contract/actor.ts";
import type { JobAnswer } from "../endpoints/native/job_answer.ts";

/** By method and path. */
export interface AdminAnswers {
  "GET /me": Me;
  "GET /providers": ProvidersAnswer;
  "POST /providers/update": { stage: Stage };
  "POST /providers/remove": { stage: Stage };
  "GET /providers/history": { history: HistoryEvent[] };
  "GET /lanes": LanesAnswer;
  "GET /models": { models: Model[] };
  "GET /overview": Overview;
  "GET /find": { found: Found[] };
  "GET /keys": { keys: KeyOfPool[]; encryption: ProvidersAnswer["encryption"] };
  "POST /keys/remove": { removed: string };
  "POST /keys/test": KeyTest;
  "GET /models/all": { models: ModelRow[] };
  "GET /limits": LimitsAnswer;
  "POST /limits/import": LimitsImport;
  "GET /prices": { prices: ModelPrice[] };
  "GET /requests": RequestsAnswer;
  "GET /requests/detail": RequestDetail;
  "GET /requests/tail": RequestsTail;
  "GET /requests/errors": { errors: BadRequests[] };
  "GET /usage": UsageAnswer;
  "GET /usage/parts": UsageParts;
  "GET /alerts": { alerts: Alert[]; next_before: number | null };
  "GET /alerts/detail": { alert: AlertDetail };
  "POST /alerts/acknowledge": { alert: Alert };
  "POST /alerts/test": ChannelTests;
  "POST /maintenance/run": OperationRun;
  "GET /consumers": ConsumersAnswer;
  "POST /consumers/add": ConsumerWithSecret;
  "POST /consumers/rotate": ConsumerWithSecret;
  "POST /consumers/enable": { consumer: Consumer };
  "POST /consumers/scope": { consumer: Consumer };
  "POST /consumers/access": { consumer: Consumer };
  "POST /consumers/change": { consumer: Consumer };
  "POST /consumers/remove": { removed: string };
  "GET /cache": CacheAnswer;
  "POST /cache/consumer": { consumer: string; ttl_s: number | null; by_tenant: boolean };
  "POST /cache/flush": { deleted: number };
  "GET /tokens": { tokens: Token[] };
  "POST /tokens/issue": { access_token: string; expires_in: number; scope: string };
  "GET /tenants": { tenants: Tenant[] };
  "POST /tenants/add": { tenant: Tenant };
  "POST /tenants/change": { tenant: Tenant };
  "GET /tenants/members": { members: TenantMember[] };
  "POST /tenants/members/set": { changed: boolean };
  "GET /chats": ChatsAnswer;
  "GET /chats/one": ChatAnswer;
  "GET /jobs": JobsAnswer;
  "GET /job-detail": AdminJobDetail;
  "POST /job-cancel": { cancelled: number };
  "GET /batches": BatchesAnswer;
  "GET /webhooks": { webhooks: Webhook[] };
  "POST /webhooks/test": { event_id: string; delivery_id: number };
  "GET /webhooks/deliveries": { deliveries: WebhookDelivery[]; next_before: number | null };
  "POST /webhooks/redeliver": { redelivered: number };
  "GET /dead-letters": { dead_letters: DeadLetter[]; next_before: number | null };
  "GET /dead-letters/detail": { dead_letter: DeadLetterDetail };
  "POST /dead-letters/replay": { replayed: number };
  "POST /dead-letters/drop": { dropped: number };
  [job: `GET /jobs/${string}`]: JobAnswer;
}

/** What a route answers; unknown for one that is not listed. */
export type AnswerOf<Route extends string> = Route extends keyof AdminAnswers ? AdminAnswers[Route] : unknown;

/** The paths that are listed with a method. */
export type PathsOf<Method extends string> = keyof AdminAnswers extends infer Route
  ? Route extends `${Method} ${infer Path}` ? Path : never
  : never;

export interface Me {
  kind: "user" | "project";
  id: string | null;
  email: string | null;
  administrator: true;
}

export type ProviderStatus = "active" | "warning" | "invalid" | "error";

export interface StageConfig {
  provider_kind: string;
  model: string;
  key_last_four: string | null;
  settings: Record<string, string>;
  quota_project: string | null;
  models: string[];
  models_updated_at: string | null;
  checked_at: string | null;
  status: ProviderStatus;
  status_reason: string | null;
  updated_at: string;
  updated_by: string;
}

export interface ProviderKind {
  kind: string;
  title: string;
  shares_keys: boolean;
}

export interface Stage {
  stage_type: string;
  produces: "text" | "speech" | "song" | "video";
  description: string;
  provider_kinds: ProviderKind[];
  config: StageConfig | null;
  /** What serves it while nobody has set it up, by the key in a variable; null: by the keys of the pool. */
  environment: { provider_kind: string; variable: string | null; model: string } | null;
}

export interface ProvidersAnswer {
  stages: Stage[];
  /** Whether keys can be stored, and if not, why. */
  encryption: { ready: boolean; problem: string | null };
}

export interface HistorySide {
  provider_kind: string;
  model: string;
  key_last_four: string | null;
  status: ProviderStatus;
  status_reason: string | null;
}

export interface HistoryEvent {
  id: number;
  at: string;
  stage_type: string;
  event: "created" | "changed" | "status_changed" | "model_vanished" | "reencrypted" | "removed";
  actor: string;
  before: HistorySide | null;
  after: HistorySide | null;
}

export interface Allowance {
  /** Null: unlimited, then `remaining` is null too. */
  limit: number | null;
  used: number;
  remaining: number | null;
}

export interface Lane {
  quota_project: string;
  model: string;
  /** Aliases; null for a key without one. */
  keys: (string | null)[];
  state: "open" | "no_key" | "paused" | "no_quota" | "day_used_up" | "minute_used_up";
  blocked_until: string | null;
  blocked_reason: string | null;
  limits_from: "model" | "override";
  requests: Allowance;
  tokens: Allowance;
  requests_day: Allowance & { resets_at: string };
  /** Booked for later. */
  queued: number;
  running: number;
  /** Starts that it could take now, 0 where it is closed; null: without end. */
  free: number | null;
  /** When a closed one opens by itself; null: it is open, or nobody knows. */
  frees_at: string | null;
}

/** The database's clock, and Google's day. */
export interface Now {
  now: string;
  pacific_day: string;
  pacific_day_begins: string;
  pacific_day_ends: string;
}

export interface LanesAnswer {
  now: Now;
  lanes: Lane[];
}

export type RequestState = "succeeded" | "failed" | "cancelled" | "expired" | "running" | "refused";

export interface RequestRow {
  /** Null for a refusal, which has `refusal_no` instead. */
  request_no: number | null;
  refusal_no: number | null;
  request_id: string;
  state: RequestState;
  at: string;
  finished_at: string | null;
  duration_ms: number | null;
  wait_ms: number;
  attempts: number;
  consumer: string | null;
  class: "interactive" | "batch";
  endpoint: string;
  requested_model: string;
  model: string;
  key: string | null;
  input_tokens: number | null;
  output_tokens: number | null;
  /** With thinking. */
  total_tokens: number | null;
  error_code: string | null;
  finish_reason: string | null;
  limit: string | null;
  retry_after_ms: number | null;
  trace_id: string | null;
}

export interface RequestsAnswer {
  /** Those that run, then what ended or was refused, the last one first. */
  requests: RequestRow[];
  /** Where the next page begins; null: there is nothing more. */
  next_before: string | null;
}

export interface RequestsTail {
  /** What has ended or was refused since, the first one first; of the last two seconds before also what was told already. */
  events: RequestRow[];
  /** What to ask with next time. */
  next: string;
}

/** What was refused for what it is, of which only the number is kept. */
export interface BadRequests {
  code: string;
  /** Null: nobody had been recognised yet. */
  consumer: string | null;
  times: number;
  first_at: string;
  last_at: string;
}

export interface Try {
  attempt: number;
  model: string;
  key: string;
  quota_project: string | null;
  start_at: string;
  wait_ms: number;
  latency_ms: number | null;
  settled_at: string;
  outcome: string;
  dispatched: boolean;
  tokens_booked: number;
  input_tokens: number | null;
  output_tokens: number | null;
  thoughts_tokens: number | null;
  usage_estimated: boolean;
  upstream_status: number | null;
  error_code: string | null;
  error_detail: string | null;
  /** Null: it did not fail. */
  fault: string | null;
}

export interface RequestDetail extends RequestRow {
  metadata: unknown;
  tries: Try[];
  running:
    | { attempt: number; state: string; start_at: string; lease_until: string; tokens_booked: number }
    | null;
  refusals: {
    at: string;
    attempt: number;
    model: string;
    error_code: string;
    limit: string | null;
    /** When it would have fitted, after `at`. */
    retry_after_ms: number | null;
  }[];
  capture: { prompt: unknown; answer: unknown; captured_at: string } | null;
  answer_kept: boolean;
}

export interface Consumer {
  id: string;
  name: string;
  kind: "service" | "notebook";
  /** Null: all. */
  models: string[] | null;
  scopes: ScopeName[];
  tenant_id: string;
  max_class: "interactive" | "batch";
  rpm: number | null;
  requests_per_day: number | null;
  tokens_per_day: number | null;
  token_ttl_s: number;
  is_active: boolean;
  created_at: string;
  secret_changed_at: string | null;
  /** Until when the secret before is valid, too; null: it is not. */
  previous_secret_until: string | null;
  /** Of Google's day: what has ended. */
  requests_today: number;
  /** Input, answer and thinking. */
  tokens_today: number;
  /** What today's budget counts; null: there is none. */
  requests_of_budget: number | null;
  tokens_of_budget: number | null;
  live_tokens: number;
}

export interface ConsumersAnswer {
  consumers: Consumer[];
  /** That match, on all pages. */
  total: number;
  /** The `after` of the next page; null: this is the last. */
  next_after: string | null;
}

/** The one answer that has the secret. */
export interface ConsumerWithSecret {
  consumer: Consumer;
  secret: string;
}

export interface Token {
  id: string;
  consumer: string;
  state: "live" | "expired" | "revoked";
  scopes: ScopeName[];
  class: "interactive" | "batch";
  requests_used: number;
  requests_budget: number | null;
  tokens_used: number;
  tokens_budget: number | null;
  issued_at: string;
  expires_at: string;
}

export interface Tenant {
  id: string;
  name: string | null;
  is_default: boolean;
  /** Null: the limit that all have alike. */
  storage_limit_bytes: number | null;
  created_at: string;
  /** How many. */
  members: number;
  consumers: number;
}

export interface TenantMember {
  user_id: string;
  added_at: string;
}

export interface Alert {
  id: number;
  kind: string;
  subject: string;
  severity: "info" | "warning" | "critical";
  message: string;
  title: string;
  /** What to do about it; null: nobody wrote any. */
  advice: string | null;
  opened_at: string;
  closed_at: string | null;
  /** Null: nobody looks after it yet. */
  acknowledged_at: string | null;
  acknowledged_by: string | null;
}

export interface AlertDetail extends Alert {
  deliveries: {
    channel: string;
    event: string;
    state: string;
    attempts: number;
    sent_at: string | null;
    last_error: string | null;
  }[];
}

export interface OperationRun {
  /** `skipped`: another run of it was under way. */
  status: "succeeded" | "skipped" | "failed";
  /** Of a run that failed. */
  error: string | null;
}

export interface ChannelTests {
  /** Null: it has taken the message. */
  channels: { name: string; error: string | null }[];
  /** What is wrong with the settings. */
  problems: string[];
}

export interface Percentiles {
  p50: number | null;
  p95: number | null;
  p99: number | null;
}

/** Of the last hour. */
export interface Overview {
  since: string;
  requests: number;
  succeeded: number;
  failed: number;
  refused: number;
  /** There were more: these are the newest 10,000. */
  is_sample: boolean;
  wait_ms: Percentiles;
  latency_ms: Percentiles;
  errors: { code: string; times: number }[];
  /** Those that are not used although nobody switched them off. `until` null: until a person does something about it. */
  bad_keys: { name: string; reason: string; until: string | null }[];
  has_keys: boolean;
  has_consumers: boolean;
  has_requests: boolean;
}

export interface Found {
  kind: "request" | "refusal" | "job" | "chat" | "post";
  /** Of a request its number; of a refused one the id that its caller gave it. */
  id: string;
  name: string | null;
  at: string | null;
  /** Of a post whose it is; null of all else. */
  tenant_id: string | null;
  /** Of a refused request whose it was; null of all else, and where it came with the project's key. */
  consumer: string | null;
}

export interface KeyOfPool {
  id: string;
  alias: string | null;
  provider: string;
  /** A stage's key begins with `stage:`, a secret that is stored in the database with `stored:`. */
  env_var_name: string | null;
  /** Of a stored secret; null: it is elsewhere. */
  stored: { last_four: string; entered_by: string; entered_at: string } | null;
  quota_project: string | null;
  quota_key: string;
  priority: number | null;
  notes: string | null;
  is_active: boolean;
  state: "on" | "off" | "blocked" | "no_secret_name";
  /** `infinity`: until a person switches it on. */
  blocked_until: string | null;
  blocked_reason: string | null;
  last_used_at: string | null;
  today: { requests: number; input_tokens: number };
  check: {
    checked_at: string;
    outcome: "works" | "rejected" | "secret_missing" | "unclear";
    reason: string | null;
    detail: string | null;
  } | null;
  blocked_models: { model: string; blocked_until: string; reason: string }[];
}

export interface KeyTest {
  status: "active" | "invalid" | "error" | "no_secret";
  reason: string | null;
  models: string[] | null;
}

export interface ModelRow {
  model: string;
  provider: string;
  is_active: boolean;
  replaced_by: string | null;
  supports_system: boolean;
  supports_json: boolean;
  supports_tools: boolean;
  supports_thinking: boolean;
  max_output_tokens: number | null;
  /** Null: unlimited. */
  rpm: number | null;
  tpm: number | null;
  rpd: number | null;
  /** Of each minute and day, what interactive callers leave to batch that waits; 0 to 0.9, as the next two. */
  batch_floor: number;
  /** Starts of each minute that batch leaves unused. */
  interactive_floor: number;
  /** Of each minute, what batch leaves unused. */
  interactive_reserve: number;
  /** Of each day, what batch leaves to interactive callers. */
  interactive_reserve_day: number;
}

export interface LimitsAnswer {
  overrides: {
    quota_project: string;
    model: string;
    rpm: number | null;
    tpm: number | null;
    rpd: number | null;
    notes: string | null;
  }[];
  quota_projects: string[];
}

type Limits = Record<"rpm" | "tpm" | "rpd", number | null>;

/** What a table of limits says, line by line of it. */
export interface LimitsImport {
  /** False: this is what would be changed. */
  applied: boolean;
  /** `before` null: the model is new here. */
  changes: { line: number; model: string; before: Limits | null; after: Limits }[];
  unchanged: string[];
  /** Models that are not here, and were not to be added. */
  unknown: { line: number; name: string; id: string }[];
  problems: { line: number; message: string }[];
}

/** US dollars a million tokens; null: unknown. */
export interface ModelPrice {
  model: string;
  input_usd: number | null;
  /** Null: as other input. */
  cached_usd: number | null;
  /** Of thinking too. */
  output_usd: number | null;
  /** Called in a free tier: the price says what it would have cost. */
  is_free: boolean;
  /** The day on which it was looked up. */
  as_of: string;
}

export interface Model {
  model: string;
  replaced_by: string | null;
  provider: string;
}

export interface UsageFigures {
  requests: number;
  succeeded: number;
  failed: number;
  cancelled: number;
  expired: number;
  /** At their first attempt: none of them is among `requests`. */
  refused: number;
  input_tokens: number;
  output_tokens: number;
  thoughts_tokens: number;
  cached_tokens: number;
  /** Attempts that called upstream. */
  dispatched: number;
  /** Milliseconds, of all together: that requests waited, and that upstream took. */
  wait_ms: number;
  latency_ms: number;
  /** US dollars, by the prices of now; free_usd: what calls in a free tier would have cost. */
  paid_usd: number;
  free_usd: number;
  /** Some of it has no known price: it is more than that. */
  paid_unknown: boolean;
  free_unknown: boolean;
}

export type UsageSplit = "day" | "hour" | "consumer" | "model" | "key" | "endpoint";

export interface UsageAnswer {
  now: Now;
  /** What the sums cover; `until` null: up to now. */
  since: string;
  until: string | null;
  /** Everything that was written before is in it; null: nothing was summed yet. */
  complete_until: string | null;
  rows: (UsageFigures & {
    day?: string;
    hour?: string;
    consumer?: string;
    model?: string;
    key?: string | null;
    endpoint?: string;
  })[];
  /** All that are not among the `top`, together; null: there are none. */
  others: UsageFigures | null;
  others_of: number;
  totals: UsageFigures;
  /** Models that were used and have no known price. */
  unpriced: string[];
}

/** Of a time. */
export interface UsageParts {
  since: string;
  until: string | null;
  /** There were more: percentiles are of the newest 100,000 requests, refusals among the errors of the newest 100,000. */
  is_sample: boolean;
  wait_ms: Percentiles;
  /** Of those that succeeded, what upstream took. */
  latency_ms: Percentiles;
  errors: { code: string; times: number }[];
  /** What was asked for by a stage, by the model that served. */
  stages: (UsageFigures & { stage: string; model: string })[];
}

/** What somebody wrote is null where the owner shows administrators no text. */
export interface AdminChat {
  id: string;
  /** The app's own name for its user. */
  user_id: string | null;
  /** The signed-in user whose it is. */
  owner: string | null;
  consumer: string | null;
  messages: number;
  stored_bytes: number;
  created_at: string;
  updated_at: string;
  archived_at: string | null;
  deleted_at: string | null;
  expires_at: string | null;
  title: string | null;
  description: string | null;
}

/** Where the next page begins. */
export interface ChatPlace {
  created_at: string;
  id: string;
}

export interface ChatsAnswer {
  /** Whether the owner of the project lets administrators read. */
  shows_text: boolean;
  chats: AdminChat[];
  next: ChatPlace | null;
}

export interface AdminMessage {
  id: string;
  parent_id: string | null;
  role: string;
  state: string;
  created_at: string;
  bytes: number;
  content: string | null;
  feedback: string | null;
  input_tokens: number | null;
  output_tokens: number | null;
  total_tokens: number | null;
  /** The call that made it; null: none that the books have. */
  request_no: number | null;
  images: AdminChatImage[];
}

export interface AdminChatImage {
  id: string;
  width: number | null;
  height: number | null;
  file_size: number | null;
  /** With `tenant_id`: the file. */
  file_sha256: string | null;
  tenant_id: string | null;
  image_name: string | null;
  description: string | null;
}

export interface ChatAnswer {
  shows_text: boolean;
  chat: AdminChat;
  /** Of the whole chat. */
  cost: { calls: number; input_tokens: number; output_tokens: number; total_tokens: number };
  messages: AdminMessage[];
  next: ChatPlace | null;
}

export type JobState = "queued" | "running" | "succeeded" | "failed" | "cancelled" | "expired";

export interface AdminJob {
  id: string;
  no: number;
  kind: string;
  state: JobState;
  class: "interactive" | "batch" | null;
  /** Null: the project's. */
  consumer: string | null;
  request_id: string | null;
  models: string[] | null;
  batch_id: string | null;
  tries: number;
  losses: number;
  error_code: string | null;
  error_detail: string | null;
  submitted_at: string;
  run_at: string | null;
  started_at: string | null;
  finished_at: string | null;
  expires_at: string | null;
}

/** What kept answers have saved, and whose are kept. */
export interface CacheAnswer {
  totals: { hits: number; misses: number; saved_input_tokens: number; saved_output_tokens: number };
  consumers: { consumer: string; ttl_s: number; by_tenant: boolean }[];
}

export interface JobsAnswer {
  jobs: AdminJob[];
  /** Where the next page begins; null: there is nothing more. */
  next: number | null;
}

export interface AdminJobDetail {
  job: AdminJob;
  /** Null: its caller's row does not allow prompts to be kept. */
  said: { body?: unknown; result?: unknown } | null;
}

export interface Batch {
  id: string;
  consumer: string | null;
  endpoint: string;
  state:
    | "validating"
    | "failed"
    | "in_progress"
    | "finalizing"
    | "completed"
    | "expired"
    | "cancelling"
    | "cancelled";
  total: number;
  completed: number;
  failed: number;
  expired: number;
  /** What is wrong with its file: how many. */
  errors: number;
  created_at: string;
  ended_at: string | null;
}

export interface BatchesAnswer {
  batches: Batch[];
  next: number | null;
}

export interface Webhook {
  id: string;
  consumer: string;
  url: string;
  is_active: boolean;
  off_reason: string | null;
  pending: number;
  dead_letters: number;
  last_delivered_at: string | null;
}

export interface WebhookDelivery {
  delivery_id: number;
  type: string;
  subject: string | null;
  time: string;
  state: "pending" | "delivered" | "dead" | "dropped";
  attempts: number;
  next_try_at: string | null;
  last_error: string | null;
}

export interface DeadLetter {
  id: number;
  receiver: string;
  type: string;
  subject: string | null;
  error: string | null;
  attempts: number;
  first_failed_at: string;
  last_failed_at: string;
}

export interface DeadLetterDetail extends DeadLetter {
  event: { id: string; type: string; time: string; data: Record<string, unknown> };
}
