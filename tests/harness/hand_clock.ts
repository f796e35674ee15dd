import type { Clock } from "../../shared/runtime/clock.ts";

/** A clock that a test moves: pauses are over at once, and timers ring when they are told to. */
export class HandClock implements Clock {
  time = 0;
  /** Of every sleep, in milliseconds. */
  readonly pauses: number[] = [];
  /** Called in each pause. */
  onPause: () => Promise<void> | void = () => {};
  #timers = new Set<{ ms: number; ring: () => void }>();

  now = () => this.time;

  sleep = async (ms: number, signal?: AbortSignal): Promise<void> => {
    signal?.throwIfAborted();
    this.pauses.push(ms);
    this.time += ms;
    await this.onPause();
    signal?.throwIfAborted();
  };

  after(ms: number, ring: () => void): () => void {
    const timer = { ms, ring };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Milliseconds of the timers that are running. */
  get timers(): number[] {
    return [...this.#timers].map(({ ms }) => ms);
  }

  /** Lets all ring that are running, as if their time had passed. */
  ring(): void {
    const due = [...this.#timers];
    this.#timers.clear();
    this.time += Math.max(0, ...due.map(({ ms }) => ms));
    for (const { ring } of due) ring();
  }
}
