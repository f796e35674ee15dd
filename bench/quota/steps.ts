/**
 * The person goes first: batch saturates a pool for some quiet minutes, then interactive callers come at a share of its
 * capacity from one moment to the next. How long do they wait, in the first minute and in those after?
 */
import { median, percentile } from "../statistics.ts";
import type { MakeContender, Served } from "./contender.ts";
import { shareOfTime } from "./figures.ts";
import { overtaken } from "./inversions.ts";
import { startOf } from "./optimum.ts";
import type { Call, Load } from "./load.ts";
import { type Run, runAgainstEach } from "./run.ts";

const MINUTE_MS = 60_000;
/** So long batch has saturated the pool before interactive callers come; at 0 both come to empty lanes at once. */
const QUIET_MINUTES = [3, 10, 0];
/** After the last caller has come, so that the last ones can be answered. */
const LAST_MINUTES = 2;
const RPM = [5, 15, 30];
const PROJECTS = [1, 2, 5];
const SHARES = [0.05, 0.25, 0.5];
/** So many interactive calls come in the first minute over all seeds together, about: fewer have no median worth the name. */
const CALLS_IN_FIRST_MINUTE = 20;
/** Small prompts on either side, so that requests are what is scarce, and none is large enough to be counted first. */
const TOKENS = [100, 400] as const;

export interface Waits {
  calls: number;
  /** Never told to come back later, and started before the run ended. */
  answered: number;
  /** In start intervals of the pool: 60 s over the starts a minute of all its projects. */
  median_wait_intervals: number;
  p95_wait_intervals: number;
  longest_wait_ms: number;
}

export interface StepFigures {
  arrivals: "even" | "poisson";
  rpm: number;
  projects: number;
  /** Of the pool's capacity: what interactive callers ask for. */
  step: number;
  quiet_minutes: number;
  /** `every`: none of them refused anything, and then nothing depends on them. */
  window: string;
  seeds: number;
  first_minute: Waits;
  ten_minutes: Waits;
  /** Of what interactive callers left to batch since the step, with windows of 60 s; the mean over the seeds. */
  share_used: number;
  refused_by_emulator: number;
  inversions: number;
  inversions_on_other_projects: number;
}

/** For evenly spaced arrivals. */
export const STEP_GOALS = {
  answered_share_at_least: 1,
  median_wait_intervals_at_most: 0.5,
  p95_wait_intervals_at_most: 2,
  share_used_at_least: 0.985,
  refused_by_emulator_at_most: 0,
  inversions_at_most: 0,
} as const;

export interface StepCase {
  arrivals: StepFigures["arrivals"];
  rpm: number;
  projects: number;
  step: number;
  quiet_minutes: number;
  seeds: number;
  /** After the step. */
  minutes: number;
}

/** @param quick evenly spaced arrivals in pools of up to 75 a minute, and four minutes after the step in place of eleven */
export function stepCases(quick: boolean): StepCase[] {
  const all = (["even", "poisson"] as const).flatMap((arrivals) =>
    RPM.flatMap((rpm) =>
      // What has no goal is told for one project.
      PROJECTS.filter((projects) => arrivals === "even" || projects === 1)
        .flatMap((projects) =>
          SHARES.flatMap((step) =>
            QUIET_MINUTES.map((quiet_minutes) => ({
              arrivals,
              rpm,
              projects,
              step,
              quiet_minutes,
              seeds: Math.max(
                1,
                Math.round(CALLS_IN_FIRST_MINUTE / (rpm * projects * step)),
              ),
              minutes: quiet_minutes > 0 ? 11 : 3,
            }))
          )
        )
    )
  );
  if (!quick) return all;
  return all
    .filter(({ arrivals, rpm, projects }) => arrivals === "even" && rpm * projects <= 75)
    .map((one) => ({
      ...one,
      seeds: Math.min(one.seeds, 4),
      minutes: Math.min(one.minutes, 4),
    }));
}

