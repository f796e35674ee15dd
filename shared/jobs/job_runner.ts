import type { ClaimedJob, RunFailure } from "../database/jobs/job_leases.ts";

/** How one run of a job ended. */
export type RunOutcome =
  /** `resultMedia`: the result is kept with the media, there. */
  | { kind: "done"; result: unknown; resultMedia?: string }
  | { kind: "failed"; failure: RunFailure }
  /**
   * Nothing was sent: the job goes back to its place. `pauseMs`: there is no room for it, nor for those behind it, before then. `delayMs`: it
   * alone has to wait so long.
   */
  | { kind: "unspent"; pauseMs?: number; delayMs?: number }
  /** Somebody else says how it ends: the provider that has it now. */
  | { kind: "handed_over" };

export interface RunTerms {
  /** Aborts when the job is not the worker's any more, or the worker is to end. */
  signal: AbortSignal;
  /** What is said of the job while it runs: at most 4,096 characters as JSON. */
  progress: (said: unknown) => void;
}

/** Runs jobs of a kind. What it throws is a failure as `asGatewayError` reads it. */
export type JobRunner = (job: ClaimedJob, terms: RunTerms) => Promise<RunOutcome>;
