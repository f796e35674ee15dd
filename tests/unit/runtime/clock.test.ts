import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CoalescedTimers } from "../../../shared/runtime/coalesced_timers.ts";
import { type Clock, setTimer, systemClock } from "../../../shared/runtime/clock.ts";

// The runtime's clock and timers, moved by hand.
beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
afterEach(() => void vi.useRealTimers());
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("sleeps for as long as it is asked to, and no longer than its signal lasts", async () => {
  const since = systemClock.now();
  let woke: number | undefined;
  systemClock.sleep(20).then(() => woke = systemClock.now() - since);
  await pass(19);
  expect(woke).toBeUndefined();
  await pass(1);
  expect(woke).toBe(20);

  const leaving = new AbortController();
  const sleep = systemClock.sleep(60_000, leaving.signal);
  leaving.abort(new Error("left"));
  await expect(sleep).rejects.toThrow("left");
  await expect(systemClock.sleep(60_000, AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
  expect(vi.getTimerCount()).toBe(0);
});

/** A clock that can only sleep, as those of tests. */
const sleepsOnly: Clock = { now: systemClock.now, sleep: systemClock.sleep };

test.each([["the system's", systemClock], ["one that only sleeps", sleepsOnly]])(
  "a timer fires once its time has come, and not after it was cleared: %s",
  async (_, clock) => {
    const fired: string[] = [];
    const off = setTimer(clock, 10, () => fired.push("switched off"));
    setTimer(clock, 10, () => fired.push("left on"));
    off();
    await pass(9);
    expect(fired).toEqual([]);
    await pass(1);
    expect(fired).toEqual(["left on"]);
  },
);

test("timers of one length fire in order, without those that were cleared meanwhile", async () => {
  const fired: number[] = [];
  const timers = new CoalescedTimers(30);
  const clears = [0, 1, 2].map((n) => timers.add(() => fired.push(n)));
  await pass(15);
  const last = timers.add(() => fired.push(3));
  clears[1]!();
  await pass(14);
  expect(fired).toEqual([]);
  await pass(1);
  expect(fired).toEqual([0, 2]);
  last();
  await pass(100);
  expect(fired).toEqual([0, 2]);
  timers.add(() => fired.push(4));
  await pass(30);
  expect(fired).toEqual([0, 2, 4]);
});
