import { asGatewayError } from "../contract/gateway_error.ts";
import type { ClaimedJob, Done, JobLeases, Lease, WorkerPlace } from "../database/jobs/job_leases.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { coalesced } from "../runtime/coalesced.ts";
import type { JobRunner, RunOutcome } from "./job_runner.ts";

/** From a worker's death to its jobs' return. It is renewed three times in that time, so one lost question loses no job. */
export const LEASE_MS = 30_000;
const RENEW_EVERY_MS = LEASE_MS / 3;
/** The worker's own place is lost sooner (eve.job_place_until): it is said three times in that time that it lives. */
const LIVES_EVERY_MS = 4_000;
/** How soon a worker with room looks again when there was nothing to claim. */
const POLL_EVERY_MS = 1_000;
/** How long one that has nothing to do stays: another call of the function costs more than a few looks. */
const LINGER_MS = 4_000;
/** How long a run may take to end once it has been broken off. */
const END_MS = 3_000;
/** Tries to write down how a job ended. If none succeeds its lease ends, and another worker finds the call's answer. */
const NOTE_TRIES = 3;
const NOTE_PAUSE_MS = 500;
/** A job whose files this worker cannot reach may be another's; or somebody sets the storage right. */
const NO_STORE_DELAY_MS = 30_000;
/** Results that are written down together: each may have 256 KiB. */
const MOST_NOTED_TOGETHER = 16;

export interface WorkerDependencies {
  leases: JobLeases;
  /** By kind; jobs of other kinds are left to other workers. */
  runners: Readonly<Record<string, JobRunner>>;
  /**
   * Delivers the events that are due, such as the ends of jobs, and nothing that might not be over by `untilMs` of the clock. Absent: this
   * worker delivers none.
   */
  deliver?: (limits: { untilMs: number; signal: AbortSignal }) => Promise<unknown>;
  clock: Clock;
  newId: () => string;
  log: Log;
}

export interface WorkerTerms {
  place: WorkerPlace;
  /** How long it claims and runs. Nothing runs after that. */
  budgetMs: number;
  /** Jobs side by side. */
  concurrency: number;
  /** It begins nothing more when it has begun so many. */
  maxJobs?: number;
  /** As how many a job of a kind counts there; 1 where nothing is said. */
  weights?: Readonly<Record<string, number>>;
  /**
   * Called once, when it begins nothing more and others should: what it has begun may take as long as a call may. Its place is free then.
   */
  handOver?: () => void;
  /** It claims nothing more, breaks off what runs, and ends. */
  stop?: AbortSignal;
}

export interface WorkerReport {
  /** `enough`: as many workers run as may. */
  status: "worked" | "enough";
  /** Runs that it began. */
  begun: number;
  /** There is more to do, and no other worker was called within the last second. Told to `handOver` as well, and then not here. */
  more: boolean;
}

interface Held {
  job: ClaimedJob;
  abort: AbortController;
  progress: unknown;
}

/**
 * Claims jobs and runs them side by side until there is nothing to do, or its time is over. Never throws: what goes wrong is logged,
 * and the jobs that it still holds come back when their leases end.
 */
export async function runWorker(dependencies: WorkerDependencies, terms: WorkerTerms): Promise<WorkerReport> {
  return await new Worker(dependencies, terms).run();
}

class Worker {
  readonly #dependencies: WorkerDependencies;
  readonly #terms: WorkerTerms;
  readonly #id: string;
  readonly #since: number;
  readonly #held = new Map<string, Held>();
  readonly #ended = new AbortController();
  /** It begins no more jobs, and has noted how its last ones ended. */
  readonly #allNoted = new AbortController();
  readonly #complete: (done: Done) => Promise<void>;
  #changed = Promise.withResolvers<void>();
  #begun = 0;
  /** What it has begun, by weight. */
  #load = 0;
  #handedOver = false;

