/**
 * `npm run bench:rollup -- [--json] [--quick]`: how long the steps are in which a busy hour is summed.
 *
 * 3,600,000 rows of audit (requests, attempts, refusals) of one hour, of many consumers, models and keys, on a durable PostgreSQL.
 * The operation `rollup` sums them as its cron job does, step by step, each in a transaction of its own; its first run is killed
 * half-way, and the next one goes on. Then it runs again with nothing new, with one call that is settled late, and with the
 * minutes that come after. The sums are compared with a plain GROUP BY.
 *
 * Goal: every step is over in less than two seconds, nothing that was summed before the kill is summed again, and the sums are
 * exact.
 */
import postgres from "postgres";
import { withFilledCluster } from "./filled_cluster.ts";
import { benchOptions } from "./options.ts";
import { percentile } from "./statistics.ts";

const GOAL_STEP_MS = 2_000;

const { json, quick } = benchOptions();

/** Of one hour. Together 3,600,000 rows. */
const ROWS = quick
  ? { requests: 160_000, attempts: 170_000, refusals: 30_000 }
  : { requests: 1_600_000, attempts: 1_700_000, refusals: 300_000 };
const CONSUMERS = 20;
const MODELS = 4;
const KEYS = 5;
/** Longer ago than slices are kept is a hour that nobody needs again soon; this one is the last. */
const HOUR = "date_trunc('hour', now(), 'UTC') - interval '1 hour'";

const say = (line: string) => console.error(line);

interface Run {
  steps: number;
  runs: number;
  longest_step_ms: number;
  p50_step_ms: number;
  seconds_in_steps: number;
}

/** Runs until the sums are there, or until `killAfter` says that the function died. */
async function rollUp(
  sql: postgres.Sql,
  killAfter?: () => Promise<boolean>,
): Promise<Run> {
  const steps: number[] = [];
  let runs = 0;
  for (;;) {
    const [begun] = await sql`select eve.begin_run('rollup', 'bench') as run`;
    runs++;
    for (;;) {
      const since = performance.now();
      const [row] = await sql`select eve.step_run(${begun!.run.run_id}) as step`;
      steps.push(performance.now() - since);
      const { done, more, status, error } = row!.step;
      if (status === "failed") throw new Error(`rollup failed: ${error}`);
      if (killAfter !== undefined && await killAfter()) {
        await sql`update eve.operations set lease_until = now() where name = 'rollup'`;
        return figures(steps, runs);
      }
      if (done && !more) return figures(steps, runs);
      if (done) break;
    }
  }
}

function figures(steps: number[], runs: number): Run {
  return {
    steps: steps.length,
    runs,
    longest_step_ms: Math.round(Math.max(...steps)),
    p50_step_ms: Math.round(percentile(steps, 0.5)),
    seconds_in_steps: Math.round(steps.reduce((sum, one) => sum + one, 0) / 100) / 10,
  };
}

async function measure(url: string) {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  const summed = async () =>
    (await sql`select coalesce(max(slice), '-infinity') as until from eve.usage_slices`)[
      0
    ]!.until;
  const [half] = await sql.unsafe(
    `select ${HOUR} + interval '30 minutes' as at`,
  );
  const killed = await rollUp(sql, async () => await summed() > half!.at);
  say(`killed after ${killed.steps} steps`);
  const [before] =
    await sql`select max(xmin::text::bigint) as newest, max(slice) as until from eve.usage_slices`;
  const rest = await rollUp(sql);
  const [again] = await sql`
    select count(*) as n from eve.usage_slices where slice < ${before!.until} and xmin::text::bigint > ${
    before!.newest
  }`;
  say(`the rest: ${rest.steps} steps, the longest ${rest.longest_step_ms} ms`);
  const exact = async () =>
    (await sql.unsafe(`
      with summed as (
        select sum(requests) as requests, sum(attempts) as attempts, sum(refused) as refused, sum(input_tokens) as tokens,
          sum(latency_ms) as latency, model
        from eve.usage_hours group by model
      ), counted as (
        select sum(requests) as requests, sum(attempts) as attempts, sum(refused) as refused, sum(tokens) as tokens,
          sum(latency) as latency, model
        from (
          select 1 as requests, 0 as attempts, 0 as refused, 0 as tokens, 0 as latency, model from eve.requests
          union all select 0, 1, 0, input_tokens, latency_ms, model from eve.attempts
          union all select 0, 0, 1, 0, 0, model from eve.refusals
        ) rows group by model
      )
      select count(*) as n from (
        (select * from summed except select * from counted) union all (select * from counted except select * from summed)
      ) different`))[0]!.n === "0";
  const isExact = await exact();
  const nothing = await rollUp(sql);
  await sql`
    update eve.requests set state = 'failed', input_tokens = 1, settled_at = now()
    where request_no = ${Math.round(ROWS.requests / 3)}`;
  const late = await rollUp(sql);
  const isStillExact = await exact();
  await sql.end();
  const longest = Math.max(
    ...[killed, rest, nothing, late].map((run) => run.longest_step_ms),
  );
  return {
    bench: "rollup",
    machine: {
      cores: navigator.hardwareConcurrency,
      deno: Deno.version.deno,
      postgres: 17,
    },
    audit_rows_of_the_hour: ROWS.requests + ROWS.attempts + ROWS.refusals,
    killed_half_way: killed,
    the_rest: rest,
    summed_again_after_the_kill: Number(again!.n),
    nothing_new: nothing,
    one_settled_late: late,
    exact: isExact && isStillExact,
    goal: { longest_step_ms_below: GOAL_STEP_MS },
    met: longest < GOAL_STEP_MS && isExact && isStillExact &&
      Number(again!.n) === 0,
  };
}

