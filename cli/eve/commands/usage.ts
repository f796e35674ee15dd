import {
  type DatabaseClock,
  type Reading,
  USAGE_BY,
  USAGE_FIGURES,
  type UsageBy,
  type UsageReport,
} from "../../../shared/database/reading.ts";
import type { CacheStats } from "../../../shared/database/answer_cache.ts";
import { bar } from "../chart.ts";
import type { Command, CommandDependencies, Given } from "../command.ts";
import { csv } from "../../../shared/runtime/csv.ts";
import { CliFailure, misuse } from "../failure.ts";
import { pacificHour, wholeDays } from "../../../shared/runtime/pacific_days.ts";
import { readInstant } from "../period.ts";
import { blue, bold, count, dim, dollars, instant, red, table, widthOf, yellow } from "../table.ts";
import { readChoice, readNumber } from "../values.ts";
import { hitRate } from "./cache.ts";

const SINCE_BY_DEFAULT = "7d";
const DAYS = /^([1-9]\d{0,3})d$/;
const ROWS_BY_DEFAULT = 200;
const MOST_ROWS = 10_000;
const MOST_TOP = 100;
/** Narrower bars say nothing. */
const NARROWEST_BAR = 10;
const WIDEST_BAR = 50;
const GAP = 2;
/** While another roll-up is on. */
const ROLLUP_RETRY_MS = 500;
/** A minute: the first time on a large audit. Afterwards there are minutes to sum up, not months. */
const ROLLUP_TRIES = 120;

const MEASURES = {
  requests: "requests",
  tokens: "tokens",
  refused: "refusals",
} as const;

export const usageCommand: Command = {
  name: "usage",
  summary: "what was spent: by day, hour, consumer, model, key or endpoint, with bars",
  about:
    "Days are Pacific, as Google's, and so are the hours that are shown; programs get UTC. It first has the sums\n" +
    "brought up to now, so they are of everything that has ended. Sums are of whole hours: what is asked for from the\n" +
    "middle of one is counted from its beginning; where hours are no longer kept, of whole days. What is refused is no\n" +
    "request, and counts once, at its first attempt. Cost is by the prices that the console's page Usage has: unknown\n" +
    "where there is none.",
  arguments: [],
  options: {
    by: { value: "A,B", help: `${USAGE_BY.join(", ")}; day by default` },
    since: {
      value: "TIME",
      help:
        `today, yesterday, 24h, 7d (whole days, today is one), 2026-11-21; ${SINCE_BY_DEFAULT} by default`,
    },
    until: { value: "TIME", help: "likewise; now by default" },
    consumer: { value: "NAME", help: "of this consumer; project is the project's own key" },
    model: { value: "NAME", help: "of this model" },
    key: { value: "ALIAS", help: "of this key" },
    chart: { value: "WHAT", help: "what the bars show: requests (default), tokens or refused" },
    csv: { help: "comma-separated values, with every figure" },
    top: {
      value: "N",
      help: "of the first of --by (no day, no hour) the N largest; all others are one line",
    },
    limit: { value: "N", help: `rows; ${ROWS_BY_DEFAULT} by default` },
  },
  examples: [
    "usage",
    "usage --by hour --since today",
    "usage --by consumer,model --since 30d --chart tokens",
    "usage --by consumer --top 10",
    "usage --by day,key --since 2026-11-01 --until 2026-12-01 --csv > november.csv",
  ],
  async run(given, around) {
    const by = readBy(given);
    const measure = readChoice(given, "chart", ["requests", "tokens", "refused"]) ?? "requests";
    const atMost = readNumber(given, "limit") ?? ROWS_BY_DEFAULT;
    if (atMost < 1 || atMost > MOST_ROWS) throw misuse(`--limit must be between 1 and ${count(MOST_ROWS)}.`);
    const top = readNumber(given, "top");
    if (top !== undefined && (top < 1 || top > MOST_TOP)) {
      throw misuse(`--top must be between 1 and ${MOST_TOP}.`);
    }
    if (top !== undefined && (by[0] === "day" || by[0] === "hour")) {
      throw misuse("--top needs consumer, model, key or endpoint first in --by.");
    }
    if (given.switch("csv") && around.json) throw misuse("Say --csv or --json, not both.");
    const { reading, cache } = around.connect();
    const clock = await reading.now();
    const until = given.option("until");
    const filter = {
      by,
      since: readSince(given.option("since") ?? SINCE_BY_DEFAULT, clock),
      until: until === undefined ? undefined : readInstant("until", until, clock),
      consumer: given.option("consumer"),
      model: given.option("model"),
      key: given.option("key"),
      atMost,
      top,
    };
    await rollUp(reading, around);
    const { since, consumer, model } = filter;
    const [usage, { totals: saved }] = await Promise.all([
      reading.usage(filter),
      cache.stats({ since, until: filter.until, consumer, model }),
    ]);
    return {
      json: { ...usage, cache: saved },
      text: given.switch("csv")
        ? asCsv(usage)
        : asText(usage, measure, around.width) + savedByCache(saved) + wholeHours(since, usage),
    };
  },
};

