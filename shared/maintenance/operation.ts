import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Transport } from "../database/transport/transport.ts";
import type { KeyInspector } from "../providers/key_inspector.ts";
import type { SecretSources } from "../stages/pool_secret.ts";

/** One operation that the schedule calls over HTTP. Locking, the log's row and the time limit are around it, not in it. */
export interface Operation {
  /** Its name in the route, in the lock and in google_ai_maintenance_log. */
  name: string;
  /**
   * Does a piece of it, in bounded time, and says what was done. May be interrupted at any point and started again:
   * what was done stays done, and doing it again does no harm. What it throws is logged as a failed run.
   */
  run(context: OperationContext): Promise<OperationReport>;
}

export interface OperationContext extends SecretSources {
  /** Its number, as in google_ai_maintenance_log.details. */
  runId: number;
  /** Calls SQL functions. They are named in shared/database alone: pass it to a function of that folder. */
  call: Transport;
  clock: Clock;
  log: Log;
  fetch: typeof fetch;
  deadline: OperationDeadline;
  /** By the name in google_ai_api_keys.provider, in lower case; spellings of Google's are under `google`. */
  providers: Readonly<Record<string, KeyInspector>>;
}

/** The end of a run's time. */
export interface OperationDeadline {
  /** Aborts when the time is up. */
  signal: AbortSignal;
  /** Milliseconds left, 0 at the end. */
  leftMs(): number;
}

/** What a run did: it becomes the run's row in google_ai_maintenance_log and the answer to the request. */
export interface OperationReport {
  /** Tables that were changed, with their schema. */
  tables: string[];
  /** Rows deleted or changed, by what the operation calls its own (the log's column is `deleted_count`). */
  count: number;
  /** Facts for a person: no secret, and nothing that a user wrote. */
  details: Record<string, unknown>;
  /** True: time ran out, and another run has more to do. */
  more: boolean;
}
