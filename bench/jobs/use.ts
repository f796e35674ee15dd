/** How much of what batch may use is used by jobs, in simulated time. */
import { JobPlatform } from "../../tests/harness/simulated/job_platform.ts";
import { seededRandom } from "../quota/random.ts";

const LANES = 3;
const RPM = 30;
const MINUTE_MS = 60_000;
/** Batch spreads what it started at once in its first minute over the second: the third is the first that shows a pace. */
const SETTLED_MS = 2 * MINUTE_MS;
const LIST = 500;
/** Longer than any run. */
const MOST_MS = 24 * 60 * MINUTE_MS;

/**
 * Jobs that wait from the beginning, over lanes that nobody else uses. Starts are counted from the third minute on, as long as a minute's
 * worth of jobs waits.
 * @param url of a database with the migrations, which nobody else uses
 * @param workers of the function worker at once
 * @param killEveryMs one of them is killed so often; null: never
 */
export async function jobsUse(
  url: string,
  { jobs, workers, killEveryMs }: { jobs: number; workers: number; killEveryMs: number | null },
) {
  const random = seededRandom(1);
  const platform = await JobPlatform.open({ url, lanes: LANES, rpm: RPM, random, workers });
  const { time, sent, sql } = platform;
  let killed = 0;
  let saturatedUntil = 0;
  const kill = async (everyMs: number) => {
    for (;;) {
      await time.sleep(everyMs);
      const running = [...platform.workers];
      const victim = running[Math.floor(random() * running.length)];
      if (victim === undefined) continue;
      await platform.kill(victim);
      killed++;
    }
  };
  try {
    for (let from = 0; from < jobs; from += LIST) {
      await platform.submit(Array.from({ length: Math.min(LIST, jobs - from) }, (_, n) => `job ${from + n}`));
    }
    platform.start();
    if (killEveryMs !== null) void kill(killEveryMs);
    await platform.until(async () => {
      const [row] = await sql`
        select count(*) filter (where state = 'queued')::integer as queued, count(*) filter (where finished_at is null)::integer as open
        from eve.jobs`;
      if (row!.queued >= LANES * RPM) saturatedUntil = time.now();
      return row!.open === 0;
    }, MOST_MS);
    const [ended] = await sql`
      select count(*) filter (where state = 'succeeded')::integer as succeeded, sum(losses)::integer as losses from eve.jobs`;
    const minutes = Math.floor((saturatedUntil - SETTLED_MS) / MINUTE_MS);
    const starts = sent.filter(({ at }) => at >= SETTLED_MS && at < SETTLED_MS + minutes * MINUTE_MS).length;
    return {
      jobs,
      succeeded: ended!.succeeded as number,
      lanes: LANES,
      rpm: RPM,
      workers,
      /** Those whose starts were counted. */
      minutes,
      workers_killed: killed,
      /** Runs that ended with their workers. */
      runs_lost: ended!.losses as number,
      /** Calls beside one for each job: what was under way with a worker that was killed is asked again. */
      sent_again: sent.length - jobs,
      refused_by_emulator: platform.refused,
      share_used: Math.round(10_000 * starts / (minutes * LANES * RPM)) / 10_000,
    };
  } finally {
    await platform.close();
  }
}
