/** One limit as people write it. */

export type Quantity =
  | { kind: "number"; value: number }
  | { kind: "unlimited" }
  /** The table says nothing: the limit stays as it is. */
  | { kind: "unsaid" }
  | { kind: "unreadable"; why: string };

/** What a column of the database holds at most. */
const LARGEST = 2_147_483_647;
const FACTORS: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, b: 1e9 };
const UNLIMITED = /^(unlimited|no limit|∞|infinite|infinity)$/i;
const UNSAID = /^([-–—*]*|n\/?a|not (published|specified|available)|varies)$/i;
/** `1,234,567` and `1 234 567`, also with apostrophes, as the Swiss write. */
const GROUPED = /^\d{1,3}(?:([,' ])\d{3})(?:\1\d{3})*$/;

/** `250,000`, `250K`, `4M`, `1.5M`, `2 / 10` (used, of), `Unlimited`, `-`. */
export function readQuantity(text: string): Quantity {
  // AI Studio shows what was used in front of the limit.
  const ofUsed = /^[^/]+\/\s*(.+)$/.exec(text)?.[1];
  const said = (ofUsed !== undefined && !/^n\/a$/i.test(text) ? ofUsed : text)
    .replace(/\*+$/, "")
    .replace(/\s*(rpm|tpm|rpd|requests?|tokens?|per (minute|day))\b.*$/i, "")
    .trim();
  if (UNLIMITED.test(said)) return { kind: "unlimited" };
  if (UNSAID.test(said)) return { kind: "unsaid" };
  const [, digits = "", suffix = ""] = /^([\d.,' ]*\d)\s*([kmb])?$/i.exec(said) ?? [];
  if (digits === "") return unreadable(`"${text}" is not a number`);
  const factor = FACTORS[suffix.toLowerCase()] ?? 1;
  const plain = GROUPED.test(digits) ? digits.replaceAll(/[,' ]/g, "") : digits;
  // With a factor a point is a decimal point. Without one it may be meant as a thousands separator.
  if (!/^\d+$/.test(plain) && !(factor > 1 && /^\d+\.\d{1,3}$/.test(plain))) {
    return unreadable(`"${text}" may mean several numbers: write it in digits alone`);
  }
  const value = Math.round(Number(plain) * factor);
  if (value > LARGEST) return unreadable(`"${text}" is more than ${LARGEST}: write "Unlimited"`);
  return { kind: "number", value };
}

const unreadable = (why: string): Quantity => ({ kind: "unreadable", why });
