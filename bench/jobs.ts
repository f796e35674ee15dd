/**
 * `npm run bench:jobs -- [--json] [--quick]`: what jobs cost, beside graphile-worker and pg-boss on the same durable PostgreSQL.
 *
 *   nothing  jobs a second that do nothing: handed in by hundreds, claimed, run 8 at once, and written down as done. Alternating turns;
 *            ours by `runWorker`, as the function worker does it. Goal: 0.5 of the faster peer's.
 *   start    from handing one job in to its start, at random moments, with nothing else to do; ours without the call of the function
 *            itself: what wakes it begins a worker in this process. Goal: the mean is below pg-boss's with its own settings,
 *            which look every 2 s.
 *   reserve  `eve_reserve` in a database with 100,000 jobs that wait, over one without, in alternating turns. Goal: the median is at most
 *            10 % longer.
 *   idle     calls of functions that 1,000 runs of the schedule make while no job is due: without jobs, with some for later, and with
 *            a queue that rests. Goal: none; and one call for a job that is due.
 *   use      in simulated time: 3,000 calls as jobs over three lanes of 30 starts a minute, undisturbed and with a worker killed every 20 s.
 *            Goal: 98.5 % of the starts that batch may have, in each.
 */
import postgres from "postgres";
import { createJobLeases } from "../shared/database/jobs/job_leases.ts";
import { createJobQueue } from "../shared/database/jobs/job_queue.ts";
import { directTransport } from "../shared/database/transport/direct_transport.ts";
import { runWorker } from "../shared/jobs/worker.ts";
import { systemClock as clock } from "../shared/runtime/clock.ts";
import { withFilledCluster } from "./filled_cluster.ts";
import { benchOptions } from "./options.ts";
import { jobsUse } from "./jobs/use.ts";
import { installPackages } from "./install.ts";
import { graphileWorker, type JobQueuePeer, pgBoss } from "./peers/job_queues.ts";
import { median, percentile } from "./statistics.ts";

const GOALS = {
  jobs_per_second_ratio: 0.5,
  start_ratio_below: 1,
  reserve_ratio_at_most: 1.1,
  calls_while_nothing_is_due: 0,
  calls_for_a_due_job: 1,
  share_used: 0.985,
};

const { json, quick } = benchOptions();
const say = (line: string) => console[json ? "error" : "log"](line);

const CONCURRENCY = 8;
const JOBS_A_LIST = 100;
const JOBS_A_TURN = quick ? 500 : 3_000;
const TURNS = quick ? 2 : 5;
const STARTS = quick ? 5 : 40;
/** Between two jobs whose starts are measured: longer than a worker stays with nothing to do. */
const PAUSE_MS = 6_000;
const WAITING_JOBS = quick ? 20_000 : 100_000;
const CALLS_A_TURN = quick ? 200 : 1_000;
const RESERVE_TURNS = quick ? 4 : 10;
const TICKS = quick ? 100 : 1_000;
const JOBS_IN_TIME = quick ? 500 : 3_000;
const KILL_EVERY_MS = 20_000;
const MODEL = "gemma-4-31b-it";
const PROJECT = { consumerId: null, tokenId: null };
const FOREVER_MS = 3_600_000;

const jobOf = () => ({
  id: crypto.randomUUID(),
  kind: "llm",
  body: { path: "/", body: { model: MODEL, prompt: "Nothing." } },
  class: "batch" as const,
  models: [MODEL],
});

/** The gateway's own, as the function `llm-invoke` hands in and `worker` runs. */
function gateway(url: string): JobQueuePeer {
  const transport = directTransport({ url, connections: 4, pooler: false });
  const queue = createJobQueue(transport.call);
  const leases = createJobLeases(transport.call);
  let onRun = () => {};
  const worker = (concurrency: number, maxJobs?: number) =>
    runWorker(
      {
        leases,
        runners: {
          llm: () => {
            onRun();
            return Promise.resolve({ kind: "done", result: { status: 200, body: {} } });
          },
        },
        clock,
        newId: () => crypto.randomUUID(),
        log: (level, event, details) => {
          if (level === "error") console.error(event, details);
        },
      },
      { place: "edge", budgetMs: FOREVER_MS, concurrency, ...(maxJobs !== undefined && { maxJobs }) },
    );
  const working = new Set<Promise<unknown>>();
  return {
    async submit(jobs) {
      const { wake } = await queue.submit(Array.from({ length: jobs }, jobOf), PROJECT);
      if (!wake || jobs > 1) return;
      const work = worker(CONCURRENCY).finally(() => working.delete(work));
      working.add(work);
    },
    async drain(jobs, concurrency) {
      const { begun } = await worker(concurrency, jobs);
      if (begun !== jobs) throw new Error(`${begun} of ${jobs} jobs were run`);
    },
    listen(started) {
      onRun = started;
      return Promise.resolve(async () => {
        await Promise.all(working);
      });
    },
    close: () => transport.close(),
  };
}

