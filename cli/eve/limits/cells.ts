/** A table that somebody copied, cut into lines of cells: CSV, TSV or Markdown. */

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
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.filter((line) => /^\s*\|.*\|\s*$/.test(line) || RULE.test(line.split("|")[1]?.trim() ?? ""))
            .length * 2 > lines.length || lines.some((line) => /^\s*\|?\s*:?-{2,}:?\s*\|/.test(line));
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

/** RFC 4180: quotes around cells that hold the separator, a line's end or a quote, which is then doubled. */
function separatedRows(text: string, separator: string): Row[] {
  const rows: Row[] = [];
  let line = 1;
  let row: Row = { line, cells: [] };
  let cell = "";
  let quoted = false;
  const endCell = () => {
    row.cells.push(cell);
    cell = "";
  };
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at]!;
    if (letter === "\n") line += 1;
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else quoted = false;
    } else if (letter === '"' && cell.trim() === "") {
      cell = "";
      quoted = true;
    } else if (letter === separator) endCell();
    else if (letter === "\n") {
      endCell();
      rows.push(row);
      row = { line, cells: [] };
    } else cell += letter;
  }
  endCell();
  rows.push(row);
  return rows;
}

/** Without what a web page or Markdown puts around a text: odd blanks, emphasis, marks of footnotes. */
function tidy(cell: string): string {
  return cell
    .replaceAll(/[\u00A0\u2007\u2009\u202F\s]+/g, " ")
    .replaceAll(/<br\s*\/?>/gi, " ")
    .replaceAll(/\[([^\]]+)\]\([^)]*\)/g, "$1")
    .replaceAll(/\[\^?\d+\]|[¹²³†‡]/g, "")
    .replaceAll(/\*\*|__|`/g, "")
    .trim();
}
