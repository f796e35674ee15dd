import type { Emit } from "../contract/events.ts";
import { asGatewayError, type GatewayError } from "../contract/gateway_error.ts";
import type { InvokeContext } from "../contract/request.ts";
import type {
  CountWanted,
  Duplicate,
  Grant,
  InLine,
  Reservation,
  ReserveInput,
} from "../database/admission/reserve.ts";
import type { Settlement } from "../database/admission/settle.ts";
import { admitCounted, type Size } from "./admission/admit_counted.ts";
import { deadlineFrom, type RequestDeadline } from "./attempts/linked_abort.ts";
import { dispatch, type Outcome, type TooLate, type Unanswered, waitUntil } from "./attempts/dispatch.ts";
import { errorOf, withRefusal } from "./attempts/outcome_error.ts";
import type { GatewayDependencies } from "./dependencies.ts";
import { refusalError } from "./admission/refusal.ts";
import { outputAsked } from "./answers/output_limit.ts";
import { attributesOf, type RunEnd } from "./log_attributes.ts";
import { LEAST_TIME_MS, MAX_ATTEMPTS, type NextStep, nextStep } from "./attempts/retry.ts";
import { settleReliably } from "./attempts/settle_reliably.ts";
import { cancelled, settlementOf } from "./attempts/settlement.ts";
import type { Ended, Task } from "./tasks/task.ts";
import { withTimeout } from "../runtime/with_timeout.ts";

/** From the end of a call that took all of its time until its reservation counts as abandoned: time to settle, with repeats. */
const LEASE_SLACK_MS = 60_000;

/**
 * A start that would go out later than this is booked again: the window is this much longer than a minute (`guard_ms`), so that what
 * is late by less cannot fall into another minute of Google's.
 */
const LATEST_START_MS = 250;
/** How often an attempt's start is booked again; then it is sent as it is. A machine that is late every time would go on forever. */
const MAX_REBOOKINGS = 2;

type Booking = Exclude<Reservation, CountWanted>;
type Settled = Exclude<Booking, InLine>;

/** The state of a request while its attempts go on. */
interface Run<Value> {
  dependencies: GatewayDependencies;
  task: Task<Value>;
  context: InvokeContext;
  emit: Emit;
  deadline: RequestDeadline;
  waitedMs: number;
  excludeKeys: string[];
  avoidKeys: string[];
  /** Of the prompt; null: to be estimated. */
  size: Size | null;
  /** `Clock.now()` at which the last grant was booked, as near as can be told from here. */
  bookedAt: number;
}

/** An attempt that has been settled as one that another follows, and how the request ends if none does. */
interface FailedAttempt<Value> {
  settlement: Settlement;
  fallback: { error: GatewayError } | { ended: Ended<Value> };
}

/**
 * Serves a request: admit, call a model, settle, and try again where that makes sense.
 *
 * Every reservation that is granted is settled exactly once: after the response has gone when the request ends with it,
 * before the next reservation otherwise. When the context's signal aborts, the attempt under way is ended and settled.
 * @param emit absent: nobody wants the events
 * @throws GatewayError where the request fails
 */
export async function serve<Value>(
  dependencies: GatewayDependencies,
  task: Task<Value>,
  context: InvokeContext,
  emit: Emit = () => Promise.resolve(),
): Promise<Ended<Value> | Duplicate> {
  context.logLine?.begin();
  let runEnd: RunEnd | null = null;
  try {
    const ended = await attemptsOf({
      dependencies,
      task,
      context,
      emit,
      deadline: deadlineFrom(dependencies.clock, context.receivedAt, dependencies.times.requestTimeoutMs),
      waitedMs: 0,
      excludeKeys: [...task.asked.excludeKeys],
      avoidKeys: [],
      size: null,
      bookedAt: 0,
    });
    runEnd = "status" in ended ? { kind: "duplicate", duplicate: ended } : { kind: "ended", ended };
    return ended;
  } catch (thrown) {
    runEnd = { kind: "failed", thrown };
    throw thrown;
  } finally {
    if (runEnd !== null) context.logLine?.end(attributesOf(task, context, runEnd));
  }
}

/** One attempt after the other, until one of them is the request's end. */
async function attemptsOf<Value>(run: Run<Value>): Promise<Ended<Value> | Duplicate> {
  const { dependencies, task } = run;
  let failedAttempt: FailedAttempt<Value> | null = null;
  for (let attempt = 1;; attempt++) {
    let reservation: Settled | null = await admitted(run, attempt, failedAttempt);
    let ended: Ended<Value> | FailedAttempt<Value> | TooLate | null = null;
    for (let left = MAX_REBOOKINGS; reservation?.status === "granted"; left--) {
      ended = await runAttempt(run, reservation, left > 0);
      if (!isTooLate(ended)) break;
      reservation = await admitted(run, attempt, failedAttempt, reservation);
      ended = null;
    }
    if (ended !== null && !isTooLate(ended)) {
      if ("served" in ended) return ended;
      failedAttempt = ended;
    } else if (failedAttempt !== null) {
      closeAfter(run, failedAttempt);
      if ("ended" in failedAttempt.fallback) return failedAttempt.fallback.ended;
      const { error } = failedAttempt.fallback;
      throw reservation?.status === "refused" ? withRefusal(error, reservation) : error;
    } else if (reservation?.status === "refused") {
      const tokens = run.size?.counted === true ? run.size.tokens : task.tokens;
      const { requestTimeoutMs } = dependencies.times;
      throw refusalError(reservation, tokens, { maxWaitMs: task.asked.maxWaitMs, requestTimeoutMs });
    } else if (reservation?.status === "duplicate") return reservation;
  }
}

