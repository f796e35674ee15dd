import type { GatewayEvent } from "../contract/events.ts";
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
import { type Deadline, deadlineFrom } from "./attempts/linked_abort.ts";
import {
  dispatch,
  type Outcome,
  type Progress,
  type TooLate,
  type Unanswered,
  waitUntil,
  walkedAway,
} from "./attempts/dispatch.ts";
import { errorOf, withRefusal } from "./attempts/outcome_error.ts";
import type { GatewayParts } from "./dependencies.ts";
import { refusalError } from "./admission/refusal.ts";
import { type Ending, factsOf } from "./log_attributes.ts";
import { LEAST_TIME_MS, MAX_ATTEMPTS, type NextStep, nextStep } from "./attempts/retry.ts";
import { settleReliably } from "./attempts/settle_reliably.ts";
import { cancelled, settlementOf } from "./attempts/settlement.ts";
import type { Ended, Task } from "./tasks/task.ts";
import { within } from "../runtime/with_timeout.ts";

/** From the end of a call that took all of its time until its reservation counts as abandoned: time to settle, with repeats. */
const LEASE_SLACK_MS = 60_000;

/**
 * A start that would go out later than this is booked again: the window is this much longer than a minute (`guard_ms`), so that what
 * is late by less cannot fall into another minute of Google's.
 */
const LATEST_START_MS = 250;
/** An attempt's start is booked again so often; then it goes as it is. A machine that is late every time would go on for ever. */
const MAX_REBOOKINGS = 2;

type Booking = Exclude<Reservation, CountWanted>;
type Settled = Exclude<Booking, InLine>;

/** What is known of a request while its attempts go on. */
interface Journey<Value> {
  parts: GatewayParts;
  task: Task<Value>;
  context: InvokeContext;
  deadline: Deadline;
  waitedMs: number;
  excludeKeys: string[];
  avoidKeys: string[];
  /** Of the prompt; null: to be estimated. */
  size: Size | null;
  /** `Clock.now()` at which the last grant was booked, as near as can be told from here. */
  bookedAt: number;
}

/** An attempt that has been settled as one that another follows, and what the request comes to if none does. */
interface Setback<Value> {
  settlement: Settlement;
  instead: { error: GatewayError } | { ended: Ended<Value> };
}

/**
 * The way of every request: admit, call a model, settle, and try again where that makes sense.
 *
 * Every reservation that is granted is settled exactly once: after the response has gone when the request ends with it,
 * before the next reservation otherwise. Whoever follows the events may walk away at any of them (`return()`); the attempt
 * under way is then broken off and settled.
 * @throws GatewayError where the request fails
 */
export async function* serve<Value>(
  parts: GatewayParts,
  task: Task<Value>,
  context: InvokeContext,
): AsyncGenerator<GatewayEvent, Ended<Value> | Duplicate, void> {
  const journey: Journey<Value> = {
    parts,
    task,
    context,
    deadline: deadlineFrom(parts.clock, context.receivedAt, parts.times.requestTimeoutMs),
    waitedMs: 0,
    excludeKeys: [...(task.asked.excludeKeys ?? [])],
    avoidKeys: [],
    size: null,
    bookedAt: 0,
  };
  let setback: Setback<Value> | null = null;
  let ending: Ending = { kind: "left" };
  context.story?.begin();
  try {
    for (let attempt = 1;; attempt++) {
      let reservation: Settled | null = yield* admitted(journey, attempt, setback);
      let ended: Ended<Value> | Setback<Value> | TooLate | null = null;
      for (let left = MAX_REBOOKINGS; reservation?.status === "granted"; left--) {
        ended = yield* runAttempt(journey, reservation, left > 0);
        if (!isTooLate(ended)) break;
        reservation = yield* admitted(journey, attempt, setback, reservation);
        ended = null;
      }
      if (ended !== null && !isTooLate(ended)) {
        if ("served" in ended) {
          ending = { kind: "ended", ended };
          return ended;
        }
        setback = ended;
      } else if (setback !== null) {
        closeAfter(journey, setback);
        if ("ended" in setback.instead) {
          ending = { kind: "ended", ended: setback.instead.ended };
          return setback.instead.ended;
        }
        const { error } = setback.instead;
        throw reservation?.status === "refused" ? withRefusal(error, reservation) : error;
      } else if (reservation?.status === "refused") {
        const tokens = journey.size?.counted === true ? journey.size.tokens : task.tokens();
        const { requestTimeoutMs } = parts.times;
        throw refusalError(reservation, tokens, { maxWaitMs: task.asked.maxWaitMs, requestTimeoutMs });
      } else if (reservation?.status === "duplicate") {
        ending = { kind: "duplicate", duplicate: reservation };
        return reservation;
      }
    }
  } catch (thrown) {
    ending = { kind: "failed", thrown };
    throw thrown;
  } finally {
    context.story?.end(factsOf(task, context, ending));
  }
}

