import { GatewayError } from "../contract/gateway_error.ts";
import { createMaintenanceLedger } from "../database/maintenance/maintenance.ts";
import type { Operation } from "./operation.ts";

/** An operation that is SQL from end to end: the function only calls step after step, as cron does in the database. */
export function sqlOperation(name: string): Operation {
  return {
    name,
    async run({ call, clock, runId, deadline }) {
      const ledger = createMaintenanceLedger(call);
      for (;;) {
        const step = await ledger.step(runId);
        if (step.status === "failed" || step.status === "lost") {
          throw new GatewayError("internal", {
            detail: step.error ?? "the run had been given up for dead, and another one may be on",
          });
        }
        const { tables, count, details, more } = step;
        if (step.done) return { tables, count, details, more };
        if (deadline.signal.aborted) return { tables, count, details, more: true };
        await clock.sleep(Math.min(step.pauseMs, deadline.leftMs()));
      }
    },
  };
}

/** The operations of eve.operations that run in SQL. */
export const SQL_OPERATIONS: readonly Operation[] = ["sweep", "retention", "rollup", "report"].map(
  sqlOperation,
);
