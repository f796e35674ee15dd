import { type Clock, setTimer } from "./clock.ts";

export class TookTooLong extends Error {}

/** The promise's value, or TookTooLong after `ms`. The promise itself goes on. */
export async function withTimeout<Value>(clock: Clock, ms: number, promise: Promise<Value>): Promise<Value> {
  const first = Promise.withResolvers<Value>();
  const clearTimer = setTimer(clock, ms, () => first.reject(new TookTooLong()));
  promise.then(first.resolve, first.reject);
  try {
    return await first.promise;
  } finally {
    clearTimer();
  }
}
