import * as z from "zod";
import type { TrafficClass } from "../../contract/request.ts";
import { asCaller, type JobCaller, type JobRow, jobRow, type JobState } from "./jobs.ts";
import { callUnlessRefused } from "../refused.ts";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

/** What a job of the kind `llm` or `provider_job` is to do: a POST of the gateway's own, as a client would send it. */
export const callBody = z.object({
  /** Below the function's own: `/` is the native endpoint. */
  path: z.string(),
  body: z.record(z.string(), z.unknown()),
  /** Of endpoints whose bodies cannot say it: `x-eve-capture`. */
  capture: z.boolean().optional(),
});
export type CallBody = z.output<typeof callBody>;

/** How it was answered. */
export const callResult = z.object({ status: z.number(), body: z.unknown() });
export type CallResult = z.output<typeof callResult>;

export interface JobToSubmit {
  id: string;
  kind: string;
  /** The caller's own name for it; absent: its id. */
  requestId?: string;
  /** Tells a repetition from another job with the same `requestId`. */
  requestHash?: string;
  /** Absent: it is kept with the media, at `bodyMedia`. */
  body?: unknown;
  bodyMedia?: string;
  class: TrafficClass;
  /** 1 to 10, or `stage:NAME`. */
  models: string[];
  /** ISO 8601. Absent: now. */
  runAt?: string;
  /** ISO 8601. Absent: as its kind says. */
  expiresAt?: string;
  batchId?: string;
  place?: number;
  customId?: string;
  /** Is told of its end. */
  webhookId?: string;
}

const accepted = z.object({
  status: z.literal("accepted"),
  jobs: z.array(z.object({ id: z.string(), state: z.string(), is_new: z.boolean() })),
  wake: z.boolean(),
});

export interface Accepted {
  /** In the order in which they were handed in. */
  jobs: { id: string; isNew: boolean }[];
  /** Whether the function worker is to be called: none runs, and nobody has called it in the last second. */
  wake: boolean;
}

export interface JobFilters {
  states?: readonly JobState[];
  kinds?: readonly string[];
  batchId?: string;
  /** What the page before answered as `next`. */
  before?: number;
  /** 1 to 200; 50 if absent. */
  atMost?: number;
}

const page = z.object({ jobs: z.array(jobRow), next: z.number().nullable() });

/** Jobs for those whose they are. */
export interface JobQueue {
  /**
   * All of them, or none. A `requestId` that the caller has used is the same job.
   * @param jobs 1 to 1000
   * @throws GatewayError `jobs_full`, `request_id_reused`, `body_too_large`, `model_not_allowed`, `consumer_disabled`, `token_revoked`
   */
  submit(jobs: readonly JobToSubmit[], caller: JobCaller): Promise<Accepted>;
  /** Null: there is none, or not for this caller. */
  find(id: string, caller: JobCaller): Promise<JobRow | null>;
  /** The newest first, without their results. */
  list(caller: JobCaller, filters: JobFilters): Promise<{ jobs: JobRow[]; next: number | null }>;
  /** How many had not ended, and are cancelled now. */
  cancel(ids: readonly string[], caller: JobCaller): Promise<number>;
}

/** A list of a thousand jobs takes a while. */
const QUEUE_TIMEOUT_MS = 15_000;

export function createJobQueue(transport: Transport, timeoutMs = QUEUE_TIMEOUT_MS): JobQueue {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  return {
    async submit(jobs, caller) {
      const answer = await callUnlessRefused(
        transport,
        "eve_jobs_submit",
        { jobs: jobs.map(given), ...asCaller(caller) },
        accepted,
        timeoutMs,
      );
      return { jobs: answer.jobs.map(({ id, is_new }) => ({ id, isNew: is_new })), wake: answer.wake };
    },
    find: (id, caller) => ask("eve_job", { id, ...asCaller(caller) }, jobRow.nullable()),
    list: (caller, { states, kinds, batchId, before, atMost }) =>
      ask("eve_jobs", {
        ...asCaller(caller),
        states: states ?? null,
        kinds: kinds ?? null,
        batch_id: batchId ?? null,
        before: before ?? null,
        at_most: atMost ?? null,
      }, page),
    async cancel(ids, caller) {
      const { cancelled } = await ask(
        "eve_jobs_cancel",
        { ids, batch_id: null, ...asCaller(caller) },
        z.object({ cancelled: z.number() }),
      );
      return cancelled;
    },
  };
}

function given(job: JobToSubmit): Record<string, unknown> {
  return {
    id: job.id,
    kind: job.kind,
    request_id: job.requestId,
    request_hash: job.requestHash,
    body: job.body,
    body_media: job.bodyMedia,
    class: job.class,
    models: job.models,
    run_at: job.runAt,
    expires_at: job.expiresAt,
    batch_id: job.batchId,
    place: job.place,
    custom_id: job.customId,
    webhook_id: job.webhookId,
  };
}
