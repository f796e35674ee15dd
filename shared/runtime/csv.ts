/** Values as RFC 4180 has them: quotes where they are needed, lines ended by CR and LF. */
export function csv(headings: readonly string[], rows: readonly (readonly unknown[])[]): string {
  return [headings, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "";
  const text = String(value);
  // A spreadsheet would take these for a formula, those of full width and such that blanks or line ends stand before too.
  const safe = typeof value === "string" && /^\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/.test(text)
    ? `'${text}`
    : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
