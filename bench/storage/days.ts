import { LANES, MODEL, type Site } from "./site.ts";

export const DAYS_GOAL_MB = 250;

const DAY_MS = 86_400_000;
/** Of a Gemma lane on the free tier. */
const CALLS_A_DAY = 14_400 * LANES;
const SAMPLE = 200;
/** Retention and rollup run so often a day here: less often than by themselves, so that more lies about meanwhile. */
const RUNS_A_DAY = 4;
/** A run of an operation is bounded in time; here the next one begins when one ends. */
const RUN_LIMIT_MS = 100_000;

export interface DaysFigures {
  days: number;
  calls: number;
  calls_through_functions: number;
  rows_in_bulk: number;
  largest_mb: number;
  last_mb: number;
  mb_by_day: number[];
  days_of_audit_kept: number;
  days_in_the_sums: number;
  not_simulated: string;
}

/** The database's size at the end of each of `count` days in which both lanes serve all they may. */
export async function days(
  site: Site,
  count: number,
  quick: boolean,
  tell: (line: string) => void,
): Promise<DaysFigures> {
  const { sql } = site;
  const callsADay = quick ? CALLS_A_DAY / 10 : CALLS_A_DAY;
  const sizes: number[] = [];
  let largest = 0;
  const firstDay = Date.UTC(2026, 10, 19, 0);
  await site.setClock(firstDay);
  await runToEnd(site, "retention"); // Makes the first partitions.
  for (let day = 0; day < count; day++) {
    const begins = firstDay + day * DAY_MS;
    await site.setClock(begins + 60_000);
    const [{ last }] = await sql<
      [{ last: string }]
    >`select coalesce(max(request_no), 0)::text as last from eve.requests`;
    for (let place = 0; place < SAMPLE; place++) await site.call(place);
    for (let run = 0; run < RUNS_A_DAY; run++) {
      const from = begins + DAY_MS / RUNS_A_DAY * run;
      const rows = callsADay / RUNS_A_DAY - (run === 0 ? SAMPLE : 0);
      await copySample(site, last, from, DAY_MS / RUNS_A_DAY, rows);
      await site.setClock(from + DAY_MS / RUNS_A_DAY - 1);
      await runToEnd(site, "rollup");
      await runToEnd(site, "retention");
      await vacuumAsAutovacuumWould(site);
      largest = Math.max(largest, await site.databaseBytes());
    }
    sizes.push(Math.round(await site.databaseBytes() / 1e5) / 10);
    tell(`day ${day + 1}: ${sizes.at(-1)} MB`);
  }
  const [kept] = await sql`
    select count(distinct date_trunc('day', r.finished_at, 'UTC'))::int as audit,
      (select count(distinct d.day)::int from eve.usage_days d) as sums
    from eve.requests r`;
  return {
    days: count,
    calls: callsADay * count,
    calls_through_functions: SAMPLE * count,
    rows_in_bulk: (callsADay - SAMPLE) * count,
    largest_mb: Math.round(largest / 1e5) / 10,
    last_mb: sizes.at(-1)!,
    mb_by_day: sizes,
    days_of_audit_kept: kept!.audit,
    days_in_the_sums: kept!.sums,
    not_simulated:
      "the history of pg_cron and of the maintenance that runs every minute, refusals, answers kept and captures",
  };
}