/** As everywhere, but that `7d` is seven whole days, of which today is one: sums by the day have no part of one. */
function readSince(text: string, clock: DatabaseClock): string {
  const days = DAYS.exec(text);
  return days === null ? readInstant("since", text, clock) : wholeDays(Number(days[1]), clock.pacific_day);
}

function readBy(given: Given): UsageBy[] {
  const text = given.option("by") ?? "day";
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !(USAGE_BY as readonly string[]).includes(name));
  if (unknown !== undefined || new Set(names).size !== names.length) {
    throw misuse(`--by must be some of ${USAGE_BY.join(", ")}, with commas between them, not ${text}.`);
  }
  return names as UsageBy[];
}

/** Brings the sums up to now, however long that takes. */
export async function rollUp(
  reading: Reading,
  { progress, sleep, signal }: CommandDependencies,
): Promise<void> {
  for (let tries = 1; !await reading.rollUp(); tries += 1) {
    if (tries === ROLLUP_TRIES || signal.aborted) {
      throw new CliFailure(
        "The sums are still being made. Come back in some minutes; `maintenance log rollup` shows how far they are.",
      );
    }
    progress(`Summing up the audit${".".repeat(tries % 4)}`);
    await sleep(ROLLUP_RETRY_MS);
  }
}

/** Names of a row, in the order that was asked for. */
function namesOf(row: UsageReport["rows"][number], by: readonly UsageBy[]): string[] {
  return by.map((name) => {
    const value = row[name];
    if (value === undefined || value === null) return name === "key" ? "none" : "";
    return name === "hour" ? pacificHour(value) : value;
  });
}

