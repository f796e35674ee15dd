/** A table that somebody copied, cut into lines of cells: CSV, TSV or Markdown. */
import { CsvError, parse } from "csv-parse/sync";

export interface Row {
  /** Counted from 1, as editors do; of a row that goes over several lines, the first. */
  line: number;
  cells: string[];
}

/** Under a Markdown heading. */
const RULE = /^:?-{2,}:?$/;

/** Rows with anything in them. The form is recognised by what there is most of: bars around lines, tabs, semicolons, commas. */
export function cellsOf(text: string): Row[] {
  const clean = text.replace(/^\uFEFF/, "").replaceAll(/\r\n?/g, "\n");
  const rows = isMarkdown(clean) ? markdownRows(clean) : separatedRows(clean, separatorOf(clean));
  return rows.map(({ line, cells }) => ({ line, cells: cells.map(tidy) }))
    .filter(({ cells }) => cells.some((cell) => cell !== ""));
}

function isMarkdown(text: string): boolean {
  const lines = text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return lines.filter((line) => /^\|.*\|$/.test(line) || RULE.test(line.split("|", 2)[1]?.trim() ?? ""))
            .length * 2 > lines.length || lines.some((line) => /^(?:\|\s*)?:?-{2,}:?\s*\|/.test(line));
}

function markdownRows(text: string): Row[] {
  return text.split("\n").map((raw, index) => ({ raw: raw.trim(), line: index + 1 }))
    .filter(({ raw }) => raw.includes("|"))
    .map(({ raw, line }) => ({
      line,
      cells: raw.replace(/^\|/, "").replace(/(?<!\\)\|$/, "").split(/(?<!\\)\|/).map((cell) =>
        cell.replaceAll("\\|", "|")
      ),
    }))
    .filter(({ cells }) => !cells.every((cell) => RULE.test(cell.trim())));
}

function separatorOf(text: string): string {
  const outsideQuotes = text.replaceAll(/"[^"]*"/g, "");
  if (outsideQuotes.includes("\t")) return "\t";
  const count = (separator: string) => outsideQuotes.split(separator).length;
  const lines = (separator: string) =>
    outsideQuotes.split("\n").filter((line) => line.includes(separator)).length;
  // What separates is in every line; there may be more of the other in one cell.
  return (lines(";") - lines(",") || count(";") - count(",")) > 0 ? ";" : ",";
}

/** A quote that is opened and not closed takes the rest of the text into one cell, so none of it can be trusted. */
export class QuoteNotClosed extends Error {
  constructor(readonly line: number) {
    super("the quotes of a cell that begins here are not closed");
  }
}

/**
 * RFC 4180, read leniently: a quote in the middle of a cell is a letter, and rows need not be equally long.
 * @throws QuoteNotClosed
 */
function separatedRows(text: string, delimiter: string): Row[] {
  const rows: Row[] = [];
  let line = 1;
  try {
    parse(text, {
      delimiter,
      record_delimiter: "\n",
      ltrim: true,
      relax_column_count: true,
      relax_quotes: true,
      onRecord(cells: string[], { lines }) {
        rows.push({ line, cells: cells.map(unquoted) });
        line = lines + 1;
        return null;
      },
    });
  } catch (thrown) {
    throw thrown instanceof CsvError ? new QuoteNotClosed(line) : thrown;
  }
  return rows;
}

/** To the package a closing quote with a blank behind it is a letter. */
function unquoted(cell: string): string {
  return cell.replace(/^"([^"]*)"\s+$/, "$1");
}

/** Names and numbers are shorter, with all that stands around them; of brackets alone the time grows with the square. */
const MAX_CELL_CHARS = 1_000;

/** Without what a web page or Markdown puts around a text: odd blanks, emphasis, marks of footnotes. */
function tidy(cell: string): string {
  return cell.slice(0, MAX_CELL_CHARS)
    .replaceAll(/[\u00A0\u2007\u2009\u202F\s]+/g, " ")
    .replaceAll(/<br\s*\/?>/gi, " ")
    .replaceAll(/\[([^\]]+)\]\([^)]*\)/g, "$1")
    .replaceAll(/\[\^?\d+\]|[¹²³†‡]/g, "")
    .replaceAll(/\*\*|__|`/g, "")
    .trim();
}
