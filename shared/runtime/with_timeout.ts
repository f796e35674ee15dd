import { alarm, type Clock } from "./clock.ts";

export class TookTooLong extends Error {}

/** The promise's value, or TookTooLong after `ms`. The promise goes on by itself. */
export async function within<Value>(clock: Clock, ms: number, promise: Promise<Value>): Promise<Value> {
  const first = Promise.withResolvers<Value>();
  const silence = alarm(clock, ms, () => first.reject(new TookTooLong()));
  promise.then(first.resolve, first.reject);
  try {
    return await first.promise;
  } finally {
    silence();
  }
}
