import type { UsageAnswer, UsageFigures, UsageParts, UsageSplit } from "../api/shapes.ts";
import { grouped } from "./grouped.ts";

/** More than these are one line. */
export const TOP = 10;

export interface UsageLine extends UsageFigures {
  name: string;
  /** The answer and the thinking, which is paid for like it. */
  tokens_out: number;
}

/** What the table and the charts show, and what is exported: the lines in their order, and their sum. */
export interface UsageLines {
  lines: UsageLine[];
  total: UsageLine;
}

const SUMMED = [
  "requests",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
  "refused",
  "input_tokens",
  "output_tokens",
  "thoughts_tokens",
  "cached_tokens",
  "dispatched",
  "wait_ms",
  "latency_ms",
  "paid_usd",
  "free_usd",
] as const satisfies readonly (keyof UsageFigures)[];

function sumOf(rows: readonly UsageFigures[]): UsageFigures {
  const sums = Object.fromEntries(
    SUMMED.map((field) => [field, rows.reduce((sum, row) => sum + row[field], 0)]),
  ) as Record<typeof SUMMED[number], number>;
  return {
    ...sums,
    paid_unknown: rows.some((row) => row.paid_unknown),
    free_unknown: rows.some((row) => row.free_unknown),
  };
}

const lineOf = (name: string, row: UsageFigures): UsageLine => ({
  ...row,
  name,
  tokens_out: row.output_tokens + row.thoughts_tokens,
});

/** As the gateway has summed them. */
export const linesOfAnswer = (
  { rows, others, totals }: Pick<UsageAnswer, "rows" | "others" | "totals">,
  nameOf: (row: UsageAnswer["rows"][number]) => string,
  words: { others: string; sum: string },
): UsageLines => ({
  lines: [
    ...rows.map((row) => lineOf(nameOf(row), row)),
    ...(others === null ? [] : [lineOf(words.others, others)]),
  ],
  total: lineOf(words.sum, totals),
});

/** Of stages, whose rows are by the model that served, too: the largest, and the others together. */
export function linesOfStages(
  stages: UsageParts["stages"],
  words: { others: string; sum: string },
): UsageLines {
  const size = ({ requests, refused }: UsageFigures) => requests + refused;
  const sums = grouped(stages, ({ stage }) => stage).map(([name, rows]) => lineOf(name, sumOf(rows)))
    .toSorted((one, other) => size(other) - size(one));
  const rest = sums.slice(TOP);
  return {
    lines: [...sums.slice(0, TOP), ...(rest.length > 0 ? [lineOf(words.others, sumOf(rest))] : [])],
    total: lineOf(words.sum, sumOf(stages)),
  };
}

/** Whether they have an hour each: of Google's day, and of any time of two days at most. */
export const isByHour = (asked: { days: number } | { since?: string; until?: string }): boolean =>
  "days" in asked ? asked.days === 1 : asked.since !== undefined && asked.until !== undefined &&
    Date.parse(asked.until) - Date.parse(asked.since) <= 2 * 86_400_000;

/** A line as it is exported. What has no known price has no figure. */
export function exported(
  split: UsageSplit | "stage",
  line: UsageLine,
): Record<string, string | number | null> {
  const usd = (value: number, isUnknown: boolean) => isUnknown && value === 0 ? null : value;
  return {
    [split]: line.name,
    requests: line.requests,
    succeeded: line.succeeded,
    failed: line.failed,
    cancelled: line.cancelled,
    expired: line.expired,
    refused: line.refused,
    input_tokens: line.input_tokens,
    tokens_out: line.tokens_out,
    thoughts_tokens: line.thoughts_tokens,
    cached_tokens: line.cached_tokens,
    mean_latency_ms: meanLatencyOf(line) === null ? null : Math.round(meanLatencyOf(line)!),
    cost_usd: usd(line.paid_usd, line.paid_unknown),
    cost_has_unknown: String(line.paid_unknown),
    would_have_cost_usd: usd(line.free_usd, line.free_unknown),
    would_have_cost_has_unknown: String(line.free_unknown),
  };
}

/** Of an attempt that called upstream. */
export const meanLatencyOf = ({ latency_ms, dispatched }: UsageFigures): number | null =>
  dispatched === 0 ? null : latency_ms / dispatched;
