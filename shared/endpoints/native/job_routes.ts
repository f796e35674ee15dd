import * as z from "zod";
import type { Caller } from "../../contract/caller.ts";
import { asGatewayError, GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import type { CallBody, JobFilters, JobQueue } from "../../database/jobs/job_queue.ts";
import { JOB_STATES, type JobRow } from "../../database/jobs/jobs.ts";
import { bytesInTable, type JobMedia, MAX_BODY_IN_TABLE_BYTES } from "../../media/job_media.ts";
import { isObject } from "../../contract/is_object.ts";
import type { Clock } from "../../runtime/clock.ts";
import { sha256Of } from "../../runtime/sha256.ts";
import type { JobService } from "../../stages/job_service.ts";
import type { EndpointRoute, RequestContext } from "../endpoint.ts";
import { invalidRequest, validated } from "../validated.ts";
import { encodeContent, encodeJob, encodeJobs } from "./jobs.ts";

export interface NativeJobs {
  service: JobService;
  queue: JobQueue;
  /** Calls the function worker, after the response has gone. */
  wake: () => void;
  /** The address at which this function answers about jobs, without their ids. */
  url: string;
  clock: Clock;
  newId: () => string;
  /** Of bodies and results that are too long for the table of jobs. */
  media: JobMedia;
  /** A webhook of the caller's for an address, and its secret if it is new. Throws GatewayError where there can be none. */
  webhookFor(caller: Caller, url: string): Promise<{ id: string; url: string; secret: string | null }>;
}

const JOB_PATH = "/jobs/:id{[0-9a-f-]{36}}";
/** A long poll looks so often. */
const POLL_EVERY_MS = 1_000;
/** Clients give up after a minute as a rule. */
const MAX_WAIT_S = 55;

/** What a call brings that decides when it is run, and not what is asked: the job's row says it. */
const OPTIONS: ReadonlySet<string> = new Set([
  "mode",
  "request_id",
  "class",
  "max_wait_ms",
  "stream",
  "webhook",
]);

/** Hands a call in as a job: 202, and the job. The same `request_id` again is the same job. */
export async function queued(
  jobs: NativeJobs | undefined,
  { caller, requestId }: RequestContext,
  asked: unknown,
  request: GatewayRequest,
  webhookUrl: string | null,
): Promise<Response> {
  if (jobs === undefined || !isObject(asked)) {
    throw invalidRequest([{ field: "mode", problem: "this gateway has no queue: must be wait or no_wait" }]);
  }
  const body: CallBody = {
    path: "/",
    body: Object.fromEntries(Object.entries(asked).filter(([name]) => !OPTIONS.has(name))),
  };
  const webhook = webhookUrl === null ? null : await jobs.webhookFor(caller, webhookUrl);
  const id = jobs.newId();
  const json = JSON.stringify(body);
  const bodyMedia = bytesInTable(json) > MAX_BODY_IN_TABLE_BYTES
    ? await jobs.media.keep(id, json, caller)
    : null;
  const requestHash = await sha256Of(json);
  const submitted = jobs.queue.submit([{
    id,
    kind: request.stage === null || request.stage.produces === "text" ? "llm" : "provider_job",
    ...(request.idIsClients && { requestId: request.id, requestHash }),
    ...(bodyMedia === null ? { body } : { bodyMedia }),
    class: request.class,
    models: request.models,
    ...(webhook !== null && { webhookId: webhook.id }),
  }], caller);
  if (bodyMedia !== null) {
    // It was refused, or is another job: nothing uses the file. Where nobody knows, or this is lost, eve_jobs_tidy releases it.
    const isUnused = await submitted.then(
      ({ jobs: [job] }) => !job!.isNew,
      (thrown) => asGatewayError(thrown).status < 500,
    );
    if (isUnused) await jobs.media.release(id, bodyMedia).catch(() => {});
  }
  const accepted = await submitted;
  if (accepted.wake) jobs.wake();
  const job = await jobs.queue.find(accepted.jobs[0]!.id, caller);
  if (job === null) throw noSuchJob(accepted.jobs[0]!.id);
  return encodeJob(await withResult(jobs.media, job), { requestId, jobsUrl: jobs.url, status: 202, webhook });
}

/**
 * `GET /jobs/ID?wait=30`, `DELETE /jobs/ID`, `GET /jobs?state=..&kind=..&before=..&limit=..` and `GET /jobs/ID/content`.
 * @param maxWaitMs the longest that any caller may wait here
 */
export function jobRoutes(jobs: NativeJobs, maxWaitMs: number): EndpointRoute[] {
  const { service, queue, media, url, clock } = jobs;
  const most = Math.min(MAX_WAIT_S, Math.floor(maxWaitMs / 1_000));
  const waiting = z.strictObject({
    wait: z.coerce.number({ error: "must be a number of seconds" }).min(0).max(
      most,
      `must be at most ${most} here`,
    )
      .default(0),
  });

  async function found(id: string, caller: Caller, waitMs: number, signal: AbortSignal): Promise<JobRow> {
    const until = clock.now() + waitMs;
    for (;;) {
      const job = await service.find(id, caller);
      const left = until - clock.now();
      if (job.finished_at !== null || left <= 0 || signal.aborted) return job;
      await clock.sleep(Math.min(POLL_EVERY_MS, left), signal).catch(() => {});
    }
  }

  return [{
    path: "/jobs",
    methods: ["GET"],
    async serve({ caller, requestId, request }) {
      const page = await queue.list(caller, filtersIn(request));
      return encodeJobs(page, { requestId, jobsUrl: url });
    },
  }, {
    path: JOB_PATH,
    methods: ["GET", "DELETE"],
    async serve({ caller, requestId, request, param }) {
      const id = param("id");
      if (request.method === "DELETE") await queue.cancel([id], caller);
      const { wait } = request.method === "GET" ? validated(waiting, queryOf(request)) : { wait: 0 };
      const job = await found(id, caller, wait * 1_000, request.signal);
      return encodeJob(await withResult(media, job), { requestId, jobsUrl: url });
    },
  }, {
    path: `${JOB_PATH}/content`,
    methods: ["GET"],
    async serve({ caller, requestId, param }) {
      return encodeContent(await service.content(param("id"), caller), requestId);
    },
  }];
}

async function withResult(media: JobMedia, job: JobRow): Promise<JobRow> {
  return job.result_media === null ? job : { ...job, result: await media.read(job.result_media) };
}

const listed = <Value extends string>(what: z.ZodType<Value, string>) =>
  z.string().transform((text) => text.split(",")).pipe(z.array(what).min(1).max(10)).optional();

const filters = z.strictObject({
  state: listed(z.enum(JOB_STATES)),
  kind: listed(z.string().regex(/^[a-z][a-z0-9_]{0,31}$/, "must be a kind of jobs")),
  batch_id: z.uuid().optional(),
  before: z.coerce.number({ error: "must be what the page before said as next" }).int().min(1).optional(),
  limit: z.coerce.number({ error: "must be a whole number" }).int().min(1).max(200).optional(),
});

function filtersIn(request: Request): JobFilters {
  const { state, kind, batch_id, before, limit } = validated(filters, queryOf(request));
  return {
    ...(state !== undefined && { states: state }),
    ...(kind !== undefined && { kinds: kind }),
    ...(batch_id !== undefined && { batchId: batch_id }),
    ...(before !== undefined && { before }),
    ...(limit !== undefined && { atMost: limit }),
  };
}

/** The query, without a credential that some clients send in it. */
function queryOf(request: Request): Record<string, string> {
  const query = Object.fromEntries(new URL(request.url).searchParams);
  delete query.key;
  return query;
}

function noSuchJob(id: string): GatewayError {
  return new GatewayError("not_found", { message: `There is no job ${id}, or it is not yours.` });
}
