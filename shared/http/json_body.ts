import type { Clock } from "../contract/clock.ts";
import { BODY_TIMEOUT_MS, readBody } from "./body.ts";
import { parseJson } from "./json.ts";
import { VALUE_BYTES, type Work } from "./work_budget.ts";

export interface JsonBodyTerms {
  maxBytes: number;
  clock: Clock;
  /** What the request may take of the instance's memory. */
  work: Work;
  /** Asks whether the caller, whose credential has been verified, is still welcome. Absent: that is known already. */
  confirmCaller?: (() => Promise<void>) | undefined;
}

/**
 * A request's body as JSON, for callers whose credential has been verified. Each step costs less than the one it allows:
 * the length that was announced, the caller (for large bodies), the bytes as they arrive, the number of values in them,
 * and then the values.
 * @throws GatewayError `body_too_large`, `body_timeout`, `gateway_busy`, `invalid_json`, what `confirmCaller` throws
 */
export async function readJsonBody(request: Request, terms: JsonBodyTerms): Promise<unknown> {
  const { maxBytes, clock, work, confirmCaller } = terms;
  const bytes = await readBody(request, {
    maxBytes,
    timeoutMs: BODY_TIMEOUT_MS,
    clock,
    onBytes: (count) => work.add(count),
    onLarge: confirmCaller,
  });
  return parseJson(bytes, (values) => work.add(values * VALUE_BYTES));
}
