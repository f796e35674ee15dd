/** Colour is for people at a terminal who did not decline it (https://no-color.org). */
export const coloured = Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR") &&
  Deno.env.get("TERM") !== "dumb";

const paint = (code: number) => (text: string) => coloured ? `\x1b[${code}m${text}\x1b[0m` : text;
export const bold = paint(1);
export const dim = paint(2);
export const red = paint(31);
export const green = paint(32);
export const yellow = paint(33);
export const blue = paint(34);

// deno-lint-ignore no-control-regex -- the escape that begins a colour.
const COLOUR = /\x1b\[\d+m/g;

export const widthOf = (cell: string) => cell.replace(COLOUR, "").length;

/** A heading with this at its end is over figures, which stand at the right. */
const RIGHT = ">";

/** Columns as wide as their widest cell, under dim headings. A heading that ends in `>` has its column at the right. */
export function table(headings: string[], rows: string[][]): string {
  const names = headings.map((heading) => heading.replace(/>$/, ""));
  const widths = names.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => widthOf(row[column] ?? "")))
  );
  const line = (cells: string[]) =>
    cells.map((cell, column) => {
      const blanks = " ".repeat(Math.max((widths[column] ?? 0) - widthOf(cell), 0));
      return headings[column]?.endsWith(RIGHT) ? blanks + cell : cell + blanks;
    }).join("  ").trimEnd();
  return [dim(line(names)), ...rows.map(line)].join("\n");
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

/** `$1.23`; less than ten cents to a hundredth of one. */
export function dollars(usd: number): string {
  return `$${
    usd.toLocaleString("en-US", {
      minimumFractionDigits: 2,
      maximumFractionDigits: usd > 0 && usd < 0.1 ? 4 : 2,
    })
  }`;
}

/** `3 keys`, `1 key`. */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** An instant to the minute, in UTC. */
export function instant(iso: string | null): string {
  if (iso === null) return "";
  if (iso === "infinity") return "for good";
  return `${new Date(iso).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** An instant to the millisecond, in UTC. */
export function exactly(iso: string | null): string {
  return iso === null ? "" : `${new Date(iso).toISOString().slice(0, 23).replace("T", " ")} UTC`;
}

/** `850 ms`, `12.3 s`, `4 min`, `5 h`, `12 d`. */
export function duration(ms: number | null): string {
  if (ms === null) return "";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  if (ms < 2 * 3_600_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 2 * 86_400_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

/** `4.2 MB`, in powers of ten. */
export function bytes(size: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = size;
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A line of at most `width` characters. */
export function shortened(text: string, width: number): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length <= width ? line : `${line.slice(0, Math.max(width - 1, 0))}…`;
}
