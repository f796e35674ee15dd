import { GatewayError } from "../contract/gateway_error.ts";
import { MAX_JSON_VALUES } from "./json.ts";

/**
 * Bytes of bodies that one function instance works on at once. Of the 256 MB that a hosted function has, it takes about
 * 80 by itself; a body in work is there up to three times (its texts, what goes upstream as text and as bytes), and
 * while one is parsed, that one three times more.
 */
const WORK_BYTES = 40 * 1024 * 1024;
/** Of them, kept for small bodies: whoever sends a prompt is served while others send films. */
const KEPT_FOR_SMALL_BYTES = 4 * 1024 * 1024;
/** A body up to here is small: a prompt of 60,000 tokens. */
const SMALL_BODY_BYTES = 256 * 1024;
/** What a value takes beside its bytes: a name in a large object, with its slot, copied twice on its way. */
export const VALUE_BYTES = 128;
/** When to come back: most requests have ended by then, and one that waits for its start has moved on. */
const RETRY_AFTER_MS = 2_000;

/** What one request takes of the budget. */
export interface Work {
  /**
   * Takes more.
   * @throws GatewayError `gateway_busy`
   */
  add(bytes: number): void;
  /** Gives back all of it; safe to call twice. */
  end(): void;
}

/**
 * The memory that requests take in one function instance, so that it ends in refusals and not in the process's death. One
 * caller may take half of it, so that a single one cannot shut out the others.
 */
export class WorkBudget {
  readonly #total: number;
  readonly #callers = new Map<string, number>();
  #taken = 0;

  /** @param maxBodyBytes of one body; the budget has room for two of them, whatever they hold */
  constructor(maxBodyBytes: number) {
    const largest = maxBodyBytes + MAX_JSON_VALUES * VALUE_BYTES;
    this.#total = Math.max(WORK_BYTES, 2 * largest + KEPT_FOR_SMALL_BYTES);
  }

  /** Bytes in work at this moment. */
  get taken(): number {
    return this.#taken;
  }

  /** @param caller whoever is charged, by any name that is theirs alone */
  begin(caller: string): Work {
    let mine = 0;
    let over = false;
    return {
      add: (bytes) => {
        if (over) return;
        const small = mine + bytes <= SMALL_BODY_BYTES;
        const callers = this.#callers.get(caller) ?? 0;
        if (
          this.#taken + bytes > this.#total - (small ? 0 : KEPT_FOR_SMALL_BYTES) ||
          callers + bytes > this.#total / 2
        ) {
          throw new GatewayError("gateway_busy", { retryAfterMs: RETRY_AFTER_MS });
        }
        mine += bytes;
        this.#taken += bytes;
        this.#callers.set(caller, callers + bytes);
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
