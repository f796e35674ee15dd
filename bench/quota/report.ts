/** From runs to what is printed, and whether the goals were met. */
import { median } from "../statistics.ts";
import type { ClassFigures, RunFigures } from "./figures.ts";
import type { TrafficClass } from "./load.ts";

export interface MeasuredRun extends RunFigures {
  load: string;
  projects: number;
  window: string;
}

/** Each holds for every run and class of the gateway; the delay for interactive callers: batch leaves places free for a moment. */
const GOALS = {
  share_used_at_least: 0.985,
  refused_by_emulator_at_most: 0,
  inversions_at_most: 0,
  interactive_median_delay_ms_below: 20,
} as const;

/** A goal, the figure of the run that is furthest from it, and whether that one meets it. */
export interface Verdict {
  goal: number;
  worst: number;
  met: boolean;
}

export interface Summary {
  /** Over all runs and classes. */
  share_used_worst: number;
  share_used_mean: number;
  /** Nobody knows which of them is Google's, so the smallest counts. */
  share_used_by_window: Record<string, number>;
  /** The part of what is missing that the guard takes. */
  guard_cost: number;
  calls: number;
  refused_by_emulator: number;
  refused_per_1000_calls: number;
  inversions: number;
  inversions_on_other_projects: number;
  inversions_per_1000_calls: number;
  interactive_median_delay_ms_worst: number;
  batch_median_delay_ms_worst: number;
  median_delay_ms_typical: number;
  /** People beside a saturating batch. */
  people_median_wait_ms: number;
  people_p95_wait_ms_worst: number;
  sent_back_per_1000_calls: number;
}

const classesOf = (run: MeasuredRun) => Object.entries(run.classes) as [string, ClassFigures][];
const where = (run: MeasuredRun) => `${run.load}, ${run.projects} project(s), ${run.window} window`;

/** Each goal against the run that is furthest from it. */
export function verdictsOn(
  runs: readonly MeasuredRun[],
): Record<keyof typeof GOALS, Verdict> {
  const classes = runs.flatMap((run) => classesOf(run).map(([, figures]) => figures));
  const share = Math.min(...classes.map((figures) => figures.share_used));
  const refused = Math.max(...runs.map((run) => run.refused_by_emulator));
  const inversions = Math.max(...runs.map((run) => run.inversions));
  const delay = Math.max(
    0,
    ...runs.map((run) => run.classes.interactive?.median_delay_ms ?? 0),
  );
  const {
    share_used_at_least,
    refused_by_emulator_at_most,
    inversions_at_most,
    interactive_median_delay_ms_below,
  } = GOALS;
  return {
    share_used_at_least: {
      goal: share_used_at_least,
      worst: share,
      met: share >= share_used_at_least,
    },
    refused_by_emulator_at_most: {
      goal: refused_by_emulator_at_most,
      worst: refused,
      met: refused <= refused_by_emulator_at_most,
    },
    inversions_at_most: {
      goal: inversions_at_most,
      worst: inversions,
      met: inversions <= inversions_at_most,
    },
    interactive_median_delay_ms_below: {
      goal: interactive_median_delay_ms_below,
      worst: delay,
      met: delay < interactive_median_delay_ms_below,
    },
  };
}

/** One line for each goal that a run misses. */
export function missedGoals(runs: readonly MeasuredRun[]): string[] {
  return runs.flatMap((run) =>
    Object.entries(verdictsOn([run]))
      .filter(([, verdict]) => !verdict.met)
      .map(([name, { goal, worst }]) => `${where(run)}: ${name} ${goal}, but ${worst}`)
  );
}

