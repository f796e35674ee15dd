import type { ModelPrice, UsageFigures } from "../api/shapes.ts";

/** US dollars. */
export interface Cost {
  /** What is paid. */
  paid: number;
  /** What calls in a free tier would have cost. */
  free: number;
  /** Whether some of it has no known price: then it is more than that. */
  isPartial: boolean;
}

export const NO_COST: Cost = { paid: 0, free: 0, isPartial: false };

const MILLION = 1_000_000;

/** Of tokens of one model. What was never used costs nothing, whether its price is known or not. */
export function costOf(used: UsageFigures, price: ModelPrice | undefined): Cost {
  const out = used.output_tokens + used.thoughts_tokens;
  if (used.input_tokens + out === 0) return NO_COST;
  const input = price?.input_usd ?? null;
  const output = price?.output_usd ?? null;
  if (price === undefined || input === null || (output === null && out > 0)) {
    return { ...NO_COST, isPartial: !price?.is_free };
  }
  const cached = Math.min(used.cached_tokens, used.input_tokens);
  const usd = ((used.input_tokens - cached) * input + cached * (price.cached_usd ?? input) +
    out * (output ?? 0)) / MILLION;
  return price.is_free ? { ...NO_COST, free: usd } : { ...NO_COST, paid: usd };
}

export const sumOfCosts = (costs: readonly Cost[]): Cost =>
  costs.reduce((sum, cost) => ({
    paid: sum.paid + cost.paid,
    free: sum.free + cost.free,
    isPartial: sum.isPartial || cost.isPartial,
  }), NO_COST);
