/**
 * `npm run bench:intake -- [--json] [--only=PART]`: what intake costs. Parts: `canonical` (URLs a second beside normalize-url), `updates` (of
 * Telegram, taken in a second beside bare inserts, without posts and with 1,000,000), `neighbours` (of the graph, in 1,000,000 edges, beside a
 * bare join).
 * Each part answers with figures, ratios and goals; a ratio's goal is the least that it should be.
 */
import { canonical } from "./intake/canonical.ts";
import { neighbours } from "./intake/neighbours.ts";
import type { Part } from "./intake/part.ts";
import { updates } from "./intake/updates.ts";

/** Later parts stand beside the others. */
const PARTS: Readonly<Record<string, () => Promise<Part>>> = {
  canonical,
  updates,
  neighbours,
};

const json = Deno.args.includes("--json");
const only = Deno.args.find((argument) => argument.startsWith("--only="))
  ?.slice("--only=".length);
if (only !== undefined && !Object.hasOwn(PARTS, only)) {
  console.error(`There is no part ${only}: ${Object.keys(PARTS).join(", ")}`);
  Deno.exit(2);
}

const outcome: Part & { met: boolean } = {
  figures: {},
  ratios: {},
  goals: {},
  met: true,
};
for (const [name, run] of Object.entries(PARTS)) {
  if (only !== undefined && name !== only) continue;
  console.error(`${name} ...`);
  const { figures, ratios, goals } = await run();
  outcome.figures[name] = figures;
  Object.assign(outcome.ratios, ratios);
  Object.assign(outcome.goals, goals);
}
outcome.met = Object.entries(outcome.goals).every(([name, goal]) => {
  const ratio = outcome.ratios[name];
  return ratio !== undefined &&
    ("least" in goal ? ratio >= goal.least : ratio <= goal.most);
});
console.log(JSON.stringify(outcome, null, json ? 0 : 2));
