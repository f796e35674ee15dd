/**
 * Jobs as they are run in a project, in simulated time: real workers with the real gateway, each a process with database connections of
 * its own that can be killed or frozen; the real SQL; a schedule that looks every five seconds. The models are an upstream in this
 * process that counts by the emulator's own quota.
 */
import postgres from "postgres";
import { Quota } from "../../../local/emulator/quota.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import { createJobLeases } from "../../../shared/database/jobs/job_leases.ts";
import { createJobQueue, type JobQueue } from "../../../shared/database/jobs/job_queue.ts";
import { DatabaseClock } from "../../../shared/database/admission/database_clock.ts";
import { createLedger, LEDGER_TIMEOUT_MS } from "../../../shared/database/admission/ledger.ts";
import { directTransport } from "../../../shared/database/transport/direct_transport.ts";
import type { Transport } from "../../../shared/database/transport/transport.ts";
import { nativeEndpoint } from "../../../shared/endpoints/native/endpoint.ts";
import { createGateway } from "../../../shared/gateway/invoke.ts";
import { callRunner } from "../../../shared/jobs/call_runner.ts";
import type { JobRunner } from "../../../shared/jobs/job_runner.ts";
import { JOBS_OF_A_PICTURE } from "../../../shared/jobs/open_worker.ts";
import { runWorker } from "../../../shared/jobs/worker.ts";
import { ProviderFailure } from "../../../shared/providers/provider.ts";
import type { ProviderAnswer, ProviderCall } from "../../../shared/providers/provider.ts";
import type { Clock } from "../../../shared/runtime/clock.ts";
import { addKey, addModel, clearLedger, freezeClock, type TestClock } from "../admission.ts";
import { clearJobs } from "../jobs.ts";
import { QuietTime } from "./quiet_time.ts";

export const MODEL = "m";
/** An ordinary working hour, far from the Pacific midnight. */
const START = Date.parse("2026-11-18T18:00:00Z");
const TICK_MS = 5_000;
const SWEEP_MS = 60_000;
/** As the function `worker` is set up. */
const BUDGET_MS = 120_000;
const CONCURRENCY = 8;
const MAX_JOBS = 120;
const WEIGHTS = { vision: JOBS_OF_A_PICTURE };
const NOTE_MS = 2_000;
const MAX_WAIT_MS = 100_000;
const RPC_TIMEOUT_MS = 8_000;

export interface PlatformOptions {
  /** Of the owner of a database with the migrations. */
  url: string;
  /** Quota projects with one key each. */
  lanes: number;
  rpm: number;
  /** 0 up to 1. */
  random: () => number;
  /** How long a model takes, in ms: from, up to. */
  answerMs?: readonly [number, number];
  /** Of the function worker at once; the project's own setting if absent. */
  workers?: number;
  /** Further kinds of jobs, and who runs them in a worker. */
  runners?: (parts: WorkerParts) => Readonly<Record<string, JobRunner>>;
  /** Who answers in the place of the upstream in this process, and counts by itself. */
  upstream?: (call: ProviderCall) => Promise<ProviderAnswer>;
}

/** What a worker has of its own, and loses when it is killed. */
export interface WorkerParts {
  transport: Transport;
  gateway: Gateway;
  clock: Clock;
}

/** A call that has reached the upstream. */
export interface Sent {
  /** The prompt's text. */
  name: string;
  at: number;
  lane: string;
}

/** What stands between a process and everything else. */
export class Process {
  dead = false;
  /** How it dies, at which question to the database: before it asks, in the middle, or before it hears the answer. */
  doom: { when: "before" | "call" | "answer"; of: string } | null = null;
  /** Questions to the database that are under way. */
  readonly asking = new Set<Promise<unknown>>();
  #thaw: PromiseWithResolvers<void> | null = null;

  constructor(readonly name: string, readonly direct: ReturnType<typeof directTransport>) {}

  freeze(): void {
    this.#thaw ??= Promise.withResolvers<void>();
  }

  thaw(): void {
    this.#thaw?.resolve();
    this.#thaw = null;
  }