function isTooLate<Value>(ended: Ended<Value> | Setback<Value> | TooLate): ended is TooLate {
  return "kind" in ended;
}

/**
 * The attempt's reservation, once it is there: batch may have to stand in line for it, and asks again each time that it is told to.
 * Null: it failed, and an earlier attempt has something to tell.
 *
 * @param held what this attempt holds already, and no longer when this ends without a grant: a start that came too late
 */
async function* admitted<Value>(
  journey: Journey<Value>,
  attempt: number,
  setback: Setback<Value> | null,
  held: Pick<Grant, "requestNo" | "attempt"> | null = null,
): AsyncGenerator<GatewayEvent, Settled | null, void> {
  const { parts, context, deadline } = journey;
  let inHand = held;
  try {
    for (;;) {
      const reservation: Booking = await nextReservation(journey, attempt, inHand?.requestNo);
      inHand = null;
      if (reservation.status !== "waiting") return reservation;
      inHand = reservation;
      const { model, waitMs } = reservation;
      const askAt = parts.clock.now() + waitMs;
      yield { type: "queued", attempt, model, waitMs };
      const how = await waitUntil(parts, askAt, context.signal, deadline);
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
      journey.waitedMs += waitMs;
    }
  } catch (thrown) {
    if (setback === null) throw thrown;
    return null;
  } finally {
    // Whoever follows has left, the time is up, or the database did not answer: the place in the line is free again.
    if (inHand !== null) settleLater(journey, cancelled(inHand));
  }
}

async function nextReservation<Value>(
  journey: Journey<Value>,
  attempt: number,
  requestNo: number | undefined,
): Promise<Booking> {
  const { parts, task, context, size } = journey;
  let askedAt = 0;
  const input = (size: Size) => {
    askedAt = parts.clock.now();
    return { ...reserveInput(journey, attempt, size), ...(requestNo !== undefined && { requestNo }) };
  };
  const { reservation, size: known } = await admitCounted({
    parts,
    task,
    client: context.signal,
    size,
    input,
  });
  journey.size = known;
  journey.bookedAt = (askedAt + parts.clock.now()) / 2;
  return reservation;
}

function reserveInput<Value>(
  { parts, task, context, ...journey }: Journey<Value>,
  attempt: number,
  size: Size,
): ReserveInput {
  const { asked } = task;
  const timeToWait = Math.min(asked.maxWaitMs - journey.waitedMs, journey.deadline.left() - LEAST_TIME_MS);
  return {
    requestId: asked.id,
    models: task.models(),
    ...size,
    maxOutputTokens: task.maxOutput(),
    consumerId: context.caller.consumerId,
    tokenId: context.caller.tokenId,
    class: asked.class,
    maxWaitMs: Math.max(0, Math.floor(timeToWait)),
    attempt,
    excludeKeys: journey.excludeKeys,
    avoidKeys: journey.avoidKeys,
    leaseMs: parts.times.upstreamTimeoutMs + LEASE_SLACK_MS,
    endpoint: asked.endpoint,
    traceId: asked.traceId,
    metadata: asked.metadata,
    requestHash: task.hash,
  };
}

/** What the request came to, or the setback after which another attempt is to follow. Throws when it ends in an error. */
async function* runAttempt<Value>(
  journey: Journey<Value>,
  grant: Grant,
  mayRebook: boolean,
): AsyncGenerator<GatewayEvent, Ended<Value> | Setback<Value> | TooLate, void> {
  const { parts, task, context, deadline } = journey;
  const progress: Progress = { calledAt: null, usageSoFar: null };
  const start = {
    startsAt: parts.clock.now() + grant.waitMs,
    latestAt: mayRebook ? journey.bookedAt + grant.waitMs + LATEST_START_MS : Infinity,
  };
  let outcome: Outcome<Value> | TooLate | null = null;
  try {
    outcome = yield* dispatch(parts, task, grant, start, context, deadline, progress);
  } finally {
    if (outcome === null) {
      settleLater(journey, settlementOf(grant, walkedAway(progress, parts.clock.now()), true));
    }
  }
  journey.waitedMs += grant.waitMs;
  if (outcome.kind === "too_late") {
    parts.log("warn", "start_too_late", {
      request_id: task.asked.id,
      model: grant.model,
      late_ms: Math.round(outcome.lateMs + LATEST_START_MS),
    });
    return outcome;
  }
  if (outcome.kind !== "answered") return await afterFailure(journey, grant, outcome);

  const ended: Ended<Value> = { grant, served: outcome.served, waitMs: Math.round(journey.waitedMs) };
  const timeIsLeft = grant.attempt < MAX_ATTEMPTS && deadline.left() >= LEAST_TIME_MS &&
    !context.signal.aborted;
  if (timeIsLeft && progress.usageSoFar === null && task.mend(outcome.served)) {
    // The prompt has grown.
    journey.size = null;
    const setback = { settlement: settlementOf(grant, outcome, false), instead: { ended } };
    if (await settledBetween(journey, setback)) return setback;
    return ended;
  }
  settleLater(journey, settlementOf(grant, outcome, true, task.keep(ended)), ended);
  return ended;
}

