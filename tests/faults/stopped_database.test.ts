/**
 * PostgreSQL stands still (SIGSTOP) under callers, for longer than any of them or their connections wait, and goes on; or has more
 * callers than it can answer while they wait.
 */
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Api, startApi } from "../../local/api.ts";
import { applyMigrations, applyPlatform } from "../../local/database.ts";
import { freePorts } from "../harness/ports.ts";
import { type Cluster, startCluster } from "../../local/postgres.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import { cancelled } from "../../shared/gateway/attempts/settlement.ts";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { createLedger } from "../../shared/database/admission/ledger.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import type { Transport } from "../../shared/database/transport/transport.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { reserveInput } from "../harness/reserve_input.ts";

const KEYS = {
  publishable: "sb_publishable_for_tests_only",
  secret: "sb_secret_for_tests_only",
  jwtSecret: "a secret of thirty-two characters, for tests only",
};
const CALLERS = 8;
/** How long a caller waits for its reservation. */
const WITHIN_MS = 1_000;
/** After which its connection is given up. */
const TIMEOUT_MS = 1_500;

let folder: TestFolder;
let cluster: Cluster;
let sql: postgres.Sql;
let api: Api;
let goOn = () => {};
const closing: (() => Promise<void>)[] = [];

beforeAll(async () => {
  folder = await makeTestFolder({ inMemory: true });
  const [port] = freePorts(1);
  cluster = await startCluster({ dataDir: folder.path, port: port!, durable: false });
  await applyPlatform(cluster.superuserUrl());
  await applyMigrations(cluster.url());
  sql = postgres(cluster.url(), { onnotice: () => {} });
  await sql`insert into public.google_ai_api_keys (key_alias, env_var_name, quota_project)
    values ('one', 'KEY_ONE', 'one'), ('two', 'KEY_TWO', 'two')`;
  await sql`insert into public.google_ai_model_limits (model) values ('m')`;
  api = await startApi({ databaseUrl: cluster.url(), superuserUrl: cluster.superuserUrl(), keys: KEYS });
});
afterEach(() => goOn());
afterAll(async () => {
  await Promise.all(closing.map((close) => close()));
  await api?.close();
  await sql?.end({ timeout: 5 });
  await cluster?.stop();
  await removeHomeElsewhere(folder.path);
  await folder?.remove();
});

/** Stops the server and all who serve in it; what comes back lets them go on. */
async function stop(): Promise<() => void> {
  const rows =
    await sql`select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`;
  const [own] = await sql`select pg_backend_pid() as pid`;
  const pids = [...new Set([cluster.pid, own!.pid as number, ...rows.map(({ pid }) => pid as number)])];
  for (const pid of pids) Deno.kill(pid, "SIGSTOP");
  return () => {
    for (const pid of pids.splice(0)) Deno.kill(pid, "SIGCONT");
  };
}

function transportOf(name: string): Transport {
  if (name === "rest") {
    return rpcTransport({
      url: "http://project.test",
      secretKey: KEYS.secret,
      fetch: (input, init) => Promise.resolve(api.fetch(new Request(input, init), "127.0.0.1")),
    });
  }
  const { call, close } = directTransport({
    url: cluster.url(),
    connections: 2,
    pooler: false,
    statementTimeoutMs: WITHIN_MS,
  });
  closing.push(close);
  return call;
}

const ask = (requestId: string) => reserveInput({ requestId, leaseMs: 600_000, requestHash: requestId });

