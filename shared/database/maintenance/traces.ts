import * as z from "zod";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

const TIMEOUT_MS = 10_000;

const count = z.number().int().nullable();

const attempt = z.object({
  attempt: z.number().int(),
  /** When upstream was called: milliseconds since 1970. */
  start_ms: z.number(),
  latency_ms: count,
  outcome: z.string(),
  model: z.string(),
  error_code: z.string().nullable(),
  upstream_status: count,
  finish_reason: z.string().nullable(),
  input_tokens: count,
  output_tokens: count,
  thoughts_tokens: count,
  cached_tokens: count,
  /** Null: it has been removed. */
  key: z.string().nullable(),
  provider: z.string().nullable(),
  quota_project: z.string().nullable(),
});
export type TracedAttempt = z.output<typeof attempt>;

const request = z.object({
  request_no: z.number().int(),
  request_id: z.string(),
  /** 32 hexadecimal digits; null: the request came without. */
  trace_id: z.string().nullable(),
  received_at: z.string(),
  finished_at: z.string(),
  state: z.string(),
  error_code: z.string().nullable(),
  endpoint: z.string(),
  class: z.string(),
  model: z.string(),
  requested_model: z.string().nullable(),
  consumer: z.string().nullable(),
  wait_ms: z.number(),
  attempts: z.array(attempt),
});
export type TracedRequest = z.output<typeof request>;

const page = z.object({
  requests: z.array(request),
  until: z.object({ at: z.string(), no: z.number().int() }).nullable(),
});
/** Requests that have ended, and how far the export has come with them. */
export type TracePage = z.output<typeof page>;

/** The next requests to export, the oldest first, at most `atMost` (1 to 1,000). What is too old is counted as lost and passed over. */
export function nextTraces(transport: Transport, atMost: number): Promise<TracePage> {
  return call(transport, "eve_traces_next", { at_most: atMost }, page, TIMEOUT_MS);
}

/** They are not given again; `sent` and `rejected` are spans. */
export async function tracesDone(
  transport: Transport,
  until: { at: string; no: number },
  { sent, rejected }: { sent: number; rejected: number },
): Promise<void> {
  const args = { until_at: until.at, until_no: until.no, sent, rejected };
  await call(transport, "eve_traces_done", args, z.unknown(), TIMEOUT_MS);
}