function isTooLate<Value>(ended: Ended<Value> | FailedAttempt<Value> | TooLate): ended is TooLate {
  return "kind" in ended;
}

/**
 * The attempt's reservation: a batch call may have to queue for it, and asks again each time that the database says
 * when. Null: it failed, and the request ends as an earlier attempt did.
 *
 * @param held the reservation that this attempt already holds, because its start came too late; it is released if this ends without a grant
 */
async function admitted<Value>(
  run: Run<Value>,
  attempt: number,
  failedAttempt: FailedAttempt<Value> | null,
  held: Pick<Grant, "requestNo" | "attempt"> | null = null,
): Promise<Settled | null> {
  const { dependencies, context, deadline } = run;
  let inHand = held;
  try {
    for (;;) {
      const reservation: Booking = await nextReservation(run, attempt, inHand?.requestNo);
      inHand = null;
      if (reservation.status !== "waiting") return reservation;
      inHand = reservation;
      const { model, waitMs } = reservation;
      const askAt = dependencies.clock.now() + waitMs;
      await run.emit({ type: "queued", attempt, model, waitMs });
      const how = await waitUntil(dependencies, askAt, context.signal, deadline);
      if (how !== null) {
        const outcome: Unanswered = {
          kind: "broken_off",
          how,
          dispatched: false,
          latencyMs: null,
          used: null,
        };
        throw errorOf(outcome, reservation);
      }
      run.waitedMs += waitMs;
    }
  } catch (thrown) {
    if (failedAttempt === null) throw thrown;
    return null;
  } finally {
    // The client has gone, the time is up, or the database did not answer: the place in the queue is given back.
    if (inHand !== null) settleLater(run, cancelled(inHand));
  }
}

async function nextReservation<Value>(
  run: Run<Value>,
  attempt: number,
  requestNo: number | undefined,
): Promise<Booking> {
  const { dependencies, task, context, size } = run;
  let askedAt = 0;
  const input = (size: Size) => {
    askedAt = dependencies.clock.now();
    return { ...reserveInput(run, attempt, size), ...(requestNo !== undefined && { requestNo }) };
  };
  const { reservation, size: known } = await admitCounted({
    dependencies,
    task,
    client: context.signal,
    size,
    input,
  });
  run.size = known;
  run.bookedAt = (askedAt + dependencies.clock.now()) / 2;
  return reservation;
}

function reserveInput<Value>(
  { dependencies, task, context, ...run }: Run<Value>,
  attempt: number,
  size: Size,
): ReserveInput {
  const { asked } = task;
  const timeToWait = Math.min(asked.maxWaitMs - run.waitedMs, run.deadline.left() - LEAST_TIME_MS);
  return {
    requestId: asked.id,
    models: task.models ?? asked.models,
    ...size,
    maxOutputTokens: task.prompt === undefined ? 0 : outputAsked(task.prompt),
    consumerId: context.caller.consumerId,
    tokenId: context.caller.tokenId,
    class: asked.class,
    maxWaitMs: Math.max(0, Math.floor(timeToWait)),
    attempt,
    excludeKeys: run.excludeKeys,
    avoidKeys: run.avoidKeys,
    leaseMs: dependencies.times.upstreamTimeoutMs + LEASE_SLACK_MS,
    endpoint: asked.endpoint,
    traceId: asked.traceId,
    metadata: asked.metadata,
    requestHash: task.hash,
    visionEstimate: asked.visionEstimate,
  };
}

/** The request's end, or the failed attempt that another one is to follow. Throws when it ends in an error. */
async function runAttempt<Value>(
  run: Run<Value>,
  grant: Grant,
  mayRebook: boolean,
): Promise<Ended<Value> | FailedAttempt<Value> | TooLate> {
  const { dependencies, task, context, deadline, emit } = run;
  const start = {
    startsAt: dependencies.clock.now() + grant.waitMs,
    latestAt: mayRebook ? run.bookedAt + grant.waitMs + LATEST_START_MS : Infinity,
  };
  const outcome: Outcome<Value> | TooLate = await dispatch(
    dependencies,
    task,
    grant,
    start,
    context,
    deadline,
    emit,
  );
  run.waitedMs += Math.max(grant.waitMs, 0);
  if (outcome.kind === "too_late") {
    dependencies.log("warn", "start_too_late", {
      request_id: task.asked.id,
      model: grant.model,
      late_ms: Math.round(outcome.lateMs + LATEST_START_MS),
    });
    return outcome;
  }
  if (outcome.kind !== "answered") return await afterFailure(run, grant, outcome);

  const ended: Ended<Value> = { grant, served: outcome.served, waitMs: Math.round(run.waitedMs) };
  const timeIsLeft = grant.attempt < MAX_ATTEMPTS && deadline.left() >= LEAST_TIME_MS &&
    !context.signal.aborted;
  if (timeIsLeft && !outcome.begun && task.repair?.(outcome.served)) {
    // The prompt has grown.
    run.size = null;
    const failedAttempt = { settlement: settlementOf(grant, outcome, false), fallback: { ended } };
    if (await settledBetween(run, failedAttempt)) return failedAttempt;
    return ended;
  }
  settleLater(run, settlementOf(grant, outcome, true, task.resultToStore?.(ended)), ended);
  return ended;
}

