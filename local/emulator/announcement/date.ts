/**
 * Dates and times in an announcement, as people write them in Russian and English.
 */

import { AFTER, BEFORE } from "./words.ts";

const MONTHS: Record<string, number> = {
  январ: 1,
  феврал: 2,
  март: 3,
  апрел: 4,
  ма: 5,
  июн: 6,
  июл: 7,
  август: 8,
  сентябр: 9,
  октябр: 10,
  ноябр: 11,
  декабр: 12,
  jan: 1,
  feb: 2,
  mar: 3,
  apr: 4,
  may: 5,
  jun: 6,
  jul: 7,
  aug: 8,
  sep: 9,
  oct: 10,
  nov: 11,
  dec: 12,
};

const RU_MONTH =
  "январ[ья]|феврал[ья]|март[а]?|апрел[ья]|ма[йя]|июн[ья]|июл[ья]|август[а]?|сентябр[ья]|октябр[ья]|ноябр[ья]|декабр[ья]";
export const EN_MONTH =
  "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?";

/** The last of several days: "7–9", "28 и 29", "28, 29, 30"; two numbers with a comma may be a house and a day. */
const LAST_DAY = "(?:\\s*[-–—]\\s*|(?:,\\s*\\d{1,2}){0,6}\\s+и\\s+|(?:,\\s*\\d{1,2}){1,6},\\s*)(\\d{1,2})";
const DAY_MONTH = new RegExp(
  `${BEFORE}(?<![:.])(\\d{1,2})(?:${LAST_DAY})?\\s+(${RU_MONTH}|${EN_MONTH})${AFTER}(?:,?\\s+(\\d{4})(?:\\s*(?:года|г\\.))?)?`,
  "iu",
);
const MONTH_DAY = new RegExp(
  `${BEFORE}(${EN_MONTH})\\.?\\s+(\\d{1,2})(?:st|nd|rd|th)?(?:\\s*[-–—]\\s*(\\d{1,2}))?${AFTER}(?:,?\\s+(\\d{4}))?`,
  "iu",
);
const NUMERIC_DATE = new RegExp(
  `${BEFORE}(?:(\\d{4})-(\\d{2})-(\\d{2})|(\\d{1,2})\\.(0[1-9]|1[0-2])(?:\\.(\\d{4}|\\d{2}))?)${AFTER}`,
  "u",
);
const CLOCK = new RegExp(`${BEFORE}([01]?\\d|2[0-3])[:.]([0-5]\\d)(?:\\s*(am|pm))?${AFTER}(?!\\.\\d)`, "iu");
const HOUR_ONLY = new RegExp(`${BEFORE}(?:в|at)\\s+(\\d{1,2})\\s*(часов|часа|час|am|pm)${AFTER}`, "iu");

export interface FoundDate {
  text: string;
  at: number;
  day: number;
  endDay?: number;
  month: number;
  year?: number;
}

function monthNumber(name: string): number {
  const lower = name.toLowerCase();
  const stem =
    Object.keys(MONTHS).filter((known) => lower.startsWith(known)).sort((a, b) => b.length - a.length)[0];
  return MONTHS[stem ?? "jan"]!;
}

export function findDate(text: string): FoundDate | undefined {
  const found: FoundDate[] = [];
  const dayMonth = DAY_MONTH.exec(text);
  if (dayMonth) {
    found.push({
      text: dayMonth[0],
      at: dayMonth.index,
      day: Number(dayMonth[1]),
      endDay: dayMonth[2] ? Number(dayMonth[2]) : undefined,
      month: monthNumber(dayMonth[3]!),
      year: dayMonth[4] ? Number(dayMonth[4]) : undefined,
    });
  }
  const monthDay = MONTH_DAY.exec(text);
  if (monthDay) {
    found.push({
      text: monthDay[0],
      at: monthDay.index,
      day: Number(monthDay[2]),
      endDay: monthDay[3] ? Number(monthDay[3]) : undefined,
      month: monthNumber(monthDay[1]!),
      year: monthDay[4] ? Number(monthDay[4]) : undefined,
    });
  }
  const numeric = NUMERIC_DATE.exec(text);
  if (numeric) {
    const year = numeric[1] ?? numeric[6];
    found.push({
      text: numeric[0],
      at: numeric.index,
      day: Number(numeric[3] ?? numeric[4]),
      month: Number(numeric[2] ?? numeric[5]),
      year: year === undefined ? undefined : Number(year.length === 2 ? `20${year}` : year),
    });
  }
  return found
    .filter((date) => date.day >= 1 && date.day <= 31 && date.month >= 1 && date.month <= 12)
    .sort((a, b) => a.at - b.at || b.text.length - a.text.length)[0];
}

export function iso(year: number, month: number, day: number): string {
  return `${year}-${String(month).padStart(2, "0")}-${String(day).padStart(2, "0")}`;
}

/** Whether a text has a date in it: how a page of several events is told apart. */
export function hasDate(text: string): boolean {
  return findDate(text) !== undefined;
}

/** `HH:MM` */
export function findTime(text: string): string | undefined {
  const withoutDates = text.replace(NUMERIC_DATE, (found) => " ".repeat(found.length));
  const clock = CLOCK.exec(withoutDates);
  if (clock) return clockTime(Number(clock[1]), clock[2]!, clock[3]);
  const hour = HOUR_ONLY.exec(withoutDates);
  return hour ? clockTime(Number(hour[1]), "00", hour[2]) : undefined;
}

function clockTime(hour: number, minute: string, half: string | undefined): string {
  const pm = half?.toLowerCase() === "pm";
  const am = half?.toLowerCase() === "am";
  const full = pm && hour < 12 ? hour + 12 : am && hour === 12 ? 0 : hour;
  return `${String(full).padStart(2, "0")}:${minute}`;
}
