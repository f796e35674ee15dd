import type { UsageFigures } from "../api/shapes.ts";

/** US dollars: what is paid, and what calls in a free tier would have cost; of each whether some has no known price. */
export type Cost = Pick<UsageFigures, "paid_usd" | "free_usd" | "paid_unknown" | "free_unknown">;

export interface CostWords {
  dollars(usd: number): string;
  unknown: string;
  atLeast(cost: string): string;
  would(cost: string): string;
  wouldUnknown: string;
}

/** What has no known price is never shown as nothing: it is unknown, or more than what is known of it. */
export function costIn(cost: Cost, words: CostWords): string {
  const written = (usd: number, isUnknown: boolean) =>
    !isUnknown ? words.dollars(usd) : usd > 0 ? words.atLeast(words.dollars(usd)) : null;
  const paid = written(cost.paid_usd, cost.paid_unknown) ?? words.unknown;
  if (cost.free_usd === 0 && !cost.free_unknown) return paid;
  const free = written(cost.free_usd, cost.free_unknown);
  return `${paid}, ${free === null ? words.wouldUnknown : words.would(free)}`;
}