export function stepLoad(
  { arrivals, rpm, step, quiet_minutes, minutes }: StepCase,
): Load {
  return {
    name: `${arrivals} step to ${100 * step} %`,
    minutes: quiet_minutes + minutes + LAST_MINUTES,
    limits: { rpm, tpm: Math.ceil(rpm * 16_000 / 30), rpd: 14_400 },
    classes: [
      {
        class: "batch",
        // As many as always leave some in line, and no more: at half of the lane none waits longer than a caller may ask for.
        arrivals: {
          kind: "saturating",
          clients: Math.max(3, Math.ceil(0.75 * rpm)),
        },
        tokens: TOKENS,
      },
      {
        class: "interactive",
        arrivals: {
          kind: arrivals,
          perMinute: step * rpm,
          fromMinute: quiet_minutes,
          untilMinute: quiet_minutes + minutes,
        },
        tokens: TOKENS,
      },
    ],
  };
}

/** The case against each window, with all its seeds; one answer for all windows that made no difference. */
export async function measureStep(
  of: StepCase,
  seed: number,
  make: MakeContender,
): Promise<StepFigures[]> {
  const load = stepLoad(of);
  const runs: Record<string, Run[]> = {};
  for (let n = 0; n < of.seeds; n++) {
    for (
      const { shape, run } of await runAgainstEach(
        load,
        of.projects,
        seed + 100 * n,
        make,
      )
    ) {
      (runs[shape] ??= []).push(run);
    }
  }
  const shapes = Object.entries(runs);
  const same = shapes.every(([, of]) => of.every((run, n) => run === shapes[0]![1][n]));
  return (same ? shapes.slice(0, 1) : shapes).map(([shape, runs]) =>
    stepFigures(of, load, runs, same ? "every" : shape)
  );
}

export function stepFigures(
  of: StepCase,
  load: Load,
  runs: readonly Run[],
  window: string,
): StepFigures {
  const { arrivals, rpm, projects, step, quiet_minutes, seeds, minutes } = of;
  const count = { same_project: 0, other_project: 0 };
  for (const { journal } of runs) {
    const inversions = overtaken(journal.served);
    count.same_project += inversions.same_project;
    count.other_project += inversions.other_project;
  }
  const interval = MINUTE_MS / (rpm * projects);
  return {
    arrivals,
    rpm,
    projects,
    step,
    quiet_minutes,
    window,
    seeds,
    first_minute: waitsOf(runs, interval, quiet_minutes, quiet_minutes + 1),
    ten_minutes: waitsOf(
      runs,
      interval,
      quiet_minutes + 1,
      quiet_minutes + minutes,
    ),
    share_used: rounded(
      runs.reduce((sum, run) => sum + shareOf(load, run, quiet_minutes), 0) /
        runs.length,
      4,
    ),
    refused_by_emulator: runs.reduce((sum, run) => sum + run.refused, 0),
    inversions: count.same_project,
    inversions_on_other_projects: count.other_project,
  };
}

function waitsOf(
  runs: readonly Run[],
  interval: number,
  fromMinute: number,
  untilMinute: number,
): Waits {
  const waits: number[] = [];
  let calls = 0;
  for (const { journal, startMs } of runs) {
    const came = (call: Call) =>
      call.class === "interactive" &&
      call.wantedAt >= startMs + fromMinute * MINUTE_MS &&
      call.wantedAt < startMs + untilMinute * MINUTE_MS;
    const sentBack = new Set(journal.sentBack.map((call) => call.no));
    calls += journal.wanted.filter(came).length;
    for (const call of journal.served) {
      if (came(call) && !sentBack.has(call.no)) {
        waits.push(call.startedAt - call.wantedAt);
      }
    }
  }
  return {
    calls,
    answered: waits.length,
    median_wait_intervals: rounded(median(waits) / interval, 2),
    p95_wait_intervals: rounded(percentile(waits, 0.95) / interval, 2),
    longest_wait_ms: Math.max(0, ...waits),
  };
}

