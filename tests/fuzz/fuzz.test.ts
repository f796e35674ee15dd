/** A fixed seed and number of cases: the same cases each time. `npm run fuzz` goes on with others. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { PROPERTIES, statusesOfSamples } from "./properties.ts";

const SEED = 12;

test("what is spoilt begins as requests that are answered", async () => {
  const statuses = Object.values(await statusesOfSamples());
  expect(statuses.map((each) => each[0]!)).toEqual([...Array(11).fill(200), 400]);
  expect(statuses.flat().filter((status) => status !== 200)).toHaveLength(6);
});

test.each(PROPERTIES)("$name", async ({ property, cases }) => {
  await fc.assert(property, { seed: SEED, numRuns: cases });
});
