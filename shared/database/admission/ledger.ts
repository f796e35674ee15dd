import { type Clock, systemClock } from "../../runtime/clock.ts";
import type { ModelInfo } from "../../contract/model_info.ts";
import { capture, type Captured } from "../capture.ts";
import { listModels, type ModelsFor } from "../models.ts";
import type { Reservation, ReserveInput } from "./reserve.ts";
import { reserveInTime } from "./reserve_in_time.ts";
import { batchedReserve } from "./batched_reserve.ts";
import type { Settled, Settlement } from "./settle.ts";
import { batchedSettle } from "./batched_settle.ts";
import type { Transport } from "../transport/transport.ts";

/** The books: who may start when, and what became of it. */
export interface Ledger {
  /**
   * Null: `reserve` is asked at once. Otherwise the way to the database is being made, and rejects if it cannot be: who tells by the
   * time from question to answer when something was booked asks after that. Absent: there is nothing to be made.
   */
  ready?(): Promise<void> | null;
  /**
   * Books a start, or says why not. What is booked and not heard of within `withinMs` is given back, so that the same request
   * may come again.
   */
  reserve(input: ReserveInput, withinMs?: number): Promise<Reservation>;
  settle(settlement: Settlement): Promise<Settled>;
  /** The models that a caller may use. */
  models(caller: ModelsFor): Promise<ModelInfo[]>;
  /** Keeps what was asked and answered, for debugging. */
  capture(captured: Captured): Promise<void>;
}

/** After this a call's connection is dropped, and whether it took effect stays unknown. Longer than anybody waits for an answer. */
export const LEDGER_TIMEOUT_MS = 30_000;

export interface LedgerOptions {
  clock?: Clock;
  /** Keeps the process until this is done; where nobody has to be told, it goes on by itself. */
  background?: (work: Promise<void>) => void;
  ready?: Ledger["ready"];
}

/** @param afterwards for what no client waits for; the same transport where there is but one way */
export function createLedger(
  transport: Transport,
  timeoutMs = LEDGER_TIMEOUT_MS,
  afterwards: Transport = transport,
  { clock = systemClock, background = () => {}, ready }: LedgerOptions = {},
): Ledger & { leave(): void } {
  const { reserve, leave } = reserveInTime({
    send: batchedReserve(transport, timeoutMs),
    transport: afterwards,
    clock,
    background,
    newId: () => crypto.randomUUID(),
  });
  return {
    ready,
    reserve: (input, withinMs = timeoutMs) => reserve(input, withinMs),
    /** The process ends: what has been asked for and not been answered is given back. */
    leave,
    settle: batchedSettle(afterwards, timeoutMs),
    models: (caller) => listModels(transport, caller, timeoutMs),
    capture: (captured) => capture(afterwards, captured, timeoutMs),
  };
}
