/** One soak: load, one trouble after the other, the wait for the last lease, the verdict. */
import {
  judgeSite,
  type LoadSite,
  NARROW_LIMITS,
  recovery,
  type Shape,
} from "../../tests/harness/load/site.ts";
import { outcomeOf, type Traffic } from "../../tests/harness/load/traffic.ts";
import {
  CLOCK_JUMP_MS,
  insist,
  type Trouble,
  type TroubleName,
  TROUBLES,
} from "../../tests/harness/load/troubles.ts";
import type { Figures } from "../../tests/harness/load/verdict.ts";
import { median, percentile } from "../statistics.ts";
import { Watch } from "./watch.ts";

export interface SoakOptions {
  minutes: number;
  seed: number;
  say: (line: string) => void;
  /** What the functions have printed so far. */
  printed: readonly string[];
}

export interface SoakReport {
  minutes: number;
  seed: number;
  verdict: "held" | "broken";
  met: boolean;
  violations: string[];
  figures: Figures;
  calls_per_s: number;
  /** Of calls that were answered at their first try, waiting included. */
  latency_ms: { p50: number; p99: number };
  troubles: Record<string, { times: number; recovered_ms: number }>;
  longest_overdue_ms: number;
  /** From the end of the load until the last lease had run out and was closed. */
  quiet_after_ms: number;
  settlements_lost: number;
  tokens: Record<string, number>;
  restarts: number;
}

/** About fifteen calls a second, with room for two cores to do other things. */
const SHAPE: Shape = {
  bots: 10,
  notebooks: 8,
  crowd: 3,
  pauseMs: 900,
  maxWaitMs: 8_000,
  patienceMs: 15_000,
};

/** Between the recovery from one trouble and the beginning of the next. */
const CALM_MS = { least: 3_000, most: 9_000 };
/** How long a trouble lasts that has a length. The longest is the database's ten seconds. */
const TROUBLE_MS = { least: 800, most: 10_000 };
/** A sweep of the schedule, a window, and then some. */
const RECOVERS_WITHIN_MS = 150_000;
/** The clock jumps only if so much time is left for windows to be judged in. */
const MINUTES_FOR_CLOCK = 5;
/** After the clock is right again: a sweep, and then a window that nothing from before reaches into. */
const CLOCK_SETTLES_MS = 130_000;
/** A lease (a minute and the call's time), the schedule's next sweep, and a margin. */
const LEASES_END_WITHIN_MS = 150_000;
/** A reservation may outlive its lease until the next call on its lane or the next sweep. */
const OVERDUE_LIMIT_MS = 75_000;

const CLOCK: TroubleName[] = ["clock_forward", "clock_back"];

