/** The day of the limits turns over at midnight in Los Angeles, also when its clocks change. */
import { afterEach, expect, test } from "vitest";
import { nextPacificMidnight, pacificDay } from "../../local/emulator/pacific_day.ts";
import { clockAt, emulator, errorOf, GEMMA, post, prompt, statusOf, stopAll } from "./fixture.ts";

afterEach(stopAll);

const HOUR = 3_600_000;

test.each([
  { day: "an ordinary summer day", from: Date.UTC(2026, 6, 12, 7), hours: 24 },
  { day: "an ordinary winter day", from: Date.UTC(2026, 11, 1, 8), hours: 24 },
  { day: "the day clocks go forward", from: Date.UTC(2026, 2, 8, 8), hours: 23 },
  { day: "the day clocks go back", from: Date.UTC(2026, 10, 1, 7), hours: 25 },
])("$day has $hours hours", async ({ from, hours }) => {
  const to = from + hours * HOUR;
  const dates = [from - 1, from, to - 1, to].map(pacificDay);
  expect(dates[1]).toBe(dates[2]);
  expect(new Set(dates).size).toBe(3);
  expect([from, from + 2 * HOUR, to - 1].map(nextPacificMidnight)).toEqual([to, to, to]);

  const clock = clockAt(from);
  const one = await emulator({ now: clock.now, models: [{ name: GEMMA, limits: { rpd: 2 } }] });
  expect(await statusOf(one)).toBe(200);
  clock.at = to - 120_000;
  expect([await statusOf(one), await statusOf(one)]).toEqual([200, 429]);
  clock.at = to - 1;
  expect(await statusOf(one)).toBe(429);
  clock.at = to;
  expect(await statusOf(one)).toBe(200);
  expect(one.control.stats().lanes[0]).toMatchObject({ day: pacificDay(to), today: 1 });
});

test("a daily refusal carries a delay that has nothing to do with the day", async () => {
  const clock = clockAt(Date.UTC(2026, 6, 12, 12, 0, 31));
  const one = await emulator({ now: clock.now, models: [{ name: GEMMA, limits: { rpd: 1 } }] });
  await statusOf(one);
  const error = await errorOf(await post(one, prompt("hi")));
  expect(error.details![1].violations).toEqual([{
    quotaMetric: "generativelanguage.googleapis.com/generate_content_free_tier_requests",
    quotaId: "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
    quotaDimensions: { location: "global", model: "gemma-4-31b" },
    quotaValue: "1",
  }]);
  expect(error.details![2].retryDelay).toBe("29s");
});
