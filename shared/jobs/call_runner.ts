import type { Caller } from "../contract/caller.ts";
import type { ErrorCode } from "../contract/errors.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import { type CallBody, callBody, type CallResult } from "../database/jobs/job_queue.ts";
import type { ClaimedJob } from "../database/jobs/job_leases.ts";
import { createRouter, type RouterDependencies } from "../endpoints/router.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { callerOf } from "./job_caller.ts";
import type { JobRunner, RunOutcome } from "./job_runner.ts";
import { createLines } from "./line.ts";

/** A queue whose model has no start yet is left alone at least so long. */
const LEAST_PAUSE_MS = 250;
/** The run before this one may still be under way: that of a worker that is frozen or has died. Its reservation ends by itself. */
const RUNNING_DELAY_MS = 15_000;
/** As many ids as a job may have runs, lost ones among them. */
const MAX_CALL_IDS = 120;

/** Errors that came before anything was sent; with a time to come back, the job waits until then. */
const BEFORE_SENDING: ReadonlySet<ErrorCode> = new Set([
  "rate_limited",
  "daily_limit",
  "lane_blocked",
  "too_many_waiting",
  "no_active_key",
  "budget_exhausted",
  "gateway_busy",
  "database_unavailable",
]);

export interface CallRunnerOptions
  extends Pick<RouterDependencies, "endpoints" | "gateway" | "resolve" | "maxBodyBytes"> {
  /** The longest that a call may ask to wait. */
  maxWaitMs: number;
  clock: Clock;
  newId: () => string;
  log: Log;
}

/**
 * Runs calls of models as the function that clients call would serve them: the same endpoints, in the caller's name, by the job's id.
 * So what an earlier run was answered is answered again and not paid for twice.
 */
export function callRunner({ maxWaitMs, clock, newId, log, ...served }: CallRunnerOptions): JobRunner {
  const lines = createLines(maxWaitMs);
  const runs = new WeakMap<Request, Run>();
  const errors = new WeakMap<Caller, GatewayError>();
  const serve = createRouter({
    functionName: "llm-invoke",
    clock,
    newId,
    log,
    open: () => ({
      ...served,
      identify: (request) => {
        const run = runs.get(request);
        if (run === undefined) throw new GatewayError("credential_missing");
        return Promise.resolve(run.caller);
      },
      jobOf: (request) => runs.get(request)?.job.id ?? null,
      noteError: (error, caller) => caller !== null && errors.set(caller, error),
    }),
  });

  async function called(job: ClaimedJob, terms: CallTerms, body: CallBody): Promise<Answered> {
    // One for each call: an error is told with its caller.
    const caller = callerOf(job);
    const request = requestOf(job, terms, body);
    runs.set(request, { job, caller });
    const response = await serve(request);
    const said: unknown = await response.json().catch(() => null);
    // Before there was a caller nobody was told: there is nothing at that path.
    const unheard = response.ok ? null : new GatewayError(response.status === 404 ? "not_found" : "internal");
    return { result: { status: response.status, body: said }, error: errors.get(caller) ?? unheard };
  }

  return async (job, { signal }) => {
    const body = callBody.parse(job.body);
    const { waitMs, leave } = lines.join(`${job.consumer_id} ${job.models?.join(" ")}`, job.start_every_ms);
    try {
      for (let run = 1;; run++) {
        const id = run === 1 ? job.id : `${job.id}.${run}`;
        const answered = await called(job, { id, waitMs, signal }, body);
        // An earlier run ended without an answer that was kept: this one is another request.
        if (answered.error?.code === "request_finished" && run < MAX_CALL_IDS) continue;
        return outcomeOf(job, answered, waitMs, signal);
      }
    } finally {
      leave();
    }
  };
}

interface CallTerms {
  id: string;
  waitMs: number;
  signal: AbortSignal;
}

interface Run {
  job: ClaimedJob;
  caller: Caller;
}

interface Answered {
  result: CallResult;
  error: GatewayError | null;
}

/** What a client would send for it. The native endpoint takes its options in the body, the others in headers. */
function requestOf(
  job: ClaimedJob,
  { id, waitMs, signal }: CallTerms,
  { path, body, capture }: CallBody,
): Request {
  const native = path === "/";
  const options = { request_id: id, class: job.class, mode: "wait", max_wait_ms: waitMs };
  return new Request(`http://worker/llm-invoke${path}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(!native && {
        "x-eve-request-id": id,
        "x-eve-class": job.class,
        "x-eve-max-wait-ms": String(waitMs),
        ...(capture !== undefined && { "x-eve-capture": String(capture) }),
      }),
    },
    body: JSON.stringify(native ? { ...body, ...options } : body),
    signal,
  });
}

function outcomeOf(
  { kind }: ClaimedJob,
  { result, error }: Answered,
  waitMs: number,
  signal: AbortSignal,
): RunOutcome {
  if (error === null) return kind === "provider_job" ? { kind: "handed_over" } : { kind: "done", result };
  const { code, retryable, retryAfterMs, publicMessage: message } = error;
  if (code === "request_running") return { kind: "unspent", delayMs: RUNNING_DELAY_MS };
  if (signal.aborted || code === "deadline_exceeded") return { kind: "unspent" };
  if (BEFORE_SENDING.has(code) && (retryAfterMs !== null || code === "database_unavailable")) {
    return { kind: "unspent", pauseMs: Math.max(LEAST_PAUSE_MS, (retryAfterMs ?? 0) - waitMs) };
  }
  return { kind: "failed", failure: { code, message, retryable, retryAfterMs, result } };
}