/** Jobs a second of each, handing in and running; the medians of their turns. */
async function nothing(contenders: Record<string, JobQueuePeer>) {
  const took: Record<string, { submit: number[]; drain: number[] }> = {};
  for (let turn = -1; turn < TURNS; turn++) {
    const jobs = turn < 0 ? JOBS_A_LIST : JOBS_A_TURN;
    for (const [name, contender] of Object.entries(contenders)) {
      const began = performance.now();
      for (let done = 0; done < jobs; done += JOBS_A_LIST) await contender.submit(JOBS_A_LIST);
      const submitted = performance.now();
      await contender.drain(jobs, CONCURRENCY);
      // The first is for plans and caches.
      if (turn < 0) continue;
      const of = took[name] ??= { submit: [], drain: [] };
      of.submit.push(submitted - began);
      of.drain.push(performance.now() - submitted);
    }
  }
  const perSecond = (times: number[]) => Math.round(JOBS_A_TURN / (median(times) / 1_000));
  return Object.fromEntries(
    Object.entries(took).map(([name, { submit, drain }]) => [name, {
      jobs_per_second: perSecond(submit.map((ms, turn) => ms + drain[turn]!)),
      submitted_per_second: perSecond(submit),
      run_per_second: perSecond(drain),
    }]),
  );
}

/** Milliseconds from handing in to the start, of single jobs. All contenders at once: none of them has anything to do. */
async function starts(contenders: Record<string, JobQueuePeer>) {
  return Object.fromEntries(
    await Promise.all(
      Object.entries(contenders).map(async ([name, contender]) => {
        let started = Promise.withResolvers<void>();
        const end = await contender.listen(() => started.resolve());
        const took: number[] = [];
        for (let number = 0; number < STARTS; number++) {
          await clock.sleep(Math.random() * PAUSE_MS);
          started = Promise.withResolvers<void>();
          const since = performance.now();
          await contender.submit(1);
          await started.promise;
          took.push(performance.now() - since);
        }
        await end();
        return [name, {
          mean_ms: round(took.reduce((sum, ms) => sum + ms, 0) / took.length),
          p50_ms: round(median(took)),
          p95_ms: round(percentile(took, 0.95)),
        }];
      }),
    ),
  );
}

async function reserving(full: string, empty: string) {
  const databases = { with_jobs: open(full), without: open(empty) };
  const took: Record<keyof typeof databases, number[]> = { with_jobs: [], without: [] };
  for (const sql of Object.values(databases)) {
    await sql`update public.google_ai_model_limits set rpm = 1000000, tpm = 1000000000, rpd = 100000000 where model = ${MODEL}`;
    await sql`insert into public.google_ai_api_keys (key_alias, env_var_name, quota_project) values ('bench', 'BENCH_KEY', 'bench')`;
    await sql`analyze`;
  }
  for (let turn = -1; turn < RESERVE_TURNS; turn++) {
    for (
      const name of turn % 2 === 0 ? ["without", "with_jobs"] as const : ["with_jobs", "without"] as const
    ) {
      for (let n = 0; n < CALLS_A_TURN; n++) {
        const since = performance.now();
        const [row] = await databases[name]`
          select public.eve_reserve(request_id => ${crypto.randomUUID()}, models => ${[
          MODEL,
        ]}, tokens => 100) ->> 'status' as status`;
        if (turn >= 0) took[name].push(performance.now() - since);
        if (row!.status !== "granted") throw new Error(`not granted: ${row!.status}`);
      }
      await databases[name]`truncate eve.inflight`;
    }
  }
  await Promise.all(Object.values(databases).map((sql) => sql.end()));
  return {
    with_jobs_p50_ms: round(median(took.with_jobs)),
    without_p50_ms: round(median(took.without)),
    with_jobs_p95_ms: round(percentile(took.with_jobs, 0.95)),
    without_p95_ms: round(percentile(took.without, 0.95)),
    p50_ratio: round(median(took.with_jobs) / median(took.without)),
  };
}

async function idle(url: string) {
  const sql = open(url);
  const queue = createJobQueue(directTransport({ url, connections: 1, pooler: false }).call);
  await sql`select vault.create_secret('http://127.0.0.1:9', 'eve_project_url')`;
  await sql`select vault.create_secret('sb_secret_x', 'eve_secret_key')`;
  const calls = async () => Number((await sql`select count(*) from net.http_request_queue`)[0]!.count);
  const tick = async (times: number) => {
    const before = await calls();
    const since = performance.now();
    for (let n = 0; n < times; n++) await sql`select eve.jobs_tick()`;
    return { calls: await calls() - before, ms: round((performance.now() - since) / times) };
  };
  const withoutJobs = await tick(TICKS);
  const later = new Date(Date.now() + FOREVER_MS).toISOString();
  await queue.submit(Array.from({ length: 1_000 }, () => ({ ...jobOf(), runAt: later })), PROJECT);
  const forLater = await tick(TICKS);
  await queue.submit([jobOf()], PROJECT);
  await sql`update eve.job_queues set paused_until = now() + interval '1 hour'`;
  const resting = await tick(TICKS);
  await sql`update eve.job_queues set paused_until = null`;
  await sql`update eve.job_wake set asked_at = '-infinity'`;
  const due = await tick(1);
  await sql.end();
  return { runs: TICKS, without_jobs: withoutJobs, for_later: forLater, resting, due };
}

