/**
 * Runs the jobs of the stand-in for pg_cron (local/platform/03_cron.sql) as the extension does: by the minute in UTC, or
 * every so many seconds, each as the role that scheduled it, never one job twice at a time, with a row in
 * cron.job_run_details for every run.
 */
import { Cron } from "croner";
import postgres from "postgres";
import { PollingClient } from "./polling_client.ts";

export interface CronJobsOptions {
  /** A connection string for the role that owns the database; other roles' have its password. */
  databaseUrl: string;
  log: (line: string) => void;
  now?: () => Date;
}

/** How often the jobs are checked: fine enough for a schedule of `1 seconds`. */
const TICK_MS = 500;
/** How long running jobs may take to finish once they are asked to; then they are interrupted, as when the server ends. */
const FINISH_MS = 3_000;
/** pg_cron's own limit, `cron.max_running_jobs`. */
const MAX_AT_ONCE = 32;

interface Job {
  jobid: string;
  schedule: string;
  command: string;
  username: string;
}

export class CronJobs {
  readonly #options: CronJobsOptions;
  readonly #client: PollingClient;
  readonly #running = new Map<string, Promise<void>>();
  readonly #connections = new Set<postgres.Sql>();
  /** When each job of seconds began last. */
  readonly #beganAt = new Map<string, number>();
  #minute: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ticking: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: CronJobsOptions) {
    this.#options = options;
    this.#client = new PollingClient(options.databaseUrl, 1);
  }

  start(): void {
    const tick = async () => {
      this.#ticking = this.#client.poll(() => this.#tick());
      await this.#ticking;
      if (!this.#stopped) this.#timer = setTimeout(tick, TICK_MS);
    };
    tick();
  }

  /** Begins no more jobs, and waits a little for those that run. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#ticking;
    const { promise: patience, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, FINISH_MS);
    await Promise.race([Promise.all(this.#running.values()), patience]);
    clearTimeout(timer);
    await Promise.all([...this.#connections].map((sql) => sql.end({ timeout: 0 })));
    await this.#client.end();
  }

  async #tick(): Promise<void> {
    const now = this.#options.now?.() ?? new Date();
    const minute = Math.floor(now.getTime() / 60_000);
    const isNewMinute = this.#minute !== undefined && minute > this.#minute;
    const jobs = await this.#client.sql<Job[]>`
      select jobid, schedule, command, username from cron.job
      where active and database = current_database() order by jobid`;
    this.#minute = minute;
    for (const job of jobs) {
      if (this.#stopped || this.#running.size >= MAX_AT_ONCE) return;
      if (!this.#running.has(job.jobid) && this.#isDue(job, now, isNewMinute)) this.#begin(job, now);
    }
  }

  #isDue({ jobid, schedule }: Job, now: Date, isNewMinute: boolean): boolean {
    const seconds = secondsBetween(schedule);
    if (seconds === null) return isNewMinute && isDueInMinute(schedule, now);
    const beganAt = this.#beganAt.get(jobid);
    // The first time a whole interval after it was seen, as the extension does.
    if (beganAt === undefined) this.#beganAt.set(jobid, now.getTime());
    return beganAt !== undefined && now.getTime() - beganAt >= seconds * 1000;
  }

  #begin(job: Job, now: Date): void {
    this.#beganAt.set(job.jobid, now.getTime());
    const run = this.#run(job)
      .catch((error) => this.#stopped || this.#options.log(`cron: job ${job.jobid}: ${error.message}`))
      .finally(() => this.#running.delete(job.jobid));
    this.#running.set(job.jobid, run.then(() => {}));
  }

  async #run(job: Job): Promise<void> {
    const url = new URL(this.#options.databaseUrl);
    url.username = encodeURIComponent(job.username);
    const [run] = await this.#client.sql`
      insert into cron.job_run_details (jobid, database, username, command, status, start_time)
      values (${job.jobid}, current_database(), ${job.username}, ${job.command}, 'running', clock_timestamp())
      returning runid`;
    const connection = postgres(url.href, {
      max: 1,
      fetch_types: false,
      onnotice: () => {},
      connection: { application_name: "pg_cron" },
    });
    this.#connections.add(connection);
    let status = "succeeded";
    let message: string;
    try {
      const result = await connection.unsafe(job.command).simple();
      message = result.command === "SELECT" ? counted(result.count, "row") : `${result.command ?? ""}`;
    } catch (error) {
      status = "failed";
      message = `ERROR:  ${error instanceof Error ? error.message : String(error)}`;
    } finally {
      this.#connections.delete(connection);
      await connection.end({ timeout: 1 });
    }
    await this.#client.sql`
      update cron.job_run_details
      set status = ${status}, return_message = ${message}, end_time = clock_timestamp()
      where runid = ${run!.runid}`;
  }
}

/** `30 seconds` -> 30; null for a schedule of cron's five fields. */
export function secondsBetween(schedule: string): number | null {
  const seconds = /^\s*([1-9]|[1-5]\d)\s+seconds?\s*$/i.exec(schedule)?.[1];
  return seconds === undefined ? null : Number(seconds);
}

/** Whether a schedule of five fields, or one such as `@hourly`, names the minute that `at` lies in, in UTC. */
export function isDueInMinute(schedule: string, at: Date): boolean {
  try {
    const cron = new Cron(schedule.trim(), { mode: "5-part", timezone: "UTC", paused: true });
    return cron.match(new Date(Math.floor(at.getTime() / 60_000) * 60_000));
  } catch {
    // The stand-in's cron.schedule takes what looks right; what is not is never due.
    return false;
  }
}

function counted(count: number | undefined, noun: string): string {
  return `${count ?? 0} ${noun}${count === 1 ? "" : "s"}`;
}
