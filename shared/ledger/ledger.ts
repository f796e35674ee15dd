import type { ModelInfo } from "../contract/model_info.ts";
import { capture, type Captured } from "./capture.ts";
import { listModels, type ModelsFor } from "./models.ts";
import type { Reservation, ReserveInput } from "./reserve.ts";
import { reserveTogether } from "./reserve_together.ts";
import type { Settled, Settlement } from "./settle.ts";
import { settleTogether } from "./settle_together.ts";
import type { Transport } from "./transport.ts";

/** The books: who may start when, and what became of it. */
export interface Ledger {
  reserve(input: ReserveInput): Promise<Reservation>;
  settle(settlement: Settlement): Promise<Settled>;
  /** The models that a caller may use. */
  models(caller: ModelsFor): Promise<ModelInfo[]>;
  /** Keeps what was asked and answered, for debugging. */
  capture(captured: Captured): Promise<void>;
}

/**
 * After this a call's connection is dropped, and whether it took effect stays unknown. Longer than anybody waits for an
 * answer: one that comes late still tells what was booked, so that it can be given back.
 */
export const LEDGER_TIMEOUT_MS = 30_000;

/** @param afterwards for what no client waits for; the same transport where there is but one way */
export function createLedger(
  transport: Transport,
  timeoutMs = LEDGER_TIMEOUT_MS,
  afterwards: Transport = transport,
): Ledger {
  return {
    reserve: reserveTogether(transport, timeoutMs),
    settle: settleTogether(afterwards, timeoutMs),
    models: (caller) => listModels(transport, caller, timeoutMs),
    capture: (captured) => capture(afterwards, captured, timeoutMs),
  };
}
