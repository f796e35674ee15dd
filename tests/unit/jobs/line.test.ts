import { expect, test } from "vitest";
import { createLines } from "../../../shared/jobs/line.ts";

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
