/** Times on the command line. They are the database's: its clock says what now is, and days are Pacific, as Google's. */
import type { DatabaseClock } from "../../shared/database/reading.ts";
import { daysBefore, pacificMidnight } from "../../shared/runtime/pacific_days.ts";
import { misuse } from "./failure.ts";

const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const AGO = /^(\d{1,6})([mhdw])$/;
const DATE = /^(\d{4})-(\d{2})-(\d{2})$/;
/** With its zone: a time without one would mean another instant on every machine. */
const INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})$/;

/**
 * `now`; `today` and `yesterday`, the beginnings of Pacific days; `30m`, `24h`, `7d`, `2w` ago; `2026-11-21`, the beginning
 * of that Pacific day; or an instant with its zone. Answers an ISO instant.
 */
export function readInstant(name: string, text: string, clock: DatabaseClock): string {
  const now = Date.parse(clock.now);
  switch (text) {
    case "now":
      return clock.now;
    case "today":
      return clock.pacific_day_begins;
    case "yesterday":
      return pacificMidnight(daysBefore(clock.pacific_day, 1));
  }
  const ago = AGO.exec(text);
  if (ago !== null) return new Date(now - Number(ago[1]) * UNIT_MS[ago[2]!]!).toISOString();
  if (DATE.test(text) && !Number.isNaN(Date.parse(text))) return pacificMidnight(text);
  if (INSTANT.test(text) && !Number.isNaN(Date.parse(text))) return new Date(text).toISOString();
  throw misuse(
    `--${name} must be a time such as today, yesterday, 24h, 7d, 2026-11-21 (a Pacific day) or 2026-11-21T08:00Z, not ${text}.`,
  );
}