/** Rows of the day's sample again, spread over a stretch of the day: what as many calls would have left. */
export async function copySample(
  site: Site,
  after: string,
  fromMs: number,
  lastsMs: number,
  count: number,
  sample = SAMPLE,
): Promise<void> {
  const { sql } = site;
  await sql`set enable_seqscan = off`;
  await sql`create temporary table if not exists sample (like eve.requests)`;
  await sql`truncate sample`;
  await sql`insert into sample select * from eve.requests where request_no > ${after} order by request_no limit ${sample}`;
  await sql`
    insert into eve.requests (
      request_no, received_at, finished_at, start_ms, settled_at, wait_ms, lane_id, tokens_booked, input_tokens,
      output_tokens, thoughts_tokens, cached_tokens, total_tokens, latency_ms, attempts, bucket_after_ms, upstream_status,
      usage_estimated, dispatched, consumer_id, key_id, token_id, request_id, class, endpoint, requested_model, model, state,
      error_code, error_detail, finish_reason, trace_id, metadata
    )
    select nextval('eve.request_no'), to_timestamp(at.ms / 1000.0), to_timestamp(at.ms / 1000.0), at.ms, s.settled_at,
      s.wait_ms, s.lane_id, s.tokens_booked, s.input_tokens, s.output_tokens, s.thoughts_tokens, s.cached_tokens,
      s.total_tokens, s.latency_ms, s.attempts, s.bucket_after_ms, s.upstream_status, s.usage_estimated, s.dispatched,
      s.consumer_id, s.key_id, s.token_id, gen_random_uuid()::text, s.class, s.endpoint, s.requested_model, s.model, s.state,
      s.error_code, s.error_detail, s.finish_reason, md5(n::text), s.metadata
    from generate_series(1, ${count}::int) n
    cross join lateral (select (${fromMs}::float8 + ${lastsMs}::float8 * n / ${count + 1})::bigint as ms) at
    join (select *, row_number() over (order by request_no) as place from sample) s on s.place = 1 + n % ${sample}`;
  await sql`
    insert into public.token_usage (ts, model, prompt_tokens, completion_tokens, total_tokens, request_id, meta)
    select r.finished_at, r.model, r.input_tokens, r.output_tokens, r.total_tokens, r.request_id,
      eve.usage_meta(r.consumer_id, 1, false)
    from eve.requests r
    where r.finished_at >= to_timestamp(${fromMs}::float8 / 1000.0)
      and r.finished_at < to_timestamp((${fromMs}::float8 + ${lastsMs}::float8) / 1000.0)
      and not exists (select from sample s where s.request_no = r.request_no)
    order by r.finished_at`;
  await sql`
    insert into public.google_ai_usage_counters (
      api_key_id, model, minute_bucket, day_bucket, rpm_used, tpm_used, rpd_used, updated_at
    )
    select k.id, ${MODEL}, minute, eve.pacific_day((extract(epoch from minute) * 1000)::bigint), 10, 3000, 7000, minute
    from public.google_ai_api_keys k
    cross join generate_series(
      to_timestamp(${fromMs}::float8 / 1000.0), to_timestamp((${fromMs}::float8 + ${
    lastsMs - 60_000
  }::float8) / 1000.0),
      interval '1 minute'
    ) minute
    on conflict do nothing`;
  await sql`set enable_seqscan = on`;
}

/** As cron's job runs it: step by step, each in a transaction of its own. */
async function runToEnd({ sql }: Site, operation: string): Promise<void> {
  for (let more = true; more;) {
    const [begun] = await sql`select eve.begin_run(${operation}, 'bench', ${RUN_LIMIT_MS}) as run`;
    for (;;) {
      const [row] = await sql`select eve.step_run(${begun!.run.run_id}) as step`;
      if (row!.step.status === "failed") {
        throw new Error(`${operation} failed: ${row!.step.error}`);
      }
      if (!row!.step.done) continue;
      more = row!.step.more;
      break;
    }
  }
}

/** With PostgreSQL's defaults: 50 rows and a fifth of the table dead, or 1,000 and a fifth of it new. */
async function vacuumAsAutovacuumWould({ sql }: Site): Promise<void> {
  await sql`select pg_stat_force_next_flush()`;
  const due = await sql<{ name: string }[]>`
    select t.relid::regclass::text as name
    from pg_stat_user_tables t
    join pg_class c on c.oid = t.relid
    where t.n_dead_tup > 50 + 0.2 * greatest(c.reltuples, 0)
      or t.n_ins_since_vacuum > 1000 + 0.2 * greatest(c.reltuples, 0)`;
  for (const { name } of due) await sql.unsafe(`vacuum analyze ${name}`);
}
