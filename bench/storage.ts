/**
 * `npm run bench:storage -- [--json] [--quick] [--days N]`: what a call leaves in the database and what it makes it write.
 *
 * A database is made from the migrations, calls are reserved and settled in it, it is vacuumed, and the tables are weighed, with
 * their indexes. The time is simulated: two lanes with the row that ships for Gemma (30 a minute), as many calls as they serve.
 * Beside the bytes kept: bytes of write-ahead log, transaction ids, and row versions (rows inserted and updated; rows deleted are
 * told by themselves, since a deletion makes no version). WAL is counted after a checkpoint and a warm-up, so without the pages
 * that are written whole once after each checkpoint.
 *
 *   alone     one call after another, as at a few calls a second: eve_reserve, then eve_settle_many with a list of one
 *   in_lists  ten that come at once: eve_reserve_many and eve_settle_many
 *   with_id   as alone, by callers who choose their ids: these are kept for a while, so that a repetition is known
 *   refused   one refusal after another
 *
 * And `fast_share`: of calls that come evenly at some rates a minute and lane, the share that the fast path (eve_reserve_many) books;
 * the rest take eve_reserve.
 *
 * With `--days 60`: so many days of both lanes at their full 14,400 calls, with retention and rollup as they run by themselves.
 * A sample of each day's calls goes through the functions; the rest are rows of that sample again, with other numbers, ids, times
 * and tokens, inserted in bulk (`calls_through_functions` and `rows_in_bulk` say how many). Tables are vacuumed when autovacuum
 * would: a fifth of the rows dead. Goal: the database stays under 250 MB.
 */
import postgres from "postgres";
import { applyMigrations, applyPlatform } from "../local/database.ts";
import { freePorts } from "../local/ports.ts";
import { startCluster } from "../local/postgres.ts";
import { removeHomeElsewhere } from "../local/postgres_place.ts";
import { days, DAYS_GOAL_MB } from "./storage/days.ts";
import { Site } from "./storage/site.ts";

const quick = Deno.args.includes("--quick");
const json = Deno.args.includes("--json");
const dayCount = wholeNumberAfter("--days");
const CALLS = quick ? 1_000 : 5_000;
const REFUSALS = quick ? 1_000 : 5_000;
const LIST = 10;
const BETWEEN_VACUUMS = 500;
/** Pages that a checkpoint has left behind are written whole once: by these, which are not measured. */
const WARM_UP = 2 * BETWEEN_VACUUMS;
/**
 * Tables of calls that are running, told by themselves: they grow until they are vacuumed, by as much after 1,000 calls as after 5,000,
 * and no call that has ended has a row in them.
 */
const RUNNING = ["eve.inflight", "eve.lanes", "eve.lane_buckets", "eve.routes"];

/** Of an ordinary call: one attempt, whose id the gateway made. */
const GOALS = {
  bytes: 600,
  bytes_without_token_usage: 400,
  wal_bytes: 1_200,
  transaction_ids: 2,
  row_versions: 5,
};
/** At any rate up to 26 a minute and lane, of either class. */
const FAST_SHARE_GOAL = 0.8;
const FAST_RATES = [1, 5, 15, 26];
const FAST_CALLS = 200;

const tell = json ? console.error : console.log;

interface Cost {
  bytes: number;
  bytes_without_token_usage: number;
  bytes_by_table: Record<string, number>;
  /** What the tables of running calls have grown by, over all calls together. */
  running_bytes_in_all: number;
  wal_bytes: number;
  transaction_ids: number;
  row_versions: number;
  rows_deleted: number;
  row_versions_by_table: Record<string, number>;
}

