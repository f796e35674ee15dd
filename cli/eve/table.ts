/** Colour is for people at a terminal who did not decline it (https://no-color.org). */
const coloured = Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR");

const paint = (code: number) => (text: string) => coloured ? `\x1b[${code}m${text}\x1b[0m` : text;
export const bold = paint(1);
export const dim = paint(2);
export const red = paint(31);
export const green = paint(32);
export const yellow = paint(33);

// deno-lint-ignore no-control-regex -- the escape that begins a colour.
const COLOUR = /\x1b\[\d+m/g;

/** Columns as wide as their widest cell, under dim headings. */
export function table(headings: string[], rows: string[][]): string {
  const widthOf = (cell: string) => cell.replace(COLOUR, "").length;
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => widthOf(row[column] ?? "")))
  );
  const line = (cells: string[]) =>
    cells.map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - widthOf(cell))).join("  ")
      .trimEnd();
  return [dim(line(headings)), ...rows.map(line)].join("\n");
}

/** Names and values, one pair a line. */
export function pairs(entries: [string, string][]): string {
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries.map(([name, value]) => `${dim(name.padEnd(width))}  ${value}`).join("\n");
}

/** `1234567` as `1,234,567`; null as what the column means by it. */
export function count(value: number | null, absent = "no limit"): string {
  return value === null ? absent : value.toLocaleString("en-US");
}

/** An instant to the minute, in UTC. */
export function instant(iso: string | null): string {
  if (iso === null) return "";
  if (iso === "infinity") return "for good";
  return `${new Date(iso).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
