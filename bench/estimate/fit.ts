/** The weights of shared/gateway/estimate/token_weights.ts, fitted: the least squares of relative errors, none below zero. */
import {
  countFeatures,
  FEATURE_COUNTS,
  flatten,
  type TokenFeature,
  unflatten,
} from "../../shared/gateway/estimate/token_features.ts";
import type { CountTokens } from "./tokenizer.ts";
import type { Sample } from "./corpus.ts";

/**
 * How strongly weights hold on to where they begin, and to their neighbours in a row by length: a feature that is rare in the
 * samples shall not get a weight that only fits those few.
 */
const TOWARDS_START = 0.02;
const TOWARDS_NEIGHBOURS = 0.05;
const ROUNDS = 500;

/** A group's samples count together as these many, so that no group rules because it has many. */
const GROUP_WEIGHT = 60;
const LEAST_GROUP = 20;
/** Beside the kinds that have goals, all other languages matter half. */
const OTHER_SHARE = 0.5;

/**
 * What all weights are raised by: an estimate too low lets a lane run over its limit, and one too high only makes a call
 * wait until its settlement tells the truth. One per cent costs little of the mean error.
 */
const MARGIN = 1.01;

/** What costs tokens by itself costs at least this, however little the samples say about it. */
const LEAST = 0.2;
/** TokenFeatures that come on top of another one, and may add nothing. */
const ADDITIONS = new Set<TokenFeature>([
  "glued",
  "cyrillicTitle",
  "cyrillicGlued",
  "cyrillicCapitals",
  "cyrillicForeign",
  "accent",
]);

/** Rows of features by length. */
const BY_LENGTH: TokenFeature[] = ["word", "title", "capitals", "cyrillic"];

export function fit(
  samples: Sample[],
  count: CountTokens,
): Record<TokenFeature, number[]> {
  const sizes = new Map<string, number>();
  const groupOf = ({ kind, group }: Sample) => `${kind}/${group}`;
  for (const sample of samples) {
    sizes.set(groupOf(sample), (sizes.get(groupOf(sample)) ?? 0) + 1);
  }

  const start = flatten(startingPoint());
  const n = FEATURE_COUNTS;
  // The normal equations, A x = b.
  const A = new Float64Array(n * n);
  const b = new Float64Array(n);
  for (const sample of samples) {
    const share = sample.kind === "other" ? OTHER_SHARE : 1;
    const weight = share * GROUP_WEIGHT /
      Math.max(LEAST_GROUP, sizes.get(groupOf(sample))!);
    const tokens = count(sample.text);
    const row = countFeatures(sample.text).map((value) => value * Math.sqrt(weight) / tokens);
    for (let i = 0; i < n; i++) {
      if (row[i] === 0) continue;
      b[i]! += row[i]! * Math.sqrt(weight);
      for (let j = 0; j < n; j++) A[i * n + j]! += row[i]! * row[j]!;
    }
  }
  for (let i = 0; i < n; i++) {
    A[i * n + i]! += TOWARDS_START;
    b[i]! += TOWARDS_START * start[i]!;
  }
  for (const row of rowsByLength()) {
    for (const [place, i] of row.entries()) {
      const j = row[place + 1];
      if (j === undefined) continue;
      // Towards the step between neighbours that the starting point has.
      const rise = start[j]! - start[i]!;
      A[i * n + i]! += TOWARDS_NEIGHBOURS;
      A[j * n + j]! += TOWARDS_NEIGHBOURS;
      A[i * n + j]! -= TOWARDS_NEIGHBOURS;
      A[j * n + i]! -= TOWARDS_NEIGHBOURS;
      b[i]! -= TOWARDS_NEIGHBOURS * rise;
      b[j]! += TOWARDS_NEIGHBOURS * rise;
    }
  }
  const x = start.slice();
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < n; i++) {
      let slope = b[i]!;
      for (let j = 0; j < n; j++) slope -= A[i * n + j]! * x[j]!;
      x[i] = Math.max(0, x[i]! + slope / A[i * n + i]!);
    }
  }
  const weights = unflatten(x);
  for (const feature of Object.keys(weights) as TokenFeature[]) {
    const least = ADDITIONS.has(feature) ? 0 : LEAST;
    weights[feature] = weights[feature].map((value) =>
      Math.max(least, Math.round(value * MARGIN * 1_000) / 1_000)
    );
  }
  return weights;
}

/** The weights as the module that the gateway imports. */
export function asModule(weights: Record<TokenFeature, number[]>): string {
  const rows = Object.entries(weights).map(([feature, values]) => `  ${feature}: [${values.join(", ")}],`);
  return `import { flatten } from "./token_features.ts";

/**
 * Tokens that each feature costs, fitted on the real Gemma tokenizer, by length where there are several. Made by
 * \`npm run bench:estimate -- --fit\`; docs/estimates.md says how good they are.
 */
export const WEIGHTS = flatten({
${rows.join("\n")}
});
`;
}

/** What a tokenizer with a large vocabulary may be expected to do. */
function startingPoint(): Record<TokenFeature, number[]> {
  const start = unflatten(new Float64Array(FEATURE_COUNTS).fill(0.5));
  const byLength = (known: number, slope: number) => (_: number, place: number) =>
    1 + Math.max(0, place + 1 - known) * slope;
  start.word = start.word.map(byLength(9, 0.12));
  start.title = start.title.map(byLength(8, 0.12));
  start.capitals = start.capitals.map(byLength(3, 0.25));
  start.cyrillic = start.cyrillic.map(byLength(4, 0.17));
  const few: TokenFeature[] = ["glued", "cyrillicGlued", "cyrillicTitle"];
  for (const feature of few) start[feature] = start[feature].map(() => 0.1);
  const one: TokenFeature[] = [
    "digit",
    "digitAfterSpace",
    "lineBreaks",
    "spaces",
    "tabs",
    "mark",
    "marks2",
    "marks3",
    "ruler",
    "symbol",
  ];
  for (const feature of one) start[feature] = [1];
  start.marks4 = [2];
  // A script without pieces of its own goes byte by byte.
  start.other = [1];
  return start;
}

function rowsByLength(): number[][] {
  const places = unflatten(
    Float64Array.from({ length: FEATURE_COUNTS }, (_, place) => place),
  );
  return BY_LENGTH.map((feature) => places[feature]);
}
