/**
 * `npm run bench:admission -- [--json] [--quick]`: what a reservation costs.
 *
 * Ways to decide "may this call start?" take turns on the same server in the same run, with as many callers as connections,
 * each of whom asks again as soon as it is answered:
 *   eve        the gateway's own ledger on its direct transport: limits, choice of lane and key, budgets, idempotency, audit;
 *              those who come at the same time are reserved together, as they are in one instance of the function
 *   eve_alone  the same, each by itself on a connection of its own, as callers in as many instances do (public.eve_reserve)
 *   bare       the floor: `update ... where three counters are below their limits returning`, one row per lane
 *   rlf        rate-limiter-flexible's PostgreSQL limiter, three counters (a call each, as it offers no other way)
 * on one hot lane and on 100 lanes (20 models on 5 projects), over 1 and 20 connections, with 30 days of audit present.
 * A ratio is calls a second over the floor's, each the median of its turns. The goals are held against `eve`.
 */
import postgres from "postgres";
import { createLedger } from "../shared/database/admission/ledger.ts";
import { directTransport } from "../shared/database/transport/direct_transport.ts";
import { applyMigrations, applyPlatform } from "../local/database.ts";
import { freePorts } from "../local/ports.ts";
import { startCluster } from "../local/postgres.ts";
import { removeHomeElsewhere } from "../local/postgres_place.ts";
import { makeTestFolder } from "../tests/harness/folders.ts";
import { installPackages } from "./install.ts";
import { median, percentile } from "./statistics.ts";
import { reserveInput } from "../tests/harness/reserve_input.ts";

/** From the issue: what a reservation may cost over the floor, and what it may not grow with. */
const GOALS = {
  ratio_100_lanes: 0.5,
  ratio_hot_lane: 0.7,
  /** One caller alone. */
  ratio_100_lanes_alone: 0.15,
  ratio_hot_lane_alone: 0.3,
  /** Latency with 30,000 starts a minute in the window, over that with 30; and with the audit full, over empty. */
  growth: 1.5,
  /** Other callers' calls a second during 10,000 refusals, over without. */
  refusal_storm: 0.5,
};

const quick = Deno.args.includes("--quick");
const json = Deno.args.includes("--json");
/** Length of a turn, and turns of each contender: they alternate, so that a disturbance hits all alike. */
const TURN_MS = quick ? 500 : 2_000;
const TURNS = quick ? 2 : 5;
/** Requests a day of a busy deployment, over 30 days. */
const AUDIT_ROWS = quick ? 30_000 : 600_000;
const MODELS = 20;
const PROJECTS = 5;

type Call = (sql: postgres.Sql, lane: number) => Promise<unknown>;
/** What a turn is played with: callers ask for a lane. */
interface Contender {
  ask: (lane: number) => Promise<unknown>;
  close: () => Promise<void>;
}
type Open = (url: string, connections: number) => Contender;
interface Measured {
  per_second: number;
  p50_ms: number;
  p99_ms: number;
}

const folder = await makeTestFolder();
const [port] = freePorts(1);
const say = (line: string) => json ? console.error(line) : console.log(line);
// A local stack's server is kept small: its cache would not hold the index by which a repeated request is found in 30 days of
// audit. These are PostgreSQL's own default, and a quarter of the memory of a small project (1 GB), as its manual recommends.
const cluster = await startCluster({
  dataDir: folder.path,
  port: port!,
  settings: { max_wal_size: "1GB", shared_buffers: "256MB" },
});
try {
  await applyPlatform(cluster.superuserUrl());
  await applyMigrations(cluster.url());
  const figures = await measureAll(cluster.url());
  console.log(
    json ? JSON.stringify(figures) : JSON.stringify(figures, null, 2),
  );
} finally {
  await cluster.stop();
  await removeHomeElsewhere(folder.path);
  await folder.remove();
}
Deno.exit(0);

