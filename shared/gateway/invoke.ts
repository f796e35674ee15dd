import type { Gateway } from "../contract/gateway.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { GatewayRequest, InvokeContext } from "../contract/request.ts";
import type { GatewayResult } from "../contract/result.ts";
import type { Grant, Reservation, ReserveInput } from "../ledger/reserve.ts";
import type { Settlement } from "../ledger/settle.ts";
import { admit, within } from "./admit.ts";
import { type Deadline, deadlineFrom } from "./deadline.ts";
import { dispatch, type Outcome } from "./dispatch.ts";
import { estimateTokens } from "./estimate.ts";
import { errorOf, withRefusal } from "./outcome_error.ts";
import type { GatewayParts } from "./parts.ts";
import { replay, resultToKeep } from "./recorded_result.ts";
import { refusalError } from "./refusal.ts";
import { requestHash } from "./request_hash.ts";
import { LEAST_TIME_MS, nextStep } from "./retry.ts";
import { settleReliably } from "./settle_reliably.ts";
import { settlementOf } from "./settlement.ts";

/** From the end of a call that took all of its time until its reservation counts as abandoned: time to settle, with repeats. */
const LEASE_SLACK_MS = 60_000;

/** What is known of a request while its attempts go on. */
interface Journey {
  parts: GatewayParts;
  request: GatewayRequest;
  context: InvokeContext;
  deadline: Deadline;
  /** Estimated input tokens. */
  tokens: number;
  hash: string | null;
  waitedMs: number;
  excludeKeys: string[];
  avoidKeys: string[];
}

/** An attempt that failed and has been settled as one that another follows. */
interface Setback {
  error: GatewayError;
  settlement: Settlement;
}

/**
 * The gateway: admits a request, calls a model, settles, and tries again where that makes sense.
 *
 * Every reservation that is granted is settled exactly once: after the response has gone when the request ends with it,
 * before the next reservation otherwise.
 */
export function createGateway(parts: GatewayParts): Gateway {
  const invoke: Gateway["invoke"] = async (request, context) => {
    const journey: Journey = {
      parts,
      request,
      context,
      deadline: deadlineFrom(parts.clock, context.receivedAt, parts.times.requestTimeoutMs),
      tokens: estimateTokens(request.prompt),
      hash: request.idIsClients ? await requestHash(request) : null,
      waitedMs: 0,
      excludeKeys: [],
      avoidKeys: [],
    };
    let setback: Setback | null = null;
    for (let attempt = 1;; attempt++) {
      const reservation: Reservation = await nextReservation(journey, attempt, setback);
      if (reservation.status === "granted") {
        const ended: GatewayResult | Setback = await runAttempt(journey, reservation);
        if (!("settlement" in ended)) return ended;
        setback = ended;
      } else if (setback !== null) {
        closeAfter(journey, setback);
        throw reservation.status === "refused" ? withRefusal(setback.error, reservation) : setback.error;
      } else if (reservation.status === "refused") {
        throw refusalError(reservation, journey.tokens);
      } else {
        return replay(request, reservation);
      }
    }
  };
  return {
    invoke,
    async *stream(request, context) {
      const result = await invoke(request, context);
      yield { type: "delta", chunk: result.answer };
      yield { type: "done", result };
    },
    embed: () => Promise.reject(new GatewayError("unsupported_feature")),
    countTokens: ({ prompt }) => Promise.resolve({ totalTokens: estimateTokens(prompt), estimated: true }),
    models: () => Promise.resolve([]),
  };
}

async function nextReservation(
  journey: Journey,
  attempt: number,
  setback: Setback | null,
): Promise<Reservation> {
  try {
    return await admit(journey.parts, reserveInput(journey, attempt));
  } catch (thrown) {
    if (setback === null) throw thrown;
    closeAfter(journey, setback);
    throw setback.error;
  }
}

