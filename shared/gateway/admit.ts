import { GatewayError } from "../contract/gateway_error.ts";
import type { Reservation, ReserveInput } from "../ledger/reserve.ts";
import type { GatewayParts } from "./parts.ts";
import { cancelled } from "./settlement.ts";
import { settleReliably } from "./settle_reliably.ts";
import { TookTooLong, within } from "./within.ts";

/**
 * Reserves, and does not keep the client waiting for a database that is stuck. A grant that arrives after we have given
 * up is given back at once.
 * @throws GatewayError as the ledger does; `database_unavailable` after `rpcTimeoutMs`
 */
export async function admit(parts: GatewayParts, input: ReserveInput): Promise<Reservation> {
  const pending = parts.ledger.reserve(input);
  try {
    return await within(parts.clock, parts.times.rpcTimeoutMs, pending);
  } catch (error) {
    if (error instanceof TookTooLong) {
      parts.background(giveBackWhenItComes(parts, input.requestId, pending));
      throw new GatewayError("database_unavailable", {
        detail: `reserve took longer than ${parts.times.rpcTimeoutMs} ms`,
      });
    }
    throw error;
  }
}

async function giveBackWhenItComes(
  parts: GatewayParts,
  requestId: string,
  pending: Promise<Reservation>,
): Promise<void> {
  try {
    const late = await pending;
    if (late.status === "granted") await settleReliably(parts, requestId, cancelled(late));
  } catch {
    // It failed after all, so there is nothing to give back; the lease ends what the database may still have booked.
  }
}
