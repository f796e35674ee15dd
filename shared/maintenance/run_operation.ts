import { setTimer } from "../runtime/clock.ts";
import { asGatewayError, type GatewayError } from "../contract/gateway_error.ts";
import { createMaintenanceLedger } from "../database/maintenance/maintenance.ts";
import type { Operation, OperationContext, OperationReport } from "./operation.ts";

/** Everything of a context that exists before a run. */
export type OperationDependencies = Omit<OperationContext, "runId" | "deadline">;

export interface RunRequest {
  /** Who asks, for the log: `cron`, `http`, or what a person says. */
  source: string;
  /** 1,000 to 120,000; null: as eve.operations has it. */
  timeLimitMs: number | null;
}

export type RunOutcome =
  | ({ status: "succeeded"; runId: number } & OperationReport)
  | { status: "failed"; runId: number; error: GatewayError }
  | { status: "skipped"; reason: string };

/**
 * Runs an operation once: no two runs of it overlap, its time is bounded, and a row of google_ai_maintenance_log says how it
 * went, be it failed or skipped.
 * @throws GatewayError when the database cannot be reached to begin it, or has no operation of that name
 */
export async function runOperation(
  operation: Operation,
  { source, timeLimitMs }: RunRequest,
  operationDependencies: OperationDependencies,
): Promise<RunOutcome> {
  const { clock, log } = operationDependencies;
  const ledger = createMaintenanceLedger(operationDependencies.call);
  const begun = await ledger.begin(operation.name, source, timeLimitMs);
  if (begun.status === "skipped") {
    log("info", "maintenance_skipped", { operation: operation.name, reason: begun.reason });
    return begun;
  }
  const { runId, runsIn, endsInMs } = begun;
  const endsAt = clock.now() + endsInMs;
  const timeUp = new AbortController();
  const stopTimer = setTimer(
    clock,
    endsInMs,
    () => timeUp.abort(new DOMException("time is up", "TimeoutError")),
  );
  try {
    const report = await operation.run({
      ...operationDependencies,
      runId,
      deadline: { signal: timeUp.signal, leftMs: () => Math.max(0, endsAt - clock.now()) },
    });
    // A run that is SQL from end to end has already been closed by the database, unless time ran out between two steps.
    if (runsIn === "http" || report.more) {
      await ledger.end({ runId, status: "succeeded", error: null, ...report });
    }
    // A run that found nothing to do has its row in the database, and no line a minute.
    if (report.count > 0 || report.more) {
      log("info", "maintenance_ran", {
        operation: operation.name,
        run_id: runId,
        count: report.count,
        more: report.more,
        duration_ms: Math.round(endsInMs - (endsAt - clock.now())),
      });
    }
    return { status: "succeeded", runId, ...report };
  } catch (thrown) {
    const error = asGatewayError(thrown);
    const said = error.detail ?? error.message;
    log("error", "maintenance_failed", {
      operation: operation.name,
      run_id: runId,
      code: error.code,
      detail: said,
    });
    const ending = { runId, tables: [], count: 0, details: { code: error.code }, more: false };
    // If the database cannot be reached now, the lease expires, and the next run closes this one as failed.
    await ledger.end({ ...ending, status: "failed", error: said }).catch(() => {});
    return { status: "failed", runId, error };
  } finally {
    stopTimer();
  }
}