async function afterFailure<Value>(
  journey: Journey<Value>,
  grant: Grant,
  outcome: Exclude<Outcome<Value>, { kind: "answered" }>,
): Promise<Setback<Value>> {
  const { parts, task } = journey;
  const error = errorOf(outcome, grant);
  logSetback(journey, grant, error, outcome);
  const step: NextStep = nextStep({
    outcome,
    attempt: grant.attempt,
    leftMs: journey.deadline.left(),
    upstreamTimeoutMs: parts.times.upstreamTimeoutMs,
    random: parts.random,
    without: (capability) => task.without(capability, grant.model),
  });
  // The pause comes before the settlement: a client that leaves meanwhile finds the request still open, to be closed here.
  if (!step.again || !await pause(journey, step.pauseMs)) {
    settleLater(journey, settlementOf(grant, outcome, true));
    throw error;
  }
  if (step.key === "exclude") journey.excludeKeys.push(grant.key.id);
  if (step.key === "avoid") journey.avoidKeys.push(grant.key.id);
  const setback = { settlement: settlementOf(grant, outcome, false), instead: { error } };
  if (await settledBetween(journey, setback)) return setback;
  throw error;
}

/** Settles before the next reservation, whose key and lane depend on it. False: it failed, and the request is closed. */
async function settledBetween<Value>(journey: Journey<Value>, setback: Setback<Value>): Promise<boolean> {
  const { parts } = journey;
  try {
    await within(parts.clock, parts.times.rpcTimeoutMs, parts.ledger.settle(setback.settlement));
    return true;
  } catch {
    closeAfter(journey, setback);
    return false;
  }
}

/** False: the client has gone. */
async function pause<Value>(journey: Journey<Value>, ms: number): Promise<boolean> {
  const { signal } = journey.context;
  if (ms > 0) await journey.parts.clock.sleep(ms, signal).catch(() => {});
  return !signal.aborted;
}

function settleLater<Value>(journey: Journey<Value>, settlement: Settlement, ended?: Ended<Value>): void {
  journey.parts.background(settleAndCapture(journey, settlement, ended));
}

async function settleAndCapture<Value>(
  { parts, task }: Journey<Value>,
  settlement: Settlement,
  ended: Ended<Value> | undefined,
): Promise<void> {
  await settleReliably(parts, task.asked.id, settlement);
  // Only the owner allows it, in the consumer's row; a caller may ask for less.
  if (ended === undefined || !ended.grant.capture || task.asked.capture === false) return;
  try {
    await parts.ledger.capture({
      requestNo: settlement.requestNo,
      prompt: task.question(),
      answer: ended.served.value,
    });
  } catch (thrown) {
    const { code, detail } = asGatewayError(thrown);
    parts.log("warn", "capture_lost", { request_id: task.asked.id, code, detail });
  }
}

/** No attempt follows after all: the request, held open for one, ends as its last attempt did. */
function closeAfter<Value>(journey: Journey<Value>, { settlement, instead }: Setback<Value>): void {
  settleLater(journey, { ...settlement, final: true }, "ended" in instead ? instead.ended : undefined);
}

function logSetback<Value>(
  { parts, task, context }: Journey<Value>,
  grant: Grant,
  error: GatewayError,
  outcome: Unanswered,
): void {
  const failure = outcome.kind === "failed" ? outcome.failure : null;
  parts.log("warn", "attempt_failed", {
    request_id: task.asked.id,
    trace_id: context.story?.trace.traceId,
    span_id: context.story?.trace.spanId,
    "gen_ai.operation.name": task.operation,
    "gen_ai.request.model": grant.model,
    "error.type": error.code,
    "http.response.status_code": failure?.upstreamStatus ?? undefined,
    "eve.request_no": grant.requestNo,
    "eve.attempt": grant.attempt,
    "eve.key": grant.key.alias,
    // What upstream says about the caller's request may repeat parts of it. The audit has it.
    detail: failure?.diagnosis.blames === "caller" ? undefined : error.detail,
  });
}
