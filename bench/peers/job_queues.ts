/** graphile-worker and pg-boss from bench/'s own node_modules, each as its manual says that it is fast. */
import { createRequire } from "node:module";

const required = createRequire(import.meta.url);

/** Something that jobs are handed to, and that runs them. */
export interface JobQueuePeer {
  /** Hands in so many jobs at once. */
  submit(jobs: number): Promise<void>;
  /** Runs what waits with so many at once, until so many have ended. */
  drain(jobs: number, concurrency: number): Promise<void>;
  /**
   * A worker that waits for jobs.
   * @returns its end
   */
  listen(started: () => void): Promise<() => Promise<void>>;
  close(): Promise<void>;
}

/** A connection for each job that runs, and some for who waits. */
const CONNECTIONS = 12;

export async function graphileWorker(url: string): Promise<JobQueuePeer> {
  const { Logger, makeWorkerUtils, run } = required("graphile-worker");
  const logger = new Logger(() => () => {});
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  await utils.migrate();
  let onRun = () => {};
  const worker = (concurrency: number) =>
    run({
      connectionString: url,
      logger,
      concurrency,
      maxPoolSize: CONNECTIONS,
      noHandleSignals: true,
      taskList: { nothing: () => onRun() },
    });
  return {
    submit: (jobs) =>
      utils.addJobs(
        Array.from({ length: jobs }, (_, number) => ({ identifier: "nothing", payload: { number } })),
      ),
    async drain(jobs, concurrency) {
      const { promise, resolve } = Promise.withResolvers<void>();
      let left = jobs;
      onRun = () => {
        if (--left === 0) resolve();
      };
      const runner = await worker(concurrency);
      await promise;
      // Ends when the last ones have been written down.
      await runner.stop();
    },
    async listen(started) {
      onRun = started;
      const runner = await worker(1);
      return () => runner.stop();
    },
    close: () => utils.release(),
  };
}

export async function pgBoss(url: string): Promise<JobQueuePeer> {
  const { PgBoss } = required("pg-boss");
  const boss = new PgBoss({
    connectionString: url,
    max: CONNECTIONS,
    supervise: false,
    schedule: false,
  });
  boss.on("error", () => {});
  await boss.start();
  const queue = "nothing";
  await boss.createQueue(queue);
  return {
    async submit(jobs) {
      await boss.insert(queue, Array.from({ length: jobs }, (_, number) => ({ data: { number } })));
    },
    // Its own loop looks twice a second at most: here each looks again as soon as its job has ended.
    async drain(jobs, concurrency) {
      let left = jobs;
      await Promise.all(Array.from({ length: concurrency }, async () => {
        while (left > 0) {
          const [job] = await boss.fetch(queue);
          if (job === undefined) return;
          left--;
          await boss.complete(queue, job.id);
        }
      }));
    },
    async listen(started) {
      await boss.work(queue, () => {
        started();
        return Promise.resolve();
      });
      return () => boss.offWork(queue);
    },
    close: () => boss.stop({ graceful: false }),
  };
}
