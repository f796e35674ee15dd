import { asGatewayError, GatewayError } from "../../contract/gateway_error.ts";
import type { Settlement } from "../../database/admission/settle.ts";
import type { GatewayDependencies } from "../dependencies.ts";
import { TookTooLong, withTimeout } from "../../runtime/with_timeout.ts";

/**
 * Pauses before each try, in ms. A settlement may be repeated freely, so the first repetitions come soon, for a connection that
 * dropped, and the others go on for as long as a lease does after its call (60 s): a database that is restarted, or
 * whose disk is full until somebody makes room, still records what was used. After the last try the reservation
 * expires with its lease, and its estimate counts.
 */
const PAUSES_MS = [0, 250, 1_000, 2_000, 4_000, ...Array<number>(10).fill(5_000)];

/** Errors that a repetition would only get again. */
const FINAL_CODES = new Set(["unknown_reservation", "invalid_argument"]);

/** Settles, however often it takes. Never throws: what cannot be settled is logged and left to its lease. */
export async function settleReliably(
  dependencies: GatewayDependencies,
  requestId: string,
  settlement: Settlement,
): Promise<void> {
  let tries = 0;
  for (const pauseMs of PAUSES_MS) {
    if (pauseMs > 0) await dependencies.clock.sleep(pauseMs);
    tries++;
    try {
      // A try that hangs, on a connection that died silently, is not waited for: the next one may succeed.
      await withTimeout(
        dependencies.clock,
        dependencies.times.rpcTimeoutMs,
        dependencies.ledger.settle(settlement),
      );
      return;
    } catch (thrown) {
      const error = thrown instanceof TookTooLong
        ? new GatewayError("database_unavailable", {
          detail: `settle took longer than ${dependencies.times.rpcTimeoutMs} ms`,
        })
        : asGatewayError(thrown);
      if (tries < PAUSES_MS.length && !FINAL_CODES.has(error.code)) continue;
      dependencies.log("error", "settlement_lost", {
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
