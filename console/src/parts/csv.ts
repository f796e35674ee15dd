import { csv } from "../../../shared/runtime/csv.ts";

/** Rows as comma-separated values with a line of names; lists and objects as JSON. */
export function csvOf(rows: readonly object[]): string {
  const names = Object.keys(rows[0] ?? {});
  const cells = rows.map((row) => names.map((name) => plain((row as Record<string, unknown>)[name])));
  return `${csv(names, cells)}\r\n`;
}

const plain = (value: unknown) => typeof value === "object" && value !== null ? JSON.stringify(value) : value;
