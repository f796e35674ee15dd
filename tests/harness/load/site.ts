/** A stack with callers enrolled and limits that a short run can reach, in the database and at the emulator alike. */
import postgres from "postgres";
import type { Stack, StackOptions } from "../../../local/stack.ts";
import { createAdmin } from "../../../shared/database/admin.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import { mintConsumerSecret } from "../../../shared/tokens/consumer_secret.ts";
import type { LaneLimits } from "../checker.ts";
import { outcomeOf, Traffic, type TrafficOptions } from "./traffic.ts";
import { control, insist, type Site } from "./troubles.ts";
import { judge, type Terms, type Verdict } from "./verdict.ts";

/** Wide lanes, which carry the load, and narrow ones, which are always full. */
export const WIDE = ["gemma-4-31b-it", "gemma-4-26b-a4b-it"];
export const NARROW = "gemini-3.5-flash";
export const WIDE_LIMITS: LaneLimits = {
  rpm: 600,
  tpm: 2_000_000,
  rpd: 500_000,
};
export const NARROW_LIMITS: LaneLimits = { rpm: 12, tpm: 250_000, rpd: 5_000 };

export const limitsOf = (model: string): LaneLimits => model === NARROW ? NARROW_LIMITS : WIDE_LIMITS;

/** One call of a model. With the gateway's minute to settle in, a lease is a minute longer. */
const UPSTREAM_TIMEOUT_MS = 2_500;

export const STACK_OPTIONS = {
  emulator: {
    latencyMs: 60,
    chunkDelayMs: 8,
    keepRequests: 1_000_000,
    window: { kind: "sliding" },
  },
  env: {
    EVE_UPSTREAM_TIMEOUT_MS: String(UPSTREAM_TIMEOUT_MS),
    EVE_RPC_TIMEOUT_MS: "1500",
    EVE_REQUEST_TIMEOUT_MS: "30000",
    EVE_MAX_WAIT_MS: "20000",
  },
  // What was committed must survive a server that is killed.
  durable: true,
} satisfies Partial<StackOptions>;

export interface LoadSite extends Site {
  /** Codes that are no fault at this moment. */
  tolerated: Set<string>;
  /** Callers of their own for every run. */
  traffic(shape: Shape): Traffic;
  close(): Promise<void>;
}

/** How much load. */
export interface Shape {
  bots: number;
  notebooks: number;
  crowd: number;
  /** Mean pause of a caller between two calls, in ms. */
  pauseMs: number;
  maxWaitMs: number;
  patienceMs: number;
  /** Share of bots' and notebooks' calls whose client hangs up; a few unless said. */
  leaves?: number;
}

export async function openSite(
  stack: Stack,
  random: () => number,
): Promise<LoadSite> {
  const sql = postgres(stack.databaseUrl, {
    max: 4,
    connect_timeout: 5,
    backoff: (() => 0.2) as never,
    // Asked for in the background, where a connection that breaks ends the process.
    fetch_types: false,
    onnotice: () => {},
  });
  const site: Site = { stack, sql, random };
  for (const model of WIDE) await setLimits(site, model, WIDE_LIMITS);
  await setLimits(site, NARROW, NARROW_LIMITS);
  const admin = createAdmin(
    rpcTransport({ url: stack.url, secretKey: stack.keys.secret }),
  );
  const add = async (
    name: string,
    kind: "service" | "notebook",
    bounds: Record<string, unknown>,
  ) => {
    const secret = await mintConsumerSecret(kind);
    await admin.addConsumer({
      name,
      kind,
      keyId: secret.keyId,
      proof: secret.proof,
      ...bounds,
    });
    return secret.text;
  };
  const bot = await add("city-events-bot", "service", {
    tokensPerDay: 50_000_000,
  });
  const notebook = await add("festivals", "notebook", {
    models: WIDE,
    maxClass: "batch",
    requestsPerDay: 1_000_000,
    tokenTtlSeconds: 60,
  });
  let traffics = 0;
  const tolerated = new Set<string>();
  return {
    ...site,
    tolerated,
    traffic(shape) {
      const common = {
        pauseMs: shape.pauseMs,
        maxWaitMs: shape.maxWaitMs,
        patienceMs: shape.patienceMs,
      };
      const options: TrafficOptions = {
        number: ++traffics,
        tolerated,
        functionsUrl: `${stack.url}/functions/v1`,
        random,
        bots: {
          ...common,
          count: shape.bots,
          models: WIDE,
          leaves: shape.leaves ?? 0.08,
          credential: { authorization: `Bearer ${bot}` },
        },
        notebooks: {
          ...common,
          count: shape.notebooks,
          models: WIDE,
          leaves: shape.leaves ?? 0.02,
          secret: notebook,
        },
        crowd: {
          ...common,
          count: shape.crowd,
          models: [NARROW],
          patienceMs: 0,
          credential: { apikey: stack.keys.secret },
        },
      };
      return new Traffic(options);
    },
    close: () => sql.end({ timeout: 5 }),
  };
}

