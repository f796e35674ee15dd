import { asGatewayError } from "../contract/gateway_error.ts";
import type { Clock } from "../runtime/clock.ts";
import { bytesInTable, type JobMedia, MAX_RESULT_IN_TABLE_BYTES } from "../media/job_media.ts";
import { callerOf } from "./job_caller.ts";
import type { JobRunner } from "./job_runner.ts";

/** A store that does not answer is asked again so much later; the job has lost nothing. */
const STORE_DELAY_MS = 30_000;
/** Tries to keep a result: it has been paid for. */
const KEEP_TRIES = 3;
const KEEP_PAUSE_MS = 2_000;

export interface KeptWithMedia {
  media: JobMedia;
  clock: Clock;
}

/** A runner whose jobs may have bodies and results that are kept with the media. */
export function keptWithMedia(run: JobRunner, { media, clock }: KeptWithMedia): JobRunner {
  return async (job, terms) => {
    let { body } = job;
    if (job.body_media !== null) {
      try {
        body = await media.read(job.body_media);
      } catch (thrown) {
        if (asGatewayError(thrown).code === "storage_unavailable") {
          return { kind: "unspent", delayMs: STORE_DELAY_MS };
        }
        throw thrown;
      }
    }
    const outcome = await run({ ...job, body }, terms);
    // The files of batches are put together in the database, and stored responses are written there: their results are there, or too long.
    if (outcome.kind !== "done" || job.batch_id !== null || job.kind === "response") return outcome;
    const json = JSON.stringify(outcome.result);
    if (bytesInTable(json) <= MAX_RESULT_IN_TABLE_BYTES) return outcome;
    for (let left = KEEP_TRIES;; left--) {
      try {
        // The token may have ended since; the tenant is the consumer's.
        const caller = { ...callerOf(job), tokenId: null };
        return { kind: "done", result: null, resultMedia: await media.keep(job.id, json, caller) };
      } catch (thrown) {
        const { code, retryable, publicMessage } = asGatewayError(thrown);
        if (!retryable || left === 1) {
          const message =
            `Its answer is too long for the table of jobs, and could not be kept as a file: ${publicMessage}`;
          return { kind: "failed", failure: { code, message, retryable } };
        }
        await clock.sleep(KEEP_PAUSE_MS);
      }
    }
  };
}
