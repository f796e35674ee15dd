/**
 * `npm run bench:retention -- [--json] [--quick]`: what deleting old audit costs those who reserve meanwhile.
 *
 * Five million rows of audit (requests, attempts, refusals) that are older than retention keeps, and a few that are not, on a durable
 * PostgreSQL. Callers come at a fixed rate, reserve and settle, whatever the database does; a reservation's time counts from
 * when its caller came, so a stall shows in all who came during it. First without retention, then while the operation
 * `retention` runs as its cron job runs it (step by step, each in a transaction of its own, with its pauses) until
 * everything old is gone, then again without. The audit is in partitions by day, as a schedule that runs has it, so what is old
 * goes a day at a time.
 *
 * Goal: p99 of a reservation with retention running is less than double the p99 without.
 */
import postgres from "postgres";
import { withFilledCluster } from "./filled_cluster.ts";
import { benchOptions } from "./options.ts";
import { percentile } from "./statistics.ts";

const GOAL_RATIO = 2;

const { json, quick } = benchOptions();

/** What is old enough to go. Together five million rows. */
const OLD = quick
  ? { requests: 100_000, attempts: 110_000, refusals: 40_000 }
  : { requests: 2_000_000, attempts: 2_200_000, refusals: 800_000 };
/** And what is not, of each table. */
const YOUNG = quick ? 10_000 : 100_000;
/** Callers a second: several times what the free tier of ten projects can serve. */
const PER_SECOND = 60;
const CONNECTIONS = 8;
const LANES = 20;
/** Without retention, before and after. */
const CALM_MS = quick ? 8_000 : 45_000;
/** A run of the operation is bounded in time; here the next one begins when one ends. */
const RUN_LIMIT_MS = 100_000;

const say = (line: string) => console.error(line);

interface Phase {
  seconds: number;
  reservations: number;
  p50_ms: number;
  p99_ms: number;
  worst_ms: number;
  settle_p99_ms: number;
}

async function measureAll(url: string) {
  const owner = postgres(url, { max: 2, onnotice: () => {} });
  const load = new Load(url);
  load.start();
  await sleep(2_000);
  const before = await load.phase(() => sleep(CALM_MS));
  say(`without: p50 ${before.p50_ms} ms, p99 ${before.p99_ms} ms`);
  const retention = {
    deleted: 0,
    steps: 0,
    runs: 0,
    longest_step_ms: 0,
    seconds: 0,
  };
  const during = await load.phase(async () => {
    const began = performance.now();
    while (await retentionRun(owner, retention)) {
      say(`${retention.deleted} rows deleted in ${retention.steps} steps`);
    }
    retention.seconds = Math.round((performance.now() - began) / 1_000);
  });
  say(`with: p50 ${during.p50_ms} ms, p99 ${during.p99_ms} ms`);
  const after = await load.phase(() => sleep(CALM_MS));
  await load.stop();
  const [left] = await owner`
    select (select count(*) from eve.requests where finished_at < now() - interval '30 days')
      + (select count(*) from eve.attempts where settled_at < now() - interval '30 days')
      + (select count(*) from eve.refusals where refused_at < now() - interval '30 days') as n`;
  await owner.end();
  const ratio = Math.round(during.p99_ms / before.p99_ms * 100) / 100;
  const oldLeft = Number(left!.n);
  return {
    bench: "retention",
    machine: {
      cores: navigator.hardwareConcurrency,
      deno: Deno.version.deno,
      postgres: 17,
    },
    audit_rows: OLD.requests + OLD.attempts + OLD.refusals,
    callers_per_second: PER_SECOND,
    without_retention: before,
    with_retention: during,
    after_retention: after,
    retention,
    old_rows_left: oldLeft,
    ratio_p99: ratio,
    goal: { ratio_p99_below: GOAL_RATIO },
    met: ratio < GOAL_RATIO && oldLeft === 0,
  };
}

/** One run, as the job in the database makes it. True: something is left for another. */
async function retentionRun(
  sql: postgres.Sql,
  totals: {
    deleted: number;
    steps: number;
    runs: number;
    longest_step_ms: number;
  },
): Promise<boolean> {
  const [begun] = await sql`select eve.begin_run('retention', 'bench', ${RUN_LIMIT_MS}) as run`;
  totals.runs++;
  for (;;) {
    let step: {
      done: boolean;
      status: string;
      count: number;
      more: boolean;
      pause_ms: number;
      error?: string;
    };
    const tookMs = await timed(async () => {
      const [row] = await sql`select eve.step_run(${begun!.run.run_id}) as step`;
      step = row!.step;
    });
    totals.steps++;
    totals.longest_step_ms = Math.max(
      totals.longest_step_ms,
      Math.round(tookMs),
    );
    if (step!.status === "failed") {
      throw new Error(`retention failed: ${step!.error}`);
    }
    if (step!.done) {
      totals.deleted += step!.count;
      return step!.more;
    }
    await sleep(step!.pause_ms);
  }
}

/** Callers who come at a fixed rate, each with a reservation to make and to settle. */
class Load {
  readonly #sql: postgres.Sql;
  #timer: ReturnType<typeof setInterval> | undefined;
  #running = new Set<Promise<void>>();
  #reserved: number[] = [];
  #settled: number[] = [];

