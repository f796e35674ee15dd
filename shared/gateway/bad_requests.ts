import type { Clock } from "../runtime/clock.ts";
import type { NoteError } from "../contract/note_error.ts";
import type { Log } from "../runtime/log.ts";
import type { BadRequestCount, CountBadRequests } from "../database/maintenance/bad_requests.ts";
import type { Background } from "../runtime/background.ts";

/** Refusals within this time are counted with one call of the database. */
const HAND_OVER_MS = 1_000;

/** Besides 400s: what is refused before anything else could record it. */
const ELSEWHERE_UNKNOWN: ReadonlySet<string> = new Set([
  "not_found",
  "method_not_allowed",
  "body_timeout",
  "body_too_large",
]);

export interface BadRequestDependencies {
  count: CountBadRequests;
  clock: Clock;
  background: Background;
  log: Log;
}

/**
 * Counts requests that are refused as invalid, by code and consumer, and sends the counts to the database once a
 * second. Neither waits for the database nor fails: counts that cannot be sent are logged and dropped.
 */
export function badRequestCounter(
  { count, clock, background, log }: BadRequestDependencies,
): NoteError {
  let pending = new Map<string, BadRequestCount>();

  async function handOver(): Promise<void> {
    await clock.sleep(HAND_OVER_MS).catch(() => {});
    const counts = [...pending.values()];
    pending = new Map();
    try {
      await count(counts);
    } catch (thrown) {
      log("warn", "bad_requests_not_counted", {
        times: counts.reduce((sum, { times }) => sum + times, 0),
        detail: String(thrown),
      });
    }
  }

  return (error, caller) => {
    if (error.status !== 400 && !ELSEWHERE_UNKNOWN.has(error.code)) return;
    const key = `${error.code} ${caller === null ? "" : caller.consumerId ?? "project"}`;
    const counted = pending.get(key);
    if (counted !== undefined) {
      counted.times++;
      return;
    }
    pending.set(key, { code: error.code, caller, times: 1 });
    if (pending.size === 1) background(handOver());
  };
}