function reserveInput({ parts, request, context, ...journey }: Journey, attempt: number): ReserveInput {
  const timeToWait = Math.min(request.maxWaitMs - journey.waitedMs, journey.deadline.left() - LEAST_TIME_MS);
  return {
    requestId: request.id,
    models: request.models,
    tokens: journey.tokens,
    consumerId: context.caller.consumerId,
    tokenId: context.caller.tokenId,
    class: request.class,
    maxWaitMs: Math.max(0, Math.floor(timeToWait)),
    attempt,
    excludeKeys: journey.excludeKeys,
    avoidKeys: journey.avoidKeys,
    leaseMs: parts.times.upstreamTimeoutMs + LEASE_SLACK_MS,
    door: request.door,
    traceId: request.traceId,
    metadata: request.metadata,
    requestHash: journey.hash,
  };
}

/** The result, or the setback after which another attempt is to follow. Throws when the request ends without an answer. */
async function runAttempt(journey: Journey, grant: Grant): Promise<GatewayResult | Setback> {
  const { parts, request, context, deadline } = journey;
  const outcome = await dispatch(parts, request, grant, context, deadline);
  journey.waitedMs += grant.waitMs;
  if (outcome.kind === "answered") {
    const result = resultOf(journey, grant, outcome);
    settleLater(journey, settlementOf(grant, outcome, true, resultToKeep(request, result)));
    return result;
  }

  const error = errorOf(outcome, grant);
  logSetback(journey, grant, error);
  const step = nextStep({
    outcome,
    attempt: grant.attempt,
    leftMs: deadline.left(),
    upstreamTimeoutMs: parts.times.upstreamTimeoutMs,
    random: parts.random,
  });
  // The pause comes before the settlement: a client that leaves meanwhile finds the request still open, to be closed here.
  if (!step.again || !await pause(journey, step.pauseMs)) {
    settleLater(journey, settlementOf(grant, outcome, true));
    throw error;
  }
  if (step.key === "exclude") journey.excludeKeys.push(grant.key.id);
  if (step.key === "avoid") journey.avoidKeys.push(grant.key.id);
  const setback = { error, settlement: settlementOf(grant, outcome, false) };
  try {
    await within(parts.clock, parts.times.rpcTimeoutMs, parts.ledger.settle(setback.settlement));
  } catch {
    closeAfter(journey, setback);
    throw error;
  }
  return setback;
}

function resultOf(
  journey: Journey,
  grant: Grant,
  outcome: Extract<Outcome, { kind: "answered" }>,
): GatewayResult {
  const { served, usage } = outcome;
  return {
    requestId: journey.request.id,
    model: grant.model,
    requestedModel: grant.requestedModel,
    replaced: grant.replaced,
    answer: served.answer,
    verdict: served.verdict,
    finishReason: served.finishReason,
    usage,
    keyAlias: grant.key.alias,
    attempts: grant.attempt,
    waitMs: Math.round(journey.waitedMs),
    limits: grant.limits,
    replayed: false,
  };
}

/** False: the client has gone. */
async function pause(journey: Journey, ms: number): Promise<boolean> {
  const { signal } = journey.context;
  if (ms > 0) await journey.parts.clock.sleep(ms, signal).catch(() => {});
  return !signal.aborted;
}

function settleLater(journey: Journey, settlement: Settlement): void {
  journey.parts.background(settleReliably(journey.parts, journey.request.id, settlement));
}

/** No attempt follows after all: the request, held open for one, ends as its last attempt did. */
function closeAfter(journey: Journey, setback: Setback): void {
  settleLater(journey, { ...setback.settlement, final: true });
}

function logSetback(journey: Journey, grant: Grant, error: GatewayError): void {
  journey.parts.log("warn", "attempt_failed", {
    request_id: journey.request.id,
    request_no: grant.requestNo,
    attempt: grant.attempt,
    model: grant.model,
    key_alias: grant.key.alias,
    code: error.code,
    detail: error.detail,
  });
}