async function measureAll(url: string) {
  const sql = postgres(url, { max: 4, onnotice: () => {} });
  await prepare(sql);
  const rlf = await rateLimiterFlexible(sql);
  const bare: Call = (connection, lane) =>
    connection`
      update public.bare set rpm = rpm + 1, tpm = tpm + 100, rpd = rpd + 1
      where id = ${lane} and rpm < 100000000 and tpm < 100000000000 and rpd < 100000000 returning rpm, tpm, rpd`;
  const reserve: Call = (connection, lane) =>
    connection`
      select public.eve_reserve(request_id => ${crypto.randomUUID()}, models => ${[
      modelOf(lane),
    ]}, tokens => 100)`;
  const contenders: Record<string, Open> = {
    bare: each(bare),
    eve: ledger,
    eve_alone: each(reserve),
    rlf: each(rlf),
  };

  const empty = await turn(url, each(reserve), () => 0);
  await fillAudit(sql);
  const matrix: Record<string, Record<string, Measured>> = {};
  for (const connections of [1, 20]) {
    for (const lanes of [1, 100]) {
      const name = `${lanes === 1 ? "hot_lane" : "100_lanes"}_${connections}_connections`;
      // -1 is the hot lane's model, and the bare table's row -1.
      const pick = lanes === 1 ? () => -1 : () => Math.floor(Math.random() * 100);
      matrix[name] = await compare(url, contenders, connections, pick);
      say(
        `${name}: ${
          Object.entries(matrix[name]!).map(([who, m]) =>
            `${who} ${m.per_second}/s p50 ${m.p50_ms} p99 ${m.p99_ms}`
          ).join("; ")
        }`,
      );
      await sql`truncate eve.inflight`;
      await sql`vacuum eve.lanes, eve.lane_buckets, public.bare`;
    }
  }
  const full = await turn(url, each(reserve), () => 0);
  const wal = await walPerCall(sql, {
    bare,
    eve_alone: reserve,
    rlf,
  });
  const limitSize = await growthWithLimit(sql, url);
  const storm = await refusalStorm(sql, url, reserve);
  const settle = await settling(sql, url);
  const hot = await sql`
    select relname, n_tup_upd::int as updates, round(100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1), 1)::float as hot_percent
    from pg_stat_user_tables where schemaname = 'eve' and n_tup_upd > 0 order by n_tup_upd desc`;
  await sql.end();

  const ratio = (scenario: string, floor = "bare", who = "eve") =>
    round(
      matrix[scenario]![who]!.per_second / matrix[scenario]![floor]!.per_second,
    );
  const ratios = {
    hot_lane_20_connections: ratio("hot_lane_20_connections"),
    "100_lanes_20_connections": ratio("100_lanes_20_connections"),
    hot_lane_1_connection: ratio("hot_lane_1_connections"),
    "100_lanes_1_connection": ratio("100_lanes_1_connections"),
    hot_lane_20_alone: ratio("hot_lane_20_connections", "bare", "eve_alone"),
    "100_lanes_20_alone": ratio(
      "100_lanes_20_connections",
      "bare",
      "eve_alone",
    ),
    hot_lane_20_over_rlf: ratio("hot_lane_20_connections", "rlf"),
    "100_lanes_20_over_rlf": ratio("100_lanes_20_connections", "rlf"),
    audit_growth: round(full.p50_ms / empty.p50_ms),
    limit_growth: round(limitSize.rpm_30000_p50_ms / limitSize.rpm_30_p50_ms),
    refusal_storm: storm.ratio,
  };
  const met = ratios.hot_lane_20_connections >= GOALS.ratio_hot_lane &&
    ratios["100_lanes_20_connections"] >= GOALS.ratio_100_lanes &&
    ratios.hot_lane_1_connection >= GOALS.ratio_hot_lane_alone &&
    ratios["100_lanes_1_connection"] >= GOALS.ratio_100_lanes_alone &&
    ratios.audit_growth <= GOALS.growth &&
    ratios.limit_growth <= GOALS.growth &&
    storm.ratio >= GOALS.refusal_storm;
  return {
    bench: "admission",
    machine: {
      cores: navigator.hardwareConcurrency,
      deno: Deno.version.deno,
      postgres: 17,
    },
    audit_rows: AUDIT_ROWS,
    matrix,
    empty_audit: empty,
    full_audit: full,
    limit_size: limitSize,
    refusal_storm: storm,
    settle,
    wal_bytes_per_call: wal,
    hot_updates: hot,
    ratios,
    goals: GOALS,
    met,
  };
}

