/**
 * `npm run bench:quota -- [--json] [--quick] [--only=use|steps] [--migrations=<folder>]` or `-- --real-time [--minutes=N]`: how much of Google's quota is really used, and what it costs.
 *
 * Saturating clients (and people beside them) call a model of 30 requests and 16,000 input tokens a minute in 1, 2 and 5 quota
 * projects, through the gateway's admission and through what a user would otherwise have. Google is the emulator's own quota
 * engine with a fixed minute (at a random second), a sliding window and a token bucket. Prompts differ in size, estimates are
 * wrong by up to 30 % either way (by 15 % where prompts have 30 to 4,000 tokens), calls reach Google up to 150 ms late, answers take 2 to 10 s. Time is simulated: every load
 * lasts at least 20 minutes; the database is a real PostgreSQL with the real migrations and its clock moved by hand, so a
 * call of the database takes no time here (`bench:admission` measures that).
 *
 * What the figures mean:
 *
 * - share_used: how much of what a class may use was used. The time that the best schedule needs for the same calls, over the
 *   time they took; for the same calls in the same time that is the ratio of their rates, without an error at the edges.
 *   The best schedule knows all real numbers of tokens beforehand and somebody is always waiting; it serves first come, first
 *   served, each call on the project where it can start first, in windows of exactly 60 s that end at any instant. It is not
 *   measured against "limit times minutes" since prompts cannot be cut: while the next one does not fit, what is left of the
 *   minute is nobody's (`share_of_rpm` and `share_of_tpm` say what that plain arithmetic gives).
 *   Told from the third minute on: batch spreads what it started at once in its first minute over the second, and that is paid
 *   once. `batch` may use all that interactive callers leave (guarantee G5): their starts stand where they stood, and each of them
 *   has its room. People do not saturate: their share is calls started over calls that the best
 *   schedule would have started, had it only them to serve; who came in the last minute is left out.
 *   More than 1 is possible where Google's window is laxer than any 60 s: twice the limit fits around the edge of a fixed minute, and
 *   a client that uses that gains up to a minute's worth a run, and is refused if the window slides.
 * - share_used_within_guard: the same against windows of 60 s and the guard (250 ms). The difference between the two is what the
 *   guard costs: 250 / 60,250 = 0.4 %. It is paid to have no refusals, so the goal for share_used includes it.
 * - refused_by_emulator: calls answered with 429. A run against several windows at once is one run as long as none refuses.
 * - inversions: calls that were overtaken on their own project by one of their class that came later. A call has come when the
 *   contender took it on: a caller that was sent back (its wait would have been longer than it asked for: 100 s) has no place in
 *   the line.
 * - inversions_on_other_projects: calls of which a later one of their class started earlier on another project, in a place made for
 *   as many tokens or more. That place came free (a prompt turned out smaller than booked) after the overtaken call had been told
 *   its start; it sleeps until then and cannot be moved. To hold the place back from everybody would waste it and start nobody
 *   earlier, so the gateway does not, and this is a figure without a goal. (A small prompt that fits where the large one before it
 *   does not is not counted.)
 * - delay: how much later a call started than it could have, everything else being as it was: once it was wanted, not before those of
 *   its class ahead of it on the project, and as soon as a strict window (60 s and the guard) of some project had room beside
 *   what had really started by then. So losses do not add up from call to call, as they do in share_used. Time on the network is in nobody's delay.
 * - wait: from the first wish to the start, whatever the reason.
 *
 * `person_first` (bench/quota/steps.ts): batch saturates pools of 1, 2 and 5 projects with 5, 15 and 30 starts a minute each. After 3 or 10
 * quiet minutes, or none, interactive callers come at 5, 25 or 50 % of the pool's capacity, evenly as a bot does, each late by up to half a
 * period. Their waits are told in start intervals of the pool (60 s over all its starts a minute), for the first minute and for the
 * ten after it. Poisson arrivals at the same rates have no goal: where places come free at regular times and half of them are wanted,
 * the queue alone (M/D/1 with a server that is never idle) takes the median to 0.8 and the 95th percentile to 2.6.
 *
 * The goals, each to be met in every run of the gateway: share_used at least 0.985 for each class, no refusal, no inversion, median
 * delay of interactive callers under 20 ms (batch leaves each place free for a moment on purpose, so its delay is told without a
 * goal); of evenly spaced callers all answered, a median wait of at most half an interval, a 95th percentile of at most two.
 * `goals` has the worst figure beside each; `met` is their conjunction in a full run: one that was quick or had `--only` has measured a
 * part of them, and `missed` says what of it failed.
 */
import type { MakeContender } from "./quota/contender.ts";
import { figuresOf, type RunFigures } from "./quota/figures.ts";
import { gateway, type Ledger, openLedger } from "./quota/gateway.ts";
import { loads } from "./quota/load.ts";
import { localBuckets, minuteCounter, roundRobin } from "./quota/peers.ts";
import { runAgainstEach } from "./quota/run.ts";
import {
  measureStep,
  missedStepGoals,
  STEP_GOALS,
  stepCases,
  type StepFigures,
  stepLine,
  worstOfSteps,
} from "./quota/steps.ts";
import { realTime } from "./quota/real_time.ts";
import { type MeasuredRun, missedGoals, ratiosTo, summaryOf, table, verdictsOn } from "./quota/report.ts";

