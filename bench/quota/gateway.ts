/** The gateway's own admission: the real SQL on a real PostgreSQL, its clock moved by hand. */
import postgres from "postgres";
import { applyMigrations, applyPlatform } from "../../local/database.ts";
import { freePorts } from "../../local/ports.ts";
import { startCluster } from "../../local/postgres.ts";
import { removeHomeElsewhere } from "../../local/postgres_place.ts";
import {
  addKey,
  addModel,
  type Answer,
  clearLedger,
  reserve,
  settle,
  type SettleOptions,
} from "../../tests/harness/admission.ts";
import { makeTestFolder } from "../../tests/harness/folders.ts";
import type { Contender, World } from "./contender.ts";
import { type Call, SHARES } from "./load.ts";
import { between } from "./random.ts";

/** The longest wait that the gateway lets a caller ask for, and its default. */
const MAX_WAIT_MS = 100_000;
/** Attempts of one request. */
const MAX_ATTEMPTS = 3;
/** Settling happens after the answer has gone. */
const SETTLE_MS = [5, 200] as const;
/** Google names whole seconds; the gateway blocks a lane for at least one. */
const SECOND_MS = 1_000;
/** What countTokens takes. It is free of charge and has a quota of its own (3,000 a minute). */
const COUNT_MS = [100, 300] as const;

export interface Ledger {
  sql: postgres.Sql;
  /** What the strict window is longer than a minute. */
  guardMs: number;
  /** PostgreSQL's. */
  version: string;
  close(): Promise<void>;
}

/**
 * A scratch database with this checkout's migrations.
 *
 * @param workdir the folder whose supabase/migrations are applied, to measure another version of them
 */
export async function openLedger(workdir?: string): Promise<Ledger> {
  const folder = await makeTestFolder();
  const [port] = freePorts(1);
  const cluster = await startCluster({
    dataDir: folder.path,
    port: port!,
    durable: false,
  });
  // One connection: the clock is a setting of it, and what is sent on it happens in that order without waiting in between.
  const sql = postgres(cluster.url(), { max: 1, onnotice: () => {} });
  const close = async () => {
    await sql.end({ timeout: 5 });
    await cluster.stop();
    await removeHomeElsewhere(folder.path);
    await folder.remove();
  };
  try {
    await applyPlatform(cluster.superuserUrl());
    await applyMigrations(cluster.url(), workdir);
    await sql.unsafe(`
      create or replace function eve.clock_ms() returns bigint language sql volatile set search_path = ''
      as $$ select current_setting('bench.now_ms')::bigint $$`);
    const [facts] = await sql`
      select value as guard_ms, current_setting('server_version') as version
      from eve.settings
      where name = 'guard_ms'`;
    return {
      sql,
      guardMs: Number(facts!.guard_ms),
      version: facts!.version,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The gateway over an emptied ledger. */
export async function gateway(
  ledger: Ledger,
  world: World,
): Promise<Contender> {
  const { sql } = ledger;
  const { time, upstream, journal, random } = world;
  await clearLedger(sql);
  // Refusals spread those who come back by chance; the same chance in every run.
  await sql`select setseed(0.5)`;
  await addModel(sql, "m", { ...world.limits, ...SHARES });
  for (let lane = 0; lane < world.projects; lane++) {
    await addKey(sql, String(lane), { project: `project-${lane}` });
  }

  /** Moves the database's clock to the present, and asks. */
  const ask = async (question: () => Promise<Answer>): Promise<Answer> => {
    const moved = sql`select set_config('bench.now_ms', ${String(time.now())}, false)`.execute();
    const [answer] = await Promise.all([question(), moved]);
    return answer;
  };

  /** How the gateway's three attempts end. `sent_back`: nothing was reserved, come back then. */
  const request = async (call: Call, requestId: string): Promise<CallEnd> => {
    let waited = 0;
    let counted = false;
    let failedAttempt: { grant: Answer; settlement: SettleOptions } | undefined;
    for (let attempt = 1;; attempt++) {
      const reserveNow = (requestNo?: string) =>
        ask(() =>
          reserve(sql, requestId, {
            tokens: counted ? call.real : call.estimate,
            counted,
            class: call.class,
            maxWaitMs: MAX_WAIT_MS - waited,
            attempt,
            requestNo,
          })
        );
      const sleep = async (ms: number) => {
        await time.sleep(ms);
        waited = Math.min(MAX_WAIT_MS, waited + ms);
      };
      let grant = await reserveNow();
      let place: number | undefined;
      let inLine: string | undefined;
      while (grant.status === "count" || grant.status === "waiting") {
        if (grant.status === "count") {
          await time.sleep(between(random, ...COUNT_MS));
          counted = true;
        } else {
          // Batch stands in line from here on, and asks again when it is told to.
          place ??= journal.nextPlace();
          inLine = grant.request_no;
          await sleep(grant.wait_ms);
        }
        grant = await reserveNow(inLine);
      }
      if (grant.status !== "granted") {
        if (!failedAttempt) return { kind: "sent_back", forMs: grant.retry_after_ms };
        const { grant: last, settlement } = failedAttempt;
        await ask(() => settle(sql, last, { ...settlement, final: true }));
        return { kind: "failed" };
      }
      place ??= journal.nextPlace();
      await sleep(grant.wait_ms);
      const lane = Number(grant.key.alias);
      const startedAt = time.now();
      const answer = await upstream.call(lane, call.real, () => {
        journal.served.push({
          ...call,
          place: place!,
          booked: grant.tokens,
          lane,
          startedAt,
        });
      });
      if (answer.admitted) {
        time.spawn(async () => {
          await ask(() => settle(sql, grant, { inputTokens: call.real, outputTokens: 0 }));
        }, between(random, ...SETTLE_MS));
        return { kind: "served" };
      }
      const forMs = Math.max(
        SECOND_MS,
        Math.floor(answer.retryMs / SECOND_MS) * SECOND_MS,
      );
      const settlement: SettleOptions = {
        outcome: "failed",
        errorCode: "upstream_rate_limited",
        block: {
          scope: "lane",
          for_ms: forMs,
          reason: "upstream_minute_quota",
        },
      };
      const final = attempt === MAX_ATTEMPTS;
      await ask(() => settle(sql, grant, { ...settlement, final }));
      if (final) return { kind: "failed" };
      failedAttempt = { grant, settlement };
    }
  };

  return {
    async serve(call) {
      for (let repeat = 1;; repeat++) {
        const ending = await request(call, `${call.no}-${repeat}`);
        if (ending.kind === "served") return;
        if (ending.kind === "failed") journal.failed++;
        else journal.sentBack.push(call);
        await time.sleep(
          ending.kind === "sent_back" ? ending.forMs : SECOND_MS,
        );
      }
    },
  };
}

type CallEnd = { kind: "served" } | { kind: "failed" } | {
  kind: "sent_back";
  forMs: number;
};