export async function soak(
  site: LoadSite,
  options: SoakOptions,
): Promise<SoakReport> {
  const { say } = options;
  // Keys of one rank, so that each is in use when its turn comes to be rejected.
  await site.sql`update public.google_ai_api_keys set priority = 10`;
  const traffic = site.traffic(SHAPE);
  const watch = new Watch(site.sql);
  const troubles: SoakReport["troubles"] = {};
  const violations: string[] = [];
  const beganAt = performance.now();
  const endsAt = beganAt + options.minutes * 60_000;
  const deck = deckOf(site, options.minutes);
  let windowsFromMs = 0;
  let explainedRefusals = 0;
  let killed = false;

  traffic.start();
  watch.start();
  for (let name = deck(); performance.now() < endsAt; name = deck()) {
    await sleep(CALM_MS.least + site.random() * (CALM_MS.most - CALM_MS.least));
    const trouble: Trouble = TROUBLES[name];
    const ms = Math.round(
      TROUBLE_MS.least +
        site.random() ** 2 * (TROUBLE_MS.most - TROUBLE_MS.least),
    );
    if (trouble.movesClock) {
      site.tolerated.add("credential_invalid");
      watch.pause();
    }
    await trouble.run(
      site,
      ms,
      `demo-key-${"abc"[Math.floor(site.random() * 3)]}`,
    );
    const over = performance.now();
    killed ||= trouble.kills ?? false;
    const recovered = await recovery(traffic, over, RECOVERS_WITHIN_MS);
    if (recovered === Infinity) {
      violations.push(
        `recovery: ${trouble.name}: not within ${RECOVERS_WITHIN_MS} ms`,
      );
    }
    if (trouble.movesClock) {
      await sleep(CLOCK_SETTLES_MS);
      site.tolerated.clear();
      windowsFromMs = Date.now() + 1_000;
      explainedRefusals = await refusalsSoFar(site);
      watch.resume();
    }
    const known = troubles[name] ?? { times: 0, recovered_ms: 0 };
    troubles[name] = {
      times: known.times + 1,
      recovered_ms: Math.max(known.recovered_ms, recovered),
    };
    say(
      `${minutesOf(performance.now() - beganAt)} ${trouble.name}; ${
        count(traffic)
      }; back after ${recovered} ms`,
    );
  }

  const loadMs = performance.now() - beganAt;
  say("the load ends; leases run out");
  await traffic.stop();
  const quietMs = await untilQuiet(site);
  const longestOverdueMs = await watch.stop();
  if (longestOverdueMs > OVERDUE_LIMIT_MS) {
    violations.push(
      `open: a reservation outlived its lease by ${longestOverdueMs} ms`,
    );
  }
  // A jump forgets the window: once each way, and each narrow lane can be asked once more for all it has.
  const jumps = CLOCK.reduce(
    (sum, name) => sum + 2 * (troubles[name]?.times ?? 0),
    0,
  );
  if (explainedRefusals > jumps * 4 * NARROW_LIMITS.rpm!) {
    violations.push(
      `quota: ${explainedRefusals} refusals are more than ${jumps} jumps of the clock explain`,
    );
  }
  const verdict = await judgeSite(site, [traffic], {
    killed,
    windowsFromMs,
    explainedRefusals,
  });
  violations.push(...verdict.violations);

  const latencies = traffic.records
    .filter((one) => one.tries.length === 1 && outcomeOf(one).kind === "answered")
    .map((one) => one.endedAt - one.startedAt);
  return {
    minutes: options.minutes,
    seed: options.seed,
    verdict: violations.length === 0 ? "held" : "broken",
    met: violations.length === 0,
    violations: violations.slice(0, 50),
    figures: verdict.figures,
    calls_per_s: round(traffic.records.length / (loadMs / 1_000)),
    latency_ms: {
      p50: Math.round(median(latencies)),
      p99: Math.round(percentile(latencies, 0.99)),
    },
    troubles,
    longest_overdue_ms: longestOverdueMs,
    quiet_after_ms: quietMs,
    settlements_lost: options.printed.filter((line) => line.includes('"settlement_lost"'))
      .length,
    tokens: traffic.tokens,
    restarts: [...site.stack.functions.values()].reduce(
      (sum, one) => sum + one.restarts,
      0,
    ),
  };
}

/** Every trouble once in a random order, then again in another; those with the clock once, and first. */
function deckOf(site: LoadSite, minutes: number): () => TroubleName {
  const others = (Object.keys(TROUBLES) as TroubleName[]).filter((name) => !CLOCK.includes(name));
  const clockMayJump = minutes >= MINUTES_FOR_CLOCK &&
    minutes * 60_000 < CLOCK_JUMP_MS;
  let cards: TroubleName[] = clockMayJump ? [...CLOCK] : [];
  return () => {
    if (cards.length === 0) {
      cards = others.map((name) => ({ name, at: site.random() })).sort((a, b) => a.at - b.at).map((
        { name },
      ) => name);
    }
    return cards.shift()!;
  };
}

/** Nothing is done here but waiting: leases end, and the schedule's sweep closes what they held. */
async function untilQuiet(site: LoadSite): Promise<number> {
  const since = performance.now();
  for (;;) {
    const [row] = await insist(() => site.sql`select count(*)::int as n from eve.inflight`.execute());
    const passed = Math.round(performance.now() - since);
    if (row!.n === 0 || passed > LEASES_END_WITHIN_MS) return passed;
    await sleep(500);
  }
}

async function refusalsSoFar(site: LoadSite): Promise<number> {
  const stats = await (await fetch(`${site.stack.emulatorUrl}/__control/stats?last=0`))
    .json();
  return stats.refused.total;
}

function count(traffic: Traffic): string {
  const answered = traffic.records.filter((one) => outcomeOf(one).kind === "answered").length;
  const wrong = traffic.records.filter((one) => one.tries.some(({ kind }) => kind === "wrong")).length;
  return `${traffic.records.length} calls, ${answered} answered, ${wrong} wrong`;
}

const round = (value: number) => Math.round(value * 10) / 10;
const minutesOf = (ms: number) =>
  `${Math.floor(ms / 60_000)}:${String(Math.floor(ms / 1_000) % 60).padStart(2, "0")}`;
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
