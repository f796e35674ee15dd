/** What is said of a run. The definitions are in the head of bench/quota.ts. */
import { median, percentile } from "../statistics.ts";
import type { Served } from "./contender.ts";
import { overtaken } from "./inversions.ts";
import type { Start } from "./lane_history.ts";
import { type Call, type Load, type TrafficClass } from "./load.ts";
import { bestSchedule, delays, startOf } from "./optimum.ts";
import type { Run } from "./run.ts";

const MINUTE_MS = 60_000;
/** Batch spreads what it started at once in its first minute over the second. That is paid once, and no matter of rates. */
const SPREAD_MS = 2 * MINUTE_MS;

export interface ClassFigures {
  calls: number;
  /** Of what the class may use, with windows of 60 s. */
  share_used: number;
  /** The same with windows of 60 s and the guard: what is missing here is not the guard's. */
  share_used_within_guard: number;
  median_delay_ms: number;
  p99_delay_ms: number;
  /** From the first wish to the start, be it because of the limits or of the line. */
  median_wait_ms: number;
  p95_wait_ms: number;
}

export interface RunFigures {
  classes: Partial<Record<TrafficClass, ClassFigures>>;
  refused_by_emulator: number;
  /** Overtaken on the call's own project. */
  inversions: number;
  /** Only by a place on another one, which came free after the overtaken call had been given its own. No goal: see bench/quota.ts. */
  inversions_on_other_projects: number;
  sent_back: number;
  failed: number;
  /** Plain arithmetic: starts and tokens over limit times time. */
  share_of_rpm: number;
  share_of_tpm: number;
}

export function figuresOf(load: Load, run: Run, guardMs: number): RunFigures {
  const { journal, projects, startMs, refused } = run;
  const served = journal.served.toSorted((a, b) => a.startedAt - b.startedAt || a.place - b.place);
  const delayOf = delays(served, projects, MINUTE_MS + guardMs, load.limits);
  const classes: RunFigures["classes"] = {};
  for (const { class: of, arrivals } of load.classes) {
    const own = served.filter((call) => call.class === of);
    const other = Array.from(
      { length: projects },
      (_, lane) =>
        served.filter((call) => call.class !== of && call.lane === lane).map(
          startOf,
        ),
    );
    const share = (windowMs: number) =>
      arrivals.kind === "saturating"
        ? shareOfTime(load, own, other, startMs + SPREAD_MS, windowMs)
        : shareOfCalls(load, run, own, windowMs);
    const waits = own.map((call) => call.startedAt - call.wantedAt);
    const late = own.map((call) => delayOf.get(call)!);
    classes[of] = {
      calls: own.length,
      share_used: rounded(share(MINUTE_MS)),
      share_used_within_guard: rounded(share(MINUTE_MS + guardMs)),
      median_delay_ms: median(late),
      p99_delay_ms: percentile(late, 0.99),
      median_wait_ms: median(waits),
      p95_wait_ms: percentile(waits, 0.95),
    };
  }
  const inversions = overtaken(served);
  // The first minute's worth comes on top of what time brings, so the calls of the first minute are left out.
  const later = served.filter((call) => call.startedAt >= startMs + MINUTE_MS);
  const minutes = projects * (served.at(-1)!.startedAt - startMs) / MINUTE_MS;
  return {
    classes,
    refused_by_emulator: refused,
    inversions: inversions.same_project,
    inversions_on_other_projects: inversions.other_project,
    sent_back: journal.sentBack.length,
    failed: journal.failed,
    share_of_rpm: rounded(later.length / (load.limits.rpm * minutes)),
    share_of_tpm: rounded(
      later.reduce((sum, call) => sum + call.real, 0) /
        (load.limits.tpm * minutes),
    ),
  };
}

/**
 * The time that the best schedule takes for the same calls in the order of arrival, over the time they took. From an
 * instant on: what has started before stands where it stood.
 */
export function shareOfTime(
  load: Load,
  own: Served[],
  others: Start[][],
  sinceMs: number,
  windowMs: number,
): number {
  const later = own.filter((call) => call.startedAt >= sinceMs);
  const before = others.map((_, lane) =>
    own.filter((call) => call.startedAt < sinceMs && call.lane === lane).map(
      startOf,
    )
  );
  // Somebody is always waiting.
  const best = bestSchedule(
    later.toSorted((a, b) => a.place - b.place).map((call) => ({
      tokens: call.real,
      class: call.class,
      from: sinceMs,
    })),
    others,
    windowMs,
    load.limits,
    before,
  ).sort((a, b) => a - b);
  // Over a minute, so that it does not hang on the very last call.
  const last = later.findIndex((call) => call.startedAt > later.at(-1)!.startedAt - MINUTE_MS);
  const since = (sum: number, at: number) => sum + at - sinceMs;
  return best.slice(last).reduce(since, 0) /
    later.slice(last).map((call) => call.startedAt).reduce(since, 0);
}

/**
 * Calls that started, over those that the best schedule would have started, had only they been there. Of those who came in
 * the last minute nothing can be said: whom the limits make wait, they make wait up to a minute.
 */
function shareOfCalls(
  load: Load,
  run: Run,
  own: Served[],
  windowMs: number,
): number {
  const came = (call: Call) => call.wantedAt < run.endMs - MINUTE_MS;
  const wanted = run.journal.wanted.filter((call) => call.class === own[0]?.class && came(call));
  const best = bestSchedule(
    wanted.map((call) => ({
      tokens: call.real,
      class: call.class,
      from: call.wantedAt,
    })),
    Array.from({ length: run.projects }, () => []),
    windowMs,
    load.limits,
  );
  return own.filter(came).length / best.filter((at) => at <= run.endMs).length;
}

const rounded = (share: number): number => Math.round(share * 10_000) / 10_000;
