import type { Clock } from "../../../shared/runtime/clock.ts";
import { PATIENCE_MS } from "../patience.ts";

/** Turns of the event loop in which everything that waits for nothing outside this process comes to its end. */
const TURNS = 4;

interface Sleeper {
  at: number;
  turn: number;
  wake: () => void;
}

/**
 * Time that passes only while nobody waits for real work: programs are run as they are, side by side, and an hour of pauses takes as
 * long as what happens in it. Real work (a call of a database) is to be `tracked`: time stands still meanwhile.
 */
export class QuietTime implements Clock {
  /** Told before anybody is woken. */
  onMove: (now: number) => Promise<void> = () => Promise.resolve();
  /** Told when time stands still for good; what it answers is part of the error. */
  onStuck: () => Promise<string> = () => Promise.resolve("");
  #now = 0;
  #turn = 0;
  readonly #working = new Map<Promise<unknown>, string>();
  #quiet = Promise.withResolvers<void>();
  readonly #sleepers = new Set<Sleeper>();

  now = () => this.#now;

  sleep = (ms: number, signal?: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const sleeper = {
        at: this.#now + Math.max(0, Math.ceil(ms)),
        turn: this.#turn++,
        wake: () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      const onAbort = () => {
        this.#sleepers.delete(sleeper);
        reject(signal!.reason);
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", onAbort, { once: true });
    });

  /** @param what what is said of it, should it never end */
  async tracked<Value>(work: Promise<Value>, what = "work of the test's"): Promise<Value> {
    this.#working.set(work, what);
    try {
      return await work;
    } finally {
      this.#working.delete(work);
      if (this.#working.size === 0) {
        this.#quiet.resolve();
        this.#quiet = Promise.withResolvers();
      }
    }
  }

  /** Moves on from one instant to the next until it holds, or `mostMs` have passed. */
  async runUntil(holds: () => boolean, mostMs: number): Promise<void> {
    const end = this.#now + mostMs;
    const moved = { now: this.#now, at: performance.now() };
    for (;;) {
      await this.#settled();
      if (this.#now > moved.now) Object.assign(moved, { now: this.#now, at: performance.now() });
      if (performance.now() - moved.at > PATIENCE_MS) await this.#stuck();
      if (holds()) return;
      const next = this.#next();
      if (next === undefined || next.at > end) throw new Error("time was over before it held");
      if (next.at > this.#now) {
        this.#now = next.at;
        await this.onMove(next.at);
      }
      this.#sleepers.delete(next);
      next.wake();
    }
  }

  #next(): Sleeper | undefined {
    let first: Sleeper | undefined;
    for (const one of this.#sleepers) {
      if (first === undefined || one.at < first.at || (one.at === first.at && one.turn < first.turn)) {
        first = one;
      }
    }
    return first;
  }

  async #settled(): Promise<void> {
    for (let turn = 0; turn < TURNS; turn++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (this.#working.size === 0) continue;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const stuck = new Promise<"stuck">((resolve) =>
        timer = setTimeout(() => resolve("stuck"), PATIENCE_MS)
      );
      const what = await Promise.race([this.#quiet.promise, stuck]);
      clearTimeout(timer);
      if (what === "stuck") await this.#stuck();
      turn = -1;
    }
  }

  async #stuck(): Promise<never> {
    const working = [...this.#working.values()].join(", ") || `nothing, and ${this.#sleepers.size} sleep`;
    throw new Error(`time stands at ${this.#now} ms. Under way: ${working}. ${await this.onStuck()}`);
  }
}
