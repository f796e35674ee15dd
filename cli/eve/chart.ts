/** Bars made of characters. */

/** Eighths of a character, from none to seven. */
const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** A bar of `value` where `largest` would be `width` characters long. Whatever is more than nothing can be seen. */
export function bar(value: number, largest: number, width: number): string {
  if (value <= 0 || largest <= 0 || width <= 0) return "";
  const eighths = Math.max(Math.round(Math.min(value / largest, 1) * width * 8), 1);
  return "█".repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8];
}
