/**
 * Every metric of the gateway: what the page declares, what docs/metrics.md describes, and what dashboards and rules may ask
 * for; tests compare them. The values come from SQL (eve_metrics), which must name no other.
 *
 * Labels take few values: outcomes, endpoints and codes are lists of ours, models and keys are rows of the owner's, and consumers
 * beyond the setting metrics_consumers are one. Nothing that a caller writes is a label.
 */
export interface MetricDescription {
  type: "counter" | "gauge" | "histogram";
  help: string;
  /** In the order in which they are written. */
  labels: readonly string[];
}

export const METRICS = {
  eve_requests_total: {
    type: "counter",
    help: "Requests that ended, by outcome (succeeded, failed, cancelled, expired, refused).",
    labels: ["outcome", "endpoint", "consumer", "model"],
  },
  eve_attempts_total: {
    type: "counter",
    help: "Attempts that ended, by outcome and error code (empty: none). A request takes up to three.",
    labels: ["outcome", "model", "key", "code"],
  },
  eve_refusals_total: {
    type: "counter",
    help: "Reservations refused, by code and by the limit that stood in the way (empty: none did).",
    labels: ["code", "limit", "model", "class"],
  },
  eve_bad_requests_total: {
    type: "counter",
    help:
      "Requests refused for what they are (400, 404, 405, 408, 413), by code. The database has them by consumer.",
    labels: ["code"],
  },
  eve_tokens_total: {
    type: "counter",
    help:
      "Tokens of calls that were made, by type (input, output, thoughts, cached; cached is a part of input).",
    labels: ["type", "consumer", "model"],
  },
  eve_wait_seconds: {
    type: "histogram",
    help: "How long admitted requests waited for their starts, over all attempts.",
    labels: ["class", "model"],
  },
  eve_request_duration_seconds: {
    type: "histogram",
    help: "From a request's reservation to its end, waiting included.",
    labels: ["outcome", "endpoint"],
  },
  eve_upstream_duration_seconds: {
    type: "histogram",
    help: "From a call upstream to the end of its answer.",
    labels: ["outcome", "model"],
  },
  eve_estimate_ratio: {
    type: "histogram",
    help:
      "Input tokens that were booked for a call, divided by those that upstream counted: 1 is exact, less lets too many in.",
    labels: ["model"],
  },
  eve_estimate_factor: {
    type: "gauge",
    help: "What estimates of a model's input tokens are multiplied by, as learned from its calls.",
    labels: ["model"],
  },
  eve_lane_limit: {
    type: "gauge",
    help:
      "Limit of a lane: rpm (requests a minute), tpm (input tokens a minute), rpd (requests a Pacific day). Absent: unlimited.",
    labels: ["quota_project", "model", "limit"],
  },
  eve_lane_used: {
    type: "gauge",
    help: "What of a lane's limit is used: in the last minute, or in the current Pacific day.",
    labels: ["quota_project", "model", "limit"],
  },
  eve_lane_remaining: {
    type: "gauge",
    help: "What of a lane's limit is left.",
    labels: ["quota_project", "model", "limit"],
  },
  eve_lane_blocked: {
    type: "gauge",
    help: "1 while a lane rests because upstream said so.",
    labels: ["quota_project", "model"],
  },
  eve_queue_length: {
    type: "gauge",
    help: "Requests that wait for their booked start.",
    labels: ["model", "class"],
  },
  eve_requests_running: {
    type: "gauge",
    help: "Requests whose start has come and which have not ended.",
    labels: ["model", "class"],
  },
  eve_key_state: {
    type: "gauge",
    help: "1 for the state that a key is in: active, blocked (for a while, or until a person fixes it), off.",
    labels: ["key", "quota_project", "state"],
  },
  eve_alerts_open: {
    type: "gauge",
    help: "Alerts that are open.",
    labels: ["kind", "severity"],
  },
  eve_alert_deliveries: {
    type: "gauge",
    help: "Messages about alerts, by state (pending, sent, given_up), as long as the alerts are kept.",
    labels: ["channel", "state"],
  },
  eve_chat_rows: {
    type: "gauge",
    help:
      "Rows of the tables of chats: chats, messages, message_images, search_results, chat_shares. Above 10,000 as PostgreSQL estimates.",
    labels: ["table"],
  },
  eve_chat_answers_pending: {
    type: "gauge",
    help: "Answers in chats that are being written.",
    labels: [],
  },
  eve_chat_answers_total: {
    type: "counter",
    help:
      "Answers in chats that have ended: complete, broken_off (with what had come), abandoned (nobody wrote them to an end, and retention marked them).",
    labels: ["state"],
  },
  eve_chats_removed_total: {
    type: "counter",
    help: "Chats that are gone for good, by what took them: erasure, retention.",
    labels: ["by"],
  },
  eve_cache_requests_total: {
    type: "counter",
    help: "Calls that might be answered from what is kept: hit, miss.",
    labels: ["result"],
  },
  eve_cache_saved_tokens_total: {
    type: "counter",
    help: "Tokens that hits would have cost: input, output (thoughts included).",
    labels: ["type"],
  },
  eve_cache_answers: {
    type: "gauge",
    help: "Answers that are kept.",
    labels: [],
  },
  eve_cache_bytes: {
    type: "gauge",
    help: "Bytes of the answers that are kept, those among the files included.",
    labels: [],
  },
  eve_jobs: {
    type: "gauge",
    help: "Jobs that have not ended, by kind and state (queued, running).",
    labels: ["kind", "state"],
  },
  eve_job_oldest_age_seconds: {
    type: "gauge",
    help: "How long the job that has waited longest has been due; 0: none is.",
    labels: ["kind"],
  },
  eve_jobs_ended: {
    type: "gauge",
    help:
      "Jobs that ended in the last five minutes, by kind and state (succeeded, failed, cancelled, expired).",
    labels: ["kind", "state"],
  },
  eve_job_wait_seconds: {
    type: "gauge",
    help:
      "From when a job was due to its first start, of those that ended in the last five minutes: 50th and 95th percentile.",
    labels: ["kind", "percentile"],
  },
  eve_job_run_seconds: {
    type: "gauge",
    help:
      "From a job's first start to its end, of those that ended in the last five minutes: 50th and 95th percentile.",
    labels: ["kind", "percentile"],
  },
  eve_event_deliveries_total: {
    type: "counter",
    help:
      "Tries to deliver an event that have ended, by kind of consumer (webhook) and result (delivered, failed, gone, lost).",
    labels: ["consumer", "result"],
  },
  eve_event_oldest_age_seconds: {
    type: "gauge",
    help: "Age of the oldest event that is still to be delivered, by kind of consumer; 0: none waits.",
    labels: ["consumer"],
  },
  eve_dead_letters: {
    type: "gauge",
    help: "Events whose tries are used up, by kind of consumer, until they are sent again or dropped.",
    labels: ["consumer"],
  },
  eve_trace_spans_total: {
    type: "counter",
    help:
      "Spans for OpenTelemetry: sent, rejected by the collector, or lost because it was away for too long.",
    labels: ["result"],
  },
  eve_maintenance_age_seconds: {
    type: "gauge",
    help: "Time since an operation of maintenance last succeeded. Absent: it never has.",
    labels: ["operation"],
  },
  eve_maintenance_failed: {
    type: "gauge",
    help: "1 while the last run of an operation of maintenance is one that failed.",
    labels: ["operation"],
  },
  eve_table_bytes: {
    type: "gauge",
    help: "Size of a table that grows with use, its indexes included.",
    labels: ["table"],
  },
  storage_bucket_usage_gb: {
    type: "gauge",
    help: "Files stored, by kind (media, vision, crawl), in GB of 10^9 bytes.",
    labels: ["content_type"],
  },
  storage_limit_bytes: {
    type: "gauge",
    help:
      "Limit of files: total, emergency (where the clean-up begins), tenant (of each), media, vision, crawl, spool.",
    labels: ["limit"],
  },
  storage_quota_violations_total: {
    type: "counter",
    help:
      "Files refused for want of room, by tenant and by the limit that is used up (total, tenant, kind, spool).",
    labels: ["tenant_id", "reason"],
  },
  storage_emergency_cleanups_total: {
    type: "counter",
    help: "Runs of the emergency clean-up.",
    labels: [],
  },
  s3_upload_duration_seconds: {
    type: "histogram",
    help:
      "Uploads by the gateway that S3 took, retries included, by kind and size (up to 100kB, 1MB, 10MB, 100MB; larger).",
    labels: ["content_type", "size_bucket"],
  },
  s3_operations_total: {
    type: "counter",
    help:
      "Operations of the gateway on S3, by result (ok, aborted, or an error code) and kind (empty: about no single file).",
    labels: ["operation", "result", "content_type"],
  },
  vision_analysis_requests_total: {
    type: "counter",
    help:
      "Pictures whose analysis ended, by status (done, skipped, invalid, failed) and by the analyst that did it (empty: none was asked).",
    labels: ["status", "provider", "tenant"],
  },
  vision_tokens_used_total: {
    type: "counter",
    help: "Tokens that analyses of pictures were charged with, in and out.",
    labels: ["provider", "tenant"],
  },
  eve_crawl_fetches_total: {
    type: "counter",
    help:
      "Pages fetched, by what came of it: fetched, unchanged, not_html, failed, ...; not_queued: links of a post for which there was no room.",
    labels: ["result"],
  },
  vision_decisions_total: {
    type: "counter",
    help: "What was decided of pictures, by its reason.",
    labels: ["reason"],
  },
  vision_cache_hits_total: {
    type: "counter",
    help: "Analyses of pictures that were found in the cache and cost nothing.",
    labels: [],
  },
  vision_analysis_duration_seconds: {
    type: "histogram",
    help: "From the policy to the result of a picture, where an analyst was asked.",
    labels: ["provider"],
  },
  vision_pictures_waiting: {
    type: "gauge",
    help: "Pictures that are still to be looked at.",
    labels: [],
  },
  eve_telegram_updates_total: {
    type: "counter",
    help:
      "Updates of Telegram that came, by kind and result: taken, known (had already), or why they are ignored.",
    labels: ["kind", "result"],
  },
  eve_telegram_updates_waiting: {
    type: "gauge",
    help: "Updates of Telegram whose jobs have not done them.",
    labels: [],
  },
  eve_telegram_updates_failed: {
    type: "gauge",
    help: "Of those that wait: their jobs have ended in vain, and somebody has to look.",
    labels: [],
  },
  eve_graph_nodes: {
    type: "gauge",
    help: "Nodes of the graph, all tenants' together.",
    labels: ["kind"],
  },
  eve_graph_edges: {
    type: "gauge",
    help: "Edges of the graph, all tenants' together.",
    labels: ["kind"],
  },
  eve_metrics_behind_seconds: {
    type: "gauge",
    help:
      "How far the counters of this page are behind: 0, or more while they catch up or cannot be written.",
    labels: [],
  },
  eve_build_info: {
    type: "gauge",
    help: "Always 1; the version of the gateway is its label.",
    labels: ["version"],
  },
} as const satisfies Record<string, MetricDescription>;

export type MetricName = keyof typeof METRICS;

export function isMetricName(name: string): name is MetricName {
  return Object.hasOwn(METRICS, name);
}
