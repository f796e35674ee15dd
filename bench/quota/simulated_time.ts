/** Time that passes only when nobody has anything left to do at the present instant. */

interface Event {
  at: number;
  /** Events of one instant happen in the order in which they were asked for. */
  turn: number;
  happen: () => void;
}

/**
 * A discrete-event clock for tasks written as ordinary async functions.
 *
 * Exactly one task runs at a time, from one `sleep` to the next, however long it really waits for other things in between
 * (a database); so a run gives the same result every time. Within a task, await `sleep` and real work only, one after the
 * other. Tasks that are still asleep when the run ends are dropped.
 */
export class SimulatedTime {
  #now: number;
  #turn = 0;
  #events: Event[] = [];
  #handOver: () => void = () => {};
  #failure: unknown = undefined;

  /** @param startMs milliseconds since 1970; whole, as all times here */
  constructor(startMs: number) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now;
  }

  /** Lets time pass for the calling task: `ms` rounded up, at least 0. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#schedule(Math.max(0, Math.ceil(ms)), resolve);
      this.#handOver();
    });
  }

  /** Adds a task that begins after `ms`, beside the one that is running. */
  spawn(task: () => Promise<void>, ms = 0): void {
    this.#schedule(Math.max(0, Math.ceil(ms)), () => {
      task().catch((error) => this.#failure ??= error ?? new Error("a task failed")).finally(() =>
        this.#handOver()
      );
    });
  }

  /** Runs until `endMs` or until nothing is left to happen. Throws what a task threw. */
  async runUntil(endMs: number): Promise<void> {
    while (
      this.#events.length > 0 && this.#events[0]!.at <= endMs &&
      this.#failure === undefined
    ) {
      const event = this.#take();
      this.#now = event.at;
      await new Promise<void>((resolve) => {
        this.#handOver = resolve;
        event.happen();
      });
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  #schedule(ms: number, happen: () => void): void {
    const events = this.#events;
    let place = events.push({ at: this.#now + ms, turn: this.#turn++, happen }) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!isBefore(events[place]!, events[parent]!)) break;
      swap(events, place, parent);
      place = parent;
    }
  }

  #take(): Event {
    const events = this.#events;
    const first = events[0]!;
    const last = events.pop()!;
    if (events.length === 0) return first;
    events[0] = last;
    for (let place = 0;;) {
      const left = 2 * place + 1;
      if (left >= events.length) return first;
      const right = left + 1;
      const child = right < events.length && isBefore(events[right]!, events[left]!) ? right : left;
      if (!isBefore(events[child]!, events[place]!)) return first;
      swap(events, place, child);
      place = child;
    }
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.turn < b.turn);
}

function swap(events: Event[], a: number, b: number): void {
  [events[a], events[b]] = [events[b]!, events[a]!];
}
