import { type Clock, systemClock } from "../../runtime/clock.ts";
import type { ModelInfo } from "../../contract/model_info.ts";
import { capture, type Captured } from "../capture.ts";
import { listModels, type ModelsFor } from "../models.ts";
import type { Reservation, ReserveInput } from "./reserve.ts";
import type { DatabaseClock } from "./database_clock.ts";
import { reserveInTime } from "./reserve_in_time.ts";
import { batchedReserve } from "./batched_reserve.ts";
import type { Settled, Settlement } from "./settle.ts";
import { batchedSettle } from "./batched_settle.ts";
import type { Transport } from "../transport/transport.ts";

/** Admission's record: who may start when, and how it ended. */
export interface Ledger {
  /**
   * Null: `reserve` can be called at once. Otherwise a connection to the database is being opened, and the promise
   * rejects if that fails: a caller that estimates from the round trip when something was booked waits for it first.
   * Absent: there is nothing to connect.
   */
  ready?(): Promise<void> | null;
  /**
   * Books a start, or says why not. A booking whose answer does not arrive within `withinMs` is given back, so that
   * the same request may come again.
   */
  reserve(input: ReserveInput, withinMs?: number): Promise<Reservation>;
  settle(settlement: Settlement): Promise<Settled>;
  /** The models that a caller may use. */
  models(caller: ModelsFor): Promise<ModelInfo[]>;
  /** Stores what was asked and answered, for debugging. */
  capture(captured: Captured): Promise<void>;
}

/** After this a call's connection is dropped, and whether it took effect stays unknown. Longer than anybody waits for an answer. */
export const LEDGER_TIMEOUT_MS = 30_000;

export interface LedgerOptions {
  clock?: Clock;
  /** What is known of the database's time; absent: learnt from its answers, by this process's own. */
  databaseClock?: DatabaseClock;
  /** Keeps the process alive until this is done; where the runtime does not have to be told, the work goes on by itself. */
  background?: (work: Promise<void>) => void;
  ready?: Ledger["ready"];
}

/** @param afterwards for what no client waits for; the same transport where there is only one */
export function createLedger(
  transport: Transport,
  timeoutMs = LEDGER_TIMEOUT_MS,
  afterwards: Transport = transport,
  { clock = systemClock, databaseClock, background = () => {}, ready }: LedgerOptions = {},
): Ledger & { leave(): void } {
  const { reserve, leave } = reserveInTime({
    send: batchedReserve(transport, timeoutMs),
    transport: afterwards,
    clock,
    background,
    newId: () => crypto.randomUUID(),
    ...(databaseClock !== undefined && { databaseClock }),
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
