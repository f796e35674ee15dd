import * as z from "zod";
import { type Clock, setTimer } from "../../runtime/clock.ts";
import { call } from "../transport/call.ts";
import type { ReserveCall, ReserveInput } from "./reserve.ts";
import type { Transport } from "../transport/transport.ts";

/** A try that hangs, on a connection that died without a word, is not waited for. */
const TRY_MS = 5_000;
/** Between two tries while the database does not answer: the first pause, and the longest. Any answer of the database ends the pause. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** Remembered at most; a lease ends what is beyond. */
const MOST_WAITING = 10_000;

const answer = z.discriminatedUnion("status", [
  z.object({ status: z.enum(["given_back", "nothing"]) }),
  z.object({ status: z.literal("wait"), wait_ms: z.number().nonnegative() }),
]);

interface UnansweredCall {
  call: ReserveCall;
  /** `Clock.now()`: what was booked has ended by itself. */
  until: number;
  over: PromiseWithResolvers<void>;
}

export interface GiveBackOptions {
  transport: Transport;
  clock: Clock;
  /** Keeps the process alive until this is done, where the runtime has to be told. */
  background: (work: Promise<void>) => void;
}

/**
 * Gives back what may have been booked by calls whose answers did not arrive in time: tells the database which they
 * were, until it has answered or their leases have expired. The migration `giving_back` says what else guards against
 * lost starts.
 */
export class GiveBack {
  readonly #options: GiveBackOptions;
  readonly #unheard = new Map<string, UnansweredCall>();
  #goesOn = false;
  #wake = () => {};

  constructor(options: GiveBackOptions) {
    this.#options = options;
  }

  /** A call of eve_reserve that may have booked, or may still do so until its deadline. */
  add(reserveCall: ReserveCall): void {
    if (this.#unheard.has(reserveCall.callId) || this.#unheard.size >= MOST_WAITING) return;
    this.#unheard.set(reserveCall.callId, {
      call: reserveCall,
      until: this.#options.clock.now() + reserveCall.maxWaitMs + reserveCall.leaseMs,
      over: Promise.withResolvers(),
    });
    if (this.#goesOn) return;
    this.#goesOn = true;
    this.#options.background(this.#work());
  }

  /** The database has answered some other call: it is reachable, so this is sent at once. */
  heard(): void {
    if (this.#goesOn) this.#wake();
  }

  /** Resolves when no call of the same request waits to be given back; null: none does. */
  clear({ consumerId, requestId }: ReserveInput): Promise<unknown> | null {
    if (this.#unheard.size === 0) return null;
    const same = [...this.#unheard.values()].filter(({ call }) =>
      call.requestId === requestId && call.consumerId === consumerId
    );
    return same.length === 0 ? null : Promise.all(same.map(({ over }) => over.promise));
  }

  async #work(): Promise<void> {
    let pause = FIRST_PAUSE_MS;
    while (this.#unheard.size > 0) {
      let next = Infinity;
      for (const one of [...this.#unheard.values()]) {
        const { callId } = one.call;
        this.#unheard.delete(callId);
        // A call that others wait for stays in the list while it is asked about: it moves to the end.
        this.#unheard.set(callId, one);
        let waitMs: number | null;
        try {
          waitMs = await this.#send(one);
          pause = FIRST_PAUSE_MS;
        } catch {
          waitMs = null;
        }
        if (waitMs === 0 || this.#options.clock.now() >= one.until) {
          this.#unheard.delete(callId);
          one.over.resolve();
        } else if (waitMs !== null) next = Math.min(next, waitMs);
        else {
          next = pause;
          pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
          break;
        }
      }
      if (Number.isFinite(next)) await this.#pause(next);
    }
    this.#goesOn = false;
  }

  /** Milliseconds until the database is told again; 0: never. */
  async #send(
    { call: { requestId, callId, deadline, consumerId, attempt } }: UnansweredCall,
  ): Promise<number> {
    const args = { request_id: requestId, call_id: callId, deadline, consumer_id: consumerId, attempt };
    const said = await call(this.#options.transport, "eve_give_back", args, answer, TRY_MS);
    return said.status === "wait" ? Math.max(1, said.wait_ms) : 0;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const off = setTimer(this.#options.clock, ms, resolve);
      this.#wake = () => {
        off();
        resolve();
      };
    });
  }
}
