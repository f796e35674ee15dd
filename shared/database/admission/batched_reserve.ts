import * as z from "zod";
import { call } from "../transport/call.ts";
import { type Reservation, reservation, reserve, reserveArguments, type ReserveCall } from "./reserve.ts";
import { AdaptiveBatchSize } from "./adaptive_batch_size.ts";
import { runBatch, type Waiting } from "./batcher.ts";
import type { Transport } from "../transport/transport.ts";

/**
 * Turns of the microtask queue. Callers of a lasting queue who have just been answered and ask again at once are
 * waited for that long; otherwise they would always go in another batch than those who stood behind them.
 */
const COMING_BACK_TURNS = 10;

/** A call that takes longer is blocked by a lock or the network: the next batch does not wait for it. */
const BLOCKED_AFTER_MS = 20;

/** How long callers whose call did not fit into a batch are reserved one by one: the lane is full, or the caller has a budget. */
const COOLDOWN_MS = 100;

/** Cooldowns remembered at most. */
const MAX_COOLDOWNS = 1_000;

/** In the order asked; null: ask for it by itself. Here, since a schema is compiled when it is first used. */
const answers = z.array(reservation.nullable());

/**
 * Reserves in batches. Packages for batching (`dataloader`) collect for one turn and wait for the answer of all; this one sends a
 * caller who is alone at once, adapts to how many there are, and answers by itself whom a batch could not. So: calls that arrive while a reservation is under way share the next one, with one round trip,
 * one transaction and one lock of the lane. A call that arrives alone goes at once, so nobody waits for others. Measured with
 * twenty callers: two to three times the reservations a second; with two calls under way at a time, a tenth less than with one.
 *
 * Each gets the answer that it would have got by itself, and one that fails fails no other. Retries, and callers with
 * a scoped token, whose budgets are checked one by one, are not batched; nor are pictures, with the budgets of their tenants.
 */
export function batchedReserve(
  transport: Transport,
  timeoutMs: number,
  now: () => number = () => performance.now(),
): (input: ReserveCall) => Promise<Reservation> {
  let waiting: Waiting<ReserveCall, Reservation>[] = [];
  let underWay = false;
  const batchSize = new AdaptiveBatchSize(now);
  const cooldowns = new Map<string, number>();

  const single = (input: ReserveCall) => reserve(transport, input, timeoutMs);
  const batch = (asked: ReserveCall[]) =>
    call(transport, "eve_reserve_many", { calls: asked.map(reserveArguments) }, answers, timeoutMs);
  const startCooldown = (input: ReserveCall) => {
    if (cooldowns.size >= MAX_COOLDOWNS) cooldowns.clear();
    cooldowns.set(kind(input), now() + COOLDOWN_MS);
  };
  const coolsDown = (input: ReserveCall) => {
    const until = cooldowns.get(kind(input));
    if (until === undefined || until > now()) return until !== undefined;
    cooldowns.delete(kind(input));
    return false;
  };

  const go = async () => {
    if (underWay) return;
    waiting = waiting.filter(({ asked }) => !asked.over);
    if (waiting.length === 0) return;
    const most = batchSize.next(waiting.length);
    const all = waiting.slice(0, most);
    waiting = waiting.slice(most);
    underWay = true;
    let over = false;
    const next = async () => {
      if (over) return;
      over = true;
      clearTimeout(blocked);
      if (batchSize.stands) await turns(COMING_BACK_TURNS);
      underWay = false;
      void go();
    };
    const blocked = setTimeout(next, BLOCKED_AFTER_MS);
    const [only] = all;
    if (all.length === 1) await single(only!.asked).then(only!.resolve, only!.reject);
    else {
      for (const place of await runBatch(all, { batch, single })) startCooldown(all[place]!.asked);
    }
    next();
  };

  return (input) => {
    if (!isPlain(input) || coolsDown(input)) return single(input);
    return new Promise((resolve, reject) => {
      waiting.push({ asked: input, resolve, reject });
      // In a microtask, so that calls made at the same moment are in the batch too: they may have had their last answers together.
      if (waiting.length === 1) queueMicrotask(go);
    });
  };
}

async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await undefined;
}

function isPlain(
  { attempt, requestNo, tokenId, excludeKeys, avoidKeys, visionEstimate }: ReserveCall,
): boolean {
  return attempt === 1 && requestNo === undefined && tokenId === null && excludeKeys.length === 0 &&
    avoidKeys.length === 0 && visionEstimate === undefined;
}

/** The key of a cooldown: what calls with the same reason to be reserved one by one have in common. */
function kind({ consumerId, models, class: trafficClass }: ReserveCall): string {
  return `${consumerId ?? ""} ${trafficClass} ${models[0] ?? ""}`;
}
