/**
 * How long a job's call may wait for its start, beyond the first ones of its caller. Longer, and a flood of one caller's jobs would stand in
 * the lane's queue before another's first one; shorter, and the lane would be without its next start while a worker looks for one.
 */
const JOB_WAIT_MS = 5_000;

/** How long jobs' calls may wait for their starts, by caller and model. */
export interface Lines {
  /**
   * Joins a line; `leave` is to be called when the call is over.
   * @param startEveryMs between two starts of the model, over all its lanes; null: not known, or no limit
   */
  join(line: string, startEveryMs: number | null): { waitMs: number; leave: () => void };
}

/**
 * Of each caller as many calls of a model as start within `JOB_WAIT_MS` wait as long as it takes. Were all of them to give up so soon, then
 * beside somebody whose calls keep the queue longer than that none would ever start: a place in a queue is kept by waiting alone.
 */
export function createLines(maxWaitMs: number): Lines {
  const staying = new Map<string, number>();
  return {
    join(line, startEveryMs) {
      const before = staying.get(line) ?? 0;
      const most = startEveryMs === null ? 1 : Math.max(1, Math.floor(JOB_WAIT_MS / startEveryMs));
      if (before >= most) return { waitMs: Math.min(JOB_WAIT_MS, maxWaitMs), leave: () => {} };
      staying.set(line, before + 1);
      return {
        waitMs: maxWaitMs,
        leave() {
          const now = staying.get(line)! - 1;
          if (now === 0) staying.delete(line);
          else staying.set(line, now);
        },
      };
    },
  };
}