async function prepare(sql: postgres.Sql): Promise<void> {
  await sql`create table public.bare (id int primary key, rpm int not null, tpm bigint not null, rpd int not null) with (fillfactor = 50)`;
  await sql`insert into public.bare select i, 0, 0, 0 from generate_series(-1, 99) i`;
  for (let project = 0; project < PROJECTS; project++) {
    await sql`insert into public.google_ai_api_keys (key_alias, env_var_name, quota_project) values (${`k${project}`}, 'K', ${`p${project}`})`;
  }
  await sql`
    insert into public.google_ai_model_limits (model, rpm, tpm, rpd)
    select 'm' || i, 10000000, 2000000000, 1000000000 from generate_series(0, ${MODELS - 1}) i
    union all select 'hot', 10000000, 2000000000, 1000000000`;
  // One hot lane: of the five projects only one may serve the hot model.
  await sql`
    insert into eve.key_model_blocks (key_id, model, blocked_until, reason)
    select id, 'hot', 'infinity', 'bench' from public.google_ai_api_keys where key_alias <> 'k0'`;
}

/** 30 days of ended requests, spread over the time as they would be. */
async function fillAudit(sql: postgres.Sql): Promise<void> {
  say(`writing ${AUDIT_ROWS} audit rows ...`);
  await sql`
    insert into eve.requests (request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, attempts, wait_ms,
      received_at, finished_at, input_tokens, output_tokens, total_tokens, metadata)
    select -i, '00000000-0000-0000-0000-000000000000', gen_random_uuid()::text, 'batch', 'native', 'm1', 'm1', 'succeeded', 1, 0,
      now() - i * (interval '30 days' / ${AUDIT_ROWS}), now() - i * (interval '30 days' / ${AUDIT_ROWS}), 100, 50, 150, '{}'
    from generate_series(1, ${AUDIT_ROWS}) i`;
  await sql`
    insert into eve.earlier_attempts (request_no, attempt, lane_id, key_id, model, class, start_ms, bucket_after_ms, tokens_booked,
      input_tokens, outcome, dispatched, settled_at)
    select -i, 1, 1, gen_random_uuid(), 'm1', 'batch', 0, 0, 100, 100, 'succeeded', true, now() - i * (interval '30 days' / ${AUDIT_ROWS})
    from generate_series(1, ${AUDIT_ROWS}) i`;
  await sql`
    insert into eve.refusals (refused_at, request_id, attempt, class, endpoint, model, code, tokens)
    select now() - i * (interval '30 days' / ${AUDIT_ROWS}), 'r' || i, 1, 'batch', 'native', 'm1', 'rate_limited', 100
    from generate_series(1, ${AUDIT_ROWS}) i`;
  await sql`vacuum analyze`;
  await sql`checkpoint`.catch(() => {}); // Only a superuser may; without it the first turns pay for the flush.
}

/** Each caller on a connection of its own. */
function each(call: Call): Open {
  return (url, connections) => {
    const sql = postgres(url, { max: connections, onnotice: () => {} });
    return { ask: (lane) => call(sql, lane), close: () => sql.end() };
  };
}

/** The gateway's own way. A refusal is an error: nobody comes near a limit here. */
function ledger(url: string, connections: number): Contender {
  const direct = directTransport({ url, connections, pooler: false });
  const { reserve } = createLedger(direct.call, undefined, direct.afterwards);
  return {
    ask: async (lane) => {
      const { status } = await reserve(reserveInput({ models: [modelOf(lane)], tokens: 100 }));
      if (status !== "granted") {
        throw new Error(`bench:admission: a reservation was ${status}`);
      }
    },
    close: direct.close,
  };
}

function modelOf(lane: number): string {
  return lane < 0 ? "hot" : `m${lane % MODELS}`;
}

async function compare(
  url: string,
  contenders: Record<string, Open>,
  connections: number,
  pick: () => number,
): Promise<Record<string, Measured>> {
  const turns: Record<string, Measured[]> = {};
  const open = Object.entries(contenders).map(([name, start]) => [name, start(url, connections)] as const);
  for (let n = 0; n < TURNS; n++) {
    for (const [name, { ask }] of open) {
      (turns[name] ??= []).push(await load(ask, connections, pick));
    }
  }
  for (const [, { close }] of open) await close();
  return Object.fromEntries(
    Object.entries(turns).map(([name, measured]) => [name, {
      per_second: Math.round(median(measured.map((m) => m.per_second))),
      p50_ms: round(median(measured.map((m) => m.p50_ms))),
      p99_ms: round(median(measured.map((m) => m.p99_ms))),
    }]),
  );
}

/** One caller alone. */
async function turn(
  url: string,
  open: Open,
  pick: () => number,
): Promise<Measured> {
  return (await compare(url, { open }, 1, pick)).open!;
}

