import * as z from "zod";
import { BATCH_STATES } from "./batches.ts";
import { JOB_STATES } from "./jobs.ts";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

const TIMEOUT_MS = 8_000;

const job = z.object({
  id: z.string(),
  /** The order in which jobs came. */
  no: z.number(),
  kind: z.string(),
  state: z.enum(JOB_STATES),
  class: z.enum(["interactive", "batch"]).nullable(),
  /** A name; null: the project's. */
  consumer: z.string().nullable(),
  request_id: z.string().nullable(),
  models: z.array(z.string()).nullable(),
  batch_id: z.string().nullable(),
  place: z.number().nullable(),
  custom_id: z.string().nullable(),
  tries: z.number(),
  /** How often a worker died with it. */
  losses: z.number(),
  progress: z.unknown(),
  error_code: z.string().nullable(),
  error_detail: z.string().nullable(),
  submitted_at: z.string(),
  run_at: z.string().nullable(),
  started_at: z.string().nullable(),
  finished_at: z.string().nullable(),
  expires_at: z.string().nullable(),
});

const jobs = z.object({ jobs: z.array(job), next: z.number().nullable() });

const detail = z.object({
  job,
  /** Null: its caller's row does not allow prompts to be kept, so nobody is shown them. */
  said: z.object({ body: z.unknown(), result: z.unknown() }).nullable(),
});

const batches = z.object({
  batches: z.array(z.object({
    id: z.string(),
    no: z.number(),
    consumer: z.string().nullable(),
    endpoint: z.string(),
    state: z.enum(BATCH_STATES),
    models: z.array(z.string()),
    /** Lines: all of them, and those that have ended. */
    total: z.number(),
    completed: z.number(),
    failed: z.number(),
    expired: z.number(),
    /** What is wrong with its file. */
    errors: z.number(),
    created_at: z.string(),
    ended_at: z.string().nullable(),
    expires_at: z.string(),
  })),
  next: z.number().nullable(),
});

export interface JobsAsked {
  state?: string | undefined;
  kind?: string | undefined;
  /** A name, or `project`. */
  consumer?: string | undefined;
  batchId?: string | undefined;
  before?: number | undefined;
  /** 1 to 200; 50 if absent. */
  atMost?: number | undefined;
}

/** Jobs and batches of all callers, for administrators. */
export interface JobSearch {
  /** The newest first. */
  jobs(asked: JobsAsked): Promise<z.output<typeof jobs>>;
  /** Null: there is none. */
  job(id: string): Promise<z.output<typeof detail> | null>;
  /** The newest first. */
  batches(
    asked: { before?: number | undefined; atMost?: number | undefined },
  ): Promise<z.output<typeof batches>>;
}

export function createJobSearch(transport: Transport): JobSearch {
  return {
    jobs: ({ state, kind, consumer, batchId, before, atMost }) =>
      call(
        transport,
        "eve_job_search",
        {
          states: state === undefined ? null : [state],
          kinds: kind === undefined ? null : [kind],
          consumer: consumer ?? null,
          batch_id: batchId ?? null,
          before: before ?? null,
          at_most: atMost ?? null,
        },
        jobs,
        TIMEOUT_MS,
      ),
    job: (id) => call(transport, "eve_job_detail", { id }, detail.nullable(), TIMEOUT_MS),
    batches: ({ before, atMost }) =>
      call(
        transport,
        "eve_batch_search",
        { before: before ?? null, at_most: atMost ?? null },
        batches,
        TIMEOUT_MS,
      ),
  };
}
