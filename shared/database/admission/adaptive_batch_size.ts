/** A larger transaction would lock its lanes for too long. */
const MOST_IN_A_BATCH = 32;

/**
 * The limit during a burst: calls that are reserved together call upstream together and come back together, and a
 * crowd that comes back at one moment waits for itself. bench:gateway with fifty callers and an upstream
 * that takes 50 ms: lists of up to 32 added 12 ms at the median, of 8 or fewer 4.
 */
const OF_A_BURST = 8;

/** When more calls than a burst's batch have been waiting for this long, it is not a burst but a lasting queue, which only larger batches shorten. */
const STANDING_MS = 20;

/** After a pause of this length there is no queue any more; a disk that is slow for a moment makes shorter pauses. */
const IDLE_MS = 200;

/** Chooses the size of the next batch: small for a burst that passes, large for a queue that stands, judged by how many wait each time. */
export class AdaptiveBatchSize {
  readonly #now: () => number;
  #stands = false;
  /** Since when every observation has contradicted the present judgement. */
  #since = -Infinity;
  #seenAt = -Infinity;

  /** @param now milliseconds from any origin, never going back */
  constructor(now: () => number) {
    this.#now = now;
  }

  get stands(): boolean {
    return this.#stands;
  }

  /** How many of those who wait may go in the next batch. */
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
    return this.#stands ? MOST_IN_A_BATCH : OF_A_BURST;
  }
}
