import { pMapSettled, pMapStop } from "p-map";
import type { KeyToCheck } from "../database/maintenance/maintenance.ts";
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
  let begun = 0;
  let failed = false;
  const ended = await pMapSettled(keys, async (key) => {
    // The first of them begin together, so that a run whose time is short looks at some keys at least.
    if (begun >= AT_ONCE && (failed || deadline.signal.aborted)) return pMapStop;
    begun++;
    try {
      await visit(key, AbortSignal.any([deadline.signal, AbortSignal.timeout(ANSWER_MS)]));
    } catch (error) {
      failed = true;
      throw error;
    }
  }, { concurrency: AT_ONCE });
  for (const one of ended) {
    if (one.status === "rejected") throw one.reason;
  }
  return begun < keys.length;
}
