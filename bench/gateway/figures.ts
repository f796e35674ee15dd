/** From turns to figures. */
import { median, percentile } from "../statistics.ts";
import type { Turn } from "./load.ts";

export interface Measured {
  calls: number;
  failed: number;
  per_second: number;
  p50_ms: number;
  p99_ms: number;
}

/** With fewer calls in a turn its p99 is its slowest call: then the turns are taken as one. */
const CALLS_FOR_A_P99 = 100;

export const round = (value: number) => Math.round(value * 100) / 100;

/**
 * Percentiles of each turn, and of those the median: another program that takes the machine for a moment spoils one turn,
 * not the figure. Failed calls count as failed and have no time.
 */
export function measured(turns: Turn[]): Measured {
  const times = turns.map(({ calls }) => calls.filter(({ ok }) => ok).map(({ ms }) => ms));
  const calls = turns.reduce((sum, turn) => sum + turn.calls.length, 0);
  const groups = times.every((one) => one.length >= CALLS_FOR_A_P99) ? times : [times.flat()];
  return {
    calls,
    failed: calls - times.flat().length,
    per_second: Math.round(
      median(turns.map((turn, n) => times[n]!.length / turn.ms * 1000)),
    ),
    p50_ms: round(median(groups.map((group) => percentile(group, 0.5)))),
    p99_ms: round(median(groups.map((group) => percentile(group, 0.99)))),
  };
}

/** A figure by scenario and contender. */
export type Table<Cell> = Record<string, Record<string, Cell>>;

export interface Added {
  p50_ms: number;
  p99_ms: number;
}

/** What a gateway adds: its percentile less the same percentile straight. */
export function addedBy(matrix: Table<Measured>): Table<Added> {
  return mapped(matrix, (row) => {
    const { straight, ...gateways } = row;
    return Object.fromEntries(
      Object.entries(gateways).map(([who, { p50_ms, p99_ms }]) => [who, {
        p50_ms: round(p50_ms - straight!.p50_ms),
        p99_ms: round(p99_ms - straight!.p99_ms),
      }]),
    );
  });
}

export interface Ratio {
  p50: number | null;
  p99: number | null;
}

/** What each adds over what `other` adds; below 1 is less. Null where the other one was lost in the noise, at 0 or below. */
export function ratiosTo(added: Table<Added>, other: string): Table<Ratio> {
  const over = (one: number, floor: number) => floor > 0 ? round(one / floor) : null;
  return mapped(added, (row) => {
    const { [other]: floor, ...gateways } = row;
    if (floor === undefined) return {};
    return Object.fromEntries(
      Object.entries(gateways).map(([who, { p50_ms, p99_ms }]) => [who, {
        p50: over(p50_ms, floor.p50_ms),
        p99: over(p99_ms, floor.p99_ms),
      }]),
    );
  });
}

function mapped<From, To>(
  table: Table<From>,
  change: (row: Record<string, From>) => Record<string, To>,
): Table<To> {
  return Object.fromEntries(
    Object.entries(table).map(([name, row]) => [name, change(row)]),
  );
}

/** As Markdown: a row for each scenario. */
export function markdown<Cell>(
  table: Record<string, Record<string, Cell>>,
  columns: string[],
  show: (cell: Cell) => string,
  head = "scenario",
): string {
  const rows = Object.entries(table).map(([name, row]) => [
    `\`${name}\``,
    ...columns.map((column) => row[column] === undefined ? "" : show(row[column])),
  ]);
  return [[head, ...columns], ["---", ...columns.map(() => "---")], ...rows]
    .map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