/** Closed loop: each caller asks again as soon as it has its answer. */
async function load(
  ask: (lane: number) => Promise<unknown>,
  callers: number,
  pick: () => number,
): Promise<Measured> {
  const latencies: number[] = [];
  const started = performance.now();
  const until = started + TURN_MS;
  await Promise.all(Array.from({ length: callers }, async () => {
    while (performance.now() < until) {
      const before = performance.now();
      await ask(pick());
      latencies.push(performance.now() - before);
    }
  }));
  const seconds = (performance.now() - started) / 1000;
  return {
    per_second: latencies.length / seconds,
    p50_ms: percentile(latencies, 0.5),
    p99_ms: percentile(latencies, 0.99),
  };
}

/** Write-ahead log that a call makes, in bytes. */
async function walPerCall(
  sql: postgres.Sql,
  contenders: Record<string, Call>,
): Promise<Record<string, number>> {
  const bytes: Record<string, number> = {};
  for (const [name, call] of Object.entries(contenders)) {
    const [before] = await sql`select pg_current_wal_lsn()::text as lsn`;
    for (let n = 0; n < 300; n++) await call(sql, n % 100);
    const [after] = await sql`select pg_wal_lsn_diff(pg_current_wal_lsn(), ${
      before!.lsn
    }::pg_lsn)::int as bytes`;
    bytes[name] = Math.round(after!.bytes / 300);
  }
  return bytes;
}

/** The same reservation on lanes whose window is nearly full, at 30 and at 30,000 starts a minute. */
async function growthWithLimit(sql: postgres.Sql, url: string) {
  const measure = async (
    rpm: number,
    filled: number,
    step: number,
    lanes: number,
  ) => {
    await sql`insert into public.google_ai_model_limits (model, rpm, interactive_floor) select ${`l${rpm}-`} || i, ${rpm}, 0 from generate_series(1, ${lanes}) i`;
    // Their lanes exist after a first call; then the window is filled as a minute of steady load leaves it.
    for (let lane = 1; lane <= lanes; lane++) {
      await sql`select public.eve_reserve(request_id => ${crypto.randomUUID()}, models => ${[
        `l${rpm}-${lane}`,
      ]}, tokens => 1)`;
    }
    await sql`
      insert into eve.lane_buckets (lane_id, at_ms, starts, tokens, batch_starts, batch_tokens)
      select l.id, (eve.clock_ms() / 100) * 100 - n * ${step}::int, ${
      Math.round(filled * step / 60_000)
    }::int, 0, 0, 0
      from eve.lanes l, generate_series(1, ${Math.floor(59_000 / step)}) n
      where l.model like ${`l${rpm}-%`}
      on conflict do nothing`;
    await sql`update eve.lanes set span_number = eve.clock_ms() >> 16, span_starts = ${filled} where model like ${`l${rpm}-%`}`;
    await sql`analyze eve.lane_buckets`;
    const connection = postgres(url, { max: 1, onnotice: () => {} });
    const latencies = [];
    for (let n = 0; n < 5 * lanes; n++) {
      const before = performance.now();
      const [row] = await connection`
        select public.eve_reserve(request_id => ${crypto.randomUUID()}, models => ${[
        `l${rpm}-${1 + n % lanes}`,
      ]}, tokens => 1) ->> 'status' as status`;
      if (row!.status !== "granted") {
        throw new Error(
          `bench:admission filled a lane of ${rpm} a minute too far`,
        );
      }
      latencies.push(performance.now() - before);
    }
    await connection.end();
    return round(median(latencies.slice(lanes)));
  };
  return {
    rpm_30_p50_ms: await measure(30, 20, 3_000, quick ? 10 : 40),
    rpm_30000_p50_ms: await measure(30_000, 29_000, 100, quick ? 10 : 40),
  };
}

