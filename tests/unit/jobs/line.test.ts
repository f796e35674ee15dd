import { expect, test } from "vitest";
import { analystLines, createLines } from "../../../shared/jobs/line.ts";

const MOST = 100_000;

test("of each caller as many calls wait as long as it takes as start within five seconds, and the next when one has left", () => {
  const lines = createLines(MOST);
  const join = (line: string) => lines.join(line, 2_000);
  const [first, second, third] = [join("a"), join("a"), join("a")];
  expect([first, second, third].map(({ waitMs }) => waitMs)).toEqual([MOST, MOST, 5_000]);
  expect(join("b").waitMs).toBe(MOST);
  // It had no place to leave.
  third.leave();
  expect(join("a").waitMs).toBe(5_000);
  second.leave();
  expect(join("a").waitMs).toBe(MOST);
  expect(join("a").waitMs).toBe(5_000);
});

test.each([[12_000, 1], [null, 1], [5_000, 1], [100, 50]])(
  "where a call starts every %s ms, %i of a caller's wait",
  (startEveryMs, staying) => {
    const lines = createLines(MOST);
    const waits = Array.from({ length: 60 }, () => lines.join("a", startEveryMs).waitMs);
    expect(waits.filter((waitMs) => waitMs === MOST)).toHaveLength(staying);
  },
);

test("a picture's call stands in the line of its caller and model; how often the model starts is asked every ten seconds", async () => {
  let now = 0;
  const asked: string[] = [];
  const known: Record<string, number> = { quick: 2_500 };
  const join = analystLines({
    maxWaitMs: MOST,
    startEveryMs: (model) => {
      asked.push(model);
      return model in known ? Promise.resolve(known[model]!) : Promise.reject(new Error("away"));
    },
    clock: { now: () => now },
  });
  const caller = (consumerId: string) =>
    ({ kind: "service", consumerId, tokenId: null, name: consumerId }) as const;
  const waits = async (consumerId: string, model: string) => (await join(caller(consumerId), [model])).waitMs;
  expect(await waits("a", "quick")).toBe(MOST);
  expect(await waits("a", "quick")).toBe(MOST);
  expect(await waits("a", "quick")).toBe(5_000);
  expect(await waits("b", "quick")).toBe(MOST);
  // Of a model that nobody knows one call waits.
  expect(await waits("a", "unknown")).toBe(MOST);
  expect(await waits("a", "unknown")).toBe(5_000);
  expect(asked).toEqual(["quick", "unknown"]);
  known["quick"] = 1_000;
  now = 10_000;
  expect(await waits("a", "quick")).toBe(MOST);
  expect(asked).toEqual(["quick", "unknown", "quick"]);
});