  constructor(url: string) {
    this.#sql = postgres(url, { max: CONNECTIONS, onnotice: () => {} });
  }

  start(): void {
    let due = performance.now();
    this.#timer = setInterval(() => {
      for (; due <= performance.now(); due += 1_000 / PER_SECOND) {
        const call = this.#call(due).finally(() => this.#running.delete(call));
        this.#running.add(call);
      }
    }, 5);
  }

  async phase(lasts: () => Promise<void>): Promise<Phase> {
    this.#reserved = [];
    this.#settled = [];
    const ms = await timed(lasts);
    const [reserved, settled] = [this.#reserved, this.#settled];
    return {
      seconds: Math.round(ms / 1_000),
      reservations: reserved.length,
      p50_ms: round(percentile(reserved, 0.5)),
      p99_ms: round(percentile(reserved, 0.99)),
      worst_ms: round(reserved.reduce((worst, one) => Math.max(worst, one), 0)),
      settle_p99_ms: round(percentile(settled, 0.99)),
    };
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#running);
    await this.#sql.end();
  }

  async #call(due: number): Promise<void> {
    const model = `m${Math.floor(Math.random() * LANES)}`;
    const [row] = await this.#sql`
      select public.eve_reserve(request_id => ${crypto.randomUUID()}, models => ${[
      model,
    ]}, tokens => 100) as grant`;
    this.#reserved.push(performance.now() - due);
    const since = performance.now();
    await this.#sql`
      select public.eve_settle(${
      row!.grant.request_no
    }, 1, 'succeeded', input_tokens => 90, output_tokens => 30)`;
    this.#settled.push(performance.now() - since);
  }
}

/** The audit of two months in partitions by day, one month of it older than retention keeps, as if all of it were in the sums already. */
async function fill(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  await sql`insert into public.google_ai_api_keys (key_alias, env_var_name) values ('bench', 'BENCH')`;
  await sql`
    insert into public.google_ai_model_limits (model) select 'm' || n from generate_series(0, ${
    LANES - 1
  }) n`;
  await sql`select eve.make_partitions(now() - make_interval(days => ahead)) from generate_series(60, 0, -4) ahead`;
  await sql`set work_mem = '256MB'`;
  for (const [table, old] of Object.entries(OLD)) {
    say(`eve.${table}: ${old} old rows, ${YOUNG} young`);
    await FILL[table as keyof typeof OLD](sql, old, old + YOUNG);
  }
  await sql`select setval('eve.request_no', ${OLD.requests + OLD.attempts + YOUNG * 2})`;
  await sql`update eve.rollup_progress set rolled_until = now()`;
  await sql`vacuum analyze`;
  await sql.end();
}

/** Row `n` of `all`: from 60 days ago to the limit of retention, then up to now. */
const AT = (column: string) =>
  `case when n <= $1 then now() - interval '60 days' + interval '29 days' * (n::float8 / $1)
    else now() - interval '29 days' * (1 - (n - $1)::float8 / ($2::float8 - $1)) end as ${column}`;

const FILL: Record<
  keyof typeof OLD,
  (sql: postgres.Sql, old: number, all: number) => Promise<unknown>
> = {
  requests: (sql, old, all) =>
    sql.unsafe(
      `insert into eve.requests (
        request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, attempts, wait_ms, received_at,
        finished_at, input_tokens, output_tokens, total_tokens, finish_reason, metadata
      )
      select n, '00000000-0000-0000-0000-000000000000', lpad(n::text, 12, '0'), 'batch', 'native', 'm0', 'm0', 'succeeded',
        1, 0, at, at, 90, 30, 120, 'STOP', '{}'
      from (select n, ${AT("at")} from generate_series(1, $2::bigint) n) rows`,
      [old, all],
    ),
  attempts: (sql, old, all) =>
    sql.unsafe(
      `insert into eve.earlier_attempts (
        request_no, attempt, lane_id, key_id, model, class, start_ms, bucket_after_ms, tokens_booked, input_tokens, output_tokens,
        total_tokens, outcome, dispatched, latency_ms, settled_at
      )
      select n, 1, 1, '00000000-0000-0000-0000-000000000000', 'm0', 'batch', floor(extract(epoch from at) * 1000),
        0, 100, 90, 30, 120, 'succeeded', true, 900, at
      from (select n, ${AT("at")} from generate_series(1, $2::bigint) n) rows`,
      [old, all],
    ),
  refusals: (sql, old, all) =>
    sql.unsafe(
      `insert into eve.refusals (refused_at, request_id, attempt, class, endpoint, model, code, limit_name, tokens)
      select at, lpad(n::text, 12, '0'), 1, 'batch', 'native', 'm0', 'rate_limited', 'rpm', 100
      from (select n, ${AT("at")} from generate_series(1, $2::bigint) n) rows`,
      [old, all],
    ),
};

async function timed(run: () => Promise<unknown>): Promise<number> {
  const since = performance.now();
  await run();
  return performance.now() - since;
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const measured = await withFilledCluster(fill, measureAll);
console.log(json ? JSON.stringify(measured) : JSON.stringify(measured, null, 2));
Deno.exit(measured.met ? 0 : 1);
