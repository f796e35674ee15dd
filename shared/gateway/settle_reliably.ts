import { asGatewayError } from "../contract/gateway_error.ts";
import type { Settlement } from "../ledger/settle.ts";
import type { GatewayParts } from "./parts.ts";

/**
 * Pauses before each try, in ms. A settlement may be repeated freely; after the last try the lease ends the reservation,
 * with its estimate standing.
 */
const PAUSES_MS = [0, 250, 1_000, 4_000];

/** Errors that a repetition would only meet again. */
const FINAL_CODES = new Set(["unknown_reservation", "invalid_argument"]);

/** Settles, however often it takes. Never throws: what cannot be settled is logged and left to its lease. */
export async function settleReliably(
  parts: GatewayParts,
  requestId: string,
  settlement: Settlement,
): Promise<void> {
  let tries = 0;
  for (const pauseMs of PAUSES_MS) {
    if (pauseMs > 0) await parts.clock.sleep(pauseMs);
    tries++;
    try {
      await parts.ledger.settle(settlement);
      return;
    } catch (thrown) {
      const error = asGatewayError(thrown);
      if (tries < PAUSES_MS.length && !FINAL_CODES.has(error.code)) continue;
      parts.log("error", "settlement_lost", {
        request_id: requestId,
        request_no: settlement.requestNo,
        attempt: settlement.attempt,
        outcome: settlement.outcome,
        tries,
        code: error.code,
        detail: error.detail,
      });
      return;
    }
  }
}
