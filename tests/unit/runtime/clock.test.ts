import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CoalescedTimers } from "../../../shared/runtime/coalesced_timers.ts";
import { type Clock, setTimer, systemClock } from "../../../shared/runtime/clock.ts";

// The runtime's clock and timers, moved by hand.
beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
afterEach(() => void vi.useRealTimers());
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("sleeps for as long as it is told, and no longer than its signal lasts", async () => {
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
  "an alarm rings once its time has come, and not after it was switched off: %s",
  async (_, clock) => {
    const rung: string[] = [];
    const off = setTimer(clock, 10, () => rung.push("switched off"));
    setTimer(clock, 10, () => rung.push("left on"));
    off();
    await pass(9);
    expect(rung).toEqual([]);
    await pass(1);
    expect(rung).toEqual(["left on"]);
  },
);

test("alarms of one length ring in turn, but for those that were switched off meanwhile", async () => {
  const rung: number[] = [];
  const alarms = new CoalescedTimers(30);
  const offs = [0, 1, 2].map((n) => alarms.add(() => rung.push(n)));
  await pass(15);
  const last = alarms.add(() => rung.push(3));
  offs[1]!();
  await pass(14);
  expect(rung).toEqual([]);
  await pass(1);
  expect(rung).toEqual([0, 2]);
  last();
  await pass(100);
  expect(rung).toEqual([0, 2]);
  alarms.add(() => rung.push(4));
  await pass(30);
  expect(rung).toEqual([0, 2, 4]);
});
