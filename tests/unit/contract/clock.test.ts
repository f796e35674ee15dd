import { expect, test } from "vitest";
import { systemClock } from "../../../shared/contract/clock.ts";

test("sleeps for as long as it is told, and no longer than its signal lasts", async () => {
  const since = systemClock.now();
  await systemClock.sleep(20);
  expect(systemClock.now() - since).toBeGreaterThanOrEqual(19);
  await expect(systemClock.sleep(60_000, AbortSignal.timeout(10))).rejects.toMatchObject({
    name: "TimeoutError",
  });
  await expect(systemClock.sleep(60_000, AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
});
