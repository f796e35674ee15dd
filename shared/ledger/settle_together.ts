import { z } from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { call } from "./call.ts";
import { settle, settleArguments, type Settled, settledAnswer, type Settlement } from "./settle.ts";
import { SqlFailure, type Transport } from "./transport.ts";

/**
 * How long a settlement waits for others to go with. Nobody waits for it: the answer is with the client. What it corrects,
 * an estimate, has stood for the whole call, and stands a fortieth of a second longer.
 */
const GATHER_MS = 25;

/** Goes at once when so many are together: a transaction that holds rows for long would keep reservations waiting. */
const MOST_TOGETHER = 64;

/** Connection, resources, operator; PostgREST without a connection. A deadlock is none: alone, nobody is in its circle. */
const AWAY = /^(08|53|57|PGRST00)/;

interface Waiting {
  settlement: Settlement;
  resolve: (settled: Settled) => void;
  reject: (thrown: unknown) => void;
}

/**
 * Settles, together with what else ends at about the same time: one round trip and one transaction for all of them. Under
 * load settlements compete with reservations for the same database, and a client waits for those.
 *
 * One that fails fails no other: then each goes by itself. Not held up are settlements that somebody waits for, that give a
 * slot back, that block a key, or that keep an answer for a client who may repeat his request at once.
 */
export function settleTogether(
  transport: Transport,
  timeoutMs: number,
): (settlement: Settlement) => Promise<Settled> {
  let waiting: Waiting[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;

  const alone = ({ settlement, resolve, reject }: Waiting) => {
    settle(transport, settlement, timeoutMs).then(resolve, reject);
  };
  const go = async () => {
    clearTimeout(timer);
    timer = undefined;
    const together = waiting.sort((one, other) => one.settlement.requestNo - other.settlement.requestNo);
    waiting = [];
    if (together.length <= 1) return together.forEach(alone);
    try {
      const settlements = together.map(({ settlement }) => settleArguments(settlement));
      const shape = z.array(settledAnswer.nullable()).length(together.length);
      const answers = await call(transport, "eve_settle_many", { settlements }, shape, timeoutMs);
      for (const [place, one] of together.entries()) {
        const answer = answers[place] ?? null;
        // Not simply running any more: a repetition, or one whose lease has ended.
        if (answer === null) alone(one);
        else one.resolve(answer.status);
      }
    } catch (thrown) {
      if (isAway(thrown)) { for (const { reject } of together) reject(thrown); }
      else together.forEach(alone);
    }
  };

  return (settlement) => {
    if (!mayWait(settlement)) return settle(transport, settlement, timeoutMs);
    return new Promise((resolve, reject) => {
      waiting.push({ settlement, resolve, reject });
      if (waiting.length >= MOST_TOGETHER) void go();
      else timer ??= setTimeout(go, GATHER_MS);
    });
  };
}

/** A database that cannot be reached, or takes no more calls, is as far away from each of them. */
function isAway(thrown: unknown): boolean {
  if (!(thrown instanceof GatewayError) || thrown.code !== "database_unavailable") return false;
  return !(thrown.cause instanceof SqlFailure) || AWAY.test(thrown.cause.sqlstate);
}

function mayWait({ final, dispatched, block, result }: Settlement): boolean {
  return final && dispatched && block === null && result === null;
}