  /** Never, in a process that is dead. */
  async alive(): Promise<void> {
    for (;;) {
      if (this.dead) await new Promise<never>(() => {});
      if (this.#thaw === null) return;
      await this.#thaw.promise;
    }
  }
}

export class JobPlatform {
  readonly time = new QuietTime();
  readonly sent: Sent[] = [];
  /** Calls that broke a limit of the upstream's. */
  refused = 0;
  /** What was claimed out of turn. */
  readonly disorder: string[] = [];
  readonly #claimed = new Set<string>();
  /** Ids in the order in which they were handed in, by caller and class. */
  readonly #lines: string[][] = [];
  /** Workers that run, or are frozen. */
  readonly workers = new Set<Process>();
  readonly queue: JobQueue;
  /** Of the database, beside the time that passes. */
  #jumpMs = 0;
  #processes = 0;
  #stopped = false;
  readonly #closing: Promise<unknown>[] = [];
  readonly #quota = new Quota({ kind: "sliding" }, 60_000);
  readonly #callers: Process;

  private constructor(
    readonly sql: postgres.Sql,
    private readonly options: PlatformOptions,
    private readonly clock: TestClock,
  ) {
    this.time.onMove = () => this.#moveClock();
    this.time.onStuck = () => this.#underWay();
    this.#callers = this.#process();
    this.queue = createJobQueue(this.#transport(this.#callers));
  }

  static async open(options: PlatformOptions): Promise<JobPlatform> {
    const sql = postgres(options.url, { max: 2, onnotice: () => {}, backoff: () => 0.1 });
    const clock = await freezeClock(sql, START);
    await clearLedger(sql);
    await clearJobs(sql);
    await addModel(sql, MODEL, { rpm: options.rpm });
    for (let lane = 0; lane < options.lanes; lane++) {
      await addKey(sql, String(lane), { project: `project-${lane}` });
    }
    if (options.workers !== undefined) {
      await sql`update eve.settings set value = ${options.workers} where name = 'jobs_workers'`;
    }
    await sql`select public.eve_connect('http://project.test', 'sb_secret_of_a_test')`;
    await sql`delete from net.http_request_queue`;
    return new JobPlatform(sql, options, clock);
  }

  /** As the database sees it, in ms since 1970. */
  get now(): number {
    return START + this.#jumpMs + this.time.now();
  }

  async submit(
    names: readonly string[],
    consumerId: string | null = null,
    trafficClass: "interactive" | "batch" = "batch",
  ): Promise<string[]> {
    const { jobs, wake } = await this.queue.submit(
      names.map((name) => ({
        id: crypto.randomUUID(),
        kind: "llm",
        requestId: name,
        body: { path: "/", body: { model: MODEL, prompt: name } },
        class: trafficClass,
        models: [MODEL],
      })),
      { consumerId, tokenId: null },
    );
    if (wake) this.startWorker();
    const line = jobs.map(({ id }) => id);
    this.#lines.push(line);
    return line;
  }

  /** Begins the schedule. */
  start(): void {
    this.#every(TICK_MS, async () => {
      await this.sql`select eve.jobs_tick()`;
      const calls = await this.sql`delete from net.http_request_queue returning url`;
      for (const { url } of calls) if (String(url).endsWith("/worker")) this.startWorker();
    });
    this.#every(SWEEP_MS, async () => {
      await this.sql`select public.eve_sweep()`;
    });
  }

  /** Does it again and again, as a program outside all processes. */
  #every(ms: number, act: () => Promise<void>): void {
    const next = async () => {
      while (!this.#stopped) {
        await this.time.sleep(ms);
        await this.time.tracked(act(), "the schedule").catch((thrown) => this.#failed ??= thrown);
      }
    };
    void next();
  }
  #failed: unknown;

  startWorker(): void {
    const process = this.#process();
    this.workers.add(process);
    void this.#work(process).catch((thrown) => this.#failed ??= thrown);
  }

  async #work(process: Process): Promise<void> {
    const clock = this.#clock(process);
    const transport = this.#transport(process);
    const endsAt = clock.now() + BUDGET_MS - NOTE_MS;
    const settling = new Set<Promise<void>>();
    const gateway = this.#gateway(process, () => Math.max(0, endsAt - clock.now()), (work) => {
      settling.add(work);
      void work.finally(() => settling.delete(work));
    });
    const run = callRunner({
      endpoints: [nativeEndpoint({ maxWaitMs: MAX_WAIT_MS })],
      gateway,
      resolve: (target) =>
        Promise.resolve({
          models: target.kind === "models" ? target.models : [],
          excludeKeys: [],
          stage: null,
        }),
      maxBodyBytes: 1_000_000,
      maxWaitMs: MAX_WAIT_MS,
      clock,
      newId: () => crypto.randomUUID(),
      log: () => {},
    });
    const { more } = await runWorker(
      {
        leases: createJobLeases(transport),
        runners: { llm: run, ...this.options.runners?.({ transport, gateway, clock }) },
        clock,
        newId: () => crypto.randomUUID(),
        log: () => {},
      },
      {
        place: "edge",
        budgetMs: BUDGET_MS,
        concurrency: CONCURRENCY,
        maxJobs: MAX_JOBS,
        weights: WEIGHTS,
        handOver: () => this.startWorker(),
      },
    );
    await Promise.allSettled([...settling]);
    this.workers.delete(process);
    this.#closing.push(process.direct.close());
    if (more) this.startWorker();
  }

  /** An interactive call of the project's, which may wait for its start as long as any. */
  async call(name: string): Promise<void> {
    this.#gatewayOfCallers ??= this.#gateway(this.#callers, () => 120_000, () => {});
    await this.#gatewayOfCallers.invoke({
      id: crypto.randomUUID(),
      idIsClients: false,
      endpoint: "native",
      class: "interactive",
      maxWaitMs: MAX_WAIT_MS,
      metadata: {},
      traceId: null,
      models: [MODEL],
      excludeKeys: [],
      stage: null,
      prompt: { contents: [{ role: "user", parts: [{ text: name }] }] },
    }, {
      caller: { kind: "project", consumerId: null, tokenId: null, name: "project" },
      signal: new AbortController().signal,
      receivedAt: this.time.now(),
    });
  }
  #gatewayOfCallers: Gateway | null = null;

  #gateway(
    process: Process,
    requestTimeoutMs: () => number,
    background: (work: Promise<void>) => void,
  ): Gateway {
    const transport = this.#transport(process);
    const clock = this.#clock(process);
    return createGateway({
      ledger: createLedger(transport, LEDGER_TIMEOUT_MS, transport, {
        clock,
        databaseClock: new DatabaseClock(() => START + this.time.now()),
        background,
      }),
      providers: {
        google: {
          name: "The simulated upstream",
          text: {
            generate: (call) => this.#answered(process, call),
            stream: () => {
              throw new Error("nobody streams here");
            },
          },
        },
      },
      secrets: (name) => name,
      clock,
      random: this.options.random,
      background,
      log: () => {},
      times: {
        get requestTimeoutMs() {
          return requestTimeoutMs();
        },
        upstreamTimeoutMs: 60_000,
        rpcTimeoutMs: RPC_TIMEOUT_MS,
      },
    });
  }

  async #answered(process: Process, call: ProviderCall): Promise<ProviderAnswer> {
    const { secret, prompt, signal } = call;
    const [least, most] = this.options.answerMs ?? [2_000, 10_000];
    const { upstream } = this.options;
    if (upstream !== undefined) {
      await process.alive();
      const answer = await this.time.tracked(upstream(call));
      await this.time.sleep(least + this.options.random() * (most - least), signal);
      await process.alive();
      return answer;
    }
    const name = prompt.contents.flatMap(({ parts = [] }) => parts.map(({ text = "" }) => text)).join("");
    await process.alive();
    signal.throwIfAborted();
    const at = this.time.now();
    const violations = this.#quota.admit(at, secret, MODEL, { rpm: this.options.rpm, tpm: null, rpd: null }, {
      requests: 1,
      tokens: 1,
    });
    if (violations.length > 0) {
      this.refused++;
      throw new ProviderFailure(
        {
          fault: "lane",
          retryable: true,
          block: {
            scope: "lane",
            lasts: { forMs: Math.max(1_000, ...violations.map(({ waitMs }) => waitMs)) },
            reason: "upstream_minute_quota",
          },
          code: "upstream_rate_limited",
        },
        "Resource has been exhausted.",
        429,
      );
    }
    this.sent.push({ name, at, lane: secret });
    await this.time.sleep(least + this.options.random() * (most - least), signal);
    await process.alive();
    return {
      answer: {
        candidates: [{
          content: { role: "model", parts: [{ text: `Answer to ${name}` }] },
          finishReason: "STOP",
        }],
      },
      verdict: { ok: true },
      finishReason: "STOP",
      usage: {
        inputTokens: 1,
        outputTokens: 1,
        thoughtsTokens: null,
        cachedTokens: null,
        totalTokens: 2,
        estimated: false,
      },
    };
  }

  #process(): Process {
    const name = `process-${this.#processes++}`;
    const url = new URL(this.options.url);
    url.searchParams.set("application_name", name);
    return new Process(name, directTransport({ url: url.href, connections: 2, pooler: false }));
  }

  #clock(process: Process): Clock {
    return {
      now: this.time.now,
      sleep: async (ms, signal) => {
        await this.time.sleep(ms, signal);
        await process.alive();
      },
    };
  }

  /** What is lost with a process, or is late with one that is frozen, are answers: the database has done what it was asked. */
  #transport(process: Process): Transport {
    return async (name, args, signal) => {
      await process.alive();
      const doom = process.doom?.of === name ? process.doom.when : null;
      if (doom === "before") {
        // What it has asked before is done: it dies between two questions.
        await this.time.tracked(Promise.allSettled(process.asking).then(() => {}));
        await this.kill(process);
        await process.alive();
      }
      const called = this.time.tracked(process.direct.call(name, args, signal), `${name} of ${process.name}`);
      process.asking.add(called);
      try {
        if (doom === "call") {
          called.catch(() => {});
          await this.kill(process);
        }
        const answer = await called;
        if (name === "eve_jobs_claim") {
          await this.time.tracked(this.#checkOrder(answer as { jobs: { id: string }[] }));
        }
        if (doom === "answer") await this.kill(process);
        return answer;
      } finally {
        process.asking.delete(called);
        await process.alive();
      }
    };
  }

  /** Who hands in first is begun first: of each caller's jobs none is claimed for the first time before an older one. */
  async #checkOrder({ jobs }: { jobs: { id: string }[] }): Promise<void> {
    for (const { id } of jobs) this.#claimed.add(id);
    for (const { id } of jobs) {
      const line = this.#lines.find((line) => line.includes(id)) ?? [];
      const older = line.slice(0, line.indexOf(id)).filter((one) => !this.#claimed.has(one));
      if (older.length === 0) continue;
      // Of a claim whose worker died with its answer nobody has heard, and what was cancelled is not claimed.
      const overtaken = await this.sql`
        select request_id from eve.jobs
        where id = any (${older}) and state = 'queued' and started_at is null and tries = 0 and losses = 0`;
      for (const { request_id } of overtaken) this.disorder.push(`${request_id} was overtaken`);
    }
  }

  /**
   * Ends a process, and its connections with whatever they are about: now, before or in the middle of what it next asks of a function of
   * the database, or before it hears the answer.
   */
  async kill(process: Process, doom: Process["doom"] = null): Promise<void> {
    if (doom !== null) {
      process.doom = doom;
      return;
    }
    process.dead = true;
    this.workers.delete(process);
    // In this database alone: other tests on the same server have processes of the same names.
    await this.time.tracked(
      this.sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = ${process.name}`.then(() => {}),
    );
    this.#closing.push(process.direct.close());
  }

  /** The database's clock is put forward, or back. */
  async jump(ms: number): Promise<void> {
    this.#jumpMs += ms;
    await this.#moveClock();
  }

  async #moveClock(): Promise<void> {
    await this.clock.set(this.now);
  }

  /** What the server has under way, as it sees it. */
  async #underWay(): Promise<string> {
    const sql = postgres(this.options.url, { max: 1 });
    try {
      const rows = await sql`
        select application_name, state, wait_event, left(query, 60) as query, pg_blocking_pids(pid) as blocked_by
        from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`;
      return JSON.stringify(rows);
    } finally {
      await sql.end({ timeout: 5 });
    }
  }

  /** Until it holds, which is looked at every five seconds; throws what went wrong outside the processes. */
  async until(holds: () => Promise<boolean>, mostMs: number): Promise<void> {
    let held = false;
    this.#every(TICK_MS, async () => {
      held ||= await holds();
    });
    await this.time.runUntil(() => {
      if (this.#failed !== undefined) throw this.#failed;
      return held;
    }, mostMs);
  }

  async close(): Promise<void> {
    this.#stopped = true;
    for (const process of this.workers) process.dead = true;
    this.#callers.dead = true;
    await Promise.allSettled([
      ...this.#closing,
      ...[...this.workers, this.#callers].map(({ direct }) => direct.close()),
    ]);
    await this.sql.end({ timeout: 5 });
  }
}
