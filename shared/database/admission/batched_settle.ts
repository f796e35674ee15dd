import * as z from "zod";
import { call } from "../transport/call.ts";
import { settle, settleArguments, type Settled, settledAnswer, type Settlement } from "./settle.ts";
import { runBatch, type Waiting } from "./batcher.ts";
import type { Transport } from "../transport/transport.ts";

/**
 * How long a settlement waits for others to share its batch. Nobody waits for it: the client has its answer. What it corrects,
 * an estimate, has stood for the whole call, and stands a fortieth of a second longer.
 */
const HAND_OVER_MS = 25;

/** A batch of this size goes at once: a transaction that locks rows for long would keep reservations waiting. */
const MOST_IN_A_BATCH = 64;

/** In the order asked. Here, since a schema is compiled when it is first used. */
const answers = z.array(settledAnswer.nullable());

/**
 * Settles in batches of what ends at about the same time: one round trip and one transaction for all of them. Under
 * load settlements compete with reservations for the same database, and a client waits for those.
 *
 * One that fails fails no other: then each goes by itself. Settlements that somebody waits for, that give a slot
 * back, that block a key, or that store an answer for a client who may repeat the request at once are not batched.
 * One that nobody joins goes
 * as a list of one, which takes one transaction id where `eve_settle`, prepared for rules on the owner's tables, takes three.
 */
export function batchedSettle(
  transport: Transport,
  timeoutMs: number,
): (settlement: Settlement) => Promise<Settled> {
  let waiting: Waiting<Settlement, Settled>[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;

  const single = (settlement: Settlement) => settle(transport, settlement, timeoutMs);
  // Null: not simply running any more, a repetition, or one whose lease has ended.
  const batch = async (asked: Settlement[]) => {
    const settlements = asked.map(settleArguments);
    const said = await call(transport, "eve_settle_many", { settlements }, answers, timeoutMs);
    return said.map((answer) => answer?.status ?? null);
  };
  const go = () => {
    clearTimeout(timer);
    timer = undefined;
    const all = waiting.sort((one, other) => one.asked.requestNo - other.asked.requestNo);
    waiting = [];
    void runBatch(all, { batch, single });
  };

  return (settlement) => {
    if (!mayWait(settlement)) return single(settlement);
    return new Promise((resolve, reject) => {
      waiting.push({ asked: settlement, resolve, reject });
      if (waiting.length >= MOST_IN_A_BATCH) go();
      else timer ??= setTimeout(go, HAND_OVER_MS);
    });
  };
}

function mayWait({ final, dispatched, block, result }: Settlement): boolean {
  return final && dispatched && block === null && result === null;
}