export function summaryOf(runs: readonly MeasuredRun[]): Summary {
  const classes = runs.flatMap((run) => classesOf(run).map(([, figures]) => figures));
  const people = runs.filter((run) => classesOf(run).length > 1).map((run) => run.classes.interactive!);
  const calls = sum(classes.map((figures) => figures.calls));
  const per1000 = (count: number) => rounded(1_000 * count / calls, 1);
  const refused = sum(runs.map((run) => run.refused_by_emulator));
  const inversions = sum(runs.map((run) => run.inversions));
  return {
    share_used_worst: Math.min(...classes.map((figures) => figures.share_used)),
    share_used_mean: mean(classes),
    share_used_by_window: Object.fromEntries(
      [...new Set(runs.map((run) => run.window))].map((window) => [
        window,
        mean(
          runs.filter((run) => run.window === window).flatMap((run) => Object.values(run.classes)),
        ),
      ]),
    ),
    guard_cost: rounded(
      median(
        classes.map((figures) => figures.share_used_within_guard - figures.share_used).filter((cost) =>
          cost !== 0
        ),
      ),
      4,
    ),
    calls,
    refused_by_emulator: refused,
    refused_per_1000_calls: per1000(refused),
    inversions,
    inversions_on_other_projects: sum(
      runs.map((run) => run.inversions_on_other_projects),
    ),
    inversions_per_1000_calls: per1000(inversions),
    interactive_median_delay_ms_worst: worstDelay(runs, "interactive"),
    batch_median_delay_ms_worst: worstDelay(runs, "batch"),
    median_delay_ms_typical: median(
      classes.map((figures) => figures.median_delay_ms),
    ),
    people_median_wait_ms: median(
      people.map((figures) => figures.median_wait_ms),
    ),
    people_p95_wait_ms_worst: Math.max(
      ...people.map((figures) => figures.p95_wait_ms),
    ),
    sent_back_per_1000_calls: per1000(sum(runs.map((run) => run.sent_back))),
  };
}

/** The gateway's figures over each peer's: shares, with the window that suits each least, and people's waits. */
export function ratiosTo(
  summaries: Record<string, Summary>,
): Record<string, number> {
  const { gateway, ...peers } = summaries;
  return Object.fromEntries(
    Object.entries(peers).flatMap(([name, peer]) => [
      [
        `share_used_over_${name}`,
        rounded(leastShare(gateway!) / leastShare(peer), 3),
      ],
      [
        `people_wait_over_${name}`,
        rounded(
          gateway!.people_p95_wait_ms_worst / peer.people_p95_wait_ms_worst,
          3,
        ),
      ],
    ]),
  );
}

const leastShare = (of: Summary): number => Math.min(...Object.values(of.share_used_by_window));

/** The newest runs of each contender for one load, for people. */
export function table(
  load: string,
  projects: number,
  measured: Record<string, MeasuredRun[]>,
): string {
  const lines = [`\n${load}, ${projects} project(s)`];
  for (const [name, all] of Object.entries(measured)) {
    const runs = all.filter((run) => run.load === load && run.projects === projects);
    const same = runs.every((run) => JSON.stringify(run.classes) === JSON.stringify(runs[0]!.classes));
    for (const run of same ? runs.slice(0, 1) : runs) {
      const classes = classesOf(run).map(([of, figures]) =>
        `${of} ${(100 * figures.share_used).toFixed(1)} % delay ${figures.median_delay_ms} ms wait ${
          (figures.median_wait_ms / 1_000).toFixed(1)
        } s (p95 ${(figures.p95_wait_ms / 1_000).toFixed(0)} s)`
      );
      const window = same ? "every window" : run.window;
      lines.push(
        `  ${name.padEnd(14)} ${window.padEnd(12)} refused ${String(run.refused_by_emulator).padStart(5)}` +
          `  overtaken ${String(run.inversions).padStart(5)}  ${classes.join("; ")}`,
      );
    }
  }
  return lines.join("\n");
}

const worstDelay = (runs: readonly MeasuredRun[], of: TrafficClass): number =>
  Math.max(0, ...runs.map((run) => run.classes[of]?.median_delay_ms ?? 0));
const mean = (of: ClassFigures[]): number =>
  rounded(sum(of.map((figures) => figures.share_used)) / of.length, 4);
const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
const rounded = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits;