/** 10,000 NO_WAIT calls on a full lane, while others reserve on lanes of their own. */
async function refusalStorm(sql: postgres.Sql, url: string, reserve: Call) {
  await sql`insert into public.google_ai_model_limits (model, rpm, interactive_floor) values ('full', 1, 0)`;
  for (let n = 0; n < PROJECTS; n++) {
    await sql`select public.eve_reserve(request_id => ${crypto.randomUUID()}, models => '{full}', tokens => 1)`;
  }
  const others = each(reserve)(url, 10);
  const storm = each((connection) =>
    connection`select public.eve_reserve(request_id => ${crypto.randomUUID()}, models => '{full}', tokens => 1)`
  )(url, 10);
  const company = each(reserve)(url, 10);
  const pick = () => Math.floor(Math.random() * 100);
  const alone: Measured[] = [];
  const during: Measured[] = [];
  let refused = 0;
  // Before: ten who reserve beside ten who reserve. During: beside ten who are refused. So the load is the same.
  for (let n = 0; n < TURNS || refused < (quick ? 0 : 10_000); n++) {
    if (n < TURNS) {
      const [quiet] = await Promise.all([
        load(others.ask, 10, pick),
        load(company.ask, 10, pick),
      ]);
      alone.push(quiet);
    }
    const [loud, refusals] = await Promise.all([
      load(others.ask, 10, pick),
      load(storm.ask, 10, pick),
    ]);
    during.push(loud);
    refused += Math.round(refusals.per_second * TURN_MS / 1000);
  }
  await Promise.all([others.close(), company.close(), storm.close()]);
  await sql`truncate eve.inflight`;
  const before = median(alone.map((m) => m.per_second));
  const after = median(during.map((m) => m.per_second));
  return {
    refused,
    beside_reservations_per_second: Math.round(before),
    beside_refusals_per_second: Math.round(after),
    ratio: round(after / before),
  };
}

async function settling(sql: postgres.Sql, url: string): Promise<Measured> {
  const connections = 20;
  const count = quick ? 500 : 5_000;
  const numbers: number[] = [];
  for (let n = 0; n < count; n += 100) {
    const rows = await Promise.all(
      Array.from(
        { length: 100 },
        (_, i) =>
          sql`select public.eve_reserve(request_id => ${crypto.randomUUID()}, models => ${[
            `m${i % MODELS}`,
          ]}, tokens => 100) -> 'request_no' as n`,
      ),
    );
    numbers.push(...rows.map((row) => Number(row[0]!.n)));
  }
  const pool = postgres(url, { max: connections, onnotice: () => {} });
  const latencies: number[] = [];
  const started = performance.now();
  await Promise.all(Array.from({ length: connections }, async () => {
    for (
      let number = numbers.pop();
      number !== undefined;
      number = numbers.pop()
    ) {
      const before = performance.now();
      await pool`select public.eve_settle(request_no => ${number}, attempt => 1, outcome => 'succeeded', input_tokens => 90, output_tokens => 40)`;
      latencies.push(performance.now() - before);
    }
  }));
  const seconds = (performance.now() - started) / 1000;
  await pool.end();
  return {
    per_second: Math.round(latencies.length / seconds),
    p50_ms: round(percentile(latencies, 0.5)),
    p99_ms: round(percentile(latencies, 0.99)),
  };
}

/** The peer: three fixed-window counters in its own table. It is a dependency of bench/ alone. */
async function rateLimiterFlexible(sql: postgres.Sql): Promise<Call> {
  await installPackages("bench");
  const { RateLimiterPostgres } = (await import("./peers/rate_limiter_flexible.ts")).peer;
  const limiters = new Map<
    postgres.Sql,
    { consume(key: string, points?: number): Promise<unknown> }[]
  >();
  const make = (connection: postgres.Sql) =>
    Promise.all(
      [["rpm", 100_000_000, 60], ["tpm", 2_000_000_000, 60], [
        "rpd",
        100_000_000,
        86_400,
      ]].map((
        [keyPrefix, points, duration],
      ) =>
        new Promise((resolve, reject) => {
          // It speaks node-postgres' query form; postgres.js answers the same rows.
          const storeClient = {
            query: async (
              { text, values }: { text: string; values: unknown[] },
            ) => {
              const rows = await connection.unsafe(text, values as never[], {
                prepare: true,
              });
              return { rows, rowCount: rows.count };
            },
          };
          const limiter = new RateLimiterPostgres(
            {
              storeClient,
              storeType: "client",
              tableName: "rlf",
              keyPrefix,
              points,
              duration,
              clearExpiredByTimeout: false,
            },
            (error?: Error) => error ? reject(error) : resolve(limiter),
          );
        })
      ),
    );
  await make(sql);
  return async (connection, lane) => {
    let mine = limiters.get(connection);
    if (!mine) {
      limiters.set(
        connection,
        mine = await make(connection) as typeof mine & object,
      );
    }
    const [rpm, tpm, rpd] = mine!;
    await rpm!.consume(`lane${lane}`);
    await tpm!.consume(`lane${lane}`, 100);
    await rpd!.consume(`lane${lane}`);
  };
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
