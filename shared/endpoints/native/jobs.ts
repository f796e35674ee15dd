import { CORS_HEADERS } from "../../http/cors.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { filesOf, type JobRow } from "../../database/jobs/jobs.ts";
import { callResult } from "../../database/jobs/job_queue.ts";
import type { Job, JobAnswer, JobsAnswer } from "./job_answer.ts";

/** How soon to ask again: a song takes a minute or two, a video longer. */
const ASK_AGAIN_S = 3;

/** A job as the native endpoint's JSON: 202 when it has just been submitted and goes on. */
export function encodeJob(
  job: JobRow,
  { requestId, jobsUrl, status = 200, webhook = null }: {
    requestId: string;
    jobsUrl: string;
    status?: number;
    webhook?: JobAnswer["webhook"] | null;
  },
): Response {
  const goesOn = job.state === "running" || job.state === "queued";
  const answer: JobAnswer = { job: jobJson(job, jobsUrl), ...(webhook !== null && { webhook }) };
  return jsonResponse(
    goesOn ? status : 200,
    answer,
    requestId,
    goesOn ? { "retry-after": String(ASK_AGAIN_S) } : {},
  );
}

export function encodeJobs(
  { jobs, next }: { jobs: readonly JobRow[]; next: number | null },
  { requestId, jobsUrl }: { requestId: string; jobsUrl: string },
): Response {
  const answer: JobsAnswer = { jobs: jobs.map((job) => jobJson(job, jobsUrl)), next };
  return jsonResponse(200, answer, requestId);
}

function jobJson(job: JobRow, jobsUrl: string): Job {
  const url = `${jobsUrl}/${job.id}`;
  const files = filesOf(job);
  const waits = job.state === "queued" || job.state === "running";
  return {
    id: job.id,
    kind: job.kind,
    status: job.state,
    url,
    models: job.models ?? [],
    stage: job.stage_type,
    provider_kind: job.provider_kind,
    model: job.model,
    request_id: job.request_id,
    class: job.class,
    submitted_at: job.submitted_at,
    started_at: job.started_at,
    finished_at: job.finished_at,
    expires_at: waits ? job.expires_at : null,
    progress: job.progress ?? null,
    result: files === null ? null : {
      files: files.map((file) => ({
        // A file that the gateway stores itself is fetched with the credential that may see the job.
        url: file.url ?? `${url}/content`,
        mime_type: file.mime_type,
        title: file.title ?? null,
        duration_s: file.duration_s ?? null,
      })),
      expires_at: job.expires_at,
    },
    response: callResult.safeParse(job.result).data?.body ?? null,
    error: job.error_code === null || waits
      ? null
      : { code: job.error_code, message: job.error_detail ?? job.error_code },
  };
}

export function encodeContent(
  { mimeType, bytes }: { mimeType: string; bytes: Uint8Array },
  requestId: string,
): Response {
  return new Response(bytes.slice(), {
    headers: {
      ...CORS_HEADERS,
      "content-type": mimeType,
      "cache-control": "private, max-age=3600",
      // It came from elsewhere: a browser must not guess another type than the declared one.
      "x-content-type-options": "nosniff",
      "x-eve-request-id": requestId,
    },
  });
}