function shareOf(
  load: Load,
  { journal, projects, startMs }: Run,
  quietMinutes: number,
): number {
  const served = journal.served.toSorted((a, b) => a.startedAt - b.startedAt || a.place - b.place);
  const batch = served.filter((call) => call.class === "batch");
  const people = Array.from(
    { length: projects },
    (_, lane) =>
      served.filter((call: Served) => call.class === "interactive" && call.lane === lane).map(startOf),
  );
  return shareOfTime(
    load,
    batch,
    people,
    startMs + quietMinutes * MINUTE_MS,
    MINUTE_MS,
  );
}

/** One line for each goal that a case misses; what has none is left out. */
export function missedStepGoals(all: readonly StepFigures[]): string[] {
  return all.filter(({ arrivals }) => arrivals === "even").flatMap(
    (figures) => {
      const {
        rpm,
        projects,
        step,
        quiet_minutes,
        window,
        first_minute,
        ten_minutes,
      } = figures;
      const where = `${rpm} RPM, ${projects} project(s), step to ${
        100 * step
      } % after ${quiet_minutes} quiet minutes, ${window} window`;
      const missed: string[] = [];
      for (
        const [name, waits] of Object.entries({ first_minute, ten_minutes })
      ) {
        if (waits.answered < waits.calls) {
          missed.push(`${name}: ${waits.answered} of ${waits.calls} answered`);
        }
        for (
          const figure of [
            "median_wait_intervals",
            "p95_wait_intervals",
          ] as const
        ) {
          const goal = STEP_GOALS[`${figure}_at_most`];
          if (waits[figure] > goal) {
            missed.push(
              `${name}: ${figure} ${goal}, but ${waits[figure]}`,
            );
          }
        }
      }
      // The first minute of all has a window's worth of starts to spare, which the best schedule takes at once.
      if (
        quiet_minutes > 0 && figures.share_used < STEP_GOALS.share_used_at_least
      ) {
        missed.push(
          `share_used ${STEP_GOALS.share_used_at_least}, but ${figures.share_used}`,
        );
      }
      for (const figure of ["refused_by_emulator", "inversions"] as const) {
        if (figures[figure] > 0) {
          missed.push(
            `${figure} 0, but ${figures[figure]}`,
          );
        }
      }
      return missed.map((line) => `${where}: ${line}`);
    },
  );
}

/** The figures that are furthest from each goal, over the cases given. */
export function worstOfSteps(all: readonly StepFigures[]) {
  const waits = all.flatMap((
    { first_minute, ten_minutes },
  ) => [first_minute, ten_minutes])
    .filter(({ calls }) => calls > 0);
  return {
    cases: all.length,
    calls: waits.reduce((sum, { calls }) => sum + calls, 0),
    unanswered: waits.reduce(
      (sum, { calls, answered }) => sum + calls - answered,
      0,
    ),
    median_wait_intervals: Math.max(
      ...waits.map((one) => one.median_wait_intervals),
    ),
    p95_wait_intervals: Math.max(...waits.map((one) => one.p95_wait_intervals)),
    share_used: Math.min(
      ...all.filter((one) => one.quiet_minutes > 0).map((one) => one.share_used),
    ),
    refused_by_emulator: Math.max(...all.map((one) => one.refused_by_emulator)),
    inversions: Math.max(...all.map((one) => one.inversions)),
  };
}

export function stepLine(figures: StepFigures): string {
  const waits = (
    { calls, answered, median_wait_intervals, p95_wait_intervals }: Waits,
  ) => `${answered}/${calls} median ${median_wait_intervals} p95 ${p95_wait_intervals}`;
  return `  ${figures.arrivals.padEnd(7)} ${String(figures.rpm).padStart(2)} RPM x ${figures.projects} to ${
    String(100 * figures.step).padStart(2)
  } % after ${figures.quiet_minutes}  first minute ${waits(figures.first_minute)}; then ${
    waits(figures.ten_minutes)
  }; used ${
    (100 * figures.share_used).toFixed(1)
  } %, refused ${figures.refused_by_emulator}, overtaken ${figures.inversions} (${figures.inversions_on_other_projects} elsewhere), ${figures.window} window`;
}

const rounded = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits;