/** In the gateway's table and at the emulator, at once. */
export async function setLimits(
  site: Site,
  model: string,
  limits: LaneLimits,
): Promise<void> {
  await insist(() =>
    site.sql`
      update public.google_ai_model_limits
      set rpm = ${limits.rpm}, tpm = ${limits.tpm}, rpd = ${limits.rpd}
      where model = ${model}`.execute()
  );
  await control(site, "limits", { model, ...limits });
}

/**
 * Waits until nothing is in flight, or nothing has moved for `stillMs`: what remains has died and waits for the end of its
 * lease. Answers how many those are.
 */
export async function settled(site: Site, stillMs: number): Promise<number> {
  let last = -1;
  let since = performance.now();
  for (;;) {
    const open = await insist(async () => {
      const [row] = await site.sql`select count(*)::int as n from eve.inflight`;
      return row!.n as number;
    });
    if (open !== last) {
      last = open;
      since = performance.now();
    }
    if (open === 0 || performance.now() - since > stillMs) return open;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The time of a lease passes for whatever is open, and the sweep of the schedule comes by. */
export async function leasesRunOut({ sql }: Site): Promise<number> {
  await sql`update eve.inflight set lease_until = eve.clock() - interval '1 second'`;
  const [row] = await sql`select public.eve_sweep() as swept`;
  return row!.swept.expired;
}

export function judgeSite(
  site: Site,
  traffic: readonly Traffic[],
  terms: Partial<Terms> = {},
): Promise<Verdict> {
  return judge(
    site.sql,
    site.stack.emulatorUrl!,
    traffic.flatMap(({ records }) => records),
    {
      limitsOf,
      ...terms,
    },
  );
}

/**
 * Load before, during and after something that happens; it ends when calls are answered again. Gives the time from the end of the
 * trouble until calls that were made after it were answered, one after the other, in ms.
 */
export async function weather(
  traffic: Traffic,
  happens: () => Promise<void>,
  patienceMs: number,
): Promise<number> {
  traffic.start();
  try {
    await sleep(WARM_UP_MS);
    await happens();
    const recoveredMs = await recovery(traffic, performance.now(), patienceMs);
    await sleep(AFTERWARDS_MS);
    return recoveredMs;
  } finally {
    await traffic.stop();
  }
}

/** Enough for every caller to be in the middle of something. */
const WARM_UP_MS = 600;
const AFTERWARDS_MS = 200;

/** One answer may be luck: so many in a row, apart from those whose clients hung up. */
const ANSWERED_IN_A_ROW = 5;

/** Infinity: not within `patienceMs`. */
export async function recovery(
  traffic: Traffic,
  over: number,
  patienceMs: number,
): Promise<number> {
  for (;;) {
    let inARow = 0;
    const after = traffic.records.filter((one) => one.who !== "crowd" && one.lastTriedAt >= over);
    for (const one of after.toSorted((a, b) => a.endedAt - b.endedAt)) {
      const { kind } = outcomeOf(one);
      if (kind === "left") continue;
      inARow = kind === "answered" ? inARow + 1 : 0;
      if (inARow === ANSWERED_IN_A_ROW) return Math.round(one.endedAt - over);
    }
    if (performance.now() - over > patienceMs) return Infinity;
    await sleep(50);
  }
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
