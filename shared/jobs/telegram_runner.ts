import * as z from "zod";
import { asGatewayError } from "../contract/gateway_error.ts";
import { createIntake, type IntakeDependencies } from "../telegram/intake.ts";
import type { JobRunner } from "./job_runner.ts";

const telegramJob = z.object({ bot_id: z.number(), update_id: z.number() });

/** Someone else's jobs fill the queue: there is room as they are run. */
const FULL_DELAY_MS = 30_000;

/** Does updates of Telegram (eve_telegram_take hands them in). */
export function telegramRunner(dependencies: IntakeDependencies): JobRunner {
  const take = createIntake(dependencies);
  return async (job, { signal }) => {
    const { bot_id, update_id } = telegramJob.parse(job.body);
    try {
      const outcome = await take({ jobId: job.id, botId: bot_id, updateId: update_id }, signal);
      if (outcome.kind === "ended") return { kind: "done", result: outcome.applied };
      const { code, publicMessage: message, retryAfterMs } = outcome.error;
      // Whatever it is may be put right: a quota raised, a store back. What is not is replayed by hand.
      return { kind: "failed", failure: { code, message, retryable: true, retryAfterMs } };
    } catch (thrown) {
      if (signal.aborted) return { kind: "unspent" };
      const error = asGatewayError(thrown);
      if (error.code === "jobs_full") return { kind: "unspent", delayMs: FULL_DELAY_MS };
      // A file that the clean-up took meanwhile is fetched again.
      if (error.code !== "object_not_found") throw thrown;
      const { code, publicMessage: message } = error;
      return { kind: "failed", failure: { code, message, retryable: true } };
    }
  };
}
