/** Limits out of a table that was copied from Google's documentation or from AI Studio. */
import { cellsOf, QuoteNotClosed, type Row } from "./cells.ts";
import { readQuantity } from "./quantity.ts";

export type LimitName = "rpm" | "tpm" | "rpd";

export interface TableLimits {
  /** Of the text, counted from 1. */
  line: number;
  /** As the table calls it. */
  name: string;
  /** Only what the table says; null is unlimited. */
  limits: Partial<Record<LimitName, number | null>>;
}

export interface Problem {
  line: number;
  message: string;
}

export interface ReadTable {
  rows: TableLimits[];
  problems: Problem[];
}

type Column = LimitName | "model" | "id";

/** The first that fits names a column; what none fits is passed over. */
const HEADINGS: readonly (readonly [Column, RegExp])[] = [
  ["rpm", /\brpm\b|requests? ?(?:per|\/|a) ?min/],
  ["tpm", /\btpm\b|tokens? ?(?:per|\/|a) ?min/],
  ["rpd", /\brpd\b|requests? ?(?:per|\/|a) ?day/],
  ["id", /^model (?:id|code|string)$|^id$|^api name$/],
  ["model", /^(?:model|models|name|model name|model variant)$/],
];

interface Heading {
  row: Row;
  columns: Map<Column, number>;
}

/**
 * Reads the table. Headings may be anywhere and be repeated; lines above the first, titles between rows and other columns
 * are passed over. Whatever cannot be understood is a problem of its line, and nothing is guessed.
 */
export function readLimitsTable(text: string): ReadTable {
  const rows: TableLimits[] = [];
  const problems: Problem[] = [];
  let heading: Heading | undefined;
  for (const row of cellsOr(text, problems)) {
    const found = headingOf(row);
    if (found !== undefined) {
      if ("problem" in found) problems.push({ line: row.line, message: found.problem });
      else heading = found;
    } else if (heading !== undefined) {
      const read = readRow(row, heading);
      if (read !== undefined && "problems" in read) problems.push(...read.problems);
      else if (read !== undefined) rows.push(read);
    }
  }
  if (heading === undefined && problems.length === 0) {
    problems.push({
      line: 1,
      message: "no line names the columns: one must be Model, and at least one of RPM, TPM and RPD",
    });
  } else if (rows.length === 0 && problems.length === 0) {
    problems.push({ line: heading?.row.line ?? 1, message: "there is no row under the headings" });
  }
  return { rows, problems };
}

function cellsOr(text: string, problems: Problem[]): Row[] {
  try {
    return cellsOf(text);
  } catch (thrown) {
    if (!(thrown instanceof QuoteNotClosed)) throw thrown;
    problems.push({ line: thrown.line, message: thrown.message });
    return [];
  }
}

function headingOf(row: Row): Heading | { problem: string } | undefined {
  const columns = new Map<Column, number>();
  let twice: string | undefined;
  row.cells.forEach((cell, place) => {
    const name = cell.toLowerCase();
    const column = HEADINGS.find(([, pattern]) => pattern.test(name))?.[0];
    if (column === undefined) return;
    if (columns.has(column)) twice = cell;
    else columns.set(column, place);
  });
  const limits = (["rpm", "tpm", "rpd"] as const).filter((name) => columns.has(name));
  if (limits.length === 0 || !(columns.has("model") || columns.has("id"))) return undefined;
  // `Gemini 2.5 Flash | 10 RPM | ...` is a row, not a heading.
  if (limits.some((name) => /^[\d∞]/.test(row.cells[columns.get(name)!]!))) return undefined;
  if (twice !== undefined) {
    return { problem: `there are two columns like "${twice}": leave one of them away` };
  }
  return { row, columns };
}

function readRow(
  row: Row,
  { row: header, columns }: Heading,
): TableLimits | { problems: Problem[] } | undefined {
  const cell = (column: Column) => row.cells[columns.get(column) ?? -1] ?? "";
  const name = cell("id") || cell("model");
  const others = row.cells.filter((one) => one !== "" && one !== name);
  // A title between rows, such as "Text-out models".
  if (others.length === 0) return undefined;
  const wrong = (message: string) => ({ problems: [{ line: row.line, message }] });
  // A comma in a number without quotes splits it into cells.
  if (
    row.cells.length > header.cells.length && row.cells.slice(header.cells.length).some((one) => one !== "")
  ) {
    return wrong(
      `${row.cells.length} cells under ${header.cells.length} headings: put numbers with commas in quotes, "250,000"`,
    );
  }
  if (name === "") return wrong("the model's name is missing");
  const limits: TableLimits["limits"] = {};
  const problems: Problem[] = [];
  for (const limit of ["rpm", "tpm", "rpd"] as const) {
    if (!columns.has(limit)) continue;
    const quantity = readQuantity(cell(limit));
    if (quantity.kind === "number") limits[limit] = quantity.value;
    else if (quantity.kind === "unlimited") limits[limit] = null;
    else if (quantity.kind === "unreadable") {
      problems.push({ line: row.line, message: `${limit.toUpperCase()} of ${name}: ${quantity.why}` });
    }
  }
  if (problems.length > 0) return { problems };
  return { line: row.line, name, limits };
}
