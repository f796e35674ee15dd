import type { Caller } from "../contract/caller.ts";
import type { Clock } from "../runtime/clock.ts";
import type { JoinLine } from "../vision/analysts/model.ts";

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

/** Keys and limits change seldom. */
const ASK_AGAIN_MS = 10_000;

export interface AnalystLinesOptions {
  /** The longest that a picture's call waits for its start. */
  maxWaitMs: number;
  /** Between two starts of a model, over all its lanes; null: not known, or no limit. */
  startEveryMs: (model: string) => Promise<number | null>;
  clock: Pick<Clock, "now">;
}

/**
 * Lines for calls of models that do not come as jobs of their own, such as those on pictures: which model is asked is known only when a job
 * is under way. What is known of a model is asked for again after ten seconds; if that fails the call waits as one of which nothing is known.
 */
export function analystLines({ maxWaitMs, startEveryMs, clock }: AnalystLinesOptions): JoinLine {
  const lines = createLines(maxWaitMs);
  const known = new Map<string, { at: number; everyMs: Promise<number | null> }>();
  function everyMs(model: string): Promise<number | null> {
    const now = clock.now();
    const last = known.get(model);
    if (last !== undefined && now - last.at < ASK_AGAIN_MS) return last.everyMs;
    const asked = startEveryMs(model).catch(() => null);
    known.set(model, { at: now, everyMs: asked });
    return asked;
  }
  return async ({ consumerId }: Caller, models) =>
    lines.join(
      `${consumerId} ${models.join(" ")}`,
      models[0] === undefined ? null : await everyMs(models[0]),
    );
}
