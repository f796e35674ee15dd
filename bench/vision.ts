/**
 * `npm run bench:vision -- [--json] [--quick]`: what pictures cost, and how much of a quota those that wait use.
 *
 *   policy  decisions a second of one core, beside reading the facts of each as JSON. Goal: 200,000.
 *   cache   results found again among the files in the database, a second of one core of the function, beside one statement and the check
 *           of a result alone. PostgreSQL's own part is not in it. Goal: 200.
 *   use     in simulated time: 1,000 pictures that wait, over three lanes of 30 starts a minute, through worker, policy, budget and gateway
 *           to the emulator. Goals: 98.5 % of the starts that there are from the third minute on, no call that the emulator refuses, and
 *           none beyond the published limits by a check of its journal that shares no code with its quota.
 *
 * Costs are by the processor time of this process, which others on the machine do not change by much; `use` not at all.
 */
import { withFilledCluster } from "./filled_cluster.ts";
import { benchOptions } from "./options.ts";
import { cacheHits, decisions } from "./vision/cost.ts";
import { visionUse } from "./vision/use.ts";

const GOALS = {
  decisions_per_core_second: 200_000,
  cache_hits_per_core_second: 200,
  share_used: 0.985,
  refused_by_emulator: 0,
  breaches: 0,
};

const { json, quick } = benchOptions();
const say = (line: string) => console[json ? "error" : "log"](line);

const DECISIONS = quick ? 20_000 : 200_000;
const HITS = quick ? 200 : 1_000;
const PICTURES = quick ? 400 : 1_000;

const policy = await decisions(DECISIONS);
say(`policy: ${JSON.stringify(policy)}`);
const { cache, use } = await withFilledCluster(
  () => Promise.resolve(),
  async (url) => {
    const cache = await cacheHits(url, HITS);
    say(`cache: ${JSON.stringify(cache)}`);
    const use = await visionUse(url, PICTURES);
    say(`use: ${JSON.stringify(use)}`);
    return { cache, use };
  },
);
const round = (value: number) => Math.round(1_000 * value) / 1_000;
const met = {
  policy: policy.decisions >= GOALS.decisions_per_core_second,
  cache: cache.hits >= GOALS.cache_hits_per_core_second && cache.missed === 0,
  use: use.share_used >= GOALS.share_used && use.done === use.pictures,
  limits: use.refused_by_emulator === GOALS.refused_by_emulator &&
    use.breaches === GOALS.breaches,
};
const said = {
  bench: "vision",
  machine: {
    cores: navigator.hardwareConcurrency,
    deno: Deno.version.deno,
    postgres: 17,
  },
  figures: {
    decisions_per_core_second: Math.round(policy.decisions),
    cache_hits_per_core_second: Math.round(cache.hits),
    use,
  },
  ratios: {
    decisions_over_rows_read: round(policy.decisions / policy.rows_read),
    hits_over_one_statement: round(cache.hits / cache.floor),
  },
  goals: GOALS,
  met_by_goal: met,
  met: Object.values(met).every((one) => one),
};
console.log(json ? JSON.stringify(said) : JSON.stringify(said, null, 2));
Deno.exit(said.met ? 0 : 1);