/** Of a consumer or a key that was removed only the id is left. */
const shortId = (text: string) => text.replace(/^([0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "$1 (gone)");

/** What was answered from what is kept is no request, and stands in none of the rows. */
function savedByCache(saved: CacheStats["totals"]): string {
  const rate = hitRate(saved);
  if (rate === null) return "";
  return `\nKept answers: ${count(saved.hits)} hits (${rate} of the calls that may use them) saved ${
    count(saved.hits)
  } starts, ${count(saved.saved_input_tokens)} tokens in and ${count(saved.saved_output_tokens)} out.`;
}

/** The sums are by the hour: what was asked for from its middle is counted from its beginning. */
function wholeHours(since: string, usage: UsageReport): string {
  const moved = Date.parse(since) - Date.parse(usage.since);
  if (moved === 0) return "";
  const HOUR_MS = 3_600_000;
  return `\n${
    dim(
      moved > 0 && moved < HOUR_MS
        ? "The sums are of whole hours; `requests list` and `tail` know the minutes."
        : "The hours of that time are no longer kept: the sums are from when on they are, or of whole days.",
    )
  }`;
}

function asText(usage: UsageReport, measure: keyof typeof MEASURES, width: number): string {
  const { rows, rows_of } = usage;
  const period = `${instant(usage.since)} to ${usage.until === null ? "now" : instant(usage.until)}`;
  if (rows.length === 0) return `Nothing was asked from ${period}.`;
  // Where there is no room for bars beside all figures, the means give way; without room even then, the bars do.
  let lines = linesOf(usage, true);
  let widest = Math.max(...lines.map(widthOf));
  if (width - widest - GAP < NARROWEST_BAR) {
    const fewer = linesOf(usage, false);
    const narrower = Math.max(...fewer.map(widthOf));
    if (width - narrower - GAP >= NARROWEST_BAR) [lines, widest] = [fewer, narrower];
  }
  const room = Math.min(width - widest - GAP, WIDEST_BAR);
  const largest = Math.max(...rows.map((row) => measured(row, measure)));
  const drawn = room < NARROWEST_BAR ? lines : lines.map((line, place) => {
    const blanks = " ".repeat(widest - widthOf(line) + GAP);
    if (place === 0) return line + blanks + dim(MEASURES[measure]);
    const row = rows[place - 1];
    const drawn = row === undefined ? "" : bar(measured(row, measure), largest, room);
    return drawn === "" ? line : line + blanks + blue(drawn);
  });
  const more = rows.length === rows_of
    ? ""
    : `\n${dim(`The first ${count(rows.length)} of ${count(rows_of)} rows: see --limit and --top.`)}`;
  return `${dim(period)}\n${drawn.join("\n")}${more}`;
}

function measured(row: UsageReport["totals"], measure: keyof typeof MEASURES): number {
  return measure === "tokens" ? row.input_tokens + row.output_tokens + row.thoughts_tokens : row[measure];
}

/** The headings, a line for each row, and one for all together. */
function linesOf({ rows, others, others_of, totals, by }: UsageReport, withMeans: boolean): string[] {
  // A column of nothing would take the bars' room.
  const rare = (["cancelled", "expired"] as const).filter((name) => totals[name] > 0);
  const hasCost = totals.paid_usd > 0 || totals.free_usd > 0 || totals.paid_unknown;
  const sumLine = (name: string, row: UsageReport["totals"]) => [
    ...by.map((_, place) => place === 0 ? bold(name) : ""),
    ...figures(row),
  ];
  const figures = (row: UsageReport["totals"]) => [
    count(row.requests),
    row.failed === 0 ? "" : red(count(row.failed)),
    ...rare.map((name) => row[name] === 0 ? "" : count(row[name])),
    row.refused === 0 ? "" : yellow(count(row.refused)),
    count(row.input_tokens),
    count(row.output_tokens + row.thoughts_tokens),
    ...(withMeans
      ? [
        row.requests === 0 ? "" : `${(row.wait_ms / row.requests / 1_000).toFixed(1)} s`,
        row.dispatched === 0 ? "" : `${(row.latency_ms / row.dispatched / 1_000).toFixed(1)} s`,
      ]
      : []),
    ...(hasCost ? [costOf(row)] : []),
  ];
  return table(
    [
      ...by.map((name) => name === "hour" ? "hour (Pacific)" : name),
      "requests>",
      "failed>",
      ...rare.map((name) => `${name}>`),
      "refused>",
      "tokens in>",
      "tokens out>",
      ...(withMeans ? ["mean wait>", "mean call>"] : []),
      ...(hasCost ? ["cost>"] : []),
    ],
    [
      ...rows.map((row) => [...namesOf(row, by).map(shortId), ...figures(row)]),
      ...(others === null ? [] : [sumLine(`${count(others_of)} others`, others)]),
      sumLine("all", totals),
    ],
  ).split("\n");
}

/** What is paid, and in brackets what calls in a free tier would have cost; a price that is not known is never shown as nothing. */
function costOf({ paid_usd, free_usd, paid_unknown, free_unknown }: UsageReport["totals"]): string {
  const written = (usd: number, isUnknown: boolean) =>
    !isUnknown ? dollars(usd) : usd > 0 ? `over ${dollars(usd)}` : "unknown";
  const free = free_usd > 0 || free_unknown ? ` (${written(free_usd, free_unknown)})` : "";
  return written(paid_usd, paid_unknown) + free;
}

function asCsv({ rows, others, by }: UsageReport): string {
  const lines: UsageReport["rows"] = [
    ...rows,
    ...(others === null ? [] : [{ ...others, [by[0]!]: "others" }]),
  ];
  return csv(
    [...by, ...USAGE_FIGURES],
    lines.map((row) => [...by, ...USAGE_FIGURES].map((name) => row[name])),
  );
}
