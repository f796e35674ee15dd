/**
 * npm run fuzz [-- --minutes N] [--seed N]: the properties of this folder in turn, a batch of random cases each, for ten
 * minutes. Prints the seed first, a failing case made as small as may be, and how many cases there were.
 */
import fc from "fast-check";
import { PROPERTIES } from "./properties.ts";

/** Small enough that all of them have their turn in a minute. */
const BATCH = 200;

const given = Deno.args.flatMap((arg) => arg.split(/=(.*)/s).filter((part) => part !== ""));
const asked = { minutes: 10, seed: Math.floor(Math.random() * 1_000_000) };
for (let n = 0; n < given.length; n += 2) {
  const value = Number(given[n + 1]);
  if (given[n] === "--minutes" && value > 0) asked.minutes = value;
  else if (given[n] === "--seed" && Number.isInteger(value)) asked.seed = value;
  else {
    console.error(`Not understood: ${given[n]}. There are --minutes N and --seed N.`);
    Deno.exit(2);
  }
}

console.log(`seed ${asked.seed}, ${asked.minutes} min; the same again: npm run fuzz -- --seed ${asked.seed}`);
const end = performance.now() + asked.minutes * 60_000;
const tried = new Map<string, number>();
const failed = new Set<string>();
const unhandled: string[] = [];
globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  unhandled.push(String(event.reason?.stack ?? event.reason));
});
for (let round = 0; performance.now() < end; round++) {
  for (const { name, property } of PROPERTIES) {
    if (performance.now() >= end || failed.has(name)) continue;
    const seed = asked.seed + round;
    const result = await fc.check(property, { seed, numRuns: BATCH });
    tried.set(name, (tried.get(name) ?? 0) + result.numRuns);
    if (!result.failed) continue;
    failed.add(name);
    console.error(
      `\n${name}, seed ${seed}:\n${await fc.asyncDefaultReportMessage(result)}\n${result.errorInstance}`,
    );
  }
}
for (const [name, cases] of tried) {
  console.log(`${String(cases).padStart(9)}  ${name}${failed.has(name) ? "  FAILED" : ""}`);
}
const sum = [...tried.values()].reduce((sum, cases) => sum + cases, 0);
console.log(
  `${
    String(sum).padStart(9)
  }  cases, ${failed.size} properties failed, ${unhandled.length} errors that nobody handled`,
);
for (const error of unhandled.slice(0, 5)) console.error(error);
Deno.exit(failed.size + unhandled.length > 0 ? 1 : 0);
