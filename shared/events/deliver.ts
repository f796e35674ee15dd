import { asGatewayError } from "../contract/gateway_error.ts";
import {
  claimDeliveries,
  type DeliveryResult,
  type DeliveryState,
  type EventDelivery,
  finishDelivery,
} from "../database/events.ts";
import type { Transport } from "../database/transport/transport.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";

/** Deliveries under way at a time: they wait for others' servers, and each holds a body of some kilobytes. */
const CONCURRENCY = 16;
/** Longer than a try with its two questions to the database: until then nobody else makes it. */
const LEASE_MS = 60_000;
/** Time for one try, the database included. With less left, the rest is for the next run. */
export const TIME_FOR_ONE_MS = 20_000;
/** What is due so soon is waited for: the first retry is 5 s away at most, and the next run up to a minute. */
const WORTH_WAITING_MS = 10_000;
/** Where something is due and cannot be had, since others are at it. */
const SHORTEST_PAUSE_MS = 250;

/** What a handler says of its try. What it throws is a failure that is tried again. */
export type Attempted = Omit<DeliveryResult, "durationMs">;

export const DELIVERED: Attempted = {
  result: "delivered",
  error: null,
  status: null,
  retryAfterMs: null,
  rests: false,
};

/**
 * Delivers one event. It may be called again with the same event (its `id` is the same), if the gateway cannot know that it was had:
 * what it does must then be done once.
 */
export type DeliveryHandler = (delivery: EventDelivery, signal: AbortSignal) => Promise<Attempted>;

export interface DeliverDependencies {
  call: Transport;
  clock: Clock;
  /** From 0 to 1. */
  random: () => number;
  log: Log;
  /** By `kind` in eve.event_consumers; of other kinds nothing is taken. */
  handlers: Readonly<Record<string, DeliveryHandler>>;
}

export interface DeliverLimits {
  /** By the clock: nothing is begun that might not be over by then. */
  untilMs: number;
  /** Ends what is under way. */
  signal: AbortSignal;
  /** Whether it stays for what falls due within seconds; absent: it does. Not where the caller comes again by itself. */
  waits?: boolean;
}

export interface DeliverCounts {
  delivered: number;
  /** Tried in vain, be there another try or not. */
  failed: number;
  /** Whether something was left for the next run. */
  more: boolean;
}

/**
 * Delivers what is due, and what falls due while it is at it, until nothing is or the time is up. Any number may run at once. One that
 * dies leaves leases that end: what it was at is tried again, so a consumer may have an event twice, and never not at all.
 * @throws GatewayError when the database cannot be asked; what was under way is finished first
 */
export async function deliverDue(
  dependencies: DeliverDependencies,
  { untilMs, signal, waits = true }: DeliverLimits,
): Promise<DeliverCounts> {
  const { call, clock, handlers } = dependencies;
  const kinds = Object.keys(handlers);
  const counts: DeliverCounts = { delivered: 0, failed: 0, more: false };
  const underWay = new Set<Promise<void>>();
  const begin = (delivery: EventDelivery) => {
    const trying = tryOne(dependencies, delivery, signal).then((state) => {
      if (state === "delivered") counts.delivered++;
      else counts.failed++;
      underWay.delete(trying);
    });
    underWay.add(trying);
  };
  try {
    while (kinds.length > 0 && !signal.aborted) {
      const leftMs = untilMs - clock.now() - TIME_FOR_ONE_MS;
      if (leftMs < 0) {
        counts.more = true;
        break;
      }
      if (underWay.size === CONCURRENCY) {
        await Promise.race(underWay);
        continue;
      }
      const asked = { kinds, atMost: CONCURRENCY - underWay.size, leaseMs: LEASE_MS };
      const { deliveries, nextDueMs } = await claimDeliveries(call, asked);
      deliveries.forEach(begin);
      if (deliveries.length > 0) continue;
      if (underWay.size > 0) await Promise.race(underWay);
      else if (!waits || nextDueMs === null || nextDueMs > WORTH_WAITING_MS) break;
      else {
        const pauseMs = Math.max(nextDueMs, SHORTEST_PAUSE_MS);
        if (pauseMs > leftMs) {
          counts.more = true;
          break;
        }
        await clock.sleep(pauseMs, signal).catch(() => {});
      }
    }
    if (signal.aborted) counts.more = true;
  } finally {
    await Promise.all(underWay);
  }
  return counts;
}

/** One try, from the claim to its result in the database. Never rejects: without a result the lease ends. */
async function tryOne(
  { call, clock, random, log, handlers }: DeliverDependencies,
  delivery: EventDelivery,
  signal: AbortSignal,
): Promise<DeliveryState> {
  const { consumer, attempt, event, deliveryId } = delivery;
  const began = clock.now();
  const attempted = await handlers[delivery.kind]!(delivery, signal).catch((thrown): Attempted => ({
    result: "failed",
    error: signal.aborted ? "it was broken off: the run's time was up" : asGatewayError(thrown).publicMessage,
    status: null,
    retryAfterMs: null,
    rests: false,
  }));
  const facts = { consumer, event_id: event.id, event_type: event.type, delivery_id: deliveryId, attempt };
  try {
    const result = { ...attempted, durationMs: clock.now() - began };
    const state = await finishDelivery(call, delivery, result, random());
    if (state !== "delivered") {
      const level = state === "dead" ? "error" : "warn";
      log(level, "event_not_delivered", { ...facts, state, error: attempted.error });
    }
    return state;
  } catch (thrown) {
    const { code, detail } = asGatewayError(thrown);
    log("warn", "event_result_lost", { ...facts, "error.type": code, detail });
    return "lost";
  }
}
