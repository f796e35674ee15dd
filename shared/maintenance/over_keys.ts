import type { KeyToCheck } from "../database/maintenance.ts";
import type { OperationContext } from "./operation.ts";

/** How many keys upstream is asked about at the same time: quick for a few dozen, and no burst. */
const AT_ONCE = 4;
/** One question without an answer must not use up the time of all. */
const ANSWER_MS = 20_000;

/**
 * Does something with each key, several at once, until the run's time is up. The signal ends with that time, and before
 * that after as long as one answer may take.
 * @returns whether keys were left over
 * @throws the first error, once what was under way has ended
 */
export async function overKeys(
  keys: readonly KeyToCheck[],
  { deadline }: Pick<OperationContext, "deadline">,
  visit: (key: KeyToCheck, signal: AbortSignal) => Promise<void>,
): Promise<boolean> {
  const waiting = [...keys];
  let failed = false;
  const worker = async () => {
    for (let key = waiting.shift(); key !== undefined; key = waiting.shift()) {
      try {
        await visit(key, AbortSignal.any([deadline.signal, AbortSignal.timeout(ANSWER_MS)]));
      } catch (error) {
        failed = true;
        throw error;
      }
      if (failed || deadline.signal.aborted) return;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: AT_ONCE }, worker));
  for (const one of ended) {
    if (one.status === "rejected") throw one.reason;
  }
  return waiting.length > 0;
}
