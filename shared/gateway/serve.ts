import type { GatewayEvent } from "../contract/events.ts";
import { asGatewayError, type GatewayError } from "../contract/gateway_error.ts";
import type { InvokeContext } from "../contract/request.ts";
import type { CountWanted, Duplicate, Grant, Reservation, ReserveInput } from "../ledger/reserve.ts";
import type { Settlement } from "../ledger/settle.ts";
import { admitCounted, type Size } from "./admit_counted.ts";
import { type Deadline, deadlineFrom } from "./deadline.ts";
import { dispatch, type Outcome, type Progress, type Unanswered, walkedAway } from "./dispatch.ts";
import { errorOf, withRefusal } from "./outcome_error.ts";
import type { GatewayParts } from "./parts.ts";
import { refusalError } from "./refusal.ts";
import { type Ending, factsOf } from "./request_facts.ts";
import { LEAST_TIME_MS, MAX_ATTEMPTS, type NextStep, nextStep } from "./retry.ts";
import { settleReliably } from "./settle_reliably.ts";
import { settlementOf } from "./settlement.ts";
import type { Ended, Task } from "./task.ts";
import { within } from "./within.ts";

/** From the end of a call that took all of its time until its reservation counts as abandoned: time to settle, with repeats. */
const LEASE_SLACK_MS = 60_000;

type Booking = Exclude<Reservation, CountWanted>;

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
  };
  let setback: Setback<Value> | null = null;
  let ending: Ending = { kind: "left" };
  context.story?.begin();
  try {
    for (let attempt = 1;; attempt++) {
      const reservation: Booking | null = await nextReservation(journey, attempt, setback);
      if (reservation?.status === "granted") {
        const ended: Ended<Value> | Setback<Value> = yield* runAttempt(journey, reservation);
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
      } else if (reservation !== null) {
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

/** Null: it failed, and an earlier attempt has something to tell. */
async function nextReservation<Value>(
  journey: Journey<Value>,
  attempt: number,
  setback: Setback<Value> | null,
): Promise<Booking | null> {
  const { parts, task, context, size } = journey;
  const input = (size: Size) => reserveInput(journey, attempt, size);
  try {
    const admitted = await admitCounted({ parts, task, client: context.signal, size, input });
    journey.size = admitted.size;
    return admitted.reservation;
  } catch (thrown) {
    if (setback === null) throw thrown;
    return null;
  }
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
    consumerId: context.caller.consumerId,
    tokenId: context.caller.tokenId,
    class: asked.class,
    maxWaitMs: Math.max(0, Math.floor(timeToWait)),
    attempt,
    excludeKeys: journey.excludeKeys,
    avoidKeys: journey.avoidKeys,
    leaseMs: parts.times.upstreamTimeoutMs + LEASE_SLACK_MS,
    door: asked.door,
    traceId: asked.traceId,
    metadata: asked.metadata,
    requestHash: task.hash,
  };
}

/** What the request came to, or the setback after which another attempt is to follow. Throws when it ends in an error. */
async function* runAttempt<Value>(
  journey: Journey<Value>,
  grant: Grant,
): AsyncGenerator<GatewayEvent, Ended<Value> | Setback<Value>, void> {
  const { parts, task, context, deadline } = journey;
  const progress: Progress = { calledAt: null, usageSoFar: null };
  let outcome: Outcome<Value> | null = null;
  try {
    outcome = yield* dispatch(parts, task, grant, context, deadline, progress);
  } finally {
    if (outcome === null) {
      settleLater(journey, settlementOf(grant, walkedAway(progress, parts.clock.now()), true));
    }
  }
  journey.waitedMs += grant.waitMs;
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
  if (ended === undefined || !(task.asked.capture ?? ended.grant.capture)) return;
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
