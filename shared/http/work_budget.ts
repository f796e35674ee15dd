import { type Clock, setTimer } from "../runtime/clock.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import { MAX_JSON_VALUES } from "./json.ts";

/**
 * How many copies of a body are in memory while it is worked on: as it came and as text, then as values and as what goes upstream. Of
 * the 256 MB that a hosted function has, it takes about 80 by itself, and garbage that nobody has collected yet as much
 * as everything in work.
 */
export const BODY_COPIES = 2;
/** What a value takes beside its bytes: a name in a large object, with its slot, copied twice on its way. */
export const VALUE_BYTES = 128;
/**
 * Room beside one of the largest bodies, as a part of what that one takes: another caller's of 2.5 MiB. Two of the largest
 * at once, with their garbage, were measured to take more than a hosted function has.
 */
const ROOM_BESIDE = 1 / 4;
/** Reserved beside the large bodies for small ones: a caller who sends a prompt is served while others send films. */
const KEPT_FOR_SMALL_BYTES = 4 * 1024 * 1024;
/** What a small body takes at most: a prompt of 60,000 tokens, or 4,000 values. */
const SMALL_WORK_BYTES = 512 * 1024;
/** When to come back: most requests have ended by then, and one that waits for its start has moved on. */
const RETRY_AFTER_MS = 2_000;

/** What one request takes of the budget. */
export interface Work {
  /**
   * Takes more.
   * @throws GatewayError `gateway_busy`
   */
  add(bytes: number): void;
  /**
   * Waits for its turn to be parsed, checked and estimated, if it has become a large one: they follow one another, with as
   * long a pause for all other callers in between as the last one took.
   */
  turn(clock: Clock): Promise<void>;
  /** Gives back all of it; safe to call twice. */
  end(): void;
}

/**
 * The memory that requests take in one function instance, so that overload ends in errors and not in the process's
 * end, and their turns at its only thread. One caller may take what one of the largest bodies takes, so that a single
 * one cannot shut out the others.
 */
export class WorkBudget {
  readonly #total: number;
  readonly #perCaller: number;
  readonly #callers = new Map<string, number>();
  #taken = 0;
  #lastTurn: Promise<void> = Promise.resolve();

  /** @param maxBodyBytes of one body; the budget has room for it, whatever it holds, and for a smaller one */
  constructor(maxBodyBytes: number) {
    const largest = maxBodyBytes * BODY_COPIES + MAX_JSON_VALUES * VALUE_BYTES;
    this.#perCaller = largest;
    this.#total = largest * (1 + ROOM_BESIDE) + KEPT_FOR_SMALL_BYTES;
  }

  /** Bytes in work at this moment. */
  get taken(): number {
    return this.#taken;
  }

  /** @param caller a unique name of the one who is charged */
  begin(caller: string): Work {
    let mine = 0;
    let over = false;
    return {
      add: (bytes) => {
        if (over) return;
        const small = mine + bytes <= SMALL_WORK_BYTES;
        const callers = this.#callers.get(caller) ?? 0;
        if (
          this.#taken + bytes > this.#total - (small ? 0 : KEPT_FOR_SMALL_BYTES) ||
          callers + bytes > this.#perCaller
        ) {
          throw new GatewayError("gateway_busy", { retryAfterMs: RETRY_AFTER_MS });
        }
        mine += bytes;
        this.#taken += bytes;
        this.#callers.set(caller, callers + bytes);
      },
      turn: async (clock) => {
        if (mine <= SMALL_WORK_BYTES) return;
        const before = this.#lastTurn;
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#lastTurn = promise;
        await before;
        const since = clock.now();
        // Work that waits for nothing is over when the first timer fires.
        setTimer(clock, 0, () => setTimer(clock, clock.now() - since, resolve));
      },
      end: () => {
        if (over) return;
        over = true;
        this.#taken -= mine;
        const left = (this.#callers.get(caller) ?? 0) - mine;
        if (left > 0) this.#callers.set(caller, left);
        else this.#callers.delete(caller);
      },
    };
  }
}