async function withSite<Result>(
  run: (site: Site) => Promise<Result>,
): Promise<Result> {
  const folder = await Deno.makeTempDir({ prefix: "eve-gateway-storage-" });
  try {
    // The server's account may be another one than ours.
    await Deno.chmod(folder, 0o755);
    const cluster = await startCluster({
      dataDir: folder,
      port: freePorts(1)[0]!,
      durable: false,
    });
    try {
      await applyPlatform(cluster.superuserUrl());
      const admin = postgres(cluster.superuserUrl(), {
        max: 1,
        onnotice: () => {},
      });
      // What vacuums write is not the calls'.
      await admin`alter system set autovacuum = off`;
      await admin`select pg_reload_conf()`;
      await applyMigrations(cluster.url());
      const site = await Site.open(cluster.url());
      try {
        await admin`checkpoint`;
        return await run(site);
      } finally {
        await site.close();
        await admin.end();
      }
    } finally {
      await cluster.stop();
      await removeHomeElsewhere(folder);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What `count` calls cost, each, of which `step` are made at a time. */
async function cost(
  site: Site,
  count: number,
  step: number,
  make: (first: number) => Promise<void>,
): Promise<Cost> {
  for (let place = 0; place < WARM_UP; place += step) {
    await make(place);
    if ((place + step) % BETWEEN_VACUUMS === 0) await site.vacuumRunning();
  }
  await site.vacuum();
  const bytesBefore = await site.weigh();
  const before = await site.written();
  let vacuumWal = 0;
  for (let place = 0; place < count; place += step) {
    await make(WARM_UP + place);
    // Every so often, as autovacuum would: or rows of calls that have long ended would be weighed.
    if ((place + step) % BETWEEN_VACUUMS === 0) {
      vacuumWal += await site.vacuumRunning();
    }
  }
  const after = await site.written();
  await site.vacuum();
  const bytesAfter = await site.weigh();
  const each = (
    from: Map<string, number>,
    to: Map<string, number>,
    digits: number,
  ) =>
    Object.fromEntries(
      [...to].map(([name, value]) => [name, round((value - (from.get(name) ?? 0)) / count, digits)] as const)
        .filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]),
    );
  const grown = each(bytesBefore, bytesAfter, 0);
  const byTable = Object.fromEntries(Object.entries(grown).filter(([name]) => !RUNNING.includes(name)));
  const bytes = sum(Object.values(byTable));
  const versions = each(before.versions, after.versions, 2);
  return {
    bytes,
    bytes_without_token_usage: bytes - (byTable["token_usage"] ?? 0),
    bytes_by_table: byTable,
    running_bytes_in_all: sum(
      RUNNING.map((name) => (bytesAfter.get(name) ?? 0) - (bytesBefore.get(name) ?? 0)),
    ),
    wal_bytes: Math.round(
      (after.walBytes - before.walBytes - vacuumWal) / count,
    ),
    transaction_ids: round(
      (after.transactionId - before.transactionId) / count,
      2,
    ),
    row_versions: round(sum(Object.values(versions)), 2),
    rows_deleted: round((after.deleted - before.deleted) / count, 2),
    row_versions_by_table: versions,
  };
}

async function perCall() {
  const alone = await withSite(async (site) => ({
    empty_bytes: await site.databaseBytes(),
    cost: await cost(site, CALLS, 1, (place) => site.call(place)),
  }));
  const inLists = await withSite((site) => cost(site, CALLS, LIST, (place) => site.calls(place, LIST)));
  const withId = await withSite((site) => cost(site, CALLS, 1, (place) => site.call(place, true)));
  const refused = await withSite(async (site) => {
    await site.closeLanes();
    return await cost(site, REFUSALS, 1, (place) => site.refusedCall(place));
  });
  const fastShare = await withSite(async (site) => {
    const shares: Record<string, number> = {};
    for (const kind of ["interactive", "batch"] as const) {
      for (const rate of FAST_RATES) {
        shares[`${kind}_${rate}`] = round(await site.fastShare(rate, kind, FAST_CALLS), 3);
      }
    }
    return shares;
  });
  return {
    empty_bytes: alone.empty_bytes,
    alone: alone.cost,
    in_lists: inLists,
    with_id: withId,
    refused,
    fast_share: fastShare,
  };
}

function show(name: string, cost: Cost): void {
  tell(
    `${name}: ${cost.bytes} bytes kept (${cost.bytes_without_token_usage} without token_usage), ` +
      `${cost.wal_bytes} of WAL, ${cost.transaction_ids} transaction ids, ${cost.row_versions} row versions`,
  );
  for (const [table, bytes] of Object.entries(cost.bytes_by_table)) {
    tell(`  ${table.padEnd(36)} ${String(bytes).padStart(6)}`);
  }
  tell(`  versions: ${JSON.stringify(cost.row_versions_by_table)}\n`);
}

function wholeNumberAfter(flag: string): number | null {
  const place = Deno.args.indexOf(flag);
  if (place < 0) return null;
  const value = Number(Deno.args[place + 1]);
  if (!Number.isInteger(value) || value < 1) {
    console.error(`${flag} needs a whole number.`);
    Deno.exit(2);
  }
  return value;
}

function round(value: number, digits: number): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

if (dayCount !== null) {
  const figures = await withSite((site) => days(site, dayCount, quick, tell));
  const met = { largest_mb: figures.largest_mb < DAYS_GOAL_MB };
  console.log(JSON.stringify({
    bench: "storage",
    figures,
    ratios: {},
    goals: { largest_mb: DAYS_GOAL_MB },
    met_by_goal: met,
    met: met.largest_mb,
  }));
} else {
  const figures = await perCall();
  for (const name of ["alone", "in_lists", "with_id", "refused"] as const) {
    show(name, figures[name]);
  }
  tell(`Share of calls that take the fast path, by class and rate: ${JSON.stringify(figures.fast_share)}`);
  tell(`An empty gateway: ${(figures.empty_bytes / 1e6).toFixed(1)} MB\n`);
  const metBy = (cost: Cost) =>
    Object.fromEntries(
      Object.entries(GOALS).map((
        [name, goal],
      ) => [name, cost[name as keyof typeof GOALS] <= goal]),
    );
  const metByGoal: Record<string, Record<string, boolean>> = {
    alone: metBy(figures.alone),
    in_lists: metBy(figures.in_lists),
    fast_share: Object.fromEntries(
      Object.entries(figures.fast_share).map(([name, share]) => [name, share >= FAST_SHARE_GOAL]),
    ),
  };
  console.log(JSON.stringify({
    bench: "storage",
    calls: CALLS,
    figures,
    ratios: {},
    goals: { ...GOALS, fast_share: FAST_SHARE_GOAL },
    met_by_goal: metByGoal,
    met: Object.values(metByGoal).every((goals) => Object.values(goals).every((met) => met)),
  }));
}
