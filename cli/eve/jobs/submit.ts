import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { JobQueue, JobToSubmit } from "../../../shared/database/jobs/job_queue.ts";
import type { JobCaller } from "../../../shared/database/jobs/jobs.ts";
import { bar } from "../chart.ts";
import type { CommandDependencies } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure } from "../failure.ts";
import { sendToFunction } from "../function_call.ts";
import { count } from "../table.ts";
import type { KeepLongBodies } from "./long_bodies.ts";

/** The database takes a thousand; a smaller list holds up nobody else's for long. */
const JOBS_A_LIST = 500;
/** And of long prompts fewer. */
const BYTES_A_LIST = 2_000_000;
/** Where there is no room: between two tries. */
const ROOM_PAUSE_MS = 10_000;
const BAR_WIDTH = 20;

/**
 * Hands jobs in, list by list, and wakes the worker.
 * @param keepLong what is too long for the table goes with the files
 * @param waits whether to wait while the caller has as many jobs waiting as it may
 * @returns how many of them are new: the others had been handed in before
 * @throws CliFailure that says how many were handed in
 */
export async function submitAll(
  connection: Connection,
  queue: JobQueue,
  jobs: readonly JobToSubmit[],
  caller: JobCaller,
  { keepLong, waits, progress, sleep, signal }:
    & { keepLong: KeepLongBodies; waits: boolean }
    & Pick<CommandDependencies, "progress" | "sleep" | "signal">,
): Promise<number> {
  let done = 0;
  let added = 0;
  for (const list of listsOf(jobs)) {
    let kept: JobToSubmit[] | null = null;
    for (;;) {
      signal.throwIfAborted();
      const drawn = bar(done, jobs.length, BAR_WIDTH).padEnd(BAR_WIDTH);
      progress(`Handing in ${drawn} ${count(done)} of ${count(jobs.length)}`);
      try {
        kept ??= await keepLong(list, caller, signal);
        const accepted = await queue.submit(kept, caller);
        added += accepted.jobs.filter(({ isNew }) => isNew).length;
        if (accepted.wake) await wakeWorker(connection, signal);
        break;
      } catch (thrown) {
        if (!(thrown instanceof GatewayError)) throw thrown;
        if (waits && thrown.code === "jobs_full") {
          progress(`Waiting for room: ${count(done)} of ${count(jobs.length)} are handed in`);
          await sleep(ROOM_PAUSE_MS);
          continue;
        }
        throw new CliFailure(
          `${thrown.code}: ${thrown.publicMessage}\n${count(done)} of ${
            count(jobs.length)
          } lines were handed in. Submit the file again for the others: what is in is not handed in twice.`,
        );
      }
    }
    done += list.length;
  }
  return added;
}

function* listsOf(jobs: readonly JobToSubmit[]): Generator<JobToSubmit[]> {
  let list: JobToSubmit[] = [];
  let bytes = 0;
  for (const job of jobs) {
    const size = JSON.stringify(job.body).length;
    if (list.length === JOBS_A_LIST || list.length > 0 && bytes + size > BYTES_A_LIST) {
      yield list;
      list = [];
      bytes = 0;
    }
    list.push(job);
    bytes += size;
  }
  yield list;
}

/** The schedule wakes it as well, a few seconds later. */
async function wakeWorker(connection: Connection, signal: AbortSignal): Promise<void> {
  try {
    await (await sendToFunction(connection, "worker", {}, { signal })).body?.cancel();
  } catch {
    signal.throwIfAborted();
  }
}