  constructor(dependencies: WorkerDependencies, terms: WorkerTerms) {
    this.#dependencies = dependencies;
    this.#terms = terms;
    this.#id = dependencies.newId();
    this.#since = dependencies.clock.now();
    this.#complete = coalesced((done) => dependencies.leases.complete(done), MOST_NOTED_TOGETHER);
    terms.stop?.addEventListener("abort", () => this.#wakeUp(), { once: true });
  }

  async run(): Promise<WorkerReport> {
    const { leases, log } = this.#dependencies;
    try {
      if (!await leases.begin(this.#id, this.#terms.place, LEASE_MS)) {
        return { status: "enough", begun: 0, more: false };
      }
    } catch (thrown) {
      log("error", "worker_failed", { detail: asGatewayError(thrown).detail });
      return { status: "worked", begun: 0, more: false };
    }
    const renewing = this.#renew();
    const delivering = this.#deliver();
    try {
      await this.#work();
    } catch (thrown) {
      log("error", "worker_failed", { worker_id: this.#id, detail: asGatewayError(thrown).detail });
    }
    await this.#breakOff();
    this.#allNoted.abort();
    await delivering;
    this.#ended.abort();
    await renewing;
    const more = !this.#handedOver && await leases.end(this.#id).catch(() => false);
    log("info", "worker_ended", { worker_id: this.#id, begun: this.#begun, more });
    return { status: "worked", begun: this.#begun, more };
  }

  async #work(): Promise<void> {
    const { runners, clock } = this.#dependencies;
    const { concurrency, maxJobs = Infinity } = this.#terms;
    const kinds = Object.keys(runners);
    let idleSince: number | null = null;
    while (!this.#isOver()) {
      const room = Math.min(concurrency - this.#held.size, maxJobs - this.#load);
      let claimed: ClaimedJob[] = [];
      if (room > 0) {
        const given = await this.#claim(kinds, room);
        claimed = given.jobs;
        for (const job of claimed) this.#begin(job);
        if (given.isLate) break;
      }
      if (this.#load >= maxJobs) break;
      if (claimed.length > 0 || this.#held.size > 0) idleSince = null;
      else idleSince ??= clock.now();
      if (idleSince !== null && clock.now() - idleSince >= LINGER_MS) return;
      if (room > 0 && claimed.length === room) continue;
      await this.#change(room > 0 ? POLL_EVERY_MS : this.#leftMs());
    }
    // What it has begun may end in the time that is left.
    if (this.#held.size > 0 && !this.#isOver()) await this.#handOver();
    while (this.#held.size > 0 && !this.#isOver()) await this.#change(this.#leftMs());
  }

  /** None where the database does not answer: what runs goes on meanwhile, and the next look is soon. */
  async #claim(kinds: string[], atMost: number): ReturnType<JobLeases["claim"]> {
    const { leases, clock, log } = this.#dependencies;
    const leftMs = Math.floor(this.#terms.budgetMs - (clock.now() - this.#since));
    try {
      return await leases.claim(this.#id, { kinds, atMost, leaseMs: LEASE_MS, leftMs });
    } catch (thrown) {
      log("warn", "jobs_not_claimed", { worker_id: this.#id, detail: asGatewayError(thrown).detail });
      return { jobs: [], isLate: false };
    }
  }

  async #handOver(): Promise<void> {
    const { handOver } = this.#terms;
    if (handOver === undefined) return;
    try {
      const more = await this.#dependencies.leases.end(this.#id);
      this.#handedOver = true;
      if (more) handOver();
    } catch (thrown) {
      // It keeps its place until its last run has ended.
      const { detail } = asGatewayError(thrown);
      this.#dependencies.log("warn", "worker_not_handed_over", { worker_id: this.#id, detail });
    }
  }

  #leftMs(): number {
    return Math.max(0, this.#terms.budgetMs - (this.#dependencies.clock.now() - this.#since));
  }

  #isOver(): boolean {
    return this.#terms.stop?.aborted === true || this.#leftMs() === 0;
  }

  /** Until a run ends or the worker is stopped; `ms` at most. */
  async #change(ms: number): Promise<void> {
    const timer = new AbortController();
    await Promise.race([
      this.#changed.promise,
      this.#dependencies.clock.sleep(Math.min(ms, this.#leftMs()), timer.signal).catch(() => {}),
    ]);
    timer.abort();
  }

  #wakeUp(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  #begin(job: ClaimedJob): void {
    const held: Held = { job, abort: new AbortController(), progress: null };
    this.#held.set(job.id, held);
    this.#begun++;
    this.#load += this.#terms.weights?.[job.kind] ?? 1;
    this.#runOne(held).catch((thrown) => {
      this.#dependencies.log("error", "job_not_noted", {
        job_id: job.id,
        detail: asGatewayError(thrown).detail,
      });
    }).finally(() => {
      // A job that was lost and claimed again by the same worker is another entry.
      if (this.#held.get(job.id) === held) this.#held.delete(job.id);
      this.#wakeUp();
    });
  }

  async #runOne(held: Held): Promise<void> {
    const { runners, clock, log } = this.#dependencies;
    const { job, abort } = held;
    const since = clock.now();
    let outcome: RunOutcome;
    try {
      outcome = await runners[job.kind]!(job, {
        signal: abort.signal,
        progress: (said) => held.progress = said,
      });
    } catch (thrown) {
      const { code, publicMessage: message, retryable, detail } = asGatewayError(thrown);
      log("error", "job_run_failed", { job_id: job.id, kind: job.kind, detail });
      outcome = code === "storage_misconfigured"
        ? { kind: "unspent", delayMs: NO_STORE_DELAY_MS }
        : { kind: "failed", failure: { code, message, retryable } };
    }
    const traceId = traceOf(job.body);
    if (traceId !== null) {
      log("info", "job_run", {
        trace_id: traceId,
        job_id: job.id,
        kind: job.kind,
        outcome: outcome.kind,
        took_ms: clock.now() - since,
      });
    }
    for (let left = NOTE_TRIES; left > 0; left--) {
      try {
        return await this.#note(job, outcome, left < NOTE_TRIES);
      } catch (thrown) {
        if (left === 1) throw thrown;
        await this.#dependencies.clock.sleep(NOTE_PAUSE_MS);
      }
    }
  }

  /** @param alone what was sent with others may have failed because of them */
  async #note({ id, lease_token }: Lease, outcome: RunOutcome, alone: boolean): Promise<void> {
    const { leases } = this.#dependencies;
    switch (outcome.kind) {
      case "done": {
        const { result, resultMedia } = outcome;
        const done = { id, lease_token, result, ...(resultMedia !== undefined && { resultMedia }) };
        return alone ? await leases.complete([done]) : await this.#complete(done);
      }
      case "failed":
        return await leases.fail({ id, lease_token }, outcome.failure);
      case "unspent":
        return await leases.release([{ id, lease_token, ...outcome }]);
      case "handed_over":
        return;
    }
  }

  /** Looks as often as for jobs, and once more when its last job has been noted: anyone who waits for its end is told at once. */
  async #deliver(): Promise<void> {
    const { deliver, clock, log } = this.#dependencies;
    if (deliver === undefined) return;
    const { stop = new AbortController().signal, budgetMs } = this.#terms;
    const over = this.#allNoted.signal;
    for (let isLast = false; !isLast && !stop.aborted;) {
      isLast = over.aborted;
      try {
        await deliver({ untilMs: this.#since + budgetMs, signal: stop });
      } catch (thrown) {
        log("warn", "events_not_delivered", { worker_id: this.#id, detail: asGatewayError(thrown).detail });
      }
      if (!isLast) await clock.sleep(POLL_EVERY_MS, over).catch(() => {});
    }
  }

  /** Keeps what it holds, and breaks off what it has lost. */
  async #renew(): Promise<void> {
    const { leases, clock, log } = this.#dependencies;
    let renewedAt = clock.now();
    for (;;) {
      const renewIn = renewedAt + RENEW_EVERY_MS - clock.now();
      await clock.sleep(Math.min(LIVES_EVERY_MS, renewIn), this.#ended.signal).catch(() => {});
      if (this.#ended.signal.aborted) return;
      const isTime = clock.now() - renewedAt >= RENEW_EVERY_MS;
      if (isTime) renewedAt = clock.now();
      else if (this.#handedOver) continue;
      const held = isTime ? [...this.#held.values()] : [];
      try {
        const lost = new Set(
          await leases.renew(
            this.#id,
            held.map(({ job: { id, lease_token }, progress }) => ({ id, lease_token, progress })),
            LEASE_MS,
          ),
        );
        for (const { job, abort } of held) if (lost.has(job.id)) abort.abort();
      } catch (thrown) {
        log("warn", "leases_not_renewed", { worker_id: this.#id, detail: asGatewayError(thrown).detail });
      }
    }
  }

  /** What still runs is broken off, and given back by its own run. */
  async #breakOff(): Promise<void> {
    for (const { abort } of this.#held.values()) abort.abort();
    const { clock } = this.#dependencies;
    const until = clock.now() + END_MS;
    while (this.#held.size > 0 && clock.now() < until) {
      const timer = new AbortController();
      await Promise.race([
        this.#changed.promise,
        clock.sleep(Math.max(1, until - clock.now()), timer.signal).catch(() => {}),
      ]);
      timer.abort();
    }
  }
}

/** Jobs that other steps hand in name the trace that they belong to; calls of models have log lines of their own. */
function traceOf(body: unknown): string | null {
  if (typeof body !== "object" || body === null || !("trace_id" in body)) return null;
  return typeof body.trace_id === "string" ? body.trace_id : null;
}
