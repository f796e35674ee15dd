import { type Clock, setTimer } from "../../runtime/clock.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { DatabaseClock } from "./database_clock.ts";
import { GiveBack } from "./give_back.ts";
import type { Reservation, ReserveCall, ReserveInput } from "./reserve.ts";
import { SqlFailure, type Transport } from "../transport/transport.ts";

/** Errors that the function itself raised, and which undid what it did. Those of a connection or a server that ends do not say so. */
const UNDONE = /^(?!08|57P)[0-9A-Z]{5}$/;

/** With this eve_reserve says that it was too late, and what its clock shows. */
const TOO_LATE = "EV503";

export interface InTimeOptions {
  send: (call: ReserveCall) => Promise<Reservation>;
  /** For giving back: nobody waits for it. */
  transport: Transport;
  clock: Clock;
  background: (work: Promise<void>) => void;
  newId: () => string;
  databaseClock?: DatabaseClock;
}

export interface InTime {
  /** @throws GatewayError `database_unavailable` when `withinMs` have passed, or as the ledger does */
  reserve(input: ReserveInput, withinMs: number): Promise<Reservation>;
  /** The process ends: what has not been answered is given back. */
  leave(): void;
}

/**
 * Reserves within a time limit, and leaves nothing behind: the database books nothing after it, and a booking whose
 * answer did not arrive in time is given back. So a request whose reservation failed may come again.
 */
export function reserveInTime({ send, clock, newId, ...options }: InTimeOptions): InTime {
  const giveBack = new GiveBack({ ...options, clock });
  const databaseClock = options.databaseClock ?? new DatabaseClock();
  const underWay = new Set<ReserveCall>();

  const attempt = async (call: ReserveCall, withinMs: number): Promise<Reservation> => {
    const first = Promise.withResolvers<Reservation>();
    const off = setTimer(clock, withinMs, () => {
      call.over = true;
      first.reject(
        new GatewayError("database_unavailable", { detail: `reserve took longer than ${withinMs} ms` }),
      );
    });
    underWay.add(call);
    // The same request may have been asked for before, without an answer: that is given back first. Where there is no
    // such thing no microtask turn is lost: a caller that asks again at once has to be in the next batch (batched_reserve.ts).
    const before = giveBack.clear(call);
    (before === null ? send(call) : before.then(() => send(call))).then(first.resolve, first.reject);
    try {
      const answer = await first.promise;
      giveBack.heard();
      return answer;
    } catch (thrown) {
      if (call.sent && (call.over || !isUndone(thrown))) giveBack.add(call);
      throw thrown;
    } finally {
      underWay.delete(call);
      off();
    }
  };

  return {
    async reserve(input, withinMs) {
      const ends = clock.now() + withinMs;
      const callId = newId();
      for (let repeated = false;; repeated = true) {
        const left = Math.max(0, ends - clock.now());
        const since = databaseClock.ours();
        const deadline = new Date(databaseClock.now() + left).toISOString();
        const call = { ...input, callId, deadline };
        try {
          return await attempt(call, left);
        } catch (thrown) {
          const databaseTime = databaseTimeIn(thrown);
          // It was late by the database's clock, which was not known here: tried once more, by that clock.
          const corrected = databaseTime !== null && databaseClock.learn(databaseTime, since);
          if (repeated || !corrected || ends <= clock.now()) throw thrown;
        }
      }
    },
    leave: () => {
      for (const call of underWay) if (call.sent) giveBack.add(call);
    },
  };
}

function failure(thrown: unknown): SqlFailure | null {
  return thrown instanceof GatewayError && thrown.cause instanceof SqlFailure ? thrown.cause : null;
}

function isUndone(thrown: unknown): boolean {
  return UNDONE.test(failure(thrown)?.sqlstate ?? "");
}

/** Milliseconds since 1970; null: it was not about being late. */
function databaseTimeIn(thrown: unknown): number | null {
  const { sqlstate, detail } = failure(thrown) ?? {};
  return sqlstate === TOO_LATE && /^\d+$/.test(detail ?? "") ? Number(detail) : null;
}
