import * as z from "zod";
import { asCaller, JOB_STATES, type JobCaller, type JobRow, jobRow } from "./jobs.ts";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

const ofBatch = z.object({
  states: z.partialRecord(z.enum(JOB_STATES), z.number()),
  /** How many have not ended, by the first model that they ask for. */
  waiting: z.record(z.string(), z.number()),
  submitted_at: z.string(),
  /** Null while one has not ended. */
  finished_at: z.string().nullable(),
});

/** How far the jobs are that were handed in under one `batch_id`. */
export type JobListState = z.output<typeof ofBatch>;

const results = z.object({ jobs: z.array(jobRow), next: z.number().nullable() });

/** Jobs that were handed in together. */
export interface JobLists {
  /** Null: this caller has no jobs with that `batch_id`. */
  state(batchId: string, caller: JobCaller): Promise<JobListState | null>;
  /**
   * Those that have ended, by their places, page by page, with their results.
   * @param after what the page before said as `next`; null at the beginning, and from it on at the end
   */
  results(
    batchId: string,
    after: number | null,
    caller: JobCaller,
  ): Promise<{ jobs: JobRow[]; next: number | null }>;
  /** How many had not ended, and are cancelled now. */
  cancel(batchId: string, caller: JobCaller): Promise<number>;
}

/** Of 100,000 jobs all are counted or cancelled. */
const LISTS_TIMEOUT_MS = 30_000;

export function createJobLists(transport: Transport, timeoutMs = LISTS_TIMEOUT_MS): JobLists {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  return {
    state: (batch_id, caller) =>
      ask("eve_jobs_of_batch", { batch_id, ...asCaller(caller) }, ofBatch.nullable()),
    results: (batch_id, after_place, caller) =>
      ask("eve_jobs_results", { batch_id, after_place, at_most: 100, ...asCaller(caller) }, results),
    async cancel(batch_id, caller) {
      const shape = z.object({ cancelled: z.number() });
      return (await ask("eve_jobs_cancel", { ids: null, batch_id, ...asCaller(caller) }, shape)).cancelled;
    },
  };
}
