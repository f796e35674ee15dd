import type { ErrorCode } from "../../contract/errors.ts";
import { asGatewayError } from "../../contract/gateway_error.ts";
import { AnalysisFailure, type AnalysisFailureKind } from "../analyst.ts";

/** There is no room, here or upstream; nothing was paid for. */
const NO_CAPACITY: ReadonlySet<ErrorCode> = new Set([
  "rate_limited",
  "daily_limit",
  "lane_blocked",
  "too_many_waiting",
  "no_active_key",
  "budget_exhausted",
  "gateway_busy",
  // No start could be booked, so nothing was sent.
  "database_unavailable",
  "upstream_rate_limited",
  "upstream_daily_limit",
  // The picture cannot be read here: another worker may, or somebody sets the storage right.
  "storage_misconfigured",
  // An earlier run's call: what it is answered is waited for.
  "request_running",
]);

/** The run before this one may still be under way, its worker frozen or dead; its reservation ends by itself. */
const RUNNING_DELAY_MS = 15_000;
const DATABASE_DELAY_MS = 5_000;
const DELAYS: Partial<Record<ErrorCode, number>> = {
  request_running: RUNNING_DELAY_MS,
  database_unavailable: DATABASE_DELAY_MS,
};

/** What was thrown on the way to a model or a store, as analysts fail. */
export function asAnalysisFailure(thrown: unknown): AnalysisFailure {
  if (thrown instanceof AnalysisFailure) return thrown;
  const error = asGatewayError(thrown);
  const { code, detail, publicMessage, retryAfterMs } = error;
  const kind: AnalysisFailureKind = NO_CAPACITY.has(code)
    ? "no_capacity"
    : error.retryable
    ? "retryable"
    : "refused";
  return new AnalysisFailure(kind, code, detail ?? publicMessage, {
    retryAfterMs: DELAYS[code] ?? retryAfterMs,
  });
}
