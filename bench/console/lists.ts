/**
 * Every list of the console, and what it sums, over 1,000,000 requests of a week by 1,000 consumers: as the function `admin` asks the database for it,
 * each with several filters. Milliseconds, the 95th percentile of twenty, of sums of ten.
 */
import postgres from "postgres";
import { createAdmin } from "../../shared/database/admin.ts";
import { createReading } from "../../shared/database/reading.ts";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { wholeDays } from "../../shared/runtime/pacific_days.ts";
import { withFilledCluster } from "../filled_cluster.ts";
import { percentile } from "../statistics.ts";

const CONSUMERS = 1_000;
const MODELS = 20;
const KEYS = 12;
const TURNS = 20;
const SUM_TURNS = 10;

type Asked = Record<string, (turn: number) => Promise<unknown>>;

/** By list, and by sum, the 95th percentile in milliseconds. */
export function lists(
  requests = 1_000_000,
): Promise<{ lists: Record<string, number>; sums: Record<string, number> }> {
  return withFilledCluster((url) => fill(url, requests), measured);
}

async function fill(url: string, requests: number): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  await sql.unsafe(`
    insert into public.google_ai_api_keys (id, key_alias, env_var_name, quota_project)
    select md5('key' || n)::uuid, 'key-' || n, 'KEY_' || n, 'project-' || n from generate_series(0, ${
    KEYS - 1
  }) n;
    insert into public.google_ai_model_limits (model, rpm, tpm, rpd) select 'm' || n, 30, 100000, 14400 from generate_series(0, ${
    MODELS - 1
  }) n;
    insert into eve.consumers (name, kind) select 'bot ' || n, 'service' from generate_series(1, ${CONSUMERS}) n;
    select eve.make_partitions(now() - make_interval(days => ahead)) from generate_series(8, 0, -1) ahead;
  `).simple();
  const rows = (some: number) => `
    from (
      select n, now() - interval '7 days' * (1 - n::float8 / ${some}) as at,
        (array(select id from eve.consumers order by name))[1 + n * 7 % ${CONSUMERS}] as consumer
      from generate_series(1, ${some}) n
    ) rows
    order by n`;
  await sql.unsafe(`
    insert into eve.requests (
      request_no, consumer_id, request_id, class, endpoint, requested_model, model, key_id, state, attempts, wait_ms, received_at,
      finished_at, start_ms, bucket_after_ms, lane_id, tokens_booked, dispatched, usage_estimated, latency_ms, input_tokens,
      output_tokens, total_tokens, finish_reason, error_code, metadata
    )
    select n, consumer, lpad(n::text, 12, '0'), case when n % 3 = 0 then 'interactive' else 'batch' end, 'native', 'm' || n % ${MODELS},
      'm' || n % ${MODELS}, md5('key' || n % ${KEYS})::uuid, case when n % 97 = 0 then 'failed' else 'succeeded' end, 1, n % 100, at,
      at + interval '900 ms', floor(extract(epoch from at) * 1000), 0, 1, 100, true, false, 800, 90, 30, 120, 'STOP',
      case when n % 970 = 0 then 'upstream_timeout' when n % 97 = 0 then 'upstream_unavailable' end, '{}'
    ${rows(requests)}`);
  await sql.unsafe(`
    insert into eve.refusals (refused_at, consumer_id, request_id, attempt, class, endpoint, model, code, limit_name, tokens)
    select at, consumer, 'r' || n, 1, 'batch', 'native', 'm' || n % ${MODELS}, 'rate_limited', 'rpm', 100
    ${rows(requests / 10)}`);
  await sql`select setval('eve.request_no', ${requests * 2})`;
  await sql`vacuum analyze`;
  for (let isDone = false; !isDone;) {
    const [begun] = await sql`select eve.begin_run('rollup', 'bench') as run`;
    for (let step = { done: false, more: true, status: "" }; !step.done;) {
      const [row] = await sql`select eve.step_run(${begun!.run.run_id}) as step`;
      step = row!.step;
      if (step.status === "failed") throw new Error(JSON.stringify(step));
      isDone = step.done && !step.more;
    }
  }
  await sql`vacuum analyze`;
  await sql.end();
}

async function measured(url: string) {
  const transport = directTransport({ url, connections: 2, pooler: false });
  const reading = createReading(transport.call);
  const admin = createAdmin(transport.call);
  const ago = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
  const inLists: Asked = {
    requests: () => reading.requests({ atMost: 100 }),
    requests_of_a_consumer: (n) => reading.requests({ consumer: `bot ${n + 1}`, atMost: 100 }),
    requests_of_a_model: (n) => reading.requests({ model: `m${n % MODELS}`, atMost: 100 }),
    requests_of_a_key: (n) => reading.requests({ key: `key-${n % KEYS}`, atMost: 100 }),
    requests_that_failed: () => reading.requests({ outcome: "failed", atMost: 100 }),
    requests_by_code: () => reading.requests({ errorCode: "upstream_timeout", atMost: 100 }),
    requests_by_a_code_that_none_has: () => reading.requests({ errorCode: "content_blocked", atMost: 100 }),
    requests_of_a_consumer_and_a_code: (n) =>
      reading.requests({ consumer: `bot ${n + 1}`, errorCode: "upstream_timeout", atMost: 100 }),
    requests_of_one_day: (n) =>
      reading.requests({ since: ago(2 + n % 5), until: ago(1 + n % 5), atMost: 100 }),
    request_found: (n) => reading.find(String(500_000 + n).padStart(12, "0")),
    request: (n) => reading.request({ requestNo: 500_000 + n }),
    live: () => reading.tail(null, 100),
    overview: () => reading.overview(),
    lanes: () => reading.lanes(),
    keys: () => reading.keys(),
    consumers: () => admin.consumerPage({ atMost: 100 }),
    consumers_searched: (n) => admin.consumerPage({ search: `bot ${n}`, atMost: 100 }),
    alerts: () => reading.alerts({ state: "all", atMost: 100 }),
  };
  const { pacific_day, pacific_day_begins } = await reading.now();
  const week = wholeDays(7, pacific_day);
  const top = 10;
  const sums: Asked = {
    usage_by_day: () => reading.usage({ by: ["day"], since: week }),
    usage_by_consumer: () => reading.usage({ by: ["consumer"], since: week, top }),
    usage_by_model: () => reading.usage({ by: ["model"], since: week, top }),
    usage_by_key: () => reading.usage({ by: ["key"], since: week, top }),
    usage_by_endpoint: () => reading.usage({ by: ["endpoint"], since: week, top }),
    usage_by_hour_today: () => reading.usage({ by: ["hour"], since: pacific_day_begins }),
    // Of any time, whose edges are no whole days.
    usage_by_consumer_from_to: () =>
      reading.usage({ by: ["consumer"], since: ago(6.6), until: ago(0.6), top }),
    usage_parts: () => reading.usageParts({ since: week }),
    roll_up: () => reading.rollUp(500),
  };
  try {
    return { lists: await timed(inLists, TURNS), sums: await timed(sums, SUM_TURNS) };
  } finally {
    await transport.close();
  }
}

async function timed(asked: Asked, turns: number): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  for (const [name, ask] of Object.entries(asked)) {
    const took: number[] = [];
    for (let turn = 0; turn < turns; turn++) {
      const since = performance.now();
      await ask(turn);
      took.push(performance.now() - since);
    }
    figures[name] = Math.round(percentile(took, 0.95) * 10) / 10;
    console.error(`${name}: ${figures[name]} ms`);
  }
  return figures;
}
