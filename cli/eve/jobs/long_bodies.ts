/** Bodies that are too long for the table of jobs: kept with the files of their caller's tenant, as the gateway does with calls that it queues. */
import pMap from "p-map";
import { createBatches } from "../../../shared/database/jobs/batches.ts";
import type { JobToSubmit } from "../../../shared/database/jobs/job_queue.ts";
import type { JobCaller } from "../../../shared/database/jobs/jobs.ts";
import type { Transport } from "../../../shared/database/transport/transport.ts";
import { bytesInTable, MAX_BODY_IN_TABLE_BYTES } from "../../../shared/media/job_media.ts";
import type { Connection } from "../connection.ts";
import { unreachable } from "../failure.ts";
import { readAnswer } from "../function_call.ts";
import { apiPath, succeeded } from "../storage/api.ts";

/** Sent at once: enough for a slow line, and no burst. */
const AT_ONCE = 4;
/** The store's answers that leave a body in the table of jobs, which takes what a line may have. */
const WITHOUT_ROOM: ReadonlySet<string> = new Set(["storage_quota_exceeded", "file_too_large"]);

/** Keeps the long bodies of a list of jobs with the files; the same jobs, in the same order. */
export type KeepLongBodies = (
  jobs: readonly JobToSubmit[],
  caller: JobCaller,
  signal: AbortSignal,
) => Promise<JobToSubmit[]>;

/**
 * Each file is used by its job. One whose job does not come, since it had been handed in before or was refused, is released by maintenance
 * after a day (eve.jobs_tidy).
 * @throws CliFailure with what the function `api` says against a file, unless there is no room for it: then its body stays
 */
export function longBodies(connection: Connection, transport: Transport): KeepLongBodies {
  const { tenantOf } = createBatches(transport);
  const tenants = new Map<string | null, Promise<string>>();
  const tenantFor = (caller: JobCaller) => {
    const known = tenants.get(caller.consumerId) ?? tenantOf(caller);
    tenants.set(caller.consumerId, known);
    return known;
  };
  return (jobs, caller, signal) =>
    pMap(jobs, async (job) => {
      const json = JSON.stringify(job.body);
      if (bytesInTable(json) <= MAX_BODY_IN_TABLE_BYTES) return job;
      const tenantId = await tenantFor(caller);
      const sha256 = await keep(connection, { tenantId, jobId: job.id, json, signal });
      if (sha256 === null) return job;
      const { body: _, ...others } = job;
      return { ...others, bodyMedia: `${tenantId}/${sha256}` };
    }, { concurrency: AT_ONCE });
}

/** Null: the store has no room. */
async function keep(
  { functions, secretKey, url, fetch }: Connection,
  { tenantId, jobId, json, signal }: { tenantId: string; jobId: string; json: string; signal: AbortSignal },
): Promise<string | null> {
  const path = apiPath("media", { tenant_id: tenantId, kind: "media", ref_kind: "job", ref_id: jobId });
  let response: Response;
  try {
    response = await fetch(`${functions}${path}`, {
      method: "POST",
      headers: { apikey: secretKey, "content-type": "application/x-ndjson" },
      body: json,
      redirect: "manual",
      signal,
    });
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    throw unreachable(`${url} does not answer (${thrown instanceof Error ? thrown.message : thrown}).`);
  }
  const answer = await readAnswer(response);
  if (WITHOUT_ROOM.has(answer.body?.error?.code)) return null;
  return succeeded<{ sha256: string }>(answer).sha256;
}