async function fill(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  await sql`
    insert into public.google_ai_model_limits (model) select 'm' || n from generate_series(0, ${
    MODELS - 1
  }::int) n`;
  await sql`
    insert into eve.consumers (name, kind) select 'bot ' || n, 'service' from generate_series(1, ${CONSUMERS}::int) n`;
  const consumer = "(array(select id from eve.consumers order by name))[1 + n % " + CONSUMERS +
    "]";
  const at = (of: number) => `${HOUR} + n * interval '3600 seconds' / ${of}`;
  await sql.unsafe(`
    insert into eve.requests (
      request_no, consumer_id, request_id, class, endpoint, requested_model, model, key_id, state, attempts, wait_ms, received_at,
      finished_at, start_ms, bucket_after_ms, lane_id, tokens_booked, dispatched, usage_estimated, latency_ms, input_tokens,
      output_tokens, total_tokens, finish_reason, metadata
    )
    select n, ${consumer}, lpad(n::text, 12, '0'), 'batch', 'native', 'm' || n % ${MODELS}, 'm' || n % ${MODELS},
      md5('key' || n % ${KEYS})::uuid, 'succeeded', 1 + (n < ${
    ROWS.attempts - ROWS.requests
  })::integer, n % 100, at,
      at + interval '900 ms', floor(extract(epoch from at) * 1000), 0, 1, 100, true, false, 800, 90, 30, 120, 'STOP', '{}'
    from (select n, ${at(ROWS.requests)} as at from generate_series(0, ${ROWS.requests - 1}) n) rows
    order by n`);
  say(`eve.requests: ${ROWS.requests}`);
  await sql.unsafe(`
    insert into eve.earlier_attempts (
      request_no, attempt, lane_id, key_id, model, class, start_ms, bucket_after_ms, tokens_booked, input_tokens,
      output_tokens, total_tokens, outcome, dispatched, latency_ms, settled_at
    )
    select n, 1, 1, md5('key' || n % ${KEYS})::uuid, 'm' || n % ${MODELS}, 'batch',
      floor(extract(epoch from at) * 1000), 0, 100, 90, 30, 120, 'succeeded', true, 800,
      at + interval '900 ms'
    from (select n, ${HOUR} + n * interval '3600 seconds' / ${ROWS.requests} as at from generate_series(0, ${
    ROWS.attempts - ROWS.requests - 1
  }) n) rows
    order by n`);
  say(`eve.attempts: ${ROWS.attempts}`);
  await sql.unsafe(`
    insert into eve.refusals (refused_at, consumer_id, request_id, attempt, class, endpoint, model, code, limit_name, tokens)
    select at, ${consumer}, lpad(n::text, 12, '0'), 1, 'batch', 'native', 'm' || n % ${MODELS}, 'rate_limited', 'rpm', 100
    from (select n, ${at(ROWS.refusals)} as at from generate_series(0, ${ROWS.refusals - 1}) n) rows
    order by n`);
  say(`eve.refusals: ${ROWS.refusals}`);
  await sql`vacuum analyze`;
  await sql.end();
}

const measured = await withFilledCluster(fill, measure);
console.log(json ? JSON.stringify(measured) : JSON.stringify(measured, null, 2));
Deno.exit(measured.met ? 0 : 1);
