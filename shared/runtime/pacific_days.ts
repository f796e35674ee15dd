/** Google's days, which are those of Los Angeles, 7 or 8 hours behind UTC. */

const DAY_MS = 86_400_000;

const PACIFIC = new Intl.DateTimeFormat("sv-SE", {
  timeZone: "America/Los_Angeles",
  dateStyle: "short",
  timeStyle: "medium",
});

/** The day so many days before: `2026-11-21` and 1 are `2026-11-20`. */
export function daysBefore(day: string, days: number): string {
  return new Date(Date.parse(day) - days * DAY_MS).toISOString().slice(0, 10);
}

/** The instant at which a day begins in Los Angeles. */
export function pacificMidnight(day: string): string {
  for (const hours of [7, 8]) {
    const at = new Date(Date.parse(day) + hours * 3_600_000);
    if (PACIFIC.format(at) === `${day} 00:00:00`) return at.toISOString();
  }
  throw new Error(`${day} has no midnight in Los Angeles`);
}

/** When the last so many days began, of which `today` is one. */
export function wholeDays(days: number, today: string): string {
  return pacificMidnight(daysBefore(today, days - 1));
}

/** An instant's hour of the Pacific day, `2026-11-21 23:00`. */
export function pacificHour(iso: string): string {
  return PACIFIC.format(new Date(iso)).slice(0, 16);
}
