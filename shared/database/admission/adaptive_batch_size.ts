/** A transaction of more would keep others from its lanes for long. */
const MOST_TOGETHER = 32;

/**
 * At most so many of a burst: who is reserved together calls upstream together and comes back together, and a crowd that
 * comes back at one moment waits for its own members. bench:gateway with fifty callers and an upstream
 * that takes 50 ms: lists of up to 32 added 12 ms at the median, of 8 or fewer 4.
 */
const OF_A_BURST = 8;

/** More than a burst's list have been waiting for so long: no burst, but a queue, which only longer lists make shorter. */
const STANDING_MS = 20;

/** After such a pause a queue is a thing of the past; a disk that is slow for once makes shorter ones. */
const IDLE_MS = 200;

/** Tells a queue that stands from a burst that passes, by how many wait whenever a list is made up. */
export class AdaptiveBatchSize {
  readonly #now: () => number;
  #stands = false;
  /** Since when what is seen says the contrary without a break. */
  #since = -Infinity;
  #seenAt = -Infinity;

  /** @param now milliseconds from any origin, never going back */
  constructor(now: () => number) {
    this.#now = now;
  }

  get stands(): boolean {
    return this.#stands;
  }

  /** How many may go in the list that is made up now, of so many who wait. */
  next(waiting: number): number {
    const at = this.#now();
    const gap = at - this.#seenAt;
    this.#seenAt = at;
    const isLong = waiting > OF_A_BURST;
    if (gap > IDLE_MS) this.#stands = false;
    if (isLong === this.#stands || gap > STANDING_MS) this.#since = at;
    else if (at - this.#since >= STANDING_MS) {
      this.#stands = isLong;
      this.#since = at;
    }
    return this.#stands ? MOST_TOGETHER : OF_A_BURST;
  }
}