async function afterFailure<Value>(
  run: Run<Value>,
  grant: Grant,
  outcome: Exclude<Outcome<Value>, { kind: "answered" }>,
): Promise<FailedAttempt<Value>> {
  const { dependencies, task } = run;
  const error = errorOf(outcome, grant);
  logFailedAttempt(run, grant, error, outcome);
  const step: NextStep = nextStep({
    outcome,
    attempt: grant.attempt,
    leftMs: run.deadline.left(),
    upstreamTimeoutMs: dependencies.times.upstreamTimeoutMs,
    random: dependencies.random,
    without: (capability) => task.without?.(capability, grant.model) ?? false,
  });
  // The pause comes before the settlement: if the client leaves meanwhile the request is still open, and is closed here.
  if (!step.again || !await pause(run, step.pauseMs)) {
    settleLater(run, settlementOf(grant, outcome, true));
    throw error;
  }
  if (step.key === "exclude") run.excludeKeys.push(grant.key.id);
  if (step.key === "avoid") run.avoidKeys.push(grant.key.id);
  const failedAttempt = { settlement: settlementOf(grant, outcome, false), fallback: { error } };
  if (await settledBetween(run, failedAttempt)) return failedAttempt;
  throw error;
}

/** Settles before the next reservation, whose key and lane depend on it. False: it failed, and the request is closed. */
async function settledBetween<Value>(run: Run<Value>, failedAttempt: FailedAttempt<Value>): Promise<boolean> {
  const { dependencies } = run;
  try {
    await withTimeout(
      dependencies.clock,
      dependencies.times.rpcTimeoutMs,
      dependencies.ledger.settle(failedAttempt.settlement),
    );
    return true;
  } catch {
    closeAfter(run, failedAttempt);
    return false;
  }
}

/** False: the client has gone. */
async function pause<Value>(run: Run<Value>, ms: number): Promise<boolean> {
  const { signal } = run.context;
  if (ms > 0) await run.dependencies.clock.sleep(ms, signal).catch(() => {});
  return !signal.aborted;
}

function settleLater<Value>(run: Run<Value>, settlement: Settlement, ended?: Ended<Value>): void {
  run.dependencies.background(settleAndCapture(run, settlement, ended));
}

async function settleAndCapture<Value>(
  { dependencies, task }: Run<Value>,
  settlement: Settlement,
  ended: Ended<Value> | undefined,
): Promise<void> {
  await settleReliably(dependencies, task.asked.id, settlement);
  // Only the owner allows it, in the consumer's row; a caller may ask for less.
  if (ended === undefined || !ended.grant.capture || task.asked.capture === false) return;
  try {
    await dependencies.ledger.capture({
      requestNo: settlement.requestNo,
      prompt: task.question,
      answer: ended.served.value,
    });
  } catch (thrown) {
    const { code, detail } = asGatewayError(thrown);
    dependencies.log("warn", "capture_lost", { request_id: task.asked.id, code, detail });
  }
}

/** No attempt follows after all: the request, held open for one, ends as its last attempt did. */
function closeAfter<Value>(run: Run<Value>, { settlement, fallback }: FailedAttempt<Value>): void {
  settleLater(run, { ...settlement, final: true }, "ended" in fallback ? fallback.ended : undefined);
}

function logFailedAttempt<Value>(
  { dependencies, task, context }: Run<Value>,
  grant: Grant,
  error: GatewayError,
  outcome: Unanswered,
): void {
  const failure = outcome.kind === "failed" ? outcome.failure : null;
  dependencies.log("warn", "attempt_failed", {
    request_id: task.asked.id,
    trace_id: context.logLine?.trace.traceId,
    span_id: context.logLine?.trace.spanId,
    "gen_ai.operation.name": task.operation,
    "gen_ai.request.model": grant.model,
    "error.type": error.code,
    "http.response.status_code": failure?.upstreamStatus ?? undefined,
    "eve.request_no": grant.requestNo,
    "eve.attempt": grant.attempt,
    "eve.key": grant.key.alias,
    // What upstream says about the caller's request may repeat parts of it. The audit has it.
    detail: failure?.diagnosis.fault === "caller" ? undefined : error.detail,
  });
}