/** Simulated minutes. Few large prompts fit a minute, so these runs are longer. */
const MINUTES = { requests: 20, tokens: 40 };
const QUICK_MINUTES = { requests: 5, tokens: 8 };
const PROJECTS = [1, 2, 5];
const SEED = 1;
/** Scratch databases for cases beside each other. */
const LEDGERS = Math.max(2, navigator.hardwareConcurrency);

const json = Deno.args.includes("--json");
const only = Deno.args.find((arg) => arg.startsWith("--only="))?.split("=")[1];
const quick = Deno.args.includes("--quick");
const migrations = Deno.args.find((arg) => arg.startsWith("--migrations="))
  ?.split("=")[1];
/** Of a real-time run, beside the minute before the bot comes. */
const minutes = Number(Deno.args.find((arg) => arg.startsWith("--minutes="))?.split("=")[1] ?? 4);
const unknown = Deno.args.find((arg) =>
  !/^--(json|quick|real-time|minutes=[1-9]\d{0,2}|only=(use|steps)|migrations=.+)$/.test(arg)
);
if (unknown) {
  console.error(
    `Unknown argument ${unknown}: --json, --quick, --only=use, --only=steps, --real-time, --minutes=N and --migrations=<folder with supabase/> are known.`,
  );
  Deno.exit(2);
}
const say = (line: string) => json ? console.error(line) : console.log(line);

if (Deno.args.includes("--real-time")) {
  const figures = await realTime(minutes, (line) => console.error(line));
  console.log(JSON.stringify({
    benchmark: "quota, real time",
    machine: {
      cpus: navigator.hardwareConcurrency,
      system: `${Deno.build.os} ${Deno.build.arch}`,
      deno: Deno.version.deno,
    },
    figures,
  }));
  Deno.exit(0);
}

const began = performance.now();
const ledgers: Ledger[] = [];
for (let n = 0; n < (only === "use" ? 1 : LEDGERS); n++) {
  ledgers.push(await openLedger(migrations));
}
const ledger = ledgers[0]!;
const measured: Record<string, MeasuredRun[]> = {};
const steps: StepFigures[] = [];
try {
  const contenders: Record<string, MakeContender> = {
    gateway: (world) => gateway(ledger, world),
    minute_counter: minuteCounter,
    local_buckets: localBuckets,
    round_robin: roundRobin,
  };
  for (
    const load of only === "steps" ? [] : loads(quick ? QUICK_MINUTES : MINUTES)
  ) {
    for (const projects of PROJECTS) {
      for (const [name, make] of Object.entries(contenders)) {
        const runs = await runAgainstEach(load, projects, SEED, make);
        const known = new Map(
          runs.map(({ run }) => [run, undefined as RunFigures | undefined]),
        );
        for (const { shape, run } of runs) {
          const figures = known.get(run) ??
            figuresOf(load, run, ledger.guardMs);
          known.set(run, figures);
          (measured[name] ??= []).push({
            load: load.name,
            projects,
            window: shape,
            ...figures,
          });
        }
      }
      say(table(load.name, projects, measured));
    }
  }
  // Each case is a world of its own, so several run beside each other.
  const cases = only === "use" ? [] : stepCases(quick);
  const results: StepFigures[][] = cases.map(() => []);
  let next = 0;
  await Promise.all(ledgers.map(async (own) => {
    for (let place = next++; place < cases.length; place = next++) {
      results[place] = await measureStep(
        cases[place]!,
        SEED,
        (world) => gateway(own, world),
      );
      for (const figures of results[place]!) say(stepLine(figures));
    }
  }));
  steps.push(...results.flat());
} finally {
  for (const one of ledgers) await one.close();
}

const summaries = Object.fromEntries(
  Object.entries(measured).map(([name, runs]) => [name, summaryOf(runs)]),
);
const missed = [
  ...missedGoals(measured.gateway ?? []),
  ...missedStepGoals(steps),
];
for (const line of missed) say(`missed: ${line}`);
console.log(JSON.stringify({
  benchmark: "quota",
  machine: {
    cpus: navigator.hardwareConcurrency,
    system: `${Deno.build.os} ${Deno.build.arch}`,
    deno: Deno.version.deno,
    postgres: ledger.version,
    seconds: Math.round((performance.now() - began) / 1_000),
  },
  quick,
  ...(measured.gateway && {
    figures: { ...summaries, runs: measured.gateway },
    ratios: ratiosTo(summaries),
    goals: verdictsOn(measured.gateway),
  }),
  ...(steps.length > 0 && {
    person_first: {
      goals: STEP_GOALS,
      worst: worstOfSteps(steps.filter(({ arrivals }) => arrivals === "even")),
      cases: steps,
    },
  }),
  missed,
  // A part, or a quick run, has not measured all that the goals are about.
  met: missed.length === 0 && only === undefined && !quick,
}));
Deno.exit(0);
