import type { JobLists, JobListState } from "../../../shared/database/jobs/job_lists.ts";
import type { JobCaller } from "../../../shared/database/jobs/jobs.ts";
import type { LaneState } from "../../../shared/database/reading.ts";
import { bar } from "../chart.ts";
import type { CommandDependencies } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, EXIT, unreachable } from "../failure.ts";
import { count, duration } from "../table.ts";

const POLL_EVERY_MS = 2_000;
/** What is left of the limits changes with every call; the time left is told in minutes. */
const LANES_EVERY_MS = 20_000;
/** A project that is started again, or a network that is away, comes back in this time. */
const PATIENCE_MS = 600_000;
/** The rate is that of the last minute: what was done yesterday says nothing. */
const RATE_OVER_MS = 60_000;
const MINUTE_MS = 60_000;
const BAR_WIDTH = 20;

/**
 * Shows how far the jobs of a batch are, until all of them have ended. A project that does not answer meanwhile is asked again.
 * @throws CliFailure when it has not answered for ten minutes, or knows no such jobs
 */
export async function watchJobs(
  connection: Connection,
  lists: JobLists,
  batchId: string,
  caller: JobCaller,
  { progress, sleep, now, signal }: Pick<CommandDependencies, "progress" | "sleep" | "now" | "signal">,
): Promise<JobListState> {
  const seen: { at: number; done: number }[] = [];
  let lanes: LaneState[] = [];
  let lanesAt = -Infinity;
  let answeredAt = now();
  for (;;) {
    signal.throwIfAborted();
    try {
      const state = await lists.state(batchId, caller);
      answeredAt = now();
      if (state === null) throw new CliFailure("The jobs are not there any more.");
      if (state.finished_at !== null) return state;
      if (now() - lanesAt >= LANES_EVERY_MS) {
        lanes = await connection.reading.lanes();
        lanesAt = now();
      }
      seen.push({ at: now(), done: ended(state) });
      while (seen.length > 2 && seen[0]!.at < now() - RATE_OVER_MS) seen.shift();
      progress(progressLine(state, lanes, seen));
    } catch (thrown) {
      signal.throwIfAborted();
      if (thrown instanceof CliFailure && thrown.exitCode !== EXIT.unreachable) throw thrown;
      if (now() - answeredAt > PATIENCE_MS) {
        throw unreachable("The project has not answered for ten minutes. The jobs go on where it runs.");
      }
      progress("The project does not answer; trying again ...");
    }
    await sleep(POLL_EVERY_MS);
  }
}

/** Jobs that have ended, however. */
export function ended({ states }: JobListState): number {
  const { queued: _, running: __, ...over } = states;
  return Object.values(over).reduce((sum, jobs) => sum + jobs, 0);
}

export function all({ states }: JobListState): number {
  return Object.values(states).reduce((sum, jobs) => sum + jobs, 0);
}

function progressLine(
  state: JobListState,
  lanes: readonly LaneState[],
  seen: readonly { at: number; done: number }[],
): string {
  const [done, total] = [ended(state), all(state)];
  const [first, last] = [seen[0]!, seen.at(-1)!];
  const perMinute = last.at > first.at ? (last.done - first.done) * MINUTE_MS / (last.at - first.at) : 0;
  const byRate = perMinute > 0 ? (total - done) * MINUTE_MS / perMinute : null;
  const left = timeLeftMs(state.waiting, lanes) ?? byRate;
  return [
    bar(done, total, BAR_WIDTH).padEnd(BAR_WIDTH),
    `${count(done)} of ${count(total)}`,
    `${Math.round(perMinute)} a minute`,
    left === null ? "" : `${duration(left)} left`,
    (state.states.failed ?? 0) > 0 ? `${count(state.states.failed!)} failed` : "",
  ].filter((part) => part !== "").join("  ");
}

/**
 * How long the limits alone make the jobs take that wait, in ms: the model that takes longest decides. Models that have no limits, or no key,
 * say nothing.
 * @param waiting how many jobs wait for each model
 * @returns null: no limit says anything
 */
export function timeLeftMs(
  waiting: Readonly<Record<string, number>>,
  lanes: readonly LaneState[],
): number | null {
  const times = Object.entries(waiting).flatMap(([model, jobs]) => {
    const open = lanes.filter((lane) => lane.model === model && !["no_key", "no_quota"].includes(lane.state));
    const times: number[] = [];
    if (open.length > 0 && open.every(({ requests }) => requests.limit !== null)) {
      const perMinute = open.reduce((sum, { requests }) => sum + requests.limit!, 0);
      const now = open.reduce((sum, { requests }) => sum + (requests.remaining ?? 0), 0);
      if (perMinute > 0) times.push(Math.max(jobs - now, 0) / perMinute * MINUTE_MS);
    }
    if (open.length > 0 && open.every(({ requests_day }) => requests_day.limit !== null)) {
      const perDay = open.reduce((sum, { requests_day }) => sum + requests_day.limit!, 0);
      const today = open.reduce((sum, { requests_day }) => sum + (requests_day.remaining ?? 0), 0);
      // What today has no room for takes whole days.
      if (perDay > 0 && jobs > today) times.push(Math.ceil((jobs - today) / perDay) * 1_440 * MINUTE_MS);
    }
    return times;
  });
  return times.length === 0 ? null : Math.max(...times);
}
