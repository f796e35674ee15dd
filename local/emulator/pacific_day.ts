/**
 * The day Google counts by: it turns over at midnight in Los Angeles, which is 7 or 8 hours behind UTC.
 */

const ZONE = "America/Los_Angeles";

const calendar = new Intl.DateTimeFormat("en-CA", {
  timeZone: ZONE,
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
});

const HOUR_MS = 3_600_000;

/** @param at milliseconds since the epoch. @returns the date in Los Angeles, `YYYY-MM-DD`. */
export function pacificDay(at: number): string {
  return calendar.format(at);
}

/**
 * The instant the Pacific day of `at` ends.
 *
 * Los Angeles changes its clocks at 2 in the morning, so a midnight always falls on a whole UTC hour and a day has 23,
 * 24 or 25 hours: trying the whole hours ahead finds it without any arithmetic on offsets.
 */
export function nextPacificMidnight(at: number): number {
  const today = pacificDay(at);
  let hour = Math.floor(at / HOUR_MS) * HOUR_MS + HOUR_MS;
  while (pacificDay(hour) === today) hour += HOUR_MS;
  return hour;
}
