import { CoalescedTimers } from "./coalesced_timers.ts";

/** Time as the gateway sees it: only spans matter here, since the database decides about instants. */
export interface Clock {
  /** Milliseconds from an arbitrary origin, never going back. */
  now(): number;
  /** Resolves after `ms` (0 or more); rejects with the signal's reason as soon as it aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** As `setTimer`, for clocks that can do it at less cost than a sleep. */
  after?(ms: number, fire: () => void): () => void;
}

/**
 * Calls `fire` after `ms`. Every request sets a few timers that never fire, so they must cost little: a sleep that is
 * aborted makes a signal, a listener and an error, each time.
 * @returns what clears the timer
 */
export function setTimer(clock: Clock, ms: number, fire: () => void): () => void {
  if (clock.after !== undefined) return clock.after(ms, fire);
  const off = new AbortController();
  clock.sleep(ms, off.signal).then(fire, () => {});
  return () => off.abort();
}

/** Timeouts that settings and constants name: few lengths, each set with every request. */
const LONG_MS = 1_000;
const MOST_LENGTHS = 32;
const lengths = new Map<number, CoalescedTimers>();

function after(ms: number, fire: () => void): () => void {
  let timers = lengths.get(ms);
  if (timers === undefined && ms >= LONG_MS && Number.isInteger(ms) && lengths.size < MOST_LENGTHS) {
    lengths.set(ms, timers = new CoalescedTimers(ms));
  }
  if (timers !== undefined) return timers.add(fire);
  const timer = setTimeout(fire, ms);
  return () => clearTimeout(timer);
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after,
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      }, ms);
      signal?.addEventListener("abort", onAbort, { once: true });
    }),
};
