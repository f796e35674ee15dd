import type { Caller } from "../contract/caller.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { JobFile, JobRow, Jobs } from "../database/jobs/jobs.ts";
import type { Duplicate } from "../database/admission/reserve.ts";
import {
  type JobProgress,
  type MadeFile,
  ProviderFailure,
  type ProviderSettings,
} from "../providers/provider.ts";
import type { JobService } from "../stages/job_service.ts";
import { secretSourceOf } from "../contract/secret_source.ts";
import { jobTask } from "./tasks/job_task.ts";
import type { GatewayDependencies } from "./dependencies.ts";
import { requestHash } from "./admission/request_identity.ts";
import { serve } from "./serve.ts";

/** The least time between two questions to upstream about a job, however often its owner asks. */
const POLLED_EVERY_MS = 2_000;
/** Somebody waits for the answer, and may ask again. */
const POLL_TIMEOUT_MS = 15_000;

export interface JobServiceDependencies {
  gateway: GatewayDependencies;
  jobs: Jobs;
  newId: () => string;
  /** Milliseconds since 1970. */
  now: () => number;
  /** The address of a job, without its id. */
  jobsUrl: string;
}

export function createJobService({ gateway, jobs, newId, now, jobsUrl }: JobServiceDependencies): JobService {
  async function find(id: string, caller: Caller): Promise<JobRow> {
    const job = await jobs.find(id, caller);
    if (job === null) {
      throw new GatewayError("not_found", { message: `There is no job ${id}, or it is not yours.` });
    }
    const asked = job.checked_at === null ? 0 : Date.parse(job.checked_at);
    if (job.state !== "running" || now() - asked < POLLED_EVERY_MS) return job;
    return await poll(job);
  }

  async function poll(job: JobRow): Promise<JobRow> {
    const { upstream_id: upstreamId, provider_kind: kind, model } = job;
    if (upstreamId === null || kind === null || model === null) return job;
    // In the database a provider has the name that its keys have; providers that make jobs have one name in both places.
    const provider = gateway.providers[kind]?.jobs;
    if (provider === undefined) return job;
    try {
      const key = await keyOf(job, kind);
      if (key === null) return job;
      const progress = await provider.poll({
        upstreamId,
        model,
        ...key,
        signal: AbortSignal.timeout(POLL_TIMEOUT_MS),
      });
      return await jobs.note(noteOf(job.id, progress));
    } catch (thrown) {
      // Nothing new is known of the job: the caller gets the last known state, and may ask again.
      const detail = thrown instanceof ProviderFailure ? thrown.message : asGatewayError(thrown).detail;
      gateway.log("warn", "job_poll_failed", { job_id: job.id, stage: job.stage_type, detail });
      return job;
    }
  }

  /** With the settings that the job was submitted with; a key out of the environment goes where the environment says. */
  async function keyOf(
    { key_name, settings }: JobRow,
    provider: string,
  ): Promise<{ secret: string; settings?: ProviderSettings } | null> {
    if (key_name === null) return null;
    if (secretSourceOf(key_name).kind !== "environment") {
      return await gateway.storedKeys?.(key_name, { provider, settings }) ?? null;
    }
    const secret = gateway.secrets(key_name);
    return secret === null ? null : { secret };
  }

  return {
    find,
    async submit(request, stage, context, jobId) {
      const id = jobId ?? newId();
      const hash = request.idIsClients ? await requestHash(request) : null;
      const task = jobTask(request, {
        id,
        stage,
        consumerId: context.caller.consumerId,
        hash,
        jobs,
        callbackUrl: `${jobsUrl}/${id}/callback`,
      });
      try {
        const ended = await serve(gateway, task, context);
        if (!("status" in ended)) return await jobs.note(noteOf(id, ended.served.value));
        return await find(jobOf(ended), context.caller);
      } catch (thrown) {
        const error = asGatewayError(thrown);
        if (jobId === null) gateway.background(closeFailed(id, error));
        throw error;
      }
    },
    async content(id, caller) {
      const found = await jobs.content(id, caller);
      if (found !== null) return found;
      throw new GatewayError("not_found", {
        message: `There is no file of a job ${id} here: it is elsewhere, has expired, or is not yours.`,
      });
    },
  };

  /** A submission that failed after it was written down, whichever attempt wrote it. */
  async function closeFailed(id: string, error: GatewayError): Promise<void> {
    try {
      if (await jobs.find(id, { consumerId: null, tokenId: null }) === null) return;
      await jobs.note({
        id,
        state: "failed",
        errorCode: error.code,
        errorDetail: error.detail ?? error.publicMessage,
      });
    } catch {
      // It stays open, and is tidied up later.
    }
  }
}

/** The job of a request whose id has been seen before. */
function jobOf(duplicate: Duplicate): string {
  const { state, attempts, result, sameRequest, errorCode } = duplicate;
  const details = { state, attempts, ...(errorCode !== null && { error_code: errorCode }) };
  if (!sameRequest) throw new GatewayError("request_id_reused", { details });
  if (state === "running") throw new GatewayError("request_running", { details });
  const id = typeof result === "object" && result !== null && "job_id" in result ? result.job_id : null;
  if (typeof id !== "string") throw new GatewayError("request_finished", { details });
  return id;
}

function noteOf(id: string, progress: JobProgress) {
  switch (progress.state) {
    case "running":
      return { id, state: progress.state, upstreamId: progress.upstreamId };
    case "failed":
      return { id, state: progress.state, errorCode: progress.code, errorDetail: progress.reason };
    case "succeeded": {
      const kept = progress.files.find(({ content }) => content !== undefined);
      return {
        id,
        state: progress.state,
        files: progress.files.map(fileOf),
        expiresAt: progress.expiresAt === null ? null : new Date(progress.expiresAt).toISOString(),
        ...(kept?.content !== undefined && { content: { mimeType: kept.mimeType, bytes: kept.content } }),
      };
    }
  }
}

function fileOf({ url, mimeType, title, durationS }: MadeFile): JobFile {
  return { url, mime_type: mimeType, title: title ?? null, duration_s: durationS ?? null };
}
