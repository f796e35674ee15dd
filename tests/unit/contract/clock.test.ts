import { expect, test } from "vitest";
import { Alarms } from "../../../shared/contract/alarms.ts";
import { alarm, type Clock, systemClock } from "../../../shared/contract/clock.ts";

test("sleeps for as long as it is told, and no longer than its signal lasts", async () => {
  const since = systemClock.now();
  await systemClock.sleep(20);
  expect(systemClock.now() - since).toBeGreaterThanOrEqual(19);
  await expect(systemClock.sleep(60_000, AbortSignal.timeout(10))).rejects.toMatchObject({
    name: "TimeoutError",
  });
  await expect(systemClock.sleep(60_000, AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
});

/** A clock that can only sleep, as those of tests. */
const sleepsOnly: Clock = { now: systemClock.now, sleep: systemClock.sleep };

test.each([["the system's", systemClock], ["one that only sleeps", sleepsOnly]])(
  "an alarm rings once its time has come, and not after it was switched off: %s",
  async (_, clock) => {
    const rung: string[] = [];
    const off = alarm(clock, 10, () => rung.push("switched off"));
    alarm(clock, 10, () => rung.push("left on"));
    off();
    await systemClock.sleep(40);
    expect(rung).toEqual(["left on"]);
  },
);

test("alarms of one length ring in turn, but for those that were switched off meanwhile", async () => {
  const rung: number[] = [];
  const alarms = new Alarms(30);
  const offs = [0, 1, 2].map((n) => alarms.add(() => rung.push(n)));
  await systemClock.sleep(15);
  const last = alarms.add(() => rung.push(3));
  offs[1]!();
  await systemClock.sleep(22);
  expect(rung).toEqual([0, 2]);
  last();
  await systemClock.sleep(40);
  expect(rung).toEqual([0, 2]);
  alarms.add(() => rung.push(4));
  await systemClock.sleep(45);
  expect(rung).toEqual([0, 2, 4]);
});
