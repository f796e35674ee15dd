interface Timer {
  /** `performance.now()`. */
  at: number;
  fire: () => void;
}

/**
 * Timers of one length each, with one timer of the runtime's for all that are set: they fire in the order in which they
 * were set. Every request sets several that never fire, and a timer of its own costs each some microseconds, twice.
 */
export class CoalescedTimers {
  readonly #ms: number;
  /** In the order in which they fire. */
  readonly #set = new Set<Timer>();
  #running = false;

  /** @param ms how long after it is set each of them fires; a whole number */
  constructor(ms: number) {
    this.#ms = ms;
  }

  /** Sets one. @returns what clears it */
  add(fire: () => void): () => void {
    const timer = { at: performance.now() + this.#ms, fire };
    this.#set.add(timer);
    if (!this.#running) this.#wait(this.#ms);
    return () => void this.#set.delete(timer);
  }

  #wait(ms: number): void {
    this.#running = true;
    setTimeout(this.#onTime, Math.ceil(ms));
  }

  #onTime = () => {
    this.#running = false;
    for (const timer of this.#set) {
      const early = timer.at - performance.now();
      // The others were set later. One that throws must not keep them from being waited for.
      if (early > 0) return this.#wait(early);
      this.#set.delete(timer);
      queueMicrotask(timer.fire);
    }
  };
}
