import type { Batch, BatchApi, Batches } from "../database/jobs/batches.ts";
import type { JobCaller } from "../database/jobs/jobs.ts";

/**
 * Cancels a batch step by step, so that nobody who claims jobs waits long. Anyone who leaves meanwhile has cancelled it all the same: asking
 * again goes on, and so do its lines, to their ends.
 * @throws GatewayError `not_found`, `batch_ended` and what refuses the caller
 */
export async function cancelBatch(
  batches: Pick<Batches, "cancel">,
  { id, caller, api, signal }: { id: string; caller: JobCaller; api: BatchApi; signal: AbortSignal },
): Promise<Batch> {
  let step = await batches.cancel(id, caller, api);
  while (step.more && !signal.aborted) step = await batches.cancel(id, caller, api);
  return step.batch;
}
