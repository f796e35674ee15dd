/** A stack under load for a test file, and what every fault is followed by: calls are answered again, and the books are right. */
import { expect, onTestFailed } from "vitest";
import { seededRandom } from "../../bench/quota/random.ts";
import {
  judgeSite,
  leasesRunOut,
  type LoadSite,
  openSite,
  settled,
  type Shape,
  STACK_OPTIONS,
  weather,
} from "../harness/load/site.ts";
import type { Answered } from "../harness/load/call.ts";
import type { CallRecord, Traffic } from "../harness/load/traffic.ts";
import type { Terms } from "../harness/load/verdict.ts";
import { PATIENCE_MS, until } from "../harness/patience.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

/** Small enough for two cores that run another file beside it. */
const SHAPE: Shape = { bots: 5, notebooks: 4, crowd: 2, pauseMs: 300, maxWaitMs: 4_000, patienceMs: 4_000 };

/** The longest pause before a settlement is tried again, and a try that hangs: what has not moved for so long is dead. */
const STILL_MS = 15_000;

/** On a machine that does other things too, the database and upstream may be slow without being away. */
const PATIENT = {
  EVE_RPC_TIMEOUT_MS: "5000",
  EVE_UPSTREAM_TIMEOUT_MS: "8000",
  EVE_REQUEST_TIMEOUT_MS: "60000",
};

/** The longest that there may be, so that calls which a busy machine holds up meet no limit of upstream's. */
const GUARD_MS = 5_000;

export interface Bench {
  stack: TestStack;
  site: LoadSite;
  /** All the traffic since the start: the verdict is over all of it. */
  traffic: Traffic[];
  terms: Partial<Terms>;
  stop(): Promise<void>;
}

/** @param env more variables of the functions */
export async function startBench(seed: number, env: Record<string, string> = {}): Promise<Bench> {
  const stack = await startTestStack({ ...STACK_OPTIONS, env: { ...STACK_OPTIONS.env, ...PATIENT, ...env } });
  const site = await openSite(stack, seededRandom(seed));
  await site.sql`update eve.settings set value = ${GUARD_MS} where name = 'guard_ms'`;
  return {
    stack,
    site,
    traffic: [],
    terms: {},
    async stop() {
      await site.close();
      await stack.stop();
    },
  };
}

/**
 * Lets it happen under load. Afterwards: calls were answered again, nothing stays open, nobody was answered wrongly, the
 * emulator refused nothing for want of quota, and the books hold what it counted. Gives the calls of this load.
 */
export async function survives(
  bench: Bench,
  happens: (traffic: Traffic) => Promise<void>,
  options: { shape?: Partial<Shape>; terms?: Partial<Terms>; stillMs?: number } = {},
): Promise<CallRecord[]> {
  Object.assign(bench.terms, options.terms);
  const traffic = bench.site.traffic({ ...SHAPE, ...options.shape });
  bench.traffic.push(traffic);
  const printedBefore = bench.stack.printed.length;
  onTestFailed(() => {
    // What the functions say of it themselves.
    const lines = bench.stack.printed.slice(printedBefore).filter((line) =>
      /settlement_lost|"internal"/.test(line)
    );
    console.error(lines.slice(0, 40).join("\n"));
  });
  const recoveredMs = await weather(traffic, () => happens(traffic), PATIENCE_MS);
  expect(recoveredMs).toBeLessThan(Infinity);
  const dead = await settled(bench.site, options.stillMs ?? STILL_MS);
  expect(await unexplained(bench, traffic.records)).toEqual([]);
  expect(await leasesRunOut(bench.site)).toBe(dead);
  const verdict = await judgeSite(bench.site, bench.traffic, bench.terms);
  expect(verdict.violations).toEqual([]);
  return traffic.records;
}

/**
 * Reservations left to their lease although their caller got no error. There are rightly some
 * where the gateway died, or where the database did between booking a start and saying so.
 */
async function unexplained({ site, terms }: Bench, records: readonly CallRecord[]): Promise<string[]> {
  const rows = await site.sql`select request_id from eve.inflight`;
  const heard = new Set(
    records.filter(({ tries }) =>
      tries.some((answer) =>
        answer.kind === "lost" || answer.kind === "left" ||
        answer.kind === "refused" && answer.code === "database_unavailable"
      )
    ).map(({ order }) => order.id),
  );
  return rows.map((row) => row.request_id as string).filter((id) => !heard.has(id) && !terms.killed);
}

/** Resolves when so many tries that begin from now on have had such an answer. */
export async function met(
  traffic: Traffic,
  times: number,
  such: (answer: Answered, who: string) => boolean,
): Promise<void> {
  const since = performance.now();
  await until(
    () =>
      traffic.tries.filter(({ who, triedAt, answer }) => triedAt >= since && such(answer, who)).length >=
        times,
    `nobody met this: ${such}`,
  );
}

export const answered = (answer: Answered): boolean => answer.kind === "answered";
export const refusedWith = (code: string) => (answer: Answered): boolean =>
  answer.kind === "refused" && answer.code === code;

/** How often each code was met, over all tries. */
export function codesOf(records: readonly CallRecord[]): Record<string, number> {
  const codes: Record<string, number> = {};
  for (const { tries } of records) {
    for (const answer of tries) {
      if (answer.kind === "refused") codes[answer.code] = (codes[answer.code] ?? 0) + 1;
    }
  }
  return codes;
}
