import type { Clock } from "../runtime/clock.ts";

/**
 * How long a job's call may wait for its start in a lane. Longer, and a flood of one caller's jobs would stand in the lane's queue
 * before another's first one; shorter, and the lane would be without its next start while a worker looks for one.
 */
const JOB_WAIT_MS = 5_000;
/** Callers and models of a worker that runs for good; beyond, those whose time is over are forgotten. */
const MAX_LINES = 1_000;

/** How long jobs' calls may wait, by caller and model. */
export interface Lines {
  /** In milliseconds: what a call asks for at first. */
  waitMs(line: string): number;
  /**
   * A lane said that its next start is `startsInMs` away, longer than the call would have waited. Answers how long the call may wait now; not
   * as long as that: it is to be given back.
   */
  refused(line: string, startsInMs: number): number;
}

/**
 * Where other callers of a model keep its queue longer than `JOB_WAIT_MS`, jobs would never get in: there is always somebody in the places
 * that they would take. So one call goes to the end of the queue, however far that is, and those behind it may start `JOB_WAIT_MS` after it.
 */
export function createLines(clock: Clock, maxWaitMs: number): Lines {
  /** When the first one in the queue expects to start. */
  const firstStarts = new Map<string, number>();
  const waitMs = (line: string) =>
    Math.min(maxWaitMs, Math.max(0, Math.floor((firstStarts.get(line) ?? 0) - clock.now())) + JOB_WAIT_MS);
  return {
    waitMs,
    refused(line, startsInMs) {
      const now = clock.now();
      if ((firstStarts.get(line) ?? 0) <= now && startsInMs + JOB_WAIT_MS <= maxWaitMs) {
        if (firstStarts.size >= MAX_LINES) {
          for (const [name, at] of firstStarts) if (at <= now) firstStarts.delete(name);
        }
        firstStarts.set(line, now + startsInMs);
      }
      return waitMs(line);
    },
  };
}