const open = (url: string) => postgres(url, { max: 1, onnotice: () => {} });

const round = (value: number) => Math.round(value * 100) / 100;

/** Another database of the same server, as it is now: nobody may be connected to this one. */
async function copyOf(url: string, name: string): Promise<string> {
  const [copy, maintenance] = [new URL(url), new URL(url)];
  copy.pathname = `/${name}`;
  maintenance.pathname = "/template1";
  const sql = postgres(maintenance.href, { max: 1, onnotice: () => {} });
  await sql.unsafe(`create database ${name} template ${new URL(url).pathname.slice(1)}`);
  await sql.end();
  return copy.href;
}

async function fill(url: string): Promise<void> {
  await copyOf(url, "bench_empty");
  await copyOf(url, "bench_idle");
  await copyOf(url, "bench_use");
  await copyOf(url, "bench_peers");
  await copyOf(url, "bench_eve");
  say(`${WAITING_JOBS} jobs that wait ...`);
  const transport = directTransport({ url, connections: 1, pooler: false });
  const queue = createJobQueue(transport.call);
  const began = performance.now();
  for (let done = 0; done < WAITING_JOBS; done += 1_000) {
    await queue.submit(Array.from({ length: 1_000 }, jobOf), PROJECT);
  }
  say(`... were handed in within ${Math.round((performance.now() - began) / 1_000)} s`);
  await transport.close();
}

const figures = await withFilledCluster(fill, async (url) => {
  const database = (name: string) => {
    const other = new URL(url);
    other.pathname = `/${name}`;
    return other.href;
  };
  const reserve = await reserving(url, database("bench_empty"));
  say(`reserve: ${JSON.stringify(reserve)}`);
  const idleCost = await idle(database("bench_idle"));
  say(`idle: ${JSON.stringify(idleCost)}`);
  // A dead worker's place is free after some seconds: with two, one would often be alone.
  const use = {
    undisturbed: await jobsUse(database("bench_use"), { jobs: JOBS_IN_TIME, workers: 2, killEveryMs: null }),
    killed: await jobsUse(database("bench_use"), {
      jobs: JOBS_IN_TIME,
      workers: 4,
      killEveryMs: KILL_EVERY_MS,
    }),
  };
  say(`use: ${JSON.stringify(use)}`);
  await installPackages("bench");
  const contenders = {
    eve: gateway(database("bench_eve")),
    graphile_worker: await graphileWorker(database("bench_peers")),
    pg_boss: await pgBoss(database("bench_peers")),
  };
  const run = await nothing(contenders);
  say(`nothing: ${JSON.stringify(run)}`);
  const start = await starts(contenders);
  say(`start: ${JSON.stringify(start)}`);
  for (const contender of Object.values(contenders)) await contender.close();
  return { nothing: run, start, reserve, idle: idleCost, use };
});
const { nothing: run, start, reserve, idle: ticks, use } = figures;
const ratios = {
  over_graphile_worker: round(run.eve!.jobs_per_second / run.graphile_worker!.jobs_per_second),
  over_pg_boss: round(run.eve!.jobs_per_second / run.pg_boss!.jobs_per_second),
  start_over_pg_boss: round(start.eve.mean_ms / start.pg_boss.mean_ms),
  reserve_with_waiting_jobs: reserve.p50_ratio,
};
const idleCalls = ticks.without_jobs.calls + ticks.for_later.calls + ticks.resting.calls;
const met = {
  jobs_per_second: Math.min(ratios.over_graphile_worker, ratios.over_pg_boss) >= GOALS.jobs_per_second_ratio,
  start: ratios.start_over_pg_boss < GOALS.start_ratio_below,
  reserve: ratios.reserve_with_waiting_jobs <= GOALS.reserve_ratio_at_most,
  idle: idleCalls === GOALS.calls_while_nothing_is_due && ticks.due.calls === GOALS.calls_for_a_due_job,
  use: Math.min(use.undisturbed.share_used, use.killed.share_used) >= GOALS.share_used,
};
const said = {
  bench: "jobs",
  machine: { cores: navigator.hardwareConcurrency, deno: Deno.version.deno, postgres: 17 },
  figures: { concurrency: CONCURRENCY, waiting_jobs: WAITING_JOBS, ...figures },
  ratios,
  goals: GOALS,
  met_by_goal: met,
  met: Object.values(met).every((one) => one),
};
console.log(json ? JSON.stringify(said) : JSON.stringify(said, null, 2));
Deno.exit(said.met ? 0 : 1);
