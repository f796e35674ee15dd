/** An alarm that has been set. */
interface Alarm {
  /** `performance.now()`. */
  at: number;
  ring: () => void;
}

/**
 * Alarms of one length each, with one timer of the runtime's for all that are set: they ring in the order in which they
 * were set. Every request sets several that never ring, and a timer of its own costs each some microseconds, twice.
 */
export class Alarms {
  readonly #ms: number;
  /** In the order in which they ring. */
  readonly #set = new Set<Alarm>();
  #running = false;

  /** @param ms how long after it is set each of them rings; a whole number */
  constructor(ms: number) {
    this.#ms = ms;
  }

  /** Sets one; what it gives back switches it off. */
  add(ring: () => void): () => void {
    const alarm = { at: performance.now() + this.#ms, ring };
    this.#set.add(alarm);
    if (!this.#running) this.#wait(this.#ms);
    return () => void this.#set.delete(alarm);
  }

  #wait(ms: number): void {
    this.#running = true;
    setTimeout(this.#onTime, Math.ceil(ms));
  }

  #onTime = () => {
    this.#running = false;
    for (const alarm of this.#set) {
      const early = alarm.at - performance.now();
      // The others were set later. One that throws must not keep them from being waited for.
      if (early > 0) return this.#wait(early);
      this.#set.delete(alarm);
      queueMicrotask(alarm.ring);
    }
  };
}