test.each(["rest", "direct"])(
  "[fault.database-stopped] over %s: no start is lost, and what failed may come again",
  async (name) => {
    const transport = transportOf(name);
    /** Of reservations that are asked for and neither answered nor given up. */
    const asking = new Set<AbortSignal>();
    const counting: Transport = async (name, args, signal) => {
      if (!name.startsWith("eve_reserve")) return await transport(name, args, signal);
      const over = () => asking.delete(signal);
      asking.add(signal);
      signal.addEventListener("abort", over);
      return await transport(name, args, signal).finally(over);
    };
    const background: Promise<void>[] = [];
    const ledger = createLedger(counting, TIMEOUT_MS, undefined, {
      background: (work) => void background.push(work),
    });
    const failed: string[] = [];
    const sent: string[] = [];
    const busy = Promise.withResolvers<void>();
    let stopped = false;
    const settlements: Promise<unknown>[] = [];

    // A caller asks, is granted, calls and settles, again and again, until it fails.
    const caller = async () => {
      for (;;) {
        const requestId = crypto.randomUUID();
        try {
          const grant = await ledger.reserve(ask(requestId), WITHIN_MS);
          if (grant.status !== "granted") throw new Error(JSON.stringify(grant));
          sent.push(requestId);
          if (sent.length >= 40) busy.resolve();
          if (!stopped) {
            settlements.push(
              ledger.settle({ ...cancelled(grant), outcome: "succeeded", dispatched: true, inputTokens: 10 })
                .catch(() => {}),
            );
          }
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: "database_unavailable" });
          // On a machine that is busy a call may fail before anything is stopped.
          failed.push(requestId);
          if (stopped) return;
        }
      }
    };
    const callers = Array.from({ length: CALLERS }, caller);
    await busy.promise;
    goOn = await stop();
    stopped = true;
    await Promise.all(callers);
    expect(failed.length).toBeGreaterThanOrEqual(CALLERS);
    // What they asked over is given up too: whatever the server says now, nobody hears it.
    await expect.poll(() => background.length).toBeGreaterThan(0);
    await expect.poll(() => asking.size).toBe(0);
    goOn();

    await Promise.all(background);
    await Promise.all(settlements);
    const lost = await sql`select request_id from eve.inflight where request_id = any (${failed})`;
    expect(lost.map(({ request_id }) => request_id)).toEqual([]);
    // Each start that counts is one that a caller was told of.
    const counted = await sql`
    select request_id from eve.inflight union all select request_id from eve.requests where request_id = any (${sent})`;
    expect(counted.map(({ request_id }) => request_id).sort()).toEqual([...sent].sort());
    const [row] = await sql`select sum(starts)::int as starts from eve.lane_buckets`;
    const [all] = await sql`
    select (select count(*)::int from eve.inflight) + (select count(*)::int from eve.attempts where dispatched) as n`;
    expect(row!.starts).toBe(all!.n);

    for (const requestId of failed) {
      expect(await ledger.reserve(ask(requestId), 10_000)).toMatchObject({ status: "granted" });
    }
    await sql`delete from eve.inflight`;
    await sql`delete from eve.lane_buckets`;
    await sql`delete from eve.requests`;
  },
);

/** Functions side by side, each with connections of its own. */
const INSTANCES = 3;
const CALLERS_AT_ONCE = 60;
/** How long callers wait, one after the other: from less than any database takes to as long as a person would. */
const PATIENCE = [2, 10_000, 8, 25, 10_000, 60, 150];
/** Of calls that were given up, and of calls that were granted. */
const ENOUGH = 150;

test.each(["rest", "direct"])(
  "[fault.database-overloaded] over %s: who gave up has booked nothing, and may come again, to any instance",
  async (name) => {
    const background: Promise<void>[] = [];
    const ledgers = Array.from(
      { length: INSTANCES },
      () =>
        createLedger(transportOf(name), 60_000, undefined, {
          background: (work) => void background.push(work),
        }),
    );
    const failed: string[] = [];
    const granted: string[] = [];
    const settlements: Promise<unknown>[] = [];
    const enough = () => failed.length >= ENOUGH && granted.length >= ENOUGH;
    let calls = 0;
    const caller = async (ledger: (typeof ledgers)[number]) => {
      while (!enough()) {
        const requestId = crypto.randomUUID();
        try {
          const grant = await ledger.reserve(ask(requestId), PATIENCE[calls++ % PATIENCE.length]!);
          if (grant.status !== "granted") throw new Error(JSON.stringify(grant));
          granted.push(requestId);
          settlements.push(
            ledger.settle({ ...cancelled(grant), outcome: "succeeded", dispatched: true, inputTokens: 10 }),
          );
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: "database_unavailable" });
          failed.push(requestId);
        }
      }
    };
    await Promise.all(
      Array.from({ length: CALLERS_AT_ONCE }, (_, n) => caller(ledgers[n % INSTANCES]!)),
    );
    await Promise.all(background);
    await Promise.all(settlements);

    // Nothing counts that no caller was told of.
    expect(await sql`select request_id from eve.inflight`).toEqual([]);
    const [row] = await sql`select sum(starts)::int as starts from eve.lane_buckets`;
    expect(row!.starts).toBe(granted.length);

    // Those who gave up ask again, mostly another instance than before.
    const again = await Promise.all(
      failed.map((requestId, n) => ledgers[n % INSTANCES]!.reserve(ask(requestId), 60_000)),
    );
    expect(again.filter(({ status }) => status !== "granted")).toEqual([]);
    await sql`delete from eve.inflight`;
    await sql`delete from eve.lane_buckets`;
    await sql`delete from eve.requests`;
  },
);
